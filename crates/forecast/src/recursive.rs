//! Linear regression that learns from one row at a time.
//!
//! Owns recursive least squares with forgetting: a row costs a few hundred multiplications and no history is kept.

/// Numbers in a row.
pub(crate) const WIDTH: usize = 14;
pub(crate) type Row = [f64; WIDTH];

/// What an old row counts less for with each that is newer: half after ten days of minutes.
const FORGET: f64 = 1.0 - 1.0 / 20_000.0;
/// Trace of the uncertainty beyond which it is scaled down: a feature that never varies would let it grow for ever.
const MOST_TRACE: f64 = 1e6;

#[derive(Clone, Debug)]
pub(crate) struct Recursive {
    weights: Row,
    uncertainty: [Row; WIDTH],
}

impl Recursive {
    pub(crate) fn new() -> Self {
        let mut uncertainty = [[0.0; WIDTH]; WIDTH];
        for (at, line) in uncertainty.iter_mut().enumerate() {
            line[at] = 1.0;
        }
        Self { weights: [0.0; WIDTH], uncertainty }
    }

    pub(crate) fn answer(&self, row: &Row) -> f64 {
        dot(&self.weights, row)
    }

    /// Moves the weights so that the answer to a row errs less.
    pub(crate) fn learn(&mut self, row: &Row, error: f64) {
        let pull: Row = std::array::from_fn(|at| dot(&self.uncertainty[at], row));
        let whole = FORGET + dot(&pull, row);
        for (weight, pull) in self.weights.iter_mut().zip(pull) {
            *weight += pull / whole * error;
        }
        for (line, one) in self.uncertainty.iter_mut().zip(pull) {
            for (value, other) in line.iter_mut().zip(pull) {
                *value = (*value - one * other / whole) / FORGET;
            }
        }
        let trace: f64 = (0..WIDTH).map(|at| self.uncertainty[at][at]).sum();
        if trace > MOST_TRACE {
            for value in self.uncertainty.iter_mut().flatten() {
                *value *= MOST_TRACE / trace;
            }
        }
    }
}

fn dot(one: &Row, other: &Row) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_learned_row_by_row() {
        let mut learner = Recursive::new();
        let row = |at: u32| {
            let mut row = [0.0; WIDTH];
            row[0] = 1.0;
            row[1] = f64::from(at * 37 % 100) / 100.0;
            row
        };
        for at in 0..5_000 {
            let row = row(at);
            let error = 3.0 - 2.0 * row[1] - learner.answer(&row);
            learner.learn(&row, error);
        }
        assert!((learner.answer(&row(7)) - (3.0 - 2.0 * row(7)[1])).abs() < 1e-3);
    }
}
