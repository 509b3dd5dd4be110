//! One page that needs no network: the table, ratios, latency by percentile, latency against throughput, heat maps over a
//! sweep, and how to measure it again.

use std::collections::BTreeMap;

use corelog_measure::page::{self, Frame, Heat, escape, legend, page, tabs, void_cell};
use corelog_measure::plot::{Plot, Point, Series, Unit};
use corelog_measure::spread::Spread;
use corelog_measure::text::{count_text, three_digits, time_text};
use serde_json::Value;

use crate::broker::cpu_list;
use crate::outcome::{CPU, Cell, Contended, FLUSHES, Figure, KIB, P50, P99, P999, RATE, Ratio, Results};

use super::table::{HEAD, figures, name};

/// More plots of single loads than this say less than the heat maps.
const PLOTS_MOST: usize = 32;

/// Colours of the page's palette.
const COLOURS: usize = 6;

pub fn text(results: &Results) -> String {
    let body = [
        header(results),
        table(results),
        ratios(results),
        heat_maps(results),
        throughput(results),
        percentiles(results),
        stages(results),
        again(results),
    ];
    page("corelog bench", &body.concat())
}

fn header(results: &Results) -> String {
    let env = &results.environment;
    let idle = if env.spins { "spins" } else { "sleeps" };
    let mut facts = vec![
        ("host", format!("{} CPUs, {}", env.cpus, env.cpu_model)),
        ("kernel", env.kernel.clone()),
        ("generator", format!("CPU {}, {idle} while it waits", cpu_list(&env.generator_cpus))),
        ("broker", format!("CPU {}", cpu_list(&env.broker_cpus))),
        ("measured", format!("{}, version {}", env.when, env.version)),
    ];
    if let (Some(system), Some(disk)) = (&env.file_system, &env.disk) {
        facts.insert(2, ("data", format!("{system}, {disk}")));
    }
    page::header("corelog bench", "Load and latency", &facts)
}

fn row(cells: impl IntoIterator<Item = String>, tag: &str) -> String {
    let cells: String = cells.into_iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(&cell))).collect();
    format!("<tr>{cells}</tr>\n")
}

fn table(results: &Results) -> String {
    let mut body = String::new();
    for cell in &results.cells {
        for contended in &cell.contenders {
            let first = [name(results, cell), contended.name.clone()];
            match &contended.failed {
                Some(why) if contended.rounds.is_empty() => {
                    body += &format!(
                        "<tr><td>{}</td><td>{}</td><td colspan=\"{}\">{}</td></tr>\n",
                        escape(&first[0]),
                        escape(&first[1]),
                        HEAD.len() - first.len(),
                        escape(why)
                    );
                }
                _ => body += &row(first.into_iter().chain(figures(contended)), "td"),
            }
        }
    }
    let loads: String = results
        .cells
        .iter()
        .filter(|cell| cell.ramp.is_none())
        .map(|cell| {
            format!("<li><b>{}</b>: {}</li>\n", escape(&name(results, cell)), escape(&cell.workload.text()))
        })
        .collect();
    let notes: String =
        results.environment.notes.iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
    let wrong: String = results
        .cells
        .iter()
        .flat_map(|cell| cell.contenders.iter().map(move |contended| (cell, contended)))
        .filter(|(_, contended)| contended.wrong().wrong_count > 0)
        .map(|(cell, contended)| {
            let wrong = contended.wrong();
            let text = format!("{} {}: {}", name(results, cell), contended.name, wrong.wrong.join("; "));
            format!("<p class=\"warning\">Wrong {} times: {}</p>\n", wrong.wrong_count, escape(&text))
        })
        .collect();
    format!(
        "<section class=\"card lead\">\n<h2>Figures</h2>\n{wrong}<p>Medians of the rounds; ± is half the way from the lowest to the highest. \
         Latency of an open loop counts from when a request was due.</p>\n<div class=\"scroll\"><table class=\"all\"><thead>{}</thead><tbody>\n{body}</tbody></table></div>\n\
         <ul>\n{notes}</ul>\n<details><summary>Loads</summary>\n<ul>\n{loads}</ul>\n</details>\n</section>\n",
        row(HEAD.map(str::to_owned), "th")
    )
}

