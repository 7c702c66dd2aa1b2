//! The comparison by hand: `cargo xtask fidelity`.

use clap::Parser;
use fidelity::Suite;
use std::process::ExitCode;

/// Compares the rules of crate packing with the real kube-scheduler, on random clusters.
#[derive(Parser)]
#[command(name = "cargo xtask fidelity")]
struct Arguments {
    /// Seed of the first cluster; the others follow it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clusters.
    #[arg(long, default_value_t = 60)]
    clusters: u64,
    /// Pods of each cluster.
    #[arg(long, default_value_t = 20)]
    pods: usize,
    /// Control planes at a time.
    #[arg(long, default_value_t = 2)]
    planes: usize,
    /// Pins each pod to one node of its cluster only, not to each.
    #[arg(long)]
    pin_to_one: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let asked = Arguments::parse();
    let suite = Suite {
        seed: asked.seed,
        clusters: asked.clusters,
        pods: asked.pods,
        planes: asked.planes,
        pin_to_every_node: !asked.pin_to_one,
    };
    match fidelity::run(suite).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fidelity: {error}");
            ExitCode::FAILURE
        }
    }
}
