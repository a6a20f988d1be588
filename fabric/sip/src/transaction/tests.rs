//! Event scripts: every state with every event of the four machines, as tables.
//!
//! A script is words: `<180` a response of the peer, `>180` a response of the TU, `INVITE`, `ACK`,
//! `OPTIONS` a request of the peer, `!` a transport error, `@500` the timers at 500 ms, `cancel`
//! the news that a CANCEL was sent. A row runs `before`, then checks what `event` gives.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use contract::Time;
use proptest::prelude::*;

use super::*;

trait Machine {
    fn step(&mut self, word: &str, now: Time, out: &mut Vec<Output>);
    fn state(&self) -> &'static str;
    fn deadline(&self) -> Option<Time>;
}

/// Makes a machine on U or T, with what it said at once.
type New = fn(char) -> (Box<dyn Machine>, Vec<Output>);

/// Source, transport (U or T), before, event, outputs, next state, next deadline in ms (or -1).
type Row = (
    &'static str,
    char,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    i64,
);

#[rustfmt::skip]
const CLIENT_INVITE: &[Row] = &[
    ("3261 §17.1.1.2 A", 'U', "", "@500", "send INVITE", "Calling", 1_500),
    ("3261 §17.1.1.2 A doubles", 'U', "@500", "@1500", "send INVITE", "Calling", 3_500),
    ("3261 §17.1.1.2 A early", 'U', "", "@499", "", "Calling", 500),
    ("3261 §17.1.1.2 no A on streams", 'T', "", "@500", "", "Calling", 32_000),
    ("3261 §17.1.1.2 B", 'U', "@31500", "@32000", "timed out, terminated", "Terminated", -1),
    ("3261 §17.1.1.2 B", 'T', "", "@32000", "timed out, terminated", "Terminated", -1),
    ("3261 §17.1.1.2", 'U', "", "<100", "deliver 100", "Proceeding", -1),
    ("3261 §17.1.1.2", 'U', "", "<180", "deliver 180", "Proceeding", -1),
    ("6026 §7.2", 'U', "", "<200", "deliver 200", "Accepted", 32_000),
    ("6026 §7.2", 'T', "", "<200", "deliver 200", "Accepted", 32_000),
    ("3261 §17.1.1.2", 'U', "", "<486", "send ACK, deliver 486", "Completed", 32_000),
    ("3261 §17.1.1.2 D=0", 'T', "", "<486", "send ACK, deliver 486, terminated", "Terminated", -1),
    ("3261 §17.1.4", 'U', "", "!", "failed, terminated", "Terminated", -1),
    ("3261 §17.1.1.2", 'U', "<180", "<183", "deliver 183", "Proceeding", -1),
    ("6026 §7.2", 'U', "<180", "<202", "deliver 202", "Accepted", 32_000),
    ("3261 §17.1.1.2", 'U', "<180", "<302", "send ACK, deliver 302", "Completed", 32_000),
    ("3261 §17.1.1.2", 'U', "<180", "<603", "send ACK, deliver 603", "Completed", 32_000),
    ("3261 fig. 5 no A, no B", 'U', "<180", "@99999", "", "Proceeding", -1),
    ("3261 fig. 5", 'U', "<180", "!", "", "Proceeding", -1),
    ("3261 §9.1", 'U', "<180 cancel", "@32000", "timed out, terminated", "Terminated", -1),
    ("3261 §9.1 487 in time",
    'U', "<180 cancel", "<487", "send ACK, deliver 487", "Completed", 32_000),
    ("3261 §9.1 only after 1xx", 'U', "cancel", "@0", "", "Calling", 500),
    ("6026 §7.2 each 2xx goes up", 'U', "<200", "<200", "deliver 200", "Accepted", 32_000),
    ("6026 fig. 4", 'U', "<200", "<180", "", "Accepted", 32_000),
    ("6026 fig. 4", 'U', "<200", "<486", "", "Accepted", 32_000),
    ("6026 fig. 4", 'U', "<200", "!", "", "Accepted", 32_000),
    ("6026 §7.2 M", 'U', "<200", "@32000", "terminated", "Terminated", -1),
    ("6026 §7.2 M", 'T', "<200", "@32000", "terminated", "Terminated", -1),
    ("6026 §7.2 M early", 'U', "<200", "@31999", "", "Accepted", 32_000),
    ("3261 §17.1.1.2", 'U', "<486", "<486", "send ACK", "Completed", 32_000),
    ("3261 fig. 5", 'U', "<486", "<180", "", "Completed", 32_000),
    ("6026 fig. 4", 'U', "<486", "<200", "", "Completed", 32_000),
    ("3261 §17.1.1.2", 'U', "<486", "!", "failed, terminated", "Terminated", -1),
    ("3261 §17.1.1.2 D", 'U', "<486", "@32000", "terminated", "Terminated", -1),
    ("gone", 'T', "<486", "<180", "", "Terminated", -1),
    ("gone", 'T', "<486", "<200", "", "Terminated", -1),
    ("gone", 'T', "<486", "<486", "", "Terminated", -1),
    ("gone", 'T', "<486", "!", "", "Terminated", -1),
    ("gone", 'T', "<486", "@99999", "", "Terminated", -1),
];

