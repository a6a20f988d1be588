//! Any core of any kind: what the runtime runs.
//!
//! In: events with the one [`Message`]. Out: the same, sorted to the core of the right kind. It
//! decides nothing.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use contract::core::{Core, Ctx, Event, RestoreError, Rivals, Roster};
use contract::{ActorId, FrameClass, Kind, Now, SchemaVersion, Time, codec};
use serde::{Deserialize, Serialize};

use crate::{
    Message, Site, bequest, call, console, dialog, door_session, flow, lane, media_leg, member,
    parking, registration, wire,
};

/// A core of any kind.
#[derive(Debug)]
pub enum AnyCore {
    /// One AoR.
    Registration(Box<registration::Registration>),
    /// One call.
    Call(Box<call::Call>),
    /// One side's signalling, in SIP.
    Dialog(Box<dialog::Dialog>),
    /// One side's signalling, in JSON.
    JsonDialog(Box<dialog::json::JsonDialog>),
    /// One side's media.
    MediaLeg(Box<media_leg::MediaLeg>),
    /// One connection that carries SIP.
    Flow(Box<flow::Flow>),
    /// One connection that carries JSON.
    DoorSession(Box<door_session::DoorSession>),
    /// One transaction shard.
    Lane(Box<lane::Lane>),
    /// The inspector.
    Console(Box<console::Console>),
    /// This node in its cluster.
    Member(Box<member::Member>),
    /// One place where a call is parked.
    Parking(Box<parking::Parking>),
}

/// The stored form of any part: a frozen version each (`cluster.md` §12).
#[derive(Serialize, Deserialize)]
pub(crate) enum Stored {
    RegistrationV1(registration::SnapshotV1),
    CallV1(call::SnapshotV1),
    DialogV1(dialog::SnapshotV1),
    MediaLegV1(media_leg::SnapshotV1),
    JsonDialogV1(dialog::json::SnapshotV1),
    RegistrationV2(registration::SnapshotV2),
    CallV2(call::SnapshotV2),
    MediaLegV2(media_leg::Snapshot),
    DialogV2(dialog::SnapshotV2),
    CallV3(call::SnapshotV3),
    DialogV3(dialog::Snapshot),
    CallV4(call::Snapshot),
    RegistrationV3(registration::Snapshot),
    JsonDialogV2(dialog::json::Snapshot),
    ParkingV1(parking::Snapshot),
}

impl Stored {
    /// Returns a registration in the oldest form that holds it.
    fn of_registration(snapshot: registration::Snapshot) -> Self {
        let oldest = snapshot.oldest();
        oldest.map_or_else(
            |later| Stored::RegistrationV3(*later),
            Stored::RegistrationV2,
        )
    }

    /// Returns a dialog in the oldest form that holds it.
    fn of_dialog(snapshot: dialog::Snapshot) -> Self {
        match snapshot.oldest() {
            dialog::Form::First(first) => Stored::DialogV1(*first),
            dialog::Form::Second(second) => Stored::DialogV2(*second),
            dialog::Form::Third(third) => Stored::DialogV3(*third),
        }
    }

    /// Returns a JSON dialog in the oldest form that holds it.
    fn of_json_dialog(snapshot: dialog::json::Snapshot) -> Self {
        let oldest = snapshot.oldest();
        oldest.map_or_else(|later| Stored::JsonDialogV2(*later), Stored::JsonDialogV1)
    }

    /// Returns a media leg in the oldest form that holds it.
    fn of_leg(snapshot: media_leg::Snapshot) -> Self {
        let oldest = snapshot.oldest();
        oldest.map_or_else(|later| Stored::MediaLegV2(*later), Stored::MediaLegV1)
    }
}

/// Writes a dialog as it is stored, for the record of another call.
pub(crate) fn part_of_dialog(snapshot: dialog::Snapshot) -> Bytes {
    part_of(&Stored::of_dialog(snapshot))
}

/// Writes a JSON dialog as it is stored, for the record of another call.
pub(crate) fn part_of_json_dialog(snapshot: dialog::json::Snapshot) -> Bytes {
    part_of(&Stored::of_json_dialog(snapshot))
}

/// Writes a media leg as it is stored, for the record of another call.
pub(crate) fn part_of_leg(snapshot: media_leg::Snapshot) -> Bytes {
    part_of(&Stored::of_leg(snapshot))
}

