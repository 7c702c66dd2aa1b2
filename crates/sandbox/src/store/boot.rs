//! What a fresh cluster holds before anyone writes to it.
//!
//! Owns the list of system objects. Leaves the objects that come with a namespace to `rules`.

use super::Store;
use super::resource::{NAMESPACES, PRIORITY_CLASSES, SERVICES, STORAGE_CLASSES};
use serde_json::json;

/// Creates the system objects; these are constants that the rules accept.
pub(super) fn fill(store: &Store) {
    let namespaces = ["default", "kube-node-lease", "kube-public", "kube-system"]
        .map(|name| (NAMESPACES, "", json!({"metadata": {"name": name}})));
    let classes = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)].map(
        |(name, value)| {
            let description = "Used for system critical pods that must not be moved from their current node.";
            (
                PRIORITY_CLASSES,
                "",
                json!({"metadata": {"name": name}, "value": value, "description": description}),
            )
        },
    );
    let storage = (
        STORAGE_CLASSES,
        "",
        json!({
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "tideline.dev/simulated", "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }),
    );
    let service = (
        SERVICES,
        "default",
        json!({
            "metadata": {
                "name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {"ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]},
        }),
    );
    for (resource, namespace, object) in namespaces.into_iter().chain(classes).chain([storage, service]) {
        if let Err(error) = store.create(resource, namespace, object) {
            tracing::error!(%error, %resource, "a system object was refused by our own rules");
        }
    }
}
