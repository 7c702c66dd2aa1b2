//! How much may be bought ahead: a share of each pool, and money an hour.
//!
//! Owns the reckoning. Machines count from their order until their time has passed, used or not.

use crate::fleet::{Fleet, PoolAccount};
use crate::round::Round;
use model::{MicroUsdPerHour, PoolId, PoolRejection};
use std::collections::BTreeMap;

/// A pool without a maximum counts as this large at least when its share is reckoned.
const LEAST_SIZE: u32 = 10;

pub(super) struct Bounds {
    /// Machines that may still be bought ahead, and of how many in all, by pool.
    left: BTreeMap<PoolId, (u32, u32)>,
    /// Micro-dollars an hour that are left; `None` = no limit.
    money: Option<u64>,
}

impl Bounds {
    pub(super) fn of(round: &Round<'_>, fleet: &Fleet) -> Self {
        let (ahead, memory) = (&round.policies.ahead, &round.ledger.ahead);
        let left = fleet.pools.iter().map(|(id, account)| {
            let most = share_of(account, ahead.most_share_percent);
            let bought: u32 = memory.bought.get(id).into_iter().flatten().map(|one| one.machines).sum();
            (id.clone(), (most.saturating_sub(bought), most))
        });
        let spent: u64 = memory.bought.values().flatten().map(|one| one.cost.0).sum();
        let most = ahead.most_per_hour.0;
        Self { left: left.collect(), money: (most > 0).then(|| most.saturating_sub(spent)) }
    }

    /// Leaves out pools of which no more may be bought, and lets the others sell no more than that.
    pub(super) fn narrow(&self, open: &mut BTreeMap<PoolId, Option<u32>>) {
        open.retain(|id, most| {
            let left = self.left.get(id).map_or(0, |(left, _)| *left);
            *most = Some(most.unwrap_or(u32::MAX).min(left));
            left > 0
        });
    }

    /// Takes the price of a machine off what is left, where it is.
    pub(super) fn pays(&mut self, price: MicroUsdPerHour) -> bool {
        let Some(left) = &mut self.money else { return true };
        let pays = *left >= price.0;
        if pays {
            *left -= price.0;
        }
        pays
    }

    /// Where the share is what kept a pool from selling more, that is the reason.
    pub(super) fn say(&self, rejections: &mut BTreeMap<PoolId, PoolRejection>) {
        for (id, rejection) in rejections {
            let PoolRejection::RoundLimit { max_per_round } = rejection else { continue };
            if let Some((_, most)) = self.left.get(id).filter(|(left, _)| left < max_per_round) {
                *rejection = PoolRejection::AheadShare { most: *most };
            }
        }
    }
}

fn share_of(account: &PoolAccount, percent: u32) -> u32 {
    let max = account.pool.max;
    let size = if max == u32::MAX { account.target.max(LEAST_SIZE) } else { max };
    let share = u64::from(size) * u64::from(percent) / 100;
    u32::try_from(share).unwrap_or(u32::MAX).max(u32::from(percent > 0))
}
