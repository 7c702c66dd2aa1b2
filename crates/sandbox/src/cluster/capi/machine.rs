//! One Machine: from its order to its node, and back.

use super::types::{Machine, MachineDeployment, MachineSpec, MachineStatus};
use super::{Capi, FINALIZER, Key, PROVIDER_PREFIX, Task, deployment_of, template};
use crate::cluster::cloud::{FAULT, KUBELET, MachineFault, draw, draw_between};
use crate::cluster::deadlines::after;
use crate::cluster::mirror::Put;
use crate::cluster::nodes::{NodeOutline, node_object};
use api::labels;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

pub(super) fn object(deployment: &MachineDeployment) -> Machine {
    let name = deployment.name_any();
    let template = &deployment.spec.template;
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    labels.insert(labels::CAPI_CLUSTER_NAME.to_owned(), deployment.spec.cluster_name.clone());
    labels.insert(labels::CAPI_DEPLOYMENT_NAME.to_owned(), name.clone());
    let mut rest = template.spec.clone();
    rest.remove("clusterName");
    rest.remove("providerID");
    Machine {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: template.metadata.annotations.clone(),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            owner_references: Some(vec![OwnerReference {
                api_version: MachineDeployment::api_version(&()).into_owned(),
                kind: MachineDeployment::kind(&()).into_owned(),
                uid: deployment.uid().unwrap_or_default(),
                name,
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: MachineSpec { cluster_name: deployment.spec.cluster_name.clone(), provider_id: None, rest },
        status: None,
    }
}

impl Capi {
    pub(super) async fn reconcile_machine(&mut self, key: &Key, now: Timestamp) -> Result<(), kube::Error> {
        let Some(machine) = self.machines.get(key).cloned() else { return Ok(()) };
        let status = machine.status.clone().unwrap_or_default();
        if let Some(deletion) = &machine.meta().deletion_timestamp {
            return self
                .remove(key, &machine, status, after(deletion.0, self.options.delays.machine_delete), now)
                .await;
        }
        if status.phase == "Failed" {
            return Ok(());
        }
        let fault = self.fault_of(key, &machine, now);
        if status.node_ref.is_some() {
            if let Some(deployment) = deployment_of(&machine) {
                // Its node's readiness counts there.
                self.due.set_earliest(Task::Deployment(deployment), now);
            }
            return self.age(key, &machine, fault, now).await;
        }
        let created = machine.creation_timestamp().map_or(now, |time| time.0);
        let (min, max) = self.options.delays.cluster_api_boot;
        let boot = draw_between(self.options.seed, &format!("{}/{}/boot", key.0, key.1), min, max);
        let at = after(created, boot);
        if fault != Some(MachineFault::NeverJoins) && at <= now {
            return self.join(key, &machine, fault, now).await;
        }
        if fault != Some(MachineFault::NeverJoins) {
            self.due.set(Task::Machine(key.clone()), at);
        }
        if status.phase.is_empty() {
            let status = MachineStatus { phase: "Provisioning".to_owned(), ..MachineStatus::default() };
            return self.set_status(key, &status).await;
        }
        Ok(())
    }

    fn fault_of(&self, key: &Key, machine: &Machine, now: Timestamp) -> Option<MachineFault> {
        if let Some(text) = machine.annotations().get(FAULT) {
            return MachineFault::parse(text);
        }
        let pool = deployment_of(machine).map(|(namespace, name)| format!("{namespace}/{name}"))?;
        let made = machine.creation_timestamp().map_or(now, |time| time.0);
        draw(&self.options.faults, self.options.seed, &pool, &key.1, made)
    }

    async fn join(
        &mut self,
        key: &Key,
        machine: &Machine,
        fault: Option<MachineFault>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        if let Some(MachineFault::Fails { code }) = fault {
            let status = MachineStatus {
                phase: "Failed".to_owned(),
                failure_message: Some(format!(
                    "the simulated cloud could not make machine {}: {code}",
                    key.1
                )),
                failure_reason: Some(code),
                node_ref: None,
            };
            return self.set_status(key, &status).await;
        }
        let Some(deployment) = deployment_of(machine).and_then(|key| self.deployments.get(&key)) else {
            return Ok(());
        };
        let provider_id = format!("{PROVIDER_PREFIX}{}/{}", key.0, key.1);
        let node = node_object(NodeOutline {
            name: key.1.clone(),
            provider_id: provider_id.clone(),
            labels: template::labels(deployment),
            taints: template::taints(deployment),
            allocatable: template::allocatable(deployment),
            kubelet: fault.as_ref().and_then(MachineFault::for_kubelet),
            now,
        });
        if machine.spec.provider_id.is_none() {
            let api: Api<Machine> = Api::namespaced(self.client.clone(), &key.0);
            let patch = Patch::Merge(json!({"spec": {"providerID": provider_id}}));
            let answer = api.patch(&key.1, &PatchParams::default(), &patch).await?;
            self.machines.put(answer);
        }
        let made = match self.node_api.create(&PostParams::default(), &node).await {
            Ok(made) => made,
            Err(kube::Error::Api(status)) if status.code == 409 => self.node_api.get(&key.1).await?,
            Err(error) => return Err(error),
        };
        let status = MachineStatus {
            phase: "Running".to_owned(),
            node_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(key.1.clone()),
                uid: made.uid(),
                ..ObjectReference::default()
            }),
            ..MachineStatus::default()
        };
        self.nodes.put(made);
        self.set_status(key, &status).await
    }

    /// A running machine: its cloud may take it away.
    async fn age(
        &mut self,
        key: &Key,
        machine: &Machine,
        fault: Option<MachineFault>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let Some(MachineFault::VanishesAfter(delay)) = fault else { return Ok(()) };
        let Some(node) = self.nodes.get(&(String::new(), key.1.clone())) else { return Ok(()) };
        let at = after(node.creation_timestamp().map_or(now, |time| time.0), delay);
        if at > now {
            self.due.set(Task::Machine(key.clone()), at);
            return Ok(());
        }
        if node.annotations().get(KUBELET).is_some_and(|text| text == "dead") {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": {KUBELET: "dead"}}});
        let silenced = self.node_api.patch(&key.1, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        self.nodes.put(silenced);
        let status = MachineStatus {
            phase: "Failed".to_owned(),
            failure_reason: Some("InstanceTerminated".to_owned()),
            failure_message: Some("the simulated cloud took the machine away".to_owned()),
            node_ref: machine.status.as_ref().and_then(|status| status.node_ref.clone()),
        };
        self.set_status(key, &status).await
    }

    /// A machine that is being deleted: its node goes first, then the hold on it is lifted.
    async fn remove(
        &mut self,
        key: &Key,
        machine: &Machine,
        mut status: MachineStatus,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        if at > now {
            self.due.set(Task::Machine(key.clone()), at);
            if status.phase != "Deleting" {
                "Deleting".clone_into(&mut status.phase);
                return self.set_status(key, &status).await;
            }
            return Ok(());
        }
        match self.node_api.delete(&key.1, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let kept: Vec<&String> = machine.finalizers().iter().filter(|f| *f != FINALIZER).collect();
        let patch: Value = json!({"metadata": {
            "finalizers": kept, "resourceVersion": machine.resource_version(),
        }});
        let api: Api<Machine> = Api::namespaced(self.client.clone(), &key.0);
        match api.patch(&key.1, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    async fn set_status(&mut self, key: &Key, status: &MachineStatus) -> Result<(), kube::Error> {
        let api: Api<Machine> = Api::namespaced(self.client.clone(), &key.0);
        let patch = Patch::Merge(json!({"status": status}));
        match api.patch_status(&key.1, &PatchParams::default(), &patch).await {
            Ok(answer) => {
                if let Put::Taken(old) = self.machines.put(answer) {
                    self.machine_changed(key, old.as_ref());
                }
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}
