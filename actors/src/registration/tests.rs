//! Bindings come, are refreshed and go as RFC 3261 §10.3 says, and never before they are safe.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::time::Duration;

use bytes::Bytes;
use contract::{
    Action, ActorId, CallKey, Core, Emitted, Event, Restored, Space, Store, Undelivered,
};

use super::*;
use crate::script::{Actions, DIGEST, Stage, datagram, sent, statuses, stream, told};
use crate::{TransactionRef, call, door_session, flow};

pub(super) const PHONE: &str = "<sip:1000@192.0.2.9:5062>";

pub(super) fn id() -> ActorId {
    ActorId::Registration("1000@example.org".into())
}

pub(super) fn stage() -> Stage<Registration> {
    let aor = "1000@example.org".parse().expect("an AoR");
    Stage::new(
        Registration::known(aor, Vec::new(), past::Past::default(), Default::default()),
        id(),
    )
}

pub(super) fn home() -> FlowRef {
    datagram(DIGEST, "192.0.2.9:5062")
}

/// A REGISTER with extra header fields, one a line.
pub(super) fn register(cseq: u32, fields: &[&str], flow: FlowRef) -> Inbound {
    register_as("one", cseq, fields, flow)
}

pub(super) fn register_as(call_id: &str, cseq: u32, fields: &[&str], flow: FlowRef) -> Inbound {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let text = format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5062;branch=z9hG4bK{cseq}\r\n\
         From: <sip:1000@example.org>;tag=1\r\nTo: <sip:1000@example.org>\r\nCall-ID: {call_id}\r\n\
         CSeq: {cseq} REGISTER\r\nMax-Forwards: 70\r\n{fields}Content-Length: 0\r\n\r\n"
    );
    let request = sip::Message::read(Bytes::from(text)).expect("a request");
    let key = sip::transaction::Key::of_request(&request).expect("a key");
    let transaction = TransactionRef {
        node: Some(contract::NodeId(1)),
        lane: 2,
        key,
    };
    let identity = Some("1000@example.org".parse().expect("an AoR"));
    Inbound {
        transaction,
        flow,
        request,
        identity,
    }
}

fn tell(stage: &mut Stage<Registration>, inbound: Inbound) -> Actions {
    stage.tell(Message::Register(inbound))
}

/// Registers the phone for an hour.
fn registered() -> Stage<Registration> {
    let mut stage = stage();
    let contact = format!("Contact: {PHONE}");
    let actions = tell(
        &mut stage,
        register(1, &[&contact, "Expires: 3600"], home()),
    );
    assert_eq!(statuses(&actions), [200]);
    stage
}

/// The contacts that a 200 lists.
pub(super) fn contacts(actions: &Actions) -> Vec<String> {
    let (_, text) = sent(actions).pop().expect("a response");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("Contact: "));
    lines.map(str::to_owned).collect()
}

pub(super) fn stores(actions: &Actions) -> Vec<Store> {
    let stores = actions.iter().filter_map(|action| match action {
        Action::Store(store) => Some(*store),
        _ => None,
    });
    stores.collect()
}

pub(super) fn news(actions: &Actions) -> Vec<&'static str> {
    let news = actions.iter().filter_map(|action| match action {
        Action::Emit(Emitted::Registration { news, .. }) => Some(news.word()),
        _ => None,
    });
    news.collect()
}

pub(super) fn locate(stage: &mut Stage<Registration>) -> Vec<crate::Target> {
    let reply = ActorId::Call(CallKey::from_bits(1 << 100));
    let actions = stage.tell(Message::Locate {
        reply: reply.clone(),
    });
    match told(&actions).pop() {
        Some((to, crate::Message::Call(call::Message::Located { targets, .. }))) => {
            assert_eq!(to, reply);
            targets
        }
        other => panic!("{other:?}"),
    }
}

pub(super) const GATED: Store = Store::Put { gate: true };

