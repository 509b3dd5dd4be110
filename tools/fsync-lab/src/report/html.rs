//! One page that needs no network: the recommendation, a heat map over strategies, plots, and every figure.

use std::collections::BTreeSet;

use crate::figures::{Figures, Measured};
use crate::plan::{
    BASE_GROUP_BYTES, BUSY_DEPTH, BYPASS, Cell, DIRECT, DIRECT_DSYNC, KAFKA_WAY, KEY_STRATEGIES,
    LADDER_FILES, Load,
};
use crate::recommend::UNKNOWABLE;
use crate::strategy::{CACHES, Cache, SPACES, SYNCS, Space, Strategy, Sync};
use crate::text::{bytes_text, count_text, three_digits, time_text};

use corelog_measure::page::{self, Frame, Heat, escape, legend, page, tabs, void_cell};
use corelog_measure::plot::{Plot, Point, Series, Unit};

use super::Report;

pub fn text(report: &Report) -> String {
    let mut body = String::new();
    body += &header(report);
    body += &recommendation(report);
    body += &heat_map(report);
    body += &load_plots(report);
    body += &group_plots(report);
    body += &depth_table(report);
    body += &limits(report);
    body += &all_figures(report);
    page(&format!("corelog fsync-lab: {}", report.host.disk_text()), &body)
}

fn header(report: &Report) -> String {
    let host = &report.host;
    let facts = [
        ("disk", host.disk_text()),
        ("file system", format!("{} at {}", host.file_system, host.mount_point)),
        ("host", format!("{} CPUs, {}", host.cpus, host.cpu_model)),
        ("kernel", host.kernel.clone()),
        ("measured", format!("{}, {} set, {:.0} s", host.when_text(), report.plan.name, report.seconds)),
    ];
    page::header("corelog fsync-lab", "What a durable commit costs here", &facts)
}

fn recommendation(report: &Report) -> String {
    let mut out = String::from("<section class=\"card lead\">\n<h2>Recommendation</h2>\n");
    match &report.recommendation {
        Some(found) => {
            out += &format!("<p>{}</p>\n", escape(&found.sentences.join(" ")));
            out += &format!(
                "<pre>log.write.path = {}\njournal.bypass.bytes = {}</pre>\n",
                found.write_path.name(),
                found.bypass_bytes
            );
        }
        None => {
            out += "<p>This run did not measure what a recommendation takes; the quick set does.</p>\n";
            out += &format!("<p>{}.</p>\n", escape(&report.verdict.to_string()));
        }
    }
    out += &flush_bars(report);
    if let Some(warning) = report.crowd_text() {
        out += &format!("<p class=\"warning\">{}</p>\n", escape(&warning));
    }
    out + "</section>\n"
}

/// The time of a flush after more and more was written.
fn flush_bars(report: &Report) -> String {
    let longest = report.flush_times.iter().map(|time| time.flush_us.median).fold(0.0, f64::max);
    if longest == 0.0 {
        return String::new();
    }
    let bar = |time: &crate::flush::FlushTime| {
        format!(
            "<tr><th>{}</th><td><span class=\"bar\" style=\"width:{:.1}%\"></span><b>{}</b></td></tr>",
            bytes_text(time.overwritten_bytes),
            (time.flush_us.median / longest * 70.0).max(0.5),
            time_text(time.flush_us.median)
        )
    };
    let bars: String = report.flush_times.iter().map(bar).collect();
    format!("<table class=\"bars\"><caption>One flush after overwriting</caption>{bars}</table>\n")
}

/// A figure that the heat map shows.
struct Metric {
    name: &'static str,
    unit: &'static str,
    of: fn(&Figures) -> Option<f64>,
    text: fn(f64) -> String,
    is_more_better: bool,
}

const METRICS: [Metric; 5] = [
    Metric {
        name: "p50",
        unit: "µs",
        of: |figures| Some(figures.latency_us.p50),
        text: grouped,
        is_more_better: false,
    },
    Metric {
        name: "p99",
        unit: "µs",
        of: |figures| Some(figures.latency_us.p99),
        text: grouped,
        is_more_better: false,
    },
    Metric {
        name: "commits/s",
        unit: "a second",
        of: |figures| Some(figures.commits_per_second.median),
        text: count_text,
        is_more_better: true,
    },
    Metric {
        name: "flushes",
        unit: "device flushes per commit",
        of: |figures| figures.device.map(|device| device.flushes),
        text: |value| format!("{value:.2}"),
        is_more_better: false,
    },
    Metric {
        name: "KiB",
        unit: "written to the device per commit",
        of: |figures| figures.device.map(|device| device.kib),
        text: three_digits,
        is_more_better: false,
    },
];

