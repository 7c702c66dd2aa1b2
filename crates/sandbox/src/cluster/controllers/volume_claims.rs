//! Claims of volumes: which are to be looked at, and the claims that generic ephemeral volumes are.

use super::objects::{Key, is_active, key_of, owner_reference};
use super::{Controllers, Work, garbage::ignore_missing};
use crate::cluster::volumes::{self, SELECTED_NODE};
use crate::store::resource::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES};
use crate::store::{ApiError, Change, ChangeKind, Object, ResourceName};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Whether a resource says something of storage.
pub(super) fn is_storage(resource: ResourceName) -> bool {
    resource == PERSISTENT_VOLUME_CLAIMS
        || resource == PERSISTENT_VOLUMES
        || resource.group() == "storage.k8s.io"
}

impl Controllers {
    pub(super) fn storage_changed(&mut self, change: &Change) {
        let object = &change.object;
        self.scheduler.storage_changed(change);
        let gone = change.kind == ChangeKind::Deleted;
        if object.resource() == PERSISTENT_VOLUME_CLAIMS {
            self.work.insert(if gone {
                Work::UnclaimedVolume(object.uid().to_owned())
            } else {
                Work::VolumeClaim(key_of(object))
            });
            return;
        }
        let offers = object.resource() == STORAGE_CLASSES
            || (object.resource() == PERSISTENT_VOLUMES && object.text("status.phase") == Some("Available"));
        if offers && !gone {
            let waits = |claim: &Object| claim.text("status.phase") == Some("Pending");
            let claims = self.store.list(PERSISTENT_VOLUME_CLAIMS);
            let waiting = claims.iter().filter(|claim| waits(claim));
            self.work.extend(waiting.map(|claim| Work::VolumeClaim(key_of(claim))));
        }
    }

    pub(super) fn reconcile_claim(&mut self, key: &Key, now: Timestamp) -> Result<(), ApiError> {
        let Some(claim) = self.store.find(PERSISTENT_VOLUME_CLAIMS, &key.0, &key.1) else { return Ok(()) };
        if claim.is_terminating() || claim.text("status.phase") == Some("Bound") {
            return Ok(());
        }
        let chosen = claim.metadata().and_then(|meta| meta.get("annotations")?.get(SELECTED_NODE)?.as_str());
        let node = chosen.and_then(|name| self.store.find(NODES, "", name));
        ignore_missing(volumes::bind(&self.store, &claim, node.as_deref(), now))
    }

    /// Makes the claims of a pod's generic ephemeral volumes.
    pub(super) fn make_ephemeral_claims(&mut self, key: &Key) -> Result<(), ApiError> {
        let Some(pod) = self.store.find(PODS, &key.0, &key.1).filter(|pod| is_active(pod)) else {
            return Ok(());
        };
        for (name, template) in ephemeral_volumes(&pod) {
            let mut claim = template.clone();
            claim["metadata"]["name"] = format!("{}-{name}", pod.name()).into();
            claim["metadata"]["ownerReferences"] = json!([owner_reference(&pod, "v1", "Pod")]);
            match self.store.create(PERSISTENT_VOLUME_CLAIMS, pod.namespace(), claim) {
                Err(error) if !error.is_already_exists() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The generic ephemeral volumes of a pod, each with the template of its claim.
pub(super) fn ephemeral_volumes(pod: &Object) -> impl Iterator<Item = (&str, &Value)> {
    let volumes = pod.at("spec.volumes").and_then(Value::as_array).into_iter().flatten();
    volumes.filter_map(|volume| {
        Some((volume.get("name")?.as_str()?, volume.get("ephemeral")?.get("volumeClaimTemplate")?))
    })
}
