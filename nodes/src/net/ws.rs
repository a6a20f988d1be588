//! Carries one WebSocket (RFC 6455): whole messages in, whole messages out, a close frame at the end.
//!
//! In: messages of the peer, octets of cores. Out: calls of the sink, `closed` once. It pings, ends
//! what does not answer, and tells the peer why it ends. What a message says is the actor's affair.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use contract::env::NetSink;
use contract::limits::{HEADER_DEADLINE_S, SIP_MESSAGE_BYTES_MAX};
use contract::{CloseCode, Door, FlowRef};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Utf8Bytes, protocol::frame::coding};

use super::connection::{Connection, End, Next};
use super::tcp::{FLUSH_DEADLINE, patience};
use super::web::Opening;
use crate::env_os::{pause, within};

/// Octets of the buffers of one WebSocket: most messages fit, and 10,000 of them cost 80 MiB.
const BUFFER_BYTES: usize = 4 * 1024;
/// Pings in a row that may stay without any sign of life.
const MISSING_MAX: u8 = 2;
/// Longest wait for the peer's own close frame.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Octets that are read and thrown away after our close frame, so that it is not lost to a reset.
const LINGER_BYTES_MAX: usize = 1 << 20;
/// Close code of text that is no UTF-8 (RFC 6455 §8.1): only this file has a use for it.
const BAD_DATA: u16 = 1_007;
/// Octets of the reason in a close frame (RFC 6455 §5.5: 125 with the code).
const REASON_BYTES_MAX: usize = 123;

/// How often what is done on a WebSocket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two pings.
    pub ping: Duration,
    /// For a message that has begun to arrive whole, checked twice in it (threats.md 8), and for the
    /// first message where it tells what is spoken.
    pub message: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            ping: Duration::from_secs(30),
            message: Duration::from_secs(HEADER_DEADLINE_S),
        }
    }
}

type Socket = WebSocketStream<Counted>;
type Reader = SplitStream<Socket>;
type Writer = SplitSink<Socket, Message>;

/// Carries a WebSocket to its end.
pub(super) async fn carry(
    opening: Opening,
    stream: TokioIo<Upgraded>,
    client: SocketAddr,
    door: Option<Door>,
) {
    let received = Arc::new(AtomicU64::new(0));
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(SIP_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(SIP_MESSAGE_BYTES_MAX));
    let counted = Counted {
        inner: stream,
        received: Arc::clone(&received),
    };
    let socket = WebSocketStream::from_raw_socket(counted, Role::Server, Some(config)).await;
    let (writer, reader) = socket.split();
    let mut wire = Wire {
        writer,
        reader,
        received,
    };
    let end = match enter(&opening, &mut wire, client, door).await {
        Ok((flow, first)) => live(opening, &mut wire, flow, first).await,
        Err(end) => Some(end),
    };
    wire.finish(end).await;
}

/// The two halves of a WebSocket.
struct Wire {
    writer: Writer,
    reader: Reader,
    received: Arc<AtomicU64>,
}

/// Finds out what is spoken and takes the connection in; with it the message that told.
async fn enter(
    opening: &Opening,
    wire: &mut Wire,
    client: SocketAddr,
    door: Option<Door>,
) -> Result<(FlowRef, Option<Bytes>), End> {
    let (door, first) = match door {
        Some(door) => (door, None),
        None => {
            let patience = opening.network.pace.message;
            let told = within(patience, first_message(&mut wire.reader)).await;
            let said_nothing = "no subprotocol, and nothing said that would tell one";
            let first = told.ok_or_else(|| End::new(CloseCode::Policy, said_nothing))??;
            if first.first() == Some(&b'{') {
                (Door::Json, Some(first))
            } else if opening.network.streams.rules.require_sip_subprotocol {
                let why = "SIP needs the subprotocol sip (RFC 7118)";
                return Err(End::new(CloseCode::Protocol, why));
            } else {
                (Door::Sip, Some(first))
            }
        }
    };
    match opening.sink.accepted(opening.listener, client, door) {
        Some(flow) => Ok((flow, first)),
        None => {
            metrics::counter!("weft_connections_refused_total").increment(1);
            Err(End::new(CloseCode::TryLater, "no room now"))
        }
    }
}

async fn first_message(reader: &mut Reader) -> Result<Bytes, End> {
    loop {
        match reader.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.into()),
            Some(Ok(Message::Binary(octets))) => return Ok(octets),
            Some(Ok(
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_),
            )) => {}
            Some(Err(error)) => return Err(end_of(&error)),
            None => return Err(End::new(CloseCode::Normal, "closed by the peer")),
        }
    }
}

/// Carries messages; returns what the peer is still to be told, `None` if it has closed by itself.
async fn live(
    mut opening: Opening,
    wire: &mut Wire,
    flow: FlowRef,
    first: Option<Bytes>,
) -> Option<End> {
    let connection = Arc::new(Connection::new(flow));
    if let FlowRef::Stream { number, .. } = flow {
        opening.place.put(number, Arc::clone(&connection));
    }
    metrics::gauge!("weft_connections").increment(1.0);
    let pace = opening.network.pace;
    let (end, is_told) = tokio::select! {
        biased;
        end = write(&connection, &mut wire.writer) => (end, false),
        end = connection.broken() => (end, false),
        ended = read(&connection, &mut wire.reader, &wire.received, &opening.sink, pace, first) => ended,
    };
    metrics::gauge!("weft_connections").decrement(1.0);
    opening.sink.closed(&flow, end.why.clone());
    (!is_told).then_some(end)
}

