//! The file as people write it, mistakes included.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::catalog::Format;
use crate::rank::settings::Strategy;

mod clouds;
mod stores;

const TODAY: Date = jiff::civil::date(2026, 11, 20);

fn env(name: &str) -> Option<String> {
    let set = [
        ("OPENAI_API_KEY", "sk-openai"),
        ("ANTHROPIC_API_KEY", "sk-anthropic"),
        ("AZURE_OPENAI_API_KEY", "azure-key"),
        ("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/"),
    ];
    set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

fn load(text: &str) -> Loaded {
    parse(Path::new("providers.yaml"), text, &env, TODAY).unwrap_or_else(|problems| panic!("{problems}"))
}

pub(super) fn settings(text: &str) -> Settings {
    load(text).settings
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(Path::new("providers.yaml"), text, &env, TODAY) {
        Ok(_) => panic!("no problem found in:\n{text}"),
        Err(problems) => problems.0,
    }
}

/// The only problem, as it is shown.
pub(super) fn problem(text: &str) -> String {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{}", Problems(problems));
    problems[0].to_string()
}

fn target(settings: &Settings, id: &str) -> crate::catalog::Target {
    let found = settings.targets.iter().find(|target| target.id.as_str() == id);
    (**found.unwrap_or_else(|| panic!("no target {id}"))).clone()
}

#[test]
fn six_lines_are_a_configuration() {
    let settings = settings(
        "providers:\n  openai:\n    api_key: ${OPENAI_API_KEY}\n  anthropic:\n    api_key: ${ANTHROPIC_API_KEY}\nrouting: { strategy: cheapest }\n",
    );
    assert_eq!(settings.providers.len(), 2);
    assert_eq!(settings.routing.strategy, Strategy::Cheapest);
    let mini = target(&settings, "openai/gpt-5-mini");
    assert!(mini.model.price.is_some() && mini.model.routable && !mini.model.declared);
    assert_eq!(mini.provider.base_url, "https://api.openai.com/v1");
}

#[test]
fn the_usual_variable_is_the_key_of_a_provider_without_one() {
    assert!(settings("providers: { openai: }").providers[0].api_key.is_some());
    let missing = problem("providers: { groq: }");
    assert!(missing.contains("groq needs api_key; write it, or set GROQ_API_KEY"), "{missing}");
    // A key goes to its own provider only.
    assert!(settings("providers: { openai: { base_url: 'http://127.0.0.1:9/v1' } }").providers[0].api_key.is_none());
}

#[test]
fn every_problem_is_shown_at_once_and_at_its_place() {
    let text = "\
providers:
  openai:
    api_key: ${OPENAI_KEY}
    timeout: 3s
    models:
      - id: gpt-5-mini
        price: { input: cheap }
        context: 12 parsecs
routing:
  strategy: cheepest
  max_attempts: 99
breaker: { cooldown: 10m, max_cooldown: 5m }
rollout: { stages: 2 }
";
    let problems = problems(text);
    let shown: Vec<_> = problems
        .iter()
        .map(|problem| (problem.line, problem.column, problem.path.as_str(), problem.suggestion.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            (3, 14, "providers.openai.api_key", None),
            (4, 5, "providers.openai.timeout", Some("timeouts")),
            (7, 25, "providers.openai.models[0].price.input", None),
            (8, 18, "providers.openai.models[0].context", None),
            (10, 13, "routing.strategy", Some("cheapest")),
            (11, 17, "routing.max_attempts", None),
            (12, 10, "breaker", None),
            (13, 1, "rollout", None),
        ],
        "{}",
        Problems(problems.clone())
    );
    let all = Problems(problems).to_string();
    assert!(
        all.contains("providers.yaml:10:13: routing.strategy: unknown strategy `cheepest`; did you mean `cheapest`?")
    );
    assert!(all.contains("\n  10 |   strategy: cheepest\n     |             ^"), "{all}");
    assert!(all.contains("the environment variable `OPENAI_KEY` is not set"), "{all}");
    assert!(all.contains("`rollout` does not exist yet in this version") && all.ends_with("8 problems"));
}

#[test]
fn names_that_are_nearly_right_are_suggested() {
    for (text, suggestion) in [
        ("provders: {}\nproviders: { demo: }", "providers"),
        ("providers: { opnai: { api_key: x } }", "openai"),
        ("providers: { demo: { wieght: 1 } }", "weight"),
        ("providers: { demo: { models: [{ id: small, supports: [tool] }] } }", "tools"),
        ("providers: { demo: }\nrouting: { aliases: { a: { only: [dmeo] } } }", "demo"),
        ("providers: { demo: }\nrouting: { aliases: { a: { only: [small] } } }", "demo/small"),
        ("providers: { demo: { fault: { models: [smal] } } }", "small"),
        ("providers: { demo: }\nlogging: { level: inf }", "info"),
    ] {
        let shown = problem(text);
        assert!(shown.contains(&format!("did you mean `{suggestion}`?")), "{shown}");
    }
}

#[test]
fn what_is_written_wins_and_the_rest_comes_from_the_catalogue() {
    let settings = settings(
        "
providers:
  openai:
    models:
      - id: gpt-5-mini
        price: { input: 9 }
        context: 1k
        skills: { coding: 0.1 }
        latency: { first_token: 450ms }
      - gpt-5
      - id: house-model
",
    );
    assert_eq!(settings.targets.len(), 3);
    let mini = target(&settings, "openai/gpt-5-mini").model;
    let price = mini.price.expect("a price");
    assert_eq!((price.input.0.usd(), price.output.0.usd()), (9.0, 2.0));
    assert_eq!(price.cached_input.map(|price| price.0.usd()), Some(0.025));
    assert_eq!((mini.context, mini.max_output), (Some(1000), Some(128_000)));
    assert_eq!(mini.skills.of("coding").value, 0.1);
    assert!(mini.skills.of("reasoning").value > 0.5 && mini.declared);
    assert_eq!(mini.speed.first_token, Duration::from_millis(450));
    let house = target(&settings, "openai/house-model").model;
    assert_eq!(house.price, None, "unknown is not free");
    assert!(house.routable && !house.supports.known);
}

#[test]
fn a_price_is_free_only_if_written_so() {
    let settings = settings("providers: { demo: { models: [{ id: a, price: free }, { id: b }] } }");
    assert_eq!(target(&settings, "demo/a").model.price.expect("free").input.0.0, 0);
    assert_eq!(target(&settings, "demo/b").model.price, None);
    let half = problem("providers: { demo: { models: [{ id: a, price: { input: 1 } }] } }");
    assert!(half.contains("write output too"), "{half}");
}

#[test]
fn variables_have_defaults_files_and_an_escape() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("key"), "from-file\n").expect("written");
    let text = "
