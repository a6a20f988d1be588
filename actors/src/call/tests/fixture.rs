//! A call on a stage: real cores of the call, its dialogs and its legs, wired together, kept only
//! by what they stored; lanes, registrations and the media plane are what the test plays.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use contract::{
    Action, ActorId, CallKey, CallRecord, Ctx, Emitted, Entropy, Event, FlowRef, Health, LegConfig,
    ListenerId, MediaCommand, MediaEvent, NodeId, Now, Restored, Roster, SideKey, Store, Time,
    Undelivered, UtcMillis,
};
use regex::Regex;
use sip::Aor;

use crate::registration::settings::{Fault, Settings};
use crate::script::{DIGEST, datagram, site};
use crate::site::{Route, Step};
use crate::{AnyCore, Inbound, Message, Site, Target, TransactionRef};
use crate::{call, console, dialog, lane, registration};

/// What went to a lane.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub by: ActorId,
    pub flow: FlowRef,
    pub what: Kind,
    pub message: sip::Message,
    pub is_urgent: bool,
    /// The gate was shut before it, in the same event.
    pub is_gated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Response,
    Request,
    Ack,
    Challenge,
}

/// A stage for one call.
pub(super) struct World {
    pub site: Site,
    pub now: Now,
    pub health: Health,
    pub cores: BTreeMap<ActorId, AnyCore>,
    pub stored: BTreeMap<ActorId, Vec<u8>>,
    pub is_tombstone: bool,
    pub sent: Vec<Sent>,
    pub media: Vec<MediaCommand>,
    /// What JSON clients were sent, by the number of their connection.
    pub frames: Vec<(u64, serde_json::Value)>,
    /// The caller is a JSON client.
    pub is_json: bool,
    pub emitted: Vec<Emitted>,
    pub targets: Vec<Target>,
    /// Where some users are, in place of `targets`.
    pub homes: BTreeMap<Aor, Vec<Target>>,
    /// Registrations of these are known.
    pub registered: Vec<Aor>,
    /// What some of them have set.
    pub settings: BTreeMap<Aor, Settings>,
    /// The calls that those may be in who want none beside another.
    pub engaged: Vec<CallKey>,
    /// What registrations were told of the calls of their users.
    pub in_calls: Vec<(ActorId, CallKey, bool)>,
    /// Calls that have looked for some of them.
    pub callers: BTreeMap<Aor, Vec<contract::CallKey>>,
    /// Registrations set questions aside: no answer ever comes.
    pub is_deaf: bool,
    /// Messages that kill their receiver twice: they are set aside.
    pub kills: fn(&Message) -> bool,
    /// How many questions registrations have no time for.
    pub busy: usize,
    pub next_port: u16,
    /// The media plane has no port left.
    pub is_full: bool,
    /// Events that were handled.
    pub events: usize,
    /// The node is killed and started again after each of these events.
    pub kills_after: Option<usize>,
    /// What consoles were told of their orders.
    pub steered: Vec<(String, Result<(), Fault>)>,
    /// There is another call, on a stage of its own.
    pub has_other: bool,
    /// Places where calls are parked are on this stage, not on that of the other call.
    pub has_places: bool,
    /// What it is told, by whom.
    pub abroad: Vec<(ActorId, ActorId, Message)>,
    /// What is killed is taken over by the next node, in place of a new start.
    pub has_heirs: bool,
    queue: VecDeque<(ActorId, Event<Message, ()>)>,
    entropies: BTreeMap<ActorId, Entropy>,
    chance: [u8; 32],
    lives: u32,
}

pub(super) const A: &str = "192.0.2.10:5062";
pub(super) const B: &str = "192.0.2.20:5064";
pub(super) const C: &str = "192.0.2.30:5066";

pub(super) const SDP_A: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\n\
    t=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";
pub(super) const SDP_B: &str = "v=0\r\no=- 2 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\n\
    t=0 0\r\nm=audio 41000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";
pub(super) const SDP_C: &str = "v=0\r\no=- 3 1 IN IP4 192.0.2.30\r\ns=-\r\nc=IN IP4 192.0.2.30\r\n\
    t=0 0\r\nm=audio 42000 RTP/AVP 0\r\n";

pub(super) fn flow_of(peer: &str) -> FlowRef {
    datagram(DIGEST, peer)
}

