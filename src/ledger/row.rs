//! A request's row as it is kept and shown: the JSON of `GET /v1/requests/{id}`.
//!
//! A [`Record`] is what the gateway makes, with shared pointers and an unwritten decision; a [`Row`] owns plain values
//! and can come from memory, from the store, or from a server's answer.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::record::{AttemptRow, CacheUse, Record, Status};
use super::usage::rfc3339;
use crate::money::NanoUsd;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    pub started_unix_ms: i64,
    /// The same moment, RFC 3339 in UTC.
    pub started: String,
    pub key: Option<String>,
    pub team: Option<String>,
    pub tier: Option<String>,
    pub tags: Vec<String>,
    pub asked_model: String,
    pub stream: bool,
    pub status: Status,
    pub http_status: u16,
    pub error: Option<String>,
    pub task: String,
    pub task_confidence: f64,
    pub strategy: String,
    pub provider: String,
    pub model: String,
    pub demo: bool,
    pub cache: CacheUse,
    pub attempts: Vec<AttemptRow>,
    pub failovers: u32,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub reasoning_tokens: u64,
    pub estimated_usage: bool,
    /// `null` if the model has no known price.
    pub cost_usd: Option<NanoUsd>,
    pub saved_by_cache_usd: Option<NanoUsd>,
    pub saved_by_routing_usd: Option<NanoUsd>,
    pub first_token_ms: Option<u64>,
    pub total_ms: u64,
    pub reason: String,
    /// The trace that it belongs to, in 32 hexadecimal digits; left out if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// What guards found, as names and counts (`mail=2`); left out if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<String>,
    /// `batch`: bought in a provider's own batch, at its lower price; left out for what was bought as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// The shape of `POST /v1/route`. Left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Box<RawValue>>,
}

impl Row {
    pub fn of(record: &Record) -> Self {
        let decision = record.decision.as_ref().map(|decision| decision.json());
        Self { decision: decision.and_then(|json| RawValue::from_string(json).ok()), ..Self::without_decision(record) }
    }

    /// For lists, where a decision is large and not shown.
    pub fn without_decision(record: &Record) -> Self {
        Self {
            id: record.id.to_string(),
            started_unix_ms: record.started_unix_ms,
            started: rfc3339(record.started_unix_ms),
            key: record.key.as_deref().map(str::to_owned),
            team: record.team.as_deref().map(str::to_owned),
            tier: record.tier.as_deref().map(str::to_owned),
            tags: tags(&record.tags),
            asked_model: record.asked_model.clone(),
            stream: record.stream,
            status: record.status,
            http_status: record.http_status,
            error: record.error.clone(),
            task: record.task.to_string(),
            task_confidence: record.task_confidence,
            strategy: record.strategy.to_owned(),
            provider: record.provider.to_string(),
            model: record.model.clone(),
            demo: record.demo,
            cache: record.cache,
            attempts: record.attempts.clone(),
            failovers: record.failovers,
            prompt_tokens: record.prompt_tokens,
            completion_tokens: record.completion_tokens,
            cached_tokens: record.cached_tokens,
            reasoning_tokens: record.reasoning_tokens,
            estimated_usage: record.estimated_usage,
            cost_usd: record.cost,
            saved_by_cache_usd: record.saved_by_cache,
            saved_by_routing_usd: record.saved_by_routing,
            first_token_ms: record.first_token_ms,
            total_ms: record.total_ms,
            reason: record.reason.clone(),
            trace_id: record.trace.as_ref().map(|trace| trace.id.to_string()),
            guards: Some(record.guards.clone()).filter(|guards| !guards.is_empty()),
            service_tier: record.service_tier.map(str::to_owned),
            decision: None,
        }
    }
}

/// From how they are kept.
pub fn tags(joined: &str) -> Vec<String> {
    joined.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}
