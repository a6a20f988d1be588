//! Contexts against the RFCs' vectors, restarts, replays, forgeries and the shared corpora.
//!
//! The vectors of RFC 7714 and RFC 3711 B.2 give session keys, which contexts derive and do not take.
//! So SRTP is written here a second time (`Oracle`); the vectors prove the oracle and its key
//! derivation, and the oracle proves the contexts, octet for octet.

use std::path::PathBuf;

use aes::cipher::{KeyIvInit, StreamCipher};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use contract::limits::{SEQUENCE_BLOCK, SRTCP_BLOCK, SRTP_RETIRED_MAX};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::*;

const SSRC: u32 = 0x5501_a0b2;
const RTP_BYTES: usize = 172;

/// Session keys of one direction, used as the RFCs say.
struct Oracle {
    profile: SrtpProfile,
    rtp: SessionKeys,
    rtcp: SessionKeys,
}

struct SessionKeys {
    key: Vec<u8>,
    salt: Vec<u8>,
    auth: Vec<u8>,
}

/// AES in counter mode (RFC 3711 §4.1.1, RFC 6188): the key stream from an initial block.
fn key_stream(key: &[u8], block: [u8; 16], length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    if key.len() == 16 {
        let mut cipher = ctr::Ctr128BE::<aes::Aes128>::new(key.into(), &block.into());
        cipher.apply_keystream(&mut out);
    } else {
        let mut cipher = ctr::Ctr128BE::<aes::Aes256>::new(key.into(), &block.into());
        cipher.apply_keystream(&mut out);
    }
    out
}

/// Key derivation with a rate of zero (RFC 3711 §4.3.1; RFC 7714 §11 pads the salt).
fn derive(master: &[u8], salt: &[u8], label: u8, length: usize) -> Vec<u8> {
    let mut block = [0; 16];
    block[..salt.len()].copy_from_slice(salt);
    block[7] ^= label;
    key_stream(master, block, length)
}

/// Initial block of RFC 3711 §4.1.1: salt, SSRC and 48 bits of index.
fn counter_block(salt: &[u8], ssrc: u32, index: u64) -> [u8; 16] {
    let mut block = [0; 16];
    block[..salt.len()].copy_from_slice(salt);
    let number = u128::from(ssrc) << 64 | u128::from(index) << 16;
    (u128::from_be_bytes(block) ^ number).to_be_bytes()
}

fn gcm(key: &[u8], nonce: [u8; 12], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: plain, aad };
    let done = if key.len() == 16 {
        aes_gcm::Aes128Gcm::new(key.into()).encrypt(&nonce.into(), payload)
    } else {
        aes_gcm::Aes256Gcm::new(key.into()).encrypt(&nonce.into(), payload)
    };
    done.expect("short")
}

/// The nonce of RFC 7714 §8.1 and §9.1: two zeroes, SSRC, 48 bits of index, XOR salt.
fn nonce(salt: &[u8], ssrc: u32, index: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
    for (octet, salt) in nonce.iter_mut().zip(salt) {
        *octet ^= salt;
    }
    nonce
}

fn tag(key: &[u8], parts: [&[u8]; 2], length: usize) -> Vec<u8> {
    let mut mac = <Hmac<Sha1> as Mac>::new_from_slice(key).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes()[..length].to_vec()
}

const fn is_gcm(profile: SrtpProfile) -> bool {
    matches!(
        profile,
        SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm
    )
}

impl Oracle {
    fn new(profile: SrtpProfile, master: &[u8], salt: &[u8]) -> Oracle {
        let session = |first: u8| SessionKeys {
            key: derive(master, salt, first, profile.key_bytes()),
            auth: derive(master, salt, first + 1, 20),
            salt: derive(master, salt, first + 2, profile.salt_bytes()),
        };
        Oracle {
            profile,
            rtp: session(0),
            rtcp: session(3),
        }
    }

    fn rtp(&self, packet: &[u8], header: usize, rollover: u32) -> Vec<u8> {
        let ssrc = u32::from_be_bytes(packet[8..12].try_into().expect("four"));
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let index = u64::from(rollover) << 16 | u64::from(sequence);
        let (keys, mut out) = (&self.rtp, packet[..header].to_vec());
        if is_gcm(self.profile) {
            let sealed = gcm(
                &keys.key,
                nonce(&keys.salt, ssrc, index),
                &packet[..header],
                &packet[header..],
            );
            out.extend(sealed);
            return out;
        }
        let block = counter_block(&keys.salt, ssrc, index);
        let stream = key_stream(&keys.key, block, packet.len() - header);
        out.extend(packet[header..].iter().zip(stream).map(|(a, b)| a ^ b));
        let length = rtp_tail(self.profile);
        let tag = tag(&keys.auth, [&out, &rollover.to_be_bytes()], length);
        out.extend(tag);
        out
    }

