//! Token counts of one answer, in OpenAI's sense: cached tokens are part of the prompt, reasoning is part of the completion.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::object::{Extra, Object, write_extra};
use crate::money::NanoUsd;

/// Above this a count is a lie, not a measurement: no model has a window of a billion tokens.
const ABSURD: u64 = 1_000_000_000;

/// What an answer used.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// All input tokens, cached ones and cache writes included.
    pub prompt_tokens: u64,
    /// All output tokens, reasoning included.
    pub completion_tokens: u64,
    /// Input tokens read from the provider's prompt cache; part of `prompt_tokens`.
    pub cached_tokens: u64,
    /// Input tokens written to the provider's prompt cache; part of `prompt_tokens`.
    pub cache_write_tokens: u64,
    /// Hidden reasoning; part of `completion_tokens`.
    pub reasoning_tokens: u64,
    /// True if the provider's count was absurd: the rest is empty, and nobody shows it.
    pub is_refused: bool,
    /// True if counted here because the provider sent no (believable) count.
    pub estimated: bool,
    /// Tokens of input and output that the provider bills, where they are not those that the model saw (Cohere leaves
    /// its own templates out of the bill).
    pub billed: Option<(u64, u64)>,
    /// What it cost; filled in by the meter, `None` if the model has no known price.
    pub cost: Option<NanoUsd>,
    /// Other members of the provider's usage object and of its two `*_details` objects.
    pub extra: Extra,
    pub prompt_extra: Extra,
    pub completion_extra: Extra,
}

impl Usage {
    /// A count made here, not by the provider.
    pub fn estimate(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self { prompt_tokens, completion_tokens, estimated: true, ..Self::default() }
    }

    /// What an unbelievable count is read as, so that whoever settles the answer can report it.
    pub fn refused() -> Self {
        Self { is_refused: true, ..Self::default() }
    }

    /// Reads OpenAI's usage object and its near relatives. `None` if it counts nothing; [`Self::refused`] if it lies.
    pub fn parse(raw: &RawValue) -> Option<Self> {
        let members: Object<'_> = serde_json::from_str(raw.get()).ok()?;
        Self::read(members).unwrap_or_else(|| Some(Self::refused()))
    }

    fn read(mut members: Object<'_>) -> Option<Option<Self>> {
        let prompt_tokens = Self::count(&mut members, "prompt_tokens")?;
        let mut completion_tokens = Self::count(&mut members, "completion_tokens")?;
        let total_tokens = Self::count(&mut members, "total_tokens").unwrap_or(0);
        members.take("cost");
        let mut prompt: Object<'_> = members.take_as("prompt_tokens_details").unwrap_or_default();
        let mut completion: Object<'_> = members.take_as("completion_tokens_details").unwrap_or_default();
        // DeepSeek counts cache hits beside the prompt tokens (its API reference, chat completions).
        let cached_tokens = Self::count(&mut prompt, "cached_tokens")?
            .max(members.read::<u64>("prompt_cache_hit_tokens").unwrap_or(0))
            .min(prompt_tokens);
        let cache_write_tokens =
            Self::count(&mut prompt, "cache_write_tokens")?.min(prompt_tokens.saturating_sub(cached_tokens));
        let reasoning_tokens = Self::count(&mut completion, "reasoning_tokens")?;
        // xAI leaves reasoning out of the completion and counts it in the total only (19 of 23 recordings); Vercel's
        // gateway leaves it out of both for Google's models (9 of 20, confirmed by the price it reports).
        let apart = total_tokens == prompt_tokens + completion_tokens + reasoning_tokens;
        if apart || reasoning_tokens > completion_tokens {
            completion_tokens += reasoning_tokens;
        }
        if prompt_tokens == 0 && completion_tokens == 0 {
            return Some(None);
        }
        Some(Some(Self {
            is_refused: false,
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            cache_write_tokens,
            reasoning_tokens,
            estimated: false,
            billed: None,
            cost: None,
            extra: members.rest(),
            prompt_extra: prompt.rest(),
            completion_extra: completion.rest(),
        }))
    }

