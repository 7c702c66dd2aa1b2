//! Tests of the store: identity, locking, deletion, the change log, equal runs.

use super::resource::{CONFIG_MAPS, NAMESPACES, PODS};
use super::*;
use serde_json::json;
use std::sync::PoisonError;

fn store() -> Store {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    Store::new(clock, &StoreOptions { seed: 7, change_limit: 100 })
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[test]
fn creation_gives_identity_and_refuses_twice() {
    let store = store();
    let made = store.create(PODS, "default", pod("a")).unwrap();
    assert_eq!(made.text("metadata.creationTimestamp"), Some("2026-01-01T00:00:00Z"));
    assert_eq!(made.text("apiVersion"), Some("v1"));
    assert_eq!(made.uid().len(), 36);
    assert!(store.create(PODS, "default", pod("a")).unwrap_err().is_already_exists());
    let error = store.create(PODS, "nowhere", pod("a")).unwrap_err();
    assert_eq!(error.to_string(), "namespaces \"nowhere\" not found");
    let named =
        json!({"metadata": {"generateName": "x-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let named = store.create(PODS, "default", named).unwrap();
    assert_eq!(named.name().len(), 7);
    assert_eq!(store.count(PODS), 2);
}

#[test]
fn an_old_version_conflicts_and_an_equal_write_is_none() {
    let store = store();
    let first =
        store.create(CONFIG_MAPS, "default", json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).unwrap();
    let mut value = first.value().clone();
    value["data"]["a"] = json!("2");
    let second = store.update(CONFIG_MAPS, "default", "m", Part::Main, value.clone()).unwrap();
    assert!(second.revision() > first.revision());
    assert!(store.update(CONFIG_MAPS, "default", "m", Part::Main, value).unwrap_err().is_conflict());
    let same = store.update(CONFIG_MAPS, "default", "m", Part::Main, second.value().clone()).unwrap();
    assert_eq!(same.revision(), second.revision());
}

#[test]
fn spec_and_status_are_apart() {
    let store = store();
    store.create(PODS, "default", pod("a")).unwrap();
    let both = |v: &mut Value| {
        v["status"]["phase"] = json!("Running");
        v["metadata"]["labels"] = json!({"a": "b"});
        true
    };
    let main = store.modify(PODS, "default", "a", Part::Main, both).unwrap();
    assert_eq!((main.text("status.phase"), main.label("a")), (Some("Pending"), Some("b")));
    let status = store.modify(PODS, "default", "a", Part::Status, both).unwrap();
    assert_eq!(status.text("status.phase"), Some("Running"));
}

#[test]
fn pods_on_nodes_go_with_grace_and_finalizers_hold() {
    let store = store();
    let mut value = pod("a");
    value["spec"]["nodeName"] = json!("n");
    store.create(PODS, "default", value).unwrap();
    let marked = store.delete(PODS, "default", "a", &DeleteOptions::default()).unwrap();
    assert!(!marked.gone);
    assert_eq!(marked.object.text("metadata.deletionTimestamp"), Some("2026-01-01T00:00:30Z"));
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    assert!(store.delete(PODS, "default", "a", &now).unwrap().gone);

    let held = json!({"metadata": {"name": "m", "finalizers": ["x.dev/f"]}});
    store.create(CONFIG_MAPS, "default", held).unwrap();
    assert!(!store.delete(CONFIG_MAPS, "default", "m", &DeleteOptions::default()).unwrap().gone);
    store
        .modify(CONFIG_MAPS, "default", "m", Part::Main, |v| {
            v["metadata"]["finalizers"] = json!([]);
            true
        })
        .unwrap();
    assert!(store.find(CONFIG_MAPS, "default", "m").is_none());
    let wrong = DeleteOptions { uid: Some("other".into()), ..DeleteOptions::default() };
    store.create(PODS, "default", pod("b")).unwrap();
    assert!(store.delete(PODS, "default", "b", &wrong).unwrap_err().is_conflict());
}

#[test]
fn a_namespace_takes_its_content_along() {
    let store = store();
    store.create(NAMESPACES, "", json!({"metadata": {"name": "n"}})).unwrap();
    let held = json!({"metadata": {"name": "m", "finalizers": ["x.dev/f"]}});
    store.create(CONFIG_MAPS, "n", held).unwrap();
    assert!(!store.delete(NAMESPACES, "", "n", &DeleteOptions::default()).unwrap().gone);
    let refused = store.create(PODS, "n", pod("a")).unwrap_err();
    assert_eq!(refused.code(), 403);
    store
        .modify(CONFIG_MAPS, "n", "m", Part::Main, |v| {
            v["metadata"]["finalizers"] = json!([]);
            true
        })
        .unwrap();
    assert!(store.find(NAMESPACES, "", "n").is_none());
}

#[tokio::test]
async fn changes_come_in_order_and_old_positions_expire() {
    let store = store();
    let start = store.revision();
    let mut all = store.subscribe();
    let mut pods = store.watch(PODS, start);
    store.create(CONFIG_MAPS, "default", json!({"metadata": {"name": "m"}})).unwrap();
    store.create(PODS, "default", pod("a")).unwrap();
    let seen: Vec<_> = all.next().await.unwrap().iter().map(|c| c.object.resource()).collect();
    assert_eq!(seen, [CONFIG_MAPS, PODS]);
    assert_eq!(pods.next().await.unwrap().len(), 1);
    for n in 0..200 {
        store.create(CONFIG_MAPS, "default", json!({"metadata": {"name": format!("m{n}")}})).unwrap();
    }
    assert_eq!(store.subscribe_from(start).ready().unwrap_err().code(), 410);
    assert!(pods.ready().unwrap().is_empty());
    assert_eq!(store.watch(PODS, start).ready().unwrap_err().code(), 410);
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_give_equal_logs_of_writes() {
    let run = || {
        let (store, sink) = (store().acting_as("tester"), Shared::default());
        store.record_writes(Box::new(sink.clone()));
        let named = json!({"metadata": {"generateName": "x-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        store.create(PODS, "default", named).unwrap();
        store.stop_recording().unwrap();
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    };
    let first = run();
    assert!(first.contains(" create pods default/x-") && first.trim_end().ends_with("by tester"), "{first}");
    assert_eq!(first, run());
}

#[test]
fn decoding_is_shared() {
    let store = store();
    let made = store.create(PODS, "default", pod("a")).unwrap();
    let one = made.typed::<k8s_openapi::api::core::v1::Pod>().unwrap();
    let two = made.typed::<k8s_openapi::api::core::v1::Pod>().unwrap();
    assert!(Arc::ptr_eq(&one, &two));
}
