//! Providers' own batches: many requests in one file, answered within a day, at a lower price.
//!
//! Two protocols are known. OpenAI's takes a file of lines first and then a batch that names it, and leaves the answers in
//! files (API reference, Files and Batch); Anthropic's takes all requests with the batch and has its answers at an address of
//! their own (API reference, Message Batches). What a request and an answer look like is the adapters' business.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::adapter::{headers, url};
use super::failure::Failure;
use super::{adapter_for, anthropic};
use crate::catalog::{Format, Target};
use crate::chat::Response;
use crate::transform::Headers;

/// A request that is not one to a model.
#[derive(Debug)]
pub struct Call {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// How batches are spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    OpenAi,
    Anthropic,
}

/// How far a provider is with a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    Running,
    /// What there is to read, as paths.
    Ended(Vec<String>),
    /// Nothing of it was done, and why.
    Refused(String),
}

/// A batch in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub id: String,
    /// The mark that was given to it when it was made, where the protocol has a place for one.
    pub mark: Option<String>,
    pub created_unix_ms: i64,
    /// Requests in it.
    pub lines: i64,
}

/// What a provider says of one line.
#[derive(Debug)]
pub enum Said {
    Answer(Box<Response>),
    Failure(Failure),
    /// It did not come to it: its time was over, or the batch was cancelled.
    Nothing,
}

/// The boundary of our forms. A line is JSON, in which a line break cannot stand, so that this cannot stand in one.
const BOUNDARY: &str = "stepwell-batch-7d1f2c9a";

impl Protocol {
    pub fn of(format: Format) -> Option<Self> {
        match format {
            Format::OpenAi => Some(Self::OpenAi),
            Format::Anthropic => Some(Self::Anthropic),
            Format::Gemini | Format::Cohere | Format::Ollama | Format::Bedrock | Format::Vertex | Format::Demo => None,
        }
    }

    fn call(self, target: &Target, method: Method, path: &str, body: impl Into<Bytes>) -> Call {
        let mut headers = headers(&target.provider);
        if self == Self::Anthropic {
            anthropic::version(&mut headers);
        }
        if let Some(transform) = &target.provider.transform {
            let changes: &Headers = &transform.request.headers;
            changes.apply(&mut headers);
        }
        Call { method, url: url(target, path), headers, body: body.into() }
    }

    /// Whether all lines travel with the request that makes the batch.
    pub fn is_one_step(self) -> bool {
        self == Self::Anthropic
    }

    /// The request whose body is [`Self::opening`], the lines and [`Self::closing`]: the file, or the batch itself.
    pub fn sends_lines(self, target: &Target) -> Call {
        match self {
            Self::OpenAi => {
                let mut call = self.call(target, Method::POST, "/files", Bytes::new());
                let form = HeaderValue::from_static("multipart/form-data; boundary=stepwell-batch-7d1f2c9a");
                call.headers.insert(CONTENT_TYPE, form);
                call
            }
            Self::Anthropic => self.call(target, Method::POST, "/messages/batches", Bytes::new()),
        }
    }

    pub fn opening(self) -> Bytes {
        match self {
            Self::OpenAi => Bytes::from(format!(
                "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{BOUNDARY}\r\n\
                 content-disposition: form-data; name=\"file\"; filename=\"batch.jsonl\"\r\n\
                 content-type: application/jsonl\r\n\r\n"
            )),
            Self::Anthropic => Bytes::from_static(b"{\"requests\":["),
        }
    }

    pub fn closing(self) -> Bytes {
        match self {
            Self::OpenAi => Bytes::from(format!("\r\n--{BOUNDARY}--\r\n")),
            Self::Anthropic => Bytes::from_static(b"]}"),
        }
    }

    /// One request. `custom_id`: letters, digits, `_` and `-`, 64 at most (Anthropic's rule).
    pub fn line(self, custom_id: &str, body: &[u8], is_first: bool) -> Bytes {
        let mut line = Vec::with_capacity(body.len() + 128);
        match self {
            Self::OpenAi => {
                let head = format!(
                    "{{\"custom_id\":\"{custom_id}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":"
                );
                line.extend_from_slice(head.as_bytes());
                line.extend_from_slice(&without_breaks(body));
                line.extend_from_slice(b"}\n");
            }
            Self::Anthropic => {
                if !is_first {
                    line.push(b',');
                }
                line.extend_from_slice(format!("{{\"custom_id\":\"{custom_id}\",\"params\":").as_bytes());
                line.extend_from_slice(body);
                line.push(b'}');
            }
        }
        line.into()
    }

    /// Makes a batch of a file, under our mark. Only where that is a step of its own.
    pub fn create(self, target: &Target, file: &str, mark: &str) -> Call {
        let body = json!({
            "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h",
            "metadata": {"stepwell_part": mark},
        });
        self.call(target, Method::POST, "/batches", body.to_string())
    }

