//! One question of the API server about one pod, and the answer.
//!
//! A pure function. Pods are never refused: what does not concern us passes as it is.

use api::kapacity::{INJECT_GATE, ONLINE, POD_STATE};
use base64::Engine as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A body that is no question.
#[derive(Debug, thiserror::Error)]
#[error("the body is no AdmissionReview of version v1: {0}")]
pub struct ReviewError(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    api_version: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: String,
    operation: String,
    #[serde(default)]
    object: Option<Pod>,
}

#[derive(Deserialize)]
struct Resource {
    group: String,
    resource: String,
}

/// A pod as far as its gate goes.
#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    readiness_gates: Option<Vec<Gate>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gate {
    condition_type: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

/// Answers an `AdmissionReview`: a new pod that asks for the gate gets it, and a status without the gate's condition
/// gets that, so that a pod becomes ready with its containers.
pub fn review(body: &[u8], now: Timestamp) -> Result<Vec<u8>, ReviewError> {
    let question: Question = serde_json::from_slice(body).map_err(|error| ReviewError(error.to_string()))?;
    if question.api_version != "admission.k8s.io/v1" {
        return Err(ReviewError(format!("it is of {}", question.api_version)));
    }
    let request = question.request;
    let change = request.object.as_ref().and_then(|pod| change(&request, pod, now));
    let patch = change
        .map(|operation| base64::engine::general_purpose::STANDARD.encode(json!([operation]).to_string()));
    let response =
        Response { uid: request.uid, allowed: true, patch_type: patch.as_ref().map(|_| "JSONPatch"), patch };
    let answer = Answer { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response };
    serde_json::to_vec(&answer).map_err(|error| ReviewError(error.to_string()))
}

/// The one operation of a JSON patch, where anything is to change.
fn change(request: &Request, pod: &Pod, now: Timestamp) -> Option<Value> {
    let label = |key: &str| pod.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let of_pods = request.resource.group.is_empty() && request.resource.resource == "pods";
    if !of_pods || label(INJECT_GATE) != Some("true") {
        return None;
    }
    let gates = pod.spec.readiness_gates.as_deref();
    let has_gate = gates.into_iter().flatten().any(|gate| gate.condition_type == ONLINE);
    match (request.operation.as_str(), request.sub_resource.as_str()) {
        ("CREATE", "") if !has_gate => {
            let gate = json!({"conditionType": ONLINE});
            Some(appended("/spec/readinessGates", gates.is_some(), &gate))
        }
        ("UPDATE", "status") if has_gate => {
            let conditions = pod.status.conditions.as_deref();
            if conditions.into_iter().flatten().any(|condition| condition.kind == ONLINE) {
                return None;
            }
            let online =
                if label(POD_STATE).is_some_and(|state| state != "Online") { "False" } else { "True" };
            let condition = json!({
                "type": ONLINE, "status": online, "lastTransitionTime": format!("{now:.0}"),
            });
            Some(appended("/status/conditions", conditions.is_some(), &condition))
        }
        _ => None,
    }
}

fn appended(path: &str, is_there: bool, item: &Value) -> Value {
    if is_there {
        json!({"op": "add", "path": format!("{path}/-"), "value": item})
    } else {
        json!({"op": "add", "path": path, "value": [item]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(operation: &str, sub_resource: &str, object: &Value) -> Option<Value> {
        let body = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "resource": {"group": "", "version": "v1", "resource": "pods"},
                "subResource": sub_resource, "operation": operation, "object": object,
            },
        });
        let answer = review(body.to_string().as_bytes(), Timestamp::UNIX_EPOCH).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            (&answer["response"]["uid"], &answer["response"]["allowed"]),
            (&json!("u-1"), &json!(true))
        );
        let patch = answer["response"]["patch"].as_str()?;
        let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
        Some(serde_json::from_slice::<Value>(&patch).unwrap()[0].clone())
    }

    fn pod(label: &str, gates: &Value, conditions: &Value) -> Value {
        json!({
            "metadata": {"labels": {INJECT_GATE: label}}, "spec": {"readinessGates": gates},
            "status": {"conditions": conditions},
        })
    }

    #[test]
    fn new_pods_that_ask_for_the_gate_get_it_once() {
        let gate = json!({"conditionType": ONLINE});
        let other = json!({"conditionType": "example.com/other"});
        let first = json!({"op": "add", "path": "/spec/readinessGates", "value": [gate]});
        let further = json!({"op": "add", "path": "/spec/readinessGates/-", "value": gate});
        let none = Value::Null;
        let table = [
            (pod("true", &none, &none), Some(first)),
            (pod("true", &json!([other]), &none), Some(further)),
            (pod("true", &json!([other, gate]), &none), None),
            (pod("false", &none, &none), None),
            (json!({"metadata": {}, "spec": {}}), None),
        ];
        for (pod, expected) in table {
            assert_eq!(asked("CREATE", "", &pod), expected, "{pod}");
            assert_eq!(asked("UPDATE", "", &pod), None, "a plain update is left alone");
        }
    }

    #[test]
    fn a_status_without_the_condition_gets_it() {
        let gates = json!([{"conditionType": ONLINE}]);
        let pods = pod("true", &gates, &json!([{"type": "Ready", "status": "False"}]));
        let added = asked("UPDATE", "status", &pods).unwrap();
        assert_eq!(
            (&added["path"], &added["value"]["status"]),
            (&json!("/status/conditions/-"), &json!("True"))
        );
        let mut cut_off = pods;
        cut_off["metadata"]["labels"][POD_STATE] = json!("Cutoff");
        assert_eq!(asked("UPDATE", "status", &cut_off).unwrap()["value"]["status"], "False");
        let closed = pod("true", &gates, &json!([{"type": ONLINE, "status": "False"}]));
        assert_eq!(asked("UPDATE", "status", &closed), None, "whoever closed it knows why");
        assert_eq!(
            asked("UPDATE", "status", &pod("true", &json!(null), &json!(null))),
            None,
            "without a gate"
        );
    }

    #[test]
    fn what_is_no_question_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "", "operation": "",
            "resource": {"group": "", "resource": ""}}}"#,
        ] {
            assert!(review(body.as_bytes(), Timestamp::UNIX_EPOCH).is_err(), "{body}");
        }
        let foreign = json!({
            "apiVersion": "admission.k8s.io/v1",
            "request": {"uid": "u", "operation": "CREATE", "object": null,
                "resource": {"group": "apps", "resource": "deployments"}},
        });
        let answer = review(foreign.to_string().as_bytes(), Timestamp::UNIX_EPOCH).unwrap();
        assert!(!String::from_utf8(answer).unwrap().contains("patch"));
    }
}
