//! `reasoning_effort` as Anthropic's thinking: by effort on recent models, by a token budget on older ones.

use serde_json::{Value, json};

use super::generation::Generation;
use crate::provider::wanted::Effort;

/// The smallest budget that the API takes (API reference, Extended thinking).
const MIN_BUDGET: u64 = 1024;

/// How to think, decided before anything is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Thinking {
    Off,
    /// The model decides how much.
    Adaptive {
        effort: &'static str,
    },
    /// At most so many tokens, which count against `max_tokens`.
    Budget(u64),
}

impl Thinking {
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }

    /// The members `thinking` and `output_config.effort`.
    pub fn members(&self) -> (Option<Value>, Option<&'static str>) {
        match self {
            Self::Off => (None, None),
            // Without `display` recent models keep their thinking to themselves.
            Self::Adaptive { effort } => (Some(json!({"type": "adaptive", "display": "summarized"})), Some(effort)),
            Self::Budget(tokens) => (Some(json!({"type": "enabled", "budget_tokens": tokens})), None),
        }
    }
}

/// How to think with `effort` on a model of `generation` within `max_tokens`. Notes say what was not possible.
pub fn thinking(effort: Effort, generation: Generation, max_tokens: u64, notes: &mut Vec<String>) -> Thinking {
    if effort == Effort::None {
        return Thinking::Off;
    }
    if generation.is_adaptive() {
        let effort = match effort {
            Effort::None | Effort::Minimal | Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::Xhigh if generation.has_xhigh() => "xhigh",
            Effort::Xhigh => {
                notes.push("`reasoning_effort` `xhigh` is not known to this model and was sent as `high`".to_owned());
                "high"
            }
        };
        return Thinking::Adaptive { effort };
    }
    let budget = match effort {
        Effort::None | Effort::Minimal => MIN_BUDGET,
        Effort::Low => 2_048,
        Effort::Medium => 8_192,
        Effort::High => 16_384,
        Effort::Xhigh => 32_768,
    };
    // The budget must be below max_tokens, and something must be left to answer with.
    let budget = budget.min(max_tokens - max_tokens / 4);
    if budget < MIN_BUDGET {
        notes.push(format!("`reasoning_effort` was left out: thinking needs `max_tokens` above {MIN_BUDGET}"));
        return Thinking::Off;
    }
    Thinking::Budget(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_at_least_1024_and_below_max_tokens() {
        let old = Generation::of("claude-sonnet-4-5");
        let mut notes = Vec::new();
        assert_eq!(thinking(Effort::High, old, 64_000, &mut notes), Thinking::Budget(16_384));
        assert_eq!(thinking(Effort::High, old, 4_096, &mut notes), Thinking::Budget(3_072));
        assert!(notes.is_empty());
        assert_eq!(thinking(Effort::High, old, 1_024, &mut notes), Thinking::Off);
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn recent_models_are_told_an_effort() {
        let mut notes = Vec::new();
        let effort = |id: &str, notes: &mut Vec<String>| thinking(Effort::Xhigh, Generation::of(id), 4_096, notes);
        assert_eq!(effort("claude-opus-5", &mut notes), Thinking::Adaptive { effort: "xhigh" });
        assert_eq!(effort("claude-opus-4-6", &mut notes), Thinking::Adaptive { effort: "high" });
        assert_eq!(notes.len(), 1);
    }
}
