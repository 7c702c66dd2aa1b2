//! The API as `kubectl` sees it: the commands that people type, against a socket.
//!
//! Runs where `KUBECTL` names a kubectl or one is in `PATH`; says so and passes where there is none. No controllers
//! run here: what needs them is tested with the whole sandbox.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use clock::Clock;
use sandbox::api::{Api, serve};
use sandbox::store::resource::PODS;
use sandbox::store::{Part, Store, StoreOptions};
use serde_json::json;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

struct Kubectl {
    program: PathBuf,
    server: String,
    home: tempfile::TempDir,
}

impl Kubectl {
    /// Runs a command with `input` on standard input; gives all that it printed, and whether it succeeded.
    async fn run(&self, line: &str, input: &str) -> (bool, String) {
        let mut child = Command::new(&self.program)
            .args(["--server", &self.server, "--request-timeout=20s"])
            .args(line.split(' '))
            .env("HOME", self.home.path())
            .env("KUBECONFIG", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    async fn expect(&self, line: &str, words: &[&str]) {
        self.expect_with(line, "", words).await;
    }

    async fn expect_with(&self, line: &str, input: &str, words: &[&str]) {
        let (good, text) = self.run(line, input).await;
        assert!(good, "kubectl {line}: {text}");
        for word in words {
            assert!(text.contains(word), "kubectl {line} lacks \"{word}\":\n{text}");
        }
    }

    async fn refused(&self, line: &str, input: &str, words: &str) {
        let (good, text) = self.run(line, input).await;
        assert!(!good && text.contains(words), "kubectl {line}: {text}");
    }
}

/// The kubectl to use, if there is one.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("KUBECTL") {
        return Some(PathBuf::from(named));
    }
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join("kubectl")).find(|file| file.is_file())
}

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "nginx:1", resources: {requests: {cpu: 100m}}}]}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {zone: a}}
status: {capacity: {cpu: "4", pods: "110"}, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p1, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, image: "nginx:1"}]}
"#;

