//! How fast a PostgreSQL database takes rows, and how large they are: `cargo run --release --example postgres_rows -- URL [ROWS]`.
//! The database is filled and left as it is: use an empty one.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use stepwell::config::{Storage, built_in};
use stepwell::ledger::journal::{Batch, Journal};
use stepwell::ledger::record::{AttemptRow, Decision, Record, Status};
use stepwell::ledger::usage::UsageQuery;
use stepwell::money::NanoUsd;
use stepwell::store::postgres::Postgres;

/// Rows of one batch under load.
const BATCH: usize = 4_096;

struct Typical;

impl Decision for Typical {
    fn json(&self) -> String {
        format!(
            r#"{{"task":"coding","candidates":[{}]}}"#,
            vec![r#"{"provider":"one","model":"m1","score":0.83}"#; 20].join(",")
        )
    }
}

fn row(index: usize) -> Record {
    let now = jiff::Timestamp::now().as_millisecond();
    let mut record = Record::new(uuid::Uuid::now_v7().to_string().into(), now - (index % 100) as i64 * 600_000);
    record.provider = ["one", "two", "three"][index % 3].into();
    record.model = format!("m{}", index % 7);
    record.task = "coding".into();
    record.status = Status::Completed;
    record.cost = Some(NanoUsd(1_500));
    record.total_ms = (index % 5_000) as u64;
    record.attempts = vec![AttemptRow { provider: "one".to_owned(), model: "m1".to_owned(), ..AttemptRow::default() }];
    record.decision = Some(Arc::new(Typical));
    record
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the first argument is the address of an empty database")?;
    let rows: usize = arguments.next().map_or(Ok(100_000), |rows| rows.parse())?;
    let yaml = format!("providers: {{ demo: }}\nstorage: {{ url: '{url}' }}\n");
    let Storage::Postgres(url) = built_in("argument", &yaml)?.settings.storage else {
        return Err("no PostgreSQL".into());
    };
    let store = Postgres::open(&url).await?;
    let began = Instant::now();
    for (number, start) in (1..).zip((0..rows).step_by(BATCH)) {
        let records = (start..rows.min(start + BATCH)).map(|index| Arc::new(row(index))).collect();
        store.append(&Batch { run: uuid::Uuid::nil().as_u128(), number, records }).await?;
    }
    let took = began.elapsed();
    println!("{rows} rows in {took:?}: {:.0} rows/s, sums included", rows as f64 / took.as_secs_f64());
    let began = Instant::now();
    let groups = store.usage(&UsageQuery::default()).await?;
    let requests: u64 = groups.iter().map(|group| group.cell.requests).sum();
    println!("a report over {requests} rows in {:?}", began.elapsed());
    store.close().await;
    Ok(())
}
