//! The codec against the vectors of RFC 5769, against itself, and against noise.

use std::net::SocketAddr;

use contract::limits::{STUN_ATTRIBUTES_MAX, STUN_MESSAGE_BYTES_MAX};
use proptest::prelude::*;

use super::*;

/// Password of RFC 5769 §2.1 to §2.3.
pub(super) const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

const TRANSACTION: TransactionId = TransactionId([
    0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
]);

/// RFC 5769 §2.1.
pub(super) const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae\
    802200105354554e207465737420636c69656e74\
    002400046e0001ff80290008932ff9b151263b36\
    000600096576746a3a68367659202020\
    000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";

/// RFC 5769 §2.2.
const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220002000080001a147e112a643\
    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";

/// RFC 5769 §2.3.
const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9\
    00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";

pub(super) fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn the_vectors_of_rfc_5769_verify_and_one_flipped_bit_does_not() {
    let key = IntegrityKey::new(PASSWORD);
    let mut flips = 0;
    for vector in [REQUEST, RESPONSE_V4, RESPONSE_V6] {
        let mut packet = octets(vector);
        let message = Message::read(&packet).unwrap();
        assert!(message.has_fingerprint && message.is_authentic(&key));
        assert!(!message.is_authentic(&IntegrityKey::new(b"another")));
        assert_eq!(message.transaction, TRANSACTION);
        assert_eq!(message.method, BINDING);
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            let passes = Message::read(&packet)
                .is_ok_and(|message| message.has_fingerprint && message.is_authentic(&key));
            assert!(!passes, "bit {bit}");
            packet[bit / 8] ^= 1 << (bit % 8);
            flips += 1;
        }
    }
    println!("RFC 5769: 3 vectors verify, {flips} flipped bits fail");
}

#[test]
fn the_request_of_rfc_5769_says_what_it_should() {
    let packet = octets(REQUEST);
    let message = Message::read(&packet).unwrap();
    assert_eq!(message.class, Class::Request);
    assert_eq!(message.username, Some("evtj:h6vY"));
    assert_eq!(message.fragments(), Some(("evtj", "h6vY")));
    assert_eq!(message.priority, Some(0x6e00_01ff));
    assert_eq!(message.role, Some(Role::Controlled(0x932f_f9b1_5126_3b36)));
    assert!(!message.is_nominated && message.unknown.is_empty());
    assert!(is_stun(&packet));
    assert_eq!(username(&packet), Some(("evtj", "h6vY")));
}

