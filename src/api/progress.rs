//! What becomes of a request that is answered later: looked at, waited for, followed, cancelled.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::caller::Caller;
use super::edge::request_id;
use super::error::ApiError;
use super::events::frame;
use super::idempotency::seal::Answer;
use super::later::{Desk, prefers_wait, unkept};
use super::openapi::{self, answered};
use super::speech::Speech;
use super::usage::unreadable;
use crate::batch::native::CARRIED_UNTIL_MS;
use crate::events::log::Wanted;
use crate::events::{Event, life};
use crate::jobs::job::{Job, Kind, Status};
use crate::jobs::queue::{Filter, Obeyed, Order};
use crate::ledger::usage::rfc3339;
use crate::saga::MOST_STEPS;

/// Longest wait for a change, in seconds; who wants more asks again.
const LONGEST_WAIT: u64 = 300;
/// How often a job is looked at that another process may have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events shown of one request: attempts and what lies between them; a request has a few dozen.
const MOST_EVENTS: usize = 1_000;
/// Silence after which a follower gets a comment, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A job that this caller may see.
async fn visible(desk: &Desk, caller: &Caller, id: &str) -> Result<Option<Job>, ApiError> {
    let job = desk.kept.queue.find(id).await.map_err(unkept)?;
    let is_theirs = |job: &Job| caller.sees_only().is_none_or(|key| job.key.as_deref() == Some(key));
    Ok(job.filter(|job| matches!(job.kind, Kind::Request | Kind::Saga) && is_theirs(job)))
}