#[tokio::test]
async fn kubectl_works_as_usual() {
    let Some(program) = program() else {
        println!("left out: no kubectl in PATH; set KUBECTL to run this test");
        return;
    };
    let store = Store::new(Clock::system(), &StoreOptions::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(serve(Api::new(store.clone()), listener));
    let kubectl = Kubectl { program, server, home: tempfile::tempdir().unwrap() };
    kubectl.expect("version", &["Server Version: v1.33"]).await;
    kubectl.expect("api-resources", &["deployments", "poddisruptionbudgets"]).await;
    objects(&kubectl).await;
    nodes(&kubectl, &store).await;
    created_by_name(&kubectl).await;
    custom(&kubectl).await;
    serving.abort();
}

async fn objects(kubectl: &Kubectl) {
    kubectl.expect_with("apply -f -", MANIFEST, &["deployment.apps/web created", "node/n1 created"]).await;
    kubectl.expect_with("apply -f -", MANIFEST, &["deployment.apps/web unchanged", "pod/p1 unchanged"]).await;
    kubectl.expect_with("diff -f -", MANIFEST, &[]).await;
    kubectl
        .expect_with("apply --server-side --force-conflicts -f -", MANIFEST, &["serverside-applied"])
        .await;
    kubectl.expect("scale deployment web --replicas=5", &["scaled"]).await;
    kubectl.expect("get deployments -o wide", &["0/5", "nginx:1", "app=web", "UP-TO-DATE"]).await;
    kubectl.expect("describe deployment web", &["5 desired", "RollingUpdate", "cpu:         100m"]).await;
    kubectl.expect("set image deployment/web c=nginx:2", &["image updated"]).await;
    kubectl.expect("rollout restart deployment/web", &["restarted"]).await;
    kubectl.expect("patch deployment web -p {\"spec\":{\"replicas\":1}}", &["patched"]).await;
    kubectl.expect("get deployment web -o jsonpath={.spec.replicas}", &["1"]).await;
    kubectl.expect("get pods -L app --field-selector spec.nodeName=n1", &["p1", "web", "APP"]).await;
    kubectl.expect("get all", &["deployment.apps/web", "service/kubernetes"]).await;
    let typo = MANIFEST.replace("replicas: 2", "replicass: 2");
    kubectl.refused("apply -f -", &typo, "unknown field \"spec.replicass\"").await;
    let negative = MANIFEST.replace("cpu: 100m", "cpu: -1");
    kubectl.refused("apply -f -", &negative, "must be greater than or equal to 0").await;
    kubectl.refused("get pod nothing", "", "pods \"nothing\" not found").await;
}

async fn nodes(kubectl: &Kubectl, store: &Store) {
    kubectl.expect("get nodes -L zone -o wide", &["n1", "Ready", "ZONE", "INTERNAL-IP"]).await;
    kubectl.expect("taint node n1 k=v:NoSchedule", &["tainted"]).await;
    kubectl.expect("describe node n1", &["k=v:NoSchedule", "Allocatable"]).await;
    kubectl.refused("logs p1", "", "waiting to start").await;
    let running = json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z"});
    store
        .modify(PODS, "default", "p1", Part::Status, |pod| {
            pod["status"] = running;
            true
        })
        .unwrap();
    kubectl.expect("logs p1", &["c: started on n1"]).await;
    kubectl
        .expect("drain n1 --force --grace-period=0 --timeout=20s", &["pod/p1 evicted", "node/n1 drained"])
        .await;
    kubectl.expect("get nodes", &["Ready,SchedulingDisabled"]).await;
    kubectl.expect("uncordon n1", &["uncordoned"]).await;
    kubectl.expect("delete node n1", &["deleted"]).await;
}

async fn created_by_name(kubectl: &Kubectl) {
    kubectl.expect("create namespace team", &["namespace/team created"]).await;
    kubectl
        .expect("create deployment named --image=nginx:1 --replicas=3 --port=80 -n team", &["created"])
        .await;
    kubectl.expect("get deployment named -n team -o jsonpath={.spec.replicas}", &["3"]).await;
    kubectl.expect("expose deployment named -n team --port=80", &["exposed"]).await;
    kubectl.expect("autoscale deployment named -n team --max=5 --cpu-percent=50", &["autoscaled"]).await;
    kubectl.expect("get hpa -n team", &["cpu: <unknown>/50%"]).await;
    kubectl.expect("create configmap c -n team --from-literal=a=b", &["created"]).await;
    kubectl.expect("create job j -n team --image=busybox -- sleep 1", &["created"]).await;
    kubectl.expect("create pdb b -n team --selector=app=named --min-available=50%", &["created"]).await;
    kubectl.expect("get pdb -n team", &["50%", "N/A"]).await;
    kubectl.expect("auth can-i delete pods", &["yes"]).await;
    kubectl.expect("delete namespace team", &["deleted"]).await;
    kubectl.refused("get namespace team", "", "not found").await;
}

async fn custom(kubectl: &Kubectl) {
    let mut manifests = String::new();
    for definition in api::crds() {
        manifests.push_str(&serde_saphyr::to_string(&definition).unwrap());
        manifests.push_str("\n---\n");
    }
    kubectl.expect_with("apply -f -", &manifests, &["simulatedpools.tideline.dev created"]).await;
    let pool = "
apiVersion: tideline.dev/v1alpha1
kind: SimulatedPool
metadata: {name: small}
spec: {min: 0, max: 5, replicas: 0, template: {allocatable: {cpu: \"4\"}}}
";
    kubectl.expect_with("apply -f -", pool, &["simulatedpool.tideline.dev/small created"]).await;
    kubectl.expect("get simpool", &["NAME", "small"]).await;
    kubectl.expect("scale simpool small --replicas=2", &["scaled"]).await;
    kubectl.expect("get simpool small -o jsonpath={.spec.replicas}", &["2"]).await;
    kubectl.refused("apply -f -", &pool.replace("max: 5", "max: many"), "must be of type integer").await;
    kubectl
        .refused("apply -f -", &pool.replace("max: 5", "max: 5, odd: 1"), "unknown field \"spec.odd\"")
        .await;
    kubectl.expect("describe simpool small", &["SimulatedPool", "Replicas:  2"]).await;
    kubectl.expect("delete simpool small", &["deleted"]).await;
}
