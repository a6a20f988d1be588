//! A dialog on a stage: the order of what it does. Whole calls are tested in `call/tests`.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

mod anywhere;
mod lost_forks;

use std::time::Duration;

use bytes::Bytes;
use contract::{
    Action, ActorId, CallKey, Event, NodeId, Restored, Roster, SideKey, Store, Token, TokenUse,
    Undelivered,
};

use super::session_timer::SessionTimer;
use super::*;
use crate::script::{Actions, DIGEST, Stage, datagram, site, stream, told};
use crate::{TransactionRef, call, lane};

const PEER: &str = "192.0.2.10:5062";

fn side(number: u8) -> SideKey {
    CallKey::from_bits(0x1234_5678_9abc_def0_1122_3344_5566_7788).side(number)
}

fn read(text: String) -> sip::Message {
    sip::Message::read(Bytes::from(text)).expect("a message")
}

fn inbound(fields: &str) -> Inbound {
    let request = read(format!(
        "INVITE sip:1001@example.org SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bK1\r\n\
         From: <sip:1000@example.org>;tag=a1\r\nTo: <sip:1001@example.org>\r\nCall-ID: c\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:1000@{PEER}>\r\n{fields}Content-Length: 0\r\n\r\n"
    ));
    let key = sip::transaction::Key::of_request(&request).expect("a key");
    Inbound {
        transaction: TransactionRef {
            node: Some(NodeId(1)),
            lane: 3,
            key,
        },
        flow: datagram(DIGEST, PEER),
        request,
        identity: None,
    }
}

fn on_stage(number: u8, first: Message) -> (Stage<Dialog>, Actions) {
    let dialog = Dialog::create(side(number), &first, &site()).expect("a dialog");
    let mut stage = Stage::new(dialog, ActorId::Dialog(side(number)));
    let actions = stage.tell(first);
    (stage, actions)
}

fn order_invite() -> Message {
    Message::Invite(Box::new(Invite {
        target: Target {
            uri: format!("sip:1001@{PEER};ob").parse().expect("a URI"),
            flow: datagram(DIGEST, PEER),
            path: vec!["sip:edge.example.org;lr".parse().expect("a URI")],
            q: 1000,
            unreachable: false,
        },
        callee: "1001@example.org".parse().expect("an address of record"),
        from: "\"Anna\" <sip:1000@example.org>".parse().expect("From"),
        max_forwards: 69,
        sdp: Some(Bytes::from_static(b"v=0\r\n")),
    }))
}

/// The shape of what was done: `store`, `gate`, `call`, `lane`, `urgent`.
fn shape(actions: &Actions) -> Vec<&'static str> {
    let words = actions.iter().map(|action| match action {
        Action::Store(Store::Put { gate: true }) => "gate",
        Action::Store(_) => "store",
        Action::Tell { urgent: true, .. } => "urgent",
        Action::Tell {
            message: crate::Message::Lane(_),
            ..
        } => "lane",
        Action::Tell { .. } => "call",
        _ => "other",
    });
    words.collect()
}

#[test]
fn an_invite_is_recorded_and_100_is_left_to_the_lane() {
    let (_, actions) = on_stage(1, Message::Serve(inbound("")));
    assert_eq!(shape(&actions), ["store"]);
}

#[test]
fn an_18x_and_a_200_are_safe_before_they_are_sent() {
    let (mut stage, _) = on_stage(1, Message::Serve(inbound("")));
    let progress = stage.tell(Message::Progress {
        status: 180,
        sdp: None,
    });
    assert_eq!(shape(&progress), ["gate", "lane"]);
    let accept = stage.tell(Message::Accept { sdp: None });
    assert_eq!(shape(&accept), ["gate", "lane"]);
    let repeated = stage.pass(Duration::from_millis(500));
    assert_eq!(shape(&repeated), ["lane"]);
}

#[test]
fn the_call_hears_of_an_answer_before_the_ack_is_safe() {
    let (mut stage, actions) = on_stage(2, order_invite());
    assert_eq!(shape(&actions), ["gate", "lane"]);
    let response = answer(&actions, 200);
    let flow = datagram(DIGEST, PEER);
    let actions = stage.tell(Message::Response { response, flow });
    assert_eq!(shape(&actions), ["store", "call", "gate", "lane"]);
}

fn answer(actions: &Actions, status: u16) -> sip::Message {
    let request = told(actions)
        .into_iter()
        .find_map(|(_, message)| match message {
            crate::Message::Lane(lane::Message::Request { request, .. }) => Some(request),
            _ => None,
        });
    let request = sip::Message::read(request.expect("a request")).expect("readable");
    let mut writer = sip::respond(&request, status, Some("b1"));
    writer.header(sip::HeaderName::Contact, format!("<sip:1001@{PEER}>"));
    sip::Message::read(writer.finish().expect("a response")).expect("readable")
}

