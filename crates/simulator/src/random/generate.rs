//! What a seed makes: pools, settings, workloads of every sort, faults, and then rest.
//!
//! Owns the ranges. They are chosen so that every scenario spans a day, reaches twenty nodes, and asks for no more
//! than its pools can give, except by pods that are marked as impossible.

use crate::random_source::stream;
use crate::scenario::WorkloadSpec;
use crate::scenario::{
    BootSpec, FaultKind, FaultSpec, PoolSpec, ProviderSpec, Scenario, Span, TaintSpec, TemplateSpec,
};
use crate::workload::{TimedWrite, UserWrite};
use api::annotations;
use jiff::{SignedDuration, Timestamp};
use model::{Bounds, DrainGroup, Expander, Policies, Profile, UnreadyGate};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Users and faults are done by then.
pub(super) const BUSY_SECONDS: u64 = 20 * 3600;
/// Back-offs and waits of the busy time are over by then: nothing may go down and up again any more.
const SETTLED_SECONDS: u64 = 22 * 3600;
/// A day and an hour: the rest is quiet.
const SECONDS: u64 = 25 * 3600;
const DAY_SECONDS: u64 = 24 * 3600;
/// From the settled cluster to the end.
pub(super) const QUIET_SECONDS: u64 = SECONDS - SETTLED_SECONDS;
/// Label of pods that no pool can ever take.
pub(super) const IMPOSSIBLE: &str = "impossible";
/// Replicas of the tide at rest: over twenty nodes, even where six of them share three large ones.
const LEAST_REST: u32 = 24;
/// Cores of a machine of the main pool; its pods ask for more than half of it, one on a machine.
const MAIN_CORES: u64 = 4;

/// A scenario with its users' writes.
#[derive(Clone, Debug)]
pub struct RandomScenario {
    pub scenario: Scenario,
    pub writes: Vec<TimedWrite>,
    pub seconds: u64,
}

/// The scenario of a seed.
pub fn generate(seed: u64) -> RandomScenario {
    generate_days(seed, 1)
}

/// A scenario of so many days: one cluster and one set of settings, each day with a tide, jobs and faults of its own.
pub fn generate_days(seed: u64, days: u32) -> RandomScenario {
    let mut rng = stream(seed, "random scenario");
    let last = u64::from(days.max(1) - 1) * DAY_SECONDS;
    let mut scenario = Scenario {
        name: format!("random {seed}"),
        seed,
        start: Timestamp::from_second(1_767_571_200).unwrap_or(Timestamp::UNIX_EPOCH),
        duration: Some(Span::seconds(SECONDS + last)),
        pools: pools(&mut rng),
        policies: policies(&mut rng),
        faults: faults(&mut rng),
        workload: WorkloadSpec::default(),
        trace: None,
    };
    let mut writes = Vec::new();
    workloads(&mut rng, &mut writes);
    bad_days(&mut stream(seed, "bad days"), &mut scenario.faults);
    for day in 1..u64::from(days) {
        another_day(&mut stream(seed, &format!("day {day}")), day, &mut scenario.faults, &mut writes);
    }
    writes.push(tide_rests(&mut rng, last));
    ways(&mut stream(seed, "ways of choosing and removing"), &mut scenario.policies);
    writes.sort_by_key(|timed: &TimedWrite| timed.second);
    RandomScenario { scenario, writes, seconds: SECONDS + last }
}

/// Tide, jobs and faults of one more day.
fn another_day(rng: &mut ChaCha8Rng, day: u64, faults: &mut Vec<FaultSpec>, writes: &mut Vec<TimedWrite>) {
    let begin = day * DAY_SECONDS;
    let mut today = self::faults(rng);
    bad_days(rng, &mut today);
    for fault in &mut today {
        fault.from.seconds += begin;
        fault.until = fault.until.map(|until| Span::seconds(until.seconds + begin));
    }
    faults.extend(today);
    let from = writes.len();
    for number in 0..rng.random_range(0..4) {
        let mut job = job(rng, number);
        job["metadata"]["name"] = json!(format!("job-{day}-{number}"));
        let second = rng.random_range(0..BUSY_SECONDS);
        writes.push(TimedWrite { second, write: UserWrite::Create(job) });
    }
    tide(rng, writes);
    for write in &mut writes[from..] {
        write.second += begin;
    }
}

