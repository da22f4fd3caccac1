//! The `models` list of a provider: what is written wins, the rest comes from the catalogue.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::reader::{Item, Section, set};
use super::tree::Value;
use crate::catalog::{Model, Origin, Price, Shelf, Speed, Supports};
use crate::money::PerMillion;

/// Dollars per million tokens; more is a mistake in the unit.
const DEAREST: f64 = 100_000.0;

pub(super) fn listed(item: &Item<'_>, shelf: &Shelf) -> Vec<Model> {
    let Some(items) = item.list("a list of models") else { return Vec::new() };
    if items.is_empty() {
        item.problem("the list is empty; name at least one model, or leave `models` out");
    }
    let mut seen = HashSet::new();
    let mut models = Vec::new();
    for item in items {
        // `- gpt-5` is short for `- id: gpt-5`.
        let model = match &item.node.value {
            Value::Text(_) => item.text().map(|id| shelf.describe(id)),
            _ => item.section().and_then(|section| model(section, shelf)),
        };
        let Some(model) = model else { continue };
        if seen.insert(model.id.clone()) {
            models.push(model);
        } else {
            item.problem(format!("the model `{}` is listed twice", model.id));
        }
    }
    models
}

fn model(mut section: Section<'_>, shelf: &Shelf) -> Option<Model> {
    let id = section.text("id");
    if !section.has("id") {
        section.problem("a model needs `id`, as the provider spells it");
    }
    let mut model = shelf.describe(id.as_deref().unwrap_or_default());
    if let Some(item) = section.get("price") {
        model.price = price(&item, model.price.as_ref());
        model.skills = model.skills.priced(model.price.as_ref());
    }
    let context = section.count("context", 1..=1_000_000_000).map(|count| count.0);
    model.context = context.or(model.context);
    let max_output = section.count("max_output", 1..=1_000_000_000).map(|count| count.0);
    model.max_output = max_output.or(model.max_output);
    if let (Some(context), Some(max_output)) = (context, max_output)
        && max_output > context
    {
        section.problem(format!("max_output ({max_output}) is above context ({context})"));
    }
    if let Some(section) = section.section("latency") {
        latency(section, &mut model.speed);
    }
    if let Some(item) = section.get("skills") {
        model.skills = model.skills.configured(&skills(&item));
    }
    if let Some(item) = section.get("supports") {
        model.supports = supports(&item);
    }
    model.deployment = section.text("deployment");
    section.finish();
    id.map(|_| model)
}

/// `free`, or members in USD per million tokens on top of what the catalogue knows.
fn price(item: &Item<'_>, known: Option<&Price>) -> Option<Price> {
    if let Value::Text(text) = &item.node.value {
        if text == "free" {
            return Some(Price::free(Origin::Configured));
        }
        item.problem(format!("{} is not a price; write free, or {{ input: 0.25, output: 2.00 }}", item.shown()));
        return None;
    }
    let mut section = item.section()?;
    let mut usd = |key: &'static str| section.number(key, 0.0..=DEAREST).and_then(PerMillion::from_usd);
    let (input, output) = (usd("input"), usd("output"));
    let (cached_input, cache_write) = (usd("cached_input"), usd("cache_write"));
    let reasoning_output = usd("reasoning_output");
    let (input_above_200k, output_above_200k) = (usd("input_above_200k"), usd("output_above_200k"));
    let missing: Vec<&str> = ["input", "output"].into_iter().filter(|key| !section.has(key)).collect();
    if known.is_none() && !missing.is_empty() {
        section.problem(format!("the catalogue has no price for this model, so write {} too", missing.join(" and ")));
    }
    section.finish();
    Some(Price {
        cached_input: cached_input.or(known.and_then(|price| price.cached_input)),
        cache_write: cache_write.or(known.and_then(|price| price.cache_write)),
        reasoning_output: reasoning_output.or(known.and_then(|price| price.reasoning_output)),
        input_above_200k: input_above_200k.or(known.and_then(|price| price.input_above_200k)),
        output_above_200k: output_above_200k.or(known.and_then(|price| price.output_above_200k)),
        ..Price::new(
            input.or(known.map(|price| price.input))?,
            output.or(known.map(|price| price.output))?,
            Origin::Configured,
        )
    })
}

fn latency(mut section: Section<'_>, speed: &mut Speed) {
    let first_token = section.span("first_token", Duration::ZERO..=Duration::from_secs(600));
    set(&mut speed.first_token, first_token.map(|span| span.0));
    set(&mut speed.tokens_per_second, section.number("tokens_per_second", 0.1..=1_000_000.0));
    speed.origin = Origin::Configured;
    section.finish();
}

fn skills(item: &Item<'_>) -> BTreeMap<String, f64> {
    let named = item.named("a map of skills by task").into_iter();
    named.filter_map(|(entry, item)| Some((entry.key.clone(), item.number(0.0..=1.0)?))).collect()
}

fn supports(item: &Item<'_>) -> Supports {
    let mut names = Vec::new();
    for (item, name) in item.texts("a list of capabilities").unwrap_or_default() {
        if Supports::NAMES.contains(&name) {
            names.push(name);
        } else {
            item.unknown("capability", name, Supports::NAMES.into_iter());
        }
    }
    Supports::of(names)
}
