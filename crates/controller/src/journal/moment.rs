//! A moment of a journal: everything that was known then, and what had been decided up to it.
//!
//! Owns how far a journal is read. Rounds are decided again, as in a replay, because the ledger between two checkpoints
//! is not recorded; what has happened before the last checkpoint is taken from the records as it stands there.

use super::replay::{Next, files, next, records};
use super::{Checkpoint, Record, RoundRecord};
use crate::ControllerError;
use crate::explain::Moment;
use crate::start::Decide;
use crate::view::{self, DecisionView, StateView};
use crate::wording::{outcome_sentence, sentence};
use jiff::Timestamp;
use model::{Change, Cluster, Growth, Ledger, Plan, Policies, Step, Verdicts};
use serde::Serialize;
use std::collections::VecDeque;
use std::path::Path;

/// Decisions that are remembered.
const MOST_DECISIONS: usize = 2000;
/// Samples of the history.
const MOST_SAMPLES: usize = 1200;

/// The cluster's size after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    pub at: Timestamp,
    /// Nodes that are ready.
    pub ready: usize,
    /// Machines that pools are asked for.
    pub wanted: u64,
    /// Pods without a node.
    pub waiting: usize,
}

/// What was known at a moment of a journal.
#[derive(Clone, Debug)]
pub struct Reached {
    pub cluster: Cluster,
    pub policies: Policies,
    pub ledger: Ledger,
    pub verdicts: Verdicts,
    /// When the last round before the moment was decided.
    pub now: Timestamp,
    /// Number of that round.
    pub round: u64,
    /// The newest first.
    pub decisions: VecDeque<(Step, DecisionView)>,
    /// Sizes over time, the oldest first, thinned out evenly where there were many rounds.
    pub history: Vec<Sample>,
    /// Why it was read no further, where a record is damaged.
    pub damage: Option<String>,
}

impl Reached {
    /// As the page shows it.
    pub fn state(&self) -> StateView {
        StateView {
            rounds: self.round,
            dry_run: self.policies.dry_run,
            decisions: self.decisions.iter().map(|(_, view)| view.clone()).collect(),
            ..view::state(&self.cluster, &self.verdicts, Some(&self.ledger), self.now)
        }
    }

    /// As [`crate::explain`] takes it.
    pub fn moment(&mut self) -> Moment<'_> {
        Moment {
            cluster: &self.cluster,
            verdicts: &self.verdicts,
            ledger: Some(&self.ledger),
            now: self.now,
            decisions: self.decisions.make_contiguous(),
        }
    }
}

/// Reads a journal up to a moment, or to its end.
///
/// # Errors
/// Where no file of it can be read, or it holds no round up to then.
pub fn moment(path: &Path, until: Option<Timestamp>, decide: Decide) -> Result<Reached, ControllerError> {
    walk(path, until, decide, &mut |_, _| {})
}

/// Reads a journal and shows each round that was decided again, with what was only rehearsed in it.
pub(super) fn walk(
    path: &Path,
    until: Option<Timestamp>,
    decide: Decide,
    watch: &mut dyn FnMut(&Reached, &Plan),
) -> Result<Reached, ControllerError> {
    let (mut reached, mut damage) = (None::<Reached>, None);
    for file in files(path)? {
        let mut reader = records(&file)?;
        match read(&mut *reader, until, decide, &mut reached, watch) {
            Read::Whole => {}
            Read::UpToTheMoment => break,
            Read::Damaged(why) => damage = Some(format!("{}: {why}", file.display())),
        }
    }
    if let Some(reached) = &mut reached {
        reached.damage.clone_from(&damage);
    }
    reached.filter(|reached| reached.round > 0).ok_or_else(|| ControllerError::Journal {
        path: path.display().to_string(),
        problem: match (damage, until) {
            (Some(why), _) => format!("it cannot be read: {why}"),
            (None, Some(until)) => format!("it holds no round up to {until}; ask for a later time"),
            (None, None) => "it holds no round yet".to_owned(),
        },
    })
}

/// How far a file was read.
enum Read {
    Whole,
    UpToTheMoment,
    Damaged(String),
}

fn read(
    reader: &mut dyn std::io::BufRead,
    until: Option<Timestamp>,
    decide: Decide,
    reached: &mut Option<Reached>,
    watch: &mut dyn FnMut(&Reached, &Plan),
) -> Read {
    loop {
        match next(reader) {
            Next::End | Next::Unfinished => return Read::Whole,
            Next::Damaged(why) => return Read::Damaged(why),
            Next::Record(Record::Checkpoint(checkpoint)) => {
                if until.is_some_and(|until| checkpoint.at > until) {
                    return Read::UpToTheMoment;
                }
                let before = reached.take();
                let (round, decisions, history) = before
                    .map_or_else(Default::default, |before| (before.round, before.decisions, before.history));
                let Checkpoint { cluster, ledger, policies, verdicts, at, .. } = *checkpoint;
                *reached = Some(Reached {
                    cluster: cluster.reindexed(),
                    policies,
                    ledger,
                    verdicts,
                    now: at,
                    round,
                    decisions,
                    history,
                    damage: None,
                });
            }
            Next::Record(Record::Round(round)) => {
                let Some(reached) = reached else {
                    return Read::Damaged("a round before any checkpoint".into());
                };
                if until.is_some_and(|until| round.now > until) {
                    return Read::UpToTheMoment;
                }
                let rehearsed = reached.take_round(*round, decide);
                watch(reached, &rehearsed);
            }
        }
    }
}

impl Reached {
    /// What was only rehearsed.
    fn take_round(&mut self, round: RoundRecord, decide: Decide) -> Plan {
        for change in round.changes {
            if let Change::Outcome(outcome) = &change
                && let Some((_, view)) = self.decisions.iter_mut().find(|(step, _)| *step == outcome.step)
            {
                view.reason = Some(outcome_sentence(outcome));
            }
            self.cluster.apply(change);
        }
        let decision = decide(&self.cluster, &self.policies, &self.ledger, round.now);
        let at = (round.now, round.number);
        self.note(&decision.rehearsed, &decision.growth, at, "dry run, would: ");
        if round.adopted {
            self.note(&round.plan, &decision.growth, at, "");
            self.ledger = decision.ledger;
            self.verdicts = decision.verdicts;
            self.cluster.forget_outcomes();
        }
        self.history.push(Sample {
            at: round.now,
            ready: self.cluster.nodes().values().filter(|node| node.is_ready()).count(),
            wanted: self.cluster.pools().values().map(|pool| u64::from(pool.target)).sum(),
            waiting: self.cluster.waiting_pods().count(),
        });
        if self.history.len() > MOST_SAMPLES {
            let mut keep = false;
            self.history.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.now = round.now;
        self.round = round.number;
        decision.rehearsed
    }

    fn note(&mut self, plan: &Plan, growth: &Growth, (at, round): (Timestamp, u64), before: &str) {
        for step in &plan.steps {
            let intent = step.intent().to_string();
            let what = format!("{before}{}", sentence(&self.cluster, step));
            // A rehearsal repeats itself until something changes; it is told once.
            if !before.is_empty() && self.decisions.iter().any(|(_, known)| known.what == what) {
                continue;
            }
            self.decisions.truncate(MOST_DECISIONS - 1);
            let others = view::others(&self.cluster, step, growth);
            let view = DecisionView { at, round, intent, what, reason: None, others };
            self.decisions.push_front((step.clone(), view));
        }
    }
}