#[rustfmt::skip]
const CLIENT_PLAIN: &[Row] = &[
    ("3261 §17.1.2.2 E", 'U', "", "@500", "send OPTIONS", "Trying", 1_500),
    ("3261 §17.1.2.2 E doubles", 'U', "@500", "@1500", "send OPTIONS", "Trying", 3_500),
    ("3261 §17.1.2.2 E up to T2",
    'U', "@500 @1500 @3500", "@7500", "send OPTIONS", "Trying", 11_500),
    ("3261 §17.1.2.2 no E on streams", 'T', "", "@500", "", "Trying", 32_000),
    ("3261 §17.1.2.2 F", 'U', "", "@32000", "timed out, terminated", "Terminated", -1),
    ("3261 §17.1.2.2", 'U', "", "<100", "deliver 100", "Proceeding", 500),
    ("3261 §17.1.2.2", 'U', "", "<200", "deliver 200", "Completed", 5_000),
    ("3261 §17.1.2.2", 'U', "", "<404", "deliver 404", "Completed", 5_000),
    ("3261 §17.1.2.2 K=0", 'T', "", "<200", "deliver 200, terminated", "Terminated", -1),
    ("3261 §17.1.4", 'U', "", "!", "failed, terminated", "Terminated", -1),
    ("3261 §17.1.2.2 E=T2", 'U', "<100", "@500", "send OPTIONS", "Proceeding", 4_500),
    ("3261 §17.1.2.2 F", 'U', "<100", "@32000", "timed out, terminated", "Terminated", -1),
    ("3261 §17.1.2.2 F", 'T', "<100", "@32000", "timed out, terminated", "Terminated", -1),
    ("3261 §17.1.2.2", 'U', "<100", "<183", "deliver 183", "Proceeding", 500),
    ("3261 §17.1.2.2", 'U', "<100", "<200", "deliver 200", "Completed", 5_000),
    ("3261 §17.1.2.2", 'T', "<100", "<603", "deliver 603, terminated", "Terminated", -1),
    ("3261 §17.1.4", 'U', "<100", "!", "failed, terminated", "Terminated", -1),
    ("3261 §17.1.2.2", 'U', "<200", "<200", "", "Completed", 5_000),
    ("3261 §17.1.2.2", 'U', "<200", "<100", "", "Completed", 5_000),
    ("3261 fig. 6", 'U', "<200", "!", "", "Completed", 5_000),
    ("3261 §17.1.2.2 K", 'U', "<200", "@5000", "terminated", "Terminated", -1),
    ("gone", 'T', "<200", "<100", "", "Terminated", -1),
    ("gone", 'T', "<200", "<200", "", "Terminated", -1),
    ("gone", 'T', "<200", "!", "", "Terminated", -1),
    ("gone", 'T', "<200", "@99999", "", "Terminated", -1),
];

