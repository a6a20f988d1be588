//! Legs that another node had: row "media leg" of `cluster.md` §7. Whole calls are in `call/tests`.

use contract::limits::CUT_OFF_BLOCKS_MAX;
use contract::{KeyMaterial, LegTransport, ReceivedIndex, SrtpKeys};

use super::*;

const KEYS: [&str; 2] = [
    "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
    "inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj",
];

/// The description of a phone with a key of its own, and with the tag that we offered.
fn phone(tag: &str, key: &str) -> Bytes {
    let line = format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 {key}\r\n");
    Bytes::from(SDP.replace("RTP/AVP", "RTP/SAVP") + &line)
}

fn offer(stage: &mut Stage<MediaLeg>, want: Want) -> Actions {
    stage.tell(Message::MakeOffer { want })
}

fn described(actions: &Actions) -> String {
    let found = reports(actions)
        .into_iter()
        .find_map(|report| match report {
            Report::Described { sdp } => Some(sdp),
            _ => None,
        });
    String::from_utf8(found.expect("a description").to_vec()).expect("text")
}

fn crypto(sdp: &str) -> Vec<(String, String)> {
    let lines = sdp
        .lines()
        .filter_map(|line| line.strip_prefix("a=crypto:"));
    let pieces = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    pieces
        .map(|pieces| (pieces[0].to_owned(), pieces[2].to_owned()))
        .collect()
}

fn sdes(config: &LegConfig) -> &SrtpKeys {
    match &config.transport {
        LegTransport::Sdes(keys) => keys,
        other => panic!("{other:?}"),
    }
}

/// A leg that has offered keys, and whose peer has answered with one.
fn secured() -> (Stage<MediaLeg>, LegConfig, String) {
    let start = Message::Start {
        listener: DIGEST,
        sip_source: "192.0.2.10".parse().expect("an address"),
        beside: None,
        offering: Some(Offering::Sdes),
    };
    let site = crate::script::site();
    let leg = MediaLeg::create(side(1), &start, &site).expect("a leg");
    let mut stage = Stage::new(leg, ActorId::MediaLeg(side(1)));
    stage.tell(start);
    opened(&mut stage);
    let text = described(&offer(&mut stage, Want::both_ways(Codecs::Tone)));
    let (tag, _) = crypto(&text)[0].clone();
    let sdp = phone(&tag, KEYS[0]);
    let actions = stage.tell(Message::TakeAnswer { sdp });
    let config = config(&actions);
    (stage, config, text)
}

/// The next node, which has another address.
fn taken_over(stage: &Stage<MediaLeg>) -> (Stage<MediaLeg>, Actions) {
    let mut next = restored(stage);
    for listener in &mut next.site.listeners {
        listener.advertise = "192.0.2.2:5060".parse().expect("an address");
        listener.rtp_local = "10.0.0.2".parse().expect("an address");
        listener.rtp_advertise = "192.0.2.2".parse().expect("an address");
    }
    let actions = next.event(Event::Restored(Restored::TakenOver {
        may_live: false,
        epoch: 2,
    }));
    (next, actions)
}

fn opened_there(stage: &mut Stage<MediaLeg>) -> Actions {
    let rtp = "10.0.0.2:30000".parse().expect("an address");
    stage.event(Event::Media(MediaEvent::Opened { rtp }))
}

#[test]
fn the_address_of_this_node_is_bound_and_its_public_one_described() {
    let (stage, _) = agreed();
    let (mut stage, actions) = taken_over(&stage);
    let gate = matches!(actions[0], Action::Store(Store::Put { gate: true }));
    assert!(gate, "the reserve is passed over before a packet is sent");
    assert!(matches!(
        &media(&actions)[..],
        [MediaCommand::Open { address, port: None, .. }] if address.to_string() == "10.0.0.2"
    ));
    opened_there(&mut stage);
    let text = described(&offer(&mut stage, Want::agreed(None)));
    assert!(text.contains("c=IN IP4 192.0.2.2\r\n"), "{text}");
    assert!(text.contains("m=audio 30000 "), "{text}");
    assert!(
        text.contains(" IN IP4 192.0.2.1\r\ns="),
        "one origin: {text}"
    );
}

#[test]
fn a_leg_without_a_port_of_its_own_here_ends_the_call() {
    let (stage, _) = agreed();
    let (mut stage, _) = taken_over(&stage);
    let why = "none free".to_owned();
    let actions = stage.event(Event::Media(MediaEvent::Failed { why }));
    assert_eq!(reports(&actions), [Report::NoPort]);
}

