//! Carrying out steps: each at most once at a time, in order for one subject, concurrently between subjects.
//!
//! Owns concurrency, time-outs, retries, rates and the circuit breaker. What one step does is in `nodes` and `pods`
//! and in the providers; whether a step is right was decided and checked before it came here.

mod breaker;
mod nodes;
mod pods;

use crate::config::Calls;
use crate::planted::{Planted, PlantedBug};
use breaker::Breakers;
use clock::Clock;
use clouds::backoff::{Backoff, seed_for};
use clouds::watching::{code, describe};
use clouds::{OrderAnswer, Provider, ProviderError};
use jiff::SignedDuration;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use leadership::Fence;
use model::{
    IntentId, Ledger, NodeName, Outcome, OutcomeKind, PodKey, PoolId, Release, RemovalPhase, Step, UndoNode,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Steps that wait behind another of the same subject; more are put off.
const MOST_WAITING: usize = 1024;
/// Waits between the attempts of one step.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// When a step that could not be done for a passing reason may be tried again.
const PUT_OFF: SignedDuration = SignedDuration::from_secs(10);

/// What a step is about. Steps of one subject never overlap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Pool(PoolId),
    Node(NodeName),
    Pod(PodKey),
}

fn subject(step: &Step) -> Subject {
    match step {
        Step::Buy(order) => Subject::Pool(order.pool.clone()),
        Step::Lower(order) => Subject::Pool(order.pool.clone()),
        Step::Release(order) => Subject::Pool(order.pool.clone()),
        Step::MarkNode(mark) => Subject::Node(mark.node.clone()),
        Step::UndoNode(undo) => Subject::Node(undo.node.clone()),
        Step::DeleteNode { node, .. } => Subject::Node(node.clone()),
        Step::SoftTaint(soft) => Subject::Node(soft.node.clone()),
        Step::Evict(evict) => Subject::Pod(evict.pod.clone()),
    }
}

/// Whether two steps ask for the same thing: a round repeats what it has not yet heard the outcome of.
fn same_work(a: &Step, b: &Step) -> bool {
    a.intent() == b.intent()
        && match (a, b) {
            (Step::Evict(a), Step::Evict(b)) => a.uid == b.uid,
            (Step::Release(a), Step::Release(b)) => a.machine == b.machine,
            _ => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
}

/// Takes our marks off one node; `Err` says why it may be tried again. A node that is gone has none.
pub(crate) async fn undo_marks(
    nodes: &Api<DynamicObject>,
    limit: Duration,
    step: &UndoNode,
) -> Result<(), String> {
    match nodes::undo(nodes, limit, step).await {
        Attempt::Done | Attempt::Obsolete(_) => Ok(()),
        Attempt::Later { why, .. } | Attempt::Retry(why) => Err(why.to_string()),
        Attempt::Refused { code, message } => Err(format!("{code}: {message}")),
    }
}

/// How one attempt ended.
pub(crate) enum Attempt {
    Done,
    Obsolete(Arc<str>),
    /// Refused for now, with how long to wait.
    Later {
        wait: SignedDuration,
        why: Arc<str>,
    },
    /// Nothing is known: worth another attempt at once.
    Retry(Arc<str>),
    Refused {
        code: Arc<str>,
        message: Arc<str>,
    },
}

impl Attempt {
    fn obsolete(why: impl AsRef<str>) -> Self {
        Self::Obsolete(Arc::from(why.as_ref()))
    }

    /// Sorts an API error that no step treats specially.
    fn of_error(attempted: &str, error: &kube::Error) -> Self {
        let why: Arc<str> = Arc::from(format!("{attempted}: {}", describe(error)));
        match code(error) {
            Some(404) => Self::Obsolete(why),
            Some(400 | 401 | 403 | 405 | 422) => Self::Refused {
                code: Arc::from(format!("{}", code(error).unwrap_or_default())),
                message: why,
            },
            Some(429) => Self::Later { wait: retry_after(error).unwrap_or(PUT_OFF), why },
            _ => Self::Retry(why),
        }
    }
}

/// What the server asked us to wait.
pub(crate) fn retry_after(error: &kube::Error) -> Option<SignedDuration> {
    let kube::Error::Api(status) = error else { return None };
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| SignedDuration::from_secs(i64::from(seconds)))
}