#[test]
fn our_invite_names_its_lane_side_and_route() {
    let (stage, actions) = on_stage(2, order_invite());
    let (to, message) = told(&actions).pop().expect("a request");
    let crate::Message::Lane(lane::Message::Request { request, user, .. }) = message else {
        panic!("not a request");
    };
    assert_eq!(user, stage.me);
    let invite = sip::Message::read(request).expect("readable");
    assert_eq!(invite.check(), Ok(()));
    let via = invite.via().expect("Via");
    let token = stage
        .site
        .tokens
        .read(TokenUse::Branch, via.branch().expect("a branch"));
    let token = token.expect("a token of ours");
    assert_eq!(to, ActorId::Lane(NodeId(1), token.lane));
    assert_eq!((token.side, token.hint), (side(2), NodeId(1)));
    assert!(via.params.has("rport"));
    let tag = invite
        .from()
        .expect("From")
        .tag()
        .map(str::to_owned)
        .expect("a tag");
    let wanted = Token {
        hint: NodeId(1),
        lane: 0,
        side: side(2),
    };
    assert_eq!(stage.site.tokens.read(TokenUse::Tag, &tag), Some(wanted));
    assert_eq!(
        invite.header(sip::HeaderName::Route),
        Some("<sip:edge.example.org;lr>")
    );
    assert_eq!(
        invite.from().expect("From").display.as_deref(),
        Some("Anna")
    );
    assert_eq!(invite.max_forwards(), Ok(Some(69)));
}

#[test]
fn a_100_is_not_worth_telling() {
    let (mut stage, actions) = on_stage(2, order_invite());
    let response = answer(&actions, 100);
    let flow = datagram(DIGEST, PEER);
    let actions = stage.tell(Message::Response { response, flow });
    assert!(!shape(&actions).contains(&"call"));
}

#[test]
fn a_refusal_ends_the_side_at_once() {
    let (mut stage, _) = on_stage(1, Message::Serve(inbound("")));
    let cause = "USER_BUSY".to_owned();
    let actions = stage.tell(Message::End { status: 486, cause });
    let ended = told(&actions).into_iter().any(|(_, message)| {
        matches!(
            message,
            crate::Message::Call(call::Message::Ended { side: 1 })
        )
    });
    assert!(ended);
    assert_eq!(stage.core.state(), "ended");
    assert!(stage.core.timers.next().is_none());
}

#[test]
fn a_refusal_is_sent_again_after_a_restart() {
    let (mut stage, _) = on_stage(1, Message::Serve(inbound("")));
    let cause = "USER_BUSY".to_owned();
    stage.tell(Message::End { status: 486, cause });
    let core = crate::AnyCore::Dialog(Box::new(stage.core));
    let bytes = core.snapshot(stage.now, contract::SchemaVersion::NEWEST);
    let restored = crate::AnyCore::restore(&stage.me, &bytes, stage.now).expect("a snapshot");
    let crate::AnyCore::Dialog(dialog) = restored else {
        panic!("a dialog")
    };
    let mut stage = Stage::new(*dialog, stage.me);
    let actions = stage.event(Event::Restored(Restored::NodeStart));
    assert_eq!(crate::script::statuses(&actions), [486]);
}

#[test]
fn an_invite_without_contact_is_400() {
    let mut request = inbound("");
    let text = String::from_utf8_lossy(request.request.bytes()).into_owned();
    let contact = format!("Contact: <sip:1000@{PEER}>\r\n");
    request.request = read(text.replace(&contact, ""));
    let (stage, actions) = on_stage(1, Message::Serve(request));
    assert_eq!(crate::script::statuses(&actions), [400]);
    assert_eq!(stage.core.state(), "ended");
}

#[test]
fn who_refreshes_a_session_is_the_peers_choice() {
    let table = [
        ("Session-Expires: 1800\r\nSupported: timer\r\n", Some(false)),
        (
            "Session-Expires: 1800;refresher=uac\r\nSupported: timer\r\n",
            Some(false),
        ),
        ("x: 1800;refresher=uas\r\nSupported: timer\r\n", Some(true)),
        ("Session-Expires: 1800\r\n", Some(true)),
        ("Session-Expires: soon\r\n", None),
        ("Supported: timer\r\n", None),
    ];
    for (fields, is_ours) in table {
        let asked = SessionTimer::asked_by(&inbound(fields).request);
        assert_eq!(asked.map(|session| session.is_ours), is_ours, "{fields}");
    }
}

