//! Kubernetes events: what is said of pods, nodes and pools, with Cluster Autoscaler's reasons.
//!
//! Owns which change of a round is worth an event, their deduplication (a repeat raises the count of the first) and
//! their rate. Writing is `writer`'s; nothing here waits.

use crate::wording::pool_name;
use crate::writer::{EventWrite, Write, Writer};
use api::events as reasons;
use jiff::Timestamp;
use model::{
    Cluster, Ledger, NodeName, Outcome, OutcomeKind, PodKey, PoolRejection, Reason, RemovalCause, RuleReason,
    Step, Verdicts,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who says it.
const COMPONENT: &str = "tideline";
/// Events that are remembered for counting repeats.
const MOST_KNOWN: usize = 4096;
/// Events of one object and reason that may follow each other at once, and how long one of them takes to come back:
/// the limits that Kubernetes clients have.
const BURST: u32 = 25;
const REFILL_SECONDS: i64 = 300;

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct About {
    kind: &'static str,
    namespace: Arc<str>,
    name: Arc<str>,
    uid: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    about: About,
    reason: &'static str,
    message: Arc<str>,
}

struct Known {
    name: String,
    count: u32,
    last: Timestamp,
}

struct Bucket {
    left: u32,
    filled_at: Timestamp,
}

/// Says what happens in events.
pub(crate) struct Events {
    enabled: bool,
    namespace: Arc<str>,
    status_map: Arc<str>,
    known: BTreeMap<Key, Known>,
    buckets: BTreeMap<(About, &'static str), Bucket>,
}

impl Events {
    pub(crate) fn new(enabled: bool, namespace: &str, status_map: &str) -> Self {
        Self {
            enabled,
            namespace: Arc::from(namespace),
            status_map: Arc::from(status_map),
            known: BTreeMap::new(),
            buckets: BTreeMap::new(),
        }
    }

    /// Tells of pods whose verdict is new.
    pub(crate) fn tell_verdicts(
        &mut self,
        writer: &Writer,
        cluster: &Cluster,
        before: &Verdicts,
        after: &Verdicts,
        now: Timestamp,
    ) {
        if !self.enabled {
            return;
        }
        for (key, reason) in &after.pods {
            let said = pod_reason(reason);
            if let Some(said) = said
                && before.pods.get(key).is_none_or(|old| !same_news(old, reason))
            {
                self.pod(writer, cluster, key, said, &reason.to_string(), now);
            }
        }
        self.tell_nodes(writer, cluster, before, after, now);
        self.tell_rules(writer, cluster, before, after, now);
        for reason in after.round.iter().filter(|reason| !before.round.contains(reason)) {
            let said = match reason {
                Reason::MaxNodesTotal { .. } => reasons::MAX_NODES_TOTAL_REACHED,
                Reason::Suspended { .. } | Reason::TooManyUnready { .. } | Reason::ZoneUnready { .. } => {
                    reasons::CLUSTER_UNHEALTHY
                }
                _ => continue,
            };
            self.status(writer, said, &reason.to_string(), now);
        }
    }

    /// Tells of nodes of direct pools what Karpenter would: not with each change of a number, but of what is said.
    fn tell_nodes(
        &mut self,
        writer: &Writer,
        cluster: &Cluster,
        before: &Verdicts,
        after: &Verdicts,
        now: Timestamp,
    ) {
        for (name, reason) in &after.nodes {
            let old = before.nodes.get(name);
            if old == Some(reason) || old.and_then(|old| node_reason(old, now)) == node_reason(reason, now) {
                continue;
            }
            let Some(said) = node_reason(reason, now) else { continue };
            if is_direct(cluster, name) {
                self.node(writer, cluster, name, said, &reason.to_string(), now);
            }
        }
    }

    /// Tells of rules that acted or missed their time, and of objects that cannot be followed.
    fn tell_rules(
        &mut self,
        writer: &Writer,
        cluster: &Cluster,
        before: &Verdicts,
        after: &Verdicts,
        now: Timestamp,
    ) {
        for (key, verdict) in &after.rules {
            let Some(set) = cluster.rule_sets().get(key) else { continue };
            let old = before.rules.get(key);
            let about = || About {
                kind: api::node_rules::KIND,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                uid: Arc::from(set.uid.as_str()),
            };
            if let Some(problem) = &verdict.problem
                && old.and_then(|old| old.problem.as_ref()) != Some(problem)
            {
                self.say(writer, about(), reasons::NODE_RULE_INVALID, problem, now);
            }
            for rule in &verdict.rules {
                let old = old.and_then(|old| old.rules.iter().find(|known| known.name == rule.name));
                for (pool, reason) in &rule.pools {
                    let known = old.and_then(|old| old.pools.get(pool)) == Some(reason);
                    let Some(said) = rule_reason(reason).filter(|_| !known) else { continue };
                    let message = format!("rule {}, pool {}: {reason}", rule.name, pool_name(cluster, pool));
                    self.say(writer, about(), said, &message, now);
                }
                if let Some(RuleReason::InvalidSchedule { why }) = &rule.reason
                    && old.and_then(|old| old.reason.as_ref()) != rule.reason.as_ref()
                {
                    let message = format!("rule {}: {why}", rule.name);
                    self.say(writer, about(), reasons::NODE_RULE_INVALID, &message, now);
                }
            }
        }
    }

    /// Tells of a plan that was not carried out.
    pub(crate) fn tell_refusal(&mut self, writer: &Writer, why: &str, now: Timestamp) {
        self.status(writer, reasons::PLAN_REFUSED, &format!("Plan not carried out: {why}"), now);
    }

    /// Tells of purchases that are about to be tried.
    pub(crate) fn tell_steps(&mut self, writer: &Writer, cluster: &Cluster, steps: &[Step], now: Timestamp) {
        for step in steps {
            if let Step::Buy(order) = step {
                let message = format!(
                    "Scale-up: setting group {} size to {} instead of {} (max: {})",
                    pool_name(cluster, &order.pool),
                    order.to,
                    order.from,
                    order.max
                );
                self.status(writer, reasons::SCALED_UP_GROUP, &message, now);
            }
        }
    }

    /// Tells of pools that failed to deliver.
    pub(crate) fn tell_ledger(
        &mut self,
        writer: &Writer,
        cluster: &Cluster,
        before: &Ledger,
        after: &Ledger,
        now: Timestamp,
    ) {
        for (pool, back_off) in &after.back_offs {
            if before.back_offs.get(pool).is_none_or(|old| old.failed_at != back_off.failed_at) {
                let message = format!(
                    "Scale-up of group {} failed with {}: {}; not asked again before {}",
                    pool_name(cluster, pool),
                    back_off.code,
                    back_off.message,
                    back_off.until
                );
                let reason = if before.scale_ups.get(pool).is_some_and(|up| up.deadline <= now) {
                    reasons::SCALE_UP_TIMED_OUT
                } else {
                    reasons::FAILED_TO_SCALE_UP_GROUP
                };
                self.status(writer, reason, &message, now);
            }
        }
    }

    /// Tells what became of a step.
    pub(crate) fn tell_outcome(&mut self, writer: &Writer, cluster: &Cluster, outcome: &Outcome) {
        let now = outcome.at;
        let failed = match &outcome.kind {
            OutcomeKind::Failed { code, message } => Some(format!("{code}: {message}")),
            OutcomeKind::Done => None,
            OutcomeKind::Obsolete { .. } | OutcomeKind::Deferred { .. } => return,
        };
        match (&outcome.step, failed) {
            (Step::Buy(order), None) => {
                let group = pool_name(cluster, &order.pool);
                let message = format!(
                    "Scale-up: group {group} size set to {} instead of {} (max: {})",
                    order.to, order.from, order.max
                );
                self.status(writer, reasons::SCALED_UP_GROUP, &message, now);
            }
            (Step::Buy(order), Some(why)) => {
                let message = format!("Scale-up failed for group {}: {why}", pool_name(cluster, &order.pool));
                self.status(writer, reasons::FAILED_TO_SCALE_UP_GROUP, &message, now);
            }
            (Step::MarkNode(mark), None) => {
                let message = "marked the node as toBeDeleted/unschedulable";
                self.node(writer, cluster, &mark.node, reasons::SCALE_DOWN, message, now);
            }
            (Step::MarkNode(mark), Some(why)) => {
                let message = format!("failed to mark the node as toBeDeleted/unschedulable: {why}");
                self.node(writer, cluster, &mark.node, reasons::SCALE_DOWN_FAILED, &message, now);
            }
            (Step::Evict(evict), None) => {
                let message = "deleting pod for node scale down";
                self.pod(writer, cluster, &evict.pod, reasons::SCALE_DOWN, message, now);
            }
            (Step::Evict(evict), Some(why)) => {
                let message = format!("failed to delete pod for scale down: {why}");
                self.pod(writer, cluster, &evict.pod, reasons::SCALE_DOWN_FAILED, &message, now);
            }
            (Step::Release(release), failed) => {
                let (reason, message) = match failed {
                    Some(why) => (reasons::SCALE_DOWN_FAILED, format!("failed to delete empty node: {why}")),
                    None if release.cause == RemovalCause::Empty => {
                        (reasons::SCALE_DOWN_EMPTY, "Scale-down: empty node removed".to_owned())
                    }
                    None => {
                        let message = format!("Scale-down: node removed ({})", release.cause);
                        (reasons::SCALE_DOWN, message)
                    }
                };
                if let Some(node) = &release.node {
                    self.node(writer, cluster, node, reason, &message, now);
                } else {
                    let (machine, failed) = (&release.machine, reason == reasons::SCALE_DOWN_FAILED);
                    let (reason, message) = if failed {
                        let message = format!("Failed to remove node {machine}: {message}");
                        (reasons::DELETE_UNREGISTERED_FAILED, message)
                    } else {
                        (reasons::DELETE_UNREGISTERED, format!("Removed unregistered node {machine}"))
                    };
                    self.status(writer, reason, &message, now);
                }
            }
            (Step::UndoNode(undo), None) => {
                let message = "removal given up: the node's taints and cordon are taken off";
                self.node(writer, cluster, &undo.node, reasons::SCALE_DOWN_FAILED, message, now);
            }
            (Step::Lower(_) | Step::UndoNode(_) | Step::DeleteNode { .. } | Step::SoftTaint(_), _) => {}
        }
    }

    fn pod(
        &mut self,
        writer: &Writer,
        cluster: &Cluster,
        key: &PodKey,
        reason: &'static str,
        message: &str,
        now: Timestamp,
    ) {
        let Some(pod) = cluster.pods().get(key) else { return };
        let (namespace, name) = (key.namespace.clone(), key.name.clone());
        let about = About { kind: "Pod", namespace, name, uid: Arc::from(pod.uid.as_str()) };
        self.say(writer, about, reason, message, now);
    }

    fn node(
        &mut self,
        writer: &Writer,
        cluster: &Cluster,
        name: &NodeName,
        reason: &'static str,
        message: &str,
        now: Timestamp,
    ) {
        let Some(node) = cluster.nodes().get(name) else { return };
        let uid = Arc::from(node.uid.as_str());
        let about = About { kind: "Node", namespace: Arc::from(""), name: Arc::from(name.as_str()), uid };
        self.say(writer, about, reason, message, now);
    }

    fn status(&mut self, writer: &Writer, reason: &'static str, message: &str, now: Timestamp) {
        let about = About {
            kind: "ConfigMap",
            namespace: self.namespace.clone(),
            name: self.status_map.clone(),
            uid: Arc::from(""),
        };
        self.say(writer, about, reason, message, now);
    }

    fn say(&mut self, writer: &Writer, about: About, reason: &'static str, message: &str, now: Timestamp) {
        if !self.enabled || !self.has_turn(&about, reason, now) {
            return;
        }
        let key = Key { about, reason, message: Arc::from(message) };
        if let Some(known) = self.known.get_mut(&key) {
            known.count = known.count.saturating_add(1);
            known.last = now;
            let change = json!({"count": known.count, "lastTimestamp": now});
            let namespace = event_namespace(&key.about);
            writer.offer(Write::Event(EventWrite {
                namespace,
                name: known.name.clone(),
                body: change,
                repeat: true,
            }));
            return;
        }
        if self.known.len() >= MOST_KNOWN {
            // The longest silent one is forgotten; its next repeat begins a count of its own.
            let oldest = self.known.iter().min_by_key(|(_, known)| known.last).map(|(key, _)| key.clone());
            oldest.map(|key| self.known.remove(&key));
        }
        let name = event_name(&key, now);
        let namespace = event_namespace(&key.about);
        let body = event(&key, &namespace, &name, now);
        self.known.insert(key, Known { name: name.clone(), count: 1, last: now });
        writer.offer(Write::Event(EventWrite { namespace, name, body, repeat: false }));
    }

    /// Takes one from the object's bucket; false where it is empty.
    fn has_turn(&mut self, about: &About, reason: &'static str, now: Timestamp) -> bool {
        if self.buckets.len() >= MOST_KNOWN {
            self.buckets.retain(|_, bucket| refilled(bucket, now) < BURST);
            if self.buckets.len() >= MOST_KNOWN {
                self.buckets.clear();
            }
        }
        let bucket =
            self.buckets.entry((about.clone(), reason)).or_insert(Bucket { left: BURST, filled_at: now });
        let left = refilled(bucket, now);
        if left > bucket.left {
            *bucket = Bucket { left, filled_at: now };
        }
        if bucket.left == 0 {
            return false;
        }
        bucket.left -= 1;
        true
    }
}

fn refilled(bucket: &Bucket, now: Timestamp) -> u32 {
    let back = now.duration_since(bucket.filled_at).as_secs() / REFILL_SECONDS;
    bucket.left.saturating_add(u32::try_from(back).unwrap_or(0)).min(BURST)
}

/// The event reason of a pod's verdict; `None` where there is nothing to say.
fn pod_reason(reason: &Reason) -> Option<&'static str> {
    match reason {
        Reason::TriggeredScaleUp { .. } => Some(reasons::TRIGGERED_SCALE_UP),
        Reason::NoPoolHelps { .. } | Reason::NoPools | Reason::ConsumesRequest { .. } => {
            Some(reasons::NOT_TRIGGER_SCALE_UP)
        }
        _ => None,
    }
}

/// The event reason of the verdict of a direct pool's node; `None` where there is nothing to say.
fn node_reason(reason: &Reason, now: Timestamp) -> Option<&'static str> {
    match reason {
        Reason::BlockedBy { .. } | Reason::DisruptionBudget { .. } | Reason::ScaleDownDisabledAnnotation => {
            Some(reasons::DISRUPTION_BLOCKED)
        }
        Reason::NotWorthMoving { .. }
        | Reason::NoPlaceFor { .. }
        | Reason::PlaceNotAssured { .. }
        | Reason::HoldsHeadroom { .. } => Some(reasons::UNCONSOLIDATABLE),
        Reason::Unneeded { removable_at, .. } if *removable_at <= now => {
            Some(reasons::DISRUPTION_WAITING_READINESS)
        }
        Reason::BeingRemoved { .. } => Some(reasons::DISRUPTION_TERMINATING),
        _ => None,
    }
}

