//! A second, slow and simple reading of recorded answers, straight from the JSON and without any code of the adapters.

use serde_json::{Value, json};

use crate::catalog::Format;

#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub choices: Vec<Choice>,
    pub counts: Option<Counts>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Choice {
    pub index: u64,
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<Call>,
    pub finish: String,
}

/// Name, and arguments as JSON; as text if they are none.
#[derive(Debug, PartialEq)]
pub struct Call(String, Value);

impl Call {
    pub fn new(name: &str, arguments: &str) -> Self {
        Self(name.to_owned(), serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments)))
    }
}

#[derive(Debug, PartialEq)]
pub struct Counts {
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub reasoning: u64,
}

/// A whole answer; `None` if it is a failure.
pub fn whole(format: Format, body: &Value) -> Option<Answer> {
    match format {
        Format::Anthropic => anthropic(&mut std::iter::once(whole_message(body)?)),
        Format::Gemini => gemini(std::slice::from_ref(body)),
        Format::Cohere => cohere(&[json!({"type": "whole", "delta": body})]),
        Format::Ollama => ollama(std::slice::from_ref(body)),
        Format::Bedrock => super::converse::whole(body),
        _ => openai(&[as_chunk(body)], true),
    }
}

/// A stream; `None` if it fails or is cut.
pub fn stream(format: Format, text: &str) -> Option<Answer> {
    if format == Format::Ollama {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        return ollama(&lines.map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>());
    }
    let text = text.replace("\r\n", "\n");
    let payloads = text.split("\n\n").filter_map(|event| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        let data = lines.collect::<Vec<_>>().join("\n");
        (!data.is_empty() && data != "[DONE]").then_some(data)
    });
    let events: Vec<Value> = payloads.map(|data| serde_json::from_str(&data).expect("JSON")).collect();
    if events.iter().any(|event| event.get("error").is_some_and(|error| !error.is_null())) {
        return None;
    }
    match format {
        Format::Anthropic => anthropic(&mut events.into_iter()),
        Format::Gemini => gemini(&events),
        Format::Cohere => cohere(&events),
        _ => openai(&events, text.contains("data: [DONE]")),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_f64().unwrap_or_default() as u64
}

/// One choice of an answer, read from one or many pieces.
#[derive(Default)]
struct Draft {
    index: u64,
    text: String,
    reasoning: String,
    /// (key, id, name, arguments)
    calls: Vec<(Value, String, String, String)>,
    finish: Option<String>,
}

impl Draft {
    fn into_choice(self) -> Option<Choice> {
        let finish = match self.finish?.as_str() {
            "stop" if !self.calls.is_empty() => "tool_calls".to_owned(),
            word => word.to_owned(),
        };
        let calls = self.calls.iter().map(|(_, _, name, arguments)| Call::new(name, arguments)).collect();
        Some(Choice { index: self.index, text: self.text, reasoning: self.reasoning, calls, finish })
    }
}

// --- OpenAI's dialect

/// A whole answer as a stream of one chunk.
fn as_chunk(body: &Value) -> Value {
    let mut body = body.clone();
    for choice in body["choices"].as_array_mut().into_iter().flatten() {
        choice["delta"] = choice["message"].take();
    }
    body
}

/// `done`: the answer says that it is complete.
fn openai(events: &[Value], done: bool) -> Option<Answer> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut counts = None;
    for event in events {
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return None;
        }
        let usage = if event["usage"].is_object() { &event["usage"] } else { &event["x_groq"]["usage"] };
        if let Some(read) = openai_counts(usage) {
            counts = Some(read);
        }
        for choice in event["choices"].as_array().into_iter().flatten() {
            if !choice["error"].is_null() || choice["finish_reason"] == "error" {
                return None;
            }
            let index = number(&choice["index"]);
            let at = drafts.iter().position(|draft| draft.index == index).unwrap_or_else(|| {
                drafts.push(Draft { index, ..Draft::default() });
                drafts.len() - 1
            });
            openai_delta(&mut drafts[at], choice);
        }
    }
    for draft in drafts.iter_mut().filter(|draft| done && draft.finish.is_none()) {
        draft.finish = Some("stop".to_owned());
    }
    let choices = drafts.into_iter().map(Draft::into_choice).collect::<Option<Vec<_>>>()?;
    (!choices.is_empty()).then_some(Answer { choices, counts })
}

