//! Recorded requests in a provider's own words, said in OpenAI's, and written by the adapter again: it has to say the
//! same. The way back is short and knows nothing of the adapters.
//!
//! What may differ, see [`normal`]: the order of members, text alone or as one block, nulls and empty members, `false` where that is the default, and
//! Anthropic's `max_tokens`, which is capped at the model's limit.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::recordings;
use crate::catalog::{Auth, Format, Provider, Shelf, Target, presets};
use crate::chat::Request;
use crate::provider::adapter;

/// Recordings that differ, and why that is right.
const EXCEPTIONS: [(&str, &str); 1] =
    [("anthropic/messages-error400-76650269.json", "an effort that the model refuses; the adapter sends the next one")];

/// Cohere, Ollama and Anthropic: a request of these recordings is not compared, because of this member of it.
const WITHOUT_A_WORD: [(&str, &str); 9] = [
    ("mcp_servers", "servers that Anthropic calls by itself"),
    ("container", "Anthropic's code execution"),
    ("container_upload", "Anthropic's code execution"),
    ("output_format", "the beta form of `output_config.format`, which is what the adapter sends"),
    ("defer_loading", "tools that Anthropic searches by itself"),
    ("server_tool_use", "a turn of a tool that Anthropic runs"),
    ("mcp_tool_use", "a turn of a tool that Anthropic calls"),
    ("allowed_callers", "tools that call tools"),
    ("advisor_20260301", "a tool that is a model"),
];

/// True if a member or a `type` of this name is anywhere inside.
fn holds(value: &Value, name: &str) -> bool {
    match value {
        Value::Object(members) => {
            members.get("type").is_some_and(|kind| kind == name)
                || members.iter().any(|(key, value)| key == name || holds(value, name))
        }
        Value::Array(items) => items.iter().any(|item| holds(item, name)),
        _ => false,
    }
}

fn copy(from: &Value, to: &mut Value, names: &[(&str, &str)]) {
    for (theirs, ours) in names {
        if !from[*theirs].is_null() {
            to[*ours] = from[*theirs].clone();
        }
    }
}

