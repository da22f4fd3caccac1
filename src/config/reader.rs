//! Reads values out of the tree: kind, range and unknown fields, every mistake reported where it stands.
//!
//! A [`Section`] remembers the keys it was asked for; what is left over at the end is unknown. Reading never stops: a
//! wrong value is reported and the default stays.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::{MAP, Report, closest, looks_secret};
use super::tree::{Entry, Node, Place, Value};
use crate::units::{self, Count, Share, Size, Span};

/// A map with known keys.
pub(super) struct Section<'a> {
    entries: &'a [Entry],
    asked: Vec<&'static str>,
    pub path: String,
    pub at: Place,
    pub report: &'a Report<'a>,
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub node: &'a Node,
    pub path: String,
    pub report: &'a Report<'a>,
}

/// Keeps the default where nothing valid is written.
pub(super) fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

impl<'a> Section<'a> {
    /// The value of a key, if one is written.
    pub fn get(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.asked.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let item = Item { node: &entry.node, path: self.child(key), report: self.report };
        (!matches!(entry.node.value, Value::Nothing | Value::Broken)).then_some(item)
    }

    /// Whether a key is written at all, however badly.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        self.get(key)?.section()
    }

    pub fn span(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Span> {
        self.get(key)?.span(range)
    }

    pub fn count(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<Count> {
        self.get(key)?.count(range).map(Count)
    }

    pub fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        self.get(key)?.number(range)
    }

    pub fn share(&mut self, key: &'static str) -> Option<Share> {
        self.get(key)?.share()
    }

    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.get(key)?.flag()
    }

    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.get(key)?.text().map(str::to_owned)
    }

    pub fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub fn problem(&self, message: impl Into<String>) {
        self.report.problem(self.at, &self.path, message);
    }

    /// Reports what nobody asked for. `note` may know a key that deserves a better answer than "unknown".
    pub fn finish_with(self, note: impl Fn(&str) -> Option<String>) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            let path = self.child(&entry.key);
            match note(&entry.key) {
                Some(note) => self.report.problem(entry.key_at, &path, format!("unknown field: {note}")),
                None => {
                    let suggestion = closest(&entry.key, self.asked.iter().copied());
                    let message = match &suggestion {
                        Some(_) => "unknown field".to_owned(),
                        None => format!("unknown field; known here: {}", self.asked.join(", ")),
                    };
                    self.report.suggest(entry.key_at, &path, message, suggestion);
                }
            }
        }
    }

    pub fn finish(self) {
        self.finish_with(|_| None);
    }
}

impl<'a> Item<'a> {
    pub fn problem(&self, message: impl Into<String>) {
        self.report.problem(self.node.at, &self.path, message);
    }

    pub fn suggest(&self, message: impl Into<String>, suggestion: Option<String>) {
        self.report.suggest(self.node.at, &self.path, message, suggestion);
    }

    fn is_hidden(&self) -> bool {
        self.node.hidden || matches!(&self.node.value, Value::Text(text) if looks_secret(text))
    }

