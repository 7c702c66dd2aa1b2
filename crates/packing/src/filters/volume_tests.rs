//! The volume filters by tables of cases in kube-scheduler's terms.

use super::*;
use crate::NodeVolumes;
use model::{
    AccessMode, Bytes, Change, Cluster, CsiSource, Fittings, InlineDisk, LabelSelector, Labels, Node,
    NodeSelectorTerm, Operator, PersistentVolume, Readiness, Requirement, Resources, StorageChange,
    UnboundVolume, VolumeClaimKey, VolumeConflict, VolumeMode, VolumeNeeds, VolumeRefusal, VolumeZone,
};
use std::sync::Arc;

const ZONE: &str = "topology.kubernetes.io/zone";

fn node(zone: &str) -> Node {
    let mut labels: Labels = [("kubernetes.io/hostname".into(), "n1".into())].into();
    if !zone.is_empty() {
        labels.insert(ZONE.into(), zone.into());
    }
    Node {
        name: "n1".into(),
        uid: "n1".into(),
        machine: None,
        labels,
        annotations: std::collections::BTreeMap::default(),
        taints: Vec::new(),
        unschedulable: false,
        allocatable: Resources { pods: 10, ..Default::default() },
        fittings: None,
        addresses: Vec::new(),
        readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        deleting: false,
    }
}

fn shape(needs: VolumeNeeds) -> PodShape {
    PodShape {
        requests: Resources { pods: 1, ..Default::default() },
        volumes: Some(Arc::new(needs)),
        ..Default::default()
    }
}

fn is_in(key: &str, values: &[&str]) -> Vec<NodeSelectorTerm> {
    let values = values.iter().map(|value| Arc::from(*value)).collect();
    let requirement = Requirement { key: key.into(), operator: Operator::In, values };
    vec![NodeSelectorTerm { match_expressions: vec![requirement], match_fields: Vec::new() }]
}

fn unbound() -> UnboundVolume {
    UnboundVolume {
        class: "fast".into(),
        request: Bytes(10),
        access_modes: vec![AccessMode::ReadWriteOnce],
        mode: VolumeMode::Filesystem,
        attributes_class: "".into(),
        selector: None,
        kept: None,
        selected_node: None,
        provisionable: true,
        allowed_topologies: Vec::new(),
        room_on: None,
    }
}

fn open(name: &str, size: u64, zone: &str) -> PersistentVolume {
    PersistentVolume {
        name: name.into(),
        class: "fast".into(),
        claim: None,
        available: true,
        deleting: false,
        capacity: Bytes(size),
        access_modes: vec![AccessMode::ReadWriteOnce],
        mode: VolumeMode::Filesystem,
        attributes_class: "".into(),
        labels: [("tier".into(), "gold".into())].into(),
        node_affinity: Some(is_in(ZONE, &[zone])),
        csi: None,
    }
}

fn volumes(all: Vec<PersistentVolume>) -> ClusterVolumes {
    let mut cluster = Cluster::default();
    for volume in all {
        cluster.apply(Change::Storage(StorageChange::Volume(volume.name.clone(), Some(Arc::new(volume)))));
    }
    ClusterVolumes::of(&cluster)
}

fn refused(needs: VolumeNeeds, node: Node, around: &ClusterVolumes) -> Option<PoolRejection> {
    let shape = shape(needs);
    let ask = Ask { volumes: Some(around), ..Ask::of(&shape) };
    first_rejection(&ask, &NodeView::new(Arc::new(node)))
}

fn conflict(conflict: VolumeConflict) -> PoolRejection {
    PoolRejection::VolumeConflicts { conflicts: vec![conflict] }
}

#[test]
fn bound_volumes_pin_their_pods() {
    let nothing = ClusterVolumes::default();
    let in_a = || VolumeNeeds { bound: vec![is_in(ZONE, &["a"])], ..Default::default() };
    let mismatch = Some(conflict(VolumeConflict::NodeAffinity));
    let both = VolumeNeeds { bound: vec![is_in(ZONE, &["a"]), is_in(ZONE, &["b"])], ..Default::default() };
    let gone = VolumeNeeds { volume_missing: true, ..Default::default() };
    let nowhere = VolumeNeeds { bound: vec![Vec::new()], ..Default::default() };
    let table = [
        ("its zone", in_a(), "a", None),
        ("another zone", in_a(), "b", mismatch.clone()),
        ("two volumes in two zones", both, "a", mismatch.clone()),
        ("no alternative at all", nowhere, "a", mismatch),
        ("a volume that is gone", gone, "a", Some(conflict(VolumeConflict::NotFound))),
    ];
    for (case, needs, zone, expected) in table {
        assert_eq!(refused(needs, node(zone), &nothing), expected, "{case}");
    }
}

