//! A provider with batches of its own, in OpenAI's words and in Anthropic's: it takes files, makes batches of them, and answers
//! them when it is told to, as well or as badly as it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Answer,
    /// It is answered at greater length than anybody reads.
    AtLength,
    /// It is refused with this status.
    Status(u16),
    /// The batch ends before its turn.
    Nothing,
}

/// How the provider behaves from now on.
#[derive(Clone)]
pub struct Mood {
    /// Batches stay under way until this is true, or until they are cancelled.
    pub ends: bool,
    /// Making a batch is refused with this status.
    pub refuses: Option<u16>,
    /// OpenAI's: the batch is made and fails as a whole.
    pub fails: bool,
    /// A batch is made at once, and the answer to that comes so much later.
    pub slow_to_say: Duration,
    /// Batches stand in no list yet.
    pub unlisted: bool,
    /// A file is acknowledged when this is no longer true.
    pub holds_files: bool,
    /// Every line of the results comes twice.
    pub stutters: bool,
    /// Lines of results after which nothing comes any more.
    pub stops_after: Option<usize>,
    /// By the number of the line, from 0.
    pub fate: fn(usize) -> Fate,
    /// Everything is answered with this status.
    pub down: Option<u16>,
}

impl Default for Mood {
    fn default() -> Self {
        Self {
            ends: true,
            refuses: None,
            fails: false,
            slow_to_say: Duration::ZERO,
            unlisted: false,
            holds_files: false,
            stutters: false,
            stops_after: None,
            fate: |_| Fate::Answer,
            down: None,
        }
    }
}

/// A batch as it was made.
#[derive(Clone, Debug)]
pub struct Made {
    pub id: String,
    pub metadata: Value,
    /// Ids and requests.
    pub lines: Vec<(String, Value)>,
    pub cancelled: bool,
    created: jiff::Timestamp,
}

#[derive(Default)]
struct Kept {
    mood: Mood,
    files: BTreeMap<String, Vec<u8>>,
    made: Vec<Made>,
    deleted: Vec<String>,
    /// Requests that came one by one.
    single: Vec<Value>,
    heads: Vec<HeaderMap>,
    numbers: u32,
}

#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<Kept>, Notify)>);

pub struct Batching {
    pub url: String,
    shared: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Batching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn batching() -> Batching {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let shared = Shared::default();
    let router = Router::new()
        .route("/v1/files", post(upload))
        .route("/v1/files/{id}", axum::routing::delete(remove))
        .route("/v1/files/{id}/content", get(content))
        .route("/v1/batches", post(create).get(list))
        .route("/v1/batches/{id}", get(look))
        .route("/v1/batches/{id}/cancel", post(cancel))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/messages", post(message))
        .route("/v1/messages/batches", post(create_messages).get(list_messages))
        .route("/v1/messages/batches/{id}", get(look_at_messages).delete(remove))
        .route("/v1/messages/batches/{id}/cancel", post(cancel_messages))
        .route("/v1/messages/batches/{id}/results", get(results))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared.clone());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    Batching { url, shared, task }
}

impl Batching {
    /// Behaves differently from now on.
    pub fn becomes(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut self.shared.0.0.lock().mood);
    }

    pub fn made(&self) -> Vec<Made> {
        self.shared.0.0.lock().made.clone()
    }

    pub fn deleted(&self) -> Vec<String> {
        self.shared.0.0.lock().deleted.clone()
    }

    /// Requests that came one by one.
    pub fn single(&self) -> usize {
        self.shared.0.0.lock().single.len()
    }

    /// The heads of all requests about batches.
    pub fn heads(&self) -> Vec<HeaderMap> {
        self.shared.0.0.lock().heads.clone()
    }
}

impl Shared {
    fn kept(&self) -> parking_lot::MutexGuard<'_, Kept> {
        self.0.0.lock()
    }

    /// Notes the head, and says no where the mood is so.
    fn asked(&self, headers: &HeaderMap) -> Result<(), Response> {
        let mut kept = self.kept();
        kept.heads.push(headers.clone());
        kept.mood.down.map_or(Ok(()), |status| Err(error(status)))
    }
}

fn error(status: u16) -> Response {
    let body =
        json!({"type": "error", "error": {"type": "scripted", "message": format!("scripted {status}"), "code": null}});
    (StatusCode::from_u16(status).expect("a status"), Json(body)).into_response()
}

fn completion(request: &Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": request["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "from the batch"}}],
        "usage": {"prompt_tokens": 35, "completion_tokens": 7, "total_tokens": 42},
    })
}

fn said(request: &Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "from the batch"}], "usage": {"input_tokens": 35, "output_tokens": 7},
    })
}

