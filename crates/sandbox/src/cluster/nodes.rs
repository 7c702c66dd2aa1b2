//! The Node object with which a simulated machine joins.
//!
//! Owns its form, the same for every simulated cloud; the kubelets change it afterwards.

use super::cloud::KUBELET;
use api::{labels, taints};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use std::collections::BTreeMap;

/// The kubelet version that simulated nodes show.
const KUBELET_VERSION: &str = "v1.33.0";
/// The kubelet's own default limit.
const DEFAULT_PODS: &str = "110";

pub(crate) struct NodeOutline {
    pub(crate) name: String,
    pub(crate) provider_id: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    /// A fault for the node's kubelet to show.
    pub(crate) kubelet: Option<String>,
    pub(crate) now: Timestamp,
}

/// A node as its kubelet registers it: not ready, and tainted so that nothing is put on it too early.
pub(crate) fn node_object(outline: NodeOutline) -> Node {
    let NodeOutline { name, provider_id, mut labels, taints, mut allocatable, kubelet, now } = outline;
    labels.insert(labels::HOSTNAME.to_owned(), name.clone());
    labels.entry(labels::ARCH.to_owned()).or_insert_with(|| "amd64".to_owned());
    labels.entry(labels::OS.to_owned()).or_insert_with(|| "linux".to_owned());
    allocatable.entry("pods".to_owned()).or_insert_with(|| Quantity(DEFAULT_PODS.to_owned()));
    let not_ready = Taint {
        key: taints::NOT_READY.to_owned(),
        value: None,
        effect: "NoSchedule".to_owned(),
        time_added: None,
    };
    let info = NodeSystemInfo {
        architecture: labels.get(labels::ARCH).cloned().unwrap_or_default(),
        operating_system: labels.get(labels::OS).cloned().unwrap_or_default(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        container_runtime_version: "simulated://1.0".to_owned(),
        os_image: "Simulated Linux".to_owned(),
        kernel_version: "6.1.0".to_owned(),
        ..NodeSystemInfo::default()
    };
    Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels),
            annotations: kubelet.map(|fault| BTreeMap::from([(KUBELET.to_owned(), fault)])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: Some(provider_id),
            taints: Some(std::iter::once(not_ready).chain(taints).collect()),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus {
            capacity: Some(allocatable.clone()),
            allocatable: Some(allocatable),
            conditions: Some(vec![ready_condition("False", "KubeletNotReady", "starting", now)]),
            addresses: Some(vec![address("InternalIP", host_ip(&name)), address("Hostname", name)]),
            node_info: Some(info),
            ..NodeStatus::default()
        }),
    }
}

pub(crate) fn ready_condition(status: &str, reason: &str, message: &str, now: Timestamp) -> NodeCondition {
    NodeCondition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn address(kind: &str, address: String) -> NodeAddress {
    NodeAddress { type_: kind.to_owned(), address }
}

/// A private address that follows from the name; unique enough for display.
pub(crate) fn host_ip(name: &str) -> String {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [_, a, b, c] = hash.to_be_bytes();
    format!("10.{a}.{b}.{c}")
}
