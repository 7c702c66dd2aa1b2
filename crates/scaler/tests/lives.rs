//! Whole lives: pods on standby, a workload that is replaced in the middle, portraits and what is told of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod world;

use api::kapacity::{HorizontalPortrait, IntelligentHorizontalPodAutoscaler as Ihpa};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use sandbox::fault::{FaultPlan, Faults};
use serde_json::{Value, json};
use std::time::Duration;
use world::{World, cpu, gray, planned, reactive, standing, tell_fixed};

const START: &str = "2026-01-01T00:00:05Z";

/// Pods that get traffic of the Service.
async fn served(world: &World) -> Vec<String> {
    let slices = world.api::<EndpointSlice>().list(&ListParams::default()).await.unwrap().items;
    let of_nginx = slices.iter().filter(|slice| {
        slice.labels().get("kubernetes.io/service-name").is_some_and(|service| service == "nginx")
    });
    let ready = of_nginx.flat_map(|slice| &slice.endpoints).filter(|endpoint| {
        endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
    });
    let name =
        |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| endpoint.target_ref.as_ref()?.name.clone();
    let mut names: Vec<String> = ready.filter_map(name).collect();
    names.sort();
    names
}

async fn uids(world: &World) -> Vec<String> {
    world.pods().await.iter().filter_map(Pod::uid).collect()
}

async fn reason(world: &World, kind: &str) -> String {
    let status = world.profile("told").await.and_then(|profile| profile.status).unwrap_or_default();
    status.conditions.into_iter().find(|one| one.type_ == kind).map(|one| one.reason).unwrap_or_default()
}

/// Out of every Service, back with the same UID, out again by another strategy, and gone in the end.
#[tokio::test(start_paused = true)]
async fn a_pod_on_standby_serves_nobody_comes_back_warm_and_goes() {
    let world = standing(START, 4, json!({"scaleDown": gray("Standby", 50, 60, 60)})).await;
    let before = uids(&world).await;
    tell_fixed(&world, "told-told", 2).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+ nginx-3-Standby").await;
    world.until(10, vec!["nginx-0", "nginx-1", "nginx-2"], async |world| owned(&served(world).await)).await;
    let (profile, ihpa) = (world.profile("told").await.unwrap(), world.ihpa("told").await);
    assert_eq!(profile.status.unwrap().standby_replicas, 1);
    assert_eq!(ihpa.status.unwrap().gray.unwrap().gray_percent, 50);
    // Wanted again: back within seconds, the same pod.
    tell_fixed(&world, "told-told", 4).await;
    world.until_shown(10, "nginx-0+ nginx-1+ nginx-2+ nginx-3+").await;
    assert_eq!(uids(&world).await, before);
    tell_fixed(&world, "told-told", 2).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+ nginx-3-Standby").await;
    // Another state in the middle: what is out stays out, under the other label.
    let cut_off = json!({"spec": {"behavior": {"scaleDown": gray("Cutoff", 50, 60, 60)}}});
    world.patch::<Ihpa>("told", cut_off).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+ nginx-3-Cutoff").await;
    world.until_shown(130, "nginx-0+ nginx-1+ nginx-2-Cutoff nginx-3-Cutoff").await;
    world.until_shown(130, "nginx-0+ nginx-1+").await;
    assert_eq!(uids(&world).await, before[..2]);
}

fn owned(names: &[String]) -> Vec<&'static str> {
    let known = ["nginx-0", "nginx-1", "nginx-2", "nginx-3", "nginx-4"];
    known.into_iter().filter(|known| names.iter().any(|name| name == known)).collect()
}

#[tokio::test(start_paused = true)]
async fn b16_while_pods_are_replaced_none_is_cut_off_and_no_scale_is_lowered() {
    let world = standing(START, 5, json!({"scaleDown": gray("Cutoff", 50, 60, 60)})).await;
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}});
    world.patch::<StatefulSet>("nginx", template).await;
    world
        .until(10, true, async |world| world.pods().await.len() < 5 || world.shown().await.contains('-'))
        .await;
    tell_fixed(&world, "told-told", 1).await;
    world.until(30, "StateChangeSkipped".to_owned(), async |world| reason(world, "Applied").await).await;
    let begun = world.clock.now();
    while reason(&world, "Applied").await == "StateChangeSkipped" {
        let set = world.api::<StatefulSet>().get("nginx").await.unwrap();
        assert_eq!(set.spec.and_then(|spec| spec.replicas), Some(5), "nothing is deleted meanwhile");
        assert!(world.clock.now().duration_since(begun).as_secs() < 600, "the replacement does not end");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let new = |pod: &Pod| pod.annotations().get("version").is_some_and(|version| version == "2");
    assert!(world.pods().await.iter().all(new), "the replacement went through");
    world.until_shown(300, "nginx-0+").await;
}

