//! Tests of defaults, admission and validation.

use crate::store::resource::{DEPLOYMENTS, JOBS, NODES, POD_DISRUPTION_BUDGETS, PODS, SERVICES};
use crate::store::{Part, ResourceName, Store, StoreOptions};
use clock::Clock;
use serde_json::{Value, json};

fn store() -> Store {
    Store::new(Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()), &StoreOptions::default())
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}},
        },
    })
}

#[test]
fn a_pod_gets_what_controllers_rely_on() {
    let pod = json!({
        "metadata": {"name": "a"},
        "spec": {
            "priorityClassName": "system-node-critical",
            "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
        },
    });
    let pod = store().create(PODS, "default", pod).unwrap();
    assert_eq!(pod.at("spec.priority"), Some(&json!(2_000_001_000)));
    assert_eq!(pod.text("status.qosClass"), Some("Guaranteed"));
    assert_eq!(pod.text("spec.restartPolicy"), Some("Always"));
    assert_eq!(pod.at("spec.tolerations").unwrap().as_array().unwrap().len(), 2);
    assert_eq!(pod.value()["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1");
}

#[test]
fn bad_objects_are_refused_with_the_field() {
    let store = store();
    let refused =
        |resource: ResourceName, value: Value| store.create(resource, "", value).unwrap_err().to_string();
    let with = |path: &str, new: Value| {
        let mut value = deployment();
        crate::api::set_at(&mut value, path, new);
        value
    };
    assert!(
        refused(DEPLOYMENTS, with("spec.replicas", json!(-1))).contains("spec.replicas: Invalid value: -1")
    );
    let other = with("spec.template.metadata.labels", json!({"a": "c"}));
    assert!(refused(DEPLOYMENTS, other).contains("`selector` does not match"));
    let absurd = json!({"metadata": {"name": "a"}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": "-1", "memory": "lots"}}},
    ]}});
    let message = refused(PODS, absurd);
    assert!(
        message.contains("requests[cpu]: Invalid value: \"-1\"") && message.contains("requests[memory]"),
        "{message}"
    );
    let over = json!({"metadata": {"name": "a"}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
    ]}});
    assert!(refused(PODS, over).contains("must be less than or equal to cpu limit"));
    assert!(
        refused(PODS, json!({"metadata": {"name": "Upper"}, "spec": {"containers": [{"name": "c"}]}}))
            .contains("RFC 1123")
    );
    let both =
        json!({"metadata": {"name": "x"}, "spec": {"minAvailable": 1, "maxUnavailable": 1, "selector": {}}});
    assert!(refused(POD_DISRUPTION_BUDGETS, both).contains("cannot be both set"));
    let node = json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "-4"}}});
    assert!(refused(NODES, node).contains("status.capacity[cpu]"));
}

#[test]
fn what_must_not_change_does_not() {
    let store = store();
    store.create(DEPLOYMENTS, "default", deployment()).unwrap();
    let changed = store.modify(DEPLOYMENTS, "default", "d", Part::Main, |v| {
        v["spec"]["selector"]["matchLabels"]["x"] = json!("y");
        v["spec"]["template"]["metadata"]["labels"]["x"] = json!("y");
        true
    });
    assert!(changed.unwrap_err().to_string().contains("field is immutable"));
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let service = store.create(SERVICES, "default", service).unwrap();
    assert_eq!(service.text("spec.clusterIP"), Some("10.96.0.2"));
    let kept = store.modify(SERVICES, "default", "s", Part::Main, |v| {
        v["spec"]["clusterIP"] = Value::Null;
        true
    });
    assert_eq!(kept.unwrap().revision(), service.revision());
}

#[test]
fn a_job_selects_its_own_pods() {
    let job =
        json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}});
    let job = store().create(JOBS, "default", job).unwrap();
    let labels = &job.value()["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["batch.kubernetes.io/controller-uid"], job.uid());
    assert_eq!(job.at("spec.completions"), Some(&json!(1)));
}
