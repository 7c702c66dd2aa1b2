//! A transcript: what a document has its reader do, step by step, and what must come of it.
//!
//! Owns the format and its checks. Running the steps is `runner`'s business, comparing what they print `shown`'s.
//!
//! A step whose needs are all here must do what it says. A step that needs a capability which is still awaited is
//! run as well and must fail: when it stops failing, somebody has built more than the list of capabilities says, and
//! the test asks for the list to be put right. So no step can turn green unnoticed, nor red.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;

/// How long a step may take where it does not say: a command answers at once.
const DEFAULT_SECONDS: u64 = 20;

/// What Tideline can do by now, and what it cannot yet.
pub type Capabilities = BTreeMap<String, Capability>;

/// Something that steps need.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// What it is, in a few words.
    pub is: String,
    /// The work that brings it; none once it is here.
    pub awaited: Option<String>,
}

/// One document as steps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transcript {
    pub title: String,
    /// The document's number and name.
    pub document: String,
    /// Names of the nodes that the document takes as given.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Whether the simulated cloud runs, once a step has brought its definitions.
    #[serde(default)]
    pub simulated_cloud: bool,
    /// Whether what pods use is served, by the sandbox's load model.
    #[serde(default)]
    pub simulated_load: bool,
    /// The port on which a real Prometheus looks at that load, where one is wanted.
    pub prometheus: Option<u16>,
    /// The image that stands for our program: pods of Jobs with it are processes beside the control plane.
    pub image: Option<String>,
    /// What the document leaves to its reader to fill in.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    pub steps: Vec<Step>,
    /// Where it was read, its manifests beside it.
    #[serde(skip)]
    pub dir: PathBuf,
}

/// One thing that the document's reader does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    pub name: String,
    /// Where in the document. Absent: a step of ours, for what the document takes as given.
    pub at: Option<String>,
    /// A command line for the shell.
    run: Option<String>,
    /// A process that stays until it is stopped, or the transcript ends.
    start: Option<Start>,
    /// The port of a process that ends here.
    stop: Option<u16>,
    /// An HTTP request.
    post: Option<Post>,
    /// Why nothing is run here.
    not_run: Option<String>,
    /// What `run` prints; see `shown` for what may differ.
    pub prints: Option<String>,
    /// Seconds until it must have come true; it is tried again until then.
    pub within: Option<u64>,
    /// The capabilities without which it cannot be.
    #[serde(default)]
    pub needs: Vec<String>,
    /// What is other than in the document, and why.
    pub differs: Option<String>,
}

/// A process that stays until it is stopped, or the transcript ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    pub command: String,
    /// The service account whose rights it has, as `namespace/name`.
    #[serde(rename = "as")]
    pub account: String,
    /// The port of 127.0.0.1 by which one knows that it is up.
    pub listens: u16,
}

/// An HTTP request to a process on 127.0.0.1.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Post {
    pub port: u16,
    pub path: String,
    /// The file beside the transcript that is sent.
    pub body: String,
    /// The status of the answer.
    pub answers: u16,
}

/// What a step does.
#[derive(Debug, Clone, Copy)]
pub enum Action<'a> {
    Run(&'a str),
    Start(&'a Start),
    Stop(u16),
    Post(&'a Post),
    NotRun(&'a str),
}

/// What is expected of a step today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State<'a> {
    /// It is run and must do what it says.
    Passes,
    /// It is run and must fail, for want of the first of its needs that is not here.
    Waits(&'a str),
    /// It is not run, with the reason, and with the capability that it waits for where there is one.
    NotRun { why: &'a str, waits: Option<&'a str> },
}

impl Step {
    /// What it does; a transcript that was read has exactly one action in each step.
    pub fn action(&self) -> Action<'_> {
        // With `not-run`, a command line stays as a record of what the document has its reader type.
        if let Some(why) = &self.not_run {
            return Action::NotRun(why);
        }
        match (&self.start, &self.post, self.stop) {
            (Some(start), ..) => Action::Start(start),
            (None, Some(post), _) => Action::Post(post),
            (None, None, Some(port)) => Action::Stop(port),
            (None, None, None) => Action::Run(self.run.as_deref().unwrap_or_default()),
        }
    }

    /// What is expected of it, by what is here and what is awaited.
    pub fn state<'a>(&'a self, capabilities: &Capabilities) -> State<'a> {
        let awaited = |name: &&String| capabilities.get(*name).is_some_and(|known| known.awaited.is_some());
        let waits = self.needs.iter().find(awaited).map(String::as_str);
        match (self.action(), waits) {
            (Action::NotRun(why), waits) => State::NotRun { why, waits },
            (_, Some(name)) => State::Waits(name),
            (_, None) => State::Passes,
        }
    }

    /// Seconds until it must have come true.
    pub fn seconds(&self) -> u64 {
        self.within.unwrap_or(DEFAULT_SECONDS)
    }

    /// A complaint if it says too much, too little, or something unknown.
    fn fault(&self, capabilities: &Capabilities) -> Option<String> {
        let actions = [self.run.is_some(), self.start.is_some(), self.post.is_some(), self.stop.is_some()]
            .iter()
            .filter(|had| **had)
            .count();
        if actions > 1 || (actions == 0 && self.not_run.is_none()) {
            return Some(
                "give it one of run, start, stop and post, or say with not-run why it has none".to_owned(),
            );
        }
        if self.prints.is_some() && self.run.is_none() {
            return Some("only a step with run prints".to_owned());
        }
        let unknown = self.needs.iter().find(|name| !capabilities.contains_key(*name))?;
        Some(format!("needs {unknown}, which capabilities.yaml does not have"))
    }
}

impl Transcript {
    /// All transcripts of a folder, in the order of their names, with the capabilities that they name.
    pub fn read_all(folder: &Path) -> Result<(Vec<Self>, Capabilities), Error> {
        let capabilities: Capabilities = read(&folder.join("capabilities.yaml"))?;
        let entries = fs::read_dir(folder).map_err(Error::file("reading", folder))?;
        let mut dirs: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        dirs.sort();
        let transcripts: Result<Vec<Self>, Error> =
            dirs.iter().map(|dir| Self::read(dir, &capabilities)).collect();
        let transcripts = transcripts?;
        let needed: BTreeSet<&String> =
            transcripts.iter().flat_map(|one| &one.steps).flat_map(|step| &step.needs).collect();
        if let Some(idle) = capabilities.keys().find(|name| !needed.contains(name)) {
            let message = format!("{idle}: no step needs it");
            return Err(Error::Malformed { path: folder.join("capabilities.yaml"), message });
        }
        Ok((transcripts, capabilities))
    }

    fn read(dir: &Path, capabilities: &Capabilities) -> Result<Self, Error> {
        let path = dir.join("transcript.yaml");
        let mut transcript: Self = read(&path)?;
        dir.clone_into(&mut transcript.dir);
        let mut names = BTreeSet::new();
        for step in &transcript.steps {
            let twice = (!names.insert(&step.name)).then(|| "two steps have this name".to_owned());
            if let Some(message) = step.fault(capabilities).or(twice) {
                return Err(Error::Step { path, step: step.name.clone(), message });
            }
        }
        Ok(transcript)
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(Error::file("reading", path))?;
    serde_saphyr::from_str(&text)
        .map_err(|error| Error::Malformed { path: path.to_owned(), message: error.to_string() })
}
