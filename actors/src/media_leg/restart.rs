//! A leg whose node was started again, or that another node had (`cluster.md` §7).
//!
//! In: why it was restored. Out: the recorded port, bound again; or, on another node, a new one. It
//! tells the peer nothing: the call has it describe itself anew.
//!
//! A leg at a floating address that came here with it goes on as after a start, and says so when it
//! is asked for an offer. If its port is another's by now, it takes a new one, and the peer is told.
//!
//! | what | node started | another node had it |
//! |---|---|---|
//! | port | the recorded one | a new one of this node |
//! | SSRC, numbers | go on past the reserve | the same; the next block at once if it has moved and is heard |
//! | where packets go | as before, at once | the same |
//! | keys of a handshake | stay | stay: one certificate in the cluster |
//! | keys of the signalling | stay | those of our next description are new |
//! | ICE | same credentials, own checks at once | the same; the next offer restarts it |
//! | session of our descriptions | – | its origin stays, its version rises |

use std::net::IpAddr;

use contract::{Restored, SideKey};
use serde::{Deserialize, Serialize};

use super::Report;
use super::core::{LegCtx, MediaLeg, State};

/// What a leg keeps besides, once another node has had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    /// Address in the origin of the first description: it is in all of them (RFC 3264 §8).
    pub(super) origin: Option<IpAddr>,
    /// The peer has not shown yet that it knows where we are.
    pub(super) is_untold: bool,
}

impl MediaLeg {
    pub(super) fn restored(&mut self, why: Restored, ctx: &mut LegCtx<'_>) {
        match (why, &self.data.state) {
            (_, State::Closed) => self.tell(Ok(Report::NoPort), ctx),
            (Restored::TakenOver { .. } | Restored::Adopted { .. }, State::Open)
                if self.came_along(ctx) =>
            {
                self.stays = true;
                self.reopen(why, ctx);
            }
            (
                Restored::TakenOver { .. } | Restored::Adopted { .. } | Restored::Moved { .. },
                State::Undecided | State::Opening { .. } | State::Open,
            ) => self.take_over(why, ctx),
            (_, State::Undecided) => ctx.ignore("no port yet"),
            (Restored::NodeStart | Restored::StartedAlone, State::Opening { .. } | State::Open) => {
                self.reopen(why, ctx)
            }
            (Restored::Panic | Restored::Wake, State::Opening { .. }) => self.open(ctx),
            (Restored::Panic | Restored::Wake, State::Open) => self.configure(ctx),
        }
    }

    /// Tells whether the address of its port is a floating one that is here now.
    fn came_along(&self, ctx: &LegCtx<'_>) -> bool {
        let site = ctx.site();
        let listener = site.listener(self.data.listener);
        let address = listener.map(|listener| listener.rtp_local);
        site.moves_along(self.data.listener) && self.data.local.map(|local| local.ip()) == address
    }

    /// Goes on with a leg of another call: at a port beside the other party's, of which its peer is told.
    pub(super) fn take_up(&mut self, beside: Option<SideKey>, ctx: &mut LegCtx<'_>) {
        self.data.beside = beside;
        self.take_over(Restored::Moved { epoch: 0 }, ctx);
    }

    /// Ports are of the other node: new ones are bound, and the peer does not know them.
    pub(super) fn take_over(&mut self, why: Restored, ctx: &mut LegCtx<'_>) {
        let agreement = &mut self.data.agreement;
        let former = self.moved.and_then(|moved| moved.origin);
        self.moved = Some(Moved {
            origin: former.or_else(|| agreement.origin()),
            is_untold: agreement.described().is_some(),
        });
        if let Some(protection) = agreement.protection_mut() {
            protection.renew(ctx.rng());
        }
        self.data.local = None;
        if self.data.state == State::Undecided {
            return ctx.store();
        }
        self.reopen(why, ctx);
    }

    /// The ports are gone: the recorded ones are bound again, if there are any, and our numbers go on
    /// past the reserve.
    fn reopen(&mut self, why: Restored, ctx: &mut LegCtx<'_>) {
        let waiting = match &mut self.data.state {
            State::Opening { waiting, .. } => waiting.take(),
            State::Undecided | State::Open | State::Closed => None,
        };
        if let Some(protection) = self.data.agreement.protection_mut() {
            protection.resume();
        }
        self.data.state = State::Opening {
            waiting,
            failures: 0,
        };
        self.data.is_carried = self.data.latched.is_some();
        let (clock, now) = (self.clock(), ctx.now());
        let is_protected = self.data.agreement.protection().is_some();
        if let Some(numbers) = &mut self.data.numbers {
            match why {
                Restored::Moved { .. } => numbers.follow(clock, now),
                // Another node may go on from where this copy ends, under the same keys.
                Restored::TakenOver { may_live: true, .. } if is_protected => {
                    numbers.leave_room();
                    numbers.skip(clock, now);
                }
                Restored::StartedAlone | Restored::Adopted { .. } if is_protected => {
                    // The room that another heir of this copy has left, and what that one has used.
                    numbers.leave_room();
                    numbers.leave_room();
                    numbers.skip(clock, now);
                }
                Restored::NodeStart
                | Restored::StartedAlone
                | Restored::TakenOver { .. }
                | Restored::Adopted { .. }
                | Restored::Panic
                | Restored::Wake => numbers.skip(clock, now),
            }
        }
        ctx.store_and_gate();
        self.open(ctx);
    }
}
