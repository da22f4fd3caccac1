//! Sums over many rows: what a report's line is made of, and what a store keeps per hour and day.
//!
//! Everything is an integer and every part is added independently, so sums of sums equal the sum of the rows, in any
//! order and grouping.

use super::latency::Latency;
use super::record::{BATCH_TIER, CacheUse, Record, Status};
use crate::money::NanoUsd;

/// What rows are grouped by. An empty word: nothing was decided, or no key was needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels {
    pub provider: String,
    pub model: String,
    pub task: String,
    pub key: String,
    pub team: String,
    pub tier: String,
    /// Comma separated.
    pub tags: String,
    pub strategy: String,
    pub status: String,
    pub demo: bool,
}

impl Labels {
    pub fn of(record: &Record) -> Self {
        Self {
            provider: record.provider.to_string(),
            model: record.model.clone(),
            task: record.task.to_string(),
            key: record.key.as_deref().unwrap_or_default().to_owned(),
            team: record.team.as_deref().unwrap_or_default().to_owned(),
            tier: record.tier.as_deref().unwrap_or_default().to_owned(),
            tags: record.tags.to_string(),
            strategy: record.strategy.to_owned(),
            status: record.status.as_str().to_owned(),
            demo: record.demo,
        }
    }
}

/// What one row adds to the sums.
#[derive(Clone, Debug)]
pub struct Facts {
    pub status: Status,
    pub cache: CacheUse,
    pub failovers: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub estimated_usage: bool,
    pub cost: Option<NanoUsd>,
    pub saved_by_cache: Option<NanoUsd>,
    pub saved_by_routing: Option<NanoUsd>,
    pub first_token_ms: Option<u64>,
    pub total_ms: u64,
    /// It waited in a provider's own batch: nobody's latency.
    pub batched: bool,
}

impl Facts {
    pub fn of(record: &Record) -> Self {
        Self {
            status: record.status,
            cache: record.cache,
            failovers: record.failovers.into(),
            prompt_tokens: record.prompt_tokens,
            completion_tokens: record.completion_tokens,
            cached_tokens: record.cached_tokens,
            estimated_usage: record.estimated_usage,
            cost: record.cost,
            saved_by_cache: record.saved_by_cache,
            saved_by_routing: record.saved_by_routing,
            first_token_ms: record.first_token_ms,
            total_ms: record.total_ms,
            batched: record.service_tier == Some(BATCH_TIER),
        }
    }
}

/// Tokens that a provider was paid for: answers from the cache and shared ones are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bought {
    /// Requests that used any tokens.
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub requests: u64,
    pub errors: u64,
    pub cache_hits: u64,
    pub failovers: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub estimated_usage_requests: u64,
    /// Of the requests whose price is known.
    pub cost: NanoUsd,
    pub unpriced_requests: u64,
    pub saved_by_cache: NanoUsd,
    pub saved_by_routing: NanoUsd,
    pub bought: Bought,
    pub first_token: Latency,
    /// Of completed requests only: a fast refusal must not make anything look fast.
    pub total: Latency,
}

