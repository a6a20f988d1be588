//! WebRTC legs against a peer made of webrtc-ice, webrtc-dtls and webrtc-srtp, on loopback.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test waits for one event of many"
)]

mod peer;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use contract::env::{MediaPlane, MediaSink};
use contract::{
    CallKey, DtlsConfig, DtlsRole, IceConfig, IceCredentials, LegConfig, LegCounters, LegSocket,
    LegTransport, MediaCommand, MediaEvent, MediaRoute, PeerFingerprint, RemoteCandidate, Secret,
    SideKey, SrtpKeys, SrtpProfile, Time, WebrtcConfig,
};
use tokio::runtime::{Handle, Runtime};

use super::certificate::MediaCertificate;
use super::records;
use super::{MediaSettings, MediaWorkers};
use peer::{Peer, Sound};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A port that the system gives to nobody who asks for any: while a plane restarts, no other test
/// takes it.
const KEPT_PORT: u16 = 21_190;
const PATIENCE: Duration = Duration::from_secs(10);

struct Told(Sender<(SideKey, MediaEvent)>);

impl MediaSink for Told {
    fn media(&self, leg: SideKey, event: MediaEvent) {
        let _ = self.0.send((leg, event));
    }
}

#[allow(clippy::disallowed_methods, reason = "real sockets need a real clock")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the other side's pace")]
fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// Where the peers run.
fn runtime() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let started = || Runtime::new().expect("a runtime");
    RUNTIME.get_or_init(started).handle().clone()
}

/// A plane, and what it tells.
struct Plane {
    workers: Arc<MediaWorkers>,
    told: Receiver<(SideKey, MediaEvent)>,
    certificate: MediaCertificate,
}

impl Plane {
    fn start(workers: usize, runtime: Handle, certificate: MediaCertificate) -> Plane {
        Plane::start_at(0, workers, runtime, certificate)
    }

