//! ACS3-HMAC-SHA256: the signature that Alibaba Cloud's APIs ask of each request.
//!
//! Owns the canonical form and the header that follows from it, as pure functions. What is sent, and with whose key,
//! is the client's business.

use crate::secret::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
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

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn keyed(key: &[u8], bytes: &[u8]) -> String {
    // Keys of any length are taken; the error of this constructor is for other kinds of keyed hashes.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(bytes);
            hexadecimal(&mac.finalize().into_bytes())
        },
    )
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The query in the order of its names, escaped as the signature wants it; it is sent in the same form.
pub fn query_string(query: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> =
        query.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.join("&")
}

/// Escapes every byte but letters, digits and `-_.~` (RFC 3986).
pub fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}
