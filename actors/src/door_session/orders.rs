//! What a client wants of its calls.
//!
//! In: messages that name a call. Out: a call that begins, or an order for the dialog that the name
//! means: our UUID of an incoming call, or the hash of account and the name it gave its own. The
//! dialog checks whose it is.

use bytes::Bytes;
use contract::limits::{CALL_MESSAGE_BYTES_MAX, JSON_CALLS_MAX, JSON_STATS_BYTES_MAX};
use contract::{ActorId, SideKey, Undelivered};
use doors::json::{self, ClientMessage, DigitMethod};

use super::core::{CALLER, Context, DoorSession, Who};
use crate::dialog::{self, ClientCommand, ClientOrder, OfferKind};
use crate::{Site, call};

/// Status of a call that a client refuses without saying how.
const REJECTED: u16 = 486;

/// Returns the side that the client means by a name.
fn side_of(who: &Who, name: &str, site: &Site) -> SideKey {
    let ours = name.parse::<SideKey>().ok().filter(|side| side.is_ours());
    ours.unwrap_or_else(|| site.ids.json_call_key(who.aor.as_str(), name).side(CALLER))
}

impl DoorSession {
    /// Gives an order to the dialog of a call.
    pub(super) fn order(
        &mut self,
        who: &Who,
        name: &str,
        id: Option<String>,
        command: ClientCommand,
        ctx: &mut Context<'_>,
    ) {
        let Some(flow) = self.flow else { return };
        let order = ClientOrder {
            aor: who.aor.clone(),
            contact: who.contact.clone(),
            flow,
            name: name.to_owned(),
            id,
            command,
        };
        let to = ActorId::Dialog(side_of(who, name, ctx.site()));
        ctx.tell(to, dialog::Message::Client(Box::new(order)).into());
    }

    /// Takes a message of a registered client about a call.
    pub(super) fn on_order(
        &mut self,
        id: Option<String>,
        message: ClientMessage,
        who: &Who,
        ctx: &mut Context<'_>,
    ) {
        let (name, command) = match message {
            ClientMessage::Call(call) => return self.on_call(id, call, who, ctx),
            ClientMessage::Ack(_) => return self.on_ack(id.as_deref(), who, ctx),
            ClientMessage::Ringing(one) => (one.call_id, ClientCommand::Ringing),
            ClientMessage::Answer(one) => {
                let sdp = Bytes::from(one.sdp);
                (one.call_id, ClientCommand::Answer { sdp })
            }
            ClientMessage::Reject(one) => {
                let code = one.code.filter(|code| (400..=699).contains(code));
                let status = code.unwrap_or(REJECTED);
                // Nothing is said of it any more.
                self.calls.remove(one.call_id.as_str());
                (one.call_id, ClientCommand::Reject { status })
            }
            ClientMessage::Cancel(one) => (one.call_id, ClientCommand::Hangup),
            ClientMessage::Hangup(one) => (one.call_id, ClientCommand::Hangup),
            ClientMessage::Hold(one) => offer(one.call_id, one.sdp, OfferKind::Hold),
            ClientMessage::Resume(one) => offer(one.call_id, one.sdp, OfferKind::Resume),
            ClientMessage::Reoffer(one) => offer(one.call_id, one.sdp, OfferKind::Reoffer),
            ClientMessage::Reanswer(one) => {
                let sdp = Bytes::from(one.sdp);
                (one.call_id, ClientCommand::Reanswer { sdp })
            }
            ClientMessage::IceCandidate(one) => {
                let candidate = Some(one.candidate.to_string()).filter(|text| !text.is_empty());
                (one.call_id, ClientCommand::Candidate { candidate })
            }
            ClientMessage::IceComplete(one) => {
                let candidate = None;
                (one.call_id, ClientCommand::Candidate { candidate })
            }
            ClientMessage::Dtmf(one) => {
                let command = ClientCommand::Digits {
                    digits: one.digits.to_string().to_ascii_uppercase(),
                    duration_ms: one.duration,
                    is_info: one.method == DigitMethod::Info,
                };
                (one.call_id, command)
            }
            ClientMessage::Transfer(one) => {
                let command = match (one.to, one.with) {
                    (Some(to), None) => ClientCommand::Transfer { to: to.to_string() },
                    (None, Some(with)) => ClientCommand::Join {
                        dialog: side_of(who, with.as_str(), ctx.site()),
                        name: with.to_string(),
                    },
                    (Some(_), Some(_)) | (None, None) => {
                        let why = "transfer wants either to or with";
                        return self.error(id.as_deref(), 400, why, ctx);
                    }
                };
                (one.call_id, command)
            }
            ClientMessage::Stats(one) => {
                let report = one.report.to_string();
                if report.len() > JSON_STATS_BYTES_MAX {
                    return ctx.ignore("statistics too long to keep");
                }
                (one.call_id, ClientCommand::Stats { report })
            }
            ClientMessage::Register(_)
            | ClientMessage::ResumeSession(_)
            | ClientMessage::Unregister(_)
            | ClientMessage::Info(_)
            | ClientMessage::Settings(_)
            | ClientMessage::Ping(_)
            | ClientMessage::Unsupported => return ctx.ignore("not about a call"),
        };
        if command.sdp_bytes() > CALL_MESSAGE_BYTES_MAX {
            return self.error(id.as_deref(), 400, "sdp is longer than a call keeps", ctx);
        }
        self.order(who, name.as_str(), id, command, ctx);
    }

