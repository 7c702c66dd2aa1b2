//! Custom resources: definition, defaults, pruning, validation, status, scale, columns.
//!
//! Owns what our own kinds and those of Cluster API rest on. Leaves our committed definitions to `ours`.

use super::cases;
use crate::world::{APPLY, JSON_PATCH, MERGE, STRATEGIC, World, generation, names, version};
use serde_json::{Value, json};

cases! { ApiServer,
    a_definition_becomes_established: [
        "create customresourcedefinitions.apiextensions.k8s.io",
        "get customresourcedefinitions.apiextensions.k8s.io",
    ];
    a_definition_with_a_wrong_name_is_422: ["create customresourcedefinitions.apiextensions.k8s.io"];
    a_definition_can_be_patched: [
        "patch customresourcedefinitions.apiextensions.k8s.io merge",
        "patch customresourcedefinitions.apiextensions.k8s.io apply",
        "update customresourcedefinitions.apiextensions.k8s.io",
    ];
    new_defaults_show_in_old_objects: [];
    definitions_are_listed_and_watched: [
        "list customresourcedefinitions.apiextensions.k8s.io",
        "watch customresourcedefinitions.apiextensions.k8s.io fields:metadata.name",
    ];
    a_deleted_definition_takes_its_objects_along: ["delete customresourcedefinitions.apiextensions.k8s.io"];
    custom_objects_get_defaults: ["create custom"];
    custom_objects_are_pruned: ["create custom"];
    preserved_fields_are_kept: ["create custom"];
    invalid_custom_objects_are_422_with_fields: ["create custom"];
    rules_of_the_schema_are_kept: ["create custom", "patch custom merge"];
    custom_status_is_apart: ["update custom/status", "update custom", "patch custom/status merge", "get custom/status"];
    custom_generation_counts_all_but_status: ["patch custom merge", "patch custom/status merge"];
    custom_objects_conflict: ["create custom", "update custom", "update custom/status"];
    custom_objects_are_patched: ["patch custom merge", "patch custom json", "patch custom apply"];
    custom_objects_scale: ["get custom/scale", "update custom/scale", "patch custom/scale merge"];
    custom_objects_print_their_columns: ["list custom table"];
    custom_objects_are_read_in_pages: ["get custom", "list custom paged", "list custom labels paged"];
    custom_objects_are_watched: ["list custom", "watch custom", "watch custom streamed", "delete custom"];
    names_of_custom_kinds_are_discovered: [];
}

pub(super) fn group(w: &World) -> String {
    format!("{}.example.com", w.unique)
}

pub(super) fn group_version(w: &World) -> String {
    format!("{}/v1", group(w))
}

pub(super) fn definition(w: &World, kind: &str, spec: Value, more: Value) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let mut version = json!({
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": spec,
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
        }}}
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        version[key] = value.clone();
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{}", group(w))},
        "spec": {
            "group": group(w), "scope": "Namespaced", "versions": [version],
            "names": {"kind": kind, "plural": plural, "singular": singular, "listKind": format!("{kind}List")}
        }
    })
}

pub(super) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Defines a kind in the case's own group and waits until it is served. Returns its plural.
pub(super) async fn define(w: &World, kind: &str, spec: Value, more: Value) -> String {
    let object = definition(w, kind, spec, more);
    w.post(DEFINITIONS, &object).await.ok();
    let path = format!("{DEFINITIONS}/{}", object["metadata"]["name"].as_str().unwrap());
    w.until(&path, |answer| is(&answer.body, "Established") && is(&answer.body, "NamesAccepted")).await;
    let plural = object["spec"]["names"]["plural"].as_str().unwrap().to_owned();
    // Serving begins a moment after the condition says so.
    w.until(&w.group(&group_version(w), &plural), |answer| answer.code == 200).await;
    plural
}

fn is(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|found| found["type"] == condition && found["status"] == "True")
}

fn object_of(w: &World, kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": group_version(w), "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn pool_schema() -> Value {
    json!({
        "type": "object", "required": ["max"],
        "properties": {
            "min": {"type": "integer", "minimum": 0, "default": 0},
            "max": {"type": "integer", "minimum": 0},
            "replicas": {"type": "integer", "minimum": 0, "default": 0},
            "mode": {"type": "string", "enum": ["fast", "cheap"]},
            "price": {"type": "string", "pattern": "^[0-9.]+$"},
            "names": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
            "boot": {"type": "object", "default": {}, "properties": {
                "seconds": {"type": "integer", "default": 30}
            }},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
        },
        "x-kubernetes-validations": [{"rule": "self.min <= self.max", "message": "min must not be over max"}]
    })
}

fn subresources() -> Value {
    json!({"subresources": {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector"
        }
    }})
}

