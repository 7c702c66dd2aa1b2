//! Topology rules on hostname, kept by node.
//!
//! Owns the counts of a node and the caps that pods on it impose. Spread and anti-affinity are one thing here: a pod
//! that carries such a rule allows at most so many pods of the tally on its node, and the cap stays while the pod
//! does. So the finished placement keeps every rule, in whatever order the pods come.

use super::problem::Rule;
use super::units::{UNCAPPED, Variant};

/// What one node knows of one tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tally: u32,
    count: u32,
    /// From spread: over the floor of the tally.
    skew: u32,
    /// From anti-affinity.
    cap: u32,
}

/// The hostname tallies of one node; those that it does not list are empty and without caps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostCounts {
    entries: Vec<Entry>,
}

/// What holds over all nodes for hostname tallies.
#[derive(Clone, Debug, Default)]
pub(super) struct HostTotals {
    /// Pods of each tally, to know whether the first pod may found an affinity.
    pub total: Vec<u32>,
    /// The fewest pods of each tally on any node that counts; 0 as soon as new nodes may come.
    pub floor: Vec<u32>,
}

impl HostCounts {
    fn get(&self, tally: usize) -> Entry {
        let none = Entry { tally: tally as u32, count: 0, skew: UNCAPPED, cap: UNCAPPED };
        self.entries.iter().find(|entry| entry.tally == tally as u32).copied().unwrap_or(none)
    }

    fn entry(&mut self, tally: usize) -> &mut Entry {
        let at = self.entries.iter().position(|entry| entry.tally == tally as u32).unwrap_or_else(|| {
            self.entries.push(Entry { tally: tally as u32, count: 0, skew: UNCAPPED, cap: UNCAPPED });
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }

    pub(super) fn count(&self, tally: usize) -> u32 {
        self.get(tally).count
    }

    /// Pods that are there from the beginning.
    pub(super) fn start(&mut self, tally: usize, count: u32) {
        self.entry(tally).count = count;
    }

    /// A pod that is there from the beginning refuses all members.
    pub(super) fn forbid(&mut self, tally: usize) {
        self.entry(tally).cap = 0;
    }

    /// How many more pods of a variant the hostname rules allow here.
    pub(super) fn allowed<const D: usize>(&self, variant: &Variant<D>, totals: &HostTotals) -> u32 {
        let mut most = UNCAPPED;
        for &tally in &variant.host_members {
            let entry = self.get(tally);
            let cap = entry.cap.min(entry.skew.saturating_add(totals.floor[tally]));
            most = most.min(cap.saturating_sub(entry.count));
        }
        for rule in &variant.host_rules {
            let tally = rule.tally();
            let (count, own) = (self.count(tally), variant.host_members.contains(&tally));
            let cap = match *rule {
                Rule::Spread { max_skew, .. } => totals.floor[tally].saturating_add(max_skew),
                Rule::Anti { .. } => u32::from(own),
                Rule::Affinity { .. } if count > 0 || (own && totals.total[tally] == 0) => continue,
                Rule::Affinity { .. } => return 0,
            };
            most = match (own, count > cap) {
                (_, true) => 0,
                (true, false) => most.min(cap - count),
                (false, false) => most,
            };
        }
        most
    }

    /// Counts pods of a variant that were placed here.
    pub(super) fn add<const D: usize>(&mut self, variant: &Variant<D>, count: u32) {
        for &tally in &variant.host_members {
            self.entry(tally).count += count;
        }
        for rule in &variant.host_rules {
            let own = variant.host_members.contains(&rule.tally());
            match *rule {
                Rule::Spread { tally, max_skew, .. } => {
                    let entry = self.entry(tally);
                    entry.skew = entry.skew.min(max_skew);
                }
                Rule::Anti { tally } => {
                    let entry = self.entry(tally);
                    entry.cap = entry.cap.min(u32::from(own));
                }
                Rule::Affinity { .. } => {}
            }
        }
    }
}
