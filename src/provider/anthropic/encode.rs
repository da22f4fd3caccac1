//! A chat request as the body of `POST /messages`.

use serde_json::{Map, Value, json};

use super::generation::Generation;
use super::thinking::{Thinking, thinking};
use super::turns::Turns;
use super::{ANSWER_TOOL, NAME};
use crate::catalog::Model;
use crate::chat::Request;
use crate::provider::adapter::Untranslatable;
use crate::provider::wanted::{Effort, Format, Function, Tool, ToolChoice, Wanted, left_out, refuse};

/// `max_tokens` has no default at Anthropic. The oldest models that still answer write 4,096 tokens at most.
const DEFAULT_MAX_TOKENS: u64 = 4_096;
/// Some models write 128,000 tokens; who wants more than this at once has to say so.
const DEFAULT_MAX_TOKENS_CAP: u64 = 32_000;

/// Members that are translated below.
const SAID: [&str; 13] = [
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "thinking",
    "user",
];

const JSON_INSTRUCTION: &str = "Answer with a single JSON object and nothing else: no prose, no Markdown fence.";

/// The body, and notes on what was left out.
pub fn body(request: &Request, model: &Model) -> Result<(Vec<u8>, Vec<String>), Untranslatable> {
    if request.n > 1 {
        return Err(refuse("n", format!("{NAME} answers with one choice")));
    }
    let wanted = Wanted::of(request)?;
    let generation = Generation::of(model.upstream_id());
    let mut notes = left_out(request, &SAID, NAME);
    let mut out = Map::new();
    out.insert("model".into(), json!(model.upstream_id()));
    let max_tokens = max_tokens(request, model, &mut notes);
    out.insert("max_tokens".into(), json!(max_tokens));

    let schema = Schema::of(&wanted.format, model, generation);
    let tools = Tools::of(&wanted, &schema, generation.has_structured_output())?;
    let messages = request.messages().map_err(|error| refuse(error.param.unwrap_or_default(), error.message))?;
    let plan = how_to_think(request, &wanted, model, generation, max_tokens, &tools, &messages, &mut notes)?;
    // The caller's own `thinking` member is Anthropic's, so it goes out as it came.
    let own_thinking = request.read::<Value>("thinking").filter(Value::is_object);
    let thinks = plan.is_on() || own_thinking.as_ref().is_some_and(|member| member["type"] != "disabled");
    let mut turns = Turns::of(&messages, thinks)?;
    notes.extend(turns.notes());

    let instruction = (wanted.format == Format::JsonObject).then_some(JSON_INSTRUCTION);
    if let Some(system) = turns.system(instruction) {
        out.insert("system".into(), system);
    }
    if instruction.is_some() {
        notes.push(format!("`response_format` `json_object` is only an instruction at {NAME}"));
    }
    out.insert("messages".into(), turns.messages());
    if request.stream {
        out.insert("stream".into(), json!(true));
    }
    let stop: Vec<&String> = wanted.stop.iter().filter(|stop| !stop.trim().is_empty()).collect();
    if stop.len() < wanted.stop.len() {
        notes.push(format!("`stop` of white space is refused by {NAME} and was left out"));
    }
    if !stop.is_empty() {
        out.insert("stop_sequences".into(), json!(stop));
    }
    sampling(request, generation, thinks, &mut out, &mut notes);
    if !tools.list.is_empty() {
        out.insert("tools".into(), Value::Array(tools.list));
        out.extend(tools.choice.map(|choice| ("tool_choice".into(), choice)));
    }
    let (member, effort) = plan.members();
    out.extend(own_thinking.or(member).map(|thinking| ("thinking".into(), thinking)));
    let mut config = Map::new();
    config.extend(effort.map(|effort| ("effort".into(), json!(effort))));
    if let Schema::Format(schema) = schema {
        config.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
    }
    if !config.is_empty() {
        out.insert("output_config".into(), Value::Object(config));
    }
    if let Some(user) = request.read::<String>("user").filter(|user| !user.is_empty()) {
        out.insert("metadata".into(), json!({"user_id": user}));
    }
    let body = serde_json::to_vec(&out).map_err(|error| refuse("messages", error.to_string()))?;
    Ok((body, notes))
}

