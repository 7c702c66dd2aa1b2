//! The ledger in ConfigMaps: durable before anything is acted on, written by compare-and-swap.
//!
//! Owns the form in which it lies there: a head that carries the epoch and the digest of the whole, and, where the
//! text is too large for one object, the rest beside it under a name that the head names. The rest is written first
//! and under the other of two names, so that a crash between the writes leaves the old ledger whole.
//!
//! With the rights of a Cluster Autoscaler there is one object that may be written, that of its status. Then both lie
//! in it, and the status is written from here, because only who knows the head can write it.

use crate::writer::LAST_UPDATED;
use crate::{Config, ControllerError};
use clouds::watching::{code, describe, within};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use model::Ledger;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::Instant;

/// Name of the head; the rest is `tideline-ledger-1` or `-2`.
pub const HEAD: &str = "tideline-ledger";
/// Where a ledger that cannot be read is kept aside.
pub const DAMAGED: &str = "tideline-ledger-damaged";
/// Text in one object: etcd refuses requests over about 1.5 MiB, and half of 512 KiB leaves room on all sides.
const SHARD_BYTES: usize = 256 << 10;
const MOST_BYTES: usize = 2 * SHARD_BYTES;
const TEXT: &str = "ledger.json";
/// Keys of the ledger in an object that holds the status too, and of that beside it.
const OURS: [&str; 4] = [TEXT, "epoch", "sha256", DAMAGED_TEXT];
const DAMAGED_TEXT: &str = "damaged-ledger.json";
const STATUS: &str = "status";
/// A status that is longer leaves no room for the ledger.
const MOST_STATUS_BYTES: usize = 256 << 10;
/// Unanswered writes that are remembered; each waited longer than the one before, so more mean hours.
const MOST_DOUBTFUL: usize = 64;
/// A server that answers with an old ledger for so long was restored from a backup; one that lags catches up in seconds.
const RESTORED_AFTER: Duration = Duration::from_mins(1);

/// What was found at start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Ledger,
    /// It was kept aside; we go on from an empty one that waits as if all had just happened.
    Damaged {
        why: String,
    },
}

/// How a write ended.
#[derive(Debug)]
pub(crate) enum Saved {
    Yes,
    /// Somebody else wrote: we lead no more.
    Conflict {
        why: String,
    },
    /// Nothing is known; may be tried again.
    Unknown {
        why: String,
    },
}

pub(crate) struct LedgerStore {
    maps: Api<ConfigMap>,
    limit: Duration,
    /// The object that holds the ledger.
    name: String,
    /// Whether it holds the status too.
    shared: bool,
    /// The head as last read or written; `None` where there is none yet.
    head: Option<ConfigMap>,
    /// Digests of writes whose answers were lost, the oldest first. A read may be older than the write that it
    /// looks for, so they are kept until a write is answered.
    doubtful: Vec<String>,
    /// Since when the server answers with a ledger older than ours.
    behind: Option<Instant>,
}

impl LedgerStore {
    pub(crate) fn new(client: &Client, config: &Config) -> Self {
        let shared = config.shares_status();
        let name = if shared { config.status.config_map.clone() } else { HEAD.to_owned() };
        let maps = Api::namespaced(client.clone(), &config.namespace);
        let limit = config.call_timeout();
        Self { maps, limit, name, shared, head: None, doubtful: Vec::new(), behind: None }
    }

    /// Reads the ledger. The caller raises its epoch and saves it, which makes it ours.
    pub(crate) async fn load(&mut self, now: Timestamp) -> Result<(Ledger, Found), ControllerError> {
        let head = self.get(&self.name).await?;
        let Some(head) = head else {
            self.head = None;
            return Ok((Ledger::default(), Found::Nothing));
        };
        if self.shared && data(&head, TEXT).is_none() {
            // The status of a Cluster Autoscaler that was here before, or ours without a ledger.
            self.head = Some(head);
            return Ok((Ledger::default(), Found::Nothing));
        }
        let read = self.assemble(&head).await?;
        let found = match read {
            Ok(ledger) => (ledger, Found::Ledger),
            Err(why) => {
                if !self.shared {
                    self.keep_aside(&head).await?;
                }
                // An epoch over any that was used: intents must never repeat.
                let written = data(&head, "epoch").and_then(|text| text.parse::<u64>().ok());
                let epoch = written.unwrap_or_else(|| u64::try_from(now.as_second()).unwrap_or(0));
                let ledger = Ledger {
                    epoch,
                    last_scale_up_at: Some(now),
                    last_deletion_at: Some(now),
                    last_failure_at: Some(now),
                    ..Default::default()
                };
                (ledger, Found::Damaged { why })
            }
        };
        self.head = Some(head);
        self.doubtful.clear();
        Ok(found)
    }

