//! Headers that clients of LiteLLM's proxy send. What has a meaning here is understood; the rest is named in
//! `x-stepwell-warnings`, by name alone. None of them ever reaches a provider. docs/compatibility.md has the table.

use std::time::Duration;

use http::HeaderValue;

use super::bad;
use crate::rank::hints::{BadHint, Hints};

pub const PREFIX: &str = "x-litellm-";

/// Most tags of one request; each is a group of its own in reports.
const MOST_TAGS: usize = 8;
/// Characters of a tag.
const LONGEST_TAG: usize = 64;
/// A century.
const LONGEST_SECONDS: f64 = 3.2e9;

/// Of which we do already what they ask for.
const ALWAYS: [&str; 1] = ["enable-message-redaction"];

/// `name` without the prefix. A number that is none is refused: whoever sets a limit counts on it.
pub fn set(hints: &mut Hints, name: &str, value: &HeaderValue, streams: bool) -> Result<(), BadHint> {
    let full = || format!("{PREFIX}{name}");
    let text = || value.to_str().map(str::trim).map_err(|_| bad(&full(), "the header is not plain text"));
    match name {
        "timeout" => {
            shorten(hints, seconds(text()?).ok_or_else(|| bad(&full(), "expected seconds, such as 30 or 0.5"))?)
        }
        "stream-timeout" => {
            let limit = seconds(text()?).ok_or_else(|| bad(&full(), "expected seconds, such as 30 or 0.5"))?;
            if streams {
                shorten(hints, limit);
            }
        }
        "num-retries" => {
            let retries: u32 = text()?.parse().map_err(|_| bad(&full(), "expected a whole number, 0 or more"))?;
            hints.max_attempts = Some(retries.saturating_add(1));
        }
        "tags" => add_tags(hints, text()?.split(',')),
        _ if ALWAYS.contains(&name) => {}
        _ => hints.unknown.push(full()),
    }
    Ok(())
}

/// `metadata.tags` as LiteLLM's clients send it: a list, where OpenAI's metadata has texts only.
pub fn listed_tags(hints: &mut Hints, json: &str) {
    match serde_json::from_str::<Vec<String>>(json) {
        Ok(tags) => add_tags(hints, tags.iter().map(String::as_str)),
        Err(_) => hints.notes.push("`metadata.tags` is no list of texts; ignored".to_owned()),
    }
}

fn shorten(hints: &mut Hints, limit: Duration) {
    hints.deadline = Some(hints.deadline.map_or(limit, |other| other.min(limit)));
}

/// More than 0.
fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0 && *seconds < LONGEST_SECONDS)?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Letters, digits and `-_.@:/`: safe in reports and in every label. Others are left out, and that is said.
fn add_tags<'a>(hints: &mut Hints, tags: impl Iterator<Item = &'a str>) {
    let fits = |tag: &str| {
        tag.chars().count() <= LONGEST_TAG && tag.chars().all(|c| c.is_alphanumeric() || "-_.@:/".contains(c))
    };
    let mut refused = 0;
    for tag in tags.map(str::trim).filter(|tag| !tag.is_empty()) {
        if hints.tags.iter().any(|other| other == tag) {
            continue;
        }
        if hints.tags.len() < MOST_TAGS && fits(tag) {
            hints.tags.push(tag.to_owned());
        } else {
            refused += 1;
        }
    }
    if refused > 0 {
        hints.notes.push(format!(
            "{refused} tags left out: at most {MOST_TAGS} of up to {LONGEST_TAG} letters, digits and -_.@:/"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)], streams: bool) -> Result<Hints, BadHint> {
        let mut hints = Hints::default();
        for (name, value) in headers {
            set(&mut hints, name, &HeaderValue::from_str(value).expect("a value"), streams)?;
        }
        Ok(hints)
    }

    #[test]
    fn times_are_seconds_and_the_shortest_counts() {
        let both = [("timeout", "30"), ("stream-timeout", "0.5")];
        assert_eq!(read(&both, false).map(|hints| hints.deadline), Ok(Some(Duration::from_secs(30))));
        assert_eq!(read(&both, true).map(|hints| hints.deadline), Ok(Some(Duration::from_millis(500))));
        for text in ["0", "-1", "soon", "NaN", "inf", "1e300", ""] {
            assert!(read(&[("timeout", text)], false).is_err(), "{text}");
        }
    }

    #[test]
    fn retries_are_attempts_and_never_more_than_configured() {
        let attempts = |retries: &str| read(&[("num-retries", retries)], false).map(|hints| hints.attempts(3));
        assert_eq!([attempts("0"), attempts("1"), attempts("4294967295")], [Ok(1), Ok(2), Ok(3)]);
        assert!(attempts("-1").is_err());
    }

    #[test]
    fn tags_are_few_short_and_plain() {
        let many: String = (0..20).map(|n| format!("t{n},")).collect();
        let hints =
            read(&[("tags", &format!("a b,jobID:7, a/b ,a/b,{many}{}", "x".repeat(65)))], false).expect("hints");
        assert_eq!(hints.tags.len(), MOST_TAGS);
        assert_eq!(&hints.tags[..2], ["jobID:7", "a/b"]);
        assert!(hints.notes.len() == 1 && hints.notes[0].starts_with("16 tags left out"), "{:?}", hints.notes);
        assert!(!hints.notes[0].contains("a b"), "what was sent is not repeated");
    }
}
