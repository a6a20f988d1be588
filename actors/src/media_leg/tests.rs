//! A leg on a stage: its port, its reserve, its restarts.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it waits for"
)]

use std::time::Duration;

use bytes::Bytes;
use contract::limits::SEQUENCE_BLOCK;
use contract::{
    Action, ActorId, CallKey, Core, Event, LegConfig, MediaCommand, MediaEvent, ReserveBlock,
    Restored, SideKey, Store,
};

use super::*;
use crate::call;
use crate::script::{Actions, DIGEST, Stage};

mod moved;
mod protected;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";

fn side(number: u8) -> SideKey {
    CallKey::from_bits(0x1234_5678_9abc_def0_1122_3344_5566_7788).side(number)
}

fn start() -> Message {
    Message::Start {
        listener: DIGEST,
        sip_source: "192.0.2.10".parse().expect("an address"),
        beside: None,
        offering: Some(Offering::Rtp),
    }
}

fn stage() -> Stage<MediaLeg> {
    let site = crate::script::site();
    let leg = MediaLeg::create(side(1), &start(), &site).expect("a leg");
    let mut stage = Stage::new(leg, ActorId::MediaLeg(side(1)));
    let actions = stage.tell(start());
    assert!(matches!(
        media(&actions)[..],
        [MediaCommand::Open { port: None, .. }]
    ));
    stage
}

fn opened(stage: &mut Stage<MediaLeg>) -> Actions {
    let rtp = "192.0.2.1:20000".parse().expect("an address");
    stage.event(Event::Media(MediaEvent::Opened { rtp }))
}

/// A leg that has answered an offer.
fn agreed() -> (Stage<MediaLeg>, LegConfig) {
    let mut stage = stage();
    opened(&mut stage);
    stage.tell(Message::TakeOffer {
        sdp: Bytes::from(SDP),
    });
    let actions = stage.tell(Message::MakeAnswer {
        want: Want::both_ways(Codecs::Any),
    });
    let config = config(&actions);
    (stage, config)
}

fn media(actions: &Actions) -> Vec<MediaCommand> {
    let commands = actions.iter().filter_map(|action| match action {
        Action::Media(command) => Some(command.clone()),
        _ => None,
    });
    commands.collect()
}

fn config(actions: &Actions) -> LegConfig {
    let found = media(actions)
        .into_iter()
        .find_map(|command| match command {
            MediaCommand::Configure { config, .. } => Some(*config),
            _ => None,
        });
    found.expect("a configuration")
}

fn reports(actions: &Actions) -> Vec<Report> {
    let told = actions.iter().filter_map(|action| match action {
        Action::Tell {
            message: crate::Message::Call(call::Message::Media { report, .. }),
            ..
        } => Some(report.clone()),
        _ => None,
    });
    told.collect()
}

fn restored(stage: &Stage<MediaLeg>) -> Stage<MediaLeg> {
    let bytes = contract::codec::encode(&stage.core.snapshot(stage.now)).expect("a snapshot");
    let snapshot = contract::codec::decode(&bytes).expect("a snapshot");
    let leg = MediaLeg::restore(snapshot, stage.now).expect("a leg");
    let mut next = Stage::new(leg, stage.me.clone());
    next.now = stage.now;
    next
}

#[test]
fn a_description_waits_for_the_port() {
    let mut stage = stage();
    stage.tell(Message::TakeOffer {
        sdp: Bytes::from(SDP),
    });
    let actions = stage.tell(Message::MakeAnswer {
        want: Want::both_ways(Codecs::Any),
    });
    assert!(reports(&actions).is_empty());
    let actions = opened(&mut stage);
    assert!(matches!(reports(&actions)[..], [Report::Described { .. }]));
    assert_eq!(
        config(&actions).remote,
        Some("192.0.2.10:40000".parse().expect("address"))
    );
}

#[test]
fn an_answer_asked_for_twice_is_the_same() {
    let (mut stage, _) = agreed();
    let first = stage.tell(Message::MakeAnswer {
        want: Want::both_ways(Codecs::Any),
    });
    let second = stage.tell(Message::MakeAnswer {
        want: Want::both_ways(Codecs::Tone),
    });
    assert_eq!(reports(&first), reports(&second));
    assert!(matches!(reports(&first)[..], [Report::Described { .. }]));
}

#[test]
fn a_reserve_is_safe_before_it_is_allowed() {
    let (mut stage, before) = agreed();
    let sequence_end = before.sequence_start.wrapping_add(4_096);
    let block = contract::ReserveBlock {
        sequence_end,
        rtcp_index_end: 0,
    };
    let actions = stage.event(Event::Media(MediaEvent::Reserve {
        block,
        timestamp: 9_000,
        received: Vec::new(),
    }));
    let gate = actions
        .iter()
        .position(|action| matches!(action, Action::Store(Store::Put { gate: true })));
    let allowed = actions.iter().position(|action| {
        matches!(action, Action::Media(MediaCommand::Reserved { block: allowed, .. }) if *allowed == block)
    });
    assert!(gate.is_some() && gate < allowed, "{actions:?}");
    assert_eq!(
        stage
            .core
            .data
            .numbers
            .as_ref()
            .map(|numbers| numbers.end().sequence_end),
        Some(sequence_end)
    );
    let mut stage = restored(&stage);
    stage.event(Event::Restored(Restored::NodeStart));
    let after = config(&opened(&mut stage));
    assert_eq!(
        after.sequence_start, sequence_end,
        "it goes on past what is recorded"
    );
    assert_ne!(after.timestamp_start, before.timestamp_start);
}

