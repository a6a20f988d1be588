//! Every request gets one answer, with the right status.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::time::Duration;

use contract::limits::CONSOLE_PENDING_MAX;
use contract::{
    Action, ActorRow, ActorView, Answer, Boot, CallKey, Event, Lookup, NodeId, NodeInst, NodeView,
    SchemaVersion, Undelivered,
};
use serde_json::Value;

use super::*;
use crate::script::{Actions, Stage, told};
use crate::{call, registration};

fn stage() -> Stage<Console> {
    Stage::new(Console::new(), ActorId::Console(NodeId(1)))
}

fn ask(stage: &mut Stage<Console>, request: Request) -> Actions {
    stage.tell(Message::Request { ticket: 5, request })
}

fn looked_up(actions: &Actions) -> Vec<(u64, Lookup)> {
    let found = actions.iter().filter_map(|action| match action {
        Action::Lookup { token, what } => Some((*token, what.clone())),
        _ => None,
    });
    found.collect()
}

fn answered(actions: &Actions) -> (u16, Value) {
    let mut found = actions.iter().filter_map(|action| match action {
        Action::Http {
            ticket: 5,
            status,
            body,
        } => Some((*status, serde_json::from_slice(body).expect("JSON"))),
        _ => None,
    });
    let answer = found.next().expect("an answer");
    assert!(found.next().is_none(), "one answer a ticket");
    answer
}

