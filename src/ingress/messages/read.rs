//! A body of `POST /v1/messages` as a chat request.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::block::{Parts, tool_result};
use super::write::MessageWriter;
use crate::chat::{Dialect, Invalid, Native, THINKING_BLOCKS};
use crate::ingress::Asked;
use crate::ingress::reading::{self, OURS, take, take_list, take_text, text};

/// Members that go over as they are.
const SAME: [&str; 3] = ["stream", "temperature", "top_p"];

/// Longest `user` that OpenAI takes; Claude Code's ids are longer.
const LONGEST_USER: usize = 64;

/// Reads a request. Errors name the member in Anthropic's words.
pub fn read(body: &Bytes) -> Result<Asked, Invalid> {
    let mut members = reading::members(body)?;
    let mut own = members.clone();
    for name in OURS.iter().chain(&["model", "stream"]) {
        own.remove(*name);
    }
    without_unsigned_thinking(&mut own);
    let mut chat = Map::new();
    let mut notes = Vec::new();
    let model = take_text(&mut members, "model")?.ok_or_else(|| Invalid::missing("model"))?;
    chat.insert("model".into(), json!(model));
    for name in OURS.iter().chain(&SAME) {
        chat.extend(take(&mut members, name).map(|value| ((*name).to_owned(), value)));
    }
    if chat.get("stream") == Some(&json!(true)) {
        chat.insert("stream_options".into(), json!({"include_usage": true}));
    }
    let mut turns = Turns::default();
    turns.system(take(&mut members, "system"))?;
    let messages = take_list(&mut members, "messages")?.ok_or_else(|| Invalid::missing("messages"))?;
    for (index, message) in messages.iter().enumerate() {
        turns.push(message, &format!("messages[{index}]"))?;
    }
    turns.lost.sort_unstable();
    turns.lost.dedup();
    notes.extend(
        turns.lost.iter().map(|kind| format!("blocks of type `{kind}` have no place in chat and were left out")),
    );
    chat.insert("messages".into(), Value::Array(turns.messages));
    if let Some(limit) = take(&mut members, "max_tokens") {
        chat.insert("max_tokens".into(), limit);
    }
    if let Some(stop) = take_list(&mut members, "stop_sequences")?.filter(|stop| !stop.is_empty()) {
        chat.insert("stop".into(), json!(stop));
    }
    tools(&mut members, &mut chat, &mut notes)?;
    effort(&mut members, &mut chat);
    if let Some(user) = take(&mut members, "metadata").as_ref().and_then(|metadata| text(metadata, "user_id")) {
        let short = if user.len() > LONGEST_USER {
            blake3::hash(user.as_bytes()).to_hex().to_string()
        } else {
            user.to_owned()
        };
        chat.insert("user".into(), json!(short));
    }
    // What the service does by itself, and what concerns only its own billing.
    for silent in ["service_tier", "inference_geo"] {
        members.remove(silent);
    }
    notes.extend(members.keys().take(8).map(|name| {
        let name: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
        format!("`{name}` has no place in chat and was left out")
    }));
    let native = Native { dialect: Dialect::Messages, body: reading::body(&own), notes };
    Ok(Asked {
        chat: reading::body(&chat),
        native: Some(native),
        notes: Vec::new(),
        writer: Box::new(MessageWriter::default()),
    })
}

/// Thinking without a signature came from a provider that does not sign; Anthropic would refuse the whole request.
fn without_unsigned_thinking(own: &mut Map<String, Value>) {
    for message in own.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(blocks) = message.get_mut("content").and_then(Value::as_array_mut) {
            let unsigned =
                |block: &Value| block["type"] == "thinking" && text(block, "signature").is_none_or(str::is_empty);
            blocks.retain(|block| !unsigned(block));
        }
    }
}

#[derive(Default)]
struct Turns {
    messages: Vec<Value>,
    /// Kinds of blocks that chat has no place for.
    lost: Vec<String>,
}

impl Turns {
    fn system(&mut self, system: Option<Value>) -> Result<(), Invalid> {
        let content = match system {
            None => return Ok(()),
            Some(Value::String(words)) if words.is_empty() => return Ok(()),
            Some(Value::String(words)) => json!(words),
            Some(Value::Array(blocks)) => {
                let mut parts = Parts::default();
                for (index, block) in blocks.iter().enumerate() {
                    parts.push(block, &format!("system[{index}]"))?;
                }
                self.lost.append(&mut parts.lost);
                if parts.list.is_empty() {
                    return Ok(());
                }
                parts.content()
            }
            Some(_) => return Err(Invalid::kind("system", "a string or a list of text blocks")),
        };
        self.messages.push(json!({"role": "system", "content": content}));
        Ok(())
    }

