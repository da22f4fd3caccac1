//! `stepwell init [--from-env]`.

use std::io::Write;
use std::path::Path;

use super::{Exit, Outcome, print};
use crate::config::{environment, template};

pub fn run(from_env: bool, output: &Path) -> Outcome {
    let text = template(from_env, &environment);
    if output == Path::new("-") {
        return print(&text);
    }
    // Never over a file that somebody has written.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(output);
    let path = output.display();
    match file.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => {
            eprintln!("wrote {path}; `stepwell check {path}` validates it, `stepwell --config {path}` serves with it");
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Exit::new(Exit::FAILED, format!("{path} exists; name another file with --output, or `-` to print")))
        }
        Err(error) => Err(Exit::new(Exit::FAILED, format!("cannot write {path}: {error}"))),
    }
}
