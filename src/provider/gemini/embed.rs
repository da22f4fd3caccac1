//! Embeddings by `batchEmbedContents` (Gemini API reference, Embeddings).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::catalog::Target;
use crate::chat::{Embed, Response, Vector};
use crate::provider::adapter::{Untranslatable, embedded, texts};
use crate::provider::failure::{Failure, quote};
use crate::provider::wanted::refuse;

/// The most texts of one call.
const MOST_TEXTS: usize = 100;

pub fn body(embed: &Embed, target: &Target) -> Result<Bytes, Untranslatable> {
    let texts = texts(embed)?;
    if texts.len() > MOST_TEXTS {
        return Err(refuse("input", format!("Gemini takes {MOST_TEXTS} texts at a time")));
    }
    let model = format!("models/{}", target.model.upstream_id());
    let requests = texts.iter().map(|text| {
        let mut request = json!({"model": model, "content": {"parts": [{"text": text}]}});
        if let Some(dimensions) = embed.dimensions {
            request["outputDimensionality"] = json!(dimensions);
        }
        request
    });
    Ok(Bytes::from(json!({"requests": requests.collect::<Vec<_>>()}).to_string()))
}

pub fn answer(body: &[u8]) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        embeddings: Vec<Embedding>,
    }
    #[derive(Deserialize)]
    struct Embedding {
        values: Vec<f32>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        let text = String::from_utf8_lossy(body);
        Failure::of_error(&text, None)
            .unwrap_or_else(|| Failure::malformed(format!("no embeddings: {}", quote(&text, 200))))
    })?;
    let vectors = answer.embeddings.into_iter().map(|embedding| Vector::Floats(embedding.values)).collect();
    // The API counts no tokens; they are counted here, and marked.
    Ok(embedded(String::new(), String::new(), vectors, None))
}
