//! What the embedded data says about one provider's models.
//!
//! The data is about 850 kB of JSON lines. Only the lines of the providers asked for are parsed: lines are picked by
//! looking at their text, which takes well under a millisecond for the whole of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use jiff::civil::Date;
use serde::Deserialize;

use super::model::{Model, Price, Supports};
use super::presets::{Listing, Preset};
use super::skill::{self, Origin, Skills};
use super::{Format, Speed, demo, geography, name, speed};
use crate::money::PerMillion;

/// The day that the embedded prices were taken.
pub const DATE: &str = "2026-11-20";

const MODELS: &str = include_str!("data/models.jsonl");
const SKILLS: &str = include_str!("data/skills.jsonl");

/// Words in an id that mark a model as not meant for ordinary chat: other media, other jobs, or a trial.
const SPECIAL: [&str; 43] = [
    "aqa",
    "audio",
    "babbage",
    "beta",
    "completion",
    "computer",
    "container",
    "customtools",
    "cyber",
    "davinci",
    "daybreak",
    "embed",
    "embedding",
    "exp",
    "experimental",
    "fim",
    "guard",
    "image",
    "labs",
    "learnlm",
    "live",
    "lyria",
    "mamba",
    "moderation",
    "mt",
    "ocr",
    "omni",
    "realtime",
    "rerank",
    "research",
    "robotics",
    "rosalind",
    "router",
    "safeguard",
    "search",
    "speech",
    "transcribe",
    "translate",
    "tts",
    "veo",
    "vibe",
    "voxtral",
    "whisper",
];

/// Still in the price map, but gone from the provider's own list or long overtaken (docs.perplexity.ai,
/// platform.moonshot.ai, api-docs.deepseek.com, docs.mistral.ai, docs.z.ai). Nobody measures such models any more, and
/// the price rule would flatter them.
const OUTDATED: [(&str, &str); 11] = [
    ("deepseek", "deepseek-coder"),
    ("mistral", "mistral-tiny"),
    ("moonshot", "moonshot-v1-"),
    ("perplexity", "codellama-"),
    ("perplexity", "llama-"),
    ("perplexity", "mistral-"),
    ("perplexity", "mixtral-"),
    ("perplexity", "pplx-"),
    ("perplexity", "sonar-medium-"),
    ("perplexity", "sonar-small-"),
    ("zai", "glm-4-32b"),
];

/// One provider's part of the catalogue.
pub struct Shelf {
    preset: Option<&'static Preset>,
    rows: Vec<Row>,
    /// Measured models by the provider's own id.
    measured: HashMap<String, Arc<skill::Row>>,
    today: Date,
    /// Only models that this region can call are offered.
    region: Option<String>,
}

/// A line of `data/models.jsonl`.
#[derive(Debug, Deserialize)]
struct Row {
    id: String,
    kind: Kind,
    usd_per_million: Usd,
    context: Option<u64>,
    max_output: Option<u64>,
    supports: Vec<String>,
    deprecation_date: Option<Date>,
    source: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Chat,
    Embedding,
}

#[derive(Debug, Deserialize)]
struct Usd {
    input: Option<f64>,
    output: Option<f64>,
    cached_input: Option<f64>,
    cache_write: Option<f64>,
    reasoning_output: Option<f64>,
    input_above_200k: Option<f64>,
    output_above_200k: Option<f64>,
}

impl Shelf {
    /// `today` decides which models count as withdrawn. Without a preset the shelf only recognises names.
    pub fn open(preset: Option<&'static Preset>, today: Date) -> Self {
        let mut shelf = Self { preset, rows: Vec::new(), measured: HashMap::new(), today, region: None };
        let Some(preset) = preset else { return shelf };
        let mark = format!("{{\"provider\":\"{}\",", preset.name);
        shelf.rows = MODELS
            .lines()
            .filter(|line| line.starts_with(&mark))
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if !shelf.rows.is_empty() {
            let finder = memchr::memmem::Finder::new(&mark);
            for line in SKILLS.lines().filter(|line| finder.find(line.as_bytes()).is_some()) {
                let Ok(row) = serde_json::from_str::<skill::Row>(line) else { continue };
                let row = Arc::new(row);
                let own = row.provider_ids.iter().filter(|id| id.provider == preset.name);
                shelf.measured.extend(own.map(|own| (own.id.clone(), row.clone())));
            }
        }
        shelf
    }

