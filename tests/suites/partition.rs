//! A cluster whose network is parted: both sides register phones and set up calls, no healthy call is
//! cut, and all agree soon after the network is whole again (`cluster.md` §5, §8).

#![allow(
    clippy::disallowed_methods,
    reason = "a harness waits for other processes"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_tests::cluster::{NAMES, Three, sees};
use weft_tests::lacks;
use weft_tests::media::Pump;
use weft_tests::node::Node;
use weft_tests::phone::Phone;
use weft_tests::roaming::{Roaming, all_hear, attend, attend_while};

/// How long nodes may take to agree when the network is whole again.
const SETTLED_IN: Duration = Duration::from_secs(10);

/// How long after that those are told whom no node of the larger side could reach: an INVITE is repeated
/// after 16 s at the latest (RFC 3261 §17.1.1.2), or made anew.
const TOLD_IN: Duration = Duration::from_secs(30);
/// Longest pause in a healthy call.
const SILENT_FOR: Duration = Duration::from_secs(1);

/// How long the network is parted; `WEFT_PARTITION_S` says another number of seconds.
fn parted_for() -> Duration {
    let said = std::env::var("WEFT_PARTITION_S").ok();
    let seconds = said.and_then(|text| text.parse().ok()).unwrap_or(10);
    Duration::from_secs(seconds)
}

/// Contacts of each address of record, as a node knows them.
type Contacts = BTreeMap<String, Vec<String>>;

fn contacts(node: &Node) -> Contacts {
    let rows = node.actors("registration");
    let ids = rows.iter().filter_map(|row| row["id"].as_str());
    let of = |id: &str| {
        let view = node.ask(&format!("/api/v1/actors/{id}"))?;
        let view: Value = serde_json::from_str(&view.body).ok()?;
        let bindings = view["snapshot"]["bindings"].as_array()?.clone();
        let contact = |binding: &Value| binding["contact"].as_str().unwrap_or_default().to_owned();
        let mut contacts: Vec<String> = bindings.iter().map(contact).collect();
        contacts.sort();
        Some(contacts)
    };
    let known = ids.map(|id| (id.to_owned(), of(id).unwrap_or_default()));
    known.filter(|(_, contacts)| !contacts.is_empty()).collect()
}

/// Calls and their nodes, as a node knows them.
fn calls_at(node: &Node) -> BTreeMap<String, String> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = node.actors("call");
    rows.iter()
        .map(|row| (text(row, "id"), text(row, "node")))
        .collect()
}

/// Phones of a parted network, and what they have registered.
struct World {
    three: Three,
    pump: Arc<Pump>,
    /// Addresses of phones: of those that see all nodes, the first side, the second side.
    at: [Ipv4Addr; 3],
    /// Without the phone if that is in a call.
    registered: BTreeMap<String, (Option<Phone>, SocketAddr)>,
}

/// Which nodes a phone sees.
const ALL: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;

impl World {
    /// Starts so many nodes.
    fn start(count: u8) -> Option<World> {
        if lacks(&["ip", "nft"]) {
            return None;
        }
        let three = Three::start_parted(count)?;
        let bridge = three.bridge.as_ref().expect("a bridge");
        let at = [bridge.ours(), bridge.more_ours(0), bridge.more_ours(1)];
        Some(World {
            three,
            pump: Arc::new(Pump::new()),
            at,
            registered: BTreeMap::new(),
        })
    }

    fn phone(&self, user: &str, sees: usize, node: usize) -> Phone {
        Phone::roaming_at(self.at[sees].into(), self.three.nodes[node].sip, user)
    }

    /// A phone registers with a node.
    fn register(&mut self, user: &str, sees: usize, node: usize) {
        let mut phone = self.phone(user, sees, node);
        assert_eq!(phone.register(3600).status(), 200, "{user}");
        let address = phone.address();
        self.registered
            .insert(user.to_owned(), (Some(phone), address));
    }

    /// A phone that has registered does so again with another node, or is registered no more.
    fn turns(&mut self, user: &str, node: usize, expires: u32) {
        let to = self.three.nodes[node].sip;
        let (phone, _) = self.registered.get_mut(user).expect("it is registered");
        let phone = phone.as_mut().expect("it is in no call");
        phone.turn_to(to);
        assert_eq!(phone.register(expires).status(), 200, "{user}");
        if expires == 0 {
            self.registered.remove(user);
        }
    }

