//! The webhook on a socket: answers, guards, limits, slow clients, TLS, and bodies made by chance.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use alerts::{ALERTMANAGER_PATH, CredentialFiles, PLATFORM_PATH, Serving, Settings, serve};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use world::{World, body};

const STARTS: &str = "2026-01-01T00:00:00Z";
/// No test waits longer for an answer.
const PATIENCE: Duration = Duration::from_mins(1);

struct Server {
    world: World,
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

async fn server(credentials: CredentialFiles, per_second: u32) -> Server {
    let world = World::new().await;
    let scaler = world.scaler(world.client.clone(), Settings::default());
    let address = "127.0.0.1:0".parse().unwrap();
    let serving = Serving { address, credentials, per_second, seed: 1 };
    let (bound, listening) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let bound = move |address| bound.send(address).unwrap();
        serve(scaler, serving, bound, async { drop(stopped.await) }).await.unwrap();
    });
    Server { world, address: listening.await.unwrap(), _stop: stop }
}

/// Sends bytes and reads the answer to its end: status and body.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> (u16, String) {
    let mut answer = Vec::new();
    // A server that refuses early may close before all is sent.
    let _ = stream.write_all(request).await;
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (status, body)
}

fn request(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Server {
    async fn send(&self, request: &[u8]) -> (u16, String) {
        exchange(TcpStream::connect(self.address).await.unwrap(), request).await
    }

    async fn post(&self, path: &str, body: &[u8]) -> (u16, Value) {
        let (status, text) = self.send(&request(path, "", body)).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn answers_say_what_happened() {
    let server = server(CredentialFiles::default(), 100).await;
    let alert = body("cluster-1", "a", STARTS).to_string();
    let (status, answer) = server.post(PLATFORM_PATH, alert.as_bytes()).await;
    assert_eq!((status, &answer["verdict"], &answer["to"]), (200, &json!("scaled"), &json!(4)), "{answer}");
    let (status, answer) = server.post(PLATFORM_PATH, alert.as_bytes()).await;
    assert_eq!((status, &answer["reason"]), (200, &json!("AlreadyActedOn")), "{answer}");
    let broken = alert.replace("graph", "graph?\"");
    let (status, answer) = server.post(PLATFORM_PATH, broken.as_bytes()).await;
    assert_eq!((status, &answer["field"]), (400, &json!("generatorURL")), "{answer}");

    let alert = |cluster: &str, fingerprint: &str| {
        let mut alert = body(cluster, fingerprint, STARTS);
        alert["generatorURL"] = json!("http://x");
        alert
    };
    let group = json!({"version": "4", "alerts": [alert("cluster-2", "b"), alert("cluster-1", "a")]});
    let (status, answer) = server.post(ALERTMANAGER_PATH, group.to_string().as_bytes()).await;
    let reasons: Vec<&Value> =
        answer["verdicts"].as_array().unwrap().iter().map(|verdict| &verdict["reason"]).collect();
    assert_eq!((status, reasons), (200, vec![&json!("AlreadyActedOn"), &json!("TooFewAddresses")]));

    let (status, metrics) =
        server.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let counted = "tideline_alerts_total{verdict=\"skipped\",reason=\"AlreadyActedOn\"} 2";
    assert!(status == 200 && metrics.contains(counted), "{metrics}");
    assert_eq!(
        server.send(b"GET /alertmanager HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.0,
        405
    );
    assert_eq!(server.post("/elsewhere", b"{}").await.0, 404);
    assert_eq!(server.world.all_replicas().await, [4, 3]);
}

#[tokio::test]
async fn large_and_slow_requests_cost_a_bounded_place() {
    let server = server(CredentialFiles::default(), 100).await;
    let large = vec![b' '; (1 << 20) + 1];
    assert_eq!(server.post(PLATFORM_PATH, &large).await.0, 413);
    let chunked = format!(
        "POST {PLATFORM_PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        large.len(),
        " ".repeat(large.len())
    );
    assert_eq!(server.send(chunked.as_bytes()).await.0, 413);
    let long = format!("X-Long: {}\r\n", "x".repeat(32 << 10));
    assert_eq!(server.send(&request(PLATFORM_PATH, &long, b"{}")).await.0, 431);
    let many = (0..200).map(|at| format!("X-{at}: 1\r\n")).collect::<Vec<_>>().concat();
    assert_eq!(server.send(&request(PLATFORM_PATH, &many, b"{}")).await.0, 431);
    // Half a head, half a body, nothing at all: each ends by itself.
    let whole = request(PLATFORM_PATH, "", b"{}");
    let (silent, half_head, half_body) =
        tokio::join!(server.send(b""), server.send(&whole[..20]), server.send(&whole[..whole.len() - 1]));
    assert!([0, 408].contains(&silent.0) && [0, 408].contains(&half_head.0), "{silent:?} {half_head:?}");
    assert_eq!(half_body.0, 408);
}

#[tokio::test]
async fn more_than_the_rate_is_asked_to_come_again() {
    let server = server(CredentialFiles::default(), 1).await;
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(server.post(PLATFORM_PATH, b"{}").await.0 == 429);
    }
    assert!(refused >= 10, "{refused} of 20");
}

#[tokio::test]
async fn a_token_is_asked_for_and_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "first").unwrap();
    let server = server(CredentialFiles { token: Some(path.clone()), ..Default::default() }, 100).await;
    let alert = body("cluster-1", "a", STARTS).to_string();
    let post = async |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        server.send(&request(PLATFORM_PATH, &header, alert.as_bytes())).await.0
    };
    assert_eq!(server.post(PLATFORM_PATH, alert.as_bytes()).await.0, 401);
    assert_eq!(post("second").await, 401);
    assert_eq!(server.world.replicas("cluster-1").await, 3);
    assert_eq!(post("first").await, 200);
    std::fs::write(&path, "second").unwrap();
    let end = tokio::time::Instant::now() + PATIENCE;
    while post("second").await != 200 {
        assert!(tokio::time::Instant::now() < end, "the new token is never taken");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(post("first").await, 401);
}

/// An authority, and a certificate of it with its key, in PEM.
fn certificate(
    folder: &Path,
    name: &str,
    issuer: &Issuer<'_, KeyPair>,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
    std::fs::write(folder.join(format!("{name}.crt")), made.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    (made.der().clone(), PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap())
}

fn authority() -> (CertificateDer<'static>, String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let made = params.self_signed(&key).unwrap();
    (made.der().clone(), made.pem(), Issuer::new(params, key))
}

#[tokio::test]
async fn mutual_tls_lets_in_only_clients_of_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (root, pem, issuer) = authority();
    let (_, _, stranger) = authority();
    std::fs::write(folder.path().join("ca.crt"), pem).unwrap();
    certificate(folder.path(), "server", &issuer);
    let ours = certificate(folder.path(), "client", &issuer);
    let theirs = certificate(folder.path(), "stranger", &stranger);
    let file = |name: &str| folder.path().join(name);
    let files = CredentialFiles {
        token: None,
        certificate: Some((file("server.crt"), file("server.key"))),
        client_authorities: Some(file("ca.crt")),
    };
    let server = server(files, 100).await;
    let alert = body("cluster-1", "a", STARTS).to_string();
    let post = async |identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        match connector.connect(name, stream).await {
            Ok(stream) => exchange(stream, &request(PLATFORM_PATH, "", alert.as_bytes())).await.0,
            Err(_) => 0,
        }
    };
    assert_eq!(post(None).await, 0);
    assert_eq!(post(Some(theirs)).await, 0);
    assert_eq!(server.send(&request(PLATFORM_PATH, "", alert.as_bytes())).await.0, 0, "plain HTTP");
    assert_eq!(server.world.replicas("cluster-1").await, 3);
    assert_eq!(post(Some(ours)).await, 200);
    assert_eq!(server.world.replicas("cluster-1").await, 4);
}

