//! Watching: from a list, by selectors, with bookmarks, as a streamed list, and from a forgotten version.
//!
//! Owns what followers of changes are promised. Leaves one-off reads to `reading`.

use super::cases;
use super::fixtures::{config_map, labelled, node, pod, pod_on};
use crate::world::{MERGE, World, version};
use serde_json::json;

cases! { ApiServer,
    watch_tells_of_changes_in_order: ["watch configmaps"];
    watch_resumes_where_a_list_ended: ["watch configmaps"];
    watch_resumes_after_an_event: ["watch configmaps"];
    watch_without_a_version_begins_with_what_is_there: ["watch configmaps fields:metadata.name"];
    watch_with_labels_tells_of_coming_and_leaving: ["watch configmaps labels"];
    watch_of_pods_on_a_node: ["watch pods fields:spec.nodeName"];
    watch_of_one_object_by_name: ["watch nodes fields:metadata.name", "watch configmaps fields:metadata.name"];
    watch_of_pods_that_are_not_over: ["watch pods fields:status.phase"];
    streamed_list_ends_with_a_bookmark: ["watch pods streamed"];
    streamed_list_with_selector: ["watch pods fields:spec.nodeName streamed"];
    streamed_list_without_bookmarks_is_refused: [];
    watch_from_a_forgotten_version_is_expired: [];
    watch_ends_when_its_time_is_over: ["watch configmaps"];
    watch_from_nonsense_is_refused: [];
    a_deletion_event_holds_the_last_state: ["watch pods"];
    metadata_alone_can_be_watched: ["watch pods metadata"];
}

async fn watch_tells_of_changes_in_order(w: World) {
    let path = w.core("configmaps");
    let from = version(&w.get(&path).await.ok());
    let mut watch = w.watch(&path, &format!("fieldSelector=metadata.name%3Da&resourceVersion={from}")).await;
    let made = w.post(&path, &config_map("a", "1")).await.ok();
    let changed = w.patch(&format!("{path}/a"), MERGE, json!({"data": {"key": "2"}})).await.ok();
    w.delete(&format!("{path}/a")).await.ok();
    let added = watch.expect("ADDED").await;
    assert_eq!(added, made, "an event holds the whole object, kind included");
    assert_eq!(watch.expect("MODIFIED").await, changed);
    let gone = watch.expect("DELETED").await;
    assert_eq!(gone["data"]["key"], "2");
    assert!(number(&version(&gone)) > number(&version(&changed)), "a deletion has a version of its own");

    let mut all = w.watch(&path, &format!("resourceVersion={from}")).await;
    all.expect_named("ADDED", "a").await;
}

fn number(version: &str) -> u64 {
    version.parse().expect("resourceVersions are numbers")
}

async fn watch_resumes_where_a_list_ended(w: World) {
    let path = w.core("configmaps");
    w.post(&path, &config_map("a", "1")).await.ok();
    let list = w.get(&path).await.ok();
    w.post(&path, &config_map("b", "1")).await.ok();
    w.post(&path, &config_map("c", "1")).await.ok();
    let mut watch = w.watch(&path, &format!("resourceVersion={}", version(&list))).await;
    watch.expect_named("ADDED", "b").await;
    watch.expect_named("ADDED", "c").await;
}

async fn watch_resumes_after_an_event(w: World) {
    let path = w.core("configmaps");
    let from = version(&w.get(&path).await.ok());
    for name in ["a", "b", "c"] {
        w.post(&path, &config_map(name, "1")).await.ok();
    }
    let mut first = w.watch(&path, &format!("resourceVersion={from}")).await;
    first.expect_named("ADDED", "a").await;
    let seen = version(&first.expect_named("ADDED", "b").await);
    drop(first);
    let mut second = w.watch(&path, &format!("resourceVersion={seen}")).await;
    second.expect_named("ADDED", "c").await;
}

async fn watch_without_a_version_begins_with_what_is_there(w: World) {
    let path = w.core("configmaps");
    w.post(&path, &config_map("a", "1")).await.ok();
    let mut watch = w.watch(&path, "fieldSelector=metadata.name%3Da").await;
    watch.expect_named("ADDED", "a").await;
    w.delete(&format!("{path}/a")).await.ok();
    watch.expect_named("DELETED", "a").await;
}

