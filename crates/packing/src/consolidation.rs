//! Which nodes can go, and which can give way to cheaper machines: any number of them for any number.
//!
//! Owns the search. Two moves take turns: a node goes whose pods fit on nodes that stay (`pass`), and a set of nodes goes
//! for which cheaper machines are bought, chosen by `solve` after the room on nodes that stay has been used. Every
//! state is looked at afresh, in an order that only the nodes and what they hold decide, until nothing more is found:
//! so the end of one search is the end of the next one too, and what has been carried out is not planned again.
//! It leaves to the caller which nodes may go and what they cost, which of their pods move, how many may go at once,
//! and what a saving is worth.

mod pass;
mod worths;

use crate::{ClassIx, Market, Room, SpotIx};
use model::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// States that are looked at, one after the other, at most.
const MOST_PASSES: u32 = 12;

/// A node that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaver {
    pub spot: SpotIx,
    /// Micro-USD an hour; a node without a price can go, and is never replaced.
    pub price: u64,
    /// Pods that need a place elsewhere; whatever else is on the node ends with it.
    pub moving: Vec<(ClassIx, u32)>,
    /// Nodes of one company (a pool's, as a rule) are tried together before others are.
    pub company: usize,
    /// What moving its pods must save at least, as in [`Hurdle`], where that is more than its company asks for.
    pub least_permille: u64,
    /// Indexes into [`Terms::allowances`] of those that this node takes one of when it goes.
    pub allowances: Vec<usize>,
}

/// What a search goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Nodes that may go at once, by allowance.
    pub allowances: Vec<u32>,
    /// Machines are bought in place of nodes only where that saves so many thousandths of what the nodes cost.
    pub least_permille: u64,
    /// By company: what moving a pod must save. A company that is not named here asks for nothing.
    pub hurdles: Vec<Hurdle>,
    /// Probes after which the search ends where it is: one looks at one place for one kind of pods.
    pub steps: u64,
}

/// What a company costs and holds, and what moving one of its pods must save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hurdle {
    /// Of all its nodes, in micro-USD an hour.
    pub price: u64,
    /// On all its nodes.
    pub pods: u64,
    /// Thousandths of what a pod costs on average.
    pub least_permille: u64,
}

impl Hurdle {
    /// What is saved for each pod that moves, in thousandths of what a pod costs on average; the most that there is
    /// where nothing moves or nothing has a price.
    pub fn score_permille(&self, saving: u64, moved: u64) -> u64 {
        let cost = u128::from(moved) * u128::from(self.price);
        let score = (u128::from(saving) * u128::from(self.pods) * 1000).checked_div(cost);
        score.map_or(u64::MAX, |score| u64::try_from(score).unwrap_or(u64::MAX))
    }

    /// Whether that is as much as is asked for here, and `own` by the nodes that go.
    pub fn is_reached(&self, saving: u64, moved: u64, own: u64) -> bool {
        self.score_permille(saving, moved) >= self.least_permille.max(own)
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self { allowances: Vec::new(), least_permille: 50, hurdles: Vec::new(), steps: 40_000_000 }
    }
}

/// A machine that is to be bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Index into [`Market::makes`].
    pub make: usize,
    /// Of a flexible pool: makes that would do as well at up to its price, cheapest first.
    pub options: Vec<usize>,
    pub pods: Vec<(ClassIx, u32)>,
}

/// Nodes that go together, with what is bought instead. Each stands alone: whoever carries out only some of them finds
/// the more room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Indexes into the list of leavers, ascending.
    pub leavers: Vec<usize>,
    pub machines: Vec<Replacement>,
    /// Micro-USD an hour.
    pub saving: u64,
    /// Pods that leave the nodes.
    pub moved: u32,
}

/// A set of nodes that something cheaper could take the place of, at too small a saving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declined {
    pub leaver: usize,
    /// Of the set that came nearest: what would be saved at most, what it costs, and what is in it.
    pub saving: u64,
    pub price: u64,
    pub nodes: u32,
    pub pods: u32,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consolidation {
    /// In the order in which they were found: what saves most for what it moves comes first, as a rule.
    pub exchanges: Vec<Exchange>,
    /// Where pods that found room on nodes that stay would go when all exchanges are carried out.
    pub moves: Vec<(ClassIx, SpotIx, u32)>,
    /// Leavers that stay because their going would not be worth it, ascending.
    pub declined: Vec<Declined>,
    /// Work done, in probes.
    pub steps: u64,
    /// The search ended because nothing more was to be found.
    pub complete: bool,
}

