//! The second reading of Converse: a reader of frames and of answers that shares nothing with the adapter, and recorded
//! requests, which our own requests are compared with.

use bytes::Bytes;
use serde_json::{Value, json};

use super::reading::{Answer, Call, Choice, Counts};
use crate::catalog::{Auth, Format, Provider, Shelf, Target, presets};
use crate::chat::Request;

/// Base64 with the usual alphabet, slow and simple.
pub fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = String::new();
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = ALPHABET.iter().position(|known| *known == letter).expect("a letter of base64");
        bits.push_str(&format!("{value:06b}"));
    }
    bits.as_bytes().chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum * 2 + (bit - b'0'))).collect()
}

/// The frames of a body as (type, payload), without a look at checksums.
fn frames(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte));
    let mut frames = Vec::new();
    while bytes.len() >= 16 {
        let (length, headers) = (number(&bytes[..4]), number(&bytes[4..8]));
        let (head, payload) = (&bytes[12..12 + headers], &bytes[12 + headers..length - 4]);
        let (mut at, mut name) = (0, String::new());
        while at < head.len() {
            let key_end = at + 1 + usize::from(head[at]);
            assert_eq!(head[key_end], 7, "headers are texts");
            let value_end = key_end + 3 + number(&head[key_end + 1..key_end + 3]);
            if head[at + 1..key_end] == *b":event-type" {
                name = String::from_utf8_lossy(&head[key_end + 3..value_end]).into_owned();
            }
            at = value_end;
        }
        frames.push((name, serde_json::from_slice(payload).expect("JSON")));
        bytes = &bytes[length..];
    }
    frames
}

/// A stream as the whole answer that it spells.
pub fn stream(bytes: &[u8]) -> Option<Answer> {
    let (mut blocks, mut answer) = (json!({}), json!({}));
    for (name, payload) in frames(bytes) {
        let place = payload["contentBlockIndex"].to_string();
        match name.as_str() {
            "contentBlockStart" => {
                blocks[&place] = payload["start"].clone();
                blocks[&place]["toolUse"]["input"] = json!("");
            }
            "contentBlockDelta" => append(&mut blocks[&place], &payload["delta"]),
            "messageStop" => answer["stopReason"] = payload["stopReason"].clone(),
            "metadata" => answer["usage"] = payload["usage"].clone(),
            _ => {}
        }
    }
    let content: Vec<Value> = blocks.as_object()?.values().cloned().collect();
    answer["output"]["message"]["content"] = Value::Array(content);
    whole(&answer)
}

/// Puts texts behind texts, wherever they stand.
fn append(whole: &mut Value, piece: &Value) {
    match piece {
        Value::Object(members) => members.iter().for_each(|(name, member)| append(&mut whole[name], member)),
        Value::String(text) => *whole = json!(format!("{}{text}", whole.as_str().unwrap_or_default())),
        other => *whole = other.clone(),
    }
}

pub fn whole(body: &Value) -> Option<Answer> {
    let mut choice = Choice::default();
    for block in body["output"]["message"]["content"].as_array()? {
        choice.text.push_str(block["text"].as_str().unwrap_or_default());
        let reasoning = &block["reasoningContent"];
        // A stream's deltas lack the level of `reasoningText`.
        let thought = reasoning["reasoningText"]["text"].as_str().or(reasoning["text"].as_str());
        choice.reasoning.push_str(thought.unwrap_or_default());
        let call = &block["toolUse"];
        if let Some(name) = call["name"].as_str() {
            let input = match &call["input"] {
                Value::String(streamed) if streamed.is_empty() => "{}".to_owned(),
                Value::String(streamed) => streamed.clone(),
                input => input.to_string(),
            };
            choice.calls.push(Call::new(name, &input));
        }
    }
    choice.finish = match body["stopReason"].as_str()? {
        "end_turn" | "stop_sequence" => "stop",
        "max_tokens" => "length",
        "tool_use" => "tool_calls",
        other => panic!("no recording ends with `{other}`"),
    }
    .to_owned();
    let count = |name: &str| body["usage"][name].as_u64().unwrap_or_default();
    let (cached, cache_write) = (count("cacheReadInputTokens"), count("cacheWriteInputTokens"));
    let counts = Counts {
        prompt: count("totalTokens") - count("outputTokens"),
        completion: count("outputTokens"),
        cached,
        cache_write,
        reasoning: 0,
    };
    Some(Answer { choices: vec![choice], counts: Some(counts) })
}

