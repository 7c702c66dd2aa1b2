//! Every rule of scheduling, asked again of a finished placement: nodes that exist and machines that a plan adds,
//! with all their pods.
//!
//! Looks pod by pod and shares nothing with packing. Only pods that the plan places are asked for: what stands already
//! may break rules that changed since. A rule counts as kept when the end state keeps it, in whatever order pods came.

use crate::violation::{Rule, Violation};
use model::{
    Cluster, Decision, Effect, HostPort, Labels, Node, NodeInclusion, Pod, PodKey, PodPhase, PodShape,
    PodTerm, PoolId, Reason, Resources, SpreadConstraint, Taint,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// A node, or a machine that is to come, with its pods.
struct Place<'c> {
    name: String,
    labels: &'c Labels,
    taints: Vec<&'c Taint>,
    allocatable: &'c Resources,
    cordoned: bool,
    /// Requests of what runs there besides pods that are known by name: DaemonSets of a new machine.
    overhead: Vec<&'c PodShape>,
    pods: Vec<&'c Arc<Pod>>,
    /// How many of the pods, at the end of the list, the plan put there.
    fresh: usize,
}

impl Place<'_> {
    /// The domain by a topology key; host names of new machines are their own.
    fn domain(&self, key: &str) -> Option<&str> {
        match self.labels.get(key) {
            Some(value) => Some(value),
            None if key == HOSTNAME => Some(&self.name),
            None => None,
        }
    }

    fn admits(&self, shape: &PodShape) -> bool {
        self.matches_affinity(shape) && self.bears(shape)
    }

    fn matches_affinity(&self, shape: &PodShape) -> bool {
        let terms = shape.node_affinity.as_ref();
        shape.node_selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
            && terms.is_none_or(|terms| terms.iter().any(|term| term.matches(&self.name, self.labels)))
    }

    fn bears(&self, shape: &PodShape) -> bool {
        let hard = self.taints.iter().filter(|taint| taint.effect != Effect::PreferNoSchedule);
        hard.into_iter().all(|taint| shape.tolerations.iter().any(|toleration| toleration.tolerates(taint)))
    }
}

/// Checks where a decision puts pods: those that it says fit on nodes, and those of the machines that it adds.
pub fn check_arrangement(cluster: &Cluster, decision: &Decision) -> Vec<Violation> {
    let mut found = Vec::new();
    let places = places(cluster, decision, &mut found);
    for place in &places {
        check_load(place, &mut found);
    }
    let census = Census::of(cluster, &places);
    for (at, place) in places.iter().enumerate() {
        // Pods that are alike stand or fall together.
        let mut seen: BTreeSet<(*const PodShape, &Labels, &str)> = BTreeSet::new();
        for pod in fresh(place) {
            if seen.insert((Arc::as_ptr(&pod.shape), &pod.labels, &pod.key.namespace)) {
                census.check(pod, at, &mut found);
            }
        }
    }
    found
}

fn fresh<'p, 'c>(place: &'p Place<'c>) -> impl Iterator<Item = &'c Arc<Pod>> + use<'p, 'c> {
    place.pods[place.pods.len() - place.fresh..].iter().copied()
}

fn places<'c>(cluster: &'c Cluster, decision: &'c Decision, found: &mut Vec<Violation>) -> Vec<Place<'c>> {
    let mut places: Vec<Place<'c>> = Vec::new();
    let mut by_name = BTreeMap::new();
    for node in cluster.nodes().values() {
        by_name.insert(&node.name, places.len());
        places.push(standing(cluster, node));
    }
    for (key, reason) in &decision.verdicts.pods {
        if let (Reason::FitsOn { node }, Some(pod)) = (reason, cluster.pods().get(key)) {
            match by_name.get(node) {
                Some(at) => {
                    places[*at].pods.push(pod);
                    places[*at].fresh += 1;
                }
                None => found.push(wrong(key, format!("is to run on {node}, which is no node"))),
            }
        }
    }
    let mut placed: BTreeSet<&PodKey> = BTreeSet::new();
    for (number, machine) in decision.growth.machines.iter().enumerate() {
        let Some(mut place) = promised(cluster, &machine.pool, machine.flavour, number) else {
            found.push(wrong(&machine.pool, "adds a machine of a pool or kind that there is not".to_owned()));
            continue;
        };
        for key in machine.pods.iter() {
            match cluster.pods().get(key) {
                Some(pod) if placed.insert(key) => place.pods.push(pod),
                Some(_) => found.push(wrong(key, "is placed twice".to_owned())),
                None => found.push(wrong(key, "is placed and does not exist".to_owned())),
            }
        }
        place.fresh = place.pods.len();
        places.push(place);
    }
    places
}

