//! A watch on one kind of object that never ends: list, stream, resume, list again.
//!
//! Owns the conversation with the API server (streaming lists where it has them, pages where not, resuming from
//! the last version seen, waiting between failures) and says aloud what kube's own watcher keeps to itself: that
//! the connection broke, and that it is whole again. What the objects mean is the callers'.

mod shared;

pub use shared::{Pods, pods};

use crate::backoff::{Backoff, seed_for};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt as _};
use model::InputState;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Objects asked for in one page of a list.
const PAGE: u32 = 500;
/// Waits after failures: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Wait while the server does not know the kind: its definition may be installed at any time, but seldom is.
const ABSENT_WAIT: Duration = Duration::from_mins(1);
/// How much longer than the server's own limit we wait before a silent stream counts as dead.
const IDLE_MARGIN: Duration = Duration::from_secs(10);
/// A server that is behind what was already seen catches up within seconds. One that is behind for so long, and as
/// often as this, was restored from a backup: what it has is the truth now.
const RESTORED_AFTER: Duration = Duration::from_mins(1);
const RESTORED_LOOKS: u32 = 4;
/// Annotation of the bookmark that ends a streamed list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// How watches are held, for all kinds alike.
#[derive(Clone, Copy, Debug)]
pub struct WatchSettings {
    /// Seconds after which the server ends a stream and we resume; 0 = never (simulation: no periodic work).
    pub timeout_seconds: u32,
    /// Time-out of lists and of opening a stream.
    pub call_timeout: Duration,
    /// How long a watch may be broken before what it brought counts as stale.
    pub stale_after: SignedDuration,
    /// Try the API server's streaming lists first.
    pub streaming_lists: bool,
    pub seed: u64,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            timeout_seconds: 290,
            call_timeout: Duration::from_secs(30),
            stale_after: SignedDuration::from_secs(30),
            streaming_lists: true,
            seed: 0,
        }
    }
}

/// What a watch brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<K> {
    /// A full list begins: what is not named before the next `Synced` is gone.
    Begin,
    Object(K),
    Gone(K),
    /// Everything that exists was named, or a broken stream was resumed without loss.
    Synced,
    /// An attempt failed; another follows after a wait.
    Broken {
        why: Arc<str>,
        missing_kind: bool,
    },
}

type EventStream<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

enum Phase<K> {
    Start,
    Page { token: Option<String>, objects: std::vec::IntoIter<K>, version: Option<String> },
    StreamedList { stream: EventStream<K> },
    Resume { version: String, broken: bool },
    Stream { version: String, stream: EventStream<K>, quiet: bool },
}

struct Watch<K> {
    api: Api<K>,
    what: &'static str,
    settings: WatchSettings,
    /// Only objects of this name.
    only: Option<&'static str>,
    backoff: Backoff,
    streaming_lists: bool,
    /// Wait before the next attempt.
    wait: Option<Duration>,
    newest: u64,
    /// Since when the server shows nothing but what is older than that, and how often it did.
    behind: Option<(Instant, u32)>,
    phase: Phase<K>,
}

/// Watches one kind for ever. `what` names it in messages and keeps its waits apart from other kinds'.
pub fn watch<K>(api: Api<K>, what: &'static str, settings: WatchSettings) -> BoxStream<'static, Seen<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    watch_some(api, what, settings, None)
}

/// Watches objects of one name, in whichever namespaces they are.
pub fn watch_named<K>(
    api: Api<K>,
    what: &'static str,
    settings: WatchSettings,
    name: &'static str,
) -> BoxStream<'static, Seen<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    watch_some(api, what, settings, Some(name))
}

fn watch_some<K>(
    api: Api<K>,
    what: &'static str,
    settings: WatchSettings,
    only: Option<&'static str>,
) -> BoxStream<'static, Seen<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let backoff = Backoff::new(seed_for(settings.seed, what), FIRST_WAIT, LONGEST_WAIT);
    let streaming_lists = settings.streaming_lists;
    let watch = Watch {
        api,
        what,
        settings,
        only,
        backoff,
        streaming_lists,
        wait: None,
        newest: 0,
        behind: None,
        phase: Phase::Start,
    };
    stream::unfold(watch, |mut watch| async move {
        let seen = watch.next().await;
        Some((seen, watch))
    })
    .boxed()
}

