//! A party of one call comes in the place of a party of another (RFC 3891, RFC 5589 §7): two stages, each
//! with the real cores of one call, and what the calls tell each other.

use std::time::Duration;

use contract::{Event, MediaRoute, SchemaVersion, Undelivered};

use super::fixture::*;
use super::taken_over::{body_of, cseq, port};
use crate::{Message, call, dialog};

/// B speaks what C speaks, if it is offered that.
fn sdp_b() -> String {
    SDP_B.replace("AVP 8", "AVP 0")
}

/// Two calls of 1000 at A: one with 1001 at B, which it leaves, one with 1002 at C.
pub(super) struct Calls {
    pub left: World,
    pub joined: World,
}

pub(super) fn other_call() -> World {
    let mut world = World::new();
    world.site.ids = contract::keys::FabricKeys::new([8; 32]).ids();
    world.health.schema = SchemaVersion::NEWEST;
    world.has_other = true;
    world.registered = vec![aor("1002@example.org")];
    world.targets = vec![target(C, 1000)];
    world.next_port = 30_000;
    world
}

impl Calls {
    fn connected() -> Self {
        let mut calls = Calls::ringing();
        calls.joined.answer(C, "INVITE", 200, SDP_C);
        calls.joined.ack("");
        assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
        calls
    }

    fn ringing() -> Self {
        let mut left = World::new();
        left.health.schema = SchemaVersion::NEWEST;
        left.has_other = true;
        left.connect();
        let mut joined = other_call();
        joined.call("1002", SDP_A);
        joined.answer(C, "INVITE", 180, "");
        Calls { left, joined }
    }

    /// Value of Replaces for a dialog of the call that is joined, as its peer writes it.
    fn replaces(&self, side: u8) -> String {
        let (from, to, call_id, _) = self.joined.tags(side);
        let tag = |field: &str| field.split(";tag=").nth(1).expect("a tag").to_owned();
        format!(
            "{call_id}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
            tag(&to),
            tag(&from)
        )
    }

    fn refer(&mut self, side: u8, peer: &str, cseq: u32, replaces: &str) {
        let fields = format!("Refer-To: <sip:1002@example.org?Replaces={replaces}>\r\n");
        let text = self.left.request_text(side, "REFER", cseq, "", &fields);
        let inbound = self.left.inbound(peer, text, None);
        let id = self.left.dialog(side);
        self.left.tell(id, dialog::Message::Request(inbound));
    }

    /// 1000 refers B to whom it talks to in the other call.
    fn join(&mut self) {
        let replaces = self.replaces(1);
        self.refer(1, A, 11, &replaces);
    }

    /// Carries one message from one call to the other; tells whether there was one.
    pub fn carry_one(&mut self) -> bool {
        let (here, there) = match self.left.abroad.is_empty() {
            false => (&mut self.left, &mut self.joined),
            true => (&mut self.joined, &mut self.left),
        };
        if here.abroad.is_empty() {
            return false;
        }
        let (from, to, message) = here.abroad.remove(0);
        there.give(to, Event::Message { from, message });
        true
    }

    pub fn carry(&mut self) {
        let carried = (0..100).take_while(|_| self.carry_one()).count();
        assert!(carried < 100, "they talk for ever");
    }

    pub fn pass(&mut self, length: Duration) {
        self.left.pass(length);
        self.joined.pass(length);
        self.carry();
    }
}

/// What a peer of the call that is left was told of its reference.
fn told(world: &World, peer: &str) -> Vec<String> {
    let sent = world.sent.iter().filter(|sent| {
        sent.flow.remote() == peer.parse().expect("an address") && is_of(&sent.message, "NOTIFY")
    });
    sent.map(|sent| body_of(sent).trim_end().replace("SIP/2.0 ", ""))
        .collect()
}