    /// What the ledger says, without making it ours; `None` where there is none or it cannot be read.
    pub(crate) async fn peek(&self) -> Result<Option<Ledger>, ControllerError> {
        let Some(head) = self.get(&self.name).await? else { return Ok(None) };
        Ok(self.assemble(&head).await?.ok())
    }

    async fn assemble(&self, head: &ConfigMap) -> Result<Result<Ledger, String>, ControllerError> {
        let Some(mut text) = data(head, TEXT).map(str::to_owned) else {
            return Ok(Err(format!("{} has no {TEXT}", self.name)));
        };
        if let Some(rest) = data(head, "rest") {
            match self.get(rest).await? {
                Some(map) => text.push_str(data(&map, TEXT).unwrap_or_default()),
                None => return Ok(Err(format!("{rest}, the rest of it, is missing"))),
            }
        }
        if data(head, "sha256") != Some(digest(&text).as_str()) {
            return Ok(Err("its digest does not match: it was edited or cut".into()));
        }
        Ok(serde_json::from_str(&text).map_err(|error| error.to_string()))
    }

    async fn keep_aside(&self, head: &ConfigMap) -> Result<(), ControllerError> {
        let old = self.get(DAMAGED).await?;
        let written = self.put(DAMAGED, old.as_ref(), head.data.clone().unwrap_or_default()).await;
        written.map(drop).map_err(|error| ControllerError::Api {
            attempted: format!("keep the damaged ledger as ConfigMap {DAMAGED}"),
            message: describe(&error),
        })
    }

    /// Writes the ledger if nobody else has since we last read or wrote it.
    pub(crate) async fn save(&mut self, ledger: &Ledger) -> Result<Saved, ControllerError> {
        let text = serde_json::to_string(ledger).map_err(|error| ControllerError::Api {
            attempted: "write the ledger as JSON".into(),
            message: error.to_string(),
        })?;
        if text.len() > MOST_BYTES {
            return Err(ControllerError::LedgerTooLarge { bytes: text.len(), limit: MOST_BYTES });
        }
        if let Some(saved) = self.settle_doubt().await? {
            return Ok(saved);
        }
        let digest = digest(&text);
        let (first, rest) = if self.shared { (text.as_str(), "") } else { split(&text) };
        let mut contents = BTreeMap::from([
            (TEXT.to_owned(), first.to_owned()),
            ("epoch".to_owned(), ledger.epoch.to_string()),
            ("sha256".to_owned(), digest.clone()),
        ]);
        if !rest.is_empty() {
            let before = self.head.as_ref().and_then(|head| data(head, "rest"));
            let name =
                if before == Some("tideline-ledger-1") { "tideline-ledger-2" } else { "tideline-ledger-1" };
            if let Err(why) = self.put_rest(name, rest).await {
                return Ok(Saved::Unknown { why });
            }
            contents.insert("rest".to_owned(), name.to_owned());
        }
        if self.shared {
            self.keep_neighbours(&mut contents);
        }
        let written = self.put(&self.name, self.head.as_ref(), contents).await;
        Ok(match written {
            Ok(head) => {
                self.head = Some(head);
                self.doubtful.clear();
                self.behind = None;
                Saved::Yes
            }
            // A conflict may be the echo of our own write whose answer was lost: the next attempt looks.
            Err(error) => {
                if self.doubtful.len() >= MOST_DOUBTFUL {
                    self.doubtful.remove(0);
                }
                self.doubtful.push(digest);
                let why = describe(&error);
                match code(&error) {
                    Some(409) => self.settle_doubt().await?.unwrap_or(Saved::Unknown { why }),
                    _ => Saved::Unknown { why },
                }
            }
        })
    }

    /// What lies beside the ledger in the same object stays, and a ledger that could not be read is kept once.
    fn keep_neighbours(&self, contents: &mut BTreeMap<String, String>) {
        let Some(old) = self.head.as_ref().and_then(|head| head.data.as_ref()) else { return };
        let beside = old.iter().filter(|(key, _)| !OURS.contains(&key.as_str()));
        contents.extend(beside.map(|(key, text)| (key.clone(), text.clone())));
        let unread = old.get(TEXT).filter(|text| old.get("sha256") != Some(&digest(text)));
        let damaged = old.get(DAMAGED_TEXT).or(unread);
        contents.extend(damaged.map(|text| (DAMAGED_TEXT.to_owned(), text.clone())));
    }

