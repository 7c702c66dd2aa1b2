//! What one round costs on a large cluster: 1,000 nodes, 30,000 pods, by what is going on.
//!
//! `cargo run --release -p nodes --example round_cost`. Prints the median of some rounds of each kind.

use jiff::{SignedDuration, Timestamp};
use model::{
    Bytes, Change, Cluster, Input, InputState, Ledger, Machine, MachineId, MachineState, MicroUsdPerHour,
    MilliCpu, Node, NodeName, NodeTemplate, Owner, Pod, PodKey, PodPhase, PodShape, Policies, Pool, PoolId,
    PoolOptions, Profile, ProviderKind, Readiness, Resources, SafeToEvict, Workload, WorkloadKey,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODES: u64 = 1000;
const POOLS: u64 = 10;
const ROUNDS: usize = 25;

fn main() {
    let now = Timestamp::UNIX_EPOCH.saturating_add(SignedDuration::from_hours(1000)).unwrap_or_default();
    for (name, per_node, cpu, pending) in [
        ("all nodes in use, nothing to do", 30, 500, 0),
        ("all nodes in use, 500 pods wait", 30, 500, 500),
        ("all nodes half empty and removable", 30, 200, 0),
        ("every second node half empty, 500 pods wait", 30, 350, 500),
    ] {
        let cluster = cluster(now, per_node, cpu, pending);
        report(name, &cluster, now);
    }
}

fn report(name: &str, cluster: &Cluster, now: Timestamp) {
    let policies = Policies::default();
    let first = nodes::decide(cluster, &policies, &Ledger::default(), now);
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let decision = nodes::decide(cluster, &policies, &first.ledger, now);
            let took = start.elapsed();
            drop(decision);
            took
        })
        .collect();
    times.sort();
    let unneeded = first.ledger.unneeded_since.len();
    let steps = first.plan.steps.len();
    println!(
        "{:>9.2?} median, {:>9.2?} worst: {name} ({} pods, {steps} steps, {unneeded} unneeded)",
        times[ROUNDS / 2],
        times[ROUNDS - 1],
        cluster.pods().len(),
    );
}

fn cluster(now: Timestamp, per_node: u64, cpu: u64, pending: u64) -> Cluster {
    let mut shape = shapes();
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
    let allocatable =
        Resources { cpu: MilliCpu(16_000), memory: Bytes(64 << 30), pods: 110, ..Resources::default() };
    for number in 0..POOLS {
        let pool = pool(number, &allocatable);
        cluster.apply(Change::Pool(pool.id.clone(), Some(Arc::new(pool))));
    }
    for number in 0..NODES {
        let (node, machine) = node(number, &allocatable, now);
        cluster.apply(Change::Machine(machine.id.clone(), Some(Arc::new(machine))));
        // Every second node is the smaller half of the mix, where cpu asks for one.
        let cpu = if cpu == 350 { [200, 500][(number % 2) as usize] } else { cpu };
        for at in 0..per_node {
            let name = format!("pod-{number}-{at}");
            add_pod(&mut cluster, &name, number % 100, &shape(cpu + at % 5), Some(&node.name), now);
        }
        cluster.apply(Change::Node(node.name.clone(), Some(Arc::new(node))));
    }
    for number in 0..pending {
        let shape = shape(1000 + number % 20 * 100);
        add_pod(&mut cluster, &format!("wait-{number}"), number % 100, &shape, None, now);
    }
    cluster
}

fn pool(number: u64, allocatable: &Resources) -> Pool {
    let labels = BTreeMap::from([("pool".into(), Arc::from(number.to_string()))]);
    Pool {
        id: PoolId::from(format!("simulated/pool-{number}")),
        name: format!("pool-{number}").into(),
        provider: ProviderKind::Simulated,
        profile: Profile::ClusterAutoscaler,
        min: 0,
        max: 500,
        target: (NODES / POOLS) as u32,
        template: Some(NodeTemplate {
            labels,
            taints: Vec::new(),
            allocatable: allocatable.clone(),
            fittings: None,
        }),
        priority: 0,
        price: MicroUsdPerHour(100_000 + number),
        options: PoolOptions::default(),
        frozen: None,
        kind: model::PoolKind::default(),
    }
}

fn node(number: u64, allocatable: &Resources, now: Timestamp) -> (Node, Machine) {
    let name = NodeName::from(format!("node-{number:04}"));
    let id = MachineId::from(format!("simulated://node-{number:04}"));
    let created_at = now.saturating_sub(SignedDuration::from_hours(30)).unwrap_or(now);
    let machine = Machine {
        id: id.clone(),
        pool: PoolId::from(format!("simulated/pool-{}", number % POOLS)),
        state: MachineState::Running,
        created_at,
        node: Some(name.clone()),
        aliases: Vec::new(),
        direct: None,
    };
    let labels =
        (0..10).map(|at| (Arc::from(format!("label-{at}")), Arc::from(format!("{number}")))).collect();
    let node = Node {
        uid: name.as_str().into(),
        name,
        machine: Some(id),
        addresses: Vec::new(),
        labels,
        annotations: BTreeMap::new(),
        taints: Vec::new(),
        unschedulable: false,
        allocatable: allocatable.clone(),
        readiness: Readiness::Ready { since: created_at },
        conditions: Vec::new(),
        fittings: None,
        created_at,
        deleting: false,
    };
    (node, machine)
}

/// Equal pods share their shape, as where they are read.
fn shapes() -> impl FnMut(u64) -> Arc<PodShape> {
    let mut known: BTreeMap<u64, Arc<PodShape>> = BTreeMap::new();
    move |cpu| {
        let shape = known.entry(cpu).or_insert_with(|| {
            let requests =
                Resources { cpu: MilliCpu(cpu), memory: Bytes(cpu << 20), pods: 1, ..Resources::default() };
            Arc::new(PodShape { requests, ..PodShape::default() })
        });
        Arc::clone(shape)
    }
}

fn add_pod(
    cluster: &mut Cluster,
    name: &str,
    workload: u64,
    shape: &Arc<PodShape>,
    node: Option<&NodeName>,
    now: Timestamp,
) {
    let owner = Owner {
        kind: "ReplicaSet".into(),
        name: format!("web-{workload}").into(),
        uid: format!("rs-{workload}").as_str().into(),
    };
    let key = WorkloadKey::new("ReplicaSet", "default", &owner.name);
    let uid = owner.uid.clone();
    let pod = Pod {
        key: PodKey::new("default", name),
        uid: name.into(),
        shape: Arc::clone(shape),
        labels: BTreeMap::from([("app".into(), Arc::from(format!("web-{workload}")))]),
        owner: Some(owner),
        created_at: now.saturating_sub(SignedDuration::from_mins(5)).unwrap_or(now),
        phase: if node.is_some() { PodPhase::Running } else { PodPhase::Pending },
        ready: node.is_some(),
        node: node.cloned(),
        nominated: None,
        unschedulable_since: node.is_none().then_some(now),
        gated: false,
        deletion_at: None,
        grace_seconds: 30,
        safe_to_evict: SafeToEvict::Unset,
        mirror: false,
        daemon: false,
        terminal: false,
        local_volumes: Vec::new(),
        claims: None,
        scale_up_delay_seconds: None,
        consumes: None,
        evict_daemon: None,
    };
    cluster.apply(Change::Pod(pod.key.clone(), Some(Arc::new(pod))));
    let desired = cluster.live_pods_of(&uid);
    cluster.apply(Change::Workload(
        key.clone(),
        Some(Arc::new(Workload { key, uid, desired, part_of: None, blocked: false })),
    ));
}
