//! How long a provider asks to be left alone, in every spelling seen: headers, words and members.
//!
//! Only read here: what is believed of it (`retry.respect_retry_after`) is decided where it is used.

use std::time::Duration;

use http::HeaderMap;

/// OpenAI's and Groq's words for a wait: "Please try again in 6.2s."
pub(super) fn try_again_in(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("try again in ")?;
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    crate::units::duration(rest[..end].trim_end_matches(['.', ',', ')'])).ok()
}

/// Google's RetryInfo: `"retryDelay": "17s"`.
pub(super) fn retry_delay(json: &str) -> Option<Duration> {
    let (_, rest) = json.split_once("\"retryDelay\"")?;
    let (_, rest) = rest.split_once('"')?;
    let (value, _) = rest.split_once('"')?;
    crate::units::duration(value).ok()
}

/// The wait that a provider asks for, in every spelling seen: `retry-after-ms`, `retry-after` (seconds, also fractional,
/// or an HTTP date in any of its three forms), `x-ratelimit-reset-*` (`1m30s`, `12ms`) where it says that the limit is
/// exhausted, or where a 429 says nothing else. Garbage is no hint, and does not hide a better one.
pub(super) fn retry_after(status: u16, headers: &HeaderMap, now_unix: i64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds = |value: &str| value.parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0 && *s < 1e9);
    let in_ms = || text("retry-after-ms").and_then(seconds).map(|ms| Duration::from_secs_f64(ms / 1000.0));
    let plain = || {
        let value = text("retry-after")?;
        let span = || seconds(value).map(Duration::from_secs_f64).or_else(|| crate::units::duration(value).ok());
        let until = || {
            let at = http_date(value)?;
            Some(Duration::from_secs(at.saturating_sub(now_unix).max(0).unsigned_abs()))
        };
        span().or_else(until)
    };
    in_ms().or_else(plain).or_else(|| reset(status, text))
}

/// When an exhausted rate limit is full again, by OpenAI's headers and their relatives.
fn reset<'h>(status: u16, text: impl Fn(&str) -> Option<&'h str>) -> Option<Duration> {
    let kinds = ["requests", "tokens"];
    let left = kinds.map(|kind| text(&format!("x-ratelimit-remaining-{kind}")));
    let unsaid = status == 429 && left.iter().all(Option::is_none);
    let exhausted = kinds.iter().zip(left).filter(|(_, left)| unsaid || *left == Some("0"));
    let wait = |kind: &str| crate::units::duration(text(&format!("x-ratelimit-reset-{kind}"))?).ok();
    exhausted.filter_map(|(kind, _)| wait(kind)).max()
}

/// Unix seconds of an HTTP date: today's form and the two obsolete ones that are still to be understood (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<i64> {
    if let Ok(date) = jiff::fmt::rfc2822::parse(text) {
        return Some(date.timestamp().as_second());
    }
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"].iter().find_map(|format| {
        let date = jiff::fmt::strtime::parse(format, text).ok()?.to_datetime().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Fault A02: whatever stands there, it is a wait that the clock can take or none at all.
        #[test]
        fn no_value_makes_it_panic(
            value in "[ -~]{0,40}|-?[0-9]{1,30}(\\.[0-9]{0,9})?(e[0-9]{1,4})?(ms|s|m|h|d)?|[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{0,9} GMT",
            now in any::<i32>(),
        ) {
            for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"] {
                let mut headers = HeaderMap::new();
                headers.insert(name, value.parse().expect("a printable value"));
                if let Some(wait) = retry_after(429, &headers, i64::from(now)) {
                    prop_assert!(std::time::Instant::now().checked_add(wait).is_some(), "{name}: {value}: {wait:?}");
                }
            }
            let _ = (try_again_in(&value), retry_delay(&value));
        }
    }

    #[test]
    fn a_wait_is_read_in_every_spelling() {
        let wait = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().expect("value"));
            }
            retry_after(429, &headers, 1_445_412_400)
        };
        assert_eq!(wait(&[("retry-after", "30")]), Some(Duration::from_secs(30)));
        assert_eq!(wait(&[("retry-after", "1.5")]), Some(Duration::from_millis(1500)));
        assert_eq!(wait(&[("retry-after-ms", "250"), ("retry-after", "9")]), Some(Duration::from_millis(250)));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), Some(Duration::from_secs(80)));
        assert_eq!(
            wait(&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1m30s")]),
            Some(Duration::from_secs(90))
        );
        for (date, seconds) in [
            ("Wednesday, 21-Oct-15 07:28:00 GMT", 80),
            ("Wed Oct 21 07:28:00 2015", 80),
            ("Wed, 21 Oct 2015 07:00:00 GMT", 0),
        ] {
            assert_eq!(wait(&[("retry-after", date)]), Some(Duration::from_secs(seconds)), "{date}");
        }
        let reset = ("x-ratelimit-reset-requests", "1m30s");
        assert_eq!(wait(&[reset]), Some(Duration::from_secs(90)));
        assert_eq!(wait(&[("retry-after", "soon"), reset]), Some(Duration::from_secs(90)), "garbage hides nothing");
        assert_eq!(wait(&[("x-ratelimit-remaining-requests", "7"), reset]), None, "that limit is not exhausted");
        for garbage in ["soon", "-5", "1e400", "NaN", ""] {
            assert_eq!(wait(&[("retry-after", garbage)]), None, "{garbage}");
        }
    }
}
