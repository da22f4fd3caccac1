//! Notices what is out of the ordinary, from the rows of requests as they end: many failures in a short time, and costs,
//! latencies and error rates far from what they usually are.
//!
//! Decides from values; time is an argument. Memory is bounded: what has not been seen for longest is forgotten first.

use std::collections::{HashMap, VecDeque};

use crate::ledger::record::{Record, Status};
use crate::units::Span;

/// The `anomalies` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub enabled: bool,
    /// So many failures of one provider, key or task ... 2 to 100,000.
    pub failures: u32,
    /// ... within this time are one anomaly. 1s to 1h.
    pub within: Span,
    /// How many standard deviations from the usual are out of the ordinary. 2 to 100. At 3, one of some hundred requests of a
    /// usual day is; at 5, hardly any.
    pub z_score: f64,
    /// Requests of one kind until it is known what is usual. 10 to 1,000,000.
    pub min_requests: u32,
    /// Between two anomalies of one kind about one subject. 1s to 24h.
    pub pause: Span,
    /// Who is told, as callers' webhooks are. Must be allowed under `webhooks.allow`.
    pub webhook: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 20,
            within: Span(std::time::Duration::from_secs(60)),
            z_score: 5.0,
            min_requests: 100,
            pause: Span(std::time::Duration::from_secs(300)),
            webhook: None,
        }
    }
}

/// What was noticed.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    pub pattern: Pattern,
    /// `provider:openai`, `key:search`, `task:coding`.
    pub subject: String,
    pub value: f64,
    /// What it usually is; of failures: how many were allowed.
    pub usual: f64,
    /// `None` for patterns in time.
    pub z_score: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Many failures in a short time.
    Failures,
    /// USD of one request.
    Cost,
    /// Milliseconds of one request.
    Latency,
    /// Of the last hundred requests or so.
    ErrorRate,
}

impl Pattern {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Cost => "cost",
            Self::Latency => "latency",
            Self::ErrorRate => "error_rate",
        }
    }
}

/// Subjects that are remembered.
const MOST_SUBJECTS: usize = 2_000;
/// The weight of one request in what is usual: the last few hundred count.
const WEIGHT: f64 = 0.005;
/// The weight of one request in the error rate of now.
const RECENT: f64 = 0.03;
/// A difference below this share of the usual is never an anomaly, however steady things were.
const LEAST_CHANGE: f64 = 0.5;
/// Milliseconds that nobody notices, however many times the usual they are.
const LEAST_MS: f64 = 100.0;
/// Shares of errors that differ by less are the same.
const LEAST_RATE_CHANGE: f64 = 0.1;

/// Mean and spread of what came, the newest counting most. Logarithms are taken of costs and times: both are spread over
/// orders of magnitude.
#[derive(Clone, Debug, Default)]
struct Usual {
    count: u32,
    mean: f64,
    variance: f64,
}

impl Usual {
    fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        // The first ones weigh alike, so that the very first does not stay for ever.
        let weight = WEIGHT.max(1.0 / f64::from(self.count));
        let difference = value - self.mean;
        self.mean += weight * difference;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
    }

    fn z(&self, value: f64) -> f64 {
        (value - self.mean) / self.variance.sqrt().max(1e-9)
    }
}

#[derive(Debug, Default)]
struct Subject {
    seen: u64,
    cost: Usual,
    latency: Usual,
    errors: Usual,
    error_rate: f64,
    /// When it failed, in seconds of the detector's clock.
    failures: VecDeque<f64>,
    told: HashMap<Pattern, f64>,
}

/// Everything that is remembered.
#[derive(Debug, Default)]
pub struct Detector {
    subjects: HashMap<String, Subject>,
    turn: u64,
}

impl Detector {
    /// What a finished request gives away. `now` counts seconds and never goes back.
    pub fn add(&mut self, record: &Record, settings: &Settings, now: f64) -> Vec<Anomaly> {
        if !settings.enabled || record.status == Status::InProgress {
            return Vec::new();
        }
        let mut found = Vec::new();
        let named = [
            ("provider", &*record.provider),
            ("key", record.key.as_deref().unwrap_or_default()),
            ("task", &*record.task),
        ];
        for (kind, name) in named.into_iter().filter(|(_, name)| !name.is_empty()) {
            self.turn += 1;
            let subject_name = format!("{kind}:{name}");
            if !self.subjects.contains_key(&subject_name) && self.subjects.len() >= MOST_SUBJECTS {
                let oldest = self.subjects.iter().min_by_key(|(_, subject)| subject.seen).map(|(name, _)| name.clone());
                oldest.and_then(|oldest| self.subjects.remove(&oldest));
            }
            let subject = self.subjects.entry(subject_name.clone()).or_default();
            subject.seen = self.turn;
            for (pattern, value, usual, z_score) in subject.judge(record, settings, now) {
                let last = subject.told.get(&pattern).copied();
                if last.is_none_or(|last| now - last >= settings.pause.0.as_secs_f64()) {
                    subject.told.insert(pattern, now);
                    found.push(Anomaly { pattern, subject: subject_name.clone(), value, usual, z_score });
                }
            }
        }
        found
    }
}

