//! Takes a caller's words out of a provider's: an error may quote the prompt that caused it, and prompts are kept nowhere.

use std::collections::HashSet;

/// So many bytes in a row in both texts are a quotation. Shorter ones are the words that everybody uses.
const SHORTEST: usize = 12;
/// A prompt that is shorter than that is looked for as a whole, down to this length.
const WORD: usize = 4;
/// Of a long prompt its beginning and its end are compared, this much of each.
const COMPARED: usize = 256 << 10;
/// Stands where something was quoted.
const MARK: &str = "[quoted]";

/// `message` without what it quotes from `text`.
pub fn without(message: &str, text: &str) -> String {
    let trimmed = text.trim();
    if message.is_empty() || trimmed.len() < WORD {
        return message.to_owned();
    }
    if trimmed.len() < SHORTEST {
        return message.replace(trimmed, MARK);
    }
    let bytes = message.as_bytes();
    let mut quoted = vec![false; bytes.len()];
    let known: HashSet<&[u8]> = bytes.windows(SHORTEST).collect();
    let text = text.as_bytes();
    let (head, tail) = (&text[..text.len().min(COMPARED)], &text[text.len().saturating_sub(COMPARED)..]);
    let tail = if text.len() > COMPARED { tail } else { &[] };
    let found: HashSet<&[u8]> =
        head.windows(SHORTEST).chain(tail.windows(SHORTEST)).filter(|window| known.contains(window)).collect();
    if found.is_empty() {
        return message.to_owned();
    }
    for (at, window) in bytes.windows(SHORTEST).enumerate() {
        if found.contains(window) {
            quoted[at..at + SHORTEST].fill(true);
        }
    }
    let (mut kept, mut inside) = (String::with_capacity(message.len()), false);
    for (at, c) in message.char_indices() {
        match (quoted[at], inside) {
            (true, false) => kept.push_str(MARK),
            (false, _) => kept.push(c),
            (true, true) => {}
        }
        inside = quoted[at];
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_prompt_says_is_taken_out_and_nothing_else() {
        let prompt = "You are a helpful bot.\nMy password is swordfish-4711, remember it.\n";
        for (message, kept) in [
            ("invalid input: 'My password is swordfish-4711, remember it.'", "invalid input: '[quoted]'"),
            ("cannot parse `swordfish-4711, re` here", "cannot parse `[quoted]` here"),
            ("the model is overloaded, try again", "the model is overloaded, try again"),
            ("", ""),
        ] {
            assert_eq!(without(message, prompt), kept);
        }
        assert_eq!(without("bad word: secret!", " secret\n"), "bad word: [quoted]!");
        assert_eq!(without("this is it", "is"), "this is it", "too short to tell anything");
        let long = format!("{}the end of a long story", "x".repeat(3 * COMPARED));
        assert_eq!(without("near 'the end of a long story'", &long), "near '[quoted]'");
    }

    proptest::proptest! {
        #[test]
        fn nothing_of_a_prompt_is_left(before in "[a-z ]{0,20}", prompt in "\\PC{12,60}", after in "\\PC{0,20}") {
            let kept = without(&format!("{before}{prompt}{after}"), &prompt);
            proptest::prop_assert!(!kept.contains(&prompt), "{kept}");
        }
    }
}
