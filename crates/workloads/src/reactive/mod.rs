//! The algorithm of the Kubernetes HPA: replicas from metrics.
//!
//! Owns the arithmetic for one metric and how several are combined. Pods that are cut off are left out of every
//! average by whoever passes pods in: they are idle by intent, and would pull the workload further down.

mod pods;

pub use pods::{ContainerRequest, PodView, Readiness};

use jiff::{SignedDuration, Timestamp};
use pods::Grouped;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A compute resource of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Memory,
}

/// One pod's value in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub milli: i64,
    pub at: Timestamp,
    /// Time that it is an average of.
    pub window: SignedDuration,
}

pub type Samples = BTreeMap<Arc<str>, Sample>;

/// A metric with its target; values and targets in thousandths.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    /// Use as a share of what is requested.
    Utilization { resource: Resource, container: Option<Arc<str>>, samples: Samples, target_percent: i64 },
    /// Average use of a resource.
    ResourceAverage { resource: Resource, samples: Samples, target: i64 },
    /// Average of a metric of each pod.
    PodsAverage { samples: Samples, target: i64 },
    /// One value for the whole.
    Value { usage: i64, target: i64 },
    /// One value, shared by all replicas.
    ValuePerReplica { usage: i64, target: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How far the ratio may be from one.
    pub tolerance: f64,
    pub cpu_initialization: SignedDuration,
    pub initial_readiness_delay: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tolerance: 0.1,
            cpu_initialization: SignedDuration::from_mins(5),
            initial_readiness_delay: SignedDuration::from_secs(30),
        }
    }
}

/// A workload as the algorithm sees it.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// Online replicas that are wanted now.
    pub current: u32,
    pub pods: &'a [PodView],
}

