//! What a month will have cost at its end, from what the days before have cost.
//!
//! The method is plain on purpose and always named: every day to come is expected to cost what such days cost on average,
//! by weekday once two weeks are on record. It knows nothing of growth, launches or holidays. What has no known price is in
//! neither the past nor the future; the number of such requests stands beside the amounts. Pure: the time is an argument.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit, Zoned};
use serde::Serialize;

use super::report::Group;
use super::usage::{Dimension, HOUR_MS, UsageQuery};
use crate::money::NanoUsd;

/// Complete days that are looked at. Four of each weekday: enough to smooth, few enough to follow a change.
pub const DAYS: usize = 28;
/// Complete days below which nothing is foretold.
pub const FEWEST: usize = 3;
/// Complete days from which on each weekday has its own mean.
const WEEKDAYS_FROM: usize = 14;
/// Standard deviations on either side that hold four out of five outcomes, if days vary independently.
const FOUR_OF_FIVE: f64 = 1.28;

/// Known cost by day, in one time zone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Days {
    /// Billionths of a dollar. Days without requests may be missing.
    pub cost: BTreeMap<Date, i64>,
    /// Requests of this month that have no known price.
    pub unpriced_requests: u64,
}

/// How the days to come were guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A mean for each weekday.
    WeekdayMean,
    /// One mean for all days, while there are too few for weekdays.
    DailyMean,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Such as `2026-11`, in `time_zone`.
    pub month: String,
    pub time_zone: String,
    pub month_to_date_usd: NanoUsd,
    /// Mean of the last complete days, at most seven. `null` where there are too few to say anything.
    pub usd_per_day: Option<NanoUsd>,
    /// At the end of the month.
    pub expected_usd: Option<NanoUsd>,
    /// Four out of five months end between these, if days go on to vary as they did.
    pub low_usd: Option<NanoUsd>,
    pub high_usd: Option<NanoUsd>,
    pub method: Option<Method>,
    /// Complete days that it rests on.
    pub days: usize,
    /// Why there is no forecast.
    pub reason: Option<String>,
    /// Requests of this month that no amount contains, for their price is not known.
    pub unpriced_requests: u64,
}

/// The period that a forecast needs: this month, and the days before that it learns from.
pub fn begins_at(now: &Zoned) -> i64 {
    let earliest = || -> Result<i64, jiff::Error> {
        let learned = now.checked_sub(Span::new().days(DAYS as i64 + 1))?.start_of_day()?;
        let month = now.first_of_month()?.start_of_day()?;
        Ok(learned.min(month).timestamp().as_millisecond())
    };
    // Only at the beginning of the calendar.
    earliest().unwrap_or(0)
}

/// The question that [`Days::add`] wants answered, under the same filters as another one.
pub fn query(of: &UsageQuery, also_by: &[Dimension], now: &Zoned) -> UsageQuery {
    // Sums are kept by UTC day; elsewhere days are put together from hours.
    let step = if *now.time_zone() == TimeZone::UTC { Dimension::Day } else { Dimension::Hour };
    let group_by = also_by.iter().copied().chain([step]).collect();
    UsageQuery { group_by, since_ms: Some(begins_at(now)), until_ms: None, ..of.clone() }
}

impl Days {
    /// Adds the sums of one group of [`query`], whose last label is its time. Demo answers are no spend.
    pub fn add(&mut self, group: &Group, now: &Zoned) {
        let Some(date) = group.labels.last().and_then(|label| date(label, now.time_zone())) else { return };
        if group.demo {
            return;
        }
        let cost = self.cost.entry(date).or_default();
        *cost = cost.saturating_add(group.cell.cost.0);
        if date >= now.date().first_of_month() {
            self.unpriced_requests += group.cell.unpriced_requests;
        }
    }

    pub fn of(groups: &[Group], now: &Zoned) -> Self {
        let mut days = Self::default();
        groups.iter().for_each(|group| days.add(group, now));
        days
    }

    /// The complete days, oldest first. The first on record is left out, for it may have begun at noon.
    fn complete(&self, today: Date) -> Vec<(Date, f64)> {
        let Some((first, _)) = self.cost.first_key_value() else { return Vec::new() };
        let mut days = Vec::new();
        let mut day = today;
        while days.len() < DAYS {
            let Ok(before) = day.yesterday() else { break };
            if before <= *first {
                break;
            }
            days.push((before, self.cost.get(&before).copied().unwrap_or(0) as f64));
            day = before;
        }
        days.reverse();
        days
    }

    fn month_to_date(&self, today: Date) -> i64 {
        self.cost.range(today.first_of_month()..=today).fold(0i64, |sum, (_, cost)| sum.saturating_add(*cost))
    }
}

/// What a day costs on average.
struct Pace {
    /// From Monday on, billionths of a dollar.
    by_weekday: [f64; 7],
    /// Of a day from its mean.
    deviation: f64,
    method: Method,
}

