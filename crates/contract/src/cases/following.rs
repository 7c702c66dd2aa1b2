//! What our own processes do all day: follow kinds with kube's watchers, hold leases, tell events.
//!
//! Owns leases, events and typed followers. Leaves the parts they are made of to `reading` and `watching`.

use super::cases;
use super::fixtures::{config_map, node, pod, workload};
use crate::world::{APPLY, JSON_PATCH, MERGE, World, names, version};
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Event, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher;
use serde_json::json;

cases! { ApiServer,
    kubes_watcher_lists_then_follows: ["list pods paged", "watch pods"];
    kubes_watcher_streams_its_list: ["watch pods streamed"];
    followed_kinds_are_listed_in_pages_and_watched: [
        "list nodes", "list nodes paged", "watch nodes", "watch nodes streamed",
        "list poddisruptionbudgets.policy paged", "watch poddisruptionbudgets.policy",
        "watch poddisruptionbudgets.policy streamed",
        "list replicasets.apps paged", "watch replicasets.apps", "watch replicasets.apps streamed",
        "list statefulsets.apps paged", "watch statefulsets.apps", "watch statefulsets.apps streamed",
        "list daemonsets.apps paged", "watch daemonsets.apps", "watch daemonsets.apps streamed",
        "list deployments.apps paged", "watch deployments.apps", "watch deployments.apps streamed",
        "list jobs.batch paged", "watch jobs.batch", "watch jobs.batch streamed",
        "list replicationcontrollers paged", "watch replicationcontrollers", "watch replicationcontrollers streamed",
        "list namespaces paged", "watch namespaces", "watch namespaces streamed",
        "list persistentvolumeclaims", "list persistentvolumeclaims paged", "watch persistentvolumeclaims", "watch persistentvolumeclaims streamed",
        "list persistentvolumes", "list persistentvolumes paged", "watch persistentvolumes", "watch persistentvolumes streamed",
        "list storageclasses.storage.k8s.io", "list storageclasses.storage.k8s.io paged", "watch storageclasses.storage.k8s.io", "watch storageclasses.storage.k8s.io streamed",
        "list csinodes.storage.k8s.io", "list csinodes.storage.k8s.io paged", "watch csinodes.storage.k8s.io", "watch csinodes.storage.k8s.io streamed",
        "list csidrivers.storage.k8s.io", "list csidrivers.storage.k8s.io paged", "watch csidrivers.storage.k8s.io", "watch csidrivers.storage.k8s.io streamed",
        "list csistoragecapacities.storage.k8s.io", "list csistoragecapacities.storage.k8s.io paged", "watch csistoragecapacities.storage.k8s.io", "watch csistoragecapacities.storage.k8s.io streamed",
        "list volumeattachments.storage.k8s.io", "list volumeattachments.storage.k8s.io paged", "watch volumeattachments.storage.k8s.io", "watch volumeattachments.storage.k8s.io streamed",
    ];
    devices_are_followed_where_they_are_served: [
        "list resourceslices.resource.k8s.io paged", "watch resourceslices.resource.k8s.io streamed",
        "list deviceclasses.resource.k8s.io paged", "watch deviceclasses.resource.k8s.io streamed",
        "list resourceclaims.resource.k8s.io paged", "watch resourceclaims.resource.k8s.io streamed",
        "list resourceclaimtemplates.resource.k8s.io paged", "watch resourceclaimtemplates.resource.k8s.io streamed",
    ];
    a_lease_is_taken_renewed_and_lost: [
        "create leases.coordination.k8s.io", "update leases.coordination.k8s.io", "get leases.coordination.k8s.io",
    ];
    a_lease_is_held_by_apply: ["patch leases.coordination.k8s.io apply"];
    a_lease_is_renewed_by_patch: ["patch leases.coordination.k8s.io merge", "list leases.coordination.k8s.io"];
    a_lease_without_a_duration_is_refused: ["create leases.coordination.k8s.io"];
    events_are_told_and_counted: ["create events", "patch events merge", "patch events strategic", "update events"];
    events_of_the_newer_group_are_the_same: ["create events.events.k8s.io", "list events", "patch events.events.k8s.io json"];
    events_live_in_the_namespace_of_their_object: ["create events"];
    typed_lists_and_errors: ["list pods labels", "get pods"];
    empty_lists_are_lists: [
        "list persistentvolumeclaims", "list persistentvolumes labels", "list storageclasses.storage.k8s.io labels",
        "list jobs.batch", "list replicationcontrollers", "list daemonsets.apps", "list csinodes.storage.k8s.io labels",
        "list priorityclasses.scheduling.k8s.io", "list cronjobs.batch", "list services", "list endpoints",
    ];
}

