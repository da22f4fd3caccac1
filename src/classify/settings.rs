//! The `tasks` section of the configuration file: a map from a task's name to what is set about it.

use std::collections::BTreeMap;

use regex::RegexBuilder;
use serde::Deserialize;

use super::builtin;

/// Memory that one pattern may compile to. A long list of words takes a tenth of it; `(\w{500}){500}` is refused.
const PATTERN_BYTES: usize = 512 << 10;
/// Memory that all configured patterns together may compile to.
pub(super) const SET_BYTES: usize = 64 << 20;
/// Memory of the cache that runs them, per thread.
pub(super) const DFA_BYTES: usize = 4 << 20;

/// Task name to settings. A name that is not built in adds a task.
pub type Settings = BTreeMap<String, TaskSettings>;

/// One task.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSettings {
    /// Looked for in the last user turn, in addition to the built-in patterns.
    pub patterns: Vec<Pattern>,
    /// Routing strategy for the task, instead of the general one. Carried for routing, not read here.
    pub strategy: Option<String>,
    /// Least skill a model must have at the task, 0 to 1. Carried for routing, not read here.
    pub min_skill: Option<f64>,
    /// The patterns take the place of the built-in ones. What the request's structure says still counts.
    pub replace: bool,
    /// A disabled task is never found. `general`, the fallback, cannot be disabled.
    pub enabled: bool,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self { patterns: Vec::new(), strategy: None, min_skill: None, replace: false, enabled: true }
    }
}

/// One pattern of a task.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// A regular expression (syntax of the `regex` crate: linear time, no look-around, no back-references).
    /// Upper and lower case are the same unless it starts with `(?-i)`.
    #[serde(rename = "match")]
    pub matches: String,
    /// -10 to 10. 1 is a hint, 3 decides most prompts, negative speaks against the task.
    #[serde(default = "one")]
    pub weight: f64,
    /// Decides at once. If several do, the task that comes first in [`super::Classifier::tasks`] wins.
    #[serde(default)]
    pub force: bool,
}

fn one() -> f64 {
    1.0
}

/// A setting of a task that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", self.path())]
pub struct BadPattern {
    pub task: String,
    /// Position in `patterns`; `None` if the task itself is at fault.
    pub pattern: Option<usize>,
    /// The reason, with the value at fault.
    pub message: String,
}

impl BadPattern {
    /// Where it stands in the configuration file: `tasks.coding.patterns[2]`.
    pub fn path(&self) -> String {
        match (self.task.as_str(), self.pattern) {
            ("", _) => "tasks".to_owned(),
            (task, None) => format!("tasks.{task}"),
            (task, Some(index)) => format!("tasks.{task}.patterns[{index}]"),
        }
    }

    pub(super) fn of_all(error: &regex::Error) -> Self {
        let message = format!("all patterns together are too large: {error}; use fewer or simpler ones");
        Self { task: String::new(), pattern: None, message }
    }
}

/// Everything wrong with the settings.
pub(super) fn check(settings: &Settings) -> Vec<BadPattern> {
    let mut problems = Vec::new();
    for (task, own) in settings {
        let mut report = |pattern, message| problems.push(BadPattern { task: task.clone(), pattern, message });
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if task.is_empty() || task.len() > 64 || !task.bytes().all(named) {
            let rule = "use 1 to 64 small letters, digits, `_` or `-`";
            report(None, format!("`{task}` is not a name for a task; {rule}"));
        }
        if task == builtin::GENERAL && !own.enabled {
            report(None, "`general` is the fallback and cannot be disabled".to_owned());
        }
        if let Some(skill) = own.min_skill.filter(|skill| !(0.0..=1.0).contains(skill)) {
            report(None, format!("`min_skill` is {skill}; it must be between 0 and 1"));
        }
        for (index, pattern) in own.patterns.iter().enumerate() {
            if let Err(message) = check_pattern(pattern) {
                report(Some(index), message);
            }
        }
    }
    problems
}

/// Whether a pattern can be used; if not, why, in words for who wrote it.
pub fn check_pattern(pattern: &Pattern) -> Result<(), String> {
    let written = &pattern.matches;
    if !(-10.0..=10.0).contains(&pattern.weight) {
        return Err(format!("`weight` is {}; it must be between -10 and 10", pattern.weight));
    }
    let compiled = RegexBuilder::new(written)
        .case_insensitive(true)
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(DFA_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("the pattern needs more than {limit} bytes when compiled; use smaller repetitions")
            }
            // The crate draws the pattern with a caret over several lines; the last line is the reason.
            other => {
                let drawn = other.to_string();
                let reason = drawn.lines().last().unwrap_or_default().trim_start_matches("error: ");
                format!("`{written}` is not a regular expression: {reason}")
            }
        })?;
    if compiled.is_match("") {
        return Err(format!("`{written}` matches the empty text, and so every prompt; make a part of it mandatory"));
    }
    Ok(())
}
