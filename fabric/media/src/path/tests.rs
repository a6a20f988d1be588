//! Scripts: one path, a peer whose messages the test writes, tables with the RFC sections.

use std::collections::BTreeSet;

use contract::Secret;
use contract::limits::{
    PATH_PENDING_MAX, PATH_REFUSALS_PER_S_MAX, PATH_REMOTES_MAX, PATH_SEEN_MAX,
    STUN_MESSAGE_BYTES_MAX,
};
use proptest::prelude::*;

use super::*;
use crate::stun::{IntegrityKey, Role, TransactionId, Writer};

pub(super) fn at(millis: u64) -> Time {
    Time::from_micros(millis * 1_000)
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn credentials(ufrag: &str) -> IceCredentials {
    IceCredentials {
        ufrag: ufrag.to_owned(),
        pwd: Secret::new(format!("password-of-{ufrag}-22-characters")),
    }
}

/// A node's side: `node` and `peer` are the user fragments.
pub(super) fn config(node: &str, peer: &str, selected: Option<&str>) -> PathConfig {
    PathConfig {
        local: credentials(node),
        remote: Some(credentials(peer)),
        is_controlling: false,
        tie_breaker: 500,
        selected: selected.map(address),
        seed: 7,
        priority: 0x6eff_ffff,
    }
}

fn key(ufrag: &str) -> IntegrityKey {
    IntegrityKey::new(credentials(ufrag).pwd.expose().as_bytes())
}

fn number(value: u64) -> TransactionId {
    let mut transaction = TransactionId::default();
    transaction.0[..8].copy_from_slice(&value.to_be_bytes());
    transaction
}

/// What a check of the peer says.
#[derive(Clone, Copy)]
pub(super) struct Said {
    pub(super) transaction: TransactionId,
    pub(super) role: Role,
    pub(super) nominates: bool,
    pub(super) nomination: Option<u32>,
}

pub(super) fn said(value: u64) -> Said {
    Said {
        transaction: number(value),
        role: Role::Controlling(900),
        nominates: false,
        nomination: None,
    }
}

fn nominating(value: u64) -> Said {
    Said {
        nominates: true,
        ..said(value)
    }
}

/// Writes a check to `receiver` of `sender`.
pub(super) fn request(receiver: &str, sender: &str, said: Said) -> Vec<u8> {
    let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
    let mut writer = Writer::new(&mut buffer, Class::Request, said.transaction)
        .username(receiver, sender)
        .priority(0x7eff_ffff)
        .role(said.role);
    if said.nominates {
        writer = writer.nominate();
    }
    if let Some(number) = said.nomination {
        writer = writer.nomination(number);
    }
    let length = writer.finish(Some(&key(receiver))).unwrap();
    buffer[..length].to_vec()
}

/// Writes a check to `receiver` that is signed with a wrong password.
fn forged(receiver: &str, value: u64) -> Vec<u8> {
    let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
    let length = Writer::new(&mut buffer, Class::Request, number(value))
        .username(receiver, "peer")
        .priority(0x7eff_ffff)
        .role(Role::Controlling(900))
        .nominate()
        .finish(Some(&key("a guess")))
        .unwrap();
    buffer[..length].to_vec()
}

/// Writes the answer of `owner` to a check that came from `from`.
pub(super) fn response(owner: &str, check: &[u8], from: SocketAddr) -> Vec<u8> {
    let check = Message::read(check).unwrap();
    let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
    let length = Writer::new(&mut buffer, Class::Success, check.transaction)
        .mapped(from)
        .finish(Some(&key(owner)))
        .unwrap();
    buffer[..length].to_vec()
}

fn refusal(owner: &str, check: &[u8], code: u16) -> Vec<u8> {
    let check = Message::read(check).unwrap();
    let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
    let length = Writer::new(&mut buffer, Class::Error, check.transaction)
        .error(code)
        .finish(Some(&key(owner)))
        .unwrap();
    buffer[..length].to_vec()
}

/// What one path put out.
#[derive(Default)]
pub(super) struct Out {
    pub(super) events: Vec<PathOutput>,
    pub(super) requests: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) answers: Vec<(SocketAddr, Vec<u8>)>,
}

impl Out {
    fn codes(&self) -> Vec<u16> {
        self.answers
            .iter()
            .map(|(_, octets)| {
                let message = Message::read(octets).unwrap();
                message.error.map_or(200, |error| error.code)
            })
            .collect()
    }

    fn checked(&self) -> BTreeSet<SocketAddr> {
        self.requests.iter().map(|(to, _)| *to).collect()
    }
}

