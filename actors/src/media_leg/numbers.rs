//! SSRC, sequence numbers, timestamps and SRTP indices of what we send to the peer: a number is
//! used once, whatever happens to the node (`cluster.md` §7).
//!
//! In: chance, blocks that the media plane asks for, restarts. Out: where the plane starts.

use std::time::Duration;

use contract::limits::{CUT_OFF_BLOCKS_MAX, SEQUENCE_BLOCK, SRTCP_BLOCK, SRTP_STREAMS_MAX};
use contract::{Entropy, Now, ReceivedIndex, ReserveBlock, UtcMillis};
use media::relay::recovered_timestamp;
use serde::{Deserialize, Serialize};

/// Our numbers, and how far the peer's protected streams are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    pub(super) ssrc: u32,
    /// What the plane was given to start from.
    pub(super) sequence_start: u16,
    pub(super) rollover_start: u32,
    pub(super) timestamp_start: u32,
    pub(super) rtcp_index_start: u32,
    /// End of the last recorded block, and the roll-over counter there.
    end: ReserveBlock,
    rollover_end: u32,
    /// Last timestamp known to be sent, and when that was.
    timestamp: u32,
    at: UtcMillis,
    pub(super) received: Vec<ReceivedIndex>,
}

impl Numbers {
    /// Draws the numbers of a new stream (RFC 3550 §5.1: all three at random).
    pub(super) fn draw(rng: &mut Entropy, now: Now) -> Self {
        let sequence_start = (rng.next_u32() & 0x7fff) as u16;
        let timestamp_start = rng.next_u32();
        Numbers {
            ssrc: rng.next_u32(),
            sequence_start,
            rollover_start: 0,
            timestamp_start,
            rtcp_index_start: 0,
            end: ReserveBlock {
                sequence_end: sequence_start.wrapping_add(SEQUENCE_BLOCK),
                rtcp_index_end: SRTCP_BLOCK,
            },
            rollover_end: 0,
            timestamp: timestamp_start,
            at: now.utc,
            received: Vec::new(),
        }
    }

    /// Notes the next block.
    pub(super) fn reserve(
        &mut self,
        block: ReserveBlock,
        timestamp: u32,
        received: Vec<ReceivedIndex>,
        now: Now,
    ) {
        // Blocks follow each other within half of the numbers: a smaller end has rolled over.
        let has_wrapped = block.sequence_end < self.end.sequence_end;
        self.rollover_end = self.rollover_end.wrapping_add(u32::from(has_wrapped));
        self.end.sequence_end = block.sequence_end;
        self.end.rtcp_index_end = self.end.rtcp_index_end.max(block.rtcp_index_end);
        self.timestamp = timestamp;
        self.at = now.utc;
        self.received = received;
        self.received.truncate(SRTP_STREAMS_MAX);
    }

    /// Leaves out the blocks that another node may take while it is cut off, and one that it may have
    /// taken before it saw that: two packets under one key and number give both away (RFC 3711 §9.1).
    pub(super) fn leave_room(&mut self) {
        let blocks = u16::from(CUT_OFF_BLOCKS_MAX) + 1;
        let (end, has_wrapped) = self
            .end
            .sequence_end
            .overflowing_add(blocks * SEQUENCE_BLOCK);
        self.end.sequence_end = end;
        self.rollover_end = self.rollover_end.wrapping_add(u32::from(has_wrapped));
        let room = u32::from(blocks) * SRTCP_BLOCK;
        self.end.rtcp_index_end = self.end.rtcp_index_end.saturating_add(room);
    }

    /// Goes on past the recorded block: the node was started again. The next block of sequence numbers
    /// is not recorded before the first packet asks for it: a leg on hold stays where it is, however
    /// many restarts. An SRTCP index is in its packet: there a jump harms nobody.
    pub(super) fn skip(&mut self, clock_rate: u32, now: Now) {
        let passed = Duration::from_millis(now.utc.0.saturating_sub(self.at.0));
        let timestamp = recovered_timestamp(self.timestamp, passed, clock_rate);
        self.sequence_start = self.end.sequence_end;
        self.rollover_start = self.rollover_end;
        self.rtcp_index_start = self.end.rtcp_index_end;
        self.timestamp_start = timestamp;
        let block = ReserveBlock {
            sequence_end: self.sequence_start,
            rtcp_index_end: self.rtcp_index_start.saturating_add(SRTCP_BLOCK),
        };
        let received = std::mem::take(&mut self.received);
        self.reserve(block, timestamp, received, now);
    }

    /// Goes on past the recorded block at another node, while the stream is heard: if a whole block was
    /// sent since it began where it was, the next one is recorded at once, so that no packet waits for
    /// it. Otherwise as `skip`: moves of a leg that sends nothing lead nowhere.
    pub(super) fn follow(&mut self, clock_rate: u32, now: Now) {
        let index = |rollover: u32, sequence: u16| u64::from(rollover) << 16 | u64::from(sequence);
        let end = index(self.rollover_end, self.end.sequence_end);
        let begin = index(self.rollover_start, self.sequence_start);
        let has_sent = end.saturating_sub(begin) > u64::from(SEQUENCE_BLOCK);
        self.skip(clock_rate, now);
        if has_sent {
            let block = ReserveBlock {
                sequence_end: self.sequence_start.wrapping_add(SEQUENCE_BLOCK),
                rtcp_index_end: self.end.rtcp_index_end,
            };
            let received = std::mem::take(&mut self.received);
            self.reserve(block, self.timestamp_start, received, now);
        }
    }

    /// Starts anew under new keys: the peer's context for them counts roll-overs from zero
    /// (RFC 3711 §3.3.1). The SSRC stays: it is in our description.
    pub(super) fn rekey(&mut self, rng: &mut Entropy, now: Now) {
        let ssrc = self.ssrc;
        *self = Numbers::draw(rng, now);
        self.ssrc = ssrc;
    }

    /// Goes on under a new key of ours that the signalling brought, the peer's being the same: past
    /// what was recorded, as under the old one, unless the peer's new context would count other
    /// roll-overs.
    pub(super) fn renew(&mut self, clock_rate: u32, rng: &mut Entropy, now: Now) {
        if self.rollover_end == 0 {
            return self.skip(clock_rate, now);
        }
        let received = std::mem::take(&mut self.received);
        self.rekey(rng, now);
        self.received = received;
    }

    /// Returns how many numbers were recorded when the plane was given its start.
    pub(super) const fn sequence_reserved(&self) -> u16 {
        let is_none = self.end.sequence_end == self.sequence_start
            && self.rollover_end == self.rollover_start;
        if is_none { 0 } else { SEQUENCE_BLOCK }
    }

    /// Returns the end of the last recorded block.
    pub(super) const fn end(&self) -> ReserveBlock {
        self.end
    }
}
