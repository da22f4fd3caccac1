//! Files of callers and of batches, and the port to where they are kept.

use serde_json::{Value, json};

use crate::ledger::journal::Answer;

/// What a file is for, in OpenAI's words.
pub const PURPOSES: [&str; 7] = ["batch", "batch_output", "assistants", "fine-tune", "vision", "user_data", "evals"];

/// Bytes of a piece, before it is sealed. What is held in memory for each upload or download.
pub const PIECE: usize = 256 << 10;

/// Longest file: OpenAI's limit for the input of a batch is 200 MB.
pub const LARGEST: u64 = 512 << 20;

/// A file as it stands. Moments are Unix milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub id: String,
    /// The name of the key whose file it is.
    pub key: Option<String>,
    pub name: String,
    pub purpose: String,
    pub bytes: u64,
    pub created: i64,
    pub expires: Option<i64>,
    /// All pieces are there. Others are not shown, and go after a day.
    pub whole: bool,
}

impl File {
    /// The object of OpenAI's API.
    pub fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created.div_euclid(1000),
            "expires_at": self.expires.map(|ms| ms.div_euclid(1000)),
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        })
    }
}

/// What became of a file that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    Gone,
    /// A batch reads its lines.
    InUse,
    Unknown,
}

impl Deleted {
    pub fn of(is_read: bool, was_there: bool) -> Self {
        match (is_read, was_there) {
            (true, _) => Self::InUse,
            (false, true) => Self::Gone,
            (false, false) => Self::Unknown,
        }
    }
}

/// Which files a list shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub key: Option<String>,
    pub purpose: Option<String>,
    /// The last one of the page before.
    pub after: Option<String>,
    /// Oldest first.
    pub ascending: bool,
}

/// Implemented in `store`. Pieces are sealed before they come here.
pub trait Files: Send + Sync {
    /// Begins a file. One with this id that was not finished is begun anew.
    fn begin<'a>(&'a self, file: &'a File) -> Answer<'a, ()>;

    fn put<'a>(&'a self, id: &'a str, place: i64, piece: &'a [u8]) -> Answer<'a, ()>;

    /// All pieces are there, and only now is it known how long the file is, what for and until when.
    fn finish<'a>(&'a self, file: &'a File) -> Answer<'a, ()>;

    /// Only if it is whole.
    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<File>>;

    /// `None` behind the last one.
    fn piece<'a>(&'a self, id: &'a str, place: i64) -> Answer<'a, Option<Vec<u8>>>;

    fn list<'a>(&'a self, filter: &'a Filter, most: usize) -> Answer<'a, Vec<File>>;

    /// Not while a batch reads it: its lines would be done, and the batch be refused for those that are missing.
    fn delete<'a>(&'a self, id: &'a str) -> Answer<'a, Deleted>;

    /// Deletes what has expired, and what was begun more than a day ago and never finished. Returns how many.
    fn forget_expired(&self, now_ms: i64) -> Answer<'_, u64>;
}