#[rustfmt::skip]
const SERVER_INVITE: &[Row] = &[
    ("3261 §17.2.1 100", 'U', "", "@200", "send 100", "Proceeding", -1),
    ("3261 §17.2.1 100", 'T', "", "@200", "send 100", "Proceeding", -1),
    ("3261 §17.2.1 TU was in time", 'U', ">180", "@200", "", "Proceeding", -1),
    ("3261 §17.2.1 nothing to repeat", 'U', "", "INVITE", "", "Proceeding", 200),
    ("3261 §17.2.1", 'U', "@200", "INVITE", "send 100", "Proceeding", -1),
    ("3261 §17.2.1 the latest", 'U', ">180 >183", "INVITE", "send 183", "Proceeding", -1),
    ("3261 fig. 7", 'U', "", "ACK", "", "Proceeding", 200),
    ("3261 §17.2.1", 'U', "", ">180", "send 180", "Proceeding", -1),
    ("6026 §7.1", 'U', "", ">200", "send 200", "Accepted", 32_000),
    ("6026 §7.1", 'T', ">180", ">200", "send 200", "Accepted", 32_000),
    ("3261 §17.2.1 G", 'U', "", ">486", "send 486", "Completed", 500),
    ("3261 §17.2.1 no G on streams", 'T', "", ">486", "send 486", "Completed", 32_000),
    ("6026 fig. 5", 'U', "", "!", "failed", "Proceeding", 200),
    ("6026 §7.1", 'U', ">200", "INVITE", "", "Accepted", 32_000),
    ("6026 §7.1", 'U', ">200", "ACK", "deliver ACK", "Accepted", 32_000),
    ("6026 §7.1", 'U', ">200", ">200", "send 200", "Accepted", 32_000),
    ("6026 fig. 5", 'U', ">200", ">180", "", "Accepted", 32_000),
    ("6026 fig. 5", 'U', ">200", ">486", "", "Accepted", 32_000),
    ("6026 fig. 5", 'U', ">200", "!", "failed", "Accepted", 32_000),
    ("6026 §7.1 L", 'U', ">200", "@32000", "terminated", "Terminated", -1),
    ("6026 §7.1 L", 'T', ">200", "@32000", "terminated", "Terminated", -1),
    ("3261 §17.2.1", 'U', ">486", "INVITE", "send 486", "Completed", 500),
    ("3261 §17.2.1", 'T', ">486", "INVITE", "send 486", "Completed", 32_000),
    ("3261 §17.2.1 G", 'U', ">486", "@500", "send 486", "Completed", 1_500),
    ("3261 §17.2.1 G doubles", 'U', ">486 @500", "@1500", "send 486", "Completed", 3_500),
    ("3261 §17.2.1 G up to T2",
    'U', ">486 @500 @1500 @3500", "@7500", "send 486", "Completed", 11_500),
    ("3261 §17.2.1 H", 'U', ">486 @31500", "@32000", "timed out, terminated", "Terminated", -1),
    ("3261 §17.2.1 H", 'T', ">486", "@32000", "timed out, terminated", "Terminated", -1),
    ("3261 §17.2.1", 'U', ">486", "ACK", "", "Confirmed", 5_000),
    ("3261 §17.2.1 I=0", 'T', ">486", "ACK", "terminated", "Terminated", -1),
    ("3261 §17.2.1", 'U', ">486", ">180", "", "Completed", 500),
    ("3261 §17.2.1", 'U', ">486", ">200", "", "Completed", 500),
    ("3261 §17.2.1", 'U', ">486", ">603", "", "Completed", 500),
    ("6026 fig. 5", 'U', ">486", "!", "failed", "Completed", 500),
    ("3261 §17.2.1", 'U', ">486 ACK", "ACK", "", "Confirmed", 5_000),
    ("3261 fig. 7", 'U', ">486 ACK", "INVITE", "", "Confirmed", 5_000),
    ("3261 fig. 7", 'U', ">486 ACK", ">180", "", "Confirmed", 5_000),
    ("3261 fig. 7", 'U', ">486 ACK", ">200", "", "Confirmed", 5_000),
    ("3261 fig. 7", 'U', ">486 ACK", ">486", "", "Confirmed", 5_000),
    ("3261 fig. 7", 'U', ">486 ACK", "!", "", "Confirmed", 5_000),
    ("3261 §17.2.1 no G", 'U', ">486 ACK", "@4999", "", "Confirmed", 5_000),
    ("3261 §17.2.1 I", 'U', ">486 ACK", "@5000", "terminated", "Terminated", -1),
    ("gone", 'T', ">486 ACK", "INVITE", "", "Terminated", -1),
    ("gone", 'T', ">486 ACK", "ACK", "", "Terminated", -1),
    ("gone", 'T', ">486 ACK", ">180", "", "Terminated", -1),
    ("gone", 'T', ">486 ACK", ">200", "", "Terminated", -1),
    ("gone", 'T', ">486 ACK", ">486", "", "Terminated", -1),
    ("gone", 'T', ">486 ACK", "!", "", "Terminated", -1),
    ("gone", 'T', ">486 ACK", "@99999", "", "Terminated", -1),
];

