//! `POST /v1/sagas`: several requests in a row, with what undoes them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::caller::Caller;
use super::chat::read;
use super::edge::request_id;
use super::error::ApiError;
use super::later::Desk;
use super::openapi::{self, answered, asked};
use crate::saga::{Declared, Undeclared};

/// Takes a saga in. Its steps are requests like any other; how far it is, `GET /v1/requests/{id}` tells.
#[utoipa::path(post, path = "/v1/sagas", tag = openapi::BATCHES, operation_id = "create_saga", request_body = asked::NewSaga,
    responses((status = 202, description = "It is taken in.", body = answered::Accepted)))]
pub async fn create(State(desk): State<Arc<Desk>>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    let id = request_id(&headers).to_owned();
    let taken = async {
        let body = read(&desk.gateway, &headers, body).await?;
        let saga: Declared = serde_json::from_slice(&body).map_err(|error| {
            let message = format!("a saga has `steps`, and `input` if they need one: {error}");
            ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", None, message)
        })?;
        saga.check()?;
        desk.take_saga(&caller, &headers, &saga, &id).await?;
        let status_url = format!("/v1/requests/{id}");
        let said = json!({"request_id": id, "status": "queued", "status_url": status_url});
        let mut response = (StatusCode::ACCEPTED, Json(said)).into_response();
        if let Ok(location) = HeaderValue::try_from(status_url) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    };
    taken.await.unwrap_or_else(|error: ApiError| error.respond(&id))
}

impl From<Undeclared> for ApiError {
    fn from(error: Undeclared) -> Self {
        let (status, code) = match error.is_conflict {
            true => (StatusCode::CONFLICT, "duplicate_step_name"),
            false => (StatusCode::BAD_REQUEST, "invalid_value"),
        };
        Self::request(status, code, Some(&error.at), error.to_string())
    }
}
