//! A running control plane: started in order, waited for, ended when dropped.
//!
//! Owns the processes and their directory. Leaves talking to the API server as somebody other
//! than its administrator, and `kubectl`, to `access`, and what was asked of it to `audit`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::Instant;

use crate::access::client_from;
use crate::binaries::{Binaries, Program};
use crate::credentials::{self, Credentials};
use crate::error::Error;
use crate::flags::{self, Options, Ports};
use crate::process::Process;
use crate::workspace::Workspace;

/// Another process may take a port between its being found free and its being listened on.
const START_ATTEMPTS: usize = 4;
/// Where the copy of etcd's data is kept.
const BACKUP: &str = "etcd-backup";
const POLL: Duration = Duration::from_millis(25);

/// etcd, kube-apiserver and, as asked for, kube-scheduler and kube-controller-manager on
/// loopback. They end, and everything they stored is removed, when this is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped first to last: what was started last ends first, and the directory goes after all.
    controller_manager: Option<Process>,
    scheduler: Option<Process>,
    apiserver: Process,
    etcd: Process,
    client: ClientHolder,
    server: String,
    version: String,
    admin_kubeconfig: PathBuf,
    credentials: Credentials,
    binaries: Binaries,
    ports: Ports,
    options: Options,
    workspace: Workspace,
}

/// `kube::Client` says nothing of itself in `Debug`.
struct ClientHolder(Client);

