//! The event log as a WebSocket (RFC 6455): one JSON text an event, with the cursor after it.
//!
//! In: a reader and a request that the guard has let in. Out: texts. What the peer says is read only to
//! answer pings and to notice its end; a peer that takes nothing for a while is closed.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use cluster::{Cursor, Item};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::api::Problem;
use super::events::{HEARTBEAT, Reader, Shown, to_json};
use crate::env_os::within;

/// Longest time for the 101 to leave, and for a text to be taken by the peer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Octets of a message of the peer: it has nothing to say.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Characters of a key; any that is not empty and short is taken.
const KEY_CHARACTERS_MAX: usize = 128;
/// Heartbeats in a row without any sign of life.
const MISSING_MAX: u8 = 2;

/// Tells whether a request wants a WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let upgrade = headers
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Answers 101 and carries the reader in a task of its own.
pub(super) fn upgrade(reader: Reader, mut request: Request) -> Result<Response, Problem> {
    let text = |name| {
        let value = request.headers().get(name);
        value.and_then(|value: &HeaderValue| value.to_str().ok())
    };
    if text(header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(Problem::bad("Sec-WebSocket-Version must be 13"));
    }
    let key = text(header::SEC_WEBSOCKET_KEY);
    let key = key.filter(|key| (1..=KEY_CHARACTERS_MAX).contains(&key.len()));
    let accept = key.map(|key| derive_accept_key(key.as_bytes()));
    let accept = accept.and_then(|accept| HeaderValue::from_str(&accept).ok());
    let accept = accept.ok_or_else(|| Problem::bad("Sec-WebSocket-Key is missing or wrong"))?;
    let upgraded = hyper::upgrade::on(&mut request);
    spawn(async move {
        match within(PATIENCE, upgraded).await {
            Some(Ok(stream)) => carry(reader, TokioIo::new(stream)).await,
            Some(Err(error)) => tracing::debug!(%error, "WebSocket upgrade of a reader"),
            None => tracing::debug!("WebSocket upgrade of a reader took too long"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

#[allow(
    clippy::disallowed_methods,
    reason = "a connection of the operating system's side: no simulated node has one"
)]
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

async fn carry(mut reader: Reader, stream: TokioIo<Upgraded>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut writer, mut peer) = socket.split();
    let mut missing = 0;
    loop {
        let messages = tokio::select! {
            biased;
            heard = peer.next() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {
                    missing = 0;
                    continue;
                }
            },
            shown = reader.next() => match shown {
                Shown::End => break,
                Shown::Items(items) => items.iter().map(text).collect(),
                Shown::Quiet(_) => {
                    missing += 1;
                    vec![Message::Ping(axum::body::Bytes::new())]
                }
            },
        };
        if missing > MISSING_MAX {
            tracing::debug!(took_us = HEARTBEAT.as_micros(), "a reader is silent");
            break;
        }
        let sent = within(PATIENCE, async {
            for message in messages {
                writer.feed(message).await?;
            }
            writer.flush().await
        });
        if !matches!(sent.await, Some(Ok(()))) {
            break;
        }
    }
    // Whoever is still there hears that it is over.
    let _ = within(PATIENCE, writer.close()).await;
}

fn text((item, cursor): &(Item, Cursor)) -> Message {
    let mut object = to_json(item);
    object.insert("cursor".to_owned(), json!(cursor.to_string()));
    Message::text(Value::Object(object).to_string())
}
