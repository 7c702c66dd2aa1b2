//! The room against a slow reading of the rules: random clusters, pods coming, going and being tried.
//!
//! The slow side keeps nothing: it counts the pods anew for every question.

use model::{
    Effect, HostPort, LabelSelector, Labels, MilliCpu, Node, NodeInclusion, NodeSelectorTerm, Operator,
    PodShape, PodTerm, PoolRejection, Readiness, Requirement, Resources, SpreadConstraint, Taint, Toleration,
    TolerationOperator,
};
use packing::{ClassIx, Room, SpotIx, Vocabulary};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const WORLDS: u64 = 300;
const STEPS: usize = 40;
const ZONE: &str = "zone";
const HOST: &str = "kubernetes.io/hostname";
const NAMESPACES: [&str; 3] = ["a", "b", "c"];

/// Splitmix: the same worlds on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

fn labels(list: &[(&str, &str)]) -> Labels {
    list.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect()
}

fn node(dice: &mut Dice, number: usize) -> Node {
    let name = format!("n{number}");
    let mut of_node = labels(&[(HOST, &name), ("disk", dice.pick(&["ssd", "hdd"]))]);
    if !dice.one_in(5) {
        of_node.insert(ZONE.into(), dice.pick(&["x", "y", "z"]).into());
    }
    let taint = |effect| Taint { key: "t".into(), value: "".into(), effect };
    let taints = match dice.below(6) {
        0 => vec![taint(Effect::NoSchedule)],
        1 => vec![taint(Effect::PreferNoSchedule)],
        _ => Vec::new(),
    };
    Node {
        name: name.as_str().into(),
        uid: name.as_str().into(),
        machine: None,
        addresses: Vec::new(),
        labels: of_node,
        annotations: BTreeMap::new(),
        taints,
        unschedulable: dice.one_in(10),
        allocatable: Resources {
            cpu: MilliCpu(1000 + 1000 * dice.below(3) as u64),
            pods: 4 + dice.below(4) as u32,
            ..Default::default()
        },
        readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        fittings: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        deleting: false,
    }
}

fn selector(dice: &mut Dice) -> Option<LabelSelector> {
    let requirement = |key: &str, operator, values: &[&str]| Requirement {
        key: key.into(),
        operator,
        values: values.iter().map(|value| Arc::from(*value)).collect(),
    };
    let by = |list: Labels, rest: Vec<Requirement>| {
        Some(LabelSelector { match_labels: list, match_expressions: rest })
    };
    match dice.below(9) {
        0 => None,
        1 => by(Labels::new(), Vec::new()),
        2 => by(Labels::new(), vec![requirement("app", Operator::NotIn, &["web"])]),
        3 => by(Labels::new(), vec![requirement("tier", Operator::Exists, &[])]),
        4 => by(Labels::new(), vec![requirement("app", Operator::In, &["db"])]),
        5 => by(labels(&[("app", "web")]), vec![requirement("tier", Operator::DoesNotExist, &[])]),
        _ => by(labels(&[("app", dice.pick(&["web", "db"]))]), Vec::new()),
    }
}

fn term(dice: &mut Dice) -> PodTerm {
    let namespaces: BTreeSet<Arc<str>> = match dice.below(4) {
        0 => [Arc::from(dice.pick(&NAMESPACES))].into(),
        _ => BTreeSet::new(),
    };
    let namespace_selector = match dice.below(6) {
        0 => Some(LabelSelector::default()),
        1 => Some(LabelSelector { match_labels: labels(&[("team", "x")]), ..Default::default() }),
        _ => None,
    };
    PodTerm {
        topology_key: dice.pick(&[ZONE, HOST, "disk"]).into(),
        selector: selector(dice),
        namespaces: namespaces.into_iter().collect(),
        namespace_selector,
    }
}

fn spread(dice: &mut Dice) -> SpreadConstraint {
    let policy = |dice: &mut Dice| if dice.one_in(2) { NodeInclusion::Honor } else { NodeInclusion::Ignore };
    SpreadConstraint {
        topology_key: dice.pick(&[ZONE, HOST, "disk"]).into(),
        max_skew: 1 + dice.below(2) as u32,
        selector: selector(dice),
        min_domains: 1 + dice.below(4) as u32,
        node_affinity_policy: policy(dice),
        node_taints_policy: policy(dice),
    }
}

