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
