//! Reasons of Kubernetes events, Cluster Autoscaler's names where it has one.

pub const TRIGGERED_SCALE_UP: &str = "TriggeredScaleUp";
pub const NOT_TRIGGER_SCALE_UP: &str = "NotTriggerScaleUp";
pub const SCALED_UP_GROUP: &str = "ScaledUpGroup";
pub const FAILED_TO_SCALE_UP_GROUP: &str = "FailedToScaleUpGroup";
pub const SCALE_UP_TIMED_OUT: &str = "ScaleUpTimedOut";
pub const SCALE_DOWN: &str = "ScaleDown";
pub const SCALE_DOWN_EMPTY: &str = "ScaleDownEmpty";
pub const SCALE_DOWN_FAILED: &str = "ScaleDownFailed";
pub const DELETE_UNREGISTERED: &str = "DeleteUnregistered";
pub const DELETE_UNREGISTERED_FAILED: &str = "DeleteUnregisteredFailed";
pub const MAX_NODES_TOTAL_REACHED: &str = "MaxNodesTotalReached";
pub const CLUSTER_UNHEALTHY: &str = "ClusterUnhealthy";
/// Ours: a node rule acted, or would have in dry run.
pub const NODE_RULE_ACTED: &str = "NodeRuleActed";
/// Ours: a time of a node rule passed without it.
pub const NODE_RULE_MISSED: &str = "NodeRuleMissed";
/// Ours: an object with node rules cannot be followed.
pub const NODE_RULE_INVALID: &str = "NodeRuleInvalid";
/// Ours: a plan broke an invariant and was not carried out.
pub const PLAN_REFUSED: &str = "PlanRefused";
/// Karpenter's, of nodes of direct pools: something keeps a node that would go.
pub const DISRUPTION_BLOCKED: &str = "DisruptionBlocked";
/// Karpenter's: a node stays because its pods have no better place, or moving them saves too little.
pub const UNCONSOLIDATABLE: &str = "Unconsolidatable";
/// Karpenter's: a node goes as soon as the machines that take its place are ready.
pub const DISRUPTION_WAITING_READINESS: &str = "DisruptionWaitingReadiness";
/// Karpenter's: a node goes.
pub const DISRUPTION_TERMINATING: &str = "DisruptionTerminating";
