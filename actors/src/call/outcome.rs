//! Which response a caller hears when every target failed, and causes in Q.850 words.
//!
//! In: final responses, cause words. Out: the best response (RFC 3261 §16.7 step 6), words,
//! statuses, Reason header values (RFC 3326).

use sip::HeaderName;

/// Word, Q.850 code, SIP status of a call that ends with it before it is answered.
const CAUSES: [(&str, u8, u16); 29] = [
    ("UNALLOCATED_NUMBER", 1, 404),
    ("NO_ROUTE_DESTINATION", 3, 404),
    ("NORMAL_CLEARING", 16, 480),
    ("USER_BUSY", 17, 486),
    ("NO_USER_RESPONSE", 18, 480),
    ("NO_ANSWER", 19, 480),
    ("SUBSCRIBER_ABSENT", 20, 480),
    ("CALL_REJECTED", 21, 603),
    ("NUMBER_CHANGED", 22, 410),
    ("EXCHANGE_ROUTING_ERROR", 25, 483),
    ("DESTINATION_OUT_OF_ORDER", 27, 502),
    ("INVALID_NUMBER_FORMAT", 28, 484),
    ("FACILITY_REJECTED", 29, 501),
    ("NORMAL_CIRCUIT_CONGESTION", 34, 503),
    ("NETWORK_OUT_OF_ORDER", 38, 502),
    ("NORMAL_TEMPORARY_FAILURE", 41, 503),
    ("SWITCH_CONGESTION", 42, 503),
    ("BEARERCAPABILITY_NOTAVAIL", 58, 488),
    ("INCOMPATIBLE_DESTINATION", 88, 488),
    ("RECOVERY_ON_TIMER_EXPIRE", 102, 504),
    ("PROTOCOL_ERROR", 111, 500),
    ("INTERWORKING", 127, 500),
    ("ORIGINATOR_CANCEL", 16, 487),
    ("ALLOTTED_TIMEOUT", 102, 480),
    ("MEDIA_TIMEOUT", 102, 480),
    ("ATTENDED_TRANSFER", 16, 480),
    ("LOSE_RACE", 16, 487),
    ("PICKED_OFF", 16, 487),
    ("NO_PICKUP", 16, 480),
];

/// Returns the SIP status of a cause; 480 for a word that is not known.
pub(crate) fn status_of_cause(cause: &str) -> u16 {
    row(cause).map_or(480, |(_, _, status)| *status)
}

/// Returns the value of a Reason header; `None` for a word that is not known.
pub(crate) fn reason_header(cause: &str) -> Option<String> {
    row(cause).map(|(word, code, _)| format!("Q.850;cause={code};text=\"{word}\""))
}

/// Returns the value of a Reason header of a CANCEL: phones do not show as missed what somebody else has
/// answered (RFC 3326 §2).
pub(crate) fn reason_of_cancel(cause: &str) -> Option<&'static str> {
    let is_elsewhere = matches!(cause, "LOSE_RACE" | "PICKED_OFF");
    is_elsewhere.then_some("SIP;cause=200;text=\"Call completed elsewhere\"")
}

/// Returns the known word of a cause as an operator or a route wrote it.
pub(crate) fn known_cause(cause: &str) -> &'static str {
    row(cause).map_or("NORMAL_CLEARING", |(word, ..)| word)
}

fn row(cause: &str) -> Option<&'static (&'static str, u8, u16)> {
    CAUSES
        .iter()
        .find(|(word, ..)| word.eq_ignore_ascii_case(cause))
}

/// Returns the cause that a peer's BYE names in its Reason; `NORMAL_CLEARING` without one.
pub(crate) fn cause_of_reason(request: &sip::Message) -> &'static str {
    let code = request.list(HeaderName::Reason).find_map(|value| {
        let mut pieces = value.split(';').map(str::trim);
        if !pieces.next()?.eq_ignore_ascii_case("Q.850") {
            return None;
        }
        let cause = pieces.find_map(|piece| piece.strip_prefix("cause="))?;
        cause.trim().parse::<u8>().ok()
    });
    let known = CAUSES.iter().find(|(_, number, _)| Some(*number) == code);
    known.map_or("NORMAL_CLEARING", |(word, ..)| word)
}

/// Returns the cause of a call that ends with a status.
pub(crate) const fn cause_of_status(status: u16) -> &'static str {
    match status {
        403 | 603 | 607 | 608 => "CALL_REJECTED",
        404 => "UNALLOCATED_NUMBER",
        408 | 504 => "RECOVERY_ON_TIMER_EXPIRE",
        410 => "NUMBER_CHANGED",
        413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => "INTERWORKING",
        480 => "NO_USER_RESPONSE",
        400 | 481 | 500 | 503 => "NORMAL_TEMPORARY_FAILURE",
        484 | 485 => "INVALID_NUMBER_FORMAT",
        486 | 600 => "USER_BUSY",
        487 => "ORIGINATOR_CANCEL",
        482 | 483 => "EXCHANGE_ROUTING_ERROR",
        488 | 606 => "INCOMPATIBLE_DESTINATION",
        501 => "FACILITY_REJECTED",
        502 => "NETWORK_OUT_OF_ORDER",
        604 => "NO_ROUTE_DESTINATION",
        _ => "INTERWORKING",
    }
}

/// Returns what a caller hears of a callee's final response.
///
/// A challenge is never passed on and never answered (`threats.md` 4); a redirection is not
/// followed; 503 would make the caller leave this node alone (RFC 3261 §16.7 step 6), so it
/// becomes 500.
pub(crate) const fn passed(status: u16) -> u16 {
    match status {
        300..=399 => 480,
        401 | 407 => 502,
        503 => 500,
        other => other,
    }
}

/// Returns the better of two final responses, as passed on (RFC 3261 §16.7 step 6): any 6xx, then
/// the lowest class, in it what tells the caller how to do better, then the earlier one.
pub(crate) fn better(first: u16, second: u16) -> u16 {
    if rank(second) < rank(first) {
        second
    } else {
        first
    }
}

fn rank(status: u16) -> u16 {
    match status {
        600..=699 => 0,
        415 | 420 | 484 => 1,
        300..=499 => 2,
        _ => 3,
    }
}
