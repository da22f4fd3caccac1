//! Which task a prompt belongs to: weighted patterns and the request's shape, blended into a name and a confidence.
//!
//! Nothing here waits or reads a clock, and the work is bounded by the size of [`Prompt`], whatever the size of the
//! conversation. The last user turn decides; what came before it counts only where that turn refers to it ("continue").
//! Of the built-in patterns only those run whose first words are there, so the cost hardly depends on their number. Signals carry labels of
//! rules, never text of the prompt.

mod blend;
mod builtin;
mod rule;
mod scan;
pub mod settings;
mod view;

#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use regex::{RegexSet, RegexSetBuilder};
use serde::Serialize;

use crate::chat::Prompt;

use blend::Tally;
use rule::{Rule, Zone};
use scan::Scan;
use settings::{BadPattern, Settings};
use view::View;

/// A turn of up to this many bytes may be a follow-up.
const FOLLOW_UP_BYTES: usize = 160;
/// What the turn before counts when the last one only refers to it. Below 1, because the reference is a guess.
const FOLLOW_UP_SHARE: f64 = 0.8;
/// A turn whose own patterns add up to this stands for itself, even if it opens like a follow-up.
const STANDS_ALONE: f64 = 2.5;

/// The name of a task. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TaskName(Arc<str>);

impl TaskName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TaskName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl Borrow<str> for TaskName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a prompt was found to be, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Task {
    pub name: TaskName,
    /// The winner's share of belief over all tasks, 0 to 1.
    pub confidence: f64,
    /// Everything that counted, for the winner and for the losers, in the order of the rules.
    pub signals: Vec<Signal>,
}

/// One thing that spoke for a task, or against it (negative weight).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Signal {
    pub task: TaskName,
    /// The rule in words, or the configured pattern. Never the prompt's text.
    pub label: Arc<str>,
    pub weight: f64,
}

/// All patterns, compiled. Immutable; share it.
#[derive(Debug)]
pub struct Classifier {
    tasks: Vec<TaskName>,
    /// Built-in rules on the opening and the ending of the turn, and on all of it that is in view.
    ask: Group,
    text: Group,
    /// Configured patterns: a set of their own, so that one costly pattern cannot slow the built-in ones down.
    configured: RegexSet,
    configured_rules: Vec<Configured>,
    general: usize,
    tool_use: Option<usize>,
    multimodal: Option<usize>,
    housekeeping: Option<usize>,
    analysis: Option<usize>,
}

#[derive(Debug)]
struct Group {
    scan: Scan,
    rules: Vec<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    /// Index into `Classifier::tasks`; `None` marks a follow-up.
    task: Option<usize>,
    label: Arc<str>,
    weight: f64,
    rule: &'static Rule,
}

#[derive(Debug)]
struct Configured {
    task: usize,
    label: Arc<str>,
    weight: f64,
    force: bool,
}