/// The chat request that says what a recorded Converse request says; `None` where it says what ours never would.
fn as_chat(body: &Value) -> Option<Value> {
    let mut messages = Vec::new();
    for block in body["system"].as_array().into_iter().flatten() {
        match block["text"].as_str() {
            Some(text) => messages.push(json!({"role": "system", "content": [{"type": "text", "text": text}]})),
            None => mark(&mut messages.last_mut()?["content"]),
        }
    }
    for message in body["messages"].as_array()? {
        let mut chat = json!({"role": message["role"], "content": []});
        for block in message["content"].as_array()? {
            let (kind, inner) = block.as_object()?.iter().next()?;
            let content = chat["content"].as_array_mut()?;
            match kind.as_str() {
                "text" => content.push(json!({"type": "text", "text": inner})),
                "cachePoint" => mark(&mut chat["content"]),
                "document" => content.push(json!({"type": "file", "file": {
                    "filename": format!("{}.{}", inner["name"].as_str()?, inner["format"].as_str()?),
                    "file_data": inner["source"]["bytes"].as_str()?,
                }})),
                "image" => content.push(json!({"type": "image_url", "image_url": {
                    "url": format!("data:image/{};base64,{}", inner["format"].as_str()?, inner["source"]["bytes"].as_str()?),
                }})),
                "toolUse" => {
                    let function = json!({"name": inner["name"], "arguments": inner["input"].to_string()});
                    let call = json!({"id": inner["toolUseId"], "type": "function", "function": function});
                    match &mut chat["tool_calls"] {
                        Value::Array(calls) => calls.push(call),
                        none => *none = json!([call]),
                    }
                }
                "toolResult" => {
                    let text = inner["content"][0]["text"].as_str()?;
                    messages.push(json!({"role": "tool", "tool_call_id": inner["toolUseId"], "content": text}));
                }
                "reasoningContent" => {
                    let signed = &inner["reasoningText"];
                    let thinking =
                        json!({"type": "thinking", "thinking": signed["text"], "signature": signed["signature"]});
                    chat["thinking_blocks"] = json!([thinking]);
                }
                _ => return None,
            }
        }
        if chat["content"] != json!([]) || !chat["tool_calls"].is_null() {
            messages.push(chat);
        }
    }
    let inference = &body["inferenceConfig"];
    let mut chat = json!({"messages": messages});
    for (ours, theirs) in
        [("max_tokens", "maxTokens"), ("temperature", "temperature"), ("top_p", "topP"), ("stop", "stopSequences")]
    {
        if !inference[theirs].is_null() {
            chat[ours] = inference[theirs].clone();
        }
    }
    for tool in body["toolConfig"]["tools"].as_array().into_iter().flatten() {
        let Some(spec) = tool["toolSpec"].as_object() else {
            chat["tools"].as_array_mut()?.last_mut()?["cache_control"] = json!({"type": "ephemeral"});
            continue;
        };
        let mut function = json!({"name": spec["name"], "parameters": spec["inputSchema"]["json"]});
        for member in ["description", "strict"] {
            if let Some(value) = spec.get(member) {
                function[member] = value.clone();
            }
        }
        let tool = json!({"type": "function", "function": function});
        match &mut chat["tools"] {
            Value::Array(tools) => tools.push(tool),
            none => *none = json!([tool]),
        }
    }
    match body["toolConfig"]["toolChoice"].as_object().and_then(|choice| choice.iter().next()) {
        Some((kind, _)) if kind == "auto" => chat["tool_choice"] = json!("auto"),
        Some((kind, _)) if kind == "any" => chat["tool_choice"] = json!("required"),
        Some((_, named)) => chat["tool_choice"] = json!({"type": "function", "function": {"name": named["name"]}}),
        None => {}
    }
    let schema = &body["outputConfig"]["textFormat"]["structure"]["jsonSchema"];
    if let Some(text) = schema["schema"].as_str() {
        let parsed: Value = serde_json::from_str(text).expect("a schema");
        chat["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": schema["name"], "schema": parsed}});
    }
    match &body["additionalModelRequestFields"] {
        Value::Null => {}
        more if more.get("thinking").is_some() && more.get("output_config").is_none() => {
            chat["thinking"] = more["thinking"].clone();
        }
        more if more.get("thinking").is_some() => chat["reasoning_effort"] = more["output_config"]["effort"].clone(),
        _ => return None,
    }
    Some(chat)
}

