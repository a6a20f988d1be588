//! Any node takes any packet: nonces, requests, responses, ACKs and copies of other nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::limits::{HANDED_REQUESTS_MAX, NONCE_CHECKS_MAX};
use contract::{Boot, NodeInst, Undelivered};

use super::super::elsewhere::Elsewhere;
use super::*;
use crate::script::{DIGEST, OPEN, datagram, statuses, stream, told};
use crate::site::{Cluster, CommitMode};
use crate::{Message as Any, TransactionRef, call, dialog, flow, registration};

const SECOND: Duration = Duration::from_secs(1);

fn peer() -> FlowRef {
    datagram(DIGEST, "192.0.2.9:5062")
}

fn lane(node: u16, number: u16) -> ActorId {
    ActorId::Lane(NodeId(node), number)
}

/// Lanes of several nodes, and what they tell others than each other.
struct Nodes {
    lanes: BTreeMap<ActorId, Stage<Lane>>,
    /// What was told to others than lanes, in order.
    told: Vec<(ActorId, Any)>,
    /// Messages from one node's lane to another's.
    hops: usize,
    /// What lanes of other nodes are told is lost.
    is_cut: bool,
}

impl Nodes {
    fn new(lanes: &[(u16, u16)]) -> Self {
        let made = lanes.iter().map(|(node, number)| {
            let mut site = crate::script::site();
            site.node = NodeId(*node);
            site.cluster = Some(Cluster {
                instance: NodeInst {
                    node: NodeId(*node),
                    boot: Boot(1),
                },
                address: "127.0.0.1:7000".parse().expect("an address"),
                seeds: Vec::new(),
                zone: String::new(),
                replicas: 3,
                commit: CommitMode::Available,
                schema: contract::SchemaVersion::NEWEST,
                floating: Vec::new(),
            });
            let id = lane(*node, *number);
            let mut stage = Stage::new(Lane::new(*number, &site), id.clone());
            stage.site = site;
            stage.health.schema = contract::SchemaVersion::NEWEST;
            (id, stage)
        });
        Nodes {
            lanes: made.collect(),
            told: Vec::new(),
            hops: 0,
            is_cut: false,
        }
    }

    fn at(&mut self, id: &ActorId) -> &mut Stage<Lane> {
        self.lanes.get_mut(id).expect("a lane")
    }

    /// Has a lane take octets, and carries what lanes tell each other; returns what was sent, and
    /// by which node.
    fn receive(&mut self, at: &ActorId, flow: FlowRef, octets: Bytes) -> Vec<(ActorId, String)> {
        let actions = receive(self.at(at), flow, octets);
        self.carry(at, actions)
    }

    fn tell(&mut self, at: &ActorId, message: Message) -> Vec<(ActorId, String)> {
        let actions = self.at(at).tell(message);
        self.carry(at, actions)
    }

    fn carry(&mut self, at: &ActorId, actions: Actions) -> Vec<(ActorId, String)> {
        let on_wire: Actions = actions
            .iter()
            .filter(|one| matches!(one, contract::Action::Send { .. }))
            .cloned()
            .collect();
        let mut all: Vec<(ActorId, String)> = sent(&on_wire)
            .into_iter()
            .map(|(_, text)| (at.clone(), text))
            .collect();
        for (to, message) in told(&actions) {
            let (ActorId::Lane(node, _), Any::Lane(inner)) = (&to, &message) else {
                self.told.push((to, message));
                continue;
            };
            let is_elsewhere = !matches!(at, ActorId::Lane(own, _) if own == node);
            if is_elsewhere && self.is_cut {
                continue;
            }
            self.hops += usize::from(is_elsewhere && !matches!(inner, Message::Taken { .. }));
            let event = |message| Event::Message {
                from: at.clone(),
                message,
            };
            let (next, actions) = match self.lanes.get_mut(&to) {
                Some(stage) => (to.clone(), stage.event(event(inner.clone()))),
                None => {
                    let why = Undelivered::Absent;
                    let back = Event::Undelivered { to, message, why };
                    (at.clone(), self.at(at).event(back))
                }
            };
            all.extend(self.carry(&next, actions));
        }
        all
    }

