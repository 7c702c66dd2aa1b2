//! NodeOverlays: prices and capacities as their owner has them, laid over what clouds say.
//!
//! Owns reading them, which of them win, which are at odds with each other, and the classes that come of it. The heaviest
//! wins, of equal weights the last by name; one that says something of an offering of which another of its weight has
//! said something is not applied at all.

use crate::classes::canonical;
use crate::cloud::{Class, NoClass, Offer};
use crate::mirror::Mirror;
use crate::orders::meets;
use crate::simulated::offer_of_type;
use api::karpenter::{
    CAPACITY_OVERLAY, CAPACITY_TYPE, NODE_POOL, NodeClassRef, NodeOverlay, NodePool, NodeRequirement,
    PRICE_OVERLAY, RequirementOperator,
};
use api::labels::{INSTANCE_TYPE, ZONE};
use clouds::watching::Seen;
use kube::ResourceExt as _;
use model::{InstanceType, MicroUsdPerHour, Offering, Operator, ResourceName};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Overlays that are looked at; those that come after them in the order of winning are not applied.
const MOST: usize = 1000;
const OWN_AMOUNTS: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pods"];
const WHOLE: i128 = 100_000_000;

/// What becomes of a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Price {
    Is(u64),
    /// Millionths of a dollar.
    Plus(i128),
    /// Millionths of a per cent.
    Share(i128),
}

impl Price {
    fn of(self, price: MicroUsdPerHour) -> MicroUsdPerHour {
        let before = i128::from(price.0);
        let after = match self {
            Self::Is(price) => i128::from(price),
            Self::Plus(difference) => before + difference,
            Self::Share(share) => before + before * share / WHOLE,
        };
        MicroUsdPerHour(u64::try_from(after.max(0)).unwrap_or(u64::MAX))
    }
}

#[derive(Clone, Debug)]
struct Overlay {
    name: String,
    weight: i32,
    requirements: Vec<NodeRequirement>,
    price: Option<Price>,
    capacity: BTreeMap<ResourceName, u64>,
}

/// Why an overlay is not applied: the reason and message of its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub reason: &'static str,
    pub message: String,
}

/// A pool's class with what overlays made of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Overlaid {
    pub class: Arc<Class>,
    /// Whose price an offering has.
    pub priced: BTreeMap<Offer, String>,
    /// Whose capacity a type has.
    pub enlarged: BTreeMap<Arc<str>, String>,
}

/// What all overlays come to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Resolved {
    /// By name of the overlay.
    pub verdicts: BTreeMap<String, Option<Refusal>>,
    /// By name of the pool; pools that no overlay is about are not in it.
    pub pools: BTreeMap<String, Overlaid>,
}

impl Resolved {
    /// The annotations by which a claim tells whose word its price and its capacity are.
    pub(crate) fn annotations(&self, pool: &str, offer: &Offer) -> BTreeMap<&'static str, String> {
        let Some(overlaid) = self.pools.get(pool) else { return BTreeMap::new() };
        let price = overlaid.priced.get(offer).map(|name| (PRICE_OVERLAY, name.clone()));
        let capacity = overlaid.enlarged.get(&offer.0).map(|name| (CAPACITY_OVERLAY, name.clone()));
        price.into_iter().chain(capacity).collect()
    }
}

/// What a pool was when overlays were last looked at.
type PoolKey = (String, BTreeMap<String, String>, NodeClassRef, Option<Arc<Class>>);

/// All overlays as last seen, and what they come to.
pub(crate) struct Overlays {
    objects: Mirror<NodeOverlay>,
    seen: bool,
    key: Vec<PoolKey>,
    resolved: Arc<Resolved>,
}

impl Overlays {
    pub(crate) fn new() -> Self {
        Self { objects: Mirror::new(), seen: false, key: Vec::new(), resolved: Arc::default() }
    }

