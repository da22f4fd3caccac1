//! `Idempotency-Key` on any POST: done once, answered as often as it is sent, for 24 hours.
//!
//! The first request runs to its end whether or not its caller stays, in a task of its own; everybody who sends the same
//! key meanwhile follows it live. A whole answer is kept, encrypted under the key, before its last byte goes out. What
//! failed is forgotten, so that trying again means trying again: nothing was delivered that could be delivered twice.

mod recording; // an answer that several read while it is being written
pub mod seal; // an answer that only its key opens

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::caller::{Caller, Peer, credential};
use super::chat::read_any;
use super::edge::request_id;
use super::error::ApiError;
use super::router::Shared;
use super::speech::Speech;
use crate::admission::idempotency::{Fingerprint, Known, LONGEST, Memory, Place};
use crate::tenant::secret::Pepper;
use recording::Recording;
use seal::Key;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// How soon a key that another replica works on is looked at again, first and later; and for how long.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The keys of this process. Share it behind an `Arc`.
pub struct Idempotency {
    memory: Arc<dyn Memory>,
    pepper: Pepper,
    under_way: DashMap<Place, Arc<UnderWay>>,
}

struct UnderWay {
    fingerprint: Fingerprint,
    recording: Recording,
}

impl Idempotency {
    pub fn new(memory: Arc<dyn Memory>, pepper: Pepper) -> Self {
        Self { memory, pepper, under_way: DashMap::new() }
    }
}

