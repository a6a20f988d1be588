//! Dialogs as data: what two user agents must remember of each other (RFC 3261 §12).
//!
//! In: the request and response that create a dialog, later requests and responses. Out: the state
//! that is stored and moved, requests within the dialog, refusals. It holds no timer and sends
//! nothing; which transaction or actor it belongs to, it does not know.
//!
//! Local CSeqs are reserved in blocks (`cluster.md` §7), the first one with the dialog itself, so that
//! who takes it over goes on behind what its owner may use meanwhile: `cseq_reserved` is stored before any
//! number up to it is used, so a node that takes over goes on behind it with `skip_reserve` and no
//! number is ever used twice.

use contract::FaultClass;
use contract::limits::{CSEQ_BLOCK, ROUTES_PER_DIALOG_MAX};
use rsip::Method;
use serde::{Deserialize, Serialize};

use crate::error::HeaderError;
use crate::header::HeaderName;
use crate::headers::{Contacts, NameAddr};
use crate::locate::{Hop, LocateError, next_hop};
use crate::message::{Message, Which};
use crate::method::MethodOwned;
use crate::transport::HOPS;
use crate::uri::Uri;
use crate::via::ViaTransport;
use crate::writer::Writer;

/// One side's view of a dialog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialogState {
    /// Call-ID.
    pub call_id: String,
    /// Our address with our tag.
    pub local: NameAddr,
    /// The peer's address with its tag; without one if the peer speaks RFC 2543.
    pub remote: NameAddr,
    /// Where the peer wants requests: its Contact.
    pub remote_target: Uri,
    /// The proxies between, nearest first.
    pub route_set: Vec<Uri>,
    /// The CSeq of our last request; 0 if there was none.
    pub local_cseq: u32,
    /// The last CSeq that may be used before this state is stored again.
    pub cseq_reserved: u32,
    /// The CSeq of the peer's last request, if there was one.
    pub remote_cseq: Option<u32>,
    /// Whether every hop must be protected (RFC 3261 §12.1.1).
    pub secure: bool,
}

/// A CSeq to be used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenCseq {
    /// The number.
    pub number: u32,
    /// Whether the dialog's state must be stored durably before the request is sent: a new block
    /// was begun.
    pub must_commit: bool,
}

/// Why no dialog can be made, or no request in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialogError {
    /// A field is missing or malformed: 400 to a request, a failed call for a response.
    #[error(transparent)]
    Header(HeaderError),
    /// No Contact, or `*`, where the peer must say where to reach it.
    #[error("no contact to send requests to")]
    NoContact,
    /// More proxies than `ROUTES_PER_DIALOG_MAX`.
    #[error("too many routes")]
    TooManyRoutes,
    /// All CSeqs are used.
    #[error("CSeq exhausted")]
    CseqExhausted,
}

impl DialogError {
    /// Returns whose fault it is.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self {
            DialogError::Header(_) | DialogError::NoContact => FaultClass::Reject,
            DialogError::TooManyRoutes | DialogError::CseqExhausted => FaultClass::Overload,
        }
    }

    /// Returns the status that answers the request that caused it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            DialogError::Header(_) | DialogError::NoContact => 400,
            DialogError::TooManyRoutes => 513,
            DialogError::CseqExhausted => 500,
        }
    }
}

/// Why a request is not taken by the dialog it was sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialogRefusal {
    /// A field is missing or malformed.
    #[error(transparent)]
    Header(HeaderError),
    /// Call-ID or a tag is another dialog's (RFC 3261 §12.2.2).
    #[error("no such dialog")]
    NoDialog,
    /// The CSeq is lower than one before (RFC 3261 §12.2.2).
    #[error("request out of order")]
    OutOfOrder,
}

impl DialogRefusal {
    /// Returns whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }

    /// Returns the status that answers it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            DialogRefusal::Header(_) => 400,
            DialogRefusal::NoDialog => 481,
            DialogRefusal::OutOfOrder => 500,
        }
    }
}

impl DialogState {
    /// Makes the dialog of a request that we answer with 101–299 and `local_tag`.
    ///
    /// Errors: see `DialogError`. Source: RFC 3261 §12.1.1.
    pub fn of_server(request: &Message, local_tag: &str) -> Result<Self, DialogError> {
        let mut local = request.to().map_err(DialogError::Header)?;
        local.set_tag(local_tag);
        Ok(Self {
            call_id: request.call_id().map_err(DialogError::Header)?.to_owned(),
            local,
            remote: request.from().map_err(DialogError::Header)?,
            remote_target: contact_of(request)?,
            route_set: routes_of(request)?,
            local_cseq: 0,
            cseq_reserved: CSEQ_BLOCK,
            remote_cseq: Some(request.cseq().map_err(DialogError::Header)?.number),
            secure: is_secure(request),
        })
    }

