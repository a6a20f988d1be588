//! Paths against a browser as `browser.md` measured one, and against each other, in a world of
//! virtual time: datagrams with a delay, links that die, nodes that are killed and come back.

use std::collections::{BTreeMap, BTreeSet};

use contract::IceCredentials;
use contract::limits::STUN_MESSAGE_BYTES_MAX;

use super::tests::{address, at, config, credentials};
use super::*;
use crate::stun::{IntegrityKey, Role, TransactionId, Writer, is_stun};

/// One way of a link, in microseconds.
const DELAY: Duration = Duration::from_micros(200);
const RTP: [u8; 4] = [0x80, 0, 0, 0];
/// A browser gives up, drops its pairs and checks no more after this silence (Q2).
const FAILED: Duration = Duration::from_millis(17_200);

fn integrity(owner: &IceCredentials) -> IntegrityKey {
    IntegrityKey::new(owner.pwd.expose().as_bytes())
}

/// A pair of a browser.
#[derive(Clone, Debug)]
struct Pair {
    local: SocketAddr,
    remote: SocketAddr,
    pinged: Option<Time>,
    answered: Option<Time>,
    heard: Time,
}

/// A browser: checks its pairs, nominates the one it uses, plays what comes from a pair that passed
/// a check, moves its own media only when the used pair is silent for 2.5 s.
#[derive(Debug)]
struct Browser {
    local: IceCredentials,
    remote: IceCredentials,
    role: Role,
    interfaces: Vec<SocketAddr>,
    pairs: Vec<Pair>,
    used: Option<(SocketAddr, SocketAddr)>,
    next_number: u64,
    played: Vec<Time>,
    state_failed: bool,
}

impl Browser {
    fn new(interface: &str, node: &str) -> Self {
        Browser {
            local: credentials("page"),
            remote: credentials(node),
            role: Role::Controlling(900),
            interfaces: vec![address(interface)],
            pairs: Vec::new(),
            used: None,
            next_number: 1,
            played: Vec::new(),
            state_failed: false,
        }
    }

    fn is_controlling(&self) -> bool {
        matches!(self.role, Role::Controlling(_))
    }

    fn pair(&mut self, local: SocketAddr, remote: SocketAddr, now: Time) -> &mut Pair {
        let place = self
            .pairs
            .iter()
            .position(|pair| pair.local == local && pair.remote == remote)
            .unwrap_or_else(|| {
                self.pairs.push(Pair {
                    local,
                    remote,
                    pinged: None,
                    answered: None,
                    heard: now,
                });
                self.pairs.len() - 1
            });
        &mut self.pairs[place]
    }

    /// Learns a candidate of the node.
    fn add(&mut self, remote: SocketAddr, now: Time) {
        for local in self.interfaces.clone() {
            self.pair(local, remote, now);
        }
    }

    fn lose(&mut self, interface: SocketAddr) {
        self.interfaces.retain(|local| *local != interface);
        self.pairs.retain(|pair| pair.local != interface);
        self.used = self.used.filter(|(local, _)| *local != interface);
    }

    fn ping(&mut self, place: usize, now: Time) -> Packet {
        let number = self.next_number;
        self.next_number += 1;
        let pair = &mut self.pairs[place];
        pair.pinged = Some(now);
        let mut transaction = TransactionId::default();
        transaction.0[..8].copy_from_slice(&number.to_be_bytes());
        let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
        let mut writer = Writer::new(&mut buffer, Class::Request, transaction)
            .username(&self.remote.ufrag, &self.local.ufrag)
            .priority(0x7eff_ffff)
            .role(self.role);
        let is_used = self.used == Some((pair.local, pair.remote));
        if is_used && matches!(self.role, Role::Controlling(_)) {
            writer = writer.nominate();
        }
        let length = writer.finish(Some(&integrity(&self.remote))).unwrap();
        Packet {
            from: pair.local,
            to: pair.remote,
            octets: buffer[..length].to_vec(),
        }
    }