/// A request with a key takes this way round, every other one straight through.
pub async fn once(State(shared): State<Shared>, caller: Caller, request: Request, next: Next) -> Response {
    if *request.method() != Method::POST || !request.headers().contains_key(&IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    let id = request_id(request.headers()).to_owned();
    let is_messages = request.uri().path().ends_with("/messages");
    let speech = if is_messages { Speech::Messages } else { Speech::Chat };
    match attend(&shared, &caller, request, next).await {
        Ok(response) => response,
        Err(error) => speech.refuse(&error, &id),
    }
}

async fn attend(shared: &Shared, caller: &Caller, request: Request, next: Next) -> Result<Response, ApiError> {
    let idempotency = &shared.idempotency;
    let text = key(request.headers())?.to_owned();
    let (parts, body) = request.into_parts();
    let body = match hyper::body::Body::is_end_stream(&body) {
        true => Bytes::new(),
        // What it is, its handler finds out: an upload is no JSON.
        false => read_any(&shared.gateway, &parts.headers, body).await?,
    };
    let owner = owner(caller, &parts.headers, parts.extensions.get::<Peer>());
    let place = idempotency.pepper.digest(&format!("{}:{owner}{text}", owner.len())).0;
    let mut hasher = blake3::Hasher::new();
    hasher.update(parts.uri.path().as_bytes()).update(b"\0").update(&body);
    let fingerprint = *hasher.finalize().as_bytes();

    let (under_way, leads) = match idempotency.under_way.entry(place) {
        Entry::Occupied(entry) => (entry.get().clone(), false),
        Entry::Vacant(entry) => {
            let fresh = Arc::new(UnderWay { fingerprint, recording: Recording::default() });
            (entry.insert(fresh).clone(), true)
        }
    };
    if under_way.fingerprint != fingerprint {
        return Err(reused());
    }
    if !leads {
        return Ok(replayed(under_way.recording.follow().await?));
    }
    // From here on the place is taken, and has to be left whatever happens.
    let leaving = Leaving { shared: shared.clone(), place, under_way: under_way.clone() };
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let asked = tokio::time::Instant::now();
    let mut pause = FIRST_LOOK;
    let known = loop {
        let known = idempotency.memory.begin(place, fingerprint, now_ms).await.map_err(|failure| {
            tracing::error!(error = %failure, "a request with an idempotency key was refused: the key cannot be kept");
            ApiError::overloaded("idempotency_unavailable", "the idempotency key cannot be kept right now", 1)
        })?;
        let same_elsewhere = matches!(known, Known::UnderWay { fingerprint: other } if other == fingerprint);
        if !same_elsewhere || asked.elapsed() > LONGEST_WAIT {
            break known;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    };
    let sealing = Key::derive(&idempotency.pepper, &text, &place);
    match known {
        Known::Begun { fingerprint: other }
        | Known::UnderWay { fingerprint: other }
        | Known::Answered { fingerprint: other, .. }
            if other != fingerprint =>
        {
            Err(reused())
        }
        Known::UnderWay { .. } => {
            let message =
                "another replica is still answering the first request with this `Idempotency-Key`; send it again later";
            Err(ApiError::request(StatusCode::CONFLICT, "idempotency_in_progress", None, message))
        }
        Known::Begun { .. } => Err(ApiError::request(
            StatusCode::CONFLICT,
            "idempotency_outcome_unknown",
            None,
            "the first request with this `Idempotency-Key` is under way at another server, was cut by a stop of the router, or \
             its answer could not be kept; it may have been answered and paid, so it is not sent again: try later, or use a \
             new key to ask once more",
        )),
        Known::Answered { answer, .. } => {
            let answer = sealing.open(&answer).ok_or_else(ApiError::internal)?;
            shared.gateway.replayed(request_id(&parts.headers), answer.status.as_u16(), &caller.tenant);
            // Whoever sent the key meanwhile gets it, too.
            let recording = &leaving.under_way.recording;
            let ended = recording.record(answer.into_response()).await;
            recording.finish(ended.rest);
            Ok(replayed(recording.follow().await?))
        }
        Known::Nothing => {
            let request = Request::from_parts(parts, Body::from(body));
            let first = leaving.under_way.clone();
            shared.operations.tasks().spawn(run(leaving, sealing, request, next));
            first.recording.first().await
        }
    }
}

/// Does the request, to its end.
async fn run(leaving: Leaving, sealing: Key, request: Request, next: Next) {
    let response = next.run(request).await;
    let memory = &leaving.shared.idempotency.memory;
    let ended = leaving.under_way.recording.record(response).await;
    let kept = match ended.answer {
        Some(answer) => match sealing.seal(&answer) {
            Some(sealed) => memory.keep(leaving.place, sealed).await,
            // Too large to be kept: the mark stays, and says so to whoever sends the key again.
            None => Ok(()),
        },
        None => memory.release(leaving.place).await,
    };
    if let Err(failure) = kept {
        tracing::error!(error = %failure, "what became of an idempotency key is not kept; the key cannot be used again");
    }
    leaving.under_way.recording.finish(ended.rest);
}

/// Gives the place back to memory alone. A task that panics or is dropped leaves its mark there.
struct Leaving {
    shared: Shared,
    place: Place,
    under_way: Arc<UnderWay>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.under_way.recording.abandon();
        self.shared.idempotency.memory.abandon(self.place);
        self.shared.idempotency.under_way.remove(&self.place);
    }
}

fn key(headers: &HeaderMap) -> Result<&str, ApiError> {
    let bad = |message: &str| {
        ApiError::request(StatusCode::BAD_REQUEST, "invalid_idempotency_key", Some("Idempotency-Key"), message)
    };
    let mut all = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return Err(bad("send one `Idempotency-Key`")) };
    let text = value.to_str().map_err(|_| bad("`Idempotency-Key` has characters that are no visible ASCII"))?;
    if (1..=LONGEST).contains(&text.len()) { Ok(text) } else { Err(bad("`Idempotency-Key` has 1 to 255 characters")) }
}

/// Nobody finds another one's answer: not by guessing the key, and not by choosing the same one.
fn owner(caller: &Caller, headers: &HeaderMap, peer: Option<&Peer>) -> String {
    if !caller.tenant.is_anonymous() {
        return caller.tenant.id.to_string();
    }
    match credential(headers) {
        Ok(Some(credential)) => format!("credential {credential}"),
        _ => peer.map_or_else(String::new, |peer| format!("address {}", peer.0.to_canonical())),
    }
}

fn reused() -> ApiError {
    let message = "this `Idempotency-Key` was sent with another path or body; use a new key for a new request";
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    ApiError::request(status, "idempotency_key_reused", Some("Idempotency-Key"), message)
}

fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