#[test]
fn a_leg_that_nobody_has_described_yet_begins_here() {
    let (mut stage, actions) = taken_over(&stage());
    assert_eq!(media(&actions).len(), 1);
    stage.tell(Message::TakeOffer {
        sdp: Bytes::from(SDP),
    });
    opened_there(&mut stage);
    let actions = stage.tell(Message::MakeAnswer {
        want: Want::both_ways(Codecs::Any),
    });
    assert!(described(&actions).contains(" IN IP4 192.0.2.2\r\ns="));
}

#[test]
fn keys_of_the_signalling_are_new_and_the_old_ones_hold_until_they_are_answered() {
    let (stage, before, text) = secured();
    let former = crypto(&text)[0].clone();
    let (mut stage, _) = taken_over(&stage);
    let now = config(&opened_there(&mut stage));
    assert_eq!(sdes(&now).our_key, sdes(&before).our_key);
    assert_eq!(
        now.sequence_start,
        before.sequence_start.wrapping_add(SEQUENCE_BLOCK),
        "no number goes twice under that key"
    );
    let first = described(&offer(&mut stage, Want::agreed(None)));
    let again = described(&offer(&mut stage, Want::agreed(None)));
    assert_eq!(first, again);
    let lines = crypto(&first);
    assert_eq!(lines.len(), 1, "the profile that was agreed on: {first}");
    assert_ne!(lines[0].1, former.1);
    let sdp = phone(&lines[0].0, KEYS[0]);
    let told = config(&stage.tell(Message::TakeAnswer { sdp }));
    assert_ne!(sdes(&told).our_key, sdes(&before).our_key);
    assert_eq!(sdes(&told).peer_key, sdes(&before).peer_key);
    assert_eq!((told.ssrc, told.rollover_start), (before.ssrc, 0));
    assert!(
        told.sequence_start >= now.sequence_start,
        "the stream goes on"
    );
    // From then on it is the key of the leg.
    let next = described(&offer(&mut stage, Want::agreed(None)));
    assert_eq!(crypto(&next), lines);
}

#[test]
fn streams_that_have_rolled_over_begin_anew_under_new_keys() {
    let (mut stage, before, _) = secured();
    let received = vec![ReceivedIndex {
        ssrc: 9,
        index: 70_000,
    }];
    let block = ReserveBlock {
        sequence_end: 5,
        rtcp_index_end: 4_096,
    };
    stage.event(Event::Media(MediaEvent::Reserve {
        block,
        timestamp: 1,
        received: received.clone(),
    }));
    let (mut stage, _) = taken_over(&stage);
    let now = config(&opened_there(&mut stage));
    assert_eq!((now.sequence_start, now.rollover_start), (5, 1));
    assert_eq!(sdes(&now).received, received);
    let text = described(&offer(&mut stage, Want::agreed(None)));
    let (tag, _) = crypto(&text)[0].clone();
    // The peer keeps its key, so that its stream goes on.
    let sdp = phone(&tag, KEYS[0]);
    let told = config(&stage.tell(Message::TakeAnswer { sdp }));
    assert_eq!((told.ssrc, told.rollover_start), (before.ssrc, 0));
    assert_eq!(sdes(&told).received, received);
    // It has a new one, so that its roll-overs begin anew.
    let sdp = phone(&tag, KEYS[1]);
    let told = config(&stage.tell(Message::TakeAnswer { sdp }));
    assert_ne!(sdes(&told).peer_key, sdes(&before).peer_key);
    assert_ne!(sdes(&told).peer_key, KeyMaterial::default());
    assert!(sdes(&told).received.is_empty());
}

#[test]
fn the_first_packet_here_is_told() {
    let (stage, _) = agreed();
    let from = "192.0.2.10:40000".parse().expect("an address");
    let mut here = restored(&stage);
    let event = Event::Media(MediaEvent::FirstPacket { from });
    assert!(reports(&here.event(event.clone())).is_empty());
    let (mut there, _) = taken_over(&stage);
    opened_there(&mut there);
    assert_eq!(reports(&there.event(event)), [Report::Heard]);
}