impl Consolidation {
    /// Micro-USD an hour, over all exchanges.
    pub fn saving(&self) -> u64 {
        self.exchanges.iter().map(|exchange| exchange.saving).sum()
    }
}

/// Where a node of the picture comes from.
#[derive(Clone, Debug)]
enum Origin {
    Fixed(SpotIx),
    Leaver(usize),
    /// Bought by a draft: its make and the other makes that would do, in the whole market's numbers.
    Bought {
        draft: usize,
        make: usize,
        options: Vec<usize>,
    },
}

/// A node of the picture.
#[derive(Clone, Debug)]
struct Standing {
    node: Arc<Node>,
    origin: Origin,
    /// Pods that stay for as long as the node does.
    staying: Vec<(ClassIx, u32)>,
    /// Pods that move when it goes.
    moving: Vec<(ClassIx, u32)>,
    price: u64,
    company: usize,
    /// What moving its pods must save.
    least_permille: u64,
    /// Takes no pods.
    shut: bool,
}

impl Standing {
    fn may_go(&self) -> bool {
        !matches!(self.origin, Origin::Fixed(_))
    }
}

/// An exchange in the making; one that took over another's machines took over the rest of it too.
#[derive(Clone, Debug, Default)]
struct Draft {
    leavers: Vec<usize>,
    saving: u64,
    taken_over_by: Option<usize>,
}

/// One search.
struct Search<'a> {
    /// The room without spots.
    blank: Room,
    leavers: &'a [Leaver],
    market: &'a Market,
    terms: &'a Terms,
    /// Makes worth a look, by their numbers in the market, in lists that classes share.
    goods: Vec<Vec<usize>>,
    /// By class: which list of `goods`.
    choice: Vec<usize>,
    /// By class, in nano-USD an hour.
    worth: Vec<u64>,
    /// By class: a number that goes by what the class is, not by when the room met it.
    rank: Vec<u32>,
    world: Vec<Standing>,
    drafts: Vec<Draft>,
    /// Price of the answer to each problem that was solved, by the problem's hash; `None`: pods were left.
    solved: BTreeMap<u64, Option<u64>>,
    allowances: Vec<u32>,
    /// By leaver.
    declined: BTreeMap<usize, Declined>,
    steps: u64,
}

impl Room {
    /// Which of `leavers` can go, or be replaced from a market by something cheaper. Pods may move to spots of
    /// `within`. The room is left as it is; what it costs is the work of the search and one copy of the room's spots.
    pub fn consolidate(
        &self,
        leavers: &[Leaver],
        within: Range<usize>,
        market: &Market,
        terms: &Terms,
    ) -> Consolidation {
        let mut blank = self.clone();
        blank.clear();
        let mut search = Search {
            rank: ranks(self),
            world: world(self, leavers, &within),
            blank,
            leavers,
            market,
            terms,
            goods: Vec::new(),
            choice: vec![0; self.class_count()],
            worth: vec![0; self.class_count()],
            drafts: Vec::new(),
            solved: BTreeMap::new(),
            allowances: terms.allowances.clone(),
            declined: BTreeMap::new(),
            steps: 0,
        };
        search.value_pods();
        let mut complete = false;
        for _ in 0..MOST_PASSES {
            complete = !search.pass() && search.steps < terms.steps;
            if complete || search.steps >= terms.steps {
                break;
            }
        }
        search.finish(complete)
    }
}

/// The spots of a room, with what of them may go.
fn world(room: &Room, leavers: &[Leaver], within: &Range<usize>) -> Vec<Standing> {
    let of: BTreeMap<SpotIx, usize> = leavers.iter().enumerate().map(|(at, l)| (l.spot, at)).collect();
    let open = (0..room.len()).map(SpotIx).filter(|spot| !room.is_closed(*spot));
    open.map(|spot| {
        let mut staying = room.held(spot).to_vec();
        let leaver = of.get(&spot).map(|at| (*at, &leavers[*at]));
        let moving = leaver.map(|(_, leaver)| leaver.moving.clone()).unwrap_or_default();
        for (class, count) in &moving {
            if let Some(held) = staying.iter_mut().find(|(known, _)| known == class) {
                held.1 = held.1.saturating_sub(*count);
            }
        }
        staying.retain(|(_, count)| *count > 0);
        Standing {
            node: Arc::clone(room.node(spot)),
            origin: leaver.map_or(Origin::Fixed(spot), |(at, _)| Origin::Leaver(at)),
            staying,
            moving,
            price: leaver.map_or(0, |(_, leaver)| leaver.price),
            company: leaver.map_or(0, |(_, leaver)| leaver.company),
            least_permille: leaver.map_or(0, |(_, leaver)| leaver.least_permille),
            shut: room.is_shut(spot) || !within.contains(&spot.0),
        }
    })
    .collect()
}

