//! A circuit breaker with exact counts.

use std::time::Duration;

use serde::Deserialize;

use crate::units::{Count, Share, Span};

/// When a target is left alone, and for how long.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Span over which outcomes are counted. 1s to 10m. Short spans forget an outage between two rare requests.
    pub window: Span,
    /// Outcomes in the window before `open_at` may decide. At 1 a single failure is a failure rate of 100 %.
    pub min_requests: Count,
    /// Share of failures in the window that opens the breaker.
    pub open_at: Share,
    /// Hard failures in a row that open the breaker, whatever the window says. 1 to 100. At 1 a single blip ejects a
    /// target; above 20 a dead target keeps receiving traffic for seconds.
    pub consecutive_failures: Count,
    /// First pause before a probe; doubles with each failed probe up to `max_cooldown`.
    pub cooldown: Span,
    /// Longest pause between two probes.
    pub max_cooldown: Span,
    /// Probes in flight while half-open, and successes needed to close. 1 is right unless answers are very short.
    pub probes: Count,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Span(Duration::from_secs(30)),
            min_requests: Count(20),
            open_at: Share(0.5),
            consecutive_failures: Count(5),
            cooldown: Span(Duration::from_secs(15)),
            max_cooldown: Span(Duration::from_secs(300)),
            probes: Count(1),
        }
    }
}
