//! What a request wants beside its messages, read once for every translator: tools, format of the answer, limits.
//!
//! Reading is strict where leaving something out would change the answer's meaning (that is refused), and lenient where
//! it only changes its colour (that is noted for `x-stepwell-warnings`).

use serde_json::{Map, Value};

use super::adapter::Untranslatable;
use super::openai::OURS;
use crate::chat::Request;

/// Members that no translator has to say anything about: they concern only OpenAI's own storage, caches and hints.
const SILENT: [&str; 13] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "store",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "safety_identifier",
    "prediction",
    "modalities",
    "moderation",
];

/// A function that the model may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    pub name: String,
    pub description: Option<String>,
    /// A JSON schema.
    pub parameters: Option<Value>,
    /// What stood beside the function, such as Anthropic's `cache_control`.
    pub extra: Map<String, Value>,
}

/// One entry of `tools`.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    Function(Function),
    /// Something of another type: a provider's own tool, if it knows it.
    Other {
        kind: String,
        raw: Value,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    /// At least one of the tools.
    Required,
    Named(String),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    #[default]
    Text,
    JsonObject,
    Schema(Value),
}

/// `reasoning_effort`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
}

impl Effort {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" | "max" => Self::Xhigh,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub tools: Vec<Tool>,
    /// `None` if the caller said nothing.
    pub choice: Option<ToolChoice>,
    /// False if the caller forbids more than one call a turn.
    pub parallel: bool,
    pub format: Format,
    pub stop: Vec<String>,
    pub effort: Option<Effort>,
}

pub fn refuse(param: impl Into<String>, reason: impl Into<String>) -> Untranslatable {
    Untranslatable { param: param.into(), reason: reason.into() }
}

impl Wanted {
    pub fn of(request: &Request) -> Result<Self, Untranslatable> {
        if request.member("functions").is_some() {
            return Err(refuse("functions", "the deprecated form is not translated; use `tools`"));
        }
        let modalities: Vec<String> = request.read("modalities").unwrap_or_default();
        if modalities.iter().any(|kind| kind != "text") {
            return Err(refuse("modalities", "only text can be answered"));
        }
        let mut wanted = Self {
            tools: tools(request)?,
            parallel: request.read("parallel_tool_calls") != Some(false),
            format: format(request)?,
            stop: match request.read("stop") {
                Some(Value::String(one)) => vec![one],
                Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => Vec::new(),
            },
            effort: request.read::<String>("reasoning_effort").and_then(|word| Effort::parse(&word)),
            choice: None,
        };
        wanted.choice = wanted.choice(request)?;
        Ok(wanted)
    }

    /// Reads `tool_choice`. `allowed_tools` takes the other tools away, which says the same.
    fn choice(&mut self, request: &Request) -> Result<Option<ToolChoice>, Untranslatable> {
        let Some(choice) = request.read::<Value>("tool_choice") else { return Ok(None) };
        let mode = |word: Option<&str>| match word {
            Some("auto") => Some(ToolChoice::Auto),
            Some("none") => Some(ToolChoice::None),
            Some("required" | "any") => Some(ToolChoice::Required),
            _ => None,
        };
        let choice = match choice["type"].as_str() {
            None => mode(choice.as_str()),
            Some("function") => {
                let name = choice["function"]["name"].as_str().or(choice["name"].as_str());
                name.map(|name| ToolChoice::Named(name.to_owned()))
            }
            Some("allowed_tools") => {
                let allowed = &choice["allowed_tools"];
                let names: Vec<&str> = allowed["tools"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|tool| tool["function"]["name"].as_str().or(tool["name"].as_str()))
                    .collect();
                self.tools.retain(|tool| match tool {
                    Tool::Function(function) => names.contains(&function.name.as_str()),
                    Tool::Other { .. } => false,
                });
                mode(allowed["mode"].as_str())
            }
            Some(_) => None,
        };
        choice.map(Some).ok_or_else(|| refuse("tool_choice", "expected auto, none, required or a function's name"))
    }

    /// The functions, without other kinds of tools.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.tools.iter().filter_map(|tool| match tool {
            Tool::Function(function) => Some(function),
            Tool::Other { .. } => None,
        })
    }
}

fn tools(request: &Request) -> Result<Vec<Tool>, Untranslatable> {
    let given: Vec<Value> = request.read("tools").unwrap_or_default();
    given.into_iter().enumerate().map(|(index, tool)| read_tool(index, tool)).collect()
}

