//! What real phones send beside calls: questions, messages, mistakes, and what hostile ones send.
//!
//! In: chance. Out: requests and octets. Their answers are not judged here; that the node lives on
//! and keeps its promises to others is.

use bytes::Bytes;
use contract::Time;

use super::call::{Call, CallState};
use super::text::{credentials, response};
use super::{Out, Phone};
use sip::Message;

/// Methods that the node may or may not serve.
const METHODS: [&str; 8] = [
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "REFER",
    "PUBLISH",
    "NOTIFY",
    "PRACK",
    "FROBNICATE",
];

/// Fields that a request may have too much of, or wrongly.
const FIELDS: [&str; 14] = [
    "",
    "Require: frobnicate, 100rel\r\n",
    "Proxy-Require: frobnicate\r\n",
    "Max-Forwards: 0\r\n",
    "Max-Forwards: many\r\n",
    "Route: <sip:weft.test;lr>\r\n",
    "Route: <sip:198.51.100.9:5090;lr>, <sip:other.test>\r\n",
    "Accept: application/sdp, text/plain;q=0.5\r\nAllow: INVITE, ACK\r\nSupported: timer, replaces\r\n",
    "Subject: a long\r\n folded\r\n\tline\r\ns: short\r\n",
    "Event: presence\r\nExpires: 600\r\n",
    "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n",
    "Authorization: Digest username=\"x\", realm=\"weft.test\"\r\n",
    "Authorization: Basic dGVzdA==\r\n",
    "Call-Info: <http://www.example.com/alice/>;purpose=info\r\nDate: Sat, 13 Nov 2010 23:29:00 GMT\r\n",
];

/// Octets that are no message, or a broken one.
const BROKEN: [&str; 14] = [
    "\r\n\r\n",
    "\r\n",
    "hello\r\n\r\n",
    "INVITE\r\n\r\n",
    "INVITE sip:1001@weft.test SIP/3.0\r\nContent-Length: 0\r\n\r\n",
    "INVITE sip:%zz@weft.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.9;branch=z9hG4bKb1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: broken1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
    "OPTIONS sip:weft.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.9;branch=z9hG4bKb2\r\nContent-Length: 0\r\n\r\n",
    "OPTIONS sip:weft.test SIP/2.0\r\nVia: nonsense\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: broken2\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
    "OPTIONS sip:weft.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.9;branch=z9hG4bKb3\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: broken3\r\nCSeq: 99999999999 OPTIONS\r\nContent-Length: 0\r\n\r\n",
    "OPTIONS sip:weft.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.9;branch=z9hG4bKb4\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: broken4\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
    "OPTIONS tel:+49123 SIP/2.0\r\nVia: SIP/2.0/UDP [2001:db8::1]:5060;branch=old;rport\r\nf: \"A \\\"quoted\\\" name\" <sip:a@b;x=y?h=v>;tag=1\r\nt: sip:c@d\r\ni: broken5\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n",
    "BYE sip:1001@weft.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.9;branch=z9hG4bKb6\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: broken6\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
    "CANCEL sip:1001@weft.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.9;branch=z9hG4bKb7\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: broken7\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n",
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKnobody\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: broken8\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
];

/// Contacts and lifetimes of odd registrations. `{c}` is the phone's own contact.
const REGISTRATIONS: [&str; 10] = [
    "",
    "Contact: *\r\nExpires: 60\r\n",
    "Contact: <{c}>;expires=5\r\n",
    "Contact: <{c}>;q=0.5;expires=60, <sip:second@10.1.0.99>;q=0.1;expires=60\r\n",
    "Contact: <{c}>;expires=soon\r\n",
    "Contact: <{c}>;reg-id=1;+sip.instance=\"<urn:uuid:0196a5c2-0000-7000-8000-000000000001>\"\r\nSupported: outbound, path\r\nExpires: 60\r\n",
    "Contact: <{c}>;expires=4294967296\r\n",
    "Contact: \"Desk\" <{c};x=\"y>\r\n",
    "Contact: <mailto:someone@weft.test>\r\nExpires: 60\r\n",
    "Contact: <sip:gone@10.1.0.98>;expires=0\r\n",
];

/// Descriptions of an offer. `{ip}` and `{port}` are the phone's.
const OFFERS: [&str; 12] = [
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8 0 9 18 101\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:30\r\na=maxptime:60\r\na=sendrecv\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\nt=0 0\r\na=sendonly\r\nm=video 5000 RTP/AVP 96\r\nc=IN IP4 {ip}\r\na=rtpmap:96 VP8/90000\r\nm=audio {port} RTP/AVP 0\r\nc=IN IP4 {ip}\r\na=rtcp:5999\r\n",
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8\r\n",
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=inactive\r\n",
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 97\r\na=rtpmap:97 speex/16000\r\n",
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:tooshort\r\n",
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=image {port} udptl t38\r\n",
    "v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\ns=x\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n",
    "v=1\r\nnonsense",
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\ni=about\r\nu=http://x\r\ne=a@b\r\np=1\r\nc=IN IP4 {ip}\r\nb=AS:64\r\nt=0 0\r\nr=7d 1h 0 25h\r\nz=0 0\r\nk=prompt\r\na=tool:x\r\nm=audio {port}/2 RTP/AVP 0 101\r\ni=sound\r\nc=IN IP4 {ip}\r\nb=TIAS:64000\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp-mux\r\n",
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\nc=IN IP4 239.1.1.1/127\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n",
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=x\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 96 8\r\na=rtpmap:96 PCMU/8000\r\na=fmtp:96 x=1;y=2\r\na=ptime:10\r\na=recvonly\r\na=unknown\r\na=ssrc:1 cname:x\r\n",
];

