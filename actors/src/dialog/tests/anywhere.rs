//! Requests of the peer come over any node: the lane that took one answers it, and a copy changes
//! nothing. `UPDATE_GOLDEN=1` writes the golden anew; only ever for a form that was never released.

use std::path::PathBuf;

use super::*;
use crate::AnyCore;

fn lane(node: u16, number: u16) -> ActorId {
    ActorId::Lane(NodeId(node), number)
}

/// The same request, as lane 2 of node 2 took it.
fn over_another_node(mut inbound: Inbound) -> Inbound {
    inbound.transaction.node = Some(NodeId(2));
    inbound.transaction.lane = 2;
    inbound
}

/// A request of the peer in the dialog.
fn inside(stage: &Stage<Dialog>, method: &str, cseq: u32, fields: &str, body: &str) -> Inbound {
    let known = stage.core.data.dialog.clone().expect("a dialog");
    let request = read(format!(
        "{method} sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bK{method}{cseq}\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:1000@{PEER}>\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        known.remote,
        known.local,
        known.call_id,
        body.len()
    ));
    let key = sip::transaction::Key::of_request(&request).expect("a key");
    over_another_node(Inbound {
        transaction: TransactionRef {
            node: Some(NodeId(1)),
            lane: 3,
            key,
        },
        flow: datagram(DIGEST, PEER),
        request,
        identity: None,
    })
}

/// Who was given which response.
fn responses(actions: &Actions) -> Vec<(ActorId, u16)> {
    let given = told(actions).into_iter().filter_map(|(to, message)| {
        let crate::Message::Lane(lane::Message::Respond { response, .. }) = message else {
            return None;
        };
        Some((to, read_bytes(response).status().expect("a response")))
    });
    given.collect()
}

fn calls(actions: &Actions) -> Vec<call::Message> {
    let given = told(actions)
        .into_iter()
        .filter_map(|(_, message)| match message {
            crate::Message::Call(message) => Some(message),
            _ => None,
        });
    given.collect()
}

/// A caller whose INVITE node 1 took, and whose ACK came over node 2.
fn confirmed() -> Stage<Dialog> {
    let (mut stage, _) = on_stage(1, Message::Serve(inbound("")));
    let accept = stage.tell(Message::Accept { sdp: None });
    assert_eq!(responses(&accept), [(lane(1, 3), 200)]);
    let ack = inside(&stage, "ACK", 1, "", "");
    let actions = stage.tell(Message::Request(ack));
    assert!(matches!(
        &calls(&actions)[..],
        [call::Message::Acknowledged { side: 1, .. }]
    ));
    assert!(
        stage.pass(Duration::from_secs(40)).is_empty(),
        "no 200 again"
    );
    stage
}

#[test]
fn each_request_in_a_dialog_is_answered_at_the_node_that_took_it() {
    for (method, status) in [
        ("INFO", 200),
        ("OPTIONS", 200),
        ("UPDATE", 200),
        ("PRACK", 481),
        ("REFER", 503),
        ("NOTIFY", 405),
        ("MESSAGE", 405),
        ("BYE", 200),
    ] {
        let mut stage = confirmed();
        let request = inside(&stage, method, 2, "", "");
        let actions = stage.tell(Message::Request(request));
        assert_eq!(responses(&actions), [(lane(2, 2), status)], "{method}");
    }
}

#[test]
fn an_offer_is_answered_at_the_node_that_took_its_last_copy() {
    let sdp = "v=0\r\n";
    let fields = "Content-Type: application/sdp\r\n";
    for (method, repeats) in [("INVITE", true), ("UPDATE", false)] {
        let mut stage = confirmed();
        let request = inside(&stage, method, 2, fields, sdp);
        let actions = stage.tell(Message::Request(request.clone()));
        assert!(responses(&actions).is_empty());
        assert!(matches!(
            &calls(&actions)[..],
            [call::Message::Offered { side: 1, .. }]
        ));
        let mut copy = request;
        copy.transaction.node = Some(NodeId(3));
        let actions = stage.tell(Message::Request(copy));
        assert!(calls(&actions).is_empty(), "it is one offer");
        let answer = Some(Bytes::from_static(b"v=0\r\n"));
        let actions = stage.tell(Message::AcceptOffer { sdp: answer });
        assert_eq!(responses(&actions), [(lane(3, 2), 200)], "{method}");
        let again = stage.pass(Duration::from_millis(500));
        let wanted = if repeats {
            vec![(lane(3, 2), 200)]
        } else {
            vec![]
        };
        assert_eq!(responses(&again), wanted, "{method}");
    }
}