async fn watch_with_labels_tells_of_coming_and_leaving(w: World) {
    let path = w.core("configmaps");
    let from = version(&w.get(&path).await.ok());
    let mut watch = w.watch(&path, &format!("labelSelector=in%3Dyes&resourceVersion={from}")).await;
    w.post(&path, &labelled(config_map("a", "1"), json!({"in": "no"}))).await.ok();
    let label = |value: &str| json!({"metadata": {"labels": {"in": value}}});
    w.patch(&format!("{path}/a"), MERGE, label("yes")).await.ok();
    let left = w.patch(&format!("{path}/a"), MERGE, label("no")).await.ok();
    w.patch(&format!("{path}/a"), MERGE, json!({"data": {"key": "unseen"}})).await.ok();
    w.patch(&format!("{path}/a"), MERGE, label("yes")).await.ok();
    watch.expect_named("ADDED", "a").await;
    let gone = watch.expect_named("DELETED", "a").await;
    assert_eq!(gone["metadata"]["labels"]["in"], "yes", "what leaves is told as it last was inside");
    assert_eq!(version(&gone), version(&left), "with the version at which it left");
    let back = watch.expect_named("ADDED", "a").await;
    assert_eq!(back["data"]["key"], "unseen");
}

async fn watch_of_pods_on_a_node(w: World) {
    let path = w.core("pods");
    let from = version(&w.get(&path).await.ok());
    let query = format!("fieldSelector=spec.nodeName%3D{}&resourceVersion={from}", w.unique);
    let mut watch = w.watch("/api/v1/pods", &query).await;
    w.post(&path, &pod("pending")).await.ok();
    w.post(&path, &pod_on("there", &w.unique)).await.ok();
    w.post(&path, &pod_on("elsewhere", "other")).await.ok();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "pending"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": w.unique}
    });
    watch.expect_named("ADDED", "there").await;
    w.post(&format!("{path}/pending/binding"), &binding).await.ok();
    watch.expect_named("ADDED", "pending").await;
}

async fn watch_of_one_object_by_name(w: World) {
    let from = version(&w.get("/api/v1/nodes?limit=1").await.ok());
    let query = format!("fieldSelector=metadata.name%3D{}&resourceVersion={from}", w.unique);
    let mut watch = w.watch("/api/v1/nodes", &query).await;
    w.post("/api/v1/nodes", &node(&format!("{}-other", w.unique))).await.ok();
    w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    watch.expect_named("ADDED", &w.unique).await;

    let path = w.core("configmaps");
    let mut watch =
        w.watch(&path, &format!("fieldSelector=metadata.name%3Dledger&resourceVersion={from}")).await;
    w.post(&path, &config_map("ledger", "1")).await.ok();
    watch.expect_named("ADDED", "ledger").await;
}

async fn watch_of_pods_that_are_not_over(w: World) {
    let path = w.core("pods");
    let from = version(&w.get(&path).await.ok());
    let selector = "fieldSelector=status.phase!%3DSucceeded,status.phase!%3DFailed";
    let mut watch = w.watch(&path, &format!("{selector}&resourceVersion={from}")).await;
    w.post(&path, &pod("a")).await.ok();
    w.patch(&format!("{path}/a/status"), MERGE, json!({"status": {"phase": "Running"}})).await.ok();
    w.patch(&format!("{path}/a/status"), MERGE, json!({"status": {"phase": "Failed"}})).await.ok();
    watch.expect_named("ADDED", "a").await;
    watch.expect_named("MODIFIED", "a").await;
    watch.expect_named("DELETED", "a").await;
}

const STREAMED: &str = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

async fn streamed_list_ends_with_a_bookmark(w: World) {
    let path = w.core("pods");
    for name in ["a", "b"] {
        w.post(&path, &pod(name)).await.ok();
    }
    let mut watch = w.watch(&path, STREAMED).await;
    watch.expect_named("ADDED", "a").await;
    let last = watch.expect_named("ADDED", "b").await;
    let mark = watch.expect("BOOKMARK").await;
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!((mark["kind"].as_str(), mark["apiVersion"].as_str()), (Some("Pod"), Some("v1")));
    assert!(number(&version(&mark)) >= number(&version(&last)));
    w.delete_with(&format!("{path}/a"), json!({"gracePeriodSeconds": 0})).await.ok();
    watch.expect_end_of("a").await;

    let mut again = w.watch(&path, &format!("resourceVersion={}", version(&mark))).await;
    again.expect_end_of("a").await;
}