    /// Runs every 10 ms: checks, choice of the pair, failure.
    fn tick(&mut self, now: Time) -> Vec<Packet> {
        let alive = |pair: &Pair| now.since(pair.heard) < FAILED;
        self.pairs.retain(alive);
        if self.pairs.is_empty() {
            self.used = None;
            self.state_failed = true;
        }
        self.choose(now);
        let mut packets = Vec::new();
        for place in 0..self.pairs.len() {
            let pair = &self.pairs[place];
            let is_good = pair
                .answered
                .is_some_and(|answered| pair.pinged.is_none_or(|pinged| answered >= pinged));
            let pause = Duration::from_millis(if is_good { 2_500 } else { 480 });
            if pair.pinged.is_none_or(|pinged| now.since(pinged) >= pause) {
                packets.push(self.ping(place, now));
            }
        }
        packets
    }

    fn choose(&mut self, now: Time) {
        let used = self.used.and_then(|(local, remote)| {
            self.pairs
                .iter()
                .find(|pair| pair.local == local && pair.remote == remote)
        });
        let is_fine = used.is_some_and(|pair| now.since(pair.heard) < Duration::from_millis(2_500));
        if is_fine {
            return;
        }
        let best = self
            .pairs
            .iter()
            .filter(|pair| pair.answered.is_some())
            .max_by_key(|pair| pair.heard)
            .map(|pair| (pair.local, pair.remote));
        if let Some(best) = best
            && self.used != Some(best)
        {
            self.used = Some(best);
            let place = self
                .pairs
                .iter()
                .position(|pair| (pair.local, pair.remote) == best)
                .unwrap();
            self.pairs[place].pinged = None;
        }
    }

    fn receive(&mut self, packet: &Packet, now: Time) -> Vec<Packet> {
        if !self.interfaces.contains(&packet.to) {
            return Vec::new();
        }
        if !is_stun(&packet.octets) {
            let known = self
                .pairs
                .iter_mut()
                .find(|pair| pair.local == packet.to && pair.remote == packet.from);
            if let Some(pair) = known {
                pair.heard = now;
                self.played.push(now);
            }
            return Vec::new();
        }
        let message = Message::read(&packet.octets).unwrap();
        match message.class {
            Class::Request => self.on_check(packet, &message, now),
            Class::Success => {
                assert!(message.is_authentic(&integrity(&self.remote)));
                let pair = self.pair(packet.to, packet.from, now);
                (pair.answered, pair.heard) = (Some(now), now);
                self.choose(now);
                Vec::new()
            }
            Class::Error => {
                assert_ne!(message.error.unwrap().code, 487, "no conflict was made");
                Vec::new()
            }
            Class::Indication => Vec::new(),
        }
    }

    fn on_check(&mut self, packet: &Packet, message: &Message<'_>, now: Time) -> Vec<Packet> {
        let wanted = (self.local.ufrag.as_str(), self.remote.ufrag.as_str());
        if message.fragments() != Some(wanted) {
            return Vec::new();
        }
        assert!(message.is_authentic(&integrity(&self.local)) && message.has_fingerprint);
        let is_new = !self
            .pairs
            .iter()
            .any(|pair| pair.local == packet.to && pair.remote == packet.from);
        let pair = self.pair(packet.to, packet.from, now);
        pair.heard = now;
        if !self.is_controlling() && message.is_nominated {
            self.used = Some((packet.to, packet.from));
        }
        let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
        let length = Writer::new(&mut buffer, Class::Success, message.transaction)
            .mapped(packet.from)
            .finish(Some(&integrity(&self.local)))
            .unwrap();
        let mut packets = vec![Packet {
            from: packet.to,
            to: packet.from,
            octets: buffer[..length].to_vec(),
        }];
        if is_new {
            let place = self.pairs.len() - 1;
            packets.push(self.ping(place, now));
        }
        packets
    }
}

#[derive(Clone, Debug)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    octets: Vec<u8>,
}

