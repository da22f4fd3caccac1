//! `GET /v1/requests` and `GET /v1/requests/{id}`: what happened to a request, available as soon as it has ended.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::caller::Caller;
use super::edge::request_id;
use super::error::ApiError;
use super::later::Desk;
use super::openapi::{self, answered};
use super::progress;
use super::usage::unreadable;
use crate::events::{Event, life};
use crate::gateway::Gateway;
use crate::ledger::journal::{Cursor, Filter};
use crate::ledger::record::Status;
use crate::ledger::row::Row;
use crate::ledger::usage::moment;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;

/// What became of a request, by the `x-request-id` of its answer.
#[utoipa::path(get, path = "/v1/requests/{id}", tag = openapi::REPORTS, operation_id = "request",
    params(("id" = String, Path, description = "The answer's `x-request-id`.")),
    responses((status = 200, description = "The request.", body = answered::RequestRow),
        (status = 404, description = "There is no such request.", body = answered::Failed),
        (status = 503, description = "The ledger cannot be read right now.", body = answered::Failed)))]
pub async fn one(
    State(gateway): State<Arc<Gateway>>,
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    if let Some(response) = progress::show(&desk, &caller, &headers, &id).await {
        return response;
    }
    let is_shown = |row: &Row| caller.sees_only().is_none_or(|key| row.key.as_deref() == Some(key));
    match gateway.ledger.find(&id).await.map(|row| row.filter(is_shown)) {
        Ok(Some(row)) => {
            let events = life::of(&row);
            Json(Lived { row, events }).into_response()
        }
        Ok(None) if gateway.is_in_flight(&id) => Json(json!({"id": id, "status": Status::InProgress})).into_response(),
        Ok(None) => {
            let id: String = id.chars().take(128).collect();
            let message = format!("no request with the id `{id}` is in the ledger; it is the answer's `x-request-id`");
            ApiError::request(StatusCode::NOT_FOUND, "request_not_found", Some("id"), message)
                .respond(request_id(&headers))
        }
        Err(failure) => unreadable(failure).respond(request_id(&headers)),
    }
}

/// A row and what it tells.
#[derive(Serialize)]
struct Lived {
    #[serde(flatten)]
    row: Row,
    events: Vec<Event>,
}

/// Newest first. `limit`, `before` (the cursor of the page before), `status`, `provider`, `model`, `task`, `since`, `until`.
#[utoipa::path(get, path = "/v1/requests", tag = openapi::REPORTS, operation_id = "requests",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "50 if not given."),
        ("before" = Option<String>, Query, description = "`next` of the page before.", pattern = r"^[0-9]{1,15}\.[0-9a-zA-Z_]+$"),
        ("status" = Option<answered::RequestStatus>, Query),
        ("provider" = Option<String>, Query),
        ("model" = Option<String>, Query),
        ("task" = Option<String>, Query),
        ("since" = Option<String>, Query, description = "How long ago, in days such as 7d. RFC 3339, a date and other durations are understood too.", pattern = "^[1-9][0-9]{0,2}d$", example = "7d"),
        ("key" = Option<String>, Query, description = "A key's name. Who is no operator sees its own alone."),
        ("until" = Option<String>, Query, description = "The end, later than `since`: how long ago, in hours such as 2h, or as for `since`.", pattern = "^([1-9]|1[0-9]|2[0-3])h$", example = "1h")),
    responses((status = 200, description = "The page.", body = answered::Requests),
        (status = 400, description = "A parameter is unknown or has an impossible value.", body = answered::Failed),
        (status = 503, description = "The ledger cannot be read right now.", body = answered::Failed)))]
pub async fn recent(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    let result = async {
        let (mut filter, limit, before) = read(&parameters)?;
        if let Some(key) = caller.sees_only() {
            filter.key = Some(key.to_owned());
        }
        let rows = gateway.ledger.recent(&filter, limit, before.as_ref()).await.map_err(unreadable)?;
        let next = rows.last().filter(|_| rows.len() == limit).map(|row| Cursor::of(row).to_string());
        Ok(Json(json!({"object": "list", "has_more": next.is_some(), "next": next, "data": rows})).into_response())
    };
    result.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

fn read(parameters: &HashMap<String, String>) -> Result<(Filter, usize, Option<Cursor>), ApiError> {
    let bad =
        |param: &str, message: &str| ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", Some(param), message);
    let now = jiff::Timestamp::now().as_millisecond();
    let (mut filter, mut limit, mut before) = (Filter::default(), DEFAULT_LIMIT, None);
    for (name, value) in parameters {
        let time = || moment(value, now).map(Some).map_err(|error| bad(name, &error.to_string()));
        match name.as_str() {
            "limit" => {
                let given = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                limit = given.ok_or_else(|| bad(name, "`limit` is a number from 1 to 1000"))?;
            }
            "before" => {
                before = Some(Cursor::parse(value).ok_or_else(|| bad(name, "`before` is the `next` of another page"))?)
            }
            "status" => {
                let words = Status::ALL.map(Status::as_str).join(", ");
                let status = Status::parse(value).ok_or_else(|| bad(name, &format!("`status` is one of {words}")))?;
                filter.status = Some(status);
            }
            "provider" => filter.provider = Some(value.clone()),
            "model" => filter.model = Some(value.clone()),
            "task" => filter.task = Some(value.clone()),
            "key" => filter.key = Some(value.clone()),
            "since" => filter.since_ms = time()?,
            "until" => filter.until_ms = time()?,
            _ => {
                let known = "limit, before, status, provider, model, task, key, since, until";
                return Err(bad(name, &format!("unknown parameter; there are {known}")));
            }
        }
    }
    Ok((filter, limit, before))
}
