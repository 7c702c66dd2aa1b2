//! Purchases ahead of time: for replicas that are told of, not before it is time, within their bounds.

use crate::Rule;
use crate::plan::Case;
use cron::{Dialect, Schedule};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::{AheadDemand, Buy, MicroUsdPerHour, Outlook, OutlookKey, OutlookSource, PoolId, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Nothing is bought earlier than this, however long machines take.
const LONGEST_LEAD: SignedDuration = SignedDuration::from_hours(2);
/// Fewer measured machines say nothing.
const LEAST_MEASURED: usize = 3;
/// What a pool without a maximum counts as, at least, when its share is reckoned.
const LEAST_SIZE: u32 = 10;

/// Whether what is known ahead is all that a purchase is for.
pub(crate) fn is_ahead(buy: &Buy) -> bool {
    let serves = &buy.serves;
    !serves.ahead.is_empty() && serves.pods.is_empty() && serves.missing.is_empty() && serves.rules.is_empty()
}

/// Why a purchase should not serve this demand; `None` where it may.
pub(crate) fn objection(case: &Case<'_>, demand: &AheadDemand) -> Option<String> {
    let ahead = &case.policies.ahead;
    let on = match demand.outlook.source {
        OutlookSource::Portraits => ahead.portraits,
        OutlookSource::Trend => ahead.trends,
        OutlookSource::Schedule => ahead.schedules,
    };
    if !(ahead.enabled && on) {
        return Some("planning ahead for it is switched off".into());
    }
    let Some(outlook) = case.cluster.outlooks().get(&demand.outlook) else {
        return Some("nobody tells of it".into());
    };
    if outlook.confidence_percent < ahead.least_confidence_percent {
        return Some(format!("{} % sure is not sure enough", outlook.confidence_percent));
    }
    if told_until(outlook, demand.due).is_none() {
        return Some(format!("nothing is due at {}", demand.due));
    }
    let late = case.now.duration_since(demand.due) >= ahead.patience;
    late.then(|| format!("what was due at {} is not waited for any more", demand.due))
}

/// The most replicas that an outlook tells of up to a moment of its own; `None` where it does not name the moment.
fn told_until(outlook: &Outlook, due: Timestamp) -> Option<u32> {
    if let Some(runs) = &outlook.runs {
        let zone = cron::time_zone(&runs.zone, &TimeZone::UTC).ok()?;
        let schedule = Schedule::parse(&runs.schedule, &Dialect::KUBERNETES, &zone).ok()?;
        return (schedule.last_until(due) == Some(due)).then_some(runs.replicas);
    }
    let named = outlook.points.iter().any(|point| point.at == due);
    let until = outlook.points.iter().filter(|point| point.at <= due).map(|point| point.replicas).max();
    until.filter(|_| named)
}

/// How long before it is due a machine of a pool may be asked for.
fn lead_of(case: &Case<'_>, pool: &PoolId) -> SignedDuration {
    let ahead = &case.policies.ahead;
    let measured = case.decision.ledger.ahead.leads.get(pool).map(|leads| {
        let mut seconds = leads.seconds.clone();
        seconds.sort_unstable();
        seconds
    });
    let lead = match measured {
        Some(seconds) if seconds.len() >= LEAST_MEASURED => {
            let covered = (seconds.len() - 1) * ahead.lead_percent.min(100) as usize;
            SignedDuration::from_secs(i64::from(seconds[covered.div_ceil(100)]))
        }
        _ => ahead.unknown_lead,
    };
    lead.saturating_add(ahead.margin).min(LONGEST_LEAD)
}

/// What holds for all purchases ahead of one plan together.
pub(crate) fn check_together(case: &mut Case<'_>) {
    let buys: Vec<Buy> = (case.decision.plan.steps.iter())
        .filter_map(|step| match step {
            Step::Buy(buy) if !buy.serves.ahead.is_empty() && crate::growth::is_new(case, buy) => {
                Some(buy.clone())
            }
            _ => None,
        })
        .collect();
    if buys.is_empty() {
        return;
    }
    for buy in &buys {
        check_one(case, buy);
    }
    check_amounts(case, &buys);
    check_money(case, &buys);
}

fn check_one(case: &mut Case<'_>, buy: &Buy) {
    if !is_ahead(buy) {
        case.wrong(Rule::AheadOfTime, &buy.pool, "serves what waits and what is to come in one purchase");
    }
    let lead = lead_of(case, &buy.pool);
    let first = buy.serves.ahead.iter().map(|demand| demand.due).min();
    if let Some(due) = first.filter(|due| due.duration_since(case.now) > lead) {
        let detail = format!("buys for {due}, which is further off than the {lead:#} that machines take");
        case.wrong(Rule::AheadOfTime, &buy.pool, detail);
    }
    let Some(pool) = case.cluster.pools().get(&buy.pool).cloned() else { return };
    let percent = case.policies.ahead.most_share_percent;
    let policies = &case.policies.pools;
    let policy = policies.get(&pool.name).or_else(|| policies.get(pool.id.as_str()));
    let max = pool.max.min(policy.and_then(|policy| policy.max).unwrap_or(u32::MAX));
    let size = if max == u32::MAX { buy.from.max(LEAST_SIZE) } else { max };
    let share = (u64::from(size) * u64::from(percent) / 100).max(u64::from(percent > 0));
    let bought =
        u64::from(waiting(case).filter(|(id, _)| **id == buy.pool).map(|(_, one)| one.machines).sum::<u32>());
    let more = u64::from(buy.to.saturating_sub(buy.from));
    if bought + more > share {
        let detail = format!("{bought} machines wait for what is to come, {more} more are over {share}");
        case.wrong(Rule::AheadOfTime, &buy.pool, detail);
    }
}

/// Purchases ahead of earlier rounds whose time has not passed.
fn waiting<'c>(case: &Case<'c>) -> impl Iterator<Item = (&'c PoolId, &'c model::BoughtAhead)> + use<'c> {
    let (now, patience) = (case.now, case.policies.ahead.patience);
    let all =
        case.before.ahead.bought.iter().flat_map(|(id, bought)| bought.iter().map(move |one| (id, one)));
    all.filter(move |(_, one)| now.duration_since(one.due) < patience)
}