impl<K> Watch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    async fn next(&mut self) -> Seen<K> {
        if let Some(wait) = self.wait.take() {
            tokio::time::sleep(wait).await;
        }
        loop {
            let step = match std::mem::replace(&mut self.phase, Phase::Start) {
                Phase::Start => self.start().await,
                Phase::Page { token, objects, version } => self.page(token, objects, version).await,
                Phase::StreamedList { stream } => self.streamed_list(stream).await,
                Phase::Resume { version, broken } => self.resume(version, broken).await,
                Phase::Stream { version, stream, quiet } => self.stream(version, stream, quiet).await,
            };
            if let Some(seen) = step {
                return seen;
            }
        }
    }

    async fn start(&mut self) -> Option<Seen<K>> {
        if !self.streaming_lists {
            self.phase = Phase::Page { token: None, objects: Vec::new().into_iter(), version: None };
            return Some(Seen::Begin);
        }
        let params = WatchParams { send_initial_events: true, ..self.watch_params() };
        match within(self.settings.call_timeout, self.api.watch(&params, "")).await {
            Ok(stream) => {
                self.phase = Phase::StreamedList { stream: stream.boxed() };
                Some(Seen::Begin)
            }
            // Servers without streaming lists call the parameter invalid; the pages work everywhere.
            Err(error) if matches!(code(&error), Some(400 | 422)) => {
                self.streaming_lists = false;
                None
            }
            Err(error) => Some(self.broken("list", &error)),
        }
    }

    async fn page(
        &mut self,
        token: Option<String>,
        mut objects: std::vec::IntoIter<K>,
        version: Option<String>,
    ) -> Option<Seen<K>> {
        if let Some(object) = objects.next() {
            self.phase = Phase::Page { token, objects, version };
            return Some(Seen::Object(object));
        }
        if let (None, Some(version)) = (&token, version) {
            self.backoff.reset();
            self.phase = Phase::Resume { version, broken: false };
            return Some(Seen::Synced);
        }
        let params = ListParams {
            limit: Some(PAGE),
            continue_token: token,
            field_selector: self.fields(),
            ..Default::default()
        };
        match within(self.settings.call_timeout, self.api.list(&params)).await {
            Ok(list) => {
                let version = list.metadata.resource_version.filter(|text| !text.is_empty());
                let token = list.metadata.continue_.filter(|text| !text.is_empty());
                if let Some(version) = &version
                    && self.is_older(version)
                {
                    let why = format!("the list is of version {version}, older than what was already seen");
                    return Some(self.broken_because(&why));
                }
                if version.is_none() && token.is_none() {
                    return Some(self.broken_because("the list carries no resourceVersion"));
                }
                self.phase = Phase::Page { token, objects: list.items.into_iter(), version };
                None
            }
            Err(error) => Some(self.broken("list", &error)),
        }
    }

    async fn streamed_list(&mut self, mut stream: EventStream<K>) -> Option<Seen<K>> {
        // A server that does not know streamed lists never sends the end: then pages are asked for.
        let Ok(event) = tokio::time::timeout(self.settings.call_timeout, stream.next()).await else {
            self.streaming_lists = false;
            return Some(self.broken_because("the streamed list does not end"));
        };
        match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                self.phase = Phase::StreamedList { stream };
                Some(Seen::Object(object))
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                self.phase = Phase::StreamedList { stream };
                Some(Seen::Gone(object))
            }
            Some(Ok(WatchEvent::Bookmark(mark))) => {
                if !mark.metadata.annotations.contains_key(INITIAL_EVENTS_END) {
                    self.phase = Phase::StreamedList { stream };
                    return None;
                }
                let version = mark.metadata.resource_version;
                if self.is_older(&version) {
                    return Some(
                        self.broken_because("the streamed list is older than what was already seen"),
                    );
                }
                self.saw(&version);
                self.backoff.reset();
                self.phase = Phase::Stream { version, stream, quiet: true };
                Some(Seen::Synced)
            }
            Some(Ok(WatchEvent::Error(status))) => {
                if matches!(status.code, 400 | 422) {
                    self.streaming_lists = false;
                }
                Some(self.broken("list", &kube::Error::Api(status)))
            }
            Some(Err(error)) => Some(self.broken("list", &error)),
            None => Some(self.broken_because("the streamed list broke off")),
        }
    }

    async fn resume(&mut self, version: String, broken: bool) -> Option<Seen<K>> {
        // A server that went back would take the version for one to come, and tell nothing until it has got there.
        if self.newest > 0 {
            match self.has_gone_back().await {
                Ok(Some(old)) if self.is_older(&old) => {
                    self.phase = Phase::Resume { version, broken: true };
                    let why = format!("the server is at version {old}, older than what was already seen");
                    return Some(self.broken_because(&why));
                }
                // It has been behind for too long: everything is listed anew.
                Ok(Some(_)) => return None,
                // It was behind and has caught up: with another history, perhaps, of which a part was never told.
                Ok(None) if self.behind.take().is_some() => return None,
                Ok(None) => {}
                Err(error) => {
                    self.phase = Phase::Resume { version, broken: true };
                    return Some(self.broken("list", &error));
                }
            }
        }
        let params = self.watch_params();
        match within(self.settings.call_timeout, self.api.watch(&params, &version)).await {
            Ok(stream) => {
                self.phase = Phase::Stream { version, stream: stream.boxed(), quiet: true };
                broken.then_some(Seen::Synced)
            }
            Err(error) => {
                if code(&error) != Some(410) {
                    self.phase = Phase::Resume { version, broken: true };
                }
                Some(self.broken("watch", &error))
            }
        }
    }

    async fn stream(&mut self, version: String, mut stream: EventStream<K>, quiet: bool) -> Option<Seen<K>> {
        let event = if self.settings.timeout_seconds == 0 {
            stream.next().await
        } else {
            let limit = Duration::from_secs(u64::from(self.settings.timeout_seconds)) + IDLE_MARGIN;
            tokio::time::timeout(limit, stream.next()).await.unwrap_or(None)
        };
        let (object, gone) = match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => (object, false),
            Some(Ok(WatchEvent::Deleted(object))) => (object, true),
            Some(Ok(WatchEvent::Bookmark(mark))) => {
                let version = mark.metadata.resource_version;
                self.saw(&version);
                self.backoff.reset();
                self.phase = Phase::Stream { version, stream, quiet: false };
                return None;
            }
            Some(Ok(WatchEvent::Error(status))) => {
                if status.code != 410 {
                    self.phase = Phase::Resume { version, broken: true };
                }
                return Some(self.broken("watch", &kube::Error::Api(status)));
            }
            Some(Err(error)) => {
                self.phase = Phase::Resume { version, broken: true };
                return Some(self.broken("watch", &error));
            }
            // The server ended the stream, as it does every few minutes. One that ends at once would make us
            // spin, so one that brought nothing is followed by a short pause.
            None => {
                if quiet {
                    tokio::time::sleep(FIRST_WAIT).await;
                }
                self.phase = Phase::Resume { version, broken: false };
                return None;
            }
        };
        self.backoff.reset();
        let version = object.resource_version().unwrap_or(version);
        self.saw(&version);
        self.phase = Phase::Stream { version, stream, quiet: false };
        Some(if gone { Seen::Gone(object) } else { Seen::Object(object) })
    }

    /// The server's version, where it is older than what was already seen.
    async fn has_gone_back(&mut self) -> kube::Result<Option<String>> {
        let params = ListParams { limit: Some(1), field_selector: self.fields(), ..Default::default() };
        let list = within(self.settings.call_timeout, self.api.list(&params)).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        if version.parse::<u64>().is_ok_and(|number| number < self.newest) {
            return Ok(Some(version));
        }
        Ok(None)
    }

    fn watch_params(&self) -> WatchParams {
        let timeout = Some(self.settings.timeout_seconds);
        WatchParams { timeout, field_selector: self.fields(), ..Default::default() }
    }

    fn fields(&self) -> Option<String> {
        self.only.map(|name| format!("metadata.name={name}"))
    }

    fn broken(&mut self, verb: &str, error: &kube::Error) -> Seen<K> {
        let mut seen = self.broken_because(&format!("{verb} failed: {}", describe(error)));
        if let Seen::Broken { missing_kind, .. } = &mut seen {
            *missing_kind = code(error) == Some(404);
            if *missing_kind {
                self.wait = Some(ABSENT_WAIT);
            }
        }
        seen
    }

    fn broken_because(&mut self, why: &str) -> Seen<K> {
        self.wait = Some(self.backoff.wait());
        Seen::Broken { why: Arc::from(format!("{}: {why}", self.what)), missing_kind: false }
    }

    /// Versions are opaque by the letter, but every server numbers them; one that does not is never "older". A server
    /// that stays behind was restored from a backup: then what was seen counts no more.
    fn is_older(&mut self, version: &str) -> bool {
        if !version.parse::<u64>().is_ok_and(|number| number < self.newest) {
            self.behind = None;
            return false;
        }
        let (since, looks) = self.behind.get_or_insert((Instant::now(), 0));
        *looks += 1;
        if *looks < RESTORED_LOOKS || since.elapsed() < RESTORED_AFTER {
            return true;
        }
        tracing::warn!(
            what = self.what,
            version,
            seen = self.newest,
            "the API server stays behind what was already seen: it was restored, and is listed anew"
        );
        (self.behind, self.newest) = (None, 0);
        false
    }

    fn saw(&mut self, version: &str) {
        if let Ok(number) = version.parse::<u64>() {
            self.newest = self.newest.max(number);
        }
    }
}

