//! Sealed datagrams, without a socket.

use contract::FabricKeys;

use super::super::keys::KeyRing;
use super::*;

const TEXT: &[u8] = b"alive";

fn keys(current: u8, previous: Option<u8>) -> Keys {
    Keys::of(&KeyRing {
        current: FabricKeys::new([current; 32]),
        previous: previous.map(|octet| FabricKeys::new([octet; 32])),
    })
}

fn inst(node: u16, boot: u64) -> NodeInst {
    NodeInst {
        node: NodeId(node),
        boot: Boot(boot),
    }
}

fn sealer(node: u16, boot: u64) -> Sealer {
    Sealer::new(inst(node, boot), [7; 6], ClusterId::of("one"))
}

fn opener() -> Opener {
    Opener::new(NodeId(1), ClusterId::of("one"))
}

fn at(seconds: u64) -> Now {
    Now {
        mono: Time::from_micros(seconds * 1_000_000),
        utc: UtcMillis(1_000_000_000 + seconds * 1_000),
    }
}

fn open(opener: &mut Opener, keys: &Keys, datagram: &[u8]) -> Result<NodeInst, Dropped> {
    let opened = opener.open(keys, datagram, |_| Boot(0), at(0));
    opened.map(|(sender, text)| {
        assert_eq!(text, TEXT);
        sender
    })
}

#[test]
fn a_sealed_datagram_opens_once() {
    let (keys, sealer, mut opener) = (keys(1, None), sealer(2, 5), opener());
    let datagram = sealer.seal(&keys, TEXT, at(0).utc).unwrap();
    assert_eq!(datagram.len(), TEXT.len() + SEAL_BYTES);
    assert_eq!(open(&mut opener, &keys, &datagram), Ok(inst(2, 5)));
    for _ in 0..3 {
        assert_eq!(open(&mut opener, &keys, &datagram), Err(Dropped::Replayed));
    }
}

#[test]
fn every_bit_that_is_changed_is_noticed_and_changes_nothing() {
    let (keys, sealer) = (keys(1, None), sealer(2, 5));
    let datagram = sealer.seal(&keys, TEXT, at(0).utc).unwrap();
    for bit in 0..datagram.len() * 8 {
        let mut forged = datagram.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let mut opener = opener();
        let why = open(&mut opener, &keys, &forged).unwrap_err();
        assert!(
            matches!(why, Dropped::Forged | Dropped::Shape | Dropped::Own),
            "bit {bit}: {why:?}"
        );
        assert!(opener.senders.is_empty());
    }
}

#[test]
fn a_datagram_of_any_other_length_is_dropped() {
    let (keys, sealer, mut opener) = (keys(1, None), sealer(2, 5), opener());
    let datagram = sealer.seal(&keys, TEXT, at(0).utc).unwrap();
    for length in 0..datagram.len() {
        let why = open(&mut opener, &keys, &datagram[..length]).unwrap_err();
        assert!(matches!(why, Dropped::Shape | Dropped::Forged));
    }
    let long = [&datagram[..], &vec![0; GOSSIP_BYTES_MAX]].concat();
    assert_eq!(open(&mut opener, &keys, &long), Err(Dropped::Shape));
    let longest = vec![0; GOSSIP_BYTES_MAX];
    let sealed = sealer.seal(&keys, &longest, at(0).utc).unwrap();
    assert_eq!(sealed.len(), DATAGRAM_BYTES_MAX);
    assert!(opener.open(&keys, &sealed, |_| Boot(0), at(0)).is_ok());
    assert_eq!(
        sealer.seal(&keys, &vec![0; GOSSIP_BYTES_MAX + 1], at(0).utc),
        None
    );
}

#[test]
fn a_ring_opens_what_either_secret_has_sealed_and_nothing_else() {
    let ring = keys(2, Some(1));
    for (key, opens) in [(1, true), (2, true), (3, false)] {
        let datagram = sealer(2, 5)
            .seal(&keys(key, None), TEXT, at(0).utc)
            .unwrap();
        let opened = open(&mut opener(), &ring, &datagram);
        assert_eq!(opened.is_ok(), opens, "key {key}: {opened:?}");
    }
    let turned = sealer(2, 5).seal(&ring, TEXT, at(0).utc).unwrap();
    assert!(open(&mut opener(), &keys(2, None), &turned).is_ok());
    let old = sealer(2, 5).seal(&keys(1, None), TEXT, at(0).utc).unwrap();
    let why = open(&mut opener(), &keys(2, None), &old);
    assert_eq!(why, Err(Dropped::Forged));
}

