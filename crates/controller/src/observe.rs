//! Watching the cluster: every kind that deciding needs, as changes of the model.
//!
//! Owns the feeds, the freshness of each input, and what stands in for an object that cannot be read. Nothing is
//! ever listed for a round: the cluster is kept by these changes alone.

mod feeds;
mod joins;

pub(crate) use joins::Joins;

use crate::Config;
use crate::capacity::{Capacity, Requests, Terms};
use clock::Clock;
use clouds::Provider;
use clouds::watching::{Freshness, Pods, WatchSettings};
use feeds::{Heard, Source};
use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll, select_all};
use intake::Interner;
use kube::Client;
use kube::core::ApiResource;
use model::{Change, Cluster, Input, InputState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Unreadable objects that are remembered, so that each is reported once.
const MOST_POISON: usize = 1000;

/// An object that cannot be read, as it is first met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Poison {
    pub(crate) object: Arc<str>,
    pub(crate) why: Arc<str>,
}

/// What one step of observing brought.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) changes: Vec<Change>,
    pub(crate) poison: Vec<Poison>,
}

enum Signal {
    Heard(Heard),
    Provider(Change),
}

/// All watches together.
pub(crate) struct Observer {
    signals: SelectAll<BoxStream<'static, Signal>>,
    freshness: BTreeMap<Input, Freshness>,
    interner: Interner,
    poison: BTreeMap<Arc<str>, Arc<str>>,
    clock: Clock,
    expected: Vec<Input>,
    capacity: Capacity,
    /// Whether pods that use a request's room are told from others.
    serves_requests: bool,
    /// What the watches of what lies ahead take, while they have not begun and may be.
    unwatched: Option<(Client, WatchSettings)>,
}

impl Observer {
    pub(crate) fn new(
        client: &Client,
        clock: Clock,
        config: &Config,
        providers: &[Arc<dyn Provider>],
        buffers: Option<ApiResource>,
        requests: Terms,
        pods: Option<Pods>,
    ) -> Self {
        let settings = config.watch_settings();
        let of_headroom =
            feeds::capacity::all(client, settings, buffers.as_ref(), requests.resource.as_ref());
        let kinds_of_headroom = of_headroom.len();
        let feeds = feeds::all(client, settings, config.shares_status(), pods)
            .into_iter()
            .chain(of_headroom)
            .map(|feed| feed.map(Signal::Heard).boxed());
        // With a Cluster Autoscaler's rights none of these may be read.
        let may_look_ahead = !config.shares_status();
        let looks_ahead = config.policies.ahead.enabled && may_look_ahead;
        let ahead = if looks_ahead { feeds::ahead(client, settings, clock) } else { Vec::new() };
        let feeds = feeds.chain(ahead.into_iter().map(|feed| feed.map(Signal::Heard).boxed()));
        let clouds = providers.iter().map(|provider| provider.watch().map(Signal::Provider).boxed());
        let mut expected = vec![
            Input::Nodes,
            Input::Pods,
            Input::Workloads,
            Input::DaemonSets,
            Input::Pdbs,
            Input::Namespaces,
            Input::Volumes,
            Input::Attachments,
        ];
        if !config.shares_status() {
            expected.push(Input::NodeRules);
        }
        if looks_ahead {
            expected.push(Input::Outlooks);
        }
        if kinds_of_headroom > 0 {
            expected.push(Input::Headroom);
        }
        let count_of = |input: &Input| match input {
            Input::Headroom => kinds_of_headroom,
            other => Source::count_of(other),
        };
        // Only pods that claim devices need them, and say so where they cannot be read.
        let extra = (!config.shares_status()).then_some(Input::Devices);
        let freshness = (expected.iter().chain(&extra))
            .map(|input| (input.clone(), Freshness::of(count_of(input), settings.stale_after)))
            .collect();
        expected.extend(providers.iter().map(|provider| Input::Pools(provider.name())));
        Self {
            signals: select_all(feeds.chain(clouds)),
            freshness,
            interner: Interner::default(),
            poison: BTreeMap::new(),
            clock,
            expected,
            serves_requests: requests.resource.is_some(),
            unwatched: (may_look_ahead && !looks_ahead).then(|| (client.clone(), settings)),
            capacity: Capacity::new(buffers, config.capacity_buffers.pod_injection, Requests::new(requests)),
        }
    }

