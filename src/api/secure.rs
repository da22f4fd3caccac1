//! What every answer tells browsers and proxies: not to guess types, not to keep what is private, to stay with TLS.

use http::header::{CACHE_CONTROL, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue};

/// Noted by the server on requests that came encrypted.
#[derive(Clone, Copy, Debug)]
pub struct Encrypted;

/// A year, without subdomains: those may belong to somebody else.
const STAY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Answers are a caller's own: whoever may be kept by a proxy says so itself.
pub fn protect(headers: &mut HeaderMap, encrypted: bool) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if encrypted {
        headers.insert(STRICT_TRANSPORT_SECURITY, STAY);
    }
}
