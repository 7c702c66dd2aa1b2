//! Each filter by a table of cases in kube-scheduler's terms.

use super::*;
use model::{
    Bytes, Effect, HostPort, MilliCpu, Node, NodeSelectorTerm, Operator, Readiness, Requirement,
    ResourceName, Resources, Taint, Toleration, TolerationOperator,
};
use std::sync::Arc;

fn node() -> Node {
    Node {
        name: "n1".into(),
        uid: "n1".into(),
        machine: None,
        addresses: Vec::new(),
        labels: [("zone".into(), "a".into())].into(),
        annotations: std::collections::BTreeMap::default(),
        taints: Vec::new(),
        unschedulable: false,
        allocatable: Resources { cpu: MilliCpu(1000), memory: Bytes(1000), pods: 2, ..Default::default() },
        readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        fittings: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        deleting: false,
    }
}

fn pod(cpu: u64) -> PodShape {
    PodShape {
        requests: Resources { cpu: MilliCpu(cpu), pods: 1, ..Default::default() },
        ..Default::default()
    }
}

fn tolerate(key: &str) -> Toleration {
    Toleration { key: Some(key.into()), operator: TolerationOperator::Exists, value: "".into(), effect: None }
}

fn refused(shape: &PodShape, node: Node) -> Option<PoolRejection> {
    first_rejection(&Ask::of(shape), &NodeView::new(Arc::new(node)))
}

#[test]
fn a_cordon_refuses_what_does_not_tolerate_it() {
    let cordoned = Node { unschedulable: true, ..node() };
    assert_eq!(refused(&pod(1), cordoned.clone()), Some(PoolRejection::Unschedulable));
    let tolerant = PodShape { tolerations: vec![tolerate("node.kubernetes.io/unschedulable")], ..pod(1) };
    assert_eq!(refused(&tolerant, cordoned), None);
}

#[test]
fn a_named_node_is_the_only_one() {
    let shape = pod(1);
    let view = NodeView::new(Arc::new(node()));
    let ask =
        |name| first_rejection(&Ask { node_name: Some(&NodeName::new(name)), ..Ask::of(&shape) }, &view);
    assert_eq!(ask("n1"), None);
    assert_eq!(ask("n2"), Some(PoolRejection::NodeNameMismatch));
}

#[test]
fn taints_repel_by_effect() {
    let tainted =
        |effect| Node { taints: vec![Taint { key: "t".into(), value: "".into(), effect }], ..node() };
    let taint = Taint { key: "t".into(), value: "".into(), effect: Effect::NoExecute };
    assert_eq!(refused(&pod(1), tainted(Effect::NoExecute)), Some(PoolRejection::UntoleratedTaint { taint }));
    assert_eq!(refused(&pod(1), tainted(Effect::PreferNoSchedule)), None);
    assert_eq!(
        refused(&PodShape { tolerations: vec![tolerate("t")], ..pod(1) }, tainted(Effect::NoSchedule)),
        None
    );
}

#[test]
fn selector_and_affinity_both_hold() {
    let selects = |v: &str| PodShape { node_selector: [("zone".into(), v.into())].into(), ..pod(1) };
    assert_eq!(refused(&selects("a"), node()), None);
    assert_eq!(refused(&selects("b"), node()), Some(PoolRejection::AffinityMismatch));

    let field = |name: &str| PodShape {
        node_affinity: Some(vec![NodeSelectorTerm {
            match_fields: vec![Requirement {
                key: "metadata.name".into(),
                operator: Operator::In,
                values: vec![name.into()],
            }],
            ..Default::default()
        }]),
        ..pod(1)
    };
    assert_eq!(refused(&field("n1"), node()), None);
    assert_eq!(refused(&field("n2"), node()), Some(PoolRejection::AffinityMismatch));
    let nothing = PodShape { node_affinity: Some(Vec::new()), ..pod(1) };
    assert_eq!(refused(&nothing, node()), Some(PoolRejection::AffinityMismatch));
}

#[test]
fn ports_conflict_by_address_and_protocol() {
    let port = |address: &str, protocol: &str| PodShape {
        host_ports: vec![HostPort { port: 80, protocol: protocol.into(), address: address.into() }],
        ..pod(1)
    };
    let view = NodeView::holding(Arc::new(node()), [&port("10.0.0.1", "TCP")]);
    let check = |shape: &PodShape| first_rejection(&Ask::of(shape), &view);
    assert_eq!(check(&port("", "TCP")), Some(PoolRejection::PortConflict));
    assert_eq!(check(&port("10.0.0.2", "TCP")), None);
    assert_eq!(check(&port("", "UDP")), None);
}

#[test]
fn every_short_resource_is_named() {
    let hungry = PodShape {
        requests: Resources {
            cpu: MilliCpu(1001),
            memory: Bytes(1001),
            pods: 1,
            extended: [(ResourceName::new("nvidia.com/gpu"), 1)].into(),
            ..Default::default()
        },
        ..Default::default()
    };
    let names = ["cpu", "memory", "nvidia.com/gpu"].map(ResourceName::new).to_vec();
    assert_eq!(refused(&hungry, node()), Some(PoolRejection::Insufficient { resources: names }));
}

#[test]
fn the_table_is_in_the_schedulers_order() {
    let shape = PodShape { node_selector: [("zone".into(), "b".into())].into(), ..pod(2000) };
    let bad = Node { unschedulable: true, ..node() };
    let view = NodeView::new(Arc::new(bad));
    let names: Vec<_> = rejections(&Ask::of(&shape), &view).into_iter().map(|(name, _)| name).collect();
    let expected = [FilterName::NodeUnschedulable, FilterName::NodeAffinity, FilterName::NodeResourcesFit];
    assert_eq!(names, expected);
    assert_eq!(first_lasting_rejection(&Ask::of(&pod(2000)), &NodeView::new(Arc::new(node()))), None);
}
