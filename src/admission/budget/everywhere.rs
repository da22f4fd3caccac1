//! Accounts over all replicas: what a shared store grants is held here, too, and what happens here is told there.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Account, Accounts, Allotment, Balance, Hold, Overdrawn, Part, State};
use crate::admission::calendar::Stretch;
use crate::admission::shared::{Bound, Counters, Gone, Seen, Shared, Stored, Verdict, Wish};
use crate::resilience::patience::Patience;
use crate::tenant::settings::AtLimit;

/// What this replica has done in one account. What was settled and released only grows, so that it can be told twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub spent: i64,
    pub held: i64,
    pub settled: i64,
    pub released: i64,
    /// Sums of another state are other sums.
    pub number: u64,
    /// The account as it was last seen in the store.
    pub stored: Stored,
}

/// An account in one stretch of time, for the shared store.
#[derive(Clone, Debug)]
pub struct Handle {
    pub account: Account,
    pub stretch: Stretch,
    pub(super) state: Arc<Mutex<State>>,
}

impl Handle {
    /// `None` once the stretch is over.
    pub fn own(&self) -> Option<Own> {
        let state = self.state.lock();
        let Balance { spent, held, stretch } = state.balance;
        let State { settled, released, number, .. } = *state;
        let stored = state.others.stored.clone();
        (stretch == self.stretch).then_some(Own { spent, held, settled, released, number, stored })
    }
}

/// Why nothing was held.
#[derive(Debug)]
pub enum NotHeld {
    Overdrawn(Overdrawn),
    /// The budget holds over all replicas, and what the others have spent cannot be known right now.
    Gone,
}

/// A question whose answer is still to come. Dropped with it, when the caller leaves, nobody would ever give back what was
/// granted.
struct Unheard<'a>(Option<&'a dyn Counters>);

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.doubt();
        }
    }
}

impl Accounts {
    /// From now on budgets hold over all replicas. Once.
    pub fn share(&self, shared: Shared) {
        let _ = self.shared.set(shared);
    }

    /// Learns what the other replicas have spent. Changes nothing where nobody shares, or the store is gone.
    pub async fn look(&self, accounts: impl Iterator<Item = Account>, now_ms: i64, patience: &Patience) {
        let Some(shared) = self.shared.get().filter(|shared| !shared.is_gone()) else { return };
        let handles: Vec<Handle> = accounts.map(|account| self.handle(account, now_ms)).collect();
        if let Ok(all) = shared.counters.look(&handles, patience).await {
            for (handle, others) in handles.iter().zip(all) {
                let mut state = handle.state.lock();
                if state.balance.stretch == handle.stretch {
                    state.others = others;
                }
            }
        }
    }

    /// Tells the shared store of everything that is held or was spent, here or as far as is known here: it may have
    /// forgotten it.
    pub fn tell_all(&self, counters: &dyn Counters) {
        for entry in &self.states {
            let state = entry.value().lock();
            let Balance { spent, held, stretch } = state.view();
            drop(state);
            if spent > 0 || held > 0 {
                counters.changed(Handle { account: entry.key().clone(), stretch, state: entry.value().clone() });
            }
        }
    }

    fn handle(&self, account: Account, now_ms: i64) -> Handle {
        let shared = self.state(&account, now_ms);
        let mut state = shared.lock();
        self.turn(&mut state, account.period, now_ms);
        let stretch = state.balance.stretch;
        drop(state);
        Handle { account, stretch, state: shared }
    }

    /// [`Self::hold`], over all replicas. Nothing is held here that is not held there. `partly`: as much as is left, and 1 at
    /// least.
    pub async fn hold_everywhere(
        &self,
        wanted: Vec<(Allotment, i64)>,
        partly: bool,
        now_ms: i64,
        patience: &Patience,
    ) -> Result<Hold, NotHeld> {
        let Some(shared) = self.shared.get().filter(|_| !wanted.is_empty()) else {
            return self.hold(self.cut_to_fit(wanted, partly, now_ms), now_ms).map_err(NotHeld::Overdrawn);
        };
        let before = shared.counters.term();
        let held = self.try_to_hold(shared, wanted.clone(), partly, now_ms, patience).await;
        // Another term has begun meanwhile: once more in that one.
        match held {
            Err(NotHeld::Gone) if before > 0 && ![0, before].contains(&shared.counters.term()) => {
                self.try_to_hold(shared, wanted, partly, now_ms, patience).await
            }
            held => held,
        }
    }

    async fn try_to_hold(
        &self,
        shared: &Shared,
        wanted: Vec<(Allotment, i64)>,
        partly: bool,
        now_ms: i64,
        patience: &Patience,
    ) -> Result<Hold, NotHeld> {
        let term = shared.counters.term();
        let wish = |(allotment, amount): &(Allotment, i64)| Wish {
            account: self.handle(allotment.account.clone(), now_ms),
            amount: *amount,
            bound: match allotment.at_limit {
                AtLimit::Warn => Bound::None,
                _ if partly => Bound::Some(allotment.limit),
                _ => Bound::All(allotment.limit),
            },
        };
        let wishes: Vec<Wish> = wanted.iter().map(wish).collect();
        let mut unheard = Unheard(Some(&*shared.counters).filter(|_| term > 0));
        let verdict = if term == 0 { Err(Gone) } else { shared.counters.hold(&wishes, patience).await };
        unheard.0 = None;
        match verdict {
            Ok(Verdict::Granted(seen)) => {
                let mut hold = Hold { parts: Vec::with_capacity(wanted.len()), shared: Some(shared.counters.clone()) };
                let granted = wanted.into_iter().zip(wishes).zip(seen);
                for (((allotment, _), Wish { account, .. }), Seen { granted, others }) in granted {
                    let mut state = account.state.lock();
                    // The store was lost and found meanwhile, and knows nothing of this. Or the stretch has ended.
                    if shared.counters.term() != term || state.balance.stretch != account.stretch {
                        drop(state);
                        hold.cancel();
                        return Err(NotHeld::Gone);
                    }
                    state.balance.held = state.balance.held.saturating_add(granted);
                    state.others = others;
                    drop(state);
                    let start_ms = account.stretch.start_ms;
                    hold.parts.push(Part { state: account.state, start_ms, amount: granted, allotment });
                }
                Ok(hold)
            }
            Ok(Verdict::Refused { index, seen }) => {
                let mut state = wishes[index].account.state.lock();
                state.others = seen.others;
                let balance = state.view();
                drop(state);
                let (Allotment { account, limit, .. }, amount) = wanted[index].clone();
                Err(NotHeld::Overdrawn(Overdrawn { account, limit, balance, needed: Some(amount) }))
            }
            Err(Gone) => {
                // Perhaps it was done: the store is told what is really held when it is back.
                wishes.into_iter().for_each(|wish| shared.counters.changed(wish.account));
                let only_warns = wanted.iter().all(|(allotment, _)| allotment.at_limit == AtLimit::Warn);
                if !shared.spends_alone && !only_warns {
                    return Err(NotHeld::Gone);
                }
                let wanted = self.cut_to_fit(wanted, partly, now_ms);
                let mut hold = self.hold_while(|| shared.is_gone(), wanted, now_ms)?;
                hold.shared = Some(shared.counters.clone());
                Ok(hold)
            }
        }
    }
}
