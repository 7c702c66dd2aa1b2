//! What time alone will bring: ends of waits, of back-offs, of deadlines, as a list in the order of time.
//!
//! Owns what is worth telling beforehand. Nothing of it is sure: what is heard until then may change it.

use crate::wording::pool_name;
use jiff::Timestamp;
use model::{Cluster, Ledger, Reason, Verdicts};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Moments that are told.
const MOST: usize = 100;
/// Nodes named in one line.
const MOST_NAMED: usize = 2;

/// One moment to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpcomingView {
    pub at: Timestamp,
    pub what: String,
}

pub(super) fn upcoming(
    cluster: &Cluster,
    verdicts: &Verdicts,
    ledger: Option<&Ledger>,
    now: Timestamp,
) -> Vec<UpcomingView> {
    let mut all: Vec<UpcomingView> = of_nodes(verdicts);
    for (pod, reason) in &verdicts.pods {
        if let Reason::TooYoung { until } = reason {
            all.push(UpcomingView { at: *until, what: format!("pod {pod} may trigger a scale-up") });
        }
        if all.len() > MOST * 10 {
            break;
        }
    }
    if let Some(ledger) = ledger {
        all.extend(of_pools(cluster, ledger));
    }
    all.retain(|one| one.at > now);
    all.sort_by(|a, b| (a.at, &a.what).cmp(&(b.at, &b.what)));
    all.truncate(MOST);
    all
}

/// Nodes with the same fate at the same moment are one line.
fn of_nodes(verdicts: &Verdicts) -> Vec<UpcomingView> {
    let mut groups: BTreeMap<(Timestamp, String), Vec<&str>> = BTreeMap::new();
    for (node, reason) in &verdicts.nodes {
        let (at, what) = match reason {
            Reason::Unneeded { cause, removable_at, .. } => {
                (*removable_at, format!("may be removed: {cause}"))
            }
            Reason::NotReadyYetTolerated { removable_at, .. } => {
                (*removable_at, "may be removed: not ready".to_owned())
            }
            Reason::InCoolDown { until, .. } => (*until, "may be removed: the wait ends".to_owned()),
            Reason::PoolCoolDown { until } => (*until, "may be removed: its pool's wait ends".to_owned()),
            Reason::RecentlyUnremovable { until } => (*until, "looked at again".to_owned()),
            _ => continue,
        };
        groups.entry((at, what)).or_default().push(node.as_str());
    }
    let line = |((at, what), nodes): ((Timestamp, String), Vec<&str>)| {
        let named = nodes.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = nodes.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        UpcomingView { at, what: format!("{named}{more} {what}") }
    };
    groups.into_iter().map(line).collect()
}

fn of_pools(cluster: &Cluster, ledger: &Ledger) -> Vec<UpcomingView> {
    let back_offs = ledger.back_offs.iter().map(|(pool, back_off)| UpcomingView {
        at: back_off.until,
        what: format!("pool {} is asked again after {}", pool_name(cluster, pool), back_off.code),
    });
    let deadlines = ledger.scale_ups.iter().map(|(pool, order)| UpcomingView {
        at: order.deadline,
        what: format!(
            "pool {}: what has not come of {}->{} counts as failed",
            pool_name(cluster, pool),
            order.from,
            order.to
        ),
    });
    back_offs.chain(deadlines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use model::{NodeName, RemovalCause};

    #[test]
    fn nodes_that_go_together_are_one_line_and_the_past_is_left_out() {
        let now = Timestamp::UNIX_EPOCH;
        let later = now + SignedDuration::from_secs(60);
        let mut verdicts = Verdicts::default();
        let unneeded = |at| Reason::Unneeded { cause: RemovalCause::Empty, since: now, removable_at: at };
        for (name, at) in [("a", later), ("b", later), ("c", later), ("d", now)] {
            verdicts.nodes.insert(NodeName::from(name), unneeded(at));
        }
        let told = upcoming(&Cluster::default(), &verdicts, None, now);
        assert_eq!(told, [UpcomingView { at: later, what: "a, b and 1 more may be removed: empty".into() }]);
    }
}
