//! Pods as the HPA's algorithm sees them: who counts, who is not ready, who has no value.
//!
//! Owns the grouping and the requests of a pod.

use super::{NoProposal, Resource, Sample, Samples, Settings};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub ready: bool,
    pub since: Timestamp,
}

/// What a container asks for, in thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRequest {
    pub name: Arc<str>,
    pub cpu: Option<i64>,
    pub memory: Option<i64>,
}

/// A pod that serves or should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    pub name: Arc<str>,
    pub deleted: bool,
    pub failed: bool,
    pub pending: bool,
    pub running: bool,
    pub started: Option<Timestamp>,
    pub readiness: Option<Readiness>,
    pub requests: Vec<ContainerRequest>,
}

impl PodView {
    pub(super) fn is_ready(&self) -> bool {
        self.readiness.is_some_and(|readiness| readiness.ready)
    }

    /// The request of one container, or of all together.
    pub(super) fn request(
        &self,
        resource: Resource,
        container: Option<&Arc<str>>,
    ) -> Result<i64, NoProposal> {
        let mut sum = 0_i64;
        let mut found = false;
        for asked in &self.requests {
            if container.is_some_and(|name| *name != asked.name) {
                continue;
            }
            found = true;
            let amount = match resource {
                Resource::Cpu => asked.cpu,
                Resource::Memory => asked.memory,
            };
            sum = sum.saturating_add(amount.ok_or_else(|| NoProposal::NoRequest {
                resource: resource.name(),
                container: asked.name.clone(),
                pod: self.name.clone(),
            })?);
        }
        match container {
            Some(name) if !found => {
                Err(NoProposal::NoContainer { container: name.clone(), pod: self.name.clone() })
            }
            _ => Ok(sum),
        }
    }
}

/// Pods by what is known of them.
pub(super) struct Grouped<'a> {
    /// Use of those that count, in thousandths.
    pub(super) usage: BTreeMap<&'a str, i64>,
    pub(super) unready: Vec<&'a str>,
    pub(super) missing: Vec<&'a str>,
}

impl<'a> Grouped<'a> {
    pub(super) fn of(
        pods: &'a [PodView],
        samples: &Samples,
        cpu: bool,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Self, NoProposal> {
        if pods.is_empty() {
            return Err(NoProposal::NoPods);
        }
        let mut grouped = Self { usage: BTreeMap::new(), unready: Vec::new(), missing: Vec::new() };
        for pod in pods.iter().filter(|pod| !pod.deleted && !pod.failed) {
            let name = &*pod.name;
            match samples.get(&pod.name) {
                _ if pod.pending => grouped.unready.push(name),
                None => grouped.missing.push(name),
                Some(sample) if cpu && is_unready(pod, sample, settings, now) => grouped.unready.push(name),
                Some(sample) => {
                    grouped.usage.insert(name, sample.milli);
                }
            }
        }
        if grouped.usage.is_empty() { Err(NoProposal::NoMetrics) } else { Ok(grouped) }
    }
}

/// Whether a pod's use of the processor says nothing yet: it starts, or never was ready.
fn is_unready(pod: &PodView, sample: &Sample, settings: &Settings, now: Timestamp) -> bool {
    let (Some(readiness), Some(started)) = (pod.readiness, pod.started) else { return true };
    let later =
        |moment: Timestamp, wait: SignedDuration| moment.saturating_add(wait).unwrap_or(Timestamp::MAX);
    if later(started, settings.cpu_initialization) > now {
        return !readiness.ready || sample.at < later(readiness.since, sample.window);
    }
    !readiness.ready && later(started, settings.initial_readiness_delay) > readiness.since
}
