//! JSON schemas in the subset of OpenAPI's that older models understand.

use serde_json::{Map, Value, json};

/// Schemas nest no deeper than this once their references are written out.
const MAX_DEPTH: usize = 32;

/// What is carried over as it is (Gemini API reference, Schema).
const KEPT: [&str; 15] = [
    "description",
    "format",
    "nullable",
    "required",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "pattern",
    "propertyOrdering",
    "example",
];

/// Converts `schema`. References are written out where they stand; one that leads back to itself ends as "any object".
pub fn subset(schema: &Value) -> Value {
    convert(schema, schema, &mut Vec::new(), 0)
}

/// `open`: the references being written out.
fn convert(schema: &Value, root: &Value, open: &mut Vec<String>, depth: usize) -> Value {
    let Value::Object(members) = schema else { return json!({}) };
    if depth > MAX_DEPTH {
        return json!({"type": "object"});
    }
    if let Some(Value::String(reference)) = members.get("$ref") {
        if open.contains(reference) {
            return json!({"type": "object"});
        }
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        let Some(target) = target else { return json!({"type": "object"}) };
        open.push(reference.clone());
        let mut written = convert(target, root, open, depth + 1);
        open.pop();
        if let Some(description) = members.get("description") {
            written["description"] = description.clone();
        }
        return written;
    }
    let mut out = Map::new();
    for (name, value) in members {
        match name.as_str() {
            "type" => convert_type(value, &mut out),
            "const" => enumerate(std::slice::from_ref(value), members, &mut out),
            "exclusiveMinimum" if value.is_number() => {
                out.entry("minimum").or_insert_with(|| value.clone());
            }
            "exclusiveMaximum" if value.is_number() => {
                out.entry("maximum").or_insert_with(|| value.clone());
            }
            "properties" => {
                let named = value.as_object().into_iter().flatten();
                let properties: Map<String, Value> =
                    named.map(|(name, schema)| (name.clone(), convert(schema, root, open, depth + 1))).collect();
                if !properties.is_empty() {
                    out.insert("properties".into(), Value::Object(properties));
                }
            }
            "items" => {
                out.insert("items".into(), convert(value, root, open, depth + 1));
            }
            "anyOf" | "oneOf" => {
                let choices = value.as_array().into_iter().flatten();
                alternatives(choices.map(|choice| convert(choice, root, open, depth + 1)).collect(), &mut out);
            }
            // There is no `allOf`: what several schemas say together is said at once.
            "allOf" => {
                for part in value.as_array().into_iter().flatten() {
                    if let Value::Object(part) = convert(part, root, open, depth + 1) {
                        merge(&mut out, part);
                    }
                }
            }
            "enum" => enumerate(value.as_array().map_or(&[], Vec::as_slice), members, &mut out),
            kept if KEPT.contains(&kept) => {
                out.insert(name.clone(), value.clone());
            }
            _ => {}
        }
    }
    // An enumeration of strings needs its type; so do properties and items.
    if !out.contains_key("type") && !out.contains_key("anyOf") {
        for (member, kind) in [("properties", "object"), ("items", "array"), ("enum", "string")] {
            if out.contains_key(member) {
                out.insert("type".into(), json!(kind));
                break;
            }
        }
    }
    Value::Object(out)
}

/// Enumerations are of strings here; one of numbers is left to the type and the description.
fn enumerate(values: &[Value], members: &Map<String, Value>, out: &mut Map<String, Value>) {
    let of_strings = match members.get("type") {
        None => true,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
        Some(kind) => kind == "string",
    };
    let words: Vec<Value> = values.iter().filter(|value| !value.is_null()).cloned().collect();
    if of_strings && !words.is_empty() && words.iter().all(Value::is_string) {
        out.insert("enum".into(), Value::Array(words));
    }
}

/// A list of types is one type that may be null, or a choice.
fn convert_type(kind: &Value, out: &mut Map<String, Value>) {
    let Value::Array(kinds) = kind else {
        out.insert("type".into(), kind.clone());
        return;
    };
    let (null, others): (Vec<&Value>, Vec<&Value>) = kinds.iter().partition(|kind| *kind == "null");
    match &others[..] {
        [] => {}
        [one] => {
            out.insert("type".into(), (*one).clone());
        }
        many => {
            out.insert("anyOf".into(), many.iter().map(|kind| json!({"type": kind})).collect());
        }
    }
    if !null.is_empty() {
        out.insert("nullable".into(), json!(true));
    }
}

fn alternatives(mut choices: Vec<Value>, out: &mut Map<String, Value>) {
    let all = choices.len();
    choices.retain(|choice| choice["type"] != "null");
    if choices.len() < all {
        out.insert("nullable".into(), json!(true));
    }
    match (choices.len(), choices.pop()) {
        (1, Some(Value::Object(only))) => merge(out, only),
        (_, Some(last)) => {
            choices.push(last);
            out.insert("anyOf".into(), Value::Array(choices));
        }
        (_, None) => {}
    }
}

fn merge(out: &mut Map<String, Value>, part: Map<String, Value>) {
    for (name, value) in part {
        match (out.get_mut(&name), value) {
            (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
            (Some(Value::Array(known)), Value::Array(more)) if name == "required" => known.extend(more),
            (Some(_), _) => {}
            (None, value) => {
                out.insert(name, value);
            }
        }
    }
}

/// True if a schema says nothing about what is inside: such an object may be refused (promptfoo/promptfoo#6902).
pub fn is_empty_object(schema: &Value) -> bool {
    schema["properties"].as_object().is_none_or(Map::is_empty)
        && ["$ref", "anyOf", "oneOf", "allOf"].iter().all(|name| schema.get(name).is_none())
        && schema.get("additionalProperties").is_none_or(|open| !open.is_object())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subset_says_the_same_in_fewer_words() {
        for (schema, expected) in [
            (
                json!({"type": ["string", "null"], "title": "x", "default": 1}),
                json!({"type": "string", "nullable": true}),
            ),
            (json!({"const": "a"}), json!({"enum": ["a"], "type": "string"})),
            (json!({"type": "integer", "exclusiveMinimum": 0}), json!({"type": "integer", "minimum": 0})),
            (
                json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}),
                json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
            ),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!({"nullable": true, "type": "string"})),
            (
                json!({"type": "object", "properties": {"title": {"type": "string"}}, "additionalProperties": false}),
                json!({"type": "object", "properties": {"title": {"type": "string"}}}),
            ),
            (
                json!({"$defs": {"a": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a", "description": "d"}}}),
                json!({"properties": {"x": {"type": "string", "description": "d"}}, "type": "object"}),
            ),
        ] {
            assert_eq!(subset(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let tree = json!({
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
            "$ref": "#/$defs/node",
        });
        assert_eq!(subset(&tree), json!({"type": "object", "properties": {"next": {"type": "object"}}}));
        assert_eq!(subset(&json!({"$ref": "#"})), json!({"type": "object"}));
    }
}
