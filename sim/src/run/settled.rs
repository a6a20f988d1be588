//! What must be right at the end: checks in the calm phase, and when everybody has hung up.
//!
//! In: nodes, disks, phones. Out: broken promises.

use std::net::SocketAddr;
use std::time::Duration;

use contract::Time;

use super::Run;
use crate::checkers::{bounds, holders, kept_binding, kept_call, quarantined, reached};
use crate::cluster::Watch;
use crate::node::sip_address;
use crate::phone::Phone;
use crate::station::Station;
use crate::ways::Ways;

/// Time after the last fault in which the nodes of a cluster agree (`cluster.md` §14).
const SETTLE: Duration = Duration::from_secs(10);
/// Time in which a commit that is under way is at its holders.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// Time that a console has for its answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Time in which a phone that is called has answered.
const REACH: Duration = Duration::from_secs(12);

impl Run {
    /// At settle: the nodes agree on who is there, and each console answers for all.
    pub(super) async fn check_cluster(&mut self) {
        if !self.is_cluster() {
            return;
        }
        let settled = self.world.now().mono + SETTLE;
        self.until(settled).await;
        self.world.state().is_settled = true;
        Watch::check_views(&self.world, &self.running());
        let newest = holders::newest(&self.disks);
        self.until(settled + UNDER_WAY).await;
        holders::check(&self.world, &self.disks, &newest);
        let rows = self
            .running()
            .into_iter()
            .map(|node| (node.life(), node.rows()));
        holders::check_owners(&self.world, &self.disks, &rows.collect::<Vec<_>>());
        let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
        let nodes: Vec<_> = nodes.collect();
        self.watch.ask_consoles(&self.world, &nodes);
        self.until(settled + UNDER_WAY + ANSWER).await;
        self.watch.check_answers(&self.world, &self.running());
    }

    /// Checks what the phones that began at a place were promised.
    pub(super) fn check_bindings(&self, at: usize) {
        for promised in self.crowd.promised(at) {
            kept_binding::check(&self.world, &self.disks, &self.keys.ids(), &promised);
        }
    }

    /// An operator looks once a second, each time at something else.
    pub(super) fn ask_console(&self, now: Time) {
        for place in &self.places {
            let Some(node) = &place.node else { continue };
            // Each console is asked something else.
            let number = now.as_micros() / 1_000_000 + u64::from(place.number - 1);
            let heard = node.ask_console(number);
            self.world.count(if heard {
                "questions to the console"
            } else {
                "questions refused"
            });
        }
    }

    /// A reader of the event log goes from node to node.
    pub(super) fn read_events(&mut self) {
        let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
        if let Some(reader) = &mut self.reader {
            reader.look(&self.world, &nodes.collect::<Vec<_>>());
        }
    }

    pub(super) fn check_bounds(&self) {
        for node in self.running() {
            bounds::check(&self.world, &node.tabled_rows());
        }
    }

    /// I19: who lacks something owns nothing.
    pub(super) fn check_quarantined(&self) {
        for node in self.running() {
            if node.is_quarantined() {
                self.world.count("mark: a look at a quarantined node");
                quarantined::check(&self.world, &node.rows());
            }
        }
    }

    pub(super) fn check_settled(&mut self) {
        for at in 0..self.places.len() {
            self.check_bindings(at);
        }
        for handset in self.crowd.handsets() {
            handset.with(|phone| {
                kept_call::check_sound(&self.world, phone);
                if phone.registered_until.is_none() {
                    self.world
                        .broken("V2", format!("{} is not registered at settle", phone.user));
                }
            });
        }
        for tab in self.crowd.tabs() {
            tab.with(|client| {
                kept_call::check_client(&self.world, client);
                if client.registered_until.is_none() {
                    self.world
                        .broken("V2", format!("{} is not registered at settle", client.user));
                }
            });
        }
        for node in self.running() {
            node.check_tree(&self.world);
        }
        let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
        if let Some(reader) = &mut self.reader {
            reader.check(&self.world, &nodes.collect::<Vec<_>>());
        }
    }

    pub(super) fn check_empty(&mut self) {
        if self.world.state().broken.is_some() {
            return;
        }
        for node in self.running() {
            bounds::check_empty(&self.world, &node.rows(), &node.open_legs());
        }
        let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
        if let Some(reader) = &mut self.reader {
            reader.check_ends(&self.world, &nodes.collect::<Vec<_>>());
        }
        let talked = self.crowd.talked();
        *self
            .world
            .state()
            .counts
            .entry("calls answered".to_owned())
            .or_default() += talked;
    }

    /// From each node somebody calls everybody.
    pub(super) async fn call_the_roll(&mut self) {
        if !self.is_cluster() || self.world.state().broken.is_some() {
            return;
        }
        self.crowd.be_ready();
        let users = self.crowd.users();
        let mut probes = Vec::new();
        for place in &self.places {
            let address = SocketAddr::from((probe_host(place.number), 5_060));
            let label = format!("probe {}", place.number);
            let chance = self.world.state().chance.split(&label);
            let ways = Ways::only(sip_address(place.number), chance.split("ways"));
            let probe = Phone::probe(reached::USER, address, chance, self.world.now().mono);
            let probe = Station::place(&self.world, probe, ways);
            for user in &users {
                probe.drive(&self.world, |probe, now, out| probe.ring(user, now, out));
            }
            probes.push((place.number, probe));
        }
        self.until(self.world.now().mono + REACH).await;
        for (number, probe) in &probes {
            probe.with(|probe| reached::check(&self.world, *number, &users, probe));
            probe.drive(&self.world, |probe, now, _| probe.hang_up(now));
        }
    }
}

/// Returns the host of the phone that calls from a node.
fn probe_host(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [10, 2, high, low]
}
