//! A second attempt beside one that is late: whoever is first answers, the other one is dropped at once.
//!
//! It may pay for two answers, so it is off by default, happens to a small share of requests only, and begins where the
//! first attempt is later than nearly all before it ("The Tail at Scale", Dean and Barroso, 2013).

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::cascade::{Dispatcher, Errand, Tried, Try};
use super::settings::HedgeAfter;
use crate::rank::plan::Candidate;
use crate::resilience::backoff::Budget;
use crate::telemetry::metric::Metric;

impl Dispatcher {
    /// Makes `first`, and beside it a try at `second` if `first` is late. Returns those that ended, in order of time: a
    /// success is the last of them, and nothing runs any more.
    pub(super) async fn hedge<'a>(
        &self,
        errand: &Errand<'a>,
        first: Try<'a>,
        second: Option<&'a Candidate>,
    ) -> [Option<Tried<'a>>; 2] {
        let (leading, delay) = (first.candidate, self.delay(errand, &first));
        self.hedges.lock().get_or_insert_with(|| Budget::strict(now())).earn(errand.hedge.budget.0);
        let mut first = Box::pin(self.make(errand, first));
        let (Some(delay), Some(second)) = (delay, second) else { return [Some(first.await), None] };
        if let Ok(ended) = timeout(delay, first.as_mut()).await {
            return [Some(ended), None];
        }
        let Some(second) = self.permit(errand, second) else { return [Some(first.await), None] };
        let other = second.candidate;
        let provider = other.target.id.provider().to_owned();
        tracing::debug!(target.id = %other.target.id, "hedge: `{}` is late, asking `{}`, too", leading.target.id, other.target.id);
        let mut second = Box::pin(self.make(errand, second));
        let (ended, first_ended) = tokio::select! {
            biased;
            ended = first.as_mut() => (ended, true),
            ended = second.as_mut() => (ended, false),
        };
        let won = ended.result.is_ok() && !first_ended;
        metrics::counter!(Metric::Hedges.name(), "provider" => provider, "won" => if won { "true" } else { "false" })
            .increment(1);
        if ended.result.is_err() {
            let last = if first_ended { second.await } else { first.await };
            return [Some(ended), Some(last)];
        }
        // Closes the loser's connection.
        let loser = if first_ended {
            drop(second);
            other
        } else {
            drop(first);
            leading
        };
        errand.trail.outrun(&loser.target.id);
        [Some(ended), None]
    }

    /// How long the first attempt may be silent; `None` where nothing can be said about that.
    fn delay(&self, errand: &Errand<'_>, first: &Try<'_>) -> Option<Duration> {
        match errand.hedge.after {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::P95 => self.fleet.usual_wait(&first.candidate.target, errand.request.stream),
        }
    }

    /// Permission for a hedge at a target, if the share of hedges and the target allow one.
    fn permit<'a>(&self, errand: &Errand<'a>, candidate: &'a Candidate) -> Option<Try<'a>> {
        let policy = (errand.policy)(&candidate.target.provider);
        if !self.fleet.admits(&candidate.target, policy, now()) {
            return None;
        }
        if !self.hedges.lock().as_mut()?.spend(now()) {
            return None;
        }
        let ticket = self.fleet.begin(&candidate.target, policy, now(), &mut None)?;
        Some(Try { candidate, policy, ticket, others_left: false, fresh: false })
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
