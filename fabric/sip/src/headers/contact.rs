//! Contact: `*`, or a list of addresses with their wishes (RFC 3261 §20.10, RFC 5626 §4.1).

use crate::error::SyntaxError;
use crate::headers::NameAddr;
use crate::scan::{Scan, number, trim};

/// The values of all Contact fields of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contacts {
    /// `*`: all bindings, only in REGISTER with Expires 0 (RFC 3261 §10.2.2).
    Star,
    /// Addresses in order; empty if there is no Contact.
    List(Vec<Contact>),
}

/// One address of a Contact field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The address with all its parameters.
    pub name_addr: NameAddr,
    /// Preference in thousandths, 0 to 1000.
    pub q: Option<u16>,
    /// Wished lifetime in seconds.
    pub expires: Option<u32>,
    /// The device, `+sip.instance` without quotes (RFC 5626 §4.1).
    pub instance: Option<String>,
    /// Which of the device's flows, `reg-id` (RFC 5626 §4.2); 1 or more.
    pub reg_id: Option<u32>,
}

impl Contact {
    /// Types the parameters of an address.
    ///
    /// Errors: `BadNumber` for `q`, `expires` or `reg-id` that are none or out of range.
    pub fn of(name_addr: NameAddr) -> Result<Self, SyntaxError> {
        let params = &name_addr.params;
        let q = params.value("q").map(read_q).transpose()?;
        let expires = params.value("expires").map(number).transpose()?;
        let reg_id = params.value("reg-id").map(number).transpose()?;
        if reg_id == Some(0) {
            return Err(SyntaxError::BadNumber);
        }
        let instance = params.text("+sip.instance");
        Ok(Self {
            q,
            expires,
            instance,
            reg_id,
            name_addr,
        })
    }
}

/// Reads the values of all Contact fields.
pub(crate) fn read_contacts<'a>(
    values: impl Iterator<Item = &'a str>,
) -> Result<Contacts, SyntaxError> {
    let (mut list, mut is_star) = (Vec::new(), false);
    for value in values {
        if trim(value) == "*" {
            is_star = true;
            continue;
        }
        read_list(value, |name_addr| {
            list.push(Contact::of(name_addr)?);
            Ok(())
        })?;
    }
    match (is_star, list.is_empty()) {
        (true, true) => Ok(Contacts::Star),
        (true, false) => Err(SyntaxError::BadCharacter),
        (false, _) => Ok(Contacts::List(list)),
    }
}

/// Reads a comma list of addresses.
pub(crate) fn read_list(
    value: &str,
    mut take: impl FnMut(NameAddr) -> Result<(), SyntaxError>,
) -> Result<(), SyntaxError> {
    let mut scan = Scan::new(value);
    loop {
        take(NameAddr::read(&mut scan)?)?;
        scan.skip_space();
        if !scan.eat(b',') {
            return scan.end();
        }
    }
}

/// Reads `qvalue`: 0 to 1 with at most three decimals (RFC 3261 §25.1).
fn read_q(text: &str) -> Result<u16, SyntaxError> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(SyntaxError::BadNumber);
    }
    let thousandths = decimals
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(3)
        .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        "0" => Ok(thousandths),
        "1" if thousandths == 0 => Ok(1000),
        _ => Err(SyntaxError::BadNumber),
    }
}
