//! Files, disks, databases, signals and clocks that misbehave.

mod disk; // D03: no room for the ledger
mod ledger_file; // D04: locked, damaged, gone
mod reload; // D01, D02: configurations that come, go and break
mod signals; // D08, D09 and kill -9

use crate::support::process::Home;
use crate::support::upstream::Upstream;

const ONE: &str =
    "providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1 } ] } }\ncache: { enabled: false }\n";

fn home(yaml: &str, one: &Upstream) -> Home {
    Home::new(&yaml.replace("{0}", &one.url))
}
