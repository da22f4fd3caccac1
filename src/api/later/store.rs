//! Files in sealed pieces: written and read one piece at a time.

use bytes::Bytes;

use super::{Desk, unkept};
use crate::api::error::ApiError;
use crate::batch::file::{File, PIECE};
use crate::ledger::journal::Failure;

/// A file that is being written. One that is not finished is never shown.
pub struct Writing<'d> {
    desk: &'d Desk,
    file: File,
    place: i64,
    waiting: Vec<u8>,
    pub bytes: u64,
}

impl<'d> Writing<'d> {
    pub async fn begin(desk: &'d Desk, file: File) -> Result<Self, ApiError> {
        desk.kept.files.begin(&file).await.map_err(unkept)?;
        Ok(Self { desk, file, place: 0, waiting: Vec::with_capacity(PIECE), bytes: 0 })
    }

    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), ApiError> {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
            if self.waiting.len() == PIECE {
                self.put().await?;
            }
        }
        Ok(())
    }

    async fn put(&mut self) -> Result<(), ApiError> {
        let sealed = self.desk.seal(&place(&self.file.id, self.place), &self.waiting)?;
        self.desk.kept.files.put(&self.file.id, self.place, &sealed).await.map_err(unkept)?;
        self.place += 1;
        self.waiting.clear();
        Ok(())
    }

    /// From now on it is there.
    pub async fn finish(mut self) -> Result<File, ApiError> {
        if !self.waiting.is_empty() {
            self.put().await?;
        }
        let file = File { bytes: self.bytes, whole: true, ..self.file };
        self.desk.kept.files.finish(&file).await.map_err(unkept)?;
        Ok(file)
    }

    /// The same, for a caller's file: what it is for is known when all of the form was read. `lasting_ms` from now on;
    /// `None`: until it is deleted.
    pub async fn finish_as(mut self, purpose: &str, lasting_ms: Option<i64>) -> Result<File, ApiError> {
        self.file.purpose = purpose.to_owned();
        self.file.expires = lasting_ms.map(|lasting| self.file.created.saturating_add(lasting));
        self.finish().await
    }

    /// It is not wanted.
    pub async fn abandon(self) {
        // What stays behind goes after a day.
        let _ = self.desk.kept.files.delete(&self.file.id).await;
    }
}

impl Desk {
    /// A piece of a file; `None` behind the last one. A piece that cannot be opened is a failure, never an end.
    pub async fn piece(&self, file: &str, number: i64) -> Result<Option<Bytes>, Failure> {
        let Some(sealed) = self.kept.files.piece(file, number).await? else { return Ok(None) };
        let opened = self.open(&place(file, number), &sealed);
        let opened = opened.ok_or_else(|| Failure(format!("piece {number} of `{file}` cannot be opened")))?;
        Ok(Some(opened.into()))
    }
}

fn place(file: &str, number: i64) -> String {
    format!("{file}/{number}")
}
