//! `stepwell health`: whether a server lives, or can answer; for a container's health check.

use std::time::Duration;

use http::HeaderMap;

use super::{Exit, Outcome, block_on, print};
use crate::provider::transport::{Dial, Transport};

/// Less than any health check waits.
const PATIENCE: Duration = Duration::from_secs(2);

pub fn run(url: &str, ready: bool) -> Outcome {
    let path = if ready { "health/ready" } else { "health/live" };
    let url = format!("{}/{path}", url.trim_end_matches('/'));
    block_on(async {
        let transport = Transport::default();
        // Its certificate is for the name that callers use, not for this one.
        let dial = Dial { insecure_tls: true, ..Dial::from(PATIENCE) };
        let asked = tokio::time::timeout(PATIENCE, transport.get(&url, HeaderMap::new(), dial)).await;
        let incoming = asked.map_err(|_| "it does not answer".to_owned()).and_then(|answered| answered);
        match incoming {
            Ok(incoming) if incoming.status.is_success() => print("ok"),
            Ok(incoming) => Err(Exit::new(Exit::FAILED, format!("{url} answers {}", incoming.status.as_u16()))),
            Err(reason) => Err(Exit::new(Exit::FAILED, format!("{url}: {reason}"))),
        }
    })?
}
