//! What guards found: names and counts, never a text.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::settings::Action;

/// How often one rule found something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    pub guard: Arc<str>,
    #[serde(serialize_with = "word")]
    pub action: Action,
    pub count: u32,
}

fn word<S: serde::Serializer>(action: &Action, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(action.as_str())
}

/// In the order of the rules' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(Vec<Hit>);

impl Tally {
    pub fn add(&mut self, guard: &Arc<str>, action: Action, count: u32) {
        match self.0.binary_search_by(|hit| hit.guard.cmp(guard)) {
            Ok(place) => self.0[place].count = self.0[place].count.saturating_add(count),
            Err(place) => self.0.insert(place, Hit { guard: guard.clone(), action, count }),
        }
    }

    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|hit| self.add(&hit.guard, hit.action, hit.count));
    }

    pub fn hits(&self) -> &[Hit] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As in the header and in the ledger: `cards=2, mail=1`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, hit) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}={}", hit.guard, hit.count)?;
        }
        Ok(())
    }
}
