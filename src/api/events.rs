//! `GET /v1/events`: what happens, as it happens or as it happened.
//!
//! Events of the log have an id and can be continued behind it, whoever wrote them. Those of requests that are answered
//! at once are told from their rows when they end, by the server that answered them, and have none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::caller::Caller;
use super::edge::request_id;
use super::error::ApiError;
use super::later::{Desk, unkept};
use super::openapi::{self, answered};
use super::progress::event_stream;
use crate::events::log::Wanted;
use crate::events::{Event, Kind, life};
use crate::ledger::row::Row;
use crate::ledger::usage::moment;

/// How often the log is looked at; other processes write it, too.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 500;
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What happens, as an event stream: from now on, or from behind `after` or `Last-Event-ID`. As JSON for who accepts that:
/// a page of what has happened. Who is no operator sees what its own key did.
#[utoipa::path(get, path = "/v1/events", tag = openapi::REPORTS, operation_id = "events",
    params(("kind" = Option<String>, Query, description = "One or several kinds, comma separated.", example = "completed,failed"),
        ("subject" = Option<String>, Query, description = "Of this request, batch or target only."),
        ("key" = Option<String>, Query, description = "Of this key only."),
        ("since" = Option<String>, Query, description = "How long ago, in days such as 7d; RFC 3339 and other durations are understood too.", pattern = "^[1-9][0-9]{0,2}d$", example = "7d"),
        ("until" = Option<String>, Query, description = "The end, as for `since`.", pattern = "^([1-9]|1[0-9]|2[0-3])h$", example = "1h"),
        ("after" = Option<u64>, Query, description = "The last `seq` that is known.", maximum = 1_000_000_000),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Of a page; 100 if not given.")),
    responses((status = 200, description = "The events.", content((answered::Events = "application/json"), (answered::Event = "text/event-stream"))),
        (status = 400, description = "A parameter is unknown or has an impossible value.", body = answered::Failed),
        (status = 503, description = "The log cannot be read right now.", body = answered::Failed)))]
pub async fn list(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    let result = async {
        let mut asked = Asked::read(&parameters)?;
        if let Some(key) = caller.sees_only() {
            asked.wanted.key = Some(key.to_owned());
        }
        let said = headers.get(&LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let after = said.or(asked.after);
        let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accepted.contains("application/json") && !accepted.contains("text/event-stream") {
            let events = desk.kept.log.behind(after.unwrap_or(0), &asked.wanted, asked.limit).await.map_err(unkept)?;
            let next = events.last().and_then(|event| event.seq).filter(|_| events.len() == asked.limit);
            let page = json!({"object": "list", "has_more": next.is_some(), "next": next, "data": events});
            return Ok(Json(page).into_response());
        }
        let place = match after {
            Some(place) => place,
            None if asked.wanted.since_ms.is_some() => 0,
            None => desk.kept.log.end().await.map_err(unkept)?,
        };
        Ok(streamed(desk, asked.wanted, place))
    };
    result.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

struct Asked {
    wanted: Wanted,
    after: Option<i64>,
    limit: usize,
}

impl Asked {
    fn read(parameters: &HashMap<String, String>) -> Result<Self, ApiError> {
        let bad = |param: &str, message: &str| {
            ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", Some(param), message)
        };
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let mut asked = Self { wanted: Wanted::default(), after: None, limit: DEFAULT_LIMIT };
        for (name, value) in parameters {
            let time = || moment(value, now_ms).map(Some).map_err(|error| bad(name, &error.to_string()));
            match name.as_str() {
                "kind" => {
                    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                        let word: String = word.chars().take(60).collect();
                        let kind = Kind::parse(&word).ok_or_else(|| {
                            let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
                            bad(name, &format!("`{word}` is no kind of event; there are {}", known.join(", ")))
                        })?;
                        asked.wanted.kinds.push(kind);
                    }
                }
                "subject" => asked.wanted.subject = Some(value.clone()),
                "key" => asked.wanted.key = Some(value.clone()),
                "since" => asked.wanted.since_ms = time()?,
                "until" => asked.wanted.until_ms = time()?,
                "after" => {
                    let place = value.parse().ok().filter(|place| *place >= 0);
                    asked.after = Some(place.ok_or_else(|| bad(name, "`after` is the `seq` of an event"))?);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    asked.limit = limit.ok_or_else(|| bad(name, "`limit` is a number from 1 to 1000"))?;
                }
                _ => {
                    let known = "kind, subject, key, since, until, after, limit";
                    return Err(bad(name, &format!("unknown parameter; there are {known}")));
                }
            }
        }
        Ok(asked)
    }
}

fn streamed(desk: Arc<Desk>, wanted: Wanted, mut place: i64) -> Response {
    let body = async_stream::stream! {
        let mut rows = desk.operations.follow_rows();
        let mut silent_since = Instant::now();
        // At once, so that a client knows that it is heard.
        yield Ok::<_, std::convert::Infallible>(Bytes::from_static(b": following\n\n"));
        loop {
            // A log that cannot be read right now is read later, from the same place.
            if let Ok(events) = desk.kept.log.behind(place, &wanted, AT_ONCE).await {
                let is_full = events.len() == AT_ONCE;
                for event in &events {
                    place = event.seq.unwrap_or(place);
                    silent_since = Instant::now();
                    yield Ok(frame(event));
                }
                if is_full {
                    continue;
                }
            }
            if wanted.until_ms.is_some_and(|until| jiff::Timestamp::now().as_millisecond() >= until) {
                return;
            }
            if silent_since.elapsed() >= KEEP_ALIVE {
                silent_since = Instant::now();
                yield Ok(Bytes::from_static(b": waiting\n\n"));
            }
            let pause = tokio::time::sleep(LOOK_EVERY);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = desk.operations.cut().cancelled_owned() => return,
                    row = rows.recv() => match row {
                        Ok(record) => {
                            for event in life::of(&Row::without_decision(&record)) {
                                if wanted.takes(&event) {
                                    silent_since = Instant::now();
                                    yield Ok(frame(&event));
                                }
                            }
                        }
                        Err(RecvError::Lagged(lost)) => {
                            yield Ok(format!(": {lost} requests were too many to follow\n\n").into());
                        }
                        Err(RecvError::Closed) => return,
                    },
                }
            }
        }
    };
    event_stream(Body::from_stream(body))
}

/// An event as it is streamed.
pub fn frame(event: &Event) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    let id = event.seq.map(|seq| format!("id: {seq}\n")).unwrap_or_default();
    format!("{id}event: {}\ndata: {data}\n\n", event.kind.as_str()).into()
}
