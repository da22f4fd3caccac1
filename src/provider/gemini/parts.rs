//! The parts of a candidate's content, one by one.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::chat::{Extra, Object};

/// What one part is to a caller.
#[derive(Debug)]
pub enum Item {
    Text(String),
    Thought(String),
    Call(Call),
}

/// A function call, or on Vertex AI a fragment of one.
#[derive(Debug, Default)]
pub struct Call {
    pub id: Option<String>,
    pub name: Option<String>,
    /// The arguments as JSON text, where they came whole.
    pub args: Option<String>,
    pub signature: Option<String>,
    /// Values for places inside the arguments.
    pub partial: Vec<Fragment>,
    /// More fragments of this call follow.
    pub continues: bool,
}

/// A value for one place of the arguments: `{"jsonPath": "$.a[0].b", "stringValue": "x", "willContinue": true}`.
#[derive(Debug)]
pub struct Fragment {
    pub path: String,
    pub value: Value,
    /// The next fragment with this path goes on where this one ends.
    pub continues: bool,
}

/// Reads a part. `None` for code that ran at Google and other things that are no answer in themselves.
pub fn item(mut part: Object<'_>) -> Option<Item> {
    if let Some(call) = part.take_as::<Object<'_>>("functionCall") {
        return Some(Item::Call(read_call(call, part.take_as("thoughtSignature"))));
    }
    let text: String = part.take_as("text")?;
    Some(if part.read("thought") == Some(true) { Item::Thought(text) } else { Item::Text(text) })
}

fn read_call(mut call: Object<'_>, signature: Option<String>) -> Call {
    let filled = |text: &String| !text.is_empty();
    let partial: Vec<Object<'_>> = call.take_as("partialArgs").unwrap_or_default();
    Call {
        id: call.take_as("id").filter(filled),
        name: call.take_as("name").filter(filled),
        args: call.take("args").map(compact),
        signature: signature.filter(filled),
        partial: partial.into_iter().filter_map(fragment).collect(),
        continues: call.read("willContinue") == Some(true),
    }
}

fn fragment(mut fragment: Object<'_>) -> Option<Fragment> {
    let kinds = ["stringValue", "numberValue", "boolValue"];
    let value = kinds.iter().find_map(|kind| fragment.take_as::<Value>(kind)).unwrap_or(Value::Null);
    Some(Fragment {
        path: fragment.take_as("jsonPath")?,
        value,
        continues: fragment.read("willContinue") == Some(true),
    })
}

fn compact(raw: &RawValue) -> String {
    serde_json::from_str::<Value>(raw.get()).map_or_else(|_| raw.get().to_owned(), |value| value.to_string())
}

impl Call {
    /// An id for a call that came without one. It differs from those of other answers, since a conversation may hold
    /// several, and it is the same however often the answer is read.
    pub fn id_or(&self, response: &str, index: u32) -> String {
        self.id.clone().unwrap_or_else(|| {
            let name = self.name.as_deref().unwrap_or_default();
            let args = self.args.as_deref().unwrap_or_default();
            let digest = blake3::hash(format!("{response}\n{index}\n{name}\n{args}").as_bytes()).to_hex();
            format!("call_{}", &digest[..24])
        })
    }

    /// The signature as Google's own compatibility layer carries it.
    pub fn extra(&self) -> Extra {
        let Some(signature) = &self.signature else { return Extra::new() };
        let content = to_raw_value(&json!({"google": {"thought_signature": signature}}));
        content.map(|content| vec![("extra_content".into(), content)]).unwrap_or_default()
    }
}

/// Arguments under construction.
#[derive(Debug, Default)]
pub struct Arguments {
    root: Value,
    /// The place that the next fragment goes on with.
    open: Option<String>,
}

/// A path like `$.a[4000000000]` must not make us allocate.
const MAX_ITEMS: usize = 4096;

impl Arguments {
    /// Puts a fragment in its place. One whose path cannot be read is left out.
    pub fn put(&mut self, fragment: Fragment) {
        let goes_on = self.open.take().is_some_and(|open| open == fragment.path);
        if let Some(place) = place(&mut self.root, &fragment.path) {
            match (place, fragment.value) {
                (Value::String(text), Value::String(more)) if goes_on => text.push_str(&more),
                (place, value) => *place = value,
            }
        }
        self.open = fragment.continues.then_some(fragment.path);
    }

    pub fn finish(self) -> String {
        if self.root.is_object() { self.root.to_string() } else { "{}".to_owned() }
    }
}

/// The place that a path like `$.a.b[0]` leads to, made on the way. `None` if it makes no sense.
fn place<'v>(root: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let mut rest = path.strip_prefix('$')?;
    let mut at = root;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (inside, after) = after.split_once(']')?;
            rest = after;
            if let Ok(index) = inside.parse::<usize>() {
                if at.is_null() {
                    *at = json!([]);
                }
                let items = at.as_array_mut().filter(|_| index < MAX_ITEMS)?;
                if items.len() <= index {
                    items.resize(index + 1, Value::Null);
                }
                at = &mut items[index];
                continue;
            }
            at = member(at, inside.trim_matches(['\'', '"']))?;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            rest = after;
            at = member(at, name)?;
        }
    }
    Some(at)
}

fn member<'v>(at: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    if at.is_null() {
        *at = json!({});
    }
    Some(at.as_object_mut()?.entry(name).or_insert(Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_build_the_arguments() {
        let mut arguments = Arguments::default();
        for (path, value, continues) in [
            ("$.a.b[0].c", json!("on"), true),
            ("$.a.b[0].c", json!("e"), false),
            ("$.a.b[1]['d e']", json!(2), false),
            ("$.a.x", json!("new"), false),
            ("$.a.x", json!("er"), false),
            ("$.f", Value::Null, false),
        ] {
            arguments.put(Fragment { path: path.into(), value, continues });
        }
        assert_eq!(arguments.finish(), r#"{"a":{"b":[{"c":"one"},{"d e":2}],"x":"er"},"f":null}"#);
    }

    #[test]
    fn no_path_makes_it_panic_or_grow() {
        let mut arguments = Arguments::default();
        for path in ["", "$", "a", "$.", "$[", "$[99999999999]", "$.a[4000000000]", "$.a..b", "$[0]", "$.é[x]"] {
            arguments.put(Fragment { path: path.into(), value: json!(1), continues: false });
        }
        arguments.finish();
    }
}