#[test]
fn a_binding_is_stored_before_the_200_leaves() {
    let mut stage = stage();
    let contact = format!("Contact: {PHONE};expires=600;q=0.5");
    let actions = tell(&mut stage, register(1, &[&contact], home()));
    assert!(matches!(actions[0], Action::Store(GATED)), "{actions:?}");
    let Action::Tell { to, .. } = &actions[1] else {
        panic!("{actions:?}")
    };
    assert_eq!(*to, ActorId::Lane(stage.site.node, 2));
    assert_eq!(contacts(&actions), [format!("{PHONE};expires=600;q=0.500")]);
    assert_eq!(news(&actions), ["registered"]);
    let targets = locate(&mut stage);
    assert_eq!(
        (targets.len(), targets[0].flow, targets[0].q),
        (1, home(), 500)
    );
}

#[test]
fn a_query_changes_nothing_and_lists_what_remains() {
    let mut stage = registered();
    stage.pass(Duration::from_millis(1_500));
    let actions = tell(&mut stage, register(2, &[], home()));
    assert_eq!(contacts(&actions), [format!("{PHONE};expires=3599")]);
    assert!(stores(&actions).is_empty());
}

#[test]
fn register_with_expires_zero_removes_the_binding_and_ends_the_record() {
    for fields in [
        [format!("Contact: {PHONE};expires=0")],
        ["Contact: *\r\nExpires: 0".to_owned()],
    ] {
        let mut stage = registered();
        let actions = tell(&mut stage, register(2, &[&fields[0]], home()));
        assert_eq!(statuses(&actions), [200]);
        assert!(contacts(&actions).is_empty());
        assert!(matches!(
            stores(&actions)[..],
            [Store::End { gate: true, .. }]
        ));
        assert_eq!(news(&actions), ["removed"]);
        assert!(locate(&mut stage).is_empty());
    }
}

#[test]
fn a_star_with_another_expiry_or_another_contact_is_refused() {
    for fields in [
        ["Contact: *", "Expires: 60"].as_slice(),
        &["Contact: *"],
        &["Contact: *", "Contact: <sip:1000@192.0.2.9>", "Expires: 0"],
    ] {
        let mut stage = registered();
        let actions = tell(&mut stage, register(2, fields, home()));
        assert_eq!(statuses(&actions), [400], "{fields:?}");
        assert_eq!(locate(&mut stage).len(), 1);
    }
}

#[test]
fn a_repeat_is_answered_as_one_and_an_older_register_is_refused() {
    let mut stage = registered();
    let contact = format!("Contact: {PHONE}");
    let actions = tell(&mut stage, register(5, &[&contact, "Expires: 600"], home()));
    assert_eq!(news(&actions), ["refreshed"]);
    let actions = tell(&mut stage, register(5, &[&contact, "Expires: 600"], home()));
    assert_eq!((statuses(&actions), stores(&actions).len()), (vec![200], 0));
    let actions = tell(&mut stage, register(4, &[&contact, "Expires: 600"], home()));
    assert_eq!((statuses(&actions), stores(&actions).len()), (vec![500], 0));
    let gone = format!("Contact: {PHONE};expires=0");
    for field in [gone.as_str(), "Contact: *\r\nExpires: 0"] {
        let actions = tell(&mut stage, register(5, &[field], home()));
        assert_eq!(statuses(&actions), [500], "a used CSeq removes nothing");
    }
    let actions = tell(&mut stage, register_as("two", 1, &[&contact], home()));
    assert_eq!(
        statuses(&actions),
        [200],
        "another Call-ID begins its own order"
    );
}

/// A page that was loaded again begins with the same numbers on another connection.
#[test]
fn the_same_register_over_another_connection_moves_the_binding() {
    let mut stage = stage();
    let contact = format!("Contact: {PHONE}");
    let (first, second) = (crate::script::stream(1), crate::script::stream(2));
    tell(&mut stage, register(1, &[&contact, "Expires: 600"], first));
    let actions = tell(&mut stage, register(1, &[&contact, "Expires: 600"], first));
    assert_eq!((statuses(&actions), stores(&actions).len()), (vec![200], 0));
    let actions = tell(&mut stage, register(1, &[&contact, "Expires: 600"], second));
    assert_eq!((statuses(&actions), stores(&actions).len()), (vec![200], 1));
    assert_eq!(stage.core.bindings[0].flow, second);
}

