//! Portraits, priority, bounds and what is expected next, as tables.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use cron::{Dialect, Window};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use workloads::{
    Autoscaler, Behavior, Content, Counts, Direction, Generated, Limit, Point, Policy, PolicyAmount,
    Portrait, Provider, Rule, Rules, Source, State, Value, choose, clamp, decide, read,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn rule(name: &str, start: &str, end: &str, replicas: u32) -> Rule {
    let window = Window::parse(start, end, &Dialect::KAPACITY, &TimeZone::UTC).unwrap();
    Rule { name: Arc::from(name), window, replicas }
}

fn source(priority: i32, portrait: Portrait) -> Source {
    let provider = match portrait {
        Portrait::Static(_) => Provider::Static,
        Portrait::Cron(_) => Provider::Cron,
        _ => Provider::Dynamic(Arc::from("Reactive")),
    };
    Source { provider, priority, portrait }
}

fn generated(content: Content, expires: Option<i64>) -> Source {
    source(1, Portrait::Generated(Some(Generated { content, expires: expires.map(at) })))
}

fn told(source: &Source, now: i64) -> (Option<(u32, Option<i64>)>, Option<i64>) {
    let reading = read(source, at(now));
    let value = reading.value.map(|value| (value.replicas, value.expires.map(Timestamp::as_second)));
    (value, reading.wake_at.map(Timestamp::as_second))
}

#[test]
fn time_series_hold_until_the_next_point() {
    let points = || {
        // In no order.
        Content::Series(
            [(700, 3), (100, 4), (1300, 2)].map(|(s, replicas)| Point { at: at(s), replicas }).into(),
        )
    };
    let whole = generated(points(), Some(1900));
    assert_eq!(told(&whole, 50), (None, Some(100)));
    assert_eq!(told(&whole, 100), (Some((4, Some(700))), Some(700)));
    assert_eq!(told(&whole, 699).0, Some((4, Some(700))));
    assert_eq!(told(&whole, 700).0, Some((3, Some(1300))));
    assert_eq!(told(&whole, 1899).0, Some((2, Some(1900))));
    assert_eq!(told(&whole, 1900), (None, None));
    assert_eq!(told(&generated(points(), None), 9999), (Some((2, None)), None));
    assert_eq!(told(&generated(points(), Some(500)), 100).0, Some((4, Some(500))));
    // Nothing was generated, or nothing is wanted: zero is a value.
    assert_eq!(told(&source(1, Portrait::Generated(None)), 0), (None, None));
    assert_eq!(told(&generated(Content::Static(0), None), 0).0, Some((0, None)));
}

#[test]
fn each_provider_says_its_own_and_until_when() {
    let now = "2026-11-23T10:05:00Z".parse::<Timestamp>().unwrap().as_second();
    let rules = || vec![rule("x", "0 * * * *", "10 * * * *", 2)];
    let named = |source: &Source| read(source, at(now)).value.unwrap().provider.to_string();
    let fixed = source(1, Portrait::Static(3));
    assert_eq!((told(&fixed, now), named(&fixed).as_str()), ((Some((3, None)), None), "Static"));
    let cron = source(1, Portrait::Cron(rules()));
    assert_eq!((told(&cron, now).0, named(&cron).as_str()), (Some((2, Some(now + 300))), "Cron"));
    let made = generated(Content::Static(5), None);
    assert_eq!((told(&made, now).0, named(&made).as_str()), (Some((5, None)), "Dynamic-Reactive"));
    // Windows in a portrait that was made, which itself ends earlier.
    assert_eq!(told(&generated(Content::Cron(rules()), None), now).0, Some((2, Some(now + 300))));
    assert_eq!(told(&generated(Content::Cron(rules()), Some(now + 60)), now).0, Some((2, Some(now + 60))));
    let point = Point { at: at(now - 60), replicas: 4 };
    assert_eq!(told(&generated(Content::Series(vec![point]), None), now).0, Some((4, None)));
}

#[test]
fn the_highest_priority_that_has_a_value_counts() {
    let now = at(1000);
    let chosen = |all: &[(i32, u32, Option<i64>)]| {
        let values = all.iter().map(|(priority, replicas, expires)| {
            (*priority, Value { provider: Provider::Static, replicas: *replicas, expires: expires.map(at) })
        });
        choose(values, now).map(|value| value.replicas)
    };
    assert_eq!(chosen(&[(1, 1, None), (2, 5, Some(2000))]), Some(5));
    assert_eq!(chosen(&[(1, 1, None), (2, 5, Some(1000))]), Some(1));
    assert_eq!(chosen(&[(3, 1, None), (1, 9, None)]), Some(1));
    assert_eq!(chosen(&[(1, 4, None), (1, 9, None)]), Some(9));
    assert_eq!(chosen(&[(-1, 4, None)]), Some(4));
    let even = [Provider::Cron, Provider::Static]
        .map(|provider| (1, Value { provider, replicas: 7, expires: None }));
    assert_eq!(choose(even, now).unwrap().provider, Provider::Cron, "the first of equals");
    assert_eq!(chosen(&[(1, 4, Some(1))]), None);
    assert_eq!(clamp(15, 1, 10), (10, Some(Limit::TooMany)));
    assert_eq!(clamp(0, 1, 10), (1, Some(Limit::TooFew)));
    assert_eq!(clamp(0, 0, 10), (0, None));
    assert_eq!(clamp(5, 7, 3), (3, Some(Limit::TooMany)));
}