    /// Connects a call to a phone that has registered, which takes no other call then.
    fn connect(&mut self, (user, sees, node): (&str, usize, usize), called: &str) -> Roaming {
        let caller = self.phone(user, sees, node);
        let (phone, _) = self.registered.get_mut(called).expect("it is registered");
        let phone = phone.take().expect("it is in no call");
        Roaming::connect(caller, phone, &self.pump)
    }

    /// A call whose callee registers for it.
    fn call(
        &mut self,
        caller: (&str, usize, usize),
        (user, sees, node): (&str, usize, usize),
    ) -> Roaming {
        self.register(user, sees, node);
        self.connect(caller, user)
    }

    /// Parts the last node, and the phones of its side, from the rest.
    fn part(&self) {
        let bridge = self.three.bridge.as_ref().expect("a bridge");
        let last = u8::try_from(self.three.nodes.len() - 1).expect("a few");
        let mut first_side: Vec<Ipv4Addr> = (0..last).map(|node| bridge.at(node)).collect();
        first_side.push(self.at[FIRST]);
        bridge.part(last, &first_side);
        for node in 0..last {
            bridge.part(node, &[self.at[SECOND], bridge.at(last)]);
        }
    }

    fn join(&self) {
        let bridge = self.three.bridge.as_ref().expect("a bridge");
        for node in 0..self.three.nodes.len() {
            bridge.join(u8::try_from(node).expect("a few"));
        }
    }

    /// What has to be registered, as the nodes say it.
    fn expected(&self) -> Contacts {
        let contact = |(user, (_, address)): (&String, &(Option<Phone>, SocketAddr))| {
            let id = format!("registration:{user}@weft.test");
            (id, vec![format!("sip:{user}@{address}")])
        };
        self.registered.iter().map(contact).collect()
    }

    /// Waits until all nodes say the same of registrations and calls, as it has to be; returns which
    /// node has each call, and how long it took.
    fn settles(&self, calls: &mut [Roaming]) -> (BTreeMap<String, String>, Duration) {
        let (began, expected) = (Instant::now(), self.expected());
        loop {
            attend(calls, &self.pump);
            let nodes = &self.three.nodes;
            let known: Vec<_> = nodes.iter().map(contacts).collect();
            let owners: Vec<_> = nodes.iter().map(calls_at).collect();
            let is_known = known.iter().all(|one| *one == expected);
            let is_owned = owners
                .iter()
                .all(|one| one.len() == calls.len() && *one == owners[0]);
            if is_known && is_owned {
                return (owners[0].clone(), began.elapsed());
            }
            assert!(
                began.elapsed() < SETTLED_IN,
                "after {:?}: {known:#?} for {expected:#?}; {owners:#?} for {} calls; logs {:?}",
                began.elapsed(),
                calls.len(),
                self.three.logs()
            );
        }
    }

    fn ends_well(&self, mut calls: Vec<Roaming>) {
        for (number, call) in calls.iter_mut().enumerate() {
            call.digits_pass(3, &self.pump);
            call.end(number % 2 == 0, &self.pump);
        }
        self.three.no_calls_left();
        let records = self.three.call_records();
        assert_eq!(records.len(), calls.len(), "{records:#?}");
        self.three.no_errors();
    }
}

/// Nobody in these calls was offered anything.
fn nobody_is_told<'a>(calls: impl IntoIterator<Item = &'a Roaming>) {
    for call in calls {
        for party in [&call.caller, &call.callee] {
            let offers = &party.offers;
            assert!(offers.is_empty(), "{}: {offers:?}", party.phone.user);
        }
    }
}

/// Calls before the network is parted: inside the first side, inside the second one, of phones that see
/// all nodes.
fn calls_before(world: &mut World, last: usize) -> Vec<Roaming> {
    vec![
        world.call(("1006", FIRST, 0), ("1007", FIRST, 0)),
        world.call(("1008", FIRST, last - 1), ("1009", ALL, last)),
        world.call(("1010", SECOND, last), ("1011", SECOND, last)),
        world.call(("1012", ALL, last), ("1013", ALL, last)),
    ]
}

fn longest_pause(calls: &[Roaming], pump: &Pump) -> Duration {
    let sockets = calls.iter().flat_map(Roaming::sockets);
    let pauses = sockets.map(|at| pump.heard(at).pause);
    pauses.max().unwrap_or_default()
}

/// All phones of these calls are heard until so much time has passed.
fn heard_until(calls: &mut [Roaming], pump: &Pump, until: Instant) {
    all_hear(calls, pump, 10);
    while Instant::now() < until {
        all_hear(calls, pump, 1);
    }
}

