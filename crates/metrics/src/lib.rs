//! What workloads use and serve: sources of metrics behind one trait.
//!
//! A source answers a query with values at a time or over a range, and says what it left out and why. It decides
//! nothing: what a value means for replicas is `workloads`' business, when to ask is the caller's.

mod error;
mod fetch;
pub mod grpc;
pub mod prometheus;
mod query;
pub mod resource_api;
mod sample;
mod selector;

pub use error::MetricsError;
pub use prometheus::{Prometheus, PrometheusSettings};
pub use query::{GroupKind, Metric, Objects, Query, Range, Resource, Workload};
pub use resource_api::ResourceApi;
pub use sample::{Latest, Omission, Point, Sample, Series};
pub use selector::{parse_selector, selector_text};

use futures::future::BoxFuture;

/// A place that metrics are asked of.
pub trait MetricSource: Send + Sync {
    /// How messages name it.
    fn name(&self) -> &'static str;

    /// The newest value of each thing that a query is about, with what had to be left out.
    ///
    /// Nothing at all is an error ([`MetricsError::Missing`]), never an empty answer.
    fn latest<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Latest, MetricsError>>;

    /// The values over a range of time; empty where the source has none of that time.
    fn history<'a>(
        &'a self,
        query: &'a Query,
        range: &'a Range,
    ) -> BoxFuture<'a, Result<Vec<Series>, MetricsError>>;
}
