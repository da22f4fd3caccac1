//! One explanation object for headers, `POST /v1/route`, `stepwell route`, `stepwell explain` and the ledger.

use std::sync::OnceLock;

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use super::plan::{Candidate, Excluded, Plan};
use super::settings::Strategy;
use crate::catalog::{Origin, TargetId};
use crate::classify::Task;

/// A decision: the task, and the plan that followed from it.
#[derive(Debug)]
pub struct Explanation {
    pub task: Task,
    pub plan: Plan,
    reason: OnceLock<String>,
}

impl Explanation {
    pub fn new(task: Task, plan: Plan) -> Self {
        Self { task, plan, reason: OnceLock::new() }
    }

    /// One that was made before, of which the sentence is what is left.
    pub fn told(task: Task, strategy: Strategy, reason: String) -> Self {
        Self { task, plan: Plan::empty(strategy), reason: OnceLock::from(reason) }
    }

    /// One sentence.
    pub fn reason(&self) -> &str {
        self.reason.get_or_init(|| self.plan.sentence(self.task.name.as_str()))
    }

    /// The sentence, and who answered if it was not the one that was planned.
    pub fn outcome(&self, answered: &TargetId) -> String {
        match self.plan.candidates.first() {
            Some(first) if first.target.id != *answered => {
                format!("{}; it failed, and {answered} answered", self.reason())
            }
            _ => self.reason().to_owned(),
        }
    }

    fn write<S: Serializer>(&self, serializer: S, provenance: bool) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("task", &self.task.name)?;
        map.serialize_entry("task_confidence", &rounded(self.task.confidence))?;
        map.serialize_entry("signals", &self.task.signals)?;
        map.serialize_entry("strategy", self.plan.strategy.as_str())?;
        map.serialize_entry("weights", &self.plan.weights)?;
        map.serialize_entry("candidates", &List(&self.plan.candidates, self.task.name.as_str(), provenance))?;
        map.serialize_entry("excluded", &self.plan.excluded)?;
        map.serialize_entry("max_attempts", &self.plan.max_attempts)?;
        if self.plan.relaxed {
            map.serialize_entry("relaxed", &true)?;
        }
        map.serialize_entry("reason", self.reason())?;
        map.end()
    }
}

/// As the ledger keeps it: without the provenance of figures, which the catalogue has.
struct Stored<'a>(&'a Explanation);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer, false)
    }
}

impl crate::ledger::record::Decision for Explanation {
    fn json(&self) -> String {
        serde_json::to_string(&Stored(self)).unwrap_or_default()
    }
}

/// The shape of the contract, `POST /v1/route`.
impl Serialize for Explanation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write(serializer, true)
    }
}

/// One candidate. `provenance` adds where its figures come from: for people who ask, not for every row of the ledger.
struct Shown<'a> {
    candidate: &'a Candidate,
    task: &'a str,
    provenance: bool,
}

#[derive(Serialize)]
struct RoundedParts {
    capability: f64,
    cost: f64,
    latency: f64,
}

#[derive(Serialize)]
struct Provenance<'a> {
    skill: &'a Origin,
    speed: &'a Origin,
    price: Option<&'a Origin>,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (target, estimate) = (&self.candidate.target, &self.candidate.estimate);
        let parts = estimate.parts;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("provider", &*target.provider.name)?;
        map.serialize_entry("model", &target.model.id)?;
        map.serialize_entry("score", &rounded(estimate.score))?;
        let parts = RoundedParts {
            capability: rounded(parts.capability),
            cost: rounded(parts.cost),
            latency: rounded(parts.latency),
        };
        map.serialize_entry("parts", &parts)?;
        map.serialize_entry("estimated_cost_usd", &estimate.expected_cost)?;
        map.serialize_entry("worst_case_cost_usd", &estimate.worst_cost)?;
        map.serialize_entry("estimated_first_token_ms", &(estimate.first_token.as_millis() as u64))?;
        map.serialize_entry("state", self.candidate.availability.as_str())?;
        map.serialize_entry("in_flight", &self.candidate.pending)?;
        if let Some(postponed) = self.candidate.postponed {
            map.serialize_entry("postponed", postponed)?;
        }
        if self.provenance {
            let origin = Provenance {
                skill: &target.model.skills.of(self.task).origin,
                speed: &target.model.speed.origin,
                price: target.model.price.as_ref().map(|price| &price.origin),
            };
            map.serialize_entry("origin", &origin)?;
        }
        map.end()
    }
}

impl Serialize for Excluded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("provider", &*self.target.provider.name)?;
        map.serialize_entry("model", &self.target.model.id)?;
        map.serialize_entry("reason", &self.reason.to_string())?;
        map.serialize_entry("code", self.reason.code())?;
        map.serialize_entry("hint", &self.reason.hint())?;
        map.end()
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

/// Serialises the candidates, one at a time.
struct List<'a>(&'a [Candidate], &'a str, bool);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for candidate in self.0 {
            list.serialize_element(&Shown { candidate, task: self.1, provenance: self.2 })?;
        }
        list.end()
    }
}