/// A callee over a connection, in a call that goes on.
fn over_a_connection() -> Stage<Dialog> {
    let old = stream(1);
    let mut order = order_invite();
    if let Message::Invite(invite) = &mut order {
        invite.target.flow = old;
    }
    let (mut stage, actions) = on_stage(2, order);
    let response = answer(&actions, 200);
    stage.tell(Message::Response {
        response,
        flow: old,
    });
    stage
}

/// The same; then the node is started again.
fn after_a_restart() -> Stage<Dialog> {
    started_again(over_a_connection()).0
}

fn started_again(stage: Stage<Dialog>) -> (Stage<Dialog>, Actions) {
    let core = crate::AnyCore::Dialog(Box::new(stage.core));
    let bytes = core.snapshot(stage.now, contract::SchemaVersion::NEWEST);
    let restored = crate::AnyCore::restore(&stage.me, &bytes, stage.now).expect("a snapshot");
    let crate::AnyCore::Dialog(dialog) = restored else {
        panic!("a dialog")
    };
    let mut stage = Stage::new(*dialog, stage.me);
    let actions = stage.event(Event::Restored(Restored::NodeStart));
    (stage, actions)
}

fn located(contact: &str, flow: contract::FlowRef, unreachable: bool) -> Message {
    Message::Located {
        targets: vec![Target {
            uri: contact.parse().expect("a URI"),
            flow,
            path: Vec::new(),
            q: 1000,
            unreachable,
        }],
    }
}

fn locates(actions: &Actions) -> usize {
    let is_locate = |message: &crate::Message| {
        use crate::registration::Message::Locate;
        matches!(message, crate::Message::Registration(Locate { .. }))
    };
    let messages = told(actions).into_iter().map(|(_, message)| message);
    messages.filter(|message| is_locate(message)).count()
}

fn requests(actions: &Actions) -> Vec<(contract::FlowRef, String)> {
    let requests = told(actions)
        .into_iter()
        .filter_map(|(_, message)| match message {
            crate::Message::Lane(lane::Message::Request { flow, request, .. }) => {
                let text = String::from_utf8_lossy(&request).into_owned();
                Some((flow, text.split(' ').next().unwrap_or_default().to_owned()))
            }
            _ => None,
        });
    requests.collect()
}

#[test]
fn a_peer_that_registers_over_a_new_connection_hears_what_waits() {
    let mut stage = after_a_restart();
    let cause = "NORMAL_CLEARING".to_owned();
    let actions = stage.tell(Message::End { status: 487, cause });
    assert_eq!((requests(&actions), locates(&actions)), (Vec::new(), 1));
    let contact = format!("sip:1001@{PEER}");
    let (gone, new) = (stream(1), stream(9));
    for wrong in [
        located(&contact, new, true),
        located(&contact, gone, false),
        located("sip:1001@192.0.2.11:5062", new, false),
        located(&contact, datagram(crate::script::OPEN, PEER), false),
    ] {
        assert_eq!(requests(&stage.tell(wrong)), Vec::new());
    }
    let actions = stage.pass(Duration::from_secs(3));
    assert_eq!(locates(&actions), 3, "once a second");
    let actions = stage.tell(located(&contact, new, false));
    assert_eq!(requests(&actions), [(new, "BYE".to_owned())]);
    assert_eq!(locates(&stage.pass(Duration::from_secs(5))), 0);
}

#[test]
fn a_peer_that_stays_away_is_given_up_after_eight_seconds() {
    let mut stage = after_a_restart();
    let cause = "NORMAL_CLEARING".to_owned();
    stage.tell(Message::End { status: 487, cause });
    let actions = stage.pass(Duration::from_secs(9));
    assert!((6..=8).contains(&locates(&actions)));
    assert_eq!(stage.core.state(), "ended");
}

#[test]
fn what_comes_again_before_it_is_safe_waits_behind_the_gate() {
    let (mut stage, _) = on_stage(1, Message::Serve(inbound("")));
    stage.tell(Message::Accept { sdp: None });
    let again = stage.tell(Message::Retransmitted(inbound("")));
    assert_eq!(shape(&again), ["store", "lane"]);
    let (mut stage, actions) = on_stage(2, order_invite());
    let (response, flow) = (answer(&actions, 200), datagram(DIGEST, PEER));
    let accepted = || Message::Response {
        response: response.clone(),
        flow,
    };
    stage.tell(accepted());
    assert_eq!(shape(&stage.tell(accepted())), ["lane"]);
}

