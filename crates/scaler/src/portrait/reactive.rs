//! Reactive portraits: metrics asked for, and handed to the algorithm of the Kubernetes HPA.
//!
//! Owns turning metric specs into queries and answers into measures. Pods that are cut off are left out of both. The
//! arithmetic is `workloads::reactive`'s.

use super::{Failure, Made};
use crate::cache::Key;
use crate::context::Context;
use crate::target::{self, Target};
use api::kapacity::{DataType, HorizontalPortraitSpec, KubeHpa, MetricSpec, PortraitData, StaticPortrait};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, MetricIdentifier, MetricTarget, ObjectMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use metrics::{GroupKind, Latest, Metric, Objects, Query};
use std::sync::Arc;
use workloads::PodState;
use workloads::reactive::{
    Measure, PodView, Resource, Sample, Samples, Settings, Workload, combine, propose,
};

const FAILED: &str = "FailedGeneratePortrait";
/// What a value is an average of, where its source does not say.
const DEFAULT_WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// Shorter periods would only read the same values again.
const SHORTEST_PERIOD: SignedDuration = SignedDuration::from_secs(1);
/// Longer than a list of the resource metrics is shared.
const BEAT: SignedDuration = SignedDuration::from_secs(5);

pub(super) async fn generate(
    context: &Context,
    key: &Key,
    spec: &HorizontalPortraitSpec,
) -> Result<Made, Failure> {
    let given = spec.portrait.algorithm.kube_hpa.clone().unwrap_or_default();
    let (period, settings) =
        settings(&given).map_err(|message| Failure { reason: FAILED, message, again: None })?;
    let again = next_look(context.clock.now(), period);
    let failed = |message: String| Failure { reason: FAILED, message, again };
    let target = target::observe(context, &key.namespace, &spec.scale_target_ref).await;
    let target = target.map_err(|error| failed(error.to_string()))?;
    let replicas = replicas(context, key, spec, &target, &settings).await.map_err(failed)?;
    let replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
    let data = PortraitData {
        type_: DataType::Static,
        static_: Some(StaticPortrait { replicas }),
        ..PortraitData::default()
    };
    Ok(Made { data, forecast: None, again })
}

/// Looks come together on common beats: then a list of metrics that is fresh serves them all, and is read once a beat.
/// They come a beat sooner than a period after the one before, since thousands of looks and writes take a while, and
/// what has changed is to be acted on within a period.
fn next_look(now: Timestamp, period: SignedDuration) -> Option<Timestamp> {
    if period < BEAT * 2 {
        return now.saturating_add(period).ok();
    }
    let at = now.saturating_add(period - BEAT).ok()?;
    Timestamp::from_second(at.as_second() - at.as_second().rem_euclid(BEAT.as_secs())).ok()
}

async fn replicas(
    context: &Context,
    key: &Key,
    spec: &HorizontalPortraitSpec,
    target: &Target,
    settings: &Settings,
) -> Result<u32, String> {
    let serving = Serving::of(target);
    let current = serving.current;
    let asker = Asker { context, namespace: &key.namespace, names: &serving.names };
    let (mut proposals, mut zero, mut asleep) = (Vec::new(), false, false);
    for (place, metric) in spec.portrait.metrics.iter().enumerate() {
        let needs_pods = !matches!(&*metric.metric.type_, "Object" | "External");
        zero |= !needs_pods;
        if needs_pods && current == 0 {
            // Without pods it has nothing to say.
            asleep = true;
            continue;
        }
        let workload = serving.workload();
        let proposal = match asker.measure(metric).await {
            Ok(measure) => {
                propose(&measure, workload, settings, context.clock.now()).map_err(|why| why.to_string())
            }
            Err(why) => Err(why),
        };
        proposals.push(proposal.map_err(|why| format!("metrics[{place}]: {why}")));
    }
    // What only pods can tell needs one to begin with.
    if proposals.is_empty() && asleep {
        return Ok(1);
    }
    combine(&proposals, current, zero)
}

