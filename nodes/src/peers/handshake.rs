//! From a TCP connection to a proven node: TLS, proofs over its exporter, greetings.
//!
//! ```text
//! dialler                                  listener
//!    | TLS 1.3, certificates of both          |
//!    | Proof(dialler) ----------------------> |  nothing is said to whom does not know the secret
//!    | <------------- Proof(listener), Hello  |
//!    | Hello(track, link) ------------------> |  the same for the second connection of the pair
//!    | <---------------------------- Welcome  |  both are there: frames flow
//! ```
//!
//! In: a stream or an address. Out: a proven stream with its greeting, or why there is none. Which
//! of several connections counts is decided in `desk.rs`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use contract::limits::PEER_HELLO_BYTES_MAX;
use contract::{Loss, Peer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsStream;

use super::Shared;
use super::connection::Proven;
use super::keys::{PROOF_BYTES, Role};
use super::refusal::Refusal;
use super::wire::{self, Hello, Kind, Track};
use crate::env_os::{pause, within};

/// Longest wait for a TCP connection to open: a node answers in a round trip.
pub(super) const CONNECT: Duration = Duration::from_millis(500);
/// Longest time from an open TCP connection to its greeting.
pub(super) const PROVE: Duration = Duration::from_secs(2);
/// What the exporter's value is for (RFC 8446 §7.5, RFC 5705 §4).
const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL weft peer 1";
/// Octets read at once.
const READ_BYTES: usize = 1_024;
/// Tries to tell a process that is gone from one that is alive.
const PROBES_MAX: usize = 3;
/// Time in which a process that is just ending resets what its listener had taken.
const PROBE_WAIT: Duration = Duration::from_millis(30);

/// A proven node, with what it said of itself.
#[derive(Debug)]
pub(super) struct Met {
    pub hello: Hello,
    pub proven: Proven,
}

/// Opens a TCP connection from the address that we listen at.
///
/// # Errors
/// What the system says; `TimedOut` after [`CONNECT`].
pub(super) async fn open(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if from.is_ipv4() == to.is_ipv4() && !from.ip().is_unspecified() {
        socket.bind(SocketAddr::new(from.ip(), 0))?;
    }
    let opened = within(CONNECT, socket.connect(to)).await;
    let stream = opened.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Dials an address, up to the greeting of whoever is there.
///
/// # Errors
/// Why it is no node of this cluster.
pub(super) async fn dial(shared: &Shared, address: SocketAddr) -> Result<Met, Refusal> {
    let opened = open(shared.local, address).await;
    let stream = opened.map_err(|_| Refusal::Gone)?;
    within(PROVE, meet(shared, stream, address))
        .await
        .unwrap_or(Err(Refusal::Late))
}

async fn meet(shared: &Shared, stream: TcpStream, address: SocketAddr) -> Result<Met, Refusal> {
    let name = ServerName::IpAddress(address.ip().to_canonical().into());
    let connecting = shared.ends.connector.connect(name, stream);
    let mut stream = connecting.await.map_err(|_| Refusal::Tls)?;
    let exported = exported(|out, label| {
        let session = stream.get_ref().1;
        session.export_keying_material(out, label, None).is_ok()
    })?;
    let proof = shared.keys().prove(Role::Dialler, &exported);
    say(&mut stream, &[(Kind::Proof, &proof)]).await?;
    let mut buffer = BytesMut::new();
    let answer = hear(&mut stream, &mut buffer, Kind::Proof).await;
    // Whoever does not believe us says nothing; our operator is to know all the same.
    let untaken = |why| {
        if why == Refusal::Gone {
            Refusal::Untaken
        } else {
            why
        }
    };
    let proof = answer.map_err(untaken)?;
    if !shared.keys().believes(Role::Listener, &exported, &proof) {
        return Err(Refusal::Proof);
    }
    let hello = match greeting(shared, &mut stream, &mut buffer).await {
        Err(why @ (Refusal::Older | Refusal::Newer)) => {
            // The other operator is to read the same in his log.
            let ours = shared.hello(Track::Urgent, 0).encode();
            say(&mut stream, &[(Kind::Hello, &ours)]).await?;
            return Err(why);
        }
        met => met?,
    };
    let stream = TlsStream::from(stream);
    Ok(Met {
        hello,
        proven: Proven { stream, buffer },
    })
}

/// Lets somebody prove itself and greet.
///
/// # Errors
/// Why it is no node of this cluster.
pub(super) async fn receive(shared: &Shared, stream: TcpStream) -> Result<Met, Refusal> {
    within(PROVE, admit(shared, stream))
        .await
        .unwrap_or(Err(Refusal::Late))
}

async fn admit(shared: &Shared, stream: TcpStream) -> Result<Met, Refusal> {
    let accepting = shared.ends.acceptor.accept(stream);
    let mut stream = accepting.await.map_err(|error| {
        // Whoever leaves before a word is a probe of ours, or a port scan.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Refusal::Gone
        } else {
            Refusal::Tls
        }
    })?;
    let exported = exported(|out, label| {
        let session = stream.get_ref().1;
        session.export_keying_material(out, label, None).is_ok()
    })?;
    let mut buffer = BytesMut::new();
    let proof = hear(&mut stream, &mut buffer, Kind::Proof).await?;
    if !shared.keys().believes(Role::Dialler, &exported, &proof) {
        return Err(Refusal::Proof);
    }
    let proof = shared.keys().prove(Role::Listener, &exported);
    let ours = shared.hello(Track::Urgent, 0).encode();
    say(&mut stream, &[(Kind::Proof, &proof), (Kind::Hello, &ours)]).await?;
    let hello = greeting(shared, &mut stream, &mut buffer).await?;
    let stream = TlsStream::from(stream);
    Ok(Met {
        hello,
        proven: Proven { stream, buffer },
    })
}

fn exported(
    export: impl FnOnce(&mut [u8; PROOF_BYTES], &[u8]) -> bool,
) -> Result<[u8; PROOF_BYTES], Refusal> {
    let mut value = [0; PROOF_BYTES];
    if export(&mut value, EXPORTER_LABEL) {
        Ok(value)
    } else {
        Err(Refusal::Tls)
    }
}

async fn greeting(
    shared: &Shared,
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<Hello, Refusal> {
    let body = hear(stream, buffer, Kind::Hello).await?;
    let hello = Hello::decode(&body, shared.required())?;
    if hello.cluster != shared.cluster {
        return Err(Refusal::Cluster);
    }
    if hello.inst.node == shared.me.node {
        return Err(Refusal::Own);
    }
    Ok(hello)
}

/// Makes a pair of connections with a node that was met: greets on the first, opens the second.
///
/// # Errors
/// Why there is no pair. Which of the two sides gave up, the other one cannot know.
pub(super) async fn join(shared: &Shared, first: Met, link: u64) -> Result<Pair, Refusal> {
    let inst = first.hello.inst;
    let address = first.proven.stream.get_ref().0.peer_addr();
    let address = address.map_err(|_| Refusal::Gone)?;
    let mut urgent = first.proven;
    greet(shared, &mut urgent, Track::Urgent, link).await?;
    let second = dial(shared, address).await?;
    if second.hello.inst != inst {
        return Err(Refusal::Other);
    }
    let mut bulk = second.proven;
    let welcome = async {
        greet(shared, &mut bulk, Track::Bulk, link).await?;
        hear(&mut bulk.stream, &mut bulk.buffer, Kind::Welcome).await?;
        hear(&mut urgent.stream, &mut urgent.buffer, Kind::Welcome).await
    };
    within(PROVE, welcome).await.unwrap_or(Err(Refusal::Late))?;
    Ok(Pair {
        hello: first.hello,
        urgent,
        bulk,
    })
}

/// Both connections with a node.
#[derive(Debug)]
pub(super) struct Pair {
    pub hello: Hello,
    pub urgent: Proven,
    pub bulk: Proven,
}

async fn greet(shared: &Shared, to: &mut Proven, track: Track, link: u64) -> Result<(), Refusal> {
    let hello = shared.hello(track, link).encode();
    say(&mut to.stream, &[(Kind::Hello, &hello)]).await
}

async fn say(
    stream: &mut (impl AsyncWrite + Unpin),
    frames: &[(Kind, &[u8])],
) -> Result<(), Refusal> {
    let mut out = BytesMut::new();
    for (kind, body) in frames {
        wire::put(&mut out, *kind, body);
    }
    let written = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    written.await.map_err(|_| Refusal::Gone)
}

/// Reads one frame, which must be of this kind.
async fn hear(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    wanted: Kind,
) -> Result<Bytes, Refusal> {
    loop {
        match wire::take(buffer, PEER_HELLO_BYTES_MAX)? {
            Some((kind, body)) if kind == wanted => return Ok(body),
            Some(_) => return Err(Refusal::Frame),
            None => {}
        }
        buffer.reserve(READ_BYTES);
        match stream.read_buf(buffer).await {
            Ok(0) | Err(_) => return Err(Refusal::Gone),
            Ok(_) => {}
        }
    }
}

/// Finds out what became of a node whose connections ended without a word.
pub(super) async fn probe(shared: &Shared, peer: Peer) -> Loss {
    for _ in 0..PROBES_MAX {
        match open(shared.local, peer.address).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Loss::Refused;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => {
                tracing::debug!(node = %peer.inst, %error, "node does not answer");
                return Loss::Silent;
            }
            Ok(mut stream) => {
                // A listener that is going away with its process takes connections to its end.
                let mut octet = [0; 1];
                if within(PROBE_WAIT, stream.read(&mut octet)).await.is_none() {
                    return Loss::Closed;
                }
            }
        }
        pause(PROBE_WAIT / 3).await;
    }
    Loss::Closed
}