/// A Deployment is replaced while two of its pods are cut off: none is forgotten, and the end is as wanted.
#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_replaced_in_the_middle_ends_as_wanted() {
    let world = World::at(START).await;
    world
        .make::<Deployment>(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "template": World::template("web")},
        }))
        .await;
    let fixed = |replicas: u32| json!([{"type": "Static", "priority": 1, "static": {"replicas": replicas}}]);
    world
        .autoscale(
            "web",
            json!({
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "portraitProviders": fixed(4), "behavior": {"scaleDown": gray("Cutoff", 50, 60, 60)},
            }),
        )
        .await;
    let of_web = async |world: &World| -> Vec<Pod> {
        world.pods().await.into_iter().filter(|pod| pod.name_any().starts_with("web")).collect()
    };
    world.until(60, 4, async |world| of_web(world).await.len()).await;
    world.settle().await;
    world.patch::<Ihpa>("web", json!({"spec": {"portraitProviders": fixed(1)}})).await;
    let out = |pod: &&Pod| pod.labels().contains_key("kapacitystack.io/pod-state");
    world.until(30, 1, async |world| of_web(world).await.iter().filter(out).count()).await;
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}});
    world.patch::<Deployment>("web", template).await;
    let done = async |world: &World| {
        let pods = of_web(world).await;
        let new = pods.iter().filter(|pod| pod.annotations().contains_key("version")).count();
        (pods.len(), new, pods.iter().filter(out).count())
    };
    world.until(900, (1, 1, 0), done).await;
}

#[tokio::test(start_paused = true)]
async fn a_dynamic_provider_has_its_portrait_for_as_long_as_it_is_one() {
    let world = World::at(START).await;
    let provider = reactive(&cpu(30));
    world.autoscale("web", json!({"portraitProviders": [provider]})).await;
    world.until(30, 1, async |world| world.portraits().await.len()).await;
    let portrait: HorizontalPortrait = world.api().get("web-reactive").await.unwrap();
    let spec: Value = serde_json::to_value(&portrait.spec).unwrap();
    assert_eq!(spec["metrics"], provider["dynamic"]["metrics"]);
    assert_eq!(
        (&spec["portraitType"], &spec["scaleTargetRef"]["name"]),
        (&json!("Reactive"), &json!("nginx"))
    );
    // A changed metric is passed on, and a provider that is taken away takes its portrait along.
    world.patch::<Ihpa>("web", json!({"spec": {"portraitProviders": [reactive(&cpu(60))]}})).await;
    world
        .until(30, json!(60), async |world| {
            let portrait: HorizontalPortrait = world.api().get("web-reactive").await.unwrap();
            let spec = serde_json::to_value(&portrait.spec).unwrap();
            spec["metrics"][0]["resource"]["target"]["averageUtilization"].clone()
        })
        .await;
    let fixed = json!({"type": "Static", "priority": 1, "static": {"replicas": 2}});
    world.patch::<Ihpa>("web", json!({"spec": {"portraitProviders": [fixed]}})).await;
    world.until(30, 0, async |world| world.portraits().await.len()).await;
    world.until(30, 2, async |world| world.pods().await.len()).await;
}

/// Two of six pods are cut off and idle: averages are of the four that serve.
#[tokio::test(start_paused = true)]
async fn b28_pods_that_are_cut_off_do_not_pull_averages_down() {
    let world = World::at(START).await;
    world.until_shown(30, "nginx-0+").await;
    world.load("nginx", 1020).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let behavior = json!({"scaleDown": gray("Cutoff", 50, 600, 60)});
    world.autoscale("web", json!({"portraitProviders": [reactive(&cpu(30))], "behavior": behavior})).await;
    world.until(300, 6, async |world| world.pods().await.len()).await;
    tokio::time::sleep(Duration::from_mins(6)).await;
    // A third less: four pods. Some are cut off, and those that are left have all of the load.
    world.load("nginx", 690).await;
    let desired = async |world: &World| world.ihpa("web").await.status.unwrap().desired_replicas;
    world.until(120, Some(4), desired).await;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(
            (desired(&world).await, world.pods().await.len()),
            (Some(4), 6),
            "{}",
            planned(&world, "web").await
        );
    }
}