/// Shows a request that is answered later, as its caller wants to hear of it; `None` if there is no such request.
pub async fn show(desk: &Arc<Desk>, caller: &Caller, headers: &HeaderMap, id: &str) -> Option<Response> {
    let shown = async {
        let job = match visible(desk, caller, id).await {
            Ok(Some(job)) => job,
            Ok(None) => return Ok(None),
            // A row that waits for the store is shown also while the store does not say whether it is of a job.
            Err(error) => {
                let is_row = desk.gateway.ledger.find(id).await.is_ok_and(|row| row.is_some());
                return if is_row { Ok(None) } else { Err(error) };
            }
        };
        if accepts_events(headers) {
            let place = headers.get(&LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return Ok(Some(followed(desk.clone(), job.id, place.unwrap_or(0))));
        }
        let wait = prefers_wait(headers).map(|seconds| seconds.min(LONGEST_WAIT));
        let job = match wait {
            Some(seconds) => waited(desk, job, Duration::from_secs(seconds)).await?,
            None => job,
        };
        let mut response = Json(document(desk, &job).await?).into_response();
        if !job.status.has_ended() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(applied) = wait.and_then(|seconds| HeaderValue::try_from(format!("wait={seconds}")).ok()) {
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
        Ok(Some(response))
    };
    shown.await.unwrap_or_else(|error: ApiError| Some(error.respond(request_id(headers))))
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// The job once it has ended, or as it is when the time is over.
async fn waited(desk: &Desk, mut job: Job, longest: Duration) -> Result<Job, ApiError> {
    let deadline = Instant::now() + longest;
    let listener = desk.bell.listen(&job.id);
    while !job.status.has_ended() && Instant::now() < deadline {
        let changed = listener.changed();
        if let Some(now) = desk.kept.queue.find(&job.id).await.map_err(unkept)? {
            job = now;
        }
        if job.status.has_ended() {
            break;
        }
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = desk.operations.cut().cancelled_owned() => break,
        }
        if let Some(now) = desk.kept.queue.find(&job.id).await.map_err(unkept)? {
            job = now;
        }
    }
    Ok(job)
}

/// Everything there is to say of a request: the row of its last attempt, its state, its history, its result.
async fn document(desk: &Desk, job: &Job) -> Result<Value, ApiError> {
    let row = desk.gateway.ledger.find(&job.id).await.map_err(unreadable)?;
    let mut shown = match row.as_ref().map(serde_json::to_value) {
        Some(Ok(Value::Object(row))) => row,
        _ => Map::new(),
    };
    let mut history = history(desk, &job.id).await?;
    if let Some(row) = &row {
        // How the job ended, its own events say: an attempt may end in more ways, and more than once.
        let inner = life::of(row).into_iter().filter(|event| !event.kind.is_end_of_job());
        history.extend(inner);
        history.sort_by_key(|event| event.at_unix_ms);
    }
    let moment = |ms: Option<i64>| ms.map(rfc3339);
    let result = result(desk, job).await?;
    let Value::Object(now) = json!({
        "id": job.id,
        "request_id": job.id,
        "object": "request",
        "status": job.status,
        "status_url": format!("/v1/requests/{}", job.id),
        "http_status": job.http_status,
        "error": job.error,
        "job": {
            "attempts": job.attempts,
            "max_attempts": job.max_attempts,
            "priority": job.priority,
            "batch": job.part_of,
            "created": rfc3339(job.created_unix_ms),
            "not_before": moment(Some(job.not_before_unix_ms).filter(|moment| *moment < CARRIED_UNTIL_MS)),
            "expires": moment(job.expires_unix_ms),
            "ended": moment(job.ended_unix_ms),
        },
        "events": history,
        "result": result,
    }) else {
        return Err(ApiError::internal());
    };
    shown.extend(now);
    Ok(Value::Object(shown))
}

async fn history(desk: &Desk, id: &str) -> Result<Vec<Event>, ApiError> {
    let wanted = Wanted { subject: Some(id.to_owned()), ..Wanted::default() };
    desk.kept.log.behind(0, &wanted, MOST_EVENTS).await.map_err(unkept)
}

/// The body of the answer, if there is one; also of the last failure.
async fn result(desk: &Desk, job: &Job) -> Result<Option<Box<RawValue>>, ApiError> {
    if !job.status.has_ended() {
        return Ok(None);
    }
    Ok(answer(desk, job).await?.and_then(|answer| {
        let text = String::from_utf8(answer.body.to_vec()).ok()?;
        RawValue::from_string(text).ok()
    }))
}

async fn answer(desk: &Desk, job: &Job) -> Result<Option<Answer>, ApiError> {
    let contents = desk.kept.queue.contents(&job.id).await.map_err(unkept)?;
    let Some((_, Some(sealed))) = contents else { return Ok(None) };
    desk.opened(&job.id, &sealed).map(Some).ok_or_else(|| {
        tracing::error!(job = job.id, "a result cannot be opened: the secret has changed, or the database was altered");
        ApiError::internal()
    })
}

/// The events of a request as they come, then the request as it ended.
fn followed(desk: Arc<Desk>, id: String, mut place: i64) -> Response {
    let body = async_stream::stream! {
        let listener = desk.bell.listen(&id);
        let wanted = Wanted { subject: Some(id.clone()), ..Wanted::default() };
        let mut silent_since = Instant::now();
        loop {
            let changed = listener.changed();
            // The job first: whatever ended it is in the log by then.
            let job = desk.kept.queue.find(&id).await;
            let Ok(events) = desk.kept.log.behind(place, &wanted, MOST_EVENTS).await else { return };
            for event in &events {
                place = event.seq.unwrap_or(place);
                silent_since = Instant::now();
                yield Ok::<_, std::convert::Infallible>(frame(event));
            }
            match job {
                Ok(Some(job)) if job.status.has_ended() && events.len() < MOST_EVENTS => {
                    if let Ok(document) = document(&desk, &job).await {
                        yield Ok(format!("event: result\ndata: {document}\n\n").into());
                    }
                    return;
                }
                Ok(Some(_)) => {}
                // Gone, or not to be read: a stream that ends without a result says that it is not known.
                Ok(None) | Err(_) => return,
            }
            if silent_since.elapsed() >= KEEP_ALIVE {
                silent_since = Instant::now();
                yield Ok(": waiting\n\n".into());
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = desk.operations.cut().cancelled_owned() => return,
            }
        }
    };
    event_stream(Body::from_stream(body))
}

pub fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Cancels a request that is answered later, if it has not ended. What was paid for it until now is paid.
#[utoipa::path(post, path = "/v1/requests/{id}/cancel", tag = openapi::REPORTS, operation_id = "cancel_request",
    params(("id" = String, Path, description = "The `request_id` of its acknowledgement.")),
    responses((status = 200, description = "It is cancelled.", body = answered::RequestRow),
        (status = 404, description = "There is no such request, or it is not answered later.", body = answered::Failed),
        (status = 409, description = "It has ended already.", body = answered::Failed),
        (status = 503, description = "It cannot be looked up right now.", body = answered::Failed)))]
