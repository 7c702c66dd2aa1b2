//! Many random scenarios at once, and the table of which fault met which phase.
//!
//! Owns the worker threads; results come back in the order of the seeds, whatever thread ran them.

use super::{RandomOptions, RandomOutcome, run_random};
use crate::SimulatorError;
use crate::engine::{Hits, Phase};
use crate::scenario::FaultKind;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How often each fault met the controller in each phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultTable {
    hits: Hits,
}

impl FaultTable {
    pub fn add(&mut self, hits: &Hits) {
        for (key, count) in hits {
            *self.hits.entry(*key).or_insert(0) += count;
        }
    }

    pub fn count(&self, fault: FaultKind, phase: Phase) -> u64 {
        self.hits.get(&(fault, phase)).copied().unwrap_or(0)
    }
}

impl fmt::Display for FaultTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<18}", "fault met while")?;
        for phase in Phase::ALL {
            write!(f, "{:>13}", phase.name())?;
        }
        for fault in FaultKind::ALL {
            write!(f, "\n{:<18}", fault.name())?;
            for phase in Phase::ALL {
                write!(f, "{:>13}", self.count(fault, phase))?;
            }
        }
        writeln!(f)
    }
}

/// Runs the scenarios of these seeds on `threads` threads, each with a runtime of its own.
pub fn run_many(
    seeds: Range<u64>,
    threads: usize,
    each: impl Fn(u64) -> RandomOptions<'static> + Sync,
) -> Vec<Result<RandomOutcome, SimulatorError>> {
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let result = run_random(seed, each(seed));
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((seed, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(seed, _)| *seed);
    results.into_iter().map(|(_, result)| result).collect()
}
