//! Making the objects of a test cluster from a name and a few attributes.

use super::{World, headroom_key, pool_id};
use jiff::SignedDuration;
use model::{
    Bytes, Change, DaemonSet, DaemonSetKey, Effect, Headroom, HeadroomPart, HostPort, LabelSelector, Labels,
    LocalVolume, Machine, MachineId, MachineState, MicroUsdPerHour, MilliCpu, Node, NodeCondition,
    NodeInclusion, NodeName, NodeSelectorTerm, NodeTemplate, Operator, Owner, Pdb, PdbKey, Pod, PodKey,
    PodPhase, PodShape, PodTerm, Pool, PoolOptions, Preferences, Profile, ProviderKind, Purpose, Readiness,
    Requirement, ResourceName, Resources, SafeToEvict, SpreadConstraint, Taint, Toleration,
    TolerationOperator, UnboundVolume, UnhealthyPodEviction, UnmodelledRule, VolumeNeeds, VolumeRefusal,
    Weighted, Workload, WorkloadKey,
};
use std::sync::Arc;

/// `key=value` words, in order; a word without `=` is a flag.
pub(crate) struct Attributes<'t>(Vec<(&'t str, &'t str)>);

impl<'t> Attributes<'t> {
    pub(crate) fn of(words: impl Iterator<Item = &'t str>) -> Self {
        Self(words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'t str> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key).map(|v| v.parse().unwrap_or_else(|_| panic!("{key}={v} is not a number")))
    }

    pub(super) fn time(&self, key: &str) -> Option<SignedDuration> {
        self.get(key).map(|v| v.parse().unwrap_or_else(|_| panic!("{key}={v} is not a time")))
    }

    /// `label:key=value` and the like.
    pub(super) fn prefixed(&self, prefix: &str) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.0.iter().filter_map(move |(k, v)| k.strip_prefix(prefix).map(|k| (k, *v)))
    }

    /// The same with another value of one key.
    fn with(&self, key: &'t str, value: &'t str) -> Self {
        Self(self.0.iter().map(|(k, v)| if *k == key { (*k, value) } else { (*k, *v) }).collect())
    }

    fn labels(&self, prefix: &str) -> Labels {
        self.prefixed(prefix).map(|(k, v)| (Arc::from(k), Arc::from(v))).collect()
    }

    fn taints(&self) -> Vec<Taint> {
        self.prefixed("taint:")
            .map(|(key, value)| {
                let (value, effect) = value.split_once(':').unwrap_or((value, "NoSchedule"));
                let effect = match effect {
                    "NoExecute" => Effect::NoExecute,
                    "PreferNoSchedule" => Effect::PreferNoSchedule,
                    _ => Effect::NoSchedule,
                };
                Taint { key: key.into(), value: value.into(), effect }
            })
            .collect()
    }

    fn resources(&self, pods: u32) -> Resources {
        let extended = ["gpu"].iter().filter_map(|name| {
            self.number(name).map(|n| (ResourceName::new(format!("nvidia.com/{name}")), n))
        });
        Resources {
            cpu: MilliCpu(self.number("cpu").unwrap_or(0)),
            memory: Bytes(self.number("mem").unwrap_or(0)),
            ephemeral_storage: Bytes(self.number("disk").unwrap_or(0)),
            pods: self.number("pods").map_or(pods, |n| u32::try_from(n).unwrap()),
            extended: extended.collect(),
        }
    }

    fn count(&self, key: &str, default: u32) -> u32 {
        self.number(key).map_or(default, |n| u32::try_from(n).unwrap())
    }
}

