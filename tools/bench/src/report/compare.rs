//! Ratios to an earlier run of the same loads.

use corelog_measure::text::three_digits;

use crate::outcome::{CPU, FLUSHES, P50, P99, P999, RATE, Results};

use super::table::{aligned, name};

/// New over old, medians of the rounds; loads and brokers that both runs have.
pub fn text(new: &Results, old: &Results) -> String {
    let mut rows = vec![vec!["load".to_owned(), "new/old".to_owned()]];
    rows[0].extend([RATE, P50, P99, P999, CPU, FLUSHES].map(|figure| figure.name.to_owned()));
    for cell in &new.cells {
        let same = |other: &&crate::outcome::Cell| other.workload == cell.workload;
        let Some(before) = old.cells.iter().find(same) else { continue };
        for now in &cell.contenders {
            let Some(then) = before.contenders.iter().find(|then| then.name == now.name) else { continue };
            let mut row = vec![name(new, cell), now.name.clone()];
            for figure in [RATE, P50, P99, P999, CPU, FLUSHES] {
                let pair = now.spread(figure).zip(then.spread(figure));
                let ratio =
                    pair.map(|(now, then)| now.median / then.median).filter(|ratio| ratio.is_finite());
                row.push(ratio.map_or("-".to_owned(), three_digits));
            }
            rows.push(row);
        }
    }
    match rows.len() {
        1 => "\nthe earlier run has none of these loads\n".to_owned(),
        _ => format!("\nagainst the run of {}:\n{}", old.environment.when, aligned(&rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Cell, Contended, Round};
    use crate::workload::Workload;

    #[test]
    fn loads_are_found_again_by_what_they_are() {
        let results = |rate: f64, partitions: i32| {
            let round = Round { per_second: rate, ..Round::default() };
            let contended =
                Contended { name: "corelog".to_owned(), rounds: vec![round], ..Contended::default() };
            let workload = Workload { partitions, ..Workload::default() };
            let cell = Cell::new("C".to_owned(), workload, vec![contended], None);
            Results { cells: vec![cell], ..Results::default() }
        };
        assert!(text(&results(300.0, 4), &results(200.0, 4)).contains("1.50"));
        assert!(text(&results(300.0, 4), &results(200.0, 8)).contains("none of these"));
    }
}
