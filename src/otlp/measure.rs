//! The metrics of OpenTelemetry's GenAI conventions, and HTTP's for the request as a whole: histograms that grow since the
//! start.
//!
//! Attributes are the configuration's: providers, models and addresses, never a caller's text.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Histogram, HistogramDataPoint, Metric};

use super::attribute::{flag, number, text};
use super::peer::Peer;
use super::span::{is_failure, operation, paid};
use crate::ledger::access::path;
use crate::ledger::metrics::per_token;
use crate::ledger::record::{AttemptRow, BATCH_TIER, Record};

/// Combinations of attributes of one metric; what comes beyond is counted as one, as OpenTelemetry's libraries do.
const MOST_SERIES: usize = 2_000;

/// One metric of the conventions, with the buckets that they recommend.
struct Kind {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    buckets: &'static [f64],
}

const DURATION: usize = 0;
const TOKENS: usize = 1;
const FIRST_TOKEN: usize = 2;
const PER_TOKEN: usize = 3;
const SERVER: usize = 4;

const KINDS: [Kind; 5] = [
    Kind {
        name: "gen_ai.client.operation.duration",
        unit: "s",
        description: "Duration of one attempt at a provider.",
        buckets: &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
    },
    Kind {
        name: "gen_ai.client.token.usage",
        unit: "{token}",
        description: "Tokens of one answer that was paid for.",
        buckets: &[
            1.0,
            4.0,
            16.0,
            64.0,
            256.0,
            1024.0,
            4096.0,
            16384.0,
            65536.0,
            262_144.0,
            1_048_576.0,
            4_194_304.0,
            16_777_216.0,
            67_108_864.0,
        ],
    },
    Kind {
        name: "gen_ai.server.time_to_first_token",
        unit: "s",
        description: "From a request's arrival to the first content of its stream.",
        buckets: &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0],
    },
    Kind {
        name: "gen_ai.server.time_per_output_token",
        unit: "s",
        description: "Time between two tokens of a whole stream, on average.",
        buckets: &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5],
    },
    Kind {
        name: "http.server.request.duration",
        unit: "s",
        description: "From a request's arrival to the end of its answer.",
        buckets: &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0],
    },
];

/// What has been measured since the start.
#[derive(Default)]
pub struct Measures {
    /// For each of [`KINDS`], by what distinguishes its series.
    series: [HashMap<Vec<u8>, Series>; 5],
}

struct Series {
    attributes: Vec<KeyValue>,
    sum: f64,
    counts: Vec<u64>,
}

impl Measures {
    pub fn add(&mut self, record: &Record, peer: &impl Fn(&str) -> Peer) {
        let paid = paid(record);
        for (index, attempt) in record.attempts.iter().enumerate() {
            let mut attributes = vec![
                text("gen_ai.operation.name", operation(record.ingress)),
                text("gen_ai.request.model", attempt.model.clone()),
            ];
            attributes.extend(peer(&attempt.provider).attributes());
            self.attempt(record, attempt, &attributes, paid == Some(index));
        }
        if record.service_tier == Some(BATCH_TIER) {
            // Nobody waited for it on a connection.
            return;
        }
        let mut attributes = vec![
            text("http.request.method", "POST"),
            text("http.route", path(record.ingress)),
            number("http.response.status_code", record.http_status.into()),
        ];
        attributes.extend(record.error.as_ref().map(|error| text("error.type", error.clone())));
        self.record(SERVER, attributes, record.timing.total.as_secs_f64());
    }

    fn attempt(&mut self, record: &Record, attempt: &AttemptRow, about: &[KeyValue], is_paid: bool) {
        let with = |more: Option<KeyValue>| about.iter().cloned().chain(more).collect::<Vec<_>>();
        let streams = is_paid && record.stream && attempt.kind.is_none();
        let ended = if streams { record.timing.total } else { attempt.ended };
        let kind = attempt.kind.as_ref().filter(|_| is_failure(attempt));
        let seconds = ended.saturating_sub(attempt.began).as_secs_f64();
        if record.service_tier != Some(BATCH_TIER) {
            self.record(DURATION, with(kind.map(|kind| text("error.type", kind.clone()))), seconds);
        }
        if !is_paid {
            return;
        }
        for (kind, tokens) in [("input", record.prompt_tokens), ("output", record.completion_tokens)] {
            self.record(TOKENS, with(Some(text("gen_ai.token.type", kind))), tokens as f64);
        }
        if let Some(first) = record.first_token_ms.map(Duration::from_millis) {
            self.record(FIRST_TOKEN, with(None), first.as_secs_f64());
        }
        if let Some(per_token) = per_token(record) {
            self.record(PER_TOKEN, with(None), per_token.as_secs_f64());
        }
    }

