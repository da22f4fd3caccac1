//! What a model would answer, as OpenAI would send it: tool calls, JSON by schema, several choices, log probabilities.
//! For client libraries, which send what they like and want to be understood.
//!
//! Whatever a request asks for is bounded: anybody may ask a scripted upstream.

use serde_json::{Map, Value, json};

/// The most that is sent of what a request asks for.
const MAX_DIMENSIONS: u64 = 8192;
const MAX_CHOICES: u64 = 128;
/// Schemas may refer to themselves.
const MAX_DEPTH: usize = 16;

/// A whole answer.
pub fn body(text: &str, request: &Value) -> Vec<u8> {
    if let Some(input) = request.get("input") {
        return embeddings(input, request);
    }
    let answer = Answer::to(text, request);
    let choices: Vec<Value> = (0..count(request))
        .map(|index| {
            json!({
                "index": index, "message": answer.message(), "finish_reason": answer.finish(),
                "logprobs": answer.logprobs(request, &answer.text),
            })
        })
        .collect();
    json!({
        "id": "chatcmpl-scripted", "object": "chat.completion", "created": 1_700_000_000, "model": request["model"],
        "choices": choices, "usage": answer.usage(), "system_fingerprint": "fp_scripted", "service_tier": "default",
    })
    .to_string()
    .into_bytes()
}

/// Vectors that tell their inputs apart, in the form that was asked for.
fn embeddings(input: &Value, request: &Value) -> Vec<u8> {
    use base64::Engine;
    let size = request["dimensions"].as_u64().unwrap_or(3).min(MAX_DIMENSIONS) as usize;
    let texts: Vec<&str> = input
        .as_str()
        .map_or_else(|| input.as_array().into_iter().flatten().filter_map(Value::as_str).collect(), |text| vec![text]);
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let floats: Vec<f32> = (0..size).map(|place| text.len() as f32 + place as f32 / 4.0).collect();
            let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
            let vector = match request["encoding_format"] == "base64" {
                true => json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
                false => json!(floats),
            };
            json!({"object": "embedding", "index": index, "embedding": vector})
        })
        .rev()
        .collect();
    let usage = json!({"prompt_tokens": texts.len() * 2, "total_tokens": texts.len() * 2});
    json!({"object": "list", "data": data, "model": request["model"], "usage": usage}).to_string().into_bytes()
}

/// The same as events; without its end unless `complete`.
pub fn events(text: &str, request: &Value, complete: bool) -> Vec<Vec<u8>> {
    let answer = Answer::to(text, request);
    let event = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": request["model"], "choices": choices, "usage": usage, "system_fingerprint": "fp_scripted",
            "service_tier": "default", "obfuscation": "x7",
        });
        format!("data: {chunk}\n\n").into_bytes()
    };
    let mut events = Vec::new();
    for index in 0..count(request) {
        let delta = |delta: Value, logprobs: Value, finish: Value| {
            let choice = json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]);
            event(choice, Value::Null)
        };
        let content = if answer.calls.is_empty() { json!("") } else { Value::Null };
        let first = json!({"role": "assistant", "content": content, "refusal": null});
        events.push(delta(first, Value::Null, Value::Null));
        for piece in answer.text.split_inclusive(' ') {
            events.push(delta(json!({"content": piece}), answer.logprobs(request, piece), Value::Null));
        }
        for (at, call) in answer.calls.iter().enumerate() {
            for fragment in call.fragments(at) {
                events.push(delta(json!({"tool_calls": [fragment]}), Value::Null, Value::Null));
            }
        }
        if complete {
            events.push(delta(json!({}), Value::Null, json!(answer.finish())));
        }
    }
    if complete {
        if request["stream_options"]["include_usage"] == true {
            events.push(event(json!([]), answer.usage()));
        }
        events.push(b"data: [DONE]\n\n".to_vec());
    }
    events
}

struct Answer {
    text: String,
    calls: Vec<Call>,
}

/// A call of a function with JSON arguments, or of a custom tool with plain text.
struct Call {
    id: String,
    kind: &'static str,
    name: String,
    input: String,
}

