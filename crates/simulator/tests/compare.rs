//! Policies beside each other: the published integers on recorded traffic, and what holds on any.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use flate2::read::GzDecoder;
use simulator::compare::{Compared, Comparison, Measure, Outcome, PolicyKind, World, usual_capacity};
use std::io::Read as _;
use std::path::Path;

const DAY: usize = 1_440;

fn comparison(requests: &[f64], policies: &[PolicyKind]) -> Comparison {
    Comparison {
        world: World::default(),
        replica_capacity: usual_capacity(requests),
        target: 0.6,
        test_share: 0.3,
        risk: 0.001,
        machine_risk: 0.001,
        budget: None,
        budget_of: Measure::Oracle,
        machine_price: 0.0,
        policies: policies.to_vec(),
    }
}

fn outcome(compared: &Compared, kind: PolicyKind) -> &Outcome {
    &compared.rows.iter().find(|row| row.policy == kind).unwrap().outcome
}

/// Fourteen days with a wave of a day, noise, and a burst of three minutes' climb every third day at another time.
fn traffic() -> Vec<f64> {
    let mut dice = 7u64;
    let mut uniform = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 40) as f64 / f64::from(1u32 << 24)
    };
    (0..14 * DAY)
        .map(|minute| {
            let wave = 1.2 - (std::f64::consts::TAU * (minute % DAY) as f64 / DAY as f64).cos();
            let since = (minute + 700) % (3 * DAY + 217);
            let burst = if since < 9 { 1.0 + 2.0 * (since.min(3) as f64 / 3.0) } else { 1.0 };
            (1_000.0 * wave * burst * (0.94 + 0.12 * uniform())).round()
        })
        .collect()
}

/// The records lie beside the source tree; where they do not, the test says so and passes.
fn recorded(name: &str) -> Option<Vec<f64>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../../../shared/traces/{name}-requests-per-minute.csv.gz"));
    let Ok(bytes) = std::fs::read(&path) else {
        println!("left out: needs {}", path.display());
        return None;
    };
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let value = |line: &str| line.split(',').nth(1).unwrap().parse().unwrap();
    Some(text.lines().skip(1).filter(|line| !line.is_empty()).map(value).collect())
}

#[test]
fn the_hpa_does_what_was_published_to_the_integer() {
    // Overloaded minutes, minutes over nine tenths, changes; requests lost in millionths.
    let published = [
        ("nasa", [(374, 676, 5_743, 3_021), (134, 241, 5_912, 1_526)]),
        ("nasa-fixed", [(402, 728, 6_188, 3_125), (142, 261, 6_287, 1_525)]),
        ("synthetic", [(16, 32, 261, 1_061), (11, 21, 266, 292)]),
    ];
    for (name, rows) in published {
        let Some(requests) = recorded(name) else { return };
        let kinds = [PolicyKind::Hpa, PolicyKind::HpaHeadroom];
        let compared = comparison(&requests, &kinds).run(&requests).unwrap();
        for (kind, expected) in kinds.into_iter().zip(rows) {
            let found = outcome(&compared, kind);
            let lost = (found.lost_share() * 1e6).round() as u64;
            let found = (found.overloaded_minutes, found.hot_minutes, found.changes, lost);
            assert_eq!(found, expected, "{name}, {}", kind.name());
        }
    }
}

#[test]
fn on_recorded_traffic_forecasts_lose_far_less_than_the_hpa_at_no_more_cost() {
    let Some(requests) = recorded("nasa") else { return };
    let kinds = [PolicyKind::Hpa, PolicyKind::Predictive, PolicyKind::Joined];
    let compared = Comparison { risk: 0.003_2, machine_risk: 0.003_2, ..comparison(&requests, &kinds) }
        .run(&requests)
        .unwrap();
    let hpa = outcome(&compared, PolicyKind::Hpa);
    for kind in [PolicyKind::Predictive, PolicyKind::Joined] {
        let ours = outcome(&compared, kind);
        assert!(ours.lost < hpa.lost / 8.0, "{} of {}", ours.lost, hpa.lost);
        assert!(ours.replica_minutes <= hpa.replica_minutes && ours.machine_minutes <= hpa.machine_minutes);
    }
}

#[test]
fn ninety_nine_of_a_hundred_replicas_find_their_machine_ready() {
    let Some(requests) = recorded("nasa") else { return };
    let kinds = [PolicyKind::Hpa, PolicyKind::Joined];
    let compared = Comparison { risk: 0.003, machine_risk: 0.001, ..comparison(&requests, &kinds) }
        .run(&requests)
        .unwrap();
    let (hpa, ours) = (outcome(&compared, PolicyKind::Hpa), outcome(&compared, PolicyKind::Joined));
    assert!(hpa.waited_for_machine * 10 > hpa.started, "one in ten waits under the HPA");
    assert!(ours.waited_for_machine * 100 <= ours.started, "{} of {}", ours.waited_for_machine, ours.started);
    assert!(ours.machine_minutes * 100 <= hpa.machine_minutes * 105);
}

