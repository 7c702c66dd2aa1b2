//! Spans to a collector, by OTLP over HTTP.
//!
//! Owns the queue, what is tried again, and the counts of what went and what was dropped. A collector that is slow or
//! away costs spans, and never time.

use super::span::{Span, export};
use crate::ControllerError;
use bytes::Bytes;
use clouds::backoff::{Backoff, seed_for};
use clouds::transport::Transport;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use prometheus_client::metrics::counter::Counter;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Spans that wait to be sent, and that go in one request.
const WAITING: usize = 4096;
const AT_ONCE: usize = 512;
/// How long one request may take, how often it is tried, and the waits between.
const PATIENCE: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(16);
const PATH: &str = "/v1/traces";

/// Where spans go.
#[derive(Clone)]
pub struct TraceSettings {
    endpoint: Uri,
    /// Sent with each request; the values are secrets.
    headers: HeaderMap,
    transport: Arc<dyn Transport>,
    instance: String,
}

impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceSettings").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl TraceSettings {
    /// `endpoint` is the collector's base, to which OTLP's path is added.
    pub fn new(
        endpoint: &str,
        headers: HeaderMap,
        transport: Arc<dyn Transport>,
        instance: String,
    ) -> Result<Self, ControllerError> {
        let refused =
            |problem: String| ControllerError::Config { field: "otlp-endpoint".to_owned(), problem };
        let wrong = || {
            refused(format!(
                "\"{endpoint}\" is not the address of a collector; write http://HOST:4318 or https://HOST"
            ))
        };
        let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
        let mut parts = uri.into_parts();
        let authority = parts.authority.as_ref().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            let problem =
                "a user or password in an address would stand in process lists; put a header into a file";
            return Err(refused(problem.to_owned()));
        }
        if !parts.scheme.as_ref().is_some_and(|scheme| ["http", "https"].contains(&scheme.as_str())) {
            return Err(wrong());
        }
        let base = parts.path_and_query.as_ref().map_or("", PathAndQuery::path).trim_end_matches('/');
        let path = if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") };
        parts.path_and_query = Some(path.parse().map_err(|_| wrong())?);
        let endpoint = Uri::from_parts(parts).map_err(|_| wrong())?;
        Ok(Self { endpoint, headers, transport, instance })
    }

    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Begins to send; the queue's end ends the sending.
    pub(crate) fn start(self, counts: Counts) -> (Queue, Exporting) {
        let (sender, spans) = mpsc::channel(WAITING);
        let queue = Queue { sender, counts: counts.clone() };
        (queue, tokio::spawn(self.run(spans, counts)))
    }

    async fn run(self, mut spans: mpsc::Receiver<Span>, counts: Counts) {
        let mut batch = Vec::with_capacity(AT_ONCE);
        let mut told = false;
        while spans.recv_many(&mut batch, AT_ONCE).await > 0 {
            match self.send(&batch).await {
                Ok(()) => {
                    counts.sent.inc_by(batch.len() as u64);
                    told = false;
                }
                Err(why) => {
                    counts.dropped.inc_by(batch.len() as u64);
                    // Once for each outage: the count tells how much it was.
                    if !told {
                        tracing::warn!(
                            host = self.endpoint.host(),
                            why,
                            "spans are not taken and are dropped"
                        );
                    }
                    told = true;
                }
            }
            batch.clear();
        }
    }

    /// Sends one request, again where the collector may take it later.
    async fn send(&self, batch: &[Span]) -> Result<(), String> {
        let body = Bytes::from(export(batch, &self.instance).to_string());
        let mut waits = Backoff::new(seed_for(0, PATH), FIRST_WAIT, LONGEST_WAIT);
        let mut why = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(waits.wait()).await;
            }
            let mut request = http::Request::new(body.clone());
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = self.endpoint.clone();
            request.headers_mut().clone_from(&self.headers);
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            match tokio::time::timeout(PATIENCE, self.transport.send(request)).await {
                Ok(Ok(answer)) if answer.status().is_success() => return Ok(()),
                Ok(Ok(answer)) => {
                    why = format!("the collector answered {}", answer.status());
                    if !matches!(answer.status().as_u16(), 429 | 502..=504) {
                        return Err(why);
                    }
                }
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = format!("no answer within {} s", PATIENCE.as_secs()),
            }
        }
        Err(why)
    }
}

/// The task that sends.
pub(crate) type Exporting = tokio::task::JoinHandle<()>;

/// What became of spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: Counter,
    pub(crate) dropped: Counter,
}

