//! Clusters that grew and shrank: nodes of some pools with what is left on them, and a market of types.

use model::{
    Bytes, LabelSelector, Labels, MilliCpu, Node, NodeInclusion, NodeTemplate, PodShape, PodTerm, Resources,
    SpreadConstraint,
};
use packing::solve::Pool;
use packing::{ClassIx, Leaver, Make, Market, Room, Vocabulary};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
pub(crate) const HOST: &str = "kubernetes.io/hostname";
const POOL: &str = "pool";
const TYPE: &str = "node.kubernetes.io/instance-type";

/// A generator of numbers (`SplitMix64`).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % limit.max(1)
    }
}

/// Pods of one kind.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) shape: Arc<PodShape>,
    pub(crate) labels: Labels,
}

/// A node with the pods on it, by kind.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) node: Arc<Node>,
    pub(crate) pods: Vec<(usize, u32)>,
    pub(crate) price: u64,
    pub(crate) pool: usize,
}

#[derive(Clone)]
pub(crate) struct City {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) houses: Vec<House>,
    pub(crate) market: Market,
}

pub(crate) struct Size {
    pub(crate) pools: usize,
    pub(crate) nodes: usize,
    pub(crate) pods_on_node: u64,
    pub(crate) kinds: usize,
    pub(crate) zones: u64,
    /// Of a hundred pods so many have ended since.
    pub(crate) ended: u64,
    pub(crate) rules: bool,
    /// Requests are divided by this.
    pub(crate) part: u64,
}

fn text(value: &str) -> Arc<str> {
    Arc::from(value)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| (text(key), text(value))).collect()
}

fn amounts(cpu: u64, gibibytes_8: u64, pods: u32) -> Resources {
    Resources { cpu: MilliCpu(cpu), memory: Bytes(gibibytes_8 << 27), pods, ..Resources::default() }
}

/// Types of three shapes and five sizes; a core with more memory costs more.
fn template(pool: usize, family: u64, size: u64, zone: u64) -> (NodeTemplate, u64) {
    let cores = 2 << size;
    let gibibytes_8 = cores * 8 * (2 << family);
    let name = format!("f{family}-{cores}");
    let template = NodeTemplate {
        labels: labels(&[(POOL, &format!("pool-{pool}")), (TYPE, &name), (ZONE, &format!("zone-{zone}"))]),
        allocatable: amounts(cores * 1000 - 100, gibibytes_8 - 2, 110),
        ..NodeTemplate::default()
    };
    (template, cores * (40_000 + family * 9_000))
}

impl City {
    pub(crate) fn random(seed: u64, size: &Size) -> Self {
        let mut dice = Dice(seed);
        let kinds: Vec<Kind> = (0..size.kinds).map(|at| kind(at, size, &mut dice)).collect();
        let mut market = Market::default();
        for pool in 0..size.pools {
            market.pools.push(Pool { flexible: true, ..Pool::default() });
            for (number, (family, of_size)) in
                (0..3).flat_map(|family| (0..5).map(move |of_size| (family, of_size))).enumerate()
            {
                for zone in 0..size.zones {
                    let (template, price) = template(pool, family, of_size, zone);
                    market.makes.push(Make {
                        node: Arc::new(Node::promised("new", &template)),
                        overhead: Vec::new(),
                        pool,
                        machine_type: number as u32,
                        price,
                        uses: Vec::new(),
                        values: Vec::new(),
                    });
                }
            }
        }
        let mut city = Self { kinds, houses: Vec::new(), market };
        city.settle(size, &mut dice);
        city
    }

    /// Nodes are filled as rules allow; then most pods end.
    fn settle(&mut self, size: &Size, dice: &mut Dice) {
        for at in 0..size.nodes {
            let (pool, zone) = (at % size.pools, dice.below(size.zones));
            let (template, price) = template(pool, dice.below(3), 1 + dice.below(4), zone);
            let mut node = Node::promised(&format!("node-{at}"), &template);
            node.labels.insert(text(HOST), text(node.name.as_str()));
            self.houses.push(House { node: Arc::new(node), pods: Vec::new(), price, pool });
        }
        let (mut room, classes, _) = self.room();
        for at in 0..size.nodes {
            let own: Vec<usize> = (0..self.kinds.len())
                .filter(|kind| {
                    let pool = self.kinds[*kind].shape.node_selector.get(POOL);
                    pool.is_none_or(|pool| **pool == *format!("pool-{}", at % size.pools))
                })
                .collect();
            for _ in 0..size.pods_on_node {
                let kind = own[dice.below(own.len() as u64) as usize];
                if room.place_on(classes[kind], packing::SpotIx(at)) && dice.below(100) >= size.ended {
                    let pods = &mut self.houses[at].pods;
                    match pods.iter_mut().find(|(known, _)| *known == kind) {
                        Some((_, n)) => *n += 1,
                        None => pods.push((kind, 1)),
                    }
                }
            }
        }
    }

    /// The room of the city, its classes by kind, and all nodes as leavers.
    pub(crate) fn room(&self) -> (Room, Vec<ClassIx>, Vec<Leaver>) {
        let mut vocabulary = Vocabulary::default();
        for kind in &self.kinds {
            vocabulary.add(&kind.shape);
        }
        let mut room = Room::new(vocabulary, &BTreeMap::new());
        let namespace = text("default");
        let classes: Vec<ClassIx> =
            self.kinds.iter().map(|kind| room.class(&kind.shape, &namespace, &kind.labels)).collect();
        let mut leavers = Vec::new();
        for house in &self.houses {
            let spot = room.add(Arc::clone(&house.node));
            let moving: Vec<(ClassIx, u32)> =
                house.pods.iter().map(|(kind, n)| (classes[*kind], *n)).collect();
            for (class, n) in &moving {
                room.hold(*class, spot, *n);
            }
            let (price, company) = (house.price, house.pool);
            leavers.push(Leaver { spot, price, moving, company, least_permille: 0, allowances: vec![0] });
        }
        (room, classes, leavers)
    }

    pub(crate) fn price(&self) -> u64 {
        self.houses.iter().map(|house| house.price).sum()
    }
}

fn kind(at: usize, size: &Size, dice: &mut Dice) -> Kind {
    let cpu = [100, 250, 250, 500, 500, 1000, 2000][dice.below(7) as usize];
    let memory = [1, 2, 4, 4, 8, 16][dice.below(6) as usize].max(size.part) / size.part;
    let app = format!("app-{at}");
    let own = labels(&[("app", &app)]);
    let selector = Some(LabelSelector { match_labels: own.clone(), match_expressions: Vec::new() });
    let mut shape = PodShape { requests: amounts(cpu / size.part, memory, 1), ..PodShape::default() };
    if dice.below(2) == 0 && size.pools > 1 {
        shape.node_selector = labels(&[(POOL, &format!("pool-{}", at % size.pools))]);
    }
    match if size.rules { at % 6 } else { 0 } {
        1 => {
            shape.spread = vec![SpreadConstraint {
                topology_key: text(ZONE),
                max_skew: 1 + dice.below(2) as u32,
                selector,
                min_domains: 1,
                node_affinity_policy: NodeInclusion::Honor,
                node_taints_policy: NodeInclusion::Ignore,
            }];
        }
        2 => {
            let (namespaces, namespace_selector) = (Vec::new(), None);
            let term = PodTerm { topology_key: text(HOST), selector, namespaces, namespace_selector };
            shape.pod_anti_affinity = vec![term];
        }
        _ => {}
    }
    Kind { shape: Arc::new(shape), labels: own }
}
