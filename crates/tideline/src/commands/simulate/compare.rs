//! `tideline simulate compare`: policies beside each other on one record of traffic.
//!
//! Owns the arguments, the table, JSON and page; the little world and the policies are the simulator's.

mod pareto;

use super::super::{print, samples, write};
use crate::chart::{self, Chart, Layer, Scale};
use crate::duration;
use crate::error::CommandError;
use crate::table::Table;
use forecast::{Kind, Series};
use jiff::SignedDuration;
use serde_json::json;
use simulator::compare::{Compared, Comparison, Measure, OnMachines, PolicyKind, Row, World, usual_capacity};
use std::path::{Path, PathBuf};

/// Most of the minutes of a record that may be missing.
const MOST_MISSING: f64 = 0.05;
/// Minutes of the plot around the worst hour.
const PLOTTED: usize = 360;

/// Runs policies beside each other on a record of traffic: what each costs, and what harm it does.
///
/// The world that they act in is stated in docs/forecast-compare.md.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A CSV file (gzip or not) with two columns, a minute or an RFC 3339 time, and the requests of that minute
    #[arg(long, value_name = "FILE")]
    traffic: PathBuf,
    /// Policies to compare, all by default
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = policy)]
    policies: Vec<PolicyKind>,
    /// Requests a minute that a replica can serve; by default such that the mean needs ten replicas at a target of 0.6
    #[arg(long, value_name = "REQUESTS")]
    replica_capacity: Option<f64>,
    /// Share of a replica's capacity that policies with a target keep to
    #[arg(long, value_name = "SHARE", default_value_t = 0.6)]
    target: f64,
    /// Share of minutes in which a forecast may be too low
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    risk: f64,
    /// The same for the forecast that machines are ordered by [default: as --risk]
    #[arg(long, value_name = "SHARE")]
    machine_risk: Option<f64>,
    /// Choose both risks, anew every day: the smallest that would have cost no more than this share of what
    /// --budget-of pays over the week before
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["risk", "machine_risk"])]
    budget: Option<f64>,
    /// Whose cost the budget is a share of: `oracle`, or `hpa`
    #[arg(long, value_name = "NAME", default_value = "oracle", value_parser = measure, requires = "budget")]
    budget_of: Measure,
    /// Share of the record, at its end, that policies are tried on
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    test_share: f64,
    /// From ordering a replica to its serving, on a machine that is there, in whole minutes
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration::wait)]
    start_up: SignedDuration,
    /// From ordering a machine to its being there, in whole minutes
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration::wait)]
    machine_start_up: SignedDuration,
    /// How long an empty machine is kept, in whole minutes
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::wait)]
    keep_empty: SignedDuration,
    /// Replicas that fit on a machine
    #[arg(long, value_name = "N", default_value_t = 8)]
    replicas_per_machine: usize,
    /// Most replicas
    #[arg(long, value_name = "N", default_value_t = 200)]
    most_replicas: usize,
    /// Price of a machine an hour
    #[arg(long, value_name = "PRICE", default_value_t = 0.0)]
    machine_price: f64,
    /// Also run the pods of `predictive` on the machines of the embedded cluster for so many days of the tried part, with
    /// the planner following pods and with forecasts known to it; 0 = all of it. Takes a minute or two
    #[arg(long, value_name = "DAYS", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    on_machines: Option<usize>,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Write the answer as one self-contained HTML page with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
    Html,
}

/// What a comparison found, with what it was made from.
struct Found<'a> {
    file: String,
    requests: &'a [f64],
    about: &'a Comparison,
    missing: usize,
    compared: Compared,
    pareto: Vec<PolicyKind>,
    /// Without and with forecasts known to the planner.
    machines: Vec<OnMachines>,
}

