//! Believable vectors: the same text gives the same one, and every other text another.

use serde_json::json;

use crate::chat::Embed;
use crate::provider::adapter::{Untranslatable, texts};

/// Length of a vector, unless the caller says otherwise. At most `LONGEST`.
const USUAL: u32 = 64;
const LONGEST: u32 = 4096;

/// OpenAI's answer to the request.
pub fn answer(embed: &Embed, model: &str) -> Result<String, Untranslatable> {
    let texts = texts(embed)?;
    let length = embed.dimensions.unwrap_or(USUAL).min(LONGEST) as usize;
    let data: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text, length)}))
        .collect();
    let tokens: usize = texts.iter().map(|text| text.len().div_ceil(4)).sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(json!({"object": "list", "data": data, "model": model, "usage": usage}).to_string())
}

/// Of length 1, as OpenAI's are.
fn vector(text: &str, length: usize) -> Vec<f32> {
    let mut bytes = vec![0; length * 2];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut bytes);
    let numbers = bytes.as_chunks::<2>().0.iter().map(|bytes| f32::from(i16::from_le_bytes(*bytes)));
    let numbers: Vec<f32> = numbers.collect();
    let norm = numbers.iter().map(|number| number * number).sum::<f32>().sqrt().max(1.0);
    numbers.into_iter().map(|number| number / norm).collect()
}
