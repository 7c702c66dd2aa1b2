//! The API through kube's own client, in process.

use super::*;
use crate::store::resource::{POD_DISRUPTION_BUDGETS, PODS};
use crate::store::{Part, Store, StoreOptions};
use clock::Clock;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{
    DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api as Client, ResourceExt};
use serde_json::{Value, json};

pub(super) fn api() -> Api {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    Api::new(Store::new(clock, &StoreOptions::default()))
}

fn pod(name: &str) -> Pod {
    let value = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    serde_json::from_value(value).unwrap()
}

fn code(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason),
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn objects_are_made_read_changed_and_deleted() {
    let client = api().client();
    let maps: Client<ConfigMap> = Client::default_namespaced(client.clone());
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).unwrap();
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    assert!(made.uid().is_some());
    assert_eq!(
        code(maps.create(&PostParams::default(), &map).await.unwrap_err()),
        (409, "AlreadyExists".into())
    );
    let patch = Patch::Merge(json!({"data": {"b": "2"}}));
    let changed = maps.patch("m", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(changed.data.clone().unwrap().len(), 2);
    let late = maps.replace("m", &PostParams::default(), &made).await.unwrap_err();
    assert_eq!(code(late), (409, "Conflict".into()));
    maps.replace("m", &PostParams::default(), &changed).await.unwrap();
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(maps.get("m").await.unwrap_err()), (404, "NotFound".into()));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &map).await.unwrap();
    assert!(maps.get_opt("m").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn lists_have_pages_that_show_one_state() {
    let client = api().client();
    let pods: Client<Pod> = Client::default_namespaced(client);
    for n in 0..5 {
        pods.create(&PostParams::default(), &pod(&format!("p{n}"))).await.unwrap();
    }
    let first = pods.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    pods.delete("p3", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    let second = pods.list(&ListParams::default().continue_token(&token)).await.unwrap();
    let names: Vec<_> = second.items.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["p2", "p3", "p4"]);
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    let selected =
        pods.list(&ListParams::default().labels("app=web").fields("metadata.name=p1")).await.unwrap();
    assert_eq!(selected.items.len(), 1);
    let wrong = pods.list(&ListParams::default().fields("spec.image=x")).await.unwrap_err();
    assert_eq!(code(wrong).0, 400);
}

#[tokio::test(start_paused = true)]
async fn watchers_follow_by_list_and_by_stream() {
    let api = api();
    let client = api.client();
    let pods: Client<Pod> = Client::default_namespaced(client);
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut seen = Box::pin(watcher(pods.clone(), config.timeout(0)).applied_objects());
        assert_eq!(seen.next().await.unwrap().unwrap().name_any(), "a");
        let patch = Patch::Merge(json!({"metadata": {"labels": {"n": api.store().revision().to_string()}}}));
        pods.patch("a", &PatchParams::default(), &patch).await.unwrap();
        assert!(seen.next().await.unwrap().unwrap().labels().contains_key("n"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_selector_turns_changes_into_additions_and_deletions() {
    let api = api();
    let pods: Client<Pod> = Client::default_namespaced(api.client());
    let version = api.store().revision().to_string();
    let params = WatchParams::default().fields("spec.nodeName=n").timeout(10);
    let mut events = pods.watch(&params, &version).await.unwrap().boxed();
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let to = |node: &str| json!({"spec": {"nodeName": node}});
    api.store()
        .modify(PODS, "default", "a", Part::Whole, |v| {
            v["spec"]["nodeName"] = to("n")["spec"]["nodeName"].clone();
            true
        })
        .unwrap();
    assert!(matches!(events.try_next().await.unwrap(), Some(WatchEvent::Added(_))));
    pods.delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(matches!(events.try_next().await.unwrap(), Some(WatchEvent::Deleted(_))));
    // The time-out ends the stream with a bookmark.
    assert!(matches!(events.try_next().await.unwrap(), Some(WatchEvent::Bookmark(_))));
    assert!(events.try_next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_too_far_back_is_gone() {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let api = Api::new(Store::new(clock, &StoreOptions { seed: 0, change_limit: 8 }));
    let pods: Client<Pod> = Client::default_namespaced(api.client());
    let version = api.store().revision().to_string();
    for n in 0..20 {
        pods.create(&PostParams::default(), &pod(&format!("p{n}"))).await.unwrap();
    }
    let mut events = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let Some(WatchEvent::Error(error)) = events.try_next().await.unwrap() else { panic!("no error event") };
    assert_eq!(error.code, 410);
}

#[tokio::test(start_paused = true)]
async fn patches_of_all_kinds() {
    let client = api().client();
    let nodes: Client<Node> = Client::all(client.clone());
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "n"},
        "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "False"}]},
    }))
    .unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let conditions = json!({"status": {"conditions": [{"type": "DiskPressure", "status": "False"}]}});
    let patched =
        nodes.patch_status("n", &PatchParams::default(), &Patch::Strategic(conditions)).await.unwrap();
    assert_eq!(patched.status.unwrap().conditions.unwrap().len(), 2);
    let test: ::json_patch::Patch = serde_json::from_value(json!([
        {"op": "test", "path": "/spec/taints/0/key", "value": "a"},
        {"op": "remove", "path": "/spec/taints/0"},
    ]))
    .unwrap();
    let cut = nodes.patch("n", &PatchParams::default(), &Patch::Json::<()>(test.clone())).await.unwrap();
    // What is left is the taint with which a node begins.
    assert!(cut.spec.unwrap().taints.unwrap_or_default().iter().all(|taint| taint.key != "a"));
    let failed = nodes.patch("n", &PatchParams::default(), &Patch::Json::<()>(test)).await.unwrap_err();
    assert_eq!(code(failed).0, 422);

    let params = PatchParams::apply("me").force();
    let config = |labels: Value| {
        Patch::Apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels}}))
    };
    nodes.patch("n", &params, &config(json!({"a": "1", "b": "1"}))).await.unwrap();
    let other = PatchParams::apply("other");
    let conflict = nodes.patch("n", &other, &config(json!({"a": "2"}))).await.unwrap_err();
    assert_eq!(code(conflict).0, 409);
    let dropped = nodes.patch("n", &params, &config(json!({"a": "1"}))).await.unwrap();
    assert_eq!(dropped.labels().len(), 1);
    let applied = nodes
        .patch(
            "fresh",
            &params,
            &Patch::Apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "fresh"}})),
        )
        .await;
    assert_eq!(applied.unwrap().name_any(), "fresh");
}