#[test]
fn an_expiry_is_bounded_on_both_sides() {
    let mut stage = stage();
    let contact = format!("Contact: {PHONE}");
    let actions = tell(&mut stage, register(1, &[&contact, "Expires: 59"], home()));
    assert_eq!(statuses(&actions), [423]);
    assert!(sent(&actions)[0].1.contains("\r\nMin-Expires: 60\r\n"));
    assert!(stores(&actions).is_empty());
    for (cseq, field, granted) in [
        (2, "Expires: 60", 60),
        (3, "Expires: 4294967295", 7_200),
        (4, "Subject: no wish", 3_600),
    ] {
        let actions = tell(&mut stage, register(cseq, &[&contact, field], home()));
        assert_eq!(contacts(&actions), [format!("{PHONE};expires={granted}")]);
    }
}

#[test]
fn an_early_refresh_is_answered_from_memory_and_never_promises_more_than_is_stored() {
    let mut stage = registered();
    let contact = format!("Contact: {PHONE}");
    stage.pass(Duration::from_secs(1_000));
    let actions = tell(
        &mut stage,
        register(2, &[&contact, "Expires: 3600"], home()),
    );
    assert!(stores(&actions).is_empty());
    assert_eq!(contacts(&actions), [format!("{PHONE};expires=2600")]);
    stage.pass(Duration::from_secs(900));
    let actions = tell(
        &mut stage,
        register(3, &[&contact, "Expires: 3600"], home()),
    );
    assert_eq!(stores(&actions), [GATED]);
    assert_eq!(contacts(&actions), [format!("{PHONE};expires=3600")]);
}

#[test]
fn an_early_refresh_that_changes_more_than_the_expiry_is_stored() {
    let elsewhere = datagram(DIGEST, "192.0.2.10:5062");
    for (fields, flow) in [
        (format!("Contact: {PHONE};q=0.1"), home()),
        (format!("Contact: {PHONE}"), elsewhere),
        (format!("Contact: {PHONE};expires=100"), home()),
        (
            format!("Contact: {PHONE}\r\nPath: <sip:edge.example.org;lr>"),
            home(),
        ),
    ] {
        let mut stage = registered();
        let actions = tell(&mut stage, register(2, &[&fields], flow));
        assert_eq!(stores(&actions), [GATED], "{fields}");
        assert_eq!(locate(&mut stage)[0].flow, flow);
    }
}

#[test]
fn more_contacts_than_allowed_are_refused_and_change_nothing() {
    let mut stage = registered();
    let fields = ["Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.2>"];
    let actions = tell(&mut stage, register(2, &fields, home()));
    assert_eq!(statuses(&actions), [403]);
    assert_eq!(locate(&mut stage).len(), 1);
    let actions = tell(
        &mut stage,
        register(3, &["Contact: <sip:a@192.0.2.1>"], home()),
    );
    assert_eq!(statuses(&actions), [200]);
    assert_eq!(contacts(&actions).len(), 2);
}

#[test]
fn contacts_that_do_not_fit_a_record_or_are_no_sip_are_refused() {
    let long = format!("Contact: <sip:{}@192.0.2.1>", "x".repeat(2_000));
    for field in [long.as_str(), "Contact: <mailto:a@example.org>"] {
        let mut stage = stage();
        let actions = tell(&mut stage, register(1, &[field], home()));
        assert_eq!(
            (statuses(&actions), stores(&actions).len()),
            (vec![400], 0),
            "{field}"
        );
    }
}

#[test]
fn an_equivalent_contact_is_the_same_binding() {
    let mut stage = registered();
    let contact = "Contact: <sip:%31000@192.0.2.9:5062>";
    let actions = tell(&mut stage, register(2, &[contact], home()));
    assert_eq!(contacts(&actions).len(), 1);
    let other = "Contact: <sip:1000@192.0.2.9:5062;transport=tcp>";
    let actions = tell(&mut stage, register(3, &[other], home()));
    assert_eq!(
        contacts(&actions).len(),
        2,
        "RFC 3261 §19.1.4: transport must match"
    );
}