/// Why one metric proposes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProposal {
    #[error("the workload has no pods to compute replicas from")]
    NoPods,
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoMetrics,
    #[error("missing request for {resource} in container {container} of Pod {pod}")]
    NoRequest { resource: &'static str, container: Arc<str>, pod: Arc<str> },
    #[error("container {container} not found in Pod {pod}")]
    NoContainer { container: Arc<str>, pod: Arc<str> },
    #[error("the pods' requests of {resource} sum to zero")]
    ZeroRequests { resource: &'static str },
    #[error("the target must be over zero")]
    ZeroTarget,
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

impl Measure {
    /// Whether it says nothing without pods; what does may also wake a workload from zero and send it there.
    pub fn needs_pods(&self) -> bool {
        !matches!(self, Self::Value { .. } | Self::ValuePerReplica { .. })
    }

    /// What is measured and what it is aimed at, in the same unit.
    pub fn reading(&self, workload: Workload<'_>) -> Result<(i64, i64), NoProposal> {
        let mean = |samples: &Samples| {
            let count = i64::try_from(samples.len()).ok().filter(|count| *count > 0);
            let sum: i64 = samples.values().fold(0, |sum, sample| sum.saturating_add(sample.milli));
            Ok(sum / count.ok_or(NoProposal::NoMetrics)?)
        };
        match self {
            Self::Utilization { resource, container, samples, target_percent } => {
                let (mut used, mut asked) = (0_i64, 0_i64);
                for pod in workload.pods {
                    let Some(sample) = samples.get(&pod.name) else { continue };
                    used = used.saturating_add(sample.milli);
                    asked = asked.saturating_add(pod.request(*resource, container.as_ref())?);
                }
                if samples.is_empty() {
                    return Err(NoProposal::NoMetrics);
                }
                let asked = (asked > 0).then_some(asked);
                let asked = asked.ok_or(NoProposal::ZeroRequests { resource: resource.name() })?;
                Ok((used.saturating_mul(100) / asked, *target_percent))
            }
            Self::ResourceAverage { samples, target, .. } | Self::PodsAverage { samples, target } => {
                Ok((mean(samples)?, *target))
            }
            Self::Value { usage, target } => Ok((*usage, *target)),
            Self::ValuePerReplica { usage, target } => {
                Ok((usage / i64::from(workload.current.max(1)), *target))
            }
        }
    }
}

/// What one metric proposes.
pub fn propose(
    measure: &Measure,
    workload: Workload<'_>,
    settings: &Settings,
    now: Timestamp,
) -> Result<u32, NoProposal> {
    match measure {
        Measure::Utilization { resource, container, samples, target_percent } => {
            let grouped = Grouped::of(workload.pods, samples, *resource == Resource::Cpu, settings, now)?;
            utilization(*resource, container.as_ref(), *target_percent, &grouped, workload, settings)
        }
        Measure::ResourceAverage { resource, samples, target } => {
            let grouped = Grouped::of(workload.pods, samples, *resource == Resource::Cpu, settings, now)?;
            average(*target, &grouped, workload.current, settings)
        }
        Measure::PodsAverage { samples, target } => {
            let grouped = Grouped::of(workload.pods, samples, false, settings, now)?;
            average(*target, &grouped, workload.current, settings)
        }
        Measure::Value { usage, target } => {
            let ratio = share(*usage, *target)?;
            if workload.current == 0 {
                return Ok(whole(ratio));
            }
            if within(ratio, settings) {
                return Ok(workload.current);
            }
            if workload.pods.is_empty() {
                return Err(NoProposal::NoPods);
            }
            let ready = workload.pods.iter().filter(|pod| pod.running && pod.is_ready()).count();
            Ok(whole(ratio * ready as f64))
        }
        Measure::ValuePerReplica { usage, target } => {
            let wanted = share(*usage, *target)?;
            if workload.current > 0 && within(wanted / f64::from(workload.current), settings) {
                return Ok(workload.current);
            }
            Ok(whole(wanted))
        }
    }
}

fn share(usage: i64, target: i64) -> Result<f64, NoProposal> {
    if target <= 0 { Err(NoProposal::ZeroTarget) } else { Ok(usage as f64 / target as f64) }
}

fn within(ratio: f64, settings: &Settings) -> bool {
    (ratio - 1.0).abs() <= settings.tolerance
}

/// Rounded up; a negative share is nothing.
fn whole(share: f64) -> u32 {
    share.ceil().clamp(0.0, f64::from(i32::MAX)) as u32
}

fn utilization(
    resource: Resource,
    container: Option<&Arc<str>>,
    target_percent: i64,
    grouped: &Grouped<'_>,
    workload: Workload<'_>,
    settings: &Settings,
) -> Result<u32, NoProposal> {
    if target_percent <= 0 {
        return Err(NoProposal::ZeroTarget);
    }
    let mut requests = BTreeMap::new();
    for pod in workload.pods {
        requests.insert(&*pod.name, pod.request(resource, container)?);
    }
    let request_of = |pod: &str| requests.get(pod).copied().unwrap_or(0);
    let ratio = |usage: &BTreeMap<&str, i64>| {
        let requested: i64 = usage.keys().fold(0, |sum, pod| sum.saturating_add(request_of(pod)));
        if requested == 0 {
            return Err(NoProposal::ZeroRequests { resource: resource.name() });
        }
        // Whole percent, as the HPA counts it.
        let percent = i128::from(sum(usage)) * 100 / i128::from(requested);
        Ok(percent as f64 / target_percent as f64)
    };
    // A pod without a value is taken to use all it asked for, or the target where that is higher.
    let assumed = |pod: &str| request_of(pod).saturating_mul(target_percent.max(100)) / 100;
    resolve(grouped, workload.current, settings, ratio, assumed)
}

fn average(target: i64, grouped: &Grouped<'_>, current: u32, settings: &Settings) -> Result<u32, NoProposal> {
    if target <= 0 {
        return Err(NoProposal::ZeroTarget);
    }
    let ratio = |usage: &BTreeMap<&str, i64>| {
        // Whole thousandths, as the HPA counts them.
        let mean = sum(usage) / i64::try_from(usage.len().max(1)).unwrap_or(1);
        Ok(mean as f64 / target as f64)
    };
    resolve(grouped, current, settings, ratio, |_| target)
}

fn sum(usage: &BTreeMap<&str, i64>) -> i64 {
    usage.values().fold(0, |sum, milli| sum.saturating_add(*milli))
}

/// From the ratio of use to target to a count, doubtful pods counted against the direction of change.
fn resolve(
    grouped: &Grouped<'_>,
    current: u32,
    settings: &Settings,
    ratio: impl Fn(&BTreeMap<&str, i64>) -> Result<f64, NoProposal>,
    assumed: impl Fn(&str) -> i64,
) -> Result<u32, NoProposal> {
    let first = ratio(&grouped.usage)?;
    let unready_matter = !grouped.unready.is_empty() && first > 1.0;
    if !unready_matter && grouped.missing.is_empty() {
        let kept = within(first, settings);
        return Ok(if kept { current } else { whole(first * grouped.usage.len() as f64) });
    }
    let mut usage = grouped.usage.clone();
    for pod in &grouped.missing {
        if first < 1.0 {
            usage.insert(pod, assumed(pod));
        } else if first > 1.0 {
            usage.insert(pod, 0);
        }
    }
    if unready_matter {
        usage.extend(grouped.unready.iter().map(|pod| (*pod, 0)));
    }
    let second = ratio(&usage)?;
    let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    let replicas = whole(second * usage.len() as f64);
    let against = (second < 1.0 && replicas > current) || (second > 1.0 && replicas < current);
    Ok(if within(second, settings) || turned || against { current } else { replicas })
}

/// The largest of what the metrics propose. Those that failed do not matter while the result grows; a result that
/// shrinks must not rest on a part of the metrics. `zero` says whether nothing at all may be the answer.
pub fn combine(proposals: &[Result<u32, String>], current: u32, zero: bool) -> Result<u32, String> {
    let largest = proposals.iter().filter_map(|proposal| proposal.as_ref().ok()).max().copied();
    let mut errors = proposals.iter().filter_map(|proposal| proposal.as_ref().err());
    let failed = errors.clone().count();
    match (largest, errors.next()) {
        (None, None) => Err("invalid metrics (0 invalid out of 0): no metric is given".to_owned()),
        (Some(largest), None) => Ok(largest.max(u32::from(!zero))),
        (Some(largest), Some(_)) if largest >= current => Ok(largest.max(u32::from(!zero))),
        (_, Some(first)) => Err(format!(
            "invalid metrics ({failed} invalid out of {}), first error is: {first}",
            proposals.len()
        )),
    }
}
