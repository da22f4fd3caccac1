//! A chat request: the caller's own bytes plus the few fields that routing needs.
//!
//! The body is scanned, not built: members keep their place in the original bytes, and an upstream that speaks OpenAI
//! gets them back untouched. Full messages are parsed on demand, by translators only.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::depth;
use super::destination;
use super::message::Message;
use super::native::{Embed, Native};
use super::object::Object;
use super::prompt::Prompt;
use super::recalled::{Recalled, put_back};

/// Members that decide where a request goes, what it may cost or whether it is cached.
const READ: [&str; 18] = [
    "model",
    "models",
    "messages",
    "stream",
    "stream_options",
    "context",
    "provider",
    "metadata",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "temperature",
    "tools",
    "tool_choice",
    "functions",
    "response_format",
    "modalities",
    "store",
];

/// Why a body is not a request: which member, why, and what to do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Invalid {
    /// The offending member as a path (`messages[2].content`), `None` if the body as a whole is unreadable.
    pub param: Option<String>,
    pub message: String,
    /// OpenAI's error code: `invalid_json`, `invalid_type`, `invalid_value` or `missing_required_parameter`; or our own
    /// `destination_forbidden`.
    pub code: &'static str,
}

impl Invalid {
    pub fn json(message: impl Into<String>) -> Self {
        Self { param: None, message: message.into(), code: "invalid_json" }
    }
    pub fn kind(param: impl Into<String>, expected: &str) -> Self {
        let param = param.into();
        Self {
            message: format!("invalid type for `{param}`: expected {expected}"),
            param: Some(param),
            code: "invalid_type",
        }
    }
    pub fn value(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), message: message.into(), code: "invalid_value" }
    }
    pub fn missing(param: &str) -> Self {
        Self {
            param: Some(param.to_owned()),
            message: format!("missing required parameter: `{param}`"),
            code: "missing_required_parameter",
        }
    }
}

/// What kind of output the caller asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseFormat {
    #[default]
    Text,
    JsonObject,
    JsonSchema,
}