fn part_of(stored: &Stored) -> Bytes {
    codec::encode(stored)
        .expect("parts are bounded well below the codec's limit")
        .into()
}

/// Reads a media leg as it was stored; `None` if it is none.
fn stored_leg(part: &Bytes) -> Option<media_leg::Snapshot> {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "all other parts are the same here"
    )]
    match codec::decode(part).ok()? {
        Stored::MediaLegV1(leg) => Some(leg.into()),
        Stored::MediaLegV2(leg) => Some(leg),
        _ => None,
    }
}

/// The schema that `CallV3` came with; `CallV4` is written only of what schema 3 has begun.
const CALL_V3: SchemaVersion = SchemaVersion(2);

macro_rules! with_core {
    ($any:expr, $core:ident => $body:expr) => {
        match $any {
            AnyCore::Registration($core) => $body,
            AnyCore::Call($core) => $body,
            AnyCore::Dialog($core) => $body,
            AnyCore::JsonDialog($core) => $body,
            AnyCore::MediaLeg($core) => $body,
            AnyCore::Flow($core) => $body,
            AnyCore::DoorSession($core) => $body,
            AnyCore::Lane($core) => $body,
            AnyCore::Console($core) => $body,
            AnyCore::Member($core) => $body,
            AnyCore::Parking($core) => $body,
        }
    };
}

/// Gives `event` to `core` if its message, if it has one, is of the core's own kind.
fn drive<C, Own, T>(
    core: &mut C,
    event: Event<Message, ()>,
    ctx: &mut Ctx<'_, Message, Site>,
    own: fn(Message) -> Option<Own>,
) where
    T: Copy + Debug + Ord,
    C: Core<Event = Event<Own, T, Message>, Timer = T, Message = Message, Site = Site>,
{
    let event = match event {
        Event::Message { from, message } => match own(message) {
            Some(message) => Event::Message { from, message },
            None => return ctx.ignore("a message for another kind"),
        },
        Event::Timer(()) => match core.next_deadline() {
            Some((_, timer)) => Event::Timer(timer),
            None => return ctx.ignore("no deadline is set"),
        },
        Event::Undelivered { to, message, why } => Event::Undelivered { to, message, why },
        Event::Datagram {
            listener,
            remote,
            bytes,
        } => Event::Datagram {
            listener,
            remote,
            bytes,
        },
        Event::Opened { flow } => Event::Opened { flow },
        Event::Bytes(bytes) => Event::Bytes(bytes),
        Event::Closed { why } => Event::Closed { why },
        Event::Media(media) => Event::Media(media),
        Event::Answer { token, answer } => Event::Answer { token, answer },
        Event::ChildLost { id } => Event::ChildLost { id },
        Event::Restored(why) => Event::Restored(why),
    };
    core.handle(event, ctx);
}

macro_rules! own {
    ($variant:ident) => {
        |message| match message {
            Message::$variant(message) => Some(message),
            #[allow(
                clippy::wildcard_enum_match_arm,
                reason = "all other kinds are the same here"
            )]
            _ => None,
        }
    };
}

impl Roster for AnyCore {
    type Message = Message;
    type Site = Site;

    fn create(id: &ActorId, first: &Message, site: &Site) -> Option<Self> {
        match (id, first) {
            (ActorId::Registration(aor), Message::Registration(message)) => {
                registration::Registration::create(aor, message, site)
                    .map(|core| AnyCore::Registration(Box::new(core)))
            }
            (ActorId::Call(key), Message::Call(message)) => {
                call::Call::create(*key, message, site).map(|core| AnyCore::Call(Box::new(core)))
            }
            (ActorId::Dialog(side), Message::Dialog(dialog::Message::Inherit { part })) => {
                bequest::inherit(*side, part)
            }
            (ActorId::Dialog(side), Message::Dialog(dialog::Message::TakeUp { part, .. })) => {
                bequest::taken_up(*side, part)
            }
            (
                ActorId::MediaLeg(side),
                Message::MediaLeg(media_leg::Message::TakeUp { part, .. }),
            ) => {
                let stored = stored_leg(part)?;
                let leg = media_leg::MediaLeg::goes_on_as(stored, *side);
                Some(AnyCore::MediaLeg(Box::new(leg)))
            }
            (ActorId::Dialog(side), Message::Dialog(message)) => {
                let json = dialog::json::JsonDialog::create(*side, message, site);
                json.map(|core| AnyCore::JsonDialog(Box::new(core)))
                    .or_else(|| {
                        dialog::Dialog::create(*side, message, site)
                            .map(|core| AnyCore::Dialog(Box::new(core)))
                    })
            }
            (ActorId::MediaLeg(side), Message::MediaLeg(message)) => {
                media_leg::MediaLeg::create(*side, message, site)
                    .map(|core| AnyCore::MediaLeg(Box::new(core)))
            }
            (ActorId::Parking(_), Message::Parking(message)) => {
                parking::Parking::create(message).map(|core| AnyCore::Parking(Box::new(core)))
            }
            (_, _) => None,
        }
    }