pub(super) fn drain(path: &mut Path) -> Out {
    let mut out = Out::default();
    while let Some(output) = path.poll() {
        match output {
            PathOutput::Send { to, octets } => {
                let class = Message::read(&octets).unwrap().class;
                match class {
                    Class::Request => out.requests.push((to, octets)),
                    Class::Success | Class::Error => out.answers.push((to, octets)),
                    Class::Indication => panic!("no indications"),
                }
            }
            PathOutput::Selected { .. } | PathOutput::Lost | PathOutput::Revived { .. } => {
                out.events.push(output);
            }
        }
    }
    out
}

/// Runs a path's deadlines up to `until`; nobody answers.
fn run(path: &mut Path, until: Time) -> Vec<(Time, Out)> {
    let mut all = Vec::new();
    while let Some(due) = path.next_due()
        && due <= until
    {
        path.on_time(due);
        all.push((due, drain(path)));
        assert!(
            path.next_due().is_none_or(|next| next > due),
            "it makes progress"
        );
        assert!(all.len() < 10_000);
    }
    all
}

/// Answers every check of `out` as `peer`.
fn answer_all(path: &mut Path, out: &Out, peer: &str, now: Time) {
    for (to, octets) in &out.requests {
        path.on_stun(*to, now, &response(peer, octets, address("10.0.0.1:1")));
    }
}

/// A path that is kept at `to` since 0 ms.
fn kept(to: &str) -> Path {
    let mut path = Path::new(&config("node", "peer", Some(to)), at(0));
    let out = drain(&mut path);
    answer_all(&mut path, &out, "peer", at(1));
    assert!(matches!(path.phase, Phase::Kept { .. }));
    assert!(drain(&mut path).events.is_empty());
    path
}

const A: &str = "192.0.2.1:1000";
const B: &str = "192.0.2.2:2000";
const C: &str = "198.51.100.3:3000";

#[test]
fn a_valid_check_is_answered_with_its_source() {
    for source in [A, "[2001:db8::7]:4000", "[::ffff:192.0.2.9]:5000"] {
        let mut path = Path::new(&config("node", "peer", None), at(0));
        let check = request("node", "peer", said(1));
        path.on_stun(address(source), at(0), &check);
        let out = drain(&mut path);
        let (to, octets) = &out.answers[0];
        let answer = Message::read(octets).unwrap();
        assert_eq!(*to, canonical(address(source)));
        assert_eq!(answer.mapped, Some(canonical(address(source))));
        assert!(answer.is_authentic(&key("node")) && answer.has_fingerprint);
        assert_eq!(answer.transaction, number(1));
        assert!(octets.len() <= check.len());
        assert!(path.accepts(address(source)) && path.target().is_none());
    }
}

#[test]
fn requests_that_prove_nothing_are_refused_or_dropped() {
    let good = request("node", "peer", said(1));
    let mut unsigned = [0u8; 200];
    let length = Writer::new(&mut unsigned, Class::Request, number(2))
        .username("node", "peer")
        .finish(None)
        .unwrap();
    let mut nameless = [0u8; 200];
    let nameless_length = Writer::new(&mut nameless, Class::Request, number(3))
        .priority(1)
        .finish(Some(&key("node")))
        .unwrap();
    let mut bare = [0u8; 100];
    let bare_length = Writer::new(&mut bare, Class::Request, number(5))
        .finish(None)
        .unwrap();
    let table: Vec<(&str, Vec<u8>, Vec<u16>)> = vec![
        ("valid (RFC 8445 §7.3.1.3)", good.clone(), vec![200]),
        (
            "no MESSAGE-INTEGRITY (RFC 8489 §9.1.3)",
            unsigned[..length].to_vec(),
            vec![400],
        ),
        (
            "no USERNAME (§9.1.3)",
            nameless[..nameless_length].to_vec(),
            vec![400],
        ),
        (
            "another's user fragment (§9.1.3)",
            request("else", "peer", said(6)),
            vec![401],
        ),
        (
            "MESSAGE-INTEGRITY forged (§9.1.3)",
            forged("node", 4),
            vec![401],
        ),
        (
            "smaller than its refusal (threats.md 21)",
            bare[..bare_length].to_vec(),
            vec![],
        ),
        (
            "FINGERPRINT forged (§7.3)",
            {
                let mut packet = good.clone();
                *packet.last_mut().unwrap() ^= 1;
                packet
            },
            vec![],
        ),
        ("cut", good[..good.len() - 4].to_vec(), vec![]),
        (
            "no FINGERPRINT (RFC 8445 §7.1)",
            {
                let mut packet = good[..good.len() - 8].to_vec();
                let length = u16::try_from(packet.len() - 20).unwrap();
                packet[2..4].copy_from_slice(&length.to_be_bytes());
                packet
            },
            vec![],
        ),
    ];
    for (name, packet, codes) in &table {
        let mut path = Path::new(&config("node", "peer", None), at(0));
        path.on_stun(address(A), at(0), packet);
        let out = drain(&mut path);
        assert_eq!(&out.codes(), codes, "{name}");
        assert!(
            out.answers
                .iter()
                .all(|(_, octets)| octets.len() <= packet.len()),
            "{name}"
        );
        assert_eq!(path.accepts(address(A)), codes == &[200], "{name}");
    }
    println!("{} requests: answered, refused, dropped", table.len());
}

