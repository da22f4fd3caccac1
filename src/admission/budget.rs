//! Money and tokens per day, month or window: reserved before a call, settled after it.
//!
//! A request is let in only if its worst case fits into what is neither spent nor held by others, so what is spent cannot
//! pass the limit, however many come at once. It is settled once, with what it really took; a hold that nobody settles
//! counts as if all of it had been used. A stretch of time that has ended is closed: what began in it is not counted again
//! in the next one, as in the ledger, from which accounts are opened after a restart.

pub mod everywhere; // the same over all replicas

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;

use everywhere::{Handle, NotHeld};

use super::calendar::{Period, Stretch, stretch};
use super::shared::{Counters, Others, Shared};
use crate::money::NanoUsd;
use crate::tenant::settings::AtLimit;
use crate::units::Share;

/// Accounts above this number are looked through for those whose time is over: tokens of an identity provider come without
/// end.
const MANY: usize = 50_000;

/// Whose spending.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Total,
    Provider(Arc<str>),
    /// All keys of a tier together.
    Tier(Arc<str>),
    Team(Arc<str>),
    /// By name, as in the ledger.
    Key(Arc<str>),
}

impl Scope {
    /// The word for it in metrics, reports and the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Provider(_) => "provider",
            Self::Tier(_) => "tier",
            Self::Team(_) => "team",
            Self::Key(_) => "key",
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Total => "",
            Self::Provider(name) | Self::Tier(name) | Self::Team(name) | Self::Key(name) => name,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Total => f.write_str("everybody together"),
            Self::Key(name) if name.is_empty() => f.write_str("callers without a key"),
            other => write!(f, "the {} `{}`", other.kind(), other.name()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Billionths of a dollar.
    Money,
    Tokens,
}

/// Which account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    pub scope: Scope,
    pub period: Period,
    pub unit: Unit,
}

/// An account and what may be spent from it.
#[derive(Clone, Debug)]
pub struct Allotment {
    pub account: Account,
    pub limit: i64,
    pub at_limit: AtLimit,
    pub warn_at: Arc<[Share]>,
}

/// An account at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    pub spent: i64,
    /// By requests under way.
    pub held: i64,
    pub stretch: Stretch,
}

impl Balance {
    /// What a new request may hold.
    pub fn left(&self, limit: i64) -> i64 {
        limit.saturating_sub(self.spent).saturating_sub(self.held).max(0)
    }
}

#[derive(Debug, Default)]
struct State {
    /// Of this replica.
    balance: Balance,
    /// Of the others, as last seen.
    others: Others,
    /// All that was ever settled and released here in this stretch.
    settled: i64,
    released: i64,
    /// Warnings that were given in this stretch.
    warned: usize,
    /// Which of all states of this process it is.
    number: u64,
}

impl State {
    /// Over all replicas, as far as this one knows.
    fn view(&self) -> Balance {
        Balance {
            spent: self.balance.spent.saturating_add(self.others.spent),
            held: self.balance.held.saturating_add(self.others.held),
            stretch: self.balance.stretch,
        }
    }
}

/// All accounts. They survive a reload.
pub struct Accounts {
    states: DashMap<Account, Arc<Mutex<State>>>,
    zone: Mutex<TimeZone>,
    /// Counts the states.
    numbers: AtomicU64,
    /// Where other replicas count, too.
    shared: OnceLock<Shared>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            states: DashMap::new(),
            zone: Mutex::new(TimeZone::UTC),
            numbers: AtomicU64::new(1),
            shared: OnceLock::new(),
        }
    }
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Overdrawn {
    pub account: Account,
    pub limit: i64,
    pub balance: Balance,
    /// `None`: it cannot be known, for a model has no price.
    pub needed: Option<i64>,
}

impl Overdrawn {
    pub fn is_of_a_provider(&self) -> bool {
        matches!(self.account.scope, Scope::Provider(_))
    }

    /// When everything is there anew, RFC 3339.
    pub fn starts_anew(&self) -> String {
        Timestamp::from_millisecond(self.balance.stretch.end_ms)
            .map_or_else(|_| "never".to_owned(), |at| at.to_string())
    }
}

