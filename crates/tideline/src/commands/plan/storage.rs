//! Storage in a plan: the claims of manifests that nobody has applied, and whether enough was given to judge by.
//!
//! Owns what is assumed of storage where files say less than a cluster would, each assumption a note for the user.

use crate::error::CommandError;
use intake::files::Object;
use intake::slim;
use model::{BindingMode, Change, Cluster, Input, InputState, StorageChange, StorageClass};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The class of claims that name none, where the files have no class.
const UNNAMED: &str = "";

/// What was given of storage.
#[derive(Debug, Default)]
pub(super) struct Storage {
    given: bool,
    /// Why a live cluster did not tell all of it.
    refused: Option<String>,
    devices_given: bool,
    /// Why a live cluster did not tell of devices.
    devices_refused: Option<String>,
    assumed_classes: BTreeSet<Arc<str>>,
}

impl Storage {
    pub(super) fn take(&mut self, object: &Object, cluster: &mut Cluster) -> Result<(), CommandError> {
        let change = intake::storage_change(object)
            .map_err(|error| CommandError::Input(format!("{}: {error}", object.origin)))?;
        if let Some(change) = change {
            match &change {
                StorageChange::Devices(_) => self.devices_given = true,
                StorageChange::Driver(..) | StorageChange::NodeDrivers(..) => {}
                _ => self.given = true,
            }
            cluster.apply(Change::Storage(change));
        }
        Ok(())
    }

    /// The cluster would not tell.
    pub(super) fn refused(&mut self, of_devices: bool, why: String) {
        let known = if of_devices { &mut self.devices_refused } else { &mut self.refused };
        known.get_or_insert(why);
    }

    /// Says how current storage is. Files without any of it are about pods only: what their claims are is unknown.
    pub(super) fn declare(&self, live: bool, cluster: &mut Cluster) {
        let volumes = match &self.refused {
            Some(why) => stale(why),
            None if live || self.given => InputState::Fresh,
            None => stale("none were given; add the output of kubectl get pvc,pv,storageclass -A -o yaml"),
        };
        let attachments = self.refused.as_deref().map_or(InputState::Fresh, stale);
        cluster.apply(Change::Input(Input::Volumes, volumes));
        cluster.apply(Change::Input(Input::Attachments, attachments));
        let devices = match &self.devices_refused {
            Some(why) => stale(why),
            None if live || self.devices_given => InputState::Fresh,
            None => stale(
                "none were given; add the output of kubectl get resourceslices,deviceclasses, \
                           resourceclaims,resourceclaimtemplates -A -o yaml",
            ),
        };
        cluster.apply(Change::Input(Input::Devices, devices));
    }

    /// The claims that a `StatefulSet` which nobody has applied would make, for the pod of this number.
    ///
    /// Returns the pod's volumes to be. Claims that are among the files stay as they are.
    pub(super) fn claims_of_manifest(
        &mut self,
        set: &Object,
        pod: &str,
        cluster: &mut Cluster,
    ) -> Result<Vec<slim::Volume>, CommandError> {
        let templates = set.value.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
        let namespace = set.value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
        let mut volumes = Vec::new();
        for template in templates.into_iter().flatten() {
            let base = template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let name = format!("{base}-{pod}");
            let spec = template.get("spec").cloned().unwrap_or_else(|| json!({}));
            let claim = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec,
                "metadata": {"name": name, "namespace": namespace},
            });
            let key = model::VolumeClaimKey::new(namespace, &name);
            if !cluster.storage().claims().contains_key(&key) {
                self.take(&Object { origin: set.origin.clone(), value: claim }, cluster)?;
            }
            let source = slim::ClaimSource { claim_name: name };
            let base = base.to_owned();
            volumes.push(slim::Volume {
                name: base,
                persistent_volume_claim: Some(source),
                ..Default::default()
            });
        }
        Ok(volumes)
    }

    /// Classes that claims name and nobody gave: taken as binding with the first pod, anywhere.
    pub(super) fn assume_classes(&mut self, cluster: &mut Cluster) {
        let storage = cluster.storage();
        let unbound = storage.claims().values().filter(|claim| claim.volume.is_none());
        let missing: BTreeSet<Arc<str>> = unbound
            .map(|claim| Arc::clone(&claim.class))
            .filter(|class| !storage.classes().contains_key(class))
            .collect();
        for name in missing {
            let class = StorageClass {
                name: Arc::clone(&name),
                provisioner: Some(Arc::clone(&name)),
                driver: None,
                binding: BindingMode::WaitForFirstConsumer,
                allowed_topologies: Vec::new(),
            };
            cluster.apply(Change::Storage(StorageChange::Class(Arc::clone(&name), Some(Arc::new(class)))));
            self.assumed_classes.insert(name);
        }
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .assumed_classes
            .iter()
            .map(|class| {
                let name =
                    if **class == *UNNAMED { "the default".to_owned() } else { format!("\"{class}\"") };
                format!(
                    "storage class {name} was not given; its volumes are taken to be made where the pod runs"
                )
            })
            .collect();
        notes.extend(self.refused.clone().into_iter().chain(self.devices_refused.clone()));
        notes
    }
}

fn stale(why: &str) -> InputState {
    InputState::Stale { since: jiff::Timestamp::UNIX_EPOCH, why: Arc::from(why) }
}