impl World {
    pub(crate) fn make_pool(&mut self, name: &str, a: &Attributes<'_>) {
        let mut allocatable = a.resources(110);
        if allocatable.memory.0 == 0 {
            allocatable.memory = Bytes(1_000_000);
        }
        let profile = match a.get("profile") {
            Some("alert") => Profile::Alert,
            Some("karpenter") => Profile::Karpenter,
            Some("node-policy") => Profile::NodePolicy,
            _ => Profile::ClusterAutoscaler,
        };
        let template =
            NodeTemplate { labels: a.labels("label:"), taints: a.taints(), allocatable, fittings: None };
        let pool = Pool {
            id: pool_id(name),
            name: name.into(),
            provider: ProviderKind::Simulated,
            profile,
            min: a.count("min", 0),
            max: a.count("max", 10),
            target: a.count("target", 0),
            template: (!a.has("notemplate")).then_some(template),
            priority: a.get("priority").map_or(0, |v| v.parse().unwrap()),
            price: MicroUsdPerHour(a.number("price").unwrap_or(0)),
            options: PoolOptions {
                utilization_threshold_percent: a.number("threshold").map(|n| n as u32),
                unneeded_time: a.time("unneeded"),
                unready_time: a.time("unready"),
                max_provision_time: a.time("provision"),
                gpu_utilization_threshold_percent: a.number("gputhreshold").map(|n| n as u32),
                max_startup_time: a.time("startup"),
                cool_down: a.time("cooldown"),
                ignore_daemonsets_utilization: None,
            },
            frozen: a.get("frozen").map(Arc::from),
            kind: model::PoolKind::default(),
        };
        self.cluster.apply(Change::Pool(pool.id.clone(), Some(Arc::new(pool))));
    }

    /// Changes one thing of a pool.
    pub(crate) fn change_pool(&mut self, name: &str, change: impl FnOnce(&mut Pool)) {
        let id = pool_id(name);
        let mut pool = Pool::clone(&self.cluster.pools()[&id]);
        change(&mut pool);
        self.cluster.apply(Change::Pool(id, Some(Arc::new(pool))));
    }

    /// A machine; the pool's target counts it unless the attribute `extra` is set.
    pub(crate) fn make_machine(&mut self, name: &str, a: &Attributes<'_>) {
        let pool = a.get("pool").expect("pool=");
        let state = match a.get("state").unwrap_or("running").split_once(':') {
            Some(("failed", code)) => MachineState::Failed { code: code.into(), message: "no".into() },
            _ => match a.get("state") {
                Some("creating") => MachineState::Creating,
                Some("deleting") => MachineState::Deleting,
                _ => MachineState::Running,
            },
        };
        let machine = Machine {
            id: machine_id(name),
            pool: pool_id(pool),
            created_at: self.ago(a.time("age").unwrap_or(SignedDuration::from_hours(24))),
            node: None,
            aliases: Vec::new(),
            direct: None,
            state,
        };
        if machine.state != MachineState::Deleting
            && !a.has("extra")
            && !self.cluster.machines().contains_key(&machine.id)
        {
            self.change_pool(pool, |pool| pool.target += 1);
        }
        self.cluster.apply(Change::Machine(machine.id.clone(), Some(Arc::new(machine))));
    }

    /// A node; with `pool=` also its machine. It looks like the pool's template unless told otherwise.
    pub(crate) fn make_node(&mut self, name: &str, a: &Attributes<'_>) {
        let pool = a.get("pool").map(pool_id);
        if let Some(pool) = pool.filter(|pool| self.cluster.pools()[pool].direct().is_some()) {
            return self.make_direct_node(name, &pool, a);
        }
        let template = a.get("pool").and_then(|pool| self.cluster.pools()[&pool_id(pool)].template.clone());
        if a.has("pool") {
            self.make_machine(name, a);
        }
        let template = template.unwrap_or_default();
        let mut own = a.resources(110);
        if own.memory.0 == 0 {
            own.memory = Bytes(1_000_000);
        }
        let allocatable = if own.cpu.0 > 0 || !a.has("pool") { own } else { template.allocatable };
        let created_at = self.ago(a.time("age").unwrap_or(SignedDuration::from_hours(24)));
        let readiness = match a.get("notready") {
            None => Readiness::Ready { since: created_at },
            Some("") => Readiness::NotReady { since: created_at },
            Some(_) => Readiness::NotReady { since: self.ago(a.time("notready").unwrap()) },
        };
        let mut labels = template.labels;
        labels.extend(a.labels("label:"));
        labels.insert("kubernetes.io/hostname".into(), name.into());
        let mut taints = template.taints;
        taints.extend(a.taints());
        let node = Node {
            name: NodeName::from(name),
            uid: format!("node-{name}").into(),
            machine: (a.has("pool") || a.has("machine")).then(|| machine_id(name)),
            addresses: Vec::new(),
            labels,
            annotations: a.labels("annotation:"),
            taints,
            unschedulable: a.has("cordoned"),
            allocatable,
            readiness,
            fittings: None,
            conditions: if a.has("pressure") { vec![NodeCondition::DiskPressure] } else { Vec::new() },
            created_at,
            deleting: a.has("deleting"),
        };
        self.cluster.apply(Change::Node(node.name.clone(), Some(Arc::new(node))));
    }

