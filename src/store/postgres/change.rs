//! A change and the events that tell it, in one transaction.
//!
//! It begins by saying how far the log had come, as a shared lock that ends with the transaction, and draws places for its
//! events at the end. So whoever reads the log can tell up to where nobody can add any more; see `events.rs`. Writers wait for
//! each other only at the rows that both change.

use sqlx::{Connection, PgConnection, Transaction};

use super::rows::storable;
use crate::events::log::Note;
use crate::events::{Facts, Kind};

/// The lock is named by the sequence, so that several schemas in one database do not disturb each other, and by the lower
/// half of the place. Bit for bit: both are shown as unsigned numbers again.
const BEGIN: &str = "\
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, pg_advisory_xact_lock_shared(
    'event_place'::regclass::oid::integer,
    (((coalesce(pg_sequence_last_value('event_place'), 0) + 2147483648) & 4294967295) - 2147483648)::integer)";

pub struct Change<'c> {
    transaction: Transaction<'c, sqlx::Postgres>,
    /// The database's clock, in Unix milliseconds.
    pub now_ms: i64,
    notes: Vec<Note>,
}

impl<'c> Change<'c> {
    pub async fn begin(connection: &'c mut PgConnection) -> Result<Self, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        let now_ms = sqlx::query_scalar(BEGIN).fetch_one(&mut *transaction).await?;
        Ok(Self { transaction, now_ms, notes: Vec::new() })
    }

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Something has happened just now.
    pub fn tell(&mut self, kind: Kind, subject: &str, key: Option<&str>, facts: Facts) {
        let (subject, key) = (subject.to_owned(), key.map(str::to_owned));
        self.note(Note { at_unix_ms: self.now_ms, kind, subject, key, facts });
    }

    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// All of it counts from here on.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        if !self.notes.is_empty() {
            let words = |word: fn(&Note) -> Option<String>| self.notes.iter().map(word).collect::<Vec<_>>();
            sqlx::query(
                "INSERT INTO event (at_unix_ms, kind, subject, key, facts) \
                 SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])",
            )
            .bind(self.notes.iter().map(|note| note.at_unix_ms).collect::<Vec<_>>())
            .bind(words(|note| Some(note.kind.as_str().to_owned())))
            .bind(words(|note| Some(storable(&note.subject))))
            .bind(words(|note| note.key.as_deref().map(storable)))
            .bind(words(|note| Some(serde_json::to_string(&note.facts).unwrap_or_else(|_| "{}".to_owned()))))
            .execute(&mut *self.transaction)
            .await?;
        }
        self.transaction.commit().await
    }
}
