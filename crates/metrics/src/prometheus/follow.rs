//! Where the metrics configuration is kept, and taking it up whenever it changes.
//!
//! Owns watching. A configuration that cannot be used is told, and the one before it stays.

use super::{DEFAULT_CONFIGURATION, Prometheus};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, DefaultBackoff, Event, watcher};
use kube::{Api, Client};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often a file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigurationPlace {
    File(PathBuf),
    ConfigMap { namespace: String, name: String, key: String },
}

impl Prometheus {
    /// Takes the configuration up, and again whenever it changes. `told` is given what is wrong with it, or `None`
    /// once it is in use. Ends never.
    pub async fn follow(
        self: Arc<Self>,
        cluster: Client,
        place: ConfigurationPlace,
        told: impl Fn(Option<String>) + Send,
    ) {
        let take = |text: Option<&str>| {
            let outcome = self.configure(text.unwrap_or(DEFAULT_CONFIGURATION));
            told(outcome.err().map(|problem| format!("{place}: {problem}")));
        };
        match &place {
            ConfigurationPlace::File(path) => {
                let mut held = None;
                loop {
                    match tokio::fs::read_to_string(path).await {
                        Ok(text) if held.as_ref() == Some(&text) => {}
                        Ok(text) => {
                            take(Some(&text));
                            held = Some(text);
                        }
                        Err(error) => told(Some(format!("{place}: {error}"))),
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
            ConfigurationPlace::ConfigMap { namespace, name, key } => {
                let api: Api<ConfigMap> = Api::namespaced(cluster, namespace);
                let only = Config::default().fields(&format!("metadata.name={name}"));
                let mut events = watcher(api, only).backoff(DefaultBackoff::default()).boxed();
                let mut seen = false;
                while let Some(event) = events.next().await {
                    match event {
                        Ok(Event::Init) => seen = false,
                        Ok(Event::InitApply(map) | Event::Apply(map)) => {
                            seen = true;
                            take(map.data.as_ref().and_then(|data| data.get(key)).map(String::as_str));
                        }
                        Ok(Event::Delete(_)) => take(None),
                        Ok(Event::InitDone) if !seen => take(None),
                        Ok(Event::InitDone) => {}
                        Err(error) => told(Some(format!("{place} could not be watched: {error}"))),
                    }
                }
            }
        }
    }
}

impl std::fmt::Display for ConfigurationPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "metrics configuration {}", path.display()),
            Self::ConfigMap { namespace, name, key } => {
                write!(f, "ConfigMap {namespace}/{name}, key {key}")
            }
        }
    }
}