    fn push(&mut self, message: &Value, path: &str) -> Result<(), Invalid> {
        let role = text(message, "role").ok_or_else(|| Invalid::missing(&format!("{path}.role")))?;
        let blocks = match message.get("content") {
            Some(Value::String(words)) => vec![json!({"type": "text", "text": words})],
            Some(Value::Array(blocks)) => blocks.clone(),
            _ => return Err(Invalid::kind(format!("{path}.content"), "a string or a list of blocks")),
        };
        match role {
            "user" => self.user(&blocks, path),
            "assistant" => self.assistant(&blocks, path),
            "system" => {
                let mut parts = Parts::default();
                for (index, block) in blocks.iter().enumerate() {
                    parts.push(block, &format!("{path}.content[{index}]"))?;
                }
                self.messages.push(json!({"role": "system", "content": parts.content()}));
                Ok(())
            }
            other => {
                let other: String = other.chars().take(40).collect();
                Err(Invalid::value(
                    format!("{path}.role"),
                    format!("unknown role `{other}`: expected user or assistant"),
                ))
            }
        }
    }

    /// Results of tools first: chat wants them directly behind the calls.
    fn user(&mut self, blocks: &[Value], path: &str) -> Result<(), Invalid> {
        let mut parts = Parts::default();
        let mut results = false;
        for (index, block) in blocks.iter().enumerate() {
            let path = format!("{path}.content[{index}]");
            if block["type"] == "tool_result" {
                let (message, mut rest) = tool_result(block, &path, &mut self.lost)?;
                self.messages.push(message);
                parts.list.append(&mut rest);
                results = true;
            } else {
                parts.push(block, &path)?;
            }
        }
        self.lost.append(&mut parts.lost);
        if !parts.list.is_empty() || !results {
            self.messages.push(json!({"role": "user", "content": parts.content()}));
        }
        Ok(())
    }

    fn assistant(&mut self, blocks: &[Value], path: &str) -> Result<(), Invalid> {
        let mut message = Map::new();
        message.insert("role".into(), json!("assistant"));
        let (mut said, mut thoughts) = (String::new(), String::new());
        let (mut signed, mut calls) = (Vec::new(), Vec::new());
        for (index, block) in blocks.iter().enumerate() {
            match text(block, "type") {
                Some("text") => said.push_str(text(block, "text").unwrap_or_default()),
                Some("thinking") => {
                    thoughts.push_str(text(block, "thinking").unwrap_or_default());
                    if text(block, "signature").is_some_and(|signature| !signature.is_empty()) {
                        signed.push(block.clone());
                    }
                }
                Some("redacted_thinking") => signed.push(block.clone()),
                Some("tool_use") => {
                    let path = format!("{path}.content[{index}]");
                    let (Some(id), Some(name)) = (text(block, "id"), text(block, "name")) else {
                        return Err(Invalid::kind(path, "{type: tool_use, id, name, input}"));
                    };
                    let input =
                        block.get("input").filter(|input| !input.is_null()).map_or("{}".into(), Value::to_string);
                    calls.push(json!({"id": id, "type": "function", "function": {"name": name, "arguments": input}}));
                }
                Some(kind) => self.lost.push(kind.to_owned()),
                None => return Err(Invalid::kind(format!("{path}.content[{index}].type"), "a string")),
            }
        }
        message.insert("content".into(), if said.is_empty() && !calls.is_empty() { Value::Null } else { json!(said) });
        if !thoughts.is_empty() {
            message.insert("reasoning_content".into(), json!(thoughts));
        }
        if !signed.is_empty() {
            message.insert(THINKING_BLOCKS.into(), Value::Array(signed));
        }
        if !calls.is_empty() {
            message.insert("tool_calls".into(), Value::Array(calls));
        }
        self.messages.push(Value::Object(message));
        Ok(())
    }
}

