//! Draws a picture of a broker; 80 columns and 24 lines suffice, more show more rows.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::picture::{BusyRow, ClassRow, Picture, ShardRow};

/// Points of a sparkline: two of the widest terminals' halves.
const POINTS_MAX: usize = 200;

const HEADING: Style = Style::new().add_modifier(Modifier::REVERSED);
const QUIET: Style = Style::new().fg(Color::DarkGray);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// What is on the terminal, and what was: the points of the sparklines.
pub struct Screen {
    address: String,
    picture: Picture,
    failure: Option<String>,
    pub is_paused: bool,
    produce_p99_us: VecDeque<u64>,
    fetch_p99_us: VecDeque<u64>,
}

impl Screen {
    pub fn new(address: String) -> Screen {
        Screen {
            address,
            picture: Picture::default(),
            failure: None,
            is_paused: false,
            produce_p99_us: VecDeque::new(),
            fetch_p99_us: VecDeque::new(),
        }
    }

    pub fn show(&mut self, picture: Picture) {
        for (points, api) in [(&mut self.produce_p99_us, "produce"), (&mut self.fetch_p99_us, "fetch")] {
            if points.len() == POINTS_MAX {
                points.pop_front();
            }
            points.push_back(picture.p99_us(api).round() as u64);
        }
        self.picture = picture;
        self.failure = None;
    }

    /// The broker did not answer: the last picture stays, with the cause above it.
    pub fn fail(&mut self, why: String) {
        self.failure = Some(why);
    }

    pub fn draw(&self, frame: &mut Frame<'_>) {
        let picture = &self.picture;
        let area = frame.area();
        // Whatever is over goes to the partitions and clients; they get five rows at least.
        let fixed = 2 + 3 + 1 + 1 + 1;
        let rows = usize::from(area.height).saturating_sub(fixed + 6);
        let class_lines = (picture.classes.len() * 2).clamp(2, rows.saturating_sub(2).max(2));
        let shard_lines = picture.shards.len().clamp(1, rows.saturating_sub(class_lines + 1).max(1));
        let lines = |count: usize| Constraint::Length(u16::try_from(count).unwrap_or(u16::MAX));
        let [head, totals, sparks, shards, classes, busy, keys] = Layout::vertical([
            lines(1),
            lines(1),
            lines(3),
            lines(1 + shard_lines),
            lines(1 + class_lines),
            Constraint::Fill(1),
            lines(1),
        ])
        .areas(area);
        frame.render_widget(Paragraph::new(self.head()), head);
        frame.render_widget(Paragraph::new(totals_line(picture)), totals);
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(2).areas(sparks);
        draw_sparkline(frame, left, "produce p99", &self.produce_p99_us);
        draw_sparkline(frame, right, "fetch p99", &self.fetch_p99_us);
        draw_rows(
            frame,
            shards,
            &shard_heading(),
            picture.shards.iter().map(shard_line).map(Line::raw).collect(),
        );
        let lines = picture.classes.iter().flat_map(class_lines_of).collect();
        draw_rows(frame, classes, &class_heading(), lines);
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(2).areas(busy);
        draw_busy(frame, left, "PARTITION", &picture.partitions);
        draw_busy(frame, right, "CLIENT", &picture.clients);
        let paused = if self.is_paused { "  paused" } else { "" };
        frame.render_widget(Line::styled(format!("q quit  p pause{paused}"), QUIET), keys);
    }

    fn head(&self) -> Line<'_> {
        let Picture { version, health, uptime_seconds, .. } = &self.picture;
        match &self.failure {
            Some(why) => Line::styled(why.as_str(), BAD),
            None => Line::from(vec![
                Span::styled(format!("corelog {version}"), Modifier::BOLD),
                Span::raw(format!("  {}  ", self.address)),
                Span::styled(health.as_str(), if health == "ready" { Style::new() } else { BAD }),
                Span::raw(format!("  up {}", span(*uptime_seconds))),
            ]),
        }
    }
}

fn totals_line(picture: &Picture) -> String {
    let total = |of: fn(&ShardRow) -> f64| short(picture.total(of));
    format!(
        "in {}B/s  out {}B/s  requests {}/s  records {}/s  connections {}",
        total(|shard| shard.in_bytes),
        total(|shard| shard.out_bytes),
        total(|shard| shard.requests),
        total(|shard| shard.records),
        picture.shards.iter().map(|shard| shard.connections).sum::<u64>(),
    )
}

