//! Frames and greetings, without a socket.

use contract::limits::FRAME_BYTES_MAX;
use contract::{Boot, NodeId, SchemaVersion};
use proptest::prelude::*;

use super::*;

fn hello() -> Hello {
    Hello {
        inst: NodeInst {
            node: NodeId(7),
            boot: Boot(9),
        },
        cluster: ClusterId::of("one"),
        advertise: "127.0.0.1:7000".parse().unwrap(),
        track: Track::Bulk,
        link: 11,
        view_hash: 13,
        required: SchemaVersion::OLDEST,
        reads: SchemaVersion::NEWEST,
    }
}

#[test]
fn every_kind_of_frame_reads_back() {
    let mut kinds: Vec<Kind> = FrameClass::ALL.into_iter().map(Kind::Frame).collect();
    kinds.extend([
        Kind::Ping,
        Kind::Close,
        Kind::Proof,
        Kind::Hello,
        Kind::Welcome,
    ]);
    for kind in kinds {
        let mut buffer = BytesMut::new();
        put(&mut buffer, kind, b"body");
        let read = take(&mut buffer, 4).unwrap().unwrap();
        assert_eq!(read, (kind, Bytes::from_static(b"body")));
        assert!(buffer.is_empty());
    }
}

#[test]
fn a_length_over_the_bound_is_refused_before_the_body_comes() {
    let mut buffer = BytesMut::new();
    buffer.put_u32(u32::try_from(FRAME_BYTES_MAX).unwrap() + 1);
    buffer.put_u8(0);
    assert_eq!(take(&mut buffer, FRAME_BYTES_MAX), Err(Refusal::TooLong));
    let mut buffer = BytesMut::from(&[0, 0, 0, 0, 99][..]);
    assert_eq!(take(&mut buffer, FRAME_BYTES_MAX), Err(Refusal::Frame));
}

#[test]
fn a_greeting_reads_back_and_other_versions_are_refused() {
    let body = hello().encode();
    assert!(body.len() <= PEER_HELLO_BYTES_MAX);
    assert_eq!(Hello::decode(&body, SchemaVersion::OLDEST), Ok(hello()));
    let with = |required: u8, read: u8| {
        let mut other = body.clone();
        other[..4].copy_from_slice(&[0, required, 0, read]);
        other
    };
    let newest = SchemaVersion::NEWEST;
    let reads = SchemaVersion(9);
    let later = Hello { reads, ..hello() };
    assert_eq!(Hello::decode(&with(1, 9), newest), Ok(later));
    assert_eq!(Hello::decode(&with(1, 1), newest), Err(Refusal::Older));
    assert_eq!(Hello::decode(&with(4, 9), newest), Err(Refusal::Newer));
    let needs = Hello::decode(&with(3, 3), newest).map(|hello| hello.required);
    assert_eq!(needs, Ok(newest));
    for length in 0..body.len() {
        assert!(Hello::decode(&body[..length], SchemaVersion::OLDEST).is_err());
    }
}

#[test]
fn a_greeting_without_an_address_is_refused() {
    for address in ["0.0.0.0:7000", "127.0.0.1:0", "[::]:7000"] {
        let body = Hello {
            advertise: address.parse().unwrap(),
            ..hello()
        };
        assert_eq!(
            Hello::decode(&body.encode(), SchemaVersion::OLDEST),
            Err(Refusal::Frame)
        );
    }
}

proptest! {
    #[test]
    fn any_octets_are_a_frame_or_none(octets in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut buffer = BytesMut::from(&octets[..]);
        while let Ok(Some((_, body))) = take(&mut buffer, 32) {
            prop_assert!(body.len() <= 32);
        }
        let _ = Hello::decode(&octets, SchemaVersion::OLDEST);
    }
}
