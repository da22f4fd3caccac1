//! A chat request as the body of `POST /v2/chat`. Limits and names are those of Cohere's API reference, Chat.

use serde_json::{Map, Value, json};

use super::NAME;
use super::messages::Messages;
use crate::catalog::Model;
use crate::chat::Request;
use crate::provider::adapter::Untranslatable;
use crate::provider::wanted::{Effort, Format, Function, Tool, ToolChoice, Wanted, left_out, refuse};

/// Members that are translated below. Nobody is told about a `user`.
const SAID: [&str; 18] = [
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "thinking",
    "user",
];

/// Members in Cohere's own words, which go out as they came.
const NATIVE: [&str; 7] = ["documents", "citation_options", "safety_mode", "strict_tools", "priority", "k", "p"];

const MAX_STOPS: usize = 5;
/// `p` ends here; OpenAI's 1 means the same for all practical purposes.
const MAX_P: f64 = 0.99;
const MIN_P: f64 = 0.01;

/// The body, and notes on what was left out.
pub fn body(request: &Request, model: &Model) -> Result<(Vec<u8>, Vec<String>), Untranslatable> {
    if request.n > 1 {
        return Err(refuse("n", format!("{NAME} answers with one choice")));
    }
    let wanted = Wanted::of(request)?;
    let said: Vec<&str> = SAID.iter().chain(&NATIVE).copied().collect();
    let mut notes = left_out(request, &said, NAME);
    let mut out = Map::new();
    out.insert("model".into(), json!(model.upstream_id()));
    let reasons = reasons(model);
    let messages = request.messages().map_err(|error| refuse(error.param.unwrap_or_default(), error.message))?;
    let messages = Messages::of(&messages, reasons)?;
    if messages.names_lost {
        notes.push(format!("`messages[].name` has no equivalent at {NAME} and was left out"));
    }
    out.insert("messages".into(), Value::Array(messages.list));
    // Always said: some deployments stream unless told not to.
    out.insert("stream".into(), json!(request.stream));
    tools(&wanted, &mut out, &mut notes)?;
    format(&wanted, &mut out)?;
    sampling(request, &wanted, &mut out, &mut notes);
    if let Some(thinking) = thinking(request, &wanted, reasons, &mut notes) {
        out.insert("thinking".into(), thinking);
    }
    for name in NATIVE {
        if let Some(value) = request.read::<Value>(name) {
            out.insert(name.into(), value);
        }
    }
    let body = serde_json::to_vec(&out).map_err(|error| refuse("messages", error.to_string()))?;
    Ok((body, notes))
}

/// Limits and sampling.
fn sampling(request: &Request, wanted: &Wanted, out: &mut Map<String, Value>, notes: &mut Vec<String>) {
    for (ours, theirs) in [("temperature", "temperature"), ("top_k", "k"), ("seed", "seed")] {
        if let Some(number) = request.read::<serde_json::Number>(ours) {
            out.insert(theirs.into(), Value::Number(number));
        }
    }
    if let Some(tokens) = request.max_tokens {
        out.insert("max_tokens".into(), json!(tokens));
    }
    if let Some(p) = request.read::<f64>("top_p") {
        out.insert("p".into(), json!(p.clamp(MIN_P, MAX_P)));
    }
    for name in ["frequency_penalty", "presence_penalty"] {
        let Some(penalty) = request.read::<f64>(name) else { continue };
        let sent = penalty.clamp(0.0, 1.0);
        if sent != penalty {
            notes.push(format!("`{name}` is between 0 and 1 at {NAME} and was sent as {sent}"));
        }
        out.insert(name.into(), json!(sent));
    }
    let stop: Vec<&String> = wanted.stop.iter().filter(|stop| !stop.is_empty()).take(MAX_STOPS).collect();
    if wanted.stop.len() > MAX_STOPS {
        notes.push(format!("`stop` holds more than {MAX_STOPS} sequences; the rest was left out"));
    }
    if !stop.is_empty() {
        out.insert("stop_sequences".into(), json!(stop));
    }
    if request.read("logprobs") == Some(true) {
        out.insert("logprobs".into(), json!(true));
        if request.read::<u64>("top_logprobs").is_some_and(|top| top > 0) {
            notes.push(format!("`top_logprobs` has no equivalent at {NAME} and was left out"));
        }
    }
}

