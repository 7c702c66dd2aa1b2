//! What an alert leads to: a pure function of alert, settings, what was found in the cluster, and the time.
//!
//! Owns the rules and their order. It reads nothing by itself; `scaler` brings what was found and carries out.

use crate::alert::{Alert, Status};
use crate::body::shortened;
use crate::history::History;
use crate::reason::Reason;
use crate::record::{Record, Scaling, moment};
use crate::trigger::{Direction, Selector, Settings, Size};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// The kind of object that an alert must be about, and the word for indicators that users made.
const CLUSTER_KIND: &str = "Cluster";
const CUSTOM: &str = "custom";
/// How long after its end a firing alert still counts: clocks differ, and so does what senders mean by the end.
const LATE: SignedDuration = SignedDuration::from_mins(5);
/// Least interval where an alert does not say when it began, so that its deliveries cannot be told apart.
const UNKNOWN_BEGINNING: SignedDuration = SignedDuration::from_mins(5);
/// Longest key of a ConfigMap, and longest name that is written into the history.
const LONGEST_KEY: usize = 253;

/// What an alert asks for, before the cluster is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub cluster: String,
    /// `rule/alert`, as the history has it.
    pub alert_name: String,
    pub size: Size,
    pub selector: Option<Selector>,
    pub interval: SignedDuration,
    /// Whether scalings of other MachineDeployments of the cluster count for the interval.
    pub whole_cluster: bool,
    /// Who decides.
    pub by: String,
}

/// A MachineDeployment as far as the decision needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub replicas: u32,
    /// The most machines that it may have, where it says so; or what is wrong with what it says.
    pub max: Result<Option<u32>, String>,
    /// Why it is not to be touched.
    pub paused: Option<String>,
    pub record: Result<Record, String>,
}

impl Deployment {
    /// Its name for sentences.
    pub fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Addresses for new machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Not from a pool that we know of.
    Unlimited,
    /// Free ones of a named pool.
    Limited { pool: String, free: u32 },
    /// Not to be found out, and why.
    Unknown(Reason),
}

/// What an alert asks for, or why it asks for nothing.
pub fn triage(alert: &Alert, settings: &Settings, now: Timestamp) -> Result<Demand, Reason> {
    let fits = |trigger: &&crate::Trigger| trigger.matchers.iter().all(|matcher| matcher.matches(alert));
    let trigger = settings.triggers.iter().find(fits);
    if let Some(trigger) = trigger.filter(|trigger| trigger.on == alert.status) {
        still_holds(alert, now)?;
        if trigger.direction == Direction::In {
            return Err(Reason::ScaleInNeedsController { trigger: trigger.name.clone() });
        }
        let label = trigger.cluster_label.as_ref().unwrap_or(&settings.labels.cluster);
        return Ok(Demand {
            cluster: cluster(trigger.cluster.as_deref().or_else(|| alert.label(label)), label, settings)?,
            alert_name: name(&trigger.name, alert, settings),
            size: trigger.size,
            selector: trigger.selector.clone().or_else(|| settings.selector.clone()),
            interval: SignedDuration::from_secs(i64::from(trigger.interval_seconds)),
            whole_cluster: false,
            by: settings.identity.clone(),
        });
    }
    if alert.status == Status::Resolved {
        return Err(Reason::Resolved);
    }
    if trigger.is_some() {
        return Err(Reason::NoTrigger);
    }
    still_holds(alert, now)?;
    let labels = &settings.labels;
    let (kind, indicator) = (alert.label(&labels.kind), alert.label(&labels.indicator));
    if kind.is_none() && indicator.is_none() {
        return Err(Reason::NoTrigger);
    }
    if kind != Some(CLUSTER_KIND) {
        let kind = shortened(kind.unwrap_or("thing without a kind"));
        return Err(Reason::NotClusterScope { kind });
    }
    let cluster = cluster(alert.label(&labels.cluster), &labels.cluster, settings)?;
    let indicator = indicator.unwrap_or_default();
    if indicator == CUSTOM {
        return Err(Reason::CustomIndicator);
    }
    if !settings.indicators.iter().any(|served| served == indicator) {
        let indicator = shortened(indicator);
        return Err(Reason::OtherIndicator { indicator, served: settings.indicators.clone() });
    }
    let rule = alert.label(&labels.rule).unwrap_or("alert");
    Ok(Demand {
        cluster,
        alert_name: name(rule, alert, settings),
        size: Size::Machines(settings.step),
        selector: settings.selector.clone(),
        interval: settings.interval,
        whole_cluster: true,
        by: settings.identity.clone(),
    })
}

fn still_holds(alert: &Alert, now: Timestamp) -> Result<(), Reason> {
    match alert.ends_at {
        Some(at) if alert.status == Status::Firing && now.duration_since(at) > LATE => {
            Err(Reason::Ended { at })
        }
        _ => Ok(()),
    }
}

