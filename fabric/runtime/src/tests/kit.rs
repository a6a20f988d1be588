//! The scripted core, and what it says.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use contract::action::Store;
use contract::core::{Ctx, Event, RestoreError, Rivals, Roster};
use contract::{
    Action, ActorId, CallKey, FrameClass, Kind, Lookup, NodeId, Now, SchemaVersion, Time,
    UtcMillis, codec,
};
use serde::{Deserialize, Deserializer, Serialize};

/// A text of a test. The alias keeps serde from wanting to borrow it.
pub(super) type Label = &'static str;

/// Reads a text of a test: it lives as long as the test's process.
fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Label, D::Error> {
    String::deserialize(deserializer).map(|text| &*text.leak())
}

/// What is said to a core.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Say {
    /// Take these steps.
    Do(Vec<Step>),
    /// Nothing that makes a core; only noted. The number is its weight.
    Note(#[serde(deserialize_with = "label")] Label, usize),
}

/// What a core does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Step {
    /// Adds to its number.
    Add(i64),
    /// Records itself.
    Store {
        gate: bool,
    },
    /// Ends its record; the tombstone is kept for a minute.
    End {
        gate: bool,
    },
    /// Has an effect that the world can see.
    Out(u64),
    Tell(ActorId, Box<Say>),
    TellUrgent(ActorId, Box<Say>),
    Spawn(ActorId, Box<Say>),
    Stop(ActorId),
    /// Panics as long as the site has bombs.
    Bomb,
    /// Sets a deadline so many milliseconds from now; it fires with `Out` of that number.
    Deadline(u64),
    /// Leaves deadlines set from now on.
    BeStubborn,
    LookUp(u64, ActorId),
    /// Panics, also when restored, as long as the site has bombs.
    BeCursed,
    /// Goes on as a copy with these numbers in its parts.
    Adopt(Vec<(ActorId, i64)>),
}

/// What cores share with the test.
#[derive(Debug, Default)]
pub(super) struct Site {
    pub(super) log: Mutex<Vec<String>>,
    pub(super) bombs: Mutex<u32>,
    pub(super) answers: Mutex<Vec<contract::Answer>>,
}

