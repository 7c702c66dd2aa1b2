//! An account with a network, an embedded cluster with a class and a pool, and everything that acts on them.

use api::karpenter::{Ec2NodeClass, NodeClaim, NodePool};
use aws_config::{BehaviorVersion, Region};
use clock::Clock;
use controller::{Config, Controller};
use doubles::aws::{Aws, Canned};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use machines::ec2::{Ec2, Pace, SdkConfig, Settings};
use model::Policies;
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinHandle;

pub(crate) const CLUSTER: &str = "prod";
pub(crate) const QUEUE: &str = "interruptions";
const REGION: &str = "cn-north-1";
const ZONES: [&str; 2] = ["cn-north-1a", "cn-north-1b"];
/// Images of moto's own, of x86-64.
pub(crate) const IMAGES: [&str; 2] = ["ami-0b301ce3ce347599c", "ami-076f415166b04f5fe"];
/// Types that are sold, with what one costs an hour in hundredths of a yuan.
const SOLD: [(&str, u32); 4] = [("t3a.large", 48), ("m5.large", 66), ("m5.xlarge", 133), ("m5.2xlarge", 266)];
/// Far over what a loaded machine needs for any one step.
const DEADLINE: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(200);

pub(crate) struct World {
    pub(crate) cloud: Arc<Aws>,
    pub(crate) client: Client,
    sandbox: Sandbox,
    config: SdkConfig,
    running: Vec<JoinHandle<()>>,
    kubelets: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kubelets.abort();
        self.running.iter().for_each(JoinHandle::abort);
    }
}

/// Every action of the policy that we publish.
fn policy() -> BTreeSet<String> {
    let text = include_str!("../../../../deploy/aws/iam-policy-machines.json");
    let policy: Value = serde_json::from_str(text).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

fn after<'a>(text: &'a str, tag: &str) -> Vec<&'a str> {
    let opening = format!("<{tag}>");
    text.split(opening.as_str()).skip(1).filter_map(|rest| rest.split('<').next()).collect()
}

