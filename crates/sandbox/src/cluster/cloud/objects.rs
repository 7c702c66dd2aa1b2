//! The objects that the simulated cloud writes.

use super::faults::{FAULT, MachineFault};
use crate::cluster::nodes::{NodeOutline, node_object};
use api::labels;
use api::simulated::{SimulatedMachine, SimulatedMachineSpec, SimulatedPool, SimulatedTemplate, provider_id};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;

pub(super) fn machine(pool: &SimulatedPool, name: &str, fault: Option<&MachineFault>) -> SimulatedMachine {
    let pool_name = pool.name_any();
    let owner = OwnerReference {
        api_version: SimulatedPool::api_version(&()).into_owned(),
        kind: SimulatedPool::kind(&()).into_owned(),
        name: pool_name.clone(),
        uid: pool.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    SimulatedMachine {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(labels::POOL.to_owned(), pool_name.clone())])),
            annotations: fault.map(|fault| BTreeMap::from([(FAULT.to_owned(), fault.to_string())])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: SimulatedMachineSpec {
            provider_id: provider_id(&pool_name, name),
            pool: pool_name,
            launch: None,
        },
        status: None,
    }
}

pub(super) fn node(
    template: &SimulatedTemplate,
    machine: &SimulatedMachine,
    fault: Option<&MachineFault>,
    now: Timestamp,
) -> Node {
    let mut labels = template.labels.clone();
    if machine.spec.launch.is_none() {
        labels.insert(labels::POOL.to_owned(), machine.spec.pool.clone());
    }
    let taints = template.taints.iter().map(|taint| Taint {
        key: taint.key.clone(),
        value: Some(taint.value.clone()).filter(|value| !value.is_empty()),
        effect: taint.effect.clone(),
        time_added: None,
    });
    node_object(NodeOutline {
        name: machine.name_any(),
        provider_id: machine.spec.provider_id.clone(),
        labels,
        taints: taints.collect(),
        allocatable: template.allocatable.clone(),
        kubelet: fault.and_then(MachineFault::for_kubelet),
        now,
    })
}