impl Site {
    pub(super) fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    fn explode(&self) {
        let mut bombs = self.bombs.lock().unwrap();
        if *bombs > 0 {
            *bombs -= 1;
            drop(bombs);
            panic!("on order");
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counter {
    kind: Option<Kind>,
    number: i64,
    deadlines: Vec<Time>,
    is_stubborn: bool,
    is_cursed: bool,
}

type Stored = (i64, Vec<u64>, bool);

impl Counter {
    fn take(&mut self, step: Step, ctx: &mut Ctx<'_, Say, Site>) {
        match step {
            Step::Add(by) => self.number += by,
            Step::Store { gate } => ctx.act(Action::Store(Store::Put { gate })),
            Step::End { gate } => ctx.act(Action::Store(Store::End {
                gate,
                keep: Duration::from_secs(60),
            })),
            Step::Out(number) => ctx.act(out(number)),
            Step::Tell(to, message) => ctx.tell(to, *message),
            Step::TellUrgent(to, message) => ctx.act(Action::Tell {
                to,
                message: *message,
                urgent: true,
            }),
            Step::Spawn(id, first) => ctx.act(Action::Spawn { id, first: *first }),
            Step::Stop(id) => ctx.act(Action::Stop { id }),
            Step::Bomb => ctx.site().explode(),
            Step::Deadline(ms) => {
                let at = ctx.now().mono + Duration::from_millis(ms);
                self.deadlines.push(at);
                self.deadlines.sort();
            }
            Step::BeStubborn => self.is_stubborn = true,
            Step::LookUp(token, id) => ctx.look_up(token, Lookup::Actor { id }),
            Step::BeCursed => self.is_cursed = true,
            Step::Adopt(copy) => {
                let part = |number| {
                    let stored: Stored = (number, Vec::new(), false);
                    Bytes::from(codec::encode(&stored).unwrap())
                };
                let parts = copy.into_iter().map(|(id, number)| (id, part(number)));
                ctx.act(Action::Adopt {
                    parts: parts.collect(),
                });
            }
        }
    }
}

fn out(ticket: u64) -> Action<Say> {
    Action::Http {
        ticket,
        status: 200,
        body: Bytes::new(),
    }
}

impl Roster for Counter {
    type Message = Say;
    type Site = Site;

    fn create(id: &ActorId, first: &Say, _: &Site) -> Option<Self> {
        matches!(first, Say::Do(_)).then(|| Counter {
            kind: Some(id.kind()),
            ..Counter::default()
        })
    }

    fn create_system(_: &ActorId, _: &Site) -> Option<Self> {
        Some(Counter::default())
    }

    fn restore(id: &ActorId, bytes: &[u8], now: Now) -> Result<Self, RestoreError> {
        let stored: Stored = codec::decode(bytes).map_err(|error| RestoreError {
            what: "counter",
            why: error.to_string(),
        })?;
        let left = |at: &u64| now.mono + Duration::from_millis(at.saturating_sub(now.utc.0));
        Ok(Counter {
            kind: Some(id.kind()),
            number: stored.0,
            deadlines: stored.1.iter().map(left).collect(),
            is_cursed: stored.2,
            is_stubborn: false,
        })
    }

    fn merge(_: &ActorId, copies: &[Bytes], _: Now) -> Bytes {
        copies.first().cloned().unwrap_or_default()
    }

    fn follows_the_end(message: &Say) -> bool {
        matches!(message, Say::Do(steps) if matches!(steps.first(), Some(Step::Adopt(_))))
    }

    fn bequeath(_: &ActorId, _: &Rivals<'_>, _: Now) -> Option<Say> {
        None
    }

    fn handle(&mut self, event: Event<Say, ()>, ctx: &mut Ctx<'_, Say, Site>) {
        let me = ctx.me().clone();
        let note = |what: String| ctx.site().note(format!("{} {what}", name(&me)));
        match event {
            Event::Message { message, .. } => match message {
                Say::Do(steps) => {
                    note("do".to_owned());
                    for step in steps {
                        self.take(step, ctx);
                    }
                }
                Say::Note(text, _) => note(text.to_owned()),
            },
            Event::Timer(()) => {
                note("timer".to_owned());
                if !self.is_stubborn {
                    let at = self.deadlines.remove(0);
                    assert!(at <= ctx.now().mono, "fired early");
                    ctx.act(out(at.as_micros() / 1_000));
                }
            }
            Event::Undelivered { to, why, .. } => note(format!("{why:?} from {}", name(&to))),
            Event::ChildLost { id } => note(format!("lost {}", name(&id))),
            Event::Restored(why) => {
                note(format!("restored {why:?} {}", self.number));
                if self.is_cursed {
                    ctx.site().explode();
                }
            }
            Event::Answer { answer, .. } => ctx.site().answers.lock().unwrap().push(answer),
            Event::Opened { .. } => note("opened".to_owned()),
            Event::Closed { .. } => note("closed".to_owned()),
            Event::Datagram { .. } | Event::Bytes(_) | Event::Media(_) => note("octets".to_owned()),
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().copied()
    }

    fn snapshot(&self, now: Now, _: SchemaVersion) -> Vec<u8> {
        let at = |at: &Time| now.utc.after(at.since(now.mono)).0;
        let stored: Stored = (
            self.number,
            self.deadlines.iter().map(at).collect(),
            self.is_cursed,
        );
        codec::encode(&stored).unwrap()
    }

    fn view(&self, _: Now) -> serde_json::Value {
        serde_json::json!({ "number": self.number })
    }

    fn state(&self) -> String {
        self.number.to_string()
    }

    fn passivates_after(&self) -> Option<Duration> {
        (self.kind == Some(Kind::Registration)).then_some(Duration::from_secs(2))
    }

    fn describe(message: &Say) -> (String, usize) {
        match message {
            Say::Do(steps) => (format!("do {} steps", steps.len()), 16),
            Say::Note(text, weight) => ((*text).to_owned(), *weight),
        }
    }

    fn is_new_work(_: &Say) -> bool {
        false
    }

    fn frame_class(_: &Say) -> FrameClass {
        FrameClass::InDialog
    }

    fn encode(message: &Say, _: SchemaVersion) -> Vec<u8> {
        codec::encode(message).unwrap()
    }

    fn decode(bytes: &[u8]) -> Option<Say> {
        codec::decode(bytes).ok()
    }
}

/// A short name for the log.
pub(super) fn name(id: &ActorId) -> String {
    match id {
        ActorId::Registration(name) => name.to_string(),
        ActorId::Call(_) => "call".to_owned(),
        ActorId::Dialog(side) => format!("dialog{}", side.number()),
        ActorId::MediaLeg(side) => format!("leg{}", side.number()),
        ActorId::Lane(_, number) => format!("lane{number}"),
        ActorId::Console(_) => "console".to_owned(),
        ActorId::Flow(_, number) | ActorId::DoorSession(_, number) => format!("flow{number}"),
        ActorId::Gateway(_) | ActorId::Parking(_) | ActorId::Member(_) => id.to_string(),
    }
}

pub(super) fn reg(name: &str) -> ActorId {
    ActorId::Registration(name.into())
}

pub(super) fn call() -> ActorId {
    ActorId::Call(key())
}

fn key() -> CallKey {
    CallKey::from_bits(0x1234_5678_9abc_def0 << 32)
}

pub(super) fn dialog(number: u8) -> ActorId {
    ActorId::Dialog(key().side(number))
}

pub(super) fn lane() -> ActorId {
    ActorId::Lane(NodeId(1), 0)
}

pub(super) fn act(steps: impl Into<Vec<Step>>) -> Say {
    Say::Do(steps.into())
}

pub(super) fn note(text: &'static str) -> Say {
    Say::Note(text, 16)
}

pub(super) const PUT: Step = Step::Store { gate: true };
pub(super) const PUT_LAZILY: Step = Step::Store { gate: false };
/// Wall clock when a world begins.
pub(super) const BEGIN: UtcMillis = UtcMillis(1_700_000_000_000);
