//! Reading: get, list, pages, versions and selectors.
//!
//! Owns what readers are promised. Leaves watches to `watching`.

use super::cases;
use super::fixtures::{config_map, labelled, node, pod, pod_on};
use crate::world::{World, names, uid, version};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;

cases! { ApiServer,
    get_returns_the_object: ["get configmaps"];
    get_of_a_missing_object_is_404_with_details: ["get pods", "get configmaps", "get nodes"];
    get_of_an_unknown_resource_is_404: [];
    list_is_sorted_and_typed: ["list configmaps"];
    items_of_lists_carry_no_kind: ["list configmaps"];
    list_of_all_namespaces_holds_each: ["list configmaps labels"];
    list_with_limit_continues_to_the_end: ["list configmaps paged"];
    list_pages_are_of_one_version: ["list configmaps labels paged"];
    list_with_a_spoiled_continue_token_is_400: [];
    list_at_version_zero_is_a_list: ["list pods cached"];
    list_at_a_version_not_older_than: ["list configmaps"];
    labels_select_by_equality_and_set: ["list configmaps labels"];
    a_malformed_label_selector_is_400: ["list configmaps labels"];
    pods_are_selected_by_node: ["list pods fields:spec.nodeName"];
    pods_are_selected_by_phase_and_not_phase: ["list pods fields:status.phase"];
    objects_are_selected_by_name: ["list configmaps fields:metadata.name", "list nodes fields:metadata.name"];
    an_unknown_field_selector_is_400: [];
    events_are_selected_by_involved_object: ["list events fields:involvedObject.kind+involvedObject.name"];
    metadata_alone_can_be_asked_for: ["list pods metadata"];
}

async fn get_returns_the_object(w: World) {
    let made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.code(201);
    let got = w.get(&w.core("configmaps/a")).await;
    assert_eq!(got.header("content-type"), Some("application/json"));
    let got = got.code(200);
    assert_eq!(got, made);
    let typed: ConfigMap = w.get(&w.core("configmaps/a")).await.read();
    assert_eq!(typed.metadata.namespace.as_deref(), Some(w.ns.as_str()));
    assert!(typed.metadata.creation_timestamp.is_some() && typed.metadata.uid.is_some());
    let number: u64 = version(&got).parse().expect("resourceVersions are numbers");
    assert!(number > 0);
}

async fn get_of_a_missing_object_is_404_with_details(w: World) {
    for (path, kind, group) in [
        (w.core("pods/none"), "pods", ""),
        (w.core("configmaps/none"), "configmaps", ""),
        ("/api/v1/nodes/none".to_owned(), "nodes", ""),
        (w.apps("deployments/none"), "deployments", "apps"),
    ] {
        let status = w.get(&path).await.refused(404, "NotFound");
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        assert_eq!(status["message"], format!("{qualified} \"none\" not found"));
        assert_eq!(status["details"]["name"], "none");
        assert_eq!(status["details"]["kind"], kind);
        assert_eq!(status["details"]["group"].as_str().unwrap_or_default(), group);
    }
}

async fn get_of_an_unknown_resource_is_404(w: World) {
    for path in ["/apis/nowhere.example/v1/things", "/apis/nowhere.example/v1", "/api/v1/things"] {
        assert_eq!(w.get(path).await.code, 404, "{path}");
    }
}

async fn list_is_sorted_and_typed(w: World) {
    for name in ["c", "a", "b"] {
        w.post(&w.core("configmaps"), &config_map(name, "1")).await.ok();
    }
    let list = w.get(&w.core("configmaps")).await.ok();
    assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("ConfigMapList"), Some("v1")));
    let ours: Vec<&str> = names(&list).into_iter().filter(|name| name.len() == 1).collect();
    assert_eq!(ours, ["a", "b", "c"], "lists are in the order of names");
    let newest =
        list["items"].as_array().unwrap().iter().map(|item| version(item).parse::<u64>().unwrap()).max();
    assert!(version(&list).parse::<u64>().ok() >= newest, "a list is at least as new as its items");
}

async fn items_of_lists_carry_no_kind(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let list = w.get(&w.core("configmaps")).await.ok();
    assert!(list["items"][0].get("kind").is_none() && list["items"][0].get("apiVersion").is_none());
}

