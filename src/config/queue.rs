//! `queue` and `events`: NATS JetStream, which hands jobs out and is told of events, both from the start on; and a webhook that
//! is told of events, which a reload may change.
//!
//! The address may have a password or a token in it. It is read here and by the client, and shown nowhere: messages name
//! hosts and ports.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::reader::{Item, Section, set};
use crate::events::Kind;
use crate::units::Span;

/// What hands jobs out to the workers of all replicas.
#[derive(Clone)]
pub struct Queue {
    /// Servers of one cluster, without credentials: `nats://host:4222`, or `tls://`.
    pub servers: Vec<Url>,
    pub login: Login,
    /// Whom to trust by TLS, as PEM. `None`: whom the machine trusts.
    pub ca: Option<PathBuf>,
    /// How the names of streams and subjects begin. Letters, digits, `_`, `-`. Routers with the same one work together.
    pub prefix: String,
    /// Servers of the cluster that keep a copy of what is handed out and published. 1 to 5.
    pub replicas: usize,
}

/// How we say who we are.
#[derive(Clone)]
pub enum Login {
    Nobody,
    User(String, SecretString),
    Token(SecretString),
    /// A file with a JWT and its key, as `nsc` writes it.
    Credentials(PathBuf),
}

impl Queue {
    fn all(&self) -> impl PartialEq {
        let login = match &self.login {
            Login::Nobody => (0, String::new(), String::new()),
            Login::User(user, password) => (1, user.clone(), password.expose_secret().to_owned()),
            Login::Token(token) => (2, String::new(), token.expose_secret().to_owned()),
            Login::Credentials(path) => (3, path.display().to_string(), String::new()),
        };
        (self.servers.clone(), login, self.ca.clone(), self.prefix.clone(), self.replicas)
    }
}

impl PartialEq for Queue {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<&str> = self.servers.iter().map(Url::as_str).collect();
        f.debug_struct("Queue").field("servers", &servers).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Who else is told of events.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// To NATS, subject `<prefix>.events.<kind>`. Needs `queue.url`.
    pub publish: bool,
    /// How long NATS keeps what was published. 1m to 365d.
    pub keep: Span,
    /// Also told in pieces, in order.
    pub webhook: Option<EventsWebhook>,
}

/// A server that is told of events.
#[derive(Clone, Debug, PartialEq)]
pub struct EventsWebhook {
    /// Must be allowed under `webhooks.allow`.
    pub url: String,
    /// Empty: all.
    pub kinds: Vec<Kind>,
}

impl Default for Events {
    fn default() -> Self {
        Self { publish: false, keep: Span(7 * DAY), webhook: None }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const FORM: &str = "write nats://user:password@host:4222, nats://token@host or tls://host, with %2F for a / in a password, \
     %40 for a @ and %2C for a comma";

pub(super) fn events(mut section: Section<'_>, has_queue: bool) -> Events {
    let mut events = Events::default();
    let publish = section.get("publish");
    set(&mut events.publish, publish.as_ref().and_then(Item::flag));
    if let Some(item) = publish.filter(|_| events.publish && !has_queue) {
        item.problem("events are published to NATS; say where it is under `queue.url`");
    }
    set(&mut events.keep, section.span("keep", MINUTE..=365 * DAY));
    events.webhook = section.section("webhook").and_then(webhook);
    section.finish();
    events
}

fn webhook(mut section: Section<'_>) -> Option<EventsWebhook> {
    let url = section.get("url");
    if url.is_none() {
        section.problem("needs `url`, the address that is told");
    }
    let url = url.and_then(|item| item.text().map(str::to_owned));
    let listed = section.get("kinds").and_then(|item| item.texts("a list of kinds of events")).unwrap_or_default();
    let kinds = listed.into_iter().filter_map(|(item, word)| {
        let kind = Kind::parse(word);
        if kind.is_none() {
            item.unknown("kind of event", word, Kind::ALL.iter().map(|kind| kind.as_str()));
        }
        kind
    });
    let kinds = kinds.collect();
    section.finish();
    Some(EventsWebhook { url: url?, kinds })
}

/// `None` without a URL, or after a problem with it.
pub(super) fn queue(mut section: Section<'_>) -> Option<Queue> {
    let written = section.get("url").filter(|item| !item.is_emptied());
    let addressed = written.as_ref().and_then(|item| addresses(item, item.text()?));
    let credentials = section.get("credentials").filter(|item| !item.is_emptied());
    let ca = section.text("ca").map(PathBuf::from);
    let mut prefix = "stepwell".to_owned();
    set(&mut prefix, section.get("prefix").and_then(|item| self::prefix(&item)));
    let replicas = section.count("replicas", 1..=5).map_or(1, |count| count.0 as usize);
    section.finish();
    let (servers, mut login) = addressed?;
    if let Some(item) = credentials {
        if !matches!(login, Login::Nobody) {
            item.problem("the address says who we are already; leave one of them out");
        }
        login = Login::Credentials(PathBuf::from(item.text()?));
    }
    Some(Queue { servers, login, ca, prefix, replicas })
}

/// Dots would be levels of subjects, and are not allowed in names of streams.
fn prefix(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
        item.problem("use 1 to 64 letters, digits, `_` or `-`");
        return None;
    }
    Some(text.to_owned())
}

/// Servers and who we are there. No message quotes the text: what looks like a host may be the end of a password.
fn addresses(item: &Item<'_>, text: &str) -> Option<(Vec<Url>, Login)> {
    let mut login = Login::Nobody;
    let mut servers = Vec::new();
    for one in text.split(',') {
        let Ok(mut url) = Url::parse(one.trim()) else {
            item.problem(format!("the address of NATS cannot be read; {FORM}"));
            return None;
        };
        let is_bare = url.query().is_none() && url.fragment().is_none() && matches!(url.path(), "" | "/");
        if !["nats", "tls"].contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) || !is_bare {
            item.problem(format!("is no address of NATS; {FORM}"));
            return None;
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        match (url.username(), url.password()) {
            ("", _) => {}
            (user, Some(password)) => login = Login::User(decoded(user), decoded(password).into()),
            (token, None) => login = Login::Token(decoded(token).into()),
        }
        // What has a host can be without credentials.
        if url.set_username("").and(url.set_password(None)).is_err() {
            return None;
        }
        servers.push(url);
    }
    Some((servers, login))
}
