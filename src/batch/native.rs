//! Lines of a batch that a provider answers in a batch of its own, at a lower price.
//!
//! A *part* is what goes to one model of one provider together. Its lines are jobs like all others, taken in at the start,
//! but carried by the part: no worker claims them. When the provider has answered, they end, all facts of a page in one
//! transaction; what it did not answer is let go and becomes work like any other. So whatever happens to a part, no line is
//! lost, and none ends twice.

use std::time::Duration;

use crate::jobs::job::{End, Hold as JobHold, New};
use crate::ledger::journal::Answer;
use crate::units::Span;

/// Until when a line waits that a part carries: for ever, as far as workers are concerned. The end of the year 9999, in Unix
/// milliseconds.
pub const CARRIED_UNTIL_MS: i64 = 253_402_214_400_000;

/// What providers promise: a batch whose window is shorter cannot wait for them.
pub const SHORTEST_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// The `batches` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether providers' own batches are used where they are cheaper.
    pub native: Use,
    /// How often a provider is asked how far it is, at first; later a tenth of the time that has passed, up to ten times
    /// this. 1s to 1h.
    pub poll: Span,
    /// Fewer lines for one model are answered one by one. 1 to 50,000.
    pub min_lines: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { native: Use::Auto, poll: Span(Duration::from_secs(30)), min_lines: 1 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Auto,
    Never,
}

/// How far a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its lines are being taken in.
    Gathering,
    /// All of them are there; nothing was sent.
    Ready,
    /// The provider's batch is about to be made, or was made, and nobody has noted which it is. Its cost is held from here on.
    Creating,
    /// The provider works on it.
    Waiting,
    /// The provider has ended it, and its answers are being read.
    Collecting,
    /// No line is carried any more.
    Ended,
}

impl Phase {
    pub const ALL: [Self; 6] =
        [Self::Gathering, Self::Ready, Self::Creating, Self::Waiting, Self::Collecting, Self::Ended];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gathering => "gathering",
            Self::Ready => "ready",
            Self::Creating => "creating",
            Self::Waiting => "waiting",
            Self::Collecting => "collecting",
            Self::Ended => "ended",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == word)
    }

    /// Whether money may have been spent at the provider and is not all accounted for.
    pub fn is_committed(self) -> bool {
        matches!(self, Self::Creating | Self::Waiting | Self::Collecting)
    }
}

/// A part as it stands. Moments are Unix milliseconds, amounts billionths of a dollar.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Of the job that takes care of it, too.
    pub id: String,
    pub batch: String,
    pub provider: String,
    pub model: String,
    pub phase: Phase,
    /// Off the usual price, in millionths: what was in force when the lines were gathered.
    pub discount: u32,
    /// The provider's name for the file that was sent.
    pub remote_file: Option<String>,
    /// The provider's name for its batch.
    pub remote_batch: Option<String>,
    /// Lines that were sent.
    pub sent: i64,
    /// The most that they can cost; `None` if the model has no known price.
    pub worst: Option<i64>,
    /// Tokens that they are expected to take.
    pub tokens: i64,
    /// What those that have ended did cost, and the tokens that they took. Changed by [`Parts::end_lines`] alone.
    pub spent: i64,
    pub used: i64,
    /// Which server holds its money.
    pub holder: Option<String>,
    pub created: i64,
    /// When the provider's batch was about to be made.
    pub submitted: Option<i64>,
    pub ended: Option<i64>,
}

impl Part {
    /// A new one, without lines.
    pub fn new(id: String, batch: &str, provider: &str, model: &str, discount: u32, created: i64) -> Self {
        Self {
            id,
            batch: batch.to_owned(),
            provider: provider.to_owned(),
            model: model.to_owned(),
            phase: Phase::Gathering,
            discount,
            remote_file: None,
            remote_batch: None,
            sent: 0,
            worst: None,
            tokens: 0,
            spent: 0,
            used: 0,
            holder: None,
            created,
            submitted: None,
            ended: None,
        }
    }

    /// Makes one of these jobs a line of this part, as long as it is not let go.
    pub fn carry(&self, line: New) -> New {
        New {
            carried_by: Some(self.id.clone()),
            not_before_unix_ms: Some(CARRIED_UNTIL_MS),
            expires_unix_ms: None,
            ..line
        }
    }
}

/// A line of a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    pub job: String,
    pub place: i64,
    /// Sealed, as it was taken in.
    pub request: Vec<u8>,
    /// It has ended, though not by its part: its caller cancelled it.
    pub has_ended: bool,
}

/// What is added to a part's account with the lines that end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub money: i64,
    pub tokens: i64,
}

/// The port to where parts are kept. Implemented in `store`; every change and its events are one transaction.
pub trait Parts: Send + Sync {
    /// Begins a part. Does nothing if there is one with this id.
    fn begin<'a>(&'a self, part: &'a Part) -> Answer<'a, ()>;

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Part>>;

    /// Oldest first.
    fn of_batch<'a>(&'a self, batch: &'a str) -> Answer<'a, Vec<Part>>;

    /// Those that have not ended.
    fn open(&self) -> Answer<'_, Vec<Part>>;

    /// Notes everything that may change of a part, but for `spent` and `used`. With a hold of the part's job only while that
    /// is good: a server whose lease was lost does not undo what its successor notes. False: it is not, and nothing was
    /// noted.
    fn save<'a>(&'a self, part: &'a Part, hold: Option<&'a JobHold>) -> Answer<'a, bool>;

    /// Lines that wait for the part, in their order, behind a place.
    fn carried<'a>(&'a self, part: &'a str, behind: i64, most: usize) -> Answer<'a, Vec<Carried>>;

    /// How many lines wait for the part.
    fn count<'a>(&'a self, part: &'a str) -> Answer<'a, u64>;

    /// The line in this place, if the part carries it or it ended while the part did.
    fn line<'a>(&'a self, part: &'a str, place: i64) -> Answer<'a, Option<Carried>>;

    /// Ends lines that wait for the part; those that do not are passed by. Returns how many have ended.
    fn end_lines<'a>(&'a self, part: &'a str, ends: &'a [(String, End)], spent: Spent) -> Answer<'a, u64>;

    /// Lets lines go: from now on they are jobs like all others, which expire at this moment. `None`: all that still wait for
    /// the part. Returns how many.
    fn release<'a>(&'a self, part: &'a str, places: Option<&'a [i64]>, expires_unix_ms: i64) -> Answer<'a, u64>;

    /// Deletes parts that ended before a moment. Returns how many.
    fn forget_ended_before(&self, moment_ms: i64) -> Answer<'_, u64>;
}