#[test]
fn claims_that_are_not_ready_refuse_every_node() {
    let why = VolumeRefusal::UnboundImmediate;
    let needs = VolumeNeeds { refused: Some(why.clone()), ..Default::default() };
    let found = refused(needs, node("a"), &ClusterVolumes::default());
    assert_eq!(found, Some(PoolRejection::VolumesRefused { why }));
    assert_eq!(found.unwrap().to_string(), "pod has unbound immediate PersistentVolumeClaims");
}

#[test]
fn unbound_claims_find_a_volume_or_have_one_made() {
    let none = Some(conflict(VolumeConflict::NoneToBind));
    let fixed = || UnboundVolume { provisionable: false, ..unbound() };
    let wants = |tier: &str| {
        let selector =
            LabelSelector { match_labels: [("tier".into(), tier.into())].into(), ..Default::default() };
        UnboundVolume { selector: Some(selector), ..fixed() }
    };
    let rooms = |zone: &str| {
        let nodes = LabelSelector { match_labels: [(ZONE.into(), zone.into())].into(), ..Default::default() };
        UnboundVolume { room_on: Some(vec![nodes]), ..unbound() }
    };
    let one = || vec![open("v", 10, "a")];
    let kept = |volume: PersistentVolume| PersistentVolume {
        claim: Some((VolumeClaimKey::new("d", "c"), None)),
        available: false,
        ..volume
    };
    let table: [(&str, UnboundVolume, Vec<PersistentVolume>, Option<PoolRejection>); 14] = [
        ("made anywhere", unbound(), vec![], None),
        (
            "made in the allowed zone",
            UnboundVolume { allowed_topologies: is_in(ZONE, &["a"]), ..unbound() },
            vec![],
            None,
        ),
        (
            "not made elsewhere",
            UnboundVolume { allowed_topologies: is_in(ZONE, &["b"]), ..unbound() },
            vec![],
            none.clone(),
        ),
        ("not made, none there", fixed(), vec![], none.clone()),
        ("one there", fixed(), one(), None),
        ("one in another zone", fixed(), vec![open("v", 10, "b")], none.clone()),
        ("one too small", fixed(), vec![open("v", 9, "a")], none.clone()),
        ("selector matches", wants("gold"), one(), None),
        ("selector does not", wants("silver"), one(), none.clone()),
        (
            "wrong access mode",
            UnboundVolume { access_modes: vec![AccessMode::ReadWriteMany], ..fixed() },
            one(),
            none.clone(),
        ),
        ("kept for somebody else", fixed(), vec![kept(open("v", 10, "a"))], none.clone()),
        ("room published here", rooms("a"), vec![], None),
        ("room published elsewhere", rooms("b"), vec![], Some(conflict(VolumeConflict::NotEnoughSpace))),
        (
            "promised to another node",
            UnboundVolume { selected_node: Some("n2".into()), ..unbound() },
            vec![],
            none,
        ),
    ];
    for (case, claim, all, expected) in table {
        let needs = VolumeNeeds { unbound: vec![claim], ..Default::default() };
        assert_eq!(refused(needs, node("a"), &volumes(all)), expected, "{case}");
    }
}

#[test]
fn open_volumes_are_used_up() {
    let mut around = volumes(vec![open("large", 20, "a"), open("small", 10, "a"), open("far", 10, "b")]);
    let fixed = UnboundVolume { provisionable: false, ..unbound() };
    let needs = VolumeNeeds { unbound: vec![fixed], ..Default::default() };
    let here = node("a");
    assert_eq!(around.capacity(&needs, &here, 9), 2);
    let taken = around.take(&needs, &here);
    assert_eq!(taken, ["small".into()], "the smallest that fits");
    assert_eq!(around.capacity(&needs, &here, 9), 1);
    around.give_back(&taken);
    assert_eq!(around.capacity(&needs, &here, 9), 2);
}

