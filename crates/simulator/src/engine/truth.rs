//! The cluster as the API server holds it, in the model's nouns: what the invariants are checked on.
//!
//! Owns the reading of the store's changes. It is built beside the controller, from the store itself, so faults of
//! the controller's watches do not reach it.

use model::{Change, DaemonSetKey, MachineId, NodeName, PdbKey, PodKey, PoolId, Uid, WorkloadKey};
use sandbox::store::resource::{
    DAEMON_SETS, JOBS, NODES, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, SIMULATED_MACHINES,
    SIMULATED_POOLS, STATEFUL_SETS,
};
use sandbox::store::{ChangeKind, Object, ResourceName};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// A change of the store as one of the model; `None` for kinds that do not matter to it.
pub(super) fn change_of(change: &sandbox::store::Change) -> Option<Change> {
    let object = &change.object;
    let gone = change.kind == ChangeKind::Deleted;
    let resource = object.resource();
    if resource == PODS {
        let key = PodKey::new(object.namespace(), object.name());
        return present(gone, || intake::pod(&*read(object)?).ok()).map(|pod| Change::Pod(key, pod));
    }
    if resource == NODES {
        let key = NodeName::new(object.name());
        return present(gone, || intake::node(&*read(object)?).ok()).map(|node| Change::Node(key, node));
    }
    if resource == SIMULATED_POOLS {
        let key = PoolId::from(format!("simulated/{}", object.name()));
        let pool = present(gone, || intake::simulated_pool(&*read(object)?).ok())?;
        return Some(Change::Pool(key, pool));
    }
    if resource == SIMULATED_MACHINES {
        let key = MachineId::new(object.text("spec.providerID")?);
        let machine = present(gone, || Some(intake::simulated_machine(&*read(object)?)))?;
        return Some(Change::Machine(key, machine));
    }
    if resource == POD_DISRUPTION_BUDGETS {
        let key = PdbKey::new(object.namespace(), object.name());
        return present(gone, || intake::pdb(&*read(object)?).ok()).map(|pdb| Change::Pdb(key, pdb));
    }
    if resource == DAEMON_SETS {
        let key = DaemonSetKey::new(object.namespace(), object.name());
        let set = present(gone, || intake::daemon_set(&*read(object)?).ok())?;
        return Some(Change::DaemonSet(key, set));
    }
    workload(resource, object, gone)
}

fn workload(resource: ResourceName, object: &Object, gone: bool) -> Option<Change> {
    let (kind, found) = if resource == REPLICA_SETS {
        ("ReplicaSet", present(gone, || Some(intake::replica_set(&*read(object)?)))?)
    } else if resource == STATEFUL_SETS {
        ("StatefulSet", present(gone, || Some(intake::stateful_set(&*read(object)?)))?)
    } else if resource == JOBS {
        ("Job", present(gone, || Some(intake::job(&*read(object)?)))?)
    } else {
        return None;
    };
    Some(Change::Workload(WorkloadKey::new(kind, object.namespace(), object.name()), found))
}

/// `Some(None)` for what is gone, `None` for what cannot be read.
#[expect(clippy::option_option, reason = "a change of the model carries an option of its own")]
fn present<T>(gone: bool, read: impl FnOnce() -> Option<T>) -> Option<Option<Arc<T>>> {
    if gone { Some(None) } else { read().map(|value| Some(Arc::new(value))) }
}

fn read<T: DeserializeOwned + Send + Sync + 'static>(object: &Object) -> Option<Arc<T>> {
    object.typed().ok()
}

/// The pod of an eviction, by the path of its call.
pub(super) fn evicted_pod(path: &str) -> Option<PodKey> {
    let mut parts = path.strip_prefix("/api/v1/namespaces/")?.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(namespace), Some("pods"), Some(name), Some("eviction"), None) => {
            Some(PodKey::new(namespace, name))
        }
        _ => None,
    }
}

/// The UID that an Eviction insists on, where API servers read it.
pub(super) fn evicted_uid(body: &[u8]) -> Option<Uid> {
    let eviction: Value = serde_json::from_slice(body).ok()?;
    eviction.pointer("/deleteOptions/preconditions/uid")?.as_str().map(Uid::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evictions_are_known_by_their_path() {
        assert_eq!(evicted_pod("/api/v1/namespaces/a/pods/b/eviction"), Some(PodKey::new("a", "b")));
        assert_eq!(evicted_pod("/api/v1/namespaces/a/pods/b"), None);
        let body = br#"{"deleteOptions": {"preconditions": {"uid": "u-1"}}}"#;
        assert_eq!(evicted_uid(body), Some(Uid::from("u-1")));
        assert_eq!(evicted_uid(br#"{"delete_options": {"preconditions": {"uid": "u-1"}}}"#), None);
    }
}