fn mark(content: &mut Value) {
    if let Some(last) = content.as_array_mut().and_then(|parts| parts.last_mut()) {
        last["cache_control"] = json!({"type": "ephemeral"});
    }
}

/// A request without what says nothing, and with schemas read.
fn meant(mut body: Value) -> Value {
    let Some(members) = body.as_object_mut() else { return body };
    members.retain(|_, member| *member != json!([]) && *member != json!({}));
    if let Some(schema) = body.pointer_mut("/outputConfig/textFormat/structure/jsonSchema") {
        let text = schema["schema"].as_str().expect("text").to_owned();
        schema["schema"] = serde_json::from_str(&text).expect("a schema");
        // OpenAI's own description of a schema is for people.
        schema.as_object_mut().expect("an object").remove("description");
    }
    for message in body["messages"].as_array_mut().into_iter().flatten() {
        for block in message["content"].as_array_mut().into_iter().flatten() {
            if block["toolResult"]["status"] == "success" {
                block["toolResult"].as_object_mut().expect("an object").remove("status");
            }
        }
    }
    // Ours asks recent models for a summary of their thinking.
    if let Some(Value::Object(thinking)) = body.pointer_mut("/additionalModelRequestFields/thinking") {
        thinking.remove("display");
    }
    body
}

fn target(model: &str) -> Target {
    let preset = presets::find("bedrock").expect("a preset");
    let provider = Provider::new(preset.name, Format::Bedrock, "https://bedrock.example", Auth::Bearer);
    Target::new(&provider.into(), Shelf::open(Some(preset), jiff::civil::date(2026, 9, 1)).describe(model))
}

#[test]
fn our_requests_say_what_recorded_ones_say() {
    let (mut compared, mut differing) = (0, Vec::new());
    for recording in super::recordings().iter().filter(|recording| recording.format == Format::Bedrock) {
        let request = &recording.request;
        let Some(chat) = as_chat(&request["body"]) else { continue };
        let path = request["path"].as_str().expect("a path").replace("%3A", ":");
        let (model, method) = path["/model/".len()..].split_once('/').expect("a model");
        let mut chat = chat;
        chat["model"] = json!(model);
        chat["stream"] = json!(method == "converse-stream");
        let request = Request::parse(Bytes::from(chat.to_string())).expect("a request");
        let outgoing = super::adapter(Format::Bedrock).encode(&request, &target(model), "").expect("a request");
        assert!(outgoing.url.replace("%3A", ":").ends_with(&path), "{} {path}", outgoing.url);
        let ours: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
        let (ours, theirs) = (meant(ours), meant(recording.request["body"].clone()));
        if ours != theirs {
            differing.push(format!("{}\n  ours     {ours}\n  recorded {theirs}", recording.name));
        }
        compared += 1;
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    assert!(compared >= 20, "only {compared} requests were compared");
}
