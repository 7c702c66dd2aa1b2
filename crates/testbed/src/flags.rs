//! What a control plane can be asked for, and the command lines that ask for it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::credentials::{Credentials, FRONT_PROXY};

/// How a control plane is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether the API server writes an audit log, readable by [`crate::ControlPlane::audit`].
    pub audit: bool,
    /// Whether kube-scheduler runs.
    pub scheduler: bool,
    /// Whether kube-controller-manager runs. Without it there are no service accounts, and pods
    /// are admitted without one.
    pub controllers: bool,
    /// How long a node may be silent before the node controller takes it for gone.
    pub node_monitor_grace: Duration,
    /// How long start-up may take, not counting a build.
    pub start_deadline: Duration,
    /// Further command line flags of kube-apiserver, such as `--feature-gates=...`.
    pub apiserver_flags: Vec<String>,
    /// Further command line flags of kube-controller-manager.
    pub controller_manager_flags: Vec<String>,
    /// Further top-level fields of kube-scheduler's configuration, such as `extenders`.
    pub scheduler_settings: Map<String, Value>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            audit: true,
            scheduler: true,
            controllers: true,
            // What Kubernetes itself defaults to.
            node_monitor_grace: Duration::from_secs(50),
            start_deadline: Duration::from_mins(1),
            apiserver_flags: Vec::new(),
            controller_manager_flags: Vec::new(),
            scheduler_settings: Map::new(),
        }
    }
}

/// Ports of 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) apiserver: u16,
}

pub(crate) const ETCD_DATA: &str = "etcd";
pub(crate) const AUDIT_LOG: &str = "audit.log";
pub(crate) const AUDIT_POLICY: &str = "audit-policy.yaml";

pub(crate) fn etcd(dir: &Path, ports: Ports) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        "--name=testbed".to_owned(),
        flag("data-dir", dir.join(ETCD_DATA).display()),
        flag("listen-client-urls", &client),
        flag("advertise-client-urls", &client),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", format!("testbed={peer}")),
        // Nothing stored here outlives the test.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

pub(crate) fn apiserver(
    dir: &Path,
    ports: Ports,
    credentials: &Credentials,
    options: &Options,
) -> Vec<String> {
    let authority = credentials.authority.display();
    let mut flags = vec![
        flag("etcd-servers", format!("http://127.0.0.1:{}", ports.etcd)),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        flag("secure-port", ports.apiserver),
        flag("tls-cert-file", credentials.server_certificate.display()),
        flag("tls-private-key-file", credentials.server_key.display()),
        flag("client-ca-file", &authority),
        flag("token-auth-file", credentials.tokens.display()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        flag("service-account-signing-key-file", credentials.service_account_key.display()),
        flag("service-account-key-file", credentials.service_account_public.display()),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        // There is one API server, on an address no endpoint may have.
        "--endpoint-reconciler-type=none".to_owned(),
        // An APIService may be served from loopback through a service of type ExternalName.
        flag("requestheader-client-ca-file", &authority),
        flag("requestheader-allowed-names", FRONT_PROXY),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        flag("proxy-client-cert-file", credentials.proxy_certificate.display()),
        flag("proxy-client-key-file", credentials.proxy_key.display()),
        "--profiling=false".to_owned(),
    ];
    if options.audit {
        flags.push(flag("audit-policy-file", dir.join(AUDIT_POLICY).display()));
        flags.push(flag("audit-log-path", dir.join(AUDIT_LOG).display()));
        // One file: in megabytes, more than any test writes.
        flags.push("--audit-log-maxsize=100000".to_owned());
    }
    if !options.controllers {
        flags.push("--disable-admission-plugins=ServiceAccount".to_owned());
    }
    flags.extend(options.apiserver_flags.iter().cloned());
    flags
}

/// Every request is logged once it is answered, and a watch already when it begins.
pub(crate) fn audit_policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{ "level": "Metadata" }]
    })
    .to_string()
}

pub(crate) fn scheduler_configuration(kubeconfig: &Path, options: &Options) -> String {
    let mut configuration = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig, "qps": 1000, "burst": 2000 },
        "leaderElection": { "leaderElect": false }
    });
    for (field, value) in &options.scheduler_settings {
        configuration[field] = value.clone();
    }
    configuration.to_string()
}

pub(crate) fn scheduler(configuration: &Path) -> Vec<String> {
    vec![flag("config", configuration.display()), "--secure-port=0".to_owned()]
}

pub(crate) fn controller_manager(
    kubeconfig: &Path,
    credentials: &Credentials,
    options: &Options,
) -> Vec<String> {
    let mut flags = vec![
        flag("kubeconfig", kubeconfig.display()),
        "--secure-port=0".to_owned(),
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        flag("service-account-private-key-file", credentials.service_account_key.display()),
        flag("root-ca-file", credentials.authority.display()),
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=2000".to_owned(),
        "--node-monitor-period=1s".to_owned(),
        flag("node-monitor-grace-period", format!("{}ms", options.node_monitor_grace.as_millis())),
        "--profiling=false".to_owned(),
    ];
    flags.extend(options.controller_manager_flags.iter().cloned());
    flags
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}
