//! How many replicas traffic needs: the cases in which the algorithm that this takes the place of fails, among others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use forecast::{Enough, Load, LoadSettings, NotLearnable, Observed, Use};

const MINUTE: i64 = 60;
const START: i64 = 1_698_105_600;

/// The same noise on every machine, from -1 to 1.
fn noise(at: usize) -> f64 {
    let mut mixed = (at as u64).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 29;
    mixed = mixed.wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 33) as f64 / f64::from(1u32 << 30) - 1.0
}

/// A day's wave of traffic from 10 to 210.
fn wave(minute: usize) -> f64 {
    110.0 - 100.0 * (std::f64::consts::TAU * minute as f64 / 1_440.0).cos()
}

fn history(minutes: usize, used: impl Fn(usize, f64, f64) -> f64) -> Vec<Observed> {
    (0..minutes)
        .map(|minute| {
            let traffic = wave(minute) * (1.0 + 0.03 * noise(minute));
            let replicas = (traffic / 30.0).ceil();
            Observed {
                seconds: START + MINUTE * minute as i64,
                used: used(minute, traffic, replicas),
                ready_replicas: replicas,
                traffic: vec![traffic],
            }
        })
        .collect()
}

fn learned(history: &[Observed]) -> Load {
    Load::learn(history, &LoadSettings::default()).unwrap()
}

fn replicas(load: &Load, traffic: f64, target: f64) -> usize {
    match load.enough(START + 12 * 3_600, &[traffic], target, 1_000) {
        Enough::Replicas(replicas) => replicas,
        other => panic!("{other:?}"),
    }
}

#[test]
fn traffic_of_200_100_and_10_needs_8_4_and_1() {
    let load = learned(&history(2 * 1_440, |at, q, n| 0.01 * q + 0.02 * n + 0.003 * noise(at + 7)));
    let needed: Vec<usize> = [200.0, 100.0, 10.0].into_iter().map(|q| replicas(&load, q, 0.3)).collect();
    assert_eq!(needed, [8, 4, 1]);
    assert!(load.quality().correlation > 0.9 && !load.quality().by_hour);
}

#[test]
fn flat_traffic_needs_what_it_would_by_hand() {
    let load = learned(&history(2 * 1_440, |at, q, _| 0.01 * q * (1.0 + 0.02 * noise(at + 7))));
    let needed = replicas(&load, 50.0, 0.01);
    assert!((48..=54).contains(&needed), "{needed}");
}

#[test]
fn less_than_the_test_part_is_enough_history() {
    let load = learned(&history(12 * 60, |_, q, n| 0.01 * q + 0.02 * n));
    assert_eq!(replicas(&load, 200.0, 0.3), 8);
}

#[test]
fn too_little_is_said_with_its_reason() {
    let refused = |history: &[Observed]| Load::learn(history, &LoadSettings::default()).unwrap_err();
    assert_eq!(refused(&[]), NotLearnable::NoHistory);
    let short = history(4, |_, q, _| q);
    assert!(matches!(refused(&short), NotLearnable::TooShort { rows: 4, .. }));
    let mut silent = history(600, |_, q, _| q);
    for row in &mut silent {
        row.traffic[0] = 0.0;
    }
    assert_eq!(refused(&silent), NotLearnable::NoTraffic);
    let mut gone = history(600, |_, q, _| q);
    for row in &mut gone {
        row.ready_replicas = 0.0;
    }
    assert_eq!(refused(&gone), NotLearnable::NoReplicas);
}

#[test]
fn use_that_traffic_does_not_cause_is_not_learnable() {
    let history = history(2 * 1_440, |at, _, n| n * (0.3 + 0.25 * noise(at + 99)));
    let refused = Load::learn(&history, &LoadSettings::default()).unwrap_err();
    assert!(matches!(refused, NotLearnable::NotFollowing { percent } if percent < 60), "{refused:?}");
    assert!(refused.to_string().contains("does not follow traffic"));
}