fn shape(dice: &mut Dice) -> PodShape {
    let mut shape = PodShape {
        requests: Resources { cpu: MilliCpu(100 * dice.below(6) as u64), pods: 1, ..Default::default() },
        ..Default::default()
    };
    if dice.one_in(3) {
        shape.node_selector = labels(&[("disk", dice.pick(&["ssd", "hdd"]))]);
    }
    if dice.one_in(6) {
        let values = vec![dice.pick(&["x", "y"]).into(), "z".into()];
        let zone = Requirement { key: ZONE.into(), operator: Operator::In, values };
        shape.node_affinity =
            Some(vec![NodeSelectorTerm { match_expressions: vec![zone], ..Default::default() }]);
    }
    if dice.one_in(3) {
        let operator = TolerationOperator::Exists;
        shape.tolerations =
            vec![Toleration { key: Some("t".into()), operator, value: "".into(), effect: None }];
    }
    if dice.one_in(5) {
        let address = dice.pick(&["", "10.0.0.1", "10.0.0.2"]).into();
        shape.host_ports = vec![HostPort { port: 80, protocol: "TCP".into(), address }];
    }
    for _ in 0..dice.below(3) {
        shape.spread.push(spread(dice));
    }
    if dice.one_in(3) {
        shape.pod_affinity = (0..=dice.below(2)).map(|_| term(dice)).collect();
    }
    if dice.one_in(3) {
        shape.pod_anti_affinity = (0..=dice.below(2)).map(|_| term(dice)).collect();
    }
    shape
}

#[derive(Clone, Debug)]
struct Kind {
    shape: Arc<PodShape>,
    namespace: Arc<str>,
    labels: Labels,
    terminating: bool,
}

/// The cluster as the slow side sees it: nodes that are there, and each pod.
#[derive(Clone)]
struct World {
    nodes: Vec<Option<Node>>,
    kinds: Vec<Kind>,
    /// Kind and node of each pod.
    pods: Vec<(usize, usize)>,
    namespaces: BTreeMap<Arc<str>, Arc<Labels>>,
}

impl World {
    fn speaks_of(&self, term: &PodTerm, own: &str, other: &Kind) -> bool {
        let of_namespace = self.namespaces.get(&other.namespace).map(|labels| &**labels);
        term.covers_namespace(own, &other.namespace, of_namespace)
            && term.selector.as_ref().is_some_and(|selector| selector.matches(&other.labels))
    }

    /// Pods on nodes that are there.
    fn present(&self) -> impl Iterator<Item = (&Kind, &Node)> {
        self.pods.iter().filter_map(|(kind, at)| Some((&self.kinds[*kind], self.nodes[*at].as_ref()?)))
    }

    fn refuses(&self, kind: usize, at: usize) -> Option<PoolRejection> {
        let node = self.nodes[at].as_ref()?;
        let pod = &self.kinds[kind];
        let shape = &pod.shape;
        let tolerates = |taint: &Taint| shape.tolerations.iter().any(|t| t.tolerates(taint));
        let cordon = "node.kubernetes.io/unschedulable".into();
        if node.unschedulable
            && !tolerates(&Taint { key: cordon, value: "".into(), effect: Effect::NoSchedule })
        {
            return Some(PoolRejection::Unschedulable);
        }
        let bad = |taint: &&Taint| taint.effect != Effect::PreferNoSchedule && !tolerates(taint);
        if let Some(taint) = node.taints.iter().find(bad) {
            return Some(PoolRejection::UntoleratedTaint { taint: taint.clone() });
        }
        if !wanted(shape, node) {
            return Some(PoolRejection::AffinityMismatch);
        }
        let here = || self.pods.iter().filter(|(_, on)| *on == at).map(|(kind, _)| &self.kinds[*kind].shape);
        let collides = |port: &HostPort| here().any(|s| s.host_ports.iter().any(|p| p.conflicts_with(port)));
        if shape.host_ports.iter().any(collides) {
            return Some(PoolRejection::PortConflict);
        }
        let cpu: u64 = here().map(|s| s.requests.cpu.0).sum();
        let mut short = Vec::new();
        if here().count() as u32 + 1 > node.allocatable.pods {
            short.push(model::ResourceName::new("pods"));
        }
        if shape.requests.cpu.0 > 0 && cpu + shape.requests.cpu.0 > node.allocatable.cpu.0 {
            short.push(model::ResourceName::new("cpu"));
        }
        if !short.is_empty() {
            return Some(PoolRejection::Insufficient { resources: short });
        }
        self.refused_by_spread(pod, node).or_else(|| self.refused_by_affinity(pod, node))
    }

