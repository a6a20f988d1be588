//! What pages send beside calls: questions, and what broken or hostile ones send.

use std::time::Duration;

use bytes::Bytes;
use contract::Time;
use serde_json::json;

use super::Client;
use crate::phone::Out;

/// Frames that are no message, or none that a client may send.
const NONSENSE: [&str; 12] = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    r#"{"type":7,"id":"a"}"#,
    r#"{"type":"frobnicate","payload":{},"id":"a"}"#,
    r#"{"type":"ping","payload":{"ts":"now"},"id":"a"}"#,
    r#"{"type":"register","payload":{"dn":1000,"password":null},"id":"a"}"#,
    r#"{"type":"call","payload":{"to":"1\r\nX: y","callId":"c","sdp":"v=0"},"id":"a"}"#,
    r#"{"type":"answer","payload":{"callId":"nobody","sdp":"v=0\u0000"},"id":"a"}"#,
    r#"{"type":"dtmf","payload":{"callId":"c","digits":"1;2"},"id":"a"}"#,
];

/// Orders about calls that there are not, or that are somebody else's.
const STRAY: [&str; 9] = [
    "ringing",
    "hangup",
    "cancel",
    "iceComplete",
    "answer",
    "hold",
    "reanswer",
    "reject",
    "dtmf",
];

impl Client {
    /// Stops the tab from sending what no page should.
    pub fn be_polite(&mut self) {
        self.habits.odd = 0;
    }

    /// Accepts every call from now on, makes none, and does not put anybody on hold.
    pub fn be_ready(&mut self) {
        self.habits.be_ready();
    }

    /// Says one thing that is about no call.
    pub(super) fn chat(&mut self, now: Time, out: &mut Vec<Out>) {
        match self.rng.below(24) {
            0..=4 => self.ask("ping", &json!({ "ts": 1_700_000 }), out),
            5 => self.ask("info", &json!({ "query": "calls" }), out),
            6 => self.ask("info", &json!({ "query": "dn" }), out),
            7 => self.ask("info", &json!({ "query": "server" }), out),
            8..=11 => {
                let text = NONSENSE[self.rng.below(12) as usize];
                self.did("nonsense");
                out.push(Out::Sip(Bytes::from(text)));
            }
            12..=15 => {
                let kind = STRAY[self.rng.below(9) as usize];
                let name = ["nobody", "0196a5c2-0000-7000-8000-000000000000.1"]
                    [self.rng.below(2) as usize];
                let payload = json!({ "callId": name, "sdp": "v=0\r\n", "digits": "1" });
                self.ask(kind, &payload, out);
            }
            16 => self.ask("transfer", &json!({ "callId": "c" }), out),
            17 => {
                self.register_at = now + Duration::from_millis(600);
                let dn = self.user.clone();
                self.ask("unregister", &json!({ "dn": dn }), out);
            }
            18 => self.ask("unregister", &json!({ "dn": "1999" }), out),
            19 => {
                let payload = json!({ "dn": "1001@weft.test", "password": "weft-1001" });
                self.ask("register", &payload, out);
            }
            20 => self.ask("resumeSession", &json!({ "token": "no token" }), out),
            21 => {
                // 70 messages at once: some are refused.
                for number in 0..70 {
                    self.ask("ping", &json!({ "ts": number }), out);
                }
            }
            22 => {
                // A description that is none.
                let payload = json!({ "to": "1001", "callId": format!("bad-{}", self.counter), "sdp": "v=1" });
                self.ask("call", &payload, out);
            }
            _ => {
                // Longer than a message may be: the connection is closed.
                self.did("nonsense");
                out.push(Out::Sip(Bytes::from("{".repeat(70_000))));
            }
        }
    }
}
