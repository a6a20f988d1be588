//! Queues, without a connection.

use contract::limits::FRAME_BYTES_MAX;

use super::*;

#[test]
fn the_most_urgent_class_is_taken_first_and_each_class_in_order() {
    let outbox = Outbox::new(Track::Urgent);
    for (class, body) in [
        (FrameClass::InDialog, "a"),
        (FrameClass::Commit, "b"),
        (FrameClass::Commit, "c"),
        (FrameClass::Membership, "d"),
    ] {
        outbox
            .push(class, Bytes::from_static(body.as_bytes()))
            .unwrap();
    }
    let mut out = BytesMut::new();
    assert!(!outbox.take(&mut out));
    let mut order = Vec::new();
    while let Some((_, body)) = wire::take(&mut out, 9).unwrap() {
        order.push(String::from_utf8(body.to_vec()).unwrap());
    }
    assert_eq!(order, ["d", "b", "c", "a"]);
}

#[test]
fn a_queue_is_bounded_in_frames_and_in_octets_and_the_others_still_take() {
    let outbox = Outbox::new(Track::Bulk);
    for _ in 0..PEER_QUEUE_FRAMES_MAX {
        outbox.push(FrameClass::Invite, Bytes::new()).unwrap();
    }
    let full = outbox.push(FrameClass::Invite, Bytes::new());
    assert_eq!(full, Err(PeerFault::Busy));
    let long = Bytes::from(vec![0; FRAME_BYTES_MAX]);
    for _ in 0..PEER_QUEUE_BYTES_MAX / FRAME_BYTES_MAX {
        outbox.push(FrameClass::Bulk, long.clone()).unwrap();
    }
    let full = outbox.push(FrameClass::Bulk, Bytes::from_static(b"x"));
    assert_eq!(full, Err(PeerFault::Busy));
    outbox.push(FrameClass::Register, long).unwrap();
    let other = outbox.push(FrameClass::Commit, Bytes::new());
    assert_eq!(other, Err(PeerFault::Absent));
}

#[test]
fn an_ending_outbox_takes_nothing_and_gives_what_it_has() {
    let outbox = Outbox::new(Track::Urgent);
    outbox
        .push(FrameClass::Commit, Bytes::from_static(b"last"))
        .unwrap();
    outbox.end();
    let late = outbox.push(FrameClass::Commit, Bytes::new());
    assert_eq!(late, Err(PeerFault::Absent));
    let mut out = BytesMut::new();
    assert!(outbox.take(&mut out));
    assert_eq!(out.len(), wire::HEADER_BYTES + 4);
}
