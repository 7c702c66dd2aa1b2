//! What a pool can be asked for: machine types with prices, and the pools that launch single machines of them.
//!
//! Owns the catalogue of machine types, the wishes of a direct pool, and their product: the flavours, each one kind
//! of node that a pool can make. Which flavour is chosen is the packing engine's business.

use crate::{
    Bytes, Labels, MicroUsdPerHour, MilliCpu, Node, NodeTemplate, Operator, Requirement, ResourceName,
    Resources, Taint,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
const OS: &str = "kubernetes.io/os";
/// Where a type runs several systems, nodes are started with this one unless the pool says otherwise.
const USUAL_OS: &str = "linux";

/// How a machine is paid for; in the order in which equal prices are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityType {
    Reserved,
    OnDemand,
    Spot,
}

impl CapacityType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
        }
    }

    /// Reads the value of the label `karpenter.sh/capacity-type`.
    pub fn named(text: &str) -> Option<Self> {
        [Self::Reserved, Self::OnDemand, Self::Spot].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for CapacityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One way to get machines of a type: where, how paid for, at what price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offering {
    pub zone: Arc<str>,
    pub capacity_type: CapacityType,
    pub price: MicroUsdPerHour,
    pub available: bool,
    /// Machines that a reservation still holds; `None` where there is no such number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u32>,
}

/// A machine type of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceType {
    pub name: Arc<str>,
    /// What its nodes' labels can be: `In` with one value is a label, with several a choice.
    #[serde(default)]
    pub requirements: Vec<Requirement>,
    /// What the machine has; pool limits count it.
    pub capacity: Resources,
    /// What pods can use of it.
    pub allocatable: Resources,
    pub offerings: Vec<Offering>,
}

/// A direct pool's wish on one label, with the variety that it insists on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolRequirement {
    #[serde(flatten)]
    pub requirement: Requirement,
    /// A launch must leave at least so many values of the key to choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_values: Option<u32>,
}

/// How much a direct pool may hold at most, in capacity of its machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<Bytes>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extended: BTreeMap<ResourceName, u64>,
}

impl PoolLimits {
    /// The first resource of which `capacity` in `nodes` machines is over the limit.
    pub fn exceeded_by(&self, nodes: u32, capacity: &Resources) -> Option<ResourceName> {
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        if over(self.nodes.map(u64::from), u64::from(nodes)) {
            return Some(ResourceName::new("nodes"));
        }
        if over(self.cpu.map(|limit| limit.0), capacity.cpu.0) {
            return Some(ResourceName::new("cpu"));
        }
        if over(self.memory.map(|limit| limit.0), capacity.memory.0) {
            return Some(ResourceName::new("memory"));
        }
        if over(self.ephemeral_storage.map(|limit| limit.0), capacity.ephemeral_storage.0) {
            return Some(ResourceName::new("ephemeral-storage"));
        }
        let used = |name: &ResourceName| capacity.extended.get(name).copied().unwrap_or(0);
        self.extended.iter().find(|(name, limit)| used(name) > **limit).map(|(name, _)| name.clone())
    }
}

/// A direct pool as it was declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectSpec {
    /// The types that its provider sells; shared by the pools of one provider.
    pub catalogue: Arc<Vec<InstanceType>>,
    #[serde(default)]
    pub requirements: Vec<PoolRequirement>,
    /// Labels of every node of the pool.
    #[serde(default)]
    pub labels: Labels,
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Taints that a node starts with and loses: no pod needs to tolerate them.
    #[serde(default)]
    pub startup_taints: Vec<Taint>,
    #[serde(default)]
    pub limits: PoolLimits,
    #[serde(default)]
    pub disruption: crate::DisruptionPolicy,
    /// Label values that pods ask for, by key: where the pool may choose a label's value, it offers these too.
    #[serde(default)]
    pub asked: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// One kind of node that a pool can make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flavour {
    pub template: NodeTemplate,
    /// What the machine has; pool limits count it.
    pub capacity: Resources,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_type: Option<CapacityType>,
    #[serde(default)]
    pub price: MicroUsdPerHour,
    /// Machines of it that can be had; `None` where there is no such number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u32>,
}

