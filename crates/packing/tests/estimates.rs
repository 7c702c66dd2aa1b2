//! How many new nodes of one template a set of pods needs: the table of Cluster Autoscaler's estimator, asked of the
//! joint solve. Where pods are left out by a limit, the table's binpacking leaves out others than ours; how many is equal.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use model::{Bytes, HostPort, Labels, MilliCpu, Node, PodShape, Readiness, Resources};
use packing::solve::{Effort, Pool, solve};
use packing::{Group, Make, Market, Room, Vocabulary};
use std::collections::BTreeMap;
use std::sync::Arc;

fn blank(cpu: u64, memory: u64) -> Arc<Node> {
    Arc::new(Node {
        name: "new".into(),
        uid: "new".into(),
        machine: None,
        addresses: Vec::new(),
        labels: Labels::new(),
        annotations: BTreeMap::default(),
        taints: Vec::new(),
        unschedulable: false,
        allocatable: Resources { cpu: MilliCpu(cpu), memory: Bytes(memory), pods: 10, ..Default::default() },
        readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
        conditions: Vec::new(),
        fittings: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        deleting: false,
    })
}

type Asked = (u32, PodShape);

fn group(count: u32, cpu: u64, memory: u64) -> Asked {
    let requests = Resources { cpu: MilliCpu(cpu), memory: Bytes(memory), pods: 1, ..Default::default() };
    (count, PodShape { requests, ..Default::default() })
}

fn ported(count: u32) -> Asked {
    let port = HostPort { port: 80, protocol: "TCP".into(), address: "".into() };
    (count, PodShape { host_ports: vec![port], ..group(1, 1, 1).1 })
}

/// New nodes, and the pods that are on them.
fn needed(node: Arc<Node>, asked: &[Asked], limit: Option<u32>) -> (usize, u32) {
    let mut room = Room::new(Vocabulary::of(asked.iter().map(|(_, shape)| shape)), &BTreeMap::new());
    let class =
        |room: &mut Room, s: &PodShape| room.class(&Arc::new(s.clone()), &"default".into(), &Labels::new());
    let groups: Vec<Group> =
        asked.iter().map(|(count, shape)| Group { class: class(&mut room, shape), count: *count }).collect();
    let make = Make {
        node,
        overhead: Vec::new(),
        pool: 0,
        machine_type: 0,
        price: 1000,
        uses: Vec::new(),
        values: Vec::new(),
    };
    let pools = vec![Pool { max_new: limit, ..Pool::default() }];
    let question = room.question(&Market { pools, makes: vec![make], ..Market::default() }, &groups);
    let answer = solve(&question.problem, Effort::default()).unwrap();
    assert!(room.is_empty(), "the room is as it was");
    let pods = answer.machines.iter().flat_map(|machine| &machine.pods).map(|(_, count)| count).sum();
    (answer.machines.len(), pods)
}

type Row = (&'static str, Vec<Asked>, (u64, u64), Option<u32>, (usize, u32));

/// E1 to E5 of the specification's table: groups, template, limit -> nodes, pods on them.
#[test]
fn estimates_follow_the_table() {
    let table: [Row; 7] = [
        ("E1", vec![group(10, 350, 1000)], (1000, 2000), None, (5, 10)),
        ("E2", vec![group(20, 10, 100)], (10_000, 20_000), None, (2, 20)),
        ("E3", vec![ported(8)], (1000, 2000), None, (8, 8)),
        ("E4", vec![group(20, 500, 0)], (1000, 2000), Some(5), (5, 10)),
        ("E5", vec![group(10, 50, 1000), group(10, 500, 1000)], (1000, 2000), Some(5), (5, 10)),
        ("too large", vec![group(3, 2000, 1)], (1000, 2000), None, (0, 0)),
        ("a gap is filled", vec![group(2, 600, 0), group(2, 400, 0)], (1000, 2000), None, (2, 4)),
    ];
    for (name, groups, (cpu, memory), limit, expected) in table {
        assert_eq!(needed(blank(cpu, memory), &groups, limit), expected, "{name}");
    }
}
