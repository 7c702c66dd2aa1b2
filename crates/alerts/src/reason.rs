//! Why an alert scaled nothing: as data, with a code for machines and a sentence for people.
//!
//! The same sentence stands in the answer, the log and the documentation's table of reasons.

use jiff::Timestamp;
use std::fmt;

/// Names of found objects that a sentence lists.
const MOST_LISTED: usize = 10;

/// Why nothing was scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reason {
    /// The rule's condition holds no longer.
    Resolved,
    /// The alert says itself that it has ended.
    Ended { at: Timestamp },
    /// No trigger matches, and the labels are not the platform's.
    NoTrigger,
    /// No rule of a planner waits for it.
    NoRule,
    /// Not about a whole cluster.
    NotClusterScope { kind: String },
    /// A custom indicator.
    CustomIndicator,
    /// Another indicator than those that trigger.
    OtherIndicator { indicator: String, served: Vec<String> },
    /// No label names the cluster.
    ClusterNotNamed { label: String },
    /// The cluster's name cannot be a key of the history.
    ClusterNameUnusable { name: String },
    /// The platform's own cluster.
    GlobalCluster { name: String },
    /// The trigger takes machines away, which needs more rights than this mode has.
    ScaleInNeedsController { trigger: String },
    /// This alert scaled already.
    AlreadyActedOn { at: Timestamp, target: String },
    /// It began before the oldest scaling that is remembered.
    TooOldToTell { up_to: Timestamp },
    /// The last scaling is not long enough ago.
    IntervalNotOver { last: Timestamp, until: Timestamp },
    /// No MachineDeployment of the cluster fits.
    NoMachineDeployment { cluster: String, selector: Option<String>, found: Vec<String> },
    /// More than one fits.
    SeveralMachineDeployments { cluster: String, selector: Option<String>, found: Vec<String> },
    /// The target is paused.
    Paused { target: String, why: String },
    /// The target's own words about itself cannot be read.
    Unreadable { target: String, why: String },
    /// The target is as large as it may be.
    AtMaximum { target: String, max: u32 },
    /// The machine template that the target names does not exist.
    TemplateMissing { target: String, template: String },
    /// The address pool that the template names does not exist.
    AddressPoolMissing { template: String, pool: String },
    /// The address pool has no list of addresses.
    AddressPoolUnreadable { pool: String },
    /// Fewer free addresses than machines to add.
    TooFewAddresses { pool: String, free: u32, wanted: u32 },
}

impl Reason {
    /// The reason as a word, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Resolved => "Resolved",
            Self::Ended { .. } => "Ended",
            Self::NoTrigger => "NoTrigger",
            Self::NoRule => "NoRule",
            Self::NotClusterScope { .. } => "NotClusterScope",
            Self::CustomIndicator => "CustomIndicator",
            Self::OtherIndicator { .. } => "OtherIndicator",
            Self::ClusterNotNamed { .. } => "ClusterNotNamed",
            Self::ClusterNameUnusable { .. } => "ClusterNameUnusable",
            Self::GlobalCluster { .. } => "GlobalCluster",
            Self::ScaleInNeedsController { .. } => "ScaleInNeedsController",
            Self::AlreadyActedOn { .. } => "AlreadyActedOn",
            Self::TooOldToTell { .. } => "TooOldToTell",
            Self::IntervalNotOver { .. } => "IntervalNotOver",
            Self::NoMachineDeployment { .. } => "NoMachineDeployment",
            Self::SeveralMachineDeployments { .. } => "SeveralMachineDeployments",
            Self::Paused { .. } => "Paused",
            Self::Unreadable { .. } => "Unreadable",
            Self::AtMaximum { .. } => "AtMaximum",
            Self::TemplateMissing { .. } => "TemplateMissing",
            Self::AddressPoolMissing { .. } => "AddressPoolMissing",
            Self::AddressPoolUnreadable { .. } => "AddressPoolUnreadable",
            Self::TooFewAddresses { .. } => "TooFewAddresses",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolved => write!(f, "the alert is resolved: nothing is scaled for it"),
            Self::Ended { at } => write!(f, "the alert ended at {at}: it was delivered late"),
            Self::NoTrigger => write!(f, "no trigger matches the alert's labels"),
            Self::NoRule => {
                write!(f, "no rule of type Alert that is switched on names labels that this alert has")
            }
            Self::NotClusterScope { kind } => {
                write!(f, "the alert is about a {kind}; only alerts about a whole cluster scale")
            }
            Self::CustomIndicator => write!(f, "the alert is on a custom indicator; only default ones scale"),
            Self::OtherIndicator { indicator, served } => {
                write!(f, "the alert's indicator is {indicator}; those that scale are {}", served.join(", "))
            }
            Self::ClusterNotNamed { label } => {
                write!(f, "the alert has no label {label}, so the cluster is not known")
            }
            Self::ClusterNameUnusable { name } => {
                write!(f, "\"{name}\" cannot be a cluster's name: letters, digits, dots and dashes only")
            }
            Self::GlobalCluster { name } => {
                write!(f, "{name} is the platform's own cluster, which alerts do not scale")
            }
            Self::ScaleInNeedsController { trigger } => write!(
                f,
                "trigger {trigger} removes machines: that needs a drain, and with it `tideline controller` in \
                 the workload cluster; this mode only adds"
            ),
            Self::AlreadyActedOn { at, target } => write!(f, "this alert scaled {target} already, at {at}"),
            Self::TooOldToTell { up_to } => write!(
                f,
                "the alert began no later than {up_to}; scalings for alerts that old are no longer remembered"
            ),
            Self::IntervalNotOver { last, until } => {
                write!(f, "the last scaling was at {last}; the interval ends at {until}")
            }
            Self::NoMachineDeployment { cluster, selector, found } => {
                write!(f, "no MachineDeployment of cluster {cluster}{} was found", With(selector))?;
                if found.is_empty() { Ok(()) } else { write!(f, "; the cluster has {}", Listed(found)) }
            }
            Self::SeveralMachineDeployments { cluster, selector, found } => write!(
                f,
                "cluster {cluster} has {} MachineDeployments{}: {}; choose one with \
                 --machine-deployment-selector-key and -value",
                found.len(),
                With(selector),
                Listed(found)
            ),
            Self::Paused { target, why } => write!(f, "{target} is {why}"),
            Self::Unreadable { target, why } => write!(f, "{target}: {why}"),
            Self::AtMaximum { target, max } => write!(f, "{target} is at its maximum of {max} machines"),
            Self::TemplateMissing { target, template } => {
                write!(f, "{target} names DCSMachineTemplate {template}, which does not exist")
            }
            Self::AddressPoolMissing { template, pool } => {
                write!(f, "template {template} names DCSIpHostnamePool {pool}, which does not exist")
            }
            Self::AddressPoolUnreadable { pool } => {
                write!(f, "DCSIpHostnamePool {pool} has no list spec.pool, so its addresses are not known")
            }
            Self::TooFewAddresses { pool, free, wanted } => {
                write!(f, "DCSIpHostnamePool {pool} has {free} free addresses, {wanted} needed")
            }
        }
    }
}

/// ` with KEY=VALUE`, or nothing.
struct With<'a>(&'a Option<String>);

impl fmt::Display for With<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |selector| write!(f, " with {selector}"))
    }
}

struct Listed<'a>(&'a [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0[..self.0.len().min(MOST_LISTED)].join(", "))?;
        let more = self.0.len().saturating_sub(MOST_LISTED);
        if more == 0 { Ok(()) } else { write!(f, " and {more} more") }
    }
}
