//! How good a model is at a task, from 0 to 1, and how we know.
//!
//! Scores are on one scale over all tasks and models: the embedded data links public leaderboards to it (see
//! `data/README.md`). Where no measurement exists a value is inferred, in a fixed order, and says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::model::Price;

/// Titles, tags and follow-ups that chat interfaces ask for behind the scenes. Any model will do, so cost decides.
const HOUSEKEEPING: &str = "housekeeping";
/// The task whose score stands for a model as a whole.
const GENERAL: &str = "general";
/// What a newer version gains over its predecessor, rounded down: 0.036 on average over 47 pairs, 91 % not worse.
const GAIN_OF_A_VERSION: f64 = 0.02;
/// `logistic(OFFSET + SLOPE * log10(price))`, fitted to 66 models of 2025 and 2026. Mean error 0.043.
const PRICE_OFFSET: f64 = 1.28;
const PRICE_SLOPE: f64 = 0.52;
/// Nothing is known at all.
const NO_DATA: f64 = 0.5;
const LIST_PRICE: &str = "list price";
const NOTHING: &str = "no data";

/// Where a figure comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// Written in the configuration file.
    Configured,
    /// In the embedded catalogue: the page that its author names, and the day of the snapshot.
    Catalogue { source: Arc<str>, date: &'static str },
    /// Follows from public measurements of this model.
    Measured { model: Arc<str>, evidence: Arc<[Arc<str>]>, confidence: Confidence },
    /// A guess; `how` says from what. Confidence is low by definition.
    Inferred { how: Arc<str> },
}

impl Origin {
    pub fn inferred(how: &str) -> Self {
        Self::Inferred { how: how.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    Low,
    Medium,
    High,
}

/// One score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skill {
    /// 0 to 1. Differences below 0.03 are noise.
    pub value: f64,
    pub origin: Origin,
}

/// The scores of one model. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Skills(Arc<Scores>);

#[derive(Clone, Debug)]
struct Scores {
    tasks: BTreeMap<String, Skill>,
    /// Scores when the model is kept from thinking first; lower, and known for few models.
    without_reasoning: BTreeMap<String, Skill>,
    fallback: Skill,
    housekeeping: Skill,
}

impl Skills {
    fn new(tasks: BTreeMap<String, Skill>, without_reasoning: BTreeMap<String, Skill>, fallback: Skill) -> Self {
        let housekeeping = Skill { value: 1.0, origin: Origin::inferred("any model will do; cost decides") };
        Self(Arc::new(Scores { tasks, without_reasoning, fallback, housekeeping }))
    }

    /// The score for a task, which may be one of the user's own.
    pub fn of(&self, task: &str) -> &Skill {
        self.0.tasks.get(task).unwrap_or_else(|| match task {
            HOUSEKEEPING => &self.0.housekeeping,
            _ => &self.0.fallback,
        })
    }

    /// The score for a task when the request keeps the model from thinking first.
    pub fn without_reasoning(&self, task: &str) -> &Skill {
        self.0.without_reasoning.get(task).unwrap_or_else(|| self.of(task))
    }

    /// The scores that are there, by task.
    pub fn tasks(&self) -> impl Iterator<Item = (&str, &Skill)> {
        self.0.tasks.iter().map(|(task, skill)| (task.as_str(), skill))
    }

    /// The score of tasks that are not listed.
    pub fn overall(&self) -> &Skill {
        &self.0.fallback
    }

    /// Whether any score rests on measurements or on the file, and not on a guess.
    pub fn is_known(&self) -> bool {
        self.0.tasks.values().any(|skill| !matches!(skill.origin, Origin::Inferred { .. }))
    }

    /// Scores from the configuration file over these. They speak for tasks that nobody measured, too.
    pub fn configured(&self, written: &BTreeMap<String, f64>) -> Self {
        if written.is_empty() {
            return self.clone();
        }
        let mut scores = (*self.0).clone();
        for (task, value) in written {
            scores.tasks.insert(task.clone(), Skill { value: *value, origin: Origin::Configured });
            scores.without_reasoning.remove(task);
        }
        if let Some(value) = written.get(GENERAL) {
            scores.fallback = Skill { value: *value, origin: Origin::inferred("configured `general`") };
        } else if !self.is_known() {
            let mean = written.values().sum::<f64>() / written.len() as f64;
            scores.fallback = Skill { value: mean, origin: Origin::inferred("mean of the configured skills") };
        }
        Self(Arc::new(scores))
    }

    /// The same with another price, which matters only where the price is all that is known.
    pub fn priced(&self, price: Option<&Price>) -> Self {
        let guessed =
            matches!(&self.0.fallback.origin, Origin::Inferred { how } if [LIST_PRICE, NOTHING].contains(&&**how));
        if guessed && self.0.tasks.is_empty() { Self::from_price(price) } else { self.clone() }
    }

