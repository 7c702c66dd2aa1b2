//! Whether a finished placement keeps every rule of the scheduler, pod by pod.
//!
//! Knows nothing of how it was found. Pods are let in one after the other, in the order that is given, and who may not
//! come yet is asked again when others are in: the scheduler, too, binds one by one and tries again. A placement is
//! right where everybody comes in. Each question counts all pods anew, so the cost grows with their square.

use crate::volumes::{Attachments, are_plain, suit};
use model::{
    Effect, HostPort, LabelSelector, Labels, Node, NodeInclusion, Pod, PodKey, PodTerm, Resources,
    SpreadConstraint, Taint,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// A node, or a machine that is to be made, with what is on it.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    pub node: &'a Node,
    /// True for a machine that is not there yet: it will have a host name of its own.
    pub promised: bool,
    pub there: Vec<&'a Pod>,
}

/// A pod that may not be where it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misplaced {
    pub pod: PodKey,
    /// Which of the sites.
    pub site: usize,
    pub why: String,
}

/// Who of the pods that were placed, each with the number of its site, does not come in.
pub fn check_placement(
    namespaces: &BTreeMap<Arc<str>, Arc<Labels>>,
    sites: &[Site<'_>],
    placed: &[(&Pod, usize)],
) -> Vec<Misplaced> {
    let mut picture = Picture { namespaces, sites, present: Vec::new() };
    let mut outside: Vec<(&Pod, usize)> = placed.to_vec();
    for (at, site) in sites.iter().enumerate() {
        picture.present.extend(site.there.iter().map(|pod| (*pod, at)));
    }
    loop {
        let before = outside.len();
        outside.retain(|(pod, at)| {
            let stays_out = picture.refusal(pod, *at).is_some();
            if !stays_out {
                picture.present.push((*pod, *at));
            }
            stays_out
        });
        if outside.len() == before {
            break;
        }
    }
    let why = |pod: &Pod, at: usize| picture.refusal(pod, at).unwrap_or_default();
    outside
        .iter()
        .map(|(pod, at)| Misplaced { pod: pod.key.clone(), site: *at, why: why(pod, *at) })
        .collect()
}

struct Picture<'a> {
    namespaces: &'a BTreeMap<Arc<str>, Arc<Labels>>,
    sites: &'a [Site<'a>],
    present: Vec<(&'a Pod, usize)>,
}