async fn list_of_all_namespaces_holds_each(w: World) {
    let label = json!({"case": w.unique});
    w.post(&w.core("configmaps"), &labelled(config_map("a", "1"), label)).await.ok();
    let list = w.get(&format!("/api/v1/configmaps?labelSelector=case%3D{}", w.unique)).await.ok();
    assert_eq!(names(&list), ["a"]);
    assert_eq!(list["items"][0]["metadata"]["namespace"], w.ns);
}

async fn list_with_limit_continues_to_the_end(w: World) {
    for number in 0..5 {
        w.post(&w.core("configmaps"), &labelled(config_map(&format!("c{number}"), "1"), json!({"a": "b"})))
            .await
            .ok();
    }
    let path = w.core("configmaps");
    let mut seen = Vec::new();
    let mut token = String::new();
    for _ in 0..10 {
        let page = w.get(&format!("{path}?limit=2&continue={token}")).await.ok();
        let found = names(&page);
        assert!(found.len() <= 2);
        seen.extend(found.into_iter().filter(|name| name.starts_with('c')).map(str::to_owned));
        page["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut token);
        if token.is_empty() {
            break;
        }
        assert!(page["metadata"]["remainingItemCount"].as_i64().is_some_and(|left| left > 0), "{page}");
    }
    assert_eq!(seen, ["c0", "c1", "c2", "c3", "c4"]);
}

async fn list_pages_are_of_one_version(w: World) {
    for name in ["a", "b", "c"] {
        w.post(&w.core("configmaps"), &labelled(config_map(name, "1"), json!({"p": "q"}))).await.ok();
    }
    let path = w.core("configmaps");
    let first = w.get(&format!("{path}?labelSelector=p%3Dq&limit=1")).await.ok();
    assert_eq!(names(&first), ["a"]);
    w.post(&path, &labelled(config_map("d", "1"), json!({"p": "q"}))).await.ok();
    w.delete(&format!("{path}/b")).await.ok();
    let token = first["metadata"]["continue"].as_str().expect("more to come");
    let rest = w.get(&format!("{path}?labelSelector=p%3Dq&limit=10&continue={token}")).await.ok();
    assert_eq!(version(&rest), version(&first), "pages are of the version of the first");
    assert_eq!(names(&rest), ["b", "c"], "what was written after the first page is not in the next");
}

async fn list_with_a_spoiled_continue_token_is_400(w: World) {
    w.get(&format!("{}?limit=1&continue=spoiled", w.core("configmaps"))).await.refused(400, "BadRequest");
}

async fn list_at_version_zero_is_a_list(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    // A cached list may lag behind, so it is asked for until it shows the pod.
    let list = w
        .until(&format!("{}?resourceVersion=0", w.core("pods")), |answer| !names(&answer.body).is_empty())
        .await;
    let list = list.ok();
    assert_eq!(names(&list), ["a"]);
    assert!(version(&list).parse::<u64>().is_ok_and(|number| number > 0));
}

async fn list_at_a_version_not_older_than(w: World) {
    let made = w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    let at = version(&made);
    let path = w.core("configmaps");
    let list = w.get(&format!("{path}?resourceVersion={at}&resourceVersionMatch=NotOlderThan")).await.ok();
    assert!(names(&list).contains(&"a"));
    w.get(&format!("{path}?resourceVersionMatch=NotOlderThan")).await.refused(422, "Invalid");
}

async fn labels_select_by_equality_and_set(w: World) {
    let path = w.core("configmaps");
    for (name, labels) in
        [("a", json!({"t": "x", "s": ""})), ("b", json!({"t": "y"})), ("c", json!({"u": "x"}))]
    {
        w.post(&path, &labelled(config_map(name, "1"), labels)).await.ok();
    }
    for (selector, expected) in [
        ("t%3Dx", vec!["a"]),
        ("t%3D%3Dy", vec!["b"]),
        ("t%20in%20(x,y)", vec!["a", "b"]),
        ("t,s", vec!["a"]),
        ("t,!s", vec!["b"]),
        ("t!%3Dx,u!%3Dx", vec!["b"]),
        ("t%20notin%20(x),u", vec!["c"]),
    ] {
        let list = w.get(&format!("{path}?labelSelector={selector}")).await.ok();
        let found: Vec<&str> = names(&list).into_iter().filter(|name| name.len() == 1).collect();
        assert_eq!(found, expected, "{selector}");
    }
}

async fn a_malformed_label_selector_is_400(w: World) {
    for selector in ["a%20in%20x", "%3D%3D", "a%3D%20b%20c"] {
        w.get(&format!("{}?labelSelector={selector}", w.core("configmaps"))).await.refused(400, "BadRequest");
    }
}

async fn pods_are_selected_by_node(w: World) {
    let path = w.core("pods");
    w.post(&path, &pod_on("a", &w.unique)).await.ok();
    w.post(&path, &pod("b")).await.ok();
    let on = w.get(&format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", w.unique)).await.ok();
    assert_eq!(names(&on), ["a"]);
    let pending = w.get(&format!("{path}?fieldSelector=spec.nodeName%3D")).await.ok();
    assert_eq!(names(&pending), ["b"]);
    let typed: Pod = w.get(&format!("{path}/a")).await.read();
    assert_eq!(typed.spec.and_then(|spec| spec.node_name), Some(w.unique.clone()));
}

async fn pods_are_selected_by_phase_and_not_phase(w: World) {
    let path = w.core("pods");
    for name in ["a", "b"] {
        w.post(&path, &pod(name)).await.ok();
    }
    let status = json!({"status": {"phase": "Succeeded"}});
    w.patch(&format!("{path}/b/status"), crate::world::MERGE, status).await.ok();
    let live =
        w.get(&format!("{path}?fieldSelector=status.phase!%3DSucceeded,status.phase!%3DFailed")).await.ok();
    assert_eq!(names(&live), ["a"]);
    let done = w.get(&format!("{path}?fieldSelector=status.phase%3DSucceeded")).await.ok();
    assert_eq!(names(&done), ["b"]);
}

async fn objects_are_selected_by_name(w: World) {
    for name in ["a", "b"] {
        w.post(&w.core("configmaps"), &config_map(name, "1")).await.ok();
    }
    let one = w.get(&format!("{}?fieldSelector=metadata.name%3Db", w.core("configmaps"))).await.ok();
    assert_eq!(names(&one), ["b"]);
    w.post("/api/v1/nodes", &node(&w.unique)).await.ok();
    let one = w.get(&format!("/api/v1/nodes?fieldSelector=metadata.name%3D{}", w.unique)).await.ok();
    assert_eq!(names(&one), [w.unique.as_str()]);
}

async fn an_unknown_field_selector_is_400(w: World) {
    let status =
        w.get(&format!("{}?fieldSelector=spec.color%3Dred", w.core("pods"))).await.refused(400, "BadRequest");
    assert!(
        status["message"].as_str().unwrap().contains("field label not supported: spec.color"),
        "{status}"
    );
}

async fn events_are_selected_by_involved_object(w: World) {
    for (name, about) in [("e1", "p1"), ("e2", "p2")] {
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "namespace": w.ns, "name": about, "uid": "u"},
            "reason": "TriggeredScaleUp", "message": "m", "type": "Normal", "source": {"component": "tideline"}
        });
        w.post(&w.core("events"), &event).await.ok();
    }
    let selector = "involvedObject.kind%3DPod,involvedObject.name%3Dp2";
    let list = w.get(&format!("{}?fieldSelector={selector}", w.core("events"))).await.ok();
    assert_eq!(names(&list), ["e2"]);
    let selector =
        format!("involvedObject.namespace%3D{},involvedObject.uid%3Du,reason%3DTriggeredScaleUp", w.ns);
    let list = w.get(&format!("{}?fieldSelector={selector}", w.core("events"))).await.ok();
    assert_eq!(names(&list), ["e1", "e2"]);
}

async fn metadata_alone_can_be_asked_for(w: World) {
    let made = w.post(&w.core("pods"), &pod("a")).await.ok();
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let headers = [(http::header::ACCEPT, accept)];
    let list = w.send("GET", &w.core("pods"), &headers, &serde_json::Value::Null).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(uid(&list["items"][0]), uid(&made));
    assert!(list["items"][0].get("spec").is_none());
}
