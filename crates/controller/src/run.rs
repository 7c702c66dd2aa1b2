//! The loop: hear changes, close a batch, decide, make the ledger durable, act, hear what became of it.
//!
//! Owns the order of these and the moments at which they happen. Everything runs in one task; only steps under way
//! have tasks of their own, so a slow provider never holds up what is heard.

use crate::alerts::AlertsOwed;
use crate::capacity::Terms;
use crate::executor::Executor;
use crate::http::Question;
use crate::http::{LEADING, Standing};
use crate::ledger_store::{Found, LedgerStore, Saved};
use crate::metrics::Limits;
use crate::observe::{Joins, News, Observer};
use crate::planted::{Planted, PlantedBug};
use crate::report::Reporter;
use crate::start::{Controller, Decide, GRACE_AT_EXIT, Reporting, Round};
use crate::{Config, ControllerError};
use clock::Clock;
use clouds::backoff::{Backoff, seed_for};
use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::core::ApiResource;
use leadership::{Fence, Leadership};
use model::{Change, Cluster, Decision, Input, InputState, Ledger, Outcome, Policies};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Signals taken at once before the loop looks at its timers again.
const MOST_AT_ONCE: usize = 10_000;
/// Waits after a ledger that could not be written.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
pub(crate) struct Loop {
    config: Config,
    clock: Clock,
    /// In the place of `planner`, where a test plants one.
    decide: Option<Decide>,
    planner: nodes::Planner,
    reporter: Reporter,
    observer: Observer,
    joins: Joins,
    cluster: Cluster,
    store: LedgerStore,
    /// `None` until we lead.
    ledger: Option<Ledger>,
    executor: Executor,
    alerts: AlertsOwed,
    outcomes: mpsc::Receiver<Outcome>,
    fence: Fence,
    /// Changes since the round before.
    batch: Vec<Change>,
    first_news: Option<Timestamp>,
    last_news: Option<Timestamp>,
    /// The latest moment that the clock has shown.
    latest: Timestamp,
    wake_at: Option<Timestamp>,
    /// Inputs that were fresh once: one that never was, because we may not read it, leaves us not ready.
    settled: BTreeSet<Input>,
    /// The election has said that somebody else leads.
    standby: bool,
    /// Not before this: the ledger could not be written.
    hold_until: Option<Timestamp>,
    save_backoff: Backoff,
    rounds: u64,
    policies: Option<watch::Receiver<Policies>>,
    planted: Planted,
}

impl Loop {
    pub(crate) fn new(
        controller: Controller,
        fence: Fence,
        reporting: Reporting,
        buffers: Option<ApiResource>,
        requests: Terms,
    ) -> Self {
        let Controller {
            client,
            config,
            clock,
            decide,
            providers,
            hooks,
            recorder,
            answering,
            policies,
            pods,
            planted,
            ..
        } = controller;
        let reporter = Reporter::new(&config, clock, hooks, recorder, reporting, answering);
        let observer = Observer::new(&client, clock, &config, &providers, buffers, requests, pods);
        let (executor, outcomes) =
            Executor::new(&client, clock, providers, fence.clone(), &config.calls, config.seed, planted);
        let store = LedgerStore::new(&client, &config);
        let save_backoff = Backoff::new(seed_for(config.seed, "ledger"), FIRST_WAIT, LONGEST_WAIT);
        Self {
            clock,
            decide,
            planner: nodes::Planner::default(),
            reporter,
            observer,
            joins: Joins::default(),
            cluster: Cluster::default(),
            store,
            ledger: None,
            executor,
            outcomes,
            fence,
            alerts: AlertsOwed::default(),
            batch: Vec::new(),
            first_news: None,
            last_news: None,
            latest: Timestamp::MIN,
            wake_at: None,
            settled: BTreeSet::new(),
            standby: false,
            hold_until: None,
            save_backoff,
            rounds: 0,
            policies,
            planted,
            config,
        }
    }

