//! Do not disturb, and calls that go elsewhere than to whom they were for (RFC 5806, RFC 7044).

use std::time::Duration;

use contract::{Emitted, SchemaVersion};
use sip::HeaderName;

use super::fixture::*;
use crate::registration::settings::{DiversionReason, Settings};

fn world() -> World {
    let mut world = World::new();
    world.health.schema = SchemaVersion::NEWEST;
    for number in ["1002", "1003", "1009"] {
        world.registered.push(aor(&format!("{number}@example.org")));
    }
    world
}

fn sends(world: &mut World, number: &str, on: DiversionReason, to: &str) {
    let user = aor(&format!("{number}@example.org"));
    let settings = world.settings.entry(user).or_default();
    let to = Some(to.to_owned());
    match on {
        DiversionReason::Always => settings.always = to,
        DiversionReason::Busy => settings.busy = to,
        DiversionReason::NoAnswer => settings.no_answer = to,
        DiversionReason::Unreachable => settings.unreachable = to,
    }
}

fn diverted(world: &World) -> Vec<String> {
    let news = world.emitted.iter().filter_map(|emitted| match emitted {
        Emitted::CallState {
            news: contract::CallNews::Diverted { by, on, to },
            ..
        } => Some(format!("{by} {on} {to}")),
        _ => None,
    });
    news.collect()
}

/// The numbers in To of the INVITEs to a peer.
fn called(world: &World, peer: &str) -> Vec<String> {
    let to = peer.parse().expect("an address");
    let invites = world
        .sent
        .iter()
        .filter(|sent| sent.flow.remote() == to && is_of(&sent.message, "INVITE"));
    let user = |sent: &Sent| {
        sent.message
            .to()
            .expect("To")
            .uri
            .user()
            .unwrap_or_default()
    };
    invites.map(user).collect()
}

#[test]
fn every_call_goes_elsewhere_and_says_whence_it_comes() {
    let mut world = world();
    sends(&mut world, "1001", DiversionReason::Always, "1002");
    world.call("1001", SDP_A);
    assert_eq!(called(&world, B), ["1002"]);
    assert_eq!(diverted(&world), ["1001@example.org always 1002"]);
    assert_eq!(world.count(A, "181"), 1);
    let invite = world.last(B, "INVITE").message;
    let all = |name| invite.list(name).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        all(HeaderName::Diversion),
        ["<sip:1001@example.org>;reason=unconditional;counter=1"]
    );
    assert_eq!(
        all(HeaderName::HistoryInfo),
        [
            "<sip:1001@example.org>;index=1",
            "<sip:1002@example.org;cause=302>;index=1.1;mp=1"
        ]
    );
    assert_eq!(invite.header(HeaderName::MaxForwards), Some("68"));
    world.answer(B, "INVITE", 200, SDP_B);
    world.ack("");
    assert_eq!(world.state(&world.call_id()), "talking");
}

#[test]
fn who_is_not_to_be_disturbed_is_busy() {
    let mut world = world();
    let user = aor("1001@example.org");
    world.settings.entry(user).or_default().do_not_disturb = true;
    world.call("1001", SDP_A);
    assert_eq!(world.count(A, "486"), 1);
    assert_eq!(world.count(B, "INVITE"), 0);
    assert_eq!(world.record().cause, "USER_BUSY");

    let mut world = self::world();
    let user = aor("1001@example.org");
    world.settings.entry(user).or_default().do_not_disturb = true;
    sends(&mut world, "1001", DiversionReason::Busy, "1002");
    world.call("1001", SDP_A);
    assert_eq!(called(&world, B), ["1002"]);
}

#[test]
fn what_a_phone_answers_decides_where_the_call_goes() {
    // Status, whether it rang before, who is called then.
    for (status, rings, next) in [
        (486, false, Some("1002")),
        (600, true, Some("1002")),
        (603, true, Some("1002")),
        (480, true, Some("1002")),
        (480, false, Some("1003")),
        (503, false, Some("1003")),
        (404, false, None),
        (403, true, None),
    ] {
        let mut world = world();
        sends(&mut world, "1001", DiversionReason::Busy, "1002");
        sends(&mut world, "1001", DiversionReason::Unreachable, "1003");
        world.call("1001", SDP_A);
        if rings {
            world.answer(B, "INVITE", 180, "");
        }
        world.answer(B, "INVITE", status, "");
        let called = called(&world, B);
        assert_eq!(called.get(1).map(String::as_str), next, "{status} {rings}");
        assert_eq!(
            world.records().len(),
            usize::from(next.is_none()),
            "{status}"
        );
    }
}

