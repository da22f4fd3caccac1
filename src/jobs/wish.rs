//! When and how a caller wants a job done: the hints that only requests to be answered later have.

use jiff::Timestamp;

use super::settings::Settings;
use crate::units;

/// A caller's wishes, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// -100 to 100; higher goes first.
    pub priority: i16,
    pub not_before_unix_ms: Option<i64>,
    pub expires_unix_ms: Option<i64>,
    /// Who is told of the end.
    pub webhook: Option<String>,
}

/// A wish that cannot be granted: which, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hint `{hint}`: {reason}")]
pub struct BadWish {
    pub hint: &'static str,
    pub reason: String,
}

/// The furthest that a job may be put off, in milliseconds: a year.
const FURTHEST_MS: i64 = 366 * 24 * 3600 * 1000;

impl Wish {
    /// The words, as in `context`, `metadata` and headers.
    pub const NAMES: [&'static str; 5] = ["priority", "not_before", "expires", "off_peak", "webhook"];

    /// Reads wishes from texts by their names.
    pub fn read(texts: &[(&'static str, String)], settings: &Settings, now_ms: i64) -> Result<Self, BadWish> {
        let mut wish = Self::default();
        let mut off_peak = false;
        for (hint, text) in texts {
            let text = text.trim();
            let bad = |reason: &str| BadWish { hint, reason: format!("`{}` is {reason}", shortened(text)) };
            let moment = || moment(text, now_ms).ok_or_else(|| bad("neither RFC 3339 nor a span from now such as 2h"));
            match *hint {
                "priority" => {
                    let priority = text.parse().ok().filter(|priority| (-100..=100).contains(priority));
                    wish.priority = priority.ok_or_else(|| bad("no whole number from -100 to 100"))?;
                }
                "not_before" => wish.not_before_unix_ms = Some(moment()?),
                "expires" => wish.expires_unix_ms = Some(moment()?),
                "off_peak" => {
                    off_peak = match text {
                        "true" => true,
                        "false" => false,
                        _ => return Err(bad("neither true nor false")),
                    }
                }
                "webhook" => wish.webhook = Some(text.to_owned()),
                _ => {}
            }
        }
        if off_peak {
            let Some(window) = &settings.off_peak else {
                let reason = "there is no off-peak time here (`jobs.off_peak`)".to_owned();
                return Err(BadWish { hint: "off_peak", reason });
            };
            let earliest = wish.not_before_unix_ms.unwrap_or(now_ms).max(now_ms);
            wish.not_before_unix_ms = Some(window.next(earliest));
        }
        let begins = wish.not_before_unix_ms.unwrap_or(now_ms).max(now_ms);
        let of_use = i64::try_from(settings.expires.0.as_millis()).unwrap_or(FURTHEST_MS);
        let expires = *wish.expires_unix_ms.get_or_insert(begins.saturating_add(of_use));
        if expires <= begins {
            let reason = "the request would be over before it may begin".to_owned();
            return Err(BadWish { hint: "expires", reason });
        }
        if expires > now_ms.saturating_add(FURTHEST_MS) {
            return Err(BadWish { hint: "expires", reason: "a request waits for a year at most".to_owned() });
        }
        Ok(wish)
    }
}

fn moment(text: &str, now_ms: i64) -> Option<i64> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let span = units::duration(text).ok()?;
    now_ms.checked_add(i64::try_from(span.as_millis()).ok()?)
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[(&'static str, &str)]) -> Result<Wish, String> {
        let texts: Vec<_> = texts.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        Wish::read(&texts, &Settings::default(), 1_000_000).map_err(|bad| bad.to_string())
    }

    #[test]
    fn moments_are_spans_or_stamps_and_everything_ends_some_day() {
        let wish = read(&[("not_before", "2m"), ("priority", "-7")]).expect("fine");
        assert_eq!((wish.priority, wish.not_before_unix_ms), (-7, Some(1_120_000)));
        assert_eq!(wish.expires_unix_ms, Some(1_120_000 + 86_400_000), "a day after it may begin");
        let stamp = read(&[("expires", "1970-01-01T01:00:00Z")]).expect("fine");
        assert_eq!(stamp.expires_unix_ms, Some(3_600_000));
    }

    #[test]
    fn what_cannot_be_granted_names_the_hint_and_the_reason() {
        for (texts, says) in [
            (vec![("priority", "high")], "hint `priority`: `high` is no whole number from -100 to 100"),
            (vec![("priority", "101")], "from -100 to 100"),
            (vec![("not_before", "soon")], "neither RFC 3339 nor a span"),
            (vec![("off_peak", "true")], "jobs.off_peak"),
            (vec![("not_before", "2h"), ("expires", "1h")], "over before it may begin"),
            (vec![("expires", "9000d")], "a year at most"),
        ] {
            let error = read(&texts).expect_err("impossible");
            assert!(error.contains(says), "{error}");
        }
    }
}
