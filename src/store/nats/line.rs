//! The connection, and the streams and consumers behind it: all there, or gone.
//!
//! A call that fails or is late ends the connection for everybody, and the keeper looks for NATS with growing pauses of
//! which half is drawn at random. The client's own reconnecting is not used: what stands behind a connection has to be
//! looked at whenever it comes back, and a frozen server keeps its connections.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, Stream};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use futures_util::StreamExt;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Delivery, Names};
use crate::config::{Login, Queue as Settings};
use crate::jobs::bell::Bell;
use crate::jobs::queue::Standing;
use crate::telemetry::metric::Metric;

/// How long one question may take.
pub const SLOW: Duration = Duration::from_secs(2);
/// Silent servers are noticed after two or three of these, also when nobody asks anything.
const PING: Duration = Duration::from_secs(5);
/// The first pause before NATS is looked for again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Messages on the way to the socket. Beyond that a job is not announced, and found by the sweep.
const ON_THE_WAY: usize = 8_192;
/// Jobs that wait longer in the stream are found in the store.
const OLDEST_MESSAGE: Duration = Duration::from_secs(24 * 3600);
/// What is published twice within this time is published once.
const TWICE_IS_ONCE: Duration = Duration::from_secs(120);
/// Messages of one lane in the hands of workers of all replicas.
const IN_HANDS: i64 = 100_000;

/// Best first. Each is a subject and a consumer.
pub const LANES: [&str; 3] = ["high", "normal", "low"];

/// The lane of a priority.
pub fn lane(priority: i16) -> &'static str {
    match priority {
        1.. => "high",
        0 => "normal",
        _ => "low",
    }
}

/// What is written in the configuration and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`queue.{what}` cannot be used: {reason}")]
pub struct Unusable {
    what: &'static str,
    reason: String,
}

pub struct Line {
    pub names: Names,
    servers: Vec<ServerAddr>,
    options: Box<dyn Fn() -> ConnectOptions + Send + Sync>,
    replicas: usize,
    delivery: Delivery,
    /// How long events are kept, if they are published.
    keep_events: Option<Duration>,
    up: ArcSwapOption<Up>,
    is_up: watch::Sender<bool>,
    lost: Notify,
    reason: Mutex<Option<String>>,
}

/// A connection with everything behind it.
pub struct Up {
    pub client: Client,
    pub context: Context,
    /// In the order of [`LANES`].
    pub lanes: Vec<Consumer<pull::Config>>,
    /// Who reads the log, and how far.
    pub posts: Stream<()>,
    ended: CancellationToken,
}

impl Line {
    pub fn new(
        settings: &Settings,
        names: Names,
        delivery: Delivery,
        keep_events: Option<Duration>,
    ) -> Result<Self, Unusable> {
        let unusable = |what, reason: String| Unusable { what, reason };
        let address =
            |url: &url::Url| ServerAddr::from_url(url.clone()).map_err(|_| unusable("url", "no address".into()));
        Ok(Self {
            names,
            servers: settings.servers.iter().map(address).collect::<Result<_, _>>()?,
            options: options(settings)?,
            replicas: settings.replicas,
            delivery,
            keep_events,
            up: ArcSwapOption::empty(),
            is_up: watch::Sender::new(false),
            lost: Notify::new(),
            reason: Mutex::new(Some("it was not found yet".to_owned())),
        })
    }

    pub fn up(&self) -> Option<Arc<Up>> {
        self.up.load_full()
    }

    pub fn standing(&self) -> Standing {
        Standing { is_up: *self.is_up.borrow(), reason: self.reason.lock().clone() }
    }

    /// Until it is there.
    pub async fn found(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.is_up.subscribe().wait_for(|is_up| *is_up).await;
    }

