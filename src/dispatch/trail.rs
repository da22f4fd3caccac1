//! What has been tried for one request: kept where it survives a caller who leaves in the middle.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::catalog::{Format, Target, TargetId};
use crate::provider::failure::{Failure, FailureKind};

/// One try at one target.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    #[serde(skip)]
    pub target: TargetId,
    /// Played by the embedded demo provider.
    #[serde(skip)]
    pub demo: bool,
    /// Nobody waited for its end.
    #[serde(skip)]
    pub abandoned: bool,
    /// It was abandoned because the other one of a hedge was faster.
    #[serde(skip)]
    pub outrun: bool,
    pub provider: String,
    pub model: String,
    /// The provider's HTTP status, if there was one.
    pub status: Option<u16>,
    /// `None`: it answered.
    pub kind: Option<FailureKind>,
    /// After the request came in.
    pub started_ms: u64,
    pub duration_ms: u64,
    /// What went wrong, in words that hold no secret. For `explain`, not for callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Debug)]
pub struct Trail {
    began: Instant,
    attempts: Mutex<Vec<Attempt>>,
}

impl Trail {
    pub fn new(began: Instant) -> Self {
        Self { began, attempts: Mutex::new(Vec::new()) }
    }

    /// An attempt begins. Dropped without a word, it is noted as one that nobody waited for.
    pub fn begin<'a>(&'a self, target: &'a Target, started: Instant) -> Trying<'a> {
        Trying { trail: self, target, started, noted: false }
    }

    /// An answer that was noted as good has failed after all: its stream was cut.
    pub fn spoil(&self, now: Instant, failure: &Failure) {
        let mut attempts = self.attempts.lock();
        // The one that answered; beside it only those that it outran.
        if let Some(last) = attempts.iter_mut().rev().find(|attempt| !attempt.outrun) {
            last.kind = Some(failure.kind);
            last.message = Some(failure.message.clone());
            last.duration_ms = millis(now.saturating_duration_since(self.began)).saturating_sub(last.started_ms);
        }
    }

    /// The attempt at `target` that was just abandoned lost to a faster one.
    pub fn outrun(&self, target: &TargetId) {
        let mut attempts = self.attempts.lock();
        if let Some(last) = attempts.iter_mut().rev().find(|attempt| attempt.abandoned && attempt.target == *target) {
            last.outrun = true;
        }
    }

    pub fn len(&self) -> usize {
        self.attempts.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn list(&self) -> Vec<Attempt> {
        self.attempts.lock().clone()
    }
}

/// An attempt under way.
pub struct Trying<'a> {
    trail: &'a Trail,
    target: &'a Target,
    started: Instant,
    noted: bool,
}

impl Trying<'_> {
    pub fn ended(mut self, now: Instant, status: Option<u16>, failure: Option<&Failure>) {
        self.note(now, status, failure, false);
    }

    fn note(&mut self, now: Instant, status: Option<u16>, failure: Option<&Failure>, abandoned: bool) {
        self.noted = true;
        let id = &self.target.id;
        self.trail.attempts.lock().push(Attempt {
            target: id.clone(),
            demo: self.target.provider.format == Format::Demo,
            abandoned,
            outrun: false,
            provider: id.provider().to_owned(),
            model: id.model().to_owned(),
            status: failure.map_or(status, |failure| failure.status),
            kind: failure.map(|failure| failure.kind),
            started_ms: millis(self.started.saturating_duration_since(self.trail.began)),
            duration_ms: millis(now.saturating_duration_since(self.started)),
            message: failure.map(|failure| failure.message.clone()),
        });
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if !self.noted {
            self.note(Instant::now(), None, None, true);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
