//! How deep JSON is nested, told without reading it: what is passed on raw must not break whoever reads it next.

/// Deeper nesting is refused, in requests and in answers. Tool schemas in the wild stay below 40; the usual parsers give up
/// between 100 and 1000.
pub const MAX_DEPTH: usize = 128;

/// The byte at which a text goes deeper than [`MAX_DEPTH`]; `None` if it never does. Strings, the bulk of a prompt, are
/// skipped at memchr's speed.
pub fn exceeded(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    // Most events of a stream are shorter than that much nesting takes.
    if bytes.len() <= MAX_DEPTH {
        return None;
    }
    let (mut at, mut depth) = (0, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                    at += found;
                    if bytes[at] == b'"' {
                        break;
                    }
                    at += 2;
                    if at >= bytes.len() {
                        break;
                    }
                }
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(at);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_outside_strings_count() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(exceeded(&nested(MAX_DEPTH)), None);
        assert_eq!(exceeded(&nested(MAX_DEPTH + 1)), Some(MAX_DEPTH));
        assert_eq!(exceeded(&format!("[\"\\\"{}\"]", "[{".repeat(500))), None, "brackets in a string");
        assert_eq!(exceeded(&"[]".repeat(500)), None, "side by side");
    }
}
