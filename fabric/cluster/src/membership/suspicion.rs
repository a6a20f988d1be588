//! What the transport's evidence does to members: probing now, suspecting, declaring down.
//!
//! In: connections gained and lost, what others saw, their answers. Out: suspicions and deaths that
//! foca spreads. foca can neither probe a named member nor judge evidence, so both are built here
//! from its own messages and from `apply_many`.
//!
//! | event | at once | later |
//! |---|---|---|
//! | refused, by two members or by the one of two | suspect | 200 ms without a refutation: down |
//! | that is refuted, and the refusals stand | suspect, this once | 200 ms without a refutation: down |
//! | silent, or refused as one of several | ping | 200 ms: ping, and through others; 500 ms: suspect; then 2.5 s: down |
//! | it says good-bye | down | |
//! | we were taken for dead and are back | all patience begins anew | |

use std::time::Duration;

use bytes::Bytes;
use contract::limits::NODES_MAX;
use contract::{Loss, NodeId, NodeInst, Now, Peer, Time};
use foca::{Incarnation, Member, Message, State};

use super::action::{Action, MembershipFrame};
use super::datagram::Datagram;
use super::evidence::Proof;
use super::identity::Identity;
use super::machine::{Membership, PROBE_PERIOD, PROBE_RTT, SUSPECT_TO_DOWN};
use super::timers::Timer;

/// A probe of ours that a hint of silence has started.
pub(super) struct Hint {
    inst: NodeInst,
    since: Time,
    has_asked_others: bool,
}

/// A suspicion of ours; it is void once the suspect has raised its incarnation.
pub(super) struct Doubt {
    id: Identity,
    incarnation: Incarnation,
    /// The one before was refuted, though the death is proven.
    is_renewed: bool,
}

impl Membership {
    /// Takes what another member saw of a third one.
    pub fn witness(
        &mut self,
        from: NodeInst,
        peer: NodeInst,
        refused: bool,
        now: Now,
    ) -> Vec<Action> {
        if self.begin(now.mono) && self.view.contains(from) && self.knows(peer) {
            if refused {
                self.evidence.refused(from.node, peer, now.mono);
                self.judge(peer, now.mono);
            } else {
                self.evidence.withdraw(from.node, peer);
            }
        }
        self.finish(now.mono)
    }

    /// Tells whether another node's life is known to gossip, up or down.
    fn knows(&self, inst: NodeInst) -> bool {
        inst.node != self.own().inst.node && self.known(inst).is_some()
    }

    fn known(&self, inst: NodeInst) -> Option<&Member<Identity>> {
        let mut state = self.gossip.iter_membership_state();
        state.find(|member| member.id().inst == inst)
    }

    fn active(&self, inst: NodeInst) -> Option<Member<Identity>> {
        let known = self.known(inst)?;
        match known.state() {
            State::Alive | State::Suspect => Some(known.clone()),
            State::Down => None,
        }
    }

    /// Judges a member's death by the evidence.
    pub(super) fn proof(&self, inst: NodeInst, now: Time) -> Proof {
        let mut others = self.gossip.iter_members();
        let is_one_of_two = others.all(|member| member.id().inst == inst);
        self.evidence.proof(inst, is_one_of_two, now)
    }

    /// A peer is connected: what we said against it is void, and it is asked for its members.
    pub(super) fn meet(&mut self, peer: Peer, now: Time) {
        if peer.inst.node == self.own().inst.node {
            self.heed_successor(peer.inst);
            return;
        }
        let node = peer.inst.node;
        if self.links.len() < NODES_MAX || self.links.contains_key(&node) {
            self.links.insert(node, peer.inst);
        }
        self.hints.remove(&peer.inst.node);
        self.timers.clear(Timer::Hint(peer.inst.node));
        if self.evidence.withdraw(self.own().inst.node, peer.inst) {
            let body = MembershipFrame::Witness {
                peer: peer.inst,
                refused: false,
            };
            self.tell_others(&body, Some(peer.inst));
        }
        if !self.is_connected || self.active(peer.inst).is_none() {
            let id = Identity::new(peer.inst, peer.address);
            self.drive(now, |gossip, out| gossip.announce(id, out));
        }
        let body = self.table(true);
        let to = peer.inst;
        self.news.actions.push(Action::Tell { to, body });
    }

