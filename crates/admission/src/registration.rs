//! The registration of the webhook, made by the installation: here its authority is kept up to date.
//!
//! Owns nothing but `caBundle`. Who else is asked about pods, and which pods, stays as the installation wrote it.

use crate::bundle;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::PostParams;
use kube::{Api, Client};

/// Writes that lost against another replica are tried again at once, this often.
const TRIES: usize = 5;

/// Sees to it that API servers trust `mine`. True where something was written.
pub(crate) async fn trust(
    client: &Client,
    name: &str,
    mine: &[String],
    retired: &[String],
) -> Result<bool, kube::Error> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let mut last = None;
    for _ in 0..TRIES {
        let mut found = api.get(name).await?;
        let mut changed = false;
        for webhook in found.webhooks.iter_mut().flatten() {
            let held = webhook.client_config.ca_bundle.take().unwrap_or_default();
            let text = String::from_utf8_lossy(&held.0);
            let wanted = bundle::with(&text, mine, retired);
            changed |= wanted.is_some();
            webhook.client_config.ca_bundle = Some(wanted.map_or(held, |text| ByteString(text.into_bytes())));
        }
        if !changed {
            return Ok(false);
        }
        match api.replace(name, &PostParams::default(), &found).await {
            Ok(_) => return Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => last = Some(kube::Error::Api(status)),
            Err(error) => return Err(error),
        }
    }
    last.map_or(Ok(false), Err)
}
