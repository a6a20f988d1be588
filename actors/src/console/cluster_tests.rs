//! Several nodes answer as one; a silent one is named.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::time::Duration;

use contract::{
    Action, ActorRow, ActorView, Answer, Boot, CallKey, Event, Lookup, Member, MemberState, NodeId,
    NodeInst, Peer, Undelivered,
};
use serde_json::Value;

use super::*;
use crate::script::{Actions, Stage, told};
use crate::site::{Cluster, CommitMode};

pub(super) fn member(node: u16) -> Member {
    Member {
        peer: Peer {
            inst: NodeInst {
                node: NodeId(node),
                boot: Boot(7),
            },
            address: format!("127.0.0.{node}:7946").parse().expect("an address"),
        },
        name: ["?", "a", "b", "c"][usize::from(node)].to_owned(),
        state: MemberState::Up,
        zone: String::new(),
        weight: 100,
        schema: contract::SchemaVersion::default(),
    }
}

/// The console of node 1 of three.
pub(super) fn stage() -> Stage<Console> {
    let mut stage = Stage::new(Console::new(), ActorId::Console(NodeId(1)));
    stage.site.cluster = Some(Cluster {
        instance: member(1).peer.inst,
        address: member(1).peer.address,
        seeds: Vec::new(),
        zone: String::new(),
        replicas: 3,
        commit: CommitMode::Available,
        schema: contract::SchemaVersion::NEWEST,
        floating: Vec::new(),
    });
    stage
}

/// Gives a request and tells the console who is there; returns what its own node and the others
/// were asked then.
pub(super) fn ask(stage: &mut Stage<Console>, request: Request) -> Vec<(u16, u64, Lookup)> {
    let actions = stage.tell(Message::Request { ticket: 5, request });
    let asked = looked_up(&actions);
    assert_eq!(asked[0].1, Lookup::Members);
    let members = (1..=3).map(member).collect();
    asked_of(&stage.event(Event::Answer {
        token: asked[0].0,
        answer: Answer::Members(members),
    }))
}

pub(super) fn looked_up(actions: &Actions) -> Vec<(u64, Lookup)> {
    let found = actions.iter().filter_map(|action| match action {
        Action::Lookup { token, what } => Some((*token, what.clone())),
        _ => None,
    });
    found.collect()
}

pub(super) fn asked_of(actions: &Actions) -> Vec<(u16, u64, Lookup)> {
    let own = looked_up(actions)
        .into_iter()
        .map(|(token, what)| (1, token, what));
    let others = told(actions).into_iter().map(|(to, message)| {
        let ActorId::Console(node) = to else {
            panic!("{to}")
        };
        match message {
            crate::Message::Console(Message::Ask { number, what }) => (node.0, number, what),
            other => panic!("{other:?}"),
        }
    });
    own.chain(others).collect()
}

pub(super) fn answer(
    stage: &mut Stage<Console>,
    node: u16,
    number: u64,
    answer: Answer,
) -> Actions {
    if node == 1 {
        return stage.event(Event::Answer {
            token: number,
            answer,
        });
    }
    stage.event(Event::Message {
        from: ActorId::Console(NodeId(node)),
        message: Message::Answered { number, answer },
    })
}

pub(super) fn body(actions: &Actions) -> (u16, Value) {
    let found = actions.iter().find_map(|action| match action {
        Action::Http {
            ticket: 5,
            status,
            body,
        } => Some((*status, serde_json::from_slice(body).expect("JSON"))),
        _ => None,
    });
    found.expect("an answer")
}

pub(super) fn call(number: u128) -> ActorId {
    ActorId::Call(CallKey::from_bits(number << 100))
}

fn row(id: ActorId) -> ActorRow {
    ActorRow {
        id,
        parent: "calls".to_owned(),
        live: true,
        inbox: 0,
        restarts: 0,
        epoch: 3,
        sequence: 9,
        state: "Talking".to_owned(),
    }
}

pub(super) fn view(id: ActorId) -> Answer {
    Answer::Actor(Some(Box::new(ActorView {
        row: row(id),
        snapshot: "{\"is\":1}".to_owned(),
        next_deadline_ms: None,
        gated: 0,
        quarantined: Vec::new(),
        children: Vec::new(),
    })))
}

fn rows(of: &[u128]) -> Answer {
    Answer::Actors {
        rows: of.iter().map(|number| row(call(*number))).collect(),
        total: of.len(),
    }
}

const PAGE: Page = Page {
    offset: 1,
    limit: 3,
};

#[test]
fn rows_of_all_nodes_are_one_list() {
    let mut stage = stage();
    let asked = ask(
        &mut stage,
        Request::Actors {
            kind: Some(Kind::Call),
            node: None,
            contains: None,
            page: PAGE,
        },
    );
    let nodes: Vec<u16> = asked.iter().map(|(node, ..)| *node).collect();
    assert_eq!(nodes, [1, 2, 3]);
    assert!(asked.iter().all(|(_, _, what)| matches!(
        what,
        Lookup::Actors {
            offset: 0,
            limit: 4,
            ..
        }
    )));
    assert!(answer(&mut stage, 2, asked[1].1, rows(&[2, 5])).is_empty());
    assert!(answer(&mut stage, 1, asked[0].1, rows(&[1, 4])).is_empty());
    let (status, list) = body(&answer(&mut stage, 3, asked[2].1, rows(&[3])));
    assert_eq!((status, &list["total"]), (200, &Value::from(5)));
    let of: Vec<&str> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["node"].as_str())
        .collect();
    assert_eq!(of, ["b", "c", "a"], "rows 2 to 4 by ID");
    assert!(list.get("missing").is_none());
}