    /// Offers only what a region of Amazon's can call. Models named in the configuration are not concerned.
    #[must_use]
    pub fn within(mut self, region: Option<&str>) -> Self {
        self.region = region.map(str::to_owned);
        self
    }

    /// All models of the provider, in the order of the catalogue; none where they are discovered at run time.
    pub fn models(&self) -> Vec<Model> {
        let Some(preset) = self.preset else { return Vec::new() };
        if preset.format == Format::Demo {
            return demo::models();
        }
        let listed = match preset.listing {
            Listing::Catalogue | Listing::Deployments => self.rows.as_slice(),
            Listing::Discovered => &[],
        };
        let here = |row: &&Row| self.region.as_deref().is_none_or(|region| geography::reaches(region, &row.id));
        let listed: Vec<&Row> = listed.iter().filter(here).collect();
        let ids: HashSet<&str> = listed.iter().map(|row| row.id.as_str()).collect();
        let starters = preset.starters.iter().map(|id| Model { declared: false, ..self.describe(id) });
        listed.into_iter().map(|row| self.model(row, &ids)).chain(starters).collect()
    }

    /// Everything known of a model that the configuration file or the provider itself names. It is routable.
    pub fn describe(&self, id: &str) -> Model {
        if let Some(model) = demo::models().into_iter().find(|model| self.is_demo() && model.id == id) {
            return Model { declared: true, ..model };
        }
        let mut model = match self.rows.iter().find(|row| row.id == id) {
            Some(row) => self.model(row, &HashSet::new()),
            None => recognised(id),
        };
        (model.declared, model.routable) = (true, true);
        model
    }

    /// Whether the catalogue lists this very id for this provider.
    pub fn lists(&self, id: &str) -> bool {
        self.rows.iter().any(|row| row.id == id) || self.is_demo() && demo::models().iter().any(|model| model.id == id)
    }

    /// Ids for suggestions.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|row| row.id.as_str())
    }

    fn is_demo(&self) -> bool {
        self.preset.is_some_and(|preset| preset.format == Format::Demo)
    }

    fn model(&self, row: &Row, ids: &HashSet<&str>) -> Model {
        let price = row.price();
        let (skills, speed) = match self.measured.get(&row.id) {
            Some(measured) => (Skills::measured(measured), speed::of(&measured.model)),
            None => (inferred(&row.id, price.as_ref()), speed::of(&row.id)),
        };
        Model {
            routable: self.is_routable(row, ids, price.is_some(), &skills),
            id: row.id.clone(),
            deployment: None,
            context: row.context,
            max_output: row.max_output,
            supports: if row.supports.is_empty() { Supports::UNKNOWN } else { Supports::of(&row.supports) },
            skills,
            speed,
            price,
            declared: false,
        }
    }

    /// Whether an alias may pick a model that nobody named: an ordinary chat model in service, once, with a price.
    fn is_routable(&self, row: &Row, ids: &HashSet<&str>, priced: bool, skills: &Skills) -> bool {
        let Some(preset) = self.preset else { return false };
        let lower = row.id.to_ascii_lowercase();
        let special = lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| SPECIAL.contains(&word));
        let withdrawn = row.deprecation_date.is_some_and(|date| date <= self.today)
            || OUTDATED.iter().any(|(provider, start)| *provider == preset.name && lower.starts_with(start));
        // Where a profile spreads a model over regions, the bare model wants capacity of one's own, if it answers at all.
        let profiled = ids.iter().any(|id| geography::profile(id).is_some_and(|(_, model)| model == row.id));
        let copy = name::original(&row.id).is_some_and(|original| ids.contains(original));
        // A host of open weights keeps hundreds of old models on its list, and for those the price rule is far too
        // kind: without any measurement they would win on cost.
        let guessed = preset.is_host && !skills.is_known() && skills.tasks().next().is_none();
        row.kind == Kind::Chat
            && preset.listing == Listing::Catalogue
            && priced
            && !special
            && !withdrawn
            && !copy
            && !profiled
            && !guessed
    }
}

