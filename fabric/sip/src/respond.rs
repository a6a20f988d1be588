//! The beginning of every answer: what a response repeats from its request (RFC 3261 §8.2.6).

use rsip::Method;

use crate::header::HeaderName;
use crate::message::Message;
use crate::scan::{is_token, trim};
use crate::writer::{WriteError, Writer, shown};

/// Begins a response to `request`.
///
/// In: `to_tag` is added to To unless it already has a tag; 100 gets none. Out: a writer that holds
/// the Via list as stamped, From, To, Call-ID and CSeq; Timestamp in a 100; Record-Route in 101 to
/// 299 to requests that create dialogs. Server, Contact and the like are the caller's.
/// Source: RFC 3261 §8.2.6.1, §8.2.6.2, §12.1.1.
#[must_use]
pub fn respond(request: &Message, status: u16, to_tag: Option<&str>) -> Writer {
    let mut writer = Writer::response(status, None);
    for via in request.headers(HeaderName::Via) {
        writer.copy(HeaderName::Via, via);
    }
    if creates_dialog(request) && (101..300).contains(&status) {
        for route in request.headers(HeaderName::RecordRoute) {
            writer.copy(HeaderName::RecordRoute, route);
        }
    }
    copy(&mut writer, request, HeaderName::From);
    copy_to(&mut writer, request, to_tag.filter(|_| status != 100));
    copy(&mut writer, request, HeaderName::CallId);
    copy(&mut writer, request, HeaderName::CSeq);
    if status == 100 {
        copy(&mut writer, request, HeaderName::Timestamp);
    }
    writer
}

fn copy(writer: &mut Writer, request: &Message, name: HeaderName) {
    if let Some(value) = request.header(name) {
        writer.copy(name, value);
    }
}

/// Repeats To as written; a tag is put behind it, since header parameters come last. A tag that is
/// no token makes the answer fail.
fn copy_to(writer: &mut Writer, request: &Message, tag: Option<&str>) {
    let Some(value) = request.header(HeaderName::To).map(trim) else {
        return;
    };
    let has_tag = request.to().is_ok_and(|to| to.tag().is_some());
    match tag.filter(|_| !has_tag) {
        Some(tag) if tag.bytes().all(is_token) => {
            writer.copy(HeaderName::To, &format!("{value};tag={tag}"));
        }
        Some(tag) => writer.fail(WriteError::BadName(shown(tag))),
        None => {
            writer.copy(HeaderName::To, value);
        }
    }
}

/// Tells whether a request may create a dialog (RFC 3261 §12.1; RFC 6665 §4.4.1; RFC 3515 §2.4.4).
fn creates_dialog(request: &Message) -> bool {
    [
        Method::Invite,
        Method::Subscribe,
        Method::Refer,
        Method::Notify,
    ]
    .iter()
    .any(|method| request.method().is(*method))
}
