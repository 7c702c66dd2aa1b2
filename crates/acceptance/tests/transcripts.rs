//! Every transcript runs as it says it does, and the page that lists them is up to date.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;

use acceptance::{Transcript, run, source_root, table};
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
    transcript("004-ihpa").await;
}
