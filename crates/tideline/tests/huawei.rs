//! Node pools of CCE from the binary: pods wait, nodes are bought, join by their address alone, and are given back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use clock::Clock;
use doubles::huawei::{CLUSTER, Huawei, Key, PROJECT, Pool};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use sandbox::{Options, Sandbox};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Far over what a loaded machine needs for any one step.
const DEADLINE: Duration = Duration::from_mins(4);
const SECRET: &str = "a-secret-that-nobody-may-see";
const POOL: &str = "np-1";

fn cloud() -> Huawei {
    let cloud = Huawei::new(Clock::system());
    let mut state = cloud.state();
    state.keys.push(Key { id: "AK".into(), secret: SECRET.into(), token: None, ends: None });
    state.world.making = jiff::SignedDuration::from_secs(1);
    state.world.removing = jiff::SignedDuration::from_secs(1);
    state.world.flavors.insert("c7.2xlarge.2".into(), (8, 16));
    let pool = Pool { name: "workers".into(), flavor: "c7.2xlarge.2".into(), ..Pool::default() };
    state.world.pools.insert(POOL.into(), pool);
    drop(state);
    cloud
}

/// What CCE does: a node that is made joins the cluster, one that is deleted leaves it.
async fn join(cloud: Huawei, client: Client) {
    let nodes: Api<Node> = Api::all(client);
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let there: Vec<(String, u32)> = {
            let state = cloud.state();
            let whole = |created| Clock::system().now().duration_since(created) >= state.world.making;
            let ready =
                state.world.nodes.iter().filter(|(_, node)| node.deleted.is_none() && whole(node.created));
            ready.map(|(id, node)| (id.clone(), node.number)).collect()
        };
        for (id, number) in &there {
            if joined.contains_key(id) {
                continue;
            }
            let address = format!("192.168.{}.{}", number / 250, number % 250 + 1);
            let amounts = json!({"cpu": "8", "memory": "13Gi", "pods": "60"});
            let node = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": address, "labels": {"kubernetes.io/hostname": address}},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": address}],
                    "capacity": amounts, "allocatable": amounts,
                },
            });
            nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
            joined.insert(id.clone(), address);
        }
        let gone: Vec<String> =
            joined.keys().filter(|id| !there.iter().any(|(known, _)| known == *id)).cloned().collect();
        for id in gone {
            if let Some(name) = joined.remove(&id) {
                let _ = nodes.delete(&name, &DeleteParams::default()).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn serve(router: axum::Router) -> String {
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", door.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(door, router).await });
    address
}

fn kubeconfig(folder: &std::path::Path, server: &str) -> std::path::PathBuf {
    let file = folder.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

fn controller(kubeconfig: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tideline"));
    command.arg("controller").arg("--kubeconfig").arg(kubeconfig);
    command.args(["--address=", "--cloud-provider=huaweicloud", "--huaweicloud-region=cn-north-4"]);
    command.env("HUAWEICLOUD_SDK_AK", "AK").env("HUAWEICLOUD_SDK_SK", SECRET);
    command.env("HUAWEICLOUD_SDK_PROJECT_ID", PROJECT);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_pool_grows_from_zero_and_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud();
    let endpoint = serve(cloud.router()).await;
    let sandbox = Sandbox::start(Options { cluster_api: false, ..Options::new(Clock::system(), 1) }).unwrap();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", door.local_addr().unwrap());
    tokio::spawn(sandbox::api::serve(sandbox.api().clone(), door));
    let client = sandbox.client("test");
    tokio::spawn(join(cloud.clone(), client.clone()));
    let log = folder.path().join("log");
    let mut running = controller(&kubeconfig(folder.path(), &server))
        .args(["--nodes=0:10:workers", "--scale-down-unneeded-time=3s"])
        .args([format!("--huaweicloud-cluster={CLUSTER}"), format!("--huaweicloud-endpoint=cce={endpoint}")])
        .args([format!("--huaweicloud-endpoint=ecs={endpoint}"), "--scale-down-delay-after-add=1s".into()])
        .stderr(Stdio::from(std::fs::File::create(&log).unwrap()))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let (labels, requests) = (json!({"app": "web"}), json!({"requests": {"cpu": "5"}}));
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "i", "resources": requests}]},
            },
        },
    });
    let deployment = serde_json::from_value(deployment).unwrap();
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    for wanted in [2, 4, 0] {
        let patch = json!({"spec": {"replicas": wanted}});
        deployments.patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            let list = ListParams::default();
            let pods = Api::<Pod>::namespaced(client.clone(), "default").list(&list).await.unwrap().items;
            let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
            let placed = pods.iter().filter(|pod| phase(pod).as_deref() == Some("Running")).count();
            let nodes = Api::<Node>::all(client.clone()).list(&list).await.unwrap().items.len();
            let desired = cloud.state().world.pools[POOL].desired as usize;
            if (placed, pods.len(), nodes, desired) == (wanted, wanted, wanted, wanted) {
                break;
            }
            let said = std::fs::read_to_string(&log).unwrap();
            let now = format!("{placed} of {} pods run on {nodes} nodes, {desired} asked for", pods.len());
            assert!(tokio::time::Instant::now() < end, "wanted {wanted}, {now}\n{said}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert_eq!(cloud.state().world.chosen_by_cce, 0, "nodes go by name only");
    assert_eq!(cloud.count("delete"), 4);
    assert!(!std::fs::read_to_string(&log).unwrap().contains(SECRET));
    running.kill().await.unwrap();
}

#[tokio::test]
async fn wrong_declarations_end_the_program_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig(folder.path(), "http://127.0.0.1:1");
    let cases: &[(&[&str], &str)] = &[
        (&["--nodes=5:1:blue", "--huaweicloud-cluster=c"], "write min:max:name"),
        (&["--nodes=1:5:blue"], "set --huaweicloud-cluster"),
        (&["--huaweicloud-cluster=c"], "add --nodes=min:max:name"),
        (&["--huaweicloud-cluster=c", "--node-group-auto-discovery=asg:tag=x"], "write cce:autoscaling"),
        (
            &["--huaweicloud-cluster=c", "--nodes=1:5:blue", "--huaweicloud-endpoint=x"],
            "write cce, ecs or metadata",
        ),
        (&["--alicloud-region=x", "--nodes=1:5:blue"], "add --cloud-provider=alicloud"),
    ];
    for (flags, part) in cases {
        let output = controller(&kubeconfig).args(*flags).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(part), "{flags:?}: {said}");
    }
}