fn cluster(name: Option<&str>, label: &str, settings: &Settings) -> Result<String, Reason> {
    let name = name.ok_or_else(|| Reason::ClusterNotNamed { label: label.to_owned() })?;
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.len() > LONGEST_KEY || !name.chars().all(usable) || name.starts_with('.') {
        return Err(Reason::ClusterNameUnusable { name: shortened(name) });
    }
    if name == settings.global_cluster {
        return Err(Reason::GlobalCluster { name: name.to_owned() });
    }
    Ok(name.to_owned())
}

/// `rule/alert`, as the document's history has it.
fn name(rule: &str, alert: &Alert, settings: &Settings) -> String {
    let own = alert.first_label(&settings.labels.alert).unwrap_or(&alert.fingerprint);
    format!("{}/{}", shortened(rule), shortened(own))
}

/// The one MachineDeployment of the cluster that is meant.
pub fn choose<'a>(demand: &Demand, deployments: &'a [Deployment]) -> Result<(usize, &'a Deployment), Reason> {
    let wanted = |deployment: &Deployment| match &demand.selector {
        None => true,
        Some(selector) => deployment.labels.get(&selector.key) == Some(&selector.value),
    };
    let fitting: Vec<(usize, &Deployment)> =
        deployments.iter().enumerate().filter(|(_, deployment)| wanted(deployment)).collect();
    let (cluster, selector) = (
        demand.cluster.clone(),
        demand.selector.as_ref().map(|selector| format!("{}={}", selector.key, selector.value)),
    );
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => {
            let found = deployments.iter().map(Deployment::title).collect();
            Err(Reason::NoMachineDeployment { cluster, selector, found })
        }
        several => {
            let found = several.iter().map(|(_, deployment)| deployment.title()).collect();
            Err(Reason::SeveralMachineDeployments { cluster, selector, found })
        }
    }
}

/// The scaling that an alert leads to, or why there is none.
///
/// `deployments` are all of the cluster's, `target` the chosen one's place among them.
pub fn decide(
    (demand, alert): (&Demand, &Alert),
    (deployments, target): (&[Deployment], &Deployment),
    (addresses, history): (&Addresses, &History),
    now: Timestamp,
) -> Result<Scaling, Reason> {
    let unreadable = |deployment: &Deployment, why: &String| Reason::Unreadable {
        target: deployment.title(),
        why: why.clone(),
    };
    let mut last: Option<i64> = None;
    for deployment in deployments {
        let own = deployment == target;
        let record = match &deployment.record {
            Ok(record) => record,
            Err(why) if own || demand.whole_cluster => return Err(unreadable(deployment, why)),
            Err(_) => continue,
        };
        if let Some(scaling) = record.scalings.iter().find(|scaling| scaling.was_for(alert)) {
            return Err(Reason::AlreadyActedOn { at: scaling.at(), target: deployment.title() });
        }
        if let Some(up_to) =
            record.forgotten_up_to.filter(|up_to| alert.starts_at.is_some_and(|at| at <= *up_to))
        {
            return Err(Reason::TooOldToTell { up_to });
        }
        if own || demand.whole_cluster {
            last = last.max(record.scalings.iter().map(|scaling| scaling.scale_time).max());
        }
    }
    if demand.whole_cluster {
        last = last.max(history.entries.iter().map(|entry| entry.scale_time).max());
    }
    let interval =
        if alert.starts_at.is_some() { demand.interval } else { demand.interval.max(UNKNOWN_BEGINNING) };
    if let Some(last) = last.map(moment) {
        let until = last.saturating_add(interval).unwrap_or(Timestamp::MAX);
        if now < until {
            return Err(Reason::IntervalNotOver { last, until });
        }
    }
    if let Some(why) = &target.paused {
        return Err(Reason::Paused { target: target.title(), why: why.clone() });
    }
    let max = target.max.as_ref().map_err(|why| unreadable(target, why))?;
    let wanted = match demand.size {
        Size::Machines(count) => count,
        Size::Percent(percent) => {
            u32::try_from((u64::from(target.replicas) * u64::from(percent)).div_ceil(100)).unwrap_or(u32::MAX)
        }
    };
    let to = target.replicas.saturating_add(wanted.max(1)).min(max.unwrap_or(u32::MAX));
    if to <= target.replicas {
        return Err(Reason::AtMaximum { target: target.title(), max: max.unwrap_or(u32::MAX) });
    }
    let added = to - target.replicas;
    match addresses {
        Addresses::Unlimited => {}
        Addresses::Limited { free, .. } if *free >= added => {}
        Addresses::Limited { pool, free } => {
            return Err(Reason::TooFewAddresses { pool: pool.clone(), free: *free, wanted: added });
        }
        Addresses::Unknown(reason) => return Err(reason.clone()),
    }
    Ok(Scaling {
        fingerprint: alert.fingerprint.clone(),
        starts_at: alert.starts_at,
        scale_time: now.as_second(),
        alert_name: demand.alert_name.clone(),
        from: target.replicas,
        to,
        by: demand.by.clone(),
    })
}

#[cfg(test)]
mod tests;
