//! Cluster API's CRDs, reduced to what an autoscaler sees of them.
//!
//! Open schemas: unknown fields are kept, so that manifests written for the real ones apply.

/// The CRDs as YAML documents: Cluster, MachineDeployment, MachineSet, Machine, MachinePool.
pub const CRDS: [&str; 5] = [CLUSTER, MACHINE_DEPLOYMENT, MACHINE_SET, MACHINE, MACHINE_POOL];

macro_rules! crd {
    ($plural:literal, $singular:literal, $kind:literal, $short:literal, $subresources:literal) => {
        concat!(
            "apiVersion: apiextensions.k8s.io/v1\n",
            "kind: CustomResourceDefinition\n",
            "metadata:\n",
            "  name: ",
            $plural,
            ".cluster.x-k8s.io\n",
            "  labels: {cluster.x-k8s.io/provider: cluster-api}\n",
            "spec:\n",
            "  group: cluster.x-k8s.io\n",
            "  scope: Namespaced\n",
            "  names:\n",
            "    plural: ",
            $plural,
            "\n",
            "    singular: ",
            $singular,
            "\n",
            "    kind: ",
            $kind,
            "\n",
            "    listKind: ",
            $kind,
            "List\n",
            "    shortNames: [",
            $short,
            "]\n",
            "    categories: [cluster-api]\n",
            "  versions:\n",
            "  - name: v1beta1\n",
            "    served: true\n",
            "    storage: true\n",
            "    subresources:\n",
            "      status: {}\n",
            $subresources,
            "    additionalPrinterColumns:\n",
            "    - {name: Cluster, type: string, jsonPath: .spec.clusterName}\n",
            "    - {name: Phase, type: string, jsonPath: .status.phase}\n",
            "    - {name: Replicas, type: integer, jsonPath: .status.replicas, priority: 1}\n",
            "    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}\n",
            "    schema:\n",
            "      openAPIV3Schema:\n",
            "        type: object\n",
            "        properties:\n",
            "          spec:\n",
            "            type: object\n",
            "            x-kubernetes-preserve-unknown-fields: true\n",
            "            properties:\n",
            "              replicas: {type: integer, format: int32}\n",
            "          status:\n",
            "            type: object\n",
            "            x-kubernetes-preserve-unknown-fields: true\n",
            "            properties:\n",
            "              replicas: {type: integer, format: int32}\n",
        )
    };
}

const CLUSTER: &str = crd!("clusters", "cluster", "Cluster", "cl", "");
const MACHINE_DEPLOYMENT: &str = crd!(
    "machinedeployments",
    "machinedeployment",
    "MachineDeployment",
    "md",
    "      scale:\n        specReplicasPath: .spec.replicas\n        statusReplicasPath: .status.replicas\n        labelSelectorPath: .status.selector\n"
);
const MACHINE_SET: &str = crd!(
    "machinesets",
    "machineset",
    "MachineSet",
    "ms",
    "      scale:\n        specReplicasPath: .spec.replicas\n        statusReplicasPath: .status.replicas\n        labelSelectorPath: .status.selector\n"
);
const MACHINE: &str = crd!("machines", "machine", "Machine", "ma", "");
const MACHINE_POOL: &str = crd!(
    "machinepools",
    "machinepool",
    "MachinePool",
    "mp",
    "      scale:\n        specReplicasPath: .spec.replicas\n        statusReplicasPath: .status.replicas\n        labelSelectorPath: .status.selector\n"
);

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    #[test]
    fn the_definitions_are_readable() {
        for text in super::CRDS {
            let crd: CustomResourceDefinition = serde_saphyr::from_str(text).unwrap();
            assert_eq!(crd.metadata.name, Some(format!("{}.cluster.x-k8s.io", crd.spec.names.plural)));
        }
    }
}
