//! Prometheus as a source, asked by a configuration of Prometheus Adapter's form.
//!
//! Owns which queries a question becomes and what the answers mean. Rules are read in `config`, their series listed
//! in `listing`; the configuration can be exchanged while queries are under way.

mod answer;
mod config;
mod connection;
mod follow;
mod listing;
mod promql;
mod questions;
mod rule;
mod stretch;
mod template;

pub use config::DEFAULT_CONFIGURATION;
pub use connection::{Connection, Credentials};
pub use follow::ConfigurationPlace;
pub use stretch::one_series;

use crate::fetch::{Ask, Server, form};
use crate::sample::{Latest, Omission, Point, Sample};
use crate::{MetricSource, MetricsError, Query, Range, Series};
use answer::{Data, Envelope, RawLabels};
use calls::{CallLimits, Failure, FailureKind};
use clock::Clock;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use listing::Listing;
use model::Labels;
use questions::Question;
use rule::Rules;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// A month of a hundred series by the minute takes some 100 MB; whoever asks for more takes a longer step.
const LARGEST_ANSWER: usize = 128 << 20;
/// Steps that Prometheus answers in one query.
const STEPS_A_QUERY: i32 = 11_000;
/// Parts of one range that are asked for at once.
const SHARDS_AT_ONCE: usize = 4;
/// A metric that is not known makes us look again, but not more often than this.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// How a Prometheus is asked.
#[derive(Clone, Debug)]
pub struct PrometheusSettings {
    pub connection: Connection,
    pub calls: CallLimits,
    /// How long a listing of series is good.
    pub relist_interval: SignedDuration,
    /// How far back series are looked for; the interval where it is not set.
    pub max_age: Option<SignedDuration>,
}

impl Default for PrometheusSettings {
    fn default() -> Self {
        Self {
            connection: Connection::default(),
            calls: CallLimits {
                timeout: Duration::from_secs(30),
                per_second: 200,
                rest: Duration::from_secs(10),
                ..CallLimits::default()
            },
            relist_interval: SignedDuration::from_mins(10),
            max_age: None,
        }
    }
}

/// A rule as it stands, for those who look at us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleState {
    /// `externalRules[0]`.
    pub rule: String,
    pub metrics: usize,
    pub failure: Option<Arc<str>>,
}

/// One Prometheus.
pub struct Prometheus {
    server: Server,
    /// The cluster's API, for pods and other objects by selector.
    cluster: Client,
    clock: Clock,
    relist_interval: SignedDuration,
    max_age: SignedDuration,
    held: RwLock<Arc<Held>>,
    /// Whoever holds it lists; the others wait for that instead of listing too.
    turn: tokio::sync::Mutex<()>,
}

/// A configuration and what was found for it.
struct Held {
    rules: Arc<Rules>,
    listing: Listing,
}

impl Prometheus {
    /// Prepares a source with the default configuration. The error is one sentence that names the setting.
    pub async fn new(settings: &PrometheusSettings, cluster: Client, clock: Clock) -> Result<Self, String> {
        let client = connection::client(&settings.connection).await?;
        let rules = Arc::new(config::read(DEFAULT_CONFIGURATION)?);
        Ok(Self {
            server: Server::new(client, settings.calls, LARGEST_ANSWER),
            cluster,
            clock,
            relist_interval: settings.relist_interval,
            max_age: settings.max_age.unwrap_or(settings.relist_interval),
            held: RwLock::new(Arc::new(Held { rules, listing: Listing::default() })),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Takes another configuration from the next query on; one that is wrong changes nothing.
    pub fn configure(&self, text: &str) -> Result<(), String> {
        let rules = Arc::new(config::read(text)?);
        self.hold(Held { rules, listing: Listing::default() });
        Ok(())
    }

    /// The rules and what the last listing found for each.
    pub fn rules(&self) -> Vec<RuleState> {
        let held = self.held();
        let named = held.rules.objects.iter().chain(&held.rules.external).map(|rule| &rule.field);
        let found = held.listing.objects.iter().chain(&held.listing.external);
        let state = |(rule, of): (&String, &listing::OfRule)| RuleState {
            rule: rule.clone(),
            metrics: of.len(),
            failure: of.failure.clone(),
        };
        named.zip(found).map(state).collect()
    }

    fn held(&self) -> Arc<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, held: Held) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
    }

    /// The configuration with a listing that is younger than `age`.
    async fn listed(&self, age: SignedDuration) -> Arc<Held> {
        let young = |held: &Held| held.listing.at.is_some_and(|at| self.clock.now().duration_since(at) < age);
        let held = self.held();
        if young(&held) {
            return held;
        }
        let _turn = self.turn.lock().await;
        let held = self.held();
        if young(&held) {
            return held;
        }
        let before = held.listing.at.is_some().then_some(&held.listing);
        let listing = listing::list(&self.server, &held.rules, before, self.clock.now(), self.max_age).await;
        // A configuration that came meanwhile is listed by whoever needs it next.
        let fresh = Arc::new(Held { rules: held.rules.clone(), listing });
        let mut place = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&place.rules, &fresh.rules) {
            *place = fresh.clone();
        }
        fresh
    }

