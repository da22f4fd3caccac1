//! Budgets and tokens per day, over all replicas: `accounts.lua`.

use std::sync::Arc;

use redis::{RedisResult, Value, from_redis_value};

use super::limits::number;
use super::line::Up;
use super::{Names, Redis, Scripts, odd};
use crate::admission::budget::Unit;
use crate::admission::budget::everywhere::{Handle, Own};
use crate::admission::shared::{Bound, Gone, Others, Seen, Stored, Verdict, Wish};
use crate::resilience::patience::Patience;

/// One account in one stretch: what began in it ends with it.
fn key(names: &Names, handle: &Handle) -> String {
    let account = &handle.account;
    let unit = match account.unit {
        Unit::Money => "money",
        Unit::Tokens => "tokens",
    };
    let (kind, name) = (account.scope.kind(), account.scope.name());
    let (period, start) = (account.period.as_str(), handle.stretch.start_ms);
    let length = handle.stretch.end_ms.saturating_sub(start);
    format!("{}:account:{unit}:{period}:{start}:{length}:{kind}:{name}", names.prefix)
}

/// Asks the script. The second result has what this replica had done in each account when it asked.
async fn ask(
    names: &Names,
    scripts: &Scripts,
    up: &Up,
    wishes: impl Iterator<Item = (&Handle, i64, Option<Bound>)>,
) -> RedisResult<(Vec<Value>, Vec<Own>)> {
    let mut call = scripts.accounts.prepare_invoke();
    call.key(names.terms()).key(names.awaited());
    call.arg(&*names.home).arg(names.term(up.term)).arg(&*names.ledger);
    let mut all = Vec::new();
    for (handle, amount, bound) in wishes {
        let Some(own) = handle.own() else {
            // Its time is over: an account that is not there any more takes the place of it.
            all.push(Own::default());
            call.key(format!("{}:account:over", names.prefix));
            call.arg("-").arg(0).arg(0).arg(0).arg(0).arg(0).arg(0).arg("none").arg(0).arg(0).arg(0);
            continue;
        };
        let (bound, limit) = match bound {
            None | Some(Bound::None) => ("none", 0),
            Some(Bound::All(limit)) => ("all", limit),
            Some(Bound::Some(limit)) => ("some", limit),
        };
        call.key(key(names, handle));
        call.arg(format!("{}.{}", names.process, own.number)).arg(handle.stretch.end_ms);
        for amount in [own.spent, own.spent.saturating_sub(own.settled), own.held, own.settled, own.released] {
            call.arg(amount.max(0));
        }
        call.arg(bound).arg(limit.max(0)).arg(amount.max(0));
        // Only a store that is new, or has forgotten, has no better knowledge.
        let fields = if own.stored.term == up.term { &[] } else { &*own.stored.fields };
        call.arg(2 * fields.len());
        for (name, value) in fields {
            call.arg(name).arg(value);
        }
        all.push(own);
    }
    Ok((call.invoke_async(&mut up.connection.clone()).await?, all))
}

pub(super) async fn hold(redis: &Redis, wishes: &[Wish], patience: &Patience) -> Result<Verdict, Gone> {
    let asked_in = redis.line.term();
    let (answer, own) = redis
        .line
        .ask(patience, redis.line.part_for_decisions(), async |up: Arc<Up>| {
            let wishes = wishes.iter().map(|wish| (&wish.account, wish.amount, Some(wish.bound)));
            ask(&redis.names, &redis.scripts, &up, wishes).await
        })
        .await?;
    let mut answer = answer.into_iter();
    match answer.next().and_then(number) {
        Some(1) => Ok(Verdict::Granted(granted(redis, answer, &own, asked_in)?)),
        // It has forgotten everything, and some have not told it yet what they know.
        Some(-2) => Err(Gone),
        Some(0) => {
            let index = answer.next().and_then(number).and_then(|index| usize::try_from(index).ok());
            let (Some(index), Some(fields)) = (index.filter(|index| *index < wishes.len()), answer.next()) else {
                return Err(odd());
            };
            let others = others(redis, fields, &own[index], asked_in).ok_or_else(odd)?;
            Ok(Verdict::Refused { index, seen: Seen { granted: 0, others } })
        }
        _ => Err(redis.line.forgotten(asked_in)),
    }
}

pub(super) async fn look(redis: &Redis, accounts: &[Handle], patience: &Patience) -> Result<Vec<Others>, Gone> {
    let asked_in = redis.line.term();
    let (answer, own) = redis
        .line
        .ask(patience, redis.line.part_for_decisions(), async |up: Arc<Up>| {
            ask(&redis.names, &redis.scripts, &up, accounts.iter().map(|handle| (handle, 0, None))).await
        })
        .await?;
    let mut answer = answer.into_iter();
    match answer.next().and_then(number) {
        Some(1) => Ok(granted(redis, answer, &own, asked_in)?.into_iter().map(|seen| seen.others).collect()),
        _ => Err(redis.line.forgotten(asked_in)),
    }
}

/// Whether this replica is known there.
pub(super) async fn tell(names: &Names, scripts: &Scripts, up: &Up, accounts: &[Handle]) -> RedisResult<bool> {
    let (answer, _) = ask(names, scripts, up, accounts.iter().map(|handle| (handle, 0, None))).await?;
    Ok(answer.into_iter().next().and_then(number) == Some(1))
}

/// Pairs of an amount and the fields of its account.
fn granted(redis: &Redis, mut answer: impl Iterator<Item = Value>, own: &[Own], term: u64) -> Result<Vec<Seen>, Gone> {
    let mut all = Vec::with_capacity(own.len());
    for own in own {
        let (Some(granted), Some(fields)) = (answer.next().and_then(number), answer.next()) else { return Err(odd()) };
        all.push(Seen { granted, others: others(redis, fields, own, term).ok_or_else(odd)? });
    }
    Ok(all)
}

/// What was not done here. What a replica held that is gone counts as spent until somebody knows better.
fn others(redis: &Redis, fields: Value, own: &Own, term: u64) -> Option<Others> {
    let fields: Vec<(String, String)> = from_redis_value(fields).ok()?;
    let replicas = redis.line.replicas();
    let mut others = Others::default();
    for (name, value) in &fields {
        if let Some(ledger) = name.strip_prefix("s:") {
            // A ledger that others write, too, knows more than this replica.
            let here = if ledger == &*redis.names.ledger { own.spent } else { 0 };
            others.spent = others.spent.saturating_add(value.parse::<i64>().ok()?.saturating_sub(here).max(0));
        } else if let Some(home) = name.strip_prefix("h:").filter(|home| *home != &*redis.names.home) {
            let held = value.parse::<i64>().ok()?.max(0);
            match replicas.iter().any(|replica| replica == home) {
                true => others.held = others.held.saturating_add(held),
                false => others.spent = others.spent.saturating_add(held),
            }
        }
    }
    others.stored = Stored { fields: fields.into(), term };
    Some(others)
}
