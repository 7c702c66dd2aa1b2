//! Randomised simulation: a seed makes a cluster, its users, and what goes wrong; then a quiet phase must converge. Beside
//! one in sixty-four runs a course of direct pools, in a cluster of its own.
//!
//! Owns running such scenarios and what is expected at their end. What a seed makes is `generate`'s, what must hold
//! all the time the checker's.

mod converge;
mod direct;
mod generate;
mod table;

use generate::QUIET_SECONDS;
pub use generate::{RandomScenario, generate, generate_days};
pub use table::{FaultTable, run_many};

use crate::SimulatorError;
use crate::engine::{Alter, Checks, Hits, Progress, Setup, run};
use crate::report::Report;
use crate::simulate::report;
use jiff::SignedDuration;
use sandbox::api::Census;
use std::path::PathBuf;

/// Of so many seeds one has a course of direct pools, too.
const ONE_IN: u64 = 64;

/// How a random scenario ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomOutcome {
    pub seed: u64,
    pub report: Report,
    pub hits: Hits,
    pub rounds: u64,
    /// The kinds of calls that were made of the API.
    pub census: Census,
    pub days: u32,
}

impl RandomOutcome {
    /// The command that runs this scenario again.
    pub fn repeat_command(&self) -> String {
        match self.days {
            0 | 1 => format!("tideline simulate --random {}", self.seed),
            days => format!("tideline simulate --random {} --days {days}", self.seed),
        }
    }

    pub fn failed(&self) -> bool {
        self.report.invariant_violations > 0
    }
}

/// How to run a random scenario.
#[derive(Default)]
pub struct RandomOptions<'a> {
    /// Days on end of one cluster's life; 0 is 1.
    pub days: u32,
    pub write_log: Option<PathBuf>,
    /// Plants a bug in each controller that is started.
    pub alter: Option<Alter>,
    pub on_progress: Option<Box<dyn FnMut(Progress) + 'a>>,
}

/// Runs the scenario of a seed. Equal seeds give equal outcomes.
pub fn run_random(seed: u64, options: RandomOptions<'_>) -> Result<RandomOutcome, SimulatorError> {
    let days = options.days.max(1);
    let RandomScenario { scenario, writes, seconds, .. } = generate_days(seed, days);
    let settled = SignedDuration::from_secs((seconds - QUIET_SECONDS) as i64);
    let settled = scenario.start.saturating_add(settled).unwrap_or(scenario.start);
    let mut on_progress = options.on_progress.unwrap_or_else(|| Box::new(|_| {}));
    let setup = Setup {
        scenario: &scenario,
        pools: &scenario.pools,
        writes,
        trace: None,
        seconds,
        write_log: options.write_log,
        alter: options.alter,
        checks: Checks::new(&scenario.policies, Some(settled)),
        events: false,
    };
    let result = run(setup, &mut on_progress)?;
    if let Some(problem) = result.refused.first() {
        return Err(SimulatorError::Setup {
            attempted: format!("a user's write of random scenario {seed}"),
            problem: problem.clone(),
        });
    }
    converge::check(&result);
    let with_direct_pools = seed.is_multiple_of(ONE_IN);
    let of_direct_pools = if with_direct_pools { direct::run_direct(seed)? } else { Vec::new() };
    result.seen.with(|seen| {
        for what in &of_direct_pools {
            seen.checks.broken(result.end, &format!("direct pools: {what}"));
        }
    });
    let rounds = result.seen.with(|seen| seen.rounds);
    Ok(RandomOutcome {
        seed,
        report: report(&scenario, &result, 0),
        hits: result.hits,
        rounds,
        census: result.census,
        days,
    })
}
