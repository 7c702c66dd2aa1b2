//! Small linear programs, by the simplex method.
//!
//! Owns the program over patterns (cover all pods at the least price, machines cut into fractions) and the program
//! over one machine's room (the most worth that fits, pods cut into fractions). Its numbers are floating-point, of
//! which only the basic operations are used, so that they are the same everywhere; and they only suggest: what a
//! bound or a placement claims is checked again in integers.

/// What is less than this part of a number counts as nothing.
const TINY: f64 = 1e-9;
/// A column enters the basis if it saves more than this part of its cost.
const GAIN: f64 = 1e-7;
/// Columns that are kept in mind between two looks at all of them.
const IN_MIND: usize = 24;
/// Pivots for one machine's room.
const ROOM_PIVOTS: u32 = 32;

/// What may enter a basis: a column, or the surplus of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entering {
    Column(usize),
    Surplus(usize),
}

/// The program over patterns, kept at a basic solution.
#[derive(Clone, Debug)]
pub(super) struct Master {
    rows: usize,
    /// Inverse of the basis, row by row.
    inverse: Vec<f64>,
    /// How much of the basic column at each position is used.
    level: Vec<f64>,
    /// The basic column at each position; `None` is a surplus.
    basis: Vec<Option<usize>>,
    /// What one more of each row would cost.
    pub duals: Vec<f64>,
    costs: Vec<f64>,
    /// Row and amount of all columns, one column after the other.
    entries: Vec<(usize, f64)>,
    /// Where each column's entries end.
    ends: Vec<usize>,
    /// The first column that was added since the last solution.
    fresh: usize,
}

impl Master {
    /// Begins with a column for each row that covers one of it at a cost.
    pub(super) fn new(wants: &[f64], costs: &[f64]) -> Self {
        let rows = wants.len();
        let mut inverse = vec![0.0; rows * rows];
        for row in 0..rows {
            inverse[row * rows + row] = 1.0;
        }
        Self {
            rows,
            inverse,
            level: wants.to_vec(),
            basis: (0..rows).map(Some).collect(),
            duals: costs.to_vec(),
            costs: costs.to_vec(),
            entries: (0..rows).map(|row| (row, 1.0)).collect(),
            ends: (1..=rows).collect(),
            fresh: 0,
        }
    }

    pub(super) fn add(&mut self, cost: f64, entries: impl Iterator<Item = (usize, f64)>) {
        self.costs.push(cost);
        self.entries.extend(entries);
        self.ends.push(self.entries.len());
    }

    /// The columns in use, with how much of each.
    pub(super) fn used(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.basis.iter().zip(&self.level).filter_map(|(column, level)| column.map(|column| (column, *level)))
    }

    /// What all that is used costs.
    pub(super) fn value(&self) -> f64 {
        self.used().map(|(column, level)| self.costs[column] * level).sum()
    }

    fn column(&self, at: usize) -> &[(usize, f64)] {
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.entries[begin..self.ends[at]]
    }

    /// What one more of a column would cost beyond what it covers is worth, and that as a part of its cost.
    fn reduced(&self, entering: Entering, highest: f64) -> (f64, f64) {
        match entering {
            Entering::Column(at) => {
                let cost = self.costs[at];
                let rest = self.column(at).iter().fold(cost, |rest, (row, n)| rest - self.duals[*row] * n);
                (rest, rest / cost)
            }
            Entering::Surplus(row) => (self.duals[row], self.duals[row] / highest),
        }
    }

    /// Pivots until no column helps, at most so often. Returns the pivots made.
    pub(super) fn solve(&mut self, most: u32) -> u32 {
        let (mut done, mut from) = (0, std::mem::replace(&mut self.fresh, self.costs.len()));
        let fresh = from;
        while done < most {
            let mut in_mind = self.best(from);
            if in_mind.is_empty() && from > 0 {
                // Nothing new helps any more: the old ones may again.
                from = 0;
                continue;
            }
            from = fresh;
            let begin = done;
            while done < most {
                let highest = self.highest();
                let mut best: Option<(f64, f64, Entering)> = None;
                in_mind.retain(|entering| {
                    let (reduced, part) = self.reduced(*entering, highest);
                    if part < -GAIN && best.is_none_or(|old| part < old.1) {
                        best = Some((reduced, part, *entering));
                    }
                    part < GAIN
                });
                let Some((reduced, _, entering)) = best else { break };
                if !self.pivot(entering, reduced) {
                    break;
                }
                done += 1;
            }
            if done == begin {
                break;
            }
        }
        done
    }

    fn highest(&self) -> f64 {
        self.duals.iter().fold(1.0, |a: f64, b| a.max(*b))
    }

    /// What saves the largest parts of its cost, among columns from `from` on.
    fn best(&self, from: usize) -> Vec<Entering> {
        let highest = self.highest();
        let all = (from..self.costs.len()).map(Entering::Column).chain((0..self.rows).map(Entering::Surplus));
        let mut found: Vec<(f64, usize, Entering)> = all
            .enumerate()
            .map(|(at, entering)| (self.reduced(entering, highest).1, at, entering))
            .filter(|(part, ..)| *part < -GAIN)
            .collect();
        let order =
            |a: &(f64, usize, Entering), b: &(f64, usize, Entering)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if found.len() > IN_MIND {
            found.select_nth_unstable_by(IN_MIND, order);
            found.truncate(IN_MIND);
        }
        found.sort_by(order);
        found.into_iter().map(|(.., entering)| entering).collect()
    }

