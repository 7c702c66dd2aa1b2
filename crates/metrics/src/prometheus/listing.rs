//! Which metrics there are: the series that Prometheus has for each rule.
//!
//! Owns asking for them, at most once a period. A rule that cannot be listed is told and keeps what it had; the
//! others go on without it.

use super::answer::{Envelope, SeriesLabels};
use super::rule::{Rule, Rules};
use crate::fetch::{Ask, Server, form};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Metrics of one rule; a rule that takes more is too wide.
const MOST_METRICS: usize = 20_000;

/// All metrics, by rule.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) at: Option<Timestamp>,
    pub(super) objects: Vec<OfRule>,
    pub(super) external: Vec<OfRule>,
}

/// What one rule found.
#[derive(Clone, Debug, Default)]
pub(super) struct OfRule {
    /// By the metric's name, in the order of series' names.
    metrics: BTreeMap<String, Vec<Found>>,
    /// Why the last listing failed.
    pub(super) failure: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) series: Arc<str>,
    labels: BTreeSet<Arc<str>>,
}

impl OfRule {
    /// The first series of a metric that has all these labels.
    pub(super) fn find(&self, metric: &str, labels: &[&str]) -> Option<&Found> {
        let has = |found: &&Found| labels.iter().all(|label| found.labels.contains(*label));
        self.metrics.get(metric)?.iter().find(has)
    }

    pub(super) fn len(&self) -> usize {
        self.metrics.len()
    }
}

/// Asks for the series of every rule. `before` is what was known, in the order of the same rules.
pub(super) async fn list(
    server: &Server,
    rules: &Rules,
    before: Option<&Listing>,
    now: Timestamp,
    max_age: SignedDuration,
) -> Listing {
    let since = now.saturating_sub(max_age).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut known: BTreeMap<&str, Result<SeriesLabels, Arc<str>>> = BTreeMap::new();
    for rule in rules.objects.iter().chain(&rules.external) {
        if known.contains_key(rule.series_query.as_str()) {
            continue;
        }
        let (start, end) = (since.as_second().to_string(), now.as_second().to_string());
        let fields = [("match[]", rule.series_query.as_str()), ("start", &start), ("end", &end)];
        let ask = Ask { path: "/api/v1/series".to_owned(), form: Some(form(&fields)) };
        let answer = server.read::<Envelope<SeriesLabels>>(&ask).await;
        let answer = answer.map(|answer| answer.data).map_err(|failure| Arc::from(failure.to_string()));
        known.insert(&rule.series_query, answer);
    }
    let of = |rules: &[Rule], before: Option<&Vec<OfRule>>| {
        let one = |(i, rule): (usize, &Rule)| {
            let before = before.and_then(|before| before.get(i));
            of_rule(rule, known.get(rule.series_query.as_str()), before)
        };
        rules.iter().enumerate().map(one).collect()
    };
    Listing {
        at: Some(now),
        objects: of(&rules.objects, before.map(|before| &before.objects)),
        external: of(&rules.external, before.map(|before| &before.external)),
    }
}

fn of_rule(rule: &Rule, series: Option<&Result<SeriesLabels, Arc<str>>>, before: Option<&OfRule>) -> OfRule {
    let series = match series {
        Some(Ok(series)) => series,
        Some(Err(failure)) => {
            tracing::warn!(rule = %rule.field, series = %rule.series_query, %failure,
                "the series of a metrics rule could not be listed; its metrics stay as they were");
            let metrics = before.map(|before| before.metrics.clone()).unwrap_or_default();
            return OfRule { metrics, failure: Some(failure.clone()) };
        }
        None => return OfRule::default(),
    };
    let mut of = OfRule::default();
    for (series, labels) in &series.0 {
        let Some(metric) = rule.metric_name(series) else { continue };
        if of.metrics.len() >= MOST_METRICS && !of.metrics.contains_key(&metric) {
            let failure = format!("yields more than {MOST_METRICS} metrics; narrow its seriesQuery");
            of.failure = Some(failure.into());
            break;
        }
        let found = Found { series: Arc::from(series.as_str()), labels: labels.clone() };
        of.metrics.entry(metric).or_default().push(found);
    }
    of
}