/// What a registration answers to a call, or to a dialog.
fn located(
    reply: &ActorId,
    known: &Aor,
    targets: Vec<Target>,
    set: Option<&Settings>,
    engaged: &[CallKey],
) -> Message {
    if matches!(reply, ActorId::Dialog(_)) {
        return dialog::Message::Located { targets }.into();
    }
    let aor = known.clone();
    match set.cloned().map(Box::new) {
        Some(settings) => call::Message::LocatedAs {
            aor,
            targets,
            settings,
            engaged: engaged.to_vec(),
        }
        .into(),
        None => call::Message::Located { aor, targets }.into(),
    }
}

pub(super) fn aor(text: &str) -> Aor {
    text.parse().expect("an address of record")
}

fn route(name: &str, pattern: &str, steps: Vec<Step>, bypass: bool) -> Route {
    Route {
        name: name.to_owned(),
        profile: None,
        destination: Regex::new(pattern).expect("a pattern"),
        hours: None,
        steps,
        bypass,
    }
}

/// Listener of browsers on the test site.
pub(super) const WEB: ListenerId = ListenerId(3);

fn test_site() -> Site {
    let mut site = site();
    let mut web = site.listeners[0].clone();
    web.transport = rsip::Transport::Ws;
    site.listeners.push(web);
    let bridge = |target: &str| Step::Bridge {
        target: target.to_owned(),
    };
    site.limits.codecs = ["pcmu", "pcma"].map(str::to_owned).to_vec();
    site.limits.ring_timeout = Duration::from_secs(30);
    site.domains[0].routes = vec![
        route("echo", "^9196$", vec![Step::Answer, Step::Echo], false),
        route(
            "tone",
            "^9197$",
            vec![Step::Tone {
                hertz: 1004,
                level_dbm0: -16,
            }],
            false,
        ),
        route(
            "busy",
            "^9000$",
            vec![
                Step::Log {
                    text: "busy".to_owned(),
                },
                Step::Hangup {
                    cause: "USER_BUSY".to_owned(),
                },
            ],
            false,
        ),
        route(
            "first",
            "^8(1...)$",
            vec![Step::Answer, bridge("user/$1")],
            false,
        ),
        route("bypass", "^7(1...)$", vec![bridge("user/$1")], true),
        route("local", "^(1...)$", vec![bridge("user/$1")], false),
    ];
    site
}

impl World {
    pub fn new() -> Self {
        World {
            site: test_site(),
            now: Now {
                mono: Time::from_micros(5_000_000),
                utc: UtcMillis(1_700_000_000_000),
            },
            health: Health::default(),
            cores: BTreeMap::new(),
            stored: BTreeMap::new(),
            is_tombstone: false,
            sent: Vec::new(),
            media: Vec::new(),
            frames: Vec::new(),
            is_json: false,
            emitted: Vec::new(),
            targets: vec![target(B, 1000)],
            homes: BTreeMap::new(),
            callers: BTreeMap::new(),
            registered: vec![aor("1001@example.org")],
            settings: BTreeMap::new(),
            engaged: Vec::new(),
            in_calls: Vec::new(),
            next_port: 20_000,
            is_deaf: false,
            kills: |_| false,
            busy: 0,
            is_full: false,
            events: 0,
            kills_after: None,
            steered: Vec::new(),
            has_other: false,
            has_places: true,
            abroad: Vec::new(),
            has_heirs: false,
            queue: VecDeque::new(),
            entropies: BTreeMap::new(),
            chance: [3; 32],
            lives: 0,
        }
    }

    /// Returns where a user is: one whose number ends in 9 is nowhere.
    fn ways(&self, aor: &Aor) -> Vec<Target> {
        match self.homes.get(aor) {
            Some(targets) => targets.clone(),
            None if aor.user().ends_with('9') => Vec::new(),
            None => self.targets.clone(),
        }
    }

    pub fn call_id(&self) -> ActorId {
        if self.is_json {
            return self.json_call();
        }
        ActorId::Call(self.site.ids.call_key("call-1", "a1", "z9hG4bKinvite"))
    }

    pub fn side(&self, number: u8) -> SideKey {
        self.call_id().call().expect("a call").side(number)
    }

    pub fn dialog(&self, number: u8) -> ActorId {
        ActorId::Dialog(self.side(number))
    }

