//! The question a usage report answers: which period, grouped by what.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::cell::Labels;
use crate::units;

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// A column to group by. Days and hours are UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    Provider,
    Model,
    Task,
    Key,
    Team,
    Tier,
    /// A row with several counts in each of their groups, and once in the total.
    Tag,
    Strategy,
    Day,
    Hour,
    Status,
}

impl Dimension {
    pub const ALL: [Self; 11] = [
        Self::Provider,
        Self::Model,
        Self::Task,
        Self::Key,
        Self::Team,
        Self::Tier,
        Self::Tag,
        Self::Strategy,
        Self::Day,
        Self::Hour,
        Self::Status,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Task => "task",
            Self::Key => "key",
            Self::Team => "team",
            Self::Tier => "tier",
            Self::Tag => "tag",
            Self::Strategy => "strategy",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Status => "status",
        }
    }

    /// The column's value for a row that started at `started_unix_ms`.
    pub fn value(self, labels: &Labels, started_unix_ms: i64) -> String {
        match self {
            Self::Provider => labels.provider.clone(),
            Self::Model => labels.model.clone(),
            Self::Task => labels.task.clone(),
            Self::Key => labels.key.clone(),
            Self::Team => labels.team.clone(),
            Self::Tier => labels.tier.clone(),
            Self::Tag => labels.tags.clone(),
            Self::Strategy => labels.strategy.clone(),
            Self::Status => labels.status.clone(),
            Self::Day => rfc3339(floor(started_unix_ms, DAY_MS)).chars().take(10).collect(),
            Self::Hour => rfc3339(floor(started_unix_ms, HOUR_MS)),
        }
    }

    pub fn is_time(self) -> bool {
        matches!(self, Self::Day | Self::Hour)
    }
}

impl std::str::FromStr for Dimension {
    type Err = BadQuery;

    fn from_str(word: &str) -> Result<Self, BadQuery> {
        let found = Self::ALL.into_iter().find(|dimension| dimension.as_str() == word);
        found.ok_or_else(|| BadQuery::Dimension(word.chars().take(40).collect()))
    }
}

/// What is wrong with a query, for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    #[error(
        "cannot group by `{0}`; use any of provider, model, task, key, team, tier, tag, strategy, day, hour, status"
    )]
    Dimension(String),
    #[error(
        "`{0}` is not a time; write RFC 3339 such as 2026-01-31T12:00:00Z, a day, or how long ago, such as 7d or 24h"
    )]
    Time(String),
    #[error("`since` must be before `until`")]
    Empty,
}

impl BadQuery {
    /// The offending parameter.
    pub fn param(&self, of_time: &'static str) -> &'static str {
        match self {
            Self::Dimension(_) => "group_by",
            Self::Time(_) => of_time,
            Self::Empty => "since",
        }
    }
}

/// A period and its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageQuery {
    pub group_by: Vec<Dimension>,
    /// `None`: from the first row on.
    pub since_ms: Option<i64>,
    /// Exclusive. `None`: up to the last row.
    pub until_ms: Option<i64>,
    /// Rows of this key only.
    pub key: Option<String>,
    pub team: Option<String>,
    /// Rows that carry this tag, alone or among others.
    pub tag: Option<String>,
}

impl UsageQuery {
    /// From the words of a query string or a command line. Without `group_by`: by provider and model.
    pub fn parse(
        group_by: Option<&str>,
        since: Option<&str>,
        until: Option<&str>,
        now_ms: i64,
    ) -> Result<Self, BadQuery> {
        let words = group_by.unwrap_or("provider,model").split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut columns = Vec::new();
        for word in words {
            let dimension = word.parse()?;
            if !columns.contains(&dimension) {
                columns.push(dimension);
            }
        }
        let query = Self {
            group_by: columns,
            since_ms: since.map(|text| moment(text, now_ms)).transpose()?,
            until_ms: until.map(|text| moment(text, now_ms)).transpose()?,
            ..Self::default()
        };
        match (query.since_ms, query.until_ms) {
            (Some(since), Some(until)) if since >= until => Err(BadQuery::Empty),
            (Some(since), None) if since > now_ms => Err(BadQuery::Empty),
            _ => Ok(query),
        }
    }

    pub fn covers(&self, started_unix_ms: i64) -> bool {
        self.since_ms.is_none_or(|since| started_unix_ms >= since)
            && self.until_ms.is_none_or(|until| started_unix_ms < until)
    }

    pub fn shows(&self, labels: &Labels) -> bool {
        self.key.as_ref().is_none_or(|key| *key == labels.key)
            && self.team.as_ref().is_none_or(|team| *team == labels.team)
            && self.tag.as_ref().is_none_or(|tag| labels.tags.split(',').any(|other| other == tag))
    }

    pub fn by_hour(&self) -> bool {
        self.group_by.contains(&Dimension::Hour)
    }
}

/// A moment as people write it: RFC 3339, a day (its beginning in UTC), or how long ago.
pub fn moment(text: &str, now_ms: i64) -> Result<i64, BadQuery> {
    let text = text.trim();
    // A plus sign in a query string arrives as a space.
    let stamp = text.replacen(' ', "+", usize::from(text.contains('T')));
    if let Ok(timestamp) = stamp.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    if let Ok(Ok(midnight)) = text.parse::<Date>().map(|day| day.to_zoned(TimeZone::UTC)) {
        return Ok(midnight.timestamp().as_millisecond());
    }
    let ago = units::duration(text).ok().and_then(|ago| i64::try_from(ago.as_millis()).ok());
    let moment = ago.and_then(|ago| now_ms.checked_sub(ago));
    moment.ok_or_else(|| BadQuery::Time(text.chars().take(60).collect()))
}

/// RFC 3339 in UTC; empty for a moment that no calendar has.
pub fn rfc3339(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map(|timestamp| timestamp.to_string()).unwrap_or_default()
}

/// The beginning of the hour or day that a moment lies in.
pub fn floor(unix_ms: i64, step_ms: i64) -> i64 {
    unix_ms.div_euclid(step_ms).saturating_mul(step_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    #[test]
    fn a_query_reads_as_people_write_it() {
        let query = UsageQuery::parse(Some("task, day,task"), Some("7d"), None, NOW).expect("a query");
        assert_eq!(query.group_by, [Dimension::Task, Dimension::Day]);
        assert_eq!((query.since_ms, query.until_ms), (Some(NOW - 7 * DAY_MS), None));
        let query = UsageQuery::parse(None, Some("2026-09-01"), Some("2026-09-01T02:00:00+02:00"), NOW);
        assert_eq!(query, Err(BadQuery::Empty));
        assert_eq!(moment("2026-09-01T02:00:00 02:00", NOW), moment("2026-09-01", NOW));
        assert_eq!(UsageQuery::parse(None, None, None, NOW).expect("a query").group_by.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_the_allowed_is_named() {
        let error = UsageQuery::parse(Some("provider,colour"), None, None, NOW).expect_err("no such column");
        for dimension in Dimension::ALL {
            assert!(error.to_string().contains(dimension.as_str()));
        }
        for text in ["", "yesterday", "7", "2026-13-01", "99999999999999999d"] {
            assert!(moment(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_utc_and_floor_downwards() {
        let labels = Labels::default();
        assert_eq!(Dimension::Day.value(&labels, NOW), "2026-09-21");
        assert_eq!(Dimension::Hour.value(&labels, NOW), "2026-09-21T14:00:00Z");
        assert_eq!(floor(-1, HOUR_MS), -HOUR_MS);
    }
}
