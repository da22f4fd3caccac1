//! Recorded answers of real providers, read by the adapters and, independently, by [`reading`]: both must agree.
//!
//! `fixtures/recordings/README.md` says where they come from. A stream is fed as a whole, byte by byte and cut at
//! random: the answer must not depend on the cuts.

mod asking;
mod converse;
mod hostile;
mod reading;

use std::path::{Path, PathBuf};

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::adapter;
use super::adapter::{Adapter, Piece};
use super::framing::frames::frame;
use crate::catalog::Format;
use crate::chat::{Assembly, Response, Sequence, Usage};
use reading::{Answer, Call, Choice, Counts};

/// Recordings whose two readings differ, and why that is right.
const EXCEPTIONS: [(&str, &str); 3] = [
    (
        "anthropic/messages-stream-toolcall-3fe8781b.json",
        "its project put two messages into one stream; the first one ends it",
    ),
    ("anthropic/messages-stream-toolcall-parallel-a7ec3c7a.json", "its project put several messages into one stream"),
    ("vertex/generate-stopseq-fd80f084.json", "was asked for enumerations as numbers, which the adapter never does"),
];

/// Those that read bytes of others.
const FORMATS: [Format; 6] =
    [Format::OpenAi, Format::Anthropic, Format::Gemini, Format::Bedrock, Format::Cohere, Format::Ollama];

struct Recording {
    name: String,
    format: Format,
    request: Value,
    response: Value,
}

fn recordings() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings");
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            folder.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let files = entries(&root).into_iter().filter(|path| path.is_dir()).flat_map(|folder| entries(&folder));
    files
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a recording");
            let mut recording: Value = serde_json::from_str(&text).expect("JSON");
            let format = match recording["api"].as_str().expect("an api") {
                "messages" => Format::Anthropic,
                "generate" => Format::Gemini,
                "converse" => Format::Bedrock,
                "ollama-chat" => Format::Ollama,
                "chat" if recording["provider"] == "cohere" => Format::Cohere,
                _ => Format::OpenAi,
            };
            let name = path.strip_prefix(&root).expect("inside").display().to_string();
            let (request, response) = (recording["request"].take(), recording["response"].take());
            Recording { name, format, request, response }
        })
        .collect()
}

/// The stream's bytes; where only payloads were kept, with the framing written anew.
fn stream_bytes(format: Format, response: &Value) -> Option<Vec<u8>> {
    if let Some(text) = response["sse"].as_str().or(response["text"].as_str()) {
        return Some(text.as_bytes().to_vec());
    }
    if let Some(text) = response["base64"].as_str() {
        return Some(converse::base64(text));
    }
    let events = response["events"].as_array()?;
    if format == Format::Bedrock {
        return Some(events.iter().flat_map(framed).collect());
    }
    let mut bytes = String::new();
    for event in events {
        let data = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
        if matches!(format, Format::Anthropic | Format::Cohere) {
            let kind = serde_json::from_str::<Value>(&data).expect("JSON");
            bytes.push_str(&format!("event: {}\n", kind["type"].as_str().expect("a type")));
        }
        bytes.push_str(&format!("data: {data}\n\n"));
    }
    if format == Format::OpenAi && !bytes.contains("[DONE]") {
        bytes.push_str("data: [DONE]\n\n");
    }
    Some(bytes.into_bytes())
}

/// A payload under its event's name, as a frame.
fn framed(event: &Value) -> Vec<u8> {
    let event: Value = serde_json::from_str(event.as_str().expect("text")).expect("JSON");
    let (name, payload) = event.as_object().and_then(|event| event.iter().next()).expect("one member");
    frame(&[(":message-type", "event"), (":event-type", name)], &payload.to_string())
}

/// What a caller would get from a stream that arrives in these pieces. `None` if the answer fails.
fn play(adapter: &dyn Adapter, pieces: &mut dyn Iterator<Item = &[u8]>) -> Option<Response> {
    let (mut cutter, mut decoder) = (adapter.framing().cutter(), adapter.decoder());
    let (mut sequence, mut assembly) = (Sequence::default(), Assembly::default());
    let (mut events, mut out) = (Vec::new(), Vec::new());
    let mut done = false;
    let mut take = |events: &mut Vec<_>, sequence: &mut Sequence| {
        for event in events.drain(..) {
            decoder.event(&event, &mut out);
        }
        for piece in out.drain(..) {
            match piece {
                _ if done => {}
                Piece::Chunk(chunk) => {
                    if let Some(chunk) = sequence.accept(chunk) {
                        assembly.push(&chunk);
                    }
                }
                Piece::Done => done = true,
                Piece::Failure(_) => return None,
                Piece::Unreadable => panic!("an event of a recording is unreadable"),
            }
        }
        Some(())
    };
    for piece in pieces {
        cutter.push(piece, &mut events).expect("small events");
        take(&mut events, &mut sequence)?;
    }
    cutter.finish(&mut events);
    take(&mut events, &mut sequence)?;
    if let Some(last) = sequence.end(done).ok()? {
        assembly.push(&last);
    }
    let usage = sequence.usage.clone();
    Some(assembly.into_response(sequence.id.unwrap_or_default(), 0, sequence.model.unwrap_or_default(), usage))
}

