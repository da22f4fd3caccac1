//! What requests under way may cost, where a crash does not take it: the port to a log of holds.
//!
//! An account lives in memory and is opened from the ledger. A request that was under way when the process was killed is
//! not in the ledger, and has perhaps been paid for: the log remembers it, and the next start writes its row.

use serde::{Deserialize, Serialize};

/// A hold as it is opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// The request, by its id and when it came (Unix milliseconds).
    pub id: String,
    pub began_unix_ms: i64,
    /// The most that it may cost, billionths of a dollar.
    pub worst: i64,
    pub key: Option<String>,
    pub team: Option<String>,
    pub tier: Option<String>,
    pub tags: String,
    /// Who is asked first.
    pub provider: String,
    pub model: String,
}

/// What the request of a hold used in the end: all that a row needs so that sums stay right if it is never saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    pub id: String,
    pub began_unix_ms: i64,
    /// Billionths of a dollar. `None`: whoever answered has no known price.
    pub cost: Option<i64>,
    /// What follows is missing in older logs.
    #[serde(flatten)]
    pub used: Used,
    /// Who answered; empty if nobody did.
    #[serde(default)]
    pub provider: String,
    #[serde(default)]
    pub model: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Used {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub reasoning_tokens: u64,
    pub estimated: bool,
}

impl Settled {
    /// Nothing that a report would count.
    pub fn is_nothing(&self) -> bool {
        self.cost.unwrap_or(0) == 0 && self.used.prompt_tokens == 0 && self.used.completion_tokens == 0
    }
}

/// Where holds are written down. Both calls return at once and never fail a request: a log that cannot be written is a
/// matter for the operator.
pub trait Log: Send + Sync {
    fn opened(&self, hold: &Opened);

    /// The request has ended and its row is on its way into the ledger.
    fn settled(&self, end: &Settled);
}

/// Of a process that did not come to write the row.
#[derive(Clone, Debug, PartialEq)]
pub struct Orphan {
    pub hold: Opened,
    /// What it used, if that was known.
    pub end: Option<Settled>,
}
