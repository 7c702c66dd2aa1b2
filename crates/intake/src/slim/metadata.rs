//! Metadata without the history of its fields, which is longer than most objects and which nobody here reads.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// All of `ObjectMeta` but `managedFields` and `selfLink`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Read {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    uid: Option<String>,
}

/// Reads metadata and skips its history while decoding.
pub(super) fn without_history<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let read = Read::deserialize(deserializer)?;
    Ok(ObjectMeta {
        annotations: read.annotations,
        creation_timestamp: read.creation_timestamp,
        deletion_grace_period_seconds: read.deletion_grace_period_seconds,
        deletion_timestamp: read.deletion_timestamp,
        finalizers: read.finalizers,
        generate_name: read.generate_name,
        generation: read.generation,
        labels: read.labels,
        name: read.name,
        namespace: read.namespace,
        owner_references: read.owner_references,
        resource_version: read.resource_version,
        uid: read.uid,
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests {
    use crate::slim::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    #[test]
    fn all_is_read_but_the_history_of_fields() {
        let metadata = serde_json::json!({
            "annotations": {"a": "1"}, "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 30, "deletionTimestamp": "2026-01-02T00:00:00Z",
            "finalizers": ["f"], "generateName": "web-", "generation": 4, "labels": {"l": "2"},
            "name": "web-1", "namespace": "shop",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u"}],
            "resourceVersion": "7", "uid": "x",
        });
        let mut with_history = metadata.clone();
        with_history["managedFields"] =
            serde_json::json!([{"manager": "kubelet", "fieldsV1": {"f:status": {}}}]);
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": with_history})).unwrap();
        assert_eq!(pod.metadata, serde_json::from_value::<ObjectMeta>(metadata).unwrap());
    }
}
