//! The log told again: the state of everything at any moment, from events alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::job::Status;
use crate::events::notes::SERVER;
use crate::events::{Event, Kind};

/// What the events up to some moment add up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Jobs by id.
    pub jobs: BTreeMap<String, Told>,
    /// Batches by id: the last that happened to them.
    pub batches: BTreeMap<String, Kind>,
    /// Targets whose breaker is open, with the server whose breaker it is (empty: the log does not say), and since when.
    pub open_breakers: BTreeMap<(String, String), i64>,
    /// Every time that a breaker opened or closed, in order.
    pub breakers: Vec<(i64, String, Kind)>,
    pub anomalies: u64,
    pub events: u64,
}

/// A job as its events tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub status: Status,
    /// How often it has ended without anybody asking for more. More than once is a fault.
    pub ends: u32,
}

impl State {
    /// Takes in the next event of the log.
    pub fn add(&mut self, event: &Event) {
        self.events += 1;
        let server = event.facts.get(SERVER).and_then(Value::as_str).unwrap_or_default();
        let breaker = || (event.subject.clone(), server.to_owned());
        match event.kind {
            Kind::BreakerOpened => {
                self.open_breakers.insert(breaker(), event.at_unix_ms);
                self.breakers.push((event.at_unix_ms, event.subject.clone(), event.kind));
            }
            Kind::BreakerClosed => {
                self.open_breakers.remove(&breaker());
                self.breakers.push((event.at_unix_ms, event.subject.clone(), event.kind));
            }
            Kind::Anomaly => self.anomalies += 1,
            // Breakers live as long as their server. What says of no server whose it is can only be of one that is gone.
            Kind::ServerStarted | Kind::ServerStopped => {
                self.open_breakers.retain(|(_, whose), _| whose != server && !whose.is_empty());
            }
            kind if kind.is_of_batch() => {
                self.batches.insert(event.subject.clone(), kind);
            }
            kind => {
                let Some(status) = Status::after(kind) else { return };
                let told = self.jobs.entry(event.subject.clone()).or_insert(Told { status, ends: 0 });
                told.status = status;
                match kind {
                    Kind::Requeued | Kind::Discarded => told.ends = told.ends.saturating_sub(1),
                    _ => {}
                }
                if kind.is_end_of_job() {
                    told.ends += 1;
                }
            }
        }
    }

    /// How many jobs there are in each state.
    pub fn counts(&self) -> Vec<(Status, u64)> {
        let count = |status: Status| self.jobs.values().filter(|told| told.status == status).count() as u64;
        Status::ALL.into_iter().map(|status| (status, count(status))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::facts;

    fn after(kinds: &[(Kind, &str)]) -> State {
        let mut state = State::default();
        for (at, (kind, subject)) in kinds.iter().enumerate() {
            state.add(&Event {
                seq: Some(at as i64),
                at_unix_ms: at as i64,
                kind: *kind,
                subject: (*subject).to_owned(),
                key: None,
                facts: Default::default(),
            });
        }
        state
    }

    #[test]
    fn a_life_with_a_lost_worker_a_grave_and_a_resurrection_is_told_to_its_end() {
        use Kind::{Completed, DeadLettered, LeaseExpired, Queued, Requeued, Started};
        let life = [Queued, Started, LeaseExpired, Started, DeadLettered, Requeued, Started, Completed];
        let states = [
            Status::Queued,
            Status::Running,
            Status::Queued,
            Status::Running,
            Status::Dead,
            Status::Queued,
            Status::Running,
            Status::Completed,
        ];
        for length in 1..=life.len() {
            let told: Vec<_> = life[..length].iter().map(|kind| (*kind, "j")).collect();
            assert_eq!(after(&told).jobs["j"].status, states[length - 1], "after {length}");
        }
        assert_eq!(after(&life.map(|kind| (kind, "j"))).jobs["j"].ends, 1, "an operator wanted the second end");
        assert_eq!(after(&[(Queued, "j"), (Completed, "j"), (Completed, "j")]).jobs["j"].ends, 2);
    }

    #[test]
    fn breakers_are_open_until_they_close_or_their_server_stops_or_starts_anew() {
        use Kind::{BreakerClosed, BreakerOpened, ServerStarted, ServerStopped};
        let open = |happened: &[(Kind, &str, &str)]| {
            let mut state = State::default();
            for (kind, subject, server) in happened {
                let facts = facts([(SERVER, Some(*server).filter(|server| !server.is_empty()).into())]);
                let subject = (*subject).to_owned();
                state.add(&Event { seq: None, at_unix_ms: 1, kind: *kind, subject, key: None, facts });
            }
            state.open_breakers.into_keys().map(|(target, server)| format!("{target}@{server}")).collect::<Vec<_>>()
        };
        let opened = [(BreakerOpened, "a", "one"), (BreakerOpened, "b", "one"), (BreakerOpened, "a", "two")];
        let then = |more: (Kind, &'static str, &'static str)| open(&[&opened[..], &[more]].concat());
        assert_eq!(then((BreakerClosed, "a", "one")), ["a@two", "b@one"]);
        for kind in [ServerStarted, ServerStopped] {
            assert_eq!(then((kind, "server", "one")), ["a@two"], "another server's stay");
        }
        assert!(open(&[(BreakerOpened, "a", ""), (ServerStarted, "server", "one")]).is_empty(), "an older version's");
    }
}
