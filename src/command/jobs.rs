//! `stepwell jobs`: requests that are answered later, as the store has them; also beside a running server, which sees what
//! is changed here within half a second.

use comfy_table::{Table, presets};
use serde_json::json;

use super::keys::{Place, settings};
use super::{Exit, Outcome, block_on, home, print};
use crate::events::log::Wanted;
use crate::jobs::job::{Job, Status};
use crate::jobs::queue::{Filter, Obeyed, Order};
use crate::ledger::journal::Failure;
use crate::ledger::usage::rfc3339;
use crate::store::Store;

/// What a list is to show.
pub struct Listed {
    pub status: Option<String>,
    pub batch: Option<String>,
    pub internal: bool,
    pub limit: usize,
}

/// Dead letters that are taken together.
const AT_ONCE: usize = 1_000;
/// Events shown of one job.
const MOST_EVENTS: usize = 10_000;

/// Opens the store of a configuration that is there already, and closes it behind the work.
pub(super) fn with<T>(place: &Place, work: impl AsyncFnOnce(&Store) -> Result<T, Failure>) -> Result<T, Exit> {
    // Says what is wrong with the configuration before anything else does.
    settings(place)?;
    let home = home(place.data_dir.as_deref(), place.config.as_deref())?;
    block_on(async {
        let store = home.open_existing().await.map_err(anyhow::Error::from)?;
        let result = work(&store).await.map_err(|failure| Exit::new(Exit::FAILED, failure.to_string()));
        store.close().await;
        result
    })?
}

pub fn list(place: &Place, listed: &Listed) -> Outcome {
    let status = listed.status.as_deref().map(|word| {
        let known = || Status::ALL.map(Status::as_str).join(", ");
        let unknown = || Exit::new(Exit::USAGE, format!("`{word}` is no status of a job; there are {}", known()));
        Status::parse(word).ok_or_else(unknown)
    });
    let filter =
        Filter { status: status.transpose()?, key: None, part_of: listed.batch.clone(), internal: listed.internal };
    let jobs = with(place, async |store| store.queue().list(&filter, None, listed.limit).await)?;
    if place.json {
        return print(&serde_json::to_string_pretty(&jobs).map_err(anyhow::Error::from)?);
    }
    if jobs.is_empty() {
        return print("there are no such jobs");
    }
    let mut table = Table::new();
    // Never broken: ids are there to be copied.
    table.load_preset(presets::NOTHING);
    table.set_header(["ID", "KIND", "STATUS", "ATTEMPTS", "CREATED", "KEY", "ERROR"]);
    for job in &jobs {
        table.add_row([
            job.id.clone(),
            job.kind.as_str().to_owned(),
            job.status.as_str().to_owned(),
            format!("{}/{}", job.attempts, job.max_attempts),
            rfc3339(job.created_unix_ms).chars().take(19).collect(),
            job.key.clone().unwrap_or_default(),
            job.error.clone().unwrap_or_default(),
        ]);
    }
    print(&table.to_string())
}

pub fn show(place: &Place, id: &str) -> Outcome {
    let (job, events) = with(place, async |store| {
        let wanted = Wanted { subject: Some(id.to_owned()), ..Wanted::default() };
        Ok((store.queue().find(id).await?, store.log().behind(0, &wanted, MOST_EVENTS).await?))
    })?;
    let Some(job) = job else {
        return Err(Exit::new(
            Exit::FAILED,
            format!("there is no job `{id}`; `stepwell jobs list` shows those there are"),
        ));
    };
    if place.json {
        let shown = json!({"job": job, "events": events});
        return print(&serde_json::to_string_pretty(&shown).map_err(anyhow::Error::from)?);
    }
    let Job { kind, status, key, attempts, max_attempts, error, .. } = &job;
    let mut text = format!("{id}\n  {} {}, {attempts} of {max_attempts} attempts\n", status.as_str(), kind.as_str());
    for (name, value) in [("key", key), ("error", error)] {
        if let Some(value) = value {
            text.push_str(&format!("  {name}: {value}\n"));
        }
    }
    text.push('\n');
    for event in &events {
        let facts: Vec<String> = event.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        text.push_str(&format!("  {}  {:<16} {}\n", rfc3339(event.at_unix_ms), event.kind.as_str(), facts.join(" ")));
    }
    print(&text)
}

/// `dead` stands for every dead letter.
pub fn retry(place: &Place, ids: &[String]) -> Outcome {
    let ids = match ids {
        [word] if word == "dead" => {
            let filter = Filter { status: Some(Status::Dead), internal: true, ..Filter::default() };
            let dead = with(place, async |store| store.queue().list(&filter, None, AT_ONCE).await)?;
            if dead.is_empty() {
                return print("there are no dead letters");
            }
            dead.into_iter().map(|job| job.id).collect()
        }
        ids => ids.to_vec(),
    };
    obey(place, &ids, Order::Retry, "is queued again")
}

pub fn discard(place: &Place, ids: &[String]) -> Outcome {
    obey(place, ids, Order::Discard, "is discarded")
}

fn obey(place: &Place, ids: &[String], order: Order, done: &str) -> Outcome {
    let obeyed = with(place, async |store| {
        let queue = store.queue();
        let mut obeyed = Vec::with_capacity(ids.len());
        for id in ids {
            obeyed.push(queue.order(id, order).await?);
        }
        Ok(obeyed)
    })?;
    let mut failed = Vec::new();
    for (id, obeyed) in ids.iter().zip(obeyed) {
        match obeyed {
            Obeyed::Done(_) => print(&format!("{id} {done}"))?,
            Obeyed::Impossible(job) if job.part_of.is_some() => {
                failed.push(format!("{id} is a line of a batch, which is done again as a batch"));
            }
            Obeyed::Impossible(job) => failed.push(format!("{id} is {}; that cannot be done", job.status.as_str())),
            Obeyed::Unknown => failed.push(format!("there is no job `{id}`")),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Exit::new(Exit::FAILED, failed.join("\n"))) }
}
