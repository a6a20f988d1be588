//! A member asks its seeds, passes gossip on, and tells the fabric who is there.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use contract::limits::UNTOLD_MAX;
use contract::net::GOSSIP;
use contract::{
    Action, ActorId, Answer, Boot, CallKey, Core, Emitted, Event, FlowRef, Lookup, MemberState,
    NodeId, Time, Undelivered,
};

use super::*;
use crate::script::{Actions, Stage};
use crate::site::{Cluster, CommitMode};

fn address(node: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8], 7_946))
}

fn instance(node: u16) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(7),
    }
}

fn stage(node: u16, seeds: &[(&str, u16)]) -> Stage<Member> {
    let mut stage = Stage::new(Member::new(), ActorId::Member(NodeId(node)));
    stage.site.node = NodeId(node);
    stage.site.name = format!("weft-{node}");
    let seeds = seeds.iter().map(|(host, port)| ((*host).to_owned(), *port));
    stage.site.cluster = Some(Cluster {
        instance: instance(node),
        address: address(node),
        seeds: seeds.collect(),
        zone: "east".to_owned(),
        replicas: 3,
        commit: CommitMode::Available,
        schema: contract::SchemaVersion::NEWEST,
        floating: Vec::new(),
    });
    stage
}

fn looked_up(actions: &Actions) -> Vec<(u64, String)> {
    let found = actions.iter().filter_map(|action| match action {
        Action::Lookup {
            token,
            what: Lookup::Host { name },
        } => Some((*token, name.clone())),
        _ => None,
    });
    found.collect()
}

fn resolved(stage: &mut Stage<Member>, token: u64, found: Result<&str, &str>) -> Actions {
    let found = found
        .map(|ip| vec![ip.parse::<IpAddr>().expect("an address")])
        .map_err(str::to_owned);
    stage.event(Event::Answer {
        token,
        answer: Answer::Host(found),
    })
}

fn gossiped(actions: &Actions) -> Vec<(SocketAddr, Bytes)> {
    let found = actions.iter().filter_map(|action| match action {
        Action::Send {
            flow: FlowRef::Datagram { listener, remote },
            bytes,
        } if *listener == GOSSIP => Some((*remote, bytes.clone())),
        _ => None,
    });
    found.collect()
}

fn views(actions: &Actions) -> Vec<Vec<(u16, MemberState)>> {
    let found = actions.iter().filter_map(|action| match action {
        Action::Emit(Emitted::View(members)) => {
            let rows = members.iter();
            Some(rows.map(|row| (row.peer.inst.node.0, row.state)).collect())
        }
        _ => None,
    });
    found.collect()
}

/// Carries gossip and words between members for `length`; returns the last view of each.
fn run(stages: &mut [Stage<Member>], length: Duration) -> Vec<Vec<(u16, MemberState)>> {
    let mut last = vec![Vec::new(); stages.len()];
    for _ in 0..length.as_millis() / 20 {
        let mut queue: VecDeque<(usize, Actions)> = VecDeque::new();
        for (at, stage) in stages.iter_mut().enumerate() {
            queue.push_back((at, stage.pass(Duration::from_millis(20))));
        }
        while let Some((from, actions)) = queue.pop_front() {
            last[from] = views(&actions).pop().unwrap_or_else(|| last[from].clone());
            for (to, bytes) in gossiped(&actions) {
                let place = (1..)
                    .zip(0..stages.len())
                    .find(|(node, _)| address(*node) == to);
                if let Some((_, place)) = place {
                    let event = Event::Datagram {
                        listener: GOSSIP,
                        remote: address(from as u16 + 1),
                        bytes,
                    };
                    queue.push_back((place, stages[place].event(event)));
                }
            }
            for (to, message) in crate::script::told(&actions) {
                let (ActorId::Member(node), crate::Message::Member(message)) = (to, message) else {
                    panic!("members talk to members");
                };
                let event = Event::Message {
                    from: ActorId::Member(NodeId(from as u16 + 1)),
                    message,
                };
                let place = usize::from(node.0) - 1;
                queue.push_back((place, stages[place].event(event)));
            }
        }
    }
    last
}