#[test]
fn what_was_agreed_on_is_offered_as_it_was() {
    let (mut stage, _) = agreed();
    let hold = format!("{SDP}a=sendonly\r\n");
    stage.tell(Message::TakeOffer { sdp: hold.into() });
    stage.tell(Message::MakeAnswer {
        want: Want::both_ways(Codecs::Any),
    });
    // An offer that was taken and not answered changes nothing.
    stage.tell(Message::TakeOffer {
        sdp: Bytes::from(SDP),
    });
    let (mut stage, _) = taken_over(&stage);
    opened_there(&mut stage);
    stage.tell(Message::Rollback);
    let text = described(&offer(&mut stage, Want::agreed(Some(30))));
    assert!(text.contains("a=recvonly\r\n"), "{text}");
    assert!(text.contains("m=audio 30000 RTP/AVP 0 8 101\r\n"), "{text}");
    assert!(text.contains("a=ptime:30\r\n"), "{text}");
}

#[test]
fn a_leg_of_the_first_form_becomes_one_of_the_second_once_it_has_moved() {
    let (stage, _) = agreed();
    assert!(stage.core.snapshot(stage.now).oldest().is_ok());
    let (mut stage, _) = taken_over(&stage);
    opened_there(&mut stage);
    assert!(stage.core.snapshot(stage.now).oldest().is_err());
    let first = described(&offer(&mut stage, Want::agreed(None)));
    let mut again = restored(&stage);
    again.site = stage.site.clone();
    again.event(Event::Restored(Restored::NodeStart));
    opened_there(&mut again);
    let second = described(&offer(&mut again, Want::agreed(None)));
    assert_eq!(first, second, "the same port, the same session");
}

/// A stream that is heard has its next block at once, one that may be silent when it wants it.
#[test]
fn a_leg_that_moves_while_it_is_heard_waits_for_no_block() {
    let (mut stage, config) = agreed();
    let mut begins = config.sequence_start;
    for is_heard in [false, true, false] {
        let mut end = begins.wrapping_add(SEQUENCE_BLOCK);
        if is_heard {
            end = end.wrapping_add(SEQUENCE_BLOCK);
            let block = ReserveBlock {
                sequence_end: end,
                rtcp_index_end: 0,
            };
            stage.event(Event::Media(MediaEvent::Reserve {
                block,
                timestamp: 0,
                received: Vec::new(),
            }));
        }
        let mut next = restored(&stage);
        let actions = next.event(Event::Restored(Restored::Moved { epoch: 2 }));
        let gate = matches!(actions[0], Action::Store(Store::Put { gate: true }));
        assert!(gate, "it is recorded before a packet is sent");
        let config = super::config(&opened_there(&mut next));
        let reserved = if is_heard { SEQUENCE_BLOCK } else { 0 };
        assert_eq!(
            (config.sequence_start, config.sequence_reserved),
            (end, reserved)
        );
        // Without a block the first packet asks for one.
        if !is_heard {
            let block = ReserveBlock {
                sequence_end: end.wrapping_add(SEQUENCE_BLOCK),
                rtcp_index_end: 0,
            };
            next.event(Event::Media(MediaEvent::Reserve {
                block,
                timestamp: 0,
                received: Vec::new(),
            }));
        }
        (stage, begins) = (next, end);
    }
}

/// Who is cut off may send on for a while, and who takes its call over on its silence begins behind
/// that: no number is used twice under one key (RFC 3711 §9.1).
#[test]
fn two_nodes_that_are_cut_apart_use_no_number_twice() {
    let (mut cut_off, before, _) = secured();
    let copy = restored(&cut_off);
    let ask = |stage: &mut Stage<MediaLeg>, blocks: u16| {
        let sequence_end = before.sequence_start.wrapping_add(SEQUENCE_BLOCK * blocks);
        let block = ReserveBlock {
            sequence_end,
            rtcp_index_end: 0,
        };
        let actions = stage.event(Event::Media(MediaEvent::Reserve {
            block,
            timestamp: 0,
            received: Vec::new(),
        }));
        let is_allowed = media(&actions)
            .iter()
            .any(|command| matches!(command, MediaCommand::Reserved { .. }));
        is_allowed.then_some(sequence_end)
    };
    // One block before it sees that it is cut off.
    let mut ends = vec![ask(&mut cut_off, 2).expect("a block")];
    cut_off.health.cut_off = true;
    ends.extend((3..20).map_while(|blocks| ask(&mut cut_off, blocks)));
    assert_eq!(ends.len(), 1 + usize::from(CUT_OFF_BLOCKS_MAX));
    let taken_over = |may_live| Restored::TakenOver { may_live, epoch: 2 };
    for (why, leaves_room) in [
        (taken_over(false), false),
        (taken_over(true), true),
        (Restored::NodeStart, false),
        // Who has seen it die goes on as `taken_over(false)`.
        (Restored::StartedAlone, true),
    ] {
        let mut heir = restored(&copy);
        heir.event(Event::Restored(why));
        let config = config(&opened_there(&mut heir));
        let is_behind = ends
            .iter()
            .all(|end| config.sequence_start.wrapping_sub(*end) < 1 << 15);
        assert_eq!(is_behind, leaves_room, "{why:?}: {config:?}");
    }
    cut_off.health.cut_off = false;
    let blocks = u16::try_from(ends.len()).expect("few") + 2;
    assert!(ask(&mut cut_off, blocks).is_some(), "it is back");
}

