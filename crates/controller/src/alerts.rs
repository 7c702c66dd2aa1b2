//! Alerts as demand: from the endpoint into a round, and the answer once what they ask for is durable.
//!
//! Owns the answers that are owed. Which rules an alert makes due, once and no more, is decided in `nodes`.

use crate::http::AlertAnswer;
use model::{AlertDemand, Cluster, RuleTrigger};
use tokio::sync::oneshot;

/// Answers that may be owed; more are not given, and so delivered again.
const MOST_OWED: usize = 256;

#[derive(Default)]
pub(crate) struct AlertsOwed {
    owed: Vec<(Vec<String>, oneshot::Sender<AlertAnswer>)>,
}

impl AlertsOwed {
    /// Whether an alert is to be told to the next round; where not, it is answered at once.
    pub(crate) fn takes(
        &mut self,
        alert: &AlertDemand,
        answer: oneshot::Sender<AlertAnswer>,
        cluster: &Cluster,
        leads: bool,
    ) -> bool {
        // Whoever asked may have gone meanwhile: then the answer is dropped.
        if !leads {
            let _ = answer.send(AlertAnswer::StandingBy);
            return false;
        }
        let rules = waiting(alert, cluster);
        if rules.is_empty() {
            let _ = answer.send(AlertAnswer::NoRule);
            return false;
        }
        if self.owed.len() >= MOST_OWED {
            return false;
        }
        self.owed.push((rules, answer));
        true
    }

    /// A round that has read the alerts is durable.
    pub(crate) fn settle(&mut self) {
        for (rules, answer) in self.owed.drain(..) {
            let _ = answer.send(AlertAnswer::Taken { rules });
        }
    }
}

/// The rules that wait for an alert, as `namespace/object/rule`.
fn waiting(alert: &AlertDemand, cluster: &Cluster) -> Vec<String> {
    let sets = cluster.rule_sets().values().filter(|set| !set.disabled);
    let rules = sets.flat_map(|set| set.rules.iter().map(move |rule| (set, rule)));
    let waits = rules.filter(|(_, rule)| {
        let RuleTrigger::Alert { labels, .. } = &rule.when else { return false };
        !rule.disabled && alert.has(labels)
    });
    waits.map(|(set, rule)| format!("{}/{}", set.key, rule.name)).collect()
}
