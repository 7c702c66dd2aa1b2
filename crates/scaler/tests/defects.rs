//! The peer's defects, by their numbers in the list that we keep of them: each is shown to be gone.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod world;

use api::kapacity::{IntelligentHorizontalPodAutoscaler as Ihpa, ReplicaProfile};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::time::Duration;
use world::{World, cpu, foreign, gray, planned, reactive, standing, tell_fixed};

fn fixed(replicas: u32) -> Value {
    json!({"type": "Static", "priority": 1, "static": {"replicas": replicas}})
}

fn cron(name: &str, start: &str, end: &str, replicas: u32) -> Value {
    json!({"name": name, "start": start, "end": end, "replicas": replicas})
}

fn crons(priority: i32, crons: &[Value]) -> Value {
    json!({"type": "Cron", "priority": priority, "cron": {"crons": crons}})
}

async fn uids(world: &World) -> Vec<String> {
    world.pods().await.iter().filter_map(kube::ResourceExt::uid).collect()
}

const START: &str = "2026-01-01T00:00:05Z";

#[tokio::test(start_paused = true)]
async fn b1_steps_survive_reactive_portraits() {
    let world = World::at(START).await;
    world.until_shown(30, "nginx-0+").await;
    world.load("nginx", 1020).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    world
        .autoscale(
            "web",
            json!({
                "portraitProviders": [reactive(&cpu(30))],
                "behavior": {"scaleDown": gray("Cutoff", 50, 60, 60)},
            }),
        )
        .await;
    world.until(300, 6, async |world| world.pods().await.len()).await;
    tokio::time::sleep(Duration::from_mins(6)).await;
    world.load("nginx", 0).await;
    world.until(120, "4/2/0".to_owned(), async |world| planned(world, "web").await).await;
    let begun = world.clock.now();
    world.until(120, 2, async |world| world.pods().await.iter().filter(|pod| is_cut_off(pod)).count()).await;
    world.until(900, 1, async |world| world.pods().await.len()).await;
    assert!(world.clock.now().duration_since(begun).as_secs() >= 110, "in steps, and observed");
}

fn is_cut_off(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    pod.labels().contains_key("kapacitystack.io/pod-state")
}

#[tokio::test(start_paused = true)]
async fn b2_steps_survive_bounds() {
    let world = World::at("2026-01-01T00:58:00Z").await;
    world
        .autoscale(
            "web",
            json!({
                "maxReplicas": 8,
                "portraitProviders": [fixed(2), crons(2, &[cron("a", "0 * * * *", "10 * * * *", 15)])],
                "behavior": {"scaleDown": gray("Cutoff", 50, 60, 60)},
            }),
        )
        .await;
    world.until(300, "8/0/0".to_owned(), async |world| planned(world, "web").await).await;
    assert_eq!(world.condition("web", "ScalingLimited").await.0, "True TooManyReplicas");
    world.until(700, "5/3/0".to_owned(), async |world| planned(world, "web").await).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(planned(&world, "web").await, "5/3/0");
    world.until(30, "2/6/0".to_owned(), async |world| planned(world, "web").await).await;
    world.until(90, "2/0/0".to_owned(), async |world| planned(world, "web").await).await;
}

