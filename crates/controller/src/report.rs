//! Telling of rounds: events, metrics, status, journal, and what the page shows.
//!
//! Owns everything that is only said and never decides. The loop calls it at the moments worth telling; nothing in
//! here waits.

use crate::capacity::{BufferStatuses, Capacity, RequestStatuses};
use crate::events::Events;
use crate::explain::{self, Moment};
use crate::http::{Answering, Question, Standing};
use crate::journal::Recorder;
use crate::metrics::{Limits, Metrics, Observed};
use crate::observe::Poison;
use crate::rule_status::RuleStatuses;
use crate::start::{Reporting, Round};
use crate::status::{StatusKeeper, StatusText};
use crate::trace::Trace;
use crate::view::{self, DecisionView};
use crate::wording::{outcome_sentence, sentence};
use crate::writer::{Write, Writer};
use crate::{Config, RoundHook};
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use model::{Change, Cluster, Ledger, Outcome, OutcomeKind, Step, Verdicts};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Decisions that are remembered for the page.
const MOST_DECISIONS: usize = 200;

pub(crate) struct Reporter {
    clock: Clock,
    limits: Limits,
    dry_run: bool,
    hooks: Vec<RoundHook>,
    recorder: Option<Recorder>,
    events: Events,
    writer: Writer,
    trace: Option<Trace>,
    pub(crate) status: StatusKeeper,
    rule_statuses: RuleStatuses,
    buffer_statuses: BufferStatuses,
    request_statuses: RequestStatuses,
    pub(crate) metrics: Metrics,
    pub(crate) answering: Answering,
    verdicts: Verdicts,
    /// The newest first.
    decisions: VecDeque<(Step, DecisionView)>,
    /// What the last round would have done and did not, in words.
    rehearsed: BTreeSet<String>,
    rounds: u64,
    last_round: Option<Timestamp>,
}

impl Reporter {
    pub(crate) fn new(
        config: &Config,
        clock: Clock,
        hooks: Vec<RoundHook>,
        recorder: Option<Recorder>,
        reporting: Reporting,
        answering: Answering,
    ) -> Self {
        let Reporting { writer, trace, counts } = reporting;
        Self {
            clock,
            limits: Limits::of(&config.policies),
            dry_run: config.policies.dry_run,
            hooks,
            recorder,
            events: Events::new(config.events, &config.namespace, &config.status.config_map),
            writer,
            trace,
            status: StatusKeeper::new(config.status.enabled, config.status.interval_seconds),
            rule_statuses: RuleStatuses::default(),
            buffer_statuses: BufferStatuses::default(),
            request_statuses: RequestStatuses::default(),
            metrics: Metrics::new(config.peer_metrics, counts),
            answering,
            verdicts: Verdicts::default(),
            decisions: VecDeque::new(),
            rehearsed: BTreeSet::new(),
            rounds: 0,
            last_round: None,
        }
    }

    /// The limits that metrics name from now on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Before a round is acted on. `waited` is the time since its first change, `decide` what deciding took.
    pub(crate) fn round(&mut self, round: &Round<'_>, waited: Option<SignedDuration>, decide: Duration) {
        self.rounds = round.number;
        self.note_success(round.adopted);
        self.last_round = Some(round.now);
        self.metrics.note_round(round.adopted, waited, decide);
        if let Some(recorder) = &mut self.recorder {
            recorder.record(round, &self.verdicts);
        }
        for hook in &mut self.hooks {
            hook(round);
        }
        if let Some(trace) = &mut self.trace {
            trace.round(round);
        }
        if !round.adopted {
            return;
        }
        let (cluster, decision) = (round.cluster, round.decision);
        self.events.tell_verdicts(&self.writer, cluster, &self.verdicts, &decision.verdicts, round.now);
        self.events.tell_steps(&self.writer, cluster, &decision.plan.steps, round.now);
        self.events.tell_ledger(&self.writer, cluster, round.ledger, &decision.ledger, round.now);
        for step in &decision.plan.steps {
            self.note_decision(round, step, sentence(cluster, step));
        }
        self.note_rehearsal(round);
        self.log_verdicts(&decision.verdicts);
        self.status.touch(round.now);
        self.answering.standing.send_modify(|standing| standing.rounds = round.number);
    }

