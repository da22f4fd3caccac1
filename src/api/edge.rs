//! The layers around every path, outermost first: request id, panics, then the handler.
//!
//! The id travels in the request's own `x-request-id` header: the caller's if it is sane, else a fresh one.

use std::any::Any;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::error::ApiError;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over.
const MAX_ID: usize = 128;

/// Gives every request an id and every answer the same.
pub async fn identify(mut request: Request, next: Next) -> Response {
    let id = request.headers().get(&REQUEST_ID).filter(|id| is_sane(id)).cloned().unwrap_or_else(fresh);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The id of a request that has passed [`identify`].
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
