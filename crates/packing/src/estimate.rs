//! How many new nodes of one template a set of pods needs: first fit, largest first.
//!
//! Owns the order (largest share of the template first, as Cluster Autoscaler's estimator) and the limits on new
//! nodes. The nodes are put into the room that they would join, so that every rule counts, and taken out again. Pods
//! come as groups of one class, so that the cost grows with classes and nodes, not with pods.

use crate::{ClassIx, Room};
use model::{Node, Resources};
use std::cmp::Reverse;
use std::sync::Arc;

/// Memory that weighs as much as one thousandth of a core: 4 GiB a core, the usual machine.
const BYTES_PER_MILLI_CPU: u64 = (4 << 30) / 1000;
/// Weight of one unit of an extended resource: they are scarce, so they outweigh a large machine's cores.
const UNITS_PER_EXTENDED: u64 = 64_000;

/// Pods of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub class: ClassIx,
    pub count: u32,
}

/// A node as a pool would make it.
#[derive(Clone, Debug)]
pub struct Template {
    pub node: Arc<Node>,
    /// What will run there from the beginning.
    pub overhead: Vec<ClassIx>,
}

/// How many nodes may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLimit {
    Unlimited,
    AtMost(u32),
}

impl NodeLimit {
    /// Cluster Autoscaler's notation: 0 is no limit, less than 0 allows nothing.
    pub fn from_flag(value: i64) -> Self {
        match value {
            0 => Self::Unlimited,
            n => Self::AtMost(u32::try_from(n.max(0)).unwrap_or(u32::MAX)),
        }
    }

    /// Both limits hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unlimited, limit) | (limit, Self::Unlimited) => limit,
            (Self::AtMost(a), Self::AtMost(b)) => Self::AtMost(a.min(b)),
        }
    }

    pub fn allows(self, nodes: u32) -> bool {
        match self {
            Self::Unlimited => true,
            Self::AtMost(limit) => nodes <= limit,
        }
    }
}

/// What an estimate found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// New nodes that hold at least one of the pods.
    pub nodes: u32,
    /// Pods placed, in the order of the groups that were passed in.
    pub placed: Vec<u32>,
    /// What those pods ask for together.
    pub requested: Resources,
}

/// How many new nodes like `template` that join `room` would serve `groups`; the room is left as it was.
pub fn estimate(room: &mut Room, template: &Template, groups: &[Group], limit: NodeLimit) -> Estimate {
    let mark = room.mark();
    let found = extend(room, template, groups, limit);
    room.rollback(mark);
    found
}

/// Adds the new nodes, with what they are to hold, behind the spots of the room.
pub fn extend(room: &mut Room, template: &Template, groups: &[Group], limit: NodeLimit) -> Estimate {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    let share = |i: usize| share_ppm(&room.shape_of(groups[i].class).requests, &template.node.allocatable);
    // The tie is the group's place in the input, which callers keep sorted.
    order.sort_by_cached_key(|&i| (Reverse(share(i)), i));
    let begin = room.len();
    let mut found = Estimate { placed: vec![0; groups.len()], ..Estimate::default() };
    for i in order {
        let Group { class, count } = groups[i];
        let placed = fill(room, begin, template, class, count, limit);
        found.placed[i] = placed;
        add_times(&mut found.requested, &room.shape_of(class).requests, placed);
    }
    found.nodes = u32::try_from(room.len() - begin).unwrap_or(u32::MAX);
    found
}

/// Fills the new nodes in order, then newer ones while the limit allows; every one takes at least one pod.
fn fill(
    room: &mut Room,
    begin: usize,
    template: &Template,
    class: ClassIx,
    count: u32,
    limit: NodeLimit,
) -> u32 {
    let sum = |placed: Vec<crate::Placed>| placed.iter().map(|placed| placed.count).sum::<u32>();
    let mut left = count - sum(room.place(class, count, begin..room.len()));
    while left > 0 && limit.allows(u32::try_from(room.len() - begin).unwrap_or(u32::MAX).saturating_add(1)) {
        let before = room.mark();
        let spot = add(room, template);
        let mut take = sum(room.place(class, left, spot..spot + 1));
        if take == 0 {
            room.rollback(before);
            break;
        }
        if room.heeds_pods(class) {
            // What this node took may let the ones before it take more.
            take += sum(room.place(class, left - take, begin..spot + 1));
        }
        left -= take;
    }
    count - left
}

fn add(room: &mut Room, template: &Template) -> usize {
    let spot = room.add_promised(Arc::clone(&template.node));
    for class in &template.overhead {
        room.hold(*class, spot, 1);
    }
    spot.0
}

/// Share of cpu plus share of memory that a request takes, in millionths.
fn share_ppm(requests: &Resources, of: &Resources) -> u128 {
    let part = |ask: u64, all: u64| u128::from(ask) * 1_000_000 / u128::from(all.max(1));
    part(requests.cpu.0, of.cpu.0) + part(requests.memory.0, of.memory.0)
}