#[test]
fn attachments_are_counted_by_driver() {
    let source = |handle: &str| CsiSource { driver: "csi".into(), handle: handle.into() };
    let attaches = |count| VolumeNeeds { attaches: [("csi".into(), count)].into(), ..Default::default() };
    let shares = |handle: &str| VolumeNeeds { shared: [source(handle)].into(), ..Default::default() };
    let fitted = |limit: Option<u32>, left: u32| {
        let left_attached = [("csi".into(), left)].into();
        let fittings = Fittings { drivers: [("csi".into(), limit)].into(), left_attached };
        Node { fittings: Some(Arc::new(fittings)), ..node("a") }
    };
    let check = |node: Node, there: &[VolumeNeeds], needs: VolumeNeeds| {
        let there: Vec<_> = there.iter().cloned().map(shape).collect();
        let view = NodeView::holding(Arc::new(node), &there);
        first_rejection(&Ask::of(&shape(needs)), &view)
    };
    let full = Some(PoolRejection::VolumeLimitExceeded);
    assert_eq!(check(fitted(Some(2), 0), &[attaches(1)], attaches(1)), None);
    assert_eq!(check(fitted(Some(2), 0), &[attaches(1)], attaches(2)), full);
    assert_eq!(check(fitted(Some(2), 1), &[attaches(1)], attaches(1)), full, "left attached");
    assert_eq!(check(fitted(None, 9), &[attaches(9)], attaches(9)), None, "no limit");
    assert_eq!(check(node("a"), &[attaches(9)], attaches(9)), None, "no CSINode");
    assert_eq!(check(fitted(Some(1), 0), &[shares("v")], shares("v")), None, "attached already");
    assert_eq!(check(fitted(Some(1), 0), &[shares("v")], shares("w")), full);
    let must_run = VolumeNeeds { drivers: ["other".into()].into(), ..Default::default() };
    let missing = PoolRejection::CsiDriverMissing { driver: "other".into() };
    assert_eq!(check(fitted(Some(1), 0), &[], must_run), Some(missing));

    let mut here = NodeVolumes::default();
    let fittings = fitted(Some(7), 1).fittings.unwrap();
    assert_eq!(here.capacity(&attaches(2), &fittings), 3);
    here.add(&attaches(2), 2);
    assert_eq!(here.capacity(&attaches(2), &fittings), 1);
    here.remove(&attaches(2), 2);
    assert_eq!(here, NodeVolumes::default());
}

#[test]
fn some_disks_and_claims_are_used_once() {
    let disk = |read_only| InlineDisk::GcePersistentDisk { name: "d".into(), read_only };
    let holds = |disk: InlineDisk| VolumeNeeds { disks: vec![disk], ..Default::default() };
    let check = |there: InlineDisk, new: InlineDisk| {
        let view = NodeView::holding(Arc::new(node("a")), [&shape(holds(there))]);
        first_rejection(&Ask::of(&shape(holds(new))), &view)
    };
    let conflict = Some(PoolRejection::DiskConflict);
    assert_eq!(check(disk(true), disk(true)), None);
    assert_eq!(check(disk(true), disk(false)), conflict);
    let ebs = || InlineDisk::AwsElasticBlockStore { volume: "v".into() };
    assert_eq!(check(ebs(), ebs()), conflict);
    let rbd = |monitor: &str, image: &str| InlineDisk::Rbd {
        monitors: vec![monitor.into()],
        pool: "p".into(),
        image: image.into(),
        read_only: false,
    };
    assert_eq!(check(rbd("m", "i"), rbd("m", "i")), conflict);
    assert_eq!(check(rbd("m", "i"), rbd("m", "j")), None);
    assert_eq!(check(rbd("m", "i"), rbd("n", "i")), None);

    let mut around = ClusterVolumes::default();
    let needs = VolumeNeeds { exclusive: [VolumeClaimKey::new("d", "c")].into(), ..Default::default() };
    assert_eq!(refused(needs.clone(), node("a"), &around), None);
    around.use_claims(&needs, 1);
    assert_eq!(refused(needs.clone(), node("a"), &around), Some(PoolRejection::ExclusiveClaimInUse));
    around.free_claims(&needs, 1);
    assert_eq!(refused(needs, node("a"), &around), None);
}

