//! What a container runtime does with our image: pods of Jobs that run it are processes beside the control plane.
//!
//! Owns their start, with the arguments, variables and account of the pod, and the word to the simulated kubelet that
//! they have ended. Volumes, limits and other images are nothing to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use testbed::{ControlPlane, service_account_user};
use tokio::process::{Child, Command};

use crate::error::Error;

/// By these the simulated kubelet knows that a pod's containers have ended, and how.
const RUN_SECONDS: &str = "tideline.dev/run-seconds";
const EXIT_CODE: &str = "tideline.dev/exit-code";
/// What Jobs write on their pods.
const OF_JOBS: &str = "batch.kubernetes.io/job-name";

/// The processes of pods, by namespace and name.
pub(crate) struct Containers {
    image: String,
    program: PathBuf,
    /// Where what they print is kept.
    folder: PathBuf,
    started: BTreeSet<String>,
    running: BTreeMap<(String, String), Child>,
    /// In whose names they ran.
    pub(crate) users: BTreeSet<String>,
}

impl Containers {
    pub(crate) fn new(image: &str, program: PathBuf, folder: PathBuf) -> Self {
        Self {
            image: image.to_owned(),
            program,
            folder,
            started: BTreeSet::new(),
            running: BTreeMap::new(),
            users: BTreeSet::new(),
        }
    }

    /// Starts what is to be started, and tells of what has ended.
    pub(crate) async fn look(&mut self, cluster: &ControlPlane) -> Result<(), Error> {
        let listed = cluster.kubectl_ok(&["get", "pods", "-A", "-l", OF_JOBS, "-o", "json"]).await?;
        let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
        for pod in listed["items"].as_array().into_iter().flatten() {
            let ours = pod["spec"]["containers"][0]["image"].as_str() == Some(&self.image);
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            if ours && pod["status"]["phase"] == "Running" && self.started.insert(uid.to_owned()) {
                self.start(cluster, pod).await?;
            }
        }
        let mut ended = Vec::new();
        for (pod, child) in &mut self.running {
            if let Ok(Some(status)) = child.try_wait() {
                ended.push((pod.clone(), status.code().unwrap_or(255)));
            }
        }
        for ((namespace, name), code) in ended {
            let (code, seconds) = (format!("{EXIT_CODE}={code}"), format!("{RUN_SECONDS}=0"));
            cluster.kubectl_ok(&["annotate", "pod", "-n", &namespace, &name, &code, &seconds]).await?;
            self.running.remove(&(namespace, name));
        }
        Ok(())
    }

    async fn start(&mut self, cluster: &ControlPlane, pod: &Value) -> Result<(), Error> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        let account = text(&pod["spec"]["serviceAccountName"]);
        let kubeconfig = cluster.kubeconfig_for_service_account(&namespace, &account).await?;
        self.users.insert(service_account_user(&namespace, &account));
        let container = &pod["spec"]["containers"][0];
        let log = self.folder.join(format!("{name}.log"));
        let out = fs::File::create(&log).map_err(Error::file("creating", &log))?;
        let err = out.try_clone().map_err(Error::file("opening", &log))?;
        let variables = container["env"].as_array().into_iter().flatten();
        let child = Command::new(&self.program)
            .args(container["args"].as_array().into_iter().flatten().map(text))
            .env_clear()
            .envs(variables.map(|one| (text(&one["name"]), text(&one["value"]))))
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Spawn { command: self.program.display().to_string(), source })?;
        self.running.insert((namespace, name), child);
        Ok(())
    }
}