impl Cell {
    pub fn add(&mut self, facts: &Facts) {
        self.requests += 1;
        self.errors += u64::from(facts.status.is_error());
        self.cache_hits += u64::from(facts.cache == CacheUse::Hit);
        self.failovers += facts.failovers;
        self.prompt_tokens += facts.prompt_tokens;
        self.completion_tokens += facts.completion_tokens;
        self.cached_tokens += facts.cached_tokens;
        self.estimated_usage_requests += u64::from(facts.estimated_usage);
        self.cost += facts.cost.unwrap_or_default();
        self.unpriced_requests += u64::from(facts.cost.is_none());
        self.saved_by_cache += facts.saved_by_cache.unwrap_or_default();
        self.saved_by_routing += facts.saved_by_routing.unwrap_or_default();
        if facts.cache.is_bought() && facts.prompt_tokens + facts.completion_tokens > 0 {
            self.bought.requests += 1;
            self.bought.prompt_tokens += facts.prompt_tokens;
            self.bought.completion_tokens += facts.completion_tokens;
            self.bought.cached_tokens += facts.cached_tokens;
        }
        if let Some(first_token_ms) = facts.first_token_ms {
            self.first_token.record(first_token_ms);
        }
        if facts.status == Status::Completed && !facts.batched {
            self.total.record(facts.total_ms);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.numbers_mut().into_iter().zip(other.numbers()) {
            *mine += theirs;
        }
        self.cost += other.cost;
        self.saved_by_cache += other.saved_by_cache;
        self.saved_by_routing += other.saved_by_routing;
        self.first_token.merge(&other.first_token);
        self.total.merge(&other.total);
    }

    /// The known cost; `None` if there is nothing known to show: some requests have no price and the others cost nothing.
    pub fn known_cost(&self) -> Option<NanoUsd> {
        (self.unpriced_requests == 0 || self.cost != NanoUsd::ZERO).then_some(self.cost)
    }

    /// A compact form for a store: a version, then variable-length integers.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for number in self.numbers() {
            push(&mut bytes, number);
        }
        for money in [self.cost, self.saved_by_cache, self.saved_by_routing] {
            push(&mut bytes, u64::try_from(money.0).unwrap_or(0));
        }
        for latency in [&self.first_token, &self.total] {
            push(&mut bytes, latency.buckets().len() as u64);
            for (bucket, count) in latency.buckets() {
                push(&mut bytes, u64::from(*bucket));
                push(&mut bytes, *count);
            }
        }
        bytes
    }

    /// `None` if the bytes are not an encoded cell of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, mut rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        let mut cell = Self::default();
        for number in cell.numbers_mut() {
            *number = pull(&mut rest)?;
        }
        for money in [&mut cell.cost, &mut cell.saved_by_cache, &mut cell.saved_by_routing] {
            money.0 = i64::try_from(pull(&mut rest)?).ok()?;
        }
        for latency in [&mut cell.first_token, &mut cell.total] {
            for _ in 0..pull(&mut rest)? {
                let bucket = u16::try_from(pull(&mut rest)?).ok()?;
                latency.add(bucket, pull(&mut rest)?);
            }
        }
        rest.is_empty().then_some(cell)
    }

    fn numbers(&self) -> [u64; 13] {
        [
            self.requests,
            self.errors,
            self.cache_hits,
            self.failovers,
            self.prompt_tokens,
            self.completion_tokens,
            self.cached_tokens,
            self.estimated_usage_requests,
            self.unpriced_requests,
            self.bought.requests,
            self.bought.prompt_tokens,
            self.bought.completion_tokens,
            self.bought.cached_tokens,
        ]
    }

    /// In the order of [`Cell::numbers`].
    fn numbers_mut(&mut self) -> [&mut u64; 13] {
        [
            &mut self.requests,
            &mut self.errors,
            &mut self.cache_hits,
            &mut self.failovers,
            &mut self.prompt_tokens,
            &mut self.completion_tokens,
            &mut self.cached_tokens,
            &mut self.estimated_usage_requests,
            &mut self.unpriced_requests,
            &mut self.bought.requests,
            &mut self.bought.prompt_tokens,
            &mut self.bought.completion_tokens,
            &mut self.bought.cached_tokens,
        ]
    }
}

/// Of the encoding. A store that finds another one rebuilds its projection.
const VERSION: u8 = 1;

/// Seven bits per byte, low ones first; the high bit says that more follow.
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(cost: Option<i64>, total_ms: u64) -> Facts {
        Facts {
            status: Status::Completed,
            cache: CacheUse::Miss,
            failovers: 1,
            prompt_tokens: 1_000,
            completion_tokens: 200,
            cached_tokens: 300,
            estimated_usage: true,
            cost: cost.map(NanoUsd),
            saved_by_cache: None,
            saved_by_routing: Some(NanoUsd(77)),
            first_token_ms: Some(total_ms / 2),
            total_ms,
            batched: false,
        }
    }

    #[test]
    fn a_cell_survives_its_encoding() {
        let mut cell = Cell::default();
        assert_eq!(Cell::decode(&cell.encode()), Some(cell.clone()));
        for total_ms in [0, 5, 130, 131, 90_000] {
            cell.add(&facts(Some(i64::MAX / 8), total_ms));
        }
        cell.add(&facts(None, 12));
        assert_eq!(Cell::decode(&cell.encode()), Some(cell.clone()));
        let bytes = cell.encode();
        for cut in 0..bytes.len() {
            assert_eq!(Cell::decode(&bytes[..cut]), None);
        }
    }

    #[test]
    fn an_unknown_price_is_not_zero() {
        let mut cell = Cell::default();
        cell.add(&facts(None, 1));
        assert_eq!((cell.known_cost(), cell.unpriced_requests), (None, 1));
        cell.add(&facts(Some(5), 1));
        assert_eq!((cell.known_cost(), cell.unpriced_requests), (Some(NanoUsd(5)), 1));
    }

    #[test]
    fn a_hit_buys_nothing() {
        let mut cell = Cell::default();
        cell.add(&Facts { cache: CacheUse::Hit, ..facts(Some(0), 1) });
        assert_eq!((cell.prompt_tokens, cell.cache_hits, cell.bought.clone()), (1_000, 1, Bought::default()));
    }
}