fn standing<'c>(cluster: &'c Cluster, node: &'c Node) -> Place<'c> {
    let live = |pod: &&Arc<Pod>| !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    Place {
        name: node.name.to_string(),
        labels: &node.labels,
        taints: node.taints.iter().collect(),
        allocatable: &node.allocatable,
        cordoned: node.unschedulable,
        overhead: Vec::new(),
        pods: cluster.pods_on(&node.name).filter(live).collect(),
        fresh: 0,
    }
}

fn promised<'c>(cluster: &'c Cluster, pool: &PoolId, flavour: u32, number: usize) -> Option<Place<'c>> {
    let pool = cluster.pools().get(pool)?;
    let template = match pool.direct() {
        Some(direct) => &direct.flavours().get(flavour as usize)?.template,
        None => pool.template.as_ref()?,
    };
    let mut place = Place {
        name: format!("{}-new-{number}", pool.id),
        labels: &template.labels,
        taints: template.taints.iter().filter(|taint| !crate::fit::passes_away(taint)).collect(),
        allocatable: &template.allocatable,
        cordoned: false,
        overhead: Vec::new(),
        pods: Vec::new(),
        fresh: 0,
    };
    let sets = cluster.daemon_sets().values().map(|set| &*set.shape);
    place.overhead = sets.filter(|shape| place.admits(shape)).collect();
    Some(place)
}

fn wrong(subject: impl std::fmt::Display, detail: String) -> Violation {
    Violation::new(Rule::Placement, subject, detail)
}

/// What the place itself has a say in: resources, host ports, taints, labels.
fn check_load(place: &Place<'_>, found: &mut Vec<Violation>) {
    if place.fresh == 0 {
        return;
    }
    let mut all = Resources::default();
    let mut ports: Vec<&HostPort> = Vec::new();
    let standing = place.pods.len() - place.fresh;
    for shape in place.overhead.iter().copied().chain(place.pods.iter().map(|pod| &*pod.shape)) {
        all.add(&shape.requests);
    }
    for shape in place.overhead.iter().copied().chain(place.pods[..standing].iter().map(|pod| &*pod.shape)) {
        ports.extend(&shape.host_ports);
    }
    for short in all.short_of(place.allocatable) {
        found.push(wrong(&place.name, format!("{short} is overcommitted")));
    }
    for pod in fresh(place) {
        for port in &pod.shape.host_ports {
            if ports.iter().any(|taken| taken.conflicts_with(port)) {
                found
                    .push(wrong(&pod.key, format!("its host port {} is taken on {}", port.port, place.name)));
            }
        }
        ports.extend(&pod.shape.host_ports);
        if place.cordoned {
            found.push(wrong(&pod.key, format!("{} is cordoned", place.name)));
        }
        if !place.bears(&pod.shape) {
            found.push(wrong(&pod.key, format!("does not tolerate a taint of {}", place.name)));
        }
        if !place.matches_affinity(&pod.shape) {
            found.push(wrong(&pod.key, format!("its node selector or affinity refuses {}", place.name)));
        }
    }
}

/// Pods of one namespace with one set of labels, by place.
type Kinds<'c> = BTreeMap<(&'c str, &'c Labels), BTreeMap<usize, u32>>;

/// Who is where.
struct Census<'p, 'c> {
    cluster: &'c Cluster,
    places: &'p [Place<'c>],
    kinds: Kinds<'c>,
    /// Anti-affinity terms with the namespace of their pods and the places where those are.
    repelling: BTreeMap<(&'c PodTerm, &'c str), BTreeMap<usize, u32>>,
}

