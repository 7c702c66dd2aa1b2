//! The document's walk on AWS: Cluster Autoscaler's manifest with our program, on Auto Scaling groups.
//!
//! The control plane is Kubernetes' own, the cloud is moto's server behind a door that grants exactly the document's
//! policy, and the program is the real one with AWS's SDK, under the document's name, flags and service account. Kubelets
//! are the sandbox's, and this test plays AWS's cloud controller: it makes the node of each instance and takes away the
//! node of each that is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

#[path = "aws_groups/world.rs"]
mod world;

use std::collections::BTreeSet;

use world::{DATABASES, GROUP, World};

/// Tests on AWS run where this is 1: building the SDK takes minutes.
const SWITCH: &str = "TIDELINE_AWS";
const BEFORE: usize = 25;
const AFTER: usize = 29;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_replicas_on_an_auto_scaling_group() {
    if std::env::var(SWITCH).as_deref() != Ok("1") {
        eprintln!("left out: the walk on AWS (run with {SWITCH}=1 and {}=1)", testbed::SWITCH);
        return;
    }
    if !testbed::wanted("the walk on AWS") {
        return;
    }
    let Some(mut world) = World::start(BEFORE).await else { return };
    world.until("the group's nodes are ready", 120, async |w| w.ready_nodes().await == BEFORE).await;
    world.apply("others.yaml").await;
    world.until("they are full", 120, async |w| w.running("app in (others,another)").await == 25).await;
    world.apply("cluster-autoscaler-autodiscover.yaml").await;

    // Without its policy it says which action it lacks, is not ready, and does not end.
    world.grant(BTreeSet::new());
    world.run_tideline().await;
    world
        .until("it says what it lacks, and who it is", 60, async |w| {
            let said = w.said();
            said.contains("lacks the permission autoscaling:DescribeAutoScalingGroups")
                && said.contains("arn:aws:sts::614342226570:assumed-role/")
                && w.answer("/readyz").await.is_some_and(|status| status != 200)
        })
        .await;
    world.grant(world::policy());
    world.until("it is ready", 60, async |w| w.answer("/readyz").await == Some(200)).await;

    world.apply("nginx-deployment.yaml").await;
    world.until("one replica runs", 60, async |w| w.running("app=nginx").await == 1).await;
    assert_eq!(world.desired(GROUP).await, BEFORE as u32);

    // One that asks for the other group without tolerating its taint is told the scheduler's reasons.
    world.picky().await;
    world
        .until("the tainted group is refused with the predicate's text", 60, async |w| {
            let told = w.messages("NotTriggerScaleUp").await;
            told.iter().any(|text| text.contains("1 node(s) had untolerated taint {dedicated: databases}"))
        })
        .await;

    world.scale("nginx-deployment", 50).await;
    world
        .until("fifty replicas run on 29 nodes", 240, async |w| {
            w.running("app=nginx").await == 50 && w.ready_nodes().await == AFTER
        })
        .await;
    let told = format!("pod triggered scale-up: [{{{GROUP} {BEFORE}->{AFTER} (max: 80)}}]");
    assert_eq!(world.messages("TriggeredScaleUp").await, [told], "bought in one step");
    assert_eq!((world.desired(GROUP).await, world.desired(DATABASES).await), (AFTER as u32, 0));

    world.scale("nginx-deployment", 1).await;
    world
        .until("the four go, by name", 360, async |w| {
            w.desired(GROUP).await == BEFORE as u32 && w.ready_nodes().await == BEFORE
        })
        .await;
    assert_eq!(world.count("autoscaling:TerminateInstanceInAutoScalingGroup"), AFTER - BEFORE);
    assert_eq!(world.count("autoscaling:SetDesiredCapacity"), 1);
    world.until("the replica runs still, or again", 60, async |w| w.running("app=nginx").await == 1).await;
    world.finish().await;
}
