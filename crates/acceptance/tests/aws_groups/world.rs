//! A real control plane whose nodes are instances of Auto Scaling groups, and Tideline on it under the document's name.
//!
//! Owns starting and ending everything, the part of AWS's cloud controller, and the questions that the test asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use acceptance::{Cloud, Machines, source_root};
use doubles::aws::Aws;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use testbed::{ControlPlane, Options, service_account_user};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) const GROUP: &str =
    "eks-cloudnative-generic202402021083043402700000021-r53da-d409-2c60-3a21-33321";
pub(crate) const DATABASES: &str = "eks-cloudnative-d3aas-d607-8e03-75c4-6e87e331d61e";
const SEED: &str = "tests/seeds/003-cluster-autoscaler-karpenter";
const NAMESPACE: &str = "kube-system";
const ACCOUNT: &str = "cluster-autoscaler";
const POLL: Duration = Duration::from_millis(300);
/// How often the cloud controller looks; AWS's takes a node away within half a minute.
const CLOUD_CONTROLLER: Duration = Duration::from_secs(2);
const END: Duration = Duration::from_secs(30);
/// An image of x86-64 that moto knows.
const IMAGE: &str = "ami-0b301ce3ce347599c";
/// What the groups' launch templates start, with the room on it.
const KINDS: [(&str, &str, &str, &str); 2] =
    [(GROUP, "m5.large", "2", "7600Mi"), (DATABASES, "m5.4xlarge", "16", "60Gi")];

pub(crate) struct World {
    // Dropped before the control plane that they talk to.
    tasks: JoinSet<()>,
    _machines: Machines,
    tideline: Option<Child>,
    address: String,
    client: Client,
    cloud: Arc<Aws>,
    cluster: ControlPlane,
}

