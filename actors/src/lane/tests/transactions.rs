//! Transactions of both sides: what is repeated, what is told, and how they end.

use std::time::Duration;

use bytes::Bytes;
use contract::{ActorId, FlowRef, Undelivered};

use super::*;
use crate::script::{OPEN, datagram, sent, statuses, stream, told};
use crate::{Message as Any, TransactionRef, call, dialog};

fn peer() -> FlowRef {
    datagram(OPEN, "192.0.2.9:5062")
}

fn user() -> ActorId {
    ActorId::Dialog(own_token(0).side)
}

/// A request of ours, with a branch of this lane.
fn own(stage: &Stage<Lane>, method: &str) -> (String, Bytes) {
    let branch = stage.site.tokens.write(TokenUse::Branch, own_token(0), 9);
    let request = format!(
        "{method} sip:1001@192.0.2.9:5062 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1:5060;branch={branch};rport\r\n\
         From: <sip:1000@example.org>;tag=a\r\nTo: <sip:1001@example.org>\r\nCall-ID: ours\r\n\
         CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    );
    (branch, Bytes::from(request))
}

/// A response of the peer to a request of ours.
fn response(request: &Bytes, status: u16) -> Bytes {
    let request = sip::Message::read(request.clone()).expect("a request");
    sip::respond(&request, status, Some("theirs"))
        .finish()
        .expect("a response")
}

fn send(stage: &mut Stage<Lane>, flow: FlowRef, request: &Bytes) -> Actions {
    stage.tell(Message::Request {
        flow,
        request: request.clone(),
        user: user(),
    })
}

/// What a user was told: statuses of responses, failures as 0 (timed out) and 1 (unreachable).
fn heard(actions: &Actions) -> Vec<u16> {
    let heard = told(actions).into_iter().map(|(to, message)| {
        assert_eq!(to, user());
        match message {
            Any::Dialog(dialog::Message::Response { response, .. }) => {
                response.status().expect("a response")
            }
            Any::Dialog(dialog::Message::RequestFailed { why, .. }) => match why {
                dialog::RequestFailure::TimedOut => 0,
                dialog::RequestFailure::Unreachable => 1,
            },
            other => panic!("{other:?}"),
        }
    });
    heard.collect()
}

#[test]
fn a_request_of_a_user_is_repeated_until_it_is_answered() {
    let mut stage = stage();
    let (_, request) = own(&stage, "BYE");
    let actions = send(&mut stage, peer(), &request);
    assert_eq!(
        sent(&actions),
        [(peer(), String::from_utf8_lossy(&request).into_owned())]
    );
    assert_eq!(
        sent(&stage.pass(Duration::from_millis(1_600))).len(),
        2,
        "T1, then twice T1"
    );
    let actions = receive(&mut stage, peer(), response(&request, 200));
    assert_eq!(heard(&actions), [200]);
    assert!(
        receive(&mut stage, peer(), response(&request, 200)).is_empty(),
        "told once"
    );
    assert!(stage.pass(Duration::from_secs(40)).is_empty());
    assert_eq!(stage.core.state(), "0 transactions");
}

#[test]
fn a_request_without_an_answer_fails_after_64_times_t1() {
    for method in ["INVITE", "BYE"] {
        let mut stage = stage();
        let (_, request) = own(&stage, method);
        send(&mut stage, peer(), &request);
        assert!(
            heard(&stage.pass(Duration::from_millis(31_900))).is_empty(),
            "{method}"
        );
        assert_eq!(
            heard(&stage.pass(Duration::from_millis(200))),
            [0],
            "{method}"
        );
        assert_eq!(stage.core.state(), "0 transactions");
    }
    let mut stage = stage();
    let (_, request) = own(&stage, "CANCEL");
    send(&mut stage, peer(), &request);
    assert!(
        heard(&stage.pass(Duration::from_secs(60))).is_empty(),
        "a CANCEL fails in silence"
    );
}

#[test]
fn a_refused_invite_is_acknowledged_by_the_lane_and_a_2xx_by_its_user() {
    let mut stage = stage();
    let (_, request) = own(&stage, "INVITE");
    send(&mut stage, peer(), &request);
    assert_eq!(
        heard(&receive(&mut stage, peer(), response(&request, 180))),
        [180]
    );
    let actions = receive(&mut stage, peer(), response(&request, 486));
    assert_eq!(heard(&actions), [486]);
    assert!(sent(&actions)[0].1.starts_with("ACK "));
    let again = receive(&mut stage, peer(), response(&request, 486));
    assert_eq!((heard(&again).len(), sent(&again).len()), (0, 1));

    let mut stage = self::stage();
    send(&mut stage, peer(), &request);
    for _ in 0..2 {
        let actions = receive(&mut stage, peer(), response(&request, 200));
        assert_eq!((heard(&actions), sent(&actions).len()), (vec![200], 0));
    }
    let (_, ack) = own(&stage, "ACK");
    let actions = stage.tell(Message::SendAck {
        flow: peer(),
        request: ack.clone(),
    });
    assert_eq!(sent(&actions).len(), 1);
}

#[test]
fn a_cancelled_invite_without_an_answer_times_out() {
    let mut stage = stage();
    let (_, invite) = own(&stage, "INVITE");
    let (_, cancel) = own(&stage, "CANCEL");
    send(&mut stage, peer(), &invite);
    receive(&mut stage, peer(), response(&invite, 180));
    assert!(
        heard(&stage.pass(Duration::from_secs(100))).is_empty(),
        "it may ring for long"
    );
    send(&mut stage, peer(), &cancel);
    assert_eq!(
        heard(&receive(&mut stage, peer(), response(&cancel, 200))),
        [200]
    );
    assert_eq!(heard(&stage.pass(Duration::from_secs(33))), [0]);
}

#[test]
fn what_waits_on_a_connection_that_is_gone_fails() {
    let mut stage = stage();
    let (_, bye) = own(&stage, "BYE");
    let (_, invite) = own(&stage, "INVITE");
    send(&mut stage, stream(3), &bye);
    send(&mut stage, stream(3), &invite);
    receive(&mut stage, stream(3), response(&invite, 180));
    assert!(stage.tell(Message::FlowGone { flow: stream(4) }).is_empty());
    assert_eq!(
        heard(&stage.tell(Message::FlowGone { flow: stream(3) })),
        [1, 1]
    );
    assert_eq!(stage.core.state(), "0 transactions");
    let actions = send(&mut stage, stream(3), &bye);
    assert_eq!((heard(&actions), sent(&actions).len()), (vec![1], 0));
}

/// Its connection may be dead without anybody's knowledge.
#[test]
fn a_request_whose_user_has_found_the_peer_elsewhere_is_sent_there() {
    let mut stage = stage();
    let (_, cancel) = own(&stage, "CANCEL");
    assert_eq!(sent(&send(&mut stage, stream(3), &cancel)).len(), 1);
    assert_eq!(sent(&send(&mut stage, stream(3), &cancel)).len(), 0);
    let elsewhere = sent(&send(&mut stage, stream(4), &cancel));
    assert!(
        elsewhere.len() == 1 && elsewhere[0].0 == stream(4),
        "{elsewhere:?}"
    );
}

/// A lane that panicked has forgotten which connections are gone, and sent a re-INVITE and a BYE over one: the
/// phone, registered over another, learnt of the end by a 481. Simulator, 3 nodes, 10 minutes, seed 91303.
#[test]
fn a_lane_that_began_after_a_connection_had_gone_asks_whether_it_is_there() {
    let mut stage = stage();
    let (_, bye) = own(&stage, "BYE");
    stage.tell(Message::FlowGone { flow: stream(3) });
    stage.core = Lane::new(0, &stage.site);
    let asked = told(&send(&mut stage, stream(3), &bye));
    let [(to, watch)] = <[_; 1]>::try_from(asked).expect("one question");
    assert_eq!(Some(&to), stream(3).actor().as_ref());
    let actions = stage.event(Event::Undelivered {
        to,
        message: watch,
        why: Undelivered::Absent,
    });
    assert_eq!(heard(&actions), [1]);
    assert_eq!(stage.core.state(), "0 transactions");
    let actions = send(&mut stage, stream(3), &bye);
    assert_eq!((heard(&actions), sent(&actions).len()), (vec![1], 0));
    // A datagram has nobody to ask.
    assert!(told(&send(&mut stage, peer(), &bye)).is_empty());
}

#[test]
fn a_response_without_a_transaction_goes_to_the_side_of_its_branch() {
    let mut stage = stage();
    let (branch, request) = own(&stage, "INVITE");
    assert_eq!(
        heard(&receive(&mut stage, peer(), response(&request, 200))),
        [200]
    );
    let text = String::from_utf8(response(&request, 200).to_vec()).expect("text");
    let last = if branch.ends_with('0') { '1' } else { '0' };
    let forged = text.replace(&branch, &format!("{}{last}", &branch[..branch.len() - 1]));
    assert!(
        receive(&mut stage, peer(), Bytes::from(forged)).is_empty(),
        "the MAC is checked"
    );
    let two = text.replacen(
        "From:",
        "Via: SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKx\r\nFrom:",
        1,
    );
    assert!(
        receive(&mut stage, peer(), Bytes::from(two)).is_empty(),
        "RFC 3261 §8.1.3.3"
    );
}

fn transaction_of(actions: &Actions) -> (TransactionRef, sip::Message) {
    let (_, message) = told(actions).pop().expect("a message");
    match message {
        Any::Call(call::Message::Invite(inbound))
        | Any::Dialog(dialog::Message::Request(inbound)) => (inbound.transaction, inbound.request),
        other => panic!("{other:?}"),
    }
}

fn respond(stage: &mut Stage<Lane>, to: &(TransactionRef, sip::Message), status: u16) -> Actions {
    let response = sip::respond(&to.1, status, Some("ours"))
        .finish()
        .expect("a response");
    let transaction = to.0.clone();
    stage.tell(Message::Respond {
        transaction,
        flow: peer(),
        response,
    })
}

#[test]
fn a_final_response_is_repeated_until_its_ack_and_to_every_copy_of_the_request() {
    let mut stage = stage();
    let invite = draft("INVITE");
    let to = transaction_of(&receive(&mut stage, peer(), invite.text()));
    assert_eq!(statuses(&respond(&mut stage, &to, 180)), [180]);
    assert_eq!(statuses(&receive(&mut stage, peer(), invite.text())), [180]);
    assert_eq!(statuses(&respond(&mut stage, &to, 486)), [486]);
    assert_eq!(
        statuses(&stage.pass(Duration::from_millis(1_600))),
        [486, 486]
    );
    let mut ack = draft("ACK");
    ack.branch = invite.branch;
    ack.to.push_str(";tag=ours");
    assert!(receive(&mut stage, datagram(OPEN, "192.0.2.9:1"), ack.text()).is_empty());
    assert_eq!(
        statuses(&stage.pass(Duration::from_secs(2))).len(),
        1,
        "not from elsewhere"
    );
    assert!(receive(&mut stage, peer(), ack.text()).is_empty());
    assert!(stage.pass(Duration::from_secs(40)).is_empty());
    assert_eq!(stage.core.state(), "0 transactions");
}

#[test]
fn a_copy_from_another_source_is_not_answered() {
    let mut stage = stage();
    let invite = draft("INVITE").text();
    receive(&mut stage, peer(), invite.clone());
    assert!(receive(&mut stage, datagram(OPEN, "203.0.113.66:5060"), invite).is_empty());
}

#[test]
fn responses_go_where_the_top_via_and_the_source_say() {
    for (via, wanted) in [
        ("192.0.2.9:5062;branch=z9hG4bK1", "192.0.2.50:5062"),
        ("192.0.2.9:5062;rport;branch=z9hG4bK1", "192.0.2.50:7777"),
        ("192.0.2.9;branch=z9hG4bK1", "192.0.2.50:5060"),
        (
            "192.0.2.9:5062;maddr=203.0.113.1;branch=z9hG4bK1",
            "192.0.2.50:5062",
        ),
        (
            "192.0.2.9:5062;received=203.0.113.1;branch=z9hG4bK1",
            "192.0.2.50:5062",
        ),
    ] {
        let text = String::from_utf8(draft("INVITE").text().to_vec()).expect("text");
        let text = text.replace("192.0.2.9:5062;branch=z9hG4bKINVITE1", via);
        let mut stage = stage();
        let actions = receive(
            &mut stage,
            datagram(OPEN, "192.0.2.50:7777"),
            Bytes::from(text),
        );
        assert_eq!(sent(&actions)[0].0, datagram(OPEN, wanted), "{via}");
    }
    let actions = receive(&mut stage(), stream(6), draft("REGISTER").text());
    assert_eq!(
        sent(&actions)[0].0,
        stream(6),
        "on a connection it goes back there"
    );
}

#[test]
fn a_response_from_before_a_restart_is_adopted() {
    let mut stage = stage();
    let invite = draft("INVITE");
    let to = transaction_of(&receive(&mut stage, peer(), invite.text()));
    stage.core = Lane::new(0, &stage.site);
    let actions = respond(&mut stage, &to, 486);
    assert_eq!(sent(&actions)[0].0, peer());
    assert_eq!(statuses(&actions), [486]);
    let again = receive(&mut stage, peer(), invite.text());
    assert_eq!((statuses(&again), told(&again).len()), (vec![486], 0));
    assert_eq!(
        statuses(&stage.pass(Duration::from_millis(1_600))),
        [486, 486]
    );
    let mut ack = draft("ACK");
    ack.branch = invite.branch;
    assert!(receive(&mut stage, peer(), ack.text()).is_empty());
    assert!(stage.pass(Duration::from_secs(40)).is_empty());
    assert_eq!(stage.core.state(), "0 transactions");
}

#[test]
fn a_transaction_that_nobody_answers_is_forgotten() {
    let mut stage = stage();
    let mut bye = draft("BYE");
    bye.to = format!("<sip:1001@example.org>;tag={}", own_tag(&stage));
    receive(&mut stage, peer(), bye.text());
    assert_eq!(stage.core.state(), "1 transactions");
    assert!(stage.pass(Duration::from_secs(41)).is_empty());
    assert_eq!(stage.core.state(), "0 transactions");
}

#[test]
fn a_flood_without_proof_leaves_nothing_behind() {
    let mut stage = stage();
    let flow = datagram(crate::script::DIGEST, "203.0.113.5:5060");
    for number in 0..1_000 {
        let mut invite = draft("INVITE");
        invite.branch = format!("z9hG4bK{number}");
        assert_eq!(statuses(&receive(&mut stage, flow, invite.text())), [407]);
    }
    assert_eq!(stage.core.state(), "0 transactions");
    let mut ack = draft("ACK");
    ack.to.push_str(";tag=whatever");
    assert!(receive(&mut stage, flow, ack.text()).is_empty());
}

#[test]
fn the_ack_of_a_2xx_that_repeats_the_branch_reaches_the_dialog() {
    let mut stage = stage();
    let invite = draft("INVITE");
    let to = transaction_of(&receive(&mut stage, peer(), invite.text()));
    respond(&mut stage, &to, 200);
    let mut ack = draft("ACK");
    ack.branch = invite.branch;
    ack.to = format!("<sip:1001@example.org>;tag={}", own_tag(&stage));
    let actions = receive(&mut stage, peer(), ack.text());
    assert!(matches!(
        &told(&actions)[..],
        [(to, Any::Dialog(dialog::Message::Request(_)))] if *to == user()
    ));
}