async fn chat(State(shared): State<Shared>, Json(request): Json<Value>) -> Response {
    let answer = completion(&request);
    shared.kept().single.push(request);
    Json(answer).into_response()
}

async fn message(State(shared): State<Shared>, Json(request): Json<Value>) -> Response {
    let answer = said(&request);
    shared.kept().single.push(request);
    Json(answer).into_response()
}

async fn upload(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refused) = shared.asked(&headers) {
        return refused;
    }
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    let content_type = headers["content-type"].to_str().expect("text");
    let boundary = content_type.split_once("boundary=").expect("a boundary").1;
    assert!(text.ends_with(&format!("--{boundary}--\r\n")), "the form is whole");
    assert!(text.contains("name=\"purpose\"\r\n\r\nbatch\r\n"), "{text}");
    let content = text.split_once("filename=").expect("a file").1.split_once("\r\n\r\n").expect("its content").1;
    let content = content.rsplit_once(&format!("\r\n--{boundary}--")).expect("its end").0;
    while shared.kept().mood.holds_files {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut kept = shared.kept();
    kept.numbers += 1;
    let id = format!("file-{}", kept.numbers);
    kept.files.insert(id.clone(), content.as_bytes().to_vec());
    Json(json!({"id": id, "object": "file", "purpose": "batch"})).into_response()
}

/// Makes a batch, and says so as late as the mood is.
async fn make(
    shared: &Shared,
    metadata: Value,
    lines: Vec<(String, Value)>,
    show: fn(&Made, &Mood) -> Value,
) -> Response {
    let (made, mood) = {
        let mut kept = shared.kept();
        if let Some(status) = kept.mood.refuses {
            return error(status);
        }
        kept.numbers += 1;
        let id = format!("batch-{}", kept.numbers);
        let made = Made { id, metadata, lines, cancelled: false, created: jiff::Timestamp::now() };
        kept.made.push(made.clone());
        (made, kept.mood.clone())
    };
    tokio::time::sleep(mood.slow_to_say).await;
    Json(show(&made, &mood)).into_response()
}

async fn create(State(shared): State<Shared>, headers: HeaderMap, Json(asked): Json<Value>) -> Response {
    if let Err(refused) = shared.asked(&headers) {
        return refused;
    }
    assert_eq!((&asked["endpoint"], &asked["completion_window"]), (&json!("/v1/chat/completions"), &json!("24h")));
    let file = shared.kept().files[asked["input_file_id"].as_str().expect("a file")].clone();
    let lines = String::from_utf8(file).expect("UTF-8");
    let lines = lines.lines().filter(|line| !line.is_empty()).map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!((&line["method"], &line["url"]), (&json!("POST"), &json!("/v1/chat/completions")));
        (line["custom_id"].as_str().expect("an id").to_owned(), line["body"].clone())
    });
    let lines = lines.collect();
    make(&shared, asked["metadata"].clone(), lines, shown).await
}

async fn create_messages(State(shared): State<Shared>, headers: HeaderMap, Json(asked): Json<Value>) -> Response {
    if let Err(refused) = shared.asked(&headers) {
        return refused;
    }
    assert!(headers.contains_key("anthropic-version"));
    let lines = asked["requests"].as_array().expect("requests").iter();
    let lines = lines.map(|line| (line["custom_id"].as_str().expect("an id").to_owned(), line["params"].clone()));
    make(&shared, Value::Null, lines.collect(), shown_messages).await
}

/// How far a batch is: `None` while it is under way.
fn ended(made: &Made, mood: &Mood) -> Option<&'static str> {
    match (made.cancelled, mood.fails, mood.ends) {
        (true, _, _) => Some("cancelled"),
        (_, true, _) => Some("failed"),
        (_, _, true) => Some("completed"),
        _ => None,
    }
}

fn shown(made: &Made, mood: &Mood) -> Value {
    let status = ended(made, mood).unwrap_or("in_progress");
    let output = ["completed", "cancelled"].contains(&status).then(|| format!("output-{}", made.id));
    let errors =
        (status == "failed").then(|| json!({"data": [{"code": "token_limit_exceeded", "message": "too much"}]}));
    json!({
        "id": made.id, "object": "batch", "status": status, "metadata": made.metadata, "errors": errors,
        "created_at": made.created.as_second(), "output_file_id": output, "error_file_id": null,
        "request_counts": {"total": made.lines.len(), "completed": 0, "failed": 0},
    })
}

fn shown_messages(made: &Made, mood: &Mood) -> Value {
    let has_ended = ended(made, mood).is_some();
    let (processing, succeeded) = if has_ended { (0, made.lines.len()) } else { (made.lines.len(), 0) };
    json!({
        "id": made.id, "type": "message_batch", "processing_status": if has_ended { "ended" } else { "in_progress" },
        "created_at": made.created.to_string(), "results_url": "http://127.0.0.1:1/elsewhere",
        "request_counts":
            {"processing": processing, "succeeded": succeeded, "errored": 0, "canceled": 0, "expired": 0},
    })
}