#[tokio::test(start_paused = true)]
async fn scale_goes_to_the_spec() {
    let client = api().client();
    let deployments: Client<Deployment> = Client::default_namespaced(client);
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    }))
    .unwrap();
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let scale = deployments.patch_scale("d", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(scale.status.unwrap().selector.as_deref(), Some("a=b"));
    let read = deployments.get("d").await.unwrap();
    assert_eq!((read.spec.unwrap().replicas, read.metadata.generation), (Some(5), Some(2)));
    let negative = Patch::Merge(json!({"spec": {"replicas": -1}}));
    assert_eq!(
        code(deployments.patch_scale("d", &PatchParams::default(), &negative).await.unwrap_err()).0,
        422
    );
}

#[tokio::test(start_paused = true)]
async fn eviction_asks_the_budget() {
    let api = api();
    let pods: Client<Pod> = Client::default_namespaced(api.client());
    let store = api.store();
    for name in ["a", "b"] {
        pods.create(&PostParams::default(), &pod(name)).await.unwrap();
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        store
            .modify(PODS, "default", name, Part::Status, |v| {
                v["status"] = ready;
                true
            })
            .unwrap();
    }
    let budget = json!({"metadata": {"name": "x"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    store.create(POD_DISRUPTION_BUDGETS, "default", budget).unwrap();
    let evict = |name: &'static str| {
        let pods = pods.clone();
        async move { pods.evict(name, &EvictParams::default()).await }
    };
    assert_eq!(code(evict("a").await.unwrap_err()).0, 429, "a budget that was not looked at yet");
    let status =
        json!({"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1});
    store
        .modify(POD_DISRUPTION_BUDGETS, "default", "x", Part::Status, |v| {
            v["status"] = status;
            true
        })
        .unwrap();
    evict("a").await.unwrap();
    assert_eq!(code(evict("b").await.unwrap_err()), (429, "TooManyRequests".into()));
    assert!(pods.get_opt("a").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn discovery_lists_what_is_served() {
    let client = api().client();
    let groups = client.list_api_groups().await.unwrap();
    assert!(groups.groups.iter().any(|group| group.name == "apps"));
    let core = client.list_core_api_resources("v1").await.unwrap();
    assert!(core.resources.iter().any(|r| r.name == "pods/eviction"));
    let discovery = kube::discovery::Discovery::new(client.clone()).run_aggregated().await.unwrap();
    assert!(discovery.has_group("batch"));
    assert_eq!(client.apiserver_version().await.unwrap().minor, "33");
}

#[tokio::test(start_paused = true)]
async fn custom_resources_are_served_as_defined() {
    use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
    let client = self::api().client();
    let definitions: Client<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Client::all(client.clone());
    for definition in ::api::crds() {
        definitions.create(&PostParams::default(), &definition).await.unwrap();
    }
    let kind = GroupVersionKind::gvk("tideline.dev", "v1alpha1", "SimulatedPool");
    let pools: Client<DynamicObject> =
        Client::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&kind, "simulatedpools"));
    let pool: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": "p"},
        "spec": {"min": 0, "max": 5, "replicas": 1, "template": {"allocatable": {"cpu": "4"}}, "odd": true},
        "status": {"replicas": 9},
    }))
    .unwrap();
    let made = pools.create(&PostParams::default(), &pool).await.unwrap();
    assert!(made.data.get("status").is_none() && made.data["spec"].get("odd").is_none(), "{made:?}");
    let scale = pools
        .patch_scale("p", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 3}})))
        .await;
    assert_eq!(scale.unwrap().spec.unwrap().replicas, Some(3));
    let wrong =
        pools.patch("p", &PatchParams::default(), &Patch::Merge(json!({"spec": {"max": "many"}}))).await;
    assert_eq!(code(wrong.unwrap_err()).0, 422);
    let strategic =
        pools.patch("p", &PatchParams::default(), &Patch::Strategic(json!({"spec": {"max": 6}}))).await;
    assert_eq!(code(strategic.unwrap_err()).0, 415);
    definitions.delete("simulatedpools.tideline.dev", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(pools.get("p").await.unwrap_err()).0, 404);
}
