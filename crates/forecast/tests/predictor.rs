//! Plans of replicas: made from a day's history on, carried on minute by minute, and refused where nothing is known.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use forecast::{NotLearnable, NotPredictable, Observed, Predictor, PredictorSettings};

const MINUTE: i64 = 60;
const START: i64 = 1_698_105_600;

fn row(minute: usize, period: f64) -> Observed {
    let wave = 1.1 - (std::f64::consts::TAU * minute as f64 / period).cos();
    let traffic = 100.0 * wave * (0.97 + 0.06 * (minute * 7_919 % 101) as f64 / 100.0);
    let replicas = (traffic / 30.0).ceil();
    Observed {
        seconds: START + MINUTE * minute as i64,
        used: 0.01 * traffic + 0.02 * replicas,
        ready_replicas: replicas,
        traffic: vec![traffic],
    }
}

fn history(minutes: usize, period: f64) -> Vec<Observed> {
    (0..minutes).map(|minute| row(minute, period)).collect()
}

fn settings() -> PredictorSettings {
    PredictorSettings { target: 0.3, ..PredictorSettings::default() }
}

/// The replicas that the plan has at a time.
fn at(ahead: &forecast::Ahead, seconds: i64) -> usize {
    ahead.points.iter().rev().find(|point| point.seconds <= seconds).unwrap().replicas
}

#[test]
fn a_day_of_hourly_waves_is_enough_to_plan_by() {
    let minutes = 1_440;
    let ahead = Predictor::learn(settings(), &history(minutes, 60.0)).unwrap().ahead().unwrap();
    let now = START + MINUTE * minutes as i64;
    assert_eq!(ahead.points[0].seconds, now);
    assert_eq!(ahead.expires_seconds, now + 3 * 3_600);
    // The crest of an hour needs many, its ends few; steps of ten minutes see means.
    assert!((7..=10).contains(&at(&ahead, now + 25 * MINUTE)), "{:?}", ahead.points);
    assert!((1..=4).contains(&at(&ahead, now + 60 * MINUTE)), "{:?}", ahead.points);
    assert!(ahead.traffic_error < 0.3 && ahead.quality.correlation > 0.9);
}

#[test]
fn minutes_that_come_move_the_plan_on_without_a_gap() {
    let minutes = 9 * 1_440;
    let mut predictor = Predictor::learn(settings(), &history(minutes, 1_440.0)).unwrap();
    let mut before = predictor.ahead().unwrap();
    for minute in minutes..minutes + 2 * 1_440 {
        predictor.push(row(minute, 1_440.0));
        if minute % 30 == 0 {
            let ahead = predictor.ahead().unwrap();
            assert!(ahead.points[0].seconds < before.expires_seconds, "no gap between two plans");
            assert!(ahead.points[0].seconds <= predictor.known_seconds());
            let traffic = row(minute, 1_440.0).traffic[0];
            let needed = (0.01 * traffic / 0.28).ceil() as usize;
            let planned = at(&ahead, predictor.known_seconds());
            assert!(planned + 1 >= needed && planned <= needed + 3, "{planned} for {needed}");
            before = ahead;
        }
    }
    assert!(predictor.bytes() < 4_000_000);
}

#[test]
fn it_is_the_same_whether_learned_at_once_or_told_minute_by_minute() {
    let mut told = Predictor::learn(settings(), &history(1_435, 60.0)).unwrap();
    for minute in 1_435..1_440 {
        told.push(row(minute, 60.0));
    }
    // The last step closes when a minute after it comes.
    told.push(row(1_440, 60.0));
    assert_eq!(told.ahead().unwrap().points[0].seconds, START + MINUTE * 1_440);
}

#[test]
fn an_outage_of_the_metric_ends_the_plan() {
    let minutes = 9 * 1_440;
    let mut predictor = Predictor::learn(settings(), &history(minutes, 1_440.0)).unwrap();
    for minute in minutes..minutes + 60 {
        let silent = Observed { traffic: vec![f64::NAN], ..row(minute, 1_440.0) };
        predictor.push(silent);
    }
    let refused = predictor.ahead().unwrap_err();
    assert!(
        matches!(&refused, NotPredictable::NotTrusted { metric: 0, why } if why.contains("missing")),
        "{refused}"
    );
}

#[test]
fn what_cannot_be_planned_says_why() {
    let refused = |settings: PredictorSettings, history: &[Observed]| {
        Predictor::learn(settings, history).and_then(|predictor| predictor.ahead()).unwrap_err()
    };
    let day = history(1_440, 60.0);
    assert_eq!(refused(settings(), &[]), NotPredictable::Load(NotLearnable::NoHistory));
    let small = PredictorSettings { target: 0.01, ..settings() };
    assert!(matches!(refused(small, &day), NotPredictable::Unreachable { .. }));
    let none = PredictorSettings { target: 0.0, ..settings() };
    assert!(refused(none, &day).to_string().contains("a target of 0"));
    let never = PredictorSettings { quantile: 1.5, ..settings() };
    assert!(refused(never, &day).to_string().contains("a quantile"));
    assert!(matches!(refused(settings(), &day[..180]), NotPredictable::NotTrusted { .. }));
}

#[test]
fn a_plan_has_no_more_than_is_allowed() {
    let few = PredictorSettings { most_replicas: 5, ..settings() };
    let ahead = Predictor::learn(few, &history(1_440, 60.0)).unwrap().ahead().unwrap();
    assert_eq!(ahead.points.iter().map(|point| point.replicas).max(), Some(5));
}