    /// A peer cannot be reached any more.
    pub(super) fn miss(&mut self, inst: NodeInst, why: Loss, now: Time) {
        if self.links.get(&inst.node) == Some(&inst) {
            self.links.remove(&inst.node);
        }
        if !self.knows(inst) {
            return;
        }
        match why {
            Loss::Refused => {
                self.evidence.refused(self.own().inst.node, inst, now);
                let body = MembershipFrame::Witness {
                    peer: inst,
                    refused: true,
                };
                self.tell_others(&body, Some(inst));
                self.judge(inst, now);
                // Nobody else may be there to see the same.
                if !self.timers.is_set(Timer::Refused(inst.node)) {
                    self.take_hint(inst, now);
                }
            }
            Loss::Silent => self.take_hint(inst, now),
            Loss::Closed => {}
        }
    }

    /// A member leaves by its own will.
    pub(super) fn take_leave(&mut self, from: NodeInst, now: Time) {
        if self.knows(from) {
            self.evidence.left(from);
        }
        let Some(member) = self.active(from) else {
            return;
        };
        let down = Member::new(*member.id(), member.incarnation(), State::Down);
        self.drive(now, |gossip, out| {
            gossip.apply_many([down].into_iter(), true, out)
        });
    }

    /// Suspects a member whose death is proven, unless we are connected with it ourselves.
    fn judge(&mut self, inst: NodeInst, now: Time) {
        let timer = Timer::Refused(inst.node);
        let is_linked = self.links.get(&inst.node) == Some(&inst);
        if is_linked || self.timers.is_set(timer) || self.proof(inst, now) == Proof::Silent {
            return;
        }
        self.suspect(inst, timer, REFUSED_TO_DOWN, now);
    }

    /// Suspects a member and lets it know, so that it can refute until `patience` is over.
    fn suspect(&mut self, inst: NodeInst, timer: Timer, patience: Duration, now: Time) {
        let Some(member) = self.active(inst) else {
            return;
        };
        let (id, incarnation) = (*member.id(), member.incarnation());
        let suspect = Member::new(id, incarnation, State::Suspect);
        let doubt = Doubt {
            id,
            incarnation,
            is_renewed: false,
        };
        self.doubts.insert(inst.node, doubt);
        self.timers.clear(Timer::Doubt(inst.node));
        self.timers.clear(Timer::Refused(inst.node));
        self.timers.set(timer, now + patience);
        let news = suspect.clone();
        self.drive(now, |gossip, out| {
            gossip.apply_many([news].into_iter(), true, out)
        });
        self.say_to(id, Message::Gossip, vec![suspect]);
    }

    /// Declares down what is still under the very suspicion; tells whether it was.
    fn declare(&mut self, node: NodeId, now: Time) -> bool {
        let Some(Doubt {
            id, incarnation, ..
        }) = self.doubts.remove(&node)
        else {
            return false;
        };
        let still = self.active(id.inst).is_some_and(|member| {
            let same = *member.id() == id && member.incarnation() == incarnation;
            same && member.state() == State::Suspect
        });
        if still {
            let down = Member::new(id, incarnation, State::Down);
            self.drive(now, |gossip, out| {
                gossip.apply_many([down].into_iter(), true, out)
            });
            self.say_to(id, Message::TurnUndead, Vec::new());
        }
        still
    }

    /// Goes on under a new name. Foca has dropped its timers and would probe nobody until somebody
    /// answers us: who died meanwhile would be listed until then. So members are probed on, and whom
    /// we suspect gets the whole patience once more. That is no answer yet: the seeds are asked.
    pub(super) fn resume(&mut self, now: Time) {
        self.drive(now, |gossip, out| {
            gossip.apply_many(std::iter::empty(), false, out)
        });
        let members = self.gossip.iter_members();
        let suspects: Vec<NodeInst> = members
            .filter(|member| member.state() == State::Suspect)
            .map(|member| member.id().inst)
            .collect();
        for inst in suspects {
            let doubt = Timer::Doubt(inst.node);
            if !self.timers.is_set(doubt) && !self.timers.is_set(Timer::Refused(inst.node)) {
                self.suspect(inst, doubt, SUSPECT_TO_DOWN, now);
            }
        }
        self.is_connected = false;
        self.arm_seeds(now);
    }

    /// The patience with a member whose connections were refused is over.
    pub(super) fn end_refusal(&mut self, node: NodeId, now: Time) {
        let Some(doubt) = self.doubts.get(&node) else {
            return;
        };
        let (inst, is_renewed) = (doubt.id.inst, doubt.is_renewed);
        if self.proof(inst, now) == Proof::Dead {
            self.timers.clear(Timer::Doubt(node));
            if !self.declare(node, now) && !is_renewed {
                self.renew(inst, now);
            }
        } else if !self.timers.is_set(Timer::Doubt(node)) {
            // The evidence was taken back: it gets the patience of silence.
            let rest = SUSPECT_TO_DOWN.saturating_sub(REFUSED_TO_DOWN);
            self.timers.set(Timer::Doubt(node), now + rest);
        }
    }

