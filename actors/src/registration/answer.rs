//! What a REGISTER is answered, and where: at the lane that holds its transaction, of any node.
//!
//! In: the request, the bindings or a refusal. Out: one response. It decides nothing.

use contract::{Action, ActorId, Emitted, NodeId};
use sip::{HeaderName, Writer};

use super::core::{Context, Registration};
use super::register::Refusal;
use crate::{Inbound, lane};

/// Seconds after which a phone that was turned away for lack of room may come back; up to as many
/// again are added by chance, so that not all come at once.
const RETRY_AFTER_S: u32 = 10;

/// A REGISTER, and the lane that waits for its response.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub inbound: &'a Inbound,
    lane: ActorId,
}

impl<'a> Asker<'a> {
    /// The lane is one of the node that sent the message: `own` only if no lane did.
    pub(super) fn new(from: &ActorId, inbound: &'a Inbound, own: NodeId) -> Self {
        let node = if let ActorId::Lane(node, _) = from {
            *node
        } else {
            own
        };
        let lane = ActorId::Lane(node, inbound.transaction.lane);
        Asker { inbound, lane }
    }
}

impl Registration {
    /// Answers 200 with every binding (RFC 3261 §10.3 (8)).
    pub(super) fn answer(&self, asker: &Asker<'_>, ctx: &mut Context<'_>) {
        let (now, inbound) = (ctx.now().mono, asker.inbound);
        let mut writer = begin(inbound, 200, ctx);
        for binding in self.bindings.iter().filter(|one| !one.is_expired(now)) {
            writer.header(HeaderName::Contact, binding.header_value(now));
        }
        if inbound.request.lists(HeaderName::Supported, "path") {
            for path in inbound.request.headers(HeaderName::Path) {
                writer.header(HeaderName::Path, path);
            }
        }
        let is_outbound = self
            .bindings
            .iter()
            .any(|one| one.reg_id.is_some() && one.flow == inbound.flow);
        if is_outbound && inbound.request.lists(HeaderName::Supported, "outbound") {
            // RFC 5626 §6: tells the phone that its flow is used.
            writer.header(HeaderName::Require, "outbound");
        }
        writer.header(HeaderName::Supported, "path, outbound");
        send(asker, writer, ctx);
    }
}

pub(super) fn refuse(asker: &Asker<'_>, refusal: Refusal, ctx: &mut Context<'_>) {
    let Refusal { status, why } = refusal;
    let mut writer = begin(asker.inbound, status, ctx);
    if status == 423 {
        let shortest = ctx.site().limits.expires_min.as_secs();
        writer.header(HeaderName::MinExpires, shortest);
    }
    if status == 503 {
        let after_s = RETRY_AFTER_S + ctx.rng().below(RETRY_AFTER_S);
        writer.header(HeaderName::RetryAfter, after_s);
    }
    let method = "REGISTER".to_owned();
    ctx.act(Action::Emit(Emitted::Refused {
        method,
        status,
        why,
    }));
    send(asker, writer, ctx);
}

fn begin(inbound: &Inbound, status: u16, ctx: &mut Context<'_>) -> Writer {
    let tag = format!("{:016x}", ctx.rng().next_u64());
    let mut writer = sip::respond(&inbound.request, status, Some(&tag));
    writer.header(HeaderName::Server, &ctx.site().product);
    writer
}

/// Hands the response to the lane that holds the transaction.
fn send(asker: &Asker<'_>, mut writer: Writer, ctx: &mut Context<'_>) {
    match writer.finish() {
        Ok(response) => {
            let respond = lane::Message::Respond {
                transaction: asker.inbound.transaction.clone(),
                flow: asker.inbound.flow,
                response,
            };
            ctx.tell(asker.lane.clone(), respond.into());
        }
        Err(error) => tracing::debug!(%error, "a response was not written"),
    }
}
