//! RTCP compounds: read with bounds, and rewritten in place for a relay (RFC 3550 §6).
//!
//! In: octets of a datagram. Out: report blocks, or the same octets as our own report toward the
//! other peer: SSRCs, sequence numbers and times moved, names blanked, and kinds left out that a
//! relay cannot translate (BYE, APP, XR): a source that leaves is not the end of our stream.

use contract::FaultClass;
use contract::limits::{RTCP_PACKETS_PER_COMPOUND_MAX, RTP_PACKET_BYTES_MAX};

/// Octets are no RTCP compound, or nothing of it may be relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// The version is not 2.
    #[error("reading RTCP: version is not 2")]
    Version,
    /// A length does not fit the packet or its kind.
    #[error("reading RTCP: lengths do not fit the packet")]
    Length,
    /// The first packet is no report (RFC 3550 §6.1), or nothing can be relayed.
    #[error("reading RTCP: the compound does not start with a report")]
    NoReport,
    /// More packets than `RTCP_PACKETS_PER_COMPOUND_MAX`.
    #[error("reading RTCP: too many packets in a compound")]
    TooMany,
}

impl RtcpError {
    /// Tells whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

/// Kinds of RTCP packet (RFC 3550 §12.1, RFC 4585 §6.1, RFC 3611).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpKind {
    /// 200, sender report.
    SenderReport,
    /// 201, receiver report.
    ReceiverReport,
    /// 202, source description.
    SourceDescription,
    /// 203, goodbye.
    Goodbye,
    /// 204, application-defined.
    Application,
    /// 205, transport feedback.
    TransportFeedback,
    /// 206, payload feedback.
    PayloadFeedback,
    /// Anything else, extended reports among them.
    Other(u8),
}

impl RtcpKind {
    const fn of(octet: u8) -> Self {
        match octet {
            200 => RtcpKind::SenderReport,
            201 => RtcpKind::ReceiverReport,
            202 => RtcpKind::SourceDescription,
            203 => RtcpKind::Goodbye,
            204 => RtcpKind::Application,
            205 => RtcpKind::TransportFeedback,
            206 => RtcpKind::PayloadFeedback,
            other => RtcpKind::Other(other),
        }
    }
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpPacket<'a> {
    /// What it is.
    pub kind: RtcpKind,
    /// Reports, chunks, sources or the format, by kind.
    pub count: u8,
    /// All octets after the four of the common header, padding included.
    pub body: &'a [u8],
}

/// What a peer reports of a stream it hears (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost in all; negative with duplicates.
    pub lost: i32,
    /// Highest sequence number heard, with cycles.
    pub highest_sequence: u32,
    /// Jitter in clock ticks.
    pub jitter: u32,
    /// Middle of the NTP time of the last sender report.
    pub last_report: u32,
    /// Delay since that report, in 1/65536 s.
    pub delay: u32,
}

const REPORT_BLOCK_BYTES: usize = 24;
const SENDER_INFO_BYTES: usize = 20;

/// Reads a compound; each item is checked to fit, and to be as long as its kind needs.
pub fn packets(compound: &[u8]) -> impl Iterator<Item = Result<RtcpPacket<'_>, RtcpError>> {
    let mut rest = compound;
    let mut count = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        count += 1;
        let item = if count > RTCP_PACKETS_PER_COMPOUND_MAX {
            Err(RtcpError::TooMany)
        } else {
            next_packet(rest)
        };
        rest = match &item {
            Ok(packet) => rest.get(4 + packet.body.len()..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(item)
    })
}

/// Checks a whole compound: at least one packet, the first a report.
///
/// # Errors
/// `RtcpError`. Source: RFC 3550 §A.2.
pub fn check(compound: &[u8]) -> Result<(), RtcpError> {
    if compound.len() > RTP_PACKET_BYTES_MAX {
        return Err(RtcpError::Length);
    }
    let mut is_first = true;
    for packet in packets(compound) {
        let kind = packet?.kind;
        let is_report = matches!(kind, RtcpKind::SenderReport | RtcpKind::ReceiverReport);
        if is_first && !is_report {
            return Err(RtcpError::NoReport);
        }
        is_first = false;
    }
    if is_first {
        Err(RtcpError::Length)
    } else {
        Ok(())
    }
}

