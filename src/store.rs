//! Where things are kept for good: implements the ports that lower modules declare. All SQL is here.

pub mod holds; // what requests under way may cost
pub mod sqlite; // one file, embedded
