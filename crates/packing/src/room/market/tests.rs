//! What rooms ask of the optimiser, and that its answers keep the rules as the room knows them.

use crate::solve::{Effort, Pool, solve};
use crate::{ClassIx, Group, Make, Market, Room, Vocabulary};
use model::{
    Bytes, HostPort, LabelSelector, Labels, MilliCpu, Node, NodeInclusion, NodeName, PodShape, PodTerm,
    Readiness, Resources, SpreadConstraint, Uid,
};
use std::collections::BTreeMap;
use std::sync::Arc;

const ZONE: &str = "zone";

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect()
}

fn node(name: &str, zone: &str, cores: u64) -> Arc<Node> {
    Arc::new(Node {
        name: NodeName::from(name),
        uid: Uid::from(name),
        machine: None,
        addresses: Vec::new(),
        labels: labels(&[(ZONE, zone)]),
        annotations: BTreeMap::new(),
        taints: Vec::new(),
        unschedulable: false,
        allocatable: amount(cores * 1000, 100),
        readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        fittings: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        deleting: false,
    })
}

fn amount(cpu: u64, pods: u32) -> Resources {
    Resources { cpu: MilliCpu(cpu), memory: Bytes(cpu), pods, ..Resources::default() }
}

fn web() -> LabelSelector {
    LabelSelector { match_labels: labels(&[("app", "web")]), ..LabelSelector::default() }
}

fn spread() -> SpreadConstraint {
    SpreadConstraint {
        topology_key: ZONE.into(),
        max_skew: 1,
        selector: Some(web()),
        min_domains: 1,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
    }
}

fn term(key: &str) -> PodTerm {
    PodTerm {
        topology_key: key.into(),
        selector: Some(web()),
        namespaces: Vec::new(),
        namespace_selector: None,
    }
}

fn market(zones: &[&str]) -> Market {
    let make = |(at, zone): (usize, &&str)| Make {
        node: node(&format!("new-{zone}"), zone, 4),
        overhead: Vec::new(),
        pool: 0,
        machine_type: 0,
        price: 100 + at as u64,
        uses: Vec::new(),
        values: Vec::new(),
    };
    Market {
        pools: vec![Pool { flexible: true, ..Pool::default() }],
        makes: zones.iter().enumerate().map(make).collect(),
        ..Market::default()
    }
}

struct World {
    room: Room,
    class: ClassIx,
}

fn world(shape: PodShape) -> World {
    let shape = Arc::new(shape);
    let mut room = Room::new(Vocabulary::of([&*shape]), &BTreeMap::new());
    let class = room.class(&shape, &Arc::from("default"), &labels(&[("app", "web")]));
    World { room, class }
}

impl World {
    /// Pods by zone of the machines that are bought, and how many pods are left.
    fn bought(&mut self, zones: &[&str], count: u32) -> (BTreeMap<String, u32>, usize, u32) {
        let market = market(zones);
        let before = format!("{:?}", self.room.mark());
        let question = self.room.question(&market, &[Group { class: self.class, count }]);
        assert_eq!(format!("{:?}", self.room.mark()), before, "the room is as it was");
        let answer = solve(&question.problem, Effort::default()).unwrap();
        let mut by_zone = BTreeMap::new();
        for machine in &answer.machines {
            let zone = market.makes[machine.offering].node.labels[ZONE].to_string();
            *by_zone.entry(zone).or_default() += machine.pods.iter().map(|(_, count)| count).sum::<u32>();
        }
        (by_zone, answer.machines.len(), answer.unplaced.iter().map(|unplaced| unplaced.count).sum())
    }
}

fn by_zone(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
    pairs.iter().map(|(zone, count)| ((*zone).to_owned(), *count)).collect()
}

#[test]
fn plain_pods_fill_the_cheapest_machines() {
    let mut world = world(PodShape { requests: amount(1000, 1), ..PodShape::default() });
    assert_eq!(world.bought(&["a", "b"], 8), (by_zone(&[("a", 8)]), 2, 0));
}

#[test]
fn spreading_counts_pods_that_exist() {
    let shape = PodShape { requests: amount(1000, 1), spread: vec![spread()], ..PodShape::default() };
    let mut world = world(shape);
    let old = world.room.add(node("old", "a", 2));
    world.room.hold(world.class, old, 2);
    assert_eq!(world.bought(&["a", "b"], 4).0, by_zone(&[("a", 1), ("b", 3)]));
}

#[test]
fn a_zone_without_machines_holds_the_others_back() {
    let shape = PodShape { requests: amount(1000, 1), spread: vec![spread()], ..PodShape::default() };
    let mut world = world(shape);
    world.room.add(node("full", "c", 0));
    let (zones, _, left) = world.bought(&["a", "b"], 6);
    assert_eq!((zones, left), (by_zone(&[("a", 1), ("b", 1)]), 4));
}

#[test]
fn pods_that_shun_each_other_get_machines_of_their_own() {
    let alone = PodShape {
        requests: amount(100, 1),
        pod_anti_affinity: vec![term("kubernetes.io/hostname")],
        ..PodShape::default()
    };
    assert_eq!(world(alone).bought(&["a"], 3).1, 3);
    let port = HostPort { port: 80, protocol: "TCP".into(), address: "".into() };
    let ports = PodShape { requests: amount(100, 1), host_ports: vec![port], ..PodShape::default() };
    assert_eq!(world(ports).bought(&["a"], 3).1, 3);
}

#[test]
fn pods_that_exist_keep_others_out_of_their_zone() {
    let alone =
        PodShape { requests: amount(100, 1), pod_anti_affinity: vec![term(ZONE)], ..PodShape::default() };
    let mut world = world(alone);
    let old = world.room.add(node("old", "a", 2));
    world.room.hold(world.class, old, 1);
    let (zones, _, left) = world.bought(&["a", "b"], 2);
    assert_eq!((zones, left), (by_zone(&[("b", 1)]), 1));
}
