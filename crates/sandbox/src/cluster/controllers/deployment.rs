//! Deployments: one ReplicaSet for each pod template, replicas moved from the old to the new.
//!
//! Left out: proportional scaling of several ReplicaSets in the middle of a roll-out, and progress deadlines.

use super::objects::{Key, int, is_active, key_of, owner_reference, set_condition, share, template_hash};
use super::replica_set::report;
use super::{Controllers, garbage::ignore_missing};
use crate::store::resource::{DEPLOYMENTS, REPLICA_SETS};
use crate::store::{ApiError, Object, Part, Propagation};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

/// A Deployment's numbers for one round.
struct Rollout {
    replicas: i64,
    surge: i64,
    unavailable: i64,
    recreate: bool,
}

impl Rollout {
    fn of(deployment: &Object) -> Self {
        let replicas = int(deployment, "spec.replicas").unwrap_or(1).max(0);
        let recreate = deployment.text("spec.strategy.type") == Some("Recreate");
        if recreate {
            return Self { replicas, surge: 0, unavailable: replicas, recreate };
        }
        let quarter = json!("25%");
        let field = |path| Some(deployment.at(path).unwrap_or(&quarter));
        let surge = share(field("spec.strategy.rollingUpdate.maxSurge"), replicas, true).unwrap_or(0).max(0);
        let mut unavailable =
            share(field("spec.strategy.rollingUpdate.maxUnavailable"), replicas, false).unwrap_or(0).max(0);
        if surge == 0 && unavailable == 0 {
            // Else the roll-out could never begin.
            unavailable = 1;
        }
        Self { replicas, surge, unavailable: unavailable.min(replicas), recreate }
    }
}

impl Controllers {
    pub(super) fn reconcile_deployment(&mut self, key: &Key, now: Timestamp) -> Result<(), ApiError> {
        let Some(deployment) = self.store.find(DEPLOYMENTS, &key.0, &key.1) else { return Ok(()) };
        if deployment.is_terminating() {
            return Ok(());
        }
        let Some(template) = deployment.at("spec.template") else { return Ok(()) };
        let rollout = Rollout::of(&deployment);
        let hash = template_hash(template);
        let mut sets = self.dependants_of(&deployment, REPLICA_SETS);
        let paused = deployment.at("spec.paused").and_then(Value::as_bool) == Some(true);
        let current = sets.iter().position(|set| set.label(HASH) == Some(hash.as_str()));
        let current = current.map(|place| sets.remove(place));
        let old = sets;
        if rollout.recreate && !paused && self.wait_for_old(&deployment, &old, &rollout, now)? {
            return self.report_deployment(&deployment, current.as_deref(), &old, &rollout, now);
        }
        let current = match current {
            None if paused => None,
            None => Some(self.make_set(&deployment, template, &hash, &old, &rollout, now)?),
            Some(set) => Some(self.renew(&deployment, &set, &old, &rollout)?),
        };
        if let Some(current) = &current {
            let total: i64 = old.iter().map(|set| replicas(set)).sum::<i64>() + replicas(current);
            let wanted = new_replicas(&rollout, replicas(current), total);
            self.scale(&deployment, current, wanted, &rollout, now)?;
            if !paused && !rollout.recreate {
                let current = self.store.get(REPLICA_SETS, &key.0, current.name())?;
                self.shrink_old(&deployment, &current, &old, &rollout, now)?;
            }
        }
        self.drop_old(&deployment, &old)?;
        let current = current.and_then(|set| self.store.find(REPLICA_SETS, &key.0, set.name()));
        let old: Vec<_> =
            old.iter().filter_map(|s| self.store.find(REPLICA_SETS, &key.0, s.name())).collect();
        self.report_deployment(&deployment, current.as_deref(), &old, &rollout, now)
    }

    /// Recreate: brings the old sets to zero; true while any of their pods is left.
    fn wait_for_old(
        &mut self,
        deployment: &Object,
        old: &[Arc<Object>],
        rollout: &Rollout,
        now: Timestamp,
    ) -> Result<bool, ApiError> {
        for set in old {
            self.scale(deployment, set, 0, rollout, now)?;
        }
        Ok(old.iter().any(|set| self.pods_of(set).iter().any(|pod| is_active(pod) || pod.is_terminating())))
    }

