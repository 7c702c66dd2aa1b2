//! Certificates that we make ourselves: an authority that signs one server certificate and then is forgotten.
//!
//! Owns names, lifetimes and the moment of renewal. The authority's key is never kept, so a certificate that leaks is
//! good for its own names only, and for its own time.

use crate::TlsError;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// How long a certificate is good. Renewal at two thirds leaves a month for whoever has to notice a failure.
const LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Clocks of clients may be behind ours.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// A server certificate with its key and the authority that clients are to trust, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    pub authority_pem: String,
    pub certificate_pem: String,
    pub key_pem: String,
    pub expires: Timestamp,
}

impl Issued {
    /// When it is to be replaced: with a third of its life left.
    pub fn renew_at(&self) -> Timestamp {
        self.expires.checked_sub(LIFETIME / 3).unwrap_or(self.expires)
    }
}

/// Makes a certificate for a server of these names.
pub fn issue(names: &[String], now: Timestamp) -> Result<Issued, TlsError> {
    let expires = now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX);
    let starts = now.saturating_sub(BACKDATED).unwrap_or(now);
    let bounded = |mut params: CertificateParams| {
        params.not_before = day(starts);
        // Certificates are cut at whole days here; the day after the last keeps the promised time.
        params.not_after = day(expires.saturating_add(SignedDuration::from_hours(24)).unwrap_or(expires));
        params
    };
    let authority_key = KeyPair::generate()?;
    let mut authority = bounded(CertificateParams::new(Vec::<String>::new())?);
    authority.distinguished_name.push(DnType::CommonName, "tideline-webhook-authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let mut server = bounded(CertificateParams::new(names.to_vec())?);
    server.distinguished_name.push(DnType::CommonName, names.first().map_or("tideline", String::as_str));
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let certificate_pem = server.signed_by(&key, &issuer)?.pem();
    Ok(Issued { authority_pem, certificate_pem, key_pem: key.serialize_pem(), expires })
}

fn day(at: Timestamp) -> time::OffsetDateTime {
    let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
    date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_ours_serves_and_is_renewed_before_its_end() {
        let now: Timestamp = "2026-12-31T23:00:00Z".parse().unwrap();
        let issued = issue(&["webhook.kapacity-system.svc".to_owned()], now).unwrap();
        crate::server_config("ours", issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes(), &[])
            .unwrap();
        assert!(issued.renew_at() > now && issued.renew_at() < issued.expires);
        assert_ne!(issue(&["x".to_owned()], now).unwrap().key_pem, issued.key_pem);
    }
}
