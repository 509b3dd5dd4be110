//! The search for the highest rate that a broker keeps up with.

use crate::outcome::Round;

/// Answers come as fast as requests are due, and not too late. A few may be under way at the end of the window.
pub fn keeps_up(round: &Round, p99_most_us: f64) -> bool {
    let due = round.offered.unwrap_or(f64::INFINITY) * round.seconds;
    round.answers as f64 >= 0.97 * due - 2.0 && round.unanswered == 0 && round.latency.p99_us <= p99_most_us
}

/// Rates that double until one is not kept up with, then halves of the step in which that was.
pub struct Search {
    next: f64,
    /// The highest rate that was kept up with.
    pub kept: Option<f64>,
    failed: Option<f64>,
    halvings: u32,
}

/// 2^(1/8) is 9 %: closer than rounds repeat.
const HALVINGS: u32 = 3;
/// No host is that fast.
const RATE_MOST: f64 = 1e8;

impl Search {
    pub fn from(rate: f64) -> Search {
        Search { next: rate, kept: None, failed: None, halvings: 0 }
    }

    /// The rate to try next; none when the search is over.
    pub fn next(&self) -> Option<f64> {
        let is_over = match (self.kept, self.failed) {
            (None, Some(_)) => true,
            (Some(_), Some(_)) => self.halvings > HALVINGS,
            (Some(kept), None) => kept >= RATE_MOST,
            (None, None) => false,
        };
        (!is_over).then_some(self.next)
    }

    pub fn saw(&mut self, rate: f64, is_kept: bool) {
        if is_kept {
            self.kept = Some(rate);
        } else {
            self.failed = Some(rate);
        }
        self.next = match (self.kept, self.failed) {
            (Some(kept), Some(failed)) => {
                self.halvings += 1;
                (kept * failed).sqrt().round()
            }
            _ => rate * 2.0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Percentiles;

    #[test]
    fn a_search_ends_near_the_knee() {
        for knee in [1_000.0, 5_000.0, 77_777.0, 1_500_000.0] {
            let mut search = Search::from(1000.0);
            let mut steps = 0;
            while let Some(rate) = search.next() {
                search.saw(rate, rate <= knee);
                steps += 1;
                assert!(steps < 40);
            }
            let found = search.kept.unwrap();
            assert!(found <= knee && found > knee * 0.91, "{found} for {knee}");
        }
        let mut search = Search::from(1000.0);
        search.saw(1000.0, false);
        assert_eq!((search.next(), search.kept), (None, None));
    }

    #[test]
    fn a_rate_is_kept_if_answers_come_and_come_in_time() {
        let check = |answers, p99_us, unanswered, expected| {
            let latency = Percentiles { p99_us, ..Default::default() };
            let offered = Some(1000.0);
            let round = Round { seconds: 2.0, offered, answers, latency, unanswered, ..Round::default() };
            assert_eq!(keeps_up(&round, 100.0), expected, "{round:?}");
        };
        check(2000, 99.0, 0, true);
        check(1940, 99.0, 0, true);
        check(1930, 99.0, 0, false);
        check(2000, 101.0, 0, false);
        check(2000, 99.0, 1, false);
    }
}