/// A pool that launches single machines, with the flavours that its wishes leave of the catalogue.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "DirectSpec", into = "DirectSpec")]
pub struct DirectPool {
    spec: DirectSpec,
    flavours: Vec<Flavour>,
    /// For each flavour the node that it would make. There are thousands, so they are not made in each round.
    nodes: Vec<Arc<Node>>,
}

/// All else follows from the wishes.
impl PartialEq for DirectPool {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for DirectPool {}

impl DirectPool {
    /// Works out the flavours: available offerings that meet the requirements, in the catalogue's order.
    pub fn new(spec: DirectSpec) -> Self {
        let known: BTreeSet<&str> =
            spec.catalogue.iter().flat_map(|entry| entry.requirements.iter().map(|r| &*r.key)).collect();
        let own = own_labels(&spec, &known);
        let mut flavours = Vec::new();
        for entry in spec.catalogue.iter() {
            for mut labels in choices(&spec, entry, &own, &known) {
                labels.insert(INSTANCE_TYPE.into(), entry.name.clone());
                if suits(&spec, INSTANCE_TYPE, Some(&entry.name)) {
                    flavours.extend(offered(&spec, entry, &labels));
                }
            }
        }
        let nodes =
            flavours.iter().map(|flavour| Arc::new(Node::promised("new", &flavour.template))).collect();
        Self { spec, flavours, nodes }
    }

    pub fn spec(&self) -> &DirectSpec {
        &self.spec
    }

    pub fn flavours(&self) -> &[Flavour] {
        &self.flavours
    }

