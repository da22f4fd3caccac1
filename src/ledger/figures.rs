//! Figures as people read them on a terminal. Exact values are in the JSON and in the CSV.

use crate::money::NanoUsd;

/// Escape sequences of the few styles that texts use, or nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Bold,
    Dim,
    Red,
    Green,
}

pub fn paint(text: &str, style: Style, color: bool) -> String {
    let code = match style {
        Style::Bold => 1,
        Style::Dim => 2,
        Style::Red => 31,
        Style::Green => 32,
    };
    if color && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Words that callers chose, without what a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).collect()
}

/// `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `950`, `12.3k`, `4.57M`, `1.20B`.
pub fn compact(number: u64) -> String {
    let scales = [(1e9, "B"), (1e6, "M"), (1e3, "k")];
    // A number that would be rounded up to 1000 of a unit is one of the next.
    let scale = scales.iter().find(|(scale, _)| number as f64 >= scale * 0.9995);
    match scale {
        Some((scale, unit)) if number >= 1_000 => {
            let scaled = number as f64 / scale;
            let decimals = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
            format!("{scaled:.decimals$}{unit}")
        }
        _ => number.to_string(),
    }
}

/// Cents from a dollar on, else three digits that say something: `$12.35`, `$0.0123`, `$0`.
pub fn money(amount: NanoUsd) -> String {
    let usd = amount.usd();
    let magnitude = usd.abs();
    let sign = if usd < 0.0 { "-" } else { "" };
    if magnitude == 0.0 {
        return "$0".to_owned();
    }
    if magnitude >= 0.995 {
        let cents = (magnitude * 100.0).round() as u64;
        return format!("{sign}${}.{:02}", grouped(cents / 100), cents % 100);
    }
    let decimals = (2.0 - magnitude.log10().floor()).clamp(2.0, 9.0) as usize;
    let digits = format!("{magnitude:.decimals$}");
    format!("{sign}${}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// `850 ms`, `1.25 s`, `2 min 5 s`.
pub fn time(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => {
            let hundredths = milliseconds / 10;
            format!("{}.{:02} s", hundredths / 100, hundredths % 100)
        }
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds / 1_000 % 60),
    }
}

/// A share as a bar of `cells` characters, eighths included.
pub fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [char; 8] =
        [' ', '\u{258f}', '\u{258e}', '\u{258d}', '\u{258c}', '\u{258b}', '\u{258a}', '\u{2589}'];
    let eighths = (share.clamp(0.0, 1.0) * cells as f64 * 8.0).round() as usize;
    let mut text = "\u{2588}".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(EIGHTHS[eighths % 8]);
    }
    let padding = cells.saturating_sub(text.chars().count());
    text + &" ".repeat(padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_misleading() {
        assert_eq!([grouped(7), grouped(1_234), grouped(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!(
            [compact(999), compact(12_345), compact(999_999), compact(4_567_000_000)],
            ["999", "12.3k", "1.00M", "4.57B"]
        );
        assert_eq!([time(850), time(1_250), time(125_000)], ["850 ms", "1.25 s", "2 min 5 s"]);
    }

    #[test]
    fn money_is_rounded_to_what_matters() {
        let texts = [12_345_678_901, 999_000_000, 12_345_678, 1_500, 1, 0, -3_500_000_000].map(|n| money(NanoUsd(n)));
        assert_eq!(texts, ["$12.35", "$1.00", "$0.0123", "$0.0000015", "$0.000000001", "$0", "-$3.50"]);
    }

    #[test]
    fn a_bar_is_as_wide_as_asked() {
        for share in [0.0, 0.01, 0.33, 0.999, 1.0, 7.0] {
            assert_eq!(bar(share, 8).chars().count(), 8);
        }
        assert_eq!(bar(0.5, 2), "\u{2588} ");
    }
}
