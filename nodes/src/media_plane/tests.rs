//! The workers on real sockets: ports, relay, tone, closing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::env::{MediaPlane, MediaSink};
use contract::{
    CallKey, LegConfig, LegSocket, LegTransport, MediaCommand, MediaEvent, MediaRoute, SideKey,
    Time,
};

use super::certificate::MediaCertificate;
use super::{MediaSettings, MediaWorkers};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Told(Sender<(SideKey, MediaEvent)>);

impl MediaSink for Told {
    fn media(&self, leg: SideKey, event: MediaEvent) {
        let _ = self.0.send((leg, event));
    }
}

#[allow(clippy::disallowed_methods, reason = "real sockets need a real clock")]
fn plane(first: u16, last: u16) -> (Arc<MediaWorkers>, Receiver<(SideKey, MediaEvent)>) {
    let start = std::time::Instant::now();
    let clock: super::Clock = Arc::new(move || {
        Time::from_micros(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
    });
    let plane = MediaWorkers::start(&MediaSettings {
        workers: 2,
        ports: first..=last,
        webrtc_port: 0,
        dscp: 46,
        clock,
        runtime: runtime(),
        certificate: MediaCertificate::of([3; 32]).expect("a certificate"),
    })
    .expect("workers");
    let (sender, told) = channel();
    plane.attach(Arc::new(Told(sender)));
    (plane, told)
}

/// Where agents and handshakes of all tests run.
fn runtime() -> tokio::runtime::Handle {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let started = || tokio::runtime::Runtime::new().expect("a runtime");
    RUNTIME.get_or_init(started).handle().clone()
}

fn side(number: u8) -> SideKey {
    CallKey::from_bits(0x77).side(number)
}

fn open(leg: SideKey, port: Option<u16>) -> MediaCommand {
    MediaCommand::Open {
        leg,
        address: LOOPBACK,
        port,
        beside: Some(side(1)),
        socket: LegSocket::Own,
    }
}

fn opened(told: &Receiver<(SideKey, MediaEvent)>, leg: SideKey) -> Result<SocketAddr, String> {
    loop {
        let (of, event) = told.recv_timeout(Duration::from_secs(5)).expect("an event");
        match event {
            MediaEvent::Opened { rtp } if of == leg => return Ok(rtp),
            MediaEvent::Failed { why } if of == leg => return Err(why),
            MediaEvent::Opened { .. }
            | MediaEvent::Failed { .. }
            | MediaEvent::FirstPacket { .. }
            | MediaEvent::Latched { .. }
            | MediaEvent::Digit { .. }
            | MediaEvent::Timeout
            | MediaEvent::Reserve { .. }
            | MediaEvent::PathSelected { .. }
            | MediaEvent::PathLost
            | MediaEvent::Keyed { .. }
            | MediaEvent::Unkeyed { .. }
            | MediaEvent::Counted(_) => {}
        }
    }
}

fn config(remote: SocketAddr, route: MediaRoute) -> Box<LegConfig> {
    Box::new(LegConfig {
        remote: Some(remote),
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
        route,
        timeout: None,
        rtcp_mux: false,
        transport: LegTransport::Plain,
    })
}

fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 9]);
    packet.resize(172, 0x55);
    packet
}

fn phone() -> UdpSocket {
    let socket = UdpSocket::bind((LOOPBACK, 0)).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    socket
}

#[test]
fn packets_go_from_leg_to_leg_with_our_ssrc() {
    let (plane, told) = plane(21_000, 21_019);
    let (alice, bob) = (phone(), phone());
    plane.command(open(side(1), None));
    plane.command(open(side(2), None));
    let a = opened(&told, side(1)).expect("a port");
    let b = opened(&told, side(2)).expect("a port");
    assert!(a.port().is_multiple_of(2) && b.port().is_multiple_of(2) && a != b);
    let to = |socket: &UdpSocket| socket.local_addr().expect("bound");
    let relay = |other| MediaRoute::Relay(other);
    plane.command(MediaCommand::Configure {
        leg: side(1),
        config: config(to(&alice), relay(side(2))),
    });
    plane.command(MediaCommand::Configure {
        leg: side(2),
        config: config(to(&bob), relay(side(1))),
    });
    let mut octets = [0; 2048];
    for sequence in 1..=20 {
        alice.send_to(&packet(sequence), a).expect("sent");
    }
    for _ in 0..10 {
        let (count, from) = bob.recv_from(&mut octets).expect("a packet");
        assert_eq!((count, from), (172, b));
        assert_eq!(&octets[8..12], &0xfeed_u32.to_be_bytes());
    }
    plane.command(MediaCommand::Close { leg: side(2) });
    let counted = loop {
        if let (of, MediaEvent::Counted(counters)) =
            told.recv_timeout(Duration::from_secs(5)).expect("an event")
        {
            break (of, counters.packets_out);
        }
    };
    assert_eq!(counted.0, side(2));
    assert!(counted.1 >= 10);
}