impl std::fmt::Debug for ClientHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl ControlPlane {
    /// Starts a control plane and waits until it serves and, with controllers, until namespace
    /// `default` has its service account.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let binaries = match tokio::task::spawn_blocking(Binaries::locate_or_build).await {
            Ok(binaries) => binaries?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        for _ in 1..START_ATTEMPTS {
            match Self::try_start(&binaries, &options).await {
                Err(error) if error.is_port_taken() => {}
                other => return other,
            }
        }
        Self::try_start(&binaries, &options).await
    }

    async fn try_start(binaries: &Binaries, options: &Options) -> Result<Self, Error> {
        let deadline = Instant::now() + options.start_deadline;
        let workspace = Workspace::create()?;
        let dir = workspace.path();
        let credentials = Credentials::create(&workspace)?;
        let ports = free_ports(dir)?;
        let server = format!("https://127.0.0.1:{}", ports.apiserver);
        if options.audit {
            workspace.write(flags::AUDIT_POLICY, &flags::audit_policy())?;
        }
        let write_kubeconfig = |file: &str, user: &str| {
            let text = credentials::kubeconfig(&server, &credentials.authority, &credentials.user(user));
            workspace.write(file, &text)
        };
        let admin_kubeconfig = write_kubeconfig("admin.kubeconfig", credentials::ADMIN)?;
        let scheduler_kubeconfig = write_kubeconfig("kube-scheduler.kubeconfig", credentials::SCHEDULER)?;
        let manager_kubeconfig =
            write_kubeconfig("kube-controller-manager.kubeconfig", credentials::CONTROLLER_MANAGER)?;
        let client = client_from(&admin_kubeconfig).await?;

        let etcd = Process::start("etcd", &binaries.etcd, &flags::etcd(dir, ports), dir)?;
        let apiserver_flags = flags::apiserver(dir, ports, &credentials, options);
        let apiserver = Process::start("kube-apiserver", &binaries.apiserver, &apiserver_flags, dir)?;
        let mut this = Self {
            controller_manager: None,
            scheduler: None,
            apiserver,
            etcd,
            client: ClientHolder(client.clone()),
            server,
            version: String::new(),
            admin_kubeconfig,
            credentials,
            binaries: binaries.clone(),
            ports,
            options: options.clone(),
            workspace,
        };
        let wait = Wait { what: "the API server to be ready", deadline, allowed: options.start_deadline };
        this.wait_for(wait, async || get_text(&client, "/readyz").await.map(|_| true)).await?;
        this.version = this.read_version().await?;

        if options.scheduler {
            let configuration = flags::scheduler_configuration(&scheduler_kubeconfig, options);
            let path = this.workspace.write("kube-scheduler.yaml", &configuration)?;
            let flags = flags::scheduler(&path);
            this.scheduler =
                Some(Process::start("kube-scheduler", &binaries.scheduler, &flags, this.workspace.path())?);
        }
        if options.controllers {
            let flags = flags::controller_manager(&manager_kubeconfig, &this.credentials, options);
            let program = &binaries.controller_manager;
            this.controller_manager =
                Some(Process::start("kube-controller-manager", program, &flags, this.workspace.path())?);
            let accounts = Api::<ServiceAccount>::namespaced(client, "default");
            let wait =
                Wait { what: "the default service account", deadline, allowed: options.start_deadline };
            this.wait_for(wait, async || accounts.get_opt("default").await.map(|found| found.is_some()))
                .await?;
        }
        Ok(this)
    }

    /// Keeps a copy of everything that is stored now. etcd is down for a moment.
    pub async fn back_up(&mut self) -> Result<(), Error> {
        let dir = self.workspace.path().to_owned();
        self.etcd.end();
        copy_folder(&dir.join(flags::ETCD_DATA), &dir.join(BACKUP))?;
        self.etcd = Process::start("etcd", &self.binaries.etcd, &flags::etcd(&dir, self.ports), &dir)?;
        self.serves().await
    }

    /// Puts the copy in the place of what is stored, as an operator restores etcd: with the API server stopped, and
    /// with the resource versions of then.
    pub async fn restore(&mut self) -> Result<(), Error> {
        let dir = self.workspace.path().to_owned();
        self.apiserver.end();
        self.etcd.end();
        let data = dir.join(flags::ETCD_DATA);
        fs::remove_dir_all(&data).map_err(Error::file("removing", &data))?;
        copy_folder(&dir.join(BACKUP), &data)?;
        self.etcd = Process::start("etcd", &self.binaries.etcd, &flags::etcd(&dir, self.ports), &dir)?;
        let apiserver_flags = flags::apiserver(&dir, self.ports, &self.credentials, &self.options);
        self.apiserver = Process::start("kube-apiserver", &self.binaries.apiserver, &apiserver_flags, &dir)?;
        self.serves().await
    }

    async fn serves(&mut self) -> Result<(), Error> {
        let allowed = self.options.start_deadline;
        let wait =
            Wait { what: "the API server to be ready again", deadline: Instant::now() + allowed, allowed };
        let client = self.client();
        self.wait_for(wait, async || get_text(&client, "/readyz").await.map(|_| true)).await
    }

    /// A client of the administrator, who may do everything.
    pub fn client(&self) -> Client {
        self.client.0.clone()
    }

    /// A kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// The address of the API server, such as `https://127.0.0.1:34567`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The certificate authority that signed the API server's certificate, in PEM.
    pub fn authority(&self) -> &Path {
        &self.credentials.authority
    }

    /// The version the API server reports, such as `v1.37.2`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The directory everything is kept in, logs included; gone when this is dropped.
    pub fn dir(&self) -> &Path {
        self.workspace.path()
    }

    /// The process ids of the components that run.
    pub fn process_ids(&self) -> Vec<(&'static str, u32)> {
        self.processes().map(|process| (process.name(), process.id())).collect()
    }

    /// The ends of the logs of all components, for a failing test to print.
    pub fn log_tails(&self) -> String {
        let tails = self.processes().map(|process| format!("-- {}\n{}", process.name(), process.log_tail()));
        tails.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn kubectl_program(&self) -> &Program {
        &self.binaries.kubectl
    }

    pub(crate) fn has_audit(&self) -> bool {
        self.options.audit
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        [Some(&self.etcd), Some(&self.apiserver), self.scheduler.as_ref(), self.controller_manager.as_ref()]
            .into_iter()
            .flatten()
    }

    async fn read_version(&self) -> Result<String, Error> {
        let text = get_text(&self.client.0, "/version")
            .await
            .map_err(Error::kube("asking the API server for its version"))?;
        let version: Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(version["gitVersion"].as_str().unwrap_or_default().to_owned())
    }

    /// Asks `probe` until it says true, for as long as all processes run.
    async fn wait_for(
        &mut self,
        wait: Wait,
        probe: impl AsyncFn() -> Result<bool, kube::Error>,
    ) -> Result<(), Error> {
        loop {
            let last = match probe().await {
                Ok(true) => return Ok(()),
                Ok(false) => "it is not there yet".to_owned(),
                Err(error) => error.to_string(),
            };
            let components = [Some(&mut self.etcd), Some(&mut self.apiserver)];
            let components =
                components.into_iter().chain([self.scheduler.as_mut(), self.controller_manager.as_mut()]);
            for process in components.flatten() {
                process.check(wait.what)?;
            }
            if Instant::now() > wait.deadline {
                return Err(Error::Deadline {
                    what: wait.what.to_owned(),
                    seconds: wait.allowed.as_secs(),
                    last,
                    tail: self.log_tails(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::file("creating", to))?;
    for entry in fs::read_dir(from).map_err(Error::file("listing", from))? {
        let path = entry.map_err(Error::file("listing", from))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(Error::file("copying", &path))?;
        }
    }
    Ok(())
}

/// What is waited for, and until when.
struct Wait {
    what: &'static str,
    deadline: Instant,
    allowed: Duration,
}

pub(crate) async fn get_text(client: &Client, path: &str) -> Result<String, kube::Error> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}

/// Ports nobody listens on. All are held until the last is found, so that they differ.
fn free_ports(dir: &Path) -> Result<Ports, Error> {
    let listen = || TcpListener::bind(("127.0.0.1", 0)).map_err(Error::file("finding free ports for", dir));
    let held = [listen()?, listen()?, listen()?];
    let port = |listener: &TcpListener| {
        listener
            .local_addr()
            .map(|address| address.port())
            .map_err(Error::file("finding free ports for", dir))
    };
    Ok(Ports { etcd: port(&held[0])?, etcd_peer: port(&held[1])?, apiserver: port(&held[2])? })
}
