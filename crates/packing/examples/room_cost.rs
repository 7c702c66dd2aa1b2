//! What the room's work costs on a large cluster: 5,000 nodes, 150,000 pods of 500 Deployments.
//!
//! `cargo run --release -p packing --example room_cost`. Prints the median of some runs of each kind.

use model::{
    Bytes, LabelSelector, Labels, MilliCpu, Node, NodeInclusion, PodShape, PodTerm, Readiness, Resources,
    SpreadConstraint,
};
use packing::{ClassIx, Room, SpotIx, Vocabulary};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODES: usize = 5000;
const DEPLOYMENTS: usize = 500;
const PODS: usize = 150_000;
const RUNS: usize = 9;
const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

struct Pod {
    shape: Arc<PodShape>,
    namespace: Arc<str>,
    labels: Labels,
}

fn main() {
    let nodes: Vec<Arc<Node>> = (0..NODES).map(|n| Arc::new(node(n, 64_000, 110))).collect();
    let deployments: Vec<Arc<PodShape>> = (0..DEPLOYMENTS).map(|n| Arc::new(shape_of(n))).collect();
    let pods: Vec<Pod> = (0..PODS).map(|n| pod(n, &deployments)).collect();
    time("load 5,000 nodes and 150,000 pods", || load(&nodes, &pods).len());

    let mut room = load(&nodes, &pods);
    let classes: Vec<ClassIx> =
        pods[..DEPLOYMENTS].iter().map(|p| room.class(&p.shape, &p.namespace, &p.labels)).collect();
    time("one pod of each of 500 Deployments added, then taken back", || {
        let mark = room.mark();
        let placed: usize = classes.iter().map(|class| room.place(*class, 1, 0..NODES).len()).sum();
        room.rollback(mark);
        placed
    });
    time("a node closed, its pods placed elsewhere, taken back", || {
        let mark = room.mark();
        room.close(SpotIx(77));
        let held = room.held(SpotIx(77)).to_vec();
        let placed: usize = held.iter().map(|(class, n)| room.place(*class, *n, 0..NODES).len()).sum();
        room.rollback(mark);
        placed
    });
    time("1,000 pods spread over zones, taken back", || {
        let mark = room.mark();
        let placed = room.place(classes[1], 1000, 0..NODES).len();
        room.rollback(mark);
        placed
    });

    hopeless();
    lonely();
}

/// 60,000 pods of one shape that fit on none of 200 nodes.
fn hopeless() {
    let shape = Arc::new(PodShape {
        requests: Resources { cpu: MilliCpu(1000), memory: Bytes(1 << 50), pods: 1, ..Default::default() },
        ..Default::default()
    });
    let nodes: Vec<Arc<Node>> = (0..200).map(|n| Arc::new(node(n, 10_000, 100))).collect();
    let (namespace, labels): (Arc<str>, Labels) = ("d".into(), Labels::new());
    time("60,000 pods that fit on none of 200 nodes", || {
        let mut room = Room::new(Vocabulary::of([&*shape]), &BTreeMap::new());
        for node in &nodes {
            room.add(Arc::clone(node));
        }
        let mut classes = Vec::with_capacity(60_000);
        classes.resize_with(60_000, || room.class(&shape, &namespace, &labels));
        room.place(classes[0], 60_000, 0..200).len()
    });
}

/// One pod that wants no other of its kind on its host, 5,000 nodes that have one and one that has none.
fn lonely() {
    let shape = Arc::new(PodShape {
        pod_anti_affinity: vec![PodTerm {
            topology_key: HOST.into(),
            selector: Some(app("lonely")),
            namespaces: Vec::new(),
            namespace_selector: None,
        }],
        ..plain(100)
    });
    let (namespace, labels): (Arc<str>, Labels) = ("d".into(), [("app".into(), "lonely".into())].into());
    let mut room = Room::new(Vocabulary::of([&*shape]), &BTreeMap::new());
    let class = room.class(&shape, &namespace, &labels);
    for n in 0..=NODES {
        let spot = room.add(Arc::new(node(n, 64_000, 110)));
        if n < NODES {
            room.hold(class, spot, 1);
        }
    }
    time("one pod with hostname anti-affinity against 5,000 nodes that have one", || {
        let mark = room.mark();
        let placed = room.place(class, 1, 0..NODES + 1).len();
        room.rollback(mark);
        placed
    });
}

