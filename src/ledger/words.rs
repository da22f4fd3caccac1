//! What of a provider's words about a failure may be kept. A row holds no prompt and no answer, and an error may quote both.

/// Longest message, in characters.
const LONGEST: usize = 200;
/// A longer quotation is no name of a model, a parameter or a code.
const LONGEST_NAME: usize = 40;
const QUOTES: [char; 3] = ['\'', '"', '`'];

/// The message without what looks like a quotation of more than a name: passages between quotes that have blanks or are
/// long, everything from a brace on, and for an answer that is not what it should be, everything after the colon.
pub fn without_content(kind: Option<&str>, message: &str) -> String {
    let message = match kind {
        Some("malformed") => message.split(':').next().unwrap_or_default(),
        _ => message.split('{').next().unwrap_or_default(),
    };
    let mut kept = String::new();
    let mut rest = message;
    while let Some(start) = rest.find(QUOTES) {
        let quote = rest[start..].chars().next().unwrap_or_default();
        let (before, after) = (&rest[..start], &rest[start + quote.len_utf8()..]);
        kept.push_str(before);
        kept.push(quote);
        // A quotation without an end may go on to the end.
        let (quoted, closed) = after.split_once(quote).map_or((after, None), |(quoted, rest)| (quoted, Some(rest)));
        // An apostrophe begins no quotation.
        let apostrophe = quote == '\'' && before.ends_with(char::is_alphanumeric);
        if apostrophe {
            rest = after;
            continue;
        }
        let is_name = closed.is_some() && quoted.len() <= LONGEST_NAME && !quoted.contains(char::is_whitespace);
        kept.push_str(if is_name { quoted } else { "..." });
        kept.push(quote);
        rest = closed.unwrap_or_default();
    }
    kept.push_str(rest);
    kept.trim_end().chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_and_quotations_go() {
        for (kind, message, kept) in [
            ("not_found", "The model `gpt-5` does not exist", "The model `gpt-5` does not exist"),
            ("bad_request", "Invalid 'messages': 'my secret plan'", "Invalid 'messages': '...'"),
            ("bad_request", "it doesn't accept \"tell me\" and won't", "it doesn't accept \"...\" and won't"),
            ("bad_request", "unfinished 'my secret", "unfinished '...'"),
            ("bad_request", "bad body {\"messages\":1}", "bad body"),
            ("malformed", "not a JSON object: {\"choices\":[\"half an answer", "not a JSON object"),
        ] {
            assert_eq!(without_content(Some(kind), message), kept);
        }
        assert_eq!(without_content(None, &"x".repeat(500)).len(), LONGEST);
    }
}
