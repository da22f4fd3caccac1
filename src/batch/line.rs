//! A line of an input file, and a line of an output file.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::LineError;

/// Lines in one batch: OpenAI's limit.
pub const MOST: i64 = 50_000;

/// Longest line, in bytes. A body above `server.body_limit` is refused when its turn comes.
pub const LONGEST: usize = 32 << 20;

/// Paths whose requests can be lines.
pub const ENDPOINTS: [&str; 5] =
    ["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings", "/v1/messages"];

/// A line of an input file.
#[derive(Debug)]
pub struct Line<'a> {
    /// Tells the lines of one batch apart.
    pub custom_id: String,
    /// The request, as it would be sent.
    pub body: &'a RawValue,
}

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(default)]
    custom_id: Value,
    #[serde(default)]
    method: Value,
    #[serde(default)]
    url: Value,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    /// Reads the line with this number, counted from 1. Its url must be the endpoint of its batch.
    pub fn read(text: &'a [u8], endpoint: &str, number: i64) -> Result<Self, LineError> {
        let bad = |code: &str, message: String| LineError { code: code.to_owned(), message, line: Some(number) };
        let text =
            std::str::from_utf8(text).map_err(|_| bad("invalid_json_line", "the line is not UTF-8".to_owned()))?;
        let written: Written<'a> = serde_json::from_str(text)
            .map_err(|error| bad("invalid_json_line", format!("the line is no JSON object: {error}")))?;
        let custom_id = match written.custom_id {
            Value::String(id) if (1..=512).contains(&id.chars().count()) => id,
            _ => {
                let message = "`custom_id` is a text of 1 to 512 characters, another one in each line".to_owned();
                return Err(bad("invalid_custom_id", message));
            }
        };
        if written.method.as_str().is_none_or(|method| !method.eq_ignore_ascii_case("POST")) {
            return Err(bad("invalid_method", "`method` is POST".to_owned()));
        }
        if written.url.as_str() != Some(endpoint) {
            return Err(bad("mismatched_url", format!("`url` is the batch's endpoint, `{endpoint}`, in every line")));
        }
        match written.body.filter(|body| body.get().starts_with('{')) {
            Some(body) => Ok(Self { custom_id, body }),
            None => Err(bad("missing_body", "`body` is the request, an object".to_owned())),
        }
    }
}

/// What became of a line, as it stands in an output or an error file.
pub fn written(id: &str, custom_id: &str, answer: Result<(u16, &[u8]), (&str, &str)>) -> Vec<u8> {
    let (response, error) = match answer {
        Ok((status, body)) => {
            let body: Value = serde_json::from_slice(body)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()));
            (json!({"status_code": status, "request_id": id, "body": body}), Value::Null)
        }
        Err((code, message)) => (Value::Null, json!({"code": code, "message": message})),
    };
    let short = id.strip_prefix("batch_").unwrap_or(id);
    let line =
        json!({"id": format!("batch_req_{short}"), "custom_id": custom_id, "response": response, "error": error});
    let mut bytes = line.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// Lines out of pieces cut anywhere. Empty lines are no lines.
#[derive(Default)]
pub struct Splitter {
    rest: Vec<u8>,
    number: i64,
}

impl Splitter {
    /// Whole lines that end in this piece, with their numbers, counted from 1 as an editor shows them.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<(i64, Vec<u8>)>, LineError> {
        let mut lines = Vec::new();
        let mut parts = piece.split(|byte| *byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.rest.extend_from_slice(part);
            self.cut(&mut lines);
        }
        self.rest.extend_from_slice(last);
        if self.rest.len() > LONGEST {
            let message = format!("a line has more than {LONGEST} bytes");
            return Err(LineError { code: "line_too_long".to_owned(), message, line: Some(self.number + 1) });
        }
        Ok(lines)
    }

    /// The last line, if no newline ends it.
    pub fn finish(&mut self) -> Vec<(i64, Vec<u8>)> {
        let mut lines = Vec::new();
        self.cut(&mut lines);
        lines
    }

    fn cut(&mut self, lines: &mut Vec<(i64, Vec<u8>)>) {
        self.number += 1;
        let mut line = std::mem::take(&mut self.rest);
        if self.number == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            lines.push((self.number, line));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENDPOINT: &str = "/v1/chat/completions";

    #[test]
    fn a_line_is_read_and_what_is_wrong_with_another_is_said() {
        let text = br#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"auto"}}"#;
        let line = Line::read(text, ENDPOINT, 1).expect("fine");
        assert_eq!((line.custom_id.as_str(), line.body.get()), ("a", r#"{"model":"auto"}"#));
        for (text, code) in [
            (r#"{"custom_id""#, "invalid_json_line"),
            ("7", "invalid_json_line"),
            (r#"{"method":"POST"}"#, "invalid_custom_id"),
            (r#"{"custom_id":7}"#, "invalid_custom_id"),
            (r#"{"custom_id":"a"}"#, "invalid_method"),
            (r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{}}"#, "mismatched_url"),
            (r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":[]}"#, "missing_body"),
        ] {
            let error = Line::read(text.as_bytes(), ENDPOINT, 3).expect_err(text);
            assert_eq!((error.code.as_str(), error.line), (code, Some(3)), "{}", error.message);
        }
    }

    #[test]
    fn an_answer_that_is_no_json_is_still_written_as_one_line() {
        let line = written("r", "a", Ok((502, b"bad\ngateway")));
        let line = std::str::from_utf8(&line).expect("UTF-8");
        assert_eq!(line.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(read["response"]["body"], "bad\ngateway");
        assert_eq!(read["error"], Value::Null);
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_a_file_is_cut(
            lines in prop::collection::vec("[a-z \r]{0,12}", 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            ended in any::<bool>(),
        ) {
            let mut text = lines.join("\n");
            if ended {
                text.push('\n');
            }
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            places.push(text.len());
            places.sort_unstable();
            let mut splitter = Splitter::default();
            let (mut read, mut from) = (Vec::new(), 0);
            for to in places {
                read.extend(splitter.push(&text.as_bytes()[from..to]).expect("short lines"));
                from = to;
            }
            read.extend(splitter.finish());
            let expected: Vec<(i64, Vec<u8>)> = lines
                .iter()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(at, line)| (at as i64 + 1, line.as_bytes().to_vec()))
                .collect();
            prop_assert_eq!(read, expected);
        }
    }
}
