//! OpenAI's chat completions and the many servers that speak its dialect, nearly.
//!
//! Writing is strict, reading is lenient: the request's own members go out as the caller wrote them, and every known
//! deviation of an answer (protocol notes, sections 5 and 6) is straightened here and nowhere else.

mod dialect;
mod embed;

use bytes::Bytes;
use serde_json::value::RawValue;

use dialect::{Dialect, Fate};

use super::adapter::{Adapter, Decoder, Outgoing, Piece, Untranslatable, headers, url};
use super::failure::{Failure, FailureKind, quote};
use super::framing::Event;
use crate::catalog::Target;
use crate::chat::{
    Choice, Chunk, ChunkChoice, Delta, Embed, Extra, Finish, MAX_CHOICES, Object, Reply, Request, Response, ToolCall,
    ToolCallDelta, Usage, object,
};

/// Members that are stepwell's own and mean nothing to a provider (CONTRACT, Hints).
pub const OURS: [&str; 3] = ["context", "provider", "models"];

pub struct OpenAi;

impl Adapter for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn encode(&self, request: &Request, target: &Target, _task: &str) -> Result<Outgoing, Untranslatable> {
        let mut warnings = Vec::new();
        let body = body(request, target, &mut warnings);
        Ok(Outgoing {
            url: url(target, "/chat/completions"),
            headers: headers(&target.provider),
            body,
            script: None,
            warnings,
        })
    }

    fn decode(&self, body: &[u8]) -> Result<Response, Failure> {
        let text = std::str::from_utf8(body).map_err(|_| Failure::malformed("the answer is not UTF-8"))?;
        let mut members = object(text).map_err(|_| unreadable(text))?;
        if is_error(&members) || members.get("choices").is_none() {
            return Err(
                Failure::of_error(text, None).unwrap_or_else(|| Failure::malformed("an answer without choices"))
            );
        }
        let usage = members.take("usage").and_then(Usage::parse);
        let choices: Vec<Object<'_>> =
            members.take_as("choices").ok_or_else(|| Failure::malformed("`choices` is not a list"))?;
        if choices.is_empty() {
            return Err(Failure::malformed("an answer with no choices"));
        }
        let choices = choices.into_iter().enumerate().map(choice).collect::<Result<Vec<_>, _>>()?;
        members.take("object");
        Ok(Response {
            id: members.take_as("id").unwrap_or_default(),
            // A float at some servers.
            created: members.take_as::<f64>("created").map_or(0, |seconds| seconds as i64),
            model: members.take_as("model").unwrap_or_default(),
            choices,
            vectors: Vec::new(),
            usage,
            extra: members.rest(),
        })
    }

    fn encode_embed(&self, _request: &Request, embed: &Embed, target: &Target) -> Result<Outgoing, Untranslatable> {
        Ok(Outgoing {
            url: url(target, "/embeddings"),
            headers: headers(&target.provider),
            body: embed::body(embed, target),
            script: None,
            warnings: Vec::new(),
        })
    }

    fn vectors(&self, body: &[u8]) -> Result<Response, Failure> {
        embed::answer(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(OpenAiStream::default())
    }
}

/// The caller's members in their own order and bytes; only `model` and the stream options are ours, and what the
/// provider's [`Dialect`] says otherwise.
fn body(request: &Request, target: &Target, warnings: &mut Vec<String>) -> Bytes {
    let dialect = Dialect::of(request, target);
    let mut out = Vec::with_capacity(request.body().len() + 64);
    let mut first = true;
    let mut member = |name: &str, value: &[u8]| {
        out.push(if std::mem::take(&mut first) { b'{' } else { b',' });
        write_json(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value);
    };
    for (name, value) in request.members() {
        match name {
            "model" => {
                member(name, serde_json::to_string(target.model.upstream_id()).unwrap_or_default().as_bytes());
            }
            "messages" => member(name, dialect.messages(value).as_deref().unwrap_or(value).as_bytes()),
            "tools" => member(name, dialect.tools(value).as_deref().unwrap_or(value).as_bytes()),
            "stream_options" => {}
            _ if OURS.contains(&name) => {}
            _ => match dialect.fate(name, value) {
                Fate::Keep => member(name, value.as_bytes()),
                Fate::Rename(name) => member(name, value.as_bytes()),
                Fate::Omit => {}
                Fate::Drop(reason) => warnings.push(format!("`{name}` was left out: {reason}")),
            },
        }
    }
    if request.stream && dialect.takes_stream_options() {
        // Usage is always asked for, for the ledger; whether the caller sees it is the caller's choice.
        let options: Object<'_> = request.read("stream_options").unwrap_or_default();
        let mut written = String::from("{\"include_usage\":true");
        for (name, value) in options.0.iter().filter(|(name, _)| name != "include_usage") {
            written.push(',');
            written.push_str(&serde_json::to_string(name).unwrap_or_default());
            written.push(':');
            written.push_str(value.get());
        }
        written.push('}');
        member("stream_options", written.as_bytes());
    }
    out.push(b'}');
    Bytes::from(out)
}

