//! What goes wrong between us and AWS: rates, time-outs, lost answers, lists of another moment, capacity.

use crate::world::{GROUP, World, is_done, is_obsolete, named, state};
use clock::Clock;
use clouds::ProviderError;
use doubles::aws::{Activity, Fault};
use model::{InputState, MachineState};

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_tried_again_and_a_service_that_is_ill_is_told() {
    let Some(mut world) = World::new(1).await else { return };
    world.double.door().fail("autoscaling:DescribeAutoScalingGroups", Fault::Throttle);
    world.until_running(1).await;
    world.until_fresh().await;
    {
        let mut door = world.double.door();
        for _ in 0..40 {
            door.fail("autoscaling:DescribeAutoScalingGroups", Fault::Error);
        }
    }
    world.until("staleness", |cluster| matches!(state(cluster), Some(InputState::Stale { .. }))).await;
    assert_eq!(world.machines().len(), 1, "what was known stays known");
    world.until_fresh().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_without_an_answer_is_safe_to_repeat() {
    let Some(mut world) = World::new(1).await else { return };
    world.until_running(1).await;
    for fault in [Fault::Throttle, Fault::Hang, Fault::LoseAnswer] {
        world.double.door().fail("autoscaling:SetDesiredCapacity", fault);
    }
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(world.buy(2).await);
    }
    let passing = |answer: &Result<_, ProviderError>| matches!(answer, Err(ProviderError::Transient { .. }));
    assert!(answers[..3].iter().all(passing), "{answers:?}");
    assert!(is_done(&answers[3]));
    assert_eq!((world.count("SetDesiredCapacity"), world.double.desired(GROUP).await), (3, 2));
    world.until_running(2).await;

    world.double.door().fail("autoscaling:TerminateInstanceInAutoScalingGroup", Fault::LoseAnswer);
    let id = world.machines()[0].id.clone();
    assert!(passing(&world.release(&id).await));
    assert!(is_done(&world.release(&id).await));
    assert_eq!(world.double.desired(GROUP).await, 1, "the capacity was lowered once");
    world.until_running(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_busy_is_asked_later() {
    let Some(mut world) = World::new(1).await else { return };
    world.until_running(1).await;
    let busy =
        Fault::Refuse { code: "ScalingActivityInProgress", message: "Scaling activity 1 is in progress" };
    world.double.door().fail("autoscaling:SetDesiredCapacity", busy);
    assert!(matches!(world.buy(2).await, Err(ProviderError::Later { .. })));
    let gone = Fault::Refuse {
        code: "ValidationError",
        message: "Instance Id not found - No managed instance found",
    };
    world.double.door().fail("autoscaling:TerminateInstanceInAutoScalingGroup", gone);
    let id = world.machines()[0].id.clone();
    assert!(is_done(&world.release(&id).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_another_moment_neither_lose_nor_double_a_machine() {
    let Some(mut world) = World::new(2).await else { return };
    world.until_running(2).await;
    let instances = world.double.instances(GROUP).await;
    world.double.door().doubled.insert(instances[0].0.clone());
    world.looks(2).await;
    assert_eq!(world.machines().len(), 2);
    // Left out of one list only: that is no news. Two whole lists without it say that it is gone.
    world.double.door().doubled.clear();
    world.double.door().hidden.insert(instances[1].0.clone());
    world.until("its end", |cluster| cluster.machines().len() == 1).await;
    let looked = world.count("DescribeAutoScalingGroups");
    world.double.door().hidden.clear();
    world.until_running(2).await;
    assert!(world.count("DescribeAutoScalingGroups") > looked, "listed late, it is a machine again");
    // Terminated by somebody else: moto's group puts another in its place.
    let parameters = [("InstanceId.1", instances[0].0.as_str())];
    world.double.call("ec2", "TerminateInstances", &parameters).await;
    let vanished = instances[0].0.clone();
    world
        .until("its end", move |cluster| {
            cluster.machines().keys().all(|id| !id.as_str().ends_with(&vanished))
        })
        .await;
}

fn activity(id: &str, status: &'static str, message: &str) -> Activity {
    Activity {
        id: id.into(),
        description: "Launching a new EC2 instance.  Status Reason: it could not".into(),
        status,
        message: message.into(),
        start: Clock::system().now().to_string(),
    }
}

const SOLD_OUT: &str = "We currently do not have sufficient m5.large capacity in the Availability Zone you requested \
                        (cn-north-1a). Launching EC2 instance failed.";

#[tokio::test(flavor = "multi_thread")]
async fn a_shortage_in_the_activities_is_a_failed_machine_and_is_taken_back() {
    let Some(mut world) = World::new(3).await else { return };
    // One machine of the three is asked for and not there.
    let (absent, _) = world.double.instances(GROUP).await.remove(0);
    {
        let mut door = world.double.door();
        door.hidden.insert(absent);
        let before = [activity("2", "InProgress", ""), activity("1", "Failed", SOLD_OUT)];
        door.activities.insert(GROUP.into(), before.to_vec());
    }
    world.restart(named());
    world.until_running(2).await;
    world.looks(3).await;
    assert_eq!(world.machines().len(), 2, "while the group tries, nothing has failed");

    let now = [activity("3", "Failed", SOLD_OUT)];
    world.double.door().activities.insert(GROUP.into(), now.to_vec());
    let failed = |cluster: &model::Cluster| {
        cluster.machines().values().find(|one| matches!(one.state, MachineState::Failed { .. })).cloned()
    };
    world.until("a failed machine", |cluster| failed(cluster).is_some()).await;
    let machine = failed(&world.cluster).unwrap();
    let MachineState::Failed { code, message } = &machine.state else { panic!("{machine:?}") };
    assert_eq!(&**code, "InsufficientInstanceCapacity");
    assert!(message.contains("cn-north-1a"));
    assert!(machine.id.as_str().contains("/i-placeholder-eks-workers-"), "{}", machine.id);

    // A machine may still be coming: the capacity is not lowered under it.
    world.double.door().activities.insert(GROUP.into(), vec![activity("4", "InProgress", "")]);
    assert!(is_obsolete(&world.release(&machine.id).await, "1 on their way"));
    world.double.door().activities.insert(GROUP.into(), now.to_vec());
    assert!(is_done(&world.release(&machine.id).await));
    assert_eq!(world.count("TerminateInstanceInAutoScalingGroup"), 0);
    assert_eq!(world.double.desired(GROUP).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_before_an_order_says_nothing_of_it() {
    let Some(mut world) = World::new(1).await else { return };
    world.until_running(1).await;
    let mut old = activity("1", "Failed", SOLD_OUT);
    old.start = (Clock::system().now() - jiff::SignedDuration::from_mins(2)).to_string();
    world.double.door().activities.insert(GROUP.into(), vec![old]);
    assert!(is_done(&world.buy(2).await));
    let (absent, _) = world.double.instances(GROUP).await.remove(1);
    world.double.door().hidden.insert(absent);
    world.looks(4).await;
    assert_eq!(world.machines().len(), 1);
}