fn draw_sparkline(frame: &mut Frame<'_>, area: Rect, title: &str, points: &VecDeque<u64>) {
    let [title_area, graph] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    // The newest on the right, as many as there is room for.
    let shown: Vec<u64> =
        points.iter().skip(points.len().saturating_sub(usize::from(graph.width))).copied().collect();
    let (now, most) =
        (shown.last().copied().unwrap_or(0) as f64, shown.iter().copied().max().unwrap_or(0) as f64);
    let text = format!("{title} {}  highest {}", time(now), time(most));
    frame.render_widget(Line::styled(text, Modifier::BOLD), title_area);
    frame.render_widget(Sparkline::default().data(shown).style(Color::Cyan), graph);
}

fn shard_heading() -> String {
    format!(
        "{:>5} {:>5} {:>7} {:>7} {:>7} {:>6} {:>8} {:>8} {:>7} {:>5} {:>4}",
        "SHARD", "BUSY", "REQ/S", "IN/S", "OUT/S", "CONN", "WAITING", "INFLIGHT", "OLDEST", "MAIL", "MEM"
    )
}

fn shard_line(row: &ShardRow) -> String {
    format!(
        "{:>5} {:>4.0}% {:>7} {:>7} {:>7} {:>6} {:>8} {:>8} {:>5}ms {:>5} {:>4}",
        row.shard,
        row.busy_percent,
        short(row.requests),
        short(row.in_bytes),
        short(row.out_bytes),
        row.connections,
        row.pending,
        row.in_flight,
        row.oldest_ms,
        row.mailbox_p99,
        row.memory_percent.map_or("-".to_owned(), |percent| format!("{percent:.0}%")),
    )
}

fn class_heading() -> String {
    let what = "LATENCY, AND P99 BY STAGE";
    format!("{what:<25} {:>7} {:>9} {:>9} {:>9} {:>9}", "REQ/S", "P50", "P99", "P99.9", "MAX")
}

/// One line for the whole, one for its stages: those that take no time are left out, so that the line fits.
fn class_lines_of(row: &ClassRow) -> [Line<'static>; 2] {
    let is_shown = |(_, us): &&(&str, f64)| *us > 0.0;
    let stages = row.stages_p99_us.iter().filter(is_shown);
    let stages: Vec<String> = stages.map(|(stage, us)| format!("{stage} {}", time(*us))).collect();
    [
        Line::raw(format!(
            "{:<25} {:>7} {:>9} {:>9} {:>9} {:>9}",
            format!("{} {}", row.api, row.kind),
            short(row.requests),
            time(row.total.p50_us),
            time(row.total.p99_us),
            time(row.total.p999_us),
            time(row.total.max_us),
        )),
        Line::styled(format!(" {}", stages.join(" ")), QUIET),
    ]
}

fn draw_busy(frame: &mut Frame<'_>, area: Rect, what: &str, rows: &[BusyRow]) {
    // Three columns of 8, the rest is the name's.
    let width = usize::from(area.width).saturating_sub(24);
    let heading = format!("{what:<width$}{:>8}{:>8}{:>8}", "REQ/S", "IN/S", "OUT/S");
    let line = |row: &BusyRow| {
        let name: String = if row.name.chars().count() < width {
            row.name.clone()
        } else {
            // The end tells partitions apart.
            let skipped = row.name.chars().count() + 2 - width.max(2);
            format!("~{}", row.name.chars().skip(skipped).collect::<String>())
        };
        format!(
            "{name:<width$}{:>8}{:>8}{:>8}",
            short(row.requests),
            short(row.in_bytes),
            short(row.out_bytes)
        )
    };
    draw_rows(frame, area, &heading, rows.iter().map(line).map(Line::raw).collect());
}

