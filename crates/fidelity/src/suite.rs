//! Many clusters on a few control planes, with a report.

use crate::course::{self, Depth, Disagreement, Tally};
use crate::error::Error;
use crate::plane::Plane;
use crate::shrink::shrink;
use futures::future::try_join_all;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Disagreements after which a suite ends: more would be more of the same.
const ENOUGH: usize = 8;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// The first cluster's seed; the others follow it.
    pub seed: u64,
    pub clusters: u64,
    /// Pods of each cluster.
    pub pods: usize,
    /// Control planes at a time.
    pub planes: usize,
    /// Whether every pod is pinned to every node, or to one node only.
    pub pin_to_every_node: bool,
}

struct Progress {
    next: AtomicU64,
    done: Mutex<(Tally, usize)>,
}

/// Runs a suite and prints what it finds.
pub async fn run(suite: Suite) -> Result<(), Error> {
    let began = Instant::now();
    let progress = Progress { next: AtomicU64::new(0), done: Mutex::default() };
    try_join_all((0..suite.planes.max(1)).map(|_| work(suite, &progress))).await?;
    let done = progress.done.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{}", report(&done.0, suite, began.elapsed().as_secs_f64()));
    match done.1 {
        0 => Ok(()),
        count => Err(Error::Disagreements(count)),
    }
}

async fn work(suite: Suite, progress: &Progress) -> Result<(), Error> {
    let mut plane = Plane::start().await?;
    let depth = Depth { pods: suite.pods, pin_to_every_node: suite.pin_to_every_node };
    loop {
        let at = progress.next.fetch_add(1, Ordering::Relaxed);
        let enough = progress.done.lock().unwrap_or_else(PoisonError::into_inner).1 >= ENOUGH;
        if at >= suite.clusters || enough {
            return Ok(());
        }
        let seed = suite.seed + at;
        let (tally, found) = match course::run(&mut plane, seed, depth).await {
            Ok(outcome) => outcome,
            Err(error) => {
                eprintln!("cluster {seed}: {error}\n{}", plane.log_tails());
                return Err(error);
            }
        };
        let found = match found {
            Some(found) => Some(shrink(&mut plane, found).await?),
            None => None,
        };
        if let Some(found) = &found {
            println!("{}", describe(seed, suite, found));
        }
        let mut done = progress.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.0.add(&tally);
        done.1 += usize::from(found.is_some());
    }
}

fn describe(seed: u64, suite: Suite, found: &Disagreement) -> String {
    let mut text = format!(
        "DISAGREEMENT in cluster {seed}; again: cargo xtask fidelity --seed {seed} --clusters 1 --pods {}\n{}\n",
        suite.pods,
        found.difference()
    );
    let _ = writeln!(text, "pod {}", brief(&found.pod));
    for pod in &found.situation.pods {
        let _ = writeln!(text, "holds room: {}", brief(pod));
    }
    for object in &found.situation.storage {
        let _ = writeln!(text, "storage: {}", brief(object));
    }
    for node in &found.situation.nodes {
        let _ = writeln!(text, "node {}", brief(node));
    }
    text
}

/// An object without what says nothing about where pods fit.
fn brief(object: &serde_json::Value) -> String {
    let mut object = object.clone();
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "annotations"]
    {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove(field);
        }
    }
    if object["kind"] == "Pod" {
        for field in [
            "dnsPolicy",
            "enableServiceLinks",
            "preemptionPolicy",
            "restartPolicy",
            "schedulerName",
            "securityContext",
            "terminationGracePeriodSeconds",
        ] {
            if let Some(spec) = object["spec"].as_object_mut() {
                spec.remove(field);
            }
        }
        object["status"] = serde_json::Value::Null;
        for list in ["containers", "initContainers"] {
            for container in object["spec"][list].as_array_mut().into_iter().flatten() {
                for field in ["imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy"] {
                    if let Some(container) = container.as_object_mut() {
                        container.remove(field);
                    }
                }
            }
        }
    } else if object["kind"] == "Node" {
        object["status"] = object["status"]["allocatable"].clone();
    }
    object.to_string()
}

fn report(tally: &Tally, suite: Suite, seconds: f64) -> String {
    let mut text = format!(
        "{} clusters (seeds {}..{}), {} pods, {} questions, {} pod-node pairs, {} bound in {seconds:.1} s\n\
         {} invalid, {} about rules that are not modelled, {} settled when asked again\n",
        tally.clusters,
        suite.seed,
        suite.seed + suite.clusters,
        tally.pods,
        tally.questions,
        tally.pairs,
        tally.bound,
        tally.invalid,
        tally.not_modelled,
        tally.settled,
    );
    for (reason, count) in &tally.reasons {
        let _ = writeln!(text, "{count:>8} {reason}");
    }
    text
}
