//! Where things are kept for good: implements the ports that lower modules declare. All SQL is here,
//! and all of Redis.

pub mod holds; // what requests under way may cost
pub mod redis; // what all replicas share
pub mod sqlite; // one file, embedded