fn write_json(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory as JSON cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// An error where there may be an answer. Some servers send `error: false` or an empty one with every answer; Mistral
/// and vLLM name the object instead, Together and DashScope have nothing but a message.
fn is_error(members: &Object<'_>) -> bool {
    let said = |name: &str| members.get(name).is_some_and(|raw| raw.get().starts_with(['"', '{', '[']));
    let error = members.get("error").is_some_and(|raw| !matches!(raw.get(), "false" | "\"\"" | "{}" | "[]" | "0"));
    error
        || members.read::<&str>("object") == Some("error")
        || (members.get("choices").is_none()
            && members.get("usage").is_none()
            && (said("message") || said("detail") || members.read::<&str>("type") == Some("error")))
}

fn unreadable(text: &str) -> Failure {
    if text.trim().is_empty() {
        return Failure::malformed("an empty answer");
    }
    Failure::malformed(format!("not a JSON object: {}", quote(text, 200)))
}

fn choice((position, mut members): (usize, Object<'_>)) -> Result<Choice, Failure> {
    if let Some(error) = members.take("error") {
        let failure = Failure::of_error(&format!("{{\"error\":{}}}", error.get()), None);
        return Err(failure.unwrap_or_else(|| Failure::new(FailureKind::ServerError, "the provider reported an error")));
    }
    // Azure leaves the message out where its filter stopped the answer (recording).
    let is_filtered = members.read::<&str>("finish_reason") == Some("content_filter");
    let mut message: Object<'_> = match members.take_as("message") {
        Some(message) => message,
        None if is_filtered || members.get("text").is_some() => Object::default(),
        None => return Err(Failure::malformed("a choice without a message")),
    };
    let (content, thinking) = content(&mut message)?;
    // The older completions API under the address of the newer one.
    let content = content.or_else(|| members.take_as("text"));
    let reply = Reply {
        content,
        refusal: message.take_as("refusal").filter(|words: &String| !words.is_empty()),
        reasoning_content: reasoning(&mut message).or(thinking),
        tool_calls: message
            .take_as::<Vec<Object<'_>>>("tool_calls")
            .unwrap_or_default()
            .into_iter()
            .enumerate()
            .map(tool_call)
            .collect(),
        extra: {
            message.take("role");
            drop_empty_call(&mut message);
            message.rest()
        },
    };
    // Snowflake says "" of every answer to a request with tools (3 of 3 recordings); the body is complete all the same.
    let is_blank = members.get("finish_reason").is_some_and(|raw| raw.get() == "\"\"");
    let finish = finish(&mut members)?.or(is_blank.then_some(Finish::Stop));
    let finish = match (finish, reply.tool_calls.is_empty()) {
        // Some layers say "stop" after a tool call (protocol notes, section 5).
        (Some(Finish::Stop) | None, false) => Finish::ToolCalls,
        (Some(finish), _) => finish,
        (None, true) => return Err(Failure::malformed("a choice without a finish_reason")),
    };
    let index = members.take_as("index").unwrap_or(position as u32);
    // Perplexity says it again in a stream's words (recording).
    members.take("delta");
    Ok(Choice { index, message: reply, finish, extra: members.rest() })
}

/// The reason why a choice ended. "error" is a failure in disguise (OpenRouter); an undocumented word is a stop.
fn finish(members: &mut Object<'_>) -> Result<Option<Finish>, Failure> {
    match members.take_as::<String>("finish_reason").as_deref() {
        None | Some("" | "null") => Ok(None),
        // OpenRouter; DeepSeek without resources; Z.ai; vLLM and SGLang when they give a request up.
        Some("error" | "insufficient_system_resource" | "network_error" | "abort" | "aborted") => {
            Err(Failure::new(FailureKind::ServerError, "the provider ended the answer with an error"))
        }
        Some(word) => Ok(Some(Finish::parse(word).unwrap_or(Finish::Stop))),
    }
}

/// Text, and thinking where `content` is a list of typed parts (Mistral).
fn content(message: &mut Object<'_>) -> Result<(Option<String>, Option<String>), Failure> {
    let Some(raw) = message.take("content") else { return Ok((None, None)) };
    if let Ok(text) = serde_json::from_str::<String>(raw.get()) {
        return Ok((Some(text), None));
    }
    let parts: Vec<&RawValue> = match raw.get().starts_with('{') {
        true => vec![raw],
        false => {
            serde_json::from_str(raw.get()).map_err(|_| Failure::malformed("`content` is neither text nor parts"))?
        }
    };
    let (mut text, mut thinking) = (String::new(), String::new());
    for part in parts {
        if let Ok(piece) = serde_json::from_str::<String>(part.get()) {
            text.push_str(&piece);
            continue;
        }
        let part: Object<'_> = serde_json::from_str(part.get()).unwrap_or_default();
        text.push_str(&part.read::<String>("text").unwrap_or_default());
        thinking.push_str(&part.read::<String>("thinking").unwrap_or_default());
        for inner in part.read::<Vec<Object<'_>>>("thinking").unwrap_or_default() {
            thinking.push_str(&inner.read::<String>("text").unwrap_or_default());
        }
    }
    let shown = |text: String| (!text.is_empty()).then_some(text);
    Ok((shown(text), shown(thinking)))
}