/// It had the call, too, and has lost it: simulator, 3 nodes, seed 40178.
#[test]
fn what_the_callee_answers_to_the_invite_of_another_node_is_not_for_this_one() {
    let (mut stage, actions) = on_stage(2, order_invite());
    let flow = datagram(DIGEST, PEER);
    for status in [180, 200, 487] {
        let ours = answer(&actions, status);
        let text = String::from_utf8(ours.bytes().to_vec()).expect("text");
        let response = read(text.replace(&stage.core.data.tag, "another"));
        let actions = stage.tell(Message::Response { response, flow });
        assert!(actions.is_empty(), "{status}: {actions:?}");
        assert_eq!(stage.core.state(), "calling", "{status}");
    }
    let response = answer(&actions, 200);
    stage.tell(Message::Response { response, flow });
    assert_eq!(stage.core.state(), "confirmed");
}

/// Over a connection that the dialog does not know, without credentials.
fn bye_of_the_peer(stage: &Stage<Dialog>) -> Inbound {
    request_of_the_peer(stage, "BYE")
}

fn request_of_the_peer(stage: &Stage<Dialog>, method: &str) -> Inbound {
    let known = stage.core.data.dialog.clone().expect("a dialog");
    let request = read(format!(
        "{method} sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/TCP {PEER};branch=z9hG4bK9\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 9 {method}\r\nContent-Length: 0\r\n\r\n",
        known.remote, known.local, known.call_id
    ));
    let key = sip::transaction::Key::of_request(&request).expect("a key");
    Inbound {
        transaction: TransactionRef {
            node: Some(NodeId(1)),
            lane: 3,
            key,
        },
        flow: stream(9),
        request,
        identity: None,
    }
}

#[test]
fn a_peer_that_comes_back_to_hang_up_hears_nothing_of_what_waited() {
    let mut stage = after_a_restart();
    let sdp = Some(Bytes::from_static(b"v=0\r\n"));
    let retries = false;
    let actions = stage.tell(Message::Offer { sdp, retries });
    assert_eq!((requests(&actions), locates(&actions)), (Vec::new(), 1));
    let mut bye = bye_of_the_peer(&stage);
    let asked = stage.tell(Message::Request(bye.clone()));
    assert!(told(&asked).iter().any(|(_, message)| matches!(
        message,
        crate::Message::Lane(lane::Message::Challenge { .. })
    )));
    bye.identity = "1001@example.org".parse().ok();
    let actions = stage.tell(Message::Request(bye));
    assert_eq!(requests(&actions), Vec::new());
    assert_eq!(crate::script::statuses(&actions), [200]);
    assert_eq!(stage.core.state(), "ended");
}

#[test]
fn a_request_over_another_connection_is_asked_who_sends_it() {
    let mut stage = after_a_restart();
    stage.core.data.is_flow_gone = false;
    let bye = bye_of_the_peer(&stage);
    let actions = stage.tell(Message::Request(bye));
    assert!(told(&actions).iter().any(|(_, message)| matches!(
        message,
        crate::Message::Lane(lane::Message::Challenge { .. })
    )));
    assert_eq!(stage.core.state(), "confirmed");
}

/// Its node was out of reach for a moment: simulator, 5 nodes, seed 13, where it was an ACK.
#[test]
fn a_connection_that_was_thought_gone_and_speaks_is_there() {
    let mut stage = after_a_restart();
    let mut bye = bye_of_the_peer(&stage);
    bye.flow = stage.core.data.flow;
    assert!(stage.core.data.is_flow_gone);
    let actions = stage.tell(Message::Request(bye));
    assert_eq!(crate::script::statuses(&actions), [200]);
    assert!(!stage.core.data.is_flow_gone);
    assert_eq!(stage.core.state(), "ended");
}

/// Its node was out of reach, and its 2xx came again: simulator, 3 nodes, 10 minutes, seed 13002.
#[test]
fn a_callee_that_answers_again_over_a_connection_that_was_thought_gone_hears_the_bye() {
    let mut stage = after_a_restart();
    let cause = "NORMAL_CLEARING".to_owned();
    let actions = stage.tell(Message::End { status: 487, cause });
    assert_eq!(requests(&actions), Vec::new());
    let again = |stage: &mut Stage<Dialog>, flow| {
        let invite = stage.core.data.invite.clone().expect("an INVITE");
        let mut writer = sip::respond(&invite.0, 200, Some("b1"));
        writer.header(sip::HeaderName::Contact, format!("<sip:1001@{PEER}>"));
        let response = sip::Message::read(writer.finish().expect("a response")).expect("readable");
        stage.tell(Message::Response { response, flow })
    };
    // Anybody may write over another one.
    assert_eq!(requests(&again(&mut stage, stream(9))), Vec::new());
    let flow = stage.core.data.flow;
    let actions = again(&mut stage, flow);
    assert!(matches!(
        told(&actions).first(),
        Some((_, crate::Message::Lane(lane::Message::SendAck { .. })))
    ));
    assert_eq!(requests(&actions), [(flow, "BYE".to_owned())]);
    let number = |stage: &Stage<Dialog>| stage.core.data.outgoing.last().map(|sent| sent.cseq);
    let first = number(&stage);
    assert_eq!(requests(&again(&mut stage, flow)).len(), 1, "for its lane");
    assert_eq!(number(&stage), first, "and no second one");
    assert_eq!(stage.core.state(), "ending");
}

