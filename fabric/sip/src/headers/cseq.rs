//! CSeq: number and method (RFC 3261 §20.16).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::SyntaxError;
use crate::method::MethodOwned;
use crate::scan::{Scan, number};

/// The value of CSeq.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CSeq {
    /// Below 2^31 (RFC 3261 §8.1.1.5).
    pub number: u32,
    /// The method of the request.
    pub method: MethodOwned,
}

/// Reads number and method; the method is borrowed.
pub(crate) fn read_cseq(text: &str) -> Result<(u32, &str), SyntaxError> {
    let mut scan = Scan::new(text);
    scan.skip_space();
    let number: u32 = number(scan.take_while(|octet| octet.is_ascii_digit()))?;
    if number > NUMBER_MAX {
        return Err(SyntaxError::BadNumber);
    }
    let before = scan.position();
    scan.skip_space();
    if scan.position() == before {
        return Err(SyntaxError::BadNumber);
    }
    let method = scan.token()?;
    scan.end()?;
    Ok((number, method))
}

impl FromStr for CSeq {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (number, method) = read_cseq(text)?;
        Ok(Self {
            number,
            method: method.parse()?,
        })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// Largest sequence number.
const NUMBER_MAX: u32 = (1 << 31) - 1;