#[tokio::test(start_paused = true)]
async fn b30_events_tell_what_was_written_and_once() {
    let mut world = standing(START, 2, json!({})).await;
    world.kill();
    let plan: FaultPlan = serde_json::from_value(json!({"rules": [
        {"fault": {"serverError": {"code": 500}}, "probability": 1.0, "verbs": ["patch"], "resources": ["replicaprofiles"], "untilSeconds": 60},
    ]}))
    .unwrap();
    let faults = Faults::new(plan, 1, world.clock).unwrap();
    world.start_with(faults.client(world.sandbox.api()));
    let updates = async |world: &World| {
        world.events().await.iter().filter(|event| event.starts_with("UpdateReplicaProfile")).count()
    };
    let before = updates(&world).await;
    tell_fixed(&world, "told-told", 4).await;
    let failed = "False FailedUpdateReplicaProfile".to_owned();
    world.until(30, failed, async |world| world.condition("told", "ScalingActive").await.0).await;
    assert_eq!(updates(&world).await, before, "a write that failed is not told as done");
    world.until(200, 4, async |world| world.pods().await.len()).await;
    world.settle().await;
    assert_eq!(updates(&world).await, before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_portrait_of_ones_own_hand_is_left_alone() {
    let world = World::at(START).await;
    let portrait: HorizontalPortrait = serde_json::from_value(json!({
        "apiVersion": "autoscaling.kapacitystack.io/v1alpha1", "kind": "HorizontalPortrait",
        "metadata": {"name": "mine"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "nginx"},
            "portraitType": "Told", "externalGeneratorName": "me", "algorithm": {"type": "Told"},
        },
    }))
    .unwrap();
    world.api::<HorizontalPortrait>().create(&PostParams::default(), &portrait).await.unwrap();
    world.settle().await;
    assert!(world.portraits().await[0].status.is_none());
}

/// Six pods on their way to two, under load, with a check of their use.
async fn checked(action: &str, cool_down: u32) -> World {
    let world = standing(START, 6, json!({"scaleDown": gray("Cutoff", 50, 60, 60)})).await;
    let mut metric = cpu(50);
    metric["operator"] = json!(">");
    let checker = json!({
        "type": "Metrics", "stabilizationAction": action, "coolDownSeconds": cool_down, "metrics": {"metrics": [metric]},
    });
    world.patch::<Ihpa>("told", json!({"spec": {"stabilityCheckers": [checker]}})).await;
    // 31 % with six pods, 46 % with four, 91 % with two.
    world.load("nginx", 1080).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    tell_fixed(&world, "told-told", 2).await;
    world.until(30, "4/2/0".to_owned(), async |world| planned(world, "told").await).await;
    let passed = "True StabilityChecksPassed".to_owned();
    world.until(60, passed, async |world| world.condition("told", "Stable").await.0).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_pauses_the_change_until_it_passes() {
    let world = checked("Pause", 30).await;
    let failed = "False StabilityCheckFailed".to_owned();
    world.until(120, failed.clone(), async |world| world.condition("told", "Stable").await.0).await;
    let message = world.condition("told", "Stable").await.1;
    assert_eq!(message, "stabilityCheckers[0].metrics[0]: 91% > 50%: the change is paused");
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(planned(&world, "told").await, "2/4/0", "the four stay warm however long it lasts");
    }
    let told = async |world: &World| {
        world.events().await.iter().filter(|event| event.starts_with("StabilityCheckFailed")).count()
    };
    assert_eq!(told(&world).await, 1);
    world.load("nginx", 0).await;
    world.until_shown(180, "nginx-0+ nginx-1+").await;
    world.until(60, String::new(), async |world| world.condition("told", "Stable").await.0).await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_takes_the_change_back() {
    let mut world = checked("Rollback", 300).await;
    let before = uids(&world).await;
    world.until(150, "6/0/0".to_owned(), async |world| planned(world, "told").await).await;
    world.until_shown(10, "nginx-0+ nginx-1+ nginx-2+ nginx-3+ nginx-4+ nginx-5+").await;
    assert_eq!(uids(&world).await, before, "the same pods");
    // Not tried again before the time, also over a restart.
    world.kill();
    world.start();
    tokio::time::sleep(Duration::from_mins(4)).await;
    assert_eq!(planned(&world, "told").await, "6/0/0");
    world.load("nginx", 300).await;
    world.until_shown(600, "nginx-0+ nginx-1+").await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_made_holds_the_change_and_is_told() {
    let world = standing(START, 4, json!({"scaleDown": gray("Cutoff", 50, 60, 60)})).await;
    let external = json!({"type": "External", "external": {
        "metric": {"name": "errors"}, "target": {"type": "Value", "value": "1"},
    }});
    let checkers = json!([
        {"type": "Metrics", "stabilizationAction": "Rollback", "metrics": {"metrics": [external]}},
        {"type": "External", "stabilizationAction": "Pause", "external": {"name": "guard"}},
    ]);
    world.patch::<Ihpa>("told", json!({"spec": {"stabilityCheckers": checkers}})).await;
    tell_fixed(&world, "told-told", 2).await;
    world.until(30, "3/1/0".to_owned(), async |world| planned(world, "told").await).await;
    let problem = "False FailedCheckStability".to_owned();
    world.until(60, problem, async |world| world.condition("told", "Stable").await.0).await;
    let message = world.condition("told", "Stable").await.1;
    assert!(message.contains("stabilityCheckers[1] is not served"), "{message}");
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(planned(&world, "told").await, "3/1/0", "no step and no way back on what is not known");
    world.patch::<Ihpa>("told", json!({"spec": {"stabilityCheckers": []}})).await;
    world.until_shown(300, "nginx-0+ nginx-1+").await;
}