    /// Whether the status lies beside the ledger and is to be written by [`Self::save_status`].
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Writes the status beside the ledger; `None` takes it away. It is written again whenever it changes, so a write
    /// that fails is let go.
    pub(crate) async fn save_status(&mut self, status: Option<(&str, &str)>) {
        let Some(head) = self.head.clone() else { return };
        if status.is_some_and(|(text, _)| text.len() > MOST_STATUS_BYTES) {
            tracing::warn!(
                bytes = MOST_STATUS_BYTES,
                "the status is longer than may lie beside the ledger: not written"
            );
            return;
        }
        let mut map = head;
        let contents = map.data.get_or_insert_default();
        let annotations = map.metadata.annotations.get_or_insert_default();
        match status {
            Some((text, updated)) => {
                contents.insert(STATUS.to_owned(), text.to_owned());
                annotations.insert(LAST_UPDATED.to_owned(), updated.to_owned());
            }
            None => drop((contents.remove(STATUS), annotations.remove(LAST_UPDATED))),
        }
        let params = PostParams::default();
        match within(self.limit, self.maps.replace(&self.name, &params, &map)).await {
            Ok(written) => self.head = Some(written),
            Err(error) => {
                tracing::warn!(what = "status", error = describe(&error), "not written");
                // It may have been written after all. The ledger in it is the one that stood there.
                self.doubtful.extend(data(&map, "sha256").map(str::to_owned));
            }
        }
    }

    /// After a write without an answer: reads what stands there. `None` means that our last known head still does.
    async fn settle_doubt(&mut self) -> Result<Option<Saved>, ControllerError> {
        if self.doubtful.is_empty() {
            return Ok(None);
        }
        let live = match self.get(&self.name).await {
            Ok(live) => live,
            Err(error) => return Ok(Some(Saved::Unknown { why: error.to_string() })),
        };
        let version =
            |map: &Option<ConfigMap>| map.as_ref().and_then(|m| m.metadata.resource_version.clone());
        if version(&live) == version(&self.head) {
            return Ok(None);
        }
        let written = live.as_ref().and_then(|map| data(map, "sha256"));
        if written.is_some_and(|digest| self.doubtful.iter().any(|ours| ours == digest)) {
            // It was ours. The round that wrote it was not adopted, so its successor is written over it.
            self.head = live;
            self.doubtful.clear();
            return Ok(None);
        }
        let before = self.head.as_ref().and_then(|map| data(map, "sha256"));
        if self.shared && before.is_some() && written == before {
            // Somebody wrote beside our ledger, which is untouched. Whoever leads after us changes its epoch.
            self.head = live;
            self.doubtful.clear();
            return Ok(None);
        }
        let number = |map: &Option<ConfigMap>| version(map).and_then(|text| text.parse::<u64>().ok());
        if number(&live) < number(&self.head) {
            // A new start reads what is there, and goes on from it.
            if self.behind.get_or_insert_with(Instant::now).elapsed() > RESTORED_AFTER {
                let why = format!(
                    "ConfigMap {} is older than what we wrote: the API server was restored from a backup",
                    self.name
                );
                return Ok(Some(Saved::Conflict { why }));
            }
            return Ok(Some(Saved::Unknown { why: "the API server answers from an old state".into() }));
        }
        Ok(Some(Saved::Conflict { why: format!("ConfigMap {} was written by somebody else", self.name) }))
    }

    async fn put_rest(&self, name: &str, text: &str) -> Result<(), String> {
        let old = self.get(name).await.map_err(|error| error.to_string())?;
        let contents = BTreeMap::from([(TEXT.to_owned(), text.to_owned())]);
        let written = self.put(name, old.as_ref(), contents).await;
        written.map(drop).map_err(|error| describe(&error))
    }

    /// Writes over what was read, or anew where nothing was.
    async fn put(
        &self,
        name: &str,
        old: Option<&ConfigMap>,
        contents: BTreeMap<String, String>,
    ) -> kube::Result<ConfigMap> {
        let params = PostParams::default();
        if let Some(old) = old {
            let map = ConfigMap { data: Some(contents), ..old.clone() };
            return within(self.limit, self.maps.replace(name, &params, &map)).await;
        }
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
        let map = ConfigMap { metadata, data: Some(contents), ..Default::default() };
        within(self.limit, self.maps.create(&params, &map)).await
    }

    async fn get(&self, name: &str) -> Result<Option<ConfigMap>, ControllerError> {
        match within(self.limit, self.maps.get(name)).await {
            Ok(map) => Ok(Some(map)),
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(ControllerError::Api {
                attempted: format!("read ConfigMap {name}"),
                message: describe(&error),
            }),
        }
    }
}