providers:
  demo:
    headers: { a: '${MISSING:-fallback}', b: '${file:key}', c: 'cost $$5', d: '${OPENAI_API_KEY}!' }
server: { listen: '127.0.0.1:${PORT:-4001}' }
";
    let path = directory.path().join("providers.yaml");
    let loaded = parse(&path, text, &env, TODAY).expect("valid");
    let headers: HashMap<_, _> = loaded.settings.providers[0].headers.iter().cloned().collect();
    assert_eq!(headers["a"], "fallback");
    assert_eq!(headers["b"], "from-file");
    assert_eq!(headers["c"], "cost $5");
    assert_eq!(headers["d"], "sk-openai!");
    assert_eq!(loaded.settings.server.listen.port(), 4001);
    assert!(loaded.files.contains(&directory.path().join("key")) && loaded.files.contains(&path));
}

#[test]
fn a_value_from_a_variable_is_never_shown() {
    let text = "providers: { demo: { headers: { 'x y': '${OPENAI_API_KEY}' }, weight: '${OPENAI_API_KEY}' } }";
    let all = Problems(problems(text)).to_string();
    assert!(!all.contains("sk-openai"), "{all}");
    let inline = problem("providers:\n  openai:\n    api_kye: my-own-secret");
    assert!(!inline.contains("my-own-secret"), "{inline}");
    let misplaced = problem("providers:\n  openai: my-own-secret");
    assert!(misplaced.contains("expected a map of settings, got text") && !misplaced.contains("my-own"), "{misplaced}");
    let elsewhere = problem("providers: { demo: { weight: sk-abcdef } }");
    assert!(!elsewhere.contains("abcdef"), "{elsewhere}");
    let wrong = problem("providers:\n  demo:\n    headers:\n      x-a: [my-own-secret]");
    assert!(!wrong.contains("my-own-secret"), "{wrong}");
}