    fn rtcp(&self, packet: &[u8], index: u32) -> Vec<u8> {
        let ssrc = u32::from_be_bytes(packet[4..8].try_into().expect("four"));
        let word = (index | 1 << 31).to_be_bytes();
        let (keys, mut out) = (&self.rtcp, packet[..8].to_vec());
        if is_gcm(self.profile) {
            let aad = [&packet[..8], &word].concat();
            let nonce = nonce(&keys.salt, ssrc, index.into());
            out.extend(gcm(&keys.key, nonce, &aad, &packet[8..]));
            out.extend(word);
            return out;
        }
        let block = counter_block(&keys.salt, ssrc, index.into());
        let stream = key_stream(&keys.key, block, packet.len() - 8);
        out.extend(packet[8..].iter().zip(stream).map(|(a, b)| a ^ b));
        out.extend(word);
        let tag = tag(&keys.auth, [&out, &[]], 10);
        out.extend(tag);
        out
    }
}

fn keys(profile: SrtpProfile) -> SrtpKeys {
    let octets = |first: u8, count: usize| {
        let octets = (0..count).map(|at| first.wrapping_add(at as u8 * 7));
        KeyMaterial::new(octets.collect())
    };
    SrtpKeys {
        profile,
        peer_profile: profile,
        our_key: octets(1, profile.key_bytes()),
        our_salt: octets(80, profile.salt_bytes()),
        peer_key: octets(140, profile.key_bytes()),
        peer_salt: octets(200, profile.salt_bytes()),
        rtcp_index_start: 0,
        received: Vec::new(),
    }
}

/// The same keys as the peer has them.
fn turned(keys: &SrtpKeys) -> SrtpKeys {
    SrtpKeys {
        profile: keys.peer_profile,
        peer_profile: keys.profile,
        our_key: keys.peer_key.clone(),
        our_salt: keys.peer_salt.clone(),
        peer_key: keys.our_key.clone(),
        peer_salt: keys.our_salt.clone(),
        rtcp_index_start: 0,
        received: Vec::new(),
    }
}

fn start(index: u64) -> SrtpStart {
    SrtpStart {
        ssrc: SSRC,
        sequence_start: index as u16,
        rollover_start: (index >> 16) as u32,
    }
}

fn make(keys: &SrtpKeys, index: u64) -> LibrarySrtp {
    LibrarySrtp::new(keys, start(index)).expect("good keys")
}

fn packet(ssrc: u32, index: u64) -> Vec<u8> {
    let mut packet = dummy(ssrc, index).1.to_vec();
    packet.extend((0..RTP_BYTES - RTP_HEADER_BYTES).map(|at| (at as u64 ^ index) as u8));
    packet
}

fn report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([7; 20]);
    packet
}

/// Protects a packet in a buffer with just the room it needs.
fn protect(srtp: &mut LibrarySrtp, plain: &[u8], rollover: u32) -> Result<Vec<u8>, SrtpFault> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + SRTP_TAIL_BYTES, 0);
    let length = srtp.protect_rtp(&mut buffer, plain.len(), rollover)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn protect_rtcp(srtp: &mut LibrarySrtp, plain: &[u8]) -> Result<Vec<u8>, SrtpFault> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + SRTP_TAIL_BYTES, 0);
    let length = srtp.protect_rtcp(&mut buffer, plain.len())?;
    buffer.truncate(length);
    Ok(buffer)
}

fn send(srtp: &mut LibrarySrtp, index: u64) -> Vec<u8> {
    let rollover = (index >> 16) as u32;
    protect(srtp, &packet(SSRC, index), rollover).expect("protected")
}

fn open(srtp: &mut LibrarySrtp, protected: &[u8]) -> Result<Vec<u8>, SrtpFault> {
    let mut buffer = protected.to_vec();
    let length = srtp.unprotect_rtp(&mut buffer, protected.len())?;
    buffer.truncate(length);
    Ok(buffer)
}

fn open_rtcp(srtp: &mut LibrarySrtp, protected: &[u8]) -> Result<Vec<u8>, SrtpFault> {
    let mut buffer = protected.to_vec();
    let length = srtp.unprotect_rtcp(&mut buffer, protected.len())?;
    buffer.truncate(length);
    Ok(buffer)
}