/// The body of a caller who speaks Messages, word for word; only the model, the stream and the limit are ours.
pub fn native(request: &Request, own: &[u8], model: &Model) -> Result<(Vec<u8>, Vec<String>), Untranslatable> {
    let own: Map<String, Value> = serde_json::from_slice(own).map_err(|error| refuse("messages", error.to_string()))?;
    let mut notes = Vec::new();
    let mut out = Map::with_capacity(own.len() + 3);
    out.insert("model".into(), json!(model.upstream_id()));
    out.extend(own);
    out.insert("max_tokens".into(), json!(max_tokens(request, model, &mut notes)));
    if request.stream {
        out.insert("stream".into(), json!(true));
    }
    let body = serde_json::to_vec(&out).map_err(|error| refuse("messages", error.to_string()))?;
    Ok((body, notes))
}

fn max_tokens(request: &Request, model: &Model, notes: &mut Vec<String>) -> u64 {
    match (request.max_tokens, model.max_output) {
        (Some(wanted), Some(limit)) if wanted > limit => {
            notes.push(format!("`max_tokens` {wanted} is above this model's limit and was sent as {limit}"));
            limit
        }
        (Some(wanted), _) => wanted,
        (None, limit) => limit.unwrap_or(DEFAULT_MAX_TOKENS).min(DEFAULT_MAX_TOKENS_CAP),
    }
}

/// Decides on thinking. What the caller says about tools and formats is firmer than a wish for effort.
#[expect(clippy::too_many_arguments, reason = "one decision that weighs everything, made once")]
fn how_to_think(
    request: &Request,
    wanted: &Wanted,
    model: &Model,
    generation: Generation,
    max_tokens: u64,
    tools: &Tools,
    messages: &[crate::chat::Message],
    notes: &mut Vec<String>,
) -> Result<Thinking, Untranslatable> {
    // Beside the caller's own `thinking` an effort is still said where the two are apart.
    let own = request.read::<Value>("thinking");
    let may_say = own.is_none_or(|own| own["type"] == "adaptive" && generation.is_adaptive());
    let Some(effort) = wanted.effort.filter(|_| may_say) else { return Ok(Thinking::Off) };
    if effort == Effort::None {
        return Ok(Thinking::Off);
    }
    let reasons = if model.supports.known { model.supports.reasoning } else { generation.may_think() };
    if !reasons {
        notes.push("`reasoning_effort` was left out: this model does not reason".to_owned());
        return Ok(Thinking::Off);
    }
    if tools.is_forced {
        notes.push("`reasoning_effort` was left out: a forced tool call excludes thinking".to_owned());
        return Ok(Thinking::Off);
    }
    if !generation.is_adaptive() && Turns::of(messages, true)?.forbids_new_thinking() {
        notes.push(
            "`reasoning_effort` was left out: the turn that called the tools has no `thinking_blocks`".to_owned(),
        );
        return Ok(Thinking::Off);
    }
    Ok(thinking(effort, generation, max_tokens, notes))
}

/// temperature, top_p and top_k, as far as the model takes them.
pub fn sampling(
    request: &Request,
    generation: Generation,
    thinks: bool,
    out: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) {
    let top_p: Option<f64> = request.read("top_p");
    let top_k: Option<u64> = request.read("top_k");
    if request.temperature.is_some_and(|t| t > 1.0) && !thinks && !generation.refuses_sampling() {
        notes.push(format!("`temperature` ends at 1 at {NAME}, which was sent"));
    }
    let mut omit = |name: &str, reason: &str| notes.push(format!("`{name}` was left out: {reason}"));
    if generation.refuses_sampling() {
        for (name, is_set) in [
            // 1 is the default, so leaving it out changes nothing.
            ("temperature", request.temperature.is_some_and(|t| t != 1.0)),
            ("top_p", top_p.is_some_and(|p| p != 1.0)),
            ("top_k", top_k.is_some()),
        ] {
            if is_set {
                omit(name, "this model takes no sampling parameters");
            }
        }
        return;
    }
    let temperature = match request.temperature.map(|t| t.min(1.0)) {
        Some(t) if thinks && t != 1.0 => {
            omit("temperature", "thinking needs the default");
            None
        }
        other => other,
    };
    if let Some(t) = temperature {
        out.insert("temperature".into(), json!(t));
    }
    match top_p {
        Some(p) if thinks && p < 0.95 => omit("top_p", "thinking needs at least 0.95"),
        // 1 is the default, and saying so beside a temperature would be refused.
        Some(1.0) => {}
        Some(_) if temperature.is_some() && generation.takes_one_sampling_member() => {
            omit("top_p", "this model takes `temperature` or `top_p`, not both");
        }
        Some(p) => {
            out.insert("top_p".into(), json!(p));
        }
        None => {}
    }
    match top_k {
        Some(_) if thinks => omit("top_k", "it cannot be combined with thinking"),
        Some(k) => {
            out.insert("top_k".into(), json!(k));
        }
        None => {}
    }
}

