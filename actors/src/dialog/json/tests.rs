//! What a JSON dialog keeps and says; whole calls are in `call/tests/json.rs`.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::time::Duration;

use contract::limits::{JSON_UNACKNOWLEDGED_BYTES_MAX, JSON_UNACKNOWLEDGED_MAX};
use contract::{
    ActorId, CallKey, Core, Door, Event, FlowRef, NodeId, Restored, SideKey, Undelivered,
};

use super::*;
use crate::call;
use crate::dialog::{self, Invite};
use crate::registration::contact;
use crate::script::{Actions, STREAM, Stage, told};

fn flow_of(number: u64) -> FlowRef {
    FlowRef::Stream {
        node: NodeId(1),
        number,
        listener: STREAM,
        remote: "192.0.2.7:40000".parse().expect("an address"),
        door: Door::Json,
    }
}

fn side() -> SideKey {
    CallKey::from_bits(77 << 64).side(2)
}

fn aor() -> Aor {
    "1000@example.org".parse().expect("an AoR")
}

fn called() -> Stage<JsonDialog> {
    let target = crate::Target {
        uri: contact(&aor(), "tab-1"),
        flow: flow_of(7),
        path: Vec::new(),
        q: 1_000,
        unreachable: false,
    };
    let invite = dialog::Message::Invite(Box::new(Invite {
        target,
        callee: aor(),
        from: sip::NameAddr::new("sip:1001@example.org".parse().expect("a URI")),
        max_forwards: 69,
        sdp: Some(Bytes::from_static(b"v=0\r\n")),
    }));
    let site = crate::script::site();
    let core = JsonDialog::create(side(), &invite, &site).expect("a JSON target");
    let mut stage = Stage::new(core, ActorId::Dialog(side()));
    let actions = stage.tell(invite);
    assert_eq!(words(&actions), ["incoming"]);
    stage
}

fn order(stage: &mut Stage<JsonDialog>, command: ClientCommand) -> Actions {
    order_of(stage, flow_of(7), "tab-1", command)
}

fn order_of(
    stage: &mut Stage<JsonDialog>,
    flow: FlowRef,
    instance: &str,
    command: ClientCommand,
) -> Actions {
    stage.tell(dialog::Message::Client(Box::new(ClientOrder {
        aor: aor(),
        contact: contact(&aor(), instance),
        flow,
        name: side().to_string(),
        id: Some("q".to_owned()),
        command,
    })))
}

fn deliveries(actions: &Actions) -> Vec<Delivery> {
    let told = told(actions).into_iter();
    told.filter_map(|(_, message)| match message {
        Message::DoorSession(door_session::Message::Deliver(delivery)) => Some(*delivery),
        _ => None,
    })
    .collect()
}

fn words(actions: &Actions) -> Vec<String> {
    let words = deliveries(actions).into_iter().map(|delivery| {
        let value = serde_json::to_value(delivery.message).expect("JSON");
        value["type"].as_str().expect("a type").to_owned()
    });
    words.collect()
}

fn confirmed() -> Stage<JsonDialog> {
    let mut stage = called();
    let sdp = Bytes::from_static(b"v=0\r\n");
    let actions = order(&mut stage, ClientCommand::Answer { sdp });
    assert!(told(&actions).iter().any(|(_, message)| matches!(
        message,
        Message::Call(call::Message::Answered { side: 2, .. })
    )));
    stage
}

#[test]
fn what_is_not_acknowledged_is_bounded_and_the_newest_stays() {
    let mut stage = confirmed();
    for size in [10, 4_000] {
        for _ in 0..100 {
            let sdp = Some(Bytes::from(vec![b'a'; size]));
            stage.tell(dialog::Message::Offer {
                sdp,
                retries: false,
            });
            stage.core.data.outgoing = None;
        }
        let kept = &stage.core.data.unacknowledged;
        let octets: usize = kept.iter().map(|one| one.text.len()).sum();
        assert!(kept.len() <= JSON_UNACKNOWLEDGED_MAX);
        assert!(octets <= JSON_UNACKNOWLEDGED_BYTES_MAX, "{octets}");
        assert_eq!(
            kept.back().map(|one| one.number),
            Some(stage.core.data.number)
        );
    }
}