fn data(folder: &str) -> Option<PathBuf> {
    let base = std::env::var_os("WEFT_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    Some(base.join(folder)).filter(|folder| folder.is_dir())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|octet| char::from(octet).to_digit(16).map(|digit| digit as u8))
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Returns the hexadecimal lines after a caption of an RFC's section.
fn block(section: &str, caption: &str) -> Option<Vec<u8>> {
    let after = &section[section.find(caption)? + caption.len()..];
    let is_hex = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && line.chars().all(|c| c.is_ascii_hexdigit() || c == ' ')
    };
    let lines = after.lines().skip_while(|line| line.trim().is_empty());
    Some(lines.take_while(is_hex).flat_map(hex).collect())
}

#[test]
fn the_vectors_of_rfc_3711_and_rfc_7714_hold() {
    let Some(folder) = data("srtp-vectors") else {
        println!("srtp-vectors: not there");
        return;
    };
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_str(&read(name)).expect("a JSON file")
    };
    let octets = |value: &serde_json::Value, name: &str| hex(value[name].as_str().expect("text"));
    let mut count = 0;

    let b2 = json("rfc3711-b2-aes-cm.json");
    let first = counter_block(&octets(&b2, "salt"), 0, 0);
    let stream = key_stream(&octets(&b2, "key"), first, 48);
    assert_eq!(stream, octets(&b2, "keystream_first48"));
    let b3 = json("rfc3711-b3-kdf.json");
    let (master, salt) = (octets(&b3, "master_key"), octets(&b3, "master_salt"));
    let derived = |label, length| derive(&master, &salt, label, length);
    assert_eq!(derived(0, 16), octets(&b3, "cipher_key"));
    assert_eq!(derived(1, 94), octets(&b3, "auth_key94"));
    assert_eq!(derived(2, 14), octets(&b3, "cipher_salt"));
    // The contexts derive the same: what they make of a packet is the oracle's.
    let profile = SrtpProfile::AesCm128HmacSha1_80;
    let mut vector = keys(profile);
    vector.our_key = KeyMaterial::new(master.clone());
    vector.our_salt = KeyMaterial::new(salt.clone());
    let oracle = Oracle::new(profile, &master, &salt);
    let plain = packet(SSRC, 7);
    assert_eq!(send(&mut make(&vector, 7), 7), oracle.rtp(&plain, 12, 0));
    count += 2;

    let session = |key: Vec<u8>| SessionKeys {
        key,
        salt: b"Quid pro quo".to_vec(),
        auth: Vec::new(),
    };
    let of_key = |key: &[u8]| Oracle {
        profile: SrtpProfile::AeadAes128Gcm,
        rtp: session(key.to_vec()),
        rtcp: session(key.to_vec()),
    };
    let gcm = json("rfc7714-srtp-gcm128.json");
    let sealed = of_key(&octets(&gcm, "key")).rtp(&octets(&gcm, "packet"), 12, 0);
    assert_eq!(sealed, octets(&gcm, "srtp"));
    count += 1;
    for (file, is_rtcp) in [
        ("rfc7714-rtp-vectors.txt", false),
        ("rfc7714-rtcp-vectors.txt", true),
    ] {
        let text = read(file);
        for section in text.split("Form the IV").collect::<Vec<_>>().windows(2) {
            let before = section[0];
            let packet = block(before, "Encrypting the following packet:");
            let sealed = block(section[1], "Encrypted and tagged packet:");
            let opened = block(section[1], "Verified and decrypted packet:");
            let (packet, sealed) = match (packet, sealed, opened) {
                (Some(packet), Some(sealed), _) => (packet, sealed),
                (_, _, Some(opened)) => {
                    let sealed = block(before, "Decrypting the following packet:");
                    (opened, sealed.expect("what is decrypted"))
                }
                _ => continue,
            };
            let key = block(section[1], "Key:").expect("a key");
            let oracle = of_key(&key);
            let made = if is_rtcp {
                oracle.rtcp(&packet, 0x5d4)
            } else {
                oracle.rtp(&packet, 12, 0)
            };
            assert_eq!(made, sealed, "{file}");
            count += 1;
        }
    }
    assert!(count >= 7, "{count} vectors");
    println!("srtp-vectors: {count} cases");
}

