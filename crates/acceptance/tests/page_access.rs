//! Who may look, on a real control plane: tokens of the cluster reviewed by the real API server, roles over paths, and
//! `kubectl tideline` through the API server's proxy.
//!
//! The program is a process on this machine; a pod and a Service that name its address stand for its own. The API server
//! passes nothing on to loopback, so where this machine has no other address that part is left out, and says so.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use serde_json::{Value, json};
use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use testbed::{ControlPlane, Options};
use tokio::process::{Child, Command};

const NAMESPACE: &str = "kube-system";
const ROUTES: [&str; 5] =
    ["/", "/api/v1/state", "/api/v1/explain?of=node%20none", "/api/v1/workloads", "/metrics"];
const PATIENCE: Duration = Duration::from_secs(90);

struct Site {
    cluster: ControlPlane,
    port: u16,
    _program: Child,
}

impl Site {
    async fn start() -> Self {
        let cluster = ControlPlane::start(Options { scheduler: false, ..Options::default() }).await.unwrap();
        cluster.apply(&objects()).await.unwrap();
        let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let kubeconfig = cluster.kubeconfig_for_service_account(NAMESPACE, "tideline").await.unwrap();
        let log = std::fs::File::create(cluster.dir().join("tideline.log")).unwrap();
        let program = Command::new(acceptance::tideline().unwrap())
            .args(["controller", "--dry-run", "--cloud-provider=clusterapi", "--page-token-review"])
            .arg(format!("--address=0.0.0.0:{port}"))
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .stdout(log.try_clone().unwrap())
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let site = Self { cluster, port, _program: program };
        site.until("/healthz", None, 200).await;
        site
    }

    /// How the program answers, asked at its own address.
    async fn asked(&self, path: &str, token: Option<&str>) -> u16 {
        let uri: http::Uri = format!("http://127.0.0.1:{}", self.port).parse().unwrap();
        let client = kube::Client::try_from(kube::Config::new(uri)).unwrap();
        let mut request = http::Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        match client.request_text(request.body(Vec::new()).unwrap()).await {
            Ok(_) => 200,
            Err(kube::Error::Api(status)) => status.code,
            Err(_) => 0,
        }
    }

