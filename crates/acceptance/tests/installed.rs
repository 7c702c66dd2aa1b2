//! The installation guide, followed on a real control plane: the chart is tried beside the autoscaler of today, takes
//! over, and is taken out again.
//!
//! Nothing runs in containers here: a process with the Deployment's arguments, its configuration and its service account
//! stands for the container. Needs `helm` (`HELM`, or in `PATH`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use acceptance::{Cloud, Machines, POOL, source_root};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use testbed::{ControlPlane, Options, service_account_user};
use tokio::process::{Child, Command};

const NAMESPACE: &str = "capacity";
const NAME: &str = "tideline";

/// The helm to use; without one the test says so and is left out, unless it is asked for.
fn helm() -> Option<PathBuf> {
    let named = std::env::var_os("HELM").map(PathBuf::from);
    let found = named.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|path| path.is_file())
    });
    if found.is_none() {
        assert!(std::env::var_os("TIDELINE_NEED_HELM").is_none(), "helm is asked for, but not there");
        let _ = writeln!(std::io::stderr(), "left out: the chart (put helm in PATH, or name it with HELM)");
    }
    found
}

struct Site {
    // Dropped before the control plane that it talks to.
    machines: Option<Machines>,
    running: Option<Child>,
    cluster: ControlPlane,
    helm: PathBuf,
    port: u16,
}

impl Site {
    async fn start(helm: PathBuf) -> Self {
        let cluster = ControlPlane::start(Options::default()).await.unwrap();
        cluster.kubectl_ok(&["create", "namespace", NAMESPACE]).await.unwrap();
        // A free port, given back at once; nobody else is asked for one meanwhile.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { machines: None, running: None, cluster, helm, port }
    }

    async fn helm(&self, arguments: &[&str]) -> String {
        self.helm_in(NAMESPACE, arguments).await
    }

    async fn helm_in(&self, namespace: &str, arguments: &[&str]) -> String {
        let output = Command::new(&self.helm)
            .args(arguments)
            .args(["--namespace", namespace, "--kubeconfig"])
            .arg(self.cluster.kubeconfig())
            .env("HOME", self.cluster.dir())
            .output()
            .await
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every object of the chart in a setting, as the API server would take it.
    async fn renders(&self, settings: &[&str]) {
        let chart = chart();
        let mut arguments = vec!["template", NAME, &chart, "--kube-version", "1.37.0"];
        arguments.extend(settings);
        let text = self.helm(&arguments).await;
        let file = self.cluster.dir().join("rendered.yaml");
        std::fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let taken = ["apply", "--dry-run=server", "--namespace", NAMESPACE, "-f", &file];
        let said =
            self.cluster.kubectl_ok(&taken).await.unwrap_or_else(|error| panic!("{settings:?}: {error}"));
        assert!(said.contains("deployment.apps/tideline created (server dry run)"), "{said}");
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.cluster.kubectl_ok(arguments).await.unwrap()).unwrap()
    }

    /// Runs what the Deployment says, with its service account.
    async fn run_as_deployed(&mut self) {
        self.stop().await;
        let deployment = self.json(&["-n", NAMESPACE, "get", "deployment", NAME, "-o", "json"]).await;
        let configuration = self.json(&["-n", NAMESPACE, "get", "configmap", NAME, "-o", "json"]).await;
        let file = self.cluster.dir().join("controller.yaml");
        std::fs::write(&file, configuration["data"]["controller.yaml"].as_str().unwrap()).unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let of_deployment = container["args"].as_array().unwrap().iter().map(|argument| {
            let argument = argument.as_str().unwrap();
            argument.replace("/etc/tideline/controller.yaml", &file.display().to_string())
        });
        let account = self.cluster.kubeconfig_for_service_account(NAMESPACE, NAME).await.unwrap();
        let log = std::fs::File::options().append(true).create(true).open(self.log()).unwrap();
        let child = Command::new(program())
            .args(of_deployment)
            .arg(format!("--kubeconfig={}", account.display()))
            .arg(format!("--address=127.0.0.1:{}", self.port))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.running = Some(child);
    }

