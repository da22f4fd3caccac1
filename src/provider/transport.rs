//! The network: the only user of reqwest.
//!
//! Redirects are never followed (a credential must not travel), compressed answers are opened by the client and
//! counted after expansion, and dropping an [`Incoming`] closes the upstream request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use http::{HeaderMap, StatusCode};
use rustix::io::Errno;

use secrecy::SecretString;
use tokio::time::Instant;

use super::adapter::Outgoing;
use super::batches::Call;
use super::credential::{self, Token};
use super::demo::{End, Script};
use super::failure::{Failure, FailureKind};
use crate::catalog::{Identity, ServiceAccount};

/// An answer longer than this after expansion is not read to its end (faults A17, B08).
pub const MAX_ANSWER_BYTES: usize = 64 << 20;

/// When a shortage of descriptors or ports may be over: requests end all the time.
const LOCAL_PAUSE: Duration = Duration::from_secs(1);

/// Idle upstream connections are kept this long; most servers close theirs after 60 to 120 s.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// How a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dial {
    /// TCP and TLS handshake together.
    pub connect: Duration,
    /// Whoever answers is believed to be the provider, whatever its certificate says.
    pub insecure_tls: bool,
    /// A new connection, though there may be kept ones.
    pub fresh: bool,
}

/// Certificates are checked unless somebody says otherwise.
impl From<Duration> for Dial {
    fn from(connect: Duration) -> Self {
        Self { connect, insecure_tls: false, fresh: false }
    }
}

/// Connection pools, one per runtime and way to connect: a connection is served by the runtime that opened it, and using
/// it from another one costs a wake-up across cores. Outlives reloads.
#[derive(Default)]
pub struct Transport {
    clients: DashMap<(tokio::runtime::Id, Dial), reqwest::Client>,
    /// Parsed addresses: there are as many as targets, and parsing one takes longer than classifying a short prompt.
    addresses: DashMap<String, Arc<Address>>,
    /// Access tokens, by the fingerprint of their account.
    tokens: DashMap<[u8; 32], Arc<tokio::sync::Mutex<Held>>>,
}

struct Address {
    url: reqwest::Url,
    /// It has answered: connections to it may be kept.
    answered: AtomicBool,
}

/// What is known of one account's token. Locked while the token is fetched, so that one caller fetches it for all.
#[derive(Default)]
struct Held {
    token: Option<Token>,
    failed: Option<(Instant, Failure)>,
}

/// The runtime's clock ticks so often: shorter waits would take this long, or longer.
const TICK: Duration = Duration::from_millis(1);

/// Enough for an access token.
const TOKEN_BYTES: usize = 64 << 10;

/// Addresses beyond this come from many reloads: they are parsed anew.
const MAX_ADDRESSES: usize = 10_000;

/// An answer whose head has arrived.
pub struct Incoming {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Body,
    received: usize,
    /// Of the body, in bytes.
    most: usize,
}

enum Body {
    Http(reqwest::Response),
    Script(Script),
}

impl Transport {
    /// Sends a request and waits for the head of the answer. No deadline but the connect timeout: the caller sets it by
    /// dropping the future, which closes the connection.
    pub async fn send(&self, outgoing: Outgoing, dial: impl Into<Dial>) -> Result<Incoming, Failure> {
        if let Some(mut script) = outgoing.script {
            script.wait_for_head().await?;
            let (status, headers) = (script.status, script.headers.clone());
            return Ok(Incoming { status, headers, body: Body::Script(script), received: 0, most: MAX_ANSWER_BYTES });
        }
        let (address, dial) = (self.address(&outgoing.url)?, dial.into());
        let client = self.client(dial)?;
        let request = client.post(address.url.clone()).headers(outgoing.headers).body(outgoing.body);
        let mut response = request.send().await.map_err(|error| {
            let failure = failure(&error);
            match failure.kind {
                FailureKind::Reset if dial.fresh => address.answered.store(false, Ordering::Relaxed),
                FailureKind::Reset if address.answered.load(Ordering::Relaxed) => {
                    let message = "the connection broke; it may have been kept too long";
                    return Failure::new(FailureKind::StaleConnection, message);
                }
                _ => {}
            }
            failure
        })?;
        if !address.answered.load(Ordering::Relaxed) {
            address.answered.store(true, Ordering::Relaxed);
        }
        let headers = std::mem::take(response.headers_mut());
        Ok(Incoming {
            status: response.status(),
            headers,
            body: Body::Http(response),
            received: 0,
            most: MAX_ANSWER_BYTES,
        })
    }

    /// Gets ready to send from this runtime: the first request need not read the system's certificates, and cannot fail
    /// because there is no descriptor left to read them.
    pub fn prepare(&self, dial: Dial) {
        if let Err(failure) = self.client(dial) {
            tracing::error!("{}", failure.message);
        }
    }

