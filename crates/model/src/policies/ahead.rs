//! Settings of planning ahead: whether known future replicas are bought for, how early, and how much.

use crate::MicroUsdPerHour;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Machines for replicas that are known to come. Off until asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Ahead {
    pub enabled: bool,
    /// Portraits of `IntelligentHorizontalPodAutoscalers`,
    pub portraits: bool,
    /// the trend of `HorizontalPodAutoscalers`, up to their maximum,
    pub trends: bool,
    /// and the next runs of `CronJobs`.
    pub schedules: bool,
    /// What is less sure than this is not bought for.
    pub least_confidence_percent: u32,
    /// The share of a pool's machines that took no longer than what is reckoned with.
    pub lead_percent: u32,
    /// What is reckoned with until a pool's machines have been measured.
    pub unknown_lead: SignedDuration,
    /// So much earlier than that.
    pub margin: SignedDuration,
    /// So long after its time what has not come is still waited for.
    pub patience: SignedDuration,
    /// A node that is needed again within this time may be kept,
    pub keep_for: SignedDuration,
    /// where that costs no more than a new machine's start and this much of its time.
    pub removal_cost: SignedDuration,
    /// Machines that wait for what is to come, of a pool's maximum; of its size where it has none.
    pub most_share_percent: u32,
    /// What such machines may cost in an hour, all together; 0 = no limit.
    pub most_per_hour: MicroUsdPerHour,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            enabled: false,
            portraits: true,
            trends: false,
            schedules: true,
            least_confidence_percent: 50,
            lead_percent: 90,
            unknown_lead: SignedDuration::from_mins(5),
            margin: SignedDuration::from_secs(30),
            patience: SignedDuration::from_mins(3),
            keep_for: SignedDuration::from_mins(20),
            removal_cost: SignedDuration::from_mins(10),
            most_share_percent: 50,
            most_per_hour: MicroUsdPerHour(0),
        }
    }
}
