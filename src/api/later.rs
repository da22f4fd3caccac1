//! Requests that are answered later: `Prefer: respond-async` on any path that answers, `background: true` on
//! `/v1/responses`, the lines of batches.
//!
//! A request is read and checked as if it were to be answered at once, so that what is wrong is said at once; then it is
//! sealed, kept and acknowledged. A worker answers it on the same path as every other request: with its caller's limits,
//! budgets and row in the ledger.

pub mod carry_out; // what a worker does
pub mod lines; // from a batch's file to jobs, and from jobs to files
pub mod native; // lines that a provider answers in a batch of its own
pub mod steps; // from a saga to jobs
pub mod store; // files in sealed pieces
pub mod webhook; // telling a caller's server
pub mod work; // what a job is about

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::chat::understood;
use super::edge::request_id;
use super::error::ApiError;
use super::idempotency::seal::Answer;
use super::speech::Speech;
use crate::batch::Batches;
use crate::batch::file::Files;
use crate::batch::native::Parts;
use crate::events::log::Log;
use crate::gateway::Gateway;
use crate::jobs::bell::Bell;
use crate::jobs::job::{Kind, New};
use crate::jobs::queue::{Queue, Taken};
use crate::jobs::wish::{BadWish, Wish};
use crate::ledger::record::Arrival;
use crate::operations::Operations;
use crate::tenant::access::Access;
use crate::tenant::seal::Seal;
use crate::tenant::secret::Pepper;
use work::{Owner, Work};

/// Where jobs, events, batches and files are kept: usually the same store in four roles.
#[derive(Clone)]
pub struct Kept {
    pub queue: Arc<dyn Queue>,
    pub log: Arc<dyn Log>,
    pub batches: Arc<dyn Batches>,
    pub files: Arc<dyn Files>,
    pub parts: Arc<dyn Parts>,
}

/// Takes requests in, and knows what jobs are about. Share it behind an `Arc`.
pub struct Desk {
    pub gateway: Arc<Gateway>,
    pub operations: Arc<Operations>,
    pub access: Arc<Access>,
    pub kept: Kept,
    pub bell: Bell,
    seal: Seal,
    /// What parts may still cost, by their ids.
    holds: native::Holds,
    /// Jobs that waited when they were last counted, and those taken in here since.
    waiting: AtomicU64,
}

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

impl Desk {
    pub fn new(
        gateway: Arc<Gateway>,
        operations: Arc<Operations>,
        access: Arc<Access>,
        kept: Kept,
        pepper: &Pepper,
    ) -> Self {
        let seal = Seal::derive(pepper, "jobs");
        let (bell, holds, waiting) = (Bell::default(), native::Holds::default(), AtomicU64::new(0));
        Self { gateway, operations, access, kept, bell, seal, holds, waiting }
    }

