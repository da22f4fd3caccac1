//! The layers around every path, outermost first: request id, headers for browsers and proxies, compression, pages of other
//! origins, sound addresses, panics, then the handler.
//!
//! The id travels in the request's own `x-request-id` header: the caller's if it is sane, else a fresh one.

use std::any::Any;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{ACCEPT_ENCODING, CONNECTION, HOST, HeaderName, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, Version};

use super::compression;
use super::cors::Cors;
use super::error::ApiError;
use super::secure::{Encrypted, protect};
use crate::gateway::Gateway;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over.
const MAX_ID: usize = 128;

/// Gives every request an id and every answer the same, and does what concerns all of them: one layer, because each costs
/// every request an allocation.
pub async fn outermost(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let id = request.headers().get(&REQUEST_ID).filter(|id| is_sane(id)).cloned().unwrap_or_else(fresh);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let encrypted = request.extensions().get::<Encrypted>().is_some();
    let accepts = request.headers().get(ACCEPT_ENCODING).cloned();
    let mut response = edge.cors.around(request, next).await;
    if let Some(accepts) = accepts.filter(|_| edge.gateway.rules().settings.server.compression) {
        response = compression::fit(response, accepts).await;
    }
    protect(response.headers_mut(), encrypted);
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// What the outermost layer needs.
pub struct Edge {
    gateway: Arc<Gateway>,
    cors: Cors,
}

impl Edge {
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { cors: Cors::new(gateway.clone()), gateway }
    }
}

/// A request that came behind another one, before that was answered. Nobody has looked at the bytes of its head, in which
/// a second length would be seen: the protocol library drops it.
#[derive(Clone, Copy)]
pub struct Unexamined;

/// Lets nothing in about whose target two readers could disagree: an address with a server in it (this is no proxy), no
/// `Host` or several, or one that is no host. Which host it is makes no difference to anything.
pub async fn sound(request: Request, next: Next) -> Response {
    let wrong = match request.version() {
        // There the address has scheme and host by design, and the protocol library checks them.
        Version::HTTP_2 | Version::HTTP_3 => None,
        version => unsound(request.uri(), request.headers(), version).or_else(|| blind(&request)),
    };
    match wrong {
        None => next.run(request).await,
        Some(message) => {
            let mut response = ApiError::request(StatusCode::BAD_REQUEST, "invalid_http", None, message)
                .respond(request_id(request.headers()));
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

fn blind(request: &Request) -> Option<&'static str> {
    let is_blind = request.extensions().get::<Unexamined>().is_some();
    (is_blind && request.headers().contains_key(TRANSFER_ENCODING))
        .then_some("a request with `transfer-encoding` has to wait for the answer to the one before")
}

fn unsound(uri: &Uri, headers: &HeaderMap, version: Version) -> Option<&'static str> {
    if uri.authority().is_some() || uri.scheme().is_some() {
        return Some("the request's address is a path, such as `/v1/chat/completions`, without a server in it");
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Some("the `host` header is missing"),
        (None, _) => None,
        (Some(_), Some(_)) => Some("there is more than one `host` header"),
        (Some(host), None) => (!is_host(host.as_bytes())).then_some("the `host` header is no host"),
    }
}

/// A name or an address, perhaps with a port (RFC 9112, section 3.2): letters, digits, `-._~%!$&'()*+,;=:[]`.
fn is_host(host: &[u8]) -> bool {
    let host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    host.len() <= LONGEST_HOST
        && host.iter().all(host_byte)
        && std::str::from_utf8(host).is_ok_and(|host| host.is_empty() || host.parse::<Authority>().is_ok())
}

/// A name has at most 253 characters, a port five.
const LONGEST_HOST: usize = 260;

/// The id of a request that has passed [`outermost`].
pub fn request_id(headers: &HeaderMap) -> &str {
    headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default()
}

fn fresh() -> HeaderValue {
    let id = format!("req_{}", uuid::Uuid::now_v7().simple());
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("req_unknown"))
}

/// Letters, digits and `-_.:`: safe in a log line, a URL and a header.
fn is_sane(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=MAX_ID).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
}

/// A panic ends one request with 500, never the process.
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> http::Response<Body> {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("unknown"), "a handler panicked; this is a bug in stepwell");
    ApiError::internal().respond("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_ids_are_taken_over() {
        for (id, sane) in
            [("abc-1.2_3:4", true), ("", false), ("a b", false), ("a\"b", false), (&"x".repeat(129)[..], false)]
        {
            assert_eq!(is_sane(&HeaderValue::from_str(id).expect("header")), sane, "{id}");
        }
    }
}
