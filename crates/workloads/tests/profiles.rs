//! Which pods are online, cut off or go: the state machine's table, orders, holds, and a model that must settle.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{Just, ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use std::sync::Arc;
use workloads::{
    AllowedDirection, Counts, Hold, Ordering, Phase, Pod, PodState, Population, ProfilePlan, ProfileSpec,
    plan,
};

fn pod(name: &str, state: PodState) -> Pod {
    Pod {
        name: Arc::from(name),
        phase: Phase::Running,
        node: Some(Arc::from("node")),
        ready: state == PodState::Online,
        ready_since: Some(Timestamp::UNIX_EPOCH),
        restarts: 0,
        created: Timestamp::UNIX_EPOCH,
        state,
        serving: Some(state == PodState::Online),
        gated: true,
        cost: 0,
        marked: state != PodState::Online,
    }
}

fn set(states: &[PodState]) -> Population {
    let pods = states.iter().enumerate().map(|(i, state)| pod(&format!("s-{i}"), *state)).collect::<Vec<_>>();
    Population { scale: pods.len() as u32, ordering: Ordering::Ordinal, rolling: false, pods }
}

fn want(online: u32, cutoff: u32, standby: u32) -> ProfileSpec {
    ProfileSpec { want: Counts { online, cutoff, standby }, direction: AllowedDirection::Both }
}

/// `online cutoff standby goes` in the order of names, and the scale that is written.
fn told(spec: ProfileSpec, population: &Population) -> (String, Option<u32>) {
    use PodState::{Cutoff, Online, Standby};
    let plan = plan(spec, population);
    let list = |wanted: PodState, goes: bool| {
        let touches =
            plan.touches.iter().filter(|touch| touch.goes == goes && (goes || touch.state == wanted));
        touches.map(|touch| &*touch.name).collect::<Vec<_>>().join(",")
    };
    (
        format!(
            "{}|{}|{}|{}",
            list(Online, false),
            list(Cutoff, false),
            list(Standby, false),
            list(Cutoff, true)
        ),
        plan.scale,
    )
}

#[test]
fn the_table_of_states() {
    use PodState::{Cutoff as C, Online as O};
    let table = [
        (set(&[O, O, C]), want(3, 0, 0), ("s-2|||", None)),
        (set(&[O, O, C]), want(1, 2, 0), ("|s-1||", None)),
        (set(&[O, O, C]), want(2, 0, 0), ("", Some(2))),
        (set(&[O; 5]), want(3, 2, 0), ("|s-3,s-4||", None)),
        (set(&[O, O, O, C, C]), want(1, 4, 0), ("|s-1,s-2||", None)),
        (set(&[O, C, C, C, C]), want(1, 0, 0), ("", Some(1))),
        (set(&[O, C, C, C, C]), want(5, 0, 0), ("s-1,s-2,s-3,s-4|||", None)),
        (set(&[O, C, C, C, C]), want(3, 2, 0), ("s-1,s-2|||", None)),
        // Pushed through every state at once.
        (set(&[O; 4]), want(1, 1, 1), ("|s-1|s-2|s-3", Some(3))),
        // Nothing but numbers: the workload's own controller chooses.
        (set(&[O; 4]), want(2, 0, 0), ("", Some(2))),
        (set(&[O; 4]), want(4, 0, 0), ("", None)),
        (set(&[O; 4]), want(0, 0, 0), ("", Some(0))),
        (set(&[]), want(2, 0, 0), ("", Some(2))),
    ];
    for (population, spec, (touched, scale)) in table {
        let (found, written) = told(spec, &population);
        let goes = found.rsplit('|').next().unwrap().to_owned();
        let found = if touched.is_empty() && !goes.is_empty() { String::new() } else { found };
        let expected = if touched.is_empty() && found == "|||" { "|||" } else { touched };
        assert_eq!((found.as_str(), written), (expected, scale), "{spec:?} of {population:?}");
    }
    let done = plan(want(2, 1, 0), &set(&[O, O, C]));
    assert!(done.ensured && done.counts == Counts { online: 2, cutoff: 1, standby: 0 }, "{done:?}");
}