/// Cuts `bytes` into pieces of 1 to 200 bytes that look random and are the same on every run.
fn cut(bytes: &[u8], mut seed: u64) -> Vec<&[u8]> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = ((seed >> 33) as usize % 200 + 1).min(rest.len());
        let (piece, after) = rest.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// An answer as far as it is compared.
fn seen(response: &Response) -> Answer {
    let choices = response.choices.iter().map(|choice| Choice {
        index: u64::from(choice.index),
        text: choice.message.content.clone().unwrap_or_default(),
        reasoning: choice.message.reasoning_content.clone().unwrap_or_default(),
        calls: choice
            .message
            .tool_calls
            .iter()
            .map(|call| {
                assert!(!call.id.is_empty(), "a call without an id");
                Call::new(&call.name, &call.arguments)
            })
            .collect(),
        finish: choice.finish.as_str().to_owned(),
    });
    let counts = |usage: &Usage| Counts {
        prompt: usage.prompt_tokens,
        completion: usage.completion_tokens,
        cached: usage.cached_tokens,
        cache_write: usage.cache_write_tokens,
        reasoning: usage.reasoning_tokens,
    };
    Answer { choices: choices.collect(), counts: response.usage.as_ref().map(counts) }
}

/// The adapter's reading, the independent one, and whether a stream's answer depends on its cuts.
fn both(recording: &Recording) -> (Option<Answer>, Option<Answer>, bool) {
    let adapter = adapter(recording.format);
    let response = &recording.response;
    let Some(bytes) = stream_bytes(recording.format, response) else {
        let body = response["body"].to_string();
        let answer = adapter.decode(body.as_bytes()).ok();
        return (answer.as_ref().map(seen), reading::whole(recording.format, &response["body"]), true);
    };
    let whole = play(adapter, &mut std::iter::once(&bytes[..]));
    let written =
        |answer: &Option<Response>| answer.as_ref().map(|answer| serde_json::to_string(answer).expect("JSON"));
    let same = std::iter::once(play(adapter, &mut bytes.chunks(1)))
        .chain((0..4).map(|seed| play(adapter, &mut cut(&bytes, seed).into_iter())))
        .all(|other| written(&other) == written(&whole));
    let theirs = match recording.format {
        Format::Bedrock => converse::stream(&bytes),
        format => reading::stream(format, &String::from_utf8_lossy(&bytes)),
    };
    (whole.as_ref().map(seen), theirs, same)
}

#[test]
fn every_recorded_answer_is_read_as_it_was_meant() {
    let (mut answers, mut failures, mut differing) = (0, 0, Vec::new());
    for recording in recordings() {
        if recording.response["status"].as_u64().is_some_and(|status| status >= 300) {
            continue;
        }
        let (ours, theirs, same) = both(&recording);
        let is_exception = EXCEPTIONS.iter().any(|(name, _)| *name == recording.name);
        match &theirs {
            Some(_) => answers += 1,
            None => failures += 1,
        }
        if (ours != theirs || !same) != is_exception {
            let cuts = if same { "" } else { " (depends on the cuts)" };
            differing.push(format!("{}{cuts}\n  adapter {ours:?}\n  reading {theirs:?}", recording.name));
        }
    }
    println!("{answers} answers and {failures} failures inside a 200");
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    assert!(answers > 400, "only {answers} recordings were read");
}

/// True if an object inside `json` has a member twice: what a client reads of it then depends on the client.
fn says_twice(json: &serde_json::value::RawValue) -> bool {
    use crate::chat::Object;
    if let Ok(object) = serde_json::from_str::<Object<'_>>(json.get()) {
        let mut seen = std::collections::HashSet::new();
        return object.0.iter().any(|(name, value)| !seen.insert(name) || says_twice(value));
    }
    let items: Vec<&serde_json::value::RawValue> = serde_json::from_str(json.get()).unwrap_or_default();
    items.into_iter().any(says_twice)
}

