//! The table on the terminal.

use corelog_measure::text::{count_text, three_digits, time_text};

use crate::broker::cpu_list;
use crate::outcome::{CPU, Cell, Contended, FLUSHES, KIB, MEMORY, RATE, Results};

/// Columns of one contender under one load; the page has the same.
pub const HEAD: [&str; 15] = [
    "load",
    "broker",
    "req/s",
    "±%",
    "MB/s",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "p99.99",
    "max",
    "CPU/req",
    "flush/req",
    "KiB/req",
    "RSS MiB",
];

/// Lines with columns as wide as they need to be; the first two to the left.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            if column > 0 {
                line += "  ";
            }
            line += &if column < 2 { format!("{cell}{pad}") } else { format!("{pad}{cell}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

pub fn figures(contended: &Contended) -> Vec<String> {
    let latency = contended.latency();
    let rate = contended.spread(RATE);
    let optional = |figure, text: fn(f64) -> String| {
        contended.spread(figure).map_or("-".to_owned(), |spread| text(spread.median))
    };
    vec![
        rate.map_or("-".to_owned(), |rate| count_text(rate.median)),
        rate.filter(|_| contended.rounds.len() > 1)
            .map_or("-".to_owned(), |rate| three_digits(rate.percent())),
        three_digits(contended.median(|round| round.megabytes_per_second)),
        time_text(latency.p50_us),
        time_text(latency.p90_us),
        time_text(latency.p99_us),
        time_text(latency.p999_us),
        time_text(latency.p9999_us),
        time_text(latency.max_us),
        optional(CPU, time_text),
        optional(FLUSHES, three_digits),
        optional(KIB, three_digits),
        optional(MEMORY, three_digits),
    ]
}

/// What a load is called in tables: its name, or its number.
pub fn name(results: &Results, cell: &Cell) -> String {
    let number = results.cells.iter().position(|other| std::ptr::eq(other, cell)).unwrap_or(0) + 1;
    let durability = cell.workload.durability.name();
    match cell.title.as_str() {
        "" => format!("{number}"),
        title if title.len() == 1 && cell.workload.is_writing() => format!("{title} {durability}"),
        title => title.to_owned(),
    }
}

pub fn text(results: &Results) -> String {
    let mut out = String::new();
    let env = &results.environment;
    out += &format!(
        "corelog bench {}, kernel {}, {} CPUs ({}), {}\ngenerator on CPU {} ({}), broker on CPU {}{}\n\n",
        env.version,
        env.kernel,
        env.cpus,
        env.cpu_model,
        env.when,
        cpu_list(&env.generator_cpus),
        if env.spins { "spins" } else { "sleeps" },
        cpu_list(&env.broker_cpus),
        match (&env.file_system, &env.disk) {
            (Some(system), Some(disk)) => format!(", data on {system}, {disk}"),
            _ => String::new(),
        }
    );
    for cell in &results.cells {
        out += &format!("{}: {}\n", name(results, cell), cell.workload.text());
    }
    out.push('\n');
    let mut rows = vec![HEAD.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    for cell in &results.cells {
        for contended in &cell.contenders {
            let mut row = vec![name(results, cell), contended.name.clone()];
            match &contended.failed {
                Some(why) if contended.rounds.is_empty() => {
                    row.push(format!("not measured: {}", first_line(why)))
                }
                _ => row.extend(figures(contended)),
            }
            rows.push(row);
        }
    }
    // A sentence in the third column must not make it wide for all.
    let (rows, sentences): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.len() != 3);
    out += &aligned(&rows);
    for sentence in sentences {
        out += &format!("{}\n", sentence.join("  "));
    }
    out += &ratios(results);
    out += &stages(results);
    out += &checks(results);
    for note in &env.notes {
        out += &format!("note: {note}\n");
    }
    out
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn ratios(results: &Results) -> String {
    let mut rows = vec![vec!["load".to_owned(), "ratio".to_owned()]];
    for cell in &results.cells {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for ratio in &cell.ratios {
            if pairs.last() != Some(&(&ratio.of, &ratio.to)) {
                pairs.push((&ratio.of, &ratio.to));
            }
        }
        for (of, to) in pairs {
            let mut row = vec![name(results, cell), format!("{of}/{to}")];
            for ratio in cell.ratios.iter().filter(|ratio| (&*ratio.of, &*ratio.to) == (of, to)) {
                row.push(format!(
                    "{} {} ({} to {})",
                    ratio.figure,
                    three_digits(ratio.median),
                    three_digits(ratio.low),
                    three_digits(ratio.high)
                ));
            }
            rows.push(row);
        }
    }
    if rows.len() == 1 { String::new() } else { format!("\n{}", aligned(&rows)) }
}

/// Where the broker says that the time went, one line a load.
fn stages(results: &Results) -> String {
    let mut rows = Vec::new();
    for cell in &results.cells {
        for contended in &cell.contenders {
            let mut classes: Vec<(&str, &str)> = Vec::new();
            for stage in contended.stages.iter().filter(|stage| stage.count > 0) {
                if classes.last() != Some(&(&stage.api, &stage.class)) {
                    classes.push((&stage.api, &stage.class));
                }
            }
            for (api, class) in classes {
                let of_it =
                    contended.stages.iter().filter(|stage| (&*stage.api, &*stage.class) == (api, class));
                let said: Vec<String> = of_it
                    .map(|stage| {
                        format!("{} {}/{}", stage.stage, time_text(stage.p50_us), time_text(stage.p99_us))
                    })
                    .collect();
                rows.push(format!("{} {api} ({class}): {}", name(results, cell), said.join(", ")));
            }
        }
    }
    match rows.is_empty() {
        true => String::new(),
        false => {
            format!("\nthe broker's own times by stage in its last 10 s, p50/p99:\n{}\n", rows.join("\n"))
        }
    }
}

/// What was wrong, or how much was looked at.
fn checks(results: &Results) -> String {
    let (mut records, mut bytes) = (0, 0);
    let mut wrongs = String::new();
    for cell in &results.cells {
        for contended in &cell.contenders {
            let wrong = contended.wrong();
            records += wrong.records;
            bytes += wrong.bytes;
            if wrong.wrong_count > 0 {
                let who = format!("{} {}", name(results, cell), contended.name);
                wrongs += &format!(
                    "WRONG: {who}: {} times, first: {}\n",
                    wrong.wrong_count,
                    wrong.wrong.join("; ")
                );
            }
            if let Some(why) = &contended.failed {
                wrongs += &format!("FAILED: {} {}: {why}\n", name(results, cell), contended.name);
            }
            if contended.rounds.iter().any(|round| round.ended_early) {
                let who = &contended.name;
                wrongs += &format!(
                    "note: {} {who}: ended early: a third of the disk's free space was written\n",
                    name(results, cell)
                );
            }
            let late = contended.rounds.iter().filter_map(|round| round.late_p99_us).fold(0.0, f64::max);
            if late > 1000.0 {
                let who = &contended.name;
                let late = time_text(late);
                wrongs += &format!(
                    "note: {} {who}: the generator itself was late by {late} at p99\n",
                    name(results, cell)
                );
            }
        }
    }
    let looked = match records {
        0 => String::new(),
        records => format!(
            "read back and checked: {} records, {} MB\n",
            count_text(records as f64),
            three_digits(bytes as f64 / 1e6)
        ),
    };
    format!("\n{looked}{wrongs}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = aligned(&[row(["a", "bb", "µ"]), row(["aaa", "b", "100"])]);
        assert_eq!(text, "a    bb    µ\naaa  b   100\n");
    }
}
