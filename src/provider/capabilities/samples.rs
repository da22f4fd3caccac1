//! The members that every format is asked about, each with a value that is not the default.

use serde_json::{Map, Value, json};

/// One question.
pub struct Sample {
    /// As it stands in the table.
    pub name: &'static str,
    /// What the member needs beside it to mean anything.
    base: Value,
    more: Value,
}

impl Sample {
    /// The request without the member in question.
    pub fn without(&self, model: &str) -> Value {
        merged(model, &[&self.base])
    }

    pub fn with(&self, model: &str) -> Value {
        merged(model, &[&self.base, &self.more])
    }
}

fn merged(model: &str, layers: &[&Value]) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("messages".into(), user(json!("hi")));
    for layer in layers {
        body.extend(layer.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    }
    body.into()
}

fn user(content: Value) -> Value {
    json!([{"role": "user", "content": content}])
}

fn sample(name: &'static str, more: Value) -> Sample {
    beside(name, json!({}), more)
}

fn beside(name: &'static str, base: Value, more: Value) -> Sample {
    Sample { name, base, more }
}

/// A part of a message, beside a text.
fn part(name: &'static str, part: Value) -> Sample {
    let text = json!({"type": "text", "text": "hi"});
    Sample {
        name,
        base: json!({"messages": user(json!([text]))}),
        more: json!({"messages": user(json!([text, part]))}),
    }
}

fn with_tools(name: &'static str, more: Value) -> Sample {
    beside(name, json!({"tools": [tool()]}), more)
}

fn tool() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!({"type": "function", "function": {"name": "weather", "description": "the weather", "parameters": parameters}})
}

fn schema() -> Value {
    let mut schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    schema["additionalProperties"] = json!(false);
    json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}})
}

/// The first bytes of an image: nobody looks further.
const PNG: &str = "data:image/png;base64,iVBORw0KGgo=";

/// All of them, in the order of the table.
pub fn samples() -> Vec<Sample> {
    let unmarked = json!([{"type": "text", "text": "hi"}]);
    let marked = json!([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]);
    let called = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}});
    let dialogue = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": null, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]);
    vec![
        sample("`max_tokens`", json!({"max_tokens": 100})),
        sample("`max_completion_tokens`", json!({"max_completion_tokens": 100})),
        sample("`temperature`", json!({"temperature": 0.5})),
        sample("`top_p`", json!({"top_p": 0.5})),
        sample("`top_k`", json!({"top_k": 20})),
        sample("`n` above 1", json!({"n": 2})),
        sample("`stop`", json!({"stop": ["END"]})),
        sample("`seed`", json!({"seed": 7})),
        sample("`presence_penalty`", json!({"presence_penalty": 0.5})),
        sample("`frequency_penalty`", json!({"frequency_penalty": 0.5})),
        sample("`logit_bias`", json!({"logit_bias": {"50256": -100}})),
        sample("`logprobs`", json!({"logprobs": true})),
        beside("`top_logprobs`", json!({"logprobs": true}), json!({"top_logprobs": 2})),
        sample("`response_format` json_object", json!({"response_format": {"type": "json_object"}})),
        sample("`response_format` json_schema", json!({"response_format": schema()})),
        sample("`tools`", json!({"tools": [tool()]})),
        sample("`tools` of another type", json!({"tools": [{"type": "custom", "custom": {"name": "grep"}}]})),
        with_tools("`tool_choice` none", json!({"tool_choice": "none"})),
        with_tools("`tool_choice` required", json!({"tool_choice": "required"})),
        with_tools(
            "`tool_choice` by name",
            json!({"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
        ),
        with_tools("`parallel_tool_calls` false", json!({"parallel_tool_calls": false})),
        with_tools("a tool's result", json!({"messages": dialogue})),
        sample("`functions` (deprecated)", json!({"functions": [tool()["function"]]})),
        sample("`reasoning_effort`", json!({"reasoning_effort": "low"})),
        beside(
            "`thinking` (Anthropic's)",
            json!({"max_tokens": 4096}),
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ),
        sample("`verbosity`", json!({"verbosity": "low"})),
        sample("`modalities` audio", json!({"modalities": ["text", "audio"]})),
        sample("`web_search_options`", json!({"web_search_options": {"search_context_size": "low"}})),
        sample("`prediction`", json!({"prediction": {"type": "content", "content": "hi"}})),
        sample("`user`", json!({"user": "u-1"})),
        sample("`metadata`", json!({"metadata": {"team": "a"}})),
        sample("`store`", json!({"store": true})),
        sample("`service_tier`", json!({"service_tier": "flex"})),
        sample("a member nobody knows", json!({"x_new": 1})),
        sample(
            "a developer's message",
            json!({"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}]}),
        ),
        part("an image as data", json!({"type": "image_url", "image_url": {"url": PNG}})),
        part("an image by address", json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})),
        part(
            "a PDF as data",
            json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}),
        ),
        part("a file by id", json!({"type": "file", "file": {"file_id": "file-1"}})),
        part("audio", json!({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}})),
        beside("`cache_control` in a message", json!({"messages": user(unmarked)}), json!({"messages": user(marked)})),
    ]
}
