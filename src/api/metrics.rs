//! `GET /metrics`: Prometheus text.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::openapi;
use crate::gateway::Gateway;
use crate::operations::Operations;

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = openapi::OPERATIONS, operation_id = "metrics",
    responses((status = 200, description = "All metrics.", body = String, content_type = "text/plain")))]
pub async fn text(State(gateway): State<Arc<Gateway>>, State(operations): State<Arc<Operations>>) -> Response {
    // States, not events: true at the moment they are asked for.
    let (in_flight, queued, waiting_for_provider) = gateway.occupancy();
    metrics::gauge!("stepwell_requests_in_flight").set(in_flight);
    metrics::gauge!("stepwell_requests_queued", "for" => "router").set(queued as f64);
    metrics::gauge!("stepwell_requests_queued", "for" => "provider").set(waiting_for_provider as f64);
    let ledger = gateway.ledger.health();
    metrics::gauge!("stepwell_ledger_unsaved_rows").set(ledger.pending as f64);
    metrics::gauge!("stepwell_ledger_degraded").set(if ledger.status == "ok" { 0.0 } else { 1.0 });
    metrics::gauge!("stepwell_ledger_lost_rows").set(ledger.lost as f64);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], operations.metrics()).into_response()
}
