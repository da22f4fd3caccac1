//! A whole answer, and the pieces that streams share with it.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::finish;
use crate::chat::{Choice, Extra, Object, Reply, Response, ToolCall, Usage, object};
use crate::provider::failure::{Failure, FailureKind, quote};

pub fn answer(body: &[u8]) -> Result<Response, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::malformed("the answer is not UTF-8"))?;
    let mut members =
        object(text).map_err(|_| Failure::malformed(format!("not a JSON object: {}", quote(text, 200))))?;
    // Where an answer has its message, an error has a text.
    let Some(message) = members.take_as::<Object<'_>>("message") else {
        return Err(failure(text).unwrap_or_else(|| Failure::malformed("an answer without a message")));
    };
    let reason: String =
        members.take_as("finish_reason").ok_or_else(|| Failure::malformed("an answer without a finish_reason"))?;
    let message = reply(message);
    let (finish, raw_reason) = finish(&reason, !message.tool_calls.is_empty())?;
    let mut extra = ending(raw_reason);
    extra.extend(members.take("logprobs").and_then(logprobs));
    Ok(Response {
        id: members.take_as("id").unwrap_or_default(),
        created: 0,
        model: members.take_as("model").unwrap_or_default(),
        vectors: Vec::new(),
        choices: vec![Choice { index: 0, message, finish, extra }],
        usage: members.take_as("usage").and_then(usage),
        extra: members.rest(),
    })
}

/// An error object, as whole bodies and as events have it.
pub fn failure(text: &str) -> Option<Failure> {
    Failure::of_error(text, None)
}

pub fn server_error() -> Failure {
    Failure::new(FailureKind::ServerError, "the provider reported an error")
}

fn reply(mut message: Object<'_>) -> Reply {
    message.take("role");
    let (mut text, mut thoughts) = (None::<String>, String::new());
    thoughts.push_str(&message.take_as::<String>("tool_plan").unwrap_or_default());
    match message.take("content") {
        Some(raw) if raw.get().starts_with('"') => text = serde_json::from_str(raw.get()).ok(),
        Some(raw) => {
            for part in serde_json::from_str::<Vec<Object<'_>>>(raw.get()).unwrap_or_default() {
                if let Some(piece) = part.read::<String>("text") {
                    text.get_or_insert_default().push_str(&piece);
                }
                thoughts.push_str(&part.read::<String>("thinking").unwrap_or_default());
            }
        }
        None => {}
    }
    let calls: Vec<Object<'_>> = message.take_as("tool_calls").unwrap_or_default();
    let tool_calls: Vec<ToolCall> = calls.into_iter().enumerate().map(|(at, call)| tool_call(at, call)).collect();
    if text.is_none() && tool_calls.is_empty() {
        text = Some(String::new());
    }
    Reply {
        content: text,
        refusal: None,
        reasoning_content: (!thoughts.is_empty()).then_some(thoughts),
        tool_calls,
        // `citations`, for one.
        extra: message.rest(),
    }
}

fn tool_call(position: usize, mut call: Object<'_>) -> ToolCall {
    let mut function: Object<'_> = call.take_as("function").unwrap_or_default();
    let id = call.take_as::<String>("id").filter(|id| !id.is_empty());
    call.take("type");
    let arguments = arguments(&mut function).filter(|text| !text.is_empty());
    ToolCall {
        id: id.unwrap_or_else(|| format!("call_{position}")),
        name: function.take_as("name").unwrap_or_default(),
        arguments: arguments.unwrap_or_else(|| "{}".to_owned()),
        extra: call.rest(),
    }
}

/// Arguments as JSON text; version 1 had an object.
pub fn arguments(function: &mut Object<'_>) -> Option<String> {
    let raw = function.take("arguments")?;
    Some(serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned()))
}

/// What the finish_reason does not say.
pub fn ending(raw_reason: Option<&str>) -> Extra {
    let reason = raw_reason.and_then(|reason| to_raw_value(reason).ok());
    reason.map(|reason| ("native_finish_reason".into(), reason)).into_iter().collect()
}

/// `tokens` is what the model read and wrote, Cohere's own templates included; `billed_units` leaves those out, rides
/// along, and is what the cost is computed from. Images are counted beside the input (recording), reasoning inside the output.
pub fn usage(members: Object<'_>) -> Option<Usage> {
    counts(members).unwrap_or_else(|| Some(Usage::refused()))
}

/// `None` if a count is unbelievable, `Some(None)` if there is none.
fn counts(mut members: Object<'_>) -> Option<Option<Usage>> {
    let seen: Object<'_> = members.take_as("tokens").unwrap_or_default();
    let mut counts = if seen.0.is_empty() { members.read("billed_units").unwrap_or_default() } else { seen };
    let prompt = Usage::count(&mut counts, "input_tokens")? + Usage::count(&mut counts, "image_tokens")?;
    let completion = Usage::count(&mut counts, "output_tokens")?;
    let reasoning = Usage::count(&mut counts, "reasoning_tokens")?;
    let cached = Usage::count(&mut members, "cached_tokens")?;
    let mut units: Object<'_> = members.read("billed_units").unwrap_or_default();
    let has_units = !units.0.is_empty();
    let billed = (
        Usage::count(&mut units, "input_tokens")? + Usage::count(&mut units, "image_tokens")?,
        Usage::count(&mut units, "output_tokens")?,
    );
    if prompt == 0 && completion == 0 {
        return Some(None);
    }
    Some(Some(Usage {
        prompt_tokens: prompt,
        completion_tokens: completion,
        billed: has_units.then_some(billed),
        cached_tokens: cached.min(prompt),
        reasoning_tokens: reasoning.min(completion),
        extra: members.rest(),
        ..Usage::default()
    }))
}

/// Log probabilities in OpenAI's shape. A piece of several tokens has one text: its probability is their product.
pub fn logprobs(raw: &RawValue) -> Option<(Box<str>, Box<RawValue>)> {
    let given: Value = serde_json::from_str(raw.get()).ok()?;
    let pieces = match given {
        Value::Array(pieces) => pieces,
        one => vec![one],
    };
    let content = pieces.iter().filter_map(|piece| {
        let token = piece["text"].as_str()?;
        let logprob: f64 = piece["logprobs"].as_array()?.iter().filter_map(Value::as_f64).sum();
        Some(json!({"token": token, "logprob": logprob, "bytes": token.as_bytes(), "top_logprobs": []}))
    });
    let content: Vec<Value> = content.collect();
    Some(("logprobs".into(), to_raw_value(&json!({ "content": content })).ok()?))
}