/// No more replicas than an outlook tells of beyond those that live.
fn check_amounts(case: &mut Case<'_>, buys: &[Buy]) {
    let mut bought: BTreeMap<&OutlookKey, (u32, Timestamp)> = BTreeMap::new();
    let mut targets = BTreeSet::new();
    for demand in buys.iter().flat_map(|buy| &buy.serves.ahead) {
        let entry = bought.entry(&demand.outlook).or_insert((0, demand.due));
        *entry = (entry.0.saturating_add(demand.replicas), entry.1.max(demand.due));
    }
    for (key, (replicas, last)) in bought {
        let Some(outlook) = case.cluster.outlooks().get(key).cloned() else { continue };
        if !targets.insert(outlook.target.clone()) {
            let detail = format!("two outlooks tell of {}", outlook.target);
            case.wrong(Rule::DoubleDemand, key, detail);
        }
        let told = told_until(&outlook, last);
        let live = case.cluster.live_pods_under(&outlook.target);
        let missing = told.unwrap_or(0).saturating_sub(live);
        if replicas > missing {
            let detail = format!("{replicas} replicas are bought for, {missing} do not live yet");
            case.wrong(Rule::DoubleDemand, key, detail);
        }
    }
}

fn check_money(case: &mut Case<'_>, buys: &[Buy]) {
    let most = case.policies.ahead.most_per_hour;
    if most.0 == 0 {
        return;
    }
    let spent: u64 = waiting(case).map(|(_, one)| one.cost.0).sum();
    let more: u64 = buys.iter().map(|buy| cost_of(case, buy)).sum();
    if spent + more > most.0 {
        let cost = MicroUsdPerHour(spent + more);
        case.wrong(
            Rule::AheadOfTime,
            "the cluster",
            format!("{cost} is over the {most} for what is to come"),
        );
    }
}

fn cost_of(case: &Case<'_>, buy: &Buy) -> u64 {
    if buy.launches.is_empty() {
        let price = case.cluster.pools().get(&buy.pool).map(|pool| pool.price).unwrap_or_default();
        return price.times(buy.to.saturating_sub(buy.from)).0;
    }
    let each = buy.launches.iter().map(|launch| launch.flavour.price.0 * launch.names.len() as u64);
    each.sum()
}
