//! Names of resources and what the server knows about each: group, versions, kind, scope, subresources.
//!
//! Owns the table of built-in resources and the registry that custom resource definitions extend. Leaves defaulting
//! and validation to `rules`, and paths to `api`.

use crate::rules::schema::CustomSchema;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A resource by the name that kubectl prints: `pods`, `deployments.apps`. Copied freely; equal by text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(&'static str);

/// Texts of resource names that came from outside, one copy each.
static INTERNED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl ResourceName {
    /// The name `plural.group`, or only `plural` for the core group.
    pub fn new(group: &str, plural: &str) -> Self {
        let text = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let mut interned = INTERNED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = interned.get(text.as_str()) {
            return Self(known);
        }
        // A name lives as long as the process; there are as many as distinct CRDs were created.
        let kept: &'static str = Box::leak(text.into_boxed_str());
        interned.insert(kept);
        Self(kept)
    }

    pub fn plural(&self) -> &'static str {
        self.0.split_once('.').map_or(self.0, |(plural, _)| plural)
    }

    pub fn group(&self) -> &'static str {
        self.0.split_once('.').map_or("", |(_, group)| group)
    }

    pub fn as_str(&self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Where a custom resource keeps the numbers of its scale subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// Dotted path without the leading dot, as `spec.replicas`.
    pub spec_replicas: String,
    pub status_replicas: String,
    pub label_selector: Option<String>,
}

/// What the server knows about one resource.
#[derive(Clone, Debug)]
pub struct ResourceInfo {
    pub name: ResourceName,
    /// Served versions; objects are kept in the first.
    pub versions: Vec<String>,
    pub kind: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// Whether `status` is a subresource, so that plain updates leave it alone.
    pub has_status: bool,
    /// Whether a change outside `metadata` and `status` raises `metadata.generation`.
    pub counts_generations: bool,
    pub scale: Option<ScalePaths>,
    /// Set for custom resources only.
    pub custom: Option<Arc<CustomSchema>>,
}

impl ResourceInfo {
    pub fn group(&self) -> &'static str {
        self.name.group()
    }

    pub fn plural(&self) -> &'static str {
        self.name.plural()
    }

    /// The version that objects are kept in.
    pub fn storage_version(&self) -> &str {
        self.versions.first().map_or("v1", String::as_str)
    }

    /// `apiVersion` of this resource at `version`.
    pub fn api_version_at(&self, version: &str) -> String {
        if self.group().is_empty() { version.to_owned() } else { format!("{}/{version}", self.group()) }
    }

    /// `apiVersion` of kept objects.
    pub fn api_version(&self) -> String {
        self.api_version_at(self.storage_version())
    }

    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }
}

macro_rules! built_in {
    ($($constant:ident = $text:literal, $version:literal, $kind:literal, $short:literal, $flags:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $constant: ResourceName = ResourceName($text);
        )*
        /// name, version, kind, short names, flags: n namespaced, s status, g generation, c scale, a category all.
        const BUILT_IN: &[(ResourceName, &str, &str, &str, &str)] =
            &[$(($constant, $version, $kind, $short, $flags),)*];
    };
}

