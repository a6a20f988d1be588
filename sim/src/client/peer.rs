//! A tab as its station sees it: its door, its deadlines, what comes to it.
//!
//! In: frames, datagrams, the time, the end of a connection. Out: what it wants sent.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use contract::{Door, Time};
use sip::Framer;

use super::{Client, ClientCall};
use crate::line::Heard;
use crate::phone::{Complaint, Out};
use crate::station::Peer;

impl Peer for Client {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn door(&self) -> Option<Door> {
        Some(Door::Json)
    }

    fn framer(&self) -> Option<Framer> {
        None
    }

    fn next_deadline(&self) -> Time {
        let calls = self.calls.values().filter_map(ClientCall::next_deadline);
        calls
            .chain([self.register_at, self.act_at])
            .min()
            .unwrap_or(self.register_at)
    }

    fn on_time(&mut self, now: Time, out: &mut Vec<Out>) {
        if now >= self.register_at {
            self.register(now, out);
        }
        if now >= self.act_at {
            self.act(now, out);
        }
        let due: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, call)| call.next_deadline().is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.call_on_time(&name, now, out);
        }
        self.send_media(out);
    }

    fn on_message(&mut self, now: Time, bytes: Bytes, out: &mut Vec<Out>) {
        self.on_frame(now, &bytes, out);
    }

    fn on_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
        out: &mut Vec<Out>,
    ) {
        if let Some(call) = self.calls.values_mut().find(|call| call.port == to.port())
            && call.line.datagram(from, &bytes, now) == Heard::Sound
        {
            call.heard = Some(now);
        }
        self.send_media(out);
    }

    fn lost_connection(&mut self, now: Time) {
        self.registered_until = None;
        self.lost_at = self.lost_at.or(Some(now));
        self.register_at = now + Duration::from_millis(200 + u64::from(self.rng.below(1_000)));
        self.asked.clear();
        self.last_seq = 0;
        for call in self.calls.values_mut() {
            call.offering_since = None;
        }
    }

    fn complaints(&mut self) -> Vec<Complaint> {
        for call in self.calls.values_mut() {
            for (promise, how) in call.line.complaints() {
                self.complaints.push(Complaint::new(promise, how));
            }
        }
        std::mem::take(&mut self.complaints)
    }

    fn done(&mut self) -> Vec<(String, u64)> {
        let done = std::mem::take(&mut self.done);
        done.into_iter()
            .map(|(what, count)| (format!("JSON: {what}"), count))
            .collect()
    }
}
