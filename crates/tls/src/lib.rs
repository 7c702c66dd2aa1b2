//! TLS of our servers: certificates from files, or made and renewed by us, and the connections accepted with them.
//!
//! Owns keys and certificates and the switch from an old one to a new one without a restart. What is served over the
//! connections, and where a certificate of ours is kept, is the callers' business.

mod accept;
mod authority;
mod files;

pub use accept::{Incoming, incoming};
pub use authority::{Issued, issue};
pub use files::Files;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("could not read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{what} is no certificate and key in PEM that belong together: {why}")]
    Unusable { what: String, why: String },
    #[error("could not make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The settings of a server with one certificate chain and key, both in PEM. `protocols` are those of ALPN.
pub fn server_config(
    what: &str,
    certificates_pem: &[u8],
    key_pem: &[u8],
    protocols: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    let unusable =
        |why: &dyn std::fmt::Display| TlsError::Unusable { what: what.to_owned(), why: why.to_string() };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| unusable(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&error))?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}