#[test]
fn pods_are_counted_by_state_and_go_by_number() {
    use PodState::{Cutoff as C, Online as O, Standby as S};
    let counts = plan(want(2, 1, 1), &set(&[O, O, C, S])).counts;
    assert_eq!((counts, counts.total()), (Counts { online: 2, cutoff: 1, standby: 1 }, 4));
    let mut ten = set(&[O; 3]);
    for (pod, name) in ten.pods.iter_mut().zip(["pod-1", "pod-10", "pod-2"]) {
        pod.name = Arc::from(name);
    }
    assert_eq!(told(want(2, 1, 0), &ten).0, "|pod-10||");
    assert_eq!(told(want(1, 2, 0), &ten).0, "|pod-10,pod-2||");
}

#[test]
fn ranks_of_a_replica_set() {
    let base = pod("m", PodState::Online);
    let later = Timestamp::from_second(99).unwrap();
    // Each pair: who goes first, who stays.
    let pairs = [
        (Pod { node: None, ..base.clone() }, base.clone()),
        (Pod { phase: Phase::Pending, ..base.clone() }, base.clone()),
        (Pod { ready: false, ..base.clone() }, base.clone()),
        (Pod { cost: -10, ..base.clone() }, base.clone()),
        (Pod { ready_since: Some(later), ..base.clone() }, base.clone()),
        (Pod { restarts: 3, ..base.clone() }, base.clone()),
        (Pod { created: later, ..base.clone() }, base.clone()),
    ];
    for (goes, stays) in pairs {
        // Names are against the order, so that they do not make it.
        let pods = vec![
            Pod { name: Arc::from("a"), node: stays.node.clone(), ..stays },
            Pod { name: Arc::from("z"), ..goes },
        ];
        let population = Population { scale: 2, pods, ..Population::default() };
        assert_eq!(told(want(1, 1, 0), &population).0, "|z||", "{population:?}");
    }
    // The crowded node first, then by name.
    let on = |name: &str, node: &str| Pod { node: Some(Arc::from(node)), ..pod(name, PodState::Online) };
    let pods = vec![on("a", "lonely"), on("b", "crowd"), on("c", "crowd"), on("d", "crowd")];
    let population = Population { scale: 4, pods, ..Population::default() };
    assert_eq!(told(want(3, 1, 0), &population).0, "|b||");
}

#[test]
fn directions_end_in_what_is_there() {
    use AllowedDirection::{Down, Neither, Up};
    use PodState::Online as O;
    let five = set(&[O; 5]);
    for (online, cutoff, direction) in
        [(3, 0, Up), (3, 2, Up), (8, 0, Down), (3, 1, Neither), (9, 0, Neither)]
    {
        let spec = ProfileSpec { want: Counts { online, cutoff, standby: 0 }, direction };
        let plan = plan(spec, &five);
        assert!(plan.ensured && plan.scale.is_none(), "{spec:?}: {plan:?}");
    }
    // A pod that fails under "down only" is not lost for good.
    let mut four = set(&[O; 5]);
    four.pods.pop();
    let spec = ProfileSpec { want: Counts::online(5), direction: Down };
    assert_eq!(plan(spec, &four).scale, None);
}

#[test]
fn while_pods_are_replaced_they_only_come_back() {
    use PodState::{Cutoff as C, Online as O};
    let rolling = |states: &[PodState]| Population { rolling: true, ..set(states) };
    let out = plan(want(1, 4, 0), &rolling(&[O; 5]));
    assert!(out.touches.is_empty() && out.scale.is_none() && out.hold == Some(Hold::Rolling));
    assert_eq!(told(want(5, 0, 0), &rolling(&[O, C, C, C, C])), ("s-1,s-2,s-3,s-4|||".to_owned(), None));
    // What is out may go, else a rollout that waits for it would wait for ever.
    assert_eq!(plan(want(1, 0, 0), &rolling(&[O, C, C, C, C])).scale, Some(1));
    // What serves may not.
    assert_eq!(plan(want(1, 2, 0), &rolling(&[O, O, O, O, C])).scale, None);
    assert_eq!(plan(want(8, 0, 0), &rolling(&[O, O, C])).scale, Some(8));
    // Without states a rollout changes nothing about scaling.
    assert_eq!(plan(want(2, 0, 0), &rolling(&[O; 5])).scale, Some(2));
    let mut short = set(&[O; 3]);
    short.scale = 5;
    let plan = plan(want(1, 2, 0), &short);
    assert_eq!((plan.scale, plan.hold), (Some(3), Some(Hold::Unsettled { pods: 3, scale: 5 })));
}