#[test]
fn a_flow_of_an_instance_is_replaced_by_its_next_registration() {
    let mut stage = stage();
    let contact =
        |host: &str| format!("Contact: <sip:x@{host}>;+sip.instance=\"<urn:uuid:7>\";reg-id=1");
    let supported = "Supported: path, outbound";
    let fields = [
        &contact("a.invalid"),
        supported,
        "Path: <sip:edge.example.org;lr>",
    ];
    let actions = tell(&mut stage, register(1, &fields, stream(3)));
    let text = &sent(&actions)[0].1;
    assert!(text.contains("\r\nRequire: outbound\r\n"), "{text}");
    assert!(
        text.contains("\r\nPath: <sip:edge.example.org;lr>\r\n"),
        "{text}"
    );
    let watch = told(&actions).pop().expect("a watch");
    assert_eq!(watch.0, ActorId::Flow(stage.site.node, 3));
    assert!(
        matches!(watch.1, crate::Message::Flow(flow::Message::Watch { watcher, .. }) if watcher == id())
    );
    let actions = tell(
        &mut stage,
        register_as("two", 1, &[&contact("b.invalid"), supported], stream(4)),
    );
    let listed = contacts(&actions);
    assert_eq!(listed.len(), 1);
    assert!(
        listed[0].contains("b.invalid") && listed[0].contains("reg-id=1"),
        "{listed:?}"
    );
    assert_eq!(locate(&mut stage)[0].flow, stream(4));
    let two = [contact("c"), contact("d")];
    let actions = tell(&mut stage, register(9, &[&two[0], &two[1]], stream(4)));
    assert_eq!(
        statuses(&actions),
        [400],
        "RFC 5626 §4.2: one flow a REGISTER"
    );
}

#[test]
fn targets_come_by_preference_then_the_newest_first() {
    let mut stage = stage();
    stage.site.domains[0]
        .users
        .get_mut("1000")
        .expect("an account")
        .max_contacts = 9;
    for (cseq, contact) in [
        "<sip:a@a>;q=0.3",
        "<sip:b@b>;q=0.9",
        "<sip:c@c>;q=0.9",
        "<sip:d@d>",
    ]
    .iter()
    .enumerate()
    {
        let cseq = u32::try_from(cseq).expect("small") + 1;
        let field = format!("Contact: {contact}");
        assert_eq!(
            statuses(&tell(&mut stage, register(cseq, &[&field], home()))),
            [200]
        );
    }
    let order: Vec<String> = locate(&mut stage)
        .iter()
        .map(|target| target.uri.to_string())
        .collect();
    assert_eq!(order, ["sip:d@d", "sip:c@c", "sip:b@b", "sip:a@a"]);
}

#[test]
fn a_binding_ends_at_its_expiry_and_the_last_one_ends_the_record() {
    let mut stage = registered();
    tell(
        &mut stage,
        register(2, &["Contact: <sip:a@a>;expires=100"], home()),
    );
    let actions = stage.pass(Duration::from_secs(100));
    assert_eq!(
        (stores(&actions), news(&actions)),
        (vec![Store::Put { gate: false }], vec!["expired"])
    );
    let actions = stage.pass(Duration::from_secs(3_500));
    assert!(matches!(
        stores(&actions)[..],
        [Store::End { gate: false, .. }]
    ));
    assert_eq!(stage.core.next_deadline(), None);
    assert_eq!(stage.core.state(), "empty");
}

#[test]
fn a_binding_whose_connection_is_gone_is_kept_as_unreachable() {
    let mut stage = stage();
    let contact = format!("Contact: {PHONE}");
    tell(&mut stage, register(1, &[&contact], stream(3)));
    let actions = stage.tell(Message::FlowGone { flow: stream(4) });
    assert!(actions.is_empty());
    let actions = stage.tell(Message::FlowGone { flow: stream(3) });
    assert_eq!(stores(&actions), [Store::Put { gate: false }]);
    assert!(locate(&mut stage)[0].unreachable);
    let actions = tell(&mut stage, register(2, &[&contact], stream(4)));
    assert_eq!(news(&actions), ["refreshed"]);
    assert!(!locate(&mut stage)[0].unreachable);
    let watch = told(&actions).pop().expect("a watch");
    let (to, message) = watch;
    let why = Undelivered::Absent;
    stage.event(Event::Undelivered { to, message, why });
    assert!(
        locate(&mut stage)[0].unreachable,
        "the connection was gone before the watch came"
    );
}