#[test]
fn contexts_make_what_the_oracle_makes() {
    let mut long = packet(SSRC, 0);
    // Two contributing sources; a one-byte extension with padding between its elements.
    long[0] |= 0x12;
    let extension = [
        0xbe, 0xde, 0, 3, 0x10, 9, 0, 0, 0x21, 1, 2, 0, 0x30, 5, 0, 0,
    ];
    long.splice(12..12, [0; 8].into_iter().chain(extension));
    let mut cases = 0;
    for profile in SrtpProfile::ALL.into_iter() {
        let keys = keys(profile);
        let oracle = Oracle::new(profile, keys.our_key.expose(), keys.our_salt.expose());
        for index in [0, 1, 65_535, 65_536, 3 << 16 | 32_768, 200 << 16 | 5] {
            let mut srtp = make(&keys, index);
            let rollover = (index >> 16) as u32;
            let plain = packet(SSRC, index);
            let made = protect(&mut srtp, &plain, rollover).expect("protected");
            assert_eq!(
                made,
                oracle.rtp(&plain, 12, rollover),
                "{profile:?} {index}"
            );
            long[2..4].copy_from_slice(&(index as u16).to_be_bytes());
            let made = protect(&mut make(&keys, index), &long, rollover).expect("protected");
            assert_eq!(made, oracle.rtp(&long, 36, rollover), "{profile:?} {index}");
            cases += 2;
        }
        for index in [1, 2, 2_048, 5_000] {
            let mut keys = keys.clone();
            keys.rtcp_index_start = index;
            let mut srtp = make(&keys, 0);
            assert_eq!(srtp.rtcp_index(), index);
            let made = protect_rtcp(&mut srtp, &report(SSRC)).expect("protected");
            assert_eq!(
                made,
                oracle.rtcp(&report(SSRC), index),
                "{profile:?} {index}"
            );
            assert_eq!(srtp.rtcp_index(), index + 1);
            cases += 1;
        }
    }
    assert_eq!(cases, 64);
}

#[test]
fn both_ends_agree_over_roll_overs_and_restarts() {
    for profile in SrtpProfile::ALL.into_iter() {
        let ours = keys(profile);
        let theirs = turned(&ours);
        let (mut sender, mut receiver) = (make(&ours, 65_000), make(&theirs, 0));
        let mut index = 65_000_u64;
        let mut restarts = 0;
        while index < 2 << 16 | 500 {
            let protected = send(&mut sender, index);
            let opened = open(&mut receiver, &protected).expect("authentic");
            assert_eq!(opened, packet(SSRC, index), "{profile:?} at {index}");
            index += 61;
            if index % 7_000 < 61 {
                // Both ends start again: ours jumps a block, the receiver knows an older index.
                let received = receiver.received();
                assert_eq!(received[0].index, index - 61);
                index += u64::from(SEQUENCE_BLOCK);
                sender = make(&ours, index);
                let mut recorded = theirs.clone();
                recorded.received = received;
                receiver = make(&recorded, 0);
                restarts += 1;
            }
        }
        assert!(restarts > 5 && index >> 16 == 2, "{restarts} restarts");
        // Without what was recorded the receiver would be lost: roll-overs are not guessed.
        let protected = send(&mut sender, index);
        let lost = open(&mut make(&theirs, 0), &protected);
        assert_eq!(lost, Err(SrtpFault::NotAuthentic));
    }
}

#[test]
fn ten_restarts_with_nothing_delivered_do_not_lose_the_peer() {
    for profile in SrtpProfile::ALL.into_iter() {
        let ours = keys(profile);
        let mut receiver = make(&turned(&ours), 0);
        let first = 60_000_u64;
        open(&mut receiver, &send(&mut make(&ours, first), first)).expect("authentic");
        let (mut index, mut rtcp_index) = (first + 1_536, 1);
        for _ in 0..10 {
            index += u64::from(SEQUENCE_BLOCK);
            rtcp_index += SRTCP_BLOCK;
            let mut recorded = ours.clone();
            recorded.rtcp_index_start = rtcp_index;
            let mut sender = make(&recorded, index);
            // Sent, and lost on the way.
            send(&mut sender, index);
            protect_rtcp(&mut sender, &report(SSRC)).expect("protected");
        }
        let sum = index - first;
        assert!(sum < 32_768, "{sum}");
        let mut recorded = ours.clone();
        recorded.rtcp_index_start = rtcp_index + 1;
        let mut sender = make(&recorded, index + 1);
        let opened = open(&mut receiver, &send(&mut sender, index + 1));
        assert_eq!(opened.expect("authentic"), packet(SSRC, index + 1));
        let protected = protect_rtcp(&mut sender, &report(SSRC)).expect("protected");
        let opened = open_rtcp(&mut receiver, &protected).expect("authentic");
        assert_eq!(opened, report(SSRC));
        println!("{profile:?}: ten restarts, {sum} numbers skipped");
    }
}

