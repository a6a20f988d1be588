//! A registration in a cluster: lanes and connections of other nodes, crashes, and nodes that were
//! cut off from each other.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use contract::core::Rivals;
use contract::limits::REMOVALS_PER_AOR_MAX;
use contract::{
    ActorId, Core, Entropy, Event, FlowRef, NodeId, NodeInst, Restored, Roster, Store, Time,
    Undelivered,
};

use super::past::Key;
use super::tests::{
    GATED, PHONE, answer, answers, bind, client, contacts, home, id, json_flow, locate, news,
    register, register_as, stage, stores,
};
use super::*;
use crate::script::{Actions, DIGEST, Stage, datagram, sent, statuses, stream, told};
use crate::{AnyCore, door_session, flow, site};

/// A node of a cluster; the other one in these tests is node 2.
fn node(number: u16) -> Stage<Registration> {
    let mut stage = stage();
    stage.site.node = NodeId(number);
    stage.site.cluster = Some(site::Cluster {
        instance: NodeInst {
            node: NodeId(number),
            boot: contract::Boot(1),
        },
        address: "192.0.2.1:7946".parse().expect("an address"),
        seeds: Vec::new(),
        zone: String::new(),
        replicas: 3,
        commit: site::CommitMode::Available,
        floating: Vec::new(),
        schema: contract::SchemaVersion::NEWEST,
    });
    let account = stage.site.domains[0].users.get_mut("1000");
    account.expect("an account").max_contacts = 9;
    stage
}

fn on(flow: FlowRef, at: u16) -> FlowRef {
    match flow {
        FlowRef::Stream {
            number,
            listener,
            remote,
            door,
            ..
        } => FlowRef::Stream {
            node: NodeId(at),
            number,
            listener,
            remote,
            door,
        },
        datagram => datagram,
    }
}

fn tell(stage: &mut Stage<Registration>, inbound: crate::Inbound) -> Actions {
    stage.tell(Message::Register(inbound))
}

/// Registers the phone over a connection of a node.
fn bound_over(stage: &mut Stage<Registration>, flow: FlowRef) {
    let contact = format!("Contact: {PHONE}");
    let actions = tell(stage, register(1, &[&contact, "Expires: 3600"], flow));
    assert_eq!(statuses(&actions), [200]);
}

fn watched(actions: &Actions) -> Vec<FlowRef> {
    let watches = told(actions).into_iter();
    watches
        .filter_map(|(to, message)| match message {
            crate::Message::Flow(flow::Message::Watch { flow, .. })
            | crate::Message::DoorSession(door_session::Message::Watch { flow, .. }) => {
                assert_eq!(Some(to), flow.actor());
                Some(flow)
            }
            _ => None,
        })
        .collect()
}

/// The watch of a connection comes back.
fn comes_back(stage: &mut Stage<Registration>, flow: FlowRef, why: Undelivered) -> Actions {
    let (to, message) = crate::message::watch(flow, id()).expect("a connection");
    stage.event(Event::Undelivered { to, message, why })
}

/// Builds the core anew from what it stores.
fn restored(stage: &mut Stage<Registration>, why: Restored) -> Actions {
    let snapshot = stage.core.snapshot(stage.now);
    stage.core = Registration::restore(snapshot, stage.now).expect("restores");
    stage.event(Event::Restored(why))
}

#[test]
fn a_register_is_answered_at_the_lane_of_the_node_it_came_in_on() {
    let mut stage = node(1);
    let contact = format!("Contact: {PHONE}");
    for (cseq, number, fields, status) in [
        (1, 2, [contact.as_str(), "Expires: 3600"], 200),
        (2, 3, [contact.as_str(), "Expires: 1"], 423),
        (3, 1, [contact.as_str(), "Expires: 600"], 200),
    ] {
        let inbound = register(cseq, &fields, home());
        let lane = ActorId::Lane(NodeId(number), inbound.transaction.lane);
        let actions = stage.event(Event::Message {
            from: lane.clone(),
            message: Message::Register(inbound),
        });
        assert_eq!(statuses(&actions), [status]);
        let (to, _) = told(&actions).pop().expect("a response");
        assert_eq!(to, lane);
    }
}

