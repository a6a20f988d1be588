//! Routes are taken in order, and no spelling of a number evades them.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use super::*;
use crate::hours::Hours;
use crate::site::AtHours;

/// Monday, 23 November 2026, 12:00 UTC.
const NOON: UtcMillis = UtcMillis(1_795_435_200_000);
/// The evening of that day, 20:00.
const EVENING: UtcMillis = UtcMillis(1_795_464_000_000);

fn route(name: &str, profile: Option<&str>, pattern: &str, steps: &[Step]) -> Route {
    Route {
        name: name.to_owned(),
        profile: profile.map(Into::into),
        destination: Regex::new(pattern).expect("a valid pattern"),
        hours: None,
        steps: steps.to_vec(),
        bypass: name == "bypass",
    }
}

fn bridge(target: &str) -> Step {
    Step::Bridge {
        target: target.to_owned(),
    }
}

fn domain(routes: Vec<Route>) -> Domain {
    Domain {
        name: "example.org".to_owned(),
        users: BTreeMap::new(),
        routes,
        groups: BTreeMap::new(),
        calls_max: 0,
    }
}

#[test]
fn the_first_route_that_matches_is_taken_and_its_groups_are_filled_in() {
    let domain = domain(vec![
        route("echo", None, "^9196$", &[Step::Answer, Step::Echo]),
        route(
            "trunk",
            Some("external"),
            r"^(\d+)$",
            &[bridge("user/other")],
        ),
        route("users", None, r"^(10\d\d)$", &[bridge("user/$1@$0.$$1")]),
        route("bypass", None, "^(?:(b)|(c))$", &[bridge("user/x$1$2$3")]),
    ]);
    let echo = plan("9196", &domain, "internal", NOON).expect("a route");
    assert_eq!(
        (echo.route.as_str(), echo.steps.len(), echo.bypass),
        ("echo", 2, false)
    );
    let users = plan("1001", &domain, "internal", NOON).expect("a route");
    assert_eq!(users.steps, [bridge("user/1001@1001.$1")]);
    assert_eq!(
        plan("1001", &domain, "external", NOON)
            .expect("a route")
            .route,
        "trunk"
    );
    let bypass = plan("c", &domain, "internal", NOON).expect("a route");
    assert_eq!(
        (bypass.steps, bypass.bypass),
        (vec![bridge("user/xc")], true)
    );
    assert_eq!(plan("4", &domain, "internal", NOON), None);
}

#[test]
fn other_spellings_of_a_number_match_nothing_or_their_plain_form() {
    let domain = domain(vec![route("any", None, r"^(.+)$", &[bridge("user/$1")])]);
    let with_context = plan("1001;phone-context=+882", &domain, "internal", NOON).expect("a route");
    assert_eq!(with_context.steps, [bridge("user/1001")]);
    for dialled in [
        "",
        ";x",
        "١٠٠١",
        "1001\r\nX: y",
        "1001@evil.example",
        "1001,user/1002",
        "a/b",
        "1\u{200b}2",
    ] {
        assert_eq!(
            plan(dialled, &domain, "internal", NOON),
            None,
            "{dialled:?}"
        );
    }
    assert_eq!(plan(&"1".repeat(300), &domain, "internal", NOON), None);
    assert!(plan("jürgen", &domain, "internal", NOON).is_some());
}

fn at(while_open: bool, route: Route) -> Route {
    let open = ["mo-fr 08:00-18:00".to_owned()];
    let hours = Hours::read("UTC", &open, &[], &[]).expect("hours");
    let hours = Arc::new(hours);
    Route {
        hours: Some(AtHours { hours, while_open }),
        ..route
    }
}

#[test]
fn a_route_of_hours_is_taken_while_it_is_open_or_closed_there_and_else_the_next() {
    let domain = domain(vec![
        at(true, route("day", None, "^5000$", &[bridge("user/day")])),
        at(
            false,
            route("night", None, "^5000$", &[bridge("user/night")]),
        ),
        at(false, route("closed", None, "^6000$", &[])),
        route("open", None, "^[67]000$", &[]),
        at(true, route("never", None, "^7000$", &[])),
    ]);
    for (dialled, now, wanted) in [
        ("5000", NOON, Some("day")),
        ("5000", EVENING, Some("night")),
        ("6000", NOON, Some("open")),
        ("6000", EVENING, Some("closed")),
        ("7000", NOON, Some("open")),
        ("8000", NOON, None),
    ] {
        let plan = plan(dialled, &domain, "internal", now);
        let name = plan.as_ref().map(|plan| plan.route.as_str());
        assert_eq!(name, wanted, "{dialled} at {now:?}");
    }
    // Nobody says what happens in the evening: no route takes it.
    let day = self::domain(vec![at(true, route("day", None, "^5000$", &[]))]);
    assert_eq!(plan("5000", &day, "internal", EVENING), None);
}

#[test]
fn nobody_diverts_to_what_is_a_feature_code_at_any_time() {
    let set = Step::Set {
        change: Box::new(Change::DoNotDisturb(true)),
    };
    let call = [bridge("user/x")];
    let domain = domain(vec![
        at(true, route("day", None, "^[12]$", &call)),
        at(
            false,
            route("code", None, "^1$", std::slice::from_ref(&set)),
        ),
        route("any", None, "^[123]$", &call),
        route("later", None, "^[24]$", &[set]),
    ]);
    for (dialled, may) in [
        ("1", false),
        ("2", true),
        ("3", true),
        ("4", false),
        ("5", false),
    ] {
        assert_eq!(is_dialable(dialled, &domain), may, "{dialled}");
    }
}