impl RtcpPacket<'_> {
    /// Returns the SSRC of the sender of a report or feedback.
    #[must_use]
    pub fn sender_ssrc(&self) -> Option<u32> {
        word(self.body, 0)
    }

    /// Returns the blocks of a report; none of another kind.
    pub fn report_blocks(&self) -> impl Iterator<Item = ReportBlock> {
        let blocks = match self.kind {
            RtcpKind::SenderReport => self.body.get(4 + SENDER_INFO_BYTES..),
            RtcpKind::ReceiverReport => self.body.get(4..),
            RtcpKind::SourceDescription
            | RtcpKind::Goodbye
            | RtcpKind::Application
            | RtcpKind::TransportFeedback
            | RtcpKind::PayloadFeedback
            | RtcpKind::Other(_) => None,
        };
        let blocks = blocks.unwrap_or_default().chunks_exact(REPORT_BLOCK_BYTES);
        blocks.take(usize::from(self.count)).filter_map(read_block)
    }
}

/// How a compound of one peer becomes ours toward the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpMap {
    /// Our SSRC toward the other peer; replaces every sender's.
    pub sender: u32,
    /// Added to RTP timestamps of sender reports.
    pub timestamp_offset: u32,
    /// Packets and octets of ours toward the other peer, for sender reports.
    pub sent: (u32, u32),
    /// Our SSRC toward the reporting peer, and the other peer's own that it stands for; `None`
    /// before the other peer is heard.
    pub reported: Option<(u32, u32)>,
    /// What we added to the other peer's sequence numbers; taken off what is reported.
    pub sequence_offset: u32,
}

/// Rewrites a compound in place and returns its new length.
///
/// Blocks on streams that are not ours keep their SSRC: the other peer ignores them.
///
/// # Errors
/// `RtcpError` if it is malformed, or nothing is left that may be relayed.
pub fn rewrite(compound: &mut [u8], map: &RtcpMap) -> Result<usize, RtcpError> {
    check(compound)?;
    let (mut from, mut to) = (0, 0);
    while from < compound.len() {
        let packet = next_packet(&compound[from..])?;
        let (kind, count, end) = (packet.kind, packet.count, from + 4 + packet.body.len());
        if rewrite_body(kind, count, &mut compound[from + 4..end], map) {
            compound.copy_within(from..end, to);
            to += end - from;
        }
        from = end;
    }
    Ok(to)
}

fn next_packet(rest: &[u8]) -> Result<RtcpPacket<'_>, RtcpError> {
    let [first, kind, high, low, body @ ..] = rest else {
        return Err(RtcpError::Length);
    };
    if first >> 6 != 2 {
        return Err(RtcpError::Version);
    }
    let length = 4 * usize::from(u16::from_be_bytes([*high, *low]));
    let body = body.get(..length).ok_or(RtcpError::Length)?;
    let (kind, count) = (RtcpKind::of(*kind), first & 0x1f);
    let blocks = usize::from(count);
    let needed = match kind {
        RtcpKind::SenderReport => 4 + SENDER_INFO_BYTES + blocks * REPORT_BLOCK_BYTES,
        RtcpKind::ReceiverReport => 4 + blocks * REPORT_BLOCK_BYTES,
        RtcpKind::Goodbye => blocks * 4,
        RtcpKind::Application | RtcpKind::TransportFeedback | RtcpKind::PayloadFeedback => 8,
        RtcpKind::SourceDescription | RtcpKind::Other(_) => 0,
    };
    // Padding (RFC 3550 §6.4.1) counts its octets in the last one.
    let padding = if first & 0x20 == 0 {
        0
    } else {
        let last = body.last().map_or(0, |last| usize::from(*last));
        if last == 0 || last % 4 != 0 {
            return Err(RtcpError::Length);
        }
        last
    };
    if needed + padding > length {
        return Err(RtcpError::Length);
    }
    Ok(RtcpPacket { kind, count, body })
}

