//! Recorded workloads: the pods of a trace and the machines that it ran on, as CSV.
//!
//! Owns the columns and what makes a trace unusable; making pools and pods of it is `trace::shape`'s. A pod of the
//! trace is created at its `creation_time`. Once it runs, it runs for as long as it did in the recording
//! (`deletion_time` − `scheduled_time`, or − `creation_time` where it never was scheduled) and then succeeds; a pod
//! without `deletion_time` runs on. So a pod that waits longer here than it did there ends later, not shorter.

mod shape;

pub use shape::{pod_manifest, pools_of};

use crate::SimulatorError;
use crate::input;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most pods of a trace.
pub const MOST_PODS: usize = 1_000_000;
/// Most machines of a trace.
pub const MOST_NODES: usize = 100_000;
const MOST_MILLI_CPU: u64 = 10_000_000;
const MOST_MIB: u64 = 1 << 30;
const MOST_GPUS: u64 = 1024;
/// 32 years: times are seconds from the trace's start, and dates as epoch seconds are a mistake.
const LATEST_SECOND: u64 = 1_000_000_000;

/// One recorded pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracePod {
    pub name: String,
    pub cpu_milli: u64,
    pub memory_mib: u64,
    /// Whole GPUs; a share of one is rounded up to one.
    pub gpus: u64,
    /// The recording asked for a share of a GPU.
    pub shares_gpu: bool,
    /// GPU models that will do; empty = any.
    pub gpu_models: Vec<String>,
    /// Seconds from the trace's start.
    pub created: u64,
    /// How long it runs once it runs; `None` = to the end.
    pub runs: Option<u64>,
}

/// A kind of machine, by what tells one from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineShape {
    /// GPU model; empty for machines without.
    pub model: String,
    pub cpu_milli: u64,
    pub memory_mib: u64,
    pub gpus: u64,
}

/// A whole recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub pods: Vec<TracePod>,
    /// How many machines there are of each shape; empty where no file of nodes was given.
    pub machines: BTreeMap<MachineShape, u32>,
    /// When the last pod is created or ends, in seconds from the start.
    pub last_second: u64,
}

#[derive(Deserialize)]
struct PodRow {
    name: String,
    cpu_milli: u64,
    memory_mib: u64,
    num_gpu: u64,
    gpu_milli: u64,
    gpu_spec: String,
    creation_time: u64,
    deletion_time: Option<u64>,
    scheduled_time: Option<u64>,
}

#[derive(Deserialize)]
struct NodeRow {
    sn: String,
    cpu_milli: u64,
    memory_mib: u64,
    gpu: u64,
    model: String,
}

const POD_COLUMNS: [&str; 9] = [
    "name",
    "cpu_milli",
    "memory_mib",
    "num_gpu",
    "gpu_milli",
    "gpu_spec",
    "creation_time",
    "deletion_time",
    "scheduled_time",
];
const NODE_COLUMNS: [&str; 5] = ["sn", "cpu_milli", "memory_mib", "gpu", "model"];

impl Trace {
    /// Reads both files; without `nodes` the scenario's own pools serve.
    pub fn read(pods: &Path, nodes: Option<&Path>) -> Result<Self, SimulatorError> {
        let text = input::read_text(pods, input::MOST_TRACE_BYTES)?;
        let pods = parse_pods(&pods.display().to_string(), &text)?;
        let machines = match nodes {
            Some(path) => {
                let text = input::read_text(path, input::MOST_TRACE_BYTES)?;
                parse_nodes(&path.display().to_string(), &text)?
            }
            None => BTreeMap::new(),
        };
        let last_second =
            pods.iter().map(|pod| pod.created.saturating_add(pod.runs.unwrap_or(0))).max().unwrap_or(0);
        Ok(Self { pods, machines, last_second })
    }

    pub fn machine_count(&self) -> u64 {
        self.machines.values().map(|count| u64::from(*count)).sum()
    }
}

/// The rows of a CSV text with their line numbers, once its header has been found complete.
fn rows<T: serde::de::DeserializeOwned>(
    file: &str,
    text: &str,
    columns: &[&str],
    most: usize,
) -> Result<Vec<(u64, T)>, SimulatorError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| line_error(file, 1, &error))?.clone();
    let missing: Vec<&str> =
        columns.iter().copied().filter(|column| !headers.iter().any(|h| h == *column)).collect();
    if !missing.is_empty() {
        let problem = format!(
            "the header has no column {}: the first line must name {}",
            missing.join(", "),
            columns.join(",")
        );
        return Err(SimulatorError::Line { file: file.to_owned(), line: 1, problem });
    }
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(rows),
            Ok(true) => {}
            Err(error) => return Err(line_error(file, reader.position().line(), &error)),
        }
        let line = record.position().map_or(0, csv::Position::line);
        if rows.len() == most {
            let problem = format!("more than {most} rows: split the file");
            return Err(SimulatorError::Line { file: file.to_owned(), line, problem });
        }
        rows.push((
            line,
            record.deserialize(Some(&headers)).map_err(|error| line_error(file, line, &error))?,
        ));
    }
}

