//! Labels that Tideline reads or writes.

pub const HOSTNAME: &str = "kubernetes.io/hostname";
pub const ARCH: &str = "kubernetes.io/arch";
pub const OS: &str = "kubernetes.io/os";
pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// On simulated machines and their nodes: the SimulatedPool they belong to.
pub const POOL: &str = "tideline.dev/pool";

pub const CAPI_CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
pub const CAPI_DEPLOYMENT_NAME: &str = "cluster.x-k8s.io/deployment-name";
