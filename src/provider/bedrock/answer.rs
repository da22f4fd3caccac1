//! A whole Converse answer as a chat answer, and what a stream's events share with it.

use serde_json::json;
use serde_json::value::to_raw_value;

use super::finish;
use crate::chat::{Choice, Extra, Object, Reply, Response, ToolCall, Usage, object};
use crate::provider::anthropic::ANSWER_TOOL;
use crate::provider::anthropic::decode::{compact, thinking_blocks};
use crate::provider::failure::{Failure, quote};

/// Reads an answer.
pub fn answer(body: &[u8]) -> Result<Response, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::malformed("the answer is not UTF-8"))?;
    let mut members =
        object(text).map_err(|_| Failure::malformed(format!("not a JSON object: {}", quote(text, 200))))?;
    let mut output: Object<'_> = members.take_as("output").unwrap_or_default();
    let mut message: Object<'_> =
        output.take_as("message").ok_or_else(|| Failure::malformed("an answer without a message"))?;
    let blocks: Vec<Object<'_>> =
        message.take_as("content").ok_or_else(|| Failure::malformed("an answer without content"))?;
    let stop_reason: String =
        members.take_as("stopReason").ok_or_else(|| Failure::malformed("an answer without a stopReason"))?;
    let message = reply(blocks);
    let (finish, raw_reason) = finish(&stop_reason, !message.tool_calls.is_empty())?;
    Ok(Response {
        id: String::new(),
        created: 0,
        model: String::new(),
        vectors: Vec::new(),
        choices: vec![Choice { index: 0, message, finish, extra: native_reason(raw_reason) }],
        usage: members.take_as("usage").and_then(usage),
        extra: Extra::new(),
    })
}

fn reply(blocks: Vec<Object<'_>>) -> Reply {
    let mut reply = Reply::default();
    let (mut text, mut thoughts, mut kept) = (None::<String>, String::new(), Vec::new());
    for mut block in blocks {
        if let Some(piece) = block.take_as::<String>("text") {
            text.get_or_insert_default().push_str(&piece);
        } else if let Some(mut call) = block.take_as::<Object<'_>>("toolUse") {
            let arguments = call.take("input").map_or_else(|| "{}".to_owned(), compact);
            let name: String = call.take_as("name").unwrap_or_default();
            if name == ANSWER_TOOL {
                text.get_or_insert_default().push_str(&arguments);
                continue;
            }
            let id = call.take_as::<String>("toolUseId").filter(|id| !id.is_empty());
            let id = id.unwrap_or_else(|| format!("call_{}", reply.tool_calls.len()));
            reply.tool_calls.push(ToolCall { id, name, arguments, extra: Extra::new() });
        } else if let Some(mut reasoning) = block.take_as::<Object<'_>>("reasoningContent") {
            let mut thought = Thought::default();
            if let Some(mut signed) = reasoning.take_as::<Object<'_>>("reasoningText") {
                thought.text = signed.take_as("text").unwrap_or_default();
                thought.signature = signed.take_as("signature").unwrap_or_default();
            }
            thought.redacted = reasoning.take_as("redactedContent").unwrap_or_default();
            thoughts.push_str(&thought.text);
            kept.extend(thought.kept());
        } else if let Some(mut cited) = block.take_as::<Object<'_>>("citationsContent") {
            for mut piece in cited.take_as::<Vec<Object<'_>>>("content").unwrap_or_default() {
                text.get_or_insert_default().push_str(&piece.take_as::<String>("text").unwrap_or_default());
            }
        }
    }
    if text.is_none() && reply.tool_calls.is_empty() {
        text = Some(String::new());
    }
    reply.content = text;
    reply.reasoning_content = Some(thoughts).filter(|thoughts| !thoughts.is_empty());
    reply.extra = thinking_blocks(&kept);
    reply
}

/// One block of reasoning.
#[derive(Debug, Default)]
pub struct Thought {
    pub text: String,
    pub signature: String,
    pub redacted: String,
}

impl Thought {
    /// What has to come back on the next turn, in Anthropic's shape. Reasoning that nobody signed is not asked for.
    pub fn kept(&self) -> Option<String> {
        if !self.redacted.is_empty() {
            return Some(json!({"type": "redacted_thinking", "data": self.redacted}).to_string());
        }
        let block = json!({"type": "thinking", "thinking": self.text, "signature": self.signature});
        (!self.signature.is_empty()).then(|| block.to_string())
    }
}

/// What the finish_reason does not say.
pub fn native_reason(reason: Option<&str>) -> Extra {
    let reason = reason.and_then(|reason| to_raw_value(reason).ok());
    reason.map(|reason| ("native_finish_reason".into(), reason)).into_iter().collect()
}

/// In OpenAI's sense: `inputTokens` excludes tokens read from or written to the cache (recordings: the total is the sum
/// of all four), `prompt_tokens` includes them.
pub fn usage(mut members: Object<'_>) -> Option<Usage> {
    let mut count = |name: &str| Usage::count(&mut members, name);
    let (input, output) = (count("inputTokens")?, count("outputTokens")?);
    let (cached, written) = (count("cacheReadInputTokens")?, count("cacheWriteInputTokens")?);
    let prompt_tokens = input + cached + written;
    (prompt_tokens + output > 0).then(|| Usage {
        prompt_tokens,
        completion_tokens: output,
        cached_tokens: cached,
        cache_write_tokens: written,
        ..Usage::default()
    })
}