/// A validated chat request.
#[derive(Clone, Debug)]
pub struct Request {
    body: Bytes,
    pub(super) members: Vec<(Box<str>, Range<usize>)>,
    pub model: String,
    /// The caller's ordered fallback list (`models`), without `model`.
    pub models: Vec<String>,
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    pub temperature: Option<f64>,
    /// Number of choices, 1 if not given.
    pub n: u32,
    /// `max_completion_tokens`, else `max_tokens`.
    pub max_tokens: Option<u64>,
    /// The larger of the two: both are sent on, and which one counts is for the provider to say.
    pub most_tokens: Option<u64>,
    pub response_format: ResponseFormat,
    /// Number of tools (or deprecated functions) offered.
    pub tools: usize,
    /// The thin view of the messages.
    turns: Vec<Turn>,
    /// The caller's own words, if it spoke another dialect.
    pub native: Option<Native>,
    /// Vectors are wanted, not an answer.
    pub embed: Option<Embed>,
    /// Headers of the caller that its provider is to see: only those of an explicit list (faults E04).
    pub forwarded: Vec<(&'static str, String)>,
    /// What earlier answers signed beside the calls in the history; [`Request::messages`] puts it back.
    pub recalled: Vec<Recalled>,
}

/// Where a message lies in the body, and what it holds.
#[derive(Clone, Debug)]
struct Turn {
    role: super::message::Role,
    /// Ranges of the JSON strings with text, quotes included.
    texts: Vec<Range<usize>>,
    images: usize,
    audio: usize,
    files: usize,
    calls_tools: bool,
}

impl Request {
    /// Reads and validates a body. Linear time; refuses nesting beyond 128 and duplicates of any member that decides
    /// where a request goes, so that no two parsers can disagree about it.
    pub fn parse(body: Bytes) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(&body)
            .map_err(|error| Invalid::json(format!("the body is not valid UTF-8 (byte {})", error.valid_up_to())))?;
        if let Some(at) = depth::exceeded(text) {
            let message = format!("the body is nested deeper than {} levels (byte {at})", depth::MAX_DEPTH);
            return Err(Invalid::json(message));
        }
        let object: Object<'_> = serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                Invalid::json("the body must be a JSON object")
            } else {
                Invalid::json(format!("the body is not valid JSON: {error}"))
            }
        })?;
        if let Some(name) = object.duplicate(&READ) {
            return Err(Invalid {
                param: Some(name.to_owned()),
                ..Invalid::json(format!("`{name}` appears twice in the body"))
            });
        }
        destination::refuse(object.0.iter().map(|(name, value)| (&**name, value.get() == "null")))?;
        let model: String = read(&object, "model", "a string")?.ok_or_else(|| Invalid::missing("model"))?;
        if model.trim().is_empty() {
            return Err(Invalid::value("model", "`model` is empty; use `auto` or one of GET /v1/models"));
        }
        let options: Option<Object<'_>> = read(&object, "stream_options", "an object")?;
        let include_usage = match &options {
            Some(options) => read(options, "include_usage", "a boolean")?.unwrap_or(false),
            None => false,
        };
        let temperature: Option<f64> = read(&object, "temperature", "a number")?;
        if temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            return Err(Invalid::value("temperature", "`temperature` must be between 0 and 2"));
        }
        let n = whole(&object, "n", "a whole number")?;
        if n.is_some_and(|n| n == 0 || n > 128) {
            return Err(Invalid::value("n", "`n` must be between 1 and 128"));
        }
        let (mut max_tokens, mut most_tokens) = (None, None);
        for name in ["max_completion_tokens", "max_tokens"] {
            let given = whole(&object, name, "a whole number of at least 1")?;
            if given == Some(0) {
                return Err(Invalid::value(name, format!("`{name}` must be at least 1")));
            }
            max_tokens = max_tokens.or(given);
            most_tokens = most_tokens.max(given);
        }
        let format: Option<Object<'_>> = read(&object, "response_format", "an object with a `type`")?;
        let response_format = match format.and_then(|format| format.read::<String>("type")).as_deref() {
            Some("json_schema") => ResponseFormat::JsonSchema,
            Some("json_object") => ResponseFormat::JsonObject,
            _ => ResponseFormat::Text,
        };
        let tools: Option<Vec<&RawValue>> = read(&object, "tools", "a list")?;
        let functions: Option<Vec<&RawValue>> = read(&object, "functions", "a list")?;
        let request = Self {
            model,
            models: read(&object, "models", "a list of strings")?.unwrap_or_default(),
            stream: read(&object, "stream", "a boolean")?.unwrap_or(false),
            include_usage,
            temperature,
            n: n.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            max_tokens,
            most_tokens,
            response_format,
            tools: tools.map_or(0, |tools| tools.len()) + functions.map_or(0, |functions| functions.len()),
            turns: turns(text, &object)?,
            members: object.0.iter().map(|(name, value)| (name.as_ref().into(), range_in(text, value.get()))).collect(),
            body: Bytes::new(),
            native: None,
            embed: None,
            forwarded: Vec::new(),
            recalled: Vec::new(),
        };
        drop(object);
        Ok(Self { body, ..request })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body was validated as UTF-8 when it was parsed")
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The raw JSON of a member, `None` if it is absent or `null`.
    pub fn member(&self, name: &str) -> Option<&str> {
        let (_, range) = self.members.iter().find(|(key, _)| &**key == name)?;
        Some(&self.text()[range.clone()]).filter(|raw| *raw != "null")
    }

    /// Reads a member into `T`; `None` if it is absent, `null` or of another type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        serde_json::from_str(self.member(name)?).ok()
    }

    /// All members in their original order, as raw JSON.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = self.text();
        self.members.iter().map(move |(name, range)| (&**name, &text[range.clone()]))
    }

    /// The messages, fully typed, with what was recalled where the caller left it out. Errors name the message (`messages[2].content[0]`).
    pub fn messages(&self) -> Result<Vec<Message>, Invalid> {
        let raw: Vec<&RawValue> = self.read("messages").unwrap_or_default();
        raw.into_iter()
            .enumerate()
            .map(|(index, raw)| {
                let mut message = Message::parse(raw).map_err(|(path, reason)| {
                    let dot = if path.is_empty() { "" } else { "." };
                    Invalid::value(format!("messages[{index}]{dot}{path}"), reason)
                })?;
                put_back(&mut message, &self.recalled);
                Ok(message)
            })
            .collect()
    }

    /// The request as a target of `format` may see it: signatures mean something only to the format that made them.
    pub fn for_format(&self, format: &str) -> Cow<'_, Self> {
        let is_own = |known: &Recalled| known.signed.format == format;
        if self.recalled.iter().all(is_own) {
            return Cow::Borrowed(self);
        }
        let mut request = self.clone();
        request.recalled.retain(is_own);
        Cow::Owned(request)
    }

    /// The ids of all tool calls in the history. A message that cannot be read has none.
    pub fn called_ids(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Turn {
            #[serde(default)]
            tool_calls: Option<Vec<Call>>,
        }
        #[derive(Deserialize)]
        struct Call {
            id: String,
        }
        let messages: Vec<&RawValue> = self.read("messages").unwrap_or_default();
        let called = messages.into_iter().zip(&self.turns).filter(|(_, turn)| turn.calls_tools);
        let calls = called.filter_map(|(raw, _)| serde_json::from_str::<Turn>(raw.get()).ok()?.tool_calls);
        calls.flatten().map(|call| call.id).collect()
    }

    /// Bytes of text in all messages, plus those of the tool definitions: what token estimates start from.
    pub fn text_bytes(&self) -> usize {
        let texts: usize =
            self.turns.iter().flat_map(|turn| &turn.texts).map(|range| range.len().saturating_sub(2)).sum();
        texts + self.member("tools").map_or(0, str::len)
    }

    /// Number of messages.
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Images in all messages; each costs tokens, and the model must be able to see.
    pub fn images(&self) -> usize {
        self.turns.iter().map(|turn| turn.images).sum()
    }

    pub fn audio(&self) -> usize {
        self.turns.iter().map(|turn| turn.audio).sum()
    }

    pub fn files(&self) -> usize {
        self.turns.iter().map(|turn| turn.files).sum()
    }

    /// All text of all messages, unescaped: for counting tokens, off the hot path.
    pub fn all_text(&self) -> String {
        let mut all = String::with_capacity(self.text_bytes());
        for range in self.turns.iter().flat_map(|turn| &turn.texts) {
            all.push_str(&unescape(&self.text()[range.clone()], Cut::Head(usize::MAX)));
            all.push('\n');
        }
        all
    }

    /// The bounded view that classification reads.
    pub fn prompt(&self) -> Prompt<'_> {
        use super::message::Role;
        let last_user = self.turns.iter().rposition(|turn| turn.role == Role::User);
        let system = self.turns.iter().find(|turn| matches!(turn.role, Role::System | Role::Developer));
        let mut prompt = Prompt {
            system: system.map(|turn| self.cut(turn, Cut::Head(Prompt::CONTEXT_BYTES))).unwrap_or_default(),
            tools: self.tools,
            tools_forbidden: self.member("tool_choice") == Some("\"none\""),
            answers_tool: self.turns.last().is_some_and(|turn| matches!(turn.role, Role::Tool | Role::Function)),
            wants_json: self.response_format != ResponseFormat::Text,
            ..Prompt::default()
        };
        let Some(last_user) = last_user else { return prompt };
        let turn = &self.turns[last_user];
        prompt.length = turn.texts.iter().map(|range| range.len().saturating_sub(2)).sum();
        prompt.head = self.cut(turn, Cut::Head(Prompt::HEAD_BYTES));
        if prompt.length > Prompt::HEAD_BYTES + Prompt::TAIL_BYTES {
            prompt.tail = self.cut(turn, Cut::Tail(Prompt::TAIL_BYTES));
        } else if prompt.length > Prompt::HEAD_BYTES {
            prompt.head = self.cut(turn, Cut::Head(Prompt::HEAD_BYTES + Prompt::TAIL_BYTES));
        }
        (prompt.images, prompt.audio, prompt.files) = (turn.images, turn.audio, turn.files);
        let before = &self.turns[..last_user];
        let context = |role| {
            let turn = before.iter().rev().find(|turn| turn.role == role);
            turn.map(|turn| self.cut(turn, Cut::Head(Prompt::CONTEXT_BYTES))).unwrap_or_default()
        };
        prompt.previous_user = context(Role::User);
        prompt.previous_assistant = context(Role::Assistant);
        prompt
    }

    /// True if any assistant turn called tools.
    pub fn calls_tools(&self) -> bool {
        self.turns.iter().any(|turn| turn.calls_tools)
    }

    fn cut(&self, turn: &Turn, cut: Cut) -> Cow<'_, str> {
        let text = self.text();
        if let [only] = &turn.texts[..] {
            return unescape(&text[only.clone()], cut);
        }
        let limit = cut.limit();
        let mut joined = String::new();
        let pieces: Vec<&Range<usize>> = match cut {
            Cut::Head(_) => turn.texts.iter().collect(),
            Cut::Tail(_) => turn.texts.iter().rev().collect(),
        };
        for range in pieces {
            let piece = unescape(&text[range.clone()], cut.with(limit.saturating_sub(joined.len())));
            match cut {
                Cut::Head(_) if joined.is_empty() => joined.push_str(&piece),
                Cut::Head(_) => joined.extend(["\n", &piece]),
                Cut::Tail(_) => {
                    joined = if joined.is_empty() { piece.into_owned() } else { format!("{piece}\n{joined}") }
                }
            }
            if joined.len() >= limit {
                break;
            }
        }
        Cow::Owned(joined)
    }
}

