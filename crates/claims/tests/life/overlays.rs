//! Prices and capacities as overlays have them, from the object to the machine.

use crate::{World, pool};
use api::karpenter::{NodeClaim, NodeOverlay};
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

async fn lay(world: &World, name: &str, spec: Value) {
    let overlay = json!({"apiVersion": "karpenter.sh/v1alpha1", "kind": "NodeOverlay",
        "metadata": {"name": name}, "spec": spec});
    let overlays: Api<NodeOverlay> = Api::all(world.client.clone());
    overlays.create(&PostParams::default(), &serde_json::from_value(overlay).unwrap()).await.unwrap();
}

async fn ready(world: &World, name: &str) -> Option<(String, String)> {
    let overlays: Api<NodeOverlay> = Api::all(world.client.clone());
    let status = overlays.get(name).await.unwrap().status?;
    let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
    Some((ready.status, ready.reason))
}

fn types(claims: &[NodeClaim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.labels()["node.kubernetes.io/instance-type"].as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn overlays_decide_what_is_bought_and_say_what_is_wrong_with_them() {
    let disruption = json!({"consolidateAfter": "30s", "budgets": [{"nodes": "100%"}]});
    let mut on_demand = pool(&disruption);
    on_demand["spec"]["template"]["spec"]["requirements"] =
        json!([{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]}]);
    let mut world = World::new(on_demand).await;
    let of_type =
        |name: &str| json!([{"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [name]}]);
    // Paid for already, say: the dearest type of its size costs next to nothing.
    lay(
        &world,
        "paid",
        json!({"requirements": of_type("r5.2xlarge"), "priceAdjustment": "-99%", "weight": 5}),
    )
    .await;
    lay(&world, "other", json!({"requirements": of_type("r5.2xlarge"), "price": "9", "weight": 5})).await;
    lay(&world, "wrong", json!({"requirements": [], "capacity": {"cpu": "1"}})).await;
    let client = world.sandbox.client("tideline");
    world.start(&client);
    let is = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    world
        .until("each says what it is", 60, async |world| {
            ready(world, "paid").await == is("True", "Ready")
                && ready(world, "other").await == is("False", "Conflict")
                && ready(world, "wrong").await == is("False", "RuntimeValidation")
        })
        .await;
    world.deploy(10).await;
    world.until("every pod runs", 300, async |world| world.running().await == 10).await;
    let claims = world.claims().await;
    assert!(types(&claims).iter().all(|name| *name == "r5.2xlarge"), "{:?}", types(&claims));
    assert_eq!(claims[0].annotations()["karpenter.sh/price-overlay-applied"], "paid");

    // It is not paid for any longer: cheaper machines take its place.
    let overlays: Api<NodeOverlay> = Api::all(world.client.clone());
    overlays.delete("paid", &kube::api::DeleteParams::default()).await.unwrap();
    world
        .until("the other one counts now", 60, async |world| {
            ready(world, "other").await == is("True", "Ready")
        })
        .await;
    world
        .until("cheaper ones are there", 3600, async |world| {
            let claims = world.claims().await;
            !types(&claims).contains(&"r5.2xlarge") && world.running().await == 10
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_only_an_overlay_knows_of_is_bought() {
    let disruption = json!({"consolidateAfter": "Never"});
    let mut world = World::new(pool(&disruption)).await;
    let family = json!([{"key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": ["m6a"]}]);
    lay(&world, "devices", json!({"requirements": family, "capacity": {"smarter-devices/fuse": "2"}})).await;
    let client = world.sandbox.client("tideline");
    world.start(&client);
    world.deploy_asking(3, json!({"cpu": "500m", "memory": "512Mi", "smarter-devices/fuse": "1"})).await;
    world.until("every pod runs", 300, async |world| world.running().await == 3).await;
    let claims = world.claims().await;
    assert_eq!(claims.len(), 2, "two of them on each machine");
    assert!(types(&claims).iter().all(|name| name.starts_with("m6a.")), "{:?}", types(&claims));
    assert_eq!(claims[0].annotations()["karpenter.sh/capacity-overlay-applied"], "devices");
}