async fn kubes_watcher_lists_then_follows(w: World) {
    follow(w, watcher::Config::default().page_size(1)).await;
}

async fn kubes_watcher_streams_its_list(w: World) {
    follow(w, watcher::Config::default().streaming_lists()).await;
}

async fn follow(w: World, config: watcher::Config) {
    for name in ["a", "b"] {
        w.post(&w.core("pods"), &pod(name)).await.ok();
    }
    let mut stream = Box::pin(watcher::watcher(w.api::<Pod>(), config));
    let mut seen = Vec::new();
    while let Some(event) = stream.next().await {
        match event.expect("a watch that works") {
            watcher::Event::Init => seen.push("init".to_owned()),
            watcher::Event::InitApply(pod) => seen.push(format!("found {}", pod.name_any())),
            watcher::Event::InitDone => {
                seen.push("done".to_owned());
                w.post(&w.core("pods"), &pod("c")).await.ok();
                w.delete(&w.core("pods/a")).await.ok();
            }
            watcher::Event::Apply(pod) if pod.metadata.deletion_timestamp.is_some() => {}
            watcher::Event::Apply(pod) => seen.push(format!("set {}", pod.name_any())),
            watcher::Event::Delete(pod) => {
                seen.push(format!("gone {}", pod.name_any()));
                break;
            }
        }
    }
    assert_eq!(seen, ["init", "found a", "found b", "done", "set c", "gone a"]);
}

/// Everything that the controller follows, one object of each.
fn followed(w: &World) -> Vec<(String, serde_json::Value)> {
    let name = w.unique.as_str();
    let template = workload("Deployment", name, 0)["spec"]["template"].clone();
    let mut job_template = template.clone();
    job_template["spec"]["restartPolicy"] = json!("Never");
    let selector = json!({"matchLabels": {"app": "web"}});
    let of = |api_version: &str, kind: &str, spec: serde_json::Value| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let set = of("apps/v1", "DaemonSet", json!({"selector": selector, "template": template}));
    let controller = json!({"replicas": 0, "selector": {"app": "web"}, "template": template});
    // The world's own namespace has its name already.
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("{name}-followed")}});
    let budget = of("policy/v1", "PodDisruptionBudget", json!({"maxUnavailable": 1, "selector": selector}));
    vec![
        ("/api/v1/nodes".to_owned(), node(name)),
        ("/api/v1/namespaces".to_owned(), namespace),
        (w.apps("deployments"), workload("Deployment", name, 0)),
        (w.apps("replicasets"), workload("ReplicaSet", name, 0)),
        (w.apps("statefulsets"), workload("StatefulSet", name, 0)),
        (w.apps("daemonsets"), set),
        (w.group("batch/v1", "jobs"), of("batch/v1", "Job", json!({"template": job_template}))),
        (w.core("replicationcontrollers"), of("v1", "ReplicationController", controller)),
        (w.group("policy/v1", "poddisruptionbudgets"), budget),
    ]
}

