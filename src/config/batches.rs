//! The section `batches`, and what a provider's entry says about its own batches.

use std::time::Duration;

use super::reader::{Section, set};
use crate::batch::native::{Settings, Use};
use crate::catalog::{BatchTerms, Provider};
use crate::money::Discount;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn batches(mut section: Section<'_>) -> Settings {
    let mut batches = Settings::default();
    let choices = [("auto", Use::Auto), ("never", Use::Never)];
    set(&mut batches.native, section.get("native").and_then(|item| item.choice(&choices)));
    set(&mut batches.poll, section.span("poll", SECOND..=HOUR));
    set(&mut batches.min_lines, section.count("min_lines", 1..=50_000).map(|count| count.0));
    section.finish();
    batches
}

/// Reads `batch` of a provider. `usual`: it is at its well-known place, where it has batches.
pub(super) fn of_provider(section: &mut Section<'_>, provider: &Provider, usual: bool) -> Option<BatchTerms> {
    let usual_terms = BatchTerms::usual(provider.format);
    let Some(item) = section.get("batch") else { return usual_terms.filter(|_| usual) };
    let mut written = item.section()?;
    let fits = usual_terms.filter(|_| !provider.base_url.contains("{model}") && provider.identity.is_none());
    let Some(mut terms) = fits else {
        written.problem("batches are known of providers that speak openai or anthropic, at one address for all models");
        return None;
    };
    let enabled = written.flag("enabled").unwrap_or(true);
    if let Some(share) = written.share("discount") {
        terms.discount = Discount::of_share(share.0);
    } else if !usual && enabled && !written.has("discount") {
        written.problem("say what its batches cost less: `discount: 50%`");
    }
    set(&mut terms.max_lines, written.count("max_lines", 1..=1_000_000).map(|count| count.0));
    let bytes = written.get("max_bytes").and_then(|item| item.size(1_000..=10_000_000_000));
    set(&mut terms.max_bytes, bytes.map(|size| size.0));
    written.finish();
    // At no discount it would only take longer.
    enabled.then_some(terms).filter(|terms| terms.discount != Discount::default())
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{problem, settings};

    #[test]
    fn batches_are_those_of_well_known_places_and_of_providers_that_say_so() {
        let batch = |name: &str, entry: &str| {
            let text = format!("providers:\n  {name}: {{ api_key: sk-0123456789, {entry} models: [ {{ id: m }} ] }}\n");
            settings(&text).providers[0].batch.map(|terms| (terms.discount.millionths(), terms.max_lines))
        };
        assert_eq!(batch("openai", ""), Some((500_000, 50_000)));
        assert_eq!(batch("anthropic", ""), Some((500_000, 100_000)));
        assert_eq!(batch("openai", "batch: { enabled: false },"), None);
        assert_eq!(batch("openai", "base_url: 'https://proxy.example/v1',"), None, "anybody may be there");
        let own = "format: openai, base_url: 'https://own.example/v1', batch: { discount: 30%, max_lines: 10 },";
        assert_eq!(batch("own", own), Some((300_000, 10)));
        assert_eq!(batch("groq", ""), None);
        let wrong = |entry: &str| problem(&format!("providers: {{ own: {{ {entry}, models: [ {{ id: m }} ] }} }}"));
        assert!(wrong("format: openai, base_url: 'https://own.example/v1', batch: {}").contains("discount: 50%"));
        assert!(
            wrong("format: cohere, base_url: 'https://own.example/v2', batch: { discount: 50% }")
                .contains("openai or anthropic")
        );
    }
}