/// Numbers for the classes of a room that follow their content.
fn ranks(room: &Room) -> Vec<u32> {
    let mut order: Vec<u32> = (0..room.class_count() as u32).collect();
    order.sort_by_cached_key(|class| room.content_of(ClassIx(*class)));
    let mut ranks = vec![0; order.len()];
    for (rank, class) in order.into_iter().enumerate() {
        ranks[class as usize] = rank as u32;
    }
    ranks
}

impl Search<'_> {
    /// The draft that a draft has become part of.
    fn home(&self, mut draft: usize) -> usize {
        while let Some(next) = self.drafts[draft].taken_over_by {
            draft = next;
        }
        draft
    }

    fn finish(self, complete: bool) -> Consolidation {
        let mut found = Consolidation { steps: self.steps, complete, ..Consolidation::default() };
        let mut machines: Vec<Vec<Replacement>> = vec![Vec::new(); self.drafts.len()];
        for standing in &self.world {
            let (spot, before) = match &standing.origin {
                Origin::Bought { draft, make, options } => {
                    let pods = standing.moving.clone();
                    let (make, options) = (*make, options.clone());
                    machines[self.home(*draft)].push(Replacement { make, options, pods });
                    continue;
                }
                Origin::Fixed(spot) => (*spot, &[][..]),
                Origin::Leaver(at) => (self.leavers[*at].spot, &self.leavers[*at].moving[..]),
            };
            for (class, count) in &standing.moving {
                let known = before.iter().find(|(known, _)| known == class).map_or(0, |(_, n)| *n);
                if *count > known {
                    found.moves.push((*class, spot, count - known));
                }
            }
        }
        found.moves.sort_by_key(|(class, spot, _)| (*spot, *class));
        for (draft, mut machines) in self.drafts.iter().zip(machines) {
            if draft.taken_over_by.is_none() {
                machines.sort_by(|a, b| (a.make, &a.pods).cmp(&(b.make, &b.pods)));
                let mut leavers = draft.leavers.clone();
                leavers.sort_unstable();
                let moving = leavers.iter().flat_map(|at| &self.leavers[*at].moving);
                let moved = moving.map(|(_, count)| *count).sum();
                found.exchanges.push(Exchange { leavers, machines, saving: draft.saving, moved });
            }
        }
        let gone: BTreeSet<usize> =
            found.exchanges.iter().flat_map(|exchange| &exchange.leavers).copied().collect();
        found.declined = self.declined.into_values().filter(|one| !gone.contains(&one.leaver)).collect();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Hurdle;

    /// Saved and moved shares of a pool, in hundredths, with whether half is enough; a saving below nothing is none.
    #[test]
    fn the_table_of_balanced_moves() {
        let balanced = |price, pods| Hurdle { price, pods, least_permille: 500 };
        for (saved, moved, score, enough) in [
            (20, 5, 4000, true),
            (10, 10, 1000, true),
            (5, 50, 100, false),
            (10, 0, u64::MAX, true),
            (0, 10, 0, false),
        ] {
            let hurdle = balanced(100, 100);
            assert_eq!(hurdle.score_permille(saved, moved), score, "{saved} {moved}");
            assert_eq!(hurdle.is_reached(saved, moved, 0), enough, "{saved} {moved}");
        }
        // Ten machines at $58.08 with 80 pods.
        let ten = balanced(58_080_000, 80);
        for (saved, moved, score, enough) in [
            (7_260_000, 3, 3333, true),
            (4_840_000, 4, 1666, true),
            (2_420_000, 8, 416, false),
            (0, 8, 0, false),
            // Half of the price of one machine of an even pool.
            (2_904_000, 8, 500, true),
        ] {
            assert_eq!(ten.score_permille(saved, moved), score);
            assert_eq!(ten.is_reached(saved, moved, 0), enough);
        }
        assert!(!ten.is_reached(4_840_000, 4, 2000), "a machine may ask for more");
    }
}
