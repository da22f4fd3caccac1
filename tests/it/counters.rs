//! Limits and budgets keep the same promises in memory and over replicas on a real Redis.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stepwell::admission::budget::everywhere::NotHeld;
use stepwell::admission::budget::{Account, Accounts, Allotment, Hold, Scope, Unit};
use stepwell::admission::calendar::Period;
use stepwell::admission::rate::{Allowance, Limit, Limiter, Who};
use stepwell::admission::shared::{Counters, Shared};
use stepwell::config::Shared as Settings;
use stepwell::resilience::patience::Patience;
use stepwell::store::redis::Redis as Store;
use stepwell::tenant::secret::Pepper;
use stepwell::tenant::settings::AtLimit;
use stepwell::units::Span;

use crate::support::process::until;
use crate::support::servers::Redis;

/// Unix milliseconds.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A few replicas: their limits and accounts, and the store where they have one.
struct Replicas {
    limiters: Vec<Limiter>,
    accounts: Vec<Accounts>,
    stores: Vec<std::sync::Arc<Store>>,
}

impl Replicas {
    fn in_memory() -> Self {
        Self { limiters: vec![Limiter::default()], accounts: vec![Accounts::default()], stores: Vec::new() }
    }

    /// Two on one Redis, under a name of their own.
    async fn on(redis: &Redis) -> Self {
        let mut all = Self { limiters: Vec::new(), accounts: Vec::new(), stores: Vec::new() };
        let prefix = uuid::Uuid::new_v4().simple().to_string();
        for home in ["a", "b"] {
            let timeout = Span(Duration::from_secs(10));
            let url = redis.url().into();
            let settings = Settings { url, prefix: prefix.clone(), timeout, ..Settings::default() };
            let pepper = Pepper::random().expect("randomness");
            let store = std::sync::Arc::new(Store::start(&settings, home, home, pepper).expect("a thread"));
            assert!(store.found(Duration::from_secs(10)).await, "{:?}", store.standing());
            let shared = Shared { counters: store.clone(), spends_alone: false };
            let (limiter, accounts) = (Limiter::default(), Accounts::default());
            limiter.share(shared.clone());
            accounts.share(shared);
            all.limiters.push(limiter);
            all.accounts.push(accounts);
            all.stores.push(store);
        }
        all
    }

