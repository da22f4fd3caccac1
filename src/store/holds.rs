//! The log of holds, in a file beside the database: one line when a hold is opened, one when it is settled.
//!
//! Lines are written and not synced: they survive the end of the process, however it ends, and not the loss of power. The
//! file is begun anew when it is large and everything in the one before it is in the ledger.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::admission::outstanding::{Log, Opened, Orphan, Settled};
use crate::ledger::Ledger;

/// A file above this size is put aside, in bytes: some ten thousand requests.
const LARGE: u64 = 4 << 20;

/// The log. Share it behind an `Arc`.
pub struct Holds {
    path: PathBuf,
    ledger: Ledger,
    state: Mutex<State>,
}

struct State {
    file: Option<File>,
    size: u64,
    /// Opened in this file and not settled.
    open: u64,
    /// Of the file that was put aside.
    aside: Option<Aside>,
    failing: bool,
}

struct Aside {
    open: u64,
    /// Rows that the ledger has to have saved before its file can go; known once all are settled.
    goal: Option<u64>,
    /// Holds opened from here on are in the new file.
    since_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Opened(Opened),
    Settled(Settled),
}

impl Holds {
    /// Reads what an earlier process left, oldest first. A last line that was cut is no line.
    pub fn left_behind(database: &Path) -> std::io::Result<Vec<Orphan>> {
        let mut orphans: Vec<Orphan> = Vec::new();
        let mut places: HashMap<(String, i64), usize> = HashMap::new();
        for path in [aside(database), path(database)] {
            let text = match fs::read(&path) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for line in text.lines() {
                match serde_json::from_str(line) {
                    Ok(Line::Opened(hold)) => {
                        places.insert((hold.id.clone(), hold.began_unix_ms), orphans.len());
                        orphans.push(Orphan { hold, end: None });
                    }
                    Ok(Line::Settled(end)) => {
                        if let Some(place) = places.get(&(end.id.clone(), end.began_unix_ms)) {
                            orphans[*place].end = Some(end);
                        }
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(orphans)
    }

    /// Takes the log for this process, until the file that is returned is dropped. Fails with [`ErrorKind::WouldBlock`]
    /// while another process has it: both would take the other's requests under way for left behind.
    pub fn claim(database: &Path) -> std::io::Result<File> {
        if let Some(directory) = database.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory)?;
        }
        let lock =
            File::options().create(true).truncate(false).write(true).open(path(database).with_extension("lock"))?;
        lock.try_lock()?;
        Ok(lock)
    }

    /// Forgets what an earlier process left, and begins anew. Call when its orphans are in the ledger.
    pub fn begin(database: &Path, ledger: Ledger) -> std::io::Result<Self> {
        remove(&aside(database))?;
        remove(&path(database))?;
        let state = State { file: None, size: 0, open: 0, aside: None, failing: false };
        Ok(Self { path: path(database), ledger, state: Mutex::new(state) })
    }

    fn write(&self, state: &mut State, line: &Line) {
        let mut bytes = serde_json::to_vec(line).unwrap_or_default();
        bytes.push(b'\n');
        let written = match &mut state.file {
            Some(file) => file.write_all(&bytes),
            none => OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)
                .and_then(|file| none.insert(file).write_all(&bytes)),
        };
        state.size += bytes.len() as u64;
        match written {
            Ok(()) => state.failing = false,
            Err(error) if !state.failing => {
                state.failing = true;
                tracing::error!(%error, "holds are not written down: a crash would forget what requests under way cost");
            }
            Err(_) => {}
        }
    }

    /// Puts a large file aside, once the one before it can go.
    fn turn(&self, state: &mut State, now_ms: i64) {
        if let Some(before) = &mut state.aside {
            if before.open == 0 && before.goal.is_none() {
                before.goal = Some(self.ledger.appended());
            }
            if before.goal.is_some_and(|goal| self.ledger.saved() >= goal) && remove(&aside_of(&self.path)).is_ok() {
                state.aside = None;
            }
        }
        if state.size > LARGE && state.aside.is_none() && fs::rename(&self.path, aside_of(&self.path)).is_ok() {
            state.aside = Some(Aside { open: state.open, goal: None, since_ms: now_ms });
            (state.file, state.size, state.open) = (None, 0, 0);
        }
    }
}

impl Log for Holds {
    fn opened(&self, hold: &Opened) {
        let mut state = self.state.lock();
        self.turn(&mut state, hold.began_unix_ms);
        state.open += 1;
        self.write(&mut state, &Line::Opened(hold.clone()));
    }

