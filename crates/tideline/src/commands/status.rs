//! `tideline status` and `tideline top`: pools, nodes and waiting pods at a glance, once or live.
//!
//! Owns the tables. What stands in them is the controller's state, the same that the page shows.

use super::{asked_to_end, print, runtime};
use crate::error::CommandError;
use crate::source::Source;
use crate::table::Table;
use clap::ValueEnum;
use controller::{NodeState, NodeView, StateView};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Rows of waiting pods and of decisions that are printed.
const MOST_ROWS: usize = 15;

/// Shows pools, waiting pods with their reasons, and what was decided lately.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Show every node too
    #[arg(long)]
    nodes: bool,
    #[command(flatten)]
    source: Source,
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Shows what `status` shows, live in the terminal, until Ctrl-C.
#[derive(clap::Args)]
pub(crate) struct TopArguments {
    /// Show every node too
    #[arg(long)]
    nodes: bool,
    /// Seconds between two looks
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    #[command(flatten)]
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let state = arguments.source.state()?;
    match arguments.output {
        Output::Table => print(&text(&state, arguments.nodes)),
        Output::Json => {
            let text = serde_json::to_string_pretty(&state)
                .map_err(|error| CommandError::Encode { what: "the state".into(), why: error.to_string() })?;
            print(&(text + "\n"))
        }
    }
}

pub(crate) fn top(arguments: &TopArguments) -> Result<(), CommandError> {
    if arguments.source.is_journal() {
        return Err(CommandError::Usage("a journal does not change: use `tideline status --journal`".into()));
    }
    runtime()?.block_on(async {
        let mut asking = arguments.source.asking().await?;
        let mut end = std::pin::pin!(asked_to_end());
        let mut every = tokio::time::interval(Duration::from_secs(arguments.every));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                _ = every.tick() => {}
            }
            // Home, then clear to the end: no flicker.
            match asking.state().await {
                Ok(state) => print(&format!("\x1b[H\x1b[J{}", text(&state, arguments.nodes)))?,
                Err(error) => {
                    print(&format!("\x1b[H\x1b[Jno answer: {error}\n"))?;
                    // Another one may lead by now.
                    if let Ok(found) = arguments.source.asking().await {
                        asking = found;
                    }
                }
            }
        }
    })
}

fn text(state: &StateView, with_nodes: bool) -> String {
    let mut text = headline(state);
    text.push_str(&pools(state));
    if with_nodes {
        text.push('\n');
        text.push_str(&nodes(&state.nodes));
    }
    text.push_str(&pending(state));
    text.push_str(&upcoming(state));
    text.push_str(&decisions(state));
    text
}

fn headline(state: &StateView) -> String {
    let count = |wanted: NodeState| state.nodes.iter().filter(|node| node.state == wanted).count();
    let mut cost = 0_u64;
    for pool in &state.pools {
        let machines = u64::try_from(pool.machines).unwrap_or(u64::MAX);
        cost = cost.saturating_add(pool.price_micro_usd_per_hour.saturating_mul(machines));
    }
    let mut text = format!(
        "{}{} at {:.0}: nodes ready: {}, coming: {}, going: {}, not ready: {}; pods that wait: {}",
        if state.leading { "leading" } else { "standing by" },
        if state.dry_run { " (dry run: nothing is done)" } else { "" },
        state.now,
        count(NodeState::Ready),
        count(NodeState::Coming),
        count(NodeState::Going),
        count(NodeState::NotReady),
        state.pending_total
    );
    // Writing to a String does not fail.
    if cost > 0 {
        let _ = write!(text, "; {}.{:04} USD an hour", cost / 1_000_000, cost % 1_000_000 / 100);
    }
    text.push('\n');
    for line in &state.round {
        let _ = writeln!(text, "! {line}");
    }
    text.push('\n');
    text
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{}%", u128::from(part) * 100 / u128::from(whole))
}

