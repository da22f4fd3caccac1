//! Answers to what never became a request: written by hand, because the HTTP library answers these with an empty body or
//! not at all.

use http::StatusCode;
use serde_json::json;

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The head did not arrive in time.
    HeadTimeout,
    /// `content-length` and `transfer-encoding`: two readers could disagree where the request ends.
    TwoLengths,
    /// The head is too long, or has too many lines.
    HeadTooLarge,
    AddressTooLong,
    Malformed,
    /// Plain HTTP, or something else, where TLS is spoken.
    Unencrypted,
}

impl Refusal {
    /// Understands the HTTP library's own refusals. `None` for everything that a handler wrote, which carries an id.
    pub fn of(answer: &[u8]) -> Option<Self> {
        let status = answer.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
        let head = answer.get(..answer.len().min(LONGEST_CANNED))?;
        if memchr::memmem::find(head, b"x-request-id").is_some() {
            return None;
        }
        match status {
            b"00" => Some(Self::Malformed),
            b"14" => Some(Self::AddressTooLong),
            b"31" => Some(Self::HeadTooLarge),
            _ => None,
        }
    }

    /// The whole answer. The connection is closed after it.
    pub fn answer(self) -> Vec<u8> {
        let (status, code, message) = match self {
            Self::HeadTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "header_timeout",
                "the request's head did not arrive in time (`server.header_timeout`)",
            ),
            Self::TwoLengths => (
                StatusCode::BAD_REQUEST,
                "invalid_http",
                "a request has either `content-length` or `transfer-encoding`, not both",
            ),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "the request's head is larger than 64 KiB or has more than 100 lines",
            ),
            Self::AddressTooLong => (StatusCode::URI_TOO_LONG, "url_too_long", "the request's address is too long"),
            Self::Unencrypted => (
                StatusCode::BAD_REQUEST,
                "https_required",
                "this server speaks TLS: write https:// instead of http:// (`server.tls`)",
            ),
            Self::Malformed => (StatusCode::BAD_REQUEST, "invalid_http", "this is not an HTTP/1.1 or HTTP/2 request"),
        };
        let id = format!("req_{}", uuid::Uuid::now_v7().simple());
        let body = json!({"error": {
            "message": message,
            "type": "invalid_request_error",
            "param": null,
            "code": code,
            "stepwell": {"request_id": id, "attempts": []},
        }})
        .to_string();
        format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\nx-request-id: {id}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            status.as_str(),
            status.canonical_reason().unwrap_or_default(),
            body.len(),
        )
        .into_bytes()
    }
}

/// The HTTP library's own refusals are a status line and three or four short lines.
const LONGEST_CANNED: usize = 1024;

/// Whether a whole head has both lengths. Names only: whatever the values are, one of the two is one too many.
pub fn has_two_lengths(head: &[u8]) -> bool {
    let (mut length, mut encoding) = (false, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        // The first letter rules out nearly all lines.
        match line.first() {
            Some(b'c' | b'C') => length |= is_named(line, b"content-length"),
            Some(b't' | b'T') => encoding |= is_named(line, b"transfer-encoding"),
            _ => {}
        }
    }
    length && encoding
}

/// Where a head ends that may not be whole yet. A line may end without its carriage return, as for the HTTP library.
pub fn end_of_head(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| match bytes.get(at + 1)? {
        b'\n' => Some(at + 2),
        b'\r' if bytes.get(at + 2) == Some(&b'\n') => Some(at + 3),
        _ => None,
    })
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.len() > name.len() && line[name.len()] == b':' && line[..name.len()].eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lengths_are_seen_in_any_order_and_spelling() {
        for (head, both) in [
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\ntransfer-encoding: x\nhost: y\ncontent-length: 3\n\n", true),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-type: transfer-encoding: a\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nx: content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", false),
        ] {
            assert_eq!(has_two_lengths(head.as_bytes()), both, "{head}");
        }
    }

    #[test]
    fn a_head_ends_at_its_first_empty_line_however_lines_end() {
        for (bytes, head) in [
            ("GET / HTTP/1.1\r\nhost: x\r\n\r\nbody\r\n\r\n", Some("GET / HTTP/1.1\r\nhost: x\r\n\r\n")),
            ("GET / HTTP/1.1\nhost: x\n\nbody", Some("GET / HTTP/1.1\nhost: x\n\n")),
            ("GET / HTTP/1.1\nhost: x\n\r\nbody", Some("GET / HTTP/1.1\nhost: x\n\r\n")),
            ("GET / HTTP/1.1\r\nhost: x\r\n\nbody", Some("GET / HTTP/1.1\r\nhost: x\r\n\n")),
            ("GET / HTTP/1.1\r\nhost: x\r\n\r", None),
            ("GET / HTTP/1.1\r\nhost: x\r\n", None),
        ] {
            assert_eq!(end_of_head(bytes.as_bytes()).map(|end| &bytes[..end]), head, "{bytes:?}");
        }
    }

    #[test]
    fn only_the_librarys_own_refusals_are_replaced() {
        let canned = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(Refusal::of(canned), Some(Refusal::HeadTooLarge));
        assert_eq!(Refusal::of(b"HTTP/1.1 400 Bad Request\r\nx-request-id: a\r\n\r\n"), None);
        assert_eq!(Refusal::of(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(Refusal::of(b"data: HTTP/1.1 400"), None);
    }
}