/// How a wanted schema is asked for.
enum Schema {
    No,
    /// By `output_config.format`.
    Format(Value),
    /// By a tool that must be called; see [`ANSWER_TOOL`].
    Tool(Value),
}

impl Schema {
    fn of(format: &Format, model: &Model, generation: Generation) -> Self {
        let Format::Schema(schema) = format else { return Self::No };
        let knows = if model.supports.known { model.supports.json_schema } else { generation.has_structured_output() };
        let mut closed = schema.clone();
        if knows && close(&mut closed) { Self::Format(closed) } else { Self::Tool(schema.clone()) }
    }
}

/// Structured output wants every object closed (API reference, Structured outputs, Limitations): an object that says
/// nothing is closed here. False if one is meant to be open.
pub fn close(schema: &mut Value) -> bool {
    match schema {
        Value::Object(members) => {
            let is_object =
                members.get("type").is_some_and(|kind| kind == "object") || members.contains_key("properties");
            match members.get("additionalProperties") {
                None if is_object => {
                    members.insert("additionalProperties".into(), json!(false));
                }
                Some(Value::Bool(false)) | None => {}
                Some(_) => return false,
            }
            members.iter_mut().all(|(name, member)| match (name.as_str(), member) {
                // Names of properties are no keywords.
                ("properties" | "$defs" | "definitions", Value::Object(named)) => named.values_mut().all(close),
                ("enum" | "const" | "default" | "examples", _) => true,
                (_, member) => close(member),
            })
        }
        Value::Array(items) => items.iter_mut().all(close),
        _ => true,
    }
}

/// The members `tools` and `tool_choice`.
#[derive(Default)]
struct Tools {
    list: Vec<Value>,
    choice: Option<Value>,
    /// Some tool must be called.
    is_forced: bool,
}

impl Tools {
    fn of(wanted: &Wanted, schema: &Schema, knows_strict: bool) -> Result<Self, Untranslatable> {
        let mut tools = Self::default();
        for (index, tool) in wanted.tools.iter().enumerate() {
            tools.list.push(match tool {
                Tool::Function(function) => declaration(function, knows_strict),
                // Anthropic's own tools carry the date of their version, such as `web_search_20250305`.
                Tool::Other { kind, raw } if is_dated(kind) => raw.clone(),
                Tool::Other { kind, .. } => {
                    return Err(refuse(format!("tools[{index}]"), format!("{NAME} knows no tool of type `{kind}`")));
                }
            });
        }
        let mut choice = wanted.choice.clone();
        if let Schema::Tool(schema) = schema {
            let free = matches!(choice, None | Some(ToolChoice::Auto | ToolChoice::Required));
            // Beside the caller's tools the answer is one more way to go on; alone it is the only one.
            choice = match &choice {
                Some(ToolChoice::Named(name)) => Some(ToolChoice::Named(name.clone())),
                _ if free && !tools.list.is_empty() => Some(ToolChoice::Required),
                _ => Some(ToolChoice::Named(ANSWER_TOOL.to_owned())),
            };
            tools.list.push(json!({
                "name": ANSWER_TOOL,
                "description": "Give the final answer.",
                "input_schema": schema,
            }));
        }
        tools.is_forced = matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
        let mut choice = choice.map(|choice| match choice {
            ToolChoice::Auto => json!({"type": "auto"}),
            ToolChoice::None => json!({"type": "none"}),
            ToolChoice::Required => json!({"type": "any"}),
            ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
        });
        if !wanted.parallel {
            let choice = choice.get_or_insert_with(|| json!({"type": "auto"}));
            if choice["type"] != "none" {
                choice["disable_parallel_tool_use"] = json!(true);
            }
        }
        tools.choice = choice;
        Ok(tools)
    }
}

fn declaration(function: &Function, knows_strict: bool) -> Value {
    let mut schema = function.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    if let Value::Object(members) = &mut schema
        && !members.contains_key("type")
    {
        members.insert("type".into(), json!("object"));
    }
    let mut tool = json!({"name": function.name});
    if let Some(description) = &function.description {
        tool["description"] = json!(description);
    }
    tool["input_schema"] = schema;
    // It came with structured output, and likewise wants every object closed (API reference, Strict tool use).
    let is_strict = knows_strict && function.extra.get("strict") == Some(&json!(true));
    if is_strict && close(&mut tool["input_schema"]) {
        tool["strict"] = json!(true);
    }
    if let Some(control) = function.extra.get("cache_control") {
        tool["cache_control"] = control.clone();
    }
    tool
}

fn is_dated(kind: &str) -> bool {
    kind.rsplit_once('_').is_some_and(|(_, date)| date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()))
}
