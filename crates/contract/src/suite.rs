//! The list of cases, and the runner that gives each its own namespace and its own record of calls.
//!
//! Owns isolation, the check that a case makes the calls it says it covers, and the report. Leaves the cases to
//! `cases`.

use crate::call::CallKind;
use crate::client::recorded;
use crate::recorder::Recording;
use crate::world::World;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use kube::Client;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt;

/// What must run beside the API server for a case to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing; and no controller that would change objects under the case.
    ApiServer,
    /// The controllers of Kubernetes: namespaces, garbage collection, disruption budgets, workloads.
    Controllers,
}

/// One behaviour of the API.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub needs: Needs,
    /// Kinds of calls whose behaviour it asserts, in the text form of [`CallKind`].
    pub covers: &'static [&'static str],
    pub run: fn(World) -> BoxFuture<'static, ()>,
}

impl Case {
    /// The kinds of calls it covers.
    pub fn covered(&self) -> BTreeSet<CallKind> {
        self.covers.iter().map(|text| text.parse().expect("a kind of call")).collect()
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name, self.needs)
    }
}

/// Every case.
pub fn all() -> Vec<Case> {
    crate::cases::all()
}

/// The API server that a suite is run against.
#[derive(Clone)]
pub struct Server {
    pub client: Client,
    /// Tells this server's objects from those of other runs on it.
    pub prefix: String,
    /// A resourceVersion whose successors the server has forgotten.
    pub forgotten: String,
    /// Cases that run at once.
    pub at_once: usize,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} at once)", self.prefix, self.at_once)
    }
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Report {
    pub passed: usize,
    /// Name of the case and what it complained of.
    pub failed: Vec<(&'static str, String)>,
}

impl Report {
    /// Fails the test with every complaint.
    pub fn assert_green(&self) {
        let complaints: Vec<String> =
            self.failed.iter().map(|(name, why)| format!("-- {name}\n{}", shortened(why))).collect();
        let total = self.passed + self.failed.len();
        assert!(
            complaints.is_empty(),
            "{} of {total} cases failed:\n{}",
            complaints.len(),
            complaints.join("\n")
        );
        assert!(total > 0, "no case was run");
    }
}

/// A complaint may quote a whole list of objects.
fn shortened(text: &str) -> String {
    const MOST: usize = 3000;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Runs the cases that need this much, except those named in `skipped`.
pub async fn run(server: &Server, needs: Needs, skipped: &[&str]) -> Report {
    let only = std::env::var("CONTRACT_CASE").unwrap_or_default();
    let cases = all().into_iter().enumerate();
    let chosen = cases.filter(|(_, case)| {
        case.needs == needs && !skipped.contains(&case.name) && case.name.contains(&only)
    });
    let outcomes = stream::iter(
        chosen.map(|(number, case)| async move { (case.name, run_one(server, number, case).await) }),
    );
    let mut report = Report::default();
    let mut outcomes = outcomes.buffer_unordered(server.at_once.max(1));
    while let Some((name, outcome)) = outcomes.next().await {
        match outcome {
            Ok(()) => report.passed += 1,
            Err(why) => report.failed.push((name, why)),
        }
    }
    report.failed.sort();
    report
}

/// Runs one case by its name.
pub async fn run_named(server: &Server, name: &str) -> Result<(), String> {
    match all().into_iter().enumerate().find(|(_, case)| case.name == name) {
        Some((number, case)) => run_one(server, number, case).await,
        None => Err(format!("there is no case {name}")),
    }
}

async fn run_one(server: &Server, number: usize, case: Case) -> Result<(), String> {
    let unique = format!("{}-{number}", server.prefix);
    let recording = Recording::default();
    let client = recorded(&server.client, recording.clone());
    let setup = World {
        client: server.client.clone(),
        ns: unique.clone(),
        unique,
        forgotten: server.forgotten.clone(),
    };
    let world = World { client, ..setup.clone() };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": setup.ns}});
    let run = async move {
        setup.post("/api/v1/namespaces", &namespace).await.ok();
        (case.run)(world).await;
    };
    tokio::spawn(run).await.map_err(|failed| match failed.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked without a message".to_owned()),
        Err(error) => error.to_string(),
    })?;
    let made = recording.calls();
    let idle: Vec<String> = case
        .covered()
        .into_iter()
        .filter(|kind| !made.contains_key(kind))
        .map(|kind| kind.to_string())
        .collect();
    if idle.is_empty() {
        return Ok(());
    }
    let made: Vec<String> = made.keys().map(ToString::to_string).collect();
    Err(format!("says it covers what it never called: {}; it called: {}", idle.join(", "), made.join(", ")))
}
