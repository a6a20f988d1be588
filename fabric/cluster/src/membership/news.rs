//! What an input has brought, and how it is told: the view first, then who is missing from it.
//!
//! In: what the gossip engine noticed, and verdicts of the evidence. Out: the input's actions.

use contract::{NodeInst, Time};
use foca::OwnedNotification;

use super::action::Action;
use super::evidence::Proof;
use super::identity::Identity;
use super::machine::{Membership, Phase};
use super::meta::NodeMeta;
use super::timers::Timer;
use super::view::{Member, View};

/// What one input brought, until it is told.
#[derive(Default)]
pub(super) struct News {
    pub(super) actions: Vec<Action>,
    pub(super) is_view_doubtful: bool,
    pub(super) has_rejoined: bool,
    pub(super) fallen: Vec<(NodeInst, Proof)>,
    pub(super) superseded_by: Option<NodeInst>,
}

impl Membership {
    /// Takes what the gossip engine noticed.
    pub(super) fn note(&mut self, notification: OwnedNotification<Identity>, now: Time) {
        match notification {
            OwnedNotification::MemberUp(id) => {
                self.news.is_view_doubtful = true;
                self.evidence.clear(id.inst);
                self.told_down.remove(&id.inst.node);
            }
            OwnedNotification::MemberDown(id) => {
                self.news.is_view_doubtful = true;
                let proof = self.proof(id.inst, now);
                self.news.fallen.push((id.inst, proof));
            }
            OwnedNotification::Rename(before, after) => {
                self.news.is_view_doubtful = true;
                self.note_restart(before.inst, after.inst);
            }
            OwnedNotification::Active => self.settle_in(),
            OwnedNotification::Idle | OwnedNotification::Defunct => {
                self.is_connected = false;
                self.arm_seeds(now);
            }
            OwnedNotification::Rejoin(_) => self.news.has_rejoined = true,
        }
    }

    /// Somebody is there: the seeds need not be asked.
    pub(super) fn settle_in(&mut self) {
        self.is_connected = true;
        self.seed_tries = 0;
        self.timers.clear(Timer::Seeds);
    }

    /// A later start of a node proves that the earlier one is dead, whether it was there or was
    /// told to be silent.
    fn note_restart(&mut self, before: NodeInst, after: NodeInst) {
        let told = self.told_down.get(&before.node);
        let told = told.filter(|(inst, _)| *inst == before);
        let is_news = match told {
            Some((_, proof)) => *proof < Proof::Dead,
            None => self.view.contains(before),
        };
        if before.boot < after.boot && is_news {
            self.news.fallen.push((before, Proof::Dead));
        }
    }

    /// Closes an input: compares the view, tells the news.
    pub(super) fn finish(&mut self, now: Time) -> Vec<Action> {
        if self.news.has_rejoined {
            self.resume(now);
        }
        let news = std::mem::take(&mut self.news);
        let mut actions = news.actions;
        if news.has_rejoined {
            actions.push(Action::Rejoin);
        }
        if news.is_view_doubtful {
            let view = self.current_view();
            if view != self.view {
                self.view = view;
                actions.push(Action::View(self.view.clone()));
            }
        }
        for (inst, proof) in news.fallen {
            self.tell_down(inst, proof, &mut actions);
        }
        let silent: Vec<NodeInst> = self
            .told_down
            .values()
            .filter(|(_, proof)| *proof == Proof::Silent)
            .map(|(inst, _)| *inst)
            .collect();
        for inst in silent {
            let proof = self.proof(inst, now);
            self.tell_down(inst, proof, &mut actions);
        }
        if let Some(inst) = news.superseded_by {
            self.phase = Phase::Left;
            actions.push(Action::Superseded(inst));
        }
        actions
    }

    fn tell_down(&mut self, inst: NodeInst, proof: Proof, actions: &mut Vec<Action>) {
        let told = self.told_down.get(&inst.node);
        let is_news = told.is_none_or(|(known, said)| *known != inst || *said < proof);
        if is_news && !self.view.contains(inst) {
            self.told_down.insert(inst.node, (inst, proof));
            actions.push(Action::Down(inst, proof));
        }
    }

    /// Makes the view of what is known now.
    pub(super) fn current_view(&self) -> View {
        let own = self.own();
        let others = self.gossip.iter_members().map(|member| *member.id());
        let all = others
            .filter(|id| id.inst.node != own.inst.node)
            .chain([own]);
        View::new(all.map(|id| self.member_of(id)).collect())
    }

    fn member_of(&self, id: Identity) -> Member {
        let meta = self.metas.meta(id.inst);
        let meta = meta.cloned().unwrap_or_else(NodeMeta::unheard);
        Member {
            inst: id.inst,
            address: id.address,
            state: meta.state,
            meta,
        }
    }
}
