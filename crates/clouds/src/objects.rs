//! Reading and writing whole Kubernetes objects, for the providers and whoever else writes them.
//!
//! Owns the two rules that every write follows: it carries the resourceVersion that was read, and it
//! carries every field of the object, known to us or not. What is changed is the callers' business.

use crate::ProviderError;
use crate::watching::{code, within};
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use serde_json::{Map, Value};
use std::time::Duration;

/// Objects of one page of a list, and pages read at most: a pool larger than this is refused, not guessed about.
const PAGE: u32 = 500;
const MOST_PAGES: usize = 200;

/// One kind of object, whole.
#[derive(Clone)]
pub struct Objects {
    pub api: Api<DynamicObject>,
    /// What messages call it.
    pub kind: &'static str,
    /// Time-out of each call.
    pub limit: Duration,
}

impl Objects {
    /// An object by its name; `None` where there is none.
    pub async fn get(&self, name: &str) -> Result<Option<DynamicObject>, ProviderError> {
        match within(self.limit, self.api.get(name)).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(failure(format!("read {} {name}", self.kind), error)),
        }
    }

    /// Writes an object as it was read and changed since; a conflict is transient, because the caller reads anew.
    pub async fn put(&self, object: &DynamicObject) -> Result<(), ProviderError> {
        let name = object.metadata.name.clone().unwrap_or_default();
        match within(self.limit, self.api.replace(&name, &PostParams::default(), object)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(failure(format!("update {} {name}", self.kind), error)),
        }
    }

    /// Makes an object; one of the same name that exists is transient, because the caller reads anew.
    pub async fn create(&self, object: &DynamicObject) -> Result<(), ProviderError> {
        let name = object.metadata.name.clone().unwrap_or_default();
        match within(self.limit, self.api.create(&PostParams::default(), object)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(failure(format!("create {} {name}", self.kind), error)),
        }
    }

    /// Every object that a label selector picks; the empty one picks all.
    pub async fn list(&self, selector: &str) -> Result<Vec<DynamicObject>, ProviderError> {
        self.list_since(selector, None).await
    }

    /// The same, from a state that is not older than `known`, where both are numbered.
    pub async fn list_since(
        &self,
        selector: &str,
        known: Option<&DynamicObject>,
    ) -> Result<Vec<DynamicObject>, ProviderError> {
        let number = |version: Option<&str>| version.and_then(|text| text.parse::<u64>().ok());
        let least = number(known.and_then(|object| object.metadata.resource_version.as_deref()));
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..MOST_PAGES {
            let mut params = ListParams::default().labels(selector).limit(PAGE);
            params.continue_token = token.take();
            let list = within(self.limit, self.api.list(&params))
                .await
                .map_err(|error| failure(format!("list {} with {selector}", self.kind), error))?;
            let version = number(list.metadata.resource_version.as_deref());
            if version.zip(least).is_some_and(|(version, least)| version < least) {
                return Err(ProviderError::Transient {
                    attempted: format!("list {} with {selector}", self.kind),
                    source: "the API server answers from an old state".into(),
                });
            }
            found.extend(list.items);
            token = list.metadata.continue_.filter(|text| !text.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(ProviderError::Refused {
            attempted: format!("list {} with {selector}", self.kind),
            code: "TooMany".into(),
            message: format!("more than {} objects; split the pool", MOST_PAGES * PAGE as usize),
        })
    }
}

/// Sorts an API error into "try again" and "refused".
pub fn failure(attempted: String, error: kube::Error) -> ProviderError {
    match &error {
        // Permission, validation and missing kinds do not heal by trying again.
        kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 404 | 405 | 422) => {
            ProviderError::Refused { attempted, code: status.reason.clone(), message: status.message.clone() }
        }
        kube::Error::Api(status) => {
            let text = format!("{} {}: {}", status.code, status.reason, status.message);
            ProviderError::Transient { attempted, source: text.into() }
        }
        _ => ProviderError::Transient { attempted, source: Box::new(error) },
    }
}

/// A whole number of an object's fields; `None` where it is absent or no number.
pub fn number(object: &DynamicObject, path: &str) -> Option<i64> {
    object.data.pointer(path).and_then(Value::as_i64)
}

/// A text of an object's fields; `None` where it is absent, empty or no text.
pub fn text<'a>(object: &'a DynamicObject, path: &str) -> Option<&'a str> {
    object.data.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The object's `spec`, made where it is missing.
pub fn spec_mut(object: &mut DynamicObject) -> Option<&mut Map<String, Value>> {
    object.data.as_object_mut()?.entry("spec").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// Whether the object is on its way out.
pub fn is_deleting(object: &DynamicObject) -> bool {
    object.metadata.deletion_timestamp.is_some()
}