    fn pass(&mut self, length: Duration) -> Vec<(ActorId, String)> {
        let ids: Vec<ActorId> = self.lanes.keys().cloned().collect();
        let mut all = Vec::new();
        for id in ids {
            let actions = self.at(&id).pass(length);
            all.extend(self.carry(&id, actions));
        }
        all
    }

    /// Returns what was told to others than lanes since the last time.
    fn news(&mut self) -> Vec<(ActorId, Any)> {
        std::mem::take(&mut self.told)
    }
}

/// Statuses of what was sent, with the node that did.
fn said(sent: &[(ActorId, String)]) -> Vec<(ActorId, u16)> {
    let statuses = sent.iter().filter_map(|(node, text)| {
        let status = text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
        Some((node.clone(), status))
    });
    statuses.collect()
}

fn is_stale(sent: &[(ActorId, String)]) -> bool {
    sent.iter().any(|(_, text)| text.contains("stale=true"))
}

/// Asks node 1 for a nonce and returns the request with the right digest.
fn with_digest(nodes: &mut Nodes, plain: &Draft) -> Draft {
    let first = lane(1, 0);
    let actions = receive(nodes.at(&first), peer(), plain.text());
    answered(plain, &challenge_of(&actions), "1000", "weft-1000", 1)
}

#[test]
fn credentials_with_a_nonce_of_another_node_are_counted_there_and_let_in_once() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0), (3, 0)]);
    let request = with_digest(&mut nodes, &draft("REGISTER"));
    assert!(
        nodes
            .receive(&lane(2, 0), peer(), request.text())
            .is_empty()
    );
    assert!(
        matches!(
            &nodes.news()[..],
            [(
                ActorId::Registration(_),
                Any::Registration(registration::Message::Register(inbound))
            )] if inbound.transaction.node == Some(NodeId(2))
        ),
        "the REGISTER passes, and is answered at the node that took it"
    );
    assert_eq!(nodes.hops, 2, "asked and answered");
    // The same from its own address, over every node.
    for node in [1, 2, 3] {
        let mut replay = request.clone();
        replay.branch = format!("z9hG4bKreplay{node}");
        let sent = nodes.receive(&lane(node, 0), peer(), replay.text());
        assert_eq!(said(&sent), [(lane(node, 0), 401)]);
        assert!(is_stale(&sent), "its password was right");
        assert!(nodes.news().is_empty());
    }
    // From another port, and after its minute.
    let mut replay = request.clone();
    replay.branch = "z9hG4bKport".to_owned();
    let elsewhere = datagram(DIGEST, "192.0.2.9:5063");
    let sent = nodes.receive(&lane(2, 0), elsewhere, replay.text());
    assert_eq!(said(&sent), [(lane(2, 0), 401)]);
    nodes.pass(61 * SECOND);
    replay.branch = "z9hG4bKlate".to_owned();
    let sent = nodes.receive(&lane(3, 0), peer(), replay.text());
    assert_eq!(said(&sent), [(lane(3, 0), 401)]);
    assert!(nodes.news().is_empty());
}

#[test]
fn credentials_with_a_nonce_of_a_node_that_is_gone_are_stale() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    let request = with_digest(&mut nodes, &draft("REGISTER"));
    nodes.lanes.remove(&lane(1, 0));
    let sent = nodes.receive(&lane(2, 0), peer(), request.text());
    assert_eq!(said(&sent), [(lane(2, 0), 401)]);
    assert!(is_stale(&sent));
    assert!(nodes.news().is_empty());
}

#[test]
fn an_issuer_that_says_nothing_is_waited_for_less_than_a_phone_does() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    let request = with_digest(&mut nodes, &draft("REGISTER"));
    let second = nodes.at(&lane(2, 0));
    let question = told(&receive(second, peer(), request.text()));
    let [(to, Any::Lane(Message::CheckNonce { transaction, .. }))] = &question[..] else {
        panic!("{question:?}");
    };
    assert_eq!(*to, lane(1, 0));
    assert!(second.pass(Duration::from_millis(399)).is_empty());
    let actions = second.pass(Duration::from_millis(2));
    assert_eq!(statuses(&actions), [401]);
    assert!(challenge_of(&actions).stale);
    let late = Message::NonceChecked {
        transaction: transaction.clone(),
        verdict: NonceVerdict::Fresh,
    };
    assert!(second.tell(late).is_empty(), "too late");
}