    pub fn leg(&self, number: u8) -> ActorId {
        ActorId::MediaLeg(self.side(number))
    }

    /// Other chances are drawn.
    pub fn draws_from(&mut self, seed: u16) {
        let [high, low] = seed.to_be_bytes();
        self.chance = [high, low].repeat(16).try_into().expect("32 octets");
    }

    /// Gives one event and all that follows from it.
    pub fn give(&mut self, to: ActorId, event: Event<Message, ()>) {
        self.queue.push_back((to, event));
        self.run();
    }

    pub fn tell(&mut self, to: ActorId, message: impl Into<Message>) {
        let from = ActorId::Lane(self.site.node, 0);
        self.give(
            to,
            Event::Message {
                from,
                message: message.into(),
            },
        );
    }

    fn run(&mut self) {
        let mut steps = 0;
        while let Some((to, event)) = self.queue.pop_front() {
            steps += 1;
            assert!(steps < 10_000, "events without end");
            self.handle(&to, event);
            self.events += 1;
            if self
                .kills_after
                .is_some_and(|every| self.events.is_multiple_of(every))
            {
                self.kill();
            }
        }
    }

    fn kill(&mut self) {
        if self.has_heirs {
            self.inherit(self.site.node.0 + 1);
        } else {
            self.restart();
        }
    }

    fn handle(&mut self, to: &ActorId, event: Event<Message, ()>) {
        if !self.cores.contains_key(to) {
            let Event::Message { from, message } = event else {
                return;
            };
            let is_late = self.is_tombstone && to.call().is_some();
            let may_start = !is_late || AnyCore::follows_the_end(&message);
            let created = AnyCore::create(to, &message, &self.site).filter(|_| may_start);
            let Some(core) = created else {
                let why = Undelivered::Absent;
                let back = Event::Undelivered {
                    to: to.clone(),
                    message,
                    why,
                };
                return self.queue.push_back((from, back));
            };
            self.cores.insert(to.clone(), core);
            return self.handle(to, Event::Message { from, message });
        }
        let actions = self.events_of(to, event);
        self.perform(to, actions);
    }

    fn events_of(&mut self, to: &ActorId, event: Event<Message, ()>) -> Vec<Action<Message>> {
        let (lives, label, chance) = (self.lives, to.to_string(), self.chance);
        let entropy = self
            .entropies
            .entry(to.clone())
            .or_insert_with(|| Entropy::from_seed(chance).split(&format!("{label}/{lives}")));
        let mut actions = Vec::new();
        let mut ctx = Ctx::new(self.now, to, self.health, &self.site, entropy, &mut actions);
        self.cores
            .get_mut(to)
            .expect("it is there")
            .handle(event, &mut ctx);
        actions
    }

    fn perform(&mut self, by: &ActorId, actions: Vec<Action<Message>>) {
        let mut is_gated = false;
        for action in actions {
            match action {
                Action::Tell {
                    to,
                    message,
                    urgent,
                } => {
                    self.deliver(by, to, message, urgent, is_gated);
                }
                Action::Spawn { id, first } => {
                    let from = by.clone();
                    self.queue.push_back((
                        id,
                        Event::Message {
                            from,
                            message: first,
                        },
                    ));
                }
                Action::Stop { id } => {
                    self.cores.remove(&id);
                    self.stored.remove(&id);
                }
                Action::Store(Store::Put { gate }) => {
                    is_gated |= gate;
                    let bytes = self.cores[by].snapshot(self.now, self.health.schema);
                    self.stored.insert(by.clone(), bytes);
                }
                Action::Store(Store::End { .. }) if by.call().is_none() => {
                    self.stored.remove(by);
                }
                Action::Store(Store::End { gate, .. }) => {
                    assert!(gate, "the call record waits for the tombstone");
                    assert!(!self.is_tombstone, "one tombstone");
                    self.is_tombstone = true;
                    self.stored.retain(|id, _| id.call().is_none());
                }
                Action::Adopt { parts } => {
                    let parts = parts.into_iter();
                    self.stored = parts.map(|(id, part)| (id, part.to_vec())).collect();
                    self.queue.clear();
                    self.is_tombstone = false;
                    return self.revive(Restored::Adopted { epoch: 3 });
                }
                Action::Media(command) => self.play_media(by, command),
                Action::Send { bytes, .. } => {
                    let ActorId::DoorSession(_, number) = by else {
                        panic!("only sessions write by themselves");
                    };
                    let frame = serde_json::from_slice(&bytes).expect("JSON");
                    self.frames.push((*number, frame));
                }
                Action::Close { .. } => {
                    let why = "closed by us".to_owned();
                    self.queue.push_back((by.clone(), Event::Closed { why }));
                }
                Action::Emit(emitted) => {
                    let is_end = matches!(emitted, Emitted::CallEnded(_));
                    assert!(!is_end || self.is_tombstone, "the tombstone is first");
                    self.emitted.push(emitted);
                }
                other => panic!("not for a call: {other:?}"),
            }
        }
    }