fn tools(
    members: &mut Map<String, Value>,
    chat: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<(), Invalid> {
    let mut offered = Vec::new();
    for (index, tool) in take_list(members, "tools")?.unwrap_or_default().into_iter().enumerate() {
        match text(&tool, "type") {
            None | Some("custom") => {
                let name = text(&tool, "name").ok_or_else(|| Invalid::missing(&format!("tools[{index}].name")))?;
                let mut function = Map::new();
                function.insert("name".into(), json!(name));
                function.extend(tool.get("description").cloned().map(|words| ("description".into(), words)));
                function.extend(tool.get("input_schema").cloned().map(|schema| ("parameters".into(), schema)));
                function.extend(tool.get("strict").cloned().map(|strict| ("strict".into(), strict)));
                let mut entry = json!({"type": "function", "function": function});
                if let Some(mark) = tool.get("cache_control").filter(|mark| !mark.is_null()) {
                    entry["cache_control"] = mark.clone();
                }
                offered.push(entry);
            }
            Some(kind) => notes.push(format!("the tool `{kind}` is run by Anthropic alone and was left out")),
        }
    }
    let choice = take(members, "tool_choice");
    if offered.is_empty() {
        return Ok(());
    }
    chat.insert("tools".into(), Value::Array(offered));
    let Some(choice) = choice else { return Ok(()) };
    let said = match text(&choice, "type") {
        Some("auto") => json!("auto"),
        Some("any") => json!("required"),
        Some("none") => json!("none"),
        Some("tool") => {
            let name = text(&choice, "name").ok_or_else(|| Invalid::missing("tool_choice.name"))?;
            json!({"type": "function", "function": {"name": name}})
        }
        _ => return Err(Invalid::value("tool_choice", "`tool_choice.type`: expected auto, any, tool or none")),
    };
    chat.insert("tool_choice".into(), said);
    if choice["disable_parallel_tool_use"] == true {
        chat.insert("parallel_tool_calls".into(), json!(false));
    }
    Ok(())
}

/// `thinking` and `output_config` as an effort and a format of the answer. The bounds between efforts are those that
/// `provider/anthropic/thinking.rs` writes.
fn effort(members: &mut Map<String, Value>, chat: &mut Map<String, Value>) {
    let thinking = take(members, "thinking").unwrap_or_default();
    let config = take(members, "output_config").unwrap_or_default();
    let stated = text(&config, "effort");
    let effort = match text(&thinking, "type") {
        Some("enabled") => Some(match thinking["budget_tokens"].as_u64().unwrap_or(0) {
            0..=4_096 => "low",
            4_097..=12_288 => "medium",
            _ => "high",
        }),
        Some("adaptive") => Some(stated.unwrap_or("medium")),
        _ => stated.filter(|_| text(&thinking, "type").is_none()),
    };
    if let Some(effort) = effort {
        // OpenAI's own scale ends at `xhigh`.
        chat.insert("reasoning_effort".into(), json!(if effort == "max" { "xhigh" } else { effort }));
    }
    let format = take(members, "output_format").unwrap_or_else(|| config["format"].clone());
    if format["type"] == "json_schema" {
        let schema = json!({"name": "answer", "schema": format["schema"], "strict": true});
        chat.insert("response_format".into(), json!({"type": "json_schema", "json_schema": schema}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: Value) -> (Value, Vec<String>) {
        let asked = read(&Bytes::from(body.to_string())).expect("a request");
        let native = asked.native.expect("the caller's words");
        (serde_json::from_slice(&asked.chat).expect("JSON"), native.notes)
    }

    #[test]
    fn a_tool_turn_becomes_calls_and_tool_messages() {
        let (chat, notes) = chat(json!({
            "model": "auto", "max_tokens": 100, "system": [{"type": "text", "text": "Be brief."}],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
                {"role": "user", "content": [
                    {"type": "text", "text": "go on"},
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "42"}]}]},
            ],
        }));
        assert!(notes.is_empty(), "{notes:?}");
        let roles: Vec<&str> =
            chat["messages"].as_array().expect("a list").iter().filter_map(|m| m["role"].as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "user"]);
        let assistant = &chat["messages"][2];
        assert_eq!(assistant["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
        assert_eq!(assistant["thinking_blocks"][0]["signature"], "s");
        assert_eq!((&chat["tool_choice"], &chat["parallel_tool_calls"]), (&json!("required"), &json!(false)));
        assert_eq!(chat["messages"][3], json!({"role": "tool", "tool_call_id": "t1", "content": "42"}));
    }

    #[test]
    fn images_of_a_tools_result_follow_in_the_users_turn() {
        let (chat, _) = chat(json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [
                {"type": "text", "text": "no"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}]}]}]}));
        assert_eq!(chat["messages"][0]["content"], "The tool failed: no");
        assert_eq!(chat["messages"][1]["content"][0]["image_url"]["url"], "data:image/png;base64,AA==");
    }

    #[test]
    fn what_chat_cannot_say_is_noted_and_kept_for_anthropic() {
        let body = json!({"model": "m", "max_tokens": 1, "top_k": 5, "stream": true, "context": {"budget": "low"},
            "tools": [{"type": "web_search_20250305", "name": "web_search"}],
            "messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": ""}, {"type": "server_tool_use", "id": "s"}]},
                {"role": "user", "content": "hi"}]});
        let asked = read(&Bytes::from(body.to_string())).expect("a request");
        let native = asked.native.expect("native");
        assert_eq!(native.notes.len(), 3, "{:?}", native.notes);
        let own: Value = serde_json::from_slice(&native.body).expect("JSON");
        assert_eq!(
            (&own["top_k"], own.get("model"), own.get("context"), own.get("stream")),
            (&json!(5), None, None, None)
        );
        assert_eq!(own["messages"][0]["content"].as_array().map(Vec::len), Some(1), "unsigned thinking is not sent");
    }

    #[test]
    fn errors_name_the_member() {
        for (body, param) in [
            (json!({"max_tokens": 1, "messages": []}), "model"),
            (json!({"model": "m"}), "messages"),
            (json!({"model": "m", "messages": [{"role": "user", "content": 1}]}), "messages[0].content"),
            (json!({"model": "m", "messages": [{"role": "robot", "content": ""}]}), "messages[0].role"),
        ] {
            let error = read(&Bytes::from(body.to_string())).err().expect("an error");
            assert_eq!(error.param.as_deref(), Some(param));
        }
    }
}
