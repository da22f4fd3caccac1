//! Telling a caller's server how a request ended: signed, tried again for about an hour, and only where an operator allows
//! it.
//!
//! Signatures follow the Standard Webhooks specification (standardwebhooks.com): `webhook-id`, `webhook-timestamp`,
//! `webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::Desk;
use super::carry_out::{again, failed, store_failed};
use super::work::Work;
use crate::events::log::Note;
use crate::jobs::job::{Claimed, End, Job, Kind, New};
use crate::jobs::settings::Webhooks;
use crate::ledger::usage::rfc3339;

/// Delivers the end of the request that a webhook's job belongs to.
pub(super) async fn deliver(desk: &Desk, claimed: &Claimed) -> End {
    let Some(parent) = &claimed.job.part_of else { return deliver_note(desk, claimed).await };
    let found = async { Ok((desk.kept.queue.find(parent).await?, desk.kept.queue.contents(parent).await?)) };
    let (job, request) = match found.await {
        Ok((Some(job), Some((request, _)))) => (job, request),
        Ok(_) => return failed("no_request", "the request is not kept any more"),
        Err(failure) => return store_failed(&failure),
    };
    let work = desk.open(parent, &request).and_then(Work::from_bytes);
    let Some(url) = work.and_then(|work| work.webhook) else {
        return failed("unreadable", "the webhook's address cannot be opened");
    };
    send(desk, claimed, &url, told(&job).to_string().into_bytes()).await
}

/// Delivers what an operator wants to be told.
async fn deliver_note(desk: &Desk, claimed: &Claimed) -> End {
    let opened = desk.open(&claimed.job.id, &claimed.request);
    match opened.and_then(|opened| serde_json::from_slice::<(String, String)>(&opened).ok()) {
        Some((url, body)) => send(desk, claimed, &url, body.into_bytes()).await,
        None => failed("unreadable", "the webhook's address cannot be opened"),
    }
}

impl Desk {
    /// Has an event told to whom `anomalies.webhook` names.
    pub async fn tell_operators(&self, note: &Note) {
        let rules = self.gateway.rules();
        let Some(url) = &rules.settings.anomalies.webhook else { return };
        let id = format!("note_{}", uuid::Uuid::now_v7().simple());
        let data = json!({"subject": note.subject, "facts": note.facts});
        let said = json!({"type": note.kind.as_str(), "timestamp": rfc3339(note.at_unix_ms), "data": data});
        let sealed = serde_json::to_vec(&(url, said.to_string())).ok().and_then(|plain| self.seal(&id, &plain).ok());
        let Some(request) = sealed else { return };
        let job = New {
            id,
            kind: Kind::Webhook,
            key: None,
            part_of: None,
            priority: 0,
            not_before_unix_ms: None,
            expires_unix_ms: None,
            max_attempts: rules.settings.jobs.max_attempts,
            request,
            webhook: false,
            carried_by: None,
        };
        if let Err(failure) = self.kept.queue.submit(&[job]).await {
            tracing::error!(error = %failure, "an anomaly cannot be told");
        }
        self.bell.ring_work();
    }
}

/// Sends a body, if that is allowed.
async fn send(desk: &Desk, claimed: &Claimed, url: &str, body: Vec<u8>) -> End {
    let pause_ms = desk.pause_ms(claimed.job.attempts);
    match desk.deliver(&claimed.job.id, url, body).await {
        Ok(status) if (200..300).contains(&status) => End::Completed { http_status: status, result: Vec::new() },
        // Gone, in the specification's words: it wants no more.
        Ok(410) => End::Failed {
            http_status: Some(410),
            error: "gone: the server wants no more".to_owned(),
            result: Vec::new(),
        },
        Ok(status) => again("refused", &format!("the server answered {status}"), Some(status), pause_ms, Vec::new()),
        Err(Undelivered::NotAllowed(reason)) => failed("webhook_not_allowed", &reason),
        Err(Undelivered::Unreachable(reason)) => again("unreachable", &reason, None, pause_ms, Vec::new()),
    }
}

/// Why nobody has answered a delivery; a sentence each.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    #[error("{0}")]
    NotAllowed(String),
    #[error("{0}")]
    Unreachable(String),
}

impl Desk {
    /// Posts a body, signed, where an operator allows it now. Returns the answer's status; `id` is the same whenever the same
    /// is told again.
    pub async fn deliver(&self, id: &str, url: &str, body: Vec<u8>) -> Result<u16, Undelivered> {
        let rules = self.gateway.rules();
        let settings = &rules.settings.webhooks;
        // An operator may have thought better of it since.
        let target = check(url, settings).map_err(Undelivered::NotAllowed)?;
        let now = jiff::Timestamp::now().as_second();
        let mut headers = signed(id, now, &body, settings.secret.as_ref());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let permitted = |address: IpAddr| target.is_private || is_public(address);
        let transport = &self.gateway.dispatcher.transport;
        let delivered = transport.deliver_outside(url, headers, body, settings.timeout.0, permitted).await;
        delivered.map_err(Undelivered::Unreachable)
    }
}