#[test]
fn a_caller_joins_those_whom_it_talks_to() {
    let mut calls = Calls::connected();
    let replaces = calls.replaces(1);
    let former = cseq(&calls.left.last(B, "INVITE"));
    calls.refer(1, A, 11, &replaces);
    assert!(calls.left.last(A, "202").is_gated);
    assert_eq!(calls.left.state(&calls.left.call_id()), "transferring");
    calls.carry();
    assert!(calls.left.is_closed(2));
    assert_eq!(told(&calls.left, A), ["100 Trying", "200 OK"]);
    // Who has transferred leaves both calls.
    assert_eq!(calls.left.count(A, "BYE"), 1);
    assert_eq!(calls.joined.count(A, "BYE"), 1);
    // B is told where it is, and offered what C speaks.
    let offer = calls.joined.last(B, "INVITE");
    assert_eq!(offer.by, calls.joined.dialog(3));
    assert!(cseq(&offer) > former);
    let sdp = body_of(&offer);
    assert!(sdp.contains("RTP/AVP 0"), "{sdp}");
    assert!(port(&sdp) > 30_000);
    let to = offer.message.to().expect("To");
    assert_eq!(to.tag(), Some("b1"));
    let sdp_b = sdp_b();
    calls.joined.answer(B, "INVITE", 200, &sdp_b);
    let (b, c) = (calls.joined.side(3), calls.joined.side(2));
    assert_eq!(calls.joined.config(3).route, MediaRoute::Relay(c));
    assert_eq!(calls.joined.config(2).route, MediaRoute::Relay(b));
    // C was not on hold, and goes on as it was.
    assert_eq!(calls.joined.count(C, "INVITE"), 1);
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
    calls.left.answer(A, "BYE", 200, "");
    calls.joined.answer(A, "BYE", 200, "");
    assert_eq!(calls.left.state(&calls.left.call_id()), "transferred");
    assert!(calls.left.records().is_empty());
}

/// B's requests still name the call that it has left.
#[test]
fn who_has_gone_is_found_by_its_old_tag_until_it_hangs_up() {
    let mut calls = Calls::connected();
    calls.join();
    calls.carry();
    calls.joined.answer(B, "INVITE", 200, &sdp_b());
    calls.left.answer(A, "BYE", 200, "");
    calls.joined.answer(A, "BYE", 200, "");
    // Hold.
    let sdp = sdp_b().replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n");
    calls.left.request(2, B, "INVITE", 1, &sdp);
    calls.carry();
    let held = calls.joined.last(C, "INVITE");
    assert!(body_of(&held).contains("a=sendonly"), "{}", body_of(&held));
    calls.joined.answer(C, "INVITE", 200, SDP_C);
    assert_eq!(calls.joined.last(B, "200").by, calls.joined.dialog(3));
    calls.left.request(2, B, "ACK", 1, "");
    calls.carry();
    calls.left.request(2, B, "BYE", 2, "");
    calls.carry();
    assert_eq!(calls.joined.last(B, "200").message.method().as_str(), "BYE");
    calls.joined.answer(C, "BYE", 200, "");
    calls.carry();
    assert_eq!(calls.joined.record().ended_by, "caller");
    let record = calls.left.record();
    assert_eq!(record.cause, "ATTENDED_TRANSFER");
    assert_eq!(record.ended_by, "caller");
}

#[test]
fn a_callee_joins_those_who_have_called_it() {
    let mut left = World::new();
    left.health.schema = SchemaVersion::NEWEST;
    left.has_other = true;
    left.connect();
    let mut joined = other_call();
    joined.registered = vec![aor("1001@example.org")];
    joined.targets = vec![target(C, 1000)];
    joined.call("1001", SDP_A);
    joined.answer(C, "INVITE", 200, SDP_C);
    joined.ack("");
    let mut calls = Calls { left, joined };
    let replaces = calls.replaces(2);
    calls.refer(2, B, 1, &replaces);
    calls.carry();
    assert_eq!(told(&calls.left, B), ["100 Trying", "200 OK"]);
    assert_eq!(calls.joined.count(C, "BYE"), 1);
    let offer = calls.joined.last(A, "INVITE");
    assert_eq!(offer.by, calls.joined.dialog(3));
    calls.joined.answer(A, "INVITE", 200, SDP_A);
    let (first, come) = (calls.joined.side(1), calls.joined.side(3));
    assert_eq!(calls.joined.config(1).route, MediaRoute::Relay(come));
    assert_eq!(calls.joined.config(3).route, MediaRoute::Relay(first));
}

