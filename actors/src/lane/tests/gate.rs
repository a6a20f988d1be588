//! Form, loops, load, hops, identity, method, extension, content: each refused with its status.

use bytes::Bytes;
use contract::{Action, Emitted, Space, Undelivered};

use super::*;
use crate::script::{DIGEST, OPEN, datagram, sent, statuses, stream, told};
use crate::{call, dialog, registration};

fn peer() -> FlowRef {
    datagram(OPEN, "192.0.2.9:5062")
}

fn status_of(draft: &Draft) -> Vec<u16> {
    statuses(&receive(&mut stage(), peer(), draft.text()))
}

#[test]
fn an_invite_gets_100_at_once_and_reaches_its_call_once() {
    let mut stage = stage();
    let invite = draft("INVITE").text();
    let actions = receive(&mut stage, peer(), invite.clone());
    assert_eq!(statuses(&actions), [100]);
    assert!(
        matches!(actions[0], Action::Send { .. }),
        "the 100 goes first"
    );
    let key = stage.site.ids.call_key("call-1", "f1", "z9hG4bKINVITE1");
    let [(to, crate::Message::Call(call::Message::Invite(inbound)))] = &told(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(*to, ActorId::Call(key));
    assert_eq!(
        inbound
            .identity
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("1000@example.org")
    );
    assert_eq!((inbound.flow, inbound.transaction.lane), (peer(), 0));
    let actions = receive(&mut stage, peer(), invite);
    assert_eq!((statuses(&actions), told(&actions).len()), (vec![100], 0));
}

#[test]
fn a_register_reaches_the_registration_of_its_to() {
    let mut stage = stage();
    let actions = receive(&mut stage, peer(), draft("REGISTER").text());
    let [(to, crate::Message::Registration(registration::Message::Register(_)))] =
        &told(&actions)[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(*to, ActorId::Registration("1000@example.org".into()));
    assert!(statuses(&actions).is_empty());
    let mut other = draft("REGISTER");
    other.to = "<sip:1000@some.address.example:5099>".to_owned();
    let actions = receive(&mut self::stage(), peer(), other.text());
    assert_eq!(
        told(&actions)[0].0,
        *to,
        "any other host means the default domain"
    );
}

#[test]
fn options_is_answered_without_detail() {
    for uri in [
        "sip:1001@example.org",
        "sip:nobody@example.org",
        "sip:192.0.2.1",
    ] {
        let mut options = draft("OPTIONS");
        options.uri = uri.to_owned();
        for listener in [DIGEST, OPEN] {
            let flow = datagram(listener, "192.0.2.9:5062");
            let actions = receive(&mut stage(), flow, options.text());
            assert_eq!(statuses(&actions), [200], "{uri}");
            assert!(told(&actions).is_empty());
            let text = &sent(&actions)[0].1;
            assert!(
                !text.contains("Server") && !text.contains("Contact"),
                "{text}"
            );
        }
    }
}

#[test]
fn what_is_no_request_is_refused_or_dropped() {
    let good = String::from_utf8(draft("INVITE").text().to_vec()).expect("text");
    for (from, to, wanted) in [
        ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", vec![505]),
        ("CSeq: 1 INVITE", "CSeq: 1 BYE", vec![400]),
        ("Max-Forwards: 70", "Max-Forwards: many", vec![400]),
        (
            "Contact: <sip:1000@192.0.2.9:5062>",
            "Contact: <",
            vec![400],
        ),
        ("Content-Length: 0", "Content-Length: 9", vec![400]),
        ("Via: ", "Nothing: ", vec![]),
        ("INVITE sip", "SIP/2.0 sip", vec![]),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        let actions = receive(&mut stage(), peer(), Bytes::from(bad));
        assert_eq!(statuses(&actions), wanted, "{to}");
        assert!(told(&actions).is_empty(), "{to}");
    }
    for noise in [
        b"\r\n\r\n".as_slice(),
        b"\0\0\0\0",
        b"",
        b"\xff\xfe",
        b"hello",
    ] {
        let actions = receive(&mut stage(), peer(), Bytes::copy_from_slice(noise));
        assert!(actions.is_empty(), "{noise:?}");
    }
}

#[test]
fn hops_loops_and_merged_requests_are_refused() {
    let mut no_hops = draft("INVITE");
    no_hops.hops = 0;
    assert_eq!(status_of(&no_hops), [483]);
    let mut stage = stage();
    let branch = stage.site.tokens.write(TokenUse::Branch, own_token(0), 3);
    let mut looped = draft("INVITE");
    looped.via = format!("Via: SIP/2.0/UDP 192.0.2.1;branch={branch}\r\n");
    assert_eq!(statuses(&receive(&mut stage, peer(), looped.text())), [482]);
    looped.via = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKother\r\n".to_owned();
    assert_eq!(statuses(&receive(&mut stage, peer(), looped.text())), [100]);
}

#[test]
fn a_merged_invite_is_refused() {
    let mut stage = stage();
    let invite = draft("INVITE");
    receive(&mut stage, peer(), invite.text());
    let mut merged = invite.clone();
    merged.branch = "z9hG4bKanother".to_owned();
    let actions = receive(&mut stage, peer(), merged.text());
    assert_eq!((statuses(&actions), told(&actions).len()), (vec![482], 0));
    assert_eq!(
        statuses(&receive(&mut stage, peer(), invite.again().text())),
        [100]
    );
}

#[test]
fn a_full_or_leaving_node_takes_no_new_work() {
    for (space, draining, calls, invite, register) in [
        (Space::Ample, false, 9, 100, None),
        (Space::Ample, false, 10, 503, None),
        (Space::Low, false, 0, 503, None),
        (Space::Exhausted, false, 0, 503, Some(503)),
        (Space::Ample, true, 0, 503, Some(503)),
    ] {
        let mut stage = stage();
        stage.site.limits.calls_max = 10;
        stage.health = contract::Health {
            space,
            draining,
            quarantined: false,
            cut_off: false,
            overloaded: false,
            calls,
            schema: contract::SchemaVersion::NEWEST,
        };
        let actions = receive(&mut stage, peer(), draft("INVITE").text());
        assert_eq!(statuses(&actions), [invite], "{space:?} {draining} {calls}");
        assert_eq!(
            sent(&actions)[0].1.contains("\r\nRetry-After: "),
            invite == 503
        );
        let actions = receive(&mut stage, peer(), draft("REGISTER").text());
        assert_eq!(statuses(&actions).first().copied(), register);
        let mut inside = draft("BYE");
        inside.to = format!("<sip:x@y>;tag={}", own_tag(&stage));
        let actions = receive(&mut stage, peer(), inside.text());
        assert_eq!(told(&actions).len(), 1, "what is in a dialog goes on");
    }
}

/// `cluster.md` §11: new calls and registrations wait, what is in a dialog and calls for help do not.
#[test]
fn an_overloaded_node_sheds_new_work_and_nothing_else() {
    let mut stage = stage();
    stage.health.overloaded = true;
    for method in ["INVITE", "REGISTER"] {
        let actions = receive(&mut stage, peer(), draft(method).text());
        assert_eq!(statuses(&actions), [503], "{method}");
        let text = &sent(&actions)[0].1;
        assert!(text.contains("\r\nRetry-After: "), "{text}");
    }
    for method in ["BYE", "INVITE"] {
        let mut inside = draft(method);
        inside.to = format!("<sip:x@y>;tag={}", own_tag(&stage));
        let actions = receive(&mut stage, peer(), inside.text());
        assert_eq!(told(&actions).len(), 1, "{method} in a dialog");
    }
    for help in ["112", "911"] {
        let mut call = draft("INVITE");
        call.uri = format!("sip:{help}@example.org");
        let actions = receive(&mut stage, peer(), call.text());
        assert!(!statuses(&actions).contains(&503), "{help}");
    }
    stage.health.overloaded = false;
    let actions = receive(&mut stage, peer(), draft("INVITE").text());
    assert_eq!(statuses(&actions), [100]);
}

#[test]
fn extensions_bodies_and_schemes_that_are_not_known_are_refused() {
    let actions = receive(
        &mut stage(),
        peer(),
        draft("INVITE").with("Require: path, x9").text(),
    );
    assert_eq!(statuses(&actions), [420]);
    assert!(
        sent(&actions)[0]
            .1
            .contains("\r\nUnsupported: path, x9\r\n")
    );
    assert_eq!(status_of(&draft("INVITE").with("Require: timer")), [100]);
    let register = draft("REGISTER").with("Require: path");
    assert_eq!(
        told(&receive(&mut stage(), peer(), register.text())).len(),
        1
    );
    for (fields, status) in [
        (vec!["Content-Type: application/sdp"], 100),
        (vec!["Content-Type: Application/SDP; charset=utf-8"], 100),
        (vec!["Content-Type: text/plain"], 415),
        (vec![], 415),
        (
            vec![
                "Content-Type: text/plain",
                "Content-Disposition: render;handling=optional",
            ],
            100,
        ),
        (
            vec!["Content-Type: application/sdp", "Content-Encoding: gzip"],
            415,
        ),
    ] {
        let mut invite = draft("INVITE");
        invite.body = "v=0\r\n";
        invite.fields = fields.iter().map(ToString::to_string).collect();
        assert_eq!(status_of(&invite), [status], "{fields:?}");
    }
    let mut other = draft("INVITE");
    other.uri = "mailto:1001@example.org".to_owned();
    assert_eq!(status_of(&other), [416]);
    other.uri = "tel:+15551234".to_owned();
    assert_eq!(status_of(&other), [100]);
}

#[test]
fn an_unknown_method_is_405_with_allow_and_counted() {
    let actions = receive(&mut stage(), peer(), draft("BREW").text());
    assert_eq!(statuses(&actions), [405]);
    assert!(
        sent(&actions)[0]
            .1
            .contains("\r\nAllow: INVITE, ACK, CANCEL, BYE")
    );
    let counted = actions.iter().any(|action| {
        matches!(action, Action::Emit(Emitted::Refused { status: 405, method, .. }) if method == "BREW")
    });
    assert!(counted);
}

#[test]
fn a_cancel_needs_the_source_of_its_invite() {
    let mut stage = stage();
    receive(&mut stage, peer(), draft("INVITE").text());
    let mut cancel = draft("CANCEL");
    cancel.branch = draft("INVITE").branch;
    for other in [
        datagram(OPEN, "192.0.2.9:5063"),
        datagram(DIGEST, "192.0.2.9:5062"),
        stream(1),
    ] {
        assert!(
            receive(&mut stage, other, cancel.text()).is_empty(),
            "{other}"
        );
    }
    let actions = receive(&mut stage, peer(), cancel.text());
    let key = stage.site.ids.call_key("call-1", "f1", &cancel.branch);
    let (to, message) = told(&actions).pop().expect("a message");
    assert_eq!(to, ActorId::Call(key));
    assert!(matches!(
        message,
        crate::Message::Call(call::Message::Cancel(_))
    ));
    let again = receive(&mut stage, peer(), cancel.text());
    assert!(told(&again).is_empty(), "a retransmission is told once");
    let actions = stage.event(Event::Undelivered {
        to,
        message,
        why: Undelivered::Absent,
    });
    assert_eq!(statuses(&actions), [481]);
}

#[test]
fn a_cancel_of_nothing_gets_no_answer() {
    let mut stage = stage();
    let actions = receive(&mut stage, peer(), draft("CANCEL").text());
    assert!(sent(&actions).is_empty());
    let (to, message) = told(&actions).pop().expect("the call checks the source");
    assert!(matches!(
        message,
        crate::Message::Call(call::Message::Cancel(_))
    ));
    let actions = stage.event(Event::Undelivered {
        to,
        message,
        why: Undelivered::Absent,
    });
    assert!(actions.is_empty());
    assert_eq!(stage.core.state(), "0 transactions");
}

#[test]
fn an_ack_reaches_the_dialog_of_its_tag_and_is_never_answered() {
    let mut stage = stage();
    let mut ack = draft("ACK");
    for (tag, reaches) in [(own_tag(&stage), true), ("foreign".to_owned(), false)] {
        ack.to = format!("<sip:1001@example.org>;tag={tag}");
        let actions = receive(&mut stage, peer(), ack.text());
        assert!(sent(&actions).is_empty());
        let told = told(&actions);
        assert_eq!(told.len(), usize::from(reaches));
        for (to, message) in told {
            assert_eq!(to, ActorId::Dialog(own_token(0).side));
            let back = stage.event(Event::Undelivered {
                to,
                message,
                why: Undelivered::Absent,
            });
            assert!(back.is_empty());
        }
    }
}

#[test]
fn a_request_that_its_actor_does_not_take_is_answered() {
    for (method, is_inside, why, wanted) in [
        ("INVITE", false, Undelivered::Busy, 503),
        ("INVITE", false, Undelivered::Absent, 503),
        ("REGISTER", false, Undelivered::Busy, 503),
        ("BYE", true, Undelivered::Absent, 481),
        ("BYE", true, Undelivered::Busy, 503),
        ("INVITE", true, Undelivered::Absent, 481),
        ("UPDATE", true, Undelivered::Absent, 481),
    ] {
        let mut stage = stage();
        let mut request = draft(method);
        if is_inside {
            request.to = format!("<sip:1001@example.org>;tag={}", own_tag(&stage));
        }
        let actions = receive(&mut stage, peer(), request.text());
        let (to, message) = told(&actions).pop().expect("a message");
        let actions = stage.event(Event::Undelivered { to, message, why });
        assert_eq!(statuses(&actions), [wanted], "{method} {why:?}");
        assert_eq!(
            sent(&actions)[0].1.contains("\r\nRetry-After: "),
            wanted == 503
        );
        let again = receive(&mut stage, peer(), request.text());
        assert!(told(&again).is_empty(), "{method}: told once");
    }
}

#[test]
fn a_request_in_a_dialog_goes_to_the_side_of_its_tag() {
    let mut stage = stage();
    let mut request = draft("INFO");
    request.to = format!("<sip:1001@example.org>;tag={}", own_tag(&stage));
    let actions = receive(&mut stage, peer(), request.text());
    let [(to, crate::Message::Dialog(dialog::Message::Request(inbound)))] = &told(&actions)[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(*to, ActorId::Dialog(own_token(0).side));
    assert_eq!(
        inbound.identity, None,
        "a listener without digest proves nothing about a dialog"
    );
}

#[test]
fn messages_of_one_transaction_meet_in_one_lane_and_responses_in_that_of_the_branch() {
    let stage = stage();
    for number in 0..64 {
        let branch = format!("z9hG4bK{number}");
        let lanes: Vec<u16> = ["INVITE", "ACK", "CANCEL"]
            .into_iter()
            .map(|method| {
                let mut draft = draft(method);
                draft.branch.clone_from(&branch);
                lane_of(&stage.site, &draft.text())
            })
            .collect();
        assert!(
            lanes.iter().all(|lane| *lane == lanes[0] && *lane < 4),
            "{branch}: {lanes:?}"
        );
    }
    for number in 0..4 {
        let branch = stage
            .site
            .tokens
            .write(TokenUse::Branch, own_token(number), 3);
        let response =
            format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch={branch}\r\n\r\n");
        assert_eq!(lane_of(&stage.site, response.as_bytes()), number);
    }
    assert_eq!(lane_of(&stage.site, b"rubbish"), 0);
}