#[test]
fn only_so_many_requests_wait_for_issuers() {
    let mut elsewhere = Elsewhere::default();
    let now = crate::script::Stage::new((), lane(1, 0)).now.mono;
    let most = u64::try_from(NONCE_CHECKS_MAX).expect("a small number");
    let asked: Vec<_> = (0..most)
        .filter_map(|one| elsewhere.ask(one, now))
        .collect();
    assert_eq!(asked.len(), NONCE_CHECKS_MAX);
    assert_eq!(elsewhere.ask(most, now), None);
    elsewhere.answered(asked[5], 5);
    assert!(elsewhere.ask(most, now).is_some());
}

/// A connection that ends at a node.
fn stream_at(at: u16) -> FlowRef {
    let FlowRef::Stream {
        number,
        listener,
        remote,
        door,
        ..
    } = stream(7)
    else {
        panic!("a stream");
    };
    FlowRef::Stream {
        node: NodeId(at),
        number,
        listener,
        remote,
        door,
    }
}

fn user() -> ActorId {
    ActorId::Dialog(own_token(0).side)
}

/// A request of a dialog on node 1; its branch names lane `number` there.
fn own(nodes: &mut Nodes, method: &str, number: u16, random: u64) -> Bytes {
    let tokens = &nodes.at(&lane(1, number)).site.tokens;
    let branch = tokens.write(TokenUse::Branch, own_token(number), random);
    Bytes::from(format!(
        "{method} sip:1001@192.0.2.7:40000 SIP/2.0\r\n\
         Via: SIP/2.0/TCP 192.0.2.1:5060;branch={branch};rport\r\n\
         From: <sip:1000@example.org>;tag=a\r\nTo: <sip:1001@example.org>\r\nCall-ID: ours\r\n\
         CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    ))
}

fn order(flow: FlowRef, request: &Bytes) -> Message {
    Message::Request {
        flow,
        request: request.clone(),
        user: user(),
    }
}

fn response(request: &Bytes, status: u16) -> Bytes {
    let request = sip::Message::read(request.clone()).expect("a request");
    sip::respond(&request, status, Some("theirs"))
        .finish()
        .expect("a response")
}

/// Statuses that the user heard; 0: its request timed out, 1: unreachable.
fn heard(nodes: &mut Nodes) -> Vec<u16> {
    // Whether the connection is there is asked of its actor.
    let is_watch = |message: &Any| matches!(message, Any::Flow(flow::Message::Watch { .. }));
    let news = nodes.news().into_iter();
    let heard = news
        .filter(|(_, message)| !is_watch(message))
        .map(|(to, message)| {
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
fn a_request_over_a_connection_of_another_node_is_sent_and_ends_beside_it() {
    let mut nodes = Nodes::new(&[(1, 2), (2, 2)]);
    let request = own(&mut nodes, "INVITE", 2, 9);
    let sent = nodes.tell(&lane(1, 2), order(stream_at(2), &request));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, lane(2, 2), "the node that has the connection");
    nodes.receive(&lane(2, 2), stream_at(2), response(&request, 180));
    let sent = nodes.receive(&lane(2, 2), stream_at(2), response(&request, 486));
    assert!(sent[0].1.starts_with("ACK "), "{sent:?}");
    assert_eq!(heard(&mut nodes), [180, 486]);
    assert_eq!(nodes.hops, 1, "responses meet their transaction at once");
    nodes.pass(100 * SECOND);
    assert_eq!(heard(&mut nodes), [0_u16; 0]);
}

#[test]
fn a_request_over_a_connection_of_another_node_times_out_and_fails_with_the_connection() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    let bye = own(&mut nodes, "BYE", 0, 1);
    nodes.tell(&lane(1, 0), order(stream_at(2), &bye));
    nodes.pass(33 * SECOND);
    assert_eq!(heard(&mut nodes), [0], "Timer F");
    let invite = own(&mut nodes, "INVITE", 0, 2);
    nodes.tell(&lane(1, 0), order(stream_at(2), &invite));
    let flow = stream_at(2);
    nodes.tell(&lane(2, 0), Message::FlowGone { flow });
    assert_eq!(heard(&mut nodes), [1]);
    let again = own(&mut nodes, "BYE", 0, 3);
    nodes.tell(&lane(1, 0), order(stream_at(2), &again));
    assert_eq!(heard(&mut nodes), [1], "it is known to be gone");
}

#[test]
fn a_request_over_a_connection_of_a_node_that_is_gone_fails_at_once() {
    let mut nodes = Nodes::new(&[(1, 2)]);
    let invite = own(&mut nodes, "INVITE", 2, 9);
    assert!(
        nodes
            .tell(&lane(1, 2), order(stream_at(2), &invite))
            .is_empty()
    );
    assert_eq!(heard(&mut nodes), [1]);
    let cancel = own(&mut nodes, "CANCEL", 2, 9);
    nodes.tell(&lane(1, 2), order(stream_at(2), &cancel));
    assert_eq!(heard(&mut nodes), [0_u16; 0], "its INVITE tells");
    let node = NodeId(2);
    nodes.tell(&lane(1, 2), Message::NodeGone { node });
    assert_eq!(heard(&mut nodes), [0_u16; 0], "told already");
}

#[test]
fn a_node_with_fewer_lanes_sends_from_its_first() {
    let mut nodes = Nodes::new(&[(1, 2), (2, 0)]);
    nodes.at(&lane(2, 0)).site.lanes = 1;
    let request = own(&mut nodes, "INVITE", 2, 9);
    let sent = nodes.tell(&lane(1, 2), order(stream_at(2), &request));
    assert_eq!((sent.len(), &sent[0].0), (1, &lane(2, 0)));
    let answer = response(&request, 200);
    let site = &nodes.at(&lane(2, 0)).site;
    assert_eq!(lane_of(site, &answer), 0, "where its response comes to");
    nodes.receive(&lane(2, 0), stream_at(2), answer);
    assert_eq!(heard(&mut nodes), [200]);
}

#[test]
fn requests_that_a_dead_node_was_to_send_fail_and_others_do_not() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0), (3, 0)]);
    for (number, at) in [(1, 2), (2, 3), (3, 2)] {
        let request = own(&mut nodes, "INVITE", 0, number);
        nodes.tell(&lane(1, 0), order(stream_at(at), &request));
    }
    let node = NodeId(2);
    nodes.tell(&lane(1, 0), Message::NodeGone { node });
    assert_eq!(heard(&mut nodes), [1, 1]);
    nodes.tell(&lane(1, 0), Message::NodeGone { node });
    assert_eq!(heard(&mut nodes), [0_u16; 0], "told once");
    // Whose phone rang and was answered, or not, long ago.
    nodes.lanes.remove(&lane(3, 0));
    nodes.pass(200 * SECOND);
    nodes.news();
    let node = NodeId(3);
    nodes.tell(&lane(1, 0), Message::NodeGone { node });
    assert_eq!(heard(&mut nodes), [0_u16; 0], "none has waited so long");
}

