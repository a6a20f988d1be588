//! The pages of the softphone, as they are built into the program.
//!
//! In: requests for static files. Out: the files, or 304 for a browser that has them. They are open to
//! everybody: what a page may do is decided at the WebSocket and the API.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use xxhash_rust::xxh3::xxh3_64;

use super::http::HttpParts;

/// Nothing of other origins, nothing inline; sound and WebSockets are what the page is for.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self' ws: wss:; media-src 'self' blob:; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

// `FILES`: name and octets of each file of `nodes/web`, written by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// One static file.
#[derive(Clone, Debug)]
struct Page {
    path: String,
    form: &'static str,
    octets: &'static [u8],
    tag: HeaderValue,
}

impl Page {
    /// A page is found under its name, an HTML page without the ending.
    fn of(name: &str, octets: &'static [u8]) -> Page {
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
        let form = match ending {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "application/octet-stream",
        };
        let shown = if ending == "html" { stem } else { name };
        let tag = format!("\"{:016x}\"", xxh3_64(octets));
        Page {
            path: format!("/{shown}"),
            form,
            octets,
            tag: HeaderValue::from_str(&tag).expect("digits in quotes are a header value"),
        }
    }
}

/// Returns the routes that anybody may ask.
pub(super) fn routes() -> Router<Arc<HttpParts>> {
    let mut routes = Router::new().route("/", get(start));
    for (name, octets) in FILES {
        let page = Page::of(name, octets);
        let path = page.path.clone();
        let answer = move |headers: HeaderMap| async move { answer(&page, &headers) };
        routes = routes.route(&path, get(answer));
    }
    routes
}

async fn start() -> Response {
    let to = (header::LOCATION, HeaderValue::from_static("/phone"));
    (StatusCode::FOUND, [to]).into_response()
}

fn answer(page: &Page, headers: &HeaderMap) -> Response {
    let tag = page.tag.to_str().unwrap_or_default();
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known.filter_map(|line| line.to_str().ok());
    let is_known = known.any(|line| {
        let mut tags = line.split(',').map(str::trim);
        tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(page.octets))
    };
    let headers = response.headers_mut();
    // Asked about each time: a new version of the program is a new page at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    headers.insert(header::ETAG, page.tag.clone());
    if !is_known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.form));
    }
    response
}
