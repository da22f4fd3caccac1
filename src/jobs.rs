//! Requests that are answered later: taken in for good before they are acknowledged, done at least once by workers that
//! compete for them, ended exactly once.
//!
//! What a job is about, nobody here knows: who takes it in gives sealed bytes, and whoever can carry it out
//! ([`worker::Execute`]) gets them back. A worker holds a job by a lease and a fence: who loses the lease can end nothing
//! any more. A crash is an attempt; a job that has none left goes to the dead letters, where an operator finds it.

pub mod bell; // wakes whoever waits for a job
pub mod job; // a job, its states and how they change
pub mod queue; // the port: where jobs are kept
pub mod replay; // what events tell, at any moment
pub mod settings; // what the configuration says
pub mod wish; // when a caller wants it done
pub mod worker; // claims, carries out, ends
