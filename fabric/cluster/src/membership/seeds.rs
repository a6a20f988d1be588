//! Finding the cluster: the seeds, and members known from before.
//!
//! In: that there is no active member. Out: announcements, every 1 to 2 s.

use std::time::Duration;

use contract::Time;

use super::action::Action;
use super::identity::Identity;
use super::machine::Membership;
use super::timers::Timer;

impl Membership {
    /// Announces us to the seeds and to a few members that we know, wherever they are now.
    pub(super) fn ask_seeds(&mut self, now: Time) {
        let seeds = self.seeds.clone();
        for seed in seeds {
            self.news.actions.push(Action::Greet(seed));
            self.drive(now, |gossip, out| {
                gossip.announce(Identity::whoever(seed), out)
            });
        }
        for id in self.choose(OLD_FRIENDS, |_| true) {
            self.drive(now, |gossip, out| gossip.announce(id, out));
        }
        self.arm_seeds(now);
    }

    /// The first tries follow each other fast, so that a lost datagram costs a join little.
    pub(super) fn arm_seeds(&mut self, now: Time) {
        let jitter = self.chance.below(JITTER_MS);
        let wait = match FIRST_TRIES_MS.get(self.seed_tries as usize) {
            Some(wait_ms) if !self.has_known_members() => *wait_ms + jitter / 10,
            Some(_) | None => LONELY_MS + jitter,
        };
        self.seed_tries = self.seed_tries.saturating_add(1);
        let at = now + Duration::from_millis(u64::from(wait));
        self.timers.set(Timer::Seeds, at);
    }

    fn has_known_members(&self) -> bool {
        let own = self.own().inst.node;
        let mut state = self.gossip.iter_membership_state();
        state.any(|member| member.id().inst.node != own)
    }

    /// Chooses at most `count` known others that `fits` likes, each with the same chance.
    pub(super) fn choose(
        &mut self,
        count: usize,
        fits: impl Fn(&foca::Member<Identity>) -> bool,
    ) -> Vec<Identity> {
        let own = self.own().inst.node;
        let state = self.gossip.iter_membership_state();
        let mut ids: Vec<Identity> = state
            .filter(|member| member.id().inst.node != own && fits(member))
            .map(|member| *member.id())
            .collect();
        ids.sort_unstable();
        let mut chosen = Vec::with_capacity(count.min(ids.len()));
        while chosen.len() < count && !ids.is_empty() {
            let left = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            chosen.push(ids.swap_remove(self.chance.below(left) as usize));
        }
        chosen
    }
}

/// Without an active member for so long, the seeds are asked again (`cluster.md` §2).
/// Not 5 s as there: a node that outlived all others is found by them before anybody takes its calls
/// for dead.
const LONELY_MS: u32 = 1_000;
/// Waits before the first repetitions of a join.
const FIRST_TRIES_MS: [u32; 1] = [500];
/// Spreads nodes that lost the cluster together.
const JITTER_MS: u32 = 1_000;
/// Members known from before that are asked too, so that a seed finds the others again.
const OLD_FRIENDS: usize = 3;