#[test]
fn what_meets_a_full_lane_is_told_again() {
    let (mut stage, actions) = on_stage(2, order_invite());
    let invite = told(&actions)
        .into_iter()
        .find_map(|(to, message)| matches!(to, ActorId::Lane(..)).then_some((to, message)));
    let (to, message) = invite.expect("an INVITE for a lane");
    let bounced = |why| Event::Undelivered {
        to: to.clone(),
        message: message.clone(),
        why,
    };
    assert!(stage.event(bounced(Undelivered::Busy)).is_empty());
    let again = stage.pass(Duration::from_millis(100));
    assert!(
        matches!(again.as_slice(), [Action::Tell { to: again, .. }] if *again == to),
        "{again:?}"
    );
    assert!(stage.pass(Duration::from_secs(1)).is_empty(), "once");
    assert!(stage.event(bounced(Undelivered::Absent)).is_empty());
    assert!(stage.pass(Duration::from_secs(1)).is_empty());
    for _ in 0..100 {
        stage.event(bounced(Undelivered::Busy));
    }
    assert_eq!(
        stage.core.retells.len(),
        contract::limits::DIALOG_RETELLS_MAX
    );
}

/// The next node, which has other addresses and one lane.
fn taken_over(stage: &Stage<Dialog>) -> (Stage<Dialog>, Actions) {
    taken_over_by(2, 2, stage)
}

fn taken_over_by(node: u16, epoch: u64, stage: &Stage<Dialog>) -> (Stage<Dialog>, Actions) {
    let why = Restored::TakenOver {
        may_live: false,
        epoch,
    };
    gone_on_with(node, why, stage)
}

fn gone_on_with(node: u16, why: Restored, stage: &Stage<Dialog>) -> (Stage<Dialog>, Actions) {
    let now = stage.now;
    let bytes = contract::codec::encode(&contract::Core::snapshot(&stage.core, now));
    let snapshot = contract::codec::decode(&bytes.expect("a snapshot")).expect("a snapshot");
    let dialog = <Dialog as contract::Core>::restore(snapshot, now).expect("a dialog");
    let mut next = Stage::new(dialog, stage.me.clone());
    next.now = now;
    next.site.node = NodeId(node);
    next.site.lanes = 1;
    for listener in &mut next.site.listeners {
        listener.advertise = "192.0.2.2:5060".parse().expect("an address");
    }
    let actions = next.event(Event::Restored(why));
    (next, actions)
}

/// The number of the BYE that an heir of an answered call sends.
fn heirs_number(node: u16, why: Restored, stage: &Stage<Dialog>) -> u32 {
    let (mut heir, _) = gone_on_with(node, why, stage);
    number_of_bye(&mut heir)
}

/// Hangs up, and returns the number of the BYE.
fn number_of_bye(stage: &mut Stage<Dialog>) -> u32 {
    let actions = stage.tell(Message::End {
        status: 480,
        cause: "NORMAL_CLEARING".to_owned(),
    });
    let asked = told(&actions)
        .into_iter()
        .find_map(|(_, message)| match message {
            crate::Message::Lane(lane::Message::Request { request, .. }) => Some(request),
            _ => None,
        });
    let request = read_bytes(asked.expect("a request"));
    assert!(request.method().is(rsip::Method::Bye));
    request.cseq().expect("CSeq").number
}

#[test]
fn two_heirs_of_the_same_copy_and_the_heir_of_one_never_use_a_number_twice() {
    let (mut stage, actions) = on_stage(2, order_invite());
    stage.tell(Message::Response {
        response: answer(&actions, 200),
        flow: datagram(DIGEST, PEER),
    });
    let heir = |epoch| Restored::TakenOver {
        may_live: false,
        epoch,
    };
    let mut numbers = vec![
        heirs_number(2, heir(2), &stage),
        heirs_number(3, heir(2), &stage),
        heirs_number(1, heir(3), &stage),
        // The same one, which gives up its copy for another.
        heirs_number(1, Restored::Adopted { epoch: 3 }, &stage),
        heirs_number(2, heir(3), &stage),
    ];
    assert!(numbers.is_sorted(), "{numbers:?}");
    // What each says under its epoch before it is another's turn.
    let gaps = numbers.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(
        gaps.min() >= Some(contract::limits::CSEQ_RANGE / 2),
        "{numbers:?}"
    );
    numbers.dedup();
    assert_eq!(numbers.len(), 5, "{numbers:?}");
}

