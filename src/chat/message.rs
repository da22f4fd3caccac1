//! Messages, fully typed: what a translator to another wire format reads. The hot path never builds these.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::object::{Extra, Object};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    /// The deprecated result of a `function_call`.
    Function,
}

impl Role {
    pub fn parse(role: &str) -> Option<Self> {
        Some(match role {
            "system" => Self::System,
            "developer" => Self::Developer,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" => Self::Tool,
            "function" => Self::Function,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug, Default)]
pub enum Content {
    /// `null` or absent, as in an assistant turn that only calls tools.
    #[default]
    None,
    Text(String),
    Parts(Vec<Part>),
}

impl Content {
    /// All text, parts joined by line feeds.
    pub fn text(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => {
                let texts: Vec<&str> = parts
                    .iter()
                    .filter_map(|part| match part {
                        Part::Text { text, .. } | Part::Refusal(text) => Some(text.as_str()),
                        _ => None,
                    })
                    .collect();
                texts.join("\n")
            }
        }
    }
}

#[derive(Clone, Debug)]
pub enum Part {
    /// `extra` holds what the caller added beside the text, such as Anthropic's `cache_control`.
    Text {
        text: String,
        extra: Extra,
    },
    /// A `data:` or `https:` address; `detail` is `auto`, `low` or `high`.
    Image {
        url: String,
        detail: Option<String>,
        extra: Extra,
    },
    /// Base64 audio; `format` is `wav`, `mp3`, ...
    Audio {
        data: String,
        format: String,
    },
    /// A file: by a `data:` address in `data`, or by an id at the provider.
    File {
        filename: Option<String>,
        data: Option<String>,
        file_id: Option<String>,
        extra: Extra,
    },
    Refusal(String),
    /// A part of a kind that we do not know, with its `type`.
    Other {
        kind: String,
        raw: Box<RawValue>,
    },
}

#[derive(Clone, Debug)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text as the model wrote it; may be empty.
    pub arguments: String,
    /// For instance `extra_content`, where Google's layer keeps its thought signature.
    pub extra: Extra,
}

/// True if a call's further members say that it is one of a custom tool: plain text in `custom`, no function.
pub(super) fn is_custom(extra: &Extra) -> bool {
    extra.iter().any(|(name, _)| &**name == "custom")
}

#[derive(Clone, Debug)]
pub struct Message {
    pub role: Role,
    pub content: Content,
    pub name: Option<String>,
    pub tool_calls: Vec<ToolCall>,
    /// On a `tool` message: the call that it answers.
    pub tool_call_id: Option<String>,
    /// What a reasoning model thought, as earlier answers carried it.
    pub reasoning_content: Option<String>,
    pub extra: Extra,
}

/// Why a message cannot be read: the path inside the message, and a reason for the caller.
pub(super) type Unreadable = (String, String);

impl Message {
    pub(super) fn parse(raw: &RawValue) -> Result<Self, Unreadable> {
        let mut members: Object<'_> =
            serde_json::from_str(raw.get()).map_err(|_| (String::new(), "expected an object".to_owned()))?;
        let role_name: String = text(&mut members, "role")?
            .ok_or_else(|| ("role".to_owned(), "every message needs a `role`".to_owned()))?;
        let role = Role::parse(&role_name).ok_or_else(|| {
            let reason = format!("unknown role `{role_name}`; expected system, developer, user, assistant or tool");
            ("role".to_owned(), reason)
        })?;
        let content = match members.take("content") {
            None => Content::None,
            Some(raw) => content(raw)?,
        };
        let mut tool_calls = Vec::new();
        if let Some(raw) = members.take("tool_calls") {
            let calls: Vec<&RawValue> =
                serde_json::from_str(raw.get()).map_err(|_| ("tool_calls".to_owned(), "expected a list".to_owned()))?;
            for (index, call) in calls.into_iter().enumerate() {
                tool_calls.push(tool_call(call).ok_or_else(|| {
                    (format!("tool_calls[{index}]"), "expected {id, type, function: {name, arguments}}".to_owned())
                })?);
            }
        }
        let reasoning_content = members
            .take_as("reasoning_content")
            .or_else(|| members.take_as("reasoning"))
            .filter(|s: &String| !s.is_empty());
        Ok(Self {
            role,
            content,
            name: text(&mut members, "name")?,
            tool_calls,
            tool_call_id: text(&mut members, "tool_call_id")?,
            reasoning_content,
            extra: members.rest(),
        })
    }
}