    fn log(&self) -> PathBuf {
        self.cluster.dir().join("tideline.log")
    }

    async fn stop(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        let id = child.id().unwrap().to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}\n{}", std::fs::read_to_string(self.log()).unwrap_or_default());
    }

    /// A command of ours as the administrator types it.
    async fn tideline(&self, arguments: &[&str]) -> Output {
        Command::new(program())
            .args(arguments)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .output()
            .await
            .unwrap()
    }

    async fn status(&self) -> Value {
        let controller = format!("http://127.0.0.1:{}", self.port);
        let output = self.tideline(&["status", "-o", "json", "--controller", &controller]).await;
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    async fn until(&mut self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            if let Some(child) = &mut self.running
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!(
                    "{what}: it has ended: {status}\n{}",
                    std::fs::read_to_string(self.log()).unwrap_or_default()
                );
            }
            let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_mins(2), "{what}: not in time\n{}", log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        eprintln!("{what}: after {:.1} s", begun.elapsed().as_secs_f32());
    }

    async fn nodes(&self) -> usize {
        self.cluster.kubectl_ok(&["get", "nodes", "-o", "name"]).await.unwrap().lines().count()
    }
}

fn chart() -> String {
    source_root().join("deploy/chart").display().to_string()
}

fn program() -> &'static Path {
    static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(|| acceptance::tideline().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_is_tried_takes_over_and_is_taken_out() {
    if !testbed::wanted("the chart on a real control plane") {
        return;
    }
    let Some(helm) = helm() else { return };
    tokio::task::spawn_blocking(program).await.unwrap();
    let mut site = Site::start(helm).await;
    for settings in [
        &[][..],
        &["--set", "dryRun=true"],
        &["--set", "pools.simulated=true,networkPolicy.enabled=false,dashboard.enabled=true,replicas=1"],
        &[
            "--set-json",
            r#"networkPolicy.from=[{"podSelector":{}}]"#,
            "--set",
            "config.policies.maxNodesTotal=9",
        ],
    ] {
        site.renders(settings).await;
    }

    // Tried: it says what it would do, and does nothing.
    let chart = chart();
    let tried = "dryRun=true,pools.simulated=true,pools.clusterApi=false";
    site.helm(&["install", NAME, &chart, "--set", tried]).await;
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
    site.cluster.kubectl_ok(&established).await.unwrap();
    site.machines = Some(Machines::start(&site.cluster, Cloud::Simulated).await.unwrap());
    site.cluster.apply(POOL).await.unwrap();
    site.cluster.apply(&web(10).to_string()).await.unwrap();
    site.run_as_deployed().await;
    site.until("it says what it would do", async |site| {
        let state = site.status().await;
        let what = state["decisions"][0]["what"].as_str().unwrap_or_default().to_owned();
        state["dryRun"] == json!(true) && what.starts_with("dry run, would: grow pool general 0->")
    })
    .await;
    assert_eq!(site.nodes().await, 0, "a dry run bought machines");
    let doctor =
        site.tideline(&["doctor", "--dry-run", "--feature=simulated", "--namespace", NAMESPACE]).await;
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("has all") && doctor.status.success(), "{said}");

    // Takes over.
    let lead = "dryRun=false,pools.simulated=true,pools.clusterApi=false";
    site.helm(&["upgrade", NAME, &chart, "--set", lead]).await;
    site.run_as_deployed().await;
    site.until("nodes follow pods", async |site| site.nodes().await == 2).await;
    let explained = site
        .tideline(&["explain", "pool", "general", "--controller", &format!("http://127.0.0.1:{}", site.port)])
        .await;
    let said = String::from_utf8_lossy(&explained.stdout);
    assert!(said.contains("grow pool general 0->2"), "{said}");

    // Taken out: nothing of ours is left on the nodes or in the namespace.
    site.stop().await;
    let left = site.tideline(&["exit", "--namespace", NAMESPACE]).await;
    let said = String::from_utf8_lossy(&left.stdout);
    assert!(left.status.success(), "{said}{}", String::from_utf8_lossy(&left.stderr));
    site.helm(&["uninstall", NAME]).await;
    let maps = site.cluster.kubectl_ok(&["-n", NAMESPACE, "get", "configmaps", "-o", "name"]).await.unwrap();
    assert_eq!(maps.trim(), "configmap/kube-root-ca.crt");
    let nodes = site.json(&["get", "nodes", "-o", "json"]).await;
    for node in nodes["items"].as_array().unwrap() {
        // A node that has just started has Kubernetes' own.
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        let ours: Vec<&Value> = taints
            .filter(|taint| !taint["key"].as_str().unwrap_or_default().starts_with("node.kubernetes.io/"))
            .collect();
        assert!(ours.is_empty(), "{node}");
    }
    let audit = site.cluster.audit().await.unwrap();
    audit.check_none_forbidden(&service_account_user(NAMESPACE, NAME)).unwrap();
}

