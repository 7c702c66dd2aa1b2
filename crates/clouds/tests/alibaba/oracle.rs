//! The official SDK for Python as the judge: of our signatures byte for byte, and of the stand-in, as its client.

use crate::world::service;
use clock::Clock;
use clouds::alibaba::signature::Canonical;
use clouds::secret::Secret;
use doubles::python::environment;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const PACKAGES: &[&str] = &["alibabacloud-ess20220222==1.13.3", "alibabacloud-tea-openapi==0.4.6"];
/// Set where a missing SDK is a failure, not a reason to leave the test out.
const NEEDED: &str = "TIDELINE_NEED_ALIBABA_SDK";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alibaba")
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn our_signatures_are_the_sdks_byte_for_byte() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert!(vectors.len() >= 7);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let canonical = Canonical {
            method: text("method"),
            path: text("path"),
            query: &texts(&vector["query"]),
            headers: &texts(&vector["headers"]),
            payload: text("payload"),
        };
        let ours = canonical.authorization(text("keyId"), &Secret::new(text("keySecret")));
        assert_eq!(ours, text("authorization"), "{}", text("name"));
    }
}

/// A Python with the SDK, made once for this checkout; `None`, said aloud, where it cannot be had.
fn python() -> Option<PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alibaba-sdk");
    let made = || {
        environment(&place, PACKAGES, "import alibabacloud_ess20220222.client", NEEDED)
            .map(|place| place.join("bin/python"))
    };
    MADE.get_or_init(made).clone()
}

fn succeeded(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

#[test]
fn the_vectors_are_what_the_sdk_signs_today() {
    let Some(python) = python() else { return };
    let output = Command::new(python).arg(folder().join("vectors.py")).output().unwrap();
    let signed: Value = serde_json::from_str(&succeeded(&output)).unwrap();
    let checked_in: Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert_eq!(signed, checked_in, "run tests/alibaba/vectors.py anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_works_against_the_stand_in() {
    let Some(python) = tokio::task::spawn_blocking(python).await.unwrap() else { return };
    let double = service(Clock::system());
    {
        let mut state = double.state();
        state.world.making = jiff::SignedDuration::from_millis(200);
        state.world.removing = jiff::SignedDuration::from_millis(200);
        state.granted = vec!["ess:Describe*".into(), "ess:*Rule".into(), "ess:RemoveInstances".into()];
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, double.router()).await });
    let script = folder().join("sdk_client.py");
    let output = tokio::task::spawn_blocking(move || {
        Command::new(python).arg(script).arg(address.to_string()).output().unwrap()
    });
    let said = succeeded(&output.await.unwrap());
    server.abort();
    assert!(said.contains("all steps passed"), "{said}");
}
