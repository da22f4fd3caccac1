//! `/v1/batches`: OpenAI's batches over any provider.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::chat::read;
use super::edge::request_id;
use super::error::ApiError;
use super::files::visible as visible_file;
use super::later::lines::{sealed_owner, speech};
use super::later::{Desk, unkept};
use super::openapi::{self, answered, asked};
use crate::batch::line::ENDPOINTS;
use crate::batch::{Batch, Native};
use crate::units;

/// Says what is wanted of providers' own batches.
const NATIVE: &str = "x-stepwell-batch";

const DEFAULT_LIMIT: usize = 20;
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Deserialize)]
struct Create {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    #[serde(default)]
    metadata: Option<Box<RawValue>>,
}

/// Begins to answer the lines of a file.
///
/// The header `x-stepwell-batch` says `never` to keep lines from providers' own batches, or `native` to use those however few
/// lines there are.
#[utoipa::path(post, path = "/v1/batches", tag = openapi::BATCHES, operation_id = "create_batch", request_body = asked::NewBatch,
    responses((status = 200, description = "The batch, whose lines are being read.", body = answered::Batch)))]
pub async fn create(State(desk): State<Arc<Desk>>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    let created = async {
        let body = read(&desk.gateway, &headers, body).await?;
        let asked: Create = serde_json::from_slice(&body).map_err(|error| {
            let message = format!("a batch needs `input_file_id`, `endpoint` and `completion_window`: {error}");
            ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", None, message)
        })?;
        if speech(&asked.endpoint).is_none() {
            return Err(bad("endpoint", &format!("`endpoint` is one of {}", ENDPOINTS.join(", "))));
        }
        let window = units::duration(&asked.completion_window)
            .ok()
            .filter(|window| (SHORTEST..=LONGEST).contains(window))
            .ok_or_else(|| bad("completion_window", "`completion_window` is a span from 1m to 30d, usually 24h"))?;
        let native = native(&headers)?;
        let metadata = asked.metadata.map(|metadata| labels(&metadata)).transpose()?;
        // A file of somebody else's is as good as none.
        visible_file(&desk, &caller, &asked.input_file_id).await?;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let id = format!("batch_{}", uuid::Uuid::now_v7().simple());
        let expires = now_ms.saturating_add(i64::try_from(window.as_millis()).unwrap_or(i64::MAX));
        let batch = Batch {
            key: caller.tenant.name.as_deref().map(str::to_owned),
            owner: sealed_owner(&desk, &id, &caller)?,
            completion_window: asked.completion_window,
            metadata,
            native,
            ..Batch::new(id, &asked.endpoint, &asked.input_file_id, now_ms, expires)
        };
        desk.kept.batches.create(&batch).await.map_err(unkept)?;
        desk.bell.ring_work();
        Ok(Json(batch.shown()).into_response())
    };
    created.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

/// What the caller wants of providers' own batches.
fn native(headers: &HeaderMap) -> Result<Option<Native>, ApiError> {
    let Some(value) = headers.get(NATIVE) else { return Ok(None) };
    let word = value.to_str().unwrap_or_default().trim();
    match Native::parse(word) {
        None if word != "auto" => Err(bad(NATIVE, "the header `x-stepwell-batch` is `auto`, `native` or `never`")),
        native => Ok(native),
    }
}

/// OpenAI's bounds: 16 pairs, names of 64 and texts of 512 characters.
fn labels(metadata: &RawValue) -> Result<String, ApiError> {
    let wrong = || bad("metadata", "`metadata` is an object of at most 16 texts, with names of up to 64 characters");
    if metadata.get() == "null" {
        return Ok("null".to_owned());
    }
    let labels: Map<String, Value> = serde_json::from_str(metadata.get()).map_err(|_| wrong())?;
    let fits = |(name, value): (&String, &Value)| {
        name.chars().count() <= 64 && value.as_str().is_some_and(|text| text.chars().count() <= 512)
    };
    if labels.len() <= 16 && labels.iter().all(fits) { Ok(Value::Object(labels).to_string()) } else { Err(wrong()) }
}

fn bad(param: &str, message: &str) -> ApiError {
    ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", Some(param), message)
}

/// The page's length that a query asks for.
pub(super) fn limit(parameters: &HashMap<String, String>, usual: usize) -> Result<usize, ApiError> {
    let Some(text) = parameters.get("limit") else { return Ok(usual) };
    let limit = text.parse().ok().filter(|limit| (1..=10_000).contains(limit));
    limit.ok_or_else(|| bad("limit", "`limit` is a number from 1 to 10000"))
}

async fn visible(desk: &Desk, caller: &Caller, id: &str) -> Result<Batch, ApiError> {
    let batch = desk.kept.batches.find(id).await.map_err(unkept)?;
    let is_theirs = |batch: &Batch| caller.sees_only().is_none_or(|key| batch.key.as_deref() == Some(key));
    batch.filter(is_theirs).ok_or_else(|| {
        let id: String = id.chars().take(128).collect();
        let message = format!("there is no batch `{id}`; GET /v1/batches lists those that there are");
        ApiError::request(StatusCode::NOT_FOUND, "batch_not_found", Some("id"), message)
    })
}

/// Lists batches, newest first.
#[utoipa::path(get, path = "/v1/batches", tag = openapi::BATCHES, operation_id = "batches",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 10_000),
        ("after" = Option<String>, Query, description = "The last batch of the page before.")),
    responses((status = 200, description = "The batches.", body = answered::Batches),
        (status = 400, description = "A parameter has an impossible value.", body = answered::Failed),
        (status = 503, description = "Batches cannot be looked up right now.", body = answered::Failed)))]