/// Phones put both on hold before they transfer.
#[test]
fn who_was_held_is_taken_off() {
    let mut calls = Calls::connected();
    let hold = SDP_A.replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n");
    calls.joined.request(1, A, "INVITE", 11, &hold);
    let held = SDP_C.replace("t=0 0\r\n", "t=0 0\r\na=recvonly\r\n");
    calls.joined.answer(C, "INVITE", 200, &held);
    calls.joined.request(1, A, "ACK", 11, "");
    calls.join();
    calls.carry();
    let offer = body_of(&calls.joined.last(B, "INVITE"));
    assert!(!offer.contains("only"), "{offer}");
    let sdp_b = sdp_b();
    calls.joined.answer(B, "INVITE", 200, &sdp_b);
    assert_eq!(calls.joined.count(C, "INVITE"), 3);
    let offer = body_of(&calls.joined.last(C, "INVITE"));
    assert!(!offer.contains("only"), "{offer}");
    calls.joined.answer(C, "INVITE", 200, SDP_C);
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
}

/// RFC 5589 §7.3: the transferor does not wait until its target answers.
#[test]
fn who_comes_while_it_rings_hears_that_and_is_connected() {
    let mut calls = Calls::ringing();
    calls.join();
    calls.carry();
    assert_eq!(told(&calls.left, A), ["100 Trying", "200 OK"]);
    assert_eq!(calls.joined.count(A, "487"), 1);
    calls.joined.answer(B, "INVITE", 200, SDP_B);
    let route = calls.joined.config(3).route;
    assert!(matches!(route, MediaRoute::RingBack { .. }), "{route:?}");
    calls.joined.answer(C, "INVITE", 200, SDP_C);
    // B speaks PCMA, C only PCMU.
    let offer = body_of(&calls.joined.last(B, "INVITE"));
    assert!(offer.contains("RTP/AVP 0"), "{offer}");
    let sdp_b = sdp_b();
    calls.joined.answer(B, "INVITE", 200, &sdp_b);
    let c = calls.joined.side(2);
    assert_eq!(calls.joined.config(3).route, MediaRoute::Relay(c));
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
}

#[test]
fn who_comes_while_it_rings_is_let_go_if_nobody_answers() {
    let mut calls = Calls::ringing();
    calls.join();
    calls.carry();
    calls.joined.answer(B, "INVITE", 200, SDP_B);
    calls.joined.answer(C, "INVITE", 486, "");
    assert_eq!(calls.joined.count(B, "BYE"), 1);
    calls.joined.answer(B, "BYE", 200, "");
    calls.left.answer(A, "BYE", 200, "");
    calls.carry();
    assert_eq!(calls.joined.record().cause, "USER_BUSY");
    assert_eq!(calls.left.record().cause, "ATTENDED_TRANSFER");
}

#[test]
fn what_may_not_be_replaced_is_refused_and_all_talk_on() {
    let calls = Calls::connected();
    let good = calls.replaces(1);
    let other_tag = good.replace("from-tag%3Da1", "from-tag%3Da2");
    let early = format!("{good}%3Bearly-only");
    let rows = [
        ("", "400"),
        ("call-1", "400"),
        ("call-1%3Bto-tag%3Dx%3Bfrom-tag%3Dy", "481"),
    ];
    for (replaces, status) in rows {
        let mut calls = Calls::connected();
        calls.refer(1, A, 11, replaces);
        assert_eq!(calls.left.count(A, status), 1, "{replaces}");
        assert!(calls.left.abroad.is_empty());
    }
    let rows = [(other_tag.as_str(), 481), (early.as_str(), 486)];
    for (replaces, status) in rows {
        let mut calls = Calls::connected();
        calls.refer(1, A, 11, replaces);
        calls.carry();
        let last = told(&calls.left, A).pop().expect("a word");
        assert!(last.starts_with(&status.to_string()), "{last}");
        assert_eq!(calls.left.state(&calls.left.call_id()), "talking");
        assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
        let party = calls.left.side(2);
        assert_eq!(calls.left.config(1).route, MediaRoute::Relay(party));
        assert!(!calls.left.is_closed(2));
    }
}

