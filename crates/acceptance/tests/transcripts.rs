//! Every transcript runs as it says it does, and the page that lists them is up to date.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::io::Write as _;

use acceptance::{Transcript, run, source_root, table};
use serde_json::json;
use tokio::sync::Semaphore;

/// Control planes at a time: each is four processes that start at full load.
static PLACES: Semaphore = Semaphore::const_new(2);

#[test]
fn the_page_lists_every_step() {
    let (transcripts, capabilities) = Transcript::read_all(&source_root().join("tests/seeds")).unwrap();
    assert_eq!(transcripts.len(), 6, "each of the five documents has its transcript, the fourth has two");
    let page = table(&transcripts, &capabilities);
    let path = source_root().join("docs/seeds.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == written, "docs/seeds.md is stale: UPDATE_GOLDEN=1 cargo test -p acceptance");
}

async fn transcript(name: &str) {
    let (transcripts, capabilities) = Transcript::read_all(&source_root().join("tests/seeds")).unwrap();
    let one = transcripts.iter().find(|one| one.dir.ends_with(name)).unwrap();
    if !testbed::wanted(&format!("transcript {name}")) {
        return;
    }
    let _place = PLACES.acquire().await.unwrap();
    if let Err(error) = run(one, &capabilities).await {
        panic!("{error}");
    }
}

/// Ports of the second run's Prometheus and probes; no other transcript, which may run beside it, uses them.
const PROMETHEUS: u16 = 19090;
const PROBES: &str = "18093";

/// The steps of chapter 1.2 alone, with metrics from a Prometheus instead of the resource metrics API. Rates are over
/// 15 s rather than three minutes, so that it does not take ten.
fn by_prometheus(text: &str) -> Transcript {
    let mut document: serde_json::Value = serde_saphyr::from_str(&text.replace("18081", PROBES)).unwrap();
    document["prometheus"] = PROMETHEUS.into();
    let steps = document["steps"].as_array_mut().unwrap();
    // Where a step stands in the document is text that looks like a number.
    for step in steps.iter_mut().filter(|step| step["at"].is_number()) {
        step["at"] = step["at"].to_string().into();
    }
    steps.retain(|step| {
        let name = step["name"].as_str().unwrap();
        name == "install the product" || name.ends_with("(1.2)")
    });
    let added = "sed 's/3m/15s/g' \"$DEPLOY/chart/files/prometheus-metrics-config.yaml\" > rules.yaml\n";
    steps[0]["run"] = (steps[0]["run"].as_str().unwrap().to_owned() + added).into();
    // A pod counts once its rate is of a time in which it was ready; before that the portrait would have none to tell of.
    let seen = format!(
        "promtool query instant http://127.0.0.1:{PROMETHEUS} \
         'count_over_time(container_cpu_usage_seconds_total{{pod=\"nginx-0\"}}[20s]) > 18' | grep -c nginx-0"
    );
    let measured = steps.iter().position(|step| step["name"] == "its use is measured (1.2)").unwrap();
    let waits =
        json!({"name": "Prometheus has seen it for a while", "run": seen, "prints": "1\n", "within": 120});
    steps.insert(measured + 1, waits);
    for step in steps.iter_mut() {
        // A chapter's number is a text, and would be read as a number on this way.
        step["at"] = serde_json::Value::Null;
    }
    for step in steps.iter_mut().filter(|step| step["start"].is_object()) {
        let command = step["start"]["command"].as_str().unwrap();
        let flags = "--prometheus-metrics-config=rules.yaml --prometheus-metrics-relist-interval=2s";
        let command = format!("{command} --prometheus-address=http://127.0.0.1:{PROMETHEUS} {flags}");
        step["start"]["command"] = command.into();
    }
    serde_json::from_value(document).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn reactive_by_prometheus() {
    let (_, capabilities) = Transcript::read_all(&source_root().join("tests/seeds")).unwrap();
    let dir = source_root().join("tests/seeds/004-ihpa");
    let mut chapter = by_prometheus(&fs::read_to_string(dir.join("transcript.yaml")).unwrap());
    assert!(chapter.steps.len() > 8, "{:?}", chapter.steps);
    chapter.dir = dir;
    if !testbed::wanted("chapter 1.2 with a real Prometheus") {
        return;
    }
    if !prometheus_is_there("chapter 1.2 with Prometheus") {
        return;
    }
    let _place = PLACES.acquire().await.unwrap();
    if let Err(error) = run(&chapter, &capabilities).await {
        panic!("{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_scale_machine_deployments() {
    transcript("000-alert-triggered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_groups_of_alibaba_cloud() {
    transcript("001-alibaba-ess").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_node_pools() {
    transcript("002-node-pool-policy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn autoscaling_groups_and_provisioners() {
    transcript("003-cluster-autoscaler-karpenter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioners() {
    transcript("003-karpenter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn intelligent_horizontal_pod_autoscaler() {
    let (transcripts, capabilities) = Transcript::read_all(&source_root().join("tests/seeds")).unwrap();
    let mut whole = transcripts.into_iter().find(|one| one.dir.ends_with("004-ihpa")).unwrap();
    if !testbed::wanted("transcript 004-ihpa") {
        return;
    }
    if !prometheus_is_there("chapter 1.3") {
        whole.steps.retain(|step| !step.name.ends_with("(1.3)"));
    }
    let _place = PLACES.acquire().await.unwrap();
    if let Err(error) = run(&whole, &capabilities).await {
        panic!("{error}");
    }
}

/// Whether Debian's package is installed; said where it is not, and a failure where it must be.
fn prometheus_is_there(what: &str) -> bool {
    let there = acceptance::prometheus::program().is_some();
    if !there {
        let needed = std::env::var_os("TIDELINE_NEED_PROMETHEUS").is_some();
        assert!(!needed, "Prometheus is asked for, but not there");
        let _ = writeln!(std::io::stderr(), "left out: {what} (apt-get install prometheus)");
    }
    there
}