#[test]
fn an_order_of_another_instance_or_account_has_no_effect() {
    let mut stage = called();
    let before = stage.core.data.clone();
    let hang_up = ClientCommand::Hangup;
    let actions = order_of(&mut stage, flow_of(9), "tab-2", hang_up.clone());
    assert_eq!(words(&actions), ["error"]);
    assert_eq!(deliveries(&actions)[0].flow, flow_of(9));
    let actions = stage.tell(dialog::Message::Client(Box::new(ClientOrder {
        aor: "1001@example.org".parse().expect("an AoR"),
        contact: contact(&aor(), "tab-1"),
        flow: flow_of(9),
        name: side().to_string(),
        id: None,
        command: hang_up,
    })));
    assert_eq!(words(&actions), ["error"]);
    assert_eq!(stage.core.data.flow, before.flow);
    assert_eq!(stage.core.data.state, before.state);
}

#[test]
fn what_was_not_acknowledged_is_said_again_over_the_new_connection() {
    let mut stage = called();
    let number = stage.core.data.number;
    let flow = flow_of(7);
    stage.tell(dialog::Message::FlowGone { flow });
    let actions = order_of(&mut stage, flow_of(8), "tab-1", ClientCommand::Resumed);
    let again = deliveries(&actions);
    assert_eq!(words(&actions), ["incoming"]);
    assert_eq!(
        (again[0].flow, &again[0].about),
        (flow_of(8), &About::Numbered(number))
    );
    order_of(
        &mut stage,
        flow_of(8),
        "tab-1",
        ClientCommand::Ack { number },
    );
    let actions = order_of(&mut stage, flow_of(8), "tab-1", ClientCommand::Resumed);
    assert!(words(&actions).is_empty());
}

#[test]
fn a_call_to_a_client_that_is_gone_waits_for_eight_seconds() {
    let mut stage = called();
    let flow = flow_of(7);
    let actions = stage.tell(dialog::Message::FlowGone { flow });
    let asks = |actions: &Actions| {
        let is_locate = |message: &Message| {
            matches!(
                message,
                Message::Registration(crate::registration::Message::Locate { .. })
            )
        };
        told(actions)
            .iter()
            .filter(|(_, one)| is_locate(one))
            .count()
    };
    assert_eq!(asks(&actions), 1);
    let actions = stage.pass(Duration::from_millis(7_900));
    assert_eq!(asks(&actions), 7, "it is looked for each second");
    let actions = stage.pass(Duration::from_millis(200));
    assert!(told(&actions).iter().any(|(_, message)| matches!(
        message,
        Message::Call(call::Message::Failed { status: 480, .. })
    )));
}

#[test]
fn an_answered_call_waits_for_its_client_as_long_as_media_flows() {
    let mut stage = confirmed();
    let flow = flow_of(7);
    stage.tell(dialog::Message::FlowGone { flow });
    assert!(stage.pass(Duration::from_secs(600)).is_empty());
    assert_eq!(stage.core.state(), "confirmed");
}

#[test]
fn an_end_waits_two_seconds_for_its_ack_or_eight_for_the_client() {
    let end = || dialog::Message::End {
        status: 480,
        cause: "NORMAL_CLEARING".to_owned(),
    };
    let mut stage = confirmed();
    assert_eq!(words(&stage.tell(end())), ["hangup"]);
    let number = stage.core.data.number;
    order(&mut stage, ClientCommand::Ack { number });
    assert_eq!(stage.core.state(), "ended");

    let mut stage = confirmed();
    stage.tell(end());
    stage.pass(Duration::from_millis(2_100));
    assert_eq!(stage.core.state(), "ended");

    let mut stage = confirmed();
    let flow = flow_of(7);
    stage.tell(dialog::Message::FlowGone { flow });
    assert!(words(&stage.tell(end())).is_empty());
    stage.pass(Duration::from_secs(7));
    assert_eq!(stage.core.state(), "ending");
    let targets = vec![crate::Target {
        uri: contact(&aor(), "tab-1"),
        flow: flow_of(9),
        path: Vec::new(),
        q: 1_000,
        unreachable: false,
    }];
    let actions = stage.tell(dialog::Message::Located { targets });
    assert_eq!(words(&actions), ["hangup"], "it came back in time");
}

#[test]
fn what_an_heir_says_first_has_a_number_that_the_client_has_not_heard() {
    let mut stage = confirmed();
    let before = stage.core.data.number;
    let silence = Restored::TakenOver {
        may_live: true,
        epoch: 2,
    };
    stage.event(Event::Restored(silence));
    let actions = stage.tell(dialog::Message::End {
        status: 480,
        cause: "NORMAL_CLEARING".to_owned(),
    });
    assert_eq!(words(&actions), ["hangup"]);
    // What the other copy may have said in the meantime: far from it.
    let heirs = stage.core.data.number;
    assert!(heirs.abs_diff(before) > 1_000, "{before}, then {heirs}");
}

