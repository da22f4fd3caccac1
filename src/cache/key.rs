//! When two requests are the same.
//!
//! Everything in the body that can change an answer is part of the key, in a canonical order and without insignificant
//! white space; so are the caller (unless sharing is configured) and the hints that decide who answers. Only members
//! that change the shape of the delivery are left out.

use crate::chat::Request;

/// 256 bits of BLAKE3: collisions are not a practical concern, even for somebody who tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 32]);

/// Members that change how an answer is delivered, not what it says. `context` and `provider` are hints: the caller of
/// [`key`] passes those that matter as `routing`.
const DELIVERY: [&str; 4] = ["stream", "stream_options", "context", "provider"];

/// The key of a request. `partition` separates callers, `routing` is a text of all hints that decide who may answer.
pub fn key(request: &Request, partition: &str, routing: &str) -> Key {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(partition.as_bytes());
    field(routing.as_bytes());
    let mut members: Vec<(&str, &str)> =
        request.members().filter(|(name, value)| !DELIVERY.contains(name) && *value != "null").collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    let mut compact = Vec::new();
    for (name, value) in members {
        field(name.as_bytes());
        if value.bytes().any(|byte| byte.is_ascii_whitespace()) {
            compact.clear();
            without_whitespace(value.as_bytes(), &mut compact);
            field(&compact);
        } else {
            field(value.as_bytes());
        }
    }
    if let Some(native) = &request.native {
        field(b"native");
        field(&native.body);
    }
    if let Some(embed) = &request.embed {
        field(b"embed");
        field(&embed.body);
    }
    for (name, value) in &request.forwarded {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    Key(*hasher.finalize().as_bytes())
}

/// Copies JSON without the white space between its tokens.
fn without_whitespace(json: &[u8], out: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        out.extend(rest[..quote].iter().filter(|byte| !byte.is_ascii_whitespace()));
        let mut end = quote + 1;
        while let Some(found) = rest.get(end..).and_then(|tail| memchr::memchr2(b'"', b'\\', tail)) {
            end += found;
            if rest[end] == b'"' {
                break;
            }
            end += 2;
        }
        let end = (end + 1).min(rest.len());
        out.extend_from_slice(&rest[quote..end]);
        rest = &rest[end..];
    }
    out.extend(rest.iter().filter(|byte| !byte.is_ascii_whitespace()));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn of(body: &str) -> Key {
        key(&Request::parse(Bytes::copy_from_slice(body.as_bytes())).expect("a request"), "", "")
    }

    #[test]
    fn order_white_space_and_delivery_do_not_matter() {
        let plain = of(r#"{"model":"m","messages":[{"role":"user","content":"a  b"}],"seed":1}"#);
        assert_eq!(
            plain,
            of(r#"{"seed" : 1, "messages": [ {"role": "user", "content": "a  b"} ], "model":"m", "top_p": null}"#)
        );
        assert_eq!(plain, of(r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"a  b"}],"seed":1}"#));
    }

    #[test]
    fn everything_that_can_change_an_answer_matters() {
        let plain = of(r#"{"model":"m","messages":[{"role":"user","content":"a b"}]}"#);
        for other in [
            r#"{"model":"n","messages":[{"role":"user","content":"a b"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a  b"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"user":"u"}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"temperature":0}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"a b"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"x_unknown":1}"#,
        ] {
            assert_ne!(plain, of(other), "{other}");
        }
        let request =
            Request::parse(Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":"a b"}]}"#))
                .expect("a request");
        assert_ne!(key(&request, "team-a", ""), key(&request, "team-b", ""));
        assert_ne!(key(&request, "", "only=x"), key(&request, "", ""));
    }
}
