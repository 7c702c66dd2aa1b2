//! What the engine must remember between rounds and over restarts, and nothing else.
//!
//! Explicit, serialisable and small: entries exist only for pools and nodes that something is going on with, and
//! disappear with it. How it is stored is the controller's business.

use crate::{
    AheadMemory, IntentId, Launch, MachineId, MicroUsdPerHour, NodeName, PodKey, PoolId, RemovalCause,
    RuleMemory, RuleSetKey, Served, Uid,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A step that was handed to the executor and not answered yet.
///
/// Under another epoch than the ledger's it was handed to a process that is gone: it is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub epoch: u64,
    pub at: Timestamp,
}

/// A purchase that is not yet fully delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleUp {
    pub intent: IntentId,
    pub from: u32,
    pub to: u32,
    pub begun_at: Timestamp,
    /// After this the missing machines count as failed.
    pub deadline: Timestamp,
    /// The provider has answered that it took the order; its pool may not show it yet.
    #[serde(default)]
    pub ordered: bool,
    /// The pool was seen at the ordered size.
    #[serde(default)]
    pub confirmed: bool,
    /// It did not come in time: the size is being lowered to what exists.
    #[serde(default)]
    pub lowering: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Not to be asked again before (a deferred order).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The first demands that it serves; the plan that made it names all.
    pub serves: Vec<Served>,
    /// Room on its machines, by shape fingerprint: so many pods of it are served, and not bought for again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<u64, u32>,
    /// The machines, where the pool launches them one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub launches: Vec<Launch>,
}

/// A pool that failed to deliver is not asked again before `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    pub until: Timestamp,
    /// Length of the present wait; the next one is twice as long, up to the limit.
    pub wait: SignedDuration,
    pub failed_at: Timestamp,
    pub code: Arc<str>,
    pub message: Arc<str>,
}

/// Where a removal stands. Each phase is entered in the ledger before its first outgoing call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RemovalPhase {
    /// Taints and cordon are being put on, and waited for.
    Marking,
    /// Pods are being evicted.
    Draining,
    /// The machine is being given back; from here there is no way back.
    Releasing,
    /// It did not work: taints and cordon are being taken off.
    Undoing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvictionState {
    pub uid: Uid,
    pub first_tried_at: Timestamp,
    /// Not to be tried again before.
    pub not_before: Timestamp,
    /// When the API server took the eviction; now the pod's grace period runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

/// One node on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    pub intent: IntentId,
    pub node_uid: Uid,
    pub pool: PoolId,
    pub machine: MachineId,
    pub cause: RemovalCause,
    pub phase: RemovalPhase,
    pub phase_since: Timestamp,
    pub begun_at: Timestamp,
    /// Whether it moves pods (counts against drain parallelism).
    pub drains: bool,
    /// We cordoned it: only then do we uncordon it.
    #[serde(default)]
    pub cordoned: bool,
    /// When its taint was known to be on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked_at: Option<Timestamp>,
    /// The step of the present phase that marks, releases or undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evictions: BTreeMap<PodKey, EvictionState>,
    /// The provider has taken the order to terminate.
    #[serde(default)]
    pub released: bool,
    /// Taint and cordon are known to be off again.
    #[serde(default)]
    pub undone: bool,
    /// When the machine was first seen gone while its Node object was still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_gone_at: Option<Timestamp>,
    /// Not to be tried again before (a failed provider call).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

impl Removal {
    /// A removal that enters its first phase now, with nothing done yet.
    pub fn begin(
        intent: IntentId,
        node_uid: Uid,
        pool: PoolId,
        machine: MachineId,
        cause: RemovalCause,
        phase: RemovalPhase,
        now: Timestamp,
    ) -> Self {
        Self {
            intent,
            node_uid,
            pool,
            machine,
            cause,
            phase,
            phase_since: now,
            begun_at: now,
            drains: false,
            cordoned: false,
            marked_at: None,
            asked: None,
            evictions: BTreeMap::new(),
            released: false,
            undone: false,
            machine_gone_at: None,
            not_before: None,
        }
    }
}

/// A node that was found unremovable lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unremovable {
    pub until: Timestamp,
}

/// A soft taint that is being put on a node or taken off it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SoftTaintChange {
    pub intent: IntentId,
    pub put: bool,
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

/// When something last happened to one pool, for waits that are the pool's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastChanges {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_up_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_at: Option<Timestamp>,
}

/// A machine of a direct pool that goes as soon as its pods have room elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replacing {
    pub cause: RemovalCause,
    pub since: Timestamp,
    pub node_uid: Uid,
}

/// Since when the pods of a node have been the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quiet {
    /// Which pods, as a number.
    pub pods: u64,
    pub since: Timestamp,
}

/// When cheaper machines were last looked for, and in which state of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Searched {
    /// All that the search looks at, as a number.
    pub picture: u64,
    pub at: Timestamp,
    /// Nodes that cheaper machines could stand in for, at a saving that is not worth the move.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub declined: BTreeMap<NodeName, Unworthy>,
}

/// A move that would save something, and too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unworthy {
    /// What would be saved, at most, and what the nodes cost that would go.
    pub saving: MicroUsdPerHour,
    pub price: MicroUsdPerHour,
    pub nodes: u32,
    pub pods: u32,
    /// The saving, in thousandths of what so many pods of the pool cost on average, and the least that is asked for.
    pub score_permille: u32,
    pub least_permille: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    /// Leadership epoch: raised by each new leader, compared and swapped with each write.
    pub epoch: u64,
    /// Number of the next intent.
    pub next_intent: u64,
    pub last_scale_up_at: Option<Timestamp>,
    pub last_deletion_at: Option<Timestamp>,
    pub last_failure_at: Option<Timestamp>,
    /// The same by pool, where the waits are the pools' own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub last_changes: BTreeMap<PoolId, LastChanges>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scale_ups: BTreeMap<PoolId, ScaleUp>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub back_offs: BTreeMap<PoolId, BackOff>,
    /// Since when a node is unneeded.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unneeded_since: BTreeMap<NodeName, Timestamp>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unremovable: BTreeMap<NodeName, Unremovable>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub removals: BTreeMap<NodeName, Removal>,
    /// Soft taints that are being changed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub soft_taints: BTreeMap<NodeName, SoftTaintChange>,
    /// Machines of direct pools that wait for their replacement.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replacing: BTreeMap<NodeName, Replacing>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub quiet: BTreeMap<NodeName, Quiet>,
    /// The last search for cheaper machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub searched: Option<Searched>,
    /// Machines without a node that are being given back.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub orphans: BTreeMap<MachineId, Removal>,
    /// What rules must remember, by object and by the rule's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<RuleSetKey, BTreeMap<Arc<str>, RuleMemory>>,
    /// What planning ahead must remember.
    #[serde(skip_serializing_if = "AheadMemory::is_empty")]
    pub ahead: AheadMemory,
}

impl Ledger {
    /// The next intent's name: epoch and number, so that two leaders never share one.
    pub fn new_intent(&mut self, kind: &str) -> IntentId {
        let id = IntentId::from(format!("{kind}-{}-{}", self.epoch, self.next_intent));
        self.next_intent += 1;
        id
    }
}
