//! Placing, taking back, and the rules that other pods decide, on rooms of a few nodes.

use super::*;
use model::{
    Effect, LabelSelector, MilliCpu, NodeInclusion, PodTerm, Readiness, Requirement, Resources,
    SpreadConstraint, Taint,
};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

fn labels(list: &[(&str, &str)]) -> Labels {
    list.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect()
}

fn node(name: &str, cpu: u64, of_node: &[(&str, &str)]) -> Node {
    let mut labels = labels(of_node);
    labels.insert(HOST.into(), name.into());
    Node {
        name: name.into(),
        uid: name.into(),
        machine: None,
        addresses: Vec::new(),
        labels,
        annotations: BTreeMap::new(),
        taints: Vec::new(),
        unschedulable: false,
        allocatable: Resources { cpu: MilliCpu(cpu), pods: 100, ..Default::default() },
        readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        fittings: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        deleting: false,
    }
}

fn shape(cpu: u64) -> PodShape {
    PodShape {
        requests: Resources { cpu: MilliCpu(cpu), pods: 1, ..Default::default() },
        ..Default::default()
    }
}

fn app(value: &str) -> LabelSelector {
    LabelSelector { match_labels: labels(&[("app", value)]), ..Default::default() }
}

fn spread(key: &str, max_skew: u32, selector: LabelSelector) -> SpreadConstraint {
    SpreadConstraint {
        topology_key: key.into(),
        max_skew,
        selector: Some(selector),
        min_domains: 1,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
    }
}

fn term(key: &str, selector: LabelSelector) -> PodTerm {
    PodTerm {
        topology_key: key.into(),
        selector: Some(selector),
        namespaces: Vec::new(),
        namespace_selector: None,
    }
}

/// A room of these nodes, and the classes of these pods of namespace `d`.
fn room(nodes: Vec<Node>, pods: &[(&PodShape, &[(&str, &str)])]) -> (Room, Vec<ClassIx>) {
    let mut room = Room::new(Vocabulary::of(pods.iter().map(|(shape, _)| *shape)), &BTreeMap::new());
    for node in nodes {
        room.add(Arc::new(node));
    }
    let mut class = |shape: &PodShape, of: &[(&str, &str)]| {
        room.class(&Arc::new(shape.clone()), &"d".into(), &labels(of))
    };
    let classes = pods.iter().map(|(shape, of)| class(shape, of)).collect();
    (room, classes)
}

fn zones(names: &[(&str, &str)]) -> Vec<Node> {
    names.iter().map(|(name, zone)| node(name, 10_000, &[(ZONE, zone)])).collect()
}

fn where_to(placed: &[Placed]) -> Vec<(usize, u32)> {
    placed.iter().map(|placed| (placed.spot.0, placed.count)).collect()
}

#[test]
fn placing_fills_spots_in_order_and_rolls_back() {
    let small = shape(400);
    let (mut room, classes) = room(vec![node("a", 1000, &[]), node("b", 1000, &[])], &[(&small, &[])]);
    let small = classes[0];
    let (a, b) = (SpotIx(0), SpotIx(1));
    let mark = room.mark();
    assert_eq!(where_to(&room.place(small, 3, 0..2)), [(0, 2), (1, 1)]);
    assert_eq!(room.received(a), [(small, 2)]);
    assert_eq!(where_to(&room.place(small, 5, 0..2)), [(1, 1)]);
    assert!(room.place(small, 1, 0..2).is_empty());

    room.rollback(mark);
    assert_eq!(room.free(a).cpu, MilliCpu(1000));
    assert!(room.received(b).is_empty());
    room.close(a);
    assert_eq!(where_to(&room.place(small, 3, 0..2)), [(1, 2)]);
}

#[test]
fn a_spot_added_later_is_tried_although_the_others_were_full() {
    let big = shape(500);
    let (mut room, classes) = room(vec![node("a", 100, &[])], &[(&big, &[])]);
    assert!(room.place(classes[0], 1, 0..1).is_empty());
    room.add(Arc::new(node("b", 1000, &[])));
    assert_eq!(where_to(&room.place(classes[0], 1, 0..2)), [(1, 1)]);
}

