//! Routes are taken in order, and no spelling of a number evades them.

use std::collections::BTreeMap;

use regex::Regex;

use super::*;
use crate::site::Route;

fn route(name: &str, profile: Option<&str>, pattern: &str, steps: &[Step]) -> Route {
    Route {
        name: name.to_owned(),
        profile: profile.map(Into::into),
        destination: Regex::new(pattern).expect("a valid pattern"),
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
    let echo = plan("9196", &domain, "internal").expect("a route");
    assert_eq!(
        (echo.route.as_str(), echo.steps.len(), echo.bypass),
        ("echo", 2, false)
    );
    let users = plan("1001", &domain, "internal").expect("a route");
    assert_eq!(users.steps, [bridge("user/1001@1001.$1")]);
    assert_eq!(
        plan("1001", &domain, "external").expect("a route").route,
        "trunk"
    );
    let bypass = plan("c", &domain, "internal").expect("a route");
    assert_eq!(
        (bypass.steps, bypass.bypass),
        (vec![bridge("user/xc")], true)
    );
    assert_eq!(plan("4", &domain, "internal"), None);
}

#[test]
fn other_spellings_of_a_number_match_nothing_or_their_plain_form() {
    let domain = domain(vec![route("any", None, r"^(.+)$", &[bridge("user/$1")])]);
    let with_context = plan("1001;phone-context=+882", &domain, "internal").expect("a route");
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
        assert_eq!(plan(dialled, &domain, "internal"), None, "{dialled:?}");
    }
    assert_eq!(plan(&"1".repeat(300), &domain, "internal"), None);
    assert!(plan("jürgen", &domain, "internal").is_some());
}
