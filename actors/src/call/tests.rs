//! Calls from INVITE to record, with real dialogs and legs; then the same with kills in between.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

mod bequests;
mod bridging;
mod diverting;
mod ends;
mod fixture;
mod hunting;
mod joining;
mod json;
mod json_ends;
mod json_hostile;
mod json_restarts;
mod offerings;
mod parking;
mod picking;
mod renegotiation;
mod restarts;
mod routes;
mod security;
mod steering;
mod stored;
mod taken_over;
mod taken_over_anyhow;
mod taken_over_rings;
mod taken_over_web;
mod transfers;
mod waiting;

use super::outcome;

#[test]
fn the_best_response_is_any_6xx_then_the_lowest_class() {
    let table = [
        (&[486, 603][..], 603),
        (&[503, 486][..], 486),
        (&[404, 486][..], 404),
        (&[404, 415][..], 415),
        (&[503, 500][..], 500),
        (&[401][..], 502),
        (&[407, 404][..], 404),
        (&[302][..], 480),
    ];
    for (statuses, best) in table {
        let passed = statuses.iter().map(|status| outcome::passed(*status));
        assert_eq!(passed.reduce(outcome::better), Some(best), "{statuses:?}");
    }
}

#[test]
fn a_cause_survives_its_reason_header() {
    for cause in ["NORMAL_CLEARING", "USER_BUSY", "NO_ANSWER", "CALL_REJECTED"] {
        let reason = outcome::reason_header(cause).expect("a known cause");
        let text = format!(
            "BYE sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>;tag=2\r\nCall-ID: c\r\nCSeq: 1 BYE\r\nReason: SIP;cause=200, {reason}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let request = sip::Message::read(text.into()).expect("a request");
        assert_eq!(outcome::cause_of_reason(&request), cause);
    }
    assert_eq!(outcome::reason_header("SOMETHING_ELSE"), None);
    assert_eq!(outcome::status_of_cause("USER_BUSY"), 486);
}
