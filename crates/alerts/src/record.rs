//! What a MachineDeployment remembers of the alerts that scaled it: an annotation, written with the new size.
//!
//! Owns the annotation's form, its bound, and the answer to "did this alert act already". One write carries size and
//! record, so a crash can neither double a scaling nor lose one; the history is repaired from it.

use crate::alert::Alert;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The annotation.
pub const ANNOTATION: &str = "tideline.dev/alert-scalings";
/// Scalings remembered on one MachineDeployment; a day of them where alerts may scale every half hour.
const MOST: usize = 64;

/// One scaling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    pub fingerprint: String,
    pub starts_at: Option<Timestamp>,
    /// In Unix seconds, as the history has it.
    pub scale_time: i64,
    pub alert_name: String,
    pub from: u32,
    pub to: u32,
    /// The replica that wrote it: one of two that take the same alert at once finds its write by this name.
    #[serde(default)]
    pub by: String,
}

impl Scaling {
    /// Whether this scaling was for that alert. Without its beginning, deliveries of an alert cannot be told apart,
    /// and the interval alone guards.
    pub fn was_for(&self, alert: &Alert) -> bool {
        alert.starts_at.is_some()
            && self.starts_at == alert.starts_at
            && self.fingerprint == alert.fingerprint
    }

    /// When it was.
    pub fn at(&self) -> Timestamp {
        moment(self.scale_time)
    }
}

/// Unix seconds as a time; those out of any calendar's range as the nearest end of it.
pub(crate) fn moment(unix_seconds: i64) -> Timestamp {
    Timestamp::from_second(unix_seconds).unwrap_or(if unix_seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// The annotation's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Oldest first.
    pub scalings: Vec<Scaling>,
    /// Alerts that began no later may have scaled without being remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten_up_to: Option<Timestamp>,
}

impl Record {
    /// Reads the annotation; an absent one remembers nothing. A damaged one is an error, because guessing could
    /// scale twice.
    pub fn read(annotation: Option<&String>) -> Result<Self, String> {
        let Some(text) = annotation else { return Ok(Self::default()) };
        serde_json::from_str(text).map_err(|error| {
            format!(
                "annotation {ANNOTATION} is damaged ({error}); put back what stood there, or remove it to forget \
                 which alerts scaled"
            )
        })
    }

    /// The annotation's text.
    pub fn write(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Remembers one more scaling, and what is forgotten for it.
    pub fn push(&mut self, scaling: Scaling) {
        self.scalings.push(scaling);
        let excess = self.scalings.len().saturating_sub(MOST);
        for forgotten in self.scalings.drain(..excess) {
            self.forgotten_up_to = self.forgotten_up_to.max(forgotten.starts_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling(second: i64) -> Scaling {
        Scaling {
            fingerprint: "f".into(),
            starts_at: Some(moment(second)),
            scale_time: second,
            alert_name: "rule/alert".into(),
            from: 1,
            to: 2,
            by: "us".into(),
        }
    }

    #[test]
    fn the_record_is_bounded_and_knows_what_it_forgot() {
        let mut record = Record::default();
        for second in 0..MOST as i64 + 3 {
            record.push(scaling(second));
        }
        assert_eq!(record.scalings.len(), MOST);
        assert_eq!(record.forgotten_up_to, Some(moment(2)));
        assert_eq!(Record::read(Some(&record.write())), Ok(record));
    }

    #[test]
    fn a_damaged_record_is_no_empty_one() {
        assert_eq!(Record::read(None), Ok(Record::default()));
        for text in ["", "{", "[]", "{\"scalings\": 3}"] {
            assert!(Record::read(Some(&text.to_owned())).unwrap_err().contains(ANNOTATION), "{text}");
        }
    }
}
