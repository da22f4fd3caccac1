//! Embeddings by `/v2/embed` (Cohere API reference, Embed).

use bytes::Bytes;
use serde_json::{Value, json};

use crate::catalog::Target;
use crate::chat::{Embed, Response, Usage, Vector};
use crate::provider::adapter::{Untranslatable, embedded, texts};
use crate::provider::failure::{Failure, quote};
use crate::provider::wanted::refuse;

/// The most texts of one call.
const MOST_TEXTS: usize = 96;

/// Cohere wants to know what a vector is for. OpenAI's members cannot say; a caller may write Cohere's own `input_type`.
const PURPOSE: &str = "search_document";

pub fn body(embed: &Embed, target: &Target) -> Result<Bytes, Untranslatable> {
    let texts = texts(embed)?;
    if texts.len() > MOST_TEXTS {
        return Err(refuse("input", format!("Cohere takes {MOST_TEXTS} texts at a time")));
    }
    let own: Value = serde_json::from_slice(&embed.body).unwrap_or_default();
    let purpose = own["input_type"].as_str().unwrap_or(PURPOSE);
    let mut body = json!({
        "model": target.model.upstream_id(),
        "texts": texts,
        "input_type": purpose,
        "embedding_types": ["float"],
    });
    if let Some(dimensions) = embed.dimensions {
        body["output_dimension"] = json!(dimensions);
    }
    Ok(Bytes::from(body.to_string()))
}

pub fn answer(body: &[u8]) -> Result<Response, Failure> {
    let text = String::from_utf8_lossy(body);
    let members: Value = serde_json::from_slice(body)
        .map_err(|_| Failure::malformed(format!("not a JSON object: {}", quote(&text, 200))))?;
    let vectors: Option<Vec<Vec<f32>>> = serde_json::from_value(members["embeddings"]["float"].clone()).ok();
    let Some(vectors) = vectors else {
        return Err(
            Failure::of_error(&text, None).unwrap_or_else(|| Failure::malformed("an answer without embeddings"))
        );
    };
    let billed = members["meta"]["billed_units"]["input_tokens"].as_f64().filter(|count| (0.0..1e9).contains(count));
    let usage = billed.map(|count| Usage { prompt_tokens: count as u64, ..Usage::default() });
    let id = members["id"].as_str().unwrap_or_default().to_owned();
    Ok(embedded(id, String::new(), vectors.into_iter().map(Vector::Floats).collect(), usage))
}
