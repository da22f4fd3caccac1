//! Walking the plan: one attempt after the other until a target answers. Knows no callers, budgets or HTTP server.
//!
//! [`cascade`] is the walk, [`attempt`] one try, `hedge` two of them side by side, [`stream`] the commit point and what
//! follows it, [`patience`] how long is waited, [`fleet`] the live state that every attempt reads and updates.

pub mod attempt;
pub mod cascade;
pub mod fleet;
mod hedge;
pub mod patience;
pub mod settings;
pub mod stream;
pub mod trail;