#[test]
fn a_range_that_starts_late_leaves_the_first_spots_open() {
    let whole = shape(1000);
    let (mut room, classes) = room(vec![node("a", 1000, &[]), node("b", 1000, &[])], &[(&whole, &[])]);
    assert_eq!(where_to(&room.place(classes[0], 2, 1..2)), [(1, 1)]);
    assert_eq!(where_to(&room.place(classes[0], 1, 0..2)), [(0, 1)]);
}

#[test]
fn room_that_is_made_is_found_and_taken_back() {
    let whole = shape(1000);
    let (mut room, classes) = room(vec![node("a", 1000, &[]), node("b", 1000, &[])], &[(&whole, &[])]);
    let whole = classes[0];
    room.hold(whole, SpotIx(0), 1);
    room.hold(whole, SpotIx(1), 1);
    assert!(room.place(whole, 1, 0..2).is_empty());
    let mark = room.mark();
    assert_eq!(room.take_off(whole, SpotIx(0), 5), 1, "no more than there are");
    assert_eq!(where_to(&room.place(whole, 2, 0..2)), [(0, 1)]);
    room.rollback(mark);
    assert!(room.place(whole, 1, 0..2).is_empty());
    assert_eq!(room.held(SpotIx(0)), [(whole, 1)]);
    room.bar(SpotIx(0));
    assert_eq!(room.release(whole, SpotIx(0), 1), 1);
    assert!(room.is_shut(SpotIx(0)) && room.place(whole, 1, 0..2).is_empty());
}

#[test]
fn labels_that_nothing_asks_for_split_no_class() {
    let spreading = PodShape { spread: vec![spread(ZONE, 1, app("web"))], ..shape(1) };
    let pods: [(&PodShape, &[(&str, &str)]); 3] = [
        (&spreading, &[("app", "web"), ("pod", "1")]),
        (&spreading, &[("app", "web"), ("pod", "2")]),
        (&spreading, &[("app", "db")]),
    ];
    let (room, classes) = room(Vec::new(), &pods);
    assert_eq!(classes[0], classes[1]);
    assert_ne!(classes[0], classes[2]);
    assert_eq!(room.class_count(), 2);
}

#[test]
fn a_spread_is_kept_and_its_skew_filled_in_turn() {
    let web = PodShape { spread: vec![spread(ZONE, 1, app("web"))], ..shape(1) };
    let nodes = zones(&[("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")]);
    let (mut room, classes) = room(nodes, &[(&web, &[("app", "web")])]);
    let placed = room.place(classes[0], 7, 0..4);
    let zone = |from: usize, to: usize| -> u32 {
        placed.iter().filter(|p| (from..to).contains(&p.spot.0)).map(|p| p.count).sum()
    };
    assert_eq!(placed.iter().map(|p| p.count).sum::<u32>(), 7);
    let mut counts = [zone(0, 2), zone(2, 3), zone(3, 4)];
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3]);
}

#[test]
fn a_spread_says_why_not() {
    let web = PodShape { spread: vec![spread(ZONE, 1, app("web"))], ..shape(1) };
    let mut nodes = zones(&[("a", "a"), ("b", "b")]);
    nodes.push(node("none", 10_000, &[]));
    let (mut room, classes) = room(nodes, &[(&web, &[("app", "web")])]);
    room.hold(classes[0], SpotIx(0), 1);
    assert_eq!(room.rejection(classes[0], SpotIx(0)), Some(PoolRejection::SpreadMismatch));
    assert_eq!(room.rejection(classes[0], SpotIx(1)), None);
    assert_eq!(room.rejection(classes[0], SpotIx(2)), Some(PoolRejection::SpreadLabelMissing));
}

