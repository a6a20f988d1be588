//! Makes of phones: which transport they speak, how their media is protected.

use contract::{Entropy, SrtpProfile};

use crate::line::Protection;

/// Accounts whose number has this remainder ...
pub const SDES_AT: u32 = 5;
/// ... by this are of phones with keys in SDP.
pub const SDES_EVERY: u32 = 6;

/// A make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// A desk phone, SIP over UDP, plain RTP.
    Udp,
    /// The same over TCP.
    Tcp,
    /// SIP over UDP, SRTP with keys in SDP.
    Sdes,
    /// A browser that speaks SIP over WebSocket.
    Web,
    /// A browser that speaks JSON.
    Tab,
}

impl Make {
    /// Returns the make of a plain phone.
    #[must_use]
    pub const fn plain(is_stream: bool) -> Make {
        if is_stream { Make::Tcp } else { Make::Udp }
    }

    /// Draws the make of the phone of a number.
    #[must_use]
    pub fn draw(number: u32, is_stream: bool, rng: &mut Entropy) -> Make {
        if number % SDES_EVERY == SDES_AT {
            return Make::Sdes;
        }
        match rng.below(6) {
            0 => Make::Web,
            1 | 2 => Make::Tab,
            _ => Make::plain(is_stream),
        }
    }

    /// Returns its name in counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Make::Udp => "phones over UDP",
            Make::Tcp => "phones over TCP",
            Make::Sdes => "phones with SDES",
            Make::Web => "browsers with SIP",
            Make::Tab => "browsers with JSON",
        }
    }

    /// Tells whether it has a connection.
    #[must_use]
    pub const fn is_stream(self) -> bool {
        match self {
            Make::Udp | Make::Sdes => false,
            Make::Tcp | Make::Web | Make::Tab => true,
        }
    }

    /// Tells whether its media is protected.
    #[must_use]
    pub const fn is_protected(self) -> bool {
        match self {
            Make::Udp | Make::Tcp => false,
            Make::Sdes | Make::Web | Make::Tab => true,
        }
    }

    /// Returns the transport of its Via.
    #[must_use]
    pub const fn transport(self) -> &'static str {
        match self {
            Make::Udp | Make::Sdes => "UDP",
            Make::Tcp => "TCP",
            Make::Web | Make::Tab => "WS",
        }
    }

    /// Draws how the media of a call is protected; `None`: not at all.
    pub fn protection(self, rng: &mut Entropy) -> Option<Protection> {
        match self {
            Make::Udp | Make::Tcp => None,
            Make::Sdes => Some(Protection::Sdes(
                [
                    SrtpProfile::AesCm128HmacSha1_80,
                    SrtpProfile::AesCm128HmacSha1_32,
                    SrtpProfile::AeadAes128Gcm,
                    SrtpProfile::AeadAes256Gcm,
                ][rng.below(4) as usize],
            )),
            Make::Web | Make::Tab => Some(Protection::Web {
                is_passive: rng.below(3) == 0,
            }),
        }
    }
}
