//! Groups found, raised, lowered and relieved of named machines, without trouble.

use crate::world::{GROUP, World, group, is_done, is_obsolete, named};
use clouds::aws::{Declarations, pool_id};
use model::{MachineId, MachineState};

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_absolute_and_machines_go_by_name() {
    let Some(mut world) = World::new(1).await else { return };
    world.until_running(1).await;
    assert_eq!((world.pool().min, world.pool().max, world.pool().target), (0, 8, 1));
    assert_eq!(world.pool().id.as_str(), "aws/eks-workers");

    assert!(is_done(&world.buy(3).await));
    assert!(is_done(&world.buy(3).await), "an order that is repeated is done");
    assert!(is_done(&world.buy(2).await), "less than is observed is never sent");
    assert_eq!(world.count("SetDesiredCapacity"), 1);
    assert!(is_obsolete(&world.buy(9).await, "over the maximum of 8"));
    world.until_running(3).await;
    let ids: Vec<MachineId> = world.machines().iter().map(|machine| machine.id.clone()).collect();
    assert!(ids.iter().all(|id| id.as_str().starts_with("aws:///cn-north-1")), "{ids:?}");

    assert!(is_obsolete(&world.lower(3, 2).await, "only named ones may go"));
    assert!(is_done(&world.release(&ids[1]).await));
    world.until_running(2).await;
    assert_eq!(world.double.desired(GROUP).await, 2);
    assert!(world.machines().iter().all(|machine| machine.id != ids[1]));
    assert!(is_done(&world.release(&ids[1]).await), "a machine that is gone is given back");
    assert_eq!(world.count("TerminateInstanceInAutoScalingGroup"), 1);
    assert!(is_obsolete(&world.release(&MachineId::from("aws123")).await, "no instance of AWS"));
    assert!(is_done(&world.lower(2, 2).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_minimum_of_the_group_holds() {
    let Some(mut world) = World::new(1).await else { return };
    let bounds = [("AutoScalingGroupName", GROUP), ("MinSize", "1")];
    world.double.call("autoscaling", "UpdateAutoScalingGroup", &bounds).await;
    world.until_running(1).await;
    let id = world.machines()[0].id.clone();
    assert!(is_obsolete(&world.release(&id).await, "at its minimum of 1"));
    assert!(is_obsolete(&world.lower(1, 0).await, "under the minimum of 1"));
    assert_eq!(world.double.desired(GROUP).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn specs_of_tags_are_joined_by_or_and_a_tag_that_goes_takes_the_pool() {
    let discovered =
        ["asg:tag=enabled,cluster=a", "asg:tag=other"].map(|spec| spec.parse().unwrap()).to_vec();
    let declarations = Declarations { named: vec!["2:3:explicit".parse().unwrap()], discovered };
    let prepare = async |double: &doubles::aws::Aws| {
        group(double, "both", 1, &[("enabled", "yes"), ("cluster", "a")]).await;
        group(double, "another-cluster", 0, &[("enabled", "yes"), ("cluster", "b")]).await;
        group(double, "second-spec", 0, &[("other", "")]).await;
        group(double, "explicit", 0, &[("other", "")]).await;
    };
    let Some(mut world) = World::with(0, declarations, prepare).await else { return };
    world.until_fresh().await;
    let pools: Vec<&str> = world.cluster.pools().keys().map(model::PoolId::as_str).collect();
    assert_eq!(pools, ["aws/both", "aws/explicit", "aws/second-spec"]);
    // What was named keeps its bounds, although tags cover it too.
    assert_eq!((world.pool_of("explicit").min, world.pool_of("explicit").max), (2, 3));
    assert_eq!(world.machines().len(), 1);

    let tag = [
        ("Tags.member.1.ResourceId", "both"),
        ("Tags.member.1.ResourceType", "auto-scaling-group"),
        ("Tags.member.1.Key", "enabled"),
    ];
    world.double.call("autoscaling", "DeleteTags", &tag).await;
    world.until("the pool's end", |cluster| !cluster.pools().contains_key(&pool_id("both"))).await;
    assert!(world.cluster.machines().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_are_missing_or_must_rest_say_why() {
    let declarations = Declarations {
        named: vec![
            "0:5:nobody".parse().unwrap(),
            "9:10:eks-workers".parse().unwrap(),
            "0:5:resting".parse().unwrap(),
        ],
        discovered: Vec::new(),
    };
    let prepare = async |double: &doubles::aws::Aws| {
        group(double, "resting", 0, &[]).await;
        let suspend = [("AutoScalingGroupName", "resting"), ("ScalingProcesses.member.1", "Launch")];
        double.call("autoscaling", "SuspendProcesses", &suspend).await;
    };
    let Some(mut world) = World::with(0, declarations, prepare).await else { return };
    world.until_fresh().await;
    let frozen = |group: &str| world.pool_of(group).frozen.as_deref().unwrap_or_default().to_owned();
    assert!(frozen("nobody").contains("check --nodes and AWS_REGION"), "{}", frozen("nobody"));
    assert!(frozen(GROUP).contains("nothing in common"), "{}", frozen(GROUP));
    assert!(frozen("resting").contains("resume it"), "{}", frozen("resting"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_sees_the_same_machines_with_the_same_age() {
    let Some(mut world) = World::new(1).await else { return };
    let (id, _) = world.double.instances(GROUP).await.remove(0);
    let activity = doubles::aws::Activity {
        id: "1".into(),
        description: format!("Launching a new EC2 instance: {id}"),
        status: "Successful",
        message: String::new(),
        start: "2026-01-01T00:00:00Z".into(),
    };
    world.double.door().activities.insert(GROUP.into(), vec![activity]);
    world.restart(named());
    for _ in 0..2 {
        world.until_running(1).await;
        let machine = world.machines()[0].clone();
        assert_eq!(machine.state, MachineState::Running);
        assert_eq!(machine.created_at.to_string(), "2026-01-01T00:00:00Z");
        world.restart(named());
    }
}