    /// The newest batches there.
    pub fn list(self, target: &Target) -> Call {
        let mut call = match self {
            Self::OpenAi => self.call(target, Method::GET, "/batches", Bytes::new()),
            Self::Anthropic => self.call(target, Method::GET, "/messages/batches", Bytes::new()),
        };
        call.url.push_str(if call.url.contains('?') { "&limit=100" } else { "?limit=100" });
        call
    }

    pub fn look(self, target: &Target, batch: &str) -> Call {
        self.call(target, Method::GET, &self.path(batch), Bytes::new())
    }

    pub fn cancel(self, target: &Target, batch: &str) -> Call {
        self.call(target, Method::POST, &format!("{}/cancel", self.path(batch)), Bytes::new())
    }

    /// Reads one of [`Standing::Ended`].
    pub fn results(self, target: &Target, path: &str) -> Call {
        self.call(target, Method::GET, path, Bytes::new())
    }

    /// Deletes what nobody needs any more: of OpenAI's a file, of Anthropic's the batch.
    pub fn delete(self, target: &Target, file_or_batch: &str) -> Call {
        let path = match self {
            Self::OpenAi => format!("/files/{}", name(file_or_batch)),
            Self::Anthropic => self.path(file_or_batch),
        };
        self.call(target, Method::DELETE, &path, Bytes::new())
    }

    fn path(self, batch: &str) -> String {
        match self {
            Self::OpenAi => format!("/batches/{}", name(batch)),
            Self::Anthropic => format!("/messages/batches/{}", name(batch)),
        }
    }

    /// The id of what was made: a file or a batch.
    pub fn made(self, body: &[u8]) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Made {
            id: String,
        }
        let made = serde_json::from_slice::<Made>(body).ok().filter(|made| !made.id.is_empty());
        made.map(|made| made.id).ok_or_else(|| Failure::malformed("what was made has no id"))
    }

    pub fn standing(self, body: &[u8]) -> Result<Standing, Failure> {
        let batch: Value = serde_json::from_slice(body).map_err(|_| Failure::malformed("a batch that is no JSON"))?;
        let text = |name: &str| batch[name].as_str().filter(|text| !text.is_empty());
        let unknown = || Failure::malformed("a batch without a status");
        Ok(match self {
            Self::OpenAi => match text("status").ok_or_else(unknown)? {
                "completed" | "expired" | "cancelled" => {
                    let files = [text("output_file_id"), text("error_file_id")].into_iter().flatten();
                    Standing::Ended(files.map(|file| format!("/files/{}/content", name(file))).collect())
                }
                "failed" => {
                    let first = &batch["errors"]["data"][0];
                    let word = |name: &str| first[name].as_str().unwrap_or_default().to_owned();
                    Standing::Refused(format!("{}: {}", word("code"), word("message")))
                }
                _ => Standing::Running,
            },
            Self::Anthropic => match text("processing_status").ok_or_else(unknown)? {
                "ended" => {
                    let id = text("id").ok_or_else(unknown)?;
                    Standing::Ended(vec![format!("{}/results", self.path(id))])
                }
                _ => Standing::Running,
            },
        })
    }

    pub fn listed(self, body: &[u8]) -> Result<Vec<Listed>, Failure> {
        let list: Value = serde_json::from_slice(body).map_err(|_| Failure::malformed("a list that is no JSON"))?;
        let data = list["data"].as_array().ok_or_else(|| Failure::malformed("a list without `data`"))?;
        let listed = |batch: &Value| {
            let id = batch["id"].as_str()?.to_owned();
            let counts = &batch["request_counts"];
            Some(match self {
                Self::OpenAi => Listed {
                    id,
                    mark: batch["metadata"]["stepwell_part"].as_str().map(str::to_owned),
                    created_unix_ms: batch["created_at"].as_i64().unwrap_or(0).saturating_mul(1000),
                    lines: counts["total"].as_i64().unwrap_or(0),
                },
                Self::Anthropic => {
                    let created = batch["created_at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
                    let counted = counts.as_object().into_iter().flat_map(|counts| counts.values());
                    Listed {
                        id,
                        mark: None,
                        created_unix_ms: created.map_or(0, |at| at.as_millisecond()),
                        lines: counted.filter_map(Value::as_i64).sum(),
                    }
                }
            })
        };
        Ok(data.iter().filter_map(listed).collect())
    }

    /// A line of the results: whose it is, and what is said. `None`: it cannot be read.
    pub fn said(self, line: &[u8], target: &Target) -> Option<(String, Said)> {
        match self {
            Self::OpenAi => openai(line, target),
            Self::Anthropic => anthropic_said(line, target),
        }
    }
}

/// A name that a provider gave, as part of a path: what is none is not sent anywhere else.
fn name(given: &str) -> String {
    given.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect()
}