    pub(crate) fn change_node(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        let name = NodeName::from(name);
        let Some(node) = self.cluster.nodes().get(&name) else { return };
        let mut node = Node::clone(node);
        change(&mut node);
        self.cluster.apply(Change::Node(name, Some(Arc::new(node))));
    }

    /// A pod; bound with `on=`, else refused by the scheduler just now.
    pub(crate) fn make_pod(&mut self, name: &str, a: &Attributes<'_>) {
        let namespace = a.get("ns").unwrap_or("default");
        let on = a.get("on").filter(|v| !v.is_empty());
        let created_at = self.ago(a.time("age").unwrap_or(SignedDuration::from_secs(10)));
        let owner = a.get("owner").unwrap_or("rs/web");
        let daemon = owner.starts_with("ds/");
        let unmodelled: Vec<UnmodelledRule> = a.get("unmodelled").map(rule).into_iter().collect();
        let ended = match a.get("phase") {
            Some("succeeded") => Some(PodPhase::Succeeded),
            Some("failed") => Some(PodPhase::Failed),
            _ => None,
        };
        let pod = Pod {
            key: PodKey::new(namespace, name),
            uid: format!("pod-{namespace}-{name}").into(),
            shape: Arc::new(shape(a, unmodelled)),
            labels: a.labels("label:"),
            owner: owner_of(namespace, owner),
            created_at,
            phase: ended.unwrap_or(if on.is_some() { PodPhase::Running } else { PodPhase::Pending }),
            ready: on.is_some() && !a.has("notready"),
            node: on.map(NodeName::from),
            nominated: a.get("nominated").map(NodeName::from),
            unschedulable_since: (on.is_none() && !a.has("new") && !a.has("gated")).then_some(created_at),
            gated: a.has("gated"),
            deletion_at: a.time("terminating").map(|left| self.now.checked_add(left).unwrap()),
            grace_seconds: a.count("grace", 30),
            safe_to_evict: match a.get("evict") {
                Some("no") => SafeToEvict::No,
                Some("yes") => SafeToEvict::Yes,
                Some("oncompletion") => SafeToEvict::OnCompletion,
                _ => SafeToEvict::Unset,
            },
            mirror: a.has("mirror"),
            daemon: daemon || a.has("daemon"),
            terminal: a.has("terminal") || ended.is_some(),
            local_volumes: a
                .prefixed("local:")
                .map(|(name, v)| LocalVolume { name: name.into(), exempt: v == "exempt" })
                .collect(),
            claims: None,
            scale_up_delay_seconds: a.number("delay").map(|n| n as u32),
            consumes: a.get("consumes").map(Arc::from),
            evict_daemon: a.get("evictdaemon").map(|value| value == "yes"),
        };
        self.cluster.apply(Change::Pod(pod.key.clone(), Some(Arc::new(pod))));
        self.count_replica(namespace, owner);
    }

    pub(crate) fn change_pod(&mut self, key: &PodKey, change: impl FnOnce(&mut Pod)) {
        let Some(pod) = self.cluster.pods().get(key) else { return };
        let mut pod = Pod::clone(pod);
        change(&mut pod);
        self.cluster.apply(Change::Pod(key.clone(), Some(Arc::new(pod))));
    }

    /// A pod is gone for good: its owner was told to want one less.
    #[allow(dead_code, reason = "scenarios say it in two lines")]
    pub(crate) fn end_pod(&mut self, key: &PodKey) {
        let owner = self.cluster.pods().get(key).and_then(|pod| pod.owner.clone());
        self.cluster.apply(Change::Pod(key.clone(), None));
        let Some(owner) = owner else { return };
        let workload = WorkloadKey::new(&owner.kind, &key.namespace, &owner.name);
        if let Some(found) = self.cluster.workloads().get(&workload) {
            let mut found = Workload::clone(found);
            found.desired = found.desired.saturating_sub(1);
            self.cluster.apply(Change::Workload(workload, Some(Arc::new(found))));
        }
    }