#[rustfmt::skip]
const SERVER_PLAIN: &[Row] = &[
    ("3261 §17.2.2", 'U', "", "OPTIONS", "", "Trying", -1),
    ("3261 §17.2.2", 'U', "", ">100", "send 100", "Proceeding", -1),
    ("3261 §17.2.2", 'U', "", ">200", "send 200", "Completed", 32_000),
    ("3261 §17.2.2 J=0", 'T', "", ">404", "send 404, terminated", "Terminated", -1),
    ("nothing was sent", 'U', "", "!", "", "Trying", -1),
    ("no timer", 'U', "", "@99999", "", "Trying", -1),
    ("3261 §17.2.2", 'U', ">100", "OPTIONS", "send 100", "Proceeding", -1),
    ("3261 §17.2.2", 'U', ">100 >183", "OPTIONS", "send 183", "Proceeding", -1),
    ("3261 §17.2.2", 'U', ">100", ">183", "send 183", "Proceeding", -1),
    ("3261 §17.2.2", 'U', ">100", ">200", "send 200", "Completed", 32_000),
    ("6026 §8.8", 'U', ">100", "!", "failed", "Proceeding", -1),
    ("no timer", 'U', ">100", "@99999", "", "Proceeding", -1),
    ("3261 §17.2.2", 'U', ">200", "OPTIONS", "send 200", "Completed", 32_000),
    ("3261 §17.2.2", 'U', ">200", ">200", "", "Completed", 32_000),
    ("3261 §17.2.2", 'U', ">200", ">500", "", "Completed", 32_000),
    ("3261 §17.2.2", 'U', ">200", ">100", "", "Completed", 32_000),
    ("6026 §8.8", 'U', ">200", "!", "failed", "Completed", 32_000),
    ("3261 §17.2.2 J", 'U', ">200", "@32000", "terminated", "Terminated", -1),
    ("gone", 'T', ">200", "OPTIONS", "", "Terminated", -1),
    ("gone", 'T', ">200", ">100", "", "Terminated", -1),
    ("gone", 'T', ">200", ">200", "", "Terminated", -1),
    ("gone", 'T', ">200", "!", "", "Terminated", -1),
    ("gone", 'T', ">200", "@99999", "", "Terminated", -1),
];

#[test]
fn client_invite_follows_its_table() {
    run(CLIENT_INVITE, new_client_invite);
    let states = [
        "Calling",
        "Proceeding",
        "Accepted",
        "Completed",
        "Terminated",
    ];
    assert_covers(
        CLIENT_INVITE,
        new_client_invite,
        &states,
        &["<1", "<2", "<3", "!", "@"],
    );
}

#[test]
fn client_plain_follows_its_table() {
    run(CLIENT_PLAIN, new_client_plain);
    let states = ["Trying", "Proceeding", "Completed", "Terminated"];
    assert_covers(
        CLIENT_PLAIN,
        new_client_plain,
        &states,
        &["<1", "<2", "!", "@"],
    );
}

#[test]
fn server_invite_follows_its_table() {
    run(SERVER_INVITE, new_server_invite);
    let states = [
        "Proceeding",
        "Accepted",
        "Completed",
        "Confirmed",
        "Terminated",
    ];
    let events = ["INVITE", "ACK", ">1", ">2", ">3", "!", "@"];
    assert_covers(SERVER_INVITE, new_server_invite, &states, &events);
}

#[test]
fn server_plain_follows_its_table() {
    run(SERVER_PLAIN, new_server_plain);
    let states = ["Trying", "Proceeding", "Completed", "Terminated"];
    assert_covers(
        SERVER_PLAIN,
        new_server_plain,
        &states,
        &["OPTIONS", ">1", ">2", "!", "@"],
    );
}

#[test]
fn invite_is_sent_seven_times_and_other_requests_eleven_times() {
    // RFC 3261 §17.1.1.2 and §17.1.2.2 name these times.
    let invite = [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500];
    assert_eq!(send_times(new_client_invite('U')), invite);
    let plain = [
        0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
    ];
    assert_eq!(send_times(new_client_plain('U')), plain);
}

#[test]
fn a_stalled_host_does_not_send_in_bursts() {
    let (mut machine, _) = new_client_invite('U');
    let mut out = Vec::new();
    machine.step("@20000", at(20_000), &mut out);
    assert_eq!(shown(&out), "send INVITE");
    assert_eq!(machine.deadline(), Some(at(21_000)));
}

#[test]
fn timers_of_zero_end_and_do_not_spin() {
    let zero = Timers {
        t1_ms: 0,
        t2_ms: 0,
        t4_ms: 0,
        d_ms: 0,
        trying_ms: 0,
    };
    let mut out = Vec::new();
    let mut machine =
        InviteServer::with_timers(request("INVITE"), Reliability::Datagram, zero, at(0));
    machine.on_timer(at(1), &mut out);
    machine.respond(response(486, "INVITE"), at(1), &mut out);
    machine.on_timer(at(1), &mut out);
    assert_eq!(shown(&out), "send 100, send 486, timed out, terminated");
    let rest = Timers { t1_ms: 1, ..zero };
    let mut out = Vec::new();
    let mut machine = PlainClient::with_timers(
        request("OPTIONS"),
        Reliability::Datagram,
        rest,
        at(0),
        &mut out,
    );
    machine.on_timer(at(63), &mut out);
    assert_eq!(shown(&out), "send OPTIONS, send OPTIONS");
    assert_eq!(machine.next_deadline(), Some(at(64)));
}