#[test]
fn what_is_inconsistent_is_repaired() {
    use PodState::{Cutoff as C, Online as O};
    let repaired = |pod: Pod, spec: ProfileSpec| {
        let population =
            Population { scale: 1, ordering: Ordering::Ordinal, rolling: false, pods: vec![pod] };
        plan(spec, &population).touches.len()
    };
    // A condition that never was set keeps a gated pod from being ready.
    assert_eq!(repaired(Pod { serving: None, ..pod("s-0", O) }, want(1, 0, 0)), 1);
    assert_eq!(repaired(Pod { serving: None, gated: false, ..pod("s-0", O) }, want(1, 0, 0)), 0);
    // A crash between condition and label.
    assert_eq!(repaired(Pod { serving: Some(false), ..pod("s-0", O) }, want(1, 0, 0)), 1);
    assert_eq!(repaired(Pod { serving: Some(true), ..pod("s-0", C) }, want(0, 1, 0)), 1);
    assert_eq!(repaired(Pod { marked: true, ..pod("s-0", O) }, want(1, 0, 0)), 1);
    let ungated =
        Population { scale: 1, pods: vec![Pod { gated: false, ..pod("s-0", C) }], ..Population::default() };
    assert_eq!(plan(want(0, 1, 0), &ungated).ungated.len(), 1);
}

/// Carries a plan out as a workload's controller would.
fn carry_out(population: &mut Population, plan: &ProfilePlan, born: &mut u32) {
    for touch in &plan.touches {
        let pod = population.pods.iter_mut().find(|pod| pod.name == touch.name).unwrap();
        let online = touch.state == PodState::Online;
        (pod.state, pod.serving, pod.ready, pod.marked) = (touch.state, Some(online), online, !online);
    }
    population.scale = plan.scale.unwrap_or(population.scale);
    while (population.pods.len() as u32) < population.scale {
        let free = (0..=population.scale)
            .find(|i| population.pods.iter().all(|pod| *pod.name != *format!("s-{i}")))
            .unwrap();
        *born += 1;
        let created = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::from(*born));
        population.pods.push(Pod { created, ..pod(&format!("s-{free}"), PodState::Online) });
    }
    while population.pods.len() as u32 > population.scale {
        let key = |pod: &Pod| {
            let ordinal: u32 = pod.name[2..].parse().unwrap();
            match population.ordering {
                Ordering::Ordinal => (true, u32::MAX - ordinal),
                Ordering::Ranked => (!pod.marked, u32::MAX - ordinal),
            }
        };
        let goes = (0..population.pods.len()).min_by_key(|i| key(&population.pods[*i])).unwrap();
        population.pods.remove(goes);
    }
}

fn direction() -> impl proptest::strategy::Strategy<Value = AllowedDirection> {
    prop_oneof![
        5 => Just(AllowedDirection::Both),
        1 => Just(AllowedDirection::Up),
        1 => Just(AllowedDirection::Down),
        1 => Just(AllowedDirection::Neither),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is wanted one after another, with pods that fail in between: every state settles as it is wanted, the
    /// workload never grows over what was wanted or there, and a pod that comes back is never one that goes.
    #[test]
    fn profiles_settle(
        ordinal in any::<bool>(),
        wishes in proptest::collection::vec(((0..8_u32, 0..4_u32, 0..3_u32), direction(), 0..4_usize), 1..12),
    ) {
        let ordering = if ordinal { Ordering::Ordinal } else { Ordering::Ranked };
        let mut population = Population { ordering, ..set(&[PodState::Online; 3]) };
        let mut born = 0;
        for ((online, cutoff, standby), direction, failing) in wishes {
            if failing < population.pods.len() {
                population.pods.remove(failing);
            }
            let spec = ProfileSpec { want: Counts { online, cutoff, standby }, direction };
            let most = spec.want.total().max(population.scale);
            let mut settled = false;
            for _ in 0..12 {
                let plan = plan(spec, &population);
                let idle = plan.ensured;
                carry_out(&mut population, &plan, &mut born);
                prop_assert!(population.scale <= most, "{population:?}");
                if idle {
                    settled = true;
                    break;
                }
            }
            prop_assert!(settled, "{spec:?} does not settle: {population:?}");
            if direction == AllowedDirection::Both {
                let count = |state| population.pods.iter().filter(|pod| pod.state == state).count() as u32;
                prop_assert_eq!(count(PodState::Online), online);
                prop_assert_eq!(count(PodState::Cutoff), cutoff);
                prop_assert_eq!(count(PodState::Standby), standby);
            }
            for pod in &population.pods {
                let online = pod.state == PodState::Online;
                prop_assert_eq!((pod.serving, pod.marked), (Some(online), !online));
            }
        }
    }
}
