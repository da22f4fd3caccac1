//! The demo provider's three models: cheap and quick, middling, dear and thoughtful. Prices are make-believe.

use std::time::Duration;

use super::model::{Model, Price, Supports};
use super::skill::{Origin, Skills};
use super::{Speed, shelf};
use crate::money::PerMillion;

struct Character {
    id: &'static str,
    usd: (f64, f64),
    level: f64,
    /// Where the model stands out, so that tasks route differently in the demo.
    skills: [(&'static str, f64); 8],
    first_token_ms: u64,
    tokens_per_second: f64,
}

const CHARACTERS: [Character; 3] = [
    Character {
        id: "small",
        usd: (0.10, 0.40),
        level: 0.45,
        skills: [
            ("general", 0.48),
            ("coding", 0.34),
            ("reasoning", 0.32),
            ("analysis", 0.42),
            ("classification", 0.56),
            ("creative", 0.44),
            ("rewrite", 0.55),
            ("translation", 0.52),
        ],
        first_token_ms: 60,
        tokens_per_second: 200.0,
    },
    Character {
        id: "medium",
        usd: (1.0, 4.0),
        level: 0.68,
        skills: [
            ("general", 0.70),
            ("coding", 0.66),
            ("reasoning", 0.62),
            ("analysis", 0.67),
            ("classification", 0.71),
            ("creative", 0.68),
            ("rewrite", 0.72),
            ("translation", 0.71),
        ],
        first_token_ms: 120,
        tokens_per_second: 120.0,
    },
    Character {
        id: "large",
        usd: (5.0, 20.0),
        level: 0.88,
        skills: [
            ("general", 0.87),
            ("coding", 0.91),
            ("reasoning", 0.92),
            ("analysis", 0.89),
            ("classification", 0.85),
            ("creative", 0.88),
            ("rewrite", 0.84),
            ("translation", 0.86),
        ],
        first_token_ms: 250,
        tokens_per_second: 60.0,
    },
];

pub(super) fn models() -> Vec<Model> {
    CHARACTERS.iter().map(model).collect()
}

fn model(character: &Character) -> Model {
    let origin = Origin::Catalogue { source: "demo".into(), date: shelf::DATE };
    let usd = |value| PerMillion::from_usd(value).unwrap_or_default();
    Model {
        id: character.id.to_owned(),
        deployment: None,
        price: Some(Price::new(usd(character.usd.0), usd(character.usd.1), origin.clone())),
        context: Some(128_000),
        max_output: Some(16_000),
        supports: Supports::of(Supports::NAMES),
        skills: Skills::fixed(&character.skills, character.level, &origin),
        speed: Speed {
            first_token: Duration::from_millis(character.first_token_ms),
            tokens_per_second: character.tokens_per_second,
            origin,
        },
        routable: true,
        declared: false,
    }
}