#[test]
fn a_node_that_is_silent_or_gone_is_named() {
    let mut stage = stage();
    let asked = ask(&mut stage, Request::Nodes);
    let (_, number, what) = asked[1].clone();
    let message = Message::Ask { number, what };
    let back = stage.event(Event::Undelivered {
        to: ActorId::Console(NodeId(2)),
        message: message.into(),
        why: Undelivered::Absent,
    });
    assert!(back.is_empty());
    answer(&mut stage, 1, asked[0].1, rows(&[]));
    assert!(stage.pass(Duration::from_millis(900)).is_empty());
    let (status, list) = body(&stage.pass(Duration::from_millis(100)));
    assert_eq!(status, 200);
    let silent = list["items"].as_array().expect("a list");
    let silent: Vec<&Value> = silent
        .iter()
        .filter(|item| item["state"] == "no answer")
        .collect();
    assert_eq!((silent.len(), &silent[1]["name"]), (3, &Value::from("b")));
    // Too late: nobody waits.
    assert!(answer(&mut stage, 3, asked[2].1, rows(&[])).is_empty());
}

#[test]
fn an_actor_is_found_where_it_runs_and_ended_there() {
    let mut stage = stage();
    let asked = ask(&mut stage, Request::Inspect { id: call(1) });
    answer(&mut stage, 1, asked[0].1, Answer::Actor(None));
    answer(&mut stage, 2, asked[1].1, Answer::Actor(None));
    let (status, found) = body(&answer(&mut stage, 3, asked[2].1, view(call(1))));
    assert_eq!((status, &found["node"]), (200, &Value::from("c")));

    let stop = Request::Stop {
        id: call(1),
        epoch: Some(3),
    };
    let asked = ask(&mut stage, stop);
    answer(&mut stage, 1, asked[0].1, Answer::Actor(None));
    answer(&mut stage, 3, asked[2].1, view(call(1)));
    let actions = answer(&mut stage, 2, asked[1].1, Answer::Actor(None));
    assert_eq!(body(&actions).0, 202);
    assert!(matches!(
        &told(&actions)[..],
        [(ActorId::Console(NodeId(3)), crate::Message::Console(Message::End { id }))]
            if *id == call(1)
    ));
    // There, the call is told.
    let end = stage.tell(Message::End { id: call(1) });
    assert_eq!(told(&end)[0].0, call(1));
}

#[test]
fn what_may_be_on_a_silent_node_is_not_called_absent() {
    let mut stage = stage();
    let asked = ask(&mut stage, Request::Inspect { id: call(1) });
    answer(&mut stage, 1, asked[0].1, Answer::Actor(None));
    answer(&mut stage, 2, asked[1].1, Answer::Actor(None));
    let (status, problem) = body(&stage.pass(Duration::from_secs(1)));
    assert_eq!(status, 504);
    assert!(
        problem["detail"]
            .as_str()
            .expect("a text")
            .contains("none from c")
    );
}

#[test]
fn details_are_asked_for_where_each_row_is_from() {
    let mut stage = stage();
    let page = Page {
        offset: 0,
        limit: 10,
    };
    let calls = Request::Calls {
        contains: None,
        page,
    };
    let asked = ask(&mut stage, calls);
    answer(&mut stage, 1, asked[0].1, rows(&[2]));
    answer(&mut stage, 2, asked[1].1, rows(&[1]));
    let asked = asked_of(&answer(&mut stage, 3, asked[2].1, rows(&[])));
    let of: Vec<(u16, &Lookup)> = asked.iter().map(|(node, _, what)| (*node, what)).collect();
    let actor = |number| Lookup::Actor { id: call(number) };
    assert_eq!(of, [(1, &actor(2)), (2, &actor(1))]);
    answer(&mut stage, 1, asked[0].1, view(call(2)));
    let (status, list) = body(&answer(&mut stage, 2, asked[1].1, view(call(1))));
    assert_eq!(
        (status, &list["items"][0]["node"]),
        (200, &Value::from("b"))
    );
    assert_eq!(list["items"][1]["snapshot"]["is"], 1);
}

#[test]
fn one_node_is_asked_by_name_or_number() {
    for named in ["b", "2"] {
        let mut stage = stage();
        let request = Request::Actors {
            kind: None,
            node: Some(named.to_owned()),
            contains: None,
            page: PAGE,
        };
        let asked = ask(&mut stage, request);
        let nodes: Vec<u16> = asked.iter().map(|(node, ..)| *node).collect();
        assert_eq!(nodes, [2], "{named}");
    }
}

#[test]
fn a_question_of_another_console_is_answered_to_it() {
    let mut stage = stage();
    let from = ActorId::Console(NodeId(2));
    let what = Lookup::Node;
    let message = Message::Ask { number: 99, what };
    let asked = looked_up(&stage.event(Event::Message { from, message }));
    let actions = answer(&mut stage, 1, asked[0].0, rows(&[1]));
    assert!(matches!(
        &told(&actions)[..],
        [(
            ActorId::Console(NodeId(2)),
            crate::Message::Console(Message::Answered { number: 99, .. })
        )]
    ));
}

#[test]
fn rows_too_far_down_are_refused() {
    let mut stage = stage();
    let page = Page {
        offset: 1_991,
        limit: 10,
    };
    let actions = stage.tell(Message::Request {
        ticket: 5,
        request: Request::Calls {
            contains: None,
            page,
        },
    });
    assert_eq!(body(&actions).0, 400);
}