#[test]
fn no_answer_says_anything_twice() {
    let check = |name: &str, written: Result<String, serde_json::Error>| {
        let raw = serde_json::value::RawValue::from_string(written.expect("JSON")).expect("JSON");
        assert!(!says_twice(&raw), "{name}: {raw}");
    };
    for recording in recordings() {
        let adapter = adapter(recording.format);
        let response = match stream_bytes(recording.format, &recording.response) {
            None => adapter.decode(recording.response["body"].to_string().as_bytes()).ok(),
            Some(bytes) => play(adapter, &mut std::iter::once(&bytes[..])),
        };
        let Some(response) = response else { continue };
        check(&recording.name, serde_json::to_string(&response));
        for chunk in crate::chat::replay(&response) {
            check(&recording.name, serde_json::to_string(&chunk.choices));
        }
    }
}

#[test]
fn every_recorded_error_is_read_as_an_error() {
    use super::failure::FailureKind::*;
    let mut read = 0;
    for recording in recordings() {
        let status = recording.response["status"].as_u64().expect("a status") as u16;
        if status < 300 {
            continue;
        }
        let body = match &recording.response["sse"] {
            Value::String(text) => text.clone(),
            _ => recording.response["body"].to_string(),
        };
        let status_code = StatusCode::from_u16(status).expect("a status");
        let mut headers = HeaderMap::new();
        if let Some(kind) = recording.response["headers"]["x-amzn-errortype"].as_str() {
            headers.insert("x-amzn-errortype", kind.parse().expect("a value"));
        }
        let failure = adapter(recording.format).failure(status_code, &headers, body.as_bytes(), 0);
        let allowed: &[_] = match status {
            401 | 403 => &[Credential],
            404 => &[NotFound],
            429 => &[RateLimited, QuotaExhausted],
            402 => &[QuotaExhausted],
            400 | 422 => &[BadRequest, ContextLength, Credential, ContentFilter, Malformed, NotFound],
            _ => &[ServerError, Overloaded],
        };
        assert!(allowed.contains(&failure.kind), "{}: {failure:?}", recording.name);
        assert!(!failure.message.is_empty() && !failure.message.starts_with('{'), "{}: {failure:?}", recording.name);
        read += 1;
    }
    println!("{read} errors");
    assert!(read > 10, "only {read} errors were read");
}

/// Puts something else in the place of one value inside `value`.
fn disturb(value: &mut Value, seed: &mut u64) {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let roll = (*seed >> 33) as usize;
    let inner = match value {
        Value::Object(members) => {
            let place = roll % members.len().max(1);
            members.values_mut().nth(place)
        }
        Value::Array(items) => {
            let place = roll % items.len().max(1);
            items.get_mut(place)
        }
        _ => None,
    };
    match inner {
        Some(inner) if !roll.is_multiple_of(7) => disturb(inner, seed),
        _ => {
            let others = ["null", "-1", "1e300", "\"\"", "\"x\"", "[]", "{}", "[{}]", "true", "4294967295"];
            *value = serde_json::from_str(others[roll % others.len()]).expect("JSON");
        }
    }
}

#[test]
fn no_event_in_any_order_or_shape_makes_a_decoder_panic() {
    let mut seed = 1;
    for recording in recordings() {
        let Some(bytes) = stream_bytes(recording.format, &recording.response) else { continue };
        let (mut cutter, mut events) = (adapter(recording.format).framing().cutter(), Vec::new());
        cutter.push(&bytes, &mut events).expect("small events");
        cutter.finish(&mut events);
        let mut disturbed = events.clone();
        for event in &mut disturbed {
            if let Ok(mut value) = serde_json::from_str::<Value>(&event.data) {
                disturb(&mut value, &mut seed);
                event.data = value.to_string();
            }
        }
        for format in FORMATS {
            let orders: [&mut dyn Iterator<Item = &super::framing::Event>; 3] =
                [&mut events.iter().rev(), &mut events.iter().chain(&events), &mut disturbed.iter()];
            for order in orders {
                let (mut decoder, mut pieces, mut sequence) =
                    (adapter(format).decoder(), Vec::new(), Sequence::default());
                order.for_each(|event| decoder.event(event, &mut pieces));
                let mut assembly = Assembly::default();
                for piece in pieces {
                    if let Piece::Chunk(chunk) = piece
                        && let Some(chunk) = sequence.accept(chunk)
                    {
                        assembly.push(&chunk);
                    }
                }
            }
        }
        for event in &disturbed {
            for format in FORMATS {
                let _ = adapter(format).decode(event.data.as_bytes());
            }
        }
    }
    for recording in recordings() {
        for _ in 0..20 {
            let mut body = recording.response["body"].clone();
            disturb(&mut body, &mut seed);
            let _ = adapter(recording.format).decode(body.to_string().as_bytes());
        }
    }
}