/// Answers that a callee may give instead of 486.
const REFUSALS: [&str; 16] = [
    "300 Multiple Choices",
    "302 Moved Temporarily",
    "380 Alternative Service",
    "400 Bad Request",
    "403 Forbidden",
    "404 Not Found",
    "408 Request Timeout",
    "415 Unsupported Media Type",
    "480 Temporarily Unavailable",
    "488 Not Acceptable Here",
    "491 Request Pending",
    "500 Server Internal Error",
    "503 Service Unavailable",
    "600 Busy Everywhere",
    "603 Decline",
    "699 Whatever",
];

fn pick<'t>(table: &[&'t str], at: u32) -> &'t str {
    table[at as usize % table.len()]
}

impl Phone {
    /// Stops the phone from sending what no phone should.
    pub fn be_polite(&mut self) {
        self.habits.odd = 0;
        self.undo();
    }

    /// Sends something that is no call of its own.
    pub(super) fn be_odd(&mut self, now: Time, out: &mut Vec<Out>) {
        match self.rng.below(10) {
            0..=3 => self.ask_odd(now, "", out),
            4 => {
                // A WebSocket message or datagram is answered or not; a stream is cut after some.
                let text = pick(&BROKEN, self.rng.below(64));
                out.push(Out::Sip(Bytes::from(text)));
            }
            5 | 6 => self.register_oddly(out),
            7 | 8 => self.call_oddly(now, out),
            _ => {
                let long = "x".repeat(200 * (1 + self.rng.below(60) as usize));
                self.ask_odd(now, &format!("X-Long: {long}\r\n"), out);
            }
        }
    }

    fn ask_odd(&mut self, now: Time, more: &str, out: &mut Vec<Out>) {
        let method = pick(&METHODS, self.rng.below(64));
        let field = pick(&FIELDS, self.rng.below(64));
        let uris = [
            "sip:weft.test",
            "sip:1001@weft.test",
            "sips:9196@weft.test",
            "sip:x@other.test",
        ];
        let uri = pick(&uris, self.rng.below(64));
        let call_id = self.rng.call_id();
        let from = format!("<sip:{}@weft.test>;tag=o{}", self.user, self.counter);
        let body = if self.draw(30) { "Hello\r\n" } else { "" };
        let to = format!("<{uri}>");
        let more = format!("{field}{more}");
        let fields = self.fields();
        let bytes = fields.request(method, uri, &from, &to, &call_id, 1, &more, body);
        self.send_request(now, method, &call_id, 1, bytes, out);
    }

    /// Answers the challenge to an odd request; sometimes wrongly, or for a nonce of long ago.
    pub(super) fn prove_odd(
        &mut self,
        now: Time,
        method: &str,
        challenge: &Message,
        out: &mut Vec<Out>,
    ) {
        let Some(method) = METHODS.iter().find(|known| **known == method) else {
            return;
        };
        let uri = "sip:weft.test";
        let Some(proof) = credentials(challenge, &self.user, method, uri) else {
            return;
        };
        let proof = match self.rng.below(5) {
            0 => proof.replace("response=\"", "response=\"0"),
            1 => proof.replace("nonce=\"", "nonce=\"0"),
            2 => proof.replace(&format!("username=\"{}", self.user), "username=\"nobody"),
            _ => proof,
        };
        let call_id = self.rng.call_id();
        let from = format!("<sip:{}@weft.test>;tag=p{}", self.user, self.counter);
        let fields = self.fields();
        let to = "<sip:weft.test>";
        let bytes = fields.request(method, uri, &from, to, &call_id, 2, &proof, "");
        self.send_request(now, method, &call_id, 2, bytes, out);
    }

    /// A registration beside its own: what it changes, the next regular one mends.
    fn register_oddly(&mut self, out: &mut Vec<Out>) {
        let template = pick(&REGISTRATIONS, self.rng.below(64));
        let contact = template.replace("{c}", &self.contact());
        let call_id = self.rng.call_id();
        let aor = format!("<sip:{}@weft.test>", self.user);
        let from = format!("{aor};tag=r{}", self.counter);
        let foreign = "<sip:1019@weft.test>".to_owned();
        let to = if self.draw(10) { foreign } else { aor };
        let fields = self.fields();
        // Unproven: the node challenges, and nothing changes.
        let bytes = fields.request(
            "REGISTER",
            "sip:weft.test",
            &from,
            &to,
            &call_id,
            1,
            &contact,
            "",
        );
        out.push(Out::Sip(bytes));
    }