    pub(crate) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
        mut leading: Option<watch::Receiver<Leadership>>,
    ) -> Result<(), ControllerError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut elected = leading.is_none();
        loop {
            if elected && self.ledger.is_none() {
                tokio::select! {
                    biased;
                    () = &mut shutdown => break,
                    taken = self.take_over() => taken?,
                }
            }
            self.stand(leading.is_some());
            self.notice_time();
            let (due, status_due) = (self.due(), self.reporter.status_due());
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                state = changed(&mut leading) => match state {
                    Leadership::Leader => elected = true,
                    Leadership::Standby { holder } => {
                        self.standby = true;
                        tracing::info!(holder = holder.as_deref(), "standing by: another one leads");
                    }
                    Leadership::Lost { why } => {
                        self.fence.close();
                        return Err(ControllerError::LostLeadership { why: why.to_string() });
                    }
                },
                policies = changed(&mut self.policies) => self.take_policies(policies),
                () = until(self.clock, due) => self.round().await?,
                () = until(self.clock, status_due) => self.write_status().await,
                Some(outcome) = self.outcomes.recv() => self.hear_outcome(outcome),
                Some(question) = self.reporter.answering.questions.recv() => {
                    let Some(question) = self.hear_alert(question) else { continue };
                    let under_way = self.executor.under_way();
                    self.reporter.answer(question, &self.cluster, self.ledger.as_ref(), under_way);
                }
                news = self.observer.next() => self.hear(news),
            }
        }
        self.finish().await;
        Ok(())
    }

    async fn write_status(&mut self) {
        self.reporter.write_object_statuses(&self.cluster, self.observer.capacity());
        let Some(text) = self.reporter.status(&self.cluster, self.ledger.as_ref()) else { return };
        if self.store.is_shared() {
            if self.fence.allows(self.config.call_timeout()) {
                self.store.save_status(Some((&text.text, &text.updated))).await;
            }
        } else {
            self.reporter.write_status(text);
        }
    }

    /// Begins to lead: reads the ledger and makes it ours by raising its epoch.
    async fn take_over(&mut self) -> Result<(), ControllerError> {
        let mut backoff = Backoff::new(seed_for(self.config.seed, "take-over"), FIRST_WAIT, LONGEST_WAIT);
        loop {
            match self.try_take_over().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error @ ControllerError::Api { .. }) => {
                    tracing::warn!(%error, "the ledger cannot be taken over yet");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(backoff.wait()).await;
            if !self.fence.allows(self.config.call_timeout()) {
                return Err(ControllerError::LostLeadership { why: "the ledger was never read".into() });
            }
        }
    }

    async fn try_take_over(&mut self) -> Result<bool, ControllerError> {
        if self.config.policies.dry_run {
            tracing::info!("dry run: everything is planned and said, nothing is done");
            self.ledger = Some(Ledger::default());
            self.touch();
            return Ok(true);
        }
        let (mut ledger, found) = self.store.load(self.clock.now()).await?;
        if let Found::Damaged { why } = &found {
            tracing::error!(
                why,
                kept_as = crate::DAMAGED_LEDGER_CONFIG_MAP,
                "the ledger is damaged: going on from an empty one, with all waits as if just begun"
            );
        }
        ledger.epoch = next_epoch(ledger.epoch, self.clock.now());
        ledger.next_intent = 0;
        match self.store.save(&ledger).await? {
            Saved::Yes => {
                tracing::info!(epoch = ledger.epoch, "leading");
                self.ledger = Some(ledger);
                self.touch();
                Ok(true)
            }
            Saved::Conflict { why } | Saved::Unknown { why } => {
                tracing::warn!(why, "the ledger cannot be taken over yet");
                Ok(false)
            }
        }
    }

    /// Says where we stand, for the probes.
    fn stand(&self, elects: bool) {
        let mut waiting_for = self.observer.unheard(&self.cluster);
        waiting_for.extend(self.cluster.inputs().iter().filter_map(|(input, state)| match state {
            // Rules, outlooks, headroom and devices are extras: who may not read them is ready without.
            InputState::Stale { .. }
                if matches!(input, Input::NodeRules | Input::Outlooks | Input::Headroom | Input::Devices) =>
            {
                None
            }
            InputState::Stale { why, .. } if !self.settled.contains(input) => {
                Some(format!("{input} ({why})"))
            }
            _ => None,
        }));
        let role = match (&self.ledger, self.standby, elects) {
            (Some(_), _, _) => Some(LEADING),
            (None, true, true) => Some("standing by"),
            _ => None,
        };
        self.reporter.stand(Standing {
            synced: waiting_for.is_empty(),
            role,
            waiting_for,
            ..Standing::default()
        });
    }

    /// When the next round is due; `None` while only an event can make one so.
    fn due(&self) -> Option<Timestamp> {
        if self.ledger.is_none() || !self.observer.has_heard_all(&self.cluster) {
            return None;
        }
        let after = |at: Timestamp, milliseconds: u32| {
            at.saturating_add(SignedDuration::from_millis(i64::from(milliseconds))).unwrap_or(at)
        };
        let batch = self.first_news.zip(self.last_news).map(|(first, last)| {
            after(last, self.config.batch.quiet_milliseconds)
                .min(after(first, self.config.batch.longest_milliseconds))
        });
        let due = match (batch, self.wake_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        due.map(|due| self.hold_until.map_or(due, |hold| due.max(hold)))
    }

    fn take_policies(&mut self, mut policies: Policies) {
        if policies.dry_run != self.config.policies.dry_run {
            // Acting needs the Lease and the stored ledger, which a dry run never asked for.
            tracing::warn!("dryRun takes effect with the next start of the controller");
            policies.dry_run = self.config.policies.dry_run;
        }
        if policies.ahead.enabled {
            self.observer.look_ahead();
        }
        if self.config.policies != policies {
            tracing::info!("new policies hold from the next round on");
            self.reporter.set_limits(Limits::of(&policies));
            self.config.policies = policies;
            self.touch();
        }
    }

    /// A clock that went back has left our waits in its future: they begin anew, and so does the deciding.
    fn notice_time(&mut self) {
        let now = self.clock.now();
        if now < self.latest {
            tracing::warn!(back_by = (self.latest.duration_since(now)).as_secs(), "the clock went back");
            (self.first_news, self.last_news, self.hold_until) = (Some(now), Some(now), None);
        }
        self.latest = now;
    }

    fn touch(&mut self) {
        let now = self.clock.now();
        self.first_news.get_or_insert(now);
        self.last_news = Some(now);
    }

    fn hear(&mut self, news: News) {
        self.take(news);
        // What is there already is taken in one go: a list of thousands is one batch, not thousands of wake-ups.
        for _ in 0..MOST_AT_ONCE {
            let Some(news) = self.observer.next().now_or_never() else { break };
            self.take(news);
        }
        for change in self.joins.follow_up(&self.cluster) {
            self.apply(change);
        }
    }

    fn take(&mut self, news: News) {
        for poison in news.poison {
            self.reporter.poison(&poison);
        }
        for change in news.changes {
            let change = self.joins.complete(change);
            self.apply(change);
        }
    }

    /// Applies a change unless it says what is known already.
    fn apply(&mut self, change: Change) {
        if is_known(&self.cluster, &change) {
            return;
        }
        self.reporter.change(&self.cluster, &change);
        if let Change::Input(input, InputState::Fresh) = &change {
            self.settled.insert(input.clone());
        }
        self.batch.push(change.clone());
        self.cluster.apply(change);
        self.touch();
    }

    /// Takes an alert into the next round; gives any other question back.
    fn hear_alert(&mut self, question: Question) -> Option<Question> {
        let Question::Alert(alert, answer) = question else { return Some(question) };
        if self.alerts.takes(&alert, answer, &self.cluster, self.ledger.is_some()) {
            self.apply(Change::Alert(Arc::new(alert)));
        }
        None
    }

    fn hear_outcome(&mut self, outcome: Outcome) {
        self.executor.ended(&outcome.step);
        self.reporter.outcome(&self.cluster, &outcome);
        self.apply(Change::Outcome(Arc::new(outcome)));
    }

    async fn round(&mut self) -> Result<(), ControllerError> {
        let Some(ledger) = self.ledger.take() else { return Ok(()) };
        let now = self.clock.now();
        self.hold_until = None;
        let waited = self.first_news.map(|first| now.duration_since(first));
        let begun = tokio::time::Instant::now();
        let (cluster, policies) = (&self.cluster, &self.config.policies);
        let decision = match self.decide {
            Some(decide) => decide(cluster, policies, &ledger, now),
            None => self.planner.decide(cluster, policies, &ledger, now),
        };
        let took = begun.elapsed();
        if self.planted.has(PlantedBug::ActBeforeDurable) {
            self.executor.hear(&decision.ledger);
            self.executor.submit(&decision.plan.steps);
        }
        let sound = self.is_sound(&ledger, &decision, now);
        let checked = begun.elapsed();
        let adopted = sound && self.make_durable(&ledger, &decision, now).await?;
        let written = begun.elapsed();
        self.rounds += 1;
        let round = Round {
            number: self.rounds,
            now,
            cluster: &self.cluster,
            policies: &self.config.policies,
            ledger: &ledger,
            decision: &decision,
            changes: &self.batch,
            adopted,
        };
        self.reporter.round(&round, waited, took);
        self.reporter.metrics.note_parts(&[
            ("wait", waited.and_then(|waited| waited.try_into().ok()).unwrap_or_default()),
            ("decide", took),
            ("check", checked.saturating_sub(took)),
            ("ledger", written.saturating_sub(checked)),
            ("tell", begun.elapsed().saturating_sub(written)),
        ]);
        self.batch.clear();
        if !adopted {
            self.ledger = Some(ledger);
            return Ok(());
        }
        self.first_news = None;
        self.last_news = None;
        self.cluster.forget_outcomes();
        self.alerts.settle();
        // A wake-up in the past would spin; the batch's length is soon enough for anything.
        let soonest = SignedDuration::from_millis(i64::from(self.config.batch.quiet_milliseconds.max(10)));
        let soonest = now.saturating_add(soonest).unwrap_or(now);
        self.wake_at = decision.wake_at.map(|at| at.max(soonest));
        self.executor.hear(&decision.ledger);
        self.ledger = Some(decision.ledger);
        self.executor.submit(&decision.plan.steps);
        self.reporter.keep(&self.cluster, self.observer.capacity(), decision.verdicts);
        Ok(())
    }

    /// Whether the decision passes the check. One that does not is a mistake of ours: nothing of it is done, and
    /// it is made anew once something has changed or some time has passed.
    fn is_sound(&mut self, ledger: &Ledger, decision: &Decision, now: Timestamp) -> bool {
        if !self.config.check_plans {
            return true;
        }
        let violations = checker::check_plan(&self.cluster, &self.config.policies, ledger, decision, now);
        if violations.is_empty() {
            return true;
        }
        self.reporter.refused(&violations, now);
        let wait = SignedDuration::try_from(LONGEST_WAIT).unwrap_or_default();
        self.hold_until = now.saturating_add(wait).ok();
        self.touch();
        false
    }

    /// Writes the decided ledger, if it says anything new or anything is to be done: the write is also the proof that
    /// nobody else leads. False: it could not be written, so nothing is acted on now.
    async fn make_durable(
        &mut self,
        ledger: &Ledger,
        decision: &Decision,
        now: Timestamp,
    ) -> Result<bool, ControllerError> {
        if self.config.policies.dry_run || (decision.ledger == *ledger && decision.plan.steps.is_empty()) {
            return Ok(true);
        }
        let saved = if self.fence.allows(self.config.call_timeout()) {
            match self.store.save(&decision.ledger).await? {
                Saved::Conflict { .. } if self.planted.has(PlantedBug::IgnoredEpoch) => {
                    self.store.load(now).await?;
                    self.store.save(&decision.ledger).await?
                }
                saved => saved,
            }
        } else {
            Saved::Unknown { why: "leadership would not outlast the call".into() }
        };
        match saved {
            Saved::Yes => {
                self.save_backoff.reset();
                Ok(true)
            }
            Saved::Conflict { why } => {
                self.fence.close();
                Err(ControllerError::LostLeadership { why })
            }
            Saved::Unknown { why } => {
                let wait = SignedDuration::try_from(self.save_backoff.wait()).unwrap_or_default();
                tracing::warn!(why, "the ledger is not written: nothing is acted on until it is");
                self.hold_until = now.saturating_add(wait).ok();
                // The round is due again even if nothing more is heard.
                self.touch();
                Ok(false)
            }
        }
    }

    /// Waits, for a bounded time, for the steps under way; what does not end is finished by the next leader.
    async fn finish(&mut self) {
        let end = tokio::time::Instant::now() + GRACE_AT_EXIT;
        while self.executor.under_way() > 0 {
            match tokio::time::timeout_at(end, self.outcomes.recv()).await {
                Ok(Some(outcome)) => self.executor.drop_queued(&outcome.step),
                _ => break,
            }
        }
        if self.store.is_shared() && self.ledger.is_some() && self.fence.allows(self.config.call_timeout()) {
            self.store.save_status(None).await;
        }
    }
}

