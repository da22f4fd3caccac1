pub enum Format {
    Table,
    Csv,
    Json,
}
pub fn run(
    _: &str,
    _: &str,
    _: Option<&str>,
    _: Format,
    _: Option<&std::path::Path>,
    _: Option<&std::path::Path>,
) -> super::Outcome {
    Ok(())
}