    /// What to ask for a query, looking for its metric again where it is not known.
    async fn question(&self, query: &Query) -> Result<Question, MetricsError> {
        let names = questions::names(&self.cluster, query).await?;
        if !questions::needs_listing(query) {
            return questions::question(&self.held().rules, &Listing::default(), query, &names);
        }
        let held = self.listed(self.relist_interval).await;
        match questions::question(&held.rules, &held.listing, query, &names) {
            Err(MetricsError::Unknown { .. }) => {
                let held = self.listed(LOOK_AGAIN).await;
                questions::question(&held.rules, &held.listing, query, &names)
            }
            other => other,
        }
    }

    async fn latest_of(&self, query: &Query) -> Result<Latest, MetricsError> {
        let question = self.question(query).await?;
        let now = self.clock.now();
        let mut latest = Latest::default();
        for promql in &question.promql {
            let fields = [("query", promql.as_str()), ("time", &seconds(now))];
            let answer = self.ask(query, "/api/v1/query", &fields).await?;
            latest.omitted.extend(answer.omissions());
            let instants = match answer.data {
                Data::Vector(instants) => {
                    instants.into_iter().map(|instant| (instant.metric, instant.value.point())).collect()
                }
                Data::Scalar(value) => vec![(RawLabels::new(), value.point())],
                Data::Matrix(_) | Data::String(_) => {
                    return Err(not_numbers(query, promql));
                }
            };
            for (labels, point) in instants {
                let labels = question.labelled(labels);
                match point {
                    Some(point) => latest.samples.push(Sample {
                        labels,
                        point: question.sane(point),
                        window: question.window,
                    }),
                    None => latest
                        .omitted
                        .push(Omission { what: shown(&labels), why: "has a value that is no number".into() }),
                }
            }
        }
        question.note_absent(&mut latest);
        latest.samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        if !latest.samples.is_empty() {
            return Ok(latest);
        }
        let first = latest.omitted.first().map(|o| format!(" ({} {})", o.what, o.why)).unwrap_or_default();
        let why = format!("Prometheus has no value{first}");
        Err(MetricsError::Missing { query: query.to_string().into(), why: why.into() })
    }

    async fn history_of(&self, query: &Query, range: &Range) -> Result<Vec<Series>, MetricsError> {
        let invalid =
            |why: String| MetricsError::Invalid { query: query.to_string().into(), why: why.into() };
        crate::query::check_range(range).map_err(invalid)?;
        let question = self.question(query).await?;
        let shards = shards(range);
        let mut asked = Vec::new();
        for promql in &question.promql {
            for shard in &shards {
                asked.push(self.stretch(query, promql, *shard));
            }
        }
        let total = asked.len();
        let answers: Vec<_> = stream::iter(asked).buffered(SHARDS_AT_ONCE).collect().await;
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        let mut merged: std::collections::BTreeMap<Labels, Vec<Point>> = std::collections::BTreeMap::new();
        for answer in answers {
            let stretches = answer.map_err(|error| if failed < total { partial(error) } else { error })?;
            for stretch in stretches {
                let points = stretch.values.iter().filter_map(answer::RawPoint::point);
                let points = points.map(|point| question.sane(point));
                merged.entry(question.labelled(stretch.metric)).or_default().extend(points);
            }
        }
        let window = question.window;
        Ok(merged.into_iter().map(|(labels, points)| Series { labels, points, window }).collect())
    }

