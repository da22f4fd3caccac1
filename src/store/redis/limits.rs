//! Requests and tokens per minute and requests at once, over all replicas: `limits.lua`.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisResult, Value, from_redis_value};

use super::desk::Ended;
use super::line::Up;
use super::{Names, Redis, Scripts, odd};
use crate::admission::rate::everywhere::Presence;
use crate::admission::rate::{Allowance, Limit, Who};
use crate::admission::shared::{Claim, Gone, Levels, Short};
use crate::resilience::patience::Patience;

fn key(names: &Names, who: &Who) -> String {
    match who {
        Who::Key(id) => format!("{}:limit:key:{id}", names.prefix),
        Who::Team(name) => format!("{}:limit:team:{name}", names.prefix),
        Who::Nobody(line) => format!("{}:limit:line:{line:x}", names.prefix),
    }
}

fn begin<'s>(names: &Names, scripts: &'s Scripts, up: &Up, what: &str) -> redis::ScriptInvocation<'s> {
    let mut call = scripts.limits.prepare_invoke();
    call.key(names.terms()).key(names.replicas());
    call.arg(&*names.home).arg(names.term(up.term)).arg(what);
    call
}

pub(super) async fn take(
    redis: &Redis,
    claims: &[Claim],
    patience: &Patience,
) -> Result<Result<Vec<Levels>, Short>, Gone> {
    let asked_in = redis.line.term();
    let answer: Vec<Value> = redis
        .line
        .ask(patience, redis.line.part_for_decisions(), async |up: Arc<Up>| {
            let mut call = begin(&redis.names, &redis.scripts, &up, "take");
            for Claim { allowance, tokens, presence } in claims {
                let Allowance { who, requests_per_minute, tokens_per_minute, concurrency, .. } = allowance;
                call.key(key(&redis.names, who));
                call.arg(requests_per_minute.unwrap_or(0)).arg(tokens_per_minute.unwrap_or(0));
                call.arg(concurrency.unwrap_or(0)).arg((*tokens).max(1));
                call.arg(presence.in_flight).arg(presence.version);
            }
            call.invoke_async(&mut up.connection.clone()).await
        })
        .await?;
    let mut answer = answer.into_iter();
    let Some(verdict) = answer.next().and_then(number) else { return Err(odd()) };
    match verdict {
        1 => {
            let levels: Vec<u64> = answer.filter_map(number).map(i64::unsigned_abs).collect();
            let pairs = levels.chunks_exact(2);
            let levels: Vec<_> = pairs.map(|pair| Levels { requests: pair[0], tokens: pair[1] }).collect();
            if levels.len() == claims.len() { Ok(Ok(levels)) } else { Err(odd()) }
        }
        0 => {
            let index = answer.next().and_then(number).and_then(|index| usize::try_from(index).ok());
            let limit = answer.next().and_then(|limit| from_redis_value::<String>(limit).ok());
            let limit = limit.and_then(|limit| match limit.as_str() {
                "requests" => Some(Limit::RequestsPerMinute),
                "tokens" => Some(Limit::TokensPerMinute),
                "concurrency" => Some(Limit::Concurrency),
                _ => None,
            });
            let wait = answer.next().and_then(number).map(|micros| Duration::from_micros(micros.unsigned_abs()));
            match (index.filter(|index| *index < claims.len()), limit, wait) {
                (Some(index), Some(limit), Some(retry_after)) => Ok(Err(Short { index, limit, retry_after })),
                _ => Err(odd()),
            }
        }
        _ => Err(redis.line.forgotten(asked_in)),
    }
}

/// Whether this replica is known there.
pub(super) async fn note(names: &Names, scripts: &Scripts, up: &Up, callers: &[Ended]) -> RedisResult<bool> {
    let mut call = begin(names, scripts, up, "note");
    for Ended { caller, tokens } in callers {
        let Presence { in_flight, version } = caller.presence();
        let (limit, more) = tokens.unwrap_or((0, 0));
        call.key(key(names, &caller.who));
        call.arg(0).arg(limit).arg(0).arg(more).arg(in_flight).arg(version);
    }
    let answer: Vec<Value> = call.invoke_async(&mut up.connection.clone()).await?;
    Ok(answer.into_iter().next().and_then(number) == Some(1))
}

pub(super) fn number(value: Value) -> Option<i64> {
    from_redis_value(value).ok()
}
