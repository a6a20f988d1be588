//! Two nodes that were cut apart had the call: the one that took it over may still wait whether its
//! callees ring elsewhere, or for the caller's ACK, and the other one, which it could not hear, may have
//! connected the caller meanwhile, or called somebody (`cluster.md` §5, §8).
//!
//! In: the record of that one, which comes when it hears that it has lost the call (`crate::bequest`).
//! Out: `Adopt`, or the end of what only it had.
//!
//! | the call here | if the caller was answered there | whom only the other one has called, or heard answer |
//! |---|---|---|
//! | rings, forks not yet called anew | it goes on as it was there, its parties are told where we are | the same |
//! | answers the caller for the same callee, no ACK yet | it goes on as it was there, if the ACK is there | the same |
//! | is not answered, otherwise | it ends: calling anew has ended what callees had there | hear CANCEL or BYE |
//! | ends, and has not answered the caller | the caller hears BYE | the same |
//! | is answered, or ends otherwise | goes on | the same |
//! | is over | begins once more as it was there, ending: all parties hear BYE | the same |

use bytes::Bytes;
use contract::limits::SIDES_PER_CALL_MAX;
use contract::{Action, ActorId, CallKey};

use super::Snapshot;
use super::core::{AnswerStage, CALLER, Call, CallCtx, Data, Peer, Side, Stage, State, Timer};
use crate::roster::stored_call;
use crate::{bequest, dialog};

/// Why what only the other copy had is ended.
pub(super) const CAUSE: &str = "NETWORK_OUT_OF_ORDER";

impl Data {
    /// Tells whether the caller has no answer, or no other than that there is none.
    pub(super) const fn has_left_caller_unanswered(&self) -> bool {
        let is_open = self.state.is_unanswered() || matches!(self.state, State::Ending(_));
        is_open && self.answered.is_none()
    }

    /// Tells whether another copy knows better, though the caller is being answered here, too: there its
    /// ACK has come, and the callee is the same. To the caller our 200 is that one once more: it sends the
    /// same ACK again, whatever ours describes (RFC 3261 §13.2.2.4). Ports, credentials and keys that both
    /// parties use are known only there.
    pub(super) fn is_behind(&self, theirs: &Data) -> bool {
        let State::Answering { peer, stage } = &self.state else {
            return false;
        };
        let awaits_ack = match stage {
            AnswerStage::Callee | AnswerStage::Caller => self.answered.is_none(),
            AnswerStage::Sent => true,
            AnswerStage::Closing(_) => false,
        };
        awaits_ack && theirs.acknowledged() == Some(*peer)
    }

    /// Returns who the caller talks to, or is about to, if its ACK has come.
    const fn acknowledged(&self) -> Option<Peer> {
        match &self.state {
            State::Talking { peer }
            | State::Answering {
                peer,
                stage: AnswerStage::Closing(_),
            } => Some(*peer),
            State::New
            | State::Preparing
            | State::Locating { .. }
            | State::Ringing
            | State::Answering { .. }
            | State::Ending(_)
            | State::Over => None,
        }
    }
}

impl Call {
    /// Builds the core of a call that has ended, to end what the other node had of it.
    pub(super) fn begin_to_end(key: CallKey, parts: &[(ActorId, Bytes)]) -> Option<Self> {
        Some(Call::of_data(Data {
            state: State::New,
            ..own_part(key, parts)?.into_data()
        }))
    }

    /// A node that was cut off had the call, too.
    pub(super) fn on_bequest(
        &mut self,
        mut parts: Vec<(ActorId, Bytes)>,
        mut unknown: Vec<ActorId>,
        ctx: &mut CallCtx<'_>,
    ) {
        parts.retain(|(id, _)| id.call() == Some(self.data.key));
        unknown.truncate(usize::from(SIDES_PER_CALL_MAX));
        let Some(theirs) = own_part(self.data.key, &parts) else {
            return ctx.ignore("no copy of this call");
        };
        if self.data.state == State::New {
            return self.begin_the_end(parts, theirs, ctx);
        }
        let is_answered = theirs.is_answered();
        let waits = self.data.state == State::Ringing && self.timers.due(Timer::CallAnew).is_some();
        let is_behind = self.data.is_behind(&theirs.into_data()) && !self.has_another(&unknown);
        if (is_answered && waits) || is_behind {
            tracing::info!(call = %self.data.key, "goes on as the node had it that was cut off");
            return self.out.push(Action::Adopt { parts });
        }
        let caller = ActorId::Dialog(self.side_key(CALLER));
        // Who was answered there waits for no answer from here.
        let is_left = is_answered && self.data.has_left_caller_unanswered();
        for (id, part) in parts {
            if (is_left && id == caller) || unknown.contains(&id) {
                self.end_dialog_of_other(part);
            }
        }
        // Who is being put through was answered here.
        if is_answered && self.data.state.is_unanswered() && self.roles.transfer.is_none() {
            self.end(502, CAUSE, "weft", ctx);
        }
    }

    /// Tells whether the callee's dialog there is not the one here: its side has been taken twice.
    fn has_another(&self, unknown: &[ActorId]) -> bool {
        let callee = self.callee_side();
        callee.is_some_and(|side| unknown.contains(&ActorId::Dialog(self.side_key(side))))
    }

    /// Begins once more, as that node had it, only to end.
    fn begin_the_end(
        &mut self,
        mut parts: Vec<(ActorId, Bytes)>,
        theirs: Snapshot,
        ctx: &mut CallCtx<'_>,
    ) {
        let id = ActorId::Call(self.data.key);
        let ended = theirs.ended_elsewhere(ctx.now());
        let Some((_, own)) = parts.iter_mut().find(|(part, _)| *part == id) else {
            return ctx.ignore("no copy of this call");
        };
        if let Some(ended) = bequest::in_words_of(own, ended) {
            *own = ended;
            tracing::info!(call = %self.data.key, "ends as the node had it that was cut off");
            self.out.push(Action::Adopt { parts });
        }
    }

    /// Ends a dialog that only the other copy has, as one more side.
    fn end_dialog_of_other(&mut self, part: Bytes) {
        let Some(side) = self.take_side() else {
            tracing::warn!(call = %self.data.key, "a dialog of another copy is left as it is");
            return;
        };
        tracing::info!(call = %self.data.key, "ends a dialog that only the node had that was cut off");
        let known = Side::new(Stage::Leaving, false);
        self.data.sides.insert(side, known);
        let dialog = ActorId::Dialog(self.side_key(side));
        self.spawn(dialog, dialog::Message::Inherit { part }.into());
        self.tell_end(side, 502, CAUSE);
    }
}

fn own_part(key: CallKey, parts: &[(ActorId, Bytes)]) -> Option<Snapshot> {
    let own = parts.iter().find(|(part, _)| *part == ActorId::Call(key));
    own.and_then(|(_, part)| stored_call(part))
}