fn add_times(sum: &mut Resources, one: &Resources, times: u32) {
    let by = u64::from(times);
    sum.cpu.0 = sum.cpu.0.saturating_add(one.cpu.0.saturating_mul(by));
    sum.memory.0 = sum.memory.0.saturating_add(one.memory.0.saturating_mul(by));
    sum.ephemeral_storage.0 =
        sum.ephemeral_storage.0.saturating_add(one.ephemeral_storage.0.saturating_mul(by));
    sum.pods = sum.pods.saturating_add(one.pods.saturating_mul(times));
    for (name, amount) in &one.extended {
        let total = sum.extended.entry(name.clone()).or_default();
        *total = total.saturating_add(amount.saturating_mul(by));
    }
}

/// One number for how large a request is whatever machine it runs on, in thousandths of a core.
pub fn size_units(requests: &Resources) -> u64 {
    let extended = requests.extended.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    requests
        .cpu
        .0
        .saturating_add(requests.memory.0 / BYTES_PER_MILLI_CPU)
        .saturating_add(extended.min(1 << 20).saturating_mul(UNITS_PER_EXTENDED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vocabulary;
    use model::{Bytes, HostPort, Labels, MilliCpu, PodShape, Readiness};
    use std::collections::BTreeMap;

    fn template(cpu: u64, memory: u64) -> Template {
        let node = Node {
            name: "new".into(),
            uid: "new".into(),
            machine: None,
            addresses: Vec::new(),
            labels: Labels::new(),
            annotations: BTreeMap::default(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable: Resources {
                cpu: MilliCpu(cpu),
                memory: Bytes(memory),
                pods: 10,
                ..Default::default()
            },
            readiness: Readiness::Ready { since: jiff::Timestamp::UNIX_EPOCH },
            conditions: Vec::new(),
            fittings: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            deleting: false,
        };
        Template { node: Arc::new(node), overhead: Vec::new() }
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

    fn estimated(template: &Template, asked: &[Asked], limit: NodeLimit) -> Estimate {
        let vocabulary = Vocabulary::of(asked.iter().map(|(_, shape)| shape));
        let mut room = Room::new(vocabulary, &BTreeMap::new());
        let groups: Vec<Group> = asked
            .iter()
            .map(|(count, shape)| {
                let class = room.class(&Arc::new(shape.clone()), &"default".into(), &Labels::new());
                Group { class, count: *count }
            })
            .collect();
        let found = estimate(&mut room, template, &groups, limit);
        assert!(room.is_empty(), "the room is as it was");
        found
    }

    type Row = (&'static str, Vec<Asked>, (u64, u64), NodeLimit, u32, Vec<u32>);

    /// E1 to E5 of the specification's table: groups, template, limit -> nodes, pods of each group.
    #[test]
    fn estimates_follow_the_table() {
        let unlimited = NodeLimit::Unlimited;
        let five = NodeLimit::AtMost(5);
        let table: [Row; 6] = [
            ("E1", vec![group(10, 350, 1000)], (1000, 2000), unlimited, 5, vec![10]),
            ("E2", vec![group(20, 10, 100)], (10_000, 20_000), unlimited, 2, vec![20]),
            ("E3", vec![ported(8)], (1000, 2000), unlimited, 8, vec![8]),
            ("E4", vec![group(20, 500, 0)], (1000, 2000), five, 5, vec![10]),
            ("E5", vec![group(10, 50, 1000), group(10, 500, 1000)], (1000, 2000), five, 5, vec![0, 10]),
            ("too large", vec![group(3, 2000, 1)], (1000, 2000), unlimited, 0, vec![0]),
        ];
        for (name, groups, (cpu, memory), limit, nodes, placed) in table {
            let found = estimated(&template(cpu, memory), &groups, limit);
            assert_eq!((found.nodes, found.placed), (nodes, placed), "{name}");
        }
    }

    /// E12, E14: requests for one more node under a threshold.
    #[test]
    fn limits_allow_up_to_their_number() {
        let three = NodeLimit::from_flag(3);
        assert_eq!([1, 2, 3, 4].map(|n| three.allows(n)), [true, true, true, false]);
        assert!(!NodeLimit::from_flag(-1).allows(1));
        assert!(NodeLimit::from_flag(0).allows(u32::MAX));
    }

    /// E16: merging two thresholds.
    #[test]
    fn limits_merge_to_the_stricter() {
        for (a, b, merged) in [(-10, 10, -1), (-10, 0, -1), (0, 0, 0), (0, 10, 10), (5, 10, 5)] {
            assert_eq!(
                NodeLimit::from_flag(a).and(NodeLimit::from_flag(b)),
                NodeLimit::from_flag(merged),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn a_gap_on_an_earlier_node_is_filled_by_a_smaller_group() {
        let found =
            estimated(&template(1000, 2000), &[group(2, 600, 0), group(2, 400, 0)], NodeLimit::Unlimited);
        assert_eq!((found.nodes, found.placed), (2, vec![2, 2]));
        assert_eq!(found.requested.cpu, MilliCpu(2000));
    }
}
