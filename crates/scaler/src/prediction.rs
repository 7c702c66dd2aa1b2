//! Predictive portraits: the metrics of a portrait asked for, and a plan of replicas as the portrait's data.
//!
//! Owns the convention of a portrait's metrics (the first is the resource whose level is kept, the second the ready
//! replicas, the others the traffic) and the form of the answer. Learning and planning are the crate `forecast`'s
//! business. The controller and the algorithm's job share this.

mod once;
mod result;
mod wall;

pub use once::{Once, OnceError};
pub(crate) use result::parse as parse_result;
pub(crate) use wall::Wall;

use crate::portrait::reactive::{identified, object};
use api::kapacity::{
    DataType, HorizontalPortraitSpec, MetricSpec, PortraitData, PortraitForecast, TimePoint, TimeSeries,
};
use forecast::{Ahead, Observed};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricTarget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use metrics::{GroupKind, MetricSource, Query, Range, Resource, Series, Workload};
use std::collections::BTreeMap;
use std::sync::Arc;
use workloads::reactive::ContainerRequest;

/// Time between values of the history.
const STEP: SignedDuration = SignedDuration::from_mins(1);
/// Traffic metrics of one portrait.
const MOST_TRAFFIC: usize = 16;

/// What each pod shall use at most.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Goal {
    /// In cores or bytes.
    Amount(f64),
    /// Of what the pod's containers ask for.
    Percent { percent: f64, resource: Resource },
}

/// What is asked of a source of metrics for one portrait.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Questions {
    used: Query,
    ready: Query,
    /// With the name by which users know each.
    traffic: Vec<(String, Query)>,
    goal: Goal,
}

