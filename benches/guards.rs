//! What guards cost: a whole prompt in which nothing is found, one in which something is, and an answer that streams.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stepwell::chat::Chunk;
use stepwell::guard::answer::AnswerScreen;
use stepwell::guard::detect::Detector;
use stepwell::guard::screen::Screen;
use stepwell::guard::settings::{Action, Detect, On, Rule};
use stepwell::guard::{Guards, Shield, Tally, Who};

fn every_detector() -> Shield {
    let rule = Rule {
        name: "all".to_owned(),
        detect: Detect::BuiltIn(Detector::CHOICES.iter().map(|(_, detector)| *detector).collect()),
        on: On::Both,
        action: Action::Mask,
        mask_with: None,
        tiers: Vec::new(),
        teams: Vec::new(),
        providers: Vec::new(),
    };
    Guards::compile(vec![rule]).ok().and_then(|guards| guards.of_requests(Who::default())).expect("built-in rules")
}

fn guards(criterion: &mut Criterion) {
    let shield = every_detector();
    let clean = "The quick brown fox jumps over the lazy dog, and nobody asks it why in 2024. ".repeat(130);
    let found = format!("{clean} ann@example.com {clean}");
    let mut group = criterion.benchmark_group("guards");
    for (name, text) in [("prompt_clean", &clean), ("prompt_masked", &found)] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| Screen::whole(&shield, black_box(text), &mut Tally::default()));
        });
    }
    let chunks: Vec<Chunk> = clean.split_inclusive(' ').map(Chunk::text).collect();
    group.throughput(Throughput::Elements(chunks.len() as u64));
    group.bench_function("stream", |bench| {
        bench.iter(|| {
            let (mut screen, mut passed) = (AnswerScreen::new(shield.clone()), Vec::new());
            chunks.iter().for_each(|chunk| screen.chunk(chunk, &mut passed).expect("no rule refuses"));
            passed
        });
    });
    group.finish();
}

criterion_group!(benches, guards);
criterion_main!(benches);