/// The HTTP code of an API error; `None` where the call did not get an answer.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// A kube error in one line, without the debug form that its own `Display` appends.
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}: {}", status.code, status.reason, status.message),
        other => other.to_string(),
    }
}

/// Runs a call under a time-out, which counts as a failed connection.
pub async fn within<T>(limit: Duration, call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(kube::Error::Service(format!("no answer within {} s", limit.as_secs()).into()))
    })
}

/// Whether what several watches bring together can be relied on.
#[derive(Clone, Debug)]
pub struct Freshness {
    sources: Vec<Source>,
    grace: SignedDuration,
    last: Option<InputState>,
}

#[derive(Clone, Debug, Default)]
struct Source {
    synced: bool,
    /// The server does not know the kind.
    absent: bool,
    broken: Option<(Timestamp, Arc<str>)>,
}

impl Freshness {
    pub fn of(sources: usize, grace: SignedDuration) -> Self {
        Self { sources: vec![Source::default(); sources], grace, last: None }
    }

    pub fn synced(&mut self, source: usize) -> Option<InputState> {
        if let Some(source) = self.sources.get_mut(source) {
            *source = Source { synced: true, absent: false, broken: None };
        }
        self.news(None)
    }

    /// The server does not know the kind: where it never did, there is nothing of it, and that is certain. A kind
    /// that was there and went is a failure like any other.
    pub fn absent(&mut self, source: usize, why: &Arc<str>, now: Timestamp) -> Option<InputState> {
        match self.sources.get_mut(source) {
            Some(known) if known.absent || !known.synced => {
                *known = Source { synced: true, absent: true, broken: None };
                self.news(None)
            }
            _ => self.broken(source, why, now),
        }
    }

