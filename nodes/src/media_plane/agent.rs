//! Setting up a path with a webrtc-ice agent (RFC 8445).
//!
//! In: credentials and candidates, checks that the worker feeds. Out: the address that was selected.
//! The agent ends there: the path core keeps, resumes and moves the path (`browser.md`, rule 1).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use contract::{IceConfig, IceCredentials, RemoteCandidate};
use tokio::sync::mpsc;
use webrtc_ice::agent::Agent;
use webrtc_ice::agent::agent_config::AgentConfig;
use webrtc_ice::candidate::candidate_base::unmarshal_candidate;
use webrtc_ice::candidate::{Candidate, CandidateType};
use webrtc_ice::mdns::MulticastDnsMode;
use webrtc_ice::network_type::NetworkType;
use webrtc_ice::udp_mux::UDPMux;
use webrtc_ice::udp_network::UDPNetwork;
use webrtc_util::Conn;

use super::feed::FedConn;
use crate::env_os::within;

/// Longest wait for a pair; after it the path core waits for the peer alone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between the agent's looks at its checks.
const LOOK: Duration = Duration::from_millis(50);
/// Checks of one pair before the agent gives it up: as many as fit its patience, since the peer may
/// not know our description yet.
const CHECKS_MAX: u16 = 600;
/// Longest end of an agent, whose locks are its own.
const END: Duration = Duration::from_secs(1);

/// A mux for one agent: its only connection is the one that the worker feeds.
pub(super) struct OneMux(pub(super) Arc<FedConn>);

#[async_trait]
impl UDPMux for OneMux {
    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    async fn get_conn(
        self: Arc<Self>,
        _ufrag: &str,
    ) -> Result<Arc<dyn Conn + Send + Sync>, webrtc_util::Error> {
        let conn: Arc<dyn Conn + Send + Sync> = self.0.clone();
        Ok(conn)
    }

    async fn remove_conn_by_ufrag(&self, _ufrag: &str) {}
}

/// Returns the peer's address of the pair that was selected; `None` if none was in time, or if
/// `candidates` has no sender left: nobody wants the path any more.
///
/// # Errors
/// What the library says of credentials and addresses.
pub(super) async fn set_up(
    ice: IceConfig,
    local: SocketAddr,
    conn: Arc<FedConn>,
    mut candidates: mpsc::Receiver<RemoteCandidate>,
) -> Result<Option<SocketAddr>, webrtc_ice::Error> {
    let Some(remote) = ice.remote.clone() else {
        return Ok(None);
    };
    let agent = Agent::new(config(&ice, local, conn)).await?;
    let connected = within(PATIENCE, connect(&agent, &ice, &remote, &mut candidates)).await;
    let pair = agent.get_selected_candidate_pair();
    let selected = pair.map(|pair| pair.remote.addr());
    // Its tasks hold it: without this they would stay. Nothing is said to the peer.
    let _ = within(END, agent.close()).await;
    connected.transpose()?;
    Ok(selected)
}

async fn connect(
    agent: &Agent,
    ice: &IceConfig,
    remote: &IceCredentials,
    candidates: &mut mpsc::Receiver<RemoteCandidate>,
) -> Result<(), webrtc_ice::Error> {
    agent.on_candidate(Box::new(|_| Box::pin(async {})));
    agent.gather_candidates()?;
    for candidate in &ice.candidates {
        add(agent, *candidate)?;
    }
    let (_cancel, cancelled) = mpsc::channel(1);
    let (ufrag, pwd) = (remote.ufrag.clone(), remote.pwd.expose().to_owned());
    let connecting = async {
        if ice.is_controlling {
            agent.dial(cancelled, ufrag, pwd).await.map(drop)
        } else {
            agent.accept(cancelled, ufrag, pwd).await.map(drop)
        }
    };
    let trickling = async {
        while let Some(candidate) = candidates.recv().await {
            let _ = add(agent, candidate);
        }
    };
    tokio::select! {
        biased;
        connected = connecting => connected,
        () = trickling => Ok(()),
    }
}

fn add(agent: &Agent, candidate: RemoteCandidate) -> Result<(), webrtc_ice::Error> {
    let RemoteCandidate { address, priority } = candidate;
    let text = format!(
        "1 1 udp {priority} {} {} typ host",
        address.ip(),
        address.port()
    );
    let candidate: Arc<dyn Candidate + Send + Sync> = Arc::new(unmarshal_candidate(&text)?);
    agent.add_remote_candidate(&candidate)
}

fn config(ice: &IceConfig, local: SocketAddr, conn: Arc<FedConn>) -> AgentConfig {
    let network = if local.is_ipv4() {
        NetworkType::Udp4
    } else {
        NetworkType::Udp6
    };
    // One candidate of ours: all would share the one socket, and be told apart by chance.
    let (bound, is_taken) = (local.ip(), AtomicBool::new(false));
    let is_ours = move |address: IpAddr| {
        let fits =
            address == bound || (bound.is_unspecified() && address.is_ipv4() == bound.is_ipv4());
        fits && !is_taken.swap(true, Ordering::Relaxed)
    };
    AgentConfig {
        udp_network: UDPNetwork::Muxed(Arc::new(OneMux(conn))),
        local_ufrag: ice.local.ufrag.clone(),
        local_pwd: ice.local.pwd.expose().to_owned(),
        multicast_dns_mode: MulticastDnsMode::Disabled,
        network_types: vec![network],
        candidate_types: vec![CandidateType::Host],
        check_interval: LOOK,
        max_binding_requests: Some(CHECKS_MAX),
        is_controlling: ice.is_controlling,
        lite: !ice.is_controlling,
        include_loopback: true,
        ip_filter: Arc::new(Some(Box::new(is_ours))),
        ..AgentConfig::default()
    }
}