#[test]
fn only_so_many_requests_of_other_nodes_are_remembered() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    for number in 0..HANDED_REQUESTS_MAX + 10 {
        let random = u64::try_from(number).expect("a small number");
        let request = own(&mut nodes, "BYE", 0, random);
        nodes.at(&lane(1, 0)).tell(order(stream_at(2), &request));
    }
    let node = NodeId(2);
    let actions = nodes.at(&lane(1, 0)).tell(Message::NodeGone { node });
    assert_eq!(told(&actions).len(), HANDED_REQUESTS_MAX);
}

/// A BYE went into a connection between nodes that was lost: simulator, 3 nodes, seed 4.
#[test]
fn a_request_that_is_lost_between_nodes_is_given_again() {
    for method in ["BYE", "INVITE", "CANCEL"] {
        let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
        let request = own(&mut nodes, method, 0, 9);
        nodes.is_cut = true;
        let lost = nodes.tell(&lane(1, 0), order(stream_at(2), &request));
        assert!(lost.is_empty(), "{method}");
        assert!(nodes.pass(3 * SECOND).is_empty(), "{method}");
        nodes.is_cut = false;
        let sent = nodes.pass(2 * SECOND);
        assert_eq!((sent.len(), nodes.hops), (1, 1), "{method}");
        assert_eq!(sent[0].0, lane(2, 0), "{method}");
        assert!(nodes.pass(30 * SECOND).is_empty(), "{method}: it is there");
        assert_eq!(nodes.hops, 1, "{method}");
    }
}