/// The way to the sender.
pub(crate) struct Queue {
    sender: mpsc::Sender<Span>,
    counts: Counts,
}

impl Queue {
    /// Hands a span over, or drops it where too many wait.
    pub(super) fn offer(&self, span: Span) {
        if self.sender.try_send(span).is_err() {
            self.counts.dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::span::{SpanId, TraceId};
    use clouds::transport::Broken;
    use futures::future::BoxFuture;
    use jiff::Timestamp;
    use std::sync::Mutex;

    /// A collector that answers with these codes, one after the other, and then with 200.
    #[derive(Default)]
    struct Collector {
        codes: Mutex<Vec<u16>>,
        taken: Mutex<Vec<http::Request<Bytes>>>,
    }

    impl Transport for Collector {
        fn send(
            &self,
            request: http::Request<Bytes>,
        ) -> BoxFuture<'_, Result<http::Response<Bytes>, Broken>> {
            self.taken.lock().unwrap().push(request);
            let code = self.codes.lock().unwrap().pop().unwrap_or(200);
            let mut answer = http::Response::new(Bytes::new());
            *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
            Box::pin(async move { Ok(answer) })
        }
    }

    fn settings(collector: &Arc<Collector>) -> TraceSettings {
        let headers =
            HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static("s3cret"))]);
        TraceSettings::new("https://collector/base/", headers, collector.clone(), "one".into()).unwrap()
    }

    fn span() -> Span {
        let trace = TraceId::of("one", 1, Timestamp::UNIX_EPOCH);
        Span::begin(trace, SpanId::of(trace, 0), None, "decision", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn addresses_are_read_and_wrong_ones_named() {
        let with = |text| {
            TraceSettings::new(text, HeaderMap::new(), Arc::new(Collector::default()), String::new())
                .map(|settings| settings.endpoint.to_string())
        };
        assert_eq!(with("http://c:4318").unwrap(), "http://c:4318/v1/traces");
        assert_eq!(with("http://c:4318/v1/traces").unwrap(), "http://c:4318/v1/traces");
        assert_eq!(with("https://c/otlp/").unwrap(), "https://c/otlp/v1/traces");
        let credentials = with("https://me:pw@c").unwrap_err().to_string();
        assert!(credentials.contains("into a file") && !credentials.contains("pw"), "{credentials}");
        for wrong in ["c:4318", "ftp://c", "", "/v1/traces", "grpc://c:4317"] {
            let error = with(wrong).unwrap_err().to_string();
            assert!(error.contains("http://HOST:4318"), "{wrong}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_taken_later_is_sent_again_and_what_is_refused_is_counted() {
        let collector = Arc::new(Collector { codes: Mutex::new(vec![503, 429]), ..Collector::default() });
        let counts = Counts::default();
        let (queue, exporting) = settings(&collector).start(counts.clone());
        queue.offer(span());
        drop(queue);
        exporting.await.unwrap();
        assert_eq!((counts.sent.get(), counts.dropped.get()), (1, 0));
        let taken = std::mem::take(&mut *collector.taken.lock().unwrap());
        assert_eq!(taken.len(), 3);
        assert!(taken.iter().all(|request| request.headers()["authorization"] == "s3cret"));
        assert_eq!(taken[0].uri(), "https://collector/base/v1/traces");
        assert_eq!(taken[0].headers()[CONTENT_TYPE], "application/json");

        for codes in [vec![400], vec![503; 5]] {
            let collector = Arc::new(Collector { codes: Mutex::new(codes), ..Collector::default() });
            let counts = Counts::default();
            let (queue, exporting) = settings(&collector).start(counts.clone());
            queue.offer(span());
            drop(queue);
            exporting.await.unwrap();
            assert_eq!((counts.sent.get(), counts.dropped.get()), (0, 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_does_not_answer_costs_spans_and_no_time() {
        struct Silent;
        impl Transport for Silent {
            fn send(&self, _: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, Broken>> {
                Box::pin(std::future::pending())
            }
        }
        let counts = Counts::default();
        let settings =
            TraceSettings::new("http://c", HeaderMap::new(), Arc::new(Silent), "one".into()).unwrap();
        let (queue, _exporting) = settings.start(counts.clone());
        let begun = tokio::time::Instant::now();
        for _ in 0..WAITING + AT_ONCE + 10 {
            queue.offer(span());
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(counts.dropped.get() >= 10, "{}", counts.dropped.get());
    }

    #[test]
    fn headers_do_not_show() {
        let shown = format!("{:?}", settings(&Arc::new(Collector::default())));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
