//! Which targets may answer, and in what order.

pub mod settings;