/// The same pods on machines, without and with what is forecast.
fn on_machines(
    arguments: &Arguments,
    about: &Comparison,
    requests: &[f64],
) -> Result<Vec<OnMachines>, CommandError> {
    let Some(days) = arguments.on_machines else { return Ok(Vec::new()) };
    let days = (days > 0).then_some(days);
    let one = |joined| about.on_machines(requests, PolicyKind::Joined, joined, days);
    Ok(vec![one(false)?, one(true)?])
}

impl Found<'_> {
    fn machines_text(&self) -> String {
        let [reactive, joined] = &self.machines[..] else { return String::new() };
        let mut table = Table::new(&[
            "ON MACHINES",
            "PODS",
            "WAITED",
            "AT ONCE",
            "LONGEST",
            "MACHINE-MINUTES",
            "AGAINST",
            "BOUGHT",
        ]);
        for (name, one) in [("planner follows pods", reactive), ("predictive and joined", joined)] {
            let against = 100.0 * one.machine_minutes as f64 / reactive.machine_minutes.max(1) as f64;
            table.row([
                name.to_owned(),
                one.pods.to_string(),
                one.waited.to_string(),
                format!("{:.2} %", one.at_once_percent()),
                format!("{} s", one.longest_seconds),
                one.machine_minutes.to_string(),
                format!("{against:.1} %"),
                one.machines_bought.to_string(),
            ]);
        }
        format!("\n{}", table.text())
    }

    fn machines_json(&self) -> Vec<serde_json::Value> {
        let one = |one: &OnMachines| {
            json!({
                "joined": one.joined, "pods": one.pods, "waited": one.waited,
                "atOncePercent": one.at_once_percent(), "waitedSeconds": one.waited_seconds,
                "longestSeconds": one.longest_seconds, "machineMinutes": one.machine_minutes,
                "machinesBought": one.machines_bought, "invariantViolations": one.violations,
            })
        };
        self.machines.iter().map(one).collect()
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let file = arguments.traffic.display().to_string();
    let (requests, missing) = read(&arguments.traffic)?;
    let about = comparison(arguments, &requests)?;
    let compared = about.run(&requests).map_err(|error| CommandError::Input(format!("{file}: {error}")))?;
    let pareto = compared.pareto();
    let machines = on_machines(arguments, &about, &requests)?;
    let found = Found { machines, file, requests: &requests, about: &about, missing, compared, pareto };
    if let Some(path) = &arguments.report {
        write(path, &found.html())?;
    }
    print(&match arguments.output {
        Output::Table => found.text(),
        Output::Json => format!("{:#}\n", found.json()),
        Output::Html => found.html(),
    })
}

fn measure(text: &str) -> Result<Measure, String> {
    Measure::ALL
        .into_iter()
        .find(|measure| measure.name() == text)
        .ok_or_else(|| "nobody's cost is known by that name; give oracle or hpa".to_owned())
}

fn policy(text: &str) -> Result<PolicyKind, String> {
    PolicyKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let names: Vec<&str> = PolicyKind::ALL.into_iter().map(PolicyKind::name).collect();
        format!("no policy is called so; give some of {}", names.join(", "))
    })
}

/// Requests by minute; what is missing stays as the minute before, and is counted.
fn read(path: &Path) -> Result<(Vec<f64>, usize), CommandError> {
    let wrong = |what: String| CommandError::Input(format!("{}: {what}", path.display()));
    let series =
        Series::of(&samples::read(path)?, 60, Kind::Gauge).map_err(|error| wrong(error.to_string()))?;
    let mut last = series.values.iter().copied().find(|value| value.is_finite()).unwrap_or(0.0);
    let mut missing = 0;
    let requests: Vec<f64> = series
        .values
        .iter()
        .map(|value| {
            if value.is_finite() {
                last = *value;
            } else {
                missing += 1;
            }
            f64::from(last)
        })
        .collect();
    if missing as f64 > MOST_MISSING * requests.len() as f64 {
        return Err(wrong(format!(
            "{missing} of {} minutes are missing, more than one in twenty; give requests for every minute",
            requests.len()
        )));
    }
    Ok((requests, missing))
}