#[test]
fn a_key_written_twice_is_a_problem() {
    let shown = problem("providers: { demo: }\ncache: { ttl: 1h }\ncache: { ttl: 2h }\n");
    assert!(shown.starts_with("providers.yaml:3:1: cache: `cache` is written twice; keep one"), "{shown}");
}

#[test]
fn broken_yaml_says_where() {
    let shown = problem("providers:\n  openai: [1\n");
    assert!(shown.starts_with("providers.yaml:2:11: "), "{shown}");
    assert!(problem("").contains("the file is empty"));
    assert!(problem("just words").contains("expected a map of settings"));
    assert!(problem("providers: {}").contains("nobody can answer"));
}

#[test]
fn a_server_of_ones_own_needs_an_address_and_a_format() {
    let settings = settings(
        "providers: { local: { format: openai, base_url: 'http://127.0.0.1:11434/v1', models: [{ id: llama3.2, price: free }] } }",
    );
    assert_eq!(target(&settings, "local/llama3.2").provider.base_url, "http://127.0.0.1:11434/v1");
    assert!(problem("providers: { local: { format: openai } }").contains("needs base_url"));
    assert!(problem("providers: { local: { base_url: 'http://127.0.0.1:1/v1' } }").contains("needs format"));
    let url = problem("providers: { local: { format: openai, base_url: 'ftp//x' } }");
    assert!(url.contains("is not a URL"), "{url}");
}

#[test]
fn a_second_account_of_a_known_provider_has_its_catalogue() {
    let settings = settings(
        "providers: { work: { format: anthropic, api_key: x }, play: { format: demo, fault: { rate: 20% } } }",
    );
    assert!(settings.targets.iter().any(|target| target.id.as_str() == "work/claude-sonnet-5"));
    assert_eq!(settings.provider("play").and_then(|play| play.fault.as_ref()).map(|fault| fault.rate), Some(0.2));
}

#[test]
fn one_provider_may_be_treated_differently() {
    let settings = settings(
        "
providers: { demo: { timeouts: { first_token: 60s }, breaker: { probes: 2 } } }
timeouts: { total: 5m }
",
    );
    let demo = settings.upstream("demo");
    assert_eq!(demo.timeouts.first_token.map(|span| span.0), Some(Duration::from_secs(60)));
    assert_eq!(demo.timeouts.total.0, Duration::from_secs(300));
    assert_eq!((demo.breaker.probes.0, demo.breaker.consecutive_failures.0), (2, 5));
    assert_eq!(settings.upstream("other").breaker.probes.0, 1);
}

#[test]
fn tasks_have_patterns_that_compile() {
    let settings = settings(
        "
providers: { demo: }
tasks:
  legal: { patterns: [{ match: '(?i)\\bclause$', weight: 2 }, { match: '^contract:', force: true }], strategy: best, min_skill: 0.8 }
  housekeeping: { strategy: cost_optimized }
",
    );
    let legal = &settings.tasks["legal"];
    assert_eq!((legal.patterns.len(), legal.strategy.as_deref(), legal.min_skill), (2, Some("quality"), Some(0.8)));
    assert!(legal.patterns[1].force && legal.enabled);
    let text =
        "providers: { demo: }\ntasks:\n  legal:\n    patterns:\n      - match: '(unclosed'\n      - match: 'x*'\n";
    let shown: Vec<_> = problems(text).iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(shown, [(5, 16), (6, 16)]);
}

