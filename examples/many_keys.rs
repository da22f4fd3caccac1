//! Makes keys by the thousand, for measurements: `many_keys DATABASE COUNT` prints one a line.

use std::path::PathBuf;

use anyhow::Context;
use secrecy::ExposeSecret;
use stepwell::app::keys::pepper;
use stepwell::store::Home;
use stepwell::tenant::keeper::Keeper;
use stepwell::tenant::key::Wish;
use stepwell::tenant::settings::Auth;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let database: PathBuf = arguments.next().context("the first argument is a database")?.into();
    let count: usize = arguments.next().context("the second argument is a number")?.parse()?;
    let home = Home::File(database);
    let store = home.open().await?;
    let keeper = Keeper::new(store.vault(), pepper(&Auth::default(), &home, &store).await?);
    let now_ms = jiff::Timestamp::now().as_millisecond();
    for number in 0..count {
        let (tier, team) = (Some("measured".to_owned()), Some("measured".to_owned()));
        let wish = Wish { name: format!("key-{number}"), tier, team, ..Wish::default() };
        let (_, text) = keeper.create(wish, now_ms).await?;
        println!("{}", text.expose_secret());
    }
    drop(keeper);
    store.close().await;
    Ok(())
}
