//! Why something is done or left: reasons as data.
//!
//! Owns the vocabulary; the words for it are in `sentence`, so that events, logs, the command line and the page
//! say the same.

use crate::{
    Input, MachineId, NodeName, OutlookKey, PodKey, PoolId, RemovalCause, RemovalPhase, ResourceName, Taint,
    UnmodelledRule, Unworthy, VolumeRefusal, WorkloadKey,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A scheduler rule, by kube-scheduler's own name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FilterName {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    NodeVolumeLimits,
    VolumeBinding,
    VolumeZone,
    PodTopologySpread,
    InterPodAffinity,
    DynamicResources,
}

/// What keeps volumes from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeConflict {
    /// A bound volume cannot be used there.
    NodeAffinity,
    /// No volume that exists fits, and none can be made there.
    NoneToBind,
    NotEnoughSpace,
    /// A claim is bound to a volume that does not exist.
    NotFound,
}

/// Why one pool, or one node, cannot take a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PoolRejection {
    /// kube-scheduler's filters, each with its detail.
    Unschedulable,
    NodeNameMismatch,
    UntoleratedTaint {
        taint: Taint,
    },
    AffinityMismatch,
    PortConflict,
    Insufficient {
        resources: Vec<ResourceName>,
    },
    /// A disk that the pod names is in use on the node.
    DiskConflict,
    /// A claim that one pod at a time may use is in use.
    ExclusiveClaimInUse,
    VolumeLimitExceeded,
    CsiDriverMissing {
        driver: Arc<str>,
    },
    /// Everything that keeps the pod's volumes from the node.
    VolumeConflicts {
        conflicts: Vec<VolumeConflict>,
    },
    VolumeZoneMismatch,
    /// No node will do, whatever it is.
    VolumesRefused {
        why: VolumeRefusal,
    },
    /// The node's domain would have too many of the pods that a spread constraint counts.
    SpreadMismatch,
    /// The node has no label for a spread constraint's topology.
    SpreadLabelMissing,
    PodAffinityMismatch,
    PodAntiAffinityMismatch,
    /// A pod that is there does not want this one near.
    ExistingAntiAffinity,
    NotModelled {
        rule: UnmodelledRule,
    },
    /// The pool, not the pod.
    MaxSizeReached {
        max: u32,
    },
    BackOff {
        until: Timestamp,
        code: Arc<str>,
    },
    NotHealthy {
        unready: u32,
        of: u32,
    },
    NoTemplate,
    Frozen {
        why: Arc<str>,
    },
    ProviderStale,
    NodeCeiling {
        max_nodes_total: u32,
    },
    /// One more of its machines would be over the cluster's ceiling of cpu or memory.
    ResourceCeiling,
    RoundLimit {
        max_per_round: u32,
    },
    /// The program that chooses among pools has chosen others.
    NotChosen,
    /// A direct pool's own limits.
    LimitReached,
    /// Fewer values would do for the pod than the pool wants a choice of (`minValues`).
    TooLittleChoice,
    /// No machine type meets the pool's wishes, or none of those is on offer.
    NothingAvailable,
    /// More kinds of resources than one plan can hold.
    TooManyResources,
    /// As many of its machines as may wait for what is to come.
    AheadShare {
        most: u32,
    },
    /// Machines that wait for what is to come would cost more than they may.
    AheadCost,
}

/// A pool's change in the wording of events: `pool from->to (max: m)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolChange {
    pub pool: Arc<str>,
    pub from: u32,
    pub to: u32,
    pub max: u32,
}

