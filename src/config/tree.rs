//! A YAML file as a tree in which every key and value knows its place.
//!
//! The YAML library can read straight into structures, but then it stops at the first mistake. A tree lets the reader
//! (`config::reader`) go on and report all of them.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// Line and column, both counted from 1. Zero: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line() as usize, column: location.column() as usize }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub value: Value,
    pub at: Place,
    /// The text came from a variable or a file, so it may be a secret and is never shown.
    pub hidden: bool,
}

#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing written, or `null`: the default.
    Nothing,
    Flag(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A problem is already reported; readers pass it by.
    Broken,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_at: Place,
    pub node: Node,
}

/// What is wrong with the YAML itself.
#[derive(Debug)]
pub struct Malformed {
    pub at: Place,
    pub message: String,
}

/// Duplicate keys stay in the tree; the reader reports them. Comments are passed over, however many there are: kept, more
/// than 32 in a row would be refused.
pub fn parse(text: &str) -> Result<Node, Malformed> {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins, with_snippet: false, emit_comments: false };
    let parsed = serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options);
    parsed.map(node).map_err(|error| {
        let at = error.location().map(Place::from).unwrap_or_default();
        let message = error.to_string();
        // The place is shown by us, in front.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        Malformed { at, message }
    })
}

fn node(spanned: Spanned<Raw>) -> Node {
    let value = match spanned.value {
        Raw::Leaf(value) => value,
        Raw::List(items) => Value::List(items.into_iter().map(node).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry { key: key.value, key_at: key.referenced.into(), node: node(value) })
                .collect(),
        ),
    };
    Node { value, at: spanned.referenced.into(), hidden: false }
}

enum Raw {
    Leaf(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Nothing))
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Nothing))
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Flag(flag)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Number(number as f64)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Number(number as f64)))
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Number(number as f64)))
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Number(number as f64)))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Number(number)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key()? {
            map.push((key, entries.next_value()?));
        }
        Ok(Raw::Map(map))
    }
}
