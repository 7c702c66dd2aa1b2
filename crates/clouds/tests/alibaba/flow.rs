//! From an empty group to machines and back, with the permissions of the document: its custom policy alone, and with
//! the system policy beside it.

use crate::world::{CUSTOM_POLICY, FULL_ACCESS, World, has_to_wait, is_obsolete, key, settings};
use clouds::OrderAnswer;
use model::{MachineId, MachineState};
use std::time::Duration;

fn with_policies(policies: &[&str], desired: Option<u32>) -> World {
    World::with(
        |service| {
            service.granted = policies.iter().map(ToString::to_string).collect();
            if let Some(group) = service.world.groups.get_mut("asg-bp1") {
                group.desired = desired;
            }
        },
        settings(),
        key(),
    )
}

/// Grows from nothing to two, to five, gives three back by name, and refuses to go under the minimum.
async fn grow_and_shrink(world: &mut World) {
    world.until_fresh().await;
    assert_eq!(world.pool().target, 0);
    assert_eq!(world.buy("buy-1", 2).await.unwrap(), OrderAnswer::Done);
    world.until_running(2).await;
    assert_eq!(world.pool().target, 2);
    assert_eq!(world.buy("buy-2", 5).await.unwrap(), OrderAnswer::Done);
    world.until_running(5).await;
    assert_eq!(world.buy("buy-3", 4).await.unwrap(), OrderAnswer::Done, "more is there already");
    let going: Vec<MachineId> = world.machines().iter().map(|machine| machine.id.clone()).take(3).collect();
    for answer in world.release(&going).await {
        assert_eq!(answer.unwrap(), OrderAnswer::Done);
    }
    let leaving = going.clone();
    world
        .until("leaving machines", move |cluster| {
            leaving
                .iter()
                .all(|id| cluster.machines().get(id).is_none_or(|one| one.state == MachineState::Deleting))
        })
        .await;
    world.until_running(2).await;
    assert_eq!(world.pool().target, 2);
    for answer in world.release(&going).await {
        assert_eq!(answer.unwrap(), OrderAnswer::Done, "they are gone already");
    }
    let last = world.machines()[0].id.clone();
    world.double.state().world.groups.get_mut("asg-bp1").unwrap().min = 2;
    assert!(is_obsolete(&world.release(&[last]).await[0], "minimum of 2"));
    assert_eq!(world.double.count("RemoveInstances"), 1, "three machines go in one call");
    assert_eq!(world.double.state().world.chosen_by_ess, 0, "machines go by name only");
}

#[tokio::test(start_paused = true)]
async fn the_custom_policy_alone_leads_through_scaling_rules() {
    for desired in [None, Some(0)] {
        let mut world = with_policies(CUSTOM_POLICY, desired);
        grow_and_shrink(&mut world).await;
        let count = |action: &str| world.double.count(action);
        assert_eq!(count("ScaleWithAdjustment"), 0);
        assert_eq!(count("CreateScalingRule"), 1, "one rule, kept");
        assert_eq!(count("ModifyScalingRule"), 1);
        assert_eq!(count("ExecuteScalingRule"), 2);
        let state = world.double.state();
        let refused = state.calls.iter().filter(|call| !call.refused.is_empty());
        let refused: Vec<&str> = refused.map(|call| call.action.as_str()).collect();
        assert_eq!(refused, ["ScaleWithAdjustment"], "tried once, then remembered");
    }
}

