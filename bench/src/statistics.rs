//! Statistics: medians, ratios pair by pair, and the part of a difference that is noise.

/// The middle of some values, with the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median; the mean of the two middle values where their number is even.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// Returns the spread of `values`; None where there are none. Values that are no numbers are left out.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 {
        sorted.get(middle).copied()?
    } else {
        f64::midpoint(sorted.get(middle - 1).copied()?, sorted.get(middle).copied()?)
    };
    Some(Spread { median, min, max })
}

/// Returns the ratios of two measurements taken in turn, pair by pair: drift of the machine hits both of a pair.
pub fn pair_ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter()
        .zip(to)
        .filter(|(_, divisor)| **divisor > 0.0)
        .map(|(dividend, divisor)| dividend / divisor)
        .collect()
}

/// Returns Jain's fairness index (Jain, Chiu, Hawe 1984): 1 where all shares are equal, 1/n where one has
/// everything.
pub fn fairness(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

/// The meaning of a ratio, once the noise is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every pair lies on the higher side of the noise.
    Higher,
    /// Every pair lies on the lower side of the noise.
    Lower,
    /// Inside the noise or the own spread: no difference.
    None,
}

impl Verdict {
    /// Judges a ratio's spread against `noise`, the spread of a ratio of something to itself.
    pub fn of(ratio: Spread, noise: Spread) -> Verdict {
        if ratio.min > noise.max.max(1.0) {
            Verdict::Higher
        } else if ratio.max < noise.min.min(1.0) {
            Verdict::Lower
        } else {
            Verdict::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Spread, Verdict, fairness, pair_ratios, spread};

    #[test]
    fn medians_of_known_sets() {
        // NIST's Michelson data has the median 299.85 (in thousands of km/s); its first ten values:
        let michelson = [299.85, 299.74, 299.90, 300.07, 299.93, 299.85, 299.95, 299.98, 299.98, 299.88];
        let found = spread(&michelson).unwrap();
        assert!((found.median - 299.915).abs() < 1e-9, "{found:?}");
        assert_eq!((found.min, found.max), (299.74, 300.07));
        assert_eq!(spread(&[3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(spread(&[5.0]).unwrap(), Spread { median: 5.0, min: 5.0, max: 5.0 });
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[f64::NAN, 1.0]).unwrap().median, 1.0);
    }

    #[test]
    fn drift_cancels_out_in_pairs() {
        // The machine gets twice as fast from pair to pair; the ratio stays.
        assert_eq!(pair_ratios(&[2.0, 4.0, 8.0], &[1.0, 2.0, 4.0]), [2.0, 2.0, 2.0]);
        assert_eq!(pair_ratios(&[1.0, 1.0], &[0.0, 2.0]), [0.5]);
    }

    #[test]
    fn fairness_of_known_shares() {
        assert_eq!(fairness(&[1.0, 1.0, 1.0, 1.0]), Some(1.0));
        assert_eq!(fairness(&[1.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!(fairness(&[]), None);
        assert_eq!(fairness(&[0.0]), None);
    }

    #[test]
    fn differences_inside_the_noise_are_none() {
        let noise = Spread { median: 1.0, min: 0.97, max: 1.03 };
        let of = |min, max| Spread { median: f64::midpoint(min, max), min, max };
        assert_eq!(Verdict::of(of(1.04, 1.10), noise), Verdict::Higher);
        assert_eq!(Verdict::of(of(0.80, 0.90), noise), Verdict::Lower);
        assert_eq!(Verdict::of(of(1.01, 1.10), noise), Verdict::None);
        assert_eq!(Verdict::of(of(0.95, 0.99), noise), Verdict::None);
    }
}