    /// Whether all of them are known.
    pub(crate) fn synced(&self) -> bool {
        self.objects.synced
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<NodeOverlay>> {
        self.objects.get(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.objects.all().map(|object| object.name_any()).collect()
    }

    pub(crate) fn take(&mut self, seen: Seen<NodeOverlay>) {
        self.seen |= !self.objects.take(seen).is_empty();
    }

    pub(crate) fn resolved(&self) -> &Arc<Resolved> {
        &self.resolved
    }

    /// A pool's class with its overlays.
    pub(crate) fn class(&self, pool: &str, class: &Arc<Class>) -> Arc<Class> {
        self.resolved.pools.get(pool).map_or_else(|| class.clone(), |overlaid| overlaid.class.clone())
    }

    /// Works out anew what they come to, where something has changed; whether it is different from before. Of pools that
    /// are named twice the last counts.
    pub(crate) fn refresh<'a>(
        &mut self,
        pools: impl Iterator<Item = &'a NodePool>,
        class_of: impl Fn(&NodeClassRef) -> Result<Arc<Class>, NoClass>,
    ) -> bool {
        if self.objects.all().next().is_none() && self.resolved.verdicts.is_empty() {
            self.seen = false;
            return false;
        }
        let by_name: BTreeMap<String, &NodePool> = pools.map(|pool| (pool.name_any(), pool)).collect();
        let key: Vec<PoolKey> = by_name
            .into_iter()
            .map(|(name, pool)| {
                let reference = canonical(&pool.spec.template.spec.node_class_ref).into_owned();
                let class = class_of(&reference).ok();
                (name, pool.spec.template.metadata.labels.clone(), reference, class)
            })
            .collect();
        if !self.seen && self.is_known(&key) {
            return false;
        }
        self.seen = false;
        let resolved = resolve(self.objects.all(), &key);
        self.key = key;
        let different = *self.resolved != resolved;
        if different {
            self.resolved = Arc::new(resolved);
        }
        different
    }

    fn is_known(&self, key: &[PoolKey]) -> bool {
        let same_class = |a: &Option<Arc<Class>>, b: &Option<Arc<Class>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.key.len() == key.len()
            && self.key.iter().zip(key).all(|(a, b)| a.0 == b.0 && a.1 == b.1 && same_class(&a.3, &b.3))
    }
}

/// What has been laid over one pool so far, by places in its list of types.
struct Laid<'a> {
    pool: &'a str,
    labels: &'a BTreeMap<String, String>,
    class: &'a Arc<Class>,
    prices: BTreeMap<(usize, usize), usize>,
    amounts: BTreeMap<(usize, ResourceName), usize>,
}

