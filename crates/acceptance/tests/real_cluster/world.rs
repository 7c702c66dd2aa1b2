//! A real control plane with simulated machines, and Tideline on it.
//!
//! Owns starting and ending everything, and the questions that the tests ask of the cluster. Every wait is for a
//! condition and has a deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acceptance::{Cloud, Machines, source_root};
use clock::Clock;
use controller::{Config, Controller};
use futures::StreamExt as _;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use model::Policies;
use sandbox::cluster::capi;
use serde_json::json;
use testbed::{ControlPlane, Options, client_from, service_account_user};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::pools::Pool;

const NAMESPACE: &str = "kube-system";
const ACCOUNT: &str = "tideline";
const POLL: Duration = Duration::from_millis(200);
/// Long enough for a test to put pods on nodes that have just become empty.
const UNNEEDED_SECONDS: i64 = 12;
const END_SECONDS: u64 = 30;

/// How Tideline is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    InProcess,
    AsProgram,
}

/// Tideline, until it is asked to end.
enum Running {
    InProcess { end: oneshot::Sender<()>, task: JoinHandle<Result<(), controller::ControllerError>> },
    AsProgram { child: tokio::process::Child, log: PathBuf },
}

pub(crate) struct World {
    // Dropped before the control plane that they talk to.
    _machines: Machines,
    tideline: Option<Running>,
    client: Client,
    pool: Pool,
    cluster: ControlPlane,
}

impl World {
    /// Starts a control plane with an empty pool, and what plays its machines.
    pub(crate) async fn start(pool: Pool) -> Self {
        let cluster = ControlPlane::start(Options::default()).await.unwrap();
        let ours = api::crds().iter().map(|crd| json!(crd).to_string()).collect::<Vec<_>>();
        let definitions = match pool.cloud() {
            Cloud::ClusterApi => ours.into_iter().chain(capi::CRDS.map(str::to_owned)).collect(),
            _ => ours,
        };
        cluster.apply(&definitions.join("\n---\n")).await.unwrap();
        let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        cluster.kubectl_ok(&established).await.unwrap();
        let machines = Machines::start(&cluster, pool.cloud()).await.unwrap();
        cluster.apply(pool.manifest()).await.unwrap();
        Self { _machines: machines, tideline: None, client: cluster.client(), pool, cluster }
    }

    /// Starts Tideline with the rights that we ship.
    pub(crate) async fn run_tideline(&mut self, runs: Runs) {
        let roles = std::fs::read_to_string(source_root().join("deploy/rbac.yaml")).unwrap();
        self.cluster.apply(&roles).await.unwrap();
        let kubeconfig = self.cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.unwrap();
        self.tideline = Some(match runs {
            Runs::InProcess => in_process(&kubeconfig).await,
            Runs::AsProgram => as_program(&kubeconfig, self.cluster.dir()).await,
        });
    }

