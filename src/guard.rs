//! Guards: an ordered list of rules about what requests and answers may say.
//!
//! A rule finds something (a built-in [`detect`]or or a pattern) and masks it, refuses the whole, or only flags it. Rules
//! are compiled once; a request takes those that concern it as a [`Shield`]. Texts go through a [`screen::Screen`] in
//! pieces of any size, and what comes out does not depend on how they were cut. What was found is counted, never kept.

pub mod answer; // whole answers and streams
mod arguments; // JSON text in pieces: the arguments of calls
pub mod detect; // what is built in
mod pattern; // one compiled pattern
pub mod request; // what callers write
mod scanner; // one pattern over one text that comes in pieces
pub mod screen; // all patterns over one text
pub mod settings; // what the configuration says
pub mod tally; // what was found, by name and count

use std::sync::Arc;

use pattern::Pattern;
use settings::{Action, Detect, On, Rule};
pub use tally::{Hit, Tally};

/// A guard of the action `reject` found something. Never says what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guard `{guard}` refuses this: {what} was found")]
pub struct Rejected {
    pub guard: Arc<str>,
    /// The detector, in words.
    pub what: &'static str,
}

/// A rule, ready to use.
struct Compiled {
    name: Arc<str>,
    rule: Rule,
    patterns: Vec<Pattern>,
}

/// All rules, in their order.
#[derive(Clone, Default)]
pub struct Guards(Vec<Arc<Compiled>>);

/// Why a rule cannot be used: the words of its reason, for whoever wrote it.
pub type BadRule = String;

impl Guards {
    /// Compiles rules.
    ///
    /// # Errors
    /// The index of each rule that cannot be used, and why.
    pub fn compile(rules: Vec<Rule>) -> Result<Self, Vec<(usize, BadRule)>> {
        let (mut compiled, mut bad) = (Vec::with_capacity(rules.len()), Vec::new());
        for (index, rule) in rules.into_iter().enumerate() {
            match patterns(&rule) {
                Ok(patterns) => {
                    compiled.push(Arc::new(Compiled { name: rule.name.as_str().into(), rule, patterns }));
                }
                Err(reason) => bad.push((index, reason)),
            }
        }
        if bad.is_empty() { Ok(Self(compiled)) } else { Err(bad) }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules for requests of one caller, whoever answers.
    pub fn of_requests(&self, who: Who<'_>) -> Option<Shield> {
        self.shield(|rule| rule.on.concerns_requests() && rule.providers.is_empty() && who.is_in(rule))
    }

    /// Those that hold only for what is sent to one provider.
    pub fn of_requests_to(&self, provider: &str, who: Who<'_>) -> Option<Shield> {
        self.shield(|rule| {
            rule.on.concerns_requests() && rule.providers.iter().any(|name| name == provider) && who.is_in(rule)
        })
    }

    /// The rules for answers that one caller gets from one provider.
    pub fn of_answers(&self, provider: &str, who: Who<'_>) -> Option<Shield> {
        self.shield(|rule| {
            let comes_from = rule.providers.is_empty() || rule.providers.iter().any(|name| name == provider);
            rule.on.concerns_answers() && comes_from && who.is_in(rule)
        })
    }

    /// The providers that some rule for requests names.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(|compiled| compiled.rule.on.concerns_requests());
        named.flat_map(|compiled| compiled.rule.providers.iter().map(String::as_str))
    }

    fn shield(&self, concerns: impl Fn(&Rule) -> bool) -> Option<Shield> {
        let rules: Arc<[_]> = self.0.iter().filter(|compiled| concerns(&compiled.rule)).cloned().collect();
        (!rules.is_empty()).then_some(Shield(rules))
    }
}

/// Shows the rules as they were written.
impl std::fmt::Debug for Guards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|compiled| &compiled.rule)).finish()
    }
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    pub tier: Option<&'a str>,
    pub team: Option<&'a str>,
}

impl Who<'_> {
    fn is_in(&self, rule: &Rule) -> bool {
        let named = |names: &[String], name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.iter().any(|known| known == name))
        };
        named(&rule.tiers, self.tier) && named(&rule.teams, self.team)
    }
}

/// The rules that concern one request, or one answer.
#[derive(Clone)]
pub struct Shield(Arc<[Arc<Compiled>]>);

impl Shield {
    /// Whether any rule changes or refuses; else texts pass as they are, and are only counted.
    pub fn alters(&self) -> bool {
        self.0.iter().any(|compiled| compiled.rule.action != Action::Flag)
    }

    /// False if no rule finds anything in a whole text. Much cheaper than a [`screen::Screen`]; true may be wrong.
    fn may_find(&self, text: &str) -> bool {
        self.patterns().any(|(_, pattern)| pattern.may_match(text))
    }

    fn patterns(&self) -> impl Iterator<Item = (&Arc<Compiled>, &Pattern)> {
        self.0.iter().flat_map(|compiled| compiled.patterns.iter().map(move |pattern| (compiled, pattern)))
    }
}

fn patterns(rule: &Rule) -> Result<Vec<Pattern>, BadRule> {
    match &rule.detect {
        Detect::BuiltIn(detectors) => {
            let compiled = detectors.iter().map(|detector| Pattern::built_in(*detector, rule.mask_with.as_deref()));
            Ok(compiled.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        Detect::Match(pattern) => Ok(vec![Pattern::written(pattern, rule.mask_with.as_deref())?]),
    }
}

impl On {
    fn concerns_requests(self) -> bool {
        self != Self::Response
    }

    fn concerns_answers(self) -> bool {
        self != Self::Request
    }
}

#[cfg(test)]
mod tests;
