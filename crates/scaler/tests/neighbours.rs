//! Other controllers, other kinds of workloads, other hands: who acts, and on which pods.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod world;

use api::kapacity::{IntelligentHorizontalPodAutoscaler as Ihpa, ReplicaProfile};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::time::Duration;
use world::World;

const START: &str = "2026-01-01T00:00:05Z";

fn fixed(replicas: u32) -> Value {
    json!([{"type": "Static", "priority": 1, "static": {"replicas": replicas}}])
}

fn cut_off(observation: u32) -> Value {
    json!({"scaleDown": {"grayStrategy": {
        "grayState": "Cutoff", "changeIntervalSeconds": 60, "changePercent": 50, "observationSeconds": observation,
    }}})
}

async fn condition(world: &World, kind: &str) -> String {
    world.condition("web", kind).await.0
}

async fn replicas(world: &World) -> i32 {
    let set = world.api::<StatefulSet>().get("nginx").await.unwrap();
    set.spec.and_then(|spec| spec.replicas).unwrap_or(1)
}

#[tokio::test(start_paused = true)]
async fn a_running_peer_is_left_to_act() {
    let world = World::at(START).await;
    let manager = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kapacity-manager"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "manager"}}, "template": {
                "metadata": {"labels": {"app": "manager"}}, "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    world.make::<Deployment>(manager).await;
    world.until(30, 2, async |world| world.pods().await.len()).await;
    world.autoscale("web", json!({"portraitProviders": fixed(3)})).await;
    world
        .until(30, "True DeploymentRuns".to_owned(), async |world| {
            condition(world, "AnotherController").await
        })
        .await;
    world.settle().await;
    assert_eq!((replicas(&world).await, world.profile("web").await.is_none()), (1, true));
    // Nothing of ours is on the object, nor is anything made for it.
    assert!(world.ihpa("web").await.finalizers().is_empty() && world.portraits().await.is_empty());
    world.patch::<Deployment>("kapacity-manager", json!({"spec": {"replicas": 0}})).await;
    world.until(30, 3, replicas).await;
    assert_eq!(condition(&world, "AnotherController").await, "");
    // It comes back, and we stop at once.
    world.patch::<Deployment>("kapacity-manager", json!({"spec": {"replicas": 1}})).await;
    world
        .until(30, "True DeploymentRuns".to_owned(), async |world| {
            condition(world, "AnotherController").await
        })
        .await;
    world.patch::<Ihpa>("web", json!({"spec": {"portraitProviders": fixed(5)}})).await;
    world.settle().await;
    assert_eq!(replicas(&world).await, 3);
}

