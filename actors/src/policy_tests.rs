//! The policy table holds for every method, place and standing.

use rsip::Method;
use sip::MethodName;

use super::*;

/// The fourteen registered methods, an unknown one, and a known one in the wrong case.
const METHODS: [&str; 16] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "OPTIONS",
    "INFO",
    "MESSAGE",
    "NOTIFY",
    "PRACK",
    "PUBLISH",
    "REFER",
    "SUBSCRIBE",
    "UPDATE",
    "BREW",
    "invite",
];

#[test]
fn without_proof_nothing_outside_a_dialog_reaches_an_actor_that_trusts_it() {
    for text in METHODS {
        let ruling = rule(MethodName::of(text), Place::Outside, Standing::Unproven);
        let wanted = match text {
            "REGISTER" => Ruling::Prove { status: 401 },
            "ACK" => Ruling::Acknowledge,
            "CANCEL" => Ruling::Cancel,
            "OPTIONS" => Ruling::Options,
            _ => Ruling::Prove { status: 407 },
        };
        assert_eq!(ruling, wanted, "{text}");
    }
}

#[test]
fn with_proof_only_register_invite_and_options_are_served_outside_dialogs() {
    for text in METHODS {
        let ruling = rule(MethodName::of(text), Place::Outside, Standing::Proven);
        let status = match ruling {
            Ruling::Refuse { status, .. } => status,
            Ruling::Register
            | Ruling::Call
            | Ruling::Dialog
            | Ruling::Cancel
            | Ruling::Acknowledge
            | Ruling::Options
            | Ruling::Prove { .. } => 0,
        };
        let wanted = match text {
            "SUBSCRIBE" | "PUBLISH" => 489,
            "MESSAGE" | "REFER" | "BREW" | "invite" => 405,
            "BYE" | "INFO" | "NOTIFY" | "PRACK" | "UPDATE" => 481,
            _ => 0,
        };
        assert_eq!(status, wanted, "{text}");
    }
    let invite = rule(
        MethodName::Known(Method::Invite),
        Place::Outside,
        Standing::Proven,
    );
    assert_eq!(invite, Ruling::Call);
    let register = rule(
        MethodName::Known(Method::Register),
        Place::Outside,
        Standing::Proven,
    );
    assert_eq!(register, Ruling::Register);
}

#[test]
fn a_tag_that_is_not_ours_finds_no_dialog() {
    for text in METHODS {
        for standing in [Standing::Unproven, Standing::Proven] {
            let ruling = rule(MethodName::of(text), Place::Foreign, standing);
            let passes = ["ACK", "CANCEL", "REGISTER"].contains(&text);
            let refused = matches!(ruling, Ruling::Refuse { status: 481, .. });
            assert_eq!(refused, !passes, "{text}");
            let inside = rule(MethodName::of(text), Place::Inside, standing);
            assert_eq!(inside == Ruling::Dialog, !passes, "{text}");
        }
    }
}

#[test]
fn unknown_option_tags_are_named_and_known_ones_are_not() {
    let required = ["path, Outbound", " gruu ,x"];
    let unknown = unsupported(required.into_iter(), REGISTER_OPTIONS);
    assert_eq!(unknown.as_deref(), Some("gruu, x"));
    assert_eq!(unsupported(["path"].into_iter(), REGISTER_OPTIONS), None);
    assert!(unsupported(["100rel"].into_iter(), REQUEST_OPTIONS).is_some());
}
