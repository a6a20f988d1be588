//! Protected legs in the table: what is learnt and when, which index goes out, what a restart keeps.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use contract::limits::{LATCH_PACKETS, SEQUENCE_BLOCK, SRTCP_BLOCK};
use contract::{
    CallKey, DtlsConfig, DtlsRole, IceConfig, IceCredentials, KeyMaterial, LegConfig, LegTransport,
    MediaEvent, MediaRoute, ReceivedIndex, ReserveBlock, Secret, SideKey, SrtpKeys, SrtpProfile,
    Time, WebrtcConfig,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::toy::{self, TAIL, ToyMaker};
use super::*;
use crate::rtp::{self, RtpHeader};

const PHONE: &str = "203.0.113.5:4000";
const PHONE_NAT: &str = "203.0.113.5:61234";
const CARRIER: &str = "198.51.100.9:7000";
const CARRIER_RTCP: &str = "198.51.100.9:7001";
const ATTACKER: &str = "192.0.2.66:666";
const OUR_KEY: &[u8] = b"ours toward the phone";
const PHONE_KEY: &[u8] = b"the phone's";

fn at(ms: u64) -> Time {
    Time::from_micros(1_000_000 + ms * 1_000)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

fn side(number: u8) -> SideKey {
    CallKey::from_bits(0x1234_5678_9abc << 64).side(number)
}

fn keys(ours: &[u8], theirs: &[u8]) -> SrtpKeys {
    SrtpKeys {
        profile: SrtpProfile::AesCm128HmacSha1_80,
        peer_profile: SrtpProfile::AesCm128HmacSha1_80,
        our_key: KeyMaterial::new(ours.to_vec()),
        our_salt: KeyMaterial::new(vec![]),
        peer_key: KeyMaterial::new(theirs.to_vec()),
        peer_salt: KeyMaterial::new(vec![]),
        rtcp_index_start: 0,
        received: Vec::new(),
    }
}

fn sdes(ours: &[u8], theirs: &[u8]) -> LegTransport {
    LegTransport::Sdes(Box::new(keys(ours, theirs)))
}

fn webrtc(keys: Option<SrtpKeys>) -> LegTransport {
    LegTransport::Webrtc(Box::new(WebrtcConfig {
        ice: IceConfig {
            local: IceCredentials {
                ufrag: "ours".to_owned(),
                pwd: Secret::new("a password of twenty-two".to_owned()),
            },
            remote: None,
            candidates: Vec::new(),
            is_controlling: false,
            tie_breaker: 1,
            selected: None,
            seed: 1,
        },
        dtls: DtlsConfig {
            role: DtlsRole::Passive,
            fingerprints: Vec::new(),
            profiles: SrtpProfile::ALL.to_vec(),
        },
        association: 1,
        keys: keys.map(Box::new),
    }))
}

fn config(remote: &str, to: SideKey, transport: LegTransport) -> LegConfig {
    LegConfig {
        remote: Some(address(remote)),
        remote_rtcp: None,
        sip_source: Some(address(remote).ip()),
        nat: false,
        negotiation: 1,
        sends: true,
        receives: true,
        payloads: vec![(0, 0), (101, 110)],
        ssrc: 0x0aaa_0001,
        sequence_start: 65_000,
        rollover_start: 0,
        sequence_reserved: SEQUENCE_BLOCK,
        timestamp_start: 1_000_000,
        dtmf_payload: Some(101),
        dtmf_send_payload: Some(101),
        clock_rate: 8_000,
        route: MediaRoute::Relay(to),
        timeout: None,
        rtcp_mux: false,
        transport,
    }
}

/// The phone (side 1, protected unless a test says otherwise) and the carrier (side 2, plain).
struct Rig {
    table: RelayTable,
    phone: LegConfig,
    carrier: LegConfig,
}

impl Rig {
    fn new(change: impl FnOnce(&mut LegConfig, &mut LegConfig)) -> Rig {
        let mut phone = config(PHONE, side(2), sdes(OUR_KEY, PHONE_KEY));
        let mut carrier = config(CARRIER, side(1), LegTransport::Plain);
        carrier.ssrc = 0x0bee_f001;
        change(&mut phone, &mut carrier);
        let mut rig = Rig {
            table: RelayTable::new(Arc::new(ToyMaker)),
            phone,
            carrier,
        };
        rig.table.open(side(1)).expect("free");
        rig.table.open(side(2)).expect("free");
        rig.configure(0);
        rig
    }

    fn configure(&mut self, ms: u64) {
        for (number, config) in [(1, &self.phone), (2, &self.carrier)] {
            let done = self.table.configure(side(number), config, at(ms));
            done.expect("a good configuration");
        }
    }

    fn give(
        &mut self,
        leg: SideKey,
        from: &str,
        ms: u64,
        octets: &[u8],
        is_rtcp: bool,
    ) -> (Verdict, Vec<u8>) {
        let mut buffer = octets.to_vec();
        buffer.resize(octets.len() + SRTP_TAIL_BYTES, 0xee);
        let from = address(from);
        let verdict = if is_rtcp {
            self.table
                .on_rtcp(leg, from, at(ms), &mut buffer, octets.len())
        } else {
            self.table
                .on_packet(leg, from, at(ms), &mut buffer, octets.len())
        };
        let length = match verdict {
            Verdict::Forward { length, .. } | Verdict::Reflect { length, .. } => length,
            Verdict::Drop(_) => 0,
        };
        buffer.truncate(length);
        (verdict, buffer)
    }

    /// A protected packet of the phone.
    fn phone(&mut self, from: &str, ms: u64, number: u16) -> (Verdict, Vec<u8>) {
        let octets = toy::protect(PHONE_KEY, &packet(number), number.into());
        self.give(side(1), from, ms, &octets, false)
    }

    /// A plain packet of the carrier, as it reaches the phone: its index.
    fn carrier(&mut self, ms: u64, number: u16) -> Result<(RtpHeader, u64), DropReason> {
        let (verdict, octets) = self.give(side(2), CARRIER, ms, &packet(number), false);
        if let Verdict::Drop(reason) = verdict {
            return Err(reason);
        }
        let (plain, index) = toy::read(OUR_KEY, &octets).expect("protected with our key");
        Ok((RtpHeader::read(&plain).expect("rtp"), index))
    }

    fn events(&mut self) -> Vec<MediaEvent> {
        std::iter::from_fn(|| self.table.poll_event())
            .map(|(_, event)| event)
            .collect()
    }

    fn reserves(&mut self) -> Vec<(ReserveBlock, Vec<ReceivedIndex>)> {
        let mut asked = Vec::new();
        for event in self.events() {
            if let MediaEvent::Reserve {
                block, received, ..
            } = event
            {
                asked.push((block, received));
            }
        }
        asked
    }
}

fn packet(number: u16) -> Vec<u8> {
    let mut head = [0; rtp::HEADER_BYTES];
    let timestamp = u32::from(number) * 160;
    rtp::write_header(&mut head, false, 0, number, timestamp, 0x0505_0505);
    head.into_iter().chain([0xd5; 160]).collect()
}

fn report(ssrc: u32) -> Vec<u8> {
    [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat()
}

fn dropped(reason: DropReason) -> Verdict {
    Verdict::Drop(reason)
}

#[test]
fn protection_ends_at_the_leg_and_begins_at_the_other() {
    let mut rig = Rig::new(|_, _| {});
    let (verdict, octets) = rig.phone(PHONE, 0, 7);
    let to_carrier = Verdict::Forward {
        to_leg: side(2),
        to: address(CARRIER),
        length: 172,
        is_rtcp: false,
    };
    assert_eq!(verdict, to_carrier);
    let header = RtpHeader::read(&octets).expect("plain to the carrier");
    assert_eq!((header.ssrc, header.sequence), (0x0bee_f001, 65_000));
    assert_eq!(header.payload(&octets), [0xd5; 160]);
    let (header, index) = rig.carrier(0, 9).expect("sent");
    assert_eq!((header.ssrc, index), (0x0aaa_0001, 65_000));
    assert_eq!(rig.table.counters(side(1)).expect("open").srtp_packets, 2);

    // Both protected, each with keys of its own.
    let mut rig = Rig::new(|_, carrier| carrier.transport = sdes(b"second", b"the carrier's"));
    let (_, octets) = rig.phone(PHONE, 0, 7);
    let (plain, index) = toy::read(b"second", &octets).expect("under the carrier's leg's key");
    assert_eq!((&plain[12..], index), (&[0xd5; 160][..], 65_000));
    assert_eq!(rig.table.counters(side(2)).expect("open").octets_out, 172);
}

#[test]
fn nothing_is_learnt_from_what_is_not_authentic() {
    let mut rig = Rig::new(|phone, _| {
        phone.nat = true;
        phone.timeout = Some(std::time::Duration::from_secs(60));
    });
    let due = rig.table.next_deadline();
    for number in 0..100 {
        // Of the phone's own address, of another port of it, of a stranger.
        for from in [PHONE, PHONE_NAT, ATTACKER] {
            let forged = toy::protect(b"a guess", &packet(number), number.into());
            let (verdict, _) = rig.give(side(1), from, number.into(), &forged, false);
            assert_eq!(verdict, dropped(DropReason::Unprotected));
            let plain = rig
                .give(side(1), from, number.into(), &packet(number), false)
                .0;
            assert_eq!(plain, dropped(DropReason::Unprotected));
        }
        let forged = toy::protect(b"a guess", &report(7), number.into());
        let (verdict, _) = rig.give(side(1), "203.0.113.5:4001", 5, &forged, true);
        assert_eq!(verdict, dropped(DropReason::Unprotected));
    }
    assert_eq!(rig.table.target(side(1)), Some(address(PHONE)));
    assert_eq!(rig.events(), []);
    assert_eq!(rig.table.next_deadline(), due, "nobody was heard");
    let counters = rig.table.counters(side(1)).expect("open");
    assert_eq!(
        (counters.unprotected, counters.packets_in, counters.refused),
        (700, 0, 0)
    );
    assert_eq!(rig.table.dropped(DropReason::Unprotected), 700);
    // The phone behind its NAT wins with five authentic packets, and nobody had to be beaten.
    for number in 0..u16::from(LATCH_PACKETS) {
        rig.phone(PHONE_NAT, 200 + u64::from(number), number);
    }
    assert_eq!(rig.table.target(side(1)), Some(address(PHONE_NAT)));
    let latched = MediaEvent::Latched {
        to: address(PHONE_NAT),
    };
    assert!(rig.events().contains(&latched));
    // A replay from elsewhere is refused before it reaches the window, so the real one passes.
    let copy = toy::protect(PHONE_KEY, &packet(6), 6);
    let refused = rig.give(side(1), ATTACKER, 300, &copy, false).0;
    assert_eq!(refused, dropped(DropReason::WrongSource));
    let real = rig.give(side(1), PHONE_NAT, 301, &copy, false).0;
    assert!(matches!(real, Verdict::Forward { .. }));
    let again = rig.give(side(1), PHONE_NAT, 302, &copy, false).0;
    assert_eq!(again, dropped(DropReason::Unprotected));
}

#[test]
fn a_webrtc_leg_waits_for_its_keys_and_its_path() {
    let mut rig = Rig::new(|phone, _| phone.transport = webrtc(None));
    assert_eq!(rig.phone(PHONE, 0, 0).0, dropped(DropReason::Unkeyed));
    let plain = rig.give(side(1), PHONE, 0, &packet(0), false).0;
    assert_eq!(plain, dropped(DropReason::Unkeyed));
    let rtcp = rig.give(side(1), PHONE, 0, &report(1), false).0;
    assert_eq!(rtcp, dropped(DropReason::Unkeyed));
    assert_eq!(rig.carrier(0, 0), Err(DropReason::NoTarget));
    rig.table.set_target(side(1), Some(address(PHONE_NAT)));
    assert_eq!(rig.carrier(1, 1), Err(DropReason::Unkeyed));
    let from_carrier = rig.give(side(2), CARRIER_RTCP, 1, &report(1), true).0;
    assert_eq!(from_carrier, dropped(DropReason::Unkeyed));

    rig.phone.transport = webrtc(Some(keys(OUR_KEY, PHONE_KEY)));
    rig.configure(10);
    assert_eq!(rig.table.target(side(1)), Some(address(PHONE_NAT)));
    let (header, index) = rig.carrier(20, 2).expect("sent");
    assert_eq!(
        (header.sequence, index),
        (65_000, 65_000),
        "none was used up"
    );
    // Any source that the caller gives is the peer's; the target is the path core's choice alone.
    for number in 0..10 {
        let (verdict, _) = rig.phone("192.0.2.9:9", 30 + u64::from(number), number);
        assert!(matches!(verdict, Verdict::Forward { .. }));
    }
    assert_eq!(rig.table.target(side(1)), Some(address(PHONE_NAT)));
    assert!(
        !rig.events()
            .iter()
            .any(|event| matches!(event, MediaEvent::Latched { .. }))
    );
    // RTCP comes and goes on the RTP port.
    let protected = toy::protect(PHONE_KEY, &report(0x0505_0505), 1);
    let (verdict, octets) = rig.give(side(1), "192.0.2.9:9", 50, &protected, false);
    let expected = Verdict::Forward {
        to_leg: side(2),
        to: address(CARRIER_RTCP),
        length: 8,
        is_rtcp: true,
    };
    assert_eq!((verdict, octets.len()), (expected, 8));
    let (verdict, octets) = rig.give(side(2), CARRIER_RTCP, 60, &report(1), true);
    let expected = Verdict::Forward {
        to_leg: side(1),
        to: address(PHONE_NAT),
        length: 8 + TAIL,
        is_rtcp: false,
    };
    assert_eq!(verdict, expected);
    let (plain, index) = toy::read(OUR_KEY, &octets).expect("protected");
    assert_eq!((plain, index), (report(0x0aaa_0001), 1));
    rig.table.set_target(side(1), None);
    assert_eq!(rig.carrier(70, 3), Err(DropReason::NoTarget));
}

#[test]
fn multiplexed_rtcp_of_a_phone_is_told_apart() {
    let mut rig = Rig::new(|phone, carrier| {
        phone.rtcp_mux = true;
        carrier.rtcp_mux = true;
    });
    rig.phone(PHONE, 0, 0);
    let protected = toy::protect(PHONE_KEY, &report(0x0505_0505), 1);
    let (verdict, _) = rig.give(side(1), PHONE, 1, &protected, false);
    let expected = Verdict::Forward {
        to_leg: side(2),
        to: address(CARRIER),
        length: 8,
        is_rtcp: false,
    };
    assert_eq!(verdict, expected);
    let stranger = rig.give(side(1), ATTACKER, 2, &protected, false).0;
    assert_eq!(stranger, dropped(DropReason::WrongSource));
}

#[test]
fn either_block_is_asked_for_and_stops_at_its_end() {
    let mut rig = Rig::new(|_, _| {});
    rig.phone(PHONE, 0, 77);
    let mut asked = Vec::new();
    let mut refused = None;
    for number in 0..SEQUENCE_BLOCK + 10 {
        match rig.carrier(u64::from(number) * 20, number) {
            Ok((_, index)) => assert_eq!(index, 65_000 + u64::from(number)),
            Err(reason) => {
                refused.get_or_insert((number, reason));
            }
        }
        asked.extend(rig.reserves().into_iter().map(|block| (number, block)));
    }
    let end = 65_000_u16.wrapping_add(2 * SEQUENCE_BLOCK);
    let block = ReserveBlock {
        sequence_end: end,
        rtcp_index_end: SRTCP_BLOCK,
    };
    let known = ReceivedIndex {
        ssrc: 0x0505_0505,
        index: 77,
    };
    let three_quarters = SEQUENCE_BLOCK / 4 * 3 - 1;
    assert_eq!(asked, [(three_quarters, (block, vec![known]))]);
    assert_eq!(
        refused,
        Some((SEQUENCE_BLOCK, DropReason::ReserveExhausted))
    );
    // Another block than the one that was asked for allows nothing.
    for (number, wrong) in [
        ReserveBlock::default(),
        ReserveBlock {
            sequence_end: end.wrapping_sub(1),
            ..block
        },
    ]
    .into_iter()
    .enumerate()
    {
        rig.table.reserved(side(1), wrong);
        assert_eq!(
            rig.carrier(60_000, SEQUENCE_BLOCK + 20 + number as u16),
            Err(DropReason::ReserveExhausted)
        );
    }
    rig.table.reserved(side(1), block);
    let (header, index) = rig
        .carrier(60_020, SEQUENCE_BLOCK + 23)
        .expect("allowed again");
    // The numbers have rolled over, and the index says so.
    assert!(index > 65_536 && header.sequence == index as u16, "{index}");

    // SRTCP of the same leg.
    let mut sent = 0;
    let mut asked = Vec::new();
    for number in 0..SRTCP_BLOCK + 10 {
        let ms = 100_000 + u64::from(number);
        match rig.give(side(2), CARRIER_RTCP, ms, &report(3), true) {
            (Verdict::Drop(reason), _) => assert_eq!(reason, DropReason::ReserveExhausted),
            (_, octets) => {
                sent += 1;
                let index = toy::read(OUR_KEY, &octets).expect("protected").1;
                assert_eq!(index, u64::from(sent));
            }
        }
        asked.extend(rig.reserves().into_iter().map(|(block, _)| (number, block)));
    }
    let block = ReserveBlock {
        sequence_end: end,
        rtcp_index_end: 2 * SRTCP_BLOCK,
    };
    assert_eq!(asked, [(SRTCP_BLOCK / 4 * 3 - 2, block)]);
    assert_eq!(sent, SRTCP_BLOCK - 1, "the first index is 1");
    rig.table.reserved(side(1), block);
    let (verdict, octets) = rig.give(side(2), CARRIER_RTCP, 200_000, &report(3), true);
    assert!(matches!(verdict, Verdict::Forward { .. }));
    let index = toy::read(OUR_KEY, &octets).expect("protected").1;
    assert_eq!(index, u64::from(SRTCP_BLOCK));
}

#[test]
fn streams_go_on_over_configurations_and_keys_that_come_back() {
    let mut rig = Rig::new(|_, _| {});
    rig.phone(PHONE, 0, 5);
    assert_eq!(rig.carrier(0, 0).expect("sent").1, 65_000);
    // A new negotiation with the same keys.
    rig.phone.negotiation = 2;
    rig.configure(10);
    assert_eq!(rig.carrier(20, 1).expect("sent").1, 65_001);
    assert_eq!(
        rig.phone(PHONE, 20, 5).0,
        dropped(DropReason::Unprotected),
        "the window went on"
    );
    // Only the peer's key is new: ours go on.
    rig.phone.transport = sdes(OUR_KEY, b"the phone's second");
    rig.configure(30);
    assert_eq!(rig.carrier(40, 2).expect("sent").1, 65_002);
    // Only ours is new: it starts anew, the peer's window stays.
    rig.phone.transport = sdes(b"another", b"the phone's second");
    rig.configure(50);
    let (_, octets) = rig.give(side(2), CARRIER, 60, &packet(3), false);
    assert_eq!(toy::read(b"another", &octets).expect("new key").1, 65_000);
    // The former key comes back with its former numbers: none of them is used again.
    rig.phone.transport = sdes(OUR_KEY, PHONE_KEY);
    rig.configure(70);
    assert_eq!(rig.carrier(80, 4).expect("sent").1, 65_003);
    // Over a time without protection too.
    rig.phone.transport = LegTransport::Plain;
    rig.configure(90);
    let (verdict, octets) = rig.give(side(2), CARRIER, 100, &packet(5), false);
    assert!(matches!(verdict, Verdict::Forward { length: 172, .. }) && octets.len() == 172);
    rig.phone.transport = sdes(OUR_KEY, PHONE_KEY);
    rig.configure(110);
    assert_eq!(rig.carrier(120, 6).expect("sent").1, 65_004);
    // Other numbers under the same key: whichever is later.
    rig.phone.sequence_start = 100;
    rig.configure(130);
    assert_eq!(rig.carrier(140, 7).expect("sent").1, 65_005);
    rig.phone.rollover_start = 2;
    rig.configure(150);
    assert_eq!(rig.carrier(160, 8).expect("sent").1, 2 << 16 | 100);
}

#[test]
fn keys_that_cannot_be_used_leave_the_leg_as_it_was() {
    let mut rig = Rig::new(|_, _| {});
    let mut bad = rig.phone.clone();
    bad.transport = sdes(b"", PHONE_KEY);
    bad.remote = Some(address(ATTACKER));
    let error = rig.table.configure(side(1), &bad, at(0));
    let cause = SrtpError::KeyLength(SrtpProfile::AesCm128HmacSha1_80);
    let leg = side(1);
    assert_eq!(error, Err(TableError::Srtp { leg, cause }));
    assert_eq!(rig.table.target(side(1)), Some(address(PHONE)));
    assert_eq!(rig.carrier(0, 0).expect("sent").1, 65_000);
}

#[test]
fn a_packet_without_room_behind_it_is_not_sent() {
    let mut rig = Rig::new(|_, _| {});
    let mut tight = packet(0);
    let length = tight.len();
    let verdict = rig
        .table
        .on_packet(side(2), address(CARRIER), at(0), &mut tight, length);
    assert_eq!(verdict, dropped(DropReason::Unprotectable));
    assert_eq!(rig.carrier(20, 1).expect("sent").1, 65_001);
}

#[test]
fn ten_restarts_in_a_row_use_no_index_twice() {
    let mut rig = Rig::new(|_, _| {});
    let mut recorded = ReserveBlock {
        sequence_end: 65_000_u16.wrapping_add(SEQUENCE_BLOCK),
        rtcp_index_end: SRTCP_BLOCK,
    };
    let (mut highest, mut jumps, mut number) = (64_999_u64, 0, 0_u16);
    for restart in 0..10_u16 {
        for _ in 0..40 + restart * 170 {
            number += 1;
            let (_, index) = rig.carrier(u64::from(number) * 20, number).expect("sent");
            assert!(index > highest, "{index} after {highest}");
            jumps += index - highest - 1;
            highest = index;
            for (block, _) in rig.reserves() {
                recorded = block;
                rig.table.reserved(side(1), block);
            }
        }
        // The node dies; what was recorded last is all it knows.
        let end = recorded.sequence_end;
        let has_wrapped = end < rig.phone.sequence_start;
        rig.phone.rollover_start += u32::from(has_wrapped);
        rig.phone.sequence_start = end;
        let mut keys = keys(OUR_KEY, PHONE_KEY);
        keys.rtcp_index_start = recorded.rtcp_index_end;
        rig.phone.transport = LegTransport::Sdes(Box::new(keys));
        recorded = ReserveBlock {
            sequence_end: end.wrapping_add(SEQUENCE_BLOCK),
            rtcp_index_end: recorded.rtcp_index_end + SRTCP_BLOCK,
        };
        let (phone, carrier) = (rig.phone.clone(), rig.carrier.clone());
        rig = Rig::new(|new_phone, new_carrier| {
            *new_phone = phone;
            *new_carrier = carrier;
        });
    }
    // No single jump over 2,560; all of them under half of the numbers (`browser.md`, rule 5).
    assert!(jumps < 10 * 2_560, "{jumps}");
    println!("ten restarts: {jumps} numbers skipped");
}

#[derive(Clone, Debug)]
enum Step {
    Send(u16),
    Report,
    Grant(bool),
    Key(u8),
    PeerKey(u8),
    Ssrc(u8),
    Start(u32, u16),
    Plain,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_u16..700).prop_map(Step::Send),
        4 => Just(Step::Report),
        4 => any::<bool>().prop_map(Step::Grant),
        2 => (0_u8..3).prop_map(Step::Key),
        1 => (0_u8..3).prop_map(Step::PeerKey),
        1 => (0_u8..2).prop_map(Step::Ssrc),
        1 => (0_u32..3, any::<u16>()).prop_map(|(rollover, start)| Step::Start(rollover, start)),
        1 => Just(Step::Plain),
        2 => Just(Step::Restart),
    ];
    vec(step, 1..60)
}

/// What a media leg records of one key and SSRC: the end of the last block.
type Records = std::collections::BTreeMap<(u8, u32), (u64, u32)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_key_ssrc_and_index_is_used_twice(steps in steps()) {
        let our_key = |number: u8| vec![b'k', number];
        let mut rig = Rig::new(|phone, _| phone.transport = sdes(&our_key(0), PHONE_KEY));
        let (mut key, mut peer_key, mut number, mut ms) = (0_u8, 0_u8, 0_u16, 0_u64);
        let mut used = BTreeSet::new();
        let mut records = Records::new();
        let mut pending = Vec::new();
        let first = |config: &LegConfig| u64::from(config.rollover_start) << 16 | u64::from(config.sequence_start);
        records.insert((0, rig.phone.ssrc), (first(&rig.phone) + u64::from(SEQUENCE_BLOCK), SRTCP_BLOCK));
        for step in steps {
            ms += 20;
            match step {
                Step::Send(count) => for _ in 0..count {
                    number = number.wrapping_add(1);
                    ms += 20;
                    let (verdict, octets) = rig.give(side(2), CARRIER, ms, &packet(number), false);
                    if matches!(verdict, Verdict::Drop(_)) || rig.phone.transport == LegTransport::Plain {
                        continue;
                    }
                    let (plain, index) = toy::read(&our_key(key), &octets).expect("the present key");
                    let ssrc = RtpHeader::read(&plain).expect("rtp").ssrc;
                    prop_assert!(used.insert((false, key, ssrc, index)), "{key} {ssrc} {index} again");
                    let end = records.get(&(key, ssrc)).map_or(0, |record| record.0);
                    prop_assert!(index < end, "{index} was not recorded, {end} was");
                },
                Step::Report => for _ in 0..300 {
                    let (verdict, octets) = rig.give(side(2), CARRIER_RTCP, ms, &report(9), true);
                    if matches!(verdict, Verdict::Drop(_)) || rig.phone.transport == LegTransport::Plain {
                        continue;
                    }
                    let (_, index) = toy::read(&our_key(key), &octets).expect("the present key");
                    prop_assert!(used.insert((true, key, rig.phone.ssrc, index)), "SRTCP {index} again");
                    let end = records.get(&(key, rig.phone.ssrc)).map_or(0, |record| record.1);
                    prop_assert!(index < u64::from(end), "SRTCP {index} was not recorded, {end} was");
                },
                Step::Grant(is_granted) => {
                    pending.extend(rig.reserves().into_iter().map(|(block, _)| block));
                    for block in pending.drain(..) {
                        if !is_granted || rig.phone.transport == LegTransport::Plain {
                            continue;
                        }
                        let record = records.get_mut(&(key, rig.phone.ssrc)).expect("in use");
                        let ahead = block.sequence_end.wrapping_sub(record.0 as u16);
                        if ahead <= SEQUENCE_BLOCK {
                            record.0 += u64::from(ahead);
                        }
                        record.1 = record.1.max(block.rtcp_index_end);
                        rig.table.reserved(side(1), block);
                    }
                    continue;
                }
                Step::Key(next) => key = next,
                Step::PeerKey(next) => peer_key = next,
                Step::Ssrc(next) => rig.phone.ssrc = 0x0aaa_0001 + u32::from(next),
                Step::Start(rollover, start) => {
                    rig.phone.rollover_start = rollover;
                    rig.phone.sequence_start = start;
                }
                Step::Plain => {
                    rig.phone.transport = LegTransport::Plain;
                    rig.configure(ms);
                    rig.events();
                    continue;
                }
                Step::Restart => {
                    // What is not recorded is lost; what is begins anew at its end.
                    let (phone, carrier) = (rig.phone.clone(), rig.carrier.clone());
                    rig = Rig::new(|new_phone, new_carrier| {
                        *new_phone = LegConfig { transport: LegTransport::Plain, ..phone };
                        *new_carrier = carrier;
                    });
                    // A media leg does not take up keys of before but the ones it uses.
                    let (end, rtcp_end) = records.get(&(key, rig.phone.ssrc)).copied().unwrap_or_default();
                    rig.phone.rollover_start = (end >> 16) as u32;
                    rig.phone.sequence_start = end as u16;
                    records.retain(|(known, ssrc), _| *known == key && *ssrc == rig.phone.ssrc);
                    used.retain(|(_, known, ssrc, _)| *known == key && *ssrc == rig.phone.ssrc);
                    records.insert((key, rig.phone.ssrc), (end, rtcp_end));
                }
            }
            // The configuration is recorded with its block before the plane has it.
            pending.clear();
            rig.events();
            let mut keys = keys(&our_key(key), &[b'p', peer_key]);
            let record = records.entry((key, rig.phone.ssrc)).or_default();
            let rtcp_start = keys.rtcp_index_start.max(if matches!(step, Step::Restart) { record.1 } else { 0 });
            keys.rtcp_index_start = rtcp_start;
            record.0 = record.0.max(first(&rig.phone) + u64::from(SEQUENCE_BLOCK));
            record.1 = record.1.max(rtcp_start + SRTCP_BLOCK);
            rig.phone.transport = LegTransport::Sdes(Box::new(keys));
            rig.configure(ms);
        }
    }
}
