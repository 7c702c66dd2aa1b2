//! The official SDK for Python as the judge: of our signatures byte for byte, and of the stand-in, as its client.

use crate::world::{POOL, service};
use clock::Clock;
use clouds::huawei::signature::Canonical;
use clouds::secret::Secret;
use doubles::huawei::{CLUSTER, PROJECT};
use doubles::python::environment;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PACKAGES: &[&str] = &["huaweicloudsdkcore==3.1.219", "huaweicloudsdkcce==3.1.219"];
/// Set where a missing SDK is a failure, not a reason to leave the test out.
const NEEDED: &str = "TIDELINE_NEED_HUAWEI_SDK";

fn vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

#[test]
fn our_signatures_are_the_sdks_byte_for_byte() {
    let vectors = vectors();
    assert!(vectors.len() >= 7);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let texts = |name: &str| serde_json::from_value(vector[name].clone()).unwrap();
        let canonical = Canonical {
            method: text("method"),
            path: text("path"),
            query: &texts("query"),
            headers: &texts("headers"),
            body: text("body").as_bytes(),
        };
        let ours = canonical.authorization(text("keyId"), &Secret::new(text("keySecret")));
        assert_eq!(ours, text("authorization"), "{}", text("name"));
    }
}

/// Runs a script with a Python that has the SDK, made once for this checkout; `None`, said aloud, where it cannot be had.
fn run(script: &str, arguments: &[&str]) -> Option<String> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("huawei-sdk");
    let made = MADE.get_or_init(|| environment(&place, PACKAGES, "import huaweicloudsdkcce.v3", NEEDED));
    let python = made.as_ref()?.join("bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/huawei").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Some(said)
}

#[test]
fn the_vectors_are_what_the_sdk_signs_today() {
    let Some(said) = run("vectors.py", &[]) else { return };
    let signed: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert_eq!(signed, vectors(), "run tests/huawei/vectors.py anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_works_against_the_stand_in() {
    let double = service(Clock::system());
    {
        let mut state = double.state();
        state.world.making = jiff::SignedDuration::from_millis(200);
        state.world.removing = jiff::SignedDuration::from_millis(200);
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move { axum::serve(listener, double.router()).await });
    let client = || run("sdk_client.py", &[&address, PROJECT, CLUSTER, POOL]);
    let said = tokio::task::block_in_place(client);
    server.abort();
    assert!(said.is_none_or(|said| said.contains("all steps passed")));
}
