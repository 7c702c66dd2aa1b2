//! Decisions and what became of them as OpenTelemetry spans, for whoever collects traces.
//!
//! Owns which spans there are: one for each decision that is acted on, with a child for each of its steps that ends when
//! the step does. Sending is `export`'s; the loop never waits for it. Nothing is in a span that is not also in the log.

mod export;
mod span;

pub use export::TraceSettings;
pub(crate) use export::{Counts, Exporting};

use crate::start::Round;
use crate::view;
use crate::wording::{outcome_sentence, outcome_word, sentence, verb};
use export::Queue;
use jiff::{SignedDuration, Timestamp};
use model::{Cluster, Outcome, OutcomeKind, Step};
use span::{Span, SpanId, TraceId};
use std::collections::VecDeque;

/// Decisions whose steps are waited for, and for how long.
const MOST_OPEN: usize = 200;
const LONGEST_OPEN: SignedDuration = SignedDuration::from_mins(10);
/// Steps of one decision that are told; the rest is a number.
const MOST_STEPS: usize = 500;

/// Makes spans of rounds and outcomes.
pub(crate) struct Trace {
    queue: Queue,
    instance: String,
    /// The oldest first.
    open: VecDeque<Open>,
}

/// A decision of which steps are under way.
struct Open {
    span: Span,
    steps: Vec<(Step, Span)>,
}

impl Trace {
    pub(crate) fn new(queue: Queue, instance: String) -> Self {
        Self { queue, instance, open: VecDeque::new() }
    }

    /// Notes what is about to be done.
    pub(crate) fn round(&mut self, round: &Round<'_>) {
        while let Some(oldest) = self.open.front()
            && (self.open.len() >= MOST_OPEN || round.now.duration_since(oldest.span.start) > LONGEST_OPEN)
        {
            self.end_oldest(round.now);
        }
        let steps = &round.decision.plan.steps;
        if !round.adopted || steps.is_empty() {
            return;
        }
        let trace = TraceId::of(&self.instance, round.number, round.now);
        let id = SpanId::of(trace, 0);
        let mut span = Span::begin(trace, id, None, "decision", round.now);
        span.say("tideline.round", round.number.to_string());
        span.say("tideline.steps", steps.len().to_string());
        let told = steps.iter().take(MOST_STEPS).zip(1u64..);
        let steps = told.map(|(step, number)| {
            let mut span = Span::begin(trace, SpanId::of(trace, number), Some(id), verb(step), round.now);
            span.say("tideline.intent", step.intent().to_string());
            span.say("tideline.what", sentence(round.cluster, step));
            let others = view::others(round.cluster, step, &round.decision.growth);
            let others = others.iter().map(|other| format!("{}: {}", other.what, other.why));
            let others = others.collect::<Vec<_>>().join("; ");
            if !others.is_empty() {
                span.say("tideline.not_chosen", others);
            }
            (step.clone(), span)
        });
        let steps = steps.collect();
        self.open.push_back(Open { span, steps });
    }

    /// Ends the span of a step, and of its decision when it was the last.
    pub(crate) fn outcome(&mut self, cluster: &Cluster, outcome: &Outcome) {
        let found = self.open.iter().enumerate().rev().find_map(|(at, open)| {
            Some((at, open.steps.iter().position(|(step, _)| *step == outcome.step)?))
        });
        let Some((at, step)) = found else { return };
        let Some(open) = self.open.get_mut(at) else { return };
        let (step, mut span) = open.steps.swap_remove(step);
        span.end = outcome.at.max(span.start);
        span.say("tideline.outcome", outcome_word(&outcome.kind).to_owned());
        if matches!(outcome.kind, OutcomeKind::Failed { .. }) {
            let problem = format!("{}: {}", sentence(cluster, &step), outcome_sentence(outcome));
            open.span.problem.get_or_insert_with(|| problem.clone());
            span.problem = Some(outcome_sentence(outcome));
        } else if !matches!(outcome.kind, OutcomeKind::Done) {
            span.say("tideline.why", outcome_sentence(outcome));
        }
        open.span.end = open.span.end.max(span.end);
        let ended = open.steps.is_empty();
        self.queue.offer(span);
        if ended && let Some(open) = self.open.remove(at) {
            self.queue.offer(open.span);
        }
    }

    /// Tells of a decision whose steps were not answered.
    fn end_oldest(&mut self, now: Timestamp) {
        let Some(mut open) = self.open.pop_front() else { return };
        open.span.end = now.max(open.span.start);
        open.span.say("tideline.unanswered", open.steps.len().to_string());
        for (_, mut span) in open.steps {
            span.end = now.max(span.start);
            span.say("tideline.outcome", "unanswered".to_owned());
            self.queue.offer(span);
        }
        self.queue.offer(open.span);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        while let Some(open) = self.open.front() {
            self.end_oldest(open.span.end);
        }
    }
}