/// The objects under Kapacity's names that users and scripts know, and the upgrade that its document has them type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_takes_kapacitys_place() {
    const KAPACITY: &str = "kapacity-system";
    let Some(helm) = helm().filter(|_| testbed::wanted("the chart in Kapacity's place")) else { return };
    let (site, chart) = (Site::start(helm).await, chart());
    site.helm_in(KAPACITY, &["install", "kapacity-manager", &chart, "--create-namespace"]).await;
    let named = ["deployment/kapacity-manager", "configmap/kapacity-config", "service/kapacity-grpc-service"];
    for name in named {
        site.json(&["-n", KAPACITY, "get", name, "-o", "json"]).await;
    }
    let service = site.json(&["-n", KAPACITY, "get", "service", "kapacity-grpc-service", "-o", "json"]).await;
    let address = format!("{}:9090", service["spec"]["clusterIP"].as_str().unwrap());
    let set = format!("algorithmJob.defaultMetricsServerAddr={address}");
    site.helm_in(KAPACITY, &["upgrade", "kapacity-manager", &chart, "--reuse-values", "--set", &set]).await;
    let deployment =
        site.json(&["-n", KAPACITY, "get", "deployment", "kapacity-manager", "-o", "json"]).await;
    let flags = deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    assert!(flags.contains(&format!("--algorithm-job-default-metrics-server-addr={address}")), "{flags}");
    site.helm_in(KAPACITY, &["uninstall", "kapacity-manager"]).await;

    // What the transcript of the document applies, where there is no helm.
    let settings = ["--set", "workloads.readinessGates=template", "--set", "networkPolicy.enabled=false"];
    let mut rendering = vec!["template", "kapacity-manager", &chart, "--kube-version", "1.33.0"];
    rendering.extend(settings);
    let file = source_root().join("tests/seeds/004-ihpa/kapacity-manager.yaml");
    let rendered = site.helm_in(KAPACITY, &rendering).await;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &rendered).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(rendered == committed, "{} is stale: run this test with UPDATE_GOLDEN=1", file.display());
}