fn pools(rng: &mut ChaCha8Rng) -> Vec<PoolSpec> {
    let pool = |rng: &mut ChaCha8Rng, name: &str, min: u32, max: u32, cores: u64| {
        let boot = rng.random_range(10..90);
        PoolSpec {
            name: name.to_owned(),
            min,
            max,
            template: TemplateSpec {
                labels: BTreeMap::from([("pool".to_owned(), name.to_owned())]),
                taints: Vec::new(),
                allocatable: BTreeMap::from([
                    ("cpu".to_owned(), cores.to_string()),
                    ("memory".to_owned(), format!("{}Gi", cores * 4)),
                    ("pods".to_owned(), "30".to_owned()),
                ]),
            },
            boot_seconds: BootSpec { min: boot, max: boot + rng.random_range(1..120) },
            price_per_hour_usd: Some(cores as f64 * 0.05),
            priority: rng.random_range(0..3),
            provider: ProviderSpec::Simulated,
        }
    };
    // The first can hold everything that is possible; the others are there to be chosen between.
    let min = rng.random_range(0..4);
    let mut pools = vec![pool(rng, "main", min, 80, MAIN_CORES)];
    if rng.random_bool(0.7) {
        let (min, max) = (rng.random_range(0..3), rng.random_range(3..8));
        pools.push(pool(rng, "small", min, max, MAIN_CORES));
    }
    if rng.random_bool(0.5) {
        // Two of the tide's pods on a machine: few enough of them that the tide still reaches twenty nodes.
        let max = rng.random_range(1..4);
        pools.push(pool(rng, "large", 0, max, MAIN_CORES * 3 / 2));
    }
    if rng.random_bool(0.5) {
        let min = rng.random_range(0..2);
        let mut kept = pool(rng, "kept", min, 12, MAIN_CORES);
        kept.template.taints =
            vec![TaintSpec { key: "kept".into(), value: "yes".into(), effect: "NoSchedule".into() }];
        pools.push(kept);
    }
    pools
}

fn policies(rng: &mut ChaCha8Rng) -> Policies {
    let minutes = SignedDuration::from_mins;
    let mut policies = Policies { unneeded_time: minutes(rng.random_range(2..15)), ..Policies::default() };
    policies.delay_after_add = minutes(rng.random_range(0..11));
    policies.utilization_threshold_percent = rng.random_range(40..71);
    policies.max_scale_down_parallelism = rng.random_range(1..11);
    policies.max_drain_parallelism = rng.random_range(1..4);
    policies.cordon_node_before_terminating = rng.random_bool(0.5);
    policies.max_provision_time = minutes(rng.random_range(5..16));
    policies.unready_time = minutes(rng.random_range(5..21));
    policies
}

/// What else an operator may have asked for. Nothing here keeps a scenario from coming to rest.
fn ways(rng: &mut ChaCha8Rng, policies: &mut Policies) {
    if rng.random_bool(0.5) {
        // No program outside answers here.
        let own: Vec<Expander> = Expander::ALL.into_iter().filter(|one| *one != Expander::Grpc).collect();
        let expander = own[rng.random_range(0..own.len())];
        policies.choice.expanders = vec![expander];
        policies.choice.priorities = BTreeMap::from([(1, vec!["small".into()]), (7, vec!["^large$".into()])]);
        policies.choice.seed = rng.random();
    }
    policies.choice.balance_similar = rng.random_bool(0.4);
    policies.enforce_minimum = rng.random_bool(0.4);
    if rng.random_bool(0.4) {
        // More than the main pool can have, and less than all pools together.
        policies.ceilings.cores = Bounds::at_most(rng.random_range(340..400));
    }
    if rng.random_bool(0.2) {
        policies.unready_gate = UnreadyGate::Cluster;
    }
    policies.delay_type_local = rng.random_bool(0.3);
    policies.draining.soft_taints = rng.random_range(0..12);
    if rng.random_bool(0.3) {
        let grace = SignedDuration::from_secs(rng.random_range(5..120));
        let group = |priority| DrainGroup { priority, grace };
        policies.draining.priority_groups = vec![group(0), group(1000)];
    }
    if rng.random_bool(0.2) {
        policies.profile = Profile::NodePolicy;
    }
}

