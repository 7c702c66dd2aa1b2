//! Between the wire form and ours.
//!
//! Owns what an absent or odd field means. Errors are sentences for the client that sent the query.

use super::generated as wire;
use crate::{GroupKind, Metric, Objects, Point, Query, Range, Resource, Sample, Series, Workload};
use crate::{parse_selector, selector_text};
use jiff::{SignedDuration, Timestamp};
use model::{LabelSelector, Labels};
use std::sync::Arc;

pub(super) fn read_query(query: Option<wire::Query>) -> Result<Query, String> {
    use wire::query::Query as Of;
    let query = query.and_then(|query| query.query).ok_or("the request holds no query; set query.query")?;
    Ok(match query {
        Of::PodResource(q) => {
            let pods = match q.pod_identifier {
                Some(wire::pod_resource_query::PodIdentifier::Name(name)) => objects(name, None)?,
                Some(wire::pod_resource_query::PodIdentifier::Selector(text)) => {
                    objects(String::new(), Some(text))?
                }
                None => objects(String::new(), None)?,
            };
            Query::PodResource { namespace: q.namespace.into(), pods, resource: resource(&q.resource_name)? }
        }
        Of::ContainerResource(q) => {
            let pods = match q.pod_identifier {
                Some(wire::container_resource_query::PodIdentifier::Name(name)) => objects(name, None)?,
                Some(wire::container_resource_query::PodIdentifier::Selector(text)) => {
                    objects(String::new(), Some(text))?
                }
                None => objects(String::new(), None)?,
            };
            Query::ContainerResource {
                namespace: q.namespace.into(),
                pods,
                resource: resource(&q.resource_name)?,
                container: q.container_name.into(),
            }
        }
        Of::WorkloadResource(q) => Query::WorkloadResource {
            workload: workload(q.group_kind, q.namespace, q.name)?,
            resource: resource(&q.resource_name)?,
            ready_pods_only: q.ready_pods_only,
        },
        Of::WorkloadContainerResource(q) => Query::WorkloadContainerResource {
            workload: workload(q.group_kind, q.namespace, q.name)?,
            resource: resource(&q.resource_name)?,
            container: q.container_name.into(),
            ready_pods_only: q.ready_pods_only,
        },
        Of::Object(q) => {
            let objects = match q.object_identifier {
                Some(wire::object_query::ObjectIdentifier::Name(name)) => objects(name, None)?,
                Some(wire::object_query::ObjectIdentifier::Selector(text)) => {
                    objects(String::new(), Some(text))?
                }
                None => objects(String::new(), None)?,
            };
            Query::Object {
                kind: group_kind(q.group_kind)?,
                namespace: q.namespace.map(Arc::from),
                objects,
                metric: metric(q.metric)?,
            }
        }
        Of::External(q) => {
            Query::External { namespace: q.namespace.map(Arc::from), metric: metric(q.metric)? }
        }
        Of::WorkloadExternal(q) => Query::WorkloadExternal {
            workload: workload(q.group_kind, q.namespace, q.name)?,
            metric: metric(q.metric)?,
        },
    })
}

/// An empty name means "by selector", and an empty selector everything: so clients have always sent it.
fn objects(name: String, selector: Option<String>) -> Result<Objects, String> {
    if name.is_empty() {
        return parse_selector(&selector.unwrap_or_default()).map(Objects::Selected);
    }
    Ok(Objects::Named(vec![name.into()]))
}

fn resource(name: &str) -> Result<Resource, String> {
    Resource::named(name)
        .ok_or_else(|| format!("resource_name: \"{name}\" is not supported; use cpu or memory"))
}

fn group_kind(kind: Option<wire::GroupKind>) -> Result<GroupKind, String> {
    let kind = kind.filter(|kind| !kind.kind.is_empty()).ok_or("group_kind.kind is empty; set it")?;
    // Some clients send a core object's apiVersion as its group.
    let group = if kind.group == "v1" { String::new() } else { kind.group };
    Ok(GroupKind { group: group.into(), kind: kind.kind.into() })
}

fn workload(kind: Option<wire::GroupKind>, namespace: String, name: String) -> Result<Workload, String> {
    if name.is_empty() || namespace.is_empty() {
        return Err("name and namespace of the workload are needed; set both".to_owned());
    }
    Ok(Workload { kind: group_kind(kind)?, namespace: namespace.into(), name: name.into() })
}