fn openai_delta(draft: &mut Draft, choice: &Value) {
    if draft.finish.is_some() {
        return;
    }
    let delta = &choice["delta"];
    draft.text.push_str(text(&delta["content"]));
    for part in delta["content"].as_array().into_iter().flatten() {
        draft.text.push_str(text(&part["text"]));
        for thought in part["thinking"].as_array().into_iter().flatten() {
            draft.reasoning.push_str(text(&thought["text"]));
        }
    }
    let reasoning = if delta["reasoning_content"].is_string() { "reasoning_content" } else { "reasoning" };
    draft.reasoning.push_str(text(&delta[reasoning]));
    if text(&delta[reasoning]).is_empty() {
        // Snowflake has it nowhere else.
        for detail in delta["reasoning_details"].as_array().into_iter().flatten() {
            draft.reasoning.push_str(text(&detail["text"]));
            draft.reasoning.push_str(text(&detail["summary"]));
        }
    }
    for call in delta["tool_calls"].as_array().into_iter().flatten() {
        let (id, name) = (text(&call["id"]), text(&call["function"]["name"]));
        let known_id = draft.calls.iter().position(|(_, known, ..)| !id.is_empty() && known == id);
        let begins = known_id.is_none() && !name.is_empty() && {
            let key_is_new = draft.calls.iter().all(|(key, ..)| *key != call["index"]);
            call["index"].is_null() || !id.is_empty() || key_is_new
        };
        if begins {
            draft.calls.push((call["index"].clone(), id.to_owned(), name.to_owned(), String::new()));
        }
        let by_key = draft.calls.iter().rposition(|(key, ..)| *key == call["index"]);
        let last = draft.calls.len().checked_sub(1);
        let at = if begins { last } else { known_id.or(by_key).or(last) };
        if let Some((.., arguments)) = at.and_then(|at| draft.calls.get_mut(at)) {
            match &call["function"]["arguments"] {
                Value::String(piece) => arguments.push_str(piece),
                Value::Null => {}
                object => arguments.push_str(&object.to_string()),
            }
        }
    }
    if let Some(word) = choice["finish_reason"].as_str().filter(|word| !word.is_empty()) {
        draft.finish = Some(word.to_owned());
    }
}

fn openai_counts(usage: &Value) -> Option<Counts> {
    let (prompt, mut completion) = (number(&usage["prompt_tokens"]), number(&usage["completion_tokens"]));
    let reasoning = number(&usage["completion_tokens_details"]["reasoning_tokens"]);
    if prompt + completion == 0 {
        return None;
    }
    // xAI counts reasoning in the total only; Vercel's gateway nowhere, for some models.
    completion = completion.max(number(&usage["total_tokens"]).saturating_sub(prompt));
    if reasoning > completion {
        completion += reasoning;
    }
    let cached =
        number(&usage["prompt_tokens_details"]["cached_tokens"]).max(number(&usage["prompt_cache_hit_tokens"]));
    // Azure's Grok counts more cached tokens than prompt tokens.
    let cached = cached.min(prompt);
    let cache_write = number(&usage["prompt_tokens_details"]["cache_write_tokens"]);
    Some(Counts { prompt, completion, cached, cache_write, reasoning })
}

// --- Anthropic

/// A whole message as the one event that [`anthropic`] reads.
fn whole_message(body: &Value) -> Option<Value> {
    (body["type"] != "error").then(|| json!({"type": "whole", "message": body}))
}