fn call() -> ActorId {
    ActorId::Call(CallKey::from_bits(1 << 100))
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

fn view(id: ActorId, snapshot: &str) -> Answer {
    Answer::Actor(Some(Box::new(ActorView {
        row: row(id),
        snapshot: snapshot.to_owned(),
        next_deadline_ms: Some(7),
        gated: 0,
        quarantined: Vec::new(),
        children: Vec::new(),
    })))
}

const PAGE: Page = Page {
    offset: 0,
    limit: 10,
};

#[test]
fn the_node_is_shown() {
    let mut stage = stage();
    let asked = looked_up(&ask(&mut stage, Request::Nodes));
    assert_eq!(asked[0].1, Lookup::Node);
    let answer = Answer::Node(Box::new(NodeView {
        instance: NodeInst {
            node: NodeId(1),
            boot: Boot(4),
        },
        name: "a".to_owned(),
        state: "up".to_owned(),
        version: "1".to_owned(),
        uptime_s: 12,
        actors: vec![(Kind::Call, 1, 2)],
        listeners: vec!["udp 127.0.0.1:5060".to_owned()],
        free_bytes: 99,
    }));
    let (status, body) = answered(&stage.event(Event::Answer {
        token: asked[0].0,
        answer,
    }));
    assert_eq!(
        (status, &body["items"][0]["name"]),
        (200, &Value::from("a"))
    );
    assert_eq!(body["items"][0]["actors"][0]["kind"], "call");
    assert_eq!(body["total"], 1);
}

#[test]
fn rows_of_another_node_are_none() {
    let mut stage = stage();
    let request = |node: &str| Request::Actors {
        kind: None,
        node: Some(node.to_owned()),
        contains: None,
        page: PAGE,
    };
    let (status, body) = answered(&ask(&mut stage, request("b")));
    assert_eq!((status, &body["total"]), (200, &Value::from(0)));
    for own in ["a", "1"] {
        assert_eq!(looked_up(&ask(&mut stage, request(own))).len(), 1, "{own}");
    }
}

#[test]
fn calls_come_with_the_snapshot_of_each() {
    let mut stage = stage();
    let request = Request::Calls {
        contains: None,
        page: PAGE,
    };
    let asked = looked_up(&ask(&mut stage, request));
    let other = ActorId::Call(CallKey::from_bits(1 << 110));
    let rows = vec![row(call()), row(other)];
    let answer = Answer::Actors { rows, total: 12 };
    let asked = looked_up(&stage.event(Event::Answer {
        token: asked[0].0,
        answer,
    }));
    assert_eq!(asked.len(), 2);
    let answer = view(call(), r#"{"from":"1000"}"#);
    let first = stage.event(Event::Answer {
        token: asked[0].0,
        answer,
    });
    assert!(first.is_empty(), "the second row is still asked for");
    let answer = Answer::Actor(None);
    let (status, body) = answered(&stage.event(Event::Answer {
        token: asked[1].0,
        answer,
    }));
    assert_eq!((status, &body["total"]), (200, &Value::from(12)));
    assert_eq!(body["items"][0]["snapshot"]["from"], "1000");
    assert_eq!(body["items"][1]["snapshot"], Value::Null);
}

#[test]
fn an_unknown_actor_is_404_and_a_known_one_is_shown() {
    let mut stage = stage();
    for (answer, wanted) in [(Answer::Actor(None), 404), (view(call(), "{}"), 200)] {
        let asked = looked_up(&ask(&mut stage, Request::Inspect { id: call() }));
        let (status, body) = answered(&stage.event(Event::Answer {
            token: asked[0].0,
            answer,
        }));
        assert_eq!(status, wanted);
        assert_eq!(body["title"] == "Not Found", wanted == 404);
        assert_eq!(body["epoch"] == 3, wanted == 200);
    }
}

#[test]
fn stopping_hangs_up_a_call_and_clears_a_registration_and_refuses_the_rest() {
    let registration = ActorId::Registration("1000@example.org".into());
    let side = CallKey::from_bits(1 << 100).side(1);
    for (id, epoch, wanted) in [
        (call(), None, 202),
        (call(), Some(3), 202),
        (call(), Some(2), 409),
        (registration.clone(), None, 202),
        (ActorId::Dialog(side), None, 409),
        (ActorId::Lane(NodeId(1), 0), None, 409),
    ] {
        let mut stage = stage();
        let asked = looked_up(&ask(
            &mut stage,
            Request::Stop {
                id: id.clone(),
                epoch,
            },
        ));
        let answer = view(id.clone(), "{}");
        let actions = stage.event(Event::Answer {
            token: asked[0].0,
            answer,
        });
        assert_eq!(answered(&actions).0, wanted, "{id}");
        let told = told(&actions);
        assert_eq!(told.len(), usize::from(wanted == 202), "{id}");
        for (to, message) in told {
            assert_eq!(to, id);
            let is_right = match message {
                crate::Message::Call(call::Message::Hangup { cause }) => {
                    cause == "NORMAL_CLEARING" && id == call()
                }
                crate::Message::Registration(registration::Message::Clear) => id == registration,
                _ => false,
            };
            assert!(is_right, "{id}");
        }
    }
}

#[test]
fn a_user_is_shown_with_the_bindings_and_an_unknown_one_is_404() {
    let mut stage = stage();
    let asked = looked_up(&ask(
        &mut stage,
        Request::User {
            dn: "1000".to_owned(),
        },
    ));
    let id = ActorId::Registration("1000@example.org".into());
    assert_eq!(asked[0].1, Lookup::Actor { id: id.clone() });
    let answer = view(
        id,
        r#"{"bindings":[{"contact":"sip:x"}],"settings":{"settings":{"always":"1002"}}}"#,
    );
    let (status, body) = answered(&stage.event(Event::Answer {
        token: asked[0].0,
        answer,
    }));
    assert_eq!((status, &body["registered"]), (200, &Value::Bool(true)));
    assert_eq!(body["settings"]["always"], "1002");
    for (dn, wanted) in [("1001@example.org", 200), ("nobody", 404)] {
        let asked = looked_up(&ask(&mut stage, Request::User { dn: dn.to_owned() }));
        let answer = Answer::Actor(None);
        let (status, _) = answered(&stage.event(Event::Answer {
            token: asked[0].0,
            answer,
        }));
        assert_eq!(status, wanted, "{dn}");
    }
    assert_eq!(
        answered(&ask(&mut stage, Request::User { dn: String::new() })).0,
        400
    );
}

#[test]
fn what_the_node_does_not_answer_is_504_and_what_is_too_much_503() {
    let mut stage = stage();
    let asked = looked_up(&ask(&mut stage, Request::Nodes));
    assert!(stage.pass(Duration::from_millis(4_900)).is_empty());
    assert_eq!(answered(&stage.pass(Duration::from_millis(200))).0, 504);
    let late = Answer::Actor(None);
    assert!(
        stage
            .event(Event::Answer {
                token: asked[0].0,
                answer: late
            })
            .is_empty()
    );
    for _ in 0..CONSOLE_PENDING_MAX {
        ask(&mut stage, Request::Trace { id: call() });
    }
    assert_eq!(answered(&ask(&mut stage, Request::Nodes)).0, 503);
}

#[test]
fn what_never_moves_is_refused_and_nobody_is_asked() {
    let mut stage = stage();
    let ActorId::Call(key) = call() else {
        panic!("a call")
    };
    let table = [
        (ActorId::Dialog(key.side(1)), "with its call"),
        (ActorId::MediaLeg(key.side(1)), "with its call"),
        (ActorId::Lane(NodeId(1), 0), "never moves"),
        (ActorId::Console(NodeId(1)), "never moves"),
        (ActorId::Member(NodeId(1)), "never moves"),
        (ActorId::Flow(NodeId(1), 3), "never moves"),
    ];
    for (id, why) in table {
        let request = Request::Move {
            id: id.clone(),
            to: "b".to_owned(),
            epoch: None,
        };
        let actions = ask(&mut stage, request);
        let (status, body) = answered(&actions);
        assert_eq!((status, &body["status"]), (409, &Value::from(409)), "{id}");
        let detail = body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(why), "{id}: {detail}");
        assert_eq!(actions.len(), 1, "{id}");
    }
}

/// An order goes to its call wherever that is; what the call says, or that nobody has it, is the answer.
#[test]
fn an_order_to_a_call_is_answered_by_it() {
    let request = || Request::Steer {
        call: CallKey::from_bits(1 << 100),
        command: Some("c-1".to_owned()),
        order: Order::Hold {
            party: call::Party::Callee,
        },
    };
    let mut stage = stage();
    stage.health.schema = SchemaVersion(2);
    let (status, _) = answered(&ask(&mut stage, request()));
    assert_eq!(
        status, 503,
        "a node of the release before would not know it"
    );

    stage.health.schema = SchemaVersion::NEWEST;
    let answers = [
        (Some(Ok(())), Undelivered::Absent, 202),
        (Some(Err(Fault::new(409, "no"))), Undelivered::Absent, 409),
        (None, Undelivered::Absent, 404),
        (None, Undelivered::Busy, 503),
    ];
    for (result, why, expected) in answers {
        let asked = ask(&mut stage, request());
        let (to, message) = told(&asked).remove(0);
        assert_eq!(to, self::call());
        let crate::Message::Call(call::Message::Steer(steer)) = message.clone() else {
            panic!("{message:?}");
        };
        assert_eq!(steer.command.as_deref(), Some("c-1"));
        let echo = steer.echo;
        let actions = match result {
            Some(result) => stage.tell(Message::Steered { echo, result }),
            None => stage.event(Event::Undelivered {
                to: self::call(),
                message,
                why,
            }),
        };
        assert_eq!(answered(&actions).0, expected);
    }
    let late = stage.tell(Message::Steered {
        echo: "1".to_owned(),
        result: Ok(()),
    });
    assert!(
        late.iter()
            .all(|action| !matches!(action, Action::Http { .. }))
    );
}