impl World {
    /// `None` where moto cannot be had.
    pub(crate) async fn new() -> Option<Self> {
        let cloud = Arc::new(Aws::start(Path::new(env!("CARGO_TARGET_TMPDIR"))).await?);
        network(&cloud).await;
        answers(&cloud);
        cloud.door().granted = Some(policy());
        cloud.call_json("sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": QUEUE})).await;
        let sandbox = Sandbox::start(Options::new(Clock::system(), 7)).unwrap();
        let client = sandbox.client("test");
        let keys = aws_sdk_ec2::config::Credentials::new("AKIA", "secret", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(cloud.endpoint())
            .credentials_provider(aws_sdk_ec2::config::SharedCredentialsProvider::new(keys))
            .build();
        let kubelets = tokio::spawn(kubelets(cloud.clone(), client.clone()));
        let mut world = Self { cloud, client, sandbox, config, running: Vec::new(), kubelets };
        world.class(json!([{"id": IMAGES[0]}])).await;
        world.start();
        Some(world)
    }

    pub(crate) async fn class(&self, images: Value) {
        let class = json!({"apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
        "metadata": {"name": "default"}, "spec": {
            "amiFamily": "AL2023", "amiSelectorTerms": images, "role": "KarpenterNodeRole",
            "subnetSelectorTerms": [{"tags": {format!("kubernetes.io/cluster/{CLUSTER}"): "*"}}],
            "securityGroupSelectorTerms": [{"tags": {format!("kubernetes.io/cluster/{CLUSTER}"): "*"}}],
            "tags": {"team": "payments"},
            "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": "50Gi"}}],
            "metadataOptions": {"httpEndpoint": "enabled", "httpProtocolIPv6": "disabled",
                "httpPutResponseHopLimit": 1, "httpTokens": "required"},
        }});
        let api: Api<Ec2NodeClass> = Api::all(self.client.clone());
        let params = PatchParams::apply("test").force();
        api.patch("default", &params, &Patch::Apply(&class)).await.unwrap();
    }

    pub(crate) async fn pool(&self, kind: &str) {
        let pool = json!({"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "default"},
        "spec": {
            "template": {"metadata": {"labels": {"tier": "web"}}, "spec": {
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
                "requirements": [
                    {"key": "karpenter.sh/capacity-type", "operator": "In", "values": [kind]},
                    {"key": "karpenter.k8s.aws/instance-category", "operator": "In", "values": ["m", "t"]},
                ],
                "expireAfter": "Never",
            }},
            "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "0s",
                "budgets": [{"nodes": "100%"}]},
        }});
        let api: Api<NodePool> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(pool).unwrap()).await.unwrap();
    }

    /// Starts controller, keeper and cloud, as one process would.
    pub(crate) fn start(&mut self) {
        let client = self.sandbox.client("tideline");
        let config = Config { seed: 7, ..Config::for_simulation(Policies::default(), 7) };
        let mut settings = Settings::of(CLUSTER);
        settings.limits.per_second = 1000;
        settings.limits.timeout = Duration::from_mins(1);
        settings.limits.rest = Duration::from_millis(200);
        settings.endpoint = Some("https://api.prod".to_owned());
        settings.queue = Some(QUEUE.to_owned());
        settings.watches = config.watch_settings();
        settings.pace = Pace {
            classes: Duration::from_secs(1),
            machines_at_rest: Duration::from_millis(500),
            machines_moving: Duration::from_millis(300),
            ..Pace::default()
        };
        let clock = Clock::system();
        let controller = Controller::new(client.clone(), config.clone(), clock).unwrap();
        let handle = controller.handle();
        let alone = Arc::new(OnceLock::<Box<dyn Fn() -> bool + Send + Sync>>::new());
        let asked = alone.clone();
        let leads = Arc::new(move || handle.leads() && asked.get().is_some_and(|alone| alone()));
        let cloud = Ec2::start(settings, &self.config, client.clone(), clock, leads).unwrap();
        let settings = claims::Settings {
            watches: config.watch_settings(),
            simulate_clouds: false,
            heeds_others: true,
            repairs: true,
            clouds: vec![Arc::new(cloud)],
        };
        let (direct, keeper) = claims::start(&client, clock, &settings);
        let _ = alone.set(Box::new(keeper.alone()));
        let controller = controller.with_provider(direct);
        let handle = controller.handle();
        self.running.push(tokio::spawn(keeper.run(move || handle.leads())));
        self.running.push(tokio::spawn(async move {
            let _ended = controller.run(std::future::pending()).await;
        }));
    }

    /// Ends it wherever it is, and starts another that remembers nothing.
    pub(crate) async fn restart(&mut self) {
        for task in self.running.drain(..) {
            task.abort();
            let _ = task.await;
        }
        self.start();
    }

    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + DEADLINE;
        while !holds(self).await {
            assert!(tokio::time::Instant::now() < end, "{what} did not come: {}", self.picture().await);
            tokio::time::sleep(POLL).await;
        }
    }

    async fn picture(&self) -> String {
        let claims = self.claims().await;
        let claims: Vec<String> = claims
            .iter()
            .map(|claim| {
                format!("{} {:?} {:?}", claim.name_any(), claim.metadata.deletion_timestamp, claim.status)
            })
            .collect();
        let class = Api::<Ec2NodeClass>::all(self.client.clone()).get("default").await.unwrap();
        let pools = Api::<NodePool>::all(self.client.clone()).list(&ListParams::default()).await.unwrap();
        let pools: Vec<_> = pools.iter().map(|pool| pool.status.clone()).collect();
        let calls: BTreeSet<String> =
            self.cloud.door().calls.iter().map(|call| call.action.clone()).collect();
        format!("claims {claims:?}\nclass {:?}\npools {pools:?}\nasked {calls:?}", class.status)
    }

    pub(crate) async fn deploy(&self, replicas: u32) {
        let container = json!({"name": "main", "image": "none",
            "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}}});
        let api: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let params = PatchParams::apply("test").force();
        api.patch("web", &params, &Patch::Apply(&deployment)).await.unwrap();
    }

    pub(crate) async fn claims(&self) -> Vec<NodeClaim> {
        Api::<NodeClaim>::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items
    }

    pub(crate) async fn bound(&self) -> usize {
        let pods = Api::<Pod>::default_namespaced(self.client.clone());
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        let alive = all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        alive.filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).count()
    }

    pub(crate) async fn are_ready(&self) -> bool {
        let claims = self.claims().await;
        let ready = |claim: &NodeClaim| {
            let status = claim.status.clone().unwrap_or_default();
            status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        !claims.is_empty() && claims.iter().all(ready)
    }

    /// Instances that are not gone, as EC2's answer tells them.
    pub(crate) async fn instances(&self) -> Vec<String> {
        instances(&self.cloud).await.into_iter().map(|(id, ..)| id).collect()
    }

    pub(crate) async fn send(&self, body: &str) {
        let url = self.queue_url().await;
        let message = json!({"QueueUrl": url, "MessageBody": body});
        self.cloud.call_json("sqs", "AmazonSQS.SendMessage", &message).await;
    }

    async fn queue_url(&self) -> String {
        let found = self.cloud.call_json("sqs", "AmazonSQS.GetQueueUrl", &json!({"QueueName": QUEUE})).await;
        found["QueueUrl"].as_str().unwrap().to_owned()
    }

    /// Messages that were not deleted, hidden ones among them.
    pub(crate) async fn messages(&self) -> u64 {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let wanted = json!({"QueueUrl": self.queue_url().await, "AttributeNames": names});
        let found = self.cloud.call_json("sqs", "AmazonSQS.GetQueueAttributes", &wanted).await;
        names.iter().filter_map(|name| found["Attributes"][*name].as_str()?.parse::<u64>().ok()).sum()
    }
}

/// Id, type, zone and tags of what is there.
pub(crate) async fn instances(cloud: &Aws) -> Vec<(String, String, String, BTreeMap<String, String>)> {
    let alive = [
        ("Filter.1.Name", "instance-state-name"),
        ("Filter.1.Value.1", "running"),
        ("Filter.1.Value.2", "pending"),
    ];
    let text = cloud.call("ec2", "DescribeInstances", &alive).await;
    // A reservation holds one instance here; what it has lies on either side of its id.
    text.split("<instancesSet>")
        .skip(1)
        .filter_map(|part| part.split("</instancesSet>").next())
        .map(|part| {
            let one = |tag: &str| after(part, tag).first().map_or(String::new(), |text| (*text).to_owned());
            let pairs = after(part, "key").into_iter().zip(after(part, "value"));
            let tags = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            (one("instanceId"), one("instanceType"), one("availabilityZone"), tags)
        })
        .collect()
}

/// Tags the subnets and the security group of the default network as the cluster's.
async fn network(cloud: &Aws) {
    let subnets = cloud.call("ec2", "DescribeSubnets", &[]).await;
    let groups = cloud.call("ec2", "DescribeSecurityGroups", &[]).await;
    let key = format!("kubernetes.io/cluster/{CLUSTER}");
    let group = after(&groups, "groupId")[0].to_owned();
    let mut ids: Vec<String> = after(&subnets, "subnetId").into_iter().map(str::to_owned).collect();
    ids.push(group);
    for id in ids {
        let tag = [("ResourceId.1", id.as_str()), ("Tag.1.Key", &key), ("Tag.1.Value", "")];
        cloud.call("ec2", "CreateTags", &tag).await;
    }
    let policy = ("AssumeRolePolicyDocument", "{}");
    cloud.call("iam", "CreateRole", &[("RoleName", "KarpenterNodeRole"), policy]).await;
}

/// What moto does not know of this region: where types are sold, and prices. Shapes as AWS documents them.
fn answers(cloud: &Aws) {
    let pairs = || SOLD.iter().flat_map(|(kind, price)| ZONES.map(|zone| (*kind, zone, *price)));
    let offered: Vec<String> = pairs()
        .map(|(kind, zone, _)| {
            format!(
                "<item><instanceType>{kind}</instanceType><locationType>availability-zone</locationType>\
                 <location>{zone}</location></item>"
            )
        })
        .collect();
    let spot: Vec<String> = pairs()
        .map(|(kind, zone, price)| {
            format!(
                "<item><instanceType>{kind}</instanceType><productDescription>Linux/UNIX</productDescription>\
                 <spotPrice>{:.4}</spotPrice><timestamp>2026-01-01T00:00:00.000Z</timestamp>\
                 <availabilityZone>{zone}</availabilityZone></item>",
                f64::from(price) / 300.0
            )
        })
        .collect();
    let products: Vec<String> = SOLD
        .iter()
        .map(|(kind, price)| {
            let amount = format!("{:.10}", f64::from(*price) / 100.0);
            json!({
                "product": {"attributes": {"instanceType": kind}},
                "terms": {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": {"pricePerUnit": {"CNY": amount}}}}}},
            })
            .to_string()
        })
        .collect();
    let wrapped = |action: &str, set: &str, items: &[String]| {
        let items = items.concat();
        format!("<{action}Response><requestId>r</requestId><{set}>{items}</{set}></{action}Response>")
    };
    let mut door = cloud.door();
    let mut can = |action, answer| door.canned.push(Canned { action, about: String::new(), answer });
    can(
        "ec2:DescribeInstanceTypeOfferings",
        wrapped("DescribeInstanceTypeOfferings", "instanceTypeOfferingSet", &offered),
    );
    can("ec2:DescribeSpotPriceHistory", wrapped("DescribeSpotPriceHistory", "spotPriceHistorySet", &spot));
    can("pricing:GetProducts", json!({"FormatVersion": "aws_v1", "PriceList": products}).to_string());
}

/// Plays the machines' kubelets: each instance joins as a node with what its user data says.
async fn kubelets(cloud: Arc<Aws>, client: Client) {
    let nodes: Api<Node> = Api::all(client);
    let mut made: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let present = instances(&cloud).await;
        for (id, kind, zone, tags) in &present {
            if made.contains_key(id) || !tags.contains_key("karpenter.sh/nodeclaim") {
                continue;
            }
            let name = format!("ip-10-96-0-{}.cn-north-1.compute.internal", made.len() + 1);
            let room = json!({"cpu": "1930m", "memory": "7000Mi", "pods": "29"});
            let node = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {
                    "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                    "node.kubernetes.io/instance-type": kind, "topology.kubernetes.io/zone": zone,
                    "topology.kubernetes.io/region": REGION,
                }},
                "spec": {"providerID": format!("aws:///{zone}/{id}"),
                    "taints": [{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}]},
                "status": {"capacity": room, "allocatable": room},
            });
            nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
            made.insert(id.clone(), name);
        }
        tokio::time::sleep(POLL).await;
    }
}
