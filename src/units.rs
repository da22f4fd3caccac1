//! Quantities as people write them: `500ms`, `256MB`, `400k`, `20%`. One parser for file, header and command line.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A century: longer spans are mistakes, and the end of one must still be a point in time.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// `500ms`, `1.5s`, `5m`, `24h`, `7d`, or several in a row (`1m30s`). A bare number is refused: it has no unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write for instance 500ms, 30s, 5m, 24h or 7d");
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..letters] {
                "us" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return Err(wrong()),
            };
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).ok().filter(|span| *span <= LONGEST).ok_or_else(wrong)
}

/// Bytes: `256MB` (decimal), `64MiB` (binary), `1024`.
pub fn size(text: &str) -> Result<u64, String> {
    let scales = [
        ("KiB", 1u64 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    scaled(text, &scales).ok_or_else(|| format!("`{text}` is not a size; write for instance 20MB, 64MiB or 1048576"))
}

/// A count: `128k`, `20M`, `4096`.
pub fn count(text: &str) -> Result<u64, String> {
    scaled(text, &[("k", 1000), ("K", 1000), ("M", 1_000_000), ("B", 1_000_000_000)])
        .ok_or_else(|| format!("`{text}` is not a count; write for instance 4096, 128k or 20M"))
}

/// A share in 0..=1: `20%` or `0.2`.
pub fn share(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a share; write for instance 20% or 0.2");
    let share = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0,
        None => text.trim().parse::<f64>().map_err(|_| wrong())?,
    };
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("`{text}` is not between 0% and 100%")) }
}

fn scaled(text: &str, scales: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, scale) = scales
        .iter()
        .find_map(|(suffix, scale)| text.strip_suffix(suffix).map(|number| (number.trim(), *scale)))
        .unwrap_or((text, 1));
    let number: f64 = number.replace('_', "").parse().ok()?;
    let scaled = number * scale as f64;
    (scaled.is_finite() && (0.0..1e18).contains(&scaled)).then_some(scaled.round() as u64)
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:path, $expecting:literal, $number:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Written;
                impl Visitor<'_> for Written {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        $parse(text).map($name).map_err(E::custom)
                    }
                    fn visit_u64<E: Error>(self, number: u64) -> Result<$name, E> {
                        self.visit_f64(number as f64)
                    }
                    fn visit_i64<E: Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_f64(number as f64)
                    }
                    fn visit_f64<E: Error>(self, number: f64) -> Result<$name, E> {
                        let convert: fn(f64) -> Result<$inner, String> = $number;
                        convert(number).map($name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Written)
            }
        }
    };
}

quantity!(
    /// A span of time in the configuration file.
    Span(Duration), duration, "a duration such as 500ms or 30s",
    |number| Err(format!("`{number}` has no unit; write for instance {number}s or {number}ms"))
);
quantity!(
    /// A number of bytes in the configuration file.
    Size(u64), size, "a size such as 20MB", |number| size(&number.to_string())
);
quantity!(
    /// A number of tokens or requests in the configuration file.
    Count(u64), count, "a count such as 4096 or 128k", |number| count(&number.to_string())
);
quantity!(
    /// A share in the configuration file.
    Share(f64), share, "a share such as 20% or 0.2", |number| share(&number.to_string())
);

/// As it is read again: whole milliseconds, in the largest unit that fits.
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = self.0.as_millis();
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let text = match units.into_iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit)) {
            Some((name, unit)) => format!("{}{name}", ms / unit),
            None => format!("{ms}ms"),
        };
        serializer.serialize_str(&text)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_written() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86400)));
        assert_eq!(size("256MB"), Ok(256_000_000));
        assert_eq!(size("4MiB"), Ok(4 << 20));
        assert_eq!(count("128k"), Ok(128_000));
        assert_eq!(share("20%"), Ok(0.2));
    }

    #[test]
    fn what_has_no_unit_or_no_sense_is_refused() {
        for text in ["", "30", "5 parsecs", "-1s", "1e400s", "s", "99999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(share("120%").is_err() && size("lots").is_err() && count("-3").is_err());
    }
}
