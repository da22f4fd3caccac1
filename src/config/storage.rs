//! `storage`: where usage, decisions and keys are kept.
//!
//! The address of a database has a password in it. It is read here and by the driver, and shown nowhere: messages name the
//! user, the host and the database.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::problem::closest;
use super::reader::{Item, Section, set};

/// Where usage, decisions and keys are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// SQLite in the data directory.
    #[default]
    Embedded,
    /// SQLite in this file.
    Sqlite(PathBuf),
    /// A PostgreSQL server, which several servers of ours may share.
    Postgres(PostgresUrl),
}

/// The address of a PostgreSQL database.
#[derive(Clone)]
pub struct PostgresUrl {
    secret: SecretString,
    shown: String,
    /// Connections at most, of this server alone. 2 to 100. Rows take one, reports and look-ups the others: more than ten
    /// only help where many idempotency keys are sent, and a database has a limit that all servers share (100, as shipped).
    pub connections: u32,
}

impl PostgresUrl {
    /// As it is written, password included. For the driver only.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// For people: `user@host:5432/database`.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.secret.expose_secret() == other.secret.expose_secret() && self.connections == other.connections
    }
}

impl Eq for PostgresUrl {}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({})", self.shown)
    }
}

/// What may follow the `?` of an address. The driver knows more, some of which would hide a password from us.
const PARAMETERS: [&str; 6] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "application_name", "options"];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const CONNECTIONS: u32 = 8;

pub(super) fn storage(mut section: Section<'_>) -> Storage {
    let mut connections = CONNECTIONS;
    let written = section.get("connections");
    set(&mut connections, written.as_ref().and_then(|item| item.count(2..=100)).map(|count| count as u32));
    let url = section.get("url").and_then(|item| Some((item.clone(), item.text()?)));
    section.finish();
    let storage = match &url {
        None => Storage::Embedded,
        Some((item, url)) => chosen(item, url, connections),
    };
    if let Some(item) = written.filter(|_| url.is_none() || matches!(storage, Storage::Sqlite(_))) {
        item.problem("only a database server has connections to share; leave it out");
    }
    storage
}

/// The default after a problem, which is reported.
fn chosen(item: &Item<'_>, url: &str, connections: u32) -> Storage {
    if url == "sqlite" {
        return Storage::Embedded;
    }
    if let Some(path) = url.strip_prefix("sqlite://") {
        if path.is_empty() {
            item.problem("`sqlite://` names no file; write sqlite or sqlite:///path/to/file.db");
        }
        return Storage::Sqlite(PathBuf::from(path));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return match postgres(item, url) {
            Some(shown) => Storage::Postgres(PostgresUrl { secret: url.to_owned().into(), shown, connections }),
            None => Storage::Embedded,
        };
    }
    let known = "write sqlite, sqlite:///path/to/file.db or postgres://user:password@host/database";
    item.problem(format!("{} is not a storage; {known}", item.shown()));
    Storage::Embedded
}

/// The address without its password; `None` after a problem. No message quotes it: what looks like a host may be the end of
/// a password with a `/` in it.
fn postgres(item: &Item<'_>, text: &str) -> Option<String> {
    let form = "write postgres://user:password@host:5432/database, with %2F for a / in a password, %40 for a @";
    let Ok(url) = Url::parse(text) else {
        item.problem(format!("the address of the database cannot be read; {form}"));
        return None;
    };
    let host = url.host_str().filter(|host| !host.is_empty());
    let database = url.path().trim_matches('/');
    for (missing, what) in [(host.is_none(), "host"), (database.is_empty(), "database")] {
        if missing {
            item.problem(format!("the address names no {what}; {form}"));
        }
    }
    if host.is_some_and(|host| host.contains(',')) {
        item.problem("the address names several hosts; name one, for instance of a balancer in front of them");
    }
    for (name, value) in url.query_pairs() {
        if !PARAMETERS.contains(&&*name) {
            let suggestion = closest(&name, PARAMETERS);
            let known = PARAMETERS.join(", ");
            item.suggest(format!("the address has a parameter that is not known here; known: {known}"), suggestion);
        } else if name == "sslmode" && !SSL_MODES.contains(&&*value) {
            let known = SSL_MODES.join(", ");
            item.suggest(format!("`sslmode` of the address is one of {known}"), closest(&value, SSL_MODES));
        }
    }
    let host = host.filter(|host| !host.contains(',') && !database.contains('/'))?;
    let user = if url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
    let port = url.port().unwrap_or(5432);
    Some(format!("{user}{host}:{port}/{database}"))
}
