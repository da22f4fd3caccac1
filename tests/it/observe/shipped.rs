//! The dashboard and the alert rules in `deploy/`: every expression is PromQL and names what exists.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use promql_parser::label::Matchers;
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use serde_json::Value;
use stepwell::telemetry::metric::{Kind, Metric};

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/stepwell.json")).expect("JSON")
}

/// What is wrong with an expression.
fn flaws(text: &str) -> Vec<String> {
    // Grafana fills in these before Prometheus sees the expression.
    let text = text.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$__interval", "1m");
    let expression = match parser::parse(&text) {
        Ok(expression) => expression,
        Err(error) => return vec![format!("{text}: {error}")],
    };
    let (mut selectors, mut grouped) = (Vec::new(), Vec::new());
    walk(&expression, &mut selectors, &mut grouped);
    let mut flaws = Vec::new();
    let mut known: BTreeSet<&str> = ["le", "job", "instance"].into();
    for selector in &selectors {
        let Some(name) = &selector.name else {
            flaws.push(format!("{text}: a selector without a name"));
            continue;
        };
        if name == "up" {
            continue;
        }
        let Some(metric) = metric(name) else {
            flaws.push(format!("{text}: there is no metric `{name}`"));
            continue;
        };
        known.extend(metric.labels());
        let Matchers { matchers, .. } = &selector.matchers;
        for matcher in matchers {
            if !metric.labels().contains(&matcher.name.as_str())
                && !["job", "instance", "le"].contains(&matcher.name.as_str())
            {
                flaws.push(format!("{text}: `{name}` has no label `{}`", matcher.name));
            }
        }
    }
    flaws.extend(
        grouped
            .into_iter()
            .filter(|label| !known.contains(label.as_str()))
            .map(|label| format!("{text}: nothing has a label `{label}`")),
    );
    flaws
}

/// The metric of a series.
fn metric(series: &str) -> Option<Metric> {
    Metric::ALL.iter().copied().find(|metric| match metric.kind() {
        Kind::Histogram(_) => {
            ["_bucket", "_sum", "_count"].iter().any(|part| series.strip_suffix(part) == Some(metric.name()))
        }
        Kind::Counter | Kind::Gauge => metric.name() == series,
    })
}

fn walk<'a>(expression: &'a Expr, selectors: &mut Vec<&'a VectorSelector>, grouped: &mut Vec<String>) {
    let mut labels = |modifier: &Option<LabelModifier>| match modifier {
        Some(LabelModifier::Include(labels) | LabelModifier::Exclude(labels)) => grouped.extend(labels.labels.clone()),
        None => {}
    };
    match expression {
        Expr::VectorSelector(selector) => selectors.push(selector),
        Expr::MatrixSelector(matrix) => selectors.push(&matrix.vs),
        Expr::Aggregate(aggregate) => {
            labels(&aggregate.modifier);
            walk(&aggregate.expr, selectors, grouped);
        }
        Expr::Binary(binary) => {
            walk(&binary.lhs, selectors, grouped);
            walk(&binary.rhs, selectors, grouped);
        }
        Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, selectors, grouped)),
        Expr::Paren(paren) => walk(&paren.expr, selectors, grouped),
        Expr::Unary(unary) => walk(&unary.expr, selectors, grouped),
        Expr::Subquery(subquery) => walk(&subquery.expr, selectors, grouped),
        _ => {}
    }
}

/// All panels, those in rows included.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().expect("panels");
    all.iter()
        .flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
        .collect()
}

#[test]
fn the_dashboard_shows_only_what_exists() {
    let dashboard = dashboard();
    let mut expressions = 0;
    for panel in panels(&dashboard).into_iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{}", panel["title"]);
        let ids: HashSet<_> = targets.iter().map(|target| target["refId"].as_str().expect("a refId")).collect();
        assert_eq!(ids.len(), targets.len(), "{}", panel["title"]);
        for target in targets {
            // The variables of the dashboard are values of labels.
            let text =
                target["expr"].as_str().expect("an expression").replace("$provider", ".*").replace("$instance", ".*");
            assert_eq!(flaws(&text), Vec::<String>::new(), "{}", panel["title"]);
            assert!(!text.contains('$') || text.contains("$__"), "{text}");
            expressions += 1;
        }
    }
    assert!(expressions >= 30, "{expressions} expressions");
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().expect("a query");
            let inner =
                query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect("label_values");
            let (series, label) = inner.rsplit_once(", ").expect("a label");
            assert!(
                metric(series).is_some_and(|metric| metric.labels().contains(&label) || label == "instance"),
                "{query}"
            );
        }
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    assert_eq!(dashboard["uid"], "stepwell");
    assert!(dashboard["id"].is_null(), "the installation gives it");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    assert!(variables.iter().any(|variable| variable["type"] == "datasource"
        && variable["query"] == "prometheus"
        && variable["name"] == "datasource"));
    let panels = panels(&dashboard);
    let ids: HashSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let mut cells: BTreeMap<(u64, u64), &Value> = BTreeMap::new();
    for panel in &panels {
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24 && place("w") > 0 && place("h") > 0, "{}", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                let other = cells.insert((x, y), &panel["title"]);
                assert!(other.is_none(), "{} lies over {other:?}", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(panel["description"].as_str().is_some_and(|text| text.len() > 20), "{}", panel["title"]);
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{}", panel["title"]);
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_what_it_means_and_what_to_do() {
    let rules: Value = serde_saphyr::from_str(&read("deploy/prometheus/alerts.yml")).expect("YAML");
    let guide = read("docs/observability.md");
    let mut names = HashSet::new();
    for group in rules["groups"].as_array().expect("groups") {
        assert!(group["name"].is_string());
        for rule in group["rules"].as_array().expect("rules") {
            let name = rule["alert"].as_str().expect("a name");
            assert!(names.insert(name), "{name} is there twice");
            assert_eq!(flaws(rule["expr"].as_str().expect("an expression")), Vec::<String>::new(), "{name}");
            let waits = rule["for"].as_str().expect("for");
            assert!(waits.ends_with('m') || waits.ends_with('s'), "{name}: {waits}");
            assert!(
                ["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().expect("a severity"))
            );
            for (text, least) in [("summary", 15), ("description", 30), ("runbook", 40)] {
                let text = rule["annotations"][text].as_str().unwrap_or_else(|| panic!("{name} has no {text}"));
                assert!(text.len() >= least, "{name}: {text}");
            }
            assert!(guide.contains(&format!("`{name}`")), "docs/observability.md does not explain {name}");
        }
    }
    assert!(names.len() >= 12, "{} alerts", names.len());
}

#[test]
fn a_name_or_label_that_does_not_exist_is_found() {
    assert_eq!(flaws("sum(rate(stepwell_requests_total{status=\"failed\"}[5m])) by (provider)"), Vec::<String>::new());
    for wrong in [
        "rate(stepwell_request_total[5m])",
        "rate(stepwell_requests_total{state=\"failed\"}[5m])",
        "sum by (colour) (stepwell_requests_total)",
        "stepwell_request_duration_seconds",
        "rate(stepwell_requests_total[5m)",
    ] {
        assert_eq!(flaws(wrong).len(), 1, "{wrong}");
    }
}