/// JSON on one line: between its tokens a line break is a space like any other, and in a text there is none.
fn without_breaks(body: &[u8]) -> Vec<u8> {
    body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

fn read(answer: Result<Response, Failure>) -> Said {
    answer.map_or_else(Said::Failure, |answer| Said::Answer(Box::new(answer)))
}

fn openai(line: &[u8], target: &Target) -> Option<(String, Said)> {
    #[derive(Deserialize)]
    struct Line<'a> {
        custom_id: String,
        #[serde(borrow, default)]
        response: Option<Answer<'a>>,
    }
    #[derive(Deserialize)]
    struct Answer<'a> {
        status_code: u16,
        #[serde(borrow, default)]
        body: Option<&'a RawValue>,
    }
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let Some(Answer { status_code, body }) = line.response else { return Some((line.custom_id, Said::Nothing)) };
    let body = body.map_or("", RawValue::get).as_bytes();
    let adapter = adapter_for(target);
    let status = StatusCode::from_u16(status_code).ok()?;
    let said = match status.is_success() {
        true => read(adapter.decode(body)),
        false => Said::Failure(adapter.failure(status, &HeaderMap::new(), body, 0)),
    };
    Some((line.custom_id, said))
}

fn anthropic_said(line: &[u8], target: &Target) -> Option<(String, Said)> {
    #[derive(Deserialize)]
    struct Line<'a> {
        custom_id: String,
        #[serde(borrow)]
        result: Outcome<'a>,
    }
    #[derive(Deserialize)]
    struct Outcome<'a> {
        #[serde(rename = "type")]
        kind: String,
        #[serde(borrow, default)]
        message: Option<&'a RawValue>,
        #[serde(borrow, default)]
        error: Option<&'a RawValue>,
    }
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let adapter = adapter_for(target);
    let said = match (line.result.kind.as_str(), line.result.message, line.result.error) {
        ("succeeded", Some(message), _) => read(adapter.decode(message.get().as_bytes())),
        ("errored", _, Some(error)) => {
            let kind: Value = serde_json::from_str(error.get()).unwrap_or_default();
            // Some versions wrap the error once more.
            let kind = kind["error"]["type"].as_str().or(kind["type"].as_str()).unwrap_or_default();
            let status = StatusCode::from_u16(status_of(kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Said::Failure(adapter.failure(status, &HeaderMap::new(), error.get().as_bytes(), 0))
        }
        _ => Said::Nothing,
    };
    Some((line.custom_id, said))
}

/// The status with which Anthropic answers an error of this type (API reference, Errors).
fn status_of(error: &str) -> u16 {
    match error {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "overloaded_error" => 529,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::{Auth, Provider, Shelf};
    use crate::provider::failure::FailureKind;

    fn target(format: Format) -> Target {
        let provider = Arc::new(Provider::new("p", format, "https://p.example/v1", Auth::Bearer));
        let today = jiff::civil::date(2026, 1, 1);
        Target::new(&provider, Shelf::open(None, today).describe("m"))
    }

    #[test]
    fn what_a_provider_says_of_a_line_is_read_as_its_answers_are() {
        let said = |format, line: Value| {
            let protocol = Protocol::of(format).expect("a protocol");
            let (id, said) = protocol.said(line.to_string().as_bytes(), &target(format)).expect("a line");
            assert_eq!(id, "l1");
            match said {
                Said::Answer(answer) => format!("{:?}", answer.choices[0].message.content),
                Said::Failure(failure) => failure.kind.as_str().to_owned(),
                Said::Nothing => "nothing".to_owned(),
            }
        };
        let choice = json!({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}});
        let response = |status: u16, body: Value| json!({"id": "r", "custom_id": "l1", "error": null, "response": {"status_code": status, "body": body}});
        assert_eq!(said(Format::OpenAi, response(200, json!({"choices": [choice]}))), "Some(\"hi\")");
        let bad = json!({"error": {"message": "no", "type": "invalid_request_error"}});
        assert_eq!(said(Format::OpenAi, response(400, bad)), FailureKind::BadRequest.as_str());
        let expired =
            json!({"custom_id": "l1", "response": null, "error": {"code": "batch_expired", "message": "late"}});
        assert_eq!(said(Format::OpenAi, expired), "nothing");
        let message = json!({"type": "message", "role": "assistant", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "hi"}]});
        let result = |result: Value| json!({"custom_id": "l1", "result": result});
        let succeeded = result(json!({"type": "succeeded", "message": message}));
        assert_eq!(said(Format::Anthropic, succeeded), "Some(\"hi\")");
        let error = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "no"}});
        let errored = |kind: &str| result(json!({"type": "errored", "error": error(kind)}));
        assert_eq!(said(Format::Anthropic, errored("invalid_request_error")), FailureKind::BadRequest.as_str());
        assert_eq!(said(Format::Anthropic, errored("overloaded_error")), FailureKind::Overloaded.as_str());
        for kind in ["canceled", "expired"] {
            assert_eq!(said(Format::Anthropic, result(json!({"type": kind}))), "nothing");
        }
    }

    #[test]
    fn a_name_from_outside_leads_to_no_other_path() {
        let call = Protocol::OpenAi.look(&target(Format::OpenAi), "../../admin?x=1");
        assert_eq!(call.url, "https://p.example/v1/batches/....adminx1");
    }
}