#[test]
fn a_target_that_is_too_small_says_so() {
    let load = learned(&history(2 * 1_440, |_, q, n| 0.01 * q + 0.02 * n));
    let of = |target: f64| load.enough(START, &[100.0], target, 100);
    assert!(matches!(of(0.01), Enough::Never { idle } if (idle - 0.02).abs() < 0.005), "{:?}", of(0.01));
    assert!(matches!(of(0.025), Enough::TooFew { most: 100, .. }), "{:?}", of(0.025));
}

/// A batch of an hour and a half every night, of the given size.
fn with_batch(size: f64) -> Vec<Observed> {
    history(4 * 1_440, |at, q, n| {
        let batch = if (120..210).contains(&(at % 1_440)) { size } else { 0.0 };
        0.01 * q + 0.02 * n + batch + 0.003 * noise(at + 7)
    })
}

#[test]
fn a_nightly_batch_spoils_nothing_outside_of_its_hours() {
    for size in [0.2, 1.0, 4.0] {
        let load = learned(&with_batch(size));
        let needed: Vec<usize> = [200.0, 100.0, 10.0].into_iter().map(|q| replicas(&load, q, 0.3)).collect();
        assert_eq!(needed, [8, 4, 1], "batch of {size}");
    }
}

#[test]
fn in_its_hours_a_batch_is_reckoned_with() {
    let load = learned(&with_batch(4.0));
    let night = START + 2 * 3_600 + 1_800;
    assert!(load.quality().by_hour);
    let Enough::Replicas(needed) = load.enough(night, &[10.0], 0.3, 1_000) else { panic!("not enough") };
    assert!(needed >= 10, "{needed}");
    let zoned = LoadSettings { offset_seconds: 8 * 3_600, ..LoadSettings::default() };
    let same = Load::learn(&with_batch(4.0), &zoned).unwrap();
    assert_eq!(same.enough(night, &[10.0], 0.3, 1_000), load.enough(night, &[10.0], 0.3, 1_000));
}

#[test]
fn more_replicas_never_mean_more_use_of_each_and_more_traffic_never_less() {
    let bent = history(2 * 1_440, |at, q, n| n * (0.02 + (q / n / 30.0).powi(2)) * (1.0 + 0.02 * noise(at)));
    for load in [learned(&bent), learned(&with_batch(1.0))] {
        for traffic in [0.0, 10.0, 100.0, 5_000.0] {
            let used: Vec<f64> = (1..300).map(|n| load.used(START, &[traffic], n)).collect();
            assert!(used.windows(2).all(|pair| pair[0] >= pair[1] - 1e-12));
            assert!(load.used(START, &[traffic + 1.0], 5) >= load.used(START, &[traffic], 5));
        }
    }
}

#[test]
fn a_bend_is_followed_and_latencies_are_levels() {
    // Latency of each pod, flat at first and steep towards forty requests.
    let latency = |q: f64, n: f64| 20.0 + 80.0 * (q / n / 30.0).powi(4);
    let history = history(2 * 1_440, |at, q, n| latency(q, n) * (1.0 + 0.01 * noise(at)));
    let settings = LoadSettings { what: Use::EachPod, ..LoadSettings::default() };
    let load = Load::learn(&history, &settings).unwrap();
    let Enough::Replicas(needed) = load.enough(START, &[180.0], 60.0, 100) else { panic!("not enough") };
    // By the true law: 180 requests at 60 ms need 8 replicas (25.2 requests each).
    assert!((7..=9).contains(&needed), "{needed}");
}

#[test]
fn a_metric_that_is_hardly_there_is_left_out() {
    let mut history = history(2 * 1_440, |_, q, n| 0.01 * q + 0.02 * n);
    for (at, row) in history.iter_mut().enumerate() {
        row.traffic.push(if at % 2 == 0 { f64::NAN } else { 7.0 });
    }
    let load = learned(&history);
    assert_eq!(load.counts(), [true, false]);
}