    fn create_system(id: &ActorId, site: &Site) -> Option<Self> {
        match id {
            ActorId::Flow(..) => Some(AnyCore::Flow(Box::default())),
            ActorId::DoorSession(..) => Some(AnyCore::DoorSession(Box::default())),
            ActorId::Lane(_, number) => {
                Some(AnyCore::Lane(Box::new(lane::Lane::new(*number, site))))
            }
            ActorId::Console(_) => Some(AnyCore::Console(Box::new(console::Console::new()))),
            ActorId::Member(_) => Some(AnyCore::Member(Box::new(member::Member::new()))),
            ActorId::Registration(_)
            | ActorId::Call(_)
            | ActorId::Dialog(_)
            | ActorId::MediaLeg(_)
            | ActorId::Gateway(_)
            | ActorId::Parking(_) => None,
        }
    }

    fn restore(id: &ActorId, bytes: &[u8], now: Now) -> Result<Self, RestoreError> {
        let stored: Stored = codec::decode(bytes).map_err(|error| RestoreError {
            what: id.kind().word(),
            why: error.to_string(),
        })?;
        match stored {
            Stored::RegistrationV1(snapshot) => {
                registration::Registration::restore(snapshot.into(), now)
                    .map(|core| AnyCore::Registration(Box::new(core)))
            }
            Stored::RegistrationV2(snapshot) => {
                registration::Registration::restore(snapshot.into(), now)
                    .map(|core| AnyCore::Registration(Box::new(core)))
            }
            Stored::RegistrationV3(snapshot) => registration::Registration::restore(snapshot, now)
                .map(|core| AnyCore::Registration(Box::new(core))),
            Stored::CallV1(snapshot) => {
                call::Call::restore(snapshot.into(), now).map(|core| AnyCore::Call(Box::new(core)))
            }
            Stored::CallV2(snapshot) => {
                call::Call::restore(snapshot.into(), now).map(|core| AnyCore::Call(Box::new(core)))
            }
            Stored::CallV3(snapshot) => {
                call::Call::restore(snapshot.into(), now).map(|core| AnyCore::Call(Box::new(core)))
            }
            Stored::CallV4(snapshot) => {
                call::Call::restore(snapshot, now).map(|core| AnyCore::Call(Box::new(core)))
            }
            Stored::DialogV1(snapshot) => dialog::Dialog::restore(snapshot.into(), now)
                .map(|core| AnyCore::Dialog(Box::new(core))),
            Stored::DialogV2(snapshot) => dialog::Dialog::restore(snapshot.into(), now)
                .map(|core| AnyCore::Dialog(Box::new(core))),
            Stored::DialogV3(snapshot) => {
                dialog::Dialog::restore(snapshot, now).map(|core| AnyCore::Dialog(Box::new(core)))
            }
            Stored::JsonDialogV1(snapshot) => {
                dialog::json::JsonDialog::restore(snapshot.into(), now)
                    .map(|core| AnyCore::JsonDialog(Box::new(core)))
            }
            Stored::JsonDialogV2(snapshot) => dialog::json::JsonDialog::restore(snapshot, now)
                .map(|core| AnyCore::JsonDialog(Box::new(core))),
            Stored::MediaLegV1(snapshot) => media_leg::MediaLeg::restore(snapshot.into(), now)
                .map(|core| AnyCore::MediaLeg(Box::new(core))),
            Stored::MediaLegV2(snapshot) => media_leg::MediaLeg::restore(snapshot, now)
                .map(|core| AnyCore::MediaLeg(Box::new(core))),
            Stored::ParkingV1(snapshot) => parking::Parking::restore(snapshot, now)
                .map(|core| AnyCore::Parking(Box::new(core))),
        }
    }

    fn merge(id: &ActorId, copies: &[Bytes], now: Now) -> Bytes {
        let merged = if let ActorId::Registration(aor) = id {
            merge_registration(aor, copies, now)
        } else {
            None
        };
        merged
            .or_else(|| copies.first().cloned())
            .unwrap_or_default()
    }

