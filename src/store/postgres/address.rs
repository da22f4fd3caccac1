//! The configured address as the driver wants it.

use std::str::FromStr;

use secrecy::ExposeSecret;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::OpenError;
use crate::config::PostgresUrl;

/// What every session asks of the server. A server of ours that vanishes in the middle of a transaction must not keep its
/// locks from the others, and a statement that nobody waits for any longer must end.
const SESSION: [(&str, &str); 2] = [("idle_in_transaction_session_timeout", "15s"), ("statement_timeout", "120s")];

pub fn options(url: &PostgresUrl) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url.secret().expose_secret())
        .map_err(|_| OpenError::Address { shown: url.shown().to_owned() })?;
    let named = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("stepwell"),
    };
    Ok(named.options(SESSION).disable_statement_logging())
}