    fn settled(&self, end: &Settled) {
        let mut state = self.state.lock();
        let began_unix_ms = end.began_unix_ms;
        self.write(&mut state, &Line::Settled(end.clone()));
        // Told apart by time: off by one at the turn keeps a file a little longer, and loses nothing.
        match &mut state.aside {
            Some(before) if began_unix_ms < before.since_ms && before.open > 0 => before.open -= 1,
            _ => state.open = state.open.saturating_sub(1),
        }
    }
}

fn path(database: &Path) -> PathBuf {
    database.with_extension("holds")
}

fn aside(database: &Path) -> PathBuf {
    aside_of(&path(database))
}

fn aside_of(path: &Path) -> PathBuf {
    path.with_extension("holds.1")
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::outstanding::Used;

    fn hold(id: usize) -> Opened {
        Opened {
            id: format!("req_{id}"),
            began_unix_ms: id as i64,
            worst: 7,
            key: Some("k".to_owned()),
            team: None,
            tier: None,
            tags: "x".repeat(1000),
            provider: "p".to_owned(),
            model: "m".to_owned(),
        }
    }

    fn end(id: usize) -> Settled {
        let used = Used { prompt_tokens: 10, completion_tokens: 3, ..Used::default() };
        Settled { id: format!("req_{id}"), began_unix_ms: id as i64, cost: Some(5), used, ..Settled::default() }
    }

    #[test]
    fn a_log_of_a_version_that_kept_no_tokens_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let database = directory.path().join("stepwell.db");
        let holds = Holds::begin(&database, Ledger::default()).expect("a log");
        holds.opened(&hold(1));
        let old = b"{\"settled\":{\"id\":\"req_1\",\"began_unix_ms\":1,\"cost\":5}}\n".to_vec();
        fs::write(path(&database), [fs::read(path(&database)).expect("a file"), old].concat()).expect("a file");
        let left = Holds::left_behind(&database).expect("readable");
        assert_eq!(left[0].end, Some(Settled { used: Used::default(), ..end(1) }));
    }

    #[test]
    fn what_was_opened_is_there_after_a_crash_with_what_is_known_of_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let database = directory.path().join("stepwell.db");
        let holds = Holds::begin(&database, Ledger::default()).expect("a log");
        holds.opened(&hold(1));
        holds.opened(&hold(2));
        holds.settled(&end(1));
        // The process is killed while it writes.
        fs::write(
            path(&database),
            [fs::read(path(&database)).expect("a file"), b"{\"opened\":{\"id\"".to_vec()].concat(),
        )
        .expect("a file");
        let left = Holds::left_behind(&database).expect("readable");
        assert_eq!(left, [Orphan { hold: hold(1), end: Some(end(1)) }, Orphan { hold: hold(2), end: None }]);
        drop(Holds::begin(&database, Ledger::default()).expect("a log"));
        assert_eq!(Holds::left_behind(&database).expect("readable"), []);
    }

    #[test]
    fn the_file_stays_bounded_and_no_open_hold_is_lost_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let database = directory.path().join("stepwell.db");
        let holds = Holds::begin(&database, Ledger::default()).expect("a log");
        holds.opened(&hold(0));
        for id in 1..9_000 {
            holds.opened(&hold(id));
            holds.settled(&end(id));
        }
        let left = Holds::left_behind(&database).expect("readable");
        assert_eq!(left.first(), Some(&Orphan { hold: hold(0), end: None }), "kept aside as long as it is open");
        holds.settled(&end(0));
        for id in 9_000..18_000 {
            holds.opened(&hold(id));
            holds.settled(&end(id));
        }
        let size = |path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        assert!(size(path(&database)) + size(aside(&database)) < 3 * LARGE);
    }
}
