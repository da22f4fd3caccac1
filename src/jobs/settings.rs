//! The `jobs` section.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use secrecy::SecretString;

use crate::units::Span;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Jobs that this server carries out at once. 0 to 1,000; 0 only takes them in, for others to do.
    pub workers: u32,
    /// How long a job belongs to a worker that is not heard of; it is prolonged three times in that span. 1s to 1h. Short,
    /// a pause of the machine has jobs done twice; long, the jobs of a killed server wait for it.
    pub lease: Span,
    /// How often a job may be begun, crashes included, until it goes to the dead letters. 1 to 100.
    pub max_attempts: u32,
    pub backoff: Backoff,
    /// For jobs that do not say how long they are of use. 1s to 30d.
    pub expires: Span,
    /// How long an ended job and its result are kept. 1m to 365d.
    pub keep: Span,
    /// How long dead letters are kept, for an operator to look at. 1m to 3650d.
    pub keep_dead: Span,
    /// How long files that batches wrote are kept. 1m to 3650d.
    pub keep_files: Span,
    /// Jobs that may wait in all; one more is refused with 503. 1 to 100,000,000.
    pub max_queued: u64,
    /// When jobs run that ask for `off_peak`. `None`: at any time.
    pub off_peak: Option<Window>,
}

/// The pause before an attempt: the first is `start`, each next one twice as long, up to `max`; half of it is drawn at
/// random, so that what failed together is not tried together.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// 10ms to 1h.
    pub start: Span,
    /// 10ms to 24h.
    pub max: Span,
}

/// The `webhooks` section.
#[derive(Clone, Debug)]
pub struct Webhooks {
    /// Where requests' ends may be told: hosts (`hooks.example.com`, `*.example.com`), reached by HTTPS at public addresses
    /// only, or whole origins (`http://10.0.0.7:9000`), taken at their word. Empty: nowhere.
    pub allow: Vec<String>,
    /// Under which deliveries are signed, as Standard Webhooks writes it: `whsec_` and base64. `None`: they are not signed.
    pub secret: Option<SecretString>,
    /// For one delivery, its connection included. 100ms to 60s.
    pub timeout: Span,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self { allow: Vec::new(), secret: None, timeout: Span(Duration::from_secs(10)) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 16,
            lease: Span(Duration::from_secs(30)),
            max_attempts: 5,
            backoff: Backoff { start: Span(Duration::from_secs(1)), max: Span(Duration::from_secs(300)) },
            expires: Span(Duration::from_secs(24 * 3600)),
            keep: Span(Duration::from_secs(7 * 24 * 3600)),
            keep_dead: Span(Duration::from_secs(30 * 24 * 3600)),
            keep_files: Span(Duration::from_secs(30 * 24 * 3600)),
            max_queued: 1_000_000,
            off_peak: None,
        }
    }
}

impl Backoff {
    /// The pause after the `attempts`-th attempt failed. `random` is from 0 to 1.
    pub fn after(&self, attempts: u32, random: f64) -> Duration {
        let doubled = 2f64.powi(attempts.saturating_sub(1).min(60) as i32);
        let pause = (self.start.0.as_secs_f64() * doubled).min(self.max.0.as_secs_f64());
        Duration::from_secs_f64(pause * (0.5 + 0.5 * random.clamp(0.0, 1.0)))
    }
}

/// Hours of every day, such as 22:00 to 06:00.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub from: Time,
    /// Exclusive. Before `from`: on the next day.
    pub to: Time,
    pub time_zone: TimeZone,
}

impl Window {
    /// The first moment from `now` on that lies inside, in Unix milliseconds.
    pub fn next(&self, now_ms: i64) -> i64 {
        let Ok(now) = Timestamp::from_millisecond(now_ms) else { return now_ms };
        let local = now.to_zoned(self.time_zone.clone());
        let time = local.time();
        let is_inside = match self.from <= self.to {
            true => (self.from..self.to).contains(&time),
            false => time >= self.from || time < self.to,
        };
        if is_inside {
            return now_ms;
        }
        let day = if time < self.from { Ok(local.date()) } else { local.date().checked_add(1.day()) };
        let opens = day.and_then(|day| day.to_datetime(self.from).to_zoned(self.time_zone.clone()));
        opens.map_or(now_ms, |opens| opens.timestamp().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_longest_and_never_fall_below_half() {
        let backoff = Settings::default().backoff;
        let seconds = |attempts, random| backoff.after(attempts, random).as_secs_f64();
        assert_eq!([seconds(1, 1.0), seconds(2, 1.0), seconds(3, 1.0)], [1.0, 2.0, 4.0]);
        assert_eq!([seconds(1, 0.0), seconds(4, 0.0)], [0.5, 4.0]);
        assert_eq!(seconds(1_000, 1.0), 300.0);
    }

    #[test]
    fn a_window_over_midnight_opens_in_its_own_time_zone() {
        let window = Window {
            from: "22:00".parse().expect("a time"),
            to: "06:00".parse().expect("a time"),
            time_zone: TimeZone::get("Europe/Berlin").expect("known"),
        };
        let at = |text: &str| text.parse::<Timestamp>().expect("a moment").as_millisecond();
        for (now, opens) in [
            ("2026-06-01T10:00:00Z", "2026-06-01T20:00:00Z"), // summer time
            ("2026-12-01T10:00:00Z", "2026-12-01T21:00:00Z"),
            ("2026-12-01T23:30:00Z", "2026-12-01T23:30:00Z"),
            ("2026-12-02T05:00:00Z", "2026-12-02T21:00:00Z"), // it has just closed
        ] {
            assert_eq!(window.next(at(now)), at(opens), "{now}");
        }
    }
}
