//! What the linear program over patterns is about: kinds of pods and offerings, zones left aside.
//!
//! Owns which buckets are one kind, which offerings no other offering dominates for any of them, and how the patterns
//! that the program found are used.

use super::amounts::Amounts;
use super::catalog::FamilyIx;
use super::columns::{Kind, Planned, Program, Sale};
use super::open::Market;
use super::problem::Rule;
use super::state::State;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// More kinds of pods than this are not asked for patterns: the program grows with their square.
const MOST_KINDS: usize = 160;
/// Fewer kinds are packed well one pattern at a time.
const LEAST_KINDS: u64 = 8;
/// Forced machines are few where pods are so many times more.
const FEW_FORCED: u64 = 20;
/// Rounds of the program.
const ROUNDS: u32 = 30;
/// More sets of offerings than this are not told apart.
const MOST_PROFILES: usize = 64;

/// Price, room, set of profiles that allow it, and offering: in the order in which the better come first.
type Bid<const D: usize> = (u64, Reverse<Amounts<D>>, Reverse<u64>, usize);

impl<const D: usize> State<'_, D> {
    /// The kinds of pods among `counts`, which are by bucket, and what may be bought for them.
    pub(super) fn kinds_and_sales(&mut self, counts: &[u32]) -> Option<(Vec<Kind<D>>, Vec<Sale<D>>)> {
        let mut by_key = BTreeMap::new();
        let mut kinds: Vec<Kind<D>> = Vec::new();
        let mut profiles: Vec<usize> = Vec::new();
        let mut of: Vec<usize> = Vec::new();
        for (ix, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let bucket = &self.units.buckets[ix];
            let alone =
                bucket.solo.filter(|(tally, cap)| *cap == 1 && self.is_anti(ix, *tally)).map(|(t, _)| t);
            let profile = profiles.iter().position(|known| *known == bucket.profile).unwrap_or_else(|| {
                profiles.push(bucket.profile);
                profiles.len() - 1
            });
            let next = kinds.len();
            let kind = *by_key.entry((profile, bucket.req, alone)).or_insert(next);
            if kind == next {
                kinds.push(Kind { req: bucket.req, count: 0, alone, buckets: Vec::new(), worth: 0 });
                of.push(profile);
            }
            kinds[kind].count += count;
            kinds[kind].buckets.push(ix);
        }
        if kinds.is_empty() || kinds.len() > MOST_KINDS || profiles.len() > MOST_PROFILES {
            return None;
        }
        let sales = self.sales(&kinds, &of, &profiles);
        Some((kinds, sales))
    }

    /// Whether what limits the pods of a bucket to one on a machine is anti-affinity.
    fn is_anti(&self, bucket: usize, tally: usize) -> bool {
        let units = self.units.buckets[bucket].units.iter().flatten();
        let mut variants = units.map(|unit| self.units.variant_of(*unit));
        variants.all(|variant| {
            variant.host_rules.iter().any(|rule| matches!(rule, Rule::Anti { tally: t } if *t == tally))
        })
    }

    fn sales(&self, kinds: &[Kind<D>], of: &[usize], profiles: &[usize]) -> Vec<Sale<D>> {
        let mut all = Vec::new();
        for (ix, offer) in
            self.catalog.offers.iter().enumerate().filter(|(_, offer)| offer.family != usize::MAX)
        {
            let mut set = 0u64;
            for (at, profile) in profiles.iter().enumerate() {
                set |= u64::from(self.catalog.allows(*profile, ix)) << at;
            }
            if set != 0 && self.may_open(ix) {
                all.push((offer.price, Reverse(offer.room), Reverse(set), ix));
            }
        }
        all.sort_unstable();
        all.dedup_by_key(|(price, room, set, _)| (*price, *room, *set));
        let mut kept: Vec<Bid<D>> = Vec::new();
        for one in all {
            let better = |other: &Bid<D>| one.2.0 & !other.2.0 == 0 && one.1.0.fits(&other.1.0);
            if !kept.iter().rev().any(better) {
                kept.push(one);
            }
        }
        let sale = |(price, Reverse(room), Reverse(set), offering): Bid<D>| Sale {
            offering,
            price: price * 1000,
            room,
            kinds: (0..kinds.len())
                .filter(|kind| set & (1 << of[*kind]) != 0 && kinds[*kind].req.fits(&room))
                .collect(),
        };
        kept.into_iter().map(sale).filter(|sale| !sale.kinds.is_empty()).collect()
    }

    /// Whether machines will be many for the kinds of pods, so that most are whole patterns of the linear program; and,
    /// unless there is time for another answer, whether anti-affinity decides about few of them only.
    pub(super) fn suits_program(&self, market: &Market, searching: bool) -> bool {
        // Its patterns know nothing of choice.
        let Some(priced) = self.priced.as_ref().filter(|_| !self.catalog.any_choosy()) else { return false };
        let pods: u64 = priced.counts.iter().map(|count| u64::from(*count)).sum();
        let kinds = priced.strict.len() as u64;
        let chosen = market.chosen.iter().flatten();
        let largest = chosen.map(|ix| self.catalog.offers[*ix].price).max().unwrap_or(0);
        let forced = u64::from(priced.forced);
        let machines = priced.bound.checked_div(largest).unwrap_or(0).max(forced);
        kinds >= LEAST_KINDS && machines > kinds && (searching || forced * FEW_FORCED < pods)
    }

    /// A market that begins with the patterns of the linear program and goes by its worths. `None`: there are too many
    /// kinds of pods for it.
    pub(super) fn program(&mut self, market: &Market) -> Option<Market> {
        let priced = self.priced.clone()?;
        let (mut kinds, sales) = self.kinds_and_sales(&priced.counts)?;
        let asked = priced.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let first: BTreeMap<usize, u64> = asked.map(|(ix, _)| ix).zip(priced.strict).collect();
        for kind in &mut kinds {
            kind.worth = kind.buckets.iter().filter_map(|ix| first.get(ix).copied()).max().unwrap_or(1);
        }
        let program = Program::search(&kinds, &sales, ROUNDS, &mut self.steps)?;
        let mut market = market.clone();
        for chosen in &mut market.chosen {
            chosen.clear();
        }
        for planned in &program.planned {
            for bucket in planned.pods.iter().flat_map(|(kind, _)| &kinds[*kind].buckets) {
                market.chosen[*bucket].push(planned.offering);
            }
        }
        for (kind, worth) in kinds.iter().zip(&program.worth) {
            for bucket in &kind.buckets {
                self.units.buckets[*bucket].worth = *worth;
            }
        }
        market.planned = program.planned;
        market.kinds = kinds.into_iter().map(|kind| kind.buckets).collect();
        Some(market)
    }

    /// Uses the program's patterns as often as it says, in the regions where their pods are.
    pub(super) fn open_planned(&mut self, market: &Market, families: &[FamilyIx]) {
        for planned in &market.planned {
            for _ in 0..planned.times {
                let Some((family, offering)) = self.planned_place(market, planned, families) else { break };
                let region = self.catalog.families[family].region;
                let node = self.open(offering);
                for (kind, count) in &planned.pods {
                    let mut left = *count;
                    for &bucket in &market.kinds[*kind] {
                        if left > 0 {
                            left -= self.draw(node, bucket, left, region);
                        }
                    }
                }
                if self.nodes[node].pods.is_empty() {
                    self.close(node);
                    break;
                }
                self.shrink(node);
            }
        }
    }

    /// Where the pods of a pattern are left most.
    fn planned_place(
        &self,
        market: &Market,
        planned: &Planned,
        families: &[FamilyIx],
    ) -> Option<(FamilyIx, usize)> {
        let pool = self.problem.offerings[planned.offering].pool;
        let mut best: Option<(u32, u32, Reverse<FamilyIx>, usize)> = None;
        for &family in families.iter().filter(|ix| self.catalog.families[**ix].pool == pool) {
            let Some(offering) = self.catalog.twin(planned.offering, family) else { continue };
            if !self.may_open(offering) {
                continue;
            }
            let region = self.catalog.families[family].region;
            let (mut times, mut tied) = (u32::MAX, u32::MAX);
            for (kind, count) in &planned.pods {
                let buckets = market.kinds[*kind].iter().map(|ix| &self.units.buckets[*ix]);
                let (all, here) = buckets.fold((0, 0), |(all, here), bucket| {
                    (all + bucket.left_in(region), here + bucket.left[region + 1])
                });
                times = times.min(all / count);
                tied = tied.min(here / count);
            }
            let key = (times, tied, Reverse(family), offering);
            if times > 0 && best.is_none_or(|old| key > old) {
                best = Some(key);
            }
        }
        best.map(|(_, _, family, offering)| (family.0, offering))
    }
}
