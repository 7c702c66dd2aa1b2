//! Killing the controller before and after every one of its outgoing calls: the work is finished or undone by its
//! successor, nothing is bought twice, no mark stays.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use kube::Client;
use sandbox::fault::{FaultPlan, Faults, KillPoint, KillSide};
use std::time::Duration;
use world::{Machines, World, config};

const PATIENCE: Duration = Duration::from_mins(20);
/// More calls than a phase makes: reaching it means that the phase never ends.
const MOST_CALLS: u64 = 2000;

/// One life of the controller: until it is killed, or until the phase is over. True: it was killed.
async fn live(world: &World, faults: &Faults, pods: usize, nodes: usize) -> bool {
    let controller = world.controller(faults.client(world.sandbox.api()), config());
    let running = tokio::spawn(controller.run(std::future::pending()));
    let killed = tokio::select! {
        biased;
        () = faults.killed() => true,
        () = world.settle(pods, nodes, PATIENCE) => false,
    };
    running.abort();
    let _ = running.await;
    killed
}

fn faults(world: &World) -> Faults {
    Faults::new(FaultPlan::default(), 1, world.clock).unwrap()
}

fn successor(world: &World) -> Client {
    world.sandbox.client("successor")
}

/// Runs one phase with a kill at each call; `begin` brings the world to its start.
async fn kill_everywhere<Begin>(kind: Machines, side: KillSide, begin: Begin, pods: usize, nodes: usize)
where
    Begin: AsyncFn(&World),
{
    for call in 1..MOST_CALLS {
        let world = World::new(kind).await;
        begin(&world).await;
        let faults = faults(&world);
        faults.kill_at(KillPoint { call, side, only_writes: false });
        if !live(&world, &faults, pods, nodes).await {
            println!("killed {side:?} each of {} calls", call - 1);
            assert!(call > 10, "a phase makes more calls than {call}");
            return;
        }
        let next = world.controller(successor(&world), config());
        let running = tokio::spawn(next.run(std::future::pending()));
        world.settle(pods, nodes, PATIENCE).await;
        // Long enough that anything bought twice or marked late would show.
        tokio::time::sleep(Duration::from_mins(5)).await;
        world.settle(pods, nodes, PATIENCE).await;
        assert_eq!(world.machines_made(), 2, "machines ever made, killed {side:?} call {call}");
        running.abort();
    }
    panic!("the phase never ends");
}

async fn begin_growing(world: &World) {
    world.populate(6).await;
}

async fn begin_draining(world: &World) {
    world.populate(6).await;
    let before = world.controller(world.sandbox.client("before"), config());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(before.run(async { drop(stopped.await) }));
    world.settle(6, 2, PATIENCE).await;
    world.scale(3).await;
    world.settle_pods(3).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn growing_simulated_machines_survives_a_kill_before_every_call() {
    kill_everywhere(Machines::Simulated, KillSide::Before, begin_growing, 6, 2).await;
}

#[tokio::test(start_paused = true)]
async fn growing_simulated_machines_survives_a_kill_after_every_call() {
    kill_everywhere(Machines::Simulated, KillSide::After, begin_growing, 6, 2).await;
}

#[tokio::test(start_paused = true)]
async fn draining_simulated_machines_survives_a_kill_before_every_call() {
    kill_everywhere(Machines::Simulated, KillSide::Before, begin_draining, 3, 1).await;
}

#[tokio::test(start_paused = true)]
async fn draining_simulated_machines_survives_a_kill_after_every_call() {
    kill_everywhere(Machines::Simulated, KillSide::After, begin_draining, 3, 1).await;
}

#[tokio::test(start_paused = true)]
async fn growing_cluster_api_machines_survives_a_kill_before_every_call() {
    kill_everywhere(Machines::ClusterApi, KillSide::Before, begin_growing, 6, 2).await;
}

#[tokio::test(start_paused = true)]
async fn growing_cluster_api_machines_survives_a_kill_after_every_call() {
    kill_everywhere(Machines::ClusterApi, KillSide::After, begin_growing, 6, 2).await;
}

#[tokio::test(start_paused = true)]
async fn draining_cluster_api_machines_survives_a_kill_before_every_call() {
    kill_everywhere(Machines::ClusterApi, KillSide::Before, begin_draining, 3, 1).await;
}

#[tokio::test(start_paused = true)]
async fn draining_cluster_api_machines_survives_a_kill_after_every_call() {
    kill_everywhere(Machines::ClusterApi, KillSide::After, begin_draining, 3, 1).await;
}