/// 12,345; below 100 with a decimal where it says something.
fn grouped(value: f64) -> String {
    if value < 9.95 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn sync_label(sync: Sync) -> (&'static str, &'static str) {
    match sync {
        Sync::Syscall => ("syscalls", "pwrite, fdatasync"),
        Sync::Ring => ("ring", "write, then fdatasync"),
        Sync::Linked => ("linked", "write→fdatasync"),
        Sync::RwfDsync => ("RWF_DSYNC", "per write"),
        Sync::ODsync => ("O_DSYNC", "per file"),
        Sync::None => ("none", "not durable"),
    }
}

fn heat_map(report: &Report) -> String {
    let base = |strategy| report.results.figures(Cell::closed(strategy, 1, BASE_GROUP_BYTES, 1));
    if Strategy::all().into_iter().filter_map(base).count() < 2 {
        return String::new();
    }
    let panes = METRICS.each_ref().map(|metric| (metric.name, heat_table(metric, &base)));
    format!(
        "<section>\n<h2>Every strategy</h2>\n<p>One file, 4 KiB, one commit in flight. Darker costs more; the best durable one is framed.</p>\n{}</section>\n",
        tabs(&panes)
    )
}

fn heat_table<'a>(metric: &Metric, base: &dyn Fn(Strategy) -> Option<&'a Figures>) -> String {
    let value = |strategy| base(strategy).and_then(metric.of);
    let durable = |strategy: &Strategy| !matches!(strategy, Strategy::PerFile { sync: Sync::None, .. });
    let values: Vec<f64> = Strategy::all().into_iter().filter(durable).filter_map(value).collect();
    let heat = Heat::over(&values, metric.is_more_better);
    let cell = |strategy: Strategy, columns: usize| match value(strategy) {
        None => void_cell(columns),
        Some(value) => {
            let is_best = durable(&strategy) && heat.is_best(value);
            let frame = if is_best { Frame::Best } else { Frame::None };
            heat.cell(value, columns, frame, &(metric.text)(value))
        }
    };
    let mut out = format!(
        "<table class=\"heat\"><caption>{}: {}</caption><thead><tr><th></th><th colspan=\"3\">page cache</th><th colspan=\"3\">O_DIRECT</th></tr><tr><th></th>",
        metric.name, metric.unit
    );
    for _ in CACHES {
        out += "<th>extend</th><th>falloc</th><th>zeroed</th>";
    }
    out += "</tr></thead><tbody>";
    let order = SYNCS.into_iter().filter(|sync| *sync != Sync::None).chain([Sync::None]);
    for sync in order {
        if sync == Sync::None {
            out += &format!(
                "<tr><th>journal<small>shared, linked</small></th>{}</tr>",
                cell(Strategy::Journal, CACHES.len() * SPACES.len())
            );
        }
        let (name, more) = sync_label(sync);
        let muted = if sync == Sync::None { " class=\"muted\"" } else { "" };
        out += &format!("<tr{muted}><th>{name}<small>{more}</small></th>");
        for cache in CACHES {
            for space in SPACES {
                out += &cell(Strategy::PerFile { cache, space, sync }, 1);
            }
        }
        out += "</tr>";
    }
    out + "</tbody></table>\n"
}

/// The name of a strategy for people, and its colour: the same in all plots.
fn key(strategy: Strategy) -> (String, usize) {
    let colour = |strategy| KEY_STRATEGIES.iter().position(|key| *key == strategy);
    let name = match strategy {
        Strategy::Journal => "journal".to_owned(),
        s if s == KAFKA_WAY => "page cache, extending, fdatasync".to_owned(),
        s if s == BYPASS => "page cache, zeroed, linked fdatasync".to_owned(),
        s if s == DIRECT => "O_DIRECT, zeroed, linked fdatasync".to_owned(),
        s if s == DIRECT_DSYNC => "O_DIRECT, zeroed, RWF_DSYNC".to_owned(),
        Strategy::PerFile { cache, space, sync } => {
            let cache = if cache == Cache::Direct { "O_DIRECT" } else { "page cache" };
            let space = match space {
                Space::Extending => "extending",
                Space::Fallocated => "fallocated",
                Space::Zeroed => "zeroed",
            };
            format!("{cache}, {space}, {}", sync_label(sync).0)
        }
    };
    (name, colour(strategy).unwrap_or(KEY_STRATEGIES.len()))
}

