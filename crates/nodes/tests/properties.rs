//! What holds for every cluster and every course of events, tried at random.
//!
//! Each course is checked after every round by the independent checker; a quiet phase at its end must converge, with
//! nothing left undone. Cases that once failed are kept beside this file.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod world;

use checker::{Site, Watcher, check_placement};
use jiff::SignedDuration;
use model::{Change, Cluster, MachineState, OutcomeKind, Pod, Readiness, RemovalPhase, Step};
use packing::{ClassIx, Room, SpotIx};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseResult};
use std::sync::Arc;
use world::{Attributes, World, headroom_key, pool_id, rule_set_key};

const POOLS: [&str; 3] = ["small", "large", "gpu"];

/// One thing that happens between two rounds.
#[derive(Clone, Debug)]
enum Event {
    Pods {
        count: u8,
        cpu: u16,
        gpu: bool,
        owner: u8,
        priority: i8,
        protected: u8,
    },
    PodEnds(u8),
    Pass(u16),
    Obey,
    Refuse {
        code: bool,
    },
    PutOff,
    Join(u8),
    Fails(u8),
    NotReady(u8),
    Recovers(u8),
    MachineVanishes(u8),
    Schedule,
    Budget {
        owner: u8,
        allowed: u8,
    },
    Resize {
        pool: u8,
        min: u8,
        max: u8,
    },
    Rule {
        rule: u8,
        pool: u8,
    },
    NoRules,
    Alert(u8),
    Outlook {
        owner: u8,
        minutes: u8,
        replicas: u8,
    },
    /// Room is asked for as a whole, promised, looked for, kept, or not asked for any more.
    Headroom {
        name: u8,
        purpose: u8,
        count: u8,
        cpu: u16,
    },
    /// Pods come that use a request's room.
    Consumers {
        name: u8,
        count: u8,
        cpu: u16,
    },
    Restart,
}

/// Rules that may come at any time.
const RULES: [&str; 9] = [
    "often in=r cron=*/7_*_*_*_* add=2",
    "seldom in=r cron=3_*_*_*_* add=50%",
    "cpu in=r rate=cpu over=60 add=computed",
    "memory in=r rate=memory over=70 add=1",
    "day in=r from=*/20_*_*_*_* to=10-59/20_*_*_*_* nodes=3 otherwise=1",
    "fewer in=r cron=*/11_*_*_*_* remove=1",
    "idle in=r rate=cpu under=20 remove=50%",
    "off in=r cron=*_*_*_*_* add=9 off",
    "page in=r alert=alertname:Full add=2",
];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1u8..6, 1u16..12, any::<bool>(), 0u8..4, -1i8..2, 0u8..12).prop_map(
            |(count, cpu, gpu, owner, priority, protected)| Event::Pods {
                count,
                cpu: cpu * 100,
                gpu: gpu && cpu % 3 == 0,
                owner,
                priority,
                protected
            }
        ),
        3 => any::<u8>().prop_map(Event::PodEnds),
        6 => (1u16..1200).prop_map(Event::Pass),
        8 => Just(Event::Obey),
        1 => any::<bool>().prop_map(|code| Event::Refuse { code }),
        1 => Just(Event::PutOff),
        4 => (0u8..3).prop_map(Event::Join),
        1 => (0u8..3).prop_map(Event::Fails),
        1 => any::<u8>().prop_map(Event::NotReady),
        1 => any::<u8>().prop_map(Event::Recovers),
        1 => any::<u8>().prop_map(Event::MachineVanishes),
        6 => Just(Event::Schedule),
        1 => (0u8..4, 0u8..3).prop_map(|(owner, allowed)| Event::Budget { owner, allowed }),
        1 => (0u8..3, 0u8..3, 1u8..8).prop_map(|(pool, min, max)| Event::Resize { pool, min, max }),
        1 => (0u8..9, 0u8..3).prop_map(|(rule, pool)| Event::Rule { rule, pool }),
        1 => Just(Event::NoRules),
        1 => (0u8..3).prop_map(Event::Alert),
        2 => (0u8..4, 0u8..20, 0u8..9)
            .prop_map(|(owner, minutes, replicas)| Event::Outlook { owner, minutes, replicas }),
        3 => (0u8..3, 0u8..6, 1u8..6, 1u16..12)
            .prop_map(|(name, purpose, count, cpu)| Event::Headroom { name, purpose, count, cpu: cpu * 150 }),
        1 => (0u8..3, 1u8..4, 1u16..12)
            .prop_map(|(name, count, cpu)| Event::Consumers { name, count, cpu: cpu * 150 }),
        2 => Just(Event::Restart),
    ]
}