    fn refused_by_spread(&self, pod: &Kind, node: &Node) -> Option<PoolRejection> {
        for constraint in &pod.shape.spread {
            let Some(domain) = node.labels.get(&constraint.topology_key) else {
                return Some(PoolRejection::SpreadLabelMissing);
            };
            let counted = |other: &Node| {
                let honors = |policy| policy == NodeInclusion::Honor;
                let keys = pod.shape.spread.iter().all(|c| other.labels.contains_key(&c.topology_key));
                let untolerated = other.taints.iter().any(|taint| {
                    taint.effect != Effect::PreferNoSchedule
                        && !pod.shape.tolerations.iter().any(|t| t.tolerates(taint))
                });
                keys && (!honors(constraint.node_affinity_policy) || wanted(&pod.shape, other))
                    && (!honors(constraint.node_taints_policy) || !untolerated)
            };
            let mut counts: BTreeMap<&Arc<str>, u32> = BTreeMap::new();
            for other in self.nodes.iter().flatten().filter(|node| counted(node)) {
                counts.entry(&other.labels[&constraint.topology_key]).or_default();
            }
            let selects = |labels: &Labels| constraint.selector.as_ref().is_some_and(|s| s.matches(labels));
            let all = constraint.selector.as_ref() == Some(&LabelSelector::default());
            for (other, on) in self.present().filter(|(_, on)| counted(on)) {
                if !all && !other.terminating && other.namespace == pod.namespace && selects(&other.labels) {
                    *counts.entry(&on.labels[&constraint.topology_key]).or_default() += 1;
                }
            }
            let enough = counts.len() >= constraint.min_domains as usize;
            let fewest = if enough { counts.values().min().copied().unwrap_or(0) } else { 0 };
            let here = counts.get(domain).copied().unwrap_or(0);
            if here + u32::from(selects(&pod.labels)) > fewest + constraint.max_skew {
                return Some(PoolRejection::SpreadMismatch);
            }
        }
        None
    }

    fn refused_by_affinity(&self, pod: &Kind, node: &Node) -> Option<PoolRejection> {
        let near = |key: &str, on: &Node| {
            node.labels.get(key).is_some_and(|value| on.labels.get(key) == Some(value))
        };
        let terms = &pod.shape.pod_affinity;
        let all = |other: &Kind| terms.iter().all(|term| self.speaks_of(term, &pod.namespace, other));
        if !terms.is_empty() {
            if terms.iter().any(|term| !node.labels.contains_key(&term.topology_key)) {
                return Some(PoolRejection::PodAffinityMismatch);
            }
            let met =
                |term: &PodTerm| self.present().any(|(other, on)| all(other) && near(&term.topology_key, on));
            let somebody = self.present().any(|(other, on)| {
                all(other) && terms.iter().any(|term| on.labels.contains_key(&term.topology_key))
            });
            if !terms.iter().all(met) && (somebody || !all(pod)) {
                return Some(PoolRejection::PodAffinityMismatch);
            }
        }
        for term in &pod.shape.pod_anti_affinity {
            let hit = |(other, on): (&Kind, &Node)| {
                self.speaks_of(term, &pod.namespace, other) && near(&term.topology_key, on)
            };
            if self.present().any(hit) {
                return Some(PoolRejection::PodAntiAffinityMismatch);
            }
        }
        let repels = |(other, on): (&Kind, &Node)| {
            other
                .shape
                .pod_anti_affinity
                .iter()
                .any(|term| self.speaks_of(term, &other.namespace, pod) && near(&term.topology_key, on))
        };
        self.present().any(repels).then_some(PoolRejection::ExistingAntiAffinity)
    }
}

fn wanted(shape: &PodShape, node: &Node) -> bool {
    shape.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && shape
            .node_affinity
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|t| t.matches(node.name.as_str(), &node.labels)))
}

fn class(room: &mut Room, kind: &Kind) -> ClassIx {
    if kind.terminating {
        return room.terminating_class(&kind.shape, &kind.namespace, &kind.labels);
    }
    room.class(&kind.shape, &kind.namespace, &kind.labels)
}

