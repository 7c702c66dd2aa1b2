//! One look at one state: nodes that can simply go, then sets of nodes that something cheaper can replace.
//!
//! Owns both moves and the choice of sets. Sets are nodes of one company that waste the most, halved where they cannot be
//! replaced; what is left over of all companies is tried together at the end. A move costs what it moves.

use super::{Declined, Draft, Origin, Search, Standing};
use crate::intern::hash_of;
use crate::solve::{Answer, Effort, solve};
use crate::{ClassIx, Group, Market, Room, SpotIx, size_units};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Nodes of the largest set that is tried at once.
const MOST_AT_ONCE: usize = 16;
/// Steps of local search for one set.
const SEARCH_STEPS: u64 = 0;

/// Of what is bought, this part (1/32) at least stays unused: sets that promise no more are not tried.
const UNUSED_SHARE: u128 = 32;

/// The state in the making.
struct Trial {
    room: Room,
    /// What pools still have; without makes.
    market: Market,
    /// By place in the picture: which draft took the node away.
    gone: Vec<Option<usize>>,
    bought: Vec<(SpotIx, Standing)>,
}

/// What takes the place of a set of nodes.
struct Offer {
    answer: Answer,
    groups: Vec<Group>,
    /// By offering: its number in the whole market.
    makes: Vec<usize>,
}

