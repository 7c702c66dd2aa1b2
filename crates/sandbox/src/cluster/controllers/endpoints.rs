//! Endpoints and `EndpointSlice`s of Services with a selector.
//!
//! One slice a Service, cut off at the number of addresses that Endpoints hold; ports by number or by name.

use super::objects::{Key, has_ended, is_ready, key_of, node_of, owner_reference};
use super::{Controllers, Work, garbage::ignore_missing};
use crate::store::resource::{ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES};
use crate::store::{ApiError, Change, ChangeKind, Object, Part, ResourceName};
use model::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;

/// Addresses of one Service at most, as in Kubernetes' Endpoints.
const MOST_ADDRESSES: usize = 1000;

impl Controllers {
    pub(super) fn service_changed(&mut self, change: &Change) {
        let (namespace, name) = key_of(&change.object);
        let labels = change.object.at("spec.selector").and_then(Value::as_object);
        let labels = labels.filter(|labels| !labels.is_empty() && change.kind != ChangeKind::Deleted);
        let selector = labels.map(|labels| {
            let pairs = labels.iter().filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into())));
            LabelSelector { match_labels: pairs.collect(), match_expressions: Vec::new() }
        });
        self.services.set(&self.store, &namespace, &name, selector);
        self.work.insert(Work::Endpoints((namespace, name)));
    }

    pub(super) fn reconcile_endpoints(&mut self, key: &Key) -> Result<(), ApiError> {
        let Some(service) = self.store.find(SERVICES, &key.0, &key.1) else {
            // The slice has its Service as owner; Endpoints share its name only.
            let gone = self.store.delete(ENDPOINTS, &key.0, &key.1, &crate::store::DeleteOptions::default());
            return ignore_missing(gone);
        };
        let Some(selected) = self.services.get(&key.0, &key.1) else { return Ok(()) };
        let names = selected.members.keys();
        let mut pods: Vec<Arc<Object>> =
            names.filter_map(|name| self.store.find(PODS, &key.0, name)).collect();
        pods.retain(|pod| !has_ended(pod) && pod.text("status.podIP").is_some());
        pods.truncate(MOST_ADDRESSES);
        self.write_endpoints(&service, &pods)?;
        self.write_slice(&service, &pods)
    }

    fn write_endpoints(&mut self, service: &Object, pods: &[Arc<Object>]) -> Result<(), ApiError> {
        let side = |ready: bool| -> Vec<Value> {
            pods.iter()
                .filter(|pod| !pod.is_terminating() && is_ready(pod) == ready)
                .map(|pod| {
                    json!({
                        "ip": pod.text("status.podIP"), "nodeName": node_of(pod), "targetRef": target(pod),
                    })
                })
                .collect()
        };
        let (ready, waiting) = (side(true), side(false));
        let ports = ports(service, pods);
        let mut subset = json!({"ports": ports});
        if !ready.is_empty() {
            subset["addresses"] = Value::Array(ready);
        }
        if !waiting.is_empty() {
            subset["notReadyAddresses"] = Value::Array(waiting);
        }
        let empty = subset.get("addresses").is_none() && subset.get("notReadyAddresses").is_none();
        let subsets = if empty { json!([]) } else { json!([subset]) };
        let content = json!({
            "metadata": {"name": service.name(), "labels": service.at("metadata.labels")}, "subsets": subsets,
        });
        self.put(ENDPOINTS, service.namespace(), content, &["subsets"])
    }

    fn write_slice(&mut self, service: &Object, pods: &[Arc<Object>]) -> Result<(), ApiError> {
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|pod| {
                let (ready, going) = (is_ready(pod), pod.is_terminating());
                json!({
                    "addresses": [pod.text("status.podIP")], "nodeName": node_of(pod), "targetRef": target(pod),
                    "conditions": {"ready": ready && !going, "serving": ready, "terminating": going},
                })
            })
            .collect();
        let content = json!({
            "metadata": {
                "name": format!("{}-slice", service.name()),
                "labels": {
                    "kubernetes.io/service-name": service.name(),
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [owner_reference(service, "v1", "Service")],
            },
            "addressType": "IPv4", "endpoints": endpoints, "ports": ports(service, pods),
        });
        self.put(ENDPOINT_SLICES, service.namespace(), content, &["endpoints", "ports"])
    }

    /// Creates an object, or replaces the named fields where they differ.
    fn put(
        &mut self,
        resource: ResourceName,
        namespace: &str,
        content: Value,
        fields: &[&str],
    ) -> Result<(), ApiError> {
        let name = content["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.store.find(resource, namespace, &name).is_none() {
            return match self.store.create(resource, namespace, content) {
                // The namespace may be on its way out.
                Err(error) if error.code() == 403 => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Ok(()),
            };
        }
        let done = self.store.modify(resource, namespace, &name, Part::Whole, |value| {
            let same = fields.iter().all(|field| value[*field] == content[*field]);
            for field in fields {
                value[*field] = content[*field].clone();
            }
            !same
        });
        ignore_missing(done)
    }
}

fn target(pod: &Object) -> Value {
    json!({"kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": pod.uid()})
}

/// The Service's ports at the pods; a named target port is looked up in the first pod that has it.
fn ports(service: &Object, pods: &[Arc<Object>]) -> Vec<Value> {
    let by_name = |name: &str| {
        pods.iter().find_map(|pod| {
            let containers = pod.at("spec.containers")?.as_array()?;
            let ports = containers.iter().filter_map(|c| c.get("ports")?.as_array()).flatten();
            ports.into_iter().find(|port| port["name"] == name)?.get("containerPort")?.as_i64()
        })
    };
    let port_of = |port: &Value| {
        let number = match &port["targetPort"] {
            Value::String(name) => by_name(name)?,
            Value::Number(number) => number.as_i64()?,
            _ => port["port"].as_i64()?,
        };
        let mut out = json!({"port": number, "protocol": port["protocol"].as_str().unwrap_or("TCP")});
        if let Some(name) = port["name"].as_str() {
            out["name"] = name.into();
        }
        Some(out)
    };
    service.at("spec.ports").and_then(Value::as_array).into_iter().flatten().filter_map(port_of).collect()
}
