//! `POST /v1/chat/completions`: bytes in, an answer or an event stream out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use bytes::BytesMut;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use serde_json::json;

use super::caller::Caller;
use super::edge::request_id;
use super::error::ApiError;
use super::later::{Desk, is_background, prefers_later};
use super::openapi::{self, answered, asked};
use super::speech::{self, Speech};
use super::{compression, hints, limits, sse};
use crate::admission::Shed;
use crate::admission::intake::Intake;
use crate::chat::Invalid;
use crate::config::Server;
use crate::gateway::Gateway;
use crate::gateway::error::Error;
use crate::gateway::inbound::Inbound;
use crate::gateway::native::{Heard, Took};
use crate::gateway::reply::{self, Head, Reply};
use crate::ingress::{Writer, wellformed};
use crate::ledger::record::{Arrival, BATCH_TIER};
use crate::ledger::timing::{Millis, Timing};
use crate::money;
use crate::operations::Operations;
use crate::telemetry::trace::Parent;
use crate::units::{Size, Span};

/// Answers a chat in OpenAI's words.
#[utoipa::path(post, path = "/v1/chat/completions", tag = openapi::ANSWERS, operation_id = "chat_completions", request_body = asked::ChatRequest,
    responses((status = 200, description = "The answer, or an event stream if `stream` asked for one.",
        content((answered::ChatCompletion = "application/json"), (answered::Event = "text/event-stream")))))]
pub async fn completions(State(desk): State<Arc<Desk>>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    answer(&desk, &caller, &headers, body, Speech::Chat).await
}

/// Answers one request in the dialect in which it was asked, or takes it in to be answered later. All dialects share this
/// path.
pub async fn answer(desk: &Desk, caller: &Caller, headers: &HeaderMap, body: Body, speech: Speech) -> Response {
    if prefers_later(headers) {
        return desk.defer(caller, headers, body, speech).await;
    }
    match answer_now(&desk.gateway, &desk.operations, caller, headers, body, speech).await {
        Ok(response) => response,
        Err(InBackground(body)) => desk.defer_read(caller, headers, body, speech).await,
    }
}

/// A request whose body asks for an answer later.
pub struct InBackground(pub Bytes);

/// Answers one request while its caller waits.
pub async fn answer_now(
    gateway: &Arc<Gateway>,
    operations: &Operations,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    speech: Speech,
) -> Result<Response, InBackground> {
    let began = Instant::now();
    let id = request_id(headers).to_owned();
    let mut arrival = Arrival { ingress: speech.as_str(), parent: Parent::read(headers), reading: Duration::ZERO };
    let read = heard(gateway, caller, headers, body, began, speech, &mut arrival).await;
    let (inbound, writer, notes) = match read {
        Ok(heard) => heard,
        Err(Unread::InBackground(body)) => return Err(InBackground(body)),
        Err(Unread::Body(error) | Unread::Refused(error)) => {
            let (status, code) = (error.status().as_u16(), error.code().unwrap_or_default());
            gateway.refuse(&id, began, &arrival, status, code, &caller.tenant);
            let refused = speech.refuse(&error, &id);
            return Ok(limits::shown(refused, gateway.headrooms(caller.line, &caller.tenant).as_ref()));
        }
    };
    let (warnings, options) = (warnings(&inbound, notes), options(&inbound, operations));
    // The 200 is held back until there is content, so that a failure before it is still a status: but not for ever.
    let patience = if inbound.request.stream { sse::KEEP_ALIVE } else { Duration::MAX };
    let delivery = inbound.delivery.clone();
    let mut pending: sse::Pending = {
        let gateway = gateway.clone();
        Box::pin(async move { gateway.complete(inbound).await })
    };
    let result = tokio::select! {
        biased;
        result = tokio::time::timeout(patience, &mut pending) => result,
        () = operations.cut().cancelled_owned() => {
            delivery.stop();
            return Ok(speech.refuse(&ApiError::unavailable("shutting_down", "the router is shutting down"), &id));
        }
    };
    let response = match result {
        Ok(Ok(reply)) => respond(reply, writer, options, began, warnings),
        Ok(Err(error)) => speech.refuse(&ApiError::from(error), &id),
        Err(_) => {
            delivery.begin();
            event_stream(sse::patient_body(pending, delivery.clone(), writer, options))
        }
    };
    let mut response = limits::shown(response, delivery.headrooms());
    response.extensions_mut().insert(delivery);
    Ok(response)
}