fn start() -> World {
    let mut world = World::new();
    world.policies.delay_after_add = SignedDuration::from_mins(2);
    world.policies.unneeded_time = SignedDuration::from_mins(3);
    world.policies.max_drain_parallelism = 2;
    world.policies.max_nodes_total = 14;
    world.policies.ahead.enabled = true;
    world.policies.ahead.unknown_lead = SignedDuration::from_mins(4);
    for (name, line) in [
        ("small", "cpu=1000 min=1 max=6 target=0"),
        ("large", "cpu=4000 max=4 price=300 unneeded=1m"),
        ("gpu", "cpu=2000 gpu=2 max=3 priority=-1"),
    ] {
        world.make_pool(name, &Attributes::of(line.split_whitespace()));
    }
    world.make_node("first", &Attributes::of("pool=small".split_whitespace()));
    world.make_daemon_set("logs", &Attributes::of("cpu=50".split_whitespace()));
    world
}

fn nth<T: Clone>(items: impl Iterator<Item = T>, n: u8) -> Option<T> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then(|| items[n as usize % items.len()].clone())
}

/// A workload's replicas are told of: so many in some minutes, and one a while later.
fn tell(world: &mut World, owner: u8, minutes: u8, replicas: u8) {
    let line = format!("of=rs/o{owner} due={minutes}m:{replicas},{}m:1 cpu=300", minutes + 7);
    world.make_outlook(&format!("o{owner}"), &Attributes::of(line.split_whitespace()));
}

/// Room is asked for, or not any more.
fn ask_for(world: &mut World, name: u8, purpose: u8, count: u8, cpu: u16) {
    let name = format!("r{name}");
    let kinds = ["whole", "whole", "booking", "check", "buffer"];
    match kinds.get(purpose as usize) {
        Some(purpose) => {
            let line = format!("cpu={cpu},{} count={count},1 purpose={purpose}", cpu / 2);
            world.make_headroom(&name, &Attributes::of(line.split_whitespace()));
        }
        None => world.cluster.apply(Change::Headroom(headroom_key(&name), None)),
    }
}

/// One machine that is being made is not.
fn fail_one(world: &mut World, pool: &model::PoolId) {
    let making: Vec<_> = world.cluster.machines_of(pool).map(Arc::clone).collect();
    if let Some(machine) = making.iter().find(|machine| machine.state == MachineState::Creating) {
        let mut failed = model::Machine::clone(machine);
        failed.state = MachineState::Failed { code: "SoldOut".into(), message: "none".into() };
        world.cluster.apply(Change::Machine(failed.id.clone(), Some(Arc::new(failed))));
    }
}

/// Pods come that use a request's room.
fn use_room(world: &mut World, number: usize, name: u8, count: u8, cpu: u16) {
    let line = format!("cpu={cpu} consumes=r{name}");
    let a = Attributes::of(line.split_whitespace());
    (0..count).for_each(|at| world.make_pod(&format!("c{number}-{at}"), &a));
}

