//! `POST /v1/route`: the decision that the same body would get, without a call.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;

use super::caller::Caller;
use super::chat::inbound;
use super::edge::request_id;
use super::error::ApiError;
use super::openapi::{self, answered, asked};
use crate::gateway::Gateway;

/// Says who would be asked for a chat and why, and asks nobody.
#[utoipa::path(post, path = "/v1/route", tag = openapi::ANSWERS, operation_id = "route", request_body = asked::ChatRequest,
    responses((status = 200, description = "The decision.", body = answered::Decision)))]
pub async fn route(State(gateway): State<Arc<Gateway>>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    let result = async {
        let inbound = inbound(&gateway, &caller, &headers, body, Instant::now()).await?;
        gateway.route(inbound).map_err(ApiError::from)
    };
    match result.await {
        Ok(foreseen) => Json(foreseen).into_response(),
        Err(error) => error.respond(request_id(&headers)),
    }
}
