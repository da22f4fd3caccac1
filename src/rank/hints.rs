//! What a caller may say about how a request is to be routed. The same words in body, headers and command line.

use std::time::Duration;

use serde::Serialize;

use super::settings::Strategy;
use crate::money::NanoUsd;
use crate::units;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    Low,
    #[default]
    Normal,
    High,
}

/// One request's wishes. `Default` wishes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    pub task: Option<String>,
    pub strategy: Option<Strategy>,
    pub budget: Budget,
    pub latency_critical: bool,
    pub safety_critical: bool,
    /// Hard ceiling on the worst-case cost.
    pub max_cost: Option<NanoUsd>,
    /// Hard ceiling on the time to the first token.
    pub max_latency: Option<Duration>,
    /// Hard floor on the skill, 0 to 1.
    pub min_skill: Option<f64>,
    /// Providers or `provider/model`; empty means all.
    pub only: Vec<String>,
    pub avoid: Vec<String>,
    pub no_cache: bool,
    pub explain: bool,
    /// OpenRouter's `provider.order`: these first, in this order.
    pub order: Vec<String>,
    /// OpenRouter's `provider.allow_fallbacks: false`: one target only.
    pub no_fallbacks: bool,
    /// OpenRouter's `provider.require_parameters`: a target that cannot take every parameter is excluded.
    pub require_parameters: bool,
    /// OpenRouter's `provider.max_price`, USD per million tokens.
    pub max_prompt_price: Option<f64>,
    pub max_completion_price: Option<f64>,
    /// Words for reports, beside those of the key.
    pub tags: Vec<String>,
    /// For the whole request; never longer than the configured time.
    pub deadline: Option<Duration>,
    /// Tries in all, on other models or the same; never more than configured.
    pub max_attempts: Option<u32>,
    /// When and how the request is to be done, if it is to be answered later: words of `jobs::wish`, unread.
    pub later: Vec<(&'static str, String)>,
    /// Sentences for `x-stepwell-warnings`.
    pub notes: Vec<String>,
    /// Hints that nobody knows, for `x-stepwell-warnings`.
    pub unknown: Vec<String>,
}

/// A hint whose value makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hint `{hint}`: {reason}")]
pub struct BadHint {
    pub hint: String,
    pub reason: String,
}

impl Hints {
    /// The words of the contract.
    pub const NAMES: [&'static str; 12] = [
        "task",
        "strategy",
        "budget",
        "latency_critical",
        "safety_critical",
        "max_cost",
        "max_latency",
        "min_skill",
        "only",
        "avoid",
        "no_cache",
        "explain",
    ];

    /// Those of requests that are answered later.
    pub const LATER: [&'static str; 5] = crate::jobs::wish::Wish::NAMES;

    /// Whether anybody knows this hint.
    pub fn is_known(name: &str) -> bool {
        Self::NAMES.contains(&name) || Self::LATER.contains(&name)
    }

    /// Sets one hint from text, as it stands in a header, in `metadata` or on the command line. An unknown name is noted,
    /// never an error. A later call for the same hint wins.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadHint> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        let value = value.trim();
        let bad = |reason: String| BadHint { hint: name.clone(), reason };
        match name.as_str() {
            "task" => self.task = Some(value.to_owned()).filter(|task| !task.is_empty()),
            "strategy" => {
                let all: Vec<&str> = Strategy::ALL.iter().map(|strategy| strategy.as_str()).collect();
                let strategy = Strategy::parse(value)
                    .ok_or_else(|| bad(format!("unknown strategy `{value}`; one of {}", all.join(", "))))?;
                self.strategy = Some(strategy);
            }
            "budget" => {
                self.budget = match value.to_ascii_lowercase().as_str() {
                    "low" => Budget::Low,
                    "normal" | "" => Budget::Normal,
                    "high" => Budget::High,
                    _ => return Err(bad(format!("`{value}` is not one of low, normal, high"))),
                }
            }
            "latency_critical" => self.latency_critical = truth(value).map_err(bad)?,
            "safety_critical" => self.safety_critical = truth(value).map_err(bad)?,
            "no_cache" => self.no_cache = truth(value).map_err(bad)?,
            "explain" => self.explain = truth(value).map_err(bad)?,
            "max_cost" => {
                let amount = value.trim_start_matches('$').parse().ok().and_then(NanoUsd::from_usd);
                self.max_cost =
                    Some(amount.ok_or_else(|| bad(format!("`{value}` is not an amount in USD, 0 or more")))?);
            }
            "max_latency" => self.max_latency = Some(latency(value).map_err(bad)?),
            "min_skill" => {
                let skill = units::share(value).map_err(|_| bad(format!("`{value}` is not a number from 0 to 1")))?;
                self.min_skill = Some(skill);
            }
            "only" => self.only = list(value),
            "avoid" => self.avoid = list(value),
            _ => match Self::LATER.iter().find(|known| **known == name) {
                Some(known) => {
                    self.later.retain(|(set, _)| set != known);
                    self.later.push((known, value.to_owned()));
                }
                None => self.unknown.push(name),
            },
        }
        Ok(())
    }

    /// Models that may be tried, of those that the configuration allows.
    pub fn attempts(&self, configured: u32) -> usize {
        let wanted = if self.no_fallbacks { 1 } else { self.max_attempts.unwrap_or(configured) };
        wanted.min(configured).max(1) as usize
    }

    /// The value words a model that is named with `target` matches: its provider, or itself.
    pub fn names(list: &[String], id: &crate::catalog::TargetId) -> bool {
        list.iter().any(|name| name == id.as_str() || name == id.provider())
    }
}

/// A duration; a bare number means milliseconds, as in OpenRouter's and Portkey's headers.
fn latency(value: &str) -> Result<Duration, String> {
    if let Ok(ms) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(ms / 1000.0)
            .map_err(|_| format!("`{value}` is not a duration such as 800ms"));
    }
    units::duration(value)
}

fn truth(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err(format!("`{value}` is neither true nor false")),
    }
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_contract_is_understood_with_dashes_too() {
        let mut hints = Hints::default();
        for name in Hints::NAMES {
            let value = match name {
                "task" => "coding",
                "strategy" => "cost_optimized",
                "budget" => "low",
                "max_cost" => "0.01",
                "max_latency" => "800ms",
                "min_skill" => "0.7",
                "only" | "avoid" => "openai, groq/llama",
                _ => "true",
            };
            hints.set(&name.replace('_', "-"), value).expect(name);
        }
        assert!(hints.unknown.is_empty());
        assert_eq!(hints.strategy, Some(Strategy::Cheapest));
        assert_eq!(hints.only, ["openai", "groq/llama"]);
    }

    #[test]
    fn impossible_values_are_errors_and_unknown_names_are_not() {
        for (name, value) in [
            ("max_cost", "cheap"),
            ("max_cost", "-1"),
            ("min_skill", "7"),
            ("budget", "tiny"),
            ("max_latency", "soon"),
            ("strategy", "best-ever"),
            ("explain", "maybe"),
        ] {
            assert!(Hints::default().set(name, value).is_err(), "{name}={value}");
        }
        let mut hints = Hints::default();
        assert_eq!(hints.set("colour", "blue"), Ok(()));
        assert_eq!(hints.unknown, ["colour"]);
    }
}
