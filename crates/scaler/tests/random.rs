//! Random sequences of edits, restarts, pod failures and API faults: whatever happened, in the end every pod is in a
//! stated state, replicas are within bounds, and nothing ran away meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod world;

use api::kapacity::{HorizontalPortrait, IntelligentHorizontalPodAutoscaler as Ihpa, ReplicaProfile};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use sandbox::fault::{FaultPlan, FaultRule, Faults};
use serde_json::{Value, json};
use std::time::Duration;
use world::World;

const MOST: usize = 8;

/// A small generator of its own: the same sequence for the same seed, everywhere.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        let place = self.below(list.len() as u64);
        &list[usize::try_from(place).unwrap()]
    }
}

fn faults(world: &World, seed: u64) -> Faults {
    let rule = |fault: Value, probability: f64| {
        serde_json::from_value::<FaultRule>(json!({"fault": fault, "probability": probability})).unwrap()
    };
    let plan = FaultPlan {
        rules: vec![
            rule(json!({"conflict": {}}), 0.05),
            rule(json!({"serverError": {"code": 500}}), 0.05),
            rule(json!({"lostRequest": {}}), 0.03),
            rule(json!({"lostResponse": {}}), 0.05),
            rule(json!({"latency": {"mostMilliseconds": 900}}), 0.2),
            rule(json!({"lateWatch": {"milliseconds": 1500}}), 0.1),
            rule(json!({"droppedWatch": {"afterChunks": 5}}), 0.1),
        ],
    };
    Faults::new(plan, seed, world.clock).unwrap()
}

async fn tell(world: &World, replicas: u64) {
    let data = json!({"status": {"portraitData": {"type": "Static", "static": {"replicas": replicas}}}});
    let portraits: Api<HorizontalPortrait> = world.api();
    // Not there while the autoscaler is away.
    let _ = portraits.patch_status("web-told", &PatchParams::default(), &Patch::Merge(&data)).await;
}

async fn edit(world: &World, spec: Value) {
    world.patch::<Ihpa>("web", json!({"spec": spec})).await;
}

fn strategy(draw: &mut Draw) -> Value {
    let state = draw.of(&["Cutoff", "Standby", "Deleted"]);
    let (percent, interval) = (1 + draw.below(100), 1 + draw.below(40));
    json!({"disabled": draw.below(8) == 0, "grayStrategy": {
        "grayState": state, "changePercent": percent, "changeIntervalSeconds": interval,
        "observationSeconds": draw.below(60),
    }})
}

/// The autoscaler, once one of its name is gone.
async fn begin(world: &World) {
    let told = json!({"type": "Dynamic", "priority": 1, "dynamic": {
        "portraitType": "Told", "externalGeneratorName": "test", "algorithm": {"type": "Told"},
    }});
    world.until(600, true, async |world| world.api::<Ihpa>().get_opt("web").await.unwrap().is_none()).await;
    world.autoscale("web", json!({"minReplicas": 1, "maxReplicas": MOST, "portraitProviders": [told]})).await;
}

async fn act(world: &mut World, draw: &mut Draw, faults: &Faults) -> String {
    match draw.below(17) {
        0..=4 => {
            let replicas = draw.below(11);
            tell(world, replicas).await;
            format!("told {replicas}")
        }
        5 => {
            let behavior = json!({"scaleDown": strategy(draw), "scaleUp": strategy(draw)});
            edit(world, json!({"behavior": behavior})).await;
            "behavior".to_owned()
        }
        6 => {
            edit(world, json!({"behavior": null})).await;
            "no behavior".to_owned()
        }
        7 => {
            let mode = draw.of(&["Preview", "Auto", "Auto"]);
            edit(world, json!({"scaleMode": mode})).await;
            format!("mode {mode}")
        }
        8 => {
            let paused = draw.below(3) == 0;
            edit(world, json!({"paused": paused})).await;
            format!("paused {paused}")
        }
        9 | 10 => {
            world.kill();
            tokio::time::sleep(Duration::from_secs(draw.below(40))).await;
            world.start_with(faults.client(world.sandbox.api()));
            "restart".to_owned()
        }
        11 => {
            let pods = world.pods().await;
            if pods.is_empty() {
                return "no pod to kill".to_owned();
            }
            let name = draw.of(&pods).name_any();
            let _ = world.api::<Pod>().delete(&name, &DeleteParams::default()).await;
            format!("killed {name}")
        }
        12 => {
            let target = draw.of(&["nginx", "nginx", "other"]);
            edit(world, json!({"scaleTargetRef": {"name": target}})).await;
            format!("target {target}")
        }
        13 => {
            let (name, version) = (draw.of(&["nginx", "other"]), draw.below(1000).to_string());
            let template = json!({"metadata": {"annotations": {"version": version}}});
            world.patch::<StatefulSet>(name, json!({"spec": {"template": template}})).await;
            format!("{name} is replaced")
        }
        14 => {
            // Deleted past its finalizer's work, or not at all: both are met with faults.
            let _ = world.api::<Ihpa>().delete("web", &DeleteParams::default()).await;
            tokio::time::sleep(Duration::from_secs(draw.below(30))).await;
            begin(world).await;
            "deleted and made anew".to_owned()
        }
        15 => {
            let _ = world.api::<ReplicaProfile>().delete("web", &DeleteParams::default()).await;
            "profile deleted".to_owned()
        }
        _ => {
            let replicas = draw.below(7);
            world.patch::<StatefulSet>("nginx", json!({"spec": {"replicas": replicas}})).await;
            format!("scaled by hand to {replicas}")
        }
    }
}

