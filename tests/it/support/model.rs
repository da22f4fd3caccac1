//! What a model would answer, as OpenAI would send it: tool calls, JSON by schema, several choices, log probabilities.
//! For client libraries, which send what they like and want to be understood.

use serde_json::{Map, Value, json};

/// A whole answer.
pub fn body(text: &str, request: &Value) -> Vec<u8> {
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
        for (at, (id, name, arguments)) in answer.calls.iter().enumerate() {
            let call = |function: Value| json!({"tool_calls": [{"index": at, "function": function}]});
            let mut head = call(json!({"name": name, "arguments": ""}));
            head["tool_calls"][0]["id"] = json!(id);
            head["tool_calls"][0]["type"] = json!("function");
            events.push(delta(head, Value::Null, Value::Null));
            let characters: Vec<char> = arguments.chars().collect();
            for piece in characters.chunks(5) {
                let piece: String = piece.iter().collect();
                events.push(delta(call(json!({"arguments": piece})), Value::Null, Value::Null));
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
    /// (id, name, arguments)
    calls: Vec<(String, String, String)>,
}

impl Answer {
    fn to(text: &str, request: &Value) -> Self {
        let calls = calls(request);
        let schema = &request["response_format"]["json_schema"]["schema"];
        let text = match (&calls[..], schema) {
            ([_, ..], _) => String::new(),
            ([], Value::Null) => text.to_owned(),
            ([], schema) => example(schema, schema).to_string(),
        };
        Self { text, calls }
    }

    fn message(&self) -> Value {
        let calls = self.calls.iter().map(|(id, name, arguments)| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        });
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
    request["n"].as_u64().unwrap_or(1)
}

/// One call of every tool, or of the one that is chosen or the first where parallel calls are refused. None where there
/// is a result already, or calls are forbidden.
fn calls(request: &Value) -> Vec<(String, String, String)> {
    let answered =
        request["messages"].as_array().and_then(|turns| turns.last()).is_some_and(|turn| turn["role"] == "tool");
    let choice = &request["tool_choice"];
    if answered || *choice == "none" {
        return Vec::new();
    }
    let tools = request["tools"].as_array().into_iter().flatten().map(|tool| &tool["function"]);
    let chosen = tools.filter(|tool| !choice.is_object() || choice["function"]["name"] == tool["name"]);
    let limit = if request["parallel_tool_calls"] == false { 1 } else { usize::MAX };
    let call = |(at, tool): (usize, &Value)| {
        let arguments = example(&tool["parameters"], &tool["parameters"]).to_string();
        (format!("call_scripted{at}"), tool["name"].as_str().unwrap_or_default().to_owned(), arguments)
    };
    chosen.enumerate().take(limit).map(call).collect()
}

/// A value that fits a JSON schema, references resolved in `root`.
fn example(schema: &Value, root: &Value) -> Value {
    if let Some(found) = schema["$ref"].as_str().and_then(|path| root.pointer(path.strip_prefix('#')?)) {
        return example(found, root);
    }
    if let Some(first) = schema["enum"].get(0).or(schema.get("const")) {
        return first.clone();
    }
    if let Some(first) = schema["anyOf"].get(0) {
        return example(first, root);
    }
    match schema["type"].as_str() {
        Some("string") => json!("Paris"),
        Some("integer") => json!(7),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => json!([example(&schema["items"], root)]),
        _ => {
            let members = schema["properties"].as_object().into_iter().flatten();
            Value::Object(members.map(|(name, member)| (name.clone(), example(member, root))).collect::<Map<_, _>>())
        }
    }
}