/// What goes wrong on any day.
const USUAL: [FaultKind; 15] = [
    FaultKind::Latency,
    FaultKind::Conflict,
    FaultKind::Throttle,
    FaultKind::ServerError,
    FaultKind::DroppedWatch,
    FaultKind::LateWatch,
    FaultKind::StaleList,
    FaultKind::LostResponse,
    FaultKind::NeverJoins,
    FaultKind::MachineFails,
    FaultKind::NotReady,
    FaultKind::Vanishes,
    FaultKind::Blockade,
    FaultKind::ControllerCutOff,
    FaultKind::ControllerKilled,
];

/// What goes wrong on bad days only: an hour without the API server, an old ledger, wrong clocks.
fn bad_days(rng: &mut ChaCha8Rng, faults: &mut Vec<FaultSpec>) {
    if rng.random_bool(0.3) {
        let mut away = fault(rng, FaultKind::ApiAway);
        let from = away.from.seconds;
        let until = (from + rng.random_range(1800..5400)).min(BUSY_SECONDS);
        away.until = Some(Span::seconds(until));
        faults.push(away);
    }
    for kind in [FaultKind::LedgerRestored, FaultKind::ClockSkew] {
        if rng.random_bool(0.3) {
            let mut fault = fault(rng, kind);
            if kind == FaultKind::ClockSkew {
                // Further ahead than a machine may take to come, each new one would count as late.
                fault.lasts = Span::seconds(rng.random_range(10..240));
            }
            faults.push(fault);
        }
    }
}

/// Five to nine faults of three kinds or more, over by the end of the busy time.
fn faults(rng: &mut ChaCha8Rng) -> Vec<FaultSpec> {
    let count = rng.random_range(5..9);
    let mut faults: Vec<FaultSpec> = Vec::new();
    while faults.len() < count {
        let kind = USUAL[rng.random_range(0..USUAL.len())];
        let kinds = faults.iter().map(|f| f.kind).collect::<std::collections::BTreeSet<_>>().len();
        let known = faults.iter().any(|fault| fault.kind == kind);
        // The last places are kept for new kinds until there are three.
        if known && kinds + (count - faults.len()) <= 3 {
            continue;
        }
        faults.push(fault(rng, kind));
    }
    // What makes drains fail: without it hardly any mark is ever taken off again.
    if rng.random_bool(0.7) {
        let mut blockade = fault(rng, FaultKind::Blockade);
        (blockade.from, blockade.until) = (Span::default(), Some(Span::seconds(BUSY_SECONDS)));
        blockade.lasts = Span::seconds(rng.random_range(180..1200));
        faults.push(blockade);
    }
    faults
}

fn fault(rng: &mut ChaCha8Rng, kind: FaultKind) -> FaultSpec {
    // Events that come by themselves need room to come; the others are dense while they last.
    let (longest, every) = match kind {
        FaultKind::NotReady | FaultKind::Vanishes | FaultKind::Blockade => (14 * 3600, 3600),
        FaultKind::ControllerCutOff | FaultKind::LedgerRestored | FaultKind::ClockSkew => {
            (12 * 3600, 3 * 3600)
        }
        FaultKind::DroppedWatch => (10 * 3600, 1200),
        FaultKind::ControllerKilled => (12 * 3600, 1800),
        _ => (3 * 3600, 3600),
    };
    let from = rng.random_range(0..BUSY_SECONDS * 3 / 4);
    let until = (from + rng.random_range(1200..longest)).min(BUSY_SECONDS);
    FaultSpec {
        kind,
        from: Span::seconds(from),
        until: Some(Span::seconds(until)),
        percent: rng.random_range(5..50),
        delay: Span::seconds(rng.random_range(1..20)),
        lasts: Span::seconds(rng.random_range(60..1800)),
        every: Span::seconds(every),
        pool: None,
        aimed: true,
    }
}