/// What every running step needs.
struct Shared {
    clock: Clock,
    nodes: Api<DynamicObject>,
    client: Client,
    providers: Vec<Arc<dyn Provider>>,
    fence: Fence,
    calls: Calls,
    limit: Duration,
    seed: u64,
    permits: Semaphore,
    breakers: Mutex<Breakers>,
    /// Drains that still stand: an eviction of another is not tried again.
    drains: Mutex<BTreeMap<NodeName, IntentId>>,
    planted: Planted,
}

/// The steps of one subject: those under way, then those that wait.
#[derive(Default)]
struct Line {
    steps: VecDeque<Step>,
    under_way: usize,
}

pub(crate) struct Executor {
    shared: Arc<Shared>,
    running: BTreeMap<Subject, Line>,
    outcomes: mpsc::Sender<Outcome>,
}

impl Executor {
    /// The executor, and where its outcomes come back.
    pub(crate) fn new(
        client: &Client,
        clock: Clock,
        providers: Vec<Arc<dyn Provider>>,
        fence: Fence,
        calls: &Calls,
        seed: u64,
        planted: Planted,
    ) -> (Self, mpsc::Receiver<Outcome>) {
        let (outcomes, receiver) = mpsc::channel(1024);
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&());
        let shared = Shared {
            clock,
            nodes: Api::all_with(client.clone(), &resource),
            client: client.clone(),
            providers,
            fence,
            limit: Duration::from_secs(u64::from(calls.timeout_seconds)),
            permits: Semaphore::new(calls.concurrent as usize),
            breakers: Mutex::new(Breakers::new(calls)),
            drains: Mutex::default(),
            calls: calls.clone(),
            seed,
            planted,
        };
        (Self { shared: Arc::new(shared), running: BTreeMap::new(), outcomes }, receiver)
    }

    /// Hears which drains stand in the ledger that was stored last.
    pub(crate) fn hear(&self, ledger: &Ledger) {
        let draining = ledger.removals.iter().filter(|(_, removal)| removal.phase == RemovalPhase::Draining);
        *self.shared.drains() =
            draining.map(|(node, removal)| (node.clone(), removal.intent.clone())).collect();
    }

    /// Takes the steps of a plan. What is already under way is not taken twice.
    pub(crate) fn submit(&mut self, steps: &[Step]) {
        let mut touched = BTreeSet::new();
        for step in steps {
            let subject = subject(step);
            let line = self.running.entry(subject.clone()).or_default();
            if line.steps.iter().any(|known| same_work(known, step)) {
                continue;
            }
            if line.steps.len() > MOST_WAITING {
                // Every step is answered: whoever decided it waits to hear.
                self.put_off(step.clone());
                continue;
            }
            line.steps.push_back(step.clone());
            touched.insert(subject);
        }
        // Begun only when all are known: some may go together.
        for subject in touched {
            self.begin(&subject);
        }
    }

    /// Notes that a step has ended, and begins the next one of its subject.
    pub(crate) fn ended(&mut self, step: &Step) {
        let subject = subject(step);
        let Some(line) = self.running.get_mut(&subject) else { return };
        // A step that was put off never stood in the line.
        let Some(at) = line.steps.iter().take(line.under_way).position(|known| known == step) else { return };
        line.steps.remove(at);
        line.under_way -= 1;
        if line.steps.is_empty() {
            self.running.remove(&subject);
        } else {
            self.begin(&subject);
        }
    }

    /// Notes that a step has ended without beginning another: for the way out.
    pub(crate) fn drop_queued(&mut self, step: &Step) {
        let subject = subject(step);
        let Some(line) = self.running.get_mut(&subject) else { return };
        line.steps.truncate(line.under_way);
        self.ended(step);
    }

    pub(crate) fn under_way(&self) -> usize {
        self.running.values().map(|line| line.steps.len()).sum()
    }

    fn put_off(&self, step: Step) {
        let (shared, outcomes) = (self.shared.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            let kind = shared.later(PUT_OFF, "too many steps wait for the same pool, node or pod".into());
            let _ = outcomes.send(Outcome { at: shared.clock.now(), step, kind }).await;
        });
    }

    /// Begins what is first in a line, unless something of it is under way.
    fn begin(&mut self, subject: &Subject) {
        let Some(line) = self.running.get_mut(subject).filter(|line| line.under_way == 0) else { return };
        let most = line.steps.front().map_or(1, |first| self.shared.most_at_once(first));
        let together = line.steps.iter().take_while(|step| matches!(step, Step::Release(_)));
        line.under_way = together.take(most).count().max(1);
        let steps: Vec<Step> = line.steps.iter().take(line.under_way).cloned().collect();
        let (shared, outcomes) = (self.shared.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            let kinds = match steps.as_slice() {
                [step] => vec![shared.carry_out(step).await],
                several => shared.carry_out_releases(several).await,
            };
            for (step, kind) in steps.into_iter().zip(kinds) {
                let outcome = Outcome { at: shared.clock.now(), step, kind };
                // The receiver is gone only when the controller has ended.
                let _ = outcomes.send(outcome).await;
            }
        });
    }
}

