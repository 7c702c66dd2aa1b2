//! Forecasts of generated series of several kinds: how good they are, what they admit, what they cost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use forecast::{Backtest, Basis, Calendar, Forecaster, Settings, Trust, Weekday, backtest};

const DAY: usize = 144;

/// A generator of noise: the same numbers on every machine.
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Nearly normal, mean 0, deviation 1.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

fn settings() -> Settings {
    Settings { start_seconds: 0, step_seconds: 600, horizon: DAY, calendar: Calendar::default() }
}

/// An office: busy by day, quiet at night and on two days of seven.
fn office(at: usize) -> f32 {
    let time = (at % DAY) as f32 / DAY as f32;
    let wave = 1.0 - (std::f32::consts::TAU * time).cos();
    let weekend = if at / DAY % 7 >= 5 { 0.4 } else { 1.0 };
    (20.0 + 100.0 * wave) * weekend
}

fn noisy(days: usize, seed: u64, shape: impl Fn(usize) -> f32) -> Vec<f32> {
    let mut dice = Dice(seed);
    (0..days * DAY)
        .map(|at| {
            let mean = shape(at);
            (mean + 0.6 * mean.max(0.0).sqrt() * dice.normal()).max(0.0)
        })
        .collect()
}

/// Bursts of one or two steps of three to four times the level, roughly every two hours; zeros before midnight.
fn bursty(days: usize) -> Vec<f32> {
    let mut dice = Dice(5);
    let mut values = Vec::new();
    let mut next = 7.0f32;
    for at in 0..days * DAY {
        let level = 40.0 + 3.0 * dice.normal();
        let burst = if at as f32 >= next {
            next += 11.0 + 2.0 * dice.uniform();
            2.0 + 1.5 * dice.uniform()
        } else {
            1.0
        };
        values.push(if at % DAY >= DAY - 3 { 0.0 } else { level * burst });
    }
    values
}

fn tested(values: &[f32]) -> Backtest {
    backtest(&settings(), values, 0.3, &[3, 6, DAY]).unwrap()
}

/// The share of absolute errors when the value of a lag ago is repeated.
fn repeated(values: &[f32], lag: usize) -> f64 {
    let from = values.len() * 7 / 10;
    let errors: f32 = (from..values.len()).map(|at| (values[at] - values[at - lag]).abs()).sum();
    f64::from(errors / values[from..].iter().sum::<f32>())
}

#[test]
fn forecasts_beat_repetition_and_intervals_hold() {
    let trend = |at: usize| office(at) * (1.0 + at as f32 / (40 * DAY) as f32);
    let twice_a_day = |at: usize| 50.0 + 30.0 * (std::f32::consts::TAU * at as f32 / 72.0).sin();
    let hundred = |at: usize| 50.0 + 30.0 * (std::f32::consts::TAU * at as f32 / 100.0).sin();
    let worlds = [
        ("office", noisy(35, 1, office)),
        ("trend", noisy(35, 2, trend)),
        ("twice a day", noisy(21, 3, twice_a_day)),
        ("every hundred steps", noisy(21, 4, hundred)),
        ("bursty", bursty(22)),
    ];
    for (name, values) in worlds {
        let found = tested(&values);
        let best = repeated(&values, DAY).min(repeated(&values, 7 * DAY)).min(repeated(&values, 3));
        for horizon in &found.horizons {
            assert!(horizon.wape < best, "{name}: {horizon:?} against {best}");
            assert!((0.85..=0.95).contains(&horizon.coverage90), "{name}: {horizon:?}");
        }
        assert!(found.forecaster.bytes() <= 200_000, "{name}: {} bytes", found.forecaster.bytes());
        assert!(found.forecaster.trust().is_trusted(), "{name}: {}", found.forecaster.trust());
    }
}

#[test]
fn equal_series_give_equal_forecasts() {
    let values = noisy(30, 9, office);
    let forecast = || {
        let mut forecaster = Forecaster::new(settings(), &values[..25 * DAY]).unwrap();
        for value in &values[25 * DAY..] {
            forecaster.push(*value);
        }
        forecaster.forecast(&[0.5, 0.9])
    };
    assert_eq!(forecast(), forecast());
    assert_eq!(forecast().quantiles.len(), 2);
}

#[test]
fn a_short_history_falls_back_and_says_so() {
    let values = noisy(30, 11, office);
    let after = |length: usize| Forecaster::new(settings(), &values[..length]).unwrap();
    assert_eq!(after(1).basis(), Basis::LastValue);
    assert!(matches!(after(5).trust(), Trust::Unproven { .. }));
    assert!(!after(DAY).trust().is_trusted());
    assert!(matches!(after(5 * DAY).basis(), Basis::LearnedDay), "{:?}", after(5 * DAY).basis());
    assert_eq!(after(21 * DAY).basis(), Basis::LearnedWeek);
    // Every length gives a whole forecast of numbers.
    for length in [1, 2, 7, 40, DAY + 3, 2 * DAY, 3 * DAY + 1, 8 * DAY] {
        let forecast = after(length).forecast(&[0.1, 0.9]);
        assert_eq!(forecast.expected.len(), DAY);
        assert!(forecast.expected.iter().chain(forecast.quantiles.iter().flatten()).all(|v| v.is_finite()));
    }
}