    /// The owner exists and wants at least the pods that it has.
    fn count_replica(&mut self, namespace: &str, owner: &str) {
        let Some((kind, name)) = owner.split_once('/') else { return };
        let uid: model::Uid = format!("{owner}-{namespace}").as_str().into();
        if kind == "ds" || !["rs", "ss", "job", "rc"].contains(&kind) || name == "gone" {
            return;
        }
        let live = self.cluster.live_pods_of(&uid);
        let key = WorkloadKey::new(kind_of(kind), namespace, name);
        let (desired, blocked) = self
            .cluster
            .workloads()
            .get(&key)
            .map_or((0, false), |workload| (workload.desired, workload.blocked));
        let workload = Workload { key: key.clone(), uid, desired: desired.max(live), blocked, part_of: None };
        self.cluster.apply(Change::Workload(key, Some(Arc::new(workload))));
    }

    #[allow(dead_code, reason = "only scenarios name workloads")]
    pub(crate) fn make_workload(&mut self, owner: &str, a: &Attributes<'_>) {
        let namespace = a.get("ns").unwrap_or("default");
        let (kind, name) = owner.split_once('/').unwrap();
        let key = WorkloadKey::new(kind_of(kind), namespace, name);
        let workload = Workload {
            key: key.clone(),
            uid: format!("{owner}-{namespace}").as_str().into(),
            desired: a.count("desired", 1),
            part_of: None,
            blocked: a.has("blocked"),
        };
        self.cluster.apply(Change::Workload(key, Some(Arc::new(workload))));
    }

    /// Room for pods that do not exist; several kinds of them by `cpu=500,250` and `count=2,4`.
    #[allow(dead_code, reason = "only scenarios name headroom")]
    pub(crate) fn make_headroom(&mut self, name: &str, a: &Attributes<'_>) {
        let purpose = match a.get("purpose").unwrap_or("buffer") {
            "booking" => Purpose::Booking,
            "check" => Purpose::Check,
            "whole" => Purpose::Whole,
            _ => Purpose::Buffer,
        };
        let key = headroom_key(name);
        let counts = a.get("count").unwrap_or("1").split(',');
        let mut parts = Vec::new();
        for (count, cpu) in counts.zip(a.get("cpu").unwrap_or("0").split(',').cycle()) {
            let shape = Arc::new(shape(&a.with("cpu", cpu), Vec::new()));
            let count = count.parse().unwrap();
            parts.push(HeadroomPart { shape, labels: a.labels("label:"), count });
        }
        let at = |key| a.time(key).map(|wait| self.now.checked_add(wait).unwrap());
        let (from, until) = (at("from"), at("until"));
        let headroom = Headroom { key: key.clone(), purpose, from, until, parts };
        self.cluster.apply(Change::Headroom(key, Some(Arc::new(headroom))));
    }

    pub(crate) fn make_daemon_set(&mut self, name: &str, a: &Attributes<'_>) {
        let key = DaemonSetKey::new(a.get("ns").unwrap_or("default"), name);
        let uid = format!("ds/{name}-{}", key.namespace).as_str().into();
        let set = DaemonSet {
            key: key.clone(),
            uid,
            shape: Arc::new(shape(a, Vec::new())),
            labels: a.labels("label:"),
        };
        self.cluster.apply(Change::DaemonSet(key, Some(Arc::new(set))));
    }

    pub(crate) fn make_pdb(&mut self, name: &str, a: &Attributes<'_>) {
        let key = PdbKey::new(a.get("ns").unwrap_or("default"), name);
        let pdb = Pdb {
            key: key.clone(),
            selector: Some(LabelSelector { match_labels: a.labels("label:"), ..Default::default() }),
            disruptions_allowed: a.count("allowed", 0),
            status_is_current: !a.has("stale"),
            unhealthy_pod_eviction: if a.has("always") {
                UnhealthyPodEviction::AlwaysAllow
            } else {
                UnhealthyPodEviction::IfHealthyBudget
            },
        };
        self.cluster.apply(Change::Pdb(key, Some(Arc::new(pdb))));
    }

    pub(super) fn next_machine(&mut self) -> u32 {
        self.machines += 1;
        self.machines
    }

    pub(super) fn next_birth(&mut self) -> u32 {
        self.births += 1;
        self.births
    }
}

pub(crate) fn machine_id(name: &str) -> MachineId {
    MachineId::from(format!("simulated://{name}"))
}

pub(super) fn kind_of(short: &str) -> &str {
    match short {
        "rs" => "ReplicaSet",
        "ss" => "StatefulSet",
        "job" => "Job",
        "rc" => "ReplicationController",
        "ds" => "DaemonSet",
        other => other,
    }
}