    async fn stretch(
        &self,
        query: &Query,
        promql: &str,
        (start, end, step): (Timestamp, Timestamp, SignedDuration),
    ) -> Result<Vec<answer::Stretch>, MetricsError> {
        let step = format!("{}", step.as_secs_f64());
        let fields = [("query", promql), ("start", &seconds(start)), ("end", &seconds(end)), ("step", &step)];
        match self.ask(query, "/api/v1/query_range", &fields).await?.data {
            Data::Matrix(stretches) => Ok(stretches),
            _ => Err(not_numbers(query, promql)),
        }
    }

    async fn ask(
        &self,
        query: &Query,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Envelope<Data>, MetricsError> {
        // As a form: the names of a large workload's pods are longer than an address may be.
        let ask = Ask { path: path.to_owned(), form: Some(form(fields)) };
        self.server.read(&ask).await.map_err(|failure| told(query, &failure))
    }
}

impl MetricSource for Prometheus {
    fn name(&self) -> &'static str {
        "Prometheus"
    }

    fn latest<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Latest, MetricsError>> {
        Box::pin(self.latest_of(query))
    }

    fn history<'a>(
        &'a self,
        query: &'a Query,
        range: &'a Range,
    ) -> BoxFuture<'a, Result<Vec<Series>, MetricsError>> {
        Box::pin(self.history_of(query, range))
    }
}

fn told(query: &Query, failure: &Failure) -> MetricsError {
    let query = Arc::from(query.to_string());
    match failure.kind {
        FailureKind::Refused => {
            let why = format!("Prometheus refuses the query of its rule: {failure}");
            MetricsError::Invalid { query, why: why.into() }
        }
        FailureKind::Denied => {
            let fix = "set --prometheus-auth-config, --prometheus-auth-incluster or --prometheus-token-file";
            MetricsError::Unreachable { query, why: format!("Prometheus: {failure}; {fix}").into() }
        }
        FailureKind::Missing => {
            let fix = "is --prometheus-address that of a Prometheus, with its path?";
            MetricsError::Unreachable { query, why: format!("Prometheus: {failure}; {fix}").into() }
        }
        FailureKind::Ill | FailureKind::Busy => {
            MetricsError::Unreachable { query, why: format!("Prometheus: {failure}").into() }
        }
    }
}

fn partial(error: MetricsError) -> MetricsError {
    match error {
        MetricsError::Unreachable { query, why } => MetricsError::Partial { query, why },
        other => other,
    }
}

fn not_numbers(query: &Query, promql: &str) -> MetricsError {
    let why = format!("the query of its rule does not yield one number for each thing: {promql}");
    MetricsError::Invalid { query: query.to_string().into(), why: why.into() }
}

fn seconds(at: Timestamp) -> String {
    format!("{:.3}", at.as_millisecond() as f64 / 1000.0)
}

fn shown(labels: &Labels) -> Arc<str> {
    let text = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    Arc::from(if text.is_empty() { "the metric" } else { text.as_str() })
}

/// Cuts a range into parts that Prometheus answers, none of which shares a point with another.
fn shards(range: &Range) -> Vec<(Timestamp, Timestamp, SignedDuration)> {
    let (mut shards, mut start) = (Vec::new(), range.start);
    while start <= range.end {
        let last = range.step.checked_mul(STEPS_A_QUERY).and_then(|length| start.checked_add(length).ok());
        let end = last.unwrap_or(range.end).min(range.end);
        shards.push((start, end, range.step));
        match end.checked_add(range.step) {
            Ok(next) => start = next,
            Err(_) => break,
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_where_the_original_cuts_them() {
        for (start, end, wanted) in [
            (0, 600, vec![(0, 600)]),
            (0, 660_000, vec![(0, 660_000)]),
            (0, 660_060, vec![(0, 660_000), (660_060, 660_060)]),
            (0, 720_000, vec![(0, 660_000), (660_060, 720_000)]),
            (0, 0, vec![(0, 0)]),
            (0, 1_400_000, vec![(0, 660_000), (660_060, 1_320_060), (1_320_120, 1_400_000)]),
        ] {
            let at = |second| Timestamp::from_second(second).unwrap();
            let range = Range { start: at(start), end: at(end), step: SignedDuration::from_secs(60) };
            let cut: Vec<_> =
                shards(&range).iter().map(|(start, end, _)| (start.as_second(), end.as_second())).collect();
            assert_eq!(cut, wanted);
        }
    }
}
