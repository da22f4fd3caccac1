//! Which task a prompt belongs to.

pub mod settings;