/// One node process that is up.
struct Node {
    address: SocketAddr,
    path: Path,
    /// RTP taken from the browser.
    taken: Vec<Time>,
    events: Vec<(Time, PathOutput)>,
}

/// The browser, nodes, and what is under way between them.
struct World {
    now: Time,
    browser: Browser,
    nodes: Vec<Node>,
    flight: BTreeMap<(Time, u64), Packet>,
    sent: u64,
    /// So many of 100 datagrams are lost.
    loss_percent: u32,
    chance: Entropy,
}

impl World {
    fn new(browser: Browser) -> Self {
        World {
            now: at(0),
            browser,
            nodes: Vec::new(),
            flight: BTreeMap::new(),
            sent: 0,
            loss_percent: 0,
            chance: Entropy::from_seed([3; 32]),
        }
    }

    fn start(&mut self, place: &str, config: &PathConfig) -> usize {
        self.nodes.push(Node {
            address: address(place),
            path: Path::new(config, self.now),
            taken: Vec::new(),
            events: Vec::new(),
        });
        self.nodes.len() - 1
    }

    /// Ends the last node process.
    fn kill(&mut self) {
        self.nodes.pop();
    }

    fn last(&self) -> &Node {
        self.nodes.last().unwrap()
    }

    fn put(&mut self, packet: Packet) {
        self.sent += 1;
        if self.chance.below(100) < self.loss_percent {
            return;
        }
        self.flight.insert((self.now + DELAY, self.sent), packet);
    }

