//! Changes in steps: the timelines, moving targets, rollback, and any sequence at all.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as _;
use workloads::{Counts, GrayState, Session, Strategies, Strategy, step};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn strategy(state: GrayState, percent: u32, interval: i64, observation: i64) -> Strategy {
    let seconds = SignedDuration::from_secs;
    Strategy { state, percent, interval: seconds(interval), observation: seconds(observation) }
}

/// Plans from the first moment until nothing is left to wait for.
fn timeline(from: Counts, to: u32, strategies: Strategies) -> Vec<(i64, u32, u32)> {
    let (mut planned, mut session, mut now) = (from, None, at(0));
    let mut told = Vec::new();
    for _ in 0..100 {
        let step = step(to, Some(planned), session.as_ref(), strategies, true, now);
        told.push((now.as_second(), step.plan.online, step.plan.offline()));
        (planned, session) = (step.plan, step.session);
        let Some(wake) = step.wake_at else { return told };
        now = wake;
    }
    panic!("no end: {told:?}");
}

#[test]
fn timelines() {
    use GrayState::{Cutoff, Deleted, Standby};
    let down = |state, percent, interval, observation| Strategies {
        down: Some(strategy(state, percent, interval, observation)),
        up: None,
    };
    let up = |percent, interval, observation| Strategies {
        up: Some(strategy(GrayState::Cutoff, percent, interval, observation)),
        down: None,
    };
    let online = Counts::online;
    let table = [
        (
            timeline(online(6), 2, down(Cutoff, 30, 30, 0)),
            vec![(0, 5, 1), (30, 4, 2), (60, 3, 3), (90, 2, 4), (90, 2, 0)],
        ),
        (timeline(online(2), 1, down(Cutoff, 50, 30, 60)), vec![(0, 1, 1), (30, 1, 1), (90, 1, 0)]),
        (
            timeline(online(9), 2, down(Standby, 33, 60, 120)),
            vec![(0, 7, 2), (60, 5, 4), (120, 3, 6), (180, 2, 7), (300, 2, 0)],
        ),
        (
            timeline(online(10), 4, down(Deleted, 40, 20, 10)),
            vec![(0, 8, 0), (20, 6, 0), (40, 4, 0), (50, 4, 0)],
        ),
        (timeline(online(10), 0, down(Cutoff, 50, 30, 30)), vec![(0, 5, 5), (30, 0, 10), (60, 0, 0)]),
        (timeline(online(1), 5, up(50, 30, 60)), vec![(0, 3, 0), (30, 5, 0), (90, 5, 0)]),
        (timeline(online(1), 4, up(100, 10, 5)), vec![(0, 4, 0), (5, 4, 0)]),
        (timeline(online(5), 1, Strategies::default()), vec![(0, 1, 0)]),
        // The document's own.
        (timeline(online(5), 1, down(Cutoff, 50, 30, 60)), vec![(0, 3, 2), (30, 1, 4), (90, 1, 0)]),
    ];
    for (told, expected) in table {
        assert_eq!(told, expected);
    }
}

/// Ten went to six online and four cut off; then the target moves.
#[test]
fn a_moving_target_continues_from_where_the_pods_are() {
    let strategies = Strategies {
        up: Some(strategy(GrayState::Cutoff, 50, 30, 60)),
        down: Some(strategy(GrayState::Cutoff, 50, 30, 60)),
    };
    let middle = Counts { online: 6, cutoff: 4, standby: 0 };
    let session = Session { from: 10, to: 2, reserve: 0, percent: 50, updated: at(0) };
    let next = |target| step(target, Some(middle), Some(&session), strategies, true, at(10)).plan;
    assert_eq!(
        next(4),
        Counts { online: 5, cutoff: 5, standby: 0 },
        "down in steps from six, the four stay warm"
    );
    assert_eq!(next(10), Counts::online(10), "rollback is immediate and deletes nobody");
    assert_eq!(next(8), Counts { online: 8, cutoff: 2, standby: 0 }, "the rest is observed before it goes");
    assert_eq!(next(14), Counts::online(12), "all come back, then up in steps");
    assert_eq!(next(2), middle, "the same target goes on");
    let told = timeline(middle, 8, strategies);
    assert_eq!(told, [(0, 8, 2), (60, 8, 0)]);
}

#[test]
fn nothing_is_skipped_after_a_pause_and_nothing_waits_for_ever() {
    let strategies = Strategies { up: None, down: Some(strategy(GrayState::Cutoff, 25, 30, 60)) };
    let session = Session { from: 8, to: 4, reserve: 0, percent: 25, updated: at(0) };
    let seven = Counts { online: 7, cutoff: 1, standby: 0 };
    let planned = Some(seven);
    let next = |settled, now| step(4, planned, Some(&session), strategies, settled, at(now));
    // A day later it is one step further, not at its end.
    assert_eq!(next(true, 86_400).plan, Counts { online: 6, cutoff: 2, standby: 0 });
    // Pods that are not cut off yet are waited for, a quarter of an hour at most.
    let held = next(false, 31);
    assert_eq!((held.plan, held.wake_at), (seven, Some(at(930))));
    assert_eq!(next(false, 930).plan, Counts { online: 6, cutoff: 2, standby: 0 });
    // A moment in the future, as after a clock was set back, counts as now.
    let ahead = Session { updated: at(5000), ..session };
    let step = step(4, planned, Some(&ahead), strategies, true, at(100));
    assert_eq!(step.wake_at, Some(at(130)));
}

fn arbitrary_strategy() -> impl proptest::strategy::Strategy<Value = Option<Strategy>> {
    (0..4_u8, 1..=100_u32, 1..100_i64, 0..100_i64).prop_map(|(state, percent, interval, observation)| {
        let state = match state {
            0 => return None,
            1 => GrayState::Cutoff,
            2 => GrayState::Standby,
            _ => GrayState::Deleted,
        };
        Some(strategy(state, percent, interval, observation))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever targets come when: online stays between where it was and where it goes, pods are only ever made up to
    /// the target, and once the target rests it is reached.
    #[test]
    fn any_sequence_stays_in_bounds_and_ends(
        start in 0..30_u32,
        up in arbitrary_strategy(),
        down in arbitrary_strategy(),
        moves in proptest::collection::vec((0..30_u32, 0..200_i64, any::<bool>()), 1..20),
    ) {
        let strategies = Strategies { up, down };
        let (mut planned, mut session, mut now) = (Counts::online(start), None, 0);
        let mut last = start;
        for (target, wait, settled) in moves {
            now += wait;
            let step = step(target, Some(planned), session.as_ref(), strategies, settled, at(now));
            let (low, high) = (planned.online.min(target), planned.online.max(target));
            prop_assert!((low..=high).contains(&step.plan.online), "{planned:?} to {target}: {step:?}");
            prop_assert!(step.plan.total() <= planned.total().max(target), "{planned:?} to {target}: {step:?}");
            prop_assert!(step.wake_at.is_none_or(|wake| wake >= at(now)));
            (planned, session, last) = (step.plan, step.session, target);
        }
        let mut moment = at(now);
        for _ in 0..400 {
            let step = step(last, Some(planned), session.as_ref(), strategies, true, moment);
            (planned, session) = (step.plan, step.session);
            let Some(wake) = step.wake_at else { break };
            moment = wake;
        }
        prop_assert_eq!(planned, Counts::online(last));
        prop_assert_eq!(session, None);
    }
}
