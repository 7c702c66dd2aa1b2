//! The algorithm of the Kubernetes HPA, case by case.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use workloads::reactive::{
    ContainerRequest, Measure, NoProposal, PodView, Readiness, Resource, Sample, Samples, Settings, Workload,
    combine, propose,
};

const NOW: i64 = 100_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A pod of one container that asks for one core, ready for long.
fn pod(place: usize) -> PodView {
    PodView {
        name: Arc::from(format!("pod-{place}")),
        deleted: false,
        failed: false,
        pending: false,
        running: true,
        started: Some(at(0)),
        readiness: Some(Readiness { ready: true, since: at(10) }),
        requests: vec![ContainerRequest { name: Arc::from("c"), cpu: Some(1000), memory: Some(1 << 30) }],
    }
}

fn samples(values: &[i64]) -> Samples {
    let sample = |milli| Sample { milli, at: at(NOW), window: SignedDuration::from_secs(60) };
    values.iter().enumerate().map(|(i, milli)| (Arc::from(format!("pod-{i}")), sample(*milli))).collect()
}

fn cpu(values: &[i64], target_percent: i64) -> Measure {
    Measure::Utilization {
        resource: Resource::Cpu,
        container: None,
        samples: samples(values),
        target_percent,
    }
}

fn proposed(measure: &Measure, pods: &[PodView], current: u32) -> Result<u32, NoProposal> {
    propose(measure, Workload { current, pods }, &Settings::default(), at(NOW))
}

#[test]
fn utilisation() {
    let pods: Vec<PodView> = (0..3).map(pod).collect();
    let table = [
        // One pod uses one and a half cores against thirty percent of one: five.
        (vec![1500], 1, 30, 10, 5),
        (vec![300, 500, 700], 3, 30, 3, 5),
        (vec![100, 300, 200], 3, 50, 3, 2),
        // Within a tenth of the target nothing changes.
        (vec![540, 540, 540], 3, 50, 3, 3),
        (vec![560, 560, 560], 3, 50, 3, 4),
        (vec![0, 0, 0], 3, 50, 3, 0),
    ];
    for (values, count, target, current, expected) in table {
        assert_eq!(proposed(&cpu(&values, target), &pods[..count], current), Ok(expected), "{values:?}");
    }
    assert_eq!(proposed(&cpu(&[], 50), &pods, 3), Err(NoProposal::NoMetrics));
    assert_eq!(proposed(&cpu(&[100], 50), &[], 3), Err(NoProposal::NoPods));
    assert_eq!(proposed(&cpu(&[100], 0), &pods, 3), Err(NoProposal::ZeroTarget));
    let mut bare = pod(0);
    bare.requests[0].cpu = None;
    let error = proposed(&cpu(&[100], 50), &[bare], 1).unwrap_err();
    assert_eq!(error.to_string(), "missing request for cpu in container c of Pod pod-0");
}

/// Doubtful pods never make a change larger, and never turn it round.
#[test]
fn unready_and_missing_pods() {
    let pods: Vec<PodView> = (0..3).map(pod).collect();
    let starting = PodView {
        started: Some(at(NOW - 60)),
        readiness: Some(Readiness { ready: false, since: at(NOW - 60) }),
        ..pod(2)
    };
    let mut two_ready = pods.clone();
    two_ready[2] = starting;
    // Growing: the starting pod counts as idle. One core of three against 30 percent is 33: not within a tenth.
    assert_eq!(proposed(&cpu(&[500, 500, 5000], 30), &two_ready, 3), Ok(4));
    assert_eq!(proposed(&cpu(&[490, 490, 5000], 30), &two_ready, 3), Ok(3));
    assert_eq!(proposed(&cpu(&[800, 800, 5000], 30), &two_ready, 3), Ok(6));
    // Shrinking: it is left out.
    assert_eq!(proposed(&cpu(&[100, 100, 5000], 30), &two_ready, 3), Ok(1));
    // Missing while shrinking: it is taken to use all that it asked for.
    assert_eq!(proposed(&cpu(&[100, 100], 50), &pods, 3), Ok(3));
    assert_eq!(proposed(&cpu(&[10, 10], 90), &pods, 3), Ok(2));
    // Missing while growing: it is taken to be idle.
    assert_eq!(proposed(&cpu(&[900, 900], 50), &pods, 3), Ok(4));
    let pending = PodView { pending: true, running: false, ..pod(2) };
    assert_eq!(proposed(&cpu(&[900, 900], 50), &[pod(0), pod(1), pending], 3), Ok(4));
    let deleted = PodView { deleted: true, ..pod(2) };
    assert_eq!(proposed(&cpu(&[900, 900, 0], 50), &[pod(0), pod(1), deleted], 3), Ok(4));
}

#[test]
fn averages_and_single_values() {
    let pods: Vec<PodView> = (0..4).map(pod).collect();
    let table = [
        (Measure::PodsAverage { samples: samples(&[20_000, 10_000, 30_000, 20_000]), target: 10_000 }, 4, 8),
        (
            Measure::ResourceAverage {
                resource: Resource::Memory,
                samples: samples(&[600, 600, 600, 600]),
                target: 1200,
            },
            4,
            2,
        ),
        (Measure::Value { usage: 150, target: 100 }, 4, 6),
        (Measure::Value { usage: 105, target: 100 }, 4, 4),
        (Measure::Value { usage: 250, target: 100 }, 0, 3),
        (Measure::Value { usage: 0, target: 100 }, 4, 0),
        (Measure::ValuePerReplica { usage: 900, target: 100 }, 4, 9),
        (Measure::ValuePerReplica { usage: 410, target: 100 }, 4, 4),
        (Measure::ValuePerReplica { usage: 410, target: 100 }, 0, 5),
    ];
    for (measure, current, expected) in table {
        assert_eq!(proposed(&measure, &pods, current), Ok(expected), "{measure:?}");
    }
}

#[test]
fn several_metrics() {
    let failed = || Err("no such metric".to_owned());
    assert_eq!(combine(&[Ok(3), Ok(5), Ok(4)], 4, false), Ok(5));
    assert_eq!(combine(&[Ok(0)], 4, false), Ok(1));
    assert_eq!(combine(&[Ok(0)], 4, true), Ok(0));
    assert_eq!(combine(&[Ok(6), failed()], 4, false), Ok(6), "growing rests on any metric");
    let told = combine(&[Ok(2), failed()], 4, false).unwrap_err();
    assert_eq!(told, "invalid metrics (1 invalid out of 2), first error is: no such metric");
    assert!(combine(&[failed(), failed()], 4, false).is_err());
    assert!(combine(&[], 4, false).is_err());
}

#[test]
fn readings_are_in_the_unit_of_their_target() {
    let pods: Vec<PodView> = (0..2).map(pod).collect();
    let read = |measure: &Measure| measure.reading(Workload { current: 2, pods: &pods });
    assert_eq!(read(&cpu(&[300, 500], 30)), Ok((40, 30)));
    assert_eq!(read(&cpu(&[], 30)), Err(NoProposal::NoMetrics));
    let pods_average = Measure::PodsAverage { samples: samples(&[10, 30]), target: 15 };
    assert_eq!(read(&pods_average), Ok((20, 15)));
    assert_eq!(read(&Measure::Value { usage: 7, target: 5 }), Ok((7, 5)));
    assert_eq!(read(&Measure::ValuePerReplica { usage: 8, target: 5 }), Ok((4, 5)));
}
