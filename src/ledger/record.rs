//! One request's row.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::timing::Timing;
use crate::money::NanoUsd;
use crate::telemetry::settings::Settings as Telemetry;
use crate::telemetry::trace::{Parent, SpanId, Trace};
use crate::tenant::Tenant;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Still running; never stored.
    InProgress,
    /// A whole answer was delivered.
    Completed,
    /// The stream was cut after content had been delivered; the caller was told.
    Interrupted,
    /// The caller left before the end (499).
    ClientClosed,
    /// No provider answered; the caller got an error.
    Failed,
    /// The request was refused before any provider was asked: invalid, unknown model, impossible hints, all targets out.
    Rejected,
}

impl Status {
    pub const ALL: [Self; 6] =
        [Self::InProgress, Self::Completed, Self::Interrupted, Self::ClientClosed, Self::Failed, Self::Rejected];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::ClientClosed => "client_closed",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether the caller got less than a whole answer, and it was not the caller who ended it.
    pub fn is_error(self) -> bool {
        matches!(self, Self::Interrupted | Self::Failed | Self::Rejected)
    }
}

/// How the cache took part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheUse {
    Hit,
    #[default]
    Miss,
    /// Joined an identical request in flight.
    Coalesced,
    /// Neither read nor written.
    Bypass,
}

impl CacheUse {
    pub const ALL: [Self; 4] = [Self::Hit, Self::Miss, Self::Coalesced, Self::Bypass];

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cache| cache.as_str() == word)
    }

    /// The answer was bought for this request, not taken from another one.
    pub fn is_bought(self) -> bool {
        matches!(self, Self::Miss | Self::Bypass)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Bypass => "bypass",
        }
    }
}

/// One try at one target.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct AttemptRow {
    pub provider: String,
    pub model: String,
    /// The provider's HTTP status, if there was one.
    pub status: Option<u16>,
    /// `None`: it answered. Else the failure kind, such as `rate_limited`.
    pub kind: Option<String>,
    /// After the request came in.
    pub started_ms: u64,
    pub duration_ms: u64,
    /// What went wrong, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// For its span; not kept.
    #[serde(skip)]
    pub span: Option<SpanId>,
    /// The same times exactly, for the span; not kept.
    #[serde(skip)]
    pub began: Duration,
    #[serde(skip)]
    pub ended: Duration,
    /// It opened its target's breaker; not kept.
    #[serde(skip)]
    pub opened: bool,
}

/// What a trace says of an answer beside the row. Made only for requests that are traced.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// The provider's id.
    pub id: String,
    /// The model in the provider's own words.
    pub model: String,
    /// Why each choice ended.
    pub finish: Vec<&'static str>,
}

/// The decision behind a row; turned into JSON (the shape of `POST /v1/route`) by the writer, off the hot path.
pub trait Decision: Send + Sync {
    fn json(&self) -> String;
}

impl std::fmt::Debug for dyn Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decision(..)")
    }
}

