//! How many tokens a request will take, guessed before anything is sent, and counted when a provider does not say.

use crate::chat::Request;

/// Bytes of JSON text per token, on the safe side of English prose (4.4) and code (3.3) in the o200k vocabulary.
/// Scripts of three bytes a character come out near one token a character.
const BYTES_PER_TOKEN: f64 = 3.6;
/// Framing of one message in OpenAI's chat format.
const TOKENS_PER_MESSAGE: u64 = 4;
/// One image at high detail in common sizes (OpenAI's vision guide: 765 for 1024 x 1024).
const TOKENS_PER_IMAGE: u64 = 1000;
/// One PDF or audio clip of a page or half a minute; a floor, not a mean.
const TOKENS_PER_FILE: u64 = 1500;
/// How far the worst case lies above the guess: dense JSON and rare scripts reach 1.8 bytes a token.
const WORST: f64 = 2.0;

/// Input tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    pub expected: u64,
    /// Not exceeded by any text that people or programs write.
    pub worst: u64,
}

/// Guesses from lengths alone: constant time in the text.
pub fn prompt(request: &Request) -> Prompt {
    let text = (request.text_bytes() + request.other_bytes()) as f64 / BYTES_PER_TOKEN;
    let fixed = request.turns() as u64 * TOKENS_PER_MESSAGE
        + request.images() as u64 * TOKENS_PER_IMAGE
        + (request.audio() + request.files()) as u64 * TOKENS_PER_FILE;
    Prompt { expected: text.ceil() as u64 + fixed, worst: (text * WORST).ceil() as u64 + fixed }
}

/// Output tokens that a task usually takes: what expected cost and time are computed with until there is a better guess.
/// Round numbers near the medians of the answers in public chat logs; only their order matters much.
pub fn completion(task: &str, prompt_tokens: u64, max_tokens: Option<u64>) -> u64 {
    let usual = match task {
        "housekeeping" => 30,
        "classification" => 40,
        "tool_use" => 80,
        // The text comes back in another form.
        "rewrite" | "translation" => prompt_tokens.clamp(20, 4000),
        "safety" => 200,
        "multimodal" | "roleplay" => 250,
        "analysis" | "general" => 350,
        "coding" | "creative" | "reasoning" => 600,
        _ => 350,
    };
    usual.min(max_tokens.unwrap_or(u64::MAX))
}

/// Input tokens of a whole request, counted in its texts and tools: what the provider will count, within a few percent.
pub fn prompt_tokens(request: &Request) -> u64 {
    let fixed = request.turns() as u64 * TOKENS_PER_MESSAGE
        + request.images() as u64 * TOKENS_PER_IMAGE
        + (request.audio() + request.files()) as u64 * TOKENS_PER_FILE;
    count(&request.all_text()) + request.member("tools").map_or(0, count) + fixed
}

/// Counts the tokens of `text` in OpenAI's o200k vocabulary. Exact for its current models, close for the others.
/// Microseconds per kilobyte: for after the answer, not for the way in.
pub fn count(text: &str) -> u64 {
    bpe_openai::o200k_base().count(text) as u64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn guess(text: &str) -> Prompt {
        let body = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": text}]}).to_string();
        prompt(&Request::parse(Bytes::from(body)).expect("a request"))
    }

    #[test]
    fn the_guess_is_near_and_the_worst_case_is_never_passed() {
        for text in [
            "The quick brown fox jumps over the lazy dog and runs away from the river bank before the sun goes down.",
            "fn main() { let x: Vec<u64> = (0..10).map(|i| i * 2).collect(); println!(\"{x:?}\"); }",
            "请把下面的句子翻译成英文：今天天气很好，我们一起去公园散步吧。",
            "{\"a\":[1,2,3],\"b\":{\"c\":[{\"d\":0.125},{\"e\":\"f\"}]},\"g\":[[],[[]]]}",
        ] {
            let (guess, exact) = (guess(text), count(text));
            assert!(guess.worst >= exact, "{text}: {guess:?} against {exact}");
            assert!(
                guess.expected as f64 > exact as f64 * 0.5 && (guess.expected as f64) < exact as f64 * 2.5,
                "{text}: {guess:?} against {exact}"
            );
        }
    }
}
