//! etcd restored from an old backup under a running controller, on a real control plane: resource versions go back, and
//! so does the ledger. Without help it finds out, reads everything anew and goes on.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use acceptance::{Process, Site};
use std::time::{Duration, Instant};
use testbed::ControlPlane;

/// Waits until so many nodes are there.
async fn nodes(site: &Site, program: &mut Process, count: usize, what: &str) -> Duration {
    let begun = Instant::now();
    loop {
        program.keep().await.unwrap();
        let found = site.nodes().await.unwrap();
        if found == count {
            eprintln!("{what}: after {:.1} s", begun.elapsed().as_secs_f32());
            return begun.elapsed();
        }
        let late = begun.elapsed() > Duration::from_mins(4);
        assert!(!late, "{what}: {found} nodes, not {count}\n{}", program.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn version(cluster: &ControlPlane) -> u64 {
    let list = cluster.kubectl_ok(&["get", "--raw", "/api/v1/namespaces?limit=1"]).await.unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_backup_is_found_out_and_worked_on() {
    if !testbed::wanted("etcd restored from a backup") {
        return;
    }
    let mut site = Site::start().await.unwrap();
    let arguments = ["controller", "--cloud-provider=simulated", "--address=", "--namespace=kube-system"];
    let mut program = Process::start(&site, "tideline", &arguments).await.unwrap();
    site.wants(8).await.unwrap();
    nodes(&site, &mut program, 1, "before the backup").await;

    site.cluster.back_up().await.unwrap();
    let kept = version(&site.cluster).await;
    site.wants(24).await.unwrap();
    nodes(&site, &mut program, 3, "after the backup").await;
    let lost = version(&site.cluster).await;

    site.cluster.restore().await.unwrap();
    assert!(version(&site.cluster).await < lost && kept < lost, "nothing went back: {kept}, {lost}");
    // The stand-in for machines and kubelets is not what is tested.
    site.restart_machines().await.unwrap();
    site.wants(32).await.unwrap();
    let took = nodes(&site, &mut program, 4, "after the restore").await;
    eprintln!("worked on {:.0} s after the restore, {} start(s)", took.as_secs_f32(), program.starts());
    site.wants(40).await.unwrap();
    nodes(&site, &mut program, 5, "as before").await;
}
