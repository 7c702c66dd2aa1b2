//! Bodies that are read, and what is said of those that are not.

use super::*;
use serde_json::{Value, json};

/// The platform's template, filled in as its renderer does: without escaping.
fn rendered(generator_url: &str, labels: &Value) -> String {
    let template = include_str!("../../../../tests/seeds/000-alert-triggered/webhook-template.txt");
    template
        .replace("{{ MarshalIndent .annotations \"  \" \"  \"}}", "{\n    \"a\": \"b\"\n  }")
        .replace("{{ MarshalIndent .labels \"  \" \"  \"}}", &serde_json::to_string_pretty(labels).unwrap())
        .replace("{{ .startsAt }}", "2025-06-06 05:51:48 +0000 UTC")
        .replace("{{ .endsAt }}", "0001-01-01 00:00:00 +0000 UTC")
        .replace("{{ .status }}", "firing")
        .replace("{{ .fingerprint }}", "6f1a2b3c4d5e6f70")
        .replace("{{ .generatorURL }}", generator_url)
}

#[test]
fn what_the_template_renders_is_read() {
    let alert = platform(rendered("http://x/graph", &json!({"alert_cluster": "c"})).as_bytes()).unwrap();
    assert_eq!(alert.status, Status::Firing);
    assert_eq!(alert.label("alert_cluster"), Some("c"));
    assert_eq!(alert.fingerprint, "6f1a2b3c4d5e6f70");
    assert_eq!(alert.starts_at.unwrap().to_string(), "2025-06-06T05:51:48Z");
    assert_eq!(alert.ends_at, None);
    let null = platform(rendered("", &Value::Null).as_bytes()).unwrap();
    assert!(null.labels.is_empty());
}

#[test]
fn a_quote_in_a_value_names_the_field_that_it_breaks() {
    let body = rendered("http://x/graph?g0.expr=up{job=\"node\"}", &json!({}));
    let error = platform(body.as_bytes()).unwrap_err();
    assert_eq!(error.field, "generatorURL");
    assert!(error.problem.contains("does not escape"), "{error}");
}

#[test]
fn every_wrong_field_is_named() {
    let good = json!({"labels": {}, "status": "firing", "startsAt": "", "fingerprint": "f"});
    for (field, value, named) in [
        ("status", json!("burning"), "status"),
        ("status", Value::Null, "status"),
        ("labels", json!({"a": 1}), "labels.a"),
        ("labels", json!([]), "labels"),
        ("startsAt", json!("soon"), "startsAt"),
        ("endsAt", json!(7), "endsAt"),
        ("fingerprint", json!("x".repeat(200)), "fingerprint"),
        ("replicas", json!(9), "replicas"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let error = platform(body.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains(named), "{field}: {error}");
    }
    let error = platform(b"{\"labels\": {}}").unwrap_err();
    assert!(error.problem.contains("status"), "{error}");
}

#[test]
fn texts_that_are_no_json_are_refused() {
    for body in [
        &b""[..],
        b"  ",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"null",
        b"{}{}",
        b"{\"status\": \"firing\"",
        b"\"\\ud800\"",
    ] {
        assert!(platform(body).is_err(), "{body:?}");
        assert!(alertmanager(body).is_err(), "{body:?}");
    }
    let deep = format!("{{\"annotations\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(platform(deep.as_bytes()).is_err());
    let deep = format!("{{\"x\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(alertmanager(deep.as_bytes()).is_err());
}

#[test]
fn alertmanagers_body_is_read_in_the_order_of_time() {
    let alert = |fingerprint: &str, starts: &str| {
        json!({"status": "firing", "labels": {"alertname": "A"}, "annotations": {}, "startsAt": starts,
               "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": fingerprint})
    };
    let body = json!({
        "version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "r",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://x",
        "alerts": [alert("b", "2025-06-06T06:00:00Z"), alert("c", "2025-06-06T05:00:00Z"), alert("a", "2025-06-06T06:00:00Z")],
    });
    let alerts = alertmanager(body.to_string().as_bytes()).unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.fingerprint.as_str()).collect::<Vec<_>>(), ["c", "a", "b"]);
    let mut newer = body.clone();
    newer["version"] = json!("5");
    assert_eq!(alertmanager(newer.to_string().as_bytes()).unwrap_err().field, "version");
    let mut broken = body.clone();
    broken["alerts"][1]["startsAt"] = json!("soon");
    assert_eq!(alertmanager(broken.to_string().as_bytes()).unwrap_err().field, "alerts[1].startsAt");
    let mut many = body;
    many["alerts"] = Value::Array(vec![alert("a", ""); MOST_ALERTS + 1]);
    assert_eq!(alertmanager(many.to_string().as_bytes()).unwrap_err().field, "alerts");
}
