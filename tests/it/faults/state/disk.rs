//! No room for the ledger. Requests are answered, rows wait in memory, and all of them are saved in the end.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{ONE, home};
use crate::support::app::ask;
use crate::support::process::{Home, Process, until};
use crate::support::upstream;

/// Asks for `count` answers while the disk is full, and sees that everybody is told.
async fn served_but_degraded(process: &Process, run: &str, count: usize) {
    for index in 0..count {
        assert_eq!(process.chat(&format!("{run}-{index}"), &ask("hi")).await.0, 200, "requests are served");
    }
    until("the ledger is degraded", async || process.get("/health").await["ledger"]["last_error"].is_string()).await;
    let health = process.get("/health").await;
    assert_eq!((health["status"].as_str(), health["ledger"]["status"].as_str()), (Some("degraded"), Some("degraded")));
    assert_eq!(health["ledger"]["pending"].as_u64(), Some(count as u64), "{health}");
    let metrics = process.metrics().await;
    assert!(metrics.contains("stepwell_ledger_degraded 1"), "{metrics}");
    assert!(metrics.contains(&format!("stepwell_ledger_unsaved_rows {count}")), "{metrics}");
    let row = process.get(&format!("/v1/requests/{run}-0")).await;
    assert_eq!(row["status"], "completed", "rows that wait are shown");
}

async fn caught_up(process: &Process, home: &Home, run: &str, count: usize) {
    until("it catches up", async || process.get("/health").await["ledger"]["pending"] == 0).await;
    let health = process.get("/health").await;
    assert_eq!((health["status"].as_str(), health["ledger"]["last_error"].as_str()), (Some("ok"), None), "{health}");
    assert!(process.metrics().await.contains("stepwell_ledger_degraded 0"));
    // Another process reads the file: whole rows, each once.
    for index in 0..count {
        let mut explain = home.command();
        explain.args(["explain", "--json", &format!("{run}-{index}"), "--data-dir"]).arg(home.data());
        let output = explain.output().expect("output");
        assert!(output.status.success(), "{run}-{index}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let listed = process.get("/v1/requests?limit=1000").await;
    let rows = listed["data"].as_array().expect("rows");
    let of_run = |row: &&serde_json::Value| row["id"].as_str().is_some_and(|id| id.starts_with(&format!("{run}-")));
    assert_eq!(rows.iter().filter(of_run).count(), count);
}

#[tokio::test]
async fn d03_files_that_must_not_grow_cost_no_request_and_no_row() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let process = home.start().await;
    process.chat("before", &ask("hi")).await;
    until("it is saved", async || process.get("/health").await["ledger"]["saved"] == 1).await;
    let pid = Pid::from_raw(process.id().cast_signed());
    let limit =
        |current: Option<u64>| prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).expect("a limit");
    limit(Some(4096));
    served_but_degraded(&process, "full", 12).await;
    limit(None);
    caught_up(&process, &home, "full", 12).await;
    assert_eq!(process.stop().await, Some(0));
}

/// A small file system of its own.
struct Mounted(PathBuf);

impl Mounted {
    fn on(directory: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(directory).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(directory.to_owned()));
        }
        // Not `eprintln!`, which the harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED a test with a full disk: mounting takes root");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn d03_a_full_disk_costs_no_request_and_no_row() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let Some(_mounted) = Mounted::on(&home.data(), "size=1m") else { return };
    let process = home.start().await;
    process.chat("before", &ask("hi")).await;
    until("it is saved", async || process.get("/health").await["ledger"]["saved"] == 1).await;
    let ballast = home.data().join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    served_but_degraded(&process, "full", 12).await;
    drop(file);
    std::fs::remove_file(&ballast).expect("room again");
    caught_up(&process, &home, "full", 12).await;
    assert_eq!(process.stop().await, Some(0));
}

#[tokio::test]
async fn d03_a_read_only_disk_at_the_start_is_told_with_the_file() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let Some(_mounted) = Mounted::on(&home.data(), "size=1m,ro") else { return };
    assert_eq!(home.fails().await, Some(1));
    assert!(home.errors().contains("stepwell.db"), "{}", home.errors());
}