async fn streamed_list_with_selector(w: World) {
    let path = w.core("pods");
    w.post(&path, &pod("a")).await.ok();
    w.post(&path, &pod_on("b", &w.unique)).await.ok();
    let mut watch = w.watch(&path, &format!("fieldSelector=spec.nodeName%3D{}&{STREAMED}", w.unique)).await;
    watch.expect_named("ADDED", "b").await;
    watch.expect("BOOKMARK").await;
}

async fn streamed_list_without_bookmarks_is_refused(w: World) {
    let path = w.core("pods");
    let query = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true";
    w.get(&format!("{path}?{query}")).await.refused(422, "Invalid");
    w.get(&format!("{path}?sendInitialEvents=true&resourceVersionMatch=NotOlderThan"))
        .await
        .refused(422, "Invalid");
}

async fn watch_from_a_forgotten_version_is_expired(w: World) {
    let plural = super::custom::define(&w, "Relic", json!({"type": "object"}), json!({})).await;
    let path = w.group(&super::custom::group_version(&w), &plural);
    // What of its past a server forgets is its own choice: that before a kind was known, or before many changes.
    let query = format!("resourceVersion={}&timeoutSeconds=2", w.forgotten);
    let mut answers = Vec::new();
    for path in [path.as_str(), "/api/v1/configmaps"] {
        let mut watch = w.watch(path, &query).await;
        if let Some((kind, status)) = watch.next_or_end().await {
            if kind == "ERROR" {
                assert!(watch.next_or_end().await.is_none(), "the stream ends after the error");
            }
            answers.push((kind, status));
        }
    }
    let status = answers.into_iter().find(|(kind, _)| kind == "ERROR").expect("an error event").1;
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["code"], 410);
    assert_eq!(status["reason"], "Expired");
    assert!(status["message"].as_str().unwrap().contains("too old resource version"), "{status}");
}

async fn watch_ends_when_its_time_is_over(w: World) {
    let path = w.core("configmaps");
    let made = w.post(&path, &config_map("a", "1")).await.ok();
    let mut watch = w.watch(&path, &format!("resourceVersion={}&timeoutSeconds=1", version(&made))).await;
    assert!(watch.next_or_end().await.is_none(), "the stream ends without an error");
}

async fn watch_from_nonsense_is_refused(w: World) {
    let answer = w.get(&format!("{}?watch=true&resourceVersion=yesterday", w.core("configmaps"))).await;
    assert_eq!(answer.body["kind"], "Status");
    assert!(answer.code >= 400, "{}: {}", answer.code, answer.body);
}

async fn a_deletion_event_holds_the_last_state(w: World) {
    let path = w.core("pods");
    w.post(&path, &pod_on("a", &w.unique)).await.ok();
    let from = version(&w.get(&path).await.ok());
    let mut watch = w.watch(&path, &format!("resourceVersion={from}")).await;
    w.delete(&format!("{path}/a")).await.ok();
    let leaving = watch.expect_named("MODIFIED", "a").await;
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    w.delete_with(&format!("{path}/a"), json!({"gracePeriodSeconds": 0})).await.ok();
    let gone = watch.expect_end_of("a").await;
    assert_eq!(gone["spec"]["nodeName"], w.unique);
    assert!(gone["metadata"]["deletionTimestamp"].is_string());
}

async fn metadata_alone_can_be_watched(w: World) {
    let path = w.core("pods");
    let from = version(&w.get(&path).await.ok());
    let params = kube::api::WatchParams::default();
    w.post(&path, &pod("a")).await.ok();
    let pods = w.api::<k8s_openapi::api::core::v1::Pod>();
    let stream = pods.watch_metadata(&params, &from).await.expect("a watch");
    let mut stream = Box::pin(stream);
    match futures::StreamExt::next(&mut stream).await {
        Some(Ok(kube::api::WatchEvent::Added(found))) => {
            assert_eq!(found.metadata.name.as_deref(), Some("a"));
        }
        other => panic!("{other:?}"),
    }
}
