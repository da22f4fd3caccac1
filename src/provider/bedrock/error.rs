//! What Bedrock's exceptions mean, as the answer to a request or in the middle of a stream.

use http::{HeaderMap, StatusCode};

use crate::provider::failure::{Failure, FailureKind};

/// Reads an error answer. The exception's name is in a header, or in the body's `__type`.
pub fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], now_unix: i64) -> Failure {
    let failure = Failure::of_answer(status, headers, body, now_unix);
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let in_body = || {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        body["__type"].as_str().map(str::to_owned)
    };
    match header.or_else(in_body) {
        Some(name) => named(failure, &name),
        None => named(failure, ""),
    }
}

/// An exception that ends a stream.
pub fn of_event(name: &str, data: &str) -> Failure {
    // Without a status, what the name does not say is a server's error.
    let failure = Failure::of_error(data, None).unwrap_or_else(|| Failure::new(FailureKind::ServerError, name));
    let failure = Failure { status: None, ..failure };
    named(Failure { kind: FailureKind::ServerError, ..failure }, name)
}

/// Sharpens a failure by the name of its exception: `ThrottlingException:http://..`, `com.amazon#ThrottlingException`
/// and `throttlingException` are the same (API reference, Converse, Errors).
fn named(failure: Failure, name: &str) -> Failure {
    let name = name.split(':').next().unwrap_or_default();
    let name = name.rsplit('#').next().unwrap_or_default().to_ascii_lowercase();
    let message = failure.message.to_ascii_lowercase();
    let kind = match name.as_str() {
        "throttlingexception" => FailureKind::RateLimited,
        "servicequotaexceededexception" => FailureKind::QuotaExhausted,
        "accessdeniedexception"
        | "unrecognizedclientexception"
        | "expiredtokenexception"
        | "incompletesignatureexception"
        | "invalidsignatureexception"
        | "missingauthenticationtokenexception" => FailureKind::Credential,
        "modelnotreadyexception" | "serviceunavailableexception" | "modeltimeoutexception" => FailureKind::Overloaded,
        "internalserverexception" | "modelstreamerrorexception" | "modelerrorexception" => FailureKind::ServerError,
        "resourcenotfoundexception" => FailureKind::NotFound,
        "validationexception" | "" if is_too_long(&message) => FailureKind::ContextLength,
        // Another provider may know the model; the request is not at fault.
        "validationexception" if message.contains("model identifier is invalid") => FailureKind::NotFound,
        "validationexception" => FailureKind::BadRequest,
        _ => failure.kind,
    };
    Failure { kind, ..failure }
}

fn is_too_long(message: &str) -> bool {
    ["too long", "too many input tokens", "maximum context length", "exceeds the maximum number of tokens"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_known_by_its_name_in_every_spelling() {
        use FailureKind::*;
        for (status, name, message, kind) in [
            (429, "ThrottlingException:http://internal.amazon.com/coral/", "Too many requests", RateLimited),
            (
                400,
                "com.amazon.coral.service#ValidationException",
                "Input is too long for requested model.",
                ContextLength,
            ),
            (400, "ValidationException", "temperature: range: 0..1", BadRequest),
            (400, "ValidationException", "The provided model identifier is invalid.", NotFound),
            (400, "ServiceQuotaExceededException", "quota", QuotaExhausted),
            (403, "ExpiredTokenException", "The security token is expired", Credential),
            (404, "ResourceNotFoundException", "no such model", NotFound),
            (408, "ModelTimeoutException", "late", Overloaded),
            (424, "ModelErrorException", "oops", ServerError),
            (429, "ModelNotReadyException", "wait", Overloaded),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let mut headers = HeaderMap::new();
            headers.insert("x-amzn-errortype", name.parse().expect("a value"));
            let body = serde_json::json!({"message": message}).to_string();
            assert_eq!(of_answer(status, &headers, body.as_bytes(), 0).kind, kind, "{name}");
            let body = serde_json::json!({"__type": name, "message": message}).to_string();
            assert_eq!(of_answer(status, &HeaderMap::new(), body.as_bytes(), 0).kind, kind, "{name} in the body");
        }
    }
}