/// Zones a and b, one web pod in a; whether another may go to a.
#[test]
fn which_nodes_a_spread_looks_at() {
    let base = spread(ZONE, 1, app("web"));
    let tainted = |mut node: Node| {
        node.taints = vec![Taint { key: "t".into(), value: "".into(), effect: Effect::NoSchedule }];
        node
    };
    let selecting = PodShape { node_selector: labels(&[("disk", "ssd")]), ..shape(1) };
    let with =
        |constraint: SpreadConstraint, base: &PodShape| PodShape { spread: vec![constraint], ..base.clone() };
    let ignoring = SpreadConstraint { node_affinity_policy: NodeInclusion::Ignore, ..base.clone() };
    let honoring = SpreadConstraint { node_taints_policy: NodeInclusion::Honor, ..base.clone() };
    let three = SpreadConstraint { min_domains: 3, ..base.clone() };
    let wide = SpreadConstraint { max_skew: 2, ..base.clone() };
    let everything = SpreadConstraint { selector: Some(LabelSelector::default()), ..base.clone() };
    let nothing = SpreadConstraint { selector: None, ..base.clone() };
    let plain = |zone: &str| node(zone, 10_000, &[(ZONE, zone)]);
    let ssd = |zone: &str| node(zone, 10_000, &[(ZONE, zone), ("disk", "ssd")]);
    let table = [
        ("an empty domain holds it back", with(base.clone(), &shape(1)), plain("b"), false),
        ("more skew", with(wide, &shape(1)), plain("b"), true),
        ("an excluded domain does not count", with(base.clone(), &selecting), plain("b"), true),
        ("unless affinity is ignored", with(ignoring, &selecting), plain("b"), false),
        ("a tainted domain counts", with(base.clone(), &shape(1)), tainted(ssd("b")), false),
        ("unless taints are honored", with(honoring, &shape(1)), tainted(ssd("b")), true),
        ("too few domains", with(three, &shape(1)), plain("b"), false),
        ("an empty selector counts nobody", with(everything, &shape(1)), plain("b"), true),
        ("nor does none", with(nothing, &shape(1)), plain("b"), true),
    ];
    for (name, pod, other, expected) in table {
        let (mut room, classes) = room(vec![ssd("a"), other], &[(&pod, &[("app", "web")])]);
        room.hold(classes[0], SpotIx(0), 1);
        assert_eq!(room.place_on(classes[0], SpotIx(0)), expected, "{name}");
    }
}

#[test]
fn pods_being_deleted_count_for_affinity_and_not_for_spread() {
    let web = PodShape { spread: vec![spread(ZONE, 1, app("web"))], ..shape(1) };
    let lonely = PodShape { pod_anti_affinity: vec![term(ZONE, app("web"))], ..shape(1) };
    let pods: [(&PodShape, &[(&str, &str)]); 2] = [(&web, &[("app", "web")]), (&lonely, &[])];
    let (mut room, classes) = room(zones(&[("a", "a"), ("b", "b")]), &pods);
    let going = room.terminating_class(&Arc::new(web), &"d".into(), &labels(&[("app", "web")]));
    room.hold(going, SpotIx(0), 3);
    assert!(room.place_on(classes[0], SpotIx(0)));
    assert_eq!(room.rejection(classes[1], SpotIx(0)), Some(PoolRejection::PodAntiAffinityMismatch));
}

#[test]
fn the_first_of_a_series_starts_it_and_the_others_follow() {
    let web = PodShape { pod_affinity: vec![term(ZONE, app("web"))], ..shape(4000) };
    let nodes = zones(&[("a1", "a"), ("b1", "b"), ("a2", "a")]);
    let (mut room, classes) = room(nodes, &[(&web, &[("app", "web")]), (&web, &[("app", "other")])]);
    assert_eq!(room.rejection(classes[1], SpotIx(0)), Some(PoolRejection::PodAffinityMismatch));
    let mark = room.mark();
    assert_eq!(where_to(&room.place(classes[0], 5, 0..3)), [(0, 1), (2, 2), (0, 1)]);
    assert!(!room.place_on(classes[1], SpotIx(2)), "full");
    room.rollback(mark);
    assert!(room.place_on(classes[0], SpotIx(1)));
    assert!(room.place_on(classes[1], SpotIx(1)), "it finds a web pod now");
}

