//! Jumps of a series' clock: from one day on, everything happens at another time of day.
//!
//! Owns finding the last one. Seasons learned before a jump tell nothing of the time after it, so they are forgotten.

use crate::seasons::pearson;

/// Slices of a day that shapes are compared in.
const SLICES: usize = 48;
/// Days on either side that make a shape.
const DAYS: usize = 4;
/// By how much a shifted shape must fit better than the unshifted one.
const CLEARLY: f32 = 0.35;
/// How well the shifted shape must fit.
const WELL: f32 = 0.7;
/// Slices below which a shift is drift of the shape rather than a jump of the clock.
const LEAST_SHIFT: usize = 3;

/// The first index after the last jump of the clock, if there is one.
pub(crate) fn last_jump(clean: &[f32], present: &[bool], day: usize) -> Option<usize> {
    if day < SLICES || clean.len() < (2 * DAYS + 1) * day {
        return None;
    }
    let days = clean.len() / day;
    let shapes: Vec<Option<[f32; SLICES]>> =
        (0..days).map(|number| shape(clean, present, number, day)).collect();
    let mut best: Option<(f32, usize)> = None;
    for cut in DAYS..days.saturating_sub(DAYS - 1) {
        let (Some(before), Some(after)) = (mean(&shapes[cut - DAYS..cut]), mean(&shapes[cut..])) else {
            continue;
        };
        let fit = |shift: usize| {
            let shifted: [f32; SLICES] = std::array::from_fn(|at| before[(at + shift) % SLICES]);
            pearson(&after, &shifted)
        };
        let still = fit(0);
        let far = (LEAST_SHIFT..=SLICES - LEAST_SHIFT).map(fit).fold(f32::MIN, f32::max);
        if far >= WELL && far - still >= CLEARLY && best.is_none_or(|(gain, _)| far - still > gain) {
            best = Some((far - still, cut));
        }
    }
    best.map(|(_, cut)| boundary(clean, present, day, cut))
}

/// A day's shape; none where much of it is missing.
fn shape(clean: &[f32], present: &[bool], number: usize, day: usize) -> Option<[f32; SLICES]> {
    let mut slices = [0.0; SLICES];
    let from = number * day;
    if present[from..from + day].iter().filter(|there| !**there).count() > day / 4 {
        return None;
    }
    for (at, slice) in slices.iter_mut().enumerate() {
        let (start, end) = (from + at * day / SLICES, from + (at + 1) * day / SLICES);
        *slice = clean[start..end].iter().sum::<f32>() / (end - start) as f32;
    }
    Some(slices)
}

/// The mean of the first few whole days of each kind, so that one odd day does not decide.
fn mean(shapes: &[Option<[f32; SLICES]>]) -> Option<[f32; SLICES]> {
    let whole: Vec<&[f32; SLICES]> = shapes.iter().flatten().take(DAYS).collect();
    (whole.len() >= 3).then(|| {
        std::array::from_fn(|at| whole.iter().map(|shape| shape[at]).sum::<f32>() / whole.len() as f32)
    })
}

/// Where exactly, within some days of a cut: before it the shape of the days before fits better, after it the other.
fn boundary(clean: &[f32], present: &[bool], day: usize, cut: usize) -> usize {
    let (from, to) = ((cut.saturating_sub(2)) * day, ((cut + 2) * day).min(clean.len()));
    let profile = |start: usize, time: usize| {
        let values: Vec<f32> = (0..3)
            .map(|number| start + number * day + time)
            .filter(|at| present.get(*at).copied().unwrap_or(false))
            .map(|at| clean[at])
            .collect();
        crate::ridge::median(values)
    };
    let (old, new) = (cut.saturating_sub(5) * day, (cut + 2) * day);
    let mut sum = 0.0f32;
    let (mut best, mut least) = (to, 0.0f32);
    // Going back from the end: error of "new" less error of "old" for all that comes after an index.
    for at in (from..to).rev() {
        if present[at] {
            let time = at % day;
            sum += (clean[at] - profile(new, time)).abs() - (clean[at] - profile(old, time)).abs();
        }
        if sum < least {
            least = sum;
            best = at;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn office(at: usize) -> f32 {
        let time = at % 144;
        if (54..108).contains(&time) { 100.0 } else { 20.0 + (time % 7) as f32 }
    }

    #[test]
    fn a_jump_is_found_to_the_hour_and_a_steady_clock_has_none() {
        let steady: Vec<f32> = (0..144 * 20).map(office).collect();
        let present = vec![true; steady.len()];
        assert_eq!(last_jump(&steady, &present, 144), None);
        let jumped: Vec<f32> =
            (0..144 * 20).map(|at| if at < 1500 { office(at) } else { office(at + 60) }).collect();
        let found = last_jump(&jumped, &present, 144).unwrap();
        assert!(found.abs_diff(1500) <= 6, "{found}");
    }
}
