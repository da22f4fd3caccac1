//! A job, its states and how they change.

use serde::{Deserialize, Serialize};

use crate::events::{Event, Kind as Happened};

/// Who carries it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A caller's request.
    Request,
    /// Tells a caller's server how a request ended.
    Webhook,
    /// Makes jobs of a batch's lines.
    BatchStart,
    /// Writes a batch's results into files.
    BatchEnd,
    /// Goes on with a saga.
    Saga,
    /// Has a provider answer lines of a batch in a batch of its own.
    NativeBatch,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Request, Self::Webhook, Self::BatchStart, Self::BatchEnd, Self::Saga, Self::NativeBatch];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Webhook => "webhook",
            Self::BatchStart => "batch_start",
            Self::BatchEnd => "batch_end",
            Self::Saga => "saga",
            Self::NativeBatch => "native_batch",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Running,
    Completed,
    /// It cannot work out, however often it is tried.
    Failed,
    Cancelled,
    /// Nobody had come to it when its time was over.
    Expired,
    /// All of its attempts failed.
    Dead,
}

impl Status {
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::Expired, Self::Dead];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Dead => "dead",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The state after an event; `None` if that event has nothing to do with it.
    pub fn after(happened: Happened) -> Option<Self> {
        Some(match happened {
            Happened::Queued
            | Happened::RetryScheduled
            | Happened::LeaseExpired
            | Happened::Deferred
            | Happened::Released
            | Happened::Requeued => Self::Queued,
            Happened::Started => Self::Running,
            Happened::Completed => Self::Completed,
            Happened::Failed | Happened::Discarded => Self::Failed,
            Happened::Cancelled => Self::Cancelled,
            Happened::Expired => Self::Expired,
            Happened::DeadLettered => Self::Dead,
            _ => return None,
        })
    }

    /// The state that a job's history tells.
    pub fn told<'a>(history: impl IntoIterator<Item = &'a Event>) -> Option<Self> {
        history.into_iter().filter_map(|event| Self::after(event.kind)).last()
    }
}

/// A job that is to be taken in.
#[derive(Clone, Debug, PartialEq)]
pub struct New {
    /// Unique among all jobs: who sends the same twice has it done once.
    pub id: String,
    pub kind: Kind,
    /// The name of the key whose job it is; `None` without a credential.
    pub key: Option<String>,
    /// The batch or saga that it belongs to, and its place there.
    pub part_of: Option<(String, i64)>,
    /// Higher goes first; -100 to 100.
    pub priority: i16,
    pub not_before_unix_ms: Option<i64>,
    /// If nobody has come to it by then, it ends as expired.
    pub expires_unix_ms: Option<i64>,
    /// How often it may be begun, crashes included.
    pub max_attempts: u32,
    /// What it is about, sealed.
    pub request: Vec<u8>,
    /// Its end is to be told.
    pub webhook: bool,
    /// The job that waits for its answer: until that one lets it go, no worker claims it.
    pub carried_by: Option<String>,
}

/// A job as it stands, without what it is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    pub id: String,
    pub kind: Kind,
    pub status: Status,
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<i64>,
    pub priority: i16,
    /// How often it was begun.
    pub attempts: u32,
    pub max_attempts: u32,
    pub created_unix_ms: i64,
    pub not_before_unix_ms: i64,
    pub expires_unix_ms: Option<i64>,
    pub ended_unix_ms: Option<i64>,
    /// Of the answer, if there is one.
    pub http_status: Option<u16>,
    /// Why it is not completed: a code and a sentence, without secrets.
    pub error: Option<String>,
    #[serde(skip)]
    pub webhook: bool,
    /// Where a list continues.
    #[serde(skip)]
    pub seq: i64,
}

/// The right to end a job: void as soon as another one has claimed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub id: String,
    /// Counts the claims of the job.
    pub fence: i64,
}

/// A job in a worker's hands.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub job: Job,
    pub hold: Hold,
    /// As it was given in [`New::request`].
    pub request: Vec<u8>,
}

/// What becomes of a job that a worker holds.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Completed {
        http_status: u16,
        result: Vec<u8>,
    },
    /// It would fail again.
    Failed {
        http_status: Option<u16>,
        error: String,
        result: Vec<u8>,
    },
    /// It may work later. With no attempt left it goes to the dead letters.
    Again {
        after_ms: i64,
        http_status: Option<u16>,
        error: String,
        result: Vec<u8>,
    },
    /// There was no room for it, which is nobody's failure: that was no attempt.
    Deferred {
        after_ms: i64,
        reason: String,
    },
    /// The worker stops: that was no attempt.
    Released,
    /// It goes on when one of its parts has ended: that was no attempt.
    Waits {
        /// Jobs that are part of it.
        parts: Vec<String>,
    },
    /// Nobody wants it any more.
    Cancelled {
        reason: String,
    },
}

impl End {
    /// What is written of it, given whether another attempt is left.
    pub fn happened(&self, is_last: bool) -> Happened {
        match self {
            Self::Completed { .. } => Happened::Completed,
            Self::Failed { .. } => Happened::Failed,
            Self::Again { .. } if is_last => Happened::DeadLettered,
            Self::Again { .. } => Happened::RetryScheduled,
            Self::Deferred { .. } | Self::Waits { .. } => Happened::Deferred,
            Self::Released => Happened::Released,
            Self::Cancelled { .. } => Happened::Cancelled,
        }
    }
}
