//! How a provider fails, and the one table that says what follows from each kind.

mod quotation;
mod signs;
mod wait;

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::catalog::Provider;
use crate::chat::Object;

/// What went wrong at a provider. The names appear in headers, logs, metrics and the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No connection: refused, DNS, TLS.
    Connect,
    /// This machine is out of descriptors, ports or memory: no fault of the provider's.
    Local,
    /// The connection broke before the answer began.
    Reset,
    /// The same on a connection that may have been kept from an earlier request, and closed by the provider meanwhile: no
    /// failure of anybody's. A new connection shows whether there is one.
    StaleConnection,
    /// No first token in time.
    Timeout,
    /// The caller's own limit, or the request's total, was over before the target could be expected to answer.
    Deadline,
    /// Silence in the middle of a stream.
    Stalled,
    /// The stream ended without saying that it was complete.
    Interrupted,
    /// 429.
    RateLimited,
    /// The account is out of quota or credit.
    QuotaExhausted,
    /// 401 or 403: our key is wrong or may not do this.
    Credential,
    /// 408, 503, 529 or an in-stream "overloaded".
    Overloaded,
    /// 500, 502, 504 and the like.
    ServerError,
    /// 409: worth another try.
    Conflict,
    /// 400 or 422: the request is wrong wherever it goes.
    BadRequest,
    /// The prompt does not fit this model's window.
    ContextLength,
    /// The provider refuses the content.
    ContentFilter,
    /// 404: the provider does not know the model.
    NotFound,
    /// 413.
    TooLarge,
    /// The answer is not what the protocol says: HTML, truncated JSON, no choices.
    Malformed,
    /// A redirect; never followed, so that no credential travels.
    Redirect,
    /// The request cannot be said in this provider's format.
    Untranslatable,
}

/// What the breaker learns from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    Hard,
    /// Fails a probe, but is no sign of being broken.
    Busy,
    None,
}

/// How long the target is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    None,
    /// As long as `Retry-After` says, else a growing pause.
    Hinted,
    /// Only if `Retry-After` says so.
    OnlyIfHinted,
    /// Fixed: waiting seconds will not help.
    Fixed(Duration),
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Another try on the same target can help.
    pub retry_here: bool,
    /// Another target can help.
    pub next_target: bool,
    pub breaker: Blow,
    pub pause: Pause,
    /// The caller's request is at fault, and the provider's reason is shown.
    pub callers_fault: bool,
}

/// An exhausted quota does not come back in seconds (DESIGN section 10).
const QUOTA_PAUSE: Duration = Duration::from_secs(600);
/// A wrong key stays wrong until somebody changes it; a reload ends the pause.
const CREDENTIAL_PAUSE: Duration = Duration::from_secs(300);

impl FailureKind {
    /// The one table.
    pub fn verdict(self) -> Verdict {
        let row = |retry_here, next_target, breaker, pause, callers_fault| Verdict {
            retry_here,
            next_target,
            breaker,
            pause,
            callers_fault,
        };
        match self {
            // retry here, next target, breaker, pause, caller's fault
            Self::Connect => row(true, true, Blow::Hard, Pause::None, false),
            Self::Local => row(false, true, Blow::None, Pause::None, false),
            Self::Reset => row(true, true, Blow::Hard, Pause::None, false),
            Self::Timeout => row(false, true, Blow::Hard, Pause::None, false),
            Self::StaleConnection => row(true, true, Blow::None, Pause::None, false),
            Self::Deadline => row(false, true, Blow::None, Pause::None, false),
            Self::Stalled => row(false, true, Blow::Hard, Pause::None, false),
            Self::Interrupted => row(true, true, Blow::Hard, Pause::None, false),
            Self::RateLimited => row(true, true, Blow::Busy, Pause::Hinted, false),
            Self::QuotaExhausted => row(false, true, Blow::Busy, Pause::Fixed(QUOTA_PAUSE), false),
            Self::Credential => row(false, true, Blow::Busy, Pause::Fixed(CREDENTIAL_PAUSE), false),
            Self::Overloaded => row(true, true, Blow::Hard, Pause::OnlyIfHinted, false),
            Self::ServerError => row(true, true, Blow::Hard, Pause::OnlyIfHinted, false),
            Self::Conflict => row(true, true, Blow::None, Pause::None, false),
            Self::BadRequest => row(false, false, Blow::None, Pause::None, true),
            Self::ContextLength => row(false, true, Blow::None, Pause::None, true),
            Self::ContentFilter => row(false, false, Blow::None, Pause::None, true),
            Self::NotFound => row(false, true, Blow::None, Pause::None, false),
            Self::TooLarge => row(false, true, Blow::None, Pause::None, true),
            Self::Malformed => row(true, true, Blow::Hard, Pause::None, false),
            Self::Redirect => row(false, true, Blow::Hard, Pause::None, false),
            Self::Untranslatable => row(false, true, Blow::None, Pause::None, true),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Local => "local",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::StaleConnection => "stale_connection",
            Self::Deadline => "deadline",
            Self::Stalled => "stalled",
            Self::Interrupted => "interrupted",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Credential => "credential",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Conflict => "conflict",
            Self::BadRequest => "bad_request",
            Self::ContextLength => "context_length",
            Self::ContentFilter => "content_filter",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Redirect => "redirect",
            Self::Untranslatable => "untranslatable",
        }
    }

