//! Small trees that learn what the linear answer leaves over, for absolute errors.
//!
//! Owns growing and reading them. Counts and signs are summed as whole numbers, so the order of rows cannot change a
//! tree; there is no randomness: even and odd rows take turns.

use crate::features::{Row, WIDTH};
use crate::ridge::median;

const TREES: usize = 20;
const DEPTH: u32 = 4;
const RATE: f32 = 0.15;
/// Fewest rows on either side of a split.
const LEAST_ROWS: usize = 10;
/// Bins of a feature's range.
const BINS: usize = 32;
/// Rows that a feature's range is taken from.
const SAMPLE: usize = 256;

/// Inner nodes compare a feature; leaves, whose `left` is zero, hold a correction.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// The largest value that goes left, or the correction.
    number: f32,
    feature: u8,
    left: u8,
    right: u8,
}

/// A sum of corrections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trees {
    nodes: Vec<Node>,
    roots: Vec<u16>,
}

impl Trees {
    pub(crate) fn correction(&self, row: &Row) -> f32 {
        self.roots.iter().map(|root| leaf(&self.nodes[usize::from(*root)..], row)).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.roots.capacity() * 2
    }
}

fn leaf(tree: &[Node], row: &Row) -> f32 {
    let mut node = tree[0];
    while node.left > 0 {
        let next = if row[usize::from(node.feature)] <= node.number { node.left } else { node.right };
        node = tree[usize::from(next)];
    }
    node.number
}

/// Equal slices of each feature's range; what lies outside falls into the outer ones.
struct Slices {
    low: Row,
    per_unit: Row,
}

impl Slices {
    fn of(features: &[Row]) -> Self {
        let every = (features.len() / SAMPLE).max(1);
        let mut low = [0.0; WIDTH];
        let mut per_unit = [0.0; WIDTH];
        for column in 0..WIDTH {
            let mut seen: Vec<f32> = features.iter().step_by(every).map(|row| row[column]).collect();
            seen.sort_by(f32::total_cmp);
            let at = |share: f32| seen[((seen.len() - 1) as f32 * share) as usize];
            let (from, to) = (at(0.02), at(0.98));
            low[column] = from;
            per_unit[column] = if to > from { BINS as f32 / (to - from) } else { 0.0 };
        }
        Self { low, per_unit }
    }

    fn codes(&self, row: &Row) -> [u8; WIDTH] {
        std::array::from_fn(|column| {
            ((row[column] - self.low[column]) * self.per_unit[column]).clamp(0.0, BINS as f32 - 1.0) as u8
        })
    }

    /// The largest value of a slice.
    fn limit(&self, column: usize, code: usize) -> f32 {
        self.low[column] + (code + 1) as f32 / self.per_unit[column]
    }
}

/// Rows by feature and slice: how many in the upper half of a number, the sum of signs plus that count in the lower.
type Histogram = Vec<u64>;

struct Grower<'a> {
    codes: &'a [[u8; WIDTH]],
    errors: &'a [f32],
    slices: &'a Slices,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    code: usize,
}