fn happen(world: &mut World, number: usize, event: &Event) {
    match event {
        Event::Pods { count, cpu, gpu, owner, priority, protected } => {
            for at in 0..*count {
                let extra = match protected {
                    0 => "evict=no",
                    1 => "local:data",
                    2 => "unmodelled=claims",
                    _ => "",
                };
                let gpu = if *gpu { "gpu=1" } else { "" };
                let line =
                    format!("cpu={cpu} {gpu} owner=rs/o{owner} label:owner=o{owner} prio={priority} {extra}");
                world.make_pod(&format!("p{number}-{at}"), &Attributes::of(line.split_whitespace()));
            }
        }
        Event::PodEnds(n) => {
            if let Some(key) = nth(world.cluster.pods().keys().cloned(), *n) {
                world.end_pod(&key);
            }
        }
        Event::Pass(seconds) => world.pass(SignedDuration::from_secs(i64::from(*seconds))),
        Event::Obey => world.obey(|_| true),
        Event::Refuse { code } => {
            let code = if *code { "SoldOut" } else { "Unanswered" };
            let kind = OutcomeKind::Failed { code: code.into(), message: "no".into() };
            world.answer(&kind, |step| matches!(step, Step::Buy(_) | Step::Release(_)));
        }
        Event::PutOff => {
            let until = world.now.checked_add(SignedDuration::from_secs(10)).unwrap();
            world.answer(&OutcomeKind::Deferred { until, why: "busy".into() }, |_| true);
        }
        Event::Join(pool) => world.join(POOLS[*pool as usize], 2),
        Event::Fails(pool) => fail_one(world, &pool_id(POOLS[*pool as usize])),
        Event::NotReady(n) | Event::Recovers(n) => {
            let (name, since) = (nth(world.cluster.nodes().keys().cloned(), *n), world.now);
            let ready = matches!(event, Event::Recovers(_));
            if let Some(name) = name {
                world.change_node(name.as_str(), |node| {
                    node.readiness =
                        if ready { Readiness::Ready { since } } else { Readiness::NotReady { since } };
                });
            }
        }
        Event::MachineVanishes(n) => {
            if let Some(machine) = nth(world.cluster.machines().values().cloned(), *n) {
                world.cluster.apply(Change::Machine(machine.id.clone(), None));
            }
        }
        Event::Schedule => world.schedule(),
        Event::Budget { owner, allowed } => {
            let line = format!("label:owner=o{owner} allowed={allowed}");
            world.make_pdb(&format!("o{owner}"), &Attributes::of(line.split_whitespace()));
        }
        Event::Resize { pool, min, max } => world.change_pool(POOLS[*pool as usize], |pool| {
            pool.max = u32::from(*max);
            pool.min = u32::from(*min).min(pool.max);
        }),
        Event::Rule { rule, pool } => {
            let line = format!("pools={},nowhere", POOLS[*pool as usize]);
            world.make_rule_set("r", &Attributes::of(line.split_whitespace()));
            let (name, line) = RULES[*rule as usize].split_once(' ').unwrap();
            world.make_rule(name, &Attributes::of(line.split_whitespace()));
        }
        Event::Alert(n) => {
            let line = format!("label=alertname:Full since={}m", n % 2);
            world.alert(&format!("f{n}"), &Attributes::of(line.split_whitespace()));
        }
        Event::Outlook { owner, minutes, replicas } => tell(world, *owner, *minutes, *replicas),
        Event::NoRules => world.cluster.apply(Change::RuleSet(rule_set_key("r"), None)),
        Event::Headroom { name, purpose, count, cpu } => ask_for(world, *name, *purpose, *count, *cpu),
        Event::Consumers { name, count, cpu } => use_room(world, number, *name, *count, *cpu),
        Event::Restart => {
            world.ledger.epoch += 1;
            world.open.clear();
        }
    }
}

/// Decides and fails the case on anything that the checks found.
fn round(world: &mut World) -> Result<usize, TestCaseError> {
    let (decision, complaints) = world.round();
    prop_assert!(complaints.is_empty(), "at {}: {complaints:#?}\n{:#?}", world.now, decision.plan);
    Ok(decision.plan.steps.len())
}

