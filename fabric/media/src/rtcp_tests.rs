//! RTCP compounds of RFC 3550 §6, their rewriting, and the corpora.

use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::rtp::RtpHeader;

const MAP: RtcpMap = RtcpMap {
    sender: 0xb0b0_b0b0,
    timestamp_offset: 1_000,
    sent: (77, 7_700),
    reported: Some((0x0a0a_0a0a, 0x0bad_cafe)),
    sequence_offset: 500,
};

fn packet(kind: u8, count: u8, words: &[u32]) -> Vec<u8> {
    let mut packet = vec![0x80 | count, kind];
    packet.extend((words.len() as u16).to_be_bytes());
    packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    packet
}

fn sender_report() -> Vec<u8> {
    let info = [0x0a11_ce00, 11, 12, 5_000, 3, 480];
    let block = [0x0a0a_0a0a, 0x40ff_fffe, 0x0001_0600, 42, 7, 8];
    packet(200, 1, &[&info[..], &block[..]].concat())
}

fn description(name: &[u8]) -> Vec<u8> {
    let mut body = 0x0a11_ce00_u32.to_be_bytes().to_vec();
    body.extend([1, name.len() as u8]);
    body.extend(name);
    body.push(0);
    body.resize(body.len().next_multiple_of(4), 0);
    let mut packet = vec![0x81, 202];
    packet.extend((body.len() as u16 / 4).to_be_bytes());
    packet.extend(body);
    packet
}

#[test]
fn reports_are_read() {
    let compound = [sender_report(), description(b"alice@10.0.0.5")].concat();
    assert_eq!(check(&compound), Ok(()));
    let read: Vec<_> = packets(&compound)
        .map(|packet| packet.expect("well formed"))
        .collect();
    assert_eq!(read[0].kind, RtcpKind::SenderReport);
    assert_eq!(read[0].sender_ssrc(), Some(0x0a11_ce00));
    assert_eq!(read[1].kind, RtcpKind::SourceDescription);
    let blocks: Vec<_> = read[0].report_blocks().collect();
    let expected = ReportBlock {
        ssrc: 0x0a0a_0a0a,
        fraction_lost: 0x40,
        lost: -2,
        highest_sequence: 0x0001_0600,
        jitter: 42,
        last_report: 7,
        delay: 8,
    };
    assert_eq!(blocks, [expected]);
}

#[test]
fn a_relayed_compound_speaks_of_our_streams() {
    let goodbye = packet(203, 1, &[0x0a11_ce00]);
    let application = packet(204, 0, &[0x0a11_ce00, 0x6e61_6d65, 1]);
    let mut compound = [
        sender_report(),
        application,
        description(b"alice@10.0.0.5"),
        goodbye,
    ]
    .concat();
    let length = rewrite(&mut compound, &MAP).expect("well formed");
    let written = &compound[..length];
    let read: Vec<_> = packets(written)
        .map(|packet| packet.expect("well formed"))
        .collect();
    assert_eq!(read.len(), 2, "APP and BYE are not relayed");
    assert_eq!(read[0].sender_ssrc(), Some(0xb0b0_b0b0));
    assert_eq!(word(read[0].body, 12), Some(6_000));
    assert_eq!(
        (word(read[0].body, 16), word(read[0].body, 20)),
        (Some(77), Some(7_700))
    );
    let block = read[0].report_blocks().next().expect("a block");
    assert_eq!(
        (block.ssrc, block.highest_sequence),
        (0x0bad_cafe, 0x0001_0600 - 500)
    );
    assert_eq!(read[1].sender_ssrc(), Some(0xb0b0_b0b0));
    let shown = String::from_utf8_lossy(written).into_owned();
    assert!(
        !shown.contains("alice") && !shown.contains("10.0"),
        "the name is blanked"
    );
    assert!(shown.contains("b0b0b0b0b0b0b0"));
}

#[test]
fn blocks_on_other_streams_stay() {
    let mut compound = packet(201, 1, &[1, 99, 0, 0x0001_0600, 0, 0, 0]);
    assert_eq!(rewrite(&mut compound, &MAP), Ok(32));
    let report = packets(&compound)
        .next()
        .expect("one")
        .expect("well formed");
    let block = report.report_blocks().next().expect("a block");
    assert_eq!((block.ssrc, block.highest_sequence), (99, 0x0001_0600));
}

