//! Via: the path a request took and its answer takes (RFC 3261 §20.42, RFC 3581, RFC 5118).
//!
//! In: one value of a Via field. Out: transport, sent-by and parameters. What is done with them
//! stands in `transport`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::error::SyntaxError;
use crate::params::Params;
use crate::scan::{Scan, is_space, number};
use crate::uri::{Host, read_host_port};

/// The transport named in a Via.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ViaTransport {
    /// Datagrams.
    Udp,
    /// A plain connection.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// SCTP.
    Sctp,
    /// TLS over SCTP.
    TlsSctp,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// Any other token, upper case.
    Other(String),
}

impl ViaTransport {
    /// Returns the transport of a token; case does not count.
    #[must_use]
    pub fn of(text: &str) -> Self {
        KNOWN
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map_or_else(
                || ViaTransport::Other(text.to_ascii_uppercase()),
                |(_, it)| it.clone(),
            )
    }

    /// Returns the token, upper case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            ViaTransport::Udp => "UDP",
            ViaTransport::Tcp => "TCP",
            ViaTransport::Tls => "TLS",
            ViaTransport::Sctp => "SCTP",
            ViaTransport::TlsSctp => "TLS-SCTP",
            ViaTransport::Ws => "WS",
            ViaTransport::Wss => "WSS",
            ViaTransport::Other(text) => text,
        }
    }

    /// Tells whether the transport retransmits itself; an unknown one is taken as unreliable.
    #[must_use]
    pub const fn is_reliable(&self) -> bool {
        match self {
            ViaTransport::Udp | ViaTransport::Other(_) => false,
            ViaTransport::Tcp
            | ViaTransport::Tls
            | ViaTransport::Sctp
            | ViaTransport::TlsSctp
            | ViaTransport::Ws
            | ViaTransport::Wss => true,
        }
    }

    /// Returns the port if none is written (RFC 3261 §18.2.2, §19.1.2; RFC 7118 §5.3: 80 and 443).
    #[must_use]
    pub const fn default_port(&self) -> u16 {
        match self {
            ViaTransport::Tls | ViaTransport::TlsSctp => 5061,
            ViaTransport::Ws => 80,
            ViaTransport::Wss => 443,
            ViaTransport::Udp | ViaTransport::Tcp | ViaTransport::Sctp | ViaTransport::Other(_) => {
                5060
            }
        }
    }
}

impl From<rsip::Transport> for ViaTransport {
    fn from(transport: rsip::Transport) -> Self {
        ViaTransport::of(&transport.to_string())
    }
}

impl fmt::Display for ViaTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One value of a Via field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// Protocol and version if they are not `SIP/2.0`.
    pub protocol: Option<String>,
    /// How the request was sent.
    pub transport: ViaTransport,
    /// By whom, as it says itself.
    pub host: Host,
    /// Its port, if written.
    pub port: Option<u16>,
    /// All parameters.
    pub params: Params,
}

impl Via {
    /// Returns a Via of ours, with `rport` asked for on datagrams (RFC 3581 §3).
    #[must_use]
    pub fn new(transport: ViaTransport, host: Host, port: Option<u16>, branch: &str) -> Self {
        let mut params = Params::new();
        params.set("branch", Some(branch));
        if transport == ViaTransport::Udp {
            params.set("rport", None);
        }
        Self {
            protocol: None,
            transport,
            host,
            port,
            params,
        }
    }

    /// Returns the branch.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.params.value("branch")
    }

    /// Returns the address the request came from, if a server wrote one; brackets may be missing
    /// (RFC 5118 §4.5).
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.params.value("received")?;
        text.trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()
    }

    /// Returns the `rport` parameter: missing, asked for, or filled in.
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        if !self.params.has("rport") {
            return None;
        }
        Some(
            self.params
                .value("rport")
                .and_then(|text| number(text).ok()),
        )
    }

    /// Returns the `maddr` parameter, if it is a host.
    #[must_use]
    pub fn maddr(&self) -> Option<Host> {
        self.params.value("maddr")?.parse().ok()
    }

    /// Returns the `ttl` parameter, if it is one.
    #[must_use]
    pub fn ttl(&self) -> Option<u8> {
        number(self.params.value("ttl")?).ok()
    }

    /// Returns `host:port` in one form: lower case, the port always written.
    #[must_use]
    pub fn sent_by(&self) -> String {
        let port = self.port.unwrap_or_else(|| self.transport.default_port());
        format!("{}:{port}", self.host)
    }

    /// Reads one value, up to a comma or the end.
    pub(crate) fn read(scan: &mut Scan<'_>) -> Result<Self, SyntaxError> {
        scan.skip_space();
        let name = scan.token()?;
        read_slash(scan)?;
        let version = scan.token()?;
        read_slash(scan)?;
        let transport = ViaTransport::of(scan.token()?);
        let before = scan.position();
        scan.skip_space();
        if scan.position() == before {
            return Err(SyntaxError::BadCharacter);
        }
        let is_sip = name.eq_ignore_ascii_case("SIP") && version == "2.0";
        let (host, port) = read_sent_by(scan)?;
        let protocol = (!is_sip).then(|| format!("{name}/{version}"));
        Ok(Self {
            protocol,
            transport,
            host,
            port,
            params: Params::read(scan)?,
        })
    }
}

impl FromStr for Via {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut scan = Scan::new(text);
        let via = Via::read(&mut scan)?;
        scan.end()?;
        Ok(via)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.as_deref().unwrap_or("SIP/2.0");
        write!(f, "{protocol}/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

/// Reads `SLASH`: white space may stand on both sides.
fn read_slash(scan: &mut Scan<'_>) -> Result<(), SyntaxError> {
    scan.skip_space();
    if !scan.eat(b'/') {
        return Err(SyntaxError::BadCharacter);
    }
    scan.skip_space();
    Ok(())
}

/// Reads `sent-by`: white space may stand on both sides of the colon. Port 0 is refused: no answer
/// could be sent there.
fn read_sent_by(scan: &mut Scan<'_>) -> Result<(Host, Option<u16>), SyntaxError> {
    let start = scan.position();
    if scan.peek() == Some(b'[') {
        scan.take_while(|octet| octet != b']');
        scan.eat(b']');
    } else {
        scan.take_while(|octet| !is_space(octet) && !matches!(octet, b':' | b';' | b','));
    }
    let (host, _) = read_host_port(scan.since(start))?;
    scan.skip_space();
    if !scan.eat(b':') {
        return Ok((host, None));
    }
    scan.skip_space();
    let digits = scan.take_while(|octet| octet.is_ascii_digit());
    match number(digits) {
        Ok(0) | Err(_) => Err(SyntaxError::BadPort),
        Ok(port) => Ok((host, Some(port))),
    }
}

const KNOWN: &[(&str, ViaTransport)] = &[
    ("UDP", ViaTransport::Udp),
    ("TCP", ViaTransport::Tcp),
    ("TLS", ViaTransport::Tls),
    ("WSS", ViaTransport::Wss),
    ("WS", ViaTransport::Ws),
    ("SCTP", ViaTransport::Sctp),
    ("TLS-SCTP", ViaTransport::TlsSctp),
];