pub async fn list(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    let listed = async {
        let limit = limit(&parameters, DEFAULT_LIMIT)?;
        let after = parameters.get("after").map(String::as_str);
        let mut batches = desk.kept.batches.list(caller.sees_only(), after, limit + 1).await.map_err(unkept)?;
        let has_more = batches.len() > limit;
        batches.truncate(limit);
        let [first, last] = [batches.first(), batches.last()].map(|batch| batch.map(|batch| batch.id.clone()));
        let data: Vec<_> = batches.iter().map(Batch::shown).collect();
        let page = json!({"object": "list", "data": data, "has_more": has_more, "first_id": first, "last_id": last});
        Ok(Json(page).into_response())
    };
    listed.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

/// Shows a batch.
#[utoipa::path(get, path = "/v1/batches/{id}", tag = openapi::BATCHES, operation_id = "batch", params(("id" = String, Path)),
    responses((status = 200, description = "The batch.", body = answered::Batch),
        (status = 404, description = "There is no such batch.", body = answered::Failed),
        (status = 503, description = "Batches cannot be looked up right now.", body = answered::Failed)))]
pub async fn one(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let batch = visible(&desk, &caller, &id).await;
    batch.map_or_else(|error| error.respond(request_id(&headers)), |batch| Json(batch.shown()).into_response())
}

/// Cancels a batch: lines under way end, others are not done. What was done is in its files.
#[utoipa::path(post, path = "/v1/batches/{id}/cancel", tag = openapi::BATCHES, operation_id = "cancel_batch", params(("id" = String, Path)),
    responses((status = 200, description = "The batch as it stands.", body = answered::Batch),
        (status = 404, description = "There is no such batch.", body = answered::Failed),
        (status = 409, description = "It has ended already.", body = answered::Failed),
        (status = 503, description = "Batches cannot be changed right now.", body = answered::Failed)))]
pub async fn cancel(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let cancelled = async {
        let before = visible(&desk, &caller, &id).await?;
        if before.status.has_ended() {
            let message = format!("the batch has ended already: it is {}", before.status.as_str());
            return Err(ApiError::request(StatusCode::CONFLICT, "batch_has_ended", Some("id"), message));
        }
        let batch = desk.kept.batches.cancel(&id).await.map_err(unkept)?.unwrap_or(before);
        desk.bell.ring_work();
        Ok(Json(batch.shown()).into_response())
    };
    cancelled.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}