fn page(shared: &Shared, headers: &HeaderMap, show: fn(&Made, &Mood) -> Value) -> Response {
    if let Err(refused) = shared.asked(headers) {
        return refused;
    }
    let kept = shared.kept();
    let listed = kept.made.iter().rev().filter(|_| !kept.mood.unlisted);
    let data: Vec<Value> = listed.map(|made| show(made, &kept.mood)).collect();
    Json(json!({"object": "list", "data": data, "has_more": false})).into_response()
}

fn one(shared: &Shared, headers: &HeaderMap, id: &str, cancels: bool, show: fn(&Made, &Mood) -> Value) -> Response {
    if let Err(refused) = shared.asked(headers) {
        return refused;
    }
    let mut kept = shared.kept();
    let mood = kept.mood.clone();
    match kept.made.iter_mut().find(|made| made.id == id) {
        Some(made) => {
            made.cancelled |= cancels;
            Json(show(made, &mood)).into_response()
        }
        None => error(404),
    }
}

async fn list(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    page(&shared, &headers, shown)
}

async fn list_messages(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    page(&shared, &headers, shown_messages)
}

async fn look(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    one(&shared, &headers, &id, false, shown)
}

async fn look_at_messages(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    one(&shared, &headers, &id, false, shown_messages)
}

async fn cancel(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    one(&shared, &headers, &id, true, shown)
}

async fn cancel_messages(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    one(&shared, &headers, &id, true, shown_messages)
}

async fn remove(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if let Err(refused) = shared.asked(&headers) {
        return refused;
    }
    shared.kept().deleted.push(id.clone());
    Json(json!({"id": id, "deleted": true})).into_response()
}

async fn content(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let id = id.strip_prefix("output-").expect("results").to_owned();
    told(&shared, &headers, &id, |id, request, fate| {
        let answer = |status: u16, body: Value| json!({"status_code": status, "request_id": "r", "body": body});
        let (response, error) = match fate {
            Fate::Answer => (answer(200, completion(request)), Value::Null),
            Fate::AtLength => (answer(200, json!({"choices": [at_length()]})), Value::Null),
            Fate::Status(status) => {
                (answer(status, json!({"error": {"message": format!("scripted {status}")}})), Value::Null)
            }
            Fate::Nothing => (Value::Null, json!({"code": "batch_expired", "message": "late"})),
        };
        json!({"id": "batch_req_1", "custom_id": id, "response": response, "error": error})
    })
}

async fn results(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    told(&shared, &headers, &id, |id, request, fate| {
        let result = match fate {
            Fate::Answer => json!({"type": "succeeded", "message": said(request)}),
            Fate::AtLength => json!({"type": "succeeded", "message": {"content": [at_length()]}}),
            Fate::Status(status) => {
                let kind = if status == 400 { "invalid_request_error" } else { "api_error" };
                let error = json!({"type": "error", "error": {"type": kind, "message": format!("scripted {status}")}});
                json!({"type": "errored", "error": error})
            }
            Fate::Nothing => json!({"type": "expired"}),
        };
        json!({"custom_id": id, "result": result})
    })
}

/// More than 32 MiB.
fn at_length() -> String {
    "at length ".repeat(4 << 20)
}

/// The results, the last line first: nobody may count on their order.
fn told(shared: &Shared, headers: &HeaderMap, id: &str, show: fn(&str, &Value, Fate) -> Value) -> Response {
    if let Err(refused) = shared.asked(headers) {
        return refused;
    }
    let kept = shared.kept();
    let Some(made) = kept.made.iter().find(|made| made.id == id) else { return error(404) };
    let lines = made.lines.iter().enumerate().rev();
    let lines = lines.map(|(number, (id, request))| format!("{}\n", show(id, request, (kept.mood.fate)(number))));
    let all = made.lines.len();
    let times = if kept.mood.stutters { 2 } else { 1 };
    let lines = lines.flat_map(|line| std::iter::repeat_n(line, times));
    let pieces: Vec<String> = lines.take(kept.mood.stops_after.unwrap_or(times * all)).collect();
    let ends = kept.mood.stops_after.is_none_or(|after| after >= all);
    let body = stream::unfold((pieces.into_iter(), ends), async |(mut pieces, ends)| match pieces.next() {
        Some(piece) => Some((Ok::<_, std::io::Error>(piece), (pieces, ends))),
        None if ends => None,
        None => std::future::pending().await,
    });
    Body::from_stream(body).into_response()
}