    /// Proves who we are: signs the request as of `now`, or puts an access token into it, fetched if need be.
    pub async fn authorize(
        &self,
        outgoing: &mut Outgoing,
        identity: &Identity,
        now: SystemTime,
        connect: Duration,
    ) -> Result<(), Failure> {
        match identity {
            Identity::Aws(keys) => credential::sign(outgoing, keys, now),
            Identity::Google(account) => {
                let token = self.access_token(account, now, connect).await?;
                credential::bear(outgoing, &token)
            }
        }
    }

    /// Drops an access token that a provider refused.
    pub fn forget(&self, identity: &Identity) {
        if let Identity::Google(account) = identity {
            self.tokens.remove(&credential::fingerprint(account));
        }
    }

    async fn access_token(
        &self,
        account: &ServiceAccount,
        now: SystemTime,
        connect: Duration,
    ) -> Result<SecretString, Failure> {
        let asked = Instant::now();
        let held = self.tokens.entry(credential::fingerprint(account)).or_default().clone();
        let mut held = held.lock().await;
        if let Some(token) = held.token.as_ref().filter(|token| now < token.good_until) {
            return Ok(token.secret.clone());
        }
        // Whoever waited for a try that failed shares its failure, or they would all try one after the other.
        if let Some((_, failure)) = held.failed.as_ref().filter(|(failed, _)| *failed >= asked) {
            return Err(failure.clone());
        }
        match self.fetch_token(account, now, connect).await {
            Ok(token) => {
                let secret = token.secret.clone();
                *held = Held { token: Some(token), failed: None };
                Ok(secret)
            }
            Err(failure) => {
                held.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    async fn fetch_token(
        &self,
        account: &ServiceAccount,
        now: SystemTime,
        connect: Duration,
    ) -> Result<Token, Failure> {
        let incoming = self.send(credential::token_request(account, now)?, connect).await?;
        let status = incoming.status;
        credential::token(status, &incoming.head(TOKEN_BYTES).await, now)
    }

    /// The models that a local OpenAI-compatible server lists; `None` if nothing answers within `deadline`.
    pub async fn list_models(&self, base_url: &str, headers: HeaderMap, deadline: Duration) -> Option<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        #[derive(serde::Deserialize)]
        struct Model {
            id: String,
        }
        let request = self
            .client(deadline.into())
            .ok()?
            .get(format!("{}/models", base_url.trim_end_matches('/')))
            .headers(headers)
            .timeout(deadline);
        let body = request.send().await.ok()?.error_for_status().ok()?.bytes().await.ok()?;
        let list: List = serde_json::from_slice(&body).ok()?;
        Some(list.data.into_iter().map(|model| model.id).collect())
    }

    /// The status with which a provider answers the cheapest question there is, the list of its models.
    pub async fn probe(&self, base_url: &str, headers: HeaderMap, dial: impl Into<Dial>) -> Result<u16, Failure> {
        let url = format!("{}/models", base_url.trim_end_matches('/'));
        let dial = dial.into();
        let request = self.client(dial)?.get(url).headers(headers).timeout(dial.connect);
        request.send().await.map(|response| response.status().as_u16()).map_err(|error| failure(&error))
    }

    /// A small document, such as an issuer's public keys: at most `limit` bytes, within `deadline`. The error is a
    /// sentence for the log.
    pub async fn document(&self, url: &str, deadline: Duration, limit: usize) -> Result<Bytes, String> {
        let client = self.client(deadline.into()).map_err(|failure| failure.message)?;
        let mut response = client.get(url).timeout(deadline).send().await.map_err(|error| failure(&error).message)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("it answers {}", status.as_u16()));
        }
        let mut whole = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| failure(&error).message)? {
            whole.extend_from_slice(&piece);
            if whole.len() > limit {
                return Err(format!("it is longer than {limit} bytes"));
            }
        }
        Ok(whole.into())
    }

    /// Posts what nobody asked for, such as telemetry, and returns the answer's status and the start of its body.
    pub async fn deliver(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = self.client(limit.into())?.post(url).headers(headers).body(body).timeout(limit);
        let mut response = request.send().await.map_err(|error| failure(&error))?;
        let headers = std::mem::take(response.headers_mut());
        let incoming = Incoming {
            status: response.status(),
            headers,
            body: Body::Http(response),
            received: 0,
            most: MAX_ANSWER_BYTES,
        };
        Ok((incoming.status, incoming.head(TOKEN_BYTES).await))
    }

    /// Posts a body that comes in pieces, and waits for the head of the answer. There is a deadline for the connection
    /// alone: the caller sets others by dropping the future.
    pub async fn upload<E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static>(
        &self,
        url: &str,
        headers: HeaderMap,
        body: impl futures_util::Stream<Item = Result<Bytes, E>> + Send + 'static,
        connect: Duration,
    ) -> Result<Incoming, String> {
        let client = self.client(connect.into()).map_err(|failure| failure.message)?;
        let request = client.post(url).headers(headers).body(reqwest::Body::wrap_stream(body));
        Self::begun(request).await
    }

    /// Asks for a document of any length, to be read as it comes.
    pub async fn get(&self, url: &str, headers: HeaderMap, dial: impl Into<Dial>) -> Result<Incoming, String> {
        let client = self.client(dial.into()).map_err(|failure| failure.message)?;
        Self::begun(client.get(url).headers(headers)).await
    }

    /// Asks for something that is not an answer of a model, such as a batch. There is a deadline for the connection alone: the
    /// caller sets others by dropping the future.
    pub async fn call(&self, call: Call, dial: impl Into<Dial>) -> Result<Incoming, Failure> {
        let address = self.address(&call.url)?;
        let client = self.client(dial.into())?;
        let request = client.request(call.method, address.url.clone()).headers(call.headers).body(call.body);
        Self::sent(request).await
    }

    /// The same with a body that comes in pieces, `length` bytes in all. An error among them breaks the request off.
    pub async fn call_with(
        &self,
        mut call: Call,
        body: impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        length: u64,
        dial: impl Into<Dial>,
    ) -> Result<Incoming, Failure> {
        call.headers.insert(http::header::CONTENT_LENGTH, length.into());
        let address = self.address(&call.url)?;
        let client = self.client(dial.into())?;
        let request = client.request(call.method, address.url.clone()).headers(call.headers);
        Self::sent(request.body(reqwest::Body::wrap_stream(body))).await
    }

    async fn begun(request: reqwest::RequestBuilder) -> Result<Incoming, String> {
        Self::sent(request).await.map_err(|failure| failure.message)
    }

    async fn sent(request: reqwest::RequestBuilder) -> Result<Incoming, Failure> {
        let mut response = request.send().await.map_err(|error| failure(&error))?;
        let headers = std::mem::take(response.headers_mut());
        Ok(Incoming {
            status: response.status(),
            headers,
            body: Body::Http(response),
            received: 0,
            most: MAX_ANSWER_BYTES,
        })
    }

    /// Posts to an address that a caller chose, and returns the answer's status. The host's name is looked up once, every
    /// address that it has must be permitted, and the connection goes to one of those: a name that leads elsewhere a moment
    /// later leads nowhere. No redirect is followed and no proxy used. The error is a sentence.
    pub async fn deliver_outside(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
        limit: Duration,
        permitted: impl Fn(IpAddr) -> bool,
    ) -> Result<u16, String> {
        let url = reqwest::Url::parse(url).map_err(|_| "its address is no URL".to_owned())?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err("its address has no host".to_owned());
        };
        let deliver = async {
            let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let found = tokio::net::lookup_host((name, port)).await;
            let found: Vec<SocketAddr> = found.map_err(|_| "its host is not known".to_owned())?.collect();
            if found.is_empty() || !found.iter().all(|address| permitted(address.ip())) {
                return Err("its host has no address that may be reached".to_owned());
            }
            let client = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .resolve_to_addrs(host, &found)
                .user_agent(concat!("stepwell/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| format!("the HTTP client cannot start: {error}"))?;
            let sent = client.post(url.clone()).headers(headers).body(body).send().await;
            sent.map(|response| response.status().as_u16()).map_err(|error| failure(&error).message)
        };
        tokio::time::timeout(limit, deliver)
            .await
            .unwrap_or_else(|_| Err(format!("it did not answer within {limit:?}")))
    }

    fn address(&self, text: &str) -> Result<Arc<Address>, Failure> {
        if let Some(address) = self.addresses.get(text) {
            return Ok(address.clone());
        }
        let url = reqwest::Url::parse(text)
            .map_err(|_| Failure::new(FailureKind::Connect, "the provider's address is not a valid URL"))?;
        if self.addresses.len() >= MAX_ADDRESSES {
            self.addresses.clear();
        }
        let address = Arc::new(Address { url, answered: AtomicBool::new(false) });
        self.addresses.insert(text.to_owned(), address.clone());
        Ok(address)
    }

    fn client(&self, dial: Dial) -> Result<reqwest::Client, Failure> {
        let place = (tokio::runtime::Handle::current().id(), dial);
        if let Some(client) = self.clients.get(&place) {
            return Ok(client.clone());
        }
        let client = reqwest::Client::builder()
            .connect_timeout(dial.connect)
            .tls_danger_accept_invalid_certs(dial.insecure_tls)
            .redirect(reqwest::redirect::Policy::none())
            // Whether to try again is the dispatcher's decision alone.
            .retry(reqwest::retry::never())
            // Without it the kernel holds back small writes: 40 ms on the first token.
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(if dial.fresh { 0 } else { 1024 })
            .user_agent(concat!("stepwell/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::new(FailureKind::Local, format!("the HTTP client cannot start: {error}")))?;
        Ok(self.clients.entry(place).or_insert(client).clone())
    }
}

impl Incoming {
    /// The next bytes of the body, `None` at its end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let piece = match &mut self.body {
            Body::Http(response) => response.chunk().await.map_err(|error| failure(&error)).transpose()?,
            Body::Script(script) => script.next().await?,
        };
        let piece = piece.map_err(|failure| match failure.kind {
            FailureKind::Timeout => failure,
            _ => Failure::new(FailureKind::Interrupted, failure.message),
        });
        if let Ok(bytes) = &piece {
            self.received += bytes.len();
            if self.received > self.most {
                return Some(Err(Failure::malformed("the answer is larger than 64 MiB")));
            }
        }
        Some(piece)
    }

    /// The body is a file, which may be longer than any answer.
    pub fn unbounded(&mut self) {
        self.most = usize::MAX;
    }

    /// The whole body.
    pub async fn collect(mut self) -> Result<Bytes, Failure> {
        let Some(first) = self.next().await else { return Ok(Bytes::new()) };
        let first = first?;
        let Some(second) = self.next().await else { return Ok(first) };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second?);
        while let Some(piece) = self.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(whole.freeze())
    }

    /// The start of the body, at most `limit` bytes: enough of an error answer. A broken body gives what came.
    pub async fn head(mut self, limit: usize) -> Bytes {
        let mut head = BytesMut::new();
        while let Some(Ok(piece)) = self.next().await {
            head.extend_from_slice(&piece);
            if head.len() >= limit {
                head.truncate(limit);
                break;
            }
        }
        head.freeze()
    }

    /// The media type without parameters, in lower case.
    pub fn media_type(&self) -> String {
        let value =
            self.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

/// What a client error means. Addresses stay out of the message: it may reach a caller.
fn failure(error: &reqwest::Error) -> Failure {
    let causes = || std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    if let Some(shortage) = causes().find_map(shortage) {
        return Failure {
            retry_after: Some(LOCAL_PAUSE),
            ..Failure::new(FailureKind::Local, format!("no connection: {shortage}"))
        };
    }
    if error.is_connect() {
        let last = causes().last().map(ToString::to_string).unwrap_or_default();
        let detail = if error.is_timeout() { "timed out".to_owned() } else { last };
        return Failure::new(FailureKind::Connect, format!("no connection: {detail}"));
    }
    if error.is_timeout() {
        return Failure::new(FailureKind::Timeout, "the provider did not answer in time");
    }
    if error.is_decode() {
        return Failure::malformed("the answer cannot be decoded");
    }
    if error.is_builder() {
        return Failure::new(FailureKind::Connect, "the provider's address is not a valid URL");
    }
    Failure::new(FailureKind::Reset, "the connection broke")
}

/// What this machine lacks, if that is the cause: it says nothing about the provider.
fn shortage(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let code = cause.downcast_ref::<std::io::Error>()?.raw_os_error()?;
    match Errno::from_raw_os_error(code) {
        Errno::MFILE | Errno::NFILE => Some("no file descriptor is left"),
        Errno::ADDRNOTAVAIL => Some("no local port is left"),
        Errno::NOBUFS | Errno::NOMEM => Some("no memory is left for it"),
        _ => None,
    }
}

impl Script {
    async fn wait_for_head(&mut self) -> Result<(), Failure> {
        if self.head_after >= TICK {
            tokio::time::sleep(self.head_after).await;
        }
        if self.steps.is_empty() && self.end == End::Reset {
            return Err(Failure::new(FailureKind::Reset, "the connection broke"));
        }
        if self.steps.is_empty() && self.end == End::Stall {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if let Some((wait, _)) = self.steps.front()
            && *wait >= TICK
        {
            // An instant, kept: a call that is cancelled and made again must not start the wait anew.
            let due = *self.due.get_or_insert_with(|| tokio::time::Instant::now() + *wait);
            tokio::time::sleep_until(due).await;
            self.due = None;
        }
        if let Some((_, bytes)) = self.steps.pop_front() {
            return Some(Ok(bytes));
        }
        match self.end {
            End::Close => None,
            End::Reset => Some(Err(Failure::new(FailureKind::Interrupted, "the connection broke"))),
            End::Stall => std::future::pending().await,
        }
    }
}