/// Everything obeys and nothing new comes: the plans must come to an end, with nothing left undone.
fn settle(world: &mut World) -> TestCaseResult {
    // Rules would bring something new for ever, and what is told of never comes here.
    for key in world.cluster.outlooks().keys().cloned().collect::<Vec<_>>() {
        world.cluster.apply(Change::Outlook(key, None));
    }
    world.cluster.apply(Change::RuleSet(rule_set_key("r"), None));
    for name in world.cluster.nodes().keys().cloned().collect::<Vec<_>>() {
        let since = world.now;
        world.change_node(name.as_str(), |node| node.readiness = Readiness::Ready { since });
    }
    let mut watcher = Watcher::new(world.policies.clone());
    let mut quiet_rounds = 0;
    for _ in 0..400 {
        world.obey(|_| true);
        for pool in POOLS {
            world.make_up(pool);
            world.join(pool, usize::MAX);
        }
        world.schedule();
        let steps = round(world)?;
        let found = watcher.observe(world.now, &world.cluster);
        prop_assert!(found.is_empty(), "{found:#?}");
        let next = nodes::decide(&world.cluster, &world.policies, &world.ledger, world.now).wake_at;
        match next {
            _ if steps > 0 => quiet_rounds = 0,
            Some(at) => {
                world.now = at;
                quiet_rounds += 1;
            }
            None => {
                return finish(world, &watcher);
            }
        }
        prop_assert!(quiet_rounds < 60, "wakes up again and again: {:?}", world.ledger);
    }
    let (last, _) = world.round();
    prop_assert!(false, "no end of it: {:#?} {:#?}", last.plan, world.ledger);
    Ok(())
}

fn finish(world: &World, watcher: &Watcher) -> TestCaseResult {
    let found = watcher.finish(world.now, &world.cluster, SignedDuration::from_mins(40));
    prop_assert!(found.is_empty(), "{found:#?}\n{:#?}", world.ledger);
    let going = world.ledger.removals.values().filter(|r| r.phase != RemovalPhase::Releasing).count();
    prop_assert_eq!(going, 0);
    Ok(())
}

