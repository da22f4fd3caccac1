//! OpenAI's embeddings as callers speak them.
//!
//! Vectors of different models cannot be compared, so a request goes to one model only, whoever serves it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::reading::{self, OURS, take, take_text};
use super::{Envelope, Writer};
use crate::chat::{Chunk, Embed, Inputs, Invalid, Request, Response, Usage, Vector};

/// The most inputs of one request (OpenAI, API reference, Embeddings).
const MOST_INPUTS: usize = 2048;

/// No model has vectors of a tenth of this.
const MOST_DIMENSIONS: u32 = 65_536;

/// Reads a request. The chat request that it becomes holds the texts, for estimates, and never goes out itself.
pub fn read(body: &Bytes) -> Result<(Request, Box<dyn Writer>), Invalid> {
    let mut members = reading::members(body)?;
    let mut chat = Map::new();
    for name in OURS {
        chat.extend(take(&mut members, name).map(|value| (name.to_owned(), value)));
    }
    let model = take_text(&mut members, "model")?.ok_or_else(|| Invalid::missing("model"))?;
    chat.insert("model".into(), json!(model));
    chat.extend(members.get("metadata").map(|metadata| ("metadata".into(), metadata.clone())));
    let own = reading::body(&members);
    let inputs = inputs(take(&mut members, "input"))?;
    let dimensions = match take(&mut members, "dimensions") {
        None => None,
        Some(value) => {
            let count = count(&value).and_then(|count| u32::try_from(count).ok());
            let count = count.filter(|count| (1..=MOST_DIMENSIONS).contains(count));
            let expected = format!("a whole number from 1 to {MOST_DIMENSIONS}");
            Some(count.ok_or_else(|| Invalid::kind("dimensions", &expected))?)
        }
    };
    let wants_base64 = match take(&mut members, "encoding_format").as_ref().map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => return Err(Invalid::value("encoding_format", "`encoding_format`: expected float or base64")),
    };
    let texts = match &inputs {
        Inputs::Texts(texts) => texts.iter().map(|words| json!({"type": "text", "text": words})).collect(),
        Inputs::Tokens(_) => Vec::new(),
    };
    chat.insert("messages".into(), json!([{"role": "user", "content": texts}]));
    let mut request = Request::parse(reading::body(&chat))?;
    // No answer is written: nothing is to be reserved for one.
    request.max_tokens = Some(1);
    request.embed = Some(Embed { inputs, dimensions, body: own });
    Ok((request, Box::new(VectorWriter { wants_base64 })))
}

/// A whole number from 0, also where it is written with a point: JSON does not tell `1.0` from `1`.
fn count(value: &Value) -> Option<u64> {
    let is_whole = |number: &f64| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number);
    value.as_u64().or_else(|| value.as_f64().filter(is_whole).map(|number| number as u64))
}

fn inputs(input: Option<Value>) -> Result<Inputs, Invalid> {
    let expected = "a text, a list of texts, a list of token ids, or a list of such lists";
    let is_ids =
        |value: &Value| value.as_array().is_some_and(|ids| !ids.is_empty() && ids.iter().all(|id| count(id).is_some()));
    let inputs = match input {
        None => return Err(Invalid::missing("input")),
        Some(Value::String(words)) => Inputs::Texts(vec![words]),
        Some(Value::Array(list)) if list.is_empty() => {
            return Err(Invalid::value("input", "`input` is empty; send at least one text"));
        }
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => Inputs::Texts(
            list.into_iter()
                .filter_map(|item| match item {
                    Value::String(words) => Some(words),
                    _ => None,
                })
                .collect(),
        ),
        Some(list @ Value::Array(_)) if is_ids(&list) => Inputs::Tokens(1),
        Some(Value::Array(list)) if list.iter().all(is_ids) => Inputs::Tokens(list.len()),
        Some(_) => return Err(Invalid::kind("input", expected)),
    };
    if let Inputs::Texts(texts) = &inputs
        && let Some(at) = texts.iter().position(String::is_empty)
    {
        return Err(Invalid::value("input", format!("`input[{at}]` is empty; an empty text has no embedding")));
    }
    if inputs.count() > MOST_INPUTS {
        return Err(Invalid::value(
            "input",
            format!("`input` holds more than {MOST_INPUTS} inputs; send several requests"),
        ));
    }
    Ok(inputs)
}

