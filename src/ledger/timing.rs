//! Where a request's time went: for `server-timing`, the access log and the metrics. Not kept in the row.

use std::fmt;
use std::time::Duration;

/// Parts of a request's time. They do not overlap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Until the request had arrived as a whole: the caller's pace.
    pub reading: Duration,
    /// Waiting for a place, here or at a provider.
    pub queued: Duration,
    /// Classifying and ranking.
    pub routing: Duration,
    /// From the first request to a provider until the answer, or the first content of a stream, was there; with all
    /// failures and pauses in between; or until another request's answer was, which this one shares. `None`: nobody was
    /// asked.
    pub upstream: Option<Duration>,
    /// From the arrival until there was something to send; `None` if nothing was.
    pub ready: Option<Duration>,
    /// From the arrival to the end.
    pub total: Duration,
}

impl Timing {
    /// What the router itself took until there was something to send; `None` without an answer.
    pub fn overhead(&self) -> Option<Duration> {
        let others = self.reading + self.queued + self.upstream.unwrap_or_default();
        self.ready.map(|ready| ready.saturating_sub(others))
    }
}

/// Milliseconds to the microsecond, such as `12.034`: written without the arithmetic of real numbers, because every answer
/// has some of them.
#[derive(Clone, Copy, Debug)]
pub struct Millis(pub Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

impl Millis {
    pub fn number(self) -> f64 {
        self.0.as_micros() as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_is_what_is_left_and_never_negative() {
        let ms = Duration::from_millis;
        let timing = Timing {
            reading: ms(5),
            queued: ms(10),
            upstream: Some(ms(100)),
            ready: Some(ms(117)),
            ..Timing::default()
        };
        assert_eq!(timing.overhead(), Some(ms(2)));
        assert_eq!(Timing { upstream: Some(ms(500)), ..timing }.overhead(), Some(Duration::ZERO));
        assert_eq!(Timing { ready: None, ..timing }.overhead(), None);
    }

    #[test]
    fn milliseconds_have_three_places() {
        for (micros, text) in [(0, "0.000"), (34, "0.034"), (12_034, "12.034"), (986_618, "986.618")] {
            assert_eq!(Millis(Duration::from_micros(micros)).to_string(), text);
        }
    }
}