fn comparison(arguments: &Arguments, requests: &[f64]) -> Result<Comparison, CommandError> {
    let minutes = |flag: &str, duration: SignedDuration| {
        let seconds = duration.as_secs();
        usize::try_from(seconds / 60).ok().filter(|_| seconds % 60 == 0).ok_or_else(|| {
            CommandError::Usage(format!("{flag}: {seconds} s are no whole minutes; give one such as 3m"))
        })
    };
    if !(0.0..1e9).contains(&arguments.machine_price) {
        return Err(CommandError::Usage("--machine-price: give a price an hour such as 0.12".into()));
    }
    let policies =
        if arguments.policies.is_empty() { PolicyKind::ALL.to_vec() } else { arguments.policies.clone() };
    Ok(Comparison {
        world: World {
            start_up_minutes: minutes("--start-up", arguments.start_up)?,
            machine_start_up_minutes: minutes("--machine-start-up", arguments.machine_start_up)?,
            replicas_per_machine: arguments.replicas_per_machine,
            keep_empty_minutes: minutes("--keep-empty", arguments.keep_empty)?,
            most_replicas: arguments.most_replicas,
        },
        replica_capacity: arguments.replica_capacity.unwrap_or_else(|| usual_capacity(requests)),
        target: arguments.target,
        test_share: arguments.test_share,
        risk: arguments.risk,
        machine_risk: arguments.machine_risk.unwrap_or(arguments.risk),
        budget: arguments.budget,
        budget_of: arguments.budget_of,
        machine_price: arguments.machine_price,
        policies,
    })
}

const HEADER: [&str; 10] = [
    "POLICY",
    "REPLICA-MIN",
    "MACHINE-MIN",
    "LOST %",
    "OVERLOADED MIN",
    "HOT MIN",
    "CHANGES",
    "WAITED FOR MACHINE",
    "USED",
    "PRICE",
];

