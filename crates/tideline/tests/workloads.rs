//! `tideline kapacity-manager` as a process: metrics by gRPC with TLS and a token, its own metrics, and its end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::kapacity::IntelligentHorizontalPodAutoscaler as Ihpa;
use clock::Clock;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, PostParams};
use metrics::grpc::{ProviderClient, ProviderClientSettings};
use metrics::{MetricSource as _, Objects, Query, Resource};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Far over what a loaded machine needs for any one step.
const DEADLINE: Duration = Duration::from_mins(2);
const TOKEN: &str = "open-sesame";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(what: &str, mut ask: impl AsyncFnMut() -> Result<(), String>) {
    let end = Instant::now() + DEADLINE;
    loop {
        let Err(seen) = ask().await else { return };
        assert!(Instant::now() < end, "{what}: {seen}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// One pod that runs, and an autoscaler that keeps it at that.
async fn populate(client: &kube::Client) {
    let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
    let node = json!({"metadata": {"name": "n"}, "status": {"capacity": room, "allocatable": room}});
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}});
    let set = json!({
        "metadata": {"name": "web"}, "spec": {
            "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    });
    let ihpa = json!({"metadata": {"name": "web"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"},
        "minReplicas": 1, "maxReplicas": 3,
        "portraitProviders": [{"type": "Static", "priority": 1, "static": {"replicas": 1}}],
    }});
    let params = PostParams::default();
    Api::<Node>::all(client.clone()).create(&params, &read(node)).await.unwrap();
    Api::<StatefulSet>::default_namespaced(client.clone()).create(&params, &read(set)).await.unwrap();
    Api::<Ihpa>::default_namespaced(client.clone()).create(&params, &read(ihpa)).await.unwrap();
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// The body of a page, or why there is none.
async fn page(port: u16, path: &str) -> Result<String, String> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    let answer: std::io::Result<String> = ask.await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer) }
}

fn client(port: u16, authority: &str, token: Option<&str>) -> ProviderClient {
    ProviderClient::new(ProviderClientSettings {
        address: format!("localhost:{port}"),
        authority_pem: Some(authority.to_owned()),
        token: token.map(Arc::from),
        timeout: Duration::from_secs(20),
    })
    .unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_by_grpc_from_the_program() {
    let clock = Clock::system();
    let sandbox = Sandbox::start(Options { cluster_api: false, ..Options::new(clock, 7) }).unwrap();
    populate(&sandbox.client("test")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let api = sandbox.api().clone();
    tokio::spawn(async move { sandbox::api::serve(api, listener).await.unwrap() });

    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let issued = tls::issue(&["localhost".to_owned()], clock.now()).unwrap();
    let [grpc, figures, probes] = [free_port().await, free_port().await, free_port().await];
    let flags = [
        ("kubeconfig", write(folder.path(), "kubeconfig", &kubeconfig.to_string())),
        ("namespace", "default".to_owned()),
        ("metrics-bind-address", format!("127.0.0.1:{figures}")),
        ("health-probe-bind-address", format!("127.0.0.1:{probes}")),
        ("grpc-server-bind-address", format!("127.0.0.1:{grpc}")),
        ("grpc-server-certificate", write(folder.path(), "tls.crt", &issued.certificate_pem)),
        ("grpc-server-key", write(folder.path(), "tls.key", &issued.key_pem)),
        ("grpc-server-token-file", write(folder.path(), "token", &format!("{TOKEN}\n"))),
    ];
    let mut program = Command::new(env!("CARGO_BIN_EXE_tideline"));
    program.arg("kapacity-manager").args(flags.map(|(flag, value)| format!("--{flag}={value}")));
    let mut running = Running(program.stderr(Stdio::null()).spawn().unwrap());

    let query = Query::PodResource {
        namespace: Arc::from("default"),
        pods: Objects::Named(vec![Arc::from("web-0")]),
        resource: Resource::Cpu,
    };
    let trusting = client(grpc, &issued.authority_pem, Some(TOKEN));
    until("the pod's use by gRPC", async || {
        let latest = trusting.latest(&query).await.map_err(|error| error.to_string())?;
        let sample = latest.samples.first().ok_or("no sample")?;
        assert_eq!((sample.pod().map(|pod| &**pod), sample.point.value > 0.0), (Some("web-0"), true));
        Ok(())
    })
    .await;
    for token in [None, Some("sesame")] {
        let refused = client(grpc, &issued.authority_pem, token).latest(&query).await.unwrap_err();
        assert!(refused.to_string().contains("Unauthenticated"), "{refused}");
    }
    let other = tls::issue(&["localhost".to_owned()], clock.now()).unwrap();
    assert!(
        client(grpc, &other.authority_pem, Some(TOKEN)).latest(&query).await.is_err(),
        "another authority"
    );

    let wanted = [
        "# TYPE tideline_workloads_looks counter",
        "tideline_workloads_autoscalers 1\n",
        "tideline_workloads_autoscalers_by_state{state=\"active\"} 1\n",
        "tideline_workloads_desired_replicas{namespace=\"default\",name=\"web\"} 1\n",
        "tideline_workloads_replicas{namespace=\"default\",name=\"web\",state=\"online\"} 1\n",
        "# EOF\n",
    ];
    until("its own metrics", async || {
        let text = page(figures, "/metrics").await?;
        let missing: Vec<_> = wanted.iter().filter(|line| !text.contains(**line)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} in {text}")) }
    })
    .await;
    page(probes, "/readyz").await.unwrap();

    let process = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    until("its end", async || match running.0.try_wait().unwrap() {
        Some(status) if status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
