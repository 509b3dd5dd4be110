//! Repetitions of a figure taken together.

/// A figure over the repetitions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// None: of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Spread { median, low, high })
    }

    /// Half the distance between the lowest and the highest run, in percent of the median.
    pub fn percent(self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.high - self.low) / 2.0 / self.median * 100.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread_are_over_the_runs() {
        let check = |values: &[f64], expected: Option<(f64, f64, f64, f64)>| {
            let found = Spread::of(values.iter().copied());
            let found = found.map(|spread| (spread.median, spread.low, spread.high, spread.percent()));
            assert_eq!(found, expected);
        };
        check(&[], None);
        check(&[5.0], Some((5.0, 5.0, 5.0, 0.0)));
        check(&[30.0, 10.0, 20.0], Some((20.0, 10.0, 30.0, 50.0)));
        check(&[4.0, 1.0, 3.0, 2.0], Some((2.5, 1.0, 4.0, 60.0)));
    }
}
