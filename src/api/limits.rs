//! `x-ratelimit-*`: what is left to a caller of its own limits, in OpenAI's words (API reference, Rate limits).

use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::admission::rate::{Headroom, Headrooms};

/// Adds what is left to an answer, whatever it says. Callers without limits see no headers.
pub fn shown(mut response: Response, headrooms: Option<&Headrooms>) -> Response {
    if let Some(Headrooms { requests, tokens }) = headrooms {
        let headers = response.headers_mut();
        if let Some(requests) = requests {
            put(
                headers,
                requests,
                ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
            );
        }
        if let Some(tokens) = tokens {
            put(
                headers,
                tokens,
                ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
            );
        }
    }
    response
}

fn put(headers: &mut HeaderMap, room: &Headroom, [limit, remaining, reset]: [&'static str; 3]) {
    headers.insert(HeaderName::from_static(limit), HeaderValue::from(room.limit));
    headers.insert(HeaderName::from_static(remaining), HeaderValue::from(room.remaining));
    let until = HeaderValue::try_from(span(room.reset)).unwrap_or_else(|_| HeaderValue::from_static("0s"));
    headers.insert(HeaderName::from_static(reset), until);
}

/// As OpenAI writes it: `0s`, `120ms`, `8.64s`, `6m0s`.
fn span(span: Duration) -> String {
    let ms = span.as_nanos().div_ceil(1_000_000);
    let seconds = |ms: u128| match (ms / 1000, ms % 1000) {
        (whole, 0) => format!("{whole}s"),
        (whole, rest) => format!("{whole}.{}s", format!("{rest:03}").trim_end_matches('0')),
    };
    match ms {
        1..1000 => format!("{ms}ms"),
        0..60_000 => seconds(ms),
        _ => format!("{}m{}", ms / 60_000, seconds(ms % 60_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_writes_them() {
        let cases =
            [(0, "0s"), (120, "120ms"), (8_640, "8.64s"), (20_000, "20s"), (360_000, "6m0s"), (90_500, "1m30.5s")];
        for (ms, text) in cases {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
        assert_eq!(span(Duration::from_nanos(1)), "1ms");
    }
}
