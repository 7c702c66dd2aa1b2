//! From an object's apiVersion and kind to the store's name of its resource.
//!
//! Owns nothing but that table, made once for a run.

use sandbox::store::resource::{DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS};
use sandbox::store::{ResourceName, Store};
use serde_json::Value;
use std::collections::BTreeMap;

/// Resource and scope by group and kind.
#[derive(Clone, Debug)]
pub(super) struct Kinds(BTreeMap<(String, String), (ResourceName, bool)>);

impl Kinds {
    pub(super) fn of_store(store: &Store) -> Self {
        let entry = |info: &std::sync::Arc<sandbox::store::ResourceInfo>| {
            ((info.group().to_owned(), info.kind.clone()), (info.name, info.namespaced))
        };
        Self(store.resources().iter().map(entry).collect())
    }

    pub(super) fn of(&self, object: &Value) -> Result<(ResourceName, bool), String> {
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.0.get(&(group.to_owned(), kind.to_owned())).copied().ok_or_else(|| {
            format!("{kind} {name} of {version}: the simulated cluster has no such kind; leave it out")
        })
    }

    /// Which kind of workload has this name.
    pub(super) fn scaled(store: &Store, namespace: &str, name: &str) -> Option<ResourceName> {
        [DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS]
            .into_iter()
            .find(|resource| store.find(*resource, namespace, name).is_some())
    }
}