/// `threats.md` 23: somebody else has learned the tags.
#[test]
fn nobody_comes_in_the_place_of_anothers_dialog() {
    let mut calls = Calls::connected();
    // B, who is 1001, names the dialog of 1000.
    let replaces = calls.replaces(1);
    calls.refer(2, B, 1, &replaces);
    calls.carry();
    assert_eq!(told(&calls.left, B), ["100 Trying", "403 Forbidden"]);
    assert_eq!(calls.joined.count(A, "BYE"), 0);
    assert_eq!(calls.left.state(&calls.left.call_id()), "talking");
}

#[test]
fn a_dialog_of_the_same_call_cannot_be_replaced() {
    let mut left = World::new();
    left.health.schema = SchemaVersion::NEWEST;
    left.has_other = true;
    left.connect();
    let (from, to, call_id, _) = left.tags(1);
    let tag = |field: &str| field.split(";tag=").nth(1).expect("a tag").to_owned();
    let replaces = format!(
        "{call_id}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
        tag(&to),
        tag(&from)
    );
    let joined = other_call();
    let mut calls = Calls { left, joined };
    calls.refer(1, A, 11, &replaces);
    assert_eq!(calls.left.count(A, "482"), 1);
}

#[test]
fn a_call_that_is_over_is_not_joined() {
    let mut calls = Calls::connected();
    calls.join();
    let (from, to, message) = calls.left.abroad.remove(0);
    let why = Undelivered::Absent;
    calls
        .left
        .give(from, Event::Undelivered { to, message, why });
    assert_eq!(
        told(&calls.left, A),
        ["100 Trying", "481 Call/Transaction Does Not Exist"]
    );
    assert_eq!(calls.left.state(&calls.left.call_id()), "talking");
}

/// Phones hang up both as soon as they have the 202.
#[test]
fn who_transfers_may_hang_up_at_once() {
    let mut calls = Calls::connected();
    calls.join();
    calls.left.request(1, A, "BYE", 12, "");
    let ask = calls.carry_one();
    assert!(ask);
    calls.joined.request(1, A, "BYE", 11, "");
    calls.carry();
    assert_eq!(calls.joined.count(C, "BYE"), 0);
    calls.joined.answer(B, "INVITE", 200, &sdp_b());
    let c = calls.joined.side(2);
    assert_eq!(calls.joined.config(3).route, MediaRoute::Relay(c));
    assert_eq!(calls.left.state(&calls.left.call_id()), "transferred");
}

#[test]
fn who_was_let_in_and_does_not_come_is_not_waited_for_for_ever() {
    let mut calls = Calls::connected();
    calls.join();
    assert!(calls.carry_one());
    calls.joined.request(1, A, "BYE", 11, "");
    assert_eq!(calls.joined.count(C, "BYE"), 0, "B is awaited");
    calls.joined.pass(Duration::from_secs(33));
    assert_eq!(calls.joined.count(C, "BYE"), 1);
}

/// A dialog cannot go: the other call is told, and does not wait.
#[test]
fn who_stays_after_it_was_let_in_is_not_waited_for() {
    for hangs_up_first in [true, false] {
        let mut calls = Calls::connected();
        calls.left.kills =
            |message| matches!(message, Message::Dialog(dialog::Message::HandOver { .. }));
        calls.join();
        calls.carry();
        if hangs_up_first {
            calls.joined.request(1, A, "BYE", 11, "");
            assert_eq!(calls.joined.count(C, "BYE"), 0, "B is awaited");
        }
        let word = call::Word::Stopped(call::Stopped::Stays);
        let id = calls.left.call_id();
        calls.left.tell(id, call::Message::Join { side: 2, word });
        calls.carry();
        assert_eq!(calls.left.state(&calls.left.call_id()), "talking");
        let party = calls.left.side(2);
        assert_eq!(calls.left.config(1).route, MediaRoute::Relay(party));
        if !hangs_up_first {
            // Nobody is awaited: the others may hold.
            let sdp = SDP_C.replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n");
            calls.joined.request(2, C, "INVITE", 1, &sdp);
            assert_eq!(calls.joined.count(C, "491"), 0);
            assert_eq!(calls.joined.count(A, "INVITE"), 1);
            continue;
        }
        assert_eq!(calls.joined.count(C, "BYE"), 1);
    }
}

