//! What becomes of a purchase when the scheduler binds the pods in its own way.
//!
//! The optimiser finds one way in which the pods fit; the scheduler knows nothing of it. It takes pods by priority and
//! age, puts each where most is free, and fills the node that is ready first before there is another. What it leaves
//! over would be bought for when the machines are there, a boot later. Owns that foresight: both courses are gone
//! through, and machines for what either leaves over are bought in the same order.

use packing::Question;
use packing::solve::{Answer, Effort, Problem, solve};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// How often what the machines that were added leave over is added for.
const MOST_ADDITIONS: u32 = 4;
/// Makes of machines that are looked at as the only one.
const MOST_MAKES: usize = 3;
/// A mixture must save one in so many to be worth that it is uncertain; as where machines are replaced by cheaper ones.
const WORTH: u64 = 20;
/// A mixture that takes no more than one in so many on top is near enough to what was planned.
const TRIFLE: u64 = 50;
/// Steps of search for each of the other ways.
const MOST_STEPS: u64 = 20_000;
/// Memory is in bytes: proportions are kept in whole numbers.
const PROPORTION: u128 = 1 << 64;
/// Pods of one purchase: beyond it the courses would take longer than the purchase may.
const MOST_PODS: u64 = 2_000;

/// The answer as it is bought: what its pods cost once the scheduler has bound them in its way is what counts. Machines
/// are added for pods that would be left over; where that makes it dear, machines of one make, or of one proportion of
/// cpu to memory, may be the cheaper way, for there it matters little what goes where. Where no machines can be added,
/// the answer stays as it is. `order` has the groups as the scheduler will take them.
pub(crate) fn settle(question: &Question, order: &[usize], effort: Effort, answer: Answer) -> Answer {
    let courses = Courses::of(question, order);
    let Some(left) = courses.left_over(&question.problem, &answer) else { return answer };
    // What is asked here is a choice between coarse ways; polishing each of them would cost more than it brings.
    let effort = Effort { steps: effort.steps.min(MOST_STEPS), ..effort };
    let mixed = widened(&courses, &question.problem, effort, answer.clone(), left);
    if let Some(mixed) = mixed.as_ref().filter(|mixed| mixed.price - answer.price <= answer.price / TRIFLE) {
        return mixed.clone();
    }
    let alike = courses.alike(&question.problem, &answer).into_iter().filter_map(|problem| {
        let other = solve(&problem, effort).ok().filter(|other| other.unplaced.is_empty())?;
        match courses.left_over(&problem, &other) {
            Some(left) => widened(&courses, &problem, effort, other, left),
            None => Some(other),
        }
    });
    let alike = alike.min_by_key(|answer| answer.price);
    let chosen = match (mixed, alike) {
        (Some(mixed), Some(alike)) if mixed.price < alike.price - alike.price / WORTH => Some(mixed),
        (mixed, alike) => alike.or(mixed),
    };
    let bound = answer.bound;
    chosen.map_or(answer, |chosen| Answer { bound, ..chosen })
}

/// Adds machines to an answer until its pods find places in the scheduler's way, too.
fn widened(
    courses: &Courses,
    problem: &Problem,
    effort: Effort,
    mut answer: Answer,
    mut left: Vec<u32>,
) -> Option<Answer> {
    for _ in 0..MOST_ADDITIONS {
        let more = solve(&rest(problem, &answer, &left), effort).ok()?;
        if more.machines.is_empty() || !more.unplaced.is_empty() {
            return None;
        }
        move_pods(&mut answer, &left);
        answer.price = answer.price.saturating_add(more.price);
        answer.machines.extend(more.machines);
        match courses.left_over(problem, &answer) {
            Some(again) => left = again,
            None => return Some(answer),
        }
    }
    Some(answer)
}

/// What is left to ask once the answer's machines are bought: places for pods that are left over.
fn rest(problem: &Problem, answer: &Answer, left: &[u32]) -> Problem {
    let mut rest = problem.clone();
    for (class, count) in rest.classes.iter_mut().zip(left) {
        class.count = *count;
    }
    rest.spots.clear();
    let fewer = |most: Option<u32>, by: usize| most.map(|most| most.saturating_sub(by as u32));
    rest.max_new = fewer(rest.max_new, answer.machines.len());
    for machine in &answer.machines {
        let offering = &problem.offerings[machine.offering];
        let pool = &mut rest.pools[offering.pool];
        pool.max_new = fewer(pool.max_new, 1);
        for (limit, used) in pool.limits.iter_mut().zip(&offering.uses) {
            *limit = limit.saturating_sub(*used);
        }
    }
    rest
}

