//! Which seasons a series has, found from the series.
//!
//! Owns the search. A day and a week are tried first; another period is taken only where it explains clearly more.

/// Correlation with itself a season ago from which a season counts as found.
const FOUND: f32 = 0.2;
/// By how much another period must explain more than a day does.
const CLEARLY: f32 = 0.1;
/// Shortest other period that is looked for, in bins.
const SHORTEST: usize = 6;
/// Most bins that a series is compared over; longer ones are compared at their end.
const MOST_BINS: usize = 6_000;

/// The two seasons that features look back over, in bins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seasons {
    /// A day, unless another period explains more.
    pub short: usize,
    /// A week; absent while there is no history of more than one.
    pub long: Option<usize>,
}

/// A season with how much of the series it explains: the correlation with the series one season ago.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Season {
    pub bins: usize,
    pub strength: f32,
}

/// The seasons to look back over, and what was found, strongest first.
pub(crate) fn find(values: &[f32], day: usize) -> (Seasons, Vec<Season>) {
    let values = &values[values.len().saturating_sub(MOST_BINS)..];
    let week = 7 * day;
    let strength = |lag: usize| (values.len() >= 2 * lag).then(|| correlation(values, lag));
    let daily = strength(day).unwrap_or(0.0);
    let weekly = strength(week).unwrap_or(0.0);
    let other = other(values, day).filter(|season| season.strength > daily.max(weekly) + CLEARLY);
    let short = other.map_or(day, |season| season.bins);
    let mut found: Vec<Season> = [(day, daily), (week, weekly)]
        .into_iter()
        .map(|(bins, strength)| Season { bins, strength })
        .chain(other)
        .filter(|season| season.strength >= FOUND)
        .collect();
    found.sort_by(|a, b| b.strength.total_cmp(&a.strength).then(a.bins.cmp(&b.bins)));
    // Two days of rows beyond the first week is the least that weights can be learned from.
    let long = (values.len() >= week + 4 * day && week > short).then_some(week);
    (Seasons { short, long }, found)
}

/// The strongest peak of the correlation with itself, a day and its neighbours aside.
fn other(values: &[f32], day: usize) -> Option<Season> {
    let longest = (2 * day).min(values.len() / 3);
    if longest <= SHORTEST + 2 {
        return None;
    }
    let strengths: Vec<f32> = (SHORTEST - 1..=longest + 1).map(|lag| correlation(values, lag)).collect();
    let mut best: Option<Season> = None;
    for at in 1..strengths.len() - 1 {
        let (before, strength, after) = (strengths[at - 1], strengths[at], strengths[at + 1]);
        let better = best.is_none_or(|best| strength > best.strength + 0.02);
        if strength >= before && strength > after && better {
            best = Some(Season { bins: at + SHORTEST - 1, strength });
        }
    }
    // A fraction of a day is part of the day's own shape, where a day was seen to repeat itself.
    best.filter(|season| !day.is_multiple_of(season.bins) || values.len() < 2 * day)
}

fn correlation(values: &[f32], lag: usize) -> f32 {
    if values.len() < lag + 8 {
        return 0.0;
    }
    let (now, then) = (&values[lag..], &values[..values.len() - lag]);
    pearson(now, then)
}

/// Correlation of two equally long series; zero where one of them does not vary.
pub(crate) fn pearson(one: &[f32], other: &[f32]) -> f32 {
    let count = one.len().min(other.len()) as f64;
    if count < 3.0 {
        return 0.0;
    }
    let (mut a, mut b, mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in one.iter().zip(other) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        a += x;
        b += y;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    let spread = (aa - a * a / count) * (bb - b * b / count);
    if spread <= 1e-12 * (1.0 + aa * bb) { 0.0 } else { ((ab - a * b / count) / spread.sqrt()) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between 0 and 1 without a pattern.
    fn noise(bins: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..bins).map(|_| next()).collect()
    }

    fn wave(bins: usize, period: usize) -> Vec<f32> {
        let swing = |at: usize| (at as f32 / period as f32 * std::f32::consts::TAU).sin();
        noise(bins).into_iter().enumerate().map(|(at, noise)| 10.0 + 5.0 * swing(at) + noise).collect()
    }

    #[test]
    fn a_day_is_found_and_another_period_where_there_is_one() {
        let (seasons, found) = find(&wave(144 * 14, 144), 144);
        assert_eq!(seasons, Seasons { short: 144, long: Some(1008) });
        assert!(found[0].strength > 0.9);
        let (seasons, _) = find(&wave(144 * 14, 100), 144);
        assert!(seasons.short.abs_diff(100) <= 1, "{seasons:?}");
    }

    #[test]
    fn noise_has_no_season() {
        assert_eq!(find(&noise(2000), 144).1, Vec::new());
    }
}
