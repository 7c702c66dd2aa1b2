//! What claims mean for pods and nodes, whatever order their objects come in.

use super::super::{Change, Cluster};
use super::*;
use crate::{
    AccessMode, Bytes, InputState, NodeSelectorTerm, Operator, PodClaims, PodVolumeClaim, Requirement, Uid,
};
use jiff::Timestamp;

fn pod(name: &str, node: Option<&str>, claims: &[&str]) -> Change {
    let volumes = claims.iter().map(|name| PodVolumeClaim { name: Arc::from(*name), ephemeral: false });
    let claims = PodClaims { volumes: volumes.collect(), ..PodClaims::default() };
    pod_claiming(name, node, claims, UnmodelledRule::Volumes)
}

pub(in crate::cluster) fn pod_claiming(
    name: &str,
    node: Option<&str>,
    claims: PodClaims,
    rule: UnmodelledRule,
) -> Change {
    let key = PodKey::new("d", name);
    let pod = Pod {
        key: key.clone(),
        uid: Uid::from(name),
        shape: Arc::new(PodShape { unmodelled: vec![rule], ..Default::default() }),
        labels: crate::Labels::new(),
        owner: None,
        created_at: Timestamp::UNIX_EPOCH,
        phase: PodPhase::Pending,
        ready: false,
        node: node.map(NodeName::from),
        nominated: None,
        unschedulable_since: None,
        gated: false,
        deletion_at: None,
        grace_seconds: 30,
        safe_to_evict: crate::SafeToEvict::Unset,
        mirror: false,
        daemon: false,
        terminal: false,
        local_volumes: Vec::new(),
        claims: Some(Box::new(claims)),
        scale_up_delay_seconds: None,
        consumes: None,
        evict_daemon: None,
    };
    Change::Pod(key, Some(Arc::new(pod)))
}

