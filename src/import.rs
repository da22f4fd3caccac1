//! Other routers' configurations, read and written anew as ours, with an account of every field.
//!
//! Nothing is dropped in silence: what no rule here knows is reported as such. Secrets are never copied; they become
//! references to environment variables. Pure: files are read and written by whoever calls.

pub mod litellm; // a LiteLLM proxy's config.yaml

mod field; // a value of the file with its place
mod yaml; // text of the new file

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use field::Field;

/// How well a field could be said in our words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It means the same.
    Exact,
    /// It means nearly the same; the reason says what differs.
    Changed,
    /// Nothing was written for it, or not enough; somebody has to decide.
    NeedsALook,
}

impl Verdict {
    pub const ALL: [Self; 3] = [Self::Exact, Self::Changed, Self::NeedsALook];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Changed => "changed",
            Self::NeedsALook => "needs a look",
        }
    }
}

/// What became of one field.
#[derive(Clone, Debug, Serialize)]
pub struct Note {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// Where in the old file: `model_list[0].litellm_params.rpm`.
    pub field: String,
    pub verdict: Verdict,
    /// Where it is now, such as `providers.openai.weight`; empty if nowhere.
    pub to: String,
    /// Empty where nothing needs saying.
    pub reason: String,
}

/// The new file and the account of the old one.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    pub yaml: String,
    /// In the order of the old file.
    pub notes: Vec<Note>,
    /// Environment variables that the new file refers to, with what they are for.
    pub variables: BTreeMap<String, String>,
}

impl Imported {
    pub fn count(&self, verdict: Verdict) -> usize {
        self.notes.iter().filter(|note| note.verdict == verdict).count()
    }
}

/// Words of the old file stand in comments of the new one, and on terminals.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).collect()
}

/// Collects what became of every field.
#[derive(Default)]
struct Account {
    notes: Vec<Note>,
    /// Files and paths that were spoken for, with everything below them.
    covered: BTreeSet<(String, String)>,
    variables: BTreeMap<String, String>,
}

impl Account {
    fn note(&mut self, field: &Field<'_>, verdict: Verdict, to: impl Into<String>, reason: impl Into<String>) {
        self.covered.insert((field.file.to_owned(), field.path.clone()));
        self.notes.push(Note {
            file: field.file.to_owned(),
            line: field.line,
            field: one_line(&field.path),
            verdict,
            to: one_line(&to.into()),
            reason: one_line(&reason.into()),
        });
    }

    fn exact(&mut self, field: &Field<'_>, to: impl Into<String>) {
        self.note(field, Verdict::Exact, to, "");
    }

    fn changed(&mut self, field: &Field<'_>, to: impl Into<String>, reason: impl Into<String>) {
        self.note(field, Verdict::Changed, to, reason);
    }

    fn look(&mut self, field: &Field<'_>, reason: impl Into<String>) {
        self.note(field, Verdict::NeedsALook, "", reason);
    }

    /// Everything below this field that nobody has spoken for is reported.
    fn sweep(&mut self, field: &Field<'_>, reason: &str) {
        if self.covered.contains(&(field.file.to_owned(), field.path.clone())) {
            return;
        }
        if field.is_nothing() && !field.path.is_empty() {
            return self.note(field, Verdict::Exact, "", "it says nothing");
        }
        let parts = field.parts();
        if parts.is_empty() {
            self.look(field, reason);
        }
        parts.iter().for_each(|part| self.sweep(part, reason));
    }
}