fn line_error(file: &str, line: u64, error: &csv::Error) -> SimulatorError {
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "{len} fields where the header has {expected_len}: the file is cut off here, or the line is damaged"
        ),
        csv::ErrorKind::Deserialize { err, .. } => {
            let field = err
                .field()
                .and_then(|at| usize::try_from(at).ok())
                .map_or(String::new(), |at| format!("column {}: ", at + 1));
            format!("{field}{}: write a whole number that is not negative", err.kind())
        }
        _ => error.to_string(),
    };
    SimulatorError::Line { file: file.to_owned(), line, problem }
}

/// Reads the pods' CSV; `file` is only for messages.
pub fn parse_pods(file: &str, text: &str) -> Result<Vec<TracePod>, SimulatorError> {
    let mut pods = Vec::new();
    let mut names = BTreeSet::new();
    let mut before = 0;
    for (line, row) in rows::<PodRow>(file, text, &POD_COLUMNS, MOST_PODS)? {
        let problem = pod_problem(&row, before).or_else(|| {
            (!names.insert(row.name.clone()))
                .then(|| format!("pod {} was there before: names must be unique", row.name))
        });
        if let Some(problem) = problem {
            return Err(SimulatorError::Line { file: file.to_owned(), line, problem });
        }
        before = row.creation_time;
        pods.push(trace_pod(row));
    }
    if pods.is_empty() {
        let problem = "no pods after the header: nothing to simulate".to_owned();
        return Err(SimulatorError::Trace { file: file.to_owned(), problem });
    }
    Ok(pods)
}

fn pod_problem(row: &PodRow, before: u64) -> Option<String> {
    let created = row.creation_time;
    if !is_object_name(&row.name) {
        return Some(format!(
            "name \"{}\" is not a Kubernetes name: lower-case letters, digits and -",
            row.name
        ));
    }
    if created < before {
        return Some(format!(
            "time runs backwards: creation_time {created} after {before} on a line above; sort by creation_time"
        ));
    }
    if let Some(deleted) = row.deletion_time
        && deleted < created
    {
        return Some(format!("deletion_time {deleted} is before creation_time {created}"));
    }
    if let Some(scheduled) = row.scheduled_time
        && (scheduled < created || row.deletion_time.is_some_and(|deleted| scheduled > deleted))
    {
        return Some(format!("scheduled_time {scheduled} is not between creation_time and deletion_time"));
    }
    if created.max(row.deletion_time.unwrap_or(0)) > LATEST_SECOND {
        return Some(format!("times are seconds from the trace's start, at most {LATEST_SECOND}"));
    }
    if row.gpu_milli > 1000 || (row.num_gpu == 0 && row.gpu_milli > 0) {
        return Some(format!(
            "gpu_milli {} with num_gpu {}: gpu_milli is the share of each GPU, at most 1000",
            row.gpu_milli, row.num_gpu
        ));
    }
    absurd(row.cpu_milli, row.memory_mib, row.num_gpu)
}

fn absurd(cpu_milli: u64, memory_mib: u64, gpus: u64) -> Option<String> {
    if cpu_milli > MOST_MILLI_CPU {
        return Some(format!("cpu_milli {cpu_milli} is absurd: at most {MOST_MILLI_CPU}"));
    }
    if memory_mib > MOST_MIB {
        return Some(format!("memory_mib {memory_mib} is absurd: at most {MOST_MIB}"));
    }
    (gpus > MOST_GPUS).then(|| format!("{gpus} GPUs are absurd: at most {MOST_GPUS}"))
}

fn trace_pod(row: PodRow) -> TracePod {
    let began = row.scheduled_time.unwrap_or(row.creation_time);
    TracePod {
        name: row.name,
        cpu_milli: row.cpu_milli,
        memory_mib: row.memory_mib,
        gpus: row.num_gpu,
        shares_gpu: row.num_gpu > 0 && row.gpu_milli < 1000,
        gpu_models: row
            .gpu_spec
            .split('|')
            .map(str::trim)
            .filter(|model| !model.is_empty())
            .map(str::to_owned)
            .collect(),
        created: row.creation_time,
        runs: row.deletion_time.map(|deleted| deleted - began),
    }
}

