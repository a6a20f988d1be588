//! Scripts of packets against the table: latching (threats.md 17), continuity, reserves, routes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use contract::limits::{LATCH_PACKETS, MEDIA_EVENTS_MAX, SEQUENCE_BLOCK};
use contract::{
    CallKey, FaultClass, LegConfig, LegCounters, LegTransport, MediaEvent, MediaRoute,
    ReserveBlock, SideKey, Time,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::rtp::{self, RtpHeader};

const PHONE: &str = "203.0.113.5:4000";
const PHONE_NAT: &str = "203.0.113.5:61234";
const CARRIER: &str = "198.51.100.9:7000";
const ATTACKER: &str = "192.0.2.66:666";

fn at(ms: u64) -> Time {
    Time::from_micros(1_000_000 + ms * 1_000)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

fn side(number: u8) -> SideKey {
    CallKey::from_bits(0x1234_5678_9abc << 64).side(number)
}

fn config(remote: &str, route: MediaRoute) -> LegConfig {
    LegConfig {
        remote: Some(address(remote)),
        remote_rtcp: None,
        sip_source: Some(address(remote).ip()),
        nat: false,
        negotiation: 1,
        sends: true,
        receives: true,
        payloads: vec![(0, 0), (96, 111), (101, 110)],
        ssrc: 0x0bee_f001,
        sequence_start: 65_000,
        timestamp_start: 1_000_000,
        rollover_start: 0,
        sequence_reserved: contract::limits::SEQUENCE_BLOCK,
        dtmf_payload: Some(101),
        dtmf_send_payload: Some(101),
        clock_rate: 8_000,
        route,
        timeout: None,
        rtcp_mux: false,
        transport: LegTransport::Plain,
    }
}

/// Packets that fill their buffer: those of plain legs need no room behind them.
trait Whole {
    fn rtp(&mut self, leg: SideKey, from: SocketAddr, now: Time, packet: &mut [u8]) -> Verdict;
    fn rtcp(&mut self, leg: SideKey, from: SocketAddr, now: Time, packet: &mut [u8]) -> Verdict;
}

impl Whole for RelayTable {
    fn rtp(&mut self, leg: SideKey, from: SocketAddr, now: Time, packet: &mut [u8]) -> Verdict {
        let length = packet.len();
        self.on_packet(leg, from, now, packet, length)
    }

    fn rtcp(&mut self, leg: SideKey, from: SocketAddr, now: Time, packet: &mut [u8]) -> Verdict {
        let length = packet.len();
        self.on_rtcp(leg, from, now, packet, length)
    }
}

/// Two legs that relay to each other: the phone is side 1, the carrier side 2.
struct Rig {
    table: RelayTable,
    phone: LegConfig,
    carrier: LegConfig,
}

impl Rig {
    fn new(change: impl FnOnce(&mut LegConfig)) -> Rig {
        let mut phone = config(PHONE, MediaRoute::Relay(side(2)));
        phone.ssrc = 0x0aaa_0001;
        change(&mut phone);
        let carrier = config(CARRIER, MediaRoute::Relay(side(1)));
        let mut rig = Rig {
            table: RelayTable::new(Arc::new(NoSrtp)),
            phone,
            carrier,
        };
        rig.table.open(side(1)).expect("free");
        rig.table.open(side(2)).expect("free");
        rig.configure(0);
        rig
    }

    fn configure(&mut self, ms: u64) {
        self.table
            .configure(side(1), &self.phone, at(ms))
            .expect("open");
        self.table
            .configure(side(2), &self.carrier, at(ms))
            .expect("open");
    }

    /// Sends a packet of the phone's side and returns the verdict with what goes out.
    fn phone(&mut self, from: &str, ms: u64, sent: Sent) -> (Verdict, Option<RtpHeader>) {
        self.packet(side(1), from, ms, sent)
    }

    fn packet(
        &mut self,
        leg: SideKey,
        from: &str,
        ms: u64,
        sent: Sent,
    ) -> (Verdict, Option<RtpHeader>) {
        let mut packet = sent.packet();
        let verdict = self.table.rtp(leg, address(from), at(ms), &mut packet);
        let is_sent = !matches!(verdict, Verdict::Drop(_));
        (
            verdict,
            is_sent.then(|| RtpHeader::read(&packet).expect("rtp")),
        )
    }

    fn events(&mut self) -> Vec<MediaEvent> {
        std::iter::from_fn(|| self.table.poll_event())
            .map(|(_, event)| event)
            .collect()
    }
}

#[derive(Clone, Copy)]
struct Sent {
    payload: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

impl Sent {
    fn packet(self) -> Vec<u8> {
        let mut head = [0; rtp::HEADER_BYTES];
        rtp::write_header(
            &mut head,
            false,
            self.payload,
            self.sequence,
            self.timestamp,
            self.ssrc,
        );
        head.into_iter().chain([0xd5; 160]).collect()
    }
}

/// Packet number `number` of a stream that began at sequence 100 and timestamp 5,000.
fn sent(number: u16) -> Sent {
    Sent {
        payload: 0,
        sequence: number.wrapping_add(100),
        timestamp: 5_000 + u32::from(number) * 160,
        ssrc: 0x0505_0505,
    }
}

fn forward(to_leg: SideKey, to: &str) -> Verdict {
    Verdict::Forward {
        to_leg,
        to: address(to),
        length: 172,
        is_rtcp: false,
    }
}

fn block_to(sequence_end: u16) -> ReserveBlock {
    ReserveBlock {
        sequence_end,
        rtcp_index_end: 0,
    }
}

fn dropped(reason: DropReason) -> Verdict {
    Verdict::Drop(reason)
}

#[test]
fn a_packet_is_relayed_under_our_numbers() {
    let mut rig = Rig::new(|_| {});
    let (verdict, header) = rig.phone(PHONE, 0, sent(0));
    assert_eq!(verdict, forward(side(2), CARRIER));
    let header = header.expect("sent");
    assert_eq!(
        (header.ssrc, header.sequence, header.timestamp),
        (0x0bee_f001, 65_000, 1_000_000)
    );
    assert!(header.marker, "the first of a stream begins a talk spurt");
    let (_, second) = rig.phone(PHONE, 20, sent(1));
    let second = second.expect("sent");
    assert_eq!(
        (second.sequence, second.timestamp, second.marker),
        (65_001, 1_000_160, false)
    );
    let mapped = Sent {
        payload: 96,
        ..sent(2)
    };
    assert_eq!(
        rig.phone(PHONE, 40, mapped).1.expect("sent").payload_type,
        111
    );
    let unmapped = Sent {
        payload: 9,
        ..sent(3)
    };
    assert_eq!(
        rig.phone(PHONE, 60, unmapped).0,
        dropped(DropReason::UnmappedPayload)
    );
    assert_eq!(
        rig.events(),
        [MediaEvent::FirstPacket {
            from: address(PHONE)
        }]
    );
}

#[test]
fn loss_and_order_within_a_stream_are_kept() {
    let mut rig = Rig::new(|_| {});
    let expected = [
        (0, 65_000),
        (1, 65_001),
        (4, 65_004),
        (3, 65_003),
        (2, 65_002),
        (5, 65_005),
    ];
    for (number, sequence) in expected {
        let header = rig
            .phone(PHONE, u64::from(number) * 20, sent(number))
            .1
            .expect("sent");
        assert_eq!(header.sequence, sequence);
        assert_eq!(header.timestamp, 1_000_000 + u32::from(number) * 160);
    }
    assert_eq!(
        rig.phone(PHONE, 120, sent(3)).0,
        dropped(DropReason::Duplicate)
    );
    let wrapped = rig.phone(PHONE, 140, sent(40)).1.expect("sent");
    assert_eq!(wrapped.sequence, 65_040);
}

#[test]
fn a_new_source_goes_on_where_the_last_one_ended() {
    let mut rig = Rig::new(|_| {});
    for number in 0..10 {
        rig.phone(PHONE, u64::from(number) * 20, sent(number));
    }
    // Another SSRC with numbers of its own, 40 ms after the last packet.
    let other = |number: u16| Sent {
        sequence: 40_000 + number,
        timestamp: 77 + u32::from(number) * 160,
        ssrc: 0x0707_0707,
        ..sent(0)
    };
    let first = rig.phone(PHONE, 220, other(0)).1.expect("sent");
    assert_eq!(
        (first.sequence, first.ssrc, first.marker),
        (65_010, 0x0bee_f001, true)
    );
    assert_eq!(first.timestamp, 1_000_000 + 9 * 160 + 40 * 8);
    let second = rig.phone(PHONE, 240, other(1)).1.expect("sent");
    assert_eq!(
        (second.sequence, second.timestamp),
        (65_011, first.timestamp + 160)
    );
    // Late packets of the new stream from before it was joined are not placed on used numbers.
    let before = Sent {
        sequence: 39_999,
        ..other(0)
    };
    assert_eq!(rig.phone(PHONE, 245, before).0, dropped(DropReason::Late));
    // The first source comes back.
    let back = rig.phone(PHONE, 260, sent(13)).1.expect("sent");
    assert_eq!((back.sequence, back.marker), (65_012, true));
}

#[test]
fn a_sequence_jump_needs_two_packets_and_is_closed() {
    let mut rig = Rig::new(|_| {});
    rig.phone(PHONE, 0, sent(0));
    assert_eq!(
        rig.phone(PHONE, 20, sent(20_000)).0,
        dropped(DropReason::SequenceJump)
    );
    let joined = rig.phone(PHONE, 40, sent(20_001)).1.expect("sent");
    assert_eq!(joined.sequence, 65_001);
    // A gap over a second of speech is closed, so that a peer cannot use our numbers up.
    let after_gap = rig.phone(PHONE, 60, sent(22_000)).1.expect("sent");
    assert_eq!(after_gap.sequence, 65_002);
    let late = rig.phone(PHONE, 80, sent(21_990)).0;
    assert_eq!(late, dropped(DropReason::Late));
}

#[test]
fn a_stranger_gets_nothing_and_injects_nothing() {
    let mut rig = Rig::new(|_| {});
    // Before, during and after set-up, from many ports (threats.md 17).
    for ms in 0..2_000 {
        let from = format!("192.0.2.66:{}", 1_024 + ms);
        let verdict = rig.phone(&from, ms, sent(ms as u16)).0;
        assert_eq!(verdict, dropped(DropReason::WrongSource));
        if ms % 20 == 0 {
            let (verdict, _) = rig.phone(PHONE, ms, sent((ms / 20) as u16));
            assert_eq!(verdict, forward(side(2), CARRIER));
            let answer = rig.packet(side(2), CARRIER, ms, sent((ms / 20) as u16)).0;
            assert_eq!(
                answer,
                forward(side(1), PHONE),
                "media stays with the phone"
            );
        }
    }
    assert_eq!(rig.table.counters(side(1)).expect("open").refused, 2_000);
    assert_eq!(rig.table.dropped(DropReason::WrongSource), 2_000);
}

#[test]
fn any_port_of_the_signalled_address_is_latched_after_five_packets() {
    let mut rig = Rig::new(|_| {});
    for number in 0..u16::from(LATCH_PACKETS) {
        assert_eq!(
            rig.table.target(side(1)),
            Some(address(PHONE)),
            "before the lock"
        );
        let verdict = rig.phone(PHONE_NAT, u64::from(number) * 20, sent(number)).0;
        assert_eq!(verdict, forward(side(2), CARRIER));
    }
    assert_eq!(rig.table.target(side(1)), Some(address(PHONE_NAT)));
    rig.phone(PHONE_NAT, 110, sent(5));
    let latched = MediaEvent::Latched {
        to: address(PHONE_NAT),
    };
    assert_eq!(
        rig.events()
            .iter()
            .filter(|event| **event == latched)
            .count(),
        1
    );
    // Locked: another port of the same address is a stranger now.
    let verdict = rig.phone("203.0.113.5:9", 120, sent(6)).0;
    assert_eq!(verdict, dropped(DropReason::WrongSource));
    // After the window not even the signalled port.
    assert_eq!(
        rig.phone(PHONE, 6_000, sent(7)).0,
        dropped(DropReason::WrongSource)
    );
    assert_eq!(rig.table.target(side(1)), Some(address(PHONE_NAT)));
}

#[test]
fn the_sip_source_is_latched_where_the_sdp_names_a_private_address() {
    let mut rig = Rig::new(|phone| phone.remote = None);
    assert_eq!(
        rig.packet(side(2), CARRIER, 0, sent(0)).0,
        dropped(DropReason::NoTarget)
    );
    assert_eq!(
        rig.phone(PHONE_NAT, 0, sent(0)).0,
        forward(side(2), CARRIER)
    );
    assert_eq!(
        rig.packet(side(2), CARRIER, 20, sent(1)).0,
        forward(side(1), PHONE_NAT)
    );
    assert_eq!(
        rig.phone(ATTACKER, 20, sent(1)).0,
        dropped(DropReason::WrongSource)
    );
}

#[test]
fn the_signalled_port_wins_over_others_of_its_address_early_on() {
    let mut rig = Rig::new(|_| {});
    for number in 0..20 {
        rig.phone("203.0.113.5:666", u64::from(number) * 10, sent(number));
    }
    assert_eq!(rig.table.target(side(1)), Some(address("203.0.113.5:666")));
    for number in 0..u16::from(LATCH_PACKETS) {
        let phone = Sent {
            ssrc: 7,
            ..sent(number)
        };
        let verdict = rig.phone(PHONE, 300 + u64::from(number) * 20, phone).0;
        let is_won = number + 1 == u16::from(LATCH_PACKETS);
        let held = dropped(DropReason::Latching);
        assert_eq!(
            verdict,
            if is_won {
                forward(side(2), CARRIER)
            } else {
                held
            }
        );
    }
    assert_eq!(rig.table.target(side(1)), Some(address(PHONE)));
    let verdict = rig.phone("203.0.113.5:666", 400, sent(20)).0;
    assert_eq!(verdict, dropped(DropReason::WrongSource));
}

#[test]
fn nat_lets_a_stranger_win_in_the_first_five_seconds_only() {
    let stranger = "100.64.3.3:5000";
    let mut rig = Rig::new(|phone| phone.nat = true);
    for number in 0..4 {
        let verdict = rig.phone(stranger, u64::from(number) * 20, sent(number)).0;
        assert_eq!(
            verdict,
            dropped(DropReason::Latching),
            "nothing of it is used before"
        );
        assert_eq!(
            rig.table.target(side(1)),
            Some(address(PHONE)),
            "nothing is sent to it"
        );
        // A second stranger does not push the first out, nor use its count.
        let verdict = rig.phone(ATTACKER, u64::from(number) * 20, sent(number)).0;
        assert_eq!(verdict, dropped(DropReason::WrongSource));
    }
    assert_eq!(
        rig.phone(stranger, 80, sent(4)).0,
        forward(side(2), CARRIER)
    );
    assert_eq!(rig.table.target(side(1)), Some(address(stranger)));
    assert_eq!(
        rig.phone(ATTACKER, 90, sent(5)).0,
        dropped(DropReason::WrongSource)
    );

    let mut late = Rig::new(|phone| phone.nat = true);
    for number in 0..10 {
        let verdict = late
            .phone(stranger, 5_001 + u64::from(number), sent(number))
            .0;
        assert_eq!(verdict, dropped(DropReason::WrongSource));
    }
}

#[test]
fn the_phone_takes_the_latch_back_from_a_stranger() {
    let mut rig = Rig::new(|phone| phone.nat = true);
    for number in 0..10 {
        rig.phone(ATTACKER, u64::from(number), sent(number));
    }
    assert_eq!(rig.table.target(side(1)), Some(address(ATTACKER)));
    for number in 0..5 {
        rig.phone(
            PHONE_NAT,
            100 + u64::from(number) * 20,
            Sent {
                ssrc: 7,
                ..sent(number)
            },
        );
    }
    assert_eq!(rig.table.target(side(1)), Some(address(PHONE_NAT)));
    assert_eq!(
        rig.phone(ATTACKER, 300, sent(11)).0,
        dropped(DropReason::WrongSource)
    );
}

#[test]
fn five_packets_must_be_of_one_stream() {
    let mut rig = Rig::new(|_| {});
    for number in 0..40 {
        rig.phone(
            PHONE_NAT,
            u64::from(number),
            Sent {
                ssrc: number.into(),
                ..sent(number)
            },
        );
    }
    assert_eq!(
        rig.table.target(side(1)),
        Some(address(PHONE)),
        "each SSRC starts the count anew"
    );
}

#[test]
fn only_a_new_negotiation_opens_the_lock() {
    let mut rig = Rig::new(|_| {});
    for number in 0..5 {
        rig.phone(PHONE_NAT, u64::from(number), sent(number));
    }
    rig.configure(6_000);
    assert_eq!(
        rig.phone("203.0.113.5:9", 6_001, sent(6)).0,
        dropped(DropReason::WrongSource)
    );
    rig.phone.negotiation = 2;
    rig.configure(6_010);
    assert_eq!(
        rig.table.target(side(1)),
        Some(address(PHONE_NAT)),
        "kept until another wins"
    );
    for number in 6..11 {
        rig.phone("203.0.113.5:9", 6_020 + u64::from(number), sent(number));
    }
    assert_eq!(rig.table.target(side(1)), Some(address("203.0.113.5:9")));
    rig.phone.negotiation = 3;
    rig.phone.remote = Some(address("203.0.113.8:8000"));
    rig.configure(7_000);
    assert_eq!(
        rig.table.target(side(1)),
        rig.phone.remote,
        "a new address is sent to at once"
    );
}

#[test]
fn mapped_addresses_are_the_same_source() {
    let mut rig = Rig::new(|_| {});
    let verdict = rig.phone("[::ffff:203.0.113.5]:4000", 0, sent(0)).0;
    assert_eq!(verdict, forward(side(2), CARRIER));
}

#[test]
fn directions_are_obeyed_on_both_legs() {
    let mut rig = Rig::new(|phone| phone.sends = false);
    assert_eq!(
        rig.packet(side(2), CARRIER, 0, sent(0)).0,
        dropped(DropReason::Direction)
    );
    assert_eq!(rig.phone(PHONE, 0, sent(0)).0, forward(side(2), CARRIER));
    let mut rig = Rig::new(|phone| phone.receives = false);
    assert_eq!(
        rig.phone(PHONE, 0, sent(0)).0,
        dropped(DropReason::Direction)
    );
    assert_eq!(
        rig.packet(side(2), CARRIER, 0, sent(0)).0,
        forward(side(1), PHONE)
    );
    assert_eq!(
        rig.table.counters(side(1)).expect("open").packets_in,
        1,
        "counted all the same"
    );
}

#[test]
fn numbers_come_out_of_recorded_blocks_only() {
    let mut rig = Rig::new(|_| {});
    let block = SEQUENCE_BLOCK;
    let mut asked_at = None;
    let mut number = 0;
    let last = loop {
        let ms = u64::from(number) * 20;
        let verdict = rig.phone(PHONE, ms, sent(number)).0;
        if verdict != forward(side(2), CARRIER) {
            break verdict;
        }
        let asked = rig.events().into_iter().any(|event| {
            let end = 65_000_u16.wrapping_add(2 * block);
            matches!(event, MediaEvent::Reserve { block, .. } if block.sequence_end == end)
        });
        if asked {
            assert_eq!(asked_at.replace(number), None, "asked once");
        }
        number += 1;
    };
    assert_eq!(
        asked_at,
        Some(block / 4 * 3 - 1),
        "when three quarters are used"
    );
    assert_eq!(
        (number, last),
        (block, dropped(DropReason::ReserveExhausted))
    );
    // Ends that are wrong or old change nothing; the right one lets packets pass.
    rig.table
        .reserved(side(2), block_to(65_000_u16.wrapping_add(block)));
    rig.table
        .reserved(side(2), block_to(65_000_u16.wrapping_add(block * 3)));
    assert_eq!(rig.phone(PHONE, 60_000, sent(number + 1)).0, last);
    rig.table
        .reserved(side(2), block_to(65_000_u16.wrapping_add(block * 2)));
    let header = rig.phone(PHONE, 60_020, sent(number + 2)).1.expect("sent");
    let ahead = header.sequence.wrapping_sub(65_000);
    assert!(ahead >= block && ahead < block + 4, "{ahead}");
}

/// What an inbox that was full has lost is asked for again: a leg must not stay silent.
#[test]
fn a_lost_question_for_numbers_is_asked_again() {
    let mut rig = Rig::new(|_| {});
    rig.carrier.sequence_start = 1_000;
    rig.carrier.sequence_reserved = 0;
    rig.configure(0);
    rig.events();
    let mut asked = Vec::new();
    for number in 0..40 {
        let ms = u64::from(number) * 20;
        let verdict = rig.phone(PHONE, ms, sent(number)).0;
        assert_eq!(verdict, dropped(DropReason::ReserveExhausted));
        for event in rig.events() {
            if let MediaEvent::Reserve { block, .. } = event {
                asked.push((number, block));
            }
        }
    }
    let at: Vec<u16> = asked.iter().map(|(number, _)| *number).collect();
    assert_eq!(at, [0, 15, 31]);
    assert!(asked.iter().all(|(_, block)| *block == asked[0].1));
    rig.table.reserved(side(2), asked[0].1);
    let header = rig.phone(PHONE, 900, sent(41)).1.expect("sent");
    assert_eq!(header.sequence, 1_000);
}

#[test]
fn a_restart_goes_on_at_the_end_of_the_recorded_block() {
    let mut rig = Rig::new(|_| {});
    let mut used = Vec::new();
    let mut recorded = (65_000_u16.wrapping_add(SEQUENCE_BLOCK), 1_000_000);
    for number in 0..1_700 {
        let header = rig
            .phone(PHONE, u64::from(number) * 20, sent(number))
            .1
            .expect("sent");
        used.push(header.sequence);
        for event in rig.events() {
            if let MediaEvent::Reserve {
                block, timestamp, ..
            } = event
            {
                recorded = (block.sequence_end, timestamp);
                rig.table.reserved(side(2), block);
            }
        }
    }
    let passed = Duration::from_secs(5);
    let timestamp = recovered_timestamp(recorded.1, passed, 8_000);
    assert_eq!(timestamp, recorded.1 + 40_000);
    let mut restarted = Rig::new(|_| {});
    restarted.carrier.sequence_start = recorded.0;
    restarted.carrier.sequence_reserved = 0;
    restarted.carrier.timestamp_start = timestamp;
    restarted.configure(0);
    restarted.events();
    let first = restarted.phone(PHONE, 0, sent(1_799)).0;
    assert_eq!(first, dropped(DropReason::ReserveExhausted));
    let block = match &restarted.events()[..] {
        [_, MediaEvent::Reserve { block, .. }] => *block,
        other => panic!("the first packet asks for the block: {other:?}"),
    };
    restarted.table.reserved(side(2), block);
    let header = restarted.phone(PHONE, 0, sent(1_800)).1.expect("sent");
    assert!(!used.contains(&header.sequence));
    let jump = header.sequence.wrapping_sub(*used.last().expect("sent"));
    assert!(jump <= 2_560, "{jump} is under RFC 3550's 3,000");
    assert_eq!((header.sequence, header.timestamp), (recorded.0, timestamp));
}

#[test]
fn a_configuration_with_the_same_numbers_does_not_start_anew() {
    let mut rig = Rig::new(|_| {});
    for number in 0..3 {
        rig.phone(PHONE, u64::from(number) * 20, sent(number));
    }
    rig.carrier.sends = false;
    rig.configure(50);
    assert_eq!(
        rig.phone(PHONE, 60, sent(3)).0,
        dropped(DropReason::Direction)
    );
    rig.carrier.sends = true;
    rig.configure(70);
    assert_eq!(
        rig.phone(PHONE, 80, sent(4)).1.expect("sent").sequence,
        65_004
    );
}

#[test]
fn digits_are_told_once_each_and_relayed() {
    let mut rig = Rig::new(|_| {});
    let mut sequence = 0;
    for (index, event) in [1_u8, 2, 11].into_iter().enumerate() {
        for (number, end) in [(1_u16, 0_u8), (2, 0), (3, 0x80), (3, 0x80), (3, 0x80)] {
            let timestamp = 9_000 + index as u32 * 4_000;
            let event_packet = Sent {
                payload: 101,
                timestamp,
                ..sent(sequence)
            };
            let mut packet = event_packet.packet();
            packet.truncate(12);
            packet.extend([event, end | 10]);
            packet.extend((number * 160).to_be_bytes());
            let now = at(u64::from(sequence) * 20);
            let verdict = rig.table.rtp(side(1), address(PHONE), now, &mut packet);
            let to = address(CARRIER);
            assert_eq!(
                verdict,
                Verdict::Forward {
                    to_leg: side(2),
                    to,
                    length: 16,
                    is_rtcp: false,
                }
            );
            assert_eq!(
                packet[1], 110,
                "payload mapped, no marker added inside an event"
            );
            sequence += 1;
        }
    }
    let digits: Vec<_> = rig
        .events()
        .into_iter()
        .filter_map(|event| match event {
            MediaEvent::Digit { digit, duration } => Some((digit, duration)),
            MediaEvent::Opened { .. }
            | MediaEvent::Failed { .. }
            | MediaEvent::FirstPacket { .. }
            | MediaEvent::Latched { .. }
            | MediaEvent::Timeout
            | MediaEvent::Reserve { .. }
            | MediaEvent::PathSelected { .. }
            | MediaEvent::PathLost
            | MediaEvent::Keyed { .. }
            | MediaEvent::Unkeyed { .. }
            | MediaEvent::Counted(_) => None,
        })
        .collect();
    assert_eq!(digits, [('1', 480), ('2', 480), ('#', 480)]);
}

#[test]
fn a_digit_whose_end_is_lost_ends_by_a_tick() {
    let mut rig = Rig::new(|_| {});
    let mut packet = Sent {
        payload: 101,
        ..sent(0)
    }
    .packet();
    packet.truncate(12);
    packet.extend([7, 10, 0, 160]);
    rig.table.rtp(side(1), address(PHONE), at(0), &mut packet);
    assert_eq!(rig.table.next_deadline(), Some(at(200)));
    rig.table.on_tick(at(200), &mut |_, _, _| {});
    assert!(rig.events().contains(&MediaEvent::Digit {
        digit: '7',
        duration: 160
    }));
    assert_eq!(rig.table.next_deadline(), None);
}

#[test]
fn silence_is_told_once_until_packets_come_again() {
    let mut rig = Rig::new(|phone| phone.timeout = Some(Duration::from_secs(60)));
    rig.phone(PHONE, 10_000, sent(0));
    rig.events();
    // The deadline may come early; nothing is told then.
    rig.table.on_tick(at(60_000), &mut |_, _, _| {});
    assert_eq!(rig.events(), []);
    assert_eq!(rig.table.next_deadline(), Some(at(70_000)));
    rig.table.on_tick(at(70_000), &mut |_, _, _| {});
    assert_eq!(rig.events(), [MediaEvent::Timeout]);
    assert_eq!(rig.table.next_deadline(), None);
    rig.phone(PHONE, 71_000, sent(1));
    assert_eq!(rig.table.next_deadline(), Some(at(131_000)));
    // Strangers do not keep a call alive.
    rig.phone(ATTACKER, 130_000, sent(2));
    rig.table.on_tick(at(131_000), &mut |_, _, _| {});
    assert_eq!(rig.events(), [MediaEvent::Timeout]);
    // Hold: another time, and RTCP counts.
    rig.phone.receives = false;
    rig.phone.timeout = Some(Duration::from_secs(300));
    rig.configure(140_000);
    let mut report = vec![0x80, 201, 0, 1, 5, 5, 5, 5];
    rig.table.rtcp(
        side(1),
        address("203.0.113.5:4001"),
        at(200_000),
        &mut report,
    );
    rig.table.on_tick(at(440_000), &mut |_, _, _| {});
    assert_eq!(rig.events(), []);
    assert_eq!(rig.table.next_deadline(), Some(at(500_000)));
}

#[test]
fn echo_sends_back_under_our_numbers_and_breaks_loops() {
    let mut rig = Rig::new(|phone| phone.route = MediaRoute::Echo);
    let (verdict, header) = rig.phone(
        PHONE,
        0,
        Sent {
            payload: 18,
            ..sent(0)
        },
    );
    assert_eq!(
        verdict,
        Verdict::Reflect {
            to: address(PHONE),
            length: 172
        }
    );
    let header = header.expect("sent");
    assert_eq!(
        (header.ssrc, header.payload_type, header.sequence),
        (0x0aaa_0001, 18, 65_000)
    );
    let mapped = rig
        .phone(
            PHONE,
            20,
            Sent {
                payload: 96,
                ..sent(1)
            },
        )
        .1
        .expect("sent");
    assert_eq!(mapped.payload_type, 111);
    // The peer echoes too: our own packet comes back and dies here.
    let ours = Sent {
        ssrc: 0x0aaa_0001,
        ..sent(2)
    };
    assert_eq!(rig.phone(PHONE, 40, ours).0, dropped(DropReason::Looped));
}

#[test]
fn a_peer_with_our_ssrc_makes_us_take_another_once() {
    let mut rig = Rig::new(|_| {});
    let before = rig.packet(side(2), CARRIER, 0, sent(0)).1.expect("sent");
    assert_eq!(before.ssrc, 0x0aaa_0001);
    rig.phone(
        PHONE,
        10,
        Sent {
            ssrc: 0x0aaa_0001,
            ..sent(0)
        },
    );
    let after = rig.packet(side(2), CARRIER, 20, sent(1)).1.expect("sent");
    assert_ne!(after.ssrc, 0x0aaa_0001);
    assert_eq!(after.sequence, before.sequence.wrapping_add(1));
    // A mirror follows; running away from it would not end.
    rig.phone(
        PHONE,
        30,
        Sent {
            ssrc: after.ssrc,
            ..sent(1)
        },
    );
    assert_eq!(
        rig.packet(side(2), CARRIER, 40, sent(2))
            .1
            .expect("sent")
            .ssrc,
        after.ssrc
    );
}

#[test]
fn tones_come_every_20_ms_without_a_step() {
    let tone = MediaRoute::Tone {
        hertz: 1_004,
        level_dbm0: -10,
        payload: 0,
    };
    let mut rig = Rig::new(|phone| phone.route = tone);
    let mut frames = Vec::new();
    for ms in 0..1_000 {
        if rig.table.next_deadline().is_some_and(|due| due <= at(ms)) {
            rig.table.on_tick(at(ms), &mut |leg, to, packet| {
                assert_eq!((leg, to), (side(1), address(PHONE)));
                frames.push((ms, packet.to_vec()));
            });
        }
    }
    assert_eq!(frames.len(), 50);
    for (index, (ms, packet)) in frames.iter().enumerate() {
        let header = RtpHeader::read(packet).expect("rtp");
        assert_eq!(*ms, index as u64 * 20);
        assert_eq!(header.sequence, 65_000 + index as u16);
        assert_eq!(header.timestamp, 1_000_000 + index as u32 * 160);
        assert_eq!((header.marker, header.payload_type), (index == 0, 0));
        assert_eq!(header.payload(packet).len(), 160);
    }
    // The peer is heard meanwhile, but goes nowhere.
    assert_eq!(
        rig.phone(PHONE, 1_000, sent(0)).0,
        dropped(DropReason::NoRoute)
    );
    // A worker that stood still does not burst, and the clock of the stream goes on.
    let mut burst = Vec::new();
    rig.table
        .on_tick(at(5_000), &mut |_, _, packet| burst.push(packet.to_vec()));
    assert_eq!(burst.len(), 1);
    let header = RtpHeader::read(&burst[0]).expect("rtp");
    assert_eq!(header.timestamp, 1_000_000 + 250 * 160);
    // Relaying goes on with the same numbers.
    rig.phone.route = MediaRoute::Relay(side(2));
    rig.configure(5_010);
    let relayed = rig
        .packet(side(2), CARRIER, 5_020, sent(0))
        .1
        .expect("sent");
    assert_eq!(relayed.sequence, header.sequence.wrapping_add(1));
    assert_eq!(relayed.timestamp, header.timestamp + 160);
}

#[test]
fn a_tone_that_cannot_be_made_leaves_the_leg_as_it_was() {
    let mut rig = Rig::new(|_| {});
    rig.phone.route = MediaRoute::Tone {
        hertz: 1_004,
        level_dbm0: -10,
        payload: 9,
    };
    let error = rig
        .table
        .configure(side(1), &rig.phone, at(0))
        .expect_err("no encoder");
    assert_eq!(error.class(), FaultClass::Config);
    assert_eq!(rig.phone(PHONE, 0, sent(0)).0, forward(side(2), CARRIER));
}

#[test]
fn counters_follow_rfc_3550() {
    let mut rig = Rig::new(|_| {});
    // 20 ms apart, number 4 lost, number 7 comes 8 ms late: transit steps of 64 ticks, twice.
    for number in [0_u16, 1, 2, 3, 5, 6, 7, 8, 9] {
        let late = if number == 7 { 8 } else { 0 };
        rig.phone(PHONE, u64::from(number) * 20 + late, sent(number));
    }
    let counters = rig.table.counters(side(1)).expect("open");
    let jitter = ((64 * 16 - 64 + 8) / 16 + 64 - 4) / 16;
    assert_eq!(
        (counters.packets_in, counters.octets_in, counters.lost),
        (9, 9 * 172, 1)
    );
    assert!(
        counters.jitter.abs_diff(jitter) <= 1,
        "{} for {jitter}",
        counters.jitter
    );
    let out = rig.table.counters(side(2)).expect("open");
    assert_eq!((out.packets_out, out.octets_out), (9, 9 * 172));
    // Loss of earlier streams is kept.
    for number in [0, 2] {
        rig.phone(
            PHONE,
            200 + u64::from(number),
            Sent {
                ssrc: 1,
                ..sent(number)
            },
        );
    }
    assert_eq!(rig.table.close(side(1)).expect("open").lost, 2);
    assert_eq!(rig.table.close(side(1)), None);
}

#[test]
fn rtcp_is_relayed_between_the_peers_streams() {
    let mut rig = Rig::new(|_| {});
    for number in 0..5 {
        rig.phone(PHONE, u64::from(number) * 20, sent(number));
        let theirs = Sent {
            sequence: 900 + number,
            ssrc: 0x0909_0909,
            ..sent(number)
        };
        rig.packet(side(2), CARRIER, u64::from(number) * 20, theirs);
    }
    // The phone reports on our stream toward it: sequence 65,004 is the carrier's 904.
    let mut report = vec![0x81, 200, 0, 12];
    let block = [0x0aaa_0001_u32, 0, 65_004, 9, 0, 0];
    for word in [0x0505_0505_u32, 1, 2, 5_640, 5, 800].iter().chain(&block) {
        report.extend(word.to_be_bytes());
    }
    let verdict = rig
        .table
        .rtcp(side(1), address("203.0.113.5:4001"), at(110), &mut report);
    let to = address("198.51.100.9:7001");
    assert_eq!(
        verdict,
        Verdict::Forward {
            to_leg: side(2),
            to,
            length: 52,
            is_rtcp: true,
        }
    );
    let packet = crate::rtcp::packets(&report)
        .next()
        .expect("one")
        .expect("well formed");
    assert_eq!(packet.sender_ssrc(), Some(0x0bee_f001));
    let timestamp = u32::from_be_bytes(packet.body[12..16].try_into().expect("four"));
    assert_eq!(timestamp, 1_000_640, "5,640 is the phone's fifth packet");
    let block = packet.report_blocks().next().expect("a block");
    assert_eq!(
        (block.ssrc, block.highest_sequence as u16),
        (0x0909_0909, 904)
    );
    // Strangers' reports and octets that are none go nowhere.
    let mut fake = vec![0x80, 201, 0, 1, 5, 5, 5, 5];
    let refused = rig
        .table
        .rtcp(side(1), address(ATTACKER), at(120), &mut fake);
    assert_eq!(refused, dropped(DropReason::WrongSource));
    let none = rig.table.rtcp(
        side(1),
        address("203.0.113.5:4001"),
        at(120),
        &mut [0x80; 9],
    );
    assert_eq!(none, dropped(DropReason::Malformed));
}

#[test]
fn multiplexed_rtcp_is_taken_from_the_rtp_port() {
    let mut rig = Rig::new(|phone| phone.remote_rtcp = phone.remote);
    rig.phone(PHONE, 0, sent(0));
    let mut report = vec![0x80, 201, 0, 1, 5, 5, 5, 5];
    let verdict = rig.table.rtp(side(1), address(PHONE), at(10), &mut report);
    let to = address("198.51.100.9:7001");
    assert_eq!(
        verdict,
        Verdict::Forward {
            to_leg: side(2),
            to,
            length: 8,
            is_rtcp: true,
        }
    );
    let mut back = vec![0x80, 201, 0, 1, 5, 5, 5, 5];
    let verdict = rig.table.rtcp(side(2), to, at(20), &mut back);
    assert_eq!(
        verdict,
        Verdict::Forward {
            to_leg: side(1),
            to: address(PHONE),
            length: 8,
            is_rtcp: false,
        }
    );
    let mut plain = vec![0x80, 201, 0, 1, 5, 5, 5, 5];
    let verdict = rig.table.rtp(side(2), address(CARRIER), at(30), &mut plain);
    assert_eq!(
        verdict,
        dropped(DropReason::Malformed),
        "the carrier does not multiplex"
    );
}

#[test]
fn rtcp_follows_the_latch_and_is_locked_with_it() {
    let mut rig = Rig::new(|phone| phone.remote = Some(address("10.0.0.9:4000")));
    rig.phone.sip_source = Some(address(PHONE_NAT).ip());
    rig.phone.negotiation = 2;
    rig.configure(0);
    for number in 0..5 {
        rig.phone(PHONE_NAT, u64::from(number) * 20, sent(number));
    }
    let report = || vec![0x80, 201, 0, 1, 5, 5, 5, 5];
    let to_phone = |rig: &mut Rig| {
        rig.table.rtcp(
            side(2),
            address("198.51.100.9:7001"),
            at(200),
            &mut report(),
        )
    };
    assert_eq!(
        to_phone(&mut rig),
        dropped(DropReason::NoTarget),
        "its port is not known yet"
    );
    let learned = address("203.0.113.5:61999");
    rig.table.rtcp(side(1), learned, at(210), &mut report());
    let expected = Verdict::Forward {
        to_leg: side(1),
        to: learned,
        length: 8,
        is_rtcp: true,
    };
    assert_eq!(to_phone(&mut rig), expected);
    let other = rig
        .table
        .rtcp(side(1), address("203.0.113.5:1"), at(220), &mut report());
    assert_eq!(other, dropped(DropReason::WrongSource));
}

#[test]
fn legs_open_and_close_without_a_trace() {
    let mut table = RelayTable::new(Arc::new(NoSrtp));
    let leg_config = LegConfig {
        timeout: Some(Duration::from_secs(1)),
        ..config(PHONE, MediaRoute::Echo)
    };
    for round in 0..3 {
        for number in 1..=200 {
            table.open(side(number)).expect("free");
            assert_eq!(
                table.open(side(number)),
                Err(TableError::AlreadyOpen(side(number)))
            );
            let verdict = table.rtp(side(number), address(PHONE), at(0), &mut sent(0).packet());
            assert_eq!(verdict, dropped(DropReason::Unconfigured));
            table
                .configure(side(number), &leg_config, at(round))
                .expect("open");
        }
        assert_eq!(table.len(), 200);
        for number in 1..=200 {
            assert_eq!(table.close(side(number)), Some(LegCounters::default()));
        }
        assert!(table.is_empty() && table.next_deadline().is_none());
    }
    let verdict = table.rtp(side(1), address(PHONE), at(0), &mut sent(0).packet());
    assert_eq!(verdict, dropped(DropReason::UnknownLeg));
    let error = table
        .configure(side(1), &leg_config, at(0))
        .expect_err("closed");
    assert_eq!(
        (error.class(), error),
        (FaultClass::Bug, TableError::NotOpen(side(1)))
    );
    table.reserved(side(1), block_to(4));
    let mut rig = Rig::new(|_| {});
    rig.table.close(side(2));
    assert_eq!(rig.phone(PHONE, 0, sent(0)).0, dropped(DropReason::NoPeer));
}

#[test]
fn a_full_event_queue_delays_events_and_loses_digits_only() {
    let mut rig = Rig::new(|phone| phone.timeout = Some(Duration::from_millis(1)));
    let mut told = 0;
    for round in 0..MEDIA_EVENTS_MAX as u64 + 10 {
        rig.phone(
            PHONE,
            round * 10,
            Sent {
                ssrc: round as u32,
                ..sent(0)
            },
        );
        rig.table.on_tick(at(round * 10 + 5), &mut |_, _, _| {});
        told += 1;
    }
    assert!(told > MEDIA_EVENTS_MAX);
    assert_eq!(rig.events().len(), MEDIA_EVENTS_MAX);
    let due = rig
        .table
        .next_deadline()
        .expect("the timeout waits to be told");
    rig.table
        .on_tick(due + Duration::from_millis(1), &mut |_, _, _| {});
    assert_eq!(rig.events(), [MediaEvent::Timeout]);
}

proptest! {
    #[test]
    fn no_number_of_ours_is_used_twice(steps in vec((0_u8..4, any::<u16>(), 0_u16..80, any::<bool>()), 1..400)) {
        let mut rig = Rig::new(|_| {});
        let mut used = std::collections::BTreeSet::new();
        let mut next = 0_u16;
        for (index, (kind, jump, step, grants)) in steps.into_iter().enumerate() {
            // In order, reordered, jumping, of another source.
            next = match kind {
                0 => next.wrapping_add(1),
                1 => next.wrapping_sub(step),
                2 => next.wrapping_add(jump),
                _ => next.wrapping_add(step),
            };
            let packet = Sent { ssrc: u32::from(kind == 3), ..sent(next) };
            if let Some(header) = rig.phone(PHONE, index as u64 * 20, packet).1 {
                prop_assert!(used.insert(header.sequence), "{} again", header.sequence);
                prop_assert_eq!(header.ssrc, 0x0bee_f001);
            }
            for event in rig.events() {
                if let MediaEvent::Reserve { block, .. } = event && grants {
                    rig.table.reserved(side(2), block);
                }
            }
        }
    }

    #[test]
    fn any_octets_from_anyone_survive(
        packets in vec((any::<bool>(), any::<u32>(), any::<u16>(), vec(any::<u8>(), 0..200)), 0..60),
    ) {
        let mut rig = Rig::new(|phone| phone.nat = true);
        for (index, (is_rtcp, ip, port, mut octets)) in packets.into_iter().enumerate() {
            let ip = if ip % 2 == 0 { address(PHONE).ip() } else { IpAddr::V4(ip.into()) };
            let from = SocketAddr::new(ip, port);
            if let [first, ..] = &mut octets[..] {
                *first = *first & 0x3f | 0x80;
            }
            let now = at(index as u64);
            let length = octets.len();
            let verdict = if is_rtcp {
                rig.table.rtcp(side(1), from, now, &mut octets)
            } else {
                rig.table.rtp(side(1), from, now, &mut octets)
            };
            if let Verdict::Forward { length: sent, .. } | Verdict::Reflect { length: sent, .. } = verdict {
                prop_assert!(sent <= length);
            }
        }
    }
}

#[test]
fn every_drop_reason_has_a_name_and_a_counter() {
    let names: std::collections::BTreeSet<_> = DropReason::ALL.map(DropReason::as_str).into();
    assert_eq!(names.len(), DropReason::ALL.len());
    for (index, reason) in DropReason::ALL.into_iter().enumerate() {
        assert_eq!(
            (
                reason as usize,
                RelayTable::new(Arc::new(NoSrtp)).dropped(reason)
            ),
            (index, 0)
        );
    }
}