/// One workload's manifest, with what tells it from others.
struct Template<'a> {
    kind: &'a str,
    version: &'a str,
    namespace: &'a str,
    name: &'a str,
    replicas: u32,
    milli_cpu: u64,
    annotations: Value,
    volumes: Value,
    extra: Value,
}

fn workload(template: &Template<'_>) -> Value {
    let mut spec = json!({
        "containers": [{
            "name": "app",
            "image": "simulated",
            "resources": {"requests": {"cpu": format!("{}m", template.milli_cpu), "memory": "256Mi"}},
        }],
        "volumes": template.volumes,
    });
    if let (Some(spec), Some(extra)) = (spec.as_object_mut(), template.extra.as_object()) {
        spec.extend(extra.clone());
    }
    let mut object = json!({
        "apiVersion": template.version,
        "kind": template.kind,
        "metadata": {"name": template.name, "namespace": template.namespace},
        "spec": {
            "selector": {"matchLabels": {"app": template.name}},
            "template": {
                "metadata": {"labels": {"app": template.name}, "annotations": template.annotations},
                "spec": spec,
            },
        },
    });
    if template.kind != "DaemonSet" {
        object["spec"]["replicas"] = json!(template.replicas);
    }
    if template.kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(template.name);
        object["spec"]["podManagementPolicy"] = json!("Parallel");
    }
    object
}

fn plain<'a>(kind: &'a str, name: &'a str, replicas: u32, milli_cpu: u64) -> Template<'a> {
    Template {
        kind,
        version: "apps/v1",
        namespace: "default",
        name,
        replicas,
        milli_cpu,
        annotations: json!({}),
        volumes: json!([]),
        extra: json!({}),
    }
}

fn budget(namespace: &str, name: &str, field: &str, count: u32) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {(field): count, "selector": {"matchLabels": {"app": name}}},
    })
}

fn workloads(rng: &mut ChaCha8Rng, writes: &mut Vec<TimedWrite>) {
    let mut create = |second: u64, object: Value| {
        writes.push(TimedWrite { second, write: UserWrite::Create(object) });
    };
    // The tide: more than half a machine each, so that its replicas are its nodes.
    create(0, workload(&plain("Deployment", "tide", 2, 2500)));
    create(0, budget("default", "tide", "maxUnavailable", rng.random_range(1..4)));
    if rng.random_bool(0.9) {
        // Small pods, several on a node: what under-used nodes are drained of.
        let small = rng.random_range(4..15);
        let mut template = plain("Deployment", "small", small, rng.random_range(200..700));
        slow_to_stop(rng, &mut template);
        create(30, workload(&template));
        if rng.random_bool(0.7) {
            // Sometimes a budget that never allows anything.
            let allowed = [0, 1, 1, 2][rng.random_range(0..4)];
            create(30, budget("default", "small", "maxUnavailable", allowed));
        }
    }
    if rng.random_bool(0.5) {
        let replicas = rng.random_range(1..4);
        let mut template = plain("StatefulSet", "db", replicas, 700);
        slow_to_stop(rng, &mut template);
        create(45, workload(&template));
        create(45, budget("default", "db", "minAvailable", replicas - rng.random_range(0..2)));
    }
    if rng.random_bool(0.5) {
        let mut agent = plain("DaemonSet", "agent", 0, 100);
        agent.extra = json!({"tolerations": [{"operator": "Exists"}]});
        create(0, workload(&agent));
    }
    if rng.random_bool(0.8) {
        let replicas = rng.random_range(1..4);
        let mut held = plain("Deployment", "held", replicas, 300);
        match rng.random_range(0..3) {
            0 => held.annotations = json!({annotations::SAFE_TO_EVICT: "false"}),
            1 => held.annotations = json!({annotations::DO_NOT_DISRUPT: "true"}),
            _ => held.volumes = json!([{"name": "scratch", "emptyDir": {}}]),
        }
        create(60, workload(&held));
    }
    if rng.random_bool(0.4) {
        let mut system = plain("Deployment", "dns", 2, 150);
        system.namespace = "kube-system";
        create(0, workload(&system));
        if rng.random_bool(0.5) {
            create(0, budget("kube-system", "dns", "maxUnavailable", 1));
        }
    }
    if rng.random_bool(0.4) {
        let mut kept = plain("Deployment", "kept", rng.random_range(1..6), 1500);
        kept.extra = json!({"tolerations": [{"key": "kept", "operator": "Exists"}]});
        create(rng.random_range(0..BUSY_SECONDS / 2), workload(&kept));
    }
    if rng.random_bool(0.3) {
        let giant = plain("Deployment", "giant", 2, 64_000);
        let mut giant = workload(&giant);
        giant["spec"]["template"]["metadata"]["labels"][IMPOSSIBLE] = json!("true");
        create(rng.random_range(0..BUSY_SECONDS), giant);
    }
    for number in 0..rng.random_range(0..3) {
        create(rng.random_range(0..BUSY_SECONDS), bare_pod(rng, number));
    }
    for number in 0..rng.random_range(0..4) {
        create(rng.random_range(0..BUSY_SECONDS), job(rng, number));
    }
    tide(rng, writes);
}

