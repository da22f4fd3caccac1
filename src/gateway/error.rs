//! Why a request got no answer. The only sum of the modules' errors; `api/error.rs` gives each a status.

use std::sync::Arc;
use std::time::Duration;

use super::terms::Forbidden;
use crate::admission::Shed;
use crate::admission::budget::Overdrawn;
use crate::admission::rate::Limited;
use crate::catalog::TargetId;
use crate::chat::Invalid;
use crate::dispatch::trail::Attempt;
use crate::guard::Rejected;
use crate::provider::failure::{Failure, FailureKind};
use crate::rank::explain::Explanation;
use crate::rank::hints::BadHint;
use crate::rank::score::Availability;
use crate::rank::select::UnknownModel;

/// When a request that was refused for load may come back: places are freed all the time.
pub const SHED_RETRY: Duration = Duration::from_secs(1);

/// When a request may come back that needs the shared store: it is looked for all the time.
pub const SHARED_RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The body is not a chat request.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    UnknownModel(#[from] UnknownModel),
    #[error(transparent)]
    BadHint(#[from] BadHint),
    /// Hints, or needs that no model meets, exclude every target.
    #[error("no candidate is left for this request: {}", exclusions(.0))]
    NoCandidate(Arc<Explanation>),
    #[error("the prompt is too long for every candidate: {}", exclusions(.0))]
    ContextLength(Arc<Explanation>),
    /// Refused for load, before any work was done.
    #[error("{0}; retry in {seconds:.0} s", seconds = SHED_RETRY.as_secs_f64())]
    Shed(#[from] Shed),
    /// Refused for who asks.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// A guard refuses the request, or holds its answer back.
    #[error("{}{rejected}", if *answer { "the answer is held back: " } else { "" })]
    Guarded { rejected: Rejected, answer: bool },
    /// One of the caller's limits is reached.
    #[error("{0}")]
    Limited(Limited),
    /// No budget pays for the worst case.
    #[error("{overdrawn}")]
    Budget { overdrawn: Arc<Overdrawn>, explanation: Arc<Explanation> },
    /// A budget holds over all replicas, and the store in which they count is gone.
    #[error("what is left of a budget cannot be known right now, because the store that all replicas share is gone (`shared`); retry in {:.0} s", SHARED_RETRY.as_secs_f64())]
    SharedGone,
    /// Every candidate is down, cooling or full.
    #[error("no provider is available right now: {}; retry in {:.0} s", exclusions(explanation), retry_after.as_secs_f64().ceil())]
    Unavailable { retry_after: Duration, explanation: Arc<Explanation> },
    /// All that were tried failed; this is the failure that says most.
    #[error("{}", upstream(failure, target))]
    Upstream {
        failure: Failure,
        target: TargetId,
        attempts: Vec<Attempt>,
        /// When the first of the candidates is let in again.
        retry_after: Option<Duration>,
        explanation: Arc<Explanation>,
    },
}

impl Error {
    /// True if the same request would fail anywhere.
    pub fn is_callers_fault(&self) -> bool {
        match self {
            Self::Upstream { failure, .. } => failure.kind.verdict().callers_fault,
            Self::Unavailable { .. } | Self::Shed(_) | Self::Limited(_) | Self::SharedGone => false,
            _ => true,
        }
    }

    /// The HTTP status that tells this truthfully. A number, so that the ledger can record what the caller saw.
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) | Self::BadHint(_) | Self::ContextLength(_) => 400,
            Self::UnknownModel(_) => 404,
            Self::NoCandidate(_) | Self::Guarded { answer: true, .. } => 422,
            Self::Guarded { answer: false, .. } => 400,
            Self::Forbidden(_) => 403,
            Self::Limited(_) | Self::Budget { .. } | Self::Shed(Shed::Greedy) => 429,
            Self::Shed(Shed::Full { .. } | Shed::TooLate { .. } | Shed::Crowded { .. })
            | Self::Unavailable { .. }
            | Self::SharedGone => 503,
            Self::Upstream { failure, .. } => match failure.kind {
                FailureKind::BadRequest | FailureKind::ContentFilter => match failure.status {
                    Some(422) => 422,
                    _ => 400,
                },
                FailureKind::ContextLength | FailureKind::Untranslatable => 400,
                FailureKind::TooLarge => 413,
                FailureKind::NotFound => 404,
                FailureKind::RateLimited | FailureKind::QuotaExhausted => 429,
                FailureKind::Overloaded | FailureKind::Conflict | FailureKind::Local => 503,
                FailureKind::Timeout | FailureKind::Deadline | FailureKind::Stalled => 504,
                FailureKind::Connect
                | FailureKind::Reset
                | FailureKind::StaleConnection
                | FailureKind::Interrupted
                | FailureKind::Credential
                | FailureKind::ServerError
                | FailureKind::Malformed
                | FailureKind::Redirect => 502,
            },
        }
    }

    /// The `code` of the OpenAI error body.
    pub fn code(&self) -> &str {
        match self {
            Self::Invalid(invalid) => invalid.code,
            Self::BadHint(_) => "invalid_hint",
            Self::UnknownModel(_) => "model_not_found",
            Self::NoCandidate(_) => "no_candidate",
            Self::ContextLength(_) => "context_length_exceeded",
            Self::Forbidden(forbidden) => forbidden.code(),
            Self::Guarded { .. } => "guard_rejected",
            Self::Limited(_) => "rate_limit_exceeded",
            Self::Budget { .. } => "insufficient_quota",
            Self::Shed(Shed::Greedy) => "too_many_concurrent_requests",
            Self::Shed(Shed::Full { .. } | Shed::TooLate { .. } | Shed::Crowded { .. }) => "router_overloaded",
            Self::SharedGone => "shared_store_unavailable",
            Self::Unavailable { .. } => "no_provider_available",
            Self::Upstream { failure, .. } => match failure.kind {
                FailureKind::ContextLength => "context_length_exceeded",
                FailureKind::ContentFilter => "content_filter",
                FailureKind::Untranslatable => "unsupported_parameter",
                FailureKind::NotFound => "model_not_found",
                FailureKind::TooLarge => "request_too_large",
                FailureKind::RateLimited => "rate_limit_exceeded",
                FailureKind::QuotaExhausted => "insufficient_quota",
                FailureKind::Overloaded => "upstream_overloaded",
                FailureKind::Local => "out_of_resources",
                FailureKind::Timeout | FailureKind::Deadline | FailureKind::Stalled => "upstream_timeout",
                FailureKind::Credential => "upstream_credential_rejected",
                FailureKind::BadRequest => failure.code.as_deref().unwrap_or("invalid_request"),
                FailureKind::Connect
                | FailureKind::Reset
                | FailureKind::StaleConnection
                | FailureKind::Interrupted
                | FailureKind::Conflict
                | FailureKind::ServerError
                | FailureKind::Malformed
                | FailureKind::Redirect => "upstream_error",
            },
        }
    }

    pub fn explanation(&self) -> Option<&Arc<Explanation>> {
        match self {
            Self::NoCandidate(explanation) | Self::ContextLength(explanation) => Some(explanation),
            Self::Budget { explanation, .. } => Some(explanation),
            Self::Unavailable { explanation, .. } | Self::Upstream { explanation, .. } => Some(explanation),
            _ => None,
        }
    }
}

