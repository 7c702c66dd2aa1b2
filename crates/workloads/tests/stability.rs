//! Checks that fail in the middle of a change: it stands still or is taken back, and goes on when they may.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use jiff::{SignedDuration, Timestamp};
use workloads::{
    Autoscaler, Counts, GrayState, Held, Portrait, Provider, Relation, Session, Source, StabilityAction,
    State, Strategies, Strategy, decide,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn autoscaler(replicas: u32) -> Autoscaler {
    let strategy = Strategy {
        state: GrayState::Cutoff,
        interval: SignedDuration::from_secs(30),
        percent: 50,
        observation: SignedDuration::from_secs(60),
    };
    Autoscaler {
        sources: vec![Source {
            provider: Provider::Static,
            priority: 1,
            portrait: Portrait::Static(replicas),
        }],
        max: 20,
        strategies: Strategies { up: Some(strategy), down: Some(strategy) },
        ..Autoscaler::default()
    }
}

/// Ten to two, half way; and what a check makes of it until second 100.
fn half_way(action: StabilityAction) -> State {
    let session = Session { from: 10, to: 2, reserve: 0, percent: 50, updated: at(0) };
    State {
        planned: Some(Counts { online: 6, cutoff: 4, standby: 0 }),
        session: Some(session),
        settled: true,
        held: Some(Held::of(&session, action, at(100))),
        ..State::default()
    }
}

#[test]
fn a_paused_change_stands_still_and_goes_on() {
    let state = half_way(StabilityAction::Pause);
    let held = decide(&autoscaler(2), &state, at(40));
    assert_eq!((held.plan, held.session), (state.planned, state.session));
    assert_eq!(held.wake_at, Some(at(100)));
    let later = decide(&autoscaler(2), &state, at(100));
    assert_eq!(later.plan, Some(Counts { online: 2, cutoff: 8, standby: 0 }), "one step, not two");
    // Fewer still is the same way; back is another.
    assert_eq!(decide(&autoscaler(1), &state, at(40)).plan, state.planned);
    assert_eq!(decide(&autoscaler(10), &state, at(40)).plan, Some(Counts::online(10)));
}

#[test]
fn a_change_that_is_taken_back_is_not_begun_again_at_once() {
    let mut state = half_way(StabilityAction::Rollback);
    let back = decide(&autoscaler(2), &state, at(40));
    assert_eq!((back.plan, back.session), (Some(Counts::online(10)), None), "every pod, at once");
    (state.planned, state.session) = (back.plan, back.session);
    let waits = decide(&autoscaler(2), &state, at(99));
    assert_eq!((waits.plan, waits.wake_at), (Some(Counts::online(10)), Some(at(100))));
    assert_eq!(
        decide(&autoscaler(12), &state, at(99)).plan.map(|plan| plan.online),
        Some(11),
        "up as always"
    );
    let again = decide(&autoscaler(2), &state, at(100));
    assert_eq!(again.plan, Some(Counts { online: 6, cutoff: 4, standby: 0 }));
    // A change upwards goes back down.
    let session = Session { from: 4, to: 8, reserve: 0, percent: 50, updated: at(0) };
    let up = State {
        planned: Some(Counts::online(6)),
        session: Some(session),
        held: Some(Held::of(&session, StabilityAction::Rollback, at(100))),
        settled: true,
        ..State::default()
    };
    let back = decide(&autoscaler(8), &up, at(40));
    assert_eq!(back.session.map(|session| session.to), Some(4));
}

#[test]
fn relations_say_what_is_wrong() {
    use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let told = |value| [Equal, Greater, Less, GreaterOrEqual, LessOrEqual].map(|one| one.holds(value, 5));
    assert_eq!(told(4), [false, false, true, false, true]);
    assert_eq!(told(5), [true, false, false, true, true]);
    assert_eq!(told(6), [false, true, false, true, false]);
}
