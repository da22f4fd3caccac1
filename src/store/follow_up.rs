//! What follows from what happens to a job, whichever the database: how its end is written down, what is told of it, and
//! which jobs it makes.

use crate::events::{Facts, Kind as Happened, facts};
use crate::jobs::job::{End, Job, Kind, New};

/// Whoever waits for a part is woken when it ends; this is for the case that nobody does.
pub const LONGEST_WAIT_MS: i64 = 60_000;
/// With the configured pauses, from a second to five minutes, about an hour.
const WEBHOOK_ATTEMPTS: u32 = 20;
/// Reading and writing a batch's files is worth as many attempts as it takes to get over an outage of the store.
const BATCH_ATTEMPTS: u32 = 100;

/// How a claim ends.
#[derive(Clone, Debug)]
pub struct Outcome<'e> {
    pub happened: Happened,
    pub http_status: Option<u16>,
    pub error: Option<String>,
    pub result: Option<&'e [u8]>,
}

impl<'e> Outcome<'e> {
    /// Of a job that was held.
    pub fn of(job: &Job, end: &'e End) -> Self {
        let happened = end.happened(job.attempts >= job.max_attempts);
        let (http_status, error, result) = match end {
            End::Completed { http_status, result } => (Some(*http_status), None, Some(result.as_slice())),
            End::Failed { http_status, error, result } | End::Again { http_status, error, result, .. } => {
                (*http_status, Some(error.clone()), Some(result.as_slice()).filter(|result| !result.is_empty()))
            }
            End::Deferred { reason, .. } | End::Cancelled { reason } => (None, Some(reason.clone()), None),
            End::Released | End::Waits { .. } => (None, None, None),
        };
        Self { happened, http_status, error, result }
    }

    /// Without an answer.
    pub fn bare(happened: Happened, error: Option<String>) -> Self {
        Self { happened, http_status: None, error, result: None }
    }

    pub fn cancelled() -> Self {
        Self::bare(Happened::Cancelled, Some("cancelled: as was asked".to_owned()))
    }

    pub fn expired() -> Self {
        Self::bare(Happened::Expired, Some("expired: its time was over before it could be done".to_owned()))
    }

    /// Of a job whose last attempt was its worker's end.
    pub fn worker_lost(job: &Job) -> Self {
        let error = format!("worker_lost: its worker was not heard of, {} times", job.attempts);
        Self::bare(Happened::DeadLettered, Some(error))
    }

    /// What is told if it is the end of the job.
    pub fn facts_at_end(&self, job: &Job) -> Facts {
        facts([
            ("attempt", Some(job.attempts).filter(|attempts| *attempts > 0).into()),
            ("http_status", self.http_status.into()),
            ("error", self.error.clone().into()),
        ])
    }

    /// What is told if the job waits for another claim.
    pub fn facts_of_wait(&self, job: &Job, wait: &Wait) -> Facts {
        facts([
            ("attempt", Some(job.attempts).filter(|_| wait.was_attempt).into()),
            ("due_unix_ms", wait.due_unix_ms.into()),
            ("http_status", self.http_status.into()),
            ("error", self.error.clone().into()),
        ])
    }
}

/// When a job goes on that has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub due_unix_ms: i64,
    pub was_attempt: bool,
}

impl Wait {
    /// `part_has_ended`: one of the parts that it waits for.
    pub fn of(end: &End, part_has_ended: bool, now_ms: i64) -> Self {
        let (after_ms, was_attempt) = match end {
            End::Again { after_ms, .. } => (*after_ms, true),
            End::Deferred { after_ms, .. } => (*after_ms, false),
            // It may have ended while this was decided.
            End::Waits { .. } => (if part_has_ended { 0 } else { LONGEST_WAIT_MS }, false),
            _ => (0, false),
        };
        Self { due_unix_ms: now_ms.saturating_add(after_ms), was_attempt }
    }
}

/// What is told of a job that was taken in.
pub fn facts_of_new(job: &New, now_ms: i64) -> Facts {
    let delayed = job.not_before_unix_ms.filter(|not_before| *not_before > now_ms && job.carried_by.is_none());
    facts([
        ("job", job.kind.as_str().into()),
        ("priority", Some(job.priority).filter(|priority| *priority != 0).into()),
        ("not_before_unix_ms", delayed.into()),
        ("part_of", job.part_of.as_ref().map(|(whole, _)| whole.clone()).into()),
        ("carried_by", job.carried_by.clone().into()),
    ])
}

/// Tells a caller's server that its request has ended.
pub fn delivery(job: &Job, now_ms: i64) -> New {
    New {
        key: job.key.clone(),
        priority: job.priority,
        max_attempts: WEBHOOK_ATTEMPTS,
        ..internal(format!("{}.webhook.{now_ms}", job.id), Kind::Webhook, &job.id)
    }
}

/// Reads a batch's lines, or writes its files.
pub fn of_batch(batch: &str, kind: Kind) -> New {
    New { max_attempts: BATCH_ATTEMPTS, ..internal(format!("{batch}.{}", kind.as_str()), kind, batch) }
}

fn internal(id: String, kind: Kind, part_of: &str) -> New {
    New {
        id,
        kind,
        key: None,
        part_of: Some((part_of.to_owned(), 0)),
        priority: 0,
        not_before_unix_ms: None,
        expires_unix_ms: None,
        max_attempts: 1,
        request: Vec::new(),
        webhook: false,
        carried_by: None,
    }
}