/// Its word that it has the request was lost: the copy is not sent to the phone.
#[test]
fn a_request_that_is_given_twice_is_sent_once() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    let request = own(&mut nodes, "INVITE", 0, 9);
    let given = nodes.at(&lane(1, 0)).tell(order(stream_at(2), &request));
    let first = told(&given);
    assert_eq!(nodes.carry(&lane(1, 0), given).len(), 1);
    let (_, Any::Lane(again)) = first.into_iter().next().expect("an order") else {
        panic!("not to a lane");
    };
    let from = lane(1, 0);
    let message = again;
    let copy = nodes
        .at(&lane(2, 0))
        .event(Event::Message { from, message });
    assert!(sent(&copy).is_empty());
    let words: Vec<_> = told(&copy)
        .into_iter()
        .filter(|(to, word)| *to == lane(1, 0) && matches!(word, Any::Lane(Message::Taken { .. })))
        .collect();
    assert_eq!(words.len(), 1);
}

/// Programs of the former schema say nothing: one copy must do, as with them.
#[test]
fn nothing_is_given_again_while_a_node_may_not_say_that_it_has_it() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    for number in [1, 2] {
        let stage = nodes.at(&lane(number, 0));
        stage.health.schema = contract::SchemaVersion(2);
    }
    let request = own(&mut nodes, "BYE", 0, 9);
    assert_eq!(
        nodes.tell(&lane(1, 0), order(stream_at(2), &request)).len(),
        1
    );
    nodes.pass(30 * SECOND);
    assert_eq!(nodes.hops, 1);
}

#[test]
fn a_response_that_comes_over_another_node_meets_its_transaction() {
    let mut nodes = Nodes::new(&[(1, 2), (2, 2), (3, 2)]);
    let request = own(&mut nodes, "BYE", 2, 9);
    nodes.tell(&lane(1, 2), order(peer(), &request));
    nodes.receive(&lane(2, 2), peer(), response(&request, 200));
    assert_eq!((heard(&mut nodes), nodes.hops), (vec![200], 1));
    assert!(nodes.pass(40 * SECOND).is_empty(), "nothing is repeated");
    assert_eq!(heard(&mut nodes), [0_u16; 0]);
    // Its transaction is over: its dialog hears it, and nobody passes it on for ever.
    nodes.receive(&lane(3, 2), peer(), response(&request, 200));
    assert_eq!((heard(&mut nodes), nodes.hops), (vec![200], 2));
}

#[test]
fn of_responses_to_a_node_that_is_gone_only_an_accepted_invite_reaches_its_dialog() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    let invite = own(&mut nodes, "INVITE", 0, 9);
    let bye = own(&mut nodes, "BYE", 0, 10);
    nodes.lanes.remove(&lane(1, 0));
    for (request, status, wanted, dropped) in [
        (&invite, 180, vec![], 1),
        (&invite, 486, vec![], 2),
        (&invite, 200, vec![200], 2),
        (&bye, 200, vec![], 3),
    ] {
        let sent = nodes.receive(&lane(2, 0), peer(), response(request, status));
        assert_eq!((sent.len(), heard(&mut nodes)), (0, wanted), "{status}");
        let stage = nodes.at(&lane(2, 0));
        let shown = contract::Core::snapshot(&stage.core, stage.now);
        assert_eq!(shown.dropped, dropped);
    }
}

