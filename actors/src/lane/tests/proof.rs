//! Who may do what: the matrix of methods, credentials and places, and what nonces are worth.

use std::time::Duration;

use contract::Undelivered;
use contract::limits::AUTH_FAILURES_PER_ADDRESS_MAX;

use super::*;
use crate::script::{DIGEST, datagram, sent, statuses, stream, told};
use crate::{Message as Any, call, dialog, registration};

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

fn peer() -> FlowRef {
    datagram(DIGEST, "192.0.2.9:5062")
}

/// What a request reaches, in a word.
fn reached(actions: &Actions) -> Vec<&'static str> {
    let words = told(actions).into_iter().map(|(_, message)| match message {
        Any::Registration(registration::Message::Register(_)) => "registration",
        Any::Call(call::Message::Invite(_)) => "call",
        Any::Call(call::Message::Cancel(_)) => "cancel",
        Any::Dialog(dialog::Message::Request(_)) => "dialog",
        _ => "other",
    });
    words.collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Credentials {
    None,
    Wrong,
    Stale,
    Replayed,
    Foreign,
    Other,
    Right,
}

/// Sends a request with credentials of a kind, after what is needed to get them.
fn attempt(stage: &mut Stage<Lane>, flow: FlowRef, plain: &Draft, kind: Credentials) -> Actions {
    if kind == Credentials::None {
        return receive(stage, flow, plain.text());
    }
    // A challenge comes of a request that needs proof, whatever the method under test gets.
    let mut asking = draft(if plain.method == "REGISTER" {
        "REGISTER"
    } else {
        "MESSAGE"
    });
    asking.branch = format!("z9hG4bKasking{}", stage.now.mono);
    let challenge = challenge_of(&receive(stage, flow, asking.text()));
    let answer = |user, password| answered(plain, &challenge, user, password, 1);
    let request = match kind {
        Credentials::None => plain.clone(),
        Credentials::Wrong => answer("1000", "guess"),
        Credentials::Other => answer("1001", "weft-1001"),
        Credentials::Foreign => {
            let nonce = challenge.nonce.replace(['0', '1'], "2");
            let challenge = sip::digest::Challenge { nonce, ..challenge };
            answered(plain, &challenge, "1000", "weft-1000", 1)
        }
        Credentials::Stale => {
            let request = answer("1000", "weft-1000");
            stage.pass(Duration::from_secs(61));
            request
        }
        Credentials::Replayed => {
            let mut request = answer("1000", "weft-1000");
            receive(stage, flow, request.text());
            request.branch.push_str("replay");
            request
        }
        Credentials::Right => answer("1000", "weft-1000"),
    };
    receive(stage, flow, request.text())
}

#[test]
fn every_method_with_every_credential_in_every_place_gets_what_the_policy_says() {
    let kinds = [
        Credentials::None,
        Credentials::Wrong,
        Credentials::Stale,
        Credentials::Replayed,
        Credentials::Foreign,
        Credentials::Other,
        Credentials::Right,
    ];
    let mut cells = 0;
    for flow in [peer(), stream(1)] {
        for method in METHODS {
            for kind in kinds {
                for place in ["out", "foreign", "in"] {
                    let mut stage = stage();
                    let mut plain = draft(method);
                    let to = "<sip:1000@example.org>";
                    match place {
                        "in" => plain.to = format!("{to};tag={}", own_tag(&stage)),
                        "foreign" => plain.to = format!("{to};tag=foreign"),
                        _ => plain.to = to.to_owned(),
                    }
                    let actions = attempt(&mut stage, flow, &plain, kind);
                    let got = (statuses(&actions), reached(&actions));
                    assert_eq!(
                        got,
                        wanted(method, kind, place),
                        "{method} {kind:?} {place}"
                    );
                    cells += 1;
                }
            }
        }
    }
    println!("{cells} cells");
    assert_eq!(cells, 16 * 7 * 3 * 2);
}

