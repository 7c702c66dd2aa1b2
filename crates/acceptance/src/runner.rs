//! Runs a transcript on a control plane of its own.
//!
//! Owns the world a step runs in: a folder with the document's files, a shell with `kubectl` and our program under
//! the names that documents use. Leaves what is expected of a step to `transcript`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use testbed::{Binaries, ControlPlane, Options, service_account_user};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::containers::Containers;
use crate::error::Error;
use crate::machines::{Cloud, Machines, create_node};
use crate::program::tideline;
use crate::prometheus;
use crate::shown::matches;
use crate::source_root;
use crate::transcript::{Action, Capabilities, Post, Start, State, Step, Transcript};

/// A step that must fail is not waited for as long as one that may come true late.
const AWAITED_SECONDS: u64 = 3;
const POLL: Duration = Duration::from_millis(250);
/// The names under which documents call our program.
const OUR_NAMES: [&str; 4] =
    ["tideline", "cluster-autoscaler", "alert-triggered-autoscaler", "kapacity-manager"];
/// More of an answer than any test reads.
const ANSWER_BYTES: u64 = 1 << 20;

/// Runs every step and complains of each that is not as the transcript says.
pub async fn run(transcript: &Transcript, capabilities: &Capabilities) -> Result<(), Error> {
    let mut world = World::create(transcript).await?;
    let mut complaints = Vec::new();
    for step in &transcript.steps {
        let state = step.state(capabilities);
        if matches!(state, State::NotRun { .. }) {
            continue;
        }
        let begun = Instant::now();
        let outcome = world.step(step, &state).await?;
        let seconds = begun.elapsed().as_secs_f32();
        let result = if outcome.is_ok() { "did what it says" } else { "did not do what it says" };
        eprintln!("{}: {} {result}, {seconds:.1} s", transcript.document, step.name);
        match (state, outcome) {
            (State::Passes, Err(why)) => complaints.push(format!("{}\n{}", step.name, indented(&why))),
            (State::Waits(capability), Ok(())) => complaints.push(format!(
                "{}\n    passes, though {capability} is awaited: if all steps that need it pass, take `awaited` from it \
                 in capabilities.yaml, else give this step a capability of its own",
                step.name
            )),
            _ => {}
        }
    }
    // What a document grants must be enough.
    let audit = world.cluster.audit().await?;
    let of_jobs = world.containers.iter().flat_map(|containers| &containers.users);
    for user in world.users.iter().chain(of_jobs) {
        audit.check_none_forbidden(user)?;
    }
    if complaints.is_empty() {
        return Ok(());
    }
    Err(Error::Steps {
        title: transcript.title.clone(),
        count: complaints.len(),
        list: complaints.join("\n\n"),
    })
}

/// What the steps of one transcript share.
struct World<'a> {
    // Dropped before the control plane that they talk to.
    started: Vec<(u16, Child)>,
    /// In whose names processes were started.
    users: Vec<String>,
    containers: Option<Containers>,
    _machines: Machines,
    transcript: &'a Transcript,
    dir: TempDir,
    path: String,
    cluster: ControlPlane,
}

/// Whether a step did what it says, and if not, why.
type Outcome = Result<(), String>;

impl<'a> World<'a> {
    async fn create(transcript: &'a Transcript) -> Result<Self, Error> {
        let cluster = ControlPlane::start(Options::default()).await?;
        let dir = tempfile::tempdir().map_err(Error::file("creating a folder in", &std::env::temp_dir()))?;
        for entry in fs::read_dir(&transcript.dir).map_err(Error::file("reading", &transcript.dir))?.flatten()
        {
            let copy = dir.path().join(entry.file_name());
            fs::copy(entry.path(), &copy).map_err(Error::file("copying to", &copy))?;
        }
        let bin = dir.path().join(".bin");
        fs::create_dir(&bin).map_err(Error::file("creating", &bin))?;
        link(&Binaries::locate_or_build()?.kubectl.path, &bin, "kubectl")?;
        let mut containers = None;
        if transcript.steps.iter().any(calls_us) {
            let program = blocking(tideline).await?;
            let image = transcript.image.as_deref();
            containers = image.map(|image| Containers::new(image, program.clone(), dir.path().to_owned()));
            for name in OUR_NAMES {
                link(&program, &bin, name)?;
            }
        }
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
        let cloud = if transcript.simulated_cloud { Cloud::Simulated } else { Cloud::None };
        let mut machines = Machines::start(&cluster, cloud).await?;
        let mut started = Vec::new();
        if transcript.simulated_load {
            let load = machines.serve_metrics(&cluster).await?;
            if let Some(port) = transcript.prometheus {
                started.push((port, prometheus::start(dir.path(), load, port)?));
            }
        }
        for node in &transcript.nodes {
            create_node(&cluster, node).await?;
        }
        Ok(Self {
            started,
            users: Vec::new(),
            containers,
            _machines: machines,
            transcript,
            dir,
            path,
            cluster,
        })
    }

    async fn step(&mut self, step: &Step, state: &State<'_>) -> Result<Outcome, Error> {
        let seconds = match state {
            State::Waits(_) => step.seconds().min(AWAITED_SECONDS),
            _ => step.seconds(),
        };
        let deadline = Instant::now() + Duration::from_secs(seconds);
        match step.action() {
            Action::Run(line) => self.run(step, line, deadline).await,
            Action::Start(start) => self.start(start, deadline).await,
            Action::Stop(port) => self.stop(port, deadline).await,
            Action::Post(post) => self.post(post, deadline).await,
            Action::NotRun(_) => Ok(Ok(())),
        }
    }

