//! A real control plane as a cluster that Tideline is installed on: its definitions, machines of one simulated pool, a
//! workload to serve; and the program as a process under a user of its own, so that the audit log tells its writes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use testbed::{ControlPlane, Options};
use tokio::process::{Child, Command};
use tokio::time::{Duration, Instant};

use crate::error::Error;
use crate::machines::{Cloud, Machines};
use crate::program::tideline;

/// Four CPUs a node, at most twenty of them, none at first.
pub const POOL: &str = "
apiVersion: tideline.dev/v1alpha1
kind: SimulatedPool
metadata: { name: general }
spec:
  min: 0
  max: 20
  replicas: 0
  template: { allocatable: { cpu: '4', memory: 16Gi } }
  boot: { minSeconds: 1, maxSeconds: 2 }
";
const POLL: Duration = Duration::from_millis(100);
/// One that ends this often does not end by chance.
const MOST_STARTS: usize = 10;

/// The cluster.
#[derive(Debug)]
pub struct Site {
    // Dropped before the control plane that they talk to.
    machines: Option<Machines>,
    pub cluster: ControlPlane,
}

impl Site {
    /// With the pool, and every definition of ours established.
    pub async fn start() -> Result<Self, Error> {
        let site = Self::start_with(Cloud::Simulated).await?;
        site.cluster.apply(POOL).await?;
        Ok(site)
    }

    /// With the machines of a cloud and no pool.
    pub async fn start_with(cloud: Cloud) -> Result<Self, Error> {
        let cluster = ControlPlane::start(Options::default()).await?;
        let definitions: Vec<String> = api::crds().iter().map(|crd| json!(crd).to_string()).collect();
        cluster.apply(&definitions.join("\n---\n")).await?;
        let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        cluster.kubectl_ok(&established).await?;
        let machines = Some(Machines::start(&cluster, cloud).await?);
        Ok(Self { machines, cluster })
    }

    /// Machines and kubelets anew: what they remember is of a state that is gone.
    pub async fn restart_machines(&mut self) -> Result<(), Error> {
        self.machines = None;
        self.machines = Some(Machines::start(&self.cluster, Cloud::Simulated).await?);
        Ok(())
    }

    /// Pods of half a core: eight fit a node of the pool.
    pub async fn wants(&self, replicas: u32) -> Result<(), Error> {
        let requests = json!({"requests": {"cpu": "500m"}});
        self.deployment("default", "web", replicas, &requests).await
    }

    /// A Deployment of pods that ask for what is named.
    pub async fn deployment(
        &self,
        namespace: &str,
        name: &str,
        replicas: u32,
        resources: &serde_json::Value,
    ) -> Result<(), Error> {
        let labels = json!({"app": name});
        let container = json!({"name": "main", "image": "none", "resources": resources});
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        });
        self.cluster.apply(&deployment.to_string()).await?;
        Ok(())
    }

    /// How many nodes there are.
    pub async fn nodes(&self) -> Result<usize, Error> {
        Ok(self.cluster.kubectl_ok(&["get", "nodes", "-o", "name"]).await?.lines().count())
    }

    /// Who holds a Lease, as far as the dash that begins a process's own part; nobody is an empty text.
    pub async fn holder(&self, namespace: &str, lease: &str) -> Result<String, Error> {
        let path = "jsonpath={.spec.holderIdentity}";
        let found = ["-n", namespace, "get", "lease", lease, "--ignore-not-found", "-o", path];
        let holder = self.cluster.kubectl_ok(&found).await?;
        Ok(holder.split('_').next().unwrap_or_default().to_owned())
    }

    /// Changes that a process asked for, refused ones included.
    pub async fn writes(&self, process: &Process) -> Result<Vec<String>, Error> {
        let audit = self.cluster.audit().await?;
        let asked = audit.of(&process.user);
        let changes = asked.filter(|entry| !["get", "list", "watch"].contains(&entry.verb.as_str()));
        Ok(changes.map(ToString::to_string).collect())
    }

    /// Polls until something holds, for two minutes. Says how long it took.
    ///
    /// # Panics
    /// With the logs of the processes, where it is not in time.
    pub async fn until(&self, what: &str, of: &[&Process], holds: impl AsyncFn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !holds(self).await {
            if begun.elapsed() > Duration::from_mins(2) {
                let said: Vec<String> = of.iter().map(|process| process.said()).collect();
                panic!("{what}: not in time\n{}", said.join("\n---\n"));
            }
            tokio::time::sleep(POLL).await;
        }
        eprintln!("{what}: after {:.1} s", begun.elapsed().as_secs_f32());
        begun.elapsed()
    }
}

/// The program as a process, until dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    kubeconfig: PathBuf,
    arguments: Vec<String>,
    user: String,
    starts: usize,
}

impl Process {
    /// Runs the program with all rights, in the name of a user.
    pub async fn start(site: &Site, user: &str, arguments: &[&str]) -> Result<Self, Error> {
        let kubeconfig = site.cluster.kubeconfig_for_user(user, &["system:masters"])?;
        let log = site.cluster.dir().join(format!("{user}.log"));
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(&kubeconfig, &log, user, &arguments).await?;
        Ok(Self { child, log, kubeconfig, arguments, user: user.to_owned(), starts: 1 })
    }

    /// Starts it again if it has ended, as a Deployment does.
    ///
    /// # Panics
    /// With its log, where it ends again and again.
    pub async fn keep(&mut self) -> Result<(), Error> {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            self.starts += 1;
            assert!(self.starts < MOST_STARTS, "it ends again and again\n{}", self.said());
            self.child = spawn(&self.kubeconfig, &self.log, &self.user, &self.arguments).await?;
        }
        Ok(())
    }

    /// How often it was started.
    pub fn starts(&self) -> usize {
        self.starts
    }

    /// Sends a signal, by the name that `kill` takes.
    pub async fn signal(&self, name: &str) -> Result<(), Error> {
        let id = self.child.id().unwrap_or_default().to_string();
        let command = || format!("kill {name} {id}");
        let status = Command::new("kill").args([name, &id]).status().await;
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                Err(Error::Spawn { command: command(), source: std::io::Error::other(status.to_string()) })
            }
            Err(source) => Err(Error::Spawn { command: command(), source }),
        }
    }

    /// Waits for its end, for a minute, and says whether it ended well.
    ///
    /// # Panics
    /// With its log, where it goes on.
    pub async fn end(&mut self) -> bool {
        let ended = tokio::time::timeout(Duration::from_mins(1), self.child.wait()).await;
        assert!(ended.is_ok(), "{} goes on\n{}", self.user, self.said());
        ended.is_ok_and(|status| status.is_ok_and(|status| status.success()))
    }

    /// Its log.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

async fn spawn(kubeconfig: &Path, log: &Path, user: &str, arguments: &[String]) -> Result<Child, Error> {
    let program =
        tokio::task::spawn_blocking(tideline).await.map_err(|error| Error::Build(error.to_string()))??;
    let open = || File::options().create(true).append(true).open(log).map_err(Error::file("opening", log));
    Command::new(&program)
        .args(arguments)
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .env("HOSTNAME", user)
        .stdin(Stdio::null())
        .stdout(open()?)
        .stderr(open()?)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| Error::Spawn { command: program.display().to_string(), source })
}