fn read_tool(index: usize, mut tool: Value) -> Result<Tool, Untranslatable> {
    let kind = tool["type"].as_str().unwrap_or("function").to_owned();
    if kind != "function" {
        return Ok(Tool::Other { kind, raw: tool });
    }
    let mut function = match tool.get_mut("function").map(Value::take) {
        Some(Value::Object(function)) => function,
        _ => return Err(refuse(format!("tools[{index}]"), "expected {type, function: {name, ..}}")),
    };
    let Some(Value::String(name)) = function.remove("name") else {
        return Err(refuse(format!("tools[{index}].function.name"), "expected a string"));
    };
    let description = match function.remove("description") {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let parameters = function.remove("parameters").filter(|parameters| !parameters.is_null());
    let mut extra = match tool {
        Value::Object(outer) => outer,
        _ => Map::new(),
    };
    extra.retain(|name, _| name != "type" && name != "function");
    extra.extend(function);
    Ok(Tool::Function(Function { name, description, parameters, extra }))
}

fn format(request: &Request) -> Result<Format, Untranslatable> {
    let Some(mut format) = request.read::<Value>("response_format") else { return Ok(Format::Text) };
    Ok(match format["type"].as_str() {
        Some("json_object") => Format::JsonObject,
        Some("json_schema") => match format.pointer_mut("/json_schema/schema").map(Value::take) {
            // A schema without a schema promises nothing but JSON.
            None | Some(Value::Null) => Format::JsonObject,
            Some(schema @ Value::Object(_)) => Format::Schema(schema),
            Some(_) => return Err(refuse("response_format.json_schema.schema", "expected an object")),
        },
        _ => Format::Text,
    })
}

/// Notes travel in a header: so many of them name a member, the rest is counted.
const MAX_NOTES: usize = 8;

/// A note for every member that is neither in `said` nor without meaning elsewhere.
pub fn left_out(request: &Request, said: &[&str], provider: &str) -> Vec<String> {
    let mut unsaid = request.members().filter(|(name, value)| {
        !said.contains(name) && !SILENT.contains(name) && !OURS.contains(name) && !is_neutral(name, value)
    });
    let mut notes: Vec<String> = unsaid
        .by_ref()
        .take(MAX_NOTES)
        .map(|(name, _)| {
            // The caller chose the name.
            let name: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
            format!("`{name}` has no equivalent at {provider} and was left out")
        })
        .collect();
    let more = unsaid.count();
    if more > 0 {
        notes.push(format!("{more} more members were left out"));
    }
    notes
}

/// True for a value that asks for what happens anyway.
fn is_neutral(name: &str, value: &str) -> bool {
    match name {
        "service_tier" => matches!(value, "\"auto\"" | "\"default\""),
        "n" => value == "1",
        _ => {
            matches!(value, "null" | "false" | "[]" | "{}" | "\"\"")
                || value.parse::<f64>().is_ok_and(|number| number == 0.0 && name != "seed")
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn request(more: Value) -> Request {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        Request::parse(Bytes::from(body.to_string())).expect("a request")
    }

    #[test]
    fn allowed_tools_takes_the_others_away() {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        let wanted = Wanted::of(&request(json!({
            "tools": [tool("a"), tool("b")],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("b")]}},
        })))
        .expect("wanted");
        assert_eq!(wanted.functions().map(|function| function.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(wanted.choice, Some(ToolChoice::Required));
    }

    #[test]
    fn only_what_changes_the_answer_is_noted() {
        let request = request(json!({"seed": 0, "presence_penalty": 0, "logit_bias": {}, "user": "u", "n": 1,
            "store": true, "verbosity": "low", "x_new": 1}));
        let notes = left_out(&request, &["user"], "X");
        let names: Vec<&str> = notes.iter().filter_map(|note| note.split('`').nth(1)).collect();
        assert_eq!(names, ["seed", "verbosity", "x_new"]);
    }

    #[test]
    fn what_would_change_the_meaning_is_refused() {
        for (more, param) in [
            (json!({"functions": [{"name": "f"}]}), "functions"),
            (json!({"modalities": ["text", "audio"]}), "modalities"),
            (json!({"tool_choice": {"type": "custom"}}), "tool_choice"),
            (json!({"tools": [{"type": "function"}]}), "tools[0]"),
        ] {
            assert_eq!(Wanted::of(&request(more)).expect_err(param).param, param);
        }
    }
}
