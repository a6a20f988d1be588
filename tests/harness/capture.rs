//! RTP captured from the wire by tshark, and what is heard in it.

use std::f64::consts::PI;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::wait::PATIENCE;
use crate::{signal, wait};

static CAPTURES: AtomicU32 = AtomicU32::new(0);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    file: PathBuf,
}

/// One RTP packet of a capture.
#[derive(Clone, Debug)]
pub struct Packet {
    /// UDP port it came from.
    pub from: u16,
    /// UDP port it went to.
    pub to: u16,
    /// Sequence number.
    pub sequence: u16,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Capture {
    /// Captures what a filter of libpcap lets through on an interface; returns when tshark has
    /// begun.
    ///
    /// # Panics
    /// If tshark does not begin.
    #[must_use]
    pub fn start(interface: &str, filter: &str) -> Capture {
        let number = CAPTURES.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft-{}-{interface}-{number}.pcap", std::process::id());
        let file = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&file);
        let child = Command::new("tshark")
            .args(["-q", "-i", interface, "-f", filter, "-w"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tshark is installed by tests/run");
        wait::until("tshark to begin", PATIENCE, || {
            std::fs::metadata(&file).ok().filter(|data| data.len() > 0)
        });
        Capture { child, file }
    }

    /// Waits until so many octets are captured, headers included.
    pub fn wait_for(&self, octets: u64) {
        wait::until("packets to be captured", PATIENCE, || {
            let data = std::fs::metadata(&self.file).ok()?;
            (data.len() >= octets).then_some(())
        });
    }

    /// Ends the capture and returns its RTP packets, in order of arrival.
    ///
    /// # Panics
    /// If tshark cannot read what it wrote.
    #[must_use]
    pub fn packets(mut self) -> Vec<Packet> {
        signal(&self.child, "INT");
        let _ = self.child.wait();
        let mut reader = Command::new("tshark");
        reader.arg("-r").arg(&self.file).args(["-T", "fields"]);
        for field in ["udp.srcport", "udp.dstport", "udp.payload"] {
            reader.args(["-e", field]);
        }
        let output = reader.output().expect("tshark runs");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().filter_map(packet).collect()
    }

    /// Ends the capture and returns the G.711 µ-law octets of its RTP, in order of arrival.
    ///
    /// # Panics
    /// If tshark cannot read what it wrote.
    #[must_use]
    pub fn payload(self) -> Vec<u8> {
        let packets = self.packets();
        packets.into_iter().flat_map(|one| one.payload).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Reads a line of tshark's fields; `None` if the datagram is not RTP (RFC 7983 §7, RFC 5761 §4).
fn packet(line: &str) -> Option<Packet> {
    let mut fields = line.trim_end().split('\t');
    let (from, to) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let digits = fields.next()?.replace(':', "").into_bytes();
    let octets: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let (head, mut rest) = octets.split_at_checked(12)?;
    if !(128..192).contains(&head[0]) || (192..224).contains(&head[1]) {
        return None;
    }
    rest = rest.get(usize::from(head[0] & 0x0f) * 4..)?;
    if head[0] & 0x10 != 0 {
        let words = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
        rest = rest.get(4 + usize::from(words) * 4..)?;
    }
    Some(Packet {
        from,
        to,
        sequence: u16::from_be_bytes([head[2], head[3]]),
        ssrc: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
        payload: rest.to_vec(),
    })
}

/// Encodes 16-bit samples as µ-law (ITU-T G.711): a sine of `hertz` at `amplitude`, 8,000 a second.
#[must_use]
pub fn sine(hertz: f64, amplitude: f64, count: u32) -> Vec<u8> {
    let at = |number: u32| amplitude * (2.0 * PI * hertz * f64::from(number) / 8_000.0).sin();
    // The code whose decoded sample is nearest: no second copy of the coder's rules.
    let codes: Vec<_> = (0..=255_u8).map(|code| (sample(code), code)).collect();
    let nearest = |wanted: f64| {
        let distance = |code: &&(f64, u8)| (code.0 - wanted).abs();
        let best = codes
            .iter()
            .min_by(|one, other| distance(one).total_cmp(&distance(other)));
        best.map_or(0xff, |code| code.1)
    };
    (0..count).map(|number| nearest(at(number))).collect()
}

/// Decodes one µ-law octet (ITU-T G.711) to a 16-bit sample.
fn sample(octet: u8) -> f64 {
    let inverted = !octet;
    let exponent = u32::from((inverted >> 4) & 7);
    let mantissa = u32::from(inverted & 15);
    let magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84;
    if inverted & 0x80 == 0 {
        f64::from(magnitude)
    } else {
        -f64::from(magnitude)
    }
}

/// Returns the strongest frequency between 200 and 3,400 Hz, in hertz, and its level in dBm0, of
/// µ-law sound at 8 kHz. 0 dBm0 is 3.17 dB below the sine of full scale (ITU-T G.711).
#[must_use]
pub fn tone(octets: &[u8]) -> (f64, f64) {
    // One second: bins of 1 Hz.
    let samples: Vec<_> = octets.iter().copied().map(sample).take(8_000).collect();
    let count = samples.len() as f64;
    let mut best = (0.0, 0.0);
    for hertz in 200..3_400 {
        // Goertzel's recurrence: one multiplication a sample.
        let turn = 2.0 * PI * f64::from(hertz) / 8_000.0;
        let (factor, mut one, mut two) = (2.0 * turn.cos(), 0.0, 0.0);
        for sample in &samples {
            (one, two) = (sample + factor * one - two, one);
        }
        let power = one * one + two * two - factor * one * two;
        let amplitude = 2.0 * power.max(0.0).sqrt() / count;
        if amplitude > best.1 {
            best = (f64::from(hertz), amplitude);
        }
    }
    let level = 20.0 * (best.1 / 32_124.0).log10() + 3.17;
    (best.0, level)
}