/// What is said: how it ended and where the answer is, not the answer.
fn told(job: &Job) -> serde_json::Value {
    let at = job.ended_unix_ms.unwrap_or(job.created_unix_ms);
    json!({
        "type": format!("request.{}", job.status.as_str()),
        "timestamp": rfc3339(at),
        "data": {
            "request_id": job.id,
            "status": job.status,
            "http_status": job.http_status,
            "error": job.error,
            "attempts": job.attempts,
            "status_url": format!("/v1/requests/{}", job.id),
        },
    })
}

fn signed(id: &str, timestamp: i64, body: &[u8], secret: Option<&SecretString>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("webhook-id", id.to_owned());
    put("webhook-timestamp", timestamp.to_string());
    if let Some(secret) = secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key(secret.expose_secret()));
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        put("webhook-signature", format!("v1,{}", STANDARD.encode(context.sign().as_ref())));
    }
    headers
}

/// `whsec_` and base64, as the specification writes secrets; any other text is taken as it is.
fn key(secret: &str) -> Vec<u8> {
    let encoded = secret.trim().strip_prefix("whsec_");
    encoded.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_else(|| secret.trim().as_bytes().to_vec())
}

/// Where a delivery may go.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// An operator has named exactly this place, so it may lie inside.
    is_private: bool,
}

/// Whether a webhook may go there; else why not. `allow` has hosts (`hooks.example.com`, `*.example.com`: by HTTPS, at
/// public addresses) and whole origins (`http://127.0.0.1:9000`: exactly those, wherever they are).
pub fn check(url: &str, settings: &Webhooks) -> Result<Target, String> {
    let shown: String = url.chars().take(100).collect();
    let uri: Uri = url.parse().map_err(|_| format!("`{shown}` is no URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("`{shown}` is no URL with scheme and host"));
    };
    if authority.as_str().contains('@') {
        return Err("a webhook's URL has no user name".to_owned());
    }
    let origin = format!("{scheme}://{authority}").to_ascii_lowercase();
    let host = authority.host().to_ascii_lowercase();
    let named = settings.allow.iter().find_map(|allowed| {
        let allowed = allowed.to_ascii_lowercase();
        if allowed.contains("://") {
            return (allowed.trim_end_matches('/') == origin).then_some(Target { is_private: true });
        }
        let matches = match allowed.strip_prefix("*.") {
            Some(parent) => host.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => allowed == host,
        };
        let is_plain = scheme != "https" || authority.port_u16().is_some_and(|port| port != 443);
        (matches && !is_plain).then_some(Target { is_private: false })
    });
    named.ok_or_else(|| {
        format!("webhooks to `{origin}` are not allowed; an operator can allow them under `webhooks.allow`")
    })
}

/// Not this machine, not its network, nothing special.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || (a == 100 && (64..128).contains(&b)) // shared address space, RFC 6598
                || (a == 192 && b == 0)
                || (a == 198 && (18..20).contains(&b)) // benchmarks, RFC 2544
                || a >= 240)
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            // Global unicast only, without what leads to other networks: Teredo, 6to4, NAT64, documentation.
            (0x2000..0x4000).contains(&first)
                && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
                && first != 0x2002
                && first != 0x3fff
        }
    }
}

/// The longest time that a delivery may take.
pub const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    fn allow(list: &[&str]) -> Webhooks {
        let allow = list.iter().map(|entry| (*entry).to_owned()).collect();
        Webhooks { allow, secret: None, timeout: Span(LONGEST) }
    }

    #[test]
    fn only_what_an_operator_named_is_told() {
        let hosts = allow(&["hooks.example.com", "*.corp.example", "http://127.0.0.1:9000"]);
        for url in ["https://hooks.example.com/a?b=c", "https://HOOKS.example.com", "https://a.b.corp.example:443/"] {
            assert_eq!(check(url, &hosts), Ok(Target { is_private: false }), "{url}");
        }
        assert_eq!(check("http://127.0.0.1:9000/hook", &hosts), Ok(Target { is_private: true }));
        for url in [
            "http://hooks.example.com/",
            "https://hooks.example.com:8443/",
            "https://example.com/",
            "https://corp.example/",
            "https://evilcorp.example/",
            "https://hooks.example.com.evil.org/",
            "https://hooks.example.com@evil.org/",
            "https://evil.org/#hooks.example.com",
            "http://127.0.0.1:9001/",
            "http://127.0.0.1/",
            "ftp://hooks.example.com/",
            "hooks.example.com",
            "",
        ] {
            assert!(check(url, &hosts).is_err(), "{url}");
        }
        assert!(check("https://hooks.example.com/", &allow(&[])).is_err(), "nothing by default");
    }

    #[test]
    fn addresses_inside_are_not_public_however_they_are_written() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert!(!is_public(inside.parse().expect("an address")), "{inside}");
        }
        for outside in ["1.1.1.1", "93.184.216.34", "2606:4700::1111"] {
            assert!(is_public(outside.parse().expect("an address")), "{outside}");
        }
    }

    /// The example of the specification, computed by its reference library.
    #[test]
    fn a_signature_is_the_one_that_the_specification_asks_for() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into();
        let headers = signed("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#, Some(&secret));
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
