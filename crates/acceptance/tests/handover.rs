//! Two replicas on a real control plane: a leader that is stopped and wakes up later acts no more, and one that ends
//! hands over at once.
//!
//! The processes are the real program, each under a user of its own, so that the audit log tells whose writes are whose.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use acceptance::{Cloud, Machines};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use testbed::{ControlPlane, Options};
use tokio::process::{Child, Command};

const NAMESPACE: &str = "kube-system";
const LEASE: &str = "cluster-autoscaler";
const POOL: &str = "
apiVersion: tideline.dev/v1alpha1
kind: SimulatedPool
metadata: { name: general }
spec:
  min: 0
  max: 20
  replicas: 0
  template: { allocatable: { cpu: '4', memory: 16Gi } }
  boot: { minSeconds: 1, maxSeconds: 2 }
";

struct Replica {
    child: Child,
    log: PathBuf,
    user: &'static str,
}

impl Replica {
    async fn start(cluster: &ControlPlane, user: &'static str) -> Self {
        let program = tokio::task::spawn_blocking(acceptance::tideline).await.unwrap().unwrap();
        let kubeconfig = cluster.kubeconfig_for_user(user, &["system:masters"]).unwrap();
        let log = cluster.dir().join(format!("{user}.log"));
        let out = std::fs::File::create(&log).unwrap();
        let child = Command::new(program)
            .args(["controller", "--cloud-provider=simulated", "--address=", "--namespace", NAMESPACE])
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .env("HOSTNAME", user)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, log, user }
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

struct Site {
    _machines: Machines,
    cluster: ControlPlane,
}

impl Site {
    async fn start() -> Self {
        let cluster = ControlPlane::start(Options::default()).await.unwrap();
        let definitions: Vec<String> = api::crds().iter().map(|crd| json!(crd).to_string()).collect();
        cluster.apply(&definitions.join("\n---\n")).await.unwrap();
        let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        cluster.kubectl_ok(&established).await.unwrap();
        let machines = Machines::start(&cluster, Cloud::Simulated).await.unwrap();
        cluster.apply(POOL).await.unwrap();
        Self { _machines: machines, cluster }
    }

    async fn holder(&self) -> String {
        let leases: Api<Lease> = Api::namespaced(self.cluster.client(), NAMESPACE);
        let lease = leases.get_opt(LEASE).await.unwrap();
        let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
        holder.unwrap_or_default().split('_').next().unwrap_or_default().to_owned()
    }

    /// Pods of half a core: eight fit a node.
    async fn wants(&self, replicas: u32) {
        let labels = json!({"app": "web"});
        let container = json!({"name": "main", "image": "none", "resources": {"requests": {"cpu": "500m"}}});
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        });
        self.cluster.apply(&deployment.to_string()).await.unwrap();
    }

    async fn nodes(&self) -> usize {
        self.cluster.kubectl_ok(&["get", "nodes", "-o", "name"]).await.unwrap().lines().count()
    }

    async fn until(&self, what: &str, of: &[&Replica], holds: impl AsyncFn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !holds(self).await {
            if begun.elapsed() > Duration::from_mins(2) {
                let said: Vec<String> = of.iter().map(|replica| replica.said()).collect();
                panic!("{what}: not in time\n{}", said.join("\n---\n"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        eprintln!("{what}: after {:.1} s", begun.elapsed().as_secs_f32());
        begun.elapsed()
    }

    /// Changes that a replica asked for, refused ones included.
    async fn writes(&self, replica: &Replica) -> Vec<String> {
        let audit = self.cluster.audit().await.unwrap();
        let changes =
            audit.of(replica.user).filter(|entry| !["get", "list", "watch"].contains(&entry.verb.as_str()));
        changes.map(ToString::to_string).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_acts_no_more() {
    if !testbed::wanted("two replicas on a real control plane") {
        return;
    }
    let site = Site::start().await;
    let mut first = Replica::start(&site.cluster, "first").await;
    site.until("the first leads", &[&first], async |site| site.holder().await == "first").await;
    site.wants(8).await;
    site.until("the first buys", &[&first], async |site| site.nodes().await == 1).await;
    let second = Replica::start(&site.cluster, "second").await;

    first.signal("-STOP").await;
    site.wants(24).await;
    site.until("the second leads", &[&second], async |site| site.holder().await == "second").await;
    site.until("the second buys, and no more than is needed", &[&second], async |site| {
        site.nodes().await == 3
    })
    .await;
    let before = site.writes(&first).await;

    // It wakes up in the belief that it leads, with pods to serve that it has never seen.
    site.wants(40).await;
    first.signal("-CONT").await;
    let ended = tokio::time::timeout(Duration::from_mins(1), first.child.wait()).await;
    let status = ended.unwrap_or_else(|_| panic!("the old leader goes on\n{}", first.said())).unwrap();
    assert!(!status.success(), "the old leader ended as if all were well\n{}", first.said());
    site.until("the second goes on", &[&second], async |site| site.nodes().await == 5).await;
    let after = site.writes(&first).await;
    let acted: Vec<&String> =
        after[before.len()..].iter().filter(|write| !write.contains("/leases/")).collect();
    assert!(acted.is_empty(), "the old leader wrote {acted:#?}\n{}", first.said());

    // Asked to end, a leader gives the Lease back: the next one need not wait for it to run out.
    let mut second = second;
    let third = Replica::start(&site.cluster, "third").await;
    site.until("the third stands by", &[&third], async |_| third.said().contains("standing by")).await;
    second.signal("-TERM").await;
    assert!(second.child.wait().await.unwrap().success(), "{}", second.said());
    site.until("the third leads", &[&third], async |site| site.holder().await == "third").await;
    site.wants(48).await;
    site.until("the third buys", &[&third], async |site| site.nodes().await == 6).await;
}
