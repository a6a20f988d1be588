//! Moves and drains: asked where the actor is, told what came of it.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::time::Duration;

use contract::{Answer, Event, Lookup, MoveFault, NodeId, Undelivered};

use super::cluster_tests::{answer, ask, asked_of, body, call, looked_up, member, stage, view};
use super::*;

/// Wants the call moved to `to`; it is on node 2, under epoch 3.
fn place(to: &str, epoch: Option<u64>) -> (crate::script::Stage<Console>, crate::script::Actions) {
    let mut stage = stage();
    let request = Request::Move {
        id: call(1),
        to: to.to_owned(),
        epoch,
    };
    let asked = ask(&mut stage, request);
    assert_eq!(asked.len(), 3, "every node is asked where it is");
    let mut last = None;
    for (node, number, what) in asked {
        assert_eq!(what, Lookup::Actor { id: call(1) });
        let found = match node {
            2 => view(call(1)),
            _ => Answer::Actor(None),
        };
        last = Some(answer(&mut stage, node, number, found));
    }
    (stage, last.expect("three answers"))
}

#[test]
fn the_node_that_has_an_actor_is_told_to_move_it() {
    for (to, epoch) in [("c", None), ("3", None), ("c", Some(3))] {
        let (mut stage, actions) = place(to, epoch);
        let asked = asked_of(&actions);
        let what = Lookup::Move {
            id: call(1),
            to: NodeId(3),
            // Of what is on the screen, also if nobody named it.
            epoch: Some(3),
        };
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].0, &asked[0].2), (2, &what));
        let actions = answer(&mut stage, 2, asked[0].1, Answer::Moved(Ok(())));
        let (status, text) = body(&actions);
        assert_eq!((status, text["to"].as_str()), (200, Some("c")));
        assert_eq!(text["moved"], call(1).to_string());
    }
}

#[test]
fn what_cannot_be_moved_is_said_before_anybody_is_told() {
    let table = [
        ("b", None, 409, "is on b already"),
        ("2", None, 409, "is on b already"),
        ("nowhere", None, 404, "there is no node nowhere"),
        ("9", None, 404, "there is no node 9"),
        ("c", Some(2), 409, "another epoch"),
    ];
    for (to, epoch, expected, why) in table {
        let (_, actions) = place(to, epoch);
        let (status, text) = body(&actions);
        assert_eq!(status, expected, "{to}");
        let detail = text["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(why), "{to}: {detail}");
        assert!(asked_of(&actions).is_empty(), "{to}");
    }
    let mut stage = stage();
    let request = Request::Move {
        id: call(1),
        to: "c".to_owned(),
        epoch: None,
    };
    let mut last = None;
    for (node, number, _) in ask(&mut stage, request) {
        last = Some(answer(&mut stage, node, number, Answer::Actor(None)));
    }
    assert_eq!(body(&last.expect("three answers")).0, 404);
}

#[test]
fn every_reason_of_the_fabric_has_its_status_and_its_words() {
    let table = [
        (MoveFault::Unknown, 404),
        (MoveFault::NoNode, 404),
        (MoveFault::Fixed, 409),
        (MoveFault::There, 409),
        (MoveFault::Stale, 409),
        (MoveFault::NotUp, 409),
        (MoveFault::Moving, 409),
        (MoveFault::Unrecorded, 409),
        (MoveFault::Unreachable, 503),
        (MoveFault::Restless, 503),
        (MoveFault::NotTaken, 503),
        (MoveFault::Crowded, 503),
        (MoveFault::Loaded, 503),
        (MoveFault::Silent, 504),
    ];
    for (why, expected) in table {
        let (mut stage, actions) = place("c", None);
        let number = asked_of(&actions)[0].1;
        let actions = answer(&mut stage, 2, number, Answer::Moved(Err(why)));
        let (status, text) = body(&actions);
        assert_eq!(status, expected, "{why:?}");
        let detail = text["detail"].as_str().unwrap_or_default();
        let words = format!("was not moved to c: {why}");
        assert!(detail.ends_with(&words), "{detail}");
    }
}

/// The node has two seconds for it, and one more for the way.
#[test]
fn a_node_that_says_nothing_of_a_move_is_waited_for_longer() {
    let (mut stage, _) = place("c", None);
    assert!(stage.pass(Duration::from_millis(2_900)).is_empty());
    assert_eq!(body(&stage.pass(Duration::from_millis(200))).0, 504);
    let (mut stage, actions) = place("c", None);
    let number = asked_of(&actions)[0].1;
    let what = Lookup::Node;
    let lost = Event::Undelivered {
        to: ActorId::Console(NodeId(2)),
        message: Message::Ask { number, what }.into(),
        why: Undelivered::Absent,
    };
    assert_eq!(body(&stage.event(lost)).0, 504);
}

#[test]
fn a_drain_is_told_to_its_node() {
    for (node, number) in [(Some("b"), 2), (Some("3"), 3), (Some("a"), 1), (None, 1)] {
        let mut stage = stage();
        let request = Request::Drain {
            node: node.map(str::to_owned),
            max_s: 60,
        };
        // Its own name it knows without asking who is there.
        let asked = if number == 1 {
            asked_of(&stage.tell(Message::Request { ticket: 5, request }))
        } else {
            ask(&mut stage, request)
        };
        assert_eq!(asked.len(), 1);
        assert_eq!(
            (asked[0].0, &asked[0].2),
            (number, &Lookup::Drain { max_s: 60 })
        );
        let actions = answer(&mut stage, number, asked[0].1, Answer::Draining);
        let (status, text) = body(&actions);
        let names = ["?", "a", "b", "c"];
        assert_eq!(status, 202);
        assert_eq!(text["draining"], names[usize::from(number)]);
    }
    let mut stage = stage();
    let request = Request::Drain {
        node: Some("nowhere".to_owned()),
        max_s: 60,
    };
    let actions = {
        let actions = stage.tell(Message::Request { ticket: 5, request });
        let members = looked_up(&actions);
        stage.event(Event::Answer {
            token: members[0].0,
            answer: Answer::Members((1..=3).map(member).collect()),
        })
    };
    assert_eq!(body(&actions).0, 404);
}

#[test]
fn readiness_asks_this_node_alone() {
    let mut stage = stage();
    let request = Request::Here;
    let asked = asked_of(&stage.tell(Message::Request { ticket: 5, request }));
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].0, &asked[0].2), (1, &Lookup::Node));
}