/// Simulator, 3 nodes, seed 71153: a node that had taken a call over gave it away and heard nothing any
/// more, so it went on with it; so did who was given it, and both said BYE with the next number.
#[test]
fn a_dialog_that_was_handed_over_uses_no_number_of_who_may_go_on_with_it() {
    let (mut stage, actions) = on_stage(2, order_invite());
    stage.tell(Message::Response {
        response: answer(&actions, 200),
        flow: datagram(DIGEST, PEER),
    });
    let (mut giver, _) = taken_over_by(1, 2, &stage);
    let given = heirs_number(2, Restored::Moved { epoch: 3 }, &giver);
    let kept = number_of_bye(&mut giver);
    let room = contract::limits::CSEQ_RANGE / 2;
    assert!(given >= kept + room, "{kept} here, {given} there");
}

/// Simulator, 3 nodes, 10 minutes, seed 81162: a call was moved while it rang, and the callee's 200 was
/// passed on. The heir took it for an offer, whose ACK waits for the caller's answer: it never went.
#[test]
fn an_heir_acknowledges_what_answers_the_offer_of_the_former_node() {
    let mut bare = order_invite();
    if let Message::Invite(invite) = &mut bare {
        invite.sdp = None;
    }
    let flow = datagram(DIGEST, PEER);
    for (order, has_offer) in [(order_invite(), true), (bare, false)] {
        let (stage, sent) = on_stage(2, order);
        let (mut heir, actions) = gone_on_with(2, Restored::Moved { epoch: 2 }, &stage);
        assert_eq!(requests(&actions), Vec::new());
        let response = answer(&sent, 200);
        let actions = heir.tell(Message::Response { response, flow });
        let is_ack = |message: &crate::Message| {
            matches!(message, crate::Message::Lane(lane::Message::SendAck { .. }))
        };
        let is_sent = told(&actions).iter().any(|(_, message)| is_ack(message));
        assert_eq!(is_sent, has_offer);
        assert_eq!(heir.core.data.unacknowledged.is_none(), has_offer);
        assert_eq!(heir.core.data.sdp.is_some(), has_offer, "for refreshes");
    }
}

/// Simulator, 3 nodes, seed 766: a node that could not be reached for a while took a call over whose BYE
/// waited for a connection of that very node.
#[test]
fn an_heir_that_has_the_connection_itself_sends_on_it_what_waited() {
    let mut stage = after_a_restart();
    let cause = "NORMAL_CLEARING".to_owned();
    let waits = stage.tell(Message::End { status: 487, cause });
    assert_eq!((requests(&waits), locates(&waits)), (Vec::new(), 1));
    let why = Restored::TakenOver {
        may_live: true,
        epoch: 2,
    };
    let (mut heir, actions) = gone_on_with(1, why, &stage);
    assert_eq!(requests(&actions), [(stream(1), "BYE".to_owned())]);
    // It was gone, after all: it is looked for as before, and the BYE is sent once.
    let branch = heir.core.data.outgoing[0].branch.clone();
    let why = RequestFailure::Unreachable;
    let actions = heir.tell(Message::RequestFailed { branch, why });
    assert_eq!((requests(&actions), locates(&actions)), (Vec::new(), 1));
    let contact = format!("sip:1001@{PEER}");
    let actions = heir.tell(located(&contact, stream(9), false));
    assert_eq!(requests(&actions), [(stream(9), "BYE".to_owned())]);
}

/// Simulator, 3 nodes, seed 545: nobody knew a connection of the heir's own former life, and an offer on it
/// waited for 32 s, 16 times.
#[test]
fn an_heir_whose_connection_is_of_its_former_life_looks_for_the_peer() {
    let stage = over_a_connection();
    let why = Restored::TakenOver {
        may_live: true,
        epoch: 3,
    };
    let (mut heir, actions) = gone_on_with(1, why, &stage);
    let is_watch = |message: &crate::Message| matches!(message, crate::Message::Flow(_));
    let mut asked = told(&actions).into_iter();
    let (to, message) = asked
        .find(|(_, message)| is_watch(message))
        .expect("a watch");
    assert_eq!(Some(&to), stream(1).actor().as_ref());
    let sdp = Some(Bytes::from_static(b"v=0\r\n"));
    let actions = heir.tell(Message::Move { sdp });
    assert_eq!(requests(&actions), [(stream(1), "INVITE".to_owned())]);
    let why = Undelivered::Absent;
    let actions = heir.event(Event::Undelivered { to, message, why });
    assert_eq!((requests(&actions), locates(&actions)), (Vec::new(), 1));
    let contact = format!("sip:1001@{PEER}");
    let actions = heir.tell(located(&contact, stream(9), false));
    assert_eq!(requests(&actions), [(stream(9), "INVITE".to_owned())]);
}

