//! "What would this traffic have cost?": the recorded tokens at the prices of other targets.
//!
//! An approximation in three ways, all of them stated where the figures are shown: other models count tokens differently
//! and answer at other lengths; how much a provider's prompt cache would have held is taken over from the provider that
//! did answer; and the price for prompts above 200,000 tokens is left out, since sums do not tell how long each was.

use std::cmp::Reverse;

use serde::Serialize;

use super::cell::Bought;
use super::report::Group;
use crate::catalog::{Price, TargetId};
use crate::money::NanoUsd;

/// One target's price for all the traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub provider: String,
    pub model: String,
    pub requests: u64,
    pub cost_usd: NanoUsd,
    /// Against what was paid; negative: cheaper. `null` if part of what was paid is unknown.
    pub difference_usd: Option<NanoUsd>,
}

/// The JSON of `GET /v1/usage/compare`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Requests that a provider was paid for. Hits, shared answers and demo rows would have cost nothing elsewhere too.
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    /// What was paid, as far as prices are known.
    pub cost_usd: NanoUsd,
    pub unpriced_requests: u64,
    /// Cheapest first.
    pub rows: Vec<Row>,
}

/// Prices the traffic of some groups (of any grouping) at each target. Targets without a known price have no row.
pub fn compare<'a>(groups: &[Group], targets: impl IntoIterator<Item = (&'a TargetId, &'a Price)>) -> Comparison {
    let mut bought = Bought::default();
    let (mut paid, mut unpriced_requests) = (NanoUsd::ZERO, 0);
    for cell in groups.iter().filter(|group| !group.demo).map(|group| &group.cell) {
        bought.requests += cell.bought.requests;
        bought.prompt_tokens += cell.bought.prompt_tokens;
        bought.completion_tokens += cell.bought.completion_tokens;
        bought.cached_tokens += cell.bought.cached_tokens;
        paid += cell.cost;
        unpriced_requests += cell.unpriced_requests;
    }
    let mut rows: Vec<Row> = targets
        .into_iter()
        .map(|(target, price)| {
            let cost_usd = cost(price, &bought);
            Row {
                provider: target.provider().to_owned(),
                model: target.model().to_owned(),
                requests: bought.requests,
                cost_usd,
                difference_usd: (unpriced_requests == 0).then(|| NanoUsd(cost_usd.0.saturating_sub(paid.0))),
            }
        })
        .collect();
    rows.sort_by(|a, b| (a.cost_usd, &a.provider, &a.model).cmp(&(b.cost_usd, &b.provider, &b.model)));
    Comparison {
        requests: bought.requests,
        prompt_tokens: bought.prompt_tokens,
        completion_tokens: bought.completion_tokens,
        cached_tokens: bought.cached_tokens,
        cost_usd: paid,
        unpriced_requests,
        rows,
    }
}

fn cost(price: &Price, bought: &Bought) -> NanoUsd {
    let cached = bought.cached_tokens.min(bought.prompt_tokens);
    price.input.of(bought.prompt_tokens - cached)
        + price.cached_input.unwrap_or(price.input).of(cached)
        + price.output.of(bought.completion_tokens)
}

impl Comparison {
    /// The row of the dearest target, for "you saved .. against always using ..".
    pub fn dearest(&self) -> Option<&Row> {
        self.rows.iter().min_by_key(|row| Reverse(row.cost_usd))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Cell;
    use super::*;
    use crate::catalog::Origin;
    use crate::money::PerMillion;

    fn price(input: f64, cached: Option<f64>, output: f64) -> Price {
        let of = |usd| PerMillion::from_usd(usd).expect("a price");
        Price { cached_input: cached.map(of), ..Price::new(of(input), of(output), Origin::Configured) }
    }

    fn group(cost: i64, unpriced_requests: u64, demo: bool) -> Group {
        let bought =
            Bought { requests: 10, prompt_tokens: 1_000_000, completion_tokens: 100_000, cached_tokens: 400_000 };
        Group { labels: Vec::new(), demo, cell: Cell { cost: NanoUsd(cost), unpriced_requests, bought, ..Cell::default() } }
    }

    #[test]
    fn targets_are_listed_cheapest_first_with_what_they_would_save() {
        let (dear, cheap) = (TargetId::new("a", "dear"), TargetId::new("b", "x/cheap"));
        let (dear_price, cheap_price) = (price(3.0, Some(0.3), 15.0), price(0.5, None, 1.0));
        let groups = [group(2_000_000_000, 0, false), group(77, 3, true)];
        let comparison = compare(&groups, [(&dear, &dear_price), (&cheap, &cheap_price)]);
        assert_eq!((comparison.requests, comparison.cost_usd), (10, NanoUsd(2_000_000_000)));
        let costs: Vec<_> = comparison.rows.iter().map(|row| (row.model.as_str(), row.cost_usd, row.difference_usd)).collect();
        // 0.6 x 0.5 + 0.4 x 0.5 + 0.1 x 1; and 0.6 x 3 + 0.4 x 0.3 + 0.1 x 15.
        assert_eq!(
            costs,
            [
                ("x/cheap", NanoUsd(600_000_000), Some(NanoUsd(-1_400_000_000))),
                ("dear", NanoUsd(3_420_000_000), Some(NanoUsd(1_420_000_000))),
            ]
        );
        assert_eq!(comparison.dearest().map(|row| row.model.as_str()), Some("dear"));
    }

    #[test]
    fn there_is_no_difference_from_an_unknown_cost() {
        let (target, free) = (TargetId::new("a", "free"), Price::free(Origin::Configured));
        let comparison = compare(&[group(5, 1, false)], [(&target, &free)]);
        assert_eq!((comparison.rows[0].cost_usd, comparison.rows[0].difference_usd), (NanoUsd::ZERO, None));
    }
}
