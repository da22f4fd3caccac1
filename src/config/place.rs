//! Where things are: the configuration file and the data directory. The only place that reads the environment.

use std::path::{Path, PathBuf};

/// The process's environment. An empty variable counts as unset.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    /// No file: see what the environment offers.
    Detect,
    /// The demo provider, whatever else there is.
    Demo,
}

/// `--config` > `STEPWELL_CONFIG` > `./providers.yaml` > the user's > the system's > none. The first two are taken at
/// their word: if they name a file that does not exist, loading fails.
pub fn locate(explicit: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Source {
    if let Some(path) = explicit {
        return Source::File(path.to_owned());
    }
    if let Some(path) = env("STEPWELL_CONFIG") {
        return Source::File(path.into());
    }
    let user = home(env, "XDG_CONFIG_HOME", ".config").map(|directory| directory.join("stepwell/providers.yaml"));
    let usual = [Some("providers.yaml".into()), user, Some("/etc/stepwell/providers.yaml".into())];
    let found = usual.into_iter().flatten().find(|path: &PathBuf| path.is_file());
    found.map_or(Source::Detect, Source::File)
}

/// `--data-dir` > `STEPWELL_DATA_DIR` > `STATE_DIRECTORY` (systemd) > `$XDG_DATA_HOME/stepwell`. `None` if there is not
/// even a home directory.
pub fn data_dir(explicit: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    explicit
        .map(Path::to_owned)
        .or_else(|| env("STEPWELL_DATA_DIR").map(PathBuf::from))
        // systemd lists several directories with colons; the first one is ours.
        .or_else(|| env("STATE_DIRECTORY").and_then(|list| list.split(':').next().map(PathBuf::from)))
        .or_else(|| home(env, "XDG_DATA_HOME", ".local/share").map(|directory| directory.join("stepwell")))
}

/// An XDG base directory. A relative one is to be ignored, says the specification.
fn home(env: &dyn Fn(&str) -> Option<String>, variable: &str, below_home: &str) -> Option<PathBuf> {
    let written = env(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    written.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(below_home)))
}