/// The policy table of `threats.md`, written once more.
fn wanted(method: &str, kind: Credentials, place: &str) -> (Vec<u16>, Vec<&'static str>) {
    let answer = |status: u16| (vec![status], vec![]);
    match (method, place) {
        ("ACK", "in") => (vec![], vec!["dialog"]),
        ("ACK", _) => (vec![], vec![]),
        // The call itself checks the source and answers; without one nothing happens.
        ("CANCEL", _) => (vec![], vec!["cancel"]),
        ("REGISTER", _) => match kind {
            Credentials::Right => (vec![], vec!["registration"]),
            Credentials::Other => answer(403),
            _ => answer(401),
        },
        (_, "in") if method == "INVITE" => (vec![100], vec!["dialog"]),
        (_, "in") if kind == Credentials::Replayed => (vec![], vec!["dialog"]),
        (_, "in") => (vec![], vec!["dialog"]),
        (_, "foreign") => answer(481),
        ("OPTIONS", _) => answer(200),
        (_, _) => match (kind, method) {
            (Credentials::Right, "INVITE") => (vec![100], vec!["call"]),
            // The copy of an INVITE that is on its way is merged with it.
            (Credentials::Replayed, "INVITE") => answer(482),
            (Credentials::Right, "SUBSCRIBE" | "PUBLISH") => answer(489),
            (Credentials::Right, "MESSAGE" | "REFER" | "BREW" | "invite") => answer(405),
            (Credentials::Right, _) => answer(481),
            (Credentials::Other, _) => answer(403),
            (_, _) => answer(407),
        },
    }
}

#[test]
fn challenges_offer_the_algorithms_of_the_listener_in_order_with_qop_auth() {
    let actions = receive(&mut stage(), peer(), draft("REGISTER").text());
    let text = &sent(&actions)[0].1;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("WWW-Authenticate: "))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("algorithm=MD5") && lines[1].contains("algorithm=SHA-256"),
        "{text}"
    );
    for line in lines {
        assert!(
            line.contains("realm=\"example.org\"") && line.contains("qop=\"auth\""),
            "{line}"
        );
        assert!(!line.contains("stale"), "{line}");
    }
}

#[test]
fn an_account_with_an_md5_hash_is_offered_md5_only_and_so_is_an_unknown_name_beside_it() {
    for user in ["2000", "1999", "2001"] {
        let mut request = draft("REGISTER");
        request.uri = "sip:hashed.example".to_owned();
        request.from = format!("<sip:{user}@hashed.example>;tag=1");
        request.to = format!("<sip:{user}@hashed.example>");
        let mut stage = stage();
        let challenge = challenge_of(&receive(&mut stage, peer(), request.text()));
        assert_eq!(challenge.algorithm, sip::digest::Algorithm::Md5, "{user}");
        let request = answered(&request, &challenge, user, "secret", 1);
        let actions = receive(&mut stage, peer(), request.text());
        let passes = user == "2000";
        assert_eq!(reached(&actions).len(), usize::from(passes), "{user}");
        assert_eq!(
            statuses(&actions).first().copied(),
            (!passes).then_some(401),
            "{user}"
        );
    }
}