    async fn until(&self, path: &str, token: Option<&str>, wanted: u16) {
        let begun = Instant::now();
        loop {
            let code = self.asked(path, token).await;
            if code == wanted {
                return;
            }
            let log = std::fs::read_to_string(self.cluster.dir().join("tideline.log")).unwrap();
            assert!(begun.elapsed() < PATIENCE, "{path} answers {code}, not {wanted}\n{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn token(&self, account: &str) -> String {
        let token = self.cluster.kubectl_ok(&["-n", NAMESPACE, "create", "token", account]).await.unwrap();
        token.trim().to_owned()
    }

    /// `kubectl tideline …`, as somebody types it who has the program in PATH under the plugin's name.
    async fn plugin(&self, arguments: &[&str]) -> Output {
        let folder = self.cluster.dir().join("plugins");
        std::fs::create_dir_all(&folder).unwrap();
        let link = folder.join("kubectl-tideline");
        if !link.exists() {
            std::os::unix::fs::symlink(acceptance::tideline().unwrap(), &link).unwrap();
        }
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        Command::new(self.kubectl())
            .arg("tideline")
            .args(arguments)
            .env("PATH", path)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .output()
            .await
            .unwrap()
    }

    fn kubectl(&self) -> PathBuf {
        self.cluster.kubectl_path().to_owned()
    }
}

/// Accounts, with the role as the chart has it for those who may look.
fn objects() -> String {
    let chart = acceptance::source_root().join("deploy/chart/templates/page.yaml");
    let chart = std::fs::read_to_string(chart).unwrap();
    let line = chart.lines().find_map(|line| line.trim().strip_prefix("- nonResourceURLs: [")).unwrap();
    let paths: Vec<&str> = line.trim_end_matches(']').split(", ").collect();
    let group = "rbac.authorization.k8s.io";
    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}});
    let role = |name: &str, rule: Value| {
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": name},
               "rules": [rule]})
    };
    let binding = |role: &str, account: &str| {
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding",
               "metadata": {"name": format!("{account}-{}", role.replace(':', "-"))},
               "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
               "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]})
    };
    let reads = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]});
    let looks = json!({"nonResourceURLs": paths, "verbs": ["get"]});
    let all = [
        account("tideline"),
        account("viewer"),
        account("stranger"),
        role("reads", reads),
        role("tideline-viewer", looks),
        binding("reads", "tideline"),
        binding("system:auth-delegator", "tideline"),
        binding("tideline-viewer", "viewer"),
    ];
    all.map(|object| object.to_string()).join("\n---\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_says_who_may_look() {
    if !testbed::wanted("who may look at the page") {
        return;
    }
    let site = Site::start().await;
    let (viewer, stranger) = (site.token("viewer").await, site.token("stranger").await);
    site.until("/api/v1/state", Some(&viewer), 200).await;
    for path in ROUTES {
        assert_eq!(site.asked(path, None).await, 401, "{path}, nobody");
        assert_eq!(site.asked(path, Some("made.up.token")).await, 401, "{path}, a token that nobody made");
        assert_eq!(site.asked(path, Some(&stranger)).await, 403, "{path}, without the role");
        // Of a node that is not there nothing is known; that is told to those who may ask.
        let wanted = if path.contains("explain") { 404 } else { 200 };
        assert_eq!(site.asked(path, Some(&viewer)).await, wanted, "{path}, with the role");
    }
    for probe in ["/healthz", "/health-check"] {
        assert_eq!(site.asked(probe, None).await, 200, "{probe} is open");
    }
    through_the_api_server(&site, &viewer).await;
    // A role that is taken away counts as soon as the answer about it is no longer remembered.
    site.cluster.kubectl_ok(&["delete", "clusterrolebinding", "viewer-tideline-viewer"]).await.unwrap();
    site.until("/api/v1/state", Some(&viewer), 403).await;
    let log = std::fs::read_to_string(site.cluster.dir().join("tideline.log")).unwrap();
    assert!(!log.contains(&viewer) && !log.contains(&stranger), "a token stands in the log");
}

/// `kubectl tideline status`, whose questions the API server passes on.
async fn through_the_api_server(site: &Site, viewer: &str) {
    let Some(address) = own_address() else {
        let _ = writeln!(std::io::stderr(), "left out: kubectl tideline (this machine has loopback only)");
        return;
    };
    let labels = json!({"app": "tideline"});
    // Endpoints are made of pods on nodes that exist.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "here"}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tideline-0", "namespace": NAMESPACE, "labels": labels},
                     "spec": {"nodeName": "here", "containers": [{"name": "tideline", "image": "tideline"}]}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "tideline", "namespace": NAMESPACE},
                         "spec": {"selector": labels, "ports": [{"name": "http", "port": 8085, "targetPort": site.port}]}});
    site.cluster.apply(&format!("{node}\n---\n{pod}\n---\n{service}")).await.unwrap();
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                                   "conditions": [{"type": "Ready", "status": "True"}]}});
    let patch = ["-n", NAMESPACE, "patch", "pod", "tideline-0", "--subresource=status", "--type=merge", "-p"];
    let status = status.to_string();
    site.cluster.kubectl_ok(&[&patch[..], &[&status]].concat()).await.unwrap();

    let token = site.cluster.dir().join("viewer.token");
    std::fs::write(&token, viewer).unwrap();
    let token = token.display().to_string();
    let begun = Instant::now();
    let said = loop {
        let output = site.plugin(&["status", "--token-file", &token]).await;
        if output.status.success() {
            break String::from_utf8(output.stdout).unwrap();
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(begun.elapsed() < PATIENCE, "{why}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(said.contains("dry run"), "{said}");
    let output = site.plugin(&["status"]).await;
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && why.contains("--token-file"), "{why}");
    let wrong = site.cluster.dir().join("wrong.token");
    std::fs::write(&wrong, "made.up.token").unwrap();
    let output =
        site.plugin(&["explain", "node", "none", "--token-file", &wrong.display().to_string()]).await;
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && why.contains("--token-file"), "{why}");
}

/// An address of this machine that others could reach; nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
