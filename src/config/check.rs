//! The file as a whole: its sections in turn, and the rules that span them.

use jiff::civil::Date;

use super::batches;
use super::collector;
use super::guards;
use super::jobs;
use super::problem::closest;
use super::providers::{self, Surroundings};
use super::queue;
use super::reader::{Item, Section};
use super::sections;
use super::settings::{Settings, Transforms, Upstream};
use super::storage;
use super::tenants;
use crate::guard::Guards;
use crate::rank::select::BUILT_IN;
use crate::tenant;

/// Sections of later versions. Refused, so that nobody believes them to be in force.
const LATER: [&str; 3] = ["rollout", "experiments", "ensemble"];

/// Reads everything; whether it is usable, the report knows.
pub(super) fn settings(root: &Item<'_>, env: &dyn Fn(&str) -> Option<String>, today: Date) -> Settings {
    let mut settings = Settings::empty();
    let Some(mut file) = root.section() else { return settings };
    settings.upstream = sections::upstream(&mut file, &Upstream::default());

    let listed = file.get("providers");
    // Written, but unusable: what refers to them is not to blame.
    let mut broken = Vec::new();
    for (entry, item) in listed.as_ref().map(|item| item.named("a map of providers")).unwrap_or_default() {
        let around = Surroundings { env, today, upstream: &settings.upstream };
        let Some(configured) = providers::provider(entry, &item, &around) else {
            broken.push(entry.key.as_str());
            continue;
        };
        let name = configured.provider.name.to_string();
        if settings.providers.iter().any(|provider| provider.name == configured.provider.name) {
            continue; // written twice, and reported
        }
        if configured.discover {
            settings.discover.push(configured.provider.clone());
        }
        settings.overrides.extend(configured.upstream.map(|upstream| (name, upstream)));
        settings.targets.extend(configured.targets);
        settings.providers.push(configured.provider);
    }
    if settings.targets.is_empty() && settings.discover.is_empty() && file.report.is_clean() {
        let message = "nobody can answer: name at least one provider under `providers`";
        file.report.problem(file.at, "providers", message);
    }

    if let Some(item) = file.get("tasks") {
        settings.tasks = sections::tasks(&item);
    }
    if let Some(item) = file.get("routing") {
        if let Some(section) = item.section() {
            settings.routing = sections::routing(section);
        }
        aliases(&item, &settings, &broken);
    }
    settings.when_impossible = file.section("hints").map(sections::hints).unwrap_or_default();
    settings.overload = file.section("overload").map(sections::overload).unwrap_or_default();
    settings.hedge = file.section("hedge").map(sections::hedge).unwrap_or_default();
    settings.health_checks = file.section("health_checks").map(sections::health_checks).unwrap_or_default();
    settings.cache = file.section("cache").map(sections::cache).unwrap_or_default();
    settings.server = file.section("server").map(sections::server).unwrap_or_default();
    settings.storage = file.section("storage").map(storage::storage).unwrap_or_default();
    settings.retention = file.section("retention").map(jobs::retention).unwrap_or_default();
    settings.logging = file.section("logging").map(sections::logging).unwrap_or_default();
    settings.jobs = file.section("jobs").map(jobs::jobs).unwrap_or_default();
    settings.batches = file.section("batches").map(batches::batches).unwrap_or_default();
    settings.anomalies = file.section("anomalies").map(jobs::anomalies).unwrap_or_default();
    settings.queue = file.section("queue").and_then(queue::queue);
    settings.events =
        file.section("events").map(|section| queue::events(section, settings.queue.is_some())).unwrap_or_default();
    settings.webhooks = file.section("webhooks").map(jobs::webhooks).unwrap_or_default();
    let mut transforms = Transforms::default();
    settings.tenants = tenants(&mut file, &settings, &broken, &mut transforms);
    settings.transforms = transforms;
    if let Some(item) = file.get("shared") {
        settings.shared = item.section().and_then(sections::shared);
        if settings.shared.is_some() && settings.tenants.auth.secret.is_none() {
            item.problem(
                "needs `auth.secret`, the same for all replicas: they find each other's marks and answers by it",
            );
        }
    }
    settings.guards = guards(&mut file, &settings, &broken);
    let from_env = || collector::from_env(env);
    let written = file.section("telemetry").map(|section| collector::telemetry(section, env));
    settings.telemetry = written.unwrap_or_else(from_env);
    finish(file);
    settings
}