#[test]
fn zones_of_volumes_agree_with_nodes() {
    let zone = |key: &str, values: &[&str]| VolumeNeeds {
        zones: vec![VolumeZone { key: key.into(), values: values.iter().map(|v| Arc::from(*v)).collect() }],
        ..Default::default()
    };
    let old = "failure-domain.beta.kubernetes.io/zone";
    let mismatch = Some(PoolRejection::VolumeZoneMismatch);
    let nothing = ClusterVolumes::default();
    assert_eq!(refused(zone(ZONE, &["a", "b"]), node("a"), &nothing), None);
    assert_eq!(refused(zone(ZONE, &["b"]), node("a"), &nothing), mismatch);
    assert_eq!(refused(zone(old, &["a"]), node("a"), &nothing), None, "the old spelling");
    assert_eq!(refused(zone(old, &["b"]), node("a"), &nothing), mismatch);
    assert_eq!(refused(zone("topology.kubernetes.io/region", &["r"]), node("a"), &nothing), mismatch);
    assert_eq!(refused(zone(ZONE, &["b"]), node(""), &nothing), None, "a node without zone labels");
}

#[test]
fn rooms_count_volumes_and_take_them_back() {
    let nodes = |zone: &str, limit: Option<u32>| {
        let fittings = Fittings { drivers: [("csi".into(), limit)].into(), ..Default::default() };
        Arc::new(Node { name: zone.into(), fittings: Some(Arc::new(fittings)), ..node(zone) })
    };
    let fixed = UnboundVolume { provisionable: false, ..unbound() };
    let attaching = shape(VolumeNeeds { attaches: [("csi".into(), 1)].into(), ..Default::default() });
    let local = shape(VolumeNeeds { unbound: vec![fixed], ..Default::default() });
    let sole = VolumeNeeds { exclusive: [VolumeClaimKey::new("d", "c")].into(), ..Default::default() };
    let pinned = shape(VolumeNeeds { bound: vec![is_in(ZONE, &["b"])], ..Default::default() });
    let shapes = [attaching, local, shape(sole), pinned].map(Arc::new);
    let around = volumes(vec![open("v", 10, "b"), open("w", 10, "b"), open("far", 10, "c")]);
    let vocabulary = crate::Vocabulary::of(shapes.iter().map(|shape| &**shape));
    let mut room = Room::new(vocabulary, &std::collections::BTreeMap::new()).with_volumes(around);
    room.add(nodes("a", Some(2)));
    room.add(nodes("b", Some(3)));
    let namespace = Arc::from("d");
    let [attaching, local, sole, pinned] =
        shapes.each_ref().map(|shape| room.class(shape, &namespace, &Labels::new()));
    let place = |room: &mut Room, class, count| -> Vec<(usize, u32)> {
        room.place(class, count, 0..2).into_iter().map(|placed| (placed.spot.0, placed.count)).collect()
    };
    let mark = room.mark();
    assert_eq!(place(&mut room, attaching, 9), [(0, 2), (1, 3)]);
    assert_eq!(place(&mut room, local, 9), [(1, 2)]);
    assert_eq!(place(&mut room, sole, 9), [(0, 1)]);
    assert_eq!(place(&mut room, pinned, 1), [(1, 1)]);
    let said = |room: &Room, class, spot| room.rejection(class, SpotIx(spot)).map(|why| why.to_string());
    assert_eq!(said(&room, attaching, 0).as_deref(), Some("node(s) exceed max volume count"));
    let none = "node(s) didn't find available persistent volumes to bind";
    assert_eq!(said(&room, local, 1).as_deref(), Some(none));
    assert_eq!(room.rejection(sole, SpotIx(1)), Some(PoolRejection::ExclusiveClaimInUse));
    room.close(SpotIx(0));
    assert_eq!(room.rejection(sole, SpotIx(1)), None, "whoever had the claim is gone with its node");
    room.rollback(mark);
    assert_eq!(place(&mut room, local, 9), [(1, 2)], "everything is as it was");
    assert_eq!(place(&mut room, attaching, 9), [(0, 2), (1, 3)]);
}
