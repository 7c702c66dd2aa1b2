//! What one cold round costs at the sizes of the published planner benchmarks: a scale-up, a scale-down, and pods
//! that fit nowhere; and what a pod more costs a planner that has decided about its cluster before.
//!
//! `cargo run --release -p nodes --example bench_sizes [up|down|nowhere|one] [NODES]`. Prints the best and the median of
//! some rounds of each, and what was decided. Units: a node "10000m / 10000 B / 100 pods".

#![expect(clippy::expect_used, reason = "an example that cannot go on should stop")]

use jiff::{SignedDuration, Timestamp};
use model::{
    Bytes, Change, Cluster, Input, InputState, Labels, Ledger, Machine, MachineId, MachineState,
    MicroUsdPerHour, MilliCpu, Node, NodeName, NodeTemplate, Pod, PodKey, PodPhase, PodShape, Policies, Pool,
    PoolId, PoolKind, PoolOptions, Profile, ProviderKind, Readiness, Resources, SafeToEvict, Step,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_else(|| "all".to_owned());
    let only: Option<u64> = arguments.next().map(|size| size.parse().expect("NODES is a number"));
    let now = Timestamp::UNIX_EPOCH.saturating_add(SignedDuration::from_hours(1000)).unwrap_or_default();
    let wanted = |kind: &str| what == "all" || what == kind;
    let sizes = |given: &[u64]| only.map_or_else(|| given.to_vec(), |size| vec![size]);
    for size in sizes(&[200, 1000, 5000]).into_iter().filter(|_| wanted("up")) {
        let mut cluster = group(0, now);
        let shape = shape(200, 200);
        (0..size * 50).for_each(|number| pod(&mut cluster, number, &shape, None, now));
        report(&format!("scale-up, {size} nodes, {} pods", size * 50), &cluster, now);
    }
    for size in sizes(&[400, 1000, 5000]).into_iter().filter(|_| wanted("down")) {
        let mut cluster = group(size, now);
        let shape = shape(100, 100);
        (0..size * 40).for_each(|number| pod(&mut cluster, number, &shape, Some(number % size), now));
        report(&format!("scale-down, {size} nodes, {} pods", size * 40), &cluster, now);
    }
    for size in sizes(&[60_000]).into_iter().filter(|_| wanted("nowhere")) {
        let mut cluster = group(200, now);
        let shape = shape(1000, 20_000);
        (0..size).for_each(|number| pod(&mut cluster, number, &shape, None, now));
        report(&format!("{size} pods that fit nowhere, 200 nodes"), &cluster, now);
    }
    for size in sizes(&[5000]).into_iter().filter(|_| wanted("one")) {
        one_more(size, now);
    }
}

/// A pod comes to a cluster that was decided about, is placed, and goes again; a new one each time.
fn one_more(size: u64, now: Timestamp) {
    let mut cluster = group(size, now);
    let running = shape(200, 200);
    (0..size * 30).for_each(|number| pod(&mut cluster, number, &running, Some(number % size), now));
    let (policies, mut planner) = (Policies::default(), nodes::Planner::default());
    let ledger = planner.decide(&cluster, &policies, &Ledger::default(), now).ledger;
    for (kind, one) in [("one that runs there already", running), ("a new kind of pod", shape(300, 100))] {
        let mut times: Vec<Duration> = Vec::new();
        for number in 0..ROUNDS as u64 * 3 {
            let number = size * 30 + number;
            pod(&mut cluster, number, &one, None, now);
            let start = Instant::now();
            let decision = planner.decide(&cluster, &policies, &ledger, now);
            times.push(start.elapsed());
            assert_eq!(
                decision,
                nodes::decide(&cluster, &policies, &ledger, now),
                "equal to a cold decision"
            );
            cluster.apply(Change::Pod(PodKey::new("default", format!("pod-{number}")), None));
        }
        times.sort();
        println!(
            "{:>9.2?} best, {:>9.2?} median: one pod more on {size} nodes, {kind}",
            times[0],
            times[times.len() / 2]
        );
    }
}