/// Simulator, 3 nodes, seed 742: a call that its client held moved to another node.
#[test]
fn a_client_that_holds_is_not_told_that_the_far_end_does() {
    let mut stage = confirmed();
    for (direction, wanted) in [
        ("recvonly", "migrate"),
        ("inactive", "hold"),
        ("recvonly", "resume"),
        ("sendonly", "hold"),
        ("sendrecv", "resume"),
    ] {
        let sdp = Some(Bytes::from(format!("v=0\r\na={direction}\r\n")));
        let said = deliveries(&stage.tell(dialog::Message::Move { sdp }));
        let offer = serde_json::to_value(&said[0].message).expect("JSON");
        assert_eq!(offer["payload"]["why"], wanted, "{direction}");
        let sdp = Bytes::from_static(b"v=0\r\n");
        order(&mut stage, ClientCommand::Reanswer { sdp });
    }
}

#[test]
fn a_client_of_another_node_is_told_again_what_it_has_not_acknowledged() {
    let end = || dialog::Message::End {
        status: 480,
        cause: "NORMAL_CLEARING".to_owned(),
    };
    let away = |stage: &mut Stage<JsonDialog>| {
        stage.core.data.flow = FlowRef::Stream {
            node: NodeId(3),
            number: 7,
            listener: STREAM,
            remote: "192.0.2.7:40000".parse().expect("an address"),
            door: Door::Json,
        };
    };
    let mut stage = confirmed();
    away(&mut stage);
    assert_eq!(words(&stage.tell(end())), ["hangup"]);
    // A link between nodes that breaks takes with it what was on its way.
    let again = stage.pass(Duration::from_millis(7_900));
    assert_eq!(words(&again), ["hangup"; 3]);
    assert_eq!(stage.core.state(), "ending");
    stage.pass(Duration::from_millis(200));
    assert_eq!(stage.core.state(), "ended");

    let mut stage = confirmed();
    away(&mut stage);
    stage.tell(end());
    let number = stage.core.data.number;
    let flow = stage.core.data.flow;
    order_of(&mut stage, flow, "tab-1", ClientCommand::Ack { number });
    assert_eq!(stage.core.state(), "ended");
    assert!(words(&stage.pass(Duration::from_secs(60))).is_empty());
}

/// As the dialog of a phone: simulator, 3 nodes, seed 766.
#[test]
fn an_heir_that_has_the_connection_itself_says_on_it_what_waited() {
    let mut stage = confirmed();
    stage.tell(dialog::Message::FlowGone { flow: flow_of(7) });
    let waits = stage.tell(dialog::Message::End {
        status: 480,
        cause: "NORMAL_CLEARING".to_owned(),
    });
    assert!(words(&waits).is_empty());
    let why = Restored::TakenOver {
        may_live: true,
        epoch: 2,
    };
    assert!(flow_of(7).ends_at(stage.site.node));
    let actions = stage.event(Event::Restored(why));
    assert_eq!(words(&actions), ["hangup"]);
    // It was gone, after all: it is looked for as before.
    stage.tell(dialog::Message::FlowGone { flow: flow_of(7) });
    assert!(stage.core.data.is_flow_gone);
    stage.pass(Duration::from_secs(9));
    assert_eq!(stage.core.state(), "ended");
}

/// Builds the core anew from what it has recorded, at a node.
fn revive(stage: &mut Stage<JsonDialog>, node: u16, why: Restored) -> Actions {
    let snapshot = stage.core.snapshot(stage.now);
    stage.core = JsonDialog::restore(snapshot, stage.now).expect("a snapshot");
    stage.site.node = NodeId(node);
    stage.event(Event::Restored(why))
}

const DEAD: Restored = Restored::TakenOver {
    may_live: false,
    epoch: 2,
};

