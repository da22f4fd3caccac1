//! Every path on one page.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::response::Response;
use axum::routing::{get, post};
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use tower_http::catch_panic::CatchPanicLayer;

use super::edge::{identify, panicked, request_id, sound};
use super::error::ApiError;
use super::{chat, health, metrics, models, requests, route, speech, usage};
use crate::gateway::Gateway;
use crate::operations::Operations;

/// What handlers may ask for; each takes the parts that it uses.
#[derive(Clone)]
pub struct Shared {
    pub gateway: Arc<Gateway>,
    pub operations: Arc<Operations>,
}

impl FromRef<Shared> for Arc<Gateway> {
    fn from_ref(shared: &Shared) -> Self {
        shared.gateway.clone()
    }
}

impl FromRef<Shared> for Arc<Operations> {
    fn from_ref(shared: &Shared) -> Self {
        shared.operations.clone()
    }
}

/// Named in the answer to an unknown path.
const PATHS: &str = "POST /v1/chat/completions, POST /v1/messages, POST /v1/messages/count_tokens, \
                     POST /v1/responses, POST /v1/completions, POST /v1/embeddings, POST /v1/route, GET /v1/models, GET /v1/usage, GET /v1/usage/compare, \
                     GET /v1/requests, GET /gateway/status, GET /health, GET /metrics";

pub fn router(shared: Shared) -> Router {
    // Spelled out twice and not nested: nesting rewrites the path of every request.
    let v1 = |router: Router<Shared>, prefix: &str| {
        let at = |path: &str| format!("{prefix}{path}");
        router
            .route(&at("/chat/completions"), post(chat::completions))
            .route(&at("/messages"), post(speech::messages))
            .route(&at("/messages/count_tokens"), post(speech::count_tokens))
            .route(&at("/embeddings"), post(speech::embeddings))
            .route(&at("/responses"), post(speech::responses))
            .route(&at("/completions"), post(speech::completions))
            .route(&at("/route"), post(route::route))
            .route(&at("/models"), get(models::list))
            .route(&at("/models/{*id}"), get(models::one))
            .route(&at("/usage"), get(usage::report))
            .route(&at("/usage/compare"), get(usage::compare))
            .route(&at("/requests"), get(requests::recent))
            .route(&at("/requests/{id}"), get(requests::one))
    };
    // A client that appends its own `/v1` to a base URL that has one, or none where there is none, means the same.
    let paths = ["/v1", "/openai/v1", "/anthropic/v1", "/v1/v1", ""];
    let router = paths.into_iter().fold(Router::new(), v1);
    let router = operational(router).fallback(unknown_path).method_not_allowed_fallback(wrong_method);
    layered(router).with_state(shared)
}

/// What is served to a connection for which there is no room: the operational paths, and a request to come back.
pub fn full(shared: Shared) -> Router {
    let router = operational(Router::new()).fallback(no_room);
    layered(router).layer(axum::middleware::map_response(close)).with_state(shared)
}

/// The paths by which a server is watched.
fn operational(router: Router<Shared>) -> Router<Shared> {
    router
        .route("/gateway/status", get(health::status))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/livez", get(health::live))
        .route("/healthz", get(health::live))
        .route("/health/liveliness", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/readyz", get(health::ready))
        .route("/health/readiness", get(health::ready))
        .route("/metrics", get(metrics::text))
}

fn layered(router: Router<Shared>) -> Router<Shared> {
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::from_fn(sound))
        // Outermost: also an answer to a panic carries the request id.
        .layer(axum::middleware::from_fn(identify))
}

/// Such a connection is good for one answer.
async fn close(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn no_room(headers: HeaderMap) -> Response {
    ApiError::overloaded("too_many_connections", "the server has no room for another connection", RETRY_AFTER)
        .respond(request_id(&headers))
}

/// Seconds after which a refused connection is worth another try: others end all the time.
const RETRY_AFTER: u64 = 1;

async fn unknown_path(headers: HeaderMap, uri: Uri) -> Response {
    let message =
        format!("nothing is served at `{}`; there is {PATHS}", uri.path().chars().take(200).collect::<String>());
    ApiError::request(StatusCode::NOT_FOUND, "unknown_url", None, message).respond(request_id(&headers))
}

async fn wrong_method(headers: HeaderMap, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("`{path}` is not served for this method; there is {PATHS}");
    ApiError::request(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", None, message).respond(request_id(&headers))
}