pub async fn cancel(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let cancelled = async { Ok(Json(document(&desk, &cancelled(&desk, &caller, &id).await?).await?).into_response()) };
    cancelled.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

async fn cancelled(desk: &Desk, caller: &Caller, id: &str) -> Result<Job, ApiError> {
    if visible(desk, caller, id).await?.is_none() {
        return Err(unknown(id));
    }
    if let Some(saga) = visible(desk, caller, id).await?.filter(|job| job.kind == Kind::Saga && !job.status.has_ended())
    {
        return stopped(desk, saga).await;
    }
    match desk.kept.queue.order(id, Order::Cancel).await.map_err(unkept)? {
        Obeyed::Done(job) => {
            desk.bell.ring(id);
            Ok(job)
        }
        Obeyed::Impossible(job) if job.status == Status::Cancelled => Ok(job),
        Obeyed::Impossible(job) => {
            let message = format!("the request has ended already: it is {}", job.status.as_str());
            Err(ApiError::request(StatusCode::CONFLICT, "request_has_ended", Some("id"), message))
        }
        Obeyed::Unknown => Err(unknown(id)),
    }
}

/// A saga is cancelled by way of the step that is under way: what was done before it is undone then.
async fn stopped(desk: &Desk, saga: Job) -> Result<Job, ApiError> {
    let filter = Filter { part_of: Some(saga.id.clone()), ..Filter::default() };
    let parts = desk.kept.queue.list(&filter, None, 2 * MOST_STEPS).await.map_err(unkept)?;
    let Some(under_way) =
        parts.iter().find(|part| !part.status.has_ended() && part.place.is_some_and(|place| place >= 0))
    else {
        let message = "between two steps, or being undone: look at it, and try again if it goes on";
        return Err(ApiError::request(StatusCode::CONFLICT, "not_cancellable_now", Some("id"), message));
    };
    desk.kept.queue.order(&under_way.id, Order::Cancel).await.map_err(unkept)?;
    desk.bell.ring(&under_way.id);
    desk.bell.ring_work();
    Ok(saga)
}

fn unknown(id: &str) -> ApiError {
    let id: String = id.chars().take(128).collect();
    let message = format!("no request with the id `{id}` is answered later; it is the acknowledgement's `request_id`");
    ApiError::request(StatusCode::NOT_FOUND, "request_not_found", Some("id"), message)
}

/// A response that runs in the background, as OpenAI's clients ask for it.
#[utoipa::path(get, path = "/v1/responses/{id}", tag = openapi::REPORTS, operation_id = "response",
    params(("id" = String, Path, description = "The `id` of the response that was created with `background: true`.")),
    responses((status = 200, description = "The response as it stands.", body = answered::ResponsesAnswer),
        (status = 404, description = "There is no such response, or it did not run in the background.", body = answered::Failed),
        (status = 503, description = "It cannot be looked up right now.", body = answered::Failed)))]
pub async fn response(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let shown = async {
        let job = visible_response(&desk, &caller, &id).await?;
        Ok(Json(as_response(&desk, &job).await?).into_response())
    };
    shown.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

/// Cancels a response that runs in the background.
#[utoipa::path(post, path = "/v1/responses/{id}/cancel", tag = openapi::REPORTS, operation_id = "cancel_response",
    params(("id" = String, Path, description = "The `id` of the response that was created with `background: true`.")),
    responses((status = 200, description = "It is cancelled.", body = answered::ResponsesAnswer),
        (status = 404, description = "There is no such response, or it did not run in the background.", body = answered::Failed),
        (status = 409, description = "It has ended already.", body = answered::Failed),
        (status = 503, description = "It cannot be looked up right now.", body = answered::Failed)))]
pub async fn cancel_response(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let cancelled = async {
        visible_response(&desk, &caller, &id).await?;
        Ok(Json(as_response(&desk, &cancelled(&desk, &caller, &id).await?).await?).into_response())
    };
    cancelled.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

/// A job that was asked as a response.
async fn visible_response(desk: &Desk, caller: &Caller, id: &str) -> Result<Job, ApiError> {
    let job = visible(desk, caller, id).await?.filter(|job| job.kind == Kind::Request).ok_or_else(|| unknown(id))?;
    let contents = desk.kept.queue.contents(id).await.map_err(unkept)?;
    let speech = contents.and_then(|(request, _)| desk.speech_of(id, &request));
    if speech == Some(Speech::Responses) { Ok(job) } else { Err(unknown(id)) }
}

/// In the words of OpenAI's Responses.
async fn as_response(desk: &Desk, job: &Job) -> Result<Value, ApiError> {
    let answered = answer(desk, job).await?.filter(|_| job.status == Status::Completed);
    let whole = answered.and_then(|answer| serde_json::from_slice::<Map<String, Value>>(&answer.body).ok());
    let mut response = whole.unwrap_or_else(|| unfinished(job));
    response.insert("id".to_owned(), job.id.clone().into());
    response.insert("background".to_owned(), true.into());
    Ok(Value::Object(response))
}

/// The object of a response that has no answer, or none yet.
pub fn unfinished(job: &Job) -> Map<String, Value> {
    let status = match job.status {
        Status::Queued => "queued",
        Status::Running => "in_progress",
        Status::Cancelled => "cancelled",
        _ => "failed",
    };
    let error = job.error.as_deref().filter(|_| status == "failed").map(|error| {
        let (code, message) = error.split_once(": ").unwrap_or(("server_error", error));
        json!({"code": code, "message": message})
    });
    let created_at = job.created_unix_ms.div_euclid(1000);
    super::later::empty_response(&job.id, status, created_at, error.unwrap_or_default())
}