/// The same cluster, told in the opposite order.
fn told_backwards(cluster: &Cluster) -> Cluster {
    let mut changes: Vec<Change> = Vec::new();
    changes.extend(cluster.inputs().iter().map(|(i, s)| Change::Input(i.clone(), s.clone())));
    changes.extend(cluster.nodes().iter().map(|(k, v)| Change::Node(k.clone(), Some(v.clone()))));
    changes.extend(cluster.pods().iter().map(|(k, v)| Change::Pod(k.clone(), Some(v.clone()))));
    changes.extend(cluster.pools().iter().map(|(k, v)| Change::Pool(k.clone(), Some(v.clone()))));
    changes.extend(cluster.machines().iter().map(|(k, v)| Change::Machine(k.clone(), Some(v.clone()))));
    changes.extend(cluster.workloads().iter().map(|(k, v)| Change::Workload(k.clone(), Some(v.clone()))));
    changes.extend(cluster.daemon_sets().iter().map(|(k, v)| Change::DaemonSet(k.clone(), Some(v.clone()))));
    changes.extend(cluster.rule_sets().iter().map(|(k, v)| Change::RuleSet(k.clone(), Some(v.clone()))));
    changes.extend(cluster.outlooks().iter().map(|(k, v)| Change::Outlook(k.clone(), Some(v.clone()))));
    changes.extend(cluster.headroom().iter().map(|(k, v)| Change::Headroom(k.clone(), Some(v.clone()))));
    changes.extend(cluster.pdbs().iter().map(|(k, v)| Change::Pdb(k.clone(), Some(v.clone()))));
    let mut told = Cluster::default();
    for change in changes.into_iter().rev() {
        told.apply(change);
    }
    for outcome in cluster.outcomes() {
        told.apply(Change::Outcome(outcome.clone()));
    }
    for alert in cluster.alerts() {
        told.apply(Change::Alert(alert.clone()));
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_course_of_events_is_sound_and_comes_to_rest(events in prop::collection::vec(event(), 1..60)) {
        let mut world = start();
        for (number, event) in events.iter().enumerate() {
            happen(&mut world, number, event);
            round(&mut world)?;
        }
        settle(&mut world)?;
    }

    #[test]
    fn the_order_of_news_changes_nothing(events in prop::collection::vec(event(), 1..25)) {
        let mut world = start();
        for (number, event) in events.iter().enumerate() {
            happen(&mut world, number, event);
            let told = told_backwards(&world.cluster);
            let one = nodes::decide(&world.cluster, &world.policies, &world.ledger, world.now);
            let other = nodes::decide(&told, &world.policies, &world.ledger, world.now);
            prop_assert_eq!(one, other);
            let _checked_elsewhere = world.round();
        }
    }

    /// Planning ahead is nothing but what it does for what is told: asked for without that, it changes no step.
    #[test]
    fn without_known_demand_planning_ahead_changes_nothing(events in prop::collection::vec(event(), 1..25)) {
        let (mut with, mut without) = (start(), start());
        without.policies.ahead.enabled = false;
        for (number, event) in events.iter().filter(|event| !matches!(event, Event::Outlook { .. })).enumerate() {
            happen(&mut with, number, event);
            happen(&mut without, number, event);
            let (one, _) = with.round();
            let (other, _) = without.round();
            prop_assert_eq!(one.plan, other.plan);
            prop_assert_eq!(one.verdicts, other.verdicts);
        }
    }

    #[test]
    fn a_checkpoint_decides_the_same(events in prop::collection::vec(event(), 1..25)) {
        let mut world = start();
        for (number, event) in events.iter().enumerate() {
            happen(&mut world, number, event);
            let _checked_elsewhere = world.round();
        }
        let text = serde_json::to_string(&(&world.cluster, &world.ledger)).unwrap();
        let (cluster, ledger): (Cluster, model::Ledger) = serde_json::from_str(&text).expect("a checkpoint reads back");
        let one = nodes::decide(&world.cluster, &world.policies, &world.ledger, world.now);
        let other = nodes::decide(&cluster.reindexed(), &world.policies, &ledger, world.now);
        prop_assert_eq!(one, other);
    }
}

/// What a course that once failed did: each is run and must come to rest.
fn comes_to_rest(events: &[Event]) {
    let mut world = start();
    for (number, event) in events.iter().enumerate() {
        happen(&mut world, number, event);
        round(&mut world).unwrap();
    }
    settle(&mut world).unwrap();
}

fn pods(count: u8, cpu: u16, gpu: bool, owner: u8, protected: u8) -> Event {
    Event::Pods { count, cpu, gpu, owner, priority: 0, protected }
}

/// A node that is not ready and holds pods has no room for those that wait.
#[test]
fn a_full_node_that_fell_ill_is_no_room() {
    use Event::{Join, NotReady, Obey, Pass, Schedule};
    comes_to_rest(&[
        pods(3, 400, false, 0, 3),
        pods(1, 100, false, 0, 0),
        Obey,
        pods(2, 400, false, 0, 3),
        Pass(249),
        Join(0),
        Schedule,
        NotReady(5),
        Pass(651),
    ]);
}

/// First fit keeps the place with a GPU for the pod that needs it; the scheduler does not.
#[test]
fn drained_pods_do_not_take_the_place_of_one_that_has_no_other() {
    use Event::{Pass, PodEnds, Refuse};
    comes_to_rest(&[
        PodEnds(0),
        PodEnds(0),
        pods(3, 600, true, 0, 3),
        pods(1, 400, false, 0, 2),
        PodEnds(12),
        pods(1, 100, false, 0, 0),
        pods(4, 100, false, 0, 0),
        Pass(1),
        Pass(1),
        PodEnds(3),
        pods(3, 600, false, 0, 3),
        pods(1, 900, false, 0, 0),
        Pass(1),
        Pass(1),
        Pass(1),
        PodEnds(139),
        Pass(1),
        Pass(1),
        pods(1, 900, false, 0, 0),
        Pass(1),
        PodEnds(84),
        Pass(119),
        Refuse { code: false },
        Pass(178),
        Pass(122),
        PodEnds(3),
    ]);
}

#[derive(Clone, Debug)]
struct PodsAsked {
    count: usize,
    cpu: u32,
    app: u8,
    rule: u8,
    bound: bool,
}

fn asked() -> impl Strategy<Value = PodsAsked> {
    (1..5usize, prop::sample::select(vec![50, 200, 450]), 0..3u8, 0..10u8, any::<bool>())
        .prop_map(|(count, cpu, app, rule, bound)| PodsAsked { count, cpu, app, rule, bound })
}

fn rule(number: u8) -> &'static str {
    match number {
        0 => "spread=zone:1",
        1 => "spread=kubernetes.io/hostname:1",
        2 => "spread=zone:2 select:disk=ssd",
        3 => "near=zone",
        4 => "apart=kubernetes.io/hostname",
        5 => "apart=zone",
        6 => "port=80",
        7 => "tol:gpu=",
        8 => "select:disk=ssd",
        _ => "",
    }
}

