//! `GET /docs`: a page to try the API, which loads nothing from outside and stores nothing.
//!
//! Its parts are files of their own, so that the page needs no inline script and its policy can forbid all of them.

use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_FRAME_OPTIONS,
};

use super::openapi;

/// Talks to this server alone, and stands in nobody's frame, where clicks could be led astray.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page to try all of this.
#[utoipa::path(get, path = "/docs", tag = openapi::OPERATIONS, operation_id = "docs",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html")))]
pub async fn page() -> Response {
    part("text/html; charset=utf-8", include_str!("docs/page.html"))
}

/// How the page looks.
#[utoipa::path(get, path = "/docs/page.css", tag = openapi::OPERATIONS, operation_id = "docs_style",
    responses((status = 200, description = "The style.", body = String, content_type = "text/css")))]
pub async fn style() -> Response {
    part("text/css; charset=utf-8", include_str!("docs/page.css"))
}

/// What the page does.
#[utoipa::path(get, path = "/docs/page.js", tag = openapi::OPERATIONS, operation_id = "docs_script",
    responses((status = 200, description = "The script.", body = String, content_type = "text/javascript")))]
pub async fn script() -> Response {
    part("text/javascript; charset=utf-8", include_str!("docs/page.js"))
}

fn part(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        // The next version's page must not meet this version's script.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
