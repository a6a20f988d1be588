//! A browser in miniature: a webrtc-ice agent, webrtc-dtls and webrtc-srtp on one UDP port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use contract::{CallKey, IceCredentials, PeerFingerprint};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle as Task;
use webrtc_dtls::config::{ClientAuthType, Config};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::crypto::Certificate;
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_ice::agent::Agent;
use webrtc_ice::agent::agent_config::AgentConfig;
use webrtc_ice::candidate::candidate_base::unmarshal_candidate;
use webrtc_ice::candidate::{Candidate, CandidateType};
use webrtc_ice::mdns::MulticastDnsMode;
use webrtc_ice::network_type::NetworkType;
use webrtc_ice::udp_network::UDPNetwork;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::{Conn, KeyingMaterialExporter};

use super::{PATIENCE, now};
use crate::media_plane::agent::OneMux;
use crate::media_plane::asked::Asked;
use crate::media_plane::feed::{FedConn, Feed, feed};

/// What the port brings, and to whom.
#[derive(Default)]
struct Doors {
    ice: Mutex<Option<Feed>>,
    dtls: Mutex<Option<Feed>>,
    /// Last flights of a server that are still to be lost, and that were.
    to_lose: AtomicU32,
    lost: AtomicU32,
    heard: AtomicU32,
    is_over: AtomicBool,
}

