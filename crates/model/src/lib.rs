//! The nouns of Tideline, free of Kubernetes types, I/O and clocks.
//!
//! Everything that the engine decides on, remembers, plans and answers is a plain value defined here: what a
//! cluster is ([`Cluster`], kept current by [`Change`]s), what was asked of us ([`Policies`]), what must survive
//! a restart ([`Ledger`]), what is to be done ([`Plan`]) and why something is not done ([`Reason`]).
//! Every map is ordered and every value serialises the same way each time, because a recorded round must be
//! decided again byte for byte. How Kubernetes objects become these values is the `intake` crate's business;
//! what follows from them is `packing`'s and `nodes`'.

mod advice;
mod ahead;
mod alternative;
mod cluster;
mod devices;
mod disruption;
mod expander;
mod headroom;
mod ids;
mod labels;
mod launch;
mod ledger;
mod money;
mod names;
mod node;
mod node_rules;
mod offering;
mod outlook;
mod placement;
mod plan;
mod pod;
mod policies;
mod pool;
mod reason;
mod resources;
mod sentence;
mod taints;
mod verdicts;
mod volumes;
mod workload;

pub use advice::Advice;
pub use ahead::{AheadMemory, BoughtAhead, Came, Leads, OutlookMemory, Told};
pub use alternative::{Alternative, NotTaken};
pub use cluster::{Change, Cluster, Cohort, Input, InputState, Standing, Storage, StorageChange};
pub use devices::{
    DEVICE_CLAIM_PREFIX, DEVICE_CLASS_PREFIX, Device, DeviceAsk, DeviceChange, DeviceClaim, DeviceClass,
    DeviceId, DeviceRequest, DeviceSelector, DeviceSlice, DeviceTerm, DeviceValue, PodDeviceClaim,
};
pub use disruption::{
    BudgetWindow, Consolidation, DisruptionBudget, DisruptionPolicy, DisruptionReason, Share,
};
pub use expander::{ExpanderAnswer, ExpanderOption, ExpanderQuestion};
pub use headroom::{Headroom, HeadroomPart, HeadroomVerdict, Purpose, request_key};
pub use ids::{
    DaemonSetKey, IntentId, MachineId, NodeName, PdbKey, PodKey, PoolId, RuleSetKey, Uid, VolumeClaimKey,
    VolumeName, WorkloadKey,
};
pub use labels::{LabelSelector, Labels, NodeSelectorTerm, Operator, Requirement};
pub use launch::{DirectMachine, Launch, claim_name, claim_of, claimed_machine};
pub use ledger::{
    Asked, BackOff, EvictionState, LastChanges, Ledger, Quiet, Removal, RemovalPhase, Replacing, ScaleUp,
    Searched, SoftTaintChange, Unremovable, Unworthy,
};
pub use money::MicroUsdPerHour;
pub use names::PodNames;
pub use node::{Node, NodeCondition, Readiness};
pub use node_rules::{
    AlertDemand, DueRun, Letting, NodeRule, RateMetric, RuleAction, RuleMemory, RuleReason, RuleSet,
    RuleSetVerdict, RuleSize, RuleTrigger, RuleVerdict,
};
pub use offering::{
    CapacityType, DirectPool, DirectSpec, Flavour, InstanceType, Offering, PoolLimits, PoolRequirement,
};
pub use outlook::{DueReplicas, Outlook, OutlookKey, OutlookSource, OutlookVerdict, PodTemplate, Runs};
pub use placement::{NodeInclusion, PodTerm, Preferences, SpreadConstraint, Weighted};
pub use plan::{
    AheadDemand, Buy, Decision, Evict, Growth, Lower, MarkNode, NewMachine, Outcome, OutcomeKind, Plan,
    Release, RemovalCause, Served, Serves, SoftTaint, Step, UndoNode,
};
pub use pod::{HostPort, LocalVolume, Pod, PodClaims, PodPhase, PodShape, SafeToEvict, UnmodelledRule};
pub use policies::{
    Ahead, Bounds, Ceilings, Choice, DrainGroup, Draining, Expander, MinValuesPolicy, NodeTaints, Policies,
    PoolOptions, PoolPolicy, Profile, UnreadyGate,
};
pub use pool::{Machine, MachineState, NodeTemplate, Pool, PoolKind, ProviderKind};
pub use reason::{
    BlockedPod, CoolDown, FilterName, PodBlock, PoolChange, PoolRejection, Reason, VolumeConflict,
};
pub use resources::{Bytes, MilliCpu, ResourceName, Resources};
pub use taints::{Effect, Taint, Toleration, TolerationOperator};
pub use verdicts::{NodeVerdicts, PodVerdicts, Verdicts};
pub use volumes::{
    AccessMode, BindingMode, CsiDriver, CsiSource, DriverLimits, Fittings, InlineDisk, PersistentVolume,
    PodVolumeClaim, StorageCapacity, StorageClass, UnboundVolume, VolumeAttachment, VolumeClaim, VolumeMode,
    VolumeNeeds, VolumeRefusal, VolumeZone, add_zone_aliases, today_name,
};
pub use workload::{DaemonSet, Owner, Pdb, UnhealthyPodEviction, Workload};
