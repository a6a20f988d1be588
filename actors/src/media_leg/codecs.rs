//! Codecs by the names of the configuration (`media.codecs`).
//!
//! In: names. Out: codecs with the payload types we prefer. Unknown names are left out: the
//! configuration refuses them when it loads.

use media::sdp::Codec;

/// Name in the configuration, name on the wire, clock, channels, payload type.
const KNOWN: [(&str, &str, u32, u8, u8); 4] = [
    ("opus", "opus", 48_000, 2, 111),
    ("g722", "G722", 8_000, 1, 9),
    ("pcmu", "PCMU", 8_000, 1, 0),
    ("pcma", "PCMA", 8_000, 1, 8),
];

/// Returns the codecs of these names, and telephone events at 8 kHz (RFC 4733).
#[must_use]
pub(crate) fn named<S: AsRef<str>>(names: &[S]) -> Vec<Codec> {
    let audio = names.iter().filter_map(|name| {
        let known = KNOWN
            .iter()
            .find(|(known, ..)| name.as_ref().eq_ignore_ascii_case(known));
        let (_, wire, clock_rate, channels, payload) = *known?;
        let codec = Codec::new(wire, clock_rate, payload).ok()?;
        Some(Codec { channels, ..codec })
    });
    audio
        .chain(Codec::new("telephone-event", 8_000, 101).ok())
        .collect()
}

/// Returns the codecs that a tone can be played with.
#[must_use]
pub(crate) fn of_tones() -> Vec<Codec> {
    named(&["pcmu", "pcma"])
}
