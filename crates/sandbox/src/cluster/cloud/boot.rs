//! From a machine to its node, and back.

use super::faults::{KUBELET, MachineFault, draw_between};
use super::{Cloud, Task, objects};
use crate::cluster::deadlines::after;
use api::simulated::{MachinePhase, SimulatedMachine, SimulatedMachineStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use std::time::Duration;

impl Cloud {
    /// A machine that is Creating: waits for its moment, then joins or fails.
    pub(super) async fn boot(
        &mut self,
        machine: &SimulatedMachine,
        created: Timestamp,
        fault: Option<MachineFault>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let name = machine.name_any();
        let (template, boot) = if let Some(launch) = &machine.spec.launch {
            (launch.template.clone(), launch.boot.clone())
        } else {
            let Some(pool) = self.pools.get(&(String::new(), machine.spec.pool.clone())) else {
                return Ok(());
            };
            (pool.spec.template.clone(), pool.spec.boot.clone())
        };
        let seconds = |s: i32| Duration::from_secs(u64::try_from(s).unwrap_or(0));
        let (min, max) = (seconds(boot.min_seconds), seconds(boot.max_seconds));
        // Drawn from the name: a restarted cloud finds the same moment again.
        let at = after(created, draw_between(self.options.seed, &format!("{name}/boot"), min, max));
        if fault == Some(MachineFault::NeverJoins) {
            return Ok(());
        }
        if at > now {
            self.due.set(Task::Machine(name), at);
            return Ok(());
        }
        if let Some(MachineFault::Fails { code }) = fault {
            let status = SimulatedMachineStatus {
                phase: MachinePhase::Failed,
                message: Some(format!("the simulated cloud could not make machine {name}: {code}")),
                code: Some(code),
                ..SimulatedMachineStatus::default()
            };
            return self.set_status(&name, &status).await;
        }
        let node = objects::node(&template, machine, fault.as_ref(), now);
        match self.node_api.create(&PostParams::default(), &node).await {
            Ok(made) => {
                // A server that drops status on creation gets it once more.
                if made.status.as_ref().is_none_or(|status| status.allocatable.is_none()) {
                    let patch = json!({"status": node.status});
                    self.node_api
                        .patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch))
                        .await?;
                }
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
        let status = SimulatedMachineStatus {
            phase: MachinePhase::Running,
            node_name: Some(name.clone()),
            ready_at: Some(Time(now)),
            ..SimulatedMachineStatus::default()
        };
        self.set_status(&name, &status).await
    }

    /// Tells a node's kubelet that its machine is gone.
    pub(super) async fn silence(&mut self, name: &str) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {"annotations": {KUBELET: "dead"}}});
        unless_gone(self.node_api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
    }

    pub(super) async fn delete_node(&mut self, name: &str) -> Result<(), kube::Error> {
        unless_gone(self.node_api.delete(name, &DeleteParams::default()).await)
    }

    pub(super) async fn delete_machine(&mut self, name: &str) -> Result<(), kube::Error> {
        unless_gone(self.machine_api.delete(name, &DeleteParams::default()).await)?;
        let old = self.machines.remove(&(String::new(), name.to_owned()));
        self.machine_changed(name, old.as_ref());
        Ok(())
    }
}

fn unless_gone<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
