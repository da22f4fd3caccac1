//! What tokens cost.

use crate::catalog::Price;
use crate::chat::Usage;
use crate::money::NanoUsd;

/// Prompts above this many tokens pay the long-context price where a model has one.
const LONG_CONTEXT: u64 = 200_000;

/// The cost of an answer. Cached, written and plain input are told apart; every part rounds up.
pub fn cost(price: &Price, usage: &Usage) -> NanoUsd {
    let long = usage.prompt_tokens > LONG_CONTEXT;
    if let Some((input, output)) = usage.billed {
        return price.input.of(input) + price.output.of(output);
    }
    let input = price.input_above_200k.filter(|_| long).unwrap_or(price.input);
    let output = price.output_above_200k.filter(|_| long).unwrap_or(price.output);
    let cached = usage.cached_tokens.min(usage.prompt_tokens);
    let written = usage.cache_write_tokens.min(usage.prompt_tokens - cached);
    let plain = usage.prompt_tokens - cached - written;
    let reasoning = price.reasoning_output.map_or(0, |_| usage.reasoning_tokens.min(usage.completion_tokens));
    input.of(plain)
        // Without a price of its own a cached token costs what any other does: never less than the truth.
        + price.cached_input.unwrap_or(input).of(cached)
        + price.cache_write.unwrap_or(input).of(written)
        + output.of(usage.completion_tokens - reasoning)
        + price.reasoning_output.unwrap_or(output).of(reasoning)
}

/// The most that a request can cost: nothing cached, every output token used.
pub fn worst_case(price: &Price, prompt_tokens: u64, max_output: u64) -> NanoUsd {
    let written = price.cache_write.map_or(price.input, |write| write.max(price.input));
    let usage = Usage::estimate(prompt_tokens, max_output);
    let dearest_output = price.reasoning_output.map_or(price.output, |reasoning| reasoning.max(price.output));
    cost(&Price { input: written, output: dearest_output, reasoning_output: None, ..price.clone() }, &usage)
}
