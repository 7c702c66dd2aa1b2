//! What every look at an object shares: the client with its limits, what is known, where metrics come from.
//!
//! Owns the one way in which calls are made: under a time-out, and writes only while the lead surely lasts.

use crate::cache::{Cache, Key, Kind};
use crate::portrait::{Job, Predictions};
use crate::{Config, Figures, ScalerError};
use clock::Clock;
use clouds::events::Recorder;
use clouds::watching::{code, describe, within};
use kube::Client;
use kube::core::ApiResource;
use leadership::Fence;
use metrics::MetricSource;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use workloads::History;

/// Shared by all looks.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    pub(crate) fence: Fence,
    pub(crate) metrics: Arc<dyn MetricSource>,
    pub(crate) recorder: Recorder,
    pub(crate) figures: Arc<Figures>,
    histories: Mutex<BTreeMap<String, History>>,
    resources: Mutex<BTreeMap<Kind, ApiResource>>,
    predictions: Mutex<Predictions>,
    jobs: Mutex<BTreeMap<Key, Job>>,
}

impl Context {
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        config: Config,
        fence: Fence,
        metrics: Arc<dyn MetricSource>,
        figures: Arc<Figures>,
    ) -> Self {
        let limit = config.call_timeout;
        let recorder = Recorder::start(config.events.then(|| client.clone()), clock, limit);
        Self {
            client,
            clock,
            config,
            fence,
            metrics,
            recorder,
            figures,
            histories: Mutex::default(),
            resources: Mutex::default(),
            predictions: Mutex::default(),
            jobs: Mutex::default(),
        }
    }

    /// What is known; held only while it is looked at, never while waiting.
    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.figures.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was recommended and changed lately, by UID of the autoscaler.
    pub(crate) fn histories(&self) -> MutexGuard<'_, BTreeMap<String, History>> {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kinds that were discovered.
    pub(crate) fn resources(&self) -> MutexGuard<'_, BTreeMap<Kind, ApiResource>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was learned for predictive portraits.
    pub(crate) fn predictions(&self) -> MutexGuard<'_, Predictions> {
        self.predictions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether portraits have a CronJob, as far as that was looked up.
    pub(crate) fn jobs(&self) -> MutexGuard<'_, BTreeMap<Key, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that changes nothing.
    pub(crate) async fn read<T>(
        &self,
        attempted: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ScalerError> {
        within(self.config.call_timeout, call).await.map_err(|error| {
            let (attempted, code) = (attempted.to_owned(), code(&error));
            match code {
                Some(409) => ScalerError::Changed { attempted },
                _ => ScalerError::Api { attempted, message: describe(&error), code },
            }
        })
    }

    /// A call that changes something: made only if it ends while we surely lead.
    pub(crate) async fn write<T>(
        &self,
        attempted: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ScalerError> {
        if !self.fence.allows(self.config.call_timeout) {
            return Err(ScalerError::NotLeading { attempted: attempted.to_owned() });
        }
        self.read(attempted, call).await
    }
}