/// Storage that the controller follows.
fn followed_storage(w: &World) -> Vec<(String, serde_json::Value)> {
    let meta = json!({"name": w.unique});
    let of = |kind: &str, version: &str, rest: serde_json::Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": meta});
        for (field, value) in rest.as_object().into_iter().flatten() {
            object[field] = value.clone();
        }
        object
    };
    let group = |plural: &str| format!("/apis/storage.k8s.io/v1/{plural}");
    let storage = |kind: &str, rest| of(kind, "storage.k8s.io/v1", rest);
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none"});
    let volume = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "other",
        "csi": {"driver": "disks.example.com", "volumeHandle": "v"},
    });
    let attached =
        json!({"attacher": "disks.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}});
    vec![
        (w.core("persistentvolumeclaims"), of("PersistentVolumeClaim", "v1", json!({"spec": claim}))),
        ("/api/v1/persistentvolumes".to_owned(), of("PersistentVolume", "v1", json!({"spec": volume}))),
        (group("storageclasses"), storage("StorageClass", json!({"provisioner": "disks.example.com"}))),
        (group("csinodes"), storage("CSINode", json!({"spec": {"drivers": []}}))),
        (group("csidrivers"), storage("CSIDriver", json!({"spec": {}}))),
        (
            w.group("storage.k8s.io/v1", "csistoragecapacities"),
            storage("CSIStorageCapacity", json!({"storageClassName": "fast"})),
        ),
        (group("volumeattachments"), storage("VolumeAttachment", json!({"spec": attached}))),
    ]
}

async fn followed_kinds_are_listed_in_pages_and_watched(w: World) {
    for (path, object) in followed(&w).into_iter().chain(followed_storage(&w)) {
        is_followed(&w, &path, &object).await;
    }
}

/// Devices that the controller follows.
fn followed_devices(w: &World) -> Vec<(String, serde_json::Value)> {
    let of = |kind: &str, spec| json!({"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": {"name": w.unique}, "spec": spec});
    let asked =
        json!({"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "example.com"}}]}});
    let slice = json!({
        "driver": "devices.example.com", "nodeName": "n", "devices": [{"name": "first"}],
        "pool": {"name": w.unique, "generation": 1, "resourceSliceCount": 1},
    });
    let class = json!({"selectors": [{"cel": {"expression": "device.driver == \"devices.example.com\""}}]});
    let of_cluster = |plural: &str| format!("/apis/resource.k8s.io/v1/{plural}");
    let of_namespace = |plural: &str| w.group("resource.k8s.io/v1", plural);
    vec![
        (of_cluster("resourceslices"), of("ResourceSlice", slice)),
        (of_cluster("deviceclasses"), of("DeviceClass", class)),
        (of_namespace("resourceclaims"), of("ResourceClaim", asked.clone())),
        (of_namespace("resourceclaimtemplates"), of("ResourceClaimTemplate", json!({"spec": asked}))),
    ]
}

/// They came late to Kubernetes: some servers do not know them and say so.
async fn devices_are_followed_where_they_are_served(w: World) {
    for (path, object) in followed_devices(&w) {
        if w.get(&format!("{path}?limit=500")).await.code == 404 {
            let stream = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
            assert_eq!(w.get(&format!("{path}?{stream}")).await.code, 404, "{path}");
        } else {
            is_followed(&w, &path, &object).await;
        }
    }
}

/// Made, changed, listed in pages, streamed and deleted, and all of it seen.
async fn is_followed(w: &World, path: &str, object: &serde_json::Value) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let from = version(&w.get(path).await.ok());
    let made = w.post(path, object).await.code(201);
    let mut watch = w.watch(path, &format!("resourceVersion={from}&allowWatchBookmarks=true")).await;
    let (kind, seen) = watch.about(name).await;
    assert_eq!((kind.as_str(), &seen), ("ADDED", &made), "{path}");
    let label = json!({"metadata": {"labels": {"seen": "yes"}}});
    let changed = w.patch(&format!("{path}/{name}"), MERGE, label).await.ok();
    let (kind, seen) = watch.about(name).await;
    assert_eq!((kind.as_str(), &seen), ("MODIFIED", &changed), "{path}");
    let mut token = String::new();
    let mut found = false;
    loop {
        let page = w.get(&format!("{path}?limit=500&continue={token}")).await.ok();
        found |= names(&page).contains(&name);
        page["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    assert!(found, "{path}");
    let streamed = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut stream = w.watch(path, streamed).await;
    let (kind, seen) = stream.about(name).await;
    assert_eq!((kind.as_str(), &seen), ("ADDED", &changed), "{path}");
    let background = json!({"propagationPolicy": "Background"});
    w.delete_with(&format!("{path}/{name}"), background).await.ok();
    // A namespace goes once a controller has emptied it, volumes once one has seen that nobody uses them, and here
    // there is none.
    let stays = path.ends_with("/namespaces") || path.contains("/persistentvolume");
    while !stays && stream.about(name).await.0 != "DELETED" {}
}

fn held_by(holder: &str, time: &str) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(0),
        renew_time: Some(MicroTime(time.parse().unwrap())),
        acquire_time: Some(MicroTime(time.parse().unwrap())),
        ..LeaseSpec::default()
    }
}

async fn a_lease_is_taken_renewed_and_lost(w: World) {
    let leases = w.api::<Lease>();
    let lease = Lease {
        metadata: ObjectMeta { name: Some("leader".into()), ..ObjectMeta::default() },
        spec: Some(held_by("one", "2026-01-01T00:00:00.000001Z")),
    };
    let mut mine = leases.create(&PostParams::default(), &lease).await.unwrap();
    let taken = leases.create(&PostParams::default(), &lease).await.unwrap_err();
    assert!(
        matches!(taken, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
    );
    let mut theirs = leases.get("leader").await.unwrap();
    assert_eq!(
        theirs.spec.as_ref().unwrap().renew_time,
        mine.spec.as_ref().unwrap().renew_time,
        "to the microsecond"
    );
    mine.spec = Some(held_by("one", "2026-01-01T00:00:05.123456Z"));
    let renewed = leases.replace("leader", &PostParams::default(), &mine).await.unwrap();
    assert_ne!(renewed.resource_version(), mine.resource_version());
    theirs.spec = Some(held_by("two", "2026-01-01T00:00:06.000000Z"));
    let lost = leases.replace("leader", &PostParams::default(), &theirs).await.unwrap_err();
    assert!(matches!(lost, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"));
}

async fn a_lease_is_held_by_apply(w: World) {
    let path =
        format!("{}?fieldManager=kubelet&force=true", w.group("coordination.k8s.io/v1", "leases/node-1"));
    let lease = |time: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "node-1"},
            "spec": {"holderIdentity": "node-1", "leaseDurationSeconds": 40, "renewTime": time}
        })
    };
    w.patch(&path, APPLY, lease("2026-01-01T00:00:00.000000Z")).await.code(201);
    let held = w.patch(&path, APPLY, lease("2026-01-01T00:00:10.000000Z")).await.code(200);
    assert_eq!(held["spec"]["renewTime"], "2026-01-01T00:00:10.000000Z");
    assert_eq!(held["spec"]["holderIdentity"], "node-1");
}

async fn a_lease_is_renewed_by_patch(w: World) {
    let path = w.group("coordination.k8s.io/v1", "leases");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "node-1"},
        "spec": {"holderIdentity": "node-1", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.000000Z"}
    });
    w.post(&path, &lease).await.ok();
    let renewal = json!({"spec": {"renewTime": "2026-01-01T00:00:10.000000Z"}});
    let done = w.patch(&format!("{path}/node-1"), MERGE, renewal).await.ok();
    assert_eq!(done["spec"]["renewTime"], "2026-01-01T00:00:10.000000Z");
    assert_eq!(names(&w.get(&path).await.ok()), ["node-1"]);
}

