//! What can go wrong with a simulated machine.
//!
//! Owns the faults, the rules that deal them out, and their text form: a fault is written on the machine as an
//! annotation when the machine is made, so that a restarted cloud carries on with it and a user can cause one with
//! `kubectl annotate simmachine NAME tideline.dev/fault=never-joins`.

use jiff::Timestamp;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::time::Duration;

/// On a simulated machine: its [`MachineFault`].
pub const FAULT: &str = "tideline.dev/fault";
/// On a node: `dead`, `never-ready` or `not-ready-after:SECONDS`, obeyed by its simulated kubelet.
pub const KUBELET: &str = "tideline.dev/kubelet";

/// One thing that goes wrong with one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineFault {
    /// Stays Creating.
    NeverJoins,
    /// Ends Failed with the cloud's own code when it should have joined.
    Fails { code: String },
    /// Joins, and its node never gets Ready.
    NeverReady,
    /// Its kubelet falls silent some time after joining.
    NotReadyAfter(Duration),
    /// The cloud takes the machine away some time after it joined.
    VanishesAfter(Duration),
}

impl MachineFault {
    /// Reads the text form; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, argument) = text.split_once(':').unwrap_or((text, ""));
        let seconds = || argument.parse().ok().map(Duration::from_secs);
        match kind {
            "never-joins" => Some(Self::NeverJoins),
            "fails" => {
                let code = if argument.is_empty() { "OutOfStock" } else { argument };
                Some(Self::Fails { code: code.into() })
            }
            "never-ready" => Some(Self::NeverReady),
            "not-ready-after" => seconds().map(Self::NotReadyAfter),
            "vanishes-after" => seconds().map(Self::VanishesAfter),
            _ => None,
        }
    }

    /// What the node's kubelet is told, where the fault is its to show.
    pub(crate) fn for_kubelet(&self) -> Option<String> {
        match self {
            Self::NeverReady | Self::NotReadyAfter(_) => Some(self.to_string()),
            Self::NeverJoins | Self::Fails { .. } | Self::VanishesAfter(_) => None,
        }
    }
}

impl fmt::Display for MachineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverJoins => f.write_str("never-joins"),
            Self::Fails { code } => write!(f, "fails:{code}"),
            Self::NeverReady => f.write_str("never-ready"),
            Self::NotReadyAfter(after) => write!(f, "not-ready-after:{}", after.as_secs()),
            Self::VanishesAfter(after) => write!(f, "vanishes-after:{}", after.as_secs()),
        }
    }
}

/// Deals a fault to some of the machines that are made while it holds.
#[derive(Clone, Debug)]
pub struct MachineFaultRule {
    /// Every pool where absent.
    pub pool: Option<String>,
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Share of the machines that get it, in thousandths.
    pub per_mille: u32,
    pub fault: MachineFault,
}

/// The fault of a machine made now: that of the first rule that holds and whose draw hits.
///
/// Each draw depends on the seed, the machine's name and the rule's place only, not on what was drawn before.
pub(crate) fn draw(
    rules: &[MachineFaultRule],
    seed: u64,
    pool: &str,
    machine: &str,
    now: Timestamp,
) -> Option<MachineFault> {
    let holds = |rule: &MachineFaultRule| {
        rule.pool.as_deref().is_none_or(|p| p == pool)
            && rule.from.is_none_or(|from| from <= now)
            && rule.until.is_none_or(|until| now < until)
    };
    rules
        .iter()
        .enumerate()
        .find(|(place, rule)| {
            holds(rule)
                && generator(seed, &format!("{machine}/fault/{place}")).random_range(0..1000) < rule.per_mille
        })
        .map(|(_, rule)| rule.fault.clone())
}

/// A generator for one purpose, named by a text: machines are independent of each other and of their order.
pub(crate) fn generator(seed: u64, purpose: &str) -> ChaCha8Rng {
    // FNV-1a: stable across platforms and releases, unlike the standard library's hashers.
    let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ChaCha8Rng::seed_from_u64(seed ^ hash)
}

/// A duration drawn evenly from `min..=max`, in milliseconds.
pub(crate) fn draw_between(seed: u64, purpose: &str, min: Duration, max: Duration) -> Duration {
    let (min, max) = (min.as_millis() as u64, max.as_millis() as u64);
    Duration::from_millis(generator(seed, purpose).random_range(min..=max.max(min)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_survive_their_text_form() {
        for fault in [
            MachineFault::NeverJoins,
            MachineFault::Fails { code: "OutOfStock".into() },
            MachineFault::NeverReady,
            MachineFault::NotReadyAfter(Duration::from_secs(90)),
            MachineFault::VanishesAfter(Duration::from_secs(5)),
        ] {
            assert_eq!(MachineFault::parse(&fault.to_string()), Some(fault));
        }
        assert_eq!(MachineFault::parse("not-ready-after:soon"), None);
    }

    #[test]
    fn rules_hit_their_share_of_machines() {
        let rule = MachineFaultRule {
            pool: Some("a".into()),
            from: None,
            until: None,
            per_mille: 250,
            fault: MachineFault::NeverJoins,
        };
        let now = Timestamp::UNIX_EPOCH;
        let hit = (0..1000)
            .filter(|n| draw(std::slice::from_ref(&rule), 7, "a", &format!("a-{n}"), now).is_some())
            .count();
        assert!((200..300).contains(&hit), "{hit}");
        assert_eq!(draw(&[rule], 7, "b", "b-1", now), None);
    }
}