    /// What an HTTP status means where the body says nothing more.
    pub fn of_status(status: u16) -> Self {
        match status {
            300..=399 => Self::Redirect,
            402 => Self::QuotaExhausted,
            401 | 403 => Self::Credential,
            404 => Self::NotFound,
            // A server that gave up waiting is busy with something.
            408 => Self::Overloaded,
            409 => Self::Conflict,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            // 498 is Groq's, 529 Anthropic's.
            498 | 503 | 529 => Self::Overloaded,
            400..=499 => Self::BadRequest,
            _ => Self::ServerError,
        }
    }
}

/// One failed try.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// The provider's HTTP status, if it got that far.
    pub status: Option<u16>,
    pub retry_after: Option<Duration>,
    /// The provider's own words, cut and with markup escaped. Shown to the caller only if the caller is at fault.
    pub message: String,
    /// The provider's error code and parameter, where it named them.
    pub code: Option<String>,
    pub param: Option<String>,
}

/// Longest quotation of a provider's error.
const QUOTE_BYTES: usize = 500;

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, status: None, retry_after: None, message: message.into(), code: None, param: None }
    }

    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Malformed, message)
    }

    /// Takes the provider's secrets out of its words: an error may quote the request that caused it.
    pub fn without_secrets(mut self, provider: &Provider) -> Self {
        for secret in provider.secrets() {
            self = self.without(secret);
        }
        self
    }

    pub fn without(mut self, secret: &str) -> Self {
        if self.message.contains(secret) {
            self.message = self.message.replace(secret, "[secret]");
        }
        self.code = self.code.filter(|code| !code.contains(secret));
        self.param = self.param.filter(|param| !param.contains(secret));
        self
    }

    /// The same, fit to be kept: without what it quotes from the caller's `text`.
    pub fn without_quotations(&self, text: &str) -> Self {
        let clean = |word: &Option<String>| word.as_ref().map(|word| quotation::without(word, text));
        Self {
            message: quotation::without(&self.message, text),
            code: clean(&self.code),
            param: clean(&self.param),
            ..self.clone()
        }
    }

    /// Reads a provider's error answer: OpenAI's shape and every near relative (protocol notes, section 5).
    pub fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], now_unix: i64) -> Self {
        let text = String::from_utf8_lossy(body);
        let mut failure = match text.trim_start().chars().next() {
            Some('{' | '[') => Self::of_error(&text, Some(status.as_u16())),
            _ => None,
        }
        .unwrap_or_else(|| {
            let kind = FailureKind::of_status(status.as_u16());
            let quote = quote(&text, 200);
            Self::new(kind, if quote.is_empty() { format!("status {}", status.as_u16()) } else { quote })
        });
        failure.status = Some(status.as_u16());
        failure.retry_after = wait::retry_after(status.as_u16(), headers, now_unix).or(failure.retry_after);
        failure
    }

    /// Reads a JSON error object, with or without the `error` member around it. `None` if it is not one.
    pub fn of_error(json: &str, status: Option<u16>) -> Option<Self> {
        let json = json.trim();
        // Google wraps errors in a list now and then.
        let first: Option<Vec<&serde_json::value::RawValue>> = serde_json::from_str(json).ok();
        let json = first.as_ref().and_then(|list| list.first()).map_or(json, |raw| raw.get());
        let outer: Object<'_> = serde_json::from_str(json).ok()?;
        let inner: Object<'_> = outer.read("error").unwrap_or_default();
        let metadata: Object<'_> = inner.read("metadata").unwrap_or_default();
        // OpenRouter says "Provider returned error" and keeps the provider's own words here.
        let raw = metadata.read::<String>("raw");
        let raw = raw.map(|raw| Self::of_error(&raw, status).map_or(raw, |failure| failure.message));
        let message = raw
            .filter(|raw| !raw.is_empty())
            .or_else(|| inner.read::<String>("message"))
            .or_else(|| outer.read::<String>("error"))
            .or_else(|| outer.read::<String>("message"))
            .or_else(|| outer.read::<String>("detail"))
            // Writer has a list.
            .or_else(|| outer.read::<Vec<Object<'_>>>("errors")?.first()?.read::<String>("description"))
            .or_else(|| {
                ["detail", "message", "error"].iter().find_map(|name| Some(outer.get(name)?.get().to_owned()))
            })?;
        let word = |object: &Object<'_>, name: &str| object.read::<String>(name);
        let number =
            |object: &Object<'_>, name: &str| object.read::<u16>(name).filter(|code| (400..600).contains(code));
        let code = word(&inner, "code").or_else(|| word(&outer, "code"));
        let numeric = code.as_ref().and_then(|code| code.parse().ok()).filter(|code| (400..600).contains(code));
        let status = status
            .filter(|status| *status >= 400)
            .or_else(|| number(&inner, "code").or_else(|| number(&inner, "status")))
            .or_else(|| number(&outer, "code").or_else(|| number(&outer, "status")))
            .or(numeric);
        // Azure's reason for a 400, and AWS's names for its exceptions.
        let nested = inner.read::<Object<'_>>("innererror").and_then(|inner| word(&inner, "code"));
        let named = ["type", "status"].map(|name| word(&inner, name));
        let outer_named = ["type", "error_type", "__type"].map(|name| word(&outer, name));
        let words: Vec<String> =
            code.iter().cloned().chain(nested).chain(named.into_iter().chain(outer_named).flatten()).collect();
        Some(Self {
            kind: signs::kind(status, &words, &message, json),
            status,
            retry_after: wait::retry_delay(json).or_else(|| wait::try_again_in(&message)),
            message: quote(&message, QUOTE_BYTES),
            code: code.filter(|code| code.parse::<u16>().is_err() && is_word(code)),
            param: word(&inner, "param"),
        })
    }
}

