//! The document's three autoscalers in the embedded cluster: events, pods, endpoints as it prints them.

mod world;

use serde_json::{Value, json};
use std::time::Duration;
use world::World;

fn crons(windows: &[(u32, u32, u32)]) -> Value {
    let cron = |(start, end, replicas): &(u32, u32, u32)| {
        json!({
            "name": format!("cron-{replicas}"), "start": format!("{start} * * * *"),
            "end": format!("{end} * * * *"), "replicas": replicas,
        })
    };
    json!({"type": "Cron", "priority": 1, "cron": {"crons": windows.iter().map(cron).collect::<Vec<_>>()}})
}

#[tokio::test(start_paused = true)]
async fn cron() {
    let world = World::at("2026-01-01T00:28:00Z").await;
    let windows = [(0, 10, 1), (10, 20, 2), (20, 30, 3), (30, 40, 4), (40, 50, 5)];
    world.autoscale("cron-portrait-sample", json!({"portraitProviders": [crons(&windows)]})).await;
    let expected = [
        "CreateReplicaProfile create ReplicaProfile with onlineReplcas: 3, cutoffReplicas: 0, standbyReplicas: 0",
        "UpdateReplicaProfile update ReplicaProfile with onlineReplcas: 3 -> 4, cutoffReplicas: 0 -> 0, standbyReplicas: 0 -> 0",
        "UpdateReplicaProfile update ReplicaProfile with onlineReplcas: 4 -> 5, cutoffReplicas: 0 -> 0, standbyReplicas: 0 -> 0",
        "NoValidPortraitValue no valid portrait value for now",
        "UpdateReplicaProfile update ReplicaProfile with onlineReplcas: 5 -> 1, cutoffReplicas: 0 -> 0, standbyReplicas: 0 -> 0",
    ];
    world.until_shown(60, "nginx-0+ nginx-1+ nginx-2+").await;
    world.until(3600, expected.map(str::to_owned).to_vec(), World::events).await;
    world.until_shown(60, "nginx-0+").await;
}

#[tokio::test(start_paused = true)]
async fn reactive() {
    let world = World::at("2026-01-01T00:00:00Z").await;
    world.until_shown(30, "nginx-0+").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    world
        .autoscale(
            "sample",
            json!({"portraitProviders": [{
                "type": "Dynamic", "priority": 1, "dynamic": {
                    "portraitType": "Reactive",
                    "metrics": [{"type": "Resource", "resource": {
                        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 30},
                    }}],
                    "algorithm": {"type": "KubeHPA"},
                },
            }]}),
        )
        .await;
    let update = |from: u32, to: u32| {
        format!(
            "UpdateReplicaProfile update ReplicaProfile with onlineReplcas: {from} -> {to}, cutoffReplicas: 0 -> 0, \
             standbyReplicas: 0 -> 0"
        )
    };
    let mut expected = vec![
        "CreateReplicaProfile create ReplicaProfile with onlineReplcas: 1, cutoffReplicas: 0, standbyReplicas: 0"
            .to_owned(),
    ];
    world.until(60, expected.clone(), World::events).await;
    // 17 requests a second of 10 ms each: 171 % of the request.
    world.load("nginx", 1020).await;
    expected.push(update(1, 6));
    world.until(600, expected.clone(), World::events).await;
    world.until(60, 6, async |world| world.pods().await.len()).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(world.events().await, expected, "a load that stays changes nothing");
    world.load("nginx", 0).await;
    world.until(600, 1, async |world| world.pods().await.len()).await;
}

#[tokio::test(start_paused = true)]
async fn gray() {
    let world = World::at("2026-01-01T00:58:00Z").await;
    world.autoscale("gray-strategy-sample", json!({
        "portraitProviders": [
            {"type": "Static", "priority": 1, "static": {"replicas": 1}},
            {"priority": 2, "type": "Cron", "cron": crons(&[(0, 10, 5)])["cron"]},
        ],
        "behavior": {"scaleDown": {"grayStrategy": {
            "grayState": "Cutoff", "changeIntervalSeconds": 30, "changePercent": 50, "observationSeconds": 60,
        }}},
    })).await;
    world.until_shown(60, "nginx-0+").await;
    world.until_shown(180, "nginx-0+ nginx-1+ nginx-2+ nginx-3+ nginx-4+").await;
    world.until_shown(700, "nginx-0+ nginx-1+ nginx-2+ nginx-3-Cutoff nginx-4-Cutoff").await;
    let begun = world.clock.now();
    world.until_shown(60, "nginx-0+ nginx-1-Cutoff nginx-2-Cutoff nginx-3-Cutoff nginx-4-Cutoff").await;
    assert!((28..=34).contains(&world.clock.now().duration_since(begun).as_secs()));
    world.until_shown(90, "nginx-0+").await;
    assert!((86..=100).contains(&world.clock.now().duration_since(begun).as_secs()));
    world.settle().await;
    let step = |online: &str, cutoff: &str| {
        format!(
            "UpdateReplicaProfile update ReplicaProfile with onlineReplcas: {online}, cutoffReplicas: {cutoff}, \
             standbyReplicas: 0 -> 0"
        )
    };
    assert_eq!(
        world.events().await,
        [
            "CreateReplicaProfile create ReplicaProfile with onlineReplcas: 1, cutoffReplicas: 0, standbyReplicas: 0"
                .to_owned(),
            step("1 -> 5", "0 -> 0"),
            step("5 -> 3", "0 -> 2"),
            step("3 -> 1", "2 -> 4"),
            step("1 -> 1", "4 -> 0"),
        ]
    );
}
