//! Answers of all replicas, for whom they are: the name of a key says nothing, and only who would ask the same can read it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Redis;
use super::line::Up;
use crate::cache::key::Key;
use crate::cache::{Found, Second};
use crate::resilience::patience::Patience;
use crate::tenant::seal::Seal;

impl Redis {
    fn name(&self, key: &Key) -> String {
        let name = self.pepper.digest(&format!("cache name {}", hex(&key.0)));
        format!("{}:answer:{}", self.names.prefix, hex(&name.0))
    }

    /// Derived from the request itself, its caller included: another caller's request opens nothing.
    fn seal(&self, key: &Key) -> Seal {
        Seal::derive(&self.pepper, &format!("cached answer {}", hex(&key.0)))
    }
}

impl Second for Redis {
    fn get<'a>(
        &'a self,
        key: &'a Key,
        patience: &'a Patience,
    ) -> Pin<Box<dyn Future<Output = Option<Found>> + Send + 'a>> {
        Box::pin(async move {
            let name = self.name(key);
            let asked = self.line.ask(patience, self.line.part_for_decisions(), async |up: Arc<Up>| {
                let mut pipe = redis::pipe();
                pipe.cmd("GET").arg(&name).cmd("PTTL").arg(&name);
                pipe.query_async::<(Option<Vec<u8>>, i64)>(&mut up.connection.clone()).await
            });
            let (sealed, left_ms) = asked.await.ok()?;
            let bytes = self.seal(key).open(&key.0, &sealed?, self.largest.saturating_mul(64))?;
            let left = Duration::from_millis(u64::try_from(left_ms).ok()?);
            Some(Found { bytes, left })
        })
    }

    fn put(&self, key: &Key, bytes: Vec<u8>, ttl: Duration) {
        if self.line.term() == 0 {
            return;
        }
        if let Some(sealed) = self.seal(key).seal(&key.0, &bytes).filter(|sealed| sealed.len() <= self.largest) {
            self.desk.put(self.name(key), sealed, ttl);
        }
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from(*bytes).to_hex().to_string()
}