/// At most `limit` bytes of a text, control characters and markup made harmless (which makes it longer).
pub fn quote(text: &str, limit: usize) -> String {
    let mut quoted = String::new();
    let text = text.trim();
    for (_, c) in text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= limit) {
        match c {
            '<' => quoted.push_str("&lt;"),
            '>' => quoted.push_str("&gt;"),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted
}

/// An identifier, as codes of errors are: what is longer or has other characters was made of something else.
fn is_word(code: &str) -> bool {
    code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:/ ".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Failure {
        Failure::of_answer(StatusCode::from_u16(status).expect("status"), &HeaderMap::new(), body.as_bytes(), 0)
    }

    #[test]
    fn every_dialect_of_error_is_understood() {
        use FailureKind::*;
        for (status, body, kind, message) in [
            (429, r#"{"error":{"message":"slow","type":"rate_limit_error"}}"#, RateLimited, "slow"),
            (429, r#"{"error":{"message":"x","code":"insufficient_quota"}}"#, QuotaExhausted, "x"),
            (400, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, ContextLength, "x"),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 of 8"}}"#,
                ContextLength,
                "prompt is too long: 9 of 8",
            ),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                Overloaded,
                "Overloaded",
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]"#,
                Credential,
                "API key not valid.",
            ),
            (401, r#"{"detail":"Unauthorized"}"#, Credential, "Unauthorized"),
            (400, r#"{"code":"bad","error":"text of xAI"}"#, BadRequest, "text of xAI"),
            (404, r#"{"message":"no such model"}"#, NotFound, "no such model"),
            (422, r#"{"detail":[{"msg":"field required"}]}"#, BadRequest, r#"[{"msg":"field required"}]"#),
            (500, "<html><b>oops</b></html>", ServerError, "&lt;html&gt;&lt;b&gt;oops&lt;/b&gt;&lt;/html&gt;"),
            (502, "", ServerError, "status 502"),
            (402, "{}", QuotaExhausted, "{}"),
            (
                400,
                r#"{"error":{"message":"x","type":"invalid_request_error","code":"tool_use_failed"}}"#,
                Malformed,
                "x",
            ),
        ] {
            let failure = answer(status, body);
            assert_eq!(failure.kind, kind, "{body}");
            assert_eq!(failure.message, message, "{body}");
        }
    }

    #[test]
    fn only_the_callers_own_mistakes_spare_the_breaker_and_stop_the_cascade() {
        for kind in [FailureKind::BadRequest, FailureKind::ContentFilter] {
            let verdict = kind.verdict();
            assert!(verdict.callers_fault && !verdict.next_target && !verdict.retry_here);
            assert_eq!(verdict.breaker, Blow::None);
        }
        for kind in [FailureKind::ServerError, FailureKind::Timeout, FailureKind::Connect, FailureKind::Malformed] {
            assert!(kind.verdict().next_target && kind.verdict().breaker == Blow::Hard);
        }
        assert!(!FailureKind::Credential.verdict().retry_here, "a wrong key is never tried twice");
    }
}
