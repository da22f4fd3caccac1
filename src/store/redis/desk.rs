//! What Redis is told in the background: how requests have ended, what accounts are like, answers to keep.
//!
//! Told soon, and told again until it is heard. What is told is what is true at the time of telling, not what was true when
//! somebody asked for it; so one entry for each account and caller is enough, and an outage cannot fill memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisResult;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::line::{BEAT, Line, Up};
use super::{Names, Scripts, accounts, idempotency, limits};
use crate::admission::budget::{self, Account};
use crate::admission::calendar::Stretch;
use crate::admission::idempotency::Place;
use crate::admission::rate::{self, Who};
use crate::admission::shared::Gone;
use crate::resilience::backoff::full_jitter;

/// Answers that wait to be kept, in bytes; further ones are not.
const WAITING: usize = 16 << 20;
/// Accounts or callers that are told in one call: a script holds up everybody else.
const AT_ONCE: usize = 64;
/// Between two attempts to find Redis: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Desk {
    letters: Mutex<Letters>,
    more: Notify,
}

#[derive(Default)]
struct Letters {
    accounts: HashMap<(Account, Stretch), budget::everywhere::Handle>,
    callers: HashMap<Who, Ended>,
    /// Marks that nobody works on, with their attempts.
    marks: Vec<(Place, String, End)>,
    answers: VecDeque<Put>,
    waiting: usize,
    /// What was granted in this term may not be known here.
    is_in_doubt: bool,
    /// When these letters are told, all is told that there was in this term; 0: not yet.
    all_of: u64,
}

/// How work on an idempotency key has ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody knows what became of it.
    GivenUp,
    /// As if it had never come.
    Forgotten,
}

#[derive(Clone)]
pub struct Ended {
    pub caller: rate::everywhere::Handle,
    /// The limit and the tokens beyond the estimate. Told once at most: a doubt is settled by time.
    pub tokens: Option<(u64, i64)>,
}

struct Put {
    key: String,
    value: Vec<u8>,
    ttl: Duration,
}

impl Desk {
    pub fn changed(&self, account: budget::everywhere::Handle) {
        self.letters.lock().accounts.insert((account.account.clone(), account.stretch), account);
        self.more.notify_one();
    }

    pub fn all_changed(&self, term: u64) {
        self.letters.lock().all_of = term;
        self.more.notify_one();
    }

    pub fn ended(&self, caller: rate::everywhere::Handle, tokens: Option<(u64, i64)>) {
        let mut letters = self.letters.lock();
        let entry = letters.callers.entry(caller.who.clone()).or_insert(Ended { caller, tokens: None });
        if let Some((limit, more)) = tokens {
            entry.tokens = Some((limit, entry.tokens.map_or(0, |(_, before)| before) + more));
        }
        drop(letters);
        self.more.notify_one();
    }

    pub fn doubt(&self) {
        self.letters.lock().is_in_doubt = true;
        self.more.notify_one();
    }

    pub fn leave_mark(&self, place: Place, attempt: String, end: End) {
        self.letters.lock().marks.push((place, attempt, end));
        self.more.notify_one();
    }

    /// Dropped, if too much waits already.
    pub fn put(&self, key: String, value: Vec<u8>, ttl: Duration) {
        let mut letters = self.letters.lock();
        if letters.waiting + value.len() <= WAITING {
            letters.waiting += value.len();
            letters.answers.push_back(Put { key, value, ttl });
            self.more.notify_one();
        }
    }

    /// Nobody waits for answers from before an outage, and deltas of then say nothing now.
    fn forget_the_fleeting(&self) {
        let mut letters = self.letters.lock();
        letters.answers.clear();
        letters.waiting = 0;
        letters.callers.values_mut().for_each(|ended| ended.tokens = None);
    }
}

/// The background's work.
pub struct Work {
    pub line: Arc<Line>,
    pub desk: Arc<Desk>,
    pub names: Names,
    pub scripts: Arc<Scripts>,
}