fn ratios(results: &Results) -> String {
    let shown = [RATE, P50, P99, P999, CPU, FLUSHES];
    let mut body = String::new();
    for cell in &results.cells {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for ratio in &cell.ratios {
            if !pairs.contains(&(&ratio.of, &ratio.to)) {
                pairs.push((&ratio.of, &ratio.to));
            }
        }
        for (of, to) in pairs {
            let text = |figure: Figure| {
                let is_it =
                    |ratio: &&Ratio| (&*ratio.of, &*ratio.to, &*ratio.figure) == (of, to, figure.name);
                let found = cell.ratios.iter().find(is_it);
                found.map_or("-".to_owned(), |ratio| {
                    let [median, low, high] = [ratio.median, ratio.low, ratio.high].map(three_digits);
                    format!("{median} ({low} to {high})")
                })
            };
            body +=
                &row([name(results, cell), format!("{of} / {to}")].into_iter().chain(shown.map(text)), "td");
        }
    }
    if body.is_empty() {
        return body;
    }
    let head = ["load", "brokers"].into_iter().chain(shown.map(|figure| figure.name)).map(str::to_owned);
    format!(
        "<section>\n<h2>Ratios</h2>\n<p>Round by round, each after the other's: median, lowest and highest.</p>\n<div class=\"scroll\"><table class=\"all\">\
         <thead>{}</thead><tbody>\n{body}</tbody></table></div>\n</section>\n",
        row(head, "th")
    )
}

/// The colour of a contender, the same in all plots.
fn colour(results: &Results, who: &str) -> usize {
    let mut names: Vec<&str> = Vec::new();
    for contended in results.cells.iter().flat_map(|cell| &cell.contenders) {
        if !names.contains(&contended.name.as_str()) {
            names.push(&contended.name);
        }
    }
    names.iter().position(|name| *name == who).unwrap_or(0) % COLOURS
}

fn percentiles(results: &Results) -> String {
    let cells: Vec<&Cell> = results.cells.iter().filter(|cell| cell.ramp.is_none()).collect();
    let mut plots = String::new();
    let mut key = Vec::new();
    for cell in cells.iter().take(PLOTS_MOST) {
        let series: Vec<Series> =
            cell.contenders.iter().filter_map(|contended| curve(results, contended)).collect();
        for one in &series {
            if !key.iter().any(|known: &Series| known.name == one.name) {
                key.push(one.clone());
            }
        }
        let title = format!("{}: {}", name(results, cell), cell.workload.text());
        let plot = Plot {
            title: &title,
            x_name: "percentile",
            x_unit: Unit::OneIn,
            y_unit: Unit::Microseconds,
            series,
            mark: None,
        };
        plots += &plot.figure();
    }
    if key.is_empty() {
        return String::new();
    }
    let more = match cells.len() {
        count if count > PLOTS_MOST => format!("<p>The first {PLOTS_MOST} of {count} loads.</p>\n"),
        _ => String::new(),
    };
    format!(
        "<section>\n<h2>Latency by percentile</h2>\n<p>Medians of the rounds, bars from the lowest to the highest round.</p>\n{more}{}\
         <div class=\"plots\">\n{plots}</div>\n</section>\n",
        legend(&key)
    )
}

/// The points that every round has.
fn curve(results: &Results, contended: &Contended) -> Option<Series> {
    let count = contended.rounds.iter().map(|round| round.curve.len()).min()?;
    let point = |index: usize| {
        let values = Spread::of(contended.rounds.iter().map(|round| round.curve[index].1))?;
        let x = contended.rounds[0].curve[index].0;
        Some(Point { x, y: values.median, low: values.low, high: values.high })
    };
    let points: Vec<Point> = (0..count).filter_map(point).collect();
    let colour = colour(results, &contended.name);
    (!points.is_empty()).then(|| Series { name: contended.name.clone(), colour, points })
}

/// Loads that differ in how much is asked only: along a ramp, or an axis of connections, in-flight or rate.
fn throughput(results: &Results) -> String {
    /// What is alike, and who answered.
    type Line<'a> = (&'a (String, String), &'a Vec<(&'a Cell, &'a Contended)>);
    let mut lines = BTreeMap::<(String, String), Vec<(&Cell, &Contended)>>::new();
    for cell in &results.cells {
        let mut workload = cell.workload.clone();
        (workload.connections, workload.in_flight, workload.rate) = (0, 0, None);
        let ramp = cell.ramp.map_or(String::new(), |ramp| ramp.to_string());
        let like = serde_json::to_string(&workload).unwrap_or_default() + &ramp;
        for contended in cell.contenders.iter().filter(|contended| !contended.rounds.is_empty()) {
            lines.entry((like.clone(), contended.name.clone())).or_default().push((cell, contended));
        }
    }
    lines.retain(|_, cells| cells.len() > 2);
    if lines.is_empty() {
        return String::new();
    }
    let series = |figure: Figure| -> Vec<Series> {
        let line = |(number, ((_, who), cells)): (usize, Line)| {
            let point = |(_, contended): &(&Cell, &Contended)| {
                let (rate, spread) = (contended.spread(RATE)?, contended.spread(figure)?);
                Some(Point { x: rate.median, y: spread.median, low: spread.low, high: spread.high })
            };
            let workload = &cells[0].0.workload;
            let what = format!(
                "{who}: {}, {}, {} partitions, {} records",
                workload.durability.name(),
                workload.write_path.name(),
                workload.partitions,
                workload.records
            );
            Series { name: what, colour: number % COLOURS, points: cells.iter().filter_map(point).collect() }
        };
        lines.iter().enumerate().map(line).collect()
    };
    let plot = |title, series| {
        Plot {
            title,
            x_name: "requests a second, answered",
            x_unit: Unit::Count,
            y_unit: Unit::Microseconds,
            series,
            mark: None,
        }
        .figure()
    };
    format!(
        "<section>\n<h2>Latency against throughput</h2>\n{}<div class=\"plots\">\n{}{}</div>\n</section>\n",
        legend(&series(P99)),
        plot("Median", series(P50)),
        plot("99th percentile", series(P99))
    )
}