impl Call {
    /// Where the text of the call stands.
    fn member(&self) -> &'static str {
        if self.kind == "custom" { "input" } else { "arguments" }
    }

    fn whole(&self) -> Value {
        json!({"id": self.id, "type": self.kind, self.kind: {"name": self.name, self.member(): self.input}})
    }

    fn fragments(&self, at: usize) -> Vec<Value> {
        let head = json!({"name": self.name, self.member(): ""});
        let head = json!({"index": at, "id": self.id, "type": self.kind, self.kind: head});
        let characters: Vec<char> = self.input.chars().collect();
        let pieces = characters
            .chunks(5)
            .map(|piece| json!({"index": at, self.kind: {self.member(): piece.iter().collect::<String>()}}));
        std::iter::once(head).chain(pieces).collect()
    }
}

impl Answer {
    fn to(text: &str, request: &Value) -> Self {
        let calls = calls(request);
        let schema = &request["response_format"]["json_schema"]["schema"];
        let text = match (&calls[..], schema) {
            ([_, ..], _) => String::new(),
            ([], Value::Null) => text.to_owned(),
            ([], schema) => example(schema, schema, 0).to_string(),
        };
        Self { text, calls }
    }

    fn message(&self) -> Value {
        let calls = self.calls.iter().map(Call::whole);
        match self.calls.is_empty() {
            true => json!({"role": "assistant", "content": self.text, "refusal": null, "annotations": []}),
            false => json!({"role": "assistant", "content": null, "refusal": null, "annotations": [],
                            "tool_calls": calls.collect::<Vec<_>>()}),
        }
    }

    fn finish(&self) -> &'static str {
        if self.calls.is_empty() { "stop" } else { "tool_calls" }
    }

    fn logprobs(&self, request: &Value, text: &str) -> Value {
        if request["logprobs"] != true || !self.calls.is_empty() {
            return Value::Null;
        }
        let tokens = text
            .split_inclusive(' ')
            .map(|token| json!({"token": token, "logprob": -0.5, "bytes": token.as_bytes(), "top_logprobs": []}));
        json!({"content": tokens.collect::<Vec<_>>(), "refusal": null})
    }

    fn usage(&self) -> Value {
        let tokens = self.text.split_whitespace().count() + 5 * self.calls.len();
        json!({
            "prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        })
    }
}

fn count(request: &Value) -> u64 {
    request["n"].as_u64().unwrap_or(1).min(MAX_CHOICES)
}

/// One call of every tool, or of the one that is chosen or the first where parallel calls are refused. None where there
/// is a result already, or calls are forbidden.
fn calls(request: &Value) -> Vec<Call> {
    let answered =
        request["messages"].as_array().and_then(|turns| turns.last()).is_some_and(|turn| turn["role"] == "tool");
    let choice = &request["tool_choice"];
    if answered || *choice == "none" {
        return Vec::new();
    }
    let tools = request["tools"].as_array().into_iter().flatten().map(|tool| match tool["type"].as_str() {
        Some("custom") => ("custom", &tool["custom"]),
        _ => ("function", &tool["function"]),
    });
    let chosen = tools.filter(|(kind, tool)| !choice.is_object() || choice[kind]["name"] == tool["name"]);
    let limit = if request["parallel_tool_calls"] == false { 1 } else { usize::MAX };
    let call = |(at, (kind, tool)): (usize, (&'static str, &Value))| Call {
        id: format!("call_scripted{at}"),
        kind,
        name: tool["name"].as_str().unwrap_or_default().to_owned(),
        input: match kind {
            "custom" => "ls -l | wc".to_owned(),
            _ => example(&tool["parameters"], &tool["parameters"], 0).to_string(),
        },
    };
    chosen.enumerate().take(limit).map(call).collect()
}

/// A value that fits a JSON schema, references resolved in `root`.
fn example(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(found) = schema["$ref"].as_str().and_then(|path| root.pointer(path.strip_prefix('#')?)) {
        return example(found, root, depth + 1);
    }
    if let Some(first) = schema["enum"].get(0).or(schema.get("const")) {
        return first.clone();
    }
    if let Some(first) = schema["anyOf"].get(0) {
        return example(first, root, depth + 1);
    }
    match schema["type"].as_str() {
        Some("string") => json!("Paris"),
        Some("integer") => json!(7),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => json!([example(&schema["items"], root, depth + 1)]),
        _ => {
            let members = schema["properties"].as_object().into_iter().flatten();
            Value::Object(
                members.map(|(name, member)| (name.clone(), example(member, root, depth + 1))).collect::<Map<_, _>>(),
            )
        }
    }
}
