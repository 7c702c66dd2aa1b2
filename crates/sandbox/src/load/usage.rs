//! The model: who gets how many requests, and what that costs.
//!
//! Owns the numbers and the form of `PodMetrics` and `NodeMetrics`. Only the present is known: a changed rate shows at
//! once, where a real server would average over its window.

use super::Picture;
use super::rate::Rate;
use crate::cluster::controllers::objects::{has_ended, is_ready, node_of, selector_at, selects};
use crate::store::resource::{NODE_METRICS, POD_METRICS, SERVICES};
use crate::store::{ApiError, Object};
use api::annotations::{CPU_PER_REQUEST, IDLE_CPU, MEMORY, REQUESTS_PER_MINUTE};
use jiff::{SignedDuration, Timestamp};
use model::LabelSelector;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pod is measured once it has run this long, as servers need two looks at it.
const FIRST_MEASURED: SignedDuration = SignedDuration::from_secs(15);
const WINDOW: &str = "15s";
/// What pods without annotations cost and use.
const CPU_SECONDS_PER_REQUEST: f64 = 0.01;
const IDLE_CORES: f64 = 0.001;
const IDLE_BYTES: u64 = 32 << 20;
/// What a node uses besides its pods.
const NODE_CORES: f64 = 0.05;
const NODE_BYTES: u64 = 256 << 20;

/// What one container uses.
pub(super) struct Use {
    pub(super) name: String,
    pub(super) cores: f64,
    pub(super) bytes: u64,
}

/// The metrics of each pod that runs long enough.
pub(super) fn of_pods(picture: &Picture, now: Timestamp) -> Result<Vec<Arc<Object>>, ApiError> {
    let uses = uses(picture, now)?;
    let measured = uses.into_iter().map(|(pod, uses)| {
        let containers: Vec<Value> = uses
            .iter()
            .map(|one| json!({"name": one.name, "usage": amounts(one.cores, one.bytes)}))
            .collect();
        let mut value = head("PodMetrics", pod, now);
        value["metadata"]["namespace"] = pod.namespace().into();
        value["containers"] = containers.into();
        Arc::new(Object::new(POD_METRICS, 0, value))
    });
    Ok(measured.collect())
}

/// The metrics of each node: its pods and a little of its own.
pub(super) fn of_nodes(picture: &Picture, now: Timestamp) -> Result<Vec<Arc<Object>>, ApiError> {
    let mut by_node: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
    for (pod, uses) in uses(picture, now)? {
        let Some(node) = node_of(pod) else { continue };
        let sum = by_node.entry(node).or_default();
        sum.0 += uses.iter().map(|one| one.cores).sum::<f64>();
        sum.1 += uses.iter().map(|one| one.bytes).sum::<u64>();
    }
    let measured = picture.nodes.iter().filter(|node| is_ready(node)).map(|node| {
        let (cores, bytes) = by_node.get(node.name()).copied().unwrap_or_default();
        let mut value = head("NodeMetrics", node, now);
        value["usage"] = amounts(NODE_CORES + cores, NODE_BYTES + bytes);
        Arc::new(Object::new(NODE_METRICS, 0, value))
    });
    Ok(measured.collect())
}

fn head(kind: &str, of: &Object, now: Timestamp) -> Value {
    let stamp = format!("{now:.0}");
    let mut metadata = json!({"name": of.name(), "creationTimestamp": stamp});
    if let Some(labels) = of.labels() {
        metadata["labels"] = Value::Object(labels.clone());
    }
    json!({
        "kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata, "timestamp": stamp,
        "window": WINDOW,
    })
}

fn amounts(cores: f64, bytes: u64) -> Value {
    json!({"cpu": format!("{:.0}n", cores * 1e9), "memory": format!("{}Ki", bytes >> 10)})
}

/// What every measured pod uses, by container, in the pods' order.
pub(super) fn uses(picture: &Picture, now: Timestamp) -> Result<Vec<(&Object, Vec<Use>)>, ApiError> {
    let rates = shares(picture, now)?;
    let mut all = Vec::new();
    for (pod, per_minute) in picture.pods.iter().zip(rates) {
        if running_since(pod).is_some_and(|since| now.duration_since(since) >= FIRST_MEASURED) {
            all.push((pod.as_ref(), uses_of(pod, per_minute / 60.0)?));
        }
    }
    Ok(all)
}

