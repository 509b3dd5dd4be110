//! What the tool prints: medians with their spread, ratios held against their bounds, and all of it as JSON.

use std::io;

use corelog_measure::spread::Spread;
use serde_json::{Value, json};

/// One round of one contender: named values.
#[derive(Clone, Debug, Default)]
pub struct Sample(pub Vec<(&'static str, f64)>);

impl Sample {
    pub fn get(&self, column: &str) -> Option<f64> {
        self.0.iter().find(|(name, _)| *name == column).map(|(_, value)| *value)
    }
}

/// What one contender did in the rounds of one measurement.
#[derive(Clone, Debug)]
pub struct Row {
    pub who: String,
    pub samples: Vec<Sample>,
}

impl Row {
    pub fn column(&self, column: &str) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| sample.get(column)).collect()
    }

    /// None: no round has the column.
    pub fn spread(&self, column: &str) -> Option<Spread> {
        Spread::of(self.column(column))
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Within(f64, f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
            Bound::Within(low, high) => (low..=high).contains(&value),
        }
    }

    fn words(self) -> String {
        match self {
            Bound::AtLeast(bound) => format!("at least {bound}"),
            Bound::AtMost(bound) => format!("at most {bound}"),
            Bound::Within(low, high) => format!("{low} to {high}"),
        }
    }
}

struct Table {
    place: String,
    title: String,
    again: String,
    rows: Vec<Row>,
}

struct Judged {
    place: String,
    what: String,
    spread: Spread,
    rounds: usize,
    bound: Bound,
}

/// All that a run found, in order.
#[derive(Default)]
pub struct Report {
    pub commands: Vec<String>,
    tables: Vec<Table>,
    judged: Vec<Judged>,
    /// What could not be measured, and why.
    missing: Vec<String>,
    /// What to know before a figure is believed.
    notes: Vec<String>,
}

impl Report {
    pub fn miss(&mut self, what: String) {
        eprintln!("NOT MEASURED: {what}");
        self.missing.push(what);
    }

    pub fn note(&mut self, what: String) {
        println!("note: {what}");
        self.notes.push(what);
    }

    /// Adds a table, which the command `again` would measure alone, and prints it.
    pub fn table(&mut self, place: &str, title: String, again: String, rows: Vec<Row>) {
        let table = Table { place: place.to_owned(), title, again, rows };
        print!("{}", table.text());
        self.tables.push(table);
    }

    /// Adds a ratio, one value a round, against the bound on its median.
    pub fn judge(&mut self, place: &str, what: String, values: Vec<f64>, bound: Bound) {
        let rounds = values.len();
        let Some(spread) = Spread::of(values) else {
            return self.miss(format!("{place}: {what}: no round of both sides"));
        };
        let judged = Judged { place: place.to_owned(), what, rounds, spread, bound };
        println!("{}", judged.text());
        self.judged.push(judged);
    }

    /// Every measured value of a column must be at most this; for checks of counts, which noise does not move.
    pub fn check_most(&self, column: &str, most: f64) -> io::Result<()> {
        let mut seen = false;
        for (table, row) in
            self.tables.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)))
        {
            for value in row.column(column) {
                seen = true;
                if value > most {
                    let text = format!("{} {}: {column} is {value:.3}, above {most}", table.place, row.who);
                    return Err(io::Error::other(text));
                }
            }
        }
        if seen { Ok(()) } else { Err(io::Error::other(format!("{column} was not measured"))) }
    }

    pub fn print_summary(&self) {
        println!("\n== Ratios: median (lowest to highest) of the rounds");
        for judged in &self.judged {
            println!("{}", judged.text());
        }
        let passed = self.judged.iter().filter(|judged| judged.bound.holds(judged.spread.median)).count();
        println!("{passed} of {} pass", self.judged.len());
        for note in &self.notes {
            println!("note: {note}");
        }
        for missing in &self.missing {
            println!("not measured: {missing}");
        }
    }

    pub fn json(&self) -> Value {
        let spread =
            |spread: Spread| json!({"median": spread.median, "low": spread.low, "high": spread.high});
        let row = |row: &Row| {
            let names = row.samples.first().map_or(&[][..], |sample| &sample.0);
            let columns = names.iter().map(|(name, _)| {
                let values = row.column(name);
                let mut of = row.spread(name).map_or_else(|| json!({}), spread);
                of["rounds"] = json!(values);
                ((*name).to_owned(), of)
            });
            json!({"who": row.who, "columns": columns.collect::<serde_json::Map<String, Value>>()})
        };
        let table = |table: &Table| {
            json!({
                "place": table.place, "title": table.title, "command": table.again,
                "rows": table.rows.iter().map(row).collect::<Vec<_>>(),
            })
        };
        let judged = |judged: &Judged| {
            json!({
                "place": judged.place, "what": judged.what, "ratio": spread(judged.spread), "rounds": judged.rounds,
                "bound": judged.bound.words(), "met": judged.bound.holds(judged.spread.median),
            })
        };
        json!({
            "commands": self.commands,
            "tables": self.tables.iter().map(table).collect::<Vec<_>>(),
            "ratios": self.judged.iter().map(judged).collect::<Vec<_>>(),
            "notes": self.notes,
            "not_measured": self.missing,
        })
    }
}

