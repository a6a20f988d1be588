//! Legs that another node has: what is passed on, what is told, when they are over.

use std::net::SocketAddr;
use std::sync::Arc;

use contract::limits::SEQUENCE_BLOCK;
use contract::{CallKey, LegConfig, LegTransport, MediaRoute, SideKey, Time};

use super::*;
use crate::rtp::RtpHeader;

const ALICE: &str = "203.0.113.5:4000";
const BOB: &str = "198.51.100.9:7000";

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
        payloads: vec![(0, 0)],
        ssrc: 0x0bee_f001,
        sequence_start: 65_000,
        timestamp_start: 1_000_000,
        rollover_start: 0,
        sequence_reserved: SEQUENCE_BLOCK,
        dtmf_payload: None,
        dtmf_send_payload: None,
        clock_rate: 8_000,
        route,
        timeout: Some(std::time::Duration::from_secs(1)),
        rtcp_mux: false,
        transport: LegTransport::Plain,
    }
}

/// Two legs of one call that another node has, since time 0.
fn moved() -> RelayTable {
    let mut table = RelayTable::new(Arc::new(NoSrtp));
    for (leg, peer, other) in [(1, ALICE, 2), (2, BOB, 1)] {
        table.open(side(leg)).expect("free");
        let config = config(peer, MediaRoute::Relay(side(other)));
        table.configure(side(leg), &config, at(0)).expect("open");
    }
    for leg in [1, 2] {
        assert!(table.linger(side(leg), at(0)));
    }
    assert_eq!(table.lingering(), 2);
    table
}

/// A packet of a peer, and what is sent on.
fn speak(
    table: &mut RelayTable,
    leg: u8,
    from: &str,
    sequence: u16,
    ms: u64,
) -> Option<SocketAddr> {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, leg]);
    packet.resize(172, 0x55);
    assert!(RtpHeader::read(&packet).is_ok());
    let verdict = table.on_packet(side(leg), address(from), at(ms), &mut packet, 172);
    match verdict {
        Verdict::Forward { to, .. } => Some(to),
        Verdict::Reflect { .. } | Verdict::Drop(_) => None,
    }
}

/// Looks each half second; returns when the first leg is over, in milliseconds.
fn over_after(table: &mut RelayTable, speaker: Option<u64>) -> u64 {
    for step in 1..100 {
        let ms = step * 500;
        if speaker.is_some_and(|until| ms <= until) {
            let sequence = u16::try_from(step).expect("small");
            assert_eq!(speak(table, 1, ALICE, sequence, ms), Some(address(BOB)));
        }
        let due = table.next_deadline().expect("it is looked at");
        assert!(due <= at(ms));
        table.on_tick(at(ms), &mut |_, _, _| panic!("nothing of its own"));
        assert_eq!(table.poll_event(), None, "nothing is told");
        let over = table.over(at(ms));
        if !over.is_empty() {
            assert_eq!(over, [side(1), side(2)], "the call as a whole");
            return ms;
        }
    }
    panic!("it stays for ever");
}

#[test]
fn a_silent_call_is_over_after_the_time_that_ends_need_to_be_told() {
    assert_eq!(over_after(&mut moved(), None), 4_000);
}

#[test]
fn one_end_that_sends_here_keeps_both_legs() {
    assert_eq!(over_after(&mut moved(), Some(9_000)), 11_000);
}

#[test]
fn no_end_keeps_them_longer_than_timer_b() {
    assert_eq!(over_after(&mut moved(), Some(60_000)), 32_000);
}

#[test]
fn what_is_over_is_closed_and_counted_no_more() {
    let mut table = moved();
    over_after(&mut table, None);
    for leg in [1, 2] {
        assert!(table.close(side(leg)).is_some());
    }
    assert_eq!((table.lingering(), table.len()), (0, 0));
    assert_eq!(table.next_deadline(), None);
}

/// The other node gives the call back before its ends were told.
#[test]
fn a_leg_that_comes_back_is_told_of_again_and_stays() {
    let mut table = moved();
    for leg in [1, 2] {
        table.resume(side(leg));
    }
    assert_eq!(speak(&mut table, 1, ALICE, 1, 100), Some(address(BOB)));
    assert!(table.poll_event().is_some(), "the first packet");
    assert_eq!(table.over(at(60_000)), []);
    assert_eq!(table.lingering(), 0);
}

/// A tone is played from the other node at once; a leg that goes nowhere helps nobody.
#[test]
fn what_passes_nothing_on_does_not_linger() {
    let tone = MediaRoute::Tone {
        hertz: 1_004,
        level_dbm0: -16,
        payload: 0,
    };
    for route in [tone, MediaRoute::Drop] {
        let mut table = RelayTable::new(Arc::new(NoSrtp));
        assert!(!table.linger(side(1), at(0)), "it is not open");
        table.open(side(1)).expect("free");
        assert!(!table.linger(side(1), at(0)), "it is not configured");
        let config = config(ALICE, route);
        table.configure(side(1), &config, at(0)).expect("open");
        assert!(!table.linger(side(1), at(0)), "{route:?}");
        assert_eq!(table.lingering(), 0);
    }
}
