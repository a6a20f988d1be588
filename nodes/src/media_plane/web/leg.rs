//! One WebRTC leg of a worker: whom it answers to, and the agent and the handshake that work for it.
//!
//! In: credentials, candidates, hellos of clients. Out: tasks, whose results come back as orders of the
//! worker.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use contract::limits::{
    DTLS_DATAGRAMS_MAX, DTLS_RENEWALS_MAX, ICE_CANDIDATES_MAX, PATH_FRAGMENTS_MAX,
};
use contract::{
    DtlsConfig, IceConfig, IceCredentials, RemoteCandidate, SideKey, Time, WebrtcConfig,
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
    pub(super) association: u32,
    pub(super) config: DtlsConfig,
    /// Datagrams that it may still read.
    pub(super) left: u32,
    /// Who has said hello.
    pub(super) greeter: Greeter,
    /// Times it was begun anew because somebody else said hello.
    pub(super) renewals: u32,
}

/// The client of a handshake in which we are the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeter {
    Nobody,
    /// Said hello with this random; whether it hears us is not known.
    Heard([u8; 32]),
    /// Has returned our cookie (RFC 6347 §4.2.1).
    Proven,
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
        &self,
        config: &WebrtcConfig,
        to: SocketAddr,
        tools: &Tools,
    ) -> HandshakeTask {
        let (leg, association) = (self.key, config.association);
        let (feed, conn) = feed(leg, &self.socket, self.local, &tools.asked);
        conn.aim(to);
        let orders = tools.orders.clone();
        let done = move |keys| {
            orders.give(WorkerOrder::Keys {
                leg,
                association,
                keys,
            });
        };
        let certificate = tools.certificate.certificate.clone();
        let shaking = handshake::shake(config.dtls.clone(), certificate, Arc::clone(&conn), done);
        HandshakeTask {
            feed,
            conn,
            task: tools.runtime.spawn(shaking).abort_handle(),
            association,
            config: config.dtls.clone(),
            left: DTLS_DATAGRAMS_MAX,
            greeter: Greeter::Nobody,
            renewals: 0,
        }
    }

    /// Begins the handshake anew if another client than before says hello, and the former has not
    /// returned our cookie: it may have been forged, and the library would wait for it for ever.
    pub(super) fn greet(&mut self, octets: &[u8], tools: &Tools) {
        let (Some((number, random)), Some(config)) = (handshake::hello(octets), &self.config)
        else {
            return;
        };
        let Some(present) = &mut self.handshake else {
            return;
        };
        let is_other = match present.greeter {
            Greeter::Nobody => false,
            Greeter::Heard(before) => before != random,
            Greeter::Proven => return,
        };
        if number > 0 {
            if matches!(present.greeter, Greeter::Heard(before) if before == random) {
                present.greeter = Greeter::Proven;
            }
            return;
        }
        let renewals = present.renewals + u32::from(is_other);
        let to = present.conn.aimed();
        if let Some(to) = to.filter(|_| is_other && renewals <= DTLS_RENEWALS_MAX) {
            self.handshake = Some(self.handshake_of(config, to, tools));
        }
        if let Some(present) = &mut self.handshake {
            present.greeter = Greeter::Heard(random);
            present.renewals = renewals;
        }
    }
}