fn text(members: &mut Object<'_>, name: &str) -> Result<Option<String>, Unreadable> {
    let Some(raw) = members.take(name) else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| (name.to_owned(), "expected a string".to_owned()))
}

fn content(raw: &RawValue) -> Result<Content, Unreadable> {
    if raw.get().starts_with('"') {
        return serde_json::from_str(raw.get())
            .map(Content::Text)
            .map_err(|error| ("content".to_owned(), format!("not a readable string: {error}")));
    }
    let parts: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| ("content".to_owned(), "expected a string or a list of parts".to_owned()))?;
    let mut typed = Vec::with_capacity(parts.len());
    for (index, raw) in parts.into_iter().enumerate() {
        typed.push(part(raw).map_err(|reason| (format!("content[{index}]"), reason))?);
    }
    Ok(Content::Parts(typed))
}

fn part(raw: &RawValue) -> Result<Part, String> {
    let mut members: Object<'_> = serde_json::from_str(raw.get()).map_err(|_| "expected an object".to_owned())?;
    let kind: String = members.take_as("type").ok_or("every part needs a `type`")?;
    Ok(match kind.as_str() {
        "text" | "input_text" | "output_text" => Part::Text {
            text: members.take_as("text").ok_or("a text part needs `text`, a string")?,
            extra: members.rest(),
        },
        "image_url" => {
            #[derive(Deserialize)]
            #[serde(untagged)]
            enum Address {
                Object { url: String, detail: Option<String> },
                Plain(String),
            }
            let (url, detail) = match members.take_as("image_url") {
                Some(Address::Object { url, detail }) => (url, detail),
                Some(Address::Plain(url)) => (url, None),
                None => return Err("an image part needs `image_url: {url}`".to_owned()),
            };
            Part::Image { url, detail, extra: members.rest() }
        }
        "input_audio" => {
            #[derive(Deserialize)]
            struct Audio {
                data: String,
                format: String,
            }
            let audio: Audio =
                members.take_as("input_audio").ok_or("an audio part needs `input_audio: {data, format}`")?;
            Part::Audio { data: audio.data, format: audio.format }
        }
        "file" => {
            #[derive(Deserialize)]
            struct File {
                filename: Option<String>,
                file_data: Option<String>,
                file_id: Option<String>,
            }
            let file: File = members.take_as("file").ok_or("a file part needs `file: {file_data or file_id}`")?;
            Part::File { filename: file.filename, data: file.file_data, file_id: file.file_id, extra: members.rest() }
        }
        "refusal" => Part::Refusal(members.take_as("refusal").ok_or("a refusal part needs `refusal`, a string")?),
        _ => Part::Other { kind, raw: raw.to_owned() },
    })
}

fn tool_call(raw: &RawValue) -> Option<ToolCall> {
    let mut members: Object<'_> = serde_json::from_str(raw.get()).ok()?;
    let mut function: Object<'_> = members.take_as("function")?;
    members.take("type");
    members.take("index");
    Some(ToolCall {
        id: members.take_as("id").unwrap_or_default(),
        name: function.take_as("name")?,
        arguments: match function.take("arguments") {
            None => String::new(),
            // Some clients send the arguments as an object instead of JSON text.
            Some(raw) => serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned()),
        },
        extra: members.rest(),
    })
}