    fn deliver(&mut self, by: &ActorId, to: ActorId, message: Message, urgent: bool, gated: bool) {
        if (self.kills)(&message) {
            return;
        }
        if let Message::Registration(registration::Message::InCall { call, is_in }) = &message {
            self.in_calls.push((to.clone(), *call, *is_in));
        }
        match message {
            Message::Lane(message) => self.note(by, message, urgent, gated),
            Message::Console(console::Message::Steered { echo, result }) => {
                self.steered.push((echo, result));
            }
            Message::Registration(registration::Message::Locate { .. }) if self.is_deaf => {}
            Message::Registration(
                message @ (registration::Message::Locate { .. }
                | registration::Message::WhoCalls { .. }),
            ) if self.busy > 0 => {
                self.busy -= 1;
                let (message, why) = (message.into(), Undelivered::Busy);
                let back = Event::Undelivered { to, message, why };
                self.queue.push_back((by.clone(), back));
            }
            Message::Registration(registration::Message::Locate { reply })
                if !self.cores.contains_key(&to) =>
            {
                let event = match self
                    .registered
                    .iter()
                    .find(|known| to == ActorId::Registration(known.as_str().into()))
                {
                    Some(known) => Event::Message {
                        from: to,
                        message: located(
                            &reply,
                            known,
                            self.ways(known),
                            self.settings.get(known),
                            &self.engaged,
                        ),
                    },
                    None => {
                        let message = registration::Message::Locate {
                            reply: reply.clone(),
                        };
                        let why = Undelivered::Absent;
                        Event::Undelivered {
                            to,
                            message: message.into(),
                            why,
                        }
                    }
                };
                self.queue.push_back((reply, event));
            }
            Message::Registration(registration::Message::WhoCalls { .. }) if self.is_deaf => {}
            Message::Registration(registration::Message::WhoCalls { reply })
                if self.registered_at(&to).is_some() =>
            {
                let aor = self.registered_at(&to).expect("it is").clone();
                let calls = self.callers.get(&aor).cloned().unwrap_or_default();
                let ages = (1..=calls.len())
                    .rev()
                    .map(|age| 1_000 * u32::try_from(age).expect("few"));
                let calls = calls.into_iter().zip(ages).collect();
                let message = call::Message::WhoCalls { aor, calls }.into();
                self.queue
                    .push_back((reply, Event::Message { from: to, message }));
            }
            message
                if self.has_other && to.call().is_some() && to.call() != self.call_id().call() =>
            {
                self.abroad.push((by.clone(), to, message));
            }
            message if !self.has_places && matches!(to, ActorId::Parking(_)) => {
                self.abroad.push((by.clone(), to, message));
            }
            message => {
                let from = by.clone();
                self.queue.push_back((to, Event::Message { from, message }));
            }
        }
    }

    fn registered_at(&self, id: &ActorId) -> Option<&Aor> {
        let mut known = self.registered.iter();
        known.find(|known| *id == ActorId::Registration(known.as_str().into()))
    }

    fn note(&mut self, by: &ActorId, message: lane::Message, is_urgent: bool, is_gated: bool) {
        let read = |bytes: Bytes| sip::Message::read(bytes).expect("we write what can be read");
        let (flow, what, message) = match message {
            lane::Message::Respond { flow, response, .. } => (flow, Kind::Response, read(response)),
            lane::Message::Request { flow, request, .. } => (flow, Kind::Request, read(request)),
            lane::Message::SendAck { flow, request } => (flow, Kind::Ack, read(request)),
            lane::Message::Challenge { flow, request, .. } => (flow, Kind::Challenge, request),
            other => panic!("not of a user: {other:?}"),
        };
        let by = by.clone();
        self.sent.push(Sent {
            by,
            flow,
            what,
            message,
            is_urgent,
            is_gated,
        });
    }