#[test]
fn the_replay_window_is_64_packets() {
    for profile in SrtpProfile::ALL.into_iter() {
        let ours = keys(profile);
        for newest in [1_000_u64, 65_536 + 20, 3 << 16] {
            let mut sender = make(&ours, newest - 200);
            let mut recorded = turned(&ours);
            recorded.received = vec![ReceivedIndex {
                ssrc: SSRC,
                index: newest - 200,
            }];
            let mut receiver = make(&recorded, 0);
            let sent: Vec<_> = (newest - 150..=newest)
                .map(|index| send(&mut sender, index))
                .collect();
            let behind = |distance: usize| &sent[sent.len() - 1 - distance];
            open(&mut receiver, behind(0)).expect("the newest");
            assert_eq!(open(&mut receiver, behind(0)), Err(SrtpFault::Replayed));
            for distance in 1..64 {
                assert!(open(&mut receiver, behind(distance)).is_ok(), "{distance}");
                assert_eq!(
                    open(&mut receiver, behind(distance)),
                    Err(SrtpFault::Replayed)
                );
            }
            for distance in [64, 65, 100, 149] {
                assert_eq!(
                    open(&mut receiver, behind(distance)),
                    Err(SrtpFault::Replayed)
                );
            }
            let next = send(&mut sender, newest + 1);
            assert!(open(&mut receiver, &next).is_ok());
            assert_eq!(receiver.received()[0].index, newest + 1);
            // What came before a restart does not come again.
            let old = send(&mut make(&ours, newest - 201), newest - 201);
            assert_eq!(open(&mut receiver, &old), Err(SrtpFault::Replayed));
        }
        let (mut sender, mut receiver) = (make(&ours, 0), make(&turned(&ours), 0));
        let reports: Vec<_> = (0..70)
            .map(|_| protect_rtcp(&mut sender, &report(SSRC)).expect("protected"))
            .collect();
        assert!(open_rtcp(&mut receiver, &reports[69]).is_ok());
        assert!(open_rtcp(&mut receiver, &reports[6]).is_ok());
        for replayed in [69, 6, 5] {
            let again = open_rtcp(&mut receiver, &reports[replayed]);
            assert_eq!(again, Err(SrtpFault::Replayed));
        }
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    for profile in SrtpProfile::ALL.into_iter() {
        let ours = keys(profile);
        let (mut sender, mut receiver) = (make(&ours, 50), make(&turned(&ours), 0));
        open(&mut receiver, &send(&mut sender, 50)).expect("authentic");
        let good = send(&mut sender, 51);
        let report = protect_rtcp(&mut sender, &report(SSRC)).expect("protected");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&mut receiver, &bad).is_err(), "{profile:?} bit {bit}");
        }
        for bit in 0..report.len() * 8 {
            let mut bad = report.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let opened = open_rtcp(&mut receiver, &bad);
            assert!(opened.is_err(), "{profile:?} RTCP bit {bit}");
        }
        for length in 0..good.len() {
            assert!(open(&mut receiver, &good[..length]).is_err());
        }
        for length in 0..report.len() {
            assert!(open_rtcp(&mut receiver, &report[..length]).is_err());
        }
        assert!(open(&mut receiver, &good).is_ok());
        assert!(open_rtcp(&mut receiver, &report).is_ok());
    }
}