#[test]
fn the_built_in_tasks_are_those_of_the_classifier() {
    let classifier = crate::classify::Classifier::compile(&Default::default()).expect("the built-in rules");
    let mut known: Vec<_> = classifier.tasks().map(|task| task.as_str()).collect();
    let mut named = sections::BUILT_IN_TASKS;
    known.sort_unstable();
    named.sort_unstable();
    assert_eq!(known, named);
}

#[test]
fn a_local_server_without_models_is_asked_for_them() {
    let settings = settings("providers: { ollama: {} }");
    assert!(settings.targets.is_empty());
    assert_eq!(settings.discover.len(), 1);
    let asked = settings.with_models("ollama", &["llama3.2".to_owned()]);
    assert!(target(&asked, "ollama/llama3.2").model.routable);
}

#[test]
fn without_a_file_the_environment_decides() {
    let loaded = detect::detected(&env, TODAY);
    let Origin::Detected(found) = &loaded.origin else { panic!("{:?}", loaded.origin) };
    let by: Vec<_> = found.iter().map(|found| (found.provider.as_str(), found.by.as_str())).collect();
    assert_eq!(
        by,
        [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY"), ("azure", "AZURE_OPENAI_API_KEY")]
    );
    let mut nothing = detect::detected(&|_| None, TODAY);
    assert_eq!((nothing.origin.clone(), nothing.settings.targets.len()), (Origin::Demo, 3));
    with_local(&mut nothing, &local_candidates()[0], vec!["llama3.2".to_owned()]);
    assert_eq!(nothing.settings.targets.len(), 1, "a local server takes the place of the demo");
}

#[test]
fn loading_is_quick_enough_to_start_in_no_time() {
    let text = "providers: { openai: , anthropic: , demo: }";
    let started = std::time::Instant::now();
    load(text);
    // 7 ms in a debug build; the bound leaves room for a busy machine.
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
}

#[test]
fn the_templates_are_valid() {
    assert_eq!(load(&template(false, &env)).settings.providers.len(), 1);
    let from_env = template(true, &env);
    assert!(!from_env.contains("sk-"), "{from_env}");
    assert_eq!(load(&from_env).settings.providers.len(), 3);
}

#[test]
fn files_and_directories_have_their_order() {
    let env = |name: &str| {
        HashMap::from([("STATE_DIRECTORY", "/var/lib/stepwell:/x"), ("HOME", "/home/me")])
            .get(name)
            .map(|v| (*v).to_owned())
    };
    assert_eq!(data_dir(None, &env).as_deref(), Some(Path::new("/var/lib/stepwell")));
    assert_eq!(data_dir(Some(Path::new("/d")), &env).as_deref(), Some(Path::new("/d")));
    let home = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
    assert_eq!(data_dir(None, &home).as_deref(), Some(Path::new("/home/me/.local/share/stepwell")));
    let named = |name: &str| (name == "STEPWELL_CONFIG").then(|| "/c.yaml".to_owned());
    assert_eq!(locate(None, &named), Source::File("/c.yaml".into()));
    assert_eq!(locate(Some(Path::new("/d.yaml")), &named), Source::File("/d.yaml".into()));
    let missing = super::load(&Source::File("/nowhere/providers.yaml".into()), &named).expect_err("no file");
    assert!(missing.to_string().starts_with("/nowhere/providers.yaml: cannot be read"), "{missing}");
}

/// The shipped reference manual.
const MANUAL: &str = include_str!("../../providers.yaml");

#[test]
fn the_manual_is_a_valid_file() {
    let loaded = load(MANUAL);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.settings.providers.len(), 3);
    let bare = parse(Path::new("providers.yaml"), MANUAL, &|_| None, TODAY).expect("valid without any variable");
    assert_eq!(bare.settings.providers.iter().map(|provider| &*provider.name).collect::<Vec<_>>(), ["demo"]);
    assert_eq!(bare.warnings.len(), 2, "{:?}", bare.warnings);
}