impl Picture<'_> {
    fn refusal(&self, pod: &Pod, at: usize) -> Option<String> {
        let node = self.sites[at].node;
        by_node(pod, node)
            .or_else(|| self.by_what_is_used(pod, at))
            .or_else(|| self.by_volumes(pod, at))
            .or_else(|| pod.shape.spread.iter().find_map(|constraint| self.by_spread(pod, constraint, at)))
            .or_else(|| self.by_affinity(pod, at))
            .or_else(|| self.by_anti_affinity(pod, at))
    }

    fn by_what_is_used(&self, pod: &Pod, at: usize) -> Option<String> {
        let mut sum = Resources::default();
        let on = || self.present.iter().filter(|(_, site)| *site == at).map(|(other, _)| &other.shape);
        for shape in on() {
            sum.add(&shape.requests);
            let taken = |port: &HostPort| shape.host_ports.iter().any(|other| other.conflicts_with(port));
            if let Some(port) = pod.shape.host_ports.iter().find(|port| taken(port)) {
                return Some(format!("host port {} is taken", port.port));
            }
        }
        let mut free = self.sites[at].node.allocatable.clone();
        free.subtract(&sum);
        let short = pod.shape.requests.short_of(&free);
        (!short.is_empty()).then(|| {
            let names: Vec<String> = short.iter().map(ToString::to_string).collect();
            format!("there is not enough {}", names.join(", "))
        })
    }

    /// Volumes that are not plain are left to the scheduler.
    fn by_volumes(&self, pod: &Pod, at: usize) -> Option<String> {
        let needs = pod.shape.volumes.as_ref().filter(|needs| are_plain(needs))?;
        let node = self.sites[at].node;
        let mut attachments = Attachments::of(node.fittings.as_ref());
        for (other, _) in self.present.iter().filter(|(_, site)| *site == at) {
            if let Some(theirs) = &other.shape.volumes {
                attachments.put(theirs);
            }
        }
        (!suit(needs, &node.labels, &attachments)).then(|| "its volumes cannot be used there".into())
    }

    /// The domain of a site; machines that are not there yet have a host of their own.
    fn domain(&self, key: &str, at: usize) -> Option<String> {
        let site = &self.sites[at];
        if site.promised && key == HOSTNAME {
            return Some(format!("machine {at}"));
        }
        site.node.labels.get(key).map(ToString::to_string)
    }

    fn by_spread(&self, pod: &Pod, constraint: &SpreadConstraint, at: usize) -> Option<String> {
        let key = &*constraint.topology_key;
        let Some(here) = self.domain(key, at) else { return Some(format!("the node has no {key}")) };
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for site in (0..self.sites.len()).filter(|site| self.looks_at(pod, constraint, *site)) {
            counts
                .extend(self.domain(key, site).filter(|d| !counts.contains_key(d)).map(|domain| (domain, 0)));
        }
        let none = LabelSelector::default();
        let counted = constraint.selector.as_ref().filter(|selector| **selector != none);
        for (other, site) in &self.present {
            let matches = other.key.namespace == pod.key.namespace
                && other.deletion_at.is_none()
                && counted.is_some_and(|selector| selector.matches(&other.labels));
            if matches
                && self.looks_at(pod, constraint, *site)
                && let Some(count) = self.domain(key, *site).and_then(|domain| counts.get_mut(&domain))
            {
                *count += 1;
            }
        }
        let enough = counts.len() >= constraint.min_domains as usize;
        let fewest = counts.values().min().copied().filter(|_| enough).unwrap_or(0);
        let one = u32::from(constraint.selector.as_ref().is_some_and(|s| s.matches(&pod.labels)));
        let after = counts.get(&here).copied().unwrap_or(0) + one;
        (after > fewest + constraint.max_skew)
            .then(|| format!("{key} {here} would have {after} of its kind, where another has {fewest}"))
    }

    fn looks_at(&self, pod: &Pod, constraint: &SpreadConstraint, at: usize) -> bool {
        let node = self.sites[at].node;
        let honors = |policy: NodeInclusion| policy == NodeInclusion::Honor;
        pod.shape.spread.iter().all(|other| self.domain(&other.topology_key, at).is_some())
            && (!honors(constraint.node_affinity_policy) || wants(pod, node))
            && (!honors(constraint.node_taints_policy) || !node.taints.iter().any(|taint| repels(pod, taint)))
    }

    fn speaks_of(&self, term: &PodTerm, own: &str, other: &Pod) -> bool {
        let labels = self.namespaces.get(&other.key.namespace).map(|labels| &**labels);
        term.covers_namespace(own, &other.key.namespace, labels)
            && term.selector.as_ref().is_some_and(|selector| selector.matches(&other.labels))
    }

    fn together(&self, key: &str, a: usize, b: usize) -> bool {
        self.domain(key, a).is_some_and(|domain| self.domain(key, b) == Some(domain))
    }

    fn by_affinity(&self, pod: &Pod, at: usize) -> Option<String> {
        let terms = &pod.shape.pod_affinity;
        let suits = |other: &Pod| terms.iter().all(|term| self.speaks_of(term, &pod.key.namespace, other));
        let friends: BTreeSet<usize> = self
            .present
            .iter()
            .filter(|(other, _)| !terms.is_empty() && suits(other))
            .map(|(_, at)| *at)
            .collect();
        let somewhere =
            |site: &usize| terms.iter().any(|term| self.domain(&term.topology_key, *site).is_some());
        let first = !friends.iter().any(somewhere) && suits(pod);
        terms.iter().find_map(|term| {
            let key = &*term.topology_key;
            if self.domain(key, at).is_none() {
                return Some(format!("the node has no {key} to be near others in"));
            }
            let near = friends.iter().any(|site| self.together(key, *site, at));
            (!near && !first).then(|| format!("nobody that it wants to be near is in its {key}"))
        })
    }

    fn by_anti_affinity(&self, pod: &Pod, at: usize) -> Option<String> {
        let hostile = |from: &Pod, to: &Pod, site: usize| {
            let mut terms = from.shape.pod_anti_affinity.iter();
            terms.any(|term| {
                self.speaks_of(term, &from.key.namespace, to) && self.together(&term.topology_key, site, at)
            })
        };
        self.present.iter().find_map(|(other, site)| {
            if hostile(pod, other, *site) {
                return Some(format!("it wants to be apart from {}", other.key));
            }
            hostile(other, pod, *site).then(|| format!("{} wants to be apart from it", other.key))
        })
    }
}

fn by_node(pod: &Pod, node: &Node) -> Option<String> {
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        value: "".into(),
        effect: Effect::NoSchedule,
    };
    if node.unschedulable && !tolerates(pod, &cordon) {
        return Some("the node is cordoned".into());
    }
    if let Some(taint) = node.taints.iter().find(|taint| repels(pod, taint)) {
        return Some(format!("it does not tolerate {taint}"));
    }
    if !wants(pod, node) {
        return Some("its node selector or affinity wants another node".into());
    }
    pod.shape.unmodelled.first().map(|rule| format!("{rule} cannot be checked"))
}

fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.shape.tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

fn repels(pod: &Pod, taint: &Taint) -> bool {
    taint.effect != Effect::PreferNoSchedule && !tolerates(pod, taint)
}

fn wants(pod: &Pod, node: &Node) -> bool {
    pod.shape.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && pod
            .shape
            .node_affinity
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|term| term.matches(node.name.as_str(), &node.labels)))
}

#[cfg(test)]
mod tests;
