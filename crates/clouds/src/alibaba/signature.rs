//! ACS3-HMAC-SHA256: the signature that Alibaba Cloud's APIs ask of each request.
//!
//! Owns the canonical form and the header that follows from it, as pure functions. What is sent, and with whose key,
//! is the client's business.

use crate::hashing::keyed;
pub use crate::hashing::{digest, escape, query_string};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Name of the algorithm, which stands in the header and in what is signed.
const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// A request as far as its signature covers it. Names of headers are in small letters.
pub struct Canonical<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a BTreeMap<String, String>,
    pub headers: &'a BTreeMap<String, String>,
    /// SHA-256 of the body, in hexadecimal.
    pub payload: &'a str,
}

impl Canonical<'_> {
    /// The value of the header `Authorization`.
    pub fn authorization(&self, key_id: &str, key_secret: &Secret) -> String {
        let signed: Vec<&str> = self.headers.keys().map(String::as_str).collect();
        let signed = signed.join(";");
        let mut text = format!("{}\n{}\n{}\n", self.method, self.path, query_string(self.query));
        for (name, value) in self.headers {
            let _ = writeln!(text, "{name}:{}", value.trim());
        }
        let _ = write!(text, "\n{signed}\n{}", self.payload);
        let to_sign = format!("{ALGORITHM}\n{}", digest(text.as_bytes()));
        let signature = keyed(key_secret.reveal().as_bytes(), to_sign.as_bytes());
        format!("{ALGORITHM} Credential={key_id},SignedHeaders={signed},Signature={signature}")
    }
}