/// An INVITE that node 1 took, and the dialog's tag; its lane is 0 there.
fn taken(nodes: &mut Nodes) -> (Draft, TransactionRef, sip::Message) {
    let request = Draft {
        from: "<sip:1000@example.org>;tag=f1".to_owned(),
        ..draft("INVITE")
    };
    nodes.receive(&lane(1, 0), open(), request.text());
    let news = nodes.news();
    let [(ActorId::Call(_), Any::Call(call::Message::Invite(inbound)))] = &news[..] else {
        panic!("{news:?}");
    };
    (
        request,
        inbound.transaction.clone(),
        inbound.request.clone(),
    )
}

fn open() -> FlowRef {
    datagram(OPEN, "192.0.2.9:5062")
}

fn answer(request: &sip::Message, status: u16, tag: &str) -> Bytes {
    let mut writer = sip::respond(request, status, Some(tag));
    writer.header(sip::HeaderName::Contact, "<sip:x@192.0.2.1>");
    writer.finish().expect("a response")
}

/// All four lanes of both nodes: which one an INVITE falls to is left to its branch.
fn two_nodes() -> Nodes {
    Nodes::new(
        &[1, 2]
            .map(|node| [0, 1, 2, 3].map(|number| (node, number)))
            .concat(),
    )
}

/// Lane of a node that a request falls to.
fn falls_to(nodes: &mut Nodes, node: u16, octets: &Bytes) -> ActorId {
    let number = lane_of(&nodes.at(&lane(node, 0)).site, octets);
    lane(node, number)
}

#[test]
fn the_ack_of_a_refusal_ends_its_transaction_over_any_node() {
    let mut nodes = two_nodes();
    let tag = own_tag(nodes.at(&lane(1, 0)));
    let invite = draft("INVITE");
    let home = falls_to(&mut nodes, 1, &invite.text());
    nodes.receive(&home, open(), invite.text());
    let news = nodes.news();
    let [(_, Any::Call(call::Message::Invite(inbound)))] = &news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(inbound.transaction.home(NodeId(9)), home);
    let refuse = Message::Respond {
        transaction: inbound.transaction.clone(),
        flow: open(),
        response: answer(&inbound.request, 486, &tag),
    };
    assert_eq!(said(&nodes.tell(&home, refuse)), [(home.clone(), 486)]);
    assert_eq!(said(&nodes.pass(SECOND)).len(), 1, "repeated");
    let mut ack = Draft {
        method: "ACK",
        ..invite
    };
    ack.to = format!("<sip:1001@example.org>;tag={tag}");
    let text = String::from_utf8(ack.text().to_vec()).expect("text");
    let octets = Bytes::from(text.replace("CSeq: 1 INVITE", "CSeq: 1 ACK"));
    // Other nodes may have other numbers of lanes: it comes to a wrong one first.
    nodes.receive(&lane(2, 3), open(), octets);
    assert!(nodes.pass(60 * SECOND).is_empty(), "it is not repeated");
    assert_eq!((nodes.hops, nodes.news().len()), (1, 0));
}

#[test]
fn the_ack_of_a_2xx_reaches_its_dialog_over_any_node_even_if_its_first_one_is_gone() {
    for is_gone in [false, true] {
        let mut nodes = two_nodes();
        let tag = own_tag(nodes.at(&lane(1, 0)));
        if is_gone {
            nodes
                .lanes
                .retain(|id, _| matches!(id, ActorId::Lane(node, _) if node.0 == 2));
        }
        let mut ack = draft("ACK");
        ack.to = format!("<sip:1001@example.org>;tag={tag}");
        nodes.receive(&lane(2, 3), open(), ack.text());
        let news = nodes.news();
        let [(to, Any::Dialog(dialog::Message::Request(inbound)))] = &news[..] else {
            panic!("{is_gone}: {news:?}");
        };
        assert_eq!(*to, user());
        assert!(inbound.request.method().is(rsip::Method::Ack));
        assert_eq!(inbound.flow, open(), "its source is the phone");
    }
}

