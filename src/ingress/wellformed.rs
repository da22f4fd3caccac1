//! What a JSON parser that only scans lets pass, and another one, at a provider or in front of us, would not: half a
//! surrogate pair, and numbers that no float can hold.
//!
//! Knows strings from the rest and nothing else. Everything that is wrong with the grammar is the parser's to say.

/// What is wrong, for the caller; `None` if nothing is. One pass: strings are skipped from escape to escape.
pub fn flaw(body: &[u8]) -> Option<&'static str> {
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        match byte {
            b'"' => at = string(body, at + 1)?,
            b'-' | b'0'..=b'9' => {
                let length = body[at..].iter().take_while(|byte| is_part_of_number(**byte)).count();
                if is_too_large(&body[at..at + length]) {
                    return Some("a number is out of range");
                }
                at += length;
            }
            _ => at += 1,
        }
        if at == HALF {
            return Some("half of a surrogate pair stands alone in a string");
        }
    }
    None
}

/// Stands for a position in a string with half a pair.
const HALF: usize = usize::MAX;

/// The position after the string that goes on at `at`; `None` if it has no end, which the parser will say.
fn string(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr2(b'"', b'\\', &body[at..])?;
        if body[at] == b'"' {
            return Some(at + 1);
        }
        match unit(body, at) {
            Some(0xd800..=0xdbff) => match unit(body, at + 6) {
                Some(0xdc00..=0xdfff) => at += 12,
                _ => return Some(HALF),
            },
            Some(0xdc00..=0xdfff) => return Some(HALF),
            _ => at += 2,
        }
        if at > body.len() {
            return None;
        }
    }
}

/// The number in `\uXXXX`, if that is what stands there.
fn unit(body: &[u8], at: usize) -> Option<u32> {
    let escape = body.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn is_part_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Only an exponent, or more digits than any float has, can make a number too large.
fn is_too_large(number: &[u8]) -> bool {
    let suspicious = number.len() > 300 || number.iter().any(|byte| matches!(byte, b'e' | b'E'));
    suspicious && std::str::from_utf8(number).is_ok_and(|text| text.parse::<f64>().is_ok_and(f64::is_infinite))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_pairs_and_boundless_numbers_are_found_and_nothing_else() {
        let digits = format!("[{}]", "9".repeat(400));
        for (body, flawed) in [
            (r#"{"a":"\ud83d\ude00"}"#, false),
            (r#"{"a":"\ud83d"}"#, true),
            (r#"{"a":"\ud83d\n"}"#, true),
            (r#"{"a":"\ud83d\ud83d\ude00"}"#, true),
            (r#"{"a":"\ude00"}"#, true),
            (r#"{"\udE00":1}"#, true),
            (r#"{"a":"\\ud83d"}"#, false),
            (r#"{"a":"\\\ud83d"}"#, true),
            (r#"{"a":"1e999"}"#, false),
            (r#"{"a":1e999}"#, true),
            (r#"{"a":-1E+400}"#, true),
            (r#"{"a":1e-999, "b": 1.7e308, "c": 1e5}"#, false),
            (digits.as_str(), true),
            (r#"{"a":"unfinished"#, false),
            (r#"{"a":"unfinished\"#, false),
            (r#"{"a":"unfinished\ud83d"#, true),
            ("", false),
        ] {
            assert_eq!(flaw(body.as_bytes()).is_some(), flawed, "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_whatever_make_it_panic(body in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::prelude::Just(b'"'), proptest::prelude::Just(b'\\'), proptest::prelude::Just(b'u'),
                proptest::prelude::Just(b'd'), proptest::prelude::Just(b'8'), proptest::prelude::any::<u8>(),
            ],
            0..60,
        )) {
            let _ = flaw(&body);
        }

        #[test]
        fn what_a_serializer_writes_has_no_flaw(text: String, number: f64) {
            let body = serde_json::json!({"text": text, "number": number}).to_string();
            proptest::prop_assert_eq!(flaw(body.as_bytes()), None);
        }
    }
}