#[test]
fn a_start_of_the_node_ends_its_own_connections_only() {
    let (own, other) = (stream(3), on(stream(4), 2));
    for (flow, is_gone) in [(own, true), (other, false), (on(json_flow(5), 2), false)] {
        let mut stage = node(1);
        bound_over(&mut stage, flow);
        let actions = restored(&mut stage, Restored::NodeStart);
        assert_eq!(stores(&actions).len(), usize::from(is_gone), "{flow}");
        let asked = if is_gone { vec![] } else { vec![flow] };
        assert_eq!(watched(&actions), asked, "{flow}");
        assert_eq!(locate(&mut stage)[0].unreachable, is_gone, "{flow}");
    }
}

#[test]
fn a_take_over_asks_every_connection_and_marks_what_is_gone() {
    for flow in [on(stream(3), 2), on(stream(3), 3), stream(3)] {
        let mut stage = node(1);
        bound_over(&mut stage, flow);
        let actions = restored(
            &mut stage,
            Restored::TakenOver {
                may_live: false,
                epoch: 2,
            },
        );
        assert_eq!(watched(&actions), [flow]);
        assert!(!locate(&mut stage)[0].unreachable);
        let actions = comes_back(&mut stage, flow, Undelivered::Absent);
        assert_eq!(stores(&actions), [Store::Put { gate: false }]);
        assert!(locate(&mut stage)[0].unreachable);
    }
}

#[test]
fn a_connection_that_was_too_busy_is_asked_again() {
    let flow = on(stream(3), 2);
    let mut stage = node(1);
    bound_over(&mut stage, flow);
    let actions = comes_back(&mut stage, flow, Undelivered::Busy);
    assert!(actions.is_empty());
    assert!(!locate(&mut stage)[0].unreachable);
    assert!(watched(&stage.pass(Duration::from_millis(999))).is_empty());
    assert_eq!(watched(&stage.pass(Duration::from_millis(1))), [flow]);
    assert_eq!(
        stage.core.next_deadline().expect("its expiry").1,
        Timer::Expire
    );
    // Of a connection that no binding is over any more, nothing.
    comes_back(&mut stage, stream(9), Undelivered::Busy);
    assert!(watched(&stage.pass(Duration::from_secs(2))).is_empty());
}

#[test]
fn a_connection_of_a_node_that_is_in_reach_again_is_found_again() {
    let flow = on(stream(3), 2);
    let mut stage = node(1);
    bound_over(&mut stage, flow);
    comes_back(&mut stage, flow, Undelivered::Absent);
    // Each question of a call is one to the connection.
    let reply = ActorId::Call(contract::CallKey::from_bits(1 << 100));
    let asks = Message::Locate { reply };
    assert_eq!(watched(&stage.tell(asks.clone())), [flow]);
    assert!(
        watched(&stage.tell(asks.clone())).is_empty(),
        "asked already"
    );
    comes_back(&mut stage, flow, Undelivered::Absent);
    assert!(stores(&stage.pass(Duration::from_secs(1))).is_empty());
    assert!(locate(&mut stage)[0].unreachable);
    // This time nothing comes back.
    let actions = stage.pass(Duration::from_millis(500));
    assert_eq!(stores(&actions), [Store::Put { gate: false }]);
    assert!(!locate(&mut stage)[0].unreachable);
    // The connection says itself that it is gone.
    stage.tell(Message::FlowGone { flow });
    assert_eq!(watched(&stage.tell(asks.clone())), [flow]);
    stage.tell(Message::FlowGone { flow });
    assert!(stores(&stage.pass(Duration::from_secs(1))).is_empty());
    // One of the own node is gone for good.
    let mut stage = node(1);
    bound_over(&mut stage, stream(3));
    stage.tell(Message::FlowGone { flow: stream(3) });
    assert!(watched(&stage.tell(asks)).is_empty());
}