#[test]
fn seeds_are_looked_up_and_asked() {
    let mut stage = stage(1, &[("node-b", 7_946), ("node-c", 7_000)]);
    assert_eq!(
        stage.core.next_deadline().map(|(at, _)| at),
        Some(Time::default())
    );
    let asked = looked_up(&stage.event(Event::Timer(Timer::Seeds)));
    assert_eq!(asked, [(0, "node-b".to_owned()), (1, "node-c".to_owned())]);
    assert!(resolved(&mut stage, 1, Ok("10.0.0.3")).is_empty());
    let actions = resolved(&mut stage, 0, Err("no such host"));
    let to: Vec<SocketAddr> = gossiped(&actions).iter().map(|(to, _)| *to).collect();
    assert_eq!(to, ["10.0.0.3:7000".parse().expect("an address")]);
    assert!(actions.iter().any(|action| matches!(
        action,
        Action::Connect { flow: FlowRef::Datagram { listener, .. } } if *listener == GOSSIP
    )));
    assert_eq!(views(&actions), [[(1, MemberState::Up)]]);
}

/// Addresses behind a name change while nobody answers: a headless service (`cluster.md` §2).
#[test]
fn a_node_that_stays_alone_looks_its_seeds_up_again() {
    let mut stage = stage(1, &[("node-b", 7_946)]);
    stage.event(Event::Timer(Timer::Seeds));
    resolved(&mut stage, 0, Ok("10.0.0.9"));
    let mut asked = 0;
    for _ in 0..100 {
        let again = looked_up(&stage.pass(Duration::from_millis(100)));
        if !again.is_empty() {
            asked += 1;
            resolved(&mut stage, 0, Ok("10.0.0.2"));
        }
    }
    assert!((1..=2).contains(&asked), "{asked} times in 10 s");
    let mut to = Vec::new();
    for _ in 0..100 {
        let actions = stage.pass(Duration::from_millis(100));
        if !looked_up(&actions).is_empty() {
            resolved(&mut stage, 0, Ok("10.0.0.2"));
        }
        to.extend(gossiped(&actions).into_iter().map(|(to, _)| to));
    }
    assert!(to.contains(&address(2)), "{to:?}");
}

#[test]
fn three_members_agree_on_the_view_with_names_and_states() {
    let mut stages: Vec<Stage<Member>> = (1..=3)
        .map(|node| stage(node, &[("10.0.0.1", 7_946)]))
        .collect();
    for stage in &mut stages {
        stage.event(Event::Timer(Timer::Seeds));
        let actions = resolved(stage, 0, Ok("10.0.0.1"));
        assert_eq!(views(&actions).len(), 1);
    }
    let seen = run(&mut stages, Duration::from_secs(8));
    let all = [
        (1, MemberState::Up),
        (2, MemberState::Up),
        (3, MemberState::Up),
    ];
    for (at, stage) in stages.iter().enumerate() {
        assert_eq!(seen[at], all);
        assert_eq!(stage.core.state(), "3 nodes");
        let snapshot = stage.core.snapshot(stage.now);
        let names: Vec<&str> = snapshot
            .members
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(names, ["weft-1", "weft-2", "weft-3"]);
        assert!(
            snapshot
                .members
                .iter()
                .all(|one| one.zone == "east" && one.weight > 0)
        );
    }
    let drains = stages[1].tell(Message::Drain);
    assert_eq!(
        views(&drains),
        [[all[0], (2, MemberState::Draining), all[2]]]
    );
    let seen = run(&mut stages, Duration::from_secs(3));
    assert_eq!(seen[0][1], (2, MemberState::Draining));
    assert_eq!(seen[2][1], (2, MemberState::Draining));
}

