//! Faults that the router must survive, one test a fault, named after its id.
//!
//! A: the upstream refuses or is down. B: streaming. C: callers and load. D: state and process. E: secrets and trust.
//! `docs/reliability.md` says what is promised for each.

mod callers; // C01 to C05
mod load; // A20 to A22, C06, C07, C10 to C12
mod secrets; // E03
mod state; // D
mod streaming; // B
mod trust; // E01, E02, E04
mod upstream; // A01 to A19, A23

/// The rows that this version must survive.
const ROWS: [&str; 65] = [
    "a01", "a02", "a03", "a04", "a05", "a06", "a07", "a08", "a09", "a10", "a11", "a12", "a13", "a14", "a15", "a16",
    "a17", "a18", "a19", "a20", "a21", "a22", "a23", "b01", "b02", "b03", "b04", "b05", "b06", "b07", "b08", "b09",
    "b10", "b11", "b12", "b13", "b14", "b15", "c01", "c02", "c03", "c04", "c05", "c06", "c07", "c08", "c09", "c10",
    "c11", "c12", "c13", "d01", "d02", "d03", "d04", "d05", "d06", "d07", "d08", "d09", "e01", "e02", "e03", "e04",
    "kill_9",
];

/// The names of all tests below `directory`.
fn tests(directory: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            names.extend(tests(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        let functions = text.lines().filter_map(|line| line.trim_start().split_once("fn "));
        names.extend(functions.filter_map(|(_, rest)| Some(rest.split_once('(')?.0.to_owned())));
    }
    names
}

#[test]
fn every_row_has_a_promise_and_a_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let promises = std::fs::read_to_string(root.join("docs/reliability.md")).expect("the promises");
    let tests = tests(&root.join("tests/it"));
    for row in ROWS {
        assert!(promises.contains(&format!("`{row}`")), "docs/reliability.md has no promise for {row}");
        assert!(tests.iter().any(|test| test.starts_with(row)), "no test is named after {row}");
    }
}