    /// How many jobs wait, from a count.
    pub fn counted_waiting(&self, waiting: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Seals what belongs to one place, a job's or a batch's id.
    fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, ApiError> {
        self.seal.seal(place.as_bytes(), plain).ok_or_else(ApiError::internal)
    }

    /// What was sealed for a place; `None` if that was somewhere else, under another secret, or was altered.
    fn open(&self, place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.seal.open(place.as_bytes(), sealed, work::LONGEST)
    }

    /// In which words a sealed request was asked.
    pub fn speech_of(&self, job: &str, sealed: &[u8]) -> Option<Speech> {
        Some(Work::from_bytes(self.open(job, sealed)?)?.speech)
    }

    /// A sealed answer.
    pub fn opened(&self, job: &str, sealed: &[u8]) -> Option<Answer> {
        Answer::from_bytes(&self.open(job, sealed)?)
    }

    /// Refuses what there is no room for.
    fn check_room(&self, more: u64) -> Result<(), ApiError> {
        let most = self.gateway.rules().settings.jobs.max_queued;
        if self.waiting.load(Ordering::Relaxed).saturating_add(more) > most {
            let message = format!("{most} requests wait to be answered later already (`jobs.max_queued`)");
            return Err(ApiError::overloaded("too_many_queued_requests", message, 10));
        }
        Ok(())
    }

    /// Takes a request in that is to be answered later, and acknowledges it.
    pub async fn defer(&self, caller: &Caller, headers: &HeaderMap, body: Body, speech: Speech) -> Response {
        match super::chat::read(&self.gateway, headers, body).await {
            Ok(body) => self.defer_read(caller, headers, body, speech).await,
            Err(error) => speech.refuse(&error, request_id(headers)),
        }
    }

    /// The same, once its body is there.
    pub async fn defer_read(&self, caller: &Caller, headers: &HeaderMap, body: Bytes, speech: Speech) -> Response {
        let id = request_id(headers).to_owned();
        match self.take_in(caller, headers, body, speech, &id).await {
            Ok(wish) => acknowledged(&id, speech, &wish),
            Err(error) => speech.refuse(&error, &id),
        }
    }

    async fn take_in(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        body: Bytes,
        speech: Speech,
        id: &str,
    ) -> Result<Wish, ApiError> {
        self.check_room(1)?;
        let body = if speech == Speech::Responses { without_background(body) } else { body };
        let rules = self.gateway.rules();
        let settings = &rules.settings.jobs;
        let wish = self.check(caller, headers, &body, speech, Streams::Refused)?;
        let work = Work {
            speech,
            owner: Owner::of(caller),
            headers: work::kept(headers),
            webhook: wish.webhook.clone(),
            custom_id: None,
            decided: None,
            body,
        };
        let job = New {
            id: id.to_owned(),
            kind: Kind::Request,
            key: caller.tenant.name.as_deref().map(str::to_owned),
            part_of: None,
            priority: wish.priority,
            not_before_unix_ms: wish.not_before_unix_ms,
            expires_unix_ms: wish.expires_unix_ms,
            max_attempts: settings.max_attempts,
            request: self.seal(id, &work.to_bytes())?,
            webhook: wish.webhook.is_some(),
            carried_by: None,
        };
        let taken = self.kept.queue.submit(std::slice::from_ref(&job)).await.map_err(unkept)?;
        if taken.first() != Some(&Taken::In) {
            let message =
                format!("there is a request with the id `{id}` already; send another `x-request-id`, or none");
            return Err(ApiError::request(StatusCode::CONFLICT, "request_id_in_use", Some("x-request-id"), message));
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.bell.ring_work();
        Ok(wish)
    }

    /// Whether a request could be answered, as far as can be told without answering it.
    fn check(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        body: &Bytes,
        speech: Speech,
        streams: Streams,
    ) -> Result<Wish, ApiError> {
        let rules = self.gateway.rules();
        let arrival = Arrival { ingress: speech.as_str(), ..Arrival::default() };
        let (inbound, ..) = understood(caller, headers, body.clone(), Instant::now(), speech, &arrival)?;
        if inbound.request.stream && streams == Streams::Refused {
            let message = "an answer that comes later is not streamed: leave `stream` out, and follow the request at its \
                 status_url with `Accept: text/event-stream`";
            let status = StatusCode::BAD_REQUEST;
            return Err(ApiError::request(status, "stream_not_supported", Some("stream"), message));
        }
        self.gateway.check(&inbound)?;
        let hints = &inbound.hints;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let wish = Wish::read(&hints.later, &rules.settings.jobs, now_ms)?;
        if let Some(url) = &wish.webhook {
            webhook::check(url, &rules.settings.webhooks).map_err(|reason| {
                ApiError::request(StatusCode::BAD_REQUEST, "invalid_webhook", Some("webhook"), reason)
            })?;
        }
        Ok(wish)
    }
}

/// What becomes of `stream: true` in a request to which nobody listens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    Refused,
    /// It is answered in one piece.
    Ignored,
}

/// Whether the caller does not want to wait (RFC 7240).
pub fn prefers_later(headers: &HeaderMap) -> bool {
    preferences(headers).any(|preference| preference.eq_ignore_ascii_case("respond-async"))
}

/// How long the caller wants to wait, in seconds (RFC 7240).
pub fn prefers_wait(headers: &HeaderMap) -> Option<u64> {
    preferences(headers).find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().parse().ok())?
    })
}