fn rule(name: &str) -> UnmodelledRule {
    match name {
        "volume" => UnmodelledRule::Volumes,
        _ => UnmodelledRule::ResourceClaims,
    }
}

pub(super) fn shape(a: &Attributes<'_>, unmodelled: Vec<UnmodelledRule>) -> PodShape {
    let mut requests = a.resources(1);
    requests.pods = 1;
    // Terms speak of pods with the labels that the pod itself has.
    let own = LabelSelector { match_labels: a.labels("label:"), ..Default::default() };
    let tolerations = a.prefixed("tol:").map(|(key, value)| Toleration {
        key: Some(key.into()),
        operator: if value.is_empty() { TolerationOperator::Exists } else { TolerationOperator::Equal },
        value: value.into(),
        effect: None,
    });
    let node_affinity = a.get("node").map(|name| {
        let field =
            Requirement { key: "metadata.name".into(), operator: Operator::In, values: vec![name.into()] };
        vec![NodeSelectorTerm { match_fields: vec![field], ..Default::default() }]
    });
    PodShape {
        requests,
        node_selector: a.labels("select:"),
        node_affinity,
        tolerations: tolerations.collect(),
        host_ports: a
            .number("port")
            .map(|port| HostPort { port: port as u16, protocol: "TCP".into(), address: "".into() })
            .into_iter()
            .collect(),
        priority: a.get("prio").map_or(0, |v| v.parse().unwrap()),
        spread: a.get("spread").map(|text| spread(text, &own)).into_iter().collect(),
        pod_affinity: a.get("near").map(|key| near(key, &own)).into_iter().collect(),
        pod_anti_affinity: a.get("apart").map(|key| near(key, &own)).into_iter().collect(),
        preferences: Preferences {
            spread: a.get("like-spread").map(|text| spread(text, &own)).into_iter().collect(),
            pod_anti_affinity: (a.get("like-apart").map(|key| near(key, &own)).into_iter())
                .map(|term| Weighted { weight: 1, term })
                .collect(),
            ..Preferences::default()
        },
        volumes: volumes(a),
        unmodelled,
    }
}

/// `zone:2` is a spread over zones with a skew of 2.
fn spread(text: &str, selector: &LabelSelector) -> SpreadConstraint {
    let (key, skew) = text.split_once(':').unwrap_or((text, "1"));
    SpreadConstraint {
        topology_key: key.into(),
        max_skew: skew.parse().unwrap(),
        selector: Some(selector.clone()),
        min_domains: 1,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
    }
}

fn near(key: &str, selector: &LabelSelector) -> PodTerm {
    PodTerm {
        topology_key: key.into(),
        selector: Some(selector.clone()),
        namespaces: Vec::new(),
        namespace_selector: None,
    }
}

fn owner_of(namespace: &str, owner: &str) -> Option<Owner> {
    let (kind, name) = owner.split_once('/')?;
    let uid = format!("{owner}-{namespace}").as_str().into();
    Some(Owner { kind: kind_of(kind).into(), name: name.into(), uid })
}

/// `volume-in=KEY:VALUE` is a bound volume that such nodes can use, `volume-made-in=` one that can be made there,
/// `volume=unbound` one that should be bound by now.
fn volumes(a: &Attributes<'_>) -> Option<Arc<VolumeNeeds>> {
    let place = |name: &str| {
        let (key, value) = a.get(name)?.split_once(':')?;
        let in_it = Requirement { key: key.into(), operator: Operator::In, values: vec![value.into()] };
        Some(vec![NodeSelectorTerm { match_expressions: vec![in_it], match_fields: Vec::new() }])
    };
    let unbound = |allowed_topologies| UnboundVolume {
        class: "zonal".into(),
        request: Bytes(1 << 30),
        access_modes: Vec::new(),
        mode: model::VolumeMode::Filesystem,
        attributes_class: "".into(),
        selector: None,
        kept: None,
        selected_node: None,
        provisionable: true,
        allowed_topologies,
        room_on: None,
    };
    let needs = VolumeNeeds {
        refused: (a.get("volume") == Some("unbound")).then_some(VolumeRefusal::UnboundImmediate),
        bound: place("volume-in").into_iter().collect(),
        unbound: place("volume-made-in").into_iter().map(unbound).collect(),
        ..VolumeNeeds::default()
    };
    (!needs.is_empty()).then(|| Arc::new(needs))
}