/// What of a request could not be understood or does nothing.
fn warnings(inbound: &Inbound, mut notes: Vec<String>) -> Vec<String> {
    let hints = &inbound.hints;
    notes.extend(hints.notes.iter().cloned());
    notes.extend(hints.later.iter().map(|(hint, _)| format!("`{hint}` is for requests that are answered later")));
    notes.extend(hints.unknown.iter().map(|hint| format!("unknown hint `{hint}` ignored")));
    notes
}

fn options(inbound: &Inbound, operations: &Operations) -> sse::Options {
    sse::Options {
        request_id: inbound.id.clone(),
        stream: inbound.request.stream,
        explain: inbound.hints.explain,
        cut: operations.cut(),
        delivery: inbound.delivery.clone(),
    }
}

/// The answer to a request that a provider has answered in a batch of its own, and what it took.
pub fn answer_heard(
    gateway: &Gateway,
    operations: &Operations,
    (inbound, writer, notes): Understood,
    speech: Speech,
    heard: Heard,
) -> (Response, Took) {
    let (warnings, options) = (warnings(&inbound, notes), options(&inbound, operations));
    let (began, id) = (inbound.began, inbound.id.clone());
    let (reply, took) = gateway.heard(&gateway.rules(), inbound, heard);
    let mut response = match reply {
        Ok(reply) => respond(reply, writer, options, began, warnings),
        Err(error) => speech.refuse(&ApiError::from(error), &id),
    };
    put(response.headers_mut(), "x-stepwell-service-tier", BATCH_TIER);
    (response, took)
}

/// Why a request is not answered.
pub enum Unread {
    /// The body did not arrive.
    Body(ApiError),
    /// It arrived and is no request.
    Refused(ApiError),
    /// It is one, and asks for an answer later.
    InBackground(Bytes),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self::Refused(error.into())
    }
}

impl From<ApiError> for Unread {
    fn from(error: ApiError) -> Self {
        Self::Body(error)
    }
}

impl From<Unread> for ApiError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Body(error) | Unread::Refused(error) => error,
            // Only who can answer later is told so.
            Unread::InBackground(_) => Self::internal(),
        }
    }
}

/// Reads and validates a chat request.
pub async fn inbound(
    gateway: &Gateway,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    began: Instant,
) -> Result<Inbound, Unread> {
    let arrival = &mut Arrival::default();
    heard(gateway, caller, headers, body, began, Speech::Chat, arrival).await.map(|(inbound, ..)| inbound)
}

async fn heard(
    gateway: &Gateway,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    began: Instant,
    speech: Speech,
    arrival: &mut Arrival,
) -> Result<Understood, Unread> {
    gateway.check_room(caller.line, &caller.tenant)?;
    let body = read(gateway, headers, body).await;
    arrival.reading = began.elapsed();
    let body = body?;
    if speech == Speech::Responses && is_background(&body) {
        return Err(Unread::InBackground(body));
    }
    Ok(understood(caller, headers, body, began, speech, arrival)?)
}

/// A request, who writes its answer, and what of it could not be understood.
pub type Understood = (Inbound, Box<dyn Writer>, Vec<String>);