#[test]
fn an_unknown_user_is_told_what_a_wrong_password_is_told() {
    let mut answers = Vec::new();
    for (user, password) in [("1000", "wrong"), ("9999", "wrong")] {
        let mut stage = stage();
        let mut request = draft("REGISTER");
        request.from = format!("<sip:{user}@example.org>;tag=1");
        request.to = format!("<sip:{user}@example.org>");
        let challenge = challenge_of(&receive(&mut stage, peer(), request.text()));
        let request = answered(&request, &challenge, user, password, 1);
        let actions = receive(&mut stage, peer(), request.text());
        let (_, text) = sent(&actions).pop().expect("a response");
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("From") && !line.starts_with("To"));
        let shape: Vec<String> = lines
            .map(|line| line.split("nonce=").next().unwrap_or_default().to_owned())
            .collect();
        answers.push(shape);
        assert_eq!(stage.core.auth.failing_sources(), 1);
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_nonce_serves_one_source_for_a_minute_and_each_count_once() {
    let plain = draft("REGISTER");
    let mut stage = stage();
    let challenge = challenge_of(&receive(&mut stage, peer(), plain.text()));
    let first = answered(&plain, &challenge, "1000", "weft-1000", 1);
    let second = answered(&first.clone(), &challenge, "1000", "weft-1000", 2);
    let mut second = second;
    second.fields.remove(0);
    assert_eq!(
        reached(&receive(&mut stage, peer(), first.text())),
        ["registration"]
    );
    assert_eq!(
        reached(&receive(&mut stage, peer(), second.text())),
        ["registration"]
    );
    let mut replay = first.clone();
    replay.branch = "z9hG4bKreplay".to_owned();
    let actions = receive(&mut stage, peer(), replay.text());
    assert_eq!(
        (statuses(&actions), reached(&actions).len()),
        (vec![401], 0)
    );
    for elsewhere in [datagram(DIGEST, "192.0.2.9:5063"), stream(1)] {
        replay.branch.push('x');
        let actions = receive(&mut stage, elsewhere, replay.text());
        assert_eq!(
            (statuses(&actions), reached(&actions).len()),
            (vec![401], 0)
        );
        assert!(
            challenge_of(&actions).stale,
            "the digest was right: its user is not asked again"
        );
    }
    stage.pass(Duration::from_secs(61));
    let mut third = answered(&first, &challenge, "1000", "weft-1000", 3);
    third.fields.remove(0);
    third.branch = "z9hG4bKthird".to_owned();
    let actions = receive(&mut stage, peer(), third.text());
    assert_eq!(
        (statuses(&actions), challenge_of(&actions).stale),
        (vec![401], true)
    );
}

#[test]
fn credentials_from_before_a_restart_are_stale() {
    let plain = draft("REGISTER");
    let mut stage = stage();
    let challenge = challenge_of(&receive(&mut stage, peer(), plain.text()));
    let request = answered(&plain, &challenge, "1000", "weft-1000", 1);
    stage.pass(Duration::from_secs(1));
    stage.core = Lane::new(0, &stage.site);
    let actions = receive(&mut stage, peer(), request.text());
    assert_eq!(
        (statuses(&actions), reached(&actions).len()),
        (vec![401], 0)
    );
    assert!(challenge_of(&actions).stale);
}

#[test]
fn the_lane_that_made_a_nonce_counts_its_uses() {
    let plain = draft("REGISTER");
    let mut issuer = stage();
    let challenge = challenge_of(&receive(&mut issuer, peer(), plain.text()));
    let request = answered(&plain, &challenge, "1000", "weft-1000", 1);
    for (round, passes) in [(1, true), (2, false)] {
        let mut asker = stage();
        asker.core = Lane::new(3, &asker.site);
        asker.me = ActorId::Lane(NodeId(1), 3);
        let actions = receive(&mut asker, peer(), request.text());
        assert!(statuses(&actions).is_empty(), "it waits");
        let [(to, Any::Lane(question))] = &told(&actions)[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(*to, ActorId::Lane(NodeId(1), 0));
        assert!(
            receive(&mut asker, peer(), request.text()).is_empty(),
            "asked once"
        );
        let event = Event::Message {
            from: asker.me.clone(),
            message: question.clone(),
        };
        let answers = told(&issuer.event(event));
        let [(to, Any::Lane(answer))] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!(*to, asker.me);
        let actions = asker.tell(answer.clone());
        assert_eq!(
            reached(&actions).len(),
            usize::from(passes),
            "round {round}"
        );
        assert_eq!(
            statuses(&actions).len(),
            usize::from(!passes),
            "round {round}"
        );
        assert!(
            asker.tell(answer.clone()).is_empty(),
            "an answer to nothing"
        );
    }
    let mut asker = stage();
    asker.core = Lane::new(3, &asker.site);
    let actions = receive(&mut asker, peer(), request.text());
    let (to, message) = told(&actions).pop().expect("a question");
    let actions = asker.event(Event::Undelivered {
        to,
        message,
        why: Undelivered::Absent,
    });
    assert_eq!(
        (statuses(&actions), challenge_of(&actions).stale),
        (vec![401], true)
    );
}

#[test]
fn a_source_that_fails_too_often_is_refused_without_a_check_for_a_minute() {
    let mut stage = stage();
    stage.site.lanes = 1;
    let plain = draft("REGISTER");
    let guess = |stage: &mut Stage<Lane>, flow, password, number: u32| {
        let mut request = plain.clone();
        request.cseq = number * 2;
        request.branch = format!("z9hG4bK{number}");
        let challenge = challenge_of(&receive(stage, flow, request.text()));
        let request = answered(&request, &challenge, "1000", password, 1);
        statuses(&receive(stage, flow, request.text()))
    };
    for number in 0..AUTH_FAILURES_PER_ADDRESS_MAX {
        let port = 1_000 + number;
        let flow = datagram(DIGEST, &format!("192.0.2.66:{port}"));
        assert_eq!(guess(&mut stage, flow, "guess", number), [401]);
    }
    let bad = datagram(DIGEST, "192.0.2.66:9");
    assert_eq!(
        guess(&mut stage, bad, "weft-1000", 900),
        [403],
        "not even the right one"
    );
    let honest = datagram(DIGEST, "192.0.2.67:9");
    assert!(
        guess(&mut stage, honest, "weft-1000", 901).is_empty(),
        "others are not touched"
    );
    stage.pass(Duration::from_secs(61));
    assert!(guess(&mut stage, bad, "weft-1000", 902).is_empty());
}

#[test]
fn nobody_speaks_as_another() {
    for (method, from, field, passes) in [
        ("INVITE", "<sip:1000@example.org>;tag=1", "Subject: x", true),
        ("INVITE", "<sip:1000@192.0.2.1>;tag=1", "Subject: x", true),
        (
            "INVITE",
            "\"B\" <sip:1001@example.org>;tag=1",
            "Subject: x",
            false,
        ),
        (
            "INVITE",
            "<sip:1000@hashed.example>;tag=1",
            "Subject: x",
            false,
        ),
        (
            "INVITE",
            "<sip:anonymous@anonymous.invalid>;tag=1",
            "Privacy: id",
            true,
        ),
        (
            "INVITE",
            "<sip:1000@example.org>;tag=1",
            "P-Asserted-Identity: <sip:1000@example.org>",
            true,
        ),
        (
            "INVITE",
            "<sip:1000@example.org>;tag=1",
            "P-Asserted-Identity: <sip:1001@example.org>",
            false,
        ),
        (
            "INVITE",
            "<sip:1000@example.org>;tag=1",
            "P-Preferred-Identity: <sip:1001@example.org>",
            false,
        ),
        ("INVITE", "<tel:+1555>;tag=1", "Subject: x", false),
        (
            "MESSAGE",
            "<sip:1001@example.org>;tag=1",
            "Subject: x",
            false,
        ),
        (
            "REGISTER",
            "<sip:1001@example.org>;tag=1",
            "Subject: x",
            false,
        ),
    ] {
        let mut stage = stage();
        let asking = draft(if method == "REGISTER" {
            "REGISTER"
        } else {
            "MESSAGE"
        });
        let challenge = challenge_of(&receive(&mut stage, peer(), asking.text()));
        let mut request = draft(method).with(field);
        request.from = from.to_owned();
        let request = answered(&request, &challenge, "1000", "weft-1000", 1);
        let actions = receive(&mut stage, peer(), request.text());
        let got = statuses(&actions);
        // Credentials of a realm that the From does not mean are none at all.
        let is_refused = got == [403] || got == [407];
        assert_eq!(is_refused, !passes, "{method} {from} {field}: {got:?}");
        assert_eq!(reached(&actions).len(), usize::from(passes));
    }
}

#[test]
fn a_digest_for_the_address_of_the_server_is_taken() {
    let mut stage = stage();
    let challenge = challenge_of(&receive(&mut stage, peer(), draft("MESSAGE").text()));
    let mut request = answered(&draft("INVITE"), &challenge, "1000", "weft-1000", 1);
    request.uri = "sip:1001@example.org;user=phone".to_owned();
    let actions = receive(&mut stage, peer(), request.text());
    assert_eq!(
        (statuses(&actions), reached(&actions).len()),
        (vec![100], 1)
    );
}

#[test]
fn a_dialog_may_ask_for_proof_and_gets_the_identity() {
    let mut stage = stage();
    let mut bye = draft("BYE");
    bye.to = format!("<sip:1001@example.org>;tag={}", own_tag(&stage));
    let actions = receive(&mut stage, peer(), bye.text());
    let [(_, Any::Dialog(dialog::Message::Request(inbound)))] = &told(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(inbound.identity, None);
    let challenge = Message::Challenge {
        transaction: inbound.transaction.clone(),
        flow: inbound.flow,
        request: inbound.request.clone(),
    };
    let actions = stage.tell(challenge);
    assert_eq!(statuses(&actions), [407]);
    let bye = answered(&bye, &challenge_of(&actions), "1000", "weft-1000", 1);
    let actions = receive(&mut stage, peer(), bye.text());
    let [(_, Any::Dialog(dialog::Message::Request(inbound)))] = &told(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        inbound.identity.as_ref().map(|aor| aor.as_str()),
        Some("1000@example.org")
    );
}