/// What another node could not reach may end here: nobody else would ever ask it.
#[test]
fn an_own_connection_that_another_node_has_marked_is_asked() {
    let flow = stream(3);
    for is_merged in [true, false] {
        for is_gone in [true, false] {
            let mut stage = node(1);
            bound_over(&mut stage, flow);
            let snapshot = stage.core.snapshot(stage.now);
            let mut other = node(2);
            other.core = Registration::restore(snapshot, other.now).expect("restores");
            comes_back(&mut other, flow, Undelivered::Absent);
            let actions = if is_merged {
                let core = AnyCore::Registration(Box::new(other.core.clone()));
                let copy = core.snapshot(other.now, contract::SchemaVersion::NEWEST);
                let copy = Bytes::from(copy);
                stage.tell(Message::Merge { copy })
            } else {
                let snapshot = other.core.snapshot(other.now);
                stage.core = Registration::restore(snapshot, stage.now).expect("restores");
                stage.event(Event::Restored(Restored::Moved { epoch: 2 }))
            };
            assert!(locate(&mut stage)[0].unreachable);
            assert_eq!(watched(&actions), [flow]);
            if is_gone {
                comes_back(&mut stage, flow, Undelivered::Absent);
            }
            stage.pass(Duration::from_millis(500));
            assert_eq!(locate(&mut stage)[0].unreachable, is_gone);
        }
    }
}

#[test]
fn after_a_crash_a_minute_remains_once_until_the_phone_refreshes() {
    let mut stage = node(1);
    let left = |stage: &Stage<Registration>| {
        let (at, _) = stage.core.next_deadline().expect("an expiry");
        at.since(stage.now.mono).as_secs()
    };
    bound_over(&mut stage, home());
    stage.pass(Duration::from_secs(3_000));
    assert!(
        stores(&restored(
            &mut stage,
            Restored::TakenOver {
                may_live: false,
                epoch: 2
            }
        ))
        .is_empty()
    );
    assert_eq!(left(&stage), 600);
    stage.pass(Duration::from_secs(590));
    for why in [Restored::Wake, Restored::Panic, Restored::NodeStart] {
        restored(&mut stage, why);
        assert_eq!(left(&stage), 10, "{why:?}");
    }
    let actions = restored(
        &mut stage,
        Restored::TakenOver {
            may_live: false,
            epoch: 2,
        },
    );
    assert_eq!(
        (stores(&actions), left(&stage)),
        (vec![Store::Put { gate: false }], 60)
    );
    stage.pass(Duration::from_secs(30));
    assert!(
        stores(&restored(
            &mut stage,
            Restored::TakenOver {
                may_live: false,
                epoch: 2
            }
        ))
        .is_empty()
    );
    assert_eq!(left(&stage), 30, "not once more");
    // A refresh begins anew.
    let contact = format!("Contact: {PHONE};expires=60");
    tell(&mut stage, register(2, &[&contact], home()));
    stage.pass(Duration::from_secs(50));
    restored(
        &mut stage,
        Restored::TakenOver {
            may_live: false,
            epoch: 2,
        },
    );
    assert_eq!(left(&stage), 60);
    // What the take-over has added is no other node's: a refresh is not answered out of it.
    let actions = tell(&mut stage, register(3, &[&contact], home()));
    assert_eq!(
        (statuses(&actions), stores(&actions)),
        (vec![200], vec![GATED])
    );
    // From then on it is as any other.
    let actions = tell(&mut stage, register(4, &[&contact], home()));
    assert_eq!((statuses(&actions), stores(&actions)), (vec![200], vec![]));
}

/// Simulator, 3 nodes, 10 minutes, seed 81176: a node that was cut off took a client's binding over, and
/// answered its refresh out of the minute that it had added itself. The others' copy of the same stamp,
/// which ended earlier, was then merged in.
#[test]
fn i6_a_refresh_of_what_a_take_over_has_lengthened_outlives_other_copies() {
    let tab = client("a", 7);
    let mut nodes = [node(1), node(2)];
    // What it is shortened to is remembered, when it has ended, as long as what it replaced.
    bind(&mut nodes[0], &tab, Some(120));
    bind(&mut nodes[0], &tab, Some(60));
    let snapshot = nodes[0].core.snapshot(nodes[0].now);
    nodes[1].core = Registration::restore(snapshot, nodes[1].now).expect("restores");
    for stage in &mut nodes {
        stage.pass(Duration::from_secs(32));
    }
    // Both have changed it: of copies that were changed as often any one counts.
    comes_back(&mut nodes[0], tab.flow, Undelivered::Absent);
    restored(
        &mut nodes[1],
        Restored::TakenOver {
            may_live: false,
            epoch: 2,
        },
    );
    let actions = bind(&mut nodes[1], &tab, Some(60));
    assert_eq!(stores(&actions), [GATED]);
    assert_eq!(answer(&actions), "bound for 60 s");
    // The other side's copy, as it is, and when it has ended.
    for length in [30, 29] {
        let core = AnyCore::Registration(Box::new(nodes[0].core.clone()));
        let copy = core.snapshot(nodes[0].now, contract::SchemaVersion::NEWEST);
        let copy = Bytes::from(copy);
        nodes[1].tell(Message::Merge { copy });
        for stage in &mut nodes {
            stage.pass(Duration::from_secs(length));
        }
        assert_eq!(locate(&mut nodes[1]).len(), 1);
    }
    assert_eq!(locate(&mut nodes[0]).len(), 0);
}

