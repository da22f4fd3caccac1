//! What a provider says it would still take: its rate-limit headers, in every spelling seen.
//!
//! Answers carry them too, not only refusals: whoever reads them can go elsewhere before the 429 comes.

use std::time::Duration;

use http::HeaderMap;

/// Longest wait for a refill that is believed, as for `Retry-After`.
const LONGEST: Duration = Duration::from_secs(300);

/// What is left of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub remaining: u64,
    /// Until it is refilled; 300 s at most.
    pub reset: Duration,
}

/// `None` where the provider says nothing that can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headroom {
    pub requests: Option<Left>,
    pub tokens: Option<Left>,
}

/// (remaining, reset). OpenAI and most of its relatives; Anthropic; then the IETF draft's names and OpenRouter's, which
/// count requests. (OpenAI, Rate limits; Anthropic, Rate limits, Response headers; draft-ietf-httpapi-ratelimit-headers)
const REQUESTS: [(&str, &str); 4] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
];
const TOKENS: [(&str, &str); 4] = [
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
];

impl Headroom {
    /// Reads an answer's headers. `now_unix` (seconds) resolves points in time. Garbage is no word at all.
    pub fn read(headers: &HeaderMap, now_unix: i64) -> Self {
        // Most answers carry none; looking for one name costs less than looking for eight.
        let any = headers.keys().any(|name| name.as_str().contains("ratelimit"));
        if !any {
            return Self::default();
        }
        Self { requests: least(headers, &REQUESTS, now_unix), tokens: least(headers, &TOKENS, now_unix) }
    }
}

/// Of several limits the one that is nearest.
fn least(headers: &HeaderMap, names: &[(&str, &str)], now_unix: i64) -> Option<Left> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let left = |(remaining, refilled): &(&str, &str)| {
        // Fractions have been seen; nothing is left of less than one.
        let remaining: f64 = text(remaining)?.parse().ok().filter(|left: &f64| left.is_finite())?;
        let reset = reset(text(refilled)?, now_unix)?.min(LONGEST);
        Some(Left { remaining: remaining.max(0.0) as u64, reset })
    };
    names.iter().filter_map(left).min_by_key(|left| left.remaining)
}

/// `1m30s`, `12ms`, seconds, seconds or milliseconds since 1970, or RFC 3339.
fn reset(value: &str, now_unix: i64) -> Option<Duration> {
    let until = |seconds: f64| Duration::from_secs_f64((seconds - now_unix as f64).clamp(0.0, 1e6));
    if let Ok(number) = value.parse::<f64>() {
        return match number {
            number if !number.is_finite() || number < 0.0 => None,
            number if number >= 1e11 => Some(until(number / 1000.0)),
            number if number >= 1e9 => Some(until(number)),
            number => Some(Duration::from_secs_f64(number.min(1e6))),
        };
    }
    if let Ok(at) = value.parse::<jiff::Timestamp>() {
        return Some(until(at.as_second() as f64));
    }
    crate::units::duration(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Headroom {
        let headers = pairs.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).expect("a value"))
        });
        Headroom::read(&headers.collect(), 1_445_412_400)
    }

    fn left(remaining: u64, seconds: u64) -> Option<Left> {
        Some(Left { remaining, reset: Duration::from_secs(seconds) })
    }

    #[test]
    fn every_spelling_is_understood() {
        let openai = [
            ("x-ratelimit-remaining-requests", "3"),
            ("x-ratelimit-reset-requests", "1m30s"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6s"),
        ];
        assert_eq!(read(&openai), Headroom { requests: left(3, 90), tokens: left(149_984, 6) });
        let anthropic = [
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2015-10-21T07:27:00Z"),
            ("anthropic-ratelimit-input-tokens-remaining", "9000"),
            ("anthropic-ratelimit-input-tokens-reset", "2015-10-21T07:26:50Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "500"),
            ("anthropic-ratelimit-output-tokens-reset", "2015-10-21T07:26:45Z"),
        ];
        assert_eq!(read(&anthropic), Headroom { requests: left(0, 20), tokens: left(500, 5) });
        let openrouter = [("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "1445412410000")];
        assert_eq!(read(&openrouter).requests, left(7, 10));
        assert_eq!(read(&[("ratelimit-remaining", "7"), ("ratelimit-reset", "50")]).requests, left(7, 50));
    }

    #[test]
    fn garbage_is_no_word_at_all() {
        for (remaining, reset) in [("many", "1s"), ("3", "soon"), ("NaN", "1"), ("3", "-1"), ("", "")] {
            let read = read(&[("x-ratelimit-remaining-requests", remaining), ("x-ratelimit-reset-requests", reset)]);
            assert_eq!(read, Headroom::default(), "{remaining} {reset}");
        }
        assert_eq!(read(&[("x-ratelimit-remaining", "-2"), ("x-ratelimit-reset", "1e30")]).requests, left(0, 300));
    }
}
