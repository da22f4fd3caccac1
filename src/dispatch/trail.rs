//! What has been tried for one request: kept where it survives a caller who leaves in the middle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::catalog::{Format, Target, TargetId};
use crate::provider::failure::{Failure, FailureKind};
use crate::telemetry::trace::{SpanId, Trace};

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
    /// In the trace that the request belongs to.
    #[serde(skip)]
    pub span: Option<SpanId>,
    /// After the request came in; and the same of the end, of the moment when the request was on its way to the provider,
    /// and of the one when its answer (of a stream, the first content) was here.
    #[serde(skip)]
    pub began: Duration,
    #[serde(skip)]
    pub ended: Duration,
    #[serde(skip)]
    pub sent: Option<Instant>,
    #[serde(skip)]
    pub heard: Option<Instant>,
    /// It opened the breaker of its target.
    #[serde(skip)]
    pub opened: bool,
}

#[derive(Debug)]
pub struct Trail {
    began: Instant,
    trace: Option<Arc<Trace>>,
    attempts: Mutex<Vec<Attempt>>,
}

impl Trail {
    pub fn new(began: Instant, trace: Option<Arc<Trace>>) -> Self {
        Self { began, trace, attempts: Mutex::new(Vec::new()) }
    }

    /// The trace that the request belongs to.
    pub fn trace(&self) -> Option<&Arc<Trace>> {
        self.trace.as_ref()
    }

    /// From the first request that was sent to the last thing that was heard; `None` if nobody was asked.
    pub fn upstream(&self) -> Option<Duration> {
        let attempts = self.attempts.lock();
        let first = attempts.iter().filter_map(|attempt| attempt.sent).min()?;
        let ended = |attempt: &Attempt| attempt.heard.unwrap_or(self.began + attempt.ended);
        let last = attempts.iter().filter(|attempt| attempt.sent.is_some()).map(ended).max()?;
        Some(last.saturating_duration_since(first))
    }

    /// An attempt begins. Dropped without a word, it is noted as one that nobody waited for.
    pub fn begin<'a>(&'a self, target: &'a Target, started: Instant) -> Trying<'a> {
        let span = self.trace.as_ref().and_then(|trace| trace.attempt());
        Trying { trail: self, target, started, span, moments: Moments::default(), noted: false }
    }

    /// An answer that was noted as good has failed after all: its stream was cut.
    pub fn spoil(&self, now: Instant, failure: &Failure) {
        let mut attempts = self.attempts.lock();
        // The one that answered; beside it only those that it outran.
        if let Some(last) = attempts.iter_mut().rev().find(|attempt| !attempt.outrun) {
            last.kind = Some(failure.kind);
            last.message = Some(failure.message.clone());
            last.ended = now.saturating_duration_since(self.began);
            last.duration_ms = millis(last.ended).saturating_sub(last.started_ms);
        }
    }

    /// The last attempt at `target` opened its breaker.
    pub fn opened(&self, target: &TargetId) {
        if let Some(last) = self.attempts.lock().iter_mut().rev().find(|attempt| attempt.target == *target) {
            last.opened = true;
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

/// When the request of an attempt was sent, and its answer heard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    pub sent: Option<Instant>,
    pub heard: Option<Instant>,
}

/// An attempt under way.
pub struct Trying<'a> {
    trail: &'a Trail,
    target: &'a Target,
    started: Instant,
    /// In the trace that the request belongs to.
    pub span: Option<SpanId>,
    pub moments: Moments,
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
            span: self.span,
            began: self.started.saturating_duration_since(self.trail.began),
            ended: now.saturating_duration_since(self.trail.began),
            sent: self.moments.sent.or(abandoned.then_some(self.started)),
            heard: self.moments.heard,
            opened: false,
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