    /// A call with an odd offer, to an extension that answers.
    fn call_oddly(&mut self, now: Time, out: &mut Vec<Out>) {
        let called = pick(
            &["9196", "9197", "9198", "4711", "1003", "0", "%31003"],
            self.rng.below(64),
        );
        let call_id = self.rng.call_id();
        let port = self.free_port();
        let mut call = Call::new(super::Role::Caller, now, port);
        call.is_extension = true;
        call.is_odd = true;
        call.local = format!("<sip:{}@weft.test>;tag=d{}", self.user, self.counter);
        call.remote = format!("<sip:{called}@weft.test>");
        call.target = format!("sip:{called}@weft.test");
        call.cseq = 1;
        call.odd_offer = self.rng.below(64);
        call.held = true;
        self.calls.insert(call_id.clone(), call);
        self.invite(&call_id, now, "", out);
    }

    /// Returns the odd offer of a call.
    pub(super) fn odd_offer(&self, call: &Call) -> String {
        pick(&OFFERS, call.odd_offer)
            .replace("{ip}", &self.address.ip().to_string())
            .replace("{port}", &call.port.to_string())
    }

    /// Says something within a call: digits by INFO or in the media, session questions.
    pub(super) fn odd_in_call(&mut self, call_id: &str, now: Time, out: &mut Vec<Out>) {
        let Some(call) = self.calls.get(call_id) else {
            return;
        };
        if call.state != CallState::Confirmed || call.is_offering {
            return;
        }
        let (method, more, body): (&'static str, &str, &str) = match self.rng.below(7) {
            0 => (
                "INFO",
                "Content-Type: application/dtmf-relay\r\n",
                "Signal=5\r\nDuration=160\r\n",
            ),
            1 => ("INFO", "Content-Type: application/dtmf\r\n", "7"),
            2 => ("INFO", "Content-Type: text/plain\r\n", "hello"),
            3 => ("OPTIONS", "", ""),
            4 => (
                "UPDATE",
                "Session-Expires: 90;refresher=uac\r\nSupported: timer\r\n",
                "",
            ),
            5 => ("MESSAGE", "Content-Type: text/plain\r\n", "hello"),
            _ => return self.dial_in_media(call_id, out),
        };
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        call.cseq += 1;
        let call = call.clone();
        let fields = self.fields();
        let (target, local, remote) = (&call.target, &call.local, &call.remote);
        let bytes = fields.request(
            method, target, local, remote, call_id, call.cseq, more, body,
        );
        self.send_request(now, method, call_id, call.cseq, bytes, out);
    }

    /// Sends a digit as telephone events, and a sender report (RFC 4733, RFC 3550).
    fn dial_in_media(&mut self, call_id: &str, out: &mut Vec<Out>) {
        let is_plain = !self.lines.contains_key(call_id);
        let Some(call) = self.calls.get_mut(call_id).filter(|_| is_plain) else {
            return;
        };
        let Some(to) = call.media else { return };
        let (port, ssrc) = (call.port, u32::from(call.port));
        for step in 0_u16..6 {
            call.sequence = call.sequence.wrapping_add(1);
            let is_end = step >= 3;
            let mut packet = vec![0x80, if step == 0 { 0x80 | 101 } else { 101 }];
            packet.extend_from_slice(&call.sequence.to_be_bytes());
            packet.extend_from_slice(&77_777_u32.to_be_bytes());
            packet.extend_from_slice(&ssrc.to_be_bytes());
            packet.extend_from_slice(&[5, if is_end { 0x8a } else { 0x0a }]);
            packet.extend_from_slice(&((step.min(3) + 1) * 160).to_be_bytes());
            out.push(Out::Rtp {
                port,
                to,
                packet: Bytes::from(packet),
            });
        }
        let mut report = vec![0x80, 200, 0, 6];
        report.extend_from_slice(&ssrc.to_be_bytes());
        report.resize(28, 1);
        report.extend_from_slice(&[0x81, 202, 0, 2]);
        report.extend_from_slice(&ssrc.to_be_bytes());
        report.extend_from_slice(&[1, 1, b'x', 0]);
        let above = std::net::SocketAddr::new(to.ip(), to.port().wrapping_add(1));
        out.push(Out::Rtp {
            port: port + 1,
            to: above,
            packet: Bytes::from(report),
        });
        let short = Bytes::from_static(&[0x80, 0, 1]);
        out.push(Out::Rtp {
            port,
            to,
            packet: short,
        });
    }

    /// Refuses a call in one of many ways.
    pub(super) fn odd_refusal(&mut self, invite: &Message, tag: &str) -> Bytes {
        let status = pick(&REFUSALS, self.rng.below(64));
        let more = if status.starts_with('3') {
            "Contact: <sip:1002@weft.test>, <sip:9196@weft.test>;q=0.3\r\n"
        } else if status.starts_with("503") {
            "Retry-After: 2\r\n"
        } else {
            "Warning: 399 10.1.0.1 \"why\"\r\n"
        };
        response(invite, status, tag, more, "")
    }
}