fn pools(state: &StateView) -> String {
    let mut fills: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for node in &state.nodes {
        if let (Some(pool), NodeState::Ready | NodeState::Going) = (&node.pool, node.state) {
            let sums = fills.entry(pool).or_default();
            let parts =
                [node.requested.cpu, node.allocatable.cpu, node.requested.memory, node.allocatable.memory];
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum = sum.saturating_add(part);
            }
        }
    }
    let mut table = Table::new(&["POOL", "MACHINES", "TARGET", "MIN", "MAX", "CPU", "MEMORY", "WHY"]);
    for pool in &state.pools {
        let [cpu, cpus, memory, memories] = fills.get(pool.name.as_str()).copied().unwrap_or_default();
        table.row([
            pool.name.clone(),
            pool.machines.to_string(),
            pool.target.to_string(),
            pool.min.to_string(),
            pool.max.to_string(),
            percent(cpu, cpus),
            percent(memory, memories),
            pool.reason.clone().unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        return "no pools: see `tideline doctor`\n".to_owned();
    }
    table.text()
}

fn nodes(nodes: &[NodeView]) -> String {
    let mut table = Table::new(&["NODE", "POOL", "STATE", "PODS", "CPU", "MEMORY", "WHY"]);
    for node in nodes {
        let state = match node.state {
            NodeState::Ready => "ready",
            NodeState::Coming => "coming",
            NodeState::Going => "going",
            NodeState::NotReady => "not ready",
        };
        table.row([
            node.name.clone(),
            node.pool.clone().unwrap_or_else(|| "-".to_owned()),
            state.to_owned(),
            node.pods.to_string(),
            percent(node.requested.cpu, node.allocatable.cpu),
            percent(node.requested.memory, node.allocatable.memory),
            node.reason.clone().unwrap_or_default(),
        ]);
    }
    table.text()
}

fn pending(state: &StateView) -> String {
    if state.pending.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["WAITING POD", "SINCE", "WHY"]);
    for pod in state.pending.iter().take(MOST_ROWS) {
        table.row([pod.pod.clone(), format!("{:.0}", pod.since), pod.reason.clone()]);
    }
    let more = state.pending_total.saturating_sub(MOST_ROWS);
    let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
    format!("\n{}{more}", table.text())
}

fn upcoming(state: &StateView) -> String {
    if state.upcoming.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["NEXT", "WHAT, UNLESS SOMETHING CHANGES BEFORE"]);
    for one in state.upcoming.iter().take(MOST_ROWS) {
        table.row([moment(one.at, state.now), one.what.clone()]);
    }
    format!("\n{}", table.text())
}

/// The time of day in UTC, with the day where it is another than now.
fn moment(at: Timestamp, now: Timestamp) -> String {
    let same_day = at.strftime("%F").to_string() == now.strftime("%F").to_string();
    at.strftime(if same_day { "%H:%M:%S" } else { "%m-%d %H:%M:%S" }).to_string()
}

fn decisions(state: &StateView) -> String {
    if state.decisions.is_empty() {
        return String::new();
    }
    // What is long stands last; by its name a decision is explained.
    let mut table = Table::new(&["DECIDED", "NAME", "OUTCOME", "WHAT"]);
    for decision in state.decisions.iter().take(MOST_ROWS) {
        let outcome = decision.reason.clone().unwrap_or_else(|| "under way".to_owned());
        table.row([moment(decision.at, state.now), decision.intent.clone(), outcome, decision.what.clone()]);
    }
    format!("\n{}", table.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::{Fill, PodView, PoolView};

    #[test]
    fn a_state_reads_at_a_glance() {
        let state = StateView {
            leading: true,
            pools: vec![PoolView {
                id: "simulated/small".into(),
                name: "small".into(),
                min: 0,
                max: 10,
                target: 1,
                machines: 1,
                price_micro_usd_per_hour: 96_000,
                reason: None,
            }],
            nodes: vec![NodeView {
                name: "small-1".into(),
                pool: Some("small".into()),
                state: NodeState::Ready,
                pods: 2,
                requested: Fill { cpu: 1500, memory: 1 << 30 },
                allocatable: Fill { cpu: 2000, memory: 4 << 30 },
                reason: None,
            }],
            pending: vec![PodView {
                pod: "default/web".into(),
                since: jiff::Timestamp::UNIX_EPOCH,
                reason: "no room".into(),
            }],
            pending_total: 1,
            ..StateView::default()
        };
        let told = text(&state, true);
        assert!(
            told.starts_with(
                "leading at 1970-01-01T00:00:00Z: nodes ready: 1, coming: 0, going: 0, not ready: 0; pods that wait: 1; \
                 0.0960 USD an hour\n"
            ),
            "{told}"
        );
        assert!(told.contains("small   1          1        0     10    75%   25%"), "{told}");
        assert!(told.contains("default/web   1970-01-01T00:00:00Z   no room"), "{told}");
    }
}