impl Work {
    /// Finds Redis, keeps it, finds it again, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let found = tokio::select! {
                () = stop.cancelled() => return,
                found = self.line.find() => found,
            };
            if let (Ok(()), Some(up)) = (found, self.line.up()) {
                failures = 0;
                let stopped = self.keep(&up, &stop).await;
                if stopped {
                    return;
                }
                self.desk.forget_the_fleeting();
            }
            failures += 1;
            let pause = full_jitter(PAUSE, LONGEST_PAUSE, failures, unit());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// True if it was told to stop, false if Redis was lost.
    async fn keep(&self, up: &Arc<Up>, stop: &CancellationToken) -> bool {
        let mut up = up.clone();
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => {
                    let _ = self.deliver(&up).await;
                    self.line.leave(&up).await;
                    return true;
                }
                () = self.line.lost() => Ok(()),
                _ = beats.tick() => self.line.beat(&up).await,
                () = self.desk.more.notified() => {
                    let is_in_doubt = std::mem::take(&mut self.desk.letters.lock().is_in_doubt);
                    match if is_in_doubt { self.line.begin_anew(&up).await } else { Ok(up.clone()) } {
                        Ok(present) => {
                            up = present;
                            self.deliver(&up).await
                        }
                        Err(gone) => Err(gone),
                    }
                }
            };
            if done.is_err() || self.line.term() != up.term {
                return false;
            }
        }
    }

    /// Tells everything that is to be told.
    async fn deliver(&self, up: &Arc<Up>) -> Result<(), Gone> {
        loop {
            let (callers, accounts, marks, answer, is_all) = {
                let mut letters = self.desk.letters.lock();
                let callers: Vec<Who> = letters.callers.keys().take(AT_ONCE).cloned().collect();
                let callers: Vec<Ended> = callers.iter().filter_map(|who| letters.callers.remove(who)).collect();
                let accounts: Vec<_> = letters.accounts.keys().take(AT_ONCE).cloned().collect();
                let accounts: Vec<_> = accounts.iter().filter_map(|key| letters.accounts.remove(key)).collect();
                let answer = letters.answers.pop_front();
                letters.waiting -= answer.as_ref().map_or(0, |put| put.value.len());
                let is_all = letters.all_of == up.term && letters.accounts.is_empty();
                (callers, accounts, std::mem::take(&mut letters.marks), answer, is_all)
            };
            if callers.is_empty() && accounts.is_empty() && marks.is_empty() && answer.is_none() && !is_all {
                return Ok(());
            }
            let told = async {
                if !callers.is_empty() {
                    self.heard(up, limits::note(&self.names, &self.scripts, up, &callers)).await?;
                }
                if !accounts.is_empty() {
                    self.heard(up, accounts::tell(&self.names, &self.scripts, up, &accounts)).await?;
                }
                if is_all {
                    self.line.has_told_all(up).await?;
                    self.desk.letters.lock().all_of = 0;
                }
                for (place, attempt, end) in &marks {
                    self.heard(up, idempotency::end(&self.names, &self.scripts, up, place, attempt, *end)).await?;
                }
                Ok(())
            };
            if let Err(gone) = told.await {
                // Some of it was perhaps heard. It does no harm to say it again.
                callers.into_iter().for_each(|ended| self.desk.ended(ended.caller, None));
                accounts.into_iter().for_each(|account| self.desk.changed(account));
                marks.into_iter().for_each(|(place, attempt, end)| self.desk.leave_mark(place, attempt, end));
                return Err(gone);
            }
            if let Some(Put { key, value, ttl }) = answer {
                let mut connection = up.connection.clone();
                let mut set = redis::cmd("SET");
                set.arg(key).arg(value).arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
                self.line.tell(up, set.query_async::<()>(&mut connection)).await?;
            }
        }
    }

    /// A script that says whether this replica is known.
    async fn heard(&self, up: &Arc<Up>, call: impl Future<Output = RedisResult<bool>>) -> Result<(), Gone> {
        match self.line.tell(up, call).await? {
            true => Ok(()),
            false => Err(self.line.lose(up, "it has forgotten everything")),
        }
    }
}

/// A random number in 0..1, so that replicas do not come back at the same moment.
fn unit() -> f64 {
    (uuid::Uuid::new_v4().as_u128() >> 76) as f64 / (1_u64 << 52) as f64
}
