//! A self-built cluster on Alibaba Cloud, from the binary: pods wait, machines are bought, join as nodes without any
//! providerID, and are given back; with the custom policy of the document alone, and with the system policy beside it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use clock::Clock;
use doubles::alibaba::{Alibaba, Configuration, Group, Key, Type};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use sandbox::{Options, Sandbox};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// Far over what a loaded machine needs for any one step.
const DEADLINE: Duration = Duration::from_mins(4);
const GROUP: &str = "asg-bp18p2yfxow2dloq";
const SECRET: &str = "a-secret-that-nobody-may-see";
const CUSTOM_POLICY: &[&str] = &[
    "ess:Describe*",
    "ess:CreateScalingRule",
    "ess:RemoveInstances",
    "ess:ExecuteScalingRule",
    "ess:ModifyScalingRule",
    "ess:DetachInstances",
    "ecs:DescribeInstanceTypes",
];

fn cloud(granted: &[&str]) -> Alibaba {
    let cloud = Alibaba::new(Clock::system());
    let mut state = cloud.state();
    state.granted = granted.iter().map(ToString::to_string).collect();
    state.keys.push(Key {
        id: "LTAI".into(),
        secret: SECRET.into(),
        token: None,
        expires: None,
        principal: "autoscaler".into(),
    });
    state.world.making = jiff::SignedDuration::from_secs(1);
    state.world.removing = jiff::SignedDuration::from_secs(1);
    let configuration = Configuration {
        id: "asc-1".into(),
        types: vec!["ecs.c7.2xlarge".into()],
        disk_gib: 100,
        ..Default::default()
    };
    let group = Group { name: "workers".into(), max: 10, configuration, ..Default::default() };
    state.world.groups.insert(GROUP.into(), group);
    let kind = Type { name: "ecs.c7.2xlarge".into(), cpu: 8, memory_gib: 16.0, ..Default::default() };
    state.world.types.push(kind);
    drop(state);
    cloud
}

/// What the image of the scaling configuration does: a machine in service joins the cluster as a node. Nothing takes
/// nodes away again: there is no cloud controller in such a cluster.
async fn join(cloud: Alibaba, client: Client) {
    let nodes: Api<Node> = Api::all(client);
    let mut joined = BTreeSet::new();
    loop {
        let fresh: Vec<(String, String)> = {
            let state = cloud.state();
            let instances = state.world.groups[GROUP].instances.iter();
            let ready = instances.filter(|(id, one)| one.state == "InService" && !joined.contains(*id));
            ready.map(|(id, one)| (id.clone(), one.address.clone())).collect()
        };
        for (id, address) in fresh {
            let name = format!("worker-{}", joined.len());
            let node = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": address}],
                    "capacity": {"cpu": "8", "memory": "15Gi", "pods": "110"},
                    "allocatable": {"cpu": "8", "memory": "15Gi", "pods": "110"},
                },
            });
            nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
            joined.insert(id);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct Cluster {
    client: Client,
    cloud: Alibaba,
    controller: Child,
    log: std::path::PathBuf,
    _folder: tempfile::TempDir,
    _sandbox: Sandbox,
}

async fn start(granted: &[&str]) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(granted);
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", door.local_addr().unwrap());
    let router = cloud.router();
    tokio::spawn(async move { axum::serve(door, router).await });
    let sandbox = Sandbox::start(Options { cluster_api: false, ..Options::new(Clock::system(), 1) }).unwrap();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", door.local_addr().unwrap());
    let api = sandbox.api().clone();
    tokio::spawn(sandbox::api::serve(api, door));
    let client = sandbox.client("test");
    tokio::spawn(join(cloud.clone(), client.clone()));
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let log = folder.path().join("log");
    let controller = Command::new(env!("CARGO_BIN_EXE_tideline"))
        .arg("controller")
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .args(["--address=", "--cloud-provider=alicloud", &format!("--nodes=0:10:{GROUP}")])
        .args([format!("--alicloud-endpoint=ess={endpoint}"), format!("--alicloud-endpoint=ecs={endpoint}")])
        .args(["--scale-down-unneeded-time=3s", "--scale-down-delay-after-add=1s", "--v=2"])
        .env("ACCESS_KEY_ID", "LTAI")
        .env("ACCESS_KEY_SECRET", SECRET)
        .env("REGION_ID", "cn-hangzhou")
        .stderr(Stdio::from(std::fs::File::create(&log).unwrap()))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Cluster { client, cloud, controller, log, _folder: folder, _sandbox: sandbox }
}

