//! A built-in rule: a pattern, where it is looked for, and what the turn's shape must be for it to count.

use super::view::Shape;

/// Where a pattern is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zone {
    /// The opening and the ending of the turn, where people say what they want.
    Ask,
    /// All of the turn that is in view, quoted material included.
    Text,
}

/// What the shape of the turn must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// At least two numbers.
    Numbers,
    /// At most 240 bytes.
    Brief,
    /// At most 700 bytes.
    Moderate,
    /// More than 240 bytes: there is material to work on.
    Ample,
}

/// A pattern that speaks for its task, or against it if the weight is negative.
#[derive(Debug)]
pub(super) struct Rule {
    pub zone: Zone,
    pub when: When,
    pub label: &'static str,
    /// 1 is a hint, 2 is typical of the task, 3 and more is hard to read otherwise.
    pub weight: f64,
    /// Matched on lowered text, byte-wise: no Unicode classes, other scripts as literals.
    pub pattern: &'static str,
}

impl Rule {
    pub fn holds(&self, shape: &Shape) -> bool {
        match self.when {
            When::Always => true,
            When::Numbers => shape.numbers >= 2,
            When::Brief => shape.length <= 240,
            When::Moderate => shape.length <= 700,
            When::Ample => shape.length > 240,
        }
    }

    pub const fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }
}

/// A rule on the opening and the ending.
pub(super) const fn ask(label: &'static str, weight: f64, pattern: &'static str) -> Rule {
    Rule { zone: Zone::Ask, when: When::Always, label, weight, pattern }
}

/// A rule on all of the turn.
pub(super) const fn text(label: &'static str, weight: f64, pattern: &'static str) -> Rule {
    Rule { zone: Zone::Text, when: When::Always, label, weight, pattern }
}