#[test]
fn anti_affinity_works_both_ways() {
    let nginx = PodShape { pod_anti_affinity: vec![term(HOST, app("nginx"))], ..shape(1) };
    let plain = shape(1);
    let pods: [(&PodShape, &[(&str, &str)]); 3] =
        [(&nginx, &[("app", "nginx")]), (&plain, &[("app", "nginx")]), (&plain, &[("app", "db")])];
    let (mut room, classes) = room(zones(&[("a", "a"), ("b", "a")]), &pods);
    assert_eq!(where_to(&room.place(classes[0], 5, 0..2)), [(0, 1), (1, 1)]);
    assert_eq!(room.rejection(classes[0], SpotIx(0)), Some(PoolRejection::PodAntiAffinityMismatch));
    assert_eq!(room.rejection(classes[1], SpotIx(0)), Some(PoolRejection::ExistingAntiAffinity));
    assert!(room.place_on(classes[2], SpotIx(0)));
    let mark = room.mark();
    room.close(SpotIx(0));
    room.take_off(classes[0], SpotIx(1), 1);
    assert!(room.place_on(classes[1], SpotIx(1)));
    room.rollback(mark);
    assert_eq!(room.rejection(classes[1], SpotIx(1)), Some(PoolRejection::ExistingAntiAffinity));
}

#[test]
fn namespaces_are_told_by_name_and_by_label() {
    let of_team = LabelSelector { match_labels: labels(&[("team", "x")]), ..Default::default() };
    let away = PodTerm { namespace_selector: Some(of_team), ..term(HOST, LabelSelector::default()) };
    let shy = Arc::new(PodShape { pod_anti_affinity: vec![away], ..shape(1) });
    let namespaces: BTreeMap<Arc<str>, Arc<Labels>> =
        [("e".into(), Arc::new(labels(&[("team", "x")])))].into();
    let mut room = Room::new(Vocabulary::of([&*shy]), &namespaces);
    room.add(Arc::new(node("a", 1000, &[])));
    let plain = Arc::new(shape(1));
    let here = room.class(&plain, &"d".into(), &Labels::new());
    let there = room.class(&plain, &"e".into(), &Labels::new());
    let shy = room.class(&shy, &"d".into(), &Labels::new());
    room.hold(here, SpotIx(0), 1);
    assert_eq!(room.rejection(shy, SpotIx(0)), None);
    room.hold(shy, SpotIx(0), 1);
    assert_eq!(room.rejection(here, SpotIx(0)), None);
    assert_eq!(room.rejection(there, SpotIx(0)), Some(PoolRejection::ExistingAntiAffinity));
}

#[test]
fn promised_machines_have_host_names_of_their_own() {
    let nginx = PodShape { pod_anti_affinity: vec![term(HOST, app("nginx"))], ..shape(1) };
    let (mut room, classes) = room(Vec::new(), &[(&nginx, &[("app", "nginx")])]);
    let mut blank = node("new", 1000, &[]);
    blank.labels.remove(HOST);
    let blank = Arc::new(blank);
    room.add_promised(Arc::clone(&blank));
    let mark = room.mark();
    room.add_promised(blank);
    assert_eq!(where_to(&room.place(classes[0], 3, 0..2)), [(0, 1), (1, 1)]);
    room.rollback(mark);
    assert_eq!(room.len(), 1);
    assert_eq!(where_to(&room.place(classes[0], 3, 0..1)), [(0, 1)]);
}

