//! From pods to instances and back.

use super::world::{IMAGES, World, instances};
use api::karpenter::{Ec2NodeClass, NodeClaim};
use doubles::aws::{Fault, Seen};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use std::collections::BTreeSet;

fn fleets(world: &World) -> Vec<Seen> {
    let door = world.cloud.door();
    door.calls.iter().filter(|call| call.action == "ec2:CreateFleet").cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_instances_which_end_when_they_are_empty() {
    let Some(world) = World::new().await else { return };
    world.pool("on-demand").await;
    world.deploy(3).await;
    world
        .until("the claims are ready and the pods bound", async |w| {
            w.are_ready().await && w.bound().await == 3
        })
        .await;
    let claims = world.claims().await;
    let there = instances(&world.cloud).await;
    assert_eq!((claims.len(), there.len()), (1, 1), "one machine holds all three: {there:?}");
    let (id, kind, zone, tags) = &there[0];
    let claim = &claims[0];
    // The cheapest that holds them.
    assert_eq!(
        (kind.as_str(), claim.labels()["node.kubernetes.io/instance-type"].as_str()),
        ("t3a.large", "t3a.large")
    );
    for (key, value) in [
        ("karpenter.sh/nodeclaim", claim.name_any()),
        ("tideline.dev/claim-uid", claim.uid().unwrap()),
        ("karpenter.sh/nodepool", "default".to_owned()),
        ("karpenter.k8s.aws/ec2nodeclass", "default".to_owned()),
        ("kubernetes.io/cluster/prod", "owned".to_owned()),
        ("eks:eks-cluster-name", "prod".to_owned()),
        ("team", "payments".to_owned()),
    ] {
        assert_eq!(tags.get(key), Some(&value), "{key}");
    }
    let status = claim.status.clone().unwrap();
    assert_eq!(status.provider_id, Some(format!("aws:///{zone}/{id}")));
    assert_eq!(status.image_id.as_deref(), Some(IMAGES[0]));

    let class = Api::<Ec2NodeClass>::all(world.client.clone()).get("default").await.unwrap();
    let status = class.status.unwrap();
    assert!(status.conditions.iter().all(|condition| condition.status == "True"), "{:?}", status.conditions);
    assert_eq!(status.conditions.len(), 6);
    assert!(!status.subnets.is_empty() && status.security_groups.len() == 1 && status.amis.len() == 1);
    assert!(status.instance_profile.unwrap().starts_with("prod_"));

    world.deploy(0).await;
    world
        .until("the machine is gone", async |w| w.claims().await.is_empty() && w.instances().await.is_empty())
        .await;
    assert_eq!(fleets(&world).len(), 1);
    assert!(fleets(&world)[0].body.contains("Type=instant"));
    assert_eq!(world.cloud.door().refused(), BTreeSet::new(), "the published policy is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_and_a_restart_launch_nothing_twice() {
    let Some(mut world) = World::new().await else { return };
    world.cloud.door().fail("ec2:CreateFleet", Fault::LoseAnswer);
    world.pool("spot").await;
    world.deploy(1).await;
    world.until("the claim is ready", async |w| w.are_ready().await).await;
    assert_eq!(world.instances().await.len(), 1);
    let before = world.claims().await[0].name_any();
    world.restart().await;
    world.deploy(2).await;
    world.until("both pods run", async |w| w.bound().await == 2).await;
    let claims = world.claims().await;
    assert_eq!((claims.len(), world.instances().await.len()), (1, 1));
    assert_eq!(claims[0].name_any(), before);
    assert_eq!(claims[0].labels()["karpenter.sh/capacity-type"], "spot");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_short_is_left_alone_and_another_zone_or_type_is_taken() {
    let Some(world) = World::new().await else { return };
    let short = "<CreateFleetResponse><requestId>r</requestId><fleetId>fleet-1</fleetId><errorSet><item>\
                 <errorCode>InsufficientInstanceCapacity</errorCode><errorMessage>none left</errorMessage>\
                 <lifecycle>on-demand</lifecycle></item></errorSet><fleetInstanceSet/></CreateFleetResponse>";
    world.cloud.door().fail("ec2:CreateFleet", Fault::Answer(short.to_owned()));
    world.pool("on-demand").await;
    world.deploy(1).await;
    world.until("the pod runs all the same", async |w| w.are_ready().await && w.bound().await == 1).await;
    let fleets = fleets(&world);
    assert_eq!(fleets.len(), 2);
    let zone = |call: &Seen| ["cn-north-1a", "cn-north-1b"].map(|zone| call.body.contains(zone));
    assert_ne!(zone(&fleets[0]), zone(&fleets[1]), "the zone that is short is not asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_says_what_is_wrong_with_it_and_a_new_image_is_drift() {
    let Some(world) = World::new().await else { return };
    world.pool("on-demand").await;
    world.class(json!([{"id": "ami-00000000000000000"}])).await;
    world.deploy(1).await;
    let condition = async |world: &World, kind: &str| {
        let class = Api::<Ec2NodeClass>::all(world.client.clone()).get("default").await.unwrap();
        let conditions = class.status.unwrap_or_default().conditions;
        conditions.into_iter().find(|c| c.type_ == kind).map(|c| (c.status, c.reason))
    };
    let no = |reason: &str| Some(("False".to_owned(), reason.to_owned()));
    world
        .until("the missing image is told", async |w| condition(w, "AMIsReady").await == no("AMINotFound"))
        .await;
    assert_eq!(condition(&world, "Ready").await, no("AMINotFound"));
    assert!(fleets(&world).is_empty());

    world.class(json!([{"id": IMAGES[0]}])).await;
    world.until("the pod runs", async |w| w.are_ready().await && w.bound().await == 1).await;
    let first = world.claims().await[0].name_any();
    world.class(json!([{"id": IMAGES[1]}])).await;
    world
        .until("the machine with the old image is replaced", async |w| {
            let claims: Vec<NodeClaim> = w.claims().await;
            claims.len() == 1 && claims[0].name_any() != first && w.bound().await == 1 && w.are_ready().await
        })
        .await;
    assert_eq!(world.claims().await[0].status.clone().unwrap().image_id.as_deref(), Some(IMAGES[1]));
}