/// The party hangs up while the other call's answer is on its way.
#[test]
fn who_hangs_up_after_it_was_let_in_is_not_waited_for() {
    for is_over in [true, false] {
        let mut calls = Calls::connected();
        calls.join();
        assert!(calls.carry_one());
        calls.joined.request(1, A, "BYE", 11, "");
        assert_eq!(calls.joined.count(C, "BYE"), 0, "B is awaited");
        calls.left.request(2, B, "BYE", 1, "");
        if is_over {
            let (from, to, message) = calls.joined.abroad.remove(0);
            let why = Undelivered::Absent;
            calls
                .joined
                .give(from, Event::Undelivered { to, message, why });
        } else {
            calls.carry();
        }
        assert_eq!(calls.joined.count(C, "BYE"), 1);
    }
}

/// Each message is lost once: what was said is said again, and done once.
#[test]
fn what_is_lost_on_the_way_is_said_again() {
    for lost in 0..6 {
        let mut calls = Calls::connected();
        calls.join();
        let mut carried = 0;
        loop {
            if carried == lost {
                let all = [&mut calls.left, &mut calls.joined];
                for world in all {
                    world.abroad.clear();
                }
            }
            if !calls.carry_one() {
                break;
            }
            carried += 1;
        }
        calls.pass(Duration::from_millis(1_100));
        assert_eq!(
            told(&calls.left, A),
            ["100 Trying", "200 OK"],
            "lost {lost}"
        );
        calls.joined.answer(B, "INVITE", 200, &sdp_b());
        let c = calls.joined.side(2);
        assert_eq!(
            calls.joined.config(3).route,
            MediaRoute::Relay(c),
            "lost {lost}"
        );
        assert_eq!(calls.joined.count(B, "INVITE"), 1, "lost {lost}");
    }
}

/// `cluster.md` §7: either node may die between any two messages.
#[test]
fn a_killed_node_ends_no_party_that_comes() {
    for killed in 0..8 {
        for is_left in [true, false] {
            for is_heir in [true, false] {
                comes_through_a_kill(killed, is_left, is_heir);
            }
        }
    }
}

fn comes_through_a_kill(killed: usize, is_left: bool, is_heir: bool) {
    let what = format!("killed {killed}, left {is_left}, heir {is_heir}");
    let mut calls = Calls::connected();
    calls.join();
    let mut carried = 0;
    loop {
        if carried == killed {
            let world = if is_left {
                &mut calls.left
            } else {
                &mut calls.joined
            };
            match is_heir {
                true => world.take_over(2),
                false => world.restart(),
            }
        }
        if !calls.carry_one() {
            break;
        }
        carried += 1;
    }
    for _ in 0..8 {
        calls.pass(Duration::from_millis(700));
        settle(&mut calls.joined, A, SDP_A);
        settle(&mut calls.joined, B, &sdp_b());
        settle(&mut calls.joined, C, SDP_C);
        settle(&mut calls.left, A, SDP_A);
        settle(&mut calls.left, B, SDP_B);
    }
    let id = calls.joined.call_id();
    let gone = calls.left.state(&calls.left.call_id());
    assert_eq!(gone, "transferred", "{what}: {:#?}", calls.left.lines());
    assert_eq!(
        calls.joined.state(&id),
        "talking",
        "{what}: {:#?}",
        calls.joined.lines()
    );
    let c = calls.joined.side(2);
    assert_eq!(calls.joined.config(3).route, MediaRoute::Relay(c), "{what}");
    assert_eq!(
        calls.joined.count(B, "BYE") + calls.left.count(B, "BYE"),
        0,
        "{what}"
    );
    assert_eq!(calls.joined.count(C, "BYE"), 0, "{what}");
    numbers_rise(&calls, B, &what);
    calls.left.request(2, B, "BYE", 40, "");
    calls.carry();
    assert_eq!(calls.joined.count(C, "BYE"), 1, "{what}");
}