    /// Suspects once more who has refuted while its connections are refused still: it may have been
    /// suspected before it died, and have said so with its last words, which came after the refusals;
    /// a lost connection is told once, so nothing else would bring the proof up again. Whoever lives
    /// refutes this one too, and is then left to the patience of silence.
    fn renew(&mut self, inst: NodeInst, now: Time) {
        self.judge(inst, now);
        if let Some(doubt) = self.doubts.get_mut(&inst.node) {
            doubt.is_renewed = true;
        }
    }

    /// The patience with a silent member is over.
    pub(super) fn end_doubt(&mut self, node: NodeId, now: Time) {
        self.declare(node, now);
    }

    /// A peer is said to be silent: it is probed now.
    fn take_hint(&mut self, inst: NodeInst, now: Time) {
        let Some(member) = self.active(inst) else {
            return;
        };
        if self.timers.is_set(Timer::Hint(inst.node)) {
            return;
        }
        let hint = Hint {
            inst,
            since: now,
            has_asked_others: false,
        };
        self.hints.insert(inst.node, hint);
        self.timers.set(Timer::Hint(inst.node), now + PROBE_RTT);
        self.say_to(*member.id(), Message::Ping(HINT_NUMBER), Vec::new());
    }

    /// The next step of a probe of ours, if the member was not heard meanwhile.
    pub(super) fn pursue_hint(&mut self, node: NodeId, now: Time) {
        let Some(hint) = self.hints.remove(&node) else {
            return;
        };
        let heard = self.heard.get(&node);
        if heard.is_some_and(|(inst, at)| *inst == hint.inst && *at > hint.since) {
            return;
        }
        let Some(member) = self.active(hint.inst) else {
            return;
        };
        if hint.has_asked_others {
            let doubt = Timer::Doubt(node);
            if !self.timers.is_set(doubt) && !self.timers.is_set(Timer::Refused(node)) {
                self.suspect(hint.inst, doubt, SUSPECT_TO_DOWN, now);
            }
            return;
        }
        let target = *member.id();
        self.say_to(target, Message::Ping(HINT_NUMBER), Vec::new());
        let helpers = self.choose(HELPERS, |other| {
            *other.id() != target && other.state() == State::Alive
        });
        for helper in helpers {
            let message = Message::PingReq {
                target,
                probe_number: HINT_NUMBER,
            };
            self.say_to(helper, message, Vec::new());
        }
        self.timers
            .set(Timer::Hint(node), now + (PROBE_PERIOD - PROBE_RTT));
        let asked = Hint {
            has_asked_others: true,
            ..hint
        };
        self.hints.insert(node, asked);
    }

    /// Notes who was heard, and who says of itself that it leaves (a node that comes back by a
    /// later bump says so of its earlier identity only). Only of nodes within the bound.
    pub(super) fn hear(&mut self, datagram: &Datagram, now: Time) {
        let id = datagram.header.src;
        let src = id.inst;
        self.heard.insert(src.node, (src, now));
        let says_farewell =
            |member: &Member<Identity>| *member.id() == id && member.state() == State::Down;
        if self.knows(src) && datagram.members.iter().any(says_farewell) {
            self.evidence.left(src);
        }
        if let Message::ForwardedAck { origin, .. } = datagram.header.message
            && self.knows(origin.inst)
        {
            self.heard.insert(origin.inst.node, (origin.inst, now));
        }
    }

    /// Sends a message of gossip in our name. Its incarnation 0 claims nothing: whoever knows a
    /// higher one keeps it.
    fn say_to(&mut self, to: Identity, message: Message<Identity>, members: Vec<Member<Identity>>) {
        let mut datagram = Datagram::bare(self.own(), to, message);
        datagram.members = members;
        match datagram.write() {
            Ok(bytes) => self.send(to, Bytes::from(bytes)),
            Err(_) => self.counters.gossip_faults += 1,
        }
    }
}

/// How long a member whose connections were refused may refute its death.
const REFUSED_TO_DOWN: Duration = Duration::from_millis(200);
/// Members that are asked to probe for us.
const HELPERS: usize = 3;
/// Number of our own probes; answers are told by their sender, so it needs no meaning.
const HINT_NUMBER: u8 = 0;