fn read<'a, T: Deserialize<'a>>(object: &Object<'a>, name: &str, expected: &str) -> Result<Option<T>, Invalid> {
    let Some(raw) = object.get(name) else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| Invalid::kind(name, expected))
}

/// A count. `1.0` is one too: JSON has no whole numbers of its own, and some languages write all of them so.
fn whole(object: &Object<'_>, name: &str, expected: &str) -> Result<Option<u64>, Invalid> {
    if let Ok(count) = read(object, name, expected) {
        return Ok(count);
    }
    let number: Option<f64> = read(object, name, expected)?;
    let is_whole = |number: &f64| number.fract() == 0.0 && (0.0..=LARGEST_EXACT).contains(number);
    number
        .map(|number| Some(number).filter(is_whole).ok_or_else(|| Invalid::kind(name, expected)))
        .transpose()
        .map(|count| count.map(|count| count as u64))
}

/// Up to here every whole number is a `f64` of its own.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// Where `part`, a slice of `whole`, lies in it.
fn range_in(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

fn turns(text: &str, object: &Object<'_>) -> Result<Vec<Turn>, Invalid> {
    let raw = object.get("messages").ok_or_else(|| Invalid::missing("messages"))?;
    let messages: Vec<&RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| Invalid::kind("messages", "a list of messages"))?;
    if messages.is_empty() {
        return Err(Invalid::value("messages", "`messages` is empty; send at least one message"));
    }
    messages.into_iter().enumerate().map(|(index, message)| turn(text, index, message)).collect()
}

