//! `stepwell events`: the log as it is, told again, and as it stood at a moment.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::jobs::with;
use super::keys::Place;
use super::{Exit, Outcome, print};
use crate::events::Kind;
use crate::events::log::Wanted;
use crate::jobs::job::{Job, Status};
use crate::jobs::queue::Filter;
use crate::jobs::replay::{State, Told};
use crate::ledger::journal::Failure;
use crate::ledger::report::Group;
use crate::ledger::usage::{UsageQuery, moment, rfc3339};
use crate::money::NanoUsd;
use crate::store::Store;

/// Events and jobs read together.
const AT_ONCE: usize = 1_000;

pub fn list(place: &Place, kinds: Option<&str>, subject: Option<String>, since: &str, until: Option<&str>) -> Outcome {
    let mut wanted = Wanted { subject, since_ms: Some(at_moment(since)?), ..Wanted::default() };
    wanted.until_ms = until.map(at_moment).transpose()?;
    for word in kinds.into_iter().flat_map(|kinds| kinds.split(',')).map(str::trim) {
        let known = || Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        let kind = Kind::parse(word);
        wanted.kinds.push(
            kind.ok_or_else(|| Exit::new(Exit::USAGE, format!("`{word}` is no kind of event; there are {}", known())))?,
        );
    }
    let mut behind = 0;
    loop {
        let events = with(place, async |store| store.log().behind(behind, &wanted, AT_ONCE).await)?;
        let Some(last) = events.last() else { return Ok(()) };
        behind = last.seq.unwrap_or(i64::MAX);
        let mut text = String::new();
        for event in &events {
            let facts: Vec<String> = event.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let (at, kind) = (rfc3339(event.at_unix_ms), event.kind.as_str());
            match place.json {
                true => text.push_str(&serde_json::to_string(event).map_err(anyhow::Error::from)?),
                false => text.push_str(&format!("{at:<24} {kind:<18} {} {}", event.subject, facts.join(" "))),
            }
            text.push('\n');
        }
        print(&text)?;
    }
}

fn at_moment(text: &str) -> Result<i64, Exit> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    moment(text, now_ms).map_err(|error| Exit::new(Exit::USAGE, error.to_string()))
}

/// Everything that the log says up to a moment.
async fn told(store: &Store, until_ms: Option<i64>) -> Result<State, Failure> {
    told_of(store, &Wanted { until_ms, ..Wanted::default() }).await
}

async fn told_of(store: &Store, wanted: &Wanted) -> Result<State, Failure> {
    let (mut state, mut behind) = (State::default(), 0);
    loop {
        let events = store.log().behind(behind, wanted, AT_ONCE).await?;
        events.iter().for_each(|event| state.add(event));
        match events.last() {
            Some(last) => behind = last.seq.unwrap_or(i64::MAX),
            None => return Ok(state),
        }
    }
}

/// What requests add up to: how many, how many of them without a price, tokens, cost.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Usage {
    requests: u64,
    unpriced_requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    cost_usd: NanoUsd,
}

impl Usage {
    fn of(groups: &[Group]) -> Self {
        let sum = |of: fn(&Group) -> u64| groups.iter().map(of).sum();
        let cost = groups.iter().filter_map(|group| group.cell.known_cost()).map(|cost| cost.0).sum();
        Self {
            requests: sum(|group| group.cell.requests),
            unpriced_requests: sum(|group| group.cell.unpriced_requests),
            prompt_tokens: sum(|group| group.cell.prompt_tokens),
            completion_tokens: sum(|group| group.cell.completion_tokens),
            cost_usd: NanoUsd(cost),
        }
    }
}

fn everything() -> UsageQuery {
    // Finer than any report that people ask for, so that no two errors cancel out.
    let words = Some("provider,model,task,key,team,tier,strategy,status");
    let query = UsageQuery::parse(words, None, None, 0);
    query.map(|query| UsageQuery { since_ms: None, ..query }).unwrap_or_else(|_| unreachable!("known words"))
}

fn sorted(mut groups: Vec<Group>) -> Vec<Group> {
    groups.sort_by(|one, other| (&one.labels, one.demo).cmp(&(&other.labels, other.demo)));
    groups
}

/// What telling the log again has found.
struct Replayed {
    usage: Usage,
    groups: usize,
    usage_differs: bool,
    state: State,
    /// Jobs whose state was another one, or that ended more than once.
    differing: Vec<String>,
}