/// Makes a request of a body.
pub fn understood(
    caller: &Caller,
    headers: &HeaderMap,
    body: Bytes,
    began: Instant,
    speech: Speech,
    arrival: &Arrival,
) -> Result<Understood, Error> {
    let speech::Heard { mut request, writer, notes } = speech.read(body)?;
    request.forwarded = forwarded(headers);
    let hints = hints::read(headers, &request)?;
    if let Some(note) = notes.first().filter(|_| hints.require_parameters) {
        return Err(Invalid::value("provider.require_parameters", note.clone()).into());
    }
    let cache_control = headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let says = |word: &str| cache_control.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
    let inbound = Inbound {
        request,
        hints,
        id: request_id(headers).into(),
        began,
        began_unix_ms: jiff::Timestamp::now().as_millisecond(),
        tenant: caller.tenant.clone(),
        partition: caller.partition.clone(),
        caller: caller.line,
        no_store: says("no-store"),
        refresh: says("no-cache"),
        delivery: Arc::default(),
        arrival: arrival.clone(),
        treatment: None,
    };
    Ok((inbound, writer, notes))
}

/// What a provider is to see of the caller's headers: nothing but the features that an Anthropic client asks for.
fn forwarded(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let named = ["anthropic-beta", "anthropic-version"].into_iter().filter_map(|name| {
        let all: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        let all = all.join(",");
        let fits = all.len() <= LONGEST_FEATURES && !all.is_empty();
        fits.then_some((name, all))
    });
    named.collect()
}

/// Longest list of features that is passed on, in bytes.
const LONGEST_FEATURES: usize = 1000;

/// Reads a request's body of JSON, within its limits.
pub async fn read(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let body = read_any(gateway, headers, body).await?;
    match wellformed::flaw(&body) {
        None => Ok(body),
        Some(flaw) => Err(ApiError::request(StatusCode::BAD_REQUEST, "invalid_json", None, flaw)),
    }
}

/// Reads a request's body, within its limits of size and time. What is left of one that is too large, the connection
/// reads and forgets after the answer.
pub async fn read_any(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let rules = gateway.rules();
    let Server { body_limit: Size(limit), body_timeout: Span(timeout), .. } = rules.settings.server;
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes (`server.body_limit`)");
        ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", None, message)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let body = compression::decoded(headers, body, most)?;
    match tokio::time::timeout(timeout, whole(body, limit, &gateway.intake)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(Cut::TooLong)) => Err(too_large()),
        Ok(Err(Cut::Shed(shed))) => Err(gateway.shed(shed).into()),
        Ok(Err(Cut::Incomplete)) => Err(ApiError::request(
            StatusCode::BAD_REQUEST,
            "incomplete_body",
            None,
            "the body could not be read to its end, or is not what its `content-encoding` says",
        )),
        Err(_) => Err(ApiError::request(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            None,
            format!("the body did not arrive within {timeout:?} (`server.body_timeout`)"),
        )),
    }
}

/// Why a body was not read to its end.
enum Cut {
    TooLong,
    Shed(Shed),
    Incomplete,
}

/// Copies what comes: a piece of a few bytes keeps the whole buffer that it was read into.
async fn whole(body: Body, limit: u64, intake: &Intake) -> Result<Bytes, Cut> {
    let mut body = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    let mut reading = intake.begin(limit);
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| if compression::is_too_long(&*error) { Cut::TooLong } else { Cut::Incomplete })?;
        let Ok(piece) = frame.into_data() else { continue };
        if whole.is_empty() && body.is_end_stream() {
            return Ok(piece);
        }
        reading.add(piece.len()).map_err(Cut::Shed)?;
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn respond(
    reply: Reply,
    mut writer: Box<dyn Writer>,
    options: sse::Options,
    began: Instant,
    mut warnings: Vec<String>,
) -> Response {
    let Reply { head, body } = reply;
    warnings.extend(head.warnings.iter().cloned());
    let mut response = match body {
        reply::Body::Whole(whole) if options.stream => {
            // The provider answered in one piece although a stream was asked for.
            event_stream(Body::from(sse::whole(&head, &whole, &mut *writer, &options)))
        }
        reply::Body::Whole(whole) => {
            let cost = whole.usage.as_ref().and_then(|usage| usage.cost);
            let mut bytes = Vec::with_capacity(1024);
            writer.whole(&whole, &mut bytes);
            if options.explain {
                bytes.pop();
                bytes.extend_from_slice(b",\"stepwell\":");
                bytes.extend_from_slice(&decision(&head, &options.request_id));
                bytes.push(b'}');
            }
            let mut response = Response::new(Body::from(bytes));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            // Unknown is said as unknown, never as 0.
            put(headers, "x-stepwell-cost-usd", &cost.map_or("unknown".to_owned(), money::decimal));
            response
        }
        reply::Body::Stream(stream) => event_stream(sse::body(&head, stream, writer, options)),
    };
    describe(response.headers_mut(), &head, began, &warnings);
    for transform in &head.changes {
        transform.response.headers.apply(response.headers_mut());
    }
    response
}