#[test]
fn what_ended_before_a_take_over_stays_so() {
    let mut stage = node(1);
    bound_over(&mut stage, home());
    let snapshot = stage.core.snapshot(stage.now);
    stage.set(stage.now.mono + Duration::from_secs(3_700));
    stage.core = Registration::restore(snapshot, stage.now).expect("restores");
    stage.event(Event::Restored(Restored::TakenOver {
        may_live: false,
        epoch: 2,
    }));
    assert!(locate(&mut stage).is_empty());
    assert_eq!(news(&stage.pass(Duration::ZERO)), ["expired"]);
}

#[test]
fn in_a_cluster_a_removal_is_recorded_and_the_record_ends_when_it_may_be_forgotten() {
    for field in [
        format!("Contact: {PHONE};expires=0"),
        "Contact: *\r\nExpires: 0".to_owned(),
    ] {
        let mut stage = node(1);
        bound_over(&mut stage, home());
        let actions = tell(&mut stage, register(2, &[&field], home()));
        assert_eq!(
            (statuses(&actions), stores(&actions)),
            (vec![200], vec![GATED])
        );
        assert!(locate(&mut stage).is_empty());
        assert_eq!(stage.core.state(), "empty");
        restored(&mut stage, Restored::Wake);
        assert!(stores(&stage.pass(Duration::from_secs(7_199))).is_empty());
        let actions = stage.pass(Duration::from_secs(1));
        assert!(matches!(
            stores(&actions)[..],
            [Store::End { gate: false, .. }]
        ));
        assert_eq!(stage.core.next_deadline(), None);
    }
    // The operator's too.
    let mut stage = node(1);
    bound_over(&mut stage, home());
    assert_eq!(stores(&stage.tell(Message::Clear)), [GATED]);
    assert_eq!(stage.core.past.removals.len(), 2);
}

#[test]
fn removals_that_are_remembered_are_bounded() {
    let mut stage = node(1);
    for number in 1..=2 * u32::try_from(REMOVALS_PER_AOR_MAX).expect("small") {
        let field = format!("Contact: <sip:x{number}@192.0.2.9>;expires=0");
        let actions = tell(&mut stage, register(number, &[&field], home()));
        assert_eq!(
            (statuses(&actions), stores(&actions)),
            (vec![200], vec![GATED])
        );
    }
    assert_eq!(stage.core.past.removals.len(), REMOVALS_PER_AOR_MAX);
    let last = Key::Contact(format!("sip:x{}@192.0.2.9", 2 * REMOVALS_PER_AOR_MAX));
    assert!(stage.core.past.removals.iter().any(|one| one.key == last));
    let long = "y".repeat(1_200);
    for number in 100..110 {
        let field = format!("Contact: <sip:{long}{number}@192.0.2.9>;expires=0");
        tell(&mut stage, register(number, &[&field], home()));
    }
    let octets = contract::codec::encode(&stage.core.snapshot(stage.now)).expect("encodes");
    assert!(
        octets.len() < contract::limits::REMOVALS_BYTES_MAX + 1_024,
        "{}",
        octets.len()
    );
}