/// Simulator, 3 nodes, with forwards, seed 9: the copy of a node that was cut off had a 2xx to a re-INVITE
/// whose ACK had come elsewhere. It was said again by who was only to end that copy, from memory alone.
#[test]
fn who_only_ends_what_another_node_had_says_no_2xx_that_is_not_on_disk_here() {
    let (mut stage, actions) = on_stage(2, order_invite());
    let flow = datagram(DIGEST, PEER);
    let response = answer(&actions, 200);
    stage.tell(Message::Response { response, flow });
    let mut offer = request_of_the_peer(&stage, "INVITE");
    offer.flow = flow;
    stage.tell(Message::Request(offer));
    let sdp = Some(Bytes::from_static(b"v=0\r\n"));
    let actions = stage.tell(Message::AcceptOffer { sdp });
    assert_eq!(crate::script::statuses(&actions), [200]);
    // Who goes on with it has it in its record.
    let (_, actions) = taken_over(&stage);
    assert_eq!(crate::script::statuses(&actions), [200]);
    let stored = contract::Core::snapshot(&stage.core, stage.now);
    let mut heir = Stage::new(Dialog::inherit(stored, side(3)), ActorId::Dialog(side(3)));
    heir.site.node = NodeId(2);
    let part = Bytes::new();
    let mut actions = heir.tell(Message::Inherit { part });
    let cause = "NETWORK_OUT_OF_ORDER".to_owned();
    actions.extend(heir.tell(Message::End { status: 502, cause }));
    assert!(crate::script::statuses(&actions).is_empty());
    assert_eq!(requests(&actions), [(flow, "BYE".to_owned())]);
    assert!(heir.pass(Duration::from_secs(2)).is_empty());
}

/// Simulator, 3 nodes, seed 234: both holders of a copy handed the same dialog over, and the heir ended it
/// twice, each time with the number that followed from the copy.
#[test]
fn sides_that_end_the_same_dialog_never_use_a_number_twice() {
    let (mut stage, actions) = on_stage(2, order_invite());
    let flow = datagram(DIGEST, PEER);
    let response = answer(&actions, 200);
    stage.tell(Message::Response { response, flow });
    let stored = contract::Core::snapshot(&stage.core, stage.now);
    let end = |number: u8| {
        let heir = Dialog::inherit(stored.clone(), side(number));
        let mut heir = Stage::new(heir, ActorId::Dialog(side(number)));
        heir.site.node = NodeId(2);
        let part = Bytes::new();
        heir.tell(Message::Inherit { part });
        let first = number_of_bye(&mut heir);
        // A restart of its node: BYE goes out again, behind what the record has reserved.
        let now = heir.now;
        let again = contract::Core::snapshot(&heir.core, now);
        let again = <Dialog as contract::Core>::restore(again, now).expect("a dialog");
        let behind = again.data.dialog.expect("a dialog").local_cseq + 1;
        (first, behind)
    };
    let sides = 3..=contract::limits::SIDES_PER_CALL_MAX;
    let (first, behind): (Vec<_>, Vec<_>) = sides.map(end).unzip();
    assert!(first.is_sorted_by(|one, next| one < next), "{first:?}");
    assert!(
        behind.iter().all(|number| !first.contains(number)),
        "{first:?} {behind:?}"
    );
}

/// A caller may hear BYE only behind its 200: that is safe here first.
#[test]
fn who_only_ends_what_another_node_had_answered_records_the_200_first() {
    let (mut stage, _) = on_stage(1, Message::Serve(inbound("")));
    stage.tell(Message::Accept { sdp: None });
    let stored = contract::Core::snapshot(&stage.core, stage.now);
    let mut heir = Stage::new(Dialog::inherit(stored, side(3)), ActorId::Dialog(side(3)));
    heir.site.node = NodeId(2);
    let part = Bytes::new();
    let actions = heir.tell(Message::Inherit { part });
    assert_eq!(shape(&actions), ["gate", "lane"]);
    assert_eq!(crate::script::statuses(&actions), [200]);
}

