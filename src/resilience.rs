//! Staying up: breaker, window, backoff, retry budget, moving averages. No LLM words, no I/O, the clock is an argument.

pub mod breaker;