async fn a_lease_without_a_duration_is_refused(w: World) {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 0}
    });
    let path = w.group("coordination.k8s.io/v1", "leases");
    w.post(&path, &lease).await.invalid(&["spec.leaseDurationSeconds"]);
}

fn event(w: &World, name: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(w.ns.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(w.ns.clone()),
            name: Some("a".into()),
            ..ObjectReference::default()
        },
        reason: Some("TriggeredScaleUp".into()),
        message: Some("pod triggered scale-up: [{small 1->2 (max: 5)}]".into()),
        type_: Some("Normal".into()),
        count: Some(1),
        ..Event::default()
    }
}

async fn events_are_told_and_counted(w: World) {
    let made = w.api::<Event>().create(&PostParams::default(), &event(&w, "e")).await.unwrap();
    assert_eq!(made.count, Some(1));
    let path = w.core("events/e");
    let last = json!({"count": 2, "lastTimestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(w.patch(&path, MERGE, last).await.ok()["count"], 2);
    let stored = w.patch(&path, crate::world::STRATEGIC, json!({"count": 3})).await.ok();
    assert_eq!(stored["message"], "pod triggered scale-up: [{small 1->2 (max: 5)}]");
    let mut stored = stored;
    stored["count"] = json!(4);
    assert_eq!(w.put(&path, &stored).await.ok()["count"], 4);
}

async fn events_of_the_newer_group_are_the_same(w: World) {
    let path = w.group("events.k8s.io/v1", "events");
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "tideline.dev/controller",
        "reportingInstance": "tideline-0", "action": "ScaleUp", "reason": "TriggeredScaleUp", "type": "Normal",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": w.ns, "name": "a"}, "note": "more nodes"
    });
    let made = w.post(&path, &event).await.code(201);
    assert_eq!(made["note"], "more nodes");
    let selector = "fieldSelector=involvedObject.name%3Da";
    let list = w.get(&format!("{}?{selector}", w.core("events"))).await.ok();
    assert_eq!(list["items"][0]["involvedObject"]["kind"], "Pod");
    assert_eq!(list["items"][0]["message"], "more nodes");
    assert_eq!(list["items"][0]["reportingComponent"], "tideline.dev/controller");
    w.get(&w.core("events")).await.code(200);
    let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"});
    let steps = json!([{"op": "add", "path": "/series", "value": series}]);
    let done = w.patch(&format!("{path}/e"), JSON_PATCH, steps).await.ok();
    assert_eq!(done["series"]["count"], 2);
}

