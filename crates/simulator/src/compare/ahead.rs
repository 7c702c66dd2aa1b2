//! Policies that forecast: replicas for the highest value of the minutes in which they cannot be changed any more.
//!
//! Owns what is made of forecast peaks; forecasting is the crate `forecast`'s business.

use super::budget::Balance;
use super::policy::{Policy, Seen, Wish};
use super::{Comparison, whole};
use crate::error::SimulatorError;
use forecast::Peaks;

struct Ahead<'a> {
    about: &'a Comparison,
    peaks: Peaks,
    /// Minutes that the forecaster knows.
    known: usize,
    joined: bool,
    /// Where risks are chosen.
    balance: Option<Balance<'a>>,
}

/// Follows forecast peaks; `joined` orders machines ahead as well.
pub(super) fn of<'a>(
    about: &'a Comparison,
    requests: &[f64],
    from: usize,
    joined: bool,
) -> Result<Box<dyn Policy + 'a>, SimulatorError> {
    let start_up = about.world.start_up_minutes;
    // This minute, the first in which what is ordered now serves, and the same where a machine must come first.
    let steps = [1, 1 + start_up, 1 + start_up + about.world.machine_start_up_minutes];
    let peaks = Peaks::new(about.replica_capacity, &steps)
        .map_err(|error| SimulatorError::Comparison { why: error.to_string() })?;
    let mut ahead = Ahead {
        about,
        peaks,
        known: 0,
        joined,
        balance: about.budget.map(|share| Balance::new(about, share)),
    };
    ahead.learn(&requests[..from]);
    Ok(Box::new(ahead))
}

impl Ahead<'_> {
    /// Takes the minutes up to now.
    fn learn(&mut self, past: &[f64]) {
        for value in past.get(self.known..).unwrap_or_default() {
            self.peaks.push(*value);
            if let Some(balance) = &mut self.balance {
                balance.note(self.about, &self.peaks, *value);
            }
        }
        self.known = self.known.max(past.len());
    }
}

impl Policy for Ahead<'_> {
    fn wish(&mut self, seen: &Seen<'_>) -> Wish {
        self.learn(&seen.requests[..seen.minute]);
        if !self.peaks.is_ready() {
            return Wish::replicas(whole(seen.last() / self.about.wanted_load()));
        }
        let enough =
            |share: f64, at: usize| whole(self.peaks.exceeded_in(share, at) / self.about.replica_capacity);
        let fixed = (self.about.risk, self.about.machine_risk);
        let (risk, machine_risk) = self.balance.as_ref().map_or(fixed, Balance::risks);
        let replicas = enough(risk, 0).max(enough(risk, 1));
        let ahead = enough(machine_risk, 2);
        Wish { replicas, ahead: if self.joined { ahead } else { 0 } }
    }
}
