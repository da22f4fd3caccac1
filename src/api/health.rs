//! Is it alive, is it ready, what does it think of its targets.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::openapi::{self, answered};
use crate::admission::shared::Standing;
use crate::gateway::Gateway;
use crate::gateway::error::remaining;
use crate::gateway::snapshot::Snapshot;
use crate::rank::score::Availability;

use super::router::Shared;

/// The process answers. Never touches a provider.
#[utoipa::path(get, path = "/health/live", tag = openapi::OPERATIONS, operation_id = "live",
    responses((status = 200, description = "It is alive.", body = answered::Live)))]
pub async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// At least one target can be asked, and the server is not draining.
#[utoipa::path(get, path = "/health/ready", tag = openapi::OPERATIONS, operation_id = "ready",
    responses((status = 200, description = "Requests are welcome.", body = answered::Ready),
        (status = 503, description = "They would fail, or the server is about to stop.", body = answered::Ready)))]
pub async fn ready(State(shared): State<Shared>) -> Response {
    let usable = usable(&shared.gateway, &shared.gateway.rules());
    let draining = shared.operations.is_draining();
    let ready = usable > 0 && !draining;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if draining {
        "draining"
    } else if ready {
        "ready"
    } else {
        "no usable target"
    };
    (status, Json(json!({"status": word, "usable_targets": usable}))).into_response()
}

/// Everything an operator looks at first.
#[utoipa::path(get, path = "/health", tag = openapi::OPERATIONS, operation_id = "health",
    responses((status = 200, description = "How it is.", body = answered::Health)))]
pub async fn health(State(shared): State<Shared>) -> Json<Value> {
    let rules = shared.gateway.rules();
    let ledger = shared.gateway.ledger.health();
    let mut reload = shared.operations.reload();
    if shared.access.is_required(&rules.settings.tenants.auth) {
        // Whoever asks has not said who it is: what is wrong in the file is for operators (`/gateway/reload`, the log).
        reload.error = reload.error.map(|_| "the newest configuration has mistakes; operators see which".to_owned());
    }
    let (in_flight, queued, waiting_for_provider) = shared.gateway.occupancy();
    let load = json!({"in_flight": in_flight, "queued": queued, "waiting_for_provider": waiting_for_provider});
    let shared_store = shared.gateway.shared().map(|shared| shared.counters.standing());
    let shared_gone = shared_store.as_ref().is_some_and(|standing| !standing.is_up);
    let store_error = shared.operations.store_error();
    let queue = shared.desk.kept.queue.standing();
    let queue_gone = queue.as_ref().is_some_and(|standing| !standing.is_up);
    let degraded = shared_gone
        || queue_gone
        || store_error.is_some()
        || reload.error.is_some()
        || ledger.status != "ok"
        || usable(&shared.gateway, &rules) == 0;
    Json(json!({
        "status": if shared.operations.is_draining() { "draining" } else if degraded { "degraded" } else { "ok" },
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": shared.operations.started().elapsed().as_secs(),
        "usable_targets": usable(&shared.gateway, &rules),
        "targets": rules.index.targets().len(),
        "configuration": {
            "origin": reload.origin,
            "version": rules.version,
            "reloads_failed": reload.failed,
            "error": reload.error,
        },
        "store": {"status": if store_error.is_some() { "unreachable" } else { "ok" }, "error": store_error},
        "ledger": ledger,
        "shared": shared_store.as_ref().map(store),
        "queue": queue.map(|queue| json!({"status": if queue.is_up { "ok" } else { "gone" }, "reason": queue.reason})),
        "load": load,
        "cached_answers": shared.gateway.cached_answers(),
    }))
}

/// Models, strategy, and the breaker of every target with its cause and the time of re-admission.
#[utoipa::path(get, path = "/gateway/status", tag = openapi::OPERATIONS, operation_id = "status",
    responses((status = 200, description = "How its targets are.", body = answered::Status)))]
pub async fn status(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    let rules = gateway.rules();
    let now = Instant::now();
    let wall = jiff::Timestamp::now();
    let targets: Vec<Value> = rules
        .index
        .targets()
        .iter()
        .map(|target| {
            let status = gateway.dispatcher.fleet.status(target, rules.policy(&target.provider), now);
            let vitals = &status.vitals;
            let remaining = remaining(&vitals.availability);
            let cause = (!status.cause.is_empty()).then_some(&status.cause);
            json!({
                "provider": *target.provider.name,
                "model": target.model.id,
                "state": vitals.availability.as_str(),
                "cause": cause,
                "readmitted_in_ms": remaining.map(|remaining| remaining.as_millis() as u64),
                "readmitted_at": remaining.and_then(|remaining| wall.checked_add(remaining).ok()).map(|at| at.to_string()),
                "opened": status.opened,
                "in_flight": vitals.pending,
                "first_token_ms": vitals.first_token.map(|first| first.as_millis() as u64),
                "tokens_per_second": vitals.tokens_per_second.map(|pace| (pace * 10.0).round() / 10.0),
                "routable": target.model.routable,
            })
        })
        .collect();
    let routing = &rules.settings.routing;
    Json(json!({
        "strategy": routing.strategy.as_str(),
        "weights": routing.weights,
        "fallback_enabled": routing.max_attempts > 1,
        "max_attempts": routing.max_attempts,
        "aliases": rules.index.aliases().collect::<Vec<_>>(),
        "models": rules.index.targets().iter().map(|target| target.id.as_str()).collect::<Vec<_>>(),
        "configuration_version": rules.version,
        "shared": gateway.shared().map(|shared| store(&shared.counters.standing())),
        "targets": targets,
    }))
}

/// The store that all replicas share.
fn store(standing: &Standing) -> Value {
    let Standing { is_up, replicas, reason } = standing;
    json!({"status": if *is_up { "ok" } else { "gone" }, "replicas": replicas, "reason": reason})
}

fn usable(gateway: &Gateway, rules: &Snapshot) -> usize {
    let now = Instant::now();
    let is_usable = |target: &&Arc<crate::catalog::Target>| {
        let vitals = gateway.dispatcher.fleet.vitals(target, rules.policy(&target.provider), now);
        // Full is busy, and busy is well.
        matches!(vitals.availability, Availability::Full { .. }) || remaining(&vitals.availability).is_none()
    };
    rules.index.targets().iter().filter(is_usable).count()
}
