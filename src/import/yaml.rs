//! Values as they are written into the new file.

/// A text that means itself: quoted, and with dollar signs that refer to nothing.
pub fn text(text: &str) -> String {
    quoted(&text.replace('$', "$$"))
}

/// A reference to an environment variable.
pub fn variable(name: &str) -> String {
    format!("\"${{{name}}}\"")
}

/// What a file holds.
pub fn file(path: &str) -> String {
    quoted(&format!("${{file:{path}}}"))
}

/// JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A key of a map.
pub fn key(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&name.to_ascii_lowercase().as_str());
    if is_plain { name.to_owned() } else { quoted(name) }
}

/// A number of seconds within bounds, in seconds too.
pub fn span(seconds: f64, bounds: std::ops::RangeInclusive<f64>) -> String {
    let seconds = seconds.clamp(*bounds.start(), *bounds.end());
    if seconds.fract() == 0.0 { format!("{seconds}s") } else { format!("{}ms", (seconds * 1000.0).round().max(1.0)) }
}

/// A number without a run of meaningless digits.
pub fn number(number: f64) -> String {
    let rounded = (number * 1e6).round() / 1e6;
    rounded.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_means_what_it_says() {
        assert_eq!(text("a $5 \"deal\""), r#""a $$5 \"deal\"""#);
        assert_eq!(variable("KEY"), "\"${KEY}\"");
        assert_eq!([key("gpt-4.1"), key("4o"), key("on")], ["gpt-4.1", "\"4o\"", "\"on\""]);
        assert_eq!(
            [span(30.0, 0.001..=60.0), span(0.5, 0.001..=60.0), span(900.0, 0.001..=60.0)],
            ["30s", "500ms", "60s"]
        );
        assert_eq!([number(0.000_002_5 * 1e6), number(3.0)], ["2.5", "3"]);
    }
}
