//! The status ConfigMap, in the YAML form that users of Cluster Autoscaler read.
//!
//! Owns its text and when it is written: on change only, and not more often than its interval. There is no clock
//! tick: a change that comes too early sets the moment at which it will be written.

use jiff::{SignedDuration, Timestamp};
use model::{Cluster, InputState, Ledger, MachineState, Node, Pool, PoolRejection, Reason, Verdicts};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    autoscaler_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    cluster_wide: ClusterWide,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    node_groups: Vec<NodeGroup>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterWide {
    health: Health,
    scale_up: Activity,
    scale_down: ScaleDown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeGroup {
    name: String,
    health: Health,
    scale_up: Activity,
    scale_down: ScaleDown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    node_counts: NodeCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_provider_target: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size: Option<u32>,
    #[serde(flatten)]
    times: Times,
}

/// When a state was looked at and when it last changed; known only when the text is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    last_probe_time: String,
    last_transition_time: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeCounts {
    registered: Registered,
    long_unregistered: u32,
    unregistered: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    total: u32,
    ready: u32,
    not_started: u32,
    /// No provider here can suspend nodes; readers of the form expect it.
    suspended: u32,
    being_deleted: u32,
    unready: Unready,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Unready {
    total: u32,
    resource_unready: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Activity {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff_info: Option<BackoffInfo>,
    #[serde(flatten)]
    times: Times,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BackoffInfo {
    error_code: String,
    error_message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScaleDown {
    status: &'static str,
    candidates: u32,
    #[serde(flatten)]
    times: Times,
}

/// Since when each part of the status is as it is.
type Transitions = BTreeMap<(String, &'static str), (&'static str, String)>;

impl Text {
    /// Fills in the moments; what is no longer there is forgotten.
    fn stamp(&mut self, known: &mut Transitions, now: &str) {
        let mut next = Transitions::new();
        let mut mark = |group: &str, part: &'static str, status: &'static str, times: &mut Times| {
            let key = (group.to_owned(), part);
            let since = known.get(&key).filter(|(old, _)| *old == status).map(|(_, since)| since.clone());
            let since = since.unwrap_or_else(|| now.to_owned());
            *times = Times { last_probe_time: now.to_owned(), last_transition_time: since.clone() };
            next.insert(key, (status, since));
        };
        let whole = &mut self.cluster_wide;
        mark("", "health", whole.health.status, &mut whole.health.times);
        mark("", "scaleUp", whole.scale_up.status, &mut whole.scale_up.times);
        mark("", "scaleDown", whole.scale_down.status, &mut whole.scale_down.times);
        for group in &mut self.node_groups {
            let name = group.name.clone();
            mark(&name, "health", group.health.status, &mut group.health.times);
            mark(&name, "scaleUp", group.scale_up.status, &mut group.scale_up.times);
            mark(&name, "scaleDown", group.scale_down.status, &mut group.scale_down.times);
        }
        *known = next;
    }
}

/// The status as it is written, with the time in its annotation.
#[derive(Debug)]
pub(crate) struct StatusText {
    pub(crate) text: String,
    pub(crate) updated: String,
}

/// Keeps the status current.
pub(crate) struct StatusKeeper {
    enabled: bool,
    interval: SignedDuration,
    written: Option<(Text, Timestamp)>,
    transitions: Transitions,
    due: Option<Timestamp>,
}

impl StatusKeeper {
    pub(crate) fn new(enabled: bool, interval_seconds: u32) -> Self {
        Self {
            enabled,
            interval: SignedDuration::from_secs(i64::from(interval_seconds)),
            written: None,
            transitions: Transitions::new(),
            due: None,
        }
    }

    /// When the next write may be made; `None` while there is nothing to write.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// Something may have changed: the status will be looked at as soon as its interval allows.
    pub(crate) fn touch(&mut self, now: Timestamp) {
        if self.enabled && self.due.is_none() {
            let earliest = self.written.as_ref().and_then(|(_, at)| at.saturating_add(self.interval).ok());
            self.due = Some(earliest.map_or(now, |at| at.max(now)));
        }
    }

    /// The status if it differs from the one before.
    pub(crate) fn news(
        &mut self,
        cluster: &Cluster,
        verdicts: &Verdicts,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Option<StatusText> {
        self.due = None;
        if !self.enabled {
            return None;
        }
        let text = text(cluster, verdicts, ledger, now);
        if self.written.as_ref().is_some_and(|(old, _)| *old == text) {
            return None;
        }
        let mut stamped = text.clone();
        stamped.stamp(&mut self.transitions, &now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let yaml = serde_saphyr::to_string(&stamped);
        self.written = Some((text, now));
        match yaml {
            Ok(yaml) => {
                let updated = now.strftime("%Y-%m-%d %H:%M:%S%.f %z UTC").to_string();
                Some(StatusText { text: format!("time: {updated}\n{yaml}"), updated })
            }
            Err(error) => {
                tracing::warn!(%error, "the status has no form in YAML");
                None
            }
        }
    }
}

fn text(cluster: &Cluster, verdicts: &Verdicts, ledger: &Ledger, now: Timestamp) -> Text {
    let mut whole = Tally::default();
    let mut groups: BTreeMap<_, Tally> = BTreeMap::new();
    for node in cluster.nodes().values() {
        whole.count(node, verdicts, ledger);
        if let Some(pool) = cluster.pool_of(node) {
            groups.entry(&pool.id).or_default().count(node, verdicts, ledger);
        }
    }
    for machine in cluster.machines().values() {
        let of_group = &mut groups.entry(&machine.pool).or_default().counts;
        if ledger.orphans.contains_key(&machine.id) {
            whole.counts.long_unregistered += 1;
            of_group.long_unregistered += 1;
        } else if matches!(machine.state, MachineState::Creating | MachineState::Failed { .. }) {
            whole.counts.unregistered += 1;
            of_group.unregistered += 1;
        }
    }
    let fresh = cluster.inputs().iter().all(|(_, state)| *state == InputState::Fresh);
    let growing = !ledger.scale_ups.is_empty();
    let closed = verdicts.round.iter().any(|reason| matches!(reason, Reason::Suspended { .. }));
    Text {
        autoscaler_status: "Running",
        message: verdicts.round.first().map(ToString::to_string),
        cluster_wide: ClusterWide {
            health: whole.health(fresh && !closed),
            scale_up: Activity {
                status: if growing { "InProgress" } else { "NoActivity" },
                backoff_info: None,
                times: Times::default(),
            },
            scale_down: whole.scale_down(),
        },
        node_groups: cluster
            .pools()
            .values()
            .map(|pool| group(pool, &groups.remove(&pool.id).unwrap_or_default(), verdicts, ledger, now))
            .collect(),
    }
}

fn group(pool: &Arc<Pool>, tally: &Tally, verdicts: &Verdicts, ledger: &Ledger, now: Timestamp) -> NodeGroup {
    let back_off = ledger.back_offs.get(&pool.id).filter(|back_off| back_off.until > now);
    let status = match back_off {
        Some(_) => "Backoff",
        None if matches!(
            verdicts.pools.get(&pool.id),
            Some(Reason::PoolRejected { rejection: PoolRejection::NotHealthy { .. } })
        ) =>
        {
            "Unhealthy"
        }
        None if ledger.scale_ups.contains_key(&pool.id) => "InProgress",
        None => "NoActivity",
    };
    let scale_down = tally.scale_down();
    NodeGroup {
        name: pool.name.to_string(),
        health: Health {
            cloud_provider_target: Some(pool.target),
            min_size: Some(pool.min),
            max_size: Some(pool.max),
            ..tally.health(pool.frozen.is_none())
        },
        scale_up: Activity {
            status,
            backoff_info: back_off.map(|back_off| BackoffInfo {
                error_code: back_off.code.to_string(),
                error_message: back_off.message.to_string(),
            }),
            times: Times::default(),
        },
        scale_down,
    }
}

#[derive(Clone, Debug, Default)]
struct Tally {
    counts: NodeCounts,
    candidates: u32,
}

impl Tally {
    fn count(&mut self, node: &Node, verdicts: &Verdicts, ledger: &Ledger) {
        let registered = &mut self.counts.registered;
        registered.total += 1;
        let reason = verdicts.nodes.get(&node.name);
        if node.deleting || ledger.removals.contains_key(&node.name) {
            registered.being_deleted += 1;
        } else if node.is_ready() {
            registered.ready += 1;
        } else if matches!(reason, Some(Reason::StartingUp { .. })) {
            registered.not_started += 1;
        } else {
            registered.unready.total += 1;
        }
        if ledger.unneeded_since.contains_key(&node.name) {
            self.candidates += 1;
        }
    }

    fn health(&self, well: bool) -> Health {
        Health {
            status: if well { "Healthy" } else { "Unhealthy" },
            node_counts: self.counts.clone(),
            ..Default::default()
        }
    }

    fn scale_down(&self) -> ScaleDown {
        let status = if self.candidates > 0 { "CandidatesPresent" } else { "NoCandidates" };
        ScaleDown { status, candidates: self.candidates, times: Times::default() }
    }
}