    /// Runs until `end`: everything in the order of its time; media each 20 ms both ways.
    fn run(&mut self, end: Time) {
        while self.now < end {
            let step = 1_000 - self.now.as_micros() % 1_000;
            let tick = Time::from_micros(self.now.as_micros() + step);
            let arrival = self.flight.keys().next().map(|(time, _)| *time);
            let due = self
                .nodes
                .iter()
                .filter_map(|node| node.path.next_due())
                .min();
            let next = [Some(tick), arrival, due]
                .into_iter()
                .flatten()
                .min()
                .unwrap();
            self.now = next.max(self.now).min(end);
            self.deliver();
            self.deadlines();
            if self.now == tick {
                self.beat();
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.flight.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let packet = entry.remove();
            let now = self.now;
            if let Some(node) = self.nodes.iter_mut().find(|node| node.address == packet.to) {
                if is_stun(&packet.octets) {
                    node.path.on_stun(packet.from, now, &packet.octets);
                } else if node.path.accepts(packet.from) {
                    node.taken.push(now);
                }
                self.outputs();
            } else {
                for answer in self.browser.receive(&packet, now) {
                    self.put(answer);
                }
            }
        }
    }

    fn deadlines(&mut self) {
        let now = self.now;
        for node in &mut self.nodes {
            if node.path.next_due().is_some_and(|due| due <= now) {
                node.path.on_time(now);
            }
        }
        self.outputs();
    }

    fn outputs(&mut self) {
        let now = self.now;
        let mut packets = Vec::new();
        for node in &mut self.nodes {
            while let Some(output) = node.path.poll() {
                match output {
                    PathOutput::Send { to, octets } => packets.push(Packet {
                        from: node.address,
                        to,
                        octets,
                    }),
                    PathOutput::Selected { .. } | PathOutput::Lost | PathOutput::Revived { .. } => {
                        node.events.push((now, output))
                    }
                }
            }
        }
        for packet in packets {
            self.put(packet);
        }
    }

    /// One millisecond: the browser's loop each 10 ms, media each 20 ms.
    fn beat(&mut self) {
        let millis = self.now.as_micros() / 1_000;
        if millis.is_multiple_of(10) {
            for packet in self.browser.tick(self.now) {
                self.put(packet);
            }
        }
        if !millis.is_multiple_of(20) {
            return;
        }
        let media: Vec<Packet> = self
            .nodes
            .iter()
            .filter_map(|node| {
                Some(Packet {
                    from: node.address,
                    to: node.path.target()?,
                    octets: RTP.to_vec(),
                })
            })
            .chain(self.browser.used.map(|(from, to)| Packet {
                from,
                to,
                octets: RTP.to_vec(),
            }))
            .collect();
        for packet in media {
            self.put(packet);
        }
    }
}

/// Returns when the first of `times` after `from` is, as a pause.
fn pause(times: &[Time], from: Time) -> Option<u128> {
    times
        .iter()
        .find(|time| **time > from)
        .map(|time| time.since(from).as_millis())
}

fn longest_gap(times: &[Time], from: Time, until: Time) -> u128 {
    let inside = times
        .iter()
        .filter(|time| **time >= from && **time <= until);
    let (mut last, mut longest) = (from, 0);
    for time in inside {
        longest = longest.max(time.since(last).as_millis());
        last = *time;
    }
    longest.max(until.since(last).as_millis())
}

const NODE: &str = "203.0.113.1:3478";
const OTHER: &str = "203.0.113.2:3478";
const PAGE: &str = "192.0.2.10:50000";

/// A browser on a node, both up for 5 s.
fn call(node: &str, page: &str) -> World {
    let mut world = World::new(Browser::new(page, "node"));
    world.browser.add(address(node), at(0));
    world.start(node, &config("node", "page", None));
    world.run(at(5_000));
    assert_eq!(world.last().path.target(), Some(address(page)));
    let gap = longest_gap(&world.browser.played, at(100), at(5_000));
    assert!(gap <= 21, "{gap}");
    assert!(longest_gap(&world.last().taken, at(100), at(5_000)) <= 21);
    world
}

#[test]
fn a_browser_is_revived_after_every_outage() {
    let mut cells = 0;
    for (node, page) in [(NODE, PAGE), ("[2001:db8::1]:3478", "[2001:db8::2]:50000")] {
        for down in [
            200u64, 500, 1_000, 2_000, 5_000, 10_000, 12_000, 17_000, 20_000, 28_000, 40_000,
        ] {
            for remembers in ["the address", "a candidate", "nothing"] {
                if remembers == "nothing" && down > 16_000 {
                    // Nobody checks anybody: the browser gave up, and we know no address.
                    continue;
                }
                let mut world = call(node, page);
                world.kill();
                world.run(at(5_000 + down));
                let back = world.now;
                assert_eq!(world.browser.state_failed, down > 17_200);
                let selected = (remembers == "the address").then_some(page);
                let place = world.start(node, &config("node", "page", selected));
                if remembers == "a candidate" {
                    world.nodes[place]
                        .path
                        .add_remote_candidate(address(page), back);
                    world.outputs();
                }
                world.run(back + Duration::from_secs(20));
                let silence = pause(&world.browser.played, back).unwrap();
                let uplink = pause(&world.last().taken, back).unwrap();
                let bound = if remembers == "nothing" { 520 } else { 40 };
                let cell = format!("{down} ms, {remembers}");
                assert!(silence <= bound, "{cell}: {silence} ms down");
                assert!(uplink <= bound, "{cell}: {uplink} ms up");
                let later = back + Duration::from_secs(1);
                assert!(
                    longest_gap(&world.browser.played, later, world.now) <= 21,
                    "{cell}"
                );
                assert!(
                    longest_gap(&world.last().taken, later, world.now) <= 21,
                    "{cell}"
                );
                cells += 1;
            }
        }
    }
    println!("{cells} outages, same address, IPv4 and IPv6: all revived");
}

#[test]
fn a_move_to_another_address_is_heard_at_once_and_followed_when_the_old_node_is_silent() {
    for down in [0u64, 20_000] {
        let mut world = call(NODE, PAGE);
        world.kill();
        world.run(at(5_000 + down));
        let back = world.now;
        world.start(OTHER, &config("node", "page", Some(PAGE)));
        world.run(back + Duration::from_secs(20));
        let silence = pause(&world.browser.played, back).unwrap();
        let uplink = pause(&world.last().taken, back).unwrap();
        println!("silent move after {down} ms: down {silence} ms, up {uplink} ms");
        assert!(silence <= 40, "{silence}");
        assert!(uplink <= 3_800, "{uplink} (Q3)");
        let later = back + Duration::from_secs(4);
        assert!(longest_gap(&world.browser.played, later, world.now) <= 21);
        assert!(longest_gap(&world.last().taken, later, world.now) <= 21);
    }
}

#[test]
fn six_kills_in_a_row_lose_nothing_but_the_outages() {
    let mut world = call(NODE, PAGE);
    for _ in 0..6 {
        world.kill();
        world.run(world.now + Duration::from_millis(100));
        world.start(NODE, &config("node", "page", Some(PAGE)));
        world.run(world.now + Duration::from_secs(2));
    }
    let gap = longest_gap(&world.browser.played, at(5_000), world.now);
    assert!(gap <= 140, "{gap}");
}

#[test]
fn a_browser_that_changes_its_address_is_followed() {
    // The interface is gone; the browser checks and nominates from another one.
    let mut world = call(NODE, PAGE);
    let new = address("198.51.100.77:40000");
    world.browser.lose(address(PAGE));
    world.browser.interfaces.push(new);
    world.browser.add(address(NODE), world.now);
    let lost = world.now;
    world.run(lost + Duration::from_secs(10));
    assert_eq!(world.last().path.target(), Some(new));
    let silence = pause(&world.browser.played, lost).unwrap();
    assert!(silence <= 60, "{silence}");
    assert!(pause(&world.last().taken, lost).unwrap() <= 60);
}

#[test]
fn a_controlled_browser_that_changes_its_address_is_followed_after_2_5_s() {
    let mut world = World::new(Browser {
        role: Role::Controlled(3),
        ..Browser::new(PAGE, "node")
    });
    world.browser.add(address(NODE), at(0));
    world.start(
        NODE,
        &PathConfig {
            is_controlling: true,
            ..config("node", "page", Some(PAGE))
        },
    );
    world.run(at(5_000));
    let new = address("198.51.100.77:40000");
    world.browser.lose(address(PAGE));
    world.browser.interfaces.push(new);
    world.browser.add(address(NODE), world.now);
    world.run(at(15_000));
    assert_eq!(world.last().path.target(), Some(new));
    let silence = pause(&world.browser.played, at(5_000)).unwrap();
    println!("controlled browser on another interface: {silence} ms down");
    assert!((2_500..=6_000).contains(&silence), "{silence}");
    assert_eq!(
        world.browser.used,
        Some((new, address(NODE))),
        "we nominated it"
    );
}

#[test]
fn the_nomination_that_follows_150_ms_later_is_followed() {
    // Q1: a browser nominates 127.0.0.1 first, then 192.0.2.2.
    let (first, second) = (address("127.0.0.1:50001"), address("192.0.2.2:50002"));
    let mut world = World::new(Browser::new("127.0.0.1:50001", "node"));
    world.browser.add(address(NODE), at(0));
    world.start(NODE, &config("node", "page", None));
    world.run(at(150));
    assert_eq!(world.last().path.target(), Some(first));
    world.browser.interfaces.push(second);
    world.browser.pair(second, address(NODE), at(150)).answered = Some(at(150));
    world.browser.used = Some((second, address(NODE)));
    world.run(at(200));
    assert_eq!(world.last().path.target(), Some(second));
    let events: Vec<&PathOutput> = world.last().events.iter().map(|(_, event)| event).collect();
    assert_eq!(
        events,
        [
            &PathOutput::Selected { remote: first },
            &PathOutput::Selected { remote: second }
        ]
    );
    world.run(at(10_000));
    assert!(longest_gap(&world.browser.played, at(100), at(10_000)) <= 41);
}

#[test]
fn an_ice_restart_of_a_browser_costs_no_media() {
    let mut world = call(NODE, PAGE);
    let new = address("192.0.2.10:50099");
    let now = world.now;
    // The page's new offer: new credentials on a new port; the old pair is used until then.
    let again = PathConfig {
        local: credentials("node2"),
        remote: Some(credentials("page2")),
        ..config("node", "page", None)
    };
    world.nodes[0].path.restart(&again, now);
    world.outputs();
    let old = std::mem::replace(
        &mut world.browser,
        Browser {
            local: credentials("page2"),
            remote: credentials("node2"),
            interfaces: vec![new, address(PAGE)],
            ..Browser::new("192.0.2.10:50099", "node2")
        },
    );
    world.browser.played = old.played;
    world.browser.next_number = old.next_number;
    world.browser.pairs = old.pairs;
    world.browser.used = old.used;
    for pair in &mut world.browser.pairs {
        pair.pinged = Some(now + Duration::from_secs(3_600));
    }
    world.run(now + Duration::from_millis(100));
    world.browser.pair(new, address(NODE), at(5_100)).pinged = None;
    world.run(now + Duration::from_millis(110));
    world.browser.lose(address(PAGE));
    world.run(now + Duration::from_secs(10));
    assert_eq!(world.last().path.target(), Some(new));
    let gap = longest_gap(&world.browser.played, now, world.now);
    assert!(gap <= 60, "{gap}");
    let taken = longest_gap(&world.last().taken, now, world.now);
    assert!(taken <= 60, "{taken}");
}

#[test]
fn a_lossy_link_does_not_end_consent() {
    for loss in [5, 10, 30, 50] {
        let mut world = World::new(Browser::new(PAGE, "node"));
        world.loss_percent = loss;
        world.browser.add(address(NODE), at(0));
        world.start(NODE, &config("node", "page", None));
        world.run(at(120_000));
        let lost = world
            .last()
            .events
            .iter()
            .filter(|(_, event)| *event == PathOutput::Lost)
            .count();
        assert_eq!(lost, 0, "{loss} % lost");
        assert_eq!(world.last().path.target(), Some(address(PAGE)));
    }
}

/// Runs two paths against each other; returns their roles and targets after 10 s.
fn duel(first: &PathConfig, second: &PathConfig) -> [(bool, Option<SocketAddr>); 2] {
    let mut world = World::new(Browser::new("192.0.2.99:1", "nobody"));
    world.browser.interfaces.clear();
    world.start(NODE, first);
    world.start(OTHER, second);
    let now = world.now;
    world.nodes[0]
        .path
        .add_remote_candidate(address(OTHER), now);
    world.nodes[1].path.add_remote_candidate(address(NODE), now);
    world.outputs();
    world.run(at(10_000));
    let mut ends = world.nodes.iter().map(|node| {
        assert!(longest_gap(&node.taken, at(500), at(10_000)) <= 21);
        (node.path.is_controlling, node.path.target())
    });
    [ends.next().unwrap(), ends.next().unwrap()]
}

#[test]
fn two_paths_find_each_other_in_every_mix_of_roles() {
    let mut cells = 0;
    let mut seen = BTreeSet::new();
    for first_controls in [true, false] {
        for second_controls in [true, false] {
            for (first_tie, second_tie) in [(1, 2), (2, 1), (5, 5), (0, u64::MAX)] {
                let first = PathConfig {
                    is_controlling: first_controls,
                    tie_breaker: first_tie,
                    seed: 1,
                    ..config("one", "two", None)
                };
                let second = PathConfig {
                    is_controlling: second_controls,
                    tie_breaker: second_tie,
                    seed: 2,
                    ..config("two", "one", None)
                };
                let [one, two] = duel(&first, &second);
                assert_ne!(
                    one.0, two.0,
                    "{first_controls} {second_controls} {first_tie}"
                );
                assert_eq!((one.1, two.1), (Some(address(OTHER)), Some(address(NODE))));
                if first_controls == second_controls && first_tie != second_tie {
                    assert_eq!(one.0, first_tie > second_tie, "RFC 8445 §7.3.1.1");
                }
                seen.insert(one.0);
                cells += 1;
            }
        }
    }
    assert_eq!(seen.len(), 2);
    println!("{cells} mixes of roles and tie-breakers: each settled");
}
