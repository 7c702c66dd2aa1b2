//! Topology spread and pod affinity by rows of the specification's conformance table, as far as nodes that exist
//! answer them: how many pods of one kind each domain takes.

use model::{
    Effect, LabelSelector, Labels, MilliCpu, Node, NodeInclusion, PodShape, PodTerm, Readiness, Resources,
    SpreadConstraint, Taint,
};
use packing::{ClassIx, Room, SpotIx, Vocabulary};
use std::collections::BTreeMap;
use std::sync::Arc;

const ZONE: &str = "zone";
const HOST: &str = "kubernetes.io/hostname";

fn labels(list: &[(&str, &str)]) -> Labels {
    list.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect()
}

/// A node of a zone with room for `pods`; `zone!` is tainted.
fn node(name: &str, zone: &str, pods: u32) -> Node {
    let tainted = zone.ends_with('!');
    let taint = Taint { key: "t".into(), value: "".into(), effect: Effect::NoSchedule };
    Node {
        name: name.into(),
        uid: name.into(),
        machine: None,
        labels: labels(&[(HOST, name), (ZONE, zone.trim_end_matches('!'))]),
        annotations: BTreeMap::new(),
        taints: if tainted { vec![taint] } else { Vec::new() },
        unschedulable: false,
        allocatable: Resources { cpu: MilliCpu(u64::from(pods)), pods: 1000, ..Default::default() },
        fittings: None,
        readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        addresses: Vec::new(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        deleting: false,
    }
}

fn web() -> LabelSelector {
    LabelSelector { match_labels: labels(&[("app", "web")]), ..Default::default() }
}

fn pod() -> PodShape {
    PodShape { requests: Resources { cpu: MilliCpu(1), pods: 1, ..Default::default() }, ..Default::default() }
}

fn constraint(key: &str, max_skew: u32) -> SpreadConstraint {
    SpreadConstraint {
        topology_key: key.into(),
        max_skew,
        selector: Some(web()),
        min_domains: 1,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
    }
}

fn spread(constraint: SpreadConstraint) -> PodShape {
    PodShape { spread: vec![constraint], ..pod() }
}

fn term(key: &str, app: &str) -> PodTerm {
    let selector = LabelSelector { match_labels: labels(&[("app", app)]), ..Default::default() };
    PodTerm {
        topology_key: key.into(),
        selector: Some(selector),
        namespaces: Vec::new(),
        namespace_selector: None,
    }
}

/// A row: nodes as (zone, room for pods, web pods that are there), the shape, how many come, and the counts of all
/// zones at the end, those that were there included, smallest first.
struct Row {
    name: &'static str,
    nodes: &'static [(&'static str, u32, u32)],
    shape: PodShape,
    count: u32,
    by: &'static str,
    expected: &'static [u32],
}

fn counts(row: &Row) -> Vec<u32> {
    let mut room = Room::new(Vocabulary::of([&row.shape, &pod()]), &BTreeMap::new());
    let shape = Arc::new(row.shape.clone());
    let class = |room: &mut Room, shape: &Arc<PodShape>| -> ClassIx {
        room.class(shape, &"d".into(), &labels(&[("app", "web")]))
    };
    let web = class(&mut room, &shape);
    let there = class(&mut room, &Arc::new(PodShape { requests: Resources::default(), ..pod() }));
    for (at, (zone, space, held)) in row.nodes.iter().enumerate() {
        let spot = room.add(Arc::new(node(&format!("n{at}"), zone, *space)));
        if *held > 0 {
            room.hold(there, spot, *held);
        }
    }
    room.place(web, row.count, 0..row.nodes.len());
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for spot in (0..row.nodes.len()).map(SpotIx) {
        let on: u32 = room.held(spot).iter().map(|(_, count)| count).sum();
        *counts.entry(room.node(spot).labels[row.by].to_string()).or_default() += on;
    }
    let mut counts: Vec<u32> = counts.into_values().collect();
    counts.sort_unstable();
    counts
}