/// Nodes a1 and b1 in their zones, c1 with a soft taint; which spots two pods with these preferences take.
#[test]
fn wishes_are_met_where_that_is_free() {
    use model::{NodeSelectorTerm, Preferences, Weighted};
    let near = |zone: &str| {
        let is = Requirement { key: ZONE.into(), operator: model::Operator::In, values: vec![zone.into()] };
        NodeSelectorTerm { match_expressions: vec![is], ..Default::default() }
    };
    let prefer = |weight: u32, zone: &str| Weighted { weight, term: near(zone) };
    let by_zone =
        |list: Vec<Weighted<NodeSelectorTerm>>| Preferences { node_affinity: list, ..Default::default() };
    let pods = |selector: &str| Weighted { weight: 1, term: term(HOST, app(selector)) };
    let table = [
        ("nothing but clean nodes", Preferences::default(), vec![(0, 2)]),
        ("a zone", by_zone(vec![prefer(1, "b")]), vec![(1, 2)]),
        ("a zone that nobody has", by_zone(vec![prefer(1, "x")]), vec![(0, 2)]),
        (
            "the heaviest cannot be had",
            by_zone(vec![prefer(100, "x"), prefer(50, "b"), prefer(1, "b")]),
            vec![(1, 2)],
        ),
        ("a zone whose node is unwelcome", by_zone(vec![prefer(1, "c")]), vec![(0, 2)]),
        (
            "apart from its own kind",
            Preferences { pod_anti_affinity: vec![pods("web")], ..Default::default() },
            vec![(0, 1), (1, 1)],
        ),
        ("near others", Preferences { pod_affinity: vec![pods("db")], ..Default::default() }, vec![(1, 2)]),
        (
            "spread",
            Preferences { spread: vec![spread(ZONE, 1, app("web"))], ..Default::default() },
            vec![(0, 1), (1, 1)],
        ),
    ];
    for (name, preferences, expected) in table {
        let web = PodShape { preferences, ..shape(100) };
        let db = shape(100);
        let mut nodes = zones(&[("a1", "a"), ("b1", "b"), ("c1", "c")]);
        nodes[2].taints = vec![Taint { key: "t".into(), value: "".into(), effect: Effect::PreferNoSchedule }];
        let pods: [(&PodShape, &[(&str, &str)]); 2] = [(&web, &[("app", "web")]), (&db, &[("app", "db")])];
        let (mut room, classes) = room(nodes, &pods);
        room.hold(classes[1], SpotIx(1), 1);
        let mark = room.mark();
        assert_eq!(where_to(&room.place_wishing(classes[0], 2, 0..3)), expected, "{name}");
        room.rollback(mark);
        let all = room.place_wishing(classes[0], 400, 0..3);
        assert_eq!(
            all.iter().map(|placed| placed.count).sum::<u32>(),
            299,
            "{name}: no wish leaves a pod out"
        );
    }
}

#[test]
fn a_class_met_late_finds_what_is_there() {
    let web = PodShape { spread: vec![spread(ZONE, 1, app("web"))], ..shape(1) };
    let plain = Arc::new(shape(1));
    let mut room = Room::new(Vocabulary::of([&web]), &BTreeMap::new());
    for node in zones(&[("a", "a"), ("b", "b")]) {
        room.add(Arc::new(node));
    }
    let other = room.class(&plain, &"d".into(), &labels(&[("app", "web")]));
    let mark = room.mark();
    assert!(room.place_on(other, SpotIx(0)));
    let web = room.class(&Arc::new(web), &"d".into(), &labels(&[("app", "web")]));
    assert_eq!(room.rejection(web, SpotIx(0)), Some(PoolRejection::SpreadMismatch));
    room.rollback(mark);
    assert_eq!(room.rejection(web, SpotIx(0)), None);
}

#[test]
fn a_shape_beyond_the_vocabulary_fits_nowhere() {
    let known = shape(1);
    let (mut room, _) = room(vec![node("a", 1000, &[])], &[(&known, &[])]);
    let stranger = PodShape { node_selector: labels(&[("disk", "ssd")]), ..shape(1) };
    assert!(!room.covers(&stranger));
    let class = room.class(&Arc::new(stranger), &"d".into(), &Labels::new());
    assert!(room.place(class, 1, 0..1).is_empty());
}

#[test]
fn selectors_with_expressions_only_are_matched_too() {
    let not_db =
        Requirement { key: "app".into(), operator: model::Operator::NotIn, values: vec!["db".into()] };
    let selector = LabelSelector { match_expressions: vec![not_db], ..Default::default() };
    let shy = PodShape { pod_anti_affinity: vec![term(HOST, selector)], ..shape(1) };
    let plain = shape(1);
    let pods: [(&PodShape, &[(&str, &str)]); 3] =
        [(&plain, &[("app", "db")]), (&shy, &[("app", "db")]), (&plain, &[])];
    let (mut room, classes) = room(vec![node("a", 1000, &[])], &pods);
    room.hold(classes[0], SpotIx(0), 1);
    assert!(room.place_on(classes[1], SpotIx(0)));
    assert_eq!(room.rejection(classes[2], SpotIx(0)), Some(PoolRejection::ExistingAntiAffinity));
}
