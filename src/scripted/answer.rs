//! The answer to one request as pieces, before the connection does its worst to them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::act::{Act, Content};
use super::{model, packing};
use crate::catalog::Fault;
use crate::catalog::fault::{Body, Break, Miscount};

/// Pieces of a body. A plain body is one piece.
pub(super) struct Answer {
    pub status: u16,
    pub content_type: String,
    pub pieces: Vec<Bytes>,
    /// Sent in chunks, as a stream whose length nobody knows.
    pub chunked: bool,
    /// The `content-encoding` that is announced.
    pub encoding: Option<&'static str>,
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// One piece of an endless event.
const ENDLESS_PIECE: usize = 64 << 10;
/// Far more than anybody should hold of one event.
const ENDLESS_PIECES: usize = 1024;

pub(super) fn of(act: &Act, request: &Value) -> std::io::Result<Answer> {
    let fault = &act.fault;
    let status = fault.status.unwrap_or(200);
    let streams = request["stream"].as_bool().unwrap_or(false);
    let mut answer = match &act.content {
        _ if matches!(status, 204 | 205 | 304) => plain(status, "", Bytes::new()),
        _ if fault.body.is_some() => instead(act, status, request, streams)?,
        Content::Raw { content_type, body } => plain(status, content_type, body.clone()),
        _ if status >= 300 => plain(status, JSON, error(status)),
        content => said(content, fault, status, request, streams),
    };
    if let Some(miscount) = fault.usage {
        answer.pieces.iter_mut().for_each(|piece| *piece = miscounted(piece, miscount));
    }
    shorten(&mut answer, &act.content, fault);
    if let Some(encoding) = fault.encoding {
        answer.pieces = packing::packed(&answer.pieces, encoding)?;
        if !answer.chunked {
            answer.pieces = vec![answer.pieces.concat().into()];
        }
    }
    answer.encoding = answer.encoding.or(fault.encoding.or(fault.pretend).map(|encoding| encoding.as_str()));
    Ok(answer)
}

fn plain(status: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
    Answer { status, content_type: content_type.to_owned(), pieces: vec![body.into()], chunked: false, encoding: None }
}

fn stream(status: u16, pieces: impl IntoIterator<Item = Bytes>) -> Answer {
    Answer {
        status,
        content_type: EVENTS.to_owned(),
        pieces: pieces.into_iter().collect(),
        chunked: true,
        encoding: None,
    }
}

fn error(status: u16) -> Bytes {
    let error = json!({"message": format!("scripted {status}"), "type": "scripted", "param": null, "code": null});
    json!({"error": error}).to_string().into()
}

/// What was to be said, without the trouble that comes later.
fn said(content: &Content, fault: &Fault, status: u16, request: &Value, streams: bool) -> Answer {
    let complete = fault.breaks.is_none();
    let words = fault.tokens.map(|tokens| "word ".repeat(tokens.min(1_000_000) as usize));
    let text = |text: &str| words.clone().unwrap_or_else(|| text.to_owned());
    let mut answer = match content {
        Content::Chat(said) if streams => stream(status, chat_events(&text(said), request, complete)),
        Content::Chat(said) => plain(status, JSON, chat_body(&text(said), request)),
        Content::Model(said) if streams => {
            stream(status, model::events(&text(said), request, complete).into_iter().map(Bytes::from))
        }
        Content::Model(said) => plain(status, JSON, model::body(&text(said), request)),
        Content::Events(events) => {
            let done = (complete && !fault.no_done).then(|| Bytes::from("data: [DONE]\n\n"));
            stream(status, events.iter().map(|event| Bytes::from(event.clone())).chain(done))
        }
        Content::Raw { content_type, body } => plain(status, content_type, body.clone()),
        Content::Wire(bytes) => plain(status, "", bytes.clone()),
    };
    if fault.no_done && !matches!(content, Content::Events(_)) {
        answer.pieces.retain(|piece| !piece.starts_with(b"data: [DONE]"));
    }
    answer
}

/// What stands in the place of an answer.
fn instead(act: &Act, status: u16, request: &Value, streams: bool) -> std::io::Result<Answer> {
    let choices = |choices: Value| {
        let body = json!({"id": "chatcmpl-scripted", "object": "chat.completion", "model": request["model"], "choices": choices});
        match streams {
            true => stream(status, [Bytes::from(format!("data: {body}\n\n")), "data: [DONE]\n\n".into()]),
            false => plain(status, JSON, body.to_string()),
        }
    };
    let mut answer = said(&act.content, &act.fault, status, request, streams);
    Ok(match act.fault.body {
        None => answer,
        Some(Body::Html) => plain(status, "text/html", HTML),
        Some(Body::Text) => plain(status, "text/plain", "upstream connect error or disconnect/reset before headers"),
        Some(Body::Empty) => plain(status, if streams { EVENTS } else { JSON }, ""),
        Some(Body::NoChoices) => choices(json!([])),
        Some(Body::NullChoices) => choices(Value::Null),
        Some(Body::Truncated) => {
            let is_end = |piece: &Bytes| memchr::memmem::find(piece, b"\"finish_reason\":\"").is_some();
            let last = answer.pieces.iter().position(is_end).unwrap_or(answer.pieces.len());
            answer.pieces.truncate(last.saturating_add(1));
            if let Some(piece) = answer.pieces.last_mut() {
                piece.truncate(piece.len() / 2);
            }
            answer
        }
        Some(Body::Malformed) if streams => {
            answer.pieces.insert(2.min(answer.pieces.len()), "data: {broken\n\n".into());
            answer
        }
        Some(Body::Malformed) => plain(status, JSON, "{broken"),
        Some(Body::Endless) => {
            let piece = Bytes::from(vec![b'x'; ENDLESS_PIECE]);
            let begin = Bytes::from("data: {\"x\":\"");
            stream(status, std::iter::once(begin).chain(std::iter::repeat_n(piece, ENDLESS_PIECES)))
        }
        Some(Body::Bomb(bytes)) => {
            let bomb = packing::bomb(bytes)?;
            Answer { encoding: Some("gzip"), ..plain(status, if streams { EVENTS } else { JSON }, bomb) }
        }
    })
}

/// What a proxy in front of a provider says, with something in it that must not be rendered.
const HTML: &str = "<!doctype html><html><title>502 Bad Gateway</title><body><h1>502 Bad Gateway</h1>\
                    <script>alert(1)</script></body></html>";

/// Keeps what is sent before the connection breaks.
fn shorten(answer: &mut Answer, content: &Content, fault: &Fault) {
    let Some(Break { after: Some(tokens), .. }) = fault.breaks.filter(|breaks| breaks.after != Some(Break::AFTER_ALL))
    else {
        return;
    };
    if answer.chunked {
        // The first event of a chat stream is the role.
        let before = usize::from(matches!(content, Content::Chat(_) | Content::Model(_)));
        answer.pieces.truncate(before.saturating_add(usize::try_from(tokens).unwrap_or(usize::MAX)));
    }
}

/// The same piece with another token count, if it has one.
fn miscounted(piece: &Bytes, miscount: Miscount) -> Bytes {
    let text = String::from_utf8_lossy(piece);
    let (before, json) = text.strip_prefix("data: ").map_or(("", &*text), |json| ("data: ", json));
    let Ok(mut value) = serde_json::from_str::<Value>(json.trim_end()) else { return piece.clone() };
    if !value["usage"].is_object() {
        return piece.clone();
    }
    let counts = |prompt: Value, completion: Value, total: Value| json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total});
    value["usage"] = match miscount {
        Miscount::Absurd => counts(json!(u64::MAX), json!(9e18), json!(7)),
        Miscount::Negative => counts(json!(-10), json!(-3), json!(-13)),
        Miscount::Text => counts(json!("ten"), json!("3"), Value::Null),
        Miscount::Missing => Value::Null,
    };
    let after = if before.is_empty() { "" } else { "\n\n" };
    format!("{before}{value}{after}").into()
}

fn usage(text: &str) -> Value {
    let tokens = text.split_whitespace().count();
    json!({"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens})
}

fn chat_body(text: &str, request: &Value) -> Bytes {
    let message = json!({"role": "assistant", "content": text});
    json!({
        "id": "chatcmpl-scripted", "object": "chat.completion", "created": 1_700_000_000, "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": null}],
        "usage": usage(text),
    })
    .to_string()
    .into()
}

/// The events of a streamed answer: the role, one word a chunk, the end unless it breaks before.
fn chat_events(text: &str, request: &Value, complete: bool) -> Vec<Bytes> {
    let event = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": request["model"], "choices": choices, "usage": usage,
        });
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let choice = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
    let mut events = vec![event(choice(json!({"role": "assistant", "content": ""}), Value::Null), Value::Null)];
    for word in text.split_inclusive(' ').filter(|word| !word.is_empty()) {
        events.push(event(choice(json!({"content": word}), Value::Null), Value::Null));
    }
    if complete {
        events.push(event(choice(json!({}), json!("stop")), Value::Null));
        if request["stream_options"]["include_usage"] == true {
            events.push(event(json!([]), usage(text)));
        }
        events.push("data: [DONE]\n\n".into());
    }
    events
}
