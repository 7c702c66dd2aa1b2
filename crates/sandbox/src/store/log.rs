//! The ordered log of changes that watches and built-in controllers read.
//!
//! Owns its bound and the answer "too old". Leaves selectors and wire format to `api::watch`.

use super::Store;
use super::error::ApiError;
use super::object::Object;
use super::resource::ResourceName;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One change; its position in the log is its revision.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub kind: ChangeKind,
    /// The new version; for a deletion, the last one.
    pub object: Arc<Object>,
    pub previous: Option<Arc<Object>>,
}

/// The latest changes, at most `limit`, oldest first, with revisions that follow each other without gaps.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    limit: usize,
    changes: VecDeque<Change>,
    /// Revisions in `changes` by resource, and the newest one that was dropped.
    by_resource: BTreeMap<ResourceName, ResourceIndex>,
    dropped_through: u64,
}

#[derive(Debug, Default)]
struct ResourceIndex {
    revisions: VecDeque<u64>,
    dropped_through: u64,
}

impl ChangeLog {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            changes: VecDeque::new(),
            by_resource: BTreeMap::new(),
            dropped_through: 0,
        }
    }

    pub(crate) fn push(&mut self, change: Change) {
        let resource = change.object.resource();
        self.by_resource.entry(resource).or_default().revisions.push_back(change.revision);
        self.changes.push_back(change);
        if self.changes.len() > self.limit
            && let Some(oldest) = self.changes.pop_front()
        {
            self.dropped_through = oldest.revision;
            if let Some(index) = self.by_resource.get_mut(&oldest.object.resource()) {
                index.revisions.pop_front();
                index.dropped_through = oldest.revision;
            }
        }
    }

    /// The oldest revision from which this resource can still be followed.
    pub(crate) fn reaches_back_to(&self, resource: ResourceName) -> u64 {
        self.by_resource.get(&resource).map_or(0, |index| index.dropped_through)
    }

    /// The changes of a resource after `position`, newest first: what must be undone to see its state then.
    pub(crate) fn newest_first(
        &self,
        resource: ResourceName,
        position: u64,
    ) -> Result<impl Iterator<Item = &Change>, ApiError> {
        too_old(position, self.reaches_back_to(resource))?;
        let first = self.changes.front().map_or(0, |change| change.revision);
        let revisions =
            self.by_resource.get(&resource).into_iter().flat_map(|index| index.revisions.iter().rev());
        Ok(revisions
            .take_while(move |revision| **revision > position)
            .filter_map(move |revision| self.changes.get((revision - first) as usize)))
    }

    /// At most `limit` changes after `position`, of one resource or of all.
    fn after(
        &self,
        position: u64,
        only: Option<ResourceName>,
        limit: usize,
    ) -> Result<Vec<Change>, ApiError> {
        let Some(first) = self.changes.front().map(|c| c.revision) else { return Ok(Vec::new()) };
        let Some(resource) = only else {
            too_old(position, self.dropped_through)?;
            let skip = (position + 1).saturating_sub(first) as usize;
            return Ok(self.changes.iter().skip(skip).take(limit).cloned().collect());
        };
        let Some(index) = self.by_resource.get(&resource) else { return Ok(Vec::new()) };
        too_old(position, index.dropped_through)?;
        let start = index.revisions.partition_point(|&revision| revision <= position);
        let found = index.revisions.iter().skip(start).take(limit);
        Ok(found.filter_map(|&revision| self.changes.get((revision - first) as usize).cloned()).collect())
    }
}

fn too_old(position: u64, dropped_through: u64) -> Result<(), ApiError> {
    if position < dropped_through {
        return Err(ApiError::Expired(format!("too old resource version: {position} ({dropped_through})")));
    }
    Ok(())
}

/// Most changes handed out at once, so that one reader does not hold the store for long.
const BATCH: usize = 1024;

/// A position in the log, of one resource or of all. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    store: Store,
    only: Option<ResourceName>,
    position: u64,
    notify: Arc<Notify>,
}

impl Subscription {
    pub(crate) fn new(store: Store, only: Option<ResourceName>, position: u64, notify: Arc<Notify>) -> Self {
        Self { store, only, position, notify }
    }

    /// The revision up to which this subscription has read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next changes that are there already, possibly none; `Expired` when the log no longer reaches back so far
    /// (list again, and subscribe from there).
    pub fn ready(&mut self) -> Result<Vec<Change>, ApiError> {
        let (changes, revision) = {
            let state = self.store.state();
            (state.log.after(self.position, self.only, BATCH)?, state.revision)
        };
        // All that was asked for up to `revision` has been seen when the batch did not fill up.
        self.position = match changes.last() {
            Some(last) if changes.len() == BATCH => last.revision,
            _ => revision.max(self.position),
        };
        Ok(changes)
    }

    /// Waits for at least one change.
    pub async fn next(&mut self) -> Result<Vec<Change>, ApiError> {
        loop {
            // Made before looking, so that a change between looking and waiting is not missed.
            let notify = Arc::clone(&self.notify);
            let changed = notify.notified();
            let changes = self.ready()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            changed.await;
        }
    }
}
