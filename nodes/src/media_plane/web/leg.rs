//! One WebRTC leg of a worker: whom it answers to, and the agent and the handshake that work for it.
//!
//! In: credentials, candidates, hellos of clients. Out: tasks, whose results come back as orders of the
//! worker.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use contract::limits::{
    DTLS_DATAGRAMS_MAX, DTLS_RIVALS_MAX, ICE_CANDIDATES_MAX, PATH_FRAGMENTS_MAX,
};
use contract::{
    DtlsConfig, DtlsRole, IceConfig, IceCredentials, RemoteCandidate, SideKey, Time, WebrtcConfig,
};
use media::path::Path;
use media::stun::IntegrityKey;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::media_plane::agent;
use crate::media_plane::asked::Asked;
use crate::media_plane::certificate::MediaCertificate;
use crate::media_plane::feed::{FedConn, Feed, feed};
use crate::media_plane::handshake;
use crate::media_plane::records::{self, Hello, Shown};
use crate::media_plane::{Orders, WorkerOrder};

/// What tasks of legs are made with.
pub(super) struct Tools {
    pub(super) runtime: Handle,
    pub(super) certificate: MediaCertificate,
    pub(super) orders: Orders,
    pub(super) asked: Asked,
}

pub(super) struct WebLeg {
    pub(super) key: SideKey,
    pub(super) local: SocketAddr,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) config: Option<WebrtcConfig>,
    /// Our password, made ready.
    pub(super) integrity: IntegrityKey,
    pub(super) path: Option<Path>,
    pub(super) agent: Option<AgentTask>,
    pub(super) handshake: Option<HandshakeTask>,
    /// Handshakes of other clients that said hello, the latest last, while none has proven itself.
    pub(super) rivals: Vec<HandshakeTask>,
    /// User fragments that lead here, the present one last.
    pub(super) fragments: Vec<String>,
    /// Sources of the peer, the latest last.
    pub(super) peers: Vec<SocketAddr>,
    /// Requests that came before the peer's credentials.
    pub(super) early: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) target: Option<SocketAddr>,
    pub(super) scheduled: Option<Time>,
    pub(super) set_ups: u32,
    pub(super) paths_set_up: u32,
    /// Handshakes begun, and done.
    pub(super) begun: u32,
    pub(super) handshakes: u32,
}

/// It ends when this is dropped: its candidates have no sender any more.
pub(super) struct AgentTask {
    pub(super) feed: Feed,
    pub(super) candidates: mpsc::Sender<RemoteCandidate>,
    /// Our user fragment.
    pub(super) ufrag: String,
    /// Which set-up of the leg this is.
    pub(super) set_up: u32,
}

pub(super) struct HandshakeTask {
    pub(super) feed: Feed,
    pub(super) conn: Arc<FedConn>,
    pub(super) task: AbortHandle,
    /// Which one of the leg this is.
    pub(super) number: u32,
    pub(super) association: u32,
    pub(super) config: DtlsConfig,
    /// Datagrams that it may still read.
    pub(super) left: u32,
    /// Who has said hello.
    pub(super) greeter: Greeter,
}

/// The client of a handshake in which we are the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeter {
    Nobody,
    /// Said hello with this random; whether it hears us is not known.
    Heard([u8; 32]),
    /// Has returned our cookie (RFC 6347 §4.2.1).
    Proven([u8; 32]),
}

impl Drop for HandshakeTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl WebLeg {
    /// Makes credentials of ours the present ones; false if their user fragment is another leg's.
    pub(super) fn answer_to(
        &mut self,
        local: &IceCredentials,
        legs: &mut HashMap<String, SideKey>,
    ) -> bool {
        if legs
            .get(&local.ufrag)
            .is_some_and(|other| *other != self.key)
        {
            return false;
        }
        self.integrity = IntegrityKey::new(local.pwd.expose().as_bytes());
        self.fragments.retain(|known| *known != local.ufrag);
        self.fragments.push(local.ufrag.clone());
        legs.insert(local.ufrag.clone(), self.key);
        if self.fragments.len() > PATH_FRAGMENTS_MAX {
            legs.remove(&self.fragments.remove(0));
        }
        true
    }

    /// Passes the peer's candidates on; known ones are recognised there.
    pub(super) fn trickle(&mut self, ice: &IceConfig, now: Time) {
        for candidate in ice.candidates.iter().take(ICE_CANDIDATES_MAX) {
            match (&self.agent, &mut self.path) {
                // A full queue is made good by the next configuration, or by the peer's own checks.
                (Some(agent), _) => drop(agent.candidates.try_send(*candidate)),
                (None, Some(path)) => path.add_remote_candidate(candidate.address, now),
                (None, None) => {}
            }
        }
    }