impl Classifier {
    /// Compiles the built-in rules and what `settings` change about them. Reports every bad pattern, not only the first.
    pub fn compile(settings: &Settings) -> Result<Self, Vec<BadPattern>> {
        let mut problems = settings::check(settings);
        let disabled = |name: &str| settings.get(name).is_some_and(|task| !task.enabled);
        let replaced = |name: &str| settings.get(name).is_some_and(|task| task.replace);

        let names = builtin::TASKS.iter().map(|(name, _)| *name);
        let added =
            settings.keys().map(String::as_str).filter(|name| !builtin::TASKS.iter().any(|(own, _)| own == name));
        let tasks: Vec<TaskName> = names.chain(added).filter(|name| !disabled(name)).map(TaskName::from).collect();
        let index: BTreeMap<&str, usize> = tasks.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();

        let (mut ask, mut text) = (Vec::new(), Vec::new());
        for (name, rules) in builtin::TASKS {
            let Some(&task) = index.get(name).filter(|_| !replaced(name)) else { continue };
            for rule in *rules {
                let zone = if rule.zone == Zone::Ask { &mut ask } else { &mut text };
                zone.push(Compiled { task: Some(task), label: rule.label.into(), weight: rule.weight, rule });
            }
        }
        for rule in builtin::FOLLOW_UPS {
            ask.push(Compiled { task: None, label: rule.label.into(), weight: rule.weight, rule });
        }

        let mut configured_rules = Vec::new();
        let mut patterns = Vec::new();
        for (name, own) in settings.iter().filter(|(_, own)| own.enabled) {
            for pattern in &own.patterns {
                patterns.push(pattern.matches.as_str());
                configured_rules.push(Configured {
                    task: index[name.as_str()],
                    label: pattern.matches.as_str().into(),
                    weight: pattern.weight,
                    force: pattern.force,
                });
            }
        }
        let configured = if problems.is_empty() { configured_set(&patterns) } else { Ok(RegexSet::empty()) };
        let configured = configured.unwrap_or_else(|error| {
            // Each pattern is within its limit, so this takes thousands of them; no single one is to blame.
            problems.push(BadPattern::of_all(&error));
            RegexSet::empty()
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let find = |name: &str| index.get(name).copied();
        Ok(Self {
            general: find(builtin::GENERAL).unwrap_or_default(),
            tool_use: find(builtin::TOOL_USE),
            multimodal: find(builtin::MULTIMODAL),
            housekeeping: find(builtin::HOUSEKEEPING),
            analysis: find(builtin::ANALYSIS),
            ask: Group::compile(ask),
            text: Group::compile(text),
            configured,
            configured_rules,
            tasks,
        })
    }

    /// The tasks that a prompt can get: the built-in ones, then added ones by name; disabled ones are left out.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskName> {
        self.tasks.iter()
    }

    /// Classifies the last user turn of a prompt.
    pub fn classify(&self, prompt: &Prompt<'_>) -> Task {
        let mut tally = Tally::new(self.tasks.len());
        if let Some(forced) = self.configured(&prompt.head, &prompt.tail, &mut tally) {
            return self.task(forced, 1.0, tally);
        }
        let turn = View::new(&prompt.head, &prompt.tail, prompt.length);
        let refers_back = self.count(&turn, 1.0, &mut tally);
        if refers_back && tally.best() < STANDS_ALONE && prompt.length <= FOLLOW_UP_BYTES {
            let before =
                if prompt.previous_user.is_empty() { &prompt.previous_assistant } else { &prompt.previous_user };
            self.count(&View::new(before, "", before.len()), FOLLOW_UP_SHARE, &mut tally);
        }
        self.count_structure(prompt, &mut tally);
        let (winner, confidence) = tally.decide(self.general);
        self.task(winner, confidence, tally)
    }

    fn task(&self, winner: usize, confidence: f64, tally: Tally) -> Task {
        let signal =
            |(task, label, weight): (usize, Arc<str>, f64)| Signal { task: self.tasks[task].clone(), label, weight };
        Task { name: self.tasks[winner].clone(), confidence, signals: tally.into_signals().map(signal).collect() }
    }

    /// Counts the configured patterns; returns the task of one that decides at once.
    fn configured(&self, head: &str, tail: &str, tally: &mut Tally) -> Option<usize> {
        if self.configured_rules.is_empty() {
            return None;
        }
        let mut matched: Vec<usize> = self.configured.matches(head).into_iter().collect();
        if !tail.is_empty() {
            matched.extend(self.configured.matches(tail));
            matched.sort_unstable();
            matched.dedup();
        }
        let mut forced = None;
        for rule in matched.into_iter().map(|at| &self.configured_rules[at]) {
            tally.add(rule.task, &rule.label, rule.weight);
            if rule.force {
                forced = Some(forced.map_or(rule.task, |first: usize| first.min(rule.task)));
            }
        }
        forced
    }

    /// Counts the built-in rules on one turn; true if the turn refers to what came before.
    fn count(&self, view: &View, share: f64, tally: &mut Tally) -> bool {
        let mut refers_back = false;
        for (group, text) in [(&self.ask, &view.ask), (&self.text, &view.text)] {
            let holds = |at: usize| group.rules[at].rule.holds(&view.shape);
            group.scan.matches(text, holds, |at| {
                let compiled = &group.rules[at];
                match compiled.task {
                    Some(task) => tally.add(task, &compiled.label, compiled.weight * share),
                    None => refers_back = true,
                }
            });
        }
        refers_back
    }

    /// What the request is made of, whatever its words.
    fn count_structure(&self, prompt: &Prompt<'_>, tally: &mut Tally) {
        let mut add = |task: Option<usize>, label: &'static str, weight| {
            if let Some(task) = task {
                tally.add(task, &label.into(), weight);
            }
        };
        if prompt.tools > 0 && !prompt.tools_forbidden {
            add(self.tool_use, "tools are offered", builtin::TOOLS_OFFERED);
        }
        if prompt.answers_tool {
            add(self.tool_use, "a tool has answered", builtin::TOOL_ANSWERED);
        }
        if prompt.images > 0 {
            add(self.multimodal, "an image in the last turn", builtin::MEDIA);
        }
        if prompt.audio > 0 {
            add(self.multimodal, "audio in the last turn", builtin::MEDIA);
        }
        if prompt.files > 0 {
            add(self.analysis, "a file in the last turn", builtin::FILE);
        }
        if builtin::is_housekeeping(&prompt.system) {
            add(self.housekeeping, "the system message asks for a title, tags or follow-ups", builtin::HOUSEKEEPER);
        }
    }
}

impl Group {
    fn compile(rules: Vec<Compiled>) -> Self {
        Self { scan: Scan::compile(rules.iter().map(|compiled| compiled.rule.pattern)), rules }
    }
}

fn configured_set(patterns: &[&str]) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns)
        .case_insensitive(true)
        .size_limit(settings::SET_BYTES)
        .dfa_size_limit(settings::DFA_BYTES)
        .build()
}
