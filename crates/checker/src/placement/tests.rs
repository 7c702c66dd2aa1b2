//! Placements of a few pods on a few nodes, right and wrong.

use super::*;
use jiff::Timestamp;
use model::{MilliCpu, NodeSelectorTerm, PodPhase, PodShape, Readiness, SafeToEvict, VolumeNeeds};

fn node(name: &str, zone: &str) -> Node {
    Node {
        name: name.into(),
        uid: name.into(),
        machine: None,
        labels: [(HOSTNAME.into(), name.into()), ("zone".into(), zone.into())].into(),
        annotations: BTreeMap::new(),
        taints: Vec::new(),
        unschedulable: false,
        allocatable: Resources { cpu: MilliCpu(1000), pods: 10, ..Default::default() },
        fittings: None,
        readiness: Readiness::Ready { since: Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        addresses: Vec::new(),
        created_at: Timestamp::UNIX_EPOCH,
        deleting: false,
    }
}

fn shape(cpu: u64) -> PodShape {
    PodShape {
        requests: Resources { cpu: MilliCpu(cpu), pods: 1, ..Default::default() },
        ..Default::default()
    }
}

fn pod(name: &str, app: &str, shape: &PodShape) -> Pod {
    Pod {
        key: PodKey::new("d", name),
        uid: name.into(),
        shape: Arc::new(shape.clone()),
        labels: [("app".into(), app.into())].into(),
        owner: None,
        created_at: Timestamp::UNIX_EPOCH,
        phase: PodPhase::Pending,
        ready: false,
        node: None,
        nominated: None,
        unschedulable_since: None,
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
    }
}

fn web() -> LabelSelector {
    LabelSelector { match_labels: [("app".into(), "web".into())].into(), ..Default::default() }
}

fn near_web(key: &str) -> Vec<PodTerm> {
    vec![PodTerm {
        topology_key: key.into(),
        selector: Some(web()),
        namespaces: Vec::new(),
        namespace_selector: None,
    }]
}

fn spread(max_skew: u32) -> PodShape {
    let constraint = SpreadConstraint {
        topology_key: "zone".into(),
        max_skew,
        selector: Some(web()),
        min_domains: 1,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
    };
    PodShape { spread: vec![constraint], ..shape(1) }
}

/// Nodes a and b in zones of their own: how many pods of each shape are put on a, on b, and who is misplaced.
#[test]
fn each_rule_finds_its_witness() {
    let apart = PodShape { pod_anti_affinity: near_web(HOSTNAME), ..shape(1) };
    let near = PodShape { pod_affinity: near_web("zone"), ..shape(1) };
    let picky = PodShape { node_selector: [("zone".into(), "z-b".into())].into(), ..shape(1) };
    let port = HostPort { port: 80, protocol: "TCP".into(), address: "".into() };
    let ported = PodShape { host_ports: vec![port], ..shape(1) };
    let key = Arc::from("zone");
    let in_b = model::Requirement { key, operator: model::Operator::In, values: vec!["z-b".into()] };
    let in_b = NodeSelectorTerm { match_expressions: vec![in_b], match_fields: Vec::new() };
    let needs = VolumeNeeds { bound: vec![vec![in_b]], ..Default::default() };
    let bound = PodShape { volumes: Some(Arc::new(needs)), ..shape(1) };
    let table = [
        ("volumes in b", bound, 1, 1, 1),
        ("room", shape(500), 2, 1, 0),
        ("no room", shape(500), 3, 0, 1),
        ("ports", ported, 2, 1, 1),
        ("selector", picky, 1, 1, 1),
        ("apart", apart.clone(), 1, 1, 0),
        ("apart, together", apart, 2, 1, 1),
        ("near each other", near.clone(), 3, 0, 0),
        ("near, in two zones", near, 2, 1, 1),
        ("spread evenly", spread(1), 3, 2, 0),
        ("spread too far", spread(1), 3, 1, 1),
        ("spread with more skew", spread(2), 3, 1, 0),
    ];
    let (a, b) = (node("a", "z-a"), node("b", "z-b"));
    for (name, shape, on_a, on_b, misplaced) in table {
        let pods: Vec<Pod> = (0..on_a + on_b).map(|n| pod(&format!("p{n}"), "web", &shape)).collect();
        let sites = [&a, &b].map(|node| Site { node, promised: false, there: Vec::new() });
        let placed: Vec<(&Pod, usize)> =
            pods.iter().enumerate().map(|(at, pod)| (pod, usize::from(at >= on_a))).collect();
        let found = check_placement(&BTreeMap::new(), &sites, &placed);
        assert_eq!(found.len(), misplaced, "{name}: {found:?}");
    }
}

#[test]
fn pods_that_are_there_are_not_judged_and_keep_others_away() {
    let apart = PodShape { pod_anti_affinity: near_web("zone"), ..shape(1) };
    let there = [pod("x", "web", &apart), pod("y", "web", &apart)];
    let new = [pod("plain", "web", &shape(1)), pod("other", "db", &shape(1))];
    let a = node("a", "z-a");
    let site = Site { node: &a, promised: false, there: there.iter().collect() };
    let placed: Vec<(&Pod, usize)> = new.iter().map(|pod| (pod, 0)).collect();
    let found = check_placement(&BTreeMap::new(), &[site], &placed);
    let expected =
        Misplaced { pod: PodKey::new("d", "plain"), site: 0, why: "d/x wants to be apart from it".into() };
    assert_eq!(found, [expected]);
}

#[test]
fn machines_to_be_made_have_hosts_of_their_own() {
    let apart = PodShape { pod_anti_affinity: near_web(HOSTNAME), ..shape(1) };
    let pods = [pod("p", "web", &apart), pod("q", "web", &apart)];
    let mut blank = node("new", "z-a");
    blank.labels.remove(HOSTNAME);
    let site = || Site { node: &blank, promised: true, there: Vec::new() };
    let placed = [(&pods[0], 0), (&pods[1], 1)];
    assert!(check_placement(&BTreeMap::new(), &[site(), site()], &placed).is_empty());
    let together = [(&pods[0], 0), (&pods[1], 0)];
    assert_eq!(check_placement(&BTreeMap::new(), &[site(), site()], &together).len(), 1);
}
