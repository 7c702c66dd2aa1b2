//! Machines of direct pools: what is asked for when one is launched, and what is known of it afterwards.
//!
//! Owns the nouns and the naming of claims. Who writes claims and launches machines is the controller's business.

use crate::{Flavour, MachineId, Resources};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Letters of generated names: those that Kubernetes itself uses, which spell no words.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

/// Machines of a direct pool that are alike: what is asked for, and what they are bought for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// The names of their claims, so that a launch that is asked for again is the same one.
    pub names: Vec<Arc<str>>,
    /// The kind of node that the plan counts on.
    pub flavour: Arc<Flavour>,
    /// Types that hold the same pods, cheapest first, the flavour's own among them.
    pub types: Vec<Arc<str>>,
    /// What its pods and the DaemonSets' ask for.
    pub requests: Resources,
    /// Pods that it was bought for, by fingerprint of their shape.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub serves: BTreeMap<u64, u32>,
}

/// What is known of a machine that was launched by itself and not as one of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectMachine {
    /// What it is, or until it is launched what it is planned to be.
    pub flavour: Arc<Flavour>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub serves: BTreeMap<u64, u32>,
    /// Since when its node has been whole: registered, ready, its resources there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialized_at: Option<Timestamp>,
    /// When a pod last came to it or left it, `DaemonSet`s' apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pod_event_at: Option<Timestamp>,
    /// It is no longer what its pool asks for: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drifted: Option<Arc<str>>,
    /// When it is to be replaced for its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How long its drain may take before pods are deleted without asking; without end where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace: Option<SignedDuration>,
}

/// The id of the machine that a claim stands for.
pub fn claimed_machine(claim: &str) -> MachineId {
    MachineId::from(format!("nodeclaim/{claim}"))
}

/// The claim that stands for a machine of a direct pool.
pub fn claim_of(machine: &MachineId) -> Option<&str> {
    machine.as_str().strip_prefix("nodeclaim/")
}

/// The name of a pool's claim: always the same for one seed, hardly ever the same for two.
pub fn claim_name(pool: &str, seed: u64) -> Arc<str> {
    let mut rest = spread(seed);
    let letters = (0..SUFFIX_LENGTH).map(|_| {
        let letter = LETTERS[usize::try_from(rest % LETTERS.len() as u64).unwrap_or(0)];
        rest /= LETTERS.len() as u64;
        char::from(letter)
    });
    Arc::from(format!("{pool}-{}", letters.collect::<String>()))
}

/// The finalizer of splitmix64: every bit of the seed moves every bit of the answer.
fn spread(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_differ() {
        let name = claim_name("default", 7);
        assert_eq!(name, claim_name("default", 7));
        assert_eq!(name.len(), "default-cqq8l".len());
        let many: std::collections::BTreeSet<_> = (0..1000).map(|seed| claim_name("default", seed)).collect();
        assert!(many.len() > 995, "{}", many.len());
        assert_eq!(claim_of(&claimed_machine("default-cqq8l")), Some("default-cqq8l"));
    }
}