#[test]
fn an_unknown_attribute_of_the_peer_is_refused_with_420() {
    let mut packet = request("node", "peer", nominating(1));
    // PRIORITY (0x0024) becomes 0x0124: unknown, to be understood.
    let place = packet
        .windows(4)
        .position(|part| part == [0, 0x24, 0, 4])
        .unwrap();
    packet[place] = 1;
    packet.truncate(packet.len() - 8 - 24);
    let close = |packet: &mut Vec<u8>, more: usize| {
        let length = u16::try_from(packet.len() + more - 20).unwrap();
        packet[2..4].copy_from_slice(&length.to_be_bytes());
    };
    close(&mut packet, 24);
    let password = credentials("node").pwd;
    let mut mac =
        <hmac::Hmac<sha1::Sha1> as hmac::Mac>::new_from_slice(password.expose().as_bytes())
            .unwrap();
    hmac::Mac::update(&mut mac, &packet);
    packet.extend([0, 8, 0, 20]);
    packet.extend(hmac::Mac::finalize(mac).into_bytes());
    close(&mut packet, 8);
    let crc = crc32fast::hash(&packet) ^ 0x5354_554E;
    packet.extend([0x80, 0x28, 0, 4]);
    packet.extend(crc.to_be_bytes());
    let mut path = Path::new(&config("node", "peer", None), at(0));
    path.on_stun(address(A), at(0), &packet);
    let out = drain(&mut path);
    assert_eq!(out.codes(), [420]);
    let answer = Message::read(&out.answers[0].1).unwrap();
    assert!(answer.is_authentic(&key("node")));
    assert!(
        path.target().is_none() && !path.accepts(address(A)),
        "not followed"
    );
}

#[test]
fn the_first_nomination_selects_at_once_and_is_checked() {
    let mut path = Path::new(&config("node", "peer", None), at(0));
    assert_eq!(path.next_due(), None, "nothing is known");
    path.on_stun(address(A), at(5), &request("node", "peer", nominating(1)));
    let out = drain(&mut path);
    assert_eq!(out.events, [PathOutput::Selected { remote: address(A) }]);
    assert_eq!(path.target(), Some(address(A)));
    assert_eq!(out.checked(), [address(A)].into());
    let check = Message::read(&out.requests[0].1).unwrap();
    assert_eq!(check.fragments(), Some(("peer", "node")));
    assert!(check.is_authentic(&key("peer")) && check.has_fingerprint);
    assert_eq!(check.role, Some(Role::Controlled(500)));
    assert_eq!(check.priority, Some(0x6eff_ffff));
    assert!(!check.is_nominated);
    answer_all(&mut path, &out, "peer", at(6));
    assert!(matches!(path.phase, Phase::Kept { .. }));
}

#[test]
fn an_address_selected_by_a_request_alone_is_given_up_after_5_s() {
    let mut path = Path::new(&config("node", "peer", None), at(0));
    path.on_stun(address(A), at(0), &request("node", "peer", nominating(1)));
    let log = run(&mut path, at(6_000));
    let lost = log
        .iter()
        .find(|(_, out)| out.events.contains(&PathOutput::Lost))
        .map(|(time, _)| *time);
    assert_eq!(lost, Some(at(5_000)));
    assert_eq!(path.target(), None);
}

#[test]
fn a_nomination_from_a_new_source_waits_for_its_proof_while_the_path_lives() {
    let mut path = kept(A);
    path.on_stun(address(B), at(100), &request("node", "peer", nominating(1)));
    let out = drain(&mut path);
    assert!(out.events.is_empty());
    assert_eq!(path.target(), Some(address(A)), "RFC 8445 §7.3.1.5");
    assert_eq!(out.checked(), [address(B)].into());
    answer_all(&mut path, &out, "peer", at(110));
    assert_eq!(
        drain(&mut path).events,
        [PathOutput::Selected { remote: address(B) }]
    );
    assert_eq!(path.target(), Some(address(B)));
    assert!(path.accepts(address(A)), "late packets of the old address");
    // Back again: A is proven, so at once.
    path.on_stun(address(A), at(200), &request("node", "peer", nominating(2)));
    assert_eq!(path.target(), Some(address(A)));
}

#[test]
fn the_latest_nomination_wins() {
    let mut path = kept(A);
    path.on_stun(address(B), at(100), &request("node", "peer", nominating(1)));
    let first = drain(&mut path);
    path.on_stun(address(C), at(110), &request("node", "peer", nominating(2)));
    let second = drain(&mut path);
    answer_all(&mut path, &second, "peer", at(120));
    assert_eq!(path.target(), Some(address(C)));
    answer_all(&mut path, &first, "peer", at(130));
    assert_eq!(
        path.target(),
        Some(address(C)),
        "the earlier one comes too late"
    );
}