impl Row {
    fn price(&self) -> Option<Price> {
        let usd = |value: Option<f64>| value.and_then(PerMillion::from_usd);
        let prices = &self.usd_per_million;
        // A vector has no output tokens, and some sources leave their price out.
        let output = (self.kind == Kind::Embedding).then(PerMillion::default);
        let origin =
            Origin::Catalogue { source: self.source.clone().unwrap_or_else(|| "LiteLLM price map".into()), date: DATE };
        Some(Price {
            cached_input: usd(prices.cached_input),
            cache_write: usd(prices.cache_write),
            reasoning_output: usd(prices.reasoning_output),
            input_above_200k: usd(prices.input_above_200k),
            output_above_200k: usd(prices.output_above_200k),
            ..Price::new(usd(prices.input)?, usd(prices.output).or(output)?, origin)
        })
    }
}

/// A model of another provider or a local server, known by its name only. The same weights are equally good anywhere,
/// so skills carry over; price, window and speed belong to the provider and do not.
fn recognised(id: &str) -> Model {
    let skills = same_name(id).map(|row| Skills::measured(&row)).unwrap_or_else(|| inferred(id, None));
    Model {
        id: id.to_owned(),
        deployment: None,
        price: None,
        context: None,
        max_output: None,
        supports: Supports::UNKNOWN,
        skills,
        speed: Speed::default(),
        routable: true,
        declared: true,
    }
}

/// A measured model's name, taken apart once; its line is parsed when somebody needs it.
struct Entry {
    key: String,
    line: Option<(String, Vec<Vec<u64>>)>,
    text: &'static str,
}

fn index() -> &'static [Entry] {
    static INDEX: OnceLock<Vec<Entry>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let named = SKILLS.lines().filter_map(|text| Some((name::first_value(text)?, text)));
        named.map(|(model, text)| Entry { key: name::key(model), line: name::line(model), text }).collect()
    })
}

/// The measured model that this name means, whatever the vendor prefix and the spelling.
fn same_name(id: &str) -> Option<skill::Row> {
    let wanted = name::key(id);
    let exact = index().iter().find(|entry| entry.key == wanted);
    // `llama3.2` without a size is, on local servers, the smallest one of at least 3 billion weights.
    let sized = || {
        index()
            .iter()
            .filter_map(|entry| Some((name::size_beyond(&wanted, &entry.key).filter(|size| *size >= 3.0)?, entry)))
            .min_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(_, entry)| entry)
    };
    serde_json::from_str(exact.or_else(sized)?.text).ok()
}

/// Skills of a model that was not measured: its predecessor's, else what its price suggests, else the middle.
fn inferred(id: &str, price: Option<&Price>) -> Skills {
    predecessor(id).map(|row| Skills::after(&row)).unwrap_or_else(|| Skills::from_price(price))
}

