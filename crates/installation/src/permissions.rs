//! What Tideline may do on a cluster: one table, from which roles, the chart and `doctor`'s questions are made.
//!
//! Owns the table. A row is there because code uses it; the end-to-end tests run with these rights and fail on any
//! request that is refused for want of one. Rights on a cloud are the provider's page's.

use std::str::FromStr;

/// What is switched on in an installation, and so what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Nodes follow pods, wherever nodes come from.
    Nodes,
    /// Pools of simulated machines.
    Simulated,
    /// Pools of Cluster API.
    ClusterApi,
    /// NodePools: single machines, claimed by NodeClaims.
    Karpenter,
    /// Workloads follow load: autoscalers, their metrics, pods' readiness gates.
    Workloads,
}

impl Feature {
    pub const ALL: [Self; 5] =
        [Self::Nodes, Self::Simulated, Self::ClusterApi, Self::Karpenter, Self::Workloads];

    /// As `--feature` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Simulated => "simulated",
            Self::ClusterApi => "cluster-api",
            Self::Karpenter => "karpenter",
            Self::Workloads => "workloads",
        }
    }

    /// The chart's value that switches it on; `None` where it always is.
    fn value(self) -> Option<&'static str> {
        match self {
            Self::Nodes => None,
            Self::Simulated => Some(".Values.pools.simulated"),
            Self::ClusterApi => Some("(include \"tideline.clusterApi\" .)"),
            Self::Workloads => Some("(include \"tideline.workloads\" .)"),
            Self::Karpenter => Some("(include \"tideline.karpenter\" .)"),
        }
    }
}

impl FromStr for Feature {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|feature| feature.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|feature| feature.name()).collect();
            format!("there is no feature \"{name}\"; there are {}", names.join(", "))
        })
    }
}

/// What an installation is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub features: Vec<Feature>,
    /// Only looks: a dry run.
    pub dry_run: bool,
}

impl Scope {
    /// These features, and nodes with any of them; all where none is named.
    pub fn of(named: &[Feature], dry_run: bool) -> Self {
        let wanted =
            |feature: &Feature| named.is_empty() || *feature == Feature::Nodes || named.contains(feature);
        Self { features: Feature::ALL.into_iter().filter(wanted).collect(), dry_run }
    }

    pub fn includes(&self, permission: &Permission) -> bool {
        self.features.contains(&permission.feature) && !(self.dry_run && permission.acts())
    }
}

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    WholeCluster,
    /// The namespace that Tideline runs in.
    OwnNamespace,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    pub feature: Feature,
    pub place: Place,
    /// API group; empty is the core group.
    pub group: &'static str,
    pub resources: &'static [&'static str],
    /// Empty: objects of any name.
    pub names: &'static [&'static str],
    pub verbs: &'static [&'static str],
    pub why: &'static str,
}

impl Permission {
    /// Whether it lets anything be changed; a dry run does without.
    pub fn acts(&self) -> bool {
        !self.verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb))
    }

    /// The chart's condition of this row.
    fn condition(&self) -> Option<String> {
        match (self.feature.value(), self.acts()) {
            (None, false) => None,
            (None, true) => Some("not .Values.dryRun".to_owned()),
            (Some(value), false) => Some(value.to_owned()),
            (Some(value), true) => Some(format!("and {value} (not .Values.dryRun)")),
        }
    }
}

const SEE: &[&str] = &["list", "watch"];

