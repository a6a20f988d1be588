//! Requests of ours that follow from another message, and those outside dialogs.
//!
//! In: the INVITE that is acknowledged or cancelled; addresses and values. Out: octets. Requests
//! outside dialogs are built as `rsip::Request`; `to_bytes` writes one only if no value holds a
//! line end and our own reader takes every field as it was meant. Requests within a dialog are
//! `DialogState::request`'s business.

use bytes::Bytes;
use contract::FaultClass;
use rsip::Method;
use rsip::headers as fields;

use crate::error::{HeaderError, ReadError};
use crate::header::HeaderName;
use crate::headers::NameAddr;
use crate::message::{Message, Which};
use crate::transport::HOPS;
use crate::uri::Uri;
use crate::via::Via;
use crate::writer::{WriteError, Writer};

/// Why a request was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The message it follows from lacks a field.
    #[error(transparent)]
    Header(HeaderError),
    /// A value cannot be written.
    #[error(transparent)]
    Write(WriteError),
    /// The scheme of the Request-URI is neither sip nor sips.
    #[error("Request-URI is neither sip nor sips")]
    Scheme,
    /// A value holds CR, LF or NUL.
    #[error("control character in a value")]
    ControlCharacter,
    /// The result is not what was meant.
    #[error("request cannot be read back: {0}")]
    Unreadable(ReadError),
    /// The result has other fields than were meant.
    #[error("request reads back with other fields")]
    Altered,
}

impl RequestError {
    /// Returns whose fault it is: that of who gave the values.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

/// Makes the ACK of a response of 300–699, within the INVITE's transaction.
///
/// Out: Request-URI, topmost Via, From, Call-ID, Route and the number of CSeq are the INVITE's, To
/// is the response's. Credentials are repeated. Source: RFC 3261 §17.1.1.3, §22.1.
pub fn ack_of_non2xx(invite: &Message, response: &Message) -> Result<Bytes, RequestError> {
    let mut writer = follow(invite, Method::Ack, response)?;
    for value in invite.credential_values(Which::Www) {
        writer.copy(HeaderName::Authorization, value);
    }
    for value in invite.credential_values(Which::Proxy) {
        writer.copy(HeaderName::ProxyAuthorization, value);
    }
    writer.finish().map_err(RequestError::Write)
}

/// Makes the CANCEL of an INVITE of ours; it is sent after a provisional response only
/// (`InviteClient::cancellable`) and has a client transaction of its own.
///
/// Source: RFC 3261 §9.1.
pub fn cancel_of(invite: &Message) -> Result<Bytes, RequestError> {
    follow(invite, Method::Cancel, invite)?
        .finish()
        .map_err(RequestError::Write)
}

/// Makes a CANCEL that says why, such as `SIP;cause=200;text="Call completed elsewhere"`.
///
/// Source: RFC 3261 §9.1; RFC 3326 §2.
pub fn cancel_with_reason(invite: &Message, reason: &str) -> Result<Bytes, RequestError> {
    let mut writer = follow(invite, Method::Cancel, invite)?;
    writer.header(HeaderName::Reason, reason);
    writer.finish().map_err(RequestError::Write)
}

/// Begins a request that goes the INVITE's way with its branch; To is that of `to_of`.
fn follow(invite: &Message, method: Method, to_of: &Message) -> Result<Writer, RequestError> {
    let uri = invite.uri().map_err(RequestError::Header)?;
    let missing = |name| RequestError::Header(HeaderError::Missing(name));
    let field = |message: &'_ Message, name| {
        message
            .header(name)
            .map(str::to_owned)
            .ok_or_else(|| missing(name))
    };
    let via = invite
        .vias()
        .next()
        .ok_or_else(|| missing(HeaderName::Via))?;
    let number = invite.cseq().map_err(RequestError::Header)?.number;
    let mut writer = Writer::request(&method.into(), &uri);
    writer.copy(HeaderName::Via, via);
    for route in invite.headers(HeaderName::Route) {
        writer.copy(HeaderName::Route, route);
    }
    writer
        .header(HeaderName::MaxForwards, HOPS)
        .copy(HeaderName::From, &field(invite, HeaderName::From)?)
        .copy(HeaderName::To, &field(to_of, HeaderName::To)?)
        .copy(HeaderName::CallId, &field(invite, HeaderName::CallId)?)
        .header(HeaderName::CSeq, format_args!("{number} {method}"));
    Ok(writer)
}

/// What every request outside a dialog has (RFC 3261 §8.1.1).
#[derive(Clone, Copy, Debug)]
pub struct Originated<'a> {
    /// The Request-URI; sip or sips.
    pub uri: &'a Uri,
    /// Our Via with its branch.
    pub via: &'a Via,
    /// Who asks, with a tag.
    pub from: &'a NameAddr,
    /// Who is asked.
    pub to: &'a NameAddr,
    /// Call-ID.
    pub call_id: &'a str,
    /// The number of CSeq.
    pub cseq: u32,
    /// The route set that was configured or learned (Service-Route), nearest first.
    pub routes: &'a [Uri],
    /// Where we can be reached.
    pub contact: Option<&'a NameAddr>,
}