    /// Makes the dialog of a request of ours and a response of 101–299 to it.
    ///
    /// Errors: see `DialogError`. A provisional response without Contact makes none yet.
    /// Source: RFC 3261 §12.1.2.
    pub fn of_client(request: &Message, response: &Message) -> Result<Self, DialogError> {
        let mut route_set = routes_of(response)?;
        route_set.reverse();
        let number = request.cseq().map_err(DialogError::Header)?.number;
        Ok(Self {
            call_id: request.call_id().map_err(DialogError::Header)?.to_owned(),
            local: request.from().map_err(DialogError::Header)?,
            remote: response.to().map_err(DialogError::Header)?,
            remote_target: contact_of(response)?,
            route_set,
            local_cseq: number,
            cseq_reserved: number + CSEQ_BLOCK,
            remote_cseq: None,
            secure: is_secure(request),
        })
    }

    /// Takes route set and target of an early dialog anew from the 2xx that confirms it.
    ///
    /// Errors: see `DialogError`; the state is unchanged then. Source: RFC 3261 §13.2.2.4.
    pub fn confirm(&mut self, response: &Message) -> Result<(), DialogError> {
        let mut route_set = routes_of(response)?;
        let remote_target = contact_of(response)?;
        route_set.reverse();
        self.route_set = route_set;
        self.remote_target = remote_target;
        Ok(())
    }

    /// Tells whether a request of the peer was sent in this dialog (RFC 3261 §12.2.2).
    ///
    /// Call-ID and tags are compared octet by octet: who changes their case did not learn them
    /// here.
    #[must_use]
    pub fn matches(&self, request: &Message) -> bool {
        let (Ok(call_id), Ok(from), Ok(to)) = (request.call_id(), request.from(), request.to())
        else {
            return false;
        };
        call_id == self.call_id && from.tag() == self.remote.tag() && to.tag() == self.local.tag()
    }

    /// Takes a request of the peer, other than ACK and CANCEL, whose CSeq is that of another one.
    ///
    /// An equal CSeq is no refusal: §12.2.2 refuses lower ones only, and after a take-over a copy
    /// of the last request meets no transaction.
    /// Errors: see `DialogRefusal`. Source: RFC 3261 §12.2.2.
    pub fn accept_request(&mut self, request: &Message) -> Result<(), DialogRefusal> {
        if !self.matches(request) {
            return Err(DialogRefusal::NoDialog);
        }
        let number = request.cseq().map_err(DialogRefusal::Header)?.number;
        if self.remote_cseq.is_some_and(|last| number < last) {
            return Err(DialogRefusal::OutOfOrder);
        }
        self.remote_cseq = Some(number);
        Ok(())
    }

    /// Takes the Contact of an accepted target refresh request, or of the 2xx to ours.
    ///
    /// Out: whether the target changed. Other methods, other responses and messages without a
    /// usable Contact change nothing. Source: RFC 3261 §12.2.1.2, §12.2.2; RFC 3311 §5; RFC 6665
    /// §4.4.1.
    pub fn refresh_target(&mut self, message: &Message) -> bool {
        let is_success = message
            .status()
            .is_none_or(|status| (200..300).contains(&status));
        if !is_success || !refreshes(message) {
            return false;
        }
        let Ok(target) = contact_of(message) else {
            return false;
        };
        let is_changed = target != self.remote_target;
        self.remote_target = target;
        is_changed
    }

    /// Takes the CSeq of our next request; ACK and CANCEL have that of their INVITE.
    ///
    /// A new block is begun when none is left and when three quarters of one are used.
    /// Errors: `CseqExhausted` after 2^31 - 1. Source: `cluster.md` §7; RFC 3261 §12.2.1.1.
    pub fn take_cseq(&mut self) -> Result<TakenCseq, DialogError> {
        if self.local_cseq >= CSEQ_LAST {
            return Err(DialogError::CseqExhausted);
        }
        self.local_cseq += 1;
        let left = self.cseq_reserved.saturating_sub(self.local_cseq);
        let must_commit = left <= CSEQ_BLOCK / 4;
        if must_commit {
            let used = self.local_cseq - 1;
            self.cseq_reserved = self.cseq_reserved.max(used) + CSEQ_BLOCK;
        }
        Ok(TakenCseq {
            number: self.local_cseq,
            must_commit,
        })
    }

    /// Goes on behind the reserved block: for a state restored after its owner died.
    pub fn skip_reserve(&mut self) {
        self.local_cseq = self.local_cseq.max(self.cseq_reserved).min(CSEQ_LAST);
    }

    /// Passes one more block over: its owner may be alive and cut off, and use numbers that nobody
    /// else has a record of.
    pub fn skip_block(&mut self) {
        self.local_cseq = self.local_cseq.saturating_add(CSEQ_BLOCK).min(CSEQ_LAST);
    }

    /// Goes on behind a number, unless it is passed already.
    pub fn skip_to(&mut self, number: u32) {
        self.local_cseq = self.local_cseq.max(number).min(CSEQ_LAST);
    }

