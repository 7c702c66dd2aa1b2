//! The two kinds of pool that the tests run on: a simulated one and a MachineDeployment of Cluster API.

use acceptance::Cloud;

/// The pool's name as events show it.
pub(crate) const NAME: &str = "general";
/// The most nodes of a pool.
pub(crate) const MAX: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    Simulated,
    ClusterApi,
}

const SIMULATED: &str = "
apiVersion: tideline.dev/v1alpha1
kind: SimulatedPool
metadata: { name: general }
spec:
  min: 0
  max: 20
  replicas: 0
  template: { allocatable: { cpu: '4', memory: 16Gi } }
  boot: { minSeconds: 1, maxSeconds: 2 }
";

const CLUSTER_API: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: machines }
---
apiVersion: cluster.x-k8s.io/v1beta1
kind: MachineDeployment
metadata:
  name: general
  namespace: machines
  annotations:
    cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size: '0'
    cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size: '20'
    capacity.cluster-autoscaler.kubernetes.io/cpu: '4'
    capacity.cluster-autoscaler.kubernetes.io/memory: 16Gi
spec:
  clusterName: test
  replicas: 0
  selector: { matchLabels: {} }
  template:
    spec:
      clusterName: test
      bootstrap: { dataSecretName: none }
      infrastructureRef: { apiVersion: infrastructure.cluster.x-k8s.io/v1beta1, kind: None, name: none }
";

impl Pool {
    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Simulated => SIMULATED,
            Self::ClusterApi => CLUSTER_API,
        }
    }

    pub(crate) fn cloud(self) -> Cloud {
        match self {
            Self::Simulated => Cloud::Simulated,
            Self::ClusterApi => Cloud::ClusterApi,
        }
    }

    /// The kind of its machines, as `kubectl` knows it.
    pub(crate) fn machines(self) -> &'static str {
        match self {
            Self::Simulated => "simulatedmachines.tideline.dev",
            Self::ClusterApi => "machines.cluster.x-k8s.io",
        }
    }
}
