//! Texts of requests and responses, and the phone's half of digest access authentication.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use md5::{Digest, Md5};
use sip::{Contacts, HeaderName, Message};

/// What all requests of a phone share.
pub struct Fields<'a> {
    pub user: &'a str,
    pub host: String,
    pub transport: &'static str,
    pub branch: String,
}

impl Fields<'_> {
    /// Writes a request.
    #[allow(clippy::too_many_arguments, reason = "the fields of a request")]
    pub fn request(
        &self,
        method: &str,
        uri: &str,
        from: &str,
        to: &str,
        call_id: &str,
        cseq: u32,
        more: &str,
        body: &str,
    ) -> Bytes {
        let mut text = format!("{method} {uri} SIP/2.0\r\n");
        let _ = write!(
            text,
            "Via: SIP/2.0/{} {};branch={};rport\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{more}",
            self.transport, self.host, self.branch
        );
        finish(text, body)
    }

    /// Returns the Contact header of this phone.
    pub fn contact(&self) -> String {
        let transport = self.transport.to_lowercase();
        format!(
            "Contact: <sip:{}@{};transport={transport}>\r\n",
            self.user, self.host
        )
    }
}

fn finish(mut text: String, body: &str) -> Bytes {
    if !body.is_empty() && !text.contains("Content-Type:") {
        text.push_str("Content-Type: application/sdp\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
    Bytes::from(text)
}

/// Writes a response to a request.
pub fn response(request: &Message, status: &str, tag: &str, more: &str, body: &str) -> Bytes {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in [HeaderName::Via, HeaderName::RecordRoute] {
        for value in request.headers(name) {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    for name in [HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        let _ = write!(
            text,
            "{name}: {}\r\n",
            request.header(name).unwrap_or_default()
        );
    }
    let to = request.header(HeaderName::To).unwrap_or_default();
    let tag = if to.contains(";tag=") {
        String::new()
    } else {
        format!(";tag={tag}")
    };
    let _ = write!(text, "To: {to}{tag}\r\n{more}");
    finish(text, body)
}

/// Writes SDP that offers or answers PCMU and telephone events.
pub fn sdp(address: SocketAddr, port: u16, version: u32, direction: &str) -> String {
    let ip = address.ip();
    format!(
        "v=0\r\no=p 5 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a={direction}\r\n"
    )
}

/// Reads where SDP wants RTP.
pub fn media_of(body: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(body).ok()?;
    let ip = text
        .lines()
        .find_map(|line| line.strip_prefix("c=IN IP4 "))?;
    let port = text
        .lines()
        .find_map(|line| line.strip_prefix("m=audio "))?;
    let port = port.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(ip.trim().parse().ok()?, port))
}

/// Returns the seconds that a 200 to REGISTER grants a contact.
pub fn granted(message: &Message, contact: &str) -> Option<u32> {
    let Ok(Contacts::List(list)) = message.contacts() else {
        return None;
    };
    let wanted: sip::Uri = contact.parse().ok()?;
    let mine = list
        .into_iter()
        .find(|found| found.name_addr.uri.equivalent(&wanted))?;
    mine.expires
}

/// Answers a challenge in MD5 (RFC 2617); the header line, or `None` if MD5 is not offered.
pub fn credentials(challenge: &Message, user: &str, method: &str, uri: &str) -> Option<String> {
    let is_proxy = challenge.status() == Some(407);
    let (asked, answered) = if is_proxy {
        (HeaderName::ProxyAuthenticate, "Proxy-Authorization")
    } else {
        (HeaderName::WwwAuthenticate, "Authorization")
    };
    let value = challenge
        .headers(asked)
        .find(|value| value.contains("algorithm=MD5"))?;
    let part = |key: &str| {
        let rest = value.split(&format!("{key}=\"")).nth(1)?;
        rest.split('"').next().map(str::to_owned)
    };
    let (realm, nonce) = (part("realm")?, part("nonce")?);
    let one = md5(&format!("{user}:{realm}:weft-{user}"));
    let two = md5(&format!("{method}:{uri}"));
    let response = md5(&format!("{one}:{nonce}:00000001:5ca1ab1e:auth:{two}"));
    Some(format!(
        "{answered}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", \
         uri=\"{uri}\", response=\"{response}\", algorithm=MD5, cnonce=\"5ca1ab1e\", qop=auth, \
         nc=00000001\r\n"
    ))
}

fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes())
        .iter()
        .fold(String::new(), |mut hex, octet| {
            let _ = write!(hex, "{octet:02x}");
            hex
        })
}