impl Laid<'_> {
    /// The offerings that an overlay is about.
    fn hits(&self, overlay: &Overlay) -> Vec<(usize, usize)> {
        let types = self.class.types.iter().enumerate();
        let all = types.flat_map(|(at, entry)| {
            entry.offerings.iter().enumerate().map(move |(number, offering)| (at, number, entry, offering))
        });
        all.filter(|(_, _, entry, offering)| {
            overlay.requirements.iter().all(|wish| allows(wish, &self.values(&wish.key, entry, offering)))
        })
        .map(|(at, number, ..)| (at, number))
        .collect()
    }

    /// The values of a label that machines of an offering have.
    fn values(&self, key: &str, entry: &InstanceType, offering: &Offering) -> Vec<Arc<str>> {
        let key = model::today_name(&Arc::from(key));
        match &*key {
            NODE_POOL => vec![Arc::from(self.pool)],
            INSTANCE_TYPE => vec![entry.name.clone()],
            ZONE => vec![offering.zone.clone()],
            CAPACITY_TYPE => vec![Arc::from(offering.capacity_type.as_str())],
            key => {
                if let Some(value) = self.labels.get(key) {
                    return vec![Arc::from(value.as_str())];
                }
                let known =
                    entry.requirements.iter().filter(|r| &*r.key == key && r.operator == Operator::In);
                known.flat_map(|requirement| requirement.values.iter().cloned()).collect()
            }
        }
    }

    /// Another overlay of the same weight that has said something of the same.
    fn rival(&self, overlay: &Overlay, hits: &[(usize, usize)], accepted: &[Overlay]) -> Option<usize> {
        let equal = |other: &&usize| accepted[**other].weight == overlay.weight;
        let prices = hits.iter().filter(|_| overlay.price.is_some());
        let price = prices.filter_map(|hit| self.prices.get(hit)).find(equal);
        let mut amounts = hits.iter().flat_map(|(at, _)| {
            overlay.capacity.keys().filter_map(|name| self.amounts.get(&(*at, name.clone())))
        });
        price.or_else(|| amounts.find(equal)).copied()
    }

    fn lay(&mut self, overlay: &Overlay, hits: &[(usize, usize)], number: usize) {
        for (at, offering) in hits {
            if overlay.price.is_some() {
                self.prices.entry((*at, *offering)).or_insert(number);
            }
            for name in overlay.capacity.keys() {
                self.amounts.entry((*at, name.clone())).or_insert(number);
            }
        }
    }

    fn class(self, accepted: &[Overlay]) -> Option<(String, Overlaid)> {
        if self.prices.is_empty() && self.amounts.is_empty() {
            return None;
        }
        let mut types = (*self.class.types).clone();
        let (mut priced, mut enlarged) = (BTreeMap::new(), BTreeMap::new());
        for ((at, offering), number) in self.prices {
            let overlay = &accepted[number];
            priced.insert(offer_of_type(&types[at], &types[at].offerings[offering]), overlay.name.clone());
            let price = &mut types[at].offerings[offering].price;
            *price = overlay.price.map_or(*price, |change| change.of(*price));
        }
        for ((at, name), number) in self.amounts {
            let overlay = &accepted[number];
            let Some(amount) = overlay.capacity.get(&name) else { continue };
            enlarged.insert(types[at].name.clone(), overlay.name.clone());
            types[at].capacity.extended.insert(name.clone(), *amount);
            types[at].allocatable.extended.insert(name, *amount);
        }
        let class = Arc::new(Class { types: Arc::new(types), ..(**self.class).clone() });
        Some((self.pool.to_owned(), Overlaid { class, priced, enlarged }))
    }
}

fn resolve<'a>(objects: impl Iterator<Item = &'a Arc<NodeOverlay>>, pools: &[PoolKey]) -> Resolved {
    let mut resolved = Resolved::default();
    let mut read: Vec<Overlay> = Vec::new();
    for object in objects {
        match overlay(object) {
            Ok(overlay) => read.push(overlay),
            Err(message) => {
                let refusal = Refusal { reason: "RuntimeValidation", message };
                resolved.verdicts.insert(object.name_any(), Some(refusal));
            }
        }
    }
    read.sort_by(|a, b| (Reverse(a.weight), Reverse(&a.name)).cmp(&(Reverse(b.weight), Reverse(&b.name))));
    let too_many: BTreeSet<String> = read.drain(MOST.min(read.len())..).map(|overlay| overlay.name).collect();
    for name in too_many {
        let message = format!("there are more than {MOST} overlays before it");
        resolved.verdicts.insert(name, Some(Refusal { reason: "TooMany", message }));
    }
    let mut laid: Vec<Laid<'_>> = pools
        .iter()
        .filter_map(|(pool, labels, _, class)| {
            let class = class.as_ref()?;
            Some(Laid { pool, labels, class, prices: BTreeMap::new(), amounts: BTreeMap::new() })
        })
        .collect();
    let mut accepted: Vec<Overlay> = Vec::new();
    for overlay in read {
        let hits: Vec<Vec<(usize, usize)>> = laid.iter().map(|pool| pool.hits(&overlay)).collect();
        let rival = laid.iter().zip(&hits).find_map(|(pool, hits)| {
            pool.rival(&overlay, hits, &accepted).map(|other| (pool.pool, accepted[other].name.as_str()))
        });
        if let Some((pool, other)) = rival {
            let message = format!(
                "it says something else than {other}, of equal weight, of the same offerings of NodePool {pool}; give one of \
                 them another weight"
            );
            resolved.verdicts.insert(overlay.name, Some(Refusal { reason: "Conflict", message }));
            continue;
        }
        for (pool, hits) in laid.iter_mut().zip(&hits) {
            pool.lay(&overlay, hits, accepted.len());
        }
        resolved.verdicts.insert(overlay.name.clone(), None);
        accepted.push(overlay);
    }
    resolved.pools = laid.into_iter().filter_map(|pool| pool.class(&accepted)).collect();
    resolved
}