#[test]
fn both_sides_of_two_and_one_go_on_and_agree_afterwards() {
    let Some(mut world) = World::start(3) else {
        return;
    };
    for (user, sees, node) in [
        ("1000", FIRST, 0),
        ("1001", FIRST, 1),
        ("1002", SECOND, 2),
        ("1003", SECOND, 2),
        ("1004", ALL, 2),
        ("1005", ALL, 0),
    ] {
        world.register(user, sees, node);
    }
    let mut calls = calls_before(&mut world, 2);
    all_hear(&mut calls, &world.pump, 10);
    world.settles(&mut calls);
    world.pump.forget_pauses();

    let cut = Instant::now();
    world.part();
    let pump = Arc::clone(&world.pump);
    let placed = attend_while(&mut calls, &pump, || {
        sees(&world.three.nodes[0], &NAMES[..2]);
        sees(&world.three.nodes[1], &NAMES[..2]);
        sees(&world.three.nodes[2], &NAMES[2..]);
        println!("each side says so {:?} after the cut", cut.elapsed());
        world.register("1016", FIRST, 0);
        world.register("1017", SECOND, 2);
        world.turns("1002", 2, 0);
        world.turns("1000", 1, 0);
        world.turns("1005", 2, 3600);
        vec![
            world.connect(("1018", FIRST, 1), "1016"),
            world.connect(("1019", SECOND, 2), "1017"),
            world.connect(("1014", ALL, 1), "1004"),
            world.connect(("1015", ALL, 2), "1005"),
        ]
    });
    calls.extend(placed);
    heard_until(&mut calls, &world.pump, cut + parted_for());
    let pause = longest_pause(&calls, &world.pump);
    println!("longest pause while parted: {pause:?}");
    assert!(pause < SILENT_FOR, "{pause:?}");

    world.pump.forget_pauses();
    world.join();
    let (owners, took) = world.settles(&mut calls);
    println!("agreed {took:?} after it was whole again: {owners:#?}");
    // The calls of the other node go on where they were gone on with; their parties are told when they
    // can be, and hear each other until then.
    while calls[2].caller.offers.is_empty() || calls[2].callee.offers.is_empty() {
        assert!(cut.elapsed() < parted_for() + TOLD_IN, "not told");
        all_hear(&mut calls, &world.pump, 1);
    }
    all_hear(&mut calls, &world.pump, 20);
    let pause = longest_pause(&calls, &world.pump);
    println!("longest pause since: {pause:?}");
    assert!(pause < SILENT_FOR, "{pause:?}");
    // Calls of the larger side, and what was begun since.
    let alone = [0, 1, 4, 5, 6, 7];
    nobody_is_told(alone.iter().map(|at| &calls[*at]));
    world.ends_well(calls);
}

#[test]
fn of_two_nodes_cut_apart_neither_takes_a_call_over() {
    let Some(mut world) = World::start(2) else {
        return;
    };
    for (user, sees, node) in [("1000", FIRST, 0), ("1002", SECOND, 1), ("1004", ALL, 1)] {
        world.register(user, sees, node);
    }
    let mut calls = calls_before(&mut world, 1);
    all_hear(&mut calls, &world.pump, 10);
    let (before, _) = world.settles(&mut calls);
    world.pump.forget_pauses();

    let cut = Instant::now();
    world.part();
    let pump = Arc::clone(&world.pump);
    let placed = attend_while(&mut calls, &pump, || {
        sees(&world.three.nodes[0], &NAMES[..1]);
        sees(&world.three.nodes[1], &NAMES[1..2]);
        println!("each side says so {:?} after the cut", cut.elapsed());
        world.register("1016", FIRST, 0);
        world.register("1017", SECOND, 1);
        world.turns("1002", 1, 0);
        vec![
            world.connect(("1018", FIRST, 0), "1016"),
            world.connect(("1019", SECOND, 1), "1017"),
        ]
    });
    calls.extend(placed);
    heard_until(&mut calls, &world.pump, cut + parted_for());

    world.join();
    let (owners, took) = world.settles(&mut calls);
    println!("agreed {took:?} after it was whole again");
    for (id, node) in &before {
        assert_eq!(owners.get(id), Some(node), "{id}");
    }
    all_hear(&mut calls, &world.pump, 20);
    nobody_is_told(&calls);
    let pause = longest_pause(&calls, &world.pump);
    println!("longest pause: {pause:?}");
    assert!(pause < SILENT_FOR, "{pause:?}");
    world.ends_well(calls);
}