    fn start_at(
        webrtc_port: u16,
        workers: usize,
        runtime: Handle,
        certificate: MediaCertificate,
    ) -> Plane {
        let start = now();
        let clock: super::Clock = Arc::new(move || {
            Time::from_micros(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
        });
        let settings = MediaSettings {
            workers,
            ports: 21_200..=21_219,
            webrtc_port,
            dscp: 46,
            clock,
            runtime,
            certificate: certificate.clone(),
        };
        let workers = MediaWorkers::start(&settings).expect("workers");
        let (sender, told) = channel();
        workers.attach(Arc::new(Told(sender)));
        Plane {
            workers,
            told,
            certificate,
        }
    }

    fn one() -> Plane {
        let certificate = MediaCertificate::of([3; 32]).expect("a certificate");
        Plane::start(1, runtime(), certificate)
    }

    fn command(&self, command: MediaCommand) {
        self.workers.command(command);
    }

    /// Waits for what `wanted` recognises in what a leg is told; everything else is passed over.
    fn hear<T>(&self, leg: SideKey, mut wanted: impl FnMut(MediaEvent) -> Option<T>) -> T {
        let until = now() + 2 * PATIENCE;
        loop {
            let left = until.saturating_duration_since(now());
            let (of, event) = self.told.recv_timeout(left).expect("an event");
            if of != leg {
                continue;
            }
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    fn open(&self, leg: SideKey, port: Option<u16>) -> SocketAddr {
        self.command(MediaCommand::Open {
            leg,
            address: LOOPBACK,
            port,
            beside: None,
            socket: LegSocket::Shared,
        });
        self.hear(leg, |event| match event {
            MediaEvent::Opened { rtp } => Some(Ok(rtp)),
            MediaEvent::Failed { why } => Some(Err(why)),
            _ => None,
        })
        .expect("a port")
    }

    fn configure(&self, leg: SideKey, config: &LegConfig) {
        self.command(MediaCommand::Configure {
            leg,
            config: Box::new(config.clone()),
        });
    }

    fn selected(&self, leg: SideKey) -> (SocketAddr, bool) {
        self.hear(leg, |event| match event {
            MediaEvent::PathSelected { remote, by_agent } => Some((remote, by_agent)),
            _ => None,
        })
    }

    fn keyed(&self, leg: SideKey) -> Result<SrtpKeys, String> {
        self.hear(leg, |event| match event {
            MediaEvent::Keyed { keys, .. } => Some(Ok(*keys)),
            MediaEvent::Unkeyed { why } => Some(Err(why)),
            _ => None,
        })
    }

    fn close(&self, leg: SideKey) -> LegCounters {
        self.command(MediaCommand::Close { leg });
        self.hear(leg, |event| match event {
            MediaEvent::Counted(counters) => Some(counters),
            _ => None,
        })
    }
}

fn side(number: u8) -> SideKey {
    CallKey::from_bits(0x77).side(number)
}

fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: name.to_owned(),
        pwd: Secret::new(format!("{name}-0123456789-0123456789")),
    }
}

/// A leg that echoes to `peer`; ours are the credentials of `ours`.
fn config(ours: &str, peer: &Peer, role: DtlsRole) -> LegConfig {
    LegConfig {
        remote: None,
        remote_rtcp: None,
        sip_source: Some(LOOPBACK),
        nat: false,
        negotiation: 1,
        sends: true,
        receives: true,
        payloads: vec![(0, 0)],
        ssrc: 0xfeed,
        sequence_start: 100,
        timestamp_start: 0,
        rollover_start: 0,
        sequence_reserved: contract::limits::SEQUENCE_BLOCK,
        dtmf_payload: None,
        dtmf_send_payload: None,
        clock_rate: 8_000,
        route: MediaRoute::Echo,
        timeout: None,
        rtcp_mux: true,
        transport: LegTransport::Webrtc(Box::new(WebrtcConfig {
            ice: IceConfig {
                local: credentials(ours),
                remote: Some(peer.credentials.clone()),
                candidates: vec![RemoteCandidate {
                    address: peer.address,
                    priority: 2_130_706_431,
                }],
                is_controlling: false,
                tie_breaker: 7,
                selected: None,
                seed: 9,
            },
            dtls: DtlsConfig {
                role,
                fingerprints: vec![peer.fingerprint()],
                profiles: SrtpProfile::ALL.to_vec(),
            },
            association: 1,
            keys: None,
        })),
    }
}

fn web(config: &mut LegConfig) -> &mut WebrtcConfig {
    match &mut config.transport {
        LegTransport::Webrtc(web) => web,
        LegTransport::Plain | LegTransport::Sdes(_) => panic!("a WebRTC leg"),
    }
}

/// A leg with a path and keys, and its peer.
struct Joined {
    plane: Plane,
    leg: SideKey,
    local: SocketAddr,
    config: LegConfig,
    peer: Peer,
    sound: Sound,
}

fn join(plane: Plane, leg: SideKey, ours: &str, role: DtlsRole) -> Joined {
    let begin = now();
    let local = plane.open(leg, None);
    let mut peer = Peer::new(&runtime(), "peer");
    let mut config = config(ours, &peer, role);
    plane.configure(leg, &config);
    peer.connect(local, &credentials(ours));
    let shaking = peer.shake(role == DtlsRole::Passive, plane.certificate.fingerprint());
    let keys = plane.keyed(leg).expect("keys");
    let keyed = begin.elapsed();
    web(&mut config).keys = Some(Box::new(keys));
    plane.configure(leg, &config);
    let mut sound = shaking.finish();
    sound.echo(&peer, 50);
    println!(
        "{role:?}: keys after {keyed:?}, sound both ways after {:?}",
        begin.elapsed()
    );
    Joined {
        plane,
        leg,
        local,
        config,
        peer,
        sound,
    }
}

#[test]
fn a_browser_gets_a_path_keys_and_its_echo() {
    let mut joined = join(Plane::one(), side(1), "ours1", DtlsRole::Passive);
    joined.sound.echo(&joined.peer, 200);
    let counters = joined.plane.close(joined.leg);
    assert_eq!((counters.paths_set_up, counters.handshakes), (1, 1));
    assert!(
        counters.packets_in >= 250 && counters.packets_out >= 250,
        "{counters:?}"
    );
    assert!(counters.srtp_packets >= 500, "{counters:?}");
}

#[test]
fn we_may_be_the_active_end() {
    let joined = join(Plane::one(), side(1), "ours1", DtlsRole::Active);
    assert_eq!(joined.plane.close(joined.leg).handshakes, 1);
}

#[test]
fn the_path_of_the_agent_is_told_once() {
    let plane = Plane::one();
    let local = plane.open(side(1), None);
    let mut peer = Peer::new(&runtime(), "peer");
    plane.configure(side(1), &config("ours1", &peer, DtlsRole::Passive));
    peer.connect(local, &credentials("ours1"));
    assert_eq!(plane.selected(side(1)), (peer.address, true));
    let rest: Vec<_> = plane.told.try_iter().collect();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn checks_that_come_before_the_answer_are_kept() {
    let plane = Plane::one();
    let local = plane.open(side(1), None);
    let mut peer = Peer::new(&runtime(), "peer");
    let full = config("ours1", &peer, DtlsRole::Passive);
    let mut half = full.clone();
    web(&mut half).ice.remote = None;
    web(&mut half).ice.candidates.clear();
    plane.configure(side(1), &half);
    let connecting = peer.start(local, &credentials("ours1"));
    pause(Duration::from_millis(120));
    let mut trickled = full;
    // As with a browser that hides its addresses.
    web(&mut trickled).ice.candidates.clear();
    plane.configure(side(1), &trickled);
    let begin = now();
    peer.wait(connecting);
    assert_eq!(plane.selected(side(1)), (peer.address, true));
    println!("path {:?} after the answer", begin.elapsed());
}

#[test]
fn another_certificate_gets_no_keys() {
    for role in [DtlsRole::Passive, DtlsRole::Active] {
        let plane = Plane::one();
        let local = plane.open(side(1), None);
        let mut peer = Peer::new(&runtime(), "peer");
        let mut config = config("ours1", &peer, role);
        web(&mut config).dtls.fingerprints = vec![PeerFingerprint {
            hash: "sha-256".to_owned(),
            digest: vec![7; 32],
        }];
        plane.configure(side(1), &config);
        peer.connect(local, &credentials("ours1"));
        let _shaking = peer.shake(role == DtlsRole::Passive, plane.certificate.fingerprint());
        let why = plane.keyed(side(1)).expect_err("another certificate");
        assert!(why.contains("certificate"), "{why}");
        let counters = plane.close(side(1));
        assert_eq!((counters.handshakes, counters.packets_in), (0, 0));
    }
}

#[test]
fn hellos_of_a_thousand_others_change_nothing() {
    let plane = Plane::one();
    let local = plane.open(side(1), None);
    let peer = Peer::new(&runtime(), "peer");
    let mut peer = peer;
    let config = config("ours1", &peer, DtlsRole::Passive);
    let hello = hello();
    assert!(records::read(&hello, DtlsRole::Passive).is_some());
    let sprayers: Vec<UdpSocket> = (0..1_000)
        .map(|_| UdpSocket::bind((LOOPBACK, 0)).expect("a socket"))
        .collect();
    let spray = || {
        for socket in &sprayers {
            let _ = socket.send_to(&hello, local);
        }
    };
    spray();
    plane.configure(side(1), &config);
    spray();
    peer.connect(local, &credentials("ours1"));
    let shaking = peer.shake(true, plane.certificate.fingerprint());
    spray();
    let keys = plane.keyed(side(1)).expect("keys");
    let mut config = config;
    web(&mut config).keys = Some(Box::new(keys));
    plane.configure(side(1), &config);
    let mut sound = shaking.finish();
    spray();
    sound.echo(&peer, 50);
    for socket in &sprayers {
        socket.set_nonblocking(true).expect("set");
        let mut octets = [0; 64];
        assert!(socket.recv(&mut octets).is_err(), "a stranger was answered");
    }
}

/// A ClientHello with nothing but `TLS_NULL_WITH_NULL_NULL`.
fn hello() -> Vec<u8> {
    let body = [&[0xfe, 0xfd][..], &[9; 32], &[0, 0, 0, 2, 0, 0, 1, 0]].concat();
    let length = u8::try_from(body.len()).expect("short");
    let handshake = [&[1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length][..], &body].concat();
    let length = u8::try_from(handshake.len()).expect("short");
    [
        &[22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, length][..],
        &handshake,
    ]
    .concat()
}

#[test]
fn junk_from_the_right_address_does_not_end_the_handshake() {
    let plane = Plane::one();
    let local = plane.open(side(1), None);
    let mut peer = Peer::new(&runtime(), "peer");
    plane.configure(side(1), &config("ours1", &peer, DtlsRole::Passive));
    peer.connect(local, &credentials("ours1"));
    let fatal_alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40];
    let data_in_the_clear = [23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0];
    for _ in 0..3 {
        peer.put(&fatal_alert, local);
        peer.put(&data_in_the_clear, local);
        peer.put(&hello(), local);
        peer.put(&[22; 40], local);
        peer.put(&[63], local);
        pause(Duration::from_millis(5));
    }
    let shaking = peer.shake(true, plane.certificate.fingerprint());
    plane.keyed(side(1)).expect("keys");
    drop(shaking.finish());
}

/// Every file of the public corpora, from the peer's own address: while the handshake goes on, and in
/// the middle of the sound.
#[test]
fn each_file_of_the_corpora_is_survived_by_a_leg() {
    let base = std::env::var_os("WEFT_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let mut files = Vec::new();
    for folder in ["dtls", "stun", "rtp-rtcp", "srtp-fuzz"] {
        let Ok(entries) = std::fs::read_dir(base.join(folder)) else {
            println!("{folder} is not there");
            continue;
        };
        let before = files.len();
        for entry in entries.flatten() {
            let octets = std::fs::read(entry.path()).expect("a file");
            // The rest is no file of the corpus, or more than a datagram holds.
            if entry.file_name() != "MANIFEST.jsonl" && octets.len() < 65_508 {
                files.push(octets);
            }
        }
        println!("{folder}: {} files", files.len() - before);
    }
    let plane = Plane::one();
    let local = plane.open(side(1), None);
    let mut peer = Peer::new(&runtime(), "peer");
    let mut config = config("ours1", &peer, DtlsRole::Passive);
    plane.configure(side(1), &config);
    peer.connect(local, &credentials("ours1"));
    let throw = |peer: &Peer| {
        for (number, octets) in files.iter().enumerate() {
            peer.put(octets, local);
            // What a socket's buffer does not hold would be no test.
            if number % 20 == 0 {
                pause(Duration::from_millis(2));
            }
        }
    };
    throw(&peer);
    let shaking = peer.shake(true, plane.certificate.fingerprint());
    throw(&peer);
    let keys = plane.keyed(side(1)).expect("keys");
    web(&mut config).keys = Some(Box::new(keys));
    plane.configure(side(1), &config);
    let mut sound = shaking.finish();
    sound.echo(&peer, 50);
    throw(&peer);
    sound.echo(&peer, 50);
}

#[test]
fn a_lost_last_flight_is_sent_again() {
    let plane = Plane::one();
    let local = plane.open(side(1), None);
    let mut peer = Peer::new(&runtime(), "peer");
    plane.configure(side(1), &config("ours1", &peer, DtlsRole::Passive));
    peer.connect(local, &credentials("ours1"));
    peer.lose_last_flights(2);
    let begin = now();
    let shaking = peer.shake(true, plane.certificate.fingerprint());
    plane.keyed(side(1)).expect("keys");
    drop(shaking.finish());
    assert_eq!(peer.lost_last_flights(), 2);
    println!("two last flights lost: {:?}", begin.elapsed());
}

#[test]
fn an_ice_restart_keeps_the_keys() {
    let mut joined = join(Plane::one(), side(1), "ours1", DtlsRole::Passive);
    joined.peer.renew("peer2");
    let ice = &mut web(&mut joined.config).ice;
    ice.local = credentials("ours2");
    ice.remote = Some(joined.peer.credentials.clone());
    ice.selected = Some(joined.peer.address);
    joined.plane.configure(joined.leg, &joined.config);
    // The old path carries media meanwhile.
    joined.sound.echo(&joined.peer, 20);
    joined.peer.connect(joined.local, &credentials("ours2"));
    assert_eq!(
        joined.plane.selected(joined.leg),
        (joined.peer.address, true)
    );
    joined.sound.echo(&joined.peer, 50);
    let counters = joined.plane.close(joined.leg);
    assert_eq!((counters.paths_set_up, counters.handshakes), (2, 1));
}

#[test]
fn a_new_association_needs_a_new_handshake() {
    let mut joined = join(Plane::one(), side(1), "ours1", DtlsRole::Passive);
    let config = web(&mut joined.config);
    let former = config.keys.take().expect("keys");
    config.association = 2;
    joined.plane.configure(joined.leg, &joined.config);
    let fingerprint = joined.plane.certificate.fingerprint().to_owned();
    let shaking = joined.peer.shake(true, &fingerprint);
    let keys = joined.plane.keyed(joined.leg).expect("keys");
    assert!(former.our_key != keys.our_key);
    web(&mut joined.config).keys = Some(Box::new(keys));
    joined.plane.configure(joined.leg, &joined.config);
    let mut sound = shaking.finish();
    sound.echo(&joined.peer, 50);
    assert_eq!(joined.plane.close(joined.leg).handshakes, 2);
}

#[test]
fn a_plane_that_restarts_goes_on_without_a_handshake() {
    let certificate = MediaCertificate::of([3; 32]).expect("a certificate");
    let Joined {
        plane,
        leg,
        local,
        mut config,
        peer,
        mut sound,
    } = join(
        Plane::start_at(KEPT_PORT, 1, runtime(), certificate),
        side(1),
        "ours1",
        DtlsRole::Passive,
    );
    let certificate = plane.certificate.clone();
    drop(plane);
    let begin = now();
    let plane = Plane::start_at(KEPT_PORT, 1, runtime(), certificate);
    assert_eq!(plane.open(leg, Some(local.port())), local);
    config.sequence_start += 2_048;
    web(&mut config).ice.selected = Some(peer.address);
    plane.configure(leg, &config);
    sound.echo(&peer, 50);
    println!(
        "sound both ways {:?} after the end of the former plane",
        begin.elapsed()
    );
    let counters = plane.close(leg);
    assert_eq!((counters.paths_set_up, counters.handshakes), (0, 0));
}

#[test]
fn a_port_that_another_program_has_is_a_clear_failure() {
    let plane = Plane::one();
    let other = UdpSocket::bind((LOOPBACK, 0)).expect("a socket");
    let port = other.local_addr().expect("bound").port();
    plane.command(MediaCommand::Open {
        leg: side(1),
        address: LOOPBACK,
        port: Some(port),
        beside: None,
        socket: LegSocket::Shared,
    });
    let why = plane.hear(side(1), |event| match event {
        MediaEvent::Failed { why } => Some(why),
        _ => None,
    });
    assert!(why.contains(&port.to_string()), "{why}");
}

#[test]
fn a_peer_that_changes_its_port_is_followed() {
    let mut joined = join(Plane::one(), side(1), "ours1", DtlsRole::Passive);
    let mut moved = joined.peer.elsewhere();
    moved.connect(joined.local, &credentials("ours1"));
    assert_eq!(joined.plane.selected(joined.leg), (moved.address, false));
    joined.sound.echo(&moved, 50);
}

#[test]
fn a_candidate_does_not_take_another_legs_source() {
    let mut joined = join(Plane::one(), side(1), "ours1", DtlsRole::Passive);
    let local = joined.plane.open(side(2), None);
    assert_eq!(local, joined.local);
    let mut other = Peer::new(&runtime(), "other");
    let mut config = config("ours2", &other, DtlsRole::Passive);
    let ice = &mut web(&mut config).ice;
    ice.candidates[0].address = joined.peer.address;
    joined.plane.configure(side(2), &config);
    joined.sound.echo(&joined.peer, 20);
    other.connect(local, &credentials("ours2"));
    assert_eq!(joined.plane.selected(side(2)), (other.address, true));
    joined.sound.echo(&joined.peer, 50);
    // A user fragment stays whose it is.
    let mut thief = config;
    web(&mut thief).ice.local = credentials("ours1");
    joined.plane.configure(side(2), &thief);
    joined.sound.echo(&joined.peer, 20);
}

#[test]
fn a_closed_leg_leaves_no_task() {
    let own = Runtime::new().expect("a runtime");
    let certificate = MediaCertificate::of([3; 32]).expect("a certificate");
    let plane = Plane::start(1, own.handle().clone(), certificate);
    let before = own.metrics().num_alive_tasks();
    let joined = join(plane, side(1), "ours1", DtlsRole::Passive);
    let waiting = Peer::new(&runtime(), "waiting");
    for number in 2..=20 {
        let ours = format!("ours{number}");
        joined.plane.open(side(number), None);
        joined
            .plane
            .configure(side(number), &config(&ours, &waiting, DtlsRole::Active));
    }
    let until = now() + PATIENCE;
    while own.metrics().num_alive_tasks() < before + 19 {
        assert!(now() < until, "no agents");
        pause(Duration::from_millis(5));
    }
    for number in 1..=20 {
        joined.plane.close(side(number));
    }
    let until = now() + PATIENCE;
    while own.metrics().num_alive_tasks() > before {
        assert!(
            now() < until,
            "{} tasks are left",
            own.metrics().num_alive_tasks()
        );
        pause(Duration::from_millis(5));
    }
    // The socket forgets it: the peer's checks and media get nothing any more.
    joined.peer.forget();
    joined.peer.put(&[0x80; 172], joined.local);
    pause(Duration::from_millis(50));
    assert_eq!(joined.peer.heard(), 0);
}

#[test]
fn two_hundred_legs_of_one_worker_are_set_up_at_once() {
    const LEGS: u8 = 200;
    let plane = Plane::one();
    let begin = now();
    let mut peers = Vec::new();
    for number in 0..LEGS {
        let (leg, ours) = (side(number), format!("ours{number}"));
        let local = plane.open(leg, None);
        let mut peer = Peer::new(&runtime(), &format!("peer{number}"));
        let config = config(&ours, &peer, DtlsRole::Passive);
        plane.configure(leg, &config);
        let connecting = peer.start(local, &credentials(&ours));
        peers.push((leg, peer, config, connecting));
    }
    let fingerprint = plane.certificate.fingerprint().to_owned();
    let mut shaking = Vec::new();
    for (leg, peer, config, connecting) in peers {
        peer.wait(connecting);
        let hands = peer.shake(true, &fingerprint);
        shaking.push((leg, peer, config, hands));
    }
    let mut keyed = 0;
    while keyed < LEGS {
        let (leg, event) = plane.told.recv_timeout(2 * PATIENCE).expect("an event");
        match event {
            MediaEvent::Keyed { keys, .. } => {
                keyed += 1;
                let (_, _, config, _) = &mut shaking[usize::from(leg.number())];
                web(config).keys = Some(keys);
                plane.configure(leg, config);
            }
            MediaEvent::Unkeyed { why } => panic!("{leg}: {why}"),
            _ => {}
        }
    }
    println!("{LEGS} legs keyed after {:?}", begin.elapsed());
    let mut sounds = Vec::new();
    for (_, peer, _, hands) in shaking {
        sounds.push((peer, hands.finish()));
    }
    for (peer, sound) in &mut sounds {
        sound.echo(peer, 5);
    }
    println!("{LEGS} legs with sound after {:?}", begin.elapsed());
}

#[test]
fn the_cost_of_an_echoed_packet_is_printed() {
    let mut joined = join(Plane::one(), side(1), "ours1", DtlsRole::Passive);
    let packets = 4_000;
    let begin = now();
    let mut echoed = 0;
    for _ in 0..packets / 20 {
        echoed += joined.sound.burst(&joined.peer, 20);
        for (leg, event) in joined.plane.told.try_iter() {
            if let MediaEvent::Reserve { block, .. } = event {
                joined.plane.command(MediaCommand::Reserved { leg, block });
            }
        }
    }
    let each = begin.elapsed() / packets;
    println!("{echoed} of {packets} echoed, {each:?} each with the peer's own work");
    assert!(echoed > packets / 2);
}
