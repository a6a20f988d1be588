//! A phone as its station sees it: its transport, its deadlines, what comes to it.
//!
//! In: messages, datagrams, the time, the end of a connection. Out: what it wants sent.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use contract::{Door, Time};
use sip::Framer;

use super::{Call, Complaint, Out, Phone};
use crate::line::Line;
use crate::station::Peer;

impl Peer for Phone {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn door(&self) -> Option<Door> {
        self.make.is_stream().then_some(Door::Sip)
    }

    fn framer(&self) -> Option<Framer> {
        // A WebSocket message is a SIP message, or a keep-alive.
        (self.transport() != "WS").then(Framer::new)
    }

    fn next_deadline(&self) -> Time {
        let sent = self.sent.iter().map(|sent| sent.again.min(sent.end));
        let calls = self.calls.values().filter_map(Call::next_deadline);
        let own = [self.register_at, self.act_at];
        let lines = self.lines.values().filter_map(Line::next_due);
        sent.chain(calls)
            .chain(lines)
            .chain(own)
            .min()
            .unwrap_or(self.register_at)
    }

    fn on_time(&mut self, now: Time, out: &mut Vec<Out>) {
        self.retransmit(now, out);
        if now >= self.register_at {
            self.register(now, None, out);
        }
        if now >= self.act_at {
            self.act(now, out);
        }
        let due: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, call)| call.next_deadline().is_some_and(|at| at <= now))
            .map(|(call_id, _)| call_id.clone())
            .collect();
        for call_id in due {
            self.call_on_time(&call_id, now, out);
        }
        self.lines_on_time(now);
        self.send_media(out);
    }

    fn on_message(&mut self, now: Time, bytes: Bytes, out: &mut Vec<Out>) {
        if !bytes.trim_ascii().is_empty() {
            self.on_sip(now, bytes, out);
        }
    }

    fn on_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
        out: &mut Vec<Out>,
    ) {
        if to == self.address {
            self.on_sip(now, bytes, out);
        } else {
            self.on_media(now, from, to.port(), &bytes, out);
        }
    }

    fn lost_connection(&mut self, now: Time) {
        self.registered_until = None;
        self.lost_at = self.lost_at.or(Some(now));
        self.register_at = now + Duration::from_millis(200 + u64::from(self.rng.below(1_000)));
    }

    fn complaints(&mut self) -> Vec<Complaint> {
        for line in self.lines.values_mut() {
            for (promise, how) in line.complaints() {
                self.complaints.push(Complaint::new(promise, how));
            }
        }
        std::mem::take(&mut self.complaints)
    }

    fn done(&mut self) -> Vec<(String, u64)> {
        Vec::new()
    }
}
