//! What the queue tells is acted on before it is deleted.

use super::world::World;
use kube::ResourceExt as _;
use serde_json::json;

fn event(kind: &str, instance: &str) -> String {
    json!({"version": "0", "source": "aws.ec2", "detail-type": kind, "detail": {"instance-id": instance}})
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_spot_machine_is_replaced_and_unreadable_messages_go() {
    let Some(world) = World::new().await else { return };
    world.pool("spot").await;
    world.deploy(1).await;
    world.until("the pod runs", async |w| w.are_ready().await && w.bound().await == 1).await;
    let (claim, instance) = (world.claims().await[0].name_any(), world.instances().await[0].clone());
    world.send("no json at all").await;
    world.send(&event("EC2 Spot Instance Interruption Warning", "i-00000000000000000")).await;
    world.send(&event("EC2 Spot Instance Interruption Warning", &instance)).await;
    world
        .until("another machine has the pod", async |w| {
            let claims = w.claims().await;
            claims.len() == 1 && claims[0].name_any() != claim && w.are_ready().await && w.bound().await == 1
        })
        .await;
    world.until("the messages are gone", async |w| w.messages().await == 0).await;
    world.until("the old instance too", async |w| !w.instances().await.contains(&instance)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recommendation_brings_the_replacement_first() {
    let Some(world) = World::new().await else { return };
    world.pool("spot").await;
    world.deploy(1).await;
    world.until("the pod runs", async |w| w.are_ready().await && w.bound().await == 1).await;
    let (claim, instance) = (world.claims().await[0].name_any(), world.instances().await[0].clone());
    world.send(&event("EC2 Instance Rebalance Recommendation", &instance)).await;
    world
        .until("a second machine comes while the first stays", async |w| w.instances().await.len() == 2)
        .await;
    world
        .until("the pod has moved", async |w| {
            let claims = w.claims().await;
            claims.len() == 1 && claims[0].name_any() != claim && w.bound().await == 1
        })
        .await;
    world.until("the message is gone", async |w| w.messages().await == 0).await;
}