impl Pace {
    fn of(days: &[(Date, f64)]) -> Option<Self> {
        if days.len() < FEWEST {
            return None;
        }
        let overall = mean(days.iter().map(|(_, cost)| *cost));
        let (mut by_weekday, method) = ([overall; 7], Method::DailyMean);
        let method = if days.len() >= WEEKDAYS_FROM { Method::WeekdayMean } else { method };
        if method == Method::WeekdayMean {
            for (index, slot) in by_weekday.iter_mut().enumerate() {
                *slot = mean(days.iter().filter(|(day, _)| weekday(*day) == index).map(|(_, cost)| *cost));
            }
        }
        let fitted = if method == Method::WeekdayMean { 7 } else { 1 };
        let squares: f64 = days.iter().map(|(day, cost)| (cost - by_weekday[weekday(*day)]).powi(2)).sum();
        Some(Self { by_weekday, deviation: (squares / (days.len() - fitted) as f64).sqrt(), method })
    }

    /// Each day from today to the month's end with what is still expected of it, and the share of it that is to come.
    fn to_come(&self, now: &Zoned) -> Vec<(Date, f64, f64)> {
        let today = now.date();
        let mut days = Vec::new();
        let mut day = today;
        while day <= today.last_of_month() {
            let share = if day == today { left_of_today(now) } else { 1.0 };
            days.push((day, self.by_weekday[weekday(day)] * share, share));
            let Ok(next) = day.tomorrow() else { break };
            day = next;
        }
        days
    }
}

pub fn forecast(days: &Days, now: &Zoned) -> Forecast {
    let today = now.date();
    let complete = days.complete(today);
    let spent = days.month_to_date(today);
    let nothing = Forecast {
        month: today.strftime("%Y-%m").to_string(),
        time_zone: now.time_zone().iana_name().unwrap_or("UTC").to_owned(),
        month_to_date_usd: NanoUsd(spent),
        usd_per_day: None,
        expected_usd: None,
        low_usd: None,
        high_usd: None,
        method: None,
        days: complete.len(),
        reason: None,
        unpriced_requests: days.unpriced_requests,
    };
    let Some(pace) = Pace::of(&complete) else {
        let reason = format!("{} complete days are on record; a forecast needs {FEWEST}", complete.len());
        return Forecast { reason: Some(reason), ..nothing };
    };
    let to_come = pace.to_come(now);
    let rest: f64 = to_come.iter().map(|(_, cost, _)| cost).sum();
    let varying: f64 = to_come.iter().map(|(.., share)| share).sum();
    let margin = FOUR_OF_FIVE * pace.deviation * varying.sqrt();
    // A conversion to an integer saturates.
    let at_end = |rest: f64| Some(NanoUsd(spent.saturating_add(rest.max(0.0).round() as i64)));
    let last_week = &complete[complete.len().saturating_sub(7)..];
    Forecast {
        usd_per_day: Some(NanoUsd(mean(last_week.iter().map(|(_, cost)| *cost)).round() as i64)),
        expected_usd: at_end(rest),
        low_usd: at_end(rest - margin),
        high_usd: at_end(rest + margin),
        method: Some(pace.method),
        ..nothing
    }
}

/// The day of this month on which `spent` is expected to reach `limit`, both in billionths of a dollar. `None`: not in this
/// month, or nobody can tell.
pub fn reaches(days: &Days, spent: i64, limit: i64, now: &Zoned) -> Option<Date> {
    if spent >= limit {
        return Some(now.date());
    }
    let pace = Pace::of(&days.complete(now.date()))?;
    let mut sum = spent as f64;
    pace.to_come(now).into_iter().find_map(|(day, cost, _)| {
        sum += cost;
        (sum >= limit as f64).then_some(day)
    })
}

/// 0 to 1.
fn left_of_today(now: &Zoned) -> f64 {
    let share = || -> Result<f64, jiff::Error> {
        let (start, end) = (now.start_of_day()?, now.tomorrow()?.start_of_day()?);
        let length = start.until((Unit::Second, &end))?.total(Unit::Second)?;
        Ok(now.until((Unit::Second, &end))?.total(Unit::Second)? / length)
    };
    share().unwrap_or(0.0).clamp(0.0, 1.0)
}

/// Of a day or an hour as reports write it.
fn date(label: &str, zone: &TimeZone) -> Option<Date> {
    match label.parse::<Timestamp>() {
        // The middle of the hour, for zones that begin their days in it.
        Ok(hour) => Some(hour.checked_add((HOUR_MS / 2).milliseconds()).ok()?.to_zoned(zone.clone()).date()),
        Err(_) => label.parse().ok(),
    }
}

fn weekday(day: Date) -> usize {
    usize::try_from(day.weekday().to_monday_zero_offset()).unwrap_or(0)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

#[cfg(test)]
mod tests;
