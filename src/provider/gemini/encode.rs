//! A chat request as the body of `generateContent`.

use serde_json::{Map, Value, json};

use super::generation::Generation;
use super::turns::Turns;
use super::{NAME, schema};
use crate::catalog::Model;
use crate::chat::Request;
use crate::provider::adapter::Untranslatable;
use crate::provider::wanted::{Effort, Format, Function, Tool, ToolChoice, Wanted, left_out, refuse};

/// Members that are translated below.
const SAID: [&str; 18] = [
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "temperature",
    "top_p",
    "top_k",
    "n",
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
    // Nobody to report an end user to.
    "user",
];

/// Gemini takes five stop sequences (API reference, GenerationConfig).
const MAX_STOPS: usize = 5;

/// The body, and notes on what was left out.
pub fn body(request: &Request, model: &Model) -> Result<(Vec<u8>, Vec<String>), Untranslatable> {
    let wanted = Wanted::of(request)?;
    let generation = Generation::of(model.upstream_id());
    let mut notes = left_out(request, &SAID, NAME);
    let messages = request.messages().map_err(|error| refuse(error.param.unwrap_or_default(), error.message))?;
    let mut turns = Turns::of(&messages, generation.wants_signatures())?;
    notes.extend(turns.notes());

    let mut config = sampling(request, &wanted, model, &mut notes);
    let instruction = format(&wanted, generation, &mut config, &mut notes);
    if let Some(thinking) = thinking(&wanted, model, generation, &mut notes) {
        config.insert("thinkingConfig".into(), thinking);
    }
    let mut out = Map::new();
    if let Some(system) = turns.system(instruction) {
        out.insert("systemInstruction".into(), system);
    }
    out.insert("contents".into(), turns.contents());
    if !wanted.tools.is_empty() {
        out.insert("tools".into(), tools(&wanted, generation)?);
        if let Some(choice) = wanted.choice.as_ref().filter(|_| wanted.functions().next().is_some()) {
            out.insert("toolConfig".into(), json!({ "functionCallingConfig": tool_choice(choice) }));
        }
        if !wanted.parallel {
            notes.push(format!("`parallel_tool_calls` has no equivalent at {NAME} and was left out"));
        }
    }
    if !config.is_empty() {
        out.insert("generationConfig".into(), Value::Object(config));
    }
    let body = serde_json::to_vec(&out).map_err(|error| refuse("messages", error.to_string()))?;
    Ok((body, notes))
}

/// Limits and sampling.
fn sampling(request: &Request, wanted: &Wanted, model: &Model, notes: &mut Vec<String>) -> Map<String, Value> {
    let mut config = Map::new();
    if let Some(tokens) = request.max_tokens {
        let limit = model.max_output.unwrap_or(u64::MAX);
        if tokens > limit {
            notes.push(format!("`max_tokens` {tokens} is above this model's limit and was sent as {limit}"));
        }
        config.insert("maxOutputTokens".into(), json!(tokens.min(limit)));
    }
    for (ours, theirs) in [
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("top_k", "topK"),
        ("seed", "seed"),
        ("presence_penalty", "presencePenalty"),
        ("frequency_penalty", "frequencyPenalty"),
    ] {
        if let Some(number) = request.read::<serde_json::Number>(ours) {
            config.insert(theirs.into(), Value::Number(number));
        }
    }
    if request.n > 1 {
        config.insert("candidateCount".into(), json!(request.n));
    }
    let stop: Vec<&String> = wanted.stop.iter().filter(|stop| !stop.is_empty()).take(MAX_STOPS).collect();
    if wanted.stop.len() > MAX_STOPS {
        notes.push(format!("`stop` holds more than {MAX_STOPS} sequences; the rest was left out"));
    }
    if !stop.is_empty() {
        config.insert("stopSequences".into(), json!(stop));
    }
    if request.read("logprobs") == Some(true) {
        config.insert("responseLogprobs".into(), json!(true));
        if let Some(top) = request.read::<u32>("top_logprobs").filter(|top| *top > 0) {
            config.insert("logprobs".into(), json!(top));
        }
    }
    config
}

