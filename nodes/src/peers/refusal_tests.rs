//! Counts and complaints.

use super::*;

#[test]
fn an_address_is_complained_of_once_a_minute_and_few_addresses_are_remembered() {
    let mut complaints = Complaints::default();
    let address = |last: u16| IpAddr::from([10, 0, (last >> 8) as u8, last as u8]);
    let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
    assert!(complaints.is_due(address(1), at(0)));
    assert!(!complaints.is_due(address(1), at(59)));
    assert!(complaints.is_due(address(1), at(60)));
    for number in 2..2_000 {
        complaints.is_due(address(number), at(61));
    }
    assert_eq!(complaints.last.len(), PEER_COMPLAINTS_MAX);
    assert!(!complaints.is_due(address(3_000), at(62)));
    assert!(complaints.is_due(address(3_000), at(200)));
}

#[test]
fn every_reason_has_a_place_of_its_own() {
    for (at, why) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(why as usize, at);
    }
    for (at, why) in Dropped::ALL.into_iter().enumerate() {
        assert_eq!(why as usize, at);
    }
}
