//! Requests with places for earlier results: `{{input.topic}}`, `{{steps.draft.text}}`, `{{steps.plan.json.title}}`,
//! `{{steps.plan.body.usage.total_tokens}}`.
//!
//! Places stand in texts only and are filled as texts, so that what a model says can never become a member of a request. A
//! text that is one place and nothing else takes the value as it is, so that a list or a number stays one.

use serde_json::{Map, Value};

/// What a step offers: the whole body of its answer, the text that was said, the same text read as JSON.
const OFFERED: [&str; 3] = ["body", "text", "json"];
/// Longest text that is filled in, in bytes; a longer one is cut, as a context window would.
const LONGEST: usize = 4 << 20;

/// Whether every place leads somewhere that will be known: the input, or one of these steps.
pub fn check(request: &Map<String, Value>, input: &Map<String, Value>, steps: &[&str]) -> Result<(), String> {
    each_text(&Value::Object(request.clone()), &mut |text| {
        for place in places(text)? {
            let mut parts = place.split('.');
            match (parts.next(), parts.next()) {
                (Some("input"), Some(_)) => {
                    find(&Value::Object(input.clone()), place.split('.').skip(1))
                        .ok_or_else(|| format!("`{{{{{place}}}}}` is not in the input"))?;
                }
                (Some("steps"), Some(step)) if steps.contains(&step) => {
                    if !parts.next().is_some_and(|offered| OFFERED.contains(&offered)) {
                        let known = OFFERED.map(|offered| format!("steps.{step}.{offered}")).join(", ");
                        return Err(format!("`{{{{{place}}}}}` is none of {known}"));
                    }
                }
                (Some("steps"), Some(_)) => return Err(format!("`{{{{{place}}}}}` is no earlier step")),
                _ => return Err(format!("`{{{{{place}}}}}` leads nowhere; there are input.* and steps.NAME.*")),
            }
        }
        Ok(())
    })
}

/// The request with all places filled. Fails where an answer has not what was expected of it.
pub fn filled(
    request: &Map<String, Value>,
    input: &Map<String, Value>,
    results: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let known = serde_json::json!({"input": input, "steps": results});
    let fill = |(name, value): (&String, &Value)| Ok((name.clone(), fill(value, &known)?));
    request.iter().map(fill).collect()
}

fn fill(value: &Value, known: &Value) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => fill_text(text, known)?,
        Value::Array(items) => Value::Array(items.iter().map(|item| fill(item, known)).collect::<Result<_, _>>()?),
        Value::Object(members) => {
            let fill = |(name, value): (&String, &Value)| Ok((name.clone(), fill(value, known)?));
            Value::Object(members.iter().map(fill).collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

fn fill_text(text: &str, known: &Value) -> Result<Value, String> {
    let places = places(text)?;
    let value = |place: &str| {
        find(known, place.split('.')).ok_or_else(|| format!("`{{{{{place}}}}}` is not in what was answered"))
    };
    let inner = text.trim().strip_prefix("{{").and_then(|text| text.strip_suffix("}}")).map(str::trim);
    if let [place] = places[..]
        && inner == Some(place)
    {
        return value(place).cloned();
    }
    let mut filled = String::new();
    let mut rest = text;
    for place in places {
        let Some((before, after)) = rest.split_once("{{") else { break };
        let Some((_, after)) = after.split_once("}}") else { break };
        filled.push_str(before);
        match value(place)? {
            Value::String(text) => filled.push_str(text),
            other => filled.push_str(&other.to_string()),
        }
        rest = after;
    }
    filled.push_str(rest);
    if filled.len() > LONGEST {
        let mut end = LONGEST;
        while !filled.is_char_boundary(end) {
            end -= 1;
        }
        filled.truncate(end);
    }
    Ok(Value::String(filled))
}

/// The names between `{{` and `}}`, in order.
fn places(text: &str) -> Result<Vec<&str>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let (place, after) = after.split_once("}}").ok_or("`{{` has no `}}`")?;
        let place = place.trim();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if place.is_empty() || !place.bytes().all(fits) {
            let shown: String = place.chars().take(40).collect();
            return Err(format!("`{{{{{shown}}}}}` is no name such as input.topic"));
        }
        found.push(place);
        rest = after;
    }
    Ok(found)
}