#[test]
fn with_nomination_numbers_the_highest_wins() {
    let numbered = |value, nomination| Said {
        nomination: Some(nomination),
        ..said(value)
    };
    let mut path = Path::new(&config("node", "peer", None), at(0));
    path.on_stun(address(A), at(0), &request("node", "peer", numbered(1, 5)));
    assert_eq!(path.target(), Some(address(A)));
    let out = drain(&mut path);
    answer_all(&mut path, &out, "peer", at(1));
    path.on_stun(address(B), at(10), &request("node", "peer", numbered(2, 4)));
    let out = drain(&mut path);
    answer_all(&mut path, &out, "peer", at(11));
    assert_eq!(path.target(), Some(address(A)), "an older nomination");
    path.on_stun(address(B), at(20), &request("node", "peer", numbered(3, 6)));
    assert_eq!(path.target(), Some(address(B)));
}

#[test]
fn a_copy_of_a_check_teaches_nothing() {
    let mut path = kept(A);
    let check = request("node", "peer", nominating(1));
    path.on_stun(address(A), at(100), &check);
    drain(&mut path);
    path.on_stun(address(C), at(101), &check);
    let out = drain(&mut path);
    assert_eq!(out.codes(), [200]);
    assert!(out.requests.is_empty() && !path.accepts(address(C)));
    let sent: usize = out.answers.iter().map(|(_, octets)| octets.len()).sum();
    assert!(sent <= check.len());
    run(&mut path, at(3_000));
    path.on_stun(address(C), at(3_000), &check);
    assert_eq!(
        path.target(),
        Some(address(A)),
        "also when the path is unheard"
    );
}

#[test]
fn role_conflicts_are_settled_by_the_tie_breaker() {
    // we are controlling, ours, the peer's role and number, our answer, we are controlling then
    let table = [
        (true, 500, Role::Controlling(500), 487, true),
        (true, 500, Role::Controlling(499), 487, true),
        (true, 500, Role::Controlling(501), 200, false),
        (false, 500, Role::Controlled(500), 200, true),
        (false, 500, Role::Controlled(499), 200, true),
        (false, 500, Role::Controlled(501), 487, false),
        (true, 500, Role::Controlled(900), 200, true),
        (false, 500, Role::Controlling(900), 200, false),
    ];
    for (is_controlling, tie_breaker, role, code, then) in table {
        let mut path = Path::new(
            &PathConfig {
                is_controlling,
                tie_breaker,
                ..config("node", "peer", Some(A))
            },
            at(0),
        );
        drain(&mut path);
        path.on_stun(
            address(A),
            at(1),
            &request("node", "peer", Said { role, ..said(1) }),
        );
        let out = drain(&mut path);
        assert_eq!(out.codes(), [code], "{is_controlling} {role:?}");
        assert_eq!(path.is_controlling, then, "{is_controlling} {role:?}");
        let answer = Message::read(&out.answers[0].1).unwrap();
        assert!(answer.is_authentic(&key("node")), "RFC 8489 §9.1.3");
    }
    println!("{} role conflicts (RFC 8445 §7.3.1.1)", table.len());
}

#[test]
fn a_487_switches_our_role_once_and_the_check_is_repeated() {
    for is_controlling in [true, false] {
        let mut path = Path::new(
            &PathConfig {
                is_controlling,
                ..config("node", "peer", Some(A))
            },
            at(0),
        );
        path.on_time(at(50));
        let out = drain(&mut path);
        assert_eq!(out.requests.len(), 2);
        for (_, check) in &out.requests {
            path.on_stun(address(A), at(60), &refusal("peer", check, 487));
        }
        assert_eq!(
            path.is_controlling, !is_controlling,
            "once (RFC 8445 §7.2.5.1)"
        );
        let again = drain(&mut path);
        let check = Message::read(&again.requests[0].1).unwrap();
        assert_eq!(again.requests.len(), 1);
        assert_eq!(
            matches!(check.role, Some(Role::Controlling(_))),
            !is_controlling
        );
        assert_eq!(check.is_nominated, !is_controlling);
    }
}

#[test]
fn forged_and_foreign_answers_change_nothing() {
    let mut path = Path::new(&config("node", "peer", Some(A)), at(0));
    let out = drain(&mut path);
    let check = &out.requests[0].1;
    path.on_stun(address(A), at(1), &response("node", check, address(A)));
    path.on_stun(address(B), at(1), &response("peer", check, address(A)));
    path.on_stun(address(A), at(1), &refusal("node", check, 487));
    path.on_stun(address(A), at(1), &refusal("peer", check, 401));
    assert!(matches!(path.phase, Phase::Checking { .. }));
    assert!(!path.is_controlling && !path.accepts(address(B)));
    path.on_time(at(50));
    let out = drain(&mut path);
    path.on_stun(
        address(A),
        at(6_000),
        &response("peer", &out.requests[0].1, address(A)),
    );
    assert!(matches!(path.phase, Phase::Kept { .. }));
}

