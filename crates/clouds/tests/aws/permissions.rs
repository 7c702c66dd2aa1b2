//! Exactly the actions of the document suffice; each one that may be missing is missed in its own way.

use crate::world::{GROUP, World, is_done, named, state};
use clouds::ProviderError;
use model::InputState;
use std::collections::BTreeSet;

/// Every action of the document's policy.
fn policy() -> BTreeSet<String> {
    let policy: serde_json::Value = serde_json::from_str(include_str!(
        "../../../../tests/seeds/003-cluster-autoscaler-karpenter/iam-policy.json"
    ))
    .unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_the_document_is_enough() {
    let Some(mut world) = World::with(1, named(), async |double| {
        double.door().granted = Some(policy());
    })
    .await
    else {
        return;
    };
    world.until_running(1).await;
    assert!(world.pool().template.is_some());
    assert!(is_done(&world.buy(2).await));
    world.until_running(2).await;
    let id = world.machines()[0].id.clone();
    assert!(is_done(&world.release(&id).await));
    world.until_running(1).await;
    assert_eq!(world.double.door().refused(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_read_groups_it_waits_names_action_and_principal_and_goes_on_when_granted() {
    let Some(mut world) = World::with(1, named(), async |double| {
        double.door().granted = Some(BTreeSet::new());
    })
    .await
    else {
        return;
    };
    world.until("a reason", |cluster| state(cluster).is_some()).await;
    let Some(InputState::Stale { why, .. }) = state(&world.cluster) else { panic!("not stale") };
    assert!(
        why.contains("lacks the permission autoscaling:DescribeAutoScalingGroups: grant it in IAM"),
        "{why}"
    );
    assert!(why.contains("arn:aws:sts::614342226570:assumed-role/"), "{why}");
    world.double.door().granted = Some(policy());
    world.until_fresh().await;
    world.until_running(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_permissions_are_missed_one_by_one() {
    for (missing, describes) in [
        ("autoscaling:DescribeScalingActivities", true),
        ("ec2:DescribeLaunchTemplateVersions", false),
        ("ec2:DescribeInstanceTypes", false),
    ] {
        let Some(mut world) = World::with(1, named(), async |double| {
            let mut granted = policy();
            assert!(granted.remove(missing));
            double.door().granted = Some(granted);
        })
        .await
        else {
            return;
        };
        world.until_running(1).await;
        world.until_fresh().await;
        assert_eq!(world.pool().template.is_some(), describes, "{missing}");
        assert!(world.pool().frozen.is_none());
        assert!(is_done(&world.buy(2).await), "{missing}");
        world.until_running(2).await;
        world.looks(3).await;
        assert_eq!(world.double.door().refused(), BTreeSet::from([missing]));
        assert_eq!(world.double.door().count(missing), 1, "what was refused is not asked for again at once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_without_its_permission_names_it() {
    let Some(mut world) = World::with(1, named(), async |double| {
        let mut granted = policy();
        granted.remove("autoscaling:SetDesiredCapacity");
        double.door().granted = Some(granted);
    })
    .await
    else {
        return;
    };
    world.until_running(1).await;
    let refused = world.buy(2).await;
    let Err(ProviderError::Refused { code, message, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(code, "AccessDenied");
    assert!(message.contains("lacks the permission autoscaling:SetDesiredCapacity"), "{message}");
    assert_eq!(world.double.desired(GROUP).await, 1);
}