#[test]
fn a_cancel_over_another_node_is_answered_there_and_finds_its_call() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    let (invite, _, _) = taken(&mut nodes);
    let mut cancel = draft("CANCEL");
    cancel.branch.clone_from(&invite.branch);
    cancel.to.clone_from(&invite.to);
    let request = sip::Message::read(invite.text()).expect("an INVITE");
    let key = super::super::checks::call_key(&request, &nodes.at(&lane(1, 0)).site);
    let sent = nodes.receive(&lane(2, 0), open(), cancel.text());
    assert!(sent.is_empty());
    let news = nodes.news();
    let [(to, Any::Call(call::Message::Cancel(inbound)))] = &news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(*to, ActorId::Call(key));
    assert_eq!(inbound.transaction.home(NodeId(9)), lane(2, 0));
    let respond = Message::Respond {
        transaction: inbound.transaction.clone(),
        flow: inbound.flow,
        response: answer(&inbound.request, 200, "t"),
    };
    assert_eq!(said(&nodes.tell(&lane(2, 0), respond)), [(lane(2, 0), 200)]);
    let sent = nodes.receive(&lane(2, 0), open(), cancel.text());
    assert_eq!(said(&sent), [(lane(2, 0), 200)], "and again");
    assert!(nodes.news().is_empty());
}

/// A copy of an INVITE with a digest, which node 1 took, at node 2.
fn copy_at_the_second(nodes: &mut Nodes) -> (Draft, ActorId, crate::Inbound) {
    let plain = draft("INVITE");
    let invite = with_digest(nodes, &plain);
    nodes.receive(&lane(1, 0), peer(), invite.text());
    let news = nodes.news();
    let [(ActorId::Call(key), Any::Call(call::Message::Invite(_)))] = &news[..] else {
        panic!("{news:?}");
    };
    let caller = ActorId::Dialog(key.side(1));
    let sent = nodes.receive(&lane(2, 0), peer(), invite.text());
    assert_eq!(said(&sent), [], "neither a challenge nor 482");
    let news = nodes.news();
    let [(to, Any::Dialog(dialog::Message::Retransmitted(inbound)))] = &news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(*to, caller);
    (invite, caller, inbound.clone())
}

#[test]
fn a_copy_of_an_invite_over_another_node_is_answered_by_its_call_and_starts_none() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    let (invite, _, inbound) = copy_at_the_second(&mut nodes);
    assert_eq!(inbound.transaction.home(NodeId(9)), lane(2, 0));
    assert_eq!(
        inbound.identity.map(|aor| aor.to_string()).as_deref(),
        Some("1000@example.org")
    );
    let respond = Message::Respond {
        transaction: inbound.transaction,
        flow: inbound.flow,
        response: answer(&inbound.request, 180, "t"),
    };
    assert_eq!(said(&nodes.tell(&lane(2, 0), respond)), [(lane(2, 0), 180)]);
    let sent = nodes.receive(&lane(2, 0), peer(), invite.text());
    assert_eq!(said(&sent), [(lane(2, 0), 180)], "the next copy as well");
    assert!(nodes.news().is_empty());
}

#[test]
fn an_invite_with_a_used_nonce_of_which_there_is_no_call_is_challenged() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    let (invite, to, inbound) = copy_at_the_second(&mut nodes);
    let back = |why| Event::Undelivered {
        to: to.clone(),
        message: dialog::Message::Retransmitted(inbound.clone()).into(),
        why,
    };
    let busy = nodes.at(&lane(2, 0)).event(back(Undelivered::Busy));
    assert!(statuses(&busy).is_empty());
    nodes.receive(&lane(2, 0), peer(), invite.text());
    assert_eq!(nodes.news().len(), 1, "the next copy asks again");
    let gone = nodes.at(&lane(2, 0)).event(back(Undelivered::Absent));
    assert_eq!(statuses(&gone), [407]);
    assert!(challenge_of(&gone).stale);
}