/// Simulator, 3 nodes, seed 15 with forwards: a node had said `hangup` to a client of another node, and
/// died before that was there.
#[test]
fn an_end_that_was_lost_with_the_node_that_said_it_is_said_again() {
    let end = || dialog::Message::End {
        status: 480,
        cause: "NORMAL_CLEARING".to_owned(),
    };
    for (heir, why) in [
        // It has the connection itself.
        (1, DEAD),
        (3, DEAD),
        (1, Restored::Moved { epoch: 2 }),
        (1, Restored::Adopted { epoch: 2 }),
        // The same node, which has started again.
        (2, Restored::NodeStart),
        (2, Restored::StartedAlone),
    ] {
        let mut stage = confirmed();
        stage.site.node = NodeId(2);
        assert_eq!(words(&stage.tell(end())), ["hangup"]);
        let number = stage.core.data.number;
        // Nearly as long as it may wait: more than is left then.
        stage.set(stage.now.mono + Duration::from_millis(7_900));
        let again = revive(&mut stage, heir, why);
        assert_eq!(words(&again), ["hangup"], "{why:?} at {heir}");
        assert_eq!(deliveries(&again)[0].about, About::Numbered(number));
        stage.pass(Duration::from_millis(1_900));
        assert_eq!(stage.core.state(), "ending", "{why:?} at {heir}");
        order(&mut stage, ClientCommand::Ack { number });
        assert_eq!(stage.core.state(), "ended");

        // A client that says nothing does not hold it.
        let mut stage = confirmed();
        stage.site.node = NodeId(2);
        stage.tell(end());
        revive(&mut stage, heir, why);
        stage.pass(Duration::from_millis(8_100));
        assert_eq!(stage.core.state(), "ended", "{why:?} at {heir}");
    }
}

#[test]
fn who_inherits_an_end_says_it_and_ends() {
    let end = || dialog::Message::End {
        status: 480,
        cause: "NORMAL_CLEARING".to_owned(),
    };
    let mut stage = confirmed();
    stage.tell(end());
    let snapshot = stage.core.snapshot(stage.now);
    let side = CallKey::from_bits(78 << 64).side(5);
    let mut heir = Stage::new(JsonDialog::inherit(snapshot, side), ActorId::Dialog(side));
    let part = Bytes::new();
    let actions = heir.tell(dialog::Message::Inherit { part });
    assert_eq!(words(&actions), ["hangup"]);
    assert!(words(&heir.tell(end())).is_empty(), "said already");
    heir.pass(Duration::from_secs(9));
    assert_eq!(heir.core.state(), "ended");
}

#[test]
fn an_answer_that_may_be_lost_with_the_node_that_said_it_is_said_again() {
    let sdp = || Bytes::from_static(b"v=0\r\n");
    let dial = call::Dial {
        aor: aor(),
        contact: contact(&aor(), "tab-1"),
        flow: flow_of(7),
        name: "c1".to_owned(),
        request: Some("q".to_owned()),
        to: "1001".to_owned(),
        sdp: sdp(),
    };
    let first = dialog::Message::Dial(Box::new(dial));
    let side = CallKey::from_bits(77 << 64).side(1);
    let core = JsonDialog::create(side, &first, &crate::script::site()).expect("a dialog");
    let mut stage = Stage::new(core, ActorId::Dialog(side));
    stage.tell(first);
    let accept = dialog::Message::Accept { sdp: Some(sdp()) };
    assert_eq!(words(&stage.tell(accept)), ["callAccepted"]);
    let again = revive(&mut stage, 1, DEAD);
    assert_eq!(words(&again), ["callAccepted"]);
    assert!(is_gated(&again));
    // Who speaks of the call knows that it was answered.
    let report = "{}".to_owned();
    order(&mut stage, ClientCommand::Stats { report });
    assert!(words(&revive(&mut stage, 1, DEAD)).is_empty());
}

#[test]
fn a_message_that_cannot_be_delivered_means_that_the_connection_is_gone() {
    let mut stage = called();
    let delivery = Delivery {
        flow: flow_of(7),
        name: side().to_string(),
        message: doors::json::ServerMessage::Trying {
            call_id: "c".to_owned(),
        },
        about: About::News,
        is_last: false,
    };
    let bounce = |why| Event::Undelivered {
        to: ActorId::DoorSession(NodeId(1), 7),
        message: door_session::Message::Deliver(Box::new(delivery.clone())).into(),
        why,
    };
    stage.event(bounce(Undelivered::Busy));
    assert!(!stage.core.data.is_flow_gone);
    assert_eq!(words(&stage.pass(Duration::from_millis(150))), ["trying"]);
    stage.event(bounce(Undelivered::Absent));
    assert!(stage.core.data.is_flow_gone);
}