fn report(name: &str, cluster: &Cluster, now: Timestamp) {
    let policies = Policies {
        max_nodes_per_scale_up: u32::MAX,
        unneeded_time: SignedDuration::ZERO,
        delay_after_add: SignedDuration::ZERO,
        max_scale_down_parallelism: u32::MAX,
        max_drain_parallelism: u32::MAX,
        ..Policies::default()
    };
    let mut times: Vec<Duration> = Vec::new();
    let mut answer = String::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let decision = nodes::decide(cluster, &policies, &Ledger::default(), now);
        times.push(start.elapsed());
        let bought: u32 = decision
            .plan
            .steps
            .iter()
            .map(|step| if let Step::Buy(buy) = step { buy.to - buy.from } else { 0 })
            .sum();
        let marked = decision.plan.steps.iter().filter(|step| matches!(step, Step::MarkNode(_))).count();
        answer = format!("{bought} bought, {marked} marked");
    }
    times.sort();
    println!("{:>9.2?} best, {:>9.2?} median: {name}: {answer}", times[0], times[ROUNDS / 2]);
}

fn amounts(cpu: u64, memory: u64, pods: u32) -> Resources {
    Resources { cpu: MilliCpu(cpu), memory: Bytes(memory), pods, ..Resources::default() }
}

fn group(nodes: u64, now: Timestamp) -> Cluster {
    let mut cluster = Cluster::default();
    for input in [
        Input::Nodes,
        Input::Pods,
        Input::Workloads,
        Input::DaemonSets,
        Input::Pdbs,
        Input::Pools("simulated".into()),
    ] {
        cluster.apply(Change::Input(input, InputState::Fresh));
    }
    let id = PoolId::from("simulated/group");
    let pool = Pool {
        id: id.clone(),
        name: "group".into(),
        provider: ProviderKind::Simulated,
        profile: Profile::ClusterAutoscaler,
        min: 0,
        max: 10_000,
        target: u32::try_from(nodes).expect("a number of nodes"),
        template: Some(NodeTemplate {
            labels: Labels::new(),
            taints: Vec::new(),
            allocatable: amounts(10_000, 10_000, 100),
            fittings: None,
        }),
        priority: 0,
        price: MicroUsdPerHour(0),
        options: PoolOptions::default(),
        frozen: None,
        kind: PoolKind::default(),
    };
    cluster.apply(Change::Pool(id.clone(), Some(Arc::new(pool))));
    let created_at = now.saturating_sub(SignedDuration::from_hours(30)).unwrap_or(now);
    for number in 0..nodes {
        let name = node_name(number);
        let machine = MachineId::from(format!("simulated://{name}"));
        cluster.apply(Change::Machine(
            machine.clone(),
            Some(Arc::new(Machine {
                id: machine.clone(),
                pool: id.clone(),
                state: MachineState::Running,
                created_at,
                node: Some(name.clone()),
                aliases: Vec::new(),
                direct: None,
            })),
        ));
        let node = Node {
            uid: name.as_str().into(),
            labels: Labels::from([("kubernetes.io/hostname".into(), Arc::from(name.as_str()))]),
            name: name.clone(),
            machine: Some(machine),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable: amounts(10_000, 10_000, 100),
            readiness: Readiness::Ready { since: created_at },
            conditions: Vec::new(),
            created_at,
            deleting: false,
            fittings: None,
            addresses: Vec::new(),
        };
        cluster.apply(Change::Node(name, Some(Arc::new(node))));
    }
    cluster
}

fn node_name(number: u64) -> NodeName {
    NodeName::from(format!("node-{number:04}"))
}

/// Equal pods share their shape, as where they are read.
fn shape(cpu: u64, memory: u64) -> Arc<PodShape> {
    Arc::new(PodShape { requests: amounts(cpu, memory, 1), ..PodShape::default() })
}

fn pod(cluster: &mut Cluster, number: u64, shape: &Arc<PodShape>, node: Option<u64>, now: Timestamp) {
    let name = format!("pod-{number}");
    let pod = Pod {
        key: PodKey::new("default", &name),
        uid: name.as_str().into(),
        shape: Arc::clone(shape),
        labels: Labels::new(),
        owner: None,
        created_at: now.saturating_sub(SignedDuration::from_mins(5)).unwrap_or(now),
        phase: if node.is_some() { PodPhase::Running } else { PodPhase::Pending },
        ready: node.is_some(),
        node: node.map(node_name),
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
    cluster.apply(Change::Pod(pod.key.clone(), Some(Arc::new(pod))));
}