#[test]
fn a_request_that_another_node_had_is_answered_from_a_lane_of_this_one() {
    let (stage, _) = on_stage(1, Message::Serve(inbound("")));
    let (mut stage, _) = taken_over(&stage);
    let actions = stage.tell(Message::Progress {
        status: 180,
        sdp: None,
    });
    let (to, message) = told(&actions).pop().expect("a response");
    assert_eq!(to, ActorId::Lane(NodeId(2), 0));
    let crate::Message::Lane(lane::Message::Respond { response, .. }) = message else {
        panic!("{message:?}");
    };
    let response = sip::Message::read(response).expect("a response");
    let contact = response.header(sip::HeaderName::Contact).expect("Contact");
    assert!(contact.contains("@192.0.2.2:5060"), "{contact}");
    let via = response.header(sip::HeaderName::Via).expect("Via");
    assert!(via.contains("branch=z9hG4bK1"), "{via}");
}

#[test]
fn a_request_that_came_to_a_node_that_is_gone_too_is_answered_from_here() {
    let mut first = inbound("");
    first.transaction.node = Some(NodeId(3));
    let (stage, _) = on_stage(1, Message::Serve(first));
    let (mut stage, _) = taken_over(&stage);
    let actions = stage.tell(Message::Accept { sdp: None });
    let (to, message) = told(&actions).pop().expect("a response");
    assert_eq!(to, ActorId::Lane(NodeId(3), 3), "it may live");
    let why = Undelivered::Absent;
    let actions = stage.event(Event::Undelivered { to, message, why });
    let (to, message) = told(&actions).pop().expect("a response");
    assert_eq!(to, ActorId::Lane(NodeId(2), 0));
    let is_response = matches!(message, crate::Message::Lane(lane::Message::Respond { .. }));
    assert!(is_response, "{message:?}");
    let again = stage.pass(Duration::from_millis(500));
    assert_eq!(
        told(&again).pop().expect("again").0,
        ActorId::Lane(NodeId(2), 0)
    );
}

#[test]
fn a_take_over_sends_no_invite_of_the_other_node_again() {
    let (stage, actions) = on_stage(2, order_invite());
    let lane = |actions: &Actions| {
        let requests = told(actions)
            .into_iter()
            .filter_map(|(_, message)| match message {
                crate::Message::Lane(lane::Message::Request { request, .. }) => Some(request),
                _ => None,
            });
        requests.map(read_bytes).collect::<Vec<_>>()
    };
    let invite = lane(&actions).pop().expect("an INVITE");
    let (mut stage, actions) = taken_over(&stage);
    assert!(
        lane(&actions).is_empty(),
        "what becomes of it is for the call to say"
    );
    let end = || Message::End {
        status: 487,
        cause: "NORMAL_CLEARING".to_owned(),
    };
    let cancel = lane(&stage.tell(end())).pop().expect("a CANCEL");
    assert!(cancel.method().is(rsip::Method::Cancel));
    let via = |message: &sip::Message| message.vias().next().expect("Via").to_owned();
    assert_eq!(via(&cancel), via(&invite));
    // A second node does the same; a new start there does not bring the INVITE back.
    let (stage, actions) = taken_over(&stage);
    assert_eq!(via(&lane(&actions)[0]), via(&invite));
    let mut stage = stage;
    let actions = stage.event(Event::Restored(Restored::NodeStart));
    let again = lane(&actions);
    assert!(
        again
            .iter()
            .all(|one| one.method().is(rsip::Method::Cancel))
    );
    assert_eq!(again.len(), 1);
}

fn read_bytes(octets: Bytes) -> sip::Message {
    sip::Message::read(octets).expect("a message")
}

#[test]
fn a_session_timer_goes_on_over_an_offer_of_ours() {
    let grants = |field: &str| {
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n{field}\
             Content-Length: 0\r\n\r\n"
        );
        read(text)
    };
    let asked = read(
        "INVITE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
         To: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nSupported: timer\r\n\
         Session-Expires: 120\r\nContent-Length: 0\r\n\r\n"
            .to_owned(),
    );
    let session = SessionTimer::asked_by(&asked).expect("a timer");
    let mut writer = sip::Writer::response(200, None);
    session.write_refresh(&mut writer);
    let written = String::from_utf8(writer.finish().expect("text").to_vec()).expect("text");
    assert!(
        written.contains("Session-Expires: 120;refresher=uas\r\n"),
        "{written}"
    );
    for (field, is_ours) in [
        ("Session-Expires: 120;refresher=uas\r\n", Some(false)),
        ("Session-Expires: 120;refresher=uac\r\n", Some(true)),
        ("Session-Expires: 90\r\n", Some(false)),
        ("", None),
    ] {
        let granted = session.granted_by(&grants(field));
        assert_eq!(granted.map(|one| one.is_ours), is_ours, "{field}");
    }
}
