//! When a budget's period began and when it ends.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// The time after which an amount is there anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// A calendar day.
    Day,
    Month,
    /// A fixed length in milliseconds, counted from the beginning of 1970.
    Window(i64),
}

impl Period {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Window(_) => "window",
        }
    }
}

/// One stretch, from `start_ms` on and before `end_ms` (Unix milliseconds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stretch {
    pub start_ms: i64,
    pub end_ms: i64,
}

/// The stretch of `period` in which a moment lies. Days and months are those of `zone`, however long they are there.
pub fn stretch(period: Period, zone: &TimeZone, now_ms: i64) -> Stretch {
    let begin = |now: &Zoned| match period {
        Period::Month => now.first_of_month().and_then(|day| day.start_of_day()),
        _ => now.start_of_day(),
    };
    let step = if period == Period::Month { Span::new().months(1) } else { Span::new().days(1) };
    if let Period::Window(length) = period {
        let start_ms = now_ms.div_euclid(length.max(1)) * length.max(1);
        return Stretch { start_ms, end_ms: start_ms.saturating_add(length.max(1)) };
    }
    let calendar = || -> Result<Stretch, jiff::Error> {
        let start = begin(&Timestamp::from_millisecond(now_ms)?.to_zoned(zone.clone()))?;
        let end = start.checked_add(step)?.start_of_day()?;
        Ok(Stretch { start_ms: start.timestamp().as_millisecond(), end_ms: end.timestamp().as_millisecond() })
    };
    // Only at the end of the calendar, in the year 9999.
    calendar().unwrap_or(Stretch { start_ms: now_ms, end_ms: i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    fn found(period: Period, zone: &str, now: &str) -> (i64, i64) {
        let Stretch { start_ms, end_ms } = stretch(period, &TimeZone::get(zone).expect("a zone"), at(now));
        (start_ms, end_ms)
    }

    #[test]
    fn days_and_months_begin_where_the_people_are() {
        let now = "2026-11-30T23:30:00Z";
        assert_eq!(found(Period::Month, "UTC", now), (at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z")));
        assert_eq!(
            found(Period::Month, "Europe/Berlin", now),
            (at("2026-11-30T23:00:00Z"), at("2026-12-31T23:00:00Z"))
        );
        assert_eq!(
            found(Period::Day, "America/New_York", now),
            (at("2026-11-30T05:00:00Z"), at("2026-12-01T05:00:00Z"))
        );
    }

    #[test]
    fn a_day_on_which_clocks_change_is_as_long_as_it_is() {
        let (start, end) = found(Period::Day, "Europe/Berlin", "2026-10-25T12:00:00Z");
        assert_eq!(end - start, 25 * 3_600_000);
        // Where midnight does not exist on that day, it begins at one.
        let (start, end) = found(Period::Day, "America/Asuncion", "2024-10-06T12:00:00Z");
        assert_eq!(end - start, 23 * 3_600_000);
    }

    #[test]
    fn windows_are_counted_from_1970() {
        let six_hours = Period::Window(6 * 3_600_000);
        assert_eq!(
            found(six_hours, "UTC", "2026-11-30T13:30:00Z"),
            (at("2026-11-30T12:00:00Z"), at("2026-11-30T18:00:00Z"))
        );
    }
}
