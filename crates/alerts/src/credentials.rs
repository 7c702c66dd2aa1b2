//! Who may post, and how the connection is kept private: a bearer token, TLS, certificates of clients.
//!
//! Owns reading the files, reading them again when they change, and comparing tokens. Neither a token nor a key is
//! ever kept as text, logged or compared in a time that depends on it.

use crate::error::AlertsError;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the files are looked at: mounted Secrets take a minute to arrive anyway.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Larger files hold something else.
const LARGEST_BYTES: u64 = 1 << 20;

/// Where credentials are read from.
#[derive(Clone, Debug, Default)]
pub struct CredentialFiles {
    /// The token that every post must carry.
    pub token: Option<PathBuf>,
    /// Our certificate and its key, for HTTPS.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Authorities of clients' certificates; each client must then have one.
    pub client_authorities: Option<PathBuf>,
}

/// What the files say.
#[derive(Clone, Default)]
pub struct Credentials {
    token: Option<[u8; 32]>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl Credentials {
    /// Whether a request with this `Authorization` header may change anything.
    pub(crate) fn admit(&self, authorization: Option<&[u8]>) -> bool {
        let Some(wanted) = &self.token else { return true };
        let scheme = b"bearer ";
        let given = authorization
            .filter(|text| text.len() > scheme.len() && text[..scheme.len()].eq_ignore_ascii_case(scheme));
        let given = given.map_or(&[][..], |text| &text[scheme.len()..]);
        // Digests have one length, and every byte is looked at, whatever the first difference.
        let difference = digest(given).iter().zip(wanted).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl CredentialFiles {
    /// Reads every file.
    pub fn read(&self) -> Result<Credentials, AlertsError> {
        let token = match &self.token {
            None => None,
            Some(path) => {
                let bytes = read(path)?;
                let token = bytes.trim_ascii();
                if token.is_empty() {
                    return Err(wrong(path, "is empty; write the token into it"));
                }
                Some(digest(token))
            }
        };
        let tls = match &self.certificate {
            None => None,
            Some((certificate, key)) => Some(Arc::new(self.server(certificate, key)?)),
        };
        Ok(Credentials { token, tls })
    }

    fn server(&self, certificate: &Path, key: &Path) -> Result<ServerConfig, AlertsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = certificates(certificate)?;
        let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|error| wrong(key, &format!("holds no private key in PEM ({error})")))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(certificate, &error.to_string()))?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| wrong(path, &error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(path, &error.to_string()))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, secret)
            .map_err(|error| wrong(certificate, &error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Reads the files again and again, and tells what they say once it is another thing. Files that cannot be used
    /// change nothing. Ends when nobody listens.
    pub(crate) async fn follow(self, told: watch::Sender<Credentials>) {
        let mut seen = self.bytes();
        let mut complained = false;
        while !told.is_closed() {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.bytes();
            if now == seen {
                continue;
            }
            match self.read() {
                Ok(credentials) => {
                    tracing::info!("the credentials were read again");
                    told.send_replace(credentials);
                    seen = now;
                    complained = false;
                }
                Err(error) if !complained => {
                    tracing::error!(%error, "the new credentials are not taken; the last ones hold");
                    complained = true;
                }
                Err(_) => {}
            }
        }
    }

    /// A digest of all files together.
    fn bytes(&self) -> Vec<Option<[u8; 32]>> {
        let certificate = self.certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        let files = self.token.iter().chain(certificate).chain(&self.client_authorities);
        files.map(|path| read(path).ok().map(|bytes| digest(&bytes))).collect()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AlertsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let chain = chain.map_err(|error| wrong(path, &format!("is no PEM ({error})")))?;
    if chain.is_empty() {
        return Err(wrong(path, "holds no certificate in PEM"));
    }
    Ok(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, AlertsError> {
    let failed = |source| AlertsError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > LARGEST_BYTES {
        return Err(wrong(path, &format!("is larger than {LARGEST_BYTES} bytes; is it the right file?")));
    }
    std::fs::read(path).map_err(failed)
}

fn wrong(path: &Path, problem: &str) -> AlertsError {
    AlertsError::Credentials { path: path.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_token_is_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let files = CredentialFiles { token: Some(path.clone()), ..Default::default() };
        std::fs::write(&path, "s3cret\n").unwrap();
        let credentials = files.read().unwrap();
        assert!(credentials.admit(Some(b"Bearer s3cret")));
        assert!(credentials.admit(Some(b"bearer s3cret")));
        for wrong in [&b"Bearer s3cre"[..], b"Bearer s3cret ", b"Bearer ", b"Basic s3cret", b"s3cret", b""] {
            assert!(!credentials.admit(Some(wrong)), "{wrong:?}");
        }
        assert!(!credentials.admit(None));
        assert!(Credentials::default().admit(None));
        std::fs::write(&path, " \n").unwrap();
        assert!(files.read().is_err(), "an empty token would admit anybody");
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let files =
            CredentialFiles { certificate: Some((certificate.clone(), key.clone())), ..Default::default() };
        let named = |path: &Path| {
            let error = files.read().err().unwrap().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        };
        named(&certificate);
        std::fs::write(&certificate, "nonsense").unwrap();
        named(&certificate);
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, "nonsense").unwrap();
        named(&key);
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        assert!(files.read().unwrap().tls.is_some());
    }
}