    /// Measured values as the embedded data has them.
    pub(super) fn measured(row: &Row) -> Self {
        let skill = |task: &str, value: f64| Skill {
            value,
            origin: Origin::Measured {
                model: row.model.clone(),
                evidence: row.evidence.get(task).cloned().unwrap_or_default().into(),
                confidence: row.confidence.get(task).copied().unwrap_or(Confidence::Low),
            },
        };
        let all = |values: &BTreeMap<String, f64>| {
            values.iter().map(|(task, value)| (task.clone(), skill(task, *value))).collect::<BTreeMap<_, _>>()
        };
        let fallback =
            Skill { value: row.overall, origin: Origin::inferred(&format!("overall level of {}", row.model)) };
        Self::new(all(&row.skills), all(&row.skills_without_reasoning), fallback)
    }

    /// A model that nobody measured, whose predecessor somebody did.
    pub(super) fn after(predecessor: &Row) -> Self {
        let origin = Origin::inferred(&format!("predecessor {} + {GAIN_OF_A_VERSION}", predecessor.model));
        let skill = |value: f64| Skill { value: (value + GAIN_OF_A_VERSION).min(1.0), origin: origin.clone() };
        let tasks = predecessor.skills.iter().map(|(task, value)| (task.clone(), skill(*value))).collect();
        Self::new(tasks, BTreeMap::new(), skill(predecessor.overall))
    }

    /// A model of which only the price is known, or nothing. A price of zero says nothing about skill.
    pub(crate) fn from_price(price: Option<&Price>) -> Self {
        let guess = match price.map(Price::blended_usd).filter(|usd| *usd > 0.0) {
            Some(usd) => {
                let level = PRICE_OFFSET + PRICE_SLOPE * usd.log10();
                Skill { value: 1.0 / (1.0 + (-level).exp()), origin: Origin::inferred(LIST_PRICE) }
            }
            None => Skill { value: NO_DATA, origin: Origin::inferred(NOTHING) },
        };
        Self::new(BTreeMap::new(), BTreeMap::new(), guess)
    }

    /// Given values, all from one place.
    pub(super) fn fixed(tasks: &[(&str, f64)], overall: f64, origin: &Origin) -> Self {
        let skill = |value: f64| Skill { value, origin: origin.clone() };
        let tasks = tasks.iter().map(|(task, value)| ((*task).to_owned(), skill(*value))).collect();
        Self::new(tasks, BTreeMap::new(), skill(overall))
    }
}

impl Serialize for Skills {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.tasks.len() + 1))?;
        map.serialize_entry("overall", &self.0.fallback)?;
        for (task, skill) in &self.0.tasks {
            map.serialize_entry(task, skill)?;
        }
        map.end()
    }
}

/// A line of `data/skills.jsonl`.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    pub model: Arc<str>,
    pub provider_ids: Vec<ProviderId>,
    skills: BTreeMap<String, f64>,
    overall: f64,
    #[serde(default)]
    skills_without_reasoning: BTreeMap<String, f64>,
    #[serde(default)]
    evidence: BTreeMap<String, Vec<Arc<str>>>,
    #[serde(default)]
    confidence: BTreeMap<String, Confidence>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProviderId {
    pub provider: String,
    pub id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::PerMillion;

    fn price(usd: f64) -> Price {
        let usd = PerMillion::from_usd(usd).expect("a price");
        Price::new(usd, usd, Origin::Configured)
    }

    #[test]
    fn price_stands_in_for_skill_where_nothing_was_measured() {
        for (usd, skill) in [(0.1, 0.68), (1.0, 0.78), (10.0, 0.86)] {
            let value = Skills::from_price(Some(&price(usd))).of("coding").value;
            assert!((value - skill).abs() < 0.005, "{usd} gives {value}");
        }
        assert_eq!(Skills::from_price(Some(&price(0.0))).of("coding").value, 0.5);
        assert_eq!(Skills::from_price(None).of("coding").origin, Origin::inferred("no data"));
    }

    #[test]
    fn housekeeping_is_the_same_for_all() {
        let (cheap, dear) = (Skills::from_price(Some(&price(0.01))), Skills::from_price(Some(&price(50.0))));
        assert_eq!(cheap.of("housekeeping"), dear.of("housekeeping"));
    }

    #[test]
    fn configured_skills_win_and_speak_for_unlisted_tasks() {
        let written = BTreeMap::from([("general".to_owned(), 0.62), ("coding".to_owned(), 0.45)]);
        let skills = Skills::from_price(None).configured(&written);
        assert_eq!(skills.of("coding"), &Skill { value: 0.45, origin: Origin::Configured });
        assert_eq!(skills.of("legal").value, 0.62);
    }
}
