//! Faults as a client meets them.

use super::*;
use crate::api::Api;
use crate::store::resource::CONFIG_MAPS;
use crate::store::{Store, StoreOptions};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api as Client;
use kube::api::{ListParams, PostParams, WatchParams};
use serde_json::json;

fn api() -> Api {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    Api::new(Store::new(clock, &StoreOptions::default()))
}

fn rule(fault: Fault) -> FaultRule {
    FaultRule {
        fault,
        probability: 1.0,
        from_seconds: 0,
        until_seconds: None,
        verbs: Vec::new(),
        resources: Vec::new(),
        most: None,
    }
}

fn maps(api: &Api, rules: Vec<FaultRule>) -> (Client<ConfigMap>, Faults) {
    let faults = Faults::new(FaultPlan { rules }, 1, api.store().clock()).unwrap();
    (Client::default_namespaced(faults.client(api)), faults)
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

#[tokio::test(start_paused = true)]
async fn answers_are_lost_before_or_after_the_write() {
    let api = api();
    let (client, faults) = maps(&api, vec![rule(Fault::LostResponse { code: None })]);
    assert!(client.create(&PostParams::default(), &map("done")).await.is_err());
    assert!(api.store().find(CONFIG_MAPS, "default", "done").is_some());
    client.get("done").await.unwrap();
    let counts = faults.counts();
    assert_eq!(
        counts.iter().map(|(k, n)| format!("{k}: {n}")).collect::<Vec<_>>(),
        ["lostResponse met create configmaps: 1"]
    );
    let (client, _) = maps(&api, vec![rule(Fault::LostRequest {})]);
    assert!(client.create(&PostParams::default(), &map("not")).await.is_err());
    assert!(api.store().find(CONFIG_MAPS, "default", "not").is_none());
}

#[tokio::test(start_paused = true)]
async fn windows_and_bounds_end_faults() {
    let api = api();
    let mut busy = rule(Fault::TooManyRequests { retry_after_seconds: 3 });
    (busy.from_seconds, busy.until_seconds, busy.most) = (10, Some(20), Some(1));
    let (client, _) = maps(&api, vec![busy]);
    client.list(&ListParams::default()).await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(12)).await;
    let kube::Error::Api(status) = client.list(&ListParams::default()).await.unwrap_err() else { panic!() };
    assert_eq!((status.code, status.details.clone().unwrap().retry_after_seconds), (429, 3));
    client.list(&ListParams::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lists_can_be_stale_and_watches_late_or_cut() {
    let api = api();
    let make =
        |name: &str| api.store().create(CONFIG_MAPS, "default", json!({"metadata": {"name": name}})).unwrap();
    make("a");
    make("b");
    let (client, _) = maps(&api, vec![rule(Fault::StaleList { revisions: 1 })]);
    let list = client.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let behind = list.metadata.resource_version.unwrap().parse::<u64>().unwrap();
    assert_eq!(behind + 1, api.store().revision());

    let rules =
        vec![rule(Fault::LateWatch { milliseconds: 5000 }), rule(Fault::DroppedWatch { after_chunks: 1 })];
    let (client, _) = maps(&api, rules);
    let version = api.store().revision().to_string();
    let mut events = client.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    make("c");
    let asked = api.store().clock().now();
    assert!(events.try_next().await.unwrap().is_some());
    assert!(api.store().clock().now().duration_since(asked).as_secs() >= 5);
    assert!(events.try_next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_dies_at_its_call() {
    let api = api();
    for (side, applied) in [(KillSide::Before, false), (KillSide::After, true)] {
        let (client, faults) = maps(&api, Vec::new());
        faults.kill_at(KillPoint { call: 2, side, only_writes: true });
        let name = |what: &str| format!("{what}-{}", u8::from(applied));
        client.create(&PostParams::default(), &map(&name("one"))).await.unwrap();
        client.get(&name("one")).await.unwrap();
        assert!(client.create(&PostParams::default(), &map(&name("two"))).await.is_err());
        faults.killed().await;
        assert!(client.get(&name("one")).await.is_err());
        assert_eq!(api.store().find(CONFIG_MAPS, "default", &name("two")).is_some(), applied);
        faults.revive();
        client.get(&name("one")).await.unwrap();
    }
}

#[test]
fn plans_are_read_and_checked() {
    let text = "rules:\n- fault: {serverError: {code: 503}}\n  probability: 0.5\n  verbs: [patch]\n  resources: [pods/eviction]\n- fault: {conflict: {}}\n  probability: 2\n";
    let plan: FaultPlan = serde_saphyr::from_str(text).unwrap();
    assert_eq!(plan.rules[0].fault, Fault::ServerError { code: 503 });
    assert!(plan.check().unwrap_err().to_string().contains("rules[1].probability"));
}
