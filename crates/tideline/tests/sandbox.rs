//! The sandbox as a user meets it: the real binary, a Deployment scaled up and down, Ctrl-C, and its journal replayed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::node_rules::HorizontalNodeAutoscaler;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Far over what a loaded machine needs for any one step.
const DEADLINE: Duration = Duration::from_mins(3);

const QUICK: &[&str] = &["--scale-down-unneeded-time=3s", "--scale-down-delay-after-add=1s"];

struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tideline"))
            .args(["sandbox", "--dir"])
            .arg(folder.path())
            .args(QUICK)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.by_ref().any(|line| line.unwrap().contains("Ctrl-C ends it")),
            "the sandbox ended before it was up"
        );
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, folder }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A command of ours that asks this sandbox.
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tideline"))
            .args(arguments)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .output()
            .unwrap()
    }

    fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn explains(&self, kind: &str, name: &str, expected: &str) {
        let text = self.told(&["explain", kind, name]);
        assert!(text.contains(expected), "{text}");
    }

    /// Ctrl-C, then the end that it must come to.
    fn interrupt(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "the sandbox did not end after Ctrl-C");
            std::thread::yield_now();
        };
        assert!(status.success(), "the sandbox ended with {status}");
        assert!(!self.kubeconfig().exists(), "the kubeconfig is left behind");

        let replay = Command::new(env!("CARGO_BIN_EXE_tideline"))
            .arg("replay")
            .arg(self.folder.path().join("journal"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&replay.stdout).into_owned();
        assert!(replay.status.success(), "{text}{}", String::from_utf8_lossy(&replay.stderr));
        assert!(text.contains("decided the same"), "{text}");

        let explained = Command::new(env!("CARGO_BIN_EXE_tideline"))
            .args(["explain", "pool", "general", "--journal"])
            .arg(self.folder.path().join("journal"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&explained.stdout).into_owned();
        assert!(text.contains("decided:\n"), "{text}{}", String::from_utf8_lossy(&explained.stderr));

        let page = self.folder.path().join("report.html");
        let reported = Command::new(env!("CARGO_BIN_EXE_tideline"))
            .arg("report")
            .arg(self.folder.path().join("journal"))
            .arg("--output")
            .arg(&page)
            .output()
            .unwrap();
        assert!(reported.status.success(), "{}", String::from_utf8_lossy(&reported.stderr));
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains(r#"application/json">{"history":[{"#), "the page holds no recorded state");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer is yes; the failure says what was seen last.
async fn eventually<F: AsyncFnMut() -> Result<(), String>>(what: &str, mut ask: F) {
    let end = Instant::now() + DEADLINE;
    loop {
        let Err(seen) = ask().await else { return };
        assert!(Instant::now() < end, "{what}: {seen}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, wanted: &T) -> Result<(), String> {
    if seen == wanted { Ok(()) } else { Err(format!("{what}: {seen:?}, not {wanted:?}")) }
}

async fn nth_pod(pods: &Api<Pod>, n: usize) -> String {
    pods.list(&ListParams::default()).await.unwrap().items.remove(n).metadata.name.unwrap()
}

fn manifest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nginx.yaml")
}

#[tokio::test]
async fn nodes_follow_a_deployment_up_and_down() {
    let sandbox = Running::start();
    let kubeconfig = Kubeconfig::read_from(sandbox.kubeconfig()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = kube::Client::try_from(config).unwrap();

    let page = client.request_text(http::Request::get("/").body(Vec::new()).unwrap()).await.unwrap();
    assert!(page.contains("<title>Tideline</title>"));

    let nginx: Deployment = serde_saphyr::from_str(&std::fs::read_to_string(manifest()).unwrap()).unwrap();
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let (pods, nodes): (Api<Pod>, Api<Node>) =
        (Api::default_namespaced(client.clone()), Api::all(client.clone()));
    deployments.create(&PostParams::default(), &nginx).await.unwrap();
    let scale = async |replicas: u32| {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch_scale("nginx", &PatchParams::default(), &patch).await.unwrap();
    };

    scale(50).await;
    eventually("fifty pods run", async || {
        let list = pods.list(&ListParams::default()).await.unwrap();
        let running = list
            .iter()
            .filter(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running"));
        equal("running pods", &running.count(), &50)
    })
    .await;
    // Fifty pods of half a core need seven machines of four.
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 7);
    let state =
        client.request_text(http::Request::get("/api/v1/state").body(Vec::new()).unwrap()).await.unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert!(state["decisions"][0]["what"].as_str().unwrap().contains("general"), "{state}");

    sandbox.explains("pod", nth_pod(&pods, 0).await.as_str(), "is on node general-");
    sandbox.explains("workload", "nginx", "pods wanted: 50, on nodes: 50, waiting for one: 0");
    sandbox.explains("pool", "general", "grow pool general");
    let status = sandbox.told(&["status", "--nodes"]);
    assert!(status.contains("nodes ready: 7") && status.contains("general-2"), "{status}");
    let unknown = sandbox.run(&["explain", "node", "nosuch"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nothing is known of node nosuch"));

    scale(0).await;
    eventually("the machines go, down to the minimum of one", async || {
        equal("nodes", &nodes.list(&ListParams::default()).await.unwrap().items.len(), &1)
    })
    .await;
    sandbox.interrupt();
}

/// Rules on the pool of the sandbox: a floor that holds three nodes, a schedule that comes every minute, and an
/// object of the kind as other tools write it.
#[tokio::test]
async fn node_rules_size_a_pool() {
    let sandbox = Running::start();
    let kubeconfig = Kubeconfig::read_from(sandbox.kubeconfig()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = kube::Client::try_from(config).unwrap();
    let rules: Api<HorizontalNodeAutoscaler> = Api::namespaced(client.clone(), "kube-system");
    let nodes: Api<Node> = Api::all(client.clone());
    let object = json!({
        "apiVersion": "autoscaling.cce.io/v1alpha1",
        "kind": "HorizontalNodeAutoscaler",
        "metadata": {"name": "floor", "namespace": "kube-system"},
        "spec": {
            "targetNodepoolIds": ["general", "nowhere"],
            "rules": [{
                "ruleName": "always",
                "type": "floor",
                "floorTrigger": {"start": "* * * * *", "end": "* * * * *", "nodes": 9, "otherwise": 3},
            }],
        },
    });
    let object: HorizontalNodeAutoscaler = serde_json::from_value(object).unwrap();
    rules.create(&PostParams::default(), &object).await.unwrap();
    eventually("the floor is held", async || {
        equal("nodes", &nodes.list(&ListParams::default()).await.unwrap().items.len(), &3)?;
        let status = rules.get("floor").await.unwrap().status.unwrap_or_default();
        let reason = status.rules.first().and_then(|rule| Some(rule.pools.first()?.reason.clone()));
        equal("reason", &reason.as_deref(), &Some("FloorHeld"))?;
        let condition = |kind: &str| status.conditions.iter().find(|c| c.type_ == kind).map(|c| &*c.status);
        equal("targets found", &condition("TargetsFound"), &Some("False"))?;
        equal("ready", &condition("Ready"), &Some("True"))
    })
    .await;

    let merge = async |spec: serde_json::Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        rules.patch("floor", &PatchParams::default(), &patch).await
    };
    merge(json!({"disable": true})).await.unwrap();
    eventually("what the floor held leaves", async || {
        equal("nodes", &nodes.list(&ListParams::default()).await.unwrap().items.len(), &1)?;
        let status = rules.get("floor").await.unwrap().status.unwrap_or_default();
        equal("why", &status.summary.as_deref(), &Some("the object is switched off"))
    })
    .await;

    let cron = json!({"ruleName": "minutely", "type": "Cron", "cronTrigger": {"schedule": "* * * * *"},
        "action": {"type": "ScaleUp", "unit": "Percent", "value": 100}});
    let refused = merge(json!({"rules": vec![cron.clone(); 11]})).await.unwrap_err().to_string();
    assert!(refused.contains("at most 10"), "{refused}");
    merge(json!({"disable": false, "rules": [cron]})).await.unwrap();
    eventually("the schedule's time has come", async || {
        let status = rules.get("floor").await.unwrap().status.unwrap_or_default();
        let ran = status.rules.first().and_then(|rule| rule.last_nodes);
        equal("nodes of the last run", &ran, &Some(1))
    })
    .await;
    merge(json!({"disable": true})).await.unwrap();
    sandbox.interrupt();
}

/// The kubectl to use: `KUBECTL`, else the one in `PATH`.
fn kubectl_program() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECTL").map(PathBuf::from);
    let found = named.or_else(|| {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|dir| dir.join("kubectl"))
            .find(|path| path.is_file())
    });
    if found.is_none() {
        assert!(std::env::var_os("TIDELINE_NEED_KUBECTL").is_none(), "kubectl is asked for, but not there");
        // Written past the capture of the test harness, which hides what passing tests print.
        let _ = writeln!(
            std::io::stderr(),
            "left out: kubectl on the sandbox (put it in PATH, or name it with KUBECTL)"
        );
    }
    found
}

#[tokio::test]
async fn kubectl_works_on_it() {
    let Some(program) = kubectl_program() else { return };
    let sandbox = Running::start();
    let run = |arguments: &[&str]| -> Output {
        Command::new(&program)
            .arg("--kubeconfig")
            .arg(sandbox.kubeconfig())
            .args(arguments)
            .env("HOME", sandbox.folder.path())
            .output()
            .unwrap()
    };
    let ok = |arguments: &[&str]| -> String {
        let output = run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let manifest = manifest();
    assert_eq!(ok(&["apply", "-f", manifest.to_str().unwrap()]), "deployment.apps/nginx created\n");
    assert_eq!(ok(&["apply", "-f", manifest.to_str().unwrap()]), "deployment.apps/nginx unchanged\n");
    assert_eq!(ok(&["scale", "deployment", "nginx", "--replicas=12"]), "deployment.apps/nginx scaled\n");
    let rolled_out = ok(&["rollout", "status", "deployment", "nginx", "--timeout=180s"]);
    assert!(rolled_out.contains("successfully rolled out"), "{rolled_out}");

    let nodes = ok(&["get", "nodes", "-o", "wide"]);
    assert!(nodes.starts_with("NAME") && nodes.lines().count() == 3, "{nodes}");
    let pools = ok(&["get", "simpool"]);
    assert!(pools.contains("WANTED") && pools.contains("general"), "{pools}");
    let described = ok(&["describe", "deployment", "nginx"]);
    assert!(described.contains("12 desired"), "{described}");
    ok(&["drain", "general-2", "--ignore-daemonsets"]);
    ok(&["uncordon", "general-2"]);
    ok(&["patch", "deployment", "nginx", "-p", r#"{"metadata":{"labels":{"tried":"yes"}}}"#]);
    ok(&["delete", "deployment", "nginx"]);
    assert!(!run(&["get", "deployment", "nginx"]).status.success());
    sandbox.interrupt();
}