/// The kind `Pool` with status and scale; the path of its objects.
async fn pools(w: &World) -> String {
    let plural = define(w, "Pool", pool_schema(), subresources()).await;
    w.group(&group_version(w), &plural)
}

fn pool(w: &World, name: &str, spec: Value) -> Value {
    object_of(w, "Pool", name, spec)
}

async fn a_definition_becomes_established(w: World) {
    define(&w, "Thing", json!({"type": "object"}), json!({})).await;
    let made = w.get(&format!("{DEFINITIONS}/things.{}", group(&w))).await.ok();
    assert_eq!(made["status"]["acceptedNames"]["plural"], "things");
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "ThingList");
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    let list = w.get(&w.group(&group_version(&w), "things")).await.ok();
    assert_eq!((list["kind"].as_str(), names(&list).len()), (Some("ThingList"), 0));
}

async fn a_definition_with_a_wrong_name_is_422(w: World) {
    let mut object = definition(&w, "Thing", json!({"type": "object"}), json!({}));
    object["metadata"]["name"] = json!(format!("others.{}", group(&w)));
    w.post(DEFINITIONS, &object).await.invalid(&["metadata.name"]);
}

async fn a_definition_can_be_patched(w: World) {
    define(&w, "Thing", json!({"type": "object"}), json!({})).await;
    let path = format!("{DEFINITIONS}/things.{}", group(&w));
    let objects = w.group(&group_version(&w), "things");
    w.post(&objects, &object_of(&w, "Thing", "a", json!({}))).await.ok();
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(w.patch(&path, MERGE, label).await.ok()["metadata"]["labels"]["a"], "b");
    let mut wider = definition(&w, "Thing", json!({"type": "object"}), json!({}));
    let properties = json!({"n": {"type": "integer", "default": 3}});
    wider["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        properties;
    let applied = format!("{path}?fieldManager=tideline&force=true");
    let stored = w.patch(&applied, APPLY, wider.clone()).await.code(200);
    assert_eq!(generation(&stored), 2);
    let mut again = stored.clone();
    again["spec"]["names"]["shortNames"] = json!([format!("t{}", w.unique.len())]);
    w.put(&path, &again).await.code(200);
    // The new schema is in force a moment after it is stored.
    let post = || async {
        let fresh = json!({"apiVersion": group_version(&w), "kind": "Thing", "metadata": {"generateName": "t-"}, "spec": {}});
        w.post(&objects, &fresh).await
    };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while post().await.body["spec"]["n"] != 3 {
        assert!(tokio::time::Instant::now() < deadline, "the new schema is not in force");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn new_defaults_show_in_old_objects(w: World) {
    define(&w, "Thing", json!({"type": "object"}), json!({})).await;
    let objects = w.group(&group_version(&w), "things");
    w.post(&objects, &object_of(&w, "Thing", "a", json!({}))).await.ok();
    let properties = json!({"n": {"type": "integer", "default": 3}});
    let wider = definition(&w, "Thing", json!({"type": "object", "properties": properties}), json!({}));
    let path = format!("{DEFINITIONS}/things.{}?fieldManager=tideline&force=true", group(&w));
    w.patch(&path, APPLY, wider).await.code(200);
    w.until(&format!("{objects}/a"), |answer| answer.body["spec"]["n"] == 3).await;
}

async fn definitions_are_listed_and_watched(w: World) {
    let from = version(&w.get(DEFINITIONS).await.ok());
    let name = format!("things.{}", group(&w));
    let query = format!("fieldSelector=metadata.name%3D{name}&resourceVersion={from}");
    let mut watch = w.watch(DEFINITIONS, &query).await;
    define(&w, "Thing", json!({"type": "object"}), json!({})).await;
    watch.expect_named("ADDED", &name).await;
    assert!(names(&w.get(DEFINITIONS).await.ok()).contains(&name.as_str()));
}

async fn a_deleted_definition_takes_its_objects_along(w: World) {
    let plural = define(&w, "Thing", json!({"type": "object"}), json!({})).await;
    let objects = w.group(&group_version(&w), &plural);
    w.post(&objects, &object_of(&w, "Thing", "a", json!({}))).await.ok();
    let path = format!("{DEFINITIONS}/{plural}.{}", group(&w));
    w.delete(&path).await.ok();
    w.until(&path, |answer| answer.code == 404).await;
    w.until(&objects, |answer| answer.code == 404).await;
}

async fn custom_objects_get_defaults(w: World) {
    let path = pools(&w).await;
    let made = w.post(&path, &pool(&w, "a", json!({"max": 5}))).await.code(201);
    assert_eq!(made["spec"], json!({"min": 0, "max": 5, "replicas": 0, "boot": {"seconds": 30}}));
    assert_eq!(generation(&made), 1);
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
}

async fn custom_objects_are_pruned(w: World) {
    let path = pools(&w).await;
    let mut object =
        pool(&w, "a", json!({"max": 5, "colour": "red", "boot": {"hours": 1}, "labels": {"any": "x"}}));
    object["extra"] = json!({"a": 1});
    object["status"] = json!({"replicas": 3});
    let made = w.post(&path, &object).await.ok();
    assert!(made["spec"].get("colour").is_none() && made.get("extra").is_none());
    assert_eq!(made["spec"]["boot"], json!({"seconds": 30}));
    assert_eq!(made["spec"]["labels"], json!({"any": "x"}));
    assert!(made.get("status").is_none(), "status is not taken from a creation");
    let strict = format!("{path}?fieldValidation=Strict");
    let status =
        w.post(&strict, &pool(&w, "b", json!({"max": 5, "colour": "red"}))).await.refused(400, "BadRequest");
    assert!(status["message"].as_str().unwrap().contains("unknown field \"spec.colour\""), "{status}");
}

async fn preserved_fields_are_kept(w: World) {
    let path = pools(&w).await;
    let made = w.post(&path, &pool(&w, "a", json!({"max": 5, "free": {"x": {"y": [1]}}}))).await.ok();
    assert_eq!(made["spec"]["free"], json!({"x": {"y": [1]}}));
}

async fn invalid_custom_objects_are_422_with_fields(w: World) {
    let path = pools(&w).await;
    for (spec, field, reason) in [
        (json!({}), "spec.max", "FieldValueRequired"),
        (json!({"max": -1}), "spec.max", "FieldValueInvalid"),
        (json!({"max": "many"}), "spec.max", "FieldValueTypeInvalid"),
        (json!({"max": 1, "mode": "slow"}), "spec.mode", "FieldValueNotSupported"),
        (json!({"max": 1, "price": "free"}), "spec.price", "FieldValueInvalid"),
        (json!({"max": 1, "names": ["a", "b", "c"]}), "spec.names", "FieldValueTooMany"),
        (json!({"max": 1, "labels": {"a": 1}}), "spec.labels.a", "FieldValueTypeInvalid"),
    ] {
        let status = w.post(&path, &pool(&w, "a", spec)).await.invalid(&[field]);
        let causes = status["details"]["causes"].as_array().unwrap();
        let cause = causes.iter().find(|cause| cause["field"] == field).unwrap();
        assert_eq!(cause["reason"], reason, "{status}");
        assert_eq!(status["details"]["kind"], "Pool");
        assert_eq!(status["details"]["group"], group(&w));
    }
}

async fn rules_of_the_schema_are_kept(w: World) {
    let path = pools(&w).await;
    let status = w.post(&path, &pool(&w, "a", json!({"min": 6, "max": 5}))).await.invalid(&["spec"]);
    assert!(status["message"].as_str().unwrap().contains("min must not be over max"), "{status}");
    w.post(&path, &pool(&w, "a", json!({"min": 1, "max": 5}))).await.ok();
    w.patch(&format!("{path}/a"), MERGE, json!({"spec": {"max": 0}})).await.invalid(&["spec"]);
}

async fn custom_status_is_apart(w: World) {
    let path = pools(&w).await;
    let mut made = w.post(&path, &pool(&w, "a", json!({"max": 5}))).await.ok();
    made["spec"]["max"] = json!(9);
    made["metadata"]["labels"] = json!({"a": "b"});
    made["status"] = json!({"replicas": 2, "machines": ["a-1"]});
    let stored = w.put(&format!("{path}/a/status"), &made).await.code(200);
    assert_eq!(stored["spec"]["max"], 5);
    assert_eq!(stored["status"]["machines"], json!(["a-1"]));
    assert!(stored["metadata"]["labels"].is_null(), "a status write of a custom object changes status only");
    let mut stored = stored;
    stored["spec"]["max"] = json!(7);
    stored["status"]["replicas"] = json!(99);
    let stored = w.put(&format!("{path}/a"), &stored).await.ok();
    assert_eq!((stored["spec"]["max"].as_i64(), stored["status"]["replicas"].as_i64()), (Some(7), Some(2)));
    let patched = w.patch(&format!("{path}/a/status"), MERGE, json!({"status": {"replicas": 3}})).await.ok();
    assert_eq!(patched["status"]["replicas"], 3);
    assert_eq!(w.get(&format!("{path}/a/status")).await.ok()["status"]["replicas"], 3);
}

async fn custom_generation_counts_all_but_status(w: World) {
    let path = pools(&w).await;
    w.post(&path, &pool(&w, "a", json!({"max": 5}))).await.ok();
    let one = format!("{path}/a");
    let made = w.patch(&format!("{one}/status"), MERGE, json!({"status": {"replicas": 1}})).await.ok();
    assert_eq!(generation(&made), 1);
    let made = w.patch(&one, MERGE, json!({"metadata": {"annotations": {"a": "b"}}})).await.ok();
    assert_eq!(generation(&made), 1);
    let made = w.patch(&one, MERGE, json!({"spec": {"max": 6}})).await.ok();
    assert_eq!(generation(&made), 2);
}

async fn custom_objects_conflict(w: World) {
    let path = pools(&w).await;
    let made = w.post(&path, &pool(&w, "a", json!({"max": 5}))).await.ok();
    w.post(&path, &pool(&w, "a", json!({"max": 5}))).await.refused(409, "AlreadyExists");
    let mut newer = made.clone();
    newer["spec"]["replicas"] = json!(2);
    w.put(&format!("{path}/a"), &newer).await.ok();
    let mut stale = made.clone();
    stale["spec"]["replicas"] = json!(3);
    w.put(&format!("{path}/a"), &stale).await.conflict();
    w.put(&format!("{path}/a/status"), &stale).await.conflict();
    // Unlike most built-in kinds, a custom object is not replaced without its version.
    stale["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let status = w.put(&format!("{path}/a"), &stale).await.invalid(&["metadata.resourceVersion"]);
    assert!(status["message"].as_str().unwrap().contains("must be specified for an update"), "{status}");
}

async fn custom_objects_are_patched(w: World) {
    let path = pools(&w).await;
    w.post(&path, &pool(&w, "a", json!({"max": 5, "names": ["x"]}))).await.ok();
    let one = format!("{path}/a");
    let done = w.patch(&one, MERGE, json!({"spec": {"names": ["y", "z"], "mode": "fast"}})).await.ok();
    assert_eq!(done["spec"]["names"], json!(["y", "z"]));
    let steps = json!([
        {"op": "test", "path": "/spec/mode", "value": "fast"}, {"op": "replace", "path": "/spec/max", "value": 8}
    ]);
    assert_eq!(w.patch(&one, JSON_PATCH, steps.clone()).await.ok()["spec"]["max"], 8);
    let done = w.patch(&one, MERGE, json!({"spec": {"mode": null}})).await.ok();
    assert!(done["spec"].get("mode").is_none());
    w.patch(&one, STRATEGIC, json!({"spec": {"max": 1}})).await.refused(415, "UnsupportedMediaType");
    let wanted = pool(&w, "a", json!({"max": 12}));
    let applied = w.patch(&format!("{one}?fieldManager=tideline&force=true"), APPLY, wanted).await.ok();
    assert_eq!(applied["spec"]["max"], 12);
    let fresh = pool(&w, "b", json!({"max": 1}));
    let made = w.patch(&format!("{path}/b?fieldManager=tideline"), APPLY, fresh).await.code(201);
    assert_eq!(made["spec"]["boot"]["seconds"], 30);
}

async fn custom_objects_scale(w: World) {
    let path = pools(&w).await;
    w.post(&path, &pool(&w, "a", json!({"max": 5, "replicas": 1}))).await.ok();
    let status = json!({"status": {"replicas": 1, "selector": "pool=a"}});
    w.patch(&format!("{path}/a/status"), MERGE, status).await.ok();
    let scale_path = format!("{path}/a/scale");
    let mut scale = w.get(&scale_path).await.ok();
    assert_eq!(
        (scale["kind"].as_str(), scale["apiVersion"].as_str()),
        (Some("Scale"), Some("autoscaling/v1"))
    );
    assert_eq!(scale["spec"]["replicas"], 1);
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "pool=a"}));
    let before = scale.clone();
    scale["spec"]["replicas"] = json!(4);
    let done = w.put(&scale_path, &scale).await.code(200);
    assert_eq!(done["spec"]["replicas"], 4);
    let object = w.get(&format!("{path}/a")).await.ok();
    assert_eq!((object["spec"]["replicas"].as_i64(), generation(&object)), (Some(4), 2));
    assert_eq!(version(&object), version(&done));
    let mut stale = before;
    stale["spec"]["replicas"] = json!(2);
    w.put(&scale_path, &stale).await.conflict();
    let done = w.patch(&scale_path, MERGE, json!({"spec": {"replicas": 3}})).await.ok();
    assert_eq!(done["spec"]["replicas"], 3);
    stale["spec"]["replicas"] = json!(-2);
    stale["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    w.put(&scale_path, &stale).await.invalid(&["spec.replicas"]);
}

async fn custom_objects_print_their_columns(w: World) {
    let columns = json!({"additionalPrinterColumns": [
        {"name": "Max", "type": "integer", "jsonPath": ".spec.max"},
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode", "priority": 1, "description": "how"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    ]});
    let plural = define(&w, "Pool", pool_schema(), columns).await;
    let path = w.group(&group_version(&w), &plural);
    w.post(&path, &pool(&w, "a", json!({"max": 5, "mode": "fast"}))).await.ok();
    w.post(&path, &pool(&w, "b", json!({"max": 6}))).await.ok();
    let table = w.table(&path).await.ok();
    assert_eq!(
        (table["kind"].as_str(), table["apiVersion"].as_str()),
        (Some("Table"), Some("meta.k8s.io/v1"))
    );
    let columns: Vec<(&str, i64)> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column["priority"].as_i64().unwrap()))
        .collect();
    assert_eq!(columns, [("Name", 0), ("Max", 0), ("Mode", 1), ("Age", 0)]);
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows[0]["cells"][0], "a");
    assert_eq!(rows[0]["cells"][1], 5);
    assert_eq!(rows[0]["cells"][2], "fast");
    assert!(rows[1]["cells"][2].is_null(), "an absent field is an empty cell: {table}");
    assert_eq!(rows[0]["object"]["kind"], "PartialObjectMetadata");
}

async fn custom_objects_are_read_in_pages(w: World) {
    let path = pools(&w).await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut object = pool(&w, name, json!({"max": 5}));
        object["metadata"]["labels"] = json!({"t": label});
        let made = w.post(&path, &object).await.ok();
        assert_eq!(w.get(&format!("{path}/{name}")).await.code(200), made);
    }
    let status = w.get(&format!("{path}/none")).await.refused(404, "NotFound");
    assert_eq!(status["details"]["group"], group(&w));
    for (selector, expected) in [("", vec!["a", "b", "c"]), ("&labelSelector=t%3Dx", vec!["a", "c"])] {
        let mut seen = Vec::new();
        let mut token = String::new();
        loop {
            let page = w.get(&format!("{path}?limit=1{selector}&continue={token}")).await.ok();
            seen.extend(names(&page).into_iter().map(str::to_owned));
            page["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut token);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, expected);
    }
}

async fn custom_objects_are_watched(w: World) {
    let path = pools(&w).await;
    let from = version(&w.get(&path).await.ok());
    let mut watch = w.watch(&path, &format!("resourceVersion={from}")).await;
    let made = w.post(&path, &pool(&w, "a", json!({"max": 5}))).await.ok();
    let status = json!({"status": {"replicas": 1}});
    let changed = w.patch(&format!("{path}/a/status"), MERGE, status).await.ok();
    w.delete(&format!("{path}/a")).await.ok();
    assert_eq!(watch.expect("ADDED").await, made);
    assert_eq!(watch.expect("MODIFIED").await, changed);
    watch.expect_named("DELETED", "a").await;
    let streamed = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    w.post(&path, &pool(&w, "b", json!({"max": 5}))).await.ok();
    let mut watch = w.watch(&path, streamed).await;
    watch.expect_named("ADDED", "b").await;
    let mark = watch.expect("BOOKMARK").await;
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

async fn names_of_custom_kinds_are_discovered(w: World) {
    pools(&w).await;
    let page = format!("/apis/{}", group_version(&w));
    let has = |answer: &crate::Answer, name: &str| {
        answer.body["resources"].as_array().into_iter().flatten().any(|resource| resource["name"] == name)
    };
    let found = w.until(&page, |answer| has(answer, "pools")).await;
    assert!(has(&found, "pools/status") && has(&found, "pools/scale"), "{}", found.body);
    let resources = found.body["resources"].as_array().unwrap();
    let pools = resources.iter().find(|resource| resource["name"] == "pools").unwrap();
    assert_eq!((pools["kind"].as_str(), pools["namespaced"].as_bool()), (Some("Pool"), Some(true)));
    let verbs: Vec<&str> = pools["verbs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
        assert!(verbs.contains(&verb), "{verb} in {verbs:?}");
    }
    let groups = w.get("/apis").await.ok();
    let listed = groups["groups"].as_array().unwrap().iter().any(|found| found["name"] == group(&w));
    assert!(listed, "the group is among the groups");
}