/// A heading and as many rows as fit; the last one says how many do not.
fn draw_rows(frame: &mut Frame<'_>, area: Rect, heading: &str, rows: Vec<Line<'_>>) {
    let room = usize::from(area.height).saturating_sub(1);
    let width = usize::from(area.width);
    let mut lines = vec![Line::styled(format!("{heading:<width$}"), HEADING)];
    let hidden = if rows.len() > room { rows.len() + 1 - room.max(1) } else { 0 };
    let shown = rows.len() - hidden;
    lines.extend(rows.into_iter().take(shown));
    if hidden > 0 {
        lines.push(Line::styled(format!("{hidden} more"), QUIET));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The picture as lines, for `--once`.
pub fn text(address: String, picture: &Picture) -> String {
    let mut screen = Screen::new(address);
    screen.show(picture.clone());
    let rows = 14 + picture.shards.len() + 2 * picture.classes.len() + 16;
    let size = (100, u16::try_from(rows).unwrap_or(u16::MAX));
    let Ok(mut terminal) = ratatui::Terminal::new(TestBackend::new(size.0, size.1));
    let Ok(_) = terminal.draw(|frame| screen.draw(frame));
    lines_of(terminal.backend())
}

fn lines_of(backend: &TestBackend) -> String {
    let buffer = backend.buffer();
    let width = usize::from(buffer.area.width);
    let mut text = String::new();
    for row in buffer.content().chunks(width) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Three digits and a letter: 999, 1.2k, 35k, 1.2M.
fn short(number: f64) -> String {
    let (mut number, mut unit) = (number, 0);
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    while number >= 999.5 && unit + 1 < UNITS.len() {
        number /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && number < 9.95);
    format!("{number:.digits$}{}", UNITS[unit])
}

/// A time of so many microseconds, three digits at most.
fn time(us: f64) -> String {
    match us {
        us if us < 9.95 => format!("{us:.1}us"),
        us if us < 999.5 => format!("{us:.0}us"),
        us if us < 9_950.0 => format!("{:.1}ms", us / 1e3),
        us if us < 999_500.0 => format!("{:.0}ms", us / 1e3),
        us => format!("{:.1}s", us / 1e6),
    }
}

fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::tests::picture;
    use super::*;

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        lines_of(terminal.backend())
    }

    fn check_lines(text: &str, expected: &[&str]) {
        for line in expected {
            assert!(text.lines().any(|found| found == *line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn eighty_columns_and_twenty_four_lines_show_everything() {
        let mut screen = Screen::new("127.0.0.1:9644".to_owned());
        for _ in 0..50 {
            screen.show(picture());
        }
        let text = drawn(&screen, 80, 24);
        assert_eq!(text.lines().count(), 24);
        check_lines(
            &text,
            &[
                "corelog 0.1.0  127.0.0.1:9644  ready  up 1m42s",
                "in 4.0MB/s  out 400kB/s  requests 6.0k/s  records 40k/s  connections 32",
                "produce p99 70us  highest 70us           fetch p99 60us  highest 60us",
                "SHARD  BUSY   REQ/S    IN/S   OUT/S   CONN  WAITING INFLIGHT  OLDEST  MAIL  MEM",
                "    0   25%    2.0k    2.0M    200k     16        5       20     2ms    12  75%",
                "LATENCY, AND P99 BY STAGE   REQ/S       P50       P99     P99.9       MAX",
                "produce fsync/journal         500      35us      70us     140us     280us",
                " decoded 10us mesh 20us appended 30us written 40us flushed 50us replied 60us",
                "PARTITION         REQ/S    IN/S   OUT/S  CLIENT            REQ/S    IN/S   OUT/S",
                "orders-3            100    3.0M    6.0M  app@10.0.0.7        100    5.0M     10M",
                "q quit  p pause",
            ],
        );
        assert!(text.lines().any(|line| line.starts_with("~") && line.contains("its-column-3")), "{text}");
        assert!(text.contains('█'), "the sparkline is drawn\n{text}");
    }

    #[test]
    fn what_has_no_room_is_counted_and_nothing_breaks_when_it_is_small() {
        let mut screen = Screen::new("x".to_owned());
        let mut many = picture();
        many.shards = (0..64).map(|shard| ShardRow { shard, ..ShardRow::default() }).collect();
        screen.show(many);
        let text = drawn(&screen, 80, 24);
        assert!(text.contains(" more\n"), "{text}");
        check_lines(&text, &["q quit  p pause"]);
        for (width, height) in [(1, 1), (20, 5), (40, 10), (300, 100)] {
            drawn(&screen, width, height);
        }
    }

    #[test]
    fn a_broker_that_does_not_answer_is_told_of_above_the_last_picture() {
        let mut screen = Screen::new("x".to_owned());
        screen.show(picture());
        screen.fail("connect to the admin server at x: refused".to_owned());
        let text = drawn(&screen, 80, 24);
        assert!(text.starts_with("connect to the admin server at x: refused\n"), "{text}");
        assert!(text.contains("orders-3"), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        let check = |number: f64, expected: &str| assert_eq!(short(number), expected);
        check(0.0, "0");
        check(999.4, "999");
        check(999.6, "1.0k");
        check(12_345.0, "12k");
        check(1.26e6, "1.3M");
        let check = |us: f64, expected: &str| assert_eq!(time(us), expected);
        check(0.04, "0.0us");
        check(123.4, "123us");
        check(1234.0, "1.2ms");
        check(45_678.0, "46ms");
        check(2.5e6, "2.5s");
        let check = |seconds: f64, expected: &str| assert_eq!(span(seconds), expected);
        check(59.9, "0m59s");
        check(3_720.0, "1h02m");
        check(200_000.0, "2d07h");
    }
}