#[test]
fn the_responses_of_rfc_5769_carry_their_addresses() {
    for (vector, address) in [
        (RESPONSE_V4, "192.0.2.1:32853"),
        (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let packet = octets(vector);
        let message = Message::read(&packet).unwrap();
        assert_eq!(message.class, Class::Success);
        assert_eq!(message.mapped, Some(address.parse().unwrap()));
        assert_eq!(username(&packet), None, "only requests name their receiver");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let key = IntegrityKey::new(PASSWORD);
    let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
    let length = Writer::new(&mut buffer, Class::Request, TRANSACTION)
        .username("receiver", "se")
        .priority(77)
        .role(Role::Controlling(9))
        .nominate()
        .nomination(3)
        .finish(Some(&key))
        .unwrap();
    let message = Message::read(&buffer[..length]).unwrap();
    assert!(message.is_authentic(&key) && message.has_fingerprint);
    assert_eq!(message.fragments(), Some(("receiver", "se")));
    assert_eq!(message.priority, Some(77));
    assert_eq!(message.role, Some(Role::Controlling(9)));
    assert!(message.is_nominated);
    assert_eq!(message.nomination, Some(3));

    let length = Writer::new(&mut buffer, Class::Error, TRANSACTION)
        .error(420)
        .unknown(&[0x0002, 0x7777, 0x0003])
        .finish(None)
        .unwrap();
    let message = Message::read(&buffer[..length]).unwrap();
    assert_eq!(message.error.map(|error| error.code), Some(420));
    assert!(!message.has_integrity() && !message.is_authentic(&key));

    for address in ["10.1.2.3:1", "[fe80::1]:65535"] {
        let address: SocketAddr = address.parse().unwrap();
        let length = Writer::new(&mut buffer, Class::Success, TRANSACTION)
            .mapped(address)
            .finish(Some(&key))
            .unwrap();
        let message = Message::read(&buffer[..length]).unwrap();
        assert_eq!(message.mapped, Some(address));
    }
}

#[test]
fn our_request_has_the_octets_of_rfc_5769_but_for_software_and_padding() {
    let key = IntegrityKey::new(PASSWORD);
    let mut buffer = [0u8; STUN_MESSAGE_BYTES_MAX];
    let length = Writer::new(&mut buffer, Class::Request, TRANSACTION)
        .priority(0x6e00_01ff)
        .role(Role::Controlled(0x932f_f9b1_5126_3b36))
        .username("evtj", "h6vY")
        .finish(Some(&key))
        .unwrap();
    let vector = octets(REQUEST);
    assert_eq!(&buffer[4..20], &vector[4..20]);
    assert_eq!(&buffer[20..20 + 20 + 13], &vector[40..40 + 20 + 13]);
    assert_eq!(length, vector.len() - 20);
}

#[test]
fn a_buffer_that_is_too_small_is_told_for_every_size() {
    let key = IntegrityKey::new(PASSWORD);
    let write = |buffer: &mut [u8]| {
        Writer::new(buffer, Class::Request, TRANSACTION)
            .username("abcd", "efgh")
            .mapped("[::1]:5".parse().unwrap())
            .finish(Some(&key))
    };
    let mut buffer = [0u8; 200];
    let whole = write(&mut buffer).unwrap();
    for size in 0..whole {
        assert_eq!(write(&mut buffer[..size]), Err(StunError::Full), "{size}");
    }
    assert_eq!(write(&mut buffer[..whole]), Ok(whole));
    let long = "x".repeat(70_000);
    let told = Writer::new(&mut buffer, Class::Request, TRANSACTION)
        .username(&long, "y")
        .finish(None);
    assert_eq!(told, Err(StunError::Full));
    assert_eq!(StunError::Full.class(), FaultClass::Bug);
}

/// Builds a message from attributes as they are, without closing it.
fn raw(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(MAGIC_COOKIE.to_be_bytes());
    packet.extend(TRANSACTION.0);
    for (kind, value) in attributes {
        packet.extend(kind.to_be_bytes());
        packet.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        packet.extend(*value);
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    let length = counted_length(packet.len());
    packet[2..4].copy_from_slice(&length);
    packet
}

#[test]
fn malformed_messages_are_refused() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("header cut", raw(1, &[])[..19].to_vec()),
        ("top bits set (RFC 8489 §5)", raw(0x4001, &[])),
        ("cookie wrong (§5)", {
            let mut packet = raw(1, &[]);
            packet[4] ^= 1;
            packet
        }),
        ("length too large (§5)", {
            let mut packet = raw(1, &[]);
            packet[3] = 4;
            packet
        }),
        ("octets after the message", {
            let mut packet = raw(1, &[]);
            packet.extend([0; 4]);
            packet
        }),
        ("length no multiple of 4 (§5)", {
            let mut packet = raw(1, &[(0x8022, b"abcd")]);
            packet.truncate(packet.len() - 2);
            packet[3] -= 2;
            packet
        }),
        ("attribute longer than the message (§14)", {
            let mut packet = raw(1, &[(0x8022, b"abcd")]);
            packet[23] = 5;
            packet
        }),
        ("USERNAME not UTF-8 (§14.3)", raw(1, &[(6, &[0xff, 0xfe])])),
        ("USERNAME too long", raw(1, &[(6, &[b'a'; 764])])),
        ("MESSAGE-INTEGRITY short (§14.5)", raw(1, &[(8, &[0; 19])])),
        (
            "PRIORITY short (RFC 8445 §16.1)",
            raw(1, &[(0x24, &[0; 3])]),
        ),
        ("ICE-CONTROLLED short", raw(1, &[(0x8029, &[0; 4])])),
        (
            "address of no family (§14.2)",
            raw(0x101, &[(0x20, &[0; 8])]),
        ),
        (
            "IPv6 of 4 octets",
            raw(0x101, &[(0x20, &[0, 2, 0, 0, 0, 0, 0, 0])]),
        ),
        ("error class 2 (§14.8)", raw(0x111, &[(9, &[0, 0, 2, 0])])),
        ("error number 100", raw(0x111, &[(9, &[0, 0, 4, 100])])),
        ("error short", raw(0x111, &[(9, &[0, 0, 4])])),
        ("FINGERPRINT short (§14.7)", raw(1, &[(0x8028, &[0; 2])])),
    ];
    for (name, packet) in &cases {
        assert_eq!(
            Message::read(packet).err(),
            Some(StunError::Malformed),
            "{name}"
        );
    }
    println!("{} malformed messages refused", cases.len());
    let crowd = vec![(0x8022, &b""[..]); STUN_ATTRIBUTES_MAX + 1];
    assert_eq!(
        Message::read(&raw(1, &crowd)).err(),
        Some(StunError::TooMany)
    );
    assert!(Message::read(&raw(1, &crowd[1..])).is_ok());
    assert_eq!(
        Message::read(&raw(1, &[(0x8028, &[0; 4])])).err(),
        Some(StunError::Fingerprint)
    );
}

#[test]
fn nothing_follows_the_fingerprint() {
    let mut packet = octets(REQUEST);
    packet.extend([0x80, 0x22, 0, 0]);
    let length = counted_length(packet.len());
    packet[2..4].copy_from_slice(&length);
    assert!(Message::read(&packet).is_err());
}

#[test]
fn what_follows_the_integrity_and_what_is_repeated_is_passed_over() {
    let packet = raw(
        1,
        &[
            (6, b"a:b"),
            (6, b"c:d"),
            (8, &[0; 20]),
            (0x25, b""),
            (0x7777, b""),
        ],
    );
    let message = Message::read(&packet).unwrap();
    assert_eq!(message.fragments(), Some(("a", "b")));
    assert!(!message.is_nominated && message.unknown.is_empty());
}

#[test]
fn unknown_attributes_are_named_up_to_a_bound() {
    let packet = raw(
        1,
        &[
            (2, b""),
            (3, b""),
            (0x14, b"realm"),
            (0x8054, b""),
            (4, b""),
            (5, b""),
            (7, b""),
        ],
    );
    let unknown = Message::read(&packet).unwrap().unknown;
    assert!(!unknown.is_empty());
    assert_eq!(unknown.named(), &[2, 3, 4, 5]);
}

#[test]
fn classes_and_methods_are_apart() {
    for (kind, class, method) in [
        (0x0001, Class::Request, 1),
        (0x0011, Class::Indication, 1),
        (0x0101, Class::Success, 1),
        (0x0111, Class::Error, 1),
        (0x0003, Class::Request, 3),
        (0x02EF, Class::Request, 0xFF),
        (0x03FF, Class::Error, 0xFF),
    ] {
        let packet = raw(kind, &[]);
        let message = Message::read(&packet).unwrap();
        assert_eq!(
            (message.class, message.method),
            (class, method),
            "{kind:#x}"
        );
    }
}

#[test]
fn other_protocols_of_the_port_are_not_taken_for_stun() {
    for first in [4u8, 16, 20, 22, 63, 64, 79, 128, 191, 255] {
        let mut packet = octets(REQUEST);
        packet[0] = first;
        assert!(!is_stun(&packet), "{first} (RFC 7983 §7)");
        assert_eq!(username(&packet), None);
    }
}

proptest! {
    #[test]
    fn noise_never_panics(packet in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = username(&packet);
        if let Ok(message) = Message::read(&packet) {
            prop_assert!(!message.is_authentic(&IntegrityKey::new(PASSWORD)));
        }
    }

    #[test]
    fn spoilt_requests_never_panic(
        at in 0usize..108,
        value in any::<u8>(),
        cut in 0usize..=108,
    ) {
        let mut packet = octets(REQUEST);
        packet[at] = value;
        packet.truncate(cut);
        let _ = username(&packet);
        let _ = Message::read(&packet).map(|message| message.is_authentic(&IntegrityKey::new(PASSWORD)));
    }
}
