//! One alert: who says what of which cluster, since when.
//!
//! Owns the noun and its identity. How bodies become alerts is `body`'s, what an alert leads to `decide`'s.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Whether the rule holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The rule's condition holds.
    Firing,
    /// It held, and holds no longer.
    Resolved,
}

/// One alert as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub status: Status,
    pub labels: BTreeMap<String, String>,
    /// What the sender calls this set of labels; computed from them where the sender does not.
    pub fingerprint: String,
    /// Since when the condition holds; `None` where the sender does not know.
    pub starts_at: Option<Timestamp>,
    /// Until when it held; `None` while it holds.
    pub ends_at: Option<Timestamp>,
}

impl Alert {
    /// A label's value; an empty one counts as absent, as everywhere in Prometheus.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first of several labels that is there.
    pub fn first_label(&self, names: &[String]) -> Option<&str> {
        names.iter().find_map(|name| self.label(name))
    }
}

/// A fingerprint of labels for senders that leave it out: equal labels, equal text.
pub(crate) fn fingerprint_of(labels: &BTreeMap<String, String>) -> String {
    use std::fmt::Write as _;
    let mut digest = Sha256::new();
    for (name, value) in labels {
        for part in [name, value] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
    }
    // As many digits as Prometheus' own fingerprints have.
    digest.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computed_fingerprints_tell_labels_apart() {
        let labels = |pairs: &[(&str, &str)]| {
            fingerprint_of(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        assert_eq!(labels(&[("a", "b")]), labels(&[("a", "b")]));
        assert_ne!(labels(&[("a", "bc")]), labels(&[("ab", "c")]));
        assert_eq!(labels(&[]).len(), 16);
    }
}
