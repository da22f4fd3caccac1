//! What classification costs a request, and what compiling the rules costs at start and on reload.

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use stepwell::chat::Request;
use stepwell::classify::Classifier;

fn request(content: &str) -> Request {
    let body = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": content}]});
    Request::parse(Bytes::from(body.to_string())).expect("a valid request")
}

fn classify(criterion: &mut Criterion) {
    let classifier = Classifier::compile(&BTreeMap::new()).expect("the built-in rules compile");
    let short = request("Write a function in Rust that reverses a linked list.");
    let paragraph = "The committee met on Tuesday to discuss the plan, which had been delayed for 3 months. ";
    let long = request(&format!("Summarize the following article in two sentences.\n\n{}", paragraph.repeat(400)));
    criterion.bench_function("classify/short", |b| b.iter(|| classifier.classify(&black_box(&short).prompt())));
    criterion.bench_function("classify/long", |b| b.iter(|| classifier.classify(&black_box(&long).prompt())));
    criterion.bench_function("classify/compile", |b| b.iter(|| Classifier::compile(black_box(&BTreeMap::new()))));
}

criterion_group!(benches, classify);
criterion_main!(benches);