/// Lines of those cells, a series for each strategy in the order of the key.
fn series(
    report: &Report,
    takes: &dyn Fn(&Cell) -> bool,
    point: &dyn Fn(&Cell, &Figures) -> Point,
) -> Vec<Series> {
    let strategies: BTreeSet<Strategy> = report
        .results
        .cells
        .iter()
        .map(|measured| measured.cell)
        .filter(takes)
        .map(|cell| cell.strategy)
        .collect();
    let mut all: Vec<Series> = strategies
        .into_iter()
        .map(|strategy| {
            let (name, colour) = key(strategy);
            let of_it = report.results.cells.iter().filter(|m| m.cell.strategy == strategy && takes(&m.cell));
            let seen = of_it.filter_map(|measured| Some((measured.cell, measured.outcome.as_ref().ok()?)));
            Series { name, colour, points: seen.map(|(cell, figures)| point(&cell, figures)).collect() }
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    all.sort_by_key(|series| series.colour);
    all
}

fn load_plots(report: &Report) -> String {
    let takes = |cell: &Cell| cell.load != Load::Closed;
    let of = |point: fn(&Figures) -> (f64, f64, f64)| {
        series(report, &takes, &|_, figures| {
            let (y, low, high) = point(figures);
            Point { x: figures.offered.unwrap_or(1.0), y, low, high }
        })
    };
    let p50 = of(|figures| (figures.p50_us.median, figures.p50_us.low, figures.p50_us.high));
    let p99 = of(|figures| (figures.p99_us.median, figures.p99_us.low, figures.p99_us.high));
    if p50.is_empty() {
        return String::new();
    }
    let plot = |title, series| {
        Plot {
            title,
            x_name: "commits a second",
            x_unit: Unit::Count,
            y_unit: Unit::Microseconds,
            series,
            mark: None,
        }
        .figure()
    };
    format!(
        "<section>\n<h2>Latency against load</h2>\n<p>Commits of 4 KiB over {LADDER_FILES} files, started by the clock whether or not the disk keeps up; latency counts from when each was due. Bars show the range of the runs.</p>\n{}<div class=\"plots\">\n{}{}</div>\n</section>\n",
        legend(&p50),
        plot("Median", p50),
        plot("99th percentile", p99)
    )
}

fn group_plots(report: &Report) -> String {
    let single = |cell: &Cell| {
        cell.load == Load::Closed
            && cell.files == 1
            && cell.depth == 1
            && KEY_STRATEGIES.contains(&cell.strategy)
    };
    let latency = series(report, &single, &|cell, figures| Point {
        x: cell.group_bytes as f64,
        y: figures.p50_us.median,
        low: figures.p50_us.low,
        high: figures.p50_us.high,
    });
    if latency.iter().all(|series| series.points.len() < 2) {
        return String::new();
    }
    let megabytes = |cell: &Cell, figures: &Figures| {
        let rate = |per_second: f64| per_second * cell.group_bytes as f64 / 1e6;
        Point {
            x: cell.group_bytes as f64,
            y: rate(figures.commits_per_second.median),
            low: rate(figures.commits_per_second.low),
            high: rate(figures.commits_per_second.high),
        }
    };
    let throughput = series(report, &single, &megabytes);
    let busy = |cell: &Cell| {
        let compared = Cell::closed(cell.strategy, LADDER_FILES, cell.group_bytes, BUSY_DEPTH);
        *cell == compared && [Strategy::Journal, BYPASS].contains(&cell.strategy)
    };
    let crossing = series(report, &busy, &megabytes);
    let mark = report
        .recommendation
        .as_ref()
        .map(|found| (found.bypass_bytes as f64, format!("bypass above {}", bytes_text(found.bypass_bytes))));
    let plot = |title, y_unit, series, mark| {
        Plot { title, x_name: "bytes of a record group", x_unit: Unit::Bytes, y_unit, series, mark }.figure()
    };
    format!(
        "<section>\n<h2>Cost against group size</h2>\n{}<div class=\"plots\">\n{}{}{}{BYPASS_NOTE}</div>\n</section>\n",
        legend(&latency),
        plot("Median latency, one in flight", Unit::Microseconds, latency, None),
        plot("MB/s, one in flight", Unit::Megabytes, throughput, None),
        plot(
            "MB/s over 16 files, 16 in flight: where the journal stops to pay",
            Unit::Megabytes,
            crossing,
            mark
        )
    )
}

const BYPASS_NOTE: &str = "<figure class=\"note\"><figcaption>journal.bypass.bytes</figcaption><p>The journal writes every \
    record twice: once for all partitions together, flushed at once, and once into the partition\u{2019}s file, flushed later \
    together with others. That pays for small groups, which share one flush. A large group is better written once, straight \
    into pre-zeroed space of its partition\u{2019}s file with an fdatasync of its own.</p><p>Where the two lines cross is where \
    the broker should change from one to the other.</p></figure>\n";

/// Commits a second over files and depth, for the key strategies.
fn depth_table(report: &Report) -> String {
    let takes = |cell: &&Cell| {
        cell.load == Load::Closed
            && cell.group_bytes == BASE_GROUP_BYTES
            && KEY_STRATEGIES.contains(&cell.strategy)
    };
    let cells = report.results.cells.iter().map(|measured| &measured.cell).filter(takes);
    let columns: BTreeSet<(u32, u32)> = cells.map(|cell| (cell.files, cell.depth)).collect();
    if columns.len() < 2 {
        return String::new();
    }
    let figures = |strategy, (files, depth)| {
        report.results.figures(Cell::closed(strategy, files, BASE_GROUP_BYTES, depth))
    };
    let all: Vec<f64> = KEY_STRATEGIES
        .iter()
        .flat_map(|strategy| columns.iter().filter_map(|at| figures(*strategy, *at)))
        .map(|figures| figures.commits_per_second.median)
        .collect();
    let heat = Heat::over(&all, true);
    let mut out = String::from(
        "<section>\n<h2>Files and commits in flight</h2>\n<p>Durable commits of 4 KiB a second, and below p99. Lighter is more.</p>\n<div class=\"scroll\"><table class=\"heat wide\"><thead><tr><th>files<br>in flight</th>",
    );
    for (files, depth) in &columns {
        out += &format!("<th>{files}<br>{depth}</th>");
    }
    out += "</tr></thead><tbody>";
    for strategy in KEY_STRATEGIES {
        let (name, colour) = key(strategy);
        out += &format!("<tr><th><span class=\"dot s{colour}\"></span>{}</th>", escape(&name));
        for at in &columns {
            out += &figures(strategy, *at).map_or_else(
                || void_cell(1),
                |figures| {
                    let rate = figures.commits_per_second.median;
                    let p99 = time_text(figures.latency_us.p99);
                    heat.cell(rate, 1, Frame::None, &format!("{}<small>{p99}</small>", count_text(rate)))
                },
            );
        }
        out += "</tr>";
    }
    out + "</tbody></table></div>\n</section>\n"
}

fn limits(report: &Report) -> String {
    let mut out = String::from("<section>\n<h2>What this cannot know</h2>\n<ul>\n");
    for line in UNKNOWABLE {
        out += &format!("<li>{}</li>\n", escape(line));
    }
    out += "</ul>\n";
    let mut notes: Vec<String> = report
        .results
        .skipped()
        .iter()
        .map(|(reason, cells)| format!("{} cells skipped: {reason}", cells.len()))
        .collect();
    if let Err(error) = &report.host.devices {
        notes.push(format!("No writes, flushes and KiB per commit: {error}"));
    }
    for fio in &report.fio {
        notes.push(format!(
            "fio, asked the same of the same file ({}) in turns: {} where this tool finds {} ({:+.1} %)",
            fio.cache.name(),
            time_text(fio.theirs.sum()),
            time_text(fio.ours.sum()),
            fio.difference_percent()
        ));
    }
    if !notes.is_empty() {
        let items: String = notes.iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
        out += &format!("<h3>This run</h3>\n<ul>\n{items}</ul>\n");
    }
    out + "</section>\n"
}

fn all_figures(report: &Report) -> String {
    let mut out = String::from(
        "<section>\n<details>\n<summary>All figures</summary>\n<div class=\"scroll\"><table class=\"all\"><thead><tr>\
         <th>strategy</th><th>group</th><th>files</th><th>depth</th><th>commits/s</th><th>±%</th><th>MB/s</th><th>p50</th>\
         <th>p90</th><th>p99</th><th>p99.9</th><th>max</th><th>writes</th><th>flushes</th><th>KiB</th><th>CPU µs</th></tr></thead><tbody>\n",
    );
    for measured in &report.results.cells {
        out += &figures_row(measured);
    }
    out + "</tbody></table></div>\n<p>Writes, flushes, KiB and CPU are per commit; times in µs are medians over the runs, max is the worst of all; ± is half the range of the runs.</p>\n</details>\n</section>\n"
}

fn figures_row(measured: &Measured) -> String {
    let cell = measured.cell;
    let load = match cell.load {
        Load::Closed => String::new(),
        Load::Open { percent } => format!(" <small>by the clock, {percent} %</small>"),
    };
    let head = format!(
        "<tr><th>{}{load}</th><td>{}</td><td>{}</td><td>{}</td>",
        escape(&cell.strategy.to_string()),
        bytes_text(cell.group_bytes),
        cell.files,
        cell.depth
    );
    let figures = match &measured.outcome {
        Err(reason) => {
            return format!("{head}<td colspan=\"12\" class=\"void\">{}</td></tr>\n", escape(reason));
        }
        Ok(figures) => figures,
    };
    let latency = figures.latency_us;
    let device = figures.device.map_or_else(
        || "<td>?</td><td>?</td><td>?</td>".to_owned(),
        |device| {
            let kib = three_digits(device.kib);
            format!("<td>{:.2}</td><td>{:.2}</td><td>{kib}</td>", device.writes, device.flushes)
        },
    );
    let rate = figures.commits_per_second;
    format!(
        "{head}<td>{}</td><td>{:.0}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>{device}<td>{}</td></tr>\n",
        count_text(rate.median),
        rate.percent(),
        three_digits(figures.megabytes_per_second),
        grouped(latency.p50),
        grouped(latency.p90),
        grouped(latency.p99),
        grouped(latency.p999),
        grouped(latency.max),
        three_digits(figures.cpu_us),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    /// Opening and closing tags match; returns how often a tag was opened.
    fn check_nesting(page: &str, counted: &str) -> usize {
        let mut open = Vec::new();
        let mut count = 0;
        for part in page.split('<').skip(1) {
            let (tag, rest) = part
                .split_at(part.find(|c: char| !c.is_ascii_alphanumeric() && c != '/' && c != '!').unwrap());
            let is_closed = rest.split('>').next().unwrap().ends_with('/');
            match tag {
                "!doctype" | "meta" | "input" | "br" => {}
                tag if tag.starts_with('/') => assert_eq!(open.pop(), Some(&tag[1..]), "{part}"),
                tag => {
                    count += usize::from(tag == counted);
                    if !is_closed {
                        open.push(tag);
                    }
                }
            }
        }
        assert!(open.is_empty(), "{open:?}");
        count
    }

    #[test]
    fn text_cannot_become_markup() {
        let page = text(&sample::report(false));
        assert!(page.contains("&lt;b&gt;CPU&lt;/b&gt;") && !page.contains("<b>CPU"));
        assert!(page.contains("no &lt;O_DIRECT&gt; &amp; no journal"));
    }

    #[test]
    fn the_page_is_whole_and_needs_no_network() {
        for is_direct in [true, false] {
            let page = text(&sample::report(is_direct));
            check_nesting(&page, "svg");
            assert!(!page.contains("http") && !page.contains("<script") && !page.contains("url("));
            assert!(page.contains("name=\"viewport\"") && !page.contains("NaN"));
        }
        let page = text(&sample::report(true));
        assert_eq!(check_nesting(&page, "svg"), 5, "two of load, three of group size");
        // Three strategies twice, five twice, journal and bypass.
        assert_eq!(check_nesting(&page, "polyline"), 3 * 2 + 5 * 2 + 2);
        assert_eq!(page.matches("class=\"pane").count(), METRICS.len());
        assert!(page.contains("Others used 1.5 of 2 CPUs"));
    }

    #[test]
    fn thousands_are_grouped() {
        for (value, text) in [(7.44, "7.4"), (45.4, "45"), (1234.5, "1,234"), (1_234_567.0, "1,234,567")] {
            assert_eq!(grouped(value), text);
        }
    }
}
