//! One bounded GET or POST to a server of metrics, and what its refusals mean.
//!
//! Owns the limits on calls and on answers' sizes, and reading an error's text out of an answer. Addresses, TLS and
//! credentials are the client's, what is asked the sources'.

use calls::{CallLimits, Calls, Failure, FailureKind};
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

/// Requests under way at once: a slow server must not be asked everything at the same time.
const AT_ONCE: usize = 16;
/// Characters of a server's own words that are passed on.
const LONGEST_WORDS: usize = 300;

/// A server of metrics.
pub(crate) struct Server {
    client: Client,
    calls: Calls,
    under_way: Semaphore,
    largest_answer: usize,
}

/// A request that may be sent more than once.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) path: String,
    /// Form fields of a POST; a GET where there are none.
    pub(crate) form: Option<String>,
}

impl Server {
    pub(crate) fn new(client: Client, limits: CallLimits, largest_answer: usize) -> Self {
        Self { client, calls: Calls::new(limits), under_way: Semaphore::new(AT_ONCE), largest_answer }
    }

    /// Reads an answer, trying again while the server is ill.
    pub(crate) async fn read<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, Failure> {
        let body: Vec<u8> = self.read_parts(ask).await?;
        serde_json::from_slice(&body).map_err(|error| unexpected(&error))
    }

    /// Reads an answer that need not be in memory as a whole, trying again while the server is ill.
    pub(crate) async fn read_parts<B: Parts>(&self, ask: &Ask) -> Result<B, Failure> {
        self.calls.read(|| self.send(ask)).await
    }

    async fn send<B: Parts>(&self, ask: &Ask) -> Result<B, Failure> {
        // Closed never: the semaphore lives as long as we do.
        let _turn = self.under_way.acquire().await.map_err(|error| ill(&error))?;
        let request = http::Request::builder().uri(&ask.path).header("accept", "application/json");
        let request = match &ask.form {
            None => request.method("GET").body(Body::empty()),
            Some(form) => request
                .method("POST")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from(form.clone().into_bytes())),
        };
        let request = request
            .map_err(|error| Failure::new(FailureKind::Refused, "", format!("bad request: {error}")))?;
        let answer = self.client.send(request).await.map_err(|error| ill(&error))?;
        let status = answer.status();
        let (body, limit) = (answer.into_body(), self.largest_answer);
        if status.is_success() {
            return taken(body, limit).await;
        }
        let words: Vec<u8> = taken(body, limit).await?;
        Err(refusal(status, &words))
    }
}

/// What is made of an answer while it comes.
pub(crate) trait Parts: Default {
    fn take(&mut self, part: &[u8]);
}

impl Parts for Vec<u8> {
    fn take(&mut self, part: &[u8]) {
        self.extend_from_slice(part);
    }
}

/// An answer that is no answer to what was asked.
pub(crate) fn unexpected(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Refused, "", format!("the answer is not of the expected form: {error}"))
}

/// A body, each part let go as it is taken: large answers would else be in memory twice.
async fn taken<B: Parts>(body: Body, limit: usize) -> Result<B, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let message = format!("the answer broke off, or is larger than {limit} bytes: {error}");
        Failure::new(FailureKind::Ill, "", message)
    };
    let (mut body, mut read) = (std::pin::pin!(Limited::new(body, limit)), B::default());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        if let Some(data) = frame.data_ref() {
            read.take(data);
        }
    }
    Ok(read)
}

/// Fields as a query string or a form carries them.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                out.push(char::from(byte));
            } else {
                out.push('%');
                out.extend(
                    [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
                );
            }
        }
    }
    out
}

fn ill(error: &dyn std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    Failure::new(FailureKind::Ill, "", text)
}

/// What the server said of its refusal: Kubernetes says `message`, Prometheus `error`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Words {
    message: String,
    error: String,
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let words: Words = serde_json::from_slice(body).unwrap_or_default();
    let words = [words.message, words.error].into_iter().find(|words| !words.is_empty());
    let words = words.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let words: String = words.chars().take(LONGEST_WORDS).collect();
    let kind = match status.as_u16() {
        401 | 403 => FailureKind::Denied,
        404 => FailureKind::Missing,
        429 | 500.. => FailureKind::Ill,
        _ => FailureKind::Refused,
    };
    Failure::new(kind, status.as_u16().to_string(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let failure =
            refusal(StatusCode::BAD_REQUEST, br#"{"status":"error","error":"parse error at char 3"}"#);
        assert_eq!((failure.kind, &*failure.message), (FailureKind::Refused, "parse error at char 3"));
        let failure = refusal(StatusCode::FORBIDDEN, br#"{"kind":"Status","message":"pods is forbidden"}"#);
        assert_eq!(failure.to_string(), "403: pods is forbidden");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"<html>").kind, FailureKind::Ill);
    }
}
