//! What is known ahead of pods that do not exist yet: how many replicas a workload will want, by when.
//!
//! Owns the one form that every source of it takes (portraits, autoscalers of Kubernetes, schedules of jobs), and what a
//! round says of it. Where it is read is the shell's business; what is bought for it `nodes`'.

use crate::{Labels, PodShape, Reason, WorkloadKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What kind of object tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutlookSource {
    /// The merged portraits of an `IntelligentHorizontalPodAutoscaler`.
    Portraits,
    /// The trend of a `HorizontalPodAutoscaler`, up to its maximum.
    Trend,
    /// The next run of a `CronJob`.
    Schedule,
}

impl OutlookSource {
    /// The kind of its objects.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Portraits => "IntelligentHorizontalPodAutoscaler",
            Self::Trend => "HorizontalPodAutoscaler",
            Self::Schedule => "CronJob",
        }
    }

    fn of_kind(kind: &str) -> Option<Self> {
        [Self::Portraits, Self::Trend, Self::Schedule].into_iter().find(|source| source.kind() == kind)
    }
}

/// Who tells it, by kind, namespace and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutlookKey {
    pub source: OutlookSource,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl OutlookKey {
    pub fn new(source: OutlookSource, namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        Self { source, namespace: Arc::from(namespace.as_ref()), name: Arc::from(name.as_ref()) }
    }
}

impl fmt::Display for OutlookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.source.kind(), self.namespace, self.name)
    }
}

impl fmt::Debug for OutlookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

// Keys are map keys in the journal's JSON, so they are written as one string.
impl Serialize for OutlookKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OutlookKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut parts = text.splitn(3, '/');
        let key = match (parts.next().and_then(OutlookSource::of_kind), parts.next(), parts.next()) {
            (Some(source), Some(namespace), Some(name)) => Some(Self::new(source, namespace, name)),
            _ => None,
        };
        key.ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is not kind/namespace/name")))
    }
}

/// From this moment on, so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DueReplicas {
    pub at: Timestamp,
    pub replicas: u32,
}

/// What the pods of a workload are like while none of them lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodTemplate {
    pub shape: Arc<PodShape>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// Pods that begin at the times of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// As Kubernetes writes schedules of `CronJobs`.
    pub schedule: Arc<str>,
    /// IANA name; empty is UTC.
    #[serde(default)]
    pub zone: Arc<str>,
    /// Pods that live once a run has begun.
    pub replicas: u32,
}

/// What one object tells of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    pub key: OutlookKey,
    /// Whose pods they will be: a `Deployment`, `StatefulSet`, `CronJob` or any other owner, direct or not.
    pub target: WorkloadKey,
    /// In the order of time; each holds until the next, the last until the outlook is replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<DueReplicas>,
    /// In their place, where a schedule tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Runs>,
    /// How sure its source is: 100 for a schedule.
    pub confidence_percent: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Arc<PodTemplate>>,
}

/// What a round says of an outlook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlookVerdict {
    pub target: WorkloadKey,
    /// Pods that live.
    pub live: u32,
    pub reason: Reason,
    /// What was told of the last moments that were planned for, and what came; the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<crate::Came>,
}
