//! What signatures of clouds' APIs are made of: hashes, and the escaping of what is hashed.
//!
//! Owns SHA-256, its keyed form, and the query as it is both signed and sent. What is signed is the clouds' business.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// SHA-256 with a key (HMAC), in hexadecimal.
pub fn keyed(key: &[u8], bytes: &[u8]) -> String {
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

/// The query in the order of its names, escaped as signatures want it; it is sent in the same form.
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