#[test]
fn bindings_over_connections_are_unreachable_after_a_start_of_the_node() {
    let mut stage = registered();
    let contact = "Contact: <sip:a@a>";
    tell(&mut stage, register(2, &[contact], stream(3)));
    let snapshot = stage.core.snapshot(stage.now);
    let bytes = contract::codec::encode(&snapshot).expect("encodes");
    for (why, unreachable) in [
        (Restored::NodeStart, 1),
        (Restored::Wake, 0),
        (Restored::Panic, 0),
    ] {
        let read = contract::codec::decode(&bytes).expect("decodes");
        stage.core = Registration::restore(read, stage.now).expect("restores");
        assert_eq!(stage.core.snapshot(stage.now), snapshot);
        let actions = stage.event(Event::Restored(why));
        assert_eq!(stores(&actions).len(), unreachable, "{why:?}");
        assert_eq!(
            told(&actions).len(),
            1 - unreachable,
            "a living connection is asked"
        );
        let lost = locate(&mut stage)
            .iter()
            .filter(|target| target.unreachable)
            .count();
        assert_eq!(lost, unreachable, "{why:?}");
    }
}

#[test]
fn what_remains_of_an_expiry_survives_a_restart_with_another_clock() {
    let stage = registered();
    let snapshot = stage.core.snapshot(stage.now);
    for (utc_s, left_s) in [(600, 3_000), (90_000, 0)] {
        let now = contract::Now {
            mono: contract::Time::from_micros(7),
            utc: stage.now.utc.after(Duration::from_secs(utc_s)),
        };
        let restored = Registration::restore(snapshot.clone(), now).expect("restores");
        let (at, _) = restored.next_deadline().expect("a deadline");
        assert_eq!(at.since(now.mono), Duration::from_secs(left_s));
    }
}

#[test]
fn the_operator_clears_all_bindings() {
    let mut stage = registered();
    let actions = stage.tell(Message::Clear);
    assert!(matches!(
        stores(&actions)[..],
        [Store::End { gate: true, .. }]
    ));
    assert_eq!(news(&actions), ["removed"]);
    assert!(stage.tell(Message::Clear).is_empty());
}

#[test]
fn a_full_disk_keeps_renewals_and_sheds_new_bindings() {
    let refresh = format!("Contact: {PHONE};q=0.2");
    for (space, draining, new, renewal) in [
        (Space::Ample, false, 200, 200),
        (Space::Ample, true, 503, 200),
        (Space::Low, false, 503, 200),
        (Space::Exhausted, false, 503, 503),
    ] {
        let mut stage = registered();
        stage.health.space = space;
        stage.health.draining = draining;
        let actions = tell(&mut stage, register(2, &["Contact: <sip:a@a>"], home()));
        assert_eq!(statuses(&actions), [new], "{space:?}");
        assert_eq!(
            sent(&actions)[0].1.contains("\r\nRetry-After: "),
            new == 503
        );
        let actions = tell(&mut stage, register(3, &[&refresh], home()));
        assert_eq!(statuses(&actions), [renewal], "{space:?}");
    }
}

#[test]
fn nobody_registers_for_another() {
    let mut stage = stage();
    let mut inbound = register(1, &["Contact: <sip:a@a>"], home());
    inbound.identity = Some("1001@example.org".parse().expect("an AoR"));
    assert_eq!(statuses(&tell(&mut stage, inbound.clone())), [403]);
    inbound.identity = None;
    assert_eq!(statuses(&tell(&mut stage, inbound)), [403]);
}

