//! etcd restored from an old backup under a running controller, on a real control plane: resource versions go back, and
//! so does the ledger. Without help it finds out, reads everything anew and goes on.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use acceptance::{Cloud, Machines};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use testbed::{ControlPlane, Options};
use tokio::process::{Child, Command};

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

/// The program, started again whenever it ends, as a Deployment does.
struct Supervised {
    child: Child,
    starts: usize,
    kubeconfig: PathBuf,
    log: PathBuf,
}

impl Supervised {
    async fn start(cluster: &ControlPlane) -> Self {
        let kubeconfig = cluster.kubeconfig_for_user("tideline", &["system:masters"]).unwrap();
        let log = cluster.dir().join("tideline.log");
        let child = Self::spawn(&kubeconfig, &log).await;
        Self { child, starts: 1, kubeconfig, log }
    }

    async fn spawn(kubeconfig: &Path, log: &Path) -> Child {
        let program = tokio::task::spawn_blocking(acceptance::tideline).await.unwrap().unwrap();
        let out = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        Command::new(program)
            .args(["controller", "--cloud-provider=simulated", "--address=", "--namespace=kube-system"])
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn keep(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            self.starts += 1;
            assert!(self.starts < 10, "it ends again and again\n{}", self.said());
            self.child = Self::spawn(&self.kubeconfig, &self.log).await;
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Pods of half a core: eight fit a node.
async fn wants(cluster: &ControlPlane, replicas: u32) {
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
    cluster.apply(&deployment.to_string()).await.unwrap();
}

/// Waits until so many nodes are there.
async fn nodes(cluster: &ControlPlane, program: &mut Supervised, count: usize, what: &str) -> Duration {
    let begun = Instant::now();
    loop {
        program.keep().await;
        let found = cluster.kubectl_ok(&["get", "nodes", "-o", "name"]).await.unwrap().lines().count();
        if found == count {
            eprintln!("{what}: after {:.1} s", begun.elapsed().as_secs_f32());
            return begun.elapsed();
        }
        let late = begun.elapsed() > Duration::from_mins(4);
        assert!(!late, "{what}: {found} nodes, not {count}\n{}", program.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn version(cluster: &ControlPlane) -> u64 {
    let list = cluster.kubectl_ok(&["get", "--raw", "/api/v1/namespaces?limit=1"]).await.unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_backup_is_found_out_and_worked_on() {
    if !testbed::wanted("etcd restored from a backup") {
        return;
    }
    let mut cluster = ControlPlane::start(Options::default()).await.unwrap();
    let definitions: Vec<String> = api::crds().iter().map(|crd| json!(crd).to_string()).collect();
    cluster.apply(&definitions.join("\n---\n")).await.unwrap();
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
    cluster.kubectl_ok(&established).await.unwrap();
    let machines = Machines::start(&cluster, Cloud::Simulated).await.unwrap();
    cluster.apply(POOL).await.unwrap();
    let mut program = Supervised::start(&cluster).await;
    wants(&cluster, 8).await;
    nodes(&cluster, &mut program, 1, "before the backup").await;

    cluster.back_up().await.unwrap();
    let kept = version(&cluster).await;
    wants(&cluster, 24).await;
    nodes(&cluster, &mut program, 3, "after the backup").await;
    let lost = version(&cluster).await;

    cluster.restore().await.unwrap();
    assert!(version(&cluster).await < lost && kept < lost, "nothing went back: {kept}, {lost}");
    // The stand-in for machines and kubelets is not what is tested.
    drop(machines);
    let _machines = Machines::start(&cluster, Cloud::Simulated).await.unwrap();
    wants(&cluster, 32).await;
    let took = nodes(&cluster, &mut program, 4, "after the restore").await;
    eprintln!("worked on {:.0} s after the restore, {} start(s)", took.as_secs_f32(), program.starts);
    wants(&cluster, 40).await;
    nodes(&cluster, &mut program, 5, "as before").await;
}
