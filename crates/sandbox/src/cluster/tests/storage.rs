//! Claims, the binder and the scheduler together.

use super::super::controllers::objects::condition;
use super::*;
use crate::store::resource::{
    CSI_NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STATEFUL_SETS, STORAGE_CLASSES,
};
use crate::store::{DeleteOptions, Part};

const ZONE: &str = "topology.kubernetes.io/zone";

fn add_zoned(store: &Store, name: &str, zone: &str) {
    add_node(store, name, "2");
    store
        .modify(NODES, "", name, Part::Main, |value| {
            value["metadata"]["labels"][ZONE] = zone.into();
            true
        })
        .unwrap();
}

fn add_class(store: &Store, name: &str, binding: &str) {
    let class = json!({
        "metadata": {"name": name}, "provisioner": "disks.example.com", "volumeBindingMode": binding,
    });
    store.create(STORAGE_CLASSES, "", class).unwrap();
}

fn claim(name: &str, class: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    })
}

fn pod_with(name: &str, volume: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
            "volumes": [volume],
        },
    })
}

fn waits_because(store: &Store, pod: &str) -> String {
    let pod = store.find(PODS, "default", pod);
    let said = pod.as_deref().and_then(|pod| condition(pod, "PodScheduled")?["message"].as_str());
    said.unwrap_or_default().to_owned()
}

fn zone_of(store: &Store, claim: &str) -> Option<String> {
    let claim = store.find(PERSISTENT_VOLUME_CLAIMS, "default", claim)?;
    let volume = store.find(PERSISTENT_VOLUMES, "", claim.text("spec.volumeName")?)?;
    volume.label(ZONE).map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_gets_volumes_where_its_pods_run_and_returns_to_them() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_class(store, "zonal", "WaitForFirstConsumer");
    add_zoned(store, "a1", "a");
    add_zoned(store, "b1", "b");
    let mut db = workload("db", 4, "1");
    db["spec"]["volumeClaimTemplates"] =
        json!([{"metadata": {"name": "data"}, "spec": claim("", "zonal")["spec"]}]);
    store.create(STATEFUL_SETS, "default", db).unwrap();
    until(store, 60, "four ready", |s| ready_pods(s) == 4).await;
    for pod in pods(store) {
        let node = store.get(NODES, "", pod.text("spec.nodeName").unwrap()).unwrap();
        let zone = zone_of(store, &format!("data-{}", pod.name()));
        assert_eq!(zone.as_deref(), node.label(ZONE), "{}", pod.name());
    }
    let home = store.get(PODS, "default", "db-0").unwrap().text("spec.nodeName").unwrap().to_owned();
    let other = if home == "a1" { "b" } else { "a" };
    store
        .modify(NODES, "", &home, Part::Main, |value| {
            value["spec"]["unschedulable"] = true.into();
            true
        })
        .unwrap();
    add_zoned(store, "other-zone", other);
    until(store, 60, "the new node is ready", |s| {
        condition(&s.get(NODES, "", "other-zone").unwrap(), "Ready")
            .is_some_and(|ready| ready["status"] == "True")
            && s.get(NODES, "", "other-zone").unwrap().at("spec.taints").is_none_or(|t| t == &json!([]))
    })
    .await;
    store.delete(PODS, "default", "db-0", &DeleteOptions::default()).unwrap();
    until(store, 120, "it stays with its volume", |s| {
        waits_because(s, "db-0").contains("1 node(s) were unschedulable")
            && waits_because(s, "db-0").contains("node(s) didn't match PersistentVolume's node affinity")
    })
    .await;
    add_zoned(store, "same-zone", if other == "a" { "b" } else { "a" });
    until(store, 60, "it is back", |s| ready_pods(s) == 4).await;
}

#[tokio::test(start_paused = true)]
async fn claims_that_bind_at_once_need_their_class() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_zoned(store, "a1", "a");
    store.create(PERSISTENT_VOLUME_CLAIMS, "default", claim("c", "later")).unwrap();
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
    store.create(PODS, "default", pod_with("p", &volume)).unwrap();
    until(store, 60, "waits", |s| {
        waits_because(s, "p") == "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    })
    .await;
    add_class(store, "later", "Immediate");
    until(store, 60, "runs", |s| ready_pods(s) == 1).await;
    assert_eq!(zone_of(store, "c").as_deref(), Some("a"));
    store.delete(PODS, "default", "p", &DeleteOptions::default()).unwrap();
    store.delete(PERSISTENT_VOLUME_CLAIMS, "default", "c", &DeleteOptions::default()).unwrap();
    until(store, 60, "the volume goes with its claim", |s| s.count(PERSISTENT_VOLUMES) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn volumes_that_exist_are_used_and_kept() {
    let sandbox = sandbox();
    let store = sandbox.store();
    let class = json!({
        "metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    store.create(STORAGE_CLASSES, "", class).unwrap();
    add_node(store, "n1", "4");
    add_node(store, "n2", "4");
    let requirement = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]});
    let disk = json!({
        "metadata": {"name": "disk"},
        "spec": {
            "storageClassName": "local", "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"],
            "local": {"path": "/mnt"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}},
        },
    });
    store.create(PERSISTENT_VOLUMES, "", disk).unwrap();
    for name in ["first", "second"] {
        store.create(PERSISTENT_VOLUME_CLAIMS, "default", claim(name, "local")).unwrap();
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": name}});
        store.create(PODS, "default", pod_with(name, &volume)).unwrap();
    }
    let none = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.";
    until(store, 60, "one runs, one waits", |s| ready_pods(s) == 1 && waits_because(s, "second") == none)
        .await;
    let first = store.get(PODS, "default", "first").unwrap();
    assert_eq!(first.text("spec.nodeName"), Some("n2"));
    store.delete(PODS, "default", "first", &DeleteOptions::default()).unwrap();
    store.delete(PERSISTENT_VOLUME_CLAIMS, "default", "first", &DeleteOptions::default()).unwrap();
    until(store, 60, "released, not deleted", |s| {
        s.get(PERSISTENT_VOLUMES, "", "disk").unwrap().text("status.phase") == Some("Released")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ephemeral_volumes_and_attach_limits() {
    let sandbox = sandbox();
    let store = sandbox.store();
    add_class(store, "fast", "WaitForFirstConsumer");
    add_node(store, "n1", "8");
    let limit = json!({
        "metadata": {"name": "n1"},
        "spec": {"drivers": [{"name": "disks.example.com", "nodeID": "n1", "allocatable": {"count": 2}}]},
    });
    store.create(CSI_NODES, "", limit).unwrap();
    let volume =
        json!({"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim("", "fast")["spec"]}}});
    for name in ["p1", "p2", "p3"] {
        store.create(PODS, "default", pod_with(name, &volume)).unwrap();
    }
    let full = "0/1 nodes are available: 1 node(s) exceed max volume count.";
    until(store, 60, "two run, one waits", |s| {
        ready_pods(s) == 2 && ["p1", "p2", "p3"].iter().any(|pod| waits_because(s, pod) == full)
    })
    .await;
    store.delete(PODS, "default", "p1", &DeleteOptions::default()).unwrap();
    until(store, 120, "its claim and volume go, the third runs", |s| {
        s.find(PERSISTENT_VOLUME_CLAIMS, "default", "p1-scratch").is_none() && ready_pods(s) == 2
    })
    .await;
}
