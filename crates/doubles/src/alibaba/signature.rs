//! The gateway in front of the APIs: keys, signatures, tokens, times and nonces.

use super::Refusal;
use super::identity::Key;
use super::query::Query;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// How far a request's time may be from the service's.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(15);
/// Nonces that are remembered.
const MOST_NONCES: usize = 100_000;

pub(crate) fn header(parts: &Parts, name: &str) -> Option<String> {
    parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Who signed the request; the refusal is the one that the service gives.
pub(super) fn verify(
    parts: &Parts,
    body: &[u8],
    query: &Query,
    keys: &[Key],
    nonces: &mut BTreeSet<String>,
    now: Timestamp,
) -> Result<String, Refusal> {
    let given = header(parts, "authorization").unwrap_or_default();
    let Some(fields) = given.strip_prefix("ACS3-HMAC-SHA256 ") else {
        return Err(Refusal::new(400, "MissingAuthorization", "there is no ACS3-HMAC-SHA256 authorization"));
    };
    let field = |name: &str| {
        fields
            .split(',')
            .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_default()
    };
    let (id, signed, signature) = (field("Credential"), field("SignedHeaders"), field("Signature"));
    let Some(key) = keys.iter().find(|key| key.id == id) else {
        return Err(Refusal::new(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."));
    };
    check_time(parts, now)?;
    check_token(parts, key, now)?;
    let names: Vec<&str> = signed.split(';').collect();
    let sorted = names.windows(2).all(|pair| pair[0] < pair[1]);
    let must = ["host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"];
    if !sorted || must.iter().any(|name| !names.contains(name)) {
        return Err(Refusal::new(400, "IncompleteSignature", "a header that must be signed is not"));
    }
    let payload = hex(&Sha256::digest(body));
    if header(parts, "x-acs-content-sha256").is_some_and(|told| told != payload) {
        return Err(Refusal::new(400, "InvalidContentSha256", "the body is not the one announced"));
    }
    let lines: Vec<String> = names
        .iter()
        .map(|name| format!("{name}:{}", header(parts, name).unwrap_or_default().trim()))
        .collect();
    let headers = lines.join("\n") + "\n";
    let canonical =
        [parts.method.as_str(), parts.uri.path(), &query.canonical(), &headers, signed, &payload].join("\n");
    let text = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let verified = Hmac::<Sha256>::new_from_slice(key.secret.as_bytes()).is_ok_and(|mut mac| {
        mac.update(text.as_bytes());
        hex(&mac.finalize().into_bytes()) == signature
    });
    if !verified {
        let message = "Specified signature is not matched with our calculation.";
        return Err(Refusal::new(400, "SignatureDoesNotMatch", message));
    }
    let nonce = header(parts, "x-acs-signature-nonce").unwrap_or_default();
    if nonces.len() >= MOST_NONCES {
        nonces.clear();
    }
    if nonce.is_empty() || !nonces.insert(nonce) {
        return Err(Refusal::new(400, "SignatureNonceUsed", "Specified signature nonce was used already."));
    }
    Ok(key.principal.clone())
}

fn check_time(parts: &Parts, now: Timestamp) -> Result<(), Refusal> {
    let told = header(parts, "x-acs-date").and_then(|date| date.parse::<Timestamp>().ok());
    let Some(told) = told else {
        return Err(Refusal::new(
            400,
            "InvalidTimeStamp.Format",
            "Specified time stamp is not well formatted.",
        ));
    };
    if told.duration_since(now).abs() > TOLERANCE {
        return Err(Refusal::new(
            400,
            "InvalidTimeStamp.Expired",
            "Specified time stamp or date value is expired.",
        ));
    }
    Ok(())
}

fn check_token(parts: &Parts, key: &Key, now: Timestamp) -> Result<(), Refusal> {
    if header(parts, "x-acs-security-token") != key.token {
        return Err(Refusal::new(
            400,
            "InvalidSecurityToken.Malformed",
            "Specified SecurityToken is malformed.",
        ));
    }
    if key.expires.is_some_and(|end| end <= now) {
        return Err(Refusal::new(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired."));
    }
    Ok(())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