impl<'p, 'c> Census<'p, 'c> {
    fn of(cluster: &'c Cluster, places: &'p [Place<'c>]) -> Self {
        let mut census = Self { cluster, places, kinds: Kinds::new(), repelling: BTreeMap::new() };
        let fresh_pods = || places.iter().flat_map(fresh);
        // Only where some pod speaks of pods does it matter who is where.
        let speaks = fresh_pods().any(|pod| pod.shape.depends_on_pods());
        for (at, place) in places.iter().enumerate() {
            for pod in &place.pods {
                let namespace: &'c str = &pod.key.namespace;
                for term in &pod.shape.pod_anti_affinity {
                    *census.repelling.entry((term, namespace)).or_default().entry(at).or_default() += 1;
                }
                if speaks {
                    *census.kinds.entry((namespace, &pod.labels)).or_default().entry(at).or_default() += 1;
                }
            }
        }
        census
    }

    fn check(&self, pod: &'c Pod, at: usize, found: &mut Vec<Violation>) {
        let place = &self.places[at];
        for (term, owner) in self.repelling.keys() {
            if self.speaks_of(term, owner, &pod.key.namespace, &pod.labels)
                && self.others_with(term, owner, pod, at) > 0
            {
                let detail =
                    format!("{}: a pod there wants it not within its {}", place.name, term.topology_key);
                found.push(wrong(&pod.key, detail));
            }
        }
        for term in &pod.shape.pod_anti_affinity {
            if self.matching(std::slice::from_ref(term), pod, Some(at)) > 0 {
                let detail = format!("{}: it wants no such pod within its {}", place.name, term.topology_key);
                found.push(wrong(&pod.key, detail));
            }
        }
        self.check_affinity(pod, at, found);
        for constraint in &pod.shape.spread {
            self.check_spread(constraint, pod, at, found);
        }
    }

    fn speaks_of(&self, term: &PodTerm, owner: &str, namespace: &str, labels: &Labels) -> bool {
        let of_namespace = self.cluster.namespaces().get(namespace).map(AsRef::as_ref);
        term.selector.as_ref().is_some_and(|selector| selector.matches(labels))
            && term.covers_namespace(owner, namespace, of_namespace)
    }

    /// Pods with this term in the pod's domain, itself left out.
    fn others_with(&self, term: &PodTerm, owner: &str, pod: &Pod, at: usize) -> u32 {
        let Some(domain) = self.places[at].domain(&term.topology_key) else { return 0 };
        let there = |place: usize| self.places[place].domain(&term.topology_key) == Some(domain);
        let holders = self.repelling.get(&(term, owner)).into_iter().flatten();
        let all: u32 = holders.filter(|(place, _)| there(**place)).map(|(_, count)| count).sum();
        let own = *owner == *pod.key.namespace && pod.shape.pod_anti_affinity.contains(term);
        all - u32::from(own && all > 0)
    }

    /// Pods that all the terms speak of, in the domain of a place or anywhere, the pod itself left out.
    fn matching(&self, terms: &[PodTerm], pod: &Pod, at: Option<usize>) -> u32 {
        let Some(term) = terms.first() else { return 0 };
        let key = &term.topology_key;
        let domain = at.map(|at| self.places[at].domain(key));
        if domain == Some(None) {
            return 0;
        }
        let owner = &pod.key.namespace;
        let mut count = 0;
        for ((namespace, labels), by_place) in &self.kinds {
            if terms.iter().all(|term| self.speaks_of(term, owner, namespace, labels)) {
                let there = |place: &usize| domain.is_none_or(|d| self.places[*place].domain(key) == d);
                count += by_place.iter().filter(|(place, _)| there(place)).map(|(_, n)| n).sum::<u32>();
            }
        }
        let own = terms.iter().all(|term| self.speaks_of(term, owner, owner, &pod.labels));
        count - u32::from(own && count > 0)
    }

    fn check_affinity(&self, pod: &Pod, at: usize, found: &mut Vec<Violation>) {
        let terms = &pod.shape.pod_affinity;
        if terms.is_empty() {
            return;
        }
        let owner = &pod.key.namespace;
        let itself = terms.iter().all(|term| self.speaks_of(term, owner, owner, &pod.labels));
        for term in terms {
            let key = &term.topology_key;
            let Some(domain) = self.places[at].domain(key) else {
                found.push(wrong(&pod.key, format!("{} has no label {key}", self.places[at].name)));
                continue;
            };
            let mut near = 0;
            let mut anywhere = 0;
            for ((namespace, labels), by_place) in &self.kinds {
                if terms.iter().all(|term| self.speaks_of(term, owner, namespace, labels)) {
                    for (place, count) in by_place {
                        anywhere += count;
                        near += if self.places[*place].domain(key) == Some(domain) { *count } else { 0 };
                    }
                }
            }
            let (near, anywhere) = (near - u32::from(itself), anywhere - u32::from(itself));
            // The first of its kind may start a domain, as long as there is no other.
            if near == 0 && !(itself && anywhere == 0) {
                let detail = format!("no pod that it wants to be with is in its {key} {domain}");
                found.push(wrong(&pod.key, detail));
            }
        }
    }

    fn check_spread(&self, constraint: &SpreadConstraint, pod: &Pod, at: usize, found: &mut Vec<Violation>) {
        let key = &constraint.topology_key;
        let Some(domain) = self.places[at].domain(key) else {
            found.push(wrong(&pod.key, format!("{} has no label {key}", self.places[at].name)));
            return;
        };
        let honors = |policy: NodeInclusion| policy == NodeInclusion::Honor;
        let keys: Vec<&str> = pod.shape.spread.iter().map(|other| &*other.topology_key).collect();
        let counts_place = |place: &Place<'_>| {
            keys.iter().all(|key| place.domain(key).is_some())
                && (!honors(constraint.node_affinity_policy) || place.matches_affinity(&pod.shape))
                && (!honors(constraint.node_taints_policy) || place.bears(&pod.shape))
        };
        let included: Vec<bool> = self.places.iter().map(counts_place).collect();
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for (place, _) in self.places.iter().zip(&included).filter(|(_, included)| **included) {
            counts.entry(place.domain(key).unwrap_or_default()).or_default();
        }
        let empty = |s: &model::LabelSelector| s.match_labels.is_empty() && s.match_expressions.is_empty();
        let selector = constraint.selector.as_ref().filter(|selector| !empty(selector));
        for ((namespace, labels), by_place) in &self.kinds {
            if **namespace == *pod.key.namespace && selector.is_some_and(|selector| selector.matches(labels))
            {
                for (place, count) in by_place.iter().filter(|(place, _)| included[**place]) {
                    *counts.entry(self.places[*place].domain(key).unwrap_or_default()).or_default() += count;
                }
            }
        }
        let least = match counts.values().min() {
            Some(least) if counts.len() >= constraint.min_domains as usize => *least,
            _ => 0,
        };
        let here = counts.get(domain).copied().unwrap_or(0);
        if here > least.saturating_add(constraint.max_skew) {
            let detail =
                format!("{key} {domain} has {here} such pods, the least {least}: more than the allowed skew");
            found.push(wrong(&pod.key, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::{
        Bytes, Change, Growth, LabelSelector, Ledger, MicroUsdPerHour, MilliCpu, NewMachine, NodeTemplate,
        Plan, Pool, PoolKind, PoolOptions, Profile, ProviderKind, Uid, Verdicts,
    };

    fn amount(cpu: u64, pods: u32) -> Resources {
        Resources { cpu: MilliCpu(cpu), memory: Bytes(cpu), pods, ..Resources::default() }
    }

    fn pool(zone: &str) -> Pool {
        Pool {
            id: PoolId::from(zone),
            name: zone.into(),
            provider: ProviderKind::Simulated,
            profile: Profile::ClusterAutoscaler,
            min: 0,
            max: 9,
            target: 0,
            template: Some(NodeTemplate {
                labels: Labels::from([("zone".into(), zone.into())]),
                taints: vec![Taint {
                    key: "of".into(),
                    value: zone.into(),
                    effect: Effect::PreferNoSchedule,
                }],
                allocatable: amount(1000, 10),
                ..NodeTemplate::default()
            }),
            priority: 0,
            price: MicroUsdPerHour(1),
            options: PoolOptions::default(),
            frozen: None,
            kind: PoolKind::default(),
        }
    }

    fn pod(name: &str, shape: &Arc<PodShape>) -> Pod {
        let text = serde_json::json!({
            "key": format!("default/{name}"), "uid": Uid::from(name), "shape": **shape,
            "labels": {"app": "web"}, "createdAt": Timestamp::UNIX_EPOCH,
        });
        serde_json::from_value(text).unwrap()
    }

    /// Machines by zone with the names of their pods, all of one shape.
    fn faults(shape: PodShape, machines: &[(&str, &[&str])]) -> Vec<String> {
        let shape = Arc::new(shape);
        let mut cluster = Cluster::default();
        for zone in ["a", "b"] {
            cluster.apply(Change::Pool(PoolId::from(zone), Some(Arc::new(pool(zone)))));
        }
        let mut growth = Growth::default();
        for (zone, names) in machines {
            let mut pods = Vec::new();
            for name in *names {
                let pod = pod(name, &shape);
                pods.push(pod.key.clone());
                cluster.apply(Change::Pod(pod.key.clone(), Some(Arc::new(pod))));
            }
            growth.machines.push(NewMachine {
                pool: PoolId::from(*zone),
                flavour: 0,
                price: MicroUsdPerHour(1),
                pods: pods.into_iter().collect(),
            });
        }
        let decision = Decision {
            plan: Plan::default(),
            rehearsed: Plan::default(),
            ledger: Ledger::default(),
            verdicts: Verdicts::default(),
            growth,
            wake_at: None,
        };
        check_arrangement(&cluster, &decision).iter().map(|violation| violation.detail.clone()).collect()
    }

    fn web() -> LabelSelector {
        LabelSelector { match_labels: [("app".into(), "web".into())].into(), ..LabelSelector::default() }
    }

    /// Machines by zone with the names of their pods.
    type Machines = &'static [(&'static str, &'static [&'static str])];

    fn term(key: &str) -> PodTerm {
        PodTerm {
            topology_key: key.into(),
            selector: Some(web()),
            namespaces: Vec::new(),
            namespace_selector: None,
        }
    }

    #[test]
    fn each_rule_is_asked() {
        let plain = || PodShape { requests: amount(600, 1), ..PodShape::default() };
        let small = || PodShape { requests: amount(100, 1), ..PodShape::default() };
        let port = HostPort { port: 80, protocol: "TCP".into(), address: "".into() };
        let spread = SpreadConstraint {
            topology_key: "zone".into(),
            max_skew: 1,
            selector: Some(web()),
            min_domains: 2,
            node_affinity_policy: NodeInclusion::Honor,
            node_taints_policy: NodeInclusion::Ignore,
        };
        let ports = || PodShape { host_ports: vec![port.clone()], ..small() };
        let spread = || PodShape { spread: vec![spread.clone()], ..small() };
        let anti = |key| PodShape { pod_anti_affinity: vec![term(key)], ..small() };
        let near = || PodShape { pod_affinity: vec![term("zone")], ..small() };
        let choosy = || PodShape { node_selector: [("zone".into(), "b".into())].into(), ..small() };
        let together: Machines = &[("a", &["p", "q"])];
        let apart: Machines = &[("a", &["p"]), ("b", &["q"])];
        let same_zone: Machines = &[("a", &["p"]), ("a", &["q"])];
        let table: Vec<(PodShape, Machines, &str)> = vec![
            (plain(), together, "cpu is overcommitted"),
            (plain(), apart, ""),
            (small(), &[("a", &["p", "p"])], "placed twice"),
            (ports(), together, "host port 80 is taken"),
            (ports(), apart, ""),
            (spread(), together, "more than the allowed skew"),
            (spread(), apart, ""),
            (anti("kubernetes.io/hostname"), together, "wants no such pod"),
            (anti("kubernetes.io/hostname"), same_zone, ""),
            (anti("zone"), same_zone, "wants no such pod"),
            (near(), apart, "no pod that it wants to be with"),
            (near(), same_zone, ""),
            (choosy(), together, "node selector or affinity"),
        ];
        for (shape, machines, part) in table {
            let found = faults(shape.clone(), machines);
            assert_eq!(part.is_empty(), found.is_empty(), "{machines:?} {shape:?}: {found:?}");
            assert!(part.is_empty() || found.iter().any(|f| f.contains(part)), "{part}: {found:?}");
        }
    }
}