#[test]
fn ack_of_a_failure_repeats_what_the_section_names() {
    let (mut machine, _) = new_client_invite('U');
    let mut out = Vec::new();
    machine.step("<486", at(0), &mut out);
    let Some(Output::Send(bytes)) = out.first() else {
        panic!("no ACK: {out:?}")
    };
    let expected = "ACK sip:bob@biloxi.example SIP/2.0\r\n\
        Via: SIP/2.0/UDP pc33.atlanta.example:5070;branch=z9hG4bK776asdhds\r\n\
        Route: <sip:proxy.example;lr>\r\n\
        Max-Forwards: 70\r\n\
        From: Alice <sip:alice@atlanta.example>;tag=1928301774\r\n\
        To: Bob <sip:bob@biloxi.example>;tag=a6c85cf\r\n\
        Call-ID: a84b4c76e66710\r\n\
        CSeq: 314159 ACK\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(std::str::from_utf8(bytes).expect("UTF-8"), expected);
}

#[test]
fn invite_may_be_cancelled_between_first_and_final_response() {
    let mut out = Vec::new();
    let mut machine = InviteClient::new(request("INVITE"), Reliability::Datagram, at(0), &mut out);
    assert!(machine.cancellable().is_none());
    machine.on_response(response(180, "INVITE"), at(0), &mut out);
    assert_eq!(machine.cancellable(), Some(&request("INVITE")));
    machine.on_response(response(200, "INVITE"), at(0), &mut out);
    assert!(machine.cancellable().is_none());

    let mut server = InviteServer::new(request("INVITE"), Reliability::Datagram, at(0));
    assert!(server.is_cancellable());
    server.respond(response(200, "INVITE"), at(0), &mut out);
    assert!(!server.is_cancellable());
}

#[test]
fn completed_transactions_cost_at_most_256_octets_besides_the_response() {
    // benchmarks.md B-R1: the machine, its key and the key's text; nothing of the request is kept.
    let key = Key::of_request(&request("INVITE")).expect("key");
    let own = size_of::<Key>() + key.as_str().len();
    for size in [
        size_of::<InviteClient>(),
        size_of::<PlainClient>(),
        size_of::<InviteServer>(),
        size_of::<PlainServer>(),
    ] {
        assert!(size + own <= 256, "{size} + {own}");
    }
}

#[test]
fn completed_server_keeps_its_response_and_not_the_request() {
    let request = request("INVITE");
    let bytes = request.bytes().clone();
    let mut out = Vec::new();
    let mut machine = InviteServer::new(request, Reliability::Datagram, at(0));
    assert!(!bytes.is_unique());
    machine.respond(response(486, "INVITE"), at(0), &mut out);
    assert!(bytes.is_unique());
}

#[test]
fn keys_follow_the_matching_rules() {
    let invite = request("INVITE");
    let key = Key::of_request(&invite).expect("key");
    let same = |text: &str| Key::of_request(&read(text)).expect("key") == key;
    let base = text_of(&invite);
    let ack = text_of(&request("ACK"));
    let rows = [
        ("3261 §17.2.3 a copy", base.clone(), true),
        ("3261 §17.2.3 ACK has the INVITE's", ack, true),
        (
            "3261 §7.3.1 branch in other case",
            base.replace("z9hG4bK776as", "Z9HG4BK776AS"),
            true,
        ),
        (
            "3261 §17.2.3 other branch",
            base.replace("776asdhds", "776asdhdt"),
            false,
        ),
        (
            "3261 §17.2.3 other sent-by",
            base.replace("pc33.", "pc34."),
            false,
        ),
        (
            "3261 §17.2.3 other port",
            base.replace(":5070;", ":5071;"),
            false,
        ),
        (
            "3261 §17.2.3 host in other case",
            base.replace("pc33.", "PC33."),
            true,
        ),
        (
            "3581 §4 stamped",
            base.replace("asdhds", "asdhds;received=192.0.2.1;rport=9"),
            true,
        ),
        (
            "3261 §17.2.3 other method",
            base.replace("INVITE", "MESSAGE"),
            false,
        ),
        (
            "3261 §9.2 CANCEL is another",
            base.replace("INVITE", "CANCEL"),
            false,
        ),
    ];
    for (source, text, is_same) in rows {
        assert_eq!(same(&text), is_same, "{source}");
    }
    let cancel = read(&base.replace("INVITE", "CANCEL"));
    assert_eq!(Key::cancelled_by(&cancel).expect("key"), key, "3261 §9.2");
}

