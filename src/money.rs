//! Money in integers: amounts in billionths of a US dollar, prices per million tokens.
//!
//! Never a float: sums over millions of ledger rows must add up to the cent. Every rounding is upwards, so spend is
//! never under-reported.

use std::fmt;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Billionths of a US dollar in one dollar.
const NANOS_PER_USD: f64 = 1e9;

/// An amount in billionths of a US dollar; at most about 9.2 billion dollars. Serialises as a number of dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(pub i64);

impl NanoUsd {
    pub const ZERO: Self = Self(0);

    /// Rounds up to the next billionth. `None` for a negative, infinite, absurd (above 9 billion) or missing number.
    pub fn from_usd(usd: f64) -> Option<Self> {
        (usd.is_finite() && (0.0..9e9).contains(&usd)).then(|| {
            // A decimal such as 0.1 is a hair off in binary: forgive a thousandth of a billionth before rounding up.
            Self((usd * NANOS_PER_USD - 1e-3).ceil().max(0.0) as i64)
        })
    }

    pub fn usd(self) -> f64 {
        self.0 as f64 / NANOS_PER_USD
    }

    pub fn saturating_sub(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }
}

impl Add for NanoUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for NanoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// Dollars without a trailing run of zeros: `$0.00042`, `$12.5`, `$0`.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", decimal(*self))
    }
}

/// The amount as a plain decimal number of dollars, as it stands in headers and CSV: `0.00042`.
pub fn decimal(amount: NanoUsd) -> String {
    let sign = if amount.0 < 0 { "-" } else { "" };
    let nanos = amount.0.unsigned_abs();
    let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{rest:09}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

impl Serialize for NanoUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.usd())
    }
}

impl<'de> Deserialize<'de> for NanoUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let usd = f64::deserialize(deserializer)?;
        Self::from_usd(usd).ok_or_else(|| serde::de::Error::custom("expected an amount in USD, 0 or more"))
    }
}

/// Price of one million tokens. Exact where a per-token price is not ($0.0375 per million).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerMillion(pub NanoUsd);

impl PerMillion {
    /// Dollars per million tokens; the same bounds as [`NanoUsd::from_usd`].
    pub fn from_usd(usd: f64) -> Option<Self> {
        NanoUsd::from_usd(usd).map(Self)
    }

    /// What `tokens` cost. Rounds up; saturates instead of overflowing.
    pub fn of(self, tokens: u64) -> NanoUsd {
        let exact = i128::from(self.0.0) * i128::from(tokens);
        let rounded_up = (exact + 999_999) / 1_000_000;
        NanoUsd(i64::try_from(rounded_up).unwrap_or(i64::MAX))
    }
}

/// The share of a price that is not asked for, in millionths: 0 to 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discount(u32);

impl Discount {
    const WHOLE: u32 = 1_000_000;

    /// Of a share from 0 to 1; rounds down to the millionth, so that no more is given than was said.
    pub fn of_share(share: f64) -> Self {
        Self::of_millionths((share.clamp(0.0, 1.0) * f64::from(Self::WHOLE) + 1e-6).floor() as u32)
    }

    pub fn of_millionths(millionths: u32) -> Self {
        Self(millionths.min(Self::WHOLE))
    }

    pub fn millionths(self) -> u32 {
        self.0
    }

    /// What is left to pay of an amount. Rounds up.
    pub fn off(self, amount: NanoUsd) -> NanoUsd {
        let left = i128::from(amount.0) * i128::from(Self::WHOLE - self.0);
        NanoUsd(i64::try_from((left + 999_999) / 1_000_000).unwrap_or(i64::MAX))
    }
}

/// `50 %`.
impl fmt::Display for Discount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discount_is_exact_and_what_is_left_rounds_up() {
        let half = Discount::of_share(0.5);
        for (whole, left) in [(0, 0), (1, 1), (2, 1), (3, 2), (1_000_001, 500_001), (i64::MAX, i64::MAX / 2 + 1)] {
            assert_eq!(half.off(NanoUsd(whole)), NanoUsd(left), "{whole}");
        }
        assert_eq!(Discount::of_share(0.29).off(NanoUsd(1_000_000)), NanoUsd(710_000));
        assert_eq!(Discount::of_share(1.0).off(NanoUsd(7)), NanoUsd::ZERO);
        assert_eq!((Discount::default().off(NanoUsd(7)), half.to_string()), (NanoUsd(7), "50 %".to_owned()));
    }

    #[test]
    fn a_price_below_one_nano_per_token_still_costs_something() {
        let price = PerMillion::from_usd(0.0375).expect("a price");
        assert_eq!(price.of(1), NanoUsd(38));
        assert_eq!(price.of(1_000_000), NanoUsd(37_500_000));
        assert_eq!(price.of(0), NanoUsd::ZERO);
    }

    #[test]
    fn absurd_amounts_are_refused_and_absurd_token_counts_saturate() {
        for usd in [-0.01, f64::NAN, f64::INFINITY, 1e18] {
            assert_eq!(NanoUsd::from_usd(usd), None);
        }
        assert_eq!(PerMillion(NanoUsd(i64::MAX)).of(u64::MAX), NanoUsd(i64::MAX));
    }

    #[test]
    fn amounts_read_as_dollars() {
        assert_eq!(NanoUsd(420_000).to_string(), "$0.00042");
        assert_eq!(NanoUsd(12_500_000_000).to_string(), "$12.5");
        assert_eq!(NanoUsd::ZERO.to_string(), "$0");
        assert_eq!(NanoUsd::from_usd(0.1), Some(NanoUsd(100_000_000)));
    }
}
