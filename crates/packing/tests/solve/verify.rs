//! A slow check of a finished placement, pod by pod, written from the problem's meaning alone.

use packing::solve::{Answer, HOSTNAME, NO_DOMAIN, Problem, Rule};
use std::collections::BTreeMap;

/// A node of the finished placement.
struct Node<'a> {
    room: &'a [u64],
    domains: &'a [u32],
    spot: Option<usize>,
    offering: Option<usize>,
    pods: Vec<(usize, u32)>,
}

/// What is wrong with an answer; empty when nothing is.
pub(crate) fn faults(problem: &Problem, answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    let nodes = nodes(problem, answer);
    for (at, node) in nodes.iter().enumerate() {
        room(problem, at, node, &mut faults);
        accepted(problem, at, node, &mut faults);
        choice(problem, at, node, &mut faults);
    }
    counted(problem, answer, &nodes, &mut faults);
    limits(problem, answer, &mut faults);
    let counts: Vec<BTreeMap<u32, u32>> =
        (0..problem.tallies.len()).map(|tally| count(problem, &nodes, tally)).collect();
    for (at, node) in nodes.iter().enumerate() {
        for &(class, _) in &node.pods {
            for rule in &problem.classes[class].rules {
                if !holds(problem, &nodes, &counts, at, class, *rule) {
                    faults.push(format!("class {class} on node {at} breaks {rule:?}"));
                }
            }
            forbidden(problem, at, node, class, &mut faults);
        }
    }
    let price: u64 = answer.machines.iter().map(|m| problem.offerings[m.offering].price).sum();
    if price != answer.price || answer.bound > price {
        faults.push(format!("price {} is {price}, bound {}", answer.price, answer.bound));
    }
    faults
}

fn nodes<'a>(problem: &'a Problem, answer: &Answer) -> Vec<Node<'a>> {
    let mut nodes: Vec<Node<'a>> = problem
        .spots
        .iter()
        .enumerate()
        .map(|(ix, spot)| Node {
            room: &spot.free,
            domains: &spot.domains,
            spot: Some(ix),
            offering: None,
            pods: answer.existing.iter().filter(|p| p.spot == ix).map(|p| (p.class, p.count)).collect(),
        })
        .collect();
    for machine in &answer.machines {
        let offering = &problem.offerings[machine.offering];
        nodes.push(Node {
            room: &offering.room,
            domains: &offering.domains,
            spot: None,
            offering: Some(machine.offering),
            pods: machine.pods.clone(),
        });
    }
    nodes
}

fn room(problem: &Problem, at: usize, node: &Node<'_>, faults: &mut Vec<String>) {
    for resource in 0..problem.resources {
        let used: u64 = node
            .pods
            .iter()
            .map(|(class, n)| problem.classes[*class].requests[resource] * u64::from(*n))
            .sum();
        if used > node.room[resource] {
            faults.push(format!(
                "node {at}: {used} of resource {resource} where there is {}",
                node.room[resource]
            ));
        }
    }
}

fn accepted(problem: &Problem, at: usize, node: &Node<'_>, faults: &mut Vec<String>) {
    for &(class, _) in &node.pods {
        let class_of = &problem.classes[class];
        let fine = match (node.spot, node.offering) {
            (Some(spot), _) => class_of.kinds.contains(problem.spots[spot].kind),
            (_, Some(offering)) => {
                class_of.offerings.contains(offering) && problem.offerings[offering].available
            }
            _ => false,
        };
        if !fine {
            faults.push(format!("class {class} is not accepted on node {at}"));
        }
    }
}

/// Whether as many types would do for a new machine as its pool insists on.
fn choice(problem: &Problem, at: usize, node: &Node<'_>, faults: &mut Vec<String>) {
    let Some(offering) = node.offering.map(|ix| &problem.offerings[ix]) else { return };
    let pool = &problem.pools[offering.pool];
    let Some(least) = pool.min_values.first().filter(|_| pool.keeps_choice) else { return };
    let load = |resource: usize| -> u64 {
        node.pods.iter().map(|(class, n)| problem.classes[*class].requests[resource] * u64::from(*n)).sum()
    };
    let would_do = |(ix, other): &(usize, &packing::solve::Offering)| {
        other.pool == offering.pool
            && other.domains == offering.domains
            && other.available
            && (0..problem.resources).all(|resource| load(resource) <= other.room[resource])
            && node.pods.iter().all(|(class, _)| problem.classes[*class].offerings.contains(*ix))
    };
    let found = problem.offerings.iter().enumerate().filter(would_do);
    let values: std::collections::BTreeSet<u32> = found.map(|(_, other)| other.values[0]).collect();
    if values.len() < *least as usize {
        faults.push(format!("node {at} could be of {} types, not {least}", values.len()));
    }
}

