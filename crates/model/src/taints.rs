//! Taints of nodes and tolerations of pods.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Taint {
    pub key: Arc<str>,
    #[serde(default)]
    pub value: Arc<str>,
    pub effect: Effect,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}: {}}}", self.key, self.value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TolerationOperator {
    Equal,
    Exists,
}

/// What a pod puts up with. An absent key (with `Exists`) tolerates every key, an absent effect every effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Toleration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    pub operator: TolerationOperator,
    #[serde(default)]
    pub value: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && self.key.as_ref().is_none_or(|key| *key == taint.key)
            && match self.operator {
                TolerationOperator::Exists => true,
                TolerationOperator::Equal => self.key.is_some() && self.value == taint.value,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_follow_the_scheduler() {
        let taint = Taint { key: "dedicated".into(), value: "db".into(), effect: Effect::NoSchedule };
        let tolerates = |key: Option<&str>, operator, value: &str, effect| {
            Toleration { key: key.map(Arc::from), operator, value: value.into(), effect }.tolerates(&taint)
        };
        assert!(tolerates(None, TolerationOperator::Exists, "", None));
        assert!(tolerates(Some("dedicated"), TolerationOperator::Equal, "db", None));
        assert!(!tolerates(Some("dedicated"), TolerationOperator::Equal, "web", None));
        assert!(!tolerates(Some("dedicated"), TolerationOperator::Exists, "", Some(Effect::NoExecute)));
        assert!(!tolerates(None, TolerationOperator::Equal, "db", None));
    }
}