    /// Ends a connection, once.
    pub fn lose(&self, up: &Arc<Up>, reason: &str) {
        let before = self.up.compare_and_swap(up, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, up)) {
            *self.reason.lock() = Some(reason.to_owned());
            self.is_up.send_replace(false);
            self.lost.notify_one();
            metrics::counter!(Metric::QueueLost.name()).increment(1);
            tracing::warn!(reason, "NATS is gone; the store hands jobs out until it is back");
        }
    }

    /// Finds NATS, and finds it again, until `stop`. What was there then stays: workers may still have something to say.
    pub async fn keep(&self, bell: &Bell, stop: CancellationToken) {
        let mut pause = PAUSES.0;
        while !stop.is_cancelled() {
            let found = tokio::select! {
                () = stop.cancelled() => return,
                found = tokio::time::timeout(4 * SLOW, self.find()) => found,
            };
            match found {
                Ok(Ok(up)) => {
                    pause = PAUSES.0;
                    self.follow(&up, bell, &stop).await;
                }
                Ok(Err(reason)) => self.not_found(reason),
                Err(_) => self.not_found("it did not answer in time".to_owned()),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * random())) => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// The first failure of many is worth a line.
    fn not_found(&self, found: String) {
        let mut reason = self.reason.lock();
        if reason.as_ref() != Some(&found) {
            tracing::warn!(reason = found, "NATS cannot be used; it is looked for, and the store hands jobs out");
            *reason = Some(found);
        }
    }

    /// Rings for every job that is handed out, until the connection has ended.
    async fn follow(&self, up: &Arc<Up>, bell: &Bell, stop: &CancellationToken) {
        let Ok(mut announced) = up.client.subscribe(self.names.jobs("*")).await else {
            return self.lose(up, "it cannot be listened to");
        };
        // What was announced before somebody listened.
        bell.ring_work();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = up.ended.cancelled() => return self.lose(up, "the connection broke"),
                () = self.lost.notified() => return,
                message = announced.next() => match message {
                    Some(_) => bell.ring_work(),
                    None => return self.lose(up, "the connection broke"),
                },
            }
        }
    }

    async fn find(&self) -> Result<Arc<Up>, String> {
        let ended = CancellationToken::new();
        let end = ended.clone();
        let options = (self.options)().event_callback(move |event| {
            if matches!(event, Event::Disconnected | Event::Closed) {
                end.cancel();
            }
            std::future::ready(())
        });
        let client = options.connect(&self.servers[..]).await.map_err(|error| match error.kind() {
            async_nats::ConnectErrorKind::Io => "it cannot be reached".to_owned(),
            kind => kind.to_string(),
        })?;
        let context = ContextBuilder::new().timeout(SLOW).ack_timeout(SLOW).build(client.clone());
        let lanes = self.set_jobs_up(&context).await?;
        if let Some(keep) = self.keep_events {
            self.set_events_up(&context, keep).await?;
        }
        let posts = self.set_posts_up(&context).await?;
        // A loss that nobody waited for belongs to the connection before.
        let _ = futures_util::FutureExt::now_or_never(self.lost.notified());
        let up = Arc::new(Up { client, context, lanes, posts, ended });
        *self.reason.lock() = None;
        self.up.store(Some(up.clone()));
        self.is_up.send_replace(true);
        tracing::info!("NATS is there and hands jobs out");
        Ok(up)
    }

    /// One stream for everybody with our prefix, from which each message goes when a worker is done with it.
    async fn set_jobs_up(&self, context: &Context) -> Result<Vec<Consumer<pull::Config>>, String> {
        let name = format!("{}-jobs", self.names.prefix);
        let config = Config {
            name: name.clone(),
            subjects: vec![format!("{}.jobs.>", self.names.prefix)],
            retention: RetentionPolicy::WorkQueue,
            max_age: OLDEST_MESSAGE,
            duplicate_window: TWICE_IS_ONCE,
            num_replicas: self.replicas,
            ..Config::default()
        };
        context.create_or_update_stream(config).await.map_err(|error| format!("the stream `{name}`: {error}"))?;
        let mut lanes = Vec::with_capacity(LANES.len());
        for lane in LANES {
            let config = pull::Config {
                durable_name: Some(format!("{}-{lane}", self.names.scope)),
                filter_subject: self.names.jobs(lane),
                ack_policy: AckPolicy::Explicit,
                ack_wait: self.delivery.lease,
                // Once more than a job may be begun: whoever gets it then finds it dead in the store and takes it away.
                max_deliver: i64::from(self.delivery.max_attempts) + 1,
                max_ack_pending: IN_HANDS,
                ..pull::Config::default()
            };
            let made = context.create_consumer_on_stream(config, name.clone()).await;
            lanes.push(made.map_err(|error| format!("the consumer of `{name}`: {error}"))?);
        }
        Ok(lanes)
    }

    async fn set_events_up(&self, context: &Context, keep: Duration) -> Result<(), String> {
        let name = format!("{}-events", self.names.prefix);
        let config = Config {
            name: name.clone(),
            subjects: vec![self.names.events(">")],
            discard: DiscardPolicy::Old,
            max_age: keep,
            duplicate_window: TWICE_IS_ONCE.min(keep),
            num_replicas: self.replicas,
            ..Config::default()
        };
        let made = context.create_or_update_stream(config).await;
        made.map(drop).map_err(|error| format!("the stream `{name}`: {error}"))
    }

    /// One message for each scope: the newest.
    async fn set_posts_up(&self, context: &Context) -> Result<Stream<()>, String> {
        let name = format!("{}-posts", self.names.prefix);
        let config = Config {
            name: name.clone(),
            subjects: vec![format!("{}.posts.*", self.names.prefix)],
            max_messages_per_subject: 1,
            num_replicas: self.replicas,
            ..Config::default()
        };
        context.create_or_update_stream(config).await.map_err(|error| format!("the stream `{name}`: {error}"))?;
        context.get_stream_no_info(&name).await.map_err(|error| format!("the stream `{name}`: {error}"))
    }
}

