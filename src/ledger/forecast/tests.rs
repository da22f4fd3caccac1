use proptest::prelude::*;

use super::*;

const DOLLAR: i64 = 1_000_000_000;

fn now(text: &str) -> Zoned {
    text.parse().expect("a time")
}

/// Costs of consecutive days, the last of them yesterday.
fn until_yesterday(now: &Zoned, costs: &[i64]) -> Days {
    let days = costs.iter().rev().enumerate().map(|(back, cost)| {
        let day = now.date().checked_sub(Span::new().days(back as i64 + 1)).expect("a day");
        (day, *cost)
    });
    Days { cost: days.collect(), unpriced_requests: 0 }
}

#[test]
fn an_even_pace_goes_on_to_the_end_of_the_month() {
    // Noon of the 21st: nine and a half of thirty days are to come. Twenty dollars have been spent, a dollar a day.
    let now = now("2026-11-21T12:00:00+00:00[UTC]");
    let forecast = forecast(&until_yesterday(&now, &[DOLLAR; 30]), &now);
    assert_eq!(forecast.month_to_date_usd, NanoUsd(20 * DOLLAR));
    assert_eq!(forecast.expected_usd, Some(NanoUsd(29 * DOLLAR + DOLLAR / 2)));
    assert_eq!((forecast.low_usd, forecast.high_usd), (forecast.expected_usd, forecast.expected_usd));
    assert_eq!((forecast.usd_per_day, forecast.method), (Some(NanoUsd(DOLLAR)), Some(Method::WeekdayMean)));
    assert_eq!((forecast.days, &*forecast.month, &*forecast.time_zone), (DAYS, "2026-11", "UTC"));
}

#[test]
fn weekends_are_expected_to_be_weekends_once_two_weeks_are_known() {
    // A Friday night: a Saturday, a Sunday and a Monday are left of the month.
    let friday = now("2026-11-27T23:59:59+00:00[UTC]");
    let mut days = until_yesterday(&friday, &[0; 29]);
    for (day, cost) in &mut days.cost {
        *cost = if weekday(*day) < 5 { 10 * DOLLAR } else { DOLLAR };
    }
    let found = forecast(&days, &friday);
    let rest = found.expected_usd.expect("an amount").0 - found.month_to_date_usd.0;
    assert!((rest - 12 * DOLLAR).abs() < DOLLAR / 100, "{rest}");
    // With a week of it, nobody knows about weekends.
    days.cost = days.cost.split_off(&friday.date().checked_sub(Span::new().days(8)).expect("a day"));
    assert_eq!(forecast(&days, &friday).method, Some(Method::DailyMean));
}

#[test]
fn too_little_is_no_forecast_and_says_why() {
    let now = now("2026-11-03T08:00:00+00:00[UTC]");
    // Three days are on record, the first of which may not be whole.
    let found = forecast(&until_yesterday(&now, &[DOLLAR; 3]), &now);
    assert_eq!((found.expected_usd, found.usd_per_day, found.method), (None, None, None));
    assert_eq!(found.reason.as_deref(), Some("2 complete days are on record; a forecast needs 3"));
    assert_eq!(found.month_to_date_usd, NanoUsd(2 * DOLLAR));
    assert_eq!(forecast(&Days::default(), &now).days, 0);
}

#[test]
fn a_budget_ends_on_the_day_on_which_the_sum_passes_it() {
    let now = now("2026-11-21T00:00:00+00:00[UTC]");
    let days = until_yesterday(&now, &[DOLLAR; 30]);
    let on = |limit: i64| reaches(&days, 20 * DOLLAR, limit * DOLLAR, &now).map(|day| day.to_string());
    assert_eq!(on(20), Some("2026-11-21".to_owned()));
    assert_eq!(on(27), Some("2026-11-27".to_owned()));
    assert_eq!(on(31), None);
}

#[test]
fn days_begin_where_the_people_are() {
    let zone = TimeZone::get("Asia/Kolkata").expect("a zone");
    assert_eq!(date("2026-11-20T18:00:00Z", &zone).map(|day| day.to_string()), Some("2026-11-21".to_owned()));
    assert_eq!(date("2026-11-20T17:00:00Z", &zone).map(|day| day.to_string()), Some("2026-11-20".to_owned()));
    assert_eq!(date("2026-11-20", &TimeZone::UTC).map(|day| day.to_string()), Some("2026-11-20".to_owned()));
}

fn moments() -> impl Strategy<Value = Zoned> {
    let zones = prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]);
    (1_700_000_000i64..1_900_000_000, zones).prop_map(|(second, zone)| {
        let at = Timestamp::from_second(second).expect("a time");
        at.to_zoned(TimeZone::get(zone).expect("a zone"))
    })
}

proptest! {
    #[test]
    fn nothing_is_expected_below_what_is_spent(now in moments(), costs in prop::collection::vec(0..=i64::MAX, 0..40), today in 0..=i64::MAX) {
        let mut days = until_yesterday(&now, &costs);
        days.cost.insert(now.date(), today);
        let found = forecast(&days, &now);
        prop_assert_eq!(found.expected_usd.is_some(), found.reason.is_none());
        prop_assert_eq!(found.expected_usd.is_some(), costs.len() > FEWEST);
        if let (Some(low), Some(expected), Some(high)) = (found.low_usd, found.expected_usd, found.high_usd) {
            prop_assert!(found.month_to_date_usd <= low && low <= expected && expected <= high, "{:?}", found);
        }
        // A number that is none would not be written as one.
        let json = serde_json::to_value(&found).expect("json");
        prop_assert!(json["month_to_date_usd"].is_number());
    }

    #[test]
    fn a_dearer_day_never_makes_the_month_cheaper(now in moments(), costs in prop::collection::vec(0..1_000_000 * DOLLAR, 4..40), at in any::<prop::sample::Index>(), more in 0..1_000_000 * DOLLAR) {
        let before = until_yesterday(&now, &costs);
        let mut dearer = costs.clone();
        dearer[at.index(costs.len())] += more;
        let after = until_yesterday(&now, &dearer);
        let (before_end, after_end) = (forecast(&before, &now).expected_usd, forecast(&after, &now).expected_usd);
        // Sums of floating point numbers are exact to a billionth of a dollar only up to a few million dollars.
        prop_assert!(before_end.map(|usd| usd.0) <= after_end.map(|usd| usd.0 + 1_000), "{:?} {:?}", before_end, after_end);
        let (spent, limit) = (before.month_to_date(now.date()), 500_000 * DOLLAR);
        if let Some(day) = reaches(&before, spent, limit, &now) {
            let earlier = reaches(&after, after.month_to_date(now.date()).max(spent), limit, &now);
            prop_assert!(earlier.is_some_and(|earlier| earlier <= day));
        }
    }
}