/// Pods that take minutes to end, so that drains last and meet more.
fn slow_to_stop(rng: &mut ChaCha8Rng, template: &mut Template<'_>) {
    if rng.random_bool(0.6) {
        let seconds: u32 = rng.random_range(20..420);
        template.annotations = json!({annotations::STOP_SECONDS: seconds.to_string()});
        template.extra = json!({"terminationGracePeriodSeconds": seconds + 60});
    }
}

fn bare_pod(rng: &mut ChaCha8Rng, number: u32) -> Value {
    let annotations = match rng.random_range(0..3) {
        0 => json!({annotations::SAFE_TO_EVICT: "true"}),
        1 => json!({annotations::RUN_SECONDS: rng.random_range(600..14_400).to_string()}),
        _ => json!({}),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("bare-{number}"), "namespace": "default", "annotations": annotations},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "app", "image": "simulated", "resources": {"requests": {"cpu": "400m"}}}],
        },
    })
}

fn job(rng: &mut ChaCha8Rng, number: u32) -> Value {
    let pods = rng.random_range(1..5);
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": format!("job-{number}"), "namespace": "default"},
        "spec": {
            "parallelism": pods,
            "completions": pods,
            "backoffLimit": 100,
            "template": {
                "metadata": {"annotations": {
                    annotations::RUN_SECONDS: rng.random_range(300..5400).to_string(),
                }},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{
                        "name": "run", "image": "simulated", "resources": {"requests": {"cpu": "900m"}},
                    }],
                },
            },
        },
    })
}

/// Goes up and down a few times; at the end it rests high: what no fault can keep from reaching twenty nodes.
fn tide(rng: &mut ChaCha8Rng, writes: &mut Vec<TimedWrite>) {
    let mut scale = |second: u64, name: &str, replicas: u32| {
        writes.push(TimedWrite {
            second,
            write: UserWrite::Scale { namespace: "default".into(), name: name.into(), replicas },
        });
    };
    let turns = rng.random_range(3..7_u64);
    let highest = rng.random_range(0..turns);
    let each = BUSY_SECONDS / turns;
    for turn in 0..turns {
        let begin = turn * each + rng.random_range(120..each / 3);
        let top = if turn == highest { rng.random_range(16..30) } else { rng.random_range(3..14) };
        scale(begin, "tide", top);
        let end = begin + rng.random_range(1200..each / 2);
        scale(end, "tide", rng.random_range(0..5));
    }
}

/// The tide's last height.
fn tide_rests(rng: &mut ChaCha8Rng, last: u64) -> TimedWrite {
    let replicas = rng.random_range(LEAST_REST..LEAST_REST + 4);
    let write = UserWrite::Scale { namespace: "default".into(), name: "tide".into(), replicas };
    TimedWrite { second: last + BUSY_SECONDS, write }
}
