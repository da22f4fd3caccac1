//! A body of `POST /v1/responses` as a chat request.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::item::Messages;
use super::write::{Echo, ResponseWriter};
use crate::chat::Invalid;
use crate::ingress::Asked;
use crate::ingress::reading::{self, OURS, take, take_list, take_text, text};

/// Members that mean the same in chat.
const SAME: [&str; 11] = [
    "stream",
    "temperature",
    "top_p",
    "user",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "seed",
];

/// Members that only a service which stores conversations can honour, and what to do instead.
const STORED: [(&str, &str); 3] = [
    ("previous_response_id", "no prompt and no answer is kept here; send the whole conversation as `input`"),
    ("conversation", "no conversation is kept here; send the whole conversation as `input`"),
    ("prompt", "prompt templates are stored at OpenAI; send `instructions` and `input`"),
];

/// Reads a request. Errors name the member in the words of Responses.
pub fn read(body: &Bytes) -> Result<Asked, Invalid> {
    let mut members = reading::members(body)?;
    for (name, reason) in STORED {
        if take(&mut members, name).is_some() {
            return Err(Invalid::value(name, format!("`{name}` is not supported: {reason}")));
        }
    }
    if take(&mut members, "background") == Some(json!(true)) {
        return Err(Invalid::value("background", "`background` is not supported in this version; leave it out"));
    }
    let echo = Echo::of(&members);
    let (mut chat, mut notes) = (Map::new(), Vec::new());
    let model = take_text(&mut members, "model")?.ok_or_else(|| Invalid::missing("model"))?;
    chat.insert("model".into(), json!(model));
    let mut messages = Messages::default();
    if let Some(instructions) = take_text(&mut members, "instructions")?.filter(|text| !text.is_empty()) {
        messages.list.push(json!({"role": "system", "content": instructions}));
    }
    match take(&mut members, "input") {
        Some(Value::String(words)) => messages.list.push(json!({"role": "user", "content": words})),
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                messages.push(item, &format!("input[{index}]"))?;
            }
        }
        Some(_) => return Err(Invalid::kind("input", "a string or a list of items")),
        None => return Err(Invalid::missing("input")),
    }
    if messages.list.is_empty() {
        return Err(Invalid::value("input", "`input` is empty; send at least one message"));
    }
    messages.lost.sort_unstable();
    messages.lost.dedup();
    notes.extend(
        messages.lost.iter().map(|kind| format!("items of type `{kind}` have no place in chat and were left out")),
    );
    chat.insert("messages".into(), Value::Array(messages.list));
    for name in OURS.iter().chain(&SAME) {
        chat.extend(take(&mut members, name).map(|value| ((*name).to_owned(), value)));
    }
    if let Some(limit) = take(&mut members, "max_output_tokens") {
        chat.insert("max_completion_tokens".into(), limit);
    }
    tools(&mut members, &mut chat, &mut notes)?;
    let format = take(&mut members, "text").unwrap_or_default();
    chat.extend(answer_format(&format["format"]).map(|format| ("response_format".into(), format)));
    chat.extend(text(&format, "verbosity").map(|verbosity| ("verbosity".into(), json!(verbosity))));
    let reasoning = take(&mut members, "reasoning").unwrap_or_default();
    chat.extend(text(&reasoning, "effort").map(|effort| ("reasoning_effort".into(), json!(effort))));
    if let Some(count) = take(&mut members, "top_logprobs").filter(|count| *count != json!(0)) {
        chat.insert("logprobs".into(), json!(true));
        chat.insert("top_logprobs".into(), count);
    }
    if chat.get("stream") == Some(&json!(true)) {
        chat.insert("stream_options".into(), json!({"include_usage": true}));
    }
    // What is true here whatever the caller says of it, or concerns nothing but the delivery.
    for silent in ["store", "include", "stream_options", "truncation"] {
        members.remove(silent);
    }
    notes.extend(members.iter().filter(|(_, value)| !value.is_null()).take(8).map(|(name, _)| {
        let name: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
        format!("`{name}` has no place in chat and was left out")
    }));
    Ok(Asked { chat: reading::body(&chat), native: None, notes, writer: Box::new(ResponseWriter::new(echo)) })
}