#[test]
fn consent_is_asked_for_every_4_to_6_s() {
    let mut path = kept(A);
    let mut last = at(1);
    let mut pauses = BTreeSet::new();
    for _ in 0..200 {
        let due = path.next_due().unwrap();
        path.on_time(due);
        let out = drain(&mut path);
        assert_eq!(out.requests.len(), 1);
        let pause = due.since(last);
        assert!(
            (4_000..=6_000).contains(&pause.as_millis()),
            "{pause:?} (RFC 7675 §5.1)"
        );
        pauses.insert(pause.as_millis());
        answer_all(&mut path, &out, "peer", due);
        last = due;
    }
    assert!(pauses.len() > 100, "randomised");
}

#[test]
fn a_lost_consent_check_is_followed_by_another() {
    for (to, first) in [("127.0.0.1:1000", 100), (A, 100)] {
        let mut path = kept(to);
        let due = path.next_due().unwrap();
        path.on_time(due);
        let numbers: BTreeSet<[u8; 12]> = drain(&mut path)
            .requests
            .iter()
            .chain(
                run(&mut path, due + Duration::from_millis(2_400))
                    .iter()
                    .flat_map(|(_, out)| &out.requests),
            )
            .map(|(_, octets)| Message::read(octets).unwrap().transaction.0)
            .collect();
        // After 100, 300, 700 ms, then each 500 ms (RFC 8489 §6.2.1).
        assert_eq!(numbers.len(), 7, "each has a number of its own, {first}");
        assert_eq!(path.target(), Some(address(to)));
    }
}

#[test]
fn without_a_round_trip_the_first_pause_is_500_ms_but_100_ms_on_loopback() {
    let fresh = RoundTrip::default();
    assert_eq!(fresh.pause(address(A)), Duration::from_millis(500));
    assert_eq!(
        fresh.pause(address("127.0.0.1:1")),
        Duration::from_millis(100)
    );
    assert_eq!(fresh.pause(address("[::1]:1")), Duration::from_millis(100));
    let mut measured = RoundTrip::default();
    for (sample, expected) in [(1, 100), (60, 127), (4_000, 500)] {
        measured.measure(Duration::from_millis(sample));
        let pause = measured.pause(address(A)).as_millis();
        assert!(pause.abs_diff(expected) <= 40, "{sample}: {pause}");
    }
}

#[test]
fn consent_ends_after_30_s_and_checks_go_on_for_ever() {
    let mut path = kept(A);
    let log = run(&mut path, at(600_000));
    let lost: Vec<Time> = log
        .iter()
        .filter(|(_, out)| out.events.contains(&PathOutput::Lost))
        .map(|(time, _)| *time)
        .collect();
    assert_eq!(lost, [at(30_001)], "RFC 7675 §5.1, once");
    assert_eq!(path.target(), None);
    let late: usize = log
        .iter()
        .filter(|(time, _)| *time > at(590_000))
        .map(|(_, out)| out.requests.len())
        .sum();
    assert_eq!(late, 20, "one each 500 ms");
    path.on_time(at(600_400));
    drain(&mut path);
    // Any valid check revives it.
    path.on_stun(address(A), at(600_450), &request("node", "peer", said(1)));
    assert_eq!(
        drain(&mut path).events,
        [PathOutput::Revived { remote: address(A) }]
    );
    assert_eq!(path.target(), Some(address(A)));
}

#[test]
fn a_resume_checks_everything_at_once_then_each_50_ms_then_each_500_ms() {
    let mut path = Path::new(&config("node", "peer", Some(A)), at(0));
    path.add_remote_candidate(address(B), at(0));
    path.add_remote_candidate(address(C), at(0));
    assert_eq!(path.target(), Some(address(A)), "media goes at once");
    assert_eq!(drain(&mut path).requests.len(), 3);
    let log = run(&mut path, at(10_000));
    let to_selected: Vec<u64> = log
        .iter()
        .filter(|(_, out)| out.checked().contains(&address(A)))
        .map(|(time, _)| time.as_micros() / 1_000)
        .collect();
    assert_eq!(to_selected[..3], [50, 100, 150]);
    assert_eq!(
        to_selected.iter().filter(|time| **time <= 1_000).count(),
        20
    );
    assert_eq!(to_selected[20..24], [1_100, 1_300, 1_700, 2_200]);
    let others: usize = log.iter().map(|(_, out)| out.checked().len() - 1).sum();
    assert!(others > 40, "{others}");
}