built_in! {
    PODS = "pods", "v1", "Pod", "po", "nsga";
    NODES = "nodes", "v1", "Node", "no", "s";
    NAMESPACES = "namespaces", "v1", "Namespace", "ns", "s";
    SERVICES = "services", "v1", "Service", "svc", "nsa";
    ENDPOINTS = "endpoints", "v1", "Endpoints", "ep", "n";
    CONFIG_MAPS = "configmaps", "v1", "ConfigMap", "cm", "n";
    SECRETS = "secrets", "v1", "Secret", "", "n";
    SERVICE_ACCOUNTS = "serviceaccounts", "v1", "ServiceAccount", "sa", "n";
    EVENTS = "events", "v1", "Event", "ev", "n";
    PERSISTENT_VOLUMES = "persistentvolumes", "v1", "PersistentVolume", "pv", "s";
    PERSISTENT_VOLUME_CLAIMS = "persistentvolumeclaims", "v1", "PersistentVolumeClaim", "pvc", "ns";
    REPLICATION_CONTROLLERS = "replicationcontrollers", "v1", "ReplicationController", "rc", "nsgca";
    LIMIT_RANGES = "limitranges", "v1", "LimitRange", "limits", "n";
    RESOURCE_QUOTAS = "resourcequotas", "v1", "ResourceQuota", "quota", "ns";
    POD_TEMPLATES = "podtemplates", "v1", "PodTemplate", "", "n";
    DEPLOYMENTS = "deployments.apps", "v1", "Deployment", "deploy", "nsgca";
    REPLICA_SETS = "replicasets.apps", "v1", "ReplicaSet", "rs", "nsgca";
    STATEFUL_SETS = "statefulsets.apps", "v1", "StatefulSet", "sts", "nsgca";
    DAEMON_SETS = "daemonsets.apps", "v1", "DaemonSet", "ds", "nsga";
    CONTROLLER_REVISIONS = "controllerrevisions.apps", "v1", "ControllerRevision", "", "n";
    JOBS = "jobs.batch", "v1", "Job", "", "nsga";
    CRON_JOBS = "cronjobs.batch", "v1", "CronJob", "cj", "nsga";
    POD_DISRUPTION_BUDGETS = "poddisruptionbudgets.policy", "v1", "PodDisruptionBudget", "pdb", "nsg";
    STORAGE_CLASSES = "storageclasses.storage.k8s.io", "v1", "StorageClass", "sc", "";
    CSI_NODES = "csinodes.storage.k8s.io", "v1", "CSINode", "", "";
    CSI_DRIVERS = "csidrivers.storage.k8s.io", "v1", "CSIDriver", "", "";
    CSI_STORAGE_CAPACITIES = "csistoragecapacities.storage.k8s.io", "v1", "CSIStorageCapacity", "", "n";
    VOLUME_ATTACHMENTS = "volumeattachments.storage.k8s.io", "v1", "VolumeAttachment", "", "s";
    LEASES = "leases.coordination.k8s.io", "v1", "Lease", "", "n";
    ENDPOINT_SLICES = "endpointslices.discovery.k8s.io", "v1", "EndpointSlice", "", "n";
    PRIORITY_CLASSES = "priorityclasses.scheduling.k8s.io", "v1", "PriorityClass", "pc", "";
    INGRESSES = "ingresses.networking.k8s.io", "v1", "Ingress", "ing", "nsg";
    INGRESS_CLASSES = "ingressclasses.networking.k8s.io", "v1", "IngressClass", "", "g";
    NETWORK_POLICIES = "networkpolicies.networking.k8s.io", "v1", "NetworkPolicy", "netpol", "ng";
    ROLES = "roles.rbac.authorization.k8s.io", "v1", "Role", "", "n";
    ROLE_BINDINGS = "rolebindings.rbac.authorization.k8s.io", "v1", "RoleBinding", "", "n";
    CLUSTER_ROLES = "clusterroles.rbac.authorization.k8s.io", "v1", "ClusterRole", "", "";
    CLUSTER_ROLE_BINDINGS = "clusterrolebindings.rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "", "";
    HORIZONTAL_POD_AUTOSCALERS = "horizontalpodautoscalers.autoscaling", "v2", "HorizontalPodAutoscaler", "hpa", "nsa";
    CUSTOM_RESOURCE_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io", "v1", "CustomResourceDefinition", "crd,crds", "sg";
    POD_METRICS = "pods.metrics.k8s.io", "v1beta1", "PodMetrics", "", "n";
    NODE_METRICS = "nodes.metrics.k8s.io", "v1beta1", "NodeMetrics", "", "";
    RUNTIME_CLASSES = "runtimeclasses.node.k8s.io", "v1", "RuntimeClass", "", "";
}

/// Events are also served in this group, with other field names; they are kept as core events.
pub const EVENTS_GROUP: &str = "events.k8s.io";

/// Custom resources kept by the author of the sandbox's simulated cloud.
pub const SIMULATED_POOLS: ResourceName = ResourceName("simulatedpools.tideline.dev");
/// Machines of the simulated cloud.
pub const SIMULATED_MACHINES: ResourceName = ResourceName("simulatedmachines.tideline.dev");

fn built_in_info(row: &(ResourceName, &str, &str, &str, &str)) -> ResourceInfo {
    let (name, version, kind, short, flags) = *row;
    let has = |flag: char| flags.contains(flag);
    ResourceInfo {
        name,
        versions: vec![version.to_owned()],
        kind: kind.to_owned(),
        singular: kind.to_lowercase(),
        short_names: short.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        categories: if has('a') { vec!["all".to_owned()] } else { Vec::new() },
        namespaced: has('n'),
        has_status: has('s'),
        counts_generations: has('g'),
        scale: has('c').then(|| ScalePaths {
            spec_replicas: "spec.replicas".to_owned(),
            status_replicas: "status.replicas".to_owned(),
            label_selector: None,
        }),
        custom: None,
    }
}

/// All resources that the server knows now.
#[derive(Debug)]
pub struct Registry {
    by_name: BTreeMap<ResourceName, Arc<ResourceInfo>>,
}

impl Registry {
    /// The built-in resources.
    pub fn built_in() -> Self {
        let by_name = BUILT_IN.iter().map(|row| (row.0, Arc::new(built_in_info(row)))).collect();
        Self { by_name }
    }

    pub fn get(&self, name: ResourceName) -> Option<&Arc<ResourceInfo>> {
        self.by_name.get(&name)
    }

    /// The resource that is served at `/apis/{group}/{version}/{plural}`.
    pub fn served(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<ResourceInfo>> {
        if group == "autoscaling" && version == "v1" && plural == HORIZONTAL_POD_AUTOSCALERS.plural() {
            return self.by_name.get(&HORIZONTAL_POD_AUTOSCALERS);
        }
        if group == EVENTS_GROUP && version == "v1" && plural == "events" {
            return self.by_name.get(&EVENTS);
        }
        self.by_name
            .values()
            .find(|info| info.group() == group && info.plural() == plural)
            .filter(|info| info.versions.iter().any(|v| v == version))
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<ResourceInfo>> {
        self.by_name.values()
    }

    /// Adds or replaces a custom resource.
    pub(crate) fn put(&mut self, info: ResourceInfo) {
        self.by_name.insert(info.name, Arc::new(info));
    }

    /// Stops serving a custom resource.
    pub(crate) fn remove(&mut self, name: ResourceName) {
        self.by_name.remove(&name);
    }
}