impl std::fmt::Display for Overdrawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { account, limit, balance, needed } = self;
        let amount = |amount: i64| match account.unit {
            Unit::Money => NanoUsd(amount).to_string(),
            Unit::Tokens => format!("{amount} tokens"),
        };
        let (left, spent, held) = (amount(balance.left(*limit)), amount(balance.spent), amount(balance.held));
        let (scope, period, limit) = (&account.scope, account.period.as_str(), amount(*limit));
        write!(f, "the budget of {scope} for this {period} has {left} left of {limit} ({spent} spent")?;
        if balance.held > 0 {
            write!(f, ", {held} held by requests under way")?;
        }
        match needed {
            Some(needed) => {
                write!(f, "), and this request may cost up to {} (`max_tokens` lowers that)", amount(*needed))?;
            }
            None => write!(f, "), and the model has no known price, so it could not be kept")?,
        }
        write!(f, "; it starts anew at {}", self.starts_anew())
    }
}

impl Accounts {
    /// Accounts are opened with what the ledger says was spent in the stretch that is on at `now_ms`. Those that are open
    /// go on, unless days begin elsewhere from now on; but what was spent while no budget asked for them counts.
    pub fn open(&self, zone: TimeZone, spent: HashMap<Account, i64>, now_ms: i64) {
        let moved = std::mem::replace(&mut *self.zone.lock(), zone.clone()) != zone;
        if moved {
            self.states.retain(|account, _| matches!(account.period, Period::Window(_)));
        }
        for (account, spent) in spent {
            let shared = self.state(&account, now_ms);
            let mut state = shared.lock();
            self.turn(&mut state, account.period, now_ms);
            state.balance.spent = state.balance.spent.max(spent);
        }
    }

    pub fn zone(&self) -> TimeZone {
        self.zone.lock().clone()
    }

    pub fn balance(&self, account: &Account, now_ms: i64) -> Balance {
        let state = self.state(account, now_ms);
        let mut state = state.lock();
        self.turn(&mut state, account.period, now_ms);
        state.view()
    }

    /// `partly`: as much as is left, and 1 at least.
    fn cut_to_fit(&self, mut wanted: Vec<(Allotment, i64)>, partly: bool, now_ms: i64) -> Vec<(Allotment, i64)> {
        for (allotment, amount) in wanted.iter_mut().filter(|_| partly) {
            let left = self.balance(&allotment.account, now_ms).left(allotment.limit);
            *amount = (*amount).min(left).max(1);
        }
        wanted
    }

    /// Holds an amount in every account, or nothing in any. An amount that fits nowhere may still be held where the limit
    /// only warns.
    pub fn hold(&self, wanted: Vec<(Allotment, i64)>, now_ms: i64) -> Result<Hold, Overdrawn> {
        match self.hold_while(|| true, wanted, now_ms) {
            Ok(hold) => Ok(hold),
            Err(NotHeld::Overdrawn(overdrawn)) => Err(overdrawn),
            Err(NotHeld::Gone) => unreachable!("nobody else is asked"),
        }
    }

    /// `valid` is asked under the account's lock: what is held after the store was told of the account, without it being
    /// told of the hold, would be missing there.
    fn hold_while(
        &self,
        valid: impl Fn() -> bool,
        wanted: Vec<(Allotment, i64)>,
        now_ms: i64,
    ) -> Result<Hold, NotHeld> {
        let mut hold = Hold { parts: Vec::with_capacity(wanted.len()), shared: None };
        for (allotment, amount) in wanted {
            let shared = self.state(&allotment.account, now_ms);
            let mut state = shared.lock();
            self.turn(&mut state, allotment.account.period, now_ms);
            let balance = state.view();
            if amount > balance.left(allotment.limit) && allotment.at_limit != AtLimit::Warn {
                drop(state);
                hold.cancel();
                let Allotment { account, limit, .. } = allotment;
                return Err(NotHeld::Overdrawn(Overdrawn { account, limit, balance, needed: Some(amount) }));
            }
            if !valid() {
                drop(state);
                hold.cancel();
                return Err(NotHeld::Gone);
            }
            state.balance.held += amount;
            drop(state);
            hold.parts.push(Part { state: shared, start_ms: balance.stretch.start_ms, amount, allotment });
        }
        Ok(hold)
    }

    fn state(&self, account: &Account, now_ms: i64) -> Arc<Mutex<State>> {
        if let Some(state) = self.states.get(account) {
            return state.clone();
        }
        if self.states.len() >= MANY {
            // One that is held by a request in flight stays.
            self.states.retain(|_, state| Arc::strong_count(state) > 1 || state.lock().balance.stretch.end_ms > now_ms);
        }
        let fresh = || {
            let number = self.numbers.fetch_add(1, Relaxed);
            Arc::new(Mutex::new(State { number, ..State::default() }))
        };
        self.states.entry(account.clone()).or_insert_with(fresh).clone()
    }