#[test]
fn spread_follows_the_table() {
    let three: &[_] = &[("z1", 50, 0), ("z2", 50, 0), ("z3", 50, 0)];
    let two: &[_] = &[("z1", 50, 0), ("z2", 50, 0)];
    let four: &[_] = &[("z1", 50, 0), ("z1", 50, 0), ("z1", 50, 0), ("z1", 50, 0)];
    let tainted: &[_] = &[("foo!", 0, 0), ("bar!", 0, 0), ("baz", 50, 0)];
    let zone = || constraint(ZONE, 1);
    let honoring = SpreadConstraint { node_taints_policy: NodeInclusion::Honor, ..zone() };
    let in_three = |n| SpreadConstraint { min_domains: n, ..zone() };
    let selecting = PodShape { node_selector: labels(&[(ZONE, "z2")]), ..spread(zone()) };
    let counting_all = SpreadConstraint { node_affinity_policy: NodeInclusion::Ignore, ..zone() };
    let selecting_all = PodShape { node_selector: labels(&[(ZONE, "z2")]), ..spread(counting_all) };
    let row = |name, nodes, shape, count, expected| Row { name, nodes, shape, count, by: ZONE, expected };
    let by_host = |name, nodes, shape, count, expected| Row { name, nodes, shape, count, by: HOST, expected };
    let rows = [
        row("83", three, spread(zone()), 4, &[1, 1, 2]),
        row("84", two, spread(zone()), 4, &[2, 2]),
        row("85", &[("z1", 50, 0)], spread(zone()), 4, &[4]),
        row("86", &[("z3", 0, 1), ("z1", 50, 0), ("z2", 50, 0)], spread(zone()), 6, &[1, 2, 2]),
        row("87", &[("z1", 0, 1), ("z2", 0, 1), ("z3", 50, 0)], spread(constraint(ZONE, 5)), 10, &[1, 1, 6]),
        row("88", &[("z1", 50, 3), ("z2", 50, 0), ("z3", 50, 0)], spread(zone()), 3, &[1, 2, 3]),
        row("90", three, spread(SpreadConstraint { selector: None, ..zone() }), 4, &[0, 0, 4]),
        row("91", three, spread(constraint("unknown", 1)), 4, &[0, 0, 0]),
        row("93", three, spread(in_three(3)), 11, &[3, 4, 4]),
        row("93, two", three, spread(in_three(2)), 11, &[3, 4, 4]),
        row("93, too few", two, spread(in_three(3)), 11, &[1, 1]),
        by_host("94", four, spread(constraint(HOST, 1)), 4, &[1, 1, 1, 1]),
        by_host("94, skew", four, spread(constraint(HOST, 4)), 4, &[0, 0, 0, 4]),
        row("100, ignored", tainted, spread(zone()), 5, &[0, 0, 1]),
        row("100, honored", tainted, spread(honoring), 5, &[0, 0, 5]),
        row("101", three, selecting_all, 5, &[0, 0, 1]),
        row("102", three, selecting, 5, &[0, 0, 5]),
    ];
    for row in &rows {
        assert_eq!(counts(row), row.expected, "{}", row.name);
    }
}

#[test]
fn affinity_follows_the_table() {
    let hosts: &[_] = &[("z1", 5, 0), ("z1", 50, 0)];
    let zones: &[_] = &[("z1", 2, 0), ("z2", 50, 0), ("z1", 50, 0)];
    let near = |key: &str, app: &str| PodShape { pod_affinity: vec![term(key, app)], ..pod() };
    let apart = |key: &str| PodShape { pod_anti_affinity: vec![term(key, "web")], ..pod() };
    let rows = [
        ("103", hosts, near(HOST, "nobody"), 3, HOST, &[0, 0][..]),
        ("104", hosts, near(HOST, "web"), 10, HOST, &[0, 5]),
        ("105", zones, near(ZONE, "web"), 3, ZONE, &[0, 3]),
        ("106", hosts, apart(HOST), 2, HOST, &[1, 1]),
        ("107", zones, apart(ZONE), 3, ZONE, &[1, 1]),
    ];
    for (name, nodes, shape, count, by, expected) in rows {
        assert_eq!(counts(&Row { name, nodes, shape, count, by, expected }), expected, "{name}");
    }
}

/// Rows 89, 108 and 110: whom a constraint counts, and whom the terms of others keep away.
#[test]
fn who_is_counted_follows_the_table() {
    let spreading = Arc::new(spread(constraint(ZONE, 1)));
    let shy = Arc::new(PodShape { pod_anti_affinity: vec![term(ZONE, "web")], ..pod() });
    let everywhere = PodTerm { namespace_selector: Some(LabelSelector::default()), ..term(ZONE, "web") };
    let shy_of_all = Arc::new(PodShape { pod_anti_affinity: vec![everywhere], ..pod() });
    let of_web = labels(&[("app", "web")]);
    let plain = Arc::new(pod());
    let held = |room: &mut Room, what: &str| match what {
        "wrong namespace" => room.class(&plain, &"e".into(), &of_web),
        "terminating" => room.terminating_class(&plain, &"d".into(), &of_web),
        "other labels" => room.class(&plain, &"d".into(), &Labels::new()),
        "shy" => room.class(&shy, &"d".into(), &Labels::new()),
        "shy elsewhere" => room.class(&shy, &"e".into(), &Labels::new()),
        "shy of all" => room.class(&shy_of_all, &"e".into(), &Labels::new()),
        _ => room.class(&plain, &"d".into(), &of_web),
    };
    for (what, goes) in [
        ("its own kind", false),
        ("wrong namespace", true),
        ("terminating", true),
        ("other labels", true),
        ("shy", false),
        ("shy elsewhere", true),
        ("shy of all", false),
    ] {
        let shapes = [&*spreading, &*shy, &*shy_of_all, &*plain];
        let mut room = Room::new(Vocabulary::of(shapes), &BTreeMap::new());
        for zone in ["z1", "z2"] {
            room.add(Arc::new(node(zone, zone, 50)));
        }
        let there = held(&mut room, what);
        room.hold(there, SpotIx(0), 1);
        let web = room.class(&spreading, &"d".into(), &of_web);
        assert_eq!(room.place_on(web, SpotIx(0)), goes, "{what}");
    }
}