#[test]
fn a_resume_moves_to_another_address_only_when_the_old_one_is_silent() {
    let mut path = Path::new(&config("node", "peer", Some(A)), at(0));
    drain(&mut path);
    path.on_stun(address(B), at(100), &request("node", "peer", said(1)));
    let out = drain(&mut path);
    assert!(out.checked().contains(&address(B)), "RFC 8445 §7.3.1.4");
    for (to, check) in &out.requests {
        if *to == address(B) {
            path.on_stun(*to, at(110), &response("peer", check, address(A)));
        }
    }
    assert_eq!(path.target(), Some(address(A)));
    assert!(path.accepts(address(B)));
    let mut moved = None;
    while moved.is_none() {
        let due = path.next_due().unwrap();
        path.on_time(due);
        let out = drain(&mut path);
        if path.target() == Some(address(B)) {
            moved = Some((due, out.events));
        }
        assert!(due < at(5_000), "it moves");
    }
    let (time, events) = moved.unwrap();
    assert!(time >= at(2_500) && time <= at(3_000), "{time}");
    assert_eq!(events, [PathOutput::Selected { remote: address(B) }]);
}

#[test]
fn a_resume_that_remembers_nothing_takes_the_first_that_answers() {
    let mut path = Path::new(&config("node", "peer", None), at(0));
    path.add_remote_candidate(address(B), at(0));
    let out = drain(&mut path);
    answer_all(&mut path, &out, "peer", at(20));
    assert_eq!(path.target(), Some(address(B)));
    // An un-nominated check is enough, too.
    let mut path = Path::new(&config("node", "peer", None), at(0));
    path.on_stun(address(C), at(10), &request("node", "peer", said(1)));
    assert_eq!(path.target(), None);
    let out = drain(&mut path);
    answer_all(&mut path, &out, "peer", at(20));
    assert_eq!(path.target(), Some(address(C)));
}

#[test]
fn candidates_are_bounded_and_not_checked_while_the_path_is_kept() {
    let mut path = kept(A);
    for port in 1..=100 {
        path.add_remote_candidate(SocketAddr::new(address(B).ip(), port), at(10));
    }
    path.add_remote_candidate(SocketAddr::new(address(B).ip(), 0), at(10));
    assert_eq!(path.candidates.len(), ICE_CANDIDATES_MAX);
    assert!(drain(&mut path).requests.is_empty());
    let out: usize = run(&mut path, at(60_000))
        .iter()
        .map(|(_, out)| out.checked().len())
        .sum();
    assert!(out > 100, "but when it is lost");
}

#[test]
fn an_ice_restart_keeps_the_old_path_until_the_new_one_is_there() {
    let mut path = kept(A);
    path.restart(&config("node2", "peer2", None), at(1_000));
    assert_eq!(path.target(), Some(address(A)));
    assert!(path.accepts(address(A)));
    let out = drain(&mut path);
    assert!(out.requests.iter().all(|(_, octets)| {
        Message::read(octets).unwrap().fragments() == Some(("peer2", "node2"))
    }));
    // Checks with the old credentials are answered with them, and select nothing.
    path.on_stun(
        address(A),
        at(1_100),
        &request("node", "peer", nominating(1)),
    );
    path.on_stun(
        address(C),
        at(1_100),
        &request("node", "peer", nominating(2)),
    );
    let out = drain(&mut path);
    assert_eq!(out.codes(), [200, 200]);
    assert!(
        Message::read(&out.answers[0].1)
            .unwrap()
            .is_authentic(&key("node"))
    );
    assert!(out.events.is_empty() && !path.accepts(address(C)));
    // The new path.
    path.on_stun(
        address(B),
        at(1_200),
        &request("node2", "peer2", nominating(3)),
    );
    let out = drain(&mut path);
    assert!(out.checked().contains(&address(B)));
    assert_eq!(path.target(), Some(address(A)), "not proven yet");
    for (to, check) in &out.requests {
        if *to == address(B) {
            path.on_stun(*to, at(1_210), &response("peer2", check, address(A)));
        }
    }
    assert_eq!(
        drain(&mut path).events,
        [PathOutput::Selected { remote: address(B) }]
    );
    // The old credentials end.
    run(&mut path, at(31_500));
    path.on_stun(address(A), at(31_500), &request("node", "peer", said(4)));
    assert_eq!(drain(&mut path).codes(), [401]);
}

#[test]
fn an_ice_restart_of_a_peer_that_keeps_its_port_moves_nothing() {
    let mut path = kept(A);
    path.restart(&config("node2", "peer2", None), at(1_000));
    let out = drain(&mut path);
    answer_all(&mut path, &out, "peer2", at(1_010));
    assert_eq!(path.target(), Some(address(A)));
    assert!(matches!(path.phase, Phase::Kept { .. }));
}

