//! Replicas over time as they are handed on: at most so often changed, and more of them before they are due.
//!
//! Owns the form that a plan takes; each point holds until the next.

/// The highest of each stretch of `every_seconds`, at its start. Points are in the order of time.
pub fn resampled(points: &[(i64, usize)], every_seconds: i64) -> Vec<(i64, usize)> {
    let every = every_seconds.max(1);
    let mut out: Vec<(i64, usize)> = Vec::new();
    for (seconds, replicas) in points {
        let start = seconds.div_euclid(every) * every;
        match out.last_mut() {
            Some((last, most)) if *last == start => *most = (*most).max(*replicas),
            _ => out.push((start, *replicas)),
        }
    }
    out
}

/// Points at which replicas grow come so much earlier; what a larger number overtakes is left out.
pub fn ahead_of_time(points: &[(i64, usize)], ahead_seconds: i64) -> Vec<(i64, usize)> {
    let ahead = ahead_seconds.max(0);
    let mut out: Vec<(i64, usize)> = Vec::new();
    let mut before = usize::MAX;
    for (seconds, replicas) in points {
        let mut seconds = *seconds;
        if *replicas > before {
            seconds -= ahead;
            while let Some((earlier, fewer)) = out.last().copied() {
                if earlier < seconds || fewer > *replicas {
                    break;
                }
                // The first point keeps its time: nothing is planned for what is over.
                if out.len() == 1 {
                    seconds = earlier;
                }
                out.pop();
            }
        }
        before = *replicas;
        out.push((seconds, *replicas));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_comes_earlier_and_nothing_else() {
        let points = [(1_698_231_600, 4), (1_698_232_200, 3), (1_698_232_800, 5)];
        let shifted = ahead_of_time(&points, 120);
        assert_eq!(shifted, [(1_698_231_600, 4), (1_698_232_200, 3), (1_698_232_680, 5)]);
    }

    #[test]
    fn longer_than_a_step_ahead_the_larger_number_wins() {
        assert_eq!(
            ahead_of_time(&[(0, 1), (600, 2), (1_200, 6), (1_800, 3)], 900),
            [(0, 2), (300, 6), (1_800, 3)]
        );
        assert_eq!(ahead_of_time(&[(0, 9), (600, 2), (1_200, 6)], 900), [(0, 9), (300, 6)]);
    }

    #[test]
    fn the_highest_of_an_hour_counts() {
        let ten = 1_698_232_200;
        let points = [(ten, 4), (ten + 600, 3), (ten + 1_200, 5)];
        assert_eq!(resampled(&points, 3_600), [(ten - 600, 5)]);
    }
}