/// Why a pod keeps its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodBlock {
    ControllerNotFound { kind: Arc<str> },
    MinReplicasReached { replicas: u32, min: u32 },
    NotReplicated,
    UnmovableKubeSystemPod,
    NotSafeToEvictAnnotation,
    RunsUntilCompletion,
    LocalStorageRequested { volume: Arc<str> },
    NotEnoughPdb { pdb: Arc<str> },
    NotModelled { rule: UnmodelledRule },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockedPod {
    pub pod: PodKey,
    pub by: Vec<PodBlock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CoolDown {
    AfterScaleUp,
    AfterDeletion,
    AfterFailure,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    // Of pods.
    /// There is room on a node that exists: the scheduler will bind it.
    FitsOn {
        node: NodeName,
    },
    /// It is counted on a machine that is on its way.
    WaitsForMachine {
        pool: PoolId,
    },
    TriggeredScaleUp {
        pools: Arc<[PoolChange]>,
    },
    /// A machine of a direct pool is launched for it.
    Launching {
        pool: PoolId,
        instance_type: Arc<str>,
        zone: Arc<str>,
    },
    /// No pool can help: for each pool, why.
    NoPoolHelps {
        rejections: Arc<BTreeMap<PoolId, PoolRejection>>,
    },
    NoPools,
    Expendable {
        priority: i32,
        cutoff: i32,
    },
    Nominated {
        node: NodeName,
    },
    TooYoung {
        until: Timestamp,
    },
    PodNotModelled {
        rule: UnmodelledRule,
    },
    BoundToNamedNode,
    DaemonPod,
    /// Its volumes keep it off every node, new ones too.
    VolumesRefused {
        why: VolumeRefusal,
    },
    ScaleUpDisabled,
    /// No node is ready, and growing from nothing is switched off.
    NoReadyNodes,
    /// Held back by scheduling gates.
    Gated,
    /// The scheduler has not looked at it yet; room is kept for it.
    AwaitsScheduler,
    /// Room was asked for on its behalf, so it is not bought for again.
    ConsumesRequest {
        of: WorkloadKey,
    },
    /// The program that chooses among pools has not answered yet.
    AwaitsExpander,

    // Of nodes.
    NotAutoscaled,
    InUse {
        utilization_permille: u32,
        threshold_permille: u32,
    },
    /// It offers no cpu or no memory, so its use cannot be told.
    NothingAllocatable,
    /// A pod of it has no place elsewhere, although the node is under-used.
    NoPlaceFor {
        pod: PodKey,
        /// Of the node, as pods' requests say; what they really use is not known here.
        #[serde(default)]
        utilization_permille: u32,
    },
    /// A pod of it has a place elsewhere, but not in every order in which the scheduler may bind what moves.
    PlaceNotAssured {
        pod: PodKey,
    },
    /// It could go, or be replaced by something cheaper, and what that would save is not worth the pods that would move.
    NotWorthMoving {
        saves: Unworthy,
    },
    /// Pods that move off nodes that go are to find their place here.
    TakesMovedPods,
    /// Room for pods that do not exist is kept here, and there is none for them elsewhere.
    HoldsHeadroom {
        of: WorkloadKey,
    },
    /// The disruption budgets of its pool allow no more nodes to go now.
    DisruptionBudget {
        pool: PoolId,
        cause: RemovalCause,
    },
    Unneeded {
        cause: RemovalCause,
        since: Timestamp,
        removable_at: Timestamp,
    },
    BlockedBy {
        pods: Vec<BlockedPod>,
    },
    ScaleDownDisabledAnnotation,
    ScaleDownDisabled,
    AtMinimum {
        min: u32,
    },
    InCoolDown {
        after: CoolDown,
        until: Timestamp,
    },
    RemovalLimit {
        in_flight: u32,
        limit: u32,
    },
    RecentlyUnremovable {
        until: Timestamp,
    },
    BeingRemoved {
        cause: RemovalCause,
        phase: RemovalPhase,
        since: Timestamp,
    },
    StartingUp {
        since: Timestamp,
    },
    NotReadyYetTolerated {
        since: Timestamp,
        removable_at: Timestamp,
    },
    /// Not ready, but a pod that would have to move is still on it.
    UnreadyWithPods {
        pod: PodKey,
    },
    MachineUnknown,
    TooManyUnready {
        unready: u32,
        of: u32,
    },
    /// So many that neither growth nor removal goes on anywhere.
    Suspended {
        unready: u32,
        of: u32,
    },
    /// The same of the nodes of one zone,
    ZoneUnready {
        zone: Arc<str>,
        unready: u32,
        of: u32,
    },
    /// and of one pool.
    PoolUnready {
        pool: PoolId,
        unready: u32,
        of: u32,
    },
    /// More than one thing keeps the node.
    KeptBy {
        reasons: Vec<Reason>,
    },
    /// Nodes that are not ready are not removed.
    UnreadyKept,
    /// A scale-up made it lately, and its pool leaves new nodes alone.
    PoolCoolDown {
        until: Timestamp,
    },
    /// The cluster would have less of something than it must keep.
    ClusterMinimum {
        resource: ResourceName,
        min: u64,
    },
    /// An annotation of the node holds its deletion back.
    DeletionDelayed {
        by: Arc<str>,
        until: Timestamp,
    },
    /// Demand that waits for capacity may need it.
    PodsAreWaiting,

    // Of pools and rounds.
    PoolRejected {
        rejection: PoolRejection,
    },
    Growing {
        from: u32,
        to: u32,
        ready: u32,
        since: Timestamp,
    },
    MachineNeverJoined {
        machine: MachineId,
    },
    InputNotFresh {
        input: Input,
        why: Arc<str>,
    },
    MaxNodesTotal {
        max_nodes_total: u32,
    },

    // Of what is known ahead.
    /// No more are known to be wanted than live.
    AheadNothingDue,
    /// Too far off to do anything for.
    AheadNotDue {
        due: Timestamp,
        replicas: u32,
    },
    /// There is room, on nodes or on machines on their way.
    AheadReady {
        due: Timestamp,
        replicas: u32,
    },
    AheadOrdered {
        due: Timestamp,
        replicas: u32,
        pool: PoolId,
    },
    /// Its machines would be there too early, were they ordered now.
    AheadLater {
        due: Timestamp,
        replicas: u32,
        order_at: Timestamp,
    },
    AheadRefused {
        due: Timestamp,
        replicas: u32,
        rejections: Arc<BTreeMap<PoolId, PoolRejection>>,
    },
    /// Its source is not sure enough.
    AheadUnsure {
        confidence_percent: u32,
        least_percent: u32,
    },
    /// No pod lives that would show what the next ones need.
    AheadShapeUnknown,
    /// Of a node: what is due then needs it, and giving it back until then would cost more.
    NeededAgain {
        outlook: OutlookKey,
        due: Timestamp,
    },
}