/// What a metric is now and the target that it is compared with: in percent of requests, else in thousandths.
pub(crate) struct Compared {
    pub(crate) value: i64,
    pub(crate) bound: i64,
    pub(crate) percent: bool,
}

/// Reads a metric of the pods that are online.
pub(crate) async fn compare(
    context: &Context,
    namespace: &Arc<str>,
    reference: &CrossVersionObjectReference,
    metric: &MetricSpec,
) -> Result<Compared, String> {
    let target = target::observe(context, namespace, reference).await.map_err(|error| error.to_string())?;
    let serving = Serving::of(&target);
    let asker = Asker { context, namespace, names: &serving.names };
    let measure = asker.measure(metric).await?;
    let (value, bound) = measure.reading(serving.workload()).map_err(|why| why.to_string())?;
    Ok(Compared { value, bound, percent: matches!(measure, Measure::Utilization { .. }) })
}

/// The online part of a workload.
struct Serving {
    current: u32,
    views: Vec<PodView>,
    names: Vec<Arc<str>>,
}

impl Serving {
    fn of(target: &Target) -> Self {
        let offline = target.pods.iter().filter(|pod| pod.state != PodState::Online).count();
        let online = || target.pods.iter().filter(|pod| pod.state == PodState::Online);
        Self {
            current: target.replicas.saturating_sub(u32::try_from(offline).unwrap_or(u32::MAX)),
            views: online().map(|pod| pod.to_view()).collect(),
            names: online().map(|pod| pod.key.name.clone()).collect(),
        }
    }

    fn workload(&self) -> Workload<'_> {
        Workload { current: self.current, pods: &self.views }
    }
}

/// The period between looks, and the algorithm's settings.
fn settings(given: &KubeHpa) -> Result<(SignedDuration, Settings), String> {
    let wait = |field: &str, text: &str| {
        let wait = intake::go_duration(text)
            .map_err(|error| format!("algorithm.kubeHPA.{field} {text:?}: {error}; write 15s or 5m"))?;
        if wait.is_negative() {
            Err(format!("algorithm.kubeHPA.{field} {text:?} is negative"))
        } else {
            Ok(wait)
        }
    };
    let tolerance = given.tolerance.parse::<f64>().ok().filter(|share| share.is_finite() && *share >= 0.0);
    let tolerance = tolerance.ok_or_else(|| {
        format!(
            "algorithm.kubeHPA.tolerance {:?} is not a number of zero or more; write 0.1",
            given.tolerance
        )
    })?;
    let settings = Settings {
        tolerance,
        cpu_initialization: wait("cpuInitializationPeriod", &given.cpu_initialization_period)?,
        initial_readiness_delay: wait("initialReadinessDelay", &given.initial_readiness_delay)?,
    };
    Ok((wait("syncPeriod", &given.sync_period)?.max(SHORTEST_PERIOD), settings))
}

/// Asks for the metrics of one workload.
struct Asker<'a> {
    context: &'a Context,
    namespace: &'a Arc<str>,
    /// Pods that are online.
    names: &'a [Arc<str>],
}

