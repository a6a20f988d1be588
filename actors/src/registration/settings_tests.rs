//! What a user sets is safe before it is told, outlives its bindings, and is merged as a whole.

use std::time::Duration;

use contract::{CallKey, NodeId, Roster, SchemaVersion, Space, Store};

use super::settings::{Change, DiversionReason, Fault, Set, Settings};
use super::tests::{GATED, stage, stores};
use super::*;
use crate::script::{Actions, Stage, told};
use crate::{AnyCore, call, console};

fn ready() -> Stage<Registration> {
    let mut stage = stage();
    stage.health.schema = SchemaVersion::NEWEST;
    stage.site.domains[0].routes = vec![crate::site::Route {
        name: "local".to_owned(),
        profile: None,
        destination: regex::Regex::new("^1...$").expect("a pattern"),
        hours: None,
        steps: Vec::new(),
        bypass: false,
    }];
    stage
}

fn ask(stage: &mut Stage<Registration>, change: Change) -> Actions {
    stage.tell(Message::Set(Box::new(Set {
        change,
        reply: ActorId::Console(NodeId(1)),
        echo: "7".to_owned(),
    })))
}

fn set(stage: &mut Stage<Registration>, change: Change) -> Result<Settings, Fault> {
    let actions = ask(stage, change);
    match told(&actions).pop() {
        Some((
            ActorId::Console(_),
            crate::Message::Console(console::Message::IsSet { echo, result }),
        )) => {
            assert_eq!(echo, "7");
            result
        }
        other => panic!("{other:?}"),
    }
}

fn divert(on: DiversionReason, to: &str) -> Change {
    let to = Some(to.to_owned());
    Change::Divert { on, to }
}

fn status(result: Result<Settings, Fault>) -> u16 {
    result.map_or_else(|fault| fault.status, |_| 200)
}

#[test]
fn what_is_set_is_safe_first_and_what_changes_nothing_is_not_stored() {
    let mut stage = ready();
    let actions = ask(&mut stage, Change::DoNotDisturb(true));
    assert_eq!(stores(&actions), [GATED]);
    let again = ask(&mut stage, Change::DoNotDisturb(true));
    assert!(stores(&again).is_empty());
    let asked = set(&mut stage, Change::Nothing).expect("settings");
    assert!(asked.do_not_disturb);
}

#[test]
fn calls_are_told_what_is_set_and_dialogs_are_not() {
    let mut stage = ready();
    set(&mut stage, divert(DiversionReason::Busy, "1001")).expect("is set");
    let key = CallKey::from_bits(1 << 100);
    let reply = ActorId::Call(key);
    let told_call = told(&stage.tell(Message::Locate { reply }));
    assert!(matches!(
        &told_call[..],
        [(_, crate::Message::Call(call::Message::LocatedAs { settings, .. }))]
            if settings.busy.as_deref() == Some("1001")
    ));
    let reply = ActorId::Dialog(key.side(1));
    let told_dialog = told(&stage.tell(Message::Locate { reply }));
    assert!(matches!(
        &told_dialog[..],
        [(
            _,
            crate::Message::Dialog(crate::dialog::Message::Located { .. })
        )]
    ));
}

/// It was answered by a node that was cut off: simulator, forwards, 3 nodes, seed 18.
#[test]
fn what_was_set_on_the_other_side_of_a_cut_is_taken_in() {
    let mut other = ready();
    set(&mut other, Change::DoNotDisturb(true)).expect("is set");
    let mut stage = ready();
    let copy = AnyCore::Registration(Box::new(other.core))
        .snapshot(other.now, SchemaVersion::NEWEST)
        .into();
    let merged = stage.tell(Message::Merge { copy });
    assert_eq!(stores(&merged).len(), 1);
    assert!(
        set(&mut stage, Change::Nothing)
            .expect("settings")
            .do_not_disturb
    );
}

#[test]
fn what_cannot_be_set_is_refused_and_changes_nothing() {
    let long = "1".repeat(65);
    let all = |no_answer_s| {
        Change::Replace(Box::new(Settings {
            no_answer_s: Some(no_answer_s),
            ..Settings::default()
        }))
    };
    for (change, wanted) in [
        (divert(DiversionReason::Always, "1000"), 400),
        (divert(DiversionReason::Always, ""), 400),
        (divert(DiversionReason::Always, &long), 400),
        (divert(DiversionReason::Always, "1001@elsewhere"), 400),
        (divert(DiversionReason::Always, "10 01"), 400),
        (divert(DiversionReason::Always, "no-route"), 400),
        (all(2), 400),
        (all(181), 400),
        (all(20), 200),
    ] {
        let mut stage = ready();
        let text = format!("{change:?}");
        assert_eq!(status(set(&mut stage, change)), wanted, "{text}");
        let kept = set(&mut stage, Change::Nothing).expect("settings");
        assert_eq!(kept == Settings::default(), wanted != 200, "{text}");
    }
}