/// The reasoning text under any of its names. `reasoning_details` rides along untouched.
fn reasoning(message: &mut Object<'_>) -> Option<String> {
    let plain = message.take("reasoning").and_then(|raw| match raw.get().starts_with('{') {
        // An object with the text in it, at a few gateways.
        true => {
            let inner: Object<'_> = serde_json::from_str(raw.get()).ok()?;
            ["content", "text", "summary"].iter().find_map(|name| inner.read::<String>(name))
        }
        false => serde_json::from_str(raw.get()).ok(),
    });
    let text = message.take_as::<String>("reasoning_content").or(plain).filter(|text| !text.is_empty());
    text.or_else(|| {
        let details: Vec<Object<'_>> = message.read("reasoning_details")?;
        let said = details.iter().filter_map(|part| part.read::<String>("text").or_else(|| part.read("summary")));
        Some(said.collect::<String>()).filter(|text| !text.is_empty())
    })
}

fn tool_call((position, mut call): (usize, Object<'_>)) -> ToolCall {
    drop_empty_custom(&mut call);
    let mut function: Object<'_> = call.take_as("function").unwrap_or_default();
    call.take("type");
    call.take("index");
    ToolCall {
        id: call.take_as::<String>("id").filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{position}")),
        name: function.take_as("name").unwrap_or_default(),
        arguments: arguments(&mut function).unwrap_or_default(),
        extra: call.rest(),
    }
}

/// Removes a deprecated `function_call` without a name: Snowflake sends one with every message, and clients that still
/// look for it would call nothing.
fn drop_empty_call(message: &mut Object<'_>) {
    let call: Option<Object<'_>> = message.read("function_call");
    if call.is_some_and(|call| call.read::<&str>("name").is_none_or(str::is_empty)) {
        message.take("function_call");
    }
}

/// Removes the `custom` of a call that is one of a function: Snowflake sends both, one of them empty.
fn drop_empty_custom(call: &mut Object<'_>) {
    let custom: Option<Object<'_>> = call.read("custom").filter(|_| call.get("function").is_some());
    if custom.is_some_and(|custom| custom.read::<&str>("name").is_none_or(str::is_empty)) {
        call.take("custom");
    }
}

/// Arguments as JSON text; some servers send the object itself.
fn arguments(function: &mut Object<'_>) -> Option<String> {
    let raw = function.take("arguments")?;
    Some(serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned()))
}

/// State of one stream: the tool calls of each choice.
#[derive(Default)]
struct OpenAiStream {
    choices: Vec<(u32, Calls)>,
}

/// The calls of one choice, in our order: every call gets the next number, whatever the provider counts from.
#[derive(Default)]
struct Calls(Vec<Known>);

struct Known {
    /// The provider's index, where it gave one.
    given: Option<u32>,
    id: String,
}

impl Decoder for OpenAiStream {
    fn event(&mut self, event: &Event, pieces: &mut Vec<Piece>) {
        let data = event.data.trim();
        if data.starts_with("[DONE]") {
            return pieces.push(Piece::Done);
        }
        if data.is_empty() {
            return;
        }
        let Ok(mut members) = object(data) else {
            return pieces.push(Piece::Unreadable);
        };
        if is_error(&members) || event.name == "error" {
            let failure = Failure::of_error(data, None);
            return pieces.push(Piece::Failure(
                failure.unwrap_or_else(|| Failure::new(FailureKind::ServerError, "the provider reported an error")),
            ));
        }
        if event.stray {
            return pieces.push(Piece::Unreadable);
        }
        match self.chunk(&mut members) {
            Ok(mut chunk) => {
                chunk.extra = members.rest();
                pieces.push(Piece::Chunk(chunk));
            }
            Err(failure) => pieces.push(Piece::Failure(failure)),
        }
    }
}