#[test]
fn our_own_words_an_earlier_life_and_another_cluster_are_not_heard() {
    let keys = keys(1, None);
    let mut opener = opener();
    for boot in [1, 5, 9] {
        let own = sealer(1, boot).seal(&keys, TEXT, at(0).utc).unwrap();
        assert_eq!(open(&mut opener, &keys, &own), Err(Dropped::Own));
    }
    let earlier = sealer(2, 4).seal(&keys, TEXT, at(0).utc).unwrap();
    let why = opener.open(&keys, &earlier, |_| Boot(5), at(0));
    assert_eq!(why, Err(Dropped::OldBoot));
    let other = Sealer::new(inst(2, 5), [7; 6], ClusterId::of("two"));
    let other = other.seal(&keys, TEXT, at(0).utc).unwrap();
    assert_eq!(open(&mut opener, &keys, &other), Err(Dropped::Forged));
    assert!(opener.senders.is_empty());
}

#[test]
fn a_datagram_of_another_minute_is_not_heard() {
    let (keys, sealer, mut opener) = (keys(1, None), sealer(2, 5), opener());
    for (sealed, heard, is_fresh) in [
        (100, 100 + GOSSIP_SKEW_S, true),
        (100, 101 + GOSSIP_SKEW_S, false),
        (100 + GOSSIP_SKEW_S, 100, true),
        (101 + GOSSIP_SKEW_S, 100, false),
    ] {
        let datagram = sealer.seal(&keys, TEXT, at(sealed).utc).unwrap();
        let opened = opener.open(&keys, &datagram, |_| Boot(0), at(heard));
        assert_eq!(opened.is_ok(), is_fresh, "sealed {sealed}, heard {heard}");
    }
}

#[test]
fn datagrams_may_overtake_each_other_within_the_window() {
    let (keys, sealer, mut opener) = (keys(1, None), sealer(2, 5), opener());
    let all: Vec<_> = (0..200)
        .map(|_| sealer.seal(&keys, TEXT, at(0).utc).unwrap())
        .collect();
    assert!(open(&mut opener, &keys, &all[100]).is_ok());
    for late in &all[37..100] {
        assert!(open(&mut opener, &keys, late).is_ok());
        assert_eq!(open(&mut opener, &keys, late), Err(Dropped::Replayed));
    }
    assert_eq!(open(&mut opener, &keys, &all[36]), Err(Dropped::Replayed));
    assert!(open(&mut opener, &keys, &all[164]).is_ok());
    assert_eq!(open(&mut opener, &keys, &all[100]), Err(Dropped::Replayed));
    assert!(open(&mut opener, &keys, &all[101]).is_ok());
    assert!(open(&mut opener, &keys, &all[199]).is_ok());
    assert_eq!(open(&mut opener, &keys, &all[135]), Err(Dropped::Replayed));
    assert!(open(&mut opener, &keys, &all[136]).is_ok());
}

#[test]
fn a_window_is_what_a_set_of_counters_would_be() {
    // A fixed walk over counters, compared with the definition.
    let mut window = Window::first(1_000);
    let mut heard = std::collections::BTreeSet::from([1_000_u64]);
    let mut state = 12_345_u64;
    for _ in 0..100_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let highest = *heard.last().unwrap();
        let counter = (highest + (state >> 33) % 100).saturating_sub(70);
        let expected = counter > highest || (highest - counter < 64 && !heard.contains(&counter));
        assert_eq!(window.takes(counter), expected, "{counter} at {highest}");
        if expected {
            window.take(counter);
            heard.insert(counter);
        }
    }
    assert!(!Window::first(u64::MAX).takes(u64::MAX));
    assert!(Window::first(0).takes(u64::MAX));
}

#[test]
fn senders_are_remembered_up_to_the_bound_and_forgotten_when_nothing_of_theirs_is_fresh() {
    let keys = keys(1, None);
    let mut opener = opener();
    let count = u16::try_from(GOSSIP_SENDERS_MAX).unwrap();
    for node in 2..2 + count {
        let datagram = sealer(node, 1).seal(&keys, TEXT, at(0).utc).unwrap();
        assert!(open(&mut opener, &keys, &datagram).is_ok());
    }
    let late = |seconds: u64| sealer(5_000, 1).seal(&keys, TEXT, at(seconds).utc).unwrap();
    assert_eq!(open(&mut opener, &keys, &late(0)), Err(Dropped::Full));
    let now = 2 * GOSSIP_SKEW_S + 1;
    let opened = opener.open(&keys, &late(now), |_| Boot(0), at(now));
    assert!(opened.is_ok());
    assert_eq!(opener.senders.len(), 1);
    // A later life takes the place of the earlier one.
    let newer = sealer(5_000, 2).seal(&keys, TEXT, at(now).utc).unwrap();
    assert!(opener.open(&keys, &newer, |_| Boot(0), at(now)).is_ok());
    assert_eq!(opener.senders.len(), 1);
}
