//! Claims from their order to their end, in the embedded cluster on a paused clock, with and without crashes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use api::karpenter::{Ec2NodeClass, NodeClaim, NodePool, SimulatedNodeClass, v1alpha5};
use api::simulated::SimulatedMachine;
use clock::Clock;
use controller::{Config, Controller};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use model::Policies;
use sandbox::fault::{FaultPlan, Faults, KillPoint, KillSide};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

#[path = "life/overlays.rs"]
mod overlays;
#[path = "life/room.rs"]
mod room;
#[path = "life/upkeep.rs"]
mod upkeep;

/// More calls than pods, machines and claims of the crash test need.
const MOST_CALLS: u64 = 1000;
/// Every call but a few: the test has to be quick.
const CALLS_APART: usize = 3;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct World {
    sandbox: Sandbox,
    client: Client,
    clock: Clock,
    log: Log,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    async fn new(pool: Value) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let sandbox = Sandbox::start(Options::new(clock, 7)).unwrap();
        let client = sandbox.client("test");
        let log = Log::default();
        sandbox.store().record_writes(Box::new(log.clone()));
        let class = json!({"apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedNodeClass",
            "metadata": {"name": "default"}, "spec": {"boot": {"minSeconds": 20, "maxSeconds": 40}}});
        let classes: Api<SimulatedNodeClass> = Api::all(client.clone());
        classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
        let world = Self { sandbox, client, clock, log, tasks: Vec::new() };
        if !pool.is_null() {
            let pools: Api<NodePool> = Api::all(world.client.clone());
            pools.create(&PostParams::default(), &serde_json::from_value(pool).unwrap()).await.unwrap();
        }
        world
    }

    /// Starts controller and keeper, as one process would.
    fn start(&mut self, client: &Client) {
        self.start_with(client, Config::for_simulation(Policies::default(), 7));
    }

    fn start_with(&mut self, client: &Client, config: Config) {
        let settings = claims::Settings {
            watches: config.watch_settings(),
            simulate_clouds: true,
            heeds_others: true,
            repairs: true,
            clouds: Vec::new(),
        };
        let (direct, keeper) = claims::start(client, self.clock, &settings);
        let controller = Controller::new(client.clone(), config, self.clock).unwrap().with_provider(direct);
        let handle = controller.handle();
        self.tasks.push(tokio::spawn(keeper.run(move || handle.leads())));
        self.tasks.push(tokio::spawn(async move {
            let _ended = controller.run(std::future::pending()).await;
        }));
    }

    /// Kills both wherever they are.
    async fn kill(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
    }

    async fn deploy(&self, replicas: u32) {
        self.deploy_asking(replicas, json!({"cpu": "500m", "memory": "512Mi"})).await;
    }

    async fn deploy_asking(&self, replicas: u32, requests: Value) {
        self.deploy_with(replicas, requests, json!({})).await;
    }

    /// At most one on a node.
    async fn deploy_apart(&self, replicas: u32) {
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}});
        let apart = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        self.deploy_with(replicas, json!({"cpu": "500m", "memory": "512Mi"}), apart).await;
    }

    async fn deploy_with(&self, replicas: u32, requests: Value, affinity: Value) {
        let resources = json!({"requests": requests, "limits": requests});
        let container = json!({"name": "main", "image": "none", "resources": resources});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [container], "affinity": affinity}}}});
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let deployment = serde_json::from_value(deployment).unwrap();
        deployments.create(&PostParams::default(), &deployment).await.unwrap();
    }

    async fn scale(&self, replicas: u32) {
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch("web", &PatchParams::default(), &patch).await.unwrap();
    }

    async fn claims(&self) -> Vec<NodeClaim> {
        Api::<NodeClaim>::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items
    }

    async fn machines(&self) -> Vec<SimulatedMachine> {
        Api::<SimulatedMachine>::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items
    }

    async fn nodes(&self) -> Vec<Node> {
        Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items
    }

    async fn running(&self) -> usize {
        let pods = Api::<Pod>::default_namespaced(self.client.clone());
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        all.iter().filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).count()
    }

    async fn is_empty(&self) -> bool {
        self.claims().await.is_empty() && self.nodes().await.is_empty() && self.machines().await.is_empty()
    }

    /// Machines ever made, by the log of writes.
    fn made(&self) -> usize {
        let log = self.log.0.lock().unwrap();
        String::from_utf8_lossy(&log)
            .lines()
            .filter(|line| line.contains(" create simulatedmachines."))
            .count()
    }

    async fn until(&self, what: &str, seconds: u64, mut holds: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..seconds {
            if holds(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let claims = serde_json::to_string_pretty(&self.claims().await).unwrap();
        panic!("{what}: not within {seconds} s: {claims}");
    }
}

fn pool(disruption: &Value) -> Value {
    let requirement = json!({"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]});
    let class = json!({"group": "tideline.dev", "kind": "SimulatedNodeClass", "name": "default"});
    json!({"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "main"},
        "spec": {"disruption": disruption,
            "template": {"spec": {"requirements": [requirement], "nodeClassRef": class}}}})
}

fn is_ready(claim: &NodeClaim) -> bool {
    let conditions = claim.status.as_ref().map_or(&[][..], |status| &status.conditions);
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[tokio::test(start_paused = true)]
async fn pods_get_machines_that_go_when_they_are_empty() {
    let disruption = json!({"consolidationPolicy": "WhenEmpty", "consolidateAfter": "30s", "budgets": [{"nodes": "100%"}]});
    let mut world = World::new(pool(&disruption)).await;
    let client = world.sandbox.client("tideline");
    world.start(&client);
    world.deploy(20).await;
    world.until("every pod runs", 300, async |world| world.running().await == 20).await;
    let claims = world.claims().await;
    assert!(claims.iter().all(is_ready), "{claims:?}");
    assert_eq!(world.nodes().await.len(), claims.len());
    assert_eq!(world.made(), claims.len(), "one machine for each claim");
    world.scale(0).await;
    world.until("nothing is left", 300, async |world| world.is_empty().await).await;
}

#[tokio::test(start_paused = true)]
async fn under_used_machines_go_and_none_comes_for_it() {
    let disruption = json!({"consolidateAfter": "30s", "budgets": [{"nodes": "100%"}]});
    let mut world = World::new(pool(&disruption)).await;
    let client = world.sandbox.client("tideline");
    world.start(&client);
    world.deploy(40).await;
    world.until("every pod runs", 300, async |world| world.running().await == 40).await;
    let before = world.claims().await.len();
    world.scale(16).await;
    world
        .until("fewer machines hold the rest", 1800, async |world| {
            world.claims().await.len() < before && world.running().await == 16
        })
        .await;
    // Long enough that it has come to rest; from then on nothing is made or taken away.
    tokio::time::sleep(Duration::from_hours(1)).await;
    let (claims, made) = (world.claims().await.len(), world.made());
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!((world.claims().await.len(), world.made()), (claims, made), "on unchanged input");
    assert_eq!(world.running().await, 16);
}

/// Killed before or after each call, the process that follows finishes the work: nothing is launched twice, and when
/// the pods are gone nothing is left.
async fn killed_everywhere(side: KillSide) {
    let disruption = json!({"consolidationPolicy": "WhenEmpty", "consolidateAfter": "30s", "budgets": [{"nodes": "100%"}]});
    for call in (1..MOST_CALLS).step_by(CALLS_APART) {
        let mut world = World::new(pool(&disruption)).await;
        world.deploy(6).await;
        let faults = Faults::new(FaultPlan::default(), 1, world.clock).unwrap();
        faults.kill_at(KillPoint { call, side, only_writes: false });
        let client = faults.client(world.sandbox.api());
        world.start(&client);
        let killed = tokio::select! {
            biased;
            () = faults.killed() => true,
            () = world.until("every pod runs", 600, async |world| world.running().await == 6) => false,
        };
        world.kill().await;
        let client = world.sandbox.client("successor");
        world.start(&client);
        world.until("every pod runs", 900, async |world| world.running().await == 6).await;
        world
            .until("claims and machines agree", 300, async |world| {
                let claims = world.claims().await;
                let names: BTreeSet<String> = claims.iter().map(NodeClaim::name_any).collect();
                let machines: BTreeSet<String> =
                    world.machines().await.iter().map(SimulatedMachine::name_any).collect();
                names == machines && claims.iter().all(is_ready)
            })
            .await;
        let claims = world.claims().await.len();
        assert_eq!(world.made(), claims, "machines ever made, killed {side:?} call {call}");
        world.scale(0).await;
        world.until("nothing is left", 600, async |world| world.is_empty().await).await;
        world.kill().await;
        if !killed {
            assert!(call > 10, "a phase makes more calls than {call}");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_before_its_calls_it_launches_nothing_twice() {
    killed_everywhere(KillSide::Before).await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_its_calls_it_launches_nothing_twice() {
    killed_everywhere(KillSide::After).await;
}

#[tokio::test(start_paused = true)]
async fn drifted_machines_are_replaced_before_they_go() {
    let disruption = json!({"consolidateAfter": "Never", "budgets": [{"nodes": "1"}]});
    let mut world = World::new(pool(&disruption)).await;
    let client = world.sandbox.client("tideline");
    world.start(&client);
    world.deploy(8).await;
    world.until("every pod runs", 300, async |world| world.running().await == 8).await;
    let before: BTreeSet<String> = world.claims().await.iter().map(NodeClaim::name_any).collect();
    let classes: Api<SimulatedNodeClass> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({"spec": {"image": "simulated-2"}}));
    classes.patch("default", &PatchParams::default(), &patch).await.unwrap();
    let mut fewest = usize::MAX;
    world
        .until("every machine is another one", 1200, async |world| {
            let claims = world.claims().await;
            fewest = fewest.min(claims.iter().filter(|claim| is_ready(claim)).count());
            let now: BTreeSet<String> = claims.iter().map(NodeClaim::name_any).collect();
            now.is_disjoint(&before) && world.running().await == 8
        })
        .await;
    assert!(fewest >= before.len(), "{fewest} of {} were ready at a time", before.len());
}

#[tokio::test(start_paused = true)]
async fn an_old_provisioner_is_served_and_its_machines_mirror_claims() {
    let mut world = World::new(Value::Null).await;
    let requirement = json!({"key": "node.k8s.aws/capacity-type", "operator": "In", "values": ["spot"]});
    let cluster = json!({"name": "c", "endpoint": "https://0.gr7.cn-north-1.eks.example"});
    let old = json!({"apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner",
        "metadata": {"name": "default"},
        "spec": {"requirements": [requirement], "provider": {"cluster": cluster}, "ttlSecondsAfterEmpty": 30}});
    let provisioners: Api<v1alpha5::Provisioner> = Api::all(world.client.clone());
    provisioners.create(&PostParams::default(), &serde_json::from_value(old).unwrap()).await.unwrap();
    let client = world.sandbox.client("tideline");
    world.start(&client);
    world.deploy(3).await;
    world.until("every pod runs", 300, async |world| world.running().await == 3).await;
    let machines: Api<v1alpha5::Machine> = Api::all(world.client.clone());
    let found = machines.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(found.len(), world.claims().await.len());
    let labels = found[0].labels();
    assert_eq!(labels["topology.kubernetes.io/zone"], "cn-north-1a");
    assert_eq!(labels["karpenter.sh/provisioner-name"], "default");
    let name = found[0].name_any();
    machines.delete(&name, &DeleteParams::default()).await.unwrap();
    world
        .until("its claim goes with it", 300, async |world| {
            world.claims().await.iter().all(|claim| claim.name_any() != name)
        })
        .await;
    world.until("every pod runs again", 600, async |world| world.running().await == 3).await;
}

fn peer(replicas: u32) -> Value {
    let labels = json!({"app": "karpenter"});
    let container = json!({"name": "controller", "image": "public.ecr.aws/karpenter/controller:1.8.0"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "karpenter", "namespace": "kube-system"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container],
                "nodeSelector": {"made-by": "hand"}}}}})
}

async fn another(world: &World) -> Option<String> {
    let pools: Api<NodePool> = Api::all(world.client.clone());
    let pool = pools.get("main").await.unwrap();
    let conditions = pool.status.map(|status| status.conditions).unwrap_or_default();
    conditions.into_iter().find(|c| c.type_ == "AnotherController").map(|c| c.reason)
}

#[tokio::test(start_paused = true)]
async fn pools_are_left_to_a_karpenter_that_runs() {
    let disruption = json!({"consolidationPolicy": "WhenEmpty", "consolidateAfter": "30s", "budgets": [{"nodes": "100%"}]});
    let mut old = pool(&disruption);
    old["spec"]["template"]["spec"]["nodeClassRef"] =
        json!({"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"});
    let mut world = World::new(old).await;
    let class = json!({"apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass", "metadata": {"name": "default"},
        "spec": {"subnetSelectorTerms": [{"id": "subnet-1"}], "securityGroupSelectorTerms": [{"id": "sg-1"}],
            "amiSelectorTerms": [{"alias": "al2023@latest"}], "instanceProfile": "nodes"}});
    let classes: Api<Ec2NodeClass> = Api::all(world.client.clone());
    classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), "kube-system");
    let running = serde_json::from_value(peer(1)).unwrap();
    deployments.create(&PostParams::default(), &running).await.unwrap();
    let client = world.sandbox.client("tideline");
    world.start(&client);
    world.deploy(3).await;
    let says = async |world: &World| another(world).await.as_deref() == Some("KarpenterRuns");
    world.until("it says why", 60, says).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(world.is_empty().await, "something was bought beside another Karpenter");

    // It is stopped: its pools are ours.
    let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch("karpenter", &PatchParams::default(), &patch).await.unwrap();
    world.until("every pod runs", 300, async |world| world.running().await == 3).await;
    assert_eq!(another(&world).await, None);

    // It is started again: machines stay, and nothing is done with their claims, not even when pods go.
    let patch = Patch::Merge(json!({"spec": {"replicas": 1}}));
    deployments.patch("karpenter", &PatchParams::default(), &patch).await.unwrap();
    world.until("it says why again", 60, says).await;
    let (claims, made) = (world.claims().await.len(), world.made());
    world.scale(0).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!((world.claims().await.len(), world.made()), (claims, made));
    assert!(world.claims().await.iter().all(|claim| claim.metadata.deletion_timestamp.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_and_an_owners_word_hold_a_pool() {
    let disruption = json!({"consolidationPolicy": "WhenEmpty", "consolidateAfter": "30s"});
    let mut held = pool(&disruption);
    held["spec"]["template"]["spec"]["nodeClassRef"]["kind"] = json!("EC2NodeClass");
    held["metadata"]["annotations"] = json!({"tideline.dev/hold": "true"});
    let mut world = World::new(held).await;
    let client = world.sandbox.client("tideline");
    world.start(&client);
    world.deploy(3).await;
    world.until("it says why", 60, async |world| another(world).await.as_deref() == Some("OnHold")).await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(world.is_empty().await, "something was bought for a pool on hold");
    let pools: Api<NodePool> = Api::all(world.client.clone());
    let free = Patch::Merge(json!({"metadata": {"annotations": {"tideline.dev/hold": null}}}));
    pools.patch("main", &PatchParams::default(), &free).await.unwrap();
    // The class of AWS's group by our own group's name.
    let aws = json!({"apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass", "metadata": {"name": "default"},
        "spec": {"subnetSelectorTerms": [{"id": "subnet-1"}], "securityGroupSelectorTerms": [{"id": "sg-1"}],
            "amiSelectorTerms": [{"alias": "al2023@latest"}], "instanceProfile": "nodes"}});
    let classes: Api<Ec2NodeClass> = Api::all(world.client.clone());
    classes.create(&PostParams::default(), &serde_json::from_value(aws).unwrap()).await.unwrap();
    // Classes of our own group are not the other's, whoever holds its Lease.
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "kube-system");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "karpenter-leader-election", "namespace": "kube-system"},
        "spec": {"holderIdentity": "karpenter-0", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}});
    leases.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
    world.until("every pod runs", 300, async |world| world.running().await == 3).await;
}