pub(in crate::cluster) fn node(name: &str) -> Change {
    let node = crate::Node {
        name: name.into(),
        uid: name.into(),
        machine: None,
        addresses: Vec::new(),
        labels: crate::Labels::new(),
        annotations: BTreeMap::new(),
        taints: Vec::new(),
        unschedulable: false,
        allocatable: crate::Resources::default(),
        fittings: None,
        readiness: crate::Readiness::Ready { since: Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        created_at: Timestamp::UNIX_EPOCH,
        deleting: false,
    };
    Change::Node(name.into(), Some(Arc::new(node)))
}

fn claim(name: &str, volume: Option<&str>, mode: AccessMode) -> Change {
    let key = VolumeClaimKey::new("d", name);
    let claim = VolumeClaim {
        key: key.clone(),
        uid: name.into(),
        class: "fast".into(),
        volume: volume.map(VolumeName::from),
        bound: volume.is_some(),
        access_modes: vec![mode],
        request: Bytes(10),
        mode: crate::VolumeMode::Filesystem,
        selector: None,
        attributes_class: "".into(),
        selected_node: None,
        lost: false,
        deleting: false,
        owner_pod: None,
    };
    Change::Storage(StorageChange::Claim(key, Some(Arc::new(claim))))
}

fn in_zone(zone: &str) -> Vec<NodeSelectorTerm> {
    let key = Arc::from("topology.kubernetes.io/zone");
    let requirement = Requirement { key, operator: Operator::In, values: vec![zone.into()] };
    vec![NodeSelectorTerm { match_expressions: vec![requirement], match_fields: Vec::new() }]
}

fn volume(name: &str, zone: &str) -> Change {
    let volume = PersistentVolume {
        name: name.into(),
        class: "fast".into(),
        claim: None,
        available: false,
        deleting: false,
        capacity: Bytes(10),
        access_modes: vec![AccessMode::ReadWriteOnce],
        mode: crate::VolumeMode::Filesystem,
        attributes_class: "".into(),
        labels: [("topology.kubernetes.io/zone".into(), zone.into())].into(),
        node_affinity: Some(in_zone(zone)),
        csi: Some(CsiSource { driver: "csi".into(), handle: name.into() }),
    };
    Change::Storage(StorageChange::Volume(name.into(), Some(Arc::new(volume))))
}

fn class(binding: BindingMode) -> Change {
    let class = StorageClass {
        name: "fast".into(),
        provisioner: Some("csi".into()),
        driver: Some("csi".into()),
        binding,
        allowed_topologies: in_zone("a"),
    };
    Change::Storage(StorageChange::Class("fast".into(), Some(Arc::new(class))))
}

fn seen() -> [Change; 2] {
    [Input::Volumes, Input::Attachments].map(|input| Change::Input(input, InputState::Fresh))
}

fn cluster(changes: impl IntoIterator<Item = Change>) -> Cluster {
    let mut cluster = Cluster::default();
    for change in changes {
        cluster.apply(change);
    }
    cluster
}

fn shape(cluster: &Cluster, pod: &str) -> Arc<PodShape> {
    cluster.pods()[&PodKey::new("d", pod)].shape.clone()
}

fn needs(cluster: &Cluster, pod: &str) -> Arc<VolumeNeeds> {
    shape(cluster, pod).volumes.clone().unwrap()
}

#[test]
fn the_order_in_which_objects_come_changes_nothing() {
    let mut changes = vec![
        pod("p", None, &["c"]),
        claim("c", Some("v"), AccessMode::ReadWriteOnce),
        volume("v", "a"),
        class(BindingMode::Immediate),
    ];
    changes.extend(seen());
    let forward = cluster(changes.clone());
    changes.reverse();
    let backward = cluster(changes);
    assert_eq!(forward, backward);
    let needs = needs(&forward, "p");
    assert_eq!(needs.bound, [in_zone("a")]);
    assert_eq!(needs.zones[0].values, ["a".into()].into());
    assert_eq!(needs.attaches, [("csi".into(), 1)].into());
    assert!(shape(&forward, "p").unmodelled.is_empty());

    let text = serde_json::to_string(&forward).unwrap();
    let again: Cluster = serde_json::from_str(&text).unwrap();
    assert_eq!(again.reindexed(), forward);
}

#[test]
fn what_cannot_be_read_is_a_reason_and_no_guess() {
    let unseen = cluster([pod("p", None, &["c"])]);
    assert_eq!(shape(&unseen, "p").unmodelled, [UnmodelledRule::VolumesUnseen]);
    let [volumes, _] = seen();
    let half = cluster([
        volumes,
        class(BindingMode::WaitForFirstConsumer),
        claim("c", None, AccessMode::ReadWriteOnce),
        pod("p", None, &["c"]),
    ]);
    assert_eq!(shape(&half, "p").unmodelled, [UnmodelledRule::AttachmentsUnseen]);
}

#[test]
fn a_claim_is_refused_as_the_scheduler_refuses_it() {
    let mut all = cluster(seen());
    all.apply(pod("p", None, &["c"]));
    let refused = |cluster: &Cluster| needs(cluster, "p").refused.clone();
    assert_eq!(refused(&all), Some(VolumeRefusal::ClaimNotFound { claim: "c".into() }));
    all.apply(claim("c", None, AccessMode::ReadWriteOnce));
    assert_eq!(refused(&all), Some(VolumeRefusal::UnboundImmediate));
    all.apply(class(BindingMode::WaitForFirstConsumer));
    assert_eq!(refused(&all), None);
    let unbound = &needs(&all, "p").unbound[0];
    assert!(unbound.provisionable);
    assert_eq!(unbound.allowed_topologies, in_zone("a"));
    all.apply(claim("c", Some("gone"), AccessMode::ReadWriteOnce));
    assert!(needs(&all, "p").volume_missing);
}

#[test]
fn only_what_is_shared_is_named() {
    let mut all = cluster(seen());
    for change in [class(BindingMode::WaitForFirstConsumer), pod("p", Some("n"), &["c"])] {
        all.apply(change);
    }
    all.apply(claim("c", None, AccessMode::ReadWriteOncePod));
    assert!(needs(&all, "p").exclusive.is_empty());
    all.apply(pod("q", None, &["c"]));
    for name in ["p", "q"] {
        let needs = needs(&all, name);
        assert_eq!(needs.exclusive, [VolumeClaimKey::new("d", "c")].into(), "{name}");
        assert!(needs.attaches.is_empty() && needs.shared.len() == 1, "{name}");
    }
    all.apply(Change::Pod(PodKey::new("d", "p"), None));
    assert_eq!(needs(&all, "q").attaches, [("csi".into(), 1)].into());
}

#[test]
fn what_stays_attached_without_a_user_fills_its_node() {
    let attachment =
        VolumeAttachment { node: "n".into(), driver: "csi".into(), volume: VolumeName::from("v") };
    let mut all = cluster(seen());
    for change in [
        node("n"),
        volume("v", "a"),
        claim("c", Some("v"), AccessMode::ReadWriteOnce),
        pod("p", Some("n"), &["c"]),
        Change::Storage(StorageChange::Attachment("at".into(), Some(Arc::new(attachment)))),
        Change::Storage(StorageChange::NodeDrivers(
            "n".into(),
            Some(Arc::new([("csi".into(), Some(3))].into())),
        )),
    ] {
        all.apply(change);
    }
    let fittings = |all: &Cluster| all.nodes()[&NodeName::from("n")].fittings.clone().unwrap();
    assert_eq!(fittings(&all).drivers, [("csi".into(), Some(3))].into());
    assert!(fittings(&all).left_attached.is_empty());
    all.apply(Change::Pod(PodKey::new("d", "p"), None));
    assert_eq!(fittings(&all).left_attached, [("csi".into(), 1)].into());
    let Change::Node(name, Some(bare)) = node("n") else { unreachable!() };
    assert_eq!(all.joined_node(&bare), all.nodes()[&name]);
    all.apply(node("n"));
    assert_eq!(fittings(&all).left_attached, [("csi".into(), 1)].into(), "the node's own news keep the join");
}
