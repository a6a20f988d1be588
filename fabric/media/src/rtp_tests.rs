//! RTP headers of RFC 3550 §5.1, their bounds, and the corpus.

use super::*;

fn packet() -> Vec<u8> {
    vec![0x80, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0xaa, 0xbb]
}

#[test]
fn fields_are_read_and_the_payload_found() {
    let packet = packet();
    let header = RtpHeader::read(&packet).expect("rtp");
    assert!(header.marker);
    assert_eq!((header.payload_type, header.sequence), (96, 0x0102));
    assert_eq!((header.timestamp, header.ssrc), (0x0304_0506, 0x0708_090a));
    assert_eq!(header.payload(&packet), [0xaa, 0xbb]);
}

#[test]
fn sources_extension_and_padding_are_no_payload() {
    let mut packet = packet();
    packet[0] = 0x80 | 0x10 | 0x20 | 2;
    packet.truncate(12);
    packet.extend([1, 1, 1, 1, 2, 2, 2, 2]);
    packet.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
    packet.extend([0x55, 0, 0, 3]);
    let header = RtpHeader::read(&packet).expect("rtp");
    assert_eq!(header.payload(&packet), [0x55]);
    header.write(&mut packet);
    assert_eq!(
        packet[12..20],
        [0; 8],
        "the far side's sources are not told"
    );
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let with = |first: u8, tail: &[u8]| {
        let mut packet = packet();
        packet[0] = first;
        packet.truncate(12);
        packet.extend_from_slice(tail);
        packet
    };
    let table = [
        (vec![], RtpError::Length),
        (packet()[..11].to_vec(), RtpError::Length),
        (with(0x40, &[]), RtpError::Version),
        (with(0x81, &[0, 0, 0]), RtpError::Length),
        (with(0x90, &[0, 0, 0]), RtpError::Length),
        (with(0x90, &[0, 0, 0, 1]), RtpError::Length),
        (with(0x90, &[0, 0, 0xff, 0xff]), RtpError::Length),
        (with(0xa0, &[1, 2, 4]), RtpError::Length),
        (with(0xa0, &[]), RtpError::Length),
        (vec![0x80; 1_501], RtpError::Length),
    ];
    for (packet, error) in table {
        assert_eq!(RtpHeader::read(&packet), Err(error), "{packet:?}");
    }
    assert!(
        RtpHeader::read(&with(0xa0, &[0])).is_ok(),
        "a padding of 0 counts as its own octet"
    );
}

#[test]
fn headers_are_written_in_place() {
    let mut packet = packet();
    let mut header = RtpHeader::read(&packet).expect("rtp");
    header.marker = false;
    header.payload_type = 8;
    header.sequence = 0xffff;
    header.timestamp = 1;
    header.ssrc = 0xdead_beef;
    header.write(&mut packet);
    assert_eq!(
        packet,
        [
            0x80, 8, 0xff, 0xff, 0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 0xaa, 0xbb
        ]
    );
    assert_eq!(RtpHeader::read(&packet), Ok(header));
    header.write(&mut packet[..5]);
}

#[test]
fn datagrams_are_told_apart_by_rfc_7983() {
    let table: [(&[u8], DatagramKind); 10] = [
        (&[0, 1], DatagramKind::Stun),
        (&[3], DatagramKind::Stun),
        (&[16], DatagramKind::Zrtp),
        (&[20], DatagramKind::Dtls),
        (&[64], DatagramKind::TurnChannel),
        (&[128, 0], DatagramKind::Rtp),
        (&[128, 200], DatagramKind::Rtcp),
        (&[191, 224], DatagramKind::Rtp),
        (&[192, 0], DatagramKind::Unknown),
        (&[], DatagramKind::Unknown),
    ];
    for (datagram, kind) in table {
        assert_eq!(DatagramKind::of(datagram), kind, "{datagram:?}");
    }
}
