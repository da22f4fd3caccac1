//! What a report is made of, whichever the database: sums per hour and day, and single requests where they do not reach.
//!
//! A period that begins or ends inside an hour reads that hour's requests; whole days come from the sums per day.

use std::collections::HashMap;

use crate::ledger::cell::{Cell, Facts, Labels};
use crate::ledger::usage::{DAY_MS, Dimension, HOUR_MS, UsageQuery, floor};

/// Beyond every calendar, and far enough from the integers' ends to be rounded: "no limit".
pub const FOREVER_MS: i64 = 100_000_000 * DAY_MS;

/// Sums to be added to those that are there: by step, start and labels.
#[derive(Default)]
pub struct Cells(HashMap<(i64, i64, Labels), Cell>);

impl Cells {
    pub fn add(&mut self, started_unix_ms: i64, labels: &Labels, facts: &Facts) {
        for step in [HOUR_MS, DAY_MS] {
            self.0.entry((step, floor(started_unix_ms, step), labels.clone())).or_default().add(facts);
        }
    }

    pub fn into_map(self) -> HashMap<(i64, i64, Labels), Cell> {
        self.0
    }
}

pub fn decode(bytes: &[u8]) -> Result<Cell, sqlx::Error> {
    Cell::decode(bytes).ok_or_else(|| sqlx::Error::Decode("a sum in `usage_cell` is unreadable; rebuild them".into()))
}

/// Where a period's figures come from. Half-open intervals in Unix milliseconds; empty ones do no harm.
#[derive(Debug, PartialEq)]
pub struct Sources {
    /// The whole period, for requests that no sum has yet.
    pub whole: (i64, i64),
    /// For requests that are in sums, but in some that hold others too.
    pub requests: [(i64, i64); 2],
    pub hours: [(i64, i64); 2],
    pub days: (i64, i64),
}

impl Sources {
    /// Requests before `kept_since_ms` were purged; the latest one that is there started at `latest_ms`.
    pub fn of(query: &UsageQuery, kept_since_ms: Option<i64>, latest_ms: Option<i64>) -> Self {
        let mut since = query.since_ms.unwrap_or(-FOREVER_MS).clamp(-FOREVER_MS, FOREVER_MS);
        let mut until = query.until_ms.unwrap_or(FOREVER_MS).clamp(-FOREVER_MS, FOREVER_MS);
        let after_latest = latest_ms.map_or(-FOREVER_MS, |latest| latest + 1);
        if until >= kept_since_ms.unwrap_or(-FOREVER_MS).max(after_latest) {
            // Nothing is later: the last hour counts as a whole.
            until = FOREVER_MS;
        }
        if let Some(kept_since_ms) = kept_since_ms {
            // What was purged is known by the hour only.
            if since < kept_since_ms {
                since = floor(since, HOUR_MS);
            }
            if until < kept_since_ms {
                until = ceiling(until, HOUR_MS);
            }
        }
        Self::between(since, until, query.by_hour())
    }

    fn between(since: i64, until: i64, by_hour: bool) -> Self {
        let (hour_since, hour_until) = (ceiling(since, HOUR_MS), floor(until, HOUR_MS));
        let (none, whole) = ((0, 0), (since, until));
        if hour_since >= hour_until {
            return Self { whole, requests: [whole, none], hours: [none, none], days: none };
        }
        let requests = [(since, hour_since), (hour_until, until)];
        let (day_since, day_until) = (ceiling(hour_since, DAY_MS), floor(hour_until, DAY_MS));
        if by_hour || day_since >= day_until {
            return Self { whole, requests, hours: [(hour_since, hour_until), none], days: none };
        }
        let hours = [(hour_since, day_since), (day_until, hour_until)];
        Self { whole, requests, hours, days: (day_since, day_until) }
    }

    /// The intervals whose sums are read, each with the length of its sums.
    pub fn sums(&self) -> [(i64, (i64, i64)); 3] {
        [(HOUR_MS, self.hours[0]), (HOUR_MS, self.hours[1]), (DAY_MS, self.days)]
    }
}

fn ceiling(unix_ms: i64, step_ms: i64) -> i64 {
    floor(unix_ms + step_ms - 1, step_ms)
}

/// Distinguishes sums of one label that go to different groups.
pub fn group_period(query: &UsageQuery, start: i64) -> i64 {
    if query.by_hour() {
        start
    } else if query.group_by.contains(&Dimension::Day) {
        floor(start, DAY_MS)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_days_come_from_days_and_edges_from_requests() {
        let (minute, day) = (60_000, 20_000 * DAY_MS);
        let sources = Sources::between(day - HOUR_MS - minute, day + 2 * DAY_MS + HOUR_MS + minute, false);
        assert_eq!(
            sources.requests,
            [
                (day - HOUR_MS - minute, day - HOUR_MS),
                (day + 2 * DAY_MS + HOUR_MS, day + 2 * DAY_MS + HOUR_MS + minute)
            ]
        );
        assert_eq!(sources.hours, [(day - HOUR_MS, day), (day + 2 * DAY_MS, day + 2 * DAY_MS + HOUR_MS)]);
        assert_eq!(sources.days, (day, day + 2 * DAY_MS));
    }

    #[test]
    fn a_period_inside_an_hour_reads_requests_only() {
        let sources = Sources::between(DAY_MS + 5, DAY_MS + HOUR_MS - 5, false);
        assert_eq!(sources.requests[0], (DAY_MS + 5, DAY_MS + HOUR_MS - 5));
        assert_eq!((sources.hours, sources.days), ([(0, 0), (0, 0)], (0, 0)));
    }
}