    pub(super) fn start_agent(&mut self, ice: &IceConfig, tools: &Tools) {
        let leg = self.key;
        let (feed, conn) = feed(leg, &self.socket, self.local, &tools.asked);
        let (candidates, trickled) = mpsc::channel(2 * ICE_CANDIDATES_MAX);
        self.set_ups = self.set_ups.wrapping_add(1);
        let set_up = self.set_ups;
        let (orders, wanted, local) = (tools.orders.clone(), ice.clone(), self.local);
        tools.runtime.spawn(async move {
            let selected = agent::set_up(wanted, local, conn, trickled).await;
            let selected = selected.unwrap_or_else(|error| {
                tracing::warn!(%leg, %error, "an ICE agent failed");
                None
            });
            orders.give(WorkerOrder::Path {
                leg,
                set_up,
                selected,
            });
        });
        self.agent = Some(AgentTask {
            feed,
            candidates,
            ufrag: ice.local.ufrag.clone(),
            set_up,
        });
    }

    pub(super) fn handshake_of(
        &mut self,
        (association, config): (u32, DtlsConfig),
        to: SocketAddr,
        tools: &Tools,
    ) -> HandshakeTask {
        self.begun = self.begun.wrapping_add(1);
        let (leg, number) = (self.key, self.begun);
        let (feed, conn) = feed(leg, &self.socket, self.local, &tools.asked);
        conn.aim(to);
        let orders = tools.orders.clone();
        let done = move |keys| {
            orders.give(WorkerOrder::Keys { leg, number, keys });
        };
        let certificate = tools.certificate.certificate.clone();
        let shaking = handshake::shake(config.clone(), certificate, Arc::clone(&conn), done);
        HandshakeTask {
            feed,
            conn,
            task: tools.runtime.spawn(shaking).abort_handle(),
            number,
            association,
            config,
            left: DTLS_DATAGRAMS_MAX,
            greeter: Greeter::Nobody,
        }
    }

    /// Shows a datagram of records to the handshake that it belongs to. As a server: before a client
    /// has proven itself, only hellos; then, only its own.
    pub(super) fn shake(&mut self, octets: &[u8], from: SocketAddr, tools: &Tools) {
        let Some(present) = &mut self.handshake else {
            return;
        };
        let meant = match records::read(octets, present.config.role) {
            None => None,
            Some(Shown::Hello(hello)) => self.greet(hello, tools),
            Some(Shown::MoreOfHello) => Some(present),
            Some(Shown::Flight) => Some(present).filter(|present| present.may_go_on()),
        };
        if let Some(meant) = meant {
            meant.read(octets, from);
        }
    }

    /// Gives up a handshake that has failed; tells whether none is left.
    pub(super) fn give_up(&mut self, number: u32) -> bool {
        self.rivals.retain(|rival| rival.number != number);
        let is_present = |present: &HandshakeTask| present.number == number;
        if !self.handshake.as_ref().is_some_and(is_present) {
            return false;
        }
        match self.rivals.pop() {
            Some(rival) => {
                self.handshake = Some(rival);
                false
            }
            None => true,
        }
    }

    /// Finds the handshake that a hello belongs to. Each client that says hello has one of its own
    /// until one of them returns our cookie: the others may have been forged, and the library would
    /// wait for them for ever. A few are kept, the latest.
    fn greet(&mut self, hello: Hello<'_>, tools: &Tools) -> Option<&mut HandshakeTask> {
        let heard = Greeter::Heard(hello.random);
        let present = self.handshake.as_mut()?;
        if let Greeter::Proven(random) = present.greeter {
            let is_its_own = hello.random == random && present.conn.has_sent(hello.cookie);
            return self.handshake.as_mut().filter(|_| is_its_own);
        }
        if present.greeter != Greeter::Nobody && present.greeter != heard {
            let known = self.rivals.iter().position(|rival| rival.greeter == heard);
            let other = match known {
                Some(at) => self.rivals.remove(at),
                // Who answers a question that was not put.
                None if hello.number > 0 => return None,
                None => {
                    let of = (present.association, present.config.clone());
                    let to = present.conn.aimed()?;
                    self.handshake_of(of, to, tools)
                }
            };
            self.rivals.extend(self.handshake.replace(other));
            if self.rivals.len() > DTLS_RIVALS_MAX {
                self.rivals.remove(0);
            }
        }
        let meant = self.handshake.as_mut()?;
        if hello.number == 0 {
            meant.greeter = heard;
        } else if meant.greeter == heard && meant.conn.has_sent(hello.cookie) {
            meant.greeter = Greeter::Proven(hello.random);
            self.rivals.clear();
        } else {
            return None;
        }
        Some(meant)
    }
}

impl HandshakeTask {
    /// Tells whether the other end is known to hear us.
    fn may_go_on(&self) -> bool {
        self.config.role == DtlsRole::Active || matches!(self.greeter, Greeter::Proven(_))
    }

    fn read(&mut self, octets: &[u8], from: SocketAddr) {
        if self.left > 0 {
            self.left -= 1;
            self.feed.put(octets, from);
        }
    }
}