    fn play_media(&mut self, by: &ActorId, command: MediaCommand) {
        if let MediaCommand::Open { port, address, .. } = &command {
            let event = if self.is_full {
                MediaEvent::Failed {
                    why: "none free".to_owned(),
                }
            } else {
                self.next_port += 2;
                let port = port.unwrap_or(self.next_port);
                MediaEvent::Opened {
                    rtp: (*address, port).into(),
                }
            };
            self.queue.push_back((by.clone(), Event::Media(event)));
        }
        self.media.push(command);
    }

    /// Kills the node: what was stored is all there is; then every part is restored.
    pub fn restart(&mut self) {
        self.queue.clear();
        self.revive(Restored::NodeStart);
    }

    /// Kills the node; another one, which has other addresses, takes the call over.
    pub fn take_over(&mut self, node: u16) {
        self.inherit(node);
        // What forks say to it comes first.
        self.pass(Duration::from_millis(50));
    }

    pub fn inherit(&mut self, node: u16) {
        self.queue.clear();
        self.move_to(node);
        self.revive(Restored::TakenOver {
            may_live: false,
            epoch: 2,
        });
    }

    fn move_to(&mut self, node: u16) {
        self.site.node = NodeId(node);
        let address = IpAddr::from([192, 0, 2, u8::try_from(node).expect("a small number")]);
        for listener in &mut self.site.listeners {
            listener.local.set_ip(address);
            listener.advertise.set_ip(address);
            listener.rtp_local = address;
            listener.rtp_advertise = address;
        }
    }

    /// Another node takes the call over as it was `then`, since it cannot hear this one.
    pub fn be_cut_off(&mut self, node: u16, then: BTreeMap<ActorId, Vec<u8>>) {
        self.queue.clear();
        self.stored = then;
        self.move_to(node);
        self.revive(Restored::TakenOver {
            may_live: true,
            epoch: 2,
        });
    }

    /// Kills the node; another one takes the call over, and its addresses.
    pub fn come_along(&mut self, node: u16) {
        self.queue.clear();
        self.site.node = NodeId(node);
        self.revive(Restored::TakenOver {
            may_live: false,
            epoch: 2,
        });
        self.pass(Duration::from_millis(50));
    }

    /// Panics one actor: the others, and what is on its way, stay.
    pub fn panic(&mut self, id: &ActorId) {
        let Some(bytes) = self.stored.get(id).cloned() else {
            return;
        };
        self.cores.insert(
            id.clone(),
            AnyCore::restore(id, &bytes, self.now).expect("a snapshot"),
        );
        self.queue
            .push_back((id.clone(), Event::Restored(Restored::Panic)));
        self.run();
    }

    fn revive(&mut self, why: Restored) {
        self.lives += 1;
        self.entropies.clear();
        self.cores.clear();
        for (id, bytes) in self.stored.clone() {
            let core = AnyCore::restore(&id, &bytes, self.now).expect("a snapshot");
            self.cores.insert(id.clone(), core);
            self.queue.push_back((id, Event::Restored(why)));
        }
        let kills = self.kills_after.take();
        self.run();
        self.kills_after = kills;
    }

    /// Lets time pass; deadlines fire in their order.
    pub fn pass(&mut self, length: Duration) {
        let end = self.now.mono + length;
        for _ in 0..10_000 {
            let due = self
                .cores
                .iter()
                .filter_map(|(id, core)| core.next_deadline().map(|at| (at, id.clone())))
                .min();
            match due {
                Some((at, id)) if at <= end => {
                    self.set(at.max(self.now.mono));
                    self.give(id, Event::Timer(()));
                }
                _ => return self.set(end),
            }
        }
        panic!("a deadline that never moves");
    }

    fn set(&mut self, mono: Time) {
        self.now.utc = self.now.utc.after(mono.since(self.now.mono));
        self.now.mono = mono;
    }

    /// Returns the last message of a method or status sent to a peer.
    pub fn last(&self, peer: &str, what: &str) -> Sent {
        let found = self.sent.iter().rev().find(|sent| {
            sent.flow.remote() == peer.parse().expect("an address") && is_of(&sent.message, what)
        });
        let lines: Vec<String> = self.lines();
        found
            .unwrap_or_else(|| panic!("no {what} to {peer} in {lines:#?}"))
            .clone()
    }