struct VectorWriter {
    wants_base64: bool,
}

impl VectorWriter {
    /// Writes the vector in the form that was asked for, whatever the provider sent. Straight into the bytes: an answer
    /// may hold millions of numbers.
    fn write(&self, vector: &Vector, out: &mut Vec<u8>) {
        match vector {
            Vector::Floats(floats) if self.wants_base64 => {
                let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
                json_into(out, &STANDARD.encode(bytes));
            }
            Vector::Base64(text) if !self.wants_base64 => {
                let bytes = STANDARD.decode(text).unwrap_or_default();
                let floats = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                json_into(out, &floats.collect::<Vec<_>>());
            }
            Vector::Floats(floats) => json_into(out, floats),
            Vector::Base64(text) => json_into(out, text),
        }
    }
}

/// Writing our own types to memory as JSON cannot fail.
fn json_into<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(out, value);
}

impl Writer for VectorWriter {
    fn whole(&mut self, answer: &Response, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
        for (index, vector) in answer.vectors.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":").as_bytes());
            self.write(vector, out);
            out.push(b'}');
        }
        let mut usage = json!({});
        if let Some(counted) = &answer.usage {
            usage = json!({"prompt_tokens": counted.prompt_tokens, "total_tokens": counted.prompt_tokens, "cost": counted.cost});
            if counted.estimated {
                usage["estimated"] = json!(true);
            }
        }
        out.extend_from_slice(b"],\"model\":");
        json_into(out, &answer.model);
        out.extend_from_slice(b",\"usage\":");
        json_into(out, &usage);
        out.push(b'}');
    }

    // Vectors come whole: `stream` is no member of this request.
    fn begin(&mut self, _envelope: Envelope, _out: &mut Vec<u8>) {}
    fn chunk(&mut self, _chunk: &Chunk, _out: &mut Vec<u8>) {}
    fn end(&mut self, _usage: Option<&Usage>, _out: &mut Vec<u8>) {}
    fn broken(&mut self, _error: &Value, _out: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(body: Value) -> Result<(Request, Box<dyn Writer>), Invalid> {
        read(&Bytes::from(body.to_string()))
    }

    fn written(writer: &mut dyn Writer, vector: Vector) -> Value {
        let answer = Response {
            id: String::new(),
            created: 0,
            model: "m".into(),
            choices: Vec::new(),
            vectors: vec![vector],
            usage: None,
            extra: Vec::new(),
        };
        let mut out = Vec::new();
        writer.whole(&answer, &mut out);
        let mut object: Value = serde_json::from_slice(&out).expect("JSON");
        object["data"][0]["embedding"].take()
    }

    #[test]
    fn a_vector_is_the_same_in_both_forms() {
        let (_, mut plain) = read_json(json!({"model": "m", "input": "a"})).expect("a request");
        let (_, mut packed) = read_json(json!({"model": "m", "input": "a", "encoding_format": "base64"})).expect("one");
        let floats = vec![0.5, -1.25, 3.0e-8];
        let text = written(&mut *packed, Vector::Floats(floats.clone()));
        let text = text.as_str().expect("base64").to_owned();
        assert_eq!(written(&mut *plain, Vector::Base64(text.clone())), json!([0.5, -1.25, 3.0e-8]));
        assert_eq!(written(&mut *packed, Vector::Base64(text.clone())), json!(text));
    }

    #[test]
    fn inputs_are_texts_or_token_ids() {
        for (input, count) in
            [(json!("a"), 1), (json!(["a", "b"]), 2), (json!([1, 2, 3]), 1), (json!([[1], [2, 3]]), 2)]
        {
            let (request, _) = read_json(json!({"model": "m", "input": input})).expect("a request");
            assert_eq!(request.embed.expect("inputs").inputs.count(), count, "{input}");
        }
        for input in [json!([]), json!(""), json!(["a", ""]), json!([1, "a"]), json!({}), json!(null)] {
            let error = read_json(json!({"model": "m", "input": input})).err().expect("an error");
            assert_eq!(error.param.as_deref(), Some("input"), "{input}");
        }
    }
}