#[test]
fn a_hundred_thousand_forged_packets_change_nothing() {
    for profile in [SrtpProfile::AesCm128HmacSha1_80, SrtpProfile::AeadAes128Gcm] {
        let ours = keys(profile);
        let (mut sender, mut receiver) = (make(&ours, 10), make(&turned(&ours), 0));
        let mut state = 0x1234_5678_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 32) as u32
        };
        let mut forge = |receiver: &mut LibrarySrtp, count: u32| {
            for number in 0..count {
                // Of the real stream and of others; SRTCP with any index, encrypted and not.
                let ssrc = if number % 2 == 0 { SSRC } else { random() };
                let mut rtp = packet(ssrc, u64::from(random()));
                rtp.extend([random() as u8; 16]);
                assert!(open(receiver, &rtp).is_err());
                let mut rtcp = report(ssrc);
                rtcp.extend([random() as u8; 30]);
                let word = rtcp.len() - 14;
                rtcp[word..word + 4].copy_from_slice(&random().to_be_bytes());
                assert!(open_rtcp(receiver, &rtcp).is_err());
            }
        };
        // Before the first packet of the stream, when the library has no window for it yet.
        forge(&mut receiver, 1_000);
        assert!(receiver.received().is_empty() && receiver.library_packets() == 0);
        for index in 10..20 {
            open(&mut receiver, &send(&mut sender, index)).expect("authentic");
        }
        let first = protect_rtcp(&mut sender, &report(SSRC)).expect("protected");
        open_rtcp(&mut receiver, &first).expect("authentic");
        let (known, packets) = (receiver.received(), receiver.library_packets());
        forge(&mut receiver, 50_000);
        assert_eq!(
            (receiver.received(), receiver.library_packets()),
            (known, packets)
        );
        assert!(receiver.rtp.known.len() == 1 && receiver.rtp.retired.is_empty());
        assert_eq!(
            open(&mut receiver, &send(&mut sender, 20)).expect("authentic"),
            packet(SSRC, 20)
        );
        let next = protect_rtcp(&mut sender, &report(SSRC)).expect("protected");
        open_rtcp(&mut receiver, &next).expect("authentic");
        println!("{profile:?}: 102,000 forgeries");
    }
}

#[test]
fn each_file_of_the_corpora_is_survived_and_none_is_authentic() {
    let mut count = 0;
    for folder in ["srtp-fuzz", "rtp-rtcp"] {
        let Some(folder) = data(folder) else {
            println!("{folder}: not there");
            continue;
        };
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let octets = std::fs::read(entry.expect("an entry").path()).expect("a file");
            for profile in SrtpProfile::ALL.into_iter() {
                let mut srtp = make(&keys(profile), 0);
                for length in [octets.len(), octets.len().min(1_500), octets.len() / 2] {
                    assert!(open(&mut srtp, &octets[..length]).is_err());
                    assert!(open_rtcp(&mut srtp, &octets[..length]).is_err());
                    // Ours is one SSRC; whatever has it is protected and comes back whole.
                    let mut plain = octets[..length].to_vec();
                    if let Some(place) = plain.get_mut(8..12) {
                        place.copy_from_slice(&SSRC.to_be_bytes());
                    }
                    let done = protect(&mut srtp, &plain, 0);
                    if let Ok(done) = done {
                        let opened = open(&mut make(&turned(&keys(profile)), 0), &done);
                        assert_eq!(opened.as_ref(), Ok(&plain));
                    }
                    let _ = protect_rtcp(&mut srtp, &plain);
                }
            }
            count += 1;
        }
    }
    println!("srtp-fuzz and rtp-rtcp: {count} files");
}

#[test]
fn streams_are_few_and_a_retired_one_does_not_come_back() {
    let ours = keys(SrtpProfile::AesCm128HmacSha1_80);
    let mut receiver = make(&turned(&ours), 0);
    let of = |ssrc: u32, index: u64| {
        let start = SrtpStart {
            ssrc,
            ..start(index)
        };
        let mut sender = LibrarySrtp::new(&ours, start).expect("good keys");
        protect(&mut sender, &packet(ssrc, index), 0).expect("protected")
    };
    let many = SRTP_STREAMS_MAX + SRTP_RETIRED_MAX;
    for ssrc in 1..=many as u32 {
        open(&mut receiver, &of(ssrc, 5)).expect("authentic");
    }
    let received = receiver.received();
    assert_eq!(received.len(), SRTP_STREAMS_MAX);
    assert_eq!(received[0].ssrc, many as u32, "the latest first");
    assert_eq!(receiver.rtp.retired.len(), SRTP_RETIRED_MAX);
    assert_eq!(open(&mut receiver, &of(1, 5)), Err(SrtpFault::Replayed));
    assert_eq!(open(&mut receiver, &of(2, 6)), Err(SrtpFault::Replayed));
    open(&mut receiver, &of(many as u32 + 1, 0)).expect("authentic");
    assert_eq!(receiver.rtp.retired.len(), SRTP_RETIRED_MAX);
}