/// Settings that have no `PartialEq` are compared as they print.
fn shown(settings: &Settings) -> String {
    let Settings { routing, when_impossible, upstream, cache, server, storage, logging, tenants, telemetry, .. } =
        settings;
    let Settings { retention, jobs, anomalies, webhooks, events, overload, hedge, health_checks, batches, .. } =
        settings;
    let routing = crate::rank::settings::Settings { aliases: Default::default(), ..routing.clone() };
    format!(
        "{routing:?} {when_impossible:?} {upstream:?} {cache:?} {server:?} {storage:?} {logging:?} {tenants:?} \
         {telemetry:?} {retention:?} {jobs:?} {anomalies:?} {webhooks:?} {events:?} {overload:?} {hedge:?} {health_checks:?} {batches:?}"
    )
}

#[test]
fn the_defaults_in_the_manual_are_those_of_the_code() {
    let written = settings(&MANUAL.replace("#: ", ""));
    assert_eq!(written.providers.len(), 7, "the examples are valid too");
    assert_eq!(shown(&written), shown(&Settings::empty()));
    let mentioned = MANUAL.lines().filter(|line| line.trim_start().starts_with("#: ")).count();
    assert!(mentioned >= 28, "{mentioned} defaults are shown");
}

#[test]
fn the_manual_shows_no_default_that_is_ignored() {
    // What stands behind `#:` is read, and not only skipped as a comment.
    let broken = MANUAL.replace("#: ", "").replace("probes: 1", "probes: 99").replace("level: info", "level: loud");
    assert_eq!(problems(&broken).len(), 2);
}

#[test]
fn an_empty_fallback_leaves_a_provider_out() {
    let loaded = load(
        "providers: { groq: { api_key: '${GROQ_API_KEY:-}' }, demo: }\nrouting: { aliases: { a: { only: [groq] } } }",
    );
    assert_eq!(loaded.settings.providers.len(), 1);
    assert!(loaded.warnings[0].contains("providers.groq: left out, because its key is empty"));
}

proptest! {
    #[test]
    fn no_text_whatever_makes_loading_panic(text in any::<String>()) {
        let _ = parse(Path::new("x.yaml"), &text, &env, TODAY);
    }

    #[test]
    fn no_structure_whatever_makes_loading_panic(
        words in proptest::collection::vec(
            prop_oneof![
                Just("providers"), Just("openai"), Just("demo"), Just("models"), Just("id"), Just("price"), Just("routing"),
                Just("aliases"), Just("tasks"), Just("patterns"), Just("match"), Just("timeouts"), Just("cache"),
                Just(": "), Just("\n"), Just("\n  "), Just("\n    "), Just("- "), Just("{"), Just("}"), Just("["), Just("]"),
                Just(", "), Just("${"), Just("$$"), Just("1"), Just("-1e9"), Just("20%"), Just("5s"), Just("free"), Just("&a"),
                Just("*a"), Just("<<"), Just("é"), Just("'"), Just("|"), Just("null"), Just("~"), Just("yes")
            ],
            0..40,
        )
    ) {
        let _ = parse(Path::new("x.yaml"), &words.concat(), &env, TODAY);
    }
}

#[test]
fn a_variable_inside_braces_gets_the_hint_to_quote_it() {
    let text = "providers:\n  openai: { api_key: ${OPENAI_API_KEY} }\n";
    let problems = super::parse(Path::new("providers.yaml"), text, &|_| None, super::today()).expect_err("malformed");
    assert!(problems.to_string().contains("in quotes"), "{problems}");
}