/// Whether one of the values that a label has meets a requirement. A label that machines do not have meets only those that
/// ask for nothing to be there.
fn allows(wish: &NodeRequirement, values: &[Arc<str>]) -> bool {
    match wish.operator {
        RequirementOperator::DoesNotExist => values.is_empty(),
        RequirementOperator::NotIn if values.is_empty() => true,
        _ => values.iter().any(|value| meets(wish, Some(value))),
    }
}

/// Reads an overlay; what is wrong with it names the field.
fn overlay(object: &NodeOverlay) -> Result<Overlay, String> {
    let spec = &object.spec;
    for (at, wish) in spec.requirements.iter().enumerate() {
        let number = || wish.values.len() == 1 && wish.values[0].parse::<u64>().is_ok();
        let problem = match wish.operator {
            RequirementOperator::In | RequirementOperator::NotIn if wish.values.is_empty() => {
                "needs at least one value"
            }
            RequirementOperator::Gt
            | RequirementOperator::Lt
            | RequirementOperator::Gte
            | RequirementOperator::Lte
                if !number() =>
            {
                "needs one whole number"
            }
            RequirementOperator::Exists | RequirementOperator::DoesNotExist if !wish.values.is_empty() => {
                "takes no values"
            }
            _ => continue,
        };
        return Err(format!("spec.requirements[{at}].values: {:?} {problem}", wish.operator));
    }
    let own = spec.capacity.keys().find(|name| OWN_AMOUNTS.contains(&name.as_str()));
    if let Some(own) = own {
        return Err(format!(
            "spec.capacity.{own}: only resources beside {} can be said",
            OWN_AMOUNTS.join(", ")
        ));
    }
    let amounts =
        intake::resources(&spec.capacity).map_err(|error| error.under("spec.capacity").to_string())?;
    let price = match (&spec.price, &spec.price_adjustment) {
        (Some(_), Some(_)) => {
            return Err("spec.price: price and priceAdjustment cannot be set together".to_owned());
        }
        (Some(text), None) => Some(Price::Is(micro("spec.price", text)?)),
        (None, Some(text)) => Some(adjustment(text)?),
        (None, None) => None,
    };
    Ok(Overlay {
        name: object.name_any(),
        weight: spec.weight.unwrap_or(0),
        requirements: spec.requirements.clone(),
        price,
        capacity: amounts.extended,
    })
}

fn micro(field: &str, text: &str) -> Result<u64, String> {
    let padded = if text.starts_with('.') { format!("0{text}") } else { text.to_owned() };
    intake::micro_usd(&padded).map(|price| price.0).map_err(|error| error.under(field).to_string())
}

