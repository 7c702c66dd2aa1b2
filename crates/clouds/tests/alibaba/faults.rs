//! Orders that meet throttling, silence, lost answers and sold-out stock.

use crate::world::{CUSTOM_POLICY, GROUP, World, has_to_wait, is_obsolete, key, settings, state};
use clouds::OrderAnswer;
use doubles::alibaba::Fault;
use model::{InputState, MachineId, MachineState};
use std::time::Duration;

/// Most calls that one order makes.
const MOST_CALLS: usize = 12;

/// One run of an order whose k-th call goes wrong, given again by a provider that remembers nothing, as after a crash.
/// Answers whether there was a k-th call.
async fn interrupted(k: usize, fault: Fault, policies: &[&str]) -> bool {
    let mut world = World::with(
        |service| service.granted = policies.iter().map(ToString::to_string).collect(),
        settings(),
        key(),
    );
    world.until_fresh().await;
    // The provider that gives the order does not look around meanwhile, so each call is the order's.
    let ordering = world.restarted();
    let actions = [
        "DescribeScalingGroups",
        "ScaleWithAdjustment",
        "DescribeScalingRules",
        "CreateScalingRule",
        "ExecuteScalingRule",
    ];
    let mut planted = false;
    if let Some(action) = actions.get(k) {
        world.double.state().faults.plant(action, fault);
        planted = true;
    }
    let first = ordering.buy("buy-1", 3).await;
    let met = planted && world.double.state().faults.is_empty();
    let mut attempts = 0;
    let mut again = first.is_err();
    while again || attempts == 0 {
        attempts += 1;
        assert!(attempts < MOST_CALLS, "never done");
        let second = ordering.restarted();
        tokio::time::sleep(Duration::from_secs(20)).await;
        again = second.buy("buy-1", 3).await.is_err();
    }
    world.until_running(3).await;
    world.pass(Duration::from_mins(5)).await;
    assert_eq!(world.machines().len(), 3, "{fault:?} at {k}");
    assert_eq!(world.double.state().world.chosen_by_ess, 0);
    met
}

#[tokio::test(start_paused = true)]
async fn an_order_cut_off_at_any_call_buys_once() {
    for fault in [Fault::Throttle, Fault::ServerError, Fault::Hang, Fault::LoseAnswer] {
        for policies in [&["*"][..], CUSTOM_POLICY] {
            let mut met = 0;
            for k in 0..5 {
                met += usize::from(interrupted(k, fault, policies).await);
            }
            assert!(met >= 2, "{fault:?} was met {met} times with {policies:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_answer_is_lost_removes_once() {
    let mut world = World::new();
    world.until_fresh().await;
    world.buy("buy-1", 4).await.unwrap();
    world.until_running(4).await;
    let two: Vec<MachineId> = world.machines().iter().map(|machine| machine.id.clone()).take(2).collect();
    world.double.state().faults.plant("RemoveInstances", Fault::LoseAnswer);
    assert!(world.release(&two).await.iter().all(Result::is_err));
    for answer in world.restarted().release(&two).await {
        assert_eq!(answer.unwrap(), OrderAnswer::Done);
    }
    world.until_running(2).await;
    world.pass(Duration::from_mins(2)).await;
    assert_eq!((world.machines().len(), world.pool().target), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn while_an_activity_runs_orders_wait() {
    let mut world = World::new();
    world.until_fresh().await;
    world.buy("buy-1", 1).await.unwrap();
    assert!(has_to_wait(&world.buy("buy-2", 2).await));
    world.until_running(1).await;
    assert_eq!(world.buy("buy-2", 2).await.unwrap(), OrderAnswer::Done);
}

fn failed_code(machine: &model::Machine) -> Option<&str> {
    match &machine.state {
        MachineState::Failed { code, .. } => Some(code),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_shortage_is_told_within_seconds_and_taken_back() {
    for desired in [None, Some(0)] {
        for stock in [0, 1] {
            let mut world = World::with(
                |service| {
                    service.world.groups.get_mut(GROUP).unwrap().desired = desired;
                    service.world.stock = Some(stock);
                },
                settings(),
                key(),
            );
            world.until_fresh().await;
            let begun = tokio::time::Instant::now();
            world.buy("buy-1", 3).await.unwrap();
            let missing = 3 - stock as usize;
            world
                .until("the shortage", |cluster| {
                    cluster.machines().values().filter(|one| failed_code(one).is_some()).count() == missing
                })
                .await;
            // What could be made takes its time; the rest is known when that activity ends.
            assert!(begun.elapsed() < Duration::from_secs(if stock == 0 { 10 } else { 50 }));
            assert_eq!(world.pool().target, 3);
            let failed: Vec<_> =
                world.machines().into_iter().filter(|one| failed_code(one).is_some()).collect();
            assert!(failed.iter().all(|one| failed_code(one) == Some("OperationDenied.NoStock")));
            let ids: Vec<MachineId> = failed.iter().map(|machine| machine.id.clone()).collect();
            for answer in world.release(&ids).await {
                assert_eq!(answer.unwrap(), OrderAnswer::Done, "{desired:?} {stock}");
            }
            world.until_running(stock as usize).await;
            assert_eq!(world.pool().target, stock);
            // With stock again nothing comes that nobody asks for any more.
            world.double.state().world.stock = None;
            world.pass(Duration::from_mins(10)).await;
            assert_eq!(world.machines().len(), stock as usize, "{desired:?} {stock}");
            assert_eq!(world.double.state().world.chosen_by_ess, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_came_is_lowered_once_and_machines_stay() {
    let mut world = World::with(
        |service| {
            service.world.groups.get_mut(GROUP).unwrap().desired = Some(0);
            service.world.stock = Some(2);
        },
        settings(),
        key(),
    );
    world.until_fresh().await;
    world.buy("buy-1", 5).await.unwrap();
    world
        .until("two machines", |cluster| {
            cluster.machines().values().filter(|one| one.state == MachineState::Running).count() == 2
        })
        .await;
    assert!(is_obsolete(&world.lower("lower-0", 5, 1).await, "2 machines"));
    assert!(is_obsolete(&world.lower("lower-1", 4, 2).await, "raised to 5"));
    assert_eq!(world.lower("lower-2", 5, 2).await.unwrap(), OrderAnswer::Done);
    assert_eq!(world.lower("lower-2", 5, 2).await.unwrap(), OrderAnswer::Done);
    world.until_running(2).await;
    assert_eq!(world.pool().target, 2);
    assert_eq!(world.double.state().world.chosen_by_ess, 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ill_for_minutes_is_stale_and_then_fresh() {
    let mut world = World::new();
    world.until_fresh().await;
    for _ in 0..60 {
        world.double.state().faults.plant("DescribeScalingGroups", Fault::ServerError);
    }
    world.until("staleness", |cluster| matches!(state(cluster), Some(InputState::Stale { .. }))).await;
    let before = world.double.state().faults.left();
    world.pass(Duration::from_secs(25)).await;
    let asked = before - world.double.state().faults.left();
    assert!(asked <= 3, "an ill service is asked seldom, not {asked} times");
    world.double.state().faults.drop_all();
    world.until_fresh().await;
}
