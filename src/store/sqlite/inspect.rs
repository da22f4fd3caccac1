//! Is this file a sound database? Asked once, at the start, so that damage is found before anything relies on it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sqlx::SqliteConnection;

use super::OpenError;

/// The first bytes of every SQLite file (SQLite file format, section 1.3).
const HEADER: &[u8; 16] = b"SQLite format 3\0";
/// Files up to this size are checked page by page (about a second); larger ones by their schema only.
const CHECKED: u64 = 128 << 20;

/// Which file a name leads to: device and number.
pub type Identity = (u64, u64);

pub fn identity(path: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether a file that has taken a database's place may be used: it has content, and no write-ahead log of another one.
pub fn replacement(path: &Path) -> Result<(), OpenError> {
    header(path)?;
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size(path) == 0 {
        return Err(OpenError::Empty(path.to_owned()));
    }
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if size(Path::new(&log)) > 0 {
        return Err(OpenError::ForeignLog(log.into()));
    }
    Ok(())
}

/// A missing or empty file is fine, it will be filled. Anything else must begin like a database.
pub fn header(path: &Path) -> Result<(), OpenError> {
    let unreadable = |source| OpenError::Unreadable { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(HEADER.len() as u64).read_to_end(&mut start).map_err(unreadable)?;
    if start.is_empty() || start == HEADER {
        return Ok(());
    }
    Err(OpenError::Damaged { path: path.to_owned(), detail: "it does not begin like a SQLite database".to_owned() })
}

pub async fn content(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let check = if size <= CHECKED { "PRAGMA quick_check(1)" } else { "SELECT 'ok' FROM sqlite_schema LIMIT 1" };
    let verdict: Option<String> =
        sqlx::query_scalar(check).fetch_optional(connection).await.map_err(|error| explain(path, error))?;
    match verdict {
        Some(detail) if detail != "ok" => {
            let detail = detail.lines().last().unwrap_or_default().to_owned();
            Err(OpenError::Damaged { path: path.to_owned(), detail })
        }
        _ => Ok(()),
    }
}

/// The newest step of the schema that a file has; an error in a file without any.
pub async fn version(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(connection).await
}

/// Tells damage from everything else that can go wrong.
pub fn explain(path: &Path, error: sqlx::Error) -> OpenError {
    let path = path.to_owned();
    // SQLITE_CORRUPT is 11, SQLITE_NOTADB 26; the low byte of an extended code (SQLite result codes).
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok()).map(|code| code & 0xff);
    match code {
        Some(11 | 26) => OpenError::Damaged { path, detail: super::failure(error).0 },
        _ => OpenError::Database { path, source: error },
    }
}