    /// Waits until a condition holds; an error that says what was seen if it does not in time.
    pub(crate) async fn until(&mut self, what: &str, seconds: u64, holds: impl AsyncFn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            if let Some(ended) = self.has_ended() {
                panic!("{what}: Tideline has ended: {ended}");
            }
            let late = begun.elapsed() > Duration::from_secs(seconds);
            assert!(!late, "{what}: not within {seconds} s\n{}", self.picture().await);
            tokio::time::sleep(POLL).await;
        }
        eprintln!("{what}: after {:.1} s", begun.elapsed().as_secs_f32());
    }

    fn has_ended(&mut self) -> Option<String> {
        match self.tideline.as_mut()? {
            Running::InProcess { task, .. } => task.is_finished().then(|| "see above".to_owned()),
            Running::AsProgram { child, log } => {
                let status = child.try_wait().ok().flatten()?;
                Some(format!("{status}\n{}", std::fs::read_to_string(log).unwrap_or_default()))
            }
        }
    }

    /// What the cluster looks like, for a failing test to print.
    async fn picture(&self) -> String {
        let mut picture = String::new();
        for arguments in [
            ["get", "nodes", "-o", "wide"].as_slice(),
            &["get", "pods", "-A", "-o", "wide"],
            &["get", self.pool.machines(), "-A"],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
            &["get", "configmaps", "-n", NAMESPACE, "cluster-autoscaler-status", "-o", "yaml"],
        ] {
            let said = self.cluster.kubectl_ok(arguments).await.unwrap_or_else(|error| error.to_string());
            let _ = writeln!(picture, "$ kubectl {}\n{said}", arguments.join(" "));
        }
        if let Some(Running::AsProgram { log, .. }) = &self.tideline {
            picture.push_str(&std::fs::read_to_string(log).unwrap_or_default());
        }
        picture
    }

    /// A Deployment whose pods carry the label `app` with its name.
    pub(crate) async fn deployment(&self, name: &str, replicas: usize, cpu: &str) {
        let labels = json!({"app": name});
        let container = json!({"name": "main", "image": "none", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}});
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        });
        self.cluster.apply(&deployment.to_string()).await.unwrap();
    }

    pub(crate) async fn apply(&self, manifest: &str) {
        self.cluster.apply(manifest).await.unwrap();
    }

    /// The status and reason of a condition of an object, `True CapacityIsFound`; empty while it has none.
    pub(crate) async fn condition(&self, object: &str, kind: &str) -> String {
        let of = format!("{{.status.conditions[?(@.type==\"{kind}\")]");
        let path = format!("-o=jsonpath={of}.status}} {of}.reason}}");
        let said = self.cluster.kubectl_ok(&["get", object, "-n", "default", &path]).await.unwrap();
        said.trim().to_owned()
    }

    pub(crate) async fn budget(&self, name: &str, at_least: usize) {
        let budget = json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"minAvailable": at_least, "selector": {"matchLabels": {"app": name}}},
        });
        self.cluster.apply(&budget.to_string()).await.unwrap();
    }

    pub(crate) async fn scale(&self, name: &str, replicas: usize) {
        let replicas = format!("--replicas={replicas}");
        self.cluster.kubectl_ok(&["scale", "deployment", name, &replicas]).await.unwrap();
    }

    pub(crate) async fn pods(&self, app: &str) -> Vec<Pod> {
        let labelled = ListParams::default().labels(&format!("app={app}"));
        Api::<Pod>::default_namespaced(self.client.clone()).list(&labelled).await.unwrap().items
    }

    pub(crate) async fn bound(&self, app: &str) -> usize {
        self.pods(app).await.iter().filter(|pod| node_of(pod).is_some()).count()
    }

    pub(crate) async fn ready(&self, app: &str) -> usize {
        self.pods(app).await.iter().filter(|pod| is_ready(pod)).count()
    }

    pub(crate) async fn nodes_of(&self, app: &str) -> BTreeSet<String> {
        self.pods(app).await.iter().filter_map(node_of).collect()
    }

    pub(crate) async fn nodes(&self) -> Vec<Node> {
        Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items
    }

    pub(crate) async fn machines(&self) -> usize {
        let arguments = ["get", self.pool.machines(), "-A", "-o", "name"];
        self.cluster.kubectl_ok(&arguments).await.unwrap().lines().count()
    }

    /// The different messages of all events with a reason.
    pub(crate) async fn messages(&self, reason: &str) -> Vec<String> {
        let of_reason = ListParams::default().fields(&format!("reason={reason}"));
        let events = Api::<Event>::all(self.client.clone()).list(&of_reason).await.unwrap();
        let messages: BTreeSet<String> = events.into_iter().filter_map(|event| event.message).collect();
        messages.into_iter().collect()
    }

    /// Evictions that Tideline asked for and was granted.
    pub(crate) async fn evictions(&self) -> usize {
        let audit = self.cluster.audit().await.unwrap();
        let user = service_account_user(NAMESPACE, ACCOUNT);
        audit.of(&user).filter(|entry| entry.subresource == "eviction" && entry.code == 201).count()
    }

    /// Watches how many replicas are ready, from now on.
    pub(crate) fn watch_readiness(&self, app: &str) -> Readiness {
        let fewest = Arc::new(AtomicUsize::new(usize::MAX));
        let labelled = watcher::Config::default().labels(&format!("app={app}"));
        let pods = watcher(Api::<Pod>::default_namespaced(self.client.clone()), labelled).default_backoff();
        let seen = fewest.clone();
        let task = tokio::spawn(async move {
            let mut pods = Box::pin(pods);
            let mut ready = BTreeMap::new();
            let mut listed = false;
            while let Some(event) = pods.next().await {
                match event {
                    Ok(watcher::Event::Init) => (ready, listed) = (BTreeMap::new(), false),
                    Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod)) => {
                        ready.insert(pod.name_any(), is_ready(&pod));
                    }
                    Ok(watcher::Event::InitDone) => listed = true,
                    Ok(watcher::Event::Delete(pod)) => drop(ready.remove(&pod.name_any())),
                    Err(_) => {}
                }
                if listed {
                    seen.fetch_min(ready.values().filter(|ready| **ready).count(), Ordering::Relaxed);
                }
            }
        });
        Readiness { fewest, task }
    }

    /// Ends Tideline and looks at what it was refused.
    pub(crate) async fn finish(mut self) {
        let limit = Duration::from_secs(END_SECONDS);
        match self.tideline.take().unwrap() {
            Running::InProcess { end, task } => {
                let _ = end.send(());
                tokio::time::timeout(limit, task).await.expect("ends in time").unwrap().unwrap();
            }
            Running::AsProgram { mut child, log } => {
                let id = child.id().unwrap().to_string();
                Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
                let status = tokio::time::timeout(limit, child.wait()).await.expect("ends in time").unwrap();
                assert!(status.success(), "{status}\n{}", std::fs::read_to_string(log).unwrap_or_default());
            }
        }
        let audit = self.cluster.audit().await.unwrap();
        audit.check_none_forbidden(&service_account_user(NAMESPACE, ACCOUNT)).unwrap();
    }
}