/// A phone that hears 100 repeats nothing, and was never answered: simulator, forwards, 3 nodes, seed 19.
#[test]
fn an_invite_of_which_nothing_is_known_yet_is_not_told_100() {
    let mut nodes = Nodes::new(&[(1, 0), (2, 0)]);
    let plain = draft("INVITE");
    let first = receive(nodes.at(&lane(1, 0)), peer(), plain.text());
    let invite = answered(&plain, &challenge_of(&first), "1000", "weft-1000", 1);
    nodes.is_cut = true;
    nodes.receive(&lane(2, 0), peer(), invite.text());
    let said = nodes.pass(5 * SECOND);
    assert!(said.is_empty(), "{said:?}");
    let asked = nodes.news();
    assert!(matches!(
        &asked[..],
        [(_, Any::Dialog(dialog::Message::Retransmitted(_)))]
    ));
}

#[test]
fn an_invite_over_a_connection_is_never_taken_for_a_copy() {
    let mut nodes = Nodes::new(&[(1, 0)]);
    let plain = draft("INVITE");
    let at = lane(1, 0);
    let first = receive(nodes.at(&at), stream(1), plain.text());
    let invite = answered(&plain, &challenge_of(&first), "1000", "weft-1000", 1);
    nodes.lanes.remove(&at);
    let mut nodes = Nodes::new(&[(2, 0)]);
    let sent = nodes.receive(&lane(2, 0), stream(1), invite.text());
    assert_eq!(said(&sent), [(lane(2, 0), 407)]);
    assert!(is_stale(&sent));
    assert!(nodes.news().is_empty());
}

#[test]
fn a_refusal_of_a_lane_is_acknowledged_over_any_node() {
    let mut nodes = two_nodes();
    let invite = draft("INVITE");
    let home = falls_to(&mut nodes, 1, &invite.text());
    nodes.receive(&home, open(), invite.text());
    let news = nodes.news();
    let [(to, message)] = &news[..] else {
        panic!("{news:?}");
    };
    let busy = Event::Undelivered {
        to: to.clone(),
        message: message.clone(),
        why: Undelivered::Busy,
    };
    let actions = nodes.at(&home).event(busy);
    let refused = nodes.carry(&home, actions);
    assert_eq!(said(&refused), [(home.clone(), 503)]);
    let to = refused[0]
        .1
        .lines()
        .find_map(|line| line.strip_prefix("To: "));
    let with_tag = |method| Draft {
        method,
        to: to.expect("To").to_owned(),
        ..invite.clone()
    };
    nodes.receive(&lane(2, 1), open(), with_tag("ACK").text());
    assert!(nodes.pass(60 * SECOND).is_empty(), "it is not repeated");
    assert_eq!(nodes.hops, 1);
    nodes.receive(&lane(2, 1), open(), with_tag("ACK").text());
    let info = nodes.receive(&lane(2, 1), open(), with_tag("INFO").text());
    assert_eq!(said(&info), [(lane(2, 1), 481)]);
    assert!(nodes.news().is_empty(), "its tag is no dialog's");
}

#[test]
fn a_cancel_of_a_dialog_that_was_taken_over_meets_its_invite_beside_the_connection() {
    let mut nodes = Nodes::new(&[(1, 2), (2, 2), (3, 0)]);
    let invite = own(&mut nodes, "INVITE", 2, 9);
    nodes.tell(&lane(1, 2), order(stream_at(2), &invite));
    nodes.receive(&lane(2, 2), stream_at(2), response(&invite, 180));
    let cancel = own(&mut nodes, "CANCEL", 2, 9);
    nodes.lanes.remove(&lane(1, 2));
    // The next node has one lane.
    let sent = nodes.tell(&lane(3, 0), order(stream_at(2), &cancel));
    assert_eq!((sent.len(), &sent[0].0), (1, &lane(2, 2)));
    nodes.receive(&lane(2, 2), stream_at(2), response(&cancel, 200));
    let sent = nodes.receive(&lane(2, 2), stream_at(2), response(&invite, 487));
    assert!(sent[0].1.starts_with("ACK "), "{sent:?}");
    assert_eq!(heard(&mut nodes), [180, 200, 487]);
}