    async fn held(&self, replica: usize, account: &Account) -> (i64, i64) {
        let accounts = &self.accounts[replica % self.accounts.len()];
        accounts.look(std::iter::once(account.clone()), now_ms(), &Patience::default()).await;
        let balance = accounts.balance(account, now_ms());
        (balance.spent, balance.held)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Runs a law in memory, and over replicas where there is a Redis.
fn holds<S: Strategy>(cases: u32, strategy: S, law: impl AsyncFn(&Replicas, S::Value) -> Result<(), TestCaseError>)
where
    S::Value: Clone,
{
    let (runtime, redis) = (runtime(), Redis::start());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&strategy, |case| {
            runtime.block_on(async {
                law(&Replicas::in_memory(), case.clone()).await?;
                if let Some(redis) = &redis {
                    law(&Replicas::on(redis).await, case).await?;
                }
                Ok(())
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

fn allowance(requests: Option<u64>, tokens: Option<u64>) -> Allowance {
    let who = Who::Key("k".into());
    Allowance { who, name: "k".into(), requests_per_minute: requests, tokens_per_minute: tokens, concurrency: None }
}

#[test]
fn in_no_stretch_of_time_gets_more_through_than_the_burst_and_what_came_back() {
    let steps = proptest::collection::vec((0usize..2, 1u64..2000), 1..60);
    holds(8, (1u64..30_000, steps), async |replicas, (amount, steps)| {
        let allowance = allowance(None, Some(amount));
        let mut taken: Vec<(Instant, u64)> = Vec::new();
        for (replica, cost) in steps {
            let limiter = &replicas.limiters[replica % replicas.limiters.len()];
            let (cost, asked) = (cost.min(amount), Instant::now());
            match limiter.admit_everywhere(std::slice::from_ref(&allowance), cost, &Patience::default()).await {
                Ok(admitted) => {
                    drop(admitted);
                    taken.push((asked, cost));
                }
                Err(limited) => prop_assert_eq!(limited.limit, Limit::TokensPerMinute),
            }
        }
        let ended = Instant::now();
        for from in 0..taken.len() {
            let sum: u64 = taken[from..].iter().map(|(_, cost)| cost).sum();
            let came_back = amount as f64 * (ended - taken[from].0).as_secs_f64() / 60.0;
            prop_assert!(sum as f64 <= amount as f64 + came_back + 0.01, "{sum} of {amount} + {came_back}");
        }
        Ok(())
    });
}

#[test]
fn a_burst_is_one_over_all_and_what_was_not_used_comes_back() {
    let (runtime, redis) = (runtime(), Redis::start());
    let law = async |replicas: &Replicas| {
        // One comes back in half a minute.
        let allowance = [allowance(Some(2), Some(1000))];
        let [first, last] = [&replicas.limiters[0], &replicas.limiters[replicas.limiters.len() - 1]];
        let patience = Patience::default();
        let one = first.admit_everywhere(&allowance, 900, &patience).await.expect("room");
        assert_eq!(one.headrooms.requests.map(|room| (room.limit, room.remaining)), Some((2, 1)));
        let refused = last.admit_everywhere(&allowance, 900, &patience).await.expect_err("the tokens are taken");
        assert_eq!((refused.limit, refused.amount), (Limit::TokensPerMinute, 1000));
        assert!(refused.retry_after > Duration::from_secs(30) && refused.retry_after < Duration::from_secs(60));
        one.settle(100, Instant::now());
        let mut two = None;
        until("800 come back, and the refused took no request", async || {
            two = last.admit_everywhere(&allowance, 800, &patience).await.ok();
            two.is_some()
        })
        .await;
        let refused = first.admit_everywhere(&allowance, 1, &patience).await.expect_err("both are used");
        assert_eq!(refused.limit, Limit::RequestsPerMinute);
    };
    runtime.block_on(law(&Replicas::in_memory()));
    if let Some(redis) = redis {
        runtime.block_on(async { law(&Replicas::on(&redis).await).await });
    }
}

fn account() -> Account {
    Account { scope: Scope::Total, period: Period::Month, unit: Unit::Money }
}

fn wanted(limit: i64, amount: i64) -> Vec<(Allotment, i64)> {
    let allotment = Allotment { account: account(), limit, at_limit: AtLimit::Reject, warn_at: [].into() };
    vec![(allotment, amount)]
}

async fn hold(accounts: &Accounts, limit: i64, amount: i64) -> Option<Hold> {
    match accounts.hold_everywhere(wanted(limit, amount), false, now_ms(), &Patience::default()).await {
        Ok(hold) => Some(hold),
        Err(NotHeld::Overdrawn(_)) => None,
        Err(NotHeld::Gone) => panic!("the store is there"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Hold(i64),
    /// The oldest hold ends, at this share of what it held, in hundredths.
    Settle(i64),
    Cancel,
}

#[test]
fn no_interleaving_over_replicas_spends_more_than_the_budget() {
    let step = prop_oneof![
        3 => (1i64..400).prop_map(Step::Hold),
        2 => (0i64..=100).prop_map(Step::Settle),
        1 => Just(Step::Cancel),
    ];
    let steps = proptest::collection::vec((0usize..2, step), 1..60);
    // Small amounts, and such as Lua's numbers cannot tell apart.
    let scale = prop_oneof![Just(1i64), Just(90_071_992_547_409)];
    holds(8, (scale, steps), async |replicas, (scale, steps)| {
        let limit = 1000i64.saturating_mul(scale);
        let mut open: Vec<Vec<(Hold, i64)>> = replicas.accounts.iter().map(|_| Vec::new()).collect();
        let mut spent = 0;
        for (replica, step) in steps {
            let replica = replica % replicas.accounts.len();
            let oldest = (!open[replica].is_empty()).then_some(());
            match (step, oldest) {
                (Step::Hold(amount), _) => {
                    let amount = amount.saturating_mul(scale);
                    if let Some(hold) = hold(&replicas.accounts[replica], limit, amount).await {
                        open[replica].push((hold, amount));
                    }
                }
                (Step::Settle(percent), Some(())) => {
                    let (hold, amount) = open[replica].remove(0);
                    let cost = (i128::from(amount) * i128::from(percent) / 100) as i64;
                    spent += cost;
                    hold.settle(cost, 0, "");
                }
                (Step::Cancel, Some(())) => open[replica].remove(0).0.cancel(),
                (Step::Settle(_) | Step::Cancel, None) => {}
            }
            let held: i64 = open.iter().flatten().map(|(_, amount)| amount).sum();
            prop_assert!(spent + held <= limit, "{spent} + {held} of {limit}");
        }
        for (hold, _) in open.into_iter().flatten() {
            hold.cancel();
        }
        // Once everything is told, both know the same truth, and what is left can be held to the last billionth.
        for replica in 0..replicas.accounts.len() {
            until("all is told", async || replicas.held(replica, &account()).await == (spent, 0)).await;
        }
        let rest = hold(&replicas.accounts[0], limit, limit - spent).await;
        prop_assert!(rest.is_some() || limit == spent);
        let last = replicas.accounts.len() - 1;
        prop_assert!(hold(&replicas.accounts[last], limit, 1).await.is_none());
        rest.into_iter().for_each(Hold::cancel);
        Ok(())
    });
}

#[test]
fn a_script_flush_changes_nothing_and_a_flush_of_all_is_made_good_from_what_replicas_know() {
    let Some(redis) = Redis::start() else { return };
    runtime().block_on(async {
        let replicas = Replicas::on(&redis).await;
        let [a, b] = [&replicas.accounts[0], &replicas.accounts[1]];
        a.open(TimeZone::UTC, HashMap::from([(account(), 100)]), now_ms());
        let held = hold(a, 1000, 500).await.expect("room");
        assert_eq!(replicas.held(1, &account()).await, (100, 500), "what the ledger of the other knows, and its hold");
        redis.ask(&["SCRIPT", "FLUSH"]);
        assert!(hold(b, 1000, 500).await.is_none());
        hold(b, 1000, 300).await.expect("room").settle(200, 0, "");
        redis.ask(&["FLUSHALL"]);
        // Both notice within a second and come back; here, what the application does then.
        for (store, accounts) in replicas.stores.iter().zip(&replicas.accounts) {
            let mut terms = store.terms();
            let again = tokio::time::timeout(Duration::from_secs(10), terms.wait_for(|term| *term > 1)).await;
            assert!(again.is_ok_and(|again| again.is_ok()), "it notices");
            let early = b.hold_everywhere(wanted(1000, 1), false, now_ms(), &Patience::default()).await;
            assert!(matches!(early, Err(NotHeld::Gone)), "nothing is granted before all have told: {early:?}");
            accounts.tell_all(&**store);
            store.all_changed(store.term());
        }
        for replica in [0, 1] {
            until("all is known again", async || replicas.held(replica, &account()).await == (300, 500)).await;
        }
        until("all have told", async || {
            !matches!(
                b.hold_everywhere(wanted(1000, 201), false, now_ms(), &Patience::default()).await,
                Err(NotHeld::Gone)
            )
        })
        .await;
        assert!(hold(b, 1000, 201).await.is_none());
        held.settle(500, 0, "");
        until("the truth is told", async || replicas.held(1, &account()).await == (800, 0)).await;
    });
}

#[test]
fn a_caller_who_leaves_while_redis_is_asked_leaves_nothing_held() {
    let Some(redis) = Redis::start() else { return };
    runtime().block_on(async {
        let replicas = Replicas::on(&redis).await;
        let [a, b] = [&replicas.accounts[0], &replicas.accounts[1]];
        drop(hold(b, 1000, 1).await.expect("room"));
        for _ in 0..3 {
            let patience = Patience::default();
            let mut asked = Box::pin(a.hold_everywhere(wanted(1000, 999), false, now_ms(), &patience));
            assert!(futures_util::poll!(asked.as_mut()).is_pending());
            drop(asked);
            // What it asked for was held, or will be; either way it comes back.
            until("nothing is held", async || {
                match a.hold_everywhere(wanted(1000, 999), false, now_ms(), &Patience::default()).await {
                    Ok(held) => {
                        held.cancel();
                        true
                    }
                    Err(_) => false,
                }
            })
            .await;
        }
        until("all know", async || replicas.held(1, &account()).await == (1, 0)).await;
    });
}
