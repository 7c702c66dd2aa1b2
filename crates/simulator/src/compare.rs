//! Policies beside each other on one record of traffic: what each costs, and what harm it does.
//!
//! Owns the comparison and its figures. The world that replicas and machines live in is `world`, what decides in it
//! `policy`, what looks ahead `ahead`, how risks are
//! chosen `budget`. Requests a minute come from outside; all is a pure function of them.

mod ahead;
mod budget;
mod machines;
mod policy;
mod world;

pub use budget::Measure;
pub use machines::OnMachines;
pub use policy::PolicyKind;
pub use world::{Outcome, World};

use crate::error::SimulatorError;
use std::ops::Range;

/// Fewest minutes that a comparison makes sense of: a day to learn from and some hours to try.
const LEAST_MINUTES: usize = 1_500;
/// Most minutes: eleven years would be a mistake in the times.
const MOST_MINUTES: usize = 6_000_000;
/// Minutes of one step of forecasts; the tried part begins and ends with one.
const STEP: usize = 10;
/// Steps at the end that are left out, so that those who know the future know all of it.
const LEFT_OUT: usize = 8;

/// What is compared, on what.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub world: World,
    /// Requests that a replica can serve in a minute.
    pub replica_capacity: f64,
    /// Share of it that policies with a target keep to.
    pub target: f64,
    /// Share of the record, at its end, that is tried.
    pub test_share: f64,
    /// Share of minutes in which a forecast may be too low.
    pub risk: f64,
    /// The same for the forecast that machines are ordered by.
    pub machine_risk: f64,
    /// Instead of both risks: what may be spent, as a share of what somebody else pays.
    pub budget: Option<f64>,
    pub budget_of: Measure,
    /// Price of a machine an hour, for the reader.
    pub machine_price: f64,
    pub policies: Vec<PolicyKind>,
}

/// A policy's run.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub policy: PolicyKind,
    pub outcome: Outcome,
    /// Replicas that served in each tried minute, for plots.
    pub serving: Vec<u16>,
}

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct Compared {
    pub from: usize,
    pub to: usize,
    pub rows: Vec<Row>,
}

impl Compared {
    /// Rows that no other row beats in both requests lost and replica-minutes, those who know the future left out.
    pub fn pareto(&self) -> Vec<PolicyKind> {
        let blind: Vec<&Row> = self.rows.iter().filter(|row| !row.policy.knows_the_future()).collect();
        let worse = |row: &&&Row| {
            blind.iter().any(|other| {
                let (one, two) = (&row.outcome, &other.outcome);
                let no_dearer = two.replica_minutes <= one.replica_minutes && two.lost <= one.lost;
                no_dearer && (two.replica_minutes < one.replica_minutes || two.lost < one.lost)
            })
        };
        blind.iter().filter(|row| !worse(row)).map(|row| row.policy).collect()
    }
}

impl Comparison {
    /// Runs every policy over the end of the record, in the order given.
    pub fn run(&self, requests: &[f64]) -> Result<Compared, SimulatorError> {
        let Range { start: from, end: to } = self.tried(requests)?;
        let rows = self
            .policies
            .iter()
            .map(|kind| {
                let mut policy = policy::of(*kind, self, requests, from)?;
                let mut serving = Vec::with_capacity(to - from);
                let outcome = self.world.run(self, requests, from..to, &mut *policy, &mut serving);
                Ok(Row { policy: *kind, outcome, serving })
            })
            .collect::<Result<_, SimulatorError>>()?;
        Ok(Compared { from, to, rows })
    }

    /// The minutes that are tried.
    fn tried(&self, requests: &[f64]) -> Result<Range<usize>, SimulatorError> {
        self.check(requests)?;
        let steps = requests.len() / STEP;
        let from = STEP * (((1.0 - self.test_share) * steps as f64 + 1e-9) as usize);
        let to = STEP * steps.saturating_sub(LEFT_OUT);
        if from < 1 || from + STEP > to {
            return Err(wrong(format!(
                "a test share of {} leaves nothing to try; give 0.3",
                self.test_share
            )));
        }
        Ok(from..to)
    }

    /// Requests that a replica shall serve in a minute.
    fn wanted_load(&self) -> f64 {
        self.target * self.replica_capacity
    }

    fn check(&self, requests: &[f64]) -> Result<(), SimulatorError> {
        if !(LEAST_MINUTES..=MOST_MINUTES).contains(&requests.len()) {
            return Err(wrong(format!(
                "{} minutes of traffic cannot be compared on; give {LEAST_MINUTES} to {MOST_MINUTES}",
                requests.len()
            )));
        }
        if let Some(at) = requests.iter().position(|value| !value.is_finite() || *value < 0.0) {
            return Err(wrong(format!("minute {at} holds {}; give numbers of requests", requests[at])));
        }
        let positive = |name: &str, value: f64, most: f64| {
            if value > 0.0 && value <= most {
                return Ok(());
            }
            Err(wrong(format!("{name} of {value} cannot be used; give more than 0 and at most {most}")))
        };
        positive("a replica capacity", self.replica_capacity, 1e12)?;
        positive("a target", self.target, 1.0)?;
        positive("a risk", self.risk, 0.5)?;
        positive("a machine's risk", self.machine_risk, 0.5)?;
        positive("a test share", self.test_share, 0.9)?;
        positive("a budget", self.budget.unwrap_or(1.0), 10.0)?;
        self.world.check().map_err(wrong)
    }
}

/// The capacity with which the mean needs ten replicas at a target of 0.6, and nought where there is no traffic.
pub fn usual_capacity(requests: &[f64]) -> f64 {
    requests.iter().sum::<f64>() / requests.len().max(1) as f64 / 6.0
}

fn wrong(why: String) -> SimulatorError {
    SimulatorError::Comparison { why }
}

/// The least whole number that is not under a number, give or take what arithmetic adds.
fn whole(value: f64) -> usize {
    (value - 1e-9).ceil().max(0.0) as usize
}