/// The peer.
pub(super) struct Peer {
    pub(super) credentials: IceCredentials,
    pub(super) address: SocketAddr,
    runtime: Handle,
    certificate: Certificate,
    socket: Arc<UdpSocket>,
    doors: Arc<Doors>,
    media: Arc<Mutex<Receiver<Vec<u8>>>>,
    agent: Option<Agent>,
    reader: Option<JoinHandle<()>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.doors.is_over.store(true, Ordering::Relaxed);
        if let Some(agent) = self.agent.take() {
            let _ = self.runtime.block_on(agent.close());
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Peer {
    pub(super) fn new(runtime: &Handle, name: &str) -> Peer {
        let made = Certificate::generate_self_signed(["peer".to_owned()]);
        Peer::with(
            runtime,
            super::credentials(name),
            made.expect("a certificate"),
        )
    }

    fn with(runtime: &Handle, credentials: IceCredentials, certificate: Certificate) -> Peer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let wait = Some(Duration::from_millis(20));
        socket.set_read_timeout(wait).expect("a timeout");
        let address = socket.local_addr().expect("bound");
        let (socket, doors) = (Arc::new(socket), Arc::new(Doors::default()));
        let (sender, media) = channel();
        let reader = {
            let (socket, doors) = (Arc::clone(&socket), Arc::clone(&doors));
            std::thread::spawn(move || read(&socket, &doors, &sender))
        };
        Peer {
            credentials,
            address,
            runtime: runtime.clone(),
            certificate,
            socket,
            doors,
            media: Arc::new(Mutex::new(media)),
            agent: None,
            reader: Some(reader),
        }
    }

    /// The same peer on another port.
    pub(super) fn elsewhere(&self) -> Peer {
        Peer::with(
            &self.runtime,
            self.credentials.clone(),
            self.certificate.clone(),
        )
    }

    /// Takes new credentials; the former agent goes.
    pub(super) fn renew(&mut self, name: &str) {
        self.credentials = super::credentials(name);
    }

    pub(super) fn fingerprint(&self) -> PeerFingerprint {
        PeerFingerprint {
            hash: "sha-256".to_owned(),
            digest: Sha256::digest(&self.certificate.certificate[0]).to_vec(),
        }
    }

    pub(super) fn put(&self, octets: &[u8], to: SocketAddr) {
        self.socket.send_to(octets, to).expect("sent");
    }

    pub(super) fn lose_last_flights(&self, count: u32) {
        self.doors.to_lose.store(count, Ordering::Relaxed);
    }

    pub(super) fn lost_last_flights(&self) -> u32 {
        self.doors.lost.load(Ordering::Relaxed)
    }

    pub(super) fn forget(&self) {
        self.doors.heard.store(0, Ordering::Relaxed);
    }

    pub(super) fn heard(&self) -> u32 {
        self.doors.heard.load(Ordering::Relaxed)
    }

    fn feed(&self, door: &Mutex<Option<Feed>>) -> Arc<FedConn> {
        let nobody = CallKey::from_bits(1).side(1);
        let (put, conn) = feed(nobody, &self.socket, self.address, &Asked::default());
        *door.lock().expect("a door") = Some(put);
        conn
    }

    /// Starts to look for a path, controlling as browsers are toward lite ends.
    pub(super) fn start(&mut self, to: SocketAddr, theirs: &IceCredentials) -> Task<()> {
        if let Some(former) = self.agent.take() {
            let _ = self.runtime.block_on(former.close());
        }
        let conn = self.feed(&self.doors.ice);
        let config = AgentConfig {
            udp_network: UDPNetwork::Muxed(Arc::new(OneMux(conn))),
            local_ufrag: self.credentials.ufrag.clone(),
            local_pwd: self.credentials.pwd.expose().to_owned(),
            multicast_dns_mode: MulticastDnsMode::Disabled,
            network_types: vec![NetworkType::Udp4],
            candidate_types: vec![CandidateType::Host],
            check_interval: Duration::from_millis(50),
            max_binding_requests: Some(600),
            is_controlling: true,
            include_loopback: true,
            ip_filter: Arc::new(Some(Box::new(|address: IpAddr| {
                address == IpAddr::V4(Ipv4Addr::LOCALHOST)
            }))),
            ..AgentConfig::default()
        };
        let agent = self.runtime.block_on(Agent::new(config)).expect("an agent");
        let _inside = self.runtime.enter();
        agent.on_candidate(Box::new(|_| Box::pin(async {})));
        agent.gather_candidates().expect("gathering");
        let text = format!("1 1 udp 2130706431 {} {} typ host", to.ip(), to.port());
        let candidate: Arc<dyn Candidate + Send + Sync> =
            Arc::new(unmarshal_candidate(&text).expect("a candidate"));
        agent.add_remote_candidate(&candidate).expect("added");
        let agent = self.agent.insert(agent);
        let (ufrag, pwd) = (theirs.ufrag.clone(), theirs.pwd.expose().to_owned());
        // The checks start now; who wants to know when they are done asks `wait`.
        let (cancel, cancelled) = mpsc::channel(1);
        drop(cancel);
        let _ = self.runtime.block_on(agent.dial(cancelled, ufrag, pwd));
        self.runtime.spawn(async {})
    }

    /// Waits for the path.
    pub(super) fn wait(&self, started: Task<()>) {
        let _ = self.runtime.block_on(started);
        let agent = self.agent.as_ref().expect("started");
        let until = now() + PATIENCE;
        while agent.get_selected_candidate_pair().is_none() {
            assert!(now() < until, "no path");
            super::pause(Duration::from_millis(1));
        }
    }

    pub(super) fn connect(&mut self, to: SocketAddr, theirs: &IceCredentials) {
        let started = self.start(to, theirs);
        self.wait(started);
    }

    /// Starts to shake hands with an end whose certificate is the described one.
    pub(super) fn shake(&self, is_client: bool, fingerprint: &str) -> Shaking {
        let conn = self.feed(&self.doors.dtls);
        let to = self.agent.as_ref().expect("connected");
        let to = to.get_selected_candidate_pair().expect("selected");
        conn.aim(to.remote.addr());
        let config = Config {
            certificates: vec![self.certificate.clone()],
            srtp_protection_profiles: vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80],
            client_auth: ClientAuthType::RequireAnyClientCert,
            flight_interval: Duration::from_millis(50),
            insecure_skip_verify: true,
            ..Config::default()
        };
        let fingerprint = fingerprint.to_owned();
        let task = self.runtime.spawn(async move {
            let below: Arc<dyn Conn + Send + Sync> = conn.clone();
            let made = DTLSConn::new(below, config, is_client, None).await?;
            let state = made.connection_state().await;
            let digest = Sha256::digest(&state.peer_certificates[0]);
            let pairs: Vec<String> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
            assert_eq!(format!("sha-256 {}", pairs.join(":")), fingerprint);
            let exported = state
                .export_keying_material("EXTRACTOR-dtls_srtp", &[], 60)
                .await;
            Ok((exported.expect("keys"), made))
        });
        Shaking {
            task,
            is_client,
            runtime: self.runtime.clone(),
        }
    }
}

