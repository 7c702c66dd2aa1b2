//! `tideline doctor`: says what stands in the way of an autoscaler on a cluster, and how to put it right.
//!
//! Owns the flags and the table; the checks are the installation crate's.

use super::{client, print, runtime};
use crate::error::CommandError;
use clap::ValueEnum;
use clock::Clock;
use installation::doctor::{Finding, Level, examine, gather};
use installation::{Feature, Scope};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Checks a cluster before and after installation; changes nothing.
///
/// Looks for rights that the service account lacks, other autoscalers, budgets and pods that hold nodes forever, pools
/// that cannot grow again, and clocks that differ. Each finding names its fix. Ends with 1 where there is a problem.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kubeconfig of the cluster [default: KUBECONFIG, else the cluster around us]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace that Tideline runs in, or will
    #[arg(long, default_value = "kube-system")]
    namespace: String,
    /// What is used, and so which rights are needed; may be repeated [default: everything]
    #[arg(long = "feature", value_name = "FEATURE")]
    features: Vec<Feature>,
    /// Check for an installation that only looks (--dry-run of the controller)
    #[arg(long)]
    dry_run: bool,
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let scope = Scope::of(&arguments.features, arguments.dry_run);
    let findings = runtime()?.block_on(async {
        let client = client(arguments.kubeconfig.as_deref()).await?;
        let clock = Clock::system();
        let facts = gather(&client, &arguments.namespace, &scope, || clock.now()).await;
        let facts = facts.map_err(|source| CommandError::Api {
            attempted: "ask the API server for its version".into(),
            source: Box::new(source),
        })?;
        Ok::<_, CommandError>(examine(&facts))
    })?;
    match arguments.output {
        Output::Table => print(&text(&findings))?,
        Output::Json => {
            let text = serde_json::to_string_pretty(&findings).map_err(|error| CommandError::Encode {
                what: "the findings".into(),
                why: error.to_string(),
            })?;
            print(&(text + "\n"))?;
        }
    }
    match findings.iter().filter(|finding| finding.level == Level::Problem).count() {
        0 => Ok(()),
        problems => {
            Err(CommandError::Input(format!("{problems} problems; each is named above with its fix")))
        }
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Problem => "PROBLEM",
            Level::Warning => "warning",
            Level::Ok => "ok",
        };
        let _ = writeln!(text, "{level:8} {:12} {}", finding.check, finding.what);
        if !finding.fix.is_empty() {
            let _ = writeln!(text, "{:21} -> {}", "", finding.fix);
        }
    }
    text
}