#[test]
fn what_cannot_be_made_or_protected_is_refused() {
    for profile in SrtpProfile::ALL.into_iter() {
        let good = keys(profile);
        let short = |change: fn(&mut SrtpKeys)| {
            let mut keys = good.clone();
            change(&mut keys);
            LibrarySrtp::new(&keys, start(0)).err()
        };
        let wrong = Some(SrtpError::KeyLength(profile));
        assert_eq!(
            short(|keys| keys.our_key = KeyMaterial::new(vec![1; 15])),
            wrong
        );
        assert_eq!(
            short(|keys| keys.our_salt = KeyMaterial::new(vec![])),
            wrong
        );
        assert_eq!(
            short(|keys| keys.peer_key = KeyMaterial::new(vec![1; 33])),
            wrong
        );
        assert_eq!(
            short(|keys| keys.peer_salt = KeyMaterial::new(vec![1; 13])),
            wrong
        );
        let far = Some(SrtpError::TooFar);
        assert_eq!(short(|keys| keys.rtcp_index_start = u32::MAX), far);
        assert_eq!(LibrarySrtp::new(&good, start(1 << 47)).err(), far);
        // A peer's stream that is too far starts from zero.
        let mut recorded = good.clone();
        recorded.received = vec![ReceivedIndex {
            ssrc: 1,
            index: u64::MAX,
        }];
        assert!(make(&recorded, 0).received().is_empty());

        let mut srtp = make(&good, 0);
        let plain = packet(SSRC, 0);
        let mut tight = plain.clone();
        let full = srtp.protect_rtp(&mut tight, RTP_BYTES, 0);
        assert_eq!((full, &tight), (Err(SrtpFault::NoRoom), &plain));
        let mut tight = report(SSRC);
        let length = tight.len();
        assert_eq!(
            srtp.protect_rtcp(&mut tight, length),
            Err(SrtpFault::NoRoom)
        );
        let other = protect(&mut srtp, &packet(1, 0), 0);
        assert_eq!(other, Err(SrtpFault::Numbers));
        assert_eq!(protect_rtcp(&mut srtp, &report(1)), Err(SrtpFault::Numbers));
        assert_eq!(protect(&mut srtp, &[0x80; 5], 0), Err(SrtpFault::Malformed));
        assert_eq!(srtp.rtcp_index(), 1, "nothing was used up");
        // Back over more than a step would be another roll-over to the library.
        send(&mut srtp, 60_000);
        let back = protect(&mut srtp, &packet(SSRC, 5), 0);
        assert_eq!(back, Err(SrtpFault::Numbers));
    }
    assert_eq!(SrtpProfile::ALL.len(), 4);
}

#[test]
fn a_context_is_walked_to_any_recorded_index() {
    for profile in SrtpProfile::ALL.into_iter() {
        let mut recorded = keys(profile);
        let index = SRTP_ROLLOVERS_WALKED_MAX << 16 | 65_535;
        recorded.received = vec![ReceivedIndex { ssrc: SSRC, index }];
        recorded.rtcp_index_start = 10 * SRTCP_BLOCK;
        let mut srtp = make(&recorded, index);
        assert_eq!(srtp.received(), recorded.received);
        let protected = protect_rtcp(&mut srtp, &report(SSRC)).expect("protected");
        assert_eq!(srtp.rtcp_index(), 10 * SRTCP_BLOCK + 1);
        let mut known = turned(&recorded);
        known.received = vec![ReceivedIndex { ssrc: SSRC, index }];
        let mut receiver = make(&known, 0);
        assert!(open_rtcp(&mut receiver, &protected).is_ok());
        let sent = send(&mut srtp, index + 1);
        assert_eq!(open(&mut receiver, &sent), Ok(packet(SSRC, index + 1)));
    }
}

mod relayed {
    //! Real contexts in the relay table: phone and browser of one call, each with keys of its own.

    use std::net::SocketAddr;
    use std::sync::Arc;

    use contract::{CallKey, LegConfig, LegTransport, MediaRoute, SideKey, Time};
    use media::relay::{DropReason, RelayTable, Verdict};

    use super::*;

    const PHONE: &str = "203.0.113.5:4000";
    const OTHER: &str = "198.51.100.9:7000";

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    fn side(number: u8) -> SideKey {
        CallKey::from_bits(9 << 64).side(number)
    }

    fn config(remote: &str, to: u8, keys: Option<&SrtpKeys>) -> LegConfig {
        LegConfig {
            remote: Some(address(remote)),
            remote_rtcp: None,
            sip_source: None,
            nat: false,
            negotiation: 1,
            sends: true,
            receives: true,
            payloads: vec![(0, 0)],
            ssrc: SSRC,
            sequence_start: 65_500,
            rollover_start: 0,
            sequence_reserved: contract::limits::SEQUENCE_BLOCK,
            timestamp_start: 0,
            dtmf_payload: None,
            dtmf_send_payload: None,
            clock_rate: 8_000,
            route: MediaRoute::Relay(side(to)),
            timeout: None,
            rtcp_mux: true,
            transport: keys.map_or(LegTransport::Plain, |keys| {
                LegTransport::Sdes(Box::new(keys.clone()))
            }),
        }
    }