    /// How the basic columns change with one of what enters.
    fn direction(&self, entering: Entering) -> Vec<f64> {
        let rows = self.inverse.chunks_exact(self.rows);
        match entering {
            Entering::Column(at) => {
                let column = self.column(at);
                rows.map(|row| column.iter().map(|(at, n)| row[*at] * n).sum()).collect()
            }
            Entering::Surplus(at) => rows.map(|row| -row[at]).collect(),
        }
    }

    /// Takes something into the basis. `false`: nothing would leave it.
    fn pivot(&mut self, entering: Entering, reduced: f64) -> bool {
        let direction = self.direction(entering);
        let mut leaving: Option<(f64, usize)> = None;
        for (at, (level, step)) in self.level.iter().zip(&direction).enumerate() {
            if *step > TINY {
                let ratio = level.max(0.0) / step;
                if leaving.is_none_or(|(least, _)| ratio < least) {
                    leaving = Some((ratio, at));
                }
            }
        }
        let Some((ratio, at)) = leaving else { return false };
        let rows = self.rows;
        let scale = 1.0 / direction[at];
        let pivot: Vec<f64> =
            self.inverse[at * rows..(at + 1) * rows].iter().map(|value| value * scale).collect();
        for (row, step) in self.inverse.chunks_exact_mut(rows).zip(&direction) {
            if *step != 0.0 {
                for (value, pivot) in row.iter_mut().zip(&pivot) {
                    *value -= step * pivot;
                }
            }
        }
        self.inverse[at * rows..(at + 1) * rows].copy_from_slice(&pivot);
        for (level, step) in self.level.iter_mut().zip(&direction) {
            *level -= ratio * step;
        }
        self.level[at] = ratio;
        self.basis[at] = match entering {
            Entering::Column(column) => Some(column),
            Entering::Surplus(_) => None,
        };
        for (dual, pivot) in self.duals.iter_mut().zip(&pivot) {
            *dual += reduced * pivot;
        }
        true
    }
}

/// Prices of the resources of one machine at which the most worth that fits into its room, pods cut into fractions,
/// costs what it is worth. Pods come with the share of the room that they ask for, and prices are for the whole room.
pub(super) fn room_prices<const D: usize>(pods: &[(f64, [f64; D])]) -> [f64; D] {
    let mut inverse = [[0.0; D]; D];
    for (at, row) in inverse.iter_mut().enumerate() {
        row[at] = 1.0;
    }
    let (mut level, mut prices) = ([1.0f64; D], [0.0f64; D]);
    for _ in 0..ROOM_PIVOTS {
        let Some((gain, ask)) = entering_pod(pods, &prices) else { break };
        let mut step = [0.0; D];
        for (step, row) in step.iter_mut().zip(&inverse) {
            *step = row.iter().zip(&ask).map(|(a, b)| a * b).sum();
        }
        let mut leaving: Option<(f64, usize)> = None;
        for (at, (level, step)) in level.iter().zip(&step).enumerate() {
            if *step > TINY {
                let ratio = level.max(0.0) / step;
                if leaving.is_none_or(|(least, _)| ratio < least) {
                    leaving = Some((ratio, at));
                }
            }
        }
        let Some((ratio, at)) = leaving else { break };
        let pivot = inverse[at].map(|value| value / step[at]);
        for other in 0..D {
            level[other] -= ratio * step[other];
            for (value, pivot) in inverse[other].iter_mut().zip(&pivot) {
                *value -= step[other] * pivot;
            }
        }
        inverse[at] = pivot;
        level[at] = ratio;
        for (price, pivot) in prices.iter_mut().zip(&pivot) {
            *price += gain * pivot;
        }
    }
    prices
}

/// The pod that is worth the most beyond its cost, or room that should stay free.
fn entering_pod<const D: usize>(pods: &[(f64, [f64; D])], prices: &[f64; D]) -> Option<(f64, [f64; D])> {
    let mut best = (TINY, None);
    for (worth, ask) in pods {
        let gain = prices.iter().zip(ask).fold(*worth, |gain, (price, ask)| gain - price * ask);
        if gain > best.0 * worth {
            best = (gain / worth, Some((gain, *ask)));
        }
    }
    best.1.or_else(|| {
        let at = prices.iter().position(|price| *price < -1.0)?;
        let mut free = [0.0; D];
        free[at] = 1.0;
        Some((-prices[at], free))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_at_the_least_cost() {
        // 10 of one, 6 of the other; alone they cost 4 each, a pattern of one and one costs 5, one of two and none 6.
        let mut master = Master::new(&[10.0, 6.0], &[4.0, 4.0]);
        master.add(5.0, [(0, 1.0), (1, 1.0)].into_iter());
        master.add(6.0, [(0, 2.0)].into_iter());
        assert!(master.solve(100) > 0);
        assert!((master.value() - 42.0).abs() < 1e-6, "{}", master.value());
        assert!((master.duals[0] - 3.0).abs() < 1e-6 && (master.duals[1] - 2.0).abs() < 1e-6);
        let mut used: Vec<(usize, f64)> = master.used().collect();
        used.sort_by_key(|(column, _)| *column);
        assert!(used.iter().zip([(2, 6.0), (3, 2.0)]).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6));
    }

    #[test]
    fn room_costs_what_the_best_mix_is_worth() {
        // One that uses the first resource twice as much, one the second: both halves are worth 3.
        let prices = room_prices::<2>(&[(2.0, [0.5, 0.25]), (2.0, [0.25, 0.5]), (0.1, [0.9, 0.9])]);
        assert!((prices[0] + prices[1] - 16.0 / 3.0).abs() < 1e-6, "{prices:?}");
    }
}
