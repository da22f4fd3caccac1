//! A chat request as the body of `POST /model/{id}/converse`.

use serde_json::{Map, Value, json};

use super::NAME;
use super::maker::Maker;
use super::tools::{Schema, Tools};
use super::turns::Turns;
use crate::catalog::Model;
use crate::chat::Request;
use crate::provider::adapter::Untranslatable;
use crate::provider::anthropic::encode::sampling;
use crate::provider::anthropic::generation::Generation;
use crate::provider::anthropic::thinking::{Thinking, thinking};
use crate::provider::wanted::{Effort, Format, Wanted, left_out, refuse};

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
    "service_tier",
    // Nobody to report an end user to.
    "user",
];

const JSON_INSTRUCTION: &str = "Answer with a single JSON object and nothing else: no prose, no Markdown fence.";

/// Sizes a thinking budget where neither the caller nor the catalogue limits the answer.
const USUAL_MAX_TOKENS: u64 = 4_096;

/// The body, and notes on what was left out.
pub fn body(request: &Request, model: &Model) -> Result<(Vec<u8>, Vec<String>), Untranslatable> {
    if request.n > 1 {
        return Err(refuse("n", format!("{NAME} answers with one choice")));
    }
    let wanted = Wanted::of(request)?;
    let maker = Maker::of(model);
    let mut said = SAID.to_vec();
    // The caller's own `thinking` member is Anthropic's; other makers do not know it.
    said.extend(matches!(maker, Maker::Claude(_)).then_some("thinking"));
    let mut notes = left_out(request, &said, NAME);
    let mut out = Map::new();

    let messages = request.messages().map_err(|error| refuse(error.param.unwrap_or_default(), error.message))?;
    let bare = Turns::of(&messages, maker, true)?;
    let format: Option<Value> = request.read("response_format");
    let name = format.as_ref().and_then(|format| format["json_schema"]["name"].as_str());
    let schema = Schema::of(&wanted.format, name, maker);
    let tools = Tools::of(&wanted, &schema, &bare.called, maker, &mut notes)?;
    let mut more = Map::new();
    let mut inference = limits(request, &wanted, model, &mut notes);
    let thinks = match maker {
        Maker::Claude(generation) => {
            let plan = how_to_think(request, &wanted, model, generation, tools.is_forced, &bare, &mut notes);
            claude(request, generation, plan, &mut inference, &mut more, &mut notes)
        }
        _ => {
            others(request, &wanted, maker, &mut inference, &mut more, &mut notes);
            false
        }
    };
    let mut turns = Turns::of(&messages, maker, thinks)?;
    notes.extend(turns.notes());

    let instruction = (wanted.format == Format::JsonObject).then_some(JSON_INSTRUCTION);
    if instruction.is_some() {
        notes.push(format!("`response_format` `json_object` is only an instruction at {NAME}"));
    }
    let system = turns.system(instruction);
    if !system.is_empty() {
        out.insert("system".into(), Value::Array(system));
    }
    out.insert("messages".into(), turns.messages());
    if !inference.is_empty() {
        out.insert("inferenceConfig".into(), Value::Object(inference));
    }
    out.extend(tools.config().map(|config| ("toolConfig".into(), config)));
    out.extend(schema.output_config().map(|config| ("outputConfig".into(), config)));
    if let Some(tier) = request.read::<String>("service_tier") {
        match tier.as_str() {
            "auto" | "default" => {}
            "flex" | "priority" => drop(out.insert("serviceTier".into(), json!({ "type": tier }))),
            _ => notes.push(format!("`service_tier` has no equivalent at {NAME} and was left out")),
        }
    }
    if !more.is_empty() {
        out.insert("additionalModelRequestFields".into(), Value::Object(more));
    }
    let body = serde_json::to_vec(&out).map_err(|error| refuse("messages", error.to_string()))?;
    Ok((body, notes))
}

/// How long the answer may be and where it stops. Without a limit Converse takes the model's own.
fn limits(request: &Request, wanted: &Wanted, model: &Model, notes: &mut Vec<String>) -> Map<String, Value> {
    let mut inference = Map::new();
    if let Some(tokens) = request.max_tokens {
        let limit = model.max_output.unwrap_or(u64::MAX);
        if tokens > limit {
            notes.push(format!("`max_tokens` {tokens} is above this model's limit and was sent as {limit}"));
        }
        inference.insert("maxTokens".into(), json!(tokens.min(limit)));
    }
    let stop: Vec<&String> = wanted.stop.iter().filter(|stop| !stop.trim().is_empty()).collect();
    if stop.len() < wanted.stop.len() {
        notes.push(format!("`stop` of white space is refused by {NAME} and was left out"));
    }
    if !stop.is_empty() {
        inference.insert("stopSequences".into(), json!(stop));
    }
    inference
}