#[test]
fn feedback_names_the_other_peers_numbers() {
    let report = packet(201, 0, &[1]);
    let nack = packet(205, 1, &[1, 0x0a0a_0a0a, 0x0258_0001]);
    let congestion = packet(205, 15, &[1, 0x0a0a_0a0a, 0x0258_0001]);
    let picture = packet(206, 1, &[1, 0x0a0a_0a0a]);
    let mut compound = [report, nack, congestion, picture].concat();
    let length = rewrite(&mut compound, &MAP).expect("well formed");
    let read: Vec<_> = packets(&compound[..length])
        .map(|packet| packet.expect("well formed"))
        .collect();
    assert_eq!(read.len(), 3, "transport-wide feedback is not relayed");
    assert_eq!(word(read[1].body, 4), Some(0x0bad_cafe));
    assert_eq!(word(read[1].body, 8), Some(0x0064_0001), "600 - 500");
    assert_eq!(word(read[2].body, 4), Some(0x0bad_cafe));
}

#[test]
fn malformed_compounds_are_refused() {
    let report = packet(201, 0, &[1]);
    let padded = |last: u8| vec![0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, last];
    let table = [
        (vec![], RtcpError::Length),
        (vec![0x80, 201, 0], RtcpError::Length),
        (vec![0x40, 201, 0, 0], RtcpError::Version),
        (vec![0x80, 201, 0, 0], RtcpError::Length),
        (vec![0x80, 201, 0, 9, 0, 0, 0, 1], RtcpError::Length),
        (packet(201, 1, &[1]), RtcpError::Length),
        (packet(200, 0, &[1]), RtcpError::Length),
        (packet(203, 0, &[]), RtcpError::NoReport),
        (description(b"x"), RtcpError::NoReport),
        (
            [report.clone(), packet(203, 2, &[1])].concat(),
            RtcpError::Length,
        ),
        (
            [report.clone(), packet(205, 1, &[1])].concat(),
            RtcpError::Length,
        ),
        (padded(0), RtcpError::Length),
        (padded(3), RtcpError::Length),
        (padded(8), RtcpError::Length),
        (report.repeat(33), RtcpError::TooMany),
        (packet(201, 0, &[1; 400]), RtcpError::Length),
    ];
    for (mut compound, error) in table {
        assert_eq!(check(&compound), Err(error), "{compound:?}");
        assert_eq!(rewrite(&mut compound, &MAP), Err(error), "{compound:?}");
    }
    assert_eq!(check(&padded(4)), Ok(()));
    let mut broken = [report, vec![0x81, 202, 0, 2, 0, 0, 0, 1, 1, 9, b'x', 0]].concat();
    assert_eq!(
        rewrite(&mut broken, &MAP),
        Ok(8),
        "a description that does not fit is left out"
    );
}

proptest! {
    #[test]
    fn any_octets_survive(mut octets in vec(any::<u8>(), 0..400), kind in 199_u8..208, count in 0_u8..32) {
        if octets.len() > 4 {
            octets[0] = 0x80 | count;
            octets[1] = kind;
            octets[2] = 0;
        }
        let before = octets.len();
        if let Ok(length) = rewrite(&mut octets, &MAP) {
            prop_assert!(length <= before);
            prop_assert_eq!(check(&octets[..length]), Ok(()));
        }
    }
}

#[test]
fn the_rtp_and_rtcp_corpora_survive() {
    let root = std::env::var_os("WEFT_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let (mut cases, mut rtp, mut rtcp) = (0, 0, 0);
    for folder in ["rtp-rtcp", "srtp-fuzz", "dtls", "stun"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            println!("{folder}: no data, nothing run");
            continue;
        };
        for path in entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
        {
            let mut octets = std::fs::read(&path).expect("readable data");
            cases += 1;
            if let Ok(header) = RtpHeader::read(&octets) {
                rtp += 1;
                assert!(header.payload(&octets).len() + 12 <= octets.len());
                header.write(&mut octets.clone());
            }
            if let Ok(length) = rewrite(&mut octets, &MAP) {
                rtcp += 1;
                assert_eq!(check(&octets[..length]), Ok(()), "{}", path.display());
            }
        }
    }
    println!("rtp and rtcp corpora: {cases} cases, {rtp} RTP, {rtcp} RTCP");
    assert!(cases == 0 || (cases > 80 && rtp > 0 && rtcp > 0));
}
