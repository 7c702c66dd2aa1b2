//! Machines and nodes: the simulated cloud, the Cluster API imitation, and their faults.

use super::*;
use crate::cluster::cloud::{MachineFault, MachineFaultRule};
use crate::store::ResourceName;
use crate::store::resource::{DEPLOYMENTS, SIMULATED_MACHINES, SIMULATED_POOLS};

fn pool(name: &str, replicas: u32) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "min": 0, "max": 10, "replicas": replicas,
            "template": {
                "labels": {"tier": "web"},
                "taints": [{"key": "dedicated", "value": "web", "effect": "NoSchedule"}],
                "allocatable": {"cpu": "4", "memory": "16Gi"},
            },
            "boot": {"minSeconds": 20, "maxSeconds": 40},
        },
    })
}

fn machines(store: &Store) -> Vec<(String, String)> {
    let phase = |m: &Arc<Object>| m.text("status.phase").unwrap_or("Creating").to_owned();
    store.list(SIMULATED_MACHINES).iter().map(|m| (m.name().to_owned(), phase(m))).collect()
}

fn ready_nodes(store: &Store) -> Vec<String> {
    use crate::cluster::controllers::objects::is_ready;
    let steady = |node: &&Arc<Object>| {
        let taints = node.at("spec.taints").map(ToString::to_string).unwrap_or_default();
        is_ready(node) && !taints.contains("not-ready")
    };
    store.list(NODES).iter().filter(steady).map(|node| node.name().to_owned()).collect()
}

fn with_fault(fault: MachineFault) -> Sandbox {
    sandbox_with(|options| {
        options.faults.push(MachineFaultRule { pool: None, from: None, until: None, per_mille: 1000, fault });
    })
}