#[test]
fn a_phone_with_one_contact_has_a_binding_over_each_of_its_flows() {
    let mut stage = node(1);
    let field = |reg_id: u32| {
        format!("Contact: <sip:1000@192.0.2.9:5062>;+sip.instance=\"<urn:uuid:7>\";reg-id={reg_id}")
    };
    let flows = [on(stream(3), 1), on(stream(4), 2)];
    for (reg_id, flow) in (1..).zip(flows) {
        let actions = tell(&mut stage, register(reg_id, &[&field(reg_id)], flow));
        assert_eq!(statuses(&actions), [200]);
    }
    let mut found: Vec<FlowRef> = locate(&mut stage).iter().map(|one| one.flow).collect();
    found.sort();
    assert_eq!(found, flows, "RFC 5626 §6");
    let removed = format!("{};expires=0", field(1));
    tell(&mut stage, register(3, &[&removed], flows[1]));
    assert_eq!(locate(&mut stage)[0].flow, flows[1]);
}

#[test]
fn a_session_of_another_node_that_was_out_of_reach_is_told_that_it_is_replaced() {
    let at = |number, node| {
        let mut client = client("a", number);
        client.flow = on(client.flow, node);
        client.reply = client.flow.actor().expect("a session");
        client
    };
    for (node_of_old, is_told) in [(2, true), (1, false)] {
        let mut stage = node(1);
        let old = at(7, node_of_old);
        bind(&mut stage, &old, None);
        comes_back(&mut stage, old.flow, Undelivered::Absent);
        let actions = bind(&mut stage, &at(8, 2), None);
        let told = answers(&actions);
        let is_replaced = told
            .iter()
            .any(|(to, text)| *to == old.reply && text.starts_with("replaced"));
        assert_eq!(is_replaced, is_told, "{told:?}");
    }
}

/// What the other nodes of a cluster that was cut have is one with this one's.
fn heal(nodes: &mut [Stage<Registration>]) {
    let copies: Vec<Bytes> = nodes
        .iter()
        .map(|one| {
            let core = AnyCore::Registration(Box::new(one.core.clone()));
            Bytes::from(core.snapshot(one.now, contract::SchemaVersion::NEWEST))
        })
        .collect();
    for stage in nodes {
        let merged = AnyCore::merge(&id(), &copies, stage.now);
        let core = AnyCore::restore(&id(), &merged, stage.now).expect("restores");
        match core {
            AnyCore::Registration(core) => stage.core = *core,
            other => panic!("{other:?}"),
        }
        stage.event(Event::Restored(Restored::TakenOver {
            may_live: false,
            epoch: 2,
        }));
    }
}

fn contacts_of(stage: &mut Stage<Registration>) -> Vec<String> {
    let mut found: Vec<String> = locate(stage)
        .iter()
        .map(|one| one.uri.to_string())
        .collect();
    found.sort();
    found
}

/// A phone with several contacts, and what it wants to be bound.
struct Phone {
    call_id: u32,
    cseq: u32,
    wanted: BTreeMap<String, ()>,
}

impl Phone {
    /// Says something to one of the nodes.
    fn act(&mut self, chance: &mut Entropy, stage: &mut Stage<Registration>) {
        self.cseq += 1 + chance.below(2);
        let uri = format!("sip:k{}@192.0.2.9", chance.below(4));
        let source = datagram(DIGEST, "192.0.2.9:5062");
        let fields = match chance.below(10) {
            0 => {
                self.wanted.clear();
                "Contact: *\r\nExpires: 0".to_owned()
            }
            1..=3 => {
                self.wanted.remove(&uri);
                format!("Contact: <{uri}>;expires=0")
            }
            _ => {
                self.wanted.insert(uri.clone(), ());
                format!("Contact: <{uri}>;expires=7200")
            }
        };
        let call_id = format!("c{}", self.call_id);
        let inbound = register_as(&call_id, self.cseq, &[&fields], source);
        let actions = stage.tell(Message::Register(inbound));
        assert_eq!(statuses(&actions), [200], "{fields}");
    }
}