    /// Runs a command line; with `within`, again until it prints what it should.
    async fn run(&mut self, step: &Step, line: &str, deadline: Instant) -> Result<Outcome, Error> {
        loop {
            if let Some(containers) = &mut self.containers {
                containers.look(&self.cluster).await?;
            }
            let command = self.shell(line, self.cluster.kubeconfig()).stdin(Stdio::null()).output();
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(output) = timeout(left.max(POLL), command).await else {
                return Ok(Err("did not end in time".to_owned()));
            };
            let output = output.map_err(|source| Error::Spawn { command: line.to_owned(), source })?;
            let outcome = judge(step, &output);
            if outcome.is_ok() || step.within.is_none() || Instant::now() > deadline {
                return Ok(outcome);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts a process and waits until it listens.
    async fn start(&mut self, start: &Start, deadline: Instant) -> Result<Outcome, Error> {
        let (namespace, name) = start.account.split_once('/').unwrap_or(("default", &start.account));
        let kubeconfig = match self.cluster.kubeconfig_for_service_account(namespace, name).await {
            Ok(kubeconfig) => kubeconfig,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let log = self.dir.path().join(format!("{name}.log"));
        let out = fs::File::create(&log).map_err(Error::file("creating", &log))?;
        let err = out.try_clone().map_err(Error::file("opening", &log))?;
        let mut child = self
            .shell(&format!("exec {}", start.command), &kubeconfig)
            .env("NAMESPACE", namespace)
            .env("POD_NAME", name)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|source| Error::Spawn { command: start.command.clone(), source })?;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Ok(Err(format!("{}\n{said}", ended(status))));
            }
            if TcpStream::connect(("127.0.0.1", start.listens)).await.is_ok() {
                self.started.push((start.listens, child));
                self.users.push(service_account_user(namespace, name));
                return Ok(Ok(()));
            }
            if Instant::now() > deadline {
                return Ok(Err(format!("does not listen on port {}", start.listens)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks a process to end, as Kubernetes would, and waits until it has.
    async fn stop(&mut self, port: u16, deadline: Instant) -> Result<Outcome, Error> {
        let Some(place) = self.started.iter().position(|(listens, _)| *listens == port) else {
            return Ok(Err(format!("no process was started that listens on port {port}")));
        };
        let (_, mut child) = self.started.remove(place);
        let pid = child.id().map(|pid| pid.to_string()).unwrap_or_default();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().await;
        asked.map_err(|source| Error::Spawn { command: format!("kill -TERM {pid}"), source })?;
        let left = deadline.saturating_duration_since(Instant::now());
        Ok(match timeout(left, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(ended(status)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("does not end in time".to_owned()),
        })
    }

    /// Sends a file by HTTP and compares the status of the answer.
    async fn post(&self, post: &Post, deadline: Instant) -> Result<Outcome, Error> {
        let path = self.dir.path().join(&post.body);
        let body = fs::read(&path).map_err(Error::file("reading", &path))?;
        let left = deadline.saturating_duration_since(Instant::now());
        Ok(match timeout(left, exchange(post, &body)).await {
            Ok(Ok(status)) if status == post.answers => Ok(()),
            Ok(Ok(status)) => Err(format!("answers {status}, not {}", post.answers)),
            Ok(Err(error)) => Err(format!("port {}: {error}", post.port)),
            Err(_) => Err("does not answer in time".to_owned()),
        })
    }

    /// A shell with the document's files, `kubectl`, our program, and nothing of the user's own settings.
    fn shell(&self, line: &str, kubeconfig: &Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-e", "-c", line])
            .current_dir(self.dir.path())
            .env_clear()
            .envs(&self.transcript.environment)
            .env("PATH", &self.path)
            .env("DEPLOY", source_root().join("deploy"))
            .env("HOME", self.dir.path())
            .env("KUBECONFIG", kubeconfig)
            .env("KUBECACHEDIR", self.dir.path().join(".kubectl"))
            .env("KUBERC", "off")
            .kill_on_drop(true);
        command
    }
}

/// Whether a finished command did what its step says.
fn judge(step: &Step, output: &Output) -> Outcome {
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}\n{said}{complaint}", ended(output.status)));
    }
    match &step.prints {
        Some(expected) if !matches(expected, &said) => Err(format!("printed\n{said}instead of\n{expected}")),
        _ => Ok(()),
    }
}

/// Sends a request and returns the status of the answer.
async fn exchange(post: &Post, body: &[u8]) -> Result<u16, std::io::Error> {
    let mut stream = TcpStream::connect(("127.0.0.1", post.port)).await?;
    let mut request = format!("POST {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", post.path, post.port);
    let _ = write!(
        request,
        "Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    status.ok_or_else(|| std::io::Error::other("the answer has no status"))
}

fn calls_us(step: &Step) -> bool {
    match step.action() {
        Action::Run(line) => OUR_NAMES.iter().any(|name| line.split_whitespace().next() == Some(name)),
        Action::Start(_) => true,
        Action::Stop(_) | Action::Post(_) | Action::NotRun(_) => false,
    }
}

fn link(program: &Path, bin: &Path, name: &str) -> Result<(), Error> {
    let link = bin.join(name);
    symlink(program, &link).map_err(Error::file("linking", &link))
}

async fn blocking(work: fn() -> Result<PathBuf, Error>) -> Result<PathBuf, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn ended(status: ExitStatus) -> String {
    format!("ended with {status}")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