#[test]
fn a_word_counts_only_from_whom_it_is() {
    let mut stage = stage(1, &[]);
    stage.event(Event::Timer(Timer::Seeds));
    let lie = Message::Word {
        of: instance(2),
        body: MembershipFrame::Leave,
    };
    let from = ActorId::Member(NodeId(3));
    let actions = stage.event(Event::Message { from, message: lie });
    assert!(actions.is_empty());
}

#[test]
fn every_lane_hears_of_a_node_that_is_dead() {
    let mut stages: Vec<Stage<Member>> = (1..=2)
        .map(|node| stage(node, &[("10.0.0.1", 7_946)]))
        .collect();
    for stage in &mut stages {
        stage.event(Event::Timer(Timer::Seeds));
        resolved(stage, 0, Ok("10.0.0.1"));
    }
    run(&mut stages, Duration::from_secs(8));
    let alone = stages[0].pass(Duration::from_secs(20));
    let heard = crate::script::told(&alone).into_iter();
    let lanes: Vec<ActorId> = heard
        .filter_map(|(to, message)| match message {
            crate::Message::Lane(crate::lane::Message::NodeGone { node }) => {
                assert_eq!(node, NodeId(2));
                Some(to)
            }
            _ => None,
        })
        .collect();
    let own = [0, 1, 2, 3].map(|number| ActorId::Lane(NodeId(1), number));
    assert_eq!(lanes, own);
}

fn call(number: u128) -> ActorId {
    ActorId::Call(CallKey::from_bits(number << 64))
}

/// What the fabric has said in the member's name of a call comes back.
fn returned(to: ActorId, why: Undelivered) -> Event<Message, Timer, crate::Message> {
    let bequest = crate::call::Message::Bequest {
        parts: Vec::new(),
        unknown: Vec::new(),
    };
    Event::Undelivered {
        to,
        message: bequest.into(),
        why,
    }
}

fn calls_told(actions: &Actions) -> Vec<ActorId> {
    let told = crate::script::told(actions).into_iter().map(|(to, _)| to);
    told.filter(|to| matches!(to, ActorId::Call(_))).collect()
}

/// The node that had won the call was not connected yet: simulator, 3 nodes, 10 minutes, seed 71281.
#[test]
fn who_goes_on_with_a_call_is_told_what_a_lost_copy_had_until_it_has_it() {
    let mut stage = stage(1, &[]);
    for _ in 0..3 {
        let actions = stage.event(returned(call(7), Undelivered::Busy));
        assert!(calls_told(&actions).is_empty(), "it would come back");
        let soon = stage.pass(Duration::from_millis(900));
        assert!(calls_told(&soon).is_empty());
        let again = stage.pass(Duration::from_millis(200));
        assert_eq!(calls_told(&again), [call(7)]);
    }
    let later = stage.pass(Duration::from_secs(10));
    assert!(calls_told(&later).is_empty(), "it is there");
    stage.event(returned(call(7), Undelivered::Absent));
    let later = stage.pass(Duration::from_secs(10));
    assert!(calls_told(&later).is_empty(), "nobody has that call");
}

#[test]
fn a_word_for_another_member_is_not_said_again() {
    let mut stage = stage(1, &[]);
    stage.event(Event::Undelivered {
        to: ActorId::Member(NodeId(2)),
        message: Message::Drain.into(),
        why: Undelivered::Busy,
    });
    let later = stage.pass(Duration::from_secs(10));
    assert!(crate::script::told(&later).is_empty());
}

#[test]
fn only_so_much_that_could_not_be_told_is_kept() {
    let mut stage = stage(1, &[]);
    let all = 1..=UNTOLD_MAX as u128 + 1;
    for number in all.clone() {
        stage.event(returned(call(number), Undelivered::Busy));
    }
    let again = calls_told(&stage.pass(Duration::from_secs(2)));
    let kept: Vec<ActorId> = all.skip(1).map(call).collect();
    assert_eq!(again, kept, "the oldest has gone");
}
