//! Tideline as a whole on a real control plane: nodes follow pods, up and down.
//!
//! The API server, the scheduler and the controllers are Kubernetes' own; machines and kubelets are the sandbox's.
//! Tideline has the rights of `deploy/rbac.yaml` and no others, and no request of its may be refused for want of one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

#[path = "real_cluster/pools.rs"]
mod pools;
#[path = "real_cluster/world.rs"]
mod world;

use pools::Pool;
use tokio::sync::Semaphore;
use world::{Runs, World};

/// Control planes at a time: each is four processes that start at full load.
static PLACES: Semaphore = Semaphore::const_new(2);

/// Replicas that fit nowhere, and the nodes that they need: a node has 4 CPUs, a pod asks for half of one.
const REPLICAS: usize = 50;
const NODES: usize = 7;
/// Replicas that must move without ever being fewer than their budget allows.
const KEEPERS: usize = 6;
const KEEPERS_AT_LEAST: usize = 5;

async fn nodes_follow_pods(what: &str, pool: Pool, runs: Runs) {
    if !testbed::wanted(what) {
        return;
    }
    let _place = PLACES.acquire().await.unwrap();
    let mut world = World::start(pool).await;
    world.run_tideline(runs).await;

    world.deployment("web", REPLICAS, "500m").await;
    world
        .until("the real scheduler has bound every replica", 180, async |w| w.bound("web").await == REPLICAS)
        .await;
    world.until("every replica is ready", 60, async |w| w.ready("web").await == REPLICAS).await;
    assert_eq!(world.nodes().await.len(), NODES, "as few nodes as the replicas need");
    let message = format!("pod triggered scale-up: [{{{} 0->{NODES} (max: {})}}]", pools::NAME, pools::MAX);
    world.until("the scale-up is told", 30, async |w| !w.messages("TriggeredScaleUp").await.is_empty()).await;
    assert_eq!(world.messages("TriggeredScaleUp").await, [message], "bought for once, not in fragments");

    world.scale("web", 0).await;
    world.until("the replicas are gone", 60, async |w| w.pods("web").await.is_empty()).await;
    world.deployment("keeper", KEEPERS, "500m").await;
    world.budget("keeper", KEEPERS_AT_LEAST).await;
    world.until("the keepers are ready", 60, async |w| w.ready("keeper").await == KEEPERS).await;
    let spread = world.nodes_of("keeper").await.len();
    assert!(spread > 2, "keepers on {spread} nodes: nothing would have to move");
    let watched = world.watch_readiness("keeper");
    world.until("one node is left", 240, async |w| w.nodes().await.len() == 1).await;
    world.until("the keepers are ready again", 60, async |w| w.ready("keeper").await == KEEPERS).await;
    let fewest = watched.stop().await;
    assert!(fewest >= KEEPERS_AT_LEAST, "{fewest} keepers were ready; their budget is {KEEPERS_AT_LEAST}");
    let evictions = world.evictions().await;
    assert!(evictions >= spread - 1, "{evictions} evictions emptied {} nodes", spread - 1);
    assert!(!world.messages("ScaleDown").await.is_empty(), "removals are told");

    world.scale("keeper", 0).await;
    world.until("no node is left", 120, async |w| w.nodes().await.is_empty()).await;
    world.until("no machine is left", 60, async |w| w.machines().await == 0).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_pool() {
    nodes_follow_pods("nodes follow pods in a simulated pool", Pool::Simulated, Runs::InProcess).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machine_deployment() {
    nodes_follow_pods("nodes follow pods in a MachineDeployment", Pool::ClusterApi, Runs::InProcess).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_with_a_service_account() {
    nodes_follow_pods("nodes follow pods, by the program itself", Pool::Simulated, Runs::AsProgram).await;
}

/// Two machines' worth of pods that are asked for as a whole, and one machine's worth of a buffer.
const ROOM: &str = "
apiVersion: v1
kind: PodTemplate
metadata: { name: large, namespace: default }
template:
  spec: { containers: [{ name: main, image: none, resources: { requests: { cpu: '3' } } }] }
---
apiVersion: autoscaling.x-k8s.io/v1
kind: ProvisioningRequest
metadata: { name: job, namespace: default }
spec:
  provisioningClassName: best-effort-atomic-scale-up.autoscaling.x-k8s.io
  podSets: [{ podTemplateRef: { name: large }, count: 2 }]
---
apiVersion: autoscaling.x-k8s.io/v1beta1
kind: ProvisioningRequest
metadata: { name: huge, namespace: default }
spec:
  provisioningClassName: best-effort-atomic-scale-up.autoscaling.x-k8s.io
  podSets: [{ podTemplateRef: { name: large }, count: 21 }]
---
apiVersion: autoscaling.x-k8s.io/v1beta1
kind: CapacityBuffer
metadata: { name: spare, namespace: default }
spec: { podTemplateRef: { name: large }, replicas: 1 }
";

/// A pod that uses the room of the request.
const WORKER: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  namespace: default
  labels: { app: job }
  annotations: { autoscaling.x-k8s.io/consume-provisioning-request: job }
spec: { containers: [{ name: main, image: none, resources: { requests: { cpu: '3' } } }] }
";

#[tokio::test(flavor = "multi_thread")]
async fn room_is_asked_for_before_the_pods() {
    if !testbed::wanted("room for pods that do not exist") {
        return;
    }
    let _place = PLACES.acquire().await.unwrap();
    let mut world = World::start(Pool::Simulated).await;
    world.run_tideline(Runs::AsProgram).await;
    world.apply(ROOM).await;
    let (job, huge, spare) = ("provisioningrequest/job", "provisioningrequest/huge", "capacitybuffer/spare");
    let said = "True CapacityIsProvisioned";
    world
        .until("the request has its room", 90, async |w| w.condition(job, "Provisioned").await == said)
        .await;
    let said = "True RoomOnNodes";
    world.until("the buffer has its room", 90, async |w| w.condition(spare, "RoomReady").await == said).await;
    assert_eq!(world.condition(huge, "Provisioned").await, "False CapacityIsNotFound");
    assert_eq!(world.nodes().await.len(), 3, "no part of what is too large is bought");
    for name in ["job-0", "job-1"] {
        world.apply(&WORKER.replace("NAME", name)).await;
    }
    world.until("the pods have taken it", 60, async |w| w.ready("job").await == 2).await;
    let said = "True CapacityBookingConsumed";
    world.until("the request is over", 60, async |w| w.condition(job, "BookingExpired").await == said).await;
    assert_eq!(world.nodes().await.len(), 3, "nothing was bought for the pods");
    world.finish().await;
}