fn time(name: &str, mut work: impl FnMut() -> usize) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{:>9.2?} median, {:>9.2?} worst: {name}", times[RUNS / 2], times[RUNS - 1]);
}

fn load(nodes: &[Arc<Node>], pods: &[Pod]) -> Room {
    let mut room = Room::new(Vocabulary::of(pods.iter().map(|pod| &*pod.shape)), &BTreeMap::new());
    for node in nodes {
        room.add(Arc::clone(node));
    }
    for (at, pod) in pods.iter().enumerate() {
        let class = room.class(&pod.shape, &pod.namespace, &pod.labels);
        room.hold(class, SpotIx(at % nodes.len()), 1);
    }
    room
}

fn node(number: usize, cpu: u64, pods: u32) -> Node {
    let name = format!("node-{number}");
    let zone = ["a", "b", "c"][number % 3];
    let labels =
        [(HOST, name.as_str()), (ZONE, zone), ("disk", if number.is_multiple_of(2) { "ssd" } else { "hdd" })];
    Node {
        name: name.as_str().into(),
        uid: name.as_str().into(),
        machine: None,
        addresses: Vec::new(),
        labels: labels.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect(),
        annotations: BTreeMap::new(),
        taints: Vec::new(),
        unschedulable: false,
        allocatable: Resources {
            cpu: MilliCpu(cpu),
            memory: Bytes(256 << 30),
            ephemeral_storage: Bytes(1 << 40),
            pods,
            ..Default::default()
        },
        readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        fittings: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        deleting: false,
    }
}

fn app(name: &str) -> LabelSelector {
    LabelSelector { match_labels: [("app".into(), name.into())].into(), ..Default::default() }
}

fn plain(cpu: u64) -> PodShape {
    PodShape {
        requests: Resources { cpu: MilliCpu(cpu), memory: Bytes(128 << 20), pods: 1, ..Default::default() },
        ..Default::default()
    }
}

/// A fifth each: nothing, zone spread, host spread, host anti-affinity, a node selector.
fn shape_of(number: usize) -> PodShape {
    let own = app(&format!("app-{number}"));
    let spread = |key: &str| SpreadConstraint {
        topology_key: key.into(),
        max_skew: 1,
        selector: Some(own.clone()),
        min_domains: 1,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
    };
    let base = plain(100 + (number % 20) as u64 * 50);
    match number % 5 {
        0 => base,
        1 => PodShape { spread: vec![spread(ZONE)], ..base },
        2 => PodShape { spread: vec![spread(HOST)], ..base },
        3 => {
            let term = PodTerm {
                topology_key: HOST.into(),
                selector: Some(own.clone()),
                namespaces: Vec::new(),
                namespace_selector: None,
            };
            PodShape { pod_anti_affinity: vec![term], ..base }
        }
        _ => PodShape { node_selector: [("disk".into(), "ssd".into())].into(), ..base },
    }
}

fn pod(number: usize, deployments: &[Arc<PodShape>]) -> Pod {
    let deployment = number % DEPLOYMENTS;
    let labels = [
        ("app", format!("app-{deployment}")),
        ("pod-template-hash", format!("{deployment:x}")),
        ("team", format!("team-{}", deployment % 10)),
    ];
    Pod {
        shape: Arc::clone(&deployments[deployment]),
        namespace: format!("ns-{}", deployment % 25).into(),
        labels: labels.iter().map(|(k, v)| (Arc::from(*k), Arc::from(v.as_str()))).collect(),
    }
}