impl Subject {
    fn judge(&mut self, record: &Record, settings: &Settings, now: f64) -> Vec<(Pattern, f64, f64, Option<f64>)> {
        let mut found = Vec::new();
        let is_error = record.status.is_error();
        if is_error {
            self.failures.push_back(now);
            let since = now - settings.within.0.as_secs_f64();
            while self.failures.front().is_some_and(|at| *at < since) {
                self.failures.pop_front();
            }
            if self.failures.len() >= settings.failures as usize {
                found.push((Pattern::Failures, self.failures.len() as f64, f64::from(settings.failures), None));
                self.failures.clear();
            }
        }
        let error = f64::from(u8::from(is_error));
        self.error_rate += RECENT * (error - self.error_rate);
        if self.errors.count >= settings.min_requests {
            // Of a mean over many, not of one: its spread is smaller by the root of their number.
            let spread = (self.errors.mean * (1.0 - self.errors.mean)).max(1e-4) * RECENT / (2.0 - RECENT);
            let z = (self.error_rate - self.errors.mean) / spread.sqrt();
            if z >= settings.z_score && self.error_rate - self.errors.mean >= LEAST_RATE_CHANGE {
                found.push((Pattern::ErrorRate, self.error_rate, self.errors.mean, Some(z)));
            }
        }
        self.errors.add(error);
        let bought = record.status == Status::Completed && record.cache.is_bought();
        let cost = record.cost.map(|cost| cost.0 as f64 / 1e9).filter(|cost| bought && *cost > 0.0);
        let latency =
            (bought && record.total_ms > 0 && record.service_tier.is_none()).then_some(record.total_ms as f64);
        let measured = [(Pattern::Cost, cost, &mut self.cost), (Pattern::Latency, latency, &mut self.latency)];
        for (pattern, value, usual) in measured {
            let Some(value) = value else { continue };
            let mean = usual.mean.exp();
            if usual.count >= settings.min_requests {
                let z = usual.z(value.ln());
                // What is cheap or quick is nothing to worry about.
                let least = if pattern == Pattern::Latency { LEAST_MS } else { 0.0 };
                if z >= settings.z_score && value - mean >= (LEAST_CHANGE * mean).max(least) {
                    found.push((pattern, value, mean, Some(z)));
                }
            }
            usual.add(value.ln());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::NanoUsd;

    fn record(status: Status, total_ms: u64, nano: i64) -> Record {
        let mut record = Record::new("r".into(), 0);
        record.status = status;
        record.provider = "one".into();
        record.total_ms = total_ms;
        record.cost = Some(NanoUsd(nano));
        record
    }

    fn feed(detector: &mut Detector, records: impl IntoIterator<Item = Record>, from: f64) -> Vec<Anomaly> {
        let settings = Settings::default();
        let each = records.into_iter().enumerate();
        each.flat_map(|(at, record)| detector.add(&record, &settings, from + at as f64)).collect()
    }

    /// Latencies and costs that vary as they do, without a single one out of the ordinary.
    fn usual(count: u64) -> impl Iterator<Item = Record> {
        (0..count).map(|n| {
            let wave = 1.0 + 0.3 * ((n * 7_919 % 100) as f64 / 100.0 - 0.5);
            record(Status::Completed, (1_000.0 * wave) as u64, (2_000_000.0 * wave) as i64)
        })
    }

    #[test]
    fn what_is_usual_is_no_anomaly_and_a_tenfold_cost_and_latency_are() {
        let mut detector = Detector::default();
        assert_eq!(feed(&mut detector, usual(1_000), 0.0), []);
        let found = feed(&mut detector, [record(Status::Completed, 10_000, 20_000_000)], 1_000.0);
        let patterns: Vec<_> = found.iter().map(|anomaly| (anomaly.pattern, anomaly.subject.as_str())).collect();
        assert_eq!(patterns, [(Pattern::Cost, "provider:one"), (Pattern::Latency, "provider:one")]);
        assert!(found[1].value == 10_000.0 && (900.0..1_100.0).contains(&found[1].usual), "{found:?}");
        assert_eq!(
            feed(&mut detector, [record(Status::Completed, 10_000, 20_000_000)], 1_002.0),
            [],
            "once in a while"
        );
        assert_eq!(feed(&mut detector, [record(Status::Completed, 10, 2_000)], 1_003.0), [], "cheap and quick is fine");
    }

    #[test]
    fn failures_count_within_their_time_only() {
        let settings = Settings::default();
        let mut detector = Detector::default();
        let mut at = |seconds: f64| !detector.add(&record(Status::Failed, 5, 0), &settings, seconds).is_empty();
        assert!((0..100).all(|n| !at(f64::from(n) * 4.0)), "15 in a minute are too few");
        let told = (0..20).filter(|n| at(1_000.0 + f64::from(*n))).count();
        assert_eq!(told, 1, "20 in 20 seconds are told once");
    }

    #[test]
    fn an_error_rate_that_rises_is_told_even_if_failures_are_far_apart() {
        let mut detector = Detector::default();
        assert_eq!(feed(&mut detector, usual(500), 0.0), []);
        let mixed =
            (0..60).map(|n| record(if n % 3 == 0 { Status::Failed } else { Status::Completed }, 1_000, 2_000_000));
        let settings = Settings::default();
        let found: Vec<_> = mixed
            .enumerate()
            .flat_map(|(at, record)| detector.add(&record, &settings, 10_000.0 + 100.0 * at as f64))
            .collect();
        assert!(found.iter().any(|anomaly| anomaly.pattern == Pattern::ErrorRate), "{found:?}");
        assert!(found.iter().all(|anomaly| anomaly.pattern == Pattern::ErrorRate), "{found:?}");
    }

    #[test]
    fn memory_is_bounded_and_the_ones_in_use_stay() {
        let settings = Settings::default();
        let mut detector = Detector::default();
        for n in 0..3 * MOST_SUBJECTS {
            for name in [format!("p{n}"), "steady".to_owned()] {
                let mut record = record(Status::Completed, 5, 5);
                record.provider = name.as_str().into();
                detector.add(&record, &settings, n as f64);
            }
        }
        assert!(detector.subjects.len() <= MOST_SUBJECTS);
        assert_eq!(detector.subjects["provider:steady"].latency.count as usize, 3 * MOST_SUBJECTS);
    }
}
