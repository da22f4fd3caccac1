//! A few connections, shared.
//!
//! Not the driver's own pool: that one tries a refused connection again until its deadline and then says that it took too
//! long, where an operator wants to know at once that nobody listens; and it hands connections back in tasks of their own,
//! which an unresponsive server keeps waiting. Here a connection comes back only after work that went well, and every other
//! one is closed where it stands.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

/// A connection that was used a moment ago is believed to work; every other one is asked.
const BELIEVED: Duration = Duration::from_secs(1);

pub struct Pool {
    options: PgConnectOptions,
    places: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: PgConnection,
    since: Instant,
}

/// A connection in use. Closed when it is dropped, unless [`Lease::settle`] found it sound.
pub struct Lease<'p> {
    pool: &'p Pool,
    connection: Option<PgConnection>,
    sound: bool,
    _place: SemaphorePermit<'p>,
}

impl Pool {
    pub fn new(options: PgConnectOptions, connections: u32) -> Self {
        Self { options, places: Semaphore::new(connections as usize), idle: Mutex::new(Vec::new()) }
    }

    /// A connection that works, as far as can be known. Waits while all are in use; the caller bounds that.
    pub async fn lease(&self) -> Result<Lease<'_>, sqlx::Error> {
        let place = self.places.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let connection = match self.take().await {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Lease { pool: self, connection: Some(connection), sound: false, _place: place })
    }

    async fn take(&self) -> Option<PgConnection> {
        let Idle { mut connection, since } = self.idle.lock().pop()?;
        if since.elapsed() < BELIEVED || connection.ping().await.is_ok() {
            return Some(connection);
        }
        // The server was restarted, or cut us off: then the others are no better.
        self.idle.lock().clear();
        None
    }

    /// Ends it: connections at rest are closed, and nobody gets another one.
    pub async fn close(&self) {
        self.places.close();
        let idle = std::mem::take(&mut *self.idle.lock());
        for Idle { connection, .. } in idle {
            let _ = connection.close().await;
        }
    }
}

impl Lease<'_> {
    /// Looks at how the work ended: after an answer of the server, good or bad, outside of a transaction, the connection
    /// can be used again.
    pub fn settle<T>(&mut self, result: &Result<T, sqlx::Error>) {
        self.sound = result.is_ok() && !self.pool.places.is_closed();
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| self.sound) {
            self.pool.idle.lock().push(Idle { connection, since: Instant::now() });
        }
    }
}

impl Deref for Lease<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("taken only when it is dropped")
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("taken only when it is dropped")
    }
}
