//! What claims of devices mean for pods and nodes, whatever order their objects come in.

use super::super::storage::tests::{node, pod_claiming};
use super::super::{Change, Cluster, Input, InputState, StorageChange};
use super::*;
use crate::{Device, DeviceValue, PodClaims, PodDeviceClaim, ResourceName};

const GPU: &str = "deviceclass.resource.kubernetes.io/gpu";

fn pod(name: &str, node: Option<&str>, claim: Option<&str>, template: Option<&str>) -> Change {
    let device = PodDeviceClaim { claim: claim.map(Into::into), template: template.map(Into::into) };
    let claims = PodClaims { devices: vec![device], ..PodClaims::default() };
    pod_claiming(name, node, claims, UnmodelledRule::ResourceClaims)
}

fn told(change: DeviceChange) -> Change {
    Change::Storage(StorageChange::Devices(change))
}

fn equals(attribute: Option<&str>, value: &str) -> DeviceTerm {
    let attribute = attribute.map(|name| (Arc::from("x"), Arc::from(name)));
    DeviceTerm { attribute, equal: true, value: DeviceValue::Text(value.into()) }
}

/// A pool of a node with devices of a model; `of` slices make it whole.
fn slice(node: &str, model: &str, count: usize, of: i64) -> Change {
    let device = |at: usize| Device {
        name: format!("gpu-{at}").into(),
        attributes: vec![("x".into(), "model".into(), DeviceValue::Text(model.into()))],
        tainted: false,
        whole: true,
    };
    let slice = DeviceSlice {
        driver: "x".into(),
        pool: node.into(),
        generation: 1,
        of,
        node: Some(node.into()),
        devices: (0..count).map(device).collect(),
    };
    told(DeviceChange::Slice(format!("{node}-x").into(), Some(Arc::new(slice))))
}

fn class(name: &str, terms: Option<Vec<DeviceTerm>>) -> Change {
    let class = DeviceClass { name: name.into(), selector: terms };
    told(DeviceChange::Class(name.into(), Some(Arc::new(class))))
}

#[expect(clippy::unnecessary_wraps, reason = "what a claim asks for may also be not modelled")]
fn asks(class: &str, terms: Vec<DeviceTerm>, count: u64) -> DeviceAsk {
    Ok(vec![DeviceRequest { class: class.into(), terms, count }])
}

fn claim(name: &str, ask: DeviceAsk, given: Option<(&str, &[usize])>) -> Change {
    let id = |node: &str, at: &usize| (Arc::from("x"), Arc::from(node), Arc::from(format!("gpu-{at}")));
    let given = given.map(|(node, devices)| devices.iter().map(|at| id(node, at)).collect());
    let claim = DeviceClaim { ask, given };
    told(DeviceChange::Claim(VolumeClaimKey::new("d", name), Some(Arc::new(claim))))
}

fn template(name: &str, ask: DeviceAsk) -> Change {
    told(DeviceChange::Template(VolumeClaimKey::new("d", name), Some(Arc::new(ask))))
}

fn gpus() -> Vec<Change> {
    let fresh = Change::Input(Input::Devices, InputState::Fresh);
    vec![fresh, class("gpu", Some(vec![equals(None, "x")])), node("n1"), node("n2"), slice("n1", "a", 4, 1)]
}

/// The cluster, whichever way round its changes come, and out of a checkpoint.
fn cluster(changes: &[Change]) -> Cluster {
    let of = |changes: &mut dyn Iterator<Item = &Change>| {
        let mut cluster = Cluster::default();
        changes.for_each(|change| cluster.apply(change.clone()));
        cluster
    };
    let one = of(&mut changes.iter());
    let other = of(&mut changes.iter().rev());
    assert_eq!((one.nodes(), one.pods()), (other.nodes(), other.pods()));
    let text = serde_json::to_string(&one).unwrap();
    let again: Cluster = serde_json::from_str(&text).unwrap();
    assert_eq!(again.reindexed(), one);
    one
}

fn amounts(resources: &Resources) -> Vec<(&str, u64)> {
    resources.extended.iter().map(|(name, amount)| (&*name.0, *amount)).collect()
}

fn asked<'c>(cluster: &'c Cluster, pod: &str) -> (Vec<(&'c str, u64)>, &'c [UnmodelledRule]) {
    let shape = &cluster.pods()[&PodKey::new("d", pod)].shape;
    (amounts(&shape.requests), &shape.unmodelled)
}

fn offered<'c>(cluster: &'c Cluster, node: &str) -> Vec<(&'c str, u64)> {
    amounts(&cluster.nodes()[&NodeName::from(node)].allocatable)
}

