//! What an application orders of a call (`interfaces.md` §4): hold, transfer, digits, its end.
//!
//! In: orders, from the console of any node. Out: the transitions of the other files, and one answer to who
//! asked, behind the commit gate. An order that bears a command's name is carried out once: its answer is
//! kept with the call, so that who has lost a connection or a node says it again, there or elsewhere, and
//! hears the same.
//!
//! | order | does | refused with |
//! |---|---|---|
//! | Hangup | the call ends with that cause | – |
//! | Transfer | the party that stays is put through, as by a REFER of the other one (`transfer.rs`) | 409 nobody talks; 403, 422 as a REFER with 403, 404 |
//! | Hold | nothing of the other party reaches this one, which is offered only to listen | 409 nobody talks |
//! | Hold, held already; Unhold, not held | nothing | – |
//! | Unhold | both are heard again; this one is offered both ways | 409 nobody talks |
//! | Digits | played to the party (RFC 4733), or told (INFO, JSON) | 409 nobody talks |
//! | any, while parties or their media are changed | – | 409 |
//! | any but Hangup, no media legs | – | 409 |
//!
//! A party that refuses to be held talks on, and a party that goes to another call or is put through is held
//! no more.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use contract::ActorId;
use contract::limits::CALL_COMMANDS_KEPT_MAX;
use serde::{Deserialize, Serialize};

use super::core::{Call, CallCtx, Peer, State};
use super::exchange::Exchange;
use super::outcome;
use super::transfer::Refer;
use crate::media_leg::Want;
use crate::registration::settings::Fault;
use crate::{console, dialog, media_leg};
use media::sdp::Direction;

/// An application wants something of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steer {
    /// Console that is told `Steered`.
    pub reply: ActorId,
    /// What the answer carries back as it is.
    pub echo: String,
    /// Name of the command: said once more, it is not carried out again.
    pub command: Option<String>,
    /// What.
    pub order: Order,
}

/// What an application may want of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Its end.
    Hangup {
        /// Q.850 cause word; an unknown one counts as `NORMAL_CLEARING`.
        cause: String,
    },
    /// A party is put through; the other one leaves.
    Transfer {
        /// Who stays.
        party: Party,
        /// To whom: `1000`, `1000@domain`, `sip:1000@domain`.
        to: String,
    },
    /// A party is put on hold.
    Hold {
        /// Who.
        party: Party,
    },
    /// A party is taken off hold.
    Unhold {
        /// Who.
        party: Party,
    },
    /// Digits are played to a party.
    Digits {
        /// To whom.
        party: Party,
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digits: String,
        /// Length of each.
        duration: Duration,
    },
}

/// A party of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// For whom others are called: at first who called.
    Caller,
    /// Whom it talks to.
    Callee,
}

/// What applications have ordered of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Steering {
    /// Parties on hold by order.
    held: BTreeSet<u8>,
    /// The last commands and their answers. Bound: `CALL_COMMANDS_KEPT_MAX`, the oldest go.
    done: VecDeque<(String, Result<(), Fault>)>,
}

impl Steering {
    /// Tells whether a party is on hold by order.
    pub(super) fn holds(&self, side: u8) -> bool {
        self.held.contains(&side)
    }

    fn answer_to(&self, command: &str) -> Option<&Result<(), Fault>> {
        let known = self.done.iter().find(|(known, _)| known == command);
        known.map(|(_, answer)| answer)
    }

    fn keep(&mut self, command: String, answer: Result<(), Fault>) {
        if self.done.len() >= CALL_COMMANDS_KEPT_MAX {
            self.done.pop_front();
        }
        self.done.push_back((command, answer));
    }
}

impl Call {
    /// An application orders something; it hears whether that is done, or why not.
    pub(super) fn on_steer(&mut self, steer: Steer, ctx: &mut CallCtx<'_>) {
        let Steer {
            reply,
            echo,
            command,
            order,
        } = steer;
        let known = command
            .as_ref()
            .and_then(|name| self.steering.answer_to(name));
        let result = match known {
            Some(known) => known.clone(),
            None => {
                let result = self.steer(order, ctx);
                if let Some(command) = command {
                    self.steering.keep(command, result.clone());
                    self.is_changed = true;
                }
                result
            }
        };
        self.tell(reply, console::Message::Steered { echo, result }.into());
    }

