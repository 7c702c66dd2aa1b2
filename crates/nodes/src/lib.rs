//! How many nodes of what: demand, scale-up, scale-down, health, back-off; the pure decide function.

use jiff::Timestamp;
use model::{Cluster, Decision, Ledger, Plan, Policies, Verdicts};

/// Decides one round. Pure: equal input gives equal output, byte for byte.
pub fn decide(_cluster: &Cluster, _policies: &Policies, ledger: &Ledger, _now: Timestamp) -> Decision {
    Decision { plan: Plan::default(), ledger: ledger.clone(), verdicts: Verdicts::default(), wake_at: None }
}