    /// Begins a request in the dialog.
    ///
    /// In: `cseq` from `take_cseq`; `via` and `contact` as values of their fields. Out: a writer
    /// that holds Via, Route, Max-Forwards, From, To, Call-ID, CSeq and Contact.
    /// Source: RFC 3261 §12.2.1.1.
    #[must_use]
    pub fn request(
        &self,
        method: impl Into<MethodOwned>,
        cseq: u32,
        via: &str,
        contact: Option<&str>,
    ) -> Writer {
        let method = method.into();
        let (uri, routes) = self.route();
        let mut writer = Writer::request(&method, &uri);
        writer.header(HeaderName::Via, via);
        for route in routes {
            writer.header(HeaderName::Route, format_args!("<{route}>"));
        }
        writer
            .header(HeaderName::MaxForwards, HOPS)
            .header(HeaderName::From, &self.local)
            .header(HeaderName::To, &self.remote)
            .header(HeaderName::CallId, &self.call_id)
            .header(HeaderName::CSeq, format_args!("{cseq} {method}"));
        if let Some(contact) = contact {
            writer.header(HeaderName::Contact, contact);
        }
        writer
    }

    /// Begins the ACK of a 2xx to an INVITE of ours; the same ACK answers each copy of the 2xx.
    ///
    /// In: `via` with a branch of its own. Out: CSeq and credentials are those of the INVITE.
    /// Errors: the INVITE has no readable CSeq. Source: RFC 3261 §13.2.2.4, §22.1.
    pub fn ack(&self, invite: &Message, via: &str) -> Result<Writer, DialogError> {
        let number = invite.cseq().map_err(DialogError::Header)?.number;
        let mut writer = self.request(Method::Ack, number, via, None);
        for value in invite.credential_values(Which::Www) {
            writer.header(HeaderName::Authorization, value);
        }
        for value in invite.credential_values(Which::Proxy) {
            writer.header(HeaderName::ProxyAuthorization, value);
        }
        Ok(writer)
    }

    /// Returns where requests of the dialog go: to the first proxy, else to the target.
    ///
    /// Errors: see `LocateError`. Source: RFC 3261 §8.1.2, §12.2.1.1.
    pub fn next_hop(&self) -> Result<Hop, LocateError> {
        let first = self
            .route_set
            .first()
            .map(|route| NameAddr::new(route.clone()));
        let mut hop = next_hop(&self.remote_target, first.as_slice())?;
        hop.secure |= self.secure;
        Ok(hop)
    }

    /// Returns Request-URI and Route: with a loose router first, target and route set; with a
    /// strict one, the router itself, then the rest, then the target.
    fn route(&self) -> (Uri, Vec<&Uri>) {
        let mut routes: Vec<&Uri> = self.route_set.iter().collect();
        match self.route_set.first() {
            Some(first) if !first.params().has("lr") => {
                routes.remove(0);
                routes.push(&self.remote_target);
                (request_uri(first.clone()), routes)
            }
            Some(_) | None => (self.remote_target.clone(), routes),
        }
    }
}

/// Takes off what may not stand in a Request-URI (RFC 3261 §19.1.1, table 1).
fn request_uri(mut uri: Uri) -> Uri {
    uri.clear_headers();
    uri.params_mut().remove("method");
    uri
}

fn contact_of(message: &Message) -> Result<Uri, DialogError> {
    match message.contacts().map_err(DialogError::Header)? {
        Contacts::List(list) => {
            let first = list.into_iter().next().ok_or(DialogError::NoContact)?;
            Ok(request_uri(first.name_addr.uri))
        }
        Contacts::Star => Err(DialogError::NoContact),
    }
}

fn routes_of(message: &Message) -> Result<Vec<Uri>, DialogError> {
    let routes = message.record_routes().map_err(DialogError::Header)?;
    if routes.len() > ROUTES_PER_DIALOG_MAX {
        return Err(DialogError::TooManyRoutes);
    }
    Ok(routes.into_iter().map(|route| route.uri).collect())
}

/// Tells whether a request was for a `sips` URI and came over a protected transport.
fn is_secure(request: &Message) -> bool {
    let is_sips = request.uri().is_ok_and(|uri| uri.is_secure());
    is_sips
        && request.via().is_ok_and(|via| {
            matches!(
                via.transport,
                ViaTransport::Tls | ViaTransport::Wss | ViaTransport::TlsSctp
            )
        })
}

/// Tells whether a method changes the target of its dialog.
fn refreshes(message: &Message) -> bool {
    let method = message.method();
    [
        Method::Invite,
        Method::Update,
        Method::Subscribe,
        Method::Notify,
        Method::Refer,
    ]
    .into_iter()
    .any(|refreshing| method.is(refreshing))
}

/// The last CSeq: below 2^31 (RFC 3261 §8.1.1.5), less a block so that a reserve never passes it.
const CSEQ_LAST: u32 = (1 << 31) - 1 - CSEQ_BLOCK;

#[cfg(test)]
mod tests;
