//! The cheapest plan of a small problem, by trying every partition of its pods into machines.

use crate::verify::faults;
use packing::solve::{Answer, Machine, Problem};
use std::collections::BTreeMap;

/// Price of the cheapest plan that places all pods. The problem has no rules on keys other than hostname.
pub(crate) fn cheapest(problem: &Problem) -> u64 {
    let pods: Vec<usize> = problem
        .classes
        .iter()
        .enumerate()
        .flat_map(|(class, of)| std::iter::repeat_n(class, of.count as usize))
        .collect();
    let mut best = u64::MAX;
    try_all(problem, &pods, &mut Vec::new(), &mut best);
    best
}

/// Puts the next pod on each machine in turn, then on one of its own.
fn try_all(problem: &Problem, pods: &[usize], machines: &mut Vec<Vec<usize>>, best: &mut u64) {
    let Some((pod, rest)) = pods.split_first() else {
        *best = (*best).min(price(problem, machines).unwrap_or(u64::MAX));
        return;
    };
    for at in 0..machines.len() {
        machines[at].push(*pod);
        try_all(problem, rest, machines, best);
        machines[at].pop();
    }
    machines.push(vec![*pod]);
    try_all(problem, rest, machines, best);
    machines.pop();
}

fn price(problem: &Problem, machines: &[Vec<usize>]) -> Option<u64> {
    let mut answer = Answer::default();
    for pods in machines {
        let fits = |ix: &usize| {
            let offering = &problem.offerings[*ix];
            let used =
                |r: usize| -> u64 { pods.iter().map(|class| problem.classes[*class].requests[r]).sum() };
            (0..problem.resources).all(|r| used(r) <= offering.room[r])
                && pods.iter().all(|class| problem.classes[*class].offerings.contains(*ix))
        };
        let offering =
            (0..problem.offerings.len()).filter(fits).min_by_key(|ix| problem.offerings[*ix].price)?;
        let mut counts = BTreeMap::new();
        for class in pods {
            *counts.entry(*class).or_insert(0) += 1;
        }
        answer.price += problem.offerings[offering].price;
        answer.machines.push(Machine {
            offering,
            options: vec![offering],
            pods: counts.into_iter().collect(),
        });
    }
    faults(problem, &answer).is_empty().then_some(answer.price)
}
