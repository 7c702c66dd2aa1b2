//! The largest errors of the last weeks, which say how far a value may rise above what is expected.
//!
//! Owns extreme quantiles, where a ring of errors holds too few: of all errors of four weeks of minutes only the
//! largest are kept, with when they were seen. Between two of them quantiles are read off, beyond the largest the tail
//! is taken to fall off as its upper part does.

use std::collections::VecDeque;

/// Errors that are kept.
const KEPT: usize = 200;
/// Errors that are looked back on: four weeks of minutes.
const REMEMBERED: u32 = 40_320;
/// Errors above which a quantile is more than a guess.
const LEAST: usize = 20;
/// What is answered until then, in units of the usual error.
const GUESS: f64 = 4.0;

/// The upper tail of errors in units of the usual error.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// Largest first, each with its number in the order that they came.
    largest: Vec<(f32, u32)>,
    seen: u32,
}

impl Tail {
    pub(crate) fn new() -> Self {
        Self { largest: Vec::with_capacity(KEPT + 1), seen: 0 }
    }

    pub(crate) fn add(&mut self, error: f64) {
        let error = error as f32;
        self.seen = self.seen.saturating_add(1);
        if self.seen.is_multiple_of(64) {
            let seen = self.seen;
            self.largest.retain(|(_, number)| number + REMEMBERED > seen);
        }
        if self.largest.len() < KEPT || self.largest.last().is_some_and(|(least, _)| error > *least) {
            let at = self.largest.partition_point(|(kept, _)| *kept > error);
            self.largest.insert(at, (error, self.seen));
            self.largest.truncate(KEPT);
        }
    }

    /// The error that is exceeded in a share of all cases.
    pub(crate) fn exceeded_in(&self, share: f64) -> f64 {
        let count = self.largest.len();
        if count < LEAST {
            return GUESS;
        }
        let place = share * (f64::from(self.seen.min(REMEMBERED)) + 1.0);
        let error = |place: usize| f64::from(self.largest[(place - 1).min(count - 1)].0);
        if place >= count as f64 {
            return error(count);
        }
        if place < 1.0 {
            let quarter = count / 4;
            let slope = (error(1) - error(quarter)) / (quarter as f64).ln();
            return error(1) - slope * place.max(1e-9).ln();
        }
        let below = place.floor();
        let part = (place.ln() - below.ln()) / ((below + 1.0).ln() - below.ln());
        error(below as usize) * (1.0 - part) + error(below as usize + 1) * part
    }

    pub(crate) fn count(&self) -> usize {
        self.seen as usize
    }

    pub(crate) fn bytes(&self) -> usize {
        self.largest.capacity() * size_of::<(f32, u32)>()
    }
}

/// What was forecast for points that have not come yet, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Waiting<T> {
    step: usize,
    made: VecDeque<T>,
}

impl<T> Waiting<T> {
    pub(crate) fn new(step: usize) -> Self {
        Self { step, made: VecDeque::with_capacity(step + 1) }
    }

    /// What was forecast for the point that comes now.
    pub(crate) fn due(&mut self) -> Option<T> {
        if self.made.len() < self.step { None } else { self.made.pop_front() }
    }

    pub(crate) fn expect(&mut self, made: T) {
        self.made.push_back(made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_seen_and_reach_beyond() {
        let mut tail = Tail::new();
        assert!((tail.exceeded_in(0.01) - GUESS).abs() < 1e-9);
        for at in 0..10_000u32 {
            // 0.0 to 1.0 in an order that has nothing to do with size.
            tail.add(f64::from(at.wrapping_mul(7_919) % 10_000) / 10_000.0);
        }
        assert!((tail.exceeded_in(0.01) - 0.99).abs() < 0.001);
        assert!(tail.exceeded_in(0.000_01) > tail.exceeded_in(0.000_2));
        assert_eq!(tail.largest.len(), KEPT);
    }

    #[test]
    fn what_is_older_than_four_weeks_is_forgotten() {
        let mut tail = Tail::new();
        tail.add(100.0);
        for at in 0..REMEMBERED + 128 {
            tail.add(f64::from(at % 10));
        }
        assert!(tail.exceeded_in(0.000_01) < 50.0);
    }
}