struct Metric {
    name: &'static str,
    of: Figure,
    text: fn(f64) -> String,
    is_more_better: bool,
}

const METRICS: [Metric; 5] = [
    Metric { name: "p50", of: P50, text: time_text, is_more_better: false },
    Metric { name: "p99", of: P99, text: time_text, is_more_better: false },
    Metric { name: "p99.9", of: P999, text: time_text, is_more_better: false },
    Metric { name: "requests/s", of: RATE, text: count_text, is_more_better: true },
    Metric { name: "flushes/request", of: FLUSHES, text: three_digits, is_more_better: false },
];

/// The options in which loads differ, with the values that they take, in the order met.
fn axes(cells: &[&Cell]) -> Vec<(String, Vec<Value>)> {
    let mut axes: Vec<(String, Vec<Value>)> = Vec::new();
    for cell in cells {
        let workload = serde_json::to_value(&cell.workload).unwrap_or_default();
        for (key, value) in workload.as_object().into_iter().flatten() {
            match axes.iter_mut().find(|(name, _)| name == key) {
                Some((_, values)) if values.contains(value) => {}
                Some((_, values)) => values.push(value.clone()),
                None => axes.push((key.clone(), vec![value.clone()])),
            }
        }
    }
    axes.retain(|(_, values)| values.len() > 1);
    axes.sort_by_key(|(_, values)| std::cmp::Reverse(values.len()));
    axes
}

fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Two axes with the most values across and down; a map for each combination of the others.
fn heat_maps(results: &Results) -> String {
    let cells: Vec<&Cell> = results.cells.iter().filter(|cell| cell.ramp.is_none()).collect();
    let axes = axes(&cells);
    let combinations: usize = axes.iter().map(|(_, values)| values.len()).product();
    // A sweep has each combination; a list of loads by letter has few.
    if axes.len() < 2 || cells.len() < combinations {
        return String::new();
    }
    let panes = METRICS.each_ref().map(|metric| (metric.name, heat_pane(metric, &axes, &cells)));
    format!(
        "<section>\n<h2>Over the sweep</h2>\n<p>The first broker; darker is worse, the best is framed.</p>\n{}</section>\n",
        tabs(&panes)
    )
}

fn heat_pane(metric: &Metric, axes: &[(String, Vec<Value>)], cells: &[&Cell]) -> String {
    let value = |cell: &Cell| cell.contenders.first()?.spread(metric.of).map(|spread| spread.median);
    let values: Vec<f64> = cells.iter().filter_map(|cell| value(cell)).collect();
    let heat = Heat::over(&values, metric.is_more_better);
    let (across, down, others) = (&axes[0], &axes[1], &axes[2..]);
    let mut maps = BTreeMap::<String, Vec<(&Cell, Value)>>::new();
    for cell in cells {
        let workload = serde_json::to_value(&cell.workload).unwrap_or_default();
        let of = |(key, _): &(String, Vec<Value>)| format!("{key} {}", value_text(&workload[key]));
        let title = others.iter().map(of).collect::<Vec<_>>().join(", ");
        maps.entry(title).or_default().push((cell, workload));
    }
    let mut out = String::new();
    for (title, cells) in maps {
        let caption =
            if title.is_empty() { metric.name.to_owned() } else { format!("{}: {title}", metric.name) };
        out += &format!(
            "<table class=\"heat\"><caption>{}</caption><thead><tr><th>{}</th>",
            escape(&caption),
            escape(&down.0)
        );
        for value in &across.1 {
            out += &format!("<th><small>{}</small>{}</th>", escape(&across.0), escape(&value_text(value)));
        }
        out += "</tr></thead><tbody>\n";
        for row in &down.1 {
            out += &format!("<tr><th>{}</th>", escape(&value_text(row)));
            for column in &across.1 {
                let is_it = |(_, workload): &&(&Cell, Value)| {
                    workload[&across.0] == *column && workload[&down.0] == *row
                };
                out += &match cells.iter().find(is_it).and_then(|(cell, _)| value(cell)) {
                    None => void_cell(1),
                    Some(value) => {
                        let frame = if heat.is_best(value) { Frame::Best } else { Frame::None };
                        heat.cell(value, 1, frame, &(metric.text)(value))
                    }
                };
            }
            out += "</tr>\n";
        }
        out += "</tbody></table>\n";
    }
    out
}

