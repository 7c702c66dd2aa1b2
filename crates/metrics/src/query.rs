//! What can be asked of a source.
//!
//! Owns the questions' form, which the gRPC service and every source share. Which source answers which is theirs.

use jiff::{SignedDuration, Timestamp};
use model::LabelSelector;
use std::fmt;
use std::sync::Arc;

/// Points that one query may ask for: a month by the minute, four times over.
const MOST_POINTS: i128 = 200_000;

/// A compute resource of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// In cores.
    Cpu,
    /// In bytes.
    Memory,
}

impl Resource {
    /// Reads a resource's name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "cpu" => Some(Self::Cpu),
            "memory" => Some(Self::Memory),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKind {
    /// Empty for the core group.
    pub group: Arc<str>,
    pub kind: Arc<str>,
}

/// A workload, which sources that know no owners find by the names of its pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    pub kind: GroupKind,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// Which pods, or other objects of one kind, in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Objects {
    /// By name, in the caller's order.
    Named(Vec<Arc<str>>),
    /// All that a selector matches; the empty one matches everything.
    Selected(LabelSelector),
}

/// A metric by name, and which of its series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric {
    pub name: Arc<str>,
    pub selector: LabelSelector,
}

/// A question about values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// Each pod's use of a resource, its containers summed.
    PodResource { namespace: Arc<str>, pods: Objects, resource: Resource },
    /// Each pod's use by its container of one name.
    ContainerResource { namespace: Arc<str>, pods: Objects, resource: Resource, container: Arc<str> },
    /// All pods of a workload together.
    WorkloadResource { workload: Workload, resource: Resource, ready_pods_only: bool },
    WorkloadContainerResource {
        workload: Workload,
        resource: Resource,
        container: Arc<str>,
        ready_pods_only: bool,
    },
    /// A metric that describes objects: pods, an Ingress, a Service.
    Object { kind: GroupKind, namespace: Option<Arc<str>>, objects: Objects, metric: Metric },
    /// A metric of something outside the cluster's objects.
    External { namespace: Option<Arc<str>>, metric: Metric },
    /// The same, of a workload's pods only.
    WorkloadExternal { workload: Workload, metric: Metric },
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodResource { namespace, pods, resource } => {
                write!(f, "{} of {} in {namespace}", resource.name(), Shown("pod", pods))
            }
            Self::ContainerResource { namespace, pods, resource, container } => {
                let name = resource.name();
                write!(f, "{name} of container {container} of {} in {namespace}", Shown("pod", pods))
            }
            Self::WorkloadResource { workload, resource, .. } => {
                write!(f, "{} of {workload}", resource.name())
            }
            Self::WorkloadContainerResource { workload, resource, container, .. } => {
                write!(f, "{} of container {container} of {workload}", resource.name())
            }
            Self::Object { kind, namespace, objects, metric } => {
                write!(f, "metric {} of {}", metric.name, Shown(&kind.kind, objects))?;
                namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in {namespace}"))
            }
            Self::External { metric, .. } => write!(f, "external metric {}", metric.name),
            Self::WorkloadExternal { workload, metric } => {
                write!(f, "external metric {} of {workload}", metric.name)
            }
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind, self.namespace, self.name)
    }
}

/// Objects in a message: one by name, several by number.
struct Shown<'a>(&'a str, &'a Objects);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Objects::Named(names) => match names.as_slice() {
                [one] => write!(f, "{} {one}", self.0),
                several => write!(f, "{} {}s", several.len(), self.0),
            },
            Objects::Selected(_) => write!(f, "the selected {}s", self.0),
        }
    }
}

/// A stretch of time, both ends included, one value every `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: Timestamp,
    pub end: Timestamp,
    pub step: SignedDuration,
}

/// Whether a range can be asked for.
pub(crate) fn check_range(range: &Range) -> Result<(), String> {
    if range.step < SignedDuration::from_secs(1) {
        return Err("step is under one second; use 1s or more".to_owned());
    }
    if range.start > range.end {
        return Err(format!("start {} is after end {}; exchange them", range.start, range.end));
    }
    let points = range.end.duration_since(range.start).as_nanos() / range.step.as_nanos();
    if points > MOST_POINTS {
        return Err(format!("the range has {points} steps; {MOST_POINTS} are served: take a longer step"));
    }
    Ok(())
}