    fn record(&mut self, kind: usize, mut attributes: Vec<KeyValue>, value: f64) {
        let all = &mut self.series[kind];
        let buckets = KINDS[kind].buckets;
        let mut key = distinguishing(&attributes);
        if all.len() >= MOST_SERIES && !all.contains_key(&key) {
            attributes = vec![flag("otel.metric.overflow", true)];
            key = Vec::new();
        }
        let series =
            all.entry(key).or_insert_with(|| Series { attributes, sum: 0.0, counts: vec![0; buckets.len() + 1] });
        series.sum += value;
        series.counts[buckets.partition_point(|bound| *bound < value)] += 1;
    }

    /// All of it as OTLP, from `since` to `now` in Unix nanoseconds.
    pub fn export(&self, since: u64, now: u64) -> Vec<Metric> {
        let kinds = KINDS.iter().zip(&self.series).filter(|(_, series)| !series.is_empty());
        let metric = |(kind, series): (&Kind, &HashMap<Vec<u8>, Series>)| Metric {
            name: kind.name.to_owned(),
            unit: kind.unit.to_owned(),
            description: kind.description.to_owned(),
            data: Some(Data::Histogram(Histogram {
                aggregation_temporality: AggregationTemporality::Cumulative as i32,
                data_points: series.values().map(|series| series.point(kind, since, now)).collect(),
            })),
            ..Metric::default()
        };
        kinds.map(metric).collect()
    }
}

impl Series {
    fn point(&self, kind: &Kind, since: u64, now: u64) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: self.attributes.clone(),
            start_time_unix_nano: since,
            time_unix_nano: now,
            count: self.counts.iter().sum(),
            sum: Some(self.sum),
            bucket_counts: self.counts.clone(),
            explicit_bounds: kind.buckets.to_vec(),
            ..HistogramDataPoint::default()
        }
    }
}

/// The attributes as bytes; they always come in the same order.
fn distinguishing(attributes: &[KeyValue]) -> Vec<u8> {
    let mut key = Vec::with_capacity(128);
    for attribute in attributes {
        // Writing to memory cannot fail.
        let _ = prost::Message::encode_length_delimited(attribute, &mut key);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(model: &str) -> Record {
        let mut record = Record::new("x".into(), 0);
        record.attempts.push(AttemptRow {
            provider: "p".to_owned(),
            model: model.to_owned(),
            status: Some(200),
            ended: Duration::from_millis(10),
            ..AttemptRow::default()
        });
        record
    }

    fn points(measures: &Measures, name: &str) -> Vec<HistogramDataPoint> {
        let metric = measures.export(1, 2).into_iter().find(|metric| metric.name == name).expect("a metric");
        let Some(Data::Histogram(histogram)) = metric.data else { panic!("a histogram") };
        histogram.data_points
    }

    #[test]
    fn a_value_counts_in_the_bucket_that_ends_with_it() {
        let mut measures = Measures::default();
        measures.add(&record("m"), &Peer::unknown);
        measures.add(&record("m"), &Peer::unknown);
        let points = points(&measures, "gen_ai.client.operation.duration");
        assert_eq!((points.len(), points[0].count, points[0].bucket_counts[0]), (1, 2, 2), "0.01 is at most 0.01");
        assert_eq!(points[0].bucket_counts.len(), points[0].explicit_bounds.len() + 1);
    }

    #[test]
    fn a_flood_of_names_ends_in_one_series() {
        let mut measures = Measures::default();
        for index in 0..MOST_SERIES + 500 {
            measures.add(&record(&format!("m{index}")), &Peer::unknown);
        }
        let points = points(&measures, "gen_ai.client.operation.duration");
        assert_eq!(points.len(), MOST_SERIES + 1);
        assert!(points.iter().any(|point| point.count == 500 && point.attributes[0].key == "otel.metric.overflow"));
    }
}