    pub fn count(&self, peer: &str, what: &str) -> usize {
        let peer = peer.parse().expect("an address");
        let sent = self.sent.iter().filter(|sent| sent.flow.remote() == peer);
        sent.filter(|sent| is_of(&sent.message, what)).count()
    }

    pub fn lines(&self) -> Vec<String> {
        let line = |sent: &Sent| {
            format!(
                "{} {} {}",
                sent.by,
                sent.flow,
                lane::first_line(sent.message.bytes())
            )
        };
        self.sent.iter().map(line).collect()
    }

    /// Returns what the media plane was told of a leg last.
    pub fn config(&self, side: u8) -> LegConfig {
        let side = self.side(side);
        let found = self.media.iter().rev().find_map(|command| match command {
            MediaCommand::Configure { leg, config } if *leg == side => Some((**config).clone()),
            _ => None,
        });
        found.expect("a configuration")
    }

    pub fn is_closed(&self, side: u8) -> bool {
        let leg = self.side(side);
        self.media.contains(&MediaCommand::Close { leg })
    }

    pub fn records(&self) -> Vec<CallRecord> {
        let records = self.emitted.iter().filter_map(|emitted| match emitted {
            Emitted::CallEnded(record) => Some((**record).clone()),
            _ => None,
        });
        records.collect()
    }

    /// Asserts that the call is over, and returns its one record.
    pub fn record(&self) -> CallRecord {
        let records = self.records();
        assert_eq!(records.len(), 1, "one record, sent {:#?}", self.lines());
        let left: Vec<&ActorId> = self.cores.keys().filter(|id| id.call().is_some()).collect();
        assert!(left.is_empty(), "nothing is left of the call: {left:?}");
        records[0].clone()
    }

    pub fn state(&self, id: &ActorId) -> String {
        self.cores.get(id).map(Roster::state).unwrap_or_default()
    }
}

pub(super) fn is_of(message: &sip::Message, what: &str) -> bool {
    match message.status() {
        Some(status) => status.to_string() == what,
        None => message.method().as_str() == what,
    }
}

pub(super) fn target(peer: &str, q: u16) -> Target {
    Target {
        uri: format!("sip:1001@{peer}").parse().expect("a URI"),
        flow: flow_of(peer),
        path: Vec::new(),
        q,
        unreachable: false,
    }
}

/// What the peers of a call say.
impl World {
    pub fn inbound(&self, peer: &str, text: String, identity: Option<&str>) -> Inbound {
        self.inbound_on(datagram(DIGEST, peer), text, identity)
    }

    pub fn inbound_on(&self, flow: FlowRef, text: String, identity: Option<&str>) -> Inbound {
        let request = sip::Message::read(Bytes::from(text)).expect("a request");
        let key = sip::transaction::Key::of_request(&request).expect("a key");
        let transaction = TransactionRef {
            node: Some(NodeId(1)),
            lane: 2,
            key,
        };
        Inbound {
            transaction,
            flow,
            request,
            identity: identity.map(aor),
        }
    }

