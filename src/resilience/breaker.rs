//! A circuit breaker with exact counts.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::window::Window;
use crate::units::{Count, Share, Span};

/// When a target is left alone, and for how long.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Span over which outcomes are counted. 1s to 10m. Short spans forget an outage between two rare requests.
    pub window: Span,
    /// Outcomes in the window before `open_at` may decide. At 1 a single failure is a failure rate of 100 %.
    pub min_requests: Count,
    /// Share of failures in the window that opens the breaker.
    pub open_at: Share,
    /// Hard failures in a row that open the breaker, whatever the window says. 1 to 100. At 1 a single blip ejects a
    /// target; above 20 a dead target keeps receiving traffic for seconds.
    pub consecutive_failures: Count,
    /// First pause before a probe; doubles with each failed probe up to `max_cooldown`.
    pub cooldown: Span,
    /// Longest pause between two probes.
    pub max_cooldown: Span,
    /// Longest pause before a probe while nothing else could be used instead. A pause spares something that fails at
    /// the price of what others can do; where there are no others it only prolongs the outage.
    pub cooldown_without_alternative: Span,
    /// Probes in flight while half-open, and successes needed to close. 1 is right unless answers are very short.
    pub probes: Count,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Span(Duration::from_secs(30)),
            min_requests: Count(20),
            open_at: Share(0.5),
            consecutive_failures: Count(5),
            cooldown: Span(Duration::from_secs(15)),
            max_cooldown: Span(Duration::from_secs(300)),
            cooldown_without_alternative: Span(Duration::from_secs(5)),
            probes: Count(1),
        }
    }
}

/// A probe that has shown life for so long holds the next one up no more: what it does may take minutes.
const PROGRESS: Duration = Duration::from_secs(2);

/// How one use of the protected thing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// Counts towards opening.
    Failure,
    /// Fails a probe, but does not count otherwise: "busy" is not "broken".
    Busy,
    /// Says nothing about the thing: the user was wrong, or left.
    Neutral,
}

/// Permission for one use. Must be handed back with [`Breaker::record`], or the probe's place stays taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Normal,
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Let through.
    Closed,
    /// Nothing passes until the instant.
    Open { until: Instant },
    /// Probes pass, one at a time.
    HalfOpen,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Closed, open, half-open, closed again. One per protected thing; the caller serialises access.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    window: Window,
    consecutive: u64,
    /// Openings in a row without a recovery: each doubles the pause.
    streak: u32,
    probes: u64,
    probe_successes: u64,
    /// Since when a probe shows life without having ended.
    progressing: Option<Instant>,
    /// Why it opened last, for operators: `5 failures in a row`.
    cause: String,
    opened: u64,
    /// When it opened last.
    since: Instant,
}