fn world_of(nodes: &[(u8, bool, bool)], asked: &[PodsAsked]) -> World {
    let mut world = World::new();
    world.make_pool("p", &Attributes::of("cpu=1000 max=100".split_whitespace()));
    for (at, (zone, ssd, tainted)) in nodes.iter().enumerate() {
        let disk = if *ssd { "ssd" } else { "hdd" };
        let taint = if *tainted { "taint:gpu=yes:NoSchedule" } else { "" };
        let line = format!(
            "pool=p cpu=1000 label:zone=z{zone} label:disk={disk} \
                            label:kubernetes.io/hostname=n{at} {taint}"
        );
        world.make_node(&format!("n{at}"), &Attributes::of(line.split_whitespace()));
    }
    for (group, asked) in asked.iter().enumerate() {
        for at in 0..asked.count {
            let on = if asked.bound { format!("on=n{}", (group + at) % nodes.len()) } else { String::new() };
            let line = format!("cpu={} label:app=a{} {} {on}", asked.cpu, asked.app, rule(asked.rule));
            world.make_pod(&format!("g{group}-{at}"), &Attributes::of(line.split_whitespace()));
        }
    }
    world
}

/// Places every waiting pod, class by class; each with the spot that it got.
fn place(world: &World, room: &mut Room) -> Vec<(Arc<Pod>, usize)> {
    let mut got = Vec::new();
    let mut groups: Vec<(ClassIx, Vec<Arc<Pod>>)> = Vec::new();
    for pod in world.cluster.waiting_pods() {
        let class = room.class(&pod.shape, &pod.key.namespace, &pod.labels);
        match groups.iter_mut().find(|(known, _)| *known == class) {
            Some((_, pods)) => pods.push(Arc::clone(pod)),
            None => groups.push((class, vec![Arc::clone(pod)])),
        }
    }
    for (class, pods) in groups {
        let mut pods = pods.into_iter();
        for placed in room.place(class, u32::try_from(pods.len()).unwrap(), 0..room.len()) {
            got.extend(pods.by_ref().take(placed.count as usize).map(|pod| (pod, placed.spot.0)));
        }
    }
    got
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_is_kept_by_what_is_placed(
        nodes in prop::collection::vec((0..3u8, any::<bool>(), prop::bool::weighted(0.2)), 1..7),
        asked in prop::collection::vec(asked(), 1..8),
    ) {
        let world = world_of(&nodes, &asked);
        let (mut room, _) = world.room();
        let got = place(&world, &mut room);
        let there: Vec<Vec<Arc<Pod>>> = (0..room.len())
            .map(|at| world.cluster.pods_on(&room.node(SpotIx(at)).name).cloned().collect())
            .collect();
        let sites: Vec<Site<'_>> = (0..room.len())
            .map(|at| Site {
                node: room.node(SpotIx(at)),
                promised: false,
                there: there[at].iter().map(AsRef::as_ref).collect(),
            })
            .collect();
        let placed: Vec<(&Pod, usize)> = got.iter().map(|(pod, at)| (&**pod, *at)).collect();
        let wrong = check_placement(world.cluster.namespaces(), &sites, &placed);
        prop_assert!(wrong.is_empty(), "{wrong:?}");
    }
}
