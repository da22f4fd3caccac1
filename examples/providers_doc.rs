//! Prints `docs/providers.md`: `cargo run --example providers_doc > docs/providers.md`.

fn main() {
    print!("{}", stepwell::provider::capabilities::markdown());
}