impl Breaker {
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Closed,
            window: Window::new(now),
            consecutive: 0,
            streak: 0,
            probes: 0,
            probe_successes: 0,
            progressing: None,
            cause: String::new(),
            opened: 0,
            since: now,
        }
    }

    /// The state as a user would meet it: an open breaker whose pause is over is half-open.
    pub fn state(&self, now: Instant) -> State {
        match self.state {
            State::Open { until } if until <= now => State::HalfOpen,
            state => state,
        }
    }

    /// Why it opened last; empty if it never did.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// How often it has opened.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Nothing else can be used instead: shortens the pause. True if that changed it.
    pub fn hasten(&mut self, settings: &Settings) -> bool {
        let earlier = self.since + settings.cooldown_without_alternative.0;
        match &mut self.state {
            State::Open { until } if *until > earlier => {
                *until = earlier;
                true
            }
            _ => false,
        }
    }

    /// True if a use would be let through now.
    pub fn would_admit(&self, settings: &Settings, now: Instant) -> bool {
        match self.state(now) {
            State::Closed => true,
            State::Open { .. } => false,
            State::HalfOpen => {
                let lively = self.progressing.is_some_and(|since| now.saturating_duration_since(since) >= PROGRESS);
                matches!(self.state, State::Open { .. }) || self.probes < settings.probes.0.max(1) || lively
            }
        }
    }

    /// Asks for one use.
    pub fn admit(&mut self, settings: &Settings, now: Instant) -> Option<Pass> {
        if !self.would_admit(settings, now) {
            return None;
        }
        if self.state(now) == State::Closed {
            return Some(Pass::Normal);
        }
        if let State::Open { .. } = self.state {
            self.state = State::HalfOpen;
            (self.probes, self.probe_successes) = (0, 0);
        }
        self.progressing = None;
        self.probes += 1;
        Some(Pass::Probe)
    }

    /// A probe shows life: it is judged at its end, but the next one need not wait for that.
    pub fn progressed(&mut self, now: Instant, pass: Pass) {
        if pass == Pass::Probe && self.state == State::HalfOpen {
            self.progressing.get_or_insert(now);
        }
    }

    /// Hands a pass back. `random` (0..1) jitters the pause by up to 20 %. Returns true if this opened the breaker.
    pub fn record(&mut self, settings: &Settings, now: Instant, pass: Pass, outcome: Outcome, random: f64) -> bool {
        if pass == Pass::Probe {
            self.probes = self.probes.saturating_sub(1);
            if self.state == State::HalfOpen {
                return self.judge_probe(settings, now, outcome, random);
            }
        }
        match outcome {
            Outcome::Success => {
                self.consecutive = 0;
                self.window.record(settings.window.0, now, true);
            }
            Outcome::Failure => {
                self.consecutive += 1;
                self.window.record(settings.window.0, now, false);
                // A late failure of a request from before the opening must not prolong the pause.
                if self.state == State::Closed {
                    return self.trip(settings, now, random);
                }
            }
            Outcome::Busy | Outcome::Neutral => {}
        }
        false
    }

    fn judge_probe(&mut self, settings: &Settings, now: Instant, outcome: Outcome, random: f64) -> bool {
        match outcome {
            Outcome::Success => {
                self.probe_successes += 1;
                if self.probe_successes >= settings.probes.0.max(1) {
                    self.state = State::Closed;
                    self.consecutive = 0;
                    self.streak = 0;
                    self.window.clear();
                }
                false
            }
            Outcome::Failure | Outcome::Busy => {
                self.open(settings, now, random, "the probe failed".to_owned());
                true
            }
            Outcome::Neutral => false,
        }
    }

    fn trip(&mut self, settings: &Settings, now: Instant, random: f64) -> bool {
        let (good, bad) = self.window.totals(settings.window.0, now);
        let (all, share) = (u64::from(good + bad), settings.open_at.0);
        let cause = if self.consecutive >= settings.consecutive_failures.0.max(1) {
            format!("{} failures in a row", self.consecutive)
        } else if all >= settings.min_requests.0.max(1) && f64::from(bad) >= share * all as f64 {
            format!("{bad} of {all} requests failed within {:?}", settings.window.0)
        } else {
            return false;
        };
        self.open(settings, now, random, cause);
        true
    }

    fn open(&mut self, settings: &Settings, now: Instant, random: f64, cause: String) {
        let pause = settings.cooldown.0.saturating_mul(1 << self.streak.min(16)).min(settings.max_cooldown.0);
        self.state = State::Open { until: now + pause.mul_f64(1.0 + 0.2 * random.clamp(0.0, 1.0)) };
        self.streak += 1;
        self.opened += 1;
        self.since = now;
        self.cause = cause;
        self.window.clear();
        self.consecutive = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened(settings: &Settings, now: Instant) -> Breaker {
        let mut breaker = Breaker::new(now);
        for _ in 0..5 {
            breaker.record(settings, now, Pass::Normal, Outcome::Failure, 0.0);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_starts_the_count_again() {
        let (settings, now) = (Settings::default(), Instant::now());
        let mut breaker = Breaker::new(now);
        for outcome in [Outcome::Failure; 4].into_iter().chain([Outcome::Success]).chain([Outcome::Failure; 4]) {
            assert!(!breaker.record(&settings, now, Pass::Normal, outcome, 0.0));
        }
        assert!(breaker.record(&settings, now, Pass::Normal, Outcome::Failure, 0.0));
        assert_eq!(breaker.state(now), State::Open { until: now + 15 * SECOND });
        assert_eq!(breaker.cause(), "5 failures in a row");
    }

    #[test]
    fn half_the_window_failing_opens_it_once_there_are_enough_samples() {
        let (settings, now) = (Settings::default(), Instant::now());
        let mut breaker = Breaker::new(now);
        let opened_at = (1..=40).find(|count| {
            let outcome = if count % 2 == 0 { Outcome::Failure } else { Outcome::Success };
            breaker.record(&settings, now, Pass::Normal, outcome, 0.0)
        });
        assert_eq!(opened_at, Some(20));
    }

    #[test]
    fn exactly_one_probe_is_in_flight() {
        let (settings, now) = (Settings::default(), Instant::now());
        let mut breaker = opened(&settings, now);
        assert_eq!(breaker.admit(&settings, now + 14 * SECOND), None);
        let later = now + 16 * SECOND;
        assert_eq!(breaker.state(later), State::HalfOpen);
        assert_eq!(breaker.admit(&settings, later), Some(Pass::Probe));
        for _ in 0..999 {
            assert_eq!(breaker.admit(&settings, later), None);
        }
        breaker.record(&settings, later, Pass::Probe, Outcome::Success, 0.0);
        assert_eq!(breaker.state(later), State::Closed);
    }

    #[test]
    fn without_an_alternative_the_pause_is_short_and_never_longer() {
        let (settings, now) = (Settings::default(), Instant::now());
        let mut breaker = opened(&settings, now);
        assert!(breaker.hasten(&settings));
        assert_eq!(breaker.state(now), State::Open { until: now + 5 * SECOND });
        assert!(!breaker.hasten(&settings));
        let short = Settings { cooldown: Span(SECOND), ..Settings::default() };
        let mut breaker = opened(&short, now);
        assert!(!breaker.hasten(&short));
    }

    #[test]
    fn a_probe_whose_caller_left_gives_its_place_back() {
        let (settings, now) = (Settings::default(), Instant::now());
        let mut breaker = opened(&settings, now);
        let later = now + 16 * SECOND;
        assert_eq!(breaker.admit(&settings, later), Some(Pass::Probe));
        breaker.record(&settings, later, Pass::Probe, Outcome::Neutral, 0.0);
        assert_eq!(breaker.admit(&settings, later), Some(Pass::Probe));
    }

    #[test]
    fn a_long_probe_that_shows_life_lets_the_next_one_go() {
        let (settings, now) = (Settings::default(), Instant::now());
        let mut breaker = opened(&settings, now);
        let later = now + 16 * SECOND;
        assert_eq!(breaker.admit(&settings, later), Some(Pass::Probe));
        breaker.progressed(later + SECOND, Pass::Probe);
        assert_eq!(breaker.admit(&settings, later + 2 * SECOND), None);
        assert_eq!(breaker.admit(&settings, later + 3 * SECOND), Some(Pass::Probe));
        assert_eq!(breaker.admit(&settings, later + 4 * SECOND), None, "one at a time");
        breaker.record(&settings, later + 5 * SECOND, Pass::Probe, Outcome::Success, 0.0);
        assert_eq!(breaker.state(later + 5 * SECOND), State::Closed);
    }

    #[test]
    fn failed_probes_double_the_pause_up_to_the_cap() {
        let (settings, mut now) = (Settings::default(), Instant::now());
        let mut breaker = opened(&settings, now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let State::Open { until } = breaker.state(now) else { panic!("open") };
            pauses.push(until.duration_since(now).as_secs());
            now = until;
            assert_eq!(breaker.admit(&settings, now), Some(Pass::Probe));
            breaker.record(&settings, now, Pass::Probe, Outcome::Busy, 0.0);
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 300]);
    }
}
