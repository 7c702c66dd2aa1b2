//! The connection to a program that is asked by gRPC: an address, and certificates in files.
//!
//! Owns reading the files again when something renews them, and which status is whose fault. What is asked is the
//! callers' business.

use crate::calls::{Failure, FailureKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Where the server is, and how we and it prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// Without it the connection is plain.
    pub tls: Option<Certificates>,
    pub connect_timeout: Duration,
}

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// Who signed the server's certificate.
    pub authority: PathBuf,
    /// Our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A connection that stands again by itself, made when it is first used.
pub(crate) struct Connection {
    server: Server,
    held: Mutex<Held>,
}

struct Held {
    channel: Channel,
    pem: Pem,
    looked: Instant,
}

/// What the files held.
#[derive(Clone, Default, PartialEq, Eq)]
struct Pem {
    authority: Vec<u8>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Connection {
    /// The error is one sentence that names the file or the address, and the fix. Must run in a tokio runtime.
    pub(crate) fn open(server: Server) -> Result<Self, String> {
        let pem = server.read()?;
        let channel = server.channel(&pem)?;
        Ok(Self { server, held: Mutex::new(Held { channel, pem, looked: Instant::now() }) })
    }

    /// The channel with the newest certificates; ones that cannot be used leave the old ones in place.
    pub(crate) fn channel(&self) -> Channel {
        let mut held = self.held();
        if self.server.tls.is_some() && held.looked.elapsed() >= LOOK_EVERY {
            held.looked = Instant::now();
            let renewed = self.server.read().and_then(|pem| {
                let channel = (pem != held.pem).then(|| self.server.channel(&pem)).transpose()?;
                Ok(channel.map(|channel| (pem, channel)))
            });
            match renewed {
                Ok(None) => {}
                Ok(Some((pem, channel))) => {
                    tracing::info!(server = self.server.address, "new certificates are used");
                    (held.pem, held.channel) = (pem, channel);
                }
                Err(why) => tracing::warn!("the certificates used so far stay: {why}"),
            }
        }
        held.channel.clone()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A poisoned lock means that a task died between plain assignments: the values are still whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    fn read(&self) -> Result<Pem, String> {
        let Some(tls) = &self.tls else { return Ok(Pem::default()) };
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| {
                format!("{} cannot be read ({error}); check the path and its rights", path.display())
            })
        };
        let identity = tls.identity.as_ref();
        let identity = identity.map(|(own, key)| Ok::<_, String>((read(own)?, read(key)?))).transpose()?;
        Ok(Pem { authority: read(&tls.authority)?, identity })
    }

    fn channel(&self, pem: &Pem) -> Result<Channel, String> {
        let host = self.address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Err(format!("\"{}\" is no address with a port; write host:port", self.address));
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let wrong = |error: tonic::transport::Error| {
            let source = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
            format!("no connection to {} can be set up: {error}{source}", self.address)
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(|_| format!("\"{}\" is no address with a port; write host:port", self.address))?
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(self.connect_timeout);
        if self.tls.is_some() {
            let mut tls = ClientTlsConfig::new()
                .domain_name(host)
                .ca_certificate(Certificate::from_pem(&pem.authority));
            if let Some((own, key)) = &pem.identity {
                tls = tls.identity(Identity::from_pem(own, key));
            }
            endpoint = endpoint.tls_config(tls).map_err(wrong)?;
        }
        Ok(endpoint.connect_lazy())
    }
}

/// Whether a call was to read or to change something: a program's own error about a change is its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Change,
}

/// What a status means for the call that got it.
pub(crate) fn failure(call: &str, purpose: Purpose, status: &Status) -> Failure {
    let mut message = format!("{call}: {}", shown(status.message()));
    // Errors of the transport have a source, answers of the server do not.
    let mut source = std::error::Error::source(status);
    let unanswered = source.is_some();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    let kind = match status.code() {
        _ if unanswered => FailureKind::Ill,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => FailureKind::Ill,
        Code::Aborted => FailureKind::Busy,
        Code::Unauthenticated | Code::PermissionDenied => FailureKind::Denied,
        Code::NotFound => FailureKind::Missing,
        Code::Unknown | Code::Internal | Code::ResourceExhausted | Code::DataLoss
            if purpose == Purpose::Read =>
        {
            FailureKind::Ill
        }
        _ => FailureKind::Refused,
    };
    Failure { code: Arc::from(format!("{:?}", status.code())), message: Arc::from(message), kind }
}

/// A text of somebody else's program, within bounds and on one line.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_sorted_by_whose_fault_they_are() {
        let kind = |code, purpose| failure("X", purpose, &Status::new(code, "no")).kind;
        for (code, read, change) in [
            (Code::Unavailable, FailureKind::Ill, FailureKind::Ill),
            (Code::Unknown, FailureKind::Ill, FailureKind::Refused),
            (Code::ResourceExhausted, FailureKind::Ill, FailureKind::Refused),
            (Code::Aborted, FailureKind::Busy, FailureKind::Busy),
            (Code::PermissionDenied, FailureKind::Denied, FailureKind::Denied),
            (Code::NotFound, FailureKind::Missing, FailureKind::Missing),
            (Code::Unimplemented, FailureKind::Refused, FailureKind::Refused),
        ] {
            assert_eq!((kind(code, Purpose::Read), kind(code, Purpose::Change)), (read, change), "{code:?}");
        }
        let failure = failure("NodeGroups", Purpose::Read, &Status::unknown("a\nb"));
        assert_eq!(failure.to_string(), "Unknown: NodeGroups: a b");
    }

    #[tokio::test]
    async fn a_connection_that_cannot_be_says_which_file_or_address_is_wrong() {
        let server = |address: &str, tls| Server {
            address: address.to_owned(),
            tls,
            connect_timeout: Duration::from_secs(1),
        };
        let open = |server| Connection::open(server).err().unwrap();
        assert!(open(server("nowhere", None)).contains("write host:port"));
        assert!(open(server(":80", None)).contains("write host:port"));
        let missing = Certificates { authority: "/nowhere/ca.pem".into(), identity: None };
        assert!(open(server("a:1", Some(missing))).contains("/nowhere/ca.pem cannot be read"));
        assert!(Connection::open(server("[::1]:8086", None)).is_ok());
    }
}
