//! The figures on a terminal.

use crate::figures::{Figures, Measured};
use crate::plan::{Cell, KEY_STRATEGIES, Load};
use crate::recommend::UNKNOWABLE;
use crate::strategy::Strategy;
use crate::text::{bytes_text, count_text, three_digits, time_text};

use super::Report;

/// More rows than that go to JSON and HTML only.
const ROWS_MAX: usize = 150;

/// The whole report; `is_terminal` allows bold type.
pub fn text(report: &Report, is_terminal: bool) -> String {
    let bold = |text: &str| if is_terminal { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
    let mut out = String::new();
    let all: Vec<&Measured> = report.results.cells.iter().collect();
    let is_key = |cell: &Cell| KEY_STRATEGIES.contains(&cell.strategy);
    let is_base = |cell: &Cell| *cell == Cell::closed(cell.strategy, 1, 4096, 1);
    let shown: Vec<&Measured> = if all.len() <= ROWS_MAX {
        all.clone()
    } else {
        all.iter().copied().filter(|measured| is_base(&measured.cell) || is_key(&measured.cell)).collect()
    };
    let mut rest = shown;
    type Section = (&'static str, fn(&Cell) -> bool);
    let sections: [Section; 4] = [
        ("Every strategy: one file, 4 KiB, one commit in flight", |cell| {
            *cell == Cell::closed(cell.strategy, 1, 4096, 1)
        }),
        ("By group size: one file, one commit in flight", |cell| {
            cell.load == Load::Closed && cell.files == 1 && cell.depth == 1
        }),
        ("By files and commits in flight", |cell| cell.load == Load::Closed),
        ("Open loop: commits started by the clock, latency from when each was due", |_| true),
    ];
    for (title, belongs) in sections {
        let (in_section, after): (Vec<&Measured>, Vec<&Measured>) =
            rest.into_iter().partition(|measured| belongs(&measured.cell));
        rest = after;
        let rows: Vec<(Cell, &Figures)> = in_section
            .iter()
            .filter_map(|measured| Some((measured.cell, measured.outcome.as_ref().ok()?)))
            .collect();
        if !rows.is_empty() {
            out += &format!("\n{}\n{}", bold(title), section(rows));
        }
    }
    if all.len() > ROWS_MAX {
        out += "\nOther cells: see --json and --html.\n";
    }
    out += &skipped(report);
    out += &format!("\n{}\n{}", bold("Flush"), flush(report));
    if let Some(warning) = report.crowd_text() {
        out += &format!("\n{}\n{warning}\n", bold("Busy host"));
    }
    if !report.fio.is_empty() {
        out += &format!("\n{}\n", bold("fio: p50 of write + fdatasync, 4 KiB, same file, in turns"));
    }
    for fio in &report.fio {
        out += &format!(
            "{}: here {} + {}, fio {} + {}: {:+.1} %\n",
            fio.cache.name(),
            time_text(fio.ours.write_p50_us),
            time_text(fio.ours.sync_p50_us),
            time_text(fio.theirs.write_p50_us),
            time_text(fio.theirs.sync_p50_us),
            fio.difference_percent(),
        );
    }
    if let Some(recommendation) = &report.recommendation {
        out += &format!("\n{}\n{}\n", bold("Recommendation"), recommendation.sentences.join(" "));
    } else if report.plan.name != "chosen" {
        out += &format!("\n{}\nNone: too little could be measured here.\n", bold("Recommendation"));
    }
    out += &format!("\n{}\n", bold("What this cannot know"));
    for line in UNKNOWABLE {
        out += &format!("- {line}\n");
    }
    out +=
        &format!("\n{:.0} s, {}, kernel {}\n", report.seconds, report.host.when_text(), report.host.kernel);
    out
}

const HEAD: [&str; 14] = [
    "strategy",
    "group",
    "files",
    "depth",
    "commits/s",
    "±%",
    "MB/s",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "max",
    "W·F·KiB",
    "CPU µs",
];

fn section(mut rows: Vec<(Cell, &Figures)>) -> String {
    rows.sort_by_key(|(cell, _)| (cell.strategy, cell.files, cell.depth, cell.group_bytes, cell.load));
    let mut table: Vec<Vec<String>> = vec![HEAD.iter().map(|head| (*head).to_owned()).collect()];
    table.extend(rows.iter().map(|(cell, figures)| row(*cell, figures)));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in &table {
        for (column, (text, width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                out += &format!("{text:<width$}");
            } else {
                out += &format!("  {text:>width$}");
            }
        }
        out += "\n";
    }
    out
}

fn row(cell: Cell, figures: &Figures) -> Vec<String> {
    let latency = figures.latency_us;
    let device = figures.device.map_or_else(
        || "?".to_owned(),
        |device| format!("{:.2}·{:.2}·{}", device.writes, device.flushes, three_digits(device.kib)),
    );
    let rate = match (figures.offered, figures.is_saturated) {
        (Some(offered), true) => format!("{} too much", count_text(offered)),
        (Some(offered), false) => format!("{} due", count_text(offered)),
        (None, _) => count_text(figures.commits_per_second.median),
    };
    let name = match cell.strategy {
        Strategy::Journal => "journal".to_owned(),
        strategy => strategy.to_string(),
    };
    vec![
        name,
        bytes_text(cell.group_bytes),
        cell.files.to_string(),
        cell.depth.to_string(),
        rate,
        format!("{:.0}", figures.commits_per_second.percent()),
        three_digits(figures.megabytes_per_second),
        time_text(latency.p50),
        time_text(latency.p90),
        time_text(latency.p99),
        time_text(latency.p999),
        time_text(latency.max),
        device,
        three_digits(figures.cpu_us),
    ]
}

fn skipped(report: &Report) -> String {
    let mut out = String::new();
    for (reason, cells) in report.results.skipped() {
        let strategies: std::collections::BTreeSet<String> =
            cells.iter().map(|cell| cell.strategy.to_string()).collect();
        let named: Vec<String> = strategies.iter().take(4).cloned().collect();
        let more = if strategies.len() > named.len() { ", ..." } else { "" };
        out += &format!("skipped {} cells ({}{more}): {reason}\n", cells.len(), named.join(", "));
    }
    if let Err(error) = &report.host.devices {
        out += &format!("no writes, flushes and KiB per commit (W·F·KiB): {error}\n");
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

fn flush(report: &Report) -> String {
    let times: Vec<String> = report
        .flush_times
        .iter()
        .map(|time| {
            format!("{} after {}", time_text(time.flush_us.median), bytes_text(time.overwritten_bytes))
        })
        .collect();
    if times.is_empty() {
        return format!("{}\n", report.verdict);
    }
    format!("{}: {}\n", report.verdict, times.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_measured_cell_has_a_row_and_what_was_skipped_a_reason() {
        let report = sample::report(true);
        let table = text(&report, false);
        let rows = table.lines().filter(|line| line.contains("2.00·1.00·4.00")).count();
        assert_eq!(rows, report.plan.cells.len());
        assert!(!table.contains('\x1b') && table.contains("Busy host"));
        let table = text(&sample::report(false), true);
        assert!(table.contains("): no <O_DIRECT> & no journal"), "{table}");
        assert!(table.contains("\x1b[1mRecommendation"));
        assert!(table.contains("no writes, flushes and KiB per commit (W·F·KiB): device 0:42"));
        assert!(table.contains("log.write.path = page-cache"));
    }

    #[test]
    fn columns_line_up() {
        let table = text(&sample::report(true), false);
        let first: Vec<&str> = table.lines().skip(2).take_while(|line| !line.is_empty()).collect();
        let widths: std::collections::BTreeSet<usize> =
            first.iter().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 1, "{first:#?}");
    }
}
