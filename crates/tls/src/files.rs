//! A certificate and key in files that something else renews: cert-manager, a mounted Secret.
//!
//! Owns reading them again: a new pair is served from the next connection on, and one that cannot be used leaves the
//! old one in place and is told.

use crate::{TlsError, server_config};
use rustls::ServerConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the files are looked at. Mounted Secrets change a minute or so after their object anyway.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub certificates: PathBuf,
    pub key: PathBuf,
}

impl Files {
    /// Reads them, and goes on reading them for as long as anybody listens.
    pub async fn follow(
        self,
        protocols: &'static [&'static str],
    ) -> Result<watch::Receiver<Arc<ServerConfig>>, TlsError> {
        let mut held = self.read().await?;
        let (tell, settings) = watch::channel(self.config(&held, protocols)?);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = tell.closed() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                let fresh = match self.read().await {
                    Ok(fresh) if fresh == held => continue,
                    Ok(fresh) => fresh,
                    Err(error) => {
                        tracing::warn!(%error, "the certificate served so far stays");
                        continue;
                    }
                };
                match self.config(&fresh, protocols) {
                    Ok(config) => {
                        held = fresh;
                        tracing::info!(file = %self.certificates.display(), "a new certificate is served");
                        tell.send_replace(config);
                    }
                    // Between the writing of one file and of the other they do not belong together.
                    Err(error) => tracing::warn!(%error, "the certificate served so far stays"),
                }
            }
        });
        Ok(settings)
    }

    async fn read(&self) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
        let read = async |path: &PathBuf| {
            tokio::fs::read(path)
                .await
                .map_err(|source| TlsError::Read { path: path.display().to_string(), source })
        };
        Ok((read(&self.certificates).await?, read(&self.key).await?))
    }

    fn config(
        &self,
        (certificates, key): &(Vec<u8>, Vec<u8>),
        protocols: &[&str],
    ) -> Result<Arc<ServerConfig>, TlsError> {
        server_config(&self.certificates.display().to_string(), certificates, key, protocols)
    }
}
