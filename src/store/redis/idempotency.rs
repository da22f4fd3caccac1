//! Idempotency keys over all replicas: `idempotency.lua`. What Redis forgets was never kept: it is as durable as Redis is.

use std::sync::Arc;

use dashmap::DashMap;
use redis::{RedisResult, Value, from_redis_value};

use super::desk::End;
use super::limits::number;
use super::line::Up;
use super::{Names, Redis, Scripts};
use crate::admission::idempotency::{Answer, Fingerprint, KEPT_FOR, Known, Memory, Place, Sealed, Unkept};
use crate::admission::shared::Gone;
use crate::resilience::patience::Patience;
use crate::telemetry::metric::Metric;

fn key(names: &Names, place: &Place) -> String {
    format!("{}:once:{}", names.prefix, blake3::Hash::from(*place).to_hex())
}

fn begin<'s>(
    names: &Names,
    scripts: &'s Scripts,
    up: &Up,
    place: &Place,
    what: &str,
    attempt: &str,
) -> redis::ScriptInvocation<'s> {
    let mut call = scripts.idempotency.prepare_invoke();
    call.key(names.terms()).key(names.replicas()).key(key(names, place));
    call.arg(&*names.home).arg(names.term(up.term)).arg(what).arg(attempt);
    call
}

/// Says how work on a key has ended. Whether this replica is known there.
pub(super) async fn end(
    names: &Names,
    scripts: &Scripts,
    up: &Up,
    place: &Place,
    attempt: &str,
    end: End,
) -> RedisResult<bool> {
    let what = match end {
        End::GivenUp => "give_up",
        End::Forgotten => "forget",
    };
    let call = begin(names, scripts, up, place, what, attempt);
    let answer: Vec<Value> = call.invoke_async(&mut up.connection.clone()).await?;
    Ok(answer.into_iter().next().and_then(number) == Some(1))
}

/// Attempts of this process that are under way.
pub(super) type Attempts = DashMap<Place, String>;

/// A mark that was perhaps made. Dropped before that is known, late or because the caller left, nobody would work on it.
struct Unheard<'a> {
    redis: &'a Redis,
    place: Place,
    attempt: Option<String>,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.redis.desk.leave_mark(self.place, attempt, End::Forgotten);
        }
    }
}

fn unkept(_: Gone) -> Unkept {
    metrics::counter!(Metric::SharedRefused.name()).increment(1);
    Unkept("the store that all replicas share is gone".to_owned())
}

impl Memory for Redis {
    fn begin(&self, place: Place, fingerprint: Fingerprint, _now_ms: i64) -> Answer<'_, Known> {
        Box::pin(async move {
            let attempt = uuid::Uuid::now_v7().simple().to_string();
            let patience = Patience::default();
            let asked_in = self.line.term();
            let mut unheard = Unheard { redis: self, place, attempt: Some(attempt.clone()) };
            let asked = self.line.ask(&patience, self.line.part_for_marks(), async |up: Arc<Up>| {
                let mut call = begin(&self.names, &self.scripts, &up, &place, "begin", &attempt);
                call.arg(fingerprint.as_slice()).arg(KEPT_FOR.as_millis() as u64);
                call.invoke_async::<Vec<Value>>(&mut up.connection.clone()).await
            });
            let answer = asked.await.map_err(unkept)?;
            unheard.attempt = None;
            let mut answer = answer.into_iter();
            let verdict = answer.next().and_then(number);
            let known: Option<Fingerprint> = answer
                .next()
                .and_then(|bytes| from_redis_value::<Vec<u8>>(bytes).ok())
                .and_then(|bytes| bytes.try_into().ok());
            let kept = answer.next().and_then(|bytes| from_redis_value::<Vec<u8>>(bytes).ok());
            match (verdict, known, kept) {
                (Some(0), ..) => {
                    self.attempts.insert(place, attempt);
                    Ok(Known::Nothing)
                }
                (Some(1), Some(fingerprint), _) => Ok(Known::Begun { fingerprint }),
                (Some(2), Some(fingerprint), Some(answer)) => {
                    Ok(Known::Answered { fingerprint, answer: Sealed(answer) })
                }
                (Some(3), Some(fingerprint), _) => Ok(Known::UnderWay { fingerprint }),
                _ => Err(unkept(self.line.forgotten(asked_in))),
            }
        })
    }

    fn keep(&self, place: Place, Sealed(answer): Sealed) -> Answer<'_, ()> {
        Box::pin(async move {
            let Some((_, attempt)) = self.attempts.remove(&place) else { return Ok(()) };
            if answer.len() > self.largest {
                self.desk.leave_mark(place, attempt, End::GivenUp);
                let message = format!("the answer is larger than `shared.largest_value` ({} bytes)", self.largest);
                return Err(Unkept(message));
            }
            let patience = Patience::default();
            let asked = self.line.ask(&patience, self.line.part_for_marks(), async |up: Arc<Up>| {
                let mut call = begin(&self.names, &self.scripts, &up, &place, "keep", &attempt);
                call.arg(answer.as_slice());
                call.invoke_async::<Vec<Value>>(&mut up.connection.clone()).await
            });
            match asked.await.map(|answer| answer.into_iter().next().and_then(number)) {
                Ok(Some(1)) => Ok(()),
                _ => {
                    self.desk.leave_mark(place, attempt, End::GivenUp);
                    Err(unkept(Gone))
                }
            }
        })
    }

    /// Whoever failed may be asked again at once: waited for, and told in the background where that fails.
    fn release(&self, place: Place) -> Answer<'_, ()> {
        Box::pin(async move {
            let Some((_, attempt)) = self.attempts.remove(&place) else { return Ok(()) };
            let patience = Patience::default();
            let asked = self.line.ask(&patience, self.line.part_for_marks(), async |up: Arc<Up>| {
                end(&self.names, &self.scripts, &up, &place, &attempt, End::Forgotten).await
            });
            if !matches!(asked.await, Ok(true)) {
                self.desk.leave_mark(place, attempt, End::Forgotten);
            }
            Ok(())
        })
    }

    fn abandon(&self, place: Place) {
        if let Some((_, attempt)) = self.attempts.remove(&place) {
            self.desk.leave_mark(place, attempt, End::GivenUp);
        }
    }
}
