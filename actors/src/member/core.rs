//! The transitions of a member.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use cluster::Floating;
use cluster::membership::{Action as Gossip, Membership, NodeMeta, Proof, Roles, VersionRange};
use contract::net::GOSSIP;
use contract::{
    Action, ActorId, Answer, Core, Ctx, Deadlines, Emitted, Event, FlowRef, Lookup, MemberState,
    NodeId, Now, Peer, RestoreError, SchemaVersion, Time, Undelivered,
};

use super::addresses::neighbours;
use super::{Message, Snapshot};
use crate::{Site, lane};

/// Time after which a node that is still alone looks its seeds' hosts up again (`cluster.md` §2).
const SEEDS_AGAIN: Duration = Duration::from_secs(5);

/// This node as a member of its cluster.
#[derive(Debug)]
pub struct Member {
    membership: Option<Membership>,
    /// Addresses of seeds as far as they are known, in the order of the configuration.
    seeds: Vec<Vec<SocketAddr>>,
    /// Hosts that are still asked for.
    unresolved: usize,
    /// What it says it is doing.
    pub(super) state: MemberState,
    pub(super) timers: Deadlines<Timer>,
    /// Who has which floating address; from the first view on.
    pub(super) addresses: Option<Floating>,
    /// What owners of records could not be told, oldest first. Bound: `UNTOLD_MAX`.
    pub(super) untold: VecDeque<(ActorId, crate::Message)>,
}

/// Names of its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Looks the hosts of seeds up: at the start, and while it is alone.
    Seeds,
    /// Gossip has something to do.
    Gossip,
    /// Floating addresses are looked at.
    Addresses,
    /// Owners of records are told again what they could not be told.
    Retell,
}

pub(super) type Context<'a> = Ctx<'a, crate::Message, Site>;

impl Default for Member {
    fn default() -> Self {
        Member {
            membership: None,
            seeds: Vec::new(),
            unresolved: 0,
            state: MemberState::Up,
            timers: Deadlines::default(),
            addresses: None,
            untold: VecDeque::new(),
        }
    }
}

impl Member {
    /// Makes the member of a node that starts; its first deadline is due at once.
    #[must_use]
    pub fn new() -> Self {
        let mut member = Member::default();
        member
            .timers
            .set(Timer::Seeds, Time::default(), Duration::ZERO);
        member
    }

    /// Returns the state in a few words.
    #[must_use]
    pub fn state(&self) -> String {
        match &self.membership {
            None => "starting".to_owned(),
            Some(membership) => format!("{} nodes", membership.view().members.len()),
        }
    }

    /// Looks every seed's host up.
    fn look_up(&mut self, ctx: &mut Context<'_>) {
        let Some(cluster) = &ctx.site().cluster else {
            return ctx.ignore("this node is alone");
        };
        self.timers.set(Timer::Seeds, ctx.now().mono, SEEDS_AGAIN);
        self.unresolved = cluster.seeds.len();
        self.seeds.resize(cluster.seeds.len(), Vec::new());
        for (number, (host, _)) in (0..).zip(&cluster.seeds) {
            let name = host.clone();
            ctx.look_up(number, Lookup::Host { name });
        }
        if self.unresolved == 0 {
            self.on_seeds(ctx);
        }
    }

    fn on_host(&mut self, token: u64, answer: Answer, ctx: &mut Context<'_>) {
        let place = usize::try_from(token).unwrap_or(usize::MAX);
        let seed = ctx.site().cluster.as_ref();
        let seed = seed.and_then(|cluster| cluster.seeds.get(place));
        let (Some((host, port)), Answer::Host(found)) = (seed, answer) else {
            return ctx.ignore("not a seed's host");
        };
        match found {
            Ok(addresses) => {
                let at = addresses.into_iter().map(|ip| SocketAddr::new(ip, *port));
                if let Some(known) = self.seeds.get_mut(place) {
                    *known = at.collect();
                }
            }
            Err(why) => tracing::warn!(host, why, "a seed's host is not known"),
        }
        self.unresolved = self.unresolved.saturating_sub(1);
        if self.unresolved == 0 {
            self.on_seeds(ctx);
        }
    }

