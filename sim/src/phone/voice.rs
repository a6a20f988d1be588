//! The media of a phone's calls: plain RTP, or a `Line` that protects it.

use std::net::SocketAddr;

use bytes::Bytes;
use contract::Time;

use super::acting::rtp;
use super::call::CallState;
use super::text::{media_of, sdp};
use super::{Out, Phone};
use crate::line::{Heard, Line};

impl Phone {
    /// Begins the media of a call.
    pub(super) fn begin_media(&mut self, call_id: &str, port: u16) {
        if let Some(protection) = self.make.protection(&mut self.rng) {
            let local = SocketAddr::new(self.address.ip(), port);
            let line = Line::new(protection, local, &mut self.rng);
            self.lines.insert(call_id.to_owned(), line);
        }
    }

    /// Describes our end of a call.
    pub(super) fn describe(&mut self, call_id: &str, direction: &str, is_offer: bool) -> String {
        if let Some(line) = self.lines.get_mut(call_id) {
            return line.describe(direction, is_offer);
        }
        let Some(call) = self.calls.get(call_id) else {
            return String::new();
        };
        sdp(self.address, call.port, call.version, direction)
    }

    /// Learns the node's end of a call.
    pub(super) fn learn(&mut self, call_id: &str, body: &[u8], is_offer: bool, now: Time) {
        if self.habits.is_silent {
            return;
        }
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        match self.lines.get_mut(call_id) {
            Some(line) => {
                line.learn(&String::from_utf8_lossy(body), is_offer, now);
                call.media = line.remote().or(call.media);
            }
            None => call.media = media_of(body).or(call.media),
        }
    }

    /// Sends one packet of sound.
    pub(super) fn speak(&mut self, call_id: &str, out: &mut Vec<Out>) {
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        call.sequence = call.sequence.wrapping_add(1);
        if call.held {
            return;
        }
        match (self.lines.get_mut(call_id), call.media) {
            (Some(line), _) => line.speak(),
            (None, Some(to)) => {
                let port = call.port;
                let packet = rtp(call.sequence, u32::from(port));
                out.push(Out::Rtp { port, to, packet });
            }
            (None, None) => {}
        }
    }

    /// Lets lines do what is due, and ends those of calls that are over.
    pub(super) fn lines_on_time(&mut self, now: Time) {
        let calls = &self.calls;
        self.lines.retain(|call_id, _| {
            let call = calls.get(call_id);
            call.is_some_and(|call| !matches!(call.state, CallState::Over { .. }))
        });
        for line in self.lines.values_mut() {
            line.on_time(now);
        }
    }

    /// Passes on what lines want sent.
    pub(super) fn send_media(&mut self, out: &mut Vec<Out>) {
        for (call_id, line) in &mut self.lines {
            let Some(call) = self.calls.get(call_id) else {
                continue;
            };
            while let Some((to, packet)) = line.poll() {
                let port = call.port;
                out.push(Out::Rtp { port, to, packet });
            }
        }
    }

    /// A datagram came to a media port.
    pub(super) fn on_media(
        &mut self,
        now: Time,
        from: SocketAddr,
        port: u16,
        bytes: &Bytes,
        out: &mut Vec<Out>,
    ) {
        let found = self.calls.iter_mut().find(|(_, call)| call.port == port);
        let Some((call_id, call)) = found else { return };
        match self.lines.get_mut(call_id) {
            Some(line) => {
                if line.datagram(from, bytes, now) == Heard::Sound {
                    call.heard = Some(now);
                }
            }
            None if self.make.is_protected() => {}
            None => call.heard = Some(now),
        }
        self.send_media(out);
    }
}