/// Bodies near to real ones: cut, doubled, with bytes changed, with fields of other types.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let real = body("cluster-1", "a", STARTS).to_string().into_bytes();
    let changed =
        (Just(real.clone()), prop::collection::vec((any::<usize>(), any::<u8>()), 0..8), any::<usize>())
            .prop_map(|(mut body, changes, cut)| {
                for (at, byte) in changes {
                    let at = at % body.len();
                    body[at] = byte;
                }
                body.truncate(cut % (body.len() * 4));
                body
            });
    let fields =
        ["labels", "status", "startsAt", "endsAt", "fingerprint", "annotations", "generatorURL", "x"];
    let values = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        Just(json!([[[]]])),
        Just(json!({"alert_cluster": {"a": 1}})),
    ];
    let typed =
        prop::collection::vec((prop::sample::select(fields.to_vec()), values), 1..4).prop_map(|changes| {
            let mut body = body("cluster-1", "a", STARTS);
            for (field, value) in changes {
                body[field] = value;
            }
            body.to_string().into_bytes()
        });
    let grouped = bodies_of_groups(&real);
    prop_oneof![4 => changed, 2 => typed, 1 => grouped, 1 => prop::collection::vec(any::<u8>(), 0..256)]
}

fn bodies_of_groups(real: &[u8]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let group = [b"{\"version\":\"4\",\"alerts\":[".as_slice(), real, b"]}"].concat();
    (any::<usize>(), any::<u8>()).prop_map(move |(at, byte)| {
        let mut group = group.clone();
        let at = at % group.len();
        group[at] = byte;
        group
    })
}

/// Bodies that CI throws at both grammars; the nightly run raises it.
fn cases() -> u32 {
    std::env::var("TIDELINE_FUZZED_BODIES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

#[test]
fn no_body_panics_and_a_refusal_names_a_field() {
    let mut runner =
        TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    runner
        .run(&bodies(), |body| {
            for outcome in [alerts::platform(&body).err(), alerts::alertmanager(&body).err()] {
                let Some(error) = outcome else { continue };
                prop_assert!(!error.field.is_empty() && !error.problem.is_empty());
                prop_assert!(error.to_string().len() < 4096, "a message repeats the body");
            }
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn malformed_bodies_change_nothing() {
    let server = server(CredentialFiles::default(), 10_000).await;
    let mut runner = TestRunner::deterministic();
    let mut malformed = 0;
    for _ in 0..300 {
        let body = bodies().new_tree(&mut runner).unwrap().current();
        for (path, wrong) in [
            (PLATFORM_PATH, alerts::platform(&body).is_err()),
            (ALERTMANAGER_PATH, alerts::alertmanager(&body).is_err()),
        ] {
            if wrong {
                assert_eq!(server.post(path, &body).await.0, 400, "{}", String::from_utf8_lossy(&body));
                malformed += 1;
            }
        }
    }
    assert!(malformed > 100);
    assert_eq!(server.world.all_replicas().await, [3, 3]);
    assert_eq!(server.world.values("scale-history-config").await, Value::Null);
}
