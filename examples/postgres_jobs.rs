//! How fast a PostgreSQL database hands out jobs: `cargo run --release --example postgres_jobs -- URL [JOBS]`.
//! The database is filled and left as it is: use an empty one.

use std::error::Error;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use stepwell::config::{Storage, built_in};
use stepwell::jobs::job::{End, Kind, New};
use stepwell::jobs::queue::Queue;
use stepwell::store::postgres::Postgres;

const WORKERS: usize = 8;
const LEASE: Duration = Duration::from_secs(600);

fn job(index: usize) -> New {
    New {
        id: format!("job-{index}-{}", uuid::Uuid::now_v7().simple()),
        kind: Kind::Request,
        key: None,
        part_of: None,
        priority: 0,
        not_before_unix_ms: None,
        expires_unix_ms: None,
        max_attempts: 5,
        request: vec![7; 1_000],
        webhook: false,
        carried_by: None,
    }
}

fn told(what: &str, jobs: usize, took: Duration) {
    println!("{what:<44} {:>8.0}/s", jobs as f64 / took.as_secs_f64());
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the first argument is the address of an empty database")?;
    let jobs: usize = arguments.next().map_or(Ok(10_000), |jobs| jobs.parse())?;
    let each = jobs / WORKERS;
    let jobs = each * WORKERS;
    let yaml = format!("providers: {{ demo: }}\nstorage: {{ url: '{url}' }}\n");
    let Storage::Postgres(url) = built_in("argument", &yaml)?.settings.storage else {
        return Err("no PostgreSQL".into());
    };
    let store = &Postgres::open(&url).await?;

    let began = Instant::now();
    try_join_all((0..WORKERS).map(|_| async move {
        for index in 0..each {
            store.submit(&[job(index)]).await?;
        }
        Ok::<_, stepwell::ledger::journal::Failure>(())
    }))
    .await?;
    told("submissions, one by one, by 8 callers", jobs, began.elapsed());

    // The dearest way: nobody claims more than one at once.
    let half = each / 2;
    let began = Instant::now();
    let held = try_join_all((0..WORKERS).map(|_| async move {
        let mut held = Vec::with_capacity(half);
        for _ in 0..half {
            held.extend(store.claim("example", 1, LEASE).await?);
        }
        Ok::<_, stepwell::ledger::journal::Failure>(held)
    }))
    .await?;
    told("claims, one by one, by 8 workers", half * WORKERS, began.elapsed());

    let began = Instant::now();
    let rest = try_join_all((0..WORKERS).map(|_| async move {
        let mut held = Vec::new();
        loop {
            let some = store.claim("example", 16, LEASE).await?;
            if some.is_empty() {
                return Ok::<_, stepwell::ledger::journal::Failure>(held);
            }
            held.extend(some);
        }
    }))
    .await?;
    told("claims, up to 16 at once, by 8 workers", rest.iter().map(Vec::len).sum(), began.elapsed());

    let held: Vec<Vec<_>> = held.into_iter().zip(rest).map(|(one, two)| [one, two].concat()).collect();
    let end = &End::Completed { http_status: 200, result: vec![7; 1_000] };
    let began = Instant::now();
    let ended = try_join_all(held.iter().map(|held| async move {
        let mut ended = 0;
        for claimed in held {
            ended += usize::from(store.end(&claimed.hold, end).await?);
        }
        Ok::<_, stepwell::ledger::journal::Failure>(ended)
    }))
    .await?;
    told("ends, one by one, by 8 workers", ended.iter().sum(), began.elapsed());
    store.close().await;
    Ok(())
}
