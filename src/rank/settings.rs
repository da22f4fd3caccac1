//! How a provider is chosen: the `routing` and `hints` sections.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// A way to order candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Capability, cost and latency, weighed by `weights`.
    #[default]
    Balanced,
    Cheapest,
    Fastest,
    Quality,
    /// The provider's `priority`, lowest first.
    Priority,
    /// Shares of traffic by the provider's `weight`.
    Weighted,
    RoundRobin,
}

impl Strategy {
    pub const ALL: [Self; 7] = [
        Self::Balanced,
        Self::Cheapest,
        Self::Fastest,
        Self::Quality,
        Self::Priority,
        Self::Weighted,
        Self::RoundRobin,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Cheapest => "cheapest",
            Self::Fastest => "fastest",
            Self::Quality => "quality",
            Self::Priority => "priority",
            Self::Weighted => "weighted",
            Self::RoundRobin => "round_robin",
        }
    }

    /// Our names, and those that LiteLLM and OpenRouter users bring along.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().replace('-', "_").as_str() {
            "balanced" | "auto" => Self::Balanced,
            "cheapest" | "cost_optimized" | "cost_based" | "cost_based_routing" | "lowest_cost" | "price" | "floor" => {
                Self::Cheapest
            }
            "fastest"
            | "latency_based"
            | "latency_based_routing"
            | "lowest_latency"
            | "latency"
            | "throughput"
            | "nitro" => Self::Fastest,
            "quality" | "best" | "quality_first" | "capability_based" => Self::Quality,
            "priority" | "order" | "failover" => Self::Priority,
            "weighted" | "simple_shuffle" => Self::Weighted,
            "round_robin" | "least_busy" | "usage_based_routing" | "usage_based_routing_v2" => Self::RoundRobin,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            serde::de::Error::custom(format!("`{name}` is not a strategy; known: {names}"))
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub strategy: Strategy,
    pub weights: Weights,
    /// Never route a task to a model below this skill. 0 to 1.
    pub min_skill: f64,
    /// Targets tried in all for one request. 1 to 10.
    pub max_attempts: u32,
    /// Names that clients can pick as a model.
    pub aliases: BTreeMap<String, Alias>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            weights: Weights::default(),
            min_skill: 0.0,
            max_attempts: 3,
            aliases: BTreeMap::new(),
        }
    }
}

/// What `balanced` means. Only the proportions count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    pub capability: f64,
    pub cost: f64,
    pub latency: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { capability: 0.5, cost: 0.3, latency: 0.2 }
    }
}

/// A model name of one's own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alias {
    /// Providers or `provider/model`; empty means all.
    pub only: Vec<String>,
    pub avoid: Vec<String>,
    pub strategy: Option<Strategy>,
    pub min_skill: Option<f64>,
}

/// What to do when a caller's hints exclude every candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenImpossible {
    /// 422, saying which hint excluded which candidate.
    #[default]
    Reject,
    /// The closest candidate, and a warning header that says so.
    Relax,
}
