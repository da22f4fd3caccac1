//! Rows, lists and reports, and the ledger's writer over them.

use std::time::Duration;

use proptest::prelude::*;

use super::{Kit, NOW, Told, batch, by, on_every_store, record, running};
use crate::ledger::Ledger;
use crate::ledger::cell::{Facts, Labels};
use crate::ledger::journal::{Batch, Cursor, Filter};
use crate::ledger::record::{CacheUse, Decision, Record, Status};
use crate::ledger::report::{Grouping, Report};
use crate::ledger::usage::{DAY_MS, Dimension, HOUR_MS, UsageQuery};
use crate::money::NanoUsd;

on_every_store! {
    a_row_comes_back_as_it_was_saved,
    an_id_may_repeat_and_the_newest_is_found,
    a_batch_is_saved_once_however_often_it_is_offered,
    lists_are_newest_first_in_pages_and_filtered,
    rows_and_sums_survive_a_restart,
    an_unknown_price_is_counted_and_never_zero,
    demo_rows_are_never_mixed_with_real_ones,
    a_purge_keeps_the_sums_and_a_rebuild_respects_them,
    a_large_batch_that_is_summed_from_memory_reports_like_one_that_is_read_back,
    what_was_appended_is_saved_in_order_and_flushed_at_shutdown,
    d09_rows_whose_clock_jumped_are_kept_listed_and_summed,
    a_writer_that_is_cut_off_in_a_save_saves_every_row_once,
    a_list_shows_unsaved_and_saved_rows_once_each,
}

async fn a_row_comes_back_as_it_was_saved(kit: Kit) {
    kit.append(&batch(1, vec![record("a", NOW)])).await;
    let row = kit.journal().find("a").await.expect("found").expect("a row");
    assert_eq!((row.id.as_str(), row.started.as_str()), ("a", "2026-09-21T14:13:20Z"));
    assert_eq!((row.status, row.cache, row.cost_usd), (Status::Completed, CacheUse::Miss, Some(NanoUsd(1_500))));
    assert_eq!((row.key.as_deref(), row.strategy.as_str(), row.task_confidence), (Some("team"), "balanced", 0.0));
    assert_eq!((row.attempts[0].duration_ms, row.first_token_ms, row.saved_by_cache_usd), (200, Some(90), None));
    assert_eq!(row.decision.expect("a decision").get(), Told.json());
    assert!(kit.journal().find("b").await.expect("no failure").is_none());
}

async fn an_id_may_repeat_and_the_newest_is_found(kit: Kit) {
    let newer = Record { model: "other".to_owned(), ..record("a", NOW + 1) };
    kit.append(&batch(1, vec![record("a", NOW)])).await;
    kit.append(&batch(2, vec![newer])).await;
    assert_eq!(kit.journal().find("a").await.expect("found").expect("a row").model, "other");
    let has = async |id, started| kit.journal().has(id, started).await.expect("an answer");
    assert!(has("a", NOW).await && has("a", NOW + 1).await, "each of them is there");
    assert!(!has("a", NOW + 2).await && !has("b", NOW).await);
    assert_eq!(kit.requests().await, 2);
}

async fn a_batch_is_saved_once_however_often_it_is_offered(kit: Kit) {
    for _ in 0..3 {
        kit.append(&batch(1, vec![record("a", NOW), record("b", NOW)])).await;
    }
    assert_eq!(kit.requests().await, 2);
    let other_run = Batch { run: 8, ..batch(1, vec![record("c", NOW)]) };
    kit.append(&other_run).await;
    assert_eq!(kit.requests().await, 3);
}

async fn lists_are_newest_first_in_pages_and_filtered(kit: Kit) {
    let mut records: Vec<Record> = (0..10).map(|i| record(&format!("r{i}"), NOW + i / 2)).collect();
    records[4].status = Status::Failed;
    kit.append(&batch(1, records)).await;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = kit.journal().recent(&Filter::default(), 3, before.as_ref()).await.expect("a page");
        let Some(last) = page.last() else { break };
        before = Cursor::parse(&Cursor::of(last).to_string());
        seen.extend(page.into_iter().map(|row| row.id));
    }
    assert_eq!(seen, ["r9", "r8", "r7", "r6", "r5", "r4", "r3", "r2", "r1", "r0"]);
    let failed = Filter { status: Some(Status::Failed), key: Some("team".to_owned()), ..Filter::default() };
    let rows = kit.journal().recent(&failed, 10, None).await.expect("a page");
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["r4"]);
}

async fn rows_and_sums_survive_a_restart(kit: Kit) {
    kit.append(&batch(1, vec![record("a", NOW), record("b", NOW)])).await;
    kit.rebuild().await;
    kit.store.close().await;
    let kit = Kit { store: kit.home.open().await.expect("the same store"), ..kit };
    assert_eq!(kit.requests().await, 2);
    assert!(kit.journal().find("b").await.expect("found").is_some());
}