/// Answers the last offer to a peer if it is open.
pub(super) fn settle(world: &mut World, peer: &str, sdp: &str) {
    let address = peer.parse().expect("an address");
    let last = world.sent.iter().rev().find(|sent| {
        sent.flow.remote() == address
            && sent.what == Kind::Request
            && (is_of(&sent.message, "INVITE") || is_of(&sent.message, "BYE"))
    });
    let Some(last) = last.cloned() else { return };
    let is_invite = is_of(&last.message, "INVITE");
    let acknowledged = world.sent.iter().any(|sent| {
        sent.what == Kind::Ack && sent.flow.remote() == address && cseq(sent) == cseq(&last)
    });
    if !(is_invite && acknowledged) {
        let tag = last
            .message
            .to()
            .ok()
            .and_then(|to| to.tag().map(str::to_owned));
        let tag = tag.unwrap_or_else(|| "b1".to_owned());
        world.answer_to(&last, 200, &tag, if is_invite { sdp } else { "" });
    }
}

/// CSeq of what a peer hears in its dialog with 1000 never falls, whichever call sends it.
fn numbers_rise(calls: &Calls, peer: &str, what: &str) {
    let address = peer.parse().expect("an address");
    let of = |world: &World| -> Vec<u32> {
        let sent = world
            .sent
            .iter()
            .filter(|sent| sent.flow.remote() == address && sent.what == Kind::Request);
        sent.map(cseq).collect()
    };
    let (left, joined) = (of(&calls.left), of(&calls.joined));
    let last = left.iter().max().expect("an INVITE");
    assert!(
        joined.iter().all(|number| number > last),
        "{what}: {left:?} {joined:?}"
    );
}

/// RFC 3891 §1: a phone takes a call over that another phone of its user has.
struct Taking {
    calls: Calls,
}

impl Taking {
    /// 1000 talks at A, and calls from B with Replaces of that; what it names is changed by `with`.
    fn begin(with: impl Fn(String) -> String, number: &str) -> Self {
        let mut left = World::new();
        left.health.schema = SchemaVersion::NEWEST;
        left.has_other = true;
        let mut joined = other_call();
        joined.call("1002", SDP_A);
        joined.answer(C, "INVITE", 200, SDP_C);
        joined.ack("");
        let mut calls = Calls { left, joined };
        let replaces = with(calls.replaces(1).replace("%3B", ";").replace("%3D", "="));
        let fields = format!("Require: replaces\r\n{replaces}");
        let text = World::invite_text("1002", SDP_A, &fields);
        let identity = format!("{number}@example.org");
        let inbound = calls.left.inbound(A, text, Some(&identity));
        let id = calls.left.call_id();
        calls.left.tell(id, call::Message::Invite(inbound));
        Taking { calls }
    }
}

fn replaces_line(value: String) -> String {
    format!("Replaces: {value}\r\n")
}

#[test]
fn a_phone_takes_over_what_another_of_its_user_has() {
    let Taking { mut calls } = Taking::begin(replaces_line, "1000");
    assert_eq!(
        calls.left.count(A, "200"),
        0,
        "whether it may is asked first"
    );
    calls.carry();
    assert_eq!(calls.left.count(A, "200"), 1);
    assert_eq!(calls.joined.count(A, "BYE"), 0);
    calls.left.ack("");
    calls.carry();
    assert_eq!(calls.joined.count(A, "BYE"), 1, "the other phone is out");
    let offer = calls.joined.last(A, "INVITE");
    assert_eq!(offer.by, calls.joined.dialog(3));
    calls.joined.answer(A, "INVITE", 200, SDP_A);
    let c = calls.joined.side(2);
    assert_eq!(calls.joined.config(3).route, MediaRoute::Relay(c));
    assert_eq!(calls.left.state(&calls.left.call_id()), "transferred");
    calls.left.request(1, A, "BYE", 11, "");
    calls.carry();
    calls.joined.answer(C, "BYE", 200, "");
    calls.joined.answer(A, "BYE", 200, "");
    calls.carry();
    assert_eq!(calls.joined.record().ended_by, "caller");
    assert_eq!(calls.left.record().cause, "ATTENDED_TRANSFER");
}