/// Rewrites one packet; tells whether it may be relayed.
fn rewrite_body(kind: RtcpKind, count: u8, body: &mut [u8], map: &RtcpMap) -> bool {
    match kind {
        RtcpKind::SenderReport => {
            set_word(body, 0, map.sender);
            let timestamp = word(body, 12).unwrap_or_default();
            set_word(body, 12, timestamp.wrapping_add(map.timestamp_offset));
            set_word(body, 16, map.sent.0);
            set_word(body, 20, map.sent.1);
            rewrite_blocks(count, &mut body[4 + SENDER_INFO_BYTES..], map);
            true
        }
        RtcpKind::ReceiverReport => {
            set_word(body, 0, map.sender);
            rewrite_blocks(count, &mut body[4..], map);
            true
        }
        RtcpKind::SourceDescription => rewrite_description(count, body, map.sender),
        RtcpKind::TransportFeedback => {
            let is_nack = count == 1;
            set_word(body, 0, map.sender);
            rewrite_media_source(body, map);
            for entry in body.get_mut(8..).unwrap_or_default().chunks_exact_mut(4) {
                let lost = u16::from_be_bytes([entry[0], entry[1]]);
                let theirs = lost.wrapping_sub(map.sequence_offset as u16);
                entry[..2].copy_from_slice(&theirs.to_be_bytes());
            }
            // Other formats number packets in ways of their own.
            is_nack
        }
        RtcpKind::PayloadFeedback => {
            set_word(body, 0, map.sender);
            rewrite_media_source(body, map);
            true
        }
        RtcpKind::Goodbye | RtcpKind::Application | RtcpKind::Other(_) => false,
    }
}

fn rewrite_blocks(count: u8, blocks: &mut [u8], map: &RtcpMap) {
    let blocks = blocks
        .chunks_exact_mut(REPORT_BLOCK_BYTES)
        .take(usize::from(count));
    for block in blocks {
        let Some((ours, theirs)) = map.reported else {
            return;
        };
        if word(block, 0) != Some(ours) {
            continue;
        }
        set_word(block, 0, theirs);
        let highest = word(block, 8).unwrap_or_default();
        set_word(block, 8, highest.wrapping_sub(map.sequence_offset));
    }
}

fn rewrite_media_source(body: &mut [u8], map: &RtcpMap) {
    if let Some((ours, theirs)) = map.reported
        && word(body, 4) == Some(ours)
    {
        set_word(body, 4, theirs);
    }
}

/// Puts our SSRC on each chunk and writes it over each text: CNAME, NAME, TOOL and the others
/// carry users, hosts and addresses of the far side. Tells whether the chunks are well formed.
fn rewrite_description(count: u8, body: &mut [u8], ssrc: u32) -> bool {
    let mut at = 0;
    for _ in 0..count {
        if word(body, at).is_none() {
            return false;
        }
        set_word(body, at, ssrc);
        at += 4;
        loop {
            match body.get(at..) {
                Some([0, ..]) => break,
                Some([_, length, ..]) => {
                    let end = at + 2 + usize::from(*length);
                    let Some(text) = body.get_mut(at + 2..end) else {
                        return false;
                    };
                    blank(text, ssrc);
                    at = end;
                }
                Some(_) | None => return false,
            }
        }
        at = (at / 4 + 1) * 4;
    }
    true
}

/// Fills a text with the hexadecimal digits of the SSRC, over and over.
fn blank(text: &mut [u8], ssrc: u32) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, octet) in text.iter_mut().enumerate() {
        let nibble = (ssrc >> (28 - 4 * (index % 8))) & 0x0f;
        *octet = DIGITS[nibble as usize];
    }
}

fn read_block(block: &[u8]) -> Option<ReportBlock> {
    let loss = word(block, 4)?;
    Some(ReportBlock {
        ssrc: word(block, 0)?,
        fraction_lost: (loss >> 24) as u8,
        // Sign of the 24-bit number.
        lost: ((loss << 8) as i32) >> 8,
        highest_sequence: word(block, 8)?,
        jitter: word(block, 12)?,
        last_report: word(block, 16)?,
        delay: word(block, 20)?,
    })
}

fn word(octets: &[u8], at: usize) -> Option<u32> {
    let octets = octets.get(at..at + 4)?;
    Some(u32::from_be_bytes([
        octets[0], octets[1], octets[2], octets[3],
    ]))
}

fn set_word(octets: &mut [u8], at: usize, value: u32) {
    if let Some(place) = octets.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
#[path = "rtcp_tests.rs"]
mod tests;
