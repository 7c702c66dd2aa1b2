//! What pods ask for and nodes offer, in integer units.
//!
//! Owns the arithmetic (saturating: absurd requests must not wrap into small ones); reading Kubernetes quantities
//! into these units is the `intake` crate's.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Thousandths of a CPU core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliCpu(pub u64);

/// Bytes of memory or disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// Name of an extended resource, such as `nvidia.com/gpu`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceName(pub Arc<str>);

impl ResourceName {
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(Arc::from(name.as_ref()))
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        for (size, suffix) in UNITS {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{suffix}", self.0 / size);
            }
        }
        for (size, suffix) in UNITS {
            if self.0 >= 10 * size {
                return write!(f, "{:.1}{suffix}", self.0 as f64 / size as f64);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A vector of resources: a pod's requests, a node's allocatable, or what is left of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    #[serde(default)]
    pub cpu: MilliCpu,
    #[serde(default)]
    pub memory: Bytes,
    #[serde(default)]
    pub ephemeral_storage: Bytes,
    /// Number of pods: 1 in a pod's request, the kubelet's limit in a node's allocatable.
    #[serde(default)]
    pub pods: u32,
    /// Extended resources and huge pages, in whole units or bytes; zero amounts are not kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extended: BTreeMap<ResourceName, u64>,
}

impl Resources {
    /// Adds `other`, saturating at the largest representable amount.
    pub fn add(&mut self, other: &Self) {
        self.cpu.0 = self.cpu.0.saturating_add(other.cpu.0);
        self.memory.0 = self.memory.0.saturating_add(other.memory.0);
        self.ephemeral_storage.0 = self.ephemeral_storage.0.saturating_add(other.ephemeral_storage.0);
        self.pods = self.pods.saturating_add(other.pods);
        for (name, amount) in &other.extended {
            let sum = self.extended.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes `other` away, stopping at zero (an overcommitted node has nothing free, not a negative amount).
    pub fn subtract(&mut self, other: &Self) {
        self.cpu.0 = self.cpu.0.saturating_sub(other.cpu.0);
        self.memory.0 = self.memory.0.saturating_sub(other.memory.0);
        self.ephemeral_storage.0 = self.ephemeral_storage.0.saturating_sub(other.ephemeral_storage.0);
        self.pods = self.pods.saturating_sub(other.pods);
        for (name, amount) in &other.extended {
            if let Some(left) = self.extended.get_mut(name) {
                *left = left.saturating_sub(*amount);
            }
        }
    }

    /// The names of the resources of which `free` has less than `self` asks, in the scheduler's order.
    ///
    /// A resource that is not asked for never counts as short, even on an overcommitted node; `pods` is always
    /// asked for. Empty means that it fits.
    pub fn short_of(&self, free: &Self) -> Vec<ResourceName> {
        let mut short = Vec::new();
        if self.pods > free.pods {
            short.push(ResourceName::new("pods"));
        }
        if self.cpu > free.cpu {
            short.push(ResourceName::new("cpu"));
        }
        if self.memory > free.memory {
            short.push(ResourceName::new("memory"));
        }
        if self.ephemeral_storage > free.ephemeral_storage {
            short.push(ResourceName::new("ephemeral-storage"));
        }
        for (name, amount) in &self.extended {
            if *amount > free.extended.get(name).copied().unwrap_or(0) {
                short.push(name.clone());
            }
        }
        short
    }

    /// Whether `self` fits into `free`; the allocation-free form of [`Self::short_of`].
    pub fn fits(&self, free: &Self) -> bool {
        self.pods <= free.pods
            && self.cpu <= free.cpu
            && self.memory <= free.memory
            && self.ephemeral_storage <= free.ephemeral_storage
            && self
                .extended
                .iter()
                .all(|(name, amount)| *amount <= free.extended.get(name).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_print_as_an_operator_writes_them() {
        assert_eq!(MilliCpu(250).to_string(), "250m");
        assert_eq!(MilliCpu(2000).to_string(), "2");
        assert_eq!(Bytes(512 << 20).to_string(), "512Mi");
        assert_eq!(Bytes(1000).to_string(), "1000");
    }

    #[test]
    fn a_resource_that_is_not_asked_for_is_never_short() {
        let free = Resources { pods: 1, ..Default::default() };
        let request = Resources { pods: 1, ..Default::default() };
        assert!(request.fits(&free));
        let request = Resources { cpu: MilliCpu(1), pods: 1, ..Default::default() };
        assert_eq!(request.short_of(&free), vec![ResourceName::new("cpu")]);
    }

    #[test]
    fn absurd_requests_saturate() {
        let mut sum = Resources { cpu: MilliCpu(u64::MAX), ..Default::default() };
        sum.add(&Resources { cpu: MilliCpu(5), ..Default::default() });
        assert_eq!(sum.cpu, MilliCpu(u64::MAX));
    }
}