/// Reads the nodes' CSV into a count for each shape.
pub fn parse_nodes(file: &str, text: &str) -> Result<BTreeMap<MachineShape, u32>, SimulatorError> {
    let mut machines = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (line, row) in rows::<NodeRow>(file, text, &NODE_COLUMNS, MOST_NODES)? {
        let problem = if !names.insert(row.sn.clone()) {
            Some(format!("node {} was there before: names must be unique", row.sn))
        } else if row.cpu_milli == 0 || row.memory_mib == 0 {
            Some("a machine without cpu or memory holds nothing: correct or drop the line".to_owned())
        } else if (row.gpu == 0) != row.model.is_empty() {
            Some(format!("{} GPUs of model \"{}\": give both or neither", row.gpu, row.model))
        } else {
            absurd(row.cpu_milli, row.memory_mib, row.gpu)
        };
        if let Some(problem) = problem {
            return Err(SimulatorError::Line { file: file.to_owned(), line, problem });
        }
        let shape = MachineShape {
            model: row.model,
            cpu_milli: row.cpu_milli,
            memory_mib: row.memory_mib,
            gpus: row.gpu,
        };
        *machines.entry(shape).or_insert(0) += 1;
    }
    if machines.is_empty() {
        let problem = "no nodes after the header: no pool can be made of it".to_owned();
        return Err(SimulatorError::Trace { file: file.to_owned(), problem });
    }
    Ok(machines)
}

/// Whether `name` can be an object's `metadata.name`.
pub(crate) fn is_object_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 253
        && name.chars().all(inner)
        && edge(name.chars().next())
        && edge(name.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n";

    fn problem(rows: &str) -> String {
        parse_pods("pods.csv", &format!("{HEAD}{rows}")).unwrap_err().to_string()
    }

    #[test]
    fn a_pod_lives_for_as_long_as_it_ran() {
        let rows = "a,12000,16384,1,460,V100M16|V100M32,LS,Running,0,100,40\nb,1000,1024,0,0,,BE,Pending,5,65,\nc,1,1,2,1000,,LS,Running,7,,9\n";
        let pods = parse_pods("pods.csv", &format!("{HEAD}{rows}")).unwrap();
        assert_eq!(pods[0].runs, Some(60));
        assert!(pods[0].shares_gpu);
        assert_eq!(pods[0].gpu_models, ["V100M16", "V100M32"]);
        assert_eq!((pods[1].runs, pods[1].gpus), (Some(60), 0));
        assert_eq!((pods[2].runs, pods[2].shares_gpu), (None, false));
    }

    #[test]
    fn bad_pods_are_refused_with_their_line() {
        for (rows, says) in [
            (
                "a,1,1,0,0,,LS,Running,10,20,10\nb,1,1,0,0,,LS,Running,9,20,10\n",
                "line 3: time runs backwards",
            ),
            ("a,1,1,0,0,,LS,Running,10,9,\n", "line 2: deletion_time 9 is before creation_time 10"),
            ("a,1,1,0,0,,LS,Running,10,20,21\n", "scheduled_time 21 is not between"),
            ("a,1,1,0,0,,LS,Run", "line 2: 8 fields where the header has 11"),
            ("a,-1,1,0,0,,LS,Running,10,20,10\n", "column 2"),
            ("a,1,1,0,0,,LS,Running,1,2,1\na,1,1,0,0,,LS,Running,1,2,1\n", "names must be unique"),
            ("a,99999999999,1,0,0,,LS,Running,1,2,1\n", "cpu_milli 99999999999 is absurd"),
            ("a,1,1,1,4000,,LS,Running,1,2,1\n", "gpu_milli 4000"),
            ("a/b,1,1,0,0,,LS,Running,1,2,1\n", "not a Kubernetes name"),
            ("", "no pods after the header"),
        ] {
            let problem = problem(rows);
            assert!(problem.contains(says), "{rows:?}: {problem}");
        }
        let error = parse_pods("pods.csv", "name,cpu_milli\na,1\n").unwrap_err().to_string();
        assert!(error.contains("no column memory_mib, num_gpu"), "{error}");
    }

    #[test]
    fn machines_are_counted_by_shape() {
        let text =
            "sn,cpu_milli,memory_mib,gpu,model\nn1,32000,65536,0,\nn2,32000,65536,0,\nn3,96000,393216,8,G2\n";
        let machines = parse_nodes("nodes.csv", text).unwrap();
        assert_eq!(machines.values().copied().collect::<Vec<_>>(), [2, 1]);
        for (row, says) in [
            ("n1,0,1,0,\n", "holds nothing"),
            ("n1,1,1,2,\n", "give both or neither"),
            ("n1,1,1,0,\nn1,1,1,0,\n", "unique"),
        ] {
            let text = format!("sn,cpu_milli,memory_mib,gpu,model\n{row}");
            let error = parse_nodes("nodes.csv", &text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