#[tokio::test(start_paused = true)]
async fn b3_steps_survive_successors_of_the_same_count() {
    let world = World::at("2026-01-01T00:08:00Z").await;
    let windows = [
        cron("high", "0 * * * *", "10 * * * *", 5),
        cron("low", "10 * * * *", "11 * * * *", 1),
        cron("low-again", "11 * * * *", "12 * * * *", 1),
        cron("low-still", "12 * * * *", "30 * * * *", 1),
    ];
    let behavior = json!({"scaleDown": gray("Cutoff", 50, 90, 90)});
    world.autoscale("web", json!({"portraitProviders": [crons(1, &windows)], "behavior": behavior})).await;
    world.until(200, "3/2/0".to_owned(), async |world| planned(world, "web").await).await;
    let begun = world.clock.now();
    world.until(120, "1/4/0".to_owned(), async |world| planned(world, "web").await).await;
    world.until(120, "1/0/0".to_owned(), async |world| planned(world, "web").await).await;
    let took = world.clock.now().duration_since(begun).as_secs();
    assert!((178..=186).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn b4_a_step_that_changes_nothing_is_left_behind() {
    let world = standing(START, 2, json!({"scaleDown": gray("Cutoff", 50, 30, 60)})).await;
    tell_fixed(&world, "told-told", 1).await;
    world.until(10, "1/1/0".to_owned(), async |world| planned(world, "told").await).await;
    world.until(95, "1/0/0".to_owned(), async |world| planned(world, "told").await).await;
    world.until_shown(30, "nginx-0+").await;
}

#[tokio::test(start_paused = true)]
async fn b5_a_strategy_may_come_in_the_middle() {
    let mut world = standing(START, 6, json!({})).await;
    world.kill();
    tell_fixed(&world, "told-told", 2).await;
    let patch = json!({"spec": {"behavior": {"scaleDown": gray("Cutoff", 50, 30, 30)}}});
    world.patch::<Ihpa>("told", patch).await;
    world.start();
    world.until(10, "4/2/0".to_owned(), async |world| planned(world, "told").await).await;
    world.until(200, "2/0/0".to_owned(), async |world| planned(world, "told").await).await;
    assert_eq!(world.condition("told", "ScalingActive").await.0, "True SucceededAutoscaling");
}

#[tokio::test(start_paused = true)]
async fn b6_rollback_brings_pods_back_and_deletes_none() {
    let both = gray("Cutoff", 50, 60, 60);
    let world = standing(START, 10, json!({"scaleUp": both, "scaleDown": both})).await;
    let before = uids(&world).await;
    tell_fixed(&world, "told-told", 2).await;
    world.until(30, 4, async |world| world.pods().await.iter().filter(|pod| is_cut_off(pod)).count()).await;
    // Another target in the middle goes on from where the pods are.
    tell_fixed(&world, "told-told", 4).await;
    world.until(30, "5/5/0".to_owned(), async |world| planned(world, "told").await).await;
    tell_fixed(&world, "told-told", 10).await;
    world.until(10, "10/0/0".to_owned(), async |world| planned(world, "told").await).await;
    world.until(10, 0, async |world| world.pods().await.iter().filter(|pod| is_cut_off(pod)).count()).await;
    world.settle().await;
    assert_eq!(uids(&world).await, before, "the same ten pods");
}

#[tokio::test(start_paused = true)]
async fn b7_a_disabled_direction_does_not_run_away() {
    let mut down = gray("Cutoff", 50, 30, 30);
    down["disabled"] = json!(true);
    let world = standing(START, 5, json!({"scaleDown": down})).await;
    tell_fixed(&world, "told-told", 1).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(world.pods().await.len(), 5);
    }
    tell_fixed(&world, "told-told", 7).await;
    world.until(60, 7, async |world| world.pods().await.len()).await;
}

#[tokio::test(start_paused = true)]
async fn b8_no_pod_stays_cut_off() {
    let five = "nginx-0+ nginx-1+ nginx-2+ nginx-3+ nginx-4+";
    for way in ["deleted", "preview", "profile"] {
        let world = standing(START, 5, json!({"scaleDown": gray("Cutoff", 50, 300, 300)})).await;
        tell_fixed(&world, "told-told", 1).await;
        world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+ nginx-3-Cutoff nginx-4-Cutoff").await;
        match way {
            "deleted" => world.delete::<Ihpa>("told").await,
            "preview" => world.patch::<Ihpa>("told", json!({"spec": {"scaleMode": "Preview"}})).await,
            _ => {
                // Taken away past its finalizer, with nobody left who wants it.
                world.patch::<Ihpa>("told", json!({"spec": {"paused": true}})).await;
                world.until(10, true, async |world| world.profile("told").await.unwrap().spec.paused).await;
                world.delete::<ReplicaProfile>("told").await;
            }
        }
        world.until_shown(30, five).await;
        if way == "deleted" {
            world
                .until(30, true, async |world| world.api::<Ihpa>().get_opt("told").await.unwrap().is_none())
                .await;
            world.until(30, 0, async |world| world.portraits().await.len()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b9_pending_pods_are_removed_and_conditions_are_not_stale() {
    let world = standing(START, 2, json!({})).await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let full = json!({"spec": {"unschedulable": true}});
    nodes.patch("docker-desktop", &PatchParams::default(), &Patch::Merge(&full)).await.unwrap();
    tell_fixed(&world, "told-told", 4).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2- nginx-3-").await;
    tell_fixed(&world, "told-told", 2).await;
    world.until_shown(30, "nginx-0+ nginx-1+").await;
    world.patch::<Ihpa>("told", json!({"spec": {"paused": true}})).await;
    world
        .until(10, "False ScalingPaused".to_owned(), async |world| {
            world.condition("told", "ScalingActive").await.0
        })
        .await;
    let applied = async |world: &World| {
        let status = world.profile("told").await.unwrap().status.unwrap_or_default();
        status.conditions.iter().find(|one| one.type_ == "Applied").unwrap().reason.clone()
    };
    world.until(10, "ReplicaProfilePaused".to_owned(), applied).await;
    world.patch::<Ihpa>("told", json!({"spec": {"paused": false}})).await;
    world.until(10, "ReplicaProfileApplied".to_owned(), applied).await;
}

#[tokio::test(start_paused = true)]
async fn b10_another_target_is_followed_and_the_old_one_given_back() {
    let world = standing(START, 4, json!({"scaleDown": gray("Cutoff", 50, 300, 300)})).await;
    world.create_stateful_set("other", 1).await;
    tell_fixed(&world, "told-told", 2).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+ nginx-3-Cutoff other-0+").await;
    world.patch::<Ihpa>("told", json!({"spec": {"scaleTargetRef": {"name": "other"}}})).await;
    world.until_shown(60, "nginx-0+ nginx-1+ nginx-2+ nginx-3+ other-0+ other-1+").await;
}

#[tokio::test(start_paused = true)]
async fn b11_two_cron_providers_both_count() {
    let world = World::at("2026-01-01T00:58:00Z").await;
    let first = crons(1, &[cron("a", "0 * * * *", "10 * * * *", 3)]);
    let second = crons(2, &[cron("b", "5 * * * *", "7 * * * *", 4)]);
    world.autoscale("web", json!({"portraitProviders": [first, second]})).await;
    for (wait, replicas) in [(200, 3), (320, 4), (140, 3)] {
        world.until(wait, replicas, async |world| world.pods().await.len()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn b12_nothing_is_forgotten_over_a_restart() {
    let mut world = standing(START, 5, json!({"scaleDown": gray("Cutoff", 50, 60, 60)})).await;
    tell_fixed(&world, "told-told", 1).await;
    world.until(30, "3/2/0".to_owned(), async |world| planned(world, "told").await).await;
    world.kill();
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.start();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(planned(&world, "told").await, "3/2/0", "the step goes on where it was");
    world.until(20, "1/4/0".to_owned(), async |world| planned(world, "told").await).await;
    world.kill();
    world.patch::<Ihpa>("told", json!({"spec": {"portraitProviders": [fixed(5)]}})).await;
    world.start();
    world.until(30, 0, async |world| world.portraits().await.len()).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+ nginx-3+ nginx-4+").await;
}

#[tokio::test(start_paused = true)]
async fn b13_zero_is_a_value() {
    let world = World::at(START).await;
    world.autoscale("told", json!({"minReplicas": 0, "portraitProviders": [foreign(1)]})).await;
    world.until(30, 1, async |world| world.portraits().await.len()).await;
    tell_fixed(&world, "told-told", 0).await;
    world.until_shown(60, "").await;
    tell_fixed(&world, "told-told", 2).await;
    world.until_shown(60, "nginx-0+ nginx-1+").await;
}

#[tokio::test(start_paused = true)]
async fn b14_a_broken_portrait_blocks_no_other() {
    let world = World::at("2026-01-01T00:05:00Z").await;
    let overlapping =
        crons(1, &[cron("a", "0 * * * *", "10 * * * *", 2), cron("b", "0 * * * *", "20 * * * *", 3)]);
    let unread = crons(3, &[cron("c", "61 * * * *", "20 * * * *", 9)]);
    let unmeasured = reactive(&json!({"type": "External", "external": {
        "metric": {"name": "queue"}, "target": {"type": "Value", "value": "1"},
    }}));
    world.autoscale("web", json!({"portraitProviders": [unread, overlapping, unmeasured]})).await;
    world.until(60, 3, async |world| world.pods().await.len()).await;
    let (status, message) = world.condition("web", "PortraitsUsable").await;
    assert_eq!(status, "False FailedUpdateAndFetchPortraitValue");
    for part in ["found overlapping cron \"a\" and \"b\"", "cron \"c\"", "Dynamic-Reactive"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn b15_what_cannot_work_is_refused_on_entry() {
    let world = World::at(START).await;
    let ihpas: Api<Ihpa> = world.api();
    for (spec, told) in [
        (
            json!({"minReplicas": 1, "maxReplicas": 2, "portraitProviders": [{"type": "Cron", "priority": 1}]}),
            "cron",
        ),
        (json!({"minReplicas": 3, "maxReplicas": 2, "portraitProviders": []}), "minReplicas"),
    ] {
        let mut object = json!({
            "apiVersion": "autoscaling.kapacitystack.io/v1alpha1", "kind": "IntelligentHorizontalPodAutoscaler",
            "metadata": {"name": "wrong"}, "spec": spec,
        });
        object["spec"]["scaleTargetRef"] = json!({"kind": "StatefulSet", "name": "nginx"});
        let refused = ihpas.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(told), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn b17_standby_pods_serve_nobody() {
    let world = standing(START, 4, json!({"scaleDown": gray("Standby", 50, 60, 60)})).await;
    tell_fixed(&world, "told-told", 2).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+ nginx-3-Standby").await;
    world.until_shown(130, "nginx-0+ nginx-1+ nginx-2-Standby nginx-3-Standby").await;
    world.until_shown(130, "nginx-0+ nginx-1+").await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_handed_back() {
    let mut world = standing(START, 5, json!({"scaleDown": gray("Cutoff", 50, 300, 300)})).await;
    tell_fixed(&world, "told-told", 1).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+ nginx-3-Cutoff nginx-4-Cutoff").await;
    world.kill();
    let config = scaler::Config {
        leader_election: leadership::LeaderElection { enabled: false, ..Default::default() },
        ..scaler::Config::default()
    };
    let would = scaler::hand_back(&world.client, world.clock, &config, true).await.unwrap();
    world.until_shown(1, "nginx-0+ nginx-1+ nginx-2+ nginx-3-Cutoff nginx-4-Cutoff").await;
    let did = scaler::hand_back(&world.client, world.clock, &config, false).await.unwrap();
    assert_eq!((&would, did.done.len(), did.left.len()), (&did, 4, 0), "{did:?}");
    world.until_shown(10, "nginx-0+ nginx-1+ nginx-2+ nginx-3+ nginx-4+").await;
    let again = scaler::hand_back(&world.client, world.clock, &config, false).await.unwrap();
    assert_eq!(again, scaler::Handed::default());
    world.delete::<Ihpa>("told").await;
    world.until(10, true, async |world| world.api::<Ihpa>().get_opt("told").await.unwrap().is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn b24_a_scale_by_hand_is_corrected() {
    let world = standing(START, 3, json!({})).await;
    world.patch::<StatefulSet>("nginx", json!({"spec": {"replicas": 5}})).await;
    world.until_shown(30, "nginx-0+ nginx-1+ nginx-2+").await;
}

#[tokio::test(start_paused = true)]
async fn b25_b26_a_portrait_that_cannot_be_made_is_not_relied_on_for_ever() {
    let world = World::at(START).await;
    world.until_shown(30, "nginx-0+").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    world.autoscale("web", json!({"portraitProviders": [reactive(&cpu(30))]})).await;
    world
        .until(60, "True SucceededAutoscaling".to_owned(), async |world| {
            world.condition("web", "ScalingActive").await.0
        })
        .await;
    world
        .patch::<Ihpa>(
            "web",
            json!({"spec": {"portraitProviders": [reactive(&json!({
                "type": "Resource", "resource": {"name": "cpu", "target": {"type": "NA"}},
            }))]}}),
        )
        .await;
    world
        .until(600, "False NoValidPortraitValue".to_owned(), async |world| {
            world.condition("web", "ScalingActive").await.0
        })
        .await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    let warned = world.events().await.iter().filter(|event| event.starts_with("NoValid")).count();
    assert_eq!((warned, world.pods().await.len()), (1, 1));
}