#[test]
fn a_kill_while_a_phone_takes_over_ends_nobody() {
    for killed in 0..8 {
        let Taking { mut calls } = Taking::begin(replaces_line, "1000");
        let mut carried = 0;
        loop {
            if carried == killed {
                calls.left.restart();
                calls.joined.restart();
            }
            if !calls.carry_one() {
                if calls.left.count(A, "200") == 0 || carried > killed {
                    break;
                }
                calls.left.ack("");
            }
            carried += 1;
        }
        for _ in 0..6 {
            calls.pass(Duration::from_millis(700));
            if calls.left.count(A, "200") > 0 {
                calls.left.ack("");
                calls.carry();
            }
            settle(&mut calls.joined, A, SDP_A);
        }
        let c = calls.joined.side(2);
        assert_eq!(
            calls.joined.config(3).route,
            MediaRoute::Relay(c),
            "{killed}"
        );
        assert_eq!(calls.joined.count(C, "BYE"), 0, "{killed}");
    }
}

/// RFC 3891 §3: what cannot be replaced is refused, and nothing changes.
#[test]
fn a_phone_that_may_not_take_over_is_refused() {
    type With = fn(String) -> String;
    let rows: [(With, &str, &str); 4] = [
        (replaces_line, "1001", "403"),
        (
            |value| replaces_line(value.replace("=a1", "=a2")),
            "1000",
            "481",
        ),
        (
            |value| replaces_line(format!("{value};early-only")),
            "1000",
            "486",
        ),
        (|_| replaces_line("nothing".to_owned()), "1000", "400"),
    ];
    for (with, number, status) in rows {
        let Taking { mut calls } = Taking::begin(with, number);
        calls.carry();
        assert_eq!(calls.left.count(A, status), 1, "{:#?}", calls.left.lines());
        assert_eq!(calls.joined.count(A, "BYE"), 0, "{status}");
        assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
    }
}

/// `threats.md` 24: on a closed network an account is what From says.
#[test]
fn who_has_not_proven_who_it_is_comes_in_nobodys_place() {
    let mut calls = Calls::connected();
    calls.join();
    let (from, to, message) = calls.left.abroad.remove(0);
    let crate::Message::Dialog(dialog::Message::Replace(mut ask)) = message else {
        panic!("{message:?}");
    };
    ask.is_proven = false;
    let message = dialog::Message::Replace(ask).into();
    calls.joined.give(to, Event::Message { from, message });
    calls.carry();
    assert_eq!(told(&calls.left, A), ["100 Trying", "403 Forbidden"]);
    assert_eq!(calls.joined.count(A, "BYE"), 0);
}

/// Its phone knows a codec that both could speak: the other one is offered that.
#[test]
fn who_comes_is_offered_more_than_the_other_speaks_now() {
    let mut calls = Calls::connected();
    calls.join();
    calls.carry();
    let offer = body_of(&calls.joined.last(B, "INVITE"));
    assert!(offer.contains("RTP/AVP 0 8"), "{offer}");
    calls.joined.answer(B, "INVITE", 200, SDP_B);
    let offer = body_of(&calls.joined.last(C, "INVITE"));
    assert!(offer.contains("RTP/AVP 8"), "{offer}");
    calls
        .joined
        .answer(C, "INVITE", 200, &SDP_C.replace("AVP 0", "AVP 8"));
    let c = calls.joined.side(2);
    assert_eq!(calls.joined.config(3).route, MediaRoute::Relay(c));
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
}

/// It presses hold while it is put through: the order to stop and its offer cross.
#[test]
fn who_offers_as_it_goes_is_answered() {
    let mut calls = Calls::connected();
    calls.join();
    let id = calls.left.dialog(2);
    let place = calls.joined.side(3);
    let hold = sdp_b().replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n");
    // The call has not heard of the offer when the dialog stops.
    calls.left.kills =
        |message| matches!(message, crate::Message::Call(call::Message::Offered { .. }));
    calls.left.request(2, B, "INVITE", 1, &hold);
    calls.left.tell(id, dialog::Message::HandOver { to: place });
    assert_eq!(calls.left.count(B, "491"), 1);
}