impl Shared {
    async fn carry_out(&self, step: &Step) -> OutcomeKind {
        let Ok(_permit) = self.permits.acquire().await else {
            return self.later(PUT_OFF, "the executor has ended".into());
        };
        let provider = self.provider_of(step);
        if let Some((provider, pool)) = &provider {
            let turn = self.breakers().admit(provider.kind(), pool, self.clock.now());
            match turn {
                Ok(at) => self.clock.sleep_until(at).await,
                Err((until, why)) => return OutcomeKind::Deferred { until, why },
            }
        }
        let (kind, ill) = self.attempts(step, provider.as_ref().map(|(provider, _)| &**provider)).await;
        if let Some((_, pool)) = &provider {
            self.breakers().note(pool, ill, self.clock.now());
        }
        kind
    }

    /// How many steps like this one its provider takes in one call.
    fn most_at_once(&self, step: &Step) -> usize {
        match (step, self.provider_of(step)) {
            (Step::Release(_), Some((provider, _))) => provider.most_releases_at_once().max(1),
            _ => 1,
        }
    }

    /// Gives several machines of one pool back in one call. What got no answer is put off, not tried again at once:
    /// a provider that takes them together takes minutes for each change anyway.
    async fn carry_out_releases(&self, steps: &[Step]) -> Vec<OutcomeKind> {
        let put_off = |why: &str| -> Vec<OutcomeKind> {
            steps.iter().map(|_| self.later(PUT_OFF, why.into())).collect()
        };
        let Ok(_permit) = self.permits.acquire().await else { return put_off("the executor has ended") };
        let Some((provider, pool)) = steps.first().and_then(|step| self.provider_of(step)) else {
            return put_off("no provider of this controller owns the pool");
        };
        let turn = self.breakers().admit(provider.kind(), &pool, self.clock.now());
        match turn {
            Ok(at) => self.clock.sleep_until(at).await,
            Err((until, why)) => {
                return steps.iter().map(|_| OutcomeKind::Deferred { until, why: why.clone() }).collect();
            }
        }
        if !self.fence.allows(self.limit) {
            return put_off("leadership would not outlast the call");
        }
        let orders: Vec<Release> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Release(order) => Some(order.clone()),
                _ => None,
            })
            .collect();
        let chain = self.limit.saturating_mul(4);
        let Ok(answers) = tokio::time::timeout(chain, provider.release_several(&orders)).await else {
            self.breakers().note(&pool, true, self.clock.now());
            return put_off(&format!("no end of the step within {} s", chain.as_secs()));
        };
        let attempts: Vec<Attempt> = answers.into_iter().map(of_order).collect();
        let ill = attempts.iter().any(|attempt| matches!(attempt, Attempt::Retry(_)));
        self.breakers().note(&pool, ill, self.clock.now());
        attempts
            .into_iter()
            .map(|attempt| match attempt {
                Attempt::Done => OutcomeKind::Done,
                Attempt::Obsolete(why) => OutcomeKind::Obsolete { why },
                Attempt::Later { wait, why } => self.later(wait, why),
                Attempt::Refused { code, message } => OutcomeKind::Failed { code, message },
                Attempt::Retry(why) => self.later(PUT_OFF, why),
            })
            .collect()
    }

    /// Tries a step until it has an answer, for a bounded time. True beside the outcome: there was none.
    async fn attempts(&self, step: &Step, provider: Option<&dyn Provider>) -> (OutcomeKind, bool) {
        let purpose = format!("{}{:?}", step.intent(), subject(step));
        let mut backoff = Backoff::new(seed_for(self.seed, &purpose), FIRST_WAIT, LONGEST_WAIT);
        loop {
            if !self.fence.allows(self.limit) {
                return (self.later(PUT_OFF, "leadership would not outlast the call".into()), false);
            }
            if let Step::Evict(evict) = step
                && self.drains().get(&evict.node) != Some(&evict.intent)
            {
                let why = format!("the drain of node {} was given up", evict.node);
                return (OutcomeKind::Obsolete { why: Arc::from(why) }, false);
            }
            let distorted = self.planted.distort(step, backoff.attempts());
            let why = match self.attempt(distorted.as_ref().unwrap_or(step), provider).await {
                Attempt::Done => return (OutcomeKind::Done, false),
                Attempt::Obsolete(why) => return (OutcomeKind::Obsolete { why }, false),
                Attempt::Later { wait, why } => return (self.later(wait, why), false),
                Attempt::Refused { code, message } => return (OutcomeKind::Failed { code, message }, false),
                Attempt::Retry(why) => why,
            };
            let wait = backoff.wait();
            if backoff.attempts() >= self.calls.attempts {
                // Nothing is known of it, and every step may be sent again: it is put off, not given up. How long
                // an intent is kept up is for `decide` to say.
                return (self.later(PUT_OFF, why), true);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, step: &Step, provider: Option<&dyn Provider>) -> Attempt {
        // Providers limit each of their calls; this bounds the chain of them.
        let chain = self.limit.saturating_mul(4);
        let answered = tokio::time::timeout(chain, async {
            match (step, provider) {
                (Step::Buy(order), Some(provider)) => of_order(provider.buy(order).await),
                (Step::Lower(order), Some(provider)) => of_order(provider.lower(order).await),
                #[cfg(feature = "planted-bugs")]
                (Step::Release(order), Some(_)) if self.planted.has(PlantedBug::LowerWithoutNaming) => {
                    match crate::planted::shrink(&self.client, &order.pool).await {
                        Ok(()) => Attempt::Done,
                        Err(error) => Attempt::of_error("lower", &error),
                    }
                }
                (Step::Release(order), Some(provider)) => of_order(provider.release(order).await),
                (Step::Buy(_) | Step::Lower(_) | Step::Release(_), None) => Attempt::Refused {
                    code: "NoProvider".into(),
                    message: "no provider of this controller owns the pool".into(),
                },
                (Step::MarkNode(mark), _) => nodes::mark(&self.nodes, self.limit, mark).await,
                (Step::UndoNode(_), _) if self.planted.has(PlantedBug::ForgottenUndo) => Attempt::Done,
                (Step::UndoNode(undo), _) => nodes::undo(&self.nodes, self.limit, undo).await,
                (Step::SoftTaint(soft), _) => nodes::soften(&self.nodes, self.limit, soft).await,
                (Step::DeleteNode { node, uid, .. }, _) => {
                    nodes::delete(&self.nodes, self.limit, node, uid).await
                }
                (Step::Evict(evict), _) => pods::evict(&self.client, self.limit, evict, self.planted).await,
            }
        });
        answered.await.unwrap_or_else(|_| {
            Attempt::Retry(Arc::from(format!("no end of the step within {} s", chain.as_secs())))
        })
    }

    fn provider_of(&self, step: &Step) -> Option<(Arc<dyn Provider>, PoolId)> {
        let pool = match step {
            Step::Buy(order) => &order.pool,
            Step::Lower(order) => &order.pool,
            Step::Release(order) => &order.pool,
            _ => return None,
        };
        let provider = self.providers.iter().find(|provider| provider.owns(pool))?;
        Some((provider.clone(), pool.clone()))
    }

    fn later(&self, wait: SignedDuration, why: Arc<str>) -> OutcomeKind {
        let until = self.clock.now().saturating_add(wait).unwrap_or(jiff::Timestamp::MAX);
        OutcomeKind::Deferred { until, why }
    }

    fn drains(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeName, IntentId>> {
        self.drains.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn breakers(&self) -> std::sync::MutexGuard<'_, Breakers> {
        // A poisoned lock means that a task died between two plain assignments: the values are still whole.
        self.breakers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn of_order(answer: Result<OrderAnswer, ProviderError>) -> Attempt {
    match answer {
        Ok(OrderAnswer::Done) => Attempt::Done,
        Ok(OrderAnswer::Obsolete { why }) => Attempt::Obsolete(why),
        Err(ProviderError::Refused { code, message, attempted }) => {
            Attempt::Refused { code: Arc::from(code), message: Arc::from(format!("{attempted}: {message}")) }
        }
        Err(ProviderError::Later { attempted, why, wait }) => {
            Attempt::Later { wait, why: Arc::from(format!("{attempted}: {why}")) }
        }
        Err(error @ ProviderError::Transient { .. }) => Attempt::Retry(Arc::from(error.to_string())),
    }
}
