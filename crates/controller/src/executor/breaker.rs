//! Rates and circuit breakers, so that an ill provider is left alone and does not delay the others.

use crate::config::Calls;
use jiff::{SignedDuration, Timestamp};
use model::{PoolId, ProviderKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pools whose failures are remembered.
const MOST_POOLS: usize = 10_000;
/// At a rate of one in a second, the steps that may be under way wait no longer.
const LONGEST_QUEUE: SignedDuration = SignedDuration::from_mins(10);

pub(super) struct Breakers {
    gap: SignedDuration,
    threshold: u32,
    rest: SignedDuration,
    next_turn: BTreeMap<ProviderKind, Timestamp>,
    ill: BTreeMap<PoolId, Illness>,
}

struct Illness {
    failures: u32,
    until: Option<Timestamp>,
}

impl Breakers {
    pub(super) fn new(calls: &Calls) -> Self {
        let per_second = i64::from(calls.provider_orders_per_second);
        let gap = if per_second == 0 { 0 } else { 1_000_000_000 / per_second };
        Self {
            gap: SignedDuration::from_nanos(gap),
            threshold: calls.breaker_failures,
            rest: SignedDuration::from_secs(i64::from(calls.breaker_seconds)),
            next_turn: BTreeMap::new(),
            ill: BTreeMap::new(),
        }
    }

    /// When an order to this pool may be sent, or until when the pool is left alone.
    pub(super) fn admit(
        &mut self,
        provider: ProviderKind,
        pool: &PoolId,
        now: Timestamp,
    ) -> Result<Timestamp, (Timestamp, Arc<str>)> {
        if let Some(Illness { failures, until: Some(until) }) = self.ill.get(pool)
            && *until > now
            // Further away than a rest lasts: the clock went back.
            && until.duration_since(now) <= self.rest
        {
            let why = format!("{failures} orders in a row got no answer: left alone until {until}");
            return Err((*until, Arc::from(why)));
        }
        let turn = self.next_turn.get(&provider).copied().unwrap_or(now).max(now);
        // Orders do not queue for so long: the clock went back.
        let turn = if turn.duration_since(now) > LONGEST_QUEUE { now } else { turn };
        self.next_turn.insert(provider, turn.saturating_add(self.gap).unwrap_or(turn));
        Ok(turn)
    }

    pub(super) fn note(&mut self, pool: &PoolId, ill: bool, now: Timestamp) {
        if !ill {
            self.ill.remove(pool);
            return;
        }
        if self.ill.len() >= MOST_POOLS && !self.ill.contains_key(pool) {
            self.ill.pop_first();
        }
        let illness = self.ill.entry(pool.clone()).or_insert(Illness { failures: 0, until: None });
        illness.failures = illness.failures.saturating_add(1);
        if illness.failures >= self.threshold {
            illness.until = now.saturating_add(self.rest).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ill_pool_rests_and_others_go_on_at_the_rate() {
        let calls = Calls { breaker_failures: 2, provider_orders_per_second: 10, ..Default::default() };
        let mut breakers = Breakers::new(&calls);
        let now = Timestamp::UNIX_EPOCH;
        let (ill, well) = (PoolId::from("simulated/ill"), PoolId::from("simulated/well"));
        breakers.note(&ill, true, now);
        assert!(breakers.admit(ProviderKind::Simulated, &ill, now).is_ok());
        breakers.note(&ill, true, now);
        let (until, _) = breakers.admit(ProviderKind::Simulated, &ill, now).unwrap_err();
        assert_eq!(until, now + SignedDuration::from_secs(60));
        let turn = breakers.admit(ProviderKind::Simulated, &well, now).unwrap();
        assert_eq!(turn, now + SignedDuration::from_millis(100));
        assert!(breakers.admit(ProviderKind::Simulated, &ill, until).is_ok());
        let earlier = now - SignedDuration::from_hours(1);
        assert_eq!(
            breakers.admit(ProviderKind::Simulated, &ill, earlier),
            Ok(earlier),
            "the clock went back"
        );
        breakers.note(&ill, false, until);
        assert!(breakers.ill.is_empty());
    }
}