/// It cancels when it has the 202, and its target answers at that moment.
#[test]
fn who_is_answered_when_the_caller_has_gone_waits_for_who_comes() {
    let mut calls = Calls::ringing();
    calls.join();
    assert!(calls.carry_one(), "it is asked");
    calls.joined.cancel(A);
    calls.joined.answer(C, "INVITE", 200, SDP_C);
    calls.carry();
    assert_eq!(told(&calls.left, A), ["100 Trying", "200 OK"]);
    calls.joined.answer(B, "INVITE", 200, &sdp_b());
    let c = calls.joined.side(2);
    assert_eq!(calls.joined.config(3).route, MediaRoute::Relay(c));
    assert_eq!(calls.joined.count(C, "BYE"), 0);
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
}

/// The dialog that a party went on with is lost, and nobody has said so.
#[test]
fn a_request_that_finds_nobody_where_its_dialog_went_is_answered() {
    let mut calls = Calls::connected();
    calls.join();
    calls.carry();
    calls.left.answer(A, "BYE", 200, "");
    calls.left.request(2, B, "BYE", 1, "");
    let (from, to, message) = calls.left.abroad.remove(0);
    let why = Undelivered::Absent;
    calls
        .left
        .give(from, Event::Undelivered { to, message, why });
    assert_eq!(calls.left.count(B, "481"), 1);
    assert_eq!(calls.left.record().cause, "ATTENDED_TRANSFER");
}

/// Its tags name the call that it came from.
#[test]
fn who_has_come_is_not_put_in_the_place_of_its_own_peer() {
    let mut calls = Calls::connected();
    calls.join();
    calls.carry();
    calls.joined.answer(B, "INVITE", 200, &sdp_b());
    calls.joined.answer(A, "BYE", 200, "");
    let ask = call::Ask {
        replaces: call::Replaces {
            dialog: calls.joined.side(2),
            call_id: String::new(),
            our_tag: String::new(),
            peer_tag: String::new(),
            early_only: false,
        },
        from: calls.joined.side(3),
        by: Some(aor("1002@example.org")),
        is_proven: true,
    };
    let id = calls.joined.call_id();
    let (side, word) = (2, call::Word::Ask(Box::new(ask)));
    calls
        .joined
        .tell(id.clone(), call::Message::Join { side, word });
    assert_eq!(calls.joined.state(&id), "talking");
}

#[test]
fn who_comes_while_it_rings_may_talk_no_longer_than_anybody() {
    let mut calls = Calls::ringing();
    calls.joined.site.limits.call_max = Duration::from_secs(100);
    calls.join();
    calls.carry();
    calls.joined.answer(B, "INVITE", 200, SDP_B);
    calls.joined.answer(C, "INVITE", 200, SDP_C);
    calls.joined.answer(B, "INVITE", 200, &sdp_b());
    calls.joined.pass(Duration::from_secs(101));
    assert_eq!(calls.joined.count(C, "BYE"), 1);
}

#[test]
fn a_message_that_nobody_awaits_changes_nothing() {
    let mut calls = Calls::connected();
    let words = [
        call::Word::Asked(Ok(calls.joined.side(3))),
        call::Word::Asked(Err(481)),
        call::Word::Stopped(call::Stopped::Stays),
        call::Word::Came(true),
        call::Word::Came(false),
        call::Word::NotComing(calls.joined.side(2)),
    ];
    for word in words {
        let id = calls.left.call_id();
        let side = 2;
        calls.left.tell(id, call::Message::Join { side, word });
    }
    let id = calls.left.dialog(2);
    for message in [dialog::Message::HandedOver, dialog::Message::Left] {
        calls.left.tell(id.clone(), message);
    }
    assert_eq!(calls.left.state(&calls.left.call_id()), "talking");
    // Who let somebody in hears that it does not come.
    assert_eq!(calls.left.abroad.len(), 1);
    calls.carry();
    assert_eq!(calls.joined.state(&calls.joined.call_id()), "talking");
}