#[test]
fn an_outage_freezes_the_forecast_and_is_told() {
    let mut values = noisy(28, 13, office);
    let outage = 25 * DAY + 60;
    values[outage..outage + 40].fill(0.0);
    let mut forecaster = Forecaster::new(settings(), &values[..outage]).unwrap();
    for value in &values[outage..outage + 40] {
        forecaster.push(*value);
    }
    assert!(matches!(forecaster.trust(), Trust::Outage { points: 30.. }), "{}", forecaster.trust());
    let forecast = forecaster.forecast(&[0.9]);
    let came: f32 = (1..=36).map(|step| office(outage + 39 + step)).sum();
    let expected: f32 = forecast.expected[..36].iter().sum();
    assert!((expected / came - 1.0).abs() < 0.25, "{expected} against {came}");
    for value in &values[outage + 40..] {
        forecaster.push(*value);
    }
    assert!(!matches!(forecaster.trust(), Trust::Outage { .. }));
}

#[test]
fn drift_is_seen_and_switches_trust_off() {
    let values = noisy(28, 17, office);
    let mut forecaster = Forecaster::new(settings(), &values).unwrap();
    assert!(forecaster.trust().is_trusted(), "{}", forecaster.trust());
    // From here on the workload is another one: three times the traffic, mirrored in time.
    let mut dice = Dice(3);
    for at in 0..DAY {
        forecaster.push((3.0 * office(28 * DAY + DAY - 1 - at) * (1.0 + 0.6 * dice.normal())).max(1.0));
    }
    assert!(!forecaster.trust().is_trusted(), "{}", forecaster.trust());
}

#[test]
fn a_jump_of_the_clock_is_found_and_what_was_before_is_forgotten() {
    let jumped = noisy(35, 19, |at| if at < 15 * DAY { office(at) } else { office(at + 80) });
    let found = tested(&jumped);
    let jump = found.forecaster.clock_jump();
    // 35 days are kept; the jump is still among them.
    assert!(jump.is_some_and(|at| at.abs_diff(15 * DAY) <= 12), "{jump:?}");
    let steady = tested(&noisy(35, 19, office));
    // A week after the jump is less than it takes to learn weekends again.
    assert!(found.horizons[1].wape < 1.15 * steady.horizons[1].wape, "{:?}", found.horizons);
    assert!(found.horizons[2].wape < 0.8 * repeated(&jumped, DAY), "{:?}", found.horizons);
}

#[test]
fn a_holiday_of_the_calendar_is_forecast_like_a_sunday() {
    // Day 0 is a Thursday; days 2 and 3 of each week are quiet. Day 27, a Wednesday, is a holiday.
    let quiet = |at: usize| matches!(at / DAY % 7, 2 | 3) || at / DAY == 27;
    let shape = |at: usize| {
        let wave = 1.0 - (std::f32::consts::TAU * (at % DAY) as f32 / DAY as f32).cos();
        if quiet(at) { 10.0 + 10.0 * wave } else { 20.0 + 100.0 * wave }
    };
    let values = noisy(28, 23, shape);
    let error = |calendar: Calendar| {
        let settings = Settings { calendar, ..settings() };
        let forecaster = Forecaster::new(settings, &values[..27 * DAY]).unwrap();
        let forecast = forecaster.forecast(&[]);
        forecast.expected.iter().zip(&values[27 * DAY..]).map(|(a, b)| (a - b).abs()).sum::<f32>()
    };
    let mut calendar = Calendar::default();
    calendar.set(27, Weekday::Sunday);
    let (without, with) = (error(Calendar::default()), error(calendar));
    assert!(with < 0.5 * without, "{with} with, {without} without");
}

#[test]
fn what_cannot_be_forecast_is_refused_with_the_fix() {
    let refused = |settings: Settings, history: &[f32]| {
        Forecaster::new(settings, history).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused(settings(), &[f32::NAN]).contains("give at least one"));
    assert!(refused(Settings { step_seconds: 7, ..settings() }, &[1.0]).contains("divides a day"));
    assert!(refused(Settings { horizon: 0, ..settings() }, &[1.0]).contains("give 1 to"));
    assert!(
        backtest(&settings(), &[1.0; 100], 0.3, &[144]).unwrap_err().to_string().contains("longer series")
    );
    assert!(backtest(&settings(), &[1.0; 100], 3.0, &[3]).unwrap_err().to_string().contains("0.3"));
}
