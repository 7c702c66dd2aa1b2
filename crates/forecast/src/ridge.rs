//! Linear regression with a small penalty: one answer for squared errors, one for absolute errors.
//!
//! Owns the arithmetic, in a fixed order, so equal rows give equal weights on every machine.

use crate::features::{Row, WIDTH};

/// Penalty on each weight but the constant, as a share of the rows' weight.
const PENALTY: f64 = 0.0005;
/// Rounds of re-weighting that turn squared errors into absolute ones.
const ROUNDS: usize = 2;
/// Rows whose products are summed in single precision before they go into the double-precision sums.
const BLOCK: usize = 128;

/// What one step is learned from: features, the value that came, and how much a row counts.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) features: Vec<Row>,
    pub(crate) targets: Vec<f32>,
    pub(crate) weights: Vec<f32>,
}

/// Weights that make squared errors small, and weights that make absolute errors small.
pub(crate) struct Fitted {
    pub(crate) squared: Row,
    pub(crate) absolute: Row,
}

pub(crate) fn dot(row: &Row, weights: &Row) -> f32 {
    let mut lanes = [0.0f32; 4];
    for (chunk, other) in row.as_chunks::<4>().0.iter().zip(weights.as_chunks::<4>().0) {
        for lane in 0..4 {
            lanes[lane] += chunk[lane] * other[lane];
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

pub(crate) fn fit(rows: &Rows) -> Fitted {
    let squared = solve(rows, &rows.weights);
    let mut absolute = squared;
    for _ in 0..ROUNDS {
        let sizes: Vec<f32> = rows
            .features
            .iter()
            .zip(&rows.targets)
            .map(|(row, target)| (target - dot(row, &absolute)).abs())
            .collect();
        // Below this size errors count as equal: without it a row that is met exactly would weigh all others down.
        let floor = (0.3 * median(sizes.clone())).max(1e-6);
        let weights: Vec<f32> =
            rows.weights.iter().zip(&sizes).map(|(weight, size)| weight / size.max(floor)).collect();
        absolute = solve(rows, &weights);
    }
    Fitted { squared, absolute }
}

/// The middle of the values; zero of none.
pub(crate) fn median(mut values: Vec<f32>) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

fn solve(rows: &Rows, weights: &[f32]) -> Row {
    let mut gram = vec![[0.0f64; WIDTH]; WIDTH];
    let mut right = [0.0f64; WIDTH];
    let blocks = rows.features.chunks(BLOCK).zip(rows.targets.chunks(BLOCK)).zip(weights.chunks(BLOCK));
    for ((features, targets), weights) in blocks {
        let mut part = [[0.0f32; WIDTH]; WIDTH];
        let mut side = [0.0f32; WIDTH];
        for ((row, target), weight) in features.iter().zip(targets).zip(weights) {
            for column in 0..WIDTH {
                let value = weight * row[column];
                side[column] += value * target;
                // The other half mirrors this one; from a multiple of four, so that whole vectors are summed.
                let from = column / 4 * 4;
                for (sum, other) in part[column][from..].iter_mut().zip(&row[from..]) {
                    *sum += value * other;
                }
            }
        }
        for column in 0..WIDTH {
            right[column] += f64::from(side[column]);
            for other in column..WIDTH {
                gram[other][column] += f64::from(part[column][other]);
            }
        }
    }
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    for (column, line) in gram.iter_mut().enumerate() {
        line[column] += if column == 0 { 1e-9 } else { PENALTY * total + 1e-9 };
    }
    cholesky(&mut gram, &mut right);
    right.map(|weight| weight as f32)
}

/// Solves in place; the matrix is symmetric and, thanks to the penalty, positive.
fn cholesky(gram: &mut [[f64; WIDTH]], right: &mut [f64; WIDTH]) {
    for column in 0..WIDTH {
        for earlier in 0..column {
            let factor = gram[column][earlier];
            for line in gram.iter_mut().skip(column) {
                line[column] -= line[earlier] * factor;
            }
        }
        let root = gram[column][column].max(1e-12).sqrt();
        for line in gram.iter_mut().skip(column) {
            line[column] /= root;
        }
    }
    for line in 0..WIDTH {
        let known: f64 = (0..line).map(|column| gram[line][column] * right[column]).sum();
        right[line] = (right[line] - known) / gram[line][line];
    }
    for line in (0..WIDTH).rev() {
        let known: f64 = (line + 1..WIDTH).map(|column| gram[column][line] * right[column]).sum();
        right[line] = (right[line] - known) / gram[line][line];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_with_outliers() -> Rows {
        let mut rows = Rows::default();
        for at in 0..400 {
            let mut row = [0.0; WIDTH];
            row[0] = 1.0;
            row[1] = (at % 20) as f32 / 20.0;
            rows.features.push(row);
            rows.targets.push(0.5 + 2.0 * row[1] + if at % 10 == 0 { 20.0 } else { 0.0 });
            rows.weights.push(1.0);
        }
        rows
    }

    #[test]
    fn absolute_errors_ignore_outliers_that_squared_ones_follow() {
        let fitted = fit(&line_with_outliers());
        let mut row = [0.0; WIDTH];
        row[0] = 1.0;
        row[1] = 0.4;
        assert!((dot(&row, &fitted.absolute) - 1.3).abs() < 0.3, "{}", dot(&row, &fitted.absolute));
        assert!(dot(&row, &fitted.squared) > 2.0);
    }
}