#[tokio::test(start_paused = true)]
async fn with_full_access_the_size_is_set_directly() {
    for desired in [None, Some(0)] {
        let policies = [&[FULL_ACCESS][..], CUSTOM_POLICY].concat();
        let mut world = with_policies(&policies, desired);
        grow_and_shrink(&mut world).await;
        assert_eq!(world.double.count("ScaleWithAdjustment"), 2);
        assert_eq!(world.double.count("CreateScalingRule"), 0);
        let state = world.double.state();
        assert!(state.calls.iter().all(|call| call.refused.is_empty()));
        let tokens: Vec<&str> = state
            .calls
            .iter()
            .filter(|call| call.action == "ScaleWithAdjustment")
            .map(|call| call.parameters.get("ClientToken"))
            .collect();
        assert!(tokens.iter().all(|token| !token.is_empty() && token.len() <= 64));
        assert_ne!(tokens[0], tokens[1]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_file_that_we_ship_is_all_that_is_used() {
    let text = include_str!("../../../../deploy/alibaba-cloud/ram-policy.json");
    let policy: serde_json::Value = serde_json::from_str(text).unwrap();
    let actions = policy["Statement"][0]["Action"].as_array().unwrap();
    let actions: Vec<&str> = actions.iter().map(|action| action.as_str().unwrap()).collect();
    let mut world = with_policies(&actions, Some(0));
    grow_and_shrink(&mut world).await;
    let state = world.double.state();
    assert!(state.calls.iter().all(|call| call.refused.is_empty()));
    for action in actions {
        let name = action.split_once(':').unwrap().1;
        assert!(state.calls.iter().any(|call| call.action == name), "{action} is not needed");
    }
}

#[tokio::test(start_paused = true)]
async fn permission_that_comes_later_is_noticed() {
    let mut world = with_policies(CUSTOM_POLICY, None);
    world.until_fresh().await;
    world.buy("buy-1", 1).await.unwrap();
    world.until_running(1).await;
    world.double.state().granted.push(FULL_ACCESS.into());
    world.pass(Duration::from_mins(61)).await;
    world.buy("buy-2", 2).await.unwrap();
    assert_eq!(world.double.count("ScaleWithAdjustment"), 1);
}

#[tokio::test(start_paused = true)]
async fn removals_go_twenty_at_a_time_and_wait_for_each_other() {
    let mut world = World::new();
    world.double.state().world.groups.get_mut("asg-bp1").unwrap().max = 50;
    world.until_fresh().await;
    world.buy("buy-1", 10).await.unwrap();
    world.until_running(10).await;
    world.buy("buy-2", 25).await.unwrap();
    world.until_running(25).await;
    let all: Vec<MachineId> = world.machines().iter().map(|machine| machine.id.clone()).collect();
    let answers = world.release(&all).await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(OrderAnswer::Done))).count(), 20);
    assert_eq!(answers.iter().filter(|answer| has_to_wait(answer)).count(), 5);
    let rest = &all[20..];
    assert!(world.release(rest).await.iter().all(has_to_wait), "the first activity still runs");
    world.until("five machines", |cluster| cluster.machines().len() == 5).await;
    assert!(world.release(rest).await.iter().all(|answer| matches!(answer, Ok(OrderAnswer::Done))));
    world.until("no machine", |cluster| cluster.machines().is_empty()).await;
    assert_eq!(world.double.state().world.chosen_by_ess, 0);
}

#[tokio::test(start_paused = true)]
async fn protected_attached_and_held_machines_keep_their_rules() {
    let mut world = World::new();
    world.until_fresh().await;
    world.buy("buy-1", 3).await.unwrap();
    world.until_running(3).await;
    let ids: Vec<MachineId> = world.machines().iter().map(|machine| machine.id.clone()).collect();
    {
        let mut state = world.double.state();
        state.world.hook_holds = jiff::SignedDuration::from_mins(2);
        let group = state.world.groups.get_mut("asg-bp1").unwrap();
        let mut instances = group.instances.values_mut();
        instances.next().unwrap().state = "Protected";
        instances.next().unwrap().attached = true;
    }
    let answers = world.release(&ids).await;
    assert!(is_obsolete(&answers[0], "protected"));
    assert!(is_obsolete(&answers[1], "by hand"));
    assert_eq!(answers[2].as_ref().unwrap(), &OrderAnswer::Done);
    let held = ids[2].clone();
    world
        .until("a machine on its way out", move |cluster| {
            cluster.machines().get(&held).is_some_and(|one| one.state == MachineState::Deleting)
        })
        .await;
    assert_eq!(world.pool().target, 2, "a machine that its hook still holds does not count");
    world.until_running(2).await;
}

#[tokio::test(start_paused = true)]
async fn orders_out_of_bounds_name_the_bound() {
    let mut world = World::new();
    world.until_fresh().await;
    world.double.state().world.groups.get_mut("asg-bp1").unwrap().max = 3;
    assert!(is_obsolete(&world.buy("buy-1", 4).await, "maximum of 3"));
    world.double.state().world.groups.get_mut("asg-bp1").unwrap().inactive = true;
    assert!(is_obsolete(&world.buy("buy-2", 2).await, "enable the scaling group"));
    assert!(
        is_obsolete(&world.lower("lower-1", 0, 0).await, "")
            || world.double.count("ScaleWithAdjustment") == 0
    );
    assert_eq!(world.double.count("ScaleWithAdjustment"), 0);
}
