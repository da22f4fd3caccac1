//! The `overload` section.

use std::time::Duration;

use crate::units::Span;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Requests answered at once, all callers together. 1 to 1,000,000. Too low wastes capacity; too high, and a burst
    /// fills memory before anybody is refused.
    pub max_in_flight: u32,
    /// Requests that may wait for a place. 0 to 100,000; 0 refuses at once.
    pub queue: u32,
    /// Longest wait for a place. 0s to 10m. Longer than a client's patience only wastes a place.
    pub queue_timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_in_flight: 4096, queue: 256, queue_timeout: Span(Duration::from_secs(2)) }
    }
}
