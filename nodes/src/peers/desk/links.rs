//! The part of the desk that brings pairs of connections up and down.
//!
//! In: decisions of the desk, ends of connections. Out: `connected` and `lost` of the sink, each once;
//! routes for frames; tasks. It decides nothing about whom to connect with.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use bytes::BytesMut;
use contract::{Loss, NodeId, NodeInst, Peer};
use tokio::task::AbortHandle;

use super::{Desk, Event};
use crate::env_os::within;
use crate::peers::connection::{self, Ended, Gate, Proven, Running};
use crate::peers::entry::{Entry, Link, PATIENCE, Standing};
use crate::peers::handshake::{self, Pair};
use crate::peers::outbox::Outbox;
use crate::peers::wire::{self, Kind, Track};
use crate::peers::{CLOSE, Route};

impl Desk {
    fn tell_lost(&self, peer: Peer, why: Loss) {
        let word = match why {
            Loss::Refused => "refused",
            Loss::Silent => "silent",
            Loss::Closed => "closed",
        };
        metrics::counter!("weft_peers_lost_total", "why" => word).increment(1);
        tracing::info!(node = %peer.inst, why = word, "node lost");
        self.sink.lost(peer, why);
    }

    /// Both connections are proven: frames flow from now on.
    pub(super) fn go_up(&mut self, pair: Pair, number: u64, welcomes: bool) {
        let Pair {
            hello,
            urgent,
            bulk,
        } = pair;
        let peer = Peer {
            inst: hello.inst,
            address: hello.advertise,
        };
        let node = peer.inst.node;
        let now = self.now();
        let Some(entry) = self.entries.get_mut(&node) else {
            return;
        };
        if let Some(former) = entry.doubted.take() {
            self.tell_lost(former, Loss::Closed);
        }
        let outboxes = [Track::Urgent, Track::Bulk].map(|track| Arc::new(Outbox::new(track)));
        let gates = [(); 2].map(|()| Arc::new(Gate::open()));
        let route = Route {
            inst: peer.inst,
            urgent: Arc::clone(&outboxes[0]),
            bulk: Arc::clone(&outboxes[1]),
            view_hash: hello.view_hash,
        };
        self.routes(|routes| routes.insert(node, route));
        tracing::info!(node = %peer.inst, "node connected");
        self.sink.connected(peer, hello.reads);
        let mut tasks = Vec::with_capacity(2);
        for (at, (track, proven)) in [(Track::Urgent, urgent), (Track::Bulk, bulk)]
            .into_iter()
            .enumerate()
        {
            let running = self.running(peer.inst, track, &outboxes[at], &gates[at], welcomes);
            tasks.push(self.connect(node, number, proven, running));
        }
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.standing = Standing::Up(Link {
                number,
                peer,
                since: now,
                was_kept: entry.wanted.is_some(),
                is_closing: false,
                outboxes,
                gates,
                tasks,
            });
        }
    }

    fn running(
        &self,
        from: NodeInst,
        track: Track,
        outbox: &Arc<Outbox>,
        gate: &Arc<Gate>,
        welcomes: bool,
    ) -> Running {
        let mut first = BytesMut::new();
        if welcomes {
            wire::put(&mut first, Kind::Welcome, &[]);
        }
        Running {
            from,
            track,
            outbox: Arc::clone(outbox),
            gate: Arc::clone(gate),
            sink: Arc::clone(&self.sink),
            first,
        }
    }

    fn connect(
        &mut self,
        node: NodeId,
        number: u64,
        proven: Proven,
        running: Running,
    ) -> AbortHandle {
        self.spawn(Some((node, number)), async move {
            Event::Ended(node, number, connection::run(proven, running).await)
        })
    }

    fn routes<T>(&self, change: impl FnOnce(&mut BTreeMap<NodeId, Route>) -> T) -> T {
        let routes = &self.shared.routes;
        let mut routes = routes.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut routes);
        metrics::gauge!("weft_peers_connected").set(routes.len() as f64);
        changed
    }

    /// Takes a node's pair of connections out of use: nothing goes to it, nothing of it arrives.
    fn take_down(&mut self, node: NodeId) -> Option<Link> {
        let now = self.now();
        let is_lower = self.shared.me.node < node;
        let entry = self.entries.get_mut(&node)?;
        let link = entry.take_link()?;
        let mut from = entry.after_loss(now.since(link.since), &mut self.chance);
        if !is_lower {
            from = from.max(PATIENCE);
        }
        entry.dial_from(now + from);
        self.routes(|routes| routes.remove(&node));
        for gate in &link.gates {
            gate.shut();
        }
        Some(link)
    }

    /// Ends a pair at once; tells the loss if one is given.
    pub(super) fn end_now(&mut self, node: NodeId, loss: Option<Loss>) -> Option<Peer> {
        let link = self.take_down(node)?;
        for task in &link.tasks {
            task.abort();
        }
        if let Some(loss) = loss {
            self.tell_lost(link.peer, loss);
        }
        Some(link.peer)
    }

    /// Ends a pair after what is queued.
    pub(super) fn end_in_order(&mut self, node: NodeId) {
        if let Some(link) = self.take_down(node) {
            for outbox in &link.outboxes {
                outbox.end();
            }
            self.tell_lost(link.peer, Loss::Closed);
        }
    }

    pub(super) fn ended(&mut self, node: NodeId, number: u64, how: Ended) {
        let link = self.entries.get(&node).and_then(Entry::link);
        let Some((peer, is_closing)) = link
            .filter(|link| link.number == number)
            .map(|link| (link.peer, link.is_closing))
        else {
            return;
        };
        if is_closing {
            // However the second one ends: the peer has closed both.
            self.end_now(node, Some(Loss::Closed));
            return;
        }
        if how == Ended::Closed {
            return self.begin_closing(node);
        }
        match how {
            Ended::Silent => {
                self.end_now(node, Some(Loss::Silent));
            }
            Ended::Closed | Ended::Ours => {
                self.end_now(node, Some(Loss::Closed));
            }
            Ended::Violated(why) => {
                self.refuse(peer.address, why);
                self.end_now(node, Some(Loss::Closed));
            }
            Ended::Broken => {
                self.end_now(node, None);
                if let Some(entry) = self.entries.get_mut(&node) {
                    entry.doubted = Some(peer);
                }
                let shared = Arc::clone(&self.shared);
                self.spawn(None, async move {
                    Event::Probed(peer, handshake::probe(&shared, peer).await)
                });
            }
        }
    }

    /// The peer closes one of the two: what it had queued on the other still arrives, but nothing
    /// more goes out. The pair is lost when the other one has ended too.
    fn begin_closing(&mut self, node: NodeId) {
        if let Some(link) = self.entries.get_mut(&node).and_then(Entry::link_mut) {
            link.is_closing = true;
        }
        self.routes(|routes| routes.remove(&node));
    }

    pub(super) fn probed(&mut self, peer: Peer, loss: Loss) {
        let entry = self.entries.get_mut(&peer.inst.node);
        let is_doubted = entry.is_some_and(|entry| {
            let is_doubted = entry.doubted == Some(peer);
            if is_doubted {
                entry.doubted = None;
            }
            is_doubted
        });
        if is_doubted {
            self.tell_lost(peer, loss);
        }
    }

    /// Closes all connections in order.
    pub(super) async fn finish(mut self) {
        let nodes: Vec<NodeId> = self.entries.keys().copied().collect();
        for node in nodes {
            self.end_in_order(node);
            let doubted = self
                .entries
                .get_mut(&node)
                .and_then(|some| some.doubted.take());
            if let Some(peer) = doubted {
                self.tell_lost(peer, Loss::Closed);
            }
        }
        self.entries.clear();
        let _ = within(CLOSE, async {
            while self.owners.values().any(|(_, link)| *link != 0) {
                match self.tasks.join_next_with_id().await {
                    Some(Ok((id, _))) => drop(self.owners.remove(&id)),
                    Some(Err(error)) => drop(self.owners.remove(&error.id())),
                    None => return,
                }
            }
        })
        .await;
        self.tasks.shutdown().await;
    }
}
