//! A chat request as the body of `POST /api/chat`.

use serde_json::{Map, Value, json};

use super::{NAME, messages};
use crate::catalog::Model;
use crate::chat::Request;
use crate::provider::adapter::Untranslatable;
use crate::provider::wanted::{Effort, Format, Function, Tool, ToolChoice, Wanted, left_out, refuse};

/// Members that are translated below. Nobody is told about a `user`.
const SAID: [&str; 13] = [
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "think",
    "options",
    "logprobs",
    "top_logprobs",
    "user",
];

/// Members that mean the same inside `options`.
const OPTIONS: [&str; 10] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "num_ctx",
];

/// Members in Ollama's own words, which go out as they came.
const NATIVE: [&str; 3] = ["keep_alive", "truncate", "shift"];

/// The body, and notes on what was left out.
pub fn body(request: &Request, model: &Model) -> Result<(Vec<u8>, Vec<String>), Untranslatable> {
    if request.n > 1 {
        return Err(refuse("n", format!("{NAME} answers with one choice")));
    }
    let wanted = Wanted::of(request)?;
    let said: Vec<&str> = SAID.iter().chain(&OPTIONS).chain(&NATIVE).copied().collect();
    let mut notes = left_out(request, &said, NAME);
    let mut out = Map::new();
    out.insert("model".into(), json!(model.upstream_id()));
    let messages = request.messages().map_err(|error| refuse(error.param.unwrap_or_default(), error.message))?;
    let (messages, names_lost) = messages::list(&messages)?;
    if names_lost {
        notes.push(format!("`messages[].name` has no equivalent at {NAME} and was left out"));
    }
    out.insert("messages".into(), Value::Array(messages));
    // Ollama streams unless told not to.
    out.insert("stream".into(), json!(request.stream));
    tools(&wanted, &mut out, &mut notes)?;
    match &wanted.format {
        Format::Text => {}
        Format::JsonObject => drop(out.insert("format".into(), json!("json"))),
        Format::Schema(schema) => drop(out.insert("format".into(), schema.clone())),
    }
    if let Some(think) = think(request, &wanted, model, &mut notes) {
        out.insert("think".into(), think);
    }
    let options = options(request, &wanted);
    if !options.is_empty() {
        out.insert("options".into(), Value::Object(options));
    }
    if request.read("logprobs") == Some(true) {
        out.insert("logprobs".into(), json!(true));
        if let Some(top) = request.read::<u64>("top_logprobs").filter(|top| *top > 0) {
            out.insert("top_logprobs".into(), json!(top));
        }
    }
    for name in NATIVE {
        if let Some(value) = request.read::<Value>(name) {
            out.insert(name.into(), value);
        }
    }
    let body = serde_json::to_vec(&out).map_err(|error| refuse("messages", error.to_string()))?;
    Ok((body, notes))
}

/// The caller's own `options`, and what OpenAI has names for on top of them.
fn options(request: &Request, wanted: &Wanted) -> Map<String, Value> {
    let mut options: Map<String, Value> = request.read("options").unwrap_or_default();
    for name in OPTIONS {
        if let Some(number) = request.read::<serde_json::Number>(name) {
            options.insert(name.into(), Value::Number(number));
        }
    }
    if let Some(tokens) = request.max_tokens {
        options.insert("num_predict".into(), json!(tokens));
    }
    let stop: Vec<&String> = wanted.stop.iter().filter(|stop| !stop.is_empty()).collect();
    if !stop.is_empty() {
        options.insert("stop".into(), json!(stop));
    }
    options
}

fn tools(wanted: &Wanted, out: &mut Map<String, Value>, notes: &mut Vec<String>) -> Result<(), Untranslatable> {
    if let Some(index) = wanted.tools.iter().position(|tool| matches!(tool, Tool::Other { .. })) {
        return Err(refuse(format!("tools[{index}]"), format!("{NAME} knows only functions")));
    }
    if wanted.tools.is_empty() {
        return Ok(());
    }
    match &wanted.choice {
        None | Some(ToolChoice::Auto) => {}
        // Tools that may not be called need not be there.
        Some(ToolChoice::None) => return Ok(()),
        Some(ToolChoice::Required | ToolChoice::Named(_)) => {
            return Err(refuse("tool_choice", format!("{NAME} cannot be made to call a tool")));
        }
    }
    out.insert("tools".into(), wanted.functions().map(declaration).collect());
    if !wanted.parallel {
        notes.push(format!("`parallel_tool_calls` has no equivalent at {NAME} and was left out"));
    }
    Ok(())
}

fn declaration(function: &Function) -> Value {
    let mut declared = json!({"name": function.name});
    if let Some(description) = &function.description {
        declared["description"] = json!(description);
    }
    declared["parameters"] = function.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    json!({"type": "function", "function": declared})
}

/// Thinking is on or off; only gpt-oss has levels, and cannot be switched off (Ollama's documentation, Thinking).
fn think(request: &Request, wanted: &Wanted, model: &Model, notes: &mut Vec<String>) -> Option<Value> {
    if let Some(own) = request.read::<Value>("think") {
        return Some(own);
    }
    let effort = wanted.effort?;
    if model.upstream_id().contains("gpt-oss") {
        return Some(match effort {
            Effort::None => {
                notes.push("`reasoning_effort` `none` is not known to this model and was sent as `low`".to_owned());
                json!("low")
            }
            Effort::Minimal | Effort::Low => json!("low"),
            Effort::Medium => json!("medium"),
            Effort::High | Effort::Xhigh => json!("high"),
        });
    }
    if effort != Effort::None && model.supports.known && !model.supports.reasoning {
        notes.push("`reasoning_effort` was left out: this model does not reason".to_owned());
        return None;
    }
    Some(json!(effort != Effort::None))
}
