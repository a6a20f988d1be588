//! A SIP message: octets with an index, shared by all who hold it.
//!
//! In: a datagram or frame. Out: start line, header fields as text or typed, body. A clone costs
//! two reference counts. Nothing is changed in place; `amended` gives a new message.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use rsip::Method;

use crate::error::{HeaderError, ReadError, SyntaxError};
use crate::header::HeaderName;
use crate::headers::{CSeq, Contacts, NameAddr, read_contacts, read_cseq, read_list};
use crate::method::{MethodName, MethodOwned};
use crate::reader::{self, Field, Index};
use crate::scan::{Scan, number, split_list};
use crate::start::{Start, StartSpan};
use crate::uri::Uri;
use crate::via::Via;

/// Which pair of digest fields is meant (RFC 3261 §22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// WWW-Authenticate and Authorization, 401.
    Www,
    /// Proxy-Authenticate and Proxy-Authorization, 407.
    Proxy,
}

/// A request or a response.
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    index: Arc<Index>,
}

impl Message {
    /// Reads a datagram, a WebSocket message or a frame of a stream.
    ///
    /// Octets after Content-Length are ignored; without Content-Length the body is all that is
    /// left.
    /// Errors: see `ReadError`; `read_for_error` tells whether it can be answered.
    /// Source: RFC 3261 §7, §18.3; RFC 4475.
    pub fn read(bytes: Bytes) -> Result<Message, ReadError> {
        let (bytes, index) = reader::read(bytes)?;
        Ok(Self {
            bytes,
            index: Arc::new(index),
        })
    }

    /// Reads a broken request for the one purpose of answering it with the error's status.
    ///
    /// Out: `None` for responses, ACK, and requests without Via, From, To, Call-ID or CSeq: those
    /// are dropped. Repeated fields keep their first value; the body may be missing.
    #[must_use]
    pub fn read_for_error(bytes: Bytes) -> Option<Message> {
        let (bytes, index) = reader::read_leniently(bytes)?;
        let message = Self {
            bytes,
            index: Arc::new(index),
        };
        let is_answerable = message.is_request() && !message.method().is(Method::Ack);
        (is_answerable && message.via().is_ok()).then_some(message)
    }

    /// Types every field that routing and dialogs rely on, once, so that nothing malformed goes on.
    ///
    /// The server calls it on each new request after `read` and answers an error with 400.
    /// Errors: the first malformed field; a Request-URI with header fields (RFC 3261 §19.1.1).
    pub fn check(&self) -> Result<(), HeaderError> {
        if self.is_request() {
            let uri = self.uri()?;
            if uri.headers().is_some() {
                return Err(HeaderError::RequestUri(SyntaxError::UriHeaders));
            }
        }
        self.each(HeaderName::Via, |value| read_vias(value, |_| ()))?;
        self.from()?;
        self.to()?;
        self.contacts()?;
        for name in [HeaderName::Route, HeaderName::RecordRoute, HeaderName::Path] {
            self.name_addrs(name)?;
        }
        self.max_forwards()?;
        self.expires()?;
        Ok(())
    }