    /// How the value reads in a message: as written, unless it may be a secret.
    pub fn shown(&self) -> String {
        match &self.node.value {
            Value::Text(text) if looks_secret(text) => "a text like a key".to_owned(),
            Value::Text(_) if self.node.hidden => "the value of the variable".to_owned(),
            Value::Nothing | Value::Broken => "nothing".to_owned(),
            Value::Flag(flag) => format!("`{flag}`"),
            Value::Number(number) => format!("`{number}`"),
            Value::Text(text) => format!("`{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    /// Reports that something else was expected.
    fn expected(&self, what: &str) {
        if !matches!(self.node.value, Value::Broken) {
            self.problem(format!("expected {what}, got {}", self.shown()));
        }
    }

    pub fn section(&self) -> Option<Section<'a>> {
        let entries = self.entries(MAP)?;
        Some(Section { entries, asked: Vec::new(), path: self.path.clone(), at: self.node.at, report: self.report })
    }

    /// A map whose keys the user chooses.
    pub fn named(&self, what: &str) -> Vec<(&'a Entry, Item<'a>)> {
        let entries = self.entries(what).unwrap_or_default();
        let item = |entry: &'a Entry| Item {
            node: &entry.node,
            path: if self.path.is_empty() { entry.key.clone() } else { format!("{}.{}", self.path, entry.key) },
            report: self.report,
        };
        entries.iter().map(|entry| (entry, item(entry))).collect()
    }

    fn entries(&self, what: &str) -> Option<&'a [Entry]> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Nothing => &[],
            Value::Text(_) => {
                self.problem(format!("expected {what}, got text"));
                return None;
            }
            _ => {
                self.expected(what);
                return None;
            }
        };
        let mut seen = HashSet::new();
        for entry in entries.iter().filter(|entry| !seen.insert(entry.key.as_str())) {
            let path = if self.path.is_empty() { entry.key.clone() } else { format!("{}.{}", self.path, entry.key) };
            let message = format!("`{}` is written twice; keep one", entry.key);
            self.report.problem(entry.key_at, &path, message);
        }
        Some(entries)
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    pub fn list(&self, what: &str) -> Option<Vec<Item<'a>>> {
        let Value::List(nodes) = &self.node.value else {
            self.expected(what);
            return None;
        };
        let item = |(index, node)| Item { node, path: format!("{}[{index}]", self.path), report: self.report };
        Some(nodes.iter().enumerate().map(item).collect())
    }

    /// Whether a variable with an empty fallback, `${NAME:-}`, came to nothing.
    pub fn is_emptied(&self) -> bool {
        self.node.hidden && matches!(&self.node.value, Value::Text(text) if text.trim().is_empty())
    }

    /// Text, not empty. A bare number or `yes` needs quotes, or it would not come out as it was written.
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) if text.trim().is_empty() => {
                self.problem("must not be empty");
                None
            }
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Flag(_) => {
                self.problem(format!("expected text; put {} in quotes", self.shown()));
                None
            }
            _ => {
                self.expected("text");
                None
            }
        }
    }

    /// Whether it is this word.
    pub fn says(&self, word: &str) -> bool {
        matches!(&self.node.value, Value::Text(text) if text == word)
    }

    /// A single value as it is written, whatever its kind: for words that are read by a grammar of their own.
    pub fn scalar(&self) -> Option<String> {
        match &self.node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Flag(flag) => Some(flag.to_string()),
            _ => {
                self.expected("a single value");
                None
            }
        }
    }

    pub fn texts(&self, what: &str) -> Option<Vec<(Item<'a>, &'a str)>> {
        let items = self.list(what)?;
        Some(items.into_iter().filter_map(|item| item.text().map(|text| (item.clone(), text))).collect())
    }

    pub fn flag(&self) -> Option<bool> {
        match &self.node.value {
            Value::Flag(flag) => Some(*flag),
            Value::Text(text) if text == "true" => Some(true),
            Value::Text(text) if text == "false" => Some(false),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match &self.node.value {
            Value::Number(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.expected("a number");
            return None;
        };
        self.within(number, range, |number| number.to_string())
    }

    pub fn count(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let count = self.quantity("a whole number such as 4096 or 128k", units::count)?;
        self.within(count, range, u64::to_string)
    }

    pub fn size(&self, range: RangeInclusive<u64>) -> Option<Size> {
        let size = self.quantity("a size such as 20MB", units::size)?;
        self.within(size, range, |size| format!("{size} bytes")).map(Size)
    }

    pub fn share(&self) -> Option<Share> {
        self.quantity("a share such as 20% or 0.2", units::share).map(Share)
    }

    pub fn span(&self, range: RangeInclusive<Duration>) -> Option<Span> {
        if let Value::Number(number) = self.node.value {
            self.problem(format!("`{number}` has no unit; write for instance {number}s or {number}ms"));
            return None;
        }
        let span = self.quantity("a duration such as 500ms or 30s", units::duration)?;
        self.within(span, range, |span| format!("{span:?}")).map(Span)
    }

    fn quantity<T>(&self, what: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let parsed = match &self.node.value {
            Value::Number(number) => parse(&number.to_string()),
            Value::Text(text) => parse(text),
            _ => {
                self.expected(what);
                return None;
            }
        };
        parsed.map_err(|message| if self.is_hidden() { self.expected(what) } else { self.problem(message) }).ok()
    }

    fn within<T: PartialOrd>(&self, value: T, range: RangeInclusive<T>, show: impl Fn(&T) -> String) -> Option<T> {
        if range.contains(&value) {
            return Some(value);
        }
        let (least, most) = (show(range.start()), show(range.end()));
        self.problem(format!("{} is out of range; {least} to {most}", self.shown()));
        None
    }

    /// One of several words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        if found.is_none() {
            self.unknown("value", text, choices.iter().map(|(name, _)| *name));
        }
        found
    }

    /// Reports a word that is none of `known`.
    pub fn unknown<'k>(&self, what: impl Display, word: &str, known: impl Iterator<Item = &'k str> + Clone) {
        let suggestion = closest(word, known.clone());
        let message = match (&suggestion, self.is_hidden()) {
            (_, true) => format!("{} is no known {what}", self.shown()),
            (Some(_), _) => format!("unknown {what} `{word}`"),
            (None, _) => format!("unknown {what} `{word}`; known: {}", known.collect::<Vec<_>>().join(", ")),
        };
        self.suggest(message, suggestion);
    }
}