/// The format of the answer. Returns an instruction where a model cannot be told otherwise.
fn format(
    wanted: &Wanted,
    generation: Generation,
    config: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Option<String> {
    let schema = match &wanted.format {
        Format::Text => return None,
        Format::JsonObject => None,
        Format::Schema(schema) => Some(schema),
    };
    if !wanted.tools.is_empty() && !generation.answers_json_beside_tools() {
        notes.push("`response_format` is only an instruction: this model takes no format beside tools".to_owned());
        return Some(match schema {
            Some(schema) => {
                format!("Your final answer is a single JSON value, without Markdown, valid against: {schema}")
            }
            None => "Your final answer is a single JSON object, without Markdown.".to_owned(),
        });
    }
    config.insert("responseMimeType".into(), json!("application/json"));
    match schema {
        Some(schema) if generation.takes_json_schema() => {
            config.insert("responseJsonSchema".into(), json_schema(schema));
        }
        Some(schema) => {
            config.insert("responseSchema".into(), schema::subset(schema));
        }
        None => {}
    }
    None
}

/// A schema for a model that takes JSON schemas. It refuses the member that names the dialect.
fn json_schema(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(members) = &mut schema {
        members.shift_remove("$schema");
    }
    schema
}

/// `reasoning_effort`, by the figures of Google's own compatibility layer (Gemini API, OpenAI compatibility).
fn thinking(wanted: &Wanted, model: &Model, generation: Generation, notes: &mut Vec<String>) -> Option<Value> {
    let effort = wanted.effort?;
    let reasons = if model.supports.known { model.supports.reasoning } else { generation.may_think() };
    if !reasons || !generation.may_think() {
        if effort != Effort::None {
            notes.push("`reasoning_effort` was left out: this model does not reason".to_owned());
        }
        return None;
    }
    let is_pro = model.upstream_id().contains("pro");
    let mut cannot_stop =
        || notes.push("`reasoning_effort` `none` is not possible: this model always thinks".to_owned());
    let shown = effort != Effort::None;
    if generation.has_levels() {
        let level = match effort {
            Effort::None | Effort::Minimal if !is_pro => "minimal",
            Effort::None | Effort::Minimal | Effort::Low => "low",
            // The first Pro of the third generation knows two levels only.
            Effort::Medium if model.upstream_id().contains("gemini-3-pro") => "high",
            Effort::Medium => "medium",
            Effort::High | Effort::Xhigh => "high",
        };
        if effort == Effort::None {
            cannot_stop();
        }
        return Some(json!({"thinkingLevel": level, "includeThoughts": shown}));
    }
    let budget = match effort {
        Effort::None if is_pro => {
            cannot_stop();
            128
        }
        Effort::None => 0,
        Effort::Minimal | Effort::Low => 1_024,
        Effort::Medium => 8_192,
        Effort::High | Effort::Xhigh => 24_576,
    };
    Some(json!({"thinkingBudget": budget, "includeThoughts": shown}))
}

fn tools(wanted: &Wanted, generation: Generation) -> Result<Value, Untranslatable> {
    let mut list = Vec::new();
    let functions: Vec<Value> = wanted.functions().map(|function| declaration(function, generation)).collect();
    if !functions.is_empty() {
        list.push(json!({ "functionDeclarations": functions }));
    }
    for (index, tool) in wanted.tools.iter().enumerate() {
        let Tool::Other { kind, .. } = tool else { continue };
        list.push(match kind.as_str() {
            "google_search" => json!({"googleSearch": {}}),
            "url_context" => json!({"urlContext": {}}),
            "code_execution" => json!({"codeExecution": {}}),
            _ => return Err(refuse(format!("tools[{index}]"), format!("{NAME} knows no tool of type `{kind}`"))),
        });
    }
    Ok(Value::Array(list))
}

fn declaration(function: &Function, generation: Generation) -> Value {
    let mut declaration = json!({"name": function.name});
    if let Some(description) = &function.description {
        declaration["description"] = json!(description);
    }
    if let Some(parameters) = function.parameters.as_ref().filter(|parameters| !schema::is_empty_object(parameters)) {
        if generation.takes_json_schema() {
            declaration["parametersJsonSchema"] = json_schema(parameters);
        } else {
            declaration["parameters"] = schema::subset(parameters);
        }
    }
    declaration
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!({"mode": "AUTO"}),
        ToolChoice::None => json!({"mode": "NONE"}),
        ToolChoice::Required => json!({"mode": "ANY"}),
        ToolChoice::Named(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    }
}