#[test]
fn callers_limits_and_budgets_are_read_and_mistakes_in_them_named() {
    let text = "\
providers: { demo: }
routing: { aliases: { house: { only: [demo] } } }
auth: { required: always, jwt: { issuer: i, audience: [a, b], jwks_url: 'https://id.example.com/keys', tier_claim: tier } }
tiers:
  free: { requests_per_minute: 20, tokens_per_day: 100k, concurrency: 2, models: [auto-cheap, house, demo/small, demo] }
  team: { budget: { month: 200, window: { length: 6h, amount: 2.5 } } }
teams: { search: { tokens_per_minute: 1M, strategies: [cheapest] } }
budgets:
  time_zone: Europe/Berlin
  total: { month: 2000, warn_at: [80%, 0.5], at_limit: cheapest }
  providers: { demo: { day: 12 } }
  tiers: { free: { month: 0 } }
";
    let tenants = settings(text).tenants;
    assert_eq!(tenants.auth.jwt.map(|jwt| jwt.audience), Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(tenants.tiers["free"].tokens_per_day, Some(100_000));
    assert_eq!(tenants.tiers["team"].budget.window.map(|window| window.amount.usd()), Some(2.5));
    assert_eq!(tenants.budgets.total.warn_at.iter().map(|share| share.0).collect::<Vec<_>>(), [0.5, 0.8]);

    for (wrong, said) in [
        ("tiers: { free: { models: [auto-cheep] } }", "auto-cheep"),
        ("tiers: { free: { models: [] } }", "an empty list would mean everything"),
        ("tiers: { free: { requests_per_minut: 1 } }", "did you mean `requests_per_minute`?"),
        ("tiers: { free: { requests_per_minute: 0 } }", "out of range"),
        ("tiers: { free: { strategies: [fast-ish] } }", "fast-ish"),
        ("tiers: { free: { budget: { at_limit: warn } } }", "needs an amount"),
        ("budgets: { total: { month: -1 } }", "out of range"),
        ("budgets: { total: { window: { length: 6h } } }", "needs `amount`"),
        ("budgets: { providers: { opnai: { month: 1 } } }", "unknown provider `opnai`"),
        ("budgets: { time_zone: Mars }", "is no time zone"),
        ("auth: { jwt: { issuer: i, audience: a } }", "`jwks_url` is missing"),
        ("auth: { jwt: { issuer: i, audience: a, jwks_url: 'http://id.example.com/' } }", "must be an https:// URL"),
        ("auth: { secret: short }", "shorter than 32 characters"),
    ] {
        let found = problem(&format!("providers: {{ demo: }}\n{wrong}\n"));
        assert!(found.contains(said), "{wrong}: {found}");
        assert!(!found.contains("short }"), "a secret is shown: {found}");
    }
}

#[test]
fn a_file_may_have_more_comments_than_settings() {
    let comments = "# one of many lines\n".repeat(5_000);
    assert_eq!(settings(&format!("{comments}providers:\n{comments}  demo:\n{comments}")).providers.len(), 1);
}

#[test]
fn cors_allows_what_is_written_and_nothing_that_was_not_meant() {
    let with = |cors: &str| format!("providers: {{ demo: }}\nserver:\n  cors: {{ {cors} }}\n");
    let cors = settings(&with("origins: ['https://a.example', 'app://b', 'http://localhost:3000']")).server.cors;
    let origins = cors.expect("cors").origins.expect("a list");
    assert_eq!(origins, ["https://a.example", "app://b", "http://localhost:3000"]);
    assert!(settings(&with("origins: ['*']")).server.cors.is_some_and(|cors| cors.origins.is_none()));
    for (cors, said) in [
        ("origins: ['*'], credentials: true", "with `credentials: true` list the `origins`"),
        ("origins: ['*', 'https://a.example']", "`*` allows every origin"),
        ("origins: ['https://a.example/']", "did you mean `https://a.example`?"),
        ("origins: [a.example]", "is no origin"),
        ("origins: []", "no page could call"),
        ("max_age: 5m", "name the pages that may call"),
        ("origins: ['*'], methods: [post]", "did you mean `POST`?"),
        ("origins: ['*'], headers: ['a b']", "is no name of a header"),
        ("origin: ['*'], origins: ['*']", "did you mean `origins`?"),
    ] {
        let shown = problem(&with(cors));
        assert!(shown.contains(said) && shown.starts_with("providers.yaml:3:"), "{cors}: {shown}");
    }
}
