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

    /// Where so many scenarios should have met more: every fault each phase of a removal, and faults of nodes and
    /// watches the undoing, which is short. Faults of new machines are left out: while a node goes, hardly any is
    /// bought. Those of bad days are too seldom to be asked of each phase. Few scenarios prove nothing.
    pub fn gaps(&self, scenarios: u64) -> Vec<String> {
        let removal = [Phase::Marking, Phase::Draining, Phase::Releasing];
        let of_boot = [FaultKind::NeverJoins, FaultKind::MachineFails];
        let of_undoing = [FaultKind::NotReady, FaultKind::Vanishes, FaultKind::DroppedWatch];
        let of_bad_days = [FaultKind::ApiAway, FaultKind::LedgerRestored, FaultKind::ClockSkew];
        let left_out = |fault: &FaultKind| of_boot.contains(fault) || of_bad_days.contains(fault);
        let faults = FaultKind::ALL.into_iter().filter(|fault| !left_out(fault));
        let often = faults.flat_map(|fault| removal.map(|phase| (fault, phase, scenarios / 400)));
        let seldom = of_undoing.map(|fault| (fault, Phase::Undoing, scenarios / 1000));
        often
            .chain(seldom)
            .filter(|(fault, phase, least)| self.count(*fault, *phase) < *least)
            .map(|(fault, phase, least)| {
                let count = self.count(fault, phase);
                format!("{} met {} {count} times, not {least}", fault.name(), phase.name())
            })
            .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_met_too_seldom_is_named() {
        let mut table = FaultTable::default();
        assert_eq!(table.gaps(200), Vec::<String>::new());
        let hits: Hits = FaultKind::ALL
            .into_iter()
            .flat_map(|fault| Phase::ALL.map(|phase| ((fault, phase), 5)))
            .collect();
        table.add(&hits);
        assert_eq!(table.gaps(2000), Vec::<String>::new());
        table.hits.insert((FaultKind::Vanishes, Phase::Undoing), 1);
        assert_eq!(table.gaps(2000), ["vanishes met undoing 1 times, not 2"]);
    }
}
