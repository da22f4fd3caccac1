//! Staying up: breaker, cool-down, backoff, retry budget, adaptive limit, moving averages.
//!
//! Nothing here knows what it protects, does I/O or reads a clock: `now` and random numbers are arguments, so every
//! state machine can be tested tick by tick.

pub mod backoff;
pub mod breaker;
pub mod cooldown;
pub mod ewma;
pub mod gcra;
pub mod limit;
pub mod patience;
pub mod window;
