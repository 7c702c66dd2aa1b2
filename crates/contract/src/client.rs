//! Clients for the suite: from a kubeconfig without hidden retries, and with a record of their calls.
//!
//! Owns nothing but their making.

use crate::recorder::{Recorder, Recording};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::Path;
use tower::service_fn;

/// A client for whoever a kubeconfig names. It shows each answer as it is: kube's own repetition of refused calls,
/// which would wait for a blocked eviction, is off.
pub async fn client_of(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig that can be read");
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .expect("a kubeconfig with a current context");
    config.proxy_url = None;
    config.default_retry = false;
    Client::try_from(config).expect("a kubeconfig that makes a client")
}

/// The same client with a record of what passes through it.
pub(crate) fn recorded(client: &Client, recording: Recording) -> Client {
    let inner = client.clone();
    let service = service_fn(move |request| {
        let client = inner.clone();
        async move { client.send(request).await }
    });
    Client::new(Recorder::new(service, recording), client.default_namespace())
}