/// Every action of the document's policy.
pub(crate) fn policy() -> BTreeSet<String> {
    let text = std::fs::read_to_string(source_root().join(SEED).join("iam-policy.json")).unwrap();
    let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

impl World {
    /// Starts control plane and cloud, with so many machines in the first group; `None` where moto cannot be had.
    pub(crate) async fn start(machines: usize) -> Option<Self> {
        let cloud = Arc::new(Aws::start(Path::new(env!("CARGO_TARGET_TMPDIR"))).await?);
        let tags = ["k8s.io/cluster-autoscaler/enabled", "k8s.io/cluster-autoscaler/cloudnative"];
        let template = "k8s.io/cluster-autoscaler/node-template";
        let (taint, label) = (format!("{template}/taint/dedicated"), format!("{template}/label/for"));
        let bounds = (machines.to_string(), machines.to_string());
        let both = tags.map(|key| (key, "owned"));
        let tainted = [(taint.as_str(), "databases:NoSchedule"), (label.as_str(), "databases")];
        group(&cloud, GROUP, [&bounds.0, "80", &bounds.1], &both).await;
        group(&cloud, DATABASES, ["0", "10", "0"], &[&both[..], &tainted].concat()).await;
        let cluster = ControlPlane::start(Options::default()).await.unwrap();
        let kubelets = Machines::start(&cluster, Cloud::None).await.unwrap();
        let client = cluster.client();
        let mut tasks = JoinSet::new();
        tasks.spawn(cloud_controller(cloud.clone(), client.clone()));
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        Some(Self { tasks, _machines: kubelets, tideline: None, address, client, cloud, cluster })
    }

    /// Applies a file of the document's.
    pub(crate) async fn apply(&self, file: &str) {
        let text = std::fs::read_to_string(source_root().join(SEED).join(file)).unwrap();
        self.cluster.apply(&text).await.unwrap();
    }

    /// Starts the program as the manifest does: by its command line, under its name, with its service account.
    pub(crate) async fn run_tideline(&mut self) {
        let program =
            tokio::task::spawn_blocking(|| acceptance::tideline_with("aws")).await.unwrap().unwrap();
        let dir = self.cluster.dir();
        let path = "jsonpath={.spec.template.spec.containers[0].command}";
        let command = ["get", "deployment", ACCOUNT, "-n", NAMESPACE, "-o", path];
        let command = self.cluster.kubectl_ok(&command).await.unwrap();
        let command: Vec<String> = serde_json::from_str(&command).unwrap();
        let named = dir.join(command[0].trim_start_matches("./"));
        std::os::unix::fs::symlink(program, &named).unwrap();
        let kubeconfig = self.cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.unwrap();
        let log = std::fs::File::create(self.log()).unwrap();
        let child = Command::new(named)
            .args(&command[1..])
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--address={}", self.address))
            .args(["--scale-down-unneeded-time=15s", "--scale-down-delay-after-add=5s"])
            .env("AWS_REGION", "cn-north-1")
            .env("AWS_ENDPOINT_URL", self.cloud.endpoint())
            .env("AWS_ACCESS_KEY_ID", "AKIA")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.tideline = Some(child);
    }

    fn log(&self) -> PathBuf {
        self.cluster.dir().join("cluster-autoscaler.log")
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The status with which the program answers; `None` while it does not.
    pub(crate) async fn answer(&self, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(&self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        text.split(' ').nth(1)?.parse().ok()
    }

    pub(crate) fn grant(&self, actions: BTreeSet<String>) {
        let mut door = self.cloud.door();
        door.granted = Some(actions);
        door.calls.clear();
    }

    pub(crate) fn count(&self, action: &str) -> usize {
        self.cloud.door().count(action)
    }

    pub(crate) async fn desired(&self, group: &str) -> u32 {
        self.cloud.desired(group).await
    }

    /// Waits until a condition holds; an error that says what was seen if it does not in time.
    pub(crate) async fn until(&mut self, what: &str, seconds: u64, holds: impl AsyncFn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            if let Some(status) = self.tideline.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("{what}: the program has ended: {status}\n{}", self.said());
            }
            let late = begun.elapsed() > Duration::from_secs(seconds);
            assert!(!late, "{what}: not within {seconds} s\n{}", self.picture().await);
            tokio::time::sleep(POLL).await;
        }
        eprintln!("{what}: after {:.1} s", begun.elapsed().as_secs_f32());
    }

    async fn picture(&self) -> String {
        let mut picture = String::new();
        for arguments in [
            ["get", "nodes"].as_slice(),
            &["get", "pods", "-A", "--field-selector=status.phase!=Running"],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        ] {
            picture.push_str(&self.cluster.kubectl_ok(arguments).await.unwrap_or_default());
        }
        picture + &self.said()
    }

    pub(crate) async fn ready_nodes(&self) -> usize {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await.unwrap();
        let ready = |node: &&Node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        nodes.iter().filter(ready).count()
    }

    pub(crate) async fn running(&self, selector: &str) -> usize {
        let labelled = ListParams::default().labels(selector);
        let pods = Api::<Pod>::namespaced(self.client.clone(), "default").list(&labelled).await.unwrap();
        let phase =
            |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        pods.iter().filter(phase).count()
    }

    pub(crate) async fn scale(&self, name: &str, replicas: usize) {
        let replicas = format!("--replicas={replicas}");
        self.cluster.kubectl_ok(&["scale", "deployment", name, &replicas]).await.unwrap();
    }

    /// A pod that wants the group of databases and does not tolerate its taint.
    pub(crate) async fn picky(&self) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "picky", "namespace": "default"},
            "spec": {
                "nodeSelector": {"for": "databases"},
                "containers": [{"name": "main", "image": "none", "resources": {"requests": {"cpu": "1"}}}],
            },
        });
        self.cluster.apply(&pod.to_string()).await.unwrap();
    }

    /// The different messages of all events with a reason.
    pub(crate) async fn messages(&self, reason: &str) -> Vec<String> {
        let of_reason = ListParams::default().fields(&format!("reason={reason}"));
        let events = Api::<Event>::all(self.client.clone()).list(&of_reason).await.unwrap();
        let messages: BTreeSet<String> = events.into_iter().filter_map(|event| event.message).collect();
        messages.into_iter().collect()
    }

    /// Ends the program, and looks at what it was refused by either side.
    pub(crate) async fn finish(mut self) {
        let mut child = self.tideline.take().unwrap();
        let id = child.id().unwrap().to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        let status = tokio::time::timeout(END, child.wait()).await.expect("ends in time").unwrap();
        assert!(status.success(), "{status}\n{}", self.said());
        self.tasks.abort_all();
        assert_eq!(self.cloud.door().refused(), BTreeSet::new());
        let audit = self.cluster.audit().await.unwrap();
        audit.check_none_forbidden(&service_account_user(NAMESPACE, ACCOUNT)).unwrap();
    }
}

