//! Values and series of values, with the labels that say what each is of.

use jiff::{SignedDuration, Timestamp};
use model::Labels;
use std::sync::Arc;

/// One value at one time. CPU is in cores, memory in bytes, everything else in the metric's own unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at: Timestamp,
    pub value: f64,
}

/// The newest value of one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `namespace` and `pod`, or what the metric is labelled with.
    pub labels: Labels,
    pub point: Point,
    /// Time over which the value was averaged, where the source says it.
    pub window: Option<SignedDuration>,
}

impl Sample {
    /// The pod that the value is of.
    pub fn pod(&self) -> Option<&Arc<str>> {
        self.labels.get("pod")
    }
}

/// The values of one thing, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub labels: Labels,
    pub points: Vec<Point>,
    pub window: Option<SignedDuration>,
}

/// Something that an answer should have held and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Omission {
    /// What is left out, such as a pod's name.
    pub what: Arc<str>,
    /// One sentence part: `has no value for cpu`.
    pub why: Arc<str>,
}

/// The newest values, ordered by labels, and what is not among them. At least one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latest {
    pub samples: Vec<Sample>,
    pub omitted: Vec<Omission>,
}
