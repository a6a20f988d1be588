//! What a packet costs under each SRTP profile: protected by one end and opened by the other.
//!
//! `cargo bench -p weft-tests --bench srtp` prints the median of eight alternating rounds. The order
//! of preference in `nodes/src/media_plane/srtp.rs` follows it.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures time and prints what it found"
)]

use std::time::Instant;

use contract::{KeyMaterial, SrtpKeys, SrtpProfile};
use media::relay::{SRTP_TAIL_BYTES, SrtpMaker, SrtpStart};
use weft::media_plane::srtp::LibraryMaker;

const ROUNDS: usize = 8;
const PACKETS: u16 = 20_000;
/// 20 ms of G.711.
const PACKET_BYTES: usize = 172;
const SSRC: u32 = 7;

fn keys(profile: SrtpProfile) -> SrtpKeys {
    let octets = |first: u8, count: usize| KeyMaterial::new(vec![first; count]);
    SrtpKeys {
        profile,
        peer_profile: profile,
        our_key: octets(1, profile.key_bytes()),
        our_salt: octets(2, profile.salt_bytes()),
        peer_key: octets(1, profile.key_bytes()),
        peer_salt: octets(2, profile.salt_bytes()),
        rtcp_index_start: 0,
        received: Vec::new(),
    }
}

/// Nanoseconds a packet, protected and opened.
fn round(profile: SrtpProfile) -> (f64, f64) {
    let start = SrtpStart {
        ssrc: SSRC,
        sequence_start: 0,
        rollover_start: 0,
    };
    let mut srtp = LibraryMaker.make(&keys(profile), start).expect("good keys");
    let mut packets: Vec<Vec<u8>> = (0..PACKETS)
        .map(|number| {
            let mut packet = vec![0x80, 0];
            packet.extend(number.to_be_bytes());
            packet.extend((u32::from(number) * 160).to_be_bytes());
            packet.extend(SSRC.to_be_bytes());
            packet.resize(PACKET_BYTES + SRTP_TAIL_BYTES, 0x55);
            packet
        })
        .collect();
    let begin = Instant::now();
    let mut lengths = Vec::with_capacity(packets.len());
    for packet in &mut packets {
        lengths.push(
            srtp.protect_rtp(packet, PACKET_BYTES, 0)
                .expect("protected"),
        );
    }
    let protected = begin.elapsed();
    let begin = Instant::now();
    for (packet, length) in packets.iter_mut().zip(lengths) {
        let opened = srtp.unprotect_rtp(packet, length).expect("authentic");
        assert_eq!(opened, PACKET_BYTES);
    }
    let opened = begin.elapsed();
    let each = |time: std::time::Duration| time.as_nanos() as f64 / f64::from(PACKETS);
    (each(protected), each(opened))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2 - 1] + figures[figures.len() / 2]) / 2.0
}

fn main() {
    let mut found: Vec<Vec<(f64, f64)>> = vec![Vec::new(); SrtpProfile::ALL.len()];
    for _ in 0..ROUNDS {
        for (profile, figures) in SrtpProfile::ALL.iter().zip(&mut found) {
            figures.push(round(*profile));
        }
    }
    println!("{PACKET_BYTES} octets, median of {ROUNDS} rounds of {PACKETS} packets, ns a packet");
    for (profile, figures) in SrtpProfile::ALL.iter().zip(&found) {
        let protected = median(figures.iter().map(|figure| figure.0).collect());
        let opened = median(figures.iter().map(|figure| figure.1).collect());
        println!("{profile:?}: protect {protected:.0}, open {opened:.0}");
    }
}
