//! `stepwell models` and `stepwell providers`.

use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{Outcome, block_on, load, print, source, terminal_width};
use crate::catalog::Target;
use crate::config::Loaded;

pub fn models(config: Option<&Path>, as_json: bool, demo: bool) -> Outcome {
    let loaded = block_on(load(&source(config, demo)))??;
    let targets = &loaded.settings.targets;
    if as_json {
        let rows: Vec<Value> = targets.iter().map(|target| described(target)).collect();
        return print(&serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?);
    }
    let mut table =
        table(["model", "in $/M", "out $/M", "window", "general", "coding", "first token", "tok/s", "auto"]);
    for target in targets {
        let model = &target.model;
        let price = |of: fn(&crate::catalog::Price) -> f64| {
            model.price.as_ref().map_or("unknown".to_owned(), |price| format!("{}", of(price)))
        };
        let skill = |task: &str| format!("{:.2}", model.skills.of(task).value);
        table.add_row([
            target.id.to_string(),
            price(|price| price.input.0.usd()),
            price(|price| price.output.0.usd()),
            model.context.map_or("unknown".to_owned(), |window| format!("{}k", window / 1000)),
            skill("general"),
            skill("coding"),
            format!("{} ms", model.speed.first_token.as_millis()),
            format!("{:.0}", model.speed.tokens_per_second),
            if model.routable { "yes" } else { "" }.to_owned(),
        ]);
    }
    print(&format!("{table}\n\n{} models; --json shows every figure with its source\n", targets.len()))
}

pub fn providers(config: Option<&Path>, as_json: bool, demo: bool) -> Outcome {
    let loaded = block_on(load(&source(config, demo)))??;
    let count = |loaded: &Loaded, name: &str| {
        loaded.settings.targets.iter().filter(|target| &*target.provider.name == name).count()
    };
    if as_json {
        let rows: Vec<Value> = loaded
            .settings
            .providers
            .iter()
            .map(|provider| {
                json!({
                    "name": *provider.name,
                    "format": provider.format.as_str(),
                    "base_url": provider.base_url,
                    "has_key": provider.api_key.is_some(),
                    "priority": provider.priority,
                    "weight": provider.weight,
                    "max_concurrency": provider.max_concurrency,
                    "models": count(&loaded, &provider.name),
                })
            })
            .collect();
        return print(&serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?);
    }
    let mut table = table(["provider", "format", "base URL", "key", "priority", "weight", "models"]);
    for provider in &loaded.settings.providers {
        table.add_row([
            provider.name.to_string(),
            provider.format.as_str().to_owned(),
            provider.base_url.clone(),
            if provider.api_key.is_some() { "yes" } else { "" }.to_owned(),
            provider.priority.to_string(),
            provider.weight.to_string(),
            count(&loaded, &provider.name).to_string(),
        ]);
    }
    print(&format!("{table}\n"))
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(terminal_width()).unwrap_or(u16::MAX)).set_header(header);
    table
}

/// Every figure with where it comes from.
fn described(target: &Target) -> Value {
    let model = &target.model;
    let skills: serde_json::Map<String, Value> = model
        .skills
        .tasks()
        .map(|(task, skill)| (task.to_owned(), json!({"value": skill.value, "origin": skill.origin})))
        .collect();
    json!({
        "id": target.id,
        "provider": *target.provider.name,
        "model": model.id,
        "price_usd_per_million": model.price,
        "context": model.context,
        "max_output": model.max_output,
        "supports": model.supports,
        "skills": skills,
        "speed": {
            "first_token_ms": model.speed.first_token.as_millis() as u64,
            "tokens_per_second": model.speed.tokens_per_second,
            "origin": model.speed.origin,
        },
        "routable": model.routable,
        "declared": model.declared,
    })
}