    /// Returns the octets, folds unfolded, leading empty lines gone.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the first line.
    #[must_use]
    pub fn start(&self) -> Start<'_> {
        match &self.index.start {
            StartSpan::Request { method, uri } => Start::Request {
                method: MethodName::of(self.text(method.start, method.end)),
                uri: self.text(uri.start, uri.end),
            },
            StartSpan::Response { status, reason } => Start::Response {
                status: *status,
                reason: self.text(reason.start, reason.end),
            },
        }
    }

    /// Tells whether it is a request.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, StartSpan::Request { .. })
    }

    /// Returns the method: of the request, or of the CSeq of a response.
    #[must_use]
    pub fn method(&self) -> MethodName<'_> {
        match self.start() {
            Start::Request { method, .. } => method,
            Start::Response { .. } => {
                let cseq = read_cseq(self.header(HeaderName::CSeq).unwrap_or(""));
                MethodName::of(cseq.map_or("", |(_, method)| method))
            }
        }
    }

    /// Returns the status of a response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.index.start {
            StartSpan::Request { .. } => None,
            StartSpan::Response { status, .. } => Some(status),
        }
    }

    /// Returns the Request-URI, typed.
    ///
    /// Errors: `RequestUri`, also for a response, which has none.
    pub fn uri(&self) -> Result<Uri, HeaderError> {
        match self.start() {
            Start::Request { uri, .. } => Uri::read(uri).map_err(HeaderError::RequestUri),
            Start::Response { .. } => Err(HeaderError::RequestUri(SyntaxError::Empty)),
        }
    }

    /// Returns the first value of a field, as written; comma lists are not split.
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.field(name)
            .map(|field| self.text(field.start, field.end))
    }

    /// Returns the values of all fields of a name, in order; comma lists are not split.
    pub fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        let fields = self
            .index
            .fields
            .iter()
            .filter(move |field| field.name == name);
        fields.map(|field| self.text(field.start, field.end))
    }

    /// Returns the elements of all comma lists of a name, in order.
    pub fn list(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.headers(name)
            .flat_map(split_list)
            .filter(|value| !value.is_empty())
    }

    /// Tells whether a comma list (Supported, Require, Allow) names a token; case does not count.
    #[must_use]
    pub fn lists(&self, name: HeaderName, token: &str) -> bool {
        self.list(name)
            .any(|value| value.eq_ignore_ascii_case(token))
    }

    /// Returns the first value of a field by any of its spellings.
    #[must_use]
    pub fn other(&self, name: &str) -> Option<&str> {
        let known = HeaderName::of(name.as_bytes());
        if known != HeaderName::Other {
            return self.header(known);
        }
        let mut all = self.all_headers();
        all.find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Returns name (as written) and value of every field, in order.
    pub fn all_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.index.fields.iter().map(|field| {
            (
                self.text(field.name_start, field.name_end),
                self.text(field.start, field.end),
            )
        })
    }

    /// Returns the body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes
            .get(self.index.body as usize..self.index.end as usize)
            .unwrap_or(&[])
    }

    /// Returns the body, sharing the octets.
    #[must_use]
    pub fn body_bytes(&self) -> Bytes {
        self.bytes
            .slice(self.index.body as usize..self.index.end as usize)
    }

    /// Returns the Content-Type.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header(HeaderName::ContentType)
    }

    /// Returns the topmost Via.
    pub fn via(&self) -> Result<Via, HeaderError> {
        let value = self.require(HeaderName::Via)?;
        Via::read(&mut Scan::new(value)).map_err(fault(HeaderName::Via))
    }

    /// Returns the values of all Vias, topmost first, comma lists split.
    pub fn vias(&self) -> impl Iterator<Item = &str> {
        self.headers(HeaderName::Via).flat_map(split_list)
    }

    /// Returns From.
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        self.require(HeaderName::From)?
            .parse()
            .map_err(fault(HeaderName::From))
    }

    /// Returns To.
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        self.require(HeaderName::To)?
            .parse()
            .map_err(fault(HeaderName::To))
    }

    /// Returns Call-ID.
    pub fn call_id(&self) -> Result<&str, HeaderError> {
        self.require(HeaderName::CallId)
    }

    /// Returns CSeq.
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        let value = self.require(HeaderName::CSeq)?;
        let (number, method) = read_cseq(value).map_err(fault(HeaderName::CSeq))?;
        Ok(CSeq {
            number,
            method: MethodOwned::from(MethodName::of(method)),
        })
    }

    /// Returns Max-Forwards; above 255 is malformed (RFC 3261 §20.22).
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        self.number(HeaderName::MaxForwards)
    }

    /// Returns Expires in seconds (RFC 3261 §20.19).
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.number(HeaderName::Expires)
    }

    /// Returns Min-Expires in seconds (RFC 3261 §20.23).
    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        self.number(HeaderName::MinExpires)
    }

    /// Returns RSeq (RFC 3262 §7.1).
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.number(HeaderName::RSeq)
    }

    /// Returns the values of all Contacts.
    pub fn contacts(&self) -> Result<Contacts, HeaderError> {
        read_contacts(self.headers(HeaderName::Contact)).map_err(fault(HeaderName::Contact))
    }

    /// Returns the Route values, next hop first.
    pub fn routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.name_addrs(HeaderName::Route)
    }

    /// Returns the Record-Route values, topmost first.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.name_addrs(HeaderName::RecordRoute)
    }

    /// Returns the Path values, topmost first (RFC 3327).
    pub fn paths(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.name_addrs(HeaderName::Path)
    }

    /// Returns all addresses of a field that is a list of them.
    pub fn name_addrs(&self, name: HeaderName) -> Result<Vec<NameAddr>, HeaderError> {
        let mut list = Vec::new();
        self.each(name, |value| {
            read_list(value, |name_addr| {
                list.push(name_addr);
                Ok(())
            })
        })?;
        Ok(list)
    }

    /// Returns one address of a field such as Refer-To, if the field is there.
    pub fn name_addr(&self, name: HeaderName) -> Result<Option<NameAddr>, HeaderError> {
        self.header(name)
            .map(|value| value.parse().map_err(fault(name)))
            .transpose()
    }

    /// Returns the credentials as text, one field each (`Authorization` or `Proxy-Authorization`).
    pub fn credential_values(&self, which: Which) -> impl Iterator<Item = &str> {
        self.headers(match which {
            Which::Www => HeaderName::Authorization,
            Which::Proxy => HeaderName::ProxyAuthorization,
        })
    }

    /// Returns the challenges as text, one field each (`WWW-Authenticate` or `Proxy-Authenticate`).
    pub fn challenge_values(&self, which: Which) -> impl Iterator<Item = &str> {
        self.headers(match which {
            Which::Www => HeaderName::WwwAuthenticate,
            Which::Proxy => HeaderName::ProxyAuthenticate,
        })
    }

    /// Returns a message whose topmost Via value is another one.
    pub(crate) fn with_top_via(&self, via: &Via) -> Message {
        let Some(position) = self.position(HeaderName::Via) else {
            return self.clone();
        };
        let field = self.index.fields[position];
        let old = split_list(self.text(field.start, field.end))
            .next()
            .map_or(0, str::len);
        let text = via.to_string();
        let start = field.start as usize;
        let mut bytes = Vec::with_capacity(self.bytes.len() + text.len());
        bytes.extend_from_slice(&self.bytes[..start]);
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&self.bytes[start + old..]);
        let shift = |at: u32| (at + text.len() as u32).saturating_sub(old as u32);
        let mut index = Index::clone(&self.index);
        for (at, field) in index.fields.iter_mut().enumerate().skip(position) {
            field.end = shift(field.end);
            if at > position {
                field.start = shift(field.start);
                field.name_start = shift(field.name_start);
                field.name_end = shift(field.name_end);
            }
        }
        index.body = shift(index.body);
        index.end = shift(index.end);
        Self {
            bytes: Bytes::from(bytes),
            index: Arc::new(index),
        }
    }

    fn text(&self, start: u32, end: u32) -> &str {
        let octets = self.bytes.get(start as usize..end as usize).unwrap_or(&[]);
        std::str::from_utf8(octets).unwrap_or("")
    }

    fn position(&self, name: HeaderName) -> Option<usize> {
        self.index
            .fields
            .iter()
            .position(|field| field.name == name)
    }

    fn field(&self, name: HeaderName) -> Option<&Field> {
        self.index.fields.iter().find(|field| field.name == name)
    }

    fn require(&self, name: HeaderName) -> Result<&str, HeaderError> {
        self.header(name).ok_or(HeaderError::Missing(name))
    }

    fn number<T: std::str::FromStr>(&self, name: HeaderName) -> Result<Option<T>, HeaderError> {
        self.header(name)
            .map(|value| number(value).map_err(fault(name)))
            .transpose()
    }

    fn each(
        &self,
        name: HeaderName,
        mut read: impl FnMut(&str) -> Result<(), SyntaxError>,
    ) -> Result<(), HeaderError> {
        self.headers(name)
            .try_for_each(|value| read(value).map_err(fault(name)))
    }
}

impl fmt::Debug for Message {
    /// Writes the first line only: header fields may hold what must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start() {
            Start::Request { method, .. } => write!(f, "Message({method})"),
            Start::Response { status, .. } => write!(f, "Message({status} {})", self.method()),
        }
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Message {}

/// Reads all values of one Via field.
pub(crate) fn read_vias(value: &str, mut take: impl FnMut(Via)) -> Result<(), SyntaxError> {
    let mut scan = Scan::new(value);
    loop {
        take(Via::read(&mut scan)?);
        if !scan.eat(b',') {
            return scan.end();
        }
    }
}

fn fault(header: HeaderName) -> impl FnOnce(SyntaxError) -> HeaderError {
    move |cause| HeaderError::Malformed { header, cause }
}

#[cfg(test)]
mod tests;
