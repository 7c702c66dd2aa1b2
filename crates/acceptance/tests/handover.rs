//! Two replicas on a real control plane: a leader that is stopped and wakes up later acts no more, and one that ends
//! hands over at once.
//!
//! The processes are the real program, each under a user of its own, so that the audit log tells whose writes are whose.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use acceptance::{Process, Site};

async fn replica(site: &Site, user: &str) -> Process {
    let arguments = ["controller", "--cloud-provider=simulated", "--address=", "--namespace=kube-system"];
    Process::start(site, user, &arguments).await.unwrap()
}

async fn holder(site: &Site) -> String {
    site.holder("kube-system", "cluster-autoscaler").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_acts_no_more() {
    if !testbed::wanted("two replicas on a real control plane") {
        return;
    }
    let site = Site::start().await.unwrap();
    let mut first = replica(&site, "first").await;
    site.until("the first leads", &[&first], async |site| holder(site).await == "first").await;
    site.wants(8).await.unwrap();
    site.until("the first buys", &[&first], async |site| site.nodes().await.unwrap() == 1).await;
    let second = replica(&site, "second").await;

    first.signal("-STOP").await.unwrap();
    site.wants(24).await.unwrap();
    site.until("the second leads", &[&second], async |site| holder(site).await == "second").await;
    site.until("the second buys, and no more than is needed", &[&second], async |site| {
        site.nodes().await.unwrap() == 3
    })
    .await;
    let before = site.writes(&first).await.unwrap();

    // It wakes up in the belief that it leads, with pods to serve that it has never seen.
    site.wants(40).await.unwrap();
    first.signal("-CONT").await.unwrap();
    assert!(!first.end().await, "the old leader ended as if all were well\n{}", first.said());
    site.until("the second goes on", &[&second], async |site| site.nodes().await.unwrap() == 5).await;
    let after = site.writes(&first).await.unwrap();
    let acted: Vec<&String> =
        after[before.len()..].iter().filter(|write| !write.contains("/leases/")).collect();
    assert!(acted.is_empty(), "the old leader wrote {acted:#?}\n{}", first.said());

    // Asked to end, a leader gives the Lease back: the next one need not wait for it to run out.
    let mut second = second;
    let third = replica(&site, "third").await;
    site.until("the third stands by", &[&third], async |_| third.said().contains("standing by")).await;
    second.signal("-TERM").await.unwrap();
    assert!(second.end().await, "{}", second.said());
    site.until("the third leads", &[&third], async |site| holder(site).await == "third").await;
    site.wants(48).await.unwrap();
    site.until("the third buys", &[&third], async |site| site.nodes().await.unwrap() == 6).await;
}
