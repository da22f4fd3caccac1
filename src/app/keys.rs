//! The installation's secret, and the keys in force: read at the start, and whenever somebody changes them.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::operations::Operations;
use crate::store::{Home, Store};
use crate::tenant::access::Access;
use crate::tenant::keeper::Keeper;
use crate::tenant::secret::Pepper;
use crate::tenant::settings::Auth;

/// How often changes of another process are looked for. A revocation counts within 5 s (issue of keys, CONTRACT).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The secret under which keys are hashed: the configured one; or the one of the installation, which is in a file beside
/// the database, or in a database that several servers share, since they have no file in common. It is drawn where there is
/// none.
pub async fn pepper(auth: &Auth, home: &Home, store: &Store) -> anyhow::Result<Pepper> {
    if let Some(secret) = &auth.secret {
        return Ok(Pepper::of(secret));
    }
    match store {
        Store::Sqlite(_) => of_file(&secret_file(home.beside())),
        Store::Postgres(shared) => {
            let fresh = Pepper::random()?.to_hex().expose_secret().to_owned();
            let kept = shared.secret(fresh).await.context("the secret of the keys cannot be read")?;
            Pepper::from_hex(&kept).context("`access_state.secret` is no secret of stepwell; restore it from a backup")
        }
    }
}

fn of_file(path: &Path) -> anyhow::Result<Pepper> {
    for _ in 0..2 {
        match fs::read_to_string(path) {
            Ok(text) => {
                return Pepper::from_hex(&text).with_context(|| {
                    format!("`{}` is no secret of stepwell; restore it from a backup", path.display())
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => draw(path)?,
            Err(error) => bail!("cannot read `{}`: {error}", path.display()),
        }
    }
    bail!("`{}` comes and goes", path.display())
}

/// Whole or not at all, and only for ourselves. Another process may have been first.
fn draw(path: &Path) -> anyhow::Result<()> {
    let fresh = Pepper::random()?;
    let half = path.with_extension(format!("secret.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&half);
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        writeln!(file, "{}", fresh.to_hex().expose_secret())?;
        file.sync_all()?;
        match fs::hard_link(&half, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    let written = write();
    let _ = fs::remove_file(&half);
    written.with_context(|| format!("cannot write `{}`, under which keys are hashed", path.display()))
}

fn secret_file(database: &Path) -> PathBuf {
    database.with_extension("secret")
}

/// Keeps the keys in force those in the store, until `stop`. While the store does not answer, those that are known stay in
/// force, and operators see that it does not.
pub async fn follow(keeper: Arc<Keeper>, access: Arc<Access>, operations: Arc<Operations>, stop: CancellationToken) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let known = access.ring().version;
        let looked = async {
            if keeper.version().await? == known {
                return Ok(None);
            }
            keeper.ring().await.map(Some)
        };
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = looked => looked,
        };
        operations.store_answered(looked.as_ref().err().map(ToString::to_string));
        match looked {
            Ok(Some(ring)) => {
                tracing::info!(version = ring.version, "keys have changed");
                access.replace_ring(ring);
                failing = false;
            }
            Ok(None) => failing = false,
            Err(error) => {
                if !failing {
                    tracing::error!("changes of keys are not seen: {error}");
                }
                failing = true;
            }
        }
    }
}
