//! Digits on the wire, octet for octet (RFC 4733 §2.3, §2.5).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::limits::{DIGITS_QUEUED_MAX, SEQUENCE_BLOCK};
use contract::{
    CallKey, KeyMaterial, LegConfig, LegTransport, MediaEvent, MediaRoute, SideKey, SrtpKeys,
    SrtpProfile, Time,
};

use super::toy::{self, ToyMaker};
use super::*;
use crate::rtp::{self, RtpHeader};

const PHONE: &str = "203.0.113.5:4000";
const CARRIER: &str = "198.51.100.9:7000";

fn at(ms: u64) -> Time {
    Time::from_micros(1_000_000 + ms * 1_000)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

fn side(number: u8) -> SideKey {
    CallKey::from_bits(7 << 64).side(number)
}

fn config(remote: &str, route: MediaRoute) -> LegConfig {
    LegConfig {
        remote: Some(address(remote)),
        remote_rtcp: None,
        sip_source: None,
        nat: false,
        negotiation: 1,
        sends: true,
        receives: true,
        payloads: vec![(0, 0)],
        ssrc: 0x0aaa_0001,
        sequence_start: 65_534,
        rollover_start: 0,
        sequence_reserved: SEQUENCE_BLOCK,
        timestamp_start: 1_000,
        dtmf_payload: Some(101),
        dtmf_send_payload: Some(110),
        clock_rate: 8_000,
        route,
        timeout: None,
        rtcp_mux: false,
        transport: LegTransport::Plain,
    }
}

fn table(change: impl FnOnce(&mut LegConfig)) -> RelayTable {
    let mut table = RelayTable::new(Arc::new(ToyMaker));
    let mut phone = config(PHONE, MediaRoute::Relay(side(2)));
    change(&mut phone);
    let carrier = config(CARRIER, MediaRoute::Relay(side(1)));
    for (number, config) in [(1, phone), (2, carrier)] {
        table.open(side(number)).expect("free");
        table.configure(side(number), &config, at(0)).expect("open");
    }
    table
}

/// Ticks each millisecond like a worker that sleeps until the deadline; returns what was sent when.
fn run(table: &mut RelayTable, from_ms: u64, to_ms: u64) -> Vec<(u64, Vec<u8>)> {
    let mut sent = Vec::new();
    for ms in from_ms..to_ms {
        if table.next_deadline().is_some_and(|due| due <= at(ms)) {
            table.on_tick(at(ms), &mut |leg, to, octets| {
                assert_eq!((leg, to), (side(1), address(PHONE)));
                sent.push((ms, octets.to_vec()));
            });
        }
    }
    sent
}

/// A packet of the carrier toward the phone.
fn voice(table: &mut RelayTable, ms: u64, number: u16) -> Result<RtpHeader, DropReason> {
    let mut head = [0; rtp::HEADER_BYTES];
    rtp::write_header(&mut head, false, 0, number, u32::from(number) * 160, 9);
    let mut octets: Vec<_> = head.into_iter().chain([0xd5; 160]).collect();
    let length = octets.len();
    match table.on_packet(side(2), address(CARRIER), at(ms), &mut octets, length) {
        Verdict::Drop(reason) => Err(reason),
        Verdict::Forward { .. } | Verdict::Reflect { .. } => {
            Ok(RtpHeader::read(&octets).expect("rtp"))
        }
    }
}

#[test]
fn a_digit_is_on_the_wire_as_the_rfc_says() {
    let mut table = table(|_| {});
    voice(&mut table, 0, 1).expect("sent");
    table.digits(side(1), "5", Duration::from_millis(100), at(20));
    let sent = run(&mut table, 20, 400);
    // Time, marker and payload type, sequence, timestamp, event, end and volume, duration.
    let rows: [(u64, u8, u16, u32, [u8; 4]); 7] = [
        (20, 0x80 | 110, 65_535, 1_160, [5, 0x0a, 0x00, 0xa0]),
        (40, 110, 0, 1_160, [5, 0x0a, 0x01, 0x40]),
        (60, 110, 1, 1_160, [5, 0x0a, 0x01, 0xe0]),
        (80, 110, 2, 1_160, [5, 0x0a, 0x02, 0x80]),
        (100, 110, 3, 1_160, [5, 0x8a, 0x03, 0x20]),
        (120, 110, 4, 1_160, [5, 0x8a, 0x03, 0x20]),
        (140, 110, 5, 1_160, [5, 0x8a, 0x03, 0x20]),
    ];
    let expected = rows.map(|(ms, kind, sequence, timestamp, report)| {
        let mut octets = vec![0x80, kind];
        octets.extend(sequence.to_be_bytes());
        octets.extend(timestamp.to_be_bytes());
        octets.extend(0x0aaa_0001_u32.to_be_bytes());
        octets.extend(report);
        (ms, octets)
    });
    assert_eq!(sent, expected);
    // Sound goes on behind the event with the next number and the time that passed.
    let after = voice(&mut table, 400, 2).expect("sent");
    assert_eq!((after.sequence, after.timestamp), (6, 1_160 + 380 * 8));
    assert!(after.marker);
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn digits_follow_each_other_and_sound_waits() {
    let mut table = table(|_| {});
    voice(&mut table, 0, 1).expect("sent");
    table.digits(side(1), "1x*#aD", Duration::from_millis(60), at(10));
    assert_eq!(voice(&mut table, 15, 2), Err(DropReason::Digits));
    let sent = run(&mut table, 10, 2_000);
    let begins: Vec<_> = sent
        .iter()
        .filter(|(_, octets)| octets[1] & 0x80 != 0)
        .map(|(ms, octets)| (*ms, octets[12]))
        .collect();
    // 60 ms, two more ends, 40 ms pause: 120 ms each. What is no digit is left out.
    assert_eq!(
        begins,
        [(10, 1), (130, 10), (250, 11), (370, 12), (490, 15)]
    );
    assert_eq!(sent.len(), 5 * 5);
    for pair in sent.windows(2) {
        let number = |octets: &[u8]| u16::from_be_bytes([octets[2], octets[3]]);
        assert_eq!(number(&pair[1].1), number(&pair[0].1).wrapping_add(1));
    }
    let stamps: std::collections::BTreeSet<_> = sent
        .iter()
        .map(|(_, octets)| u32::from_be_bytes(octets[4..8].try_into().expect("four")))
        .collect();
    let expected = [10, 130, 250, 370, 490].map(|ms| 1_000 + ms * 8);
    assert_eq!(stamps.into_iter().collect::<Vec<_>>(), expected);
    // What came while they played is lost; the next goes on.
    assert!(voice(&mut table, 2_000, 100).is_ok());
    // A second command keeps the pause.
    table.digits(side(1), "1", Duration::from_millis(40), at(2_010));
    assert_eq!(run(&mut table, 2_010, 2_069).len(), 3);
    table.digits(side(1), "2", Duration::from_millis(40), at(2_069));
    let sent = run(&mut table, 2_069, 2_300);
    let begun = sent.iter().find(|(_, octets)| octets[1] & 0x80 != 0);
    assert_eq!(begun.map(|(ms, _)| *ms), Some(2_070 + 40));
}

#[test]
fn digits_use_the_clock_of_the_codec_and_are_bounded() {
    let mut table = table(|phone| phone.clock_rate = 48_000);
    // Longer than a duration can say at this clock: the longest there is.
    table.digits(side(1), "7", Duration::from_secs(5), at(0));
    let sent = run(&mut table, 0, 4_000);
    let last = &sent.last().expect("packets").1;
    assert_eq!(last[12..], [7, 0x8a, 0xff, 0xff]);
    assert_eq!(sent[0].1[12..], [7, 0x0a, 0x03, 0xc0]);
    assert_eq!(sent.len(), 69 + 2);
    let many = "0123456789".repeat(20);
    table.digits(side(1), &many, Duration::from_millis(1), at(4_000));
    let sent = run(&mut table, 4_000, 60_000);
    let ends = sent.iter().filter(|(_, octets)| octets[13] & 0x80 != 0);
    assert_eq!(ends.count(), DIGITS_QUEUED_MAX * 3);
}

#[test]
fn digits_that_cannot_be_sent_are_dropped() {
    for change in [
        (|phone: &mut LegConfig| phone.dtmf_send_payload = None) as fn(&mut LegConfig),
        |phone| phone.sends = false,
    ] {
        let mut table = table(change);
        table.digits(side(1), "1", Duration::from_millis(100), at(0));
        assert_eq!(table.next_deadline(), None);
    }
    // A configuration that takes the payload type away ends what plays.
    let mut table = table(|_| {});
    table.digits(side(1), "12", Duration::from_millis(100), at(0));
    assert_eq!(run(&mut table, 0, 30).len(), 2);
    let mut phone = config(PHONE, MediaRoute::Relay(side(2)));
    phone.dtmf_send_payload = None;
    table.configure(side(1), &phone, at(30)).expect("open");
    assert_eq!(run(&mut table, 30, 500), []);
    assert!(voice(&mut table, 500, 1).is_ok());
    table.digits(side(9), "1", Duration::from_millis(100), at(0));
}

#[test]
fn tones_wait_and_late_workers_do_not_burst() {
    let mut table = table(|phone| {
        phone.route = MediaRoute::Tone {
            hertz: 1_004,
            level_dbm0: -10,
            payload: 0,
        };
    });
    assert_eq!(run(&mut table, 0, 100).len(), 5);
    table.digits(side(1), "9", Duration::from_millis(100), at(100));
    let sent = run(&mut table, 100, 240);
    assert!(sent.iter().all(|(_, octets)| octets[1] & 0x7f == 110));
    assert_eq!(sent.len(), 7);
    let tone = run(&mut table, 240, 300);
    assert_eq!(tone.len(), 3);
    table.digits(side(1), "8", Duration::from_millis(100), at(300));
    let mut count = 0;
    table.on_tick(at(300), &mut |_, _, _| count += 1);
    table.on_tick(at(3_000), &mut |_, _, octets| {
        count += usize::from(octets[1] & 0x7f == 110);
    });
    assert_eq!(count, 2, "one each");
}

#[test]
fn digits_and_tones_go_out_protected() {
    let keys = SrtpKeys {
        profile: SrtpProfile::AesCm128HmacSha1_80,
        peer_profile: SrtpProfile::AesCm128HmacSha1_80,
        our_key: KeyMaterial::new(b"ours".to_vec()),
        our_salt: KeyMaterial::default(),
        peer_key: KeyMaterial::new(b"theirs".to_vec()),
        peer_salt: KeyMaterial::default(),
        rtcp_index_start: 0,
        received: Vec::new(),
    };
    let tone = MediaRoute::Tone {
        hertz: 1_004,
        level_dbm0: -10,
        payload: 8,
    };
    let mut table = table(|phone| {
        phone.transport = LegTransport::Sdes(Box::new(keys));
        phone.route = tone;
    });
    table.digits(side(1), "5", Duration::from_millis(40), at(40));
    let sent = run(&mut table, 0, 200);
    let mut indices = Vec::new();
    for (_, octets) in &sent {
        let (plain, index) = toy::read(b"ours", octets).expect("protected");
        assert!(matches!(plain.len(), 16 | 172));
        indices.push(index);
    }
    let expected: Vec<_> = (65_534..65_534 + sent.len() as u64).collect();
    assert_eq!(indices, expected, "over the roll-over");
    let counters = table.counters(side(1)).expect("open");
    assert_eq!(counters.packets_out, sent.len() as u64);
    assert!(
        table
            .poll_event()
            .is_none_or(|(_, event)| event != MediaEvent::Timeout)
    );
}
