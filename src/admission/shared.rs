//! What all replicas count together: the port to a store that they share.
//!
//! Every decision is one atomic step of the store, so there is no moment at which two replicas both take the last of
//! something. What is given back is told later and in sums that only grow, so that telling it twice changes nothing. The
//! store may be gone at any time: then every call says so at once, and whoever asked knows what to do without it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::budget;
use super::rate;
use crate::resilience::patience::Patience;

/// What a port's method returns; boxed, so that [`Counters`] can be a trait object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Gone>> + Send + 'a>>;

/// The store is not there, or did not answer in time. What was asked for may have been done: the store is told anew what
/// is held when it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared store is gone")]
pub struct Gone;

/// A caller's limits that a request wants to be within.
pub struct Claim {
    pub allowance: rate::Allowance,
    pub tokens: u64,
    pub presence: rate::everywhere::Presence,
}

/// The levels of one caller's limits after a request was let in, or refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Taken and not back yet, in requests and tokens, rounded up.
    pub requests: u64,
    pub tokens: u64,
}

/// The first claim that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    pub index: usize,
    pub limit: rate::Limit,
    pub retry_after: Duration,
}

/// Up to what an amount may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// All of it must fit into the limit.
    All(i64),
    /// As much as is left of the limit, and 1 at least.
    Some(i64),
    /// The limit only warns.
    None,
}

/// An amount that is to be held in an account.
pub struct Wish {
    pub account: budget::everywhere::Handle,
    pub amount: i64,
    pub bound: Bound,
}

/// What the other replicas have spent and hold of an account, as seen from this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    pub spent: i64,
    pub held: i64,
    pub stored: Stored,
}

/// An account in the store's own words, as it was when it was last seen: given back to a store that has forgotten it, so
/// that what others did is not forgotten with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub fields: Arc<[(String, String)]>,
    /// The term in which it was seen.
    pub term: u64,
}

/// An account as the store sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub granted: i64,
    pub others: Others,
}

/// What the store says to wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In the order of the wishes. Valid as long as [`Counters::term`] is what it was before the call.
    Granted(Vec<Seen>),
    Refused {
        index: usize,
        seen: Seen,
    },
}

/// How the store is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub is_up: bool,
    /// Routers that have shown up in the last seconds, this one included.
    pub replicas: u32,
    /// Why it is gone, without a secret.
    pub reason: Option<String>,
}

/// Limits and budgets over all replicas. Implemented in `store`.
pub trait Counters: Send + Sync {
    /// Takes a request and its tokens from every claim, or nothing from any.
    fn take<'a>(&'a self, claims: &'a [Claim], patience: &'a Patience) -> Answer<'a, Result<Vec<Levels>, Short>>;

    /// A request has ended: how many of this caller's are under way here now, and by how many tokens the estimate was
    /// wrong. Returns at once.
    fn ended(&self, caller: rate::everywhere::Handle, tokens_per_minute: Option<u64>, more_tokens: i64);

    /// Holds every amount, or none.
    fn hold<'a>(&'a self, wishes: &'a [Wish], patience: &'a Patience) -> Answer<'a, Verdict>;

    /// Looks at accounts without taking anything.
    fn look<'a>(
        &'a self,
        accounts: &'a [budget::everywhere::Handle],
        patience: &'a Patience,
    ) -> Answer<'a, Vec<Others>>;

    /// A call was given up and nobody heard what became of it: the term ends, so that what was granted does not count.
    fn doubt(&self);

    /// An account has changed here. Returns at once.
    fn changed(&self, account: budget::everywhere::Handle);

    /// All that is held and was spent here was given to [`Self::changed`] since this term began. Until every replica has
    /// said so, a store that has forgotten everything grants nothing of a limit that has to be kept. Returns at once.
    fn all_changed(&self, term: u64);

    /// Counts the times that the store was found; 0 while it is gone. What was granted in an earlier term does not count.
    fn term(&self) -> u64;

    fn standing(&self) -> Standing;
}

/// The counters, and what holds when they are gone.
#[derive(Clone)]
pub struct Shared {
    pub counters: Arc<dyn Counters>,
    /// Budgets go on with what this replica knows; otherwise requests that concern one are refused.
    pub spends_alone: bool,
}

impl Shared {
    pub fn is_gone(&self) -> bool {
        self.counters.term() == 0
    }
}