#[tokio::test(start_paused = true)]
async fn a_pool_grows_and_machines_go_by_name() {
    let sandbox = sandbox();
    let store = sandbox.store();
    store.create(SIMULATED_POOLS, "", pool("web", 3)).unwrap();
    until(store, 60, "three nodes", |s| ready_nodes(s) == ["web-1", "web-2", "web-3"]).await;
    let node = store.get(NODES, "", "web-2").unwrap();
    assert_eq!(node.text("spec.providerID"), Some("simulated://web/web-2"));
    assert_eq!(node.label("tier"), Some("web"));
    assert_eq!(node.at("spec.taints").and_then(Value::as_array).map(Vec::len), Some(1));
    assert_eq!(node.at("status.allocatable.cpu"), Some(&json!("4")));
    store
        .modify(SIMULATED_POOLS, "", "web", crate::store::Part::Main, |value| {
            value["spec"]["replicas"] = json!(2);
            value["spec"]["terminate"] = json!(["web-2"]);
            true
        })
        .unwrap();
    until(store, 60, "web-2 deleting", |s| machines(s).contains(&("web-2".into(), "Deleting".into()))).await;
    until(store, 60, "web-2 gone", |s| ready_nodes(s) == ["web-1", "web-3"] && machines(s).len() == 2).await;
    // A bare lowering: the cloud takes the newest.
    store
        .modify(SIMULATED_POOLS, "", "web", crate::store::Part::Main, |value| {
            value["spec"]["replicas"] = json!(1);
            value["spec"]["terminate"] = json!([]);
            true
        })
        .unwrap();
    until(store, 60, "web-3 gone", |s| ready_nodes(s) == ["web-1"] && machines(s).len() == 1).await;
    until(store, 60, "counted", |s| {
        let pool = s.get(SIMULATED_POOLS, "", "web").unwrap();
        pool.at("status.replicas") == Some(&json!(1)) && pool.at("status.created") == Some(&json!(3))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_fails_says_why_and_one_that_never_joins_stays() {
    let sandbox = with_fault(MachineFault::Fails { code: "OutOfStock".into() });
    let store = sandbox.store();
    store.create(SIMULATED_POOLS, "", pool("web", 1)).unwrap();
    until(store, 60, "failed", |s| machines(s) == [("web-1".into(), "Failed".into())]).await;
    let machine = store.get(SIMULATED_MACHINES, "", "web-1").unwrap();
    assert_eq!(machine.text("status.code"), Some("OutOfStock"));
    drop(sandbox);

    let sandbox = with_fault(MachineFault::NeverJoins);
    let store = sandbox.store();
    store.create(SIMULATED_POOLS, "", pool("web", 1)).unwrap();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(machines(store), [("web-1".into(), "Creating".into())]);
    assert_eq!(store.count(NODES), 0);
}

#[tokio::test(start_paused = true)]
async fn nodes_never_get_ready_fall_silent_or_vanish() {
    let sandbox = with_fault(MachineFault::NeverReady);
    let store = sandbox.store();
    store.create(SIMULATED_POOLS, "", pool("web", 1)).unwrap();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!((store.count(NODES), ready_nodes(store).len()), (1, 0));
    drop(sandbox);

    let sandbox = with_fault(MachineFault::NotReadyAfter(Duration::from_secs(100)));
    let store = sandbox.store();
    store.create(SIMULATED_POOLS, "", pool("web", 1)).unwrap();
    until(store, 60, "ready at first", |s| ready_nodes(s).len() == 1).await;
    until(store, 200, "then lost", |s| {
        let node = s.get(NODES, "", "web-1").unwrap();
        node.at("spec.taints").is_some_and(|t| t.to_string().contains("unreachable"))
    })
    .await;
    drop(sandbox);

    let sandbox = with_fault(MachineFault::VanishesAfter(Duration::from_secs(100)));
    let store = sandbox.store();
    store.create(SIMULATED_POOLS, "", pool("web", 1)).unwrap();
    until(store, 60, "ready at first", |s| ready_nodes(s) == ["web-1"]).await;
    until(store, 200, "the machine is gone", |s| !machines(s).iter().any(|(name, _)| name == "web-1")).await;
    until(store, 200, "then its node", |s| s.find(NODES, "", "web-1").is_none()).await;
    until(store, 200, "replaced", |s| ready_nodes(s) == ["web-2"]).await;
}

#[tokio::test(start_paused = true)]
async fn cluster_api_makes_machines_and_removes_the_marked_one() {
    let sandbox = sandbox();
    let store = sandbox.store();
    let deployments = ResourceName::new("cluster.x-k8s.io", "machinedeployments");
    let machines = ResourceName::new("cluster.x-k8s.io", "machines");
    let deployment = json!({
        "metadata": {"name": "md", "namespace": "default", "annotations": {
            "capacity.cluster-autoscaler.kubernetes.io/cpu": "8",
            "capacity.cluster-autoscaler.kubernetes.io/memory": "32Gi",
            "capacity.cluster-autoscaler.kubernetes.io/taints": "dedicated=db:NoSchedule",
            "capacity.cluster-autoscaler.kubernetes.io/labels": "disk=ssd",
        }},
        "spec": {
            "clusterName": "c", "replicas": 3, "selector": {},
            "template": {"spec": {"clusterName": "c", "bootstrap": {}, "infrastructureRef": {}}},
        },
    });
    store.create(deployments, "default", deployment).unwrap();
    until(store, 90, "three nodes", |s| ready_nodes(s).len() == 3).await;
    let status = |s: &Store, field: &str| {
        s.get(deployments, "default", "md").unwrap().at(&format!("status.{field}")).and_then(Value::as_i64)
    };
    until(store, 60, "counted", |s| status(s, "readyReplicas") == Some(3)).await;
    let node = store.list(NODES).remove(1);
    assert_eq!(node.label("disk"), Some("ssd"));
    assert_eq!(node.at("status.allocatable.cpu"), Some(&json!("8")));
    let machine = store.get(machines, "default", node.name()).unwrap();
    assert_eq!(machine.text("status.nodeRef.name"), Some(node.name()));
    assert_eq!(machine.text("spec.providerID"), node.text("spec.providerID"));
    store
        .modify(machines, "default", node.name(), crate::store::Part::Main, |value| {
            value["metadata"]["annotations"]["cluster.x-k8s.io/delete-machine"] = json!("yes");
            true
        })
        .unwrap();
    set(store, deployments, "md", "/spec/replicas", json!(2));
    until(store, 60, "the marked one is gone", |s| {
        s.find(NODES, "", node.name()).is_none() && s.count(machines) == 2
    })
    .await;
    until(store, 60, "counted", |s| status(s, "replicas") == Some(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_is_killed_again_and_again_makes_no_machine_twice() {
    use crate::cluster::{Delays, cloud};
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Store::new(clock, &crate::store::StoreOptions::default());
    crate::sandbox::install_definitions(&store, false).unwrap();
    let api = crate::api::Api::new(store.clone());
    let options = || cloud::CloudOptions { clock, seed: 1, delays: Delays::default(), faults: Vec::new() };
    store.create(SIMULATED_POOLS, "", pool("web", 5)).unwrap();
    for lifetime in [0, 1, 3, 15, 20, 25, 30] {
        let running = tokio::spawn(cloud::run(api.client(), options()));
        tokio::time::sleep(Duration::from_secs(lifetime)).await;
        running.abort();
    }
    let running = tokio::spawn(cloud::run(api.client(), options()));
    until(&store, 60, "five nodes", |s| s.count(NODES) == 5 && machines(s).len() == 5).await;
    assert!(machines(&store).iter().all(|(_, phase)| phase == "Running"), "{:?}", machines(&store));
    running.abort();
}

/// A day with growth, a lost node and an eviction, as the log of its writes.
async fn a_day(seed: u64) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sandbox = sandbox_with(|options| {
        options.seed = seed;
        options.faults.push(MachineFaultRule {
            pool: None,
            from: None,
            until: None,
            per_mille: 300,
            fault: MachineFault::VanishesAfter(Duration::from_mins(10)),
        });
    });
    let store = sandbox.store();
    let sink = Sink::default();
    store.record_writes(Box::new(sink.clone()));
    let mut open = pool("web", 4);
    open["spec"]["template"]["taints"] = json!([]);
    store.create(SIMULATED_POOLS, "", open).unwrap();
    store.create(DEPLOYMENTS, "default", workload("web", 20, "500m")).unwrap();
    tokio::time::sleep(Duration::from_hours(1)).await;
    set(store, DEPLOYMENTS, "web", "/spec/replicas", json!(7));
    tokio::time::sleep(Duration::from_hours(20)).await;
    store.stop_recording().unwrap();
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_write_equal_logs() {
    let (one, two, other) = (a_day(7).await, a_day(7).await, a_day(8).await);
    assert!(one.lines().count() > 200, "{one}");
    assert_eq!(one, two);
    assert_ne!(one, other);
}