#[test]
fn keys_of_peers_without_branches_follow_the_older_rules() {
    let base = text_of(&request("INVITE")).replace("z9hG4bK776asdhds", "1");
    let key = Key::of_request(&read(&base)).expect("key");
    let rows = [
        ("3261 §17.2.3 a copy", base.clone(), true),
        (
            "stamped",
            base.replace("branch=1", "branch=1;received=192.0.2.1;rport=9"),
            true,
        ),
        (
            "ACK with the tag of our answer",
            base.replace("INVITE", "ACK").replace(
                "To: Bob <sip:bob@biloxi.example>",
                "To: Bob <sip:bob@biloxi.example>;tag=ours",
            ),
            true,
        ),
        ("other CSeq", base.replace("314159", "314160"), false),
        ("other Call-ID", base.replace("a84b4c", "b84b4c"), false),
        (
            "other From tag",
            base.replace("tag=1928301774", "tag=2"),
            false,
        ),
        (
            "other Request-URI",
            base.replacen("sip:bob@", "sip:bo@", 1),
            false,
        ),
        ("other Via", base.replace("branch=1", "branch=2"), false),
        ("other method", base.replace("INVITE", "BYE"), false),
    ];
    for (source, text, is_same) in rows {
        let other = Key::of_request(&read(&text)).expect("key");
        assert_eq!(other == key, is_same, "3261 §17.2.3: {source}");
    }
    let bye = base.replace("INVITE", "BYE");
    let tagged = bye.replace("biloxi.example>", "biloxi.example>;tag=x");
    assert_ne!(
        Key::of_request(&read(&bye)).expect("key"),
        Key::of_request(&read(&tagged)).expect("key"),
        "3261 §17.2.3: the To tag counts for other methods"
    );
}

#[test]
fn ack_without_branch_must_have_the_tag_of_our_response() {
    let invite = read(&text_of(&request("INVITE")).replace("z9hG4bK776asdhds", "1"));
    let ack = text_of(&request("ACK")).replace("z9hG4bK776asdhds", "1");
    let mut out = Vec::new();
    let mut machine = InviteServer::new(invite, Reliability::Datagram, at(0));
    machine.respond(response(486, "INVITE"), at(0), &mut out);
    let strange = ack.replace("biloxi.example>;tag=a6c85cf", "biloxi.example>;tag=strange");
    machine.on_request(&read(&strange), at(0), &mut out);
    assert_eq!(machine.state_name(), "Completed");
    machine.on_request(&read(&ack), at(0), &mut out);
    assert_eq!(machine.state_name(), "Confirmed");
}

#[test]
fn responses_find_the_request_that_caused_them() {
    for method in ["INVITE", "OPTIONS"] {
        let sent = Key::of_sent(&request(method)).expect("key");
        assert_eq!(
            Key::of_response(&response(200, method)).expect("key"),
            sent,
            "3261 §17.1.3"
        );
    }
    let cancel = Key::of_sent(&request("CANCEL")).expect("key");
    assert_ne!(
        Key::of_response(&response(200, "INVITE")).expect("key"),
        cancel,
        "3261 §17.1.3"
    );
    let server = Key::of_request(&request("INVITE")).expect("key");
    assert_ne!(
        Key::of_sent(&request("INVITE")).expect("key"),
        server,
        "client and server differ"
    );
}

#[test]
fn long_branches_do_not_make_long_keys() {
    let long = "z9hG4bK".to_owned() + &"x".repeat(4_000);
    let text = text_of(&request("INVITE")).replace("z9hG4bK776asdhds", &long);
    let key = Key::of_request(&read(&text)).expect("key");
    assert_eq!(key.as_str().len(), 64);
    let again = Key::of_request(&read(&text)).expect("key");
    let other = Key::of_request(&read(&text.replace("xxx\r", "xxy\r"))).expect("key");
    assert!(again == key && other != key);
}