/// Longest `x-stepwell-warnings`, in characters.
const MAX_WARNINGS: usize = 2000;

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    // Exactly this: some clients compare the whole value.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn describe(headers: &mut HeaderMap, head: &Head, began: Instant, warnings: &[String]) {
    put(headers, "x-stepwell-provider", &head.provider);
    put(headers, "x-stepwell-model", &head.target_model);
    put(headers, "x-stepwell-task", &head.task);
    headers.insert(HeaderName::from_static("x-stepwell-strategy"), HeaderValue::from_static(head.strategy));
    put(headers, "x-stepwell-reason", &head.reason);
    headers.insert(HeaderName::from_static("x-stepwell-attempts"), HeaderValue::from(head.attempts));
    headers.insert(HeaderName::from_static("x-stepwell-cache"), HeaderValue::from_static(head.cache.as_str()));
    let elapsed = began.elapsed();
    headers
        .insert(HeaderName::from_static("x-stepwell-response-time-ms"), HeaderValue::from(elapsed.as_millis() as u64));
    put(headers, "server-timing", &server_timing(&head.timing, elapsed));
    if !head.guards.is_empty() {
        put(headers, "x-stepwell-guards", &head.guards);
    }
    if !warnings.is_empty() {
        // Some of them quote the caller: bounded, because clients and proxies refuse long headers.
        let text: String = warnings.join("; ").chars().take(MAX_WARNINGS).collect();
        put(headers, "x-stepwell-warnings", &text);
    }
}

/// Where the time went until the head of the answer, in milliseconds; of a stream until its first content. What is left of
/// the total is the router's own.
fn server_timing(timing: &Timing, total: Duration) -> String {
    let Timing { reading, queued, routing, upstream, .. } = timing;
    let upstream = upstream.map(|upstream| format!("upstream;dur={}, ", Millis(upstream))).unwrap_or_default();
    let [read, queue, route, total] = [*reading, *queued, *routing, total].map(Millis);
    format!("read;dur={read}, queue;dur={queue}, route;dur={route}, {upstream}total;dur={total}")
}

/// Sets a header to text that may hold anything.
fn put(headers: &mut HeaderMap, name: &'static str, text: &str) {
    let value = HeaderValue::from_str(text).unwrap_or_else(|_| {
        let plain: String = text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        HeaderValue::try_from(plain).unwrap_or_else(|_| HeaderValue::from_static(""))
    });
    headers.insert(HeaderName::from_static(name), value);
}

/// The `stepwell` object of an explained answer.
pub fn decision(head: &Head, request_id: &str) -> Vec<u8> {
    let explanation = head.explanation.as_deref().and_then(|explanation| serde_json::to_value(explanation).ok());
    let decision = json!({
        "request_id": request_id,
        "provider": *head.provider,
        "model": head.target_model,
        "attempts": head.attempts,
        "cache": head.cache.as_str(),
        "reason": head.reason,
        "decision": explanation,
    });
    decision.to_string().into_bytes()
}
