//! Machines whose nodes are ill, pools of a fixed number, and what is told of nodes that stay or go.

use crate::{World, is_ready, pool};
use api::karpenter::{NodeClaim, NodePool, SimulatedNodeClass};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

/// Pods that no two of which a node takes, so that there are as many nodes.
async fn one_on_each(world: &mut World, replicas: u32) {
    let client = world.sandbox.client("tideline");
    world.start(&client);
    world.deploy_apart(replicas).await;
    let wanted = replicas as usize;
    world.until("every pod runs", 600, async |world| world.running().await == wanted).await;
    world.until("claims are ready", 60, async |world| world.claims().await.iter().all(is_ready)).await;
}

async fn kubelet_dies(world: &World, node: &str) {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let patch =
        Patch::Merge(json!({"metadata": {"annotations": {sandbox::cluster::cloud::KUBELET: "dead"}}}));
    nodes.patch(node, &PatchParams::default(), &patch).await.unwrap();
}

async fn events(world: &World, reason: &str) -> usize {
    let events: Api<Event> = Api::default_namespaced(world.client.clone());
    let all = events.list(&ListParams::default()).await.unwrap().items;
    all.iter().filter(|event| event.reason.as_deref() == Some(reason)).count()
}

#[tokio::test(start_paused = true)]
async fn a_machine_whose_node_stays_ill_is_replaced_and_a_pool_that_is_ill_is_not() {
    let disruption = json!({"consolidateAfter": "Never", "budgets": [{"nodes": "0"}]});
    let mut world = World::new(pool(&disruption)).await;
    one_on_each(&mut world, 3).await;
    let names = |nodes: Vec<Node>| -> Vec<String> { nodes.iter().map(Node::name_any).collect() };
    let before = names(world.nodes().await);
    assert_eq!(before.len(), 3);

    // Budgets allow nothing, and its pod asks to be left alone: what is broken is replaced all the same.
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    for pod in pods.list(&ListParams::default()).await.unwrap().items {
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "true"}}}));
        pods.patch(&pod.name_any(), &PatchParams::default(), &patch).await.unwrap();
    }
    kubelet_dies(&world, &before[0]).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(names(world.nodes().await).contains(&before[0]), "not before its time");
    world
        .until("it is replaced", 600, async |world| {
            let now = names(world.nodes().await);
            now.len() == 3
                && !now.contains(&before[0])
                && world.running().await == 3
                && before[1..].iter().all(|name| now.contains(name))
        })
        .await;
    assert!(events(&world, "NodeUnhealthy").await > 0);
    assert_eq!(events(&world, "NodeRepairBlocked").await, 0);

    // Two of three: the trouble is not theirs.
    let before = names(world.nodes().await);
    kubelet_dies(&world, &before[0]).await;
    kubelet_dies(&world, &before[1]).await;
    world.until("it says so", 1200, async |world| events(world, "NodeRepairBlocked").await > 0).await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    let now = names(world.nodes().await);
    assert!(before.iter().all(|name| now.contains(name)), "{before:?} {now:?}");
}

#[tokio::test(start_paused = true)]
async fn events_say_what_holds_a_node_and_that_it_goes() {
    let disruption = json!({"consolidateAfter": "30s", "budgets": [{"nodes": "100%"}]});
    let mut world = World::new(pool(&disruption)).await;
    one_on_each(&mut world, 3).await;
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    for pod in pods.list(&ListParams::default()).await.unwrap().items {
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "true"}}}));
        pods.patch(&pod.name_any(), &PatchParams::default(), &patch).await.unwrap();
    }
    world.until("each node is held", 300, async |world| events(world, "DisruptionBlocked").await == 3).await;
    assert_eq!(events(&world, "DisruptionTerminating").await, 0);
    world.scale(0).await;
    world.until("each node goes", 600, async |world| events(world, "DisruptionTerminating").await == 3).await;
    // Told once, however often it was looked at.
    assert_eq!(events(&world, "DisruptionBlocked").await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_pool_of_a_fixed_number_follows_its_scale_and_replaces_the_drifted() {
    let mut fixed = pool(&json!({"consolidateAfter": "0s", "budgets": [{"nodes": "1"}]}));
    fixed["spec"]["replicas"] = json!(3);
    let mut world = World::new(fixed).await;
    let client = world.sandbox.client("tideline");
    world.start(&client);
    let ready = |claims: &[NodeClaim]| claims.iter().filter(|claim| is_ready(claim)).count();
    let all_ready = async |world: &World, wanted: usize| {
        let claims = world.claims().await;
        claims.len() == wanted && ready(&claims) == wanted
    };
    world.until("three, without a pod", 300, async |world| all_ready(world, 3).await).await;
    let pools: Api<NodePool> = Api::all(world.client.clone());
    for wanted in [5, 2] {
        // As `kubectl scale` does.
        let patch = Patch::Merge(json!({"spec": {"replicas": wanted}}));
        pools.patch_scale("main", &PatchParams::default(), &patch).await.unwrap();
        world.until("as many as were asked for", 300, async |world| all_ready(world, wanted).await).await;
    }
    let status = pools.get("main").await.unwrap().status.unwrap();
    assert_eq!(status.nodes, 2);

    let before: Vec<String> = world.claims().await.iter().map(NodeClaim::name_any).collect();
    let classes: Api<SimulatedNodeClass> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({"spec": {"image": "simulated-2"}}));
    classes.patch("default", &PatchParams::default(), &patch).await.unwrap();
    let mut fewest = usize::MAX;
    world
        .until("each is another one", 900, async |world| {
            let claims = world.claims().await;
            fewest = fewest.min(ready(&claims));
            claims.len() == 2 && ready(&claims) == 2 && claims.iter().all(|c| !before.contains(&c.name_any()))
        })
        .await;
    assert!(fewest >= 2, "{fewest} were ready at a time");
}
