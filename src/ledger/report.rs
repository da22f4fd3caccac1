//! The usage report: rows, their total, their shares. The JSON of `GET /v1/usage`.
//!
//! Answers of the embedded demo provider stand in rows of their own, marked, and count neither towards the total nor
//! towards any share: a demonstration must not look like spend.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::ser::{Error, Serialize, SerializeMap, Serializer};

use super::cell::{Cell, Facts, Labels};
use super::forecast::Forecast;
use super::latency::Latency;
use super::usage::{Dimension, UsageQuery, rfc3339};
use crate::catalog;
use crate::money::NanoUsd;

/// The sums of the rows that agree in every column.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// In the order of the query's `group_by`.
    pub labels: Vec<String>,
    pub demo: bool,
    pub cell: Cell,
}

/// Sorts rows and partial sums into groups.
pub struct Grouping {
    group_by: Vec<Dimension>,
    slots: HashMap<(Vec<String>, bool), usize>,
    groups: Vec<Group>,
}

impl Grouping {
    pub fn new(group_by: &[Dimension]) -> Self {
        Self { group_by: group_by.to_vec(), slots: HashMap::new(), groups: Vec::new() }
    }

    /// The number of the group that such a row belongs to.
    pub fn slot(&mut self, started_unix_ms: i64, labels: &Labels) -> usize {
        let words: Vec<String> =
            self.group_by.iter().map(|dimension| dimension.value(labels, started_unix_ms)).collect();
        let groups = &mut self.groups;
        *self.slots.entry((words, labels.demo)).or_insert_with_key(|(words, demo)| {
            groups.push(Group { labels: words.clone(), demo: *demo, cell: Cell::default() });
            groups.len() - 1
        })
    }

    /// The sums of a group that [`Grouping::slot`] named.
    pub fn cell(&mut self, slot: usize) -> &mut Cell {
        &mut self.groups[slot].cell
    }

    pub fn add(&mut self, started_unix_ms: i64, labels: &Labels, facts: &Facts) {
        let slot = self.slot(started_unix_ms, labels);
        self.cell(slot).add(facts);
    }

    pub fn into_groups(self) -> Vec<Group> {
        self.groups
    }
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Percentiles {
    pub p50: Option<u64>,
    pub p95: Option<u64>,
}

impl Percentiles {
    fn of(latency: &Latency) -> Self {
        Self { p50: latency.percentile(0.50), p95: latency.percentile(0.95) }
    }
}

/// The figures of one line.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Totals {
    pub requests: u64,
    /// Failed, rejected or interrupted; callers who left are not among them.
    pub errors: u64,
    pub cache_hits: u64,
    pub failovers: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub estimated_usage_requests: u64,
    /// Of the requests with a known price; `null` if that leaves nothing to show.
    pub cost_usd: Option<NanoUsd>,
    pub unpriced_requests: u64,
    /// Of all known cost; of requests if nothing cost anything. `null` for demo rows and where the cost is unknown.
    pub share: Option<f64>,
    pub saved_by_cache_usd: NanoUsd,
    pub saved_by_routing_usd: NanoUsd,
    pub first_token_ms: Percentiles,
    pub total_ms: Percentiles,
}

impl Totals {
    fn of(cell: &Cell, share: Option<f64>) -> Self {
        Self {
            requests: cell.requests,
            errors: cell.errors,
            cache_hits: cell.cache_hits,
            failovers: cell.failovers,
            prompt_tokens: cell.prompt_tokens,
            completion_tokens: cell.completion_tokens,
            cached_tokens: cell.cached_tokens,
            estimated_usage_requests: cell.estimated_usage_requests,
            cost_usd: cell.known_cost(),
            unpriced_requests: cell.unpriced_requests,
            share,
            saved_by_cache_usd: cell.saved_by_cache,
            saved_by_routing_usd: cell.saved_by_routing,
            first_token_ms: Percentiles::of(&cell.first_token),
            total_ms: Percentiles::of(&cell.total),
        }
    }
}

/// One line. Serialises flat: a member per column (`null` where there is none), `demo` if so, then the figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub group: Vec<(&'static str, Option<String>)>,
    pub demo: bool,
    pub totals: Totals,
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (column, value) in &self.group {
            map.serialize_entry(column, value)?;
        }
        if self.demo {
            map.serialize_entry("demo", &true)?;
        }
        let figures = serde_json::to_value(&self.totals).map_err(S::Error::custom)?;
        for (name, figure) in figures.as_object().into_iter().flatten() {
            map.serialize_entry(name, figure)?;
        }
        map.end()
    }
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// `null`: from the first request on.
    pub since: Option<String>,
    /// `null`: up to the latest.
    pub until: Option<String>,
    /// The day of the price list that costs without a configured price come from.
    pub catalogue_date: &'static str,
    /// Without the demo rows.
    pub total: Totals,
    /// Periods in order; within one the dearest first, demo rows last.
    pub rows: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demo_total: Option<Totals>,
    /// To the end of the month. Left out where nobody asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
}

impl Report {
    pub fn new(query: &UsageQuery, mut groups: Vec<Group>) -> Self {
        let (mut total, mut demo) = (Cell::default(), Cell::default());
        for group in &groups {
            if group.demo { &mut demo } else { &mut total }.merge(&group.cell);
        }
        if let Some(column) = query.group_by.iter().position(|dimension| *dimension == Dimension::Tag) {
            groups = by_single_tags(groups, column);
        }
        let share = |group: &Group| match (group.demo, total.cost) {
            (true, _) => None,
            (false, NanoUsd::ZERO) => Some(ratio(group.cell.requests as f64, total.requests as f64)),
            (false, whole) => group.cell.known_cost().map(|cost| ratio(cost.0 as f64, whole.0 as f64)),
        };
        let time = |group: &Group| -> Vec<String> {
            let columns = query.group_by.iter().zip(&group.labels);
            columns.filter(|(dimension, _)| dimension.is_time()).map(|(_, label)| label.clone()).collect()
        };
        groups.sort_by_cached_key(|group| {
            let weight = (Reverse(group.cell.known_cost()), Reverse(group.cell.requests));
            (time(group), group.demo, weight, group.labels.clone())
        });
        let rows = groups
            .iter()
            .map(|group| {
                let values = group.labels.iter().map(|label| Some(label.clone()).filter(|label| !label.is_empty()));
                Line {
                    group: query.group_by.iter().map(|dimension| dimension.as_str()).zip(values).collect(),
                    demo: group.demo,
                    totals: Totals::of(&group.cell, share(group)),
                }
            })
            .collect();
        Self {
            since: query.since_ms.map(rfc3339),
            until: query.until_ms.map(rfc3339),
            catalogue_date: catalog::DATE,
            total: Totals::of(&total, Some(ratio(1.0, 1.0))),
            rows,
            demo_total: (demo.requests > 0).then(|| Totals::of(&demo, None)),
            forecast: None,
        }
    }
}

/// What several tags stand on belongs to each of them.
fn by_single_tags(groups: Vec<Group>, column: usize) -> Vec<Group> {
    let mut single: HashMap<(Vec<String>, bool), Cell> = HashMap::new();
    for group in groups {
        for tag in group.labels[column].split(',') {
            let mut labels = group.labels.clone();
            labels[column] = tag.to_owned();
            single.entry((labels, group.demo)).or_default().merge(&group.cell);
        }
    }
    single.into_iter().map(|((labels, demo), cell)| Group { labels, demo, cell }).collect()
}

/// Rounded to a millionth: more digits are noise.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole * 1e6).round() / 1e6 } else { 0.0 }
}