/// Lets a phone talk to three nodes that are cut off from each other now and then.
fn talk(seed: u64, is_skewed: bool) -> (usize, usize) {
    let mut octets = [if is_skewed { 7 } else { 8 }; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    let mut chance = Entropy::from_seed(octets);
    let mut nodes = [node(1), node(2), node(3)];
    if is_skewed {
        for stage in &mut nodes {
            stage.now.utc.0 += u64::from(chance.below(600_000));
        }
    }
    let mut phone = Phone {
        call_id: 0,
        cseq: 0,
        wanted: BTreeMap::new(),
    };
    let mut counted = (0, 0);
    for _ in 0..40 {
        let at = chance.below(3) as usize;
        // Numbers of one Call-ID need no clock; those of several do.
        if !is_skewed && chance.below(8) == 0 {
            phone.call_id += 1;
            phone.cseq = chance.below(5);
        }
        phone.act(&mut chance, &mut nodes[at]);
        let length = Duration::from_millis(1 + u64::from(chance.below(20_000)));
        for stage in &mut nodes {
            stage.pass(length);
        }
        if chance.below(5) == 0 {
            heal(&mut nodes);
            let wanted: Vec<String> = phone.wanted.keys().cloned().collect();
            for stage in &mut nodes {
                assert_eq!(
                    contacts_of(stage),
                    wanted,
                    "seed {seed}, skewed {is_skewed}"
                );
            }
            counted = (counted.0 + 1, counted.1 + wanted.len());
        }
    }
    counted
}

#[test]
fn i13_after_a_heal_the_last_word_of_the_phone_counts_on_every_node() {
    let (mut heals, mut bound) = (0, 0);
    for seed in 0..400 {
        for is_skewed in [false, true] {
            let counted = talk(seed, is_skewed);
            (heals, bound) = (heals + counted.0, bound + counted.1);
        }
    }
    assert!(
        heals > 5_000 && bound > heals,
        "{heals} heals, {bound} bindings"
    );
    println!("800 phones, {heals} heals, {bound} bindings found");
}

#[test]
fn i13_a_removal_here_beats_an_older_refresh_there_and_not_a_newer_one() {
    let contact = format!("Contact: {PHONE};expires=3600");
    let gone = format!("Contact: {PHONE};expires=0");
    for (refresh, is_bound) in [(6, false), (8, true)] {
        let mut nodes = [node(1), node(2)];
        for stage in &mut nodes {
            tell(stage, register(5, &[&contact], home()));
        }
        nodes[0].pass(Duration::from_secs(1));
        nodes[1].pass(Duration::from_secs(20));
        tell(&mut nodes[0], register(7, &[&gone], home()));
        // A day-old packet, or the next one of the phone; and one that is stored, with another q.
        let refreshed = format!("{contact};q=0.5");
        tell(&mut nodes[1], register(refresh, &[&refreshed], home()));
        nodes[0].pass(Duration::from_secs(19));
        heal(&mut nodes);
        for stage in &mut nodes {
            assert_eq!(locate(stage).len(), usize::from(is_bound), "CSeq {refresh}");
        }
    }
}

#[test]
fn i13_a_binding_that_made_room_comes_back_only_if_its_client_did() {
    for is_back in [false, true] {
        let mut nodes = [node(1), node(2)];
        for stage in &mut nodes {
            let account = stage.site.domains[0].users.get_mut("1000");
            account.expect("an account").max_contacts = 2;
        }
        bind(&mut nodes[0], &client("old", 1), None);
        heal(&mut nodes);
        for stage in &mut nodes {
            stage.tell(Message::FlowGone { flow: json_flow(1) });
            stage.pass(Duration::from_secs(5));
        }
        for number in [2, 3] {
            bind(&mut nodes[0], &client(&format!("i{number}"), number), None);
        }
        assert_eq!(locate(&mut nodes[0]).len(), 2);
        if is_back {
            nodes[1].pass(Duration::from_secs(1));
            bind(&mut nodes[1], &client("old", 4), None);
            nodes[0].pass(Duration::from_secs(1));
        }
        heal(&mut nodes);
        let found = locate(&mut nodes[1]);
        assert_eq!(found.len(), 2 + usize::from(is_back));
        let is_found = found.iter().any(|one| one.flow == json_flow(4));
        assert_eq!(is_found, is_back);
        // More than the account may have: they stay, and no further one comes.
        let actions = bind(&mut nodes[1], &client("i9", 9), None);
        let refused = answer(&actions) == "refused 403 too many contacts";
        assert!(refused, "{actions:?}");
        let again = bind(&mut nodes[1], &client("i2", 2), Some(100));
        assert!(answer(&again).starts_with("bound"), "{again:?}");
    }
}

#[test]
fn i13_a_shorter_binding_that_ended_does_not_give_way_to_the_longer_one_it_replaced() {
    let mut nodes = [node(1), node(2)];
    for stage in &mut nodes {
        tell(
            stage,
            register(1, &[&format!("Contact: {PHONE};expires=3600")], home()),
        );
    }
    tell(
        &mut nodes[0],
        register(2, &[&format!("Contact: {PHONE};expires=60")], home()),
    );
    for stage in &mut nodes {
        stage.pass(Duration::from_secs(61));
    }
    assert!(locate(&mut nodes[0]).is_empty());
    heal(&mut nodes);
    for stage in &mut nodes {
        assert!(locate(stage).is_empty());
    }
}

#[test]
fn a_phone_that_forgot_its_numbers_is_newer_than_its_removal() {
    let mut nodes = [node(1), node(2)];
    for stage in &mut nodes {
        bound_over(stage, home());
    }
    let gone = format!("Contact: {PHONE};expires=0");
    tell(&mut nodes[0], register(9, &[&gone], home()));
    nodes[0].pass(Duration::from_secs(1));
    // The same Call-ID from the start, as a page with fixed numbers has it.
    bound_over(&mut nodes[0], home());
    nodes[1].pass(Duration::from_secs(1));
    let wanted = nodes[0].core.bindings[0].stamp;
    heal(&mut nodes);
    assert_eq!(nodes[1].core.bindings[0].stamp, wanted);
}

#[test]
fn equivalent_contacts_that_were_bound_apart_become_one_with_the_next_register() {
    let mut nodes = [node(1), node(2)];
    for (stage, text) in nodes
        .iter_mut()
        .zip(["<sip:1000@192.0.2.9>", "<sip:%31000@192.0.2.9>"])
    {
        tell(stage, register(1, &[&format!("Contact: {text}")], home()));
    }
    heal(&mut nodes);
    assert_eq!(locate(&mut nodes[0]).len(), 2);
    let field = "Contact: <sip:1000@192.0.2.9>;q=0.5";
    let actions = tell(&mut nodes[0], register(2, &[field], home()));
    assert_eq!(contacts(&actions).len(), 1);
    heal(&mut nodes);
    assert_eq!(locate(&mut nodes[1]).len(), 1);
    let (_, text) = sent(&actions).pop().expect("a response");
    assert!(text.contains("q=0.500"), "{text}");
}

#[test]
fn a_node_that_is_alone_remembers_nothing() {
    let mut stage = stage();
    bound_over(&mut stage, home());
    let contact = format!("Contact: {PHONE}");
    tell(
        &mut stage,
        register_as("two", 1, &[&contact, "Expires: 60"], home()),
    );
    let unknown = "Contact: <sip:nobody@192.0.2.9>;expires=0";
    let actions = tell(&mut stage, register(3, &[unknown], home()));
    assert!(stores(&actions).is_empty());
    assert_eq!(stage.core.past, past::Past::default());
    assert!(stage.core.next_deadline() > Some((Time::ZERO, Timer::Expire)));
}

#[test]
fn i13_what_a_phone_left_behind_when_it_started_anew_does_not_come_back() {
    let contact = format!("Contact: {PHONE};expires=3600");
    let gone = format!("Contact: {PHONE};expires=0");
    for is_removed in [false, true] {
        let mut nodes = [node(1), node(2)];
        tell(&mut nodes[0], register_as("one", 5, &[&contact], home()));
        heal(&mut nodes);
        tell(
            &mut nodes[0],
            register_as("one", 7, &[&contact, "Path: <sip:a;lr>"], home()),
        );
        tell(&mut nodes[0], register_as("two", 1, &[&contact], home()));
        if is_removed {
            tell(&mut nodes[0], register_as("two", 2, &[&gone], home()));
        }
        // An older one came late, to a node whose clock is ahead.
        nodes[1].now.utc.0 += 300_000;
        let late = format!("{contact};q=0.5");
        tell(&mut nodes[1], register_as("one", 6, &[&late], home()));
        heal(&mut nodes);
        for stage in &mut nodes {
            let found: Vec<u16> = locate(stage).iter().map(|one| one.q).collect();
            let wanted = if is_removed { vec![] } else { vec![1_000] };
            assert_eq!(found, wanted);
        }
    }
}

#[test]
fn i13_of_two_starts_of_a_phone_the_later_one_is_bound_and_its_removal_ends_both() {
    let contact = format!("Contact: {PHONE};expires=3600");
    let gone = format!("Contact: {PHONE};expires=0");
    let mut nodes = [node(1), node(2)];
    tell(&mut nodes[0], register_as("one", 9, &[&contact], home()));
    nodes[1].pass(Duration::from_secs(1));
    tell(
        &mut nodes[1],
        register_as("two", 1, &[&format!("{contact};q=0.5")], home()),
    );
    nodes[0].pass(Duration::from_secs(1));
    heal(&mut nodes);
    for stage in &mut nodes {
        assert_eq!((locate(stage)[0].q, stage.core.past.lost.len()), (500, 1));
    }
    tell(&mut nodes[0], register_as("two", 2, &[&gone], home()));
    assert!(nodes[0].core.past.lost.is_empty());
    heal(&mut nodes);
    for stage in &mut nodes {
        assert!(locate(stage).is_empty());
    }
}

#[test]
fn i13_a_json_client_that_left_comes_back_only_by_itself() {
    for is_back in [false, true] {
        let mut nodes = [node(1), node(2)];
        bind(&mut nodes[0], &client("a", 1), None);
        heal(&mut nodes);
        nodes[0].pass(Duration::from_secs(1));
        let actions = nodes[0].tell(Message::Unbind {
            client: client("a", 1),
        });
        assert_eq!(
            (stores(&actions), answer(&actions).as_str()),
            (vec![GATED], "unbound")
        );
        nodes[1].pass(Duration::from_secs(2));
        if is_back {
            bind(&mut nodes[1], &client("a", 2), None);
        }
        nodes[0].pass(Duration::from_secs(1));
        heal(&mut nodes);
        for stage in &mut nodes {
            let found: Vec<FlowRef> = locate(stage).iter().map(|one| one.flow).collect();
            let wanted = if is_back { vec![json_flow(2)] } else { vec![] };
            assert_eq!(found, wanted);
        }
    }
}

/// What a holder had beside the owner is taken in by it, and stored, once (`cluster.md` §8).
#[test]
fn i13_a_copy_of_the_other_side_is_taken_in_once() {
    let contact = |name: &str| format!("Contact: <sip:{name}@192.0.2.9>;expires=3600");
    let mut nodes = [node(1), node(2)];
    tell(
        &mut nodes[0],
        register_as("c1", 1, &[&contact("a")], home()),
    );
    tell(
        &mut nodes[1],
        register_as("c2", 1, &[&contact("b")], home()),
    );
    let core = AnyCore::Registration(Box::new(nodes[1].core.clone()));
    let copy = Bytes::from(core.snapshot(nodes[1].now, contract::SchemaVersion::NEWEST));
    let parts = BTreeMap::from([(id(), copy.clone())]);
    let newer = AnyCore::Registration(Box::new(nodes[0].core.clone()))
        .snapshot(nodes[0].now, contract::SchemaVersion::NEWEST);
    let newer = Bytes::from(newer);
    let bequeath = |newer: &BTreeMap<ActorId, Bytes>| {
        let copies = Rivals {
            former: &parts,
            ran_here: false,
            newer: Some(newer),
        };
        AnyCore::bequeath(&id(), &copies, nodes[0].now)
    };
    assert!(bequeath(&parts).is_none());
    let message = bequeath(&BTreeMap::from([(id(), newer)])).expect("registrations are merged");
    let crate::Message::Registration(message) = message else {
        panic!("not for a registration: {message:?}");
    };
    let actions = nodes[0].tell(message.clone());
    assert_eq!(stores(&actions), [Store::Put { gate: false }]);
    let both = ["sip:a@192.0.2.9", "sip:b@192.0.2.9"];
    assert_eq!(contacts_of(&mut nodes[0]), both);
    assert!(stores(&nodes[0].tell(message)).is_empty(), "it is known");
    let odd = Message::Merge {
        copy: Bytes::from_static(b"no copy"),
    };
    assert!(nodes[0].tell(odd).is_empty());
    assert_eq!(contacts_of(&mut nodes[0]), both);
}