#[test]
fn a_digit_that_comes_over_two_nodes_is_one_digit() {
    let mut stage = confirmed();
    let fields = "Content-Type: application/dtmf-relay\r\n";
    let info = inside(&stage, "INFO", 2, fields, "Signal=5\r\nDuration=160\r\n");
    let actions = stage.tell(Message::Request(info.clone()));
    assert!(matches!(&calls(&actions)[..], [call::Message::Info { .. }]));
    let mut copy = info;
    copy.transaction.node = Some(NodeId(3));
    let actions = stage.tell(Message::Request(copy));
    assert_eq!(responses(&actions), [(lane(3, 2), 200)]);
    assert!(calls(&actions).is_empty());
    let next = inside(&stage, "INFO", 3, fields, "Signal=5\r\nDuration=160\r\n");
    let actions = stage.tell(Message::Request(next));
    assert!(matches!(&calls(&actions)[..], [call::Message::Info { .. }]));
}

#[test]
fn a_request_of_nobody_known_is_challenged_at_the_node_that_took_it() {
    let mut stage = after_a_restart();
    let bye = over_another_node(bye_of_the_peer(&stage));
    let asked = told(&stage.tell(Message::Request(bye)));
    let [(to, crate::Message::Lane(lane::Message::Challenge { .. }))] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!(*to, lane(2, 2));
}

#[test]
fn a_cancel_over_another_node_is_answered_there_and_its_invite_where_it_came() {
    let (mut stage, _) = on_stage(1, Message::Serve(inbound("")));
    let cancel = over_another_node(inbound(""));
    let actions = stage.tell(Message::Cancelled(cancel));
    assert_eq!(responses(&actions), [(lane(2, 2), 200), (lane(1, 3), 487)]);
}

#[test]
fn a_copy_of_the_invite_over_another_node_gets_the_last_response_and_starts_nothing() {
    let (mut stage, _) = on_stage(1, Message::Serve(inbound("")));
    let copy = || Message::Retransmitted(over_another_node(inbound("")));
    let actions = stage.tell(copy());
    assert!(responses(&actions).is_empty(), "100 is the lane's");
    assert!(calls(&actions).is_empty());
    stage.tell(Message::Progress {
        status: 180,
        sdp: None,
    });
    let actions = stage.tell(copy());
    assert_eq!(responses(&actions), [(lane(2, 2), 180)]);
    assert!(calls(&actions).is_empty());
    let actions = stage.tell(Message::Accept { sdp: None });
    assert_eq!(responses(&actions), [(lane(1, 3), 200)], "its own lane");
    let actions = stage.tell(copy());
    assert_eq!(responses(&actions), [(lane(2, 2), 200)]);
    assert!(calls(&actions).is_empty());
    let mut stranger = over_another_node(inbound(""));
    stranger.flow = datagram(DIGEST, "192.0.2.66:5060");
    let actions = stage.tell(Message::Retransmitted(stranger));
    assert!(responses(&actions).is_empty());
}

fn golden(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(name).with_extension("hex")
}

fn read_golden(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(golden(name)).expect("a golden");
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("two digits")
    });
    pairs.collect()
}

fn restored(stage: &Stage<Dialog>, octets: &[u8]) -> Stage<Dialog> {
    let read = AnyCore::restore(&stage.me, octets, stage.now);
    let AnyCore::Dialog(dialog) = read.expect("a stored dialog") else {
        panic!("a dialog");
    };
    Stage::new(*dialog, stage.me.clone())
}

#[test]
fn the_first_stored_form_of_a_callers_side_is_read_and_answers_where_the_dialog_runs() {
    let stage = confirmed();
    let octets = read_golden("stored_server_dialog_v1");
    let old = restored(&stage, &octets);
    assert_eq!(old.core.state(), "confirmed");
    let transaction = old.core.data.transaction.clone().expect("a transaction");
    assert_eq!(transaction.node, None);
    assert_eq!(transaction.home(NodeId(7)), lane(7, 2));
    let again =
        AnyCore::Dialog(Box::new(old.core)).snapshot(stage.now, contract::SchemaVersion::NEWEST);
    assert_eq!(again[0], octets[0], "nothing in it needs the second form");
}

#[test]
fn the_second_stored_form_of_a_callers_side_is_its_golden_octets_and_is_read_from_them() {
    let stage = confirmed();
    let wanted = stage.core.data.transaction.clone();
    let (me, now) = (stage.me.clone(), stage.now);
    let octets =
        AnyCore::Dialog(Box::new(stage.core)).snapshot(now, contract::SchemaVersion::NEWEST);
    let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let lines = digits.as_bytes().chunks(96);
    let lines: Vec<&str> = lines
        .map(|line| std::str::from_utf8(line).expect("digits"))
        .collect();
    let text = lines.join("\n") + "\n";
    let name = "stored_server_dialog_v2";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden(name), &text).expect("a golden is written");
    }
    assert_eq!(
        std::fs::read_to_string(golden(name)).expect("a golden"),
        text
    );
    let mut other = confirmed();
    (other.me, other.now) = (me, now);
    let read = restored(&other, &read_golden(name));
    assert_eq!(read.core.data.transaction, wanted);
    assert_eq!(read.core.state(), "confirmed");
}