#[test]
fn a_budget_is_kept_and_buys_fewer_losses() {
    let requests = traffic();
    let kinds = [PolicyKind::Joined, PolicyKind::Oracle];
    let with = |budget: f64| {
        Comparison { budget: Some(budget), ..comparison(&requests, &kinds) }.run(&requests).unwrap()
    };
    let [tight, wide] = [with(0.8), with(1.1)];
    let oracle = outcome(&tight, PolicyKind::Oracle);
    for (compared, budget) in [(&tight, 0.8), (&wide, 1.1)] {
        let ours = outcome(compared, PolicyKind::Joined);
        for (cost, measure) in
            [(ours.replica_minutes, oracle.replica_minutes), (ours.machine_minutes, oracle.machine_minutes)]
        {
            let share = cost as f64 / measure as f64;
            assert!(share < budget * 1.1, "{share:.3} of a budget of {budget}");
        }
    }
    let [tight_lost, wide_lost] = [&tight, &wide].map(|compared| outcome(compared, PolicyKind::Joined).lost);
    assert!(wide_lost < tight_lost, "{wide_lost} of {tight_lost}");
    // What comes later changes nothing of what was decided before.
    let half = tight.from + (tight.to - tight.from) / 2;
    let mut other = requests.clone();
    other[half..].iter_mut().for_each(|value| *value *= 3.0);
    let other = Comparison { budget: Some(0.8), ..comparison(&requests, &kinds) }.run(&other).unwrap();
    let before = half - tight.from;
    assert_eq!(tight.rows[0].serving[..before], other.rows[0].serving[..before]);
    let none = Comparison { budget: Some(0.0), ..comparison(&requests, &kinds) }.run(&requests);
    assert!(none.unwrap_err().to_string().contains("a budget of 0"));
}

#[test]
fn on_recorded_traffic_a_budget_of_the_oracle_s_cost_leaves_a_twentieth_of_the_losses() {
    for name in ["nasa", "nasa-fixed"] {
        let Some(requests) = recorded(name) else { return };
        let kinds = [PolicyKind::Hpa, PolicyKind::Joined, PolicyKind::Oracle];
        let compared =
            Comparison { budget: Some(1.0), ..comparison(&requests, &kinds) }.run(&requests).unwrap();
        let [hpa, ours, oracle] = kinds.map(|kind| outcome(&compared, kind));
        assert!(ours.lost * 20.0 < hpa.lost, "{name}: {} of {}", ours.lost, hpa.lost);
        assert!(
            ours.replica_minutes <= oracle.replica_minutes && ours.machine_minutes <= oracle.machine_minutes
        );
    }
}

#[test]
fn on_recorded_traffic_a_budget_of_the_hpa_s_cost_leaves_an_eighth_of_its_losses() {
    let Some(requests) = recorded("nasa") else { return };
    let kinds = [PolicyKind::Hpa, PolicyKind::Joined];
    let about = Comparison { budget: Some(1.0), budget_of: Measure::Hpa, ..comparison(&requests, &kinds) };
    let [hpa, ours] = kinds.map(|kind| outcome(&about.run(&requests).unwrap(), kind).clone());
    assert!(ours.lost * 8.0 < hpa.lost, "{} of {}", ours.lost, hpa.lost);
    assert!(ours.replica_minutes <= hpa.replica_minutes && ours.machine_minutes <= hpa.machine_minutes);
}

#[test]
fn who_knows_the_future_loses_nothing_and_the_front_is_of_those_who_do_not() {
    let requests = traffic();
    let compared = comparison(&requests, &PolicyKind::ALL).run(&requests).unwrap();
    assert_eq!(outcome(&compared, PolicyKind::Oracle).overloaded_minutes, 0);
    let oracle = outcome(&compared, PolicyKind::OracleFull);
    for kind in [PolicyKind::Hpa, PolicyKind::Static, PolicyKind::Predictive, PolicyKind::Joined] {
        assert!(outcome(&compared, kind).replica_minutes > oracle.replica_minutes, "{}", kind.name());
    }
    let pareto = compared.pareto();
    assert!(!pareto.is_empty() && pareto.iter().all(|kind| !kind.knows_the_future()));
    let again = comparison(&requests, &PolicyKind::ALL).run(&requests).unwrap();
    assert_eq!(compared.rows, again.rows);
}

#[test]
fn machines_that_are_ordered_ahead_spare_replicas_the_wait() {
    let requests = traffic();
    let kinds = [PolicyKind::Predictive, PolicyKind::Joined];
    let compared = comparison(&requests, &kinds).run(&requests).unwrap();
    let (alone, joined) =
        (outcome(&compared, PolicyKind::Predictive), outcome(&compared, PolicyKind::Joined));
    assert!(joined.waited_for_machine < alone.waited_for_machine);
    assert!(joined.lost <= alone.lost);
}

#[test]
fn what_cannot_be_compared_is_said_with_the_fix() {
    let requests = traffic();
    let refused = |change: &dyn Fn(&mut Comparison)| {
        let mut wrong = comparison(&requests, &[PolicyKind::Hpa]);
        change(&mut wrong);
        wrong.run(&requests).unwrap_err().to_string()
    };
    assert!(refused(&|it| it.target = 0.0).contains("a target of 0"));
    assert!(refused(&|it| it.replica_capacity = f64::NAN).contains("a replica capacity"));
    assert!(refused(&|it| it.world.replicas_per_machine = 0).contains("replicas on a machine"));
    assert!(refused(&|it| it.test_share = 1.5).contains("a test share"));
    let short = comparison(&requests, &[PolicyKind::Hpa]).run(&requests[..100]).unwrap_err().to_string();
    assert!(short.contains("100 minutes"), "{short}");
    let mut broken = requests.clone();
    broken[5] = -1.0;
    let negative = comparison(&requests, &[PolicyKind::Hpa]).run(&broken).unwrap_err().to_string();
    assert!(negative.contains("minute 5"), "{negative}");
}