/// Makes options anew for each connection. Files are read once, so that a mistake is found at the start.
fn options(settings: &Settings) -> Result<Box<dyn Fn() -> ConnectOptions + Send + Sync>, Unusable> {
    let unusable = |what, error: std::io::Error| Unusable { what, reason: error.to_string() };
    let login = settings.login.clone();
    let credentials = match &login {
        Login::Credentials(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| unusable("credentials", error))?;
            // What is wrong in it is not quoted: there is a key in it.
            if ConnectOptions::with_credentials(&text).is_err() {
                let reason = "it is no file with a JWT and its key".to_owned();
                return Err(Unusable { what: "credentials", reason });
            }
            Some(secrecy::SecretString::from(text))
        }
        _ => None,
    };
    if let Some(path) = &settings.ca {
        std::fs::metadata(path).map_err(|error| unusable("ca", error))?;
    }
    let ca = settings.ca.clone();
    Ok(Box::new(move || {
        let mut options = ConnectOptions::new()
            .name("stepwell")
            .connection_timeout(SLOW)
            .request_timeout(Some(SLOW))
            .ping_interval(PING)
            .client_capacity(ON_THE_WAY)
            .max_reconnects(1);
        options = match &login {
            Login::User(user, password) => options.user_and_password(user.clone(), password.expose_secret().to_owned()),
            Login::Token(token) => options.token(token.expose_secret().to_owned()),
            Login::Nobody | Login::Credentials(_) => options,
        };
        if let Some(credentials) = &credentials {
            // They could be read a moment ago.
            options = options.credentials(credentials.expose_secret()).unwrap_or_default();
        }
        match &ca {
            Some(path) => options.add_root_certificates(path.clone()),
            None => options,
        }
    }))
}

/// From 0 to 1.
fn random() -> f64 {
    uuid::Uuid::new_v4().as_u128() as f64 / u128::MAX as f64
}