impl Asker<'_> {
    async fn measure(&self, spec: &MetricSpec) -> Result<Measure, String> {
        let metric = &spec.metric;
        let absent = |field: &str| format!("type {} needs the field {field}", metric.type_);
        match &*metric.type_ {
            "Resource" => {
                let source = metric.resource.as_ref().ok_or_else(|| absent("resource"))?;
                self.resource(&source.name, None, &source.target).await
            }
            "ContainerResource" => {
                let source = metric.container_resource.as_ref().ok_or_else(|| absent("containerResource"))?;
                self.resource(&source.name, Some(&source.container), &source.target).await
            }
            "Pods" => {
                let source = metric.pods.as_ref().ok_or_else(|| absent("pods"))?;
                let target = average(&source.target).ok_or_else(|| unusable("pods", &source.target))??;
                let query = Query::Object {
                    kind: GroupKind { group: Arc::from(""), kind: Arc::from("Pod") },
                    namespace: Some(self.namespace.clone()),
                    objects: Objects::Named(self.names.to_vec()),
                    metric: identified(&source.metric)?,
                };
                Ok(Measure::PodsAverage { samples: samples(&self.ask(&query).await?, false), target })
            }
            "Object" => {
                let source = metric.object.as_ref().ok_or_else(|| absent("object"))?;
                let query = object(self.namespace, source)?;
                let usage = total(&self.ask(&query).await?);
                single(usage, &source.target, &source.target.type_)
                    .ok_or_else(|| unusable("object", &source.target))?
            }
            "External" => {
                let source = metric.external.as_ref().ok_or_else(|| absent("external"))?;
                let metric = identified(&source.metric)?;
                let query = Query::External { namespace: Some(self.namespace.clone()), metric };
                let usage = total(&self.ask(&query).await?);
                let form = if source.target.average_value.is_some() { "AverageValue" } else { "Value" };
                single(usage, &source.target, form).ok_or_else(|| unusable("external", &source.target))?
            }
            other => {
                Err(format!("type {other:?} is none of Resource, ContainerResource, Pods, Object, External"))
            }
        }
    }

    async fn resource(
        &self,
        name: &str,
        container: Option<&str>,
        target: &MetricTarget,
    ) -> Result<Measure, String> {
        let (asked, resource) = match name {
            "cpu" => (metrics::Resource::Cpu, Resource::Cpu),
            "memory" => (metrics::Resource::Memory, Resource::Memory),
            other => return Err(format!("resource {other:?} is not measured; use cpu or memory")),
        };
        let (namespace, pods) = (self.namespace.clone(), Objects::Named(self.names.to_vec()));
        let query = match container {
            None => Query::PodResource { namespace, pods, resource: asked },
            Some(container) => {
                Query::ContainerResource { namespace, pods, resource: asked, container: Arc::from(container) }
            }
        };
        let wanted = average(target).transpose()?;
        let percent = target.average_utilization;
        if wanted.is_none() && percent.is_none() {
            return Err(unusable("resource", target));
        }
        let samples = samples(&self.ask(&query).await?, true);
        Ok(match (wanted, percent) {
            (Some(target), _) => Measure::ResourceAverage { resource, samples, target },
            (None, percent) => Measure::Utilization {
                resource,
                container: container.map(Arc::from),
                samples,
                target_percent: i64::from(percent.unwrap_or(0)),
            },
        })
    }

    async fn ask(&self, query: &Query) -> Result<Latest, String> {
        self.context.metrics.latest(query).await.map_err(|error| error.to_string())
    }
}

/// The average that is aimed at, in thousandths.
fn average(target: &MetricTarget) -> Option<Result<i64, String>> {
    target.average_value.as_ref().map(milli)
}

/// One value for the whole, compared as the target's form says.
fn single(usage: i64, target: &MetricTarget, form: &str) -> Option<Result<Measure, String>> {
    match form {
        "Value" => {
            let target = milli(target.value.as_ref()?);
            Some(target.map(|target| Measure::Value { usage, target }))
        }
        "AverageValue" => {
            let target = milli(target.average_value.as_ref()?);
            Some(target.map(|target| Measure::ValuePerReplica { usage, target }))
        }
        _ => None,
    }
}

fn unusable(field: &str, target: &MetricTarget) -> String {
    format!(
        "{field}.target of type {:?} says no amount that this metric can be compared with; give averageValue, or value \
         or averageUtilization where the type of metric has it",
        target.type_
    )
}

fn milli(quantity: &Quantity) -> Result<i64, String> {
    let milli = intake::quantity::milli(&quantity.0).map_err(|error| error.to_string())?;
    i64::try_from(milli).map_err(|_| format!("{} is too large", quantity.0))
}