proptest! {
    #[test]
    fn no_script_breaks_a_machine(
        words in prop::collection::vec(word(), 0..40),
        transport in prop_oneof![Just('U'), Just('T')],
    ) {
        for new in [new_client_invite, new_client_plain, new_server_invite, new_server_plain] {
            let (mut machine, mut all) = new(transport);
            let mut now = 0;
            for word in &words {
                if let Some(wait) = word.strip_prefix('@') {
                    now += wait.parse::<u64>().expect("number");
                }
                let was_gone = machine.state() == "Terminated";
                let mut out = Vec::new();
                machine.step(word, at(now), &mut out);
                prop_assert!(!was_gone || out.is_empty());
                prop_assert!(machine.deadline().is_none_or(|deadline| deadline > at(now)
                    || !word.starts_with('@')));
                all.extend(out);
            }
            let ends = all.iter().filter(|output| **output == Output::Terminated).count();
            prop_assert_eq!(ends, usize::from(machine.state() == "Terminated"));
            prop_assert!(ends == 0 || all.last() == Some(&Output::Terminated));
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        (100_u16..700).prop_map(|status| format!("<{status}")),
        (100_u16..700).prop_map(|status| format!(">{status}")),
        (0_u64..20_000).prop_map(|wait| format!("@{wait}")),
        prop::sample::select(vec!["INVITE", "ACK", "OPTIONS", "!", "cancel"])
            .prop_map(str::to_owned),
    ]
}

fn run(rows: &[Row], new: New) {
    for row @ (source, transport, before, event, outputs, next, deadline) in rows {
        let (mut machine, _) = new(*transport);
        let mut now = at(0);
        for word in before.split_whitespace() {
            now = time_of(word, now);
            machine.step(word, now, &mut Vec::new());
        }
        now = time_of(event, now);
        let mut out = Vec::new();
        machine.step(event, now, &mut out);
        assert_eq!(shown(&out), *outputs, "{source}: {row:?}");
        assert_eq!(machine.state(), *next, "{source}: {row:?}");
        let expected = u64::try_from(*deadline).ok().map(at);
        assert_eq!(machine.deadline(), expected, "{source}: {row:?}");
    }
}

/// Fails unless every state meets every event in the table.
fn assert_covers(rows: &[Row], new: New, states: &[&str], events: &[&str]) {
    let mut covered = BTreeSet::new();
    for (_, transport, before, event, ..) in rows {
        let (mut machine, _) = new(*transport);
        let mut now = at(0);
        for word in before.split_whitespace() {
            now = time_of(word, now);
            machine.step(word, now, &mut Vec::new());
        }
        covered.insert((machine.state(), kind_of(event)));
    }
    for state in states {
        for event in events {
            assert!(
                covered.contains(&(*state, (*event).to_owned())),
                "no row: {state} × {event}"
            );
        }
    }
}

fn kind_of(event: &str) -> String {
    match event.as_bytes() {
        [b'@', ..] => "@".to_owned(),
        [arrow @ (b'<' | b'>'), class @ b'1'..=b'2', ..] => {
            format!("{}{}", char::from(*arrow), char::from(*class))
        }
        [arrow @ (b'<' | b'>'), ..] => format!("{}3", char::from(*arrow)),
        _ => event.to_owned(),
    }
}

fn send_times((mut machine, first): (Box<dyn Machine>, Vec<Output>)) -> Vec<u64> {
    assert_eq!(first.len(), 1);
    let mut times = vec![0];
    while let Some(deadline) = machine.deadline() {
        let mut out = Vec::new();
        machine.step("@", deadline, &mut out);
        let is_send = |output: &Output| matches!(output, Output::Send(_));
        times.extend(
            out.iter()
                .filter(|output| is_send(output))
                .map(|_| deadline.as_micros() / 1_000),
        );
    }
    times
}

fn shown(out: &[Output]) -> String {
    let name = |message: &Message| {
        message
            .status()
            .map_or_else(|| message.method().to_string(), |status| status.to_string())
    };
    let words: Vec<String> = out
        .iter()
        .map(|output| match output {
            Output::Send(bytes) => {
                format!(
                    "send {}",
                    name(&Message::read(bytes.clone()).expect("we write SIP"))
                )
            }
            Output::Deliver(message) => format!("deliver {}", name(message)),
            Output::TimedOut => "timed out".to_owned(),
            Output::Failed => "failed".to_owned(),
            Output::Terminated => "terminated".to_owned(),
        })
        .collect();
    words.join(", ")
}

fn time_of(word: &str, now: Time) -> Time {
    word.strip_prefix('@')
        .map_or(now, |ms| at(ms.parse().expect("number")))
}

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

fn reliability(transport: char) -> Reliability {
    if transport == 'U' {
        Reliability::Datagram
    } else {
        Reliability::Stream
    }
}

fn new_client_invite(transport: char) -> (Box<dyn Machine>, Vec<Output>) {
    let mut out = Vec::new();
    let machine = InviteClient::new(request("INVITE"), reliability(transport), at(0), &mut out);
    (Box::new(machine), out)
}

fn new_client_plain(transport: char) -> (Box<dyn Machine>, Vec<Output>) {
    let mut out = Vec::new();
    let machine = PlainClient::new(request("OPTIONS"), reliability(transport), at(0), &mut out);
    (Box::new(machine), out)
}

fn new_server_invite(transport: char) -> (Box<dyn Machine>, Vec<Output>) {
    (
        Box::new(InviteServer::new(
            request("INVITE"),
            reliability(transport),
            at(0),
        )),
        Vec::new(),
    )
}

fn new_server_plain(transport: char) -> (Box<dyn Machine>, Vec<Output>) {
    (
        Box::new(PlainServer::new(
            request("OPTIONS"),
            reliability(transport),
            at(0),
        )),
        Vec::new(),
    )
}

fn status_of(word: &str) -> u16 {
    word[1..].parse().expect("status")
}

impl Machine for InviteClient {
    fn step(&mut self, word: &str, now: Time, out: &mut Vec<Output>) {
        match word.as_bytes() {
            [b'<', ..] => self.on_response(response(status_of(word), "INVITE"), now, out),
            [b'!'] => self.on_transport_error(now, out),
            [b'@', ..] => self.on_timer(now, out),
            b"cancel" => self.on_cancel_sent(now),
            _ => {}
        }
    }

    fn state(&self) -> &'static str {
        self.state_name()
    }

    fn deadline(&self) -> Option<Time> {
        self.next_deadline()
    }
}