#[test]
fn an_ice_restart_that_nobody_follows_ends_with_the_old_consent() {
    let mut path = kept(A);
    path.restart(&config("node2", "peer2", None), at(10_000));
    let log = run(&mut path, at(40_000));
    let lost = log
        .iter()
        .find(|(_, out)| out.events.contains(&PathOutput::Lost))
        .map(|(time, _)| *time);
    assert_eq!(lost, Some(at(30_001)));
    assert_eq!(path.target(), None);
}

#[test]
fn credentials_of_the_peer_may_come_later() {
    let without = PathConfig {
        remote: None,
        ..config("node", "peer", None)
    };
    let mut path = Path::new(&without, at(0));
    path.add_remote_candidate(address(B), at(0));
    path.on_stun(address(A), at(1), &request("node", "peer", nominating(1)));
    let out = drain(&mut path);
    assert_eq!(out.codes(), [200]);
    assert!(out.requests.is_empty());
    assert_eq!(path.target(), Some(address(A)));
    assert!(path.next_due().is_some_and(|due| due > at(20_000)));
    path.restart(&config("node", "peer", None), at(300));
    let out = drain(&mut path);
    assert_eq!(out.checked(), [address(A), address(B)].into());
    answer_all(&mut path, &out, "peer", at(310));
    assert!(matches!(path.phase, Phase::Kept { .. }));
    assert!(path.previous.is_none() && path.target() == Some(address(A)));
}

#[test]
fn as_controlling_we_nominate_what_we_selected() {
    let mut path = Path::new(
        &PathConfig {
            is_controlling: true,
            ..config("node", "peer", None)
        },
        at(0),
    );
    path.add_remote_candidate(address(A), at(0));
    let out = drain(&mut path);
    assert!(!Message::read(&out.requests[0].1).unwrap().is_nominated);
    answer_all(&mut path, &out, "peer", at(10));
    assert_eq!(path.target(), Some(address(A)));
    let out = drain(&mut path);
    let check = Message::read(&out.requests[0].1).unwrap();
    assert!(check.is_nominated, "RFC 8445 §8.1.1");
    assert_eq!(check.role, Some(Role::Controlling(500)));
    // A controlled peer does not nominate.
    let said = Said {
        role: Role::Controlled(1),
        ..nominating(1)
    };
    path.on_stun(address(B), at(20), &request("node", "peer", said));
    assert_eq!(path.target(), Some(address(A)));
}

#[test]
fn ten_thousand_strangers_change_nothing_and_are_not_amplified() {
    let mut path = kept(A);
    let (mut octets_in, mut octets_out, mut answers) = (0, 0, 0);
    for index in 0..10_000u32 {
        let now = at(10 + u64::from(index) / 10);
        let from = SocketAddr::new(std::net::Ipv4Addr::from(0x0B00_0000 + index).into(), 999);
        let value = u64::from(index);
        let packet = match index % 2 {
            0 => request("nodx", "peer", nominating(value)),
            _ => forged("node", value),
        };
        octets_in += packet.len();
        path.on_stun(from, now, &packet);
        let out = drain(&mut path);
        assert!(out.requests.is_empty() && out.events.is_empty());
        for (to, octets) in out.answers {
            assert!(to == from && octets.len() <= packet.len());
            octets_out += octets.len();
            answers += 1;
        }
        assert!(!path.accepts(from));
    }
    assert!(answers <= 2 * PATH_REFUSALS_PER_S_MAX, "{answers}");
    assert_eq!(path.remotes.len(), 1);
    assert_eq!(path.target(), Some(address(A)));
    println!("forged: 10000 sources, {octets_in} octets in, {octets_out} out, {answers} answers");
}

#[test]
fn ten_thousand_sources_of_copies_and_of_valid_checks_stay_bounded() {
    let mut path = kept(A);
    let copied = request("node", "peer", nominating(1));
    path.on_stun(address(A), at(5), &copied);
    drain(&mut path);
    for index in 0..10_000u32 {
        let now = at(10 + u64::from(index) / 10);
        let from = SocketAddr::new(std::net::Ipv4Addr::from(0x0B00_0000 + index).into(), 999);
        path.on_stun(from, now, &copied);
        let out = drain(&mut path);
        let sent: usize = out.answers.iter().map(|(_, octets)| octets.len()).sum();
        assert!(out.requests.is_empty() && sent <= copied.len() && !path.accepts(from));
    }
    let mut checks = 0;
    for index in 0..10_000u32 {
        let now = at(1_100 + u64::from(index) / 10);
        let from = SocketAddr::new(std::net::Ipv4Addr::from(0x0C00_0000 + index).into(), 999);
        let packet = request("node", "peer", nominating(u64::from(index) + 10));
        path.on_stun(from, now, &packet);
        let out = drain(&mut path);
        checks += out.requests.len();
        let sent: usize = out.answers.iter().map(|(_, octets)| octets.len()).sum();
        assert!(sent <= packet.len());
        assert!(path.remotes.len() <= PATH_REMOTES_MAX && path.pending.len() <= PATH_PENDING_MAX);
        assert!(path.known().len() <= PATH_REMOTES_MAX + ICE_CANDIDATES_MAX + 1);
    }
    assert!(checks <= 202, "{checks}: one each 5 ms");
    assert_eq!(path.target(), Some(address(A)), "none has proven anything");
    assert!(path.accepts(address(A)));
    println!("copies and valid checks of 20000 sources: {checks} checks of ours in 1 s");
}