/// A metric that describes one object.
pub(crate) fn object(namespace: &Arc<str>, source: &ObjectMetricSource) -> Result<Query, String> {
    let described = &source.described_object;
    let version = described.api_version.as_deref().unwrap_or_default();
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    Ok(Query::Object {
        kind: GroupKind { group: Arc::from(group), kind: Arc::from(described.kind.as_str()) },
        namespace: Some(namespace.clone()),
        objects: Objects::Named(vec![Arc::from(described.name.as_str())]),
        metric: identified(&source.metric)?,
    })
}

pub(crate) fn identified(metric: &MetricIdentifier) -> Result<Metric, String> {
    let selector = metric.selector.as_ref().map(intake::label_selector).transpose();
    let selector = selector.map_err(|error| format!("metric {}: selector: {error}", metric.name))?;
    Ok(Metric { name: Arc::from(metric.name.as_str()), selector: selector.unwrap_or_default() })
}

/// Thousandths, cut off as the HPA cuts them; use of a resource is never less than nothing.
#[expect(
    clippy::cast_possible_truncation,
    reason = "casts of floats saturate, and what is no number is zero"
)]
fn thousandths(value: f64, resource: bool) -> i64 {
    let milli = (value * 1000.0) as i64;
    if resource { milli.max(0) } else { milli }
}

fn samples(latest: &Latest, resource: bool) -> Samples {
    let of_pod = latest.samples.iter().filter_map(|sample| Some((sample.pod()?.clone(), sample)));
    of_pod
        .map(|(pod, sample)| {
            let milli = thousandths(sample.point.value, resource);
            (pod, Sample { milli, at: sample.point.at, window: sample.window.unwrap_or(DEFAULT_WINDOW) })
        })
        .collect()
}

fn total(latest: &Latest) -> i64 {
    latest
        .samples
        .iter()
        .fold(0, |sum: i64, sample| sum.saturating_add(thousandths(sample.point.value, false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_read_are_named() {
        let wrong = |given: KubeHpa| settings(&given).unwrap_err();
        assert!(wrong(KubeHpa { tolerance: "much".into(), ..KubeHpa::default() }).contains("tolerance"));
        assert!(wrong(KubeHpa { sync_period: "soon".into(), ..KubeHpa::default() }).contains("syncPeriod"));
        let (period, read) = settings(&KubeHpa::default()).unwrap();
        assert_eq!((period.as_secs(), read), (15, Settings::default()));
    }

    #[test]
    fn looks_meet_on_beats_and_none_is_late() {
        let next = |now: &str, period: i64| {
            next_look(now.parse().unwrap(), SignedDuration::from_secs(period)).unwrap().to_string()
        };
        assert_eq!(next("2026-01-01T00:00:03.7Z", 15), "2026-01-01T00:00:10Z");
        assert_eq!(next("2026-01-01T00:00:15.001Z", 15), "2026-01-01T00:00:25Z");
        assert_eq!(next("2026-01-01T00:00:15Z", 15), "2026-01-01T00:00:25Z");
        assert_eq!(next("2026-01-01T00:00:15.5Z", 60), "2026-01-01T00:01:10Z");
        assert_eq!(next("2026-01-01T00:00:15Z", 10), "2026-01-01T00:00:20Z");
        assert_eq!(next("2026-01-01T00:00:03.7Z", 7), "2026-01-01T00:00:10.7Z");
    }

    #[test]
    fn a_placeholder_is_no_target() {
        let target = MetricTarget { type_: "NA".into(), ..MetricTarget::default() };
        assert!(average(&target).is_none() && single(1, &target, &target.type_).is_none());
        let value = MetricTarget { type_: "Value".into(), value: Some(Quantity("2".into())), ..target };
        assert_eq!(
            single(1500, &value, &value.type_),
            Some(Ok(Measure::Value { usage: 1500, target: 2000 }))
        );
        assert_eq!(
            (thousandths(f64::NAN, true), thousandths(-1.0, true), thousandths(-1.0, false)),
            (0, 0, -1000)
        );
    }
}
