//! The record of rounds: enough to decide each of them again and to see that the answer is the same.
//!
//! Owns the records and their recorder. Where they lie is `sink`'s business, deciding them again `replay`'s. A
//! record is one line of JSON that carries its own digest, so that damage is noticed at the line where it is.

mod comparison;
mod moment;
mod replay;
mod sink;

pub use comparison::{Comparison, Deed, Doer, Episode, compare};
pub use moment::{Reached, Sample, moment};
pub use replay::{Difference, ReplayReport, open, replay};
pub use sink::{DirectorySink, MemorySink, Sink};

use crate::ControllerError;
use crate::ledger_store::digest;
use crate::start::Round;
use jiff::Timestamp;
use model::{Change, Cluster, Decision, Ledger, Plan, Policies, Reason, Verdicts};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Form of the records; a reader refuses others.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub enum Record {
    Checkpoint(Box<Checkpoint>),
    Round(Box<RoundRecord>),
}

/// Begins a segment: all that was known when its first round was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    pub version: u32,
    pub at: Timestamp,
    pub cluster: Cluster,
    pub ledger: Ledger,
    pub policies: Policies,
    pub verdicts: Verdicts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoundRecord {
    pub number: u64,
    pub now: Timestamp,
    /// What was heard since the record before.
    pub changes: Vec<Change>,
    /// Whether the decision became durable and was acted on.
    pub adopted: bool,
    pub plan: Plan,
    pub wake_at: Option<Timestamp>,
    /// SHA-256 over the whole decision: plan, ledger, verdicts, wake-up.
    pub decision: String,
    pub changed: ChangedVerdicts,
}

/// Verdicts that differ from those of the round before; `None` = there is none any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangedVerdicts {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pods: BTreeMap<String, Option<Reason>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, Option<Reason>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, Option<Reason>>,
}

impl ChangedVerdicts {
    fn between(before: &Verdicts, after: &Verdicts) -> Self {
        fn diff<K: Ord + ToString>(
            before: &BTreeMap<K, Reason>,
            after: &BTreeMap<K, Reason>,
        ) -> BTreeMap<String, Option<Reason>> {
            let new = after
                .iter()
                .filter(|(key, reason)| before.get(key) != Some(reason))
                .map(|(key, reason)| (key.to_string(), Some(reason.clone())));
            let gone =
                before.keys().filter(|key| !after.contains_key(key)).map(|key| (key.to_string(), None));
            new.chain(gone).collect()
        }
        Self {
            pods: diff(&before.pods, &after.pods),
            nodes: diff(&before.nodes, &after.nodes),
            pools: diff(&before.pools, &after.pools),
        }
    }
}

/// SHA-256 of a decision, by which replays are compared.
pub fn decision_digest(decision: &Decision) -> Result<String, ControllerError> {
    serde_json::to_string(decision).map(|text| digest(&text)).map_err(|error| unwritable(&error))
}

fn unwritable(error: &serde_json::Error) -> ControllerError {
    ControllerError::Journal { path: "record".into(), problem: error.to_string() }
}

/// Writes rounds down.
pub struct Recorder {
    sink: Box<dyn Sink>,
    /// Reported once and then silent until a write works again.
    failing: bool,
    /// Of the last checkpoint: rounds after a change of policies begin with a new one.
    policies: Option<model::Policies>,
}

impl Recorder {
    pub fn new(sink: Box<dyn Sink>) -> Self {
        Self { sink, failing: false, policies: None }
    }

    /// Records a round; `before` are the verdicts of the last one adopted. A journal that cannot be written is reported and holds up nothing.
    pub fn record(&mut self, round: &Round<'_>, before: &Verdicts) {
        match self.write(round, before) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "the journal is not written: rounds from here on cannot be replayed");
            }
            Err(_) => {}
        }
    }

    fn write(&mut self, round: &Round<'_>, before: &Verdicts) -> Result<(), ControllerError> {
        // After a gap there are changes that nobody wrote down.
        let begins =
            self.failing || self.sink.needs_checkpoint() || self.policies.as_ref() != Some(round.policies);
        if begins {
            // The cluster has this round's changes already, so the round carries none.
            let checkpoint = Record::Checkpoint(Box::new(Checkpoint {
                version: VERSION,
                at: round.now,
                cluster: round.cluster.clone(),
                ledger: round.ledger.clone(),
                policies: round.policies.clone(),
                verdicts: before.clone(),
            }));
            self.sink.begin(round.now, &line(&checkpoint)?)?;
            self.policies = Some(round.policies.clone());
        }
        let record = Record::Round(Box::new(RoundRecord {
            number: round.number,
            now: round.now,
            changes: if begins { Vec::new() } else { round.changes.to_vec() },
            adopted: round.adopted,
            plan: round.decision.plan.clone(),
            wake_at: round.decision.wake_at,
            decision: decision_digest(round.decision)?,
            changed: ChangedVerdicts::between(before, &round.decision.verdicts),
        }));
        self.sink.append(&line(&record)?)
    }
}

/// A record as its line: the digest is over the record's own text.
fn line(record: &Record) -> Result<String, ControllerError> {
    let value = serde_json::to_value(record).map_err(|error| unwritable(&error))?;
    let sha256 = digest(&value.to_string());
    serde_json::to_string(&serde_json::json!({"sha256": sha256, "body": value}))
        .map_err(|error| unwritable(&error))
}

/// Reads a line; the error says what is wrong with it.
fn read_line(text: &str) -> Result<Record, String> {
    let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let body = value.get_mut("body").map(Value::take).ok_or("it has no body")?;
    let digest_of_body = digest(&body.to_string());
    if value.get("sha256").and_then(Value::as_str) != Some(digest_of_body.as_str()) {
        return Err("its digest does not match".to_owned());
    }
    if let Some(version) = body.get("version").and_then(Value::as_u64)
        && version != u64::from(VERSION)
    {
        return Err(format!("it is of version {version}; this program reads version {VERSION}"));
    }
    // By hand, because serde reads tagged values through a buffer that knows no maps with numbers as keys.
    let record = match body.get("record").and_then(Value::as_str) {
        Some("checkpoint") => serde_json::from_value(body).map(|read| Record::Checkpoint(Box::new(read))),
        Some("round") => serde_json::from_value(body).map(|read| Record::Round(Box::new(read))),
        other => return Err(format!("it is a record of kind {other:?}, which is not known")),
    };
    record.map_err(|error| error.to_string())
}