/// One request. Times in Unix milliseconds and milliseconds.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: Arc<str>,
    pub started_unix_ms: i64,
    /// The caller's key name; `None` without authentication.
    pub key: Option<Arc<str>>,
    pub team: Option<Arc<str>>,
    pub tier: Option<Arc<str>>,
    /// Of the key, comma separated.
    pub tags: Arc<str>,
    /// What the caller wrote in `model`.
    pub asked_model: String,
    pub stream: bool,
    pub status: Status,
    /// The HTTP status that the caller saw; 499 if it left before.
    pub http_status: u16,
    /// The error's `code` for everything but completed requests.
    pub error: Option<String>,
    /// Empty if nothing was decided.
    pub task: Arc<str>,
    pub task_confidence: f64,
    pub strategy: &'static str,
    /// Who answered, or was asked last; empty if nobody was.
    pub provider: Arc<str>,
    pub model: String,
    /// The answer came from the embedded demo provider: never part of real totals.
    pub demo: bool,
    pub cache: CacheUse,
    pub attempts: Vec<AttemptRow>,
    /// Targets that failed before another one answered.
    pub failovers: u32,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub reasoning_tokens: u64,
    /// The counts are ours, not the provider's.
    pub estimated_usage: bool,
    /// `None`: tokens were used and the model has no known price. Zero only if nothing was used, for a hit, or if free.
    pub cost: Option<NanoUsd>,
    /// What a cache hit or a shared flight would have cost; `None` if unknown.
    pub saved_by_cache: Option<NanoUsd>,
    /// Against always using the dearest candidate; never negative.
    pub saved_by_routing: Option<NanoUsd>,
    pub first_token_ms: Option<u64>,
    pub total_ms: u64,
    /// One sentence.
    pub reason: String,
    pub decision: Option<Arc<dyn Decision>>,
    /// The dialect in which it was asked, such as `chat`.
    pub ingress: &'static str,
    /// `None`: it belongs to no trace.
    pub trace: Option<Arc<Trace>>,
    pub timing: Timing,
    pub answered: Option<Box<Answered>>,
    /// What guards found, as names and counts (`mail=2`); empty for nothing.
    pub guards: String,
    /// Bought at other than the usual terms, in OpenAI's word: `batch`, of a provider's own batch. Its times say how long the
    /// answer was waited for, and are in no report of latencies.
    pub service_tier: Option<&'static str>,
}

/// [`Record::service_tier`] of what a provider answered in a batch of its own.
pub const BATCH_TIER: &str = "batch";

/// How a request came, known before it is read.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The dialect in which it was asked, such as `chat`.
    pub ingress: &'static str,
    /// The caller's own span.
    pub parent: Option<Parent>,
    /// How long its body took to arrive.
    pub reading: Duration,
}

impl Record {
    /// Notes who asked.
    pub fn is_of(&mut self, tenant: &Tenant) {
        self.key.clone_from(&tenant.name);
        self.team.clone_from(&tenant.team);
        self.tier.clone_from(&tenant.tier);
        self.tags.clone_from(&tenant.tags);
    }

    /// Adds what this request is to be counted under to the tags of its key.
    pub fn add_tags(&mut self, tags: &[String]) {
        if tags.is_empty() {
            return;
        }
        let mut all: Vec<&str> = self.tags.split(',').filter(|tag| !tag.is_empty()).collect();
        all.extend(tags.iter().map(String::as_str));
        all.sort_unstable();
        all.dedup();
        self.tags = all.join(",").into();
    }

    /// Notes how it came, and which trace it belongs to.
    pub fn arrived(&mut self, arrival: &Arrival, telemetry: &Telemetry) {
        self.ingress = arrival.ingress;
        self.timing.reading = arrival.reading;
        self.trace = Trace::begin(arrival.parent.clone(), telemetry).map(Arc::new);
    }

    /// A row about which nothing is known yet.
    pub fn new(id: Arc<str>, started_unix_ms: i64) -> Self {
        Self {
            id,
            started_unix_ms,
            key: None,
            team: None,
            tier: None,
            tags: "".into(),
            asked_model: String::new(),
            stream: false,
            status: Status::InProgress,
            http_status: 0,
            error: None,
            task: "".into(),
            task_confidence: 0.0,
            strategy: "",
            provider: "".into(),
            model: String::new(),
            demo: false,
            cache: CacheUse::Bypass,
            attempts: Vec::new(),
            failovers: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            cached_tokens: 0,
            reasoning_tokens: 0,
            estimated_usage: false,
            cost: Some(NanoUsd::ZERO),
            saved_by_cache: None,
            saved_by_routing: None,
            first_token_ms: None,
            total_ms: 0,
            reason: String::new(),
            decision: None,
            ingress: "",
            trace: None,
            timing: Timing::default(),
            answered: None,
            guards: String::new(),
            service_tier: None,
        }
    }
}