/// Who takes its own copy back, or has heard no other holder, begins behind a node that went on from the
/// same copy, started again or not, and behind all that one may have used while it was cut off, whether
/// or not it had left room.
#[test]
fn two_heirs_of_one_copy_use_no_number_twice() {
    let (stage, _, _) = secured();
    let begins = |why| {
        let mut heir = restored(&stage);
        heir.event(Event::Restored(why));
        config(&opened_there(&mut heir)).sequence_start
    };
    let used = SEQUENCE_BLOCK * (u16::from(CUT_OFF_BLOCKS_MAX) + 1);
    for back in [Restored::StartedAlone, Restored::Adopted { epoch: 3 }] {
        let taken_over = |may_live| Restored::TakenOver { may_live, epoch: 2 };
        for why in [Restored::NodeStart, taken_over(false), taken_over(true)] {
            let ahead = begins(back).wrapping_sub(begins(why));
            // A peer guesses roll-overs rightly over half of the numbers (RFC 3711 §3.3.1).
            assert!((used..1 << 15).contains(&ahead), "{back:?}: {ahead}");
        }
    }
}

/// The address that the peer knows is bound here: the same port, and nothing to tell.
#[test]
fn a_leg_whose_address_came_along_stays() {
    let (stage, _) = agreed();
    let mut next = restored(&stage);
    next.site.listeners[usize::from(DIGEST.0)].floating = Some(crate::site::FloatingListener {
        base: DIGEST,
        is_here: true,
    });
    let actions = next.event(Event::Restored(Restored::TakenOver {
        may_live: false,
        epoch: 2,
    }));
    let local = stage.core.data.local.expect("a port");
    let opens = actions.iter().any(|action| {
        matches!(action, contract::Action::Media(contract::MediaCommand::Open { address, port, .. })
            if *address == local.ip() && *port == Some(local.port()))
    });
    assert!(opens, "{actions:?}");
    next.event(Event::Media(MediaEvent::Opened { rtp: local }));
    let told = offer(&mut next, Want::agreed(None));
    assert_eq!(reports(&told), [Report::Stays]);
    // Asked again, it is for another reason.
    described(&offer(&mut next, Want::agreed(None)));
    assert!(next.core.snapshot(next.now).oldest().is_ok());
}

/// A call that began at the address before this one came has its port.
#[test]
fn a_leg_whose_port_is_taken_at_its_address_gets_another_and_the_peer_is_told() {
    let (stage, _) = agreed();
    let mut next = restored(&stage);
    next.site.listeners[usize::from(DIGEST.0)].floating = Some(crate::site::FloatingListener {
        base: DIGEST,
        is_here: true,
    });
    next.event(Event::Restored(Restored::TakenOver {
        may_live: false,
        epoch: 2,
    }));
    let why = "address in use".to_owned();
    next.event(Event::Media(MediaEvent::Failed { why: why.clone() }));
    next.pass(Duration::from_millis(200));
    let actions = next.event(Event::Media(MediaEvent::Failed { why }));
    let is_any = |action: &contract::Action<_>| {
        matches!(
            action,
            contract::Action::Media(contract::MediaCommand::Open { port: None, .. })
        )
    };
    assert!(actions.iter().any(is_any), "{actions:?}");
    let rtp = "192.0.2.1:16500".parse().expect("an address");
    next.event(Event::Media(MediaEvent::Opened { rtp }));
    let sdp = described(&offer(&mut next, Want::agreed(None)));
    assert!(sdp.contains("m=audio 16500 "), "{sdp}");
}