fn turn(text: &str, index: usize, raw: &RawValue) -> Result<Turn, Invalid> {
    let path = |member: &str| format!("messages[{index}]{member}");
    let members: Object<'_> =
        serde_json::from_str(raw.get()).map_err(|_| Invalid::kind(path(""), "an object with `role` and `content`"))?;
    if let Some(name) = members.duplicate(&["role", "content"]) {
        return Err(Invalid {
            param: Some(path(&format!(".{name}"))),
            ..Invalid::json(format!("`{name}` appears twice in a message"))
        });
    }
    let role: Cow<'_, str> = read(&members, "role", "a string")
        .map_err(|_| Invalid::kind(path(".role"), "a string"))?
        .ok_or_else(|| Invalid::missing(&path(".role")))?;
    let role = super::message::Role::parse(&role).ok_or_else(|| {
        let expected = "system, developer, user, assistant or tool";
        Invalid::value(path(".role"), format!("unknown role `{role}`: expected {expected}"))
    })?;
    let mut turn = Turn {
        role,
        texts: Vec::new(),
        images: 0,
        audio: 0,
        files: 0,
        calls_tools: members.get("tool_calls").is_some_and(|calls| calls.get() != "[]"),
    };
    match members.get("content") {
        None => {
            if matches!(role, super::message::Role::User) {
                return Err(Invalid::missing(&path(".content")));
            }
        }
        Some(content) if content.get().starts_with('"') => turn.texts.push(range_in(text, content.get())),
        Some(content) => {
            let expected = "a string or a list of parts";
            let parts: Vec<&RawValue> =
                serde_json::from_str(content.get()).map_err(|_| Invalid::kind(path(".content"), expected))?;
            for (at, part) in parts.into_iter().enumerate() {
                let path = path(&format!(".content[{at}]"));
                let members: Object<'_> = serde_json::from_str(part.get())
                    .map_err(|_| Invalid::kind(path.clone(), "an object with a `type`"))?;
                let kind: Cow<'_, str> =
                    members.read("type").ok_or_else(|| Invalid::kind(format!("{path}.type"), "a string"))?;
                match &*kind {
                    "text" => {
                        let value = members.get("text").filter(|value| value.get().starts_with('"'));
                        let value = value.ok_or_else(|| Invalid::kind(format!("{path}.text"), "a string"))?;
                        turn.texts.push(range_in(text, value.get()));
                    }
                    "image_url" => turn.images += 1,
                    "input_audio" => turn.audio += 1,
                    "file" => turn.files += 1,
                    _ => {}
                }
            }
        }
    }
    Ok(turn)
}