/// A watch on how many replicas are ready.
pub(crate) struct Readiness {
    fewest: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Readiness {
    /// The fewest that were ready at any time.
    pub(crate) async fn stop(self) -> usize {
        self.task.abort();
        let _ = self.task.await;
        self.fewest.load(Ordering::Relaxed)
    }
}

async fn in_process(kubeconfig: &Path) -> Running {
    let seconds = SignedDuration::from_secs;
    let policies = Policies {
        unneeded_time: seconds(UNNEEDED_SECONDS),
        delay_after_add: seconds(0),
        delay_after_delete: seconds(0),
        delay_after_taint: seconds(1),
        ..Policies::default()
    };
    let config = Config { policies, ..Config::default() };
    let client = client_from(kubeconfig).await.unwrap();
    let tideline = Controller::new(client, config, Clock::system()).unwrap();
    let (end, ended) = oneshot::channel();
    let task = tokio::spawn(tideline.run(async move {
        let _ = ended.await;
    }));
    Running::InProcess { end, task }
}

async fn as_program(kubeconfig: &Path, dir: &Path) -> Running {
    let program = tokio::task::spawn_blocking(acceptance::tideline).await.unwrap().unwrap();
    let log = dir.join("tideline.log");
    let out = std::fs::File::create(&log).unwrap();
    let child = Command::new(program)
        .arg("controller")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--namespace={NAMESPACE}"))
        .arg(format!("--scale-down-unneeded-time={UNNEEDED_SECONDS}s"))
        // No socket: the tests of the page are elsewhere, and two programs may run at once.
        .arg("--address=")
        .args(["--scale-down-delay-after-add=0s", "--scale-down-delay-after-delete=0s"])
        .arg("--node-delete-delay-after-taint=1s")
        .args(["--capacity-buffer-controller-enabled", "--capacity-buffer-pod-injection-enabled"])
        .arg("--enable-provisioning-requests")
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Running::AsProgram { child, log }
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}