async fn events_live_in_the_namespace_of_their_object(w: World) {
    let mut astray = event(&w, "e");
    astray.involved_object.namespace = Some("elsewhere".into());
    let refused = w.api::<Event>().create(&PostParams::default(), &astray).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 422), "{refused}");
    // Events about nodes have no namespace and live in `default`.
    let about_node = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": w.unique},
        "involvedObject": {"kind": "Node", "name": "n"}, "reason": "ScaleDown", "message": "m"
    });
    w.post("/api/v1/namespaces/default/events", &about_node).await.code(201);
    w.post(&w.core("events"), &about_node).await.refused(422, "Invalid");
}

async fn typed_lists_and_errors(w: World) {
    w.post(&w.core("pods"), &pod("a")).await.ok();
    let pods = w.api::<Pod>();
    let list = pods.list(&ListParams::default().labels("app=web")).await.unwrap();
    assert_eq!(list.items.len(), 1);
    assert!(list.metadata.resource_version.is_some());
    assert!(pods.get_opt("none").await.unwrap().is_none());
    let kube::Error::Api(status) = pods.get("none").await.unwrap_err() else { panic!("a status") };
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(status.details.unwrap().name, "none");
}

async fn empty_lists_are_lists(w: World) {
    w.post(&w.core("configmaps"), &config_map("a", "1")).await.ok();
    for (path, kind) in [
        (w.core("persistentvolumeclaims"), "PersistentVolumeClaimList"),
        ("/api/v1/persistentvolumes?labelSelector=no%3Done".into(), "PersistentVolumeList"),
        ("/apis/storage.k8s.io/v1/storageclasses?labelSelector=no%3Done".into(), "StorageClassList"),
        ("/apis/storage.k8s.io/v1/csinodes?labelSelector=no%3Done".into(), "CSINodeList"),
        (w.group("batch/v1", "jobs"), "JobList"),
        (w.group("batch/v1", "cronjobs"), "CronJobList"),
        (w.core("replicationcontrollers"), "ReplicationControllerList"),
        (w.core("services"), "ServiceList"),
        (w.core("endpoints"), "EndpointsList"),
        (w.apps("daemonsets"), "DaemonSetList"),
        (w.apps("replicasets"), "ReplicaSetList"),
    ] {
        let list = w.get(&path).await.ok();
        assert_eq!(
            (list["kind"].as_str(), list["items"].as_array().map(Vec::len)),
            (Some(kind), Some(0)),
            "{path}"
        );
        assert!(!version(&list).is_empty());
    }
    let classes = w.get("/apis/scheduling.k8s.io/v1/priorityclasses").await.ok();
    assert!(names(&classes).contains(&"system-node-critical"), "{classes}");
}
