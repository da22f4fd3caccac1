//! The sections `jobs`, `webhooks`, `anomalies` and `retention`.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::reader::{Section, set};
use super::settings::Retention;
use crate::events::anomaly;
use crate::jobs::settings::{Settings, Webhooks, Window};
use crate::units::Span;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn jobs(mut section: Section<'_>) -> Settings {
    let mut jobs = Settings::default();
    set(&mut jobs.workers, section.count("workers", 0..=1_000).map(|count| count.0 as u32));
    set(&mut jobs.lease, section.span("lease", SECOND..=HOUR));
    set(&mut jobs.max_attempts, section.count("max_attempts", 1..=100).map(|count| count.0 as u32));
    if let Some(mut backoff) = section.section("backoff") {
        set(&mut jobs.backoff.start, backoff.span("start", 10 * MILLISECOND..=HOUR));
        set(&mut jobs.backoff.max, backoff.span("max", 10 * MILLISECOND..=DAY));
        if jobs.backoff.max.0 < jobs.backoff.start.0 {
            backoff.problem(format!("max ({:?}) is below start ({:?})", jobs.backoff.max.0, jobs.backoff.start.0));
        }
        backoff.finish();
    }
    set(&mut jobs.expires, section.span("expires", SECOND..=30 * DAY));
    set(&mut jobs.keep, section.span("keep", MINUTE..=365 * DAY));
    set(&mut jobs.keep_dead, section.span("keep_dead", MINUTE..=3650 * DAY));
    set(&mut jobs.keep_files, section.span("keep_files", MINUTE..=3650 * DAY));
    set(&mut jobs.max_queued, section.count("max_queued", 1..=100_000_000).map(|count| count.0));
    jobs.off_peak = section.section("off_peak").and_then(window);
    section.finish();
    jobs
}

fn window(mut section: Section<'_>) -> Option<Window> {
    let mut time = |key: &'static str| {
        let Some(item) = section.get(key) else {
            section.problem(format!("off-peak hours need `{key}`, such as 22:00"));
            return None;
        };
        let time = item.text()?.parse::<Time>().ok();
        if time.is_none() {
            item.problem(format!("{} is not a time of day; write for instance '22:00', in quotes", item.shown()));
        }
        time
    };
    let (from, to) = (time("from"), time("to"));
    let time_zone = match section.get("time_zone") {
        None => Some(TimeZone::UTC),
        Some(item) => item.text().and_then(|name| {
            let zone = TimeZone::get(name).ok();
            if zone.is_none() {
                item.problem(format!("{} is not a time zone; write for instance Europe/Berlin", item.shown()));
            }
            zone
        }),
    };
    if let (Some(from), Some(to)) = (from, to)
        && from == to
    {
        section.problem("`from` and `to` are the same: no hour would be off-peak; leave `off_peak` out");
    }
    section.finish();
    Some(Window { from: from?, to: to?, time_zone: time_zone? })
}

pub(super) fn anomalies(mut section: Section<'_>) -> anomaly::Settings {
    let mut anomalies = anomaly::Settings::default();
    set(&mut anomalies.enabled, section.flag("enabled"));
    set(&mut anomalies.failures, section.count("failures", 2..=100_000).map(|count| count.0 as u32));
    set(&mut anomalies.within, section.span("within", SECOND..=HOUR));
    set(&mut anomalies.z_score, section.number("z_score", 2.0..=100.0));
    set(&mut anomalies.min_requests, section.count("min_requests", 10..=1_000_000).map(|count| count.0 as u32));
    set(&mut anomalies.pause, section.span("pause", SECOND..=DAY));
    anomalies.webhook = section.text("webhook");
    section.finish();
    anomalies
}

pub(super) fn retention(mut section: Section<'_>) -> Retention {
    let mut retention = Retention::default();
    let mut keep = |key: &'static str, least: Duration, kept: &mut Option<Span>| {
        let Some(item) = section.get(key) else { return };
        *kept = if item.says("forever") { None } else { item.span(least..=3650 * DAY) };
    };
    keep("requests", DAY, &mut retention.requests);
    keep("events", HOUR, &mut retention.events);
    section.finish();
    retention
}

pub(super) fn webhooks(mut section: Section<'_>) -> Webhooks {
    let mut webhooks = Webhooks::default();
    let listed = section.get("allow").and_then(|item| item.texts("a list of hosts or origins")).unwrap_or_default();
    for (item, text) in listed {
        let host = text.strip_prefix("*.").unwrap_or(text);
        let is_origin = matches!(text.split_once("://"), Some(("http" | "https", rest)) if !rest.is_empty());
        let is_host =
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        if is_origin || is_host {
            webhooks.allow.push(text.to_owned());
        } else {
            let message = "is neither a host such as hooks.example.com nor an origin such as http://10.0.0.7:9000";
            item.problem(format!("{} {message}", item.shown()));
        }
    }
    webhooks.secret = section.text("secret").map(Into::into);
    set(&mut webhooks.timeout, section.span("timeout", 100 * MILLISECOND..=MINUTE));
    section.finish();
    webhooks
}
