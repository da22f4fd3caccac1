pub fn run(_: &str, _: bool, _: Option<&std::path::Path>, _: Option<&std::path::Path>) -> super::Outcome {
    Ok(())
}
