//! Requests pass the gate as the policy says, each reaches its actor once, and transactions end.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

mod cluster;
mod gate;
mod proof;
mod transactions;
mod wire;

use bytes::Bytes;
use contract::{ActorId, Event, FlowRef, NodeId, Token, TokenUse};
use sip::digest::{Challenge, Question, strongest};

use super::*;
use crate::script::{Actions, Stage, sent};

pub(super) fn stage() -> Stage<Lane> {
    let site = crate::script::site();
    Stage::new(Lane::new(0, &site), ActorId::Lane(NodeId(1), 0))
}

/// A request in parts.
#[derive(Clone)]
pub(super) struct Draft {
    pub method: &'static str,
    pub uri: String,
    pub branch: String,
    pub from: String,
    pub to: String,
    pub cseq: u32,
    pub hops: u8,
    pub fields: Vec<String>,
    pub body: &'static str,
    pub via: String,
}

pub(super) fn draft(method: &'static str) -> Draft {
    let is_register = method == "REGISTER";
    Draft {
        method,
        uri: if is_register {
            "sip:example.org"
        } else {
            "sip:1001@example.org"
        }
        .to_owned(),
        branch: format!("z9hG4bK{method}1"),
        from: "<sip:1000@example.org>;tag=f1".to_owned(),
        to: if is_register {
            "<sip:1000@example.org>"
        } else {
            "<sip:1001@example.org>"
        }
        .to_owned(),
        cseq: 1,
        hops: 70,
        fields: Vec::new(),
        body: "",
        via: String::new(),
    }
}

impl Draft {
    pub fn text(&self) -> Bytes {
        let fields: String = self
            .fields
            .iter()
            .map(|field| format!("{field}\r\n"))
            .collect();
        Bytes::from(format!(
            "{} {} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5062;branch={}\r\n{}From: {}\r\nTo: {}\r\n\
             Call-ID: call-1\r\nCSeq: {} {}\r\nMax-Forwards: {}\r\n\
             Contact: <sip:1000@192.0.2.9:5062>\r\n{fields}Content-Length: {}\r\n\r\n{}",
            self.method,
            self.uri,
            self.branch,
            self.via,
            self.from,
            self.to,
            self.cseq,
            self.method,
            self.hops,
            self.body.len(),
            self.body,
        ))
    }

    pub fn with(mut self, field: impl Into<String>) -> Self {
        self.fields.push(field.into());
        self
    }

    pub fn again(mut self) -> Self {
        self.cseq += 1;
        self.branch = format!("z9hG4bK{}{}", self.method, self.cseq);
        self
    }
}

/// Gives the octets as a datagram or a framed message.
pub(super) fn receive(stage: &mut Stage<Lane>, flow: FlowRef, octets: Bytes) -> Actions {
    match flow {
        FlowRef::Datagram { listener, remote } => stage.event(Event::Datagram {
            listener,
            remote,
            bytes: octets,
        }),
        FlowRef::Stream { .. } => stage.tell(Message::Received {
            flow,
            message: octets,
        }),
    }
}

/// Reads the strongest challenge out of what was sent.
pub(super) fn challenge_of(actions: &Actions) -> Challenge {
    let (_, text) = sent(actions).pop().expect("a response");
    let values: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("WWW-Authenticate: ")
                .or_else(|| line.strip_prefix("Proxy-Authenticate: "))
        })
        .collect();
    strongest(values.into_iter(), None).expect("a challenge")
}

/// Answers a challenge as `user` with `password`, with nonce count `count`.
pub(super) fn answered(
    draft: &Draft,
    challenge: &Challenge,
    user: &str,
    password: &str,
    count: u32,
) -> Draft {
    let password = contract::Secret::new(password);
    let question = Question {
        username: user,
        password: &password,
        method: draft.method,
        uri: &draft.uri,
        cnonce: "c0ffee",
        count,
    };
    let value = sip::digest::answer(challenge, &question).expect("an answer");
    let name = if draft.method == "REGISTER" {
        "Authorization"
    } else {
        "Proxy-Authorization"
    };
    draft.clone().again().with(format!("{name}: {value}"))
}

/// A tag of ours for side 2 of some call.
pub(super) fn own_tag(stage: &Stage<Lane>) -> String {
    stage.site.tokens.write(TokenUse::Tag, own_token(0), 77)
}

pub(super) fn own_token(lane: u16) -> Token {
    let side = contract::CallKey::from_bits(1 << 100).side(2);
    Token {
        hint: NodeId(1),
        lane,
        side,
    }
}