fn metric(metric: Option<wire::MetricIdentifier>) -> Result<Metric, String> {
    let metric = metric.filter(|metric| !metric.name.is_empty()).ok_or("metric.name is empty; set it")?;
    let selector = parse_selector(&metric.selector.unwrap_or_default())?;
    Ok(Metric { name: metric.name.into(), selector })
}

pub(super) fn read_range(request: &wire::QueryRequest) -> Result<Range, String> {
    let at = |name: &str, time: Option<prost_types::Timestamp>| {
        let time = time.ok_or_else(|| format!("{name} is absent; set it"))?;
        Timestamp::new(time.seconds, time.nanos).map_err(|error| format!("{name}: {error}"))
    };
    let step = request.step.ok_or("step is absent; set it")?;
    let step = read_duration(step).ok_or("step is out of bounds; use one such as 60 s")?;
    let range = Range { start: at("start", request.start)?, end: at("end", request.end)?, step };
    crate::query::check_range(&range)?;
    Ok(range)
}

pub(super) fn write_sample(sample: &Sample) -> wire::Sample {
    wire::Sample {
        point: Some(write_point(&sample.point)),
        labels: write_labels(&sample.labels),
        window: sample.window.map(write_duration),
    }
}

pub(super) fn write_series(series: &Series) -> wire::Series {
    wire::Series {
        points: series.points.iter().map(write_point).collect(),
        labels: write_labels(&series.labels),
        window: series.window.map(write_duration),
    }
}

fn write_point(point: &Point) -> wire::Point {
    wire::Point { timestamp: point.at.as_millisecond(), value: point.value }
}

fn write_labels(labels: &Labels) -> std::collections::HashMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

pub(super) fn write_duration(duration: SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs(), nanos: duration.subsec_nanos() }
}

pub(super) fn write_timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

pub(super) fn read_sample(sample: wire::Sample) -> Option<Sample> {
    Some(Sample {
        point: read_point(&sample.point?)?,
        labels: read_labels(sample.labels),
        window: sample.window.and_then(read_duration),
    })
}

pub(super) fn read_series(series: wire::Series) -> Series {
    Series {
        points: series.points.iter().filter_map(read_point).collect(),
        labels: read_labels(series.labels),
        window: series.window.and_then(read_duration),
    }
}

fn read_point(point: &wire::Point) -> Option<Point> {
    Some(Point { at: Timestamp::from_millisecond(point.timestamp).ok()?, value: point.value })
}

