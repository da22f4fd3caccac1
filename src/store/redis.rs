//! Redis behind the ports that replicas share: limits, budgets, idempotency keys, answers. All of Redis is here.
//!
//! Every decision is one script, and so atomic; keys begin with one tag, so that a script touches one slot. `line` has the
//! connection and says within the time that a request may wait whether there is one; `desk` tells Redis in the background
//! what need not be waited for. A thread of its own drives both, so that no request and no save of the ledger holds them up.

mod accounts; // budgets and tokens per day
mod cache; // the second level
mod desk; // what is told later
mod idempotency; // marks and answers of idempotency keys
mod limits; // requests, tokens and places
mod line; // the connection

use std::sync::Arc;
use std::time::Duration;

use redis::Script;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admission::budget;
use crate::admission::rate;
use crate::admission::shared::{Answer, Claim, Counters, Gone, Levels, Others, Short, Standing, Verdict, Wish};
use crate::config::Shared as Settings;
use crate::resilience::patience::Patience;
use crate::tenant::secret::Pepper;
use desk::Desk;
use line::Line;

/// How long the end of the process waits for what is still to be told.
const FAREWELL: Duration = Duration::from_secs(2);

/// The shared store. Share it behind an `Arc`.
pub struct Redis {
    line: Arc<Line>,
    desk: Arc<Desk>,
    names: Names,
    scripts: Arc<Scripts>,
    pepper: Pepper,
    /// Idempotency keys that are worked on.
    attempts: idempotency::Attempts,
    /// Longest value, in bytes as it is kept.
    largest: usize,
    thread: std::thread::JoinHandle<()>,
    stop: CancellationToken,
}

/// Who we are, and how keys begin.
#[derive(Clone, Debug)]
struct Names {
    /// In braces: all keys of scripts are in one slot of a cluster.
    prefix: Arc<str>,
    /// The replica: the same after a restart on the same data.
    home: Arc<str>,
    /// Whose rows say what was spent. Replicas with a ledger in common have this in common.
    ledger: Arc<str>,
    /// This process.
    process: Arc<str>,
}

impl Names {
    fn terms(&self) -> String {
        format!("{}:terms", self.prefix)
    }

    fn replicas(&self) -> String {
        format!("{}:replicas", self.prefix)
    }

    /// Those that have not yet told what they know since everything was forgotten.
    fn awaited(&self) -> String {
        format!("{}:awaited", self.prefix)
    }

    /// What is written into Redis of a term.
    fn term(&self, term: u64) -> String {
        format!("{}.{term}", self.process)
    }
}

struct Scripts {
    presence: Script,
    accounts: Script,
    limits: Script,
    idempotency: Script,
}

impl Scripts {
    fn new() -> Self {
        Self {
            presence: Script::new(include_str!("redis/presence.lua")),
            accounts: Script::new(include_str!("redis/accounts.lua")),
            limits: Script::new(include_str!("redis/limits.lua")),
            idempotency: Script::new(include_str!("redis/idempotency.lua")),
        }
    }
}

/// What no connection could be made with, without the URL: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("`shared.{what}` cannot be used: {reason}")]
pub struct Unusable {
    what: &'static str,
    reason: String,
}

impl Redis {
    /// Begins to look for the store; nothing waits for it. `home` names this replica, `ledger` its ledger.
    pub fn start(settings: &Settings, home: &str, ledger: &str, pepper: Pepper) -> anyhow::Result<Self> {
        let names = Names {
            prefix: format!("{{{}}}", settings.prefix).into(),
            home: home.into(),
            ledger: ledger.into(),
            process: uuid::Uuid::new_v4().simple().to_string()[..16].into(),
        };
        let scripts = Arc::new(Scripts::new());
        let line = Arc::new(Line::new(settings, names.clone(), scripts.clone())?);
        let desk = Arc::new(Desk::default());
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work =
            desk::Work { line: line.clone(), desk: desk.clone(), names: names.clone(), scripts: scripts.clone() };
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("stepwell-shared".to_owned());
        let thread = thread.spawn(move || runtime.block_on(work.run(stopped)))?;
        let largest = usize::try_from(settings.largest_value.0).unwrap_or(usize::MAX);
        Ok(Self {
            line,
            desk,
            names,
            scripts,
            pepper,
            attempts: idempotency::Attempts::default(),
            largest,
            thread,
            stop,
        })
    }

    /// The term, whenever the store was found or lost.
    pub fn terms(&self) -> watch::Receiver<u64> {
        self.line.terms()
    }

    /// Tells what is still to be told, if the store is there, and leaves. Takes 2 s at most.
    pub async fn close(&self) {
        self.stop.cancel();
        let left = async {
            while !self.thread.is_finished() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, left).await;
    }

    /// Waits until the store is there, at most so long.
    pub async fn found(&self, longest: Duration) -> bool {
        let mut terms = self.terms();
        tokio::time::timeout(longest, terms.wait_for(|term| *term > 0)).await.is_ok_and(|found| found.is_ok())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Counters for Redis {
    fn take<'a>(&'a self, claims: &'a [Claim], patience: &'a Patience) -> Answer<'a, Result<Vec<Levels>, Short>> {
        Box::pin(limits::take(self, claims, patience))
    }

    fn ended(&self, caller: rate::everywhere::Handle, tokens_per_minute: Option<u64>, more_tokens: i64) {
        self.desk.ended(caller, tokens_per_minute.map(|limit| (limit, more_tokens)));
    }

    fn hold<'a>(&'a self, wishes: &'a [Wish], patience: &'a Patience) -> Answer<'a, Verdict> {
        Box::pin(accounts::hold(self, wishes, patience))
    }

    fn look<'a>(
        &'a self,
        accounts: &'a [budget::everywhere::Handle],
        patience: &'a Patience,
    ) -> Answer<'a, Vec<Others>> {
        Box::pin(accounts::look(self, accounts, patience))
    }

    fn doubt(&self) {
        self.desk.doubt();
    }

    fn changed(&self, account: budget::everywhere::Handle) {
        self.desk.changed(account);
    }

    fn all_changed(&self, term: u64) {
        self.desk.all_changed(term);
    }

    fn term(&self) -> u64 {
        self.line.term()
    }

    fn standing(&self) -> Standing {
        self.line.standing()
    }
}

/// An answer of Redis that is not what the scripts give: as good as none.
fn odd() -> Gone {
    tracing::error!("Redis' answer is none of our scripts'");
    Gone
}
