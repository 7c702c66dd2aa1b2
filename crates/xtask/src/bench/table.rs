//! The rows of the table "Figures to reach": what is planned, with which flags, and what is to come out.
//!
//! Owns the targets. Inputs are `generate`'s or lie beside the checkout.

use super::generate::{self, List};

/// Where the fixed workloads lie, beside the checkout.
const SHARED: &str = "../shared/bench";
const REAL_CATALOGUE: &str = "../shared/catalogs/aws-us-east-1.json.gz";

/// What a row plans.
pub(crate) enum Input {
    /// A file, and the catalogue beside it.
    Shared(&'static str),
    Generated(fn() -> String),
    /// A cluster that is decided about first, and what is added to it then: the second decision is timed.
    Added(fn() -> String, fn() -> String),
}

/// One row.
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) input: Input,
    pub(crate) arguments: &'static [&'static str],
    pub(crate) catalogue: Option<&'static str>,
    /// Largest decide time that counts as reached.
    pub(crate) most_ms: f64,
    pub(crate) most_ratio: Option<f64>,
    /// Nodes to add, or to remove, or pods left waiting: what the answer must be.
    pub(crate) expected: Expected,
    pub(crate) most_memory_mb: Option<f64>,
}

/// What must come out.
#[derive(Clone, Copy)]
pub(crate) enum Expected {
    Anything,
    NodesAtMost(usize),
    Removals(usize),
    Unplaced(usize),
    OnExisting(usize),
}

/// Nothing but time is short in Cluster Autoscaler's benchmarks.
const NO_LIMITS: &[&str] = &["--max-nodes-per-scaleup=10000"];
pub(crate) const REMOVE_ALL: &[&str] = &[
    "--scale-down-unneeded-time=0s",
    "--scale-down-utilization-threshold=0.5",
    "--scale-down-delay-after-add=0s",
    "--max-scale-down-parallelism=100000",
    "--max-drain-parallelism=100000",
];
const ESTIMATE: &[&str] = &[
    "--nodes=0:100000:group",
    "--node-template=group:cpu=1,memory=5000Mi,pods=100",
    "--max-nodes-per-scaleup=100000",
];
const LONG_SEARCH: &[&str] = &["--optimiser-steps=100000000"];

fn scale_up(nodes: usize) -> String {
    let mut list = List::new();
    list.pool(0);
    list.pending("pending", nodes * 50, "200m", "200");
    list.finish()
}

fn scale_down(nodes: usize) -> String {
    let mut list = List::new();
    list.pool(nodes);
    list.nodes(nodes);
    list.running(nodes * 40, nodes, "100m", "100");
    list.finish()
}

fn estimate() -> String {
    let mut list = List::new();
    list.pending("small", 50_000, "50m", "100");
    list.pending("large", 1_000, "95m", "190");
    list.finish()
}

fn nowhere() -> String {
    let mut list = List::new();
    list.pool(200);
    list.nodes(200);
    list.pending("huge", 60_000, "1000m", "20000");
    list.finish()
}

fn lonely() -> String {
    let mut list = List::new();
    list.pool(5001);
    list.nodes(5001);
    list.running(5000 * 10, 5000, "1", "1000");
    list.lonely();
    list.finish()
}

fn large() -> List {
    let mut list = List::new();
    list.pool(5000);
    list.nodes(5000);
    list.running(150_000, 5000, "200m", "200");
    list
}

fn large_with_one() -> String {
    let mut list = large();
    list.pending("one", 1, "200m", "200");
    list.finish()
}

fn one() -> String {
    let mut list = List::new();
    list.pending("one", 1, "200m", "200");
    list.finish()
}

fn row(work: &'static str, input: Input, arguments: &'static [&'static str], most_ms: f64) -> Row {
    Row {
        work,
        input,
        arguments,
        catalogue: None,
        most_ms,
        most_ratio: None,
        expected: Expected::Anything,
        most_memory_mb: None,
    }
}

/// The whole table.
pub(crate) fn rows() -> Vec<Row> {
    use Input::{Added, Generated, Shared};
    let diverse = |work, file, arguments, most_ms, ratio| Row {
        catalogue: Some("../shared/bench/instance-types-400.json.gz"),
        most_ratio: Some(ratio),
        expected: Expected::Unplaced(0),
        ..row(work, Shared(file), arguments, most_ms)
    };
    let expecting = |expected, row| Row { expected, ..row };
    vec![
        diverse("diverse-5000", "diverse-5000.json.gz", &[], 58.0, 1.08),
        diverse("diverse-5000, searching on", "diverse-5000.json.gz", LONG_SEARCH, 1000.0, 1.04),
        diverse("diverse-1000", "diverse-1000.json.gz", &[], 10.0, 1.08),
        diverse("diverse-1000, searching on", "diverse-1000.json.gz", LONG_SEARCH, 1000.0, 1.04),
        Row {
            catalogue: Some("../shared/bench/instance-types-400.json.gz"),
            expected: Expected::Unplaced(0),
            ..row("4,000 pods with preferences", Generated(|| generate::preferring(4_000)), &[], 100.0)
        },
        expecting(
            Expected::NodesAtMost(200),
            row("scale-up, 200 nodes / 10,000 pods", Generated(|| scale_up(200)), NO_LIMITS, 5.0),
        ),
        expecting(
            Expected::NodesAtMost(5000),
            row("scale-up, 5,000 nodes / 250,000 pods", Generated(|| scale_up(5000)), NO_LIMITS, 100.0),
        ),
        expecting(
            Expected::Removals(240),
            row("scale-down, 400 nodes / 16,000 pods", Generated(|| scale_down(400)), REMOVE_ALL, 10.0),
        ),
        expecting(
            Expected::Removals(3000),
            row("scale-down, 5,000 nodes / 200,000 pods", Generated(|| scale_down(5000)), REMOVE_ALL, 250.0),
        ),
        expecting(
            Expected::NodesAtMost(2595),
            row("estimate, 51,000 pods", Generated(estimate), ESTIMATE, 5.0),
        ),
        expecting(
            Expected::Unplaced(60_000),
            row("60,000 pods that fit nowhere, 200 nodes", Generated(nowhere), NO_LIMITS, 5.0),
        ),
        expecting(
            Expected::OnExisting(1),
            row("anti-affinity pod, 5,000 full nodes and one", Generated(lonely), NO_LIMITS, 6.1),
        ),
        Row {
            catalogue: Some(REAL_CATALOGUE),
            most_ratio: Some(1.08),
            ..row("real catalogue, 10,000 pods", Generated(|| generate::deployments(200, 10_000)), &[], 50.0)
        },
        Row {
            catalogue: Some(REAL_CATALOGUE),
            most_ratio: Some(1.05),
            ..row(
                "real catalogue, searching on",
                Generated(|| generate::deployments(200, 10_000)),
                LONG_SEARCH,
                1000.0,
            )
        },
        Row {
            expected: Expected::OnExisting(1),
            most_memory_mb: Some(300.0),
            ..row("one pod more, 5,000 nodes / 150,000 pods", Added(|| large().finish(), one), NO_LIMITS, 1.0)
        },
        expecting(
            Expected::OnExisting(1),
            row("the same, decided about for the first time", Generated(large_with_one), NO_LIMITS, 50.0),
        ),
    ]
}

/// The path of a shared input.
pub(crate) fn shared(file: &str) -> String {
    format!("{SHARED}/{file}")
}