/// Takes pods that get machines of their own off those that they were planned on; each keeps one, to be bought for.
fn move_pods(answer: &mut Answer, left: &[u32]) {
    let mut left = left.to_vec();
    for machine in answer.machines.iter_mut().rev() {
        let mut stays: u32 = machine.pods.iter().map(|(_, count)| *count).sum();
        for (class, count) in &mut machine.pods {
            let taken = left[*class].min(*count).min(stays.saturating_sub(1));
            *count -= taken;
            left[*class] -= taken;
            stays -= taken;
        }
        machine.pods.retain(|(_, count)| *count > 0);
    }
}

/// The ways in which pods may come to the machines of an answer.
struct Courses {
    order: Vec<usize>,
    /// Where cpu and memory are among the resources.
    scored: Vec<usize>,
}

/// A machine while it is filled.
#[derive(Clone)]
struct Host<'q> {
    offering: usize,
    room: &'q [u64],
    free: Vec<u64>,
}

impl Host<'_> {
    fn fits(&self, asks: &[u64]) -> u64 {
        let each = asks.iter().zip(&self.free).filter(|(ask, _)| **ask > 0);
        each.map(|(ask, free)| free / ask).min().unwrap_or(0)
    }

    fn take(&mut self, asks: &[u64], count: u64) {
        for (free, ask) in self.free.iter_mut().zip(asks) {
            *free = free.saturating_sub(ask.saturating_mul(count));
        }
    }

    /// The scheduler's scores for free room and for balance, with one more pod.
    fn score(&self, asks: &[u64], scored: &[usize]) -> u64 {
        let shares = scored.iter().map(|at| {
            let taken = u128::from(self.room[*at] - self.free[*at]) + u128::from(asks[*at]);
            u64::try_from(taken * 100 / u128::from(self.room[*at].max(1))).unwrap_or(100).min(100)
        });
        let (mut sum, mut least, mut most, mut of) = (0, 100, 0, 0);
        for share in shares {
            (sum, least, most, of) = (sum + share, share.min(least), share.max(most), of + 1);
        }
        let spread = if of > 1 { (most - least) / 2 } else { 0 };
        (100 - sum / of.max(1)) + (100 - spread)
    }
}

impl Courses {
    fn of(question: &Question, order: &[usize]) -> Self {
        let at = |name: &str| question.resources.iter().position(|known| &*known.0 == name);
        Self { order: order.to_vec(), scored: ["cpu", "memory"].into_iter().filter_map(at).collect() }
    }

    /// The same problem with machines of one make only, and with those of its proportions, for the makes that the
    /// answer spends the most on.
    fn alike(&self, problem: &Problem, answer: &Answer) -> Vec<Problem> {
        let mut spent: BTreeMap<usize, u64> = BTreeMap::new();
        for machine in &answer.machines {
            *spent.entry(machine.offering).or_default() += problem.offerings[machine.offering].price;
        }
        let mut makes: Vec<(Reverse<u64>, usize)> =
            spent.into_iter().map(|(at, all)| (Reverse(all), at)).collect();
        makes.sort_unstable();
        let [cpu, memory] = self.scored[..] else { return Vec::new() };
        let share = |at: usize| {
            let room = &problem.offerings[at].room;
            u128::from(room[cpu]) * PROPORTION / u128::from(room[memory].max(1))
        };
        let only = |keep: &dyn Fn(usize) -> bool| {
            let mut problem = problem.clone();
            for (at, offering) in problem.offerings.iter_mut().enumerate() {
                offering.available &= keep(at);
            }
            problem
        };
        let of_make = |make: usize| {
            let near = move |at: usize| share(at) * 100 / share(make).max(1);
            [only(&|at| at == make), only(&|at| (90..=110).contains(&near(at)))]
        };
        makes.into_iter().take(MOST_MAKES).flat_map(|(_, make)| of_make(make)).collect()
    }

    /// Pods by class that one of the courses leaves without a place; `None` where there are none, or too many to tell.
    fn left_over(&self, problem: &Problem, answer: &Answer) -> Option<Vec<u32>> {
        let mut counts = vec![0u32; problem.classes.len()];
        let mut hosts = Vec::with_capacity(answer.machines.len());
        for machine in &answer.machines {
            let room = &problem.offerings[machine.offering].room[..];
            let mut host = Host { offering: machine.offering, room, free: room.to_vec() };
            for (class, count) in &machine.pods {
                let of = &problem.classes[*class];
                // What other pods decide has few places to choose from: it counts as planned.
                if of.rules.is_empty() {
                    counts[*class] += count;
                } else {
                    host.take(&of.requests, u64::from(*count));
                }
            }
            hosts.push(host);
        }
        let pods: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let kinds = counts.iter().filter(|count| **count > 0).count() as u64;
        if kinds < 2 || hosts.len() < 2 || pods > MOST_PODS {
            return None;
        }
        let mut most = vec![0; counts.len()];
        // Ready one after the other, a quarter of them first, all at once; the small ones first, or the large ones.
        for reversed in [false, true] {
            for ready_first in [0, hosts.len() / 4, hosts.len()] {
                let (mut hosts, mut counts) = (hosts.clone(), counts.clone());
                if reversed {
                    hosts.reverse();
                }
                self.fill(problem, &mut hosts[..ready_first], &mut counts);
                self.spread(problem, &mut hosts, &mut counts);
                for (most, left) in most.iter_mut().zip(counts) {
                    *most = left.max(*most);
                }
            }
        }
        most.iter().any(|left| *left > 0).then_some(most)
    }

