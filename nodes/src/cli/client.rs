//! The command line's side of the HTTP API: one request a connection.
//!
//! In: a URL, a method, a path. Out: status and JSON. It follows no redirect and speaks plain HTTP
//! to the node that the operator names.

use std::time::Duration;

use bytes::Bytes;
use contract::Secret;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{AskArgs, Failure};
use crate::config::read_token;
use crate::env_os::within;

/// Longest wait for the whole answer: the node's own deadline and a little.
const DEADLINE: Duration = Duration::from_secs(10);
/// Octets of an answer: a thousand full actors fit.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// One request.
pub(super) struct Call<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Path and query.
    pub path: String,
    /// JSON body, or nothing.
    pub body: String,
}

/// Asks a node; anything but success is a failure with what the node said.
pub(super) fn call(arguments: &AskArgs, call: &Call<'_>) -> Result<Value, Failure> {
    let authority = authority(&arguments.url)?;
    let token = token(arguments);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::run(format!("starting: {error}")))?;
    let url = &arguments.url;
    let answered = runtime.block_on(within(DEADLINE, exchange(&authority, call, token.as_ref())));
    let (status, body) = match answered {
        Some(Ok(answer)) => answer,
        Some(Err(why)) => return Err(Failure::run(format!("asking {url}: {why}"))),
        None => {
            return Err(Failure::run(format!(
                "asking {url}: no answer in {DEADLINE:?}"
            )));
        }
    };
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    if (200..300).contains(&status) {
        return Ok(value);
    }
    let detail = value["detail"].as_str().unwrap_or("no detail");
    let text = format!("asking {url}: {status} {detail}");
    // 400 and 404 name what the operator typed.
    Err(if matches!(status, 400 | 404) {
        Failure::input(text)
    } else {
        Failure::run(text)
    })
}

pub(super) fn authority(url: &str) -> Result<String, Failure> {
    let bad = || Failure::input(format!("--url {url}: allowed: http://HOST:PORT"));
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(bad)?
        .trim_end_matches('/');
    let is_fine = !rest.is_empty()
        && rest
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b".-:[]_".contains(&octet));
    if !is_fine {
        return Err(bad());
    }
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port {
        rest.to_owned()
    } else {
        format!("{rest}:80")
    })
}

/// Returns WEFT_TOKEN, or the token of the data folder if there is one: a look needs none.
pub(super) fn token(arguments: &AskArgs) -> Option<Secret> {
    let said = std::env::var("WEFT_TOKEN")
        .ok()
        .filter(|token| !token.is_empty());
    said.map(Secret::new)
        .or_else(|| read_token(&arguments.data).ok())
}

async fn exchange(
    authority: &str,
    call: &Call<'_>,
    token: Option<&Secret>,
) -> Result<(u16, Bytes), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|error| text(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    let mut request = hyper::Request::builder()
        .method(call.method)
        .uri(&call.path)
        .header(hyper::header::HOST, authority)
        .header(hyper::header::CONNECTION, "close");
    if let Some(token) = token {
        let bearer = format!("Bearer {}", token.expose());
        request = request.header(hyper::header::AUTHORIZATION, bearer);
    }
    let body = Full::new(Bytes::from(call.body.clone()));
    let request = request.body(body).map_err(|error| text(&error))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| text(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| text(&error))?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(text(&error)),
        },
    }
}

/// Writes a text into a path or query: all but unreserved characters percent-encoded (RFC 3986).
pub(super) fn escaped(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~:@".contains(&octet) {
            path.push(char::from(octet));
        } else {
            path.push_str(&format!("%{octet:02X}"));
        }
    }
    path
}
