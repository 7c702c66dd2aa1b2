//! The history of scalings as people read it: one key a cluster, a JSON array of alert and time.
//!
//! Owns the text's form, its bound, and the repair from what the MachineDeployments remember. Where the ConfigMap is
//! kept is `store`'s.

use crate::record::Scaling;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Entries kept for a cluster; the oldest go first.
const MOST: usize = 100;

/// One scaling of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub alert_name: String,
    /// In Unix seconds.
    pub scale_time: i64,
    /// What others wrote into it stays.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A cluster's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Oldest first.
    pub entries: Vec<Entry>,
}

impl History {
    /// Reads a value of the ConfigMap; an absent or blank one is an empty history.
    pub fn read(text: Option<&str>) -> Result<Self, String> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(Self::default()) };
        let entries = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(Self { entries })
    }

    /// The value of the ConfigMap.
    pub fn write(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.entries).unwrap_or_else(|_| "[]".to_owned());
        text.push('\n');
        text
    }

    /// Adds the scalings that are missing, in order, and drops what is over the bound. True: something was missing.
    pub fn repair<'a>(&mut self, scalings: impl Iterator<Item = &'a Scaling>) -> bool {
        let before = self.entries.clone();
        let mut known: BTreeMap<(String, i64), usize> = BTreeMap::new();
        for entry in &self.entries {
            *known.entry((entry.alert_name.clone(), entry.scale_time)).or_default() += 1;
        }
        for scaling in scalings {
            // Two scalings of one name in one second are two entries.
            let count = known.entry((scaling.alert_name.clone(), scaling.scale_time)).or_default();
            if *count > 0 {
                *count -= 1;
                continue;
            }
            self.entries.push(Entry {
                alert_name: scaling.alert_name.clone(),
                scale_time: scaling.scale_time,
                other: Map::new(),
            });
        }
        if self.entries.len() == before.len() {
            return false;
        }
        self.entries.sort_by_key(|entry| entry.scale_time);
        let excess = self.entries.len().saturating_sub(MOST);
        self.entries.drain(..excess);
        self.entries != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"[
  {
    "alert_name": "autoscaler/cluster.resource.request.cpu.utilization-4pBud",
    "scale_time": 1749189108
  },
  {
    "alert_name": "autoscaler/cluster.resource.request.cpu.utilization-4pBud",
    "scale_time": 1749191210
  }
]
"#;

    fn scaling(name: &str, scale_time: i64) -> Scaling {
        let (fingerprint, alert_name) = (String::new(), name.to_owned());
        let by = String::new();
        Scaling { fingerprint, starts_at: None, scale_time, alert_name, from: 1, to: 2, by }
    }

    #[test]
    fn the_documents_sample_reads_and_writes_the_same() {
        let history = History::read(Some(SAMPLE)).unwrap();
        assert_eq!(history.entries.len(), 2);
        assert_eq!(history.write(), SAMPLE);
        assert_eq!(History::read(None), Ok(History::default()));
        assert!(History::read(Some("{}")).is_err());
        assert!(History::read(Some("[{\"alert_name\": \"a\"}]")).is_err());
    }

    #[test]
    fn repair_adds_what_is_missing_once() {
        let mut history = History::read(Some(SAMPLE)).unwrap();
        let missing = [scaling("a/b", 1_749_190_000), scaling("a/b", 1_749_190_000)];
        assert!(history.repair(missing.iter()));
        assert_eq!(
            history.entries.iter().map(|entry| entry.scale_time % 10_000).collect::<Vec<_>>(),
            [9108, 0, 0, 1210]
        );
        assert!(!history.repair(missing.iter()));
    }

    #[test]
    fn the_history_is_bounded_and_stays_so() {
        let scalings: Vec<Scaling> = (0..150).map(|second| scaling("a/b", second)).collect();
        let mut history = History::default();
        assert!(history.repair(scalings.iter()));
        assert_eq!(history.entries.len(), MOST);
        assert_eq!(history.entries[0].scale_time, 50);
        assert!(!history.repair(scalings.iter()), "what was dropped stays dropped");
    }
}
