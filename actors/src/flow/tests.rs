//! A connection gives whole messages to the right lane, and its end to everybody who waits.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::time::Duration;

use bytes::Bytes;
use contract::{Action, ActorId, Event, NodeId};

use super::*;
use crate::script::{Actions, Stage, sent, statuses, stream, told};
use crate::{lane, registration};

fn open() -> Stage<Flow> {
    let mut stage = Stage::new(Flow::new(), ActorId::Flow(NodeId(1), 7));
    let actions = stage.event(Event::Opened { flow: stream(7) });
    assert!(actions.is_empty());
    stage
}

fn message(branch: &str) -> String {
    format!(
        "OPTIONS sip:example.org SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.7:40000;branch={branch}\r\n\
         From: <sip:1000@example.org>;tag=1\r\nTo: <sip:example.org>\r\nCall-ID: x\r\n\
         CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

fn bytes(stage: &mut Stage<Flow>, octets: &[u8]) -> Actions {
    stage.event(Event::Bytes(Bytes::copy_from_slice(octets)))
}

fn received(actions: &Actions) -> Vec<(ActorId, Bytes)> {
    let told = told(actions)
        .into_iter()
        .filter_map(|(to, told)| match told {
            crate::Message::Lane(lane::Message::Received { message, .. }) => Some((to, message)),
            _ => None,
        });
    told.collect()
}

#[test]
fn a_message_cut_at_any_octet_reaches_the_lane_of_its_branch_whole() {
    let whole = message("z9hG4bKcut");
    for cut in 1..whole.len() {
        let mut stage = open();
        let (head, tail) = whole.as_bytes().split_at(cut);
        assert!(received(&bytes(&mut stage, head)).is_empty(), "{cut}");
        let actions = bytes(&mut stage, tail);
        let number = lane::lane_of(&stage.site, whole.as_bytes());
        let wanted = (ActorId::Lane(NodeId(1), number), Bytes::from(whole.clone()));
        assert_eq!(received(&actions), [wanted]);
    }
}

#[test]
fn pipelined_messages_come_out_one_by_one() {
    let mut stage = open();
    let many: String = (0..9)
        .map(|number| message(&format!("z9hG4bK{number}")))
        .collect();
    assert_eq!(received(&bytes(&mut stage, many.as_bytes())).len(), 9);
}

#[test]
fn a_double_line_end_is_answered_with_one() {
    let mut stage = open();
    let actions = bytes(&mut stage, b"\r\n\r\n");
    assert_eq!(sent(&actions), [(stream(7), "\r\n".to_owned())]);
}

#[test]
fn a_message_that_does_not_end_closes_the_connection_after_ten_seconds() {
    let mut stage = open();
    bytes(&mut stage, message("z9hG4bK1").as_bytes());
    for octet in b"OPTIONS s" {
        let actions = bytes(&mut stage, &[*octet]);
        assert!(actions.is_empty());
        let actions = stage.pass(Duration::from_secs(1));
        assert!(actions.is_empty());
    }
    let actions = stage.pass(Duration::from_millis(1_100));
    assert!(matches!(
        actions[..],
        [Action::Close {
            why: "a message took too long",
            ..
        }]
    ));
    assert_eq!(stage.core.state(), "closing");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let mut stage = open();
    assert!(stage.pass(Duration::from_secs(59)).is_empty());
    let actions = stage.pass(Duration::from_secs(1));
    assert!(matches!(actions[..], [Action::Close { why: "idle", .. }]));
    let mut stage = open();
    bytes(&mut stage, message("z9hG4bK1").as_bytes());
    assert!(
        stage.pass(Duration::from_secs(7_400)).is_empty(),
        "a phone that only refreshes stays"
    );
    assert!(!stage.pass(Duration::from_secs(101)).is_empty());
}

#[test]
fn broken_framing_is_answered_and_ends_the_connection() {
    for wrong in [
        "Content-Length: 0\r\nContent-Length: 4",
        "Content-Length: -1",
        "X: y",
    ] {
        let mut stage = open();
        let broken = message("z9hG4bK1").replace("Content-Length: 0", wrong);
        let after = format!("{broken}{}", message("z9hG4bK2"));
        let actions = bytes(&mut stage, after.as_bytes());
        assert_eq!(statuses(&actions), [400], "{wrong}");
        assert!(received(&actions).is_empty(), "nothing is read by guess");
        let is_close = |action: &Action<crate::Message>| matches!(action, Action::Close { .. });
        assert!(actions.iter().any(is_close));
        assert!(bytes(&mut stage, message("z9hG4bK3").as_bytes()).is_empty());
    }
}

#[test]
fn the_end_is_told_to_every_lane_and_watcher() {
    let mut stage = open();
    let watcher = ActorId::Registration("1000@example.org".into());
    let watch = Message::Watch {
        watcher: watcher.clone(),
        flow: stream(7),
    };
    assert!(stage.tell(watch).is_empty());
    let actions = stage.event(Event::Closed {
        why: "reset".to_owned(),
    });
    let told = told(&actions);
    let lanes = told.iter().filter(|(_, message)| {
        matches!(
            message,
            crate::Message::Lane(lane::Message::FlowGone { .. })
        )
    });
    assert_eq!(lanes.count(), 4);
    let last = told.last().expect("a message");
    assert_eq!(last.0, watcher);
    assert!(matches!(
        last.1,
        crate::Message::Registration(registration::Message::FlowGone { flow }) if flow == stream(7)
    ));
    assert!(matches!(actions.last(), Some(Action::Stop { .. })));
}

#[test]
fn a_watcher_of_a_connection_of_an_earlier_life_is_told_at_once() {
    let mut stage = open();
    let watcher = ActorId::Registration("1000@example.org".into());
    let mut other = stream(7);
    if let FlowRef::Stream { remote, .. } = &mut other {
        remote.set_port(1);
    }
    let actions = stage.tell(Message::Watch {
        watcher,
        flow: other,
    });
    assert!(matches!(
        told(&actions)[..],
        [(_, crate::Message::Registration(registration::Message::FlowGone { flow }))] if flow == other
    ));
}

/// Who takes a call over asks for its lane.
#[test]
fn a_lane_that_watches_is_told_in_words_of_a_lane() {
    let mut stage = open();
    let mut other = stream(7);
    if let FlowRef::Stream { remote, .. } = &mut other {
        remote.set_port(1);
    }
    let watcher = ActorId::Lane(NodeId(1), 0);
    let actions = stage.tell(Message::Watch {
        watcher: watcher.clone(),
        flow: other,
    });
    assert!(matches!(
        &told(&actions)[..],
        [(to, crate::Message::Lane(lane::Message::FlowGone { flow }))]
            if *to == watcher && *flow == other
    ));
}

fn open_websocket(transport: rsip::Transport) -> Stage<Flow> {
    let mut stage = Stage::new(Flow::new(), ActorId::Flow(NodeId(1), 7));
    let at = usize::from(stream(7).listener().0);
    stage.site.listeners[at].transport = transport;
    assert!(stage.event(Event::Opened { flow: stream(7) }).is_empty());
    stage
}

#[test]
fn a_websocket_message_is_one_sip_message_with_or_without_content_length() {
    let with_body =
        |length: &str| message("z9hG4bKw").replace("Content-Length: 0\r\n", length) + "hello";
    for transport in [rsip::Transport::Ws, rsip::Transport::Wss] {
        let mut stage = open_websocket(transport);
        for fine in [
            message("z9hG4bKw"),
            with_body(""),
            with_body("Content-Length: 5\r\n"),
            with_body("l: 5\r\n"),
        ] {
            let actions = bytes(&mut stage, fine.as_bytes());
            let number = lane::lane_of(&stage.site, fine.as_bytes());
            let wanted = (ActorId::Lane(NodeId(1), number), Bytes::from(fine.clone()));
            assert_eq!(received(&actions), [wanted], "{fine}");
        }
        for wrong in [
            with_body("Content-Length: 4\r\n"),
            with_body("Content-Length: 6\r\n"),
            with_body("Content-Length: -1\r\n"),
            with_body("Content-Length: 5\r\nContent-Length: 5\r\n"),
            message("z9hG4bK1") + &message("z9hG4bK2"),
        ] {
            let actions = bytes(&mut stage, wrong.as_bytes());
            assert_eq!(statuses(&actions), [400], "{wrong}");
            assert!(received(&actions).is_empty(), "{wrong}");
            assert_eq!(stage.core.state(), "open", "the next message begins anew");
        }
        let nonsense = bytes(&mut stage, b"hello");
        assert!(statuses(&nonsense).is_empty() && received(&nonsense).is_empty());
    }
}

#[test]
fn a_websocket_lives_on_keep_alives_of_either_kind_or_none() {
    let mut stage = open_websocket(rsip::Transport::Wss);
    assert_eq!(
        sent(&bytes(&mut stage, b"\r\n\r\n")),
        [(stream(7), "\r\n".to_owned())]
    );
    assert!(bytes(&mut stage, b"\r\n").is_empty());
    assert!(bytes(&mut stage, b"").is_empty());
    assert!(stage.pass(Duration::from_secs(86_400)).is_empty());
    assert_eq!(stage.core.state(), "open");
}
