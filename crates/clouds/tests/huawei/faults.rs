//! Orders that meet throttling, silence, lost answers and sold-out types; lists that are late.

use crate::world::{POOL, World, key, settings, state};
use clouds::OrderAnswer;
use doubles::huawei::Fault;
use model::{InputState, MachineState};
use std::time::Duration;

const FAULTS: [Fault; 4] = [Fault::Throttle, Fault::ServerError, Fault::Hang, Fault::LoseAnswer];
/// Most tries that one order needs.
const MOST_TRIES: usize = 6;

#[tokio::test(start_paused = true)]
async fn an_order_cut_off_at_any_request_buys_once() {
    for fault in FAULTS {
        for request in ["nodepools", "scale"] {
            let mut world = World::new();
            world.until_fresh().await;
            world.double.state().faults.plant(request, fault);
            let mut tries = 0;
            while world.restarted().buy(3).await.is_err() {
                tries += 1;
                assert!(tries < MOST_TRIES, "never done: {fault:?} of {request}");
            }
            assert!(world.double.state().faults.is_empty());
            world.until_running(3).await;
            world.pass(Duration::from_mins(5)).await;
            assert_eq!(world.machines().len(), 3, "{fault:?} of {request}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_cut_off_at_any_request_removes_once() {
    for fault in FAULTS {
        for request in ["nodepools", "nodes", "delete"] {
            let mut world = World::new();
            world.until_fresh().await;
            world.buy(3).await.unwrap();
            world.until_running(3).await;
            let gone = world.machines()[0].clone();
            world.double.state().faults.plant(request, fault);
            let mut tries = 0;
            while world.restarted().release(&gone, 0).await.is_err() {
                tries += 1;
                assert!(tries < MOST_TRIES, "never done: {fault:?} of {request}");
            }
            world.until_running(2).await;
            world.pass(Duration::from_mins(2)).await;
            let state = world.double.state();
            assert_eq!((state.world.pools[POOL].desired, state.world.chosen_by_cce), (2, 0), "{fault:?}");
            assert!(!world.machines().contains(&gone));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shortage_is_told_as_failed_machines_and_taken_back() {
    let short = |service: &mut doubles::huawei::Service| {
        service.world.pools.get_mut(POOL).unwrap().stock = Some(2);
    };
    let mut world = World::with(short, settings(), key());
    world.until_fresh().await;
    world.buy(5).await.unwrap();
    let failed = |cluster: &model::Cluster| {
        let machines = cluster.machines().values();
        let failed = machines.filter(|one| matches!(one.state, MachineState::Failed { .. }));
        failed.map(|one| (one.id.clone(), one.state.clone())).collect::<Vec<_>>()
    };
    let begun = tokio::time::Instant::now();
    world.until("three that cannot be made", |cluster| failed(cluster).len() == 3).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "a shortage is seen within seconds");
    let unborn = failed(&world.cluster);
    let MachineState::Failed { code, message } = &unborn[0].1 else { panic!("failed") };
    assert_eq!((&**code, &**message), ("ResourceInsufficient", "the flavor is sold out in the zone"));
    for (machine, _) in unborn.iter().rev() {
        assert_eq!(world.release(machine, 0).await.unwrap(), OrderAnswer::Done);
    }
    world.until_running(2).await;
    assert_eq!(world.pool().target, 2);
    // Given back once more: nothing is there to be lowered.
    assert_eq!(world.release(&unborn[0].0, 0).await.unwrap(), OrderAnswer::Done);
    let state = world.double.state();
    assert_eq!((state.world.pools[POOL].desired, state.world.chosen_by_cce), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_installed_is_a_failed_machine() {
    let mut world = World::with(|service| service.world.fails = 1, settings(), key());
    world.until_fresh().await;
    world.buy(2).await.unwrap();
    let one_failed = |cluster: &model::Cluster| {
        let states: Vec<_> = cluster.machines().values().map(|one| &one.state).collect();
        states.contains(&&MachineState::Running)
            && states.iter().any(|state| matches!(state, MachineState::Failed { .. }))
    };
    world.until("one failed, one running", one_failed).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_leaves_a_node_out_once_takes_nothing_away() {
    let mut world = World::new();
    world.until_fresh().await;
    world.buy(3).await.unwrap();
    world.until_running(3).await;
    world.pass(Duration::from_mins(2)).await;
    let hidden = world.double.state().world.staying(POOL)[0].clone();
    let lists = world.double.count("nodes");
    world.double.state().world.hidden.push(hidden);
    while world.double.count("nodes") == lists {
        world.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(world.machines().len(), 3, "one list says nothing");
    world.until("it counts as gone", |cluster| cluster.machines().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_ill_service_is_left_alone_and_nothing_is_planned_on_old_news() {
    let mut world = World::new();
    world.until_fresh().await;
    for _ in 0..200 {
        world.double.state().faults.plant("*", Fault::Hang);
    }
    world.pass(Duration::from_mins(5)).await;
    let Some(InputState::Stale { why, .. }) = state(&world.cluster) else { panic!("it is not stale") };
    assert!(why.contains("no answer within"), "{why}");
    let left = world.double.state().faults.left();
    assert!(left > 150, "{} requests were made of an ill service", 200 - left);
    world.double.state().faults.drop_all();
    world.until_fresh().await;
}