fn compare(world: &World, room: &mut Room, what: &str) {
    for kind in 0..world.kinds.len() {
        let class = class(room, &world.kinds[kind]);
        for at in (0..world.nodes.len()).filter(|at| world.nodes[*at].is_some()) {
            let slow = world.refuses(kind, at);
            assert_eq!(room.rejection(class, SpotIx(at)), slow, "{what}: {:?} on {at}", world.kinds[kind]);
            let fits = room.capacity(class, SpotIx(at), 1) == 1;
            assert_eq!(fits, slow.is_none(), "{what}: {:?} on {at}", world.kinds[kind]);
        }
    }
}

/// Some pods placed by the room's own order: each must be allowed when it comes, and none left out that could come.
fn place(world: &mut World, room: &mut Room, kind: usize, count: u32, what: &str) {
    let class = class(room, &world.kinds[kind]);
    let end = world.nodes.len();
    let placed = room.place(class, count, 0..end);
    let mut sum = 0;
    for placed in placed {
        for _ in 0..placed.count {
            assert_eq!(world.refuses(kind, placed.spot.0), None, "{what}: {:?}", world.kinds[kind]);
            world.pods.push((kind, placed.spot.0));
            sum += 1;
        }
    }
    let fits = |at: &usize| world.nodes[*at].is_some() && world.refuses(kind, *at).is_none();
    assert!(sum == count || !(0..end).any(|at| fits(&at)), "{what}: {:?} left out", world.kinds[kind]);
}

fn take_off(world: &mut World, room: &mut Room, dice: &mut Dice) {
    if world.pods.is_empty() {
        return;
    }
    let at = dice.below(world.pods.len());
    let (kind, spot) = world.pods.swap_remove(at);
    let class = class(room, &world.kinds[kind]);
    assert_eq!(room.take_off(class, SpotIx(spot), 1), 1);
}

fn close(world: &mut World, room: &mut Room, dice: &mut Dice) {
    let at = dice.below(world.nodes.len());
    world.nodes[at] = None;
    world.pods.retain(|(_, on)| *on != at);
    room.close(SpotIx(at));
}

#[test]
fn the_room_agrees_with_a_slow_reading_of_the_rules() {
    for seed in 0..WORLDS {
        let dice = &mut Dice(seed);
        let nodes: Vec<Option<Node>> = (0..2 + dice.below(6)).map(|n| Some(node(dice, n))).collect();
        let mut kinds: Vec<Kind> = Vec::new();
        for _ in 0..2 + dice.below(5) {
            let mut of_pod = labels(&[("app", dice.pick(&["web", "db", "job"]))]);
            if dice.one_in(3) {
                of_pod.insert("tier".into(), "front".into());
            }
            of_pod.insert("noise".into(), format!("{}", dice.below(1000)).into());
            let namespace = dice.pick(&NAMESPACES).into();
            let shape = Arc::new(shape(dice));
            kinds.push(Kind { shape, namespace, labels: of_pod, terminating: dice.one_in(8) });
        }
        let namespaces: BTreeMap<Arc<str>, Arc<Labels>> =
            [("a".into(), Arc::new(labels(&[("team", "x")]))), ("b".into(), Arc::default())].into();
        let mut room = Room::new(Vocabulary::of(kinds.iter().map(|kind| &*kind.shape)), &namespaces);
        // Some worlds name their classes before there are nodes, some after pods have come.
        if dice.one_in(2) {
            for kind in &kinds {
                class(&mut room, kind);
            }
        }
        for node in nodes.iter().flatten() {
            room.add(Arc::new(node.clone()));
        }
        let mut world = World { nodes, kinds, pods: Vec::new(), namespaces };
        let mut marks = Vec::new();
        for step in 0..STEPS {
            let what = format!("seed {seed} step {step}");
            match dice.below(10) {
                0 => take_off(&mut world, &mut room, dice),
                1 if dice.one_in(3) => close(&mut world, &mut room, dice),
                2 => marks.push((room.mark(), world.clone())),
                3 => {
                    if let Some((mark, before)) = marks.pop() {
                        room.rollback(mark);
                        world = before;
                    }
                }
                _ => {
                    let kind = dice.below(world.kinds.len());
                    let count = 1 + dice.below(4) as u32;
                    place(&mut world, &mut room, kind, count, &what);
                }
            }
            compare(&world, &mut room, &what);
        }
    }
}
