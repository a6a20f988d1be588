//! ACKs of 2xx: each is kept and sent again when its 2xx comes again (RFC 3261 §13.2.2.4).
//!
//! In: 2xx to INVITEs of ours, answers that an ACK waits for. Out: ACKs; BYE for forks that lost
//! behind a proxy.

use bytes::Bytes;
use contract::ActorId;
use rsip::Method;
use sip::Writer;
use sip::dialog::DialogState;

use super::core::{Acknowledgement, Dialog, DialogCtx, written};
use super::wire::Wire;
use super::writing::{Hop, lane_of_side};
use crate::lane;
use crate::policy::ACCEPT;

/// ACKs that are kept.
const ACKS_MAX: usize = 4;

impl Dialog {
    /// Sends the ACK again if this 2xx had one; tells whether it had.
    pub(super) fn acknowledge_again(
        &mut self,
        response: &sip::Message,
        tag: &str,
        ctx: &DialogCtx<'_>,
    ) -> bool {
        let cseq = response.cseq().map_or(0, |cseq| cseq.number);
        let known = self
            .data
            .acks
            .iter()
            .find(|ack| ack.cseq == cseq && ack.tag == tag);
        let Some(request) = known.map(|ack| ack.request.0.clone()) else {
            return false;
        };
        let to = ActorId::Lane(ctx.site().node, lane_of_side(ctx.site(), self.data.side));
        // The gate may still be shut for the first one.
        self.out.peer(
            to,
            lane::Message::SendAck {
                flow: self.data.flow,
                request,
            },
        );
        self.repeat_bye(ctx);
        true
    }

    /// Sends the last ACK once more: another node may not have come to it.
    pub(super) fn acknowledge_last(&mut self, ctx: &DialogCtx<'_>) {
        if let Some(ack) = self.data.acks.last() {
            let to = ActorId::Lane(ctx.site().node, lane_of_side(ctx.site(), self.data.side));
            let (flow, request) = (self.data.flow, ack.request.0.clone());
            self.out.peer(to, lane::Message::SendAck { flow, request });
        }
    }

    /// Sends the ACK of a 2xx in our dialog; what it confirms is safe first.
    pub(super) fn acknowledge(
        &mut self,
        cseq: u32,
        tag: &str,
        sdp: Option<&Bytes>,
        ctx: &mut DialogCtx<'_>,
    ) {
        if let Some(dialog) = self.data.dialog.clone() {
            self.acknowledge_in(&dialog, cseq, tag, sdp, ctx);
        }
    }

    pub(super) fn acknowledge_in(
        &mut self,
        dialog: &DialogState,
        cseq: u32,
        tag: &str,
        sdp: Option<&Bytes>,
        ctx: &mut DialogCtx<'_>,
    ) {
        let site = ctx.site();
        let Some(listener) = self.listener(site) else {
            return;
        };
        let hop = Hop::draw(site, listener, self.data.side, ctx.rng());
        let mut writer: Writer = dialog.request(Method::Ack, cseq, &hop.via, None);
        if let Some(sdp) = sdp {
            writer.body(ACCEPT, sdp);
        }
        let Some(request) = written(writer) else {
            return;
        };
        if self.data.acks.len() >= ACKS_MAX {
            self.data.acks.remove(0);
        }
        let kept = Wire(request.clone());
        self.data.acks.push(Acknowledgement {
            cseq,
            tag: tag.to_owned(),
            request: kept,
        });
        self.out.save_first();
        let to = ActorId::Lane(site.node, hop.lane);
        self.out.peer(
            to,
            lane::Message::SendAck {
                flow: self.data.flow,
                request,
            },
        );
    }

    /// The other side's answer for an ACK that waited for it.
    pub(super) fn acknowledge_late(&mut self, sdp: Option<&Bytes>, ctx: &mut DialogCtx<'_>) {
        let Some(cseq) = self.data.unacknowledged.take() else {
            return ctx.ignore("no ACK waits");
        };
        let tag = self.remote_tag();
        self.data.sdp = Wire::of(sdp);
        self.acknowledge(cseq, &tag, sdp, ctx);
        if let Some(cause) = self.data.end.take() {
            self.send_bye(&cause, ctx);
        }
    }

    pub(super) fn remote_tag(&self) -> String {
        let dialog = self.data.dialog.as_ref();
        dialog
            .and_then(|dialog| dialog.remote.tag())
            .unwrap_or_default()
            .to_owned()
    }

    /// Another fork behind a proxy answered too: acknowledged and ended (RFC 3261 §13.2.2.4).
    pub(super) fn end_fork(
        &mut self,
        mut dialog: DialogState,
        cseq: u32,
        tag: &str,
        ctx: &mut DialogCtx<'_>,
    ) {
        self.acknowledge_in(&dialog, cseq, tag, None, ctx);
        let site = ctx.site();
        let Some(listener) = self.listener(site) else {
            return;
        };
        let hop = Hop::draw(site, listener, self.data.side, ctx.rng());
        // Its numbers are its own: the ACK above is kept, so that this BYE is sent once.
        let Ok(taken) = dialog.take_cseq() else {
            return;
        };
        let writer = dialog.request(Method::Bye, taken.number, &hop.via, None);
        if let Some(bye) = written(writer) {
            self.out.save_first();
            self.request(hop.lane, bye, ctx);
        }
    }
}
