//! States as Prometheus text: written when they are asked for, so that they are true, and gone with what they describe.
//!
//! Events are counted by the `metrics` recorder as they happen. A state that were kept there would stay for a target that
//! a reload has removed, and would be shared by several servers in one process, as tests have them.

use std::fmt::Write;

use super::metric::{Kind, Metric};

/// Text in the exposition format, version 0.0.4. Samples of one metric belong together: add them in one go.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    last: Option<Metric>,
}

impl Page {
    /// Continues a text of other metrics.
    pub fn after(mut text: String) -> Self {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Self { text, last: None }
    }

    /// Adds a sample with the values of the metric's labels, in the order of the table.
    pub fn add(&mut self, metric: Metric, labels: &[&str], value: impl std::fmt::Display) {
        debug_assert_eq!(metric.labels().len(), labels.len(), "{}", metric.name());
        let pair = |(label, value): (&&str, &&str)| format!("{label}=\"{}\"", escaped(value));
        let pairs: Vec<String> = metric.labels().iter().zip(labels).map(pair).collect();
        let braced = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        self.add_rendered(metric, &braced, value);
    }

    /// The same with labels that are rendered already, braces included.
    pub fn add_rendered(&mut self, metric: Metric, labels: &str, value: impl std::fmt::Display) {
        let name = metric.name();
        if self.last.replace(metric) != Some(metric) {
            let kind = if metric.kind() == Kind::Counter { "counter" } else { "gauge" };
            // Writing to a string cannot fail.
            let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help());
        }
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_described_once_and_its_labels_are_escaped() {
        let mut page = Page::after("x 1".to_owned());
        page.add(Metric::InFlight, &[], 3);
        page.add(Metric::Queued, &["a\"b\\c\nd"], 0.5);
        page.add(Metric::Queued, &["provider"], 2);
        let text = page.into_text();
        assert!(
            text.starts_with("x 1\n# HELP stepwell_requests_in_flight Requests that have a place now.\n"),
            "{text}"
        );
        assert_eq!(text.matches("# TYPE stepwell_requests_queued gauge").count(), 1);
        assert!(text.contains("stepwell_requests_queued{for=\"a\\\"b\\\\c\\nd\"} 0.5\n"), "{text}");
    }
}
