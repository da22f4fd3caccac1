//! Which member goes to whom: the differences between servers that speak OpenAI, one row a rule.
//!
//! A rule holds for well-known providers only. A server of one's own gets what the caller wrote: nobody knows what it
//! takes. What leaves no trace in the answer changes silently (another name for the same limit); what could is noted.

use serde_json::{Map, Value};

use crate::catalog::{Model, Target};
use crate::chat::Request;

/// What is done with a top-level member.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    Keep,
    Rename(&'static str),
    /// Said under another name, or by another member.
    Omit,
    /// Left out, with this reason.
    Drop(&'static str),
}

/// Providers whose documentation has `max_tokens` only, or that ignore the newer name in silence (their API references,
/// chat completions; Ollama's list of supported fields).
const ONLY_MAX_TOKENS: [&str; 13] = [
    "mistral",
    "deepseek",
    "together",
    "perplexity",
    "deepinfra",
    "moonshot",
    "zai",
    "dashscope",
    "hyperbolic",
    "novita",
    "cohere",
    "ollama",
    "lmstudio",
];

/// Providers that know the role `developer`; the others get `system`, which means the same (OpenAI's model spec; xAI's
/// and OpenRouter's API references).
const KNOW_DEVELOPER: [&str; 4] = ["openai", "azure", "openrouter", "xai"];

/// Providers that refuse members of messages and tools that they do not know: OpenAI and Azure with "Unknown parameter",
/// Groq with "property is unsupported", Mistral with `extra_forbidden`, Cerebras alike.
const STRICT: [&str; 5] = ["openai", "azure", "groq", "mistral", "cerebras"];

/// What other providers' answers and callers add to messages and tools: marks of Anthropic's cache, signed thinking,
/// reasoning under its names, Google's signatures.
const FOREIGN: [&str; 5] =
    ["cache_control", "thinking_blocks", "reasoning_content", "reasoning_details", "extra_content"];

/// Providers that refuse `stream_options` and send the usage anyway (Mistral: `extra_forbidden`; 2 of 2 recordings have
/// the usage on the last chunk).
const NO_STREAM_OPTIONS: [&str; 1] = ["mistral"];

/// Azure takes `stream_options` since this version of its older API (its changelog of API versions).
const AZURE_STREAM_OPTIONS_SINCE: &str = "2024-09-01";

/// Sampling that reasoning models refuse unless it is the default (OpenAI's guide to reasoning models).
const SAMPLING: [(&str, &[&str]); 7] = [
    ("temperature", &["1", "1.0"]),
    ("top_p", &["1", "1.0"]),
    ("presence_penalty", &["0", "0.0"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("logprobs", &["false"]),
    ("top_logprobs", &[]),
    ("logit_bias", &["{}"]),
];

/// The rules for one request to one target.
pub struct Dialect<'a> {
    preset: &'static str,
    request: &'a Request,
    /// OpenAI's own endpoint, or Azure's.
    is_official: bool,
    refuses_sampling: bool,
    reasons: bool,
    cannot_reason: bool,
    has_old_azure: bool,
}

impl<'a> Dialect<'a> {
    pub fn of(request: &'a Request, target: &Target) -> Self {
        let provider = &target.provider;
        let preset = provider.preset.unwrap_or_default();
        let is_official = matches!(preset, "openai" | "azure");
        let family = Family::of(&target.model);
        let effort = request.member("reasoning_effort");
        let version = provider.query.iter().find(|(name, _)| name == "api-version").map(|(_, value)| value.as_str());
        Self {
            preset,
            request,
            is_official,
            reasons: is_official && family != Family::Plain,
            cannot_reason: is_official && family == Family::Plain && {
                let supports = target.model.supports;
                supports.known && !supports.reasoning
            },
            refuses_sampling: is_official
                && match family {
                    Family::Plain => false,
                    Family::Reasoning => true,
                    Family::ReasonsOnDemand => effort.is_some_and(|effort| effort != "\"none\""),
                },
            has_old_azure: version.is_some_and(|version| version < AZURE_STREAM_OPTIONS_SINCE),
        }
    }

    pub fn takes_stream_options(&self) -> bool {
        !NO_STREAM_OPTIONS.contains(&self.preset) && !self.has_old_azure
    }

    /// What happens to a member of the body. `value` is its JSON.
    pub fn fate(&self, name: &str, value: &str) -> Fate {
        match name {
            "max_completion_tokens" if ONLY_MAX_TOKENS.contains(&self.preset) => Fate::Rename("max_tokens"),
            // Both were given: the newer one was meant.
            "max_tokens" if ONLY_MAX_TOKENS.contains(&self.preset) && self.has("max_completion_tokens") => Fate::Omit,
            "max_tokens" if self.reasons && self.has("max_completion_tokens") => Fate::Omit,
            // "Unsupported parameter: 'max_tokens' is not supported with this model" (recording).
            "max_tokens" if self.reasons => Fate::Rename("max_completion_tokens"),
            // "Unrecognized request argument supplied: reasoning_effort" (OpenAI, of gpt-4o): a fallback from a
            // model that reasons must not fail for it.
            "reasoning_effort" if self.cannot_reason && value != "null" => Fate::Drop("this model does not reason"),
            // Mistral's API reference, chat completions.
            "seed" if self.preset == "mistral" => Fate::Rename("random_seed"),
            _ if self.refuses_sampling && value != "null" => {
                let sampling = SAMPLING.iter().find(|(member, _)| *member == name);
                match sampling.is_some_and(|(_, defaults)| !defaults.contains(&value)) {
                    true => Fate::Drop("reasoning models take only the default"),
                    false => Fate::Keep,
                }
            }
            _ => Fate::Keep,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.request.member(name).is_some()
    }

    /// The messages as this provider takes them; `None` if they may stay as they are. Looks at the bytes first, so that
    /// ordinary requests are never parsed.
    pub fn messages(&self, raw: &str) -> Option<String> {
        let developer = !self.preset.is_empty() && !KNOW_DEVELOPER.contains(&self.preset) && holds(raw, "developer");
        let foreign = self.has_foreign(raw);
        let is_mistral = self.preset == "mistral";
        if !developer && !foreign && !is_mistral {
            return None;
        }
        let mut messages: Vec<Value> = serde_json::from_str(raw).ok()?;
        let mut changed = false;
        for message in messages.iter_mut().filter_map(Value::as_object_mut) {
            if developer && message.get("role").is_some_and(|role| role == "developer") {
                message.insert("role".to_owned(), "system".into());
                changed = true;
            }
            if foreign {
                changed |= strip(message);
                for name in ["content", "tool_calls"] {
                    let inner = message.get_mut(name).and_then(Value::as_array_mut);
                    for part in inner.into_iter().flatten().filter_map(Value::as_object_mut) {
                        changed |= strip(part);
                    }
                }
            }
        }
        if is_mistral {
            changed |= shorten_ids(&mut messages);
        }
        changed.then(|| serde_json::to_string(&messages).ok()).flatten()
    }

    /// The tools as this provider takes them; `None` if they may stay as they are.
    pub fn tools(&self, raw: &str) -> Option<String> {
        if !self.has_foreign(raw) {
            return None;
        }
        let mut tools: Vec<Value> = serde_json::from_str(raw).ok()?;
        let mut changed = false;
        for tool in tools.iter_mut().filter_map(Value::as_object_mut) {
            changed |= strip(tool);
            if let Some(function) = tool.get_mut("function").and_then(Value::as_object_mut) {
                changed |= strip(function);
            }
        }
        changed.then(|| serde_json::to_string(&tools).ok()).flatten()
    }

    fn has_foreign(&self, raw: &str) -> bool {
        (STRICT.contains(&self.preset) || self.is_official) && FOREIGN.iter().any(|name| holds(raw, name))
    }
}

/// How a model of OpenAI's takes parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Plain,
    Reasoning,
    /// Since 5.1 nothing is thought unless asked for, and sampling is taken as long as nothing is.
    ReasonsOnDemand,
}

impl Family {
    /// By the model's name in the catalogue: a deployment on Azure may be called anything.
    fn of(model: &Model) -> Self {
        let id = model.id.rsplit('/').next().unwrap_or_default();
        let follows = |prefix: &str| {
            id.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', ':']))
        };
        if ["o1", "o3", "o4"].into_iter().any(follows) {
            return Self::Reasoning;
        }
        if !follows("gpt-5") || id.contains("-chat") {
            return Self::Plain;
        }
        match id.starts_with("gpt-5.") && !id.contains("codex") && !id.contains("-pro") {
            true => Self::ReasonsOnDemand,
            false => Self::Reasoning,
        }
    }
}

/// True if `raw` may have a member, or a value, of this name.
fn holds(raw: &str, name: &str) -> bool {
    memchr::memmem::find_iter(raw.as_bytes(), name).any(|at| at > 0 && raw.as_bytes()[at - 1] == b'"')
}

fn strip(object: &mut Map<String, Value>) -> bool {
    let before = object.len();
    object.retain(|name, _| !FOREIGN.contains(&name.as_str()));
    object.len() < before
}

/// Mistral refuses ids of tool calls other than nine letters and digits; a conversation that began elsewhere has others.
fn shorten_ids(messages: &mut [Value]) -> bool {
    let mut changed = false;
    let mut shorten = |id: Option<&mut Value>| {
        if let Some(Value::String(id)) = id
            && !(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        {
            // The same id gives the same nine characters wherever it stands.
            *id = blake3::hash(id.as_bytes()).to_hex()[..9].to_owned();
            changed = true;
        }
    };
    for message in messages {
        shorten(message.get_mut("tool_call_id"));
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            shorten(call.get_mut("id"));
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::catalog::{Provider, Shelf, presets};
    use crate::provider::adapter::{Adapter, Outgoing};
    use crate::provider::openai::OpenAi;

    fn send(preset: &'static str, model: &str, more: Value) -> Outgoing {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let request = Request::parse(Bytes::from(body.to_string())).expect("a request");
        let preset = presets::find(preset).expect("a preset");
        let mut provider = Provider::new(preset.name, preset.format, preset.base_url, preset.auth);
        provider.preset = Some(preset.name);
        let described = Shelf::open(None, jiff::civil::date(2026, 9, 1)).describe(model);
        OpenAi.encode(&request, &Target::new(&Arc::new(provider), described), "").expect("a request")
    }

    fn sent(preset: &'static str, model: &str, more: Value) -> Value {
        serde_json::from_slice(&send(preset, model, more).body).expect("JSON")
    }

    #[test]
    fn reasoning_models_of_openai_take_the_newer_limit_and_no_sampling() {
        for model in ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini"] {
            let outgoing = send("openai", model, json!({"max_tokens": 9, "temperature": 0.2, "top_p": 1}));
            let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
            assert_eq!((&body["max_completion_tokens"], &body["max_tokens"]), (&json!(9), &Value::Null), "{model}");
            assert_eq!((&body["temperature"], &body["top_p"]), (&Value::Null, &json!(1)), "{model}");
            assert!(outgoing.warnings[0].starts_with("`temperature`") && outgoing.warnings.len() == 1, "{model}");
        }
        for model in ["gpt-4o", "gpt-5-chat-latest", "o10"] {
            let body = sent("openai", model, json!({"max_tokens": 9, "temperature": 0.2}));
            assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(9), &json!(0.2)), "{model}");
        }
        assert_eq!(sent("openai", "gpt-5.2", json!({"temperature": 0.2}))["temperature"], 0.2);
        let thinking = json!({"temperature": 0.2, "reasoning_effort": "low"});
        assert_eq!(sent("openai", "gpt-5.2", thinking.clone())["temperature"], Value::Null);
        assert_eq!(sent("openrouter", "openai/gpt-5", thinking)["temperature"], 0.2, "OpenRouter sees to it itself");
    }

    #[test]
    fn older_dialects_get_the_older_limit() {
        for preset in ONLY_MAX_TOKENS {
            let body = sent(preset, "m", json!({"max_completion_tokens": 9, "max_tokens": 5}));
            assert_eq!((&body["max_tokens"], &body["max_completion_tokens"]), (&json!(9), &Value::Null), "{preset}");
        }
        assert_eq!(sent("groq", "m", json!({"max_completion_tokens": 9}))["max_completion_tokens"], 9);
        assert_eq!(sent("mistral", "m", json!({"seed": 1}))["random_seed"], 1);
    }

    #[test]
    fn a_developer_becomes_the_system_where_nobody_knows_it() {
        let more = json!({"messages": [{"role": "developer", "content": "say developer"}]});
        assert_eq!(sent("deepseek", "m", more.clone())["messages"][0]["role"], "system");
        assert_eq!(sent("deepseek", "m", more.clone())["messages"][0]["content"], "say developer");
        for preset in KNOW_DEVELOPER {
            assert_eq!(sent(preset, "m", more.clone())["messages"][0]["role"], "developer", "{preset}");
        }
    }

    #[test]
    fn foreign_members_stay_away_from_those_that_refuse_them() {
        let more = json!({
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a \"cache_control\"", "cache_control": {}}]},
                {"role": "assistant", "content": "x", "reasoning_content": "r", "thinking_blocks": [],
                 "tool_calls": [{"id": "abcdefghi", "type": "function", "extra_content": {}, "function": {"name": "f", "arguments": "{}"}}]},
            ],
            "tools": [{"type": "function", "cache_control": {}, "function": {"name": "f"}}],
        });
        for preset in STRICT {
            let body = sent(preset, "m", more.clone());
            let text = body.to_string();
            for name in FOREIGN {
                assert!(!text.contains(&format!("\"{name}\":")), "{preset} {name}: {text}");
            }
            assert_eq!(body["messages"][0]["content"][0]["text"], "a \"cache_control\"");
        }
        for preset in ["openrouter", "deepseek", "dashscope"] {
            assert_eq!(sent(preset, "m", more.clone())["messages"], more["messages"], "{preset}");
        }
    }

    #[test]
    fn who_refuses_stream_options_gets_none() {
        assert_eq!(sent("mistral", "m", json!({"stream": true}))["stream_options"], Value::Null);
        assert_eq!(sent("groq", "m", json!({"stream": true}))["stream_options"]["include_usage"], true);
    }
}