impl OpenAiStream {
    fn chunk(&mut self, members: &mut Object<'_>) -> Result<Chunk, Failure> {
        members.take("object");
        members.take("created");
        // Padding against traffic analysis: never parsed, not passed on.
        members.take("obfuscation");
        let usage = members.take("usage").and_then(Usage::parse).or_else(|| {
            // Groq's older streams carry it here.
            members.read::<Object<'_>>("x_groq")?.get("usage").and_then(Usage::parse)
        });
        let mut chunk = Chunk {
            id: members.take_as::<String>("id").filter(|id| !id.is_empty()),
            model: members.take_as::<String>("model").filter(|model| !model.is_empty()),
            choices: Vec::new(),
            usage,
            extra: Extra::new(),
        };
        for (position, mut choice) in
            members.take_as::<Vec<Object<'_>>>("choices").unwrap_or_default().into_iter().enumerate()
        {
            if let Some(error) = choice.take("error") {
                let failure = Failure::of_error(&format!("{{\"error\":{}}}", error.get()), None);
                return Err(
                    failure.unwrap_or_else(|| Failure::new(FailureKind::ServerError, "the provider reported an error"))
                );
            }
            let index = choice.take_as("index").unwrap_or(position as u32);
            if self.choices.len() >= MAX_CHOICES && !self.has_begun(index) {
                continue;
            }
            let mut delta: Object<'_> = match choice.take_as("delta") {
                Some(delta) => delta,
                // A whole answer in the clothes of a stream.
                None if !self.has_begun(index) => choice.take_as("message").unwrap_or_default(),
                None => Object::default(),
            };
            // Writer and Perplexity repeat all that was said so far beside the delta (recordings).
            choice.take("message");
            let (content, thinking) = content(&mut delta)?;
            let content = content.or_else(|| choice.take_as("text"));
            let fragments = delta.take_as::<Vec<Object<'_>>>("tool_calls").unwrap_or_default();
            delta.take("role");
            drop_empty_call(&mut delta);
            let calls = self.calls(index);
            chunk.choices.push(ChunkChoice {
                finish: finish(&mut choice)?,
                index,
                delta: Delta {
                    role: false,
                    seal: None,
                    content,
                    refusal: delta.take_as("refusal"),
                    reasoning_content: reasoning(&mut delta).or(thinking),
                    tool_calls: fragments.into_iter().map(|fragment| calls.fragment(fragment)).collect(),
                    extra: without_nulls(delta),
                },
                extra: without_nulls(choice),
            });
        }
        Ok(chunk)
    }

    fn has_begun(&self, choice: u32) -> bool {
        self.choices.iter().any(|(index, _)| *index == choice)
    }

    fn calls(&mut self, choice: u32) -> &mut Calls {
        let place = self.choices.iter().position(|(index, _)| *index == choice).unwrap_or_else(|| {
            self.choices.push((choice, Calls::default()));
            self.choices.len() - 1
        });
        &mut self.choices[place].1
    }
}

impl Calls {
    fn fragment(&mut self, mut call: Object<'_>) -> ToolCallDelta {
        drop_empty_custom(&mut call);
        let mut function: Object<'_> = call.take_as("function").unwrap_or_default();
        let id: Option<String> = call.take_as::<String>("id").filter(|id| !id.is_empty());
        let name: Option<String> = function.take_as::<String>("name").filter(|name| !name.is_empty());
        let given: Option<u32> = call.take_as("index");
        call.take("type");
        let known = self.known(given, id.as_deref(), name.is_some());
        let index = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push(Known { given, id: id.unwrap_or_else(|| format!("call_{index}")) });
        }
        ToolCallDelta {
            index: index as u32,
            // Once, with the first fragment, whatever the provider repeats.
            id: known.is_none().then(|| self.0[index].id.clone()),
            name: name.filter(|_| known.is_none()),
            arguments: arguments(&mut function).unwrap_or_default(),
            extra: call.rest(),
        }
    }

    /// The call that a fragment goes on with; `None` if it begins one. A new id with a name is a new call even under an
    /// old index (ollama); without an index, an id or a name begins one (Google's layer, Mistral).
    fn known(&self, given: Option<u32>, id: Option<&str>, named: bool) -> Option<usize> {
        /// More parallel calls than this in one turn is an attack on our memory, not an answer.
        const MAX_CALLS: usize = 1024;
        let last = self.0.len().checked_sub(1)?;
        if let Some(known) = id.and_then(|id| self.0.iter().position(|call| call.id == id)) {
            return Some(known);
        }
        let known = match given {
            Some(_) => self.0.iter().rposition(|call| call.given == given).filter(|_| id.is_none() || !named),
            None => (id.is_none() && !named).then_some(last),
        };
        known.or((self.0.len() >= MAX_CALLS).then_some(last))
    }
}

/// What is left of an object, without members that say nothing.
fn without_nulls(object: Object<'_>) -> Extra {
    object
        .0
        .into_iter()
        .filter(|(_, value)| value.get() != "null")
        .map(|(name, value)| (name.into(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
