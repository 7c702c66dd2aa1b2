//! Carrying out steps: each at most once at a time, in order for one subject, concurrently between subjects.
//!
//! Owns concurrency, time-outs, retries, rates and the circuit breaker. What one step does is in `nodes` and `pods`
//! and in the providers; whether a step is right was decided and checked before it came here.

mod breaker;
mod nodes;
mod pods;

use crate::config::Calls;
use crate::leadership::Fence;
use breaker::Breakers;
use clock::Clock;
use clouds::backoff::{Backoff, seed_for};
use clouds::watching::{code, describe};
use clouds::{OrderAnswer, Provider, ProviderError};
use jiff::SignedDuration;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use model::{NodeName, Outcome, OutcomeKind, PodKey, PoolId, Step};
use std::collections::{BTreeMap, VecDeque};
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
}

pub(crate) struct Executor {
    shared: Arc<Shared>,
    running: BTreeMap<Subject, VecDeque<Step>>,
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
            calls: calls.clone(),
            seed,
        };
        (Self { shared: Arc::new(shared), running: BTreeMap::new(), outcomes }, receiver)
    }

    /// Takes the steps of a plan. What is already under way is not taken twice.
    pub(crate) fn submit(&mut self, steps: &[Step]) {
        for step in steps {
            let queue = self.running.entry(subject(step)).or_default();
            if queue.iter().any(|known| same_work(known, step)) {
                continue;
            }
            if queue.len() > MOST_WAITING {
                // Every step is answered: whoever decided it waits to hear.
                self.put_off(step.clone());
                continue;
            }
            queue.push_back(step.clone());
            if queue.len() == 1 {
                self.begin(step.clone());
            }
        }
    }

    /// Notes that a step has ended, and begins the next one of its subject.
    pub(crate) fn ended(&mut self, step: &Step) {
        let subject = subject(step);
        let Some(queue) = self.running.get_mut(&subject) else { return };
        // A step that was put off never stood in the queue.
        if queue.front() != Some(step) {
            return;
        }
        queue.pop_front();
        match queue.front().cloned() {
            Some(next) => self.begin(next),
            None => drop(self.running.remove(&subject)),
        }
    }

    /// Notes that a step has ended without beginning another: for the way out.
    pub(crate) fn drop_queued(&mut self, step: &Step) {
        self.running.remove(&subject(step));
    }

    pub(crate) fn under_way(&self) -> usize {
        self.running.values().map(VecDeque::len).sum()
    }

    fn put_off(&self, step: Step) {
        let (shared, outcomes) = (self.shared.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            let kind = shared.later(PUT_OFF, "too many steps wait for the same pool, node or pod".into());
            let _ = outcomes.send(Outcome { at: shared.clock.now(), step, kind }).await;
        });
    }

    fn begin(&self, step: Step) {
        let (shared, outcomes) = (self.shared.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            let kind = shared.carry_out(&step).await;
            let outcome = Outcome { at: shared.clock.now(), step, kind };
            // The receiver is gone only when the controller has ended.
            let _ = outcomes.send(outcome).await;
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

    /// Tries a step until it has an answer, for a bounded time. True beside the outcome: there was none.
    async fn attempts(&self, step: &Step, provider: Option<&dyn Provider>) -> (OutcomeKind, bool) {
        let purpose = format!("{}{:?}", step.intent(), subject(step));
        let mut backoff = Backoff::new(seed_for(self.seed, &purpose), FIRST_WAIT, LONGEST_WAIT);
        loop {
            if !self.fence.allows(self.limit) {
                return (self.later(PUT_OFF, "leadership would not outlast the call".into()), false);
            }
            let why = match self.attempt(step, provider).await {
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
                (Step::Release(order), Some(provider)) => of_order(provider.release(order).await),
                (Step::Buy(_) | Step::Lower(_) | Step::Release(_), None) => Attempt::Refused {
                    code: "NoProvider".into(),
                    message: "no provider of this controller owns the pool".into(),
                },
                (Step::MarkNode(mark), _) => nodes::mark(&self.nodes, self.limit, mark).await,
                (Step::UndoNode(undo), _) => nodes::undo(&self.nodes, self.limit, undo).await,
                (Step::DeleteNode { node, uid, .. }, _) => {
                    nodes::delete(&self.nodes, self.limit, node, uid).await
                }
                (Step::Evict(evict), _) => pods::evict(&self.client, self.limit, evict).await,
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
        Err(error @ ProviderError::Transient { .. }) => Attempt::Retry(Arc::from(error.to_string())),
    }
}