fn read(socket: &UdpSocket, doors: &Doors, media: &Sender<Vec<u8>>) {
    let mut octets = [0; 2_048];
    while !doors.is_over.load(Ordering::Relaxed) {
        let Ok((count, from)) = socket.recv_from(&mut octets) else {
            continue;
        };
        doors.heard.fetch_add(1, Ordering::Relaxed);
        let packet = &octets[..count];
        let door = match packet[0] {
            0..=3 => &doors.ice,
            20..=63 => &doors.dtls,
            _ => {
                let _ = media.send(packet.to_vec());
                continue;
            }
        };
        // A server's last flight starts with its ChangeCipherSpec.
        let is_last = packet[0] == 20 && doors.to_lose.load(Ordering::Relaxed) > 0;
        if is_last {
            doors.to_lose.fetch_sub(1, Ordering::Relaxed);
            doors.lost.fetch_add(1, Ordering::Relaxed);
        } else if let Some(feed) = &*door.lock().expect("a door") {
            feed.put(packet, from);
        }
    }
}

type Shaken = Result<(Vec<u8>, DTLSConn), webrtc_dtls::Error>;

/// A handshake on its way.
pub(super) struct Shaking {
    task: Task<Shaken>,
    is_client: bool,
    runtime: Handle,
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shaking {
    pub(super) fn finish(mut self) -> Sound {
        let done = async { tokio::time::timeout(PATIENCE, &mut self.task).await };
        let done = self.runtime.block_on(done).expect("in time");
        let (exported, kept) = done.expect("no panic").expect("a handshake");
        let context = |key: usize, salt: usize| {
            let (key, salt) = (&exported[key..key + 16], &exported[salt..salt + 14]);
            let profile = ProtectionProfile::Aes128CmHmacSha1_80;
            Context::new(key, salt, profile, None, None).expect("a context")
        };
        let (client, server) = (context(0, 32), context(16, 46));
        let (sending, receiving) = if self.is_client {
            (client, server)
        } else {
            (server, client)
        };
        Sound {
            sending,
            receiving,
            sequence: 0,
            to: None,
            _kept: kept,
        }
    }
}

/// Protected sound both ways.
pub(super) struct Sound {
    sending: Context,
    receiving: Context,
    sequence: u16,
    to: Option<SocketAddr>,
    _kept: DTLSConn,
}

impl Sound {
    /// Sends packets until `count` came back.
    pub(super) fn echo(&mut self, peer: &Peer, count: u32) {
        let until = now() + PATIENCE;
        let mut heard = 0;
        while heard < count {
            assert!(now() < until, "{heard} of {count} came back");
            self.speak(peer);
            heard += self.hear(peer, Duration::from_millis(5));
        }
    }

    /// Sends packets at once; returns how many came back.
    pub(super) fn burst(&mut self, peer: &Peer, count: u32) -> u32 {
        for _ in 0..count {
            self.speak(peer);
        }
        let mut heard = 0;
        while heard < count {
            let more = self.hear(peer, Duration::from_millis(50));
            if more == 0 {
                break;
            }
            heard += more;
        }
        heard
    }

    fn speak(&mut self, peer: &Peer) {
        let agent = peer.agent.as_ref().expect("connected");
        if let Some(pair) = agent.get_selected_candidate_pair() {
            self.to = Some(pair.remote.addr());
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = vec![0x80, 0];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        let timestamp = u32::from(self.sequence) * 160;
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 9]);
        packet.resize(172, 0x55);
        let packet = self.sending.encrypt_rtp(&packet).expect("protected");
        peer.put(&packet, self.to.expect("an address"));
    }

    /// Takes what came within `patience`, and what is there with it.
    fn hear(&mut self, peer: &Peer, patience: Duration) -> u32 {
        let media = peer.media.lock().expect("media");
        let mut heard = 0;
        let mut next = media.recv_timeout(patience).ok();
        while let Some(packet) = next {
            if let Ok(plain) = self.receiving.decrypt_rtp(&packet) {
                assert_eq!(&plain[8..12], &0xfeed_u32.to_be_bytes());
                assert_eq!(plain.len(), 172);
                heard += 1;
            }
            next = media.try_recv().ok();
        }
        heard
    }
}
