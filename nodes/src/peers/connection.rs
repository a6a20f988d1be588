//! One of the two connections with a node, from its welcome to its end.
//!
//! In: a proven stream, an outbox. Out: frames to the sink, how it ended. Reading and writing are one
//! task; silence in either direction ends it. It decides nothing about the node.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use contract::limits::FRAME_BYTES_MAX;
use contract::{FrameClass, NodeInst, PeerSink};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::outbox::Outbox;
use super::refusal::Refusal;
use super::wire::{self, Kind, Track};
use crate::env_os::within;

/// Silence of ours after which we say that we live.
pub(super) const PING: Duration = Duration::from_millis(500);
/// Silence of the peer that ends the connection: three signs of life were missed, and a fourth is due.
pub(super) const SILENCE: Duration = Duration::from_millis(2_000);
/// Longest wait for the end of TLS to leave a closing connection.
const FLUSH: Duration = Duration::from_millis(500);
/// Octets read at once: four records of TLS.
const READ_BYTES: usize = 64 * 1024;
/// A buffer that one long frame has made larger than this is not kept.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// A stream whose other end is a node of the cluster, with what was read too far.
#[derive(Debug)]
pub(super) struct Proven {
    pub stream: TlsStream<TcpStream>,
    pub buffer: BytesMut,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing came, or nothing was taken.
    Silent,
    /// It was reset, or ended without a word.
    Broken,
    /// The peer closed it in order.
    Closed,
    /// The peer broke the rules.
    Violated(Refusal),
    /// We closed it in order.
    Ours,
}

/// Lets frames pass until it is shut: after the loss of a node is told, nothing of it arrives.
#[derive(Debug)]
pub(super) struct Gate(Mutex<bool>);

impl Gate {
    pub(super) const fn open() -> Self {
        Gate(Mutex::new(true))
    }

    /// Waits for the frame that is passing, if any.
    pub(super) fn shut(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn pass(&self, deliver: impl FnOnce()) {
        let is_open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_open {
            deliver();
        }
    }
}

/// What a connection needs while it runs.
pub(super) struct Running {
    pub from: NodeInst,
    pub track: Track,
    pub outbox: Arc<Outbox>,
    pub gate: Arc<Gate>,
    pub sink: Arc<dyn PeerSink>,
    /// Written first.
    pub first: BytesMut,
}

/// Runs it to its end.
pub(super) async fn run(proven: Proven, running: Running) -> Ended {
    let (reader, writer) = tokio::io::split(proven.stream);
    let Running { outbox, first, .. } = &running;
    tokio::select! {
        biased;
        ended = write(writer, outbox, first.clone()) => ended,
        ended = read(reader, proven.buffer, &running) => ended,
    }
}

async fn read(
    mut reader: impl AsyncRead + Unpin,
    mut buffer: BytesMut,
    running: &Running,
) -> Ended {
    loop {
        loop {
            match wire::take(&mut buffer, FRAME_BYTES_MAX) {
                Ok(None) => break,
                Ok(Some((kind, body))) => {
                    if let Some(ended) = judge(kind, body, running) {
                        return ended;
                    }
                }
                Err(why) => return Ended::Violated(why),
            }
        }
        if buffer.is_empty() && buffer.capacity() > BUFFER_BYTES_MAX {
            buffer = BytesMut::new();
        }
        buffer.reserve(READ_BYTES);
        match within(SILENCE, reader.read_buf(&mut buffer)).await {
            None => return Ended::Silent,
            Some(Ok(0) | Err(_)) => return Ended::Broken,
            Some(Ok(_)) => {}
        }
    }
}

fn judge(kind: Kind, body: Bytes, running: &Running) -> Option<Ended> {
    match kind {
        Kind::Frame(class) if Track::of(class) == running.track => {
            count("in", class);
            running
                .gate
                .pass(|| running.sink.frame(running.from, class, body));
            None
        }
        Kind::Ping => None,
        Kind::Close => Some(Ended::Closed),
        Kind::Frame(_) | Kind::Proof | Kind::Hello | Kind::Welcome => {
            Some(Ended::Violated(Refusal::Frame))
        }
    }
}

/// Counts a frame.
pub(super) fn count(way: &'static str, class: FrameClass) {
    let class = match class {
        FrameClass::Membership => "membership",
        FrameClass::Commit => "commit",
        FrameClass::InDialog => "in_dialog",
        FrameClass::Invite => "invite",
        FrameClass::Register => "register",
        FrameClass::Bulk => "bulk",
    };
    metrics::counter!("weft_peer_frames_total", "way" => way, "class" => class).increment(1);
}

async fn write(mut writer: impl AsyncWrite + Unpin, outbox: &Outbox, mut out: BytesMut) -> Ended {
    loop {
        let is_ending = outbox.take(&mut out);
        if !out.is_empty() {
            if let Some(ended) = push(&mut writer, &mut out).await {
                return ended;
            }
            continue;
        }
        if is_ending {
            return close(writer, out).await;
        }
        match within(SILENCE, writer.flush()).await {
            None => return Ended::Silent,
            Some(Err(_)) => return Ended::Broken,
            Some(Ok(())) => {}
        }
        if within(PING, outbox.changed()).await.is_none() {
            wire::put(&mut out, Kind::Ping, &[]);
        }
    }
}

/// Writes all of `out`; a peer that takes nothing for long is as silent as one that says nothing.
async fn push(writer: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> Option<Ended> {
    while out.has_remaining() {
        match within(SILENCE, writer.write_buf(out)).await {
            None => return Some(Ended::Silent),
            Some(Ok(0) | Err(_)) => return Some(Ended::Broken),
            Some(Ok(_)) => {}
        }
    }
    if out.capacity() > BUFFER_BYTES_MAX {
        *out = BytesMut::new();
    }
    None
}

async fn close(mut writer: impl AsyncWrite + Unpin, mut out: BytesMut) -> Ended {
    wire::put(&mut out, Kind::Close, &[]);
    if push(&mut writer, &mut out).await.is_none() {
        let _ = within(FLUSH, writer.shutdown()).await;
    }
    Ended::Ours
}
