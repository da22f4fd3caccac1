//! What of a provider's words about a failure may be kept. A row holds no prompt and no answer, and an error may quote both.

/// Longest message, in characters.
const LONGEST: usize = 200;
/// A longer quotation is no name of a model, a parameter or a code.
const LONGEST_NAME: usize = 40;
const QUOTES: [char; 3] = ['\'', '"', '`'];

/// The message without what looks like a quotation of more than a name: passages between quotes that have blanks or are
/// long, and everything from a bracket of JSON on, which is a request or half an answer.
pub fn without_content(message: &str) -> String {
    let json = message.find('{').into_iter().chain(message.find("[\"")).min().unwrap_or(message.len());
    let message = &message[..json];
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
    kept.trim_end_matches([' ', ':']).chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_and_quotations_go() {
        for (message, kept) in [
            ("The model `gpt-5` does not exist", "The model `gpt-5` does not exist"),
            ("Invalid 'messages': 'my secret plan'", "Invalid 'messages': '...'"),
            ("it doesn't accept \"tell me\" and won't", "it doesn't accept \"...\" and won't"),
            ("unfinished 'my secret", "unfinished '...'"),
            ("bad body {\"messages\":1}", "bad body"),
            ("not a JSON object: {\"choices\":[\"half an answer", "not a JSON object"),
            ("not a JSON object: &lt;html&gt;Bad gateway", "not a JSON object: &lt;html&gt;Bad gateway"),
        ] {
            assert_eq!(without_content(message), kept);
        }
        assert_eq!(without_content(&"x".repeat(500)).len(), LONGEST);
    }
}
