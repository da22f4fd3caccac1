//! What the database says afterwards, compared with what the upstream counted and what the kill left.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};
use sqlx::Row as _;

use super::{ANSWER_NANO_USD, ANSWER_TOKENS, Kind, PROMPT_TOKENS, Seen, WORST_NANO_USD};
use crate::support::Upstream;
use crate::support::process::Home;
use crate::support::servers::Postgres;

/// A request by its id and when it began: one that is begun twice is two.
type Begun = (String, i64);

/// What stands in the log of holds of a server that was killed.
#[derive(Default)]
pub struct Left {
    /// With what it cost, if that was known.
    holds: BTreeMap<Begun, Option<i64>>,
}

impl Left {
    pub fn of(home: &Home) -> Self {
        let text = std::fs::read_to_string(home.database().with_extension("holds")).unwrap_or_default();
        let mut left = Self::default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            for (what, hold) in line.as_object().expect("an object") {
                let id = hold["id"].as_str().expect("an id").to_owned();
                let begun = (id, hold["began_unix_ms"].as_i64().expect("a time"));
                left.holds.insert(begun, (what == "settled").then(|| hold["cost"].as_i64().unwrap_or(0)));
            }
        }
        left
    }
}

impl Left {
    /// How many requests of a key began at most a second before the last one.
    fn of_the_last_second(&self, key: &str) -> usize {
        let last = self.holds.keys().map(|(_, began)| *began).max().unwrap_or_default();
        let late = self.holds.keys().filter(|(id, began)| id.split('-').next() == Some(key) && *began > last - 1_000);
        late.count()
    }
}

#[derive(Debug)]
struct Row {
    begun: Begun,
    status: String,
    error: Option<String>,
    prompt_tokens: u64,
    completion_tokens: u64,
    is_estimated: bool,
    cost: Option<i64>,
}

pub struct Books {
    rows: Vec<Row>,
    /// Status and the kinds of events of each job.
    jobs: HashMap<String, (String, Vec<String>)>,
    /// Calls of the upstream by request.
    calls: BTreeMap<String, usize>,
    left: Left,
    /// What happened, for messages.
    said: String,
}

impl Books {
    pub async fn read(postgres: &Postgres, database: &str, one: &Upstream, left: Left, said: String) -> Self {
        let mut connection = postgres.connect(database).await;
        let read = "SELECT id, started_unix_ms, status, error, prompt_tokens, completion_tokens, estimated_usage, \
                    cost_nano_usd FROM request";
        let rows = sqlx::query(read).fetch_all(&mut connection).await.expect("rows");
        let rows = rows.iter().map(|row| Row {
            begun: (row.get(0), row.get(1)),
            status: row.get(2),
            error: row.get(3),
            prompt_tokens: row.get::<i64, _>(4) as u64,
            completion_tokens: row.get::<i64, _>(5) as u64,
            is_estimated: row.get(6),
            cost: row.get(7),
        });
        let rows = rows.collect();
        let read =
            "SELECT job.id, job.status, event.kind FROM job JOIN event ON event.subject = job.id ORDER BY event.seq";
        let mut jobs: HashMap<String, (String, Vec<String>)> = HashMap::new();
        for row in sqlx::query(read).fetch_all(&mut connection).await.expect("jobs") {
            let (_, kinds) = jobs.entry(row.get(0)).or_insert_with(|| (row.get(1), Vec::new()));
            kinds.push(row.get(2));
        }
        let mut calls: BTreeMap<String, usize> = BTreeMap::new();
        for call in one.calls() {
            let prompt = call.body["messages"][0]["content"].as_str().expect("a prompt");
            *calls.entry(prompt.split(' ').next().expect("an id").to_owned()).or_default() += 1;
        }
        assert_eq!(calls.values().sum::<usize>(), one.count(), "the upstream remembers every call");
        Self { rows, jobs, calls, left, said }
    }

    pub fn every_accepted_job_ended_once(&self, seen: &[Seen]) {
        let accepted: Vec<&Seen> =
            seen.iter().filter(|seen| seen.kind == Kind::Job && seen.status == Some(202)).collect();
        assert!(accepted.len() > 20, "{}: only {} were accepted", self.said, accepted.len());
        for Seen { id, .. } in accepted {
            assert!(self.jobs.contains_key(id), "{}: {id} is lost", self.said);
        }
        const ENDS: [&str; 5] = ["completed", "failed", "cancelled", "expired", "dead_lettered"];
        for (id, (status, kinds)) in &self.jobs {
            let ends = kinds.iter().filter(|kind| ENDS.contains(&kind.as_str())).count();
            assert_eq!((status.as_str(), ends), ("completed", 1), "{}: {id}: {kinds:?}", self.said);
        }
    }

    fn is_of_the_kill(row: &Row) -> bool {
        row.error.as_deref() == Some("router_stopped")
    }