async fn an_unknown_price_is_counted_and_never_zero(kit: Kit) {
    let unpriced = Record { model: "mystery".to_owned(), cost: None, ..record("b", NOW) };
    kit.append(&batch(1, vec![record("a", NOW), unpriced])).await;
    let query = by(&[Dimension::Model]);
    let report = kit.report(&query).await;
    assert_eq!((report.total.cost_usd, report.total.unpriced_requests), (Some(NanoUsd(1_500)), 1));
    let mystery = &report.rows[1];
    assert_eq!(mystery.group[0].1.as_deref(), Some("mystery"));
    assert_eq!((mystery.totals.cost_usd, mystery.totals.share), (None, None));
}

async fn demo_rows_are_never_mixed_with_real_ones(kit: Kit) {
    let demo = Record { demo: true, ..record("b", NOW) };
    kit.append(&batch(1, vec![record("a", NOW), demo])).await;
    for _ in 0..2 {
        let report = kit.report(&by(&[])).await;
        assert_eq!((report.total.requests, report.rows.len()), (1, 2));
        assert_eq!((report.rows[0].totals.share, report.rows[1].demo), (Some(1.0), true));
        assert_eq!((report.rows[1].totals.share, report.demo_total.map(|total| total.requests)), (None, Some(1)));
        kit.rebuild().await;
    }
}

async fn a_purge_keeps_the_sums_and_a_rebuild_respects_them(kit: Kit) {
    let old = NOW - 3 * DAY_MS;
    kit.append(&batch(1, vec![record("old", old), record("new", NOW)])).await;
    assert_eq!(kit.purge(NOW).await, 1);
    assert!(kit.journal().find("old").await.expect("no failure").is_none());
    assert_eq!(kit.requests().await, 2);
    kit.append(&batch(2, vec![record("late", old)])).await;
    kit.rebuild().await;
    assert_eq!(kit.requests().await, 3);
    let inside = UsageQuery { since_ms: Some(old), until_ms: Some(old + 1), ..UsageQuery::default() };
    let groups = kit.journal().usage(&inside).await.expect("a report");
    assert_eq!(groups[0].cell.requests, 2, "a purged time is known by the hour");
}

async fn a_large_batch_that_is_summed_from_memory_reports_like_one_that_is_read_back(kit: Kit) {
    let query = by(&[Dimension::Task, Dimension::Hour]);
    let mut next = 0;
    // Large, small (left to be summed later), large again: the second large one must not be summed past the small one.
    for (number, count) in [(1, 700), (2, 3), (3, 300), (4, 5000), (5, 400)] {
        let records = (0..count).map(|_| {
            next += 1;
            record(&format!("r{next}"), NOW - (next % 7) * HOUR_MS)
        });
        kit.append(&batch(number, records.collect())).await;
        let seen = kit.report(&query).await;
        assert_eq!(seen.total.requests, next as u64);
        assert_eq!(seen.total.cost_usd, Some(NanoUsd(1_500 * next)));
    }
    let before = kit.report(&query).await;
    kit.rebuild().await;
    assert_eq!(kit.report(&query).await, before);
}

async fn what_was_appended_is_saved_in_order_and_flushed_at_shutdown(kit: Kit) {
    let (ledger, stop, task) = running(kit.journal());
    for i in 0..1_500 {
        ledger.append(record(&format!("r{i}"), NOW + i));
    }
    assert!(ledger.find("r1499").await.expect("no failure").is_some(), "readable at once");
    stop.send(()).expect("running");
    assert_eq!(task.await.expect("a clean end"), 0);
    assert_eq!((ledger.health().pending, ledger.health().saved), (0, 1_500));
    let rows = kit.journal().recent(&Filter::default(), 2_000, None).await.expect("rows");
    let ids: Vec<String> = rows.into_iter().rev().map(|row| row.id).collect();
    assert_eq!(ids, (0..1_500).map(|i| format!("r{i}")).collect::<Vec<_>>());
}

async fn d09_rows_whose_clock_jumped_are_kept_listed_and_summed(kit: Kit) {
    let (ledger, _stop, _task) = running(kit.journal());
    for (id, jump) in [("now", 0), ("later", HOUR_MS), ("earlier", -HOUR_MS), ("now-again", 1)] {
        ledger.append(record(id, NOW + jump));
    }
    assert!(ledger.caught_up(Duration::from_secs(5)).await);
    let listed = ledger.recent(&Filter::default(), 10, None).await.expect("rows");
    let ids: Vec<&str> = listed.iter().map(|row| &*row.id).collect();
    assert_eq!(ids, ["later", "now-again", "now", "earlier"]);
    assert_eq!(kit.requests().await, 4);
}