/// Makes sums and states anew from rows and events, and says whether they were right. Exit code 1 if they were not.
pub fn replay(place: &Place) -> Outcome {
    let replayed = with(place, async |store| {
        let (before, after) = store.rebuild(&everything()).await?;
        let (before, after) = (sorted(before), sorted(after));
        let (usage, groups, usage_differs) = (Usage::of(&after), after.len(), before != after);
        let state = told(store, None).await?;
        let differing = compare(store, &state).await?;
        Ok(Replayed { usage, groups, usage_differs, state, differing })
    })?;
    let Replayed { usage, groups, usage_differs, state, differing } = &replayed;
    if place.json {
        print(
            &json!({
                "events": state.events, "requests_summed": usage.requests, "usage": usage, "usage_differs": usage_differs,
                "jobs": counted(state), "jobs_differing": differing, "breaker_changes": state.breakers.len(),
            })
            .to_string(),
        )?;
    } else {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["PROJECTION", "FROM", "NOW", "BEFORE"]);
        let was = |differs: bool| if differs { "different" } else { "the same" };
        table.add_row([
            "usage".to_owned(),
            format!("{} requests", usage.requests),
            format!("${}, {groups} sums", crate::money::decimal(usage.cost_usd)),
            was(*usage_differs).to_owned(),
        ]);
        table.add_row([
            "jobs".to_owned(),
            format!("{} events", state.events),
            state
                .counts()
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(status, count)| format!("{count} {}", status.as_str()))
                .collect::<Vec<_>>()
                .join(", "),
            was(!differing.is_empty()).to_owned(),
        ]);
        table.add_row([
            "breakers".to_owned(),
            format!("{} changes", state.breakers.len()),
            format!("{} open", state.open_breakers.len()),
            "not kept".to_owned(),
        ]);
        print(&table.to_string())?;
    }
    if *usage_differs || !differing.is_empty() {
        let shown: Vec<&str> = differing.iter().take(10).map(String::as_str).collect();
        let message = format!("what was kept was wrong and is made anew; jobs: {}", shown.join(", "));
        return Err(Exit::new(Exit::FAILED, message));
    }
    Ok(())
}

/// Puts every job into the state that its events tell; returns those that were in another one, or have ended twice.
async fn compare(store: &Store, state: &State) -> Result<Vec<String>, Failure> {
    let filter = Filter { internal: true, ..Filter::default() };
    let (mut differing, mut before) = (Vec::new(), None);
    loop {
        let jobs = store.queue().list(&filter, before, AT_ONCE).await?;
        let Some(last) = jobs.last() else { return Ok(differing) };
        before = Some(last.seq);
        for job in &jobs {
            // Events are kept shorter than jobs if somebody wants it so: what is not told is not judged.
            let Some(now) = state.jobs.get(&job.id) else { continue };
            if now.status == job.status && now.ends <= 1 {
                continue;
            }
            // A server may have changed it since: then both are looked at once more.
            let Some((job, told)) = together(store, &job.id).await? else { continue };
            if told.status != job.status {
                store.queue().restate(&job.id, told.status).await?;
            }
            if told.status != job.status || told.ends > 1 {
                differing.push(job.id);
            }
        }
    }
}

/// A job and what its events tell, of one moment: it has not changed while its events were read.
async fn together(store: &Store, id: &str) -> Result<Option<(Job, Told)>, Failure> {
    let wanted = Wanted { subject: Some(id.to_owned()), ..Wanted::default() };
    let mut before = store.queue().find(id).await?;
    loop {
        let told = told_of(store, &wanted).await?;
        let after = store.queue().find(id).await?;
        if before == after {
            return Ok(after.zip(told.jobs.get(id).copied()));
        }
        before = after;
    }
}

fn counted(state: &State) -> Value {
    state
        .counts()
        .into_iter()
        .map(|(status, count): (Status, u64)| (status.as_str().to_owned(), count.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// How everything stood.
pub fn at(place: &Place, text: &str) -> Outcome {
    let moment_ms = at_moment(text)?;
    let (usage, state) = with(place, async |store| {
        let query = UsageQuery { until_ms: Some(moment_ms), ..everything() };
        let usage = Usage::of(&store.journal().usage(&query).await?);
        Ok((usage, told(store, Some(moment_ms)).await?))
    })?;
    if place.json {
        let batches: serde_json::Map<String, Value> =
            state.batches.iter().map(|(id, kind)| (id.clone(), kind.as_str().into())).collect();
        let open: Vec<Value> = state
            .open_breakers
            .iter()
            .map(|((target, server), since)| json!({"target": target, "server": server, "since": rfc3339(*since)}))
            .collect();
        let shown = json!({
            "at": rfc3339(moment_ms), "usage": usage, "jobs": counted(&state), "batches": batches,
            "open_breakers": open, "anomalies": state.anomalies, "events": state.events,
        });
        return print(&serde_json::to_string_pretty(&shown).map_err(anyhow::Error::from)?);
    }
    let mut lines = vec![
        format!("at {}", rfc3339(moment_ms)),
        format!(
            "  usage     {} requests that had begun, {} + {} tokens, ${}{}",
            usage.requests,
            usage.prompt_tokens,
            usage.completion_tokens,
            crate::money::decimal(usage.cost_usd),
            match usage.unpriced_requests {
                0 => String::new(),
                unpriced => format!(" and {unpriced} without a known price"),
            }
        ),
    ];
    let counts: Vec<String> = state
        .counts()
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(status, count)| format!("{count} {}", status.as_str()))
        .collect();
    lines.push(format!("  jobs      {}", if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }));
    for (id, kind) in &state.batches {
        lines.push(format!("  batch     {id} {}", kind.as_str()));
    }
    for ((target, server), since) in &state.open_breakers {
        lines.push(format!("  breaker   {target} open since {} at {server}", rfc3339(*since)));
    }
    lines.push(format!("  log       {} events, {} anomalies", state.events, state.anomalies));
    print(&lines.join("\n"))
}