const fn everywhere(
    feature: Feature,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Permission {
    Permission { feature, place: Place::WholeCluster, group, resources, names: &[], verbs, why }
}

const fn at_home(
    feature: Feature,
    group: &'static str,
    resources: &'static [&'static str],
    names: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Permission {
    Permission { feature, place: Place::OwnNamespace, group, resources, names, verbs, why }
}

/// Every right, in the order in which roles list them.
pub const PERMISSIONS: &[Permission] = &[
    everywhere(Feature::Nodes, "", &["nodes"], &["get", "list", "watch"], "Nodes and what runs on them."),
    everywhere(
        Feature::Nodes,
        "",
        &["namespaces", "pods", "replicationcontrollers"],
        SEE,
        "Pods that wait, and whose they are.",
    ),
    everywhere(
        Feature::Nodes,
        "",
        &["persistentvolumeclaims", "persistentvolumes"],
        SEE,
        "Where pods with volumes can run.",
    ),
    everywhere(
        Feature::Nodes,
        "storage.k8s.io",
        &["storageclasses", "csidrivers", "csinodes", "csistoragecapacities", "volumeattachments"],
        SEE,
        "",
    ),
    everywhere(
        Feature::Nodes,
        "resource.k8s.io",
        &["deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"],
        SEE,
        "Devices, and what pods claim of them.",
    ),
    everywhere(
        Feature::Nodes,
        "apps",
        &["daemonsets", "replicasets", "statefulsets"],
        SEE,
        "Replicas that are missing, and what every node carries.",
    ),
    everywhere(Feature::Nodes, "batch", &["jobs"], SEE, ""),
    everywhere(
        Feature::Nodes,
        "policy",
        &["poddisruptionbudgets"],
        SEE,
        "How much may be disturbed at once.",
    ),
    everywhere(
        Feature::Nodes,
        "",
        &["nodes"],
        &["update", "delete"],
        "Marking nodes that go, by whole objects with their resourceVersion; deleting those whose machine is gone.",
    ),
    everywhere(Feature::Nodes, "", &["pods/eviction"], &["create"], "Draining, through budgets."),
    everywhere(Feature::Nodes, "", &["events"], &["create", "patch"], "Saying what was done and why not."),
    everywhere(
        Feature::Nodes,
        "autoscaling.cce.io",
        &["horizontalnodeautoscalers"],
        SEE,
        "Rules that size pools; without their CRD on the cluster this grants nothing.",
    ),
    everywhere(Feature::Nodes, "autoscaling.cce.io", &["horizontalnodeautoscalers/status"], &["patch"], ""),
    everywhere(
        Feature::Nodes,
        "autoscaling.x-k8s.io",
        &["capacitybuffers", "provisioningrequests"],
        SEE,
        "Headroom that is asked for, and the pods that it is for; read only where its flags are given.",
    ),
    everywhere(
        Feature::Nodes,
        "autoscaling.x-k8s.io",
        &["capacitybuffers/status", "provisioningrequests/status"],
        &["patch"],
        "",
    ),
    everywhere(Feature::Nodes, "", &["podtemplates"], SEE, ""),
    everywhere(Feature::Nodes, "apps", &["deployments"], SEE, ""),
    everywhere(
        Feature::Simulated,
        "tideline.dev",
        &["simulatedpools"],
        &["get", "list", "watch"],
        "Pools of simulated machines.",
    ),
    everywhere(Feature::Simulated, "tideline.dev", &["simulatedpools"], &["update"], ""),
    everywhere(Feature::Simulated, "tideline.dev", &["simulatedmachines"], &["get", "list", "watch"], ""),
    everywhere(
        Feature::ClusterApi,
        "cluster.x-k8s.io",
        &["machinedeployments", "machines"],
        &["get", "list", "watch"],
        "Pools of Cluster API; without it on the cluster these grant nothing.",
    ),
    everywhere(Feature::ClusterApi, "cluster.x-k8s.io", &["machinedeployments", "machines"], &["update"], ""),
    everywhere(Feature::ClusterApi, "cluster.x-k8s.io", &["clusters"], SEE, ""),
    everywhere(
        Feature::Nodes,
        "autoscaling.kapacitystack.io",
        &["intelligenthorizontalpodautoscalers"],
        SEE,
        "What portraits tell of pods to come, where planning ahead is switched on.",
    ),
    everywhere(Feature::Nodes, "batch", &["cronjobs"], SEE, "The runs of jobs that are to come."),
    everywhere(
        Feature::Nodes,
        "autoscaling",
        &["horizontalpodautoscalers"],
        SEE,
        "Where autoscalers of Kubernetes are heading.",
    ),
    everywhere(Feature::Workloads, "metrics.k8s.io", &["pods"], &["get", "list"], "What pods use."),
    everywhere(
        Feature::Workloads,
        "autoscaling.kapacitystack.io",
        &["intelligenthorizontalpodautoscalers", "horizontalportraits", "replicaprofiles"],
        SEE,
        "Autoscalers, and the portraits and profiles that are made for them.",
    ),
    everywhere(
        Feature::Workloads,
        "autoscaling.kapacitystack.io",
        &["intelligenthorizontalpodautoscalers", "horizontalportraits", "replicaprofiles"],
        &["create", "update", "patch", "delete"],
        "",
    ),
    everywhere(
        Feature::Workloads,
        "autoscaling.kapacitystack.io",
        &[
            "intelligenthorizontalpodautoscalers/status",
            "intelligenthorizontalpodautoscalers/finalizers",
            "horizontalportraits/status",
            "replicaprofiles/status",
        ],
        &["update"],
        "",
    ),
    everywhere(
        Feature::Workloads,
        "apps",
        &["deployments", "replicasets", "statefulsets"],
        SEE,
        "How many replicas workloads have, and whether their pods are being replaced.",
    ),
    everywhere(
        Feature::Workloads,
        "apps",
        &["deployments/scale", "replicasets/scale", "statefulsets/scale"],
        &["get", "update"],
        "Scaling them; other kinds need the same right on their own scale (docs/workloads.md).",
    ),
    everywhere(
        Feature::Workloads,
        "autoscaling",
        &["horizontalpodautoscalers"],
        SEE,
        "Whether an HPA scales the same workload: then there is no fight.",
    ),
    everywhere(
        Feature::Workloads,
        "batch",
        &["cronjobs"],
        &["create", "update", "delete"],
        "The jobs of portraits whose algorithm is a job.",
    ),
    everywhere(Feature::Workloads, "batch", &["cronjobs"], &["get", "list"], ""),
    everywhere(
        Feature::Workloads,
        "",
        &["configmaps"],
        &["get"],
        "What such jobs leave beside their portraits.",
    ),
    everywhere(Feature::Workloads, "", &["events"], &["create", "patch"], "Saying what was scaled."),
    everywhere(Feature::Workloads, "", &["pods"], SEE, "Which pods are online."),
    everywhere(
        Feature::Workloads,
        "",
        &["pods"],
        &["patch"],
        "Their states as labels, and the order of their deletion.",
    ),
    everywhere(
        Feature::Workloads,
        "",
        &["pods/status"],
        &["patch"],
        "The condition of the readiness gate by which pods are cut off and brought back.",
    ),
    Permission {
        feature: Feature::Workloads,
        place: Place::WholeCluster,
        group: "admissionregistration.k8s.io",
        resources: &["mutatingwebhookconfigurations"],
        names: &["tideline-readiness-gate"],
        verbs: &["get", "update"],
        why: "Whom API servers trust when they ask our webhook about pods that want the gate.",
    },
    at_home(Feature::Nodes, "", &["configmaps"], &[], &["create"], "A name cannot be granted for creating."),
    everywhere(
        Feature::Karpenter,
        "karpenter.sh",
        &["nodepools", "nodeclaims", "nodeoverlays", "provisioners", "machines"],
        &["get", "list", "watch"],
        "NodePools and the claims of their machines, the kinds before them included.",
    ),
    everywhere(
        Feature::Karpenter,
        "karpenter.sh",
        &["nodepools", "nodeclaims", "machines"],
        &["create", "update", "patch", "delete"],
        "",
    ),
    everywhere(
        Feature::Karpenter,
        "karpenter.sh",
        &[
            "nodepools/status",
            "nodeclaims/status",
            "nodeoverlays/status",
            "provisioners/status",
            "machines/status",
        ],
        &["update", "patch"],
        "",
    ),
    everywhere(
        Feature::Karpenter,
        "karpenter.k8s.aws",
        &["ec2nodeclasses", "awsnodetemplates"],
        &["get", "list", "watch"],
        "How their machines are made.",
    ),
    everywhere(
        Feature::Karpenter,
        "karpenter.k8s.aws",
        &["ec2nodeclasses", "ec2nodeclasses/status", "awsnodetemplates/status"],
        &["create", "update", "patch"],
        "",
    ),
    everywhere(
        Feature::Karpenter,
        "tideline.dev",
        &["simulatednodeclasses", "simulatedmachines"],
        &["get", "list", "watch"],
        "",
    ),
    everywhere(
        Feature::Karpenter,
        "tideline.dev",
        &["simulatedmachines", "simulatedmachines/status"],
        &["create", "update", "patch"],
        "",
    ),
    everywhere(
        Feature::Karpenter,
        "apps",
        &["deployments"],
        SEE,
        "Whether another Karpenter runs: then its pools are left to it.",
    ),
    Permission {
        feature: Feature::Karpenter,
        place: Place::WholeCluster,
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &["karpenter-leader-election"],
        verbs: SEE,
        why: "",
    },
    everywhere(Feature::Karpenter, "", &["events"], &["create", "patch"], "Saying what becomes of claims."),
    everywhere(
        Feature::Karpenter,
        "",
        &["nodes"],
        &["patch"],
        "The labels with which a node is registered and whole, and its finalizer.",
    ),
    everywhere(
        Feature::Karpenter,
        "",
        &["pods"],
        &["delete"],
        "Pods that outlast the termination grace period of their claim.",
    ),
    at_home(
        Feature::Nodes,
        "",
        &["configmaps"],
        &["tideline-ledger", "tideline-ledger-1", "tideline-ledger-2", "tideline-ledger-damaged"],
        &["get", "update"],
        "What must survive a restart.",
    ),
    at_home(
        Feature::Nodes,
        "",
        &["configmaps"],
        &["cluster-autoscaler-status"],
        &["get", "update", "patch", "delete"],
        "The status; under the name cluster-autoscaler the ledger lies beside it.",
    ),
    at_home(
        Feature::Nodes,
        "",
        &["configmaps"],
        &["cluster-autoscaler-priority-expander"],
        &["get"],
        "Priorities of the expander of that name.",
    ),
    at_home(
        Feature::Nodes,
        "coordination.k8s.io",
        &["leases"],
        &[],
        &["create"],
        "One acts, others stand by.",
    ),
    at_home(
        Feature::Nodes,
        "coordination.k8s.io",
        &["leases"],
        &["cluster-autoscaler"],
        &["get", "update"],
        "",
    ),
    at_home(
        Feature::Workloads,
        "",
        &["configmaps"],
        &["kapacity-config"],
        &["list", "watch"],
        "Which metrics Prometheus has; read again when it changes.",
    ),
    at_home(Feature::Workloads, "coordination.k8s.io", &["leases"], &[], &["create"], ""),
    at_home(
        Feature::Workloads,
        "coordination.k8s.io",
        &["leases"],
        &["kapacity-manager.kapacitystack.io"],
        &["get", "update"],
        "The Lease of Kapacity's manager, so that the two never act at once.",
    ),
];

/// The rules of a role as YAML under `rules:`, indented by two.
pub(crate) fn rules(place: Place, scope: &Scope) -> String {
    let rows = PERMISSIONS.iter().filter(|row| row.place == place && scope.includes(row));
    rows.map(rule).collect()
}

/// The same for a chart: every row, behind the values that switch it on.
pub(crate) fn guarded_rules(place: Place) -> String {
    let rows = PERMISSIONS.iter().filter(|row| row.place == place);
    rows.map(|row| match row.condition() {
        Some(condition) => format!("  {{{{- if {condition} }}}}\n{}  {{{{- end }}}}\n", rule(row)),
        None => rule(row),
    })
    .collect()
}

fn rule(permission: &Permission) -> String {
    let list = |words: &[&str]| {
        let quoted: Vec<String> = words
            .iter()
            .map(|word| if word.is_empty() { "\"\"".to_owned() } else { (*word).to_owned() })
            .collect();
        format!("[{}]", quoted.join(", "))
    };
    let mut text = String::new();
    if !permission.why.is_empty() {
        text = text + "  # " + permission.why + "\n";
    }
    text = text + "  - apiGroups: " + &list(&[permission.group]) + "\n";
    text = text + "    resources: " + &list(permission.resources) + "\n";
    if !permission.names.is_empty() {
        text = text + "    resourceNames: " + &list(permission.names) + "\n";
    }
    text + "    verbs: " + &list(permission.verbs) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_can_be_seen_without_the_right_to_change_it() {
        for row in PERMISSIONS {
            let mixed = row.acts() && row.verbs.contains(&"watch");
            assert!(!mixed, "split it, for dry runs: {row:?}");
        }
    }

    #[test]
    fn no_right_is_granted_by_a_star() {
        for row in PERMISSIONS {
            let words = row.resources.iter().chain(row.verbs).chain([&row.group]);
            assert!(words.into_iter().all(|word| *word != "*"), "{row:?}");
            assert!(!row.resources.contains(&"secrets"), "{row:?}");
        }
    }
}
