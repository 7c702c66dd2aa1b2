//! The ConfigMap in which an algorithm's job leaves its result.
//!
//! Owns its keys: written as whole numbers, read leniently, since a job that others wrote puts `"1698231600.0": 4.0`.

use api::kapacity::{DataType, PortraitData, StaticPortrait, TimePoint, TimeSeries};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Points of a result.
const MOST_POINTS: usize = 10_000;

/// Data as the ConfigMap has it.
pub(super) fn written(data: &PortraitData) -> BTreeMap<String, String> {
    let points = data.time_series.iter().flat_map(|series| &series.time_series);
    let series: Map<String, Value> =
        points.map(|point| (point.timestamp.to_string(), Value::from(point.replicas))).collect();
    let mut out = BTreeMap::from([
        ("type".to_owned(), "TimeSeries".to_owned()),
        ("timeSeries".to_owned(), Value::Object(series).to_string()),
    ]);
    if let Some(expires) = &data.expire_time {
        out.insert("expireTime".to_owned(), expires.0.to_string());
    }
    out
}

/// Reads a result; the error names the key and the fix.
pub(crate) fn parse(result: &BTreeMap<String, String>) -> Result<PortraitData, String> {
    let expire_time = match result.get("expireTime") {
        None => None,
        Some(text) => Some(Time(text.parse::<Timestamp>().map_err(|_| {
            format!("key expireTime: {text:?} is no time; write RFC 3339 such as 2026-01-05T09:30:00Z")
        })?)),
    };
    let kind = result.get("type").ok_or("key type is missing; write TimeSeries")?;
    match &**kind {
        "TimeSeries" => {
            let text = result.get("timeSeries").ok_or("key timeSeries is missing")?;
            let points: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| {
                format!("key timeSeries: {error}; write an object of seconds and replicas, such as {{\"1698231600\": 4}}")
            })?;
            Ok(PortraitData {
                type_: DataType::TimeSeries,
                time_series: Some(TimeSeries { time_series: series(&points)? }),
                expire_time,
                ..PortraitData::default()
            })
        }
        "Static" => {
            let text = result.get("replicas").ok_or("key replicas is missing")?;
            let replicas = text
                .trim()
                .parse()
                .ok()
                .filter(|count| *count >= 0)
                .ok_or_else(|| format!("key replicas: {text:?} is no whole number of zero or more"))?;
            Ok(PortraitData {
                type_: DataType::Static,
                static_: Some(StaticPortrait { replicas }),
                expire_time,
                ..PortraitData::default()
            })
        }
        other => Err(format!("key type: {other:?} is not served; write TimeSeries or Static")),
    }
}

fn series(points: &BTreeMap<String, Value>) -> Result<Vec<TimePoint>, String> {
    if points.is_empty() || points.len() > MOST_POINTS {
        return Err(format!("key timeSeries: {} points; give 1 to {MOST_POINTS}", points.len()));
    }
    let whole = |value: f64, most: f64| {
        (value.is_finite() && value >= 0.0 && value <= most && value.fract() == 0.0).then_some(value)
    };
    let mut series = points
        .iter()
        .map(|(at, replicas)| {
            let seconds = at.trim().parse::<f64>().ok().and_then(|seconds| whole(seconds, 1e11));
            let count = replicas.as_f64().and_then(|count| whole(count, f64::from(i32::MAX)));
            match (seconds, count) {
                (Some(seconds), Some(count)) => {
                    Ok(TimePoint { timestamp: seconds as i64, replicas: count as i32 })
                }
                _ => Err(format!(
                    "key timeSeries: {at:?}: {replicas} is not whole seconds and a whole number of replicas"
                )),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    series.sort_by_key(|point| point.timestamp);
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn three_ordered_points_and_when_they_expire() {
        let data = parse(&result(&[
            ("type", "TimeSeries"),
            ("expireTime", "2023-09-21T12:05:51Z"),
            ("timeSeries", r#"{"1695291000":9,"1695290760":3,"1695290880":6}"#),
        ]))
        .unwrap();
        let points = &data.time_series.as_ref().unwrap().time_series;
        let points: Vec<_> = points.iter().map(|point| (point.timestamp, point.replicas)).collect();
        assert_eq!(points, [(1_695_290_760, 3), (1_695_290_880, 6), (1_695_291_000, 9)]);
        assert_eq!(data.expire_time.as_ref().unwrap().0.to_string(), "2023-09-21T12:05:51Z");
        assert_eq!(parse(&written(&data)), Ok(data));
    }

    #[test]
    fn what_the_original_writes_is_read() {
        let text = r#"{"1698231600.0":4.0}"#;
        let data = parse(&result(&[("type", "TimeSeries"), ("timeSeries", text)])).unwrap();
        let point = data.time_series.unwrap().time_series[0];
        assert_eq!((point.timestamp, point.replicas), (1_698_231_600, 4));
        let fixed = parse(&result(&[("type", "Static"), ("replicas", "3")])).unwrap();
        assert_eq!(fixed.static_.unwrap().replicas, 3);
    }

    #[test]
    fn what_cannot_be_read_names_the_key() {
        let wrong = |pairs: &[(&str, &str)]| parse(&result(pairs)).unwrap_err();
        assert!(wrong(&[]).contains("type"));
        assert!(wrong(&[("type", "TimeSeries")]).contains("timeSeries"));
        assert!(wrong(&[("type", "Cron")]).contains("not served"));
        let series = |text: &str| wrong(&[("type", "TimeSeries"), ("timeSeries", text)]);
        assert!(series("4").contains("an object"));
        assert!(series("{}").contains("0 points"));
        assert!(series(r#"{"soon": 4}"#).contains("soon"));
        assert!(series(r#"{"1698231600": null}"#).contains("null"));
        let late = wrong(&[("type", "TimeSeries"), ("timeSeries", r#"{"1":1}"#), ("expireTime", "x")]);
        assert!(late.contains("expireTime"));
    }
}
