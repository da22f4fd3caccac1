//! Embeddings by `/api/embed` (Ollama, API documentation, Generate Embeddings).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::catalog::Target;
use crate::chat::{Embed, Response, Usage, Vector};
use crate::provider::adapter::{Untranslatable, embedded, texts};
use crate::provider::failure::{Failure, quote};

pub fn body(embed: &Embed, target: &Target) -> Result<Bytes, Untranslatable> {
    let mut body = json!({"model": target.model.upstream_id(), "input": texts(embed)?});
    if let Some(dimensions) = embed.dimensions {
        body["dimensions"] = json!(dimensions);
    }
    Ok(Bytes::from(body.to_string()))
}

pub fn answer(body: &[u8]) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        model: String,
        embeddings: Vec<Vec<f32>>,
        prompt_eval_count: Option<u32>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        let text = String::from_utf8_lossy(body);
        Failure::of_error(&text, None)
            .unwrap_or_else(|| Failure::malformed(format!("no embeddings: {}", quote(&text, 200))))
    })?;
    let usage = answer.prompt_eval_count.map(|count| Usage { prompt_tokens: u64::from(count), ..Usage::default() });
    let vectors = answer.embeddings.into_iter().map(Vector::Floats).collect();
    Ok(embedded(String::new(), answer.model, vectors, usage))
}
