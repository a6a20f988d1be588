//! Every message travels unchanged, its octets are frozen, and no octets make the reader panic.
//! `UPDATE_GOLDEN=1` writes the goldens anew; only ever for a form that was never released.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use cluster::membership::{MembershipFrame, MetaEntry, NodeMeta, Table};
use contract::core::Roster;
use contract::limits::FRAME_BYTES_MAX;
use contract::{
    ActorId, ActorRow, ActorView, Answer, Boot, CallKey, Door, FaultClass, FlowRef, FrameClass,
    Kind, ListenerId, Lookup, Loss, Member, MemberState, MoveFault, NodeId, NodeInst, NodeView,
    Peer, SchemaVersion, Time, TraceLine, UtcMillis,
};
use doors::json::{CallState, IceServer, Party, ServerMessage, Why};
use media::sdp::{Codec, Direction};
use proptest::prelude::*;
use serde_json::json;
use sip::transaction::Key;
use sip::{Aor, NameAddr, Uri};

use crate::dialog::{ClientCommand, ClientOrder, OfferKind, RequestFailure};
use crate::door_session::{About, Delivery};
use crate::lane::NonceVerdict;
use crate::media_leg::{Codecs, Destination, Offering, Report, Stream, Want};
use crate::registration::settings::{Change, DiversionReason, Fault, Set, Settings};
use crate::wire::{WIRE_FORM, WIRE_FORM_2, WIRE_FORM_3, WireError, decode};
use crate::{
    AnyCore, Inbound, Message, Target, TransactionRef, call, console, dialog, door_session, flow,
    lane, media_leg, member, parking, registration,
};

/// Writes a message in the newest form.
fn encode(message: &Message) -> Vec<u8> {
    crate::wire::encode(message, SchemaVersion::NEWEST)
}