#[test]
fn numbers_stay_as_they_are_after_a_panic() {
    let (stage, before) = agreed();
    let mut stage = restored(&stage);
    let actions = stage.event(Event::Restored(Restored::Panic));
    assert_eq!(config(&actions), before);
    assert_eq!(media(&actions).len(), 1, "nothing is opened again");
}

#[test]
fn a_new_reserve_is_safe_before_a_restarted_leg_sends() {
    let (stage, _) = agreed();
    let mut stage = restored(&stage);
    let actions = stage.event(Event::Restored(Restored::NodeStart));
    assert!(matches!(
        actions[..],
        [
            Action::Store(Store::Put { gate: true }),
            Action::Media(MediaCommand::Open { .. })
        ]
    ));
}

/// A leg that sends nothing, as on hold, must not run ahead of its peer: that guesses the roll-over
/// counter of SRTP within 2^15 numbers (RFC 3711 §3.3.1), which are sixteen blocks.
#[test]
fn restarts_use_up_numbers_only_where_something_was_sent() {
    let (stage, _) = agreed();
    let mut stage = restored(&stage);
    stage.event(Event::Restored(Restored::NodeStart));
    let first = config(&opened(&mut stage));
    assert_eq!(first.sequence_reserved, 0);
    for _ in 0..40 {
        stage = restored(&stage);
        stage.event(Event::Restored(Restored::NodeStart));
        let again = config(&opened(&mut stage));
        let numbers = (again.sequence_start, again.sequence_reserved);
        assert_eq!(numbers, (first.sequence_start, 0));
    }
    let block = ReserveBlock {
        sequence_end: first.sequence_start.wrapping_add(SEQUENCE_BLOCK),
        rtcp_index_end: 0,
    };
    stage.event(Event::Media(MediaEvent::Reserve {
        block,
        timestamp: 1,
        received: Vec::new(),
    }));
    let mut stage = restored(&stage);
    stage.event(Event::Restored(Restored::NodeStart));
    let after = config(&opened(&mut stage));
    let numbers = (after.sequence_start, after.sequence_reserved);
    assert_eq!(numbers, (block.sequence_end, 0), "it may have been used");
}

#[test]
fn a_port_that_is_taken_after_a_restart_is_tried_for_2_s() {
    let (stage, _) = agreed();
    let mut stage = restored(&stage);
    stage.event(Event::Restored(Restored::NodeStart));
    let failed = || {
        Event::Media(MediaEvent::Failed {
            why: "in use".to_owned(),
        })
    };
    let mut tries = 0;
    while reports(&stage.event(failed())).is_empty() {
        let actions = stage.pass(Duration::from_millis(200));
        assert!(matches!(
            media(&actions)[..],
            [MediaCommand::Open {
                port: Some(20_000),
                ..
            }]
        ));
        tries += 1;
        assert!(tries < 20, "it ends");
    }
    assert_eq!(tries, 10);
}

#[test]
fn packets_go_to_the_latched_source_after_a_restart_until_the_next_agreement() {
    let (mut stage, _) = agreed();
    let to = "192.0.2.10:55555".parse().expect("an address");
    stage.event(Event::Media(MediaEvent::Latched { to }));
    let mut stage = restored(&stage);
    stage.event(Event::Restored(Restored::NodeStart));
    assert_eq!(config(&opened(&mut stage)).remote, Some(to));
    stage.tell(Message::TakeOffer {
        sdp: Bytes::from(SDP.replace("40000", "40010")),
    });
    let actions = stage.tell(Message::MakeAnswer {
        want: Want::both_ways(Codecs::Any),
    });
    assert_eq!(
        config(&actions).remote,
        Some("192.0.2.10:40010".parse().expect("address"))
    );
}

#[test]
fn a_rollback_keeps_the_last_agreement() {
    let (mut stage, before) = agreed();
    stage.tell(Message::TakeOffer {
        sdp: Bytes::from(format!("{SDP}a=sendonly\r\n")),
    });
    stage.tell(Message::Rollback);
    let actions = stage.tell(Message::Join {
        to: Destination::Echo,
        is_watched: false,
    });
    let after = config(&actions);
    assert_eq!(
        (after.sends, after.receives),
        (before.sends, before.receives)
    );
    assert_eq!(after.negotiation, before.negotiation);
}

#[test]
fn what_is_no_sdp_is_unfit() {
    for (sdp, status) in [
        ("hello", 400),
        (&SDP.replace("RTP/AVP", "RTP/SAVP")[..], 488),
    ] {
        let mut stage = stage();
        let actions = stage.tell(Message::TakeOffer {
            sdp: Bytes::from(sdp.to_owned()),
        });
        assert_eq!(reports(&actions), [Report::Unfit { status }], "{sdp}");
    }
}

#[test]
fn silence_and_digits_are_told() {
    let (mut stage, _) = agreed();
    let actions = stage.event(Event::Media(MediaEvent::Timeout));
    assert_eq!(reports(&actions), [Report::Silent]);
    let actions = stage.event(Event::Media(MediaEvent::Digit {
        digit: '7',
        duration: 800,
    }));
    assert_eq!(reports(&actions), [Report::Digit('7')]);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Emit(_)))
    );
}

#[test]
fn a_closed_leg_frees_its_ports_and_stops() {
    let (mut stage, _) = agreed();
    let actions = stage.tell(Message::Close);
    assert_eq!(media(&actions), [MediaCommand::Close { leg: side(1) }]);
    assert_eq!(reports(&actions), [Report::Closed]);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Stop { id } if *id == stage.me))
    );
}