/// Reads to the end; `true` if the peer has closed by itself.
async fn read(
    connection: &Connection,
    reader: &mut Reader,
    received: &AtomicU64,
    sink: &Arc<dyn NetSink>,
    pace: Pace,
    first: Option<Bytes>,
) -> (End, bool) {
    let flow = connection.flow();
    if let Some(first) = first {
        deliver(sink, flow, first).await;
    }
    let mut watch = Watch::default();
    let mut ping = Box::pin(pause(pace.ping));
    let mut look = Box::pin(pause(pace.message / 2));
    loop {
        tokio::select! {
            biased;
            message = reader.next() => {
                watch.missing = 0;
                watch.read = received.load(Ordering::Relaxed);
                watch.has_waited = false;
                match message {
                    Some(Ok(Message::Text(text))) => deliver(sink, flow, text.into()).await,
                    Some(Ok(Message::Binary(octets))) => deliver(sink, flow, octets).await,
                    Some(Ok(
                        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_),
                    )) => {}
                    Some(Err(error)) => return (end_of(&error), false),
                    None => return (End::new(CloseCode::Normal, "closed by the peer"), true),
                }
            }
            () = &mut ping => {
                if watch.missing >= MISSING_MAX {
                    return (End::new(CloseCode::Policy, "pings are not answered"), false);
                }
                watch.missing += 1;
                connection.ping();
                ping = Box::pin(pause(pace.ping));
            }
            () = &mut look => {
                // Octets since the last whole message, twice in a row: it takes too long.
                let is_partial = received.load(Ordering::Relaxed) > watch.read;
                if is_partial && watch.has_waited {
                    return (End::new(CloseCode::Policy, "a message took too long"), false);
                }
                watch.has_waited = is_partial;
                look = Box::pin(pause(pace.message / 2));
            }
        }
    }
}

/// Hands a message on; a full inbox pushes back to the peer.
async fn deliver(sink: &Arc<dyn NetSink>, flow: &FlowRef, octets: Bytes) {
    if let Some(room) = sink.bytes(flow, octets) {
        room.await;
    }
}

/// What is watched of the peer.
#[derive(Debug, Default)]
struct Watch {
    /// Pings since its last sign of life.
    missing: u8,
    /// Octets up to its last whole message.
    read: u64,
    /// Half of the time for a message has passed.
    has_waited: bool,
}

async fn write(connection: &Connection, writer: &mut Writer) -> End {
    loop {
        let message = match connection.next() {
            Next::Write(octets) => message(octets),
            Next::Ping => Message::Ping(Bytes::new()),
            Next::Wait => {
                connection.changed().await;
                continue;
            }
            Next::End(end) => return end,
        };
        match within(patience(connection), writer.send(message)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => return end_of(&error),
            None => return End::new(CloseCode::TryLater, "the peer takes nothing"),
        }
    }
}

/// SIP and JSON are text (RFC 7118 §5); what is not goes as binary.
fn message(octets: Bytes) -> Message {
    match Utf8Bytes::try_from(octets.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(octets),
    }
}

impl Wire {
    /// Says why, waits a little for the peer to agree, and lets the socket go.
    async fn finish(self, end: Option<End>) {
        let Wire {
            mut writer,
            mut reader,
            ..
        } = self;
        if let Some(end) = end {
            let frame = Message::Close(Some(close_frame(&end)));
            let told = within(FLUSH_DEADLINE, writer.send(frame)).await;
            if matches!(told, Some(Ok(()))) {
                let agreed = async { while let Some(Ok(_)) = reader.next().await {} };
                let _ = within(CLOSE_DEADLINE, agreed).await;
            }
        }
        let Ok(socket) = reader.reunite(writer) else {
            return;
        };
        let mut stream = socket.into_inner();
        let rest = async {
            stream.shutdown().await?;
            let mut buffer = [0; BUFFER_BYTES];
            let mut read = 0;
            while read < LINGER_BYTES_MAX {
                match stream.read(&mut buffer).await? {
                    0 => break,
                    length => read += length,
                }
            }
            std::io::Result::Ok(())
        };
        let _ = within(CLOSE_DEADLINE, rest).await;
    }
}

fn close_frame(end: &End) -> CloseFrame {
    let mut length = end.why.len().min(REASON_BYTES_MAX);
    while !end.why.is_char_boundary(length) {
        length -= 1;
    }
    CloseFrame {
        code: coding::CloseCode::from(end.code),
        reason: end.why[..length].into(),
    }
}

/// Tells how a connection ends that cannot be read or written any more.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the library's errors: what is not the peer's fault is the network's"
)]
fn end_of(error: &Error) -> End {
    let code = match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::TooLong,
        Error::Utf8(_) => {
            return End {
                code: BAD_DATA,
                why: error.to_string(),
            };
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => CloseCode::GoingAway,
        Error::Protocol(_) | Error::Capacity(_) => CloseCode::Protocol,
        _ => CloseCode::GoingAway,
    };
    End::new(code, error.to_string())
}

/// A stream that counts the octets that come.
struct Counted {
    inner: TokioIo<Upgraded>,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let came = buffer.filled().len() - before;
        self.received
            .fetch_add(u64::try_from(came).unwrap_or(0), Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, octets)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