impl Judged {
    fn text(&self) -> String {
        let Spread { low, median, high } = self.spread;
        let verdict = if self.bound.holds(median) { "pass" } else { "MISSED" };
        format!(
            "{:6} {}: {} ({} to {}); wanted {}: {verdict}",
            self.place,
            self.what,
            number(median),
            number(low),
            number(high),
            self.bound.words()
        )
    }
}

/// Three digits that count, without an exponent.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        large if large >= 1.0 || large == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Table {
    /// Medians, the first column with its spread.
    fn text(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            for (name, _) in row.samples.first().map_or(&[][..], |sample| &sample.0) {
                if !names.contains(name) {
                    names.push(name);
                }
            }
        }
        let mut lines = vec![vec![String::new()]];
        lines[0].extend(names.iter().map(|name| (*name).to_owned()));
        for row in &self.rows {
            let mut cells = vec![row.who.clone()];
            for (index, name) in names.iter().enumerate() {
                cells.push(match row.spread(name) {
                    None => "-".to_owned(),
                    Some(Spread { low, median, high }) if index == 0 => {
                        format!("{} ({} to {})", number(median), number(low), number(high))
                    }
                    Some(spread) => number(spread.median),
                });
            }
            lines.push(cells);
        }
        let width = |column: usize| lines.iter().map(|cells| cells[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=names.len()).map(width).collect();
        let mut text = format!("\n== {}: {}\n   {}\n", self.place, self.title, self.again);
        for cells in &lines {
            for (index, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                match index {
                    0 => text.push_str(&format!("{cell:width$}")),
                    _ => text.push_str(&format!("  {cell:>width$}")),
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_held_against_its_bound_by_the_median() {
        let check = |values: &[f64], bound, expected: bool| {
            let mut report = Report::default();
            report.judge("ext4", "a/b".to_owned(), values.to_vec(), bound);
            assert_eq!(report.json()["ratios"][0]["met"], json!(expected), "{values:?} {bound:?}");
        };
        check(&[1.0, 5.0, 9.0], Bound::AtLeast(5.0), true);
        check(&[1.0, 4.9, 9.0], Bound::AtLeast(5.0), false);
        check(&[0.01, 0.05, 9.0], Bound::AtMost(0.05), true);
        check(&[0.01, 0.06, 9.0], Bound::AtMost(0.05), false);
        check(&[0.5, 0.9, 9.0], Bound::Within(0.9, 1.1), true);
        check(&[0.5, 1.2, 9.0], Bound::Within(0.9, 1.1), false);
    }

    #[test]
    fn a_ratio_without_rounds_is_told_as_missing() {
        let mut report = Report::default();
        report.judge("xfs", "a/b".to_owned(), Vec::new(), Bound::AtLeast(1.0));
        assert_eq!(report.json()["ratios"], json!([]));
        assert_eq!(report.json()["not_measured"], json!(["xfs: a/b: no round of both sides"]));
    }
}
