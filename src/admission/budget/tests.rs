use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_795_262_400_000;
const DAY: i64 = 86_400_000;

fn account(scope: Scope) -> Account {
    Account { scope, period: Period::Day, unit: Unit::Money }
}

fn allotment(scope: Scope, limit: i64) -> Allotment {
    Allotment { account: account(scope), limit, at_limit: AtLimit::Reject, warn_at: Arc::from([]) }
}

#[test]
fn what_does_not_fit_takes_nothing_anywhere() {
    let accounts = Accounts::default();
    let (total, team) = (allotment(Scope::Total, 100), allotment(Scope::Team("t".into()), 30));
    let first = accounts.hold(vec![(total.clone(), 20), (team.clone(), 20)], NOW).expect("it fits");
    let refused = accounts.hold(vec![(total.clone(), 20), (team.clone(), 20)], NOW).expect_err("the team has 10 left");
    assert_eq!((refused.account, refused.balance.left(30)), (team.account.clone(), 10));
    assert_eq!(accounts.balance(&total.account, NOW).held, 20);
    assert!(first.settle(5, 0, "").is_empty());
    let balance = accounts.balance(&team.account, NOW);
    assert_eq!((balance.spent, balance.held, balance.left(30)), (5, 0, 25));
}

#[test]
fn a_hold_that_nobody_settles_counts_as_spent() {
    let accounts = Accounts::default();
    drop(accounts.hold(vec![(allotment(Scope::Total, 100), 40)], NOW).expect("it fits"));
    assert_eq!(
        accounts.balance(&account(Scope::Total), NOW),
        Balance { spent: 40, held: 0, stretch: stretch(Period::Day, &TimeZone::UTC, NOW) }
    );
}

#[test]
fn only_the_provider_that_answered_has_spent() {
    let accounts = Accounts::default();
    let [one, two] = ["one", "two"].map(|name| allotment(Scope::Provider(name.into()), 100));
    accounts.hold(vec![(one.clone(), 10), (two.clone(), 10)], NOW).expect("it fits").settle(7, 0, "two");
    assert_eq!(accounts.balance(&one.account, NOW).spent, 0);
    assert_eq!(accounts.balance(&two.account, NOW).spent, 7);
}

#[test]
fn a_new_day_is_a_new_account_and_what_began_yesterday_is_not_counted_today() {
    let accounts = Accounts::default();
    let over_night = accounts.hold(vec![(allotment(Scope::Total, 100), 60)], NOW).expect("it fits");
    let tomorrow = accounts.hold(vec![(allotment(Scope::Total, 100), 100)], NOW + DAY).expect("all of it is there");
    over_night.settle(60, 0, "");
    tomorrow.settle(1, 0, "");
    assert_eq!(accounts.balance(&account(Scope::Total), NOW + DAY).spent, 1);
    // A clock that is set back brings nothing back.
    assert_eq!(accounts.balance(&account(Scope::Total), NOW).spent, 1);
}

#[test]
fn warnings_come_once_each_and_the_highest_only() {
    let accounts = Accounts::default();
    let warned = Allotment { warn_at: [0.5, 0.8, 0.95].map(Share).into(), ..allotment(Scope::Total, 100) };
    let spend = |amount| {
        let hold = accounts.hold(vec![(warned.clone(), amount)], NOW).expect("it fits");
        hold.settle(amount, 0, "").first().map(|warning| warning.share.0)
    };
    assert_eq!([spend(40), spend(10), spend(5), spend(42), spend(1)], [None, Some(0.5), None, Some(0.95), None]);
}

#[test]
fn a_budget_that_only_warns_lets_everything_in() {
    let accounts = Accounts::default();
    let lenient = Allotment { at_limit: AtLimit::Warn, ..allotment(Scope::Total, 10) };
    accounts.hold(vec![(lenient.clone(), 25)], NOW).expect("let in").settle(25, 0, "");
    assert_eq!(accounts.balance(&lenient.account, NOW).left(10), 0);
}

#[test]
fn accounts_open_with_what_the_ledger_says_and_open_ones_go_on() {
    let accounts = Accounts::default();
    accounts.open(TimeZone::UTC, [(account(Scope::Total), 70)].into(), NOW);
    assert_eq!(accounts.balance(&account(Scope::Total), NOW).left(100), 30);
    accounts.open(TimeZone::UTC, [(account(Scope::Total), 0)].into(), NOW);
    assert_eq!(accounts.balance(&account(Scope::Total), NOW).left(100), 30);
}

proptest! {
    /// Whatever comes in whatever order: spent and held together never pass the limit while nobody uses more than was
    /// held, and in the end exactly what was used is spent.
    #[test]
    fn the_limit_is_never_passed(
        limit in 0i64..1000,
        requests in proptest::collection::vec((0i64..300, 0i64..=100, any::<bool>()), 1..60),
    ) {
        let accounts = Accounts::default();
        let (mut open, mut used) = (Vec::new(), 0);
        for (worst, percent, ends_first) in requests {
            if ends_first && let Some((hold, spent)) = open.pop() {
                let hold: Hold = hold;
                hold.settle(spent, 0, "");
                used += spent;
            }
            if let Ok(hold) = accounts.hold(vec![(allotment(Scope::Total, limit), worst)], NOW) {
                open.push((hold, worst * percent / 100));
            }
            let balance = accounts.balance(&account(Scope::Total), NOW);
            prop_assert!(balance.spent + balance.held <= limit);
            prop_assert_eq!(balance.spent, used);
        }
        for (hold, spent) in open {
            hold.settle(spent, 0, "");
            used += spent;
        }
        let balance = accounts.balance(&account(Scope::Total), NOW);
        prop_assert_eq!((balance.spent, balance.held), (used, 0));
        prop_assert!(used <= limit);
    }
}