    fn make_set(
        &mut self,
        deployment: &Object,
        template: &Value,
        hash: &str,
        old: &[Arc<Object>],
        rollout: &Rollout,
        now: Timestamp,
    ) -> Result<Arc<Object>, ApiError> {
        let mut template = template.clone();
        template["metadata"]["labels"][HASH] = hash.into();
        let mut selector = deployment.at("spec.selector").cloned().unwrap_or_default();
        selector["matchLabels"][HASH] = hash.into();
        let total: i64 = old.iter().map(|set| replicas(set)).sum();
        let wanted = new_replicas(rollout, 0, total);
        let revision = (newest_revision(old) + 1).to_string();
        let name = format!("{}-{hash}", deployment.name());
        let set = json!({
            "metadata": {
                "name": name, "labels": template["metadata"]["labels"],
                "annotations": {
                    REVISION: revision, DESIRED: rollout.replicas.to_string(),
                    MAXIMUM: (rollout.replicas + rollout.surge).to_string(),
                },
                "ownerReferences": [owner_reference(deployment, "apps/v1", "Deployment")],
            },
            "spec": {
                "replicas": wanted, "selector": selector, "template": template,
                "minReadySeconds": deployment.at("spec.minReadySeconds").cloned().unwrap_or(json!(0)),
            },
        });
        let set = self.store.create(REPLICA_SETS, deployment.namespace(), set)?;
        self.annotate_revision(deployment, &revision)?;
        if wanted > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {wanted}");
            self.events.normal(deployment, "Deployment", "ScalingReplicaSet", &message, now);
        }
        Ok(set)
    }

    fn annotate_revision(&mut self, deployment: &Object, revision: &str) -> Result<(), ApiError> {
        let done =
            self.store.modify(DEPLOYMENTS, deployment.namespace(), deployment.name(), Part::Main, |value| {
                let changed = value["metadata"]["annotations"][REVISION] != revision;
                value["metadata"]["annotations"][REVISION] = revision.into();
                changed
            });
        ignore_missing(done)
    }

    /// A set that exists becomes the newest again, after a roll-back.
    fn renew(
        &mut self,
        deployment: &Object,
        set: &Object,
        old: &[Arc<Object>],
        rollout: &Rollout,
    ) -> Result<Arc<Object>, ApiError> {
        let newest = newest_revision(old);
        let own = revision(set);
        let next = if own > newest { own } else { newest + 1 };
        let next = next.to_string();
        let (desired, most) = (rollout.replicas.to_string(), (rollout.replicas + rollout.surge).to_string());
        let set = self.store.modify(REPLICA_SETS, set.namespace(), set.name(), Part::Main, |value| {
            let annotations = &mut value["metadata"]["annotations"];
            let mut changed = false;
            for (key, wanted) in [(REVISION, &next), (DESIRED, &desired), (MAXIMUM, &most)] {
                changed |= annotations[key] != *wanted.as_str();
                annotations[key] = wanted.as_str().into();
            }
            changed
        })?;
        self.annotate_revision(deployment, &next)?;
        Ok(set)
    }

    fn scale(
        &mut self,
        deployment: &Object,
        set: &Object,
        wanted: i64,
        rollout: &Rollout,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let before = replicas(set);
        if before == wanted {
            return Ok(());
        }
        let desired = rollout.replicas.to_string();
        let done = self.store.modify(REPLICA_SETS, set.namespace(), set.name(), Part::Main, |value| {
            value["spec"]["replicas"] = wanted.into();
            value["metadata"]["annotations"][DESIRED] = desired.as_str().into();
            true
        });
        ignore_missing(done)?;
        let direction = if wanted > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {before} to {wanted}", set.name());
        self.events.normal(deployment, "Deployment", "ScalingReplicaSet", &message, now);
        Ok(())
    }

    /// Rolling update: takes from the old sets what the budget of unavailable pods allows.
    fn shrink_old(
        &mut self,
        deployment: &Object,
        current: &Object,
        old: &[Arc<Object>],
        rollout: &Rollout,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let old_total: i64 = old.iter().map(|set| replicas(set)).sum();
        if old_total == 0 {
            return Ok(());
        }
        let least = rollout.replicas - rollout.unavailable;
        let new_unavailable = (replicas(current) - available(current)).max(0);
        let mut can_go = old_total + replicas(current) - least - new_unavailable;
        if can_go <= 0 {
            return Ok(());
        }
        let mut sizes: Vec<(Arc<Object>, i64)> =
            old.iter().map(|set| (Arc::clone(set), replicas(set))).collect();
        sizes.sort_by_cached_key(|(set, _)| (revision(set), set.name().to_owned()));
        // Pods that do not work go first: they serve nobody.
        for (set, size) in &mut sizes {
            let broken = (*size - available(set)).clamp(0, can_go);
            *size -= broken;
            can_go -= broken;
        }
        let working =
            available(current) + old.iter().map(|set| available(set).min(replicas(set))).sum::<i64>();
        let mut spare = (working - least).clamp(0, can_go);
        for (_, size) in &mut sizes {
            let taken = (*size).min(spare);
            *size -= taken;
            spare -= taken;
        }
        for (set, size) in sizes {
            self.scale(deployment, &set, size, rollout, now)?;
        }
        Ok(())
    }

    /// Removes empty sets beyond the history that is kept.
    fn drop_old(&mut self, deployment: &Object, old: &[Arc<Object>]) -> Result<(), ApiError> {
        let limit = int(deployment, "spec.revisionHistoryLimit").unwrap_or(10).max(0) as usize;
        let mut empty: Vec<&Arc<Object>> = old
            .iter()
            .filter(|set| replicas(set) == 0 && int(set, "status.replicas").unwrap_or(0) == 0)
            .filter(|set| !set.is_terminating())
            .collect();
        empty.sort_by_cached_key(|set| revision(set));
        let surplus = empty.len().saturating_sub(limit);
        for set in empty.into_iter().take(surplus) {
            self.delete(set, Propagation::Background)?;
        }
        Ok(())
    }

    fn report_deployment(
        &mut self,
        deployment: &Object,
        current: Option<&Object>,
        old: &[Arc<Object>],
        rollout: &Rollout,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let sum = |field: &str| -> i64 {
            old.iter().map(AsRef::as_ref).chain(current).map(|set| int(set, field).unwrap_or(0)).sum()
        };
        let (all, ready, working) =
            (sum("status.replicas"), sum("status.readyReplicas"), sum("status.availableReplicas"));
        let updated = current.and_then(|set| int(set, "status.replicas")).unwrap_or(0);
        let missing = (rollout.replicas - working).max(0);
        let count = |number: i64| usize::try_from(number).unwrap_or(0);
        let numbers = [
            ("replicas", count(all)),
            ("readyReplicas", count(ready)),
            ("availableReplicas", count(working)),
            ("updatedReplicas", count(updated)),
            ("unavailableReplicas", count(missing)),
        ];
        let done_rolling = updated == rollout.replicas && all == updated && working >= rollout.replicas;
        let set_name = current.map_or(String::new(), |set| set.name().to_owned());
        let (key_ns, key_name) = key_of(deployment);
        let done = self.store.modify(DEPLOYMENTS, &key_ns, &key_name, Part::Status, |value| {
            let generation = value["metadata"]["generation"].clone();
            let mut changed = report(value, &[("observedGeneration", generation)], &numbers);
            let least = rollout.replicas - rollout.unavailable;
            let (holds, reason, message) = if working >= least {
                ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
            } else {
                ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
            };
            changed |= set_condition(value, "Available", holds, reason, message, now);
            let (reason, message) = if done_rolling {
                ("NewReplicaSetAvailable", format!("ReplicaSet \"{set_name}\" has successfully progressed."))
            } else {
                ("ReplicaSetUpdated", format!("ReplicaSet \"{set_name}\" is progressing."))
            };
            changed |= set_condition(value, "Progressing", "True", reason, &message, now);
            changed
        });
        ignore_missing(done)
    }
}

fn replicas(set: &Object) -> i64 {
    int(set, "spec.replicas").unwrap_or(1)
}

fn available(set: &Object) -> i64 {
    int(set, "status.availableReplicas").unwrap_or(0)
}

fn revision(set: &Object) -> i64 {
    set.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn newest_revision(sets: &[Arc<Object>]) -> i64 {
    sets.iter().map(|set| revision(set)).max().unwrap_or(0)
}

/// The size of the new set: as large as wanted and as the surge allows beside the old ones.
fn new_replicas(rollout: &Rollout, own: i64, total: i64) -> i64 {
    if rollout.recreate || own >= rollout.replicas {
        return rollout.replicas;
    }
    let room = rollout.replicas + rollout.surge - total;
    (own + room.max(0)).min(rollout.replicas)
}
