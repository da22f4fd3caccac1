//! What a prompt is about: the `tasks` section.

use std::collections::BTreeMap;

use serde::Deserialize;

/// By the task's name. A built-in task keeps its patterns unless `replace` is set; any other name is a task of one's own.
pub type Settings = BTreeMap<String, TaskSettings>;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSettings {
    /// Added to the built-in ones of a built-in task.
    pub patterns: Vec<Pattern>,
    /// The strategy for this task instead of `routing.strategy`.
    pub strategy: Option<String>,
    /// Never route this task to a model below this skill. 0 to 1.
    pub min_skill: Option<f64>,
    /// Whether `patterns` replace the built-in ones instead of adding to them.
    pub replace: bool,
    /// Off: no prompt is ever counted as this task.
    pub enabled: bool,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self { patterns: Vec::new(), strategy: None, min_skill: None, replace: false, enabled: true }
    }
}

/// A sign that a prompt belongs to a task.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// A regular expression, searched in the prompt's text.
    #[serde(rename = "match")]
    pub matches: String,
    /// -10 to 10. 1 is a hint, 3 decides most prompts, negative speaks against the task.
    #[serde(default = "one")]
    pub weight: f64,
    /// Decides at once, whatever else matches.
    #[serde(default)]
    pub force: bool,
}

fn one() -> f64 {
    1.0
}
