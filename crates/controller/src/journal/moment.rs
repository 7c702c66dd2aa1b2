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
use model::{Change, Cluster, Ledger, Plan, Policies, Step, Verdicts};
use std::collections::VecDeque;
use std::path::Path;

/// Decisions that are remembered.
const MOST_DECISIONS: usize = 2000;

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
    let mut reached: Option<Reached> = None;
    for file in files(path)? {
        let mut reader = records(&file)?;
        if !read(&mut *reader, until, decide, &mut reached) {
            break;
        }
    }
    reached.filter(|reached| reached.round > 0).ok_or_else(|| ControllerError::Journal {
        path: path.display().to_string(),
        problem: match until {
            Some(until) => format!("it holds no round up to {until}; ask for a later time"),
            None => "it holds no round yet".to_owned(),
        },
    })
}

/// False: the moment is reached.
fn read(
    reader: &mut dyn std::io::BufRead,
    until: Option<Timestamp>,
    decide: Decide,
    reached: &mut Option<Reached>,
) -> bool {
    loop {
        match next(reader) {
            Next::End | Next::Unfinished => return true,
            Next::Damaged(why) => {
                if let Some(reached) = reached {
                    reached.damage = Some(why);
                }
                return true;
            }
            Next::Record(Record::Checkpoint(checkpoint)) => {
                if until.is_some_and(|until| checkpoint.at > until) {
                    return false;
                }
                let (round, decisions) =
                    reached.take().map_or((0, VecDeque::new()), |before| (before.round, before.decisions));
                let Checkpoint { cluster, ledger, policies, verdicts, at, .. } = *checkpoint;
                *reached = Some(Reached {
                    cluster: cluster.reindexed(),
                    policies,
                    ledger,
                    verdicts,
                    now: at,
                    round,
                    decisions,
                    damage: None,
                });
            }
            Next::Record(Record::Round(round)) => {
                let Some(reached) = reached else { return true };
                if until.is_some_and(|until| round.now > until) {
                    return false;
                }
                reached.take_round(*round, decide);
            }
        }
    }
}

impl Reached {
    fn take_round(&mut self, round: RoundRecord, decide: Decide) {
        for change in round.changes {
            if let Change::Outcome(outcome) = &change
                && let Some((_, view)) = self.decisions.iter_mut().find(|(step, _)| *step == outcome.step)
            {
                view.reason = Some(outcome_sentence(outcome));
            }
            self.cluster.apply(change);
        }
        let decision = decide(&self.cluster, &self.policies, &self.ledger, round.now);
        self.note(&decision.rehearsed, round.now, round.number, "dry run, would: ");
        if round.adopted {
            self.note(&round.plan, round.now, round.number, "");
            self.ledger = decision.ledger;
            self.verdicts = decision.verdicts;
            self.cluster.forget_outcomes();
        }
        self.now = round.now;
        self.round = round.number;
    }

    fn note(&mut self, plan: &Plan, at: Timestamp, round: u64, before: &str) {
        for step in &plan.steps {
            let intent = step.intent().to_string();
            let what = format!("{before}{}", sentence(&self.cluster, step));
            // A rehearsal repeats itself until something changes; it is told once.
            if !before.is_empty() && self.decisions.iter().any(|(_, known)| known.what == what) {
                continue;
            }
            self.decisions.truncate(MOST_DECISIONS - 1);
            let view = DecisionView { at, round, intent, what, reason: None };
            self.decisions.push_front((step.clone(), view));
        }
    }
}
