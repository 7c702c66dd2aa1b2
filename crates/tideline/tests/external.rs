//! Programs outside that are asked by gRPC: one whose machines are ours to order, and one that chooses which pools grow.
//!
//! Nodes of an external program, end to end by two binaries: `tideline provider serve` offers the sandbox's simulated
//! pools by gRPC with mutual TLS, `tideline controller --cloud-provider=externalgrpc` grows and drains them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "external/chooser.rs"]
mod chooser;

use api::simulated::SimulatedPool;
use chooser::Chooser;
use clock::Clock;
use doubles::python::environment;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sandbox::{Options, Sandbox};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// Far over what a loaded machine needs for any one step.
const DEADLINE: Duration = Duration::from_mins(4);

struct Cluster {
    client: Client,
    folder: tempfile::TempDir,
    kubeconfig: PathBuf,
    _sandbox: Sandbox,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { cluster_api: false, ..Options::new(Clock::system(), 1) };
        let sandbox = Sandbox::start(options).unwrap();
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", door.local_addr().unwrap());
        tokio::spawn(sandbox::api::serve(sandbox.api().clone(), door));
        let kubeconfig = folder.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let client = sandbox.client("test");
        let cluster = Self { client, folder, kubeconfig, _sandbox: sandbox };
        cluster.pool("general", 1, "0.192").await;
        cluster
    }

    async fn pool(&self, name: &str, min: u32, price: &str) {
        let pool = json!({
            "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": name},
            "spec": {
                "min": min, "max": 6, "replicas": min, "pricePerHourUsd": price,
                "boot": {"minSeconds": 0, "maxSeconds": 1},
                "template": {"allocatable": {"cpu": "4", "memory": "16Gi"}},
            },
        });
        let pools: Api<SimulatedPool> = Api::all(self.client.clone());
        pools.create(&PostParams::default(), &serde_json::from_value(pool).unwrap()).await.unwrap();
    }

    async fn replicas(&self, pool: &str) -> i32 {
        Api::<SimulatedPool>::all(self.client.clone()).get(pool).await.unwrap().spec.replicas
    }

    /// A Deployment whose pods ask for so much.
    async fn deploy(&self, replicas: u32, cpu: &str) {
        let labels = json!({"app": "web"});
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        });
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        deployments
            .create(&PostParams::default(), &serde_json::from_value(deployment).unwrap())
            .await
            .unwrap();
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the program with its log in a file.
    fn run(&self, name: &str, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_tideline"))
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .stderr(Stdio::from(std::fs::File::create(self.folder.path().join(name)).unwrap()))
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    async fn until<T>(&self, what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            if let Some(found) = found().await {
                return found;
            }
            let logs = ["provider", "controller"].map(|name| self.said(name)).join("\n");
            assert!(tokio::time::Instant::now() < end, "not in time: {what}\n{logs}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The provider, and its address, once it serves.
    async fn provider(&self, flags: &[&str]) -> (Child, String) {
        let arguments = [&["provider", "serve", "--address=127.0.0.1:0"], flags].concat();
        let child = self.run("provider", &arguments);
        let address = self
            .until("the provider serves", async || {
                let said = self.said("provider");
                let line = said.lines().find(|line| line.contains("serving simulated pools"))?.to_owned();
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                Some(line["fields"]["address"].as_str()?.to_owned())
            })
            .await;
        (child, address)
    }

    async fn scale(&self, replicas: u32) {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        let patch = json!({"spec": {"replicas": replicas}});
        deployments.patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits until so many pods run on so many nodes.
    async fn settled(&self, pods: usize, nodes: usize) {
        let what = format!("{pods} pods run on {nodes} nodes");
        self.until(&what, async || {
            let list = ListParams::default();
            let found = Api::<Pod>::namespaced(self.client.clone(), "default").list(&list).await.unwrap();
            let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
            let running = found.iter().filter(|pod| phase(pod).as_deref() == Some("Running")).count();
            let known = Api::<Node>::all(self.client.clone()).list(&list).await.unwrap().items.len();
            ((running, found.items.len(), known) == (pods, pods, nodes)).then_some(())
        })
        .await;
    }
}

/// An authority, and a certificate of it for `name`, as files in PEM.
fn certificates(cluster: &Cluster, prefix: &str, name: &str) -> [String; 3] {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let file = |what: &str, text: &str| {
        cluster.file(&format!("{prefix}-{what}.pem"), text).to_str().unwrap().to_owned()
    };
    [file("ca", &authority.pem()), file("cert", &own.pem()), file("key", &key.serialize_pem())]
}

fn cloud_config(address: &str, files: Option<[&str; 3]>) -> String {
    let port = address.rsplit_once(':').unwrap().1;
    let tls = files.map(|[authority, cert, key]| json!({"cacert": authority, "cert": cert, "key": key}));
    let mut config = json!({"address": format!("localhost:{port}"), "grpc_timeout": "5s"});
    for (name, path) in tls.as_ref().and_then(serde_json::Value::as_object).into_iter().flatten() {
        config[name] = path.clone();
    }
    config.to_string()
}

fn controller(config: &Path) -> Vec<String> {
    let config = format!("--cloud-config={}", config.display());
    let flags = [
        "controller",
        "--cloud-provider=externalgrpc",
        &config,
        "--address=",
        "--scale-down-unneeded-time=3s",
        "--scale-down-delay-after-add=1s",
        "--v=2",
    ];
    flags.map(str::to_owned).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_follow_pods_over_grpc_with_mutual_tls() {
    let cluster = Cluster::start().await;
    let [server_ca, cert, key] = certificates(&cluster, "server", "localhost");
    let [client_ca, own, own_key] = certificates(&cluster, "client", "tideline");
    let flags = [format!("--cert={cert}"), format!("--key={key}"), format!("--cacert={client_ca}")];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (_provider, address) = cluster.provider(&flags).await;

    // A certificate of somebody else's opens nothing, and says so.
    let [_, foreign, foreign_key] = certificates(&cluster, "foreign", "tideline");
    let config =
        cluster.file("foreign.yaml", &cloud_config(&address, Some([&server_ca, &foreign, &foreign_key])));
    let arguments = controller(&config);
    let refused = cluster.run("controller", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    cluster
        .until("the foreign certificate is refused", async || {
            cluster.said("controller").contains("cannot be read").then_some(())
        })
        .await;
    drop(refused);

    let config = cluster.file("cloud.yaml", &cloud_config(&address, Some([&server_ca, &own, &own_key])));
    let arguments = controller(&config);
    let _controller = cluster.run("controller", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.deploy(6, "1500m").await;
    cluster.settled(6, 3).await;
    // Two pods are left; the node with one of them is drained onto the other's.
    cluster.scale(2).await;
    cluster.settled(2, 1).await;
    cluster.scale(0).await;
    cluster.settled(0, 1).await;
    assert_eq!(cluster.replicas("general").await, 1);
}

/// Stubs are made of the protocol by others' tools, so that no code of ours stands on both ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_other_make_is_served() {
    const PACKAGES: &[&str] = &["grpcio==1.85.1", "grpcio-tools==1.85.1"];
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpc-client");
    let made = || environment(&place, PACKAGES, "import grpc, grpc_tools", "TIDELINE_NEED_GRPC_CLIENT");
    let Some(place) = tokio::task::block_in_place(made) else { return };
    let cluster = Cluster::start().await;
    let (_provider, address) = cluster.provider(&[]).await;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(place.join("bin/python"))
        .arg(tests.join("tests/external/client.py"))
        .arg(tests.join("../clouds/proto/externalgrpc.proto"))
        .arg(address)
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("all steps passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_chooses_which_pool_grows_and_one_that_is_ill_stops_nothing() {
    let cluster = Cluster::start().await;
    cluster.pool("dear", 0, "9.99").await;
    let [authority, cert, key] = certificates(&cluster, "server", "localhost");
    let chooser = Chooser::default();
    *chooser.wants.lock().unwrap() = Some("dear".to_owned());
    let port = chooser.serve(&cert, &key).await;
    let url = format!("--grpc-expander-url=localhost:{port}");
    let authority = format!("--grpc-expander-cert={authority}");
    let flags =
        ["controller", "--address=", "--expander=grpc", &url, &authority, "--scale-down-enabled=false"];
    let _controller = cluster.run("controller", &flags);
    cluster.deploy(4, "3").await;
    // One on the node that is there, three on machines of the pool that nobody else would choose.
    cluster.settled(4, 4).await;
    assert_eq!((cluster.replicas("general").await, cluster.replicas("dear").await), (1, 3));
    let asked = chooser.asked.lock().unwrap().clone();
    let options: Vec<&str> = asked[0].options.iter().map(|option| option.node_group_id.as_str()).collect();
    assert_eq!(options, ["dear", "general"]);
    let option = &asked.last().unwrap().options[0];
    assert!(!option.pod_bytes.is_empty() && option.pod == option.pod_bytes);
    assert!(asked[0].node_bytes_map.contains_key("dear") && asked[0].node_map.len() == 2);

    *chooser.wants.lock().unwrap() = None;
    cluster.scale(5).await;
    cluster.settled(5, 5).await;
    assert_eq!((cluster.replicas("general").await, cluster.replicas("dear").await), (2, 3));
    assert!(cluster.said("controller").contains("every pool may grow"), "{}", cluster.said("controller"));
}

#[tokio::test]
async fn wrong_files_and_open_doors_end_the_program_with_the_fix() {
    let cluster = Cluster::start().await;
    let config = cluster.file("wrong.yaml", "");
    let given = format!("--cloud-provider=externalgrpc --cloud-config={}", config.display());
    let cases = [
        ("controller --cloud-provider=externalgrpc", "", "needs --cloud-config=FILE"),
        ("controller --cloud-provider=externalgrpc --cloud-config=/nowhere", "", "/nowhere"),
        (&format!("controller {given}"), "address: a", "write host:port"),
        (&format!("controller {given}"), "address: a:1\ngrpc_timeout: 1h", "calls.timeoutSeconds"),
        ("controller --expander=grpc", "", "needs --grpc-expander-url=HOST:PORT"),
        ("controller --grpc-expander-url=a:1", "", "add it"),
        ("controller --expander=grpc --grpc-expander-url=a:1 --grpc-expander-cert=/nowhere", "", "/nowhere"),
        ("provider serve --address=0.0.0.0:0", "", "add --cert, --key and --cacert"),
        ("provider serve --address=", "", "write 127.0.0.1:8086"),
    ];
    for (flags, text, part) in cases {
        std::fs::write(&config, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_tideline"))
            .args(flags.split(' '))
            .arg("--kubeconfig")
            .arg(&cluster.kubeconfig)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(part), "{flags:?}: {said}");
    }
}