/// What looks for a user may ring it: whoever picks up asks for that, while it may.
#[test]
fn the_calls_that_look_for_a_user_are_known_while_they_may_ring() {
    let mut stage = registered();
    let asks = ActorId::Call(CallKey::from_bits(9 << 100));
    let who = |stage: &mut Stage<Registration>| {
        let reply = asks.clone();
        let actions = stage.tell(Message::WhoCalls { reply });
        match told(&actions).pop() {
            Some((to, crate::Message::Call(call::Message::WhoCalls { calls, .. }))) => {
                assert_eq!(to, asks);
                calls.into_iter().map(|(call, _)| call).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(who(&mut stage), []);
    assert_eq!(stage.core.passivates_after(), Some(Duration::from_secs(2)));
    let call = |number: u128| CallKey::from_bits(number << 100);
    for number in [1, 2, 1] {
        let reply = ActorId::Call(call(number));
        stage.tell(Message::Locate { reply });
    }
    assert_eq!(who(&mut stage), [call(1), call(2)]);
    let stays = stage.core.passivates_after();
    assert!(stays > Some(Duration::from_secs(60)), "{stays:?}");
    for number in 3..30 {
        let reply = ActorId::Call(call(number));
        stage.tell(Message::Locate { reply });
    }
    let known = who(&mut stage);
    assert_eq!(known.len(), contract::limits::RINGING_CALLS_MAX);
    assert_eq!(known.last(), Some(&call(29)));
    // A phone may ring for as long as a group says.
    stage.pass(Duration::from_secs(180));
    assert_eq!(who(&mut stage).len(), contract::limits::RINGING_CALLS_MAX);
    stage.pass(Duration::from_secs(46));
    assert_eq!(who(&mut stage), []);
    let rests = stage.core.passivates_after();
    assert_eq!(rests, Some(Duration::from_secs(2)), "it rests again");
}

#[test]
fn only_a_register_starts_a_registration() {
    let stage = stage();
    let reply = ActorId::Call(CallKey::from_bits(1 << 100));
    let flow = stream(1);
    for message in [
        Message::Locate { reply },
        Message::FlowGone { flow },
        Message::Clear,
    ] {
        assert!(Registration::create("1000@example.org", &message, &stage.site).is_none());
    }
    let message = Message::Register(register(1, &[], home()));
    assert!(Registration::create("1000@example.org", &message, &stage.site).is_some());
}

#[test]
fn the_roster_restores_what_it_stored() {
    use contract::Roster;
    let stage = registered();
    let any = crate::AnyCore::Registration(Box::new(stage.core.clone()));
    let bytes = any.snapshot(stage.now, contract::SchemaVersion::NEWEST);
    let restored = crate::AnyCore::restore(&id(), &bytes, stage.now).expect("restores");
    assert_eq!(restored.view(stage.now), any.view(stage.now));
    assert_eq!(restored.state(), "1 binding");
    assert!(crate::AnyCore::restore(&id(), &bytes[1..], stage.now).is_err());
    assert!(restored.passivates_after().is_some());
}

pub(super) fn json_flow(number: u64) -> FlowRef {
    match stream(number) {
        FlowRef::Stream {
            node,
            number,
            listener,
            remote,
            ..
        } => FlowRef::Stream {
            node,
            number,
            listener,
            remote,
            door: contract::Door::Json,
        },
        datagram => datagram,
    }
}

pub(super) fn client(instance: &str, number: u64) -> Client {
    let flow = json_flow(number);
    Client {
        instance: instance.to_owned(),
        flow,
        reply: flow.actor().expect("a session"),
    }
}

pub(super) fn bind(
    stage: &mut Stage<Registration>,
    client: &Client,
    expires_s: Option<u32>,
) -> Actions {
    let client = client.clone();
    stage.tell(Message::Bind { client, expires_s })
}

/// What sessions were told.
pub(super) fn answers(actions: &Actions) -> Vec<(ActorId, String)> {
    let told = told(actions).into_iter();
    told.filter_map(|(to, message)| match message {
        crate::Message::DoorSession(door_session::Message::Watch { .. }) => None,
        crate::Message::DoorSession(message) => Some((to, message.describe().0)),
        _ => None,
    })
    .collect()
}

pub(super) fn answer(actions: &Actions) -> String {
    let answers = answers(actions);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers[0].1.clone()
}

#[test]
fn a_json_client_is_bound_durably_and_watched() {
    let mut stage = stage();
    let one = client("Tab_1", 7);
    let actions = bind(&mut stage, &one, None);
    assert!(matches!(actions[0], Action::Store(GATED)), "{actions:?}");
    assert_eq!(answer(&actions), "bound for 3600 s");
    assert!(told(&actions).iter().any(|(to, message)| *to == one.reply
        && matches!(
            message,
            crate::Message::DoorSession(door_session::Message::Watch { .. })
        )));
    let targets = locate(&mut stage);
    assert_eq!(targets[0].flow, json_flow(7));
    assert_eq!(targets[0].door(), contract::Door::Json);
    assert_eq!(
        targets[0].uri.to_string(),
        "sip:1000@tab-1.invalid;transport=ws"
    );
    stage.tell(Message::FlowGone { flow: json_flow(7) });
    assert!(locate(&mut stage)[0].unreachable);
}

#[test]
fn a_json_clients_lifetime_is_a_minute_to_an_hour() {
    for (wish, outcome) in [
        (None, "bound for 3600 s"),
        (Some(60), "bound for 60 s"),
        (Some(600), "bound for 600 s"),
        (Some(86_400), "bound for 3600 s"),
        (Some(59), "refused 423 expiry too brief"),
        (Some(0), "refused 423 expiry too brief"),
    ] {
        let mut stage = stage();
        let actions = bind(&mut stage, &client("a", 7), wish);
        assert_eq!(answer(&actions), outcome, "{wish:?}");
    }
}

#[test]
fn a_refresh_before_half_life_is_answered_from_memory() {
    let mut stage = stage();
    let one = client("a", 7);
    bind(&mut stage, &one, None);
    stage.pass(Duration::from_secs(100));
    let actions = bind(&mut stage, &one, None);
    assert!(stores(&actions).is_empty());
    assert_eq!(answer(&actions), "bound for 3500 s");
    stage.pass(Duration::from_secs(1_800));
    let actions = bind(&mut stage, &one, None);
    assert_eq!(stores(&actions), [GATED]);
    assert_eq!(answer(&actions), "bound for 3600 s");
}

#[test]
fn the_same_instance_over_another_connection_replaces_the_binding() {
    let mut stage = stage();
    bind(&mut stage, &client("a", 7), None);
    let actions = bind(&mut stage, &client("a", 8), None);
    assert_eq!(stores(&actions), [GATED]);
    let told = answers(&actions);
    assert_eq!(told[0].1, "bound for 3600 s");
    assert_eq!(told[1].0, client("a", 7).reply);
    assert!(told[1].1.starts_with("replaced"));
    assert_eq!(locate(&mut stage).len(), 1);
    // The end of the old connection is no news.
    assert!(
        stage
            .tell(Message::FlowGone { flow: json_flow(7) })
            .is_empty()
    );
    // One that was gone already is told nothing.
    stage.tell(Message::FlowGone { flow: json_flow(8) });
    let actions = bind(&mut stage, &client("a", 9), None);
    assert_eq!(answer(&actions), "bound for 3600 s");
}

#[test]
fn a_json_client_resumes_its_binding_for_what_remains_of_it() {
    let mut stage = stage();
    let actions = stage.tell(Message::Resume {
        client: client("a", 7),
    });
    assert_eq!(answer(&actions), "refused 410 no such binding");
    bind(&mut stage, &client("a", 7), None);
    stage.pass(Duration::from_secs(600));
    stage.event(Event::Restored(Restored::NodeStart));
    assert!(locate(&mut stage)[0].unreachable);
    let actions = stage.tell(Message::Resume {
        client: client("a", 9),
    });
    assert_eq!(stores(&actions), [GATED]);
    assert_eq!(answer(&actions), "bound for 3000 s");
    let targets = locate(&mut stage);
    assert_eq!(
        (targets[0].flow, targets[0].unreachable),
        (json_flow(9), false)
    );
    stage.pass(Duration::from_secs(3_001));
    let actions = stage.tell(Message::Resume {
        client: client("a", 10),
    });
    assert_eq!(answer(&actions), "refused 410 no such binding");
}

#[test]
fn a_json_client_leaves_only_by_its_own_connection() {
    let mut stage = stage();
    bind(&mut stage, &client("a", 7), None);
    let actions = stage.tell(Message::Unbind {
        client: client("a", 8),
    });
    assert!(stores(&actions).is_empty());
    assert_eq!(locate(&mut stage).len(), 1);
    let actions = stage.tell(Message::Unbind {
        client: client("a", 7),
    });
    assert!(matches!(
        stores(&actions)[..],
        [Store::End { gate: true, .. }]
    ));
    assert_eq!(answer(&actions), "unbound");
    assert!(locate(&mut stage).is_empty());
}

#[test]
fn limits_and_a_full_disk_bind_json_clients_too() {
    let mut stage = stage();
    for number in 0..2 {
        bind(&mut stage, &client(&format!("i{number}"), number), None);
    }
    let actions = bind(&mut stage, &client("i2", 2), None);
    assert_eq!(answer(&actions), "refused 403 too many contacts");
    stage.health.space = Space::Low;
    let actions = bind(&mut stage, &client("i1", 3), None);
    assert!(answer_of_bound(&actions), "a known one is refreshed");
    stage.health.space = Space::Exhausted;
    let actions = bind(&mut stage, &client("i1", 4), None);
    assert_eq!(answer(&actions), "refused 503 no room for bindings");
    assert_eq!(locate(&mut stage).len(), 2);
}

fn answer_of_bound(actions: &Actions) -> bool {
    answers(actions)[0].1.starts_with("bound")
}

#[test]
fn a_register_over_websocket_lasts_ten_minutes_at_most() {
    for (wish, granted) in [
        ("Expires: 3600", 600),
        ("Expires: 120", 120),
        ("X-None: 1", 600),
    ] {
        let mut stage = stage();
        let at = usize::from(crate::script::STREAM.0);
        stage.site.listeners[at].transport = rsip::Transport::Wss;
        let contact = "Contact: <sip:1000@x.invalid;transport=ws>";
        let actions = tell(&mut stage, register(1, &[contact, wish], stream(7)));
        let wanted = format!("<sip:1000@x.invalid;transport=ws>;expires={granted}");
        assert_eq!(contacts(&actions), [wanted], "{wish}");
    }
}

#[test]
fn a_phone_is_reached_at_its_own_port_only_if_nothing_says_otherwise() {
    let source = datagram(DIGEST, "192.0.2.9:5062");
    let own = datagram(DIGEST, "192.0.2.9:5099");
    let usual = datagram(DIGEST, "192.0.2.9:5060");
    let here = "Contact: <sip:1000@192.0.2.9:5099>";
    let kept = "Contact: <sip:1000@192.0.2.9:5099>;+sip.instance=\"<urn:x>\";reg-id=1";
    let table: [(&[&str], bool, FlowRef); 7] = [
        (&[here], false, own),
        (&["Contact: <sip:1000@192.0.2.9>"], false, usual),
        (&["Contact: <sip:1000@203.0.113.1:5099>"], false, source),
        (&["Contact: <sip:1000@phone.example:5099>"], false, source),
        (&[here, "Path: <sip:proxy.example;lr>"], false, source),
        (&[kept], false, source),
        (&[here], true, source),
    ];
    for (fields, nat, wanted) in table {
        let mut stage = stage();
        stage.site.listeners[usize::from(DIGEST.0)].nat = nat;
        tell(&mut stage, register(1, fields, source));
        assert_eq!(locate(&mut stage)[0].flow, wanted, "{fields:?} nat {nat}");
    }
    // Over a connection there is one way only.
    let mut stage = stage();
    let contact = "Contact: <sip:1000@192.0.2.7:5099>";
    tell(&mut stage, register(1, &[contact], stream(7)));
    assert_eq!(locate(&mut stage)[0].flow, stream(7));
}

#[test]
fn a_window_that_was_closed_leaves_its_place_to_another() {
    let mut stage = stage();
    for number in 0..2 {
        bind(&mut stage, &client(&format!("i{number}"), number), None);
    }
    stage.tell(Message::FlowGone { flow: json_flow(1) });
    let actions = bind(&mut stage, &client("i2", 2), None);
    assert!(answer_of_bound(&actions), "{actions:?}");
    assert_eq!(stores(&actions), [GATED]);
    let flows: Vec<_> = locate(&mut stage).iter().map(|one| one.flow).collect();
    assert_eq!(flows.len(), 2);
    assert!(!flows.contains(&json_flow(1)));
    let actions = bind(&mut stage, &client("i3", 3), None);
    assert_eq!(answer(&actions), "refused 403 too many contacts");
}