/// One bad source neither blocks the others nor goes unseen; overlapping windows give the larger count.
#[test]
fn problems_are_told_and_block_nothing() {
    let now: Timestamp = "2026-11-23T10:05:00Z".parse().unwrap();
    let overlap = Portrait::Cron(vec![
        rule("x", "0 * * * *", "10 * * * *", 2),
        rule("y", "0 * * * *", "30 * * * *", 7),
        rule("z", "0 * * * *", "0 0 30 2 *", 99),
    ]);
    let sources = vec![
        source(9, Portrait::Broken(Arc::from("schedule \"x\": nonsense"))),
        source(2, overlap),
        source(1, Portrait::Static(1)),
    ];
    let autoscaler = Autoscaler { sources, min: 0, max: 10, ..Autoscaler::default() };
    let decision = decide(&autoscaler, &State::default(), now);
    assert_eq!(decision.target, Some(7));
    assert_eq!(decision.wake_at, Some("2026-11-23T10:10:00Z".parse().unwrap()));
    let told: Vec<&str> = decision.problems.iter().map(|problem| &*problem.why).collect();
    assert_eq!(told, ["schedule \"x\": nonsense", "found overlapping cron \"x\" and \"y\""]);
}

#[test]
fn the_next_change_is_known_ahead() {
    let now: Timestamp = "2026-11-23T10:05:00Z".parse().unwrap();
    let next = |sources: Vec<Source>| {
        let autoscaler = Autoscaler { sources, min: 1, max: 10, ..Autoscaler::default() };
        let next = decide(&autoscaler, &State::default(), now).next_change;
        next.map(|next| (next.at.to_string(), next.replicas))
    };
    let busy = || source(2, Portrait::Cron(vec![rule("busy", "0 18 * * *", "0 20 * * *", 5)]));
    assert_eq!(
        next(vec![busy(), source(1, Portrait::Static(2))]),
        Some(("2026-11-23T18:00:00Z".to_owned(), Some(5)))
    );
    // The same count again is no change, an end without another source is.
    assert_eq!(next(vec![busy(), source(1, Portrait::Static(5))]), None);
    let open = source(1, Portrait::Cron(vec![rule("now", "0 * * * *", "30 * * * *", 3)]));
    assert_eq!(next(vec![open]), Some(("2026-11-23T10:30:00Z".to_owned(), None)));
}

#[test]
fn a_missing_value_leaves_everything_as_it_is() {
    let autoscaler = Autoscaler { min: 1, max: 10, ..Autoscaler::default() };
    let state = State { planned: Some(Counts::online(4)), settled: true, ..State::default() };
    let decision = decide(&autoscaler, &state, at(0));
    assert_eq!((decision.value, decision.plan, decision.target), (None, None, None));
}

#[test]
fn disabled_directions_and_previews() {
    let want = |replicas, up: bool, down: bool| {
        let autoscaler = Autoscaler {
            sources: vec![source(1, Portrait::Static(replicas))],
            max: 10,
            up: Direction { disabled: up },
            down: Direction { disabled: down },
            ..Autoscaler::default()
        };
        let state = State { planned: Some(Counts::online(5)), settled: true, ..State::default() };
        decide(&autoscaler, &state, at(0)).plan.map(|plan| plan.online)
    };
    assert_eq!(want(3, false, true), Some(5));
    assert_eq!(want(8, false, true), Some(8));
    assert_eq!(want(8, true, false), Some(5));
    assert_eq!(want(3, true, true), Some(5));
    let preview = Autoscaler {
        sources: vec![source(1, Portrait::Static(3))],
        max: 10,
        preview: true,
        ..Autoscaler::default()
    };
    let decision = decide(&preview, &State::default(), at(0));
    assert_eq!((decision.target, decision.plan), (Some(3), None));
}

/// As the HPA has it: down by the highest of the window, up within the rate, and never later than it must.
#[test]
fn stabilisation_and_rates() {
    let behavior = Behavior {
        down: Rules { stabilization: SignedDuration::from_secs(300), ..Rules::default() },
        up: Rules {
            policies: vec![
                Policy { amount: PolicyAmount::Pods(2), period: SignedDuration::from_secs(60) },
                Policy { amount: PolicyAmount::Percent(50), period: SignedDuration::from_secs(60) },
            ],
            ..Rules::default()
        },
    };
    let mut state = State { planned: Some(Counts::online(4)), settled: true, ..State::default() };
    let mut decide_at = |second, replicas| {
        let autoscaler = Autoscaler {
            sources: vec![source(1, Portrait::Static(replicas))],
            max: 100,
            behavior: behavior.clone(),
            ..Autoscaler::default()
        };
        let decision = decide(&autoscaler, &state, at(second));
        state = State {
            planned: decision.plan,
            session: decision.session,
            settled: true,
            history: decision.history,
            held: None,
        };
        (decision.plan.unwrap().online, decision.wake_at.map(Timestamp::as_second))
    };
    assert_eq!(decide_at(0, 20), (6, Some(60)), "two more, or half of four");
    assert_eq!(decide_at(30, 20), (6, Some(60)), "the period is used up");
    assert_eq!(decide_at(60, 20).0, 9, "half of six");
    assert_eq!(decide_at(100, 1).0, 9, "twenty was wanted within the window");
    assert_eq!(decide_at(359, 1).0, 9);
    assert_eq!(decide_at(360, 1).0, 1);
}