async fn a_writer_that_is_cut_off_in_a_save_saves_every_row_once(kit: Kit) {
    let first = batch(1, (0..2_000).map(|i| record(&format!("r{i}"), NOW)).collect());
    for microseconds in [50, 300, 2_000, 10_000, 30_000] {
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), kit.append(&first)).await;
    }
    kit.append(&first).await;
    assert_eq!(kit.requests().await, 2_000);
}

async fn a_list_shows_unsaved_and_saved_rows_once_each(kit: Kit) {
    let (ledger, writer) = Ledger::open(kit.journal());
    kit.append(&batch(1, vec![record("saved", NOW)])).await;
    ledger.append(record("unsaved", NOW + 1));
    ledger.append(record("saved", NOW));
    let rows = ledger.recent(&Filter::default(), 10, None).await.expect("a list");
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["unsaved", "saved"]);
    drop(writer);
}

fn any_record() -> impl Strategy<Value = Record> {
    let words = (0..3usize, 0..3usize, 0..2usize, 0..3usize, 0..6usize, 0..4usize, 0..8u8);
    let counts = (0..5_000_000_000u64, 0..9_000u64, 0..3u32, 0..700_000u64, 0..90_000u64);
    let money = (
        prop::option::weighted(0.8, 0..9_000_000_000i64),
        prop::option::of(0..5_000i64),
        prop::option::of(0..5_000i64),
    );
    (-80 * HOUR_MS..=0, words, counts, money).prop_map(|(offset, words, counts, money)| Record {
        provider: ["", "groq", "openai"][words.0].into(),
        model: ["", "small", "large"][words.1].to_owned(),
        task: ["coding", "general"][words.2].into(),
        key: [None, Some("team".into()), Some("other".into())][words.3].clone(),
        status: Status::ALL[words.4],
        cache: CacheUse::ALL[words.5],
        demo: words.6 == 0,
        estimated_usage: words.6 == 1,
        prompt_tokens: counts.0,
        completion_tokens: counts.1,
        failovers: counts.2,
        total_ms: counts.3,
        first_token_ms: Some(counts.4).filter(|ms| ms % 5 != 0),
        cost: money.0.map(NanoUsd),
        saved_by_cache: money.1.map(NanoUsd),
        saved_by_routing: money.2.map(NanoUsd),
        ..Record::new("any".into(), NOW + offset)
    })
}

fn any_query() -> impl Strategy<Value = UsageQuery> {
    let moment = || prop::option::of((-85 * HOUR_MS..HOUR_MS).prop_map(|offset| NOW + offset));
    (prop::sample::subsequence(Dimension::ALL.to_vec(), 0..=4), moment(), moment())
        .prop_map(|(group_by, since_ms, until_ms)| UsageQuery { group_by, since_ms, until_ms, ..UsageQuery::default() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever was recorded and whatever is asked: the report says what adding up the requests says, before they are
    /// summed, when some of them are, when all are, and after a rebuild; and its rows add up to its total.
    #[test]
    fn a_report_is_the_sum_of_its_requests(
        records in prop::collection::vec(any_record(), 0..120),
        queries in prop::collection::vec(any_query(), 6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            adds_up(Kit::sqlite().await, &records, &queries).await;
            if let Some(kit) = Kit::postgres().await {
                adds_up(kit, &records, &queries).await;
            }
        });
    }
}

async fn adds_up(kit: Kit, records: &[Record], queries: &[UsageQuery]) {
    let half = records.len() / 2;
    kit.append(&batch(1, records[..half].to_vec())).await;
    for stage in 0..3 {
        match stage {
            0 => kit.append(&batch(2, records[half..].to_vec())).await,
            1 => kit.sum_some().await,
            _ => kit.rebuild().await,
        }
        for query in queries {
            let report = kit.report(query).await;
            let mut grouping = Grouping::new(&query.group_by);
            for record in records.iter().filter(|record| query.covers(record.started_unix_ms)) {
                grouping.add(record.started_unix_ms, &Labels::of(record), &Facts::of(record));
            }
            assert_eq!(report, Report::new(query, grouping.into_groups()), "stage {stage}");
            let real = || report.rows.iter().filter(|line| !line.demo).map(|line| &line.totals);
            assert_eq!(real().map(|row| row.requests).sum::<u64>(), report.total.requests);
            assert_eq!(real().map(|row| row.prompt_tokens).sum::<u64>(), report.total.prompt_tokens);
            let cost: NanoUsd = real().filter_map(|row| row.cost_usd).sum();
            assert_eq!(cost, report.total.cost_usd.unwrap_or_default());
        }
    }
    kit.store.close().await;
}