/// The release name and the values of Karpenter's document; and the pools of one that still runs are left to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_takes_karpenters_place() {
    const KARPENTER: &str = "karpenter";
    let Some(helm) = helm().filter(|_| testbed::wanted("the chart in Karpenter's place")) else { return };
    tokio::task::spawn_blocking(program).await.unwrap();
    let (mut site, chart) = (Site::start(helm).await, chart());
    let of_document = ["--set", "serviceAccount.create=false"];
    let file = source_root().join("tests/seeds/003-karpenter/karpenter.yaml");
    let mut rendering = vec!["template", KARPENTER, &chart, "--kube-version", "1.33.0"];
    rendering.extend(of_document);
    let rendered = site.helm_in(KARPENTER, &rendering).await;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &rendered).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(rendered == committed, "{} is stale: run this test with UPDATE_GOLDEN=1", file.display());
    // Values of its other versions are taken, too.
    let more =
        "controller.nodeSelector.a=b,webhook.env=x,settings.clusterName=c,controller.env[0].name=AWS_REGION";
    rendering.extend(["--set", more]);
    let other = site.helm_in(KARPENTER, &rendering).await;
    assert!(other.contains("CLUSTER_NAME") && other.contains("AWS_REGION"), "{other}");

    // Installed while another Karpenter runs elsewhere: its pools are left alone, and are ours when it is stopped.
    site.helm_in(KARPENTER, &["upgrade", "--install", KARPENTER, &chart, "--create-namespace"]).await;
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
    site.cluster.kubectl_ok(&established).await.unwrap();
    site.cluster
        .kubectl_ok(&["-n", KARPENTER, "scale", "deployment", KARPENTER, "--replicas=0"])
        .await
        .unwrap();
    let stopped = ["-n", KARPENTER, "wait", "--for=delete", "pod", "--all", "--timeout=60s"];
    site.cluster.kubectl_ok(&stopped).await.unwrap();
    site.machines = Some(Machines::start(&site.cluster, Cloud::Simulated).await.unwrap());
    site.cluster.apply(PEER).await.unwrap();
    site.cluster.apply(DIRECT_POOL).await.unwrap();
    site.cluster.apply(&web(10).to_string()).await.unwrap();
    let account = site.cluster.kubeconfig_for_service_account(KARPENTER, KARPENTER).await.unwrap();
    let log = std::fs::File::options().append(true).create(true).open(site.log()).unwrap();
    let flags = [
        "controller",
        "--cloud-provider=karpenter",
        "--simulate-clouds",
        "--workloads=false",
        "--address=",
        "--namespace",
        KARPENTER,
    ];
    let child = Command::new(program())
        .args(flags)
        .arg(format!("--kubeconfig={}", account.display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    site.running = Some(child);
    let condition = r#"jsonpath={.status.conditions[?(@.type=="AnotherController")].reason}"#;
    let asked = ["get", "nodepool", "default", "-o", condition];
    site.until("it says that another Karpenter runs", async |site| {
        site.cluster.kubectl_ok(&asked).await.unwrap() == "KarpenterRuns"
    })
    .await;
    let claims = ["get", "nodeclaims", "-o", "name"];
    assert_eq!(site.cluster.kubectl_ok(&claims).await.unwrap(), "", "bought beside another Karpenter");
    let doctor = site.tideline(&["doctor", "--namespace", KARPENTER]).await;
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("Karpenter runs as deployment other/karpenter"), "{said}");
    site.cluster
        .kubectl_ok(&["-n", "other", "scale", "deployment", "karpenter", "--replicas=0"])
        .await
        .unwrap();
    site.until("its pools are ours", async |site| {
        let ready = ["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"];
        site.cluster.kubectl_ok(&ready).await.unwrap() == "10"
    })
    .await;
    assert_eq!(site.cluster.kubectl_ok(&asked).await.unwrap(), "");
    site.stop().await;
    let audit = site.cluster.audit().await.unwrap();
    audit.check_none_forbidden(&service_account_user(KARPENTER, KARPENTER)).unwrap();
}

/// A Karpenter of somebody else's; nothing runs in its container here.
const PEER: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: other }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: karpenter, namespace: other }
spec:
  replicas: 1
  selector: { matchLabels: { app: karpenter } }
  template:
    metadata: { labels: { app: karpenter } }
    spec:
      nodeSelector: { made-by: hand }
      containers:
        - name: controller
          image: public.ecr.aws/karpenter/controller:1.8.0
";

const DIRECT_POOL: &str = "
apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata: { name: default }
spec:
  instanceProfile: nodes
  subnetSelectorTerms: [{ id: subnet-1 }]
  securityGroupSelectorTerms: [{ id: sg-1 }]
  amiSelectorTerms: [{ alias: al2023@latest }]
---
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: { name: default }
spec:
  template:
    spec:
      requirements: [{ key: kubernetes.io/arch, operator: In, values: [amd64] }]
      nodeClassRef: { group: karpenter.k8s.aws, kind: EC2NodeClass, name: default }
";

/// Pods of half a core.
fn web(replicas: u32) -> Value {
    let labels = json!({"app": "web"});
    let container = json!({"name": "main", "image": "none", "resources": {"requests": {"cpu": "500m"}}});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    })
}