    /// Machines that are ready at once: each pod goes where most is free.
    fn spread(&self, problem: &Problem, hosts: &mut [Host<'_>], counts: &mut [u32]) {
        for class in self.order.iter().filter(|class| counts[**class] > 0).copied().collect::<Vec<_>>() {
            let of = &problem.classes[class];
            let score = |hosts: &[Host<'_>], at: usize| {
                let host = &hosts[at];
                (of.offerings.contains(host.offering) && host.fits(&of.requests) > 0)
                    .then(|| (host.score(&of.requests, &self.scored), Reverse(at)))
            };
            let mut best: BinaryHeap<_> = (0..hosts.len()).filter_map(|at| score(hosts, at)).collect();
            while counts[class] > 0
                && let Some((_, Reverse(at))) = best.pop()
            {
                hosts[at].take(&of.requests, 1);
                counts[class] -= 1;
                best.extend(score(hosts, at));
            }
        }
    }

    /// Machines that are ready one after the other: each is filled before there is the next.
    fn fill(&self, problem: &Problem, hosts: &mut [Host<'_>], counts: &mut [u32]) {
        for host in hosts {
            for class in &self.order {
                let of = &problem.classes[*class];
                if of.offerings.contains(host.offering) {
                    let taken = host.fits(&of.requests).min(u64::from(counts[*class]));
                    host.take(&of.requests, taken);
                    counts[*class] -= taken as u32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ResourceName;
    use packing::solve::{BitSet, Class, Offering, Pool};
    use std::sync::Arc;

    /// Two kinds of pods and two kinds of machines: cheapest is a kind for each, and nothing keeps them apart.
    fn question() -> Question {
        let class = |milli, mebi| Class {
            count: 60,
            requests: vec![milli, mebi, 1],
            offerings: BitSet::full(2),
            ..Class::default()
        };
        let offering = |machine_type, room: [u64; 3], price| Offering {
            machine_type,
            room: room.to_vec(),
            price,
            available: true,
            ..Offering::default()
        };
        let problem = Problem {
            resources: 3,
            keys: vec![0],
            classes: vec![class(900, 3100), class(3500, 28 << 10)],
            pools: vec![Pool::default()],
            offerings: vec![
                offering(0, [95_690, 724_520, 100], 5_440_000),
                offering(1, [7910, 29_310, 100], 300_000),
            ],
            ..Problem::default()
        };
        let resources = ["cpu", "memory", "pods"].map(|name| ResourceName(Arc::from(name)));
        Question { problem, resources: resources.to_vec() }
    }

    #[test]
    fn what_is_bought_does_in_every_course_that_the_scheduler_may_take() {
        let (question, order, effort) = (question(), [0, 1], Effort::default());
        let planned = solve(&question.problem, effort).unwrap();
        let courses = Courses::of(&question, &order);
        assert!(courses.left_over(&question.problem, &planned).is_some(), "a plan that only one order fits");
        let bought = settle(&question, &order, effort, planned.clone());
        assert_eq!(courses.left_over(&question.problem, &bought), None);
        assert_eq!(bought.bound, planned.bound);
        for class in 0..2 {
            let of = |(known, count): &(usize, u32)| if *known == class { *count } else { 0 };
            let all: u32 = bought.machines.iter().flat_map(|machine| &machine.pods).map(of).sum();
            assert_eq!(all, 60);
        }
        assert!(bought.machines.iter().all(|machine| !machine.pods.is_empty()));
    }

    #[test]
    fn where_no_more_can_be_had_the_plan_stays() {
        let (mut question, order, effort) = (question(), [0, 1], Effort::default());
        let most = solve(&question.problem, effort).unwrap().machines.len() as u32;
        question.problem.max_new = Some(most);
        let planned = solve(&question.problem, effort).unwrap();
        let bought = settle(&question, &order, effort, planned.clone());
        assert!(bought.machines.len() <= most as usize);
        assert_eq!(bought.unplaced, planned.unplaced);
    }
}