fn find<'v, 'p>(value: &'v Value, path: impl Iterator<Item = &'p str>) -> Option<&'v Value> {
    let mut value = value;
    for part in path {
        value = match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            Value::Object(members) => members.get(part)?,
            _ => return None,
        };
    }
    Some(value)
}

fn each_text(value: &Value, work: &mut impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    match value {
        Value::String(text) => work(text),
        Value::Array(items) => items.iter().try_for_each(|item| each_text(item, work)),
        Value::Object(members) => members.values().try_for_each(|value| each_text(value, work)),
        _ => Ok(()),
    }
}

/// What a model said, in whichever dialect.
pub fn text_of(body: &Value) -> String {
    let joined = |parts: &Value| -> Option<String> {
        let texts = parts.as_array()?.iter().filter_map(|part| part["text"].as_str());
        Some(texts.collect::<Vec<_>>().join("")).filter(|text| !text.is_empty())
    };
    let message = &body["choices"][0];
    let chat = message["message"]["content"].as_str().or_else(|| message["text"].as_str()).map(str::to_owned);
    let outputs = || {
        let texts = body["output"].as_array()?.iter().filter_map(|item| joined(&item["content"]));
        Some(texts.collect::<Vec<_>>().join(""))
    };
    chat.or_else(|| joined(&body["content"])).or_else(outputs).unwrap_or_default()
}

/// JSON that a model has put between three backticks.
pub fn without_fence(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|text| text.strip_suffix("```")) else { return text };
    inner.split_once('\n').map_or(inner, |(_, inner)| inner).trim()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled_text(text: &str) -> Result<Value, String> {
        let request = json!({"a": [text]});
        let input = json!({"n": 7, "list": ["x", "y"], "text": "wells {{input.n}}"});
        let results = json!({"plan": {"text": "t", "json": {"title": "T"}, "body": {"usage": {"total": 3}}}});
        let object = |value: &Value| value.as_object().expect("an object").clone();
        filled(&object(&request), &object(&input), &object(&results)).map(|filled| filled["a"][0].clone())
    }

    #[test]
    fn places_are_filled_as_texts_and_a_place_alone_keeps_its_kind() {
        for (text, expected) in [
            ("plain", json!("plain")),
            ("{{input.n}}", json!(7)),
            (" {{ input.list }} ", json!(["x", "y"])),
            ("of {{ input.list }}", json!("of [\"x\",\"y\"]")),
            ("{{input.list}}", json!(["x", "y"])),
            ("n is {{input.n}}, {{ input.list.1 }}", json!("n is 7, y")),
            ("{{steps.plan.json.title}} of {{steps.plan.body.usage.total}}", json!("T of 3")),
            // What is filled in is not looked at again.
            ("about {{input.text}}", json!("about wells {{input.n}}")),
        ] {
            assert_eq!(filled_text(text), Ok(expected), "{text}");
        }
        for text in ["{{input.nothing}}", "{{steps.plan.json.other}}", "{{", "{{a b}}", "{{}}"] {
            assert!(filled_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_said_is_found_in_every_dialect() {
        for body in [
            json!({"choices": [{"message": {"content": "hello"}}]}),
            json!({"choices": [{"text": "hello"}]}),
            json!({"content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}),
            json!({"output": [{"type": "reasoning"}, {"content": [{"type": "output_text", "text": "hello"}]}]}),
        ] {
            assert_eq!(text_of(&body), "hello", "{body}");
        }
        assert_eq!(without_fence("```json\n{\"a\": 1}\n```"), "{\"a\": 1}");
        assert_eq!(without_fence(" {\"a\": 1} "), "{\"a\": 1}");
    }
}
