//! The ledger in ConfigMaps: durable before anything is acted on, written by compare-and-swap.
//!
//! Owns the form in which it lies there: a head that carries the epoch and the digest of the whole, and, where the
//! text is too large for one object, the rest beside it under a name that the head names. The rest is written first
//! and under the other of two names, so that a crash between the writes leaves the old ledger whole.

use crate::ControllerError;
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

/// Name of the head; the rest is `tideline-ledger-1` or `-2`.
pub const HEAD: &str = "tideline-ledger";
/// Where a ledger that cannot be read is kept aside.
pub const DAMAGED: &str = "tideline-ledger-damaged";
/// Text in one object: etcd refuses requests over about 1.5 MiB, and half of 512 KiB leaves room on all sides.
const SHARD_BYTES: usize = 256 << 10;
const MOST_BYTES: usize = 2 * SHARD_BYTES;
const TEXT: &str = "ledger.json";
/// Unanswered writes that are remembered; each waited longer than the one before, so more mean hours.
const MOST_DOUBTFUL: usize = 64;

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
    /// The head as last read or written; `None` where there is none yet.
    head: Option<ConfigMap>,
    /// Digests of writes whose answers were lost, the oldest first. A read may be older than the write that it
    /// looks for, so they are kept until a write is answered.
    doubtful: Vec<String>,
}

impl LedgerStore {
    pub(crate) fn new(client: &Client, namespace: &str, limit: Duration) -> Self {
        Self { maps: Api::namespaced(client.clone(), namespace), limit, head: None, doubtful: Vec::new() }
    }

    /// Reads the ledger. The caller raises its epoch and saves it, which makes it ours.
    pub(crate) async fn load(&mut self, now: Timestamp) -> Result<(Ledger, Found), ControllerError> {
        let Some(head) = self.get(HEAD).await? else {
            self.head = None;
            return Ok((Ledger::default(), Found::Nothing));
        };
        let read = self.assemble(&head).await?;
        let found = match read {
            Ok(ledger) => (ledger, Found::Ledger),
            Err(why) => {
                self.keep_aside(&head).await?;
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
        let Some(head) = self.get(HEAD).await? else { return Ok(None) };
        Ok(self.assemble(&head).await?.ok())
    }

    async fn assemble(&self, head: &ConfigMap) -> Result<Result<Ledger, String>, ControllerError> {
        let Some(mut text) = data(head, TEXT).map(str::to_owned) else {
            return Ok(Err(format!("{HEAD} has no {TEXT}")));
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
        let (first, rest) = split(&text);
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
        let written = self.put(HEAD, self.head.as_ref(), contents).await;
        Ok(match written {
            Ok(head) => {
                self.head = Some(head);
                self.doubtful.clear();
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

    /// After a write without an answer: reads what stands there. `None` means that our last known head still does.
    async fn settle_doubt(&mut self) -> Result<Option<Saved>, ControllerError> {
        if self.doubtful.is_empty() {
            return Ok(None);
        }
        let live = match self.get(HEAD).await {
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
        let number = |map: &Option<ConfigMap>| version(map).and_then(|text| text.parse::<u64>().ok());
        if number(&live) < number(&self.head) {
            return Ok(Some(Saved::Unknown { why: "the API server answers from an old state".into() }));
        }
        Ok(Some(Saved::Conflict { why: format!("ConfigMap {HEAD} was written by somebody else") }))
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
        LedgerStore::new(&api.client(), "kube-system", Duration::from_secs(5))
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
            let mut second = LedgerStore {
                maps: first.maps.clone(),
                limit: first.limit,
                head: None,
                doubtful: Vec::new(),
            };
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
        let mut second =
            LedgerStore { maps: first.maps.clone(), limit: first.limit, head: None, doubtful: Vec::new() };
        let (ledger_again, found) = second.load(now).await.unwrap();
        assert!(matches!(found, Found::Damaged { .. }), "{found:?}");
        assert_eq!((ledger_again.epoch, ledger_again.last_scale_up_at), (7, Some(now)));
        assert!(matches!(second.save(&ledger(1, 8)).await.unwrap(), Saved::Yes));
        assert!(matches!(first.save(&ledger(2, 7)).await.unwrap(), Saved::Conflict { .. }));
    }
}
