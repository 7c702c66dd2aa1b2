//! Keys of clouds, and the keeping of those that end.
//!
//! Owns their form and their renewal in time. Where they come from is the clouds' business. No key is ever printed.

use crate::calls::Failure;
use crate::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

/// How long before their end temporary keys are renewed: a call signed with a key must outlive its journey.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// A key, with the token that belongs to it where it is temporary.
#[derive(Clone)]
pub struct AccessKey {
    pub id: String,
    pub secret: Secret,
    pub token: Option<Secret>,
}

/// A key that ends, and the next one in time.
#[derive(Default)]
pub(crate) struct Held {
    held: Mutex<Option<(AccessKey, Timestamp)>>,
}

impl Held {
    /// A key that is good for the next minutes.
    pub(crate) async fn key(
        &self,
        now: Timestamp,
        renew: impl Future<Output = Result<(AccessKey, Timestamp), Failure>>,
    ) -> Result<AccessKey, Failure> {
        // Held over the renewal: whoever comes meanwhile waits for it instead of asking, too.
        let mut held = self.held.lock().await;
        if let Some((key, end)) = &*held
            && end.duration_since(now) > RENEW_BEFORE
        {
            return Ok(key.clone());
        }
        match renew.await {
            Ok((key, end)) => {
                *held = Some((key.clone(), end));
                Ok(key)
            }
            // What is held is good until its end, whatever ails the source.
            Err(failure) => match &*held {
                Some((key, end)) if *end > now => {
                    tracing::warn!(%failure, ends = %end, "temporary keys could not be renewed yet");
                    Ok(key.clone())
                }
                _ => Err(failure),
            },
        }
    }

    /// Forgets the key held: the API has called it expired or unknown.
    pub(crate) async fn forget(&self) {
        *self.held.lock().await = None;
    }
}
