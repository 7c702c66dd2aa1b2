//! Watches: events from the change log, as a stream of JSON lines.
//!
//! Owns how a change looks through a selector, initial events, bookmarks and the end of a watch. Leaves the log and
//! its bound to the store.

use super::body::ApiBody;
use super::query::options_refused;
use super::reply;
use super::route::Target;
use super::selector::Selector;
use super::service::Call;
use super::view::View;
use crate::store::{ApiError, Change, ChangeKind, Object, Store, Subscription};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A watch under way.
struct Watch {
    store: Store,
    subscription: Subscription,
    target: Target,
    selector: Selector,
    view: View,
    bookmarks: bool,
    deadline: Option<Instant>,
    /// Events to send before any change.
    initial: Option<Vec<u8>>,
    ended: bool,
}

pub(crate) fn start(
    store: &Store,
    call: &Call,
    target: &Target,
    selector: Selector,
) -> Result<Response<ApiBody>, ApiError> {
    let query = &call.query;
    let bookmarks = query.flag("allowWatchBookmarks");
    let send_initial = query.flag("sendInitialEvents");
    if send_initial && query.text("resourceVersionMatch") != Some("NotOlderThan") {
        let message = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan".to_owned();
        return Err(options_refused("resourceVersionMatch", "FieldValueForbidden", message));
    }
    let version = query.number("resourceVersion")?.unwrap_or(0);
    let seconds = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let (objects, revision) = {
        let state = store.state();
        let wanted = version == 0 || send_initial;
        let objects: Vec<Arc<Object>> = if wanted {
            state.objects(target.info.name, target.in_namespace()).cloned().collect()
        } else {
            Vec::new()
        };
        (objects, if wanted { state.revision } else { version })
    };
    let mut watch = Watch {
        subscription: store.watch(target.info.name, revision),
        store: store.clone(),
        target: target.clone(),
        selector,
        view: call.view,
        bookmarks,
        deadline: seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds))),
        initial: None,
        ended: false,
    };
    let mut lines = Vec::new();
    let now = store.clock().now();
    for object in objects.iter().filter(|object| watch.selector.matches(object)) {
        watch.line(&mut lines, "ADDED", object, now);
    }
    if send_initial && bookmarks {
        watch.bookmark(&mut lines, true);
    }
    watch.initial = (!lines.is_empty()).then_some(lines);
    let stream = futures::stream::unfold(watch, Watch::step);
    let mut response = Response::new(ApiBody::stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(reply::JSON));
    Ok(response)
}

impl Watch {
    /// The next chunk of lines, or the end.
    async fn step(mut self) -> Option<(Bytes, Self)> {
        if let Some(lines) = self.initial.take() {
            return Some((Bytes::from(lines), self));
        }
        while !self.ended {
            let changes = match self.deadline {
                None => self.subscription.next().await,
                Some(deadline) => tokio::select! {
                    biased;
                    changes = self.subscription.next() => changes,
                    () = tokio::time::sleep_until(deadline) => {
                        self.ended = true;
                        let mut lines = Vec::new();
                        if self.bookmarks {
                            self.bookmark(&mut lines, false);
                        }
                        return Some((Bytes::from(lines), self));
                    }
                },
            };
            let mut lines = Vec::new();
            match changes {
                Ok(changes) => {
                    let now = self.store.clock().now();
                    for change in &changes {
                        self.change(&mut lines, change, now);
                    }
                }
                Err(error) => {
                    self.ended = true;
                    push_line(&mut lines, "ERROR", error.status().to_string().as_bytes());
                }
            }
            if !lines.is_empty() {
                return Some((Bytes::from(lines), self));
            }
        }
        None
    }

    fn selects(&self, object: &Object) -> bool {
        (self.target.namespace.is_empty() || object.namespace() == self.target.namespace)
            && self.selector.matches(object)
    }

    /// A change as the selector shows it: entering it is an addition, leaving it a deletion.
    fn change(&self, lines: &mut Vec<u8>, change: &Change, now: Timestamp) {
        let before = change.previous.as_ref().filter(|previous| self.selects(previous));
        let after = change.kind != ChangeKind::Deleted && self.selects(&change.object);
        match (before, after) {
            (None, true) => self.line(lines, "ADDED", &change.object, now),
            (Some(_), true) => self.line(lines, "MODIFIED", &change.object, now),
            (Some(_), false) if change.kind == ChangeKind::Deleted => {
                self.line(lines, "DELETED", &change.object, now);
            }
            (Some(previous), false) => {
                // The last version that was selected, at the revision of leaving, as the real server sends it.
                let mut value = previous.value().clone();
                value["metadata"]["resourceVersion"] = Value::String(change.revision.to_string());
                let left = Object::new(previous.resource(), change.revision, value);
                self.line(lines, "DELETED", &left, now);
            }
            (None, false) => {}
        }
    }

    fn line(&self, lines: &mut Vec<u8>, kind: &str, object: &Object, now: Timestamp) {
        push_line(lines, kind, &self.view.object(&self.target, object, now));
    }

    fn bookmark(&self, lines: &mut Vec<u8>, ends_initial: bool) {
        let mut meta = json!({"resourceVersion": self.subscription.position().to_string()});
        if ends_initial {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.view {
            View::Whole => {
                json!({"kind": self.target.info.kind, "apiVersion": self.target.api_version(), "metadata": meta})
            }
            View::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
            }
            View::Table(_) => {
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": [], "rows": []})
            }
        };
        push_line(lines, "BOOKMARK", object.to_string().as_bytes());
    }
}

fn push_line(lines: &mut Vec<u8>, kind: &str, object: &[u8]) {
    lines.reserve(object.len() + 40);
    lines.extend_from_slice(b"{\"type\":\"");
    lines.extend_from_slice(kind.as_bytes());
    lines.extend_from_slice(b"\",\"object\":");
    lines.extend_from_slice(object);
    lines.extend_from_slice(b"}\n");
}
