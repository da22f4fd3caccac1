//! `stepwell budgets`: what is left, and until when it lasts. Read from the data directory, also beside a running server.
//!
//! What was spent comes from the ledger, which a server writes within a second. What requests under way hold, only the
//! server itself knows: `GET /v1/budgets` has it.

use std::collections::{BTreeSet, HashMap};

use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::json;

use super::keys::{Place, settings};
use super::{Outcome, block_on, print};
use crate::admission::budget::{Account, Allotment, Scope};
use crate::admission::calendar::{Period, stretch};
use crate::app::accounts::{self, BY_SCOPE, scopes};
use crate::gateway::budgets::{of_key, shared};
use crate::ledger::Ledger;
use crate::ledger::forecast::{self, Days};
use crate::ledger::table::{aligned, dollars};
use crate::ledger::usage::UsageQuery;
use crate::money::NanoUsd;
use crate::tenant::keyring::Keyring;
use crate::tenant::settings::AtLimit;

/// One budget, as far as the ledger knows.
#[derive(Serialize)]
struct Line {
    scope: &'static str,
    name: String,
    period: &'static str,
    limit_usd: NanoUsd,
    spent_usd: NanoUsd,
    /// Always `null`: only a running server knows.
    held_usd: Option<NanoUsd>,
    left_usd: NanoUsd,
    /// Of the limit; above 1 where a budget only warns. `null` for a limit of 0.
    share: Option<f64>,
    at_limit: AtLimit,
    began_at: Option<Timestamp>,
    resets_at: Option<Timestamp>,
    /// What will be spent at the end of the month; `null` for other periods, and where too few days are known.
    expected_usd: Option<NanoUsd>,
    /// The day on which that passes the limit; `null` if it does not.
    reaches_limit_on: Option<Date>,
}

/// Everything that lines are made of.
struct Books {
    now: jiff::Zoned,
    allotments: Vec<Allotment>,
    spent: HashMap<Account, i64>,
    days: HashMap<Scope, Days>,
}

pub fn run(place: &Place) -> Outcome {
    let settings = settings(place)?.tenants;
    let home = super::home(place.data_dir.as_deref(), place.config.as_deref())?;
    let zone = TimeZone::get(&settings.budgets.time_zone).unwrap_or(TimeZone::UTC);
    let now = Timestamp::now().to_zoned(zone);
    let books = block_on(async {
        let store = home.open_existing().await?;
        let ring = Keyring::new(store.vault().contents().await?, None);
        let (ledger, _writer) = Ledger::open(store.journal());
        let now_ms = now.timestamp().as_millisecond();
        let mut allotments = shared(&settings);
        let keys = ring.keys().iter().filter(|key| key.revoked_unix_ms.is_none());
        allotments.extend(keys.flat_map(|key| of_key(&settings, &key.tenant())));
        let periods: BTreeSet<Period> = allotments.iter().map(|allotment| allotment.account.period).collect();
        let is_monthly = periods.contains(&Period::Month);
        let spent = accounts::spent(&ledger, periods, now.time_zone(), now_ms).await?;
        let mut days: HashMap<Scope, Days> = HashMap::new();
        if is_monthly {
            for group in ledger.groups(&forecast::query(&UsageQuery::default(), &BY_SCOPE, &now)).await? {
                scopes(&group.labels).into_iter().for_each(|scope| days.entry(scope).or_default().add(&group, &now));
            }
        }
        anyhow::Ok(Books { now: now.clone(), allotments, spent, days })
    })??;
    let lines: Vec<Line> = books.allotments.iter().map(|allotment| books.line(allotment)).collect();
    if place.json {
        let held = "what requests under way hold is known to the running server only: GET /v1/budgets";
        let list = json!({"object": "list", "time_zone": settings.budgets.time_zone, "note": held, "data": lines});
        return print(&serde_json::to_string_pretty(&list).map_err(anyhow::Error::from)?);
    }
    if lines.is_empty() {
        return print("there are no budgets; `budgets`, `tiers`, `teams` and keys may have some");
    }
    print(&table(&lines, &settings.budgets.time_zone))
}

impl Books {
    fn line(&self, allotment: &Allotment) -> Line {
        let Allotment { account, limit, at_limit, .. } = allotment;
        let spent = self.spent.get(account).copied().unwrap_or(0);
        let stretch = stretch(account.period, self.now.time_zone(), self.now.timestamp().as_millisecond());
        let days = self.days.get(&account.scope).filter(|_| account.period == Period::Month);
        let time = |ms| Timestamp::from_millisecond(ms).ok();
        Line {
            scope: account.scope.kind(),
            name: account.scope.name().to_owned(),
            period: account.period.as_str(),
            limit_usd: NanoUsd(*limit),
            spent_usd: NanoUsd(spent),
            held_usd: None,
            left_usd: NanoUsd(*limit).saturating_sub(NanoUsd(spent)),
            share: (*limit > 0).then(|| (spent as f64 / *limit as f64 * 1e6).round() / 1e6),
            at_limit: *at_limit,
            began_at: time(stretch.start_ms),
            resets_at: time(stretch.end_ms),
            expected_usd: days.and_then(|days| forecast::forecast(days, &self.now).expected_usd),
            reaches_limit_on: days.and_then(|days| forecast::reaches(days, spent, *limit, &self.now)),
        }
    }
}

fn table(lines: &[Line], zone: &str) -> String {
    let money = |amount: fn(&Line) -> Option<NanoUsd>| -> Vec<String> {
        let amounts = lines.iter().map(|line| amount(line).map(dollars).unwrap_or_default());
        aligned(&amounts.collect::<Vec<_>>())
    };
    let limits = money(|line| Some(line.limit_usd));
    let spent = money(|line| Some(line.spent_usd));
    let left = money(|line| Some(line.left_usd));
    let expected = money(|line| line.expected_usd);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).force_no_tty();
    table.set_header(["scope", "name", "period", "limit", "spent", "left", "used", "resets at", "month end", ""]);
    for (index, line) in lines.iter().enumerate() {
        let share = line.share.map(|share| format!("{:.1}%", share * 100.0)).unwrap_or_default();
        let resets = line.resets_at.map(|at| at.to_string()).unwrap_or_default();
        let ends = match line.reaches_limit_on {
            Some(_) if line.left_usd == NanoUsd::ZERO => "used up".to_owned(),
            Some(day) => format!("reaches its limit on {day}"),
            None => String::new(),
        };
        table.add_row([
            line.scope,
            &line.name,
            line.period,
            &limits[index],
            &spent[index],
            &left[index],
            &share,
            &resets,
            &expected[index],
            &ends,
        ]);
    }
    for index in [3, 4, 5, 6, 8] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();
    format!("{text}days and months are those of {zone}; what requests under way hold is in GET /v1/budgets\n")
}
