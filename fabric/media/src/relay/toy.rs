//! A toy protection for the tests of the table: the index in clear and a check sum behind each packet.
//!
//! It keeps the promises of `Srtp` (windows, roll-overs, SRTCP indices) and lets tests read which index
//! a packet went out with. It is no cryptography.

use std::collections::BTreeMap;

use super::*;
use contract::{ReceivedIndex, SrtpKeys};

/// Octets behind an RTP packet: 6 of index, 4 of sum; RTCP the same.
pub(super) const TAIL: usize = 10;

#[derive(Clone, Copy, Debug)]
pub(super) struct ToyMaker;

#[derive(Debug)]
struct Toy {
    ours: Vec<u8>,
    theirs: Vec<u8>,
    ssrc: u32,
    rtcp_next: u32,
    /// Highest index and window of each stream; RTCP under a flag.
    seen: BTreeMap<(bool, u32), (u64, u64)>,
    packets: u64,
}

impl SrtpMaker for ToyMaker {
    fn make(&self, keys: &SrtpKeys, start: SrtpStart) -> Result<Box<dyn Srtp>, SrtpError> {
        if keys.our_key.expose().is_empty() {
            return Err(SrtpError::KeyLength(keys.profile));
        }
        let received = keys.received.iter();
        Ok(Box::new(Toy {
            ours: keys.our_key.expose().to_vec(),
            theirs: keys.peer_key.expose().to_vec(),
            ssrc: start.ssrc,
            rtcp_next: keys.rtcp_index_start.max(1),
            seen: received
                .map(|stream| ((false, stream.ssrc), (stream.index, u64::MAX)))
                .collect(),
            packets: 0,
        }))
    }
}

fn sum(key: &[u8], octets: &[u8]) -> u32 {
    let both = key.iter().chain(octets);
    both.fold(0x811c_9dc5, |sum, octet| {
        (sum ^ u32::from(*octet)).wrapping_mul(0x0100_0193)
    })
}

/// Protects a packet as the peer does whose key is given.
pub(super) fn protect(key: &[u8], plain: &[u8], index: u64) -> Vec<u8> {
    let mut out = plain.to_vec();
    out.extend(&index.to_be_bytes()[2..]);
    out.extend(sum(key, &out).to_be_bytes());
    out
}

/// Returns the packet and the index that a protected one has, if its sum is right.
pub(super) fn read(key: &[u8], octets: &[u8]) -> Option<(Vec<u8>, u64)> {
    let (body, found) = octets.split_last_chunk::<4>()?;
    let (plain, index) = body.split_last_chunk::<6>()?;
    let mut wide = [0; 8];
    wide[2..].copy_from_slice(index);
    let is_right = sum(key, body).to_be_bytes() == *found;
    is_right.then(|| (plain.to_vec(), u64::from_be_bytes(wide)))
}

impl Toy {
    fn put(&mut self, buffer: &mut [u8], length: usize, index: u64) -> Result<usize, SrtpFault> {
        let done = protect(&self.ours, &buffer[..length], index);
        let place = buffer.get_mut(..done.len()).ok_or(SrtpFault::NoRoom)?;
        place.copy_from_slice(&done);
        self.packets += 1;
        Ok(done.len())
    }

    fn open(
        &mut self,
        buffer: &mut [u8],
        length: usize,
        is_rtcp: bool,
    ) -> Result<usize, SrtpFault> {
        let read = read(&self.theirs, &buffer[..length]);
        let (plain, index) = read.ok_or(SrtpFault::NotAuthentic)?;
        let at = if is_rtcp { 4 } else { 8 };
        let ssrc = plain.get(at..at + 4).ok_or(SrtpFault::Malformed)?;
        let ssrc = u32::from_be_bytes(ssrc.try_into().expect("four"));
        let (highest, window) = self.seen.entry((is_rtcp, ssrc)).or_insert((index, 0));
        let bit = |distance: u64| 1_u64.checked_shl(distance as u32).unwrap_or(0);
        if index > *highest {
            let moved = window.checked_shl((index - *highest) as u32).unwrap_or(0);
            (*highest, *window) = (index, moved | 1);
        } else if *highest - index >= 64 || *window & bit(*highest - index) != 0 {
            return Err(SrtpFault::Replayed);
        } else {
            *window |= bit(*highest - index);
        }
        self.packets += 1;
        Ok(plain.len())
    }
}

impl Srtp for Toy {
    fn protect_rtp(
        &mut self,
        buffer: &mut [u8],
        length: usize,
        rollover: u32,
    ) -> Result<usize, SrtpFault> {
        if buffer[8..12] != self.ssrc.to_be_bytes() {
            return Err(SrtpFault::Numbers);
        }
        let sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
        self.put(
            buffer,
            length,
            u64::from(rollover) << 16 | u64::from(sequence),
        )
    }

    fn unprotect_rtp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault> {
        self.open(buffer, length, false)
    }

    fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault> {
        let done = self.put(buffer, length, self.rtcp_next.into())?;
        self.rtcp_next += 1;
        Ok(done)
    }

    fn unprotect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault> {
        self.open(buffer, length, true)
    }

    fn rtcp_index(&self) -> u32 {
        self.rtcp_next
    }

    fn received(&self) -> Vec<ReceivedIndex> {
        let rtp = self.seen.iter().filter(|((is_rtcp, _), _)| !is_rtcp);
        rtp.map(|((_, ssrc), (index, _))| ReceivedIndex {
            ssrc: *ssrc,
            index: *index,
        })
        .collect()
    }

    fn library_packets(&self) -> u64 {
        self.packets
    }
}
