//! What the demo models say.

use serde_json::{Map, Value, json};

use crate::chat::{Object, Prompt, Request};

pub struct Answer {
    pub seed: u64,
    pub prompt_tokens: u64,
    kind: Kind,
    /// Cut at the caller's `max_tokens`.
    cut: bool,
}

enum Kind {
    Text(String),
    /// (id, name, arguments)
    Call(String, String, String),
}

/// The answer to a request. Tools are called once; a schema is filled with an example; everything else is text by task.
pub fn of(request: &Request, prompt: &Prompt<'_>, task: &str, model: &str) -> Answer {
    let seed = seed(&[&prompt.head, &prompt.tail]);
    let kind = if let Some((name, arguments)) = call(request, prompt) {
        Kind::Call(format!("call_demo{:08x}", seed as u32), name, arguments)
    } else if let Some(schema) = schema(request) {
        Kind::Text(example(&schema, &schema, prompt, 0).to_string())
    } else if prompt.wants_json {
        Kind::Text(json!({"task": task, "model": model, "demo": true}).to_string())
    } else {
        Kind::Text(text(task, prompt, model))
    };
    let (kind, cut) = shortened(kind, request.max_tokens);
    Answer { seed, cut, prompt_tokens: (request.text_bytes() as u64 / 4).max(1) + 4 * request.turns() as u64, kind }
}

/// A text of at most `max_tokens` pieces, and whether it was longer.
fn shortened(kind: Kind, max_tokens: Option<u64>) -> (Kind, bool) {
    match (kind, max_tokens.and_then(|tokens| usize::try_from(tokens).ok())) {
        (Kind::Text(text), Some(tokens)) if text.split_inclusive(' ').count() > tokens => {
            (Kind::Text(text.split_inclusive(' ').take(tokens).collect()), true)
        }
        (kind, _) => (kind, false),
    }
}

impl Answer {
    /// The answer cut into pieces of about one token.
    pub fn pieces(&self) -> impl Iterator<Item = &str> {
        let text = match &self.kind {
            Kind::Text(text) => text,
            Kind::Call(_, _, arguments) => arguments,
        };
        text.split_inclusive(' ')
    }

    pub fn message(&self) -> Value {
        match &self.kind {
            Kind::Text(text) => json!({"role": "assistant", "content": text, "refusal": null}),
            Kind::Call(id, name, arguments) => json!({
                "role": "assistant", "content": null, "refusal": null,
                "tool_calls": [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}],
            }),
        }
    }

    pub fn deltas<'a>(&'a self, pieces: &'a [&str]) -> Box<dyn Iterator<Item = Value> + 'a> {
        match &self.kind {
            Kind::Text(_) => Box::new(pieces.iter().map(|piece| json!({"content": piece}))),
            Kind::Call(id, name, _) => {
                let head = json!({"tool_calls": [{"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
                let rest =
                    pieces.iter().map(|piece| json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}));
                Box::new(std::iter::once(head).chain(rest))
            }
        }
    }

    pub fn finish(&self) -> &'static str {
        match self.kind {
            Kind::Text(_) if self.cut => "length",
            Kind::Text(_) => "stop",
            Kind::Call(..) => "tool_calls",
        }
    }
}