/// A launch template and a group of it, with minimum, maximum and size.
async fn group(cloud: &Aws, name: &str, [min, max, desired]: [&str; 3], tags: &[(&str, &str)]) {
    let kind = KINDS.iter().find(|(group, ..)| *group == name).map_or("", |(_, kind, ..)| *kind);
    let template = [
        ("LaunchTemplateName", kind),
        ("LaunchTemplateData.InstanceType", kind),
        ("LaunchTemplateData.ImageId", IMAGE),
        ("LaunchTemplateData.BlockDeviceMapping.1.DeviceName", "/dev/xvda"),
        ("LaunchTemplateData.BlockDeviceMapping.1.Ebs.VolumeSize", "50"),
    ];
    cloud.call("ec2", "CreateLaunchTemplate", &template).await;
    let mut parameters = vec![
        ("AutoScalingGroupName", name),
        ("MinSize", min),
        ("MaxSize", max),
        ("DesiredCapacity", desired),
        ("AvailabilityZones.member.1", "cn-north-1a"),
        ("AvailabilityZones.member.2", "cn-north-1b"),
        ("LaunchTemplate.LaunchTemplateName", kind),
        ("LaunchTemplate.Version", "$Latest"),
    ];
    let keys: Vec<[String; 2]> = (1..=tags.len())
        .map(|at| [format!("Tags.member.{at}.Key"), format!("Tags.member.{at}.Value")])
        .collect();
    for (names, (key, value)) in keys.iter().zip(tags) {
        parameters.extend([(names[0].as_str(), *key), (names[1].as_str(), *value)]);
    }
    cloud.call("autoscaling", "CreateAutoScalingGroup", &parameters).await;
}

/// Makes the node of each instance, and takes away the node of each that is gone.
async fn cloud_controller(cloud: Arc<Aws>, client: Client) {
    let nodes: Api<Node> = Api::all(client);
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut made = 0;
    loop {
        let mut present = BTreeSet::new();
        for (group, kind, cpu, memory) in KINDS {
            for (instance, zone) in cloud.instances(group).await {
                present.insert(instance.clone());
                if known.contains_key(&instance) {
                    continue;
                }
                made += 1;
                let name = format!("ip-10-96-{}-{}.cn-north-1.compute.internal", made / 250, made % 250 + 1);
                let room = json!({"cpu": cpu, "memory": memory, "pods": "110"});
                let node = json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": {"name": name, "labels": {
                        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                        "node.kubernetes.io/instance-type": kind, "topology.kubernetes.io/region": "cn-north-1",
                        "topology.kubernetes.io/zone": zone,
                    }},
                    "spec": {"providerID": format!("aws:///{zone}/{instance}")},
                    "status": {"capacity": room, "allocatable": room},
                });
                nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
                known.insert(instance, name);
            }
        }
        let gone: Vec<String> = known.keys().filter(|id| !present.contains(*id)).cloned().collect();
        for name in gone.iter().filter_map(|id| known.remove(id)) {
            if nodes.get_opt(&name).await.unwrap().is_some_and(|node| node.name_any() == name) {
                nodes.delete(&name, &DeleteParams::default()).await.unwrap();
            }
        }
        tokio::time::sleep(CLOUD_CONTROLLER).await;
    }
}
