//! What a node of a MachineDeployment looks like: the annotations that describe it for scale from zero.

use super::types::MachineDeployment;
use api::annotations::CAPI_CAPACITY_PREFIX;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use std::collections::BTreeMap;

/// Label domains that Cluster API hands down from the machine template to nodes.
const HANDED_DOWN: [&str; 3] =
    ["node-role.kubernetes.io", "node-restriction.kubernetes.io", "node.cluster.x-k8s.io"];

fn capacity<'a>(deployment: &'a MachineDeployment, name: &str) -> Option<&'a str> {
    deployment.annotations().get(&format!("{CAPI_CAPACITY_PREFIX}{name}")).map(String::as_str)
}

/// Allocatable resources; a MachineDeployment that says nothing gets 4 CPUs and 16 GiB.
pub(super) fn allocatable(deployment: &MachineDeployment) -> BTreeMap<String, Quantity> {
    let quantity = |text: &str| Quantity(text.to_owned());
    let mut out = BTreeMap::new();
    for (name, resource, default) in [
        ("cpu", "cpu", Some("4")),
        ("memory", "memory", Some("16Gi")),
        ("ephemeral-disk", "ephemeral-storage", None),
        ("maxPods", "pods", None),
    ] {
        if let Some(text) = capacity(deployment, name).or(default) {
            out.insert(resource.to_owned(), quantity(text));
        }
    }
    if let (Some(kind), Some(count)) = (capacity(deployment, "gpu-type"), capacity(deployment, "gpu-count")) {
        out.insert(kind.to_owned(), quantity(count));
    }
    out
}

/// Labels: those of the annotation, and those of the template in domains that are handed down.
pub(super) fn labels(deployment: &MachineDeployment) -> BTreeMap<String, String> {
    let handed_down = |key: &str| {
        let domain = key.split('/').next().unwrap_or("");
        key.contains('/') && HANDED_DOWN.iter().any(|d| domain == *d || domain.ends_with(&format!(".{d}")))
    };
    let template = deployment.spec.template.metadata.labels.clone().unwrap_or_default();
    let mut out: BTreeMap<_, _> = template.into_iter().filter(|(key, _)| handed_down(key)).collect();
    for pair in capacity(deployment, "labels").unwrap_or("").split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        out.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    out
}

/// Taints, written `key=value:Effect`.
pub(super) fn taints(deployment: &MachineDeployment) -> Vec<Taint> {
    let read = |text: &str| {
        let (pair, effect) = text.trim().rsplit_once(':')?;
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some(Taint {
            key: key.to_owned(),
            value: Some(value.to_owned()).filter(|value| !value.is_empty()),
            effect: effect.to_owned(),
            time_added: None,
        })
    };
    capacity(deployment, "taints").unwrap_or("").split(',').filter_map(read).collect()
}