#[test]
fn nothing_is_set_without_room_or_while_a_node_cannot_read_it() {
    let mut stage = ready();
    stage.health.space = Space::Low;
    assert_eq!(status(set(&mut stage, Change::DoNotDisturb(true))), 503);
    let mut stage = ready();
    stage.health.schema = SchemaVersion(2);
    assert_eq!(status(set(&mut stage, Change::DoNotDisturb(true))), 503);
    assert_eq!(status(set(&mut stage, Change::Nothing)), 200);
}

#[test]
fn settings_outlive_bindings_and_end_when_no_copy_could_bring_them_back() {
    let mut stage = ready();
    set(&mut stage, Change::DoNotDisturb(true)).expect("is set");
    stage.pass(Duration::from_secs(7_200));
    assert!(
        set(&mut stage, Change::Nothing)
            .expect("settings")
            .do_not_disturb
    );
    let actions = ask(&mut stage, Change::DoNotDisturb(false));
    assert_eq!(
        stores(&actions),
        [GATED],
        "that they are none is remembered"
    );
    let ends = |actions: &Actions| {
        let stores = stores(actions);
        stores.iter().any(|one| matches!(one, Store::End { .. }))
    };
    assert!(!ends(&stage.pass(Duration::from_secs(1_800))));
    assert!(ends(&stage.pass(Duration::from_secs(90_000))));
}

/// Returns which calls the user may be in, as a call hears that looks for it.
fn looks(stage: &mut Stage<Registration>, call: CallKey) -> Vec<CallKey> {
    let reply = ActorId::Call(call);
    let told = told(&stage.tell(Message::Locate { reply }));
    match &told[..] {
        [(_, crate::Message::Call(call::Message::LocatedAs { engaged, .. }))] => engaged.clone(),
        other => panic!("{other:?}"),
    }
}

fn call(number: u128) -> CallKey {
    CallKey::from_bits(number << 100)
}

#[test]
fn the_calls_of_who_wants_none_beside_another_are_known_in_their_order() {
    let mut stage = ready();
    set(&mut stage, divert(DiversionReason::Busy, "1001")).expect("is set");
    let begins = |number| Message::InCall {
        call: call(number),
        is_in: true,
    };
    // Of others nothing is kept.
    assert!(stores(&stage.tell(begins(1))).is_empty());
    assert_eq!(looks(&mut stage, call(2)), []);
    assert_eq!(looks(&mut stage, call(3)), []);

    set(&mut stage, Change::CallWaiting(false)).expect("is set");
    assert_eq!(looks(&mut stage, call(4)), []);
    assert_eq!(stores(&stage.tell(begins(5))).len(), 1);
    assert!(stores(&stage.tell(begins(5))).is_empty(), "known already");
    assert_eq!(looks(&mut stage, call(6)), [call(4), call(5)]);
    // Only what was known before it counts for a call that looks again.
    assert_eq!(looks(&mut stage, call(5)), [call(4)]);
    // It outlives the node, and is merged.
    let core = AnyCore::Registration(Box::new(stage.core.clone()));
    let copy = core.snapshot(stage.now, SchemaVersion::NEWEST);
    let id = ActorId::Registration(stage.core.aor.as_str().into());
    let restored = AnyCore::restore(&id, &copy, stage.now).expect("a registration");
    let AnyCore::Registration(restored) = restored else {
        panic!("no registration");
    };
    assert_eq!(restored.engaged, [call(4), call(5), call(6)]);
    let mut cut_off = ready();
    cut_off.tell(Message::Merge { copy: copy.into() });
    assert_eq!(looks(&mut cut_off, call(7)), [call(4), call(5), call(6)]);

    let is_in = false;
    let ends = Message::InCall {
        call: call(4),
        is_in,
    };
    assert_eq!(stores(&stage.tell(ends)).len(), 1);
    assert_eq!(looks(&mut stage, call(8)), [call(5), call(6)]);
    for number in 10..60 {
        looks(&mut stage, call(number));
    }
    let most = contract::limits::ENGAGED_CALLS_MAX;
    assert_eq!(looks(&mut stage, call(99)).len(), most);
    set(&mut stage, Change::CallWaiting(true)).expect("is set");
    assert!(stage.core.engaged.is_empty());
    assert_eq!(looks(&mut stage, call(100)), []);
}

#[test]
fn calls_wait_beside_others_unless_the_user_says_otherwise() {
    let said: Settings = serde_json::from_str("{}").expect("settings");
    assert!(said.call_waiting && said == Settings::default());
    let said: Settings = serde_json::from_str(r#"{"call_waiting":false}"#).expect("settings");
    assert!(!said.call_waiting);
}