    /// Begins to watch what tells of pods to come, where that was not wanted before. Rounds go on meanwhile: until all
    /// of it was heard, nothing is planned ahead.
    pub(crate) fn look_ahead(&mut self) {
        let Some((client, settings)) = self.unwatched.take() else { return };
        let count = Source::count_of(&Input::Outlooks);
        self.freshness.insert(Input::Outlooks, Freshness::of(count, settings.stale_after));
        for feed in feeds::ahead(&client, settings, self.clock) {
            self.signals.push(feed.map(Signal::Heard).boxed());
        }
    }

    /// What was heard of headroom.
    pub(crate) fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Whether each input was heard of, be it fresh or failing.
    pub(crate) fn has_heard_all(&self, cluster: &Cluster) -> bool {
        self.expected.iter().all(|input| cluster.input(input).is_some())
    }

    /// The inputs of which nothing has been heard yet.
    pub(crate) fn unheard(&self, cluster: &Cluster) -> Vec<String> {
        let unheard = self.expected.iter().filter(|input| cluster.input(input).is_none());
        unheard.map(ToString::to_string).collect()
    }

    /// Waits for the next signal. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> News {
        let mut news = News::default();
        match self.signals.next().await {
            Some(Signal::Heard(heard)) => self.take(heard, &mut news),
            Some(Signal::Provider(change)) => news.changes.push(change),
            // Watches never end; if all did, there is nothing to be woken by.
            None => std::future::pending().await,
        }
        news
    }

    fn take(&mut self, heard: Heard, news: &mut News) {
        match heard {
            Heard::Change(mut change) => {
                if let Change::Pod(_, Some(pod)) = &mut change
                    && pod.consumes.is_some()
                    && !self.serves_requests
                {
                    Arc::make_mut(pod).consumes = None;
                }
                news.changes.push(self.interner.shared(change));
            }
            Heard::Capacity(told) => news.changes.extend(self.capacity.hear(told)),
            Heard::Unreadable { object, why, instead } => {
                if self.poison.get(&object) != Some(&why) {
                    if self.poison.len() >= MOST_POISON {
                        self.poison.pop_first();
                    }
                    self.poison.insert(object.clone(), why.clone());
                    news.poison.push(Poison { object, why });
                }
                news.changes.push(instead);
            }
            Heard::Synced(source) => self.note(source, Freshness::synced, news),
            Heard::Broken(source, why) => {
                let now = self.clock.now();
                self.note(source, |freshness, place| freshness.broken(place, &why, now), news);
            }
            Heard::Absent(Source::Devices(_), _) => {}
            Heard::Absent(source, why) => {
                let now = self.clock.now();
                // Of these kinds a server may lack one; any other that is missing is a fault.
                let may_lack = matches!(
                    source,
                    Source::Attachments(_) | Source::NodeRules | Source::Outlooks(_) | Source::Capacity(_)
                );
                let note = |freshness: &mut Freshness, place| {
                    if may_lack {
                        freshness.absent(place, &why, now)
                    } else {
                        freshness.broken(place, &why, now)
                    }
                };
                self.note(source, note, news);
            }
        }
    }

    fn note(
        &mut self,
        source: Source,
        note: impl Fn(&mut Freshness, usize) -> Option<InputState>,
        news: &mut News,
    ) {
        let (input, place) = source.input();
        let Some(freshness) = self.freshness.get_mut(&input) else { return };
        let state = note(freshness, place);
        news.changes.extend(state.map(|state| Change::Input(input, state)));
    }
}