impl Originated<'_> {
    /// Builds a request of any method with the fields that every request has.
    ///
    /// Errors: `Scheme`. Source: RFC 3261 §8.1.1.
    pub fn request(&self, method: Method) -> Result<rsip::Request, RequestError> {
        let mut headers = rsip::Headers::default();
        headers.push(fields::Via::from(self.via.to_string()).into());
        for route in self.routes {
            headers.push(fields::Route::from(format!("<{route}>")).into());
        }
        headers.push(fields::MaxForwards::from(HOPS.to_string()).into());
        headers.push(fields::From::from(self.from.to_string()).into());
        headers.push(fields::To::from(self.to.to_string()).into());
        headers.push(fields::CallId::from(self.call_id.to_owned()).into());
        headers.push(fields::CSeq::from(format!("{} {method}", self.cseq)).into());
        if let Some(contact) = self.contact {
            headers.push(fields::Contact::from(contact.to_string()).into());
        }
        Ok(rsip::Request {
            method,
            uri: rsip_uri(self.uri)?,
            version: rsip::Version::V2,
            headers,
            body: Vec::new(),
        })
    }

    /// Builds a REGISTER; `expires_s` 0 removes the binding of `contact`.
    ///
    /// Errors: `Scheme`. Source: RFC 3261 §10.2.
    pub fn register(&self, expires_s: u32) -> Result<rsip::Request, RequestError> {
        let mut request = self.request(Method::Register)?;
        request
            .headers
            .push(fields::Expires::from(expires_s.to_string()).into());
        Ok(request)
    }

    /// Builds an OPTIONS, as it asks a gateway whether it lives.
    ///
    /// Errors: `Scheme`. Source: RFC 3261 §11.1.
    pub fn options(&self) -> Result<rsip::Request, RequestError> {
        let mut request = self.request(Method::Options)?;
        request
            .headers
            .push(fields::Accept::from("application/sdp").into());
        Ok(request)
    }

    /// Builds a NOTIFY without a subscription, such as a mailbox's `message-summary`.
    ///
    /// Errors: `Scheme`. Source: RFC 6665 §8.2.1; RFC 3842.
    pub fn notify(
        &self,
        event: &str,
        subscription_state: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<rsip::Request, RequestError> {
        let mut request = self.request(Method::Notify)?;
        request.headers.push(fields::Event::from(event).into());
        request
            .headers
            .push(fields::SubscriptionState::from(subscription_state).into());
        set_body(&mut request, content_type, body);
        Ok(request)
    }
}

/// Sets body and Content-Type of a request that is being built.
pub fn set_body(request: &mut rsip::Request, content_type: &str, body: &[u8]) {
    if !body.is_empty() {
        request
            .headers
            .unique_push(fields::ContentType::from(content_type).into());
    }
    request.body = body.to_vec();
}

/// Adds the answer to a challenge (`digest::answer`).
pub fn authorize(request: &mut rsip::Request, which: Which, value: &str) {
    request.headers.push(match which {
        Which::Www => fields::Authorization::from(value).into(),
        Which::Proxy => fields::ProxyAuthorization::from(value).into(),
    });
}

/// Writes a built request; Content-Length is written here, whatever the builder said.
///
/// Errors: `ControlCharacter` for CR, LF or NUL in a value; `Unreadable` and `Altered` if our own
/// reader would not take every field as it was meant (threats.md 10).
pub fn to_bytes(request: &rsip::Request) -> Result<Bytes, RequestError> {
    let mut head = rsip::Request {
        body: Vec::new(),
        ..request.clone()
    };
    head.headers
        .retain(|header| !matches!(header, rsip::Header::ContentLength(_)));
    for header in head.headers.iter() {
        check_line(&header.to_string())?;
    }
    check_line(&head.uri.to_string())?;
    head.headers
        .push(fields::ContentLength::from(request.body.len().to_string()).into());
    let mut octets = head.to_string().into_bytes();
    octets.extend_from_slice(&request.body);
    let bytes = Bytes::from(octets);
    let message = Message::read(bytes.clone()).map_err(RequestError::Unreadable)?;
    let is_whole = message.all_headers().count() == head.headers.iter().count()
        && message.body() == request.body
        && message.bytes().len() == bytes.len();
    if !is_whole {
        return Err(RequestError::Altered);
    }
    message.check().map_err(RequestError::Header)?;
    Ok(bytes)
}

fn check_line(line: &str) -> Result<(), RequestError> {
    if line.bytes().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
        return Err(RequestError::ControlCharacter);
    }
    Ok(())
}

/// Returns a sip or sips URI in rsip's form. Host and parameters go over as text, since rsip would
/// write an IPv6 address without brackets and refuse transports it does not know.
fn rsip_uri(uri: &Uri) -> Result<rsip::Uri, RequestError> {
    let scheme = uri.scheme().known().ok_or(RequestError::Scheme)?;
    let host = uri.host().ok_or(RequestError::Scheme)?;
    let auth = uri.user_raw().map(|user| rsip::common::uri::Auth {
        user: user.to_owned(),
        password: uri.password_raw().map(str::to_owned),
    });
    let params = uri.params().iter().map(|(name, value)| {
        rsip::Param::Other(
            name.into(),
            value.map(rsip::common::uri::param::OtherParamValue::from),
        )
    });
    Ok(rsip::Uri {
        scheme: Some(scheme),
        auth,
        host_with_port: rsip::HostWithPort {
            host: rsip::Host::Domain(host.to_string().into()),
            port: uri.port().map(rsip::Port::from),
        },
        params: params.collect(),
        headers: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
