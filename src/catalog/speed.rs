//! How fast a model answers, before anything was measured here.

use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::{Confidence, Origin, name};

/// One row per model and reasoning effort; see `data/README.md`.
const ROWS: &str = include_str!("data/speed.jsonl");

/// Efforts from the one that ordinary requests use to the one that they hardly ever use. Rows at the last two say
/// little about the first token of an ordinary request: it includes minutes of hidden thought.
const EFFORTS: [&str; 9] = ["none", "minimal", "default", "medium", "low", "high", "thinking", "xhigh", "max"];
const LAST_USUAL_EFFORT: usize = 6;

/// A first guess; measurements replace it after a few requests.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    #[serde(rename = "first_token_ms", serialize_with = "milliseconds")]
    pub first_token: Duration,
    pub tokens_per_second: f64,
    pub origin: Origin,
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}

impl Speed {
    /// As many measurements as these figures are worth. What nobody knows is worth next to nothing.
    pub fn weight(&self) -> f64 {
        if self.is_known() { 4.0 } else { 0.25 }
    }

    /// Somebody measured or wrote it.
    pub fn is_known(&self) -> bool {
        !matches!(self.origin, Origin::Inferred { .. })
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self {
            first_token: Duration::from_secs(1),
            tokens_per_second: 50.0,
            origin: Origin::inferred("no data; 1 s to the first token and 50 tokens per second assumed"),
        }
    }
}

#[derive(Deserialize)]
struct Row<'a> {
    effort: &'a str,
    first_token_seconds: Percentiles,
    tokens_per_second: Percentiles,
    date: &'a str,
}

#[derive(Deserialize)]
struct Percentiles {
    p50: f64,
}

/// Every line with its model's name in the form that compares; lines are parsed when somebody needs them.
fn index() -> &'static [(String, &'static str)] {
    static INDEX: OnceLock<Vec<(String, &'static str)>> = OnceLock::new();
    INDEX.get_or_init(|| ROWS.lines().filter_map(|line| Some((name::key(name::first_value(line)?), line))).collect())
}

/// The speed of a model by its plain name, as `skills.jsonl` spells it.
pub(super) fn of(model: &str) -> Speed {
    let wanted = name::key(model);
    let best = index()
        .iter()
        .filter(|(key, _)| *key == wanted)
        .filter_map(|(_, line)| serde_json::from_str::<Row<'_>>(line).ok())
        .filter_map(|row| Some((EFFORTS.iter().position(|effort| *effort == row.effort)?, row)))
        .min_by_key(|(rank, _)| *rank);
    let Some((rank, row)) = best else { return Speed::default() };
    let usual = Speed::default();
    if rank > LAST_USUAL_EFFORT {
        let how = format!("tokens per second measured at effort {} only; first token assumed", row.effort);
        return Speed { tokens_per_second: row.tokens_per_second.p50, origin: Origin::inferred(&how), ..usual };
    }
    Speed {
        first_token: Duration::try_from_secs_f64(row.first_token_seconds.p50).unwrap_or(usual.first_token),
        tokens_per_second: row.tokens_per_second.p50,
        origin: Origin::Measured {
            model: model.into(),
            evidence: [format!("artificial-analysis/speed {} effort {}", row.date, row.effort).into()].into(),
            confidence: Confidence::Medium,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_without_reasoning_is_the_first_guess() {
        let speed = of("claude-haiku-4-5");
        assert_eq!(speed.first_token, Duration::from_millis(1050));
        assert!((speed.tokens_per_second - 92.31).abs() < 1e-9);
    }

    #[test]
    fn minutes_of_thought_at_top_effort_are_no_guess_for_the_first_token() {
        let speed = of("claude-fable-5");
        assert_eq!(speed.first_token, Duration::from_secs(1));
        assert!((speed.tokens_per_second - 62.93).abs() < 1e-9);
        assert!(matches!(speed.origin, Origin::Inferred { .. }));
    }

    #[test]
    fn an_unknown_model_gets_the_assumption_and_says_so() {
        let speed = of("never-heard-of");
        assert_eq!((speed.first_token, speed.tokens_per_second), (Duration::from_secs(1), 50.0));
        assert!(matches!(speed.origin, Origin::Inferred { .. }));
    }
}
