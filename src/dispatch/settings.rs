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
    /// Retries and failovers allowed as a share of requests, on top of one a second. Keeps an outage from multiplying traffic.
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