/// Over every epoch before it: also over those that a restored backup has forgotten, whose intents a cloud may still
/// know by name. So it is at least the minutes since a beginning, and starts are rarer than one a minute.
fn next_epoch(before: u64, now: Timestamp) -> u64 {
    const BEGINNING: i64 = 1_767_225_600;
    let minutes = (now.as_second() - BEGINNING).max(0) / 60;
    (before + 1).max(u64::try_from(minutes).unwrap_or(0))
}

/// Whether the cluster says this already.
fn is_known(cluster: &Cluster, change: &Change) -> bool {
    match change {
        Change::Node(key, node) => {
            let node = node.as_ref().map(|node| cluster.joined_node(node));
            cluster.nodes().get(key) == node.as_ref()
        }
        Change::Pod(key, pod) => {
            let pod = pod.as_ref().map(|pod| cluster.joined_pod(pod));
            cluster.pods().get(key) == pod.as_ref()
        }
        Change::Pool(key, pool) => cluster.pools().get(key) == pool.as_ref(),
        Change::Machine(key, machine) => cluster.machines().get(key) == machine.as_ref(),
        Change::Workload(key, workload) => cluster.workloads().get(key) == workload.as_ref(),
        Change::DaemonSet(key, set) => cluster.daemon_sets().get(key) == set.as_ref(),
        Change::Pdb(key, pdb) => cluster.pdbs().get(key) == pdb.as_ref(),
        Change::Namespace(name, labels) => cluster.namespaces().get(name) == labels.as_ref(),
        Change::RuleSet(key, set) => cluster.rule_sets().get(key) == set.as_ref(),
        Change::Headroom(key, headroom) => cluster.headroom().get(key) == headroom.as_ref(),
        Change::Storage(change) => cluster.storage().knows(change),
        Change::Input(input, state) => cluster.input(input) == Some(state),
        Change::Outlook(key, outlook) => cluster.outlooks().get(key) == outlook.as_ref(),
        Change::Outcome(_) | Change::Alert(_) => false,
    }
}

async fn until(clock: Clock, due: Option<Timestamp>) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn changed<T: Clone>(watched: &mut Option<watch::Receiver<T>>) -> T {
    let Some(receiver) = watched else { return std::future::pending().await };
    if receiver.changed().await.is_ok() {
        return receiver.borrow_and_update().clone();
    }
    // Whoever spoke has ended: an election after saying how, a configuration with its program.
    *watched = None;
    std::future::pending().await
}