fn is_direct(cluster: &Cluster, node: &NodeName) -> bool {
    let machine = cluster.nodes().get(node).and_then(|node| node.machine.as_ref());
    machine.and_then(|id| cluster.machines().get(id)).is_some_and(|machine| machine.direct.is_some())
}

/// The event reason of what a rule did; `None` where there is nothing to say.
fn rule_reason(reason: &RuleReason) -> Option<&'static str> {
    match reason {
        RuleReason::Added { .. }
        | RuleReason::Removing { .. }
        | RuleReason::WouldAdd { .. }
        | RuleReason::WouldRemove { .. } => Some(reasons::NODE_RULE_ACTED),
        RuleReason::Missed { .. } => Some(reasons::NODE_RULE_MISSED),
        _ => None,
    }
}

/// Whether a verdict says no more than the one before: a back-off that was prolonged is not news.
fn same_news(old: &Reason, new: &Reason) -> bool {
    let (Reason::NoPoolHelps { rejections: old }, Reason::NoPoolHelps { rejections: new }) = (old, new)
    else {
        return old == new;
    };
    old.len() == new.len()
        && old.iter().zip(&**new).all(|((a, x), (b, y))| {
            a == b
                && (x == y
                    || matches!((x, y), (PoolRejection::BackOff { .. }, PoolRejection::BackOff { .. })))
        })
}