    /// Begins the next stretch when it is time. A clock that is set back does not bring an old one again.
    fn turn(&self, state: &mut State, period: Period, now_ms: i64) {
        if now_ms >= state.balance.stretch.end_ms {
            let stretch = stretch(period, &self.zone.lock(), now_ms);
            *state =
                State { balance: Balance { spent: 0, held: 0, stretch }, number: state.number, ..State::default() };
        }
    }
}

#[derive(Debug)]
struct Part {
    state: Arc<Mutex<State>>,
    /// Of the stretch in which it is held.
    start_ms: i64,
    amount: i64,
    allotment: Allotment,
}

impl Part {
    /// Ends the hold and adds what was spent. Returns the share of a warning that is due.
    fn close(&self, spent: i64) -> Option<Warning> {
        self.turn_into(self.amount, spent)
    }

    /// What of an answer counts here.
    fn share(&self, money: i64, tokens: i64, provider: &str) -> i64 {
        match (&self.allotment.account.scope, self.allotment.account.unit) {
            (Scope::Provider(name), _) if &**name != provider => 0,
            (_, Unit::Money) => money,
            (_, Unit::Tokens) => tokens,
        }
    }

    /// Gives up so much of what is held, and adds what was spent.
    fn turn_into(&self, freed: i64, spent: i64) -> Option<Warning> {
        let mut state = self.state.lock();
        if state.balance.stretch.start_ms != self.start_ms {
            return None;
        }
        state.balance.held -= freed;
        state.balance.spent = state.balance.spent.saturating_add(spent);
        state.released = state.released.saturating_add(freed);
        state.settled = state.settled.saturating_add(spent);
        let view = state.view();
        let reached = |share: &&Share| view.spent as f64 >= share.0 * self.allotment.limit as f64;
        let warnings = self.allotment.warn_at.iter().take_while(reached).count();
        if warnings <= state.warned {
            return None;
        }
        state.warned = warnings;
        let share = self.allotment.warn_at[warnings - 1];
        Some(Warning { allotment: self.allotment.clone(), share, balance: view })
    }
}

/// A share of an allotment has been reached, for the first time in this stretch.
#[derive(Clone, Debug)]
pub struct Warning {
    pub allotment: Allotment,
    pub share: Share,
    pub balance: Balance,
}

/// Amounts that are set aside for one request. Dropped unsettled, all of it counts as spent.
#[derive(Default)]
#[must_use]
pub struct Hold {
    parts: Vec<Part>,
    /// Who is to be told of the end.
    shared: Option<Arc<dyn Counters>>,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hold").field(&self.parts).finish()
    }
}

impl Hold {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Something of what is held was really used, and the rest stays held: for a hold that pays for many answers. Only the
    /// provider that answered has spent anything.
    pub fn draw(&mut self, money: i64, tokens: i64, provider: &str) -> Vec<Warning> {
        let mut parts = std::mem::take(&mut self.parts);
        let mut due = Vec::new();
        for part in &mut parts {
            let spent = part.share(money, tokens, provider);
            let freed = spent.clamp(0, part.amount);
            due.extend(part.turn_into(freed, spent));
            part.amount -= freed;
            self.tell(part);
        }
        self.parts = parts;
        due
    }

    /// Sets what was really used in the place of what was held. Only the provider that answered has spent anything.
    pub fn settle(mut self, money: i64, tokens: i64, provider: &str) -> Vec<Warning> {
        let parts = std::mem::take(&mut self.parts);
        let due = parts.iter().filter_map(|part| {
            let due = part.close(part.share(money, tokens, provider));
            self.tell(part);
            due
        });
        due.collect()
    }

    fn tell(&self, part: &Part) {
        let Some(shared) = &self.shared else { return };
        let stretch = part.state.lock().balance.stretch;
        // What began in a stretch that has ended is nobody's business any more.
        if stretch.start_ms == part.start_ms {
            shared.changed(Handle { account: part.allotment.account.clone(), stretch, state: part.state.clone() });
        }
    }

    /// Nothing was used, whatever happened.
    pub fn cancel(self) {
        let _ = self.settle(0, 0, "");
    }

    /// The most that this request may cost, as it was held; `None` if no money is held.
    pub fn money(&self) -> Option<i64> {
        let held = self.parts.iter().filter(|part| part.allotment.account.unit == Unit::Money);
        held.map(|part| part.amount).max()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        for part in &self.parts {
            tracing::warn!(scope = %part.allotment.account.scope, "a reservation was never settled; it counts as spent");
            part.close(part.amount);
            self.tell(part);
        }
    }
}

#[cfg(test)]
mod tests;