    /// Tells the probe whether rounds are carried out.
    fn note_success(&self, adopted: bool) {
        let now = tokio::time::Instant::now();
        self.answering.standing.send_if_modified(|standing| {
            let since = if adopted { None } else { standing.failing_since.or(Some(now)) };
            let changed =
                standing.failing_since != since || standing.succeeded != (standing.succeeded || adopted);
            standing.failing_since = since;
            standing.succeeded |= adopted;
            changed
        });
    }

    /// Keeps the verdicts of the round that was adopted, to tell the next one's news from them.
    pub(crate) fn keep(&mut self, cluster: &Cluster, capacity: &Capacity, verdicts: Verdicts) {
        self.verdicts = verdicts;
        self.write_object_statuses(cluster, capacity);
    }

    /// When a status may be written that has to be.
    pub(crate) fn status_due(&self) -> Option<Timestamp> {
        let of_headroom = self.buffer_statuses.due().into_iter().chain(self.request_statuses.due());
        let of_objects = self.rule_statuses.due().into_iter().chain(of_headroom);
        self.status.due().into_iter().chain(of_objects).min()
    }

    /// Says in the objects of node rules and of headroom what became of them. A dry run changes nothing in the cluster, so not this.
    pub(crate) fn write_object_statuses(&mut self, cluster: &Cluster, capacity: &Capacity) {
        if self.dry_run {
            return;
        }
        for write in self.rule_statuses.news(cluster, &self.verdicts, self.clock.now()) {
            self.writer.offer(Write::RuleStatus(write));
        }
        let now = self.clock.now();
        let of_buffers = self.buffer_statuses.news(capacity, &self.verdicts, now);
        for write in of_buffers.into_iter().chain(self.request_statuses.news(capacity, &self.verdicts, now)) {
            self.writer.offer(Write::CapacityStatus(write));
        }
    }

    /// A rehearsal repeats itself until something changes; it is told once.
    fn note_rehearsal(&mut self, round: &Round<'_>) {
        let steps = &round.decision.rehearsed.steps;
        let said: Vec<_> = steps
            .iter()
            .map(|step| (step, format!("dry run, would: {}", sentence(round.cluster, step))))
            .collect();
        for (step, what) in &said {
            if !self.rehearsed.contains(what) {
                self.note_decision(round, step, what.clone());
            }
        }
        self.rehearsed = said.into_iter().map(|(_, what)| what).collect();
    }

    fn note_decision(&mut self, round: &Round<'_>, step: &Step, what: String) {
        tracing::info!(round = round.number, intent = %step.intent(), "{what}");
        if self.decisions.len() >= MOST_DECISIONS {
            self.decisions.pop_back();
        }
        let intent = step.intent().to_string();
        let others = view::others(round.cluster, step, &round.decision.growth);
        let view = DecisionView { at: round.now, round: round.number, intent, what, reason: None, others };
        self.decisions.push_front((step.clone(), view));
    }

    /// New reasons of pods and pools, in the words that events and the page use.
    fn log_verdicts(&self, after: &Verdicts) {
        let pods = tracing::enabled!(tracing::Level::DEBUG).then_some(&after.pods);
        for (pod, reason) in pods.into_iter().flatten() {
            if self.verdicts.pods.get(pod) != Some(reason) {
                tracing::debug!(%pod, "{reason}");
            }
        }
        for (pool, reason) in &after.pools {
            if self.verdicts.pools.get(pool) != Some(reason) {
                tracing::info!(%pool, "{reason}");
            }
        }
        for reason in after.round.iter().filter(|reason| !self.verdicts.round.contains(reason)) {
            tracing::warn!("{reason}");
        }
    }

