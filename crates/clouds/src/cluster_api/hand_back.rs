//! Taking our marks off Machines and `MachineDeployment`s when a cluster is handed back.
//!
//! Owns what of ours can be left on objects of Cluster API. Sizes are left as they are, and so is a machine whose
//! group has been lowered for it already: its mark tells Cluster API which machine to delete.

use super::{ClusterApi, MARK_PREFIX, NAME, RELEASED, resource};
use crate::ProviderError;
use crate::objects::Objects;
use crate::watching::{code, within};
use api::annotations::CAPI_DELETE_MACHINE;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use model::PoolId;
use std::collections::BTreeSet;

impl ClusterApi {
    /// What was taken off, or would be in a dry run: one sentence for each object. Nothing where Cluster API is not
    /// installed.
    pub async fn hand_back(&self, dry_run: bool) -> Result<Vec<String>, ProviderError> {
        let machines = self.everywhere("Machine", "machines");
        let glance = ListParams::default().limit(1);
        if matches!(within(machines.limit, machines.api.list(&glance)).await, Err(error) if code(&error) == Some(404))
        {
            return Ok(Vec::new());
        }
        let mut said = Vec::new();
        let mut leaving = BTreeSet::new();
        for mut machine in machines.list("").await? {
            let mark = machine.annotations().get(CAPI_DELETE_MACHINE);
            if !mark.is_some_and(|value| value.starts_with(MARK_PREFIX)) {
                continue;
            }
            let (namespace, name) = (machine.namespace().unwrap_or_default(), machine.name_any());
            let group = machine.labels().get(api::labels::CAPI_DEPLOYMENT_NAME).cloned().unwrap_or_default();
            let pool = PoolId::from(format!("{NAME}/{namespace}/{group}"));
            let lowered = self.read(&pool).await?.is_some_and(|group| group.released().contains(&name));
            if lowered {
                said.push(format!(
                    "machine {namespace}/{name} stays marked: its group is lowered for it already"
                ));
                leaving.insert((namespace, group));
                continue;
            }
            said.push(format!("machine {namespace}/{name}: mark for deletion taken off"));
            if !dry_run {
                machine.annotations_mut().remove(CAPI_DELETE_MACHINE);
                self.objects(&namespace, "Machine", "machines").put(&machine).await?;
            }
        }
        for mut group in self.everywhere("MachineDeployment", "machinedeployments").list("").await? {
            let key = (group.namespace().unwrap_or_default(), group.name_any());
            if !group.annotations().contains_key(RELEASED) || leaving.contains(&key) {
                continue;
            }
            said.push(format!("machine deployment {}/{}: list of released machines taken off", key.0, key.1));
            if !dry_run {
                group.annotations_mut().remove(RELEASED);
                self.objects(&key.0, "MachineDeployment", "machinedeployments").put(&group).await?;
            }
        }
        Ok(said)
    }

    fn everywhere(&self, kind: &'static str, plural: &'static str) -> Objects {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource(kind, plural));
        Objects { api, kind, limit: self.settings.call_timeout }
    }
}