fn counted(problem: &Problem, answer: &Answer, nodes: &[Node<'_>], faults: &mut Vec<String>) {
    for (class, want) in problem.classes.iter().enumerate() {
        let placed: u32 =
            nodes.iter().flat_map(|n| &n.pods).filter(|(c, _)| *c == class).map(|(_, n)| n).sum();
        let left: u32 = answer.unplaced.iter().filter(|u| u.class == class).map(|u| u.count).sum();
        if placed + left != want.count {
            faults.push(format!("class {class}: {placed} placed and {left} left of {}", want.count));
        }
    }
}

fn limits(problem: &Problem, answer: &Answer, faults: &mut Vec<String>) {
    let of = |pool: usize| answer.machines.iter().filter(move |m| problem.offerings[m.offering].pool == pool);
    for (ix, pool) in problem.pools.iter().enumerate() {
        if pool.max_new.is_some_and(|max| of(ix).count() as u32 > max) {
            faults.push(format!("pool {ix} grows by {}", of(ix).count()));
        }
        for (at, limit) in pool.limits.iter().enumerate() {
            let used: u64 = of(ix).map(|m| problem.offerings[m.offering].uses[at]).sum();
            if used > *limit {
                faults.push(format!("pool {ix} uses {used} of {limit}"));
            }
        }
    }
    if problem.max_new.is_some_and(|max| answer.machines.len() as u32 > max) {
        faults.push("more machines than a round allows".to_owned());
    }
}

fn counts_for(problem: &Problem, tally: usize, node: &Node<'_>) -> bool {
    let tally = &problem.tallies[tally];
    match (node.spot, node.offering) {
        (Some(spot), _) => tally.kinds.as_ref().is_none_or(|k| k.contains(problem.spots[spot].kind)),
        (_, Some(offering)) => tally.offerings.as_ref().is_none_or(|o| o.contains(offering)),
        _ => false,
    }
}

/// Pods of a tally by domain, over nodes that count; the domains are those of nodes that count.
fn count(problem: &Problem, nodes: &[Node<'_>], tally: usize) -> BTreeMap<u32, u32> {
    let of = &problem.tallies[tally];
    let mut counts = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        let domain = domain(of.key, at, node);
        if domain == NO_DOMAIN || !counts_for(problem, tally, node) {
            continue;
        }
        let members =
            node.pods.iter().filter(|(class, _)| problem.classes[*class].counts_in.contains(&tally));
        *counts.entry(domain).or_insert(0) += members.map(|(_, n)| n).sum::<u32>();
    }
    if of.key == HOSTNAME {
        for (node, n) in &of.initial_nodes {
            *counts.entry(*node).or_insert(0) += n;
        }
    }
    for (domain, n) in of.initial.iter().enumerate().filter(|(_, n)| **n > 0) {
        *counts.entry(domain as u32).or_insert(0) += n;
    }
    counts
}

fn domain(key: usize, at: usize, node: &Node<'_>) -> u32 {
    if key == HOSTNAME { at as u32 } else { node.domains[key] }
}

fn holds(
    problem: &Problem,
    nodes: &[Node<'_>],
    counts: &[BTreeMap<u32, u32>],
    at: usize,
    class: usize,
    rule: Rule,
) -> bool {
    let tally = rule.tally();
    let domain = domain(problem.tallies[tally].key, at, &nodes[at]);
    let count = counts[tally].get(&domain).copied().unwrap_or(0);
    let own = u32::from(problem.classes[class].counts_in.contains(&tally));
    match rule {
        Rule::Spread { max_skew, min_domains, .. } => {
            let least = counts[tally].values().min().copied().unwrap_or(0);
            let least = if (counts[tally].len() as u32) < min_domains { 0 } else { least };
            domain != NO_DOMAIN && count <= least + max_skew
        }
        Rule::Affinity { .. } => domain != NO_DOMAIN && count > 0,
        Rule::Anti { .. } => domain == NO_DOMAIN || count <= own,
    }
}

fn forbidden(problem: &Problem, at: usize, node: &Node<'_>, class: usize, faults: &mut Vec<String>) {
    for &tally in &problem.classes[class].counts_in {
        let of = &problem.tallies[tally];
        let refused = if of.key == HOSTNAME {
            node.spot.is_some_and(|spot| of.forbidden_nodes.contains(&(spot as u32)))
        } else {
            of.forbidden.contains(&node.domains[of.key])
        };
        if refused {
            faults.push(format!("a pod on node {at} refuses class {class}"));
        }
    }
}
