//! RTP captured from the wire by tshark, and what is heard in it.

use std::f64::consts::PI;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// Captures UDP from `source` on an interface; returns when tshark has begun.
    ///
    /// # Panics
    /// If tshark does not begin.
    #[must_use]
    pub fn start(interface: &str, source: &str) -> Capture {
        let file = std::env::temp_dir().join(format!("weft-{interface}.pcap"));
        let _ = std::fs::remove_file(&file);
        let child = Command::new("tshark")
            .args([
                "-q",
                "-i",
                interface,
                "-f",
                &format!("udp and src host {source}"),
                "-w",
            ])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tshark is installed by tests/run");
        wait::until("tshark to begin", Duration::from_secs(20), || {
            std::fs::metadata(&file).ok().filter(|data| data.len() > 0)
        });
        Capture { child, file }
    }

    /// Ends the capture and returns the G.711 µ-law octets of RTP to a port, in order of arrival.
    ///
    /// # Panics
    /// If tshark cannot read what it wrote.
    #[must_use]
    pub fn payload(mut self) -> Vec<u8> {
        let _ = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
        let output = Command::new("tshark")
            .arg("-r")
            .arg(&self.file)
            .args(["-Y", "rtp", "-o", "rtp.heuristic_rtp:TRUE"])
            .args([
                "--enable-heuristic",
                "rtp_udp",
                "-T",
                "fields",
                "-e",
                "rtp.payload",
            ])
            .output()
            .expect("tshark runs");
        let text = String::from_utf8_lossy(&output.stdout).replace([':', '\n', '\r'], "");
        let _ = std::fs::remove_file(&self.file);
        let digits: Vec<_> = text.bytes().collect();
        digits
            .chunks_exact(2)
            .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    }
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
