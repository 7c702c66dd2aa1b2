//! Prometheus' answers: vectors, matrices, series.
//!
//! Owns the wire form. What an answer means for a query is the source's business.

use crate::{Omission, Point};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// An answer's envelope. `status` is "error" with a failing HTTP status only, which was looked at before.
#[derive(Deserialize)]
pub(super) struct Envelope<T> {
    pub(super) data: T,
    /// What Thanos and others leave out, for one.
    #[serde(default)]
    warnings: Vec<String>,
}

impl<T> Envelope<T> {
    pub(super) fn omissions(&self) -> impl Iterator<Item = Omission> {
        let said = |warning: &String| Omission {
            what: "Prometheus".into(),
            why: format!("warns: {warning}").into(),
        };
        self.warnings.iter().map(said)
    }
}

/// The result of a query, by its type.
#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum Data {
    Vector(Vec<Instant>),
    Matrix(Vec<Stretch>),
    Scalar(RawPoint),
    /// A text: no query for numbers yields one.
    String(IgnoredAny),
}

pub(super) type RawLabels = BTreeMap<Arc<str>, Arc<str>>;

#[derive(Deserialize)]
pub(super) struct Instant {
    #[serde(default)]
    pub(super) metric: RawLabels,
    pub(super) value: RawPoint,
}

#[derive(Deserialize)]
pub(super) struct Stretch {
    #[serde(default)]
    pub(super) metric: RawLabels,
    pub(super) values: Vec<RawPoint>,
}

/// Seconds, and the value as text so that it may be `NaN` or `+Inf`.
#[derive(Deserialize)]
pub(super) struct RawPoint(f64, String);

impl RawPoint {
    /// `None` where the value is no number that can be used.
    pub(super) fn point(&self) -> Option<Point> {
        let value: f64 = self.1.parse().ok().filter(|value: &f64| value.is_finite())?;
        Some(Point { at: Timestamp::from_millisecond((self.0 * 1000.0).round() as i64).ok()?, value })
    }
}

/// The names of series, and which labels each has, without the labels' values.
#[derive(Debug, Default)]
pub(super) struct SeriesLabels(pub(super) BTreeMap<String, BTreeSet<Arc<str>>>);

impl<'de> Deserialize<'de> for SeriesLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(All)
    }
}

struct All;

impl<'de> Visitor<'de> for All {
    type Value = SeriesLabels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut series: A) -> Result<SeriesLabels, A::Error> {
        let mut all = SeriesLabels::default();
        while let Some(One(name, labels)) = series.next_element()? {
            all.0.entry(name).or_default().extend(labels);
        }
        Ok(all)
    }
}

struct One(String, Vec<Arc<str>>);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Labels;
        impl<'de> Visitor<'de> for Labels {
            type Value = One;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the labels of a series")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<One, A::Error> {
                let (mut name, mut labels) = (String::new(), Vec::new());
                while let Some(label) = map.next_key::<Arc<str>>()? {
                    if &*label == "__name__" {
                        name = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                        labels.push(label);
                    }
                }
                Ok(One(name, labels))
            }
        }
        deserializer.deserialize_map(Labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_what_is_no_number_is_none() {
        let text = r#"{"status":"success","warnings":["half"],"data":{"resultType":"vector","result":[
            {"metric":{"pod":"a"},"value":[1700000000.5,"0.25"]},{"metric":{},"value":[1,"NaN"]}]}}"#;
        let answer: Envelope<Data> = serde_json::from_str(text).unwrap();
        assert_eq!(&*answer.omissions().next().unwrap().why, "warns: half");
        let Data::Vector(instants) = answer.data else { panic!("no vector") };
        assert_eq!(instants[0].value.point().unwrap().at.as_millisecond(), 1_700_000_000_500);
        assert!(instants[1].value.point().is_none());
    }

    #[test]
    fn series_are_folded_by_name() {
        let text = r#"[{"__name__":"up","a":"1"},{"b":"2","__name__":"up"},{"__name__":"down"}]"#;
        let series: SeriesLabels = serde_json::from_str(text).unwrap();
        assert_eq!(series.0["up"].len(), 2);
        assert!(series.0["down"].is_empty());
    }
}