fn event_namespace(about: &About) -> String {
    // Events of objects without a namespace live in "default", where `kubectl describe` looks for them.
    if about.namespace.is_empty() { "default".to_owned() } else { about.namespace.to_string() }
}

/// `<object>.<digits>`, different for each event and the same in a repeated run.
fn event_name(key: &Key, now: Timestamp) -> String {
    let text = format!("{key:?}{}", now.as_nanosecond());
    let digest = crate::ledger_store::digest(&text);
    let object: String = key.about.name.chars().take(200).collect();
    format!("{object}.{}", &digest[..16])
}

fn event(key: &Key, namespace: &str, name: &str, now: Timestamp) -> Value {
    let about = &key.about;
    let version = if about.kind == api::node_rules::KIND { "autoscaling.cce.io/v1alpha1" } else { "v1" };
    let mut object = json!({"kind": about.kind, "name": &*about.name, "apiVersion": version});
    if !about.namespace.is_empty() {
        object["namespace"] = json!(&*about.namespace);
    }
    if !about.uid.is_empty() {
        object["uid"] = json!(&*about.uid);
    }
    let warns = matches!(
        key.reason,
        reasons::SCALE_DOWN_FAILED
            | reasons::PLAN_REFUSED
            | reasons::NODE_RULE_MISSED
            | reasons::NODE_RULE_INVALID
            | reasons::FAILED_TO_SCALE_UP_GROUP
            | reasons::SCALE_UP_TIMED_OUT
            | reasons::CLUSTER_UNHEALTHY
            | reasons::DELETE_UNREGISTERED_FAILED
    );
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": object,
        "reason": key.reason,
        "message": &*key.message,
        "type": if warns { "Warning" } else { "Normal" },
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": "",
        "firstTimestamp": now.round(jiff::Unit::Second).unwrap_or(now),
        "lastTimestamp": now.round(jiff::Unit::Second).unwrap_or(now),
        "count": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> (Events, Writer, tokio::sync::mpsc::Receiver<Write>) {
        let (writer, receiver) = Writer::pair();
        (Events::new(true, "kube-system", "status"), writer, receiver)
    }

    #[test]
    fn a_repeat_raises_the_count_and_a_flood_is_cut() {
        let (mut events, writer, mut receiver) = events();
        let start = Timestamp::UNIX_EPOCH;
        for _ in 0..100 {
            events.status(&writer, reasons::SCALE_DOWN, "the same", start);
        }
        let mut counts = Vec::new();
        while let Ok(Write::Event(write)) = receiver.try_recv() {
            counts.push((write.repeat, write.body["count"].as_u64().unwrap()));
        }
        assert_eq!(counts.len(), BURST as usize);
        assert_eq!(counts[0], (false, 1));
        assert_eq!(counts[24], (true, 25));
        let later = start + jiff::SignedDuration::from_secs(REFILL_SECONDS);
        events.status(&writer, reasons::SCALE_DOWN, "the same", later);
        assert!(receiver.try_recv().is_ok());
    }

    #[test]
    fn a_prolonged_back_off_is_no_news() {
        let rejected = |second| {
            let until = Timestamp::from_second(second).unwrap();
            let rejection = PoolRejection::BackOff { until, code: "OutOfStock".into() };
            Reason::NoPoolHelps { rejections: Arc::new(BTreeMap::from([("a".into(), rejection)])) }
        };
        assert!(same_news(&rejected(1), &rejected(2)));
        assert!(!same_news(&Reason::NoPools, &rejected(2)));
    }
}