impl Machine for PlainClient {
    fn step(&mut self, word: &str, now: Time, out: &mut Vec<Output>) {
        match word.as_bytes() {
            [b'<', ..] => self.on_response(response(status_of(word), "OPTIONS"), now, out),
            [b'!'] => self.on_transport_error(now, out),
            [b'@', ..] => self.on_timer(now, out),
            _ => {}
        }
    }

    fn state(&self) -> &'static str {
        self.state_name()
    }

    fn deadline(&self) -> Option<Time> {
        self.next_deadline()
    }
}

impl Machine for InviteServer {
    fn step(&mut self, word: &str, now: Time, out: &mut Vec<Output>) {
        match word.as_bytes() {
            [b'>', ..] => self.respond(response(status_of(word), "INVITE"), now, out),
            [b'!'] => self.on_transport_error(now, out),
            [b'@', ..] => self.on_timer(now, out),
            b"INVITE" | b"ACK" | b"OPTIONS" => self.on_request(&request(word), now, out),
            _ => {}
        }
    }

    fn state(&self) -> &'static str {
        self.state_name()
    }

    fn deadline(&self) -> Option<Time> {
        self.next_deadline()
    }
}

impl Machine for PlainServer {
    fn step(&mut self, word: &str, now: Time, out: &mut Vec<Output>) {
        match word.as_bytes() {
            [b'>', ..] => self.respond(response(status_of(word), "OPTIONS"), now, out),
            [b'!'] => self.on_transport_error(now, out),
            [b'@', ..] => self.on_timer(now, out),
            b"OPTIONS" => self.on_request(&request(word), now, out),
            _ => {}
        }
    }

    fn state(&self) -> &'static str {
        self.state_name()
    }

    fn deadline(&self) -> Option<Time> {
        self.next_deadline()
    }
}

fn request(method: &str) -> Message {
    let tag = if method == "ACK" { ";tag=a6c85cf" } else { "" };
    read(&format!(
        "{method} sip:bob@biloxi.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP pc33.atlanta.example:5070;branch=z9hG4bK776asdhds\r\n\
         Route: <sip:proxy.example;lr>\r\n\
         Max-Forwards: 70\r\n\
         From: Alice <sip:alice@atlanta.example>;tag=1928301774\r\n\
         To: Bob <sip:bob@biloxi.example>{tag}\r\n\
         Call-ID: a84b4c76e66710\r\n\
         CSeq: 314159 {method}\r\n\
         Contact: <sip:alice@pc33.atlanta.example>\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

fn response(status: u16, method: &str) -> Message {
    read(&format!(
        "SIP/2.0 {status} Text\r\n\
         Via: SIP/2.0/UDP pc33.atlanta.example:5070;branch=z9hG4bK776asdhds\r\n\
         From: Alice <sip:alice@atlanta.example>;tag=1928301774\r\n\
         To: Bob <sip:bob@biloxi.example>;tag=a6c85cf\r\n\
         Call-ID: a84b4c76e66710\r\n\
         CSeq: 314159 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

fn text_of(message: &Message) -> String {
    String::from_utf8(message.bytes().to_vec()).expect("UTF-8")
}

fn read(text: &str) -> Message {
    Message::read(Bytes::from(text.to_owned())).expect("valid SIP")
}
