//! The order in which news of pods, nodes and pools comes changes nothing: equal clusters, equal decisions.

use jiff::Timestamp;
use model::{
    Bytes, CapacityType, Change, Cluster, DirectPool, DirectSpec, Input, InputState, InstanceType,
    LabelSelector, Labels, Ledger, MicroUsdPerHour, MilliCpu, Node, NodeInclusion, NodeName, NodeTemplate,
    Offering, Pod, PodKey, PodPhase, PodShape, PodTerm, Policies, Pool, PoolId, PoolKind, PoolOptions,
    Profile, ProviderKind, Resources, SafeToEvict, SpreadConstraint,
};
use std::sync::Arc;

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

/// A generator of numbers (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % limit
    }
}

fn amounts(cores: u64, pods: u32) -> Resources {
    Resources { cpu: MilliCpu(cores * 500), memory: Bytes(cores << 30), pods, ..Resources::default() }
}

fn pool(name: &str, price: u64, kind: PoolKind) -> Change {
    let labels = Labels::from([(ZONE.into(), "zone-0".into())]);
    let template = NodeTemplate { labels, allocatable: amounts(8, 20), ..NodeTemplate::default() };
    let id = PoolId::from(format!("simulated/{name}"));
    let group = matches!(kind, PoolKind::Group { .. });
    let pool = Pool {
        id: id.clone(),
        name: name.into(),
        provider: ProviderKind::Simulated,
        profile: if group { Profile::ClusterAutoscaler } else { Profile::Karpenter },
        min: 0,
        max: 50,
        target: 0,
        template: group.then_some(template),
        priority: 0,
        price: MicroUsdPerHour(price),
        options: PoolOptions::default(),
        frozen: None,
        kind,
    };
    Change::Pool(id, Some(Arc::new(pool)))
}

/// Types whose prices collide, so that ties are many.
fn direct() -> PoolKind {
    let kind = |cores: u64| InstanceType {
        name: format!("type-{cores}").into(),
        requirements: Vec::new(),
        capacity: amounts(cores, 20),
        allocatable: amounts(cores, 20),
        offerings: (0..3)
            .map(|zone| Offering {
                zone: format!("zone-{zone}").into(),
                capacity_type: CapacityType::OnDemand,
                price: MicroUsdPerHour(cores * 10_000),
                available: true,
                remaining: None,
            })
            .collect(),
    };
    let spec = DirectSpec { catalogue: Arc::new([4, 8, 16].map(kind).to_vec()), ..DirectSpec::default() };
    PoolKind::Direct(Arc::new(DirectPool::new(spec)))
}

fn shape(kind: u64, cores: u64) -> PodShape {
    let labels = Labels::from([("app".into(), format!("app-{kind}").into())]);
    let selector = Some(LabelSelector { match_labels: labels, match_expressions: Vec::new() });
    let mut shape = PodShape { requests: amounts(cores, 1), ..PodShape::default() };
    match kind {
        0 => {
            shape.spread = vec![SpreadConstraint {
                topology_key: ZONE.into(),
                max_skew: 1,
                selector,
                min_domains: 1,
                node_affinity_policy: NodeInclusion::Honor,
                node_taints_policy: NodeInclusion::Ignore,
            }];
        }
        1 => {
            let (namespaces, namespace_selector) = (Vec::new(), None);
            let term = PodTerm { topology_key: HOST.into(), selector, namespaces, namespace_selector };
            shape.pod_anti_affinity = vec![term];
        }
        _ => {}
    }
    shape
}

fn pod(number: u64, dice: &mut Dice, node: Option<&str>, now: Timestamp) -> Change {
    let kind = dice.below(4);
    let name = format!("pod-{number}");
    let pod = Pod {
        key: PodKey::new("default", &name),
        uid: name.as_str().into(),
        shape: Arc::new(shape(kind, 1 + dice.below(3))),
        labels: Labels::from([("app".into(), format!("app-{kind}").into())]),
        owner: None,
        created_at: Timestamp::UNIX_EPOCH,
        phase: if node.is_some() { PodPhase::Running } else { PodPhase::Pending },
        ready: node.is_some(),
        node: node.map(NodeName::from),
        nominated: None,
        unschedulable_since: node.is_none().then_some(now),
        gated: false,
        deletion_at: None,
        grace_seconds: 30,
        safe_to_evict: SafeToEvict::Yes,
        mirror: false,
        daemon: false,
        terminal: false,
        local_volumes: Vec::new(),
        scale_up_delay_seconds: None,
        consumes: None,
        evict_daemon: None,
        claims: None,
    };
    Change::Pod(pod.key.clone(), Some(Arc::new(pod)))
}

fn news(dice: &mut Dice, now: Timestamp) -> Vec<Change> {
    let mut all = vec![
        pool("direct-a", 0, direct()),
        pool("direct-b", 0, direct()),
        pool("group-a", 40_000, PoolKind::default()),
        pool("group-b", 40_000, PoolKind::default()),
    ];
    let inputs = [Input::Nodes, Input::Pods, Input::Workloads, Input::DaemonSets, Input::Pdbs];
    let inputs = inputs.into_iter().chain([Input::Pools("simulated".into())]);
    all.extend(inputs.map(|input| Change::Input(input, InputState::Fresh)));
    for number in 0..6 {
        let name = format!("node-{number}");
        let labels = Labels::from([
            (HOST.into(), name.as_str().into()),
            (ZONE.into(), format!("zone-{}", number % 3).into()),
        ]);
        let template = NodeTemplate { labels, allocatable: amounts(6, 20), ..NodeTemplate::default() };
        all.push(Change::Node(
            NodeName::from(name.as_str()),
            Some(Arc::new(Node::promised(&name, &template))),
        ));
        all.push(pod(100 + number, dice, Some(&name), now));
    }
    all.extend((0..40).map(|number| pod(number, dice, None, now)));
    all
}

#[test]
fn the_order_of_news_changes_nothing() {
    let now = Timestamp::from_second(1_000_000).expect("a time");
    let mut bought = 0;
    for seed in 0..30 {
        let mut dice = Dice(seed);
        let mut changes = news(&mut dice, now);
        let decide = |changes: &[Change]| {
            let mut cluster = Cluster::default();
            for change in changes {
                cluster.apply(change.clone());
            }
            nodes::decide(&cluster, &Policies::default(), &Ledger::default(), now)
        };
        let first = decide(&changes);
        bought += first.plan.steps.len();
        for _ in 0..3 {
            for at in (1..changes.len()).rev() {
                changes.swap(at, dice.below(at as u64 + 1) as usize);
            }
            let other = decide(&changes);
            assert_eq!(first.plan, other.plan, "seed {seed}");
            assert_eq!(first.growth, other.growth, "seed {seed}");
            assert_eq!(first.ledger, other.ledger, "seed {seed}");
            assert!(first.verdicts == other.verdicts, "seed {seed}");
        }
    }
    assert!(bought > 30, "{bought}");
}