fn tools(
    members: &mut Map<String, Value>,
    chat: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<(), Invalid> {
    let mut offered = Vec::new();
    for (index, tool) in take_list(members, "tools")?.unwrap_or_default().into_iter().enumerate() {
        let Value::Object(mut tool) = tool else { return Err(Invalid::kind(format!("tools[{index}]"), "an object")) };
        match tool.remove("type").as_ref().and_then(Value::as_str) {
            Some("function") => {
                if !tool.get("name").is_some_and(Value::is_string) {
                    return Err(Invalid::missing(&format!("tools[{index}].name")));
                }
                // `strict: null` is how the SDK leaves it to the service.
                tool.retain(|_, value| !value.is_null());
                offered.push(json!({"type": "function", "function": tool}));
            }
            Some("custom") => offered.push(json!({"type": "custom", "custom": tool})),
            Some(kind) => {
                let kind: String = kind.chars().filter(char::is_ascii_graphic).take(40).collect();
                notes.push(format!("the tool `{kind}` is run by OpenAI alone and was left out"));
            }
            None => return Err(Invalid::missing(&format!("tools[{index}].type"))),
        }
    }
    let choice = take(members, "tool_choice");
    if offered.is_empty() {
        return match choice.as_ref().and_then(Value::as_str) {
            None if choice.is_some() => {
                Err(Invalid::value("tool_choice", "`tool_choice` names a tool that no provider here can run"))
            }
            _ => Ok(()),
        };
    }
    chat.insert("tools".into(), Value::Array(offered));
    let said = match &choice {
        None => return Ok(()),
        Some(Value::String(mode)) => json!(mode),
        Some(choice) => match text(choice, "type") {
            Some(kind @ ("function" | "custom")) => json!({"type": kind, kind: {"name": choice["name"]}}),
            Some("allowed_tools") => {
                let nested = choice["tools"].as_array().into_iter().flatten().map(|tool| {
                    let kind = text(tool, "type").unwrap_or("function");
                    json!({"type": kind, kind: {"name": tool["name"]}})
                });
                let nested: Vec<Value> = nested.collect();
                json!({"type": "allowed_tools", "allowed_tools": {"mode": choice["mode"], "tools": nested}})
            }
            _ => return Err(Invalid::value("tool_choice", "`tool_choice` names a tool that no provider here can run")),
        },
    };
    chat.insert("tool_choice".into(), said);
    Ok(())
}

/// `text.format`: flat here, nested in chat.
fn answer_format(format: &Value) -> Option<Value> {
    match text(format, "type")? {
        "json_object" => Some(json!({"type": "json_object"})),
        "json_schema" => {
            let mut schema = format.as_object()?.clone();
            schema.remove("type");
            schema.retain(|_, value| !value.is_null());
            Some(json!({"type": "json_schema", "json_schema": schema}))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: Value) -> (Value, Vec<String>) {
        let asked = read(&Bytes::from(body.to_string())).expect("a request");
        (serde_json::from_slice(&asked.chat).expect("JSON"), asked.notes)
    }

    #[test]
    fn a_conversation_with_tools_becomes_chat() {
        let (chat, notes) = chat(json!({
            "model": "auto", "instructions": "Be brief.", "max_output_tokens": 50, "reasoning": {"effort": "low"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
            "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": null}, {"type": "web_search"}],
            "tool_choice": {"type": "function", "name": "f"},
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "https://x/y.png"}]},
                {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "1"},
                {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
            ],
        }));
        assert_eq!(notes, ["the tool `web_search` is run by OpenAI alone and was left out"]);
        let messages = chat["messages"].as_array().expect("a list");
        let roles: Vec<&str> = messages.iter().filter_map(|message| message["role"].as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "tool"]);
        assert_eq!(messages[2]["tool_calls"].as_array().map(Vec::len), Some(2));
        assert_eq!((&messages[2]["content"], &messages[2]["reasoning_content"]), (&json!("ok"), &json!("hm")));
        assert_eq!(messages[4]["content"], "2");
        assert_eq!(chat["max_completion_tokens"], 50);
        assert_eq!(chat["tools"], json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]));
        assert_eq!(chat["tool_choice"], json!({"type": "function", "function": {"name": "f"}}));
        assert_eq!(chat["response_format"]["json_schema"]["name"], "n");
    }

    #[test]
    fn what_needs_a_store_is_refused_by_name() {
        for name in ["previous_response_id", "conversation", "prompt"] {
            let mut body = json!({"model": "m", "input": "hi"});
            body[name] = json!("x");
            let error = read(&Bytes::from(body.to_string())).err().expect("an error");
            assert_eq!(error.param.as_deref(), Some(name));
        }
    }
}