#[test]
fn devices_of_a_class_are_counted_for_pods_and_nodes() {
    let mut changes = gpus();
    changes.extend([
        pod("new", None, None, Some("two")),
        template("two", asks("gpu", Vec::new(), 2)),
        pod("runs", Some("n1"), Some("own"), None),
        claim("own", asks("gpu", Vec::new(), 1), Some(("n1", &[0]))),
    ]);
    let cluster = cluster(&changes);
    assert_eq!(asked(&cluster, "new"), (vec![(GPU, 2)], &[][..]));
    // What a pod has to itself it would ask for anywhere; the node offers it as it offers its memory.
    assert_eq!(asked(&cluster, "runs"), (vec![(GPU, 1)], &[][..]));
    assert_eq!(offered(&cluster, "n1"), [(GPU, 4)]);
    assert_eq!(offered(&cluster, "n2"), []);
}

#[test]
fn an_allocated_claim_of_several_pods_pins_them_and_holds_its_devices() {
    let mut changes = gpus();
    changes.extend([
        claim("shared", asks("gpu", Vec::new(), 2), Some(("n1", &[1, 2]))),
        pod("one", Some("n1"), Some("shared"), None),
        pod("two", None, Some("shared"), None),
    ]);
    let cluster = cluster(&changes);
    let pin = "resourceclaim.resource.kubernetes.io/d/shared";
    assert_eq!(asked(&cluster, "one"), (vec![(pin, 1)], &[][..]));
    assert_eq!(asked(&cluster, "two"), (vec![(pin, 1)], &[][..]));
    assert_eq!(offered(&cluster, "n1"), [(GPU, 2), (pin, SHARERS)]);
}

#[test]
fn what_cannot_be_counted_says_why() {
    let rule_of = |changes: Vec<Change>| {
        let cluster = cluster(&gpus().into_iter().chain(changes).collect::<Vec<_>>());
        let (amounts, rules) = asked(&cluster, "p");
        assert_eq!(amounts, []);
        let [rule] = rules else { panic!("{rules:?}") };
        *rule
    };
    let p = || pod("p", None, Some("c"), None);
    assert_eq!(rule_of(vec![p()]), UnmodelledRule::ClaimMissing);
    let unknown = claim("c", asks("tpu", Vec::new(), 1), None);
    assert_eq!(rule_of(vec![p(), unknown]), UnmodelledRule::ClaimMissing);
    let gpu = || claim("c", asks("gpu", Vec::new(), 1), None);
    let odd = claim("c", asks("odd", Vec::new(), 1), None);
    assert_eq!(rule_of(vec![p(), odd, class("odd", None)]), UnmodelledRule::DeviceSelector);
    let sized = claim("c", asks("gpu", vec![equals(Some("size"), "large")], 1), None);
    assert_eq!(rule_of(vec![p(), sized]), UnmodelledRule::DeviceSelector);
    assert_eq!(rule_of(vec![p(), gpu(), pod("q", None, Some("c"), None)]), UnmodelledRule::SharedClaim);
    let all = claim("c", Err(UnmodelledRule::DeviceRequest), None);
    assert_eq!(rule_of(vec![p(), all]), UnmodelledRule::DeviceRequest);
    let narrower = template("t", asks("gpu", vec![equals(Some("model"), "a")], 1));
    let other = slice("n2", "b", 1, 1);
    assert_eq!(rule_of(vec![p(), gpu(), narrower, other]), UnmodelledRule::DeviceOverlap);
    let stale = InputState::Stale { since: jiff::Timestamp::UNIX_EPOCH, why: "no rights".into() };
    assert_eq!(
        {
            let mut cluster = cluster(&gpus());
            for change in [p(), gpu(), Change::Input(Input::Devices, stale)] {
                cluster.apply(change);
            }
            asked(&cluster, "p").1.to_vec()
        },
        [UnmodelledRule::ResourceClaims]
    );
}

#[test]
fn requests_that_accept_the_same_devices_count_as_one_resource() {
    let mut changes = gpus();
    changes.extend([
        template("any", asks("gpu", Vec::new(), 1)),
        template("model", asks("gpu", vec![equals(Some("model"), "a")], 1)),
        pod("one", None, None, Some("any")),
        pod("two", None, None, Some("model")),
    ]);
    let cluster = cluster(&changes);
    assert_eq!(asked(&cluster, "one"), asked(&cluster, "two"));
    assert_eq!(offered(&cluster, "n1"), [(GPU, 4)]);
}

#[test]
fn of_a_pool_that_is_not_whole_nothing_is_offered_and_what_is_gone_is_gone() {
    let mut changes = gpus();
    changes.extend([template("any", asks("gpu", Vec::new(), 1)), slice("n2", "a", 2, 2)]);
    let mut cluster = cluster(&changes);
    assert_eq!((offered(&cluster, "n1"), offered(&cluster, "n2")), (vec![(GPU, 4)], vec![]));
    cluster.apply(told(DeviceChange::Slice("n1-x".into(), None)));
    assert_eq!(offered(&cluster, "n1"), []);
    assert!(ResourceName::new(GPU).is_claimed_device());
}