fn cohere(body: &Value) -> Value {
    let mut chat = json!({});
    let same = ["model", "messages", "stream", "tools", "thinking", "documents", "max_tokens", "temperature", "seed"];
    copy(body, &mut chat, &same.map(|name| (name, name)));
    copy(body, &mut chat, &[("stop_sequences", "stop"), ("p", "top_p"), ("k", "top_k")]);
    if let Some(choice) = body["tool_choice"].as_str() {
        chat["tool_choice"] = json!(choice.to_lowercase());
    }
    if body["response_format"].is_object() {
        let schema = &body["response_format"]["json_schema"];
        chat["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    }
    chat
}

fn ollama(body: &Value) -> Value {
    let mut chat = json!({});
    copy(body, &mut chat, &["model", "messages", "stream", "tools", "keep_alive"].map(|name| (name, name)));
    chat
}

fn anthropic(body: &Value) -> Value {
    let mut chat = json!({});
    let same = ["model", "stream", "temperature", "top_p", "top_k", "max_tokens", "thinking"];
    copy(body, &mut chat, &same.map(|name| (name, name)));
    copy(body, &mut chat, &[("stop_sequences", "stop")]);
    copy(&body["output_config"], &mut chat, &[("effort", "reasoning_effort")]);
    if body["output_config"]["format"].is_object() {
        let schema = &body["output_config"]["format"]["schema"];
        chat["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    }
    let mut messages = Vec::new();
    if !body["system"].is_null() {
        messages.push(json!({"role": "system", "content": body["system"]}));
    }
    for message in body["messages"].as_array().into_iter().flatten() {
        turn(message, &mut messages);
    }
    chat["messages"] = Value::Array(messages);
    if let Some(tools) = body["tools"].as_array() {
        chat["tools"] = tools.iter().map(tool).collect();
    }
    let choice = &body["tool_choice"];
    if let Some(kind) = choice["type"].as_str() {
        chat["tool_choice"] = match kind {
            "any" => json!("required"),
            "tool" => json!({"type": "function", "function": {"name": choice["name"]}}),
            other => json!(other),
        };
    }
    if choice["disable_parallel_tool_use"] == true {
        chat["parallel_tool_calls"] = json!(false);
    }
    chat
}

fn tool(tool: &Value) -> Value {
    if tool["input_schema"].is_null() {
        return tool.clone();
    }
    let mut function = json!({});
    copy(
        tool,
        &mut function,
        &[("name", "name"), ("description", "description"), ("input_schema", "parameters"), ("strict", "strict")],
    );
    let mut said = json!({"type": "function", "function": function});
    copy(tool, &mut said, &[("cache_control", "cache_control")]);
    said
}

fn turn(message: &Value, messages: &mut Vec<Value>) {
    let Some(blocks) = message["content"].as_array() else { return messages.push(message.clone()) };
    let mut said = json!({"role": message["role"]});
    let (mut parts, mut calls, mut thinking) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        match block["type"].as_str() {
            Some("tool_result") => {
                let mut result = json!({"role": "tool", "tool_call_id": block["tool_use_id"]});
                copy(block, &mut result, &["content", "is_error", "cache_control"].map(|name| (name, name)));
                result["content"] = if block["content"].is_null() { json!("") } else { block["content"].clone() };
                messages.push(result);
            }
            Some("tool_use") => {
                let function = json!({"name": block["name"], "arguments": block["input"].to_string()});
                let mut call = json!({"id": block["id"], "type": "function", "function": function});
                copy(block, &mut call, &[("cache_control", "cache_control")]);
                calls.push(call);
            }
            Some("thinking" | "redacted_thinking") => thinking.push(block.clone()),
            Some("image") if block["source"]["type"] == "base64" => {
                let source = &block["source"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let url = format!("data:{};base64,{}", text(&source["media_type"]), text(&source["data"]));
                parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
            }
            _ => parts.push(block.clone()),
        }
    }
    if !parts.is_empty() {
        said["content"] = Value::Array(parts);
    } else if calls.is_empty() && thinking.is_empty() {
        return;
    }
    if !calls.is_empty() {
        said["tool_calls"] = Value::Array(calls);
    }
    if !thinking.is_empty() {
        said["thinking_blocks"] = Value::Array(thinking);
    }
    messages.push(said);
}

/// What two requests are compared by.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (name, value) in members {
                let nothing = value.is_null() || *value == json!([]) || *value == json!({}) || value == "";
                if (nothing && name != "input") || *value == false || name == "max_tokens" {
                    continue;
                }
                kept.insert(name.clone(), normal(value));
            }
            Value::Object(kept)
        }
        Value::Array(items) => match &items[..] {
            [only] if only["type"] == "text" && only.as_object().is_some_and(|text| text.len() == 2) => {
                only["text"].clone()
            }
            items => items.iter().map(normal).collect(),
        },
        other => other.clone(),
    }
}

fn target(format: Format, preset: &str, model: &str) -> Target {
    let preset = presets::find(preset).expect("a preset");
    let mut provider = Provider::new(preset.name, format, preset.base_url, Auth::None);
    provider.preset = Some(preset.name);
    let shelf = Shelf::open(Some(preset), jiff::civil::date(2026, 9, 1));
    Target::new(&Arc::new(provider), shelf.describe(model))
}

#[test]
fn recorded_requests_are_written_as_they_were() {
    let (mut compared, mut left_out, mut differing) = (0, 0, Vec::new());
    for recording in recordings() {
        let body = &recording.request["body"];
        let (preset, chat) = match recording.format {
            _ if !body.is_object() => continue,
            Format::Cohere => ("cohere", cohere(body)),
            Format::Ollama => ("ollama", ollama(body)),
            Format::Anthropic => ("anthropic", anthropic(body)),
            _ => continue,
        };
        if WITHOUT_A_WORD.iter().any(|(name, _)| holds(body, name)) {
            left_out += 1;
            continue;
        }
        let target = target(recording.format, preset, body["model"].as_str().unwrap_or_default());
        let request = Request::parse(Bytes::from(chat.to_string())).expect("a request");
        compared += 1;
        let sent = match adapter(recording.format).encode(&request, &target, "") {
            Ok(outgoing) => serde_json::from_slice::<Value>(&outgoing.body).expect("JSON"),
            Err(error) => json!({"refused": error.to_string()}),
        };
        let (sent, wanted) = (normal(&sent), normal(body));
        let is_exception = EXCEPTIONS.iter().any(|(name, _)| *name == recording.name);
        if (sent != wanted) != is_exception {
            differing.push(format!("{}\n  sent   {sent}\n  wanted {wanted}", recording.name));
        }
    }
    println!("{compared} requests compared, {left_out} left out");
    assert!(differing.is_empty(), "{} of {compared} differ:\n{}", differing.len(), differing.join("\n"));
    assert!(compared > 60, "only {compared} requests were compared");
}