impl Found<'_> {
    fn cells(&self, row: &Row) -> Vec<String> {
        let outcome = &row.outcome;
        let mark = if self.pareto.contains(&row.policy) { " *" } else { "" };
        let mut cells = vec![
            format!("{}{mark}", row.policy.name()),
            outcome.replica_minutes.to_string(),
            outcome.machine_minutes.to_string(),
            format!("{:.4}", 100.0 * outcome.lost_share()),
            outcome.overloaded_minutes.to_string(),
            outcome.hot_minutes.to_string(),
            outcome.changes.to_string(),
            format!("{} of {}", outcome.waited_for_machine, outcome.started),
            format!("{:.1} %", 100.0 * outcome.mean_utilization),
        ];
        if self.about.machine_price > 0.0 {
            cells.push(format!("{:.2}", self.price(row)));
        }
        cells
    }

    fn header(&self) -> &'static [&'static str] {
        if self.about.machine_price > 0.0 { &HEADER } else { &HEADER[..HEADER.len() - 1] }
    }

    fn price(&self, row: &Row) -> f64 {
        row.outcome.machine_minutes as f64 / 60.0 * self.about.machine_price
    }

    fn about(&self) -> String {
        let missing =
            if self.missing > 0 { format!(", {} of them missing", self.missing) } else { String::new() };
        format!(
            "{} minutes{missing}; tried on {} to {}; a replica serves {:.3} requests a minute",
            self.requests.len(),
            self.compared.from,
            self.compared.to - 1,
            self.about.replica_capacity
        )
    }

    fn text(&self) -> String {
        let mut table = Table::new(self.header());
        for row in &self.compared.rows {
            table.row(self.cells(row));
        }
        let note = "* no other policy both loses less and costs less (those that know the future left out)";
        format!("{}\n\n{}\n{note}\n{}", self.about(), table.text(), self.machines_text())
    }

    fn json(&self) -> serde_json::Value {
        let rows: Vec<_> = self
            .compared
            .rows
            .iter()
            .map(|row| {
                let outcome = &row.outcome;
                json!({
                    "policy": row.policy.name(),
                    "pareto": self.pareto.contains(&row.policy),
                    "replicaMinutes": outcome.replica_minutes,
                    "machineMinutes": outcome.machine_minutes,
                    "price": self.price(row),
                    "requests": outcome.requests,
                    "requestsLost": outcome.lost,
                    "lostShare": outcome.lost_share(),
                    "overloadedMinutes": outcome.overloaded_minutes,
                    "hotMinutes": outcome.hot_minutes,
                    "changes": outcome.changes,
                    "replicasStarted": outcome.started,
                    "replicasThatWaitedForMachine": outcome.waited_for_machine,
                    "minutesWaitedForMachine": outcome.waited_minutes,
                    "meanUtilization": outcome.mean_utilization,
                })
            })
            .collect();
        json!({
            "minutes": self.requests.len(), "missing": self.missing,
            "from": self.compared.from, "to": self.compared.to,
            "replicaCapacity": self.about.replica_capacity, "target": self.about.target,
            "risk": self.about.risk, "budget": self.about.budget,
            "budgetOf": self.about.budget.map(|_| self.about.budget_of.name()), "machineRisk": self.about.machine_risk, "policies": rows,
            "onMachines": self.machines_json(),
        })
    }

    fn html(&self) -> String {
        let mut rows = vec![self.header().iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
        rows.extend(self.compared.rows.iter().map(|row| self.cells(row)));
        let points: Vec<pareto::Point> = self
            .compared
            .rows
            .iter()
            .map(|row| pareto::Point {
                name: row.policy.name(),
                cost: row.outcome.replica_minutes as f64,
                lost_percent: 100.0 * row.outcome.lost_share(),
                best: self.pareto.contains(&row.policy),
                knows_the_future: row.policy.knows_the_future(),
            })
            .collect();
        let body = format!("{}{}{}", pareto::section(&points), chart::table(&rows), self.worst_hours());
        chart::page(&format!("Policies on {}", self.file), &self.about(), &body)
    }

    /// Capacity beside traffic around the minute that the first policy which lost anything lost most in.
    fn worst_hours(&self) -> String {
        let from = self.compared.from;
        let lost = |row: &Row, at: usize| {
            self.requests[from + at] - f64::from(row.serving[at]) * self.about.replica_capacity
        };
        let Some(lossy) = self.compared.rows.iter().find(|row| row.outcome.lost > 0.0) else {
            return String::new();
        };
        let worst = (0..lossy.serving.len())
            .max_by(|one, two| lost(lossy, *one).total_cmp(&lost(lossy, *two)))
            .unwrap_or(0);
        let first = worst.saturating_sub(PLOTTED / 2);
        let minutes = first..(first + PLOTTED).min(lossy.serving.len());
        let day = |at: usize| (from + at) as f64 / 1_440.0;
        let mut layers = vec![Layer::Line {
            name: "requests a minute".into(),
            colour: "--came",
            points: minutes.clone().map(|at| (day(at), self.requests[from + at])).collect(),
        }];
        let shown = [
            (lossy.policy, "--alert"),
            (PolicyKind::Predictive, "--demand"),
            (PolicyKind::Joined, "--good"),
            (PolicyKind::HpaHeadroom, "--other"),
        ];
        for (at, (kind, colour)) in shown.into_iter().enumerate() {
            let row = self.compared.rows.iter().find(|row| row.policy == kind);
            if let Some(row) = row.filter(|row| at == 0 || row.policy != lossy.policy) {
                layers.push(Layer::Line {
                    name: format!("capacity under {}", kind.name()),
                    colour,
                    points: minutes
                        .clone()
                        .map(|at| (day(at), f64::from(row.serving[at]) * self.about.replica_capacity))
                        .collect(),
                });
            }
        }
        Chart {
            title: format!("Where {} lost most", lossy.policy.name()),
            note: "traffic beside what the replicas that were ready could serve".into(),
            x: Scale::Days,
            layers,
        }
        .section()
    }
}
