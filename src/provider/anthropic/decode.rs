//! A whole message as a chat answer.

use serde_json::value::RawValue;

use super::{ANSWER_TOOL, finish};
use crate::chat::{Choice, Extra, Object, Reply, Response, THINKING_BLOCKS, ToolCall, Usage, object};
use crate::provider::failure::{Failure, FailureKind, quote};

/// Reads a message. An error object inside a 200 is a failure.
pub fn answer(body: &[u8]) -> Result<Response, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::malformed("the answer is not UTF-8"))?;
    let mut members =
        object(text).map_err(|_| Failure::malformed(format!("not a JSON object: {}", quote(text, 200))))?;
    if members.get("error").is_some() {
        return Err(Failure::of_error(text, None)
            .unwrap_or_else(|| Failure::new(FailureKind::ServerError, "the provider reported an error")));
    }
    let blocks: Vec<Object<'_>> =
        members.take_as("content").ok_or_else(|| Failure::malformed("an answer without content"))?;
    let stop_reason: String =
        members.take_as("stop_reason").ok_or_else(|| Failure::malformed("an answer without a stop_reason"))?;
    let message = reply(blocks);
    let (finish, raw_reason) = finish(&stop_reason, !message.tool_calls.is_empty());
    let extra = endings(raw_reason, &members);
    let mut counts = Counts::default();
    if let Some(usage) = members.take_as("usage") {
        counts.absorb(usage);
    }
    Ok(Response {
        id: members.take_as("id").unwrap_or_default(),
        created: 0,
        model: members.take_as("model").unwrap_or_default(),
        choices: vec![Choice { index: 0, message, finish, extra }],
        vectors: Vec::new(),
        usage: counts.usage(),
        extra: Extra::new(),
    })
}

fn reply(blocks: Vec<Object<'_>>) -> Reply {
    let mut reply = Reply::default();
    let (mut text, mut thoughts, mut kept) = (None::<String>, None::<String>, Vec::new());
    for mut block in blocks {
        match block.read::<String>("type").as_deref() {
            Some("text") => append(&mut text, &block.take_as::<String>("text").unwrap_or_default()),
            Some("thinking") => {
                append(&mut thoughts, &block.read::<String>("thinking").unwrap_or_default());
                kept.extend(raw(&block));
            }
            Some("redacted_thinking") => kept.extend(raw(&block)),
            Some("tool_use") => {
                let arguments = block.take("input").map_or_else(|| "{}".to_owned(), compact);
                let name: String = block.take_as("name").unwrap_or_default();
                if name == ANSWER_TOOL {
                    append(&mut text, &arguments);
                    continue;
                }
                let id = block.take_as::<String>("id").filter(|id| !id.is_empty());
                let id = id.unwrap_or_else(|| format!("call_{}", reply.tool_calls.len()));
                reply.tool_calls.push(ToolCall { id, name, arguments, extra: Extra::new() });
            }
            // Server tools run at the provider; the text says what they found.
            _ => {}
        }
    }
    if text.is_none() && reply.tool_calls.is_empty() {
        text = Some(String::new());
    }
    reply.content = text;
    reply.reasoning_content = thoughts.filter(|thoughts| !thoughts.is_empty());
    reply.extra = thinking_blocks(&kept);
    reply
}

fn append(whole: &mut Option<String>, piece: &str) {
    whole.get_or_insert_default().push_str(piece);
}

fn raw(block: &Object<'_>) -> Option<String> {
    serde_json::to_string(block).ok()
}

/// JSON without the spaces between its tokens; as it came if it is none.
pub fn compact(raw: &RawValue) -> String {
    serde_json::from_str::<serde_json::Value>(raw.get())
        .map_or_else(|_| raw.get().to_owned(), |value| value.to_string())
}

/// The extension with the signed blocks, given as JSON texts.
pub fn thinking_blocks(blocks: &[String]) -> Extra {
    if blocks.is_empty() {
        return Extra::new();
    }
    match RawValue::from_string(format!("[{}]", blocks.join(","))) {
        Ok(list) => vec![(THINKING_BLOCKS.into(), list)],
        Err(_) => Extra::new(),
    }
}

/// What the finish_reason does not say: the raw reason, the sequence that stopped it, and why the model refused.
pub fn endings(raw_reason: Option<&str>, members: &Object<'_>) -> Extra {
    let reason = raw_reason.and_then(|reason| serde_json::value::to_raw_value(reason).ok());
    let reason = reason.map(|reason| ("native_finish_reason".into(), reason));
    let given = |name: &str| members.get(name).map(|value| (name.into(), value.to_owned()));
    reason.into_iter().chain(given("stop_sequence")).chain(given("stop_details")).collect()
}

/// The counters of one message. A stream sends them twice, and the second time they are totals: newer members replace
/// older ones, nothing is added up (API reference, Streaming).
#[derive(Debug, Default)]
pub struct Counts {
    input: Option<u64>,
    cache_write: Option<u64>,
    cache_read: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
    /// `server_tool_use`, `service_tier` and the like.
    extra: Extra,
    unbelievable: bool,
}

impl Counts {
    pub fn absorb(&mut self, mut members: Object<'_>) {
        let mut details: Object<'_> = members.take_as("output_tokens_details").unwrap_or_default();
        read(&mut details, "thinking_tokens", &mut self.thinking, &mut self.unbelievable);
        for (name, slot) in [
            ("input_tokens", &mut self.input),
            ("cache_creation_input_tokens", &mut self.cache_write),
            ("cache_read_input_tokens", &mut self.cache_read),
            ("output_tokens", &mut self.output),
        ] {
            read(&mut members, name, slot, &mut self.unbelievable);
        }
        for (name, value) in members.rest() {
            match self.extra.iter_mut().find(|(known, _)| *known == name) {
                _ if value.get() == "null" => {}
                Some((_, known)) => *known = value,
                None => self.extra.push((name, value)),
            }
        }
    }

    /// In OpenAI's sense: Anthropic's `input_tokens` excludes cached tokens, `prompt_tokens` includes them.
    pub fn usage(&self) -> Option<Usage> {
        let (input, output) = (self.input.unwrap_or(0), self.output.unwrap_or(0));
        let (cached, written) = (self.cache_read.unwrap_or(0), self.cache_write.unwrap_or(0));
        let prompt = input + cached + written;
        if self.unbelievable {
            return Some(Usage::refused());
        }
        if prompt == 0 && output == 0 {
            return None;
        }
        Some(Usage {
            prompt_tokens: prompt,
            completion_tokens: output,
            cached_tokens: cached,
            cache_write_tokens: written,
            reasoning_tokens: self.thinking.unwrap_or(0).min(output),
            extra: self.extra.clone(),
            ..Usage::default()
        })
    }
}

fn read(members: &mut Object<'_>, name: &str, slot: &mut Option<u64>, unbelievable: &mut bool) {
    if members.get(name).is_none() {
        return;
    }
    match Usage::count(members, name) {
        Some(count) => *slot = Some(count),
        None => *unbelievable = true,
    }
}
