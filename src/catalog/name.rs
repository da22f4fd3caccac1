//! Model names as people and providers spell them, compared by what they mean.
//!
//! `claude-sonnet-4.5`, `anthropic/claude-sonnet-4-5-20250929` and `Claude-Sonnet-4-5` are one model; `glm-5.2` is the
//! predecessor of `glm-5.3` and `llama-3.1-8b` not that of `llama-3.1-70b`.

/// Words that say how a model was tuned, left out by some spellings.
const TUNING: [&str; 2] = ["instruct", "it"];

/// The name without vendor prefix, full date, case and spelling habits.
pub(super) fn key(id: &str) -> String {
    let tokens = tokens(undated(plain(id)));
    tokens.iter().filter(|token| !TUNING.contains(&token.as_str())).map(String::as_str).collect::<Vec<_>>().join("-")
}

/// The part after the last slash: `meta-llama/Llama-3.1-8B` is known as `Llama-3.1-8B`.
fn plain(id: &str) -> &str {
    let id = id.rsplit('/').next().unwrap_or(id);
    id.strip_suffix(":latest").unwrap_or(id)
}

/// Without a full date at the end: `-2025-08-07` or `-20250807`. Short ones (`-0613`) tell versions apart and stay.
pub(super) fn undated(id: &str) -> &str {
    let shape: String = id.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let length =
        ["-0000-00-00", "-00000000", "@00000000"].iter().find(|date| shape.ends_with(**date)).map_or(0, |d| d.len());
    &id[..id.len() - length]
}

/// The id that this one is a pinned or moving copy of, if its ending says so: a date, `latest`, `preview`.
pub(super) fn original(id: &str) -> Option<&str> {
    let full = undated(id);
    if full.len() < id.len() {
        return Some(full);
    }
    let (rest, ending) = id.rsplit_once('-')?;
    if ["latest", "preview", "beta"].contains(&ending) || is_short_date(ending) {
        // Cohere writes month and year: `command-r-08-2024`.
        let month =
            rest.rsplit_once('-').filter(|(_, month)| is_short_date(ending) && month.len() == 2 && is_number(month));
        return Some(month.map_or(rest, |(rest, _)| rest));
    }
    None
}

fn is_short_date(text: &str) -> bool {
    text.len() == 4 && is_number(text)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Runs of letters and of digits, in lower case. Neighbouring short numbers are one version: `4-5` is `4.5`.
fn tokens(id: &str) -> Vec<String> {
    let lower = id.to_ascii_lowercase();
    let mut raw: Vec<String> = Vec::new();
    let mut run = String::new();
    for c in lower.chars() {
        let fits = match run.chars().next() {
            None => true,
            Some(first) if first.is_ascii_digit() => c.is_ascii_digit() || c == '.',
            Some(_) => c.is_alphabetic(),
        };
        let separates = !(c.is_alphanumeric() || c == '.');
        if !fits || separates {
            raw.extend(finished(&mut run));
        }
        if c.is_alphanumeric() || (c == '.' && !run.is_empty()) {
            run.push(c);
        }
    }
    raw.extend(finished(&mut run));

    let short = |token: Option<&String>| token.is_some_and(|token| token.len() <= 2 && is_number(token));
    let sized = |token: Option<&String>| token.is_some_and(|token| SIZES.contains(&token.as_str()));
    let mut merged: Vec<String> = Vec::new();
    for (at, token) in raw.iter().enumerate() {
        let joins = short(Some(token)) && short(merged.last()) && !sized(raw.get(at + 1));
        match merged.last_mut() {
            Some(last) if joins => {
                last.push('.');
                last.push_str(token);
            }
            _ => merged.push(token.clone()),
        }
    }
    merged
}

fn finished(run: &mut String) -> Option<String> {
    let token = run.trim_end_matches('.').to_owned();
    run.clear();
    (!token.is_empty()).then_some(token)
}

/// Letters that make a number a size: `70b`, `500m`, `16k`, `128e`.
const SIZES: [&str; 4] = ["b", "m", "k", "e"];

/// The line that a model belongs to, and its place in it: `glm-5.3` is `[5, 3]` in the line `glm`. A name that moves
/// (`-latest`) is after all others. `None` without any place.
pub(super) fn line(id: &str) -> Option<(String, Vec<Vec<u64>>)> {
    let tokens = tokens(undated(plain(id)));
    let mut version = Vec::new();
    let mut words = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_size = tokens.get(at + 1).is_some_and(|next| SIZES.contains(&next.as_str()));
        if token.starts_with(|c: char| c.is_ascii_digit()) && !is_size {
            version.push(token.split('.').map(|part| part.parse().unwrap_or(0)).collect());
        } else if token == "latest" {
            version.push(vec![u64::MAX]);
        } else if token != "preview" && !TUNING.contains(&token.as_str()) {
            words.push(token.as_str());
        }
    }
    (!version.is_empty()).then(|| (words.join("-"), version))
}