impl Questions {
    /// Reads a portrait's metrics by the convention; the error names the metric and the fix.
    pub(crate) fn of(namespace: &str, spec: &HorizontalPortraitSpec) -> Result<Self, String> {
        let workload = workload(namespace, &spec.scale_target_ref);
        let [used, ready, traffic @ ..] = &spec.portrait.metrics[..] else {
            return Err(
                "metrics: give the resource whose level is kept, the ready replicas, and at least one metric of traffic"
                    .into(),
            );
        };
        if traffic.is_empty() || traffic.len() > MOST_TRAFFIC {
            return Err(format!("metrics: give 1 to {MOST_TRAFFIC} metrics of traffic after the first two"));
        }
        let (used, goal) = resource(&workload, used).map_err(|why| format!("metrics[0]: {why}"))?;
        let ready = match &ready.metric.pods {
            Some(pods) if ready.metric.type_ == "Pods" => Query::WorkloadExternal {
                workload: workload.clone(),
                metric: identified(&pods.metric).map_err(|why| format!("metrics[1]: {why}"))?,
            },
            _ => return Err("metrics[1]: it must be of type Pods: the number of ready replicas".into()),
        };
        let traffic = traffic
            .iter()
            .enumerate()
            .map(|(place, metric)| {
                let place = place + 2;
                let query = flow(&workload, metric).map_err(|why| format!("metrics[{place}]: {why}"))?;
                Ok((metric.name.clone().unwrap_or_else(|| format!("metrics[{place}]")), query))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { used, ready, traffic, goal })
    }

    /// What a pod shall use at most, given what one asks for.
    pub(crate) fn target(&self, asked: &[ContainerRequest]) -> Result<f64, String> {
        let (percent, resource) = match self.goal {
            Goal::Amount(amount) => return Ok(amount),
            Goal::Percent { percent, resource } => (percent, resource),
        };
        let of = |container: &ContainerRequest| match resource {
            Resource::Cpu => container.cpu,
            Resource::Memory => container.memory,
        };
        let sum: i64 = asked.iter().filter_map(of).sum();
        if sum <= 0 {
            return Err(format!(
                "metrics[0]: averageUtilization needs pods that request {}; set requests, or use averageValue",
                resource.name()
            ));
        }
        Ok(percent / 100.0 * sum as f64 / 1000.0)
    }

    /// The name by which users know a traffic metric.
    pub(crate) fn name(&self, traffic: usize) -> &str {
        self.traffic.get(traffic).map_or("traffic", |(name, _)| name)
    }

    /// The values of whole minutes over a range; what a metric lacks is not a number.
    pub(crate) async fn history(
        &self,
        source: &dyn MetricSource,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Observed>, String> {
        let minute = |time: Timestamp| time.as_second().div_euclid(60) * 60;
        let at = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| error.to_string());
        let (first, last) = (minute(from), minute(to));
        let range = Range { start: at(first)?, end: at(last)?, step: STEP };
        let used = summed(&ask(source, &self.used, &range).await?);
        let ready = summed(&ask(source, &self.ready, &range).await?);
        let mut traffic = Vec::with_capacity(self.traffic.len());
        for (_, query) in &self.traffic {
            traffic.push(summed(&ask(source, query, &range).await?));
        }
        let value = |series: &BTreeMap<i64, f64>, at: i64| series.get(&at).copied().unwrap_or(f64::NAN);
        let rows = (first..=last).step_by(60).map(|seconds| Observed {
            seconds,
            used: value(&used, seconds),
            ready_replicas: value(&ready, seconds),
            traffic: traffic.iter().map(|series| value(series, seconds)).collect(),
        });
        Ok(rows.collect())
    }
}

async fn ask(source: &dyn MetricSource, query: &Query, range: &Range) -> Result<Vec<Series>, String> {
    source.history(query, range).await.map_err(|error| error.to_string())
}

/// All series of an answer together, by time.
fn summed(series: &[Series]) -> BTreeMap<i64, f64> {
    let mut sum = BTreeMap::new();
    for point in series.iter().flat_map(|one| &one.points).filter(|point| point.value.is_finite()) {
        *sum.entry(point.at.as_second().div_euclid(60) * 60).or_insert(0.0) += point.value;
    }
    sum
}

fn workload(namespace: &str, reference: &CrossVersionObjectReference) -> Workload {
    let version = reference.api_version.as_deref().unwrap_or("apps/v1");
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    Workload {
        kind: GroupKind { group: Arc::from(group), kind: Arc::from(reference.kind.as_str()) },
        namespace: Arc::from(namespace),
        name: Arc::from(reference.name.as_str()),
    }
}

fn resource(workload: &Workload, spec: &MetricSpec) -> Result<(Query, Goal), String> {
    let metric = &spec.metric;
    let (name, container, target) = match (&*metric.type_, &metric.resource, &metric.container_resource) {
        ("Resource", Some(source), _) => (&source.name, None, &source.target),
        ("ContainerResource", _, Some(source)) => (&source.name, Some(&source.container), &source.target),
        (other, ..) => {
            return Err(format!("type {other} is not the resource whose level is kept; use Resource"));
        }
    };
    let resource = Resource::named(name)
        .ok_or_else(|| format!("resource {name:?} is not measured; use cpu or memory"))?;
    let workload = workload.clone();
    let query = match container {
        None => Query::WorkloadResource { workload, resource, ready_pods_only: true },
        Some(container) => Query::WorkloadContainerResource {
            workload,
            resource,
            container: Arc::from(container.as_str()),
            ready_pods_only: true,
        },
    };
    Ok((query, goal(target, resource)?))
}

fn goal(target: &MetricTarget, resource: Resource) -> Result<Goal, String> {
    if let Some(amount) = &target.average_value {
        let milli = intake::quantity::milli(&amount.0).map_err(|error| error.to_string())?;
        if milli == 0 {
            return Err("target.averageValue is 0, which no pod can keep".into());
        }
        return Ok(Goal::Amount(milli as f64 / 1000.0));
    }
    match target.average_utilization {
        Some(percent) if percent > 0 => Ok(Goal::Percent { percent: f64::from(percent), resource }),
        _ => Err(format!(
            "target of type {:?} says no level of a pod; give averageValue or averageUtilization",
            target.type_
        )),
    }
}

/// A metric of traffic.
fn flow(workload: &Workload, spec: &MetricSpec) -> Result<Query, String> {
    let metric = &spec.metric;
    let namespace = Some(workload.namespace.clone());
    match (&*metric.type_, &metric.pods, &metric.object, &metric.external) {
        ("Pods", Some(source), ..) => {
            Ok(Query::WorkloadExternal { workload: workload.clone(), metric: identified(&source.metric)? })
        }
        ("Object", _, Some(source), _) => object(&workload.namespace, source),
        ("External", _, _, Some(source)) => {
            Ok(Query::External { namespace, metric: identified(&source.metric)? })
        }
        (other, ..) => Err(format!("type {other} is no traffic; use Pods, Object or External")),
    }
}

/// A plan as a portrait's data.
pub(crate) fn data(ahead: &Ahead) -> PortraitData {
    let point = |point: &forecast::Planned| TimePoint {
        timestamp: point.seconds.max(0),
        replicas: i32::try_from(point.replicas).unwrap_or(i32::MAX),
    };
    PortraitData {
        type_: DataType::TimeSeries,
        time_series: Some(TimeSeries { time_series: ahead.points.iter().map(point).collect() }),
        expire_time: Timestamp::from_second(ahead.expires_seconds).ok().map(Time),
        ..PortraitData::default()
    }
}

/// What a plan is worth, for the status.
pub(crate) fn worth(ahead: &Ahead, questions: &Questions, now: Timestamp) -> PortraitForecast {
    let models: Vec<String> =
        ahead.models.iter().map(|(metric, model)| format!("{}: {model}", questions.name(*metric))).collect();
    let percent = |share: f64| (100.0 * share).round().clamp(-1e6, 1e6) as i32;
    PortraitForecast {
        model: models.join(", "),
        trust: ahead.trust.to_string(),
        expected: format!("{:.3}", ahead.next.0),
        upper: format!("{:.3}", ahead.next.1),
        error_percent: percent(f64::from(ahead.traffic_error)),
        fit_correlation_percent: percent(ahead.quality.correlation),
        fit_error_percent: percent(ahead.quality.error),
        made_at: Some(Time(now)),
    }
}