    pub fn every_call_is_a_row_and_every_other_row_was_left_by_the_kill(&self) {
        let said = &self.said;
        let mut begun = BTreeSet::new();
        for row in &self.rows {
            assert!(begun.insert(&row.begun), "{said}: two rows of one request: {row:?}");
        }
        // What the kill left is a row each: at what is known, else at the most it can have cost.
        let adopted: BTreeMap<&Begun, &Row> =
            self.rows.iter().filter(|row| Self::is_of_the_kill(row)).map(|row| (&row.begun, row)).collect();
        for (begun, row) in &adopted {
            let hold = self.left.holds.get(*begun).unwrap_or_else(|| panic!("{said}: nobody left {row:?}"));
            let tokens = hold.map(|_| (PROMPT_TOKENS, ANSWER_TOKENS)).unwrap_or_default();
            let wanted = (Some(hold.unwrap_or(WORST_NANO_USD)), hold.is_none(), tokens);
            let found = (row.cost, row.is_estimated, (row.prompt_tokens, row.completion_tokens));
            assert_eq!(found, wanted, "{said}: {row:?}");
        }
        for (hold, cost) in self.left.holds.iter().filter(|(_, cost)| **cost != Some(0)) {
            assert!(begun.contains(hold), "{said}: {hold:?} at {cost:?} has no row");
        }
        // All others have what the upstream said, and there are as many of them as calls of the request.
        let (mut answered, mut unknown) = (HashMap::<&str, usize>::new(), HashMap::<&str, usize>::new());
        for row in &self.rows {
            let id = row.begun.0.as_str();
            let found = (row.prompt_tokens, row.completion_tokens, row.cost);
            if row.completion_tokens > 0 || row.status == "completed" {
                let wanted = (PROMPT_TOKENS, ANSWER_TOKENS, Some(ANSWER_NANO_USD));
                assert_eq!((found, row.is_estimated), (wanted, false), "{said}: {row:?}");
                *answered.entry(id).or_default() += 1;
            } else if Self::is_of_the_kill(row) {
                *unknown.entry(id).or_default() += 1;
            } else {
                assert!(matches!(row.cost, None | Some(0)) && row.prompt_tokens == 0, "{said}: {row:?}");
            }
        }
        let ids: BTreeSet<&str> =
            answered.keys().chain(unknown.keys()).copied().chain(self.calls.keys().map(String::as_str)).collect();
        let of = |counts: &HashMap<&str, usize>, id: &str| counts.get(id).copied().unwrap_or_default();
        for id in ids {
            let calls = self.calls.get(id).copied().unwrap_or_default();
            let (answered, unknown) = (of(&answered, id), of(&unknown, id));
            // Of one that was under way nobody knows whether it had been asked.
            assert!(
                (answered..=answered + unknown).contains(&calls),
                "{said}: {id} was asked {calls} times and has {answered} rows with an answer, {unknown} of the kill: {:?}",
                self.rows.iter().filter(|row| row.begun.0 == id).collect::<Vec<_>>()
            );
        }
    }

    /// Calls of the upstream for one key.
    pub fn calls_of(&self, key: &str) -> u64 {
        let own = self.calls.iter().filter(|(id, _)| id.split('-').next() == Some(key));
        own.map(|(_, calls)| *calls as u64).sum()
    }

    /// What the upstream was paid is within the budget, and the budget was used.
    pub fn budget_held(&self, key: &str, limit: i64) {
        let paid = self.calls_of(key) as i64 * ANSWER_NANO_USD;
        assert!(paid <= limit, "{}: {paid} of {limit}", self.said);
        let own = self.rows.iter().filter(|row| row.begun.0.split('-').next() == Some(key));
        let booked: i64 = own.filter_map(|row| row.cost).sum();
        println!("{key}: {paid} paid, {booked} booked of {limit}");
        // It may end early, never late: what the killed one had not told in its last second counts at its worst, and one
        // more that it had been granted and not yet written down.
        let untold = (self.left.of_the_last_second(key) as i64 + 1) * WORST_NANO_USD;
        assert!(booked <= limit && booked + WORST_NANO_USD + untold > limit, "{}: {booked} of {limit}", self.said);
    }

    /// What the upstream was asked for, in requests or tokens of so many a request, is within a limit per minute.
    pub fn limit_held(&self, key: &str, of_each: u64, bound: u64) {
        let taken = self.calls_of(key) * of_each;
        println!("{key}: {taken} of {bound}");
        assert!((1..=bound).contains(&taken), "{}: {key} took {taken} of {bound}", self.said);
    }

    /// The reports, told anew from rows and events, say what the rows say.
    pub fn agree_with(&self, code: Option<i32>, told: &Value) {
        let sum = |amount: fn(&Row) -> u64| self.rows.iter().map(amount).sum::<u64>();
        let wanted = json!([self.rows.len(), sum(|row| row.prompt_tokens), sum(|row| row.completion_tokens)]);
        let usage = &told["usage"];
        assert_eq!(code, Some(0), "{}: {told}", self.said);
        assert_eq!(json!([usage["requests"], usage["prompt_tokens"], usage["completion_tokens"]]), wanted, "{told}");
        let cost = sum(|row| row.cost.unwrap_or(0) as u64) as f64 / 1e9;
        assert!((usage["cost_usd"].as_f64().expect("a cost") - cost).abs() < 1e-9, "{cost}: {told}");
        let done = self.jobs.values().filter(|(status, _)| status == "completed").count();
        assert_eq!((&told["jobs"]["completed"], &told["jobs_differing"]), (&json!(done), &json!([])), "{told}");
    }
}