#[derive(Clone, Copy)]
enum Cut {
    Head(usize),
    Tail(usize),
}

impl Cut {
    fn limit(self) -> usize {
        match self {
            Self::Head(limit) | Self::Tail(limit) => limit,
        }
    }
    fn with(self, limit: usize) -> Self {
        match self {
            Self::Head(_) => Self::Head(limit),
            Self::Tail(_) => Self::Tail(limit),
        }
    }
}

/// The text of a JSON string (quotes included in `raw`), cut to `cut` bytes of JSON text. Never reads beyond the cut.
fn unescape(raw: &str, cut: Cut) -> Cow<'_, str> {
    let inner = &raw[1..raw.len() - 1];
    let mut part = match cut {
        Cut::Head(limit) if inner.len() > limit => &inner[..floor(inner, limit)],
        Cut::Tail(limit) if inner.len() > limit => {
            let start = floor(inner, inner.len() - limit);
            // Start after a space, so that neither a word nor an escape is cut.
            let space = inner[start..].find(' ').map_or(start, |space| start + space + 1);
            &inner[space.min(inner.len())..]
        }
        _ => inner,
    };
    if !part.contains('\\') {
        return Cow::Borrowed(part);
    }
    // A cut inside an escape (at most 12 bytes for a surrogate pair) leaves an unreadable end: drop bytes until it reads.
    for _ in 0..16 {
        if let Ok(text) = serde_json::from_str::<String>(&format!("\"{part}\"")) {
            return Cow::Owned(text);
        }
        let Some((last, _)) = part.char_indices().next_back() else { break };
        part = &part[..last];
    }
    // A lone surrogate somewhere inside: read it as it stands.
    Cow::Borrowed(part)
}

/// The greatest char boundary at or below `index`.
fn floor(text: &str, index: usize) -> usize {
    (0..=index).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
