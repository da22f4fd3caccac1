//! Where things are kept for good: implements the ports that lower modules declare. All SQL is here, all of Redis, and
//! all of NATS.

pub mod holds; // what requests under way may cost
pub mod nats; // what hands jobs out, and is told of events
pub mod redis; // what all replicas share

mod follow_up; // what follows from what happens to a job
mod rows; // a request's row as SQL has it
mod sums; // what a report is made of

pub mod postgres; // a server, shared by several of ours
pub mod sqlite; // one file, embedded

mod chosen; // the one of a configuration

pub use chosen::{Home, Store};

/// Whether a batch reads the lines of the file `$1`.
const IS_READ: &str =
    "SELECT EXISTS (SELECT 1 FROM batch WHERE input_file = $1 AND started_unix_ms IS NULL AND ended_unix_ms IS NULL)";

/// Of what is not kept any longer, deleted in one transaction: others wait for its locks, some ten milliseconds.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

#[cfg(test)]
mod tests;