#[test]
fn outputs_that_nobody_takes_are_bounded() {
    let mut path = kept(A);
    for index in 0..1_000 {
        let to = if index % 2 == 0 { A } else { B };
        path.on_stun(
            address(to),
            at(index * 10),
            &request("node", "peer", nominating(index)),
        );
    }
    assert!(path.sends.len() <= PATH_SENDS_MAX && path.events.len() <= EVENTS_MAX);
    let transactions = path.pending.len();
    assert!(transactions <= PATH_PENDING_MAX);
    let mut seen = Seen::default();
    for value in 0..100 {
        assert!(!seen.is_copy(number(value), address(A)));
    }
    let oldest = 100 - PATH_SEEN_MAX as u64;
    assert!(seen.is_copy(number(oldest), address(B)));
    assert!(!seen.is_copy(number(oldest - 1), address(B)), "forgotten");
}

#[test]
fn the_same_script_gives_the_same_octets() {
    let script = || {
        let mut path = Path::new(&config("node", "peer", Some(A)), at(0));
        path.on_stun(address(B), at(3), &request("node", "peer", nominating(1)));
        let mut octets = Vec::new();
        let first = drain(&mut path);
        let rest = run(&mut path, at(40_000));
        for out in std::iter::once(&first).chain(rest.iter().map(|(_, out)| out)) {
            for (_, packet) in out.requests.iter().chain(&out.answers) {
                octets.extend_from_slice(packet);
            }
        }
        octets
    };
    assert_eq!(script(), script());
}

#[test]
fn secrets_are_not_printed() {
    let path = kept(A);
    let shown = format!("{path:?} {:?}", config("node", "peer", None));
    assert!(!shown.contains("password-of"));
}

proptest! {
    /// Whatever comes from wherever, in whatever order: no panic, bounded tables, deadlines that
    /// lie ahead once they were served.
    #[test]
    fn noise_never_panics_and_never_moves_the_path(
        steps in proptest::collection::vec((0u64..400, 0usize..110, any::<u8>(), 0u16..40), 1..60),
    ) {
        let mut path = kept(A);
        let mut now = at(2);
        for (pause, place, value, port) in steps {
            now = now + Duration::from_millis(pause);
            let mut packet = request("node", "peer", nominating(pause));
            let place = place % packet.len();
            prop_assume!(packet[place] != value);
            packet[place] = value;
            path.on_stun(SocketAddr::new(address(B).ip(), port), now, &packet);
            path.on_time(now);
            let out = drain(&mut path);
            let octets: usize = out.answers.iter().map(|(_, octets)| octets.len()).sum();
            prop_assert!(octets <= packet.len());
            prop_assert!(path.next_due().is_none_or(|due| due > now));
            prop_assert!(path.target() == Some(address(A)) && path.remotes.len() <= 1);
        }
    }
}

#[test]
fn an_authentic_request_smaller_than_its_answer_gets_none_from_a_new_source() {
    let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
    let length = Writer::new(&mut buffer, Class::Request, number(1))
        .username("node", "p")
        .finish(Some(&key("node")))
        .unwrap();
    let small = &buffer[..length];
    let source = "[2001:db8::7]:4000";
    let mut path = Path::new(&config("node", "peer", None), at(0));
    path.on_stun(address(source), at(0), small);
    let out = drain(&mut path);
    assert!(out.answers.is_empty(), "threats.md 21");
    // Once it has answered a check of ours, it may have more.
    answer_all(&mut path, &out, "peer", at(1));
    path.on_stun(address(source), at(2), small);
    assert_eq!(drain(&mut path).codes(), [200]);
}

#[test]
fn old_credentials_end_even_if_no_deadline_was_served() {
    let mut path = kept(A);
    path.restart(&config("node2", "peer2", None), at(1_000));
    drain(&mut path);
    for (millis, code) in [(30_999, 200), (31_000, 401)] {
        path.on_stun(
            address(A),
            at(millis),
            &request("node", "peer", said(millis)),
        );
        assert_eq!(drain(&mut path).codes(), [code], "{millis}");
    }
}