fn preferences(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(&PREFER).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).map(str::trim)
}

/// Whether a request to `/v1/responses` is to run in the background.
pub fn is_background(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Peek {
        #[serde(default)]
        background: Option<bool>,
    }
    // A body that is no JSON is refused by whoever reads it next.
    const NAME: &[u8] = b"\"background\"";
    body.windows(NAME.len()).any(|window| window == NAME)
        && serde_json::from_slice::<Peek>(body).is_ok_and(|peek| peek.background == Some(true))
}

/// The request as it is to be answered: who answers later is not asked to answer later.
fn without_background(body: Bytes) -> Bytes {
    let Ok(mut request) = serde_json::from_slice::<Map<String, Value>>(&body) else { return body };
    request.remove("background");
    serde_json::to_vec(&request).map_or(body, Bytes::from)
}

fn acknowledged(id: &str, speech: Speech, wish: &Wish) -> Response {
    let status_url = format!("/v1/requests/{id}");
    let mut said = json!({"request_id": id, "status": "queued", "status_url": status_url});
    if speech == Speech::Responses {
        // What OpenAI's clients expect of a response that has not begun.
        let object = empty_response(id, "queued", jiff::Timestamp::now().as_second(), Value::Null);
        if let Some(said) = said.as_object_mut() {
            said.extend(object);
        }
    }
    let later = wish.not_before_unix_ms.map(crate::ledger::usage::rfc3339);
    if let (Some(said), Some(later)) = (said.as_object_mut(), later) {
        said.insert("not_before".to_owned(), later.into());
    }
    let mut response = (StatusCode::ACCEPTED, axum::Json(said)).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(status_url) {
        headers.insert(LOCATION, location);
    }
    headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    response
}

/// A response without an answer, with all that OpenAI's clients read of one.
pub fn empty_response(id: &str, status: &str, created_at: i64, error: Value) -> Map<String, Value> {
    let object = json!({
        "id": id, "object": "response", "created_at": created_at, "status": status, "background": true, "error": error,
        "incomplete_details": null, "instructions": null, "metadata": {}, "model": "", "output": [],
        "parallel_tool_calls": true, "temperature": null, "tool_choice": "auto", "tools": [], "top_p": null,
    });
    if let Value::Object(object) = object { object } else { Map::new() }
}

impl From<BadWish> for ApiError {
    fn from(bad: BadWish) -> Self {
        Self::request(StatusCode::BAD_REQUEST, "invalid_hint", Some(bad.hint), bad.to_string())
    }
}

/// Jobs, files or events cannot be written or read right now.
pub fn unkept(failure: crate::ledger::journal::Failure) -> ApiError {
    tracing::error!(error = %failure, "jobs cannot be written or read");
    ApiError::overloaded("queue_unavailable", "requests for later cannot be kept or looked up right now", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_as_the_rfc_writes_them() {
        let with = |value: &'static str| HeaderMap::from_iter([(PREFER, HeaderValue::from_static(value))]);
        for (value, later, wait) in [
            ("respond-async", true, None),
            ("Respond-Async, wait=10", true, Some(10)),
            ("wait = 30", false, Some(30)),
            ("return=minimal; respond-async", true, None),
            ("respond-asynchronously", false, None),
            ("wait=soon", false, None),
        ] {
            assert_eq!((prefers_later(&with(value)), prefers_wait(&with(value))), (later, wait), "{value}");
        }
    }

    #[test]
    fn a_background_request_is_told_from_a_text_about_backgrounds() {
        assert!(is_background(br#"{"model":"auto","input":"hi","background": true}"#));
        for body in [
            r#"{"input":"say \"background\": true"}"#,
            r#"{"background":false}"#,
            r#"{"background":null}"#,
            r#"{"background": true"#,
        ] {
            assert!(!is_background(body.as_bytes()), "{body}");
        }
        let body = Bytes::from_static(br#"{"background":true,"input":"hi"}"#);
        assert_eq!(without_background(body), &br#"{"input":"hi"}"#[..]);
    }
}