    /// All hosts are looked up: the node asks to be let in.
    fn on_seeds(&mut self, ctx: &mut Context<'_>) {
        let (site, now) = (ctx.site(), ctx.now());
        let Some(cluster) = &site.cluster else { return };
        let seeds = self.seeds.concat();
        let actions = match &mut self.membership {
            Some(membership) => membership.set_seeds(&seeds, now),
            None => {
                self.state = able(ctx);
                let meta = meta(site, self.state);
                let membership =
                    Membership::new(cluster.instance, cluster.address, meta, ctx.rng());
                self.membership.insert(membership).start(&seeds, now)
            }
        };
        self.perform(actions, ctx);
    }

    fn with(
        &mut self,
        ctx: &mut Context<'_>,
        what: impl FnOnce(&mut Membership, Now) -> Vec<Gossip>,
    ) {
        let now = ctx.now();
        let Some(membership) = &mut self.membership else {
            return ctx.ignore("it has not started");
        };
        let actions = what(membership, now);
        self.perform(actions, ctx);
    }

    fn say(&mut self, state: MemberState, ctx: &mut Context<'_>) {
        self.state = state;
        let meta = meta(ctx.site(), state);
        self.with(ctx, |it, now| it.set_meta(meta, now));
    }

    /// Says so when this node is able to take its share, or is not any more.
    fn follow_health(&mut self, ctx: &mut Context<'_>) {
        let able = able(ctx);
        let is_told = self.state == able || self.state == MemberState::Draining;
        if self.membership.is_some() && !is_told {
            self.say(able, ctx);
        }
    }

    fn perform(&mut self, actions: Vec<Gossip>, ctx: &mut Context<'_>) {
        for action in actions {
            match action {
                Gossip::Gossip { to, bytes } => ctx.send(gossip(to), bytes),
                Gossip::Greet(to) => ctx.act(Action::Connect { flow: gossip(to) }),
                Gossip::Tell { to, body } => {
                    let Some(cluster) = &ctx.site().cluster else {
                        continue;
                    };
                    let of = cluster.instance;
                    let word = Message::Word { of, body };
                    ctx.tell(ActorId::Member(to.node), word.into());
                }
                Gossip::View(view) => {
                    if view.members.len() > 1 {
                        self.timers.clear(Timer::Seeds);
                    } else {
                        self.timers.set(Timer::Seeds, ctx.now().mono, SEEDS_AGAIN);
                    }
                    let members = view.members.iter().map(for_all).collect();
                    ctx.act(Action::Emit(Emitted::View(members)));
                    let neighbours = neighbours(&view);
                    self.with_addresses(ctx, |it, now| it.view(neighbours, now));
                }
                Gossip::Down(instance, proof) => {
                    let is_proven = proof == Proof::Dead;
                    // Before its calls are up for others.
                    self.with_addresses(ctx, |it, now| it.down(instance, is_proven, now));
                    ctx.act(Action::Emit(Emitted::NodeDown {
                        instance,
                        is_proven,
                    }));
                    tell_lanes(instance.node, ctx);
                }
                Gossip::Rejoin => ctx.act(Action::Emit(Emitted::Rejoined)),
                Gossip::Superseded(by) => ctx.act(Action::Emit(Emitted::Superseded { by })),
            }
        }
        let next = self.membership.as_ref().and_then(Membership::next_deadline);
        match next {
            Some(at) => self
                .timers
                .set_at(Timer::Gossip, at, at.since(ctx.now().mono)),
            None => {
                self.timers.clear(Timer::Gossip);
            }
        }
    }

    fn on_message(&mut self, from: &ActorId, message: Message, ctx: &mut Context<'_>) {
        match message {
            Message::Connected(peer) => {
                self.with(ctx, |it, now| it.on_connected(peer, now));
                self.with_addresses(ctx, |it, _| it.met(peer.inst));
            }
            Message::Lost(peer, why) => self.with(ctx, |it, now| it.on_lost(peer, why, now)),
            Message::Word { of, body } => {
                if *from != ActorId::Member(of.node) {
                    return ctx.ignore("a word of somebody else");
                }
                self.with(ctx, |it, now| it.on_frame(of, body, now));
            }
            Message::Drain => self.say(MemberState::Draining, ctx),
            Message::Leave => {
                self.with_addresses(ctx, |it, _| it.leave());
                self.with(ctx, Membership::leave);
            }
            Message::Tenures { .. } | Message::Taken { .. } | Message::GivenBack { .. } => {
                self.on_addresses(from, message, ctx);
            }
        }
    }
}

fn gossip(remote: SocketAddr) -> FlowRef {
    FlowRef::Datagram {
        listener: GOSSIP,
        remote,
    }
}