    /// The caller's INVITE.
    pub fn invite_text(dialled: &str, sdp: &str, fields: &str) -> String {
        let content = if sdp.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        format!(
            "INVITE sip:{dialled}@example.org SIP/2.0\r\n\
             Via: SIP/2.0/UDP {A};branch=z9hG4bKinvite\r\nMax-Forwards: 70\r\n\
             From: \"Mallory\" <sip:1000@example.org>;tag=a1\r\nTo: <sip:{dialled}@example.org>\r\n\
             Call-ID: call-1\r\nCSeq: 10 INVITE\r\nContact: <sip:1000@{A}>\r\n\
             P-Asserted-Identity: <sip:9@evil.example>\r\n{fields}{content}\
             Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    }

    pub fn call(&mut self, dialled: &str, sdp: &str) {
        let text = Self::invite_text(dialled, sdp, "");
        let inbound = self.inbound(A, text, Some("1000@example.org"));
        let id = self.call_id();
        self.tell(id, call::Message::Invite(inbound));
    }

    pub fn cancel(&mut self, peer: &str) {
        let text = format!(
            "CANCEL sip:1001@example.org SIP/2.0\r\n\
             Via: SIP/2.0/UDP {A};branch=z9hG4bKinvite\r\nMax-Forwards: 70\r\n\
             From: <sip:1000@example.org>;tag=a1\r\nTo: <sip:1001@example.org>\r\n\
             Call-ID: call-1\r\nCSeq: 10 CANCEL\r\nContent-Length: 0\r\n\r\n"
        );
        let inbound = self.inbound(peer, text, None);
        let id = self.call_id();
        self.tell(id, call::Message::Cancel(inbound));
    }

    /// A peer answers the last request of ours of a method.
    pub fn answer(&mut self, peer: &str, method: &str, status: u16, sdp: &str) {
        let request = self.last(peer, method);
        self.answer_to(&request, status, "b1", sdp);
    }

    pub fn answer_to(&mut self, request: &Sent, status: u16, tag: &str, sdp: &str) {
        let peer = request.flow.remote();
        let mut writer = sip::respond(&request.message, status, Some(tag));
        writer.header(sip::HeaderName::Contact, format_args!("<sip:1001@{peer}>"));
        if !sdp.is_empty() {
            writer.body("application/sdp", sdp.as_bytes());
        }
        let response = sip::Message::read(writer.finish().expect("a response")).expect("readable");
        let message = dialog::Message::Response {
            response,
            flow: request.flow,
        };
        self.tell(request.by.clone(), message);
    }

    /// A peer sends a request in its dialog; `number` is the side it is the peer of.
    pub fn request(&mut self, number: u8, peer: &str, method: &str, cseq: u32, sdp: &str) {
        let text = self.request_text(number, method, cseq, sdp, "");
        let inbound = self.inbound(peer, text, None);
        let id = self.dialog(number);
        self.tell(id, dialog::Message::Request(inbound));
    }

    pub fn request_text(
        &self,
        number: u8,
        method: &str,
        cseq: u32,
        body: &str,
        fields: &str,
    ) -> String {
        let (from, to, call_id, contact) = self.tags(number);
        let is_sdp = !body.is_empty() && !fields.contains("Content-Type");
        let content = if is_sdp {
            "Content-Type: application/sdp\r\n"
        } else {
            ""
        };
        format!(
            "{method} sip:weft@192.0.2.1:5060 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.99:5999;branch=z9hG4bK{number}{method}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: {contact}\r\n{fields}{content}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// From, To, Call-ID and Contact of a peer's requests, from what it was sent.
    pub fn tags(&self, number: u8) -> (String, String, String, String) {
        let by = self.dialog(number);
        if number == 1 {
            let sent = self.sent.iter().rev().find(|sent| {
                sent.by == by
                    && sent.message.to().is_ok_and(|to| to.tag().is_some())
                    && sent.what == Kind::Response
            });
            let sent = sent.expect("a response with a tag");
            let to = sent
                .message
                .header(sip::HeaderName::To)
                .expect("To")
                .to_owned();
            let from = "<sip:1000@example.org>;tag=a1".to_owned();
            return (from, to, "call-1".to_owned(), format!("<sip:1000@{A}>"));
        }
        let sent = self
            .sent
            .iter()
            .find(|sent| sent.by == by && sent.message.method().is(rsip::Method::Invite));
        let invite = &sent.expect("an INVITE").message;
        let field = |name| invite.header(name).expect("a field").to_owned();
        let from = format!("{};tag=b1", field(sip::HeaderName::To));
        let contact = format!("<sip:1001@{B}>");
        (
            from,
            field(sip::HeaderName::From),
            field(sip::HeaderName::CallId),
            contact,
        )
    }

    pub fn ack(&mut self, sdp: &str) {
        self.request(1, A, "ACK", 10, sdp);
    }

    /// A call that is up: 1000 and 1001 talk.
    pub fn connected() -> Self {
        let mut world = World::new();
        world.connect();
        world
    }

    pub fn connect(&mut self) {
        self.call("1001", SDP_A);
        self.answer(B, "INVITE", 180, "");
        self.answer(B, "INVITE", 200, SDP_B);
        self.ack("");
        assert_eq!(
            self.state(&self.call_id()),
            "talking",
            "{:#?}",
            self.lines()
        );
    }
}

/// Media event of a leg.
pub(super) fn silence() -> Event<Message, ()> {
    Event::Media(MediaEvent::Timeout)
}
