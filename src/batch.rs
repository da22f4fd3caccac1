//! Many requests in one file, answered into another one: OpenAI's files and batches, over any provider.
//!
//! A batch is a file whose lines become jobs; what the jobs gave becomes two files more. Nothing here holds more than a
//! piece of a file at once, however long it is.

pub mod file; // files, and the port to where they are kept
pub mod line; // a line of an input file, a line of an output file
pub mod native; // lines that a provider answers in a batch of its own

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::jobs::job::Status as JobStatus;
use crate::ledger::journal::Answer;

/// OpenAI's words, and what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its lines are being read.
    Validating,
    /// Its lines were wrong; none was done.
    Failed,
    InProgress,
    /// All lines have ended; the files are being written.
    Finalizing,
    Completed,
    /// Its time was over; what was done is in its files.
    Expired,
    Cancelling,
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Validating,
        Self::Failed,
        Self::InProgress,
        Self::Finalizing,
        Self::Completed,
        Self::Expired,
        Self::Cancelling,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::Finalizing => "finalizing",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    pub fn has_ended(self) -> bool {
        matches!(self, Self::Failed | Self::Completed | Self::Expired | Self::Cancelled)
    }
}

/// What a caller wants of providers' own batches: the header `x-stepwell-batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// However few lines there are.
    Wanted,
    Never,
}

impl Native {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "native",
            Self::Never => "never",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Wanted, Self::Never].into_iter().find(|native| native.as_str() == word)
    }
}

/// A batch as it stands. Moments are Unix milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub id: String,
    pub key: Option<String>,
    /// Of every line, such as `/v1/chat/completions`.
    pub endpoint: String,
    pub input_file: String,
    pub completion_window: String,
    pub status: Status,
    pub total: i64,
    pub completed: i64,
    pub failed: i64,
    pub output_file: Option<String>,
    pub error_file: Option<String>,
    /// What was wrong with the lines.
    pub errors: Vec<LineError>,
    /// The caller's own, as JSON.
    pub metadata: Option<String>,
    /// Whether its caller wants providers' own batches used; `None`: as the configuration says.
    pub native: Option<Native>,
    /// Whose limits and budgets it goes by, sealed.
    pub owner: Vec<u8>,
    pub created: i64,
    pub expires: i64,
    pub started: Option<i64>,
    pub finalizing: Option<i64>,
    pub cancelling: Option<i64>,
    pub ended: Option<i64>,
    /// Where a list continues.
    pub seq: i64,
}

/// Why a line cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineError {
    pub code: String,
    pub message: String,
    /// Counted from 1.
    pub line: Option<i64>,
}

impl Batch {
    /// A new one, which nobody has looked into yet.
    pub fn new(id: String, endpoint: &str, input_file: &str, created: i64, expires: i64) -> Self {
        Self {
            id,
            key: None,
            endpoint: endpoint.to_owned(),
            input_file: input_file.to_owned(),
            completion_window: "24h".to_owned(),
            status: Status::Validating,
            total: 0,
            completed: 0,
            failed: 0,
            output_file: None,
            error_file: None,
            errors: Vec::new(),
            metadata: None,
            native: None,
            owner: Vec::new(),
            created,
            expires,
            started: None,
            finalizing: None,
            cancelling: None,
            ended: None,
            seq: 0,
        }
    }

    /// The object of OpenAI's API.
    pub fn shown(&self) -> Value {
        let seconds = |ms: Option<i64>| ms.map(|ms| ms.div_euclid(1000));
        let ended = |status: Status| seconds(self.ended.filter(|_| self.status == status));
        let errors: Vec<Value> = self
            .errors
            .iter()
            .map(|error| json!({"code": error.code, "message": error.message, "line": error.line, "param": null}))
            .collect();
        let metadata = self.metadata.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        json!({
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": (!errors.is_empty()).then(|| json!({"object": "list", "data": errors})),
            "input_file_id": self.input_file,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "created_at": seconds(Some(self.created)),
            "in_progress_at": seconds(self.started),
            "expires_at": seconds(Some(self.expires)),
            "finalizing_at": seconds(self.finalizing),
            "completed_at": ended(Status::Completed),
            "failed_at": ended(Status::Failed),
            "expired_at": ended(Status::Expired),
            "cancelling_at": seconds(self.cancelling),
            "cancelled_at": ended(Status::Cancelled),
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": metadata,
        })
    }
}

/// A line of a batch that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub job: String,
    pub place: i64,
    pub status: JobStatus,
    pub http_status: Option<u16>,
    pub error: Option<String>,
    /// Sealed, as it was taken in.
    pub request: Vec<u8>,
    /// Sealed.
    pub result: Option<Vec<u8>>,
}

/// The port to where batches are kept. Implemented in `store`; every change and its event are one transaction.
pub trait Batches: Send + Sync {
    /// Takes a batch in, and the job that reads its lines.
    fn create<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()>;

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Batch>>;

    /// Newest first; those older than the batch `after`. `key`: of this key only.
    fn list<'a>(&'a self, key: Option<&'a str>, after: Option<&'a str>, most: usize) -> Answer<'a, Vec<Batch>>;

    /// All lines are jobs now. Does nothing if it was said before.
    fn start<'a>(&'a self, id: &'a str, total: i64) -> Answer<'a, ()>;

    /// The lines are wrong. Does nothing if the batch has started.
    fn refuse<'a>(&'a self, id: &'a str, errors: &'a [LineError]) -> Answer<'a, ()>;

    /// No more lines are to be done. Changes nothing about a batch that has ended or is about to.
    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Batch>>;

    /// Lines that have ended, in their order, behind a place.
    fn ended<'a>(&'a self, id: &'a str, behind: i64, most: usize) -> Answer<'a, Vec<Ended>>;

    /// The files are there. Does nothing if it was said before.
    fn finish<'a>(&'a self, id: &'a str, output: Option<&'a str>, error: Option<&'a str>) -> Answer<'a, ()>;
}