#[test]
fn a_snapshot_restores_to_the_same() {
    let mut stage = called();
    stage.tell(dialog::Message::FlowGone { flow: flow_of(7) });
    let snapshot = stage.core.snapshot(stage.now);
    let restored = JsonDialog::restore(snapshot, stage.now).expect("a snapshot");
    assert_eq!(
        format!("{:?}", restored.data),
        format!("{:?}", stage.core.data)
    );
    assert_eq!(restored.next_deadline(), stage.core.next_deadline());
}

#[test]
fn digits_by_info_are_few_enough_for_the_far_dialog() {
    let mut stage = confirmed();
    let digits = |digits: &str, is_info| ClientCommand::Digits {
        digits: digits.to_owned(),
        duration_ms: Some(1),
        is_info,
    };
    let infos = |actions: &Actions| {
        let is_info =
            |message: &Message| matches!(message, Message::Call(call::Message::Info { .. }));
        told(actions).iter().filter(|(_, one)| is_info(one)).count()
    };
    let actions = order(&mut stage, digits("12345678", true));
    assert_eq!(
        (infos(&actions), words(&actions)),
        (8, vec!["dtmf".to_owned()])
    );
    let actions = order(&mut stage, digits("123456789", true));
    assert_eq!(
        (infos(&actions), words(&actions)),
        (0, vec!["error".to_owned()])
    );
    let actions = order(&mut stage, digits("123456789", false));
    assert!(told(&actions).iter().any(|(_, message)| matches!(
        message,
        Message::Call(call::Message::Digits { duration, .. })
            if *duration == Duration::from_millis(40)
    )));
}

/// Tells whether the part is stored behind the gate before the client is told.
fn is_gated(actions: &Actions) -> bool {
    let gate = actions.iter().position(|action| {
        matches!(
            action,
            contract::Action::Store(contract::Store::Put { gate: true })
        )
    });
    let said = actions.iter().position(|action| {
        matches!(action, contract::Action::Tell { to: ActorId::DoorSession(..), message, .. }
            if matches!(message, Message::DoorSession(door_session::Message::Deliver(_))))
    });
    matches!((gate, said), (Some(gate), Some(said)) if gate < said)
}

#[test]
fn what_came_up_while_nobody_listened_is_safe_before_it_is_said() {
    let mut stage = confirmed();
    stage.tell(dialog::Message::FlowGone { flow: flow_of(7) });
    let offer = dialog::Message::Offer {
        sdp: Some(Bytes::from_static(b"v=0\r\n")),
        retries: false,
    };
    assert!(words(&stage.tell(offer)).is_empty());
    let back = order_of(&mut stage, flow_of(8), "tab-1", ClientCommand::Resumed);
    assert!(words(&back).contains(&"reoffer".to_owned()));
    assert!(is_gated(&back));
}

#[test]
fn what_a_client_learns_is_safe_before_it_is_said() {
    let mut stage = confirmed();
    let sdp = || Bytes::from_static(b"v=0\r\n");
    let offer = dialog::Message::Offer {
        sdp: Some(sdp()),
        retries: false,
    };
    assert!(is_gated(&stage.tell(offer)), "reoffer");
    order(&mut stage, ClientCommand::Reanswer { sdp: sdp() });
    let kind = OfferKind::Hold;
    order(&mut stage, ClientCommand::Offer { sdp: sdp(), kind });
    let accept = dialog::Message::AcceptOffer { sdp: Some(sdp()) };
    assert!(is_gated(&stage.tell(accept)), "held");

    let dial = call::Dial {
        aor: aor(),
        contact: contact(&aor(), "tab-1"),
        flow: flow_of(7),
        name: "c1".to_owned(),
        request: Some("q".to_owned()),
        to: "1001".to_owned(),
        sdp: sdp(),
    };
    let first = dialog::Message::Dial(Box::new(dial));
    let side = CallKey::from_bits(77 << 64).side(1);
    let core = JsonDialog::create(side, &first, &crate::script::site()).expect("a dialog");
    let mut stage = Stage::new(core, ActorId::Dialog(side));
    assert_eq!(words(&stage.tell(first)), ["trying"]);
    let sdp = Some(sdp());
    let ringing = dialog::Message::Progress {
        status: 180,
        sdp: None,
    };
    assert!(is_gated(&stage.tell(ringing)), "ringing");
    assert!(
        is_gated(&stage.tell(dialog::Message::Accept { sdp })),
        "callAccepted"
    );
}