    fn table(phone: Option<&SrtpKeys>, other: Option<&SrtpKeys>) -> RelayTable {
        let mut table = RelayTable::new(Arc::new(LibraryMaker));
        let legs = [(1, config(PHONE, 2, phone)), (2, config(OTHER, 1, other))];
        for (number, config) in legs {
            table.open(side(number)).expect("free");
            let done = table.configure(side(number), &config, Time::from_micros(1));
            done.expect("good keys");
        }
        table
    }

    fn give(
        table: &mut RelayTable,
        leg: u8,
        from: &str,
        octets: &[u8],
    ) -> Result<Vec<u8>, DropReason> {
        let mut buffer = octets.to_vec();
        buffer.resize(octets.len() + SRTP_TAIL_BYTES, 0);
        let now = Time::from_micros(5);
        let verdict = table.on_packet(side(leg), address(from), now, &mut buffer, octets.len());
        match verdict {
            Verdict::Forward { length, .. } | Verdict::Reflect { length, .. } => {
                buffer.truncate(length);
                Ok(buffer)
            }
            Verdict::Drop(reason) => Err(reason),
        }
    }

    /// The peer's end of a leg.
    fn peer(keys: &SrtpKeys) -> LibrarySrtp {
        make(&turned(keys), 0)
    }

    #[test]
    fn every_pair_of_profiles_is_relayed_over_the_roll_over() {
        let all = SrtpProfile::ALL.into_iter().map(Some);
        let all: Vec<_> = all.chain([None]).collect();
        let mut pairs = 0;
        for phone in &all {
            for other in &all {
                let (phone, mut other) = (phone.map(keys), other.map(keys));
                if let Some(other) = &mut other {
                    std::mem::swap(&mut other.our_key, &mut other.peer_key);
                }
                let mut table = table(phone.as_ref(), other.as_ref());
                let mut from = phone.as_ref().map(peer);
                let mut to = other.as_ref().map(peer);
                for index in 0..100 {
                    let plain = packet(SSRC, index);
                    let sent = match &mut from {
                        Some(from) => protect(from, &plain, 0).expect("protected"),
                        None => plain.clone(),
                    };
                    let got = give(&mut table, 1, PHONE, &sent).expect("relayed");
                    let got = match &mut to {
                        Some(to) => open(to, &got).expect("authentic"),
                        None => got,
                    };
                    assert_eq!(got[12..], plain[12..]);
                    let sequence = u16::from_be_bytes([got[2], got[3]]);
                    assert_eq!(sequence, 65_500_u16.wrapping_add(index as u16));
                }
                if let (Some(from), Some(to)) = (&mut from, &mut to) {
                    let sent = protect_rtcp(from, &report(SSRC)).expect("protected");
                    let got = give(&mut table, 1, PHONE, &sent).expect("relayed");
                    assert_eq!(
                        open_rtcp(to, &got).expect("authentic")[..8],
                        report(SSRC)[..8]
                    );
                }
                pairs += 1;
            }
        }
        assert_eq!(pairs, 25);
    }

    #[test]
    fn no_file_of_the_corpora_disturbs_a_call() {
        let ours = keys(SrtpProfile::AesCm128HmacSha1_80);
        let mut table = table(Some(&ours), None);
        let mut phone = peer(&ours);
        let mut count = 0;
        for folder in ["srtp-fuzz", "rtp-rtcp", "stun", "dtls"] {
            let Some(folder) = data(folder) else {
                println!("{folder}: not there");
                continue;
            };
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let Ok(octets) = std::fs::read(path) else {
                    continue;
                };
                for leg in [1, 2] {
                    for from in [PHONE, OTHER] {
                        let verdict = give(&mut table, leg, from, &octets);
                        assert!(leg == 2 || verdict.is_err());
                    }
                }
                let plain = packet(SSRC, count);
                let sent = protect(&mut phone, &plain, 0).expect("protected");
                let got = give(&mut table, 1, PHONE, &sent).expect("relayed");
                assert_eq!(got[12..], plain[12..]);
                count += 1;
            }
        }
        let counters = table.counters(side(1)).expect("open");
        assert_eq!(counters.packets_in, count);
        println!("corpora through a call: {count} files");
    }
}