impl Grower<'_> {
    fn histogram(&self, rows: &[u32]) -> Histogram {
        let mut histogram = vec![0u64; WIDTH * BINS];
        for row in rows {
            let at = *row as usize;
            let error = self.errors[at];
            let sign = if error > 0.0 { 2 } else { u64::from(error == 0.0) };
            let add = (1 << 32) | sign;
            for (column, code) in self.codes[at].iter().enumerate().skip(1) {
                histogram[column * BINS + usize::from(*code)] += add;
            }
        }
        histogram
    }

    fn best(histogram: &Histogram, rows: usize) -> Option<Split> {
        let parts = |packed: u64| {
            let count = (packed >> 32) as f64;
            (count, (packed & 0xffff_ffff) as f64 - count)
        };
        let (count, sum) = parts(histogram[BINS..2 * BINS].iter().sum());
        let least = LEAST_ROWS.min(rows / 2) as f64;
        let mut best: Option<Split> = None;
        for feature in 1..WIDTH {
            let mut left = 0u64;
            for code in 0..BINS - 1 {
                left += histogram[feature * BINS + code];
                let (left_count, left_sum) = parts(left);
                if left_count < least || count - left_count < least {
                    continue;
                }
                let right_sum = sum - left_sum;
                let gain = left_sum * left_sum / left_count + right_sum * right_sum / (count - left_count)
                    - sum * sum / count;
                if gain > best.map_or(1e-9, |split| split.gain) {
                    best = Some(Split { gain, feature, code });
                }
            }
        }
        best
    }

    fn grow(&mut self, rows: &mut [u32], histogram: &Histogram, depth: u32) -> u8 {
        let at = self.nodes.len();
        self.nodes.push(Node::default());
        let split =
            if depth == 0 || rows.len() < 2 * LEAST_ROWS { None } else { Self::best(histogram, rows.len()) };
        let Some(split) = split else {
            let errors = rows.iter().map(|row| self.errors[*row as usize]).collect();
            self.nodes[at].number = RATE * median(errors);
            return at as u8;
        };
        let middle = self.partition(rows, split);
        let (left, right) = rows.split_at_mut(middle);
        let (first, second) = if depth == 1 {
            // Leaves need no histogram.
            (Vec::new(), Vec::new())
        } else {
            let smaller = self.histogram(if left.len() <= right.len() { left } else { right });
            let larger = histogram.iter().zip(&smaller).map(|(all, part)| all - part).collect();
            if left.len() <= right.len() { (smaller, larger) } else { (larger, smaller) }
        };
        let left = self.grow(left, &first, depth - 1);
        let right = self.grow(right, &second, depth - 1);
        let limit = self.slices.limit(split.feature, split.code);
        self.nodes[at] = Node { number: limit, feature: split.feature as u8, left, right };
        at as u8
    }

    fn partition(&self, rows: &mut [u32], split: Split) -> usize {
        let mut middle = 0;
        for at in 0..rows.len() {
            if usize::from(self.codes[rows[at] as usize][split.feature]) <= split.code {
                rows.swap(at, middle);
                middle += 1;
            }
        }
        middle
    }
}

/// Learns corrections of `errors`, what a first answer left over for each row.
pub(crate) fn learn(features: &[Row], mut errors: Vec<f32>) -> Trees {
    let mut trees = Trees::default();
    if features.len() < 8 * LEAST_ROWS {
        return trees;
    }
    let slices = Slices::of(features);
    let codes: Vec<[u8; WIDTH]> = features.iter().map(|row| slices.codes(row)).collect();
    for turn in 0..TREES {
        let mut rows: Vec<u32> =
            (0..features.len() as u32).filter(|row| *row as usize % 2 == turn % 2).collect();
        let mut grower = Grower { codes: &codes, errors: &errors, slices: &slices, nodes: Vec::new() };
        let histogram = grower.histogram(&rows);
        grower.grow(&mut rows, &histogram, DEPTH);
        let nodes = grower.nodes;
        for (error, row) in errors.iter_mut().zip(features) {
            *error -= leaf(&nodes, row);
        }
        trees.roots.push(trees.nodes.len() as u16);
        trees.nodes.extend(nodes);
    }
    trees.nodes.shrink_to_fit();
    trees
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_no_line_can_follow_is_learned() {
        let features: Vec<Row> = (0..1000)
            .map(|at| {
                let mut row = [0.0; WIDTH];
                row[1] = (at % 50) as f32 / 50.0;
                row
            })
            .collect();
        let errors: Vec<f32> = features.iter().map(|row| if row[1] > 0.7 { 1.0 } else { -1.0 }).collect();
        let trees = learn(&features, errors);
        let mut row = [0.0; WIDTH];
        row[1] = 0.9;
        assert!(trees.correction(&row) > 0.8);
        row[1] = 0.1;
        assert!(trees.correction(&row) < -0.8);
    }
}