#[test]
fn a_call_that_nobody_answers_goes_elsewhere_after_as_long_as_the_user_set() {
    let mut world = world();
    sends(&mut world, "1001", DiversionReason::NoAnswer, "1002");
    let user = aor("1001@example.org");
    world.settings.entry(user).or_default().no_answer_s = Some(10);
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world.pass(Duration::from_secs(9));
    assert_eq!(called(&world, B), ["1001"]);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.count(B, "CANCEL"), 1);
    assert_eq!(called(&world, B), ["1001", "1002"]);
    let invite = world.last(B, "INVITE").message;
    let diversion = invite.header(HeaderName::Diversion).unwrap_or_default();
    assert!(diversion.contains("reason=no-answer"), "{diversion}");
}

#[test]
fn a_user_without_a_phone_has_its_calls_elsewhere() {
    let mut world = world();
    sends(&mut world, "1009", DiversionReason::Unreachable, "1002");
    world.call("1009", SDP_A);
    assert_eq!(called(&world, B), ["1002"]);
}

#[test]
fn loops_of_any_length_end_as_if_the_last_had_sent_it_nowhere() {
    for (on, status) in [(DiversionReason::Always, 482), (DiversionReason::Busy, 486)] {
        for length in 1..=3_u16 {
            let mut world = world();
            let numbers = ["1001", "1002", "1003"];
            for at in 0..length {
                let next = numbers[usize::from((at + 1) % length)];
                sends(&mut world, numbers[usize::from(at)], on, next);
            }
            world.call("1001", SDP_A);
            while on == DiversionReason::Busy && world.records().is_empty() {
                world.answer(B, "INVITE", 486, "");
            }
            assert_eq!(world.count(A, &status.to_string()), 1, "{on:?} {length}");
            assert_eq!(diverted(&world).len(), usize::from(length), "{on:?}");
            world.record();
        }
    }
}

#[test]
fn a_call_is_sent_on_five_times_at_most() {
    let mut world = world();
    for number in 1001..1009 {
        let text = number.to_string();
        world.registered.push(aor(&format!("{text}@example.org")));
        sends(
            &mut world,
            &text,
            DiversionReason::Always,
            &(number + 1).to_string(),
        );
    }
    world.call("1001", SDP_A);
    assert_eq!(diverted(&world).len(), 5);
    assert_eq!(called(&world, B), ["1006"], "its phones ring then");
}

#[test]
fn a_number_that_no_route_takes_changes_nothing() {
    let mut world = world();
    sends(&mut world, "1001", DiversionReason::Always, "555");
    world.call("1001", SDP_A);
    assert_eq!(called(&world, B), ["1001"]);
}

#[test]
fn a_call_on_its_way_elsewhere_goes_on_at_another_node() {
    let mut world = world();
    sends(&mut world, "1001", DiversionReason::Always, "1002");
    sends(&mut world, "1002", DiversionReason::Busy, "1003");
    world.call("1001", SDP_A);
    world.answer(B, "INVITE", 180, "");
    world.restart();
    world.answer(B, "INVITE", 486, "");
    assert_eq!(called(&world, B).last().map(String::as_str), Some("1003"));
    let invite = world.last(B, "INVITE").message;
    let all: Vec<_> = invite.list(HeaderName::Diversion).collect();
    assert_eq!(all.len(), 2);
    assert!(
        all[0].contains("1002@") && all[1].contains("1001@"),
        "{all:?}"
    );
}

#[test]
fn a_settings_default_is_what_everybody_has() {
    let set = Settings::default();
    assert!(
        DiversionReason::ALL
            .iter()
            .all(|on| set.target(*on).is_none())
    );
}
