//! Embeddings in OpenAI's dialect.

use bytes::Bytes;

use crate::catalog::Target;
use crate::chat::{Embed, Object, Response, Usage, Vector, object};
use crate::provider::adapter::embedded;
use crate::provider::failure::{Failure, quote};

/// The caller's own members; only `model` is ours.
pub fn body(embed: &Embed, target: &Target) -> Bytes {
    let mut out = b"{\"model\":".to_vec();
    // Writing a string to memory as JSON cannot fail.
    let _ = serde_json::to_writer(&mut out, target.model.upstream_id());
    let rest = embed.body.trim_ascii_start().strip_prefix(b"{").unwrap_or(b"}");
    if rest.trim_ascii_start().first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(rest);
    out.into()
}

pub fn answer(body: &[u8]) -> Result<Response, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::malformed("the answer is not UTF-8"))?;
    let mut members =
        object(text).map_err(|_| Failure::malformed(format!("not a JSON object: {}", quote(text, 200))))?;
    let Some(data) = members.take_as::<Vec<Object<'_>>>("data") else {
        return Err(Failure::of_error(text, None).unwrap_or_else(|| Failure::malformed("an answer without data")));
    };
    let mut placed = data
        .iter()
        .enumerate()
        .map(|(place, item)| Some((item.read("index").unwrap_or(place), vector(item)?)))
        .collect::<Option<Vec<(usize, Vector)>>>()
        .ok_or_else(|| Failure::malformed("an embedding that is no list of numbers"))?;
    // `index` follows the order of the inputs; the list itself need not.
    placed.sort_by_key(|(index, _)| *index);
    let vectors = placed.into_iter().map(|(_, vector)| vector).collect();
    let usage = members.take("usage").and_then(Usage::parse);
    let model = members.take_as("model").unwrap_or_default();
    Ok(embedded(members.take_as("id").unwrap_or_default(), model, vectors, usage))
}

fn vector(item: &Object<'_>) -> Option<Vector> {
    let raw = item.get("embedding")?;
    match raw.get().as_bytes().first() {
        Some(b'"') => item.read("embedding").map(Vector::Base64),
        _ => item.read("embedding").map(Vector::Floats),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_the_order_of_the_inputs() {
        let answer = answer(
            br#"{"object":"list","data":[{"index":1,"embedding":[2.0]},{"index":0,"embedding":"AACAPw=="}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#,
        )
        .expect("vectors");
        assert_eq!(answer.vectors, [Vector::Base64("AACAPw==".into()), Vector::Floats(vec![2.0])]);
        assert_eq!(answer.usage.expect("usage").prompt_tokens, 3);
    }

    #[test]
    fn what_is_no_vector_is_a_failure() {
        for body in [
            "",
            "{}",
            r#"{"data":[{"embedding":null}]}"#,
            r#"{"data":[{"embedding":["x"]}]}"#,
            r#"{"error":{"message":"no"}}"#,
        ] {
            assert!(super::answer(body.as_bytes()).is_err(), "{body}");
        }
    }
}
