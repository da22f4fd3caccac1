//! Why a target is not a candidate, in words for people and codes for programs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::budget::Overdrawn;
use crate::money::NanoUsd;

#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    Only,
    Avoided,
    MaxCost {
        worst: Option<NanoUsd>,
        ceiling: NanoUsd,
    },
    MaxLatency {
        estimate: Duration,
        ceiling: Duration,
    },
    MinSkill {
        skill: f64,
        floor: f64,
        hinted: bool,
    },
    MaxPrice {
        side: &'static str,
    },
    Context {
        tokens: u64,
        window: u64,
    },
    MaxOutput {
        tokens: u64,
        limit: u64,
    },
    Lacks(&'static str),
    Open {
        remaining: Duration,
        cause: String,
    },
    Cooling {
        remaining: Duration,
        cause: &'static str,
    },
    Full {
        limit: u32,
        learned: bool,
    },
    /// A budget could not pay for the worst case.
    Budget(Arc<Overdrawn>),
    /// It could for this one, but not for the first choice, and is set to refuse then.
    BudgetRefuses,
    /// A guard keeps the request from this provider.
    Guard(Arc<str>),
}

impl Reason {
    /// The hint that excluded the target, if it was one.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Only => "only",
            Self::Avoided => "avoid",
            Self::MaxCost { .. } => "max_cost",
            Self::MaxLatency { .. } => "max_latency",
            Self::MinSkill { hinted: true, .. } => "min_skill",
            Self::MaxPrice { .. } => "provider.max_price",
            _ => return None,
        })
    }

    /// How long until the target is let in again, if that is what keeps it out.
    pub fn remaining(&self) -> Option<Duration> {
        match self {
            Self::Open { remaining, .. } | Self::Cooling { remaining, .. } => Some(*remaining),
            Self::Full { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// One word for metrics and filters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Only => "only",
            Self::Avoided => "avoid",
            Self::MaxCost { .. } => "max_cost",
            Self::MaxLatency { .. } => "max_latency",
            Self::MinSkill { .. } => "min_skill",
            Self::MaxPrice { .. } => "max_price",
            Self::Context { .. } => "context",
            Self::MaxOutput { .. } => "max_output",
            Self::Lacks(_) => "capability",
            Self::Open { .. } => "breaker_open",
            Self::Cooling { .. } => "cooling",
            Self::Full { learned: false, .. } => "max_concurrency",
            Self::Full { learned: true, .. } => "learned_concurrency",
            Self::Budget(_) | Self::BudgetRefuses => "budget",
            Self::Guard(_) => "guard",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => write!(f, "not in hint `only`"),
            Self::Avoided => write!(f, "named in hint `avoid`"),
            Self::MaxCost { worst: Some(worst), ceiling } => {
                write!(
                    f,
                    "hint `max_cost`: the worst case is {worst}, above {ceiling} (`max_tokens` lowers the worst case)"
                )
            }
            Self::MaxCost { worst: None, ceiling } => {
                write!(f, "hint `max_cost`: the model's price is unknown, so {ceiling} cannot be guaranteed")
            }
            Self::MaxLatency { estimate, ceiling } => {
                write!(f, "hint `max_latency`: the first token is expected after {estimate:.0?}, above {ceiling:.0?}")
            }
            Self::MinSkill { skill, floor, hinted } => {
                let what = if *hinted { "hint `min_skill`" } else { "configured `min_skill`" };
                write!(f, "{what}: skill {skill:.2} is below {floor:.2}")
            }
            Self::MaxPrice { side } => write!(f, "hint `provider.max_price`: the {side} price is above it or unknown"),
            Self::Context { tokens, window } => {
                write!(f, "the request takes about {tokens} tokens, the context window holds {window}")
            }
            Self::MaxOutput { tokens, limit } => write!(f, "`max_tokens` {tokens} is above the model's limit {limit}"),
            Self::Lacks(what) => write!(f, "the model does not support {what}"),
            Self::Open { remaining, cause } => {
                write!(f, "breaker open ({cause}), next probe in {:.1} s", remaining.as_secs_f64())
            }
            Self::Cooling { remaining, cause } => {
                write!(f, "cooling down ({cause}) for {:.1} s", remaining.as_secs_f64())
            }
            Self::Full { limit, learned: false } => {
                write!(f, "the provider's `max_concurrency` ({limit}) is reached")
            }
            Self::Budget(overdrawn) => write!(f, "{overdrawn}"),
            Self::BudgetRefuses => {
                write!(f, "a budget cannot pay for the first choice, and is set to refuse then (`at_limit: reject`)")
            }
            Self::Guard(name) => write!(f, "the guard `{name}` keeps this request from the provider"),
            Self::Full { limit, learned: true } => {
                write!(f, "the provider refused more than about {limit} requests at once")
            }
        }
    }
}
