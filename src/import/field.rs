//! A value of the old file, with its path and its line. Readers are tolerant: what has another kind is not there.

use crate::config::tree::{Node, Value};

#[derive(Clone)]
pub struct Field<'a> {
    pub file: &'a str,
    /// `model_list[0].litellm_params`; empty for the file as a whole.
    pub path: String,
    pub node: &'a Node,
    /// Of the key, from 1.
    pub line: usize,
}

impl<'a> Field<'a> {
    pub fn root(file: &'a str, node: &'a Node) -> Self {
        Self { file, path: String::new(), node, line: node.at.line }
    }

    /// The member of a map, if it says anything.
    pub fn get(&self, key: &str) -> Option<Self> {
        let is = |(name, field): (&str, Self)| (name == key && !field.is_nothing()).then_some(field);
        self.entries().into_iter().find_map(is)
    }

    pub fn entries(&self) -> Vec<(&'a str, Self)> {
        let Value::Map(entries) = &self.node.value else { return Vec::new() };
        let child = |key: &str| if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let field = |entry: &'a crate::config::tree::Entry| {
            let line = entry.key_at.line;
            (entry.key.as_str(), Self { file: self.file, path: child(&entry.key), node: &entry.node, line })
        };
        entries.iter().map(field).collect()
    }

    pub fn items(&self) -> Vec<Self> {
        let Value::List(items) = &self.node.value else { return Vec::new() };
        let items = items.iter().enumerate();
        items
            .map(|(index, node)| Self {
                file: self.file,
                path: format!("{}[{index}]", self.path),
                node,
                line: node.at.line,
            })
            .collect()
    }

    /// Members or items.
    pub fn parts(&self) -> Vec<Self> {
        let members = self.entries().into_iter().map(|(_, field)| field);
        members.chain(self.items()).collect()
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self.node.value, Value::Nothing)
    }

    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Any single value as it would be written.
    pub fn text(&self) -> Option<String> {
        match &self.node.value {
            Value::Text(text) => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            Value::Flag(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// A number, also one in quotes.
    pub fn number(&self) -> Option<f64> {
        match &self.node.value {
            Value::Number(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
        .filter(|number: &f64| number.is_finite() && *number >= 0.0)
    }

    pub fn flag(&self) -> Option<bool> {
        match &self.node.value {
            Value::Flag(flag) => Some(*flag),
            Value::Text(text) => text.trim().to_ascii_lowercase().parse().ok(),
            _ => None,
        }
    }

    /// The texts of a list, or a single text.
    pub fn texts(&self) -> Vec<String> {
        match self.text() {
            Some(text) => vec![text],
            None => self.items().iter().filter_map(Self::text).collect(),
        }
    }
}