/// Pods whose label, condition and readiness do not say the same.
async fn odd(world: &World) -> Vec<String> {
    let pods = world.pods().await;
    let odd = |pod: &&Pod| {
        let out = pod.labels().contains_key("kapacitystack.io/pod-state");
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let online = conditions.clone().find(|condition| condition.type_ == world::GATE);
        online.is_none_or(|online| (online.status == "True") == out)
    };
    pods.iter().filter(odd).map(kube::ResourceExt::name_any).collect()
}

async fn run(seed: u64) {
    let mut draw = Draw(seed);
    let mut world = World::at("2026-01-01T00:00:00Z").await;
    world.create_stateful_set("other", 2).await;
    let faults = faults(&world, seed);
    world.kill();
    world.start_with(faults.client(world.sandbox.api()));
    begin(&world).await;
    let mut done = Vec::new();
    for _ in 0..40 {
        done.push(act(&mut world, &mut draw, &faults).await);
        for _ in 0..draw.below(6) {
            tokio::time::sleep(Duration::from_secs(7)).await;
            for name in ["nginx", "other"] {
                let set = world.api::<StatefulSet>().get(name).await.unwrap();
                let replicas = set.spec.and_then(|spec| spec.replicas).unwrap_or(1);
                assert!(
                    usize::try_from(replicas).unwrap() <= MOST,
                    "seed {seed}: {name} {replicas}: {done:?}"
                );
            }
        }
    }
    faults.set_enabled(false);
    edit(&world, json!({
        "paused": false, "scaleMode": "Auto", "scaleTargetRef": {"name": "nginx"},
        "behavior": {"scaleUp": null, "scaleDown": {
            "disabled": false, "grayStrategy": {
                "grayState": "Cutoff", "changePercent": 50, "changeIntervalSeconds": 20, "observationSeconds": 20,
            },
        }},
    }))
    .await;
    world.until(120, 1, async |world| world.portraits().await.len()).await;
    tell(&world, 3).await;
    let settled = async |world: &World| {
        let shown = world.shown().await;
        let nginx: Vec<&str> = shown.split(' ').filter(|pod| pod.starts_with("nginx")).collect();
        nginx == ["nginx-0+", "nginx-1+", "nginx-2+"]
            && !shown.contains("Cutoff")
            && !shown.contains("Standby")
    };
    let end = tokio::time::Instant::now() + Duration::from_mins(30);
    while !(settled(&world).await && odd(&world).await.is_empty()) {
        assert!(
            tokio::time::Instant::now() < end,
            "seed {seed}: {} odd {:?} after {done:?}",
            world.shown().await,
            odd(&world).await
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    world.delete::<Ihpa>("web").await;
    world.until(60, true, async |world| world.profile("web").await.is_none()).await;
    assert_eq!(odd(&world).await, Vec::<String>::new(), "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_it_ends_well() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let (first, seeds) = (number("FIRST_SEED").unwrap_or(0), number("SEEDS").unwrap_or(10));
    for seed in first..first + seeds {
        run(seed).await;
    }
}