    /// The nodes that the flavours would make, in their order.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }
}

impl From<DirectSpec> for DirectPool {
    fn from(spec: DirectSpec) -> Self {
        Self::new(spec)
    }
}

impl From<DirectPool> for DirectSpec {
    fn from(pool: DirectPool) -> Self {
        pool.spec
    }
}

fn suits(spec: &DirectSpec, key: &str, value: Option<&str>) -> bool {
    let fits_labels = spec.labels.get(key).is_none_or(|label| Some(&**label) == value);
    fits_labels
        && spec
            .requirements
            .iter()
            .filter(|wish| &*wish.requirement.key == key)
            .all(|wish| wish.requirement.matches_value(value))
}

/// Labels that come from the pool alone, each with the values that it may take, the usual one first.
fn own_labels(spec: &DirectSpec, known: &BTreeSet<&str>) -> Vec<(Arc<str>, Vec<Arc<str>>)> {
    let mut all: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
    for wish in &spec.requirements {
        let key = &wish.requirement.key;
        let given = [ZONE, INSTANCE_TYPE, CAPACITY_TYPE].contains(&&**key) || known.contains(&**key);
        if given || wish.requirement.operator != Operator::In || spec.labels.contains_key(key) {
            continue;
        }
        let fit = |value: &&Arc<str>| suits(spec, key, Some(value.as_ref()));
        let values: Vec<_> = wish.requirement.values.iter().filter(fit).cloned().collect();
        all.insert(key.clone(), wanted(spec, key, values));
    }
    all.into_iter().filter(|(_, values)| !values.is_empty()).collect()
}

/// Of the values that a label may take: the usual one, then those that pods ask for.
fn wanted(spec: &DirectSpec, key: &str, mut values: Vec<Arc<str>>) -> Vec<Arc<str>> {
    if let Some(at) = values.iter().position(|value| key == OS && &**value == USUAL_OS) {
        values.swap(0, at);
    }
    let asked = spec.asked.get(key);
    let mut first = true;
    values.retain(|value| std::mem::take(&mut first) || asked.is_some_and(|asked| asked.contains(value)));
    values
}

/// The label sets that a node of a type can have, zone and capacity type apart; none where a wish is not met.
fn choices(
    spec: &DirectSpec,
    entry: &InstanceType,
    own: &[(Arc<str>, Vec<Arc<str>>)],
    known: &BTreeSet<&str>,
) -> Vec<Labels> {
    let mut sets = vec![spec.labels.clone()];
    let mut choose = |key: &Arc<str>, values: &[Arc<str>]| {
        let longer = |set: &Labels, value: &Arc<str>| {
            let mut set = set.clone();
            set.insert(key.clone(), value.clone());
            set
        };
        sets = sets.iter().flat_map(|set| values.iter().map(move |value| longer(set, value))).collect();
    };
    for (key, values) in own {
        choose(key, values);
    }
    for of_type in entry.requirements.iter().filter(|r| r.operator == Operator::In) {
        if [ZONE, INSTANCE_TYPE, CAPACITY_TYPE].contains(&&*of_type.key) {
            continue;
        }
        let fit = |value: &&Arc<str>| suits(spec, &of_type.key, Some(value.as_ref()));
        let values: Vec<_> = of_type.values.iter().filter(fit).cloned().collect();
        choose(&of_type.key, &wanted(spec, &of_type.key, values));
    }
    // What other types say and this one does not, its nodes will not have.
    let has = |key: &str| {
        entry.requirements.iter().any(|r| &*r.key == key && r.operator != Operator::DoesNotExist)
            || [ZONE, INSTANCE_TYPE, CAPACITY_TYPE].contains(&key)
    };
    let lacking = |key: &str| known.contains(key) && !has(key) && !spec.labels.contains_key(key);
    if spec
        .requirements
        .iter()
        .any(|wish| lacking(&wish.requirement.key) && !wish.requirement.matches_value(None))
    {
        return Vec::new();
    }
    sets
}

fn offered<'a>(
    spec: &'a DirectSpec,
    entry: &'a InstanceType,
    labels: &'a Labels,
) -> impl Iterator<Item = Flavour> + 'a {
    let fits = |offering: &&Offering| {
        offering.available
            && offering.remaining != Some(0)
            && suits(spec, ZONE, Some(&offering.zone))
            && suits(spec, CAPACITY_TYPE, Some(offering.capacity_type.as_str()))
    };
    entry.offerings.iter().filter(fits).map(|offering| {
        let mut labels = labels.clone();
        labels.insert(ZONE.into(), offering.zone.clone());
        labels.insert(CAPACITY_TYPE.into(), offering.capacity_type.as_str().into());
        Flavour {
            template: NodeTemplate {
                labels,
                taints: spec.taints.clone(),
                allocatable: entry.allocatable.clone(),
                fittings: None,
            },
            capacity: entry.capacity.clone(),
            instance_type: Some(entry.name.clone()),
            zone: Some(offering.zone.clone()),
            capacity_type: Some(offering.capacity_type),
            price: offering.price,
            remaining: offering.remaining,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> Requirement {
        Requirement { key: key.into(), operator, values: values.iter().map(|v| Arc::from(*v)).collect() }
    }

    fn wish(key: &str, operator: Operator, values: &[&str]) -> PoolRequirement {
        PoolRequirement { requirement: requirement(key, operator, values), min_values: None }
    }

    fn catalogue() -> Arc<Vec<InstanceType>> {
        let offering = |zone: &str, capacity_type, price, available| Offering {
            zone: zone.into(),
            capacity_type,
            price: MicroUsdPerHour(price),
            available,
            remaining: None,
        };
        let entry = |name: &str, cores: u64, gpu: bool| InstanceType {
            name: name.into(),
            requirements: [
                Some(requirement("cpu", Operator::In, &[&cores.to_string()])),
                Some(requirement(OS, Operator::In, &["darwin", "linux", "windows"])),
                gpu.then(|| requirement("gpu", Operator::In, &["1"])),
            ]
            .into_iter()
            .flatten()
            .collect(),
            capacity: Resources { cpu: MilliCpu(cores * 1000), ..Default::default() },
            allocatable: Resources { cpu: MilliCpu(cores * 1000 - 100), ..Default::default() },
            offerings: vec![
                offering("a", CapacityType::OnDemand, 100, true),
                offering("b", CapacityType::Spot, 40, true),
                offering("c", CapacityType::Spot, 40, false),
            ],
        };
        Arc::new(vec![entry("small", 2, false), entry("large", 8, false), entry("graphics", 8, true)])
    }

    fn names(requirements: Vec<PoolRequirement>) -> Vec<String> {
        let spec = DirectSpec { catalogue: catalogue(), requirements, ..Default::default() };
        let name =
            |f: &Flavour| format!("{}/{}", f.instance_type.as_ref().unwrap(), f.zone.as_ref().unwrap());
        DirectPool::new(spec).flavours().iter().map(name).collect()
    }

    #[test]
    fn wishes_narrow_the_catalogue() {
        use Operator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
        assert_eq!(names(vec![]).len(), 6);
        let table: &[(PoolRequirement, &[&str])] = &[
            (wish(INSTANCE_TYPE, In, &["small"]), &["small/a", "small/b"]),
            (wish(ZONE, NotIn, &["a"]), &["small/b", "large/b", "graphics/b"]),
            (wish(CAPACITY_TYPE, In, &["on-demand"]), &["small/a", "large/a", "graphics/a"]),
            (wish("cpu", Gt, &["2"]), &["large/a", "large/b", "graphics/a", "graphics/b"]),
            (wish("cpu", Lt, &["8"]), &["small/a", "small/b"]),
            (wish("gpu", Exists, &[]), &["graphics/a", "graphics/b"]),
            (wish("gpu", DoesNotExist, &[]), &["small/a", "small/b", "large/a", "large/b"]),
            (wish(OS, In, &["plan9"]), &[]),
        ];
        for (wish, expected) in table {
            assert_eq!(names(vec![wish.clone()]), *expected, "{wish:?}");
        }
    }

    #[test]
    fn labels_are_the_pools_the_types_and_the_offerings() {
        let spec = DirectSpec {
            catalogue: catalogue(),
            requirements: vec![wish("team", Operator::In, &["web", "db"])],
            labels: Labels::from([("tier".into(), "1".into())]),
            asked: BTreeMap::from([
                ("team".into(), BTreeSet::from(["db".into()])),
                (OS.into(), BTreeSet::from(["windows".into(), "beos".into()])),
            ]),
            ..Default::default()
        };
        let pool = DirectPool::new(spec);
        let first = &pool.flavours()[0].template.labels;
        for (key, value) in [("team", "web"), ("tier", "1"), (OS, "linux"), (ZONE, "a"), ("cpu", "2")] {
            assert_eq!(first.get(key).map(AsRef::as_ref), Some(value));
        }
        // Two teams and two systems for each of six offerings.
        assert_eq!(pool.flavours().len(), 24);
        let text = serde_json::to_string(&pool).unwrap();
        assert_eq!(serde_json::from_str::<DirectPool>(&text).unwrap(), pool);
    }

    #[test]
    fn limits_name_what_is_exceeded() {
        let limits = PoolLimits { nodes: Some(2), cpu: Some(MilliCpu(4000)), ..Default::default() };
        let cores = |n: u64| Resources { cpu: MilliCpu(n * 1000), ..Default::default() };
        assert_eq!(limits.exceeded_by(2, &cores(4)), None);
        assert_eq!(limits.exceeded_by(3, &cores(4)), Some(ResourceName::new("nodes")));
        assert_eq!(limits.exceeded_by(1, &cores(5)), Some(ResourceName::new("cpu")));
    }
}
