//! What plays the machines of a real control plane: the sandbox's kubelets and clouds, through the Kubernetes API.
//!
//! Owns their start, with delays short enough for tests, nodes that are simply there, and what pods are said to use.

use std::net::SocketAddr;
use std::time::Duration;

use clock::Clock;
use sandbox::cluster::{Delays, capi, cloud, kubelet};
use sandbox::load;
use serde_json::{Value, json};
use testbed::{ControlPlane, client_from};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::error::Error;

/// A quarter of the time after which the control plane takes a silent node for gone is ample.
const LEASE_EVERY: Duration = Duration::from_secs(10);
const SEED: u64 = 1;

/// Whose machines they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Nobody's: nodes are made by hand.
    None,
    /// Those of `SimulatedPool`s.
    Simulated,
    /// Those of MachineDeployments.
    ClusterApi,
}

/// Kubelets and a cloud, until dropped. The cloud's definitions must be there.
#[derive(Debug)]
pub struct Machines {
    tasks: JoinSet<()>,
}

impl Machines {
    /// Starts them, each under a name of its own in the audit log.
    pub async fn start(cluster: &ControlPlane, cloud: Cloud) -> Result<Self, Error> {
        let delays = Delays {
            node_ready: Duration::from_secs(1),
            pod_start: Duration::from_millis(300),
            machine_delete: Duration::from_secs(1),
            cluster_api_boot: (Duration::from_secs(1), Duration::from_secs(2)),
            ..Delays::default()
        };
        let (clock, faults) = (Clock::system(), Vec::new());
        let client = async |user: &str| -> Result<kube::Client, Error> {
            Ok(client_from(&cluster.kubeconfig_for_user(user, &["system:masters"])?).await?)
        };
        let mut tasks = JoinSet::new();
        let options =
            kubelet::KubeletOptions { clock, delays: delays.clone(), renew_leases: Some(LEASE_EVERY) };
        tasks.spawn(kubelet::run(client("kubelets").await?, options));
        match cloud {
            Cloud::None => {}
            Cloud::Simulated => {
                let options = cloud::CloudOptions { clock, seed: SEED, delays, faults };
                tasks.spawn(cloud::run(client("simulated-cloud").await?, options));
            }
            Cloud::ClusterApi => {
                let options = capi::CapiOptions { clock, seed: SEED, delays, faults };
                tasks.spawn(capi::run(client("cluster-api").await?, options));
            }
        }
        Ok(Self { tasks })
    }

    /// Serves `metrics.k8s.io` by the load model: annotations say how many requests reach pods. The same server has a
    /// page for Prometheus.
    pub async fn serve_metrics(&mut self, cluster: &ControlPlane) -> Result<SocketAddr, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        let user = cluster.kubeconfig_for_user("simulated-metrics-server", &["system:masters"])?;
        let client = client_from(&user).await?;
        self.tasks.spawn(async move {
            if let Err(error) = load::serve(client, Clock::system(), listener).await {
                eprintln!("no metrics are served: {error}");
            }
        });
        Ok(address)
    }
}

/// Makes a node of no cloud; its kubelet is among [`Machines`].
pub(crate) async fn create_node(cluster: &ControlPlane, name: &str) -> Result<(), Error> {
    let node = node(name).to_string();
    let output = cluster.kubectl_with(cluster.kubeconfig(), &["create", "-f", "-"], &node).await?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Node { name: name.to_owned(), said: String::from_utf8_lossy(&output.stderr).into_owned() })
}

fn node(name: &str) -> Value {
    let room = json!({"cpu": "8", "memory": "32Gi", "pods": "110"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        },
        "status": {"capacity": room, "allocatable": room},
    })
}
