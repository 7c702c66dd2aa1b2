//! The loop: hear changes, look at what they concern, hear how the looks ended.
//!
//! Owns the moments; which change has what looked at again is `triggers`' business. Looks run beside each other, bounded in number and one
//! at a time for each object; nothing is looked at before everything was heard once, or while what is known is stale.

use crate::context::Context;
use crate::profile::pods::needs_look;
use crate::queue::{Job, Queue};
use crate::watch::{self, Change, FEEDS, Heard};
use crate::{Config, Figures, ScalerError, ihpa, portrait, profile, triggers};
use clock::Clock;
use clouds::watching::{Freshness, Pods, code, describe, within};
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use kube::Client;
use leadership::{Election, Fence, Leadership};
use metrics::MetricSource;
use model::InputState;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch as channel;
use tokio::task::JoinSet;

/// Time that looks under way are given at exit.
const GRACE_AT_EXIT: Duration = Duration::from_secs(10);
/// Between looks for definitions that are not installed.
const DEFINITIONS_WAIT: Duration = Duration::from_secs(20);
/// Changes heard at once before looks begin.
const MOST_AT_ONCE: usize = 1000;

type Ended = (Job, Result<Option<Timestamp>, ScalerError>);

/// The shell of workloads, not yet started.
pub struct Scaler {
    client: Client,
    clock: Clock,
    config: Config,
    metrics: Arc<dyn MetricSource>,
    figures: Arc<Figures>,
    pods: Option<Pods>,
}

impl Scaler {
    pub fn new(
        client: Client,
        clock: Clock,
        config: Config,
        metrics: Arc<dyn MetricSource>,
    ) -> Result<Self, ScalerError> {
        config.validate()?;
        Ok(Self { client, clock, config, metrics, figures: Arc::new(Figures::new(clock)), pods: None })
    }

    /// Takes pods from a watch that somebody holds for several. It is let go where the definitions of our kinds are not
    /// installed yet: it must be heard from its beginning, and nobody shall wait for us.
    #[must_use]
    pub fn with_pods(mut self, pods: Pods) -> Self {
        self.pods = Some(pods);
        self
    }

    /// What is counted while it runs.
    pub fn figures(&self) -> Arc<Figures> {
        self.figures.clone()
    }

    /// Runs until `shutdown` resolves, or until the lead is lost. Before the definitions of its kinds are installed it
    /// only waits for them.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ScalerError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let Self { client, clock, config, metrics, figures, mut pods } = self;
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            () = defined(&client, config.call_timeout, || drop(pods.take())) => {}
        }
        figures.defined.store(true, Ordering::Relaxed);
        let election = config.leader_election.enabled.then(|| {
            let identity = leadership::identity(&config.leader_election.identity, clock);
            Election::start(&client, clock, &config.namespace, &config.leader_election, identity)
        });
        let fence = election.as_ref().map_or_else(Fence::open, |election| election.fence.clone());
        let leading = election.as_ref().map(|election| election.state.clone());
        let context = Context::new(client, clock, config, fence.clone(), metrics, figures);
        let result = Box::pin(Loop::new(Arc::new(context)).run(shutdown, leading, pods)).await;
        fence.close();
        if let Some(election) = election {
            election.release().await;
        }
        result
    }
}

struct Loop {
    context: Arc<Context>,
    queue: Queue,
    looks: JoinSet<Ended>,
    freshness: Freshness,
    fresh: bool,
    leads: bool,
}

impl Loop {
    fn new(context: Arc<Context>) -> Self {
        let freshness = Freshness::of(FEEDS, context.config.watch.stale_after);
        Self {
            context,
            queue: Queue::default(),
            looks: JoinSet::new(),
            freshness,
            fresh: false,
            leads: false,
        }
    }

