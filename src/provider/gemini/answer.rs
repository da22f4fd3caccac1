//! A whole `GenerateContentResponse` as a chat answer, and what a stream's events share with it.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::finish::{Said, finish};
use super::parts::{Call, Item, item};
use crate::chat::{Choice, Extra, Finish, Object, Reply, Response, ToolCall, Usage, object};
use crate::provider::failure::{Failure, FailureKind, quote};

/// Reads an answer. An error object inside a 200 is a failure.
pub fn answer(body: &[u8]) -> Result<Response, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::malformed("the answer is not UTF-8"))?;
    let mut members = match object(text) {
        Ok(members) if members.get("error").is_none() => members,
        _ => return Err(error(text)),
    };
    let id: String = members.take_as("responseId").unwrap_or_default();
    let candidates: Vec<Object<'_>> = members.take_as("candidates").unwrap_or_default();
    let mut choices = Vec::with_capacity(candidates.len());
    for (position, candidate) in candidates.into_iter().enumerate() {
        choices.push(choice(position, candidate, &id)?);
    }
    if choices.is_empty() {
        let reason = block_reason(&members).ok_or_else(|| Failure::malformed("an answer without candidates"))?;
        let message = Reply { content: Some(String::new()), ..Reply::default() };
        choices.push(Choice { index: 0, message, finish: Finish::ContentFilter, extra: raw_reason(Some(&reason)) });
    }
    let mut counts = Counts::default();
    counts.absorb(members.take_as("usageMetadata").unwrap_or_default());
    Ok(Response {
        id,
        created: 0,
        model: members.take_as("modelVersion").unwrap_or_default(),
        choices,
        vectors: Vec::new(),
        usage: counts.usage(),
        extra: Extra::new(),
    })
}

/// What a text is that is no answer. Errors come as an object, or as a list with one inside.
pub fn error(text: &str) -> Failure {
    let text = text.trim();
    if text.is_empty() {
        return Failure::malformed("an empty answer");
    }
    match text.contains("\"error\"") {
        true => Failure::of_error(text, None)
            .unwrap_or_else(|| Failure::new(FailureKind::ServerError, "the provider reported an error")),
        false => Failure::malformed(format!("not an answer: {}", quote(text, 200))),
    }
}

/// Why the prompt was refused as a whole.
pub fn block_reason(members: &Object<'_>) -> Option<String> {
    members.read::<Object<'_>>("promptFeedback")?.read("blockReason")
}

pub fn raw_reason(reason: Option<&str>) -> Extra {
    let raw = reason.and_then(|reason| to_raw_value(reason).ok());
    raw.map(|raw| ("native_finish_reason".into(), raw)).into_iter().collect()
}

/// The parts of a candidate.
pub fn items(candidate: &mut Object<'_>) -> impl Iterator<Item = Item> {
    let mut content: Object<'_> = candidate.take_as("content").unwrap_or_default();
    content.take_as::<Vec<Object<'_>>>("parts").unwrap_or_default().into_iter().filter_map(item)
}

fn choice(position: usize, mut candidate: Object<'_>, response: &str) -> Result<Choice, Failure> {
    let (mut text, mut thoughts) = (String::new(), String::new());
    let mut message = Reply::default();
    for item in items(&mut candidate) {
        match item {
            Item::Text(piece) => text.push_str(&piece),
            Item::Thought(piece) => thoughts.push_str(&piece),
            Item::Call(call) => message.tool_calls.push(tool_call(call, response, message.tool_calls.len() as u32)),
        }
    }
    let calls = !message.tool_calls.is_empty();
    let said = Said { something: calls || !text.is_empty() || !thoughts.is_empty(), calls };
    let reason: Option<String> = candidate.take_as("finishReason");
    let (finish, raw) =
        finish(reason.as_deref(), said)?.ok_or_else(|| Failure::malformed("a candidate without a finish reason"))?;
    message.content = (!text.is_empty() || !calls).then_some(text);
    message.reasoning_content = (!thoughts.is_empty()).then_some(thoughts);
    let mut extra = raw_reason(raw);
    extra.extend(candidate.take("logprobsResult").and_then(logprobs).map(|logprobs| ("logprobs".into(), logprobs)));
    Ok(Choice { index: candidate.take_as("index").unwrap_or(position as u32), message, finish, extra })
}

fn tool_call(call: Call, response: &str, index: u32) -> ToolCall {
    ToolCall {
        id: call.id_or(response, index),
        extra: call.extra(),
        name: call.name.unwrap_or_default(),
        arguments: call.args.unwrap_or_else(|| "{}".to_owned()),
    }
}

/// `logprobsResult` in OpenAI's shape.
pub fn logprobs(raw: &RawValue) -> Option<Box<RawValue>> {
    let result: Value = serde_json::from_str(raw.get()).ok()?;
    let one = |candidate: &Value| {
        let token = candidate["token"].as_str().unwrap_or_default();
        json!({"token": token, "logprob": candidate["logProbability"], "bytes": token.as_bytes()})
    };
    let chosen = result["chosenCandidates"].as_array()?.iter().enumerate().map(|(index, candidate)| {
        let top = result["topCandidates"][index]["candidates"].as_array();
        let mut token = one(candidate);
        token["top_logprobs"] = top.into_iter().flatten().map(one).collect();
        token
    });
    to_raw_value(&json!({"content": chosen.collect::<Vec<_>>(), "refusal": null})).ok()
}

/// The counters of one answer. In a stream they repeat and grow, and some events lack some of them: the last value of
/// each member counts.
#[derive(Debug, Default)]
pub struct Counts {
    prompt: u64,
    tool_use: u64,
    cached: u64,
    candidates: u64,
    thoughts: u64,
    unbelievable: bool,
}

impl Counts {
    pub fn absorb(&mut self, mut members: Object<'_>) {
        for (name, slot) in [
            ("promptTokenCount", &mut self.prompt),
            ("toolUsePromptTokenCount", &mut self.tool_use),
            ("cachedContentTokenCount", &mut self.cached),
            ("candidatesTokenCount", &mut self.candidates),
            ("thoughtsTokenCount", &mut self.thoughts),
        ] {
            if members.get(name).is_none() {
                continue;
            }
            match Usage::count(&mut members, name) {
                Some(count) => *slot = count,
                None => self.unbelievable = true,
            }
        }
    }

    /// In OpenAI's sense: thoughts are part of the completion, cached tokens part of the prompt.
    pub fn usage(&self) -> Option<Usage> {
        let prompt_tokens = self.prompt + self.tool_use;
        let completion_tokens = self.candidates + self.thoughts;
        if self.unbelievable {
            return Some(Usage::refused());
        }
        if prompt_tokens == 0 && completion_tokens == 0 {
            return None;
        }
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens: self.cached.min(prompt_tokens),
            reasoning_tokens: self.thoughts,
            ..Usage::default()
        })
    }
}