    fn steer(&mut self, order: Order, ctx: &mut CallCtx<'_>) -> Result<(), Fault> {
        match order {
            Order::Hangup { cause } => {
                let cause = outcome::known_cause(&cause);
                self.end(outcome::status_of_cause(cause), cause, "application", ctx);
                Ok(())
            }
            Order::Transfer { party, to } => self.put_through(party, &to, ctx),
            Order::Hold { party } => self.hold(party, true, ctx),
            Order::Unhold { party } => self.hold(party, false, ctx),
            Order::Digits {
                party,
                digits,
                duration,
            } => {
                let (side, _) = self.talking(party)?;
                self.play_digits(side, digits, duration);
                Ok(())
            }
        }
    }

    /// Returns the side of a party, and that of the other one, if they talk over media legs of ours.
    fn talking(&self, party: Party) -> Result<(u8, u8), Fault> {
        let State::Talking {
            peer: Peer::Side(callee),
        } = self.data.state
        else {
            return Err(Fault::new(409, "caller and callee do not talk"));
        };
        if self.data.is_bypassed {
            return Err(Fault::new(409, "the sound of the call does not pass here"));
        }
        let caller = self.anchor();
        Ok(match party {
            Party::Caller => (caller, callee),
            Party::Callee => (callee, caller),
        })
    }

    fn put_through(&mut self, party: Party, to: &str, ctx: &mut CallCtx<'_>) -> Result<(), Fault> {
        let (_, leaving) = self.talking(party)?;
        let Some(to) = dialog::json::address(to, &self.identity().domain) else {
            return Err(Fault::new(400, "`to` is no number or address"));
        };
        let refer = Refer {
            to,
            listener: self.data.caller.listener,
            is_proven: true,
            replaces: None,
        };
        let why = |status| match status {
            403 => Fault::new(403, "the number is another tenant's, or a feature code"),
            404 => Fault::new(422, "no route takes the number"),
            491 => Fault::new(409, "parties of the call are being changed"),
            503 => Fault::new(503, "a node of an earlier release does not know transfers"),
            _ => Fault::new(409, "the route of the number cannot be taken in a call"),
        };
        self.transfer(leaving, &refer, true, ctx).map_err(why)
    }

    /// Puts a party on hold, or takes it off.
    fn hold(&mut self, party: Party, is_held: bool, ctx: &mut CallCtx<'_>) -> Result<(), Fault> {
        let (side, other) = self.talking(party)?;
        if self.steering.holds(side) == is_held {
            return Ok(());
        }
        if self.is_busy() {
            return Err(Fault::new(409, "the media of the call are being changed"));
        }
        let Some(want) = self.stream_of(other).map(Want::of) else {
            return Err(Fault::new(409, "the other party has described nothing yet"));
        };
        match is_held {
            true => self.steering.held.insert(side),
            false => self.steering.held.remove(&side),
        };
        // At once: nobody waits for a phone that is slow to answer.
        self.reconnect();
        self.data.exchange = Some(Exchange::to_settle(side, want));
        self.drive_exchange(ctx);
        Ok(())
    }

    /// A party did not take what it was offered: it is held no more.
    pub(super) fn release(&mut self, side: u8) {
        if self.steering.held.remove(&side) {
            self.is_changed = true;
            self.reconnect();
        }
    }

    /// Parties go apart, or others come: nobody is held any more. Tells whether somebody was.
    pub(super) fn release_all(&mut self) -> bool {
        let held = std::mem::take(&mut self.steering.held);
        self.is_changed |= !held.is_empty();
        !held.is_empty()
    }

    fn reconnect(&mut self) {
        if let State::Talking { peer } = self.data.state {
            self.connect(peer);
        }
    }

    /// Tells whether two parties that talk are apart, one of them being on hold by order.
    pub(super) fn is_parted(&self, side: u8, other: u8) -> bool {
        self.steering.holds(side) || self.steering.holds(other)
    }

    /// Returns what a party is told, as far as it is not on hold by order.
    pub(super) fn as_held(&self, side: u8, want: Want) -> Want {
        if !self.steering.holds(side) {
            return want;
        }
        let direction = match want.direction {
            Direction::SendRecv | Direction::SendOnly => Direction::SendOnly,
            Direction::RecvOnly | Direction::Inactive => Direction::Inactive,
        };
        Want { direction, ..want }
    }

    /// Returns what the other party hears of one that is on hold by order: nothing of it.
    pub(super) fn as_if_free(&self, side: u8, want: Want) -> Want {
        match self.steering.holds(side) {
            true => Want {
                direction: Direction::SendRecv,
                ..want
            },
            false => want,
        }
    }

    /// Plays digits to a party: in its media, and by word if it hears none there.
    pub(super) fn play_digits(&mut self, to: u8, digits: String, duration: Duration) {
        for digit in digits.chars() {
            self.tell_dialog(to, dialog::Message::Digit { digit });
        }
        self.tell_leg(to, media_leg::Message::Digits { digits, duration });
    }
}