fn guards(file: &mut Section<'_>, settings: &Settings, broken: &[&str]) -> Guards {
    let Some(item) = file.get("guards") else { return Guards::default() };
    let tenants = &settings.tenants;
    let names = guards::Names {
        tiers: tenants.tiers.keys().map(String::as_str).collect(),
        teams: tenants.teams.keys().map(String::as_str).collect(),
        providers: settings.providers.iter().map(|provider| &*provider.name).chain(broken.iter().copied()).collect(),
    };
    guards::guards(&item, &names)
}

fn tenants(
    file: &mut Section<'_>,
    settings: &Settings,
    broken: &[&str],
    transforms: &mut Transforms,
) -> tenant::settings::Settings {
    let known = |item: &Item<'_>, name: &str| {
        let is_alias = BUILT_IN.iter().any(|(alias, _)| *alias == name) || settings.routing.aliases.contains_key(name);
        let is_model = settings.targets.iter().any(|target| target.model.id == name);
        if !is_alias && !is_model {
            match_target(item, name, settings, broken);
        }
    };
    let by_name = |item: Option<Item<'_>>, what: &str, transforms| {
        item.map(|item| tenants::limits_by_name(&item, what, &known, transforms)).unwrap_or_default()
    };
    let mut read = tenant::settings::Settings {
        auth: file.section("auth").map(tenants::auth).unwrap_or_default(),
        tiers: by_name(file.get("tiers"), "a map of tiers", &mut transforms.tiers),
        teams: by_name(file.get("teams"), "a map of teams", &mut transforms.teams),
        ..Default::default()
    };
    let tiers: Vec<&str> = read.tiers.keys().map(String::as_str).collect();
    let named = settings.providers.iter().map(|provider| &*provider.name);
    let providers: Vec<&str> = named.chain(broken.iter().copied()).collect();
    let budgets = file.section("budgets").map(|section| tenants::budgets(section, &tiers, &providers));
    read.budgets = budgets.unwrap_or_default();
    read
}

fn finish(file: Section<'_>) {
    file.finish_with(|key| LATER.contains(&key).then(|| format!("`{key}` does not exist yet in this version")));
}

/// Every entry of `only` and `avoid` must mean somebody, or a typing error would quietly allow or forbid the wrong ones.
fn aliases(routing: &Item<'_>, settings: &Settings, broken: &[&str]) {
    let Some(mut routing) = routing.section() else { return };
    let aliases = routing.get("aliases");
    for (_, alias) in aliases.map(|item| item.named("a map of aliases")).unwrap_or_default() {
        let Some(mut section) = alias.section() else { continue };
        for item in [section.get("only"), section.get("avoid")].into_iter().flatten() {
            for (item, name) in item.texts("a list of providers or provider/model").unwrap_or_default() {
                match_target(&item, name, settings, broken);
            }
        }
    }
}

fn match_target(item: &Item<'_>, name: &str, settings: &Settings, broken: &[&str]) {
    let provider = name.split('/').next().unwrap_or_default();
    let unasked = settings.discover.iter().any(|other| &*other.name == provider);
    let known = settings.provider(name).is_some() || settings.targets.iter().any(|target| target.id.as_str() == name);
    if known || unasked || broken.contains(&provider) {
        return;
    }
    let bare = settings.targets.iter().find(|target| target.model.id == name).map(|target| target.id.to_string());
    let names = || {
        let providers = settings.providers.iter().map(|provider| &*provider.name);
        providers.chain(settings.targets.iter().map(|target| target.id.as_str()))
    };
    let suggestion = bare.or_else(|| closest(name, names()));
    item.suggest(format!("{} is neither a provider nor a provider/model here", item.shown()), suggestion);
}