/// The size that a name without one leaves open: `llama-3.2` against `llama-3.2-3b` gives 3.
pub(super) fn size_beyond(short: &str, long: &str) -> Option<f64> {
    long.strip_prefix(short)?.strip_prefix('-')?.strip_suffix("-b")?.parse().ok()
}

/// The first string in a JSON line, `{"model":"x",..}`: enough to pick lines without parsing them.
pub(super) fn first_value(line: &str) -> Option<&str> {
    line.split('"').nth(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_model_have_one_key() {
        for (one, other) in [
            ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5-20250929"),
            ("llama3.1:8b", "Meta-Llama/Llama-3.1-8B-Instruct"),
            ("qwen-3-32b", "qwen3-32b"),
            ("MiniMax-M2.5", "minimax-m2.5"),
            ("gpt-5-2025-08-07", "openai/gpt-5"),
        ] {
            assert_eq!(key(one), key(other));
        }
        assert_ne!(key("llama-3.1-8b"), key("llama-3.1-70b"));
        assert_ne!(key("gpt-5-chat"), key("gpt-5"));
    }

    #[test]
    fn versions_of_one_line_are_comparable() {
        for (older, newer) in [
            ("glm-5.2", "glm-5.3"),
            ("claude-haiku-4-5", "claude-haiku-5-5"),
            ("claude-sonnet-5", "claude-sonnet-5-5"),
            ("gpt-5.6-sol", "gpt-6.1-sol"),
            ("deepseek-v4-pro", "deepseek-v4-pro-0813"),
            ("mistral-large-3", "mistral-large-4-0"),
            ("mistral-large-3", "mistral-large-latest"),
            ("ministral-3b-2512", "ministral-3b-latest"),
        ] {
            let (older, newer) = (line(older).expect("a line"), line(newer).expect("a line"));
            assert_eq!(older.0, newer.0);
            assert!(older.1 < newer.1);
        }
        assert_ne!(line("llama-3.1-8b").expect("a line").0, line("llama-3.2-70b").expect("a line").0);
        assert_eq!(line("qwen-plus"), None);
    }

    #[test]
    fn a_copy_names_its_original() {
        assert_eq!(original("gpt-5-2025-08-07"), Some("gpt-5"));
        assert_eq!(original("claude-opus-4-5-20251101"), Some("claude-opus-4-5"));
        assert_eq!(original("grok-4.3-latest"), Some("grok-4.3"));
        assert_eq!(original("command-r-08-2024"), Some("command-r"));
        assert_eq!(original("gpt-5-mini"), None);
    }

    #[test]
    fn odd_names_do_no_harm() {
        for id in ["", "/", "-", "..", "é/ü-1.", "1.2.3.4", "-2025-08-07"] {
            let _ = (key(id), line(id), original(id));
        }
    }
}
