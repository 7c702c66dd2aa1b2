//! Objects that cases begin with.
//!
//! Owns the smallest valid form of each kind.

use serde_json::{Value, json};

pub(super) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

pub(super) fn labelled(mut object: Value, labels: Value) -> Value {
    object["metadata"]["labels"] = labels;
    object
}

pub(super) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{
            "name": "main", "image": "registry.example/web:1",
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}
        }]}
    })
}

/// A pod on a node that need not exist.
pub(super) fn pod_on(name: &str, node: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["nodeName"] = json!(node);
    pod
}

pub(super) fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"case": name}}, "spec": {}})
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "registry.example/web:1"}]}
    })
}

/// A Deployment, ReplicaSet or StatefulSet.
pub(super) fn workload(kind: &str, name: &str, replicas: i64) -> Value {
    let mut workload = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template()}
    });
    if kind == "StatefulSet" {
        workload["spec"]["serviceName"] = json!("web");
    }
    workload
}