    /// A source failed. It counts as stale once it has been broken for the grace time, and at once where it
    /// never worked: there is nothing yet that could be relied on meanwhile.
    pub fn broken(&mut self, source: usize, why: &Arc<str>, now: Timestamp) -> Option<InputState> {
        if let Some(source) = self.sources.get_mut(source) {
            let since = source.broken.as_ref().map_or(now, |(since, _)| *since);
            source.broken = Some((since, why.clone()));
        }
        self.news(Some(now))
    }

    fn news(&mut self, now: Option<Timestamp>) -> Option<InputState> {
        let overdue = self.sources.iter().find_map(|source| {
            let (since, why) = source.broken.as_ref()?;
            let late = now.is_some_and(|now| now.duration_since(*since) >= self.grace);
            let already = matches!(self.last, Some(InputState::Stale { .. }));
            (late || already || !source.synced).then(|| InputState::Stale { since: *since, why: why.clone() })
        });
        let state = match overdue {
            Some(stale) => stale,
            None if self.sources.iter().all(|source| source.synced) => InputState::Fresh,
            None => return None,
        };
        let same = match (&self.last, &state) {
            (Some(InputState::Fresh), InputState::Fresh) => true,
            // A new wording of the same outage is not news.
            (Some(InputState::Stale { since: a, .. }), InputState::Stale { since: b, .. }) => a == b,
            _ => false,
        };
        if same {
            return None;
        }
        self.last = Some(state.clone());
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_stale_after_its_grace_and_fresh_again_at_once() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let why: Arc<str> = Arc::from("500");
        let mut freshness = Freshness::of(2, SignedDuration::from_secs(30));
        assert_eq!(freshness.synced(0), None);
        assert!(
            matches!(freshness.broken(1, &why, at(0)), Some(InputState::Stale { .. })),
            "it never worked"
        );
        assert_eq!(freshness.synced(1), Some(InputState::Fresh));
        assert_eq!(freshness.broken(0, &why, at(100)), None);
        assert_eq!(freshness.broken(0, &why, at(129)), None);
        assert_eq!(
            freshness.broken(0, &why, at(130)),
            Some(InputState::Stale { since: at(100), why: why.clone() })
        );
        assert_eq!(freshness.broken(0, &why, at(160)), None, "the same outage is no news");
        assert_eq!(freshness.synced(0), Some(InputState::Fresh));
    }

    #[test]
    fn a_kind_that_never_was_there_is_empty_and_one_that_went_is_broken() {
        let why: Arc<str> = Arc::from("404");
        let mut freshness = Freshness::of(1, SignedDuration::ZERO);
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(freshness.absent(0, &why, now), Some(InputState::Fresh));
        assert_eq!(freshness.absent(0, &why, now), None);
        assert_eq!(freshness.synced(0), None);
        assert!(matches!(freshness.absent(0, &why, now), Some(InputState::Stale { .. })));
    }
}