/// At most this many exclusions are spelled out in a message; all of them are in the explanation.
const SPELLED_OUT: usize = 5;

fn exclusions(explanation: &Explanation) -> String {
    let excluded = &explanation.plan.excluded;
    if excluded.is_empty() {
        return "no model is routable".to_owned();
    }
    let mut texts: Vec<String> = excluded
        .iter()
        .take(SPELLED_OUT)
        .map(|excluded| format!("{}: {}", excluded.target.id, excluded.reason))
        .collect();
    if excluded.len() > SPELLED_OUT {
        texts.push(format!("and {} more", excluded.len() - SPELLED_OUT));
    }
    texts.join("; ")
}

/// The provider's own words only where the caller is at fault: an error about our credential may quote it.
fn upstream(failure: &Failure, target: &TargetId) -> String {
    match failure.kind {
        kind if kind.verdict().callers_fault => failure.message.clone(),
        FailureKind::NotFound => format!("`{target}` is not served by its provider"),
        FailureKind::Credential => format!("the provider `{}` refuses the router's credential", target.provider()),
        FailureKind::QuotaExhausted => format!("the provider `{}` is out of quota", target.provider()),
        FailureKind::RateLimited => format!("the provider `{}` limits our rate", target.provider()),
        FailureKind::Local => "the router has no descriptor, port or memory left for a connection".to_owned(),
        kind => format!("`{target}` failed ({}) and no other candidate answered", kind.as_str()),
    }
}

/// How long until a target is let in again; `None` if it is in.
pub fn remaining(availability: &Availability) -> Option<Duration> {
    match availability {
        Availability::Open { remaining, .. } | Availability::Cooling { remaining, .. } => Some(*remaining),
        Availability::Full { .. } => Some(Duration::from_secs(1)),
        Availability::Closed | Availability::HalfOpen => None,
    }
}
