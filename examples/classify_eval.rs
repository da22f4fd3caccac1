//! Measures the classifier on labelled prompts: quality per label, confusions, time per prompt.
//!
//! `cargo run --release --example classify_eval [-- FILE [--signals]]`. A line of FILE is a JSON object with `id`, `label`,
//! `messages` and perhaps `tools`. With `--signals` every row is printed with what counted, one JSON object a line,
//! and nothing else: that shows why a prompt went wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use stepwell::chat::Request;
use stepwell::classify::Classifier;

const SAMPLE: &str = "fixtures/prompts/dev_sample.jsonl";
/// Labels that need the text; the score is over these. Tools and images are told from the request's structure.
const TEXT_LABELS: [&str; 10] = [
    "coding",
    "reasoning",
    "analysis",
    "classification",
    "creative",
    "rewrite",
    "translation",
    "general",
    "roleplay",
    "safety",
];
/// Timed runs over the whole file, after one that warms up.
const RUNS: usize = 3;

#[derive(Deserialize)]
struct Row {
    id: String,
    label: String,
    messages: Box<RawValue>,
    tools: Option<Box<RawValue>>,
}

impl Row {
    fn request(&self) -> anyhow::Result<Request> {
        let tools = self.tools.as_ref().map(|tools| format!(",\"tools\":{}", tools.get())).unwrap_or_default();
        let body = format!("{{\"model\":\"auto\",\"messages\":{}{tools}}}", self.messages.get());
        Request::parse(Bytes::from(body)).with_context(|| format!("row `{}`", self.id))
    }

    /// A third of the rows, by the first digit of their id, which is a hash. Their errors were not read when rules were
    /// corrected; some of the prompts were read before, see `docs/classification.md`.
    fn is_held_out(&self) -> bool {
        self.id.trim_start_matches("d-").starts_with(['0', '1', '2', '3', '4'])
    }
}

/// Counts of (label, found) pairs.
#[derive(Default)]
struct Confusion(BTreeMap<(String, String), usize>);

impl Confusion {
    fn add(&mut self, label: &str, found: &str) {
        *self.0.entry((label.to_owned(), found.to_owned())).or_default() += 1;
    }

    fn count(&self, label: Option<&str>, found: Option<&str>) -> usize {
        let fits = |wanted: Option<&str>, name: &str| wanted.is_none_or(|wanted| wanted == name);
        self.0.iter().filter(|((l, f), _)| fits(label, l) && fits(found, f)).map(|(_, count)| count).sum()
    }

    /// Precision, recall and F1 of a label.
    fn scores(&self, label: &str) -> (f64, f64, f64) {
        let right = self.count(Some(label), Some(label)) as f64;
        let precision = right / (self.count(None, Some(label)) as f64).max(1.0);
        let recall = right / (self.count(Some(label), None) as f64).max(1.0);
        let both = precision + recall;
        (precision, recall, if both > 0.0 { 2.0 * precision * recall / both } else { 0.0 })
    }

    fn macro_f1(&self) -> f64 {
        TEXT_LABELS.iter().map(|label| self.scores(label).2).sum::<f64>() / TEXT_LABELS.len() as f64
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let signals = arguments.iter().any(|argument| argument == "--signals");
    let file = arguments.iter().find(|argument| !argument.starts_with("--")).map_or(SAMPLE, String::as_str);
    let content = std::fs::read_to_string(file).with_context(|| format!("cannot read `{file}`"))?;
    let rows: Vec<Row> = content.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let requests: Vec<Request> = rows.iter().map(Row::request).collect::<Result<_, _>>()?;

    let started = Instant::now();
    let classifier = Classifier::compile(&BTreeMap::new()).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let compile = started.elapsed();
    let started = Instant::now();
    classifier.classify(&requests[0].prompt());
    let first = started.elapsed();

    if signals {
        for (row, request) in rows.iter().zip(&requests) {
            let task = classifier.classify(&request.prompt());
            println!("{}", serde_json::json!({"id": row.id, "label": row.label, "task": task}));
        }
        return Ok(());
    }

    let (mut all, mut held_out, mut rest) = (Confusion::default(), Confusion::default(), Confusion::default());
    // Per tenth of confidence: prompts, and how many of them were right.
    let mut calibration = [(0_usize, 0_usize, 0.0); 10];
    let mut times: Vec<Duration> = Vec::new();
    for run in 0..=RUNS {
        for (row, request) in rows.iter().zip(&requests) {
            let started = Instant::now();
            let task = classifier.classify(&request.prompt());
            let elapsed = started.elapsed();
            if run > 0 {
                times.push(elapsed);
                continue;
            }
            all.add(&row.label, task.name.as_str());
            if row.is_held_out() { &mut held_out } else { &mut rest }.add(&row.label, task.name.as_str());
            let tenth = &mut calibration[((task.confidence * 10.0) as usize).min(9)];
            tenth.0 += 1;
            tenth.1 += usize::from(row.label == task.name.as_str());
            tenth.2 += task.confidence;
        }
    }
    times.sort_unstable();

    println!("{file}: {} prompts, macro-F1 over the ten text labels {:.3}", rows.len(), all.macro_f1());
    let (outside, inside) = (held_out.count(None, None), rest.count(None, None));
    println!("held out ({outside}) {:.3}, the rest ({inside}) {:.3}\n", held_out.macro_f1(), rest.macro_f1());

    println!("{:<15} {:>9} {:>9} {:>9} {:>9}", "label", "precision", "recall", "F1", "prompts");
    for label in TEXT_LABELS.iter().chain(&["tool_use", "multimodal"]) {
        let (precision, recall, f1) = all.scores(label);
        println!("{label:<15} {precision:>9.3} {recall:>9.3} {f1:>9.3} {:>9}", all.count(Some(label), None));
    }

    let found: Vec<&str> = classifier.tasks().map(|name| name.as_str()).collect();
    println!("\nrows: label, columns: found");
    println!("{:<15}{}", "", found.iter().map(|name| format!("{:>6}", &name[..name.len().min(5)])).collect::<String>());
    for label in TEXT_LABELS.iter().chain(&["tool_use", "multimodal"]) {
        let counts = found.iter().map(|name| format!("{:>6}", all.count(Some(label), Some(name))));
        println!("{label:<15}{}", counts.collect::<String>());
    }

    println!("\nconfidence: mean, share that was right, prompts");
    for (prompts, right, sum) in calibration.into_iter().filter(|(prompts, ..)| *prompts > 0) {
        println!("{:.2} {:.2} {prompts:>5}", sum / prompts as f64, right as f64 / prompts as f64);
    }

    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("\nper prompt: p50 {:.1} µs, p99 {:.1} µs, max {:.1} µs", at(0.5), at(0.99), at(1.0));
    println!("compile {:.1} ms, first prompt {:.1} µs", compile.as_secs_f64() * 1e3, first.as_secs_f64() * 1e6);
    Ok(())
}