    async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
        mut leading: Option<channel::Receiver<Leadership>>,
        pods: Option<Pods>,
    ) -> Result<(), ScalerError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut feeds =
            watch::all(&self.context.client, self.context.config.watch, pods).ready_chunks(MOST_AT_ONCE);
        self.leads = leading.is_none();
        self.context.figures.leads.store(self.leads, Ordering::Relaxed);
        loop {
            self.begin_looks();
            let due = if self.acts() { self.queue.next_at() } else { None };
            let full = self.queue.running() >= self.context.config.concurrency;
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                state = changed(&mut leading) => self.lead(state)?,
                Some(ended) = self.looks.join_next() => self.end_look(ended),
                Some(heard) = feeds.next() => heard.into_iter().for_each(|heard| self.hear(heard)),
                () = until(self.context.clock, due.filter(|_| !full)) => {}
            }
        }
        let finish = async { while self.looks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE_AT_EXIT, finish).await;
        Ok(())
    }

    fn acts(&self) -> bool {
        self.fresh && self.leads
    }

    fn lead(&mut self, state: Leadership) -> Result<(), ScalerError> {
        match state {
            Leadership::Leader => {
                tracing::info!("leading: autoscalers of workloads are acted on");
                self.leads = true;
                self.context.figures.leads.store(true, Ordering::Relaxed);
                self.look_at_everything();
            }
            Leadership::Standby { holder } => {
                tracing::info!(
                    holder = holder.as_deref().unwrap_or("nobody yet"),
                    "standing by for workloads"
                );
            }
            Leadership::Lost { why } => return Err(ScalerError::LostLeadership { why: why.to_string() }),
        }
        Ok(())
    }

    fn begin_looks(&mut self) {
        if !self.acts() {
            return;
        }
        while self.queue.running() < self.context.config.concurrency {
            let Some(job) = self.queue.next(self.context.clock.now()) else { return };
            let context = self.context.clone();
            self.looks.spawn(async move {
                let look = AssertUnwindSafe(look(&context, &job)).catch_unwind().await;
                let result = look.unwrap_or_else(|_| {
                    let (attempted, message) = (format!("look at {job:?}"), "a mistake of ours".to_owned());
                    Err(ScalerError::Api { attempted, message, code: None })
                });
                (job, result)
            });
        }
    }

    fn end_look(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        // Looks are not cancelled, and catch their own panics.
        let Ok((job, result)) = ended else { return };
        let figures = &self.context.figures;
        figures.looks.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(wake_at) => self.queue.done(job, wake_at),
            Err(ScalerError::Unusable(why)) => {
                tracing::info!(?job, why, "waits for a change");
                self.queue.done(job, None);
            }
            Err(error) => {
                if !matches!(error, ScalerError::Changed { .. }) {
                    tracing::warn!(%error, "tried again");
                    figures.failures.fetch_add(1, Ordering::Relaxed);
                }
                self.queue.failed(job, self.context.clock.now());
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        let now = self.context.clock.now();
        let news = match heard {
            Heard::Change(change) => return self.take(change, now),
            Heard::Synced(feed) => self.freshness.synced(feed),
            Heard::Broken { feed, why, missing_kind: true } => self.freshness.absent(feed, &why, now),
            Heard::Broken { feed, why, missing_kind: false } => {
                tracing::warn!(why = &*why, "a watch is broken");
                self.freshness.broken(feed, &why, now)
            }
        };
        match news {
            Some(InputState::Fresh) => {
                self.fresh = true;
                self.context.figures.ready.store(true, Ordering::Relaxed);
                self.look_at_everything();
            }
            Some(InputState::Stale { why, .. }) => {
                tracing::warn!(why = &*why, "workloads are left as they are until this is heard again");
                self.fresh = false;
                self.context.figures.ready.store(false, Ordering::Relaxed);
            }
            None => {}
        }
    }

    fn look_at_everything(&mut self) {
        let now = self.context.clock.now();
        let cache = self.context.cache();
        let pods = cache.pods.iter().filter(|(_, pod)| needs_look(pod)).map(|(key, _)| Job::Pod(key.clone()));
        let profiles = cache.profiles.keys().cloned().map(Job::Profile);
        let ihpas = cache.ihpas.keys().cloned().map(Job::Ihpa);
        let portraits = cache.portraits.keys().cloned().map(Job::Portrait);
        let all = pods.chain(profiles).chain(ihpas).chain(portraits).chain([Job::Orphans]);
        all.for_each(|job| self.queue.add(job, now));
    }

    /// Notes a change, and has what it concerns looked at.
    fn take(&mut self, change: Change, now: Timestamp) {
        let context = self.context.clone();
        let mut cache = context.cache();
        let peer = cache.peer().cloned();
        for job in triggers::take(&mut cache, change) {
            self.queue.add(job, now);
        }
        let now_there = cache.peer().cloned();
        drop(cache);
        if peer.is_some() == now_there.is_some() {
            return;
        }
        if let Some(peer) = now_there {
            tracing::warn!(deployment = %peer, "another controller acts on autoscalers: standing aside");
        } else {
            tracing::info!("no other controller runs any more: autoscalers are acted on");
        }
        self.look_at_everything();
    }
}

async fn look(context: &Context, job: &Job) -> Result<Option<Timestamp>, ScalerError> {
    match job {
        Job::Pod(key) => profile::pods::look(context, key).await,
        Job::Profile(key) => profile::look(context, key).await,
        Job::Ihpa(key) => ihpa::look(context, key).await,
        Job::Portrait(key) => portrait::look(context, key).await,
        Job::Orphans => portrait::sweep(context).await,
    }
}

/// Waits until the three kinds are served; tells where they are not at once.
async fn defined(client: &Client, limit: Duration, mut not_yet: impl FnMut()) {
    let group = format!("{}/v1alpha1", api::kapacity::GROUP);
    let mut told = false;
    loop {
        let served = within(limit, client.list_api_group_resources(&group)).await;
        let kinds = served
            .map(|served| served.resources.into_iter().map(|resource| resource.kind).collect::<Vec<_>>());
        let wanted = ["IntelligentHorizontalPodAutoscaler", "HorizontalPortrait", "ReplicaProfile"];
        match kinds {
            Ok(kinds) if wanted.iter().all(|kind| kinds.iter().any(|served| served == kind)) => return,
            Err(error) if code(&error) != Some(404) => {
                tracing::warn!(
                    error = describe(&error),
                    "cannot see whether autoscalers of workloads are defined"
                );
            }
            _ if told => {}
            _ => {
                told = true;
                tracing::info!(
                    "no autoscalers of workloads: {group} is not defined (tideline crds prints it)"
                );
            }
        }
        not_yet();
        tokio::time::sleep(DEFINITIONS_WAIT).await;
    }
}

async fn until(clock: Clock, due: Option<Timestamp>) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The next word of the election; pending for ever without one, and once it has ended.
async fn changed(leading: &mut Option<channel::Receiver<Leadership>>) -> Leadership {
    if let Some(receiver) = leading
        && receiver.changed().await.is_ok()
    {
        return receiver.borrow_and_update().clone();
    }
    *leading = None;
    std::future::pending().await
}
