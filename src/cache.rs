//! Not paying twice for the same answer.

pub mod settings;