impl Cluster {
    async fn deploy(&self) {
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "5"}}});
        let labels = json!({"app": "web"});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": 0, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        });
        let deployment = serde_json::from_value(deployment).unwrap();
        self.deployments().create(&PostParams::default(), &deployment).await.unwrap();
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn scale(&self, replicas: u32) {
        let patch = json!({"spec": {"replicas": replicas}});
        self.deployments().patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits until so many pods run on so many nodes, one machine each.
    async fn settled(&self, pods: usize, nodes: usize) {
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            let list = ListParams::default();
            let found =
                Api::<Pod>::namespaced(self.client.clone(), "default").list(&list).await.unwrap().items;
            let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
            let running = found.iter().filter(|pod| phase(pod).as_deref() == Some("Running")).count();
            let known = Api::<Node>::all(self.client.clone()).list(&list).await.unwrap().items.len();
            let machines = self.cloud.state().world.groups[GROUP].instances.len();
            if (running, found.len(), known, machines) == (pods, pods, nodes, nodes) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{running} of {} pods run on {known} nodes of {machines} machines, wanted {pods} on {nodes}\n{}",
                found.len(),
                self.said()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn walk_through(mut self) -> Alibaba {
        self.deploy().await;
        self.scale(2).await;
        self.settled(2, 2).await;
        self.scale(4).await;
        self.settled(4, 4).await;
        self.scale(0).await;
        self.settled(0, 0).await;
        assert_eq!(self.cloud.state().world.chosen_by_ess, 0, "machines go by name only");
        assert!(!self.said().contains(SECRET));
        self.controller.kill().await.unwrap();
        self.cloud.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_custom_policy_of_the_document_is_enough() {
    let cluster = start(CUSTOM_POLICY).await;
    let cloud = cluster.walk_through().await;
    assert_eq!(cloud.count("ScaleWithAdjustment"), 0);
    assert_eq!(cloud.count("CreateScalingRule"), 1);
    assert!(cloud.count("ExecuteScalingRule") >= 2);
    assert!(cloud.count("RemoveInstances") >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_system_policy_sizes_are_set_directly() {
    let cluster = start(&[&["ess:*"], CUSTOM_POLICY].concat()).await;
    let cloud = cluster.walk_through().await;
    assert!(cloud.count("ScaleWithAdjustment") >= 2);
    assert_eq!(cloud.count("CreateScalingRule"), 0);
}

#[tokio::test]
async fn wrong_declarations_end_the_program_with_the_fix() {
    let cases: &[(&[&str], &str)] = &[
        (&["--cloud-provider=alicloud", "--nodes=5:1:asg-x"], "write min:max:asg-id"),
        (&["--cloud-provider=clusterapi", "--nodes=1:5:asg-x"], "add --cloud-provider=alicloud"),
        (&["--cloud-provider=alicloud"], "add --nodes=min:max:asg-id"),
        (&["--cloud-provider=alicloud", "--nodes=1:5:asg-x", "--alicloud-endpoint=x"], "write ess, ecs"),
        (&["--cloud-provider=alicloud", "--nodes=1:5:asg-x", "--nodes=1:5:asg-x"], "twice"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        "{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: \"http://127.0.0.1:1\"}}], \
         users: [{name: u, user: {}}], contexts: [{name: c, context: {cluster: c, user: u}}]}",
    )
    .unwrap();
    for (flags, part) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_tideline"))
            .arg("controller")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(*flags)
            .env("ACCESS_KEY_ID", "LTAI")
            .env("ACCESS_KEY_SECRET", SECRET)
            .env("REGION_ID", "cn-hangzhou")
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(part), "{flags:?}: {said}");
    }
}
