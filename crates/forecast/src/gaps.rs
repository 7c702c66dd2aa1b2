//! What is missing in a series, and what stands in for it.
//!
//! Owns the line between a metric that is dead and traffic that is zero: zeros that come back at the same time of day
//! are data, zeros in the middle of traffic are an outage.

/// Zeros in a row from which an outage is thought of.
pub(crate) const LEAST_ZEROS: usize = 3;
/// Share of the mean that the time of day promises, above which zeros are no data.
const PROMISED: f32 = 0.2;
/// Seasons on either side that are asked whether they were zero at the same time.
const NEIGHBOURS: usize = 3;
/// Longest gap that is bridged by a straight line; a longer one takes the values of an earlier season.
const BRIDGED: usize = 6;

/// For each value whether it is there; one that is not a number or a zero of an outage is not.
pub(crate) fn present(raw: &[f32], day: usize) -> Vec<bool> {
    let mut present: Vec<bool> = raw.iter().map(|value| value.is_finite()).collect();
    let known: Vec<f32> = raw.iter().copied().filter(|value| value.is_finite()).collect();
    if known.is_empty() {
        return present;
    }
    let mean = known.iter().sum::<f32>() / known.len() as f32;
    let mut at = 0;
    while at < raw.len() {
        let run = raw[at..].iter().take_while(|value| **value == 0.0).count();
        if run >= LEAST_ZEROS {
            // Zeros of more than a day are held against the weeks around them: a weekend without traffic is data.
            let season = if run > day { 7 * day } else { day };
            for (index, there) in present.iter_mut().enumerate().skip(at).take(run) {
                *there = zeros_are_data(raw, index, season, mean);
            }
        }
        at += run.max(1);
    }
    present
}

/// Whether a zero is what this time of day or week brings, as far as the seasons around it tell.
pub(crate) fn zeros_are_data(raw: &[f32], index: usize, season: usize, mean: f32) -> bool {
    let earlier = (1..=NEIGHBOURS).map_while(|back| index.checked_sub(back * season));
    let later = (1..=NEIGHBOURS).map(|ahead| index + ahead * season);
    let seen: Vec<f32> = earlier
        .chain(later)
        .filter_map(|at| raw.get(at).copied())
        .filter(|value| value.is_finite())
        .collect();
    let zeros = seen.iter().filter(|value| **value == 0.0).count();
    if zeros >= 2 && 2 * zeros >= seen.len() {
        return true;
    }
    let others: Vec<f32> = seen.into_iter().filter(|value| *value > 0.0).collect();
    let promised = crate::ridge::median(others);
    promised <= PROMISED * mean
}

/// The series without gaps.
pub(crate) fn filled(raw: &[f32], present: &[bool], day: usize) -> Vec<f32> {
    let mut clean = Vec::with_capacity(raw.len());
    let first = raw.iter().zip(present).find(|(_, there)| **there).map_or(0.0, |(value, _)| *value);
    let mut at = 0;
    while at < raw.len() {
        if present[at] {
            clean.push(raw[at]);
            at += 1;
            continue;
        }
        let gap = present[at..].iter().take_while(|there| !**there).count();
        let before = clean.last().copied().unwrap_or(first);
        let after = raw.get(at + gap).copied();
        for step in 0..gap {
            let index = at + step;
            clean.push(match after {
                Some(after) if gap <= BRIDGED => {
                    before + (after - before) * (step + 1) as f32 / (gap + 1) as f32
                }
                _ => stand_in(&clean, index, day).unwrap_or(before),
            });
        }
        at += gap;
    }
    clean
}

/// The value of the same time a week or a day ago.
pub(crate) fn stand_in(clean: &[f32], index: usize, day: usize) -> Option<f32> {
    [7 * day, day]
        .into_iter()
        .find_map(|season| index.checked_sub(season).and_then(|at| clean.get(at)))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_every_midnight_are_data_and_zeros_at_noon_are_an_outage() {
        let mut raw: Vec<f32> = (0..144 * 6).map(|at| if at % 144 >= 140 { 0.0 } else { 50.0 }).collect();
        raw[300..310].fill(0.0);
        let present = present(&raw, 144);
        assert!(present[140..144].iter().all(|there| *there));
        assert!(present[300..310].iter().all(|there| !there));
        let clean = filled(&raw, &present, 144);
        assert!(clean[300..310].iter().all(|value| *value > 49.0));
    }
}