fn predecessor(id: &str) -> Option<skill::Row> {
    let (line, version) = name::line(id)?;
    let older = index().iter().filter_map(|entry| {
        let (other, older) = entry.line.as_ref()?;
        (*other == line && *older < version).then_some((older, entry.text))
    });
    let best = older.max_by_key(|(version, _)| *version)?;
    serde_json::from_str(best.1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::presets;

    const TODAY: Date = jiff::civil::date(2026, 11, 20);

    fn shelf(name: &str) -> Shelf {
        Shelf::open(presets::find(name), TODAY)
    }

    fn routable(name: &str) -> Vec<String> {
        shelf(name).models().into_iter().filter(|model| model.routable).map(|model| model.id).collect()
    }

    #[test]
    fn every_embedded_line_can_be_read() {
        let models = MODELS.lines().filter(|line| serde_json::from_str::<Row>(line).is_ok()).count();
        let skills = SKILLS.lines().filter(|line| serde_json::from_str::<skill::Row>(line).is_ok()).count();
        assert_eq!((models, skills), (MODELS.lines().count(), SKILLS.lines().count()));
        assert_eq!((models, skills), (1516, 264));
    }

    #[test]
    fn a_known_model_brings_price_window_and_measured_skills() {
        let model = shelf("openai").describe("gpt-5-mini");
        let price = model.price.expect("a price");
        assert_eq!(price.input.0.usd(), 0.25);
        assert!(matches!(price.origin, Origin::Catalogue { .. }));
        assert!(model.context.is_some() && model.supports.known && model.supports.tools);
        assert!(matches!(model.skills.of("coding").origin, Origin::Measured { .. }));
        assert!(matches!(model.skills.of("a task of my own").origin, Origin::Inferred { .. }));
    }

    #[test]
    fn an_unknown_price_is_none_and_only_an_explicit_zero_is_free() {
        let dashscope = shelf("dashscope");
        assert_eq!(dashscope.describe("qwen3.5-plus").price, None);
        assert_eq!(shelf("zai").describe("glm-4.5-flash").price.expect("free").input, PerMillion::default());
        assert_eq!(shelf("openai").describe("made-up").price, None);
    }

    #[test]
    fn aliases_pick_ordinary_models_in_service_only() {
        let openai = routable("openai");
        for id in ["gpt-5-mini", "gpt-5.6-luna", "gpt-6-sol", "gpt-4o"] {
            assert!(openai.iter().any(|model| model == id), "{id} should be routable: {openai:?}");
        }
        for id in [
            "gpt-4",
            "gpt-5-2025-08-07",
            "gpt-audio",
            "gpt-4o-mini-search-preview",
            "text-embedding-3-small",
            "container",
            "gpt-4o-2024-05-13",
            "o1",
            "gpt-5.5-cyber",
        ] {
            assert!(!openai.iter().any(|model| model == id), "{id} should not be routable");
        }
        assert!(!routable("gemini").iter().any(|id| id.contains("lyria") || id.contains("tts") || id.contains("exp")));
        assert!(routable("perplexity").iter().all(|id| id.starts_with("sonar")));
        assert!(routable("azure").is_empty(), "a deployment must be named");
    }

    #[test]
    fn a_withdrawn_model_was_routable_before() {
        let before = Shelf::open(presets::find("openai"), jiff::civil::date(2026, 1, 1));
        assert!(before.models().iter().any(|model| model.id == "o1" && model.routable));
    }

    #[test]
    fn missing_skills_follow_the_documented_order() {
        let how = |origin: &Origin| match origin {
            Origin::Inferred { how } => how.to_string(),
            other => format!("{other:?}"),
        };
        let openai = shelf("openai");
        let partly = openai.describe("gpt-6-astra").skills;
        assert!(how(&partly.of("translation").origin).starts_with("overall"), "{partly:?}");
        assert_eq!(how(&openai.describe("gpt-6.1-sol").skills.of("coding").origin), "predecessor gpt-5.6-sol + 0.02");
        assert_eq!(how(&shelf("anthropic").describe("claude-mythos-5").skills.of("coding").origin), "list price");
        assert_eq!(how(&openai.describe("nobody-knows").skills.of("coding").origin), "no data");
    }

    #[test]
    fn a_local_model_is_recognised_by_its_name() {
        let measured = |id: &str| match &Shelf::open(None, TODAY).describe(id).skills.of("coding").origin {
            Origin::Measured { model, .. } => model.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(measured("llama3.2"), "llama-3.2-3b-instruct");
        assert_eq!(measured("llama3.1:8b"), "llama-3.1-8b-instruct");
        assert_eq!(measured("qwen/qwen3-32b"), "qwen3-32b");
        assert_eq!(measured("anthropic/claude-sonnet-4.5"), "claude-sonnet-4-5");
    }

    #[test]
    fn discovered_providers_list_nothing_and_the_demo_lists_three() {
        assert!(shelf("ollama").models().is_empty());
        let demo = shelf("demo").models();
        assert_eq!(demo.iter().map(|model| model.id.as_str()).collect::<Vec<_>>(), ["small", "medium", "large"]);
        assert!(demo.iter().all(|model| model.routable));
    }
}
