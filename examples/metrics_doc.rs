//! Prints `docs/metrics.md`: `cargo run --example metrics_doc > docs/metrics.md`.

fn main() {
    print!("{}", stepwell::telemetry::manual::markdown());
}
