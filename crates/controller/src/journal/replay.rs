//! Deciding recorded rounds again, and saying whether the answers are the same, byte for byte.
//!
//! A damaged or cut record ends the replay of its segment with a message; the next segment begins with a checkpoint
//! of its own and is replayed from there.

use super::sink::{problem, segments};
use super::{Record, RoundRecord, decision_digest, read_line};
use crate::ControllerError;
use crate::start::Decide;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use model::{Cluster, Ledger, Plan, Policies};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Differences that are kept; more are only counted.
const MOST_DIFFERENCES: usize = 20;
/// Longest line that is read: no checkpoint of a cluster that we can run is near it.
const LONGEST_LINE: u64 = 1 << 30;

/// A round that was decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    pub round: u64,
    pub now: Timestamp,
    pub recorded: Plan,
    pub decided: Plan,
    /// The plan is the same; the ledger, the verdicts or the wake-up differ.
    pub same_plan: bool,
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    pub checkpoints: u64,
    pub rounds: u64,
    pub same: u64,
    pub steps: u64,
    pub differences: Vec<Difference>,
    /// Records that could not be read, with where and why.
    pub damage: Vec<String>,
    /// Files without an end: still being written, or cut off between two records.
    pub unfinished: u64,
}

impl ReplayReport {
    pub fn is_same(&self) -> bool {
        self.same == self.rounds
    }
}

struct State {
    cluster: Cluster,
    ledger: Ledger,
    policies: Policies,
}

/// What comes next in a stream of records.
pub(super) enum Next {
    Record(Record),
    End,
    /// The end, between two records, of a file that is not closed: a controller may still be writing there.
    Unfinished,
    Damaged(String),
}

pub(super) fn next(reader: &mut dyn BufRead) -> Next {
    let mut bytes = Vec::new();
    match reader.take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
        Ok(0) => return Next::End,
        Err(error) if bytes.is_empty() && error.kind() == ErrorKind::UnexpectedEof => {
            return Next::Unfinished;
        }
        Ok(_) if !bytes.ends_with(b"\n") => return Next::Damaged("it is cut off".to_owned()),
        Ok(_) => {}
        // What was written before the cut is read; the cut itself ends the stream.
        Err(error) => return Next::Damaged(format!("the file is cut off or damaged here ({error})")),
    }
    let record =
        String::from_utf8(bytes).map_err(|error| error.to_string()).and_then(|text| read_line(&text));
    record.map_or_else(Next::Damaged, Next::Record)
}

/// Decides the rounds of one stream of records again.
pub fn replay(
    reader: &mut dyn BufRead,
    decide: Decide,
    report: &mut ReplayReport,
) -> Result<(), ControllerError> {
    let mut state: Option<State> = None;
    let mut number = 0_u64;
    loop {
        number += 1;
        match next(reader) {
            Next::End => return Ok(()),
            Next::Unfinished => {
                report.unfinished += 1;
                return Ok(());
            }
            Next::Record(Record::Checkpoint(checkpoint)) => {
                let super::Checkpoint { cluster, ledger, policies, .. } = *checkpoint;
                report.checkpoints += 1;
                state = Some(State { cluster: cluster.reindexed(), ledger, policies });
            }
            Next::Record(Record::Round(round)) => {
                let Some(state) = &mut state else {
                    report.damage.push(format!("record {number}: a round before any checkpoint"));
                    return Ok(());
                };
                decide_again(state, *round, decide, report)?;
            }
            Next::Damaged(why) => {
                report.damage.push(format!(
                    "record {number}: {why}; {} rounds before it were decided again, those after it cannot be",
                    report.rounds
                ));
                return Ok(());
            }
        }
    }
}

fn decide_again(
    state: &mut State,
    round: RoundRecord,
    decide: Decide,
    report: &mut ReplayReport,
) -> Result<(), ControllerError> {
    for change in round.changes {
        state.cluster.apply(change);
    }
    let decision = decide(&state.cluster, &state.policies, &state.ledger, round.now);
    report.rounds += 1;
    report.steps += decision.plan.steps.len() as u64;
    if decision_digest(&decision)? == round.decision {
        report.same += 1;
    } else if report.differences.len() < MOST_DIFFERENCES {
        report.differences.push(Difference {
            round: round.number,
            now: round.now,
            same_plan: decision.plan == round.plan,
            recorded: round.plan,
            decided: decision.plan.clone(),
        });
    }
    if round.adopted {
        state.ledger = decision.ledger;
        state.cluster.forget_outcomes();
    }
    Ok(())
}

/// The files of a journal: a directory's segments, or one file.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, ControllerError> {
    let files = if path.is_dir() { segments(path)? } else { vec![path.to_owned()] };
    if files.is_empty() {
        return Err(ControllerError::Journal {
            path: path.display().to_string(),
            problem: "no segment is in this directory; name the directory given as journal.directory".into(),
        });
    }
    Ok(files)
}

/// A file's records, compressed or not.
pub(super) fn records(file: &Path) -> Result<Box<dyn BufRead>, ControllerError> {
    let opened = File::open(file).map_err(|error| problem(file, "open", &error))?;
    let mut reader = BufReader::new(opened);
    let start = reader.fill_buf().map_err(|error| problem(file, "read", &error))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::new(MultiGzDecoder::new(reader))));
    }
    Ok(Box::new(reader))
}

/// Replays a segment, a directory of segments, or an uncompressed file of records.
pub fn open(path: &Path, decide: Decide) -> Result<ReplayReport, ControllerError> {
    let mut report = ReplayReport::default();
    for file in files(path)? {
        let before = report.damage.len();
        replay(&mut *records(&file)?, decide, &mut report)?;
        for note in report.damage.iter_mut().skip(before) {
            *note = format!("{}: {note}", file.display());
        }
    }
    if report.rounds == 0 && report.damage.is_empty() {
        report.damage.push(format!("{}: it holds no rounds", path.display()));
    }
    Ok(report)
}
