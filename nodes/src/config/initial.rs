//! `weft init`: a first configuration for a site, with passwords of its own.
//!
//! In: the address the node shall have, a domain, chance. Out: the text of a file, and what to type
//! into each phone. It writes no file.

use std::fmt::Write as _;
use std::net::IpAddr;

use contract::{Entropy, FaultClass};

/// A first configuration.
#[derive(Debug)]
pub struct Initial {
    /// Text of the configuration file; it holds passwords.
    pub file: String,
    /// What to type into each phone.
    pub phones: String,
}

/// Why there is no first configuration.
#[derive(Debug, thiserror::Error)]
#[error("--{flag} {value}: allowed: {allowed}")]
pub struct InitialError {
    flag: &'static str,
    value: String,
    allowed: &'static str,
}

impl InitialError {
    /// Tells whose fault it is: the operator's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Config
    }
}

const ACCOUNTS: std::ops::RangeInclusive<u16> = 1000..=1019;
const PASSWORD_LETTERS: usize = 16;
/// Letters and digits that are not mistaken for one another on a phone's display.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Makes a first configuration.
///
/// # Errors
/// If the address or domain is none.
pub fn initial(
    address: &str,
    domain: Option<&str>,
    entropy: &mut Entropy,
) -> Result<Initial, InitialError> {
    let bad = |flag, value: &str, allowed| InitialError {
        flag,
        value: value.to_owned(),
        allowed,
    };
    let ip: IpAddr = address
        .parse()
        .map_err(|_| bad("address", address, "an IP address that phones can reach"))?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(bad(
            "address",
            address,
            "an IP address that phones can reach",
        ));
    }
    let host = if ip.is_ipv6() {
        format!("[{ip}]")
    } else {
        ip.to_string()
    };
    let domain = domain.unwrap_or("weft.local").to_ascii_lowercase();
    let is_host = domain
        .bytes()
        .all(|octet| octet.is_ascii_alphanumeric() || b".-".contains(&octet));
    if domain.is_empty() || !is_host {
        return Err(bad(
            "domain",
            &domain,
            "a host name in letters, digits, `.`, `-`",
        ));
    }
    let mut file = head(&host, &domain);
    let mut phones = format!(
        "Registrar and outbound proxy: {host}:5060, UDP or TCP, {host}:5061, TLS; domain: {domain}\n\
         Browsers: https://{host}:8443/phone; SIP over WebSocket: wss://{host}:7443\n\
         Extensions: 9196 echo, 9197 tone, 1000-1019 each other, 2000 rings 1001-1003, 3000 by day\n\n  {:<10}password\n",
        "user"
    );
    for number in ACCOUNTS {
        let password = password(entropy);
        let _ = write!(
            file,
            "[[user]]\nname = \"{number}\"\npassword = \"{password}\"\n\n"
        );
        let _ = writeln!(phones, "  {number:<10}{password}");
    }
    file.push_str(TEAM);
    file.push_str(OFFICE);
    file.push_str(&routes());
    Ok(Initial { file, phones })
}

fn head(host: &str, domain: &str) -> String {
    format!(
        "# Made by `weft init`. It holds passwords: keep its mode 0600.\n\
         # `weft defaults` prints every key there is.\n\n\
         [[profile]]\nname = \"internal\"\nudp = [\"{host}:5060\"]\ntcp = [\"{host}:5060\"]\n\
         tls = [\"{host}:5061\"]\nws = []\nwss = [\"{host}:7443\"]\n\n\
         [http]\ntls = [\"{host}:8443\"]\n\n\
         [[domain]]\nname = \"{domain}\"\n\n"
    )
}

fn password(entropy: &mut Entropy) -> String {
    let letters = (0..PASSWORD_LETTERS).map(|_| {
        let at = entropy.below(32) as usize;
        char::from(ALPHABET[at % ALPHABET.len()])
    });
    letters.collect()
}

const TEAM: &str = r#"[[group]]
name = "team"
members = ["1001", "1002", "1003"]
order = "all"
ring_s = 20

"#;

const OFFICE: &str = r#"# When 3000 rings the team. `weft defaults hours` says more.
[[hours]]
name = "office"
zone = "UTC"
open = ["mo-fr 08:00-18:00"]

"#;

const ECHO: &str = r#"[[route]]
name = "echo"
match = { destination = "^9196$" }
do = [{ answer = true }, { echo = true }]

"#;

/// Returns the routes of the embedded default, whose first one has the comments.
fn routes() -> String {
    let tone = super::DEFAULT.find("[[route]]\nname = \"tone\"");
    let others = tone.map_or("", |at| &super::DEFAULT[at..]);
    format!("{ECHO}{others}")
}