/// Decides on Claude's thinking. What the caller says about tools and formats is firmer than a wish for effort.
fn how_to_think(
    request: &Request,
    wanted: &Wanted,
    model: &Model,
    generation: Generation,
    is_forced: bool,
    turns: &Turns,
    notes: &mut Vec<String>,
) -> Thinking {
    let Some(effort) = wanted.effort.filter(|_| request.member("thinking").is_none()) else { return Thinking::Off };
    let reasons = if model.supports.known { model.supports.reasoning } else { generation.may_think() };
    let obstacle = if effort == Effort::None {
        return Thinking::Off;
    } else if !reasons {
        "this model does not reason"
    } else if is_forced {
        "a forced tool call excludes thinking"
    } else if !generation.is_adaptive() && turns.forbids_new_thinking() {
        "the turn that called the tools has no `thinking_blocks`"
    } else {
        let max_tokens = request.max_tokens.or(model.max_output).unwrap_or(USUAL_MAX_TOKENS);
        return thinking(effort, generation, max_tokens, notes);
    };
    notes.push(format!("`reasoning_effort` was left out: {obstacle}"));
    Thinking::Off
}

/// What Claude takes beyond Converse, in Anthropic's words. True if it thinks.
fn claude(
    request: &Request,
    generation: Generation,
    plan: Thinking,
    inference: &mut Map<String, Value>,
    more: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> bool {
    let own = request.read::<Value>("thinking").filter(Value::is_object);
    let thinks = plan.is_on() || own.as_ref().is_some_and(|member| member["type"] != "disabled");
    let mut theirs = Map::new();
    sampling(request, generation, thinks, &mut theirs, notes);
    for (anthropics, converses) in [("temperature", "temperature"), ("top_p", "topP")] {
        inference.extend(theirs.shift_remove(anthropics).map(|value| (converses.to_owned(), value)));
    }
    more.extend(theirs);
    let (member, effort) = plan.members();
    more.extend(own.or(member).map(|thinking| ("thinking".to_owned(), thinking)));
    more.extend(effort.map(|effort| ("output_config".to_owned(), json!({ "effort": effort }))));
    thinks
}

/// Sampling and effort for everybody else.
fn others(
    request: &Request,
    wanted: &Wanted,
    maker: Maker,
    inference: &mut Map<String, Value>,
    more: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) {
    for (ours, theirs) in [("temperature", "temperature"), ("top_p", "topP")] {
        if let Some(number) = request.read::<serde_json::Number>(ours) {
            inference.insert(theirs.into(), Value::Number(number));
        }
    }
    if let Some(top_k) = request.read::<u64>("top_k") {
        match maker {
            // Nova guide, Request schema.
            Maker::Nova { .. } => drop(more.insert("inferenceConfig".into(), json!({ "topK": top_k }))),
            _ => notes.push("`top_k` has no equivalent for this model and was left out".to_owned()),
        }
    }
    let Some(effort) = wanted.effort else { return };
    let level = match effort {
        Effort::None => None,
        Effort::Minimal | Effort::Low => Some("low"),
        Effort::Medium => Some("medium"),
        Effort::High | Effort::Xhigh => Some("high"),
    };
    match (maker, level) {
        (Maker::OpenAi, Some(level)) => drop(more.insert("reasoning_effort".into(), json!(level))),
        (Maker::Nova { thinks: true }, Some(level)) => {
            // At `high` Nova takes neither a limit nor sampling (Nova 2 guide, Extended thinking).
            let limited = ["maxTokens", "temperature", "topP"].iter().any(|name| inference.contains_key(*name));
            let level = if level == "high" && limited {
                notes.push("`reasoning_effort` was sent as `medium`: `high` excludes limits and sampling".to_owned());
                "medium"
            } else {
                level
            };
            more.insert("reasoningConfig".into(), json!({"type": "enabled", "maxReasoningEffort": level}));
        }
        (_, None) => {}
        (_, Some(_)) => notes.push("`reasoning_effort` has no equivalent for this model and was left out".to_owned()),
    }
}
