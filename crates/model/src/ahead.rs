//! What planning ahead must remember: how long machines take, what was bought ahead, and what came of it.
//!
//! Owns the memory's form. Every list in it has a bound, which `nodes` keeps.

use crate::{MachineId, MicroUsdPerHour, OutlookKey, PoolId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long a pool's machines took from request to schedulable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Leads {
    /// Seconds, the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<u32>,
    /// Machines on their way that will be measured, by when they were asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub awaited: BTreeMap<MachineId, Timestamp>,
}

impl Leads {
    /// The time that so many per cent of the machines kept; `None` before anything was measured.
    pub fn quantile(&self, percent: u32) -> Option<u32> {
        let mut sorted = self.seconds.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let place = (last as u64 * u64::from(percent.min(100))).div_ceil(100);
        sorted.get(usize::try_from(place).unwrap_or(last).min(last)).copied()
    }
}

/// Machines that were bought ahead and whose time has not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoughtAhead {
    /// When the first of their pods is due.
    pub due: Timestamp,
    pub machines: u32,
    pub cost: MicroUsdPerHour,
}

/// A moment that was planned for: what was told, and what there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    pub due: Timestamp,
    pub told: u32,
    pub came: u32,
}

/// A moment that is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub due: Timestamp,
    pub replicas: u32,
}

/// Of one outlook: the next moment that is planned for, and the last ones that came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutlookMemory {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Told>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<Came>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AheadMemory {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub leads: BTreeMap<PoolId, Leads>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bought: BTreeMap<PoolId, Vec<BoughtAhead>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outlooks: BTreeMap<OutlookKey, OutlookMemory>,
}

impl AheadMemory {
    pub fn is_empty(&self) -> bool {
        self.leads.is_empty() && self.bought.is_empty() && self.outlooks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_time_that_was_measured() {
        let mut leads = Leads::default();
        assert_eq!(leads.quantile(90), None);
        leads.seconds = vec![180, 60, 120, 240, 300];
        assert_eq!(
            (leads.quantile(0), leads.quantile(50), leads.quantile(90)),
            (Some(60), Some(180), Some(300))
        );
    }
}
