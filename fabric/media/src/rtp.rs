//! RTP packets: a view on their octets, and header fields set in place (RFC 3550 §5.1).
//!
//! In: octets of a datagram. Out: fields, the payload, the same octets with another header. It
//! copies nothing, allocates nothing and reads no payload.

use contract::FaultClass;
use contract::limits::RTP_PACKET_BYTES_MAX;

/// Octets of the fixed header.
pub const HEADER_BYTES: usize = 12;

/// What a datagram on a media port is, by its first octets (RFC 7983 §7, RFC 5761 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramKind {
    /// First octet 0..=3.
    Stun,
    /// First octet 16..=19.
    Zrtp,
    /// First octet 20..=63.
    Dtls,
    /// First octet 64..=79.
    TurnChannel,
    /// First octet 128..=191, second not of RTCP.
    Rtp,
    /// First octet 128..=191, second 192..=223.
    Rtcp,
    /// None of them.
    Unknown,
}

impl DatagramKind {
    /// Tells what a datagram is.
    #[must_use]
    pub const fn of(datagram: &[u8]) -> Self {
        match datagram {
            [0..=3, ..] => DatagramKind::Stun,
            [16..=19, ..] => DatagramKind::Zrtp,
            [20..=63, ..] => DatagramKind::Dtls,
            [64..=79, ..] => DatagramKind::TurnChannel,
            [128..=191, 192..=223, ..] => DatagramKind::Rtcp,
            [128..=191, _, ..] => DatagramKind::Rtp,
            _ => DatagramKind::Unknown,
        }
    }
}

/// Octets are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// The version is not 2.
    #[error("reading RTP: version is not 2")]
    Version,
    /// Header, extension or padding reach past the end, or the packet is larger than
    /// `RTP_PACKET_BYTES_MAX`.
    #[error("reading RTP: lengths do not fit the packet")]
    Length,
}

impl RtpError {
    /// Tells whose fault it is: the peer's.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        FaultClass::Reject
    }
}

/// The fields of a header, and where the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker bit.
    pub marker: bool,
    /// Payload type, 0..=127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in ticks of the codec's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    payload_start: u16,
    payload_end: u16,
}

impl RtpHeader {
    /// Reads and checks the header of a packet.
    ///
    /// # Errors
    /// `RtpError` if it is no RTP packet of version 2 with lengths that fit.
    pub fn read(packet: &[u8]) -> Result<RtpHeader, RtpError> {
        if packet.len() < HEADER_BYTES || packet.len() > RTP_PACKET_BYTES_MAX {
            return Err(RtpError::Length);
        }
        if packet[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let mut start = HEADER_BYTES + 4 * usize::from(packet[0] & 0x0f);
        if packet[0] & 0x10 != 0 {
            let extension = packet.get(start..start + 4).ok_or(RtpError::Length)?;
            start += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        let padding = if packet[0] & 0x20 != 0 {
            packet.last().map_or(0, |last| usize::from(*last)).max(1)
        } else {
            0
        };
        if start + padding > packet.len() {
            return Err(RtpError::Length);
        }
        Ok(RtpHeader {
            marker: packet[1] & 0x80 != 0,
            payload_type: packet[1] & 0x7f,
            sequence: u16::from_be_bytes([packet[2], packet[3]]),
            timestamp: u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]),
            ssrc: u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]),
            // Both are at most RTP_PACKET_BYTES_MAX.
            payload_start: start as u16,
            payload_end: (packet.len() - padding) as u16,
        })
    }

    /// Returns the payload of the packet that this header was read from, without padding.
    #[must_use]
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet
            .get(usize::from(self.payload_start)..usize::from(self.payload_end))
            .unwrap_or_default()
    }

    /// Sets marker, payload type, sequence, timestamp and SSRC of a packet to those of this header.
    ///
    /// Contributing sources are overwritten with zeroes: they name the far side's streams.
    pub fn write(&self, packet: &mut [u8]) {
        let Some((header, rest)) = packet.split_at_mut_checked(HEADER_BYTES) else {
            return;
        };
        header[1] = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        header[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        header[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        let sources = 4 * usize::from(header[0] & 0x0f);
        if let Some(sources) = rest.get_mut(..sources) {
            sources.fill(0);
        }
    }
}

/// Writes the fixed header of a packet of ours: no padding, extension or contributing sources.
pub fn write_header(
    packet: &mut [u8; HEADER_BYTES],
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
) {
    packet[0] = 0x80;
    let header = RtpHeader {
        marker,
        payload_type,
        sequence,
        timestamp,
        ssrc,
        payload_start: HEADER_BYTES as u16,
        payload_end: HEADER_BYTES as u16,
    };
    header.write(packet);
}

#[cfg(test)]
#[path = "rtp_tests.rs"]
mod tests;
