//! A line that bends but never falls: what use really was where another line says so much.
//!
//! Owns the bends, which are means of tenths of what was seen, pooled where they would fall.

/// Points of the line at most.
const SLICES: usize = 10;
/// Fewest values behind a point.
const LEAST: usize = 20;

#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// In the order of both numbers.
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// Through pairs of what a line said and what came; none where there are too few.
    pub(super) fn through(mut pairs: Vec<(f64, f64)>) -> Option<Self> {
        pairs.sort_by(|one, two| one.0.total_cmp(&two.0).then(one.1.total_cmp(&two.1)));
        let size = pairs.len().div_ceil(SLICES).max(LEAST);
        let mut pooled: Vec<(f64, f64, f64)> = Vec::new();
        for slice in pairs.chunks(size).filter(|slice| slice.len() >= LEAST) {
            let count = slice.len() as f64;
            let mean = |of: fn(&(f64, f64)) -> f64| slice.iter().map(of).sum::<f64>() / count;
            pooled.push((mean(|pair| pair.0), mean(|pair| pair.1), count));
            // A point under the one before it is pooled with it, and so on backwards.
            while let [.., before, last] = pooled[..] {
                if last.1 > before.1 && last.0 > before.0 {
                    break;
                }
                let count = before.2 + last.2;
                let mean = |one: f64, two: f64| (one * before.2 + two * last.2) / count;
                pooled.truncate(pooled.len() - 2);
                pooled.push((mean(before.0, last.0), mean(before.1, last.1), count));
            }
        }
        let points: Vec<(f64, f64)> = pooled.into_iter().map(|(said, came, _)| (said, came)).collect();
        (points.len() >= 3).then_some(Self { points })
    }

    pub(super) fn at(&self, said: f64) -> f64 {
        let above = self.points.partition_point(|(point, _)| *point < said);
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return said };
        if above == 0 {
            // Down to nothing, or alongside the line where the first point lies at nothing.
            return if first.0 > 0.0 { first.1 * (said / first.0).max(0.0) } else { first.1 };
        }
        if above == self.points.len() {
            // Nothing was seen there: as steep as the line itself, or as the last bend where that is steeper.
            let before = self.points[self.points.len() - 2];
            let slope = ((last.1 - before.1) / (last.0 - before.0)).max(1.0);
            return last.1 + slope * (said - last.0);
        }
        let (below, next) = (self.points[above - 1], self.points[above]);
        below.1 + (next.1 - below.1) * (said - below.0) / (next.0 - below.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_a_bend_and_never_falls() {
        let pairs: Vec<(f64, f64)> = (0..1_000)
            .map(|at| f64::from(at) / 1_000.0)
            .map(|x| (x, x * x + 0.1 * (x * 300.0).sin()))
            .collect();
        let curve = Curve::through(pairs).unwrap();
        assert!((curve.at(0.7) - 0.49).abs() < 0.06, "{}", curve.at(0.7));
        let values: Vec<f64> = (0..200).map(|at| curve.at(f64::from(at) / 100.0)).collect();
        assert!(values.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
        assert!(curve.at(2.0) >= curve.at(1.0) + 1.0);
        assert!(Curve::through(vec![(1.0, 1.0); 30]).is_none());
    }
}