/// Where the broker says that the time went.
fn stages(results: &Results) -> String {
    let mut body = String::new();
    for cell in &results.cells {
        for contended in &cell.contenders {
            for stage in contended.stages.iter().filter(|stage| stage.count > 0) {
                let times = [stage.p50_us, stage.p99_us, stage.p999_us].map(time_text);
                let who =
                    [name(results, cell), contended.name.clone(), stage.api.clone(), stage.class.clone()];
                let cells =
                    who.into_iter().chain([stage.stage.clone(), count_text(stage.count as f64)]).chain(times);
                body += &row(cells, "td");
            }
        }
    }
    if body.is_empty() {
        return body;
    }
    let head = ["load", "broker", "API", "class", "stage", "count", "p50", "p99", "p99.9"].map(str::to_owned);
    format!(
        "<section>\n<h2>The broker's own times</h2>\n<p>By stage, over its last 10 s.</p>\n<div class=\"scroll\"><table class=\"all\">\
         <thead>{}</thead><tbody>\n{body}</tbody></table></div>\n</section>\n",
        row(head, "th")
    )
}

fn again(results: &Results) -> String {
    let commands: Vec<String> = results.environment.commands.iter().map(|command| escape(command)).collect();
    let kib =
        results.cells.iter().flat_map(|cell| &cell.contenders).find_map(|contended| contended.spread(KIB));
    let disk = match kib {
        Some(_) => {
            "Flushes, writes and bytes are those of the disks below the broker's files, whoever caused them."
        }
        None => "No disk counters were to be had.",
    };
    format!(
        "<section>\n<h2>Measure it again</h2>\n<pre>{}</pre>\n<p>{disk}</p>\n</section>\n",
        commands.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Environment, Percentiles, Round};
    use crate::workload::{Durability, Workload};

    fn results() -> Results {
        let mut cells = Vec::new();
        for durability in [Durability::Os, Durability::Fsync] {
            for partitions in [1, 16, 256] {
                for connections in [1, 8, 32] {
                    let workload = Workload { durability, partitions, connections, ..Workload::default() };
                    let p50_us = f64::from(partitions) + connections as f64;
                    let latency =
                        Percentiles { count: 9, p50_us, p99_us: p50_us * 3.0, ..Percentiles::default() };
                    let curve = vec![(2.0, p50_us), (4.0, p50_us * 2.0)];
                    let round = Round { per_second: 1e5 / p50_us, latency, curve, ..Round::default() };
                    let named = |name: &str| Contended {
                        name: name.to_owned(),
                        rounds: vec![round.clone(), round.clone()],
                        ..Contended::default()
                    };
                    let contenders = vec![named("corelog"), named("<null>")];
                    cells.push(Cell::new(String::new(), workload, contenders, None));
                }
            }
        }
        let environment =
            Environment { commands: vec!["corelog bench <x>".to_owned()], ..Environment::default() };
        Results { environment, cells }
    }

    #[test]
    fn the_page_is_whole_and_needs_no_network() {
        let page = text(&results());
        for word in
            ["Latency by percentile", "Latency against throughput", "Over the sweep", "Ratios", "p99.99"]
        {
            assert!(page.contains(word), "{word}");
        }
        assert!(!page.contains("http") && !page.contains("<script") && !page.contains("NaN"));
        assert!(page.contains("&lt;null&gt;") && !page.contains("<null>") && !page.contains("<x>"));
        for tag in ["section", "table", "tr", "td", "th", "figure", "svg", "div", "ul", "g"] {
            let open = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn a_sweep_has_a_map_for_each_metric_and_value_of_the_third_axis() {
        let page = text(&results());
        assert_eq!(page.matches("<table class=\"heat\">").count(), METRICS.len() * 2);
        // One load has no axes.
        let mut one = results();
        one.cells.truncate(1);
        assert!(!text(&one).contains("class=\"heat\"") && text(&one).contains("Latency by percentile"));
    }
}
