//! What forecasting costs: learning, a new point, a forecast, and a thousand workloads for an hour, in processor time.
//!
//! `cargo run --release -p forecast --example speed`; processor time is the kernel's (`/proc/self/schedstat`), so that a
//! busy machine does not show.

use forecast::{Calendar, ForecastError, Forecaster, Peaks, Settings};
use std::hint::black_box;

const DAY: usize = 1_440;
const MINUTES: usize = 28 * DAY;
const WORKLOADS: usize = 1_000;

/// Seconds of processor time since the start; nought where the kernel does not say.
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// A day's wave, quieter on two days of seven, with noise.
fn traffic(minute: usize, workload: usize) -> f64 {
    let wave = 1.3 - (minute as f64 / DAY as f64 * std::f64::consts::TAU).cos();
    let mut mixed = (minute as u64 ^ ((workload as u64) << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 31;
    let noise = (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / f64::from(1u32 << 24);
    200.0 * wave * if minute / DAY % 7 >= 5 { 0.5 } else { 1.0 } * (0.85 + 0.3 * noise)
}

fn each(what: &str, times: usize, mut act: impl FnMut(usize)) {
    let before = spent();
    (0..times).for_each(&mut act);
    println!("{what}: {:.2} µs", (spent() - before) * 1e6 / times as f64);
}

fn main() -> Result<(), ForecastError> {
    let settings =
        Settings { start_seconds: 0, step_seconds: 600, horizon: 144, calendar: Calendar::default() };
    let mean = |bin: usize| (0..10).map(|at| traffic(bin * 10 + at, 1)).sum::<f64>() / 10.0;
    let history: Vec<f32> = (0..MINUTES / 10).map(|bin| mean(bin) as f32).collect();
    let mut forecaster = Forecaster::new(settings, &history)?;
    let mut peaks = Peaks::new(200.0, &[1, 2, 5])?;
    each("learning again from 28 days", 40, |_| forecaster.refit());
    each("a new point of ten minutes", 5_000, |at| forecaster.push(traffic(at * 10, 1) as f32));
    each("a forecast of 144 steps", 20_000, |_| {
        black_box(forecaster.forecast(&[0.9]));
    });
    each("a new minute of peaks, three steps", MINUTES, |at| peaks.push(traffic(at, 1)));
    // As once a day, which also gives back what points needed meanwhile.
    forecaster.refit();
    println!("memory of a workload: {} bytes", forecaster.bytes() + peaks.bytes());
    let mut all = vec![(forecaster, peaks); WORKLOADS];
    let before = spent();
    for minute in 0..60 {
        for (workload, (forecaster, peaks)) in all.iter_mut().enumerate() {
            let value = traffic(MINUTES + minute, workload);
            peaks.push(value);
            black_box([0, 1, 2].map(|at| peaks.exceeded_in(0.001, at)));
            if (minute + workload).is_multiple_of(10) {
                forecaster.push(value as f32);
                black_box(forecaster.forecast(&[0.9]));
            }
            if (minute * 977 + workload).is_multiple_of(DAY) {
                forecaster.refit();
            }
        }
    }
    let minute = (spent() - before) / 60.0 * 10_000.0 / WORKLOADS as f64;
    println!("10,000 workloads for a minute, their share of daily learning included: {minute:.2} s");
    Ok(())
}
