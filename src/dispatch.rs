//! Walking the plan: one attempt after the other until a target answers. Knows no callers, budgets or HTTP server.
//!
//! [`cascade`] is the walk, [`attempt`] one try, [`stream`] the commit point and what follows it, [`fleet`] the live
//! state that every attempt reads and updates.

pub mod attempt;
pub mod cascade;
pub mod fleet;
pub mod settings;
pub mod stream;
pub mod trail;