    pub fn total_tokens(&self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }

    /// Takes a count out of a usage object. One that is absent is 0; one that is negative, fractional or absurd makes
    /// the whole object unbelievable: `None`.
    pub fn count(members: &mut Object<'_>, name: &str) -> Option<u64> {
        let Some(raw) = members.take(name) else { return Some(0) };
        // A few gateways quote their numbers.
        let number: f64 = raw.get().trim_matches('"').parse().ok()?;
        (number >= 0.0 && number <= ABSURD as f64 && number.fract() == 0.0).then_some(number as u64)
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("prompt_tokens", &self.prompt_tokens)?;
        map.serialize_entry("completion_tokens", &self.completion_tokens)?;
        map.serialize_entry("total_tokens", &self.total_tokens())?;
        map.serialize_entry(
            "prompt_tokens_details",
            &Details(&self.prompt_extra, || {
                [
                    ("cached_tokens", Some(self.cached_tokens)),
                    ("cache_write_tokens", (self.cache_write_tokens > 0).then_some(self.cache_write_tokens)),
                ]
            }),
        )?;
        map.serialize_entry(
            "completion_tokens_details",
            &Details(&self.completion_extra, || [("reasoning_tokens", Some(self.reasoning_tokens)), ("", None)]),
        )?;
        write_extra(&mut map, &self.extra)?;
        if self.estimated {
            map.serialize_entry("estimated", &true)?;
        }
        map.serialize_entry("cost", &self.cost)?;
        map.end()
    }
}

/// One `*_details` object: our counts, then what the provider added.
struct Details<'a, F>(&'a Extra, F);

impl<F: Fn() -> [(&'static str, Option<u64>); 2]> Serialize for Details<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.1() {
            if let Some(value) = value {
                map.serialize_entry(name, &value)?;
            }
        }
        write_extra(&mut map, self.0)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Option<Usage> {
        Usage::parse(&RawValue::from_string(json.to_owned()).expect("json"))
    }

    #[test]
    fn absurd_counts_are_not_believed() {
        for absurd in [r#"{"prompt_tokens": -1}"#, r#"{"prompt_tokens": 1e18}"#, r#"{"completion_tokens": 0.5}"#] {
            assert!(parse(absurd).is_some_and(|usage| usage.is_refused && usage.total_tokens() == 0), "{absurd}");
        }
        assert!(parse(r#"{"prompt_tokens": 0, "completion_tokens": 0}"#).is_none());
    }

    #[test]
    fn reasoning_counted_apart_becomes_part_of_the_completion() {
        for (json, completion) in [
            // xAI, recorded: the total shows that the completion excludes reasoning.
            (
                r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":241,"completion_tokens_details":{"reasoning_tokens":228}}"#,
                229,
            ),
            // Vercel's gateway, recorded: more reasoning than completion.
            (
                r#"{"prompt_tokens":9,"completion_tokens":52,"total_tokens":61,"completion_tokens_details":{"reasoning_tokens":232}}"#,
                284,
            ),
            (
                r#"{"prompt_tokens":9,"completion_tokens":52,"total_tokens":61,"completion_tokens_details":{"reasoning_tokens":32}}"#,
                52,
            ),
        ] {
            assert_eq!(parse(json).expect("usage").completion_tokens, completion, "{json}");
        }
    }

    #[test]
    fn what_the_provider_adds_survives() {
        let usage = parse(
            r#"{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"queue_time":0.1,
            "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0}}"#,
        )
        .expect("usage");
        assert_eq!(usage.cached_tokens, 4);
        let json = serde_json::to_string(&usage).expect("json");
        assert!(json.contains(r#""queue_time":0.1"#) && json.contains(r#""audio_tokens":0"#), "{json}");
        assert!(json.contains(r#""cost":null"#), "an unknown price is null, never 0: {json}");
    }
}