fn data<'a>(map: &'a ConfigMap, key: &str) -> Option<&'a str> {
    map.data.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn digest(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The text in two parts, cut at a character's border.
fn split(text: &str) -> (&str, &str) {
    let mut at = text.len().min(SHARD_BYTES);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.split_at(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_once_and_at_a_character() {
        let text = "ä".repeat(SHARD_BYTES);
        let (first, rest) = split(&text);
        assert!(first.len() <= SHARD_BYTES && rest.len() <= SHARD_BYTES + 1);
        assert_eq!(format!("{first}{rest}"), text);
        assert_eq!(split("short"), ("short", ""));
    }

    fn store() -> LedgerStore {
        let clock = clock::Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let api = sandbox::api::Api::new(sandbox::store::Store::new(
            clock,
            &sandbox::store::StoreOptions::default(),
        ));
        LedgerStore::new(&api.client(), &Config::default())
    }

    /// Another reader of the same object.
    fn successor(store: &LedgerStore) -> LedgerStore {
        let (maps, name) = (store.maps.clone(), store.name.clone());
        LedgerStore {
            maps,
            limit: store.limit,
            name,
            shared: store.shared,
            head: None,
            doubtful: Vec::new(),
            behind: None,
        }
    }

    /// A ledger with so many nodes found unneeded, under names of a given length.
    fn ledger(nodes: usize, epoch: u64) -> Ledger {
        let name = |at: usize| model::NodeName::from(format!("{at:0>200}"));
        Ledger {
            epoch,
            unneeded_since: (0..nodes).map(|at| (name(at), Timestamp::UNIX_EPOCH)).collect(),
            ..Default::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_ledger_lies_in_two_objects_and_a_larger_one_is_refused() {
        let mut first = store();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(first.load(now).await.unwrap().1, Found::Nothing);
        for (nodes, epoch) in [(10, 1), (1500, 2), (1600, 3), (1700, 4), (3, 5)] {
            let ledger = ledger(nodes, epoch);
            assert!(matches!(first.save(&ledger).await.unwrap(), Saved::Yes));
            let mut second = successor(&first);
            assert_eq!(second.load(now).await.unwrap(), (ledger, Found::Ledger));
        }
        let error = first.save(&ledger(4000, 6)).await.unwrap_err();
        assert!(matches!(error, ControllerError::LedgerTooLarge { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_rest_is_damage_and_a_foreign_write_a_conflict() {
        let mut first = store();
        let now = Timestamp::UNIX_EPOCH;
        first.save(&ledger(1500, 7)).await.unwrap();
        first.maps.delete("tideline-ledger-1", &kube::api::DeleteParams::default()).await.unwrap();
        let mut second = successor(&first);
        let (ledger_again, found) = second.load(now).await.unwrap();
        assert!(matches!(found, Found::Damaged { .. }), "{found:?}");
        assert_eq!((ledger_again.epoch, ledger_again.last_scale_up_at), (7, Some(now)));
        assert!(matches!(second.save(&ledger(1, 8)).await.unwrap(), Saved::Yes));
        assert!(matches!(first.save(&ledger(2, 7)).await.unwrap(), Saved::Conflict { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn ledger_and_status_lie_in_one_object_and_neither_harms_the_other() {
        let mut first = LedgerStore { name: "cluster-autoscaler-status".into(), shared: true, ..store() };
        let now = Timestamp::UNIX_EPOCH;
        // A Cluster Autoscaler was here.
        let theirs = BTreeMap::from([(STATUS.to_owned(), "time: then".to_owned())]);
        first.put(&first.name, None, theirs).await.unwrap();
        assert_eq!(first.load(now).await.unwrap(), (Ledger::default(), Found::Nothing));
        assert!(matches!(first.save(&ledger(1500, 1)).await.unwrap(), Saved::Yes));
        first.save_status(Some(("time: now", "now"))).await;
        assert!(matches!(first.save(&ledger(3, 2)).await.unwrap(), Saved::Yes));
        let map = first.maps.get(&first.name).await.unwrap();
        assert_eq!((data(&map, STATUS), data(&map, "epoch")), (Some("time: now"), Some("2")));
        // Somebody edits what is not ours: we still lead. A successor saves: we do not.
        let mut edited = map.clone();
        edited.data.get_or_insert_default().insert("note".into(), "x".into());
        first.maps.replace(&first.name, &PostParams::default(), &edited).await.unwrap();
        first.save_status(Some(("lost", "now"))).await;
        assert!(matches!(first.save(&ledger(4, 2)).await.unwrap(), Saved::Yes));
        let mut second = successor(&first);
        assert_eq!(second.load(now).await.unwrap(), (ledger(4, 2), Found::Ledger));
        assert!(matches!(second.save(&ledger(4, 3)).await.unwrap(), Saved::Yes));
        first.save_status(Some(("late", "now"))).await;
        assert!(matches!(first.save(&ledger(5, 2)).await.unwrap(), Saved::Conflict { .. }));
        second.save_status(None).await;
        let map = second.maps.get(&second.name).await.unwrap();
        assert_eq!((data(&map, STATUS), data(&map, "note")), (None, Some("x")));
        assert_eq!(successor(&second).load(now).await.unwrap().1, Found::Ledger);
    }
}