fn tools(wanted: &Wanted, out: &mut Map<String, Value>, notes: &mut Vec<String>) -> Result<(), Untranslatable> {
    if let Some(index) = wanted.tools.iter().position(|tool| matches!(tool, Tool::Other { .. })) {
        return Err(refuse(format!("tools[{index}]"), format!("{NAME} knows only functions")));
    }
    let mut functions: Vec<&Function> = wanted.functions().collect();
    // JSON and tools exclude each other; tools that may not be called are the ones to go.
    if functions.is_empty() || (wanted.format != Format::Text && wanted.choice == Some(ToolChoice::None)) {
        return Ok(());
    }
    let choice = match &wanted.choice {
        None | Some(ToolChoice::Auto) => None,
        Some(ToolChoice::None) => Some("NONE"),
        Some(ToolChoice::Required) => Some("REQUIRED"),
        // One tool that must be called is the one that is named.
        Some(ToolChoice::Named(name)) => {
            functions.retain(|function| function.name == *name);
            if functions.is_empty() {
                return Err(refuse("tool_choice", format!("no tool is called `{name}`")));
            }
            Some("REQUIRED")
        }
    };
    let strict = functions.iter().filter(|function| function.extra.get("strict") == Some(&json!(true))).count();
    if strict == functions.len() {
        out.insert("strict_tools".into(), json!(true));
    } else if strict > 0 {
        notes.push(format!("`strict` holds for all tools or none at {NAME} and was left out"));
    }
    out.insert("tools".into(), functions.into_iter().map(declaration).collect());
    if let Some(choice) = choice {
        out.insert("tool_choice".into(), json!(choice));
    }
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

fn format(wanted: &Wanted, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    let format = match &wanted.format {
        Format::Text => return Ok(()),
        Format::JsonObject => json!({"type": "json_object"}),
        Format::Schema(schema) => json!({"type": "json_object", "json_schema": schema}),
    };
    // API reference, Chat, response_format: not together with tools.
    if out.contains_key("tools") {
        return Err(refuse("response_format", format!("{NAME} cannot combine it with `tools`")));
    }
    out.insert("response_format".into(), format);
    Ok(())
}

/// Whether the model thinks: by the catalogue, else by its name.
fn reasons(model: &Model) -> bool {
    let id = model.upstream_id();
    if model.supports.known { model.supports.reasoning } else { id.contains("reasoning") || id.contains("a-plus") }
}

/// The caller's own `thinking`, in Cohere's or Anthropic's words, or what an effort comes to.
fn thinking(request: &Request, wanted: &Wanted, reasons: bool, notes: &mut Vec<String>) -> Option<Value> {
    if let Some(own) = request.read::<Map<String, Value>>("thinking") {
        let mut thinking = Map::new();
        thinking.insert("type".into(), own.get("type").cloned().unwrap_or(json!("enabled")));
        let budget = own.get("token_budget").or_else(|| own.get("budget_tokens"));
        thinking.extend(budget.map(|budget| ("token_budget".into(), budget.clone())));
        return Some(Value::Object(thinking));
    }
    let effort = wanted.effort?;
    if !reasons {
        if effort != Effort::None {
            notes.push("`reasoning_effort` was left out: this model does not reason".to_owned());
        }
        return None;
    }
    let budget = match effort {
        Effort::None => return Some(json!({"type": "disabled"})),
        Effort::Minimal => 1_024,
        Effort::Low => 2_048,
        Effort::Medium => 8_192,
        // Without a budget the model thinks as long as it wants.
        Effort::High | Effort::Xhigh => return Some(json!({"type": "enabled"})),
    };
    Some(json!({"type": "enabled", "token_budget": budget}))
}