    fn follows_the_end(message: &Message) -> bool {
        matches!(message, Message::Call(call::Message::Bequest { .. }))
    }

    fn bequeath(id: &ActorId, copies: &Rivals<'_>, now: Now) -> Option<Message> {
        let copy = copies.former.get(id)?;
        match id.kind() {
            Kind::Registration => {
                let newer = copies.newer.and_then(|newer| newer.get(id));
                let both = newer.map(|newer| [newer.clone(), copy.clone()]);
                let is_known = both.is_some_and(|both| {
                    Self::merge(id, &both, now) == Self::merge(id, &both[..1], now)
                });
                let copy = copy.clone();
                (!is_known).then(|| registration::Message::Merge { copy }.into())
            }
            Kind::Call => bequest::of_call(id, copies).map(Into::into),
            Kind::Dialog
            | Kind::MediaLeg
            | Kind::Gateway
            | Kind::Flow
            | Kind::DoorSession
            | Kind::Lane
            | Kind::Console
            | Kind::Member
            | Kind::Parking => None,
        }
    }

    fn handle(&mut self, event: Event<Message, ()>, ctx: &mut Ctx<'_, Message, Site>) {
        match self {
            AnyCore::Registration(core) => drive(core.as_mut(), event, ctx, own!(Registration)),
            AnyCore::Call(core) => drive(core.as_mut(), event, ctx, own!(Call)),
            AnyCore::Dialog(core) => drive(core.as_mut(), event, ctx, own!(Dialog)),
            AnyCore::JsonDialog(core) => drive(core.as_mut(), event, ctx, own!(Dialog)),
            AnyCore::MediaLeg(core) => drive(core.as_mut(), event, ctx, own!(MediaLeg)),
            AnyCore::Flow(core) => drive(core.as_mut(), event, ctx, own!(Flow)),
            AnyCore::DoorSession(core) => drive(core.as_mut(), event, ctx, own!(DoorSession)),
            AnyCore::Lane(core) => drive(core.as_mut(), event, ctx, own!(Lane)),
            AnyCore::Console(core) => drive(core.as_mut(), event, ctx, own!(Console)),
            AnyCore::Member(core) => drive(core.as_mut(), event, ctx, own!(Member)),
            AnyCore::Parking(core) => drive(core.as_mut(), event, ctx, own!(Parking)),
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        with_core!(self, core => core.next_deadline().map(|(at, _)| at))
    }

    fn snapshot(&self, now: Now, schema: SchemaVersion) -> Vec<u8> {
        let stored = match self {
            AnyCore::Registration(core) => Stored::of_registration(core.snapshot(now)),
            AnyCore::Call(core) if schema >= CALL_V3 => {
                let oldest = core.snapshot(now).oldest();
                oldest.map_or_else(|later| Stored::CallV4(*later), Stored::CallV3)
            }
            AnyCore::Call(core) => {
                let former = core.snapshot(now).into_schema_1();
                former.map_or_else(|second| Stored::CallV2(*second), Stored::CallV1)
            }
            AnyCore::Dialog(core) => Stored::of_dialog(core.snapshot(now)),
            AnyCore::JsonDialog(core) => Stored::of_json_dialog(core.snapshot(now)),
            AnyCore::MediaLeg(core) => Stored::of_leg(core.snapshot(now)),
            AnyCore::Parking(core) => Stored::ParkingV1(core.snapshot(now)),
            AnyCore::Flow(_)
            | AnyCore::DoorSession(_)
            | AnyCore::Lane(_)
            | AnyCore::Console(_)
            | AnyCore::Member(_) => {
                return Vec::new();
            }
        };
        codec::encode(&stored).expect("parts are bounded well below the codec's limit")
    }

    fn view(&self, now: Now) -> serde_json::Value {
        with_core!(self, core => serde_json::to_value(core.snapshot(now)).unwrap_or_default())
    }

    fn state(&self) -> String {
        with_core!(self, core => core.state())
    }

    fn passivates_after(&self) -> Option<Duration> {
        match self {
            AnyCore::Registration(core) => core.passivates_after(),
            AnyCore::Parking(core) => core.passivates_after(),
            AnyCore::Call(_)
            | AnyCore::Dialog(_)
            | AnyCore::JsonDialog(_)
            | AnyCore::MediaLeg(_)
            | AnyCore::Flow(_)
            | AnyCore::DoorSession(_)
            | AnyCore::Lane(_)
            | AnyCore::Console(_)
            | AnyCore::Member(_) => None,
        }
    }

    fn describe(message: &Message) -> (String, usize) {
        match message {
            Message::Registration(message) => message.describe(),
            Message::Call(message) => message.describe(),
            Message::Dialog(message) => message.describe(),
            Message::MediaLeg(message) => message.describe(),
            Message::Flow(message) => message.describe(),
            Message::DoorSession(message) => message.describe(),
            Message::Lane(message) => message.describe(),
            Message::Console(message) => message.describe(),
            Message::Member(message) => message.describe(),
            Message::Parking(message) => message.describe(),
        }
    }

    fn is_new_work(message: &Message) -> bool {
        matches!(
            Self::frame_class(message),
            FrameClass::Invite | FrameClass::Register
        )
    }

    fn frame_class(message: &Message) -> FrameClass {
        if let Message::Call(call::Message::Invite(_) | call::Message::Dial(_)) = message {
            FrameClass::Invite
        } else if let Message::Registration(
            registration::Message::Register(_) | registration::Message::Bind { .. },
        ) = message
        {
            FrameClass::Register
        } else if matches!(message, Message::Member(_)) {
            FrameClass::Membership
        } else {
            FrameClass::InDialog
        }
    }

    fn encode(message: &Message, schema: SchemaVersion) -> Vec<u8> {
        wire::encode(message, schema)
    }

    fn decode(bytes: &[u8]) -> Option<Message> {
        wire::decode(bytes)
            .inspect_err(|error| {
                let cause = error as &dyn std::error::Error;
                tracing::debug!(cause, octets = bytes.len(), "a message cannot be read");
            })
            .ok()
    }
}

/// Reads a registration as it was stored; `None` if it is none.
pub(crate) fn stored_registration(copy: &Bytes) -> Option<registration::Snapshot> {
    match codec::decode(copy) {
        Ok(Stored::RegistrationV1(snapshot)) => Some(registration::Snapshot::from(snapshot)),
        Ok(Stored::RegistrationV2(snapshot)) => Some(registration::Snapshot::from(snapshot)),
        Ok(Stored::RegistrationV3(snapshot)) => Some(snapshot),
        Ok(
            Stored::CallV1(_)
            | Stored::DialogV1(_)
            | Stored::MediaLegV1(_)
            | Stored::JsonDialogV1(_)
            | Stored::JsonDialogV2(_)
            | Stored::CallV2(_)
            | Stored::MediaLegV2(_)
            | Stored::DialogV2(_)
            | Stored::CallV3(_)
            | Stored::DialogV3(_)
            | Stored::CallV4(_)
            | Stored::ParkingV1(_),
        )
        | Err(_) => None,
    }
}

/// Reads a call as it was stored; `None` if it is none.
pub(crate) fn stored_call(copy: &Bytes) -> Option<call::Snapshot> {
    match codec::decode(copy) {
        Ok(Stored::CallV1(snapshot)) => Some(call::Snapshot::from(snapshot)),
        Ok(Stored::CallV2(snapshot)) => Some(call::Snapshot::from(snapshot)),
        Ok(Stored::CallV3(snapshot)) => Some(call::Snapshot::from(snapshot)),
        Ok(Stored::CallV4(snapshot)) => Some(snapshot),
        Ok(
            Stored::RegistrationV1(_)
            | Stored::RegistrationV2(_)
            | Stored::RegistrationV3(_)
            | Stored::DialogV1(_)
            | Stored::MediaLegV1(_)
            | Stored::JsonDialogV1(_)
            | Stored::JsonDialogV2(_)
            | Stored::MediaLegV2(_)
            | Stored::DialogV2(_)
            | Stored::DialogV3(_)
            | Stored::ParkingV1(_),
        )
        | Err(_) => None,
    }
}

/// Merges the copies of a registration that can be read; `None` if there is none.
fn merge_registration(aor: &str, copies: &[Bytes], now: Now) -> Option<Bytes> {
    let read = copies.iter().filter_map(stored_registration);
    let of_aor = read.filter(|snapshot| snapshot.is_of(aor)).collect();
    let merged = registration::merge(of_aor, now.utc)?;
    let octets = codec::encode(&Stored::of_registration(merged));
    octets.ok().map(Bytes::from)
}
