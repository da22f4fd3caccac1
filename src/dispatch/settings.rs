//! How long to wait and how often to try.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::resilience::breaker;
use crate::units::{Share, Span};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Further tries on one target after a failure worth retrying, when no other target is left. 0 to 5.
    pub same_target: u32,
    pub backoff: Backoff,
    /// Further tries on one target allowed as a share of its requests, on top of one a second. Keeps an outage from
    /// multiplying traffic. Moving on to another target is never refused: breakers bound that.
    pub budget: Share,
    /// Longest `Retry-After` that is believed; longer ones are cut to it.
    pub respect_retry_after: Span,
}

/// Full jitter: a wait is drawn between 0 and `start`, doubling up to `max`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    pub start: Span,
    pub max: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// TCP and TLS handshake together.
    pub connect: Span,
    /// Until the first token (streams) or the first byte of the answer (plain). Unset: 20s, stretched for plain answers
    /// by the time that the expected tokens take.
    pub first_token: Option<Span>,
    /// Longest silence between two pieces of a stream.
    pub between_tokens: Span,
    /// The whole request, all attempts together.
    pub total: Span,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            same_target: 1,
            backoff: Backoff::default(),
            budget: Share(0.2),
            respect_retry_after: Span(Duration::from_secs(300)),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { start: Span(Duration::from_millis(250)), max: Span(Duration::from_secs(4)) }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span(Duration::from_secs(3)),
            first_token: None,
            between_tokens: Span(Duration::from_secs(30)),
            total: Span(Duration::from_secs(600)),
        }
    }
}

/// All that decides about attempts at one provider: the global settings with the provider's own on top.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub breaker: Arc<breaker::Settings>,
    pub retry: Arc<Retry>,
    pub timeouts: Arc<Timeouts>,
}

/// A second attempt beside one that is late. Off unless asked for: it may pay twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    pub enabled: bool,
    /// How long the first attempt may be silent before the next target is asked, too.
    pub after: HedgeAfter,
    /// Hedges allowed as a share of requests. 0% to 20%.
    pub budget: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeAfter {
    /// What 95 % of the target's last answers did not exceed; nothing before 20 of them were seen.
    P95,
    Fixed(Duration),
}

impl Default for Hedge {
    fn default() -> Self {
        Self { enabled: false, after: HedgeAfter::P95, budget: Share(0.05) }
    }
}

/// Cheap questions to providers that nobody uses at the moment. Off unless asked for; what real requests show counts more.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthChecks {
    pub enabled: bool,
    /// Pause between two questions, and how long a provider must be idle before it is asked. 1s to 1h.
    pub interval: Span,
    /// An answer that takes longer is none. 10ms to 1m.
    pub timeout: Span,
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self { enabled: false, interval: Span(Duration::from_secs(30)), timeout: Span(Duration::from_secs(3)) }
    }
}
