//! Every path on one page.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::response::Response;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::routes;

use super::caller::{Needs, Salt};
use super::edge::{Edge, outermost, panicked, request_id, sound};
use super::error::ApiError;
use super::idempotency::Idempotency;
use super::later::Desk;
use super::openapi::Served;
use super::{
    batches, budgets, chat, docs, events, files, health, keys, metrics, models, openapi, operate, progress, requests,
    route, sagas, speech, usage,
};
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
    pub desk: Arc<Desk>,
    pub salt: Salt,
}

impl FromRef<Shared> for Arc<Desk> {
    fn from_ref(shared: &Shared) -> Self {
        shared.desk.clone()
    }
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

pub fn router(shared: Shared) -> Router {
    let asked = Served::default()
        .api(routes!(chat::completions))
        .api(routes!(speech::messages))
        .api(routes!(speech::count_tokens))
        .api(routes!(speech::responses))
        .api(routes!(speech::completions))
        .api(routes!(speech::embeddings))
        .api(routes!(route::route))
        .api(routes!(models::list))
        .api(routes!(models::one))
        .api(routes!(usage::report))
        .api(routes!(usage::compare))
        .api(routes!(budgets::list))
        .api(routes!(requests::recent))
        .api(routes!(requests::one))
        .api(routes!(progress::cancel))
        .api(routes!(progress::response))
        .api(routes!(progress::cancel_response))
        .api(routes!(events::list))
        .api(routes!(files::list, files::create))
        .api(routes!(files::one, files::delete))
        .api(routes!(files::content))
        .api(routes!(batches::list, batches::create))
        .api(routes!(batches::one))
        .api(routes!(batches::cancel))
        .api(routes!(sagas::create));
    let admin = Served::default()
        .beside(routes!(keys::list, keys::create), &[])
        .beside(routes!(keys::one, keys::delete), &[])
        .beside(routes!(keys::rotate), &[])
        .beside(routes!(keys::revoke), &[]);
    let (router, document) = open(Served::default())
        .beside(routes!(openapi::document), &[])
        .beside(routes!(docs::page), &[])
        .beside(routes!(docs::style), &[])
        .beside(routes!(docs::script), &[])
        .and(watched(&shared))
        .and(asked.behind(&shared, Needs::Role(Role::Member)))
        .and(admin.behind(&shared, Needs::Role(Role::Admin)))
        .finish();
    openapi::publish(&document);
    let router = router.fallback(unknown_path).method_not_allowed_fallback(wrong_method);
    layered(router, &shared).with_state(shared)
}

/// What is served to a connection for which there is no room: the operational paths, and a request to come back.
pub fn full(shared: Shared) -> Router {
    let (router, _) = open(Served::default()).and(watched(&shared)).finish();
    let router = router.fallback(no_room);
    layered(router, &shared).layer(axum::middleware::map_response(close)).with_state(shared)
}

/// The paths by which operators watch a server, and tell it what to do.
fn watched(shared: &Shared) -> Served {
    let status = Served::default()
        .beside(routes!(health::status), &[])
        .beside(routes!(operate::drain), &[])
        .beside(routes!(operate::reload), &[]);
    let metrics = Served::default().beside(routes!(metrics::text), &[]);
    status.behind(shared, Needs::Role(Role::Operator)).and(metrics.behind(shared, Needs::Metrics))
}

/// The only paths without a credential: whether the process lives and can work, and how to ask. They tell nothing about
/// callers.
fn open(served: Served) -> Served {
    served
        .beside(routes!(health::health), &[])
        .beside(routes!(health::live), &["/livez", "/healthz", "/health/liveliness"])
        .beside(routes!(health::ready), &["/readyz", "/health/readiness"])
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
    let message = format!(
        "nothing is served at `{}`; there is {}",
        uri.path().chars().take(200).collect::<String>(),
        openapi::paths()
    );
    ApiError::request(StatusCode::NOT_FOUND, "unknown_url", None, message).respond(request_id(&headers))
}

async fn wrong_method(headers: HeaderMap, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("`{path}` is not served for this method; there is {}", openapi::paths());
    ApiError::request(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", None, message).respond(request_id(&headers))
}