/// A node whose store lacks records answers nobody, and owns nothing (`cluster.md` §9).
const fn able(ctx: &Context<'_>) -> MemberState {
    if ctx.health().quarantined {
        MemberState::Joining
    } else {
        MemberState::Up
    }
}

/// What this node says of itself.
fn meta(site: &Site, state: MemberState) -> NodeMeta {
    let zone = site.cluster.as_ref().map(|cluster| cluster.zone.clone());
    let schema = site
        .cluster
        .as_ref()
        .map_or(SchemaVersion::OLDEST, |it| it.schema);
    NodeMeta {
        name: site.name.clone(),
        state,
        zone: zone.unwrap_or_default(),
        roles: Roles::CALLS.with(Roles::TRUNK),
        load_permille: 0,
        proto: VersionRange::only(1),
        schema: VersionRange {
            low: SchemaVersion::OLDEST.0,
            high: schema.0,
        },
    }
}

/// Weight of a node that takes its share: all are equal as long as nobody says otherwise.
const WEIGHT: u16 = 100;

/// A member as the rest of the node sees it.
fn for_all(member: &cluster::membership::Member) -> contract::Member {
    contract::Member {
        peer: Peer {
            inst: member.inst,
            address: member.address,
        },
        name: member.meta.name.clone(),
        state: member.state,
        zone: member.meta.zone.clone(),
        weight: match member.state {
            MemberState::Up => WEIGHT,
            MemberState::Joining | MemberState::Draining => 0,
        },
        schema: SchemaVersion(member.meta.schema.high),
    }
}

/// Tells our lanes that a node is dead: what it was given to send for them is lost.
fn tell_lanes(node: NodeId, ctx: &mut Context<'_>) {
    let own = ctx.site().node;
    for number in 0..ctx.site().lanes {
        let news = lane::Message::NodeGone { node };
        ctx.tell(ActorId::Lane(own, number), news.into());
    }
}

impl Core for Member {
    type Event = Event<Message, Timer, crate::Message>;
    type Message = crate::Message;
    type Timer = Timer;
    type Snapshot = Snapshot;
    type Site = Site;

    fn handle(&mut self, event: Self::Event, ctx: &mut Context<'_>) {
        match event {
            Event::Message { from, message } => self.on_message(&from, message, ctx),
            Event::Datagram { remote, bytes, .. } => {
                self.with(ctx, |it, now| it.on_datagram(remote, &bytes, now));
            }
            Event::Timer(Timer::Seeds) => self.look_up(ctx),
            Event::Timer(Timer::Gossip) => {
                self.timers.clear(Timer::Gossip);
                self.with(ctx, Membership::on_timer);
            }
            Event::Timer(Timer::Addresses) => {
                self.timers.clear(Timer::Addresses);
                self.with_addresses(ctx, Floating::tick);
            }
            Event::Timer(Timer::Retell) => self.retell(ctx),
            Event::Answer { token, answer } => self.on_host(token, answer, ctx),
            // To actors with a record it says nothing of its own.
            Event::Undelivered {
                to,
                message,
                why: Undelivered::Busy,
            } if to.kind().is_recorded() => self.keep_untold(to, message, ctx),
            Event::Undelivered { .. } => ctx.ignore("words may be lost"),
            Event::Opened { .. }
            | Event::Bytes(_)
            | Event::Closed { .. }
            | Event::Media(_)
            | Event::ChildLost { .. }
            | Event::Restored(_) => ctx.ignore("nothing for a member"),
        }
        self.follow_health(ctx);
    }

    fn next_deadline(&self) -> Option<(Time, Timer)> {
        self.timers.next()
    }

    fn snapshot(&self, _now: Now) -> Snapshot {
        let membership = self.membership.as_ref();
        let view = membership.map(Membership::view);
        Snapshot {
            members: view
                .map(|view| view.members.iter().map(for_all).collect())
                .unwrap_or_default(),
            dropped: membership.map_or_else(String::new, |it| format!("{:?}", it.counters())),
            addresses: self
                .addresses
                .as_ref()
                .map(Floating::holders)
                .unwrap_or_default(),
        }
    }

    fn restore(_snapshot: Snapshot, _now: Now) -> Result<Self, RestoreError> {
        Err(RestoreError {
            what: "member",
            why: "a member has no record".to_owned(),
        })
    }
}