fn adjustment(text: &str) -> Result<Price, String> {
    let field = "spec.priceAdjustment";
    let wrong = || format!("{field}: {text:?} is neither +0.5 or -0.5, an amount an hour, nor +10% or -10%");
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(wrong()),
    };
    match rest.strip_suffix('%') {
        None => Ok(Price::Plus(sign * i128::from(micro(field, rest)?))),
        Some(share) => {
            let share = sign * i128::from(micro(field, share)?);
            if share < -WHOLE { Err(wrong()) } else { Ok(Price::Share(share)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;
    use crate::cloud::SimulatedTerms;
    use serde_json::{Value, json};

    fn class() -> Arc<Class> {
        Arc::new(Class {
            types: Arc::new(catalogue::built_in(&["a", "b"])),
            image: String::new(),
            hash: String::new(),
            generation: 0,
            simulated: SimulatedTerms::default(),
        })
    }

    fn object(name: &str, spec: Value) -> Arc<NodeOverlay> {
        let mut object = NodeOverlay::new(name, serde_json::from_value(spec).unwrap());
        object.metadata.name = Some(name.to_owned());
        Arc::new(object)
    }

    fn of(objects: &[Arc<NodeOverlay>]) -> Resolved {
        let labels = BTreeMap::from([("team".to_owned(), "web".to_owned())]);
        let plain = ("plain".to_owned(), BTreeMap::new(), NodeClassRef::default(), Some(class()));
        resolve(objects.iter(), &[("main".to_owned(), labels, NodeClassRef::default(), Some(class())), plain])
    }

    fn price(resolved: &Resolved, pool: &str, wanted: (&str, &str, &str)) -> u64 {
        let class = resolved.pools.get(pool).map_or_else(class, |overlaid| overlaid.class.clone());
        let entry = class.types.iter().find(|entry| &*entry.name == wanted.0).unwrap();
        let offering = entry
            .offerings
            .iter()
            .find(|offering| (&*offering.zone, offering.capacity_type.as_str()) == (wanted.1, wanted.2));
        offering.unwrap().price.0
    }

    fn refused(resolved: &Resolved) -> Vec<String> {
        let refused = resolved.verdicts.iter().filter_map(|(name, verdict)| Some((name, verdict.as_ref()?)));
        refused.map(|(name, refusal)| format!("{name}: {}", refusal.reason)).collect()
    }

    fn key(key: &str, values: &[&str]) -> Value {
        json!({"key": key, "operator": "In", "values": values})
    }

    const ON_DEMAND: (&str, &str, &str) = ("m5.large", "a", "on-demand");

    #[test]
    fn prices_are_set_raised_and_lowered_and_never_below_nothing() {
        let family = key("karpenter.k8s.aws/instance-family", &["m5"]);
        let table = [
            (json!({"price": "0.02"}), 20_000),
            (json!({"priceAdjustment": "+0.5"}), 596_000),
            (json!({"priceAdjustment": "-0.5"}), 0),
            (json!({"priceAdjustment": "+10%"}), 105_600),
            (json!({"priceAdjustment": "-12.5%"}), 84_000),
            (json!({"priceAdjustment": "-100%"}), 0),
        ];
        for (mut spec, wanted) in table {
            spec["requirements"] = json!([family]);
            let resolved = of(&[object("one", spec.clone())]);
            assert_eq!(price(&resolved, "main", ON_DEMAND), wanted, "{spec}");
            assert_eq!(price(&resolved, "main", ("c5.large", "a", "on-demand")), 85_000, "{spec}");
        }
    }

    #[test]
    fn requirements_are_of_pool_labels_type_zone_and_capacity_type() {
        let table = [
            (key("karpenter.sh/nodepool", &["plain"]), [false, true]),
            (key("team", &["web"]), [true, false]),
            (json!({"key": "team", "operator": "DoesNotExist"}), [false, true]),
            (json!({"key": "team", "operator": "NotIn", "values": ["web"]}), [false, true]),
            (key("nobody/knows", &["it"]), [false, false]),
            (key("node.kubernetes.io/instance-type", &["m5.large"]), [true, true]),
            (key("topology.kubernetes.io/zone", &["b"]), [false, false]),
            (key("failure-domain.beta.kubernetes.io/zone", &["a"]), [true, true]),
            (key("karpenter.sh/capacity-type", &["spot"]), [false, false]),
            (
                json!({"key": "karpenter.k8s.aws/instance-cpu", "operator": "Lt", "values": ["3"]}),
                [true, true],
            ),
            (
                json!({"key": "karpenter.k8s.aws/instance-cpu", "operator": "Gte", "values": ["3"]}),
                [false, false],
            ),
        ];
        for (wish, wanted) in table {
            let resolved = of(&[object("one", json!({"requirements": [wish], "price": "1"}))]);
            let found = ["main", "plain"].map(|pool| price(&resolved, pool, ON_DEMAND) == 1_000_000);
            assert_eq!(found, wanted, "{wish}");
        }
    }

    #[test]
    fn the_heaviest_wins_and_equals_are_at_odds() {
        let all = json!([]);
        let heavy = object("a", json!({"requirements": all, "price": "3", "weight": 20}));
        let light = object("z", json!({"requirements": all, "price": "1", "weight": 10}));
        let resolved = of(&[light.clone(), heavy.clone()]);
        assert_eq!((price(&resolved, "main", ON_DEMAND), refused(&resolved)), (3_000_000, Vec::new()));
        // The later by name comes first; the other is not applied anywhere, not even where it alone has a word.
        let types = json!([key("node.kubernetes.io/instance-type", &["m5.large", "c5.large"])]);
        let rival = object("b", json!({"requirements": types, "price": "5", "weight": 20}));
        let narrow = object(
            "c",
            json!({"requirements": [key("node.kubernetes.io/instance-type", &["c5.large"])],
            "priceAdjustment": "+1", "weight": 20}),
        );
        let resolved = of(&[rival.clone(), narrow]);
        assert_eq!(refused(&resolved), ["b: Conflict"]);
        assert_eq!(price(&resolved, "main", ON_DEMAND), 96_000);
        // What each says is about something else.
        let amount = object("d", json!({"requirements": types, "capacity": {"a.com/b": "2"}, "weight": 20}));
        assert!(refused(&of(&[rival, amount.clone()])).is_empty());
        let other = object("e", json!({"requirements": all, "capacity": {"a.com/b": "3"}, "weight": 20}));
        assert_eq!(refused(&of(&[amount, other])), ["d: Conflict"]);
    }

    #[test]
    fn capacity_comes_to_types_and_mistakes_name_their_field() {
        let types = json!([key("node.kubernetes.io/instance-type", &["m5.large"])]);
        let resolved = of(&[object("one", json!({"requirements": types, "capacity": {"a.com/fuse": "2"}}))]);
        let class = &resolved.pools["main"].class;
        let entry = class.types.iter().find(|entry| &*entry.name == "m5.large").unwrap();
        let name = ResourceName::new("a.com/fuse");
        assert_eq!((entry.capacity.extended[&name], entry.allocatable.extended[&name]), (2, 2));
        assert_eq!(resolved.pools["main"].enlarged.len(), 1);
        for (spec, field) in [
            (json!({"requirements": [key("a", &[])]}), "spec.requirements[0].values"),
            (
                json!({"requirements": [{"key": "a", "operator": "Gt", "values": ["x"]}]}),
                "spec.requirements[0]",
            ),
            (json!({"capacity": {"memory": "1Gi"}}), "spec.capacity.memory"),
            (json!({"price": "much"}), "spec.price"),
            (json!({"price": "1", "priceAdjustment": "+1"}), "spec.price"),
            (json!({"priceAdjustment": "1"}), "spec.priceAdjustment"),
            (json!({"priceAdjustment": "-101%"}), "spec.priceAdjustment"),
        ] {
            let resolved = of(&[object("one", spec)]);
            let refusal = resolved.verdicts["one"].clone().unwrap();
            assert_eq!(refusal.reason, "RuntimeValidation");
            assert!(refusal.message.contains(field), "{refusal:?}");
        }
    }
}