fn running_since(pod: &Object) -> Option<Timestamp> {
    if has_ended(pod) {
        return None;
    }
    let containers = pod.at("status.containerStatuses")?.as_array()?;
    containers.iter().find_map(|c| c["state"]["running"]["startedAt"].as_str()?.parse().ok())
}

/// Requests a minute of each pod, in the pods' order.
fn shares(picture: &Picture, now: Timestamp) -> Result<Vec<f64>, ApiError> {
    let mut rates = vec![0.0; picture.pods.len()];
    let mut loads: Vec<(&Object, LabelSelector, f64)> = Vec::new();
    for object in &picture.loaded {
        let Some(rate) = rate_of(object, now)? else { continue };
        let Some(selector) = selector_of(object) else { continue };
        loads.push((object, selector, rate));
    }
    if loads.is_empty() {
        return Ok(rates);
    }
    let serving = serving(picture);
    for (object, selector, rate) in loads {
        let candidates = match selector.match_labels.first_key_value() {
            Some((key, value)) => serving.get(&(object.namespace(), &**key, &**value)),
            None => serving.get(&(object.namespace(), "", "")),
        };
        let chosen: Vec<usize> = candidates
            .into_iter()
            .flatten()
            .copied()
            .filter(|index| selects(&selector, picture.pods[*index].labels()))
            .collect();
        for index in &chosen {
            // As many pods as fit a cluster: exact as a float.
            #[expect(clippy::cast_precision_loss, reason = "far fewer pods than a float counts exactly")]
            let share = rate / chosen.len() as f64;
            rates[*index] += share;
        }
    }
    Ok(rates)
}

/// Requests a minute that an object's annotation says.
pub(super) fn rate_of(object: &Object, now: Timestamp) -> Result<Option<f64>, ApiError> {
    let Some(text) = object.annotation(REQUESTS_PER_MINUTE) else { return Ok(None) };
    let rate = Rate::parse(text).map_err(|why| bad(object, REQUESTS_PER_MINUTE, &why))?;
    let since = object.text("metadata.creationTimestamp").and_then(|text| text.parse().ok());
    Ok(Some(rate.per_minute(since.unwrap_or(now), now)))
}

/// Indexes of the pods that take requests, by namespace and label; under empty texts, all of a namespace.
fn serving(picture: &Picture) -> BTreeMap<(&str, &str, &str), Vec<usize>> {
    let mut by_label: BTreeMap<(&str, &str, &str), Vec<usize>> = BTreeMap::new();
    let ready = picture.pods.iter().enumerate().filter(|(_, pod)| is_ready(pod) && !pod.is_terminating());
    for (index, pod) in ready {
        by_label.entry((pod.namespace(), "", "")).or_default().push(index);
        for (key, value) in pod.labels().into_iter().flatten() {
            by_label
                .entry((pod.namespace(), key, value.as_str().unwrap_or_default()))
                .or_default()
                .push(index);
        }
    }
    by_label
}

fn selector_of(object: &Object) -> Option<LabelSelector> {
    if object.resource() != SERVICES {
        return selector_at(object, "spec.selector");
    }
    let labels = object.at("spec.selector")?.as_object()?;
    let pairs = labels.iter().filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())));
    Some(LabelSelector { match_labels: pairs.collect(), match_expressions: Vec::new() })
        .filter(|selector| !selector.match_labels.is_empty())
}

/// The first container serves; the others idle.
fn uses_of(pod: &Object, per_second: f64) -> Result<Vec<Use>, ApiError> {
    let cost = match pod.annotation(CPU_PER_REQUEST) {
        None => CPU_SECONDS_PER_REQUEST,
        Some(text) => intake::go_duration(text)
            .map_err(|error| bad(pod, CPU_PER_REQUEST, &error.to_string()))?
            .as_secs_f64()
            .max(0.0),
    };
    let idle = match pod.annotation(IDLE_CPU) {
        None => IDLE_CORES,
        Some(text) => cores(text).map_err(|why| bad(pod, IDLE_CPU, &why))?,
    };
    let bytes = match pod.annotation(MEMORY) {
        None => None,
        Some(text) => {
            Some(intake::quantity::whole(text).map_err(|error| bad(pod, MEMORY, &error.to_string()))?)
        }
    };
    let containers = pod.at("spec.containers").and_then(Value::as_array);
    let uses = containers.into_iter().flatten().enumerate().map(|(index, container)| {
        let serves = index == 0;
        let resources = |field: &str, name: &str| container["resources"][field][name].as_str();
        let limit = resources("limits", "cpu").and_then(|text| cores(text).ok()).unwrap_or(f64::INFINITY);
        let requested = resources("requests", "memory").and_then(|text| intake::quantity::whole(text).ok());
        Use {
            name: container["name"].as_str().unwrap_or_default().to_owned(),
            cores: if serves { (idle + per_second * cost).min(limit) } else { IDLE_CORES },
            bytes: bytes.filter(|_| serves).or(requested.map(|bytes| bytes / 2)).unwrap_or(IDLE_BYTES),
        }
    });
    Ok(uses.collect())
}