    fn on_call(
        &mut self,
        id: Option<String>,
        wanted: json::Call,
        who: &Who,
        ctx: &mut Context<'_>,
    ) {
        let Some(flow) = self.flow else { return };
        let name = wanted.call_id.to_string();
        if name.parse::<SideKey>().is_ok_and(SideKey::is_ours) {
            return self.error(id.as_deref(), 400, "that callId is one of ours", ctx);
        }
        if wanted.sdp.len() > CALL_MESSAGE_BYTES_MAX {
            return self.error(id.as_deref(), 400, "sdp is longer than a call keeps", ctx);
        }
        if self.calls.len() >= JSON_CALLS_MAX && !self.calls.contains_key(&name) {
            return self.error(id.as_deref(), 503, "too many calls", ctx);
        }
        let side = side_of(who, &name, ctx.site());
        self.calls.insert(name.clone(), side);
        let dial = call::Dial {
            aor: who.aor.clone(),
            contact: who.contact.clone(),
            flow,
            name,
            request: id,
            to: wanted.to.to_string(),
            sdp: Bytes::from(wanted.sdp),
        };
        let to = ActorId::Call(side.call());
        ctx.tell(to, call::Message::Dial(Box::new(dial)).into());
    }

    fn on_ack(&mut self, id: Option<&str>, who: &Who, ctx: &mut Context<'_>) {
        let number: Option<u64> = id.and_then(|id| id.strip_prefix("srv-")?.parse().ok());
        let found = self
            .acks
            .iter()
            .position(|(known, _)| Some(*known) == number);
        let Some((number, side)) = found.and_then(|at| self.acks.remove(at)) else {
            return ctx.ignore("an ack of nothing that waits for one");
        };
        let name = side.to_string();
        // The UUID names the side also where the client has a name of its own for the call.
        self.order(who, &name, None, ClientCommand::Ack { number }, ctx);
    }

    /// There is no such dialog.
    pub(super) fn on_no_dialog(
        &mut self,
        order: ClientOrder,
        why: Undelivered,
        ctx: &mut Context<'_>,
    ) {
        let (code, text) = match why {
            Undelivered::Busy => (503, "too much to do"),
            Undelivered::Absent => (404, "no such call"),
        };
        match order.command {
            ClientCommand::Inquire if why == Undelivered::Busy => {
                ctx.ignore("it is asked again");
            }
            ClientCommand::Inquire => self.on_call_state(order.name, "gone".to_owned(), ctx),
            ClientCommand::Resumed
            | ClientCommand::Ack { .. }
            | ClientCommand::Candidate { .. }
            | ClientCommand::Stats { .. } => ctx.ignore("nothing answers it"),
            ClientCommand::Ringing
            | ClientCommand::Answer { .. }
            | ClientCommand::Reject { .. }
            | ClientCommand::Hangup
            | ClientCommand::Offer { .. }
            | ClientCommand::Reanswer { .. }
            | ClientCommand::Digits { .. }
            | ClientCommand::Transfer { .. }
            | ClientCommand::Join { .. } => {
                self.calls.remove(&order.name);
                self.error(order.id.as_deref(), code, text, ctx);
            }
        }
    }
}

fn offer(
    name: doors::json::CallName,
    sdp: String,
    kind: OfferKind,
) -> (doors::json::CallName, ClientCommand) {
    let sdp = Bytes::from(sdp);
    (name, ClientCommand::Offer { sdp, kind })
}