#[test]
fn a_tone_is_played_at_its_pace() {
    let (plane, told) = plane(21_020, 21_039);
    let alice = phone();
    plane.command(open(side(1), None));
    opened(&told, side(1)).expect("a port");
    let tone = MediaRoute::Tone {
        hertz: 1_004,
        level_dbm0: -16,
        payload: 0,
    };
    let to = alice.local_addr().expect("bound");
    plane.command(MediaCommand::Configure {
        leg: side(1),
        config: config(to, tone),
    });
    let mut octets = [0; 2048];
    let mut last = None;
    for _ in 0..10 {
        let (count, _) = alice.recv_from(&mut octets).expect("a packet");
        assert_eq!(count, 172);
        let sequence = u16::from_be_bytes([octets[2], octets[3]]);
        assert!(last.is_none_or(|last: u16| sequence == last.wrapping_add(1)));
        last = Some(sequence);
    }
}

#[test]
fn a_range_that_is_used_up_is_a_clear_failure_and_freed_ports_come_back() {
    let (plane, told) = plane(21_040, 21_043);
    for number in 1..=2 {
        plane.command(open(side(number), None));
        opened(&told, side(number)).expect("a port");
    }
    plane.command(open(side(3), None));
    let why = opened(&told, side(3)).expect_err("no port is left");
    assert!(why.contains("21040-21043"), "{why}");
    plane.command(MediaCommand::Close { leg: side(1) });
    // The counters come when the port is free; another worker may take it from then on.
    while !matches!(
        told.recv_timeout(Duration::from_secs(5)).expect("an event"),
        (_, MediaEvent::Counted(_))
    ) {}
    plane.command(open(side(4), None));
    opened(&told, side(4)).expect("the freed port");
}

#[test]
fn a_recorded_port_is_bound_again() {
    let (plane, told) = plane(21_044, 21_059);
    plane.command(open(side(1), Some(21_050)));
    assert_eq!(opened(&told, side(1)).map(|local| local.port()), Ok(21_050));
}

#[test]
fn legs_of_one_call_share_a_worker_in_whatever_order_they_open() {
    let (plane, _told) = plane(21_060, 21_099);
    let mut used = std::collections::BTreeSet::new();
    for call in 1..=40_u128 {
        // Keys of calls are hashes: any bits of them are as good as drawn.
        let call = CallKey::from_bits(call.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let place = |number: u8| std::ptr::from_ref(plane.worker(call.side(number))) as usize;
        assert_eq!(place(1), place(2));
        used.insert(place(1));
    }
    assert_eq!(used.len(), 2, "both workers have calls");
}

/// What a peer sends to the node that had its call still comes through; then its ports are free.
#[test]
#[allow(clippy::disallowed_methods, reason = "real sockets need a real clock")]
fn a_call_that_has_moved_is_passed_on_until_it_is_silent() {
    let (plane, told) = plane(21_100, 21_103);
    let (alice, bob) = (phone(), phone());
    let mut at = Vec::new();
    for (number, other, socket) in [(1, 2, &alice), (2, 1, &bob)] {
        plane.command(open(side(number), None));
        at.push(opened(&told, side(number)).expect("a port"));
        let to = socket.local_addr().expect("bound");
        plane.command(MediaCommand::Configure {
            leg: side(number),
            config: config(to, MediaRoute::Relay(side(other))),
        });
    }
    for number in 1..=2 {
        plane.command(MediaCommand::Linger { leg: side(number) });
    }
    let began = std::time::Instant::now();
    let mut octets = [0; 2048];
    for sequence in 1..=5 {
        alice.send_to(&packet(sequence), at[0]).expect("sent");
        let (count, from) = bob.recv_from(&mut octets).expect("a packet");
        assert_eq!((count, from), (172, at[1]));
    }
    // Counted at the end of the worker's turn, after the packets.
    while plane.lingering() != 2 {
        assert!(began.elapsed() < Duration::from_secs(3), "not counted");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(UdpSocket::bind(at[0]).is_err(), "its port is taken");
    while plane.lingering() > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it stays for ever"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let least = Duration::from_secs(contract::limits::LINGER_S_MIN);
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    for address in at {
        assert!(UdpSocket::bind(address).is_ok(), "{address} is free");
    }
    let nothing = told.recv_timeout(Duration::from_millis(50));
    assert!(nothing.is_err(), "nobody is told: {nothing:?}");
}

/// The other node gives the call back: same port, and its leg is told again.
#[test]
fn a_leg_that_comes_back_has_its_port() {
    let (plane, told) = plane(21_104, 21_107);
    let alice = phone();
    plane.command(open(side(1), None));
    let local = opened(&told, side(1)).expect("a port");
    let to = alice.local_addr().expect("bound");
    plane.command(MediaCommand::Configure {
        leg: side(1),
        config: config(to, MediaRoute::Echo),
    });
    plane.command(MediaCommand::Linger { leg: side(1) });
    plane.command(open(side(1), None));
    assert_eq!(opened(&told, side(1)), Ok(local));
    let mut octets = [0; 2048];
    alice.send_to(&packet(1), local).expect("sent");
    alice.recv_from(&mut octets).expect("an echo");
    let (of, event) = told.recv_timeout(Duration::from_secs(5)).expect("an event");
    assert_eq!(of, side(1));
    assert!(matches!(event, MediaEvent::FirstPacket { .. }), "{event:?}");
}