fn cores(text: &str) -> Result<f64, String> {
    let milli = intake::quantity::milli(text).map_err(|error| error.to_string())?;
    // Quantities of CPU are far below what a float holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    Ok(milli as f64 / 1000.0)
}

fn bad(object: &Object, annotation: &str, why: &str) -> ApiError {
    let (namespace, name) = (object.namespace(), object.name());
    ApiError::BadRequest(format!("{} {namespace}/{name}: annotation {annotation} {why}", object.resource()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::resource::{NODES, PODS};

    fn object(resource: crate::store::ResourceName, value: Value) -> Arc<Object> {
        Arc::new(Object::new(resource, 0, value))
    }

    fn pod(name: &str, ready: bool, started: &str) -> Arc<Object> {
        let status = if ready { "True" } else { "False" };
        object(
            PODS,
            json!({
                "metadata": {
                    "name": name, "namespace": "shop", "labels": {"app": "web"},
                    "annotations": {"tideline.dev/cpu-per-request": "20ms", "tideline.dev/memory": "96Mi"},
                },
                "spec": {"nodeName": "n", "containers": [
                    {"name": "web", "resources": {"limits": {"cpu": "2"}}},
                    {"name": "proxy", "resources": {"requests": {"memory": "64Mi"}}},
                ]},
                "status": {
                    "phase": "Running", "conditions": [{"type": "Ready", "status": status}],
                    "containerStatuses": [{"state": {"running": {"startedAt": started}}}],
                },
            }),
        )
    }

    fn picture(rate: &str, pods: Vec<Arc<Object>>) -> Picture {
        let service = json!({
            "metadata": {
                "name": "web", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"tideline.dev/requests-per-minute": rate},
            },
            "spec": {"selector": {"app": "web"}},
        });
        let node = json!({
            "metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        Picture {
            nodes: vec![object(NODES, node)],
            pods,
            loaded: vec![object(SERVICES, service)],
            ingresses: Vec::new(),
        }
    }

    const OLD: &str = "2026-01-01T00:00:00Z";

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    #[test]
    fn ready_pods_share_the_requests_and_new_ones_are_not_measured_yet() {
        let pods = vec![
            pod("a", true, OLD),
            pod("b", true, OLD),
            pod("cut-off", false, OLD),
            pod("new", true, "2026-01-01T00:59:50Z"),
        ];
        let found = of_pods(&picture("1800", pods), now()).unwrap();
        let cpu: Vec<(&str, &str)> = found
            .iter()
            .map(|m| (m.name(), m.value()["containers"][0]["usage"]["cpu"].as_str().unwrap()))
            .collect();
        // 30 a second over three ready pods, 20 ms each.
        assert_eq!(cpu, [("a", "201000000n"), ("b", "201000000n"), ("cut-off", "1000000n")]);
        assert_eq!(found[0].value()["containers"][0]["usage"]["memory"], "98304Ki");
        assert_eq!(found[0].value()["containers"][1]["usage"]["memory"], "32768Ki");
        assert_eq!(found[0].label("app"), Some("web"));
    }

    #[test]
    fn a_container_uses_no_more_than_its_limit_and_nodes_use_what_their_pods_do() {
        let picture = picture("60000", vec![pod("a", true, OLD)]);
        let found = of_pods(&picture, now()).unwrap();
        assert_eq!(found[0].value()["containers"][0]["usage"]["cpu"], "2000000000n");
        let nodes = of_nodes(&picture, now()).unwrap();
        assert_eq!(nodes[0].value()["usage"]["cpu"], "2051000000n");
    }

    #[test]
    fn a_bad_annotation_is_told_with_the_object() {
        let message = of_pods(&picture("plenty", Vec::new()), now()).unwrap_err().to_string();
        assert!(
            message.contains("services shop/web: annotation tideline.dev/requests-per-minute"),
            "{message}"
        );
    }
}