impl Search<'_> {
    /// Looks at the state as it is. `false`: nothing was found, and it is as it was.
    pub(super) fn pass(&mut self) -> bool {
        self.sort_world();
        let mut trial = self.begin();
        let before = self.drafts.len();
        self.remove_one_by_one(&mut trial);
        if !self.goods.is_empty() {
            self.replace_sets(&mut trial);
        }
        let found = self.drafts.len() > before;
        if found {
            self.settle(trial);
        }
        found
    }

    fn begin(&self) -> Trial {
        let mut room = self.blank.clone();
        for standing in &self.world {
            let spot = match standing.origin {
                Origin::Bought { .. } => room.add_promised(Arc::clone(&standing.node)),
                _ => room.add(Arc::clone(&standing.node)),
            };
            for (class, count) in standing.staying.iter().chain(&standing.moving) {
                room.hold(*class, spot, *count);
            }
            if standing.shut {
                room.bar(spot);
            }
        }
        let mut market = Market { makes: Vec::new(), ..self.market.clone() };
        for standing in &self.world {
            if let Origin::Bought { make, .. } = standing.origin {
                sell(&mut market, &self.market.makes[make].uses, self.market.makes[make].pool);
            }
        }
        Trial { room, market, gone: vec![None; self.world.len()], bought: Vec::new() }
    }

    /// Nodes whose pods fit elsewhere, the most wasteful first.
    fn remove_one_by_one(&mut self, trial: &mut Trial) {
        for at in (0..self.world.len()).rev() {
            if self.steps >= self.terms.steps || !self.world[at].may_go() {
                return;
            }
            if !self.is_worth_it(&[at], self.world[at].price) {
                self.decline(&[at], self.world[at].price);
            } else if self.allows(&[at]) {
                let mark = trial.room.mark();
                if self.displace(trial, &[at], true).is_empty() {
                    self.accept(trial, &[at], self.world[at].price);
                } else {
                    trial.room.rollback(mark);
                }
            }
        }
    }

    fn replace_sets(&mut self, trial: &mut Trial) {
        let mut companies: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in (0..self.world.len()).rev() {
            if self.world[at].may_go() && trial.gone[at].is_none() && self.spare(&[at]) > 0 {
                companies.entry(self.world[at].company).or_default().push(at);
            }
        }
        let several = companies.len() > 1;
        for nodes in companies.into_values() {
            for set in nodes.chunks(MOST_AT_ONCE) {
                self.replace_or_halve(trial, set);
            }
        }
        if several {
            let left = |at: &usize| trial.gone[*at].is_none() && self.world[*at].may_go();
            let rest: Vec<usize> =
                (0..self.world.len()).rev().filter(left).filter(|at| self.spare(&[*at]) > 0).collect();
            for set in rest.chunks(MOST_AT_ONCE) {
                self.replace(trial, set);
            }
        }
    }

    fn replace_or_halve(&mut self, trial: &mut Trial, set: &[usize]) {
        if !self.replace(trial, set) && set.len() > 1 {
            let (first, second) = set.split_at(set.len() / 2);
            self.replace_or_halve(trial, first);
            self.replace_or_halve(trial, second);
        }
    }

    /// Replaces a set of nodes, as far as allowances go, if that is worth it.
    fn replace(&mut self, trial: &mut Trial, set: &[usize]) -> bool {
        let mut allowed: Vec<usize> = Vec::new();
        for at in set {
            allowed.push(*at);
            if !self.allows(&allowed) {
                allowed.pop();
            }
        }
        let promise = u64::try_from(self.spare(&allowed)).unwrap_or(0);
        if self.steps >= self.terms.steps || allowed.is_empty() {
            return false;
        }
        if !self.is_worth_it(&allowed, promise) {
            self.decline(&allowed, promise);
            return false;
        }
        let mark = trial.room.mark();
        let price: u64 = allowed.iter().map(|at| self.world[*at].price).sum();
        let groups = self.displace(trial, &allowed, false);
        let offer = self
            .offer(trial, groups, &|search, cost| search.is_worth_it(&allowed, price.saturating_sub(cost)));
        let saving = offer.as_ref().map_or(0, |offer| price.saturating_sub(offer.answer.price));
        match offer {
            Some(offer) if saving > 0 && self.is_worth_it(&allowed, saving) => {
                let draft = self.drafts.len();
                if self.buy(trial, draft, &offer) {
                    self.accept(trial, &allowed, saving);
                    return true;
                }
                trial.bought.retain(|(_, standing)| {
                    !matches!(standing.origin, Origin::Bought { draft: of, .. } if of == draft)
                });
            }
            Some(_) => self.decline(&allowed, saving),
            None => {}
        }
        trial.room.rollback(mark);
        false
    }

    /// Takes nodes away and puts their pods on those that stay. Returns what finds no place, or `briefly` the first of
    /// that.
    fn displace(&mut self, trial: &mut Trial, set: &[usize], briefly: bool) -> Vec<Group> {
        let mut wanted: BTreeMap<u32, Group> = BTreeMap::new();
        for at in set {
            let received = trial.room.received(SpotIx(*at)).to_vec();
            for (class, count) in self.world[*at].moving.iter().chain(&received) {
                let rank = self.rank[class.0 as usize];
                wanted.entry(rank).or_insert(Group { class: *class, count: 0 }).count += count;
            }
            trial.room.close(SpotIx(*at));
        }
        let mut wanted: Vec<Group> = wanted.into_values().collect();
        wanted.sort_by_key(|group| {
            let shape = trial.room.shape_of(group.class);
            (Reverse(shape.priority), Reverse(size_units(&shape.requests)))
        });
        let mut homeless = Vec::new();
        for group in wanted {
            self.steps += self.world.len() as u64;
            let placed = trial.room.place(group.class, group.count, 0..self.world.len());
            let count = group.count - placed.iter().map(|placed| placed.count).sum::<u32>();
            if count > 0 {
                homeless.push(Group { class: group.class, count });
                if briefly {
                    break;
                }
            }
        }
        homeless
    }

    /// The cheapest machines for pods without a place; `None` where they cannot be had, or were too dear the last time
    /// that the same was asked: most of a state is as it was in the one before.
    fn offer(
        &mut self,
        trial: &mut Trial,
        groups: Vec<Group>,
        will_do: &dyn Fn(&Self, u64) -> bool,
    ) -> Option<Offer> {
        if groups.is_empty() {
            return Some(Offer { answer: Answer::default(), groups, makes: Vec::new() });
        }
        let makes = self.goods_for(&groups);
        trial.market.makes = makes.iter().map(|at| self.market.makes[*at].clone()).collect();
        let question = trial.room.question(&trial.market, &groups);
        let hash = hash_of(&question.problem);
        if self.solved.get(&hash).is_some_and(|known| known.is_none_or(|cost| !will_do(self, cost))) {
            return None;
        }
        let answer = solve(&question.problem, Effort { steps: SEARCH_STEPS, ..Effort::default() }).ok()?;
        self.steps += answer.steps;
        let complete = answer.unplaced.is_empty();
        self.solved.insert(hash, complete.then_some(answer.price));
        complete.then_some(Offer { answer, groups, makes })
    }

    /// Puts the machines of an offer into the room. `false`: volumes, of which the optimiser knows nothing, forbid it.
    fn buy(&mut self, trial: &mut Trial, draft: usize, offer: &Offer) -> bool {
        for machine in &offer.answer.machines {
            let number = offer.makes[machine.offering];
            let make = &self.market.makes[number];
            let spot = trial.room.add_promised(Arc::clone(&make.node));
            let staying: Vec<(ClassIx, u32)> = make.overhead.iter().map(|class| (*class, 1)).collect();
            for class in &make.overhead {
                trial.room.hold(*class, spot, 1);
            }
            let mut moving = Vec::new();
            for (group, count) in &machine.pods {
                let class = offer.groups[*group].class;
                if trial.room.volume_capacity(class, spot, *count) < *count {
                    return false;
                }
                trial.room.settle(class, spot, *count);
                moving.push((class, *count));
            }
            let options = machine.options.iter().map(|at| offer.makes[*at]).collect();
            let origin = Origin::Bought { draft, make: number, options };
            let (node, price, company) = (Arc::clone(&make.node), make.price, make.pool);
            let standing =
                Standing { node, origin, staying, moving, price, company, least_permille: 0, shut: false };
            trial.bought.push((spot, standing));
        }
        for machine in &offer.answer.machines {
            let make = &self.market.makes[offer.makes[machine.offering]];
            sell(&mut trial.market, &make.uses, make.pool);
        }
        true
    }

    /// Nodes go: allowances are debited, and drafts whose machines go become part of this one.
    fn accept(&mut self, trial: &mut Trial, set: &[usize], saving: u64) {
        let number = self.drafts.len();
        self.drafts.push(Draft::default());
        let mut draft = Draft { saving, ..Draft::default() };
        for at in set {
            trial.gone[*at] = Some(number);
            match self.world[*at].origin {
                Origin::Leaver(leaver) => {
                    draft.leavers.push(leaver);
                    for allowance in &self.leavers[leaver].allowances {
                        if let Some(left) = self.allowances.get_mut(*allowance) {
                            *left = left.saturating_sub(1);
                        }
                    }
                }
                Origin::Bought { draft: of, .. } => {
                    let of = self.home(of);
                    if of != number {
                        draft.leavers.append(&mut std::mem::take(&mut self.drafts[of].leavers));
                        draft.saving += self.drafts[of].saving;
                        self.drafts[of].taken_over_by = Some(number);
                    }
                }
                Origin::Fixed(_) => {}
            }
        }
        self.drafts[number] = draft;
    }

    /// Whether allowances let all nodes of a set go.
    fn allows(&self, set: &[usize]) -> bool {
        let mut taken: BTreeMap<usize, u32> = BTreeMap::new();
        for at in set {
            if let Origin::Leaver(leaver) = self.world[*at].origin {
                for allowance in &self.leavers[leaver].allowances {
                    *taken.entry(*allowance).or_default() += 1;
                }
            }
        }
        taken.into_iter().all(|(at, n)| self.allowances.get(at).is_none_or(|left| n <= *left))
    }

    /// Micro-USD that a set costs beyond what its pods are worth, and what machines never do without.
    fn spare(&self, set: &[usize]) -> i128 {
        let one = |at: &usize| {
            let standing = &self.world[*at];
            let worth = self.worth_of(&standing.moving) / 1000;
            let worth = worth + worth / UNUSED_SHARE;
            i128::from(standing.price) - i128::try_from(worth).unwrap_or(i128::MAX)
        };
        set.iter().map(one).sum()
    }

    /// Whether a saving is enough for what it moves. Nodes that simply go save all that they cost. What several
    /// companies save together is theirs by the share of what goes, and each has to agree.
    fn is_worth_it(&self, set: &[usize], saving: u64) -> bool {
        let price: u64 = set.iter().map(|at| self.world[*at].price).sum();
        if price == 0 {
            return true;
        }
        let mut companies: BTreeMap<usize, (u64, u64, u64)> = BTreeMap::new();
        for standing in set.iter().map(|at| &self.world[*at]) {
            let of = companies.entry(standing.company).or_default();
            *of = (of.0 + standing.price, of.1 + pods_of(standing), of.2.max(standing.least_permille));
        }
        let enough = |(company, (cost, pods, own)): (usize, (u64, u64, u64))| {
            let share = u128::from(saving) * u128::from(cost) / u128::from(price);
            let share = u64::try_from(share).unwrap_or(u64::MAX);
            self.terms.hurdles.get(company).is_none_or(|hurdle| hurdle.is_reached(share, pods, own))
        };
        u128::from(saving) * 1000 >= u128::from(price) * u128::from(self.terms.least_permille)
            && companies.into_iter().all(enough)
    }

    /// Notes of a set that stays how near it came; the nearest is kept.
    fn decline(&mut self, set: &[usize], saving: u64) {
        if saving == 0 {
            return;
        }
        let standing = || set.iter().map(|at| &self.world[*at]);
        let declined = Declined {
            leaver: 0,
            saving,
            price: standing().map(|standing| standing.price).sum(),
            nodes: u32::try_from(set.len()).unwrap_or(u32::MAX),
            pods: standing().map(|standing| u32::try_from(pods_of(standing)).unwrap_or(u32::MAX)).sum(),
        };
        let nearer = |one: &Declined, other: &Declined| {
            u128::from(one.saving) * u128::from(other.pods) > u128::from(other.saving) * u128::from(one.pods)
        };
        for at in set {
            let Origin::Leaver(leaver) = self.world[*at].origin else { continue };
            let known = self.declined.entry(leaver).or_insert(Declined { leaver, ..declined });
            if nearer(&declined, known) {
                *known = Declined { leaver, ..declined };
            }
        }
    }

    /// Makes what was found the state to look at next.
    fn settle(&mut self, trial: Trial) {
        let Trial { room, gone, bought, .. } = trial;
        let add = |moving: &mut Vec<(ClassIx, u32)>, received: &[(ClassIx, u32)]| {
            for (class, count) in received {
                match moving.iter_mut().find(|(known, _)| known == class) {
                    Some((_, n)) => *n += count,
                    None => moving.push((*class, *count)),
                }
            }
        };
        let mut world = Vec::with_capacity(self.world.len());
        for (at, mut standing) in std::mem::take(&mut self.world).into_iter().enumerate() {
            if gone[at].is_none() {
                add(&mut standing.moving, room.received(SpotIx(at)));
                world.push(standing);
            }
        }
        world.extend(bought.into_iter().map(|(_, standing)| standing));
        self.world = world;
    }
}

fn pods_of(standing: &Standing) -> u64 {
    standing.moving.iter().map(|(_, count)| u64::from(*count)).sum()
}

/// A machine of a pool is bought.
fn sell(market: &mut Market, uses: &[u64], pool: usize) {
    let of = &mut market.pools[pool];
    of.max_new = of.max_new.map(|most| most.saturating_sub(1));
    for (left, used) in of.limits.iter_mut().zip(uses) {
        *left = left.saturating_sub(*used);
    }
    market.max_new = market.max_new.map(|most| most.saturating_sub(1));
}
