//! What an agreement changes besides itself: our numbers under other keys, whose packets go where.
//!
//! In: what held before, what was agreed on. Out: numbers, the latch, a configuration, a report.

use std::net::SocketAddr;

use contract::KeyMaterial;

use super::Report;
use super::core::{LegCtx, MediaLeg};
use super::plane::clock_rate;
use super::protection::{Protection, SendingKey};

/// What held before a description was taken or made.
#[derive(Debug)]
pub(super) struct Held {
    /// Under what we sent; another value means other keys.
    sending: Option<SendingKey>,
    /// Our key and the peer's, where they are those of the signalling.
    keys: Option<(KeyMaterial, KeyMaterial)>,
    /// Where the peer said that it receives.
    rtp: Option<SocketAddr>,
}

impl MediaLeg {
    /// Returns what holds now.
    pub(super) fn held(&self) -> Held {
        let protection = self.data.agreement.protection();
        let keys = protection.and_then(Protection::signalled_keys);
        let current = self.data.agreement.current();
        Held {
            sending: protection.map(Protection::sending),
            keys: keys.map(|(ours, theirs)| (ours.clone(), theirs.clone())),
            rtp: current.and_then(|agreed| agreed.theirs.rtp),
        }
    }

    /// Something may have been agreed: recorded, configured, told.
    pub(super) fn agreed(
        &mut self,
        before: &Held,
        report: Result<Report, u16>,
        ctx: &mut LegCtx<'_>,
    ) {
        self.renumber(before, ctx);
        if report.is_ok() {
            self.settle_latch(before, ctx);
        }
        ctx.store();
        if report.is_ok() {
            self.configure(ctx);
        }
        self.tell(report, ctx);
    }

    /// Numbers start anew under other keys of the signalling; those of a handshake come later.
    fn renumber(&mut self, before: &Held, ctx: &mut LegCtx<'_>) {
        let after = self.held();
        let has_begun = self.data.agreement.current().is_some();
        if has_begun && before.sending != after.sending {
            if !matches!(after.sending, Some(SendingKey::Handshake)) {
                self.rekey(ctx);
            }
            return;
        }
        let (Some((our_former, their_former)), Some((ours, theirs))) = (&before.keys, &after.keys)
        else {
            return;
        };
        let (clock, now) = (self.clock(), ctx.now());
        let Some(numbers) = &mut self.data.numbers else {
            return;
        };
        if our_former != ours {
            numbers.renew(clock, ctx.rng(), now);
        }
        if their_former != theirs {
            numbers.received.clear();
        }
    }

    pub(super) fn rekey(&mut self, ctx: &mut LegCtx<'_>) {
        let now = ctx.now();
        if let Some(numbers) = &mut self.data.numbers {
            numbers.rekey(ctx.rng(), now);
        }
    }

    /// The peer may have moved: what was latched before holds no longer. If it is we who moved, and
    /// the peer says that it is where it was, packets go on to where they went; its own come by
    /// another way through its NAT, perhaps, and may be latched to anew.
    fn settle_latch(&mut self, before: &Held, ctx: &LegCtx<'_>) {
        if !self.is_told_first(ctx) {
            self.data.is_carried = false;
            return;
        }
        let now = self.data.agreement.current();
        self.data.is_carried &= now.and_then(|agreed| agreed.theirs.rtp) == before.rtp;
        self.data.agreement.renegotiate();
    }

    /// Tells, once, that the peer has learnt where we are since we took the leg over.
    fn is_told_first(&mut self, ctx: &LegCtx<'_>) -> bool {
        let listener = ctx.site().listener(self.data.listener);
        let here = match (listener, self.data.local) {
            (Some(listener), Some(local)) => {
                Some(SocketAddr::new(listener.rtp_advertise, local.port()))
            }
            (Some(_) | None, _) => None,
        };
        let is_described = here.is_some() && self.data.agreement.described() == here;
        match &mut self.moved {
            Some(moved) if moved.is_untold && is_described => {
                moved.is_untold = false;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Returns the RTP clock of what was agreed on.
    pub(super) fn clock(&self) -> u32 {
        let current = self.data.agreement.current();
        current.map_or(8_000, |agreed| clock_rate(&agreed.ours))
    }
}
