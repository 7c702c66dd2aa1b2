//! What consolidating a large cluster costs and saves: 700 nodes with 20,000 pods of 20 pools, and 1,000 pods of which
//! 300 have ended.
//!
//! `cargo run --release -p packing --example consolidation_cost`. Prints the best of some runs, the saving, what a
//! search without a limit saves, and the most that any plan could (all pods on new machines at the lower bound).

#![expect(clippy::expect_used, reason = "a measurement that cannot go on should stop")]

#[path = "../tests/consolidation/cities.rs"]
mod cities;

use cities::{City, Size};
use packing::solve::{Effort, solve};
use packing::{Group, Room, Terms, Vocabulary};
use std::collections::BTreeMap;
use std::time::Instant;

const RUNS: usize = 5;

fn main() {
    for (rules, ended) in [(false, 30), (true, 30), (true, 60)] {
        let size =
            Size { pools: 20, nodes: 700, pods_on_node: 400, kinds: 200, zones: 3, ended, rules, part: 3 };
        let what = format!("20 pools, {ended} % of pods ended, topology rules: {rules}");
        measure(&what, &City::random(1, &size));
    }
    let size =
        Size { pools: 1, nodes: 60, pods_on_node: 24, kinds: 10, zones: 3, ended: 30, rules: false, part: 1 };
    measure("1,000 pods of which 300 have ended", &City::random(2, &size));
}

fn measure(what: &str, city: &City) {
    let (room, _, leavers) = city.room();
    let terms = Terms { allowances: vec![u32::MAX], ..Terms::default() };
    let mut best = f64::MAX;
    let mut found = None;
    for _ in 0..RUNS {
        let begin = Instant::now();
        found = Some(room.consolidate(&leavers, 0..room.len(), &city.market, &terms));
        best = best.min(begin.elapsed().as_secs_f64() * 1e3);
    }
    let found = found.expect("a run");
    let unlimited = Terms { steps: u64::MAX, ..terms };
    let most = room.consolidate(&leavers, 0..room.len(), &city.market, &unlimited);
    let dollars = |micro: u64| micro as f64 / 1e6;
    println!(
        "{what}: {} nodes, {} pods, {:.2} $/h: {best:.1} ms, {} exchanges of {} nodes for {} machines save {:.2} $/h, \
         complete {}, {} steps; without a limit {:.2}; by the bound {:.2}",
        city.houses.len(),
        city.houses.iter().flat_map(|house| &house.pods).map(|(_, n)| n).sum::<u32>(),
        dollars(city.price()),
        found.exchanges.len(),
        found.exchanges.iter().map(|exchange| exchange.leavers.len()).sum::<usize>(),
        found.exchanges.iter().map(|exchange| exchange.machines.len()).sum::<usize>(),
        dollars(found.saving()),
        found.complete,
        found.steps,
        dollars(most.saving()),
        dollars(city.price()) - dollars(bound(city)),
    );
}

/// No plan for all pods of a city costs less.
fn bound(city: &City) -> u64 {
    let mut vocabulary = Vocabulary::default();
    for kind in &city.kinds {
        vocabulary.add(&kind.shape);
    }
    let mut room = Room::new(vocabulary, &BTreeMap::new());
    let mut groups = Vec::new();
    for (at, kind) in city.kinds.iter().enumerate() {
        let class = room.class(&kind.shape, &"default".into(), &kind.labels);
        let pods = city.houses.iter().flat_map(|house| &house.pods);
        let count = pods.filter(|(known, _)| *known == at).map(|(_, n)| n).sum();
        groups.push(Group { class, count });
    }
    let question = room.question(&city.market, &groups);
    solve(&question.problem, Effort::default()).expect("few resources").bound
}
