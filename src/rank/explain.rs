//! One explanation object for headers, `POST /v1/route`, `stepwell route`, `stepwell explain` and the ledger.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::json;

use super::plan::{Candidate, Excluded, Plan};
use crate::classify::Task;

/// A decision: the task, and the plan that followed from it.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub task: Task,
    pub plan: Plan,
}

impl Explanation {
    /// One sentence.
    pub fn reason(&self) -> String {
        self.plan.sentence(self.task.name.as_str())
    }
}

impl crate::ledger::record::Decision for Explanation {
    fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The shape of the contract, `POST /v1/route`.
impl Serialize for Explanation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("task", &self.task.name)?;
        map.serialize_entry("task_confidence", &rounded(self.task.confidence))?;
        map.serialize_entry("signals", &self.task.signals)?;
        map.serialize_entry("strategy", self.plan.strategy.as_str())?;
        map.serialize_entry("weights", &self.plan.weights)?;
        map.serialize_entry(
            "candidates",
            &List(&self.plan.candidates, |candidate: &Candidate| self.candidate(candidate)),
        )?;
        map.serialize_entry("excluded", &List(&self.plan.excluded, excluded))?;
        map.serialize_entry("max_attempts", &self.plan.max_attempts)?;
        if self.plan.relaxed {
            map.serialize_entry("relaxed", &true)?;
        }
        map.serialize_entry("reason", &self.reason())?;
        map.end()
    }
}

impl Explanation {
    fn candidate(&self, candidate: &Candidate) -> serde_json::Value {
        let (target, estimate) = (&candidate.target, &candidate.estimate);
        let parts = estimate.parts;
        json!({
            "provider": *target.provider.name,
            "model": target.model.id,
            "score": rounded(estimate.score),
            "parts": {"capability": rounded(parts.capability), "cost": rounded(parts.cost), "latency": rounded(parts.latency)},
            "estimated_cost_usd": estimate.expected_cost,
            "worst_case_cost_usd": estimate.worst_cost,
            "estimated_first_token_ms": estimate.first_token.as_millis() as u64,
            "state": candidate.availability.as_str(),
            "origin": {
                "skill": target.model.skills.of(self.task.name.as_str()).origin,
                "speed": target.model.speed.origin,
                "price": target.model.price.as_ref().map(|price| &price.origin),
            },
        })
    }
}

fn excluded(excluded: &Excluded) -> serde_json::Value {
    let (target, reason) = (&excluded.target, &excluded.reason);
    json!({
        "provider": *target.provider.name,
        "model": target.model.id,
        "reason": reason.to_string(),
        "code": reason.code(),
        "hint": reason.hint(),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

/// Serialises a slice through a function, one element at a time.
struct List<'a, T, F>(&'a [T], F);

impl<T, F: Fn(&T) -> serde_json::Value> Serialize for List<'_, T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for item in self.0 {
            list.serialize_element(&(self.1)(item))?;
        }
        list.end()
    }
}
