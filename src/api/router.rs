//! Every path on one page.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::response::Response;
use axum::routing::{get, post};
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use tower_http::catch_panic::CatchPanicLayer;

use super::caller::{Needs, identify as identify_caller};
use super::edge::{Edge, outermost, panicked, request_id, sound};
use super::error::ApiError;
use super::idempotency::{Idempotency, once};
use super::{budgets, chat, health, keys, metrics, models, requests, route, speech, usage};
use crate::gateway::Gateway;
use crate::operations::Operations;
use crate::tenant::access::Access;
use crate::tenant::keeper::Keeper;
use crate::tenant::role::Role;

/// What handlers may ask for; each takes the parts that it uses.
#[derive(Clone)]
pub struct Shared {
    pub gateway: Arc<Gateway>,
    pub operations: Arc<Operations>,
    pub access: Arc<Access>,
    pub keeper: Arc<Keeper>,
    pub idempotency: Arc<Idempotency>,
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
                     POST /v1/responses, POST /v1/completions, POST /v1/embeddings, POST /v1/route, GET /v1/models, GET /v1/usage, GET /v1/usage/compare, GET /v1/budgets, \
                     GET /v1/requests, GET /v1/keys, POST /v1/keys, GET /gateway/status, GET /health, GET /metrics";

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
            .route(&at("/budgets"), get(budgets::list))
            .route(&at("/requests"), get(requests::recent))
            .route(&at("/requests/{id}"), get(requests::one))
    };
    // A client that appends its own `/v1` to a base URL that has one, or none where there is none, means the same.
    let paths = ["/v1", "/openai/v1", "/anthropic/v1", "/v1/v1", ""];
    let asked = paths.into_iter().fold(Router::new(), v1);
    let admin = Router::new()
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", get(keys::one).delete(keys::revoke))
        .route("/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/v1/keys/{id}/revoke", post(keys::revoke));
    let router = open()
        .merge(watched(&shared))
        .merge(behind(asked, &shared, Needs::Role(Role::Member)))
        .merge(behind(admin, &shared, Needs::Role(Role::Admin)))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method);
    layered(router, &shared).with_state(shared)
}

/// What is served to a connection for which there is no room: the operational paths, and a request to come back.
pub fn full(shared: Shared) -> Router {
    let router = open().merge(watched(&shared)).fallback(no_room);
    layered(router, &shared).layer(axum::middleware::map_response(close)).with_state(shared)
}

/// Paths that ask for more than reaching them. Who calls is known before anything is done, and done twice.
fn behind(router: Router<Shared>, shared: &Shared, needs: Needs) -> Router<Shared> {
    let router = match needs {
        Needs::Role(_) => router.route_layer(axum::middleware::from_fn_with_state(shared.clone(), once)),
        Needs::Metrics => router,
    };
    router.route_layer(axum::middleware::from_fn_with_state((shared.clone(), needs), identify_caller))
}

/// The paths by which operators watch a server.
fn watched(shared: &Shared) -> Router<Shared> {
    let status = Router::new().route("/gateway/status", get(health::status));
    let metrics = Router::new().route("/metrics", get(metrics::text));
    behind(status, shared, Needs::Role(Role::Operator)).merge(behind(metrics, shared, Needs::Metrics))
}

/// The only paths without a credential: whether the process lives and can work. They tell nothing about callers.
fn open() -> Router<Shared> {
    Router::new()
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/livez", get(health::live))
        .route("/healthz", get(health::live))
        .route("/health/liveliness", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/readyz", get(health::ready))
        .route("/health/readiness", get(health::ready))
}

fn layered(router: Router<Shared>, shared: &Shared) -> Router<Shared> {
    let edge = Arc::new(Edge::new(shared.gateway.clone()));
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::from_fn(sound))
        // Outermost: also an answer to a panic carries the request id.
        .layer(axum::middleware::from_fn_with_state(edge, outermost))
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