#[tokio::test(start_paused = true)]
async fn there_is_no_fight_with_an_hpa_or_an_older_autoscaler() {
    let world = World::at(START).await;
    world.autoscale("web", json!({"portraitProviders": fixed(3), "behavior": cut_off(300)})).await;
    world.until(60, 3, replicas).await;
    world.patch::<Ihpa>("web", json!({"spec": {"portraitProviders": fixed(1)}})).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2-Cutoff").await;
    world
        .make::<HorizontalPodAutoscaler>(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "hpa"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "nginx"}, "maxReplicas": 5,
            },
        }))
        .await;
    world
        .until(30, "False ConflictingAutoscaler".to_owned(), async |world| {
            condition(world, "ScalingActive").await
        })
        .await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+").await;
    assert!(world.condition("web", "Conflict").await.1.contains("default/hpa"));
    world.delete::<HorizontalPodAutoscaler>("hpa").await;
    world
        .until(30, "True SucceededAutoscaling".to_owned(), async |world| {
            condition(world, "ScalingActive").await
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.autoscale("younger", json!({"portraitProviders": fixed(7)})).await;
    world
        .until(30, "True SameTarget".to_owned(), async |world| world.condition("younger", "Conflict").await.0)
        .await;
    world.delete::<Ihpa>("web").await;
    world.until(60, 7, replicas).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_deployment_the_pods_that_were_cut_off_are_those_deleted() {
    let world = World::at(START).await;
    let mut template = World::template("web");
    template["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "7"});
    world
        .make::<Deployment>(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        }))
        .await;
    let of_web = async |world: &World| -> Vec<Pod> {
        world.pods().await.into_iter().filter(|pod| pod.name_any().starts_with("web")).collect()
    };
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec = json!({"scaleTargetRef": target, "portraitProviders": fixed(4), "behavior": cut_off(60)});
    world.autoscale("web", spec).await;
    world.until(60, 4, async |world| of_web(world).await.len()).await;
    world.settle().await;
    world.patch::<Ihpa>("web", json!({"spec": {"portraitProviders": fixed(2)}})).await;
    let out = |pod: &&Pod| pod.labels().contains_key("kapacitystack.io/pod-state");
    let cost = |pod: &Pod| pod.annotations().get("controller.kubernetes.io/pod-deletion-cost").cloned();
    world.until(80, 2, async |world| of_web(world).await.iter().filter(out).count()).await;
    let stay: Vec<String> = of_web(&world).await.iter().filter(|pod| !out(pod)).map(Pod::name_any).collect();
    let costs: Vec<_> = of_web(&world).await.iter().filter(out).filter_map(cost).collect();
    assert_eq!(costs, ["-2147483648", "-2147483648"]);
    world.until(90, 2, async |world| of_web(world).await.len()).await;
    let left: Vec<String> = of_web(&world).await.iter().map(Pod::name_any).collect();
    assert_eq!(left, stay);
    // One that comes back has its own cost again.
    world.patch::<Ihpa>("web", json!({"spec": {"portraitProviders": fixed(1)}})).await;
    world.until(30, 1, async |world| of_web(world).await.iter().filter(out).count()).await;
    world.patch::<Ihpa>("web", json!({"spec": {"portraitProviders": fixed(2)}})).await;
    world.until(30, 0, async |world| of_web(world).await.iter().filter(out).count()).await;
    let costs: Vec<_> = of_web(&world).await.iter().filter_map(cost).collect();
    assert_eq!(costs, ["7", "7"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_profiles_of_one_workload_the_older_acts() {
    let world = World::at(START).await;
    let profile = |name: &str, online: u32| {
        json!({
            "apiVersion": "autoscaling.kapacitystack.io/v1alpha1", "kind": "ReplicaProfile", "metadata": {"name": name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "nginx"},
                "onlineReplicas": online,
            },
        })
    };
    world.make::<ReplicaProfile>(profile("z-older", 3)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.make::<ReplicaProfile>(profile("a-younger", 5)).await;
    world.until(60, 3, replicas).await;
    world.settle().await;
    assert_eq!(replicas(&world).await, 3);
    let status = world.profile("a-younger").await.unwrap().status.unwrap_or_default();
    assert!(status.conditions.iter().any(|condition| condition.reason == "ConflictingReplicaProfile"));
    world.delete::<ReplicaProfile>("z-older").await;
    world.until(60, 5, replicas).await;
}

#[tokio::test(start_paused = true)]
async fn a_custom_resource_is_scaled_by_its_scale() {
    let world = World::at(START).await;
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "clonesets.apps.example.com"},
        "spec": {
            "group": "apps.example.com", "scope": "Namespaced",
            "names": {"plural": "clonesets", "kind": "CloneSet", "singular": "cloneset", "listKind": "CloneSetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                }},
            }],
        },
    });
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    crds.create(&PostParams::default(), &serde_json::from_value(crd).unwrap()).await.unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps.example.com", "v1", "CloneSet"));
    let sets: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), "default", &resource);
    let set = json!({
        "apiVersion": "apps.example.com/v1", "kind": "CloneSet", "metadata": {"name": "web"}, "spec": {"replicas": 1},
    });
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    let target = json!({"apiVersion": "apps.example.com/v1", "kind": "CloneSet", "name": "web"});
    world.autoscale("web", json!({"scaleTargetRef": target, "portraitProviders": fixed(4)})).await;
    world.settle().await;
    // Its controller has not said yet which pods are its own.
    assert_eq!(sets.get("web").await.unwrap().data["spec"]["replicas"], 1);
    let status = json!({"status": {"replicas": 1, "selector": "app=web"}});
    sets.patch_status("web", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    world
        .until(90, json!(4), async |_| sets.get("web").await.unwrap().data["spec"]["replicas"].clone())
        .await;
}
