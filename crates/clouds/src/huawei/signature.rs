//! SDK-HMAC-SHA256: the signature that Huawei Cloud's APIs ask of each request.
//!
//! Owns the canonical form and the header that follows from it, as pure functions. What is sent, and with whose key,
//! is the client's business.

use crate::hashing::{digest, escape, keyed, query_string};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Name of the algorithm, which stands in the header and in what is signed.
const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// The header with the time at which the request was signed.
pub const DATE: &str = "x-sdk-date";

/// A request as far as its signature covers it. Names of headers are in small letters; `x-sdk-date` is one of them.
pub struct Canonical<'a> {
    pub method: &'a str,
    /// Not escaped.
    pub path: &'a str,
    pub query: &'a BTreeMap<String, String>,
    pub headers: &'a BTreeMap<String, String>,
    pub body: &'a [u8],
}

impl Canonical<'_> {
    /// The value of the header `Authorization`.
    pub fn authorization(&self, key_id: &str, key_secret: &Secret) -> String {
        // Gateways drop headers with an underscore, so they are not signed.
        let headers = self.headers.iter().filter(|(name, _)| !name.contains('_'));
        let signed: Vec<&str> = headers.clone().map(|(name, _)| name.as_str()).collect();
        let signed = signed.join(";");
        let segments: Vec<String> = self.path.split('/').map(escape).collect();
        let mut path = segments.join("/");
        if !path.ends_with('/') {
            path.push('/');
        }
        let mut text = format!("{}\n{path}\n{}\n", self.method, query_string(self.query));
        for (name, value) in headers {
            let _ = writeln!(text, "{name}:{}", value.trim());
        }
        let _ = write!(text, "\n{signed}\n{}", digest(self.body));
        let date = self.headers.get(DATE).map(String::as_str).unwrap_or_default();
        let to_sign = format!("{ALGORITHM}\n{date}\n{}", digest(text.as_bytes()));
        let signature = keyed(key_secret.reveal().as_bytes(), to_sign.as_bytes());
        format!("{ALGORITHM} Access={key_id}, SignedHeaders={signed}, Signature={signature}")
    }
}