fn read_labels(labels: impl IntoIterator<Item = (String, String)>) -> Labels {
    labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

fn read_duration(duration: prost_types::Duration) -> Option<SignedDuration> {
    // The bounds of the message's own definition: 10,000 years.
    let sane =
        duration.seconds.unsigned_abs() <= 315_576_000_000 && duration.nanos.unsigned_abs() < 1_000_000_000;
    sane.then(|| SignedDuration::new(duration.seconds, duration.nanos))
}

/// Our query as a request; several names are not part of the wire form, so they are asked for one by one.
pub(super) fn write_query(query: &Query) -> Result<wire::Query, String> {
    use wire::query::Query as Of;
    let (kind, of) = match query {
        Query::PodResource { namespace, pods, resource } => {
            use wire::pod_resource_query::PodIdentifier;
            let pods = identifier(pods)?.map_or_else(PodIdentifier::Selector, PodIdentifier::Name);
            let q = wire::PodResourceQuery {
                namespace: namespace.to_string(),
                resource_name: resource.name().to_owned(),
                pod_identifier: Some(pods),
            };
            (wire::QueryType::PodResource, Of::PodResource(q))
        }
        Query::ContainerResource { namespace, pods, resource, container } => {
            use wire::container_resource_query::PodIdentifier;
            let pods = identifier(pods)?.map_or_else(PodIdentifier::Selector, PodIdentifier::Name);
            let q = wire::ContainerResourceQuery {
                namespace: namespace.to_string(),
                resource_name: resource.name().to_owned(),
                container_name: container.to_string(),
                pod_identifier: Some(pods),
            };
            (wire::QueryType::ContainerResource, Of::ContainerResource(q))
        }
        Query::WorkloadResource { workload, resource, ready_pods_only } => {
            let q = wire::WorkloadResourceQuery {
                group_kind: Some(write_kind(&workload.kind)),
                namespace: workload.namespace.to_string(),
                name: workload.name.to_string(),
                resource_name: resource.name().to_owned(),
                ready_pods_only: *ready_pods_only,
            };
            (wire::QueryType::WorkloadResource, Of::WorkloadResource(q))
        }
        Query::WorkloadContainerResource { workload, resource, container, ready_pods_only } => {
            let q = wire::WorkloadContainerResourceQuery {
                group_kind: Some(write_kind(&workload.kind)),
                namespace: workload.namespace.to_string(),
                name: workload.name.to_string(),
                resource_name: resource.name().to_owned(),
                container_name: container.to_string(),
                ready_pods_only: *ready_pods_only,
            };
            (wire::QueryType::WorkloadContainerResource, Of::WorkloadContainerResource(q))
        }
        Query::Object { kind, namespace, objects, metric } => {
            use wire::object_query::ObjectIdentifier;
            let objects =
                identifier(objects)?.map_or_else(ObjectIdentifier::Selector, ObjectIdentifier::Name);
            let q = wire::ObjectQuery {
                group_kind: Some(write_kind(kind)),
                namespace: namespace.as_deref().map(str::to_owned),
                metric: Some(write_metric(metric)),
                object_identifier: Some(objects),
            };
            (wire::QueryType::Object, Of::Object(q))
        }
        Query::External { namespace, metric } => {
            let namespace = namespace.as_deref().map(str::to_owned);
            let q = wire::ExternalQuery { namespace, metric: Some(write_metric(metric)) };
            (wire::QueryType::External, Of::External(q))
        }
        Query::WorkloadExternal { workload, metric } => {
            let q = wire::WorkloadExternalQuery {
                group_kind: Some(write_kind(&workload.kind)),
                namespace: workload.namespace.to_string(),
                name: workload.name.to_string(),
                metric: Some(write_metric(metric)),
            };
            (wire::QueryType::WorkloadExternal, Of::WorkloadExternal(q))
        }
    };
    Ok(wire::Query { r#type: kind.into(), query: Some(of) })
}

/// A name (`Ok`), or a selector's text (`Err`, as `map_or_else` takes it).
fn identifier(objects: &Objects) -> Result<Result<String, String>, String> {
    match objects {
        Objects::Named(names) => match names.as_slice() {
            [one] => Ok(Ok(one.to_string())),
            _ => Err("the service takes one name or a selector; ask for the objects one by one".to_owned()),
        },
        Objects::Selected(selector) => Ok(Err(selector_text(selector))),
    }
}

fn write_kind(kind: &GroupKind) -> wire::GroupKind {
    wire::GroupKind { group: kind.group.to_string(), kind: kind.kind.to_string() }
}

fn write_metric(metric: &Metric) -> wire::MetricIdentifier {
    let all = metric.selector == LabelSelector::default();
    wire::MetricIdentifier {
        name: metric.name.to_string(),
        selector: (!all).then(|| selector_text(&metric.selector)),
    }
}

#[cfg(test)]
#[expect(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use wire::query::Query as Of;

    fn read(query: Of) -> Result<Query, String> {
        read_query(Some(wire::Query { query: Some(query), ..wire::Query::default() }))
    }

    #[test]
    fn what_cannot_be_asked_is_named_and_an_empty_name_means_all() {
        let pods = |resource: &str, pod_identifier| {
            Of::PodResource(wire::PodResourceQuery {
                namespace: "shop".into(),
                resource_name: resource.into(),
                pod_identifier,
            })
        };
        assert!(read(pods("storage", None)).unwrap_err().contains("\"storage\" is not supported"));
        let Ok(Query::PodResource { pods: Objects::Selected(all), .. }) = read(pods("cpu", None)) else {
            panic!("an empty name is no name")
        };
        assert_eq!(all, LabelSelector::default());
        assert!(read_query(None).unwrap_err().contains("no query"));
        let external = Of::External(wire::ExternalQuery { namespace: None, metric: None });
        assert!(read(external).unwrap_err().contains("metric.name is empty"));
        let nobody = Of::WorkloadResource(wire::WorkloadResourceQuery {
            resource_name: "cpu".into(),
            ..wire::WorkloadResourceQuery::default()
        });
        assert!(read(nobody).unwrap_err().contains("name and namespace"));
        // Clients of the original send a core object's apiVersion as its group.
        let core = group_kind(Some(wire::GroupKind { group: "v1".into(), kind: "Pod".into() })).unwrap();
        assert_eq!((&*core.group, &*core.kind), ("", "Pod"));
    }
}
