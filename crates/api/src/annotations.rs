//! Annotations that Tideline reads or writes.

/// On a pod: `"true"` lets it be evicted whatever else holds it, `"false"` forbids it, `"on-completion"` waits.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// On a pod: comma-separated names of local volumes that do not hold it.
pub const SAFE_TO_EVICT_LOCAL_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// On a pod: `"true"` makes it count as a DaemonSet pod.
pub const DAEMONSET_POD: &str = "cluster-autoscaler.kubernetes.io/daemonset-pod";
/// On a DaemonSet's pod: whether it is evicted when its node is drained.
pub const ENABLE_DS_EVICTION: &str = "cluster-autoscaler.kubernetes.io/enable-ds-eviction";
/// Prefix of annotations on a node that hold the deletion of its machine back.
pub const DELAY_DELETION_PREFIX: &str = "delay-deletion.cluster-autoscaler.kubernetes.io/";
/// On a pod: a Go duration that lengthens the wait before it may cause a scale-up.
pub const POD_SCALE_UP_DELAY: &str = "cluster-autoscaler.kubernetes.io/pod-scale-up-delay";
/// On a pod: the `ProvisioningRequest` of its namespace whose room it uses; and the name of the same before.
pub const CONSUME_REQUEST: &str = "autoscaling.x-k8s.io/consume-provisioning-request";
pub const CONSUME_REQUEST_OLD: &str = "cluster-autoscaler.kubernetes.io/consume-provisioning-request";
/// On a node: `"true"` keeps it.
pub const SCALE_DOWN_DISABLED: &str = "cluster-autoscaler.kubernetes.io/scale-down-disabled";
/// Karpenter's protection, on a pod or a node; protects under every profile.
pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// Karpenter's older name of the same, on a pod.
pub const DO_NOT_EVICT: &str = "karpenter.sh/do-not-evict";
/// Marks a static pod's mirror.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// On a node that we marked: the intent that did it, so that a mark can be told from anyone else's.
pub const INTENT: &str = "tideline.dev/intent";
/// On a node that we cordoned: only then is it uncordoned by us.
pub const CORDONED: &str = "tideline.dev/cordoned";

/// Simulated kubelets only: how long a pod takes to start, runs before it ends by itself, and takes to stop.
pub const START_SECONDS: &str = "tideline.dev/start-seconds";
pub const RUN_SECONDS: &str = "tideline.dev/run-seconds";
pub const STOP_SECONDS: &str = "tideline.dev/stop-seconds";

/// Simulated load only, on a Service or workload: requests a minute, as a number or a curve over time.
pub const REQUESTS_PER_MINUTE: &str = "tideline.dev/requests-per-minute";
/// Simulated load only, on a pod: CPU time of one request (`10ms`), CPU without requests (`1m`), memory (`64Mi`).
pub const CPU_PER_REQUEST: &str = "tideline.dev/cpu-per-request";
pub const IDLE_CPU: &str = "tideline.dev/idle-cpu";
pub const MEMORY: &str = "tideline.dev/memory";

/// Cluster API: bounds of a MachineDeployment; both make it a pool.
pub const CAPI_MIN_SIZE: &str = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size";
pub const CAPI_MAX_SIZE: &str = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size";
/// Cluster API: on a Machine, that it goes first when replicas fall.
pub const CAPI_DELETE_MACHINE: &str = "cluster.x-k8s.io/delete-machine";
/// Cluster API: on any object, that its controllers leave it alone.
pub const CAPI_PAUSED: &str = "cluster.x-k8s.io/paused";
/// Prefix of the annotations that describe a machine for scale from zero.
pub const CAPI_CAPACITY_PREFIX: &str = "capacity.cluster-autoscaler.kubernetes.io/";
/// Prefix of the annotations that override settings for one pool.
pub const CAPI_OPTIONS_PREFIX: &str = "cluster.x-k8s.io/autoscaling-options-";