fn anthropic(events: &mut dyn Iterator<Item = Value>) -> Option<Answer> {
    let (mut blocks, mut places): (Vec<Value>, Vec<u64>) = Default::default();
    let mut usage = json!({});
    let mut stop_reason = Value::Null;
    let mut merge = |more: &Value| {
        for (name, value) in more.as_object().into_iter().flatten() {
            usage[name] = value.clone();
        }
    };
    for event in events {
        match text(&event["type"]) {
            "whole" => {
                blocks = event["message"]["content"].as_array()?.clone();
                merge(&event["message"]["usage"]);
                stop_reason = event["message"]["stop_reason"].clone();
            }
            "message_start" => merge(&event["message"]["usage"]),
            "content_block_start" => {
                blocks.push(event["content_block"].clone());
                places.push(number(&event["index"]));
            }
            "content_block_delta" => {
                let at = places.iter().rposition(|place| *place == number(&event["index"]))?;
                let block = &mut blocks[at];
                for member in ["text", "thinking", "signature", "partial_json"] {
                    if let Some(piece) = event["delta"][member].as_str() {
                        block[member] = json!(format!("{}{piece}", text(&block[member])));
                    }
                }
            }
            "message_delta" => {
                merge(&event["usage"]);
                stop_reason = event["delta"]["stop_reason"].clone();
            }
            _ => {}
        }
    }
    let mut choice = Choice::default();
    for block in &blocks {
        match text(&block["type"]) {
            "text" => choice.text.push_str(text(&block["text"])),
            "thinking" => choice.reasoning.push_str(text(&block["thinking"])),
            "tool_use" => {
                let streamed = text(&block["partial_json"]);
                let input = block["input"].to_string();
                choice.calls.push(Call::new(text(&block["name"]), if streamed.is_empty() { &input } else { streamed }));
            }
            _ => {}
        }
    }
    choice.finish = match stop_reason.as_str()? {
        "end_turn" | "stop_sequence" | "pause_turn" => "stop",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        other => panic!("the protocol notes do not know `{other}`"),
    }
    .to_owned();
    let (written, cached) = (&usage["cache_creation_input_tokens"], &usage["cache_read_input_tokens"]);
    let counts = Counts {
        prompt: number(&usage["input_tokens"]) + number(written) + number(cached),
        completion: number(&usage["output_tokens"]),
        cached: number(cached),
        cache_write: number(written),
        reasoning: number(&usage["output_tokens_details"]["thinking_tokens"]),
    };
    Some(Answer { choices: vec![choice], counts: Some(counts) })
}

// --- Gemini

fn gemini(events: &[Value]) -> Option<Answer> {
    let mut choice = Choice::default();
    let mut usage = json!({});
    let mut reason = None;
    let mut open = false;
    for event in events {
        for (name, value) in event["usageMetadata"].as_object().into_iter().flatten() {
            usage[name] = value.clone();
        }
        assert!(event["candidates"].as_array().is_none_or(|all| all.len() == 1), "no recording has several candidates");
        let candidate = &event["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            let call = &part["functionCall"];
            if call.is_null() {
                let words = text(&part["text"]);
                if part["thought"] == true {
                    choice.reasoning.push_str(words)
                } else {
                    choice.text.push_str(words)
                }
                continue;
            }
            if call["name"].is_string() {
                let args = if call["args"].is_object() { call["args"].clone() } else { json!({}) };
                choice.calls.push(Call(text(&call["name"]).to_owned(), args));
                open = false;
            }
            let args = &mut choice.calls.last_mut().expect("a call begins with its name").1;
            for fragment in call["partialArgs"].as_array().into_iter().flatten() {
                let place = at_path(args, text(&fragment["jsonPath"]));
                let more = text(&fragment["stringValue"]);
                *place = if open { json!(format!("{}{more}", text(place))) } else { json!(more) };
                open = fragment["willContinue"] == true;
            }
        }
        match &candidate["finishReason"] {
            Value::String(word) => reason = Some(word.clone()),
            Value::Number(number) if *number == 2.into() => reason = Some("MAX_TOKENS".to_owned()),
            _ => {}
        }
    }
    choice.finish = match reason?.as_str() {
        "STOP" if choice.calls.is_empty() => "stop",
        "STOP" => "tool_calls",
        "MAX_TOKENS" => "length",
        "SAFETY" => "content_filter",
        other => panic!("no recording ends with `{other}`"),
    }
    .to_owned();
    let counts = Counts {
        prompt: number(&usage["promptTokenCount"]) + number(&usage["toolUsePromptTokenCount"]),
        completion: number(&usage["candidatesTokenCount"]) + number(&usage["thoughtsTokenCount"]),
        cached: number(&usage["cachedContentTokenCount"]),
        cache_write: 0,
        reasoning: number(&usage["thoughtsTokenCount"]),
    };
    Some(Answer { choices: vec![choice], counts: Some(counts) })
}

