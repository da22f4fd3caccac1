//! What operators do to a running server: take it out of its balancer, and have it read its configuration anew.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::caller::Caller;
use super::edge::request_id;
use super::error::ApiError;
use super::openapi::{self, answered};
use crate::gateway::Gateway;
use crate::operations::Operations;

/// Models that have to be discovered are asked for; nothing takes longer than that.
const RELOAD_WAIT: Duration = Duration::from_secs(30);

/// Turns readiness off, so that balancers send no more; requests go on. There is no way back but a new start, so it takes a
/// key also where nothing else does.
#[utoipa::path(post, path = "/gateway/drain", tag = openapi::OPERATIONS, operation_id = "drain",
    responses((status = 200, description = "It is draining.", body = answered::Drained),
        (status = 403, description = "This needs the key of an operator.", body = answered::Failed)))]
pub async fn drain(
    State(operations): State<Arc<Operations>>,
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
) -> Response {
    if caller.tenant.is_anonymous() {
        let message =
            "this needs the key of an operator; `stepwell keys create --role operator` makes one, SIGTERM needs none";
        return ApiError::request(StatusCode::FORBIDDEN, "insufficient_role", None, message)
            .respond(request_id(&headers));
    }
    if !operations.is_draining() {
        tracing::info!("draining, as an operator asked");
    }
    operations.drain();
    Json(json!({"status": "draining", "in_flight": gateway.in_flight()})).into_response()
}

/// Reads the configuration anew, as SIGHUP does. A file with mistakes leaves the rules that are in force.
#[utoipa::path(post, path = "/gateway/reload", tag = openapi::OPERATIONS, operation_id = "reload",
    responses((status = 200, description = "The rules in force are those of the file.", body = answered::Reloaded),
        (status = 422, description = "The file has mistakes; the old rules stay in force.", body = answered::Failed)))]
pub async fn reload(
    State(operations): State<Arc<Operations>>,
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
) -> Response {
    if tokio::time::timeout(RELOAD_WAIT, operations.ask_for_reload()).await.is_err() {
        let error =
            ApiError::unavailable("reload_pending", "the reload takes longer than usual; /health shows its end");
        return error.respond(request_id(&headers));
    }
    let reload = operations.reload();
    match reload.error {
        Some(error) => ApiError::request(StatusCode::UNPROCESSABLE_ENTITY, "invalid_configuration", None, error)
            .respond(request_id(&headers)),
        None => Json(json!({"origin": reload.origin, "version": gateway.rules().version})).into_response(),
    }
}