    pub(crate) fn outcome(&mut self, cluster: &Cluster, outcome: &Outcome) {
        let (intent, words) = (outcome.step.intent(), outcome_sentence(outcome));
        let what = sentence(cluster, &outcome.step);
        if matches!(outcome.kind, OutcomeKind::Failed { .. }) {
            tracing::warn!(%intent, "{what}: {words}");
        } else {
            tracing::info!(%intent, "{what}: {words}");
        }
        self.metrics.note_outcome(outcome);
        if let Some(trace) = &mut self.trace {
            trace.outcome(cluster, outcome);
        }
        self.events.tell_outcome(&self.writer, cluster, outcome);
        if let Some((_, view)) = self.decisions.iter_mut().find(|(step, _)| *step == outcome.step) {
            view.reason = Some(words);
        }
        self.status.touch(outcome.at);
    }

    /// A decision broke an invariant and is not carried out.
    pub(crate) fn refused(&mut self, violations: &[checker::Violation], now: Timestamp) {
        for violation in violations {
            self.metrics.note_error("planRefused");
            tracing::error!(%violation, "the plan breaks an invariant: nothing of it is done");
            self.events.tell_refusal(&self.writer, &violation.to_string(), now);
        }
    }

    pub(crate) fn poison(&self, poison: &Poison) {
        self.metrics.poison.inc();
        tracing::warn!(object = &*poison.object, why = &*poison.why, "poison object: it cannot be read");
    }

    /// Looks at a change before it is applied: a pod that was waiting and now has a node has waited so long.
    pub(crate) fn change(&self, cluster: &Cluster, change: &Change) {
        if let Change::Pod(key, Some(pod)) = change
            && pod.node.is_some()
            && cluster.pods().get(key).is_some_and(|before| before.node.is_none())
        {
            self.metrics.note_pod_placed(self.clock.now().duration_since(pod.created_at));
        }
        if let Change::Input(input, model::InputState::Stale { why, .. }) = change {
            self.metrics.note_error("staleInput");
            tracing::warn!(%input, why = &**why, "not up to date: nothing is planned that needs it");
        }
    }

    /// The status, where it is another than the one that was last asked for.
    pub(crate) fn status(&mut self, cluster: &Cluster, ledger: Option<&Ledger>) -> Option<StatusText> {
        let now = self.clock.now();
        // Woken for something else: its own time comes.
        self.status.due().filter(|due| *due <= now)?;
        self.status.news(cluster, &self.verdicts, ledger?, now)
    }

    pub(crate) fn write_status(&self, text: StatusText) {
        self.writer.offer(Write::Status(text));
    }

    pub(crate) fn stand(&self, standing: Standing) {
        self.answering.standing.send_if_modified(|known| {
            let standing = Standing {
                rounds: known.rounds,
                failing_since: known.failing_since,
                succeeded: known.succeeded,
                ..standing
            };
            let changed = *known != standing;
            *known = standing;
            changed
        });
    }

    pub(crate) fn answer(
        &mut self,
        question: Question,
        cluster: &Cluster,
        ledger: Option<&Ledger>,
        steps_under_way: usize,
    ) {
        let now = self.clock.now();
        // Whoever asked may have gone meanwhile: then the answer is dropped.
        match question {
            // Taken by the loop before anything is asked of the reporter.
            Question::Alert(..) => {}
            Question::Pulse(answer) => drop(answer.send(())),
            Question::State(answer) => {
                let mut state = view::state(cluster, &self.verdicts, ledger, now);
                state.rounds = self.rounds;
                state.dry_run = self.dry_run;
                state.decisions = self.decisions.iter().map(|(_, view)| view.clone()).collect();
                let _ = answer.send(Arc::new(state));
            }
            Question::Explain(subject, answer) => {
                let moment = Moment {
                    cluster,
                    verdicts: &self.verdicts,
                    ledger,
                    now,
                    decisions: self.decisions.make_contiguous(),
                };
                let _ = answer.send(explain::explain(moment, &subject).map(Box::new));
            }
            Question::Metrics(answer) => {
                let _ = answer.send(self.metrics.text(&Observed {
                    cluster,
                    verdicts: &self.verdicts,
                    ledger,
                    limits: &self.limits,
                    now,
                    last_round: self.last_round,
                    steps_under_way,
                    dropped_writes: self.writer.dropped(),
                }));
            }
        }
    }
}