/// FNV-1a over the parts: the same prompt, the same answer.
pub fn seed(parts: &[&str]) -> u64 {
    parts
        .iter()
        .flat_map(|part| part.bytes().chain([0]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The first few words of the prompt, for the answer to refer to.
fn topic(prompt: &Prompt<'_>) -> String {
    // A fault directive is an instruction to the demo, not part of the question.
    let before = prompt.head.split("[[fault").next().unwrap_or_default();
    let words: Vec<&str> = before.split_whitespace().take(8).collect();
    let mut topic = words.join(" ");
    if topic.chars().count() > 60 {
        topic = topic.chars().take(60).collect::<String>() + "…";
    }
    if topic.is_empty() { "your message".to_owned() } else { format!("\"{topic}\"") }
}

fn text(task: &str, prompt: &Prompt<'_>, model: &str) -> String {
    let topic = topic(prompt);
    let body = match task {
        "housekeeping" => return "Demo conversation".to_owned(),
        "classification" => return "neutral".to_owned(),
        "coding" => format!(
            "Here is a sketch for {topic}:\n\n```python\ndef answer(question: str) -> str:\n    # a real model would write this part\n    return question[::-1]\n```\n\nIt runs in linear time and keeps no state."
        ),
        "reasoning" => format!(
            "Let me take {topic} one step at a time. First, note what is given. Second, name what is asked. Third, connect the two. The result is 42, and a real model would show why."
        ),
        "translation" => format!("A real model would translate {topic}. Bonjour, hola, hallo, 你好."),
        "creative" => format!(
            "It began with {topic}. Down the steps of the old well, one by one, the water kept its own account of every visitor, and it never told a lie."
        ),
        "safety" => "I can't help with that, but I can point you to people who can listen and help.".to_owned(),
        "analysis" => format!(
            "Three points stand out in {topic}: what it claims, what it leaves out, and what follows from both."
        ),
        "rewrite" => format!("Put more plainly: {topic}"),
        _ => format!("You asked about {topic}. A real model would answer here; this one shows how the router behaves."),
    };
    format!("{body}\n\n(This is the embedded demo provider, model {model}. Register a real one in providers.yaml.)")
}

/// The call to make: the first tool, or the one that `tool_choice` names. None once a result is there.
fn call(request: &Request, prompt: &Prompt<'_>) -> Option<(String, String)> {
    if prompt.tools == 0 || prompt.tools_forbidden || prompt.answers_tool {
        return None;
    }
    let tools: Vec<Object<'_>> = request.read("tools")?;
    let wanted: Option<String> = request
        .read::<Object<'_>>("tool_choice")
        .and_then(|choice| choice.read::<Object<'_>>("function")?.read("name"));
    let functions: Vec<Object<'_>> = tools.iter().filter_map(|tool| tool.read("function")).collect();
    let name = |function: &Object<'_>| function.read::<String>("name");
    let function = functions.iter().find(|function| wanted.is_none() || name(function) == wanted)?;
    let schema: Value = function.read("parameters").unwrap_or_else(|| json!({}));
    Some((name(function)?, example(&schema, &schema, prompt, 0).to_string()))
}

fn schema(request: &Request) -> Option<Value> {
    request.read::<Object<'_>>("response_format")?.read::<Object<'_>>("json_schema")?.read("schema")
}

/// The smallest value that fits a JSON schema. References are looked up in `root`.
fn example(schema: &Value, root: &Value, prompt: &Prompt<'_>, depth: usize) -> Value {
    if depth > 8 {
        return Value::Null;
    }
    if let Some(found) = schema["$ref"].as_str().and_then(|path| root.pointer(path.strip_prefix('#')?)) {
        return example(found, root, prompt, depth + 1);
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[choice].get(0) {
            return example(first, root, prompt, depth + 1);
        }
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"].get(0).and_then(Value::as_str));
    match kind {
        Some("string") => Value::String(
            prompt.head.split_whitespace().last().unwrap_or("demo").trim_matches(['"', '?', '.']).to_owned(),
        ),
        Some("integer") => schema.get("minimum").filter(|value| value.is_i64()).cloned().unwrap_or(json!(1)),
        Some("number") => schema.get("minimum").cloned().unwrap_or(json!(1.5)),
        Some("boolean") => json!(true),
        Some("array") => json!([example(&schema["items"], root, prompt, depth + 1)]),
        Some("null") => Value::Null,
        _ => {
            let members = schema["properties"].as_object().into_iter().flatten();
            Value::Object(
                members
                    .map(|(name, member)| (name.clone(), example(member, root, prompt, depth + 1)))
                    .collect::<Map<_, _>>(),
            )
        }
    }
}