// --- Cohere

/// What an event says stands in its `delta`; a whole answer is one event that says everything.
fn cohere(events: &[Value]) -> Option<Answer> {
    let mut choice = Choice::default();
    let mut calls: Vec<(String, String)> = Vec::new();
    let mut end = None;
    for event in events {
        let message = &event["delta"]["message"];
        let parts = match &message["content"] {
            Value::Array(parts) => parts.clone(),
            one => vec![one.clone()],
        };
        choice.reasoning.push_str(text(&message["tool_plan"]));
        for part in &parts {
            choice.text.push_str(text(&part["text"]));
            choice.reasoning.push_str(text(&part["thinking"]));
        }
        let some = match &message["tool_calls"] {
            Value::Array(some) => some.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        for call in &some {
            let function = &call["function"];
            match function["name"].as_str() {
                Some(name) => calls.push((name.to_owned(), text(&function["arguments"]).to_owned())),
                None => calls[number(&event["index"]) as usize].1.push_str(text(&function["arguments"])),
            }
        }
        if event["delta"]["finish_reason"].is_string() {
            end = Some(&event["delta"]);
        }
    }
    let end = end?;
    choice.finish = match text(&end["finish_reason"]) {
        "COMPLETE" | "STOP_SEQUENCE" => "stop",
        "MAX_TOKENS" => "length",
        "TOOL_CALL" => "tool_calls",
        _ => return None,
    }
    .to_owned();
    let braces = |arguments: &str| if arguments.is_empty() { "{}".to_owned() } else { arguments.to_owned() };
    choice.calls = calls.iter().map(|(name, arguments)| Call::new(name, &braces(arguments))).collect();
    let (tokens, usage) = (&end["usage"]["tokens"], &end["usage"]);
    let counts = Counts {
        prompt: number(&tokens["input_tokens"]) + number(&tokens["image_tokens"]),
        completion: number(&tokens["output_tokens"]),
        cached: number(&usage["cached_tokens"]),
        cache_write: 0,
        reasoning: number(&tokens["reasoning_tokens"]),
    };
    Some(Answer { choices: vec![choice], counts: Some(counts) })
}

// --- Ollama

fn ollama(lines: &[Value]) -> Option<Answer> {
    let mut choice = Choice::default();
    for line in lines {
        if line["error"].is_string() {
            return None;
        }
        choice.text.push_str(text(&line["message"]["content"]));
        choice.reasoning.push_str(text(&line["message"]["thinking"]));
        for call in line["message"]["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            choice.calls.push(Call(text(&function["name"]).to_owned(), function["arguments"].clone()));
        }
    }
    let last = lines.last().filter(|line| line["done"] == true)?;
    choice.finish = match (text(&last["done_reason"]), choice.calls.is_empty()) {
        ("length", _) => "length",
        (_, true) => "stop",
        (_, false) => "tool_calls",
    }
    .to_owned();
    let counts = Counts {
        prompt: number(&last["prompt_eval_count"]),
        completion: number(&last["eval_count"]),
        cached: 0,
        cache_write: 0,
        reasoning: 0,
    };
    Some(Answer { choices: vec![choice], counts: Some(counts) })
}

/// The place of `$.a[0].b`, as `$.a.0.b` where digits are places in a list.
fn at_path<'v>(root: &'v mut Value, path: &str) -> &'v mut Value {
    path.replace('[', ".").replace(']', "").split('.').skip(1).fold(root, |at, step| match step.parse::<usize>() {
        Ok(index) => {
            if at.is_null() {
                *at = json!([]);
            }
            let items = at.as_array_mut().expect("a list");
            items.resize(items.len().max(index + 1), Value::Null);
            &mut items[index]
        }
        Err(_) => &mut at[step],
    })
}