/// Names the variants of an enum, and the variant of a value: a variant that is not listed here
/// does not compile.
macro_rules! census {
    ($name:ident: $kind:ty, [$($variant:ident),+ $(,)?]) => {
        fn $name(value: &$kind) -> (&'static str, &'static [&'static str]) {
            type Listed = $kind;
            let name = match value {
                $(Listed::$variant { .. } => stringify!($variant),)+
            };
            (name, &[$(stringify!($variant)),+])
        }
    };
}

census!(of_registration: registration::Message, [
    Register, Bind, Resume, Unbind, Locate, FlowGone, Clear, Merge, Set, WhoCalls,
    InCall,
]);
census!(of_call: call::Message, [
    Invite, Dial, Cancel, Located, Hangup, Progressed, Answered, Failed, Acknowledged, Cancelled,
    Offered, OfferAnswered, OfferRefused, HungUp, Info, Trickle, Digits, Ended, Media, Bequest,
    Refer, LocatedAs, IsSet, Join, WhoCalls, Steer, Park, IsWith, With,
]);
census!(of_dialog: dialog::Message, [
    Request, Response, RequestFailed, Serve, Invite, Retransmitted, Cancelled, Progress, Accept,
    Acknowledge, Offer, AcceptOffer, RefuseOffer, Info, End, Located, Dial, Client, FlowGone,
    Digit, Report, Move, Inherit, AcceptRefer, RefuseRefer, ReferProgress,
    InviteDiverted, Replace, HandOver, HandedOver, TakeUp, Left, Look,
]);
census!(of_media_leg: media_leg::Message, [
    Start, TakeOffer, TakeAnswer, MakeOffer, MakeAnswer, Join, Rollback, Candidate,
    EndOfCandidates, Digits, Report, Close, HandOver, TakeUp,
]);
census!(of_flow: flow::Message, [Watch]);
census!(of_door_session: door_session::Message, [
    Bound, Unbound, Refused, Replaced, Watch, Deliver, CallState, IsSet,
]);
census!(of_lane: lane::Message, [
    Received, Respond, Request, SendAck, Challenge, CheckNonce, NonceChecked, FlowGone, Strayed,
    NodeGone, Taken,
]);
census!(of_console: console::Message, [Request, Ask, Answered, End, IsSet, Steered]);
census!(of_lookup: Lookup, [Host, Actors, Actor, Trace, Node, Members, Move, Drain]);
census!(of_answer: Answer, [Host, Actors, Actor, Trace, Node, Members, Moved, Draining]);
census!(of_state: MemberState, [Joining, Up, Draining]);
census!(of_any: Message, [
    Registration, Call, Dialog, MediaLeg, Flow, DoorSession, Lane, Console, Member, Parking,
]);
census!(of_member: member::Message, [
    Connected, Lost, Word, Drain, Leave, Tenures, Taken, GivenBack,
]);
census!(of_parking: parking::Message, [Take, Leave]);
census!(of_membership: MembershipFrame, [Witness, Table, Leave]);
census!(of_loss: Loss, [Refused, Silent, Closed]);
census!(of_client_command: ClientCommand, [
    Ringing, Answer, Reject, Hangup, Offer, Reanswer, Candidate, Digits, Stats, Ack, Inquire,
    Resumed, Transfer, Join,
]);
census!(of_report: Report, [
    OfferTaken, AnswerTaken, Described, Unfit, NoPort, Closed, Silent, Digit, Heard, Stays,
]);
census!(of_destination: Destination, [Relay, Echo, Tone, Nowhere, RingBack, Parked]);
census!(of_codecs: Codecs, [Only, Configured, Tone, Any, Agreed]);
census!(of_about: About, [Reply, News, Numbered]);
census!(of_verdict: NonceVerdict, [Fresh, Replayed, Forgotten]);
census!(of_failure: RequestFailure, [TimedOut, Unreachable]);
census!(of_offer_kind: OfferKind, [Hold, Resume, Reoffer]);
census!(of_offering: Offering, [Rtp, Sdes, Webrtc]);
census!(of_console_request: console::Request, [
    Nodes, Actors, Inspect, Trace, Stop, Move, Calls, Registrations, User, Drain, Here,
    Settings, Steer,
]);
census!(of_order: call::Order, [Hangup, Transfer, Hold, Unhold, Digits]);
census!(of_server: ServerMessage, [
    Registered, RegisterFailed, Unregistered, Trying, Ringing, CallAccepted, CallRejected,
    Incoming, Cancelled, Hangup, Held, Resumed, Reoffer, Reanswer, Dtmf, Info, Pong, Replaced,
    Expiring, Error, TransferProgress, Settings,
]);

/// Tells that every variant of an enum is among the values.
fn assert_complete<'v, V: 'v>(
    values: impl Iterator<Item = &'v V>,
    census: fn(&V) -> (&'static str, &'static [&'static str]),
) {
    let listed: Vec<_> = values.map(census).collect();
    let all = listed.first().expect("a value").1;
    let seen: BTreeSet<_> = listed.iter().map(|(name, _)| *name).collect();
    let missing: Vec<_> = all.iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "no sample of {missing:?}");
}

pub(crate) fn all_samples() -> Vec<Message> {
    fn wrapped<M: Into<Message>>(messages: Vec<M>) -> impl Iterator<Item = Message> {
        messages.into_iter().map(Into::into)
    }
    wrapped(registrations())
        .chain(wrapped(calls()))
        .chain(wrapped(dialogs()))
        .chain(wrapped(media_legs()))
        .chain(wrapped(flows()))
        .chain(wrapped(door_sessions()))
        .chain(wrapped(lanes()))
        .chain(wrapped(consoles()))
        .chain(wrapped(members()))
        .chain(wrapped(parkings()))
        .collect()
}

#[test]
fn every_variant_is_among_the_samples() {
    assert_complete(all_samples().iter(), of_any);
    assert_complete(registrations().iter(), of_registration);
    assert_complete(calls().iter(), of_call);
    assert_complete(dialogs().iter(), of_dialog);
    assert_complete(media_legs().iter(), of_media_leg);
    assert_complete(flows().iter(), of_flow);
    assert_complete(door_sessions().iter(), of_door_session);
    assert_complete(lanes().iter(), of_lane);
    assert_complete(consoles().iter(), of_console);
    assert_complete(members().iter(), of_member);
    assert_complete(parkings().iter(), of_parking);
    assert_complete(membership_frames().iter(), of_membership);
    assert_complete(LOSSES.iter(), of_loss);
    assert_complete(client_commands().iter(), of_client_command);
    assert_complete(reports().iter(), of_report);
    assert_complete(destinations().iter(), of_destination);
    assert_complete(codec_choices().iter(), of_codecs);
    assert_complete(abouts().iter(), of_about);
    assert_complete(VERDICTS.iter(), of_verdict);
    assert_complete(FAILURES.iter(), of_failure);
    assert_complete(OFFER_KINDS.iter(), of_offer_kind);
    assert_complete(OFFERINGS.iter(), of_offering);
    assert_complete(console_requests().iter(), of_console_request);
    assert_complete(orders().iter(), of_order);
    assert_complete(server_messages().iter(), of_server);
    assert_complete(lookups().iter(), of_lookup);
    assert_complete(answers().iter(), of_answer);
    assert_complete(MEMBER_STATES.iter(), of_state);
}

#[test]
fn every_message_travels_unchanged() {
    let samples = all_samples();
    for message in &samples {
        let octets = AnyCore::encode(message, SchemaVersion::NEWEST);
        let is_newer = matches!(
            message,
            Message::Call(call::Message::Bequest { .. })
                | Message::Dialog(dialog::Message::Inherit { .. })
        );
        let form = match is_newer {
            _ if crate::wire::is_of_schema_3(message) => WIRE_FORM_3,
            true => WIRE_FORM_2,
            false => WIRE_FORM,
        };
        assert_eq!(octets[..2], form.to_le_bytes(), "{message:?}");
        let read = decode(&octets).unwrap_or_else(|error| panic!("{message:?}: {error:?}"));
        assert_eq!(format!("{read:?}"), format!("{message:?}"));
        assert_eq!(encode(&read), octets, "{message:?}");
        assert_eq!(AnyCore::describe(&read), AnyCore::describe(message));
        let class = AnyCore::frame_class(message);
        assert_eq!(AnyCore::frame_class(&read), class);
        let is_new = matches!(class, FrameClass::Invite | FrameClass::Register);
        assert_eq!(AnyCore::is_new_work(message), is_new);
        let is_membership = class == FrameClass::Membership;
        assert_eq!(matches!(message, Message::Member(_)), is_membership);
    }
    println!("{} messages", samples.len());
}

#[test]
fn new_calls_and_registrations_are_less_urgent_than_what_belongs_to_a_dialog() {
    let class = |message: Message| AnyCore::frame_class(&message);
    let inbound = || inbound("INVITE");
    assert_eq!(
        class(call::Message::Invite(inbound()).into()),
        FrameClass::Invite
    );
    assert_eq!(
        class(call::Message::Dial(Box::new(dial())).into()),
        FrameClass::Invite
    );
    let register = registration::Message::Register(inbound());
    assert_eq!(class(register.into()), FrameClass::Register);
    let bind = registration::Message::Bind {
        client: client(),
        expires_s: None,
    };
    assert_eq!(class(bind.into()), FrameClass::Register);
    let others = [
        call::Message::Cancel(inbound()).into(),
        dialog::Message::Serve(inbound()).into(),
        registration::Message::Resume { client: client() }.into(),
        registration::Message::Clear.into(),
        lane::Message::FlowGone { flow: stream() }.into(),
    ];
    for message in others {
        assert_eq!(class(message), FrameClass::InDialog);
    }
}

/// Messages of each kind, with each of the shapes that fields have.
fn goldens() -> Vec<(&'static str, Message)> {
    let offered = call::Message::Offered {
        side: 2,
        sdp: Some(sdp()),
    };
    let order = ClientOrder {
        aor: aor(),
        contact: uri(),
        flow: stream(),
        name: "c-1".to_owned(),
        id: Some("7".to_owned()),
        command: ClientCommand::Hangup,
    };
    let join = media_leg::Message::Join {
        to: destinations().remove(0),
        is_watched: true,
    };
    let watch = flow::Message::Watch {
        watcher: ActorId::Registration("1000@example.org".into()),
        flow: stream(),
    };
    let stop = console::Message::Request {
        ticket: 9,
        request: console_requests().remove(4),
    };
    let hand_over = console::Message::Ask {
        number: 65_537,
        what: lookups().remove(6),
    };
    let not_moved = console::Message::Answered {
        number: 65_537,
        answer: Answer::Moved(Err(MoveFault::NotUp)),
    };
    let loaded = console::Message::Answered {
        number: 65_537,
        answer: Answer::Moved(Err(MoveFault::Loaded)),
    };
    let drain = console::Message::Ask {
        number: 65_538,
        what: lookups().remove(7),
    };
    vec![
        (
            "call_invite_v1",
            call::Message::Invite(inbound("INVITE")).into(),
        ),
        ("call_dial_v1", call::Message::Dial(Box::new(dial())).into()),
        ("call_offered_v1", offered.into()),
        ("registration_clear_v1", registration::Message::Clear.into()),
        (
            "registration_merge_v1",
            registration::Message::Merge {
                copy: Bytes::from_static(b"copy"),
            }
            .into(),
        ),
        (
            "registration_register_v1",
            registration::Message::Register(inbound("REGISTER")).into(),
        ),
        (
            "dialog_invite_v1",
            dialog::Message::Invite(Box::new(invite())).into(),
        ),
        (
            "dialog_client_v1",
            dialog::Message::Client(Box::new(order)).into(),
        ),
        ("media_leg_join_v1", join.into()),
        ("flow_watch_v1", watch.into()),
        ("door_session_deliver_v1", incoming().into()),
        ("lane_respond_v1", lanes().remove(1).into()),
        ("lane_check_nonce_v1", check_nonce().into()),
        ("lane_strayed_v1", strayed().into()),
        ("console_stop_v1", stop.into()),
        ("console_move_v1", hand_over.into()),
        ("console_moved_v1", not_moved.into()),
        ("console_drain_v1", drain.into()),
        ("console_moved_v2", loaded.into()),
    ]
}

#[test]
fn messages_are_their_golden_octets_and_are_read_from_them() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, message) in goldens() {
        let octets = encode(&message);
        let mut text = String::new();
        for line in octets.chunks(32) {
            line.iter()
                .for_each(|octet| write!(text, "{octet:02x}").unwrap());
            text.push('\n');
        }
        let path = folder.join(name).with_extension("hex");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(golden, text, "{name}");
        let read = decode(&unhex(&golden)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(format!("{read:?}"), format!("{message:?}"), "{name}");
    }
}

/// Whoever reads schema 1 is told the same of all that schema 1 can say, octet for octet.
#[test]
fn messages_for_the_former_schema_are_of_its_form() {
    let former = |message: &Message| crate::wire::encode(message, SchemaVersion::OLDEST);
    for (name, message) in goldens() {
        let octets = former(&message);
        assert_eq!(octets[..2], WIRE_FORM.to_le_bytes(), "{name}");
        if name.ends_with("_v1") {
            assert_eq!(octets, encode(&message), "{name}");
        } else {
            assert_eq!(encode(&message)[..2], WIRE_FORM_2.to_le_bytes(), "{name}");
        }
    }
    let loaded = console::Message::Answered {
        number: 5,
        answer: Answer::Moved(Err(MoveFault::Loaded)),
    };
    let bequest = call::Message::Bequest {
        parts: Vec::new(),
        unknown: Vec::new(),
    };
    let bequest = bequest.into();
    assert!(former(&bequest).is_empty() && decode(&encode(&bequest)).is_ok());
    let accept = dialog::Message::AcceptRefer.into();
    assert!(former(&accept).is_empty() && decode(&encode(&accept)).is_ok());
    let read = decode(&former(&loaded.into())).unwrap();
    let Message::Console(console::Message::Answered { number: 5, answer }) = read else {
        panic!("{read:?}");
    };
    assert!(matches!(answer, Answer::Moved(Err(MoveFault::NotTaken))));
}

#[test]
fn another_form_is_refused_and_the_known_one_is_named() {
    let mut octets = encode(&registration::Message::Clear.into());
    octets[..2].copy_from_slice(&4_u16.to_le_bytes());
    let error = decode(&octets).unwrap_err();
    assert!(matches!(error, WireError::UnknownForm { form: 4 }));
    assert_eq!(error.to_string(), "a message in form 4, known up to 3");
    assert_eq!(error.class(), FaultClass::Reject);
    assert!(AnyCore::decode(&octets).is_none());
}

#[test]
fn too_few_and_too_many_octets_are_refused() {
    for octets in [0, 1] {
        let error = decode(&vec![1; octets]).unwrap_err();
        assert!(matches!(error, WireError::NoForm { octets: found } if found == octets));
    }
    let octets = FRAME_BYTES_MAX + 1;
    let error = decode(&vec![1; octets]).unwrap_err();
    assert!(matches!(error, WireError::TooLong { octets: found } if found == octets));
    let mut left_over = encode(&registration::Message::Clear.into());
    left_over.push(0);
    let error = decode(&left_over).unwrap_err();
    assert!(matches!(error, WireError::Damaged(_)), "{error:?}");
}

#[test]
fn a_message_longer_than_a_frame_gives_no_octets_and_is_not_read() {
    let take = |length: usize| -> Message {
        let sdp = Bytes::from(vec![b'a'; length]);
        media_leg::Message::TakeOffer { sdp }.into()
    };
    let overhead = encode(&take(0)).len();
    let longest = take(FRAME_BYTES_MAX - overhead);
    assert_eq!(encode(&longest).len(), FRAME_BYTES_MAX);
    assert!(decode(&encode(&longest)).is_ok());
    let octets = encode(&take(FRAME_BYTES_MAX - overhead + 1));
    assert!(octets.is_empty());
    assert!(AnyCore::decode(&octets).is_none());
}

#[test]
fn a_length_that_no_octets_follow_is_refused_before_memory_is_taken() {
    let sdp = Bytes::from_static(b"v=0");
    let octets = encode(&media_leg::Message::TakeOffer { sdp }.into());
    let at = octets.len() - 3 - 8;
    for length in [4, 1 << 20, 1 << 40, u64::MAX] {
        let mut octets = octets.clone();
        octets[at..at + 8].copy_from_slice(&length.to_le_bytes());
        let error = decode(&octets).unwrap_err();
        assert!(matches!(error, WireError::Damaged(_)), "{length}");
    }
}

#[test]
fn a_sip_message_that_cannot_be_read_is_an_error() {
    let octets = encode(&call::Message::Cancel(inbound("CANCEL")).into());
    let at = octets
        .windows(8)
        .position(|window| window == b"Call-ID:")
        .unwrap();
    let mut damaged = octets;
    damaged[at..at + 8].copy_from_slice(b"Call-XX:");
    let error = decode(&damaged).unwrap_err();
    assert!(matches!(error, WireError::Damaged(_)), "{error:?}");
    assert_eq!(error.class(), FaultClass::Reject);
}

#[test]
fn credentials_are_shown_neither_by_debug_nor_in_forms_for_people() {
    let secret = "6629fae49393a05397450978507c4ef1";
    let inbound = inbound("REGISTER");
    let octets = inbound.request.bytes();
    assert!(String::from_utf8_lossy(octets).contains(secret));
    let message: Message = registration::Message::Register(inbound).into();
    let read = decode(&encode(&message)).unwrap();
    for message in [&message, &read] {
        assert!(!format!("{message:?}").contains(secret));
        assert!(!serde_json::to_string(message).unwrap().contains(secret));
        assert!(!AnyCore::describe(message).0.contains(secret));
    }
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    let samples: Vec<_> = all_samples().iter().map(encode).collect();
    prop::sample::select(samples)
}

/// Reads octets of a peer, and does with what was read what the runtime does.
fn take(octets: &[u8]) {
    let Ok(message) = decode(octets) else {
        return;
    };
    let _ = AnyCore::describe(&message);
    let _ = AnyCore::frame_class(&message);
    let written = encode(&message);
    let again = decode(&written).expect("what we write, we read");
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn cut_octets_are_refused(octets in octets(), at in any::<prop::sample::Index>()) {
        let length = at.index(octets.len());
        prop_assert!(decode(&octets[..length]).is_err());
    }

    #[test]
    fn changed_octets_never_panic(
        octets in octets(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut octets = octets;
        for (at, octet) in changes {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        take(&octets);
    }

    #[test]
    fn changed_bits_of_the_head_never_panic(octets in octets(), bit in 16_usize..320) {
        let mut octets = octets;
        if let Some(octet) = octets.get_mut(bit / 8) {
            *octet ^= 1 << (bit % 8);
        }
        take(&octets);
    }

    #[test]
    fn moved_and_doubled_octets_never_panic(
        octets in octets(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        length in 1_usize..64,
        is_moved in any::<bool>(),
    ) {
        let from = from.index(octets.len());
        let end = (from + length).min(octets.len());
        let piece = octets[from..end].to_vec();
        let mut octets = octets;
        if is_moved {
            octets.drain(from..end);
        }
        let to = to.index(octets.len() + 1);
        octets.splice(to..to, piece);
        take(&octets);
    }

    #[test]
    fn octets_of_nobody_never_panic(body in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut octets = WIRE_FORM.to_le_bytes().to_vec();
        octets.extend(body);
        take(&octets);
    }

    #[test]
    fn what_peers_wrote_travels_unchanged(
        side in any::<u8>(),
        status in any::<u16>(),
        text in any::<String>(),
        word in any::<String>(),
        body in prop::collection::vec(any::<u8>(), 0..2_048),
        digit in any::<char>(),
        length in any::<Duration>(),
    ) {
        let sdp = Bytes::from(body);
        let reply = About::Reply(Some(word.clone()));
        let error = ServerMessage::Error {
            code: status,
            message: text.clone(),
            reference: Some(word.clone()),
        };
        let messages: [Message; 6] = [
            call::Message::Info { side, content_type: text.clone(), body: sdp.clone() }.into(),
            call::Message::Digits { side, digits: word.clone(), duration: length }.into(),
            dialog::Message::Progress { status, sdp: Some(sdp.clone()) }.into(),
            dialog::Message::Digit { digit }.into(),
            lane::Message::Received { flow: stream(), message: sdp }.into(),
            deliver(error, reply).into(),
        ];
        for message in messages {
            let read = decode(&encode(&message)).unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{message:?}"));
        }
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

// What samples are made of.

fn sdp() -> Bytes {
    Bytes::from_static(b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nt=0 0\r\n")
}

fn sip_message(first: &str, method: &str) -> sip::Message {
    let text = format!(
        "{first}\r\nVia: SIP/2.0/UDP 192.0.2.9:5062;branch=z9hG4bK1;received=192.0.2.9\r\n\
         From: <sip:1000@example.org>;tag=f1\r\nTo: <sip:1001@example.org>\r\nCall-ID: call-1\r\n\
         CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContact: <sip:1000@192.0.2.9:5062>\r\n\
         Authorization: Digest username=\"1000\", realm=\"example.org\", nonce=\"n\", uri=\"sip:e\", \
         response=\"6629fae49393a05397450978507c4ef1\"\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n",
        sdp().len()
    );
    let octets = [text.as_bytes(), &sdp()].concat();
    sip::Message::read(Bytes::from(octets)).expect("a message")
}

fn request(method: &str) -> sip::Message {
    sip_message(&format!("{method} sip:1001@example.org SIP/2.0"), method)
}

fn response() -> sip::Message {
    sip_message("SIP/2.0 180 Ringing", "INVITE")
}

fn transaction() -> TransactionRef {
    TransactionRef {
        node: Some(NodeId(2)),
        lane: 3,
        key: Key::of_request(&request("INVITE")).expect("a key"),
    }
}

fn inbound(method: &str) -> Inbound {
    Inbound {
        transaction: transaction(),
        flow: datagram(),
        request: request(method),
        identity: Some(aor()),
    }
}

fn anonymous(method: &str) -> Inbound {
    Inbound {
        flow: stream(),
        identity: None,
        ..inbound(method)
    }
}

fn datagram() -> FlowRef {
    FlowRef::Datagram {
        listener: ListenerId(1),
        remote: "192.0.2.9:5062".parse().expect("an address"),
    }
}

fn stream() -> FlowRef {
    FlowRef::Stream {
        node: NodeId(2),
        number: 77,
        listener: ListenerId(2),
        remote: "[2001:db8::7]:40000".parse().expect("an address"),
        door: Door::Json,
    }
}

fn aor() -> Aor {
    let uri = "sip:1000@example.org".parse().expect("a URI");
    Aor::of(&uri).expect("an AoR")
}

fn uri() -> Uri {
    "sips:1000@192.0.2.9:5062;transport=ws;ob?a=b"
        .parse()
        .expect("a URI")
}

fn target() -> Target {
    Target {
        uri: uri(),
        flow: stream(),
        path: vec!["sip:edge.example.org;lr".parse().expect("a URI"), uri()],
        q: 700,
        unreachable: true,
    }
}

fn call_key() -> CallKey {
    CallKey::from_bits(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)
}

fn client() -> registration::Client {
    registration::Client {
        instance: "tab-1".to_owned(),
        flow: stream(),
        reply: ActorId::DoorSession(NodeId(2), 77),
    }
}

fn dial() -> call::Dial {
    call::Dial {
        aor: aor(),
        contact: uri(),
        flow: stream(),
        name: "c-1".to_owned(),
        request: Some("7".to_owned()),
        to: "1001".to_owned(),
        sdp: sdp(),
    }
}

fn invite() -> dialog::Invite {
    let from: NameAddr = "\"Alice \\\"A\\\"\" <sip:1000@example.org>;x=y"
        .parse()
        .expect("a name-addr");
    dialog::Invite {
        target: target(),
        callee: aor(),
        from,
        max_forwards: 69,
        sdp: Some(sdp()),
    }
}

fn codecs() -> Vec<Codec> {
    let mut opus = Codec::new("opus", 48_000, 111).expect("a codec");
    opus.channels = 2;
    opus.parameters = Some(media::sdp::Text::new("useinbandfec=1").expect("a text"));
    vec![opus, Codec::from_static(0).expect("PCMU")]
}

fn want(codecs: Codecs) -> Want {
    Want {
        codecs,
        direction: Direction::SendOnly,
        ptime: Some(20),
    }
}

fn codec_choices() -> Vec<Codecs> {
    vec![
        Codecs::Only(codecs()),
        Codecs::Configured,
        Codecs::Tone,
        Codecs::Any,
        Codecs::Agreed,
    ]
}

fn destinations() -> Vec<Destination> {
    vec![
        Destination::Relay {
            to: call_key().side(2),
            onward: codecs(),
        },
        Destination::Echo,
        Destination::Tone {
            hertz: 425,
            level_dbm0: -16,
        },
        Destination::Nowhere,
        Destination::RingBack,
        Destination::Parked,
    ]
}

fn stream_of_codecs() -> Stream {
    Stream {
        codecs: codecs(),
        direction: Direction::Inactive,
        ptime: None,
    }
}

fn reports() -> Vec<Report> {
    vec![
        Report::OfferTaken(stream_of_codecs()),
        Report::AnswerTaken(stream_of_codecs()),
        Report::Described { sdp: sdp() },
        Report::Unfit { status: 488 },
        Report::NoPort,
        Report::Closed,
        Report::Silent,
        Report::Digit('#'),
        Report::Heard,
        Report::Stays,
    ]
}

const OFFERINGS: [Offering; 3] = [Offering::Rtp, Offering::Sdes, Offering::Webrtc];
const OFFER_KINDS: [OfferKind; 3] = [OfferKind::Hold, OfferKind::Resume, OfferKind::Reoffer];
const FAILURES: [RequestFailure; 2] = [RequestFailure::TimedOut, RequestFailure::Unreachable];
const VERDICTS: [NonceVerdict; 3] = [
    NonceVerdict::Fresh,
    NonceVerdict::Replayed,
    NonceVerdict::Forgotten,
];

fn abouts() -> Vec<About> {
    vec![
        About::Reply(Some("7".to_owned())),
        About::Reply(None),
        About::News,
        About::Numbered(u64::MAX),
    ]
}

// The samples.

fn registrations() -> Vec<registration::Message> {
    use registration::Message;
    vec![
        Message::Register(inbound("REGISTER")),
        Message::Register(anonymous("REGISTER")),
        Message::Bind {
            client: client(),
            expires_s: Some(1_800),
        },
        Message::Resume { client: client() },
        Message::Unbind { client: client() },
        Message::Locate {
            reply: ActorId::Call(call_key()),
        },
        Message::FlowGone { flow: datagram() },
        Message::Clear,
        Message::WhoCalls {
            reply: ActorId::Call(call_key()),
        },
        Message::InCall {
            call: call_key(),
            is_in: true,
        },
        Message::Merge {
            copy: Bytes::from_static(b"copy"),
        },
        Message::Set(Box::new(Set {
            change: Change::Divert {
                on: DiversionReason::NoAnswer,
                to: Some("1002".to_owned()),
            },
            reply: ActorId::Call(call_key()),
            echo: "r-1".to_owned(),
        })),
    ]
}

fn settings() -> Settings {
    Settings {
        do_not_disturb: true,
        busy: Some("1002".to_owned()),
        no_answer_s: Some(20),
        ..Settings::default()
    }
}

fn fault() -> Fault {
    Fault {
        status: 400,
        why: "no route takes 555".to_owned(),
    }
}

fn calls() -> Vec<call::Message> {
    use call::Message;
    let side = 255;
    let mut messages = vec![
        Message::Invite(inbound("INVITE")),
        Message::Invite(anonymous("INVITE")),
        Message::Dial(Box::new(dial())),
        Message::Cancel(inbound("CANCEL")),
        Message::Located {
            aor: aor(),
            targets: vec![target(), target()],
        },
        Message::Hangup {
            cause: "NORMAL_CLEARING".to_owned(),
        },
        Message::Failed { side, status: 486 },
        Message::Cancelled { side },
        Message::OfferRefused { side, status: 491 },
        Message::HungUp {
            side,
            cause: "USER_BUSY".to_owned(),
        },
        Message::Info {
            side,
            content_type: "application/dtmf-relay".to_owned(),
            body: Bytes::from_static(b"Signal=1\r\n"),
        },
        Message::Trickle {
            side,
            candidate: Some("candidate:1 1 udp 1 192.0.2.9 4000 typ host".to_owned()),
        },
        Message::Trickle {
            side,
            candidate: None,
        },
        Message::Digits {
            side,
            digits: "12#".to_owned(),
            duration: Duration::from_millis(160),
        },
        Message::Ended { side },
        Message::Bequest {
            parts: vec![(ActorId::Call(call_key()), sdp())],
            unknown: vec![ActorId::Dialog(call_key().side(2))],
        },
    ];
    for sdp in [None, Some(sdp())] {
        messages.extend([
            Message::Progressed {
                side,
                status: 183,
                sdp: sdp.clone(),
            },
            Message::Answered {
                side,
                sdp: sdp.clone(),
            },
            Message::Acknowledged {
                side,
                sdp: sdp.clone(),
            },
            Message::Offered {
                side,
                sdp: sdp.clone(),
            },
            Message::OfferAnswered { side, sdp },
        ]);
    }
    let reports = reports().into_iter();
    messages.extend(reports.map(|report| Message::Media { side, report }));
    let refer = Box::new(call::Refer {
        to: uri(),
        listener: ListenerId(1),
        is_proven: true,
        replaces: None,
    });
    messages.push(Message::Refer { side, refer });
    let refer = Box::new(call::Refer {
        to: uri(),
        listener: ListenerId(1),
        is_proven: true,
        replaces: Some(ask().replaces),
    });
    messages.push(Message::Refer { side, refer });
    messages.extend(words().map(|word| Message::Join { side, word }));
    messages.push(Message::LocatedAs {
        aor: aor(),
        targets: vec![target()],
        settings: Box::new(settings()),
        engaged: vec![call_key()],
    });
    messages.push(Message::IsWith {
        aor: aor(),
        reply: call_key(),
    });
    messages.push(Message::With {
        aor: aor(),
        call: call_key(),
        is_with: true,
    });
    messages.extend([Ok(()), Err(fault())].map(Message::IsSet));
    messages.push(Message::WhoCalls {
        aor: aor(),
        calls: vec![(call_key(), 1_500)],
    });
    messages.extend(orders().map(|order| {
        Message::Steer(Box::new(call::Steer {
            reply: ActorId::Console(NodeId(2)),
            echo: "9".to_owned(),
            command: Some("c-1".to_owned()),
            order,
        }))
    }));
    let by = call_key();
    let words = [
        parking::Word::Yours,
        parking::Word::Taken { by },
        parking::Word::AreYouThere,
    ];
    messages.extend(words.map(|word| Message::Park {
        place: ActorId::Parking("5901@example.org".into()),
        word,
    }));
    messages
}

fn orders() -> [call::Order; 5] {
    [
        call::Order::Hangup {
            cause: "NORMAL_CLEARING".to_owned(),
        },
        call::Order::Transfer {
            party: call::Party::Caller,
            to: "1002".to_owned(),
        },
        call::Order::Hold {
            party: call::Party::Callee,
        },
        call::Order::Unhold {
            party: call::Party::Caller,
        },
        call::Order::Digits {
            party: call::Party::Callee,
            digits: "12#".to_owned(),
            duration: Duration::from_millis(160),
        },
    ]
}

fn parkings() -> Vec<parking::Message> {
    let call = call_key();
    vec![
        parking::Message::Take { call },
        parking::Message::Leave { call },
    ]
}

fn ask() -> call::Ask {
    let side = call_key().side(1);
    call::Ask {
        replaces: call::Replaces {
            dialog: side,
            call_id: "c1@weft.test".to_owned(),
            our_tag: "weft1".to_owned(),
            peer_tag: "b1".to_owned(),
            early_only: true,
        },
        from: side,
        by: Some(aor()),
        is_proven: true,
    }
}

fn words() -> impl Iterator<Item = call::Word> {
    use call::{Stopped, Word};
    let part = Bytes::from_static(&[1, 2, 3]);
    let stopped = [
        Stopped::Dialog(part.clone()),
        Stopped::Leg(part.clone()),
        Stopped::Stays,
    ];
    let words = [
        Word::Ask(Box::new(ask())),
        Word::Asked(Ok(ask().from)),
        Word::Asked(Err(481)),
        Word::Come(Box::new(call::Coming::of_test(ask().from, part))),
        Word::Came(true),
        Word::NotComing(ask().from),
        Word::PickUp(Box::new(call::PickUp {
            whom: aor(),
            from: ask().from,
            by: Some(aor()),
            is_proven: true,
        })),
        Word::Retrieve(Box::new(parking::Retrieve {
            place: ActorId::Parking("5901@example.org".into()),
            from: ask().from,
            by: Some(aor()),
            is_proven: true,
        })),
    ];
    words.into_iter().chain(stopped.map(Word::Stopped))
}

fn client_commands() -> Vec<ClientCommand> {
    let mut commands = vec![
        ClientCommand::Ringing,
        ClientCommand::Answer { sdp: sdp() },
        ClientCommand::Reject { status: 603 },
        ClientCommand::Hangup,
        ClientCommand::Reanswer { sdp: sdp() },
        ClientCommand::Candidate { candidate: None },
        ClientCommand::Candidate {
            candidate: Some("candidate:1".to_owned()),
        },
        ClientCommand::Digits {
            digits: "9".to_owned(),
            duration_ms: Some(100),
            is_info: true,
        },
        ClientCommand::Stats {
            report: "{\"rtt\":0.02}".to_owned(),
        },
        ClientCommand::Ack { number: 5 },
        ClientCommand::Inquire,
        ClientCommand::Resumed,
        ClientCommand::Transfer {
            to: "1002".to_owned(),
        },
        ClientCommand::Join {
            dialog: ask().from,
            name: "call-7".to_owned(),
        },
    ];
    let sdp = sdp();
    commands.extend(OFFER_KINDS.map(|kind| ClientCommand::Offer {
        sdp: sdp.clone(),
        kind,
    }));
    commands
}

fn dialogs() -> Vec<dialog::Message> {
    use dialog::Message;
    let mut messages = vec![
        Message::Request(inbound("INFO")),
        Message::Response {
            response: response(),
            flow: datagram(),
        },
        Message::Serve(inbound("INVITE")),
        Message::Invite(Box::new(invite())),
        Message::Invite(Box::new(dialog::Invite {
            sdp: None,
            ..invite()
        })),
        Message::Retransmitted(inbound("INVITE")),
        Message::Cancelled(inbound("CANCEL")),
        Message::RefuseOffer { status: 488 },
        Message::Info {
            content_type: "application/trickle-ice-sdpfrag".to_owned(),
            body: Bytes::from_static(&[0, 255, 13, 10]),
        },
        Message::End {
            status: 480,
            cause: "NO_ANSWER".to_owned(),
        },
        Message::Located {
            targets: vec![target()],
        },
        Message::Dial(Box::new(dial())),
        Message::FlowGone { flow: stream() },
        Message::Digit { digit: '*' },
        Message::Report,
        Message::AcceptRefer,
        Message::RefuseRefer { status: 403 },
        Message::ReferProgress {
            status: 180,
            is_last: false,
        },
        Message::InviteDiverted {
            invite: Box::new(invite()),
            path: vec![call::Diversion {
                by: aor(),
                on: DiversionReason::Busy,
                to: "1002".to_owned(),
            }],
        },
        Message::Replace(Box::new(ask())),
        Message::HandOver { to: ask().from },
        Message::HandedOver,
        Message::TakeUp {
            part: Bytes::from_static(&[4, 5]),
            from: ask().from,
        },
        Message::Left,
        Message::Look,
    ];
    messages.extend(FAILURES.map(|why| Message::RequestFailed {
        branch: "z9hG4bK1".to_owned(),
        why,
    }));
    for sdp in [None, Some(sdp())] {
        messages.extend([
            Message::Progress {
                status: 180,
                sdp: sdp.clone(),
            },
            Message::Accept { sdp: sdp.clone() },
            Message::Acknowledge { sdp: sdp.clone() },
            Message::Offer {
                sdp: sdp.clone(),
                retries: sdp.is_some(),
            },
            Message::Move { sdp: sdp.clone() },
            Message::Inherit {
                part: Bytes::from_static(b"part"),
            },
            Message::AcceptOffer { sdp },
        ]);
    }
    messages.extend(client_commands().into_iter().map(|command| {
        Message::Client(Box::new(ClientOrder {
            aor: aor(),
            contact: uri(),
            flow: stream(),
            name: "c-1".to_owned(),
            id: None,
            command,
        }))
    }));
    messages
}

fn media_legs() -> Vec<media_leg::Message> {
    use media_leg::Message;
    let start = |offering| Message::Start {
        listener: ListenerId(2),
        sip_source: "2001:db8::9".parse().expect("an address"),
        beside: Some(call_key().side(1)),
        offering,
    };
    let mut messages = vec![
        start(None),
        Message::TakeOffer { sdp: sdp() },
        Message::TakeAnswer { sdp: sdp() },
        Message::Rollback,
        Message::Candidate {
            candidate: "candidate:1".to_owned(),
        },
        Message::EndOfCandidates,
        Message::Digits {
            digits: "0".to_owned(),
            duration: Duration::from_millis(40),
        },
        Message::Report,
        Message::Close,
        Message::HandOver,
        Message::TakeUp {
            part: Bytes::from_static(&[6]),
            beside: Some(ask().from),
        },
    ];
    messages.extend(OFFERINGS.map(|offering| start(Some(offering))));
    for codecs in codec_choices() {
        messages.push(Message::MakeOffer {
            want: want(codecs.clone()),
        });
        messages.push(Message::MakeAnswer { want: want(codecs) });
    }
    messages.extend(destinations().into_iter().map(|to| Message::Join {
        to,
        is_watched: false,
    }));
    messages
}

fn flows() -> Vec<flow::Message> {
    let watchers = [
        ActorId::Registration("1000@example.org".into()),
        ActorId::Dialog(call_key().side(3)),
    ];
    let watch = |watcher| flow::Message::Watch {
        watcher,
        flow: stream(),
    };
    watchers.map(watch).into()
}

fn deliver(message: ServerMessage, about: About) -> door_session::Message {
    door_session::Message::Deliver(Box::new(Delivery {
        flow: stream(),
        name: "c-1".to_owned(),
        message,
        about,
        is_last: true,
    }))
}

fn incoming() -> door_session::Message {
    deliver(said_of_calls().remove(0), About::Numbered(3))
}

fn deliveries() -> Vec<door_session::Message> {
    let said = server_messages().into_iter();
    let mut messages: Vec<_> = said
        .map(|message| deliver(message, About::Numbered(3)))
        .collect();
    messages.extend(abouts().into_iter().map(|about| {
        let call_id = "c-1".to_owned();
        deliver(ServerMessage::Trying { call_id }, about)
    }));
    messages
}

fn door_sessions() -> Vec<door_session::Message> {
    use door_session::Message;
    let mut messages = vec![
        Message::Bound { expires_s: 3_600 },
        Message::Unbound,
        Message::Refused {
            status: 423,
            why: "too brief".to_owned(),
        },
        Message::Replaced { flow: stream() },
        Message::Watch {
            watcher: ActorId::Dialog(call_key().side(1)),
            flow: stream(),
        },
        Message::CallState {
            name: "c-1".to_owned(),
            state: "talking".to_owned(),
        },
    ];
    messages.extend(deliveries());
    messages.extend([Ok(settings()), Err(fault())].map(|result| Message::IsSet {
        echo: "r-1".to_owned(),
        result,
    }));
    messages
}

fn check_nonce() -> lane::Message {
    let nonce = sip::digest::NonceInfo {
        made: UtcMillis(1_700_000_000_000),
        random: u64::MAX - 1,
        node: 2,
        lane: 3,
    };
    lane::Message::CheckNonce {
        nonce,
        count: 9,
        transaction: transaction(),
    }
}

fn lanes() -> Vec<lane::Message> {
    use lane::Message;
    let octets = |message: sip::Message| message.bytes().clone();
    let mut messages = vec![
        Message::Received {
            flow: stream(),
            message: octets(request("INVITE")),
        },
        Message::Respond {
            transaction: transaction(),
            flow: datagram(),
            response: octets(response()),
        },
        Message::Request {
            flow: datagram(),
            request: octets(request("INVITE")),
            user: ActorId::Dialog(call_key().side(2)),
        },
        Message::SendAck {
            flow: stream(),
            request: octets(request("ACK")),
        },
        Message::Challenge {
            transaction: transaction(),
            flow: stream(),
            request: request("BYE"),
        },
        check_nonce(),
        Message::FlowGone { flow: stream() },
        strayed(),
        Message::NodeGone { node: NodeId(2) },
        Message::Taken {
            key: transaction().key,
        },
    ];
    messages.extend(VERDICTS.map(|verdict| Message::NonceChecked {
        transaction: transaction(),
        verdict,
    }));
    messages
}

fn strayed() -> lane::Message {
    lane::Message::Strayed {
        flow: datagram(),
        message: response().bytes().clone(),
    }
}

fn console_requests() -> Vec<console::Request> {
    use console::{Page, Request};
    let page = Page {
        offset: 100,
        limit: usize::MAX,
    };
    let mut requests = vec![
        Request::Nodes,
        Request::Inspect {
            id: ActorId::Gateway("tel:nyx".into()),
        },
        Request::Trace {
            id: ActorId::Flow(NodeId(1), 5),
        },
        Request::User {
            dn: "1000@example.org".to_owned(),
        },
        Request::Stop {
            id: ActorId::Call(call_key()),
            epoch: Some(4),
        },
        Request::Move {
            id: ActorId::Lane(NodeId(1), 5),
            to: "b".to_owned(),
            epoch: Some(4),
        },
        Request::Drain {
            node: Some("b".to_owned()),
            max_s: 1_800,
        },
        Request::Here,
        Request::Calls {
            contains: Some("01".to_owned()),
            page,
        },
        Request::Registrations {
            contains: None,
            page,
        },
        Request::Settings {
            dn: "1000".to_owned(),
            set: Some(Box::new(settings())),
        },
        Request::Steer {
            call: call_key(),
            command: None,
            order: orders()[0].clone(),
        },
    ];
    requests.extend(Kind::ALL.map(|kind| Request::Actors {
        kind: Some(kind),
        node: Some("a".to_owned()),
        contains: None,
        page,
    }));
    requests
}

const MEMBER_STATES: [MemberState; 3] =
    [MemberState::Joining, MemberState::Up, MemberState::Draining];

fn lookups() -> Vec<Lookup> {
    let id = ActorId::Call(call_key());
    vec![
        Lookup::Host {
            name: "example.org".to_owned(),
        },
        Lookup::Actors {
            kind: Some(Kind::Call),
            contains: Some("01".to_owned()),
            offset: 0,
            limit: 1_000,
        },
        Lookup::Actor { id: id.clone() },
        Lookup::Trace { id },
        Lookup::Node,
        Lookup::Members,
        Lookup::Move {
            id: ActorId::Call(call_key()),
            to: NodeId(3),
            epoch: Some(4),
        },
        Lookup::Drain { max_s: 1_800 },
    ]
}

fn row() -> ActorRow {
    ActorRow {
        id: ActorId::Dialog(call_key().side(1)),
        parent: "call".to_owned(),
        live: true,
        inbox: 2,
        restarts: 1,
        epoch: 3,
        sequence: 17,
        state: "confirmed".to_owned(),
    }
}

fn answers() -> Vec<Answer> {
    let view = ActorView {
        row: row(),
        snapshot: "{\"side\":1}".to_owned(),
        next_deadline_ms: Some(500),
        gated: 0,
        quarantined: vec!["timer".to_owned()],
        children: vec![ActorId::MediaLeg(call_key().side(1))],
    };
    let line = TraceLine {
        at: UtcMillis(1_700_000_000_000),
        mono: Time::from_micros(5),
        actor: ActorId::Call(call_key()),
        peer: "lane".to_owned(),
        inward: true,
        text: "INVITE".to_owned(),
    };
    vec![
        Answer::Host(Ok(vec!["192.0.2.9".parse().expect("an address")])),
        Answer::Host(Err("no such name".to_owned())),
        Answer::Actors {
            rows: vec![row(), row()],
            total: 7,
        },
        Answer::Actor(Some(Box::new(view))),
        Answer::Actor(None),
        Answer::Trace(vec![line]),
        Answer::Node(Box::new(node_view())),
        Answer::Members(MEMBER_STATES.map(member).into()),
        Answer::Moved(Ok(())),
        Answer::Moved(Err(MoveFault::NotUp)),
        Answer::Draining,
    ]
}

fn instance() -> NodeInst {
    NodeInst {
        node: NodeId(2),
        boot: Boot(1_700_000_000),
    }
}

fn node_view() -> NodeView {
    NodeView {
        instance: instance(),
        name: "b".to_owned(),
        state: "up".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_s: 60,
        actors: Kind::ALL.map(|kind| (kind, 1, 2)).into(),
        listeners: vec!["udp 127.0.0.1:5060".to_owned()],
        free_bytes: 1 << 40,
    }
}

fn member(state: MemberState) -> Member {
    Member {
        peer: Peer {
            inst: instance(),
            address: "192.0.2.2:7000".parse().expect("an address"),
        },
        name: "b".to_owned(),
        state,
        zone: String::new(),
        weight: 100,
        schema: contract::SchemaVersion::default(),
    }
}

const LOSSES: [Loss; 3] = [Loss::Refused, Loss::Silent, Loss::Closed];

fn membership_frames() -> Vec<MembershipFrame> {
    let entry = MetaEntry {
        inst: instance(),
        counter: 9,
        meta: NodeMeta {
            name: "b".to_owned(),
            zone: "west".to_owned(),
            ..NodeMeta::unheard()
        },
    };
    vec![
        MembershipFrame::Witness {
            peer: instance(),
            refused: true,
        },
        MembershipFrame::Table(Table {
            entries: vec![entry],
            is_asking: true,
        }),
        MembershipFrame::Leave,
    ]
}

fn members() -> Vec<member::Message> {
    use member::Message;
    let peer = member(MemberState::Up).peer;
    let mut messages = vec![Message::Connected(peer), Message::Drain, Message::Leave];
    messages.extend(LOSSES.map(|why| Message::Lost(peer, why)));
    let of = instance();
    let frames = membership_frames().into_iter();
    messages.extend(frames.map(|body| Message::Word { of, body }));
    let address = "203.0.113.9".parse().unwrap();
    let tenure = cluster::Tenure {
        address,
        turn: 3,
        holder: of,
    };
    messages.extend([
        Message::Tenures {
            of,
            tenures: vec![tenure],
        },
        Message::Taken {
            address,
            is_here: true,
        },
        Message::GivenBack {
            address,
            is_gone: false,
        },
    ]);
    messages
}

fn consoles() -> Vec<console::Message> {
    use console::Message;
    let mut messages = vec![Message::End {
        id: ActorId::Call(call_key()),
    }];
    let number = 5 << 16;
    messages.extend(console_requests().into_iter().map(|request| {
        let ticket = u64::MAX;
        Message::Request { ticket, request }
    }));
    let lookups = lookups().into_iter();
    messages.extend(lookups.map(|what| Message::Ask { number, what }));
    let answers = answers().into_iter();
    messages.extend(answers.map(|answer| Message::Answered { number, answer }));
    messages.extend([Ok(settings()), Err(fault())].map(|result| Message::IsSet {
        echo: "17".to_owned(),
        result,
    }));
    messages.extend([Ok(()), Err(fault())].map(|result| Message::Steered {
        echo: "18".to_owned(),
        result,
    }));
    messages
}

fn server_messages() -> Vec<ServerMessage> {
    let mut messages = said_of_registrations();
    messages.extend(said_of_calls());
    messages
}

fn said_of_registrations() -> Vec<ServerMessage> {
    let dn = || "1000@example.org".to_owned();
    vec![
        ServerMessage::Settings(doors::json::CallSettings {
            do_not_disturb: true,
            no_answer: Some("1002".parse().expect("a number")),
            no_answer_seconds: Some(20),
            ..Default::default()
        }),
        ServerMessage::Registered {
            dn: dn(),
            expires: 3_600,
            server: "192.0.2.1".to_owned(),
            session_token: "token".to_owned(),
            ice_servers: vec![IceServer {
                urls: vec!["stun:192.0.2.1".to_owned()],
            }],
            resumed: true,
            calls: Some(vec![CallState {
                call_id: "c-1".to_owned(),
                state: "held".to_owned(),
            }]),
        },
        ServerMessage::RegisterFailed {
            code: 401,
            reason: "no".to_owned(),
        },
        ServerMessage::Unregistered {
            dn: dn(),
            reason: "asked".to_owned(),
        },
        ServerMessage::Info(json!({ "calls": [{ "mos": 4.5, "lost": null }], "ä\u{0}": -1 })),
        ServerMessage::Pong {
            ts: serde_json::Number::from(u64::MAX),
        },
        ServerMessage::Replaced { dn: dn() },
        ServerMessage::Expiring { dn: dn(), in_s: 60 },
        ServerMessage::Error {
            code: 400,
            message: "what\r\n\"?\"".to_owned(),
            reference: None,
        },
    ]
}

fn said_of_calls() -> Vec<ServerMessage> {
    let call_id = || "c-1".to_owned();
    let text = || String::from_utf8(sdp().to_vec()).expect("a text");
    let mut messages = vec![
        ServerMessage::Incoming {
            call_id: call_id(),
            from: "1001@example.org".to_owned(),
            display_name: "Zoë ☎".to_owned(),
            to: "1000@example.org".to_owned(),
            sdp: text(),
            headers: [("X-Queue".to_owned(), "7".to_owned())].into(),
        },
        ServerMessage::Trying { call_id: call_id() },
        ServerMessage::CallRejected {
            call_id: call_id(),
            code: 486,
            cause: "USER_BUSY".to_owned(),
            reason: "busy".to_owned(),
        },
        ServerMessage::Cancelled {
            call_id: call_id(),
            reason: "NO_ANSWER".to_owned(),
        },
        ServerMessage::Hangup {
            call_id: call_id(),
            cause: "NORMAL_CLEARING".to_owned(),
            code: 200,
        },
        ServerMessage::Reanswer {
            call_id: call_id(),
            sdp: text(),
        },
        ServerMessage::Dtmf {
            call_id: call_id(),
            digits: None,
            digit: Some('5'),
        },
        ServerMessage::TransferProgress {
            call_id: call_id(),
            code: 180,
            text: text(),
        },
    ];
    for sdp in [None, Some(text())] {
        messages.extend([
            ServerMessage::Ringing {
                call_id: call_id(),
                sdp: sdp.clone(),
            },
            ServerMessage::CallAccepted {
                call_id: call_id(),
                sdp: sdp.clone(),
            },
            ServerMessage::Held {
                call_id: call_id(),
                by: Party::Local,
                sdp: sdp.clone(),
            },
            ServerMessage::Resumed {
                call_id: call_id(),
                by: Party::Remote,
                sdp,
            },
        ]);
    }
    let whys = [Why::Hold, Why::Resume, Why::Migrate, Why::SessionRefresh];
    messages.extend(whys.map(|why| ServerMessage::Reoffer {
        call_id: call_id(),
        sdp: text(),
        why,
    }));
    messages
}
