//! AWS: moto's server, a program for Python, as the service, and in front of it a door that refuses, delays, loses and distorts.
//!
//! Owns the process, the door and what goes wrong in it. What a group does with its orders is moto's business; what
//! moto lacks (scaling activities, types by requirements) the door answers itself.

mod door;

pub use door::{Activity, Canned, Fault, Seen};

use crate::python;
use axum::Router;
use door::Door;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::process::{Child, Command};

const PACKAGES: &[&str] = &["moto[server]==5.2.5"];
/// Set where a missing moto is a failure, not a reason to leave tests out.
const NEEDED: &str = "TIDELINE_NEED_MOTO";
/// Ample for an interpreter on a loaded machine.
const DEADLINE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(100);
const LARGEST_ANSWER: usize = 16 << 20;

pub(crate) type Http = Client<HttpConnector, Full<bytes::Bytes>>;

/// The service behind its door, until dropped.
pub struct Aws {
    moto: String,
    endpoint: String,
    door: Arc<Door>,
    http: Http,
    _process: Child,
}

/// moto's environment, made once; `None`, said aloud, where it cannot be had.
fn installed(scratch: &Path) -> Option<PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| {
        python::environment(&scratch.join("moto"), PACKAGES, "import moto.server, flask", NEEDED)
    })
    .clone()
}

impl Aws {
    /// Starts it; `scratch` is where moto is installed. `None`, said aloud, where it cannot be had.
    ///
    /// # Panics
    ///
    /// Where it is installed and does not start.
    pub async fn start(scratch: &Path) -> Option<Self> {
        let scratch = scratch.to_owned();
        let place = tokio::task::spawn_blocking(move || installed(&scratch)).await.ok().flatten()?;
        let http: Http = Client::builder(TokioExecutor::new()).build_http();
        let (process, moto) = started(&place, &http).await;
        let door = Arc::new(Door::new(moto.clone(), http.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.ok()?;
        let endpoint = format!("http://{}", listener.local_addr().ok()?);
        let router = Router::new().fallback(door::pass).with_state(door.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Some(Self { moto, endpoint, door, http, _process: process })
    }

    /// Where clients find it, behind the door.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What goes wrong, what may be done, and what was asked.
    pub fn door(&self) -> MutexGuard<'_, door::State> {
        self.door.state()
    }

    /// Carries an action out past the door, as the owner of the account; answers its text.
    ///
    /// # Panics
    ///
    /// Where moto refuses.
    pub async fn call(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> String {
        let mut body = format!("Action={action}");
        for (name, value) in parameters {
            let _ = write!(body, "&{}={}", door::encoded(name), door::encoded(value));
        }
        self.send(service, "POST", "/", "application/x-www-form-urlencoded", body).await
    }

    /// The same for an action in JSON.
    ///
    /// # Panics
    ///
    /// Where moto refuses.
    pub async fn call_json(
        &self,
        service: &str,
        target: &str,
        body: &serde_json::Value,
    ) -> serde_json::Value {
        let scope = format!("20260101/{}/{service}/aws4_request", door::REGION);
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("{}/", self.moto))
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential=owner/{scope}, SignedHeaders=host, Signature=0"),
            )
            .body(Full::from(body.to_string()))
            .unwrap_or_else(|error| panic!("{body}: {error}"));
        let answer = self.http.request(request).await.unwrap_or_else(|error| panic!("{body}: {error}"));
        let status = answer.status();
        let text =
            answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        assert!(status.is_success(), "{body}: {status} {}", String::from_utf8_lossy(&text));
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Makes a managed node group of EKS, for which moto wants a cluster.
    ///
    /// # Panics
    ///
    /// Where moto refuses.
    pub async fn node_group(&self, cluster: &str, body: serde_json::Value) {
        let made = serde_json::json!({
            "name": cluster,
            "roleArn": "arn:aws:iam::123456789012:role/cluster",
            "resourcesVpcConfig": {"subnetIds": ["subnet-1"], "securityGroupIds": ["sg-1"]},
        });
        self.send("eks", "POST", "/clusters", "application/json", made.to_string()).await;
        let path = format!("/clusters/{cluster}/node-groups");
        self.send("eks", "POST", &path, "application/json", body.to_string()).await;
    }

    async fn send(&self, service: &str, method: &str, path: &str, kind: &str, body: String) -> String {
        let scope = format!("20260101/{}/{service}/aws4_request", door::REGION);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.moto))
            .header("content-type", kind)
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential=owner/{scope}, SignedHeaders=host, Signature=0"),
            )
            .body(Full::from(body.clone()))
            .unwrap_or_else(|error| panic!("{body}: {error}"));
        let answer = self.http.request(request).await.unwrap_or_else(|error| panic!("{body}: {error}"));
        let status = answer.status();
        let text =
            answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(status.is_success(), "{body}: {status} {text}");
        text
    }

    /// The instances of a group, each with its zone.
    pub async fn instances(&self, group: &str) -> Vec<(String, String)> {
        let parameters = [("AutoScalingGroupNames.member.1", group)];
        let text = self.call("autoscaling", "DescribeAutoScalingGroups", &parameters).await;
        let after = |part: &str, name: &str| {
            let (_, rest) = part.split_once(&format!("<{name}>"))?;
            rest.split_once('<').map(|(value, _)| value.to_owned())
        };
        text.split("<InstanceId>")
            .skip(1)
            .filter_map(|part| {
                let (id, rest) = part.split_once('<')?;
                Some((id.to_owned(), after(rest, "AvailabilityZone")?))
            })
            .collect()
    }

    /// What a group was asked for.
    pub async fn desired(&self, group: &str) -> u32 {
        let parameters = [("AutoScalingGroupNames.member.1", group)];
        let text = self.call("autoscaling", "DescribeAutoScalingGroups", &parameters).await;
        let value = text.split("<DesiredCapacity>").nth(1).and_then(|rest| rest.split('<').next());
        value.and_then(|value| value.parse().ok()).unwrap_or(u32::MAX)
    }
}

/// Starts moto on a port of its own and waits until it answers.
async fn started(place: &Path, http: &Http) -> (Child, String) {
    let end = tokio::time::Instant::now() + DEADLINE;
    // The port is free when it is chosen; another process may take it before moto does, so there are several tries.
    for _ in 0..5 {
        let Ok(free) = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()) else {
            continue;
        };
        let spawned = Command::new(place.join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &free.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let Ok(mut process) = spawned else { continue };
        let address = format!("http://{free}");
        while process.try_wait().is_ok_and(|ended| ended.is_none()) {
            let Ok(uri) = format!("{address}/moto-api/").parse() else { break };
            if http.get(uri).await.is_ok() {
                return (process, address);
            }
            assert!(tokio::time::Instant::now() < end, "moto does not answer");
            tokio::time::sleep(POLL).await;
        }
    }
    panic!("moto does not start");
}

/// The door's state, past a panic of another test's task: it is made of plain assignments.
fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
