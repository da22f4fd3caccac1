//! What has arrived, and when.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde_json::{Map, Value, json};

/// Calls kept: enough for any test, bounded for a server that runs for days.
const KEPT: usize = 10_000;
/// Paths that are counted apart.
const PATHS: usize = 100;

/// One call as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    /// Request line and headers, in lower case.
    pub head: String,
    /// The body, `null` if it is not JSON.
    pub body: Value,
    /// When its head and body were complete.
    pub arrived: Instant,
    /// Which connection brought it, counted from 0.
    pub connection: u64,
}

impl Call {
    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()))
    }

    /// For people: who was called with what, and when after `began`. Credentials are not repeated.
    fn describe(&self, began: Instant) -> Value {
        let mut words = self.head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let is_secret = |name: &str| ["auth", "key", "token", "cookie"].iter().any(|word| name.contains(word));
        let shown = |(name, value): (&str, &str)| {
            let value = if is_secret(name) { "[hidden]" } else { value };
            (name.to_owned(), json!(value))
        };
        json!({
            "arrived_ms": self.arrived.saturating_duration_since(began).as_secs_f64() * 1000.0,
            "connection": self.connection,
            "method": method.to_uppercase(),
            "path": path,
            "headers": self.headers().map(shown).collect::<Map<_, _>>(),
            "body": self.body,
        })
    }
}

/// The latest calls and the number of all.
#[derive(Default)]
pub(super) struct Journal {
    latest: VecDeque<Call>,
    total: usize,
    /// How often each path was called; paths beyond [`PATHS`] are not told apart.
    by_path: BTreeMap<String, usize>,
}

impl Journal {
    pub fn push(&mut self, call: Call) {
        self.total += 1;
        let path = call.head.split(' ').nth(1).unwrap_or_default();
        if self.by_path.len() < PATHS || self.by_path.contains_key(path) {
            *self.by_path.entry(path.to_owned()).or_default() += 1;
        }
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back(call);
    }

    pub fn count(&self) -> usize {
        self.total
    }

    pub fn count_of(&self, path: &str) -> usize {
        self.by_path.iter().filter(|(known, _)| known.ends_with(path)).map(|(_, count)| count).sum()
    }

    pub fn calls(&self) -> impl DoubleEndedIterator<Item = &Call> {
        self.latest.iter()
    }

    /// The page `GET /calls`.
    pub fn page(&self, began: Instant) -> Value {
        let calls: Vec<Value> = self.latest.iter().map(|call| call.describe(began)).collect();
        json!({
            "now_ms": began.elapsed().as_secs_f64() * 1000.0,
            "count": self.total,
            "calls": calls,
        })
    }
}
