//! What members say of themselves, kept and exchanged.
//!
//! In: our own metadata, tables and broadcasts of others. Out: broadcasts, tables on connect and
//! every 30 s, answers with what the asker did not know.

use std::time::Duration;

use contract::limits::NODES_MAX;
use contract::{NodeInst, Now, Time};
use foca::State;

use super::action::{Action, MembershipFrame, Table};
use super::machine::Membership;
use super::meta::{Merged, MetaEntry, NodeMeta};
use super::timers::Timer;

impl Membership {
    /// Says something new of ourselves: state, zone, roles, versions, load.
    ///
    /// Panics: if the name is longer than `NODE_NAME_BYTES_MAX`, the zone than `ZONE_BYTES_MAX`, or
    /// a range is upside down: the configuration has checked that.
    pub fn set_meta(&mut self, meta: NodeMeta, now: Now) -> Vec<Action> {
        if !self.begin(now.mono) {
            return Vec::new();
        }
        if self.metas.meta(self.own().inst) != Some(&meta) {
            self.say(meta);
        }
        self.finish(now.mono)
    }

    /// Takes another member's table, and answers with what it does not know.
    pub fn on_table(&mut self, from: NodeInst, table: Table, now: Now) -> Vec<Action> {
        if !self.begin(now.mono) {
            return Vec::new();
        }
        if table.entries.len() > NODES_MAX {
            self.counters.entries_refused += 1;
            return self.finish(now.mono);
        }
        let answer = self.metas.newer_than(&table.entries);
        if table.is_asking && !answer.is_empty() {
            let body = MembershipFrame::Table(Table {
                entries: answer,
                is_asking: false,
            });
            self.news.actions.push(Action::Tell { to: from, body });
        }
        for entry in table.entries {
            if self.merge_entry(entry.clone()) == Merged::Taken {
                self.pass_on(&entry.write());
            }
        }
        self.finish(now.mono)
    }

    /// Broadcasts a new version of our own metadata.
    pub(super) fn say(&mut self, meta: NodeMeta) {
        self.counter += 1;
        let entry = MetaEntry {
            inst: self.own().inst,
            counter: self.counter,
            meta,
        };
        let octets = entry.write();
        let merged = self.metas.merge(entry);
        assert_eq!(merged, Merged::Taken, "our own metadata is sound and newer");
        self.pass_on(&octets);
        self.news.is_view_doubtful = true;
    }

    /// Takes an entry of another node.
    pub(super) fn merge_entry(&mut self, entry: MetaEntry) -> Merged {
        if entry.inst.node == self.own().inst.node {
            self.heed_successor(entry.inst);
            return Merged::Refused;
        }
        let merged = self.metas.merge(entry);
        match merged {
            Merged::Taken => self.news.is_view_doubtful = true,
            Merged::Known => {}
            Merged::Refused => self.counters.entries_refused += 1,
        }
        merged
    }

    fn pass_on(&mut self, octets: &[u8]) {
        if self.gossip.add_broadcast(octets).is_err() {
            self.counters.gossip_faults += 1;
        }
    }

    /// Makes a frame of all that is known.
    pub(super) fn table(&self, is_asking: bool) -> MembershipFrame {
        MembershipFrame::Table(Table {
            entries: self.metas.all(),
            is_asking,
        })
    }

    /// Exchanges the table with a few members, and sets the next time.
    pub(super) fn spread_table(&mut self, now: Time) {
        let body = self.table(true);
        let fits = |member: &foca::Member<_>| member.state() != State::Down;
        for id in self.choose(TABLE_PARTNERS, fits) {
            let to = id.inst;
            let body = body.clone();
            self.news.actions.push(Action::Tell { to, body });
        }
        self.arm_table(now);
    }

    /// Sets the next exchange: every 30 s, a tenth earlier or later, so that nodes that started
    /// together do not stay together.
    pub(super) fn arm_table(&mut self, now: Time) {
        let jitter = self.chance.below(TABLE_JITTER_MS);
        let wait = TABLE_PERIOD_MS - TABLE_JITTER_MS / 2 + jitter;
        let at = now + Duration::from_millis(u64::from(wait));
        self.timers.set(Timer::Table, at);
    }
}

const TABLE_PERIOD_MS: u32 = 30_000;
const TABLE_JITTER_MS: u32 = 6_000;
/// Members the table is exchanged with each time: news reach everybody in a few rounds.
const TABLE_PARTNERS: usize = 3;
